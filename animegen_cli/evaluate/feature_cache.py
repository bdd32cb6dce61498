"""Tensors on disk that take long to make, such as features: whole and made as their key says, or absent."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from animegen_cli import console

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
    fits = about.get("key") == key and features.shape[1:] == (columns,) and about.get("sha256") == _digest(features)
    return features if fits else None


def save(folder: Path, key: str, features: Tensor) -> None:
    """Store a tensor (n, columns) under a key; a folder that cannot be written costs only time, which is said."""
    file = _file(folder, key)
    temporary = file.with_suffix(".tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"features": features}, temporary, metadata={"key": key, "sha256": _digest(features)})
        temporary.replace(file)
    except (OSError, SafetensorError) as error:
        console.warn(f"features could not be stored in {folder}: {error}")


def _file(folder: Path, key: str) -> Path:
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"


def _digest(features: Tensor) -> str:
    return hashlib.sha256(features.contiguous().view(torch.uint8).numpy().data).hexdigest()
