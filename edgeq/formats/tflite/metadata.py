"""TFLite model metadata in its standard form, from which Android's tools read pre- and postprocessing.

A flatbuffer of its own (``metadata_schema.fbs`` of TensorFlow Lite Support, identifier M001) in a buffer of the model
that is called TFLITE_METADATA, and the files it names in a zip archive behind the model's last byte.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

import flatbuffers
import numpy as np

from edgeq.formats.metadata import ModelMetadata

__all__ = ["BUFFER_NAME", "LABELS", "metadata", "with_files"]

BUFFER_NAME = "TFLITE_METADATA"
LABELS = "labels.txt"
PARSER_VERSION = "1.0.0"

# Members of the schema's enums and unions that are used here.
_AXIS_LABELS, _IMAGE, _FEATURE, _NORMALIZATION, _RGB, _GRAYSCALE = 2, 2, 1, 1, 1, 2
_LONGEST = 255
_DAWN = (1980, 1, 1, 0, 0, 0)
"""Time stamp of every file in the archive, so that equal models have equal bytes."""


def metadata(about: ModelMetadata, inputs: int, outputs: int) -> bytes:
    """The flatbuffer for a model with so many inputs and outputs; the first input is the image.

    Normalisation is in pixels of 0..255: an app computes ``(pixel - mean) / std``, then the tensor's own scale applies.
    """
    w = _Writer()
    labels = (
        w.table({0: w.text(LABELS), 1: w.text("one class per line"), 2: np.uint8(_AXIS_LABELS)}) if about.labels else 0
    )
    image = _image(w, about) if inputs else 0
    readers = [image, *(w.table({0: w.text(f"input {n}")}) for n in range(1, inputs))][:inputs]
    feature = w.table({0: np.uint8(_FEATURE), 1: w.table({})})
    results = []
    for place in range(outputs):
        files = w.tables([labels]) if labels and place == 0 else 0
        results.append(w.table({0: w.text(f"output {place}" if place else "output"), 3: feature, 6: files}))
    graph = w.table({2: w.tables(readers), 3: w.tables(results)})
    root = w.table(
        {0: w.text(about.name), 1: w.text(about.description), 3: w.tables([graph]), 7: w.text(PARSER_VERSION)}
    )
    w.builder.Finish(root, b"M001")
    return bytes(w.builder.Output())


def _image(w: _Writer, about: ModelMetadata) -> int:
    space = {1: _GRAYSCALE, 3: _RGB}.get(len(about.mean), 0)
    content = w.table({0: np.uint8(_IMAGE), 1: w.table({0: np.uint8(space)})})
    scaled = {0: w.floats([_LONGEST * m for m in about.mean]), 1: w.floats([_LONGEST * s for s in about.std])}
    unit = w.table({0: np.uint8(_NORMALIZATION), 1: w.table(scaled)})
    stats = w.table({0: w.floats(about.high), 1: w.floats(about.low)})
    fields = {1: w.text(about.raw)} if about.raw else {}
    return w.table({0: w.text("image"), **fields, 3: content, 4: w.tables([unit]), 5: stats})


class _Writer:
    """Tables by slot: ints are offsets, numpy bytes are members of enums; zero is absent."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)

    def text(self, value: str) -> int:
        return int(self.builder.CreateString(value))

    def floats(self, values: Sequence[float]) -> int:
        return int(self.builder.CreateNumpyVector(np.asarray(values, np.float32)))

    def tables(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def table(self, slots: Mapping[int, int | np.uint8]) -> int:
        self.builder.StartObject(max(slots, default=-1) + 1)
        for slot, value in slots.items():
            if isinstance(value, np.uint8):
                self.builder.PrependUint8Slot(slot, int(value), 0)
            elif value:
                self.builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return int(self.builder.EndObject())


def with_files(model: bytes, files: Mapping[str, bytes]) -> bytes:
    """`model` and, behind it, the archive that readers of metadata look for; `model` itself where there is no file."""
    if not files:
        return model
    whole = io.BytesIO(model)
    whole.seek(0, io.SEEK_END)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _DAWN), data)
    return whole.getvalue()
