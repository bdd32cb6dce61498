"""What pictures show that are none: blank ones, one image again and again, noise. Pure functions of their pixels."""

from __future__ import annotations

import numpy as np

LEAST_DISTANCE = 0.2
"""Drawn images whose `thumbnail_distance` is under this share of the real ones' are one image with variations. A blurred
but healthy VAE has 0.4 to 0.7."""
LEAST_CONTRAST = 6.0
"""Standard deviation inside an image, in gray levels, under which it shows nothing."""
NOISE = 0.8
"""`roughness` from which pictures are noise, when it is twice that of real ones too; of faces at 32 pixels it is about 0.2."""
THUMBNAIL = 8
"""Height and width of the thumbnails that are compared."""


def contrast(images: np.ndarray) -> float:
    """Return the median standard deviation inside the images, uint8 (n, H, W, 3), in gray levels."""
    return float(np.median(images.reshape(len(images), -1).std(1)))


def roughness(images: np.ndarray) -> float:
    """Return the median of how much neighboring pixels differ, in units of white noise of the same contrast: 1 for noise.

    Args:
        images: uint8 (n, H, W, 3); H and W at least 2.
    """
    pixels = images.astype(np.float64)
    steps = [np.square(np.diff(pixels, axis=axis)).mean((1, 2, 3)) for axis in (1, 2)]
    spread = pixels.var((1, 2)).mean(1)
    return float(np.median((steps[0] + steps[1]) / np.maximum(4 * spread, 1e-9)))


def thumbnail_distance(images: np.ndarray) -> float:
    """Return the mean distance between two of the images as 8 x 8 thumbnails: root mean square in gray levels.

    Args:
        images: uint8 (n, H, W, 3), at least two; H and W at least 8.
    """
    n, height, width, _ = images.shape
    rows = height // THUMBNAIL * THUMBNAIL
    columns = width // THUMBNAIL * THUMBNAIL
    blocks = images[:, :rows, :columns].reshape(n, THUMBNAIL, rows // THUMBNAIL, THUMBNAIL, columns // THUMBNAIL, 3)
    small = blocks.mean((2, 4)).reshape(n, -1)
    squares = ((small[:, None] - small[None]) ** 2).mean(2)
    return float(np.sqrt(squares)[np.triu_indices(n, 1)].mean())
