"""`animegen demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from animegen_cli.cli.options import Device


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of everything the demo makes.")] = Path("demo"),
    size: Annotated[int, typer.Option("--size", min=16, max=64, help="Pixels.")] = 32,
    device: Device = None,
) -> None:
    """Run the whole chain on drawn faces, in minutes on a CPU.

    That is prepare, train, sample, eval and compare: the study `smoke`, and a sheet of faces from each of its runs.

    Example:

      animegen demo
    """
    from animegen_cli import console
    from animegen_cli.compare import demo
    from animegen_cli.report import tables

    done, pictures = demo.run(out, size=size, device=device)
    files = {name: str(path) for name, path in (pictures | dict(done.files)).items() if name != "tables"}
    if done.compared is not None and not console.is_json():
        tables.show(done.compared.quality)
    console.result(files, "\n".join(f"{name:<9} {path}" for name, path in files.items()))
    console.note("on pictures of yours: `animegen prepare ./pictures`, then `animegen train gan`")
