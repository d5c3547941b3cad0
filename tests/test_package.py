"""The wheel: it holds all that runs, and works where no repository is, with the packages of this environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.tinymodel import keep, made, model_toml

ROOT = Path(__file__).parent.parent
NETWORK = """
from torch import nn
def tiny():
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed").WheelBuilder
    (path,) = builder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("dist")), versions=["standard"])
    return Path(path)


def _files(folder: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_and_its_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    data = {f"edgeq/_data/{name}" for name in _files("targets") | _files("models")}
    assert names == _files("edgeq") | data


def test_the_wheel_works_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    keep(tmp_path, NETWORK, model_toml(evaluation=False), made(NETWORK))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def edgeq(*words: str) -> str:
        command = [sys.executable, "-m", "edgeq", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = subprocess.run(
        [sys.executable, "-c", "import edgeq; print(edgeq.__file__)"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert Path(place.stdout.strip()).is_relative_to(tmp_path / "site")
    assert "tflite-arm" in edgeq("targets")
    assert "signs-mobilenetv2" in edgeq("models")
    words = ("--method", "noise", "--images", "4", "--effort", "fast", "--output", "out", "--json", "--quiet")
    report = json.loads(edgeq("build", "model.toml", *words))
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0
    assert "Interpreter" in edgeq("use", "out")
    assert "Use it" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
