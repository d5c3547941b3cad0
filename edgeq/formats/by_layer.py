"""Which layer of a network the tensors and constants of a written file belong to."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from edgeq.formats.contents import Contents

__all__ = ["LayerInFile", "by_layer"]

_DECORATION = re.compile(r"^\d+:|_quantized$")
"""What names in `Contents` have around the layer's: the number of a TFLite tensor, and ONNX's integer form."""


@dataclass
class LayerInFile:
    """`tensors` are the layer's own outputs, by their names in the file; `bytes` what its constants take there."""

    tensors: list[str] = field(default_factory=list)
    bytes: int = 0


def by_layer(contents: Contents, names: Collection[str]) -> dict[str, LayerInFile]:
    """The layers among `names` that the file has ops of.

    Our writers name a tensor after the layer that makes it, with a slash and a word behind it where the layer needs
    several ops. What has another name prepares the next layer and counts there. A constant that several layers read
    counts for the first.
    """
    found: dict[str, LayerInFile] = {}
    counted: set[str] = set()
    waiting = LayerInFile()
    for op in contents.ops:
        waiting.bytes += sum({each.name: each.bytes for each in op.constants if each.name not in counted}.values())
        counted |= {each.name for each in op.constants}
        for tensor in op.outputs:
            layer = _layer_of(_DECORATION.sub("", tensor.name), names)
            if layer is not None:
                row = found.setdefault(layer, LayerInFile())
                row.tensors.append(re.sub(r"^\d+:", "", tensor.name))
                row.bytes, waiting.bytes = row.bytes + waiting.bytes, 0
    if found:
        found[next(reversed(found))].bytes += waiting.bytes
    return found


def _layer_of(name: str, names: Collection[str]) -> str | None:
    """The longest of `names` that is `name` or stands in it before a slash."""
    while name not in names:
        name, slash, _ = name.rpartition("/")
        if not slash:
            return None
    return name
