"""Faces for the scenes of the face detector: drawn ones, and those that animegen's models drew, each with its box.

A box is (x, y, side) in pixels: the middle and the side of the square that `animegen_cli.prepare.face_detector` calls a face,
from above the brows to the chin.
"""

from __future__ import annotations

import math
import random
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageOps

from animegen_cli.prepare import drawn
from animegen_cli.prepare.drawn import figure, hair
from animegen_cli.prepare.drawn.appearance import appearance
from animegen_cli.prepare.drawn.paint import Canvas

if TYPE_CHECKING:
    from pathlib import Path

Box = tuple[float, float, float]

KAGGLE = (0.5, 0.56, 0.64)
"""The face in a crop of Kaggle's animefacedataset, as shares of the crop: read off the mean of 800 crops."""
DRAWN = (0.0, 0.273, 0.99)
"""The face in the units of `animegen_cli.prepare.drawn`, before the pose."""
_FIGURE = 112  # side in pixels of the drawn figures


class Figure(NamedTuple):
    """A face that can be pasted: RGBA, and its box in pixels of the image."""

    image: Image.Image
    box: Box
    loose: bool
    """True where the image is a square crop whose edge cuts through hair, False where it has an outline of its own."""


def drawn_figure(index: int, seed: int) -> Figure:
    """A drawn face with hair, neck and shoulders, and nothing behind them."""
    labels = drawn.attributes(index, seed=seed)
    layers = [_painted(index, seed, labels, ground) for ground in ((255, 255, 255), (0, 0, 0))]
    alpha = ImageOps.invert(ImageChops.difference(*layers).convert("L"))
    image = layers[1].copy()
    image.putalpha(alpha)
    pixels = np.asarray(image, np.float32)
    share = np.maximum(pixels[..., 3:] / 255, 1 / 255)  # what was painted over black is darker by its share
    pixels = np.concatenate([(pixels[..., :3] / share).clip(0, 255), pixels[..., 3:]], 2)
    pose = appearance(labels, _look(index, seed)).pose
    x, y, side = DRAWN
    cos, sin = math.cos(pose.roll) * pose.scale, math.sin(pose.roll) * pose.scale
    half = _FIGURE / 2
    center = (half * (1 + pose.shift[0] + x * cos - y * sin), half * (1 + pose.shift[1] + x * sin + y * cos))
    return Figure(Image.fromarray(pixels.astype(np.uint8)), (*center, side * pose.scale * half), False)


def _look(index: int, seed: int) -> random.Random:
    return random.Random(f"animegen look {seed} {index}")  # as `drawn.draw` does


def _painted(index: int, seed: int, labels: dict[str, str], ground: tuple[int, int, int]) -> Image.Image:
    chosen = appearance(labels, _look(index, seed))
    finer = 2
    canvas = Canvas(_FIGURE * finer, chosen.pose)
    canvas.ground([ground, ground])
    cap = hair.Front(chosen)
    figure(canvas, chosen, cap)
    return canvas.image.reduce(finer)


def drawn_figures(count: int, seed: int, processes: int) -> list[Figure]:
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(drawn_figure, range(count), [seed] * count, chunksize=50))


def crop_figures(images: np.ndarray, box: Box = KAGGLE) -> list[Figure]:
    """Square crops, uint8 (N, H, H, 3), as figures; `box` in shares of the crop."""
    side = images.shape[1]
    return [Figure(Image.fromarray(one), (box[0] * side, box[1] * side, box[2] * side), True) for one in images]


def sheet_faces(path: Path) -> np.ndarray:
    """The faces of a sheet that `animegen sample` wrote: cells of 32 pixels, 2 pixels apart; uint8 (N, 32, 32, 3)."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    rows, columns = ((side + 2) // 34 for side in pixels.shape[:2])
    return np.stack(
        [
            pixels[34 * row : 34 * row + 32, 34 * column : 34 * column + 32]
            for row in range(rows)
            for column in range(columns)
        ]
    )


def run_faces(path: Path, count: int, seed: int) -> np.ndarray:
    """Faces that the run at `path` draws: uint8 (count, H, H, 3)."""
    import torch

    from animegen_cli.paths import Run
    from animegen_cli.sample.generate import Generator
    from animegen_cli.sample.trained import open_trained, sampling_of

    trained = open_trained(Run(path), device=torch.device("cpu"), precision="fp32")
    generator = Generator(trained, sampling_of(trained, {}))
    parts = [generator.draw(range(seed + start, seed + min(start + 256, count))) for start in range(0, count, 256)]
    return torch.cat(parts).permute(0, 2, 3, 1).contiguous().numpy()
