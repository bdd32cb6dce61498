"""The answer first: which run is best by which score, how sure that is, what it costs, and what speaks against it.

Built on the marks of the quality table (`Cell.best`, `Cell.tied`), so the page never says more than its tables do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from animegen_cli.report.columns import Comparison, ScoreColumn
from animegen_cli.report.markup import Markup, el, join
from animegen_cli.report.tables import ARROWS, DASH, Cell, Column, Table, measured
from animegen_cli.report.units import amount, duration

if TYPE_CHECKING:
    from animegen_cli.report.records import Record

UNEQUAL = 1.5
"""Ratio of training times from which runs were not trained at equal cost."""

_NBSP = "\N{NO-BREAK SPACE}"


class _Place(NamedTuple):
    """Of a main column: the best row of the quality table, the rows that are not significantly different, and the rest."""

    column: ScoreColumn
    best: int
    tied: list[int]
    worse: list[int]
    unsure: bool
    """Some value has no uncertainty, so whether it differs significantly is not known."""


def _places(compared: Comparison) -> list[_Place]:
    found = []
    for column in compared.main():
        cells = compared.cells(column)
        best = next((i for i, cell in enumerate(cells) if cell.best), None)
        if best is None or len({cell.value for cell in cells if cell.value is not None}) == 1:
            continue  # what is equal for all decides nothing
        scores = [entry.scores.get(column.identity) for entry in compared.entries]
        tied = [i for i, cell in enumerate(cells) if i != best and (cell.tied or cell.best)]
        worse = [i for i, cell in enumerate(cells) if i != best and i not in tied and cell.value is not None]
        unsure = any(score is not None and score.std is None for score in scores)
        found.append(_Place(column, best, tied, worse, unsure))
    return found


def table(compared: Comparison) -> Table | None:
    """Name the best run by each main score, its uncertainty, its rivals and its cost; None where nothing is ranked."""
    columns = (
        Column("score", "score", right=False),
        Column("best", "best", right=False),
        Column("value", "value"),
        Column("tied", "not significantly different", right=False),
        Column("seconds", "training time"),
        Column("seconds_per_100", "100 faces"),
        Column("parameters", "parameters"),
    )
    rows = []
    for place in _places(compared):
        record = compared.records[compared.entries[place.best].run]
        rivals = [compared.labels[i] for i in place.tied]
        arrow = ARROWS[place.column.better].replace(" ", _NBSP)
        none = "not known" if place.unsure and place.worse else "none"
        value = compared.cells(place.column)[place.best]
        rows.append(
            (
                Cell(f"{place.column.label}{arrow}", place.column.label),
                Cell(compared.labels[place.best], compared.labels[place.best]),
                Cell(value.text, value.value),
                Cell(", ".join(rivals) or none, rivals),
                *_cost(record),
            )
        )
    return Table("Best by each main score", columns, tuple(rows)) if rows else None


def _cost(record: Record) -> tuple[Cell, Cell, Cell]:
    """Seconds of training, seconds to draw 100 faces, and parameters."""
    return (
        measured(record.about.get("seconds"), duration),
        measured(record.drawing.get("seconds_per_100"), duration),
        measured(record.parameters, amount),
    )


# ---- in words ---------------------------------------------------------------------------------------------------


def words(compared: Comparison) -> list[Markup]:
    """Put the conclusion in two or three paragraphs."""
    places = _places(compared)
    if not places:
        scored = sum(bool(entry.scores) for entry in compared.entries)
        why = "no run has scores" if not scored else "there are not two rows with a score of one protocol"
        return [el("p", f"There is no verdict yet: {why}.", class_="lead")]
    paragraphs = [el("p", *_best(compared, places[0]), class_="lead")]
    if len(places) > 1:
        paragraphs.append(el("p", *_overall(compared, places)))
    paragraphs += [el("p", text) for text in _costs(compared, places[0])]
    return paragraphs


def _best(compared: Comparison, place: _Place) -> Iterator[Markup | str]:
    column = place.column
    best = el("b", compared.labels[place.best])
    value = compared.cells(column)[place.best].text
    yield join("By ", column.label, f", the first of the scores here ({column.better} is better), ", best)
    trainings = len(compared.entries[place.best].scores[column.identity].trainings)
    mean = f" (the mean of {trainings} training seeds)" if trainings else ""
    yield f" is best with {value.replace(' ', _NBSP)}{mean}. "
    if place.tied:
        yield join("Not significantly different: ", *_listed([compared.labels[i] for i in place.tied]), ". ")
    if not place.worse:
        return
    if place.unsure:
        yield "How sure the other differences are is not known: values without an uncertainty cannot be tested."
    elif place.tied:
        yield "All others are significantly worse."
    else:
        yield "All others are significantly worse." if len(place.worse) > 1 else "The other is significantly worse."


def _overall(compared: Comparison, places: Sequence[_Place]) -> Iterator[Markup | str]:
    wins = {i: sum(i == p.best or i in p.tied for p in places) for i in range(len(compared.entries))}
    order = sorted((i for i in wins if wins[i]), key=lambda i: -wins[i])
    yield f"Of the {len(places)} main scores, "
    for turn, i in enumerate(order):
        said = " is best, or not significantly worse than the best, by " if not turn else " by "
        yield join(", " if turn else None, el("b", compared.labels[i]), said, wins[i])
    never = [compared.labels[i] for i in wins if not wins[i] and compared.entries[i].scores]
    yield join(", ", *_listed(never), " by none." if never else None) if never else "."


def _costs(compared: Comparison, place: _Place) -> Iterator[str]:
    costs = {i: _cost(compared.records[compared.entries[i].run]) for i in (place.best, *place.tied)}
    of_best = costs[place.best]
    templates = ("took {} to train", "needs {} for 100 faces", "has {} parameters")
    known = [said.format(cell.text) for said, cell in zip(templates, of_best, strict=True) if cell.text != DASH]
    if not known:
        return
    text = f"{compared.labels[place.best]} {_and(known)}."
    for kind, what in enumerate(("quickest to train", "quickest to draw")):
        if of_best[kind].value is None:
            continue
        cheap = min((i for i in costs if costs[i][kind].value is not None), key=lambda i: costs[i][kind].value)
        if cheap != place.best:
            said = f"{compared.labels[cheap]} is the {what} ({costs[cheap][kind].text})"
            text += f" Of those that do not differ significantly, {said}."
    yield text


def _listed(names: Sequence[str]) -> Iterator[Markup]:
    """Names in bold with commas between them."""
    for i, name in enumerate(names):
        yield join(", " if i else None, el("b", name))


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


# ---- what speaks against it -------------------------------------------------------------------------------------


def doubts(compared: Comparison) -> list[str]:
    """Say why the conclusion may be wrong, a sentence each; what files and the doctor say comes first."""
    found = [
        text if text.startswith((*compared.names, "/", ".")) else text[:1].upper() + text[1:]
        for text in compared.warnings
    ]
    names = dict(zip(compared.names, compared.records, strict=True))
    found += [f"{name}: {r.config['warning']}" for name, r in names.items() if r.config.get("warning")]
    halves = [f"{name} ({r.state})" for name, r in names.items() if r.state != "finished"]
    if halves:
        found.append(f"Not trained to the end: {', '.join(halves)}.")
    if compared.todo:
        found.append(f"Not scored: {', '.join(compared.todo)}.")
    places = _places(compared)
    if places:
        score_columns = [place.column for place in places]
        found += [
            *_of_protocols(compared, score_columns),
            *_of_draws(compared, score_columns),
            *_of_trainings({n: r for n, r in names.items() if r.scores}),
        ]
    return found


def _of_protocols(compared: Comparison, score_columns: Sequence[ScoreColumn]) -> Iterator[str]:
    own = [m.label for m in score_columns if m.metric == "fd" and m.protocol.get("extractor")]
    if own:
        yield f"Not to be set beside published FIDs, which look through Inception: {', '.join(own)}."
    names = [column.name for column in compared.score_columns]
    split = sorted({name for name in names if names.count(name) > 1})
    if split:
        yield f"Measured under different protocols, so compared only within a column: {', '.join(split)}."


def _of_draws(compared: Comparison, score_columns: Sequence[ScoreColumn]) -> Iterator[str]:
    once, bare = [], []
    for m in score_columns:
        scores = [entry.scores[m.identity] for entry in compared.entries if m.identity in entry.scores]
        if any(score.std is None for score in scores):
            bare.append(m.label)
        elif any(len(s.values) < 2 and not s.trainings and s.protocol.get("seeds") for s in scores):
            once.append(m.label)
    if once:
        every = "every score" if len(once) == len(score_columns) else ", ".join(once)
        yield f"One range of seeds: {every} from a single draw; its ± does not hold what another draw would change."
    if bare:
        yield f"No uncertainty is known of {', '.join(bare)}."


def _of_trainings(names: Mapping[str, Record]) -> Iterator[str]:
    alike: dict[str, dict[str, list[str]]] = {}
    for name, record in names.items():
        if not record.trainings:
            setting, seed = _setting_and_seed(record.config)
            alike.setdefault(setting, {}).setdefault(seed, []).append(name)
    single = [name for by_seed in alike.values() if len(by_seed) == 1 for same in by_seed.values() for name in same]
    if single:
        which = "every setting" if len(single) == len(names) else ", ".join(single)
        yield f"One training seed: {which} was trained once, and how far another training would differ is not known."
    took = {n: float(s) for n, r in names.items() if isinstance(s := r.about.get("seconds"), (int, float)) and s > 0}
    if took and max(took.values()) > UNEQUAL * min(took.values()):
        low, high = min(took, key=lambda n: took[n]), max(took, key=lambda n: took[n])
        yield f"Not at equal cost: training took from {duration(took[low])} ({low}) to {duration(took[high])} ({high})."


def _setting_and_seed(config: Mapping[str, Any]) -> tuple[str, str]:
    """A run's settings but for its training seed, and that seed."""
    train = config.get("train")
    rest = dict(train) if isinstance(train, Mapping) else {}
    seed = rest.pop("seed", None)
    return json.dumps({**config, "train": rest}, sort_keys=True, default=str), str(seed)
