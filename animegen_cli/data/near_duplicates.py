"""Near-twins: the same drawing with another crop, light or compression, as sequels and re-uploads bring them.

Two images are compared by 256-bit perceptual hashes and by the correlation of their 8 x 8 colour thumbnails; both
must be close, as either alone errs: faces drawn in one pose share a hash, faces in one colour scheme a thumbnail.
Where the limits lie was chosen by eye on 1,500 pairs of drawn and photographed faces. Clusters, which must not leak
from training into testing, take the wide limits: a false twin costs nothing there. Dropping takes the narrow ones.

All decisions are made in whole numbers, so that they do not depend on the machine or its linear algebra.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image


class Limits(NamedTuple):
    """What twins may differ in."""

    bits: int
    """At most so many of the hash's 256 bits."""
    correlation: float
    """At least this, of the thumbnails."""


CLUSTER, DROP = Limits(76, 0.94), Limits(56, 0.95)
METHOD = {"hash": "dct-256", "thumbnail": "rgb-8x8", "cluster": CLUSTER._asdict(), "drop": DROP._asdict()}

_BITS = 256
_SIDE, _LOW, _THUMB = 32, 16, 8
FINGERPRINT_BYTES = _BITS // 8 + 3 * _THUMB * _THUMB
_BLOCK, _TILE = 256, 1024  # images that are compared with others at a time


def _dct(low: int, side: int) -> np.ndarray:
    """The first `low` rows of the discrete cosine transform of `side` samples."""
    return np.cos(np.pi * np.arange(low)[:, None] * (2 * np.arange(side) + 1) / (2 * side))


_WAVES = np.rint(_dct(_LOW, _SIDE) * 4096)  # whole numbers: float64 sums of them are exact in any order


def fingerprint(image: Image.Image) -> bytes:
    """What two images are compared by: a 256-bit perceptual hash, then the thumbnail's 192 bytes."""
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64)
    waves = (_WAVES @ grey @ _WAVES.T).ravel()
    signs = waves > np.partition(waves, _BITS // 2)[_BITS // 2]
    thumb = image.resize((_THUMB, _THUMB), Image.Resampling.BOX)
    return np.packbits(signs).tobytes() + thumb.tobytes()


class Finder:
    """Collects looks; knows whether a new one has a twin, and which images belong together.

    A projection of the thumbnails to 23 numbers finds candidates by matrix products; the rule judges these.
    """

    def __init__(self, most: int, limits: Limits = CLUSTER) -> None:
        """`most` looks can be collected; memory is touched, and so taken, only as they come. Clusters take `limits`."""
        self._limits = limits
        self._fingerprints = np.empty((most, FINGERPRINT_BYTES), np.uint8)
        self._points = np.empty((most, _BASIS.shape[1] + 2), np.float32)
        self._count = self._projected = self._compared = 0
        self._parent = np.arange(most)
        self._scratch = np.empty((_BLOCK, _TILE), np.float32)

    def add(self, fingerprint: bytes) -> None:
        """Collect the look of the next image."""
        self._fingerprints[self._count] = np.frombuffer(fingerprint, np.uint8)
        self._count += 1
        if self._count - self._compared == _BLOCK:
            self._compare()

    def near_duplicate(self, fingerprint: bytes) -> int | None:
        """The first collected image that is so near that this one may be dropped."""
        one = np.frombuffer(fingerprint, np.uint8)[None]
        near = self._candidates(_project(one))[1]
        found = near[_twins(np.broadcast_to(one, (len(near), FINGERPRINT_BYTES)), self._fingerprints[near], DROP)]
        return int(found[0]) if len(found) else None

    def clusters(self) -> np.ndarray:
        """(n,) the smallest index of the images that each one is connected to, directly or through others."""
        self._compare()
        return np.array([self._root(index) for index in range(self._count)], np.int64)

    def _compare(self) -> None:
        """Join the images added since the last time with their twins."""
        start = self._compared
        new, old = self._candidates(self._project_new()[start:])
        new += start
        new, old = new[old < new], old[old < new]
        real = _twins(self._fingerprints[new], self._fingerprints[old], self._limits)
        for pair in zip(new[real].tolist(), old[real].tolist(), strict=True):
            a, b = map(self._root, pair)
            if a != b:
                self._parent[max(a, b)] = min(a, b)
        self._compared = self._count

    def _root(self, index: int) -> int:
        while self._parent[index] != index:
            index = int(self._parent[index])
        return index

    def _project_new(self) -> np.ndarray:
        """The points of all collected images."""
        new = slice(self._projected, self._count)
        self._points[new] = _project(self._fingerprints[new])
        self._projected = self._count
        return self._points[: self._count]

    def _candidates(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (row of points, collected image) whose projected thumbnails are close enough to look at."""
        known = self._project_new()
        mirrored = points.copy()
        mirrored[:, -2], mirrored[:, -1] = points[:, -1], points[:, -2]
        rows, columns = [], []
        for start in range(0, len(known), _TILE):  # tiles that stay in the processor's cache
            tile = known[start : start + _TILE]
            closeness = np.matmul(mirrored, tile.T, out=self._scratch[: len(points), : len(tile)])
            row, column = np.divmod(np.flatnonzero(closeness >= -_REACH), len(tile))
            rows.append(row)
            columns.append(column + start)
        none = [np.empty(0, np.int64)]
        return np.concatenate(rows or none), np.concatenate(columns or none)


# |a - b|^2 = 2 - 2 correlation for unit vectors; a little more, for rounding. Halved, as the product gives it.
_REACH = np.float32((1 - CLUSTER.correlation) + 1e-3)


def _basis() -> np.ndarray:
    """(192, 23) orthonormal: coarse brightness and coarser colour of a thumbnail, where most of its energy lies."""
    waves = _dct(_THUMB, _THUMB)
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    mixes = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])
    columns = [
        np.einsum("y,x,c->yxc", waves[v], waves[u], mixes[mix]).ravel()
        for mix, low in ((0, 4), (1, 2), (2, 2))
        for v in range(low)
        for u in range(low)
        if (mix, v, u) != (0, 0, 0)  # the mean, which correlation ignores
    ]
    return np.stack(columns, 1).astype(np.float32)


_BASIS = _basis()


def _project(fingerprints: np.ndarray) -> np.ndarray:
    """(n, 25) so that the product of one row with another, its last two swapped, is -|a - b|^2 / 2."""
    thumbs = fingerprints[:, _BITS // 8 :].astype(np.float32)
    thumbs -= thumbs.mean(axis=1, keepdims=True)
    thumbs /= np.sqrt((thumbs * thumbs).sum(axis=1, keepdims=True)) + 1e-6
    points = thumbs @ _BASIS
    half = (points * points).sum(axis=1, keepdims=True) / 2
    return np.concatenate([points, -half, np.ones_like(half)], 1)


_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint16)


def _twins(a: np.ndarray, b: np.ndarray, limits: Limits) -> np.ndarray:
    """The rule, row by row: (n, 224) uint8 looks -> (n,) bool."""
    alike = np.flatnonzero(_ONES[a[:, :32] ^ b[:, :32]].sum(axis=1) <= limits.bits)
    x, y = a[alike, 32:].astype(np.int64), b[alike, 32:].astype(np.int64)
    count = x.shape[1]
    shared = count * (x * y).sum(1) - x.sum(1) * y.sum(1)
    spread_x, spread_y = (count * (v * v).sum(1) - v.sum(1) ** 2 for v in (x, y))
    bound = limits.correlation * np.sqrt(spread_x.astype(np.float64) * spread_y)
    real = np.zeros(len(a), bool)
    real[alike] = shared >= bound  # two flat images: 0 >= 0
    return real
