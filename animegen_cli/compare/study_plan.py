"""The plan of a study: its runs and seeds, each with its duration, as the folder of a study in work holds it.

What is trained and how much stands in a YAML file (`presets/studies/`). A study in work keeps its own copy, `study.yaml`, in which
the budget of every run that has begun is a number of images: that file reproduces the study on any machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from animegen_cli import config, console, disk, paths
from animegen_cli.compare.study_file import SEED, StudyConfig, StudyRun, check_time, folder_name, load
from animegen_cli.config import Amount, Layer, RunConfig
from animegen_cli.data.dataset import FaceSet
from animegen_cli.device import pick_device
from animegen_cli.errors import DataError, UsageError, did_you_mean
from animegen_cli.model import families
from animegen_cli.paths import Run
from animegen_cli.prepare import prepare
from animegen_cli.prepare.request import Options
from animegen_cli.prepare.request import Request as PrepareRequest
from animegen_cli.report.columns import Budget
from animegen_cli.report.tables import DASH, Cell, Column, Table, measured
from animegen_cli.report.units import amount
from animegen_cli.seeds import spell_seeds
from animegen_cli.train import train
from animegen_cli.train.request import Request as TrainRequest
from animegen_cli.train.speed import images_per_second

FILE = "study.yaml"
"""The copy that a study in work keeps in its folder."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `animegen compare --study` was asked for."""

    study: str
    data: Path | None = None
    out: Path | None = None
    budget: str | None = None
    device: str | None = None
    seeds: Sequence[int] | None = None
    """Training seeds; those of the study when None."""
    only: Sequence[str] = ()
    """Runs of the study to train and score now; all when empty."""
    extractors: Sequence[str] = ()
    """Further feature networks that look at what the runs draw."""
    size: int | None = None
    """Pixels; those of the study when None."""
    n: int | None = None
    """Images that are drawn for the scores of each run, once; those of the study when None."""
    at_once: int = 1
    """Trainings at the same time, each in a process of its own with its share of the cores."""
    pictures: Sequence[int] = range(10)
    """Seeds of the same-seeds picture."""
    reals: bool = True
    figures: bool = False

    @property
    def folder(self) -> Path:
        """Where the study lies."""
        return self.out or paths.STUDIES / paths.study_file(self.study).stem


class Training(NamedTuple):
    """One training of a study."""

    run: str
    """The study's run that it belongs to."""
    seed: int | None
    """Its seed; None where the preset's is meant."""
    folder: Run

    @property
    def name(self) -> str:
        """What it is called: the name of its folder."""
        return self.folder.name


def trainings(study: StudyConfig, folder: Path, only: Sequence[str] = ()) -> list[Training]:
    """The trainings of the study, or of some of its runs: every run with the first seed, then with the next one."""
    seeds: list[int | None] = [*study.seeds] or [None]
    return [
        Training(name, seed, Run(folder / "runs" / folder_name(study, name, seed)))
        for seed in seeds
        for name in study.runs
        if not only or name in only
    ]


def started(study: StudyConfig, folder: Path) -> dict[str, list[Run]]:
    """Give the folders of the trainings that have begun, by the study's run."""
    found: dict[str, list[Run]] = {name: [] for name in study.runs}
    for one in trainings(study, folder):
        if one.folder.exists:
            found[one.run].append(one.folder)
    return {name: folders for name, folders in found.items() if folders}


def plan_of(request: Request) -> tuple[StudyConfig, list[Training], list[str]]:
    """Give the study as it would run, its trainings and the command of each: nothing is trained or measured."""
    folder = request.folder
    study = asked(request)
    if (folder / FILE).is_file():
        study = _with_seeds(begun(folder / FILE), study, folder)
    found = trainings(study, folder, request.only)
    for one in found:
        train.read_config(training(request, study, one, None))
    commands = []
    for one in found:
        study_run = study.runs[one.run]
        words = ["animegen", "train", study_run.family, "--preset", study_run.preset]
        words += ["--data", str(request.data)] if request.data else []
        words += [word for setting in _settings(study, one) for word in ("--set", setting)]
        words += ["--duration", study_run.duration] if study_run.duration else []
        words += ["--budget", study.budget] if study.budget and not study_run.duration else []
        commands.append(shlex.join([*words, "--out", str(one.folder.path)]))
    return study, found, commands


def asked(request: Request) -> StudyConfig:
    """The study as its file and the request say it.

    Raises:
        UsageError: no such study or run of it, a budget that is no time, or a device that has no cores to count.
    """
    study = load(request.study)
    if request.size is not None:
        study = replace(study, size=request.size)
    if request.n is not None:
        study = replace(study, scores=replace(study.scores, n=request.n, repeats=1))
    if unknown := [name for name in request.only if name not in study.runs]:
        raise UsageError(f"the study has no run `{unknown[0]}`", hint=did_you_mean(unknown[0], study.runs))
    if request.seeds is not None:
        study = replace(study, seeds=list(dict.fromkeys(request.seeds)))
        if owner := next((name for name, run in study.runs.items() if SEED in run.settings), None):
            raise UsageError(f"the study gives `{owner}` a seed of its own", hint="leave `--seeds` out")
    if study.cores and request.device not in (None, "cpu"):
        raise UsageError(
            f"the study counts processor time on {_cores(study.cores)} of a CPU",
            hint="leave `--device` out, or make a study without `cores:`",
        )
    if request.budget is None:
        return study
    try:
        budget = check_time(request.budget)
    except ValueError as error:
        raise UsageError(f"--budget: {error}", hint='write `--budget "10 min"`') from error
    without_durations = {name: replace(study_run, duration=None) for name, study_run in study.runs.items()}
    return replace(study, budget=budget, runs=without_durations)


def device_of(request: Request, study: StudyConfig) -> str | None:
    """Where the study trains and draws: on the CPU where it counts cores."""
    return "cpu" if study.cores else request.device


@contextmanager
def on_cores(study: StudyConfig, at_once: int = 1) -> Iterator[int]:
    """Compute with the threads of one of so many processes: as many as the study says, else its share. Yields how many."""
    before = torch.get_num_threads()
    threads = study.cores or max(1, before // at_once)
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


# ---- the plan in its folder -----------------------------------------------------------------------------------


def made(request: Request) -> tuple[StudyConfig, FaceSet]:
    """The study in its folder, planned where it is new, and its data set.

    Of several processes that begin a study one makes its plan, and the others read it.

    Raises:
        UsageError: the folder was begun with other runs, budget, scores, size or data.
        DataError: no data set, or one with other pictures than the study names.
    """
    folder = request.folder
    study = asked(request)
    with _planning(folder), on_cores(study, request.at_once):
        faces = FaceSet.open(_data(request, study, folder))
        return _resolved(request, study, faces, folder), faces


def check_data(request: Request) -> None:
    """Open the data set that the study's workers will, where it does not draw its own, so that faults are known before they wait.

    Raises:
        DataError: no data set, a broken one, or one with other pictures than the study names.
    """
    study = asked(request)
    if request.data is None and study.demo is not None:
        return
    faces = FaceSet.open(request.data or paths.newest_dataset())
    file = request.folder / FILE
    if file.is_file():
        _check_same(begun(file), study, faces, request.folder)
    else:
        _check_pictures(study, faces)


def _check_pictures(study: StudyConfig, faces: FaceSet) -> None:
    if study.data is not None and study.data != faces.identity:
        raise DataError(
            f"the study was made with other pictures than {faces.path} holds (identity {study.data[:12]})",
            hint="name that set with `--data`, or delete the line `data:` of the study to run it on this one",
        )


@contextmanager
def _planning(folder: Path) -> Iterator[None]:
    """Alone with the plan, whose folder goes again where none was made."""
    waits = "another process plans this study; waiting"
    try:
        with contextlib.ExitStack() as alone:
            while True:
                paths.make_folder(folder)
                with contextlib.suppress(FileNotFoundError):  # whoever planned could not, and took the folder with it
                    alone.enter_context(disk.only_one(folder / FILE, on_wait=lambda: console.note(waits)))
                    break
            yield
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if all(file.suffix == ".lock" for file in folder.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
        raise


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


def _resolved(request: Request, study: StudyConfig, faces: FaceSet, folder: Path) -> StudyConfig:
    """The study as the folder holds it; what is about to be trained has a duration in images or epochs."""
    file = folder / FILE
    before = begun(file) if file.is_file() else None
    if before is not None:
        _check_same(before, study, faces, folder)
        study = _with_seeds(before, study, folder)
    else:
        _check_pictures(study, faces)
        device = str(pick_device(device_of(request, study)))
        study = replace(study, data=faces.identity, device=device)
    wanted = {one.run: one for one in trainings(study, folder, request.only)}  # of several seeds the last
    if before is None:  # complain before the first hour
        for one in wanted.values():
            train.read_config(training(request, study, one, faces.path))
    runs = {
        name: _measured(request, study, wanted[name], faces)
        if name in wanted and study.budget and study_run.duration is None and not lacking(study_run, faces)
        else study_run
        for name, study_run in study.runs.items()
    }
    study = replace(study, runs=runs)
    if study != before:
        paths.make_folder(folder)
        disk.write_text(file, disk.seal_yaml(_HEAD + config.to_yaml(_plain(study))))
    return study


def begun(file: Path) -> StudyConfig:
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
    """The values at every depth that are not None and not empty; of settings of a preset all, where an empty list is a value."""

    def inside(value: object) -> object:
        if isinstance(value, dict):
            return _sparse(value)
        return [inside(item) for item in value] if isinstance(value, list) else value

    return {
        key: value if key == "settings" else inside(value)
        for key, value in values.items()
        if value not in (None, {}, [])
    }


def _check_same(before: StudyConfig, study: StudyConfig, faces: FaceSet, folder: Path) -> None:
    """Raise UsageError when the folder holds a study of other runs, budget or data."""
    is_measured = bool(before.budget or study.budget)
    changed = [] if _runs_as_asked(before, is_measured) == _runs_as_asked(study, is_measured) else ["runs"]
    changed += [key for key in ("budget", "cores", "scores", "size") if getattr(before, key) != getattr(study, key)]
    if before.data != faces.identity:
        changed.append("data")
    if changed:
        raise UsageError(
            f"{folder} holds a study that was begun with other {', '.join(changed)}",
            hint=f"go on with it by `--study {folder / FILE}`, or begin another with `--out`",
        )


def _with_seeds(before: StudyConfig, study: StudyConfig, folder: Path) -> StudyConfig:
    """The study of a folder with the seeds that are asked for beside those that it has.

    Raises:
        UsageError: it was begun with the presets' own seeds, and the first of those asked for is another.
    """
    new = [seed for seed in study.seeds if seed not in before.seeds]
    if not new:
        return before
    if not before.seeds:
        own = {train.read_config(training(None, before, one, None)).train.seed for one in trainings(before, folder)}
        if own != {study.seeds[0]}:
            raise UsageError(
                f"{folder} holds trainings with the presets' own seed, {spell_seeds(sorted(own))}",
                hint="let that be the first of `--seeds`, or begin another study with `--out`",
            )
    return replace(before, seeds=[*before.seeds, *new])


def _runs_as_asked(study: StudyConfig, is_measured: bool) -> dict[str, tuple[object, ...]]:
    """What a file says of each run; a measured duration is not part of it."""
    return {
        name: (run.family, run.preset, run.settings, None if is_measured else run.duration)
        for name, run in study.runs.items()
    }


def _measured(request: Request, study: StudyConfig, one: Training, faces: FaceSet) -> StudyRun:
    """The budget of time as images, from half a minute of training that is thrown away."""
    study_run, asks = study.runs[one.run], training(request, study, one, faces.path)
    run_config: RunConfig = train.read_config(asks)
    prepared = train.prepare(asks, run_config, faces)
    name = f"{study_run.family}/{study_run.preset}"
    console.note(f"{name}: measuring how fast it trains here, by steps that are thrown away")
    rate = images_per_second(prepared, cores=study.cores)
    batch = run_config.train.batch
    seconds = Amount.parse(study.budget or "").seconds or 0.0
    images = max(int(rate * seconds) // batch, 1) * batch
    counted = f"of processor time on {_cores(study.cores)}" if study.cores else "by the clock"
    console.note(f"{name}: {rate:.3g} images/s, so {study.budget} {counted} are {images:,} images")
    return replace(study_run, duration=f"{images} images", images_per_second=round(rate, 2))


def lacking(study_run: StudyRun, faces: FaceSet) -> str | None:
    """Why this set cannot train the run, when its family needs pictures that the set does not have."""
    missing = sorted(set(families.load(study_run.family).domains) - set(faces.domains))
    if not missing:
        return None
    way = "`animegen prepare --photos ./photos --anime ./faces --out two.zip`"
    return f"the set has no {' and no '.join(missing)}, which {study_run.family} needs; {way} makes one that has"


def training(request: Request | None, study: StudyConfig, one: Training, data: Path | None) -> TrainRequest:
    """What a training of the study asks `animegen train` for; without its folder."""
    study_run = study.runs[one.run]
    flags = [Layer.from_flag("--duration", "train.duration", study_run.duration)] if study_run.duration else []
    return TrainRequest(
        family=study_run.family, preset=study_run.preset, data=data, device=device_of(request, study) if request else None,
        settings=_settings(study, one), flags=flags,
    )  # fmt: skip


def _settings(study: StudyConfig, one: Training) -> list[str]:
    """The training's settings as words of `--set`, whose values are YAML: `model.head_width=null`."""
    settings = ({"size": study.size} if study.size else {}) | study.runs[one.run].settings
    settings |= {} if one.seed is None else {SEED: one.seed}
    return [f"{key}={_spelled(value)}" for key, value in settings.items()]


def _spelled(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# ---- the table of it ------------------------------------------------------------------------------------------


def table(study: StudyConfig, folder: Path | None = None) -> Table:
    """List the runs of a study: what each is, how long it trains and, where it has begun (in `folder`), its state."""
    columns = (
        Column("run", "run", right=False), Column("settings", "settings", right=False), Column("duration", "trains for"),
        Column("images_per_second", "images/s when measured"), Column("state", "state", right=False),
    )  # fmt: skip
    rows = []
    for name, study_run in study.runs.items():
        shown = zip(config.short_names([*study_run.settings]), study_run.settings.values(), strict=True)
        changed = "".join(f", {key} {_spelled(value)}" for key, value in shown)
        state = _state([one.folder.state for one in trainings(study, folder, [name])]) if folder else None
        rate = study_run.images_per_second
        rows.append(
            (
                Cell(name, name), Cell(f"{study_run.family}/{study_run.preset}{changed}", f"{study_run.family}/{study_run.preset}"),
                Cell(length(study, study_run), study_run.duration), measured(rate, amount),
                Cell(str(state or DASH), state),
            )
        )  # fmt: skip
    return Table("The study", columns, tuple(rows), tuple(_notes(study)))


def _state(states: Sequence[str | None]) -> str | None:
    """The state of one training, or of several how many are in each."""
    kinds = {state: states.count(state) for state in dict.fromkeys(states)}
    if len(states) == 1:
        return states[0]
    return ", ".join(f"{count} {state or 'not begun'}" for state, count in kinds.items())


def _notes(study: StudyConfig) -> Iterator[str]:
    if len(study.seeds) > 1:
        yield f"Each run is trained with the seeds {spell_seeds(study.seeds)}, for as many images with each."
    if study.budget and study.cores:
        yield (
            f"Each training had {study.budget} of processor time on {_cores(study.cores)} of the CPU, turned into images by "
            "measuring once: what other processes took from the machine is not counted, and neither are previews, validation "
            "and saving."
        )
    elif study.budget:
        where = f" on {study.device}, {os.cpu_count()} cores" if study.device else ""
        yield f"Each run had {study.budget} of training, turned into images by measuring once{where}."
    scoring = study.scores
    yield f"Scored on {scoring.repeats} x {scoring.n:,} images against the {scoring.split} split."
    for preset, why in study.left_out.items():
        yield f"Not among them: {preset}, {why}."


def _cores(count: int) -> str:
    return f"{count} core{'s' * (count > 1)}"


def budget(study: StudyConfig, names: Iterable[str]) -> Budget | None:
    """What each of the named runs was given to train; None where one has a length of its own."""
    if study.budget is None or not all(study.runs[name].images_per_second for name in names):
        return None
    return Budget(Amount.parse(study.budget).seconds or 0.0, study.cores)


def length(study: StudyConfig, study_run: StudyRun) -> str:
    """How long a run trains, in words."""
    return study_run.duration or study.budget or "as its preset says"
