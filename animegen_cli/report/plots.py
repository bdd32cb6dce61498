"""Line charts, scatter plots, bars and shares as drawings (shapes.py), which become SVG and PNG.

Colours are of middle lightness, so that they hold on white and on black; dashes tell lines apart without colour, and
numbers points.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from animegen_cli.report.canvas import Box, Dot, Drawing, Path, Point, Rule, Shape, Text

INKS = (
    "#2b7bba", "#c8581f", "#23896a", "#b0528f", "#8a7420", "#7466c8",
    "#b3404a", "#6f7680", "#3e8d9c", "#96603a", "#5d8a2c", "#a35bd0",
)  # fmt: skip
DASHES = (None, "7 3", "2 2.5", "9 3 2 3", "4 2", "1 3", "12 3", "6 2 1 2")
SIZE = (480, 300)
_LEFT, _RIGHT, _BOTTOM, _LEGEND = 64, 12, 44, 18
_MOST_POINTS = 360
_MOST_NOISE = 4
"""Lines in a plot up to which their single values are shown too."""


@dataclass(frozen=True)
class Series:
    """One line: (x, y) in rising x. `ink` fixes the colour, so that a run keeps it from plot to plot."""

    name: str
    points: Sequence[tuple[float, float]]
    ink: int | None = None


@dataclass(frozen=True)
class Mark:
    """One point of a scatter plot, with the intervals of its values where there are any."""

    name: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    ink: int | None = None
    across: tuple[float, float] | None = None
    """The interval of x."""


@dataclass(frozen=True)
class Axis:
    """Values low..high on pixels start..end."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, *, log: bool, pad: float = 0.05) -> Axis:
        """An axis that holds all values with a margin of `pad` of its length."""
        found = list(values)
        low, high = min(found), max(found)
        if high - low <= 1e-9 * abs(high):  # constant but for rounding
            low = high
        if log:
            grow = (high / low) ** pad if high > low else 1.5
            return cls(low / grow, high * grow, start, end, True)
        grow = (high - low) * pad or abs(high) * 0.1 or 1.0
        return cls(low - grow, high + grow, start, end)

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (map(math.log10, (self.low, self.high, value))) if self.log else (self.low, self.high, value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers on the axis: 1, 2 or 5 times a power of ten."""
        if self.log and (found := self._log_ticks(about)):
            return found
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * min((f for f in (1, 2, 5, 10) if f * power >= rough * 0.999), default=10)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]

    def _log_ticks(self, about: int) -> list[float]:
        """Decades, with 2 and 5 between them where there are few; empty when even those are fewer than two."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        inside = [10.0**d * f for d in decades for f in (1, 2, 5) if self.low <= 10.0**d * f <= self.high]
        whole = [v for v in inside if math.isclose(math.log10(v), round(math.log10(v)), abs_tol=1e-9)]
        if len(whole) > about:
            return whole[:: math.ceil(len(whole) / about)]
        found = whole if len(whole) >= 3 else inside
        return found if len(found) >= 2 else []


def short(value: float) -> str:
    """A number for an axis: 0.02, 5, 1.5k, 20M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def smoothed(points: Sequence[tuple[float, float]], weight: float) -> list[tuple[float, float]]:
    """Exponential moving average of y with the start's bias taken out (Adam's correction); weight in [0, 1)."""
    average, mass, out = 0.0, 0.0, []
    for x, y in points:
        average, mass = weight * average + (1 - weight) * y, weight * mass + (1 - weight)
        out.append((x, average / mass))
    return out


def thinned(points: Sequence[tuple[float, float]], most: int = _MOST_POINTS) -> list[tuple[float, float]]:
    """At most `most` points: means of equal groups, with the first and last point kept."""
    if len(points) <= most:
        return list(points)
    edges = [round(i * len(points) / (most - 2)) for i in range(most - 1)]
    groups = [points[a:b] for a, b in itertools.pairwise(edges)]
    means = [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
    return [points[0], *means, points[-1]]


def lines(
    series: Sequence[Series],
    *,
    title: str,
    x: str = "images seen",
    y: str = "",
    log: bool = False,
    smooth: float = 0.0,
    size: tuple[int, int] = SIZE,
) -> Drawing:
    """A line chart. Values that are not finite (or, with `log`, not positive) are left out.

    Args:
        log: logarithmic y axis.
        smooth: weight of the past in [0, 1); above 0 the raw values of a few lines stay behind, faint.
    """
    kept = [(i, s, [p for p in s.points if _drawable(p, log)]) for i, s in enumerate(series)]
    kept = [(i, s, points) for i, s, points in kept if points]
    frame = _Frame(title, x, y, size)
    if not kept:
        return frame.empty()
    frame.legend([(s.name, _ink(s, i), _dash(s, i), "line") for i, s, _ in kept])
    drawn = [thinned(smoothed(points, smooth)) for _, _, points in kept]
    # The raw values of a noisy loss would flatten the smoothed line, so the smoothed ones set the range.
    frame.axes([p for points in drawn for p in points], log_x=False, log_y=log)
    if smooth and len(kept) <= _MOST_NOISE:
        for i, s, points in kept:
            frame.path(thinned(points), _ink(s, i), width=1.0, opacity=0.25)
    for (i, s, _), line in zip(kept, drawn, strict=True):
        frame.path(line, _ink(s, i), dash=_dash(s, i))
        for point in line if len(line) <= 12 else ():
            frame.dot(point, _ink(s, i), radius=3)
    description = [
        f"{s.name}: {short(points[0][1])} at {short(points[0][0])}, {short(line[-1][1])} at {short(points[-1][0])}."
        for (_, s, points), line in zip(kept, drawn, strict=True)
    ]
    return frame.done(f"{y or title} over {x}. " + " ".join(description))


def scatter(
    marks: Sequence[Mark],
    *,
    title: str,
    x: str,
    y: str,
    log_x: bool = False,
    log_y: bool = False,
    joined: Sequence[int] = (),
    size: tuple[int, int] = SIZE,
) -> Drawing:
    """A scatter plot, such as quality against cost: numbered points, intervals as bars; a line joins the marks
    `joined`, by their places, in this order."""
    kept = [(i, m) for i, m in enumerate(marks) if _drawable((m.x, m.y), log_y) and (m.x > 0 or not log_x)]
    frame = _Frame(title, x, y, size)
    if not kept:
        return frame.empty()
    frame.legend([(f"{number} {m.name}", _ink(m, i), None, "dot") for number, (i, m) in enumerate(kept, 1)])
    bars_ = [(_ink(m, i), ends) for i, m in kept for ends in _intervals(m, log_x, log_y)]
    ends = [(m.x, m.y) for _, m in kept] + [point for _, pair in bars_ for point in pair]
    frame.axes(ends, log_x=log_x, log_y=log_y)
    places = dict(kept)
    line = [(places[i].x, places[i].y) for i in joined if i in places]
    if len(line) > 1:
        frame.path(line, None, width=1.0, opacity=0.5)
    for ink, pair in bars_:
        frame.path(pair, ink, width=1.2)
    for i, m in kept:
        frame.dot((m.x, m.y), _ink(m, i), m.name)
    frame.numbers([(m.x, m.y) for _, m in kept])
    description = " ".join(f"{m.name}: {short(m.y)} at {short(m.x)}." for _, m in kept)
    return frame.done(f"{y} against {x}. {description}")


def _intervals(mark: Mark, log_x: bool, log_y: bool) -> list[list[Point]]:
    """The bars of a point, those that an axis can show."""
    found = []
    if mark.low is not None and mark.high is not None:
        found.append([(mark.x, mark.low), (mark.x, mark.high)])
    if mark.across is not None:
        found.append([(mark.across[0], mark.y), (mark.across[1], mark.y)])
    return [pair for pair in found if all(_drawable(p, log_y) and (p[0] > 0 or not log_x) for p in pair)]


def bars(values: Sequence[tuple[str, float]], *, title: str, x: str, y: str, size: tuple[int, int] = SIZE) -> Drawing:
    """One bar per (name, value of 0 or more), in their order; names are written below as far as there is room."""
    kept = [(name, value) for name, value in values if math.isfinite(value) and value >= 0]
    frame = _Frame(title, x, y, size)
    if not kept:
        return frame.empty()
    frame.axes(
        [(0.0, 0.0), (float(len(kept)), max(value for _, value in kept))], log_x=False, log_y=False, ticks_x=False
    )
    every = math.ceil(len(kept) / 14)
    for place, (name, value) in enumerate(kept):
        left, right = frame.x(place + 0.12), frame.x(place + 0.88)
        top, bottom = frame.y(value), frame.y(0.0)
        description = f"{name}: {short(value)}"
        frame.shapes.append(Box((left, top), right - left, max(bottom - top, 0.5), INKS[0], description=description))
        if place % every == 0:
            frame.shapes.append(Text(name, ((left + right) / 2, size[1] - 27), "middle"))
    return frame.done(f"{y} per {x}. " + " ".join(f"{name}: {short(value)}." for name, value in kept))


def shares(
    values: Sequence[str],
    real: Sequence[float],
    drawn: Sequence[tuple[str, Sequence[float], int]],
    *,
    title: str,
    width: int = SIZE[0],
) -> Drawing:
    """How often each value occurs: the real share as a grey bar, each run's as a dot, a row per value.

    Args:
        real: shares of the values in [0, 1]; empty where they are not known.
        drawn: (run, its shares of the values, its ink) of each run.
    """
    row = 14 + 4 * min(len(drawn), 6)
    names = [value if len(value) <= 18 else value[:17] + "…" for value in values]
    frame = _Frame(title, "% of the images", "", (width, 50 + _BOTTOM + row * len(values)))
    frame.left = 20 + 6.6 * max(map(len, names), default=0)
    frame.legend(
        [
            *([("real", None, None, "box")] if real else []),
            *((n, INKS[i % len(INKS)], None, "dot") for n, _, i in drawn),
        ]
    )
    top = 100 * max((share for row_ in (real, *(found for _, found, _ in drawn)) for share in row_), default=0.0)
    frame.axes([(0.0, 0.0), (top or 100.0, float(len(values)))], log_x=False, log_y=False, ticks_y=False)
    for place, name in enumerate(names):
        middle = frame.top + row * (place + 0.5)
        frame.shapes.append(Text(name, (frame.left - 8, middle + 4), "end"))
        start = frame.x(0.0)
        if real:
            said = f"{name}, real: {real[place]:.1%}"
            at, length = (start, middle - row * 0.38), frame.x(100 * real[place]) - start
            frame.shapes.append(Box(at, length, row * 0.76, opacity=0.2, description=said))
        for turn, (run, found, ink) in enumerate(drawn):
            y = middle + row * 0.6 * ((turn + 0.5) / len(drawn) - 0.5)
            said = f"{name}, {run}: {found[place]:.1%}"
            frame.shapes.append(Dot((frame.x(100 * found[place]), y), 3.5, INKS[ink % len(INKS)], said))
    everyone = [*([("real", real)] if real else []), *((run, found) for run, found, _ in drawn)]
    description = " ".join(
        f"{who}: {', '.join(f'{n} {share:.0%}' for n, share in zip(names, found, strict=True))}."
        for who, found in everyone
    )
    return frame.done(f"Shares of {title}. {description}")


def _drawable(point: tuple[float, float], log: bool) -> bool:
    return all(map(math.isfinite, point)) and (point[1] > 0 or not log)


def _ink(item: Series | Mark, index: int) -> str:
    return INKS[(index if item.ink is None else item.ink) % len(INKS)]


def _dash(item: Series, index: int) -> str | None:
    return DASHES[(index if item.ink is None else item.ink) % len(DASHES)]


@dataclass
class _Frame:
    """A plot being drawn: legend on top, then the axes, then what goes between them."""

    title: str
    x_label: str
    y_label: str
    size: tuple[int, int]
    top: float = 26
    left: float = _LEFT
    shapes: list[Shape] = field(default_factory=list)

    def legend(self, entries: Sequence[tuple[str, str | None, str | None, str]]) -> None:
        """Samples and names; each line of them beyond the first makes the plot taller, not its inside smaller."""
        x, y = float(_LEFT), 38.0
        for name, ink, dash, kind in entries:
            shown = name if len(name) <= 44 else name[:43] + "…"
            wide = 26 + 6.8 * len(shown) + 12
            if x > _LEFT and x + wide > self.size[0] - _RIGHT:
                x, y = float(_LEFT), y + _LEGEND
            if kind == "dot":
                self.shapes.append(Dot((x + 9, y - 4), 4, ink or INKS[0]))
            elif kind == "box":
                self.shapes.append(Box((x + 2, y - 9), 16, 10, ink, 0.2))
            else:
                self.shapes.append(Rule((x, y - 4), (x + 20, y - 4), 1.0, 2.0, ink, dash))
            self.shapes.append(Text(shown, (x + 25, y)))
            x += wide
        self.top = y + 12
        self.size = (self.size[0], self.size[1] + round(y - 38))

    def axes(
        self,
        points: Sequence[tuple[float, float]],
        *,
        log_x: bool,
        log_y: bool,
        ticks_x: bool = True,
        ticks_y: bool = True,
    ) -> None:
        """Axes that hold all points."""
        width, height = self.size
        left, right, bottom = self.left, width - _RIGHT, height - _BOTTOM
        pad = 0.02 if len({x for x, _ in points}) > 8 else 0.08
        self.x = Axis.over((x for x, _ in points), left, right, log=log_x, pad=pad)
        self.y = Axis.over((y for _, y in points), bottom, self.top, log=log_y)
        # Nothing is ever at less than no images, no seconds and no loss.
        if not log_x and min(x for x, _ in points) >= 0:
            self.x = Axis(max(self.x.low, 0.0), self.x.high, left, right)
        for value in self.y.ticks() if ticks_y else ():
            at = self.y(value)
            self.shapes += [
                Rule((left, at), (right, at), 0.12),
                Text(short(value), (left - 7, at + 4), "end"),
            ]
        for value in self.x.ticks() if ticks_x else ():
            at = self.x(value)
            self.shapes += [
                Rule((at, bottom), (at, bottom + 4), 0.6),
                Text(short(value), (at, bottom + 17), "middle"),
            ]
            if not ticks_y:
                self.shapes.append(Rule((at, self.top), (at, bottom), 0.12))
        self.shapes += [
            Rule((left, bottom), (right, bottom), 0.6),
            Text(self.x_label, ((left + right) / 2, height - 8), "middle"),
        ]
        if self.y_label:
            self.shapes.append(Text(self.y_label, (14, (self.top + bottom) / 2), "middle", turned=True))

    def path(
        self,
        points: Sequence[tuple[float, float]],
        ink: str | None,
        *,
        width: float = 1.7,
        opacity: float = 1.0,
        dash: str | None = None,
    ) -> None:
        low, high = sorted((self.y.start, self.y.end))
        at = tuple((self.x(x), min(max(self.y(y), low), high)) for x, y in points)
        self.shapes.append(Path(at, ink, width, opacity, dash))

    def dot(self, point: tuple[float, float], ink: str, name: str = "", radius: float = 4.5) -> None:
        self.shapes.append(Dot((self.x(point[0]), self.y(point[1])), radius, ink, name))

    def numbers(self, points: Sequence[Point]) -> None:
        """A number beside each point, on the side where it is least in the way of points and other numbers."""
        at = [(self.x(x), self.y(y)) for x, y in points]
        taken = list(at)
        for number, (x, y) in enumerate(at, 1):
            wide = 7.0 * len(str(number))
            # The middle of the number, on each of the sides that it may stand on.
            places = [(x + side * (6 + wide / 2), y + rise) for side in (1, -1) for rise in (-6, 8)]
            inside = [place for place in places if self.x.start < place[0] < self.x.end] or places
            clear = [min(math.dist(place, other) for other in taken) for place in inside]
            best = inside[clear.index(max(clear))]
            taken.append(best)
            self.shapes.append(Text(str(number), (best[0], best[1] + 4), "middle", size=11))

    def empty(self) -> Drawing:
        width, height = self.size
        self.shapes.append(Text("no values yet", (width / 2, height / 2), "middle"))
        return self.done("No values yet.")

    def done(self, description: str) -> Drawing:
        title = Text(self.title, (12, 17), size=14, bold=True)
        return Drawing(self.title, description, self.size, (title, *self.shapes))
