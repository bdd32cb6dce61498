"""Going on: which run folder it is, whether nothing but the duration changed, and from which state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from animegen_cli import console, paths
from animegen_cli.config import Layer
from animegen_cli.errors import ConfigError, DataError, UsageError
from animegen_cli.model import checkpoint
from animegen_cli.paths import Run
from animegen_cli.report.records import flattened
from animegen_cli.sample.trained import build_config
from animegen_cli.train import optim
from animegen_cli.train.lock import is_locked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animegen_cli.config import RunConfig
    from animegen_cli.data.dataset import FaceSet
    from animegen_cli.train.request import Request

    State = tuple[checkpoint.Parts, Mapping[str, Any]]
    """What `checkpoint.load_state` reads."""


# ---- the folder -----------------------------------------------------------------------------------------------


def choose_folder(request: Request, run_config: RunConfig, faces: FaceSet) -> tuple[Run, bool]:
    """Choose the run folder; returns it, and whether it holds a run to go on with.

    Raises:
        UsageError: `--resume none` into a folder that is not empty, or a changed config.
    """
    if request.resumes_a_run:
        run = _run_to_resume(request)
        if request.out is not None and request.out.resolve() != run.path.resolve():
            raise UsageError(
                f"`--resume {request.resume}` goes on in that folder, not in {request.out}",
                hint=f"leave `--out` out, or start there with `--init-from {request.resume}`",
            )
        return run, True
    if request.out is not None:
        # A process killed before it wrote anything leaves its lock alone.
        occupied = request.out.is_dir() and any(not f.name.startswith(".") for f in request.out.iterdir())
        if occupied and (request.resume == "none" or not _has_begun(Run(request.out))):
            raise UsageError(
                f"{request.out} is not empty",
                hint="name another folder, or leave `--resume` at `auto` to go on with its run",
            )
        return Run(request.out), occupied
    if request.resume == "auto":
        for run in reversed(paths.runs()):
            if continues(run, run_config, faces):
                console.note(f"continuing {run.path} (start anew with `--resume none`)")
                return run, True
    name = "-".join([run_config.family, paths.preset_name(run_config.preset or "custom"), faces.name])
    return Run(paths.numbered_run(paths.RUNS, name)), False


def _has_begun(run: Run) -> bool:
    """Whether there is a training to go on with; a run whose run.json is gone is known by its states."""
    return run.exists or bool(run.states())


def continues(run: Run, run_config: RunConfig, faces: FaceSet) -> bool:
    """Whether a run is unfinished, nobody trains it now, and it was begun with these settings and pictures."""
    try:
        about = run.about
    except DataError:  # another run's damage is no reason not to start this one
        return False
    if about.get("state") not in ("running", "stopped") or about.get("data", {}).get("identity") != faces.identity:
        return False
    try:
        changed = not run.config.is_file() or differences(_config_of(run, run_config.family), run_config)
    except ConfigError:  # a config that nobody can read is not this one
        return False
    return not changed and not is_locked(run)


def from_run(request: Request) -> Request:
    """The request with the settings of the run that `--resume` names without a preset, or of its state where the file is broken.

    Raises:
        DataError, ConfigError: no such run, or neither can be read.
        UsageError: another family was named.
    """
    run = _run_to_resume(request)
    try:
        own = Layer.from_yaml(run.config)
    except (DataError, ConfigError) as error:
        state = newest_state(run)
        if state is None:
            raise
        console.warn(f"{error.message}; going on with the settings of the state at {state[1]['images']:,} images")
        own = Layer(dict(state[1]["config"]), {})
    family = own.values.get("family")
    if request.family not in (None, family):
        raise UsageError(
            f"{run.path} is a {family} run, not {request.family}", hint=f"type `animegen train --resume {run.path}`"
        )
    return replace(request, own=own)


def _run_to_resume(request: Request) -> Run:
    """The run that `--resume` names; one whose run.json is broken or gone is known by its states."""
    run = Run(Path(str(request.resume)))
    return run if run.states() else paths.open_run(request.resume)


def _config_of(run: Run, family: str) -> dict[str, Any]:
    """What the run's config file means now."""
    return _as_now(Layer.from_yaml(run.config).values, family)


def _as_now(values: Mapping[str, Any], family: str) -> dict[str, Any]:
    """A config with its keys by the names they have now, and the default of each key that is younger."""
    return build_config({"family": family} | dict(values)).to_dict()


def check_same(run: Run, run_config: RunConfig, faces: FaceSet, state: Mapping[str, Any] | None) -> None:
    """UsageError where settings or pictures are not those that the run began with, as its state says or, without one, its files."""
    if state is not None:
        old = _as_now(state["config"], run_config.family)
        before = state["identity"]
    elif run.config.is_file() and run.exists:
        old = _config_of(run, run_config.family)
        before = run.about.get("data", {}).get("identity")
    else:
        return
    changed = differences(old, run_config)
    if before != faces.identity:
        changed.append(f"data: {str(before)[:12]} -> {faces.identity[:12]} (other pictures)")
    if changed:
        raise UsageError(
            f"{run.path} was started with other settings:\n       " + "\n       ".join(changed),
            hint="take the changes back to go on, or start anew with `--resume none` (and `--init-from` for its weights)",
        )


def newest_state(run: Run) -> State | None:
    """The newest state that is whole; None where there is none at all. Damaged ones are said, and go with the next save.

    Raises:
        DataError: all are damaged, or the newest is of another version.
    """
    damaged: list[checkpoint.DamagedState] = []
    states = run.states()
    while states:
        try:
            found = checkpoint.load_state(states[-1])
        except checkpoint.DamagedState as error:
            damaged.append(error)
            states.pop()
            continue
        for problem, state in zip(damaged, reversed(run.states()), strict=False):
            console.warn(f"{problem.message}; going on from the one before it")
            state.rename(state.with_name(f".{state.name}.tmp"))
        return found
    if damaged:
        raise damaged[0]
    return None


# ---- what may change ------------------------------------------------------------------------------------------

# These may change when a run goes on; everything else decides its numbers.
_FREE = {
    "data", "about", "warning", "train.duration", "train.workers", "train.save_every", "train.keep", "train.preview_every",
    "train.preview", "train.log_every", "train.loggers",
}  # fmt: skip


def differences(old: Mapping[str, Any], new: RunConfig) -> list[str]:
    """List the settings that may not change on resume and do, one line each (`train.batch: 8 -> 16`).

    Args:
        old: the config of the run, keys by their present names.
        new: the config that was asked for.
    """
    before, after = dict(flattened(old)), dict(flattened(new.to_dict()))
    free = set(_FREE)
    if any(optim.needs_end(section) for section in new.optim.values()):
        free.remove("train.duration")
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed if key not in free]
