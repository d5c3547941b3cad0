"""What a person reads of a diagnosis: answers, causes, remedies with gain and cost, and the worst layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from edgeq.cli.terminal import console, join_styled

__all__ = ["show_diagnosis"]

LISTED = 10
"""Layers of the table, the worst first."""

WIDTH = 110


def show_diagnosis(found: Mapping[str, Any], *, every: bool) -> None:
    """Print what `edgeq.pipeline.diagnose.diagnose` returned; with `every` all layers in execution order."""
    out = console(width=WIDTH)
    out.print(join_styled((found["model"], "bold"), f", {found['bits']} for ", (found["target"], "bold")))
    verdict = ("sound", "bold green") if found["sound"] else ("loses", "bold yellow")
    out.print(join_styled(verdict, f"  {_answers(found)} on {found['images']} held-out synthetic images"))
    if found["without_finetuning"]:
        out.print(f"this is the network before {found['without_finetuning']} trains it")
    _show_calibration(found["calibration"])
    for cause in found["causes"]:
        out.print(
            join_styled((f"{cause['share']:4.0%}", "bold"), f"  {cause['where']}: {cause['kind']}; {cause['text']}")
        )
    out.print(_layers(found["layers"], every=every))
    for number, remedy in enumerate(found["remedies"], 1):
        out.print(join_styled((f"{number}. {remedy['why']}", "bold")))
        bytes_more = remedy["bytes"] - found["bytes"]
        out.print(f"   {_answers(remedy)}; {bytes_more:+,} bytes; {remedy['time']}")
        out.print(f"   {remedy['command']}", soft_wrap=True)
    if not found["remedies"] and not found["sound"]:
        out.print(f"no remedy: {found['tried']} were simulated, and none helps")


def _answers(of: Mapping[str, Any]) -> str:
    noise = f"answers at {of['answers_db']:.1f} dB"
    return noise if of["same_answers"] is None else f"{of['same_answers']:.0%} of answers as float, {noise}"


def _show_calibration(distances: Mapping[str, Any] | None) -> None:
    if distances is not None:
        unlike = "unlike: " * distances["unlike"]
        console(width=WIDTH).print(
            f"{unlike}calibration images are {distances['distance']:.2f} standard deviations from what batch norms "
            f"remember (held-out ones {distances['held_out_distance']:.2f}), most at {distances['worst']}"
        )


def _layers(rows: list[dict[str, Any]], *, every: bool) -> Table:
    table = Table(box=None, padding=(0, 1))
    for title in ("layer", "op", "bits", "weights dB", "output dB", "only it dB", "without it", "clipped", "channels"):
        table.add_column(title, justify="left" if title in ("layer", "op") else "right", overflow="fold")
    for row in rows if every else sorted(rows, key=lambda row: row["alone_db"])[:LISTED]:
        weights = "" if row["weights_db"] is None else f"{row['weights_db']:.1f}"
        bits = (
            f"a{row['activation_bits']}"
            if row["weight_bits"] is None
            else f"w{row['weight_bits']}a{row['activation_bits']}"
        )
        dead = f", {row['dead']} dead" if row["dead"] else ""
        table.add_row(
            row["name"],
            row["op"],
            bits,
            weights,
            f"{row['activation_db']:.1f}",
            f"{row['alone_db']:.1f}",
            f"-{row['spared_share']:.0%}",
            f"{row['clipped']:.2%}",
            f"{row['channel_ratio']:.1f} x{dead}",
        )
    return table
