"""Options and completions that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

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
    """Shipped studies for TAB; files come from the shell."""
    return _beginning(incomplete, paths.studies())


def complete_run(incomplete: str) -> list[str]:
    """Run folders for TAB, newest first; their bare names once one is begun."""
    runs = paths.runs()[::-1]
    return _beginning(incomplete, [str(run.path) for run in runs]) or _beginning(incomplete, [run.name for run in runs])


def _beginning(incomplete: str, words: list[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or cuda:1; by default a GPU where there is one.")
]


Sampler = Annotated[str | None, typer.Option("--sampler", help="ancestral, ddim, dpmpp, heun or euler (diffusion).")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps (diffusion).")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Any key of the run's `sample` section: --set s_churn=40")
]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Images per network call.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32 or bf16.")]


def given(**options: Any) -> dict[str, Any]:
    """Those that were typed."""
    return {name: value for name, value in options.items() if value is not None}
