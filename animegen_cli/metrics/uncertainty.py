"""From one estimate per range of seeds to one number: mean, standard error, 95 % interval.

A score's uncertainty is about which images happened to be drawn; the reference is part of its protocol, and fixed.

Every metric gives its influence: psi_j says how far the drawn image j moves the value, to first order, so that another
set moves it by the mean of its psi (Efron & Tibshirani 1993, chapters 11 and 22). Two things are then
known of one range's variance: w^2, the mean over ranges of var(psi) / n, and b^2, the variance of the values between
ranges. The first is precise but of first order, the second whole but from few ranges; the larger one counts:

    std = sqrt(max(w^2, b^2) / R)

The interval is Student's t, moved towards the longer tail of psi (Johnson 1978); that of a share of images is Wilson's
(1927), with the number of independent images that `std` amounts to. Where no image moved a score, more of them could: a
share's error then counts four imagined images (Agresti & Coull 1998), and a score for which nothing of the kind is known
has no error, rather than one of zero.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from animegen_cli.metrics.significance import Z_95, interval_of_share, t_95, wilson_interval

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    share: float | None = None
    """The share of images, 0 to 1, that the score is, or is but for a constant; None for a score of another kind."""


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


def variance_of_share(share: float, count: float) -> float:
    """Variance of a share (0 to 1) of `count` independent images; never 0, as four more are imagined, two of either kind
    (Agresti & Coull 1998)."""
    share = (share * count + 2) / (count + 4)
    return share * (1 - share) / (count + 4)


def of_share(share: float, count: float) -> Combined:
    """A share (0 to 1) of `count` independent images, with its standard error and its interval."""
    return Combined(share, variance_of_share(share, count) ** 0.5, wilson_interval(share, count))


def share_estimate(which: Tensor) -> Estimate:
    """What one range says of the share of its images (n,) for which something is true; the images are independent."""
    count, share = len(which), which.double().mean().item()
    influence = which.double()
    known = influence.var().item() / count if count > 1 else 0.0
    return Estimate(share, influence, variance_of_share(share, count) - known, share=share)


def mean_of(values: Tensor) -> Combined:
    """The mean of one number per image (n,); without an error where there is one image, or none differs from the others."""
    value, freedom = values.double().mean().item(), len(values) - 1
    if freedom < 1 or not (std := values.double().std().item() / len(values) ** 0.5):
        return Combined(value, None, None)
    return Combined(value, std, (value - t_95(freedom) * std, value + t_95(freedom) * std))


def combine(ranges: Sequence[Estimate], *, low: float = -math.inf, high: float = math.inf) -> Combined:
    """Combine the estimates of all ranges of seeds into one.

    Args:
        ranges: one estimate each.
        low: smallest possible value of the score, where the interval is cut.
        high: largest possible value of the score.

    Returns:
        The mean with its standard error and 95 % interval. With a single image or batch in a range, or where no image and
        no range differs from the others, there is no interval, and no standard error but the one between ranges.
    """
    values = torch.tensor([one.value for one in ranges], dtype=torch.float64)
    value = values.mean().item()
    between = values.var().item() if len(ranges) > 1 else 0.0
    if any(len(one.influence) < 2 for one in ranges):
        return Combined(value, (between / len(ranges)) ** 0.5 if between else None, None)
    within = sum(_within(one) for one in ranges) / len(ranges)
    std = (max(within, between) / len(ranges)) ** 0.5
    if not std:
        return Combined(value, None, None)
    shares = [one.share for one in ranges if one.share is not None]
    if len(shares) == len(ranges):
        share = sum(shares) / len(shares)
        ends = interval_of_share(share, std, sum(len(one.influence) for one in ranges))
        below, above = ends[0] - share, ends[1] - share
    else:
        below, above = _of_means(ranges, std)
    return Combined(value, std, (min(max(value + below, low), value), max(min(value + above, high), value)))


def _within(one: Estimate) -> float:
    """Variance of one range's value."""
    return one.influence.double().var().item() / len(one.influence) + one.extra


def _of_means(ranges: Sequence[Estimate], std: float) -> tuple[float, float]:
    """How far the interval reaches below and above a mean: Student's t, moved towards the longer tail (Johnson 1978).

    Of a skewed distribution mean and deviation rise together: by skewness (1 + 2 t^2) / (6 sqrt(n)) standard errors the
    interval is moved, and both ends stay on their sides of the value.
    """
    count = sum(len(one.influence) for one in ranges)
    reach = t_95(count - len(ranges))
    off = torch.cat([one.influence.double() - one.influence.double().mean() for one in ranges])
    moved = 0.0
    if (spread := off.square().mean().sqrt().item()) > 0:
        moved = off.pow(3).mean().item() / spread**3 * (1 + 2 * reach**2) / (6 * count**0.5)
    return min(moved - reach, 0.0) * std, max(moved + reach, 0.0) * std
