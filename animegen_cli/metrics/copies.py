"""Drawn images that repeat each other, and those that repeat a training image, mirrored or not.

Three criteria look for copies of training images, as each alone is blind to something. The perceptual hash of
`data/near_duplicates.py` knows the same picture behind blur and compression, not another crop of it. Distances between features
know another crop, not much blur or noise. Distances between pixels, after one picture was moved over the other, know
all these. As some pictures have many near neighbors and others none, a distance counts in units of that image's
distances to its next neighbors (Carlini et al. 2023), and what is near is read off held-out images, which are no copies.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from animegen_cli.data import near_duplicates
from animegen_cli.errors import DataError

NEIGHBORS = 10
"""Further neighbors that the distance to the nearest one is compared with."""
NEAR = 0.005
"""Share of images that pass for copies by chance, at most: of held-out ones half as many are near for each of two criteria."""
FEWEST = 20
"""Held-out images that a limit takes at least; with fewer it is `CAUTIOUS`."""
CAUTIOUS = 0.5
"""The limit that no held-out images say. Pixels of held-out faces of two real sets came no nearer than a ratio of 0.7,
those of training images behind JPEG, noise, blur and shifts at most to 0.3."""
_SAFE = 0.95  # of what held-out images say: a model's pictures are smoother, and so a little nearer
SIDE = 32
"""Pixels a side of the images that are moved over each other; smaller images stay as they are."""
_ROWS = 256
_THUMB = 8  # pixels a side of what nominates
_MOVED = 16  # of so many parts of a side the last and the first move out of sight
_NOMINATED = 16


class Nearest(NamedTuple):
    """The nearest training image of each image."""

    place: Tensor
    """Its place among them, int64 (n,)."""
    distance: Tensor
    """How far its features, or its pixels, are, float32 (n,)."""
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
    clusters = _finder(drawn, mirror=False).clusters()
    return np.bincount(clusters, minlength=len(drawn))[clusters] > 1


def hashed_copies(drawn: np.ndarray, training: np.ndarray) -> np.ndarray:
    """The training image that each image nearly equals, or its mirror image does: its index, -1 without one: int64 (n,).

    Args:
        drawn: fingerprints of the images, uint8 (n, FINGERPRINT_BYTES).
        training: those of the training images, uint8 (m, FINGERPRINT_BYTES).
    """
    return _finder(training).matches(drawn).place


def without_near_duplicate(held_out: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Which held-out images have no near-duplicate among training images, mirrored or not: bool (n,).

    The limits are the wide ones, those of clusters: whatever might be a copy must not say what copies are.

    Args:
        held_out: fingerprints of the held-out images, uint8 (n, FINGERPRINT_BYTES).
        training: those of the training images, uint8 (m, FINGERPRINT_BYTES).
    """
    return _finder(training).matches(held_out, near_duplicates.CLUSTER).place < 0


def nearest(features: Tensor, mirrored: Tensor, training: Tensor) -> Nearest:
    """The training image whose features are nearest to an image's or to those of its mirror image, for each image.

    Args:
        features: of the images, (n, D).
        mirrored: of their mirror images, (n, D).
        training: of the training images, (m, D).

    Raises:
        DataError: there are fewer than `NEIGHBORS` + 1 training images.
    """
    _require_enough(training)
    plain = _nearest(features, training)
    turned = _nearest(mirrored, training)
    nearer = turned[2] < plain[2]
    place, distance, ratio = (torch.where(nearer, b, a) for a, b in zip(plain, turned, strict=True))
    return Nearest(place, distance, ratio, nearer)


def small(images: Tensor) -> Tensor:
    """What `nearest_pixels` compares, uint8 (n, 3 * side * side), of images uint8 (n, 3, H, W): area means of `SIDE` pixels."""
    if min(images.shape[2:]) > SIDE:
        images = F.adaptive_avg_pool2d(images.float(), SIDE).round().to(torch.uint8)
    return images.flatten(1)


def nearest_pixels(images: Tensor, training: Tensor) -> Nearest:
    """The training image whose pixels are nearest to an image's or to those of its mirror image, for each image.

    The 16 training images with the most similar 8 x 8 thumbnails are nominated. One is moved over the other by up to a
    sixteenth of its side each way; the distance is sqrt(2 - 2 c), c the largest correlation of what overlaps.

    Args:
        images: as `small` gives them, uint8 (n, 3 * side * side).
        training: the training images, in the same form, (m, 3 * side * side).

    Raises:
        DataError: there are fewer than `NEIGHBORS` + 1 training images.
    """
    _require_enough(training)
    side = math.isqrt(training.shape[1] // 3)
    known = torch.cat([_thumbnails(rows, side) for rows in training.split(_ROWS)])
    found = [_nearest_pixels(rows, training, known, side) for rows in images.split(_ROWS // 4)]
    return Nearest(*(torch.cat([part[i] for part in found]) for i in range(4)))


def limit(held_out: Tensor) -> float:
    """The ratio below which an image is a copy: 0.95 of the `NEAR` / 2 quantile of held-out images' ratios (n,), rounded down.

    Where so few cannot show that quantile, it lies at most where a normal distribution of their mean and deviation has
    it, less 1.645 standard errors of that; with fewer than `FEWEST` it is `CAUTIOUS`.
    """
    ratios = held_out.double()
    if len(ratios) < FEWEST:
        return CAUTIOUS
    found = torch.quantile(ratios, NEAR / 2, interpolation="lower").item()
    if len(ratios) * NEAR / 2 >= 1:
        return _SAFE * found
    normal = NormalDist()
    z, count = normal.inv_cdf(NEAR / 2), len(ratios)
    error = ((1 + z * z / 2) / count) ** 0.5
    tail = ratios.mean().item() + ratios.std().item() * (z + normal.inv_cdf(0.05) * error)
    return _SAFE * max(0.0, min(found, tail))


def _require_enough(training: Tensor) -> None:
    if len(training) <= NEIGHBORS:
        raise DataError(
            f"copies are sought among more than {NEIGHBORS} training images, there are {len(training)}",
            hint="score against a larger set, or leave `copies` out of `--metrics`",
        )


def _finder(
    fingerprints: np.ndarray, limits: near_duplicates.Limits = near_duplicates.DROP, *, mirror: bool = True
) -> near_duplicates.Finder:
    finder = near_duplicates.Finder(len(fingerprints), limits, mirror=mirror)
    for fingerprint in fingerprints:
        finder.add(fingerprint.tobytes())
    return finder


def _nearest(features: Tensor, training: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Place, distance and ratio (n,) of the nearest training image."""
    found = [torch.cdist(rows, training).topk(NEIGHBORS + 1, largest=False) for rows in features.split(_ROWS)]
    distances, places = (torch.cat([part[i] for part in found]) for i in (0, 1))
    usual = distances[:, 1:].mean(1).clamp(min=1e-12)
    return places[:, 0], distances[:, 0], distances[:, 0] / usual


def _nearest_pixels(images: Tensor, training: Tensor, known: Tensor, side: int) -> Nearest:
    """The same of a few images; `known` holds the thumbnails of the training images."""
    both = [images, images.view(-1, 3, side, side).flip(3).flatten(1)]
    likeness = torch.stack([_thumbnails(one, side) @ known.T for one in both]).amax(0)
    places = likeness.topk(min(_NOMINATED, len(training))).indices
    windows = _windows(training[places].view(*places.shape, 3, side, side))
    correlation = torch.stack([_aligned(one.view(-1, 3, side, side), windows) for one in both])  # (2, n, nominated)
    best, order = correlation.amax(0).sort(dim=1, descending=True)
    distances = (2 - 2 * best[:, : NEIGHBORS + 1]).clamp(min=0).sqrt()
    first = order[:, :1]
    turned = correlation[1].gather(1, first) > correlation[0].gather(1, first)
    usual = distances[:, 1:].mean(1).clamp(min=1e-12)
    return Nearest(places.gather(1, first)[:, 0], distances[:, 0], distances[:, 0] / usual, turned[:, 0])


def _thumbnails(images: Tensor, side: int) -> Tensor:
    """Unit vectors, the mean taken away, of thumbnails of images (n, 3 * side * side)."""
    return _unit(F.adaptive_avg_pool2d(images.view(-1, 3, side, side).float(), min(_THUMB, side)).flatten(1))


def _unit(vectors: Tensor) -> Tensor:
    vectors = vectors - vectors.mean(-1, keepdim=True)
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-3)


def _aligned(images: Tensor, windows: Tensor) -> Tensor:
    """The largest correlation of the middle of each image (n, 3, S, S) with a window of each nominated one, (n, k)."""
    margin = _margin(images.shape[-1])
    middle = _unit(images[:, :, margin:-margin, margin:-margin].float().flatten(1))
    return torch.einsum("nd,nkwd->nkw", middle, windows).amax(2)


def _windows(nominated: Tensor) -> Tensor:
    """All windows of nominated images, (n, k, 3, S, S) -> unit vectors (n, k, windows, pixels)."""
    margin = _margin(nominated.shape[-1])
    width = nominated.shape[-1] - 2 * margin
    starts = range(2 * margin + 1)
    windows = [nominated[..., y : y + width, x : x + width].float().flatten(2) for y in starts for x in starts]
    return _unit(torch.stack(windows, 2))


def _margin(side: int) -> int:
    return max(1, side // _MOVED)
