"""`animegen eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from animegen_cli.cli.options import Device, Nproc, Settings, Slurm, SlurmDryRun, build, complete_run, given
from animegen_cli.seeds import parse_seeds


def evaluate(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|FOLDER]",
            help="A run (by default the newest), or images: a folder, zip or .npz.",
            autocompletion=complete_run,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Reference: a set, a folder, or an .npz of images or of mu and sigma."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Where the run's own data set lies now.")] = None,
    split: Annotated[str, typer.Option("--split", help="Part of the reference: train, test or all.")] = "train",
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics",
            help="Some of these, with commas or repeated: fd,fd-infinity,kid,kid75,precision,recall,density,coverage,diversity,is,"
            "hair-color,eyes-color,brightness,duplicates,copies; of held-out images mse,psnr,ssim,bpd,denoise",
        ),
    ] = None,
    extractor: Annotated[
        str | None,
        typer.Option(
            "--extractor",
            help="inception[:legacy_pytorch|:legacy_tensorflow], faces, squeezenet:PATH or attributes:RUN.",
        ),
    ] = None,
    attributes: Annotated[
        str | None,
        typer.Option(
            "--attributes",
            metavar="RUN",
            help="A classifier run: what it recognizes in drawn and in requested images.",
            autocompletion=complete_run,
        ),
    ] = None,
    per_value: Annotated[
        int, typer.Option("--per-value", min=1, help="Images requested per value with --attributes.")
    ] = 32,
    weights: Annotated[Path | None, typer.Option("--weights", help="Inception's file or its folder.")] = None,
    n: Annotated[
        int | None, typer.Option("--n", "-n", min=2, help="Images of a range of seeds; 2048 by default.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=1, help="Ranges of seeds, 0 to n-1, n to 2n-1, ...; 3 by default.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Exactly these as the one range, such as 0-2047.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="ancestral, ddim, dpmpp, heun or euler (diffusion).")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps (diffusion).")] = None,
    settings: Settings = None,
    precision: Annotated[str, typer.Option("--precision", help="Of the feature network: fp32, tf32 or bf16.")] = "fp32",
    backend: Annotated[
        str, typer.Option("--backend", help="clean-fid scores the same images with its own code too (fid, kid).")
    ] = "animegen",
    force: Annotated[bool, typer.Option("--force", help="Measure again what is already scored.")] = False,
    slurm: Slurm = None,
    slurm_dry_run: SlurmDryRun = False,
    device: Device = None,
    nproc: Nproc = None,
) -> None:
    """Score a run or a folder of images against a reference.

    Each number comes with its protocol.

    Examples:

      animegen eval

      animegen eval runs/00003-ddim-fast-faces-64 --n 10000 --split test

      animegen eval drawn/seeds --against faces.zip --extractor faces

      animegen eval samples.npz --against faces.zip --metrics fid,kid --backend clean-fid

      animegen eval runs/00003-ddim-fast-faces-64 --attributes runs/00007-attributes-fast-tagged-64
    """
    options = locals()
    from animegen_cli import config, console
    from animegen_cli.errors import UsageError
    from animegen_cli.evaluate.request import Request

    if seeds is not None and (n is not None or repeats is not None):
        other = "--n" if n is not None else "--repeats"
        raise UsageError(f"`{other}` and `--seeds` exclude each other", hint="`--n 64 --repeats 1` is `--seeds 0-63`")
    request = build(
        Request,
        options,
        metrics=[_metric(word.strip()) for words in metrics or () for word in words.split(",")],
        seeds=parse_seeds(seeds) if seeds is not None else None,
        overrides=config.settings_of(settings or []) | given(sampler=sampler, steps=steps),
    )
    request.check()  # before torch is imported
    if slurm is not None or slurm_dry_run:
        _submit(subject, slurm, dry_run=slurm_dry_run)
        return
    from animegen_cli.cli import processes

    processes.start(nproc, grace=processes.GRACE)
    from animegen_cli.evaluate import evaluate, follow

    found = processes.shared(request, evaluate.evaluate, follow.follow)
    for note in found["notes"]:
        console.warn(note)
    heads = ["score", "value", "error", "95 %", "spread", "protocol"]
    rows = [row for score in found["scores"] for row in _rows(score)]
    console.table(found["subject"], heads, rows, right=("value",))
    if check := found.get("check"):
        console.table(f"{check['backend']} {check['version']}", *_checked(check), right=("animegen", check["backend"]))
    console.result(found)


def _metric(word: str) -> str:
    """A metric as papers write it, such as FID, by the name that it has here; names of attributes keep their capitals."""
    return word.lower() if word.isupper() else word


def _submit(subject: str | None, wish: str | None, *, dry_run: bool) -> None:
    """Submit the evaluation; it says which run it means, since another may be the newest when the job starts."""
    from animegen_cli import paths
    from animegen_cli.cli import slurm

    wish = slurm.checked(wish)
    pinned: tuple[str, ...] = (
        () if subject is not None else (str(paths.open_run(None, able_to=("samples", "translates")).path),)
    )
    name = slurm.job_name("eval", Path(subject or pinned[0]).name)
    slurm.submit(wish, slurm.Work(name=name, pinned=pinned, goes_on=False), dry_run=dry_run)


def _checked(check: dict[str, Any]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Heads and rows of both codes' numbers."""
    heads = ["score", "animegen", check["backend"], "apart"]
    rows: list[tuple[str, ...]] = [
        (one["name"], f"{one['ours']:.8g}", f"{one['theirs']:.8g}", f"{abs(one['ours'] - one['theirs']):.1e}")
        for one in check["scores"]
    ]
    return heads, rows


def _rows(score: dict[str, Any]) -> list[tuple[str, ...]]:
    """A score as a row of the table; a KID as two, as many papers print it x1000."""
    from animegen_cli.metrics.protocol import AROUND_ZERO, IF_ALIKE

    error = "" if score["std"] is None else f"± {score['std']:.4g}"
    interval = "" if not score["interval"] else f"[{score['interval'][0]:.4g}, {score['interval'][1]:.4g}]"
    spread = "" if score.get("spread") is None else f"{score['spread']:.4g}"
    if score["protocol"]["metric"] in AROUND_ZERO:
        interval = ", ".join(filter(None, (interval, IF_ALIKE)))
    rows: list[tuple[str, ...]] = [
        (score["name"], f"{score['value']:.5g}", error, interval, spread, score["protocol_id"])
    ]
    if score["protocol"]["metric"] == "kid":
        rows.append((f"{score['name']} x1000", f"{1000 * score['value']:.4g}", "", "", "", score["protocol_id"]))
    return rows
