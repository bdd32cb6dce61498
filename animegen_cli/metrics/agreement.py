"""Whether people agree, and whether one person answers as chance would: pure numpy and counting, without torch."""

from __future__ import annotations

import math

import numpy as np


def krippendorff(values: np.ndarray) -> float | None:
    """Krippendorff's alpha for interval data: 1 is full agreement, 0 what chance gives, below 0 is opposition.

        alpha = 1 - D_o / D_e

    D_o is the mean squared difference of two answers to the same question, D_e that of any two answers (Krippendorff 2011,
    "Computing Krippendorff's alpha-reliability", with the difference function of interval data).

    Args:
        values: answers as numbers (raters, questions); nan where a rater gave none.

    Returns:
        None where no question has two answers, or where all answers are the same number, which says nothing.
    """
    values = values[:, (~np.isnan(values)).sum(0) > 1]
    given = ~np.isnan(values)
    if not given.any():
        return None
    times = given.sum(0)
    within = np.nansum(values**2, 0) * times - np.nansum(values, 0) ** 2  # sum over pairs of squared differences
    every = values[given]
    observed = 2 * (within / (times - 1)).sum() / len(every)
    expected = 2 * (len(every) * (every**2).sum() - every.sum() ** 2) / (len(every) * (len(every) - 1))
    return float(1 - observed / expected) if expected > 1e-12 else None


def same_answers(values: np.ndarray) -> tuple[float, int] | None:
    """Share of equal answers among all pairs of answers to the same question, and the number of those pairs."""
    equal = pairs = 0
    for column in values.T:
        given = column[~np.isnan(column)]
        pairs += len(given) * (len(given) - 1) // 2
        equal += sum(int(n) * (int(n) - 1) // 2 for n in np.unique(given, return_counts=True)[1])
    return (equal / pairs, pairs) if pairs else None


def fair_coin(heads: int, tosses: int) -> float:
    """Two-sided exact binomial p-value of `heads` in `tosses` of a fair coin; 1 without tosses."""
    tail = sum(math.comb(tosses, k) for k in range(max(heads, tosses - heads), tosses + 1))
    return min(2 * tail / 2**tosses, 1.0)
