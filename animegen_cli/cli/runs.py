"""`animegen runs list|show|du|rm`: the runs of a folder, without loading a network."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from animegen_cli.cli.command import Command
from animegen_cli.cli.options import complete_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.paths import Run

runs = typer.Typer(
    name="runs", no_args_is_help=True, help="The runs that were trained: list, show, du and rm.", rich_markup_mode=None
)
Under = Annotated[Path, typer.Option("--under", help="The folder that the runs lie in.")]
Runs = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Run folders, names or numbers.", autocompletion=complete_run)
]
USUAL = Path("runs")


@runs.command("list", cls=Command)
def list_runs(under: Under = USUAL) -> None:
    """The runs of a folder with state, score, size and age, newest last; those of sweeps with their folder in front.

    Examples:

      animegen runs list

      animegen runs list --under studies/smoke/runs
    """
    from animegen_cli import console, paths

    found = [_about(run) | {"name": paths.run_name(run, under)} for run in paths.runs(under, sweeps=True)]
    _require(found, under)
    columns = ["run", "state", "images", "score", "size", "age"]
    rows = [[one["name"], one["state"], one["progress"], one["score"], one["disk"], one["age"]] for one in found]
    console.table("", columns, rows, right=["images", "size", "age"])
    console.result(found)


@runs.command(cls=Command)
def show(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="By default the newest.", autocompletion=complete_run)
    ] = None,
) -> None:
    """What a run is, how far it has come, and what it scored.

    Example:

      animegen runs show 3
    """
    from animegen_cli import console, paths
    from animegen_cli.report import records, units

    opened = paths.open_run(run)
    record = records.read(opened)
    about = _about(opened)
    facts: list[tuple[str, object]] = [
        ("family", f"{record.about.get('family')}/{record.about.get('preset')}"), ("state", about["state"]),
        ("images", about["progress"]), ("data", record.data.get("path")), ("pixels", record.data.get("size")),
        ("parameters", None if record.parameters is None else units.amount(record.parameters)),
        ("trained for", units.duration(record.about["seconds"]) if record.about.get("seconds") else None),
        ("device", record.about.get("device")), ("disk", about["disk"]), ("age", about["age"]),
        *((score.name, score.text) for score in record.scores),
        *(("doctor", diagnosis) for diagnosis in record.diagnoses), *(("problem", problem) for problem in record.problems),
    ]  # fmt: skip
    console.table(str(opened.path), ["", ""], [[name, value] for name, value in facts if value is not None])
    for line in _next(opened, about["state"]):
        console.note(f"  {line}")
    console.result(about | {"scores": {score.name: score.value for score in record.scores}})


@runs.command(cls=Command)
def du(under: Under = USUAL) -> None:
    """What takes the space on the disk, largest first.

    Example:

      animegen runs du
    """
    from animegen_cli import console, paths
    from animegen_cli.report import units

    spaces = [_space(run) | {"name": paths.run_name(run, under)} for run in paths.runs(under, sweeps=True)]
    found = sorted(spaces, key=lambda one: -one["all"])
    _require(found, under)
    kinds = ["states", "weights", "pictures", "other", "all"]
    total = {"name": "all", **{kind: sum(one[kind] for one in found) for kind in kinds}}
    rows = [[one["name"], *(units.memory(one[kind]) for kind in kinds)] for one in [*found, total]]
    console.table("", ["run", *kinds], rows, right=kinds)
    console.note(
        "states are kept to go on from: `animegen runs rm RUN --states` removes them and leaves the faces, "
        "`animegen train --keep 1` keeps fewer, `animegen runs rm RUN` removes a run"
    )
    console.result([*found, total])


@runs.command(cls=Command)
def rm(
    names: Runs,
    states: Annotated[
        bool, typer.Option("--states", help="Only what training goes on from; the run still draws and is scored.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    under: Under = USUAL,
) -> None:
    """Delete runs, or what they go on from, for good; asks first.

    Examples:

      animegen runs rm 3

      animegen runs rm 00003-ddim-fast-faces-64 --yes

      animegen runs rm 3 --states

      animegen runs rm sweep                  all runs of a sweep that was trained with `--out runs/sweep`
    """
    from animegen_cli import console
    from animegen_cli.errors import UsageError
    from animegen_cli.report import units
    from animegen_cli.train.lock import is_locked

    chosen = list(dict.fromkeys(run for name in names for run in _named(name, under)))
    for run in chosen:
        if is_locked(run):
            raise UsageError(f"{run.path} is being trained", hint="stop it with Ctrl-C, or with `scancel` on a cluster")
        if states and not run.finished:
            raise UsageError(
                f"{run.path} is not finished, and goes on from its states",
                hint=f"finish it with `animegen train --resume {run.path}`, or delete all of it: leave `--states` out",
            )
    if not yes:
        if not sys.stdin.isatty():
            typed = [*names, "--states"] if states else names
            raise UsageError("nobody is there to be asked", hint=f"type `animegen runs rm {' '.join(typed)} --yes`")
        for run in chosen:
            space = units.memory(_space(run)["states" if states else "all"])
            console.note(f"{run.path}: {_about(run)['progress']} images, {space}{' of states' if states else ''}")
        question = f"Delete {'it' if len(chosen) == 1 else f'these {len(chosen)}'} for good?"
        if not typer.confirm(question, err=True):
            console.note("nothing was deleted")
            return
    for run in chosen:
        gone = run.resume if states else run.path
        shutil.rmtree(gone, ignore_errors=states)  # a run that has no states is as it was asked to be
        console.note(f"deleted {gone}")
        folder = run.path.parent
        if folder.parent == under and not any(folder.iterdir()):
            folder.rmdir()  # what is left of a sweep
    console.result([str(run.path) for run in chosen])


def _named(name: str, under: Path) -> list[Run]:
    """The run that is meant, or those of the sweep whose folder under `under` it names; DataError for neither."""
    from animegen_cli import paths

    for folder in (Path(name), under / name):
        members = paths.runs(folder) if folder.parent == under and not paths.Run(folder).exists else []
        if members:
            return members
    return [paths.find_run(name, under)]


def _require(found: Sequence[object], under: Path) -> None:
    """DataError where there is no run."""
    from animegen_cli.errors import DataError

    if not found:
        raise DataError(f"no run under {under}/", hint='train one with `animegen train --budget "30 min"`')


def _about(run: Run) -> dict[str, Any]:
    """A line of the list as plain values; a run whose files are damaged says so in its state."""
    from animegen_cli.errors import DataError
    from animegen_cli.report import records, units

    age = time.time() - run.facts.stat().st_mtime
    space = _space(run)["all"]
    found = {
        "name": run.name,
        "path": str(run.path),
        "bytes": space,
        "disk": units.memory(space),
        "seconds_old": round(age),
    }
    found["age"] = units.duration(max(age, 1))
    try:
        about, scores = run.about, records.scores_of(run)
    except DataError as error:
        return found | {"state": "damaged", "images": None, "progress": None, "score": None, "problem": error.message}
    images, target = about.get("images", 0), about.get("target_images", 0)
    progress = units.amount(images) + (f" of {units.amount(target)}" if images < target else "")
    first = next((f"{score.name} {score.text}" for score in scores if score.better), None)
    return found | {"state": _state(run), "images": images, "progress": progress, "score": first}


def _state(run: Run) -> str | None:
    """The run's state; of one that says that it is running and has no process, that it was killed."""
    from animegen_cli.train.lock import is_locked

    return "killed" if run.state == "running" and not is_locked(run) else run.state


def _space(run: Run) -> dict[str, Any]:
    """Bytes on the disk by kind of file."""

    def below(path: Path) -> int:
        files = [path] if path.is_file() else path.rglob("*")
        return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())

    parts = {"states": below(run.resume), "weights": below(run.weights)}
    parts["pictures"] = sum(below(run.path / name) for name in ("samples", "drawn"))
    everything = below(run.path)
    return {"name": run.name, **parts, "other": everything - sum(parts.values()), "all": everything}


def _next(run: Run, state: str | None) -> list[str]:
    """What to type next for a run in this state."""
    if state in ("killed", "stopped"):
        return [f"go on: animegen train --resume {run.path}"]
    if run.able("samples"):
        return [f"draw: animegen sample {run.path} --grid", f"score: animegen eval {run.path}"]
    return []
