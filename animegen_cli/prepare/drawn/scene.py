"""What surrounds the head: background, clothes and accessories."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from animegen_cli.prepare.drawn.head import EYE_X, EYE_Y
from animegen_cli.prepare.drawn.paint import WHITE, Canvas, bow, curve, mirror, mix, oval, tone

if TYPE_CHECKING:
    from collections.abc import Callable

    from animegen_cli.prepare.drawn.appearance import Appearance
    from animegen_cli.prepare.drawn.paint import Color

    Vary = Callable[[float, float], float]
    """`Appearance.vary`: the next random number between two."""

_INK = 0.018


# ------------------------------------------------------------------------------------------ background


def background(canvas: Canvas, appearance: Appearance) -> None:
    """Paint the whole frame behind the head."""
    canvas.depth = 0.0
    kind, v = appearance.labels["background"], appearance.vary
    pale = tone((255, 178, 178), v(0.94, 1.0), v(0.55, 1.05), v(0, 1))
    other = tone(pale, v(0.9, 1.0), v(1.3, 1.8), appearance.side() * v(0.1, 0.25))
    canvas.ground(_ground(kind, pale, other, v))
    pattern = {"night": _stars, "dots": _dots, "stripes": _stripes, "rays": _rays, "bokeh": _bokeh}.get(kind)
    if pattern is not None:
        pattern(canvas, v)


def _ground(kind: str, pale: Color, other: Color, v: Vary) -> list[Color]:
    if kind == "white":
        return [WHITE, mix(WHITE, pale, 0.15)]
    if kind == "night":
        return [(30, 28, 70), tone((90, 60, 130), 1, 1, v(-0.08, 0.08))]
    if kind == "gradient":
        return [mix(WHITE, pale, 0.6), other]
    return [pale, pale if kind == "plain" else mix(pale, other, 0.4)]


def _stars(canvas: Canvas, v: Vary) -> None:
    for _ in range(22):
        canvas.fill(oval((v(-1.2, 1.2), v(-1.2, 1.0)), 0.02, 0.02, 6), WHITE, v(0.5, 1))


def _dots(canvas: Canvas, v: Vary) -> None:
    for x in np.arange(-1.3, 1.4, 0.3):
        for y in np.arange(-1.3, 1.4, 0.3):
            canvas.fill(oval((x + 0.15 * (round(y / 0.3) % 2), y), 0.06, 0.06, 10), WHITE, 0.7)


def _stripes(canvas: Canvas, v: Vary) -> None:
    lean = v(-0.5, 0.5)
    for x in np.arange(-2.0, 2.0, 0.36):
        canvas.fill([(x, -1.5), (x + 0.18, -1.5), (x + 0.18 + lean, 1.5), (x + lean, 1.5)], WHITE, 0.55)


def _rays(canvas: Canvas, v: Vary) -> None:
    turn = v(0, 1)
    for i in range(12):
        a, b = (math.pi * (i + turn) / 6 + d for d in (0, math.pi / 12))
        canvas.fill([(0, 0), (3 * math.cos(a), 3 * math.sin(a)), (3 * math.cos(b), 3 * math.sin(b))], WHITE, 0.5)


def _bokeh(canvas: Canvas, v: Vary) -> None:
    for _ in range(16):
        size = v(0.06, 0.24)
        canvas.fill(oval((v(-1.2, 1.2), v(-1.2, 1.2)), size, size, 20), WHITE, v(0.2, 0.5))


# --------------------------------------------------------------------------------------------- clothes


def clothes(canvas: Canvas, appearance: Appearance) -> None:
    """Shoulders and a collar: sailor, shirt or hood."""
    canvas.depth = 0.0
    cloth, kind = appearance.cloth, int(appearance.vary(0, 3))
    half = [(0.24, 0.98), (0.62, 1.06), (0.98, 1.2), (1.15, 1.6)]
    body = curve(np.concatenate([mirror(half, -1)[::-1], [(0.0, 1.16)], half]))
    canvas.shade(np.concatenate([body, [(1.15, 2.0), (-1.15, 2.0)]]), [cloth.base, cloth.shade])
    canvas.stroke(body, _INK, cloth.line, taper="none")
    collar = {
        0: [(0.2, 0.86), (0.5, 1.0), (0.62, 1.3), (0.1, 1.35), (0.0, 1.2)],
        1: [(0.23, 0.84), (0.4, 0.94), (0.34, 1.16), (0.06, 1.12)],
        2: [(0.26, 0.8), (0.56, 0.9), (0.58, 1.12), (0.28, 1.2), (0.12, 1.12)],
    }[kind]
    color = {0: cloth.deep, 1: mix(WHITE, cloth.light, 0.15), 2: cloth.light}[kind]
    for side in (-1, 1):
        shape = mirror(collar, side)
        canvas.fill(shape, color)
        canvas.outline(shape, _INK, cloth.line)
    if kind == 0:
        _bow(canvas, appearance, (0.0, 1.2), 0.2)


def _bow(canvas: Canvas, appearance: Appearance, center: tuple[float, float], size: float, tilt: float = 0.0) -> None:
    """A tied ribbon."""
    cos, sin = math.cos(tilt), math.sin(tilt)
    turn = np.array([[cos, sin], [-sin, cos]]) * size
    line = tone(appearance.trim, 0.4)
    for side in (-1, 1):
        wing = (
            mirror(curve([(0.0, 0.0), (0.6, -0.62), (1.15, -0.55), (1.1, 0.5), (0.55, 0.45)], closed=True), side) @ turn
            + center
        )
        canvas.shade(wing, [mix(appearance.trim, WHITE, 0.3), appearance.trim, tone(appearance.trim, 0.8)])
        canvas.outline(wing, 0.02, line)
        fold = mirror(bow((0.15, 0.0), (0.5, -0.1), (0.85, -0.05)), side) @ turn + center
        canvas.stroke(fold, 0.14 * size, line, 0.7)
    knot = oval((0, 0), 0.26, 0.3, 14) @ turn + center
    canvas.fill(knot, appearance.trim)
    canvas.outline(knot, 0.02, line)


# ----------------------------------------------------------------------------------------- accessories


def accessory_behind(canvas: Canvas, appearance: Appearance) -> None:
    """What stands behind the bangs: cat ears."""
    if appearance.labels["accessory"] != "cat-ears":
        return
    canvas.depth = 0.0
    hair = appearance.hair
    for side in (-1, 1):
        ear = [*bow((0.28, -0.85), (0.42, -1.1), (0.62, -1.22)), *bow((0.62, -1.22), (0.76, -0.9), (0.7, -0.5))]
        inner = [*bow((0.4, -0.82), (0.5, -1.0), (0.6, -1.08)), *bow((0.6, -1.08), (0.68, -0.85), (0.64, -0.6))]
        canvas.shade(mirror(ear, side), [hair.base, hair.shade])
        canvas.outline(mirror(ear, side), _INK, hair.line)
        canvas.shade(mirror(inner, side), [(255, 200, 205), (244, 150, 165)])


def accessory(canvas: Canvas, appearance: Appearance) -> None:
    """What is worn over face and hair."""
    kind = appearance.labels["accessory"]
    worn = {"glasses": _glasses, "ribbon": _ribbon, "hairclip": _hairclip, "flower": _flower}
    worn |= {"headband": _headband, "headphones": _headphones}
    if kind in worn:
        canvas.depth = 0.10
        worn[kind](canvas, appearance)


def _glasses(canvas: Canvas, appearance: Appearance) -> None:
    canvas.depth = 0.165
    rim = tone(appearance.trim, 0.45) if appearance.rng.random() < 0.5 else (50, 36, 44)
    for side in (-1, 1):
        lens = oval((side * EYE_X, EYE_Y + 0.02), 0.225, appearance.vary(0.19, 0.2), 26)
        canvas.fill(lens, WHITE, 0.14)
        canvas.outline(lens, 0.034, rim)
        canvas.stroke([(side * 0.5, EYE_Y - 0.02), (side * 0.62, EYE_Y - 0.05)], 0.03, rim, taper="none")
        glint = [(side * EYE_X - 0.13, EYE_Y + 0.1), (side * EYE_X - 0.02, EYE_Y - 0.1)]
        canvas.stroke(glint, 0.03, WHITE, 0.6)
    canvas.stroke(bow((-0.075, EYE_Y), (0, EYE_Y - 0.05), (0.075, EYE_Y)), 0.034, rim, taper="none")


def _ribbon(canvas: Canvas, appearance: Appearance) -> None:
    side = appearance.side()
    _bow(
        canvas,
        appearance,
        (side * appearance.vary(0.42, 0.52), appearance.vary(-0.7, -0.6)),
        appearance.vary(0.24, 0.29),
        side * 0.6,
    )


def _hairclip(canvas: Canvas, appearance: Appearance) -> None:
    side = appearance.side()
    for dy in (0.0, 0.12):
        start, end = np.array((side * 0.36, -0.42 + dy)), np.array((side * 0.62, -0.34 + dy))
        canvas.stroke([start, end], 0.085, tone(appearance.trim, 0.4), taper="none")
        canvas.stroke([start, end], 0.05, appearance.trim, taper="none")


def _flower(canvas: Canvas, appearance: Appearance) -> None:
    side = appearance.side()
    center = np.array((side * 0.52, -0.55))
    petal = mix(appearance.trim, WHITE, appearance.vary(0.2, 0.85))
    for i in range(5):
        angle = 2 * math.pi * i / 5 + 0.3
        shape = oval(center + 0.12 * np.array((math.cos(angle), math.sin(angle))), 0.095, 0.095, 14)
        canvas.fill(shape, petal)
        canvas.outline(shape, 0.016, tone(appearance.trim, 0.5))
    canvas.fill(oval(center, 0.07, 0.07, 12), (250, 205, 70))


def _headband(canvas: Canvas, appearance: Appearance) -> None:
    low = bow((-0.735, -0.3), (0.0, -1.22), (0.735, -0.3), 18)
    high = bow((0.73, -0.44), (0.0, -1.42), (-0.73, -0.44), 18)
    band = np.concatenate([low, high])
    canvas.shade(band, [mix(appearance.trim, WHITE, 0.45), appearance.trim, tone(appearance.trim, 0.75)])
    canvas.outline(band, 0.02, tone(appearance.trim, 0.4))


def _headphones(canvas: Canvas, appearance: Appearance) -> None:
    line = tone(appearance.trim, 0.35)
    arch = curve(
        [(-0.76, -0.05), (-0.76, -0.5), (-0.48, -0.94), (0, -1.09), (0.48, -0.94), (0.76, -0.5), (0.76, -0.05)]
    )
    canvas.stroke(arch, 0.13, line, taper="none")
    canvas.stroke(arch, 0.08, mix(appearance.trim, WHITE, 0.25), taper="none")
    for side in (-1, 1):
        cup = oval((side * 0.75, 0.08), 0.13, 0.24, 22)
        canvas.shade(cup, [mix(appearance.trim, WHITE, 0.4), appearance.trim, tone(appearance.trim, 0.7)])
        canvas.outline(cup, _INK, line)
