"""A comparison as the page sees it: which scores may share a column, and which images they judge."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from animegen_cli.metrics.protocol import NOT_COMPARED
from animegen_cli.report.records import Record, Score
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
    "Held-out images": ("mse", "psnr", "ssim", "bpd"),
}


@dataclass(frozen=True)
class Measure:
    """One column of scores: a metric under one protocol. `detail` says what sets it apart from its namesakes."""

    name: str
    key: str
    identity: str
    detail: str
    better: Literal["lower", "higher"] | None
    protocol: Mapping[str, Any]

    @property
    def label(self) -> str:
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
    def protocol_text(self) -> str:
        """The protocol in words, without the metric."""
        get, said = self.protocol.get, {"metric", "n_fake", "n_real", "reference", "reference_name", "reference_split"}
        named = ", ".join(
            str(v) for v in (get("reference_name") or _brief(get("reference")), get("reference_split")) if v
        )
        rest = [f"{_spaced(k)} {_brief(v)}" for k, v in _of_the_measure(self.protocol).items() if k not in said]
        counts, against = f"{get('n_fake', '?')} generated", f" against {get('n_real', '?')} real images ({named})"
        if self.group == "Held-out images":
            counts, against = f"{get('n_real', '?')} held-out images ({named})", ""
        elif get("n_real") == 0:  # repeats are counted among drawn images alone
            against = ""
        return f"{counts}{against}; {', '.join(rest)}"


class Entry(NamedTuple):
    """A row of the quality table: a run (by its place), one way in which it drew, and their scores by identity."""

    run: int
    drawn: str
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Comparison:
    """What the tables, the picture and the page are made of. `todo` maps a run to the command that scores it."""

    records: tuple[Record, ...]
    names: tuple[str, ...]
    measures: tuple[Measure, ...]
    entries: tuple[Entry, ...]
    quality: Table
    cost: Table
    todo: Mapping[str, str]
    warnings: tuple[str, ...]

    @property
    def joined(self) -> Table:
        """Quality and cost in one wide table, for spreadsheets."""
        have = {column.key for column in self.quality.columns}
        extra = [i for i, column in enumerate(self.cost.columns) if column.key not in have]
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

    def cells(self, measure: Measure) -> list[Cell]:
        """A measure's column of the quality table."""
        place = next(i for i, column in enumerate(self.quality.columns) if column.key == measure.key)
        return [row[place] for row in self.quality.rows]

    def main(self) -> list[Measure]:
        """The ranked measures that a reader decides by: those that most runs share first, then as a paper has them."""
        shared = [(sum(cell.value is not None for cell in self.cells(m)), m) for m in self.measures if m.better]
        known = [(count, m) for count, m in shared if count > 1 and m.metric in _MAIN and m.group != "Attributes"]
        known += [(count, m) for count, m in shared if count > 1 and m.metric == "requests"]
        found = known or [(count, m) for count, m in shared if count > 1]
        rank = {metric: place for place, metric in enumerate(_MAIN)}
        found.sort(key=lambda pair: (-pair[0], rank.get(pair[1].metric, len(rank)), "infinity" not in pair[1].name))
        return [measure for _, measure in found]


def _of_the_measure(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in protocol.items() if key not in NOT_COMPARED and value not in (None, "")}


def protocol_notes(measures: Iterable[Measure]) -> list[str]:
    """Which measures were made how: a note per protocol."""
    protocol_text: dict[str, list[str]] = {}
    for measure in measures:
        protocol_text.setdefault(measure.protocol_text, []).append(measure.label)
    return [f"{', '.join(labels)}: {text}." for text, labels in protocol_text.items()]


def identity(score: Score) -> str:
    """Equal for two scores exactly when they may share a column."""
    return f"{score.name}@{score.protocol_id}"


def entries_of(place: int, record: Record) -> list[Entry]:
    """The ways in which the run's scored images were drawn; one without scores when there are none.

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


def measures_of(found: Iterable[Record]) -> tuple[Measure, ...]:
    """The columns that the runs' scores need, those of one name side by side."""
    first: dict[str, Score] = {}
    for score in (score for record in found for score in record.scores):
        first.setdefault(identity(score), score)
    measures = []
    for score in first.values():
        namesakes = [other for other in first.values() if other.name == score.name]
        key = score.name if len(namesakes) == 1 else f"{score.name}@{score.protocol_id[:8]}"
        apart = ", ".join(_apart(score, namesakes))
        if sum(apart == ", ".join(_apart(other, namesakes)) for other in namesakes) > 1:
            apart = f"{apart}, protocol {score.protocol_id}"
        measures.append(Measure(score.name, key, identity(score), apart, score.better, score.protocol))
    order = list(dict.fromkeys(measure.name for measure in measures))
    return tuple(sorted(measures, key=lambda measure: order.index(measure.name)))


def eval_options(record: Record) -> list[list[str]]:
    """The options of `animegen eval` that made the run's scores, one list per way of measuring."""
    found = []
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
        if options not in found:
            found.append(options)
    return found


def _apart(score: Score, namesakes: Sequence[Score]) -> Iterator[str]:
    """The protocol fields in which scores of one name differ, as this score has them."""

    def differ(field: str) -> bool:
        return len({json.dumps(s.protocol.get(field), sort_keys=True, default=str) for s in namesakes}) > 1

    for field in dict.fromkeys(key for s in namesakes for key in _of_the_measure(s.protocol)):
        protocol_text = differ("reference") if field == "reference_name" else not differ(_IMPLIED_BY.get(field, ""))
        if differ(field) and protocol_text:
            yield f"{_spaced(field)} {_brief(score.protocol.get(field, 'unknown'))}"


def _brief(value: object) -> str:
    """Long hashes are cut to eight letters."""
    text = str(value)
    return text[:8] if len(text) >= 32 and text.isalnum() else text


def _spaced(field: str) -> str:
    return {"n_fake": "n", "reference_split": "split"}.get(field, field.replace("_", " "))
