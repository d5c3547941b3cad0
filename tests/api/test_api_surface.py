"""What `import edgeq` offers and loads, and that it takes every option of the command line."""

import subprocess
import sys

import click
import pytest

import edgeq
import edgeq.api
from edgeq.cli import cli
from edgeq.cli.build import build
from edgeq.cli.check import check

HEAVY = ("torch", "numpy", "onnx", "onnxruntime", "ai_edge_litert", "PIL")


def flags(command: click.Command, shown_only: set[str]) -> set[str]:
    """The options of `command` as Python names them, without those that only say what is printed."""
    options = (parameter for parameter in command.params if isinstance(parameter, click.Option))
    names = {next(flag for flag in option.opts if flag.startswith("--")) for option in options}
    return {name[2:].replace("-", "_") for name in names} - shown_only


def loaded_by(statement: str) -> list[str]:
    """Modules that a fresh interpreter has after `statement`."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; before = set(sys.modules); {statement}; "
            "print(*sorted(set(sys.modules) - before), file=sys.stderr)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.split()


def test_importing_loads_next_to_nothing() -> None:
    modules = loaded_by("import edgeq")
    assert not {name.partition(".")[0] for name in modules} & {*HEAVY, "click", "rich", "jinja2"}
    assert sum(name.partition(".")[0] == "edgeq" for name in modules) <= 3  # the package and its errors


def test_help_loads_no_torch() -> None:
    modules = loaded_by("import edgeq.cli; edgeq.cli.cli(['--help'], standalone_mode=False)")
    assert not {name.partition(".")[0] for name in modules} & set(HEAVY)


def test_every_name_is_there() -> None:
    errors = {name for name in edgeq.__all__ if name.endswith("Error")}
    assert set(edgeq.__all__) - errors == set(edgeq.api.__all__)
    assert set(edgeq.__all__) <= set(dir(edgeq))
    for name in edgeq.__all__:
        assert getattr(edgeq, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        edgeq.quantise()


def test_finetune_is_the_function_whatever_was_imported() -> None:
    from edgeq.finetune import loop  # sets the subpackage as an attribute of its package

    assert loop.__name__ == "edgeq.finetune.loop"
    assert edgeq.finetune is edgeq.api.finetune


def test_a_build_takes_every_option_of_the_command_line() -> None:
    only_there = {"plan", "print_config", "print_recipe", "json", "quiet"}
    assert flags(build, only_there) == set(edgeq.BuildOptions.__annotations__)


def test_a_check_takes_every_option_of_the_command_line() -> None:
    only_there = {"json", "junit", "markdown"}
    assert flags(check, only_there) == set(edgeq.Limits.__annotations__)


@pytest.mark.parametrize(
    ("verb", "function", "shown_only"),
    [
        ("eval", "evaluate_on", {"json"}),
        ("bench", "bench", {"json", "html", "strict", "repeat"}),
        (
            "synth",
            "synthesize",
            {"json", "quiet", "config", "force", "images", "weights", "input_shape", "mean", "std", "task"},
        ),
    ],
)
def test_functions_take_the_options_of_their_commands(verb: str, function: str, shown_only: set[str]) -> None:
    import inspect

    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    taken = inspect.signature(getattr(edgeq, function)).parameters
    assert flags(command, shown_only) <= set(taken)
