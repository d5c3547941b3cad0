"""Equal builds have equal locks, byte for byte; what differs is named; no folder of a machine is in one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import ArtifactError
from edgeq.report.lock import build_lock, differences, inputs_lock, lock_text, portable, read_lock
from edgeq.versions import package_versions


def made(**changes: Any) -> dict[str, Any]:
    begun: dict[str, Any] = {
        "model": "net",
        "weights_sha256": "a" * 64,
        "graph_sha256": "b" * 64,
        "checkpoint": {"name": "net.safetensors", "sha256": "f" * 64},
        "evaluation": {"name": "/home/someone/test.npz", "images": 24, "sha256": "1" * 64},
        "config": {"model": Path("/home/someone/net.toml"), "seed": 3, "output": Path("/home/x"), "images": None},
        "recipe": {"gznq": {"fine": 20}},
        "target": {"name": "tflite-arm", "session": {}},
        "packages": {"edgeq": "1", "torch": "2", "python": "3.11.7"},
        "code_sha256": "2" * 64,
        "machine": {"architecture": "x86_64", "platform": "Linux 6", "flags": ["avx2"], "cores": 2},
    }
    ended: dict[str, Any] = {
        "stages": {
            "synthesize": {"threads": 2, "device": "cpu", "packages": {"torch": "2", "python": "3.11.7"}},
            "measure": {"threads": 1, "device": "cpu", "packages": {"onnxruntime": "3"}},
        },
        "integer_sha256": "c" * 64,
        "calibration": {"method": "images:/home/someone/photos", "images": 8, "sha256": "d" * 64, "seconds": 3.21},
        "artifact": {"path": "net.tflite", "bytes": 10, "sha256": "e" * 64},
        "files": {"model.tflite": b"model", "calibration.npz": b"images"},
        "runtime": "ai-edge-litert 2.3.0",
    }
    told = {**begun, **ended, **changes}
    inputs = inputs_lock(**{key: told[key] for key in begun})
    return build_lock(inputs, **{key: value for key, value in told.items() if key not in begun})


def test_equal_builds_have_equal_text() -> None:
    again = made(calibration={"seconds": 9.9, "sha256": "d" * 64, "images": 8, "method": "images:/elsewhere/photos"})
    assert lock_text(made()) == lock_text(again)
    shuffled = dict(reversed(list(made().items())))
    assert lock_text(shuffled) == lock_text(made())


def test_it_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "edgeq.lock"
    path.write_text(lock_text(made()))
    assert read_lock(path) == made()


def test_no_folder_of_the_machine_is_in_it() -> None:
    text = lock_text(made())
    assert "/" not in text.replace("N/A", "")
    assert "someone" not in text
    assert '"net.toml"' in text
    assert '"images:photos"' in text


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("nets/net.toml", "nets/net.toml"),
        ("/a/b/net.toml", "net.toml"),
        ("~/net.toml", "net.toml"),
        ("C:\\nets\\net.toml", "net.toml"),
        ("images:/a/photos", "images:photos"),
        ("torchvision:mobilenet_v2", "torchvision:mobilenet_v2"),
        ("/a/net.py:factory", "net.py:factory"),
        (("/a/b", 1, None, True), ["b", 1, None, True]),
    ],
)
def test_portable(value: Any, plain: Any) -> None:
    assert portable(value) == plain


def test_differences_are_named() -> None:
    assert differences(made(), made()) == []
    assert differences(made(), made(weights_sha256="0")) == [f"model.weights_sha256: {'a' * 64!r} against '0'"]
    assert differences({"a": {"b": 1}}, {}) == ["a: {'b': 1} against None"]


def test_versions_are_those_installed() -> None:
    found = package_versions()
    assert found["edgeq"]
    assert "no-such-package" not in package_versions(("no-such-package",))


def test_versions_and_threads_are_those_each_stage_had() -> None:
    contents = made()
    assert contents["packages"] == {"edgeq": "1", "torch": "2", "python": "3.11.7", "onnxruntime": "3"}
    assert contents["stages"] == {"synthesize": {"threads": 2, "device": "cpu"}}


def test_every_file_has_its_hash() -> None:
    assert made()["files"]["model.tflite"] == {"bytes": 5, "sha256": hashlib.sha256(b"model").hexdigest()}


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"schema": 99}), "{"])
def test_what_is_no_lock(tmp_path: Path, text: str) -> None:
    path = tmp_path / "edgeq.lock"
    path.write_text(text)
    with pytest.raises(ArtifactError):
        read_lock(path)
