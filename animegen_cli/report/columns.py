"""Columns of scores: which scores may share one, which images they are about, and the comparison made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from animegen_cli.metrics.protocol import NOT_COMPARED, Denoising
from animegen_cli.report.records import Record, Score, TrainingTime, training_time
from animegen_cli.report.tables import Cell, Table

# A field that says nothing more where the other one differs already.
_IMPLIED_BY = {"reference": "reference_name", "extractor_sha": "extractor"}

# The scores that a reader decides by, the first ones first.
_MAIN = (
    "fid", "fd", "kid", "precision", "recall", "density", "coverage", "diversity", "copies", "requests", "mse", "bpd", "is",
)  # fmt: skip
_GROUPS = {
    "Fidelity": ("fid", "fd", "kid", "kid75", "is", "precision", "recall", "density", "coverage"),
    "Variety": ("diversity", "hair", "eyes", "brightness", "duplicates", "copies"),
    "Attributes": ("attribute", "requests"),
    "Denoising": ("denoise",),
    "Held-out images": ("mse", "psnr", "ssim", "bpd"),
}


@dataclass(frozen=True)
class ScoreColumn:
    """One column of scores: a metric under one protocol. `detail` says what sets it apart from its namesakes."""

    name: str
    key: str
    identity: str
    detail: str
    better: Literal["lower", "higher"] | None
    protocol: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The name with the detail in brackets: it tells the column from all others of a comparison."""
        return f"{self.name} ({self.detail})" if self.detail else self.name

    @property
    def metric(self) -> str:
        """The first word of the name, which says what kind of score it is."""
        return self.name.split("-")[0]

    @property
    def group(self) -> str:
        """What the score is about: the table of the page that it stands in."""
        if self.name.startswith("fd-attributes"):
            return "Attributes"
        return next((group for group, metrics in _GROUPS.items() if self.metric in metrics), "Further scores")

    @property
    def of_few_levels(self) -> bool:
        """Whether it tells what the top levels of a hierarchy do alone, which a plot shows better than a table."""
        named = Denoising.parse(self.name)
        return named is not None and named.levels is not None

    @property
    def protocol_text(self) -> str:
        """The protocol in words, without the metric."""
        get = self.protocol.get
        said = {"metric", "n_fake", "n_real", "reference", "reference_name", "reference_split"}
        named = ", ".join(
            str(v) for v in (get("reference_name") or _brief(get("reference")), get("reference_split")) if v
        )
        rest = [f"{_spaced(k)} {_brief(v)}" for k, v in _of_the_column(self.protocol).items() if k not in said]
        counts, against = f"{get('n_fake', '?')} generated", f" against {get('n_real', '?')} real images ({named})"
        if self.group in ("Held-out images", "Denoising"):
            counts, against = f"{get('n_real', '?')} held-out images ({named})", ""
        elif get("n_real") == 0:  # repeats are counted among drawn images alone
            against = ""
        return f"{counts}{against}; {', '.join(rest)}"


class Entry(NamedTuple):
    """A row of the quality table: a run (by its place), one way in which it drew, and their scores by identity."""

    run: int
    drawn: str
    scores: Mapping[str, Score]


class Budget(NamedTuple):
    """What a study gave each of its trainings."""

    seconds: float
    cores: int | None = None
    """Of the CPU, where these are seconds of the processor; None counts those of the clock."""


@dataclass(frozen=True)
class Comparison:
    """Runs side by side: what the tables, the picture and the page are made of.

    `records` and `names` have an item per run, where several trainings that differ by their seed alone are one (`means.joined`);
    `entries` has one per row of the table `quality`, and `seeds` shows those trainings one by one (None without any). `todo`
    maps the name of a training without scores to the command that makes them; `warnings` are sentences on what to know before
    trusting the rest. `budget` is what a study gave each training; None where they were trained one by one.
    """

    records: tuple[Record, ...]
    names: tuple[str, ...]
    score_columns: tuple[ScoreColumn, ...]
    entries: tuple[Entry, ...]
    quality: Table
    cost: Table
    todo: Mapping[str, str]
    warnings: tuple[str, ...]
    seeds: Table | None = None
    budget: Budget | None = None

    @property
    def time(self) -> TrainingTime:
        """What each run took to train. Runs that had so much processor time and did not count it are said to have no time
        that is known: by the clock, their difference is what else the machine did."""
        time = training_time(self.records)
        if self.budget is not None and self.budget.cores and time.measure == "training time":
            return TrainingTime("processor time", (None,) * len(self.records))
        return time

    @property
    def trainings(self) -> tuple[Record, ...]:
        """The record of each training, run by run."""
        return trainings_of(self.records)

    @property
    def training_names(self) -> tuple[str, ...]:
        """What each of `trainings` is called: its run and, where that has several, its seed."""
        return training_names(self.records, self.names)

    @property
    def joined(self) -> Table:
        """Quality and cost in one wide table, for spreadsheets."""
        present = {column.key for column in self.quality.columns}
        extra = [i for i, column in enumerate(self.cost.columns) if column.key not in present]
        rows = (
            row + tuple(self.cost.rows[entry.run][i] for i in extra)
            for row, entry in zip(self.quality.rows, self.entries, strict=True)
        )
        columns = self.quality.columns + tuple(self.cost.columns[i] for i in extra)
        return Table("Measured", columns, tuple(rows))

    @property
    def labels(self) -> tuple[str, ...]:
        """What each row of the quality table is called: its run and, where that has several rows, what in its way of
        drawing sets it apart."""
        labels = []
        for entry in self.entries:
            ways = [other.drawn.split(", ") for other in self.entries if other.run == entry.run]
            apart = [part for part in entry.drawn.split(", ") if not all(part in way for way in ways)]
            labels.append(", ".join([self.names[entry.run], *apart]))
        return tuple(labels)

    def cells(self, column: ScoreColumn) -> list[Cell]:
        """The cells of a column of scores in the quality table, a cell per row."""
        place = next(i for i, other in enumerate(self.quality.columns) if other.key == column.key)
        return [row[place] for row in self.quality.rows]

    def main(self) -> list[ScoreColumn]:
        """The ranked columns that a reader decides by: those that most runs share first, then in the order of papers."""
        ranked = [column for column in self.score_columns if column.better]
        shared_by = {c.identity: sum(cell.value is not None for cell in self.cells(c)) for c in ranked}
        shared = [column for column in ranked if shared_by[column.identity] > 1]
        known = [column for column in shared if column.metric in _MAIN and column.group != "Attributes"]
        known += [column for column in shared if column.metric == "requests"]
        rank = {metric: place for place, metric in enumerate(_MAIN)}

        def order(column: ScoreColumn) -> tuple[int, int, bool]:
            place = rank.get(column.metric, len(rank))
            return -shared_by[column.identity], place, "infinity" not in column.name

        return sorted(known or shared, key=order)


def trainings_of(records: Iterable[Record]) -> tuple[Record, ...]:
    """The trainings that the records stand for."""
    return tuple(training for record in records for training in record.trainings or (record,))


def training_names(records: Iterable[Record], names: Iterable[str]) -> tuple[str, ...]:
    """The names of `trainings_of`: a run's own or, where it has several, with the seed."""
    return tuple(
        name if training is record else f"{name}, seed {training.seed}"
        for record, name in zip(records, names, strict=True)
        for training in record.trainings or (record,)
    )


def _of_the_column(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in protocol.items() if key not in NOT_COMPARED and value not in (None, "")}


def protocol_notes(score_columns: Iterable[ScoreColumn]) -> list[str]:
    """Say which columns were measured how: a note per protocol."""
    labels_of: dict[str, list[str]] = {}
    for column in score_columns:
        labels_of.setdefault(column.protocol_text, []).append(column.label)
    return [f"{', '.join(labels)}: {text}." for text, labels in labels_of.items()]


def identity(score: Score) -> str:
    """A text that is equal for two scores exactly when they may share a column."""
    return f"{score.name}@{score.protocol_id}"


def entries_of(place: int, record: Record) -> list[Entry]:
    """The rows of a run: one per way in which its scored images were drawn, or one without scores.

    Scores of one range of seeds stand beside those of several that begin with it; of two under one protocol, that of
    more ranges counts.
    """
    ways: dict[tuple[str, str], dict[str, Score]] = {}
    for score in sorted(record.scores, key=lambda score: len(_ranges(score.protocol))):
        way = (str(score.protocol.get("sampling") or ""), _ranges(score.protocol)[0])
        ways.setdefault(way, {})[identity(score)] = score
    if ("", "") in ways and len(ways) > 1:  # scores of no drawing stand beside those of the first way
        alone = ways.pop(("", ""))
        ways[next(iter(ways))] |= alone
    samplings = [sampling for sampling, _ in ways]
    entries = []
    for (sampling, seeds_), scores in ways.items():
        drawn = f"{sampling}, seeds {seeds_}" if samplings.count(sampling) > 1 else sampling
        entries.append(Entry(place, drawn, scores))
    return entries or [Entry(place, "", {})]


def _ranges(protocol: Mapping[str, Any]) -> list[str]:
    """`0-63; 64-127` in its parts; one empty one for scores of no seeds."""
    return str(protocol.get("seeds") or "").split("; ")


def columns_of(records: Iterable[Record]) -> tuple[ScoreColumn, ...]:
    """The columns that the scores of the runs need, those of one name side by side."""
    first: dict[str, Score] = {}
    for score in (score for record in records for score in record.scores):
        first.setdefault(identity(score), score)
    score_columns = []
    for score in first.values():
        namesakes = [other for other in first.values() if other.name == score.name]
        key = score.name if len(namesakes) == 1 else f"{score.name}@{score.protocol_id[:8]}"
        apart = ", ".join(_apart(score, namesakes))
        if sum(apart == ", ".join(_apart(other, namesakes)) for other in namesakes) > 1:
            apart = f"{apart}, protocol {score.protocol_id}"
        score_columns.append(ScoreColumn(score.name, key, identity(score), apart, score.better, score.protocol))
    order = list(dict.fromkeys(column.name for column in score_columns))
    return tuple(sorted(score_columns, key=lambda column: order.index(column.name)))


def eval_options(record: Record) -> list[list[str]]:
    """The options of `animegen eval` that made the run's scores, one list per way of measuring."""
    ways = []
    for p in (score.protocol for score in record.scores):
        # requests are made by the command that compares with a split
        if not p["extractor"] or not p["seeds"] or not p["reference_split"]:
            continue
        mode = str(p["resize"]).split("-", 1)[0]
        extractor = str(p["extractor"]) + (f":{mode}" if mode.startswith("legacy") else "")
        ranges = _ranges(p)
        several = ["--n", str(p["n_fake"]), "--repeats", str(len(ranges))]
        seeds = several if len(ranges) > 1 else ["--seeds", str(p["seeds"])]
        # a protocol knows a classifier by its weights, not by its folder
        network = ["--attributes", "CLASSIFIER"] if extractor == "attributes" else ["--extractor", extractor]
        options = [*seeds, "--split", str(p["reference_split"]), *network]
        if options not in ways:
            ways.append(options)
    return ways


def _apart(score: Score, namesakes: Sequence[Score]) -> Iterator[str]:
    """The protocol fields in which scores of one name differ, as this score has them."""

    def differ(field: str) -> bool:
        return len({json.dumps(s.protocol.get(field), sort_keys=True, default=str) for s in namesakes}) > 1

    for field in dict.fromkeys(key for s in namesakes for key in _of_the_column(s.protocol)):
        says_more = differ("reference") if field == "reference_name" else not differ(_IMPLIED_BY.get(field, ""))
        if differ(field) and says_more:
            yield f"{_spaced(field)} {_brief(score.protocol.get(field, 'unknown'))}"


def _brief(value: object) -> str:
    """Long hashes are cut to eight letters."""
    text = str(value)
    return text[:8] if len(text) >= 32 and text.isalnum() else text


def _spaced(field: str) -> str:
    return {"n_fake": "n", "reference_split": "split"}.get(field, field.replace("_", " "))
