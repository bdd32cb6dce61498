"""Editing by diffusion: noise and denoise, exact inversion, redrawing a part; on denoisers that are known exactly."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from pictures import refusal
from torch import Tensor

from animegen_cli import config, paths
from animegen_cli.config import Layer
from animegen_cli.errors import UsageError
from animegen_cli.model import diffusion, families
from animegen_cli.model.family import DataSpec, Edit, abilities_of
from animegen_cli.model.noise import Noise
from animegen_cli.model.samplers import SamplerConfig
from animegen_cli.model.schedules import VP, DiscreteSchedule, KarrasSchedule, OffsetCosine, RectifiedFlow, cosine_betas

FAMILIES = ("ddpm", "ddim", "edm", "flow", "sde")
SCHEDULES = {
    "cosine": DiscreteSchedule(cosine_betas(1000)), "offset": OffsetCosine(), "karras": KarrasSchedule(), "vp": VP(),
    "flow": RectifiedFlow(),
}  # fmt: skip
IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8


def two_colors(x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
    """E[x_0 | x] of pixels around -0.5 or 0.5 with deviation 0.2 each."""
    variance = sigma.view(-1, 1, 1, 1) ** 2
    whole = 0.04 + variance
    right = torch.sigmoid(((x + 0.5) ** 2 - (x - 0.5) ** 2) / (2 * whole))
    return (0.04 * x + variance * (right - 0.5)) / whole


def model(name: str) -> diffusion.DiffusionModel:
    return diffusion.DiffusionModel(SCHEDULES[name], two_colors)


@pytest.mark.parametrize("name", SCHEDULES)
def test_level_at_runs_from_the_least_noise_to_the_most(name: str) -> None:
    schedule = SCHEDULES[name]
    levels = [schedule.level_at(k / 8) for k in range(9)]
    assert levels == sorted(levels)
    assert levels[0] == pytest.approx(schedule.sigma_min, rel=1e-6)
    assert levels[-1] == pytest.approx(schedule.sigma_max, rel=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_exact_inversion_leads_back(name: str) -> None:
    sampling = SamplerConfig(steps=200, spacing="logsnr")
    back = model(name).translate(IMAGES, Noise([1, 2]), Edit(strength=0.8, exact=True), sampling)
    # The least noise of the offset cosine, 0.33, is far from none: its last step down forgets a little.
    assert float((back - IMAGES).abs().max()) < (0.1 if name == "offset" else 0.02)
    noisy = model(name).translate(IMAGES, Noise([1, 2]), Edit(strength=0.8), sampling)
    assert float((noisy - IMAGES).abs().mean()) > 0.1


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmpp", "heun", "euler"])
def test_the_weaker_the_nearer(sampler: Any) -> None:
    sampling, distances = SamplerConfig(sampler=sampler, steps=30), list[float]()
    for strength in (1e-6, 0.2, 0.5, 1.0):
        edited = model("cosine").translate(IMAGES, Noise([1, 2]), Edit(strength=strength), sampling)
        distances.append(float((edited - IMAGES).abs().mean()))
    assert distances == sorted(distances)
    assert distances[0] < 0.02
    assert distances[-1] > 0.3


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.5])
def test_impossible_strengths_are_refused(strength: float) -> None:
    with refusal("strength", UsageError):
        model("vp").translate(IMAGES, Noise([1, 2]), Edit(strength=strength), SamplerConfig())


def test_rows_depend_on_their_own_seed() -> None:
    sampling, edit = SamplerConfig(sampler="ancestral", steps=6), Edit(strength=0.6)
    both = model("vp").translate(IMAGES, Noise([4, 5]), edit, sampling)
    alone = model("vp").translate(IMAGES[1:], Noise([5]), edit, sampling)
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)
    assert float((both[0] - both[1]).abs().mean()) > 0.1


def test_resampling_walks_stretches_again() -> None:
    assert diffusion.resampling(4, 2, 2) == [0, 1, 2, 0, 1, 2, 3, 2, 3, 4]
    assert diffusion.resampling(3, 1, 1) == [0, 1, 2, 3]
    for steps, length, times in ((1, 1, 3), (7, 2, 3), (20, 2, 3)):
        path = diffusion.resampling(steps, length, times)
        assert path.count(steps) == 1
        assert path[-1] == steps
        assert all(then == now + 1 or then < now for now, then in pairwise(path) if then != now)


@pytest.mark.parametrize("name", SCHEDULES)
def test_inpainting_draws_what_the_data_are_like(name: str) -> None:
    """New pixels follow the two colors; the known ones keep every bit."""
    images = torch.full((4, 3, 16, 16), 0.123)
    mask = torch.zeros(4, 1, 16, 16)
    mask[:, :, :8] = 1
    found = model(name).inpaint(images, mask, Noise(range(4)), None, SamplerConfig(steps=40, spacing="logsnr"))
    assert torch.equal(found[:, :, 8:], images[:, :, 8:])
    new = found[:, :, :8]
    assert float(new.mean()) == pytest.approx(0, abs=0.1)
    assert float(new.abs().mean()) == pytest.approx(0.5, abs=0.08)
    assert float((new.abs() - 0.5).std()) == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_edits(family: str) -> None:
    model, sampling = smoke(family)
    assert {"translates", "inpaints", "samples", "corrupts", "validates"} <= set(abilities_of(model))
    assert model.edits == {"strength", "exact"}
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    mask = torch.zeros(2, 1, 16, 16)
    mask[:, :, 4:9, 3:] = 1
    with torch.inference_mode():
        for exact in (False, True):
            edited = model.translate(images, Noise([1, 2]), Edit(strength=0.4, exact=exact), sampling)
            assert edited.shape == images.shape
            assert float(edited.abs().max()) <= 1
            assert not torch.equal(edited, images)
        painted = model.inpaint(images, mask, Noise([1, 2]), torch.tensor([[0], [-1]]), sampling)
    kept = (mask == 0).expand_as(images)
    assert torch.equal(painted[kept], images[kept])
    assert float((painted - images)[~kept].abs().mean()) > 0.05


def smoke(family: str) -> tuple[Any, Any]:
    kind = families.load(family)
    layer = Layer.from_yaml(paths.preset_file(family, "smoke"))
    settings = config.resolve([layer], family=family, model=kind.Config, sample=kind.Sampling, optimizers=["model"])
    torch.manual_seed(0)
    spec = DataSpec(16, 10, mean=(0.1, 0.0, -0.1), std=(0.5, 0.6, 0.4), attributes={"hair": ("pink", "blue")})
    model = kind(settings.model, spec).eval()
    with torch.no_grad():  # networks begin at zero, which would leave images as they are
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model, settings.sample
