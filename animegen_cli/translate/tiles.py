"""Pictures of any size through networks that see squares: padded to a multiple, and in tiles that fade into each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from animegen_cli.data.cleaning import fit_square
from animegen_cli.model.pixels import channels_first, channels_last
from animegen_cli.sample import edit as editing

if TYPE_CHECKING:
    from animegen_cli.model.family import Edit
    from animegen_cli.sample.generate import Trained

TILE = 1024


OVERLAP = 128
"""Pixels of a side above which a picture is cut into tiles, and by which neighbours overlap at least."""


MULTIPLE = 8


def any_size(trained: Trained) -> bool:
    """Whether the family takes pictures as they are; all others get a square of the run's size."""
    return bool(getattr(trained.model, "any_size", False))


def shaped(trained: Trained, image: Image.Image, *, fit: str | None = None, size: int | None = None) -> np.ndarray:
    """An RGB picture as it is translated, uint8 (H, W, 3): a square by `fit` (crop when None), or, where any size will
    do, with its shorter side scaled to `size`."""
    if not any_size(trained):
        return np.array(fit_square(image, trained.data.size, fit or "crop"))
    if size:
        scale = size / min(image.size)
        width, height = (max(round(side * scale), 1) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.array(image)


def changed(trained: Trained, pictures: np.ndarray, edit: Edit, *, sampling: Any, seed: int, batch: int) -> np.ndarray:
    """Pictures of one shape, uint8 (n, H, W, 3), through the networks, large ones in tiles; any size: `padded` before."""

    def network(pixels: np.ndarray) -> np.ndarray:
        images = channels_first(pixels)
        done = editing.translate(trained, images, edit, sampling=sampling, seed=seed, batch=batch)
        return channels_last(done)

    if max(pictures.shape[1:3]) > TILE:
        return np.stack([tiled(picture, network) for picture in pictures])
    return network(pictures)


def padded(pixels: np.ndarray) -> np.ndarray:
    """Reflected below and to the right up to a multiple of 8 pixels: uint8 (H, W, 3)."""
    below, right = (-side % MULTIPLE for side in pixels.shape[:2])
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="reflect") if below or right else pixels


def tiled(pixels: np.ndarray, network: Any, *, tile: int = TILE, overlap: int = OVERLAP) -> np.ndarray:
    """A large picture in overlapping tiles, which fade linearly into each other: uint8 (H, W, 3) -> the same.

    Args:
        network: uint8 (n, h, w, 3) -> the same.
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
