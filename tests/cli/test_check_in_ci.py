"""The GitHub action and the GitLab template: their shell steps, run on made-up builds as the CI systems run them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from tests.report.fakebuild import write_answered

yaml = pytest.importorskip("yaml", reason="PyYAML is in the dev extra")

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github/actions/check/action.yml"
TEMPLATE = ROOT / "ci/gitlab/check.yml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two builds, the same two of the main branch, and `edgeq` on the path."""
    for name, wrong in (("good", range(10)), ("ruined", range(120))):
        write_answered(tmp_path / "project/build" / name, wrong)
        write_answered(tmp_path / "main" / name, range(10))
    program(tmp_path / "bin/edgeq", f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m edgeq "$@"')
    (tmp_path / "temp").mkdir()
    return tmp_path / "project"


def program(path: Path, body: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def shell(words: list[str], project: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    path = f"{project.parent / 'bin'}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGEQ_")}
    return subprocess.run(
        words, cwd=project, env=kept | {"PATH": path} | variables, capture_output=True, text=True, check=False
    )


def github(project: Path, **inputs: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run the steps of the action. Returns the last one, and the summary of the job."""
    action = yaml.safe_load(ACTION.read_text())
    assert set(inputs) <= set(action["inputs"])
    values = {name: inputs.get(name, each["default"]) for name, each in action["inputs"].items()}
    known = {f"${{{{ inputs.{name} }}}}": value for name, value in values.items()}
    known |= {
        "${{ github.token }}": "token",
        "${{ github.event.repository.default_branch }}": "main",
        "${{ github.workflow }}": "CI",
    }
    temp = project.parent / "temp"
    files = {"GITHUB_STEP_SUMMARY": temp / "summary", "GITHUB_ENV": temp / "env"}
    variables = {"RUNNER_TEMP": str(temp), "GITHUB_REPOSITORY": "a/b"} | {k: str(v) for k, v in files.items()}
    done = None
    for step in action["runs"]["steps"]:
        assert "${{" not in step["run"], "an input must not become part of the script"
        if "if" in step and not values["baseline-artifact"]:
            continue
        (temp / "script").write_text(step["run"])
        own = {name: known[text] for name, text in step["env"].items()}
        exported = (
            dict(line.split("=", 1) for line in files["GITHUB_ENV"].read_text().splitlines())
            if files["GITHUB_ENV"].exists()
            else {}
        )
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(temp / "script")]
        done = shell(words, project, variables | exported | own)
        if done.returncode:
            break
    assert done is not None
    return done, files["GITHUB_STEP_SUMMARY"].read_text() if files["GITHUB_STEP_SUMMARY"].exists() else ""


def gitlab(project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    job: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text())[".edgeq-check"]
    assert set(variables) <= set(job["variables"])
    own = {"CI_JOB_TOKEN": "token", "CI_API_V4_URL": "http://x", "CI_PROJECT_ID": "1", "CI_DEFAULT_BRANCH": "main"}
    done = shell(["sh", "-e", "-c", "\n".join(job["script"])], project, own | job["variables"] | variables)
    for name in (job["artifacts"]["reports"]["junit"], *job["artifacts"]["paths"]):
        assert (project / name).exists() == (done.returncode in (0, 1)), done.stderr
    return done


def test_the_action_passes_a_good_build_and_fails_a_ruined_one(project: Path) -> None:
    done, summary = github(project, builds="build/good", arguments="--max-drop 10")
    assert done.returncode == 0, done.stderr
    assert "### edgeq check: passed" in summary
    done, summary = github(project, builds="build/*", arguments="--max-drop 10", junit="out.xml")
    assert done.returncode == 1, done.stderr
    assert summary.index("passed") < summary.index("### edgeq check: failed")
    suites = fromstring((project / "out.xml").read_text())  # noqa: S314  # edgeq wrote it
    assert [suite.attrib["failures"] for suite in suites] == ["0", "1"]


def test_the_action_compares_with_the_artifact_of_the_default_branch(project: Path) -> None:
    download = f'[ "$3" = 7 ] && [ "$7" = builds ] && cp -r "{project.parent}/main" "$9"'
    program(project.parent / "bin/gh", f'[ "$2" = list ] && echo 7 && exit; {download}')
    done, summary = github(project, builds="build", **{"baseline-artifact": "builds"})
    assert done.returncode == 1, done.stderr
    assert "max-baseline-drop" in summary
    assert "1 of 2 builds passed; not build/ruined (failed)" in done.stdout


def test_the_action_goes_on_without_a_baseline(project: Path) -> None:
    program(project.parent / "bin/gh", "exit 0")
    done, _ = github(project, builds="build/good", arguments="--max-drop 10", **{"baseline-artifact": "builds"})
    assert done.returncode == 0, done.stderr


def test_the_action_runs_nothing_that_an_input_says(project: Path) -> None:
    done, _ = github(project, builds="$(touch broken)", arguments="; touch broken", against="`touch broken`")
    assert done.returncode == 2
    assert not (project / "broken").exists()


def test_the_template_passes_a_good_build_and_fails_a_ruined_one(project: Path) -> None:
    assert gitlab(project, CHECK_BUILDS="build/good", CHECK_ARGUMENTS="--max-drop 10").returncode == 0
    done = gitlab(project, CHECK_BUILDS="build/*", CHECK_ARGUMENTS="--max-drop 10")
    assert (done.returncode, "not build/ruined (failed)" in done.stdout) == (1, True)


def test_the_template_compares_with_the_artifacts_of_the_default_branch(project: Path) -> None:
    with zipfile.ZipFile(project.parent / "main.zip", "w") as archive:
        for path in (project.parent / "main").rglob("*"):
            archive.write(path, Path("build") / path.relative_to(project.parent / "main"))
    program(project.parent / "bin/curl", f'cp "{project.parent}/main.zip" baseline.zip')
    done = gitlab(project, CHECK_BUILDS="build", CHECK_BASELINE_JOB="build-models")
    assert done.returncode == 1, done.stderr
    assert "max-baseline-drop" in done.stdout
    program(project.parent / "bin/curl", "exit 22")
    assert (
        gitlab(project, CHECK_ARGUMENTS="--max-drop 90", CHECK_BUILDS="build", CHECK_BASELINE_JOB="x").returncode == 0
    )


def test_the_page_about_the_gate_names_every_input_and_its_files_parse() -> None:
    text = (ROOT / "docs/how-to/gate.md").read_text()
    for name in yaml.safe_load(ACTION.read_text())["inputs"]:
        assert f"| `{name}` |" in text
    workflow, pipeline = (yaml.safe_load(part.split("```")[0]) for part in text.split("```yaml\n")[1:])
    (step,) = (step for step in workflow["jobs"]["model"]["steps"] if ".github/actions/check@" in step.get("uses", ""))
    assert set(step["with"]) <= set(yaml.safe_load(ACTION.read_text())["inputs"])
    assert set(pipeline["check-models"]["variables"]) <= set(
        yaml.safe_load(TEMPLATE.read_text())[".edgeq-check"]["variables"]
    )
