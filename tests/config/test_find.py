"""The settings file is found from anywhere in the project, and from nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeq.config.build import resolve
from edgeq.config.find import find_config


def inside(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = root / "src" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_settings_stand_above_and_paths_are_relative_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edgeq.toml").write_text('model = "net.toml"\nseed = 7\n')
    (tmp_path / "net.toml").touch()
    inside(tmp_path, monkeypatch)
    found = resolve({}, {})
    assert (found.config.seed, found.file) == (7, tmp_path / "edgeq.toml")
    assert found.config.model == str(tmp_path / "net.toml")
    assert found.config.cache == tmp_path / ".edgeq-cache"


def test_the_nearest_file_counts_and_one_here_keeps_its_short_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = inside(tmp_path, monkeypatch)
    (tmp_path / "edgeq.toml").write_text("seed = 1\n")
    (folder / "edgeq.toml").write_text("seed = 2\n")
    found = resolve({}, {})
    assert (found.config.seed, found.file, found.origin["seed"]) == (2, Path("edgeq.toml"), "edgeq.toml")


@pytest.mark.parametrize("border", ["repository", "home"])
def test_the_search_ends_at_a_repository_and_at_home(
    border: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edgeq.toml").touch()
    project = tmp_path / "project"
    folder = inside(project, monkeypatch)
    if border == "repository":
        (project / ".git").mkdir()
    else:
        monkeypatch.setenv("HOME", str(project))
    assert find_config(folder) is None
    (project / "edgeq.toml").touch()
    assert find_config(folder) == project / "edgeq.toml"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")
def test_a_file_of_somebody_else_above_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edgeq.toml").touch()
    folder = inside(tmp_path, monkeypatch)
    owner = (tmp_path / "edgeq.toml").stat().st_uid
    if owner == 0:
        pytest.skip("files of root are trusted")
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert find_config(folder) is None
