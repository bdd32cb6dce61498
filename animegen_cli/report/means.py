"""Runs that differ by their training seed alone, as one: the means of their scores, with the error over trainings."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from animegen_cli.metrics.protocol import limits
from animegen_cli.metrics.significance import mean_of_trainings
from animegen_cli.report.columns import ScoreColumn, entries_of
from animegen_cli.report.tables import DASH, Cell, Column, Table
from animegen_cli.report.units import amount
from animegen_cli.seeds import spell_seeds

if TYPE_CHECKING:
    from animegen_cli.report.records import Record, Score

NOTE = (
    "Runs of several training seeds: means over the trainings; ± is the standard error of the mean, from the deviation between "
    "trainings or the error within them, whichever is larger, and differences are tested by Welch’s t."
)
"""What the ± of a run of several training seeds is."""
_NUMBER = re.compile(r"^\d{5}-")
_SEED = re.compile(r"[,_. -]*seed=?(\d+)")
"""What names a training's seed in the names of folders: `,seed=1` of sweeps, `-seed1` of studies."""


def by_seed(records: Sequence[Record]) -> list[Record]:
    """The records, with one in the place of those that are equal but for their training seed: family, settings, data.

    Runs of one setting of which two have one seed stay apart: they differ by something that their configs do not say.
    """
    alike: dict[str, list[Record]] = {}
    for record in records:
        alike.setdefault(_setting(record), []).append(record)
    found = []
    for record in records:
        same = alike[_setting(record)]
        seeds = {one.seed for one in same}
        if len(same) == 1 or None in seeds or len(seeds) < len(same):
            found.append(record)
        elif record is same[0]:
            found.append(joined(_common_name(same), same))
    return found


def joined(name: str, records: Sequence[Record]) -> Record:
    """One record, called `name`, for trainings that differ by their seed alone; pictures and curves are the first one's.

    Only trainings that have seen as many images as the longest take part in the means.
    """
    records = sorted(records, key=lambda record: record.seed or 0)
    most = max(record.images for record in records)
    whole = [record for record in records if record.images == most]
    first = whole[0]
    about = {**first.about, **{key: _mean(whole, key) for key in ("seconds", "processor_seconds", "images_per_second")}}
    seeds = spell_seeds([record.seed or 0 for record in records])
    return replace(
        first,
        about=about,
        config={**first.config, "train": {**first.config.get("train", {}), "seed": seeds}},
        scores=tuple(_means(whole)),
        problems=tuple(problem for record in records for problem in record.problems),
        called=name,
        trainings=tuple(records),
    )


def table(compared: Sequence[Record], names: Sequence[str], score_columns: Sequence[ScoreColumn]) -> Table | None:
    """Show the trainings of each run that has several: the mean with its interval, and below it each of them; None without any."""
    columns = (
        Column("run", "run", right=False),
        Column("seed", "training seed", right=False),
        Column("drawn", "drawn with", right=False),
        Column("images", "images seen"),
        *(Column(m.key, m.name, better=m.better, detail=m.detail) for m in score_columns),
    )
    rows = []
    for name, record in zip(names, compared, strict=True):
        for part in (record, *record.trainings) if record.trainings else ():
            is_mean = part is record
            for entry in entries_of(0, part):
                scores = [entry.scores.get(m.identity) for m in score_columns]
                texts = [DASH if one is None else one.interval_text if is_mean else one.text for one in scores]
                rows.append(
                    (
                        Cell(name, name),
                        Cell("mean", "mean") if is_mean else Cell(str(part.seed), part.seed),
                        Cell(entry.drawn, entry.drawn) if entry.drawn else Cell(),
                        Cell(amount(part.images), part.images),
                        *(_cell(text, one) for text, one in zip(texts, scores, strict=True)),
                    )
                )
    notes = (
        "Behind a mean: its 95 % interval over the trainings, by Student’s t; equal values whose errors are not known have none.",
    )
    return Table("Each training seed", columns, tuple(rows), notes) if rows else None


def _cell(text: str, score: Score | None) -> Cell:
    return Cell(text) if score is None else Cell(text, score.value, std=score.std, interval=score.interval)


def _means(records: Sequence[Record]) -> Iterator[Score]:
    """The mean of each score that was measured in one way; that of a single training stays as it is."""
    alike: dict[tuple[str, ...], list[Score]] = {}
    for record in records:
        for score in record.scores:
            if score.images == record.images:
                way = (str(score.protocol.get("sampling") or ""), str(score.protocol.get("seeds") or ""))
                alike.setdefault((score.name, score.protocol_id, *way), []).append(score)
    for scores in alike.values():
        if len(scores) == 1:
            yield scores[0]
            continue
        values = [score.value for score in scores]
        protocol = scores[0].protocol
        images = protocol.get("n_fake")
        mean = mean_of_trainings(
            values,
            [one.std for one in scores],
            limits(str(protocol.get("metric"))),
            images if isinstance(images, int) else 0,
        )
        yield replace(
            scores[0],
            value=mean.value,
            std=mean.std,
            interval=mean.interval,
            values=tuple(
                math.fsum(column) / len(scores) for column in zip(*(one.values for one in scores), strict=False)
            ),
            trainings=tuple(values),
            freedom=mean.freedom,
        )


def _mean(records: Sequence[Record], key: str) -> float | None:
    """The mean of a number in run.json; None where one of them does not say."""
    values = [record.about.get(key) for record in records]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return math.fsum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def _setting(record: Record) -> str:
    """All that makes a run what it is but its training seed."""
    train = record.config.get("train")
    rest = {key: value for key, value in train.items() if key != "seed"} if isinstance(train, Mapping) else train
    about: list[Any] = [record.about.get("family"), record.data.get("identity"), {**record.config, "train": rest}]
    return json.dumps(about, sort_keys=True, default=str)


def _common_name(records: Sequence[Record]) -> str:
    """What the folders are called but for the seed and a run's number; the first one's name and the number of all where that is
    not one name."""
    names = {_SEED.sub("", _NUMBER.sub("", record.name)) for record in records}
    return names.pop() if len(names) == 1 and "" not in names else f"{records[0].name} and {len(records) - 1} more"
