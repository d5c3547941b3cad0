"""What an interrupted run left is taken up where it is whole, and made anew where one bit of it is another."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeq.synth.checkpoint import keep, read_images, read_notes, read_tensors


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 4
    path.write_bytes(data)


def test_a_batch_and_its_notes_survive(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)
    keep(tmp_path, 0, images, {"wrong": 0.5})
    keep(tmp_path, 1, images)
    found = read_images(tmp_path, 0)
    assert found is not None
    assert np.array_equal(found, images)
    assert (read_notes(tmp_path, 0), read_notes(tmp_path, 1)) == ({"wrong": 0.5}, {})
    assert read_images(tmp_path, 2) is None
    assert read_images(None, 0) is None


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("suffix", ["npy", "json"])
def test_a_damaged_batch_never_finished(tmp_path: Path, suffix: str, place: float) -> None:
    keep(tmp_path, 0, np.ones((2, 3, 4, 4), np.float32), {"wrong": 0.5})
    flip(tmp_path / f"batch-0000.{suffix}", place)
    assert read_images(tmp_path, 0) is None


def test_a_batch_of_another_run_never_finished(tmp_path: Path) -> None:
    keep(tmp_path, 0, np.ones((2, 3, 4, 4), np.float32))
    np.save(tmp_path / "batch-0000.npy", np.zeros((2, 3, 4, 4), np.float32))
    assert read_images(tmp_path, 0) is None


def test_tensors_with_a_flipped_bit_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save({"weights": torch.arange(1000.0)}, path)
    assert torch.equal(read_tensors(path)["weights"], torch.arange(1000.0))
    assert read_tensors(tmp_path / "missing.pt") is None
    data = path.read_bytes()
    for place in (data.index(b"\x80\x02"), data.index(torch.tensor([500.0]).numpy().tobytes()), len(data) - 30):
        path.write_bytes(data)
        flip(path, place / (len(data) - 1))
        assert read_tensors(path) is None, place


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)  # type: ignore[return-value]

    torch.save({"state": Evil()}, tmp_path / "state.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    assert read_tensors(tmp_path / "state.pt") is None
    assert read_tensors(tmp_path / "plain.pt") is None
    assert not (tmp_path / "ran").exists()
