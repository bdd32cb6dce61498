"""How far apart two distributions of one small fact per image are: colors by name, or brightness in gray levels.

Total variation and not Jensen-Shannon for names: it has a unit, the share of images that would have to change their
name for both to be alike. For numbers, the 1-Wasserstein distance, the same in gray levels: how far brightness would
have to move on average.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from animegen_cli.metrics.uncertainty import Estimate, combine, share_estimate, variance_of_share

if TYPE_CHECKING:
    from collections.abc import Callable

NO_DIFFERENCE = "no more than so many images of the reference's own would score, so no difference is seen"
"""What to say of a distance that is not above its floor."""
Counts = np.ndarray
"""How many images have each name or value, int64 (k,)."""


class Distance(NamedTuple):
    """A distance, and what the finite numbers of images do to it."""

    value: float
    std: float | None
    """Standard error, from the choice of the drawn images; None where all of them are alike and nothing can be said."""
    interval: tuple[float, float] | None
    """95 % interval."""
    floor: float
    """What as many images drawn from the real distribution itself score, on average: the distance is biased up."""


def between_names(real: np.ndarray, drawn: np.ndarray, names: int, *, resamples: int = 1000, seed: int = 0) -> Distance:
    """Total variation, 0 to 1, between the names of two sets of images.

    Args:
        real: the place of each real image's name, integers 0..names-1 (n,).
        drawn: the same of the drawn images, (m,).
        names: how many names there are.
        resamples: of the floor.
        seed: fixes the resampling.
    """
    counts = np.bincount(real, minlength=names)
    found = combine([names_estimate(torch.from_numpy(real), torch.from_numpy(drawn), names)], low=0.0, high=1.0)
    return Distance(*found, _floor(total_variation, counts, len(drawn), resamples, seed))


def between_values(real: np.ndarray, drawn: np.ndarray, *, resamples: int = 500, seed: int = 0) -> Distance:
    """1-Wasserstein distance, in the numbers' unit, between one number per image of two sets.

    Args:
        real: the number of each real image, (n,).
        drawn: the same of the drawn images, (m,).
        resamples: of the floor.
        seed: fixes the resampling.
    """
    values, places = np.unique(np.concatenate([real, drawn]), return_inverse=True)
    at_real, at_drawn = np.split(places.ravel(), [len(real)])
    ours, theirs = (np.bincount(part, minlength=len(values)) for part in (at_real, at_drawn))
    # one image more at a value lifts the distribution function from there on: it moves the area by the sign of the gap
    gap = np.sign(np.cumsum(theirs / theirs.sum() - ours / ours.sum()))[:-1] * np.diff(values)
    influence = torch.from_numpy(np.append(np.cumsum(gap[::-1])[::-1], 0.0)[at_drawn])
    extra = (
        variance_of_share(0.0, len(drawn)) * float(np.ptp(values)) ** 2 if influence.min() == influence.max() else 0.0
    )
    value = wasserstein(ours, theirs, values)
    found = combine([Estimate(value, influence, extra)], low=0.0)
    return Distance(
        *found, _floor(lambda p, q: wasserstein(p, q, values), ours, len(drawn), resamples, seed)
    )  # fmt: skip


def names_estimate(real: Tensor, drawn: Tensor, names: int) -> Estimate:
    """Total variation, in [0, 1], of the places 0..names-1 among real (n,) and drawn (m,) images, as one range's estimate.

    It is the share of drawn images whose names are commoner among them than among the reals, less the share of reals with
    those names: to first order a share of images, whose own share of reals is fixed. The bias of few images, always
    upwards, is not in its error.
    """
    of_real, of_drawn = (side.bincount(minlength=names) for side in (real, drawn))
    more = of_drawn / len(drawn) > of_real / len(real)
    found = share_estimate(more[drawn])
    return found._replace(value=total_variation(of_real.numpy(), of_drawn.numpy()))


def names_floor(real: Tensor, drawn: int, names: int) -> float:
    """What so many images drawn from the reals' own distribution of places (n,) score in total variation, on average."""
    return _floor(total_variation, real.bincount(minlength=names).numpy(), drawn, 1000, 0)


def total_variation(real: Counts, drawn: Counts) -> float:
    """Half the sum of |p - q| over the shares of two counts."""
    return float(np.abs(real / real.sum() - drawn / drawn.sum()).sum() / 2)


def wasserstein(real: Counts, drawn: Counts, values: np.ndarray) -> float:
    """The area between the two distribution functions of counts over ascending values (k,)."""
    apart = np.cumsum(real / real.sum() - drawn / drawn.sum())
    return float((np.abs(apart[:-1]) * np.diff(values)).sum())


def _floor(distance: Callable[[Counts, Counts], float], real: Counts, drawn: int, resamples: int, seed: int) -> float:
    """The mean distance of so many drawn images and of as many reals as there are, both from the reals' distribution."""
    numbers = np.random.default_rng(seed)
    count = int(real.sum())
    sides = (numbers.multinomial(size, real / count, resamples) for size in (count, drawn))
    return float(np.mean([distance(one, other) for one, other in zip(*sides, strict=True)]))
