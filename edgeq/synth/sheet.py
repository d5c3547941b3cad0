"""Contact sheets: images as pixels, and as one PNG to look at."""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeq.data.calibration import CalibrationSet

__all__ = ["contact_sheet", "pixels", "tile_pictures"]


def pixels(calibration: CalibrationSet, mean: tuple[float, ...], std: tuple[float, ...]) -> npt.NDArray[np.uint8]:
    """Images as uint8 ``(N, H, W, C)``: normalisation undone, values beyond a pixel's range clipped."""
    shape = (1, -1, 1, 1)
    real = calibration.inputs * np.reshape(std, shape) + np.reshape(mean, shape)
    images: npt.NDArray[np.uint8] = np.clip(np.round(real * 255), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return images


def contact_sheet(
    calibration: CalibrationSet, mean: tuple[float, ...], std: tuple[float, ...], most: int = 64, side: int = 96
) -> bytes:
    """A PNG of the first `most` images, ordered by label, each about `side` pixels, on a square grid."""
    order = np.argsort(calibration.labels, kind="stable")[:most]
    images = pixels(calibration, mean, std)[order]
    return tile_pictures(images, max(1, round(side / max(images.shape[1:3]))))


def tile_pictures(images: npt.NDArray[np.uint8], scale: float) -> bytes:
    """A PNG of uint8 `images` ``(N, H, W, C)`` in their order on a square grid, each `scale` times its size.

    One channel is grey. Two, or more than three, have no colours of their own, so the first is shown.
    """
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height, width = (max(1, round(n * scale)) + 2 for n in images.shape[1:3])
    resampling = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    sheet = Image.new("RGB", (columns * width + 2, rows * height + 2), (24, 24, 27))
    for place, image in enumerate(images):
        shown = Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0]).convert("RGB")
        shown = shown.resize((width - 2, height - 2), resampling)
        sheet.paste(shown, (2 + place % columns * width, 2 + place // columns * height))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")  # `optimize` takes ten times as long and saves a fiftieth
    return buffer.getvalue()
