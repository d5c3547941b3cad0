"""`edgeq eval FOLDER` reads what the folder says as data: whatever it names, nothing of it is imported."""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.errors import ConfigError, EdgeqError
from edgeq.formats.tflite.writer import write_tflite
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Detection, Segmentation
from edgeq.pipeline.origin import origin_facts, read_origin
from edgeq.report.lock import build_lock, inputs_lock, lock_text
from tests.formats.residual import frozen, residual_network

CLASSES = ("cat", "/etc/passwd", "~dog", "fish")
SPECS = [
    ModelSpec("net", (3, 8, 8), (0.1, 0.2, 0.3), (0.5,) * 3, resize=9, crop=8, classes=4, labels=CLASSES),
    ModelSpec("grey", (1, 8, 6), (0.5,), (0.25,), classes=2),
    ModelSpec("unknown", (3, 8, 8), (0.5,) * 3, (0.25,) * 3, task="segmentation"),
    ModelSpec(
        "seg",
        (3, 8, 8),
        (0.5,) * 3,
        (0.25,) * 3,
        task="segmentation",
        classes=2,
        dense=Segmentation(("none", "sign"), ignore=200),
    ),
    ModelSpec(
        "det",
        (3, 8, 8),
        (0.5,) * 3,
        (0.25,) * 3,
        task="detection",
        classes=3,
        dense=Detection(("a", "b"), ((4, 4), (2, 2)), ((2.0, 3.0), (4.5,)), 0.3, 0.4, (0.2, 0.1)),
    ),
]

EVIL = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
def make():
    raise SystemExit("run")
"""


@functools.cache
def model_bytes() -> bytes:
    return write_tflite(frozen(residual_network()), io="int8")


def locked(folder: Path, spec: ModelSpec | None, evaluation: str | None = None, **config: Any) -> Path:
    """The folder of a build as far as `eval` looks at it before it runs the file."""
    folder.mkdir(exist_ok=True)
    (folder / "model.tflite").write_bytes(model_bytes())
    inputs = inputs_lock(
        model="net",
        weights_sha256="",
        graph_sha256="",
        checkpoint=None,
        evaluation=None,
        config=config,
        recipe={},
        target={},
        packages={},
        code_sha256="",
        machine={},
        spec=None if spec is None else origin_facts(spec, evaluation),
    )
    contents = build_lock(inputs, stages={}, integer_sha256="", calibration={}, artifact={}, files={}, runtime="")
    (folder / "edgeq.lock").write_text(lock_text(contents))
    return folder


def evaluated(*words: str) -> str:
    """Standard error of an `edgeq eval` that must end with status 2 in one line."""
    done = CliRunner().invoke(cli, ["eval", *words])
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1
    return str(done.stderr)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text(EVIL)
    np.savez(tmp_path / "test.npz", images=np.zeros((2, 8, 8, 3), np.uint8), labels=np.zeros(2, np.int64))
    return tmp_path


@pytest.mark.parametrize("spec", SPECS, ids=[spec.name for spec in SPECS])
def test_a_lock_says_all_that_scoring_needs(here: Path, spec: ModelSpec) -> None:
    origin = read_origin(locked(here / "out", spec, "test.npz"))
    assert origin is not None
    assert origin.spec == replace(spec, evaluation="test.npz")
    assert origin.images(here) == "test.npz"


def test_images_of_another_machine_are_not_named(here: Path) -> None:
    origin = read_origin(locked(here / "out", SPECS[0], "/home/someone/test.npz"))
    assert origin is not None
    assert "someone" not in (here / "out/edgeq.lock").read_text()
    with pytest.raises(ConfigError, match=r"no labelled images \(--data"):
        origin.images(here)
    origin = read_origin(locked(here / "out", SPECS[0], "gone.npz"))
    assert origin is not None
    with pytest.raises(ConfigError, match=r"gone.npz is not here \(--data"):
        origin.images(here)


@pytest.mark.parametrize("model", ["evil.py:make", "evil:make", "model.toml", "."])
@pytest.mark.parametrize("spec", [SPECS[0], None], ids=["now", "earlier-edgeq"])
def test_the_python_that_a_folder_names_is_not_imported(here: Path, model: str, spec: ModelSpec | None) -> None:
    (here / "model.toml").write_text(
        'name = "net"\n[network]\nfactory = "evil.py:make"\nweights = "w.pt"\n[input]\nshape = [3, 8, 8]\n'
        'mean = [0.1, 0.2, 0.3]\nstd = [1, 1, 1]\n[output]\ntask = "classification"\nclasses = 4\n'
        '[evaluation]\nimages = "evil.py:make"\n'
    )
    locked(here / "out", spec, None, model=model, weights="w.pt")
    assert re.search("how its images are prepared|no labelled images|edgeq runs no code", evaluated("out"))
    said = evaluated("out", "--data", "test.npz", "--runtime", "none")
    assert re.search("how its images are prepared|none does not run .tflite files", said)  # images are read before
    assert not (here / "ran").exists()


def test_images_from_python_are_said_and_not_imported(here: Path) -> None:
    locked(here / "out", SPECS[0], "evil.py:make", model="evil.py:make")
    assert "come from evil.py:make: edgeq runs no code that a folder names (if you trust it: --data evil.py:make)" in (
        evaluated("out")
    )
    assert not (here / "ran").exists()
    evaluated("out", "--data", "evil.py:make")  # the user says so
    assert (here / "ran").exists()


def test_other_commands_import_nothing_either(here: Path) -> None:
    locked(here / "out", SPECS[0], "evil.py:make", model="evil.py:make")
    (here / "out/report.json").write_text('{"schema": 0, "model": "evil.py:make"}')
    for words, status in ((["bench", "--runtime", "none"], 2), (["check", "--max-bytes", "1"], 2), (["inspect"], 0)):
        assert CliRunner().invoke(cli, [*words, "out"]).exit_code == status
    assert not (here / "ran").exists()


def test_images_of_the_model_file_serve_where_the_lock_names_none(here: Path) -> None:
    toml = 'name = "net"\n[network]\nfactory = "evil.py:make"\nweights = "w.pt"\n[input]\nshape = [3, 8, 8]\n'
    toml += 'mean = [0.1, 0.2, 0.3]\nstd = [1, 1, 1]\n[output]\ntask = "classification"\nclasses = 4\n'
    (here / "model.toml").write_text(toml + '[evaluation]\nimages = "test.npz"\n')
    origin = read_origin(locked(here / "out", SPECS[0], None, model="model.toml"))
    assert origin is not None
    assert (origin.images(here), origin.spec.crop) == ("test.npz", 8)
    origin = read_origin(locked(here / "out", SPECS[1], None, model="model.toml"))  # another network's file
    assert origin is not None
    assert origin.spec.evaluation is None
    origin = read_origin(locked(here / "out", None, None, model="model.toml"))  # the lock of an earlier edgeq
    assert origin is not None
    assert (origin.spec.crop, origin.spec.mean, origin.images(here)) == (None, (0.1, 0.2, 0.3), "test.npz")
    assert read_origin(locked(here / "out", None, None, model="model.toml", mean=[0, 0, 0])) is None


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("input", "mean", [0.4, 0.5, 0.6]),
        ("output", "labels", ["dog", "cat", "ant", "fish"]),
        ("evaluation", "images", "other.npz"),
    ],
)
def test_a_lock_that_was_changed_by_hand_is_not_believed(here: Path, table: str, key: str, value: object) -> None:
    folder = locked(here / "out", SPECS[0], "test.npz")
    assert read_origin(folder) is not None
    contents = json.loads((folder / "edgeq.lock").read_text())
    contents["model"]["spec"][table][key] = value
    (folder / "edgeq.lock").write_text(json.dumps(contents))
    assert "edgeq.lock was changed by hand: its model.spec" in evaluated("out")
    del contents["model"]["spec_sha256"]  # the lock of an earlier edgeq has none
    (folder / "edgeq.lock").write_text(json.dumps(contents))
    assert read_origin(folder) is not None


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("input", "shape", [3, 10**6, 10**6]),
        ("input", "shape", [3, 8]),
        ("input", "shape", "3,8,8"),
        ("input", "mean", [10**400, 0, 0]),
        ("input", "mean", [float("nan"), 0, 0]),
        ("input", "std", [0, 0, 0]),
        ("input", "resize", 10**9),
        ("input", "device", "/dev/zero"),
        ("output", "task", "evil"),
        ("output", "classes", -1),
        ("output", "labels", "/etc/passwd"),
        ("output", "labels", [1, 2, 3]),
        ("task", "maps", [[10**6, 10**6], [1, 1]]),
        ("task", "sizes", [[1]]),
        ("task", "kind", None),
        ("evaluation", "images", 3),
    ],
)
def test_locks_of_strangers_end_in_one_line(here: Path, table: str, key: str, value: object) -> None:
    folder = locked(here / "out", SPECS[4], "test.npz")
    contents = json.loads((folder / "edgeq.lock").read_text())
    contents["model"]["spec"][table][key] = value
    (folder / "edgeq.lock").write_text(json.dumps(contents))
    with pytest.raises(EdgeqError) as caught:
        read_origin(folder)
    assert "edgeq.lock" in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_lock_or_report_that_is_a_fifo_is_not_opened(here: Path) -> None:
    locked(here / "out", SPECS[0])
    (here / "out/edgeq.lock").unlink()
    os.mkfifo(here / "out/edgeq.lock")
    assert "it is a FIFO" in evaluated("out")
    os.mkfifo(here / "out/report.json")
    done = CliRunner().invoke(cli, ["check", "out", "--max-bytes", "1"])
    assert done.exit_code == 2
    assert "it is a FIFO" in done.stderr
    os.mkfifo(here / "model.tflite")
    for command in (["inspect"], ["bench"], ["eval", "--model", "evil.py:make", "--data", "test.npz"]):
        done = CliRunner().invoke(cli, [*command, "model.tflite"])
        assert done.exit_code == 2
        assert "it is a FIFO" in done.stderr
