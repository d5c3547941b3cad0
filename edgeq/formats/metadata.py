"""Metadata that a file carries for apps: how pixels become its input, and the names of its outputs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ModelMetadata"]


@dataclass(frozen=True)
class ModelMetadata:
    """`mean` and `std` per channel, on the 0..1 scale of pixels; `labels` one per class, or none known.

    `raw`: what goes into the input where that is raw pixels; "" where it is normalised values.
    """

    name: str
    description: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...] = ()
    raw: str = ""

    @property
    def low(self) -> tuple[float, ...]:
        """What pixel 0 becomes, per channel."""
        return tuple((0.0 - mean) / std for mean, std in zip(self.mean, self.std, strict=True))

    @property
    def high(self) -> tuple[float, ...]:
        """What pixel 255 becomes, per channel."""
        return tuple((1.0 - mean) / std for mean, std in zip(self.mean, self.std, strict=True))
