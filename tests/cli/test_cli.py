"""The command line as typed: lazy loading, exit statuses, one line per error, JSON apart from words."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from edgeq.cli import cli
from edgeq.cli.summary import show_plan, show_report
from edgeq.config.build import BuildConfig
from edgeq.errors import DeviceError, GateError, MeasurementError, UnsupportedError
from edgeq.model.modeltoml import DEFAULT_MODEL
from edgeq.progress import Progress
from edgeq.report.believable import check_believable
from tests.cli.console import one_line, run

pytestmark = pytest.mark.usefixtures("in_a_folder")

REPORT: dict[str, Any] = {
    "schema": 1,
    "model": "tiny",
    "target": "tflite-arm",
    "method": "gznq",
    "bits": "w8a8",
    "seed": 0,
    "artifact": {"path": "tiny.tflite", "bytes": 98_304, "sha256": "0" * 64},
    "float": {"bytes": 393_216},
    "accuracy": {
        "n": 500,
        "float": {"top1": 91.0, "top5": 99.6},
        "integer": {"top1": 90.8, "top5": 99.6},
        "agreement": 0.986,
    },
    "exactness": {"reference": "BUILTIN_REF", "values": 4000, "equal": 4000, "max_step": 0},
    "census": {"ops": 31, "float_ops": 0, "transposes": 0, "quantize": 0, "dequantize": 0},
    "latency": {
        "float_median_ms": 2.0,
        "integer_median_ms": 1.5,
        "ratio": 0.75,
        "p90_ms": 1.7,
        "runs": 50,
        "threads": 1,
        "conditions": {"cpu": "Some CPU [x86]"},
        "valid": True,
    },
    "synthesis": {"method": "gznq", "images": 128, "seconds": 61.5},
    "seconds": {"capture": 0.5, "synthesize": 61.5, "calibrate": 2.0, "write": 0.1, "verify": 3.0, "measure": None},
}


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[BuildConfig]]:
    """Puts a recording pipeline in place of the real one; what `build` does can be given."""

    def install(build: Callable[[BuildConfig, Progress], dict[str, Any]] | None = None) -> list[BuildConfig]:
        seen: list[BuildConfig] = []

        def run(config: BuildConfig, shown: Progress, locked: object) -> dict[str, Any]:
            seen.append(config)
            return REPORT | {"target": config.target} if build is None else build(config, shown)

        def plan(config: BuildConfig) -> dict[str, Any]:
            seen.append(config)
            return {"model": config.model, "stages": [{"stage": "capture", "seconds": 1.5}]}

        module = types.ModuleType("edgeq.pipeline.build")
        module.build, module.plan, module.link_pages = run, plan, lambda *_: None  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "edgeq.pipeline.build", module)
        return seen

    return install


def test_help_imports_no_torch() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from edgeq.cli import cli\n"
        "for a in (['--help'], ['build', '--help'], ['check', '--help'], ['targets'], ['build', '--print-config']):\n"
        "    r = CliRunner().invoke(cli, a); assert r.exit_code == 0, (a, r.output)\n"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", ["build", "check", "targets", "models", "methods", "version"])
def test_every_verb_has_help(verb: str) -> None:
    assert verb in run("--help").output
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: edgeq {verb}")


def test_unknown_verbs_and_options_are_usage_errors() -> None:
    result = run("biuld")
    assert (result.exit_code, "No such command" in result.stderr) == (2, True)
    result = run("build", "--taget", "x")
    assert (result.exit_code, "--target" in result.stderr) == (2, True)
    assert run("check").exit_code == 2


def test_build_hands_over_what_was_typed(pipeline: Callable[..., list[BuildConfig]]) -> None:
    seen = pipeline()
    result = run(
        "build",
        "net.toml",
        "--target",
        "onnx-arm",
        "--seed",
        "0",
        "--images",
        "7",
        "--strict",
        "-o",
        "out",
        "--force",
        "write",
    )
    assert result.exit_code == 0, result.stderr
    assert seen == [
        BuildConfig(
            model="net.toml", targets=("onnx-arm",), seed=0, images=7, strict=True, output=Path("out"), force=("write",)
        )
    ]
    assert "report  " not in result.stderr
    assert "out/report.html" in result.stdout
    assert "edgeq check out --max-drop 1.0" in result.stdout


def test_summary_says_what_matters(pipeline: Callable[..., list[BuildConfig]]) -> None:
    pipeline()
    text = run("build", "net.toml").stdout
    for part in (
        "tiny for tflite-arm",
        "98.3 kB",
        "4.0 times smaller",
        "90.80 %, float 91.00 % (-0.20 points) on 500 images",
        "98.60 %",
        "every one of 4,000 values equals BUILTIN_REF",
        "31 ops, 0 float, 0 transposes",
        "1.50 ms",
        "ratio 0.75",
        "Some CPU [x86]",
        "128 images by gznq",
        "build/tiny-tflite-arm/report.html",
    ):
        assert part in text, text


def test_summary_without_images_or_latency(capsys: pytest.CaptureFixture[str]) -> None:
    report = {key: value for key, value in REPORT.items() if key in ("model", "target", "artifact", "float")}
    show_report(report | {"accuracy": None, "warnings": ["mean and std were assumed"]}, Path("out"))
    text = capsys.readouterr().out
    assert "not measured: no evaluation images" in text
    assert "mean and std were assumed" in text
    assert "edgeq check out --max-bytes 98304" in text


def test_a_simulated_score_stands_beside_the_file_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(REPORT | {"simulated": {"values": 3, "images": 500, "file_score": 88.25}}, Path("out"))
    assert "90.80 %, float 91.00 % (-0.20 points) on 500 images; simulated, the file itself 88.25 %" in " ".join(
        capsys.readouterr().out.split()
    )


def test_latency_that_must_not_be_believed_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(REPORT | {"latency": REPORT["latency"] | {"valid": False}}, Path("out"))
    assert "do not believe this latency" in capsys.readouterr().out


def test_json_is_all_there_is_on_stdout(pipeline: Callable[..., list[BuildConfig]]) -> None:
    pipeline()
    result = run("build", "net.toml", "--json")
    assert json.loads(result.stdout) == REPORT
    both = run("build", "net.toml", "--json", "--quiet", "--target", "onnx-arm", "--target", "tflite-arm")
    assert [report["target"] for report in json.loads(both.stdout)] == ["onnx-arm", "tflite-arm"]
    assert both.stderr == ""


def test_without_model_the_file_s_or_the_shipped_default(pipeline: Callable[..., list[BuildConfig]]) -> None:
    seen = pipeline()
    result = run("build", "--target", "tflite-arm")
    assert seen[-1].model == DEFAULT_MODEL
    assert f"building the shipped default, {DEFAULT_MODEL}" in result.stderr
    Path("edgeq.toml").write_text('model = "ours.toml"\ntarget = "onnx-x86"\n')
    result = run("build")
    assert (seen[-1].model, seen[-1].target) == ("ours.toml", "onnx-x86")
    assert "default" not in result.stderr


def test_plan_and_print_config_do_no_work(pipeline: Callable[..., list[BuildConfig]]) -> None:
    def never(config: BuildConfig, shown: Progress) -> dict[str, Any]:
        raise AssertionError("worked")

    pipeline(never)
    result = run("build", "net.toml", "--plan")
    assert (result.exit_code, "capture" in result.stdout, result.stderr) == (0, True, "")
    assert json.loads(run("build", "net.toml", "--plan", "--json").stdout)["model"] == "net.toml"
    result = run("build", "net.toml", "--print-config", "--seed", "4", env={"EDGEQ_EFFORT": "best"})
    assert 'model = "net.toml"  # MODEL' in result.stdout
    assert "seed = 4  # --seed" in result.stdout
    assert 'effort = "best"  # EDGEQ_EFFORT' in result.stdout
    shown = json.loads(run("build", "--print-config", "--json").stdout)
    assert shown["seed"] == {"value": 0, "from": "default"}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--target", "tflite-amr"), ("unknown target 'tflite-amr'", "did you mean 'tflite-arm'?")),
        (("--target", "tflite-arm", "--target", "onx-arm"), ("unknown target 'onx-arm'", "did you mean 'onnx-arm'?")),
        (("--images", "none"), ("--images 'none'", "whole number")),
        (("--effort", "bets"), ("--effort 'bets'", "did you mean 'best'?")),
        (("--io", "float16"), ("--io 'float16'", "did you mean 'float32'?")),
        (("--config", "gone.toml"), ("cannot read gone.toml",)),
    ],
)
def test_wrong_settings(
    pipeline: Callable[..., list[BuildConfig]], arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    seen = pipeline()
    one_line(run("build", "net.toml", *arguments), 2, *parts)
    assert seen == []


def test_unknown_key_in_edgeq_toml(pipeline: Callable[..., list[BuildConfig]]) -> None:
    pipeline()
    Path("edgeq.toml").write_text("sede = 3\n")
    one_line(run("build"), 2, "unknown key 'sede' at edgeq.toml", "did you mean 'seed'?")


@pytest.mark.parametrize(
    ("error", "status", "part"),
    [
        (UnsupportedError("aten.sin", where="features.1", hint="try relu6"), 3, "aten.sin at features.1 (try relu6)"),
        (GateError("missed"), 1, "missed"),
        (DeviceError("gone"), 4, "gone"),
        (MeasurementError("throttled"), 5, "throttled"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "build/x"), 2, "build/x: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "build"), 2, "build: Permission denied"),
        (ZeroDivisionError("division by zero"), 70, "bug: ZeroDivisionError: division by zero (run again with EDGEQ_"),
    ],
)
def test_failures_are_one_line_and_a_status(
    pipeline: Callable[..., list[BuildConfig]], error: BaseException, status: int, part: str
) -> None:
    def fail(config: BuildConfig, shown: Progress) -> dict[str, Any]:
        shown.stage("capture")
        raise error

    pipeline(fail)
    one_line(run("build", "net.toml"), status, part)
    quiet = run("build", "net.toml", "--quiet", "--json")
    assert (quiet.exit_code, quiet.stdout, len(quiet.stderr.splitlines())) == (status, "", 1)


def test_traceback_on_request(pipeline: Callable[..., list[BuildConfig]]) -> None:
    def fail(config: BuildConfig, shown: Progress) -> dict[str, Any]:
        raise ZeroDivisionError

    pipeline(fail)
    assert "Traceback" in run("build", "net.toml", env={"EDGEQ_TRACEBACK": "1"}).stderr


def test_torchrun_is_refused() -> None:
    environment = os.environ | {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", "from edgeq.cli import main; main()", "targets"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("edgeq: edgeq under torchrun: it fine-tunes in one process")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_goes_away_is_not_an_error() -> None:
    # A pipe nobody reads: the write at exit fails with EPIPE.
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", "from edgeq.cli import main; main()", "targets", "--json"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_targets() -> None:
    lines = run("targets").stdout.splitlines()
    assert {"onnx-arm", "onnx-x86", "tflite-arm", "tflite-pi5", "tflite-x86"} <= {line.split()[0] for line in lines}
    found = {target["name"]: target for target in json.loads(run("targets", "--json").stdout)}
    assert found["onnx-x86"]["weight_bits_without_vnni"] == 7


def test_models_name_the_default() -> None:
    found = {model["name"]: model for model in json.loads(run("models", "--json").stdout)}
    assert found[DEFAULT_MODEL]["default"] is True
    assert "default" in next(line for line in run("models").stdout.splitlines() if line.split()[0] == DEFAULT_MODEL)


def test_methods_are_the_registry_s() -> None:
    from edgeq.synth.base import SYNTHESIZERS

    found = {method["name"]: method["what"] for method in json.loads(run("methods", "--json").stdout)}
    assert set(found) == {"auto", "images:PATH", "NAME+NAME", "zaq", "dfq-akd", *SYNTHESIZERS}
    assert all(found.values())
    assert "\n" not in "".join(found.values())


def test_strict_refuses_what_must_not_be_believed(pipeline: Callable[..., list[BuildConfig]]) -> None:
    doubtful = {**REPORT, "target": "tflite-arm", "latency": {**REPORT["latency"], "valid": False, "reason": "busy"}}
    pipeline(lambda config, shown: doubtful)
    one_line(run("build", "net.toml", "--strict"), 5, "must not be believed", "busy", "--force measure")
    assert run("build", "net.toml").exit_code == 0


def test_strict_holds_devices_to_it_too() -> None:
    row = {"name": "pi@board", "valid": False, "doubts": ["the board reports throttled"]}
    with pytest.raises(MeasurementError, match=r"pi@board: the board reports throttled"):
        check_believable({**REPORT, "devices": [{**row, "valid": True, "doubts": []}, row]})


def test_errors_never_steer_the_terminal() -> None:
    result = run("build", "a\x1b]0;title\x07.toml")
    one_line(result, 2, "a\\x1b]0;title\\x07.toml")
    assert not set(result.stderr) & {"\x1b", "\x07"}


def test_version() -> None:
    found = json.loads(run("version", "--json").stdout)
    assert {"edgeq", "python", "torch", "onnxruntime"} <= set(found)
    assert run("version").stdout.startswith("edgeq")


def test_plan_shows_anything(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(
        {
            "parameters": 272474,
            "input": [3, 32, 32],
            "unsupported": [],
            "estimate": {"seconds": 2.0},
            "ok": True,
            "ops": [{"op": "Conv2d[x]", "count": 19}, {"op": "Add", "macs": 3}],
        }
    )
    text = capsys.readouterr().out
    for part in ("272,474", "3x32x32", "none", "seconds 2.00", "yes", "Conv2d[x]", "19"):
        assert part in text
    show_plan({"layers": [{"name": "a\x1b]0;title\x07"}]})  # module paths come out of a stranger's file
    assert "a\\x1b]0;title\\x07" in capsys.readouterr().out


def test_calls_refused_alike_are_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"op": "aten.bmm.default", "where": f"blocks.{n}.attention", "hint": "use nn.Linear"} for n in range(3)]
    show_plan({"unsupported": [*rows, {"op": "aten.erfc.default", "where": "head", "hint": "use GELU"}]})
    text = capsys.readouterr().out
    assert (text.count("aten.bmm"), text.count("aten.erfc"), text.count("nn.Linear")) == (1, 1, 1)
    assert "blocks.0.attention and 2 more" in text


def test_settings_of_another_network_are_left_out_aloud(pipeline: Callable[..., list[BuildConfig]]) -> None:
    seen = pipeline()
    Path("edgeq.toml").write_text('model = "a.toml"\nmean = [0.5, 0.5, 0.5]\n[layer_bits]\nhead = "w8a16"\n')
    result = run("build", "b.toml")
    assert "edgeq.toml is about another network: its mean, layer_bits are left out" in result.stderr
    assert seen[0].layer_bits == ()
    assert "another network" not in run("build").stderr


def test_group_loads_only_what_its_table_names() -> None:
    with click.Context(cli) as ctx:
        assert cli.get_command(ctx, "os:system") is None
