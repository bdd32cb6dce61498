"""Drawn images that repeat each other, and those that repeat a training image, mirrored or not.

Two criteria look for copies of training images, as either alone is blind to something. The perceptual hash of
`data/twins.py` knows the same picture behind blur and compression, not another crop of it. Distances between features
know another crop, not much blur; as some pictures have many near neighbours and others none, a distance counts in
units of that image's distances to its next neighbours (Carlini et al. 2023), and what is near is read off held-out
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

NEIGHBOURS = 10
"""Further neighbours that the distance to the nearest one is compared with."""
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
    """The same as a multiple of the mean distance to the next `NEIGHBOURS`: 0 for a copy, below 1."""
    mirrored: Tensor
    """Whether it is the mirrored image that is near, bool (n,)."""


def fingerprints(images: Tensor) -> np.ndarray:
    """What `twins` compares images by: uint8 (n, 3, H, W) -> uint8 (n, LOOK_BYTES)."""
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    found = [np.frombuffer(near_duplicates.fingerprint(Image.fromarray(image)), np.uint8) for image in pixels]
    return np.stack(found) if found else np.empty((0, near_duplicates.FINGERPRINT_BYTES), np.uint8)


def repeated(seen: np.ndarray) -> np.ndarray:
    """Which images nearly equal another one of them, by their looks (n, LOOK_BYTES): bool (n,).

    Under the narrow limits of `twins`, those by which `prepare --dedupe near` drops an image.
    """
    clusters = _finder(seen, near_duplicates.DROP).clusters()
    return np.bincount(clusters, minlength=len(seen))[clusters] > 1


def hashed_copies(seen: np.ndarray, mirrored: np.ndarray, training: np.ndarray) -> np.ndarray:
    """The training image that each image repeats by its look, or by that of its mirror image; -1 without one: (n,).

    Looks are uint8 (n, LOOK_BYTES), twice, and (m, LOOK_BYTES).
    """
    finder = _finder(training, near_duplicates.DROP)
    found = np.full(len(seen), -1)
    for i, both in enumerate(zip(seen, mirrored, strict=True)):
        for fingerprint in both:
            if found[i] < 0 and (repeated := finder.near_duplicate(fingerprint.tobytes())) is not None:
                found[i] = repeated
    return found


def nearest(features: Tensor, mirrored: Tensor, training: Tensor) -> Nearest:
    """The nearest of the training images' features (m, D) to images' (n, D), or to those of their mirror images.

    Raises DataError for fewer training images than `NEIGHBOURS` + 1.
    """
    if len(training) <= NEIGHBOURS:
        raise DataError(
            f"copies are sought among more than {NEIGHBOURS} training images, there are {len(training)}",
            hint="score against a larger set, or leave `copies` out of `--metrics`",
        )
    plain, turned = _nearest(features, training), _nearest(mirrored, training)
    other = turned[2] < plain[2]
    place, distance, ratio = (torch.where(other, b, a) for a, b in zip(plain, turned, strict=True))
    return Nearest(place, distance, ratio, other)


def limit(held_out: Tensor) -> float:
    """The ratio below which an image is a copy: the `NEAR` quantile of held-out images' ratios (n,), rounded down."""
    return torch.quantile(held_out.double(), NEAR, interpolation="lower").item()


def share_interval(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share of `count` images (Wilson 1927), which stays open where none was found."""
    square = 1.96**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = 1.96 * (share * (1 - share) / count + square / (4 * count**2)) ** 0.5 / (1 + square / count)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _finder(seen: np.ndarray, limits: near_duplicates.Limits) -> near_duplicates.Finder:
    finder = near_duplicates.Finder(len(seen), limits)
    for fingerprint in seen:
        finder.add(fingerprint.tobytes())
    return finder


def _nearest(features: Tensor, training: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Place, distance and ratio (n,) of the nearest training image."""
    found = [torch.cdist(rows, training).topk(NEIGHBOURS + 1, largest=False) for rows in features.split(_ROWS)]
    distances, places = (torch.cat([part[i] for part in found]) for i in (0, 1))
    usual = distances[:, 1:].mean(1).clamp(min=1e-12)
    return places[:, 0], distances[:, 0], distances[:, 0] / usual
