"""Building and checking report.json, and printing its documentation, all from the structs in `fields`.

`python -m edgeq.report.schema` prints `docs/reference/report-schema.md`, with ``--json`` the same as JSON Schema.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from edgeq.config.typed import describe, members, struct_of
from edgeq.errors import ArtifactError
from edgeq.report.fields import SCHEMA, Report
from edgeq.report.fields.making import Seconds
from edgeq.report.fields.types import LARGEST, LONGEST
from edgeq.report.validation import report_faults

__all__ = ["SCHEMA", "build_report", "documentation", "pick", "to_text", "validate"]


def build_report(*, float_bytes: int, seconds: Mapping[str, float | None], **sections: object) -> dict[str, Any]:
    """The report of one build, whole and checked.

    `sections` are the other keys of `Report`. Each may be a mapping, an object with `to_json`, or any object with
    attributes of the section's keys (`Census`, `Exactness`, `LayerError`); what a section does not know is left out.
    An optional key that is None is absent, and lists are empty where nothing is given. Raises `ArtifactError` naming
    the keys that are missing or of the wrong type, and `TypeError` for a section that is none.
    """
    fields = members(Report)
    if unknown := sorted(sections.keys() - fields.keys()):
        raise TypeError(f"{unknown[0]} is no key of a report")
    given: dict[str, object] = {"schema": SCHEMA, "dead_channels": 0, "layers": (), "baselines": (), "warnings": ()}
    given |= {**sections, "float": {"bytes": float_bytes}}
    given["seconds"] = {name: seconds.get(name) for name in members(Seconds)}
    report = pick({key: value for key, value in given.items() if value is not None or fields[key][1]}, Report)
    _insist_whole(report)
    return report


def _insist_whole(report: object) -> None:
    if faults := validate(report):
        raise ArtifactError("the report is not whole", why="; ".join(faults[:5]), hint="this is a mistake in edgeq")


def validate(report: object) -> list[str]:
    """What is wrong with a report, one line per key; empty when it is a whole report of schema `SCHEMA`."""
    if not isinstance(report, Mapping):
        return ["a report is an object"]
    if report.get("schema") != SCHEMA:
        return [f"schema is {report.get('schema')!r}, this edgeq reads {SCHEMA}"]
    return [fault.text for fault in report_faults(report)]


def pick(source: object, section: type) -> dict[str, Any]:
    """The values that a struct of the report wants, from a mapping or from the attributes of any object.

    What `source` lacks is left out.
    """
    if hasattr(source, "to_json"):
        source = source.to_json()
    picked: dict[str, Any] = {}
    for key, (kind, _) in members(section).items():
        present = key in source if isinstance(source, Mapping) else hasattr(source, key)
        if not present:
            continue
        value = source[key] if isinstance(source, Mapping) else getattr(source, key)
        inner, many = struct_of(kind)
        if inner is not None and value is not None:
            value = [pick(row, inner) for row in value] if many else pick(value, inner)
        picked[key] = _plain(value)
    return picked


def _plain(value: Any) -> Any:
    """Convert to what JSON has: numpy's scalars and tuples become Python's numbers and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def to_text(report: Mapping[str, Any]) -> str:
    """report.json. Raises `ArtifactError` when `report` is not whole."""
    _insist_whole(report)
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def documentation() -> str:
    """The structs of a report as Markdown."""
    lines = [
        "# report.json",
        "",
        f"Schema version {SCHEMA}. Every build writes one beside its artifact. Sizes are bytes, times seconds unless",
        "the key says `ms`, accuracies percent, shares and ratios plain numbers. Keys marked *optional* may be absent,",
        "keys marked *or null* may hold null. A reader should refuse a `schema` it does not know and ignore keys it",
        "does not know. A latency counts only while `latency.valid` is true.",
        "",
        f"Numbers are finite, lie in the range that the type states, and are no further from 0 than {LARGEST:.0e}.",
        f"Strings have at most {LONGEST:,} characters. "
        "`edgeq check` fails a report that breaks this or contradicts itself:",
        "more values equal than were compared, a `score` that is not `top1`, a `difference` that is not that of the",
        "scores, more images changed than `agreement` allows, activations of fewer than 8 bits without `simulated`.",
        "",
        "This page is printed by `python -m edgeq.report.schema`; with `--json` it prints the same as JSON Schema.",
        "",
        "| key | type | meaning |",
        "|---|---|---|",
    ]
    return "\n".join([*lines, *_document(Report, "")]) + "\n"


def _document(section: type, where: str) -> Iterator[str]:
    for key, (kind, required) in members(section).items():
        inner, many = struct_of(kind)
        path = f"{where}{key}{'[]' if many else ''}"
        yield f"| `{path}` | {describe(kind)}{'' if required else ', *optional*'} | {_meaning(kind, inner)} |"
        if inner is not None:
            yield from _document(inner, f"{path}.")


def _meaning(kind: Any, inner: type | None) -> str:
    """What the field says of itself, else the docstring of its struct."""
    info = inspect.type_info(kind)
    if isinstance(info, inspect.Metadata):
        return str((info.extra_json_schema or {})["description"])
    words = " ".join((inner.__doc__ or "").split()).removesuffix(".")
    return words[0].lower() + words[1:]


if __name__ == "__main__":
    text = json.dumps(msgspec.json.schema(Report), indent=2) + "\n" if "--json" in sys.argv else documentation()
    sys.stdout.write(text)
