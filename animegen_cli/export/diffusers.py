"""Folders that diffusers reads: written, and read back, as plain JSON and safetensors; diffusers itself is not needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors.torch import save_file

from animegen_cli import paths
from animegen_cli.model.diffusers import WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.model.family import DiffusersModel


def write(found: DiffusersModel, folder: Path) -> None:
    """Write `model_index.json`, `unet/` and `scheduler/` into an empty folder."""
    parts = {"unet": found.network, "scheduler": found.scheduler}
    for name, config in parts.items():
        (folder / name).mkdir()
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        paths.write_json(folder / name / file, config)
    save_file(dict(found.tensors), folder / "unet" / f"{WEIGHTS}.safetensors", {"format": "pt"})
    classes = {name: ["diffusers", config["_class_name"]] for name, config in parts.items()}
    version = found.network["_diffusers_version"]
    paths.write_json(
        folder / "model_index.json", {"_class_name": found.pipeline, "_diffusers_version": version, **classes}
    )
