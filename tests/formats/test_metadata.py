"""What files tell apps about themselves, read back by code that knows the schema and not the writer."""

import io
import json
import struct
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.formats.metadata import ModelMetadata
from edgeq.formats.onnx.metadata import add_metadata
from edgeq.formats.tflite.metadata import metadata, with_files
from tests.tinymodel import keep, made, model_toml

ABOUT = ModelMetadata("net", "what it is", (0.485, 0.456, 0.406), (0.25, 0.5, 0.125), ("cat", "dog", "naïve"))


class Node:
    """A flatbuffer table by slot numbers, straight from the bytes."""

    def __init__(self, data, at):
        self.data, self.at = data, at
        self.fields = at - struct.unpack_from("<i", data, at)[0]

    @classmethod
    def root(cls, data):
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def place(self, slot):
        size = struct.unpack_from("<H", self.data, self.fields)[0]
        offset = struct.unpack_from("<H", self.data, self.fields + 4 + 2 * slot)[0] if 4 + 2 * slot < size else 0
        return self.at + offset if offset else None

    def follow(self, place):
        return place + struct.unpack_from("<I", self.data, place)[0]

    def byte(self, slot):
        return self.data[self.place(slot)]

    def table(self, slot):
        return Node(self.data, self.follow(self.place(slot)))

    def vector(self, slot):
        start = self.follow(self.place(slot))
        return start + 4, struct.unpack_from("<I", self.data, start)[0]

    def text(self, slot):
        start, length = self.vector(slot)
        return self.data[start : start + length].decode()

    def floats(self, slot):
        start, length = self.vector(slot)
        return struct.unpack_from(f"<{length}f", self.data, start)

    def tables(self, slot):
        start, length = self.vector(slot)
        return [Node(self.data, self.follow(start + 4 * n)) for n in range(length)]


def test_the_flatbuffer_has_the_published_layout():
    data = metadata(ABOUT, 1, 2)
    assert data[4:8] == b"M001"
    root = Node.root(data)
    assert (root.text(0), root.text(1)) == ("net", "what it is")
    (graph,) = root.tables(3)
    (image,), (scores, more) = graph.tables(2), graph.tables(3)
    content = image.table(3)
    assert content.byte(0) == 2  # image properties
    assert content.table(1).byte(0) == 1  # RGB
    (unit,) = image.tables(4)
    assert unit.byte(0) == 1  # normalisation
    assert unit.table(1).floats(0) == pytest.approx((123.675, 116.28, 103.53))
    assert unit.table(1).floats(1) == pytest.approx((63.75, 127.5, 31.875))
    assert image.table(5).floats(0) == pytest.approx((2.06, 1.088, 4.752))
    assert image.table(5).floats(1) == pytest.approx((-1.94, -0.912, -3.248))
    (labels,) = scores.tables(6)
    assert (labels.text(0), labels.byte(2)) == ("labels.txt", 2)  # labels along an axis
    assert more.place(6) is None


def test_files_lie_in_an_archive_behind_the_model():
    whole = with_files(b"model bytes" * 100, {"labels.txt": b"cat\ndog\n"})
    assert whole.startswith(b"model bytes" * 100)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n"
    assert whole == with_files(b"model bytes" * 100, {"labels.txt": b"cat\ndog\n"})
    assert with_files(b"model", {}) == b"model"


NETWORK = """
from torch import nn
def tiny():
    return nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


def described_as(labels):
    return model_toml(side=8, classes=2, output=f"labels = {labels}", evaluation=False)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keep(tmp_path, NETWORK, described_as('["kitten", "puppy"]'), made(NETWORK))
    return tmp_path


def build(*more):
    arguments = ["build", "model.toml", "--method", "noise", "--images", "4", "--cache", "cache", "-q", *more]
    return CliRunner().invoke(cli, arguments, prog_name="edgeq")


def test_a_build_writes_it_where_asked_and_the_runtime_computes_the_same(here):
    for target, suffix in (("tflite-arm", "tflite"), ("onnx-x86", "onnx")):
        for told in ("yes", "no"):
            result = build("--target", target, "--metadata", told, "-o", f"{told}-{suffix}")
            assert result.exit_code == 0, result.output
            report = json.loads((here / f"{told}-{suffix}" / "report.json").read_text())
            if suffix == "tflite":
                assert report["exactness"]["equal"] == report["exactness"]["values"] > 0
    told, plain = (here / f"{told}-tflite" / "model.tflite" for told in ("yes", "no"))
    model = schema.Model.GetRootAs(told.read_bytes(), 0)
    assert [model.Metadata(n).Name() for n in range(model.MetadataLength())] == [b"TFLITE_METADATA"]
    inner = model.Buffers(model.Metadata(0).Buffer()).DataAsNumpy().tobytes()
    assert Node.root(inner).text(0) == "tiny"
    with zipfile.ZipFile(told) as archive:
        assert archive.read("labels.txt").decode().split() == ["kitten", "puppy"]
    assert not zipfile.is_zipfile(plain)
    assert schema.Model.GetRootAs(plain.read_bytes(), 0).MetadataLength() == 0
    shown = CliRunner().invoke(cli, ["inspect", str(told)])
    assert "TFLITE_METADATA" in shown.output
    session = onnxruntime.InferenceSession(str(here / "yes-onnx" / "model.onnx"))
    props = session.get_modelmeta().custom_metadata_map
    assert json.loads(props["labels"]) == ["kitten", "puppy"]
    assert json.loads(props["mean"]) == [0.5, 0.5, 0.5]
    assert props["Image.BitmapPixelFormat"] == "Rgb8"


def test_labels_come_from_a_file_too_and_must_fit(here):
    (here / "model.toml").write_text(described_as('"labels.txt"'))
    result = build("--plan")
    assert result.exit_code == 2
    assert "labels.txt" in result.output
    (here / "labels.txt").write_text("a\nb\nc\n")
    result = build("--plan")
    assert result.exit_code == 2
    assert "3 labels" in result.output
    (here / "labels.txt").write_text("a\nb\n")
    assert build("--plan").exit_code == 0


def test_onnx_bytes_are_the_same_every_time():
    proto = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    data = proto.SerializeToString()
    grey = ModelMetadata("grey", "", (np.float64(0.5),), (1.0,))
    assert add_metadata(data, ABOUT) == add_metadata(data, ABOUT)
    assert {p.key for p in onnx.load_from_string(add_metadata(data, grey)).metadata_props} >= {"mean", "std"}
