"""The C++ programs, compiled and run on a stand-in of TensorFlow Lite that answers to the right bytes alone.

The stand-in shows that a program gives the file the integers that a build gives it, and decodes its answers alike. It
does not show that the real library links.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.measure.dense import enlarge
from edgeq.report.programs import program
from tests.report.programs import answers, built, loaded, pictures

COMPILER = next((path for name in ("g++", "clang++") if (path := shutil.which(name))), "")
TASKS = (
    "classification",
    "binary",
    "segmentation",
    "anchors",
    "detect",
    "obb",
    "regression",
    "embedding",
    "series",
    "raw",
)
TYPES = {"float32": 1, "uint8": 3, "int16": 7, "int8": 9}


def _tensor(about: dict[str, Any], data: np.ndarray) -> str:
    numbers = [TYPES[about["type"]], len(about["shape"]), *about["shape"]]
    grid = [repr(about.get("scale", 0.0)), about.get("zero_point", 0)]
    content = np.ascontiguousarray(data).view(np.int8).reshape(-1)
    return " ".join(map(str, [*numbers, *grid, len(content), *content.tolist()]))


@pytest.mark.skipif(not COMPILER, reason="there is no C++ compiler")
@pytest.mark.parametrize("task", TASKS)
def test_cpp_gives_the_build_s_answers(task: str, tmp_path: Path) -> None:
    model, report = built(task, "tflite-arm", tmp_path)
    use = loaded(report)
    pixels = pictures(model, 1)
    values = model.spec.normalise(pixels)[0, :, 0] if task == "series" else pixels[0]
    data = use.to_input(values)
    raw, about = use.run(data), report["use"]
    tensors = zip([about["input"], *about["outputs"]], [data, *raw], strict=True)
    (tmp_path / "model.txt").write_text("\n".join(_tensor(row, array) for row, array in tensors))
    (tmp_path / "input.raw").write_bytes(np.ascontiguousarray(values).tobytes())
    (tmp_path / "use.cc").write_text(program(report, "c++").text, encoding="utf-8")
    headers = Path(__file__).with_name("tflite_stub")
    command = [COMPILER, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{headers}", "use.cc", "-o", "use", "-pthread"]
    made = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    done = subprocess.run(["./use", "model.txt", "input.raw"], capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    _check(task, done.stdout.decode().splitlines(), answers(model, report, pixels), model.spec)


def _check(task: str, lines: list[str], outputs: list[np.ndarray], spec: Any) -> None:
    """Compare what the program printed with what edgeq measures."""
    if task == "segmentation":
        assert list(map(int, lines)) == enlarge(outputs[0], spec.input_shape[1:]).argmax(1)[0].reshape(-1).tolist()
        return
    names, rows = zip(*((line.split(" ")[0], line.rsplit(" ", 5)[1:]) for line in lines), strict=True)
    if task in ("anchors", "detect", "obb"):
        places = (spec.dense.anchors(spec.input_shape[1:]),) if task == "anchors" else ()
        (found,) = spec.dense.detect(outputs, *places)
        assert list(names) == [spec.dense.classes[label] for label in found.labels]
        printed = np.array([row[1:] for row in rows], float)
        np.testing.assert_allclose(printed, found.boxes, rtol=1e-4, atol=1e-5)
        return
    numbers = [float(line.split(" ")[-1]) for line in lines]
    if task in ("regression", "embedding"):
        expected = np.concatenate([data.reshape(-1) for data in outputs])
        length = np.linalg.norm(expected) if task == "embedding" else 1
        np.testing.assert_allclose(numbers, expected / length, rtol=1e-4, atol=1e-6)
        return
    scores = np.array([-outputs[0][0, 0], outputs[0][0, 0]]) if task == "binary" else outputs[0][0]
    best = np.argsort(-scores, kind="stable")[:5]
    labels = spec.labels or tuple(map(str, range(len(scores))))
    assert [line.rsplit(" ", 1)[0] for line in lines] == [labels[i] for i in best]
    np.testing.assert_allclose(numbers, scores[best], rtol=1e-4)


BRACKETS = {")": "(", "]": "[", "}": "{"}


@pytest.mark.parametrize("task", TASKS)
def test_kotlin_is_whole(task: str, tmp_path: Path) -> None:
    """No compiler is at hand: brackets close in order, and what is called is defined or imported."""
    _, report = built(task, "tflite-arm", tmp_path)
    text = program(report, "kotlin").text
    code = re.sub(r"//[^\n]*|/\*.*?\*/", "", re.sub(r'"(\\.|[^"\\])*"', '""', text), flags=re.DOTALL)
    open_brackets: list[str] = []
    for sign in code:
        if sign in BRACKETS.values():
            open_brackets.append(sign)
        elif sign in BRACKETS:
            assert open_brackets.pop() == BRACKETS[sign]
    assert open_brackets == []
    defined = set(re.findall(r"(?:fun|class|va[lr]) (\w+)", code)) | set(re.findall(r"import [\w.]*\.(\w+)", code))
    capitals = set(re.findall(r"\b[A-Z]\w+\b", code)) - {"ByteArray", "FloatArray", "IntArray", "AutoCloseable"}
    known = {
        "List",
        "Pair",
        "String",
        "Int",
        "Float",
        "Math",
        "Runtime",
        "READ_ONLY",
        "FLOAT32",
        "INT16",
        "UINT8",
        "PI",
    }
    assert capitals - known - defined <= {"Options", "MapMode"}
    for name in set(
        re.findall(r"(?<![.\w])(decode|distance|suppress|overlap|area|real|quantize|normalise|buffer)\(", code)
    ):
        assert f"fun {name}(" in code
