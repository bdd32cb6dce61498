"""Near-duplicates: the same drawing with another crop, light or compression, as sequels and re-uploads bring them.

Two images are compared by 256-bit perceptual hashes and by the correlation of their 8 x 8 color thumbnails; both
must be close, as either alone errs: faces drawn in one pose share a hash, faces in one color scheme a thumbnail.
Where the limits lie was chosen by eye on 1,500 pairs of drawn and photographed faces. Clusters, which must not leak
from training into testing, take the wide limits: a false pair costs nothing there. Dropping takes the narrow ones.

All decisions are made in whole numbers, so that they do not depend on the machine or its linear algebra.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image


class Limits(NamedTuple):
    """How much two near-duplicates may differ."""

    bits: int
    """How many of the hash's 256 bits differ at most."""
    correlation: float
    """The smallest correlation of the thumbnails, up to 1."""


CLUSTER = Limits(76, 0.94)
"""The limits of clusters, which the split keeps whole."""
DROP = Limits(56, 0.95)
"""The limits within which an image may be dropped."""
METHOD = {"hash": "dct-256", "thumbnail": "rgb-8x8", "cluster": CLUSTER._asdict(), "drop": DROP._asdict()}
"""What manifests and scores say of the comparison."""

_BITS = 256
_SIDE = 32  # pixels a side of the gray image that the hash is made of
_LOW = 16  # frequencies of it, in each direction, that the hash knows
_THUMB = 8  # pixels a side of the thumbnail
FINGERPRINT_BYTES = _BITS // 8 + 3 * _THUMB * _THUMB
_BLOCK, _TILE = 256, 1024  # images that are compared with others at a time


def _dct(low: int, side: int) -> np.ndarray:
    """The first `low` rows of the discrete cosine transform of `side` samples."""
    return np.cos(np.pi * np.arange(low)[:, None] * (2 * np.arange(side) + 1) / (2 * side))


_FREQUENCIES = np.rint(_dct(_LOW, _SIDE) * 4096)  # whole numbers: float64 sums of them are exact in any order


def fingerprint(image: Image.Image) -> bytes:
    """Describe an RGB image for comparison, in 224 bytes: a 256-bit perceptual hash, then the 8 x 8 thumbnail.

    A bit of the hash says whether a coefficient of the discrete cosine transform exceeds the median (Zauner 2010).
    """
    gray = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64)
    coefficients = (_FREQUENCIES @ gray @ _FREQUENCIES.T).ravel()
    signs = coefficients > np.partition(coefficients, _BITS // 2)[_BITS // 2]
    thumb = image.resize((_THUMB, _THUMB), Image.Resampling.BOX)
    return np.packbits(signs).tobytes() + thumb.tobytes()


class Finder:
    """Collects fingerprints; knows whether a new one has a near-duplicate, and which images belong together.

    A projection of the thumbnails to 23 numbers finds candidates by matrix products; the exact rule decides on these.
    """

    def __init__(self, most: int, limits: Limits = CLUSTER) -> None:
        """Make room for `most` fingerprints; memory is touched, and so taken, only as they come.

        Args:
            most: how many fingerprints can be collected.
            limits: how near the images of a cluster are to each other.
        """
        self._limits = limits
        self._fingerprints = np.empty((most, FINGERPRINT_BYTES), np.uint8)
        self._points = np.empty((most, _BASIS.shape[1] + 2), np.float32)
        self._count = self._projected = self._compared = 0
        self._parent = np.arange(most)
        self._scratch = np.empty((_BLOCK, _TILE), np.float32)

    def add(self, fingerprint: bytes) -> None:
        """Collect the fingerprint of the next image."""
        self._fingerprints[self._count] = np.frombuffer(fingerprint, np.uint8)
        self._count += 1
        if self._count - self._compared == _BLOCK:
            self._compare()

    def near_duplicate(self, fingerprint: bytes) -> int | None:
        """Find the first collected image that is so near that this one may be dropped; None without one."""
        one = np.frombuffer(fingerprint, np.uint8)[None]
        near = self._candidates(_project(one))[1]
        found = near[_alike(np.broadcast_to(one, (len(near), FINGERPRINT_BYTES)), self._fingerprints[near], DROP)]
        return int(found[0]) if len(found) else None

    def clusters(self) -> np.ndarray:
        """Give for each image the smallest index of those it is connected to, directly or through others: int64 (n,)."""
        self._compare()
        return np.array([self._root(index) for index in range(self._count)], np.int64)

    def _compare(self) -> None:
        """Join the images added since the last time with their near-duplicates."""
        start = self._compared
        new, old = self._candidates(self._project_new()[start:])
        new += start
        earlier = old < new
        new, old = new[earlier], old[earlier]
        real = _alike(self._fingerprints[new], self._fingerprints[old], self._limits)
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
        rows = []
        columns = []
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
    """Give orthonormal columns, (192, 23): coarse brightness and coarser color of a thumbnail, where most of its energy lies."""
    cosines = _dct(_THUMB, _THUMB)
    cosines /= np.linalg.norm(cosines, axis=1, keepdims=True)
    mixes = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])
    columns = [
        np.einsum("y,x,c->yxc", cosines[v], cosines[u], mixes[mix]).ravel()
        for mix, low in ((0, 4), (1, 2), (2, 2))
        for v in range(low)
        for u in range(low)
        if (mix, v, u) != (0, 0, 0)  # the mean, which correlation ignores
    ]
    return np.stack(columns, 1).astype(np.float32)


_BASIS = _basis()


def _project(fingerprints: np.ndarray) -> np.ndarray:
    """Give points (n, 25) so that the product of one row with another, its last two swapped, is -|a - b|^2 / 2."""
    thumbs = fingerprints[:, _BITS // 8 :].astype(np.float32)
    thumbs -= thumbs.mean(axis=1, keepdims=True)
    thumbs /= np.sqrt((thumbs * thumbs).sum(axis=1, keepdims=True)) + 1e-6
    points = thumbs @ _BASIS
    half = (points * points).sum(axis=1, keepdims=True) / 2
    return np.concatenate([points, -half, np.ones_like(half)], 1)


_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint16)


def _alike(a: np.ndarray, b: np.ndarray, limits: Limits) -> np.ndarray:
    """Compare fingerprints row by row, uint8 (n, 224), in whole numbers: (n,) bool."""
    near = np.flatnonzero(_ONES[a[:, :32] ^ b[:, :32]].sum(axis=1) <= limits.bits)
    x, y = a[near, 32:].astype(np.int64), b[near, 32:].astype(np.int64)
    count = x.shape[1]
    shared = count * (x * y).sum(1) - x.sum(1) * y.sum(1)
    spread_x, spread_y = (count * (v * v).sum(1) - v.sum(1) ** 2 for v in (x, y))
    bound = limits.correlation * np.sqrt(spread_x.astype(np.float64) * spread_y)
    real = np.zeros(len(a), bool)
    real[near] = shared >= bound  # two flat images: 0 >= 0
    return real
