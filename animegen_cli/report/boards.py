"""The first screen of a comparison: one row per run, best first, with its faces, its main score on one axis, and its cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image

from animegen_cli.report import looks, pictures, plots
from animegen_cli.report.units import amount, duration

if TYPE_CHECKING:
    from animegen_cli.report.columns import Comparison, ScoreColumn
    from animegen_cli.report.pictures import Drawn
    from animegen_cli.report.records import Record, Score

MOST_FACES = 12
"""Faces of a row; how many of them are seen depends on the width of the window."""
_TALLEST = 192
"""Pixels of a face, twice what it is shown at."""


class Tick(NamedTuple):
    """A number on the axis and where it stands, in percent of its length."""

    at: float
    text: str


class Bar(NamedTuple):
    """A score and its interval on the axis, in percent of its length."""

    at: float
    low: float
    width: float


class Row(NamedTuple):
    """A run: what is wrong with its pictures, its strip of faces (or why there is none), its score and what it cost."""

    name: str
    about: str
    flaws: Sequence[str]
    color: int
    faces: Markup | str
    value: str
    best: bool
    bar: Bar | None
    cost: Sequence[str]


class Board(NamedTuple):
    """The rows, and the head above them; `pictures`: whether there are any faces; `errors`: what ± and bars are, in one phrase."""

    rows: Sequence[Row]
    metric: str
    errors: str
    ticks: Sequence[Tick]
    seeds: str
    costs: str
    pictures: bool


def board(compared: Comparison, drawn: Drawn | None, flaws: Mapping[int, Sequence[str]]) -> Board:
    """Lay out the rows; `flaws` are those of `flaws_of`."""
    column = deciding(compared)
    best_of = {run: _best_entry(compared, run, column) for run in range(len(compared.records))}
    scores = {run: score for run, (_, score) in best_of.items() if score is not None}
    sign = -1 if column is not None and column.better == "higher" else 1
    order = sorted(best_of, key=lambda run: (run not in scores, sign * scores[run].value if run in scores else 0))
    axis = _Axis([value for score in scores.values() for value in (score.value, *(score.range or ()))])
    time = compared.time
    places = first_trainings(compared.records)
    rows = []
    for run in order:
        record, (label, score) = compared.records[run], best_of[run]
        strip = None if drawn is None else drawn.rows[places[run]]
        bar = None
        if score is not None:
            low, high = score.range or (score.value, score.value)
            bar = Bar(axis.at(score.value), axis.at(low), round(axis.at(high) - axis.at(low), 2))
        costs = (
            (time.seconds[run], duration, ""), (record.drawing.get("seconds_per_100"), duration, " / 100"),
            (record.parameters, amount, " parameters"),
        )  # fmt: skip
        rows.append(
            Row(
                name=label,
                about=", ".join(_about(record)),
                flaws=flaws.get(run, ()),
                color=run % len(plots.COLORS),
                faces=_faces(strip, label, len(compared.records)) if strip is not None else "",
                value=score.text if score is not None else "" if record.classifies else "not scored",
                best=run == order[0] and score is not None and len(scores) > 1,
                bar=bar,
                cost=[
                    written(value) + unit
                    for value, written, unit in costs
                    if isinstance(value, int | float) and value > 0
                ],
            )
        )
    heading = (
        "" if column is None else f"{column.name} ({column.better} is better{', logarithmic' if axis.log else ''})"
    )
    seeds = "" if drawn is None else f"faces of the same seeds, from {drawn.seeds[0]} on"
    costs_head = time.measure if any(time.seconds) else "cost"
    shown = drawn is not None and any(not isinstance(drawn.rows[place], str) for place in places)
    return Board(
        rows, heading, _errors(list(scores.values()), column), axis.ticks() if scores else (), seeds, costs_head, shown
    )


def _errors(scores: Sequence[Score], column: ScoreColumn | None) -> str:
    """What the ± and the bar of the rows are, and of how many images or trainings; empty where no error is known."""
    known = [score for score in scores if score.std is not None or score.interval is not None]
    if column is None or not known:
        return ""
    whole = sum(score.interval is not None for score in known)
    bar = "bar: 95 % interval" if whole == len(known) else "bar: 95 % interval, or ± where that is not known"
    marks = f"±: standard error, {bar}" if whole else "± and bar: standard error"
    several = sorted({len(score.trainings) for score in known if score.trainings})
    of = _images_of(known, column)
    if several:
        counts = f"{several[0]}" if len(several) == 1 else f"{several[0]} to {several[-1]}"
        alone = f" (of one training: over {of})" if any(not score.trainings for score in known) else ""
        return f"{marks}, over {counts} trainings each{alone}"
    return f"{marks}, over {of}"


def _images_of(scores: Sequence[Score], column: ScoreColumn) -> str:
    """How many images a score is of: `1,024 drawn images`, `3 x 1,024 drawn images`, `500 held-out images`."""
    drawn, real = (column.protocol.get(key) for key in ("n_fake", "n_real"))
    if column.group in ("Held-out images", "Denoising") and isinstance(real, int):
        return f"{real:,} held-out images"
    ranges = {len(score.values) for score in scores if not score.trainings}
    times = f"{ranges.pop()} × " if len(ranges) == 1 and max(ranges) > 1 else ""
    return f"{times}{drawn:,} drawn images" if isinstance(drawn, int) and drawn else "its images"


def deciding(compared: Comparison) -> ScoreColumn | None:
    """The score that the rows are sorted by: the first main one, else the first that is ranked at all."""
    ranked = [column for column in compared.score_columns if column.better]
    return next(iter([*compared.main(), *ranked]), None)


def first_trainings(records: Iterable[Record]) -> list[int]:
    """The place of each run's first training among all trainings."""
    places, place = [], 0
    for record in records:
        places.append(place)
        place += len(record.trainings) or 1
    return places


def facts(compared: Comparison) -> list[str]:
    """What all runs share, in short: size, images, what each was given."""
    records = compared.records
    said = []
    sizes = {record.data.get("size") for record in records}
    counts = {record.data.get("count") for record in records}
    if len(sizes) == 1 and isinstance(size := sizes.pop(), int):
        said.append(f"{size} px")
    if len(counts) == 1 and isinstance(count := counts.pop(), int):
        said.append(f"{count:,} faces")
    time, budget = compared.time, compared.budget
    known = [seconds for seconds in time.seconds if seconds] if budget is None else [budget.seconds]
    if known:
        of_processor = time.measure == "processor time" if budget is None else budget.cores
        unit = "core-" if of_processor else ""
        low, high = (f"{value / 60:.2g}" if value < 600 else f"{value / 60:,.0f}" for value in (min(known), max(known)))
        each = "each" if len(records) > 1 else ""
        said.append(f"{low} {unit}minutes {each}" if low == high else f"{low} to {high} {unit}minutes {each}")
    trainings = len(compared.trainings)
    if trainings > len(records):
        said.append(f"{trainings} trainings with different seeds")
    return [" ".join(one.split()) for one in said]


def flaws_of(compared: Comparison, drawn: Drawn | None) -> dict[int, list[str]]:
    """What is wrong with the pictures of runs (by place): what the doctor found, and what the drawn faces themselves show."""
    places = first_trainings(compared.records)
    strips = {} if drawn is None else {run: drawn.rows[place] for run, place in enumerate(places)}
    images = {
        run: strip
        for run, strip in strips.items()
        if isinstance(strip, np.ndarray) and min(strip.shape[1:3]) >= looks.THUMBNAIL
    }
    varied = {run: looks.thumbnail_distance(strip) for run, strip in images.items() if len(strip) > 1}
    rough = {run: looks.roughness(strip) for run, strip in images.items()}
    found: dict[int, list[str]] = {}
    for run, record in enumerate(compared.records):
        known = [str(name) for training in record.trainings or (record,) for name in training.finding_names]
        if run in images and looks.contrast(images[run]) < looks.LEAST_CONTRAST:
            known.append("blank images")
        elif run in varied and varied[run] < looks.LEAST_DISTANCE * max(varied.values()):
            known.append("mode collapse")
        if run in rough and rough[run] >= looks.NOISE and rough[run] >= 2 * min(rough.values()):
            known.append("noise instead of pictures")
        if known:
            found[run] = list(dict.fromkeys(known))
    return found


def _best_entry(compared: Comparison, run: int, column: ScoreColumn | None) -> tuple[str, Score | None]:
    """The label and the score of the best of a run's rows."""
    own = [place for place, entry in enumerate(compared.entries) if entry.run == run]
    scored = [] if column is None else [place for place in own if column.identity in compared.entries[place].scores]
    if column is None or not scored:
        return compared.names[run], None
    scores = {place: compared.entries[place].scores[column.identity] for place in scored}
    best = (max if column.better == "higher" else min)(scored, key=lambda place: scores[place].value)
    return compared.labels[best] if len(own) > 1 else compared.names[run], scores[best]


def _about(record: Record) -> Iterable[str]:
    """What a row says below the name."""
    if record.trainings:
        yield f"{len(record.trainings)} training seeds"
    if record.state != "finished":
        yield record.state


def _faces(strip: np.ndarray | str, name: str, rows: int) -> Markup | str:
    if isinstance(strip, str):
        return strip
    images = list(strip[:MOST_FACES])
    side = images[0].shape[0]
    picture = Image.fromarray(np.concatenate(images, axis=1))
    if side > _TALLEST:
        picture = picture.resize((picture.width * _TALLEST // side, _TALLEST), Image.Resampling.LANCZOS)
    class_ = "exact" if 96 % side == 0 else ""
    return pictures.embed(
        picture,
        f"{len(images)} images drawn by {name}",
        0.3 * pictures.BUDGET / rows,
        class_=class_,
        widest=_TALLEST * MOST_FACES,
    )


class _Axis:
    """A scale over the values in percent, logarithmic where they need it."""

    def __init__(self, values: Sequence[float]) -> None:
        self.log = bool(values) and plots.needs_log(values)
        ends = [self._scaled(value) for value in (min(values), max(values))] if values else [0.0, 1.0]
        room = (ends[1] - ends[0]) * 0.06 or abs(ends[0]) * 0.1 or 1.0
        self.low, self.high = ends[0] - room, ends[1] + room

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def at(self, value: float) -> float:
        share = (self._scaled(value) - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self) -> list[Tick]:
        """Two to four round numbers."""
        if self.log:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            whole = [10.0**d for d in decades if self.low <= d <= self.high]
            values = (
                whole
                if len(whole) > 1
                else [10.0**d * f for d in decades for f in (1, 3) if self.low <= math.log10(10.0**d * f) <= self.high]
            )
        else:
            power = 10.0 ** math.floor(math.log10((self.high - self.low) / 2))
            step = next(power * f for f in (5, 2, 1) if (self.high - self.low) / (power * f) >= 2)
            values = [i * step for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [Tick(self.at(value), amount(value)) for value in values[:: math.ceil(len(values) / 4)]]
