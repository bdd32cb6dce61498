"""Features on disk, for those who would extract them again: whole and of the right network, or not there at all."""

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


def place(folder: Path, key: str) -> Path:
    """The file in `folder` for features that `key` says all about."""
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"


def key(extractor: Extractor, *images: str) -> str:
    """A key: which images, and how the network looked at them."""
    return "\0".join((*images, extractor.sha, extractor.resize, extractor.precision, extractor.device.type))


def load(folder: Path, key: str, dims: int) -> Tensor | None:
    """The features (n, dims) that `save` kept under this key; None where there are none, or damaged ones."""
    try:
        with safe_open(place(folder, key), framework="pt") as file:
            about = file.metadata() or {}
            features = file.get_tensor("features").clone()
    except (OSError, SafetensorError):
        return None
    fits = about.get("key") == key and features.shape[1:] == (dims,) and about.get("sha256") == _digest(features)
    return features if fits else None


def save(folder: Path, key: str, features: Tensor) -> None:
    """Keep features; a folder that cannot be written costs only time, which is said."""
    file = place(folder, key)
    temporary = file.with_suffix(".tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"features": features}, temporary, metadata={"key": key, "sha256": _digest(features)})
        temporary.replace(file)
    except (OSError, SafetensorError) as error:
        console.warn(f"features could not be kept in {folder}: {error}")


def _digest(features: Tensor) -> str:
    return hashlib.sha256(features.contiguous().view(torch.uint8).numpy().data).hexdigest()
