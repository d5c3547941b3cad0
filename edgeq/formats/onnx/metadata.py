"""Metadata of an ONNX file in `metadata_props` (text by key), which every runtime hands to the app."""

from __future__ import annotations

import json

import onnx
from onnx import helper

from edgeq.formats.metadata import ModelMetadata

__all__ = ["add_metadata"]


def add_metadata(model: bytes, metadata: ModelMetadata) -> bytes:
    """`model` with its normalisation and labels as JSON; pixel format as ONNX's own document on metadata names it."""
    proto = onnx.load_from_string(model)
    proto.doc_string = metadata.description
    properties = {"name": metadata.name, "mean": json.dumps(metadata.mean), "std": json.dumps(metadata.std)}
    form = {1: "Gray8", 3: "Rgb8"}.get(len(metadata.mean))
    if form:
        properties["Image.BitmapPixelFormat"] = form
    if metadata.labels:
        properties["labels"] = json.dumps(metadata.labels, ensure_ascii=False)
    if metadata.raw:
        properties["input"] = metadata.raw
    helper.set_model_props(proto, properties)
    return bytes(proto.SerializeToString(deterministic=True))
