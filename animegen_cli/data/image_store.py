"""The images of one domain of one split in a shuffled order, in memory on the device or streamed by threads.

Positions count images over all ranks. Epoch e is the permutation that (seed, draw, e) decides; a batch may cross from
one epoch into the next.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from animegen_cli.data.dataset import FaceSet
from animegen_cli.seeds import seed_for

if TYPE_CHECKING:
    from concurrent.futures import Future

_CHUNK = 1024  # images decoded at a time while the set is read
_AHEAD = 3  # batches that are decoded before they are asked for
Channels: TypeAlias = tuple[float, float, float]
"""One number for each of red, green and blue."""


@dataclass(eq=False)
class ImageStore:
    """Gives uint8 images by their position in training; all are decoded once at the beginning.

    Attributes:
        mean, std: per channel, in [-1, 1] and in its units.
    """

    faces: FaceSet
    """The set that the images come from."""
    indices: np.ndarray
    """Which images, int64 (n,)."""
    _: KW_ONLY
    size: int
    """Height and width in pixels at which the images are stored."""
    seed: int
    """What the order of every epoch follows from."""
    draw: str
    """The name of the shuffle, so that two domains go through their epochs independently."""
    device: torch.device
    """Where the images are needed."""
    threads: ThreadPoolExecutor | None
    """What decodes the images batch by batch; without them all stay in memory on the device."""
    waited: float = field(default=0.0, init=False)
    """Seconds that `take` has spent waiting for images."""

    def __post_init__(self) -> None:
        self._order: OrderedDict[int, np.ndarray] = OrderedDict()
        self._pending: OrderedDict[tuple[int, int], Future[np.ndarray]] = OrderedDict()
        self._read_all()

    def __len__(self) -> int:
        return len(self.indices)

    def _read_all(self) -> None:
        """Decode all once: exact mean and std, and the images themselves where they stay in memory."""
        counts = np.zeros((3, 256), np.int64)
        shape = (len(self), 3, self.size, self.size)
        self._images = None if self.threads else torch.empty(shape, dtype=torch.uint8, device=self.device)
        for start in range(0, len(self), _CHUNK):
            pixels = self.faces.pixels(self.indices[start : start + _CHUNK], size=self.size)
            for channel in range(3):
                counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
            if self._images is not None:
                self._images[start : start + len(pixels)] = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)
        self.mean, self.std = _statistics(counts)

    def _places(self, positions: np.ndarray) -> np.ndarray:
        """Places among `indices` of the images at these positions."""
        epochs, within = np.divmod(positions, len(self))
        places = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            places[here] = self._permutation(epoch)[within[here]]
        return places

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._order:
            keys = words(self.seed, self.draw, np.arange(len(self), dtype=np.uint64), epoch)
            self._order[epoch] = np.argsort(keys, kind="stable")
            while len(self._order) > 3:
                self._order.popitem(last=False)
        return self._order[epoch]

    def take(self, positions: np.ndarray, step: int) -> tuple[Tensor, Tensor]:
        """Give the images uint8 (B, 3, H, W) at some positions and their places int64 (B,), both on the device.

        Args:
            positions: consecutive positions in training, int64 (B,).
            step: how much further on the next batch will lie.

        Raises:
            DataError: an image is damaged.
        """
        where = send(torch.from_numpy(self._places(positions)), self.device)
        if self._images is not None:
            return self._images.index_select(0, where), where
        for ahead in range(_AHEAD + 1):  # this batch, unless it is under way, and the next ones
            self._begin(positions + ahead * step)
        begun = time.perf_counter()
        pixels = self._pending.pop(_key(positions)).result()
        self.waited += time.perf_counter() - begun
        while len(self._pending) > 2 * _AHEAD:  # asked for in another order: let the oldest go
            self._pending.popitem(last=False)[1].cancel()
        return send(torch.from_numpy(pixels), self.device).permute(0, 3, 1, 2).contiguous(), where

    def _begin(self, positions: np.ndarray) -> None:
        key = _key(positions)
        if key not in self._pending and self.threads is not None:
            chosen = self.indices[self._places(positions)]
            self._pending[key] = self.threads.submit(self.faces.pixels, chosen, size=self.size)


def _key(positions: np.ndarray) -> tuple[int, int]:
    return int(positions[0]), len(positions)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device, without waiting for the work that is queued there."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def words(seed: int, draw: str, counters: np.ndarray, epoch: int = 0) -> np.ndarray:
    """Draw uint64 words, each a function of (seed, draw, epoch, counter): SplitMix64 (Steele et al. 2014)."""
    key = np.uint64(seed_for(seed, draw, epoch))
    z = counters.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _statistics(counts: np.ndarray) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel from how often each of the 256 levels occurs, int64 (3, 256); exact sums."""
    red, green, blue = (_moments(channel) for channel in counts)
    return (red[0], green[0], blue[0]), (red[1], green[1], blue[1])


def _moments(counts: np.ndarray) -> tuple[float, float]:
    levels = np.arange(256, dtype=np.int64)
    total, first, second = (int((counts * levels**power).sum()) for power in (0, 1, 2))
    return first / total / 127.5 - 1, math.sqrt((second * total - first * first) / total**2) / 127.5
