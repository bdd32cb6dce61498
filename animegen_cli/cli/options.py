"""Options and completions that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from animegen_cli import paths


def complete_family(incomplete: str) -> list[str]:
    """Family names for TAB."""
    return _beginning(incomplete, paths.families())


def complete_preset(context: typer.Context, incomplete: str) -> list[str]:
    """Preset names for TAB: of the family that stands before, else of all."""
    family = context.params.get("family")
    if family in paths.families():
        return _beginning(incomplete, paths.presets(family))
    return _beginning(incomplete, sorted({name.partition("/")[2] for name in paths.presets()}))


def complete_full_preset(incomplete: str) -> list[str]:
    """Presets with their family, such as ddpm/ho2020, for TAB."""
    return _beginning(incomplete, paths.presets())


def complete_study(incomplete: str) -> list[str]:
    """Shipped studies and the numbers of their documents for TAB; files come from the shell."""
    return _beginning(incomplete, [*paths.studies(), *paths.documents()])


def complete_run(incomplete: str) -> list[str]:
    """Run folders for TAB, newest first; their bare names once one is begun."""
    runs = paths.runs(sweeps=True)[::-1]
    names = [paths.run_name(run) for run in runs]
    return _beginning(incomplete, [str(run.path) for run in runs]) or _beginning(incomplete, names)


def _beginning(incomplete: str, words: list[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


R = TypeVar("R")

NewestRun = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]", help="A run folder, name or number; by default the newest.", autocompletion=complete_run
    ),
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or cuda:1; by default a GPU where there is one.")
]
Nproc = Annotated[int | None, typer.Option("--nproc", min=1, help="Processes on this machine that share the work.")]

Sampler = Annotated[str | None, typer.Option("--sampler", help="ancestral, ddim, dpmpp, heun or euler (diffusion).")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps (diffusion).")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Any key of the run's `sample` section: --set s_churn=40")
]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Images per network call.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32 or bf16.")]


Slurm = Annotated[
    str | None,
    typer.Option(
        "--slurm",
        metavar="KEY=VALUE,...",
        help='Submit the command as a SLURM job with these options of sbatch: "partition=gpu,gpus=4,time=04:00:00".',
    ),
]
SlurmDryRun = Annotated[
    bool, typer.Option("--slurm-dry-run", help="Print the batch file of --slurm; write and submit nothing.")
]


def given(**options: object) -> dict[str, Any]:
    """Those that were typed."""
    return {name: value for name, value in options.items() if value is not None}


def build(request: Callable[..., R], options: Mapping[str, object], **made: object) -> R:
    """A command's request: each field is the option of the same name, unless `made` holds it; what was not typed keeps
    the field's own default.

    Args:
        request: the class.
        options: the command's parameters by name, as `locals()` has them on its first line.
        made: fields that follow from several options, or from words that must be read first.
    """
    known = inspect.signature(request).parameters
    typed = given(**{name: value for name, value in options.items() if name in known})
    return request(**typed | made)
