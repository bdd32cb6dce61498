"""Hair: what hangs behind the head, the locks beside the face, and the cap with its bangs and shine."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from animegen_cli.prepare.drawn.paint import Canvas, Points, bow, curve, lock, mirror, mix, moved, oval, ribbon, shares

if TYPE_CHECKING:
    from animegen_cli.prepare.drawn.appearance import Appearance

    Point = tuple[float, float]

_INK = 0.018


def _piece(canvas: Canvas, appearance: Appearance, shape: np.ndarray, dark: float = 0.0) -> None:
    """A mass of hair with its gradient and outline; `dark` in 0..1 takes it into the shade."""
    hair = appearance.hair
    top, low = mix(hair.base, hair.shade, dark), mix(hair.shade, hair.deep, dark)
    canvas.shade(shape, [top, top, mix(top, low, 0.6), low])
    canvas.outline(shape, _INK, hair.line)


def _lock(
    canvas: Canvas, appearance: Appearance, root: Points, bend: Points, tip: Points, width: float, dark: float = 0.0
) -> None:
    _piece(canvas, appearance, lock(root, bend, tip, width), dark)
    line = bow(root, bend, tip, 14)
    canvas.stroke(
        moved(line[3:12], width * 0.25),
        width * 0.5,
        appearance.hair.shade if dark < 0.5 else appearance.hair.deep,
        0.75,
    )
    canvas.stroke(line[2:8] - (width * 0.3), width * 0.3, appearance.hair.light, 0.45)


# --------------------------------------------------------------------------------------------- behind


def back(canvas: Canvas, appearance: Appearance) -> None:
    """The hair behind the head and neck."""
    canvas.depth = -0.05
    {
        "short": _short_back,
        "spiky": _spiky_back,
        "bob": _bob_back,
        "long": _long_back,
        "wavy": _wavy_back,
        "twintails": _twintails,
        "ponytail": _ponytail,
        "buns": _buns,
    }[appearance.labels["style"]](canvas, appearance)


def _skull(canvas: Canvas, appearance: Appearance, width: float = 0.74, low: float = 0.4) -> None:
    half = np.array([(0.0, -1.0), (0.45, -0.9), (width - 0.03, -0.5), (width, -0.1), (width - 0.08, low)])
    _piece(canvas, appearance, curve(np.concatenate([half, mirror(half[1:], -1)[::-1]]), closed=True), 0.5)


def _fringe_back(
    canvas: Canvas, appearance: Appearance, width: float, low: float, tips: int, wave: float, flare: float
) -> None:
    """Loose hair that ends in `tips` points at the height `low`."""
    right = [(0.0, -1.0), (0.48, -0.9), (0.74, -0.5), (width, -0.05)]
    steps = np.linspace(0.15, 1, 6)
    right += [(width + flare * s + wave * math.sin(s * 11), -0.05 + (low + 0.05) * s) for s in steps]
    top = curve(np.concatenate([mirror(right, -1)[::-1], right[1:]]))
    edge = []
    reach = width + flare
    xs = np.linspace(reach, -reach, 2 * tips + 1)
    for i, x in enumerate(xs[1:-1], 1):
        edge.append((x + appearance.vary(-0.03, 0.03), low + (-0.1 if i % 2 else appearance.vary(0.02, 0.1))))
    _piece(canvas, appearance, np.concatenate([top, np.array(edge)]), 0.45)
    for side in (-1, 1):
        for x in (0.52, 0.66, 0.8):
            if x < width:
                end = (x + flare * 0.8 + wave * 0.6, low - 0.1)
                line = mirror(bow((x * 0.85, -0.5), (x + 0.08, 0.0), end, 10), side)
                canvas.stroke(line, 0.04, appearance.hair.deep, 0.8)


def _short_back(canvas: Canvas, appearance: Appearance) -> None:
    v = appearance.vary
    _fringe_back(canvas, appearance, v(0.74, 0.78), v(0.3, 0.5), 6, 0.0, v(-0.16, -0.02))


def _spike(canvas: Canvas, appearance: Appearance, angle: float, out: float, width: float, dark: float) -> None:
    """A sharp tuft that leaves the skull in the direction `angle`, hollow on its upper side."""
    x, y = math.cos(angle), -math.sin(angle)
    side = 1 if x > 0 else -1
    root, tip = np.array((x * 0.5, y * 0.6 - 0.12)), np.array((x * out, y * out - 0.14))
    across = np.array((y, -x)) * side * width  # from the spike's middle to its lower side
    upper = bow(root - across, (root + tip) / 2 - across * 0.25, tip)
    lower = bow(tip, (root + tip) / 2 + across * 0.95, root + across)
    _piece(canvas, appearance, np.concatenate([upper, lower]), dark)
    canvas.stroke(
        bow(root + across * 0.2, (root + tip) / 2 + across * 0.35, tip)[1:8],
        0.05,
        appearance.hair.deep if dark > 0.4 else appearance.hair.shade,
        0.8,
        taper="end",
    )


def _spiky_back(canvas: Canvas, appearance: Appearance) -> None:
    _skull(canvas, appearance, 0.72, 0.25)
    for count, out, dark in ((10, 0.98, 0.5), (10, 1.04, 0.1)):
        for i in range(count):
            # Both sides in turn, from the nape up, so that upper tufts lie over lower ones.
            share = (i // 2) / (count // 2 - 1)
            rise = math.pi * (-0.14 + 0.6 * share) + appearance.vary(-0.06, 0.06)
            angle = rise if i % 2 else math.pi - rise
            _spike(canvas, appearance, angle, out + appearance.vary(-0.06, 0.16), appearance.vary(0.25, 0.32), dark)


def _bob_back(canvas: Canvas, appearance: Appearance) -> None:
    low = appearance.vary(0.5, 0.75)
    half = np.array([(0.0, -1.0), (0.48, -0.9), (0.75, -0.5), (0.82, 0.0), (0.8, low * 0.7), (0.62, low)])
    inner = np.array([(0.5, low - 0.06), (0.36, low + 0.02), (0.2, low - 0.1)])
    half = np.concatenate([half, inner])
    _piece(canvas, appearance, np.concatenate([curve(half), curve(mirror(half, -1)[::-1])]), 0.45)
    for side in (-1, 1):
        for x in (0.55, 0.68):
            canvas.stroke(
                mirror(bow((x, -0.3), (x + 0.12, 0.3), (x - 0.06, low - 0.06)), side), 0.035, appearance.hair.deep, 0.8
            )


def _long_back(canvas: Canvas, appearance: Appearance) -> None:
    v = appearance.vary
    _fringe_back(canvas, appearance, v(0.74, 0.84), v(1.05, 1.4), 6, 0.0, v(-0.02, 0.14))


def _wavy_back(canvas: Canvas, appearance: Appearance) -> None:
    v = appearance.vary
    _fringe_back(canvas, appearance, v(0.78, 0.84), v(0.95, 1.3), 5, v(0.05, 0.07), v(0.02, 0.1))


def _curl(canvas: Canvas, appearance: Appearance, x: float, low: float, width: float, side: int) -> None:
    """A lock that winds down beside the face."""
    t = np.linspace(0, 1, 26)
    sway = 0.065 * np.sin(t * 11.5 + appearance.vary(-0.5, 0.5)) * np.minimum(1, 3 * t)
    line = np.stack([side * (x + sway - 0.16 * (1 - np.minimum(1, 3 * t)) ** 2), -0.5 + (low + 0.5) * t], axis=1)
    profile = width * np.minimum(1, 0.1 + 3 * t) * (1 - t**4) * (1 + 0.25 * np.sin(t * 23))
    _piece(canvas, appearance, ribbon(line, profile))
    canvas.stroke(moved(line[6:22], width * 0.3), width * 0.5, appearance.hair.shade, 0.8)
    canvas.stroke(line[4:14] - (width * 0.35), width * 0.4, appearance.hair.light, 0.5)


def _twintails(canvas: Canvas, appearance: Appearance) -> None:
    _skull(canvas, appearance)
    high = appearance.vary(-0.72, -0.4)
    spread, low = appearance.vary(0.92, 1.08), appearance.vary(0.75, 1.25)
    for side in (-1, 1):
        outer = [
            (0.62, high - 0.02),
            (0.84, high - 0.2),
            (spread + 0.08, high + 0.25),
            (spread + 0.1, 0.35),
            (spread - 0.08, low),
        ]
        inner = [
            (spread - 0.08, low),
            (spread - 0.2, low - 0.2),
            (spread - 0.26, 0.25),
            (0.72, high + 0.3),
            (0.62, high - 0.02),
        ]
        _piece(canvas, appearance, mirror(np.concatenate([curve(outer), curve(inner)]), side), 0.1)
        for shift in (0.0, 0.1):
            line = curve(
                [(0.72, high), (0.86 + shift, high + 0.2), (spread - 0.12 + shift, 0.3), (spread - 0.09, low - 0.1)]
            )
            canvas.stroke(mirror(line, side), 0.035, appearance.hair.shade)
        canvas.stroke(
            mirror(bow((0.86, high + 0.02), (1.0, high + 0.2), (0.98, high + 0.5)), side),
            0.06,
            appearance.hair.light,
            0.7,
        )
        tie = mirror(oval((0.68, high), 0.08, 0.1, 14), side)
        canvas.fill(tie, appearance.trim)
        canvas.outline(tie, 0.02, appearance.hair.line)


def _ponytail(canvas: Canvas, appearance: Appearance) -> None:
    side = appearance.side()
    top, low = appearance.vary(-0.85, -0.55), appearance.vary(0.5, 1.1)
    outer = [(0.4, top), (0.75, top - 0.22), (1.02, top + 0.25), (1.03, 0.2), (0.84, low)]
    inner = [(0.84, low), (0.78, low - 0.35), (0.7, 0.0), (0.4, top)]
    _piece(canvas, appearance, mirror(np.concatenate([curve(outer), curve(inner)]), side), 0.1)
    for shift in (0.0, 0.1):
        line = curve([(0.6, top - 0.03), (0.8 + shift, top + 0.3), (0.84 + shift, 0.2), (0.84, low - 0.1)])
        canvas.stroke(mirror(line, side), 0.035, appearance.hair.shade)
    canvas.stroke(mirror(bow((0.78, top), (0.98, top + 0.3), (0.98, 0.0)), side), 0.05, appearance.hair.light, 0.7)
    tie = mirror(oval((0.56, top - 0.03), 0.1, 0.12, 14), side)
    _skull(canvas, appearance, 0.72, 0.3)
    canvas.fill(tie, appearance.trim)
    canvas.outline(tie, 0.02, appearance.hair.line)


def _buns(canvas: Canvas, appearance: Appearance) -> None:
    for side in (-1, 1):
        center = (side * 0.62, -0.82)
        _piece(canvas, appearance, oval(center, 0.27, 0.26), 0.0)
        for size in (0.17, 0.09):
            swirl = oval((center[0] + 0.02 * side, center[1] + 0.02), size, size, 20)[4:17]
            canvas.stroke(swirl, 0.03, appearance.hair.shade)
        canvas.fill(oval((center[0] - 0.08, center[1] - 0.12), 0.07, 0.04, 12), appearance.hair.light, 0.8)
    _skull(canvas, appearance)


# -------------------------------------------------------------------------------------------- in front


class Front:
    """The cap of hair over the forehead: its lower edge of tips and valleys, and the way its strands flow."""

    def __init__(self, appearance: Appearance) -> None:
        self.appearance = appearance
        kind = appearance.labels["bangs"]
        self.crown = (appearance.part * 0.3, -1.0)
        if kind == "swept":
            self.crown = (math.copysign(abs(appearance.part) + 0.08, appearance.part), -0.97)
        self.tips, self.valleys = getattr(self, "_" + kind)()
        top = curve(
            [(-0.735, -0.12), (-0.7, -0.55), (-0.44, -0.91), (0.0, -1.045), (0.44, -0.91), (0.7, -0.55), (0.735, -0.12)]
        )
        self.edge = self._edge()
        self.shape = np.concatenate([top, self.edge])

    def _straight(self) -> tuple[list[Point], list[Point]]:
        count = 7
        xs = np.linspace(0.44, -0.44, count)
        low = self.appearance.vary(-0.1, -0.02)
        tips = [(x + self.appearance.vary(-0.02, 0.02), low + self.appearance.vary(-0.02, 0.03)) for x in xs]
        valleys = [((a + b) / 2, low - self.appearance.vary(0.05, 0.12)) for a, b in pairwise(xs)]
        return tips, valleys

    def _choppy(self) -> tuple[list[Point], list[Point]]:
        v = self.appearance.vary
        tips = [
            (0.46, v(-0.05, 0.12)),
            (0.25, v(-0.08, 0.0)),
            (v(-0.05, 0.08), v(0.05, 0.2)),
            (-0.22, v(-0.08, 0.0)),
            (-0.45, v(-0.05, 0.12)),
        ]
        valleys = [(0.36, v(-0.36, -0.22)), (0.15, v(-0.36, -0.24)), (-0.11, v(-0.36, -0.24)), (-0.33, v(-0.36, -0.22))]
        return tips, valleys

    def _swept(self) -> tuple[list[Point], list[Point]]:
        v = self.appearance.vary
        side = 1 if self.appearance.part > 0 else -1
        # For a parting on the right: a short tuft beyond it, then ever longer ones that lean to the left.
        tips = [(0.5, v(-0.05, 0.15)), (0.12, v(-0.2, -0.1)), (-0.16, v(-0.14, -0.02)), (-0.46, v(0.05, 0.25))]
        valleys = [(abs(self.appearance.part) + 0.06, -0.66), (0.06, v(-0.34, -0.26)), (-0.2, v(-0.28, -0.2))]
        if side < 0:
            return [(-x, y) for x, y in tips[::-1]], [(-x, y) for x, y in valleys[::-1]]
        return tips, valleys

    def _parted(self) -> tuple[list[Point], list[Point]]:
        v = self.appearance.vary
        x = self.crown[0]
        tips = [(0.52, v(0.0, 0.2)), (0.36, v(-0.14, -0.04)), (-0.36, v(-0.14, -0.04)), (-0.52, v(0.0, 0.2))]
        return tips, [(0.45, -0.25), (x, -0.68), (-0.45, -0.25)]

    def _edge(self) -> np.ndarray:
        v = self.appearance.vary
        points = [(0.735, -0.12), (0.62, v(0.15, 0.3)), (0.55, v(-0.25, -0.1))]
        for i, tip in enumerate(self.tips):
            points.append(tip)
            if i < len(self.valleys):
                points.append(self.valleys[i])
        points += [(-0.55, v(-0.25, -0.1)), (-0.62, v(0.15, 0.3)), (-0.735, -0.12)]
        parts = []
        for i, (start, end) in enumerate(pairwise(points)):
            down = i % 2 == 0  # toward a tip, else back up to a valley
            upper, lower = (start, end) if down else (end, start)
            # Full at the top and hollow toward the tip, as a bundle of strands falls.
            bend = (lower[0] + (upper[0] - lower[0]) * 0.75, upper[1] + (lower[1] - upper[1]) * 0.62)
            parts.append(bow(start, bend, end, 6)[:-1])
        return np.concatenate([*parts, [points[-1]]])

    def flow(self, target: Point, steps: int = 12) -> np.ndarray:
        """The strand from the crown to `target`."""
        x, y = target
        cx, cy = self.crown
        return bow((cx + (x - cx) * 0.12, cy + 0.02), (cx + (x - cx) * 0.95, cy * 0.8), (x, y), steps)


def front(canvas: Canvas, appearance: Appearance, cap: Front) -> None:
    """The locks beside the face, then the cap with bangs, strands and shine."""
    hair = appearance.hair
    canvas.depth = 0.04
    _side_locks(canvas, appearance)
    canvas.depth = 0.10
    canvas.shade(cap.shape, [hair.shade, hair.base, mix(hair.base, hair.light, 0.35), hair.base, hair.base, hair.shade])
    for tip in cap.tips:  # each bundle lies in shade along one side
        line = cap.flow((tip[0] * 0.99 - 0.035, tip[1] - 0.05))
        canvas.stroke(line[5:], 0.055, hair.shade, 0.75)
    for valley in cap.valleys:
        canvas.stroke(cap.flow(valley)[3:], 0.026, hair.line, 0.9, taper="start")
    for side in (-1, 1):
        canvas.stroke(cap.flow((side * 0.56, -0.2))[2:], 0.03, hair.deep, 0.9)
        canvas.stroke(cap.flow((side * 0.67, -0.1))[2:], 0.05, hair.shade, 0.9)
    _shine(canvas, appearance, cap)
    canvas.outline(cap.shape, _INK, hair.line)
    if appearance.rng.random() < 0.3:
        _stray_lock(canvas, appearance)


def _stray_lock(canvas: Canvas, appearance: Appearance) -> None:
    """The one lock on top that no comb can tame."""
    side, reach = appearance.side(), appearance.vary(0.2, 0.34)
    line = curve([(0.0, -1.0), (side * 0.04, -1.14), (side * reach * 0.6, -1.2), (side * reach, -1.06)])
    t = shares(len(line))
    shape = ribbon(line, 0.045 * np.sin((0.35 + 0.65 * t) * math.pi))
    canvas.fill(shape, appearance.hair.base)
    canvas.outline(shape, _INK, appearance.hair.line)


def _shine(canvas: Canvas, appearance: Appearance, cap: Front) -> None:
    bright = mix(appearance.hair.light, (255, 255, 255), 0.35)
    count = 15
    for i, x in enumerate(np.linspace(-0.58, 0.58, count)):
        line = cap.flow((x, -0.12), 20)
        middle = 9 + appearance.vary(-0.6, 0.6)
        reach = (2.6 if i % 2 else 1.5) + appearance.vary(0, 0.8)
        lo, hi = int(middle - reach), int(middle + reach) + 2
        canvas.stroke(line[lo:hi], 0.06, bright, 0.8)


def _side_locks(canvas: Canvas, appearance: Appearance) -> None:
    style = appearance.labels["style"]
    v = appearance.vary
    if style in ("short", "spiky"):
        low = v(0.2, 0.42)
    elif style == "bob":
        low = v(0.45, 0.7)
    else:
        low = v(0.5, 1.15)
    for side in (-1, 1):
        length = low + v(-0.06, 0.06)
        width = v(0.085, 0.12)
        if style == "wavy":
            _curl(canvas, appearance, v(0.76, 0.8), length + 0.3, 0.1, side)
            _curl(canvas, appearance, v(0.61, 0.65), length + 0.05, 0.11, side)
            continue
        _lock(
            canvas,
            appearance,
            (side * 0.62, -0.35),
            (side * v(0.66, 0.74), length * 0.45),
            (side * v(0.5, 0.58), length),
            width,
        )
        if style in ("long", "twintails", "bob"):
            tip = (side * v(0.62, 0.72), length + 0.14)
            _lock(canvas, appearance, (side * 0.68, -0.3), (side * v(0.74, 0.82), length * 0.5), tip, width * 0.8)


def shadow(canvas: Canvas, appearance: Appearance, cap: Front, face: np.ndarray) -> None:
    """The shadow of the bangs on the forehead, cut off at the contour `face`."""
    canvas.depth = 0.09
    canvas.shade(moved(cap.shape, 0.015, 0.06), [appearance.skin.shade] * 2, 0.85, within=face)
    for side in (-1, 1):  # and the side locks on the cheeks
        cheek = lock((side * 0.56, -0.3), (side * 0.6, 0.15), (side * 0.47, 0.5), 0.1)
        canvas.shade(cheek, [appearance.skin.shade] * 2, 0.6, within=face)
