"""A study: several trainings on one data set, scored alike, and the page that they end in.

What is trained and how much stands in a YAML file (`presets/studies/`). A study in work keeps its own copy,
`study.yaml`, in which every budget is a number of images: that file reproduces the study on any machine.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from animegen_cli import config, console, paths
from animegen_cli.compare import compare
from animegen_cli.config import Amount, Layer, Progress, RunConfig, Section
from animegen_cli.data.dataset import FaceSet
from animegen_cli.device import pick_device
from animegen_cli.errors import DataError, DivergedError, StoppedError, UsageError
from animegen_cli.evaluate import evaluate
from animegen_cli.model.pixels import channels_last
from animegen_cli.paths import Run
from animegen_cli.prepare import prepare
from animegen_cli.report.tables import DASH, Cell, Column, Table
from animegen_cli.report.units import amount
from animegen_cli.sample import generate
from animegen_cli.train import train
from animegen_cli.train.folder import is_locked
from animegen_cli.train.speed import images_per_second

if TYPE_CHECKING:
    from types import FrameType

PLAN = "study.yaml"


# ---- the file -------------------------------------------------------------------------------------------------


def _check_time(text: str) -> str:
    if Amount.parse(text).seconds is None:
        raise ValueError(f"`{text}` is no time; write `10 min`, or give the runs a `duration` in images or epochs")
    return text


Time = Annotated[str, AfterValidator(_check_time)]


@dataclass(frozen=True, kw_only=True)
class StudyRun(Section):
    """One run."""

    family: str
    preset: str
    settings: dict[str, Any] = field(default_factory=dict)
    """What `--set` would change: `model.beta: 4`."""
    duration: Progress | None = None
    """How long it trains; as its preset says when absent."""
    images_per_second: float | None = None
    """What a budget of time was turned into images with; written by the study."""


@dataclass(frozen=True, kw_only=True)
class Scoring(Section):
    """How every run is scored: options of `animegen eval`."""

    n: Annotated[int, Field(ge=2)] = 2048
    repeats: Annotated[int, Field(ge=1)] = 3
    split: Literal["train", "test", "all"] = "test"
    metrics: list[str] = field(default_factory=list)
    """All that `animegen eval` measures when empty."""


@dataclass(frozen=True, kw_only=True)
class Plot(Section):
    """One score against another, a point per run."""

    x: str
    y: str
    runs: list[str] = field(default_factory=list)
    """Runs joined by a line, in this order; all without a line when empty."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig(Section):
    """A study as its file says it."""

    title: str
    about: str
    runs: dict[str, StudyRun]
    size: Annotated[int, Field(ge=8)] | None = None
    """Pixels; of the set or of the presets when absent."""
    demo: Annotated[int, Field(ge=16)] | None = None
    """Without `--data`: so many drawn faces of `size` pixels."""
    budget: Time | None = None
    """Training time of each run; turned into images once, by measuring."""
    scores: Scoring = field(default_factory=Scoring)
    plots: list[Plot] = field(default_factory=list)
    data: str | None = None
    """Identity of the data set; written by the study."""
    device: str | None = None
    """Where a budget was measured; written by the study."""


def load(spec: str | Path) -> StudyConfig:
    """A shipped study, or a YAML file; ConfigError with its lines where it is wrong."""
    file = paths.study_file(str(spec))
    shipped = file.parent == paths.presets_folder() / "studies"
    layer = Layer.from_yaml(file, shown=f"presets/studies/{file.name}" if shipped else None)
    plan = config.build(layer, StudyConfig, hint="see presets/studies/smoke.yaml for a whole one")
    unknown = {name for plot in plan.plots for name in plot.runs} - set(plan.runs)
    if unknown or not plan.runs:
        what = f"plots name runs that it does not have: {', '.join(sorted(unknown))}" if unknown else "it has no runs"
        raise UsageError(f"the study {file} cannot be run: {what}", hint="mend its `runs:` or `plots:`")
    for name in plan.runs:
        if Path(name).name != name or name.startswith("."):
            raise UsageError(f"`{name}` cannot name a run: it becomes a folder", hint="use letters, digits and dashes")
    return plan


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
    """What became of a study: the comparison, its files, and the runs that are not finished, with the reason."""

    folder: Path
    compared: compare.Comparison
    files: Mapping[str, Path]
    open: Mapping[str, str]


def run(request: Request) -> Done:
    """Train what is missing, score what is not scored, write the page; the same request goes on after a stop.

    Runs that another process trains at this moment are left to it, so that several can share a study.

    Raises:
        UsageError: an unknown study, or a folder begun with other runs, data or budget.
        StoppedError: told to stop; everything needed to go on is saved.
    """
    folder = request.out or paths.STUDIES / Path(request.study).stem
    asked = _asked(request)
    with _stoppable():
        data = _data(request, asked, folder)
        plan = _plan(request, asked, FaceSet.open(data), folder)
        still: dict[str, str] = {}
        for number, (name, member) in enumerate(plan.runs.items(), 1):
            console.note(
                f"[{number}/{len(plan.runs)}] {name}: {member.family}/{member.preset}, {_length(plan, member)}"
            )
            problem = _train(request, plan, name, data, folder)
            if problem is None:
                _score(request, plan, name, data, folder)
            else:
                still[name] = problem
                console.warn(f"{name}: {problem}")
        started = [run for run in _runs(plan, folder).values() if run.exists]
        if not started:
            raise DataError("no run of the study has begun", hint="read the warnings above")
        return Done(folder, *_page(request, plan, started, folder), open=still)


def plan_of(request: Request) -> tuple[StudyConfig, list[str]]:
    """The study as it would run, and the command of each training: nothing is trained or measured."""
    folder = request.out or paths.STUDIES / Path(request.study).stem
    plan = load(folder / PLAN) if (folder / PLAN).is_file() else _asked(request)
    for member in plan.runs.values():
        train.read_config(_training(request, plan, member, None))
    commands = []
    for name, member in plan.runs.items():
        words = ["animegen", "train", member.family, "--preset", member.preset]
        words += ["--data", str(request.data)] if request.data else []
        words += [word for key, value in _settings(plan, member).items() for word in ("--set", f"{key}={value}")]
        words += ["--duration", member.duration] if member.duration else []
        commands.append(shlex.join([*words, "--out", str(folder / "runs" / name)]))
    return plan, commands


def _asked(request: Request) -> StudyConfig:
    plan = load(request.study)
    if request.budget is None:
        return plan
    try:
        budget = _check_time(request.budget)
    except ValueError as error:
        raise UsageError(f"--budget: {error}", hint='write `--budget "10 min"`') from error
    members = {name: replace(member, duration=None) for name, member in plan.runs.items()}
    return replace(plan, budget=budget, runs=members)


def _data(request: Request, plan: StudyConfig, folder: Path) -> Path:
    """The data set: the flag's, the drawn faces of the study, or the newest."""
    if request.data is not None:
        return request.data
    if plan.demo is None:
        found = paths.newest_dataset()
        console.note(f"data: {found} (the newest; say another with `--data`)")
        return found
    drawn = paths.make_folder(folder) / f"drawn-{plan.size or 64}.zip"
    if not drawn.is_file():
        console.note(f"drawing {plan.demo:,} faces (train on your own with `--data`)")
        prepare.prepare(prepare.Request(["demo"], drawn, prepare.Options(plan.size or 64, limit=plan.demo)))
    return drawn


def _plan(request: Request, asked: StudyConfig, faces: FaceSet, folder: Path) -> StudyConfig:
    """The plan in the study's folder, made at the first call: every run's duration is an amount of images or epochs."""
    file = folder / PLAN
    if file.is_file():
        kept = load(file)
        _check_same(kept, asked, faces, folder)
        return kept
    if asked.data is not None and asked.data != faces.identity:
        raise DataError(
            f"the study was made with other pictures than {faces.path} holds (identity {asked.data[:12]})",
            hint="name that set with `--data`, or delete the line `data:` of the study to run it on this one",
        )
    requests = {name: _training(request, asked, member, faces.path) for name, member in asked.runs.items()}
    configs = {name: train.read_config(found) for name, found in requests.items()}  # complain before the first hour
    members = asked.runs
    if asked.budget is not None:
        members = {
            name: _measured(asked, member, requests[name], configs[name], faces) for name, member in members.items()
        }
    device = str(pick_device(request.device))
    plan = replace(asked, runs=members, data=faces.identity, device=device)
    paths.make_folder(folder)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(_HEAD + config.to_yaml(_plain(plan)), encoding="utf-8")
    temporary.replace(file)
    return plan


_HEAD = "# Written by `animegen compare --study`; give this file to `--study` to run the same again.\n"


def _plain(plan: StudyConfig) -> dict[str, Any]:
    """Values for YAML, without what was not said."""

    def sparse(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: sparse(item) for key, item in value.items() if item not in (None, {}, [])}
        return [sparse(item) for item in value] if isinstance(value, list) else value

    found: dict[str, Any] = sparse(dataclasses.asdict(plan))
    return found


def _check_same(kept: StudyConfig, asked: StudyConfig, faces: FaceSet, folder: Path) -> None:
    """UsageError when the folder holds a study of other runs, budget or data."""

    measured = kept.budget or asked.budget

    def runs(plan: StudyConfig) -> dict[str, Any]:
        return {
            name: (m.family, m.preset, m.settings, None if measured else m.duration) for name, m in plan.runs.items()
        }

    changed = []
    if runs(kept) != runs(asked):
        changed.append("runs")
    changed += [key for key in ("budget", "scores", "size") if getattr(kept, key) != getattr(asked, key)]
    if kept.data != faces.identity:
        changed.append("data")
    if changed:
        raise UsageError(
            f"{folder} holds a study that was begun with other {', '.join(changed)}",
            hint=f"go on with it by `--study {folder / PLAN}`, or begin another with `--out`",
        )


def _measured(
    plan: StudyConfig, member: StudyRun, request: train.Request, run_config: RunConfig, faces: FaceSet
) -> StudyRun:
    """The budget of time as images, from half a minute of training that is thrown away."""
    prepared = train.prepare(request, run_config, faces)
    rate = images_per_second(prepared)
    batch, seconds = run_config.train.batch, Amount.parse(plan.budget or "").seconds or 0.0
    images = max(int(rate * seconds) // batch, 1) * batch
    console.note(f"{member.family}/{member.preset}: {rate:,.0f} images/s, so {plan.budget} are {images:,} images")
    return replace(member, duration=f"{images} images", images_per_second=round(rate, 2))


def _training(request: Request, plan: StudyConfig, member: StudyRun, data: Path | None) -> train.Request:
    words = [f"{key}={value}" for key, value in _settings(plan, member).items()]
    flags = [Layer.from_flag("--duration", "train.duration", member.duration)] if member.duration else []
    return train.Request(
        family=member.family, preset=member.preset, data=data, device=request.device, settings=words, flags=flags
    )


def _settings(plan: StudyConfig, member: StudyRun) -> dict[str, Any]:
    return ({"size": plan.size} if plan.size else {}) | member.settings


def _runs(plan: StudyConfig, folder: Path) -> dict[str, Run]:
    return {name: Run(folder / "runs" / name) for name in plan.runs}


def _train(request: Request, plan: StudyConfig, name: str, data: Path, folder: Path) -> str | None:
    """Train a run to its end; why it has none, otherwise."""
    found, member = _runs(plan, folder)[name], plan.runs[name]
    if found.finished:
        return None
    if found.path.is_dir() and is_locked(found):
        return "another process trains it at this moment"
    if found.state == "diverged":
        return "it diverged; its last healthy state is kept"
    asked = _training(request, plan, member, data)
    if found.exists and member.preset not in paths.presets(member.family):  # gone since: by the run's own config
        asked = replace(asked, family=None, preset=None, settings=(), flags=(), resume=str(found.path))
    else:
        asked = replace(asked, out=found.path)
    try:
        train.train(asked, score=evaluate.in_run_scores)
    except DivergedError as error:
        return f"it diverged: {error.message}"
    return None


def _score(request: Request, plan: StudyConfig, name: str, data: Path, folder: Path) -> None:
    scoring = plan.scores
    evaluate.evaluate(
        evaluate.Request(
            subject=str(_runs(plan, folder)[name].path), data=data, split=scoring.split, metrics=scoring.metrics,
            n=scoring.n, repeats=scoring.repeats, device=request.device, where_possible=True,
        )
    )  # fmt: skip


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGUSR1 end the study between two things that are written whole; trainings have their own way."""

    def stop(number: int, _: FrameType | None) -> None:
        raise StoppedError(
            f"stopped by signal {signal.Signals(number).name}", hint="type the same command again to go on"
        )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- the page -------------------------------------------------------------------------------------------------


def _page(
    request: Request, plan: StudyConfig, runs: Sequence[Run], folder: Path
) -> tuple[compare.Comparison, Mapping[str, Path]]:
    compared = compare.compare(runs)
    drawn = compare.same_seeds(
        compared,
        request.seeds,
        lambda run, seeds: channels_last(generate.images(run, seeds, device=pick_device(request.device))),
    )
    study = {"title": plan.title, "about": plan.about, "rows": table(plan, folder)}
    written = compare.write(
        compared, folder / "comparison", drawn=drawn, reals=request.reals, study=study,
        plots=[dataclasses.asdict(plot) for plot in plan.plots], figures=request.figures,
    )  # fmt: skip
    return compared, written


def table(plan: StudyConfig, folder: Path | None = None) -> Table:
    """The runs of a study: what each is, how long it trains and, where it has begun, what became of it."""
    columns = (
        Column("run", "run", right=False), Column("settings", "settings", right=False), Column("duration", "trains for"),
        Column("images_per_second", "images/s when measured"), Column("state", "state", right=False),
    )  # fmt: skip
    rows = []
    for name, member in plan.runs.items():
        changed = "".join(f", {key.rsplit('.', 1)[-1]} {value}" for key, value in member.settings.items())
        begun = Run(folder / "runs" / name) if folder else None
        state = begun.state if begun else None
        rate = member.images_per_second
        rows.append(
            (
                Cell(name, name), Cell(f"{member.family}/{member.preset}{changed}", f"{member.family}/{member.preset}"),
                Cell(_length(plan, member), member.duration), Cell(amount(rate), rate) if rate else Cell(),
                Cell(str(state or DASH), state),
            )
        )  # fmt: skip
    notes = []
    if plan.budget:
        where = f" on {plan.device}, {os.cpu_count()} cores" if plan.device else ""
        notes.append(f"Each run had {plan.budget} of training, turned into images by measuring once{where}.")
    scoring = plan.scores
    notes.append(f"Scored on {scoring.repeats} x {scoring.n:,} images against the {scoring.split} split.")
    return Table("The study", columns, tuple(rows), tuple(notes))


def _length(plan: StudyConfig, member: StudyRun) -> str:
    return member.duration or plan.budget or "as its preset says"
