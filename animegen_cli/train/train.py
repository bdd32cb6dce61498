"""A training run from request to finished folder: config, data, run folder, resume, hooks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from animegen_cli import config, console, disk, paths, ranks
from animegen_cli.config import Amount, Layer, RunConfig
from animegen_cli.data.dataset import FaceSet, require_size
from animegen_cli.data.loading import Loader, LoaderConfig
from animegen_cli.data.sources import PHOTOS
from animegen_cli.device import device_name, keep_freed_memory, pick_device
from animegen_cli.errors import DataError, UsageError
from animegen_cli.model import checkpoint, families
from animegen_cli.model.conditioning import requests_of
from animegen_cli.model.family import DataSpec
from animegen_cli.paths import Run
from animegen_cli.ranks import Ranks
from animegen_cli.report import units
from animegen_cli.seeds import seed_for
from animegen_cli.train import estimate, guide, loggers, options, resume, room, start
from animegen_cli.train.lock import lock
from animegen_cli.train.options import Prepared, ResolvedOptions
from animegen_cli.train.request import Request
from animegen_cli.train.session import Session, TooLargeError
from animegen_cli.train.signals import check_stop, stop_signals
from animegen_cli.train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animegen_cli.train.resume import State
    from animegen_cli.train.validation import Scorer


# ---- config and data ------------------------------------------------------------------------------------------


def read_config(request: Request) -> RunConfig:
    """Merge preset, config files, `--set` and flags into one validated config.

    Raises:
        UsageError: no family, or one that is unknown; the hint says what to type.
        ConfigError: a key or value that the config does not know, with its file and line; settings that cannot train; a run
            to be tuned of another family or network.
    """
    layers = request.config_layers()
    family, preset = request.named()
    kind = families.load(family)
    if family in (problems := paths.plugin_problems()):
        console.warn(problems[family])
    if preset is None:
        preset = _usual_preset(family, request.device)
        console.note(f"preset: {preset} (say another with `--preset`; `animegen presets list {family}`)")
    for layer in layers:
        if layer.edited:
            console.warn(f"{layer.edited} was edited since animegen wrote it; its settings are taken as they are now")
    base = []
    if not any("model" in layer.values for layer in layers):  # a whole config needs no preset, whose file may be gone
        base.append(config.preset_layer(family, preset))
    decided = start.settings(request, family)
    said = Path(preset).name if paths.is_preset_file(preset) else preset  # of a file no path: runs travel
    names = Layer({"family": family, "preset": said}, {})
    found = config.resolve(
        [*base, decided, *layers, Layer.from_settings(request.settings), *request.flags, names],
        family=family, model=kind.Config, sample=kind.Sampling, optimizers=kind.optimizers,
    )  # fmt: skip
    guide.check(found)
    start.check(found, decided)
    if not request.resumes_a_run:
        found.model.check_new()
    return found


def _usual_preset(family: str, device: str | None) -> str:
    """What is ready within the hour on this device: the family's laptop recipe on a CPU or an Apple GPU, else the one for a GPU."""
    return "laptop" if pick_device(device).type != "cuda" and "laptop" in paths.presets(family) else "fast"


def warn_of(run_config: RunConfig) -> None:
    """Say what the preset is, and what a person should know before paying for it."""
    if run_config.preset and run_config.about:
        console.note(f"{run_config.family}/{run_config.preset}: {run_config.about}")
    for text in filter(None, [run_config.warning, *run_config.model.cautions(), *run_config.sample.cautions()]):
        console.warn(text)


def data_path(request: Request, run_config: RunConfig) -> Path:
    """The data set of the flag, else of the config, else the newest; DataError where there is none."""
    path = request.data or (Path(run_config.data) if run_config.data else None)
    if path is None:
        path = paths.newest_dataset()
        console.note(f"data: {path} (the newest; say another with `--data`)")
    return path


def open_data(request: Request, run_config: RunConfig) -> FaceSet:
    """Open the data set that `data_path` names; DataError where it is none."""
    return FaceSet.open(data_path(request, run_config))


def prepare(
    request: Request,
    run_config: RunConfig,
    faces: FaceSet,
    *,
    resolved: Mapping[str, Any] | None = None,
    group: Ranks = ranks.ALONE,
) -> Prepared:
    """Read the data, build the networks and resolve every `auto`.

    Args:
        request: for its `device` and `nproc`.
        run_config: the whole config.
        faces: the data set.
        resolved: the options of a run that goes on, or that another process resolved already.
        group: the processes that share each step.

    Raises:
        DataError: the set has too few pixels or lacks a domain.
        ConfigError: the networks do not fit the images.
    """
    kind = families.load(run_config.family)
    if set(kind.domains) - set(faces.domains):
        raise DataError(
            f"{run_config.family} translates between two domains, and {faces.path.name} has only {faces.domains[0]} faces",
            hint="type `animegen prepare --photos ./photos --anime ./faces --out two.zip`",
        )
    size = run_config.size or faces.size
    require_size(faces, size)
    if size != faces.size:
        console.note(
            f"the set's {faces.size} pixels are scaled down to the preset's {size} while loading (antialiased)"
        )
    device = ranks.gpu_of(pick_device(request.device), group)
    batches = LoaderConfig(
        split="train",
        size=size,
        batch=run_config.train.batch,
        seed=run_config.train.seed,
        photos=PHOTOS in kind.domains,
        augment=run_config.augment,
    )
    workers = run_config.train.workers
    loader = Loader(faces, batches, device=device, rank=group.rank, world=group.count, workers=workers)
    data = DataSpec(
        size=size, count=len(faces.indices("train")), mean=loader.mean, std=loader.std,
        attributes=dict(faces.attributes), domains=kind.domains, requests=requests_of(loader.labels),
    )  # fmt: skip
    if device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(seed_for(run_config.train.seed, "init"))
    model = kind(run_config.model, data)
    cores = ranks.cores() if request.nproc or group.count > 1 else None
    if resolved:
        chosen = ResolvedOptions.from_dict(resolved, run_config.train.batch)
    else:
        chosen = options.resolve(run_config, model, device, cores=cores)
    options.check_shared(chosen.parts, run_config.train.batch, group.count)
    if device.type == "cpu":
        _take_threads(chosen.threads, group)
    if run_config.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return Prepared(run_config, faces, data, loader, model, chosen, device, group)


def _take_threads(wanted: int | None, group: Ranks) -> None:
    """Compute with the run's threads; with fewer where all processes together would want more than there are cores."""
    if wanted is None and group.count == 1:
        return
    room = max(1, ranks.cores() // group.count)
    if wanted is not None and wanted <= room:
        torch.set_num_threads(wanted)
        return
    if group.first:
        console.warn(
            f"this run began with {wanted or 'all'} threads in one process; with {room} in each of {group.count} its sums are "
            "rounded in another order"
        )
    torch.set_num_threads(room)


# ---- run folders ----------------------------------------------------------------------------------------------


# ---- the run --------------------------------------------------------------------------------------------------


def _yes(_: str) -> bool:
    return True


def train(request: Request, *, score: Scorer | None = None, confirm: Callable[[str], bool] = _yes) -> Run:
    """Train, or go on training, until the config's duration.

    Args:
        request: what was asked for.
        score: compares held-out with drawn images when the config asks for `train.validate.kid_images`.
        confirm: asked a question before a training of more than a day begins.

    Raises:
        AnimegenError: bad words, config, data or state; DivergedError and StoppedError from the loop.
    """
    place = ranks.place()
    if place.rank:
        console.mute(same_machine=ranks.MEETING in os.environ)
    with stop_signals() as stop, ranks.together(place) as group:
        return _train(request, score, stop, group, confirm)


def _train(
    request: Request, score: Scorer | None, stop: Callable[[], bool], group: Ranks, confirm: Callable[[str], bool]
) -> Run:
    if request.runs_config:
        request = resume.from_run(request)
    run_config = read_config(request)
    warn_of(run_config)
    start.warn_of_nothing(request, run_config.family)
    faces = open_data(request, run_config)
    check_stop(stop)
    job = _Job(request, run_config, faces, group, stop, confirm)
    if not group.first:
        return _follow(job)
    loggers.check(run_config.train.loggers)
    run, occupied = resume.choose_folder(request, run_config, faces)
    with lock(run):
        for folder in (run.path, run.samples):
            disk.sweep(folder)
        state = resume.newest_state(run) if occupied else None
        if state is None and run.state == "finished":
            raise UsageError(
                f"{run.path} is finished and has no states to go on from",
                hint=f"start from its weights: `animegen train --init-from {run.path}`",
            )
        if occupied:
            resume.check_same(run, run_config, faces, state[1] if state else None)
        _lead(job, run, state, score)
    return run


class _Job(NamedTuple):
    """What each process of a training knows by itself."""

    request: Request
    config: RunConfig
    faces: FaceSet
    group: Ranks
    stop: Callable[[], bool]
    confirm: Callable[[str], bool]

    def prepared(self, resolved: Mapping[str, Any] | None, *, resumes: bool) -> Prepared:
        """Everything built, with the weights that it starts from."""
        found = prepare(self.request, self.config, self.faces, resolved=resolved, group=self.group)
        if self.request.init_from and not resumes:
            start.initialize(found.model, self.request.init_from)
        return found

    def smaller_parts(self, trainer: Trainer) -> dict[str, Any] | None:
        """The options to begin again with, where the very first step did not fit and nobody asked for its parts; else None."""
        batch, parts = self.config.train.batch, trainer.options.parts
        more = [n for n in range(parts + 1, batch + 1) if batch % n == 0 and n % parts == 0]
        if trainer.step or self.config.train.parts != "auto" or not more:
            return None
        return trainer.options._replace(parts=more[0]).to_dict()


def _lead(job: _Job, run: Run, state: State | None, score: Scorer | None) -> None:
    """Train as the process that writes the run's folder, and tell the others what to begin with."""
    resolved = state[1]["resolved"] if state else None
    name = run.states()[-1].name if state else None
    while True:
        prepared = job.prepared(resolved, resumes=state is not None)
        check_stop(job.stop)
        cost = estimate.cost(prepared.model, precision=prepared.options.precision)
        room.check(run, prepared.model, job.config.train.keep)
        _announce(job, prepared, cost, done=state[1]["images"] if state else 0)
        console.note(f"run: {run.path}")
        session = Session(run, prepared, cost, score, state)
        if state is not None:
            console.note(f"going on at {session.trainer.images:,} images")
        told = {"run": str(run.path.resolve()), "state": name, "resolved": prepared.options.to_dict()}
        job.group.told(json.dumps(told))
        try:
            session.train()
        except TooLargeError:
            resolved = job.smaller_parts(session.trainer)
            if resolved is None:
                raise
            console.warn(
                f"a step in {prepared.options.parts} parts does not fit the device; beginning with {resolved['parts']}"
            )
            torch.cuda.empty_cache()
        else:
            return


HOUR = 3600.0
"""Seconds of training after which a shorter one is offered."""
LONG = 24 * HOUR
"""Seconds of training that nobody should begin without having been told."""


def _announce(job: _Job, prepared: Prepared, cost: estimate.Cost, *, done: int) -> None:
    """Say how long the training will take; UsageError where that is long and whoever is asked does not want it."""
    settings = job.config.train
    total = Amount.parse(settings.duration).images(batch=settings.batch, count=prepared.data.count)
    left = max(total - done, 0)
    whole = estimate.seconds(cost, left, prepared.device, precision=prepared.options.precision) / job.group.count
    # Arithmetic at a convolution's rate: small networks take two to five times as long, which only training tells.
    takes = f"about {job.request.budget}" if job.request.budget else f"at least {units.duration(whole)}"
    about = f"{left:,} images, {takes} on this {device_name(prepared.device)}"
    if whole <= LONG:
        shorter = whole > HOUR and job.request.budget is None
        console.note(f"training: {about}" + ('; for less, `--budget "30 min"`' if shorter else ""))
        return
    console.warn(f"{about}: stop with Ctrl-C and give the same command again to go on")
    if not job.confirm(f"Train for {units.duration(whole)}?"):
        raise UsageError(
            "nothing was begun",
            hint=f"`animegen presets list {job.config.family}` names smaller ones; `--duration` says how long",
        )


def _follow(job: _Job) -> Run:
    """Train as the first process says, which alone writes the run's folder."""
    while True:
        told = json.loads(job.group.told())
        run = Run(Path(told["run"]))
        state = checkpoint.load_state(run.resume / told["state"]) if told["state"] else None
        prepared = job.prepared(told["resolved"], resumes=state is not None)
        trainer = Trainer(
            prepared.model, prepared.loader, job.config, prepared.options,
            device=prepared.device, count=prepared.data.count, ranks=job.group,
        )  # fmt: skip
        if state is not None:
            trainer.restore(*state)
        try:
            trainer.run((), stop=job.stop, on_step=lambda _: None)
        except torch.OutOfMemoryError:
            if job.smaller_parts(trainer) is None:
                raise SystemExit(TooLargeError.exit_code) from None  # the first one says it
        else:
            return run
