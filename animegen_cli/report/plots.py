"""Line charts, scatter plots, shares and intervals by matplotlib: inside pages as SVG, as files SVG, PNG and PDF too.

Colors are of middle lightness, so that they hold on white and on black; dashes and markers tell runs apart without color. Inside a
page they are the page's CSS variables, so a plot follows the reader's color scheme. Matplotlib takes longer to import than the rest
of a page to make, so it is imported with the first plot.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup, escape

from animegen_cli.report.units import amount, cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure  # noqa: TC004 - no annotation is evaluated

COLORS = (
    "#2b7bba", "#c8581f", "#23896a", "#b0528f", "#8a7420", "#7466c8",
    "#b3404a", "#6f7680", "#3e8d9c", "#96603a", "#5d8a2c", "#a35bd0",
)  # fmt: skip
_DASHES = ((), (7, 3), (2, 2.5), (9, 3, 2, 3), (4, 2), (1, 3), (12, 3), (6, 2, 1, 2))
_MARKERS = "osD^vPX<>hp"
_INK = "#26262a"
_WIDTH, _HEIGHT = 372, 220
"""Of a plot in points: three stand side by side on a page, one in a column of a paper. Its legend adds to the height."""
_LEFT, _RIGHT, _TOP, _BOTTOM, _LEGEND_LINE = 54, 10, 24, 40, 15
_MOST_POINTS = 240
_MOST_RAW = 4
"""Lines in a plot up to which their raw values are shown too."""
_SETTINGS = {
    "svg.fonttype": "none", "svg.hashsalt": "animegen", "pdf.fonttype": 42, "text.parse_math": False, "font.size": 11,
    "font.family": ["DejaVu Sans"], "lines.scale_dashes": False, "lines.solid_capstyle": "round", "axes.edgecolor": _INK,
    "axes.labelcolor": _INK, "text.color": _INK, "xtick.color": _INK, "ytick.color": _INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.spines.left": False, "ytick.left": False, "grid.color": _INK, "grid.alpha": 0.13,
    "grid.linewidth": 0.8, "legend.frameon": False, "axes.axisbelow": True, "axes.unicode_minus": False,
}  # fmt: skip
_DRAWING = threading.RLock()
"""Matplotlib's settings are one for all threads."""
# XML knows no way to write these characters, not even escaped.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Point = tuple[float, float]


class Style(NamedTuple):
    """How something looks in a plot: its color, the dashes of its line in points (none: solid), the marker of its points."""

    color: str
    dash: tuple[float, ...] = ()
    marker: str = "o"


def style(place: int) -> Style:
    """The style of what stands at this place of a list."""
    return Style(COLORS[place % len(COLORS)], _DASHES[place % len(_DASHES)], _MARKERS[place % len(_MARKERS)])


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
    """One point, with the intervals (low, high) of its values where they are known; `run` names the run that it belongs to."""

    name: str
    x: float
    y: float
    x_interval: Point | None = None
    y_interval: Point | None = None
    run: str = ""
    style: Style | None = None


@dataclass(frozen=True)
class RunShares:
    """How often each value occurs among the images of a run: shares in [0, 1], in the order of the values."""

    run: str
    shares: Sequence[float]
    style: Style


@dataclass(frozen=True)
class Plot:
    """A finished plot: its title, what it shows in words, and matplotlib's figure."""

    title: str
    description: str
    figure: Figure


# ---- kinds of plots ---------------------------------------------------------------------------------------------


def lines(series: Sequence[Series], *, title: str, x: str = "images seen", y: str = "", smooth: float = 0.0) -> Plot:
    """Draw a line chart; its vertical axis is logarithmic where the values need it.

    Args:
        series: the lines, in the order of the legend; all values are finite.
        title: what the plot is called.
        x: label of the horizontal axis.
        y: label of the vertical axis; empty for none.
        smooth: weight of the past in [0, 1); above 0 the raw values of a few lines stay behind, faint.
    """
    given = [(one.name, one.style or style(i), one.points) for i, one in enumerate(series) if one.points]
    with _settings():
        figure, axes = _framed(title, x, y, [name for name, _, _ in given])
        curves = [thinned(smoothed(points, smooth)) for _, _, points in given]
        sentences = []
        for (name, look, points), curve in zip(given, curves, strict=True):
            if smooth and len(given) <= _MOST_RAW:
                axes.plot(*_columns(thinned(points)), color=look.color, alpha=0.25, linewidth=1)
            marker = look.marker if len(curve) <= 12 else ""
            axes.plot(
                *_columns(curve), label=cut(name, 44), color=look.color, linestyle=(0, look.dash) if look.dash else "-",
                linewidth=1.7, marker=marker, markersize=4,
            )  # fmt: skip
            (start, first), (end, last) = points[0], curve[-1]
            sentences.append(f"{name}: {amount(first)} at {amount(start)}, {amount(last)} at {amount(end)}.")
        # The raw values of a noisy loss would flatten the smoothed line, so the smoothed ones set the range.
        _scale(axes.yaxis, [value for curve in curves for _, value in curve])
        _scale(axes.xaxis, [value for curve in curves for value, _ in curve], log=False)
        _legend(figure, axes)
    return Plot(title, f"{y or title} over {x}. {' '.join(sentences)}", figure)


def scatter(marks: Sequence[Mark], *, title: str, x: str, y: str, joined: Sequence[int] = ()) -> Plot:
    """Draw a scatter plot, such as quality against cost: a marker per point, intervals as bars.

    Args:
        marks: the points, in the order of the legend; all values are finite.
        title: what the plot is called.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        joined: places of the marks that a line joins, in this order.
    """
    with _settings():
        figure, axes = _framed(title, x, y, [mark.name for mark in marks])
        axes.plot(*_columns([(marks[i].x, marks[i].y) for i in joined]), color=_INK, alpha=0.5, linewidth=1)
        for i, mark in enumerate(marks):
            look = mark.style or style(i)
            (left, right), (low, high) = mark.x_interval or (mark.x, mark.x), mark.y_interval or (mark.y, mark.y)
            axes.plot([left, right], [mark.y, mark.y], color=look.color, linewidth=1.3)
            axes.plot([mark.x, mark.x], [low, high], color=look.color, linewidth=1.3)
            axes.plot([mark.x], [mark.y], look.marker, color=look.color, markersize=7, label=cut(mark.name, 44))
        _scale(axes.xaxis, [value for mark in marks for value in (mark.x, *(mark.x_interval or ()))], pad=0.08)
        _scale(axes.yaxis, [value for mark in marks for value in (mark.y, *(mark.y_interval or ()))], pad=0.08)
        _legend(figure, axes)
    told = " ".join(f"{mark.name}: {amount(mark.y)} at {amount(mark.x)}." for mark in marks)
    return Plot(title, f"{y} against {x}. {told}", figure)


def shares(values: Sequence[str], real: Sequence[float], drawn: Sequence[RunShares], *, title: str) -> Plot:
    """Draw how often each value occurs: the real share as a gray bar, each run's as a marker, a row per value.

    Args:
        values: names of the values.
        real: shares of the values in [0, 1] among real images; empty where they are not known.
        drawn: the shares among the images of each run.
        title: what the plot is called.
    """
    row = 13 + 3 * min(len(drawn), 6)
    with _settings():
        keys = (["real"] if real else []) + [run.run for run in drawn]
        figure, axes = _framed(title, "% of the images", "", keys, inside=row * len(values), names=values)
        if real:
            axes.barh(range(len(values)), [100 * share for share in real], 0.74, color=_INK, alpha=0.2, label="real")
        for turn, run in enumerate(drawn):
            rows = [place + 0.6 * ((turn + 0.5) / len(drawn) - 0.5) for place in range(len(values))]
            look, percent = run.style, [100 * share for share in run.shares]
            axes.plot(percent, rows, look.marker, color=look.color, markersize=5, label=cut(run.run, 44))
        largest = max((share for of_who in (real, *(run.shares for run in drawn)) for share in of_who), default=0.0)
        _scale(axes.xaxis, [0.0, 100 * largest], log=False)
        _legend(figure, axes)
    everyone = [*([("real", real)] if real else []), *((run.run, run.shares) for run in drawn)]
    told = " ".join(
        f"{who}: {', '.join(f'{name} {share:.0%}' for name, share in zip(values, of_who, strict=True))}."
        for who, of_who in everyone
    )
    return Plot(title, f"Shares of {title}. {told}", figure)


def intervals(values: Sequence[tuple[str, float, float, float]], *, title: str) -> Plot:
    """Draw (name, low, middle, high) as a dot with a bar, a line each, the first on top."""
    with _settings():
        figure, axes = _framed(title, "", "", [], inside=22 * len(values), names=[name for name, *_ in values])
        for place, (_, low, middle, high) in enumerate(values):
            axes.plot([low, high], [place, place], color=COLORS[0], linewidth=2)
            axes.plot([middle], [place], "o", color=COLORS[0], markersize=7)
    told = " ".join(f"{name}: {middle:.0f}, from {low:.0f} to {high:.0f}." for name, low, middle, high in values)
    return Plot(title, told, figure)


# ---- values -----------------------------------------------------------------------------------------------------


def smoothed(points: Sequence[Point], weight: float) -> list[Point]:
    """Exponential moving average of y, its bias towards the start divided out as in Adam (Kingma & Ba 2015, section 3).

    Args:
        points: (x, y) in rising x.
        weight: of the past, in [0, 1); 0 leaves the points as they are.
    """
    average = mass = 0.0
    averaged = []
    for x, y in points:
        average = weight * average + (1 - weight) * y
        mass = weight * mass + (1 - weight)
        averaged.append((x, average / mass))
    return averaged


def thinned(points: Sequence[Point], most: int = _MOST_POINTS) -> list[Point]:
    """Leave at most `most` points: the ends, and between them means of equal numbers of neighbors."""
    if len(points) <= most:
        return list(points)
    edges = [round(i * len(points) / (most - 2)) for i in range(most - 1)]
    groups = [points[a:b] for a, b in itertools.pairwise(edges)]
    means = [(math.fsum(x for x, _ in g) / len(g), math.fsum(y for _, y in g) / len(g)) for g in groups]
    return [points[0], *means, points[-1]]


def needs_log(values: Iterable[float]) -> bool:
    """Whether values need a logarithmic axis to be told apart."""
    values = list(values)
    return min(values) > 0 and max(values) > 20 * min(values)


# ---- the frame --------------------------------------------------------------------------------------------------


@contextmanager
def _settings() -> Iterator[None]:
    """Matplotlib with its own defaults and ours over them, whatever its user has set, for this thread alone."""
    import matplotlib

    with _DRAWING, matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # kana in a name: boxes in pixels, letters in SVG
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def _framed(
    title: str,
    x: str,
    y: str,
    keys: Sequence[str],
    *,
    inside: float = _HEIGHT - _TOP - _BOTTOM,
    names: Sequence[str] = (),
) -> tuple[Figure, Axes]:
    """An empty plot with room for a legend of the `keys` below its title; `names` are those of rows, the first on top."""
    from matplotlib.figure import Figure

    top = _TOP + _LEGEND_LINE * math.ceil(len(keys) / _legend_columns(keys)) + (4 if keys else 0)
    height = top + inside + _BOTTOM
    names = [cut(_plain(name), 24) for name in names]
    left = 14 + 6.4 * max(map(len, names)) if names else _LEFT
    figure = Figure(figsize=(_WIDTH / 72, height / 72), dpi=72, facecolor="none")
    figure.text(0, 1 - 4 / height, cut(_plain(title), 54), weight="bold", va="top", size=12)
    axes = figure.add_axes(
        (left / _WIDTH, _BOTTOM / height, 1 - (left + _RIGHT) / _WIDTH, inside / height), facecolor="none"
    )
    axes.set_xlabel(_plain(x))
    axes.set_ylabel(cut(_plain(y), 34))
    axes.grid(visible=True, axis="x" if names else "y")
    if names:
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
    return figure, axes


def _legend_columns(keys: Sequence[str]) -> int:
    widest = 40 + 6.4 * max((len(cut(key, 44)) for key in keys), default=0)
    return max(1, min(len(keys), int(_WIDTH / widest)))


def _legend(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    height = figure.get_figheight() * 72
    figure.legend(
        handles, [_plain(name) for name in names], loc="upper left", bbox_to_anchor=(0, 1 - (_TOP - 4) / height), fontsize=10,
        ncols=_legend_columns(names), borderpad=0, borderaxespad=0, labelspacing=0.25, handlelength=2, handletextpad=0.5,
        columnspacing=1.2,
    )  # fmt: skip


def _scale(axis: Axis, values: Sequence[float], *, log: bool | None = None, pad: float = 0.03) -> None:
    """Make an axis hold the values, logarithmic where they need it; nothing is ever at less than no images and no loss."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = min(values), max(values)
    if needs_log(values) if log is None else log:
        getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
        decades = math.log10(high / low)
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,), numticks=7))
        axis.set_minor_formatter(NullFormatter())
        grow = (high / low) ** pad
        limits = low / grow, high * grow
    else:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        # What is constant but for rounding gets an axis all the same.
        grow = (high - low) * pad if high - low > 1e-9 * abs(high) else abs(high) * 0.1 or 1.0
        limits = (max(low - grow, 0.0) if low >= 0 else low - grow), high + grow
    axis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
    getattr(axis.axes, f"set_{axis.axis_name}lim")(*limits)


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _plain(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))


# ---- files ------------------------------------------------------------------------------------------------------


def svg(plot: Plot) -> str:
    """Write the plot as an SVG file: dark on white, with its title and description for who cannot see it."""
    return _svg(plot).replace("<svg ", '<svg style="background: #fff" ', 1)


def inline(plot: Plot) -> Markup:
    """Write the plot as SVG for inside a page, whose colors are the page's: `--ink` and `--c0` to `--c11`."""
    text = _svg(plot).replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    colors = {_INK: "var(--ink, currentColor)"} | {c: f"var(--c{i}, {c})" for i, c in enumerate(COLORS)}
    pattern = re.compile("|".join(colors))
    return Markup(re.sub(r'style="[^"<>]*"', lambda found: pattern.sub(lambda c: colors[c[0]], found[0]), text))


def png(plot: Plot, *, scale: int = 2) -> bytes:
    """Draw the plot as a PNG on white, `scale` pixels per point."""
    return _saved(plot, "png", dpi=72 * scale, facecolor="white")


def pdf(plot: Plot) -> bytes:
    """Write the plot as a PDF with its fonts inside, as wide as a column of a paper needs it."""
    return _saved(plot, "pdf")


def _saved(plot: Plot, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    with _settings():
        plot.figure.savefig(buffer, format=kind, metadata=dates, **options)
    return buffer.getvalue()


def _svg(plot: Plot) -> str:
    """What matplotlib writes, without what would meddle with other plots of a page, and with words for who cannot see it."""
    text = _saved(plot, "svg").decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(
        r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", "", text, flags=re.DOTALL
    )
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r"font: (?:(bold) )?(\S+) '[^\"]*?(?=[;\"])", r"font-size: \2; font-weight: \1", text)
    text = re.sub(r"\s*\n\s*", "\n", text)
    words = f"<title>{escape(_plain(plot.title))}</title><desc>{escape(_plain(plot.description))}</desc>"
    head = '<svg class="plot" role="img" font-family="system-ui, sans-serif" stroke-linejoin="round" '
    return text.replace("<svg ", head, 1).replace(">", ">" + words, 1)
