"""Folders that diffusers reads, written as plain JSON and safetensors; diffusers itself is not needed.

They are read back by `animegen_cli.model.diffusers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from animegen_cli import disk
from animegen_cli.model.checkpoint import write_tensors
from animegen_cli.model.diffusers import WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.model.family import DiffusersModel


def write(model: DiffusersModel, folder: Path) -> None:
    """Write `model_index.json`, `unet/` and `scheduler/` into an empty folder.

    Raises:
        OSError: the folder cannot be written.
    """
    parts = {"unet": model.network, "scheduler": model.scheduler}
    for name, config in parts.items():
        (folder / name).mkdir()
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        disk.write_json(folder / name / file, config)
    write_tensors(folder / "unet" / f"{WEIGHTS}.safetensors", dict(model.tensors), {"format": "pt"})
    classes = {name: ["diffusers", config["_class_name"]] for name, config in parts.items()}
    version = model.network["_diffusers_version"]
    disk.write_json(
        folder / "model_index.json", {"_class_name": model.pipeline, "_diffusers_version": version, **classes}
    )
