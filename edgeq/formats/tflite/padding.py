"""How a sliding window's explicit padding becomes TFLite's two choices, VALID and SAME.

SAME pads ``total // 2`` before and the rest after, so torch's ``padding=1, stride=2`` on an even size (one before, none
after) is not SAME; seen in a mirror it is. What neither view carries is carried by taps of weight zero, by cutting off
the pixels in front of the first window, or by a PAD.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from dataclasses import dataclass

from edgeq.graph.ops import Pair

__all__ = ["Axis", "Taps", "Window", "fit", "pad_and_fit", "subsample"]

Taps = tuple[Pair, Pair]
"""Zero taps added (front, back) along height and along width."""

NO_TAPS: Taps = ((0, 0), (0, 0))


@dataclass(frozen=True)
class Axis:
    """A window along one axis. `before` is the padding in front of the first window, negative if it starts inside."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    out: int

    @property
    def extent(self) -> int:
        return self.dilation * (self.kernel - 1) + 1

    @property
    def after(self) -> int:
        """Padding the last window really reads, negative where pixels are left over."""
        return (self.out - 1) * self.stride + self.extent - self.size - self.before

    def mirrored(self) -> Axis:
        return dataclasses.replace(self, before=self.after)

    def grown(self, front: int, back: int) -> Axis:
        """The axis with zero taps added in front and behind; the taps it had cover the same pixels."""
        return dataclasses.replace(self, kernel=self.kernel + front + back, before=self.before + front * self.dilation)

    def padded(self) -> Axis:
        """The axis over an input that holds the padding as real pixels."""
        front, back = max(self.before, 0), max(self.after, 0)
        return dataclasses.replace(self, size=self.size + front + back, before=self.before - front)

    def cropped(self) -> Axis:
        """The axis over an input that starts at the first window, where that starts inside."""
        start = max(-self.before, 0)
        return dataclasses.replace(self, size=self.size - start, before=self.before + start)

    def carried(self, padding: str) -> bool:
        """Does TFLite's `padding` put every window where this axis has it?"""
        if padding == "VALID":
            return (
                self.before == 0
                and self.extent <= self.size
                and self.out == (self.size - self.extent) // self.stride + 1
            )
        total = max((self.out - 1) * self.stride + self.extent - self.size, 0)
        return self.out == -(-self.size // self.stride) and self.before == total // 2


@dataclass(frozen=True)
class Window:
    """Two axes as one TFLite op can express them: `padding` is SAME or VALID, `taps` are zeros to add to the kernel."""

    padding: str
    taps: Taps = NO_TAPS

    @property
    def plain(self) -> bool:
        return self.taps == NO_TAPS


@functools.cache
def _grow(axis: Axis, padding: str, *, growable: bool) -> tuple[int, Pair] | None:
    """The smallest kernel that `padding` carries along `axis`, and what it has in front and behind; None without."""
    if not growable:
        return (axis.kernel, (0, 0)) if axis.carried(padding) else None
    reach = range(axis.kernel + abs(axis.before) + 2)
    grown = ((axis.kernel + front + back, (front, back)) for front, back in itertools.product(reach, reach))
    return min((candidate for candidate in grown if axis.grown(*candidate[1]).carried(padding)), default=None)


def fit(height: Axis, width: Axis, *, growable: bool) -> Window | None:
    """The expression with the fewest taps, or None. Only convolutions are `growable`: a pool has no weights to zero."""
    best: tuple[int, Window] | None = None
    for padding in ("VALID", "SAME"):
        down, across = (_grow(axis, padding, growable=growable) for axis in (height, width))
        if down and across and (best is None or down[0] * across[0] < best[0]):
            best = down[0] * across[0], Window(padding, (down[1], across[1]))
    return best[1] if best else None


def pad_and_fit(height: Axis, width: Axis, *, growable: bool) -> Window | None:
    """Fit as `fit` does, after a PAD of every pixel that windows read beyond the input."""
    return fit(height.padded(), width.padded(), growable=growable)


def subsample(axis: Axis) -> int | None:
    """Taps of a one-hot VALID window that picks the pixels a 1-tap axis reads; the last-but-`start` tap is the one.

    None where the axis reads more than single pixels of the input itself.
    """
    start = -axis.before
    if axis.kernel != 1 or start < 0 or axis.after > 0:
        return None
    return max(start + 1, axis.size - axis.out * axis.stride + 1)
