"""`animegen translate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from animegen_cli.cli.options import Batch, Device, Precision, Sampler, Settings, Steps, build, complete_run, given


def translate(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] PATH",
            help="A run (by default the newest that can), then a picture, a folder with all below it, or an archive.",
            autocompletion=complete_run,
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder; by default <run>/translated.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="From anime to photo (translators).")] = False,
    noise: Annotated[
        float | None,
        typer.Option("--noise", min=0, help="Add noise of this deviation first; pixels reach from -1 to 1 (VAEs)."),
    ] = None,
    top_levels: Annotated[
        int | None, typer.Option("--top-levels", min=1, help="Keep so many levels of the picture (hierarchies).")
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option("--strength", min=0.01, max=1, help="How much is drawn anew: 0.1 a little, 1 all (diffusion)."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Invert the deterministic sampler instead of adding noise (diffusion).")
    ] = False,
    sampler: Sampler = None,
    steps: Steps = None,
    settings: Settings = None,
    fit: Annotated[
        str | None,
        typer.Option("--fit", help="crop (default), pad or stretch to the run's square, where that is its only size."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=1, help="Scale the shorter side to this first, where any size will do."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the noise, the same for every picture.")] = 0,
    grid: Annotated[
        bool, typer.Option("--grid", help="One picture of the first 24 before and after, beside the folder.")
    ] = False,
    batch: Batch = None,
    precision: Precision = "auto",
    device: Device = None,
) -> None:
    """Turn pictures into pictures, such as photos into anime.

    Photo to anime and back, reconstruction, denoising, image to image.

    Writes PNG files with the names and folders of the inputs, upright, in sRGB, without their metadata but with the
    recipe; of animations the first frame.
    Transparent parts stay transparent where any size will do, else they become white. Every picture
    gets the same noise, so the frames of a film do not flicker. Families that take any size
    keep a picture's own (reflected at its edges to a multiple of 8 pixels; above 1,024 in tiles that fade into each
    other over 128); all others cut out the middle square and write the run's size. Pictures that cannot be read are
    skipped and counted.

    Examples:

      animegen translate photo.jpg --out anime

      animegen translate 3 ./frames --out anime --grid

      animegen translate 3 anime.png --reverse

      animegen translate 5 noisy.png --noise 0.2

      animegen translate 7 ./sketches --strength 0.6 --steps 50 --seed 4
    """
    options = locals()
    from animegen_cli import config, console
    from animegen_cli.errors import UsageError
    from animegen_cli.translate.request import Request

    if len(words) > 2:
        raise UsageError(f"one picture or folder at a time, not {len(words) - 1}", hint="name the folder they lie in")
    request = build(
        Request,
        options,
        run=words[0] if len(words) == 2 else None,
        path=Path(words[-1]),
        edits=given(
            reverse=reverse or None, noise=noise, levels=top_levels, strength=strength, exact=exact or None,
        ),
        overrides=config.settings_of(settings or []) | given(sampler=sampler, steps=steps),
    )  # fmt: skip
    request.check()  # before torch is imported
    from animegen_cli.translate import translate as verb

    done = verb.translate(request)
    console.result(
        {"files": [str(file) for file in done["files"]], "skipped": done["skipped"], **done["about"]}, done["text"]
    )
