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
    """Degrees of freedom of `std`; None where it comes from within the trainings and counts as known."""


def mean_of_trainings(
    values: Sequence[float], errors: Sequence[float | None], limits: tuple[float, float] = (-math.inf, math.inf)
) -> MeanOfTrainings:
    """Join the scores of trainings that differ by their seed alone.

    The deviation between trainings holds the error of each within it, as each was measured on images of its own, but is
    known from few values; the errors within are the least that it can be. So, as between ranges of seeds (`uncertainty`),

        std = sqrt(max(mean of within^2, variance between) / n)

    and the interval is Student's t with n - 1 degrees of freedom where the deviation between is the larger, else normal. With
    three trainings it holds the true mean in 93 to 97 %, whatever the two are; with two in 87 to 97 %.

    Args:
        values: the score of each training, two at least.
        errors: their standard errors; None where one is not known.
        limits: smallest and largest possible value, where the interval is cut.
    """
    n, value = len(values), math.fsum(values) / len(values)
    between = math.fsum((one - value) ** 2 for one in values) / (n - 1)
    known = [error**2 for error in errors if error is not None]
    within = math.fsum(known) / len(known) if known else 0.0
    std, freedom = math.sqrt(max(within, between) / n), n - 1 if between > within else None
    if not std:
        return MeanOfTrainings(value, None, None, None)
    reach = std * (Z_95 if freedom is None else t_95(freedom))
    return MeanOfTrainings(value, std, (max(value - reach, limits[0]), min(value + reach, limits[1])), freedom)


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
