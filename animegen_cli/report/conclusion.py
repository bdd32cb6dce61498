"""The answer first: which run is best by which score, how sure that is, what it costs, and what speaks against it.

Built on the marks of the quality table (`Cell.best`, `Cell.tied`), so the page never says more than its tables do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup, escape

from animegen_cli.report.columns import Comparison, ScoreColumn
from animegen_cli.report.tables import ARROWS, DASH, Cell, Column, Table, measured
from animegen_cli.report.units import amount, cut, duration

if TYPE_CHECKING:
    from animegen_cli.report.records import Record

UNEQUAL = 1.5
"""Ratio of costs, such as training times, from which runs were not at equal cost."""

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
        if len({e.run for e in compared.entries if column.identity in e.scores}) == 1 < len(compared.records):
            continue  # ways to draw of one run say nothing of the others
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
        Column("seconds", compared.time.measure),
        Column("seconds_per_100", "100 faces"),
        Column("parameters", "parameters"),
    )
    rows = []
    for place in _places(compared):
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
                *_cost(compared, compared.entries[place.best].run),
            )
        )
    return Table("Best by each main score", columns, tuple(rows)) if rows else None


def _cost(compared: Comparison, run: int) -> tuple[Cell, Cell, Cell]:
    """Seconds of training, seconds to draw 100 faces, and parameters."""
    record = compared.records[run]
    return (
        measured(compared.time.seconds[run], duration),
        measured(record.drawing.get("seconds_per_100"), duration),
        measured(record.parameters, amount),
    )


# ---- in words ---------------------------------------------------------------------------------------------------


def sentence(compared: Comparison, flaws: Mapping[int, Sequence[str]] | None = None) -> Markup:
    """Say in one sentence which run to choose; `flaws` are what is wrong with the pictures of runs, by their places."""
    places = _places(compared)
    if not places:
        bare = not any(entry.scores for entry in compared.entries)
        why = "no run has scores" if bare else "no two runs have a score of one protocol"
        return Markup("No verdict yet: {}.").format(why)
    place = places[0]
    value = f"{place.column.name} {compared.cells(place.column)[place.best].text}".replace(" ", _NBSP)
    labels = [cut(label, 44) for label in compared.labels]
    best = _bold(labels[place.best])
    if wrong := (flaws or {}).get(compared.entries[place.best].run):
        return Markup("{} scores best, {}, but look before you choose it: {}.").format(best, value, ", ".join(wrong))
    tied = [labels[i] for i in place.tied]
    if place.unsure:
        text = "{} has the best {}; how sure that is is not known, since not every value has an uncertainty."
        return Markup(text).format(best, value)
    scored = {compared.entries[i].run for i in (place.best, *place.tied, *place.worse)}
    every = "every other is" if len(scored) == len(compared.records) else "every other that has this score is"
    others = every if len(place.worse) > 1 else f"{labels[place.worse[0]]} is" if place.worse else ""
    worse = f"; {others} significantly worse" if others else ""
    if not tied:
        return Markup("Choose {}. {}{}.").format(best, value, worse)
    values = _and([compared.cells(place.column)[i].text.replace(" ", _NBSP) for i in (place.best, *place.tied)])
    text = "Choose {} or {}. {} {} are not significantly different{}."
    return Markup(text).format(best, _listed(tied), place.column.name, values, worse)


def details(compared: Comparison) -> list[Markup]:
    """Say in a paragraph or two how the other main scores see it, and what the best runs cost."""
    places = _places(compared)
    if not places:
        return []
    first = places[0]
    scores = [entry.scores.get(first.column.identity) for entry in compared.entries]
    trainings = max((len(score.trainings) for score in scores if score is not None), default=0)
    means = f" Scores are means of up to {trainings} training seeds." if trainings else ""
    said = f"Decided by {first.column.label}, the first of the scores here ({first.column.better} is better).{means}"
    if len(places) > 1:
        return [Markup("{} {}").format(said, _overall(compared, places)), *map(escape, _costs(compared, first))]
    return [escape(said), *map(escape, _costs(compared, first))]


def _overall(compared: Comparison, places: Sequence[_Place]) -> Markup:
    wins = {i: sum(i == p.best or i in p.tied for p in places) for i in range(len(compared.entries))}
    order = sorted((i for i in wins if wins[i]), key=lambda i: -wins[i])
    counted = [
        Markup("{} {}by {}").format(
            _bold(compared.labels[i]), "" if turn else "is best, or not significantly worse than the best, ", wins[i]
        )
        for turn, i in enumerate(order)
    ]
    if never := [compared.labels[i] for i in wins if not wins[i] and compared.entries[i].scores]:
        counted.append(Markup("{} by none").format(_listed(never)))
    return Markup("Of the {} main scores, {}.").format(len(places), Markup(", ").join(counted))


def _costs(compared: Comparison, place: _Place) -> Iterator[str]:
    costs = {i: _cost(compared, compared.entries[i].run) for i in (place.best, *place.tied)}
    of_best = costs[place.best]
    templates = ("took {} to train", "needs {} for 100 faces", "has {} parameters")
    known = [said.format(cell.text) for said, cell in zip(templates, of_best, strict=True) if cell.text != DASH]
    if not known:
        return
    text = f"{compared.labels[place.best]} {_and(known)}."
    cheaper = []
    for kind, what in enumerate(("quickest to train", "quickest to draw")):
        if of_best[kind].value is None:
            continue
        cheap = min((i for i in costs if costs[i][kind].value is not None), key=lambda i: costs[i][kind].value)
        if cheap != place.best:
            cheaper.append(f"{compared.labels[cheap]} is the {what} ({costs[cheap][kind].text})")
    yield text + (f" Of those that do not differ significantly, {' and '.join(cheaper)}." if cheaper else "")


def _bold(name: str) -> Markup:
    return Markup("<b>{}</b>").format(name)


def _listed(names: Sequence[str]) -> Markup:
    """Names in bold with commas between them."""
    return Markup(", ").join(map(_bold, names))


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


# ---- what speaks against it -------------------------------------------------------------------------------------


def doubts(compared: Comparison, flaws: Mapping[int, Sequence[str]] | None = None) -> list[str]:
    """Say why the conclusion may be wrong, a sentence each; what files, the doctor and the pictures (`flaws`) say comes first."""
    found = [
        text if text.startswith((*compared.names, "/", ".")) else text[:1].upper() + text[1:]
        for text in compared.warnings
    ]
    names = dict(zip(compared.names, compared.records, strict=True))
    for run, wrong in (flaws or {}).items():
        known = {
            name for one in compared.records[run].trainings or (compared.records[run],) for name in one.finding_names
        }
        if seen := [name for name in wrong if name not in known]:
            found.append(f"{compared.names[run]}: its faces above show {' and '.join(seen)}.")
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
            *_of_trainings({name: record for name, record in names.items() if record.scores}),
            *_of_costs(compared),
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
        which = (
            "every setting was"
            if len(single) == len(names)
            else f"{_and(single)} {'were' if len(single) > 1 else 'was'}"
        )
        yield f"One training seed: {which} trained once, and how far another training would differ is not known."


def _of_costs(compared: Comparison) -> Iterator[str]:
    time = compared.time
    runs = zip(compared.names, compared.records, time.seconds, strict=True)
    took = {name: seconds for name, record, seconds in runs if seconds and record.scores}
    if took and max(took.values()) > UNEQUAL * min(took.values()):
        low, high = min(took, key=lambda n: took[n]), max(took, key=lambda n: took[n])
        what = "training took from" if time.measure == "training time" else "training took a processor time from"
        yield f"Not at equal cost: {what} {duration(took[low])} ({low}) to {duration(took[high])} ({high})."


def _setting_and_seed(config: Mapping[str, Any]) -> tuple[str, str]:
    """A run's settings but for its training seed, and that seed."""
    train = config.get("train")
    rest = dict(train) if isinstance(train, Mapping) else {}
    seed = rest.pop("seed", None)
    return json.dumps({**config, "train": rest}, sort_keys=True, default=str), str(seed)
