"""`animegen sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from animegen_cli.cli.options import Batch, Device, NewestRun, Nproc, Precision, Sampler, Settings, Steps, build, given
from animegen_cli.seeds import parse_seeds


def sample(
    run: NewestRun = None,
    n: Annotated[
        int | None, typer.Option("--n", "-n", min=1, help="Draw seeds 0..n-1; with --vary so many variations.")
    ] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="Seeds such as 0-63,100; excludes --n.")] = None,
    like: Annotated[
        Path | None,
        typer.Option("--like", help="Draw this picture again by its recipe; says what differs.", metavar="PICTURE"),
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="One picture of all (10x10 for 100) beside the files.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; by default <run>/drawn.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="png (one file per seed) or npz (one array `arr_0`, as ADM's).")
    ] = "png",
    sampler: Sampler = None,
    steps: Steps = None,
    eta: Annotated[float | None, typer.Option("--eta", min=0, max=1, help="DDIM's stochasticity.")] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", min=0, help="Classifier-free guidance weight.")
    ] = None,
    labels: Annotated[list[str] | None, typer.Option("--labels", help="hair=pink; may be repeated.")] = None,
    truncation: Annotated[
        float | None,
        typer.Option("--truncation", min=0, help="Pull codes towards their mean: 1 not at all (StyleGAN2)."),
    ] = None,
    top_levels: Annotated[
        int | None,
        typer.Option("--top-levels", min=1, help="Draw so many levels, the rest by their means (hierarchies)."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", min=0, help="Scale of what is drawn, below 1 for safer faces (VAEs, GANs)."),
    ] = None,
    settings: Settings = None,
    batch: Batch = None,
    precision: Precision = "auto",
    progress_strip: Annotated[bool, typer.Option("--progress-strip", help="One seed as training went.")] = False,
    forward_strip: Annotated[Path | None, typer.Option("--forward-strip", help="An image turning into noise.")] = None,
    denoise_strip: Annotated[bool, typer.Option("--denoise-strip", help="One seed from noise to image.")] = False,
    interpolate: Annotated[
        tuple[int, int] | None, typer.Option("--interpolate", help="A walk between two seeds.", metavar="A B")
    ] = None,
    vary: Annotated[
        int | None,
        typer.Option(
            "--vary", min=0, help="Variations of this seed's face, each towards another of --seeds.", metavar="SEED"
        ),
    ] = None,
    amount: Annotated[
        float | None,
        typer.Option("--amount", help="How far --vary goes: 0 the face itself, 1 the other; 0.3 by default."),
    ] = None,
    gif: Annotated[bool, typer.Option("--gif", help="The walk as an animated GIF too.")] = False,
    video: Annotated[bool, typer.Option("--video", help="The walk as a video too; needs `animegen[video]`.")] = False,
    frames: Annotated[int, typer.Option("--frames", min=2, help="Images in a strip or walk.")] = 10,
    mix: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--mix", help="A table: coarse of each row's seed, fine of each column's.", metavar="ROWS COLUMNS"
        ),
    ] = None,
    cut: Annotated[int | None, typer.Option("--cut", min=0, help="Levels of --mix that come from the row.")] = None,
    project: Annotated[
        Path | None, typer.Option("--project", help="Find the nearest face that the run can draw.", metavar="PICTURE")
    ] = None,
    project_steps: Annotated[int, typer.Option("--project-steps", min=1, help="Steps of --project.")] = 500,
    project_loss: Annotated[
        str, typer.Option("--project-loss", help="Distance of --project: perceptual, pixels or a VGG19 file.")
    ] = "perceptual",
    inpaint: Annotated[
        Path | None,
        typer.Option("--inpaint", help="Redraw --image where this picture is white, per seed.", metavar="MASK"),
    ] = None,
    image: Annotated[Path | None, typer.Option("--image", help="The picture for --inpaint.", metavar="PICTURE")] = None,
    fit: Annotated[
        str | None,
        typer.Option("--fit", help="crop, pad or stretch pictures of another size; by default they are refused."),
    ] = None,
    device: Device = None,
    nproc: Nproc = None,
) -> None:
    """Draw new faces from a trained run; no data set is needed.

    Examples:

      animegen sample --n 100 --grid

      animegen sample 3 --seeds 0-63,100 --sampler dpmpp --steps 20

      animegen sample --n 50000 --format npz --nproc 8

      animegen sample --labels hair=pink --labels eyes=blue --guidance 2 --grid

      animegen sample --interpolate 3 14 --frames 12

      animegen sample --vary 3 --n 8 --grid

      animegen sample --mix 0-4 10-14 --truncation 0.7

      animegen sample --like face.png

      animegen sample --inpaint mask.png --image face.png --n 6
    """
    options = locals()
    from animegen_cli import config, console
    from animegen_cli.errors import UsageError
    from animegen_cli.sample.request import Request

    if n is not None and seeds is not None:
        raise UsageError("`--n` and `--seeds` exclude each other", hint="`--n 64` is `--seeds 0-63`")
    first = 0 if vary is None else vary + 1
    request = build(
        Request,
        options,
        seeds=parse_seeds(seeds) if seeds is not None else None if n is None else list(range(first, first + n)),
        mix=tuple(parse_seeds(words, "--mix 0-4 10-14") for words in mix) if mix else None,
        overrides=config.settings_of(settings or [])
        | given(
            sampler=sampler, steps=steps, eta=eta, guidance=guidance,
            truncation=truncation, levels=top_levels, temperature=temperature,
        ),
    )  # fmt: skip
    request.check()  # before torch is imported
    from animegen_cli.cli import processes

    processes.start(nproc, grace=processes.GRACE)
    from animegen_cli.sample import sample as verb

    drawn = processes.shared(request, verb.sample, verb.follow)
    console.result(drawn.to_dict(), str(drawn))
