"""Two builds never share one folder without being told to: names that collide are refused before any work."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.config.build import BuildConfig
from edgeq.config.resources import data_folder
from edgeq.config.targets import load_target
from edgeq.errors import ArtifactError, ConfigError
from edgeq.pipeline.build import build


@pytest.mark.parametrize("pair", [("a/x.toml", "b/x.toml"), ("a/x.toml", "b/X.toml"), ("onnx-arm", "a/onnx-arm.toml")])
@pytest.mark.parametrize("output", [None, Path("out")])
def test_two_targets_of_one_stem_are_refused(pair: tuple[str, str], output: Path | None) -> None:
    with pytest.raises(ConfigError, match="both would write into one folder"):
        BuildConfig(targets=pair, output=output).split()
    assert len(BuildConfig(targets=("a/x.toml", "b/y.toml")).split()) == 2


def targets(folder: Path) -> None:
    text = (data_folder("targets") / "tflite-arm.toml").read_text()
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "x.toml").write_text(text + ("" if name == "a" else "\nmetadata = false\n"))


def test_another_target_does_not_take_the_place_of_the_first(config: BuildConfig, tmp_path: Path) -> None:
    targets(tmp_path)
    config = replace(config, method="noise", output=None)
    build(replace(config, targets=("a/x.toml",)))
    before = (tmp_path / "build" / "tiny-x" / "edgeq.lock").read_bytes()
    with pytest.raises(ArtifactError, match="another network or target of the same name"):
        build(replace(config, targets=("b/x.toml",)))
    assert (tmp_path / "build" / "tiny-x" / "edgeq.lock").read_bytes() == before
    build(replace(config, targets=("a/x.toml",), seed=1))
    build(replace(config, targets=("b/x.toml",), output=tmp_path / "build" / "tiny-x"))  # asked for by name


def test_another_network_does_not_take_the_place_of_the_first(config: BuildConfig, tmp_path: Path) -> None:
    config = replace(config, method="noise", output=None)
    build(config)
    shutil.copytree(tmp_path, tmp_path / "second", ignore=shutil.ignore_patterns("build", "cache", "second"))
    build(replace(config, model="second/model.toml"))  # the same network from elsewhere
    with pytest.raises(ArtifactError, match="another network or target of the same name"):
        build(replace(config, model="model.toml", weights="random"))


@pytest.mark.parametrize("name", [".x", "-x", " x", "x\n", "x" * 100])
def test_a_target_s_name_must_fit_into_a_folder_s(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.toml"
    path.write_text((data_folder("targets") / "tflite-arm.toml").read_text())
    with pytest.raises(ConfigError, match="names a folder"):
        load_target(str(path))
