"""`animegen doctor`: what this machine has for animegen, and what to type for what is missing."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

EXTRAS = {
    "ui": "gradio", "onnx": "onnxruntime", "hf": "pyarrow", "video": "imageio", "kaggle": "kaggle", "clean-fid": "clean-fid",
    "tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "formats": "pillow-heif", "notebooks": "ipywidgets",
}  # fmt: skip
"""Extra -> the distribution that tells whether it is installed."""
LITTLE_MEMORY, LITTLE_DISK = 4 << 30, 5 << 30


class Line(NamedTuple):
    """One thing that was looked at."""

    what: str
    found: str
    advice: str = ""
    """What to type; empty where nothing is missing."""


def doctor() -> None:
    """Say what this machine has, and what to type for the rest.

    Example:

      animegen doctor
    """
    from animegen_cli import console

    lines = [*_versions(), *_device(), *_machine(), *_files(), *_extras()]
    console.table("", ["", "found", "what to type"], [[one.what, one.found, one.advice or None] for one in lines])
    console.result([one._asdict() for one in lines])


def _versions() -> list[Line]:
    from importlib import metadata

    from animegen_cli import __version__

    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "torchvision", "numpy"))
    return [
        Line("animegen", f"{__version__}, Python {platform.python_version()} at {sys.executable}"),
        Line("libraries", versions),
    ]


def _device() -> list[Line]:
    import torch

    from animegen_cli import device

    chosen = device.pick_device(None)
    name = device.device_name(chosen)
    if chosen.type == "cuda":
        name += f", {device.free_memory(chosen) / 2**30:.1f} GiB free"
    elif chosen.type == "cpu":
        name += f", {torch.get_num_threads()} threads"
    else:
        name += ", which nobody has tried yet: `--device cpu` where it fails"
    unused = torch.version.cuda is None and shutil.which("nvidia-smi") is not None
    advice = "the GPU needs a CUDA build: `pip install --force-reinstall torch torchvision`" if unused else ""
    compiler = device.has_compiler()
    return [
        Line("device", name, advice),
        Line("bf16", "in hardware" if device.has_bf16(chosen) else "not in hardware: networks compute in fp32"),
        Line(
            "C compiler", "found" if compiler else "none: networks are not compiled",
            "" if compiler or chosen.type != "cuda" else "`apt install gcc`",
        ),
    ]  # fmt: skip


def _machine() -> list[Line]:
    import torch

    from animegen_cli import device, ranks

    free = device.free_memory(torch.device("cpu"))
    return [
        Line("cores", f"{ranks.cores()}"),
        Line(
            "memory", f"{free / 2**30:.1f} GiB free",
            "`--batch-gpu 8` needs less" if free < LITTLE_MEMORY else "",
        ),
    ]  # fmt: skip


def _files() -> list[Line]:
    from animegen_cli import paths
    from animegen_cli.train.lock import knows_locks

    here = Path()
    space = shutil.disk_usage(here).free
    lines = [
        Line(
            "disk", f"{space / 2**30:.0f} GiB free in {here.resolve()}",
            "`animegen runs du` shows what takes the space" if space < LITTLE_DISK else "",
        )
    ]  # fmt: skip
    try:
        has = "has them" if knows_locks(here) else "has none: files keep other processes out instead"
        lines.append(Line("locks", f"the file system {has}"))
    except OSError as error:
        lines.append(Line("locks", f"this folder cannot be written: {error.strerror}", "`cd` to a folder of yours"))
    sets = len(list(paths.DATASETS.glob("*.zip")))
    lines.append(Line("data sets", f"{sets} in {paths.DATASETS}/", "" if sets else "`animegen prepare demo`"))
    runs = len(paths.runs())
    lines.append(Line("runs", f"{runs} in {paths.RUNS}/", "" if runs else "`animegen demo`"))
    return lines


def _extras() -> list[Line]:
    from importlib import metadata

    from animegen_cli.errors import AnimegenError, installable
    from animegen_cli.metrics import weights

    lines = []
    try:
        lines.append(Line("Inception", str(weights.find_inception())))
    except AnimegenError:
        lines.append(Line("Inception", "not there: no FID, KID and IS", "`animegen weights`"))
    for extra, distribution in EXTRAS.items():
        try:
            lines.append(Line(extra, f"{distribution} {metadata.version(distribution)}"))
        except metadata.PackageNotFoundError:
            lines.append(Line(extra, "not installed", installable(f"`pip install 'animegen[{extra}]'`")))
    for program, purpose in (("nvidia-smi", "an NVIDIA GPU"), ("sbatch", "SLURM")):
        if where := shutil.which(program):
            lines.append(Line(purpose, where))
    return lines
