"""`animegen train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from animegen_cli.cli.options import Device, Nproc, Slurm, SlurmDryRun, build, complete_family, complete_preset

if TYPE_CHECKING:
    from collections.abc import Callable


def train(
    family: Annotated[
        str | None,
        typer.Argument(
            metavar="[FAMILY]", help="Which kind of generator; TAB lists them.", autocompletion=complete_family
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            "-p",
            help="A preset of the family; by default `laptop` on a CPU, where there is one, else `fast`.",
            autocompletion=complete_preset,
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="A prepared data set; by default the newest.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run folder; by default the next number under runs/.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Every random number follows from it.")] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="One training for each of these seeds, such as 0-4.")
    ] = None,
    device: Device = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Images per step in all.")] = None,
    parts: Annotated[
        str | None, typer.Option("--parts", help="Equal parts of a step, which processes share, or auto.")
    ] = None,
    batch_gpu: Annotated[str | None, typer.Option("--batch-gpu", help="Most images of a part, or auto.")] = None,
    nproc: Nproc = None,
    duration: Annotated[
        str | None, typer.Option("--duration", help='"200 epochs", "800k steps" or "25M images".')
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help='Training time such as "30 min", measured once as images; without FAMILY for the best there is.',
        ),
    ] = None,
    save_every: Annotated[str | None, typer.Option("--save-every", help='"10 min" or "50k images".')] = None,
    keep: Annotated[int | None, typer.Option("--keep", min=1, help="Saved states to keep, besides the best.")] = None,
    resume: Annotated[str, typer.Option("--resume", help="auto, none, or the run folder to go on with.")] = "auto",
    init_from: Annotated[
        str | None, typer.Option("--init-from", help="Start from another run's weights, or a diffusers folder's.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any config key: --set train.ema.decay=0.999; several values, one training for each: "
            "--set optim.model.lr=1e-4,2e-4",
        ),
    ] = None,
    configs: Annotated[list[Path] | None, typer.Option("--config", help="A YAML file over the preset.")] = None,
    loggers: Annotated[
        list[str] | None,
        typer.Option(
            "--logger",
            help="Some of csv,tensorboard,wandb,mlflow, with commas or repeated, or none; a run that goes on keeps its own.",
        ),
    ] = None,
    deterministic: Annotated[bool, typer.Option("--deterministic", help="Only deterministic CUDA kernels.")] = False,
    slurm: Slurm = None,
    slurm_dry_run: SlurmDryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a training of days.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print config, size, cost and time; train nothing.")
    ] = False,
) -> None:
    """Train a family; the same command goes on after a stop.

    Examples:

      animegen train ddim

      animegen train ddpm --preset ho2020 --data faces.zip --duration "200 epochs"

      animegen train --budget "30 min"

      animegen train ddpm --preset laptop --nproc 2

      animegen train ddpm --preset fast --set model.channels=64 --dry-run

      animegen train ddpm --logger csv,tensorboard

      animegen train gan --seeds 0-4 --set optim.G.lr=1e-4,2e-4

      animegen train ddpm --slurm "partition=gpu,gpus=1,time=04:00:00"
    """
    options = locals()
    from animegen_cli import console
    from animegen_cli.train import loggers as logging
    from animegen_cli.train.request import Request, layers

    flags: list[tuple[str, str, object]] = [
        ("--seed", "train.seed", seed),
        ("--batch", "train.batch", batch),
        ("--parts", "train.parts", _number(parts)),
        ("--batch-gpu", "train.batch_gpu", _number(batch_gpu)),
        ("--duration", "train.duration", duration),
        ("--save-every", "train.save_every", save_every),
        ("--keep", "train.keep", keep),
        ("--logger", "train.loggers", logging.parse(loggers) if loggers else None),
        ("--deterministic", "train.deterministic", True if deterministic else None),
    ]
    request = build(Request, options, flags=layers([flag for flag in flags if flag[2] is not None]))
    request.check()  # before torch is imported
    from animegen_cli.cli import train_many

    if budget is not None:
        train_many.refuse(request, seeds, slurm=slurm, slurm_dry_run=slurm_dry_run)
        from animegen_cli.train.budget import spent

        request = spent(request)
    if train_many.train(request, seeds, slurm=slurm, slurm_dry_run=slurm_dry_run, dry_run=dry_run):
        return  # a job was submitted, or a sweep is done
    if dry_run:
        from animegen_cli.train import plan as planning

        plan = planning.plan(request)
        console.result(plan, planning.describe(plan))
        return
    from animegen_cli.cli import processes
    from animegen_cli.train.signals import stop_signals

    processes.start(nproc)
    with stop_signals():  # from here on: loading torch alone takes seconds
        from animegen_cli.evaluate.features import in_run_scores
        from animegen_cli.train import train

        run = train.train(request, score=in_run_scores, confirm=_confirming(yes=yes))
    about = run.about
    nexts = {
        "samples": f"sample {run.path} --grid",
        "translates": f"translate {run.path} PICTURE",
        "classifies": f"eval --attributes {run.path}",
    }
    then = next(text for ability, text in nexts.items() if ability in about["abilities"])
    console.note(f"finished: {about['images']:,} images in {about['seconds']:.0f} s; next: `animegen {then}`")
    console.result({"run": str(run.path), **about}, str(run.path))


def _confirming(*, yes: bool) -> Callable[[str], bool]:
    """Ask whoever sits at a terminal; `--yes`, a script and a log file say yes."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return lambda _: True
    return lambda question: typer.confirm(question, err=True)


def _number(word: str | None) -> int | str | None:
    """A number that may also be `auto`."""
    return int(word) if word and word.isdigit() else word
