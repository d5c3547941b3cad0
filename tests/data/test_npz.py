"""Arrays out of files that strangers made: the right ones, or one line."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import load_images
from edgeq.data.npz import read_npz
from edgeq.errors import ArtifactError, ConfigError, EdgeqError
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Detection

SPEC = ModelSpec("tiny", (3, 6, 8), (0.5,) * 3, (0.25,) * 3, classes=4)


def calibration() -> CalibrationSet:
    inputs = np.random.default_rng(0).normal(size=(4, 3, 6, 8)).astype(np.float32)
    return CalibrationSet(inputs, np.arange(4), "gznq", {"wrong": 0.25})


def test_a_calibration_set_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / "c.npz").write_bytes(calibration().to_bytes())
    found = CalibrationSet.load(tmp_path / "c.npz")
    assert (found.digest(), found.method, found.notes) == (calibration().digest(), "gznq", {"wrong": 0.25})


GOOD = calibration().inputs


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"inputs": GOOD.astype(np.float64)}, "must be float32"),
        ({"inputs": GOOD.astype(np.uint16)}, "must be float32"),
        ({"inputs": np.float32(1)}, "must be float32"),
        ({"inputs": GOOD[0]}, "must be float32"),
        ({"labels": np.arange(3)}, "with one label each"),
        ({"labels": np.zeros(4)}, "integers as labels"),
        ({"inputs": GOOD[:0], "labels": np.zeros(0, np.int64)}, "one image or more"),
        ({"inputs": np.where(GOOD > 1, np.nan, GOOD).astype(np.float32)}, "finite values"),
        ({"inputs": np.array([{}] * 4, object)}, "allow_pickle=False"),
        ({"notes": np.array("[1, 2]")}, "is not a calibration set"),
        ({"notes": np.array("[" * 100_000)}, "is not a calibration set"),
        ({"notes": np.array('{"a": [1]}')}, "is not a calibration set"),
    ],
)
def test_what_is_no_calibration_set(tmp_path: Path, arrays: dict[str, npt.ArrayLike], said: str) -> None:
    whole = {"inputs": GOOD, "labels": np.arange(4), "method": np.array("noise")}
    np.savez(tmp_path / "c.npz", **(whole | arrays))
    with pytest.raises(ArtifactError) as caught:
        CalibrationSet.load(tmp_path / "c.npz")
    assert said in str(caught.value)


def test_arrays_that_are_missing_are_named_with_those_that_are_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=GOOD, y=GOOD)
    with pytest.raises(ArtifactError, match=r"has no array 'inputs' \(it holds x, y\)"):
        read_npz(tmp_path / "a.npz", ["inputs"])
    assert set(read_npz(tmp_path / "a.npz", ["x"], [])) == {"x"}
    assert set(read_npz((tmp_path / "a.npz").read_bytes())) == {"x", "y"}


def test_a_member_that_is_no_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", b"text")
    with pytest.raises(ArtifactError, match="images is no array"):
        read_npz(tmp_path / "a.npz", ["images"])


def test_a_small_file_that_unpacks_to_much_is_refused_before_it_does(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w") as file,
    ):
        for _ in range(300):
            file.write(bytes(2**20))
    for path in (tmp_path / "a.npz", (tmp_path / "a.npz").read_bytes()):
        with pytest.raises(ArtifactError, match=r"unpacks to 300.*the limit is 256.*EDGEQ_LARGEST_FILE=1Gi"):
            read_npz(path)


def test_a_header_that_promises_more_than_is_there(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 10)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", buffer.getvalue() + bytes(64))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_images(tmp_path / "a.npz", SPEC)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(ArtifactError, match="it is a FIFO"):
        load_images(tmp_path / "a.npz", SPEC)


IMAGES = np.zeros((4, 6, 8, 3), np.uint8)
SCALED = replace(SPEC, input_shape=(3, 6, 6), resize=6, crop=6)
DETECTOR = ModelSpec(
    "det",
    (3, 6, 8),
    (0.5,) * 3,
    (0.25,) * 3,
    task="detection",
    classes=2,
    dense=Detection(("sign",), ((3, 4),), ((2.0,),)),
)
BOXES = {"boxes": np.zeros((2, 4)), "labels": np.zeros(2, np.int64), "image": np.zeros(2, np.int64)}


@pytest.mark.parametrize(
    ("spec", "arrays"),
    [
        (SPEC, {"images": np.uint8(3)}),
        (SPEC, {"images": np.zeros((4, 6, 8, 3), np.uint16)}),
        (SPEC, {"images": IMAGES, "labels": np.int64(1)}),
        (SPEC, {"images": IMAGES, "labels": np.array(["a"] * 4)}),
        (SCALED, {"images": np.zeros((4, 3, 6, 8), np.uint8)}),
        (SCALED, {"images": np.zeros((4, 6, 8, 5), np.uint8)}),
        (SCALED, {"images": np.zeros((4, 0, 8, 3), np.uint8)}),
        (SCALED, {"images": np.zeros((4, 1, 1, 1), np.uint8)}),
        (SCALED, {"images": IMAGES, "prepared": np.array(True)}),
        (DETECTOR, {"images": IMAGES, **BOXES, "labels": np.int64(1)}),
        (DETECTOR, {"images": IMAGES, **BOXES, "image": np.int64(1)}),
        (DETECTOR, {"images": IMAGES, **BOXES, "boxes": np.array([["a"] * 4] * 2)}),
        (DETECTOR, {"images": IMAGES, **BOXES, "boxes": np.full((2, 4), np.nan)}),
        (DETECTOR, {"images": IMAGES, **BOXES, "labels": np.array(["a", "b"])}),
    ],
)
def test_odd_shapes_and_types_end_in_one_line(
    tmp_path: Path, spec: ModelSpec, arrays: dict[str, npt.ArrayLike]
) -> None:
    np.savez(tmp_path / "a.npz", **({"labels": np.zeros(4, np.int64)} | arrays))  # "prepared" needs the right size
    with pytest.raises(ConfigError) as caught:
        load_images(tmp_path / "a.npz", spec)
    assert "a.npz" in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_archives_end_in_one_line(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a.npz"
    (np.savez_compressed if packed else np.savez)(path, images=IMAGES, labels=np.arange(4))
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for trial in range(80):
        damaged = bytearray(whole)
        if trial % 3 == 0:
            del damaged[int(random.integers(len(whole))) :]
        else:
            start = 0 if trial % 3 == 1 else max(0, len(whole) - 300)
            for place in random.integers(start, len(whole), 3):
                damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            load_images(path, SPEC)
        except EdgeqError as error:
            assert "\n" not in str(error)  # noqa: PT017
