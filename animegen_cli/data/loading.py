"""Batches for training: which images, in which order and how augmented is a function of seed and position alone.

Positions count images seen over all ranks. Epoch e is the permutation that (seed, e) decides; a batch may cross
from one epoch into the next. So a resumed run needs nothing but the number of images seen, and a set in
memory, a streamed set, and any number of ranks give the same images.
"""

from __future__ import annotations

import math
import os
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from animegen_cli.data.reading import FaceSet, require_size
from animegen_cli.errors import DataError
from animegen_cli.noise import seed_for

_CHUNK = 1024  # images decoded at a time while the set is read
_AHEAD = 3  # batches that are decoded before they are asked for


class Pieces(NamedTuple):
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
        waited: seconds that `batch` has spent waiting for images.
        mean, std: per channel over the split, in [-1, 1] and in its units.
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
            workers: threads that decode a streamed set; "auto" is the number of cores, at most 8.
            memory_limit: bytes up to which the set is kept in memory; None is a quarter of what is free, 0 streams.

        Raises:
            DataError: the split is empty, or the images are too small or not square.
        """
        require_size(faces, size)
        if batch % world:
            raise DataError(
                f"a batch of {batch} cannot be shared by {world} processes", hint=f"use a multiple of {world}"
            )
        self.faces, self.size, self.seed, self.device = faces, size, seed, torch.device(device)
        self.flip, self.rotate, self.crop = flip, rotate, crop
        self.rank, self.world, self.total = rank, world, batch
        self.indices = faces.indices(split)
        if not len(self.indices):
            raise DataError(f"{faces.path} has no images for `{split}`", hint="prepare it with another `--split`")
        self.waited = 0.0
        self._order: OrderedDict[int, np.ndarray] = OrderedDict()
        self._pending: OrderedDict[tuple[int, int], Future[np.ndarray]] = OrderedDict()
        self._labels = torch.from_numpy(faces.labels(self.indices)).to(self.device)
        needed = 3 * size * size * len(self.indices)
        limit = free_memory(self.device) // 4 if memory_limit is None else memory_limit
        self.resident = needed <= limit
        self._threads = None if self.resident else ThreadPoolExecutor(_workers(workers))
        self._read_all()

    def __len__(self) -> int:
        """Images in the split: the length of an epoch."""
        return len(self.indices)

    def _read_all(self) -> None:
        """Decode the split once: exact mean and std, and the images themselves where they stay resident."""
        counts = np.zeros((3, 256), np.int64)
        shape = (len(self), 3, self.size, self.size)
        self._images = torch.empty(shape, dtype=torch.uint8, device=self.device) if self.resident else None
        for start in range(0, len(self), _CHUNK):
            pixels = self.faces.pixels(self.indices[start : start + _CHUNK], size=self.size)
            for channel in range(3):
                counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
            if self._images is not None:
                self._images[start : start + len(pixels)] = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)
        self.mean, self.std = _statistics(counts)

    # ---- batches ------------------------------------------------------------------------------------------------

    def batch(self, images_seen: int, count: int | None = None) -> Pieces:
        """This rank's share of the step that begins after `images_seen` images.

        Args:
            count: images of this step over all ranks, where it differs from `batch`.

        Returns:
            uint8 (B, 3, H, W) in [0, 255] and int64 labels (B, A), -1 unknown; both on the device.
        """
        share = (self.total if count is None else count) // self.world
        positions = images_seen + self.rank * share + np.arange(share)
        places = self._places(positions)
        where = self._send(torch.from_numpy(places))
        if self._images is not None:
            images = self._images.index_select(0, where)
        else:
            images = self._streamed(images_seen, share, places)
        return Pieces(self._augment(images, positions), self._labels.index_select(0, where))

    def _places(self, positions: np.ndarray) -> np.ndarray:
        """Places in the split of the images at these positions."""
        epochs, within = np.divmod(positions, len(self))
        places = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            places[here] = self._permutation(epoch)[within[here]]
        return places

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._order:
            keys = _words(self.seed, "order", np.arange(len(self), dtype=np.uint64), epoch)
            self._order[epoch] = np.argsort(keys, kind="stable")
            while len(self._order) > 3:
                self._order.popitem(last=False)
        return self._order[epoch]

    def _streamed(self, images_seen: int, share: int, places: np.ndarray) -> Tensor:
        """Decode this batch, unless that is under way, and begin with the next ones."""
        self._begin(images_seen, share, places)
        step = share * self.world
        for ahead in range(1, _AHEAD + 1):
            later = images_seen + ahead * step
            self._begin(later, share, self._places(later + self.rank * share + np.arange(share)))
        begun = time.perf_counter()
        pixels = self._pending.pop((images_seen, share)).result()
        self.waited += time.perf_counter() - begun
        while len(self._pending) > 2 * _AHEAD:  # asked for in another order: let the oldest go
            self._pending.popitem(last=False)[1].cancel()
        return self._send(torch.from_numpy(pixels)).permute(0, 3, 1, 2).contiguous()

    def _send(self, tensor: Tensor) -> Tensor:
        """To the device, without waiting for the work that is queued there."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def _begin(self, images_seen: int, share: int, places: np.ndarray) -> None:
        key = (images_seen, share)
        if key not in self._pending and self._threads is not None:
            self._pending[key] = self._threads.submit(self.faces.pixels, self.indices[places], size=self.size)

    def close(self) -> None:
        """Stop the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    # ---- augmentation -------------------------------------------------------------------------------------------

    def _augment(self, images: Tensor, positions: np.ndarray) -> Tensor:
        """Turn, shift and mirror, each image by numbers that (seed, position) decide."""
        if self.rotate:
            images = rotate(images, (2 * self._uniform("turn", positions) - 1) * self.rotate)
        if self.crop:
            across, down = (
                (self._uniform(draw, positions) * (2 * self.crop + 1)).long() - self.crop for draw in ("across", "down")
            )
            images = shift(images, across, down)
        if self.flip:
            mirrored = (self._uniform("flip", positions) < 0.5).view(-1, 1, 1, 1)
            images = torch.where(mirrored, images.flip(3), images)
        return images

    def _uniform(self, draw: str, positions: np.ndarray) -> Tensor:
        """Float64 in [0, 1), (B,), on the device."""
        words = _words(self.seed, draw, positions.astype(np.uint64)) >> np.uint64(11)
        return self._send(torch.from_numpy(words.astype(np.float64) * 2.0**-53))


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn uint8 images (B, 3, H, W) about their middle, each by its own angle (B,); the border is mirrored."""
    angle = (degrees * (math.pi / 180)).float()
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([cos, -sin, none, sin, cos, none], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    turned = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return turned.round_().clamp_(0, 255).to(torch.uint8)


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


# ---- numbers ---------------------------------------------------------------------------------------------------


def _words(seed: int, draw: str, counters: np.ndarray, epoch: int = 0) -> np.ndarray:
    """uint64 words, each a function of (seed, draw, epoch, counter): SplitMix64 (Steele et al. 2014)."""
    key = np.uint64(seed_for(seed, draw, epoch))
    z = counters.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _statistics(counts: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation per channel from how often each of the 256 levels occurs; exact sums."""
    levels = np.arange(256, dtype=np.int64)
    total = int(counts[0].sum())
    means, deviations = [], []
    for channel in counts:
        first, second = int((channel * levels).sum()), int((channel * levels * levels).sum())
        means.append(first / total / 127.5 - 1)
        deviations.append(math.sqrt((second * total - first * first) / total**2) / 127.5)
    return tuple(means), tuple(deviations)  # type: ignore[return-value]


def free_memory(device: torch.device) -> int:
    """Free bytes on the device, this process's share where several run on one machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = next(line for line in file if line.startswith("MemAvailable"))
        return int(found.split()[1]) * 1024 // sharing
    except (OSError, StopIteration):  # not Linux: half of all memory is a fair guess
        pages, size = "SC_PHYS_PAGES", "SC_PAGE_SIZE"
        known = hasattr(os, "sysconf") and pages in os.sysconf_names
        return (os.sysconf(pages) * os.sysconf(size) // 2 if known else 4 * 2**30) // sharing


def _workers(wanted: int | str) -> int:
    return min(8, os.cpu_count() or 1) if wanted == "auto" else max(1, int(wanted))
