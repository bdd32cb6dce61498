"""The brush of the drawn faces: smooth curves, tapered strokes, gradients, and a canvas that turns and tilts.

Everything is drawn in face units: x to the right and y down, with the frame's edges at -1 and 1, whatever
the size of the picture. The canvas moves points to pixels, so one description serves every size.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageChops, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Sequence

Color: TypeAlias = tuple[int, int, int]
Points: TypeAlias = ArrayLike  # (n, 2) or what becomes it; where one point is meant, (2,)

WHITE: Color = (255, 255, 255)
_SMOOTH = 8  # straight pieces for each piece of a curve


# ------------------------------------------------------------------------------------------------ colors


def mix(a: Color, b: Color, amount: float) -> Color:
    """Blend from `a` (amount 0) to `b` (amount 1), channel by channel."""
    red, green, blue = (round(x + (y - x) * amount) for x, y in zip(a, b, strict=True))
    return red, green, blue


def tone(color: Color, light: float = 1.0, vivid: float = 1.0, turn: float = 0.0) -> Color:
    """Multiply the brightness and the saturation of a color, and turn its hue by a share of the circle."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    rgb = colorsys.hsv_to_rgb((hue + turn) % 1.0, min(1.0, saturation * vivid), min(1.0, value * light))
    red, green, blue = (round(channel * 255) for channel in rgb)
    return red, green, blue


# ------------------------------------------------------------------------------------------------- curves


@lru_cache(maxsize=8)
def _catmull_rom(steps: int) -> np.ndarray:
    t = np.arange(steps)[:, None] / steps
    powers = np.concatenate([t**0, t, t**2, t**3], axis=1)
    basis = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    return powers @ basis


@lru_cache(maxsize=8)
def _bezier(steps: int) -> np.ndarray:
    t = np.linspace(0, 1, steps + 1)[:, None]
    return np.concatenate([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)


@lru_cache(maxsize=64)
def shares(count: int) -> np.ndarray:
    """Give `count` even steps from 0 to 1, (count,). Shared between callers: do not write into it."""
    return np.linspace(0, 1, count)


@lru_cache(maxsize=32)
def _circle(steps: int) -> np.ndarray:
    angle = 2 * math.pi * np.arange(steps) / steps
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@lru_cache(maxsize=256)
def _profile(count: int, taper: str) -> np.ndarray:
    t = shares(count)
    if taper == "both":
        return np.sin(t * math.pi) * 0.9 + 0.1
    if taper == "none":
        return np.ones(count)
    return np.sqrt(t if taper == "start" else 1 - t) + 0.02


def curve(points: Points, *, closed: bool = False, steps: int = _SMOOTH) -> np.ndarray:
    """Lay a smooth line through all `points` (n, 2), a Catmull-Rom spline of `steps` straight pieces between two."""
    p = np.asarray(points, float)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    windows = np.stack([p[:-3], p[1:-2], p[2:-1], p[3:]], axis=1)
    line = (_catmull_rom(steps) @ windows).reshape(-1, 2)
    return line if closed else np.concatenate([line, p[-1:]])


def bow(start: Points, bend: Points, end: Points, steps: int = _SMOOTH) -> np.ndarray:
    """Lay a quadratic Bézier line from `start` to `end`, pulled toward `bend`: (steps + 1, 2)."""
    return _bezier(steps) @ np.array([start, bend, end], float)


def oval(center: Points, width: float, height: float, steps: int = 28) -> np.ndarray:
    """Give the outline (steps, 2) of an ellipse with the half axes `width` and `height`."""
    return _circle(steps) * (width, height) + np.asarray(center, float)


def moved(points: Points, right: float, down: float = 0.0) -> np.ndarray:
    """Shift `points`, or one point."""
    return np.asarray(points, float) + np.array([right, down])


def mirror(points: Points, side: int) -> np.ndarray:
    """Give `points` as they are (side 1), or mirrored at the middle of the face (side -1)."""
    return np.asarray(points, float) * (side, 1)


def ribbon(line: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Give the outline (2n, 2) of a stroke along `line` (n, 2) whose half width (n,) changes from point to point."""
    slope = np.empty_like(line)
    slope[1:-1], slope[0], slope[-1] = line[2:] - line[:-2], line[1] - line[0], line[-1] - line[-2]
    normal = slope[:, ::-1] * (-1, 1)
    normal *= (widths / np.maximum(np.hypot(slope[:, 0], slope[:, 1]), 1e-9))[:, None]
    return np.concatenate([line + normal, (line - normal)[::-1]])


def lock(root: Points, bend: Points, tip: Points, width: float, belly: float = 0.35) -> np.ndarray:
    """Give the outline of a lock of hair from `root` to a sharp `tip`, widest at the share `belly` of its length."""
    line = bow(root, bend, tip, 14)
    t = shares(len(line))
    rising = 0.55 + 0.45 * np.sin(np.minimum(t / belly, 1) * math.pi / 2)
    falling = 1 - np.clip((t - belly) / (1 - belly), 0, 1) ** 1.5
    return ribbon(line, width * rising * falling)


# ------------------------------------------------------------------------------------------------- canvas


@dataclass(frozen=True)
class Pose:
    """How the head is held: `yaw` and `pitch` in -1..1, `roll` in radians, `scale`, and a shift in face units."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)


class Canvas:
    """A square RGB picture of `pixels` a side; what is drawn on it is placed by the `pose`.

    `depth` is how far in front of the head's axis the next shapes lie: the more, the further they follow a
    turn of the head, as a face does before the hair behind it.
    """

    def __init__(self, pixels: int, pose: Pose) -> None:
        self.image = Image.new("RGB", (pixels, pixels), WHITE)
        self._pen = ImageDraw.Draw(self.image, "RGBA")
        self._pixels = pixels
        self._pose = pose
        self.depth = 0.0
        half = pixels / 2
        cos, sin = math.cos(pose.roll) * pose.scale * half, math.sin(pose.roll) * pose.scale * half
        self._matrix = np.array([[cos, sin], [-sin, cos]])
        self._origin = np.array([half * (1 + pose.shift[0]), half * (1 + pose.shift[1])])
        self._turn = np.array([pose.yaw, pose.pitch])

    def _place(self, points: Points) -> np.ndarray:
        p = np.asarray(points, float)
        if self.depth:
            # Most in the middle and nothing at the outline: what a turned ball does to a drawing on it.
            p = p + self.depth * self._turn * np.maximum(0.0, 1 - (p / (0.78, 1.0)) ** 2)
        return p @ self._matrix + self._origin

    def fill(self, points: Points, color: Color, alpha: float = 1.0) -> None:
        """Fill a shape with one color; `alpha` below 1 lets what is under it through."""
        self._pen.polygon(self._place(points).ravel().tolist(), fill=(*color, round(alpha * 255)))

    def stroke(self, line: Points, width: float, color: Color, alpha: float = 1.0, taper: str = "both") -> None:
        """Draw a brush line of `width` that thins toward its `taper`: both ends, its start, its end, or none."""
        line = np.asarray(line, float)
        profile = _profile(len(line), taper)
        self.fill(ribbon(line, profile * width / 2), color, alpha)

    def outline(self, points: np.ndarray, width: float, color: Color) -> None:
        """Draw a line of even `width` around a closed shape."""
        flat = self._place(np.concatenate([points, points[:1]])).ravel().tolist()
        self._pen.line(flat, fill=(*color, 255), width=max(1, round(width * self._pixels / 2)))

    def shade(self, points: Points, colors: Sequence[Color], alpha: float = 1.0, within: Points | None = None) -> None:
        """Fill a shape from top to bottom with a gradient of `colors`, cut off at the shape `within`."""
        placed = self._place(points)
        low = np.maximum(np.floor(placed.min(axis=0)), 0).astype(int)
        high = np.minimum(np.ceil(placed.max(axis=0)) + 1, self._pixels).astype(int)
        width, height = (high - low).tolist()
        if width <= 0 or height <= 0:
            return
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).polygon((placed - low).ravel().tolist(), fill=round(alpha * 255))
        if within is not None:
            window = Image.new("L", (width, height))
            ImageDraw.Draw(window).polygon((self._place(within) - low).ravel().tolist(), fill=255)
            mask = ImageChops.multiply(mask, window)
        self.image.paste(gradient(colors, width, height), (int(low[0]), int(low[1])), mask)

    def ground(self, colors: Sequence[Color]) -> None:
        """Fill the whole picture with a gradient from top to bottom."""
        self.image.paste(gradient(colors, self._pixels, self._pixels))


def gradient(colors: Sequence[Color], width: int, height: int) -> Image.Image:
    """Make an RGB picture that runs through `colors` from its top to its bottom."""
    stops = shares(len(colors))
    rows = shares(height)
    column = np.stack([np.interp(rows, stops, channel) for channel in zip(*colors, strict=True)], axis=1)
    pixels = (column + 0.5).astype(np.uint8)
    return Image.fromarray(pixels[:, None]).resize((width, height), Image.Resampling.NEAREST)
