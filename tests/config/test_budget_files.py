"""Budgets: limits of all builds and of single ones, from two files with the same keys, and where each was set."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.config.budget import Budgets, read_budgets
from edgeq.config.build import Budget
from edgeq.errors import ConfigError

EVERYWHERE = """
max_drop = 1.0
max_bytes = "4M"
[builds."net-*"]
max_drop = 2
[builds.net-onnx-x86]
max_drop = 3
max_bytes = "off"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def budgets(text: str = "", config: str | None = None, **flags: object) -> Budgets:
    """What budget.toml holding `text`, edgeq.toml holding `config` and `flags` say."""
    if text:
        Path("budget.toml").write_text(text)
    if config is not None:
        Path("edgeq.toml").write_text(config)
    return read_budgets(flags, {}, None if config is None else Path("edgeq.toml"), None)


def test_a_build_s_own_table_comes_before_the_defaults_and_its_last_match_counts() -> None:
    read = budgets(EVERYWHERE)
    assert read.of("other")[0] == Budget(max_drop=1.0, max_bytes=4_000_000)
    assert read.of("net-tflite-arm")[0] == Budget(max_drop=2.0, max_bytes=4_000_000)
    assert read.of("net-onnx-x86")[0] == Budget(max_drop=3.0)


def test_both_files_have_the_same_keys() -> None:
    nested = EVERYWHERE.replace("[builds.", "[budget.builds.")
    read = budgets(config=f'model = "net.toml"\n[budget]{nested}')
    assert read.of("net-onnx-x86")[0] == Budget(max_drop=3.0)
    assert read.of("other")[1] == {"max_drop": "edgeq.toml [budget]", "max_bytes": "edgeq.toml [budget]"}


def test_precedence_and_where_each_limit_was_set() -> None:
    Path("budget.toml").write_text("max_drop = 1\nmin_images = 7\n[builds.net]\nmax_mae = 5")
    config = "[budget]\nmax_drop = 2\nmax_error = 3\n[budget.builds.net]\nmax_mae = 6\nmin_images = 9"
    Path("edgeq.toml").write_text(config)
    read = read_budgets({"max_bytes": "1k"}, {"EDGEQ_MIN_COSINE": "0.5"}, Path("edgeq.toml"), None)
    budget, origin = read.of("net")
    assert budget == Budget(max_drop=1, min_images=9, max_error=3, max_mae=5, max_bytes=1000, min_cosine=0.5)
    assert origin == {
        "max_bytes": "--max-bytes",
        "min_cosine": "EDGEQ_MIN_COSINE",
        "max_mae": 'budget.toml [builds."net"]',
        "min_images": 'edgeq.toml [budget.builds."net"]',
        "max_drop": "budget.toml",
        "max_error": "edgeq.toml [budget]",
    }


def test_a_table_that_is_about_no_build_is_known() -> None:
    assert budgets(EVERYWHERE).unmatched(["net-tflite-arm"]) == ['budget.toml [builds."net-onnx-x86"]']


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_dorp = 1", "unknown key 'max_dorp' at budget.toml (did you mean 'max_drop'?)"),
        ("[builds.net]\nmax_dorp = 1", "unknown key 'max_dorp' at budget.toml [builds.\"net\"]"),
        ("[builds.net]\nmax_drop = 'much'", "budget.toml [builds.\"net\"] max_drop 'much': must be a number"),
        ("builds = 3", "3 at budget.toml [builds]: must be a table"),
        ("[builds]\nnet = 3", '3 at budget.toml [builds."net"]: must be a table'),
        ("max_drop = -1", "budget.toml max_drop -1: must be"),
        ("max_drop = nan", "must be a number of at least 0"),
        ("max_drop = ", "budget.toml is not valid TOML"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        budgets(text)
    assert said.split(" (did")[0] in str(caught.value)


def test_a_file_that_was_named_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"cannot read other\.toml"):
        read_budgets({}, {}, None, Path("other.toml"))
