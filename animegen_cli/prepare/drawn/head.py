"""The head without its hair: neck, ears, face, eyes, brows, nose and mouth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from animegen_cli.prepare.drawn.paint import (
    WHITE,
    Canvas,
    Color,
    Points,
    bow,
    curve,
    mirror,
    mix,
    moved,
    oval,
    ribbon,
    shares,
    tone,
)

if TYPE_CHECKING:
    from animegen_cli.prepare.drawn.appearance import Appearance

EYE_X, EYE_Y = 0.29, 0.17  # the middle of an eye
_INK = 0.018  # how wide contour lines are

_BLUSH = (246, 96, 110)

# Half width and half height of an eye, and how far its outer corner is raised.
_SHAPES = {
    "round": (0.182, 0.212, 0.0),
    "almond": (0.195, 0.175, 0.02),
    "sharp": (0.195, 0.14, 0.055),
    "droopy": (0.192, 0.178, -0.05),
}
# How far eyes open, how far the brows' inner ends sink (angry) or rise (sad), how far the brows rise.
_MOODS = {
    "calm": (0.95, 0.0, 0.0),
    "smile": (1.0, 0.0, 0.01),
    "happy": (1.02, -0.01, 0.04),
    "surprised": (1.14, -0.01, 0.08),
    "sad": (0.9, -0.075, 0.01),
    "angry": (0.9, 0.085, -0.03),
    "shy": (0.95, -0.045, 0.02),
    "wink": (1.0, 0.0, 0.03),
}


def outline(appearance: Appearance) -> np.ndarray:
    """The contour of the face, closed, with a pointed chin."""
    jaw, chin = appearance.jaw, appearance.chin
    half = [(0.5, -0.6), (0.585, -0.2), (0.585, 0.12), (0.53 * jaw, 0.38), (0.36 * jaw, chin - 0.2)]
    half += [(0.15 * jaw, chin - 0.045), (0.045, chin)]
    right = np.array(half)
    return curve(np.concatenate([right, mirror(right, -1)[::-1]]), closed=True)


def neck(canvas: Canvas, appearance: Appearance) -> None:
    """The neck and the shadow that the head throws on it."""
    canvas.depth = 0.0
    width = 0.25 if appearance.male else 0.2
    sides = np.concatenate([bow((width, 0.4), (width - 0.02, 0.9), (width + 0.2, 1.3)), [(-width - 0.2, 1.3)]])
    shape = np.concatenate([sides, bow((-width - 0.2, 1.3), (-width + 0.02, 0.9), (-width, 0.4))])
    canvas.shade(shape, [appearance.skin.base, appearance.skin.base])
    shadow = np.concatenate([[(-width, 0.5), (width, 0.5), (width + 0.01, appearance.chin + 0.06)]])
    tip = bow(
        (width + 0.01, appearance.chin + 0.06), (0.05, appearance.chin + 0.3), (-width - 0.01, appearance.chin + 0.02)
    )
    canvas.fill(np.concatenate([shadow, tip]), appearance.skin.shade)
    for side in (-1, 1):
        line = mirror(bow((width, 0.5), (width - 0.02, 0.9), (width + 0.2, 1.3)), side)
        canvas.stroke(line, _INK, appearance.skin.line, taper="none")


def face(canvas: Canvas, appearance: Appearance) -> None:
    """Ears, the face itself, and its blush."""
    skin = appearance.skin
    canvas.depth = 0.0
    for side in (-1, 1):
        ear = mirror(curve([(0.54, 0.0), (0.64, -0.04), (0.69, 0.08), (0.63, 0.3), (0.54, 0.36)]), side)
        canvas.fill(ear, skin.base)
        canvas.stroke(ear, _INK, skin.line, taper="none")
        canvas.stroke(mirror(bow((0.63, 0.05), (0.59, 0.12), (0.61, 0.22)), side), 0.02, skin.deep)
    canvas.depth = 0.08
    contour = outline(appearance)
    canvas.shade(contour, [skin.base, skin.base, mix(skin.base, skin.light, 0.5), skin.base])
    canvas.outline(contour, _INK, skin.line)
    strength = {"shy": 0.17, "happy": 0.1}.get(appearance.labels["expression"], 0.035 if appearance.male else 0.07)
    for side in (-1, 1):
        x = side * 0.37 + 0.04 * appearance.pose.yaw
        for size in (1.0, 0.83, 0.66, 0.48):
            cheek = oval((x, 0.435), 0.155 * size, 0.075 * size, 20)
            canvas.shade(cheek, [_BLUSH, _BLUSH], strength, within=contour)
        if appearance.labels["expression"] == "shy":
            for dx in (-0.06, 0.0, 0.06):
                canvas.stroke(
                    [(x + dx + 0.015, 0.40), (x + dx - 0.015, 0.47)], 0.018, (226, 90, 100), 0.8, taper="none"
                )


def features(canvas: Canvas, appearance: Appearance) -> None:
    """Eyes, nose and mouth."""
    canvas.depth = 0.165
    gaze = appearance.vary(-0.02, 0.02)
    closed = appearance.side() if appearance.labels["expression"] == "wink" else 0
    for side in (-1, 1):
        if side == closed:
            _closed_eye(canvas, appearance, side)
        else:
            _eye(canvas, appearance, side, gaze)
    canvas.depth = 0.21
    nose = (0.02 + 0.03 * appearance.pose.yaw, 0.42)
    canvas.stroke(
        [
            (nose[0] - 0.02, nose[1] - (0.07 if appearance.male else 0.03)),
            (nose[0] + 0.012, nose[1]),
            (nose[0] - 0.02, nose[1] + 0.015),
        ],
        0.026,
        appearance.skin.deep,
        taper="none",
    )
    canvas.depth = 0.18
    _mouth(canvas, appearance)


def _eye(canvas: Canvas, appearance: Appearance, side: int, gaze: float) -> None:
    width, height, raised = _SHAPES[appearance.labels["shape"]]
    opening, anger, _ = _MOODS[appearance.labels["expression"]]
    height *= opening * (0.8 if appearance.male else 1.0)

    def at(points: Points) -> np.ndarray:
        """From the eye's own frame (-1..1, inner corner to outer) to the face."""
        p = np.asarray(points, float)
        x, y = p[:, 0], p[:, 1]
        y = y * height - raised * x + 2.2 * max(anger, 0.0) * np.maximum(0.1 - x, 0) * (y < 0.4) * 0.5
        return np.stack([side * (EYE_X + x * width), EYE_Y + y], axis=1)

    upper = curve([(-1.0, 0.25), (-0.74, -0.48), (-0.2, -0.95), (0.4, -0.95), (0.85, -0.5), (1.04, 0.12)], steps=5)
    lower = curve([(1.04, 0.12), (0.84, 0.7), (0.3, 0.98), (-0.35, 0.96), (-0.82, 0.68), (-1.0, 0.25)], steps=5)
    white = at(np.concatenate([upper, lower]))
    canvas.shade(white, [(206, 210, 232), WHITE, WHITE])
    _iris(canvas, appearance, white, moved(at([(-0.04, 0.06)])[0], gaze), 0.44 * width + 0.3 * height, height * 0.99)

    ink = mix(appearance.hair.line, (36, 20, 34), 0.6)
    lid = at(upper)
    t = shares(len(lid))
    heavy = 0.7 if appearance.male else 1.0
    canvas.fill(
        ribbon(moved(lid, 0, -0.008), heavy * (0.010 + 0.024 * np.sin(np.minimum(t * 1.25, 1.2) * np.pi / 2))), ink
    )
    if not appearance.male:  # the lashes at the outer corner
        for x, y, reach in ((0.98, -0.1, 0.3), (0.84, -0.5, 0.26)):
            flick = bow((x - 0.3, y - 0.05), (x, y), (x + reach, y - 0.34))
            canvas.stroke(at(flick), 0.036, ink, taper="end")
    canvas.stroke(at(lower)[1:14], 0.02, mix(ink, appearance.skin.deep, 0.35), taper="end")
    crease = at(bow((-0.7, -0.9), (0.05, -1.62), (0.9, -0.85)))
    canvas.stroke(crease, 0.016, appearance.skin.deep, 0.9)


def _iris(canvas: Canvas, appearance: Appearance, white: np.ndarray, center: np.ndarray, rx: float, ry: float) -> None:
    """An iris with the half axes `rx` and `ry`, seen through the opening `white`."""
    color: Color = appearance.eye
    dark, glow = tone(color, 0.36, 1.15), mix(tone(color, 1.3, 0.85), WHITE, 0.28)
    canvas.shade(oval(center, rx, ry), [tone(dark, 0.8), dark], within=white)
    inner = oval(moved(center, 0, 0.012), rx * 0.84, ry * 0.88)
    canvas.shade(inner, [dark, color, color, glow, glow], within=white)
    canvas.shade(oval(moved(center, 0, -0.02 * ry), rx * 0.42, ry * 0.44, 18), [tone(dark, 0.55), dark], within=white)
    arc = oval(moved(center, 0, ry * 0.58), rx * 0.5, ry * 0.2, 16)
    canvas.shade(arc, [glow, mix(glow, WHITE, 0.5)], 0.75, within=white)
    shadow = oval(moved(center, 0, -ry * 1.05), rx * 1.7, ry * 0.5, 20)
    canvas.shade(shadow, [(40, 20, 60), (40, 20, 60)], 0.38, within=white)
    # Both eyes catch the same light, so the highlights are not mirrored.
    canvas.fill(oval(moved(center, -rx * 0.42, -ry * 0.42), rx * 0.36, ry * 0.27, 16), WHITE)
    canvas.fill(oval(moved(center, rx * 0.45, ry * 0.42), rx * 0.2, ry * 0.14, 12), WHITE, 0.95)


def _closed_eye(canvas: Canvas, appearance: Appearance, side: int) -> None:
    ink = mix(appearance.hair.line, (36, 20, 34), 0.6)
    x = EYE_X
    width = 0.175
    lid = mirror(bow((x - width, EYE_Y + 0.07), (x, EYE_Y - 0.12), (x + width, EYE_Y + 0.07), 12), side)
    canvas.stroke(lid, 0.06, ink)
    for dx in (0.1, 0.16):
        lash = mirror([(x + dx, EYE_Y + 0.0), (x + dx + 0.06, EYE_Y + 0.03)], side)
        canvas.stroke(lash, 0.03, ink, taper="end")


def brows(canvas: Canvas, appearance: Appearance) -> None:
    """The brows, which in this style show through the bangs."""
    canvas.depth = 0.165
    _, anger, rise = _MOODS[appearance.labels["expression"]]
    height = _SHAPES[appearance.labels["shape"]][1] * (0.85 if appearance.male else 1.0)
    y = EYE_Y - height - 0.085 - rise
    thick = 0.042 if appearance.male else 0.03
    for side in (-1, 1):
        inner, outer = (EYE_X - 0.15, y + anger + 0.005), (EYE_X + 0.17, y - anger * 0.35 + 0.03)
        line = mirror(bow(inner, (EYE_X + 0.02, y - 0.045), outer, 10), side)
        canvas.stroke(line, thick, appearance.hair.line, 0.85, taper="end")


def _mouth(canvas: Canvas, appearance: Appearance) -> None:
    mood = appearance.labels["expression"]
    line = mix(appearance.skin.line, (110, 30, 40), 0.4)
    x, y = 0.0, appearance.chin - 0.205
    inside, tongue = (148, 40, 52), (240, 128, 130)
    if mood in ("happy", "wink"):
        wide = 0.155 if mood == "happy" else 0.125
        top = bow((x - wide, y - 0.04), (x, y - 0.015), (x + wide, y - 0.04))
        shape = np.concatenate(
            [
                top,
                curve(
                    [
                        (x + wide, y - 0.04),
                        (x + wide * 0.55, y + 0.085),
                        (x, y + 0.115),
                        (x - wide * 0.55, y + 0.085),
                        (x - wide, y - 0.04),
                    ]
                ),
            ]
        )
        canvas.shade(shape, [inside, inside, tongue, tongue])
        canvas.shade(oval((x, y - 0.04), wide * 0.8, 0.03, 14), [WHITE, WHITE], within=shape)
        canvas.outline(shape, 0.02, line)
    elif mood == "surprised":
        shape = oval((x, y + 0.02), 0.062, 0.082, 18)
        canvas.shade(shape, [inside, tongue])
        canvas.outline(shape, 0.02, line)
    elif mood == "angry":
        shape = curve(
            [(x - 0.1, y + 0.06), (x - 0.06, y - 0.02), (x + 0.06, y - 0.02), (x + 0.1, y + 0.06), (x, y + 0.045)],
            closed=True,
        )
        canvas.shade(shape, [WHITE, WHITE, inside])
        canvas.outline(shape, 0.02, line)
    elif mood == "shy":
        wave = curve(
            [(x - 0.11, y + 0.01), (x - 0.055, y - 0.02), (x, y + 0.015), (x + 0.055, y - 0.02), (x + 0.11, y + 0.01)]
        )
        canvas.stroke(wave, 0.03, line, taper="none")
    else:
        wide, bend = {"smile": (0.14, 0.09), "sad": (0.09, -0.07), "calm": (0.075, 0.015)}[mood]
        canvas.stroke(bow((x - wide, y - bend * 0.3), (x, y + bend), (x + wide, y - bend * 0.3)), 0.03, line)
        canvas.stroke(bow((x - 0.04, y + 0.085), (x, y + 0.1), (x + 0.04, y + 0.085)), 0.02, appearance.skin.deep, 0.6)
