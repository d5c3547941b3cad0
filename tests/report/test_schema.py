"""One table of keys: what is built fits it, what is spoilt is named, and the documentation is printed from it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgeq.errors import ArtifactError
from edgeq.report.fields import Report
from edgeq.report.schema import documentation, pick, to_text, validate

Made = Callable[..., dict[str, Any]]

REQUIRED = (
    "schema",
    "model",
    "target",
    "method",
    "bits",
    "seed",
    "artifact.path",
    "artifact.bytes",
    "artifact.sha256",
    "float.bytes",
    "accuracy.n",
    "accuracy.float.score",
    "accuracy.integer.score",
    "accuracy.agreement",
    "exactness.reference",
    "exactness.values",
    "exactness.equal",
    "exactness.max_step",
    "census.ops",
    "census.float_ops",
    "census.transposes",
    "census.quantize",
    "census.dequantize",
    "latency.float_median_ms",
    "latency.integer_median_ms",
    "latency.ratio",
    "latency.p90_ms",
    "latency.runs",
    "latency.threads",
    "latency.conditions",
    "latency.valid",
    "synthesis.method",
    "synthesis.images",
    "synthesis.seconds",
    "seconds.capture",
    "seconds.synthesize",
    "seconds.calibrate",
    "seconds.write",
    "seconds.verify",
    "seconds.measure",
)


def parent(report: dict[str, Any], path: str) -> tuple[Any, str]:
    *above, key = path.split(".")
    for name in above:
        report = report[name]
    return report, key


def test_a_report_survives_its_file(report: Made) -> None:
    made = report()
    assert validate(made) == []
    assert json.loads(to_text(made)) == made


@pytest.mark.parametrize("path", REQUIRED)
def test_every_promised_key_is_there_and_required(report: Made, path: str) -> None:
    made = copy.deepcopy(report())
    holder, key = parent(made, path)
    del holder[key]
    assert any(fault.startswith((f"{path} is missing", "schema is None")) for fault in validate(made))


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("accuracy.n", True, "accuracy.n must be an integer of at least 1"),
        ("accuracy.n", 5.0, "accuracy.n must be an integer of at least 1"),
        ("latency.ratio", math.nan, "latency.ratio is nan"),
        ("latency.ratio", "0.5", "latency.ratio must be a number"),
        ("latency.valid", 1, "latency.valid must be true or false"),
        ("artifact", [], "artifact must be an object"),
        ("layers", {}, "layers must be a list of objects"),
        ("layers", [3], "layers[0] must be an object"),
        ("seed", None, "seed is null"),
        ("sead", 0, "sead is no key"),
        ("census.kinds", {"ADD": "x"}, "census.kinds['ADD'] must be an integer"),
        ("warnings", [1], "warnings[0] must be a string"),
        ("schema", 2, "schema is 2, this edgeq reads 1"),
    ],
)
def test_faults_are_named(report: Made, path: str, value: Any, fault: str) -> None:
    made = copy.deepcopy(report())
    holder, key = parent(made, path)
    holder[key] = value
    assert any(fault in found for found in validate(made))
    with pytest.raises(ArtifactError, match="not whole"):
        to_text(made)


def test_no_report_at_all() -> None:
    assert validate([]) == ["a report is an object"]
    assert validate({})[0].startswith("schema is None")


def test_unmeasured_parts_are_null(report: Made) -> None:
    made = report(accuracy=None, latency=None, exactness=None, seconds={"capture": 1.0}, edgeq=None)
    assert made["accuracy"] is made["latency"] is made["exactness"] is made["seconds"]["measure"] is None
    assert "edgeq" not in made


def test_a_piece_that_lacks_something_is_an_error(report: Made) -> None:
    with pytest.raises(ArtifactError, match=r"artifact\.sha256 is missing"):
        report(artifact={"path": "a", "bytes": 1})


def test_numbers_of_numpy_become_plain(report: Made) -> None:
    made = report(
        dead_channels=np.int64(3),
        exactness={"reference": "x", "values": np.int64(9), "equal": np.int32(9), "max_step": 0},
    )
    assert type(made["dead_channels"]) is int
    json.dumps(made)


def test_pick_reads_attributes_and_properties() -> None:
    from edgeq.formats.census import Census
    from edgeq.report import fields

    found = pick(Census({"ADD": 2, "CONV_2D": 3}, 0, 1, 0, 0), fields.Census)
    assert (found["ops"], found["transposes"], found["kinds"]) == (5, 1, {"ADD": 2, "CONV_2D": 3})


def test_the_structs_give_a_json_schema_too() -> None:
    schema = msgspec.json.schema(Report)
    assert schema["$defs"]["Accuracy"]["properties"]["n"] == {
        "description": "images, or pairs for verification; the same for both",
        "type": "integer",
        "minimum": 1,
        "maximum": 10**18,
    }
    assert "finetune" not in schema["$defs"]["Report"]["required"]


def test_the_documentation_is_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "report-schema.md"
    text = documentation()
    assert page.read_text() == text, "run: python -m edgeq.report.schema > docs/reference/report-schema.md"
    for path in REQUIRED:
        assert f"| `{path}` |" in text
