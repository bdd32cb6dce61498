"""A study: several trainings on one data set, scored alike, and the page that they end in.

What is trained and how much stands in a YAML file (`presets/studies/`). A study in work keeps its own copy,
`study.yaml`, in which every budget is a number of images: that file reproduces the study on any machine.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from animegen_cli import config, console, disk, paths
from animegen_cli.compare import compare, printed
from animegen_cli.compare.study_file import StudyConfig, StudyRun, check_time, load
from animegen_cli.config import Amount, Layer, RunConfig
from animegen_cli.data.dataset import FaceSet
from animegen_cli.device import pick_device
from animegen_cli.errors import DataError, DivergedError, StoppedError, UsageError
from animegen_cli.evaluate import evaluate
from animegen_cli.evaluate.features import in_run_scores
from animegen_cli.evaluate.request import Request as EvalRequest
from animegen_cli.model import families
from animegen_cli.model.pixels import channels_last
from animegen_cli.paths import Run
from animegen_cli.prepare import prepare
from animegen_cli.prepare.request import Options
from animegen_cli.prepare.request import Request as PrepareRequest
from animegen_cli.report.columns import Comparison
from animegen_cli.report.figures import ScorePair
from animegen_cli.report.page import StudyPlan
from animegen_cli.report.tables import DASH, Cell, Column, Table, measured
from animegen_cli.report.units import amount
from animegen_cli.sample import generate
from animegen_cli.train import train
from animegen_cli.train.folder import is_locked
from animegen_cli.train.request import Request as TrainRequest
from animegen_cli.train.speed import images_per_second
from animegen_cli.train.sweep import check_alone

if TYPE_CHECKING:
    from types import FrameType

FILE = "study.yaml"
"""The copy that a study in work keeps in its folder."""


# ---- the work -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `animegen compare --study` was asked for."""

    study: str
    data: Path | None = None
    out: Path | None = None
    budget: str | None = None
    device: str | None = None
    seeds: Sequence[int] = range(10)
    reals: bool = True
    figures: bool = False


@dataclass(frozen=True)
class Done:
    """What became of a study: its folder, the comparison, the files of that, and why runs are not finished, by name.

    There is no comparison where other processes have just begun with every run.
    """

    folder: Path
    compared: Comparison | None
    files: Mapping[str, Path]
    unfinished: Mapping[str, str]


_ELSEWHERE = "another process trains it at this moment"


def run(request: Request) -> Done:
    """Train what is missing, score what is not scored, write the page; the same request goes on after a stop.

    Runs that another process trains at this moment are left to it, so that several can share a study.

    Raises:
        UsageError: an unknown study, or a folder begun with other runs, data or budget.
        StoppedError: asked to stop; everything needed to go on is saved.
    """
    check_alone("a study")
    folder = request.out or paths.STUDIES / paths.study_file(request.study).stem
    asked = _asked(request)
    with _stoppable():
        with _planning(folder):
            data = _data(request, asked, folder)
            faces = FaceSet.open(data)
            study = _resolved(request, asked, faces, folder)
        unfinished: dict[str, str] = {}
        for number, (name, study_run) in enumerate(study.runs.items(), 1):
            what = f"{study_run.family}/{study_run.preset}, {_length(study, study_run)}"
            console.note(f"[{number}/{len(study.runs)}] {name}: {what}")
            problem = _lacking(study_run, faces) or _train(request, study, name, data, folder)
            if problem is None:
                _score(request, study, name, data, folder)
            else:
                unfinished[name] = problem
                console.warn(f"{name}: {problem}")
        started = [run for run in _runs(study, folder).values() if run.exists]
        if not started:
            if all(why == _ELSEWHERE for why in unfinished.values()):
                return Done(folder, None, {}, unfinished)
            raise DataError("no run of the study has begun", hint="read the warnings above")
        compared, files = _page(request, study, started, folder)
        return Done(folder, compared, files, unfinished)


@contextmanager
def _planning(folder: Path) -> Iterator[None]:
    """Of several processes that begin a study one makes its plan, and the others read it; a folder without one goes again."""
    paths.make_folder(folder)
    try:
        with disk.only_one(folder / FILE, on_wait=lambda: console.note("another process plans this study; waiting")):
            yield
    except BaseException:
        if all(file.suffix == ".lock" for file in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def plan_of(request: Request) -> tuple[StudyConfig, list[str]]:
    """Give the study as it would run, and the command of each training: nothing is trained or measured."""
    folder = request.out or paths.STUDIES / paths.study_file(request.study).stem
    study = _begun(folder / FILE) if (folder / FILE).is_file() else _asked(request)
    for study_run in study.runs.values():
        train.read_config(_training(request, study, study_run, None))
    commands = []
    for name, study_run in study.runs.items():
        words = ["animegen", "train", study_run.family, "--preset", study_run.preset]
        words += ["--data", str(request.data)] if request.data else []
        words += [word for setting in _settings(study, study_run) for word in ("--set", setting)]
        words += ["--duration", study_run.duration] if study_run.duration else []
        commands.append(shlex.join([*words, "--out", str(folder / "runs" / name)]))
    return study, commands


def _asked(request: Request) -> StudyConfig:
    study = load(request.study)
    if request.budget is None:
        return study
    try:
        budget = check_time(request.budget)
    except ValueError as error:
        raise UsageError(f"--budget: {error}", hint='write `--budget "10 min"`') from error
    without_durations = {name: replace(study_run, duration=None) for name, study_run in study.runs.items()}
    return replace(study, budget=budget, runs=without_durations)


def _data(request: Request, study: StudyConfig, folder: Path) -> Path:
    """The data set: the flag's, the drawn faces of the study, or the newest."""
    if request.data is not None:
        return request.data
    if study.demo is None:
        found = paths.newest_dataset()
        console.note(f"data: {found} (the newest; say another with `--data`)")
        return found
    drawn = paths.make_folder(folder) / f"drawn-{study.size or 64}.zip"
    if not drawn.is_file():
        console.note(f"drawing {study.demo:,} faces (train on your own with `--data`)")
        prepare.prepare(PrepareRequest(["demo"], drawn, Options(study.size or 64, limit=study.demo)))
    return drawn


def _resolved(request: Request, asked: StudyConfig, faces: FaceSet, folder: Path) -> StudyConfig:
    """The study in its folder, made at the first call: every run's duration is an amount of images or epochs."""
    file = folder / FILE
    if file.is_file():
        begun = _begun(file)
        _check_same(begun, asked, faces, folder)
        return begun
    if asked.data is not None and asked.data != faces.identity:
        raise DataError(
            f"the study was made with other pictures than {faces.path} holds (identity {asked.data[:12]})",
            hint="name that set with `--data`, or delete the line `data:` of the study to run it on this one",
        )
    requests = {name: _training(request, asked, study_run, faces.path) for name, study_run in asked.runs.items()}
    configs = {name: train.read_config(found) for name, found in requests.items()}  # complain before the first hour
    runs = asked.runs
    if asked.budget is not None:
        runs = {
            name: study_run
            if _lacking(study_run, faces)
            else _measured(asked, study_run, requests[name], configs[name], faces)
            for name, study_run in runs.items()
        }
    study = replace(asked, runs=runs, data=faces.identity, device=str(pick_device(request.device)))
    paths.make_folder(folder)
    disk.write_text(file, disk.seal_yaml(_HEAD + config.to_yaml(_plain(study))))
    return study


def _begun(file: Path) -> StudyConfig:
    """The study of a folder; DataError where its file is not as the study wrote it."""
    if Layer.from_yaml(file).edited:
        raise DataError(
            f"{file} was changed since the study wrote it",
            hint="take the change back, or delete the last line of the file if you mean it",
        )
    return load(file)


_HEAD = "# Written by `animegen compare --study NAME`; give this file to `--study` to run the same again.\n"


def _plain(study: StudyConfig) -> dict[str, Any]:
    """Values for YAML, without what was not said."""
    return _sparse(dataclasses.asdict(study))


def _sparse(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values at every depth that are not None and not empty."""

    def inside(value: object) -> object:
        if isinstance(value, dict):
            return _sparse(value)
        return [inside(item) for item in value] if isinstance(value, list) else value

    return {key: inside(value) for key, value in values.items() if value not in (None, {}, [])}


def _check_same(begun: StudyConfig, asked: StudyConfig, faces: FaceSet, folder: Path) -> None:
    """Raise UsageError when the folder holds a study of other runs, budget or data."""
    is_measured = bool(begun.budget or asked.budget)
    changed = [] if _runs_as_asked(begun, is_measured) == _runs_as_asked(asked, is_measured) else ["runs"]
    changed += [key for key in ("budget", "scores", "size") if getattr(begun, key) != getattr(asked, key)]
    if begun.data != faces.identity:
        changed.append("data")
    if changed:
        raise UsageError(
            f"{folder} holds a study that was begun with other {', '.join(changed)}",
            hint=f"go on with it by `--study {folder / FILE}`, or begin another with `--out`",
        )


def _runs_as_asked(study: StudyConfig, is_measured: bool) -> dict[str, tuple[object, ...]]:
    """What a file says of each run; a measured duration is not part of it."""
    return {
        name: (run.family, run.preset, run.settings, None if is_measured else run.duration)
        for name, run in study.runs.items()
    }


def _measured(
    study: StudyConfig, study_run: StudyRun, request: TrainRequest, run_config: RunConfig, faces: FaceSet
) -> StudyRun:
    """The budget of time as images, from half a minute of training that is thrown away."""
    prepared = train.prepare(request, run_config, faces)
    rate = images_per_second(prepared)
    batch = run_config.train.batch
    seconds = Amount.parse(study.budget or "").seconds or 0.0
    images = max(int(rate * seconds) // batch, 1) * batch
    console.note(
        f"{study_run.family}/{study_run.preset}: {rate:,.0f} images/s, so {study.budget} are {images:,} images"
    )
    return replace(study_run, duration=f"{images} images", images_per_second=round(rate, 2))


def _lacking(study_run: StudyRun, faces: FaceSet) -> str | None:
    """Why this set cannot train the run, when its family needs pictures that the set does not have."""
    missing = sorted(set(families.load(study_run.family).domains) - set(faces.domains))
    if not missing:
        return None
    way = "`animegen prepare --photos ./photos --anime ./faces --out two.zip`"
    return f"the set has no {' and no '.join(missing)}, which {study_run.family} needs; {way} makes one that has"


def _training(request: Request, study: StudyConfig, study_run: StudyRun, data: Path | None) -> TrainRequest:
    flags = [Layer.from_flag("--duration", "train.duration", study_run.duration)] if study_run.duration else []
    return TrainRequest(
        family=study_run.family, preset=study_run.preset, data=data, device=request.device,
        settings=_settings(study, study_run), flags=flags,
    )  # fmt: skip


def _settings(study: StudyConfig, study_run: StudyRun) -> list[str]:
    """The run's settings as words of `--set`, whose values are YAML: `model.head_width=null`."""
    settings = ({"size": study.size} if study.size else {}) | study_run.settings
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def _runs(study: StudyConfig, folder: Path) -> dict[str, Run]:
    return {name: Run(folder / "runs" / name) for name in study.runs}


def _train(request: Request, study: StudyConfig, name: str, data: Path, folder: Path) -> str | None:
    """Train a run to its end; None, or why it is not finished."""
    run_folder, study_run = _runs(study, folder)[name], study.runs[name]
    if run_folder.finished:
        return None
    if run_folder.path.is_dir() and is_locked(run_folder):
        return _ELSEWHERE
    if run_folder.state == "diverged":
        return "it diverged; its last healthy state is kept"
    training = _training(request, study, study_run, data)
    if run_folder.exists and study_run.preset not in paths.presets(study_run.family):
        # The preset is gone since the run began: its own config says the same.
        resume = str(run_folder.path)
        training = replace(training, family=None, preset=None, settings=(), flags=(), resume=resume)
    else:
        training = replace(training, out=run_folder.path)
    try:
        train.train(training, score=in_run_scores)
    except DivergedError as error:
        return f"it diverged: {error.message}"
    except DataError:
        if is_locked(run_folder):  # another process was faster by a moment
            return _ELSEWHERE
        raise
    return None


def _score(request: Request, study: StudyConfig, name: str, data: Path, folder: Path) -> None:
    scoring = study.scores
    evaluate.evaluate(
        EvalRequest(
            subject=str(_runs(study, folder)[name].path), data=data, split=scoring.split, metrics=scoring.metrics,
            n=scoring.n, repeats=scoring.repeats, device=request.device, where_possible=True,
        )
    )  # fmt: skip


@contextmanager
def _stoppable() -> Iterator[None]:
    """A request to stop ends the study between two things that are written whole; trainings have their own way."""

    def stop(number: int, _: FrameType | None) -> None:
        raise StoppedError(
            f"stopped by signal {signal.Signals(number).name}", hint="type the same command again to go on"
        )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- the page -------------------------------------------------------------------------------------------------


def _page(
    request: Request, study: StudyConfig, runs: Sequence[Run], folder: Path
) -> tuple[Comparison, Mapping[str, Path]]:
    compared = compare.compare(runs)
    drawn = compare.same_seeds(
        compared,
        request.seeds,
        lambda run, seeds: channels_last(generate.images(run, seeds, device=pick_device(request.device))),
    )
    files = compare.write(
        compared,
        folder / "comparison",
        drawn=drawn,
        plots=[ScorePair(plot.x, plot.y, plot.runs) for plot in study.plots],
        study=StudyPlan(study.title, study.about, table(study, folder), printed.tables(study, compared)),
        reals=request.reals,
        figures=request.figures,
    )
    return compared, files


def table(study: StudyConfig, folder: Path | None = None) -> Table:
    """List the runs of a study: what each is, how long it trains and, where it has begun (in `folder`), its state."""
    columns = (
        Column("run", "run", right=False), Column("settings", "settings", right=False), Column("duration", "trains for"),
        Column("images_per_second", "images/s when measured"), Column("state", "state", right=False),
    )  # fmt: skip
    rows = []
    for name, study_run in study.runs.items():
        changed = "".join(f", {key.rsplit('.', 1)[-1]} {value}" for key, value in study_run.settings.items())
        begun = Run(folder / "runs" / name) if folder else None
        state = begun.state if begun else None
        rate = study_run.images_per_second
        rows.append(
            (
                Cell(name, name), Cell(f"{study_run.family}/{study_run.preset}{changed}", f"{study_run.family}/{study_run.preset}"),
                Cell(_length(study, study_run), study_run.duration), measured(rate, amount),
                Cell(str(state or DASH), state),
            )
        )  # fmt: skip
    notes = []
    if study.budget:
        where = f" on {study.device}, {os.cpu_count()} cores" if study.device else ""
        notes.append(f"Each run had {study.budget} of training, turned into images by measuring once{where}.")
    scoring = study.scores
    notes.append(f"Scored on {scoring.repeats} x {scoring.n:,} images against the {scoring.split} split.")
    return Table("The study", columns, tuple(rows), tuple(notes))


def _length(study: StudyConfig, study_run: StudyRun) -> str:
    return study_run.duration or study.budget or "as its preset says"
