"""`animegen prepare`: pictures -> one clean data set file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from animegen_cli.cli.options import Json, Quiet

_SPOKEN = ("resolution", "fit", "dedupe", "split")  # defaults that decide what is in the file

EXAMPLES = """
Examples:

  animegen prepare ./kaggle                        a folder, as downloaded

  animegen prepare animefacedataset.zip --resolution 32

  animegen prepare faces.zip --labels tags.csv     a table inside the archive, or a path

  animegen prepare a.zip b/ --out both.zip         merged

  animegen prepare demo --limit 500                drawn faces, no download
"""


def prepare(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Folders, zip or tar archives, kaggle:OWNER/NAME, or demo."),
    ],
    resolution: Annotated[int, typer.Option(help="Height and width of every image in pixels.")] = 64,
    out: Annotated[
        Path | None, typer.Option(help="The file to write. [default: datasets/<source>-<size>.zip]", show_default=False)
    ] = None,
    fit: Annotated[str, typer.Option(help="How to make squares: crop, pad or stretch.")] = "crop",
    dedupe: Annotated[
        str,
        typer.Option(
            help="exact: drop exact duplicates, keep near-twins on one side of the split; near: keep one of each; "
            "off: drop none."
        ),
    ] = "exact",
    split: Annotated[float, typer.Option(help="Share of the images for training; the rest is for testing.")] = 0.8,
    labels: Annotated[
        str | None,
        typer.Option(
            help="A table inside the source or a path; folders; none. [default: found by itself]", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Keep at most so many images, chosen by --seed.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Which images --limit chooses, and which faces demo draws.")] = 0,
    min_size: Annotated[
        int | None,
        typer.Option(
            help="Drop pictures whose shorter side has fewer pixels. [default: half the resolution]", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes. [default: the cores, at most 8]", show_default=False)
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make one clean data set file from pictures."""
    import os

    # Read when numpy is first imported: its threads would take cores and memory from the workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from animegen_cli import console
    from animegen_cli.data import prepare as data

    console.configure(quiet=quiet, as_json=as_json)
    options = data.Options(resolution, fit, dedupe, split, labels, limit, seed, min_size, workers)
    taken = [name for name in _SPOKEN if str(context.get_parameter_source(name)).endswith("DEFAULT")]
    if taken:
        console.note("by default: " + " ".join(f"--{name} {context.params[name]}" for name in taken))
    if limit is None and "demo" in sources:
        console.note(f"drawing {data.DRAWN:,} faces (choose with --limit)")
    if out is None:
        out = data.default_path(sources, resolution)
        console.note(f"writing to {out} (choose with --out)")
    if out.is_file():
        console.note(f"replacing {out}")
    done = data.prepare(sources, out, options)
    console.result(
        {"path": str(done.path), "contact": done.contact and str(done.contact), **done.about}, _summary(done)
    )


def _summary(done: Any) -> str:
    about = done.about
    twins, split, attributes = about["near_twins"], about["split"], about["attributes"]
    lines = [f"kept     {about['images']:,} images, {about['size']} x {about['size']}"]
    lines += [f"dropped  {count:,} {reason}" for reason, count in about["dropped"].items()]
    lines += [f"label    {name}: {len(values)} values" for name, values in attributes.items()]
    if twins["images"]:
        lines.append(
            f"twins    {twins['images']:,} images in {twins['clusters']:,} clusters of near-twins, kept together"
        )
    lines.append(f"split    {split['train']:,} for training, {split['test']:,} for testing")
    lines.append(f"written  {done.path}")
    if done.contact:
        lines.append(f"look at  {done.contact}")
    return "\n".join(lines)


prepare.__doc__ = (prepare.__doc__ or "") + "\n" + EXAMPLES
