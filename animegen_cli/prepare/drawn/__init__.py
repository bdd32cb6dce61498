"""Anime-style portraits drawn from random attributes: data that needs no download and has its labels.

`draw(7, size=64)` gives the image and the labels of one face. This package imports only Pillow, numpy and `errors`.

Face `index` depends on (seed, index) alone, so any subset, order or number of processes draws the same
pictures; the same Pillow gives the same bytes.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from PIL import Image

from animegen_cli.errors import UsageError
from animegen_cli.prepare.drawn import hair, head, photograph, scene
from animegen_cli.prepare.drawn.appearance import Appearance, appearance
from animegen_cli.prepare.drawn.attributes import ATTRIBUTES, choose
from animegen_cli.prepare.drawn.paint import Canvas

__all__ = ["ATTRIBUTES", "MAX_SIZE", "MIN_SIZE", "Face", "attributes", "draw", "photo"]

MIN_SIZE, MAX_SIZE = 16, 1024


class Face(NamedTuple):
    """A drawn face: an RGB image, `size` x `size`, and its value for every name in `ATTRIBUTES`."""

    image: Image.Image
    labels: dict[str, str]


def attributes(index: int, *, seed: int = 0) -> dict[str, str]:
    """Decide the labels of face `index` without drawing it: a value for every name in `ATTRIBUTES`.

    Raises:
        UsageError: the index is negative.
    """
    return choose(_random("labels", seed, index))


def draw(index: int, *, size: int = 64, seed: int = 0) -> Face:
    """Draw face `index` (0 or more) at `size` pixels a side, 16 to 1024.

    Raises:
        UsageError: the size or the index is outside these.
    """
    _check(size)
    labels = attributes(index, seed=seed)
    return Face(_portrait(appearance(labels, _random("look", seed, index)), size), labels)


def photo(index: int, *, size: int = 64, seed: int = 0) -> Image.Image:
    """Draw stand-in photograph `index` (0 or more) at `size` pixels a side, 16 to 1024: no anime face, and without labels.

    Raises:
        UsageError: the size or the index is outside these.
    """
    _check(size)
    return photograph.portrait(_random("photo", seed, index), size, _supersampling(size))


def _check(size: int) -> None:
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UsageError(
            f"faces can be drawn at {MIN_SIZE} to {MAX_SIZE} pixels, not {size}",
            hint="choose a size in between, for example `--resolution 64`",
        )


def _portrait(chosen: Appearance, size: int) -> Image.Image:
    """Paint from back to front, then average the finer canvas down: that smooths every edge."""
    finer = _supersampling(size)
    canvas = Canvas(size * finer, chosen.pose)
    cap = hair.Front(chosen)
    scene.background(canvas, chosen)
    figure(canvas, chosen, cap)
    return canvas.image.reduce(finer)


def figure(canvas: Canvas, chosen: Appearance, cap: hair.Front) -> None:
    """Paint a person on what the canvas shows already, from back to front; `cap` is the hair in front of the face."""
    hair.back(canvas, chosen)
    scene.accessory_behind(canvas, chosen)
    head.neck(canvas, chosen)
    scene.clothes(canvas, chosen)
    head.face(canvas, chosen)
    hair.shadow(canvas, chosen, cap, head.outline(chosen))
    head.features(canvas, chosen)
    hair.front(canvas, chosen, cap)
    head.brows(canvas, chosen)
    scene.accessory(canvas, chosen)


def _supersampling(size: int) -> int:
    """How many times finer the canvas is: small pictures need it most, large ones could not afford it."""
    return max(3 if size <= 256 else 2, -(-192 // size))


def _random(purpose: str, seed: int, index: int) -> random.Random:
    if index < 0:
        raise UsageError(f"faces are numbered from 0, there is no face {index}", hint="use 0 or a larger number")
    # A string is hashed with SHA-512, and random() is the one method whose sequence Python promises to keep.
    return random.Random(f"animegen {purpose} {seed} {index}")
