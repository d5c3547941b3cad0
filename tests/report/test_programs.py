"""Programs that `edgeq use` prints: run here, they give the build's own answers, whatever the task and the runtime."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from edgeq.cli import cli
from edgeq.data.pictures import fit_picture
from edgeq.errors import ConfigError
from edgeq.measure.dense import enlarge
from edgeq.report.programs import program
from edgeq.report.programs.literals import kotlin
from tests.report.programs import TASKS, answers, built, loaded, pictures

TARGETS = ("tflite-arm", "onnx-arm", "onnx-x86")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("task", TASKS)
def test_python_gives_the_build_s_answers(task: str, target: str, tmp_path: Path) -> None:
    model, report = built(task, target, tmp_path)
    use = loaded(report)
    pixels = pictures(model)
    expected = answers(model, report, pixels)
    inputs = model.spec.normalise(pixels)
    for i, picture in enumerate(pixels):
        given = inputs[i, :, 0] if task == "series" else picture
        real = use.to_real(use.run(use.to_input(given)))
        assert [data.tolist() for data in real] == [data[i : i + 1].tolist() for data in expected]
        _check_meaning(task, use.answer(real), [data[i : i + 1] for data in expected], model.spec)


def _check_meaning(task: str, answer: Any, outputs: list[np.ndarray], spec: Any) -> None:
    """Compare what the program makes of the outputs with what edgeq measures."""
    if task == "segmentation":
        np.testing.assert_array_equal(answer, enlarge(outputs[0], spec.input_shape[1:]).argmax(1)[0])
    elif task in ("anchors", "detect", "segment", "pose", "obb"):
        places = (spec.dense.anchors(spec.input_shape[1:]),) if task == "anchors" else ()
        (found,) = spec.dense.detect(outputs, *places)
        assert len(found.labels) > 0
        np.testing.assert_array_equal(answer.labels, found.labels)
        np.testing.assert_array_equal(answer.boxes, found.boxes)
    elif task == "regression":
        np.testing.assert_array_equal(answer, np.concatenate([data.reshape(-1) for data in outputs]))
    elif task == "embedding":
        assert np.linalg.norm(answer) == pytest.approx(1)
        assert answer @ outputs[0][0] == pytest.approx(np.linalg.norm(outputs[0]), rel=1e-5)
    elif task == "binary":
        assert [name for name, _ in answer] == (["yes", "no"] if outputs[0][0, 0] > 0 else ["no", "yes"])
    else:
        best = int(outputs[0][0].argmax())
        assert answer[0] == (spec.labels[best] if spec.labels else f"class {best}", float(outputs[0][0, best]))


@pytest.mark.parametrize(("target", "io"), [("tflite-arm", "int8"), ("tflite-arm", "float32"), ("onnx-arm", "int8")])
def test_raw_pixels_of_other_types(target: str, io: str, tmp_path: Path) -> None:
    model, report = built("raw", target, tmp_path, io=io)
    use = loaded(report)
    pixels = pictures(model, 1)
    real = use.to_real(use.run(use.to_input(pixels[0])))
    assert real[0].tolist() == answers(model, report, pixels)[0].tolist()


@pytest.mark.parametrize(("target", "io"), [("tflite-arm", "uint8"), ("tflite-arm", "float32"), ("onnx-arm", "int8")])
def test_inputs_and_outputs_of_other_types(target: str, io: str, tmp_path: Path) -> None:
    model, report = built("regression", target, tmp_path, io=io)
    use = loaded(report)
    pixels = pictures(model, 1)
    real = use.to_real(use.run(use.to_input(pixels[0])))
    assert [data.tolist() for data in real] == [data.tolist() for data in answers(model, report, pixels)]


def test_sixteen_bits(tmp_path: Path) -> None:
    model, report = built("classification", "tflite-arm", tmp_path, bits="w8a16")
    use = loaded(report)
    pixels = pictures(model, 1)
    data = use.to_input(pixels[0])
    assert data.dtype == np.int16
    assert use.to_real(use.run(data))[0].tolist() == answers(model, report, pixels)[0].tolist()


def test_pictures_are_prepared_as_in_a_build(tmp_path: Path) -> None:
    model, report = built("classification", "tflite-arm", tmp_path)
    rng = np.random.default_rng(0)
    for size in ((20, 33), (33, 20), (12, 12)):
        picture = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        spec = replace(model.spec, input_shape=(3, 10, 10), resize=12, crop=10)
        changed = json.loads(json.dumps(dict(report)))
        changed["use"] |= {"resize": 12, "crop": True}
        changed["use"]["input"]["shape"] = [1, 10, 10, 3]
        use = loaded(type(report)(report.folder, changed))
        np.testing.assert_array_equal(use.prepare(picture), fit_picture(picture, spec, "here"))
    exact = Image.fromarray(rng.integers(0, 256, (8, 12, 3), np.uint8))
    np.testing.assert_array_equal(loaded(report).prepare(exact), np.asarray(exact))


def test_a_program_runs_alone(tmp_path: Path) -> None:
    """As its user runs it: without edgeq, from another folder, on a picture file."""
    model, report = built("classification", "tflite-arm", tmp_path)
    printed = CliRunner().invoke(cli, ["use", str(report.folder)])
    assert printed.exit_code == 0
    (report.folder / "use.py").write_text(printed.stdout, encoding="utf-8")
    pixels = pictures(model, 1)
    Image.fromarray(pixels[0]).save(tmp_path / "picture.png")
    command = [sys.executable, "-s", str(report.folder / "use.py"), str(tmp_path / "picture.png")]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", cwd=tmp_path, env={"PYTHONIOENCODING": "utf-8"}
    )
    assert done.returncode == 0, done.stderr
    best = int(answers(model, report, pixels)[0].argmax())
    assert done.stdout.splitlines()[1].startswith(f"  {model.spec.labels[best]}: ")


@pytest.mark.skipif(
    not importlib.util.find_spec("tflite_runtime") or int(np.__version__.split(".")[0]) > 1,
    reason="tflite-runtime is not installed, or numpy is too new for it",
)
@pytest.mark.parametrize("task", ["classification", "detect"])
def test_tflite_runtime_gives_the_same_integers(task: str, tmp_path: Path) -> None:
    """In a process of its own: both runtimes in one crash."""
    model, report = built(task, "tflite-arm", tmp_path)
    pixels = pictures(model, 1)
    np.save(tmp_path / "pixels.npy", pixels[0])
    made = program(report, runtime="tflite-runtime")
    assert "tflite_runtime" in made.text
    (report.folder / "use.py").write_text(made.text, encoding="utf-8")
    script = (
        "import use, numpy; data = use.run(use.to_input(numpy.load('../pixels.npy'))); "
        "numpy.savez('../found.npz', *use.to_real(data))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=report.folder)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        arrays = [found[name] for name in sorted(found.files, key=lambda name: int(name.removeprefix("arr_")))]
    for data, expected, grid in zip(arrays, answers(model, report, pixels), report["use"]["outputs"], strict=True):
        np.testing.assert_allclose(data, expected, rtol=0, atol=1.01 * grid["scale"])  # XNNPACK of another year


def test_the_command_line(tmp_path: Path) -> None:
    _, report = built("classification", "onnx-arm", tmp_path)
    told = CliRunner().invoke(cli, ["use", str(report.folder), "--json"])
    assert json.loads(told.stdout)["runtime"] == "onnxruntime"
    refused = CliRunner().invoke(cli, ["use", str(report.folder), "-l", "kotlin"])
    assert (refused.exit_code, "it is for TFLite files" in refused.stderr) == (2, True)
    refused = CliRunner().invoke(cli, ["use", str(report.folder), "--runtime", "litert"])
    assert (refused.exit_code, "choose from onnxruntime" in refused.stderr) == (2, True)
    assert CliRunner().invoke(cli, ["use", str(tmp_path)]).exit_code == 2
    page = (report.folder / "report.html").read_text(encoding="utf-8")
    assert "onnxruntime.InferenceSession" in page


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("C:\\foo", r'"C:\\foo"'),
        ("a\fb", r'"a\u000cb"'),
        ("\\$x", r'"\\\$x"'),
        ('"\n', r'"\"\n"'),
    ],
)
def test_texts_are_those_of_kotlin(text: str, literal: str) -> None:
    assert kotlin(text) == literal


HOSTILE = 'x"""\nimport os\n*/ ${1}\\'


def test_nothing_of_a_stranger_s_report_becomes_code(tmp_path: Path) -> None:
    _, report = built("classification", "tflite-arm", tmp_path)
    changed = json.loads(json.dumps(dict(report)))
    changed["model"] = changed["target"] = changed["artifact"]["path"] = HOSTILE
    changed["use"] |= {"labels": [HOSTILE] * 6, "labels_in_file": False}
    made = {language: program(changed, language).text for language in ("python", "kotlin", "c++")}
    compile(made["python"], "use.py", "exec")
    for text in made.values():
        assert "\nimport os\n*" not in text
        assert not any(line.endswith("\\") for line in text.splitlines())
    code = "\n".join(line for line in made["kotlin"].splitlines() if not line.startswith("//"))
    assert "${" not in code.replace("\\${", "")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda use: use["input"].update(shape=[1, 6]), "one picture goes in"),
        (lambda use: use.update(outputs=[]), "something comes out"),
        (lambda use: use["outputs"][0].pop("scale"), "integers have a scale"),
        (lambda use: use.update(mean=[0.0]), "a number per channel"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(spoil: Any, why: str, tmp_path: Path) -> None:
    _, report = built("classification", "tflite-arm", tmp_path)
    changed = json.loads(json.dumps(dict(report)))
    spoil(changed["use"])
    with pytest.raises(ConfigError, match=why):
        program(changed)
