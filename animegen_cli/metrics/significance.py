"""Is the best of several scores better than the others by more than chance?

A z-test on the two standard errors, two-sided, with Holm's correction (1979) over the runs that are set against the
best. Intervals that overlap are no test: two values can differ significantly although theirs do.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.05
"""Chance of a false rejection."""
NOTE = "≈: not significantly different from the best (5 %, Holm)"


def p_value(one: float, other: float, std_one: float, std_other: float) -> float:
    """Two-sided probability of a difference at least this large between equals; the errors are independent."""
    error = math.hypot(std_one, std_other)
    difference = abs(one - other)
    if not error:
        return 1.0 if not difference else 0.0
    return 2 * NormalDist().cdf(-difference / error)


def holm(p_values: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which hypotheses are rejected, so that the chance of even one false rejection is at most `level`."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = [False] * len(p_values)
    for rank, i in enumerate(order):
        if p_values[i] > level / (len(p_values) - rank):
            break
        rejected[i] = True
    return rejected


def like_best(scores: Sequence[tuple[float, float | None]], best: int, level: float = LEVEL) -> list[bool]:
    """Which of the scores (value, standard error) do not differ significantly from that at place `best`; that one is False itself.

    A score without a standard error, or one set against a best without, is not tested and never marked.
    """
    value, error = scores[best]
    tested = [i for i, (_, std) in enumerate(scores) if i != best and std is not None and error is not None]
    found = [False] * len(scores)
    p_values = [p_value(scores[i][0], value, scores[i][1] or 0.0, error or 0.0) for i in tested]
    for i, rejected in zip(tested, holm(p_values, level), strict=True):
        found[i] = not rejected
    return found
