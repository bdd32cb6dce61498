"""Pictures of any size through networks that see squares: padded to a multiple, and in tiles that fade into each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from animegen_cli.data.cleaning import fit_square
from animegen_cli.model.pixels import channels_first, channels_last

if TYPE_CHECKING:
    from collections.abc import Callable

    from animegen_cli.model.family import Edit
    from animegen_cli.sample.generate import Generator
    from animegen_cli.sample.trained import Trained

TILE = 1024
"""Pixels of a side above which a picture is cut into tiles."""
OVERLAP = 128
"""Pixels by which neighboring tiles overlap at least."""
MULTIPLE = 8
"""Sides of what networks see are multiples of so many pixels."""


def any_size(trained: Trained) -> bool:
    """Tell whether the family takes pictures as they are; all others get a square of the run's size."""
    return bool(getattr(trained.model, "any_size", False))


def shaped(trained: Trained, image: Image.Image, *, fit: str | None = None, size: int | None = None) -> np.ndarray:
    """Return an RGB picture as it is translated, uint8 (H, W, 3): a square of the run's size by `fit` (crop when None), or,
    where any size will do, with its shorter side scaled to `size` pixels."""
    if not any_size(trained):
        return np.array(fit_square(image, trained.data.size, fit or "crop"))
    return np.array(scaled(image, size))


def scaled(image: Image.Image, size: int | None) -> Image.Image:
    """Scale a picture until its shorter side has `size` pixels; None leaves it as it is."""
    if not size:
        return image
    scale = size / min(image.size)
    width, height = (max(round(side * scale), 1) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def changed(generator: Generator, pictures: np.ndarray, edit: Edit, *, seed: int) -> np.ndarray:
    """Translate pictures of one shape, large ones in tiles: uint8 (n, H, W, 3) -> the same.

    Args:
        generator: a run that translates.
        pictures: of the run's size, or, where its family takes any, `padded`.
        edit: what is asked.
        seed: of every picture's noise.
    """

    def network(pixels: np.ndarray) -> np.ndarray:
        return channels_last(generator.translate(channels_first(pixels), edit, seed=seed))

    if max(pictures.shape[1:3]) > TILE:
        return np.stack([tiled(picture, network) for picture in pictures])
    return network(pictures)


def bled(color: Image.Image, alpha: Image.Image) -> Image.Image:
    """Let the colors of an RGB picture run into its transparent parts, white where there are none.

    What lies under transparent parts is often black, or rubbish; a network that sees it draws an outline of it, and so it
    does with any background. Each transparent pixel takes the mean of the opaque ones in the smallest block of 2, 4, 8, ...
    pixels around it that has any.
    """
    weight = np.asarray(alpha, np.float32)[..., None] / 255
    total = np.asarray(color, np.float32) * weight
    levels = []
    while weight.shape[:2] != (1, 1):
        levels.append((total, weight))
        total, weight = _halved(total), _halved(weight)
    filled = np.where(weight > 0, total / np.maximum(weight, 1e-9), 255.0)
    for total, weight in reversed(levels):
        larger = filled.repeat(2, 0).repeat(2, 1)[: weight.shape[0], : weight.shape[1]]
        filled = np.where(weight > 0, total / np.maximum(weight, 1e-9), larger)
    return Image.fromarray(np.rint(filled).astype(np.uint8))


def _halved(values: np.ndarray) -> np.ndarray:
    """Sums of blocks of 2 x 2, of what is there of them: (H, W, C) -> (ceil(H / 2), ceil(W / 2), C)."""
    below, right = (side % 2 for side in values.shape[:2])
    even = np.pad(values, ((0, below), (0, right), (0, 0)))
    return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]


def padded(pixels: np.ndarray) -> np.ndarray:
    """Reflect a picture, uint8 (H, W, 3), below and to the right up to a multiple of 8 pixels."""
    below, right = (-side % MULTIPLE for side in pixels.shape[:2])
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="reflect") if below or right else pixels


def tiled(
    pixels: np.ndarray, network: Callable[[np.ndarray], np.ndarray], *, tile: int = TILE, overlap: int = OVERLAP
) -> np.ndarray:
    """Translate a large picture in overlapping tiles, which fade linearly into each other: uint8 (H, W, 3) -> the same.

    Args:
        pixels: uint8 (H, W, 3), sides a multiple of 8.
        network: uint8 (n, h, w, 3) -> the same.
        tile: pixels of a tile's side at most.
        overlap: pixels by which neighbors overlap at least.
    """
    height, width = (min(side, tile) for side in pixels.shape[:2])
    tops, lefts = (_starts(side, tile, overlap) for side in pixels.shape[:2])
    weight = (_ramp(height, overlap)[:, None] * _ramp(width, overlap))[..., None]
    total, weights = np.zeros(pixels.shape, np.float32), np.zeros((*pixels.shape[:2], 1), np.float32)
    for top in tops:
        for left in lefts:
            place = np.s_[top : top + height, left : left + width]
            total[place] += weight * network(pixels[place][None])[0]
            weights[place] += weight
    return np.rint(total / weights).astype(np.uint8)


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin: evenly spread, the last one ends at the edge."""
    count = max(-(-(length - overlap) // (tile - overlap)), 1)
    return [round(i * (length - tile) / (count - 1)) for i in range(count)] if count > 1 else [0]


def _ramp(length: int, overlap: int) -> np.ndarray:
    """Rises from an edge over the overlap and falls again towards the other."""
    steps = np.arange(length, dtype=np.float32)
    return np.minimum(np.minimum(steps + 1, length - steps), overlap) / overlap
