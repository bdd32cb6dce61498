"""How a training goes, read from the files that it writes anyway.

It is not disturbed: its lock is not taken, and nothing is written into its folder.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from animegen_cli.report import figures, html, pictures, records
from animegen_cli.report.numbering import Numbering
from animegen_cli.report.units import amount, duration
from animegen_cli.ui.markup import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from animegen_cli.paths import Run
    from animegen_cli.report.records import Record

MAX_SILENCE = 120.0
"""Seconds without a written file after which a run whose state is "running" is taken for killed."""


class Fingerprint(NamedTuple):
    """What changes whenever training writes something that the page shows."""

    run: str
    """The run's folder."""
    files: tuple[tuple[str, int, int], ...]
    """Name, time of the last change in ns, and size in bytes of each file."""


def fingerprint(run: Run) -> Fingerprint:
    """The files of a run that the page shows, as they are now."""
    files = [run.facts, run.log, *run.samples.glob("*.png")]
    return Fingerprint(str(run.path), tuple(sorted((file.name, *_stamp(file)) for file in files)))


def _stamp(file: Path) -> tuple[int, int]:
    """Time of the last change in ns and size in bytes; zeros for a file that is not there."""
    try:
        status = file.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size


def render(run: Run, *, now: float | None = None) -> Markup:
    """How far a training is, what the doctor found, its newest pictures beside real ones, and its curves, as HTML.

    Args:
        run: one that trains, or any other.
        now: seconds since the epoch; this moment when None.

    Raises:
        DataError: the folder is no run any more.
    """
    record = records.read(run)
    numbering = Numbering()
    written = max(_stamp(file)[0] for file in (run.facts, run.log)) / 1e9
    silence = (time.time() if now is None else now) - written
    state, share, is_training = _progress(record, silence)
    stopped = record.about.get("state") != "finished" and not is_training
    return Markup(
        html.render(
            "live.html", state=state, percent=round(100 * share), diagnoses=record.diagnoses, problems=record.problems,
            resume=f"animegen train --resume {run.path}" if stopped else "", previews=pictures.newest(record, numbering),
            curves=figures.curves([record], [record.name], numbering),
        )
    )  # fmt: skip


def _progress(record: Record, silence: float) -> tuple[str, float, bool]:
    """The state in words, the share of the training that is done in [0, 1], and whether it goes on now; `silence` in seconds."""
    about = record.about
    images = _images_seen(record)
    target = float(about.get("target_images") or 0)
    rate = _last_value(record, "images_per_second") or float(about.get("images_per_second") or 0)
    state = str(about.get("state", "unknown"))
    position = f"{amount(images)} of {amount(target)} images"
    is_training = state == "running" and silence <= MAX_SILENCE
    if is_training:
        left = f", about {duration((target - images) / rate)} left" if rate and target > images else ""
        text = f"training now: {position}, {amount(rate)} per second{left}"
    elif state == "running":
        text = f"nothing heard for {duration(silence)}: killed or waiting at {position}"
    else:
        text = f"{state} at {position}"
    return text, min(images / target, 1) if target else 0.0, is_training


def _images_seen(record: Record) -> float:
    """Images seen so far: the log is newer than `run.json`, which is written with each save."""
    return max([float(record.images), *(points[-1][0] for points in record.curves.values())])


def _last_value(record: Record, key: str) -> float | None:
    points: Sequence[tuple[float, float]] = record.curves.get(key) or ()
    return points[-1][1] if points else None
