"""`edgeq cache`: what finished stages take, and how to be rid of them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli.options import AMOUNT, config_option
from edgeq.cli.shell import columns, echo, print_json
from edgeq.config.build import resolve
from edgeq.errors import ConfigError

if TYPE_CHECKING:
    from edgeq.cache import CacheEntry

__all__ = ["cache"]

DAY = 86_400.0


@click.command()
@click.option("--clear", "clearing", is_flag=True, help="remove what is kept; builds then make it again")
@click.option(
    "--older-than",
    "days",
    type=AMOUNT,
    metavar="DAYS",
    help="with --clear: what no build used for so long",
)
@click.option("--cache", "folder", metavar="PATH", help="the folder [default: that of builds here]")
@config_option
@click.option("--json", "as_json", is_flag=True, help="print as JSON on standard output")
def cache(clearing: bool, days: float | None, folder: str | None, file: Path | None, as_json: bool) -> None:
    """Show what finished and interrupted stages take on the disk, or remove them.

    \b
    edgeq cache
    edgeq cache --clear --older-than 30

    Nothing is removed by itself. Checkpoints that changed within the last hour stay: a build may be at work on them.
    """
    if days is not None and not clearing:
        raise ConfigError("--older-than", why="says what --clear removes", hint="edgeq cache --clear --older-than 30")
    where = resolve({"cache": folder}, os.environ, file).config.cache
    from edgeq.cache import clear, contents  # loads numpy, which help does without

    if folder is not None and not where.is_dir():
        raise ConfigError(f"--cache {where}", why="there is no such folder", hint="name the one that builds were given")
    kept = contents(where)
    shared = _shared()
    gone = clear(kept, (days or 0.0) * DAY) if clearing else []
    left = [one for one in kept if one not in gone]
    if as_json:
        print_json(_facts(where, left, gone if clearing else None) | ({"shared": shared} if shared else {}))
        return
    if clearing:
        echo(f"removed {_amount(gone)}")
    echo(f"{where}: {_amount(left)}")
    if left:
        columns([["stage", "entries", "MB", "last used"], *_rows(left)])
    if shared:
        echo(
            f"{shared['address']}: {shared['entries']} shared, {shared['bytes'] / 1e6:.1f} MB; never cleared from here"
        )


def _shared() -> dict[str, Any] | None:
    """What the shared store holds, where there is one. Raises `EdgeqError` where it does not answer."""
    from edgeq.store import Bucket, is_address

    address = os.environ.get("EDGEQ_CACHE", "")
    if not is_address(address):
        return None
    store = Bucket(address)
    sizes = store.sizes("blobs").values()
    return {"address": store.address, "entries": len(store.sizes("entries")), "bytes": sum(sizes)}


def _facts(where: Path, left: Sequence[CacheEntry], gone: Sequence[CacheEntry] | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "folder": str(where),
        "bytes": sum(one.bytes for one in left),
        "entries": [
            {
                "name": one.path.name,
                "stage": one.stage,
                "finished": one.finished,
                "bytes": one.bytes,
                "used": datetime.fromtimestamp(one.used, timezone.utc).isoformat(timespec="seconds"),
            }
            for one in left
        ],
    }
    if gone is not None:
        facts["removed"] = {"entries": len(gone), "bytes": sum(one.bytes for one in gone)}
    return facts


def _amount(kept: Sequence[CacheEntry]) -> str:
    count = f"{len(kept)} {'entry' if len(kept) == 1 else 'entries'}"
    return f"{count}, {_megabytes(kept)} MB" if kept else count


def _megabytes(kept: Sequence[CacheEntry]) -> str:
    return f"{sum(one.bytes for one in kept) / 1e6:.1f}"


def _rows(kept: Sequence[CacheEntry]) -> list[list[str]]:
    now = time.time()
    stages: dict[str, list[CacheEntry]] = {}
    for one in kept:
        stages.setdefault(one.stage if one.finished else f"{one.stage}, unfinished", []).append(one)
    return [
        [stage, str(len(ones)), _megabytes(ones), _ago(min(one.age(now) for one in ones))]
        for stage, ones in stages.items()
    ]


def _ago(seconds: float) -> str:
    for unit, length in (("days", DAY), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
