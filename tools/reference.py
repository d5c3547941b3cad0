"""Write the pages of docs/reference/ that are made from the code.

python tools/reference.py            writes every page that is out of date
python tools/reference.py --check    only says which are; exit code 1 if there are any
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import edgeq
from edgeq.cli import cli
from edgeq.config.build import VARIABLES, Budget, BuildConfig, settings_of
from edgeq.config.targets import targets
from edgeq.model import modeltoml, tasks

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
MADE = "This page is written by `python tools/reference.py`."


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; a bar inside a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return ["", *("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines), ""]


# The command line


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command below `group` with the words that call it."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        elif command is not None:
            yield f"{path} {name}", command


def command_line() -> str:
    lines = ["# Command line", "", f"{MADE} The option `--help` of a command prints the same.", ""]
    for path, command in commands(cli, "edgeq"):
        context = click.Context(command, info_name=path, terminal_width=120)
        lines += [f"## {path}", ""]
        examples, prose = _help(command)
        lines += [*prose, "", "```text", command.get_usage(context).removeprefix("Usage: "), "```", ""]
        if examples:
            lines += ["```sh", *examples, "```", ""]
        options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
        rows = [(_flags(option), *_meaning(option, context)) for option in options]
        lines += table(("option", "meaning", "default"), rows) if rows else []
    return "\n".join(lines)


def _help(command: click.Command) -> tuple[list[str], list[str]]:
    """The example lines of a help text, and its paragraphs."""
    parts = re.split(r"\n\s*\n", inspect.cleandoc(command.help or "").replace("\f", ""))
    kept = [part.removeprefix("\b\n") for part in parts if part.startswith("\b\n")]
    typed = [part for part in kept if part.startswith("edgeq ")]
    examples = [line.rstrip() for part in typed for line in part.splitlines()]
    paragraphs = ["```text\n" + part + "\n```" for part in kept if part not in typed]
    prose = [_plain(" ".join(part.split())) for part in parts if not part.startswith("\b\n")]
    return examples, "\n\n".join([*prose, *paragraphs]).splitlines()


def _flags(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag or option.count:
        return names
    kind = option.type.name.removesuffix(" range").upper()
    return f"{names} `{option.metavar or {'FLOAT': 'NUMBER', 'INTEGER': 'N'}.get(kind, kind)}`"


def _meaning(option: click.Option, context: click.Context) -> tuple[str, str]:
    """The help text of an option, and its default, which may stand at the end of that."""
    text, _, default = (option.help or "").partition(" [default: ")
    extra = option.get_help_extra(context).get("default", "")
    return _plain(text), _plain(default.removesuffix("]") or ("" if option.is_flag else str(extra)))


# Settings


def settings() -> str:
    lines = [
        "# Settings: edgeq.toml, budget.toml and environment variables",
        "",
        f"{MADE} A setting comes from the command line,",
        "else from its environment variable, else from `edgeq.toml`, else it has its default.",
        "`edgeq build --print-config` prints every setting and where it came from.",
        "",
        "edgeq looks for `edgeq.toml` in the working folder and above it, up to the root of the repository.",
        "Paths in it are relative to its folder. An unknown key is an error that suggests the nearest one.",
        "",
        "```toml",
        'model = "resnet20/model.toml"',
        'targets = ["tflite-pi5"]',
        'bits = "w8a8"',
        "[budget]",
        "max_drop = 1.0",
        "```",
        "",
        "## Settings of a build",
        "",
        "`target` and `device` may be written for one target or device. `[layer_bits]` and `[recipe]` may be tables.",
        *_rows(BuildConfig),
        "## Limits: [budget], or budget.toml",
        "",
        "`edgeq check` judges them. [The gate](../how-to/gate.md) says what each means, and how",
        "single builds get limits of their own.",
        *_rows(Budget),
        "## Other environment variables",
        *table(("variable", "meaning"), [(f"`{name}`", _plain(text)) for name, text in VARIABLES.items()]),
    ]
    return "\n".join(lines)


def _rows(kind: type[BuildConfig] | type[Budget]) -> list[str]:
    rows = []
    for name, each in settings_of(kind).items():
        text, _, default = each.help.partition(" [default: ")
        flag = "MODEL" if name == "model" else each.flag
        value = default.removesuffix("]") or _value(each.default)
        rows.append((f"`{name}`", f"`{flag}`", f"`{each.variable}`", value, _plain(text)))
    return table(("key", "option", "variable", "default", "meaning"), rows)


def _value(default: Any) -> str:
    if default is None or default == ():
        return ""
    shown = ", ".join(default) if isinstance(default, tuple) else str(default).lower() if default is False else default
    return f"`{shown}`"


# model.toml

MEANINGS = {
    "name": "the network's name; it names folders and files",
    "network.factory": "the function that returns the network: `file.py:callable`, or `package.module:callable`",
    "network.weights": "its weights: a file of `torch.save` or safetensors, `FILE:KEY` of several in it",
    "network.arguments": "what the function is called with, by name",
    "input.shape": "`[channels, height, width]` of one image, or `[channels, length]` of one series",
    "input.mean": "mean of each channel in training, on the 0..1 scale",
    "input.std": "standard deviation of each channel in training, on the 0..1 scale",
    "input.resize": "pictures are first resized to this length of the short side",
    "input.crop": "then this many pixels are cut out of the middle",
    "output.task": "what the outputs mean; [tasks](../how-to/tasks.md) explains each",
    "output.classes": "number of classes; required but for regression and embedding",
    "output.labels": "names of the classes, or a file with one per line; written into the file for apps",
    "evaluation.images": "labelled images that measure accuracy, see [evaluation images](evaluation.md)",
    "segmentation.classes": "names of the classes of pixels, the background among them",
    "segmentation.ignore": "pixels of masks with this number are not judged",
    "detection.classes": "names of the classes, without the background",
    "detection.maps": "height and width of each map of anchors",
    "detection.sizes": "sides of the square anchors in pixels, a list for each map",
    "detection.score": "boxes with a smaller score do not count",
    "detection.overlap": "of two boxes of one class that overlap more, the better one stays",
    "detection.variances": "scales of the box numbers: of centres, of sizes",
    "detection (heads).classes": "names of the classes",
    "detection (heads).heads": "what the heads of the YOLO family hold",
    "detection (heads).strides": "pixels of the input for one cell of each map",
    "detection (heads).reg_max": "channels for each side of a box",
    "detection (heads).extra": "channels beside boxes and scores: of masks, or of an angle",
    "detection (heads).keypoints": "number of keypoints, and numbers for each",
    "detection (heads).end_to_end": "whether the network was trained to give each object one box",
    "detection (heads).plain": "whether box numbers are distances as they are",
    "detection (heads).score": "boxes with a smaller score do not count",
    "detection (heads).overlap": "of two boxes of one class that overlap more, the better one stays",
    "regression.names": "name of each value: all outputs in order, each flattened",
    "regression.units": "unit of each value, or one text for all",
}
"""What the keys of a model.toml say, by table and key; those of `[task]` by its kind."""

TABLES: Mapping[str, type] = {
    "network": modeltoml._Network,
    "input": modeltoml._Input,
    "output": modeltoml._Output,
    "evaluation": modeltoml._Evaluation,
    "segmentation": tasks.Segmentation,
    "detection": tasks.Detection,
    "detection (heads)": tasks.GridDetection,
    "regression": tasks.Regression,
}


def model_toml() -> str:
    lines = [
        "# model.toml",
        "",
        f"{MADE} A `model.toml` describes a network: its code,",
        "its weights, its input and what its outputs mean.",
        "[Your own network](../how-to/own-network.md) shows whole files. Paths are relative to the file's folder, and",
        "`${NAME}` stands for an environment variable. A `model.toml` names Python code that edgeq runs, so read a",
        "stranger's file before you build from it.",
        *table(("key", "type", "meaning"), [("`name`", "text", MEANINGS["name"])]),
    ]
    for name, kind in TABLES.items():
        if kind.__module__ == tasks.__name__:
            lines += [f"## [task] with kind = {name.split(' ')[0]}" + " and heads" * ("heads" in name), ""]
            lines += ["For " + ("the YOLO family." if "heads" in name else f"{name}.")]
        else:
            lines += [f"## [{name}]", ""]
        lines += table(("key", "type", "default", "meaning"), [_key(name, *field) for field in _fields(kind)])
    return "\n".join(lines)


def _fields(kind: type) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of each key; `inspect.Parameter.empty` where it is required."""
    hints = typing.get_type_hints(kind)
    for name, parameter in inspect.signature(kind).parameters.items():
        yield name, hints[name], parameter.default


def _key(table_name: str, name: str, kind: Any, default: Any) -> tuple[str, str, str, str]:
    if default is inspect.Parameter.empty:
        shown = "required"
    else:
        shown = f"`{_toml(default)}`" if isinstance(default, int | float | tuple) and default != () else ""
    return f"`{name}`", _type(kind), shown, MEANINGS[f"{table_name}.{name}"]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _type(kind: Any) -> str:
    """A type in words that somebody who writes TOML knows."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is typing.Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(part) for part in parts if part is not type(None)))
    if origin is tuple:
        several = parts[:1] if parts[-1] is Ellipsis else parts
        return "list of " + " and ".join(_several(_type(part)) for part in dict.fromkeys(several))
    if origin is dict:
        return "table"
    return {str: "text", int: "integer", float: "number", bool: "`true` or `false`"}[kind]


def _several(kind: str) -> str:
    """The plural of what `_type` says."""
    return kind if kind == "text" else re.sub(r"^(\w+)", r"\1s", kind)


# The Python API


def python_api() -> str:
    lines = [
        "# Python API",
        "",
        f"{MADE} [From Python](../how-to/python.md) shows how the functions are used together.",
        "",
    ]
    objects = {name: getattr(edgeq, name) for name in edgeq.__all__}
    functions = {name: each for name, each in objects.items() if inspect.isfunction(each)}
    errors = {n: e for n, e in objects.items() if isinstance(e, type) and issubclass(e, Exception)}
    others = {name: each for name, each in objects.items() if name not in functions and name not in errors}
    for title, group in (("Functions", functions), ("Types", others), ("Errors", errors)):
        lines += [f"## {title}", ""]
        for name, each in sorted(group.items()):
            lines += [f"### edgeq.{name}", "", *_signature(name, each), *_docstring(each), ""]
    return "\n".join(lines)


def _signature(name: str, each: Any) -> list[str]:
    if not inspect.isfunction(each):
        return []
    signature = inspect.signature(each)
    parameters = ",\n    ".join(_parameters(signature))
    short = f"{name}({parameters.replace(chr(10) + '    ', ' ')})"
    text = short if len(short) < 80 else f"{name}(\n    {parameters},\n)"
    returns = signature.return_annotation
    return ["```text", f"edgeq.{text} -> {returns}", "```", ""]


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    star = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            star = True
            yield "*"
        yield str(parameter).replace("'", "")


def _docstring(each: Any) -> list[str]:
    """The docstring as Markdown: `>>>` lines become a block of their own."""
    lines: list[str] = []
    example: list[str] = []
    for line in [*inspect.cleandoc(each.__doc__ or "").splitlines(), ""]:
        if line.startswith((">>> ", "... ")) or (example and line):
            typed = line.startswith((">>> ", "... "))
            example.append(line[4:] if typed else f"# {line}")
            continue
        if example:
            lines += ["```python", *example, "```"]
            example = []
        lines.append(_plain(line.replace("``", "`")))
    return lines


def _plain(text: str) -> str:
    """`text` with the signs escaped that Markdown would take for tags outside of code."""
    parts = text.split("`")
    return "`".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(parts))


# Targets


def target_list() -> str:
    rows = [(f"`{t.name}`", t.format, t.runtime, t.kernels, t.activations, t.description) for t in targets()]
    lines = [
        "# Targets that ship with edgeq",
        "",
        f"{MADE} [Targets](targets.md) explains the keys, and how to add one.",
    ]
    lines += table(("target", "format", "runtime", "kernels", "activations", "for"), rows)
    return "\n".join(lines)


PAGES: Mapping[str, Callable[[], str]] = {
    "command-line.md": command_line,
    "settings.md": settings,
    "model-toml.md": model_toml,
    "python-api.md": python_api,
    "target-list.md": target_list,
}


def document(name: str) -> str:
    """The text of a page, with one empty line at most between two others."""
    return re.sub(r"\n{3,}", "\n\n", PAGES[name]()).strip() + "\n"


def written(name: str) -> str:
    """What the file of a page holds now; nothing where there is none."""
    path = REFERENCE / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def main(words: list[str]) -> int:
    stale = [name for name in PAGES if written(name) != document(name)]
    for name in stale:
        print(f"docs/reference/{name}")
        if "--check" not in words:
            (REFERENCE / name).write_text(document(name), encoding="utf-8")
    return int(bool(stale) and "--check" in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
