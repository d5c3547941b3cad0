"""A verdict as JUnit XML, as CI systems read it: a suite for each build, a case for each limit."""

from __future__ import annotations

from xml.etree import ElementTree

from edgeq.errors import printable
from edgeq.report.gate import Gate
from edgeq.report.verdict import Judged, Verdict

__all__ = ["junit_xml"]


def junit_xml(verdict: Verdict) -> str:
    """The text of the file. A limit that is not decided is a skipped case: CI systems show those, and do not fail."""
    root = ElementTree.Element("testsuites", {"name": "edgeq check"})
    for build in verdict.builds:
        _add_suite(root, build)
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_suite(root: ElementTree.Element, build: Judged) -> None:
    gates = build.result.gates if build.result is not None else ()
    counts = {
        "tests": len(gates) or 1,
        "failures": sum(gate.word == "missed" for gate in gates),
        "errors": int(build.result is None),
        "skipped": sum(gate.word == "not decided" for gate in gates),
    }
    name = _xml(build.name)
    suite = ElementTree.SubElement(root, "testsuite", {"name": name} | {key: str(n) for key, n in counts.items()})
    if build.result is None:
        case = ElementTree.SubElement(suite, "testcase", {"classname": name, "name": "build"})
        ElementTree.SubElement(case, "error", {"message": _xml(build.error)})
    for gate in gates:
        _add_case(suite, name, gate)


def _add_case(suite: ElementTree.Element, name: str, gate: Gate) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": name, "name": _xml(gate.name)})
    facts = _xml(f"limit {gate.limit}, value {gate.value}" + (f", from {gate.origin}" if gate.origin else ""))
    if gate.word == "missed":
        ElementTree.SubElement(case, "failure", {"message": _xml(gate.reason or "missed")}).text = facts
    elif gate.word == "not decided":
        ElementTree.SubElement(case, "skipped", {"message": _xml(gate.note or "not decided")})
    else:
        ElementTree.SubElement(case, "system-out").text = facts + (_xml(f"\n{gate.note}") if gate.note else "")


def _xml(text: str) -> str:
    """`text` without what no XML file can hold, such as control characters; ElementTree escapes the rest."""
    return printable(text, keep="\n")
