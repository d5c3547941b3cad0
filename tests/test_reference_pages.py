"""Pages that are written from the code say what the code says."""

from __future__ import annotations

import inspect

import pytest

import edgeq
from edgeq.config.build import VARIABLES, Budget, BuildConfig, settings_of
from tools import reference


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_page_is_what_the_code_says(name: str) -> None:
    assert reference.written(name) == reference.document(name), "run: python tools/reference.py"


def test_every_key_of_a_model_file_has_a_meaning_and_no_other() -> None:
    tables = {table: inspect.signature(kind).parameters for table, kind in reference.TABLES.items()}
    keys = {f"{table}.{name}" for table, parameters in tables.items() for name in parameters}
    assert set(reference.MEANINGS) == keys | {"name"}


def test_the_pages_name_every_setting_command_and_function() -> None:
    settings, commands, api = (reference.document(f"{n}.md") for n in ("settings", "command-line", "python-api"))
    for kind in (BuildConfig, Budget):
        for name, setting in settings_of(kind).items():
            assert f"| `{name}` |" in settings
            assert f"`{setting.variable}`" in settings
    assert all(f"`{name}`" in settings for name in VARIABLES)
    assert all(f"## {path}\n" in commands for path, _ in reference.commands(reference.cli, "edgeq"))
    assert "## edgeq device provision\n" in commands
    assert all(f"### edgeq.{name}\n" in api for name in edgeq.__all__)
