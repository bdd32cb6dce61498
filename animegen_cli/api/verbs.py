"""The verbs in Python. Each function asks a verb for what its command asks, with the names of the command's options."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from animegen_cli import console, paths
from animegen_cli.api.results import Comparison, DataSet, PathLike, Run, Scores, score_row
from animegen_cli.errors import DataError, UsageError, did_you_mean
from animegen_cli.report import records

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

R = TypeVar("R")
_ELSEWHERE = {
    "seeds": "`seed` is one number; call it once for each, or type `animegen train --seeds 0-4`",
    "logger": 'write `loggers=["csv"]`',
    "set": 'write the section as a dict, such as `model={"channels": 64}`',
    "name": "`out` names the run folder",
    "epochs": 'write `duration="10 epochs"`',
    "steps": 'write `duration="1000 steps"`',
    "lr": 'write `optim={"model": {"lr": 1e-4}}`',
}
"""What `animegen train` or other programs call so, and what to write here."""


def load(run: PathLike | int | None = None) -> Run:
    """Open a run: a folder, or a name or number under `runs/`; the newest run there when None.

    Raises:
        DataError: there is no such run; the hint has the nearest name.
    """
    return Run(paths.open_run(_spelled(run)).path)


def prepare(
    *sources: PathLike,
    resolution: int = 64,
    out: PathLike | None = None,
    photos: PathLike | Sequence[PathLike] = (),
    **options: object,
) -> DataSet:
    """Make one clean data set file from pictures, as `animegen prepare` does.

    Args:
        sources: folders, zip or tar archives, `kaggle:OWNER/NAME`, or `demo` for drawn faces that need no download.
        resolution: height and width of every image in pixels, 4 to 2048.
        out: the file to write; `datasets/<source>-<resolution>.zip` when None.
        photos: sources of the other domain, for translators.
        options: the command's other options: `limit=500`, `faces=True`, `labels="tags.csv"`, `fit`, `dedupe`, `split`,
            `encoding`, `seed`, `min_size`, `workers`, `margin`, `detector` and `drop`.

    Raises:
        UsageError: no source, an option that does not exist or has no such value.
        DataError: a source is missing or damaged, or holds nothing usable.
        MachineError: the disk is full.
    """
    from animegen_cli.prepare import prepare as verb
    from animegen_cli.prepare.request import Options, Request

    if not sources:
        raise UsageError("no source given", hint='name a folder of pictures, or "demo"')
    specs, others = _listed(sources), _listed(photos)
    known = {field.name for field in dataclasses.fields(Options)} - {"size"}
    chosen = _built(Options, options, known | {"resolution", "out", "photos"}, size=resolution)
    done = verb.prepare(Request(specs, None if out is None else Path(out), chosen, others))
    return DataSet(done.path, done.about, done.contact)


def train(
    family: str | None = None,
    *,
    preset: PathLike | None = None,
    data: PathLike | None = None,
    out: PathLike | None = None,
    resume: PathLike = "auto",
    init_from: PathLike | None = None,
    budget: str | None = None,
    device: str | None = None,
    **settings: object,
) -> Run:
    """Train a family, as `animegen train` does; the same call goes on after a stop.

    Interrupting the kernel (Ctrl-C) stops after the current step, with everything saved.

    Args:
        family: which kind of generator, such as `vae`; may be None where a preset file says it, a run is gone on with, or only a
            budget is given, which is then spent on the family that makes the best of it.
        preset: a preset's name or YAML file; `laptop` on a CPU, where there is one, else `fast` when None.
        data: the data set; the newest under `datasets/` when None.
        out: the run folder; the next number under `runs/` when None.
        resume: `auto`, `none`, or a run to go on with.
        init_from: a run, or a diffusers folder, whose weights the training begins with.
        budget: training time such as `"30 min"`, in place of a duration; measured once as a number of images.
        device: `cpu`, `cuda`, ...; a GPU where there is one when None.
        settings: what replaces the preset's. The command's options by their names (`duration="200 epochs"`, `batch` in images,
            `seed`, `save_every="10 min"`, `parts`, `batch_gpu`, `keep`, `deterministic`, `loggers=["csv"]`), and sections of the
            config as dicts: `model={"channels": 64}, optim={"model": {"lr": 1e-4}}, train={"ema": {"decay": 0.999}}`.

    Raises:
        UsageError: no such family or preset, or a folder that holds another run.
        ConfigError: a setting that does not exist or has no such value.
        DataError: no data set, or one that does not fit.
        DivergedError: a loss or gradient stopped being finite; the last good state is kept.
        StoppedError: stopped before the end; call again to go on.
        MachineError: no such device, or not enough memory or room.
    """
    from animegen_cli.train.request import FLAGS, Request, layers

    for name in settings:
        if name in _ELSEWHERE:
            raise UsageError(f"there is no argument `{name}`", hint=_ELSEWHERE[name])
    request = Request(
        family=family, preset=_spelled(preset), data=None if data is None else Path(data),
        out=None if out is None else Path(out), resume=os.fspath(resume), init_from=_spelled(init_from), budget=budget,
        device=device, flags=layers(
            (f"argument {name}", f"train.{name}" if name in FLAGS else name, value) for name, value in settings.items()
        ),
    )  # fmt: skip
    request.check()  # before torch is imported
    if budget is not None:
        from animegen_cli.train.budget import spent

        request = spent(request)
    from animegen_cli.evaluate.features import in_run_scores
    from animegen_cli.train import train as verb

    return Run(verb.train(request, score=in_run_scores).path)


def evaluate(subject: PathLike | None = None, *, metrics: str | Sequence[str] = (), **options: object) -> Scores:
    """Score a run or images against a reference, as `animegen eval` does; scores of a run are stored in it.

    Args:
        subject: a run, or a folder, zip, .npz or data set of images; the newest run when None.
        metrics: such as `["fd", "kid"]`; all that the subject allows when there are none.
        options: the command's other options: `against` (the reference; a run's own data set by default), `data`, `split`
            (`train`, `test` or `all`), `extractor` (`inception`, `faces`, ...), `n` (images of each range of seeds, 2048) and
            `repeats` (ranges, 3), or `seeds`, `precision`, `attributes`, `per_value`, `weights`, `backend`, `force`, `device`; and
            `overrides`, a dict of settings of the run's section `sample`.

    Raises:
        UsageError: an option or metric that does not exist, or that the subject cannot have.
        DataError: the subject, its data or the reference is missing, damaged or too small.
        MachineError: no such device, or a network's weights are not there.
    """
    from animegen_cli.evaluate.request import Request

    words = [metrics] if isinstance(metrics, str) else metrics
    split = [word.strip() for several in words for word in several.split(",")]
    known = {field.name for field in dataclasses.fields(Request)} - {"subject", "metrics"}
    spelled = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}
    if isinstance(spelled.get("seeds"), int | str):
        raise UsageError(f"`seeds={spelled['seeds']!r}` is no list of seeds", hint="write `seeds=range(64)`")
    as_paths = {name: Path(str(spelled[name])) for name in ("data", "weights") if spelled.get(name) is not None}
    request = _built(Request, spelled | as_paths, known, subject=_spelled(subject), metrics=split)
    request.check()  # before torch is imported
    from animegen_cli.evaluate import evaluate as verb

    found = verb.evaluate(request)
    for note in found["notes"]:
        console.warn(note)
    scores = (score_row(records.score(entry)) for entry in found["scores"])
    return Scores(Path(found["subject"]), scores, found["notes"])


def compare(runs: Sequence[PathLike | int] | None = None, *, sort: str | None = None) -> Comparison:
    """Lay runs side by side, as `animegen compare` does; runs that differ by their training seed alone are joined.

    Args:
        runs: folders, names or numbers, or what `load` and `train` return; all under `runs/` when None.
        sort: a score or another column to sort by, best first; as given when None.

    Raises:
        DataError: there is no such run, or none at all.
        UsageError: there is no such column.
    """
    from animegen_cli.compare import compare as verb

    if runs is None:
        chosen = [run for run in paths.runs(sweeps=True) if not run.able("classifies")]
    else:
        chosen = [paths.open_run(run) for run in _listed(runs)]
    found = verb.compare(chosen, sort=sort)
    for warning in found.warnings:
        console.warn(warning)
    return Comparison(found)


def study(
    name: PathLike,
    *,
    data: PathLike | None = None,
    out: PathLike | None = None,
    budget: str | None = None,
    only: str | Sequence[str] = (),
    seeds: Iterable[int] | None = None,
    at_once: int = 1,
    device: str | None = None,
) -> Comparison:
    """Train what a study lists, score it and compare, as `animegen compare --study` does; the same call goes on after a stop.

    Args:
        name: a shipped study (`smoke`, `xmu2023-laptop`), a document's number (`"003"`), or a YAML file.
        data: the data set; the newest, or the study's own drawn faces when None.
        out: the study's folder; `studies/<name>` when None.
        budget: training time of each run, such as `"10 min"`; as the study says when None.
        only: train and score these of its runs alone.
        seeds: training seeds, one training of each run for each; as the study says when None.
        at_once: runs that train at the same time, each in a process of its own with its share of the cores.
        device: `cpu`, `cuda`, ...; a GPU where there is one when None.

    Raises:
        UsageError: no such study or run of it, or a folder that was begun with other runs, data or budget.
        DataError: no run of it could begin, or other processes train all of them now.
        StoppedError: stopped before the end; call again to go on.
    """
    from animegen_cli.compare import study as verb
    from animegen_cli.compare import study_plan

    request = study_plan.Request(
        study=os.fspath(name), data=None if data is None else Path(data), out=None if out is None else Path(out),
        budget=budget, only=[only] if isinstance(only, str) else only, seeds=None if seeds is None else list(seeds),
        at_once=at_once,
        device=device,
    )  # fmt: skip
    done = verb.run(request)
    if done.compared is None:
        raise DataError("other processes train every run of the study at this moment", hint="call it again later")
    return Comparison(done.compared, files=done.files, unfinished=done.unfinished)


# ---- words to requests ----------------------------------------------------------------------------------------


def _listed(some: PathLike | int | Sequence[PathLike | int]) -> list[str]:
    """The paths, names and numbers of a list, or of the one that was given alone, as text."""
    several = some if isinstance(some, Sequence) and not isinstance(some, str) else [some]
    return [str(one) if isinstance(one, int) else os.fspath(one) for one in several]


def _spelled(path: PathLike | int | None) -> str | None:
    return None if path is None else _listed(path)[0]


def _built(kind: type[R], options: Mapping[str, Any], known: Iterable[str], **made: object) -> R:
    """A request of options by their names; UsageError with the nearest name for one that does not exist."""
    for name in options:
        if name not in known:
            raise UsageError(f"there is no option `{name}`", hint=did_you_mean(name, known))
    return kind(**options, **made)
