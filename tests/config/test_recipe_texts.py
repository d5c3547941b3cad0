"""Recipes: what their texts and tables say, and mistakes that name the setting."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgeq.config.build import BuildConfig, resolve
from edgeq.config.recipe import recipe_tables, recipe_toml, replaced, tables
from edgeq.config.typed import Count, Share
from edgeq.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    flip: bool = True


@dataclass(frozen=True)
class Made:
    steps: Count = 3
    part: Share = 0.25
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = field(default_factory=Inner)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_texts_say_tables_and_the_last_counts() -> None:
    given = ("made.steps=4", "made.inner.rate = 0.1", "made.sizes=[3]", "made.word=equal", "made.steps=5")
    assert tables(given) == {"made": {"steps": 5, "inner": {"rate": 0.1}, "sizes": [3], "word": "equal"}}


def test_a_printed_recipe_is_read_back() -> None:
    Path("recipe.toml").write_text(recipe_toml({"made": recipe_tables(Made(steps=7, inner=Inner(rate=0.1)))}))
    config = resolve({"recipe": ("recipe.toml",)}, {}).config
    assert replaced(Made(), tables(config.recipe)["made"], "recipe made") == Made(steps=7, inner=Inner(rate=0.1))
    assert "made.inner.rate=0.1" in config.recipe  # the settings themselves, for a lock that knows no file
    again = resolve({"recipe": config.recipe}, {}).config
    assert again.recipe == config.recipe


def test_edgeq_toml_holds_tables() -> None:
    Path("edgeq.toml").write_text("[recipe.gznq]\nfine = 60\npull = {rate = 0.1}\n")
    assert resolve({}, {}).config.recipe == ("gznq.fine=60", "gznq.pull.rate=0.1")


def test_the_command_line_says_the_same_again() -> None:
    words = BuildConfig(model="net", recipe=("gznq.fine=60",)).arguments()
    assert words[-2:] == ["--recipe", "gznq.fine=60"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"stepz": 1}, "unknown key 'stepz' at recipe made (did you mean 'steps'?)"),
        ({"steps": -1}, "steps = -1 at recipe made: must be an integer of at least 0"),
        ({"steps": 1.5}, "steps = 1.5"),
        ({"part": 2}, "part = 2 at recipe made: must be a number from 0 to 1"),
        ({"part": "half"}, "part = 'half'"),
        ({"inner": 3}, "inner = 3 at recipe made: must be a table"),
        ({"inner": {"rate": "fast"}}, "rate = 'fast' at recipe made [inner]: must be a number"),
        ({"inner": {"rates": 1}}, "unknown key 'rates' at recipe made [inner]"),
    ],
)
def test_what_is_no_setting_is_named(table: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        replaced(Made(), table, "recipe made")
    assert words in str(raised.value)


@pytest.mark.parametrize("text", ["=1", "steps=1", "made.=1", ".a=1", "a.b.c.d=1", "a..b=1"])
def test_what_says_no_setting_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"must be METHOD\.SETTING=VALUE"):
        resolve({"recipe": (text,)}, {})


def test_a_setting_is_no_table_and_the_other_way_round() -> None:
    with pytest.raises(ConfigError, match="is a number elsewhere"):
        tables(("made.inner=3", "made.inner.rate=1"))


@pytest.mark.parametrize(
    "contents", ["fine = 3\n", "[gznq.pull.rate.deep]\na = 1\n", '[gznq]\n"a.b" = 1\n', "not toml"]
)
def test_files_of_something_else_are_refused(contents: str) -> None:
    Path("recipe.toml").write_text(contents)
    with pytest.raises(ConfigError):
        resolve({"recipe": ("recipe.toml",)}, {})


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot read absent\.toml"):
        resolve({"recipe": ("absent.toml",)}, {})
