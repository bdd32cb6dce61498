"""Line charts, scatter plots, bars and shares as drawings (`canvas.py`), which become SVG and PNG.

Colors are of middle lightness, so that they hold on white and on black; dashes tell lines apart without color, and
numbers points. All sizes are (width, height) in SVG's units.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from animegen_cli.report.canvas import Circle, Drawing, Line, Point, Polyline, Rectangle, Shape, Text, cut
from animegen_cli.report.units import amount

COLORS = (
    "#2b7bba", "#c8581f", "#23896a", "#b0528f", "#8a7420", "#7466c8",
    "#b3404a", "#6f7680", "#3e8d9c", "#96603a", "#5d8a2c", "#a35bd0",
)  # fmt: skip
DASHES = (None, "7 3", "2 2.5", "9 3 2 3", "4 2", "1 3", "12 3", "6 2 1 2")
SIZE = (480, 300)
_LEFT, _RIGHT, _BOTTOM, _LEGEND = 64, 12, 44, 18
_MOST_POINTS = 360
_MOST_RAW = 4
"""Lines in a plot up to which their raw values are shown too."""


class Style(NamedTuple):
    """How something looks in a plot: its color, and the dash pattern of its line (None: solid)."""

    color: str
    dash: str | None


def style(place: int) -> Style:
    """The style of what stands at this place of a list; styles repeat after 24 places."""
    return Style(COLORS[place % len(COLORS)], DASHES[place % len(DASHES)])


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each name, so that a run looks the same in every plot of a page."""
    return {name: style(place) for place, name in enumerate(names)}


@dataclass(frozen=True)
class Series:
    """One line: (x, y) in rising x. Without a `style` it takes that of its place in the plot."""

    name: str
    points: Sequence[Point]
    style: Style | None = None


@dataclass(frozen=True)
class Mark:
    """One point of a scatter plot, with the intervals (low, high) of its values where they are known.

    `run` names the run that it belongs to; without a `style` it takes that of its place in the plot.
    """

    name: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    run: str = ""
    style: Style | None = None


@dataclass(frozen=True)
class RunShares:
    """How often each value occurs among the images of a run: shares in [0, 1], in the order of the values."""

    run: str
    shares: Sequence[float]
    style: Style


@dataclass(frozen=True)
class Axis:
    """A scale from values low..high to positions start..end, linear or (`log`) logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, *, log: bool, pad: float = 0.05) -> Axis:
        """Make an axis that holds all values with a margin of `pad` of its length at both ends."""
        values = list(values)
        low = min(values)
        high = max(values)
        if high - low <= 1e-9 * abs(high):  # constant but for rounding
            low = high
        if log:
            grow = (high / low) ** pad if high > low else 1.5
            return cls(low / grow, high * grow, start, end, True)
        grow = (high - low) * pad or abs(high) * 0.1 or 1.0
        return cls(low - grow, high + grow, start, end)

    def __call__(self, value: float) -> float:
        """The position of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = map(math.log10, (low, high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """About so many round numbers on the axis: multiples of 1, 2 or 5 times a power of ten."""
        if self.log and (ticks := self._log_ticks(about)):
            return ticks
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * min((f for f in (1, 2, 5, 10) if f * power >= rough * 0.999), default=10)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]

    def _log_ticks(self, about: int) -> list[float]:
        """Decades, with 2 and 5 between them where there are few; empty when even those are fewer than two."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        inside = [10.0**d * f for d in decades for f in (1, 2, 5) if self.low <= 10.0**d * f <= self.high]
        whole = [v for v in inside if math.isclose(math.log10(v), round(math.log10(v)), abs_tol=1e-9)]
        if len(whole) > about:
            return whole[:: math.ceil(len(whole) / about)]
        ticks = whole if len(whole) >= 3 else inside
        return ticks if len(ticks) >= 2 else []


def smoothed(points: Sequence[Point], weight: float) -> list[Point]:
    """Exponential moving average of y, its bias towards the start divided out as in Adam (Kingma & Ba 2015, section 3).

    Args:
        points: (x, y) in rising x.
        weight: of the past, in [0, 1); 0 leaves the points as they are.
    """
    average = 0.0
    mass = 0.0
    averaged = []
    for x, y in points:
        average = weight * average + (1 - weight) * y
        mass = weight * mass + (1 - weight)
        averaged.append((x, average / mass))
    return averaged


def thinned(points: Sequence[Point], most: int = _MOST_POINTS) -> list[Point]:
    """At most `most` points: the first, the means of equally large groups, and the last."""
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
    """Draw a line chart. Values that are not finite (or, with `log`, not positive) are left out.

    Args:
        series: the lines, in the order of the legend.
        title: what the plot is called.
        x: label of the horizontal axis.
        y: label of the vertical axis; empty for none.
        log: makes the vertical axis logarithmic.
        smooth: weight of the past in [0, 1); above 0 the raw values of a few lines stay behind, faint.
        size: width and height; a legend of several lines adds to the height.
    """
    drawable = [(s.name, s.style or style(i), [p for p in s.points if _drawable(p, log)]) for i, s in enumerate(series)]
    drawable = [entry for entry in drawable if entry[2]]
    frame = _Frame(title, x, y, size)
    if not drawable:
        return frame.empty()
    frame.legend([_Key(name, "line", *look) for name, look, _ in drawable])
    curves = [thinned(smoothed(points, smooth)) for _, _, points in drawable]
    # The raw values of a noisy loss would flatten the smoothed line, so the smoothed ones set the range.
    frame.axes([point for curve in curves for point in curve], log_x=False, log_y=log)
    if smooth and len(drawable) <= _MOST_RAW:
        for _, look, points in drawable:
            frame.line(thinned(points), look.color, width=1.0, opacity=0.25)
    sentences = []
    for (name, look, points), curve in zip(drawable, curves, strict=True):
        frame.line(curve, look.color, dash=look.dash)
        for point in curve if len(curve) <= 12 else ():
            frame.dot(point, look.color, radius=3)
        (start, first), (end, _) = points[0], points[-1]
        sentences.append(f"{name}: {amount(first)} at {amount(start)}, {amount(curve[-1][1])} at {amount(end)}.")
    return frame.finished(f"{y or title} over {x}. " + " ".join(sentences))


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
    """Draw a scatter plot, such as quality against cost: numbered points with intervals as bars.

    Args:
        marks: the points, in the order of their numbers; those that an axis cannot show are left out.
        title: what the plot is called.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        log_x: makes the horizontal axis logarithmic.
        log_y: makes the vertical axis logarithmic.
        joined: places of the marks that a line joins, in this order.
        size: width and height; a legend of several lines adds to the height.
    """

    def can_show(point: Point) -> bool:
        return _drawable(point, log_y) and (point[0] > 0 or not log_x)

    shown = {i: mark for i, mark in enumerate(marks) if can_show((mark.x, mark.y))}
    colors = {i: (mark.style or style(i)).color for i, mark in shown.items()}
    frame = _Frame(title, x, y, size)
    if not shown:
        return frame.empty()
    frame.legend([_Key(f"{number} {mark.name}", "dot", colors[i]) for number, (i, mark) in enumerate(shown.items(), 1)])
    intervals = [
        (colors[i], ends) for i, mark in shown.items() for ends in _intervals(mark) if all(map(can_show, ends))
    ]
    points = [(mark.x, mark.y) for mark in shown.values()]
    frame.axes([*points, *(end for _, ends in intervals for end in ends)], log_x=log_x, log_y=log_y)
    line = [(shown[i].x, shown[i].y) for i in joined if i in shown]
    if len(line) > 1:
        frame.line(line, None, width=1.0, opacity=0.5)
    for color, ends in intervals:
        frame.line(ends, color, width=1.2)
    for i, mark in shown.items():
        frame.dot((mark.x, mark.y), colors[i], mark.name)
    frame.numbers(points)
    description = " ".join(f"{mark.name}: {amount(mark.y)} at {amount(mark.x)}." for mark in shown.values())
    return frame.finished(f"{y} against {x}. {description}")


def _intervals(mark: Mark) -> list[tuple[Point, Point]]:
    """The ends of a point's bars, upright and across."""
    bars = []
    if mark.y_interval is not None:
        low, high = mark.y_interval
        bars.append(((mark.x, low), (mark.x, high)))
    if mark.x_interval is not None:
        low, high = mark.x_interval
        bars.append(((low, mark.y), (high, mark.y)))
    return bars


def bars(values: Sequence[tuple[str, float]], *, title: str, x: str, y: str, size: tuple[int, int] = SIZE) -> Drawing:
    """Draw one bar per (name, value), in their order; names are written below as far as there is room.

    Values that are negative or not finite are left out.
    """
    shown = [(name, value) for name, value in values if math.isfinite(value) and value >= 0]
    frame = _Frame(title, x, y, size)
    if not shown:
        return frame.empty()
    corners = [(0.0, 0.0), (float(len(shown)), max(value for _, value in shown))]
    frame.axes(corners, log_x=False, log_y=False, ticks_x=False)
    every = math.ceil(len(shown) / 14)
    for place, (name, value) in enumerate(shown):
        left, right = frame.x(place + 0.12), frame.x(place + 0.88)
        top, bottom = frame.y(value), frame.y(0.0)
        height = max(bottom - top, 0.5)
        text = f"{name}: {amount(value)}"
        frame.shapes.append(Rectangle((left, top), right - left, height, COLORS[0], description=text))
        if place % every == 0:
            frame.shapes.append(Text(name, ((left + right) / 2, size[1] - 27), "middle"))
    return frame.finished(f"{y} per {x}. " + " ".join(f"{name}: {amount(value)}." for name, value in shown))


def shares(
    values: Sequence[str],
    real: Sequence[float],
    drawn: Sequence[RunShares],
    *,
    title: str,
    width: int = SIZE[0],
) -> Drawing:
    """Draw how often each value occurs: the real share as a gray bar, each run's as a dot, a row per value.

    Args:
        values: names of the values.
        real: shares of the values in [0, 1] among real images; empty where they are not known.
        drawn: the shares among the images of each run.
        title: what the plot is called.
        width: of the plot; its height follows from the number of values.
    """
    row = 14 + 4 * min(len(drawn), 6)
    names = [cut(value, 18) for value in values]
    frame = _Frame(title, "% of the images", "", (width, 50 + _BOTTOM + row * len(values)))
    frame.left = 20 + 6.6 * max(map(len, names), default=0)
    keys = [_Key("real", "box")] if real else []
    frame.legend([*keys, *(_Key(run.run, "dot", run.style.color) for run in drawn)])
    largest = 100 * max((share for shares_ in (real, *(run.shares for run in drawn)) for share in shares_), default=0.0)
    frame.axes([(0.0, 0.0), (largest or 100.0, float(len(values)))], log_x=False, log_y=False, ticks_y=False)
    for place, name in enumerate(names):
        middle = frame.top + row * (place + 0.5)
        frame.shapes.append(Text(name, (frame.left - 8, middle + 4), "end"))
        start = frame.x(0.0)
        if real:
            corner, length = (start, middle - row * 0.38), frame.x(100 * real[place]) - start
            text = f"{name}, real: {real[place]:.1%}"
            frame.shapes.append(Rectangle(corner, length, row * 0.76, opacity=0.2, description=text))
        for turn, run in enumerate(drawn):
            y = middle + row * 0.6 * ((turn + 0.5) / len(drawn) - 0.5)
            text = f"{name}, {run.run}: {run.shares[place]:.1%}"
            frame.shapes.append(Circle((frame.x(100 * run.shares[place]), y), 3.5, run.style.color, text))
    everyone = [*([("real", real)] if real else []), *((run.run, run.shares) for run in drawn)]
    description = " ".join(
        f"{who}: {', '.join(f'{name} {share:.0%}' for name, share in zip(names, shares_, strict=True))}."
        for who, shares_ in everyone
    )
    return frame.finished(f"Shares of {title}. {description}")


def _drawable(point: Point, log: bool) -> bool:
    """Whether both numbers are finite and the second can stand on its axis."""
    return all(map(math.isfinite, point)) and (point[1] > 0 or not log)


class _Key(NamedTuple):
    """An entry of a legend: a sample of what is drawn, and its name. Without a color it is drawn in the text's."""

    name: str
    kind: Literal["line", "dot", "box"]
    color: str | None = None
    dash: str | None = None


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
    x: Axis = field(init=False)
    y: Axis = field(init=False)

    def legend(self, keys: Sequence[_Key]) -> None:
        """Add samples and names; each line of them beyond the first makes the plot taller, not its inside smaller."""
        x, y = float(_LEFT), 38.0
        for key in keys:
            name = cut(key.name, 44)
            width = 26 + 6.8 * len(name) + 12
            if x > _LEFT and x + width > self.size[0] - _RIGHT:
                x, y = float(_LEFT), y + _LEGEND
            if key.kind == "dot":
                self.shapes.append(Circle((x + 9, y - 4), 4, key.color or COLORS[0]))
            elif key.kind == "box":
                self.shapes.append(Rectangle((x + 2, y - 9), 16, 10, key.color, 0.2))
            else:
                self.shapes.append(Line((x, y - 4), (x + 20, y - 4), 1.0, 2.0, key.color, key.dash))
            self.shapes.append(Text(name, (x + 25, y)))
            x += width
        self.top = y + 12
        self.size = (self.size[0], self.size[1] + round(y - 38))

    def axes(
        self,
        points: Sequence[Point],
        *,
        log_x: bool,
        log_y: bool,
        ticks_x: bool = True,
        ticks_y: bool = True,
    ) -> None:
        """Add axes that hold all points, with their ticks and labels."""
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
                Line((left, at), (right, at), 0.12),
                Text(amount(value), (left - 7, at + 4), "end"),
            ]
        for value in self.x.ticks() if ticks_x else ():
            at = self.x(value)
            self.shapes += [
                Line((at, bottom), (at, bottom + 4), 0.6),
                Text(amount(value), (at, bottom + 17), "middle"),
            ]
            if not ticks_y:
                self.shapes.append(Line((at, self.top), (at, bottom), 0.12))
        self.shapes += [
            Line((left, bottom), (right, bottom), 0.6),
            Text(self.x_label, ((left + right) / 2, height - 8), "middle"),
        ]
        if self.y_label:
            self.shapes.append(Text(self.y_label, (14, (self.top + bottom) / 2), "middle", turned=True))

    def line(
        self,
        points: Sequence[Point],
        color: str | None,
        *,
        width: float = 1.7,
        opacity: float = 1.0,
        dash: str | None = None,
    ) -> None:
        """Add a line through points, held between the ends of the vertical axis."""
        low, high = sorted((self.y.start, self.y.end))
        at = tuple((self.x(x), min(max(self.y(y), low), high)) for x, y in points)
        self.shapes.append(Polyline(at, color, width, opacity, dash))

    def dot(self, point: Point, color: str, name: str = "", radius: float = 4.5) -> None:
        """Add a point that shows its name to a reader who points at it."""
        self.shapes.append(Circle((self.x(point[0]), self.y(point[1])), radius, color, name))

    def numbers(self, points: Sequence[Point]) -> None:
        """Add a number beside each point, on the side where it is least in the way of points and other numbers."""
        positions = [(self.x(x), self.y(y)) for x, y in points]
        taken = list(positions)
        for number, (x, y) in enumerate(positions, 1):
            width = 7.0 * len(str(number))
            # The middle of the number, on each of the sides that it may stand on.
            candidates = [(x + side * (6 + width / 2), y + rise) for side in (1, -1) for rise in (-6, 8)]
            inside = [at for at in candidates if self.x.start < at[0] < self.x.end] or candidates
            clear = [min(math.dist(at, other) for other in taken) for at in inside]
            best = inside[clear.index(max(clear))]
            taken.append(best)
            self.shapes.append(Text(str(number), (best[0], best[1] + 4), "middle", size=11))

    def empty(self) -> Drawing:
        """The plot of no values, which says so."""
        width, height = self.size
        self.shapes.append(Text("no values yet", (width / 2, height / 2), "middle"))
        return self.finished("No values yet.")

    def finished(self, description: str) -> Drawing:
        """The plot under its title."""
        title = Text(self.title, (12, 17), size=14, bold=True)
        return Drawing(self.title, description, self.size, (title, *self.shapes))
