"""`edgeq doctor`: real runtimes, variables in force, and an exit status that says whether builds can work."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from console import run

from edgeq.errors import NoRuntimeError
from edgeq.pipeline import doctor, selftest

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runtimes that answer at once: the real ones have a test of their own."""
    monkeypatch.setattr(selftest, "try_runtime", lambda name: selftest.Answer(f"{name} 1", "fast", 9, 9, True, True))


def _checks(*arguments: str, status: int = 0) -> list[dict[str, Any]]:
    result = run("doctor", "--json", *arguments)
    assert result.exit_code == status, result.stdout
    found = json.loads(result.stdout)
    assert found["passed"] == (status == 0)
    return list(found["checks"])


@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_runtimes_compute_a_small_network(name: str) -> None:
    answer = selftest.try_runtime(name)
    assert answer.held
    assert answer.answered
    assert 0 < answer.equal <= answer.values


@pytest.mark.usefixtures("quick")
def test_every_topic_has_a_line_and_every_trouble_a_next_step() -> None:
    checks = _checks()
    topics = {"python", "packages", "torch", "runtimes", "cores", "memory", "disk", "settings"}
    assert topics <= {check["topic"] for check in checks}
    assert all(check["then"] for check in checks if check["state"] != "ok")
    text = run("doctor").stdout
    assert "runtimes  TFLite: tflite 1, kernels fast, 9 of 9 integers equal the reference" in text


@pytest.mark.usefixtures("quick")
def test_variables_are_listed_and_misspelt_ones_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_SEED", "3")
    monkeypatch.setenv("EDGEQ_IMAGE", "3")  # every other command refuses to start with it
    lines = {check["what"]: check for check in _checks() if check["topic"] == "settings"}
    assert lines["EDGEQ_SEED=3"]["state"] == "ok"
    wrong = lines["EDGEQ_IMAGE is none of edgeq's variables"]
    assert (wrong["state"], "EDGEQ_IMAGES" in wrong["then"]) == ("warn", True)
    assert "[E211]" in run("targets").stderr


@pytest.mark.usefixtures("quick")
def test_a_broken_settings_file_and_a_folder_that_is_a_file_are_told() -> None:
    Path("edgeq.toml").write_text('cache = "taken"\n')
    Path("taken").write_text("")
    assert any("cache folder" in check["what"] for check in _checks(status=2) if check["state"] == "fail")
    Path("edgeq.toml").write_text("bits = 3\n")
    failed = [check for check in _checks(status=2) if check["state"] == "fail"]
    assert failed
    assert all("edgeq.toml bits 3" in check["what"] and "[E200]" in check["what"] for check in failed)


def test_a_missing_runtime_fails_and_the_other_lines_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise NoRuntimeError("no TFLite runtime is installed")

    monkeypatch.setattr(selftest, "try_runtime", missing)
    checks = _checks(status=2)
    assert [check["state"] for check in checks if check["topic"] == "runtimes"] == ["fail", "fail"]
    assert any(check["topic"] == "memory" for check in checks)


def test_packages_are_held_to_their_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["numpy>=999", "edgeq-no-such-package>=1", "click>=8", "timm>=1; extra == 'timm'"]
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    lines = [line for line in doctor.examine() if line.topic == "packages"]
    assert [line.state for line in lines[:2]] == ["fail", "fail"]
    assert lines[1].then == "pip install 'edgeq-no-such-package>=1'"
    assert not any("timm" in line.what for line in lines)


@pytest.mark.usefixtures("quick")
def test_a_device_is_only_asked_when_it_is_named() -> None:
    named = [check for check in _checks("--device", "nobody", status=2) if check["topic"] == "nobody"]
    assert "no device 'nobody'" in named[0]["what"]
