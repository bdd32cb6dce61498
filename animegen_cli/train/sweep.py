"""A sweep: one training for each combination of values, shared by as many processes as are started on it.

`--set optim.model.lr=1e-4,2e-4 --seeds 0-2` are six trainings. Each has a folder that its values name, so every process
that is given the same words finds the same runs: it trains those that nobody trains and skips those that are finished.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from animegen_cli import config, console, paths, ranks
from animegen_cli.errors import (
    AnimegenError,
    ConfigError,
    DataError,
    DivergedError,
    MachineError,
    StoppedError,
    UsageError,
)
from animegen_cli.paths import Run

if TYPE_CHECKING:
    from animegen_cli.config import Layer
    from animegen_cli.train.request import Request
    from animegen_cli.train.validation import Scorer

SEED = "train.seed"
MOST_RUNS = 1000
"""More are a mistake of typing sooner than a sweep."""
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Axis:
    """A key of the config and the values that it takes in turn, as they were typed."""

    key: str
    values: Sequence[str]


def is_asked(request: Request, seeds: Sequence[int] | None) -> bool:
    """Whether the words may mean several trainings; `requests` says for certain. Light: nothing here loads networks."""
    return seeds is not None or any(len(config.values_of(setting)) > 1 for setting in request.settings)


def requests(request: Request, seeds: Sequence[int] | None) -> Mapping[str, Request]:
    """The trainings of a sweep by the names of their folders, each with its `out`; none where the words mean one training.

    A text that the key takes as it stands, commas included, is one value.

    Args:
        request: what was typed; its `out` is the folder of all runs, else they lie under `runs/`.
        seeds: values of `train.seed`; None where none were typed.

    Raises:
        UsageError: a value twice, a key that a flag sets too, too many runs, or words that do not go with a sweep.
        ConfigError: a key or value that the config does not know, in any of the runs.
        DataError: no data set.
    """
    from animegen_cli.train import resume, train

    if request.runs_config:
        request = resume.from_run(request)
    family, preset = request.named()
    if preset is None:
        preset = "fast"
        console.note(f"preset: {preset} (say another with `--preset`; `animegen presets list {family}`)")
    request = replace(request, family=family, preset=preset)
    axes, fixed = _axes(request, seeds)
    if not axes:
        return {}
    _check_words(request, axes)
    root, beginning = request.out, ""
    if root is None:
        data = request.data or train.data_path(request, train.read_config(_first(request, axes, fixed)))
        request = replace(request, data=data)
        root, beginning = paths.RUNS, f"{family}-{paths.preset_name(preset)}-{data.stem},"
    found: dict[str, Request] = {}
    for values in itertools.product(*(axis.values for axis in axes)):
        name = beginning + _name([axis.key for axis in axes], values)
        if name in found:
            raise UsageError(f"two runs of the sweep are called {name}", hint="type each value once")
        words = [f"{axis.key}={value}" for axis, value in zip(axes, values, strict=True)]
        found[name] = replace(request, out=root / name, settings=[*fixed, *words])
    for each in found.values():
        train.read_config(each)  # complain before the first hour
    return found


def _axes(request: Request, seeds: Sequence[int] | None) -> tuple[list[Axis], list[str]]:
    """The keys that take several values, and the settings of all runs."""
    several = [setting for setting in request.settings if len(config.values_of(setting)) > 1]
    fixed = [setting for setting in request.settings if setting not in several]
    typed = {setting: Axis(setting.partition("=")[0], config.values_of(setting)) for setting in several}
    plain = [setting for setting in several if _is_one_value(request, setting, list(typed.values()), fixed)]
    axes = [axis for setting, axis in typed.items() if setting not in plain]
    if seeds is not None:
        axes.append(Axis(SEED, [str(seed) for seed in seeds]))
    return axes, [*fixed, *plain]


def _is_one_value(request: Request, setting: str, axes: Sequence[Axis], fixed: Sequence[str]) -> bool:
    """Whether the config takes the text as it stands, as a key for texts does."""
    from animegen_cli.train import train

    key = setting.partition("=")[0]
    others = [axis for axis in axes if axis.key != key]
    try:
        train.read_config(_first(request, others, [*fixed, setting]))
    except ConfigError:
        return False
    return True


def _first(request: Request, axes: Sequence[Axis], fixed: Sequence[str]) -> Request:
    return replace(request, settings=[*fixed, *(f"{axis.key}={axis.values[0]}" for axis in axes)])


def _check_words(request: Request, axes: Sequence[Axis]) -> None:
    keys = [axis.key for axis in axes]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise UsageError(f"`{twice}` is swept twice", hint="name its values once: `--seeds 0-4`, or `--set KEY=1,2`")
    for layer in request.flags:
        for path, flag in layer.places.items():
            if ".".join(path) in keys:
                raise UsageError(
                    f"`{flag}` and the values of `{'.'.join(path)}` exclude each other", hint=f"leave `{flag}` out"
                )
    if request.resume != "auto":
        raise UsageError(
            "a sweep goes on with its own runs",
            hint="leave `--resume` out; the same command goes on, and `--out` names another folder",
        )
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MOST_RUNS:
        raise UsageError(f"{count:,} runs are more than {MOST_RUNS:,}", hint="sweep over fewer values")


def _name(keys: Sequence[str], values: Sequence[str]) -> str:
    """`lr=1e-4,seed=0`: each key as short as it can be, the values in letters that folders like."""
    parts = [f"{key}={_safe(value)}" for key, value in zip(config.short_names(keys), values, strict=True)]
    name = ",".join(parts)
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _safe(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", value).strip("-.") or "none"


# ---- the work -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """What became of a sweep: its runs by name, and why some are not finished."""

    runs: Mapping[str, Run]
    unfinished: Mapping[str, str]


def check_alone(what: str) -> None:
    """UsageError where this is one of several processes that a launcher made for one training; `what` is no such thing."""
    world = ranks.place().world
    if world > 1:
        raise UsageError(
            f"{what} is not shared by the {world} processes of one launch, but by workers that are started one by one",
            hint='start it alone several times, such as `--slurm "gpus=1,array=4"`; a training in it may have `--nproc`',
        )


def run(requests: Mapping[str, Request], *, score: Scorer | None = None) -> Done:
    """Train what is not finished, one run after the other; the same sweep goes on after a stop.

    Runs that another process trains at this moment are left to it, and so are those that diverged, which would do so again.

    Args:
        requests: what `requests` made of the words.
        score: compares held-out with drawn images where the config asks for it.

    Raises:
        StoppedError: asked to stop; everything needed to go on is saved.
        AnimegenError: runs failed, of which it is the first's error; the others were trained.
    """
    from animegen_cli.train import train

    unfinished: dict[str, str] = {}
    failed: list[tuple[str, AnimegenError]] = []
    for number, (name, request) in enumerate(requests.items(), 1):
        console.note(f"[{number}/{len(requests)}] {name}")
        run_folder = _folder(request)
        try:
            problem = _left_alone(run_folder)
            if problem is None and not run_folder.finished:
                if (request.nproc or 1) > 1:
                    _train_in_processes(request)
                else:
                    train.train(request, score=score)
        except (StoppedError, UsageError):
            raise
        except DivergedError as error:
            problem = f"it diverged: {error.message}"
        except AnimegenError as error:
            problem = _left_alone(run_folder) if isinstance(error, DataError) else None  # another process was faster
            if problem is None:
                problem = error.message
                failed.append((name, error))
        if problem is not None:
            unfinished[name] = problem
            console.warn(f"{name}: {problem}")
    if failed:
        name, first = failed[0]
        raise type(first)(
            f"{len(failed)} of {len(requests)} runs failed; {name}: {first.message}",
            hint=f"{first.hint}; the same command tries again" if first.hint else "type the same command to try again",
        )
    return Done({name: _folder(request) for name, request in requests.items()}, unfinished)


def _train_in_processes(request: Request) -> None:
    """Train a run in processes that share its steps, which have said what went wrong; AnimegenError for their exit code."""
    from animegen_cli.train import launch

    (words,) = commands({"": request})
    # what they print as their result is a note here: that of the sweep comes at its end
    code = launch.launch([*words[1:], "--nproc", str(request.nproc)], request.nproc or 1, results=2)
    kinds = {kind.exit_code: kind for kind in (UsageError, DataError, DivergedError, MachineError, StoppedError)}
    if code == StoppedError.exit_code:
        raise StoppedError("the state is saved", hint="type the same command again to go on")
    if code:
        raise kinds.get(code, MachineError)(
            f"the processes of {request.out} ended with {code}", hint="read what they say above"
        )


def _folder(request: Request) -> Run:
    return Run(request.out or Path())


def _left_alone(run_folder: Run) -> str | None:
    """Why this process does not train the run; None where it may."""
    from animegen_cli.train.lock import is_locked

    if run_folder.path.is_dir() and is_locked(run_folder):
        return "another process trains it at this moment"
    if run_folder.state == "diverged":
        return f"it diverged; its last healthy state is kept (`rm -r {run_folder.path}` to train it anew)"
    return None


def commands(requests: Mapping[str, Request]) -> Iterator[list[str]]:
    """Each training of a sweep as the words that start it alone."""
    for request in requests.values():
        words = ["animegen", "train", str(request.family), "--preset", str(request.preset)]
        options = {"--data": request.data, "--device": request.device, "--init-from": request.init_from}
        words += [str(word) for name, value in options.items() if value is not None for word in (name, value)]
        words += [word for file in request.configs for word in ("--config", str(file))]
        words += [word for layer in request.flags for word in _flag_words(layer)]
        words += [word for setting in request.settings for word in ("--set", setting)]
        yield [*words, "--out", str(request.out)]


def _flag_words(layer: Layer) -> Iterator[str]:
    for path, flag in layer.places.items():
        value: Any = layer.values
        for key in path:
            value = value[key]
        yield flag
        if value is not True:
            yield str(value)
