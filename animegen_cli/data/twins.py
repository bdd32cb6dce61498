"""Near-twins: the same picture with another crop, light or compression, found by perceptual hashes."""

from __future__ import annotations

import numpy as np
from PIL import Image

_SIDE, _LOW = 32, 8
THRESHOLD = 6
METHOD = {"hash": "dct64", "threshold": THRESHOLD}
_POSITIONS = (2 * np.arange(_SIDE) + 1) / (2 * _SIDE)
_DCT = np.cos(np.pi * np.arange(_LOW)[:, None] * _POSITIONS).astype(np.float32)
LOOK_BYTES = 8


def look(pixels: np.ndarray) -> bytes:
    """Perceptual hash of RGB pixels, uint8 (S, S, 3): 64 bits, signs of low frequencies about their median."""
    grey = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    waves = (_DCT @ np.asarray(grey, np.float32) @ _DCT.T).ravel()
    return np.packbits(waves > np.median(waves[1:])).tobytes()


class Finder:
    """Collects looks; answers whether a new one has a twin, and at the end which belong together."""

    def __init__(self) -> None:
        self._looks = np.empty((1024, LOOK_BYTES), np.uint8)
        self._count = 0

    def add(self, look: bytes) -> None:
        if self._count == len(self._looks):
            self._looks = np.concatenate([self._looks, np.empty_like(self._looks)])
        self._looks[self._count] = np.frombuffer(look, np.uint8)
        self._count += 1

    def has_twin(self, look: bytes) -> bool:
        """Whether a collected look is near."""
        return bool((_distances(self._looks[: self._count], look) <= THRESHOLD).any())

    def clusters(self) -> np.ndarray:
        """(n,) the smallest index of the images that each one is connected to, directly or through others."""
        looks = self._looks[: self._count]
        root = np.arange(len(looks))
        for index in range(len(looks)):
            near = np.flatnonzero(_distances(looks[:index], looks[index].tobytes()) <= THRESHOLD)
            for other in near:
                a, b = root[index], root[other]
                if a != b:
                    root[root == max(a, b)] = min(a, b)
        return root


_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def _distances(looks: np.ndarray, look: bytes) -> np.ndarray:
    return _ONES[looks ^ np.frombuffer(look, np.uint8)].sum(axis=1)
