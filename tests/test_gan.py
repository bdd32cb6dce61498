"""The GAN family against hand-worked numbers, finite differences and the networks it claims to be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from chain import done, refused, sets
from preset_config import resolved
from tiny_runs import make
from torch import Tensor, nn

from animegen_cli.errors import ConfigError
from animegen_cli.model import adversarial, families
from animegen_cli.model.families.gan import GAN, Model, pixel_variance_ratio
from animegen_cli.model.family import Batch, DataSpec
from animegen_cli.model.noise import Noise

if TYPE_CHECKING:
    from pathlib import Path

ATTRIBUTES = {"hair": ("pink", "blue", "aqua"), "eyes": ("red", "green")}
SMALL: dict[str, Any] = {"latent": 8, "width": 8, "critic_width": 8, "max_width": 16}


def small(size: int = 16, attributes: dict[str, tuple[str, ...]] | None = None, **settings: Any) -> GAN:
    torch.manual_seed(0)
    return GAN(Model(**(SMALL | settings)), DataSpec(size, 100, attributes=attributes or {}))


def a_batch(count: int = 4, size: int = 16, labels: Tensor | None = None) -> Batch:
    torch.manual_seed(1)
    return Batch(torch.rand(count, 3, size, size) * 2 - 1, labels=labels)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# ---- networks -------------------------------------------------------------------------------------------------


def test_parameter_counts_are_the_pytorch_examples() -> None:
    model = GAN(resolved("gan", "xmu2023").model, DataSpec(64, 100))
    assert (parameters(model.generator), parameters(model.critic)) == (3_576_704, 2_765_568)


@pytest.mark.parametrize(("name", "size"), [("begum2025", 64), ("begum2025-256", 256)])
def test_widths_double_to_512(name: str, size: int) -> None:
    with torch.device("meta"):
        model = GAN(resolved("gan", name).model, DataSpec(size, 100))
    up = [layer for layer in model.generator.modules() if isinstance(layer, nn.ConvTranspose2d)]
    down = [layer for layer in model.critic.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.in_channels for layer in up] == [100, 512] + [512] * (len(up) - 5) + [256, 128, 64]
    assert [layer.out_channels for layer in down] == [64, 128, 256, 512] + [512] * (len(down) - 5) + [1]
    assert len(up) == len(down) == math.log2(size) - 1
    assert model.generator(torch.zeros(2, 100, device="meta"), None).shape == (2, 3, size, size)


@pytest.mark.parametrize("layout", ["dcgan", "skip"])
@pytest.mark.parametrize("size", [16, 32, 128])
def test_sizes(layout: str, size: int) -> None:
    model = small(size, layout=layout)
    images = model.generator(torch.randn(2, 8), None)
    assert images.shape == (2, 3, size, size)
    logits, features = model.critic(images, None)
    assert logits.shape == (2,)
    assert features.shape[2:] == (4, 4)


@pytest.mark.parametrize("size", [24, 40, 48, 96])
def test_a_dcgan_is_a_power_of_two_times_four(size: int) -> None:
    with pytest.raises(ConfigError, match=f"not {size}") as caught:
        small(size)
    assert "animegen prepare ./faces --resolution 64" in str(caught.value.hint)
    assert "model.layout=skip" in str(caught.value.hint)
    assert small(size, layout="skip").generator(torch.randn(1, 8), None).shape[2:] == (size, size)


@pytest.mark.parametrize("size", [15, 50, 100])
def test_sizes_that_cannot_be_halved(size: int) -> None:
    with pytest.raises(ConfigError, match="halved") as caught:
        small(size, layout="skip")
    assert "animegen prepare ./faces --resolution 64" in str(caught.value.hint)


def test_dcgan_starts_as_the_paper_says() -> None:
    torch.manual_seed(0)
    model = GAN(resolved("gan", "xmu2023").model, DataSpec(64, 100))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert layer.bias is None
            assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.03)
        if isinstance(layer, nn.BatchNorm2d):
            assert float(layer.weight.detach().mean()) == pytest.approx(1.0, abs=0.01)
            assert 0.012 < float(layer.weight.detach().std()) < 0.028


def test_spectral_norm_bounds_each_layer() -> None:
    model = small(spectral_norm=True, norm="none")
    for _ in range(200):
        model.critic(torch.randn(2, 3, 16, 16), None)
    layers = [layer for layer in model.critic.modules() if isinstance(layer, nn.Conv2d)]
    assert len(layers) == 3
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2)) == pytest.approx(1, abs=0.02)


# ---- losses ---------------------------------------------------------------------------------------------------

REAL, FAKE = torch.tensor([0.0, 2.0]), torch.tensor([0.0, -2.0])


@pytest.mark.parametrize(
    ("kind", "smooth", "critic", "generator"),
    [
        ("bce", 1.0, 0.820075, 1.410038),  # ln 2 = 0.693147, softplus(-2) = 0.126928, softplus(2) = 2.126928
        ("bce", 0.9, 0.920075, 1.410038),  # a tenth of the mean logit more
        ("lsgan", 1.0, 3.0, 5.0),  # (1 + 1)/2 + (0 + 4)/2; (1 + 9)/2
        ("lsgan", 0.9, 3.01, 5.0),  # (0.81 + 1.21)/2 + 2
        ("hinge", 1.0, 1.0, 1.0),  # (1 + 0)/2 + (1 + 0)/2; -(0 - 2)/2
        ("wgan", 1.0, -2.0, 1.0),  # -1 - 1
    ],
)
def test_losses_by_hand(kind: Any, smooth: float, critic: float, generator: float) -> None:
    assert adversarial.critic_loss(kind, REAL, FAKE, smooth=smooth).item() == pytest.approx(critic, abs=1e-5)
    assert adversarial.generator_loss(kind, FAKE).item() == pytest.approx(generator, abs=1e-5)


def numerical_gradients(model: GAN, images: Tensor, step: float = 1e-5) -> Tensor:
    """Central differences of the critic in float64, one row per image."""
    rows = []
    for image in images:
        moves = torch.eye(image.numel(), dtype=torch.float64).view(-1, *image.shape) * step
        ends = [model.critic.score(model.critic.extract(image + sign * moves)) for sign in (1, -1)]
        rows.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(rows)


@pytest.fixture
def exact() -> GAN:
    model = small(norm="layer", r1=3.0, penalty_every=1).double()
    for layer in model.critic.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.2)
    return model


@pytest.mark.parametrize(("every", "heavier"), [(1, 1), (8, 8)])
def test_r1_against_finite_differences(exact: GAN, every: int, heavier: int) -> None:
    batch = a_batch(2)
    batch = replace(batch, images=batch.images.double())
    model = small(norm="layer", r1=3.0, penalty_every=every).double()
    model.load_state_dict(exact.state_dict())
    model.drawn.put(0, batch.images)
    with torch.no_grad():
        expected = 1.5 * numerical_gradients(model, batch.images).square().sum(1).mean()
    assert float(expected) > 1e-3
    assert model.penalty(batch)["penalty"].item() == pytest.approx(float(expected) * heavier, rel=1e-4)


def test_gradient_penalty_against_finite_differences(exact: GAN) -> None:
    batch = a_batch(2)
    real, fake = batch.images.double(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    model = small(norm="layer", loss="wgan", gradient_penalty=10.0, penalty_every=1).double()
    model.load_state_dict(exact.state_dict())
    model.drawn.put(0, fake)
    torch.manual_seed(7)
    found = model.penalty(replace(batch, images=real))["penalty"].item()
    torch.manual_seed(7)
    share = torch.rand(2, 1, 1, 1).double()
    with torch.no_grad():
        norms = numerical_gradients(model, share * real + (1 - share) * fake).norm(dim=1)
    assert found == pytest.approx(10 * float((norms - 1).square().mean()), rel=1e-4)


def test_feature_matching_compares_means() -> None:
    model, batch = small(norm="none", feature_matching=2.0), a_batch()
    losses = model.generator_loss(batch)
    fakes = model.drawn.get(0)
    with torch.no_grad():
        real, fake = (model.critic.extract(images).double().mean(0) for images in (batch.images, fakes))
    distance = float((real - fake).pow(2).sum()) / real.numel()
    assert distance > 0
    assert losses["loss"].item() == pytest.approx(losses["adversarial"].item() + 2 * distance, rel=1e-4)


def test_images_are_drawn_once_a_step() -> None:
    model, calls = small(layout="skip", r1=1.0, penalty_every=2), []
    model.generator.register_forward_hook(lambda *_: calls.append(1))
    for phase in model.phases():
        phase.loss(a_batch())
    assert [phase.name for phase in model.phases()] == ["G", "D", "D_reg"]
    assert len(calls) == 1


def test_critic_steps_draw_anew() -> None:
    model = small(critic_steps=5, loss="wgan", gradient_penalty=10.0, penalty_every=1, norm="layer")
    generator, critic = model.phases()
    assert (generator.every, critic.every) == (5, 1)
    assert critic.exact, "the penalty is part of this update and differentiates a gradient"
    losses = critic.loss(a_batch())  # no image handed over
    assert losses["loss"].item() == pytest.approx(
        losses["adversarial"].item() + losses["gradient_penalty"].item(), rel=1e-5
    )


def test_lazy_penalty_is_a_phase_of_the_critic() -> None:
    generator, critic, lazy = small(r1=1.0, penalty_every=16, norm="none").phases()
    assert (lazy.name, lazy.shares, lazy.every, lazy.exact) == ("D_reg", "D", 16, True)
    assert not generator.exact
    assert not critic.exact
    assert lazy.trains == critic.trains


def test_the_variance_of_drawn_images_is_in_units_of_the_real_ones() -> None:
    reals = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert pixel_variance_ratio(reals * 0.5, reals).item() == pytest.approx(0.25, rel=1e-4)
    assert pixel_variance_ratio(reals[:1].expand(16, -1, -1, -1), reals).item() == pytest.approx(0, abs=1e-6)
    assert pixel_variance_ratio(reals[:1], reals[:1]).item() == 1


# ---- labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["dcgan", "skip"])
def test_labels_change_image_and_logit(layout: str) -> None:
    model = small(layout=layout, attributes=ATTRIBUTES, labels="all").eval()
    assert model.conditions == ("hair", "eyes")
    rows = [[0, -1], [1, -1], [-1, -1]]
    images = [model.sample(Noise([5]), torch.tensor([row]), GAN.Sampling()) for row in rows]
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images[2], model.sample(Noise([5]), None, GAN.Sampling())), "unknown is the zero vector"
    logits = [model.critic(images[0], torch.tensor([row]))[0].item() for row in rows]
    assert len({round(logit, 6) for logit in logits}) == 3
    assert model.critic(images[0], None)[0].item() == pytest.approx(logits[2], rel=1e-5)


def test_unknown_stays_the_zero_vector_in_training() -> None:
    model = small(attributes=ATTRIBUTES, labels=("hair",))
    batch = a_batch(labels=torch.tensor([[0, 0], [-1, 1], [2, 0], [1, 1]]))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for phase in model.phases():
        next(iter(phase.loss(batch).values())).backward()
    optimizer.step()
    for labels in (model.generator.labels, model.critic.labels):
        assert labels is not None
        known, unknown = labels(torch.tensor([[0], [-1]])).detach()
        assert float(unknown.abs().max()) == 0
        assert float(known.abs().max()) > 0
        (table,) = labels.parameters()
        assert table.grad is not None
        assert float(table.grad[0].abs().max()) > 0


def test_the_critic_sees_the_labels_that_were_requested() -> None:
    model = small(attributes=ATTRIBUTES, labels="all", label_drop=0.0)
    labels = torch.tensor([[0, 0], [1, 1], [2, 0], [1, 1]])
    batch = a_batch(labels=labels)
    halves = [
        replace(batch, images=batch.images[rows], labels=labels[rows], part=part)
        for part, rows in enumerate((slice(0, 2), slice(2, 4)))
    ]
    for half in halves:
        model.generator_loss(half)
    images, requested = model._fakes(halves[1])
    assert len(images) == 2
    assert requested is not None
    assert torch.equal(requested, labels[2:]), "no label is dropped at a share of 0"


def test_labels_that_the_set_lacks_are_refused() -> None:
    with pytest.raises(ConfigError, match="no label `hair`") as caught:
        small(labels=("hair",))
    assert "remove `model.labels`" in str(caught.value.hint)


# ---- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "says", "hint"),
    [
        ("model.pixel_weight=10", "noise has no real image", "cyclegan"),
        ("model.loss=wgan", "bounded slope", "--set model.gradient_penalty=10"),
        ("model.smooth=1.2", "model.smooth", "animegen presets show gan"),
        ("model.augment=[blur]", "model.augment", "animegen presets show gan"),
        ("model.labels=[hare]", "no label `hare`", "`hair`"),
    ],
)
def test_bad_settings_say_what_to_type(faces: Path, tmp_path: Path, setting: str, says: str, hint: str) -> None:
    words = sets("model.r1=0", setting)
    said = refused(2, "train", "gan", "--preset", "smoke", "--data", faces, "--out", tmp_path / "run", *words)
    assert says in said
    assert hint in said


def test_runs_that_spell_colour_still_open() -> None:
    augment = [resolved("gan", "fast", f"model.augment=[{word},cutout]").model.augment for word in ("colour", "color")]
    assert augment == [("color", "cutout")] * 2


@pytest.mark.parametrize("settings", [{"r1": 10.0}, {"gradient_penalty": 10.0}, {"loss": "wgan", "r1": 1.0}])
def test_no_training_begins_with_a_penalty_on_batchnorm(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="BatchNorm") as caught:
        Model(**settings).check_new()
    assert "model.norm=layer" in str(caught.value.hint)
    ways: list[dict[str, Any]] = [{"norm": "layer"}, {"norm": "none"}, {"layout": "skip"}]
    for way in ways:
        Model(**settings, **way).check_new()


def test_it_is_refused_where_it_would_begin_and_drawn_where_it_was_trained(faces: Path, tmp_path: Path) -> None:
    words = sets("model.layout=dcgan", "model.norm=batch")
    said = refused(2, "train", "gan", "--preset", "smoke", "--data", faces, "--out", tmp_path / "new", *words)
    assert "`model.r1` is a penalty per image" in said
    assert not (tmp_path / "new").exists()
    old = make("gan", tmp_path / "old", "model.layout=dcgan", "model.norm=batch")
    done("sample", old.path, "--seeds", "0-1", "--device", "cpu")


def test_the_documents_twin_has_no_penalty_on_batchnorm() -> None:
    sane, printed = (resolved("gan", name).model for name in ("xmu2023-sane", "xmu2023"))
    sane.check_new()
    assert (sane.r1, sane.norm) == (10.0, "layer")
    assert (printed.r1, printed.norm) == (0.0, "batch")


def test_smoothed_targets_need_a_loss_that_has_some() -> None:
    with pytest.raises(ConfigError, match="targets"):
        Model(loss="hinge", smooth=0.9)


# ---- what it can do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "figures", "expected"),
    [
        ({}, {"G/pixel_variance_ratio": 0.9, "D/adversarial": 1.1}, []),
        (
            {},
            {"G/pixel_variance_ratio": 0.1, "D/adversarial": 1.1},
            [("mode collapse", "--set model.r1=10 --set model.norm=layer")],
        ),
        (
            {},
            {"G/pixel_variance_ratio": 0.9, "D/adversarial": 0.01},
            [("critic wins", "--set model.r1=10 --set model.norm=layer")],
        ),
        ({"layout": "skip"}, {"G/pixel_variance_ratio": 0.1}, [("mode collapse", "--set model.r1=10")]),
        (
            {"r1": 10.0},
            {"G/pixel_variance_ratio": 0.9, "D/adversarial": 0.01},
            [("critic wins", "--set model.augment=[color,translation]")],
        ),
        (
            {"r1": 10.0, "augment": ("color",), "norm": "layer"},
            {"G/pixel_variance_ratio": 0.1},
            [("mode collapse", "--set model.r1=40")],
        ),
        ({"loss": "wgan", "r1": 1.0}, {"D/adversarial": -40.0, "G/pixel_variance_ratio": 1.0}, []),
        ({}, {}, []),
    ],
)
def test_the_doctor_names_failures(settings: dict[str, Any], figures: dict[str, float], expected: list[Any]) -> None:
    assert [(found.name, found.flag) for found in small(**settings).diagnose(figures)] == expected


def test_temperature_scales_the_noise() -> None:
    model = small().eval()
    with torch.no_grad():
        cold, warm = (model.sample(Noise(range(32)), None, GAN.Sampling(temperature=t)) for t in (0.1, 1.0))
    assert float(cold.var(0).mean()) < 0.2 * float(warm.var(0).mean())


@pytest.mark.parametrize("layout", ["dcgan", "skip"])
def test_it_learns_a_brightness(layout: str) -> None:
    """Eighty updates on flat images of one level: what it draws comes near them."""
    model = small(layout=layout, r1=1.0, penalty_every=4, norm="none")
    optimizers = {
        name: torch.optim.Adam(module.parameters(), lr=5e-3, betas=(0.5, 0.99))
        for name, module in (("G", model.generator), ("D", model.critic))
    }
    for step in range(80):
        batch = Batch(0.6 + 0.02 * torch.randn(8, 3, 1, 1).expand(8, 3, 16, 16))
        for phase in model.phases():
            if step % phase.every == 0:
                model.zero_grad()
                next(iter(phase.loss(batch).values())).backward()
                optimizers[phase.shares or phase.name].step()
    with torch.no_grad():
        images = model.generator(torch.randn(64, 8), None)
    assert float(images.mean()) == pytest.approx(0.6, abs=0.25)


def test_presets_are_what_the_documents_say() -> None:
    faithful, sane, begum, large = (
        resolved("gan", n) for n in ("xmu2023", "xmu2023-sane", "begum2025", "begum2025-256")
    )
    for name in ("G", "D"):
        assert faithful.optim[name].lr == 0.005
        assert sane.optim[name].lr == begum.optim[name].lr == large.optim[name].lr == 2e-4
        assert begum.optim[name].betas == faithful.optim[name].betas == (0.5, 0.999)
        assert begum.optim[name].schedule == "linear"
    assert "`gan/xmu2023-sane`" in str(faithful.warning)
    assert sane.warning is None
    assert (begum.size, large.size, begum.train.batch, large.train.batch) == (64, 256, 64, 16)
    assert (begum.model.latent, begum.model.feature_matching, begum.augment.rotate) == (100, 1.0, 0.0)
    assert (faithful.train.batch, faithful.model.smooth, sane.model.smooth) == (64, 1.0, 0.9)
    assert families.load("gan") is GAN


def test_the_penalty_grows_with_the_pixels() -> None:
    assert [GAN(Model(r1=1.0, r1_at=64), DataSpec(size, 10)).r1 for size in (16, 32, 64)] == [1 / 16, 1 / 4, 1]
    assert GAN(Model(r1=1.0), DataSpec(32, 10)).r1 == 1
