"""95 % intervals hold the true value in 90 to 99 % of repeats, score by score, and none of them has no width.

Images are drawn again and again from a known distribution, against the same reals; the true value is the mean of the score
over all repeats. `benchmarks/intervals.py` does the same with more images, repeats and distributions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from animegen_cli.evaluate import classifier, heldout
from animegen_cli.metrics.distributions import between_names, between_values
from animegen_cli.metrics.scores import METRICS, score_features
from animegen_cli.metrics.significance import t_95
from animegen_cli.metrics.uncertainty import Estimate, combine, mean_of, of_share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from animegen_cli.metrics.scores import Score

REPEATS = 200


def held(values: Iterable[float], intervals: Iterable[tuple[float, float] | None], truth: float | None = None) -> float:
    """The share of intervals that hold the true value, which is the mean of the values where it is not known."""
    known = np.array([(-np.inf, np.inf) if interval is None else interval for interval in intervals])
    assert np.isfinite(known).all()
    assert (known[:, 0] < known[:, 1]).all(), "an interval without width"
    true = float(np.mean([*values])) if truth is None else truth
    return float(((known[:, 0] <= true) & (true <= known[:, 1])).mean())


def features(n: int, chance: torch.Generator, shift: float = 0.0) -> Tensor:
    return torch.randn(n, 4, generator=chance) * torch.tensor([1.0, 0.7, 0.5, 0.3]) + shift


@pytest.fixture(scope="module", params=[0.0, 0.4], ids=["as the reals", "shifted"])
def of_features(request: pytest.FixtureRequest) -> dict[str, list[Score]]:
    """Every score of features, of many sets of 128 images."""
    real = features(160, torch.Generator().manual_seed(1000))
    weights = torch.randn(4, 5, generator=torch.Generator().manual_seed(1001))
    drawn = [features(128, torch.Generator().manual_seed(seed), request.param) for seed in range(REPEATS)]
    found = [score_features(real, fake, METRICS, logits=fake @ weights) for fake in drawn]
    return {scores[0].name: list(scores) for scores in zip(*found, strict=True)}


@pytest.mark.parametrize("metric", METRICS)
def test_scores_of_features(metric: str, of_features: dict[str, list[Score]]) -> None:
    found = of_features[metric]
    assert 0.9 <= held((score.value for score in found), (score.interval for score in found)) <= 0.995


@pytest.mark.parametrize(
    ("drawn", "count"),
    [
        ((0.1, 0.2, 0.3, 0.4), 200),
        ((0.1, 0.2, 0.3, 0.4), 40),
        ((0.0, 0.0, 0.03, 0.97), 200),
        ((0.0, 0.0, 0.05, 0.95), 40),
    ],
)
def test_distances_of_names(drawn: tuple[float, ...], count: int) -> None:
    """Of colors and of attributes, from far apart to all but one image alike."""
    chance = torch.Generator().manual_seed(count)
    real = torch.multinomial(torch.tensor([0.4, 0.3, 0.2, 0.1]), 1000, replacement=True, generator=chance)
    sets = [torch.multinomial(torch.tensor(drawn), count, replacement=True, generator=chance) for _ in range(REPEATS)]
    found = [between_names(real.numpy(), places.numpy(), 4, resamples=1) for places in sets]
    assert 0.9 <= held((one.value for one in found), (one.interval for one in found)) <= 0.99


def test_distances_of_brightness() -> None:
    numbers = np.random.default_rng(0)
    real = numbers.normal(120, 30, 1000)
    for center, width in ((120, 30), (150, 20)):
        found = [between_values(real, numbers.normal(center, width, 100), resamples=1) for _ in range(REPEATS)]
        assert 0.9 <= held((one.value for one in found), (one.interval for one in found)) <= 0.99


@pytest.mark.parametrize(("shares", "asked"), [((0.95, 0.9, 0.8, 0.7), 32), ((0.97, 0.97), 16), ((0.5, 0.9), 8)])
def test_requests(shares: tuple[float, ...], asked: int) -> None:
    chance = torch.Generator().manual_seed(2)
    hits = torch.rand(REPEATS, len(shares), asked, generator=chance) < torch.tensor(shares)[:, None]
    found = [combine([classifier.answered(one)], low=0.0, high=1.0) for one in hits]
    assert 0.9 <= held([], [one.interval for one in found], truth=sum(shares) / len(shares)) <= 0.99


@pytest.mark.parametrize(("share", "count"), [(0.5, 40), (0.05, 200), (0.98, 100)])
def test_shares_of_images(share: float, count: int) -> None:
    """Repeats and copies."""
    found = np.random.default_rng(3).binomial(count, share, REPEATS)
    assert 0.9 <= held([], [of_share(hits / count, count).interval for hits in found], truth=share) <= 0.99


@pytest.mark.parametrize(
    ("law", "count", "truth"),
    [
        (lambda n, chance: torch.randn(n, generator=chance), 6, 0.0),
        (lambda n, chance: torch.randn(n, generator=chance), 100, 0.0),
        (lambda n, chance: torch.rand(n, generator=chance).square(), 24, 1 / 3),
    ],
)  # fmt: skip
def test_means_over_held_out_images(law: Callable[[int, torch.Generator], Tensor], count: int, truth: float) -> None:
    """Errors of reconstructions, bits per dimension, what is found behind noise."""
    found = [heldout.mean("mse", law(count, torch.Generator().manual_seed(seed))) for seed in range(REPEATS)]
    assert 0.9 <= held([], [one.interval for one in found], truth=truth) <= 0.99


def test_several_ranges_hold_it_too() -> None:
    chance = torch.Generator().manual_seed(4)
    for share in (0.3, 0.99):
        found = []
        for _ in range(REPEATS):
            hits = torch.rand(3, 60, generator=chance) < share
            ranges = [
                Estimate(one.double().mean().item(), one.double(), share=one.double().mean().item()) for one in hits
            ]
            found.append(combine(ranges, low=0.0, high=1.0))
        assert held([], [one.interval for one in found if one.interval], truth=share) >= 0.9


def test_nothing_that_varies_is_no_certainty() -> None:
    """All images inside, none inside, or all of them one: an interval with width, or none at all."""
    real = features(160, torch.Generator().manual_seed(0))
    for fake in (real[:1].repeat(80, 1), real[:1].repeat(80, 1) + 100, real[:80] * 0.01):
        for score in score_features(real, fake, METRICS, logits=torch.ones(80, 5)):
            assert score.interval is None or score.interval[0] < score.interval[1], score
            assert score.std is None or score.std > 0, score
    assert mean_of(torch.ones(30)) == (1.0, None, None)
    assert mean_of(torch.ones(1)) == (1.0, None, None)
    assert between_values(np.arange(9.0), np.full(7, 3.0)).interval is not None


def test_students_reach_is_scipys() -> None:
    from scipy import stats

    for freedom in (1, 2, 3, 4, 7, 23, 1000):
        assert t_95(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)
