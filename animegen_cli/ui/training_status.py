"""A training as it goes: read from the files that it writes anyway, without its lock and without a word to it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from animegen_cli.report import figures, pictures, records
from animegen_cli.report.markup import Markup, el, join
from animegen_cli.report.numbering import Numbering
from animegen_cli.report.units import amount, duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animegen_cli.paths import Run
    from animegen_cli.report.records import Record

SILENT = 120.0
"""Seconds without a sign of life after which a run that says that it runs is taken for killed."""


def mark(run: Run) -> tuple[Any, ...]:
    """Changes whenever training wrote something that the page shows."""
    files = [run.facts, run.log, *run.samples.glob("*.png")]
    found = [(file.name, *_stamp(file)) for file in files]
    return (run.name, *sorted(found))


def _stamp(file: Any) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size


def shown(run: Run, *, now: float | None = None) -> Markup:
    """How far it is, what the doctor found, its newest pictures beside real ones, its curves.

    Raises:
        DataError: the folder is no run any more.
    """
    record = records.read(run)
    numbering = Numbering()
    last = max((_stamp(file)[0] for file in (run.facts, run.log)), default=0) / 1e9
    parts: list[Markup | None] = [_state(record, (now or time.time()) - last)]
    parts += [el("p", el("b", "Doctor: "), diagnosis, class_="finding") for diagnosis in record.diagnoses]
    parts += [el("p", problem, class_="finding") for problem in record.problems]
    previews = pictures.samples([record], [record.name], numbering, reals=True)
    parts += previews or [el("p", "No previews yet.", class_="notice")]
    drawn = figures.curves([record], [record.name], numbering)
    parts += drawn or [el("p", "No curves yet: they begin with the first line of the log.", class_="notice")]
    return el("div", join(*parts), class_="live")


def _state(record: Record, silent: float) -> Markup:
    about = record.about
    images, target = _images(record), float(about.get("target_images") or 0)
    rate = _last(record, "images_per_second") or float(about.get("images_per_second") or 0)
    share = min(images / target, 1) if target else 0.0
    state = str(about.get("state", "unknown"))
    if state == "running" and silent <= SILENT:
        left = f", about {duration((target - images) / rate)} left" if rate and target > images else ""
        says = f"training now: {amount(images)} of {amount(target)} images, {amount(rate)} per second{left}"
    elif state == "running":
        says = f"nothing heard for {duration(silent)}: killed or waiting at {amount(images)} of {amount(target)} images"
    else:
        says = f"{state} at {amount(images)} of {amount(target)} images"
    bar = el("div", el("div", style=f"width:{share:.1%}"), class_="bar", role="progressbar",
             aria_valuenow=round(100 * share), aria_valuemin=0, aria_valuemax=100, aria_label="progress")  # fmt: skip
    again = None
    if state != "finished" and not (state == "running" and silent <= SILENT):
        again = el("p", "Go on with ", el("code", f"animegen train --resume {record.run.path}"), class_="notice")
    return join(el("p", says, class_="state"), bar, again)


def _images(record: Record) -> float:
    """What the log says is newer than `run.json`, which is written with each save."""
    return max([float(record.images), *(points[-1][0] for points in record.curves.values())])


def _last(record: Record, key: str) -> float | None:
    points: Mapping[str, list[tuple[float, float]]] = record.curves
    return points[key][-1][1] if points.get(key) else None
