"""`animegen compare`: runs side by side, in one table, one picture and one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from animegen_cli.cli.options import Device, Json, Quiet, complete_run, parse_seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from animegen_cli.comparison import Comparison
    from animegen_cli.paths import Run
    from animegen_cli.report.figures import Drawn

Form = Literal["markdown", "csv", "latex"]

EXAMPLES = """
Examples:

  animegen compare                                 all runs under runs/

  animegen compare 3 5 --sort fd-faces             two runs by their numbers

  animegen compare runs/00003-* --seeds 0-7,100    the same seeds from each

  animegen compare --no-images --format latex      the table alone, for a paper
"""


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Run folders, names or numbers. [default: all under runs/]",
            autocompletion=complete_run,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for the page, the tables and the picture.")] = Path(
        "comparison"
    ),
    seeds: Annotated[str, typer.Option(help="Seeds of the same-seeds picture, such as 0-7,100.")] = "0-9",
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="A score, images, parameters, seconds, ... [default: as given]", show_default=False
        ),
    ] = None,
    no_images: Annotated[bool, typer.Option("--no-images", help="Draw nothing from the runs.")] = False,
    no_reals: Annotated[
        bool, typer.Option("--no-reals", help="Leave the real images out of the page, so that it can be published.")
    ] = False,
    form: Annotated[
        Form | None,
        typer.Option("--format", help="Print markdown, csv or latex instead of the drawn table.", show_default=False),
    ] = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Lay runs side by side: one table, one picture, one page."""
    from animegen_cli import comparison, console, paths

    console.configure(quiet=quiet, as_json=as_json)
    numbers = parse_seeds(seeds)
    found = (
        [paths.open_run(spec) for spec in runs] if runs else [run for run in paths.runs() if not run.able("classifies")]
    )
    if not runs and found:
        console.note(f"comparing all {len(found)} runs under {paths.RUNS}/")
    compared = comparison.compare(found, sort=sort)
    for warning in compared.warnings:
        console.warn(warning)
    drawn = None if no_images else _drawn(compared, numbers, device)
    written = comparison.write(compared, out, drawn=drawn, reals=not no_reals)
    _print(compared, form)
    for command in compared.todo.values():
        console.note(f"not scored yet: {command}")
    files = {name: str(path) for name, path in written.items()}
    console.result({**comparison.as_json(compared), "files": files})
    console.note(f"page     {files['page']}")
    console.note(f"tables   {out}/table.md, .csv, .tex, .json")
    if "picture" in files:
        console.note(f"picture  {files['picture']}")


def _print(compared: Comparison, form: Form | None) -> None:
    from animegen_cli import comparison, console
    from animegen_cli.report import published, tables

    if console.is_json():
        return
    if form is None:
        for table in (compared.quality, compared.cost, published.summary()):
            tables.show(table)
        console.note("* the best of its column, ≈ within the uncertainty of the best; protocols are on the page")
    else:
        console.result(None, comparison.as_text(compared, form))


def _drawn(compared: Comparison, numbers: Sequence[int], device: str | None) -> Drawn:
    """The same-seeds picture. The networks (and torch) are loaded only for a run that has not kept its images."""
    from animegen_cli import comparison, console

    def draw(run: Run, seeds: Sequence[int]) -> np.ndarray:
        from animegen_cli import generate
        from animegen_cli.train.choices import pick_device

        console.note(f"drawing {len(seeds)} images from {run.name}")
        images: Any = generate.images(run, seeds, device=pick_device(device))
        return images.permute(0, 2, 3, 1).cpu().numpy()

    drawn = comparison.same_seeds(compared, numbers, draw)
    for name, row in zip(compared.names, drawn.rows, strict=True):
        if isinstance(row, str):
            console.warn(f"{name} is missing in the picture: {row}")
    return drawn


compare.__doc__ = (compare.__doc__ or "") + "\n" + EXAMPLES
