"""`animegen reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from animegen_cli.cli.options import Device, complete_run


def reproduce(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A finished run; by default the newest.", autocompletion=complete_run),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the repetition; by default the run's with `-again` behind.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Where the run's data set lies now.")] = None,
    device: Device = None,
) -> None:
    """Train a run again and say whether its scores agree.

    From its own config and data, scored alike.

    Example:

      animegen reproduce runs/00003-ddim-fast-faces-64
    """
    from animegen_cli import console, paths
    from animegen_cli.errors import UsageError

    if run in paths.documents() or run in paths.studies():
        raise UsageError(f"{run} is a study, not a run", hint=f"type `animegen compare --study {run}`")
    if run is not None:
        paths.open_run(run)  # before torch is imported
    from animegen_cli.compare import reproduce

    reproduction = reproduce.reproduce(run, data=data, out=out, device=device)
    rows = [
        (
            pair.name, pair.first.text, pair.again.text, f"{pair.again.value - pair.first.value:+.4g}",
            "–" if pair.allowed is None else f"{pair.allowed:.4g}", "agrees" if pair.agrees else "differs",
        )
        for pair in reproduction.pairs
    ]  # fmt: skip
    if rows:
        heads = ["score", "first", "again", "difference", "within", ""]
        console.table(
            f"{reproduction.first.name} and {reproduction.again.name}", heads, rows, right=("difference", "within")
        )
    differ = [pair.name for pair in reproduction.pairs if not pair.agrees]
    if differ:
        conclusion = f"not reproduced: {', '.join(differ)} differ by more than their uncertainty explains"
    elif reproduction.same:
        conclusion = "reproduced bit for bit: the weights are equal"
    elif reproduction.pairs:
        conclusion = "reproduced: every score agrees within the uncertainty of the two"
    else:
        conclusion = (
            f"the weights differ, and there are no scores to compare: type `animegen eval {reproduction.first.path}`"
        )
    console.result(reproduce.as_json(reproduction), conclusion)
