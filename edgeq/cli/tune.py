"""`edgeq tune`: the smallest build that keeps a promise."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgeq.cli.options import AMOUNT, config_option, say_file, settings_options
from edgeq.cli.shell import columns, echo, print_json, say
from edgeq.config.build import BuildConfig, resolve, settings_of
from edgeq.config.settings import parse_size, toml_value
from edgeq.errors import ArtifactError, ConflictError
from edgeq.threads import one_operation_at_a_time

__all__ = ["tune"]

# What says where a build goes and how it is measured has no part in the search; the bits of layers are what is sought.
_UNUSED = (
    "model", "output", "bench_threads", "eval_limit", "devices", "strict", "force", "metadata", "finetune", "precision",
    "show_images",
)  # fmt: skip

SHARE = click.FloatRange(0, 1)


class _Size(click.ParamType):  # type: ignore[type-arg]
    """Bytes, as ``300k`` or ``4M``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return value if isinstance(value, int) else int(parse_size(str(value), "--max-bytes"))


@click.command()
@click.argument("model", required=False)
@click.option(
    "--max-drop", type=AMOUNT, metavar="POINTS", help="most answers of a classifier that may change, in points"
)
@click.option("--min-agreement", type=SHARE, metavar="SHARE", help="the same as a share: answers that stay as in float")
@click.option("--min-snr-db", type=AMOUNT, metavar="DB", help="smallest signal to noise of the outputs, in decibels")
@click.option("--max-bytes", type=_Size(), metavar="SIZE", help="largest file, e.g. 300k or 4M")
@click.option(
    "--write",
    "place",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="write the choice as settings that edgeq build --config takes",
)
@settings_options(BuildConfig, skip=tuple(name for name in settings_of(BuildConfig) if name in _UNUSED))
@config_option
@click.option("--json", "as_json", is_flag=True, help="print the search as JSON on standard output")
@click.option("--quiet", "-q", is_flag=True, help="no progress")
@click.pass_context
def tune(
    ctx: click.Context,
    /,
    model: str | None,
    max_drop: float | None,
    min_agreement: float | None,
    min_snr_db: float | None,
    max_bytes: int | None,
    place: Path | None,
    file: Path | None,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Find the smallest build of MODEL that keeps a promise: exit 0 when there is one, 1 when there is none.

    \b
    edgeq tune net.py:make --weights net.pth --max-drop 1.0
    edgeq tune resnet20/model.toml --min-agreement 0.97 --max-bytes 200k --write tuned.toml

    Chooses layer by layer between weights of 8 and of 4 bits, and 16-bit values where 8 do not suffice and the target
    has them. --write leaves the choice as settings for edgeq build --config. Reads no evaluation image: the promise is
    held on synthetic images that calibrated nothing, so it is about answers that stay as in float, not about labels.
    --evaluation with edgeq build then measures the real score.
    """
    from edgeq.cli.progress import progress
    from edgeq.model.modeltoml import DEFAULT_MODEL  # loads numpy, which help does without

    if place is not None and (place.is_dir() or place.exists()):
        raise ArtifactError(f"cannot write {place}", why="it is there already", hint="name another file")
    effective = resolve({**flags, "model": model}, os.environ, file)
    say_file(effective, file)
    config = effective.config
    if config.model is None:
        say(f"edgeq: no MODEL and no model in edgeq.toml: tuning the shipped default, {DEFAULT_MODEL}")
        config = dataclasses.replace(config, model=DEFAULT_MODEL)
    (config, *others) = config.split()
    if others:
        raise ConflictError("several targets", hint="tune one after the other")
    with progress(quiet) as shown:
        shown.stage("load")
        from edgeq.pipeline.tune import Promise
        from edgeq.pipeline.tune import tune as run_tune

        one_operation_at_a_time()
        found = run_tune(config, Promise(max_drop, min_agreement, min_snr_db, max_bytes), shown)
    if place is not None:
        _write(place, config, found["choice"]["config"])
    if as_json:
        print_json(found)
    else:
        _show(found)
    ctx.exit(0 if found["kept"] else 1)


def _write(place: Path, config: BuildConfig, changes: Mapping[str, Any]) -> None:
    """The settings of the choice, those that are no defaults, as an edgeq.toml."""
    from edgeq.files import write_atomic

    chosen = dataclasses.replace(config, **changes)
    values = {name: (getattr(chosen, name), setting.default) for name, setting in settings_of(BuildConfig).items()}
    lines = [
        f"{name} = {toml_value(value)}"
        for name, (value, default) in values.items()
        if value is not None and name != "cache" and (value != default or name in ("model", "targets", "bits"))
    ]
    write_atomic(place, "# Chosen by edgeq tune.\n" + "\n".join(lines) + "\n")


def _show(found: Mapping[str, Any]) -> None:
    rows = [["tried", "bytes", "dB", "as float", ""]]
    for one in found["tried"]:
        same = "-" if one["same_answers"] is None else f"{one['same_answers']:.1%}"
        chosen = "chosen" if one["what"] == found["choice"]["what"] else "front" if one["front"] else ""
        rows.append([one["what"], f"{one['bytes']:,}", f"{one['answers_db']:.1f}", same, chosen])
    columns(rows)
    choice = found["choice"]
    if found["kept"]:
        echo(f"kept on {found['measured_on']}: {choice['what']}, {choice['bytes']:,} bytes")
    else:
        echo(f"cannot keep it; the nearest on {found['measured_on']}: {choice['what']}, {choice['bytes']:,} bytes")
    echo(choice["command"])
