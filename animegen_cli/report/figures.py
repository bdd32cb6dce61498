"""The plots of a page: curves of training, levels of hierarchies, quality against cost, scores against scores, shares.

A run is known by its name and has the same style in every plot of a page (`plots.styles`).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from animegen_cli.metrics.protocol import Denoising
from animegen_cli.report import plots
from animegen_cli.report.conclusion import UNEQUAL
from animegen_cli.report.numbering import FigurePart, Folded, Numbering, Panel, folded
from animegen_cli.report.plots import Mark, RunShares, Series, Style

if TYPE_CHECKING:
    from animegen_cli.report.columns import Comparison, ScoreColumn
    from animegen_cli.report.records import Record

_ASIDE = {
    "grad_norm": "gradient norms", "ema/": "averaging", "lr/": "learning rates", "loader/": "loading",
    "images_per_second": "images/s",
}  # fmt: skip
"""Parts of the names of logged values that are folded away, and what the plots of them are called."""
_NO_CURVE = {"step", "seconds"}
_OF_DENOISING = ("reference", "reference_split", "n_real", "size", "precision")
"""Fields of a protocol, besides the name, that decide what is denoised."""


@dataclass(frozen=True)
class ScorePair:
    """Two scores to plot against each other.

    `x` and `y` are their names or the first words of them; `runs` names the runs that a line joins, in its order.
    """

    x: str
    y: str
    runs: Sequence[str] = ()


# ---- quality against cost, score against score ------------------------------------------------------------------


def trade_offs(compared: Comparison, numbering: Numbering) -> FigurePart | None:
    """Plot the first main score against the time of training and of drawing and the parameters, side by side.

    What costs all runs about the same, such as the time of training under a budget, explains nothing and is left out.
    """
    columns = compared.main()
    if not columns:
        return None
    column, time = columns[0], compared.time
    devices = {str(r.about["device"]) for r in compared.records if r.about.get("device")}
    on = f" on {devices.pop()}" if len(devices) == 1 else " of the device that it ran on"
    costs: list[tuple[str, str, Sequence[object]]] = [
        ("time", f"{time.measure} (minutes{on})", [seconds and seconds / 60 for seconds in time.seconds]),
        ("sampling", "time to draw 100 faces (s)", [r.drawing.get("seconds_per_100") for r in compared.records]),
        ("parameters", "parameters", [r.parameters for r in compared.records]),
    ]
    panels = []
    for name, label, cost in costs:
        marks = list(_against_cost(compared, column, cost))
        if len(marks) > 1 and max(mark.x for mark in marks) > UNEQUAL * min(mark.x for mark in marks):
            title = f"{column.name} against {label.partition(' (')[0]}"
            panels.append(
                numbering.plot(f"{column.key}-{name}", plots.scatter(marks, title=title, x=label, y=column.name))
            )
    text = f"{column.label} ({column.better} is better) against what it costs; bars are the score’s uncertainty."
    return numbering.figure(panels, text)


def pairs(compared: Comparison, wanted: Sequence[ScorePair], numbering: Numbering) -> Iterator[FigurePart]:
    """Plot two scores against each other, a point per run, the named runs joined by a line in their order."""
    for pair in wanted:
        panels = []
        for x, y in itertools.product(_named(compared, pair.x), _named(compared, pair.y)):
            marks = list(_against_score(compared, x, y))
            line = [place for run in pair.runs for place, mark in enumerate(marks) if mark.run == run]
            if len(marks) > 1:
                label_x, label_y = (f"{c.name}, {c.better} is better" if c.better else c.name for c in (x, y))
                title = f"{y.name} against {x.name}"
                plot = plots.scatter(marks, title=title, x=label_x, y=label_y, joined=line)
                panels.append(numbering.plot(f"{y.key}-against-{x.key}", plot))
        joined = f", joined in the order {', '.join(pair.runs)}" if pair.runs else ""
        text = f"{pair.y} against {pair.x}, a point per run{joined}; bars are their uncertainty."
        if (part := numbering.figure(panels, text)) is not None:
            yield part


def _against_cost(compared: Comparison, column: ScoreColumn, cost: Sequence[object]) -> Iterator[Mark]:
    styles = plots.styles(compared.names)
    for entry, label in zip(compared.entries, compared.labels, strict=True):
        score = entry.scores.get(column.identity)
        x = cost[entry.run]
        if score is not None and isinstance(x, int | float) and x > 0:
            run = compared.names[entry.run]
            yield Mark(label, float(x), score.value, y_interval=score.range, run=run, style=styles[run])


def _against_score(compared: Comparison, x: ScoreColumn, y: ScoreColumn) -> Iterator[Mark]:
    styles = plots.styles(compared.names)
    for entry, label in zip(compared.entries, compared.labels, strict=True):
        across, up = entry.scores.get(x.identity), entry.scores.get(y.identity)
        if across is not None and up is not None:
            run = compared.names[entry.run]
            yield Mark(label, across.value, up.value, across.range, up.range, run, styles[run])


def _named(compared: Comparison, name: str) -> list[ScoreColumn]:
    """Columns of this name, of which all words or the first ones are given."""
    return [column for column in compared.score_columns if f"{column.name}-".startswith(f"{name}-")]


# ---- what eval saw ----------------------------------------------------------------------------------------------


def histograms(records: Sequence[Record], names: Sequence[str], numbering: Numbering) -> FigurePart | None:
    """Plot how often each value of each attribute occurs, real against drawn, all runs of an attribute in one plot."""
    styles = plots.styles(names)
    together: dict[tuple[str, str, tuple[str, ...], tuple[float, ...]], list[RunShares]] = {}
    for name, record in zip(names, records, strict=True):
        for h in record.findings.histograms:
            runs = together.setdefault((h.name, h.by, h.values, h.real), [])
            runs.append(RunShares(name, h.drawn, styles[name]))
    panels = [
        numbering.plot(f"shares-{name}", plots.shares(values, real, runs, title=f"{name}, seen by {by}"))
        for (name, by, values, real), runs in together.items()
    ]
    text = "How often each value occurs: gray bars among the real images, dots among what each run draws."
    return numbering.figure(panels, text)


def denoising(records: Sequence[Record], names: Sequence[str], numbering: Numbering) -> FigurePart | None:
    """Plot how near the images come that runs find behind noise: over its deviation, and over a hierarchy's top levels.

    Scores share a plot where all but the run is equal: the held-out images, their number and the arithmetic.
    """
    together: dict[tuple[str, ...], dict[str, dict[Denoising, float]]] = {}
    for name, record in zip(names, records, strict=True):
        for score in record.scores:
            if (found := Denoising.parse(score.name)) is not None:
                shared = tuple(str(score.protocol.get(field)) for field in _OF_DENOISING)
                together.setdefault(shared, {}).setdefault(name, {})[found] = score.value
    styles, panels = plots.styles(names), []
    for number, runs in enumerate(together.values()):
        mark = f"-{number}" if number else ""
        for measure in dict.fromkeys(one.measure for of_run in runs.values() for one in of_run):
            unit = {"psnr": "PSNR (dB)", "ssim": "SSIM"}.get(measure, measure)
            over_noise = [Series(run, _over_noise(of_run, measure), styles[run]) for run, of_run in runs.items()]
            if measure == "psnr":
                over_noise.append(Series("the noisy images", _noisy(over_noise), Style("#888888", (2, 3))))
            plot = plots.lines(over_noise, title=f"denoised: {unit}", x="deviation of the noise, in [-1, 1]", y=unit)
            panels.append(numbering.plot(f"denoising-{measure}{mark}", plot))
            if over_levels := list(_over_levels(runs, measure, styles)):
                plot = plots.lines(
                    over_levels, title=f"top levels kept: {unit}", x="levels from the noisy image", y=unit
                )
                panels.append(numbering.plot(f"denoising-levels-{measure}{mark}", plot))
    text = "Held-out images behind noise, as the runs find them, against the images themselves: higher is better."
    return numbering.figure(panels, text)


def _over_noise(of_run: Mapping[Denoising, float], measure: str) -> list[tuple[float, float]]:
    return sorted((one.deviation, value) for one, value in of_run.items() if one.measure == measure and not one.levels)


def _noisy(series: Sequence[Series]) -> list[tuple[float, float]]:
    """What noise of each deviation in [-1, 1] costs before anything is done: 10 log10 (2 / deviation)^2 dB."""
    deviations = sorted({deviation for line in series for deviation, _ in line.points})
    return [(deviation, 20 * math.log10(2 / deviation)) for deviation in deviations]


def _over_levels(
    runs: Mapping[str, Mapping[Denoising, float]], measure: str, styles: Mapping[str, Style]
) -> Iterator[Series]:
    """A line per deviation of the only run, or per run at the middle one."""
    for run, of_run in runs.items():
        deviations = sorted({one.deviation for one in of_run if one.measure == measure and one.levels})
        for deviation in deviations if len(runs) == 1 else deviations[len(deviations) // 2 :][:1]:
            points = sorted(
                (float(one.levels), value)
                for one, value in of_run.items()
                if one.measure == measure and one.deviation == deviation and one.levels
            )
            name = f"noise of {deviation:g}" + (f", {run}" if len(runs) > 1 else "")
            yield Series(name, points, styles[run] if len(runs) > 1 else None)


# ---- training ---------------------------------------------------------------------------------------------------


def levels(records: Sequence[Record], names: Sequence[str], numbering: Numbering) -> FigurePart | None:
    """Plot what each level of a hierarchy carries at the end, from values logged as `name_00`, `name_01`, ..., a line per run."""
    styles = plots.styles(names)
    kinds: dict[str, list[Series]] = {}
    for run, record in zip(names, records, strict=True):
        for kind, keys in _levels([*record.curves]).items():
            points = [(float(key[-2:]), record.curves[key][-1][1]) for key in keys]
            kinds.setdefault(kind, []).append(Series(run, points, styles[run]))
    panels = []
    for kind, series in kinds.items():
        y = f"{kind.split('/')[-1]} (nats)"
        plot = plots.lines(series, title=f"{kind} per level", x="level, coarsest first", y=y)
        panels.append(numbering.plot(f"levels-{kind}", plot))
    return numbering.figure(panels, "What each latent level carries at the end: levels near zero have collapsed.")


def _levels(keys: Sequence[str]) -> dict[str, list[str]]:
    """Logged values that belong to the levels of one thing, by its name; validation ones aside."""
    found: dict[str, list[str]] = {}
    for key in keys:
        if _is_level(key) and not key.startswith("validation/"):
            found.setdefault(key[:-3], []).append(key)
    return {name: sorted(of_levels) for name, of_levels in found.items()}


def _is_level(key: str) -> bool:
    return re.fullmatch(r".+_\d\d", key) is not None


def curves(records: Sequence[Record], names: Sequence[str], numbering: Numbering) -> list[FigurePart | Folded]:
    """Plot each logged value over images seen, a line per run: losses and validation first.

    Runs share a plot of a loss where their families say that it is the same quantity; what one of several runs has logged
    alone is on its own page. Folded away is what a phase logs beside its first loss and, of a single run, its speed, learning
    rates and gradients, a plot for each kind.
    """
    logged = dict.fromkeys(key for record in records for key, points in record.curves.items() if len(points) > 1)
    keys = [key for key in logged if key not in _NO_CURVE and not _is_level(key)]  # `levels` shows those
    aside = {key: next(kind for kind in _ASIDE if kind in key) for key in keys if any(kind in key for kind in _ASIDE)}
    found = [curve for key in keys if key not in aside and "/" in key for curve in _alike(key, records)]
    shared = [curve for curve in found if len(curve.runs) > 1 or len(records) == 1]
    shared.sort(key=lambda curve: curve.key.startswith("validation/"))
    text = "Losses and validation scores over images seen, smoothed; of few runs the single values too, faint."
    if len(shared) < len(found):
        text += " Losses that no other run shares are in each run’s own report.html."
    phases: dict[str, str] = {}
    for curve in shared:
        phases.setdefault(curve.key.partition("/")[0], curve.key)
    first = [curve for curve in shared if curve.key.startswith("validation/") or curve.key in phases.values()]
    others = [curve for curve in shared if curve not in first]
    main = numbering.figure([_curve(curve, records, names, numbering) for curve in first], text)
    beside = numbering.figure([_curve(c, records, names, numbering) for c in others], "What else the phases logged.")
    kinds = dict.fromkeys(aside.values()) if len(records) == 1 else ()
    panels = [_of_a_kind(kind, [key for key in aside if aside[key] == kind], records[0], numbering) for kind in kinds]
    rates = folded(
        "Speed, learning rates and gradients", numbering.figure(panels, "How training went beside its losses.")
    )
    parts = (main, folded("What else was logged", beside), rates)
    return [part for part in parts if part is not None]


def _of_a_kind(kind: str, keys: Sequence[str], record: Record, numbering: Numbering) -> Panel:
    """Logged values of one kind, such as all learning rates, in one plot."""
    title = _ASIDE[kind]
    series = [Series(key.replace(kind, "").strip("/") or title, record.curves[key]) for key in keys]
    return numbering.plot(f"curve-{title}", plots.lines(series, title=title))


class _Curve(NamedTuple):
    """A logged value, and the runs (by place) that share its plot."""

    key: str
    runs: list[int]
    part: int = 0
    """Which of the plots of this name it is."""


def _alike(key: str, records: Sequence[Record]) -> list[_Curve]:
    """The plots of one logged value: one for each quantity that it is."""
    together: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        if key in record.curves:
            together.setdefault(record.quantity(key), []).append(place)
    return [_Curve(key, runs, part) for part, runs in enumerate(together.values())]


def _curve(curve: _Curve, records: Sequence[Record], names: Sequence[str], numbering: Numbering) -> Panel:
    key, styles = curve.key, plots.styles(names)
    series = [Series(names[place], records[place].curves[key], styles[names[place]]) for place in curve.runs]
    longest = max(len(line.points) for line in series)
    smooth = 0.0 if longest < 60 else min(0.98, 1 - 40 / longest)
    plot = plots.lines(series, title=key, y=key.split("/", 1)[-1], smooth=smooth)
    return numbering.plot(f"curve-{key}" + (f"-{curve.part + 1}" if curve.part else ""), plot)
