"""The plots of a page: curves of training, levels of hierarchies, quality against cost, scores against scores, shares."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from animegen_cli.report import plots
from animegen_cli.report.markup import Markup, el
from animegen_cli.report.plots import Mark, Series

if TYPE_CHECKING:
    from animegen_cli.report.canvas import Drawing
    from animegen_cli.report.columns import Comparison, Measure
    from animegen_cli.report.numbering import Numbering
    from animegen_cli.report.records import Record

_ASIDE = ("grad_norm", "ema/", "lr/", "loader/", "images_per_second")
_NO_CURVE = {"step", "seconds"}
_NARROW = (372, 300)
"""Of plots that stand three in a row."""

Pair = Mapping[str, Any]
"""Two scores to plot against each other: `x` and `y`, their names or first words, and `runs`, those that a line joins,
in its order."""


# ---- quality against cost, score against score ------------------------------------------------------------------


def trade_offs(compared: Comparison, numbering: Numbering, most: int = 2) -> Iterator[Markup]:
    """The first main scores against hours of training, seconds of sampling and parameters, a figure per score."""
    devices = {str(r.about["device"]) for r in compared.records if r.about.get("device")}
    on = f" on {devices.pop()}" if len(devices) == 1 else " of the device that it ran on"
    costs: list[tuple[str, str, Callable[[Record], Any]]] = [
        ("hours", f"training time (hours{on})", lambda r: _hours(r.about.get("seconds"))),
        ("sampling", "time to draw 100 faces (s)", lambda r: r.drawing.get("seconds_per_100")),
        ("parameters", "parameters", lambda r: r.parameters),
    ]
    for measure in compared.main()[:most]:
        drawn = []
        for name, label, cost in costs:
            marks = list(_against(compared, measure, cost))
            if len(marks) > 1:
                title = f"{measure.name} against {label.partition(' (')[0]}"
                drawn.append(
                    numbering.plot(f"{measure.key}-{name}", _scatter(marks, title, label, measure.name, size=_NARROW))
                )
        if drawn:
            text = (
                f"{measure.label} ({measure.better} is better) against what it costs; bars are the score’s uncertainty."
            )
            yield numbering.figure(drawn, text, class_="trio")


def pairs(compared: Comparison, wanted: Sequence[Pair], numbering: Numbering) -> Iterator[Markup]:
    """Two scores against each other, a point per run, the named runs joined by a line in their order."""
    for pair in wanted:
        drawn = []
        for x, y in itertools.product(_named(compared, pair["x"]), _named(compared, pair["y"])):
            marks = list(_crossed(compared, x, y))
            line = [i for run in pair["runs"] for i, mark in enumerate(marks) if compared.names[mark.ink or 0] == run]
            if len(marks) > 1:
                label_x, label_y = (f"{m.name}, {m.better} is better" if m.better else m.name for m in (x, y))
                plot = _scatter(marks, f"{y.name} against {x.name}", label_x, label_y, joined=line)
                drawn.append(numbering.plot(f"{y.key}-against-{x.key}", plot))
        if drawn:
            joined = f", joined in the order {', '.join(pair['runs'])}" if pair["runs"] else ""
            text = f"{pair['y']} against {pair['x']}, a point per run{joined}; bars are their uncertainty."
            yield numbering.figure(drawn, text)


def _against(compared: Comparison, measure: Measure, cost: Callable[[Record], Any]) -> Iterator[Mark]:
    for entry, label in zip(compared.entries, compared.labels, strict=True):
        score, x = entry.scores.get(measure.identity), cost(compared.records[entry.run])
        if score is not None and isinstance(x, (int, float)) and x > 0:
            low, high = score.range or (None, None)
            yield Mark(label, float(x), score.value, low, high, ink=entry.run)


def _crossed(compared: Comparison, x: Measure, y: Measure) -> Iterator[Mark]:
    for entry, label in zip(compared.entries, compared.labels, strict=True):
        one, other = entry.scores.get(x.identity), entry.scores.get(y.identity)
        if one is not None and other is not None:
            low, high = other.range or (None, None)
            yield Mark(label, one.value, other.value, low, high, ink=entry.run, across=one.range)


def _named(compared: Comparison, name: str) -> list[Measure]:
    """Measures of this name, of which all words or the first ones are given."""
    return [measure for measure in compared.measures if f"{measure.name}-".startswith(f"{name}-")]


def _scatter(
    marks: Sequence[Mark], title: str, x: str, y: str, *, joined: Sequence[int] = (), size: tuple[int, int] = plots.SIZE
) -> Drawing:
    log_x, log_y = _spread([mark.x for mark in marks]), _spread([mark.y for mark in marks])
    return plots.scatter(marks, title=title, x=x, y=y, log_x=log_x, log_y=log_y, joined=joined, size=size)


def _hours(seconds: Any) -> float | None:
    return seconds / 3600 if isinstance(seconds, (int, float)) else None


# ---- what eval saw ----------------------------------------------------------------------------------------------


def histograms(found: Sequence[Record], names: Sequence[str], numbering: Numbering) -> Markup | None:
    """How often each value of each attribute occurs, real against drawn, all runs of an attribute in one plot."""
    together: dict[tuple[Any, ...], list[tuple[str, Sequence[float], int]]] = {}
    for ink, (name, record) in enumerate(zip(names, found, strict=True)):
        for h in record.judged.histograms:
            together.setdefault((h.name, h.by, h.values, h.real), []).append((name, h.drawn, ink))
    drawn = [
        numbering.plot(f"shares-{name}", plots.shares(values, real, runs, title=f"{name}, seen by {by}"))
        for (name, by, values, real), runs in together.items()
    ]
    if not drawn:
        return None
    text = "How often each value occurs: grey bars among the real images, dots among what each run draws."
    return numbering.figure(drawn, text)


# ---- training ---------------------------------------------------------------------------------------------------


def levels(found: Sequence[Record], names: Sequence[str], numbering: Numbering) -> Markup | None:
    """What each level of a hierarchy carries, from values that are logged as `name_00`, `name_01`, ...: bars of one
    run, lines of several."""
    kinds: dict[str, list[tuple[int, str, list[tuple[str, float]]]]] = {}
    for ink, (run, record) in enumerate(zip(names, found, strict=True)):
        for name, keys in _levels([*record.curves]).items():
            latest = [(str(int(key[-2:])), record.curves[key][-1][1]) for key in keys]
            kinds.setdefault(name, []).append((ink, run, latest))
    shown = []
    for name, of_runs in kinds.items():
        what, x = name.split("/")[-1], "level, coarsest first"
        if len(found) == 1:
            plot = plots.bars(of_runs[0][2], title=f"{name} per level", x=x, y=f"{what} (nats)")
        else:
            series = [Series(run, [(float(n), v) for n, v in latest], ink) for ink, run, latest in of_runs]
            plot = plots.lines(series, title=f"{name} per level", x=x, y=f"{what} (nats)")
        shown.append(numbering.plot(f"levels-{name}", plot))
    if not shown:
        return None
    return numbering.figure(shown, "What each latent level carries at the end: levels near zero have collapsed.")


def _levels(keys: Sequence[str]) -> dict[str, list[str]]:
    """Logged values that belong to the levels of one thing, by its name; validation ones aside."""
    found: dict[str, list[str]] = {}
    for key in keys:
        if re.fullmatch(r".+_\d\d", key) and not key.startswith("validation/"):
            found.setdefault(key[:-3], []).append(key)
    return {name: sorted(of_levels) for name, of_levels in found.items()}


def curves(found: Sequence[Record], names: Sequence[str], numbering: Numbering) -> list[Markup]:
    """A plot per logged value, with a line per run: losses and validation first; the rest folded away, and of several
    runs what one alone has logged."""
    keys = [key for key in dict.fromkeys(k for record in found for k in record.curves) if key not in _NO_CURVE]
    keys = [key for key in keys if not re.fullmatch(r".+_\d\d", key)]  # `levels` shows these
    aside = [key for key in keys if any(part in key for part in _ASIDE) or "/" not in key]
    single = [key for key in keys if key not in aside and len(found) > 1 == sum(key in r.curves for r in found)]
    main = [key for key in keys if key not in aside and key not in single]
    parts = []
    if main:
        text = "Losses and validation scores over images seen, smoothed; of few runs the single values too, faint."
        main.sort(key=lambda key: key.startswith("validation/"))
        parts.append(numbering.figure([_curve(key, found, names, numbering) for key in main], text))
    for title, folded in (("What single runs logged", single), ("Speed, learning rates and gradients", aside)):
        if folded:
            drawn = el("div", *(_curve(key, found, names, numbering) for key in folded), class_="pair")
            parts.append(el("details", el("summary", title), drawn))
    return parts


def _curve(key: str, found: Sequence[Record], names: Sequence[str], numbering: Numbering) -> Markup:
    series = [
        Series(name, record.curves[key], ink=i)
        for i, (name, record) in enumerate(zip(names, found, strict=True))
        if key in record.curves
    ]
    log = _spread([value for line in series for _, value in line.points])
    longest = max(len(line.points) for line in series)
    smooth = 0.0 if longest < 60 else min(0.98, 1 - 40 / longest)
    return numbering.plot(
        f"curve-{key}", plots.lines(series, title=key, y=key.split("/", 1)[-1], log=log, smooth=smooth)
    )


def _spread(values: Sequence[float]) -> bool:
    """Whether values need a logarithmic axis to be told apart."""
    return min(values) > 0 and max(values) > 20 * min(values)
