"""Folders that diffusers reads, as plain JSON and safetensors; diffusers itself is not needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from animegen_cli import paths
from animegen_cli.errors import DataError
from animegen_cli.model.family import Converts, DiffusersModel, Family
from animegen_cli.paths import Run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

WEIGHTS = "diffusion_pytorch_model"


def is_folder(path: Path) -> bool:
    """Whether this looks like a folder of diffusers: a pipeline, or a network alone."""
    return not Run(path).exists and any((path / name).is_file() for name in ("model_index.json", "config.json"))


def read(path: Path) -> DiffusersModel:
    """A pipeline's or a network's folder, its tensors on the CPU.

    Raises:
        DataError: a missing or damaged file; weights that only a pickle holds, which is never opened.
    """
    unet = path / "unet" if (path / "model_index.json").is_file() else path
    network = paths.read_json(unet / "config.json", what="diffusers network")
    scheduler: Mapping[str, Any] = {}
    if (path / "scheduler" / "scheduler_config.json").is_file():
        scheduler = paths.read_json(path / "scheduler" / "scheduler_config.json", what="diffusers scheduler")
    return DiffusersModel(network=network, tensors=_tensors(unet), scheduler=scheduler, pipeline="")


def _tensors(unet: Path) -> dict[str, torch.Tensor]:
    file = unet / f"{WEIGHTS}.safetensors"
    try:
        return load_file(file)
    except FileNotFoundError:
        pickled = any(unet.glob("*.bin"))
        raise DataError(
            f"{unet} has no {file.name}" + (", only a pickled file, which may run any code" if pickled else ""),
            hint="save it with `save_pretrained(FOLDER, safe_serialization=True)` of diffusers",
        ) from None
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file} is damaged: {error}", hint="fetch or save the folder again") from error


def adopt(model: Family, path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The folder's network under the family's own names, and warnings.

    Raises:
        DataError: a folder that cannot be read, a family that has no such network, or another shape.
    """
    if not isinstance(model, Converts):
        raise DataError(
            f"{path} is a diffusers folder, and this family has no network of that kind",
            hint="name a run of the same family after `--init-from`",
        )
    try:
        return model.from_diffusers(read(path))
    except DataError as error:
        raise DataError(f"{path}: {error.message}", hint=error.hint) from error
