"""Schedules against the papers' numbers and against diffusers' own tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from animegen_cli.model.schedules import (
    VE,
    DiscreteSchedule,
    KarrasSchedule,
    OffsetCosine,
    Schedule,
    Spacing,
    cosine_betas,
    karras_sigmas,
    linear_betas,
)


def discrete(kind: str = "linear", steps: int = 1000) -> DiscreteSchedule:
    return DiscreteSchedule(linear_betas(steps) if kind == "linear" else cosine_betas(steps))


# ---- tables ---------------------------------------------------------------------------------------------------


def test_linear_of_ho() -> None:
    schedule = discrete()
    assert len(schedule) == 1000
    assert (float(schedule.betas[0]), float(schedule.betas[-1])) == pytest.approx((1e-4, 0.02), rel=1e-12)
    assert float(schedule.abar[-1]) == pytest.approx(4.0358e-5, rel=1e-4)
    assert float(schedule.abar[-1].sqrt()) == pytest.approx(0.00635, abs=5e-6)
    log_snr = torch.log(schedule.abar / (1 - schedule.abar))
    assert float(log_snr[0]) == pytest.approx(9.21, abs=0.005)
    assert float(log_snr[-1]) == pytest.approx(-10.12, abs=0.005)


@pytest.mark.parametrize("steps", [100, 250, 4000])
def test_linear_of_other_lengths_ends_as_noisy(steps: int) -> None:
    betas = linear_betas(steps)
    assert (float(betas[0]), float(betas[-1])) == pytest.approx((0.1 / steps, 20 / steps), rel=1e-12)
    assert float(torch.cumprod(1 - betas, 0)[-1]) == pytest.approx(4.0e-5, rel=0.6)


def test_linear_of_very_few_steps_stays_below_one() -> None:
    assert float(linear_betas(4).max()) < 1


def test_cosine_of_nichol() -> None:
    schedule = discrete("cosine")
    assert int((schedule.betas >= 0.999).sum()) == 1
    assert float(schedule.betas[-1]) == 0.999
    assert float(schedule.abar[-1]) == pytest.approx(2.43e-9, rel=0.005)

    def f(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    for n in (0, 1, 499, 998):
        assert float(schedule.abar[n]) == pytest.approx(f((n + 1) / 1000) / f(0), rel=1e-9)


@pytest.mark.parametrize(("kind", "named"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_tables_equal_those_of_diffusers(kind: str, named: str) -> None:
    from diffusers import DDPMScheduler

    theirs: Any = DDPMScheduler(num_train_timesteps=1000, beta_schedule=named)
    torch.testing.assert_close(
        discrete(kind).abar, theirs.alphas_cumprod.double(), rtol=5e-4 if kind == "cosine" else 1e-4, atol=1e-9
    )


def test_offset_cosine_of_document_001() -> None:
    schedule = OffsetCosine()
    assert (schedule.start, schedule.end) == pytest.approx((0.317560, 1.550795), abs=1e-6)
    assert -2 * math.log(schedule.sigma_min) == pytest.approx(2.2253, abs=1e-4)
    assert -2 * math.log(schedule.sigma_max) == pytest.approx(-7.8236, abs=1e-4)
    a, s = schedule.rates(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert a.tolist()[::2] == pytest.approx([0.95, 0.02])
    torch.testing.assert_close(a**2 + s**2, torch.ones(3, dtype=torch.float64))
    assert float(a[1]) == pytest.approx(math.cos((math.acos(0.95) + math.acos(0.02)) / 2))


def test_karras_levels() -> None:
    levels = karras_sigmas(18, 0.002, 80)
    # The levels of Karras et al. 2022 for 18 steps, as commonly printed.
    assert levels.tolist()[:6] == pytest.approx([80.0, 57.5860, 40.7856, 28.3748, 19.3525, 12.9092], abs=1e-3)
    assert float(levels[-2]) == pytest.approx(0.002)
    assert float(levels[-1]) == 0
    assert len(levels) == 19


# ---- rates and times ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_rates_are_variance_preserving_and_follow_the_table(kind: str) -> None:
    schedule = discrete(kind)
    index = torch.tensor([0, 10, 500, 999])
    a, s = schedule.rates(index)
    assert a.shape == s.shape == (4, 1, 1, 1)
    torch.testing.assert_close(a**2 + s**2, torch.ones_like(a))
    torch.testing.assert_close(a.flatten().double(), schedule.abar[index].sqrt(), rtol=1e-6, atol=0)
    torch.testing.assert_close((s / a).flatten().double(), schedule.table[index], rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_time_of_inverts_the_table(kind: str, dtype: torch.dtype) -> None:
    schedule = discrete(kind)
    index = torch.arange(1000)
    got = schedule.time_of(schedule.table.to(dtype))
    assert got.dtype == dtype
    torch.testing.assert_close(got, index.to(dtype), rtol=0, atol=1e-3)


def test_time_between_two_levels_is_a_fraction() -> None:
    schedule = discrete()
    middle = (schedule.table[400] * schedule.table[401]).sqrt()
    assert float(schedule.time_of(middle[None])) == pytest.approx(400.5, abs=1e-6)
    outside = torch.tensor([schedule.sigma_min / 10, schedule.sigma_max * 10])
    assert schedule.time_of(outside).tolist() == [0, 999]


def test_time_of_the_offset_cosine() -> None:
    schedule = OffsetCosine(0.9, 0.1)
    time = torch.linspace(0, 1, 11, dtype=torch.float64)
    a, s = schedule.rates(time)
    torch.testing.assert_close(schedule.time_of(s / a), time, rtol=0, atol=1e-12)
    assert schedule.time_of(torch.tensor([1e-6, 1e6])).tolist() == [0, 1]


@pytest.mark.parametrize("schedule", [discrete(), discrete("cosine"), OffsetCosine()])
def test_sampling_starts_at_unit_variance(schedule: DiscreteSchedule | OffsetCosine) -> None:
    """x = a (sigma noise + ...) with a = 1 / sqrt(1 + sigma^2) must start as N(0, 1)."""
    sigma = schedule.sigma_max
    assert schedule.scale_at(sigma) / math.sqrt(1 + sigma**2) == pytest.approx(1)


# ---- levels to visit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [discrete(), discrete("cosine"), OffsetCosine(), KarrasSchedule(), VE()])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "quad", "logsnr", "karras"])
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_levels_fall_to_zero(schedule: Schedule, spacing: Spacing, steps: int) -> None:
    levels = schedule.sigmas(steps, spacing)
    assert levels.shape == (steps + 1,)
    assert levels.dtype == torch.float64
    assert float(levels[-1]) == 0
    assert (levels[:-1] > levels[1:]).all()
    assert schedule.sigma_min * (1 - 1e-9) <= float(levels[:-1].min())
    assert float(levels.max()) <= schedule.sigma_max * (1 + 1e-9)


@pytest.mark.parametrize("steps", [1000, 5000])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_all_steps_visit_every_level(steps: int, spacing: Spacing) -> None:
    schedule = discrete()
    assert torch.equal(schedule.sigmas(steps, spacing), torch.cat([schedule.table.flip(0), torch.zeros(1).double()]))


@pytest.mark.parametrize(("spacing", "steps"), [("leading", 50), ("leading", 10), ("trailing", 50), ("trailing", 20)])
def test_indices_equal_those_of_diffusers(spacing: Spacing, steps: int) -> None:
    from diffusers import DDIMScheduler

    theirs: Any = DDIMScheduler(timestep_spacing=spacing, steps_offset=0)
    theirs.set_timesteps(steps)
    schedule = discrete()
    assert schedule.time_of(schedule.sigmas(steps, spacing)[:-1]).round().tolist() == theirs.timesteps.tolist()


@pytest.mark.parametrize("steps", [10, 20, 50, 100, 900])
def test_quad_is_that_of_song(steps: int) -> None:
    """As truncated in the authors' code, but no level twice: many steps would repeat the lowest."""
    squares = np.linspace(0, np.sqrt(1000 * 0.8), steps) ** 2
    expected = [max(int(square), k) for k, square in enumerate(squares)]
    schedule = discrete()
    assert schedule.time_of(schedule.sigmas(steps, "quad")[:-1]).round().tolist() == expected[::-1]


def test_logsnr_is_even_in_log_sigma() -> None:
    schedules: tuple[Schedule, ...] = (discrete(), OffsetCosine(), KarrasSchedule(), VE())
    for schedule in schedules:
        gaps = torch.diff(schedule.sigmas(9, "logsnr")[:-1].log())
        torch.testing.assert_close(gaps, gaps[:1].expand(8))


def test_offset_cosine_walks_even_times() -> None:
    """Document 001, algorithm 1: t = k / S for k = S..1, then the clean estimate."""
    schedule = OffsetCosine()
    levels = schedule.sigmas(5, "trailing")
    assert schedule.time_of(levels[:-1]).tolist() == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
