"""Mixtures of methods: ``gznq+inversion`` makes images by both, in turns.

Images that match batch-norm statistics show every class clearly and leave the network in no doubt. Inverted shapes
leave it in every degree of doubt and match no statistics. `benchmarks/mixture.py` measures what both together gain for
a network of few bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConflictError, MethodLimitError
from edgeq.graph.ops import BatchNorm
from edgeq.progress import Progress
from edgeq.synth.base import JOINED, RECIPES, SYNTHESIZERS, Request, Synthesizer, passes_needed, shares, synthesize_by
from edgeq.synth.methods import needs_batch_norm

__all__ = ["synthesizer_of"]


def synthesizer_of(name: str) -> Synthesizer:
    """The registered method `name`, or one that makes equal shares by each of several joined by ``+``.

    Raises `ConfigError` for a name that is not registered, or that occurs twice.
    """
    parts = name.split(JOINED)
    if len(parts) == 1:
        SYNTHESIZERS.get(name)
        return lambda request: synthesize_by(name, request)
    for part in parts:
        if part in ("", "auto") or part.startswith("images:"):
            raise ConflictError(
                f"--method {name}",
                why=f"{part} is no method to join" if part else f"nothing stands beside a {JOINED}",
                hint="join methods that edgeq methods lists below NAME+NAME",
            )
        SYNTHESIZERS.get(part)
        if parts.count(part) > 1:
            raise ConflictError(f"--method {name}", why=f"{part} is there twice", hint="name each method once")
    return lambda request: _mixture(request, name)


def _mixture(request: Request, name: str) -> CalibrationSet:
    sets, parts = [], [(part, size) for part, size in shares(request.images, name) if size]
    for part, _ in parts:  # before another one's minutes
        if needs_batch_norm(part) and not any(True for _ in request.graph.of_kind(BatchNorm)):
            raise MethodLimitError(
                f"{part} needs batch-norm statistics",
                where=request.graph.name,
                why="the network has none (absent or folded)",
                hint=f"leave it out of --method {name}",
            )
    effort = [max(1, passes_needed(part, request.effort, size, request.recipe)) for part, size in parts]
    for index, (part, size) in enumerate(parts):
        own = dataclasses.replace(
            request,
            images=size,
            seed=request.seed + index * _APART,
            checkpoint=None if request.checkpoint is None else request.checkpoint / part,
            progress=_Part(request.progress, sum(effort[:index]), effort[index], sum(effort)),
        )
        sets.append(synthesize_by(part, own))
        if part not in RECIPES:  # it only draws images, and reports nothing
            own.progress.step(1, 1)
    random = np.random.default_rng(request.seed)
    shuffled = [random.permutation(len(some)) for some in sets]
    order = _turns([len(some) for some in sets])
    inputs, labels = (
        np.concatenate([getattr(some, key)[places] for some, places in zip(sets, shuffled, strict=True)])[order]
        for key in ("inputs", "labels")
    )
    return CalibrationSet(inputs, labels, name, _notes(sets))


_APART = 7_368_787
"""Difference between the seeds of two parts; with one seed all parts would show the same few of many classes."""


def _turns(sizes: Sequence[int]) -> list[int]:
    """Places in the parts one after another, so that parts take turns, there and back: abc cba abc. A first stretch of
    the set, and every second image of it, then have as many of each as they can. (A part is shuffled before: some
    methods order theirs, from random shapes to sure ones.)"""
    starts = [sum(sizes[:part]) for part in range(len(sizes))]
    order = []
    for turn in range(max(sizes)):
        remaining = list(range(len(sizes)))
        order += [
            starts[part] + turn for part in (remaining if turn % 2 == 0 else remaining[::-1]) if turn < sizes[part]
        ]
    return order


def _notes(sets: Sequence[CalibrationSet]) -> dict[str, float]:
    """The mean of each note, weighted by the number of images of the methods that give it."""
    notes = {}
    for name in dict.fromkeys(name for some in sets for name in some.notes):
        weighted = [(len(some), some.notes[name]) for some in sets if name in some.notes]
        notes[name] = sum(count * value for count, value in weighted) / sum(count for count, _ in weighted)
    return notes


@dataclasses.dataclass(frozen=True)
class _Part:
    """Progress of one part within the whole: it is `own` of `total` passes through the network, after `before`."""

    whole: Progress
    before: int
    own: int
    total: int

    def stage(self, name: str) -> None:
        self.whole.stage(name)

    def step(self, done: int, total: int, note: str = "") -> None:
        self.whole.step(self.before + self.own * done // total, self.total, note)

    def done(self, name: str, seconds: float, cached: bool) -> None:
        self.whole.done(name, seconds, cached)

    def note(self, text: str) -> None:
        self.whole.note(text)
