"""A Graph run in torch: the float network that synthesis reads, calibration observes and fake quantization perturbs.

Everything about the graph is settled when the module is built; a run is one loop over prepared steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgeq.errors import ConfigError, UnsupportedError
from edgeq.graph.ir import Graph
from edgeq.graph.ops import Op
from edgeq.graph.run.table import KERNELS, Kernel

__all__ = ["GraphModule", "Visit", "function"]

Visit = Callable[[str, Tensor], "Tensor | None"]
"""Called with each value's name and tensor; what it returns (if anything) takes the value's place."""


class GraphModule(nn.Module):
    """The graph as a module: any batch size, any memory format, differentiable in its input.

    Constants are buffers named by their path with ``/`` for ``.``, in the graph's own memory, which nobody writes to;
    with ``trainable=True`` they are parameters, copied.
    """

    def __init__(self, graph: Graph, *, trainable: bool = False) -> None:
        super().__init__()
        self.graph = graph
        for name, array in graph.constants.items():
            tensor = torch.from_numpy(np.require(array, np.float32, ("C", "W")))
            if trainable:
                self.register_parameter(_attribute(name), nn.Parameter(tensor.clone()))
            else:
                self.register_buffer(_attribute(name), tensor)
        if len(graph.inputs) != 1:
            raise UnsupportedError(f"the graph has {len(graph.inputs)} inputs", where=graph.name)
        self._steps = _plan(graph)

    def constant(self, name: str) -> Tensor:
        """The buffer or parameter holding the constant `name`."""
        tensor: Tensor = getattr(self, _attribute(name))
        return tensor

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The graph's output, or a tuple of them."""
        values = self.run(x)
        outputs = tuple(values[name] for name in self.graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def run(
        self,
        x: Tensor,
        visit: Visit | None = None,
        *,
        keep: Collection[str] = (),
        constants: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Run `x` (N, ...) and return the outputs and the values named in `keep`, by name.

        `visit` sees the input and then every node's output, in order. `constants` stand in for the module's own of the
        same name. A value is let go after its last reader, unless kept.
        """
        (entry,) = self.graph.inputs
        if x.shape[1:] != self.graph.input_shapes[entry][1:]:
            raise ConfigError(
                f"input has shape {list(x.shape)}",
                where=self.graph.name,
                hint=f"expected (N, {', '.join(map(str, self.graph.input_shapes[entry][1:]))})",
            )
        needed = {*self.graph.outputs, *keep}
        values: dict[str, Tensor] = {name: self.constant(name) for name in self.graph.constants}
        values.update(constants or {})
        batch = len(x)
        values[entry] = x if visit is None else _or(visit(entry, x), x)
        del x
        for step in self._steps:
            output = step.kernel(*[values[name] for name in step.inputs])
            if step.constant:
                output = output.expand(batch, *output.shape[1:])
            if visit is not None:
                output = _or(visit(step.name, output), output)
            values[step.name] = output
            del output
            for name in step.spent:
                if name not in needed:
                    del values[name]
        return {name: values[name] for name in values if name in needed}


def _or(replacement: Tensor | None, value: Tensor) -> Tensor:
    return value if replacement is None else replacement


def _attribute(name: str) -> str:
    return name.replace(".", "/")


@dataclass(frozen=True)
class _Step:
    name: str
    kernel: Kernel
    inputs: tuple[str, ...]
    spent: tuple[str, ...]
    constant: bool


def _plan(graph: Graph) -> list[_Step]:
    last = {name: node.name for node in graph.nodes for name in graph.activations(node)}
    unread = {node.name for node in graph.nodes} - set(last)
    steps = []
    for node in graph.nodes:
        spent = tuple(n for n in dict.fromkeys(graph.activations(node)) if last[n] == node.name)
        spent += (node.name,) if node.name in unread else ()
        steps.append(
            _Step(node.name, KERNELS.get(node.op, node.name)(node.op), node.inputs, spent, node.op.holds_constant)
        )
    return steps


def function(op: Op) -> Kernel:
    """The torch call for an op: from its inputs' tensors, parameters included, to its output."""
    return KERNELS.get(op)(op)
