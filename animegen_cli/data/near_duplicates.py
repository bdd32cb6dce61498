"""Near-duplicates: the same drawing with another crop, light or compression, as sequels and re-uploads bring them.

Two images are compared by 256-bit perceptual hashes and by the correlation of their 8 x 8 color thumbnails; both
must be close, as either alone errs: faces drawn in one pose share a hash, faces in one color scheme a thumbnail.
Where the limits lie was chosen by eye on 1,500 pairs of drawn and photographed faces. Clusters, which must not leak
from training into testing, take the wide limits: a false pair costs nothing there. Dropping takes the narrow ones.

Training mirrors images, so an image and the mirror image of another may be near-duplicates too. What describes the
mirror image follows from what describes the image: cosines of odd horizontal frequency change their signs, and so
their bits of the hash, and the thumbnail is read from right to left.

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
METHOD = {
    "hash": "dct-256-signs",
    "thumbnail": "rgb-8x8",
    "mirrored": True,
    "cluster": CLUSTER._asdict(),
    "drop": DROP._asdict(),
}
"""What manifests and scores say of the comparison."""

_BITS = 256
_SIDE = 32  # pixels a side of the gray image that the hash is made of
_LOW = 16  # frequencies of it, in each direction, that the hash knows
_THUMB = 8  # pixels a side of the thumbnail
_HASH_BYTES = _BITS // 8
_ODD = 0b01010101  # the bits of odd horizontal frequencies in each byte of the hash
FINGERPRINT_BYTES = _HASH_BYTES + 3 * _THUMB * _THUMB
_BLOCK, _TILE = 256, 512  # images that are compared with others at a time: both products stay in the processor's cache


def _dct(low: int, side: int) -> np.ndarray:
    """The first `low` rows of the discrete cosine transform of `side` samples."""
    return np.cos(np.pi * np.arange(low)[:, None] * (2 * np.arange(side) + 1) / (2 * side))


_FREQUENCIES = np.rint(_dct(_LOW, _SIDE) * 4096)  # whole numbers: float64 sums of them are exact in any order


def fingerprint(image: Image.Image) -> bytes:
    """Describe an RGB image for comparison, in 224 bytes: a 256-bit perceptual hash, then the 8 x 8 thumbnail.

    A bit of the hash says whether a coefficient of the discrete cosine transform is positive. Zauner (2010) compares with
    the median, which lies near 0; signs alone tell the hash of the mirror image.
    """
    gray = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64)
    coefficients = (_FREQUENCIES @ gray @ _FREQUENCIES.T).ravel()
    thumb = image.resize((_THUMB, _THUMB), Image.Resampling.BOX)
    return np.packbits(coefficients > 0).tobytes() + thumb.tobytes()


def mirrored(fingerprints: np.ndarray) -> np.ndarray:
    """Describe the mirror images: fingerprints uint8 (n, 224) of images -> those of the images flipped left to right."""
    turned = np.empty_like(fingerprints)
    turned[:, :_HASH_BYTES] = fingerprints[:, :_HASH_BYTES] ^ _ODD
    thumbs = fingerprints[:, _HASH_BYTES:].reshape(-1, _THUMB, _THUMB, 3)
    turned[:, _HASH_BYTES:] = thumbs[:, :, ::-1].reshape(-1, FINGERPRINT_BYTES - _HASH_BYTES)
    return turned


class Matches(NamedTuple):
    """For each image the first near-duplicate among others."""

    place: np.ndarray
    """Its index, -1 without one, int64 (n,)."""
    mirrored: np.ndarray
    """Whether it is its mirror image that is near, bool (n,)."""


class Finder:
    """Collects fingerprints; knows whether a new one has a near-duplicate, and which images belong together.

    A projection of the thumbnails to 23 numbers finds candidates by matrix products; the exact rule decides on these.
    """

    def __init__(self, most: int, limits: Limits = CLUSTER, *, mirror: bool = True) -> None:
        """Make room for `most` fingerprints; memory is touched, and so taken, only as they come.

        Args:
            most: how many fingerprints can be collected.
            limits: how near the images of a cluster are to each other.
            mirror: whether an image also belongs to the mirror images of others.
        """
        self._limits = limits
        self._mirror = mirror
        self._fingerprints = np.empty((most, FINGERPRINT_BYTES), np.uint8)
        self._points = np.empty((most, _EVEN + _BASIS_ODD.shape[1]), np.float32)
        self._count = self._projected = self._compared = 0
        self._parent = np.arange(most)
        self._scratch = np.empty((2, _BLOCK, _TILE), np.float32)

    def add(self, fingerprint: bytes) -> None:
        """Collect the fingerprint of the next image."""
        self._fingerprints[self._count] = np.frombuffer(fingerprint, np.uint8)
        self._count += 1
        if self._count - self._compared == _BLOCK:
            self._compare()

    def near_duplicate(self, fingerprint: bytes) -> tuple[int, bool] | None:
        """Find the first collected image that is so near that this one may be dropped; None without one.

        Returns:
            Its index, and whether this is near to its mirror image alone.
        """
        found = self.matches(np.frombuffer(fingerprint, np.uint8)[None], DROP)
        return (int(found.place[0]), bool(found.mirrored[0])) if found.place[0] >= 0 else None

    def matches(self, fingerprints: np.ndarray, limits: Limits | None = None) -> Matches:
        """Find for each of some images the first collected one that is near; `limits` are those of clusters by default.

        Args:
            fingerprints: of the images, uint8 (n, FINGERPRINT_BYTES).
            limits: how much the two may differ.
        """
        found = Matches(np.full(len(fingerprints), -1), np.zeros(len(fingerprints), bool))
        for start in range(0, len(fingerprints), _BLOCK):
            block = fingerprints[start : start + _BLOCK]
            rows, columns, turned = self._near(block, _project(block), limits or self._limits)
            first = np.full(len(block), self._count)
            np.minimum.at(first, rows, columns)
            plain = np.zeros(len(block), bool)
            plain[rows[(columns == first[rows]) & ~turned]] = True
            some = first < self._count
            found.place[start : start + len(block)][some] = first[some]
            found.mirrored[start : start + len(block)][some] = ~plain[some]
        return found

    def leaks(self, test: np.ndarray) -> list[tuple[int, int, bool]]:
        """Find near-duplicates between two parts of the collected images; `test`, bool (n,), says which are in the second.

        Returns:
            For each image of the second part that has one in the first: its index, the first such, and whether only
            their mirror images are near.
        """
        collected = self._fingerprints[: self._count]
        first = Finder(int((~test).sum()), self._limits, mirror=self._mirror)
        first._fingerprints = collected[~test]  # clusters among them are not asked for
        first._count = first._compared = len(first._fingerprints)
        found = first.matches(collected[test])
        train, second, has = np.flatnonzero(~test), np.flatnonzero(test), found.place >= 0
        rows = second[has], train[found.place[has]], found.mirrored[has]
        return list(zip(*(row.tolist() for row in rows), strict=True))

    def clusters(self) -> np.ndarray:
        """Give for each image the smallest index of those it is connected to, directly or through others: int64 (n,)."""
        self._compare()
        return np.array([self._root(index) for index in range(self._count)], np.int64)

    def _compare(self) -> None:
        """Join the images added since the last time with their near-duplicates."""
        start = self._compared
        new = slice(start, self._count)
        later, earlier, _ = self._near(self._fingerprints[new], self._project_new()[new], self._limits, start)
        for pair in zip((later + start).tolist(), earlier.tolist(), strict=True):
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

    def _near(
        self, fingerprints: np.ndarray, points: np.ndarray, limits: Limits, start: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All pairs (row of fingerprints, collected image, whether only as mirror images) that are near.

        With `start` the rows are the collected images from there on, and each is compared with earlier ones alone.
        """
        rows, columns = self._candidates(points)
        if start is not None:
            earlier = columns < rows + start
            rows, columns = rows[earlier], columns[earlier]
        a, b = fingerprints[rows], self._fingerprints[columns]
        near = _alike(a, b, limits)
        turned = np.zeros_like(near)
        if self._mirror:
            rest = np.flatnonzero(~near)
            turned[rest] = _alike(mirrored(a[rest]), b[rest], limits)
        real = near | turned
        return rows[real], columns[real], turned[real]

    def _candidates(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (row of points, collected image) whose projected thumbnails are close enough to look at.

        a.b = e + o, with e from the parts that mirroring leaves alone and o from those whose sign it changes; with the
        mirror image of b it is e - o, so that e + |o| tells both.
        """
        known = self._project_new()
        swapped = points.copy()
        swapped[:, _EVEN - 2], swapped[:, _EVEN - 1] = points[:, _EVEN - 1], points[:, _EVEN - 2]
        rows = []
        columns = []
        for start in range(0, len(known), _TILE):
            tile = known[start : start + _TILE]
            shape = np.s_[: len(points), : len(tile)]
            even, odd = self._scratch[0][shape], self._scratch[1][shape]
            np.matmul(swapped[:, :_EVEN], tile[:, :_EVEN].T, out=even)
            np.matmul(swapped[:, _EVEN:], tile[:, _EVEN:].T, out=odd)
            if self._mirror:
                np.abs(odd, out=odd)
            even += odd
            row, column = np.divmod(np.flatnonzero(even >= -_REACH), len(tile))
            rows.append(row)
            columns.append(column + start)
        none = [np.empty(0, np.int64)]
        return np.concatenate(rows or none), np.concatenate(columns or none)


# |a - b|^2 = 2 - 2 correlation for unit vectors; a little more, for rounding. Halved, as the product gives it.
_REACH = np.float32((1 - CLUSTER.correlation) + 1e-3)


def _basis(odd: int) -> np.ndarray:
    """Give orthonormal columns: coarse brightness and coarser color of a thumbnail, where most of its energy lies.

    Those of even (`odd` = 0) or odd (1) horizontal frequency: (192, 13) and (192, 10).
    """
    cosines = _dct(_THUMB, _THUMB)
    cosines /= np.linalg.norm(cosines, axis=1, keepdims=True)
    mixes = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])
    columns = [
        np.einsum("y,x,c->yxc", cosines[v], cosines[u], mixes[mix]).ravel()
        for mix, low in ((0, 4), (1, 2), (2, 2))
        for v in range(low)
        for u in range(odd, low, 2)
        if (mix, v, u) != (0, 0, 0)  # the mean, which correlation ignores
    ]
    return np.stack(columns, 1).astype(np.float32)


_BASIS_EVEN, _BASIS_ODD = _basis(0), _basis(1)
_EVEN = _BASIS_EVEN.shape[1] + 2  # columns of a point before those that change their signs


def _project(fingerprints: np.ndarray) -> np.ndarray:
    """Give points (n, 25): even parts, -|a|^2 / 2, 1, odd parts.

    The product of one row with another, the two in the middle swapped, is -|a - b|^2 / 2.
    """
    thumbs = fingerprints[:, _HASH_BYTES:].astype(np.float32)
    thumbs -= thumbs.mean(axis=1, keepdims=True)
    thumbs /= np.sqrt((thumbs * thumbs).sum(axis=1, keepdims=True)) + 1e-6
    even, odd = thumbs @ _BASIS_EVEN, thumbs @ _BASIS_ODD
    half = ((even * even).sum(axis=1, keepdims=True) + (odd * odd).sum(axis=1, keepdims=True)) / 2
    return np.concatenate([even, -half, np.ones_like(half), odd], 1)


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
