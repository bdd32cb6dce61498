"""What scores are measured against: the real images of a set, or stored moments; the cache holds their features."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from animegen_cli import console, paths
from animegen_cli.data.dataset import FaceSet
from animegen_cli.errors import DataError
from animegen_cli.evaluate import feature_cache
from animegen_cli.metrics.frechet import Moments, load_moments
from animegen_cli.model.pixels import channels_first

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from animegen_cli.metrics.extractors import Extractor

_CHUNK = 512


class Reference:
    """The real side of a comparison.

    Attributes:
        identity: hash of the split's pixels at this size, or of the file of moments.
        split: `train`, `test` or `all`.
        count: how many real images there are; 0 where a file of moments does not say it.
        size: side of the images in pixels.
        name: what people call it.
        faces: the set; None where the reference is a file of moments.
        moments: the file's content; None where there are images.

    Raises:
        DataError: the set's images are smaller than `size`, or the file holds no moments.
    """

    def __init__(self, source: FaceSet | Path, split: str, size: int, *, name: str = "") -> None:
        self.split = split
        self.size = size
        self.name = name or source.name
        self.faces = source if isinstance(source, FaceSet) else None
        self.moments: Moments | None = None
        if isinstance(source, FaceSet):
            if source.size < size:
                raise DataError(
                    f"the reference has {source.size}-pixel images, the others {size}",
                    hint="score against a set of at least that size",
                )
            self.identity = source.split_identity(split, size)
            self.count = len(source.indices(split))
        else:
            self.moments = load_moments(source)
            self.identity = hashlib.sha256(source.read_bytes()).hexdigest()
            self.count = self.moments.count or 0

    def features(self, extractor: Extractor) -> Tensor | Moments:
        """Features (count, D), float32 on the CPU, or the stored moments; DataError for those of another network."""
        if self.moments is not None:
            if len(self.moments.mean) != extractor.dims:
                raise DataError(
                    f"{self.name} holds {len(self.moments.mean)} features per image, `{extractor.name}` gives"
                    f" {extractor.dims}",
                    hint="compute the statistics with the same network, or choose it with `--extractor`",
                )
            return self.moments
        assert self.faces is not None
        return set_features(self.faces, self.split, self.size, extractor)


def set_features(faces: FaceSet, split: str, size: int, extractor: Extractor) -> Tensor:
    """Features (n, D) of one split, on the CPU; cached by content: pixels, network, resize, precision, device."""
    folder = paths.cache() / "features"
    key = feature_cache.key_of(extractor, faces.split_identity(split, size))
    if (known := feature_cache.load(folder, key, extractor.dims)) is not None:
        return known
    features = torch.cat([extractor.features(part).cpu() for part in read(faces, split, size)])
    feature_cache.save(folder, key, features)
    return features


def read(faces: FaceSet, split: str, size: int) -> Iterator[Tensor]:
    """Read the images of one split, some at a time: uint8 (n, 3, size, size) on the CPU; DataError where it has none."""
    indices = faces.indices(split)
    if not len(indices):
        raise DataError(
            f"{faces.path} has no images in its {split} split", hint="choose another with `--split train|test|all`"
        )
    with console.progress("reference", len(indices)) as bar:
        for start in range(0, len(indices), _CHUNK):
            pixels = faces.pixels(indices[start : start + _CHUNK], size=size)
            yield channels_first(pixels)
            bar.advance(len(pixels))
