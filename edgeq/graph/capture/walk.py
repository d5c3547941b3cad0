"""torch.export -> Graph: a float network as edgeq's own plain data.

An exported program whose in-place calls write what nobody else reads is taken as it is; any other is made functional
first (no in-place calls, so no aliases to reason about), which takes twice as long as to export it. Each ATen call goes
through the rules of `aten`. Batch norm stays: synthesis reads its statistics. Nothing is guessed: a call nobody knows
is an error that names it, where it stands and what would be supported.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind

from edgeq.errors import ConfigError, EdgeqError, UnsupportedError
from edgeq.graph.capture.aten import ANYWHERE, ATEN, Call, Constant, Rule, Value
from edgeq.graph.capture.check import confirm
from edgeq.graph.capture.constants import Folding, is_random
from edgeq.graph.capture.ending import cut_normalization
from edgeq.graph.capture.naming import Draft, final_names
from edgeq.graph.capture.shape_only import shape_only_as_constants
from edgeq.graph.capture.suggestions import hint_for
from edgeq.graph.capture.torch_export import check_program, export, functionalize, packet, stays, writes_alone
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Op, Reshape, Shape

__all__ = ["capture", "capture_program", "unsupported_calls"]

OPEN = -1
"""Stands for a size that depends on values."""


def capture(module: nn.Module, input_shape: tuple[int, ...], name: str, *, angles: bool = False) -> Graph:
    """The network as a graph, traced in eval mode at batch 1.

    `input_shape` is one sample's, e.g. ``(3, 224, 224)``; ``(1, 3, 224, 224)`` means the same. Raises `ConfigError`
    when the network does not run on that shape, `UnsupportedError` when it cannot be traced, holds calls edgeq does not
    know, or does not answer twice alike. With `angles`, only the direction of the output counts, and an L2
    normalisation at its end is left out.
    """
    program = export(module, input_shape, name)
    cut = angles and cut_normalization(program)
    capturing = _capture(program, name)
    with _report_errors(name):
        graph = capturing.graph()
        confirm(module, graph, capturing.constant_outputs, angles=cut)
    return graph


def capture_program(program: ExportedProgram, name: str, *, angles: bool = False) -> Graph:
    """Capture an exported program, such as a loaded ``.pt2``; it must take one image with a batch of 1 or any.

    Outputs that do not depend on the image are left out. `angles` as for `capture`.
    """
    with _report_errors(name):
        if angles:
            cut_normalization(program)
    capturing = _capture(program, name)
    with _report_errors(name):
        return capturing.graph()


def _capture(program: ExportedProgram, name: str) -> _Capture:
    """A walk that refused nothing. Raises the first refusal."""
    with _report_errors(name):
        capturing = _walk_program(check_program(program, name), name)
        errors = capturing.errors
        if errors:
            first = errors[0]
            more = f"{first.hint}; {len(errors) - 1} more unsupported, `edgeq build --plan` lists them"
            hint = more if errors[1:] else first.hint
            raise UnsupportedError(first.what, where=first.where, why=first.why, hint=hint) from first.__cause__
        return capturing


def unsupported_calls(
    network: nn.Module | ExportedProgram,
    input_shape: tuple[int, ...] = (),
    name: str = "network",
    *,
    angles: bool = False,
) -> list[UnsupportedError]:
    """Every call `capture` would refuse, in order, instead of the first; empty when the network can be captured.

    Still raises for what stops before the first call: a wrong input shape, a network that cannot be traced.
    """
    program = network if isinstance(network, ExportedProgram) else export(network, input_shape, name)
    with _report_errors(name):
        if angles:
            cut_normalization(program)
        return _walk_program(check_program(program, name), name).errors


@contextlib.contextmanager
def _report_errors(name: str) -> Iterator[None]:
    """Make an error of edgeq's own of whatever else goes wrong."""
    try:
        yield
    except EdgeqError:
        raise
    except Exception as error:
        raise _internal("the network", name, error) from error


def _internal(what: object, where: str, error: Exception) -> UnsupportedError:
    line = " ".join(str(error).split())[:200]
    return UnsupportedError(
        f"internal error while reading {what}",
        where=where,
        why=f"{type(error).__name__}: {line}",
        hint="this is a bug in edgeq, please report it",
    )


def _walk_program(program: ExportedProgram, name: str) -> _Capture:
    """Walk over the program as it is where that is safe and gives what its functional form would, else over that."""
    direct = _Capture(program, name) if writes_alone(program) else None
    if direct is not None and direct.final:
        return direct
    try:
        return _Capture(functionalize(program, name), name)
    except UnsupportedError:
        if direct is None:
            raise
        return direct


class _Capture:
    """One walk over an exported program: drafts of nodes, the constants they use, and the calls nobody knows."""

    def __init__(self, program: ExportedProgram, name: str) -> None:
        self._name = name
        self._drafts: list[Draft] = []
        self._constants: dict[str, Tensor] = {}
        self._values: dict[torch.fx.Node, Any] = {}
        self._node: torch.fx.Node
        self._failed: set[Any] = set()
        self._moved: set[torch.fx.Node] = set()
        self._known = frozenset(ATEN)
        self._inputs: dict[str, Shape] = {}
        self.errors: list[UnsupportedError] = []
        self._refused: list[torch.fx.Node] = []
        self._outputs: list[str] = []
        self.constant_outputs: set[int] = set()
        weights = sum(t.numel() * t.element_size() for t in program.state_dict.values())
        self._evaluated = Folding(weights)
        with torch.no_grad():
            self._walk(program)

    @property
    def final(self) -> bool:
        """Whether a walk over the functional program would find no less: it holds every refused call unchanged."""
        return len(self._refused) == len(self.errors) and all(stays(node) for node in self._refused)

    def graph(self) -> Graph:
        names = final_names(self._drafts, taken=[*self._inputs, *self._constants])
        nodes = tuple(Node(names[d.key], d.op, tuple(names.get(key, key) for key in d.inputs)) for d in self._drafts)
        graph = Graph(
            name=self._name,
            inputs=tuple(self._inputs),
            outputs=tuple(names.get(key, key) for key in self._outputs),
            nodes=nodes,
            constants={name: _array(tensor) for name, tensor in self._constants.items()},
            input_shapes=self._inputs,
        )
        return graph.with_nodes(nodes)

    def _walk(self, program: ExportedProgram) -> None:
        specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        tensors: Mapping[str, Any] = {**program.constants, **program.state_dict}
        live = _live(program.graph)
        for node in program.graph.nodes:
            self._node = node
            if node.op == "placeholder":
                spec = specs[node.name]
                if spec.kind is InputKind.USER_INPUT:
                    (shape,) = _shapes(node.meta["val"])
                    self._inputs[node.name] = shape
                    self._values[node] = Value(node.name, shape, shape)
                else:
                    self._values[node] = Constant(str(spec.target), tensors[str(spec.target)])
            elif node.op == "call_function" and node in live:
                self._values[node] = self._call(node)
            elif node.op == "get_attr":  # the body of a higher-order call, which no rule knows
                self._values[node] = None
        self._finish(program)

    def _finish(self, program: ExportedProgram) -> None:
        values = {node.name: value for node, value in self._values.items()}
        specs = program.graph_signature.output_specs
        returned = [spec for spec in specs if spec.kind is OutputKind.USER_OUTPUT]
        for spec in specs:
            if spec.kind is OutputKind.USER_INPUT_MUTATION:
                continue  # an in-place first call; nobody sees the caller's tensor again
            if spec.kind is not OutputKind.USER_OUTPUT:
                self.errors.append(
                    UnsupportedError(
                        f"the network changes its own state ({spec.target})",
                        where=self._name,
                        hint="call model.eval() before exporting",
                    )
                )
                continue
            if isinstance(spec.arg, ConstantArgument) and spec.arg.value is None:
                continue  # nothing, where others return a second answer
            value = values.get(getattr(spec.arg, "name", ""))
            if isinstance(value, Value):
                value = self._output(value)
                self._outputs.append(value.key)
                if value.key in self._inputs:
                    self.errors.append(
                        UnsupportedError(
                            "an output is the input itself",
                            where=self._name,
                            hint="leave it out: the app has the image",
                        )
                    )
            else:
                self.constant_outputs.add(next(place for place, other in enumerate(returned) if other is spec))

        if self.constant_outputs and not self._outputs and not self.errors:
            self.errors.append(
                UnsupportedError(
                    "no output depends on the input",
                    where=self._name,
                    hint="return what is computed from the image",
                )
            )
        if not self._outputs and not self.errors:
            self.errors.append(UnsupportedError("the network returns nothing", where=self._name))

    def _output(self, value: Value) -> Value:
        """An output in the shape that torch saw, with the batch in front where torch had none."""
        shape = value.seen if value.seen[:1] == (1,) and len(value.seen) > 1 else (1, *value.seen)
        return value if value.shape == shape or not value.offset else self._emit(Reshape(shape[1:]), [value], "output")

    def _call(self, node: torch.fx.Node) -> Any:
        args: Any = torch.fx.map_arg((node.args, node.kwargs), lambda n: self._values[n])
        results = _shapes(node.meta.get("val"))
        if node.target is operator.getitem:
            source, index = args[0]
            return self._item(node, source, index)
        moved = not self._moved.isdisjoint(node.all_input_nodes)
        if moved:
            self._moved.add(node)
        try:
            return self._made(node, args, results)
        except UnsupportedError as error:
            self._failed.add(node)
            # Behind a refused call that moved the batch, no form of a known call would do: the refusal says nothing.
            if packet(node) not in self._known or not moved:
                where = _path(node) or self._name
                refusal = UnsupportedError(error.what, where=where, why=error.why, hint=error.hint)
                refusal.__cause__ = error.__cause__
                self.errors.append(refusal)
                self._refused.append(node)
            if any(shape[:1] != (1,) for shape in results):
                self._moved.add(node)
            return _stand_in(node)

    def _made(self, node: torch.fx.Node, args: Any, results: tuple[Shape, ...]) -> Any:
        """What a call gives: an activation, or several, or a constant where all it reads are constants."""
        name = packet(node)
        bound = _bind(node, args) if hasattr(node.target, "_schema") else {}
        if any(OPEN in shape for shape in results):
            raise UnsupportedError(
                f"{node.target} gives a shape that depends on values",
                hint="index by a list of numbers in place of a mask: mask.nonzero().flatten().tolist()",
            )
        if is_random(name, bound):
            raise UnsupportedError(
                f"{node.target} draws random numbers",
                why="a file gives one answer to one image",
                hint="call model.eval() before exporting, and draw what stays in __init__, as a buffer",
            )
        try:
            read = shape_only_as_constants(node, args)
            if not any(isinstance(leaf, Value) for leaf in pytree.tree_leaves(read)):
                return self._evaluate(node, read)
            rule = self._rule(node)
            output = rule(Call(str(node.target), bound, results, self._emit, name in ANYWHERE))
            output = _as_seen(output, results)
            seen = output[0].seen if isinstance(output, tuple) else output.seen
        except EdgeqError:
            raise
        except Exception as error:
            raise _internal(node.target, _path(node) or self._name, error) from error
        kind = next(t for t in pytree.tree_leaves(node.meta["val"]) if isinstance(t, Tensor)).dtype
        if not kind.is_floating_point:
            raise UnsupportedError(f"{node.target} gives {kind} values", hint="keep the network in float32")
        if seen != results[0]:
            raise UnsupportedError(
                f"{node.target} gives {list(results[0])} in torch and {list(seen)} here",
                hint="this is a bug in edgeq, please report it",
            )
        return output

    def _rule(self, node: torch.fx.Node) -> Rule:
        name = packet(node)
        try:
            return ATEN.get(name)
        except ConfigError:
            raise UnsupportedError(f"{node.target} is not supported", hint=hint_for(name, ATEN)) from None

    def _item(self, node: torch.fx.Node, source: Any, index: int) -> Any:
        """One result of a call with several; a rule may give only the first."""
        maker = node.args[0]
        if maker in self._failed:
            return _stand_in(node)
        if isinstance(source, (tuple, list)):
            return source[index]
        if index != 0 and node.users:
            target = getattr(maker, "target", maker)
            self.errors.append(
                UnsupportedError(
                    f"result {index} of {target} is not supported",
                    where=_path(node) or self._name,
                    hint="use its first result alone: where a largest value is, the app finds",
                )
            )
            return _stand_in(node)
        return source

    def _evaluate(self, node: torch.fx.Node, args: Any) -> Any:
        """A call on parameters alone gives a parameter, named after the first it was computed from."""
        names: list[str] = []

        def plain(leaf: Any) -> Any:
            if isinstance(leaf, Constant):
                names.extend([leaf.name] if leaf.name else [])
                return leaf.tensor
            return leaf

        positional, named = pytree.tree_map(plain, args)
        result = self._evaluated(node, positional, named)
        name = names[0] if names else node.name
        return pytree.tree_map(lambda r: Constant(name, r) if isinstance(r, Tensor) else r, result)

    def _emit(self, op: Op, inputs: Sequence[Value | Constant], label: str) -> Value:
        keys = [self._use(given) if isinstance(given, Constant) else given.key for given in inputs]
        shape = op.infer(
            [tuple(given.tensor.shape) if isinstance(given, Constant) else given.shape for given in inputs]
        )
        key = f"%{len(self._drafts)}"
        weights = [given.name for given in inputs if isinstance(given, Constant)]
        self._drafts.append(Draft(key, op, tuple(keys), _path(self._node), weights[0] if weights else "", label))
        return Value(key, shape, shape)

    def _use(self, constant: Constant) -> str:
        """The name under which this constant is kept; a different tensor of the same origin gets a suffix."""
        name, count = constant.name, 0
        while name in self._constants and not _same(self._constants[name], constant.tensor):
            count += 1
            name = f"{constant.name}_{count}"
        self._constants[name] = constant.tensor
        return name


def _as_seen(output: Value | tuple[Value, ...], results: tuple[Shape, ...]) -> Value | tuple[Value, ...]:
    """What a rule gave, each value with the shape that torch saw, where it is that behind dimensions of 1."""
    if isinstance(output, tuple):
        return tuple(_as_seen(one, (shape,)) for one, shape in zip(output, results, strict=False))  # type: ignore[misc]
    shape, seen = output.shape, results[0]
    front = len(shape) - len(seen)
    fits = front >= 0 and shape[front:] == seen and all(size == 1 for size in shape[:front])
    return replace(output, seen=seen) if fits else output


def _live(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """Calls that an output depends on. What has no say in the answer, such as an assertion, need not be supported."""
    (output,) = (node for node in graph.nodes if node.op == "output")
    live, left = set(), [output]
    while left:
        node = left.pop()
        if node not in live:
            live.add(node)
            left.extend(node.all_input_nodes)
    return live


def _same(left: Tensor, right: Tensor) -> bool:
    return left is right or (left.shape == right.shape and bool(torch.equal(left, right)))


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    return np.array(tensor.detach().cpu().float().contiguous().numpy(), dtype=np.float32, order="C")


def _shapes(value: Any) -> tuple[Shape, ...]:
    """Shapes of a call's results, from torch's own record of them."""
    tensors = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(tuple(_size(size) for size in t.shape) for t in tensors if isinstance(t, Tensor))


def _size(size: int | torch.SymInt) -> int:
    """The size, `OPEN` where it depends on values."""
    known = size if isinstance(size, int) else size.node.maybe_as_int()
    return OPEN if known is None else int(known)


def _stand_in(node: torch.fx.Node) -> Value:
    """What torch says comes out of a call that failed, so that the calls after it are judged too."""
    shape = (_shapes(node.meta.get("val")) or ((),))[0]
    return Value(node.name, shape, shape)


def _bind(node: torch.fx.Node, args: Any) -> dict[str, Any]:
    """Arguments by schema name, defaults filled in."""
    positional, named = args
    schema = node.target._schema  # type: ignore[union-attr]
    bound = {a.name: a.default_value if a.has_default_value() else None for a in schema.arguments}
    bound |= dict(zip([a.name for a in schema.arguments], positional, strict=False)) | named
    return {name: value for name, value in bound.items() if value is not None}


def _path(node: torch.fx.Node) -> str:
    """Path of the innermost module the call was made in, "" for the network itself."""
    stack = node.meta.get("nn_module_stack") or {}
    innermost = next(reversed(stack.values()), ("", None)) if stack else ("", None)
    return str(innermost[0]).split("@")[0]
