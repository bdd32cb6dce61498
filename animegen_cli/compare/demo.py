"""The whole chain on drawn faces, sized for a laptop: what `animegen demo` runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from animegen_cli.compare import study
from animegen_cli.compare.study_plan import Request
from animegen_cli.prepare import contact_sheet
from animegen_cli.sample import sample
from animegen_cli.sample.request import Request as SampleRequest

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.compare.study import Done

STUDY = "smoke"
GRID = range(100)


def run(out: Path, *, size: int | None = None, device: str | None = None) -> tuple[Done, dict[str, Path]]:
    """Run the small study under `out` and draw a sheet of faces from each of its runs; what is there already is kept or continued.

    Args:
        out: the study's folder.
        size: pixels of the drawn faces; as the study says when None.
        device: where it trains and draws; picked when None.

    Returns:
        The study, and the pictures by what they show.
    """
    done = study.run(Request(study=STUDY, out=out, device=device, size=size, at_once=2))
    pictures = {"faces": contact_sheet.path_of(done.data)}
    for record in done.compared.records if done.compared else ():
        sample.sample(SampleRequest(run=str(record.run.path), seeds=GRID, grid=True, device=device))
        pictures[record.name] = record.run.path / "drawn" / "grid.png"
    return done, pictures
