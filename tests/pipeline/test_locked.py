"""`edgeq build --locked`: the same bytes, or the first thing that is another; nothing only a lock names is imported."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgeq.cli import cli
from edgeq.config.build import BuildConfig
from edgeq.pipeline.build import build
from edgeq.report.lock import lock_text

Edit = Callable[[Callable[[dict[str, Any]], Any]], None]


built: dict[str, bytes] = {}
"""The files of the build that all tests start from, once one of them has made it."""


@pytest.fixture
def lock(config: BuildConfig, tmp_path: Path) -> Path:
    out = tmp_path / "out"
    if not built:
        build(replace(config, method="noise", seed=3, threads=1))
        built.update((path.name, path.read_bytes()) for path in out.iterdir())
    out.mkdir(exist_ok=True)
    for name, content in built.items():
        (out / name).write_bytes(content)
    return out / "edgeq.lock"


@pytest.fixture
def edit(lock: Path) -> Edit:
    """Change the lock's contents in place."""

    def change(how: Callable[[dict[str, Any]], Any]) -> None:
        contents = json.loads(lock.read_text())
        how(contents)
        lock.write_text(lock_text(contents))

    return change


def rebuild(*words: str, model: str = "model.toml") -> Result:
    named = [model] if model else []
    return CliRunner().invoke(cli, ["build", *named, "--locked", "out", "-o", "again", "--cache", "other", *words])


def refused(result: Result, status: int, *parts: str) -> None:
    assert result.exit_code == status, (result.stderr, result.exception)
    line = result.stderr.strip().splitlines()[-1]
    for part in parts:
        assert part in line, line
    assert not Path("again").exists()


def test_the_same_lock_gives_the_same_bytes(lock: Path, tmp_path: Path) -> None:
    result = rebuild("--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["locked"] == {"path": "out", "same": True, "differences": []}
    one, other = (json.loads((tmp_path / name / "edgeq.lock").read_text()) for name in ("out", "again"))
    assert one == other
    assert set(one["files"]) == {
        path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(("report.", "edgeq."))
    }
    assert one["config"]["seed"] == 3
    assert one["stages"]["synthesize"] == {"threads": 1, "device": "cpu"}
    assert one["evaluation"]["images"] == 24
    assert one["model"]["checkpoint"]["name"] == "tiny.safetensors"
    assert "python" in one["packages"]
    assert {"torch", "onnxruntime", "ai-edge-litert"} <= set(one["packages"])


@pytest.mark.usefixtures("lock")
def test_other_bytes_are_named_and_nothing_is_written(edit: Edit) -> None:
    def other(contents: dict[str, Any]) -> None:
        for name in ("model.tflite", "integer.safetensors"):
            contents["files"][name]["sha256"] = "0" * 64

    edit(other)
    result = rebuild("--json")
    refused(result, 1, "not the bytes of out/edgeq.lock", "integer.safetensors is another")
    told = json.loads(result.stdout)["locked"]
    assert told["same"] is False
    assert [line.split()[0] for line in told["differences"]] == ["integer.safetensors", "model.tflite"]


@pytest.mark.usefixtures("lock")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda lock: lock["model"].update(weights_sha256="0" * 64), "model.weights_sha256"),
        (lambda lock: lock["model"].update(graph_sha256="0" * 64), "model.graph_sha256"),
        (lambda lock: lock["packages"].update(torch="1.0"), "packages.torch: '1.0' against"),
        (lambda lock: lock["packages"].update(elsewhere="1.0"), "packages.elsewhere"),
        (lambda lock: lock["target"].update(kernels="other"), "target.kernels"),
        (lambda lock: lock["platform"].update(flags=["sve"]), "platform.flags"),
        (lambda lock: lock["evaluation"].update(sha256="0"), "evaluation.sha256"),
        (lambda lock: lock.update(code_sha256="0"), "code_sha256"),
        (lambda lock: lock["stages"]["synthesize"].update(device="tpu"), "ran on tpu"),
        (lambda lock: lock["config"].update(seed=-1), "seed -1"),
        (lambda lock: lock["config"].update(colour="red"), "setting 'colour'"),
        (lambda lock: lock.pop("stages"), "stages is missing"),
        (lambda lock: lock.update(files={"a": 1}), "files['a'] must be an object"),
        (lambda lock: lock.update(schema=99), "not a lock of schema"),
    ],
)
def test_what_differs_before_the_build_is_named_and_no_work_is_done(
    edit: Edit, change: Callable[[dict[str, Any]], Any], named: str
) -> None:
    edit(change)
    refused(rebuild(), 2, named)
    assert not Path("other").exists()


@pytest.mark.usefixtures("lock")
def test_the_command_line_may_not_ask_for_something_else() -> None:
    refused(rebuild("--seed", "4"), 2, "--seed 4", "says 3")
    assert rebuild("--seed", "3", "--plan").exit_code == 0


@pytest.mark.usefixtures("lock")
def test_what_only_a_lock_names_is_not_imported(edit: Edit, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(ran)!r}, 'w')\ndef make(): ...\n")
    for model in ("evil.py:make", "model.toml", "evil:make", "."):
        edit(lambda lock, model=model: lock["config"].update(model=model))
        refused(rebuild(model=""), 2, "what only a lock names is not imported", "name MODEL")
    for key, value in (("evaluation", "evil.py:make"), ("method", "images:evil.py:make")):
        edit(lambda lock, key=key, value=value: lock["config"].update({"method": "noise", key: value}))
        refused(rebuild(), 2, "what only a lock names is not imported", f"--{key}")
    assert not ran.exists()


def test_inputs_may_lie_elsewhere(config: BuildConfig, tmp_path: Path) -> None:
    build(replace(config, method="noise", weights=str(tmp_path / "tiny.safetensors")))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tiny.safetensors").rename(tmp_path / "elsewhere" / "w.safetensors")
    assert rebuild().exit_code == 2
    result = rebuild("--weights", "elsewhere/w.safetensors", "--quiet")
    assert (result.exit_code, result.output) == (0, ""), result.stderr
