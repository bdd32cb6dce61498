"""A study: several trainings on one data set, scored alike, and the page that they end in (`study_plan` says which)."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from animegen_cli import console, paths
from animegen_cli.compare import compare, printed, study_plan, study_processes
from animegen_cli.errors import DataError, DivergedError, StoppedError
from animegen_cli.evaluate import evaluate
from animegen_cli.evaluate.features import in_run_scores
from animegen_cli.evaluate.request import Request as EvalRequest
from animegen_cli.report.columns import Comparison
from animegen_cli.report.figures import ScorePair
from animegen_cli.report.page import StudyPlan
from animegen_cli.train import train
from animegen_cli.train.lock import is_locked, lock
from animegen_cli.train.signals import STOPPING
from animegen_cli.train.sweep import check_alone

if TYPE_CHECKING:
    from types import FrameType

    from animegen_cli.compare.study_file import StudyConfig
    from animegen_cli.compare.study_plan import Request, Training
    from animegen_cli.data.dataset import FaceSet
    from animegen_cli.paths import Run


@dataclass(frozen=True)
class Done:
    """What became of a study: its folder and data set, the comparison with its files, and why trainings are not finished, by name.

    There is no comparison where other processes have just begun with every training, and none by a process beside another.
    """

    folder: Path
    data: Path
    compared: Comparison | None
    files: Mapping[str, Path]
    unfinished: Mapping[str, str]


_ELSEWHERE = "another process trains it at this moment"
_SCORED_ELSEWHERE = "another process scores it at this moment"
_OTHERS = (_ELSEWHERE, _SCORED_ELSEWHERE)


def run(request: Request) -> Done:
    """Train what is missing, score what is not scored, write the page; the same request goes on after a stop.

    Runs that another process trains at this moment are left to it, so that several can share a study.

    Raises:
        UsageError: an unknown study, or a folder begun with other runs, data or budget.
        StoppedError: asked to stop; everything needed to go on is saved.
    """
    check_alone("a study")
    folder = request.folder
    with _stoppable():
        for extractor in request.extractors:  # complain before the first hour
            evaluate.network(EvalRequest(extractor=extractor, device=request.device))
        study, faces = study_plan.made(request)
        with (
            study_plan.on_cores(study, request.at_once) as threads,
            study_processes.others(request, study, faces.path, threads) as others,
        ):
            unfinished = _work(request, study, faces, study_plan.trainings(study, folder, request.only))
            if others:
                study_processes.wait(others)
                left = [one for one in study_plan.trainings(study, folder, request.only) if one.name in unfinished]
                unfinished = _work(request, study, faces, left)
            if study_processes.is_one():
                return Done(folder, faces.path, None, {}, unfinished)
            started = study_plan.started(study, folder)
            if not started:
                if all(why == _ELSEWHERE for why in unfinished.values()):
                    return Done(folder, faces.path, None, {}, unfinished)
                raise DataError("no run of the study has begun", hint="read the warnings above")
            compared, files = _page(request, study, started, faces.path)
    return Done(folder, faces.path, compared, files, unfinished)


def _work(request: Request, study: StudyConfig, faces: FaceSet, todo: Sequence[Training]) -> dict[str, str]:
    """Train and score what nobody else does; gives why trainings are not finished, by name."""
    unfinished: dict[str, str] = {}
    for number, training in enumerate(todo, 1):
        study_run = study.runs[training.run]
        what = f"{study_run.family}/{study_run.preset}, {study_plan.length(study, study_run)}"
        console.note(f"[{number}/{len(todo)}] {training.name}: {what}")
        problem = study_plan.lacking(study_run, faces) or _train(request, study, training, faces.path)
        problem = problem or _score(request, study, training, faces.path)
        if problem is not None:
            unfinished[training.name] = problem
            (console.note if problem in _OTHERS else console.warn)(f"{training.name}: {problem}")
    return unfinished


def _train(request: Request, study: StudyConfig, training: Training, data: Path) -> str | None:
    """Train to the end; None, or why it is not finished."""
    run_folder, study_run = training.folder, study.runs[training.run]
    if run_folder.finished:
        return None
    if run_folder.path.is_dir() and is_locked(run_folder):
        return _ELSEWHERE
    if run_folder.state == "diverged":
        return "it diverged; its last healthy state is kept"
    asks = study_plan.training(request, study, training, data)
    if run_folder.exists and study_run.preset not in paths.presets(study_run.family):
        # The preset is gone since the run began: its own config says the same.
        resume = str(run_folder.path)
        asks = replace(asks, family=None, preset=None, settings=(), flags=(), resume=resume)
    else:
        asks = replace(asks, out=run_folder.path)
    try:
        train.train(asks, score=in_run_scores)
    except DivergedError as error:
        return f"it diverged: {error.message}"
    except DataError:
        if is_locked(run_folder):  # another process was faster by a moment
            return _ELSEWHERE
        raise
    return None


def _score(request: Request, study: StudyConfig, training: Training, data: Path) -> str | None:
    """Score what is not scored; None, or why it is not done. One process draws and scores a run, as one trains it."""
    scoring = study.scores
    named: list[str | None] = [*scoring.extractors] or [None]
    asks = EvalRequest(
        subject=str(training.folder.path), data=data, split=scoring.split, metrics=scoring.metrics,
        n=scoring.n, repeats=scoring.repeats, device=study_plan.device_of(request, study), where_possible=True,
    )  # fmt: skip
    try:
        with lock(training.folder):
            evaluate.evaluate_through(asks, list(dict.fromkeys([*named, *request.extractors])))
    except DataError:
        if is_locked(training.folder):
            return _SCORED_ELSEWHERE
        raise
    return None


@contextmanager
def _stoppable() -> Iterator[None]:
    """A request to stop ends the study between two things that are written whole; trainings have their own way."""

    def stop(number: int, _: FrameType | None) -> None:
        raise StoppedError(
            f"by {signal.Signals(number).name}, and all that is done is saved",
            hint="type the same command again to go on",
        )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in STOPPING if number != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _page(
    request: Request, study: StudyConfig, started: Mapping[str, Sequence[Run]], data: Path
) -> tuple[Comparison, Mapping[str, Path]]:
    folder = request.folder
    compared = replace(compare.compare(started), budget=study_plan.budget(study, started))
    draw = compare.drawing(study_plan.device_of(request, study))
    drawn = compare.same_seeds(compared, request.pictures, draw)
    files = compare.write(
        compared,
        folder / "comparison",
        drawn=drawn,
        study=StudyPlan(
            study.title,
            study.about,
            study_plan.table(study, folder),
            printed.tables(study, compared),
            [ScorePair(plot.x, plot.y, plot.runs) for plot in study.plots],
            shlex.join(["animegen", "compare", "--study", str(folder / study_plan.FILE), "--data", str(data)]),
        ),
        reals=request.reals,
        figures=request.figures,
    )
    return compared, files
