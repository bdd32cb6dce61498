"""Options and completions that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from animegen_cli import paths


def complete_family(incomplete: str) -> list[str]:
    """Family names for TAB."""
    return [name for name in paths.families() if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Run folders for TAB."""
    return [
        str(run.path) for run in paths.runs() if str(run.path).startswith(incomplete) or run.name.startswith(incomplete)
    ]


def complete_preset(incomplete: str) -> list[str]:
    """Preset names for TAB, of every family."""
    return sorted({name.split("/")[1] for name in paths.presets() if name.split("/")[1].startswith(incomplete)})


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or cuda:1; by default a GPU where there is one.")
]


def parse_seeds(text: str) -> list[int]:
    """`0-63,100` -> [0, ..., 63, 100]; UsageError when it is no such list."""
    from animegen_cli.errors import UsageError

    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise UsageError(f"`{text}` is no list of seeds", hint="write `--seeds 0-63,100`")
        seeds += range(int(first), int(last or first) + 1)
    return seeds
