"""Strengths and agreement against hand-worked cases, scipy's optimizer, published examples and simulated voters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binomtest

from animegen_cli.metrics.agreement import fair_coin, krippendorff, same_answers
from animegen_cli.metrics.bradley_terry import elo, groups, log_strengths, resampled, wins


def simulated(theta: np.ndarray, votes: int, chance: np.random.Generator, ties: float = 0.0) -> np.ndarray:
    """Wins of random pairs of voters who follow the model, a share of them undecided."""
    first = chance.integers(0, len(theta), votes)
    second = (first + chance.integers(1, len(theta), votes)) % len(theta)
    score = (chance.random(votes) < 1 / (1 + np.exp(theta[second] - theta[first]))).astype(float)
    score[chance.random(votes) < ties] = 0.5
    return wins(len(theta), first, second, score)


def test_votes_become_a_matrix_of_wins_and_a_tie_half_a_win_for_each() -> None:
    found = wins(3, np.array([0, 0, 2, 1]), np.array([1, 1, 0, 2]), np.array([1, 0, 1, 0.5]))
    assert found.tolist() == [[0, 1, 0], [1, 0, 0.5], [1, 0.5, 0]]


def test_two_contestants_by_hand() -> None:
    won = np.array([[0.0, 7], [3, 0]])
    assert log_strengths(won, imagined=0) == pytest.approx([math.log(7 / 3) / 2, -math.log(7 / 3) / 2])
    assert log_strengths(won) == pytest.approx([math.log(7.5 / 3.5) / 2, -math.log(7.5 / 3.5) / 2])


def test_three_contestants_of_strengths_one_two_four_by_hand() -> None:
    """30 votes per pair split as 1:2, 1:4 and 2:4; and without the middle pair the same strengths follow from the rest."""
    won = np.array([[0.0, 10, 6], [20, 0, 10], [24, 20, 0]])
    assert log_strengths(won, imagined=0) == pytest.approx([-math.log(2), 0, math.log(2)], abs=1e-8)
    won[1, 2] = won[2, 1] = 0
    assert log_strengths(won, imagined=0) == pytest.approx([-math.log(2), 0, math.log(2)], abs=1e-8)


@pytest.mark.parametrize("imagined", [0.0, 0.5])
def test_agrees_with_an_independent_maximum_likelihood(imagined: float) -> None:
    chance = np.random.default_rng(3)
    truth = np.array([-1.2, -0.3, 0.1, 0.4, 1.0])
    won = simulated(truth, 600, chance, ties=0.15)
    counted = won + imagined * ((won + won.T) > 0)

    def unlikely(theta: np.ndarray) -> float:
        apart = theta[:, None] - theta[None, :]
        return float((counted * np.logaddexp(0, -apart)).sum())

    best = minimize(unlikely, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
    assert log_strengths(won, imagined=imagined) == pytest.approx(best - best.mean(), abs=1e-5)


def test_who_wins_everything_has_a_finite_strength_and_stays_first() -> None:
    won = np.array([[0.0, 20, 20], [0, 0, 12], [0, 8, 0]])
    theta = log_strengths(won)
    assert np.isfinite(theta).all()
    assert theta.argsort().tolist() == [2, 1, 0]
    assert theta[0] - theta[1] == pytest.approx(math.log(20.5 / 0.5), abs=0.3)


def test_strengths_need_a_chain_of_votes_between_all() -> None:
    apart = np.zeros((5, 5))
    apart[0, 1] = apart[3, 2] = apart[2, 4] = 5
    assert groups(apart) == [[0, 1], [2, 3, 4]]
    with pytest.raises(ValueError, match="never compared"):
        log_strengths(apart)
    apart[1, 3] = 1
    assert groups(apart) == [[0, 1, 2, 3, 4]]
    assert np.isfinite(log_strengths(apart)).all()


def test_elo_gives_400_points_for_odds_of_ten_to_one() -> None:
    scale = elo(log_strengths(np.array([[0.0, 100], [10, 0]]), imagined=0))
    assert scale[0] - scale[1] == pytest.approx(400)
    assert scale.mean() == pytest.approx(1500)


def test_intervals_hold_known_strengths_about_19_times_in_20() -> None:
    truth = np.array([-0.8, 0.0, 0.2, 0.6])
    held = []
    for run in range(40):
        chance = np.random.default_rng(run)
        raters = np.stack([simulated(truth, 24, chance, ties=0.1) for _ in range(25)])
        low, high = np.percentile(resampled(raters, resamples=200, seed=run), [2.5, 97.5], axis=0)
        fitted = log_strengths(raters.sum(0))
        assert (low <= fitted).all()
        assert (fitted <= high).all()
        # Ties as half wins pull strengths together: what the votes estimate is the share won, ties included.
        share = 0.9 / (1 + np.exp(truth[None, :] - truth[:, None])) + 0.05
        np.fill_diagonal(share, 0)
        meant = log_strengths(share, imagined=0)
        held += ((low <= meant) & (meant <= high)).tolist()
    assert 0.88 <= np.mean(held) <= 0.99


def test_resamples_are_of_raters_and_repeatable() -> None:
    """Raters who each vote with one mind: only the choice of raters varies, far more than single votes would."""
    fans = np.zeros((10, 2, 2))
    fans[:5, 0, 1] = fans[5:, 1, 0] = 40
    drawn = resampled(fans, resamples=500)
    assert np.array_equal(drawn, resampled(fans, resamples=500))
    assert drawn.shape == (500, 2)
    wide = np.ptp(np.percentile(drawn[:, 0], [2.5, 97.5]))
    votes = np.zeros((400, 2, 2))
    votes[:200, 0, 1] = votes[200:, 1, 0] = 1
    narrow = np.ptp(np.percentile(resampled(votes, resamples=500)[:, 0], [2.5, 97.5]))
    assert wide > 4 * narrow


def test_alpha_of_the_example_that_krippendorff_published() -> None:
    """Four observers, twelve units, some missing; interval alpha 0.849 (Krippendorff 2011, section C)."""
    none = np.nan
    example = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, none, none, none],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, none, 3],
        [none, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, none],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, none],
    ]
    assert krippendorff(np.array(example)) == pytest.approx(0.849, abs=5e-4)


def test_alpha_at_its_ends_and_where_it_says_nothing() -> None:
    assert krippendorff(np.array([[1.0, -1, 0, 1], [1, -1, 0, 1]])) == pytest.approx(1)
    opposed = krippendorff(np.array([[1.0, -1, 1, -1], [-1, 1, -1, 1]]))
    assert opposed is not None
    assert opposed < -0.5
    chance = np.random.default_rng(0)
    random = krippendorff(chance.integers(-1, 2, (6, 500)).astype(float))
    assert random == pytest.approx(0, abs=0.04)
    assert krippendorff(np.ones((2, 5))) is None
    assert krippendorff(np.array([[1, np.nan], [np.nan, 1]])) is None
    assert krippendorff(np.ones((1, 4))) is None


def test_equal_answers_are_counted_pair_by_pair() -> None:
    found = same_answers(np.array([[1, 0, 1], [1, np.nan, -1], [-1, 0, np.nan]]))
    assert found == (2 / 5, 5)  # one of three, one of one, none of one
    assert same_answers(np.array([[1.0, 0]])) is None


@pytest.mark.parametrize(("heads", "tosses"), [(8, 10), (2, 10), (5, 10), (0, 40), (37, 61)])
def test_fair_coin_is_the_exact_binomial_test(heads: int, tosses: int) -> None:
    assert fair_coin(heads, tosses) == pytest.approx(binomtest(heads, tosses).pvalue)
    assert fair_coin(0, 0) == 1
