"""CycleGAN's networks, pool and schedule against the paper's numbers and hand-worked tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from preset_config import resolved
from tiny_runs import assert_diagnoses
from torch import Tensor, nn

from animegen_cli.errors import ConfigError, DataError
from animegen_cli.model.families.cyclegan import (
    CycleGAN,
    CycleGANSampling,
    Generator,
    ImagePool,
    Model,
    PatchCritic,
    instance_norm,
)
from animegen_cli.model.family import Batch, DataSpec, Edit, abilities_of
from animegen_cli.model.nets.translators import luma_correlation
from animegen_cli.model.noise import Noise
from animegen_cli.train.optim import learning_rate
from animegen_cli.train.parts import Buffers, TreeSum

SPEC = DataSpec(16, 100, domains=("anime", "photos"))
TINY: dict[str, Any] = {"channels": 4, "blocks": 1, "critic_channels": 4, "critic_layers": 2}


def tiny(**settings: Any) -> CycleGAN:
    torch.manual_seed(0)
    return CycleGAN(Model(**(TINY | settings)), SPEC)


def batch_of(count: int = 3, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(5)
    photos = torch.rand(count, 3, size, size, generator=generator) * 2 - 1
    return Batch(photos.flip(0).roll(3, 2).contiguous(), photos=photos)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# ---- networks -------------------------------------------------------------------------------------------------


def test_parameter_counts_are_the_papers() -> None:
    with torch.device("meta"):
        assert parameters(Generator(64, 9, resize=False)) == 11_378_179
        assert parameters(Generator(64, 6, resize=False)) == 7_837_699
        assert parameters(Generator(64, 9, resize=True)) == 11_378_179
        assert parameters(PatchCritic(64, 3)) == 2_764_737


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_its_patch_and_no_more(layers: int, field: int) -> None:
    """By gradient; without norms, which look at the whole image."""
    critic = PatchCritic(4, layers)
    critic.norms = nn.ModuleList(nn.Identity() for _ in critic.norms)
    nn.init.ones_(critic.head.weight)
    image = torch.rand(1, 3, 128, 128, requires_grad=True)
    logits = critic(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert image.grad is not None
    seen = image.grad.abs().sum((0, 1)) > 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    assert (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1) == (field, field)


def test_256_pixels_make_30_by_30_logits() -> None:
    with torch.device("meta"):
        assert PatchCritic(64, 3)(torch.zeros(2, 3, 256, 256)).shape == (2, 1, 30, 30)


@pytest.mark.parametrize("resize", [False, True])
def test_generators_keep_any_size_of_whole_eights(resize: bool) -> None:
    images = torch.rand(2, 3, 24, 40)
    drawn = Generator(4, 2, resize=resize)(images)
    assert drawn.shape == images.shape
    assert drawn.abs().max() <= 1


def test_norm_is_torchs_instance_norm() -> None:
    x = 3 * torch.randn(2, 5, 6, 7, dtype=torch.float64) + 1
    torch.testing.assert_close(instance_norm(5).double()(x), F.instance_norm(x))


def test_weights_begin_small() -> None:
    model = CycleGAN(Model(channels=32, blocks=2), DataSpec(64, 100))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.weight.numel() > 5000:
            assert abs(layer.weight.std().item() - 0.02) < 0.001
            assert abs(layer.weight.mean().item()) < 0.001


# ---- the pool -------------------------------------------------------------------------------------------------


def levels(images: Tensor) -> list[int]:
    """The gray level of each one-color image."""
    return [round(float(image.mean()) * 127.5 + 127.5) for image in images]


def gray(*values: int) -> Tensor:
    return (torch.tensor(values).float() / 127.5 - 1).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()


def test_pool_fills_before_it_returns_old_images() -> None:
    pool = ImagePool(3, 4)
    assert levels(pool(gray(10, 20))) == [10, 20]
    assert pool.filled == 2
    # 30 takes the last place; 40 comes too late to be stored, in this batch
    assert levels(pool(gray(30, 40))) == [30, 40]
    assert pool.filled == 3
    assert pool.images[:, 0, 0, 0].tolist() == [10, 20, 30]


def test_full_pool_follows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four draws of (place of each slot, chance): the new image is shown at chance >= 0.5, else swapped."""
    pool = ImagePool(3, 4)
    pool(gray(10, 20, 30))
    table = [
        # order of the places, chance -> new, shown, stored
        ([0.9, 0.1, 0.5], [0.2], 40, 20, [10, 40, 30]),
        ([0.1, 0.2, 0.3], [0.7], 50, 50, [10, 40, 30]),
        ([0.3, 0.2, 0.1], [0.49], 60, 30, [10, 40, 60]),
        ([0.3, 0.1, 0.2], [0.0], 70, 40, [10, 70, 60]),
    ]
    for order, chance, new, shown, stored in table:
        draws = iter([torch.tensor(order), torch.tensor(chance)])
        monkeypatch.setattr(torch, "rand", lambda *shape, _draws=draws, **options: next(_draws))
        assert levels(pool(gray(new))) == [shown]
        assert pool.images[:, 0, 0, 0].tolist() == stored
    assert pool.filled == 3


def test_full_pool_swaps_half_and_loses_nothing() -> None:
    torch.manual_seed(0)
    pool = ImagePool(50, 4)
    pool(gray(*range(50)))
    swapped = 0
    for step in range(100):
        new = [100 + step, 101 + step]
        before = sorted([*pool.images[:, 0, 0, 0].tolist(), *new])
        shown = levels(pool(gray(*new)))
        swapped += sum(a != b for a, b in zip(shown, new, strict=True))
        # what is shown and was swapped out left the pool; what was shown fresh never entered it
        assert sorted([*pool.images[:, 0, 0, 0].tolist(), *shown]) == before
    assert 75 < swapped < 125


def test_each_part_of_a_step_has_a_piece_of_the_pool() -> None:
    pool = ImagePool(5, 4)
    kept = Buffers(pool)
    for level in (10, 30, 50):
        kept.begin()
        total = TreeSum()
        for part in (0, 1):
            kept.restore()
            assert levels(pool(gray(level + part), part, 2)) in ([level + part], [10 + part], [30 + part])
            total.add(kept.of_part(part, 2))
        kept.finish(total.total(), 2)
    found = pool.images[:, 0, 0, 0].tolist()
    assert all(level % 10 == 0 for level in found[:2])
    assert all(level % 10 == 1 for level in found[2:4])
    assert found[4] == 0, "the odd place stays empty"


def test_pool_survives_a_kill_and_a_batch_larger_than_itself() -> None:
    pool, restored = ImagePool(4, 4), ImagePool(4, 4)
    assert len(pool(gray(*range(11)))) == 11
    restored.load_state_dict(pool.state_dict())
    for copy in (pool, restored):
        torch.manual_seed(3)
        copy(gray(90, 91, 92))
    assert torch.equal(pool.images, restored.images)
    assert restored.filled == 4
    off = ImagePool(0, 4)
    assert levels(off(gray(7, 8))) == [7, 8]


# ---- losses ---------------------------------------------------------------------------------------------------


def test_generators_loss_is_equation_3() -> None:
    """Slowly, each term by its own pass."""
    model, batch = tiny(cycle_photos=7.0, cycle_anime=3.0, identity=0.25).double(), batch_of()
    assert batch.photos is not None
    x, y = batch.photos.double(), batch.images.double()
    losses = model.generators_loss(Batch(y, photos=x))
    fake_y, fake_x = model.to_anime(x), model.to_photo(y)
    mean = torch.mean
    expected = mean((model.anime_critic(fake_y) - 1) ** 2) + mean((model.photo_critic(fake_x) - 1) ** 2)
    expected = expected + 7 * mean(abs(model.to_photo(fake_y) - x)) + 3 * mean(abs(model.to_anime(fake_x) - y))
    same_y, same_x = mean(abs(model.to_anime(y) - y)), mean(abs(model.to_photo(x) - x))
    expected = expected + 0.25 * (3 * same_y + 7 * same_x)
    torch.testing.assert_close(losses["loss"].double(), expected, rtol=1e-5, atol=0)
    without = tiny(identity=0.0)
    assert "identity" not in without.generators_loss(batch)


@pytest.mark.parametrize("kind", ["lsgan", "bce"])
def test_critics_loss_on_fresh_and_real_images(kind: str) -> None:
    model, batch = tiny(loss=kind), batch_of()
    with torch.no_grad():
        model.generators_loss(batch)
        losses = model.critics_loss(batch)
        pairs = (
            (model.anime_critic(batch.images), model.anime_critic(model.to_anime(batch.photos))),
            (model.photo_critic(batch.photos), model.photo_critic(model.to_photo(batch.images))),
        )
    if kind == "lsgan":
        expected = sum(0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean() for real, fake in pairs)
    else:
        expected = sum(
            -0.5 * torch.sigmoid(real).log().mean() - 0.5 * (1 - torch.sigmoid(fake)).log().mean()
            for real, fake in pairs
        )
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-4, atol=0)
    assert 0 <= losses["accuracy"] <= 1


def test_the_phases_train_what_they_say() -> None:
    model, batch = tiny(), batch_of()
    for phase, trained in zip(
        model.phases(), (("to_anime", "to_photo"), ("anime_critic", "photo_critic")), strict=True
    ):
        model.zero_grad()
        model.requires_grad_(False)
        for module in phase.trains:
            module.requires_grad_(True)
        phase.loss(batch)["loss"].backward()
        touched = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
        assert touched == set(trained)


def test_parts_hand_their_own_images_over() -> None:
    model, batch = tiny(), batch_of(4)
    assert batch.photos is not None
    seen: list[Tensor] = []
    model.anime_pool.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    halves = [
        Batch(batch.images[2 * p : 2 * p + 2], photos=batch.photos[2 * p : 2 * p + 2], part=p, parts=2) for p in (0, 1)
    ]
    with torch.no_grad():
        for half in halves:
            model.generators_loss(half)
        for half in halves:
            model.critics_loss(half)
        torch.testing.assert_close(torch.cat(seen), model.to_anime(batch.photos), rtol=0, atol=1e-4)


def test_learning_rate_follows_the_authors_table() -> None:
    """Factor 1 - max(0, e - 100) / 101 in epoch e, counted from 0 as e + 1 in the authors' scheduler."""
    settings = resolved("cyclegan", "begum2025-256").optim["G"]
    found = [
        learning_rate(settings, epoch * 500, total=200 * 500, batch=1, count=500) / 2e-4
        for epoch in (0, 99, 100, 101, 150, 199)
    ]
    assert found == pytest.approx([1, 1, 100 / 101, 99 / 101, 50 / 101, 1 / 101])
    inside = learning_rate(settings, 150 * 500 + 499, total=200 * 500, batch=1, count=500) / 2e-4
    assert inside == pytest.approx(50 / 101), "the rate changes once per epoch"


# ---- abilities ------------------------------------------------------------------------------------------------


def test_it_translates_both_ways_row_by_row() -> None:
    model, images = tiny().double().eval(), batch_of(3, 24).images.double()
    assert "samples" not in abilities_of(model)
    assert {"translates", "validates", "diagnoses"} <= set(abilities_of(model))
    with torch.no_grad():
        there = model.translate(images, Noise([0, 1, 2]), Edit(), CycleGANSampling())
        back = model.translate(images, Noise([0, 1, 2]), Edit(reverse=True), CycleGANSampling())
        alone = model.translate(images[1:2], Noise([9]), Edit(), CycleGANSampling())
    assert there.shape == images.shape
    assert not torch.equal(there, back)
    torch.testing.assert_close(there[1:2], alone)


def test_validation_is_the_cycle_error_of_what_is_there() -> None:
    model, batch = tiny().eval(), batch_of()
    with torch.no_grad():
        both, lone = model.validate(batch), model.validate(replace(batch, photos=None))
    assert next(iter(both)) == "cycle"
    assert both["cycle"] == (both["cycle_photos"] + both["cycle_anime"]) / 2
    assert lone["cycle"] == both["cycle_anime"]


def test_brightness_of_a_negative_is_anticorrelated() -> None:
    image = batch_of().images
    assert luma_correlation(image, image) == pytest.approx(1)
    assert luma_correlation(image, 0.2 - image / 2) == pytest.approx(-1)


def test_the_doctor_names_each_failure_and_its_flag() -> None:
    model = tiny()
    healthy = {"G/luma_correlation": 0.8, "G/luma_correlation_reverse": 0.7, "D/accuracy": 0.8, "G/change": 0.2}
    assert_diagnoses(
        model,
        healthy,
        ("G/luma_correlation", -0.6, "color inversion", "model.identity=1"),
        ("G/luma_correlation_reverse", -0.6, "color inversion", "model.identity=1"),
        ("D/accuracy", 0.999, "critic wins", "optim.D.lr="),
        ("G/change", 0.004, "copies its input", "model.identity=0.1"),
    )
    assert tiny(identity=0.0).diagnose(healthy | {"G/luma_correlation": -0.6})[0].flag.endswith("identity=0.5")


# ---- bad input ------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match="halvings leave nothing of 16 pixels") as caught:
        CycleGAN(Model(critic_layers=3), SPEC)
    assert "model.critic_layers=2" in str(caught.value.hint)
    CycleGAN(Model(**(TINY | {"critic_layers": 2})), SPEC)
    with pytest.raises(ConfigError, match="cannot halve 30 pixels"):
        CycleGAN(Model(**TINY), replace(SPEC, size=30))
    with pytest.raises(DataError, match="one domain") as refused:
        tiny().generators_loss(replace(batch_of(), photos=None))
    assert "--photos" in str(refused.value.hint)


@pytest.mark.parametrize(("preset", "size", "blocks"), [("begum2025-256", 256, 9), ("begum2025-128", 128, 6)])
def test_presets_are_the_documents(preset: str, size: int, blocks: int) -> None:
    settings = resolved("cyclegan", preset)
    assert settings.model == Model(blocks=blocks, critic_layers=3, identity=0.5, pool=50)
    assert (settings.size, settings.train.batch, settings.train.duration) == (size, 1, "200 epochs")
    assert settings.augment.load / size == pytest.approx(286 / 256, abs=0.001)
    assert all(o.betas == (0.5, 0.999) and o.lr == 2e-4 for o in settings.optim.values())
    assert settings.train.ema.decay == 0


def test_some_steps_of_training_lower_the_cycle_error() -> None:
    model, batch = tiny(channels=8), batch_of(4)
    optimizer = torch.optim.Adam([*model.to_anime.parameters(), *model.to_photo.parameters()], 2e-3)
    errors = []
    for _ in range(25):
        losses = model.generators_loss(batch)
        errors.append(losses["cycle_photos"].item())
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert errors[-1] < 0.8 * errors[0]
