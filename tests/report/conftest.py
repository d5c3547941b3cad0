"""A build as the report sees it, made of the real pieces with made-up numbers."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.report.fakebuild import sample, write_build


@pytest.fixture
def report() -> Callable[..., dict[str, Any]]:
    return sample


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Writes a finished build and gives its folder; a callable may spoil the report first."""
    return functools.partial(write_build, tmp_path)


@pytest.fixture
def png() -> bytes:
    return picture()


def picture() -> bytes:
    """A contact sheet of coloured tiles."""
    rng = np.random.default_rng(1)
    tiles = rng.integers(0, 255, (8, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.kron(tiles, np.ones((20, 20, 1), np.uint8))).save(buffer, "PNG")
    return buffer.getvalue()
