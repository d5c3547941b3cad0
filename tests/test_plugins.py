"""Another package's transport, runner, observer, synthesizer and format, found by entry points and used by name."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from torch import nn

import edgeq
from edgeq.cli import cli
from edgeq.config import settings
from edgeq.config.formats import FORMATS
from edgeq.device.open import open_device, transport_of
from edgeq.device.runners.base import RUNNERS
from edgeq.device.transport import TRANSPORTS
from edgeq.errors import ConfigError
from edgeq.quant.observe import OBSERVERS
from edgeq.registry import plugins
from edgeq.synth import SYNTHESIZERS
from tests.device.tiny import tiny_model

MODULE = """
import sys
from edgeq.device.runners.python import PythonRunner
from edgeq.device.transport import ShellTransport, call

class Box(ShellTransport):
    forms = {"box:NUMBER": "a box"}
    runner = "boxed"

    @classmethod
    def matches(cls, name):
        return name.startswith("box:")

    @classmethod
    def open(cls, name, *, runtime, patience):
        box = cls(name, patience=patience)
        box.python = (sys.executable,)
        return box

    def execute(self, command, *, data=None, timeout=30.0, limit=1 << 26):
        return call(["/bin/sh", "-c", command], data=data, timeout=timeout, where=self.name, held=True, limit=limit)

class Boxed(PythonRunner):
    def _ask(self, words, timeout, request=None):
        facts = super()._ask(words, timeout, request)
        facts["machine"]["cpu"] = "a processor in a box"
        return facts

def widest(histogram, levels, transfer):
    return histogram.low, histogram.high

def nothing(request):
    raise NotImplementedError

from pathlib import Path
from edgeq.config.formats import FormatFacts

LITE = FormatFacts(
    "lite", "Lite", ".lite", "edgeq.formats.tflite.format:TFLite", runtimes=("litert",), kernels=("xnnpack",),
    activations=("int8",), weight_types=("int8",), target=str(Path(__file__).with_name("board.toml")), exact=True,
)
"""

TARGET = """
description = "a board that wants its own file"
format = "lite"
machine = "aarch64"
runtime = "litert"
kernels = "xnnpack"
activations = "int8"
io = "int8"
weight_bits = 8
threads = 1
"""

ENTRY_POINTS = """
[edgeq.transports]
box = boxes:Box
[edgeq.runners]
boxed = boxes:Boxed
[edgeq.observers]
widest = boxes:widest
broken = boxes:absent
[edgeq.synthesizers]
nothing = boxes:nothing
[edgeq.formats]
lite = boxes:LITE
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package, installed for one test."""
    (tmp_path / "boxes-1.0.dist-info").mkdir()
    (tmp_path / "boxes.py").write_text(MODULE)
    (tmp_path / "boxes-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: boxes\nVersion: 1.0\n")
    (tmp_path / "boxes-1.0.dist-info/entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    plugins.cache_clear()
    (tmp_path / "board.toml").write_text(TARGET)
    registries = (TRANSPORTS, RUNNERS, OBSERVERS, SYNTHESIZERS, FORMATS)
    for registry in registries:
        list(registry)
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    yield
    plugins.cache_clear()
    sys.modules.pop("boxes", None)


def test_a_transport_and_its_runner_end_to_end(tmp_path: Path) -> None:
    artifact = tiny_model(tmp_path / "tiny")
    done = CliRunner().invoke(cli, ["bench", str(artifact), "--device", "box:7", "--seconds", "0.05", "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    assert (found["device"], found["machine"]["cpu"]) == ("box:7", "a processor in a box")
    assert found["latency"]["runs"] >= 50
    assert transport_of("local").__name__ == "LocalTransport"  # built-in ones come first
    listed = json.loads(CliRunner().invoke(cli, ["devices", "--json"]).stdout)
    assert {"name": "box:NUMBER", "description": "a box", "ready": None} in listed
    refused = CliRunner().invoke(cli, ["bench", str(artifact), "--device", "crate:7"])
    assert (refused.exit_code, "box:NUMBER" in refused.output) == (4, True)


def test_a_runner_nobody_registered_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_device("box:1") as device:
        monkeypatch.setattr(type(device), "runner", "boxd")
        with pytest.raises(ConfigError, match=r"unknown runner 'boxd' \(did you mean 'boxed'\?\)"):
            RUNNERS.get(device.runner)


def test_an_observer_is_a_setting(tmp_path: Path) -> None:
    kind = settings.name_in(OBSERVERS)
    assert [kind.parse(name, "--observer") for name in ("mse", "widest")] == ["mse", "widest"]
    with pytest.raises(ConfigError, match="did you mean 'widest'"):
        kind.parse("wides", "--observer")
    assert OBSERVERS.files("widest") == (tmp_path / "boxes.py",)
    assert OBSERVERS.files("mse") == ()


def test_a_plugin_that_cannot_be_loaded_is_named() -> None:
    with pytest.raises(ConfigError, match=r"observer 'broken' of boxes cannot be loaded: AttributeError.*uninstall"):
        OBSERVERS.get("broken")


def test_a_synthesizer_is_one_of_the_methods() -> None:
    assert "nothing" in SYNTHESIZERS
    assert SYNTHESIZERS.get("nothing").__module__ == "boxes"
    done = CliRunner().invoke(cli, ["methods", "--json"])
    assert "nothing" in {row["name"] for row in json.loads(done.stdout)}, done.output


def test_a_format_is_written_read_and_verified(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3))
    model = edgeq.trace(network, (3, 8, 8), mean=(0.5,) * 3, std=(0.25,) * 3, classes=3)
    images = edgeq.synthesize(model, "noise", count=4)
    net = edgeq.quantize(model, images, target=str(tmp_path / "board.toml"))
    path = edgeq.write(net, tmp_path / "net.lite")
    assert edgeq.inspect(path).macs > 0
    assert edgeq.verify(path, net, images).held
    with pytest.raises(ConfigError, match=r"end it in \.tflite or \.onnx or \.lite"):
        edgeq.write(net, tmp_path / "net.heavy")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("local", "LocalTransport"),
        ("pi@board", "SshTransport"),
        ("pi@[fe80::1]", "SshTransport"),
        ("ssh:board", "SshTransport"),
        ("adb", "AdbTransport"),
        ("adb:10.0.0.9:5555", "AdbTransport"),
        ("emulator:cortex-a72", "EmulatorTransport"),
        ("box:7@home", "Box"),
    ],
)
def test_a_name_belongs_to_one_kind(name: str, kind: str) -> None:
    assert [each.__name__ for each in TRANSPORTS.entries() if each.matches(name)] == [kind]
