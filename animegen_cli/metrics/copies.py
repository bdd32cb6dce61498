"""Drawn images that repeat each other, and those that repeat a training image, mirrored or not.

Two criteria look for copies of training images, as either alone is blind to something. The perceptual hash of
`data/near_duplicates.py` knows the same picture behind blur and compression, not another crop of it. Distances between features
know another crop, not much blur; as some pictures have many near neighbors and others none, a distance counts in
units of that image's distances to its next neighbors (Carlini et al. 2023), and what is near is read off held-out
images, which are no copies.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from animegen_cli.data import near_duplicates
from animegen_cli.errors import DataError

NEIGHBORS = 10
"""Further neighbors that the distance to the nearest one is compared with."""
NEAR = 0.01
"""Share of held-out images that are nearer than the limit, and so of images that pass for copies by chance."""
_ROWS = 256


class Nearest(NamedTuple):
    """The nearest training image of each image."""

    place: Tensor
    """Its place among them, int64 (n,)."""
    distance: Tensor
    """How far its features are, float32 (n,)."""
    ratio: Tensor
    """The same as a multiple of the mean distance to the next `NEIGHBORS`: 0 for a copy, below 1."""
    mirrored: Tensor
    """Whether it is the mirrored image that is near, bool (n,)."""


def fingerprints(images: Tensor) -> np.ndarray:
    """The fingerprints that `near_duplicates` compares: of images uint8 (n, 3, H, W), uint8 (n, FINGERPRINT_BYTES)."""
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    found = [np.frombuffer(near_duplicates.fingerprint(Image.fromarray(image)), np.uint8) for image in pixels]
    return np.stack(found) if found else np.empty((0, near_duplicates.FINGERPRINT_BYTES), np.uint8)


def repeated(drawn: np.ndarray) -> np.ndarray:
    """Which images nearly equal another one of them: bool (n,), of their fingerprints uint8 (n, FINGERPRINT_BYTES).

    The limits are the narrow ones of `near_duplicates`, by which `prepare --dedupe near` drops an image.
    """
    clusters = _finder(drawn).clusters()
    return np.bincount(clusters, minlength=len(drawn))[clusters] > 1


def hashed_copies(drawn: np.ndarray, mirrored: np.ndarray, training: np.ndarray) -> np.ndarray:
    """The training image that each image nearly equals, or its mirror image does: its index, -1 without one: (n,).

    Args:
        drawn: fingerprints of the images, uint8 (n, FINGERPRINT_BYTES).
        mirrored: those of their mirror images, in the same order.
        training: those of the training images, uint8 (m, FINGERPRINT_BYTES).
    """
    finder = _finder(training)
    found = np.full(len(drawn), -1)
    for i, both in enumerate(zip(drawn, mirrored, strict=True)):
        for fingerprint in both:
            if found[i] < 0 and (index := finder.near_duplicate(fingerprint.tobytes())) is not None:
                found[i] = index
    return found


def nearest(features: Tensor, mirrored: Tensor, training: Tensor) -> Nearest:
    """The training image whose features are nearest to an image's or to those of its mirror image, for each image.

    Args:
        features: of the images, (n, D).
        mirrored: of their mirror images, (n, D).
        training: of the training images, (m, D).

    Raises:
        DataError: there are fewer than `NEIGHBORS` + 1 training images.
    """
    if len(training) <= NEIGHBORS:
        raise DataError(
            f"copies are sought among more than {NEIGHBORS} training images, there are {len(training)}",
            hint="score against a larger set, or leave `copies` out of `--metrics`",
        )
    plain = _nearest(features, training)
    turned = _nearest(mirrored, training)
    nearer = turned[2] < plain[2]
    place, distance, ratio = (torch.where(nearer, b, a) for a, b in zip(plain, turned, strict=True))
    return Nearest(place, distance, ratio, nearer)


def limit(held_out: Tensor) -> float:
    """The ratio below which an image is a copy: the `NEAR` quantile of held-out images' ratios (n,), rounded down."""
    return torch.quantile(held_out.double(), NEAR, interpolation="lower").item()


def _finder(fingerprints: np.ndarray) -> near_duplicates.Finder:
    finder = near_duplicates.Finder(len(fingerprints), near_duplicates.DROP)
    for fingerprint in fingerprints:
        finder.add(fingerprint.tobytes())
    return finder


def _nearest(features: Tensor, training: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Place, distance and ratio (n,) of the nearest training image."""
    found = [torch.cdist(rows, training).topk(NEIGHBORS + 1, largest=False) for rows in features.split(_ROWS)]
    distances, places = (torch.cat([part[i] for part in found]) for i in (0, 1))
    usual = distances[:, 1:].mean(1).clamp(min=1e-12)
    return places[:, 0], distances[:, 0], distances[:, 0] / usual
