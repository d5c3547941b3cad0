"""Metadata of an ONNX file in `metadata_props` (text by key), which every runtime hands to the app."""

from __future__ import annotations

import json

import onnx
from onnx import helper

from edgeq.formats.metadata import ModelMetadata

__all__ = ["add_metadata"]


def add_metadata(model: bytes, about: ModelMetadata) -> bytes:
    """`model` with its normalisation and labels as JSON; pixel format as ONNX's own document on metadata names it."""
    proto = onnx.load_from_string(model)
    proto.doc_string = about.description
    told = {"name": about.name, "mean": json.dumps(about.mean), "std": json.dumps(about.std)}
    form = {1: "Gray8", 3: "Rgb8"}.get(len(about.mean))
    if form:
        told["Image.BitmapPixelFormat"] = form
    if about.labels:
        told["labels"] = json.dumps(about.labels, ensure_ascii=False)
    if about.raw:
        told["input"] = about.raw
    helper.set_model_props(proto, told)
    return bytes(proto.SerializeToString(deterministic=True))
