"""Batches for training: which images, in which order and how augmented is a function of seed and position alone.

Positions count images seen over all ranks; each domain has its own epochs. So a resumed run needs nothing but the
number of images seen, and a set in memory, a streamed set, and any number of ranks give the same images.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from animegen_cli.data.dataset import FaceSet, require_size
from animegen_cli.data.image_store import ImageStore, send, words
from animegen_cli.data.sources import PHOTOS
from animegen_cli.device import free_memory
from animegen_cli.errors import ConfigError, DataError


class RawBatch(NamedTuple):
    """A batch as it lies on the device."""

    images: Tensor
    """uint8 (B, 3, H, W)."""
    labels: Tensor
    """int64 (B, A), -1 unknown."""
    photos: Tensor | None = None
    """uint8 (B, 3, H, W) of the other domain, unpaired, where it was asked for."""


class Loader:
    """Uint8 batches of one split, resident on the device where they fit, else streamed.

    Attributes:
        resident: whether the decoded set lies in memory.
        mean, std: per channel over the split, in [-1, 1] and in its units; of the first domain.
    """

    def __init__(
        self,
        faces: FaceSet,
        *,
        split: str,
        size: int,
        batch: int,
        seed: int,
        device: torch.device | str = "cpu",
        flip: bool = False,
        rotate: float = 0.0,
        crop: int = 0,
        load: int = 0,
        photos: bool = False,
        rank: int = 0,
        world: int = 1,
        workers: int | Literal["auto"] = "auto",
        memory_limit: int | None = None,
    ) -> None:
        """
        Args:
            size: height and width wanted; a larger set is scaled down while it is read.
            batch: images per step over all ranks, a multiple of `world`.
            flip: mirror half of the images.
            rotate: turn by up to so many degrees either way.
            crop: shift by up to so many pixels, the border mirrored.
            load: scale to so many pixels a side, then cut `size` of them out at random (286 for 256: Isola et al. 2017,
                section 6.2); 0 is off. A set of more than `size` pixels is kept at up to `load`.
            photos: give as many images of the other domain along, in their own order.
            workers: threads that decode a streamed set; "auto" is the number of cores, at most 8.
            memory_limit: bytes up to which the set is kept in memory; None is a quarter of what is free, 0 streams.

        Raises:
            DataError: the split is empty, the images are too small or not square, or there are no photos.
            ConfigError: `load` is smaller than `size`.
        """
        require_size(faces, size)
        if batch % world:
            raise DataError(
                f"a batch of {batch} cannot be shared by {world} processes", hint=f"use a multiple of {world}"
            )
        if load and load < size:
            raise ConfigError(
                f"{size} pixels cannot be cut out of images of {load}",
                hint=f"use `--set augment.load={round(size * 286 / 256)}`, or 0 for no random crop",
            )
        self.faces, self.size, self.seed, self.device = faces, size, seed, torch.device(device)
        self.flip, self.rotate, self.crop, self.load = flip, rotate, crop, load
        self.rank, self.world, self.total = rank, world, batch
        self.indices = faces.indices(split)
        both = [self.indices] + ([faces.indices(split, PHOTOS)] if photos else [])
        for indices in both:
            if not len(indices):
                what = "images" if indices is self.indices else "photos"
                raise DataError(f"{faces.path} has no {what} for `{split}`", hint="prepare it with another `--split`")
        self._labels = torch.from_numpy(faces.labels(self.indices)).to(self.device)
        kept = max(size, min(load, faces.size))
        needed = 3 * kept * kept * sum(map(len, both))
        limit = free_memory(self.device) // 4 if memory_limit is None else memory_limit
        self.resident = needed <= limit
        self._threads = None if self.resident else ThreadPoolExecutor(_workers(workers))
        self._images, *other = [
            ImageStore(faces, indices, size=kept, seed=seed, draw=draw, device=self.device, threads=self._threads)
            for indices, draw in zip(both, ("order", "photos order"), strict=False)
        ]
        self._photos = other[0] if other else None
        self.mean, self.std = self._images.mean, self._images.std

    def __len__(self) -> int:
        """Images in the split: the length of an epoch, which is one of the first domain."""
        return len(self.indices)

    @property
    def waited(self) -> float:
        """Seconds that `batch` has spent waiting for images."""
        return self._images.waited + (self._photos.waited if self._photos else 0.0)

    def batch(self, images_seen: int, count: int | None = None) -> RawBatch:
        """This rank's share of the step that begins after `images_seen` images.

        Args:
            count: images of this step over all ranks, where it differs from `batch`.

        Returns:
            uint8 (B, 3, H, W) in [0, 255], int64 labels (B, A), -1 unknown, and as many photos where they were asked
            for; all on the device.
        """
        share = (self.total if count is None else count) // self.world
        step = share * self.world
        positions = images_seen + self.rank * share + np.arange(share)
        images, where = self._images.take(positions, step)
        pieces = RawBatch(self._augment(images, positions, ""), self._labels.index_select(0, where))
        if self._photos is None:
            return pieces
        photos, _ = self._photos.take(positions, step)
        return pieces._replace(photos=self._augment(photos, positions, "photos "))

    def close(self) -> None:
        """Stop the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    # ---- augmentation -------------------------------------------------------------------------------------------

    def _augment(self, images: Tensor, positions: np.ndarray, of: str) -> Tensor:
        """Turn, shift, cut out and mirror, each image by numbers that (seed, domain, position) decide."""
        if self.rotate:
            images = rotate(images, (2 * self._uniform(of + "turn", positions) - 1) * self.rotate)
        if self.crop:
            across, down = (
                (self._uniform(of + draw, positions) * (2 * self.crop + 1)).long() - self.crop
                for draw in ("across", "down")
            )
            images = shift(images, across, down)
        if self.load > self.size:
            left, top = (
                (self._uniform(of + draw, positions) * (self.load - self.size + 1)).long() for draw in ("left", "top")
            )
            images = cut_out(images, self.load, self.size, left, top)
        if self.flip:
            mirrored = (self._uniform(of + "flip", positions) < 0.5).view(-1, 1, 1, 1)
            images = torch.where(mirrored, images.flip(3), images)
        return images

    def _uniform(self, draw: str, positions: np.ndarray) -> Tensor:
        """Float64 in [0, 1), (B,), on the device."""
        high = words(self.seed, draw, positions.astype(np.uint64)) >> np.uint64(11)
        return send(torch.from_numpy(high.astype(np.float64) * 2.0**-53), self.device)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn uint8 images (B, 3, H, W) about their middle, each by its own angle (B,); the border is mirrored."""
    angle = (degrees * (math.pi / 180)).float()
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([cos, -sin, none, sin, cos, none], 1).view(-1, 2, 3)
    return _resampled(images, matrix, images.shape[-1], "reflection")


def cut_out(images: Tensor, load: int, size: int, left: Tensor, top: Tensor) -> Tensor:
    """Uint8 images (B, 3, H, H) as if scaled to `load` pixels bilinearly, and of these `size` from (left, top) on.

    Args:
        left, top: (B,) int64 in [0, load - size].
    """
    zoom = torch.full_like(left, 1, dtype=torch.float32) * (size / load)
    across, down = ((2 * place + size - load).float() / load for place in (left, top))
    none = torch.zeros_like(zoom)
    matrix = torch.stack([zoom, none, across, none, zoom, down], 1).view(-1, 2, 3)
    return _resampled(images, matrix, size, "border")


def _resampled(images: Tensor, matrix: Tensor, size: int, padding: str) -> Tensor:
    """Bilinear, by affine maps (B, 2, 3) from the new images' coordinates in [-1, 1] to the old ones'."""
    grid = F.affine_grid(matrix, [len(images), images.shape[1], size, size], align_corners=False)
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return moved.round_().clamp_(0, 255).to(torch.uint8)


def shift(images: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Shift images (B, 3, H, W) by whole pixels, each by its own (B,) int64; the border is mirrored."""
    count, _, height, width = images.shape
    rows = _mirror(torch.arange(height, device=images.device) + down[:, None], height)
    columns = _mirror(torch.arange(width, device=images.device) + across[:, None], width)
    numbers = torch.arange(count, device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[numbers, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _mirror(places: Tensor, size: int) -> Tensor:
    """Reflect places outside [0, size) back inside, the edge pixel not repeated."""
    places = places.abs() % max(1, 2 * (size - 1))
    return torch.minimum(places, 2 * (size - 1) - places)


def _workers(wanted: int | str) -> int:
    return min(8, os.cpu_count() or 1) if wanted == "auto" else max(1, int(wanted))
