"""Checkpoints as people keep them, and as strangers make them: read whole and with the right values, or one line."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgeq.errors import ConfigError, EdgeqError
from edgeq.model.weights import fit, read_weights

State = dict[str, Tensor]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def state(value: float = 0.0) -> State:
    return {
        name: tensor + (value if tensor.is_floating_point() else 0) for name, tensor in network().state_dict().items()
    }


def saved(path: Path, data: Any, **options: Any) -> Path:
    torch.save(data, path, **options)
    return path


def fitted(source: str | Path) -> Tensor:
    """The last layer's weights of a network that took `source`."""
    module = network()
    fit(module, read_weights(source), str(source))
    return module[3].weight.detach()


def refused(source: str | Path, *parts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fitted(source)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.pth.tar", "last.ckpt", "pytorch_model.bin"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_names_that_checkpoints_have(tmp_path: Path, name: str, zipped: bool) -> None:
    path = saved(tmp_path / name, state(1), _use_new_zipfile_serialization=zipped)
    assert torch.equal(fitted(path), state(1)["3.weight"])


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "_orig_mod.module.", "net.backbone.", "0."])
def test_a_prefix_that_all_names_share_is_taken_off(tmp_path: Path, prefix: str) -> None:
    lightning = {"state_dict": {prefix + name: value for name, value in state(1).items()}, "epoch": 3}
    assert torch.equal(fitted(saved(tmp_path / "last.ckpt", lightning)), state(1)["3.weight"])


def test_a_prefix_that_not_all_names_share_is_said(tmp_path: Path) -> None:
    longer = {f"model.{name}": value for name, value in state().items()} | {"loss.weight": torch.ones(1)}
    refused(saved(tmp_path / "last.ckpt", {"state_dict": longer}), "the file's names begin with 'model.'")


@pytest.mark.parametrize("other", ["state_dict_ema", "ema", "model_ema", "model"])
def test_one_of_several_state_dicts_is_named_by_the_user(tmp_path: Path, other: str) -> None:
    path = saved(tmp_path / "w.pth", {"state_dict": state(1), other: state(2), "epoch": 3})
    refused(path, "several state dicts", "state_dict", f"--weights {path}:{other}")
    assert torch.equal(fitted(f"{path}:state_dict"), state(1)["3.weight"])
    assert torch.equal(fitted(f"{path}:{other}"), state(2)["3.weight"])
    refused(f"{path}:teacher", "has no state dict 'teacher'", f"--weights {path}:state_dict")


def test_a_state_dict_inside_others_is_named_with_dots(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", {"train": {"student": state(1), "teacher": state(2)}, "a.b": state(3)})
    assert torch.equal(fitted(f"{path}:train.teacher"), state(2)["3.weight"])
    assert torch.equal(fitted(f"{path}:a.b"), state(3)["3.weight"])


def test_a_file_name_may_hold_a_colon(tmp_path: Path) -> None:
    assert torch.equal(fitted(saved(tmp_path / "w:1.pth", state(1))), state(1)["3.weight"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_other_sizes_are_taken(tmp_path: Path, dtype: torch.dtype) -> None:
    other = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state(1).items()}
    assert torch.equal(fitted(saved(tmp_path / "w.pt", other)), other["3.weight"].float())


STRANGE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "int8": (lambda v: (v * 100).to(torch.int8), "3.weight is int8, the network's float32"),
    "int64": (lambda v: (v * 100).long(), "3.weight is int64, the network's float32"),
    "bool": (lambda v: v > 0, "3.weight is bool, the network's float32"),
    "complex": (lambda v: v * (1 + 1j), "3.weight is complex64"),
    "qint8": (lambda v: torch.quantize_per_tensor(v, 0.01, 0, torch.qint8), "3.weight is qint8"),
    "float8": (lambda v: v.to(torch.float8_e4m3fn), "3.weight is float8_e4m3fn"),
    "sparse": (lambda v: v.to_sparse(), "3.weight is sparse"),
    "csr": (lambda v: v.to_sparse_csr(), "3.weight is sparse"),
    "meta": (lambda v: v.to("meta"), "3.weight is without values"),
    "infinite": (lambda v: v.double() * 1e300, "not finite: 3.weight"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", STRANGE)
def test_tensors_that_are_no_floats_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    make, said = STRANGE[kind]
    refused(saved(tmp_path / "w.pt", state() | {"3.weight": make(state()["3.weight"])}), said)


@pytest.mark.parametrize("kind", ["int8", "bool", "float8", "infinite"])
def test_safetensors_are_held_to_the_same(tmp_path: Path, kind: str) -> None:
    make, said = STRANGE[kind]
    save_file(state() | {"3.weight": make(state()["3.weight"])}, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", said)


def test_forms_that_are_no_checkpoint_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin.index.json").write_text("{}")
    refused(tmp_path / "pytorch_model.bin.index.json", "lists the parts", "in one file")
    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    refused(tmp_path / "old.pth", "the first torch versions", "save it again")
    refused(tmp_path / "none.pth", "does not exist")
    refused(tmp_path, "it is a folder")
    (tmp_path / "w.h5").touch()
    refused(tmp_path / "w.h5", "is none of", ".ckpt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_fifo_or_a_device_is_not_opened(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"w{suffix}")
    refused(tmp_path / f"w{suffix}", "it is a FIFO")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    refused(tmp_path / f"zero{suffix}", "it is a device")


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_before_it_does(tmp_path: Path) -> None:
    whole = saved(tmp_path / "w.pt", state())
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        with new.open("w/data/99", "w") as file:
            for _ in range(300):
                file.write(bytes(2**20))
    refused(bomb, "unpacks to 300.", "the limit is 256.0 MiB", "EDGEQ_LARGEST_FILE=1Gi")


def test_the_user_may_raise_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "w.pt", state(1))
    monkeypatch.setenv("EDGEQ_LARGEST_FILE", "100")
    refused(path, "the limit is 0.0 MiB")
    monkeypatch.setenv("EDGEQ_LARGEST_FILE", "1M")
    assert torch.equal(fitted(path), state(1)["3.weight"])
    monkeypatch.setenv("EDGEQ_LARGEST_FILE", "much")
    refused(path, "EDGEQ_LARGEST_FILE", "a size such as")


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", state() | {"3.weight": torch.zeros(1).expand(1 << 20, 1 << 20)})
    refused(path, "unpacks to 4096.0 GiB")


def test_a_pickle_that_asks_for_memory_is_refused(tmp_path: Path) -> None:
    payload = b"\x80\x02cbuiltins\nbytearray\n\x8a\x08\0\0\0\0\1\0\0\0\x85R."
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("w/data.pkl", payload)
        archive.writestr("w/version", "3\n")
        archive.writestr("w/byteorder", "little")
    refused(tmp_path / "w.pt", "holds more than tensors", "bytearray")
    (tmp_path / "old.pt").write_bytes(payload)
    refused(tmp_path / "old.pt", "holds more than tensors", "bytearray")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_damaged_checkpoints_end_in_one_line(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file(state(), path)
    else:
        torch.save({"model": state(), "epoch": 1}, path, _use_new_zipfile_serialization=form == "zip")
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for trial in range(60):
        damaged = bytearray(whole)
        if trial % 3 == 0:
            del damaged[int(random.integers(len(whole))) :]
        else:
            for place in random.integers(0, min(len(whole), 2000 if trial % 3 == 1 else len(whole)), 3):
                damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            fitted(path)  # a flipped bit of a weight is another weight
        except EdgeqError as error:
            assert "\n" not in str(error)  # noqa: PT017
