"""What a reader should know before trusting a comparison, as far as files and settings say it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from animegen_cli.metrics.protocol import ENOUGH
from animegen_cli.report.columns import training_names, trainings_of
from animegen_cli.report.units import amount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from animegen_cli.report.records import Record


def warnings(compared: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    """Say what a reader should know before trusting the tables, a sentence each; `names` are those of the records."""
    trainings, their_names = trainings_of(compared), training_names(compared, names)
    yield from _of_files_and_doctor(trainings, their_names)
    yield from _of_data_sets(compared)
    yield from _of_sizes(compared)
    yield from _of_devices(compared)
    yield from _of_few_images(compared, names)
    yield from _of_stale_scores(trainings, their_names)


def _of_files_and_doctor(compared: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    for name, record in zip(names, compared, strict=True):
        yield from record.problems
        yield from (f"{name}: {diagnosis}" for diagnosis in record.diagnoses)


def _of_data_sets(compared: Sequence[Record]) -> Iterator[str]:
    sets = {(r.data.get("identity"), r.data.get("name")) for r in compared if r.data}
    if len({identity for identity, _ in sets}) > 1:
        yield f"the runs learned from different data sets ({', '.join(sorted(str(name) for _, name in sets))})"


def _of_sizes(compared: Sequence[Record]) -> Iterator[str]:
    sizes = sorted({size for r in compared if isinstance(size := r.data.get("size"), int)})
    if len(sizes) > 1:
        yield f"the runs draw at different sizes ({', '.join(f'{size} px' for size in sizes)})"


def _of_devices(compared: Sequence[Record]) -> Iterator[str]:
    devices = sorted({str(r.about["device"]) for r in compared if r.about.get("device")})
    if len(devices) > 1:
        yield f"times and speeds are from different devices ({', '.join(devices)})"


def _of_few_images(compared: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    fewest = {
        name: min((_fewest(score.protocol) for score in record.scores), default=ENOUGH)
        for name, record in zip(names, compared, strict=True)
    }
    few = {name: count for name, count in fewest.items() if count < ENOUGH}
    if few:
        which = f"{', '.join(few)}: scored with as few as {min(few.values()):,} images on one side"
        yield f"{which}, fewer than {ENOUGH:,}: rough numbers"


def _fewest(protocol: Mapping[str, Any]) -> int:
    """Images on the smaller side of a comparison of features; enough for all other scores."""
    counts = [protocol.get("n_fake"), protocol.get("n_real")]
    known = [count for count in counts if isinstance(count, int) and count]
    return min(known, default=ENOUGH) if protocol.get("extractor") else ENOUGH


def _of_stale_scores(compared: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    for name, record in zip(names, compared, strict=True):
        stale = sorted({score.images for score in record.scores if score.images != record.images})
        if stale:
            then = ", ".join(amount(images) for images in stale)
            now = amount(record.images)
            yield f"{name} was scored at {then} images and has seen {now} by now: `{to_score(record)}`"


def to_score(record: Record) -> str:
    """Give the command that makes the scores of a run, or the one that goes on with its training where it has no weights yet."""
    if not record.run.weights.is_file():
        return shlex.join(["animegen", "train", "--resume", str(record.run.path)])
    return shlex.join(["animegen", "eval", str(record.run.path)])
