"""What `animegen train` does besides one training here: a sweep, and jobs of either."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from animegen_cli import console
from animegen_cli.errors import UsageError
from animegen_cli.seeds import parse_seeds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animegen_cli.train.request import Request


def train(request: Request, seeds: str | None, *, slurm: str | None, slurm_dry_run: bool, dry_run: bool) -> bool:
    """Train a sweep, or submit what was typed as a job; whether it was either."""
    from animegen_cli.train import sweep

    numbers = parse_seeds(seeds, "--seeds 0-4") if seeds is not None else None
    if slurm is not None or slurm_dry_run:
        _submit(request, numbers, slurm, dry_run=dry_run, slurm_dry_run=slurm_dry_run)
        return True
    if not sweep.is_asked(request, numbers):
        return False
    if dry_run:
        runs = sweep.requests(request, numbers)
        if runs:
            _plan(runs)
        return bool(runs)
    from animegen_cli.train.signals import stop_signals

    sweep.check_alone("a sweep")
    with stop_signals():
        runs = sweep.requests(request, numbers)
        if runs:
            _train(runs)
    return bool(runs)


def refuse(request: Request, seeds: str | None, *, slurm: str | None, slurm_dry_run: bool) -> None:
    """UsageError where a budget was typed for a job or for several trainings, which would each measure it anew."""
    from animegen_cli.train import sweep

    if slurm is not None or slurm_dry_run:
        raise UsageError("a job's time limit is no budget", hint="say `--duration`; `time=` in `--slurm` is the limit")
    if seeds is not None or sweep.is_asked(request, None):
        hint = "say `--duration`, or write a study with a `budget:` (`animegen compare --study FILE.yaml`)"
        raise UsageError("trainings of one budget each are a study", hint=hint)


def _plan(runs: Mapping[str, Request]) -> None:
    """Print the command of each run of a sweep."""
    from animegen_cli.train import sweep

    commands = [shlex.join(words) for words in sweep.commands(runs)]
    console.result({"runs": list(runs), "commands": commands}, "\n".join(commands))


def _train(requests: Mapping[str, Request]) -> None:
    from animegen_cli.evaluate.features import in_run_scores
    from animegen_cli.train import sweep

    done = sweep.run(requests, score=in_run_scores)
    folders = [str(run.path) for run in done.runs.values()]
    finished = len(folders) - len(done.unfinished)
    console.note(f"{finished} of {len(folders)} runs are finished; next: `animegen eval` each of them, then")
    console.note(f"  `animegen compare {shlex.join(folders)}`")
    console.result({"runs": folders, "unfinished": dict(done.unfinished)}, "\n".join(folders))


def _submit(request: Request, seeds: list[int] | None, wish: str | None, *, dry_run: bool, slurm_dry_run: bool) -> None:
    """Submit the training, or the workers of a sweep, after all that can be wrong with it was looked at."""
    from animegen_cli.cli import slurm

    words = slurm.checked(wish, dry_run=dry_run)  # before torch is imported
    from animegen_cli.train import plan as planning
    from animegen_cli.train import resume, sweep, train

    runs = sweep.requests(request, seeds) if sweep.is_asked(request, seeds) else {}
    if request.runs_config:
        request = resume.from_run(request)
    first = next(iter(runs.values()), request)
    run_config = train.read_config(first)
    faces = train.open_data(first, run_config)
    desired = slurm.Wish.parse(words)
    processes = desired.processes if desired.is_started_by_srun else request.nproc or desired.processes
    if processes > 1 and not _goes_on(first):
        planning.check_processes(run_config, faces, processes)
    slurm.warn_of_limit(words, run_config)
    work = slurm.Work(
        name=slurm.job_name("train", run_config.family, run_config.preset),
        pinned=() if request.data or run_config.data else ("--data", str(faces.path)),
        runs=len(runs),
        shares=bool(runs),
        takes_nproc=True,
    )
    slurm.submit(words, work, dry_run=slurm_dry_run)


def _goes_on(request: Request) -> bool:
    """Whether the run has states, which say themselves what its steps are."""
    from animegen_cli.paths import Run

    return request.resumes_a_run or (request.out is not None and bool(Run(request.out).states()))
