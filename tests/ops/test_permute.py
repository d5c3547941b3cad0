"""Permutations and reshapes between pictures: channel shuffle, depth to space, rows of boxes, anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import UnsupportedError
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.emit.moves import FEW
from edgeq.formats.tflite.layout import plan
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ops import RELU, Add, Concat, Conv2d, Linear, Permute, Reshape
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, seeds

sizes = st.integers(1, 5)
OUT = quantization(0.2, 3)


def exact_in_both(flow: Flow) -> dict[str, int]:
    """Exact in both formats; how often the TFLite file has each op."""
    assert_exact(flow)
    graph = flow.graph()
    found = verify_onnx(graph, write_onnx(graph, activations="uint8"), flow.samples(), "uint8", rounding="onnxruntime")
    assert found.exact, found.first_difference
    return dict(census(write_tflite(graph)).kinds)


@EXAMPLES
@given(c=sizes, h=sizes, w=sizes, order=st.permutations([1, 2, 3]), seed=seeds)
def test_any_permutation(c: int, h: int, w: int, order: list[int], seed: int) -> None:
    flow = Flow((1, c, h, w), quantization(0.1, 4), seed)
    flow.add("moved", Permute((0, *order)))
    assert exact_in_both(flow).get("TRANSPOSE", 0) <= 1


@EXAMPLES
@given(groups=st.integers(1, 4), per_group=sizes, h=sizes, w=sizes, stride=st.sampled_from([1, 2]), seed=seeds)
def test_channel_shuffle(groups, per_group, h, w, stride, seed) -> None:  # type: ignore[no-untyped-def]
    """In a mirrored network as in a direct one: a shuffle touches no place in the picture. Where places are many, two
    large matrices are transposed instead of a small one at each."""
    channels = groups * per_group
    flow = Flow((1, 3, 2 * h, 2 * w), quantization(0.1, 4), seed)
    flow.weighted("conv", Conv2d((stride, stride), (1, 1, 1, 1)), (channels, 3, 3, 3), OUT)
    shape = flow.graph("conv").shapes["conv"][2:]
    flow.add("groups", Reshape((groups, per_group, *shape)), "conv")
    flow.add("swapped", Permute((0, 2, 1, 3, 4)), "groups")
    flow.add("shuffled", Reshape((channels, *shape)), "swapped")
    flow.weighted("after", Conv2d(), (4, channels, 1, 1), OUT, "shuffled")
    kinds = exact_in_both(flow)
    moves = groups > 1 and per_group > 1
    assert kinds.get("TRANSPOSE", 0) == moves * (2 if shape[0] * shape[1] >= FEW else 1)


@EXAMPLES
@given(c=sizes, h=sizes, w=sizes, r=st.integers(1, 3), seed=seeds)
def test_depth_to_space(c: int, h: int, w: int, r: int, seed: int) -> None:
    flow = Flow((1, c * r * r, h, w), quantization(0.1, 4), seed)
    flow.add("split", Reshape((c, r, r, h, w)))
    flow.add("moved", Permute((0, 1, 4, 2, 5, 3)), "split")
    flow.add("wide", Reshape((c, h * r, w * r)), "moved")
    assert exact_in_both(flow).get("TRANSPOSE", 0) <= 1


@EXAMPLES
@given(anchors=st.integers(1, 3), values=sizes, h=sizes, w=sizes, seed=seeds)
def test_rows_of_boxes_need_no_transpose(anchors, values, h, w, seed) -> None:  # type: ignore[no-untyped-def]
    """As torchvision's SSD and YOLO write it: anchors apart from values, then both behind height and width."""
    rows = []
    flow = Flow((1, 3, 2 * h, 2 * w), quantization(0.1, 4), seed)
    for name, stride in (("large", 1), ("small", 2)):
        flow.weighted(name, Conv2d((stride, stride), (1, 1, 1, 1)), (anchors * values, 3, 3, 3), OUT)
        size = flow.graph(name).shapes[name][2:]
        flow.add(f"{name}.apart", Reshape((anchors, values, *size)), name)
        flow.add(f"{name}.last", Permute((0, 3, 4, 1, 2)), f"{name}.apart")
        rows.append(flow.add(f"{name}.rows", Reshape((size[0] * size[1] * anchors, values)), f"{name}.last"))
    flow.add("joined", Concat(1), *rows)
    assert "TRANSPOSE" not in exact_in_both(flow)


@EXAMPLES
@given(c=sizes, h=sizes, w=sizes, seed=seeds)
def test_flattened_features_that_leave_the_network(c: int, h: int, w: int, seed: int) -> None:
    flow = Flow((1, c, h, w), quantization(0.1), seed)
    flow.add("flat", Reshape((c * h * w,)))
    assert exact_in_both(flow).get("TRANSPOSE", 0) == (c > 1 and h * w > 1)


@pytest.mark.parametrize("readers", ["linear", "relu, linear", "sum of two orders"])
def test_flattened_features_behind_which_all_is_linear(readers: str) -> None:
    flow = Flow((1, 4, 6, 5), quantization(0.1, 4))
    flow.weighted("conv", Conv2d((2, 2), (1, 1, 1, 1)), (6, 4, 3, 3), OUT)
    last = flow.add("flat", Reshape((54,)), "conv")
    if readers == "relu, linear":
        last = flow.add("relu", RELU, "flat", q=quantization(0.1, -128))
    if readers == "sum of two orders":
        flow.weighted("dense", Linear(), (54, 120), OUT, flow.add("all", Reshape((120,))))
        last = flow.add("sum", Add(), "flat", "dense", q=OUT)
    flow.weighted("last", Linear(), (7, 54), OUT, last)
    assert ("TRANSPOSE" in exact_in_both(flow)) is (readers == "sum of two orders")


def test_what_no_transposition_computes_is_refused_by_name() -> None:
    flow = Flow((1, 4, 2, 3), quantization(0.1))
    flow.add("mixed", Reshape((6, 4, 1)))
    with pytest.raises(UnsupportedError, match="mixed"):
        plan(flow.graph())
