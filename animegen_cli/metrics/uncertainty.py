"""From one estimate per range of seeds to one number: mean, standard error, 95 % interval.

A score's uncertainty is about which images happened to be drawn; the reference is part of its protocol, and fixed.

Every metric tells its influence: psi_j says how far the drawn image j moves the value, to first order, so that a
resampled set moves it by the mean of its psi (Efron & Tibshirani 1993, chapters 11 and 22). Two things are then
known of one range's variance: w^2, the mean over ranges of var(psi) / n, and b^2, the variance of the values between
ranges. The first is precise but of first order, the second whole but from few ranges; the larger one counts:

    std = sqrt(max(w^2, b^2) / R)

The interval is a percentile bootstrap over the images of each range, stretched about the value to that `std`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

REPLICATES = 1000
LEVEL = 0.95


class Estimate(NamedTuple):
    """What one range of seeds says of a score."""

    value: float
    influence: Tensor
    """(n,) psi of each drawn image (or batch of them); its mean does not matter."""
    extra: float = 0.0
    """Variance that the images do not explain: of random subsets, of shares that no image moved."""
    spread: float | None = None
    """Standard deviation between subsets or splits, which other tools report."""


class Combined(NamedTuple):
    """All ranges together: `std` and `interval` are None where one image or batch is all there is."""

    value: float
    std: float | None
    interval: tuple[float, float] | None


def combine(ranges: Sequence[Estimate], *, low: float = -torch.inf, high: float = torch.inf, seed: int = 0) -> Combined:
    """Mean, standard error and 95 % interval (kept within `low`..`high`) of a score from its ranges; `seed` fixes the
    resampling."""
    values = torch.tensor([one.value for one in ranges], dtype=torch.float64)
    value, between = values.mean().item(), values.var().item() if len(ranges) > 1 else 0.0
    if any(len(one.influence) < 2 for one in ranges):
        return Combined(value, (between / len(ranges)) ** 0.5 if between else None, None)
    within = sum(one.influence.double().var().item() / len(one.influence) + one.extra for one in ranges) / len(ranges)
    std = (max(within, between) / len(ranges)) ** 0.5
    moved = sum(_resampled(one.influence, seed + number) for number, one in enumerate(ranges)) / len(ranges)
    assert isinstance(moved, Tensor)
    if (told := moved.std().item()) > 0:
        ends = moved.quantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64))
        below, above = (ends * (std / told)).tolist()
    else:
        below, above = -1.96 * std, 1.96 * std
    return Combined(value, std, (min(max(value + below, low), value), max(min(value + above, high), value)))


def _resampled(influence: Tensor, seed: int) -> Tensor:
    """(REPLICATES,) means of resampled influences."""
    centred = (influence.double() - influence.double().mean()).cpu()
    generator, count = torch.Generator().manual_seed(seed), len(centred)
    step = max((1 << 22) // count, 1)
    return torch.cat(
        [
            centred[torch.randint(count, (min(step, REPLICATES - start), count), generator=generator)].mean(1)
            for start in range(0, REPLICATES, step)
        ]
    )
