"""How a training goes, read from the files that it writes anyway.

It is not disturbed: its lock is not taken, and nothing is written into its folder.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from animegen_cli.report import figures, pictures, records
from animegen_cli.report.markup import Markup, el, join
from animegen_cli.report.numbering import Numbering
from animegen_cli.report.units import amount, duration

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
    """The run's name."""
    files: tuple[tuple[str, int, int], ...]
    """Name, time of the last change in ns, and size in bytes of each file."""


def fingerprint(run: Run) -> Fingerprint:
    """The files of a run that the page shows, as they are now."""
    files = [run.facts, run.log, *run.samples.glob("*.png")]
    return Fingerprint(run.name, tuple(sorted((file.name, *_stamp(file)) for file in files)))


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
    parts: list[Markup] = [_progress(record, (time.time() if now is None else now) - written)]
    parts += [el("p", el("b", "Doctor: "), diagnosis, class_="finding") for diagnosis in record.diagnoses]
    parts += [el("p", problem, class_="finding") for problem in record.problems]
    previews = pictures.samples([record], [record.name], numbering, reals=True)
    parts += previews or [el("p", "No previews yet.", class_="notice")]
    curves = figures.curves([record], [record.name], numbering)
    parts += curves or [el("p", "No curves yet: they begin with the first line of the log.", class_="notice")]
    return el("div", join(*parts), class_="live")


def _progress(record: Record, silence: float) -> Markup:
    """The state in words, a bar, and how to resume a run that stopped; `silence` in seconds."""
    about = record.about
    images = _images_seen(record)
    target = float(about.get("target_images") or 0)
    rate = _last_value(record, "images_per_second") or float(about.get("images_per_second") or 0)
    share = min(images / target, 1) if target else 0.0
    state = str(about.get("state", "unknown"))
    position = f"{amount(images)} of {amount(target)} images"
    training = state == "running" and silence <= MAX_SILENCE
    if training:
        left = f", about {duration((target - images) / rate)} left" if rate and target > images else ""
        text = f"training now: {position}, {amount(rate)} per second{left}"
    elif state == "running":
        text = f"nothing heard for {duration(silence)}: killed or waiting at {position}"
    else:
        text = f"{state} at {position}"
    bar = el(
        "div",
        el("div", style=f"width:{share:.1%}"),
        class_="bar",
        role="progressbar",
        aria_valuenow=round(100 * share),
        aria_valuemin=0,
        aria_valuemax=100,
        aria_label="progress",
    )
    resume = None
    if state != "finished" and not training:
        resume = el("p", "Go on with ", el("code", f"animegen train --resume {record.run.path}"), class_="notice")
    return join(el("p", text, class_="state"), bar, resume)


def _images_seen(record: Record) -> float:
    """Images seen so far: the log is newer than `run.json`, which is written with each save."""
    return max([float(record.images), *(points[-1][0] for points in record.curves.values())])


def _last_value(record: Record, key: str) -> float | None:
    points: Sequence[tuple[float, float]] = record.curves.get(key) or ()
    return points[-1][1] if points else None
