"""Batches for training: which images, in which order and how augmented is a function of seed and position alone.

Positions count images seen over all ranks; each domain has its own epochs. So a resumed run needs nothing but the
number of images seen, and a set in memory, a streamed set, and any number of ranks give the same images.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from animegen_cli.config import Augment
from animegen_cli.data.dataset import FaceSet, require_size
from animegen_cli.data.image_store import ImageStore, send, words
from animegen_cli.data.sources import PHOTOS
from animegen_cli.device import free_memory
from animegen_cli.errors import ConfigError, DataError, UsageError

NO_AUGMENT = Augment(flip=False)
"""Images as they are in the set."""


class RawBatch(NamedTuple):
    """A batch as it lies on the device."""

    images: Tensor
    """uint8 (B, 3, H, W) in [0, 255]."""
    labels: Tensor
    """int64 (B, A), one column for each attribute; -1 is unknown."""
    photos: Tensor | None = None
    """uint8 (B, 3, H, W) of the other domain, unpaired; None where it was not asked for."""


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """What decides the images of every batch: the same config gives the same batches on any machine."""

    split: str
    """"train", "test" or "all"."""
    size: int
    """Height and width in pixels; a larger set is scaled down while it is read."""
    batch: int
    """Images of one step over all ranks."""
    seed: int
    """What the order and the augmentation follow from."""
    photos: bool = False
    """Whether every batch has as many images of the other domain, in their own order."""
    augment: Augment = NO_AUGMENT
    """How images are changed; a set of more than `size` pixels is kept at up to `augment.load`, to be cut from."""


class Loader:
    """Uint8 batches of one split, resident on the device where they fit, else streamed.

    Attributes:
        resident: whether the decoded set lies in memory.
        mean, std: per channel over the split, in [-1, 1] and in its units; of the first domain.
    """

    def __init__(
        self,
        faces: FaceSet,
        config: LoaderConfig,
        *,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        workers: int | Literal["auto"] = "auto",
        memory_limit: int | None = None,
    ) -> None:
        """Read all images of the split once, for `mean` and `std`.

        Args:
            faces: the set that images come from.
            config: which images, in which order, and how they are changed.
            device: where batches are needed.
            rank: the number of this process among those that share each batch, from 0.
            world: the number of these processes; the batch must be a multiple of it.
            workers: threads that decode a streamed set; "auto" is the number of cores, at most 8.
            memory_limit: bytes up to which the set is kept in memory; None is a quarter of what is free, 0 streams.

        Raises:
            DataError: the split is empty, the images are too small or not square, or there are no photos.
            UsageError: the batch cannot be shared by `world` processes.
            ConfigError: `augment.load` is smaller than `size`.
        """
        size = config.size
        load = config.augment.load
        require_size(faces, size)
        if config.batch % world:
            raise UsageError(
                f"a batch of {config.batch} cannot be shared by {world} processes", hint=f"use a multiple of {world}"
            )
        if load and load < size:
            raise ConfigError(
                f"{size} pixels cannot be cut out of images of {load}",
                hint=f"use `--set augment.load={round(size * 286 / 256)}`, or 0 for no random crop",
            )
        self.faces = faces
        self.config = config
        self.device = torch.device(device)
        self._rank = rank
        self._world = world
        self.indices = faces.indices(config.split)
        domains = [self.indices] + ([faces.indices(config.split, PHOTOS)] if config.photos else [])
        for indices in domains:
            if not len(indices):
                what = "images" if indices is self.indices else "photos"
                raise DataError(
                    f"{faces.path} has no {what} for `{config.split}`", hint="prepare it with another `--split`"
                )
        self.labels = torch.from_numpy(faces.labels(self.indices)).to(self.device)
        """int64 (n, A) of the split, -1 for unknown."""
        stored = max(size, min(load, faces.size))
        needed = 3 * stored * stored * sum(map(len, domains))
        limit = free_memory(self.device) // 4 if memory_limit is None else memory_limit
        self.resident = needed <= limit
        self._threads = None if self.resident else ThreadPoolExecutor(_threads(workers))
        self._images, *others = [
            ImageStore(
                faces, indices, size=stored, seed=config.seed, draw=draw, device=self.device, threads=self._threads
            )
            for indices, draw in zip(domains, ("order", "photos order"), strict=False)
        ]
        self._photos = others[0] if others else None
        self.mean = self._images.mean
        self.std = self._images.std

    def __len__(self) -> int:
        """The number of images in the split, which is the length of an epoch: of the first domain."""
        return len(self.indices)

    @property
    def waited(self) -> float:
        """Seconds that `batch` has spent waiting for images."""
        return self._images.waited + (self._photos.waited if self._photos else 0.0)

    def batch(self, images_seen: int, count: int | None = None) -> RawBatch:
        """Load this rank's share of the step that begins after `images_seen` images.

        Args:
            images_seen: images of all earlier steps over all ranks.
            count: images of this step over all ranks, where it differs from the config's `batch`.

        Raises:
            DataError: an image is damaged.
        """
        share = (self.config.batch if count is None else count) // self._world
        step = share * self._world
        positions = images_seen + self._rank * share + np.arange(share)
        images, places = self._images.take(positions, step)
        raw = RawBatch(self._augment(images, positions, ""), self.labels.index_select(0, places))
        if self._photos is None:
            return raw
        photos, _ = self._photos.take(positions, step)
        return raw._replace(photos=self._augment(photos, positions, "photos "))

    def close(self) -> None:
        """Stop the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    # ---- augmentation -------------------------------------------------------------------------------------------

    def _augment(self, images: Tensor, positions: np.ndarray, domain: str) -> Tensor:
        """Turn, shift, cut out and mirror, each image by numbers that (seed, domain, position) decide."""
        augment = self.config.augment
        size = self.config.size
        if augment.rotate:
            images = rotate(images, (2 * self._uniform(domain + "turn", positions) - 1) * augment.rotate)
        if augment.crop:
            across, down = (
                (self._uniform(domain + draw, positions) * (2 * augment.crop + 1)).long() - augment.crop
                for draw in ("across", "down")
            )
            images = shift(images, across, down)
        if augment.load > size:
            left, top = (
                (self._uniform(domain + draw, positions) * (augment.load - size + 1)).long() for draw in ("left", "top")
            )
            images = cut_out(images, augment.load, size, left, top)
        if augment.flip:
            mirrored = (self._uniform(domain + "flip", positions) < 0.5).view(-1, 1, 1, 1)
            images = torch.where(mirrored, images.flip(3), images)
        return images

    def _uniform(self, draw: str, positions: np.ndarray) -> Tensor:
        """Draw one float64 in [0, 1) for each position, (B,), on the device."""
        high = words(self.config.seed, draw, positions.astype(np.uint64)) >> np.uint64(11)
        return send(torch.from_numpy(high.astype(np.float64) * 2.0**-53), self.device)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn uint8 images (B, 3, H, W) about their middle, each by its own angle (B,), bilinearly; the border is mirrored."""
    angle = (degrees * (math.pi / 180)).float()
    cos = angle.cos()
    sin = angle.sin()
    none = torch.zeros_like(angle)
    matrix = torch.stack([cos, -sin, none, sin, cos, none], 1).view(-1, 2, 3)
    return _resampled(images, matrix, images.shape[-1], "reflection")


def cut_out(images: Tensor, load: int, size: int, left: Tensor, top: Tensor) -> Tensor:
    """Scale images to `load` pixels bilinearly and cut a square of `size` out of each, in one step.

    This is the augmentation of pix2pix and CycleGAN (286 for 256: Isola et al. 2017, section 6.2).

    Args:
        images: uint8 (B, 3, H, H).
        load: height and width in pixels that the images are scaled to.
        size: height and width in pixels of what is cut out; at most `load`.
        left: int64 (B,) in [0, load - size], the first column of each square.
        top: int64 (B,) in [0, load - size], the first row of each square.

    Returns:
        uint8 (B, 3, size, size).
    """
    zoom = torch.full_like(left, 1, dtype=torch.float32) * (size / load)
    across, down = ((2 * place + size - load).float() / load for place in (left, top))
    none = torch.zeros_like(zoom)
    matrix = torch.stack([zoom, none, across, none, zoom, down], 1).view(-1, 2, 3)
    return _resampled(images, matrix, size, "border")


def _resampled(images: Tensor, matrix: Tensor, size: int, padding: str) -> Tensor:
    """Sample bilinearly by affine maps (B, 2, 3) from the new images' coordinates in [-1, 1] to the old ones'."""
    grid = F.affine_grid(matrix, [len(images), images.shape[1], size, size], align_corners=False)
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return moved.round_().clamp_(0, 255).to(torch.uint8)


def shift(images: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Shift images (B, 3, H, W) by whole pixels to the left and up, each by its own int64 (B,); the border is mirrored."""
    count, _, height, width = images.shape
    rows = _mirror(torch.arange(height, device=images.device) + down[:, None], height)
    columns = _mirror(torch.arange(width, device=images.device) + across[:, None], width)
    numbers = torch.arange(count, device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[numbers, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _mirror(places: Tensor, size: int) -> Tensor:
    """Reflect places outside [0, size) back inside, the edge pixel not repeated."""
    places = places.abs() % max(1, 2 * (size - 1))
    return torch.minimum(places, 2 * (size - 1) - places)


def _threads(wanted: int | str) -> int:
    return min(8, os.cpu_count() or 1) if wanted == "auto" else max(1, int(wanted))
