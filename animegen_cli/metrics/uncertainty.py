"""From one estimate per range of seeds to one number: mean, standard error, 95 % interval.

A score's uncertainty is about which images happened to be drawn; the reference is part of its protocol, and fixed.

Every metric gives its influence: psi_j says how far the drawn image j moves the value, to first order, so that a
resampled set moves it by the mean of its psi (Efron & Tibshirani 1993, chapters 11 and 22). Two things are then
known of one range's variance: w^2, the mean over ranges of var(psi) / n, and b^2, the variance of the values between
ranges. The first is precise but of first order, the second whole but from few ranges; the larger one counts:

    std = sqrt(max(w^2, b^2) / R)

The interval is a percentile bootstrap over the images of each range, stretched about the value to that `std`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

REPLICATES = 1000
"""Bootstrap resamples of an interval."""
LEVEL = 0.95
"""Share of intervals that hold the true value."""
Z_95 = 1.96
"""Standard errors to either side of a normally distributed estimate that make its 95 % interval."""


class Estimate(NamedTuple):
    """What one range of seeds says of a score."""

    value: float
    """The score of this range."""
    influence: Tensor
    """(n,) psi of each drawn image (or batch of them); its mean does not matter."""
    extra: float = 0.0
    """Variance that the images do not explain: of random subsets, of shares that no image moved."""
    spread: float | None = None
    """Standard deviation between subsets or splits, which other tools report."""


class Combined(NamedTuple):
    """All ranges together; `std` and `interval` are None where one image or batch is all there is."""

    value: float
    std: float | None
    """Standard error of `value`."""
    interval: tuple[float, float] | None
    """95 % interval of `value`."""


def normal_interval(value: float, std: float, *, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
    """95 % interval of a normally distributed estimate with this standard error, cut at `low` and `high`."""
    return max(value - Z_95 * std, low), min(value + Z_95 * std, high)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share (0 to 1) of `count` independent images (Wilson 1927); it stays open where none was found."""
    square = Z_95**2
    center = (share + square / (2 * count)) / (1 + square / count)
    half = Z_95 * (share * (1 - share) / count + square / (4 * count**2)) ** 0.5 / (1 + square / count)
    return max(center - half, 0.0), min(center + half, 1.0)


def combine(ranges: Sequence[Estimate], *, low: float = -math.inf, high: float = math.inf, seed: int = 0) -> Combined:
    """Combine the estimates of all ranges of seeds into one.

    Args:
        ranges: one estimate each.
        low: smallest possible value of the score, where the interval is cut.
        high: largest possible value of the score.
        seed: fixes the resampling.

    Returns:
        The mean with its standard error and 95 % interval. With a single image or batch in a range there is no
        interval, and no standard error but the one between ranges.
    """
    values = torch.tensor([one.value for one in ranges], dtype=torch.float64)
    value = values.mean().item()
    between = values.var().item() if len(ranges) > 1 else 0.0
    if any(len(one.influence) < 2 for one in ranges):
        return Combined(value, (between / len(ranges)) ** 0.5 if between else None, None)
    within = sum(one.influence.double().var().item() / len(one.influence) + one.extra for one in ranges) / len(ranges)
    std = (max(within, between) / len(ranges)) ** 0.5
    moved = torch.zeros(REPLICATES, dtype=torch.float64)
    for number, one in enumerate(ranges):
        moved += _resampled(one.influence, seed + number)
    moved /= len(ranges)
    if (deviation := moved.std().item()) > 0:
        ends = moved.quantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64))
        below, above = (ends * (std / deviation)).tolist()
    else:
        below, above = -Z_95 * std, Z_95 * std
    return Combined(value, std, (min(max(value + below, low), value), max(min(value + above, high), value)))


def _resampled(influence: Tensor, seed: int) -> Tensor:
    """(REPLICATES,) means of resampled influences."""
    centered = (influence.double() - influence.double().mean()).cpu()
    generator = torch.Generator().manual_seed(seed)
    count = len(centered)
    step = max((1 << 22) // count, 1)
    return torch.cat(
        [
            centered[torch.randint(count, (min(step, REPLICATES - start), count), generator=generator)].mean(1)
            for start in range(0, REPLICATES, step)
        ]
    )
