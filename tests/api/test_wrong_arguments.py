"""Wrong arguments of the Python API are a ConfigError in one line, and plug-ins that fail are named."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import edgeq
from edgeq.cli.shell import report_error
from edgeq.data.calibration import CalibrationSet
from edgeq.quant.observe import OBSERVERS
from edgeq.synth import SYNTHESIZERS
from tests.cli.console import run

PIXELS: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3}


@dataclass(frozen=True)
class Given:
    """One network, its model and integers, and images that suit it: float32 ``(4, 3, 8, 8)``."""

    module: nn.Module
    model: Any
    net: Any
    x: np.ndarray


@pytest.fixture(scope="module")
def given() -> Given:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    model = edgeq.trace(module, (3, 8, 8), name="tiny", **PIXELS)
    x = np.random.default_rng(0).normal(0, 1, (4, 3, 8, 8)).astype(np.float32)
    return Given(module, model, edgeq.quantize(model, x), x)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bench(**options: Any) -> Any:
    return edgeq.bench("net.tflite", **options)


def trace(g: Given, shape: Any = (3, 8, 8), **options: Any) -> Any:
    return edgeq.trace(g.module, shape, **{**PIXELS, **options})


ZEROS = np.zeros((1, 8, 8, 3), np.uint8)

WRONG: dict[str, tuple[Callable[[Given], Any], str]] = {
    "finetune 0 images": (lambda g: edgeq.finetune(g.model, g.x[:0]), "images of shape"),
    "finetune 1 image": (lambda g: edgeq.finetune(g.model, g.x[:1]), "takes 5 or more"),
    "finetune 4 images": (lambda g: edgeq.finetune(g.model, g.x), "takes 5 or more"),
    "finetune none": (lambda g: edgeq.finetune(g.model, g.x, method="none"), "choose from zaq, dfq-akd, kd"),
    "finetune None": (lambda g: edgeq.finetune(g.model, g.x, method=None), "choose from zaq, dfq-akd, kd"),
    "finetune module": (lambda g: edgeq.finetune(g.module, g.x), "model Sequential.*must be a Model"),
    "shape 16": (lambda g: trace(g, 16), "input_shape 16: must be"),
    "shape None": (lambda g: trace(g, None), "input_shape None: must be"),
    "shape text": (lambda g: trace(g, "3,8,x"), "input_shape '3,8,x': must be"),
    "shape NaN": (lambda g: trace(g, (3, float("nan"), 8)), "input_shape .*nan.*must be"),
    "shape fraction": (lambda g: trace(g, (3, 8.5, 8)), "input_shape .*8.5.*must be"),
    "mean numbers": (lambda g: trace(g, mean=(0.5, 0.5)), "must be 3 finite numbers"),
    "mean words": (lambda g: trace(g, mean=("a",) * 3), "mean .*must be numbers"),
    "std tiny": (lambda g: trace(g, std=(1e-320, 1, 1)), "turn pixels into inputs beyond"),
    "task": (lambda g: trace(g, task="segmenter"), "task 'segmenter'.*segmentation"),
    "labels": (lambda g: trace(g, labels="abcd"), "labels 'abcd': must be a list"),
    "classes": (lambda g: trace(g, classes=-1), "classes -1: must be"),
    "name": (lambda g: trace(g, name=5), "name 5: must be"),
    "load None": (lambda g: edgeq.load(None), "ref None: must be"),
    "load long name": (lambda g: edgeq.load("n" * 300), "ref .*names of 255 bytes at most"),
    "build long name": (lambda g: edgeq.build(g.model, output="n" * 300), "output .*names of 255 bytes at most"),
    "images long name": (lambda g: edgeq.synthesize(g.model, "images:" + "n" * 300), "File name too long"),
    "images labels": (lambda g: edgeq.quantize(g.model, CalibrationSet(g.x, None, "mine")), "labels of the images"),
    "load weights": (lambda g: edgeq.load("resnet20", weights=g.module.state_dict()), "weights .*must be"),
    "synthesize module": (lambda g: edgeq.synthesize(g.module), "must be a Model"),
    "synthesize cache": (lambda g: edgeq.synthesize(g.model, cache=5), "cache 5: must be a path"),
    "synthesize output": (lambda g: edgeq.synthesize(g.model, output=5), "output 5: must be"),
    "quantize module": (lambda g: edgeq.quantize(g.module, g.x), "must be a Model"),
    "quantize observer": (lambda g: edgeq.quantize(g.model, g.x, observer="mes"), "did you mean 'mse'"),
    "images None": (lambda g: edgeq.quantize(g.model, None), "images None: must be"),
    "images folder": (lambda g: edgeq.quantize(g.model, "photos/"), "images:FOLDER"),
    "images ragged": (lambda g: edgeq.quantize(g.model, [[1.0], [1.0, 2.0]]), "images .*must be"),
    "images ragged tensors": (lambda g: edgeq.quantize(g.model, [torch.ones(1), torch.ones(2)]), "images .*must be"),
    "images dict": (lambda g: edgeq.quantize(g.model, {"images": g.x}), "images .*must be"),
    "images loader": (lambda g: edgeq.quantize(g.model, torch.utils.data.DataLoader([1])), "images .*must be"),
    "images meta": (lambda g: edgeq.quantize(g.model, torch.ones(g.x.shape, device="meta")), "images .*must be"),
    "images pixels": (lambda g: edgeq.quantize(g.model, g.x.astype(np.uint8)), "look like pixels"),
    "images complex": (lambda g: edgeq.quantize(g.model, g.x + 1j), "images of type complex64"),
    "images huge": (lambda g: edgeq.quantize(g.model, g.x * 1e300), "not finite"),
    "write None": (lambda g: edgeq.write(None, "net.tflite"), "net None: must be"),
    "write path None": (lambda g: edgeq.write(g.net, None), "path None: must be a path"),
    "write long name": (lambda g: edgeq.write(g.net, "n" * 300 + ".tflite"), "names of 255 bytes at most"),
    "write longest name": (lambda g: edgeq.write(g.net, "n" * 248 + ".tflite"), "File name too long"),
    "write NUL": (lambda g: edgeq.write(g.net, "n\0.tflite"), "without NUL"),
    "write target": (lambda g: edgeq.write(g.net, "net.tflite", target=5), "target 5: must be"),
    "write io": (lambda g: edgeq.write(g.net, "net.tflite", io=5), "io 5"),
    "verify None": (lambda g: edgeq.verify(None), "path None: must be a path"),
    "verify model": (lambda g: edgeq.verify("net.tflite", g.model, g.x), "net Model.*must be an IntegerGraph"),
    "verify rounding": (lambda g: edgeq.verify("net.tflite", rounding="torch"), "rounding 'torch'"),
    "verify count": (lambda g: edgeq.verify("out", images=-3), "images -3: must be a whole number of at least 1"),
    "verify seed": (lambda g: edgeq.verify("out", seed=-1), "seed -1: must be"),
    "verify NaN": (lambda g: edgeq.verify("net.tflite", g.net, g.x * np.nan), "not finite"),
    "verify shape": (lambda g: edgeq.verify("net.tflite", g.net, g.x[:, :1]), r"takes \(N, C, H, W\)"),
    "evaluate what": (lambda g: edgeq.evaluate(g.module, "test.npz"), "what Sequential.*must be"),
    "evaluate limit": (lambda g: edgeq.evaluate(g.model, (ZEROS, [0]), limit=-1), "limit -1: must be"),
    "evaluate limit text": (lambda g: edgeq.evaluate(g.model, (ZEROS, [0]), limit="2"), "limit '2': must be"),
    "evaluate 5": (lambda g: edgeq.evaluate(g.model, 5), "data is a int: must be"),
    "evaluate one": (lambda g: edgeq.evaluate(g.model, (ZEROS,)), "data is a tuple of 1: must be"),
    "evaluate three": (lambda g: edgeq.evaluate(g.model, (ZEROS, [0], 1)), "data is a tuple of 3: must be"),
    "evaluate labels": (lambda g: edgeq.evaluate(g.model, (ZEROS, {"a": 1})), "values .*must be numbers"),
    "evaluate model": (lambda g: edgeq.evaluate(g.net, (ZEROS, [0]), model=5), "ref 5: must be"),
    "evaluate_on None": (lambda g: edgeq.evaluate_on(None), "path None: must be a path"),
    "bench None": (lambda g: edgeq.bench(None), "path None: must be a path"),
    "bench device": (lambda g: bench(device=None), "device None: must be"),
    "bench threads": (lambda g: bench(threads=10**6), "threads 1000000: must be a whole number from 1 to 1,024"),
    "bench seconds": (lambda g: bench(seconds=-1), "seconds -1: must be"),
    "bench timeout": (lambda g: bench(timeout=float("nan")), "timeout nan: must be"),
    "inspect None": (lambda g: edgeq.inspect(None), "path None: must be a path"),
    "read None": (lambda g: edgeq.Report.read(None), "folder None: must be a path"),
    "check dict": (lambda g: edgeq.check({"schema": 1}, max_drop=1), r"must be a Report .*edgeq\.Report\.read"),
    "check huge": (lambda g: edgeq.check("out", max_bytes=10**400), "max_bytes 1000.*must be a size"),
    "check config": (lambda g: edgeq.check("out", config=5), "config 5: must be a path"),
    "check nothing": (lambda g: edgeq.check("out"), "nothing to check"),
    "check no device": (lambda g: edgeq.check("out", device="pi@a", max_drop=1.0), "nothing to check on pi@a"),
    "build None": (lambda g: edgeq.build(None), "model None: must be"),
    "build config": (lambda g: edgeq.build(g.model, config=5), "config 5: must be a path"),
    "build locked": (lambda g: edgeq.build(g.model, locked=5), "locked 5: must be a path"),
    "build images": (lambda g: edgeq.build(g.model, images=np.zeros((9, 3, 8, 8))), "images .*must be a whole number"),
    "build seed": (lambda g: edgeq.build(g.model, seed=10**6000), "seed int of thousands of digits: must be"),
    "build effort": (lambda g: edgeq.build(g.model, effort=10**6000), "effort int of thousands of digits"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_refused_in_a_short_line(given: Given, case: str) -> None:
    call, what = WRONG[case]
    with pytest.raises(edgeq.ConfigError, match=what) as caught:
        call(given)
    assert len(str(caught.value)) < 600


def test_what_can_be_meant_is_taken(given: Given) -> None:
    tensors = (torch.from_numpy(given.x).requires_grad_(), list(torch.from_numpy(given.x)), given.x.astype(np.float64))
    for images in tensors:
        assert edgeq.quantize(given.model, images, observer=None).digest() == given.net.digest()
    assert edgeq.quantize(given.model, torch.from_numpy(given.x).bfloat16())
    assert trace(given, torch.ones(1, 3, 8, 8).shape[1:], labels=None, mean=torch.full((3,), 0.5)).spec.labels == ()
    edgeq.write(given.net, "net.tflite")
    row = edgeq.bench("net.tflite", threads=np.int64(1), seconds=np.float32(0.01))
    assert row["threads"] == 1


def test_the_command_line_refuses_numbers_that_are_none(given: Given) -> None:
    edgeq.write(given.net, "net.tflite")
    for words in (
        ["bench", "net.tflite", "--timeout", "nan"],
        ["bench", "net.tflite", "--wait", "nan"],
        ["bench", "net.tflite", "--seconds", "-1"],
        ["bench", "net.tflite", "--seconds", "nan"],
        ["bench", "net.tflite", "--threads", "1000000"],
        ["build", "--images", "99999999999999"],
        ["build", "--std", "1e-320,1,1", "--plan"],
    ):
        assert run(*words).exit_code == 2, words
    for seed in ("9" * 6000, "0x" + "9" * 6000):
        Path("edgeq.toml").write_text(f"seed = {seed}\n")
        assert run("build", "--plan").exit_code == 2


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_is_no_bug(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(error) == 2
    assert "too little memory" in capsys.readouterr().err


def fail(*arguments: Any) -> Any:
    raise KeyError("inside")


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        (fail, "the observer 'mine' failed: KeyError: 'inside'"),
        (lambda *_: (1.0, -1.0), "the observer 'mine' returned the range 1 to -1"),
        (lambda *_: (0.0, float("nan")), "the observer 'mine' returned the range 0 to nan"),
        (lambda *_: None, "the observer 'mine' failed: TypeError"),
    ],
)
def test_an_observer_that_fails_is_named(given: Given, rule: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    list(OBSERVERS)
    monkeypatch.setitem(OBSERVERS._entries, "mine", rule)
    with pytest.raises(edgeq.ConfigError, match=what):
        edgeq.quantize(given.model, given.x, observer="mine")


@pytest.mark.parametrize(
    ("method", "what"),
    [
        (fail, "the synthesizer 'mine' failed: KeyError: 'inside'"),
        (lambda request: np.zeros((8, 3, 8, 8), np.float32), "the synthesizer 'mine' returned ndarray"),
        (lambda request: made(2), r"the synthesizer 'mine' returned images \[2, 3, 8, 8\]"),
        (lambda request: made(8, np.nan), "images of the synthesizer 'mine': must be finite"),
    ],
)
def test_a_synthesizer_that_fails_is_named(
    given: Given, method: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(SYNTHESIZERS)
    monkeypatch.setitem(SYNTHESIZERS._entries, "mine", method)
    for name in ("mine", "mine+noise"):
        with pytest.raises(edgeq.ConfigError, match=what.replace("[8", "[4")):
            edgeq.synthesize(given.model, name, count=8 if name == "mine" else 16)


def made(count: int, value: float = 0.0) -> CalibrationSet:
    return CalibrationSet(np.full((count, 3, 8, 8), value, np.float32), np.full(count, -1), "mine")
