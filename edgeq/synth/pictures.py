"""Dead-leaves images: random discs that hide one another.

They share with photographs what matters to early layers (edges, flat regions, a 1/f spectrum) and use no data. Source:
Lee, Mumford, Huang, "Occlusion Models for Natural Images", IJCV 2001 (discs with power-law radii).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["dead_leaves"]

BLUR = 0.7
CONTRAST = 0.8


def dead_leaves(count: int, shape: tuple[int, int, int], seed: int, leaves: int = 400) -> npt.NDArray[np.float32]:
    """`count` pictures ``(N, C, H, W)`` in 0..1: discs, radii with density r^-3, shaded, then seen through a lens.

    The lens (a slight blur, less contrast) is what a photograph has and bare discs lack: without it the first batch
    norms of networks whose statistics are known saw a third more contrast than they remember.
    """
    channels, height, width = shape
    pictures = np.empty((count, *shape), np.float32)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    side = max(height, width)
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        smallest, largest = max(1.0, side / 64), side / 2
        spread = rng.random(leaves)
        radii = 1 / np.sqrt(1 / largest**2 + spread * (1 / smallest**2 - 1 / largest**2))
        picture = np.broadcast_to(rng.random((channels, 1, 1)), shape).astype(np.float32).copy()
        light = rng.beta(1.5, 1.5)
        for radius in radii[np.argsort(-radii * rng.uniform(0.5, 1.5, leaves))]:
            y, x = rng.uniform(-radius, height + radius), rng.uniform(-radius, width + radius)
            top, left = max(0, int(y - radius)), max(0, int(x - radius))
            bottom, right = min(height, int(y + radius) + 2), min(width, int(x + radius) + 2)
            if top >= bottom or left >= right:
                continue
            part = np.s_[top:bottom, left:right]
            inside = (rows[part] - y) ** 2 + (columns[part] - x) ** 2 <= radius**2
            grey = np.clip(rng.normal(light, 0.3), 0, 1)
            colour = np.clip(grey + rng.normal(0, 0.12, channels), 0, 1).astype(np.float32)
            shade = (1 + rng.normal(0, 0.2) * (rows[part] - y) / radius).astype(np.float32)
            for channel in range(channels):
                picture[channel][part] = np.where(inside, colour[channel] * shade, picture[channel][part])
        pictures[index] = np.clip(0.5 + CONTRAST * (_blur(picture) - 0.5), 0, 1)
    return pictures


def _blur(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A Gaussian of standard deviation `BLUR` pixels along rows and columns, edges repeated."""
    reach = np.arange(-3, 4)
    weights = np.exp(-(reach**2) / (2 * BLUR**2))
    weights /= weights.sum()
    for axis in (1, 2):
        padded = np.pad(picture, [(3, 3) if a == axis else (0, 0) for a in range(3)], mode="edge")
        size = picture.shape[axis]
        picture = sum(w * np.take(padded, range(i, i + size), axis) for i, w in enumerate(weights)).astype(np.float32)
    return picture
