"""Readable, unique node names: module paths, as a person finds them in the network and in Netron."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeq.graph.ops import Op

__all__ = ["Draft", "final_names"]

LABELS = {
    "Add": "add",
    "AvgPool2d": "avg_pool",
    "BatchNorm": "batch_norm",
    "Clamp": "clamp",
    "Concat": "cat",
    "Conv2d": "conv",
    "GlobalAvgPool": "global_avg_pool",
    "HardSwish": "hardswish",
    "LeakyReLU": "leaky_relu",
    "Linear": "linear",
    "Maximum": "maximum",
    "MaxPool2d": "max_pool",
    "Pad": "pad",
    "Reshape": "reshape",
    "Slice": "slice",
    "Softmax": "softmax",
}


@dataclass(frozen=True)
class Draft:
    """A node before it has its name: the module `path` it came from, its first constant, what to call it there."""

    key: str
    op: Op
    inputs: tuple[str, ...]
    path: str
    weight: str
    label: str

    def word(self) -> str:
        kind = type(self.op).__name__
        return self.label or LABELS.get(kind, kind.lower())


def final_names(drafts: Sequence[Draft], taken: Iterable[str]) -> dict[str, str]:
    """A name per draft key, in order.

    A module that is one op lends its path (``layer1.0.conv1``; used again: ``layer1.0.relu_1``). A call made in a
    larger module's forward is that path and a word (``layer1.0.add``). Where the path is lost, the weight's stands in.
    """
    paths = [_path(draft) for draft in drafts]
    inner = {".".join(path.split(".")[:depth]) for path in paths for depth in range(1, path.count(".") + 1)}
    words = Counter(path for path, _ in {(path, draft.word()) for path, draft in zip(paths, drafts, strict=True)})
    used, names = set(taken), {}
    for path, draft in zip(paths, drafts, strict=True):
        leaf = path and path not in inner and words[path] == 1
        stem = path if leaf else f"{path}.{draft.word()}" if path else draft.word()
        name, count = stem, 0
        while name in used:
            count += 1
            name = f"{stem}_{count}"
        used.add(name)
        names[draft.key] = name
    return names


def _path(draft: Draft) -> str:
    return draft.path or draft.weight.rpartition(".")[0]
