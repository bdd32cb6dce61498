"""Likelihoods against slow formulas in float64, distributions of PyTorch, and sums over everything that can happen."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from animegen_cli.model import likelihoods

GRID = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def parameters(batch: int, mixtures: int, size: int = 1, seed: int = 0, spread: float = 1.0) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(batch, 10 * mixtures, size, size, dtype=torch.float64) * spread


def slow_mixture(x: list[float], p: list[float], k: int) -> float:
    """-ln P of one pixel in plain Python: mixture of products of three logistics' differences."""

    def cdf(value: float) -> float:
        return 1 / (1 + math.exp(-value)) if value > -700 else 0.0

    total = 0.0
    norm = sum(math.exp(logit) for logit in p[:k])
    for i in range(k):
        mean = [p[k + c * k + i] for c in range(3)]
        scale = [math.exp(max(p[4 * k + c * k + i], -7.0)) for c in range(3)]
        c0, c1, c2 = (math.tanh(p[7 * k + c * k + i]) for c in range(3))
        mean[1] += c0 * x[0]
        mean[2] += c1 * x[0] + c2 * x[1]
        product = math.exp(p[i]) / norm
        for c in range(3):
            high = 1.0 if x[c] > 0.999 else cdf((x[c] + 1 / 255 - mean[c]) / scale[c])
            low = 0.0 if x[c] < -0.999 else cdf((x[c] - 1 / 255 - mean[c]) / scale[c])
            product *= high - low
        total += product
    return -math.log(total)


# ---- Gaussians --------------------------------------------------------------------------------------------------


def test_gaussian_kl_is_pytorchs() -> None:
    torch.manual_seed(0)
    m_q, s_q, m_p, s_p = torch.randn(4, 50, dtype=torch.float64)
    wanted = kl_divergence(Normal(m_q, s_q.exp()), Normal(m_p, s_p.exp()))
    torch.testing.assert_close(likelihoods.gaussian_kl(m_q, s_q, m_p, s_p), wanted)
    against_unit = kl_divergence(Normal(m_q, s_q.exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(likelihoods.gaussian_kl(m_q, s_q, 0.0, 0.0), against_unit)
    assert likelihoods.gaussian_kl(m_q, s_q, m_q, s_q).abs().max() < 1e-12


def test_gaussian_nll_is_pytorchs() -> None:
    torch.manual_seed(0)
    x, mean, log_std = torch.randn(3, 50, dtype=torch.float64)
    torch.testing.assert_close(likelihoods.gaussian_nll(x, mean, log_std), -Normal(mean, log_std.exp()).log_prob(x))
    torch.testing.assert_close(likelihoods.gaussian_nll(x, mean, 0.5), -Normal(mean, math.exp(0.5)).log_prob(x))


def test_bits_of_a_uniform_density_are_eight() -> None:
    """Density 1/2 on [-1, 1] is one of 255 bins of width 2/255 per value: log2 255 bits."""
    nats = torch.full((2,), 12 * math.log(2.0), dtype=torch.float64)
    bits = likelihoods.bits_per_dim(likelihoods.eight_bit_nats(nats, 12), 12)
    torch.testing.assert_close(bits, torch.full((2,), math.log2(255), dtype=torch.float64))


def test_dequantized_gaussian_bounds_the_discrete_one() -> None:
    """Mean over the bin of -ln density - ln width >= -ln of the bin's probability, and close for a wide Gaussian."""
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    for log_std, gap in ((-1.0, 1e-4), (-5.0, math.inf)):
        normal = Normal(torch.tensor(0.1, dtype=torch.float64), math.exp(log_std))
        for value in GRID[[138, 140, 145]]:
            exact = -torch.log(normal.cdf(value + 1 / 255) - normal.cdf(value - 1 / 255))
            spread = likelihoods.dequantized(value.expand(1000), uniform)
            assert spread.min() > value - 1 / 255
            assert spread.max() < value + 1 / 255
            bound = likelihoods.eight_bit_nats(likelihoods.gaussian_nll(spread, normal.mean, log_std), 1).mean()
            assert bound > exact - 1e-9
            assert bound - exact < gap


# ---- discretized logistic mixture -------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("free", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_all_values_of_the_free_channels_sum_to_one(free: tuple[int, ...], spread: float) -> None:
    """The other channels are certain to be -1, so that sums over 256 or 256 x 256 values are over all that can happen."""
    k = 3
    p = parameters(1, k, spread=spread)
    for channel in {0, 1, 2} - set(free):
        p[:, k * (1 + channel) : k * (2 + channel)] = -200.0
    values = torch.cartesian_prod(*[GRID] * len(free)).view(-1, len(free))
    x = torch.full((len(values), 3, 1, 1), -1.0, dtype=torch.float64)
    x[:, list(free), 0, 0] = values
    nats = likelihoods.discretized_logistic_mixture_nll(x, p.expand(len(x), -1, -1, -1), mixtures=k)
    assert nats.shape == (len(x),)
    assert float(torch.exp(-nats).sum()) == pytest.approx(1, abs=1e-3)


def test_mixture_is_the_plain_formula() -> None:
    k, size = 4, 3
    p = parameters(2, k, size)
    p[:, 4 * k : 7 * k] = p[:, 4 * k : 7 * k].clamp(
        -2.5, 1
    )  # wide, so that the formula needs no other way in the tails
    x = GRID[torch.randint(256, (2, 3, size, size), generator=torch.Generator().manual_seed(1))]
    x[0, :, 0, 0], x[1, :, 1, 1] = -1.0, 1.0  # the open bins
    wanted = [
        sum(
            slow_mixture(x[b, :, i, j].tolist(), p[b, :, i, j].tolist(), k)
            for i, j in itertools.product(range(size), range(size))
        )
        for b in range(2)
    ]
    found = likelihoods.discretized_logistic_mixture_nll(x, p, mixtures=k)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=0)
    single = likelihoods.discretized_logistic_mixture_nll(x.float(), p.float(), mixtures=k)
    torch.testing.assert_close(single.double(), found, rtol=2e-4, atol=0)


def test_gradients_stay_finite_far_away_and_in_half_precision() -> None:
    p = (parameters(2, 10, 4, spread=30.0)).to(torch.bfloat16).requires_grad_()
    x = GRID[torch.randint(256, (2, 3, 4, 4))].float()
    nats = likelihoods.discretized_logistic_mixture_nll(x, p)
    assert nats.dtype == torch.float32
    nats.sum().backward()
    assert p.grad is not None
    assert p.grad.isfinite().all()
    assert p.grad.abs().max() > 0


def test_green_and_blue_are_shifted_by_the_values_before_them() -> None:
    p = torch.zeros(1, 10, 1, 1, dtype=torch.float64)
    p[:, 1:4, 0, 0] = torch.tensor([0.5, 0.1, -0.2])
    p[:, 4:7] = -7.0
    p[:, 7:, 0, 0] = torch.tensor([0.4, -0.3, 0.6])
    c0, c1, c2 = (math.tanh(c) for c in (0.4, -0.3, 0.6))
    green = 0.1 + c0 * 0.5
    wanted = torch.tensor([0.5, green, -0.2 + c1 * 0.5 + c2 * green], dtype=torch.float64).view(1, 3, 1, 1)
    torch.testing.assert_close(likelihoods.discretized_logistic_mixture_mean(p, mixtures=1), wanted)


def test_the_mean_of_the_components_is_weighted() -> None:
    p = torch.zeros(1, 20, 1, 1, dtype=torch.float64)
    p[:, 0], p[:, 1] = math.log(3), 0.0
    p[:, 2], p[:, 3] = 0.4, -0.4
    assert float(likelihoods.discretized_logistic_mixture_mean(p, mixtures=2)[0, 0]) == pytest.approx(0.2)


def test_wrong_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="30 channels"):
        likelihoods.discretized_logistic_mixture_nll(torch.zeros(1, 3, 2, 2), torch.zeros(1, 20, 2, 2), mixtures=3)
