"""EDM against the paper's formulas: preconditioning, loss, augmentation, sampling; and what its presets promise."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pictures import refusal
from tiny_runs import assert_draws_by_seed, awake, unet
from torch import Tensor

from animegen_cli import config, paths
from animegen_cli.errors import ConfigError
from animegen_cli.model import families, samplers
from animegen_cli.model.families import edm
from animegen_cli.model.family import Batch, DataSpec
from animegen_cli.model.schedules import KarrasSchedule


def tiny(attributes: dict[str, tuple[str, ...]] | None = None, **changes: Any) -> edm.EDM:
    return unet(edm.EDM, 16, attributes, **changes)


# ---- preconditioning and loss -----------------------------------------------------------------------------------


def test_preconditioning_by_hand() -> None:
    """At sigma = sigma_data: c_skip = 1/2, c_out = sigma / sqrt 2, c_in = 1 / (sigma sqrt 2), c_noise = ln(sigma) / 4."""
    model = awake(tiny().eval())
    seen: dict[str, Tensor] = {}
    model.net.register_forward_hook(
        lambda module, inputs, output: seen.update(x=inputs[0], time=inputs[1], output=output)
    )
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        denoised = model.denoise(x, torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(seen["x"], x / (0.5 * math.sqrt(2)))
    torch.testing.assert_close(seen["time"], torch.full((2,), math.log(0.5) / 4))
    torch.testing.assert_close(denoised, x / 2 + 0.5 / math.sqrt(2) * seen["output"])


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_the_network_sees_and_predicts_unit_variance(sigma: float) -> None:
    """Data of deviation 0.5: the input and the target (y - c_skip x) / c_out have unit variance at every level."""
    y = 0.5 * torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    x = y + sigma * torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    model = tiny().eval()
    seen: dict[str, Tensor] = {}
    model.net.register_forward_hook(lambda module, inputs, output: seen.update(x=inputs[0]))
    levels = torch.full((8,), sigma)
    with torch.no_grad():
        skipped = model.denoise(x, levels)  # the head is zero: only c_skip x is left
        model.net.register_forward_hook(lambda module, inputs, output: torch.ones_like(output))
        scale = (model.denoise(x, levels) - skipped).mean()
    assert float(seen["x"].std()) == pytest.approx(1, abs=0.02)
    assert float(((y - skipped) / scale).std()) == pytest.approx(1, abs=0.02)


def test_loss_starts_near_one_whatever_the_level() -> None:
    """Weight times c_out^2 is 1, so a network that answers zero has the loss of a unit-variance target."""
    images = 0.5 * torch.randn(256, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for p_mean in (-4.0, -1.2, 2.0):
        torch.manual_seed(0)
        losses = tiny(p_mean=p_mean).loss(Batch(images))
        assert list(losses) == ["mse", "denoising"]
        assert float(losses["mse"].detach()) == pytest.approx(1, abs=0.05)


def test_levels_of_training_are_log_normal() -> None:
    model, levels = tiny().eval(), []
    model.net.register_forward_hook(lambda module, inputs, output: levels.append(4 * inputs[1]))
    with torch.no_grad():
        for _ in range(8):
            model.loss(Batch(torch.zeros(256, 3, 16, 16)))
    logs = torch.cat(levels)
    assert float(logs.median().exp()) == pytest.approx(0.301, rel=0.12)
    assert float(logs.std()) == pytest.approx(1.2, abs=0.08)


# ---- augmentation -----------------------------------------------------------------------------------------------


def ramp(size: int = 32) -> Tensor:
    """Rows and columns of a picture tell where a pixel was: red runs to the right, green runs down."""
    line = (torch.arange(size) * 2 + 1) / size - 1
    return torch.stack([line.expand(size, size), line[:, None].expand(size, size), torch.zeros(size, size)])[None]


def test_no_augmentation_leaves_every_bit() -> None:
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    same, described = edm.augment(images, 0.0)
    assert torch.equal(same, images)
    assert torch.equal(described, torch.zeros(4, 9))


def test_augmentations_do_what_they_say() -> None:
    """Each pixel of the middle comes from where the description, undone by plain trigonometry, says."""
    torch.manual_seed(5)
    images = ramp().expand(64, 3, 32, 32)
    moved, described = edm.augment(images, 0.5)
    checked = 0
    for picture, (mirrored, flipped, scale, cosine, sine, across, along, right, down) in zip(
        moved, described.tolist(), strict=True
    ):
        turn, stretch, direction = (
            math.atan2(sine, cosine + 1),
            math.hypot(across, along),
            math.atan2(along, across) / 2,
        )
        for row, column in ((16, 16), (10, 20), (18, 9)):
            x, y = (2 * column + 1) / 32 - 1 - right / 4, (2 * row + 1) / 32 - 1 - down / 4
            x, y = x * 2 ** (-0.2 * scale), y * 2 ** (-0.2 * scale)
            x, y = _turn(x, y, -direction)
            x, y = x * 2 ** (-0.2 * stretch), y * 2 ** (0.2 * stretch)
            x, y = _turn(x, y, direction - turn)
            x, y = x * (1 - 2 * mirrored), y * (1 - 2 * flipped)  # flipped first, so undone last
            if max(abs(x), abs(y)) < 0.9:  # beyond the edge the picture is reflected
                assert picture[0, row, column].item() == pytest.approx(x, abs=0.02)
                assert picture[1, row, column].item() == pytest.approx(y, abs=0.02)
                checked += 1
    assert checked > 100


def _turn(x: float, y: float, angle: float) -> tuple[float, float]:
    return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)


def test_augmentations_come_as_often_as_asked() -> None:
    torch.manual_seed(0)
    _, described = edm.augment(torch.zeros(4000, 3, 2, 2), 0.3)
    share = (described != 0).float().mean(0).tolist()
    assert share == pytest.approx([0.15, 0.15, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3], abs=0.03)
    assert float(described[:, 2][described[:, 2] != 0].std()) == pytest.approx(1, abs=0.06)


def test_the_network_sees_the_augmentation_in_training_and_not_in_drawing() -> None:
    model = awake(tiny(augment=1.0))
    seen: list[Tensor | None] = []
    hook = model.net.register_forward_hook(lambda module, inputs, output: seen.append(inputs[3]))
    model.train().loss(Batch(torch.rand(2, 3, 16, 16)))
    model.eval().validate(Batch(torch.rand(2, 3, 16, 16)))
    with torch.no_grad():
        model.denoise(torch.rand(2, 3, 16, 16), torch.ones(2))
    assert seen[0] is not None
    assert float(seen[0].abs().max()) > 0
    assert seen[1:] == [None, None]
    hook.remove()
    with torch.no_grad():
        x, time = torch.rand(2, 3, 16, 16), torch.zeros(2)
        assert torch.equal(model.net(x, time), model.net(x, time, None, torch.zeros(2, 9)))
        assert not torch.equal(model.net(x, time), model.net(x, time, None, torch.ones(2, 9)))


# ---- labels and sampling ----------------------------------------------------------------------------------------


def test_labels_matter_and_unknown_is_none() -> None:
    model = awake(tiny({"hair": ("pink", "blue")}, labels="all").eval())
    x, sigma = torch.randn(2, 3, 16, 16), torch.ones(2)
    with torch.no_grad():
        pink, blue, unknown = (model.denoise(x, sigma, torch.full((2, 1), k)) for k in (0, 1, -1))
        assert torch.equal(unknown, model.denoise(x, sigma))
    assert not torch.allclose(pink, blue)
    with pytest.raises(ConfigError, match="no label `eyes`"):
        tiny({"hair": ("pink",)}, labels=("eyes",))


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmpp", "heun", "euler"])
def test_every_sampler_draws_by_seed(sampler: Any) -> None:
    sampling = samplers.SamplerConfig(sampler=sampler, steps=4, spacing="karras", s_churn=2.0)
    assert_draws_by_seed(awake(tiny().eval()), 16, sampling)


def test_sampling_starts_at_the_highest_level_and_walks_eq_5() -> None:
    schedule = KarrasSchedule()
    levels = schedule.sigmas(18, "karras")
    assert float(levels[0]) == pytest.approx(80)
    assert float(levels[-2]) == pytest.approx(0.002)
    assert levels[-1] == 0
    assert float(levels[9]) == pytest.approx((80 ** (1 / 7) + 9 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7)
    assert schedule.scale_at(80.0) == 80
    assert schedule.level_at(1.0) == pytest.approx(80)


def test_churn_stays_within_its_bounds() -> None:
    """Algorithm 2 raises a level only where S_min <= sigma <= S_max, with noise of deviation S_noise."""
    asked: list[float] = []
    drawn: list[Tensor] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(float(sigma[0]))
        return torch.zeros_like(x)

    def noise(*shape: int) -> Tensor:
        drawn.append(torch.ones(1, *shape))
        return drawn[-1]

    levels, x = [8.0, 4.0, 2.0, 1.0, 0.0], torch.zeros(1, 1, 1, 1)
    samplers.heun(
        denoise, x, levels, noise=noise, churn=samplers.Churn(s_churn=0.4, s_min=1.5, s_max=5.0), second_order=False
    )
    assert asked == pytest.approx([8.0, 4.4, 2.2, 1.0])
    assert len(drawn) == 2
    state: list[Tensor] = []
    samplers.heun(
        denoise,
        x,
        [4.0, 1.0, 0.0],
        noise=noise,
        churn=samplers.Churn(s_churn=0.2, s_min=2.0, s_noise=1.5),
        second_order=False,
        callback=lambda step, x, denoised: state.append(x),
    )
    assert state[0].item() == pytest.approx(1.5 * math.sqrt(4.4**2 - 4**2))


# ---- presets and bad input --------------------------------------------------------------------------------------


def test_anime64_is_the_papers_recipe() -> None:
    kind = families.load("edm")
    layer = config.Layer.from_yaml(paths.preset_file("edm", "anime64"))
    settings = config.resolve([layer], family="edm", model=kind.Config, sample=kind.Sampling, optimizers=["model"])
    assert (settings.size, settings.train.batch, settings.optim["model"].lr) == (64, 128, 1e-4)
    assert (settings.model.augment, settings.model.dropout, settings.sample.steps) == (0.15, 0.05, 40)
    assert settings.train.ema.half_life == "500k images"
    with torch.device("meta"):
        count = sum(p.numel() for p in kind(settings.model, DataSpec(64, 10)).parameters())
    assert 55e6 < count < 70e6  # about 62 million in the paper


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"multipliers": (1, 1, 1, 1, 1, 1)}, "multiple of 32"),
        ({"patch": 3}, "cut"),
        ({"sigma_max": 0.001}, "sigma_min"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, Any], said: str) -> None:
    with refusal(said):
        tiny(**changes)
