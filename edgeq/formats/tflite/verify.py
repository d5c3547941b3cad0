"""Verification: every op's output of a TFLite file under reference kernels against the integer reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import ArtifactError
from edgeq.formats.exactness import Difference, Exactness, compare, gather
from edgeq.formats.tflite.layout import plan
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run

__all__ = ["verify_tflite"]

Tensors = Mapping[str, npt.NDArray[Any]]

BATCH = 8
"""How many images the reference computes at once; it bounds memory and costs no time."""


def verify_tflite(graph: IntegerGraph, data: bytes, inputs: npt.NDArray[np.float32]) -> Exactness:
    """Compare all node outputs for float inputs ``(N, C, H, W)``; `data` is what `write_tflite` made of `graph`.

    Raises `ArtifactError` if the file lacks one of the graph's values.
    """
    layout = plan(graph)
    session = LiteRTSession(data, kernels="reference", keep_all=True, channels=inputs.shape[1])
    entry = graph.quantizations[graph.inputs[0]]
    constants = {node.name for node in graph.nodes if node.op.holds_constant}
    computed = [node.name for node in graph.nodes if layout.tensor(node.name) not in constants]

    def differences() -> Iterator[tuple[str, Difference]]:
        for start in range(0, len(inputs), BATCH):
            batch = np.asarray(inputs[start : start + BATCH], np.float32)
            expected = run(graph, entry.quantize(batch))
            for row, image in enumerate(batch):
                tensors = session.intermediates(session.file_input(image[None]))
                for name in computed:
                    actual = _tensor(tensors, layout.tensor(name), graph)
                    if actual is None:
                        raise ArtifactError(f"the file has no tensor for {name}", where=graph.name)
                    yield name, compare(expected[name][row : row + 1], layout.to_logical(name, actual))

    return gather(f"{session.runtime} BUILTIN_REF", computed, differences())


def _tensor(tensors: Tensors, value: str, graph: IntegerGraph) -> npt.NDArray[Any] | None:
    """The file's tensor for a value; for the network's input, the one its first ops read, behind the file's edge."""
    edge = ("/int8", "/int16", "/mirrored") if value in graph.inputs else ()
    return next((tensors[value + end] for end in (*edge, "") if value + end in tensors), None)
