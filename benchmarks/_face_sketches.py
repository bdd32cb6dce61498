"""Faces of many drawing styles for the scenes of the face detector: simple shapes, but everything about them varies.

`animegen_cli.prepare.drawn` has one style: large round eyes, an ink line, flat colors. Portraits of recent years differ in every
one of them, so here the eyes may be narrow, closed, dots or hidden by hair or glasses, the head turned up to a profile,
the skin of any light, the line thin, colored or missing; with hats, ears, horns, clips, masks and hands. The detector
sees a face at 10 to 25 pixels, so nothing finer than that is drawn.
"""

from __future__ import annotations

import colorsys
import math
from concurrent.futures import ProcessPoolExecutor
from typing import TypeAlias

import numpy as np
from _face_figures import Figure
from _face_grounds import random_color
from PIL import Image, ImageDraw, ImageFilter

Color: TypeAlias = tuple[int, int, int]

_SIDE = 160  # of a figure in pixels
_WIDE = 2.3  # and in sides of the face
_FINER = 2


def sketched_figures(count: int, seed: int, processes: int) -> list[Figure]:
    """Draw `count` faces of different styles with hair, neck and shoulders, on nothing."""
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(sketched_figure, range(count), [seed] * count, chunksize=50))


def sketched_figure(index: int, seed: int) -> Figure:
    """Draw one face: RGBA of 160 pixels a side, the face 70 pixels in its middle."""
    sketch = _Sketch(np.random.default_rng([23, seed, index]))
    sketch.behind()
    sketch.face()
    sketch.features()
    sketch.in_front()
    image = sketch.image.reduce(_FINER)
    middle, side = _SIDE / 2, _SIDE / _WIDE
    return Figure(image, (middle, middle, side), False)


def _shade(color: Color, light: float) -> Color:
    """A darker or lighter color."""
    red, green, blue = (int(min(255, max(0, channel * light))) for channel in color)
    return red, green, blue


def _hsv(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return int(red * 255), int(green * 255), int(blue * 255)


class _Sketch:
    """One face while it is drawn. Places are in sides of the face from its middle: brows near -0.3, chin 0.5."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.image = Image.new("RGBA", (_SIDE * _FINER, _SIDE * _FINER))
        self.pen = ImageDraw.Draw(self.image)
        self.unit = _SIDE * _FINER / _WIDE
        self.skin = self._skin()
        self.hair = _hsv(rng.normal(0.95, 0.3), rng.random() ** 0.8, rng.uniform(0.1, 1) ** 0.6)
        if rng.random() < 0.25:  # hair nearly of the color of the skin: blond, pink, white
            self.hair = _shade(self.skin, rng.uniform(0.75, 1.15))
        line = rng.random()
        self.ink: Color = (35, 22, 30) if line < 0.55 else _shade(self.hair, 0.45) if line < 0.85 else random_color(rng)
        self.line = (
            0.0 if rng.random() < 0.25 else float(rng.choice([0.008, 0.015, 0.025, 0.05], p=[0.3, 0.4, 0.2, 0.1]))
        )
        turn = rng.random()
        self.yaw = float(rng.normal(0, 0.35)) if turn < 0.7 else float(rng.choice([-1, 1]) * rng.uniform(0.6, 1.1))
        self.profile = turn > 0.93
        self.eye_line = float(rng.uniform(-0.2, 0.04))
        self.jaw = float(rng.uniform(0.75, 1.15))

    def _skin(self) -> Color:
        rng = self.rng
        kind = rng.random()
        if kind < 0.7:
            return _hsv(rng.uniform(0.01, 0.1), rng.uniform(0.05, 0.4), rng.uniform(0.8, 1.0))
        if kind < 0.82:  # dark skin or night
            return _hsv(rng.uniform(0.01, 0.1), rng.uniform(0.2, 0.6), rng.uniform(0.35, 0.8))
        if kind < 0.92:  # paper
            return _hsv(0.1, rng.uniform(0, 0.1), rng.uniform(0.75, 1.0))
        return _hsv(rng.random(), rng.uniform(0.05, 0.5), rng.uniform(0.4, 1.0))  # colored light

    # ---- brushes

    def _at(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        half = _SIDE * _FINER / 2
        return [(half + x * self.unit, half + y * self.unit) for x, y in points]

    def fill(self, points: list[tuple[float, float]], color: Color, *, outlined: bool = True) -> None:
        """A polygon with smooth corners."""
        placed = self._at(_smooth(points))
        self.pen.polygon(placed, fill=(*color, 255))
        if outlined and self.line:
            self.pen.line([*placed, placed[0]], fill=(*self.ink, 255), width=max(1, round(self.line * self.unit)))

    def sharp(self, points: list[tuple[float, float]], color: Color) -> None:
        """A polygon with sharp corners."""
        placed = self._at(points)
        self.pen.polygon(placed, fill=(*color, 255))
        if self.line:
            self.pen.line([*placed, placed[0]], fill=(*self.ink, 255), width=max(1, round(self.line * self.unit)))

    def oval(self, x: float, y: float, w: float, h: float, color: Color, *, outlined: bool = False) -> None:
        (left, top), (right, bottom) = self._at([(x - w, y - h), (x + w, y + h)])
        width = max(1, round(self.line * self.unit)) if outlined and self.line else 0
        self.pen.ellipse((left, top, right, bottom), fill=(*color, 255), outline=(*self.ink, 255), width=width)

    def stroke(self, points: list[tuple[float, float]], width: float, color: Color) -> None:
        self.pen.line(self._at(points), fill=(*color, 255), width=max(1, round(width * self.unit)), joint="curve")

    def arc(self, x: float, y: float, w: float, bend: float, width: float, color: Color) -> None:
        """A bow from (x - w, y) to (x + w, y) whose middle is lower by `bend`."""
        self.stroke([(x + w * t, y + bend * (1 - t * t)) for t in np.linspace(-1, 1, 9).tolist()], width, color)

    def soft(self, x: float, y: float, w: float, h: float, color: Color, alpha: int) -> None:
        """A see-through oval, only where something has been painted."""
        layer = Image.new("L", self.image.size)
        (left, top), (right, bottom) = self._at([(x - w, y - h), (x + w, y + h)])
        ImageDraw.Draw(layer).ellipse((left, top, right, bottom), fill=alpha)
        layer = layer.filter(ImageFilter.GaussianBlur(0.04 * self.unit))
        painted = self.image.getchannel("A")
        self.image.paste(Image.new("RGB", self.image.size, color), (0, 0), layer)
        self.image.putalpha(painted)

    # ---- parts

    def behind(self) -> None:
        """Hair behind the head, ears and horns of beasts, neck and clothes."""
        rng = self.rng
        dark = _shade(self.hair, rng.uniform(0.5, 1.0))
        wide, low = rng.uniform(0.58, 0.95), rng.uniform(0.2, 1.2)
        if rng.random() < 0.92:
            self.fill(
                [(-wide, -0.2), (-0.6 * wide, -0.85), (0, -rng.uniform(0.85, 1.05)), (0.6 * wide, -0.85), (wide, -0.2),
                 (wide * rng.uniform(0.7, 1.3), low), (0, low * 0.9), (-wide * rng.uniform(0.7, 1.3), low)], dark)  # fmt: skip
        if rng.random() < 0.3:
            self._beast(rng.uniform(0.4, 0.65))
        if rng.random() < 0.3:  # tails of hair at the sides
            reach = rng.uniform(0.9, 1.15)
            for side in (-1, 1):
                self.fill([(side * 0.5, -0.5), (side * reach, -0.4), (side * reach, 0.6), (side * 0.75, 0.8)], dark)
        neck = _shade(self.skin, rng.uniform(0.7, 0.95))
        self.sharp([(-0.2, 0.2), (0.2, 0.2), (0.22, 0.75), (-0.22, 0.75)], neck)
        if rng.random() < 0.85:
            cloth, top, shoulder = random_color(rng), rng.uniform(0.55, 0.75), rng.uniform(0.6, 1.1)
            self.sharp([(-0.25, top), (0.25, top), (shoulder, top + 0.25), (1.2, 1.2), (-1.2, 1.2), (-shoulder, top + 0.25)],
                       cloth)  # fmt: skip
            if rng.random() < 0.4:
                self.oval(0, top + 0.02, 0.25, 0.06, random_color(rng), outlined=True)

    def _beast(self, x: float) -> None:
        rng = self.rng
        color = self.hair if rng.random() < 0.6 else random_color(rng)
        kind, high = rng.integers(3), rng.uniform(-1.12, -0.9)
        for side in (-1, 1):
            if kind == 0:  # of a cat
                self.sharp([(side * (x - 0.22), -0.75), (side * (x + 0.1), high), (side * (x + 0.25), -0.5)], color)
                self.sharp([(side * (x - 0.08), -0.75), (side * (x + 0.08), high + 0.12), (side * (x + 0.15), -0.6)],
                           random_color(rng))  # fmt: skip
            elif kind == 1:  # of an elf
                self.sharp([(side * 0.45, -0.1), (side * 1.0, -0.3), (side * 0.45, 0.2)], self.skin)
            else:  # horns
                self.fill([(side * (x - 0.1), -0.7), (side * (x + 0.15), high), (side * (x + 0.1), -0.65)], color)

    def face(self) -> None:
        """The face without anything in it, and its shade."""
        rng, j, t = self.rng, self.jaw, 0.12 * self.yaw
        if self.profile:
            s = 1 if self.yaw > 0 else -1
            shape = [(-0.35, -0.5), (0.3, -0.52), (0.34, -0.2), (0.31, -0.08), (0.45, 0.1), (0.36, 0.15), (0.38, 0.21),
                     (0.34, 0.26), (0.36, 0.32), (0.24, 0.48), (0.1, 0.5), (-0.25, 0.28), (-0.42, -0.1)]  # fmt: skip
            contour = [(s * x, y) for x, y in shape]
        else:
            near, far = 0.46 + 0.05 * self.yaw, 0.46 - 0.05 * self.yaw
            chin = 0.06 * rng.uniform(0.5, 3)
            contour = [(far, -0.5), (far, -0.05), (0.9 * far, 0.18), (0.62 * j * far + t, 0.36), (chin + t, 0.5)]
            contour += [
                (-chin + t, 0.5),
                (-0.62 * j * near + t, 0.36),
                (-0.9 * near, 0.18),
                (-near, -0.05),
                (-near, -0.5),
            ]
        self.fill(contour, self.skin)
        mask = self.image.copy()
        if rng.random() < 0.6:  # shade from a side, below the hair, or on the chin
            tint = _shade(self.skin, rng.uniform(0.45, 0.9))
            if rng.random() < 0.3:
                tint = random_color(rng)
            place = [(rng.choice([-0.5, 0.5]), 0.0, 0.35, 0.7), (0, -0.45, 0.6, 0.35), (t, 0.55, 0.5, 0.2)]
            x, y, w, h = place[rng.integers(3)]
            self.soft(x, y, w, h, tint, int(rng.uniform(80, 230)))
        if rng.random() < 0.6:
            for side in (-1, 1):
                self.soft(side * 0.27 + t, self.eye_line + 0.24, 0.13, 0.07, (240, 90, 100), int(rng.uniform(40, 190)))
        self.image.putalpha(mask.getchannel("A"))
        self.pen = ImageDraw.Draw(self.image)

    def features(self) -> None:
        """Eyes, brows, nose and mouth; glasses, a patch or a mask."""
        rng = self.rng
        apart, wide = rng.uniform(0.2, 0.28), rng.uniform(0.08, 0.19)
        high = wide * rng.uniform(0.35, 1.5)
        iris = _hsv(rng.random(), rng.random() ** 0.6, rng.uniform(0.2, 1))
        style = rng.choice(["open", "closed", "line", "dot", "dark"], p=[0.6, 0.12, 0.06, 0.05, 0.17])
        wink = rng.integers(2) if rng.random() < 0.1 else -1
        shift, slant = 0.13 * self.yaw, rng.normal(0, 0.03)
        other = _hsv(rng.random(), 0.7, 0.8) if rng.random() < 0.08 else iris
        ink = self.ink if sum(self.ink) < 360 else _shade(self.hair, 0.4)
        for number, side in enumerate((-1, 1)):
            if self.profile and side != (1 if self.yaw > 0 else -1):
                continue
            squeeze = 1 - 0.4 * max(0.0, side * self.yaw)
            x = side * apart * (1 - 0.25 * max(0.0, side * self.yaw)) + shift
            y = self.eye_line + rng.normal(0, 0.008)
            kind = "closed" if number == wink else style
            self._eye(kind, (x, y, wide * squeeze, high), iris if number else other, ink)
            if rng.random() < 0.8:
                level = y - high - rng.uniform(0.04, 0.12)
                tilt = side * slant
                self.stroke([(x - wide * squeeze, level - tilt), (x + wide * squeeze, level + tilt)],
                            rng.uniform(0.01, 0.04), _shade(self.hair, 0.6))  # fmt: skip
            if rng.random() < 0.02:
                self.oval(x, y, 0.17, 0.15, (30, 25, 30))
        nose = rng.random()
        x, y = 0.16 * self.yaw, self.eye_line + rng.uniform(0.16, 0.24)
        if nose < 0.5 and not self.profile:
            self.stroke([(x, y - 0.04), (x + 0.03 * (1 if self.yaw > 0 else -1), y)], 0.015, _shade(self.skin, 0.6))
        elif nose < 0.7:
            self.oval(x, y, 0.02, 0.015, _shade(self.skin, 1.15))
        self._mouth(0.14 * self.yaw, rng.uniform(0.28, 0.37), ink)
        self._worn(apart, shift)

    def _eye(self, kind: str, place: tuple[float, float, float, float], iris: Color, ink: Color) -> None:
        rng = self.rng
        x, y, w, h = place
        if kind == "closed":
            self.arc(x, y, w, float(rng.choice([-0.08, 0.06])), rng.uniform(0.02, 0.05), ink)
        elif kind == "line":
            self.stroke([(x - w, y), (x + w, y)], rng.uniform(0.02, 0.05), ink)
        elif kind == "dot":
            self.oval(x, y, 0.05, 0.07, ink)
        else:
            white = (255, 255, 255) if rng.random() < 0.7 else _shade(self.skin, 1.1)
            if kind == "open":
                self.oval(x, y, w, h, white)
            look = rng.normal(0, 0.1) * w
            round_w = min(w * 0.95, max(0.55 * w, 0.75 * h))
            self.oval(x + look, y, round_w, h, _shade(iris, 0.5))
            self.oval(x + look, y + 0.25 * h, 0.8 * round_w, 0.7 * h, iris)
            if rng.random() < 0.8:
                self.oval(x + look, y, 0.4 * round_w, 0.45 * h, _shade(iris, 0.25))
            if rng.random() < 0.85:
                self.oval(x + look - 0.3 * round_w, y - 0.4 * h, 0.3 * round_w, 0.25 * h, (255, 255, 255))
            self.arc(x, y - 0.15 * h, 1.15 * w, -0.95 * h, rng.uniform(0.015, 0.06), ink)
            if rng.random() < 0.5:
                self.arc(x, y + 0.3 * h, 0.8 * w, 0.7 * h, 0.012, ink)

    def _mouth(self, x: float, y: float, ink: Color) -> None:
        rng = self.rng
        kind, w = rng.random(), rng.uniform(0.03, 0.13)
        red = _hsv(rng.uniform(0.95, 1.05), rng.uniform(0.3, 0.8), rng.uniform(0.4, 0.95))
        if kind < 0.12:
            return
        if kind < 0.55:
            self.arc(x, y, w, float(rng.normal(0, 0.03)), rng.uniform(0.01, 0.03), ink if kind < 0.4 else red)
        elif kind < 0.8:
            self.oval(x, y + 0.02, w, w * rng.uniform(0.4, 1.1), red, outlined=True)
        else:  # laughing
            self.fill(
                [(x - 1.3 * w, y - 0.03), (x, y - 0.02), (x + 1.3 * w, y - 0.03), (x, y + rng.uniform(0.05, 0.13))], red
            )
            if rng.random() < 0.5:
                self.stroke([(x - w, y - 0.02), (x + w, y - 0.02)], 0.025, (255, 255, 255))

    def _worn(self, apart: float, shift: float) -> None:
        rng = self.rng
        kind = rng.random()
        if kind < 0.1:
            color = random_color(rng)
            for side in (-1, 1):
                x, w = side * apart + shift, rng.uniform(0.14, 0.19)
                ring = [
                    (x + w * math.cos(a), self.eye_line + 0.8 * w * math.sin(a))
                    for a in np.linspace(0, 6.3, 17).tolist()
                ]
                self.stroke(ring, rng.uniform(0.01, 0.035), color)
            self.stroke([(shift - apart + 0.14, self.eye_line), (shift + apart - 0.14, self.eye_line)], 0.015, color)
        elif kind < 0.13:
            self.fill([(-0.4, 0.12), (0.4, 0.12), (0.25, 0.5), (-0.25, 0.5)], random_color(rng))

    def in_front(self) -> None:
        """Fringe, locks beside the face and over an eye, shine, hats, clips and hands."""
        rng = self.rng
        self._fringe()
        for side in (-1, 1):
            if rng.random() < 0.8:
                x, low, w = side * rng.uniform(0.46, 0.64), rng.uniform(0.1, 1.0), rng.uniform(0.06, 0.2)
                self.fill([(x - w, -0.6), (x + w, -0.6), (x + w, 0), (x + side * rng.uniform(-0.2, 0.15), low), (x - w, 0)],
                          _shade(self.hair, rng.uniform(0.75, 1.1)))  # fmt: skip
        if rng.random() < 0.4:
            self.soft(0, -0.66, 0.4, 0.07, _shade(self.hair, 1.6), int(rng.uniform(60, 200)))
            self.pen = ImageDraw.Draw(self.image)
        if rng.random() < 0.4:
            self._worn_above()
        if rng.random() < 0.06:  # a hand at the chin
            x = rng.uniform(-0.4, 0.4)
            for finger in range(4):
                self.oval(x + 0.07 * finger, 0.5 + rng.uniform(-0.03, 0.05), 0.05, 0.16, self.skin, outlined=True)

    def _fringe(self) -> None:
        rng = self.rng
        bald = rng.random() < 0.06
        middle = self.eye_line + rng.uniform(-0.34, -0.05)
        part = rng.uniform(-0.4, 0.4)
        slope = rng.uniform(-0.2, 0.9) if rng.random() < 0.6 else 0.0
        count = int(rng.integers(4, 13))
        edge = [(-0.62, 0.1)]
        for number, x in enumerate(np.linspace(-0.52, 0.52, 2 * count + 1).tolist()):
            low = middle + slope * abs(x - part) + rng.normal(0, 0.03) + (0.0 if number % 2 else rng.uniform(0.02, 0.2))
            edge.append((x, min(low, 0.25)))
        edge += [(0.62, 0.1), (0.62, -0.5), (0.35, -0.85), (0, -0.95), (-0.35, -0.85), (-0.62, -0.5)]
        if bald:
            return
        if rng.random() < 0.2:  # brows and eyes show through
            before = self.image.copy()
            self.sharp(edge, self.hair)
            alpha = self.image.getchannel("A")
            self.image = Image.blend(before, self.image, float(rng.uniform(0.5, 0.9)))
            self.image.putalpha(alpha)
            self.pen = ImageDraw.Draw(self.image)
        else:
            self.sharp(edge, self.hair)
        for _ in range(rng.integers(0, 9)):
            x = rng.uniform(-0.5, 0.5)
            self.stroke([(0.5 * x, -0.85), (x, middle - rng.uniform(0, 0.15))], rng.uniform(0.01, 0.04),
                        _shade(self.hair, rng.choice([0.6, 0.8, 1.3])))  # fmt: skip
        if rng.random() < 0.3:  # strands of another color
            x = rng.uniform(-0.4, 0.4)
            self.sharp(
                [(x - 0.1, -0.8), (x + 0.12, -0.8), (x + rng.uniform(-0.15, 0.15), middle + 0.15)], random_color(rng)
            )
        if rng.random() < 0.12:  # over one eye
            x = float(rng.choice([-0.28, 0.28]))
            self.sharp([(x - 0.2, -0.5), (x + 0.2, -0.5), (x + 0.12, 0.1), (x, 0.35), (x - 0.12, 0.1)], self.hair)
        elif rng.random() < 0.3:  # between the eyes
            x = rng.uniform(-0.1, 0.1)
            self.sharp(
                [(x - 0.09, -0.5), (x + 0.09, -0.5), (x + rng.uniform(-0.1, 0.1), rng.uniform(-0.05, 0.2))], self.hair
            )

    def _worn_above(self) -> None:
        rng = self.rng
        kind, color = rng.integers(4), random_color(rng)
        if kind == 0:  # a hat or a hood
            low = rng.uniform(-0.62, -0.4)
            self.fill(
                [(-0.75, low), (-0.55, -1.1), (0.55, -1.1), (0.75, low), (0, low + rng.uniform(-0.1, 0.12))], color
            )
        elif kind == 1:  # a band
            self.stroke([(-0.62, -0.45), (-0.3, -0.8), (0.3, -0.8), (0.62, -0.45)], rng.uniform(0.04, 0.12), color)
        elif kind == 2:  # over the ears
            for side in (-1, 1):
                self.oval(side * 0.6, 0, rng.uniform(0.1, 0.17), rng.uniform(0.12, 0.22), color, outlined=True)
        else:  # clips, flowers, bows
            for _ in range(rng.integers(1, 4)):
                x, y, r = rng.choice([-1, 1]) * rng.uniform(0.3, 0.6), rng.uniform(-0.8, -0.3), rng.uniform(0.03, 0.13)
                if rng.random() < 0.5:
                    self.oval(x, y, r, r * rng.uniform(0.5, 1), random_color(rng), outlined=True)
                else:
                    self.sharp([(x - r, y - r / 3), (x + r, y - r), (x + r, y), (x - r, y + r / 2)], random_color(rng))


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Cut the corners of a closed polygon twice (Chaikin's curve)."""
    p = np.asarray(points, float)
    for _ in range(2):
        after = np.roll(p, -1, axis=0)
        p = np.stack([0.75 * p + 0.25 * after, 0.25 * p + 0.75 * after], 1).reshape(-1, 2)
    return [(x, y) for x, y in p.tolist()]
