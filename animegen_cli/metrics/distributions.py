"""How far apart two distributions of one small fact per image are: colors by name, or brightness in gray levels.

Total variation and not Jensen-Shannon for names: it has a unit, the share of images that would have to change their
name for both to be alike. For numbers, the 1-Wasserstein distance, the same in gray levels: how far brightness would
have to move on average.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Counts = np.ndarray
"""How many images have each name or value, int64 (k,)."""


class Distance(NamedTuple):
    """A distance, and what the finite numbers of images do to it."""

    value: float
    std: float
    """Standard error: the deviation over bootstrap resamples of both sides (Efron 1979)."""
    floor: float
    """What as many images drawn from the real distribution itself score, on average: the distance is biased up."""


def between_names(real: np.ndarray, drawn: np.ndarray, names: int, *, resamples: int = 1000, seed: int = 0) -> Distance:
    """Total variation, 0 to 1, between the names of two sets of images.

    Args:
        real: the place of each real image's name, integers 0..names-1 (n,).
        drawn: the same of the drawn images, (m,).
        names: how many names there are.
        resamples: bootstrap resamples of the standard error and the floor.
        seed: fixes the resampling.
    """
    ours, theirs = (np.bincount(places, minlength=names) for places in (real, drawn))
    return _measured(total_variation, ours, theirs, resamples, seed)


def between_values(real: np.ndarray, drawn: np.ndarray, *, resamples: int = 500, seed: int = 0) -> Distance:
    """1-Wasserstein distance, in the numbers' unit, between one number per image of two sets.

    Args:
        real: the number of each real image, (n,).
        drawn: the same of the drawn images, (m,).
        resamples: bootstrap resamples of the standard error and the floor.
        seed: fixes the resampling.
    """
    values, places = np.unique(np.concatenate([real, drawn]), return_inverse=True)
    ours, theirs = (np.bincount(part, minlength=len(values)) for part in np.split(places.ravel(), [len(real)]))
    return _measured(lambda p, q: wasserstein(p, q, values), ours, theirs, resamples, seed)


def total_variation(real: Counts, drawn: Counts) -> float:
    """Half the sum of |p - q| over the shares of two counts."""
    return float(np.abs(real / real.sum() - drawn / drawn.sum()).sum() / 2)


def wasserstein(real: Counts, drawn: Counts, values: np.ndarray) -> float:
    """The area between the two distribution functions of counts over ascending values (k,)."""
    apart = np.cumsum(real / real.sum() - drawn / drawn.sum())
    return float((np.abs(apart[:-1]) * np.diff(values)).sum())


def _measured(
    distance: Callable[[Counts, Counts], float], real: Counts, drawn: Counts, resamples: int, seed: int
) -> Distance:
    numbers = np.random.default_rng(seed)
    n, m = int(real.sum()), int(drawn.sum())
    again = np.empty(resamples)
    alike = np.empty(resamples)
    for i in range(resamples):
        real_again = numbers.multinomial(n, real / n)
        again[i] = distance(real_again, numbers.multinomial(m, drawn / m))
        alike[i] = distance(real_again, numbers.multinomial(m, real / n))
    return Distance(distance(real, drawn), float(again.std()), float(alike.mean()))
