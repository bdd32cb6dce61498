"""Strengths from pairwise votes: the model of Bradley & Terry (1952), fitted with the MM steps of Hunter (2004).

    P(i beats j) = p_i / (p_i + p_j) = 1 / (1 + exp(theta_j - theta_i)),   theta = log p,   sum theta = 0

Pure numpy, without torch. A tie counts as half a win for each side.
"""

from __future__ import annotations

import math

import numpy as np

IMAGINED = 0.5
"""Wins that either side of a compared pair is given on top of its own: one imagined tie per pair. It keeps the strength
of a contestant finite that won (or lost) all its votes, and hardly moves the others."""
_TOLERANCE = 1e-10
_MOST_STEPS = 20_000


def wins(count: int, first: np.ndarray, second: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Votes as a matrix (count, count) float64: entry (i, j) is how often i beat j.

    Args:
        count: number of contestants.
        first: index of one contestant of each vote, (n,).
        second: index of the other, (n,).
        score: 1 where the first won, 0 where the second did, 0.5 for a tie, (n,).
    """
    found = np.zeros((count, count))
    np.add.at(found, (first, second), score)
    np.add.at(found, (second, first), 1 - np.asarray(score, float))
    return found


def groups(won: np.ndarray) -> list[list[int]]:
    """The contestants in groups that votes connect, from wins (n, n); strengths are known only within one group."""
    meet = (won + won.T) > 0
    left = set(range(len(won)))
    found = []
    while left:
        group: set[int] = set()
        reached = {min(left)}
        while reached:
            group |= reached
            reached = {int(j) for i in reached for j in np.flatnonzero(meet[i])} - group
        found.append(sorted(group))
        left -= group
    return found


def log_strengths(won: np.ndarray, *, imagined: float = IMAGINED, compared: np.ndarray | None = None) -> np.ndarray:
    """The log-strengths theta (..., n) of maximum likelihood for wins (..., n, n).

    Each step is p_i <- W_i / sum_{j != i} n_ij / (p_i + p_j) with W_i the wins of i and n_ij the votes between i and j
    (Hunter 2004, eq. 3); it never lowers the likelihood.

    Args:
        won: wins; entry (i, j) is how often i beat j.
        imagined: wins added to either side of each pair that was compared. With 0 everyone must have won and lost.
        compared: which pairs were, (n, n) bool; by default those with votes. Resamples of votes name the pairs of the whole.

    Raises:
        ValueError: the compared pairs do not connect the contestants.
    """
    won = np.asarray(won, float)
    met = won + won.swapaxes(-1, -2)
    if compared is None:
        compared = (met > 0).reshape(-1, *met.shape[-2:]).any(0)
    if len(groups(compared.astype(float))) > 1:
        raise ValueError("the votes fall into groups of contestants that were never compared with each other")
    total = (won + imagined * compared).sum(-1)
    met = met + 2 * imagined * compared
    theta = np.zeros(total.shape)
    for _ in range(_MOST_STEPS):
        strength = np.exp(theta)
        new = np.log(total) - np.log((met / (strength[..., :, None] + strength[..., None, :])).sum(-1))
        new -= new.mean(-1, keepdims=True)
        moved = np.abs(new - theta).max()
        theta = new
        if moved < _TOLERANCE:
            break
    return theta


def resampled(votes: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """The log-strengths (resamples, n) of bootstrap samples: the units of `votes` are drawn with replacement, as many as there are.

    Args:
        votes: wins (units, n, n) of each unit: of each rater, since the answers of one person hang together.
        resamples: number of bootstrap samples.
        seed: fixes the samples.
    """
    units, count = len(votes), votes.shape[-1]
    times = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    whole = votes.sum(0)
    drawn = (times @ votes.reshape(units, -1)).reshape(resamples, count, count)
    return log_strengths(drawn, compared=whole + whole.T > 0)


def elo(theta: np.ndarray) -> np.ndarray:
    """Log-strengths on Elo's scale around 1500, where 400 points are odds of ten to one."""
    return 1500 + 400 / math.log(10) * np.asarray(theta)
