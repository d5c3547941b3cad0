"""What a person reads after a build or a plan: a short table, where the report is, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from edgeq.cli.terminal import console, join_styled
from edgeq.measure.energy import energy_text
from edgeq.measure.latency import latency_text
from edgeq.report.loss import loss_of
from edgeq.report.metric import metric_of, score_of

__all__ = ["WIDTH", "check_command", "flat", "model_name", "show_plan", "show_report", "show_synthesis"]

MOST_OUTPUTS = 8
"""Outputs of a regressor that a summary lists."""

WIDTH = 110  # where there is no terminal to ask

_STYLES = {"good": "", "fair": "bold yellow", "poor": "bold red"}
"""How the line on the loss is printed, by its grade."""

Row = tuple[str, str | Text]


def _at(report: Mapping[str, Any], path: str) -> Any:
    """``report["a"]["b"]`` for ``a.b``; None where any part is missing, as for a model without evaluation images."""
    value: Any = report
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def show_report(report: Mapping[str, Any], folder: Path) -> None:
    """The summary of a finished build in `folder`, from the fields of report.json."""
    out = console(width=WIDTH)  # a summary is the result of its command
    name = model_name(report)
    out.print(join_styled("\n", (name, "bold"), " for ", (str(report["target"]), "bold")))
    if loss := loss_of(report):
        out.print(join_styled((loss.text, _STYLES[loss.grade])))
    table = Table(box=None, show_header=False, padding=(0, 2))
    for title, text in _rows(report):
        table.add_row(title, text)
    out.print(table)
    for warning in report.get("warnings") or []:
        out.print(join_styled(("note", "yellow"), f"  {warning}"))
    out.print(f"report  {folder / 'report.html'}", soft_wrap=True)
    if "use" in report:
        out.print(f"use it  edgeq use {folder} > use.py", soft_wrap=True)
    out.print(f"next    {check_command(report, folder)}", soft_wrap=True)


def model_name(report: Mapping[str, Any]) -> str:
    """`model` is a name, or a table that holds one."""
    model = report["model"]
    return str(model["name"] if isinstance(model, Mapping) else model)


def check_command(report: Mapping[str, Any], folder: Path) -> str:
    """The gate to try on this build: the command, with thresholds that suit what can be checked."""
    judged = score_of(report.get("accuracy"), "integer") is not None
    drop = " --max-drop 1.0" if judged else ""
    if report.get("regression"):
        drop = " --min-snr-db 30"
    elif report.get("embedding") and not judged:
        drop = " --min-cosine 0.99"
    drop = "" if report.get("simulated") else drop
    return (
        f"edgeq check {folder}{drop}" if drop else f"edgeq check {folder} --max-bytes {_at(report, 'artifact.bytes')}"
    )


def _rows(report: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = []
    size, float_size = _at(report, "artifact.bytes"), _at(report, "float.bytes")
    if size is not None:
        smaller = f", float {_bytes(float_size)}: {float_size / size:.1f} times smaller" if float_size else ""
        rows.append(("file", f"{_at(report, 'artifact.path')!s}, {_bytes(size)}{smaller}"))
    raw = report.get("raw_pixels")
    if raw:
        rows.append(("input", f"{raw['type']}: {raw['input']}; mean and std are {raw['normalisation']}"))
    host = report.get("host")
    if host:
        rows.append(("host", f"{host['where']!s} was cut off, which leaves to the host: {host['work']!s}"))
        rows.append(("outputs", ", ".join(host["outputs"])))
    rows += _accuracy(report)
    values, equal = _at(report, "exactness.values"), _at(report, "exactness.equal")
    if values:
        step = _at(report, "exactness.max_step")
        share = "every one" if equal == values else f"{100 * equal / values:.4f} %, largest step {step}"
        rows.append(("exactness", f"{share} of {values:,} values equals {_at(report, 'exactness.reference')!s}"))
    census = report.get("census")
    if census:
        rows.append(
            (
                "census",
                f"{census['ops']} ops, {census['float_ops']} float, {census['transposes']} transposes, "
                f"{census['quantize']} quantize, {census['dequantize']} dequantize"
                + (f", {between} between 8 and 16 bits" if (between := census.get("requantize", 0)) else ""),
            )
        )
    rows += _latency(report)
    rows += [row for device in report.get("devices", ()) for row in _device(device)]
    synthesis = report.get("synthesis")
    if synthesis:
        rows.append(
            (
                "calibration",
                f"{synthesis['images']} images by {synthesis['method']!s}, {synthesis['seconds']:.1f} s",
            )
        )
    seconds = report.get("seconds")
    if seconds:
        rows.append(
            ("seconds", ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items() if spent is not None))
        )
    return rows


def _accuracy(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    accuracy = report.get("accuracy") or {}
    before, after = score_of(accuracy, "float"), score_of(accuracy, "integer")
    agreement = _at(report, "accuracy.agreement")
    images = _at(report, "accuracy.n")
    rows = []
    if before is not None and after is not None:
        what = "pairs" if metric_of(accuracy) == "verification" else "images"
        change = f"{after:.2f} %, float {before:.2f} % ({after - before:+.2f} points) on {images} {what}"
        itself = _at(report, "simulated.file_score")
        if itself is not None:
            change += f"; simulated, the file itself {itself:.2f} %"
        rows.append((metric_of(accuracy), change))
    if agreement is not None:
        rows.append(("agreement", f"{100 * agreement:.2f} % of answers are the float network's"))
    rows += _values(report)
    return rows or [("accuracy", "not measured: no evaluation images (--evaluation PATH)")]


def _values(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How far real values and embeddings are from the float network's; of many outputs the worst ones."""
    rows = []
    outputs = sorted(_at(report, "regression.outputs") or (), key=lambda row: float(row["snr_db"]))
    for row in outputs[:MOST_OUTPUTS]:
        unit = f" {row['unit']}" if row["unit"] else ""
        text = f"off by {row['mean_difference']:.3g}{unit}, 95 % within {row['p95_difference']:.3g}, "
        text += f"{row['snr_db']:.1f} dB, of answers {row['low']:.4g} to {row['high']:.4g}"
        if "integer" in row:
            text += f"; mean error {row['integer']['mae']:.3g}{unit}, float {row['float']['mae']:.3g}"
        rows.append((str(row["name"]), text))
    if more := len(outputs) - MOST_OUTPUTS:
        rows += [("", f"and {more} more outputs, all with less noise: see the report")] if more > 0 else []
    if section := report.get("embedding"):
        text = f"mean {section['cosine_mean']:.5f}, 95 % above {section['cosine_p5']:.5f}, least "
        rows.append(("cosine to float", f"{text}{section['cosine_min']:.5f}, on {section['n']} images"))
        if "threshold_float" in section:
            text = f"same from a cosine of {section['threshold_integer']:.3f}, float {section['threshold_float']:.3f}; "
            text += f"{section['score_at_float_threshold']:.2f} % right with the float threshold"
            rows.append(("threshold", text))
    return rows


def _latency(report: Mapping[str, Any]) -> list[Row]:
    latency = report.get("latency")
    if not latency:
        return []
    host = _at(report, "latency.conditions.machine") or _at(report, "latency.conditions.cpu")
    rows: list[Row] = [("latency", f"{latency_text(latency)} on {'this host' + (f' ({host})' if host else '')}")]
    if latency.get("valid") is False:
        rows.append(("", join_styled(("do not believe this latency: the note below says why", "red"))))
    return rows


def _device(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a device said: accuracy beside this machine's, times and whether to believe them."""
    parts = []
    answers, times = row["accuracy"], row["latency"]
    if answers:
        score, here = answers["score"], answers["host_score"]
        scored = f"{answers['metric']} {score:.2f} %, here {here:.2f} %, " if score is not None is not here else ""
        parts.append(f"{scored}{100 * answers['equal']:.2f} % of output values equal")
    if times:
        parts.append(latency_text(times))
    if "mj" in row.get("energy", ()):
        parts.append(energy_text(row["energy"]))
    before = ", by an earlier build of this very file" if row.get("earlier") else ""
    lines = [f"{row['runtime']} on {row['machine']['cpu']}{before}", *parts]
    if not row["valid"]:
        lines.append("; ".join(row["doubts"]))
    return [(row["name"] if not place else "", line) for place, line in enumerate(lines)]


def _bytes(count: int | None) -> str:
    if count is None:
        return "unknown"
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def show_plan(plan: Mapping[str, Any]) -> None:
    """A plan as a person reads it: facts first, then every list of rows as a table."""
    out = console(width=WIDTH)  # a summary is the result of its command
    facts = Table(box=None, show_header=False, padding=(0, 2))
    for name, value in plan.items():
        if not _is_rows(value):
            facts.add_row(name.replace("_", " "), flat(value))
    out.print(facts)
    for name, value in plan.items():
        if _is_rows(value):
            out.print(_table(name, _group_refusals(value) if name == "unsupported" else value))


def _group_refusals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Calls refused alike as one row, with the first place and how many there are: a transformer repeats itself."""
    places: dict[tuple[Any, Any], list[str]] = {}
    for row in rows:
        places.setdefault((row["op"], row["hint"]), []).append(str(row["where"]))
    return [
        {"op": op, "where": where[0] + (f" and {len(where) - 1} more" if where[1:] else ""), "hint": hint}
        for (op, hint), where in places.items()
    ]


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=name.replace("_", " "), title_justify="left", box=None, padding=(0, 2))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        side: Literal["right", "left"] = "right" if isinstance(rows[0].get(column), int | float) else "left"
        table.add_column(column, justify=side, overflow="fold")
    for row in rows:
        table.add_row(*(flat(row.get(column, "")) for column in columns))
    return table


def flat(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {flat(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        numeric = bool(value) and all(isinstance(item, int) for item in value)
        return ("x" if numeric else ", ").join(str(item) if numeric else flat(item) for item in value) or "none"
    return str(value)


def show_synthesis(facts: Mapping[str, Any], build: str) -> None:
    """What a calibration set is like, and programs that use it: what statistics.json holds, and the command `build`."""
    from edgeq.report.snippets import snippets

    out = console(width=WIDTH)  # a summary is the result of its command
    folder = str(facts["folder"])
    out.print(join_styled("\n", (str(facts["model"]), "bold"), f", {facts['images']} images by {facts['method']}"))
    table = Table(box=None, show_header=False, padding=(0, 2))
    for title, text in _synthesis_rows(facts):
        table.add_row(title, text)
    out.print(table)
    for name, text in snippets(folder).items():
        out.print(f"\nIn {name}:\n")
        out.print("\n".join(f"    {line}".rstrip() for line in text.splitlines()), soft_wrap=True)
    out.print(f"\nIn edgeq:\n\n    {build}\n", soft_wrap=True)
    out.print(f"page    {Path(folder) / 'statistics.html'}", soft_wrap=True)


def _synthesis_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("method", f"{facts['method']} ({facts['method_reason']})")]
    gaps, answers = facts["gaps"], facts["answers"]
    if gaps:
        source = "batch norm" if facts["reference"] == "batch norm" else "moments out of the weights"
        for kind, word in (("mean", "means"), ("std", "spreads")):
            noise = gaps[f"noise_{kind}_gap"]
            rows.append((word, f"{gaps[f'{kind}_gap']:.3f} standard deviations from the {source}, noise {noise:.3f}"))
    else:
        rows.append(("layers", f"not compared: {facts['reference_why']}"))
    if answers and answers["share"] is not None:
        rows.append(("labels", f"{100 * answers['share']:.1f} % of {answers['labelled']} images keep theirs"))
    elif answers:
        rows.append(("labels", f"none; the network answers with {answers['classes']} of {answers['of']} classes"))
    rows.append(("seconds", f"{facts['seconds']:.1f}"))
    return rows
