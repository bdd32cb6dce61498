"""Portraits in the manner of photographs: natural proportions and colors, soft light, an unsharp ground and grain.

They stand in for photographs where a translator is tried or tested. They differ from the drawn anime faces as the
domains do: no ink lines, small eyes, muted tones, and light from one side.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from animegen_cli.prepare.drawn.paint import WHITE, Canvas, Color, Pose, bow, curve, mirror, mix, moved, oval, tone

if TYPE_CHECKING:
    from animegen_cli.prepare.drawn.paint import Points

_SKIN: tuple[Color, ...] = ((232, 190, 168), (222, 172, 142), (198, 148, 116), (160, 112, 82), (116, 78, 58))
_HAIR: tuple[Color, ...] = ((34, 28, 26), (58, 40, 30), (92, 64, 42), (150, 116, 74), (122, 66, 40), (150, 146, 142))
_EYES: tuple[Color, ...] = ((66, 44, 30), (88, 62, 38), (88, 104, 118), (86, 96, 72))
_EYE = (0.205, -0.04)  # the middle of an eye
_GRAIN = 5.0  # standard deviation of the grain, in levels of 255


@dataclass(frozen=True)
class _Sitter:
    """What is decided before the first stroke. Lengths are in face units."""

    rng: random.Random
    pose: Pose
    skin: Color
    hair: Color
    eye: Color
    cloth: Color
    male: bool
    width: float  # of the face
    long: bool  # hair down to the shoulders
    smile: float  # 0 none, 1 broad
    light: int  # the side it comes from

    def vary(self, low: float, high: float) -> float:
        """The next random number between `low` and `high`."""
        return low + (high - low) * self.rng.random()


def portrait(rng: random.Random, size: int, finer: int) -> Image.Image:
    """One portrait, `size` pixels a side, painted `finer` times as fine."""
    sitter = _sitter(rng)
    canvas = Canvas(size * finer, sitter.pose)
    _ground(canvas, sitter)
    _body(canvas, sitter)
    _head(canvas, sitter)
    for side in (-1, 1):
        _eye(canvas, sitter, side)
    _nose(canvas, sitter)
    _mouth(canvas, sitter)
    _hair(canvas, sitter)
    soft = canvas.image.filter(ImageFilter.GaussianBlur(size * finer * 0.006))
    return _developed(soft.reduce(finer), sitter)


def _sitter(rng: random.Random) -> _Sitter:
    def vary(low: float, high: float) -> float:
        return low + (high - low) * rng.random()

    def one(colors: tuple[Color, ...]) -> Color:
        return tone(colors[int(rng.random() * len(colors))], vary(0.88, 1.08), vary(0.85, 1.15))

    male = rng.random() < 0.5
    return _Sitter(
        rng=rng,
        pose=Pose(vary(-1, 1), vary(-0.6, 0.6), vary(-0.12, 0.12), vary(0.98, 1.16), (vary(-0.06, 0.06), vary(-0.06, 0.06))),
        skin=one(_SKIN), hair=one(_HAIR), eye=one(_EYES),
        cloth=tone((120, 90, 84), vary(0.3, 1.2), vary(0.2, 1.2), vary(0, 1)),
        male=male,
        width=vary(0.46, 0.53) + 0.02 * male,
        long=not male and rng.random() < 0.75,
        smile=vary(0, 1),
        light=1 if rng.random() < 0.5 else -1,
    )  # fmt: skip


def _ground(canvas: Canvas, sitter: _Sitter) -> None:
    """A muted wall or street, far out of focus."""
    v = sitter.vary
    wall = tone((128, 120, 110), v(0.45, 1.4), v(0.3, 2.2), v(0, 1))
    canvas.ground([tone(wall, v(0.9, 1.25)), tone(wall, v(0.5, 0.85), v(0.8, 1.4))])
    for _ in range(7):
        center = (v(-1.2, 1.2), v(-1.2, 1.0))
        width = v(0.15, 0.6)
        canvas.fill(oval(center, width, v(0.15, 0.8)), tone(wall, v(0.4, 1.6), v(0.4, 2.0), v(-0.08, 0.08)), 0.55)
    canvas.image.paste(canvas.image.filter(ImageFilter.GaussianBlur(canvas.image.width * 0.05)))


def _body(canvas: Canvas, sitter: _Sitter) -> None:
    """Hair behind the head, neck and shoulders."""
    hair, skin = sitter.hair, sitter.skin
    w = sitter.width
    if sitter.long:
        low = sitter.vary(0.75, 1.3)
        half = [(0.0, -0.98), (0.4, -0.92), (w + 0.15, -0.5), (w + 0.2, 0.1), (w + 0.16, low), (0.2, low + 0.1)]
    else:
        half = [(0.0, -0.95), (0.38, -0.88), (w + 0.06, -0.5), (w + 0.05, -0.05), (w - 0.08, 0.25), (0.1, 0.3)]
    outline = curve(np.concatenate([half, mirror(half, -1)[::-1]]), closed=True)
    canvas.shade(outline, [hair, tone(hair, 0.8), tone(hair, 0.55)])
    wide = 0.27 if sitter.male else 0.21
    neck = [(wide, 0.3), (wide, 0.95), (wide + 0.3, 1.3), (-wide - 0.3, 1.3), (-wide, 0.95), (-wide, 0.3)]
    canvas.shade(neck, [tone(skin, 0.5), tone(skin, 0.58), tone(skin, 0.82), skin])
    shoulders = curve([(-1.5, 2.0), (-1.15, 1.28), (-0.62, 1.1), (-0.3, 0.98), (0.0, 1.2), (0.3, 0.98), (0.62, 1.1),
                       (1.15, 1.28), (1.5, 2.0)])  # fmt: skip
    canvas.shade(shoulders, [sitter.cloth, tone(sitter.cloth, 0.6)])


def _head(canvas: Canvas, sitter: _Sitter) -> None:
    """Ears and face, rounded by shade that grows toward the side away from the light."""
    skin, w = sitter.skin, sitter.width
    canvas.depth = 0.0
    for side in (-1, 1):
        canvas.fill(oval((side * (w + 0.01), 0.02), 0.07, 0.15), tone(skin, 0.84 if side == sitter.light else 0.62))
    canvas.depth = 0.05
    jaw = 0.9 if sitter.male else 0.82
    half = np.array([(0.0, -0.78), (0.3, -0.72), (w - 0.03, -0.42), (w, 0.0), (w * 0.95, 0.28), (w * jaw * 0.86, 0.5),
                     (w * jaw * 0.5, 0.7), (0.1, 0.77)])  # fmt: skip
    contour = curve(np.concatenate([half, mirror(half[1:], -1)[::-1]]), closed=True)
    steps = 12
    for step in range(steps):
        share = step / (steps - 1)
        layer = contour * (1 - 0.6 * share) + (sitter.light * 0.17 * share, -0.07 * share)
        canvas.fill(layer, mix(tone(skin, 0.66, 1.12), mix(skin, WHITE, 0.07), math.sin(share * math.pi / 2)))
    for side in (-1, 1):
        for share in (1.0, 0.7, 0.4):  # cheeks
            canvas.fill(oval((side * 0.27, 0.2), 0.13 * share, 0.1 * share), tone(skin, 0.97, 1.4, -0.015), 0.16)


def _eye(canvas: Canvas, sitter: _Sitter, side: int) -> None:
    skin = sitter.skin
    canvas.depth = 0.12

    def at(points: Points) -> np.ndarray:
        """From the eye's own frame (-1..1, inner corner to outer) to the face."""
        p = np.asarray(points, float) * (0.095, 0.044 * (1.1 - 0.25 * sitter.smile))
        return mirror(p + _EYE, side)

    for share in (1.0, 0.75, 0.5):  # the socket
        canvas.fill(at(oval((-0.1, -0.5), 1.5 * share, 2.6 * share)), tone(skin, 0.7), 0.22)
    lid = curve([(-1, 0.25), (-0.5, -0.7), (0.1, -1), (0.7, -0.6), (1, 0.1)])
    opening = at(np.concatenate([lid, curve([(1, 0.1), (0.4, 0.8), (-0.4, 0.8), (-1, 0.25)])]))
    white = tone((228, 222, 216), 0.95 if side == sitter.light else 0.8)
    canvas.shade(opening, [tone(white, 0.7), white, white])
    center = at([(0.0, -0.12)])[0]
    canvas.shade(oval(center, 0.043, 0.043), [tone(sitter.eye, 0.7), sitter.eye], within=opening)
    canvas.shade(oval(center, 0.02, 0.02, 14), [(14, 12, 12), (14, 12, 12)], within=opening)
    canvas.fill(oval(moved(center, sitter.light * 0.014, -0.014), 0.009, 0.009, 10), WHITE, 0.9)
    canvas.stroke(at(lid), 0.02 if sitter.male else 0.028, tone(skin, 0.25), 0.85)
    canvas.stroke(at(bow((-0.9, -1.1), (0, -2.0), (1, -0.9))), 0.012, tone(skin, 0.55), 0.7)
    brow = at(curve([(-1.2, -2.5), (-0.3, -3.3), (0.6, -3.4), (1.45, -2.3)]))
    canvas.stroke(brow, 0.062 if sitter.male else 0.04, tone(sitter.hair, 0.85), 0.8)


def _nose(canvas: Canvas, sitter: _Sitter) -> None:
    """A ridge that catches the light, the shade beside it, and nostrils."""
    skin, away = sitter.skin, -sitter.light
    canvas.depth = 0.18
    for width in (0.1, 0.07, 0.04):
        canvas.stroke(
            curve([(away * 0.07, -0.08), (away * 0.05, 0.1), (away * 0.095, 0.26)]), width, tone(skin, 0.6), 0.22
        )
    for width in (0.07, 0.04):
        canvas.stroke([(0.0, -0.08), (0.005, 0.08), (sitter.light * 0.01, 0.22)], width, mix(skin, WHITE, 0.4), 0.28)
    canvas.stroke(bow((-0.085, 0.25), (0, 0.33), (0.085, 0.25)), 0.05, tone(skin, 0.6), 0.5)
    for side in (-1, 1):
        canvas.fill(oval((side * 0.045, 0.272), 0.02, 0.011, 10), tone(skin, 0.3), 0.8)


def _mouth(canvas: Canvas, sitter: _Sitter) -> None:
    skin, smile = sitter.skin, sitter.smile
    canvas.depth = 0.13
    x, y, up = 0.13 + 0.06 * smile, 0.46, 0.05 * smile
    lip = tone(mix(skin, (164, 62, 62), 0.3 if sitter.male else 0.5), 0.86)
    low = 0.055 + 0.01 * smile
    upper = np.concatenate([curve([(-x, y - up), (-0.04, y - 0.035), (0, y - 0.025), (0.04, y - 0.035), (x, y - up)]),
                            bow((x, y - up), (0, y + 0.02 + up), (-x, y - up))])  # fmt: skip
    lower = np.concatenate([bow((-x, y - up), (0, y + 0.02 + up), (x, y - up)),
                            bow((x, y - up), (0, y + 2 * low + up), (-x, y - up))])  # fmt: skip
    canvas.fill(lower, tone(lip, 1.08))
    canvas.fill(upper, tone(lip, 0.85))
    if smile > 0.6:
        teeth = np.concatenate([bow((-x * 0.8, y - up * 0.7), (0, y - 0.005), (x * 0.8, y - up * 0.7)),
                                bow((x * 0.8, y - up * 0.7), (0, y + 0.05 + up), (-x * 0.8, y - up * 0.7))])  # fmt: skip
        canvas.fill(teeth, (226, 220, 210))
    else:
        canvas.stroke(bow((-x, y - up), (0, y + 0.02 + up), (x, y - up)), 0.018, tone(lip, 0.4), 0.8)
    for share in (1.0, 0.7):  # the shade below the lower lip, and of a beard
        canvas.fill(oval((0, 0.585), 0.12 * share, 0.03 * share), tone(skin, 0.62), 0.25)
    if sitter.male and sitter.rng.random() < 0.45:
        for side in (-1, 1):
            whiskers = curve([(0.0, 0.57), (0.2, 0.5), (0.3, 0.2), (0.44, 0.1), (0.4, 0.5), (0.2, 0.74), (0.0, 0.78)])
            canvas.fill(mirror(whiskers, side), sitter.hair, 0.5)
        canvas.stroke(bow((-0.17, 0.43), (0, 0.33), (0.17, 0.43)), 0.06, sitter.hair, 0.55)


def _hair(canvas: Canvas, sitter: _Sitter) -> None:
    """The hair above the brow, with strands."""
    v, w, hair = sitter.vary, sitter.width, sitter.hair
    canvas.depth = 0.03
    part, brow = v(-0.3, 0.3), v(-0.52, -0.4)
    temple = 0.25 if sitter.long else -0.12
    top = curve([(-w - 0.07, temple), (-w - 0.08, -0.4), (-0.36, -0.9), (0.0, -1.0), (0.36, -0.9), (w + 0.08, -0.4),
                 (w + 0.07, temple)])  # fmt: skip
    line = curve([(w - 0.04, temple), (w - 0.09, -0.3), ((w + part) * 0.55, brow), (part, brow - 0.14),
                  ((part - w) * 0.55, brow), (-w + 0.09, -0.3), (-w + 0.04, temple)])  # fmt: skip
    cap = np.concatenate([top, line])
    canvas.shade(cap, [tone(hair, 1.15), hair, tone(hair, 0.75)])
    for _ in range(46):
        share, side = v(0, 1), 1 if v(0, 1) < 0.5 else -1
        end = (side * (w + 0.05) * (0.35 + 0.65 * share), brow + (temple - brow) * share**2 - 0.02)
        strand = bow((part * 0.6 + 0.05 * side, -0.95 + 0.08 * v(0, 1)), (end[0] * 1.02, -0.8 + 0.3 * share), end, 10)
        bright = 1.55 if side == sitter.light and v(0, 1) < 0.6 else 0.6
        canvas.stroke(strand, 0.014, tone(hair, bright), 0.4)


def _developed(image: Image.Image, sitter: _Sitter) -> Image.Image:
    """Light that falls off toward one side, and grain."""
    size = image.width
    across, down = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size))
    light = 1.08 + 0.14 * sitter.light * across - 0.07 * down - 0.1 * (across**2 + down**2)
    grain = _grain(int(sitter.rng.random() * 2**53), size) * _GRAIN
    pixels = np.asarray(image, np.float64) * light[..., None] + grain
    return Image.fromarray((pixels + 0.5).clip(0, 255).astype(np.uint8))


def _grain(seed: int, size: int) -> np.ndarray:
    """(size, size, 3) numbers of mean 0 and deviation about 1, alike in the channels: sums of bytes of SplitMix64."""
    z = np.arange(1, 3 * size * size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    total = sum((z >> np.uint64(8 * byte + 24)) & np.uint64(255) for byte in range(4))
    values = ((np.asarray(total, np.float64) - 510) / math.sqrt((256**2 - 1) / 3)).reshape(size, size, 3)
    return 0.6 * values + 0.8 * values[..., :1]
