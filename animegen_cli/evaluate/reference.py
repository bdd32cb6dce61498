"""What scores are measured against: the real images of a set, or stored moments; the cache holds their features."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from animegen_cli import console, paths, ranks
from animegen_cli.data.dataset import FaceSet
from animegen_cli.errors import DataError
from animegen_cli.evaluate import feature_cache, sharing
from animegen_cli.metrics.frechet import Moments, load_moments
from animegen_cli.model.pixels import channels_first

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from animegen_cli.metrics.extractors import Extractor
    from animegen_cli.ranks import Ranks

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
        group: the processes that share the features.

    Raises:
        DataError: the set's images are smaller than `size`, or the file holds no moments.
    """

    def __init__(
        self, source: FaceSet | Path, split: str, size: int, *, name: str = "", group: Ranks = ranks.ALONE
    ) -> None:
        self.group = group
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
        return set_features(self.faces, self.split, self.size, extractor, self.group)


def set_features(faces: FaceSet, split: str, size: int, extractor: Extractor, group: Ranks) -> Tensor:
    """Features (n, D) of one split, on the CPU; cached by content: pixels, network, resize, precision, device.

    The processes of `group` share the work; the first one calls this.
    """
    folder = paths.cache() / "features"
    key = feature_cache.key_of(extractor, faces.split_identity(split, size))
    if (known := feature_cache.load(folder, key, extractor.dims)) is not None:
        return known
    _indices(faces, split)  # an empty split is said by the first process alone
    task = sharing.Task(
        "set", str(faces.path.resolve()), split=split, size=size, extractor=sharing.name_of(extractor)
    )  # fmt: skip
    features = sharing.shared(group, task, lambda: features_of_block(faces, split, size, extractor, group))
    feature_cache.save(folder, key, features)
    return features


def features_of_block(faces: FaceSet, split: str, size: int, extractor: Extractor, group: Ranks) -> Tensor:
    """Features (n, D) of this process's block of one split, on the CPU."""
    rows = group.block(len(faces.indices(split)), extractor.micro_batch)
    found = [extractor.features(part).cpu() for part in read(faces, split, size, rows)]
    return torch.cat([torch.empty(0, extractor.dims), *found])


def read(faces: FaceSet, split: str, size: int, rows: range | None = None) -> Iterator[Tensor]:
    """Read the images of one split or a block of them, some at a time: uint8 (n, 3, size, size) on the CPU.

    Raises:
        DataError: the split is empty, or an image cannot be read.
    """
    indices = _indices(faces, split)
    if rows is not None:
        indices = indices[rows.start : rows.stop]
    with console.progress("reference", len(indices)) as bar:
        for start in range(0, len(indices), _CHUNK):
            pixels = faces.pixels(indices[start : start + _CHUNK], size=size)
            yield channels_first(pixels)
            bar.advance(len(pixels))


def _indices(faces: FaceSet, split: str) -> np.ndarray:
    """Those of a split's images, int64; DataError where there are none."""
    indices = faces.indices(split)
    if not len(indices):
        raise DataError(
            f"{faces.path} has no images in its {split} split", hint="choose another with `--split train|test|all`"
        )
    return indices
