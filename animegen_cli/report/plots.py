"""Line charts and scatter plots as SVG strings: readable source, no libraries, light and dark.

Standing alone, a plot follows the reader's colour scheme; inside a page it takes the page's text colour. Colours
are of middle lightness, so that they hold on white and on black, and dashes tell lines apart without colour.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from animegen_cli.report.markup import Markup, el

INKS = ("#2b7bba", "#c8581f", "#23896a", "#b0528f", "#8a7420", "#7466c8", "#b3404a", "#6f7680")
DASHES = (None, "7 3", "2 2.5", "9 3 2 3", "4 2", "1 3", "12 3", "6 2 1 2")
SIZE = (480, 300)
_LEFT, _RIGHT, _BOTTOM, _LEGEND = 56, 12, 44, 18
_MOST_POINTS = 360
_STYLE = Markup(
    "<style>svg:root{color:#26262a;background:#fff}"
    "@media(prefers-color-scheme:dark){svg:root{color:#e2e2e8;background:#17181c}}</style>"
)


@dataclass(frozen=True)
class Series:
    """One line: (x, y) in rising x. `ink` fixes the colour, so that a run keeps it from plot to plot."""

    name: str
    points: Sequence[tuple[float, float]]
    ink: int | None = None


@dataclass(frozen=True)
class Mark:
    """One point of a scatter plot, with the interval of its y value where there is one."""

    name: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    ink: int | None = None


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
) -> Markup:
    """A line chart. Values that are not finite (or, with `log`, not positive) are left out.

    Args:
        log: logarithmic y axis.
        smooth: weight of the past in [0, 1); above 0 the raw values stay behind, faint.
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
    for (i, s, points), line in zip(kept, drawn, strict=True):
        ink = _ink(s, i)
        if smooth:
            frame.path(thinned(points), ink, width=1.0, opacity=0.25)
        frame.path(line, ink, width=1.7, dash=_dash(s, i))
        for point in line if len(line) <= 12 else ():
            frame.dot(point, ink, radius=3)
    told = [
        f"{s.name}: {short(points[0][1])} at {short(points[0][0])}, {short(line[-1][1])} at {short(points[-1][0])}."
        for (_, s, points), line in zip(kept, drawn, strict=True)
    ]
    return frame.done(f"{y or title} over {x}. " + " ".join(told))


def scatter(
    marks: Sequence[Mark],
    *,
    title: str,
    x: str,
    y: str,
    log_x: bool = False,
    log_y: bool = False,
    size: tuple[int, int] = SIZE,
) -> Markup:
    """A scatter plot, such as quality against cost; intervals of y are drawn as bars."""
    kept = [(i, m) for i, m in enumerate(marks) if _drawable((m.x, m.y), log_y) and (m.x > 0 or not log_x)]
    frame = _Frame(title, x, y, size)
    if not kept:
        return frame.empty()
    frame.legend([(m.name, _ink(m, i), None, "dot") for i, m in kept])
    ends = [(m.x, v) for _, m in kept for v in (m.y, m.low, m.high) if v is not None and _drawable((m.x, v), log_y)]
    frame.axes(ends, log_x=log_x, log_y=log_y)
    for i, m in kept:
        if m.low is not None and m.high is not None and _drawable((m.x, m.low), log_y):
            frame.path([(m.x, m.low), (m.x, m.high)], _ink(m, i), width=1.2)
        frame.dot((m.x, m.y), _ink(m, i), m.name)
    return frame.done(f"{y} against {x}. " + " ".join(f"{m.name}: {short(m.y)} at {short(m.x)}." for _, m in kept))


def bars(values: Sequence[tuple[str, float]], *, title: str, x: str, y: str, size: tuple[int, int] = SIZE) -> Markup:
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
        told = el("title", f"{name}: {short(value)}")
        frame.parts.append(
            el("rect", told, x=left, y=top, width=right - left, height=max(bottom - top, 0.5), fill=INKS[0])
        )
        if place % every == 0:
            at = (left + right) / 2
            frame.parts.append(el("text", name, x=at, y=size[1] - 27, text_anchor="middle", fill="currentColor"))
    return frame.done(f"{y} per {x}. " + " ".join(f"{name}: {short(value)}." for name, value in kept))


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
    parts: list[Markup] = field(default_factory=list)

    def legend(self, entries: Sequence[tuple[str, str, str | None, str]]) -> None:
        x, y = float(_LEFT), 38.0
        for name, ink, dash, kind in entries:
            shown = name if len(name) <= 44 else name[:43] + "…"
            wide = 26 + 6.8 * len(shown) + 12
            if x > _LEFT and x + wide > self.size[0] - _RIGHT:
                x, y = float(_LEFT), y + _LEGEND
            sample = (
                el("circle", cx=x + 9, cy=y - 4, r=4, fill=ink)
                if kind == "dot"
                else el("line", x1=x, x2=x + 20, y1=y - 4, y2=y - 4, stroke=ink, stroke_width=2, stroke_dasharray=dash)
            )
            self.parts += [sample, el("text", shown, x=x + 25, y=y, fill="currentColor")]
            x += wide
        self.top = y + 12

    def axes(self, points: Sequence[tuple[float, float]], *, log_x: bool, log_y: bool, ticks_x: bool = True) -> None:
        width, height = self.size
        right, bottom = width - _RIGHT, height - _BOTTOM
        pad = 0.02 if len({x for x, _ in points}) > 8 else 0.08
        self.x = Axis.over((x for x, _ in points), _LEFT, right, log=log_x, pad=pad)
        self.y = Axis.over((y for _, y in points), bottom, self.top, log=log_y)
        # Nothing is ever at less than no images, no seconds and no loss.
        if not log_x and min(x for x, _ in points) >= 0:
            self.x = Axis(max(self.x.low, 0.0), self.x.high, _LEFT, right)
        for value in self.y.ticks():
            at = self.y(value)
            self.parts += [
                el("line", x1=_LEFT, x2=right, y1=at, y2=at, stroke="currentColor", stroke_opacity=0.12),
                el("text", short(value), x=_LEFT - 7, y=at + 4, text_anchor="end", fill="currentColor"),
            ]
        for value in self.x.ticks() if ticks_x else ():
            at = self.x(value)
            self.parts += [
                el("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, stroke="currentColor", stroke_opacity=0.6),
                el("text", short(value), x=at, y=bottom + 17, text_anchor="middle", fill="currentColor"),
            ]
        middle = (self.top + bottom) / 2
        self.parts += [
            el("line", x1=_LEFT, x2=right, y1=bottom, y2=bottom, stroke="currentColor", stroke_opacity=0.6),
            el("text", self.x_label, x=(_LEFT + right) / 2, y=height - 8, text_anchor="middle", fill="currentColor"),
            el(
                "text", self.y_label, x=14, y=middle, text_anchor="middle", fill="currentColor",
                transform=f"rotate(-90 14 {middle:.1f})",
            ),
        ]  # fmt: skip

    def path(
        self,
        points: Sequence[tuple[float, float]],
        ink: str,
        *,
        width: float,
        opacity: float | None = None,
        dash: str | None = None,
    ) -> None:
        low, high = sorted((self.y.start, self.y.end))
        at = [(self.x(x), min(max(self.y(y), low), high)) for x, y in points]
        self.parts.append(
            el(
                "polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in at), fill="none", stroke=ink,
                stroke_width=width, stroke_opacity=opacity, stroke_dasharray=dash, stroke_linejoin="round",
            )
        )  # fmt: skip

    def dot(self, point: tuple[float, float], ink: str, name: str | None = None, radius: float = 4.5) -> None:
        told = el("title", name) if name else None
        self.parts.append(el("circle", told, cx=self.x(point[0]), cy=self.y(point[1]), r=radius, fill=ink))

    def empty(self) -> Markup:
        width, height = self.size
        text = el("text", "no values yet", x=width / 2, y=height / 2, text_anchor="middle", fill="currentColor")
        self.parts.append(text)
        return self.done("No values yet.")

    def done(self, told: str) -> Markup:
        width, height = self.size
        return el(
            "svg",
            el("title", self.title),
            el("desc", told),
            _STYLE,
            el("text", self.title, x=_LEFT, y=17, font_size=14, font_weight=600, fill="currentColor"),
            *self.parts,
            xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", width=width, height=height,
            class_="plot", role="img", font_family="system-ui, sans-serif", font_size=12,
        )  # fmt: skip
