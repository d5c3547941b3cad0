"""Census of TFLite files from their bytes: ours and foreign ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeq.errors import ArtifactError
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ops import Conv2d, Pad
from tests.ops.flow import Flow, quantization

DATA = Path(os.environ.get("EDGEQ_DATA", Path(__file__).parents[3] / "shared" / "data"))


def foreign(name: str) -> bytes:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here; set EDGEQ_DATA")
    return path.read_bytes()


def test_spatial_and_channel_pads_are_told_apart() -> None:
    flow = Flow((1, 3, 5, 4), quantization(0.1))
    flow.add("channels", Pad((0, 1, 0, 0), (0, 2, 0, 0)))
    assert census(write_tflite(flow.graph())).spatial_pads == 0
    flow.add("rows", Pad((0, 0, 1, 0), (0, 0, 0, 0)), "channels")
    found = census(write_tflite(flow.graph()))
    assert (found.spatial_pads, found.kinds, found.ops, found.clean) == (1, {"PAD": 2}, 2, True)


def test_a_convolution_no_padding_can_carry_shows_its_pad() -> None:
    """Five rows of padding before a 3x3 window: taps would outnumber the kernel's own many times over."""
    flow = Flow((1, 3, 8, 8), quantization(0.1))
    flow.weighted("conv", Conv2d(padding=(5, 5, 5, 5)), (4, 3, 3, 3), quantization(0.1))
    assert census(write_tflite(flow.graph())).spatial_pads == 1


def test_foreign_float_and_int8_files() -> None:
    found = census(foreign("mlperf_tiny/ic01_resnet8_float.tflite"))
    assert (found.float_ops, found.float_convolutions, found.float_matmuls) == (found.ops, 9, 1)
    found = census(foreign("mlperf_tiny/ic01_resnet8_int8.tflite"))
    assert found.clean
    assert found.kinds["CONV_2D"] == 9


def test_foreign_file_with_transposes() -> None:
    found = census(foreign("peer_tflite/mobilenet_v2_quantized_1x3x224x224.tflite"))
    assert found.transposes == 1
    assert found.spatial_pads > 0


@pytest.mark.parametrize("data", [b"", b"TFL3", b"not a model at all", bytes(1000), b"\x10\0\0\0TFL3" + bytes(40)])
def test_other_bytes(data: bytes) -> None:
    with pytest.raises(ArtifactError):
        census(data)


def test_cut_off_file() -> None:
    flow = Flow((1, 3, 5, 4), quantization(0.1))
    flow.add("channels", Pad((0, 1, 0, 0), (0, 2, 0, 0)))
    whole = write_tflite(flow.graph())
    with pytest.raises(ArtifactError):
        census(whole[: len(whole) // 2])
