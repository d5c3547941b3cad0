"""Limits that hold for every file of a stranger's, and the one variable that replaces them."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq.config.tomlfile import read_toml
from edgeq.config.typed import Number, read
from edgeq.errors import ArtifactError, ConfigError
from edgeq.limits import TEXT, check_regular, check_unpacked, read_bytes, read_json, read_text


def test_only_regular_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket has 100 characters at most
    (tmp_path / "a").write_text("ü")
    assert (check_regular("a"), read_text("a")) == (2, "ü")
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    for path, kind in (("fifo", "a FIFO"), ("socket", "a socket"), ("/dev/zero", "a device"), (".", "a folder")):
        for reader in (read_bytes, read_text, read_json, read_toml):
            with pytest.raises(ArtifactError, match=f"it is {kind}"):
                reader(Path(path))
    with pytest.raises(FileNotFoundError):
        read_bytes("gone")


def test_a_text_has_a_limit_that_the_user_may_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "a.toml").open("wb") as file:
        file.truncate(TEXT + 1)
    with pytest.raises(ArtifactError, match=r"has 64.0 MiB: the limit is 64.0 MiB.*EDGEQ_LARGEST_FILE=1Gi"):
        read_toml(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text("a = 1\n")
    monkeypatch.setenv("EDGEQ_LARGEST_FILE", "5")
    with pytest.raises(ArtifactError, match="the limit is"):
        read_toml(tmp_path / "b.toml")
    monkeypatch.setenv("EDGEQ_LARGEST_FILE", "6")
    assert read_toml(tmp_path / "b.toml") == {"a": 1}


def test_small_files_may_grow_to_a_quarter_of_a_gigabyte_and_large_ones_a_hundredfold() -> None:
    check_unpacked("a", 256 * 2**20, 10)
    with pytest.raises(ArtifactError, match=r"the limit is 256\.0 MiB"):
        check_unpacked("a", 256 * 2**20 + 1, 10)
    check_unpacked("a", 10**9, 10**7)
    with pytest.raises(ArtifactError, match=r"a unpacks to 5\.8 GiB: the limit is 572\.2 MiB"):
        check_unpacked("a", 6_200_000_000, 6_000_000)
    check_unpacked("a", 8 * 2**30, 8 * 2**30)
    with pytest.raises(ArtifactError, match=r"the limit is 8\.0 GiB"):
        check_unpacked("a", 8 * 2**30 + 1, 8 * 2**30)


@dataclass
class Numbers:
    a: list[Number]


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = [1" + "0" * 400 + "]", "a = [1e999]", "a = [nan]"])
def test_toml_that_no_one_means(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError):
        read(read_toml(tmp_path / "a.toml"), Numbers, "a.toml")


def test_json_nested_too_deeply_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "a.json")
