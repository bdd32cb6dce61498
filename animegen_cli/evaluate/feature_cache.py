"""Tensors on disk that take long to make, such as features: whole and made as their key says, or absent."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from animegen_cli import console, disk
from animegen_cli.model.checkpoint import write_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.metrics.extractors import Extractor


def key_of(extractor: Extractor, *images: str) -> str:
    """The key of features: `images` says which images they are of; network, resize, precision and device follow."""
    return "\0".join((*images, extractor.sha, extractor.resize, extractor.precision, extractor.device.type))


def load(folder: Path, key: str, columns: int) -> Tensor | None:
    """The tensor (n, columns) that `save` stored under this key, on the CPU; None where there is none, or a damaged one."""
    try:
        with safe_open(_file(folder, key), framework="pt") as file:
            about = file.metadata() or {}
            features = file.get_tensor("features").clone()  # the file may be rewritten under a mapping of it
    except (OSError, SafetensorError):
        return None
    fits = features.dtype == torch.float32 and features.dim() == 2 and features.shape[1] == columns
    return features if fits and about.get("key") == key and about.get("sha256") == _digest(features) else None


def save(folder: Path, key: str, features: Tensor) -> None:
    """Store a tensor (n, columns) under a key; a folder that cannot be written costs only time, which is said."""
    file = _file(folder, key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        disk.sweep(folder)
        with disk.replacing(file) as temporary:
            write_tensors(temporary, {"features": features}, {"key": key, "sha256": _digest(features)})
    except (OSError, SafetensorError) as error:
        console.warn(f"features could not be stored in {folder}: {error}")


def _file(folder: Path, key: str) -> Path:
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"


def _digest(features: Tensor) -> str:
    return hashlib.sha256(features.contiguous().view(torch.uint8).numpy().data).hexdigest()
