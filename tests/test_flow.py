"""Rectified flow against its definitions: straight lines, velocities, logit-normal times, shifted levels, a known likelihood."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from pictures import refusal
from tiny_runs import assert_draws_by_seed, awake, unet
from torch import Tensor

from animegen_cli.model import diffusion
from animegen_cli.model.families import flow
from animegen_cli.model.family import Batch
from animegen_cli.model.noise import Noise
from animegen_cli.model.schedules import RectifiedFlow

MEAN, STD = 0.2, 0.5


def tiny(attributes: dict[str, tuple[str, ...]] | None = None, **changes: Any) -> flow.Flow:
    return unet(flow.Flow, 8, attributes, **changes).eval()


def gaussian(x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
    """E[x_0 | x] of N(0.2, 0.5^2): the posterior mean of a normal variable seen through normal noise."""
    variance = sigma.view(-1, *[1] * (x.dim() - 1)) ** 2
    return (STD**2 * x + variance * MEAN) / (STD**2 + variance)


# ---- the line, its times, its levels ------------------------------------------------------------------------------


def test_the_network_sees_the_point_of_the_line_and_its_time() -> None:
    """x = x_0 + sigma eps with sigma = 3 is four times x_t at t = 3/4, and x_0 is x_t - 3/4 v."""
    model = awake(tiny())
    seen: dict[str, Tensor] = {}
    model.net.register_forward_hook(lambda module, inputs, output: seen.update(x=inputs[0], time=inputs[1], v=output))
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        denoised = model.denoise(x, torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(seen["x"], x / 4)
    torch.testing.assert_close(seen["time"], torch.full((2,), 750.0))
    torch.testing.assert_close(denoised, x / 4 - 0.75 * seen["v"])


def test_loss_is_least_where_the_network_knows_the_velocity() -> None:
    """Images of zeros: x_t = t eps, so the network that answers x_t / t errs nowhere, and one that answers 0 by 1."""
    model, images = tiny(), torch.zeros(64, 3, 8, 8)
    torch.manual_seed(0)
    assert float(model.loss(Batch(images))["velocity"].detach()) == pytest.approx(1, abs=0.05)
    model.net.register_forward_hook(lambda module, inputs, output: 1000 * inputs[0] / inputs[1].view(-1, 1, 1, 1))
    losses = model.loss(Batch(images))
    assert float(losses["velocity"]) == pytest.approx(0, abs=1e-8)
    assert float(losses["denoising"]) == pytest.approx(0, abs=1e-8)


def test_times_of_training_are_logit_normal() -> None:
    model, times = tiny(logit_mean=-0.5, logit_std=0.7), []
    model.net.register_forward_hook(lambda module, inputs, output: times.append(inputs[1] / 1000))
    with torch.no_grad():
        for _ in range(8):
            model.loss(Batch(torch.zeros(256, 3, 8, 8)))
    logits = torch.cat(times).logit()
    assert float(logits.mean()) == pytest.approx(-0.5, abs=0.06)
    assert float(logits.std()) == pytest.approx(0.7, abs=0.05)


def test_levels_are_those_of_even_times() -> None:
    levels = RectifiedFlow(0.002, 0.8).sigmas(4, "trailing").tolist()
    assert levels == pytest.approx([4, 1.5, 2 / 3, 0.25, 0])  # t = 0.8, 0.6, 0.4, 0.2
    assert RectifiedFlow(0.002, 0.8).sigmas(4, "karras").tolist()[0] == pytest.approx(4)
    assert RectifiedFlow().time_of(torch.tensor([0.25, 4.0])).tolist() == pytest.approx([0.2, 0.8])


def test_a_shift_moves_every_time_but_the_ends_towards_the_noise() -> None:
    """Esser et al. 2024, eq. 23: t becomes s t / (1 + (s - 1) t)."""
    schedule = RectifiedFlow(0.002, 0.9, shift=3.0)
    first = 0.9 / (0.9 + 3 * 0.1)  # what eq. 23 maps to 0.9
    wanted = [3 * t / (1 + 2 * t) for t in (first, first * 0.75, first / 2, first / 4)]
    levels = schedule.sigmas(4, "trailing")
    assert (levels / (1 + levels)).tolist() == pytest.approx([*wanted, 0])
    assert wanted[0] == pytest.approx(0.9)
    assert schedule.level_at(1.0) == pytest.approx(9)


def test_a_shift_that_moves_nothing_is_said() -> None:
    (said,) = flow.FlowSampling(shift=3.0, spacing="karras").cautions()
    assert "sample.spacing=trailing" in said
    assert flow.FlowSampling(shift=3.0).cautions() == []
    assert flow.FlowSampling(spacing="karras").cautions() == []


@pytest.mark.parametrize("sampler", ["euler", "ddim"])
def test_euler_in_sigma_is_eulers_method_in_time(sampler: Any) -> None:
    """Steps along v in x_t, as papers write them, against the house's sampler, whose x is x_t / (1 - t)."""
    model, sampling = awake(tiny()), flow.FlowSampling(sampler=sampler, steps=7, shift=2.0)
    noise = Noise([3, 4])(3, 8, 8)
    times = model.diffusion(sampling).schedule.sigmas(7, "trailing")
    times = (times / (1 + times)).float()
    x_t = times[0] * noise
    with torch.inference_mode():
        for now, then in pairwise(times):
            x_t = x_t + (then - now) * model.velocity(x_t, now.expand(2), None)
        drawn = model.sample(Noise([3, 4]), None, sampling)
    torch.testing.assert_close(drawn, x_t.clamp(-1, 1), atol=1e-4, rtol=1e-4)


# ---- what it draws ------------------------------------------------------------------------------------------------


def test_the_flow_carries_noise_to_the_data() -> None:
    """With the exact denoiser of N(0.2, 0.5^2), 200 even times end there."""
    model = diffusion.DiffusionModel(RectifiedFlow(0.002, 0.999), gaussian)
    pixels = model.draw(16, Noise(range(40)), None, flow.FlowSampling(steps=200))
    assert float(pixels.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(pixels.std()) == pytest.approx(STD, abs=0.01)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmpp", "heun", "euler"])
def test_every_sampler_draws_by_seed(sampler: Any) -> None:
    assert_draws_by_seed(awake(tiny()), 8, flow.FlowSampling(sampler=sampler, steps=4, s_churn=2.0))


def test_guidance_leads_away_from_the_unlabeled_image() -> None:
    model = awake(tiny({"hair": ("pink", "blue")}, labels="all"))
    labels = torch.zeros(1, 1, dtype=torch.int64)

    def drawn(weight: float) -> Tensor:
        return model.sample(Noise([1]), labels, flow.FlowSampling(steps=3, guidance=weight))

    with torch.inference_mode():
        unknown = model.sample(Noise([1]), None, flow.FlowSampling(steps=3))
        torch.testing.assert_close(drawn(0.0), unknown)
        far = [float((drawn(weight) - unknown).norm()) for weight in (1.0, 3.0)]
    assert 0 < far[0] < far[1]


def test_bits_per_dim_of_the_untrained_network() -> None:
    """Its velocity is 0: the flow stands still in x_t, so that x_t_max, and with it the image, has the density of the start."""
    model = tiny(t_max=0.9)
    images = (torch.arange(192).view(1, 3, 8, 8) % 200 - 100) / 127.5
    start = 0.9  # deviation of x_t where sampling starts
    stretch = math.log(1 - 0.002)  # x_t at t = 0.002 is 0.998 of the image
    nats = (0.998 * images).square().mean() / (2 * start**2) + math.log(start) + math.log(2 * math.pi) / 2 - stretch
    wanted = (float(nats) + math.log(127.5)) / math.log(2)
    assert float(model.bits_per_dim(images, Noise([0]))) == pytest.approx(wanted, abs=0.01)


def test_nonsense_is_refused() -> None:
    for changes in ({"multipliers": (1, 1, 1, 1, 1)}, {"t_min": 0.5, "t_max": 0.4}):
        with refusal():
            tiny(**changes)
