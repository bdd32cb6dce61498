"""`animegen sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from animegen_cli.cli.options import Device, Json, Quiet, complete_run, parse_seeds


def sample(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", help="A run folder, name or number; by default the newest.", autocompletion=complete_run
        ),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", "-n", min=1, help="Draw seeds 0..n-1.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="Seeds such as 0-63,100; excludes --n.")] = None,
    grid: Annotated[bool, typer.Option("--grid", help="One picture of all (10x10 for 100) beside the files.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; by default <run>/drawn.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="png (one file per seed) or npz (one array `arr_0`, as ADM's).")
    ] = "png",
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="ancestral, ddim, dpmpp, heun or euler (diffusion).")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps (diffusion).")] = None,
    eta: Annotated[float | None, typer.Option("--eta", min=0, max=1, help="DDIM's stochasticity.")] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", min=0, help="Classifier-free guidance weight.")
    ] = None,
    labels: Annotated[list[str] | None, typer.Option("--labels", help="hair=pink; may be repeated.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any key of the run's `sample` section: --set churn=40")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Images per network call.")] = None,
    precision: Annotated[str, typer.Option("--precision", help="auto, fp32 or bf16.")] = "auto",
    progress_strip: Annotated[bool, typer.Option("--progress-strip", help="One seed as training went.")] = False,
    forward_strip: Annotated[Path | None, typer.Option("--forward-strip", help="An image turning into noise.")] = None,
    denoise_strip: Annotated[bool, typer.Option("--denoise-strip", help="One seed from noise to image.")] = False,
    interpolate: Annotated[
        tuple[int, int] | None, typer.Option("--interpolate", help="A walk between two seeds.", metavar="A B")
    ] = None,
    video: Annotated[bool, typer.Option("--video", help="The walk as a video too; needs `animegen[video]`.")] = False,
    frames: Annotated[int, typer.Option("--frames", min=2, help="Images in a strip or walk.")] = 10,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw new faces from a trained run; no data set is needed.

    Examples:

      animegen sample --n 100 --grid

      animegen sample 3 --seeds 0-63,100 --sampler dpmpp --steps 20

      animegen sample --labels hair=pink --labels eyes=blue --guidance 2 --grid

      animegen sample --interpolate 3 14 --frames 12
    """
    from animegen_cli import console, drawing

    console.configure(quiet=quiet, as_json=as_json)
    given: dict[str, Any] = {"sampler": sampler, "steps": steps, "eta": eta, "guidance": guidance}
    if n is not None and seeds is not None:
        from animegen_cli.errors import UsageError

        raise UsageError("`--n` and `--seeds` exclude each other", hint="`--n 64` is `--seeds 0-63`")
    request = drawing.Request(
        run=run,
        seeds=parse_seeds(seeds) if seeds is not None else None if n is None else list(range(n)),
        grid=grid, out=out, form=form, labels=labels or [], batch=batch, precision=precision, device=device,
        overrides={key: value for key, value in given.items() if value is not None}, settings=settings or [],
        progress_strip=progress_strip, forward_strip=forward_strip, denoise_strip=denoise_strip,
        interpolate=interpolate, frames=frames, video=video,
    )  # fmt: skip
    written = drawing.draw(request)
    console.result({"files": [str(file) for file in written["files"]], **written["about"]}, written["text"])
