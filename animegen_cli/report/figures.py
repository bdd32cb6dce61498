"""The plots of a page: curves of training, levels of hierarchies, quality against cost, scores against scores, shares."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from animegen_cli.report import plots
from animegen_cli.report.book import Book
from animegen_cli.report.markup import Markup, el
from animegen_cli.report.measures import Comparison, Entry, Measure
from animegen_cli.report.plots import Mark, Series
from animegen_cli.report.records import Record
from animegen_cli.report.shapes import Drawing

_ASIDE = ("grad_norm", "ema/", "lr/", "loader/", "images_per_second")
_NO_CURVE = {"step", "seconds"}
_NARROW = (372, 300)
"""Of plots that stand three in a row."""

Pair = tuple[str, str] | tuple[str, str, str]
"""Names of two scores, for x and y, and the setting (such as `model.beta`) in whose order the runs are joined."""


# ---- quality against cost, score against score ------------------------------------------------------------------


def trade_offs(compared: Comparison, book: Book, most: int = 2) -> Iterator[Markup]:
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
                    book.plot(f"{measure.key}-{name}", _scatter(marks, title, label, measure.name, size=_NARROW))
                )
        if drawn:
            text = (
                f"{measure.label} ({measure.better} is better) against what it costs; bars are the score’s uncertainty."
            )
            yield book.figure(drawn, text, class_="trio")


def pairs(compared: Comparison, wanted: Sequence[Pair], book: Book) -> list[Markup]:
    """Two scores against each other over the runs, joined in the order of a setting where one is named."""
    drawn, orders = [], []
    for name_x, name_y, *setting in wanted:
        found = [(x, y) for x in _named(compared, name_x) for y in _named(compared, name_y)]
        for x, y in found:
            marks = list(_crossed(compared, x, y, setting[0] if setting else None))
            if len(marks) > 1:
                label_x, label_y = (f"{m.name}, {m.better} is better" if m.better else m.name for m in (x, y))
                plot = _scatter(marks, f"{y.name} against {x.name}", label_x, label_y, joined=bool(setting))
                drawn.append(book.plot(f"{y.key}-against-{x.key}", plot))
                orders += [order for order in setting if order not in orders]
    if not drawn:
        return []
    joined = f", joined in the order of {', '.join(orders)}" if orders else ""
    return [book.figure(drawn, f"Scores against each other over the runs{joined}; bars are their uncertainty.")]


def _against(compared: Comparison, measure: Measure, cost: Callable[[Record], Any]) -> Iterator[Mark]:
    for entry, label in zip(compared.entries, compared.labels, strict=True):
        score, x = entry.scores.get(measure.identity), cost(compared.records[entry.run])
        if score is not None and isinstance(x, (int, float)) and x > 0:
            low, high = score.range or (None, None)
            yield Mark(label, float(x), score.value, low, high, ink=entry.run)


def _crossed(compared: Comparison, x: Measure, y: Measure, setting: str | None) -> Iterator[Mark]:
    both = [
        (entry, label)
        for entry, label in zip(compared.entries, compared.labels, strict=True)
        if x.identity in entry.scores and y.identity in entry.scores
    ]
    if setting is not None:
        both.sort(key=lambda pair: _order(_setting(compared, pair[0], setting)))
    for entry, label in both:
        one, other = entry.scores[x.identity], entry.scores[y.identity]
        low, high = other.range or (None, None)
        told = f"{label}, {setting.rpartition('.')[2]} {_setting(compared, entry, setting)}" if setting else label
        yield Mark(told, one.value, other.value, low, high, ink=entry.run, across=one.range)


def _setting(compared: Comparison, entry: Entry, dotted: str) -> Any:
    """A value of the run's config by its dotted name; None where it has none."""
    found: Any = compared.records[entry.run].config
    for part in dotted.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then words, then nothing."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, float(value), "") if number else (2 if value is None else 1, 0.0, str(value))


def _named(compared: Comparison, name: str) -> list[Measure]:
    return [measure for measure in compared.measures if name in (measure.name, measure.key)]


def _scatter(
    marks: Sequence[Mark], title: str, x: str, y: str, *, joined: bool = False, size: tuple[int, int] = plots.SIZE
) -> Drawing:
    log_x, log_y = _spread([mark.x for mark in marks]), _spread([mark.y for mark in marks])
    return plots.scatter(marks, title=title, x=x, y=y, log_x=log_x, log_y=log_y, joined=joined, size=size)


def _hours(seconds: Any) -> float | None:
    return seconds / 3600 if isinstance(seconds, (int, float)) else None


# ---- what eval saw ----------------------------------------------------------------------------------------------


def histograms(found: Sequence[Record], names: Sequence[str], book: Book) -> Markup | None:
    """How often each value of each attribute occurs, real against drawn, all runs of an attribute in one plot."""
    together: dict[tuple[Any, ...], list[tuple[str, Sequence[float], int]]] = {}
    for ink, (name, record) in enumerate(zip(names, found, strict=True)):
        for h in record.judged.histograms:
            together.setdefault((h.name, h.by, h.values, h.real), []).append((name, h.drawn, ink))
    drawn = [
        book.plot(f"shares-{name}", plots.shares(values, real, runs, title=f"{name}, seen by {by}"))
        for (name, by, values, real), runs in together.items()
    ]
    if not drawn:
        return None
    text = "How often each value occurs: grey bars among the real images, dots among what each run draws."
    return book.figure(drawn, text)


# ---- training ---------------------------------------------------------------------------------------------------


def levels(found: Sequence[Record], names: Sequence[str], book: Book) -> Markup | None:
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
        shown.append(book.plot(f"levels-{name}", plot))
    if not shown:
        return None
    return book.figure(shown, "What each latent level carries at the end: levels near zero have collapsed.")


def _levels(keys: Sequence[str]) -> dict[str, list[str]]:
    """Logged values that belong to the levels of one thing, by its name; validation ones aside."""
    found: dict[str, list[str]] = {}
    for key in keys:
        if re.fullmatch(r".+_\d\d", key) and not key.startswith("validation/"):
            found.setdefault(key[:-3], []).append(key)
    return {name: sorted(of_levels) for name, of_levels in found.items()}


def curves(found: Sequence[Record], names: Sequence[str], book: Book) -> list[Markup]:
    """A plot per logged value, with a line per run: losses and validation first, the rest folded away."""
    keys = [key for key in dict.fromkeys(k for record in found for k in record.curves) if key not in _NO_CURVE]
    keys = [key for key in keys if not re.fullmatch(r".+_\d\d", key)]  # `levels` shows these
    aside = [key for key in keys if any(part in key for part in _ASIDE) or "/" not in key]
    main = sorted((key for key in keys if key not in aside), key=lambda key: key.startswith("validation/"))
    parts = []
    if main:
        text = "Losses and validation scores over images seen, smoothed; of few runs the single values too, faint."
        parts.append(book.figure([_curve(key, found, names, book) for key in main], text))
    if aside:
        drawn = el("div", *(_curve(key, found, names, book) for key in aside), class_="pair")
        parts.append(el("details", el("summary", "Speed, learning rates and gradients"), drawn))
    return parts


def _curve(key: str, found: Sequence[Record], names: Sequence[str], book: Book) -> Markup:
    series = [
        Series(name, record.curves[key], ink=i)
        for i, (name, record) in enumerate(zip(names, found, strict=True))
        if key in record.curves
    ]
    log = _spread([value for line in series for _, value in line.points])
    longest = max(len(line.points) for line in series)
    smooth = 0.0 if longest < 60 else min(0.98, 1 - 40 / longest)
    return book.plot(f"curve-{key}", plots.lines(series, title=key, y=key.split("/", 1)[-1], log=log, smooth=smooth))


def _spread(values: Sequence[float]) -> bool:
    """Whether values need a logarithmic axis to be told apart."""
    return min(values) > 0 and max(values) > 20 * min(values)
