"""`animegen export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from animegen_cli.cli.options import Device, complete_run

Kind = Literal["diffusers", "onnx"]


def export(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run; by default the newest.", autocompletion=complete_run)
    ] = None,
    to: Annotated[
        Kind | None,
        typer.Option(
            "--to", help="diffusers or onnx; by default diffusers where it has the network.", show_default=False
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder; by default RUN/export/<format>.")] = None,
    license: Annotated[str, typer.Option("--license", help="The weights' license for the model card.")] = "unknown",
    n: Annotated[int, typer.Option("--n", "-n", min=0, max=400, help="Faces on the model card's sheet.")] = 36,
    device: Device = None,
) -> None:
    """Write a run as a diffusers folder or as ONNX networks.

    With a model card, for programs without animegen.

    Examples:

      animegen export

      animegen export runs/00003-ddpm-tse-hku-faces --to diffusers --license mit

      animegen export runs/00007-gan-fast-faces --to onnx --out gan-onnx --n 100
    """
    from animegen_cli import console
    from animegen_cli.errors import UsageError
    from animegen_cli.export import export as exporting

    if out is not None and out.suffix.lower() in (".zip", ".onnx", ".gz"):
        raise UsageError(
            f"`--out {out}` is a folder of several files", hint=f"name a folder, such as `--out {out.with_suffix('')}`"
        )
    request = exporting.Request(run=run, to=to, out=out, license=license, count=n, device=device)
    found = exporting.export(request)
    for note in found["notes"]:
        console.note(note)
    console.result(found, f"{found['out']}: {', '.join(found['files'])}")
