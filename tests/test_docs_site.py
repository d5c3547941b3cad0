"""The documentation site builds, every link and anchor on it leads somewhere, and its picture is only a picture."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.picture import draw

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(importlib.util.find_spec("material") is None, reason="pip install -e '.[docs]'")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "site" / "how-to" / "bits.html").exists()
    assert (tmp_path / "site" / "repository" / "benchmarks" / "results" / "defaults.html").exists()


def test_the_picture_of_the_first_page_loads_nothing_and_runs_nothing() -> None:
    text = draw("\x1b[31mred\x1b[0m <script>&")
    root = ElementTree.fromstring(text)  # noqa: S314  # drawn here
    assert "red" in "".join(root.itertext())
    for svg in (text, (ROOT / "docs" / "build.svg").read_text(encoding="utf-8")):
        assert "<script" not in svg
        assert not re.search(r"@import|url\((?!#)|href=", svg)
        assert len(svg) < 40_000
