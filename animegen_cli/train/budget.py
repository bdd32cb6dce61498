"""A budget of time as what a run counts: a number of images, and where no family was named the one to spend it on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from animegen_cli import console, paths
from animegen_cli.config import Amount, Layer
from animegen_cli.errors import ConfigError, DataError
from animegen_cli.paths import Run
from animegen_cli.train import resume, train
from animegen_cli.train.speed import images_per_second

if TYPE_CHECKING:
    from animegen_cli.data.dataset import FaceSet
    from animegen_cli.train.request import Request


class Choice(NamedTuple):
    """What a measured table says to train."""

    family: str
    preset: str
    budget: str
    """That of the table's best row."""


def spent(request: Request) -> Request:
    """Turn the budget of a request into a duration, by half a minute of training that is thrown away.

    A run that the request goes on with keeps the duration that was measured when it began.

    Raises:
        AnimegenError: whatever would stop the training before its first step.
    """
    budget = request.budget or ""
    seconds = Amount.parse(budget).seconds or 0.0
    if request.chooses_family:
        choice = best(seconds)
        console.note(
            f"family: {choice.family}/{choice.preset}, the best of docs/leaderboard.md after {choice.budget} of one core"
        )
        request = replace(request, family=choice.family, preset=choice.preset)
    run_config = train.read_config(request)
    faces = train.open_data(request, run_config)
    duration = _begun(request, faces)
    if duration is None:
        batch = run_config.train.batch
        console.note("measuring how fast this machine trains it: some steps that are thrown away, on top of the budget")
        rate = images_per_second(train.prepare(request, run_config, faces))
        images = max(int(rate * seconds) // batch, 1) * batch
        _warn_of_few(images, faces, rate)
        duration = f"{images} images"
    console.note(f"budget: {duration}, {budget} of training by the clock")
    return _with(request, duration)


_FEW = 20_000
"""Images that it takes before one sees faces, with the small networks of the presets (docs/log.md)."""
_SMALL = 32
"""The fewest pixels that a face is recognized at."""


def _warn_of_few(images: int, faces: FaceSet, rate: float) -> None:
    """Say so where the budget ends before faces can be expected, and what would reach them."""
    if images >= _FEW:
        return
    smaller = (
        f"; at {_SMALL} pixels (`animegen prepare ... --resolution {_SMALL}`) it is a fraction of that"
        if faces.size > _SMALL
        else ""
    )
    console.warn(
        f"{images:,} images are {images / len(faces.indices('train')):.1f} passes over the set: expect noise. Faces take about "
        f'{_FEW:,} images, here `--budget "{math.ceil(_FEW / rate / 60)} min"`{smaller}'
    )


def best(seconds: float) -> Choice:
    """The best row of the table whose budget is the longest that is not above `seconds`; of the shortest where all are."""
    rows = [Choice(**row) for row in Layer.from_yaml(paths.presets_folder() / "budgets.yaml").values["best"]]
    rows.sort(key=lambda row: Amount.parse(row.budget).seconds or 0.0)
    within = [row for row in rows if (Amount.parse(row.budget).seconds or 0.0) <= seconds]
    return (within or rows[:1])[-1]


def _begun(request: Request, faces: FaceSet) -> str | None:
    """The duration of the unfinished run that the request goes on with; None where it begins one."""
    if request.resume == "none":
        return None
    for run in [Run(request.out)] if request.out else reversed(paths.runs()):
        try:
            duration = str(Layer.from_yaml(run.config).values["train"]["duration"])
            if request.out or resume.continues(run, train.read_config(_with(request, duration)), faces):
                return duration
        except (DataError, ConfigError, KeyError, TypeError):  # another run's damage is no reason not to start this one
            continue
    return None


def _with(request: Request, duration: str) -> Request:
    return replace(request, flags=[*request.flags, Layer.from_flag("--budget", "train.duration", duration)])
