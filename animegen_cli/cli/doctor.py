"""`animegen doctor`: what this machine has for animegen, and what to type for what is missing."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    data: Mapping[str, Any]
    """The same as numbers, names, paths and true or false, for `--json`."""
    advice: str = ""
    """What to type; empty where nothing is missing."""

    @property
    def as_json(self) -> dict[str, Any]:
        """The data, and as `to_type` the commands of the advice."""
        return {**self.data, "to_type": re.findall(r"`(.+?)`", self.advice)}


def doctor() -> None:
    """Say what this machine has, and what to type for the rest.

    Example:

      animegen doctor
    """
    from animegen_cli import console

    lines = [*_versions(), *_device(), *_machine(), *_files(), *_extras()]
    console.table("", ["", "found", "what to type"], [[one.what, one.found, one.advice or None] for one in lines])
    console.result({one.what.lower().replace(" ", "_"): one.as_json for one in lines})


def _versions() -> list[Line]:
    import platform
    from importlib import metadata

    from animegen_cli import __version__

    python = platform.python_version()
    about = {"version": __version__, "python": python, "executable": sys.executable, "system": platform.platform()}
    versions = {name: metadata.version(name) for name in ("torch", "torchvision", "numpy")}
    return [
        Line("animegen", f"{__version__}, Python {python} at {sys.executable}", about),
        Line("libraries", ", ".join(f"{name} {version}" for name, version in versions.items()), versions),
    ]


def _device() -> list[Line]:
    import torch

    from animegen_cli import device

    chosen = device.pick_device(None)
    name = device.device_name(chosen)
    about: dict[str, Any] = {"kind": chosen.type, "name": name, "cuda_build": torch.version.cuda}
    if chosen.type == "cuda":
        about["free_bytes"] = device.free_memory(chosen)
        name += f", {about['free_bytes'] / 2**30:.1f} GiB free"
    elif chosen.type == "cpu":
        about["threads"] = torch.get_num_threads()
        name += f", {about['threads']} threads"
    else:
        name += ", which nobody has tried yet: `--device cpu` where it fails"
    unused = torch.version.cuda is None and shutil.which("nvidia-smi") is not None
    advice = "the GPU needs a CUDA build: `pip install --force-reinstall torch torchvision`" if unused else ""
    compiler, bf16 = device.has_compiler(), device.has_bf16(chosen)
    return [
        Line("device", name, about, advice),
        Line("bf16", "in hardware" if bf16 else "not in hardware: networks compute in fp32", {"in_hardware": bf16}),
        Line(
            "C compiler", "found" if compiler else "none: networks are not compiled", {"found": compiler},
            "" if compiler or chosen.type != "cuda" else "`apt install gcc`",
        ),
    ]  # fmt: skip


def _machine() -> list[Line]:
    import torch

    from animegen_cli import device, ranks

    free, cores = device.free_memory(torch.device("cpu")), ranks.cores()
    return [
        Line("cores", f"{cores}", {"count": cores}),
        Line(
            "memory", f"{free / 2**30:.1f} GiB free", {"free_bytes": free},
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
            {"free_bytes": space, "folder": str(here.resolve())},
            "`animegen runs du` shows what takes the space" if space < LITTLE_DISK else "",
        )
    ]  # fmt: skip
    try:
        has = knows_locks(here)
        said = "has them" if has else "has none: files keep other processes out instead"
        lines.append(Line("locks", f"the file system {said}", {"writable": True, "locks": has}))
    except OSError as error:
        said = f"this folder cannot be written: {error.strerror}"
        lines.append(Line("locks", said, {"writable": False, "locks": None}, "`cd` to a folder of yours"))
    sets, runs = len(list(paths.DATASETS.glob("*.zip"))), len(paths.runs(sweeps=True))
    for what, folder, count, advice in (
        ("data sets", paths.DATASETS, sets, "`animegen prepare demo`"), ("runs", paths.RUNS, runs, "`animegen demo`"),
    ):  # fmt: skip
        lines.append(
            Line(what, f"{count} in {folder}/", {"count": count, "folder": str(folder)}, "" if count else advice)
        )
    return lines


def _extras() -> list[Line]:
    from importlib import metadata

    from animegen_cli.errors import AnimegenError, installable
    from animegen_cli.metrics import weights

    lines = []
    try:
        file = str(weights.find_inception())
        lines.append(Line("Inception", file, {"file": file}))
    except AnimegenError:
        lines.append(Line("Inception", "not there: no FID, KID and IS", {"file": None}, "`animegen weights`"))
    for extra, distribution in EXTRAS.items():
        try:
            version = metadata.version(distribution)
            lines.append(Line(extra, f"{distribution} {version}", {"distribution": distribution, "version": version}))
        except metadata.PackageNotFoundError:
            missing = {"distribution": distribution, "version": None}
            lines.append(Line(extra, "not installed", missing, installable(f"`pip install 'animegen[{extra}]'`")))
    for program, purpose in (("nvidia-smi", "an NVIDIA GPU"), ("sbatch", "SLURM")):
        if where := shutil.which(program):
            lines.append(Line(purpose, where, {"program": where}))
    return lines
