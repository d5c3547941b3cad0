"""What each synthesis method needs and uses, as `edgeq methods` lists it; unknown for methods of plug-ins."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.synth.base import SYNTHESIZERS

__all__ = ["Method", "methods", "needs_batch_norm"]


@dataclass(frozen=True)
class Method:
    """One value of ``--method``. `batch_norm` and `labels` say what the network or the data must have (None: not
    stated); `data` is what goes into the images beside the network's architecture."""

    name: str
    batch_norm: bool | None
    labels: bool | None
    data: str
    what: str


_STATISTICS = "batch-norm statistics and answers of the network"
_WEIGHTS = "weights of the network"
_LEARNED = "weights and answers of the network"

_KNOWN: dict[str, tuple[bool, bool, str, str]] = {
    "gznq": (True, False, _STATISTICS, "images of every class that give batch norms the statistics they remember"),
    "gznq-generator": (True, False, _STATISTICS, "the same, made by a small generator optimised with its latents"),
    "gzsq": (False, False, _LEARNED, "random shapes, optimised until layers show what the weights imply they saw"),
    "gzsq-literal": (False, False, _WEIGHTS, "images that match statistics estimated from the weights, as published"),
    "zeroq": (True, False, "batch-norm statistics", "ZeroQ's distillation: the same statistics, without labels"),
    "zs-cgan": (True, False, _STATISTICS, "drawn by a conditional generator trained against the network alone"),
    "inversion": (False, False, "answers of the network", "random shapes, optimised until each has its class"),
    "series": (
        False,
        False,
        _STATISTICS,
        "noise, optimised likewise: for inputs that are no pictures",
    ),
    "leaves": (False, False, "none", "random shapes hiding one another, as they are"),
    "noise": (False, False, "none", "Gaussian noise: the baseline of the literature"),
    "uniform": (False, False, "none", "uniform random pixels"),
}
"""By name of the method: needs batch norm, needs labels, data used, description."""

_GAMES = {
    "zaq": "auto's images for the ranges, then fine-tuning against a generator, on outputs and channel relations",
    "dfq-akd": "auto's images for the ranges, then fine-tuning against a generator, on divergence of answers",
}
"""Values of ``--method`` that also fine-tune: ``edgeq build`` takes them, ``edgeq synth`` does not."""


def methods() -> list[Method]:
    """Everything ``--method`` takes: ``auto``, ``images:PATH`` and joined ones, then the registered by name."""
    choices = [
        Method("auto", False, False, "as the method chosen", "the best that suits the network; the report says why"),
        *(Method(name, False, False, "as the method chosen", what) for name, what in _GAMES.items()),
        Method("images:PATH", False, False, "your pictures", "an .npz, a .csv, a folder of pictures or class folders"),
        Method("NAME+NAME", None, None, "as the methods joined", "equal shares by each of several below"),
    ]
    return choices + [_find_registered(name) for name in SYNTHESIZERS]


def needs_batch_norm(name: str) -> bool:
    """Whether the method `name` is known to need batch norm; False for methods of plug-ins."""
    return name in _KNOWN and _KNOWN[name][0]


def _find_registered(name: str) -> Method:
    if name in _KNOWN:
        return Method(name, *_KNOWN[name])
    text = (SYNTHESIZERS.get(name).__doc__ or "").strip().partition("\n\n")[0]
    return Method(name, None, None, "not stated", " ".join(text.split()))
