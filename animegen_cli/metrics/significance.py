"""Is the best of several scores better than the others by more than chance?

A test on the two standard errors, two-sided, with Holm's correction (1979) over the runs that are set against the best.
Errors that come from thousands of images are tested as normal (z); the mean of a few trainings by Student's t with the
degrees of freedom of Welch (1947). Intervals that overlap are no test: two values can differ significantly although theirs
do.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.05
"""Chance of a false rejection."""
Z_95 = 1.96
"""Standard errors to either side of a normally distributed estimate that make its 95 % interval."""
NOTE = "≈: not significantly different from the best (5 %, Holm)"


class Measured(NamedTuple):
    """A score as a test sees it."""

    value: float
    std: float | None
    """Standard error of the value; None where it is not known."""
    freedom: int | None = None
    """Degrees of freedom that the standard error was found with; None where they are so many that it counts as known."""


class MeanOfTrainings(NamedTuple):
    """The mean of a score over several trainings; `std` and `interval` are None where nothing is known of its error."""

    value: float
    std: float | None
    """Standard error of the mean."""
    interval: tuple[float, float] | None
    """95 % interval of the mean."""
    freedom: int | None
    """Degrees of freedom of `std`; None where the errors within the trainings reach further, which count as known."""


def mean_of_trainings(
    values: Sequence[float],
    errors: Sequence[float | None],
    limits: tuple[float, float] = (-math.inf, math.inf),
    images: int = 0,
) -> MeanOfTrainings:
    """Join the scores of trainings that differ by their seed alone.

    The deviation between trainings holds the error of each within it, as each was measured on images of its own, but is
    known from few values; the errors within are the least that it can be. So, as between ranges of seeds (`uncertainty`),

        std = sqrt(max(mean of within^2, variance between) / n)

    The interval is Student's t with n - 1 degrees of freedom, so never narrower than the mean +- t s / sqrt(n) of textbooks,
    unless the trainings lie so close together that the errors within reach further with 1.96: then it is that. With two
    trainings or more it holds the true mean of normal scores in 95 to 99 %, whatever the two are. Where all trainings have
    one value and no error within them is known, nothing is known of the error of the mean, and it has no interval.

    Of a score between 0 and 1 the interval is Wilson's, which is longer away from the limit that is near.

    Args:
        values: the score of each training, two at least.
        errors: their standard errors; None where one is not known.
        limits: smallest and largest possible value, where the interval is cut.
        images: drawn images of each training, which Wilson's interval at 0 and at 1 needs; 0 where that is not known.
    """
    n, value = len(values), math.fsum(values) / len(values)
    if min(values) == max(values):
        value = values[0]  # what rounding adds to a mean of equal values is no deviation
    between = math.fsum((one - value) ** 2 for one in values) / (n - 1)
    known = [error**2 for error in errors if error is not None]
    within = math.fsum(known) / len(known) if known else 0.0
    std = math.sqrt(max(within, between) / n)
    if not std:
        return MeanOfTrainings(value, None, None, None)
    few = t_95(n - 1) * math.sqrt(between) > Z_95 * math.sqrt(within)
    reach = t_95(n - 1) if few else Z_95
    ends = value - reach * std, value + reach * std
    if limits == (0.0, 1.0) and images and 0 <= value <= 1:
        ends = interval_of_share(value, std, images, reach=reach)
    return MeanOfTrainings(value, std, (max(ends[0], limits[0]), min(ends[1], limits[1])), n - 1 if few else None)


def wilson_interval(share: float, count: float, *, reach: float = Z_95) -> tuple[float, float]:
    """95 % interval of a share (0 to 1) of `count` independent images (Wilson 1927); it stays open where none was found.

    `reach`: standard errors to either side that make such an interval.
    """
    square = reach**2
    center = (share + square / (2 * count)) / (1 + square / count)
    half = reach * (share * (1 - share) / count + square / (4 * count**2)) ** 0.5 / (1 + square / count)
    return max(min(center - half, share), 0.0), min(max(center + half, share), 1.0)


def interval_of_share(share: float, std: float, count: int, *, reach: float = Z_95) -> tuple[float, float]:
    """Wilson's interval of a share (0 to 1) with this standard error, found among `count` images: that of as many independent
    ones as the error amounts to, one at least."""
    known = (share * count + 2) / (count + 4)
    return wilson_interval(share, max(known * (1 - known) / std**2, 1.0), reach=reach)


def t_95(freedom: int) -> float:
    """Standard errors to either side of a mean that make its 95 % interval, from so many degrees of freedom (at least 1).

    The 97.5 % quantile of Student's t: exact for 1 and 2, else by Fisher's expansion in 1 / freedom (Abramowitz & Stegun
    1964, eq. 26.7.5), within 0.2 %.
    """
    level, z = 1 - LEVEL, Z_95
    if freedom == 1:
        return math.tan(math.pi * level / 2)
    if freedom == 2:
        return level * math.sqrt(2 / (1 - level**2))
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def p_value(one: Measured, other: Measured) -> float:
    """Two-sided probability of a difference at least this large between equals, whose errors (0 where unknown) are
    independent."""
    variances = [(measured.std or 0.0) ** 2 for measured in (one, other)]
    error, difference = math.sqrt(sum(variances)), abs(one.value - other.value)
    if not error:
        return 1.0 if not difference else 0.0
    # Welch-Satterthwaite: variances that were estimated from few values count for as many as they are worth
    share = math.fsum(
        variance**2 / measured.freedom
        for variance, measured in zip(variances, (one, other), strict=True)
        if measured.freedom is not None
    )
    if not share:
        return 2 * NormalDist().cdf(-difference / error)
    return t_tails(difference / error, error**4 / share)


def t_tails(t: float, freedom: float) -> float:
    """Probability that Student's t of so many degrees of freedom (any number from 1) lies further than `t` from 0.

    It is I_x(freedom / 2, 1/2) with x = freedom / (freedom + t^2), the incomplete beta function (Abramowitz & Stegun 1964,
    eq. 26.7.1).
    """
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), 0 <= x <= 1, by its continued fraction (Abramowitz & Stegun 1964, eq. 26.5.8), evaluated from the back."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # there the fraction of the other side converges sooner
        return 1 - _incomplete_beta(b, a, 1 - x)
    fraction = 1.0
    for m in range(_TERMS, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    log_front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front) / (a * fraction)


_TERMS = 200
"""Of the continued fraction: enough for 14 digits at some thousand degrees of freedom."""


def holm(p_values: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which hypotheses are rejected, so that the chance of even one false rejection is at most `level`."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = [False] * len(p_values)
    for rank, i in enumerate(order):
        if p_values[i] > level / (len(p_values) - rank):
            break
        rejected[i] = True
    return rejected


def like_best(scores: Sequence[Measured], best: int, level: float = LEVEL) -> list[bool]:
    """Which of the scores do not differ significantly from that at place `best`; that one is False itself.

    A score without a standard error, or one set against a best without, is not tested and never marked.
    """
    tested = [
        i for i, score in enumerate(scores) if i != best and score.std is not None and scores[best].std is not None
    ]
    found = [False] * len(scores)
    p_values = [p_value(scores[i], scores[best]) for i in tested]
    for i, rejected in zip(tested, holm(p_values, level), strict=True):
        found[i] = not rejected
    return found
