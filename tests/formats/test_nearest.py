"""Nearest resizing: the pixels of torch, for every pair of sizes and in both formats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgeq.errors import UnsupportedError
from edgeq.formats.onnx.emit.nearest import nearest_scale
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx, write_onnx_float
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.formats.tflite.writer import write_tflite_float
from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Resize2d
from edgeq.graph.ops.nearest import is_certain, nearest_pixels
from tests.ops.flow import Flow, assert_exact, quantization
from tests.ops.formats import Forward

SIZES = [(28, 14), (56, 20), (7, 1), (130, 9), (33, 97)]
"""Heights and widths that are enlarged and reduced; 28 -> 32, 14 -> 16, 56 -> 64 and 20 -> 24 are among the results."""
MODES = ("nearest", "nearest-exact")


def test_pixels_are_torchs_for_all_sizes() -> None:
    """Sizes to 130 and 260 hold as well (`benchmarks/op_sweep.py` goes through them)."""
    row = torch.arange(64.0).view(1, 1, 1, -1)
    for size in range(1, 65):
        for out in range(1, 129):
            taken = F.interpolate(row[..., :size], size=(1, out), mode="nearest").numpy().reshape(-1)
            assert taken.tobytes() == nearest_pixels(size, out, "nearest").astype(np.float32).tobytes(), (size, out)


def test_exact_pixels_are_torchs_wherever_its_layouts_agree() -> None:
    """Torch's kernels for the two memory layouts differ for 1 -> 41 pixels, say: such pairs are refused."""
    row = torch.arange(64.0).view(1, 1, 1, -1)
    refused = 0
    for size in range(1, 65, 3):
        for out in range(1, 129):
            if not is_certain(size, out, "nearest-exact"):
                refused += 1
                continue
            taken = F.interpolate(row[..., :size], size=(1, out), mode="nearest-exact").numpy().reshape(-1)
            np.testing.assert_array_equal(nearest_pixels(size, out, "nearest-exact"), taken, str((size, out)))
    assert 0 < refused < 20


def resized(before: tuple[int, int], mode: str) -> Graph:
    """One picture, resized to many sizes."""
    sizes = [(height, 131 - height) for height in range(1, 131)]
    nodes = tuple(Node(f"to_{h}_{w}", Resize2d((h, w), mode), ("x",)) for h, w in sizes)
    return Graph("net", ("x",), tuple(node.name for node in nodes), nodes, {}, {"x": (1, 2, *before)})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("before", SIZES)
def test_float_files_take_torchs_pixels(before: tuple[int, int], mode: str) -> None:
    graph = resized(before, mode)
    x = np.random.default_rng(0).normal(size=(1, 2, *before)).astype(np.float32)
    for session in (OrtSession(write_onnx_float(graph)), LiteRTSession(write_tflite_float(graph), channels=2)):
        for node, found in zip(graph.nodes, session.run(x), strict=True):
            rows, columns = (
                nearest_pixels(s, o, mode) for s, o in zip(before, graph.shapes[node.name][2:], strict=True)
            )
            np.testing.assert_array_equal(found, x[:, :, rows][..., columns], str((session.runtime, node.name)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("after", [(32, 16), (16, 14), (64, 8), (2, 7)])
def test_integer_files_take_them_too(after: tuple[int, int], activations: str, mode: str) -> None:
    flow = Flow((1, 3, 28, 14), quantization(0.1, 7))
    flow.add("resized", Resize2d(after, mode))
    assert_exact(flow)
    found = verify_onnx(flow.graph(), write_onnx(flow.graph(), activations=activations), flow.samples(), activations)  # type: ignore[arg-type]
    assert found.exact, found.first_difference


@pytest.mark.parametrize(("size", "out"), [(s, k * s) for s in (1, 5, 7, 13, 28, 130) for k in (1, 2, 3, 4, 8)])
def test_whole_factors_need_no_list_of_pixels(size: int, out: int) -> None:
    assert nearest_scale(size, out, "nearest") == out / size


@pytest.mark.parametrize(
    "options",
    [
        {"scale_factor": 2},
        {"scale_factor": 0.5},
        {"scale_factor": (8 / 7, 2)},
        {"scale_factor": 1.3, "recompute_scale_factor": True},
    ],
    ids=str,
)
def test_a_scale_that_means_the_sizes_is_taken(options: dict[str, object]) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 28, 14)).astype(np.float32))
    for mode in MODES:
        expected = F.interpolate(x, mode=mode, **options)  # type: ignore[arg-type]
        graph = capture(Forward(lambda x, m=mode: F.interpolate(x, mode=m, **options)), (2, 28, 14), "net")  # type: ignore[misc, arg-type]
        (found,) = OrtSession(write_onnx_float(graph)).run(x.numpy())
        np.testing.assert_array_equal(found, expected.numpy())


def test_a_scale_that_means_other_pixels_is_refused() -> None:
    """Torch scales positions by 1 / 1.3 and not by 10 / 13.0: another pixel at some places."""
    with pytest.raises(UnsupportedError, match="recompute_scale_factor"):
        capture(Forward(lambda x: F.interpolate(x, scale_factor=1.3)), (2, 8, 8), "net")
