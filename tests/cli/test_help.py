"""Help: examples first, every verb in a section, near misses answered, and completion in three shells."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.shell_completion import ShellComplete
from console import one_line, run

from edgeq.cli import cli


def _verbs(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from _verbs(command, (*path, name))
        yield (*path, name)


VERBS = sorted(_verbs())


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_examples_stand_first_and_use_options_that_exist(verb: tuple[str, ...]) -> None:
    command: click.Command | None = cli
    for name in verb:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    assert command is not None
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    assert paragraphs[1].startswith("\b\n"), "the second paragraph holds the examples"
    examples = [line for line in paragraphs[1].splitlines()[1:] if line.strip()]
    assert examples
    for line in examples:
        words = shlex.split(line.replace('eval "$(', "").replace(')"', ""), comments=True)
        assert words[: 1 + len(verb)] == ["edgeq", *verb], line
        if not isinstance(command, click.Group):
            known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
            assert {word.split("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)} <= known, line


def test_the_first_page_groups_verbs_by_what_one_does() -> None:
    text = run("--help").stdout
    headings = re.findall(r"^(\w+):$", text, re.MULTILINE)
    assert headings == ["Options", "Make", "Check", "Look", "Devices", "Environment"]
    listed = re.findall(r"^  ([a-z]+)  ", text, re.MULTILINE)
    assert {name for name, *rest in VERBS if not rest} <= set(listed)
    assert "CNN" not in text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["buidl"], "'build'"),
        (["device", "provison", "local"], "'provision'"),
        (["build", "--tagret", "tflite-arm"], "--target"),
        (["verify", "build/x", "--roundin", "tflite"], "--rounding"),
        (["build", "--target", "tflite-amr", "--plan"], "did you mean 'tflite-arm'?"),
        (["build", "--method", "gznk", "--plan"], "did you mean 'gznq'?"),
        (["build", "--effort", "bestt", "--plan"], "did you mean 'best'?"),
        (["build", "--observer", "msse", "--plan"], "did you mean 'mse'?"),
        (["build", "signs-mobilnetv2", "--plan"], "did you mean 'signs-mobilenetv2'?"),
        (["device", "probe", "emulater:cortex-a72"], "did you mean 'emulator:cortex-a72'?"),
        (["device", "probe", "locl"], "did you mean 'local'?"),
        (["device", "probe", "adb;R58"], "adb:SERIAL"),
        (["completion", "bsh"], "'bash'"),
        (["explain", "E2211"], "did you mean E221?"),
    ],
    ids=" ".join,
)
def test_a_near_miss_is_answered(typed: list[str], meant: str) -> None:
    result = run(*typed)
    assert result.exit_code in (2, 4)
    assert meant in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_EDGEQ_COMPLETE={shell}_complete" in result.stdout


@pytest.mark.parametrize(
    ("words", "begun", "offered"),
    [
        ([], "bui", "build"),
        (["build"], "--targ", "--target"),
        (["build", "--target"], "tflite-a", "tflite-arm"),
        (["build", "--effort"], "b", "best"),
        (["build"], "signs-m", "signs-mobilenetv2"),
        (["device"], "pro", "provision"),
        (["verify", "--rounding"], "on", "onnxruntime"),
        (["explain"], "e22", "E221"),
    ],
    ids=str,
)
def test_values_are_completed(words: list[str], begun: str, offered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_IMAGE", "3")  # a misspelt variable must not spoil what the shell shows
    found = ShellComplete(cli, {}, "edgeq", "_EDGEQ_COMPLETE").get_completions(words, begun)
    assert offered in [item.value for item in found]


def test_completion_works_as_a_shell_calls_it() -> None:
    environment = {**os.environ, "_EDGEQ_COMPLETE": "bash_complete", "COMP_WORDS": "edgeq chec", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-m", "edgeq"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "plain,check\n")


def test_a_choice_that_is_wrong_lists_the_choices() -> None:
    one_line(run("build", "--task", "classfication", "--plan"), 2, "did you mean 'classification'?", "[E202]")
