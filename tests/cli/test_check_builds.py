"""`edgeq check` of several builds as typed: which are meant, their verdicts, exit codes, JUnit and Markdown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from tests.cli.console import one_line, run
from tests.report.fakebuild import write_answered, write_build

pytestmark = pytest.mark.usefixtures("in_a_folder")


def junit() -> Element:
    return fromstring(Path("j.xml").read_text())  # noqa: S314  # edgeq wrote it


@pytest.fixture
def builds(in_a_folder: None) -> None:
    """build/good and build/bad: the second lost five points of accuracy."""

    def worse(report: dict[str, Any]) -> None:
        scores = report["accuracy"]
        scores |= {"metric": "mIoU", "float": {"score": 95}, "integer": {"score": 90}, "difference": {"points": -5}}

    write_build(Path("build/good"))
    write_build(Path("build/bad"), worse)


@pytest.mark.usefixtures("builds")
def test_each_build_gets_its_verdict_and_one_that_fails_is_exit_1() -> None:
    result = run("check", "build/good", "build/bad", "--max-drop", "2")
    assert result.exit_code == 1
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:3]] == [
        ["build/good", "passed"],
        ["build/bad", "FAILED"],
    ]
    assert "build/bad: max-drop 5 of 2.0000, MISSED: missed by 3" in result.stdout
    assert "1 of 2 builds passed; not build/bad (failed)" in result.stdout
    assert run("check", "build", "--max-drop", "6").exit_code == 0


@pytest.mark.usefixtures("builds")
def test_json_has_one_shape_for_one_build_and_for_several() -> None:
    for paths in (["build/good"], ["build"]):
        result = run("check", *paths, "--max-drop", "2", "--json")
        verdict = json.loads(result.stdout)
        assert (verdict["passed"], result.exit_code) == ((True, 0) if len(paths[0]) > 5 else (False, 1))
        assert [build["folder"] for build in verdict["builds"]] == (
            paths if "/" in paths[0] else ["build/bad", "build/good"]
        )
        assert verdict["builds"][0]["rows"][-1]["from"] == "--max-drop"


@pytest.mark.usefixtures("builds")
def test_a_build_that_cannot_be_read_is_exit_2_and_the_others_are_judged() -> None:
    (Path("build/good") / "report.json").write_text("{")
    result = run("check", "build/good", "build/bad", "--max-drop", "2", "--junit", "j.xml", "--markdown", "m.md")
    one_line(result, 2, "build/good/report.json cannot be read")
    assert "build/bad" in result.stdout
    assert "ERROR" in result.stdout
    assert junit().find("testsuite[@name='build/good']/testcase/error") is not None
    assert "| build/good | ❌ error | build/good/report.json cannot be read" in Path("m.md").read_text()


@pytest.mark.usefixtures("builds")
def test_a_folder_of_which_the_report_is_gone_is_not_passed_over() -> None:
    (Path("build/bad") / "report.json").unlink()
    (Path("build/bad") / "signs64.tflite").rename("build/bad/model.tflite")
    one_line(run("check", "build", "--max-drop", "2"), 2, "build/bad holds no report.json")


@pytest.mark.usefixtures("builds")
def test_limits_of_single_builds_and_where_they_were_set() -> None:
    Path("budget.toml").write_text("max_drop = 2\n[builds.bad]\nmax_drop = 6\n[builds.bed]\nmax_drop = 7\n")
    result = run("check", "build", "--json")
    assert (result.exit_code, result.stderr.strip()) == (
        0,
        'edgeq: budget.toml [builds."bed"] is about none of these builds',
    )
    rows = {build["folder"]: build["rows"][-1] for build in json.loads(result.stdout)["builds"]}
    assert rows["build/bad"]["from"] == 'budget.toml [builds."bad"]'
    assert rows["build/good"]["from"] == "budget.toml"
    shutil.move("budget.toml", "other.toml")
    one_line(run("check", "build"), 2, "nothing to check in build/bad")
    assert run("check", "build", "--budget", "other.toml").exit_code == 0


def locked_build(folder: str, target: str, model: str = "net.toml") -> None:
    path = write_build(Path(folder)) / "edgeq.lock"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"config": {"model": model, "targets": [target]}}))


def test_without_a_path_all_builds_of_edgeq_toml_are_checked() -> None:
    Path("edgeq.toml").write_text(
        'model = "net.toml"\ntargets = ["tflite-arm", "onnx-x86"]\n[budget]\nmax_bytes = "4M"'
    )
    locked_build("build/net-tflite-arm", "tflite-arm")
    locked_build("build/other-tflite-arm", "tflite-arm", "other.toml")
    one_line(run("check"), 2, "build holds no build of net.toml for onnx-x86", "edgeq build --target onnx-x86")
    locked_build("build/net-onnx-x86", "onnx-x86")
    verdict = json.loads(run("check", "--json").stdout)
    assert [build["folder"] for build in verdict["builds"]] == ["build/net-tflite-arm", "build/net-onnx-x86"]
    Path("edgeq.toml").write_text('model = "net.toml"\noutput = "build/other-tflite-arm"\n[budget]\nmax_bytes = "4M"')
    assert [b["folder"] for b in json.loads(run("check", "--json").stdout)["builds"]] == ["build/other-tflite-arm"]


def test_without_a_path_and_without_settings_nothing_is_meant() -> None:
    one_line(run("check", "--max-drop", "1"), 2, "no build is named", "edgeq.toml")


@pytest.mark.usefixtures("builds")
def test_files_that_cannot_be_written_are_refused_before_anything_is_judged() -> None:
    for option, place, why in (
        ("--junit", "none/j.xml", "its folder is not there"),
        ("--markdown", "build", "is a folder"),
    ):
        one_line(run("check", "build/good", "--max-drop", "2", option, place), 2, f"cannot write {place}", why)


@pytest.mark.usefixtures("builds")
def test_what_images_cannot_decide_passes_or_fails_as_told() -> None:
    def open_question(report: dict[str, Any]) -> None:
        difference = report["accuracy"]["difference"]
        report["accuracy"]["difference"] = difference | {"low": -3.0, "high": 1.0}

    write_build(Path("build/good"), open_question)
    command = ("check", "build/good", "--max-drop", "2", "--junit", "j.xml")
    result = run(*command)
    assert (result.exit_code, "passed, 1 not decided" in result.stdout) == (0, True)
    skipped = junit().find("testsuite/testcase[@name='max-drop']/skipped")
    assert skipped is not None
    assert "not decided with n = " in skipped.attrib["message"]
    result = run(*command, "--undecided", "fail")
    assert (result.exit_code, "MISSED" in result.stdout) == (1, True)
    assert junit().find("testsuite/testcase[@name='max-drop']/failure") is not None


def test_builds_against_those_of_the_same_names() -> None:
    for name, wrong in (("a", range(10)), ("b", range(60)), ("new", range(3))):
        write_answered(Path("build") / name, wrong)
    for name in ("a", "b"):
        write_answered(Path("main") / name, range(10))
    result = run("check", "build", "--against", "main")
    assert (result.exit_code, "2 of 3 builds passed; not build/b (failed)" in result.stdout) == (1, True)
    assert "build/new: baseline - of a build of this name, not decided" in result.stdout
    result = run("check", "build/a", "build/new", "--against", "main", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)["builds"][0]["rows"]
    assert [row["name"] for row in rows[-2:]] == ["baseline", "max-baseline-drop"]
    assert run("check", "build/a", "--against", "main/b/report.json").exit_code == 0
    assert run("check", "build/new", "--against", "main", "--undecided", "fail").exit_code == 1
    one_line(run("check", "build/a", "build/b", "--against", "main/a"), 2, "2 builds against the one in main/a")
    one_line(run("check", "build/a", "--against", "none"), 2, "none holds no builds")
    one_line(run("check", "build/a", "--max-baseline-drop", "1"), 2, "nothing to check in build/a")
    result = run("check", "build/a", "--max-baseline-drop", "1", "--max-bytes", "4M")
    assert (result.exit_code, "max_baseline_drop needs --against BASELINE" in result.stderr) == (0, True)
