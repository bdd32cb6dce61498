"""AnimeGANv2's networks, its color, style and edge formulas against slow ones, and its initial phase."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from chain import TINY as CHAIN
from chain import done, sets
from preset_config import resolved
from tiny_runs import assert_diagnoses
from torch import Tensor

from animegen_cli.errors import ConfigError, DataError
from animegen_cli.model.families.animegan import (
    AnimeGAN,
    AnimeGANSampling,
    Critic,
    Generator,
    Model,
    SpectralConv,
    color_loss,
    edge_smoothed,
    gram,
    gray,
    total_variation,
    yuv,
)
from animegen_cli.model.family import Batch, DataSpec, Edit, abilities_of
from animegen_cli.model.nets import trunk
from animegen_cli.model.noise import Noise
from animegen_cli.train.optim import learning_rate

if TYPE_CHECKING:
    from pathlib import Path

SPEC = DataSpec(16, 100, domains=("anime", "photos"))
TINY: dict[str, Any] = {"channels": 4, "blocks": 2, "critic_channels": 4, "init": "0 images", "level": 1}


def tiny(**settings: Any) -> AnimeGAN:
    torch.manual_seed(0)
    return AnimeGAN(Model(**(TINY | settings)), SPEC)


def batch_of(count: int = 3, size: int = 16, images_seen: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(5)
    small = torch.rand(count, 3, 4, 4, generator=generator) * 2 - 1
    photos = F.interpolate(small, (size, size), mode="bicubic").clamp(-1, 1)
    return Batch(photos.flip(0).roll(3, 2).contiguous(), photos=photos, images_seen=images_seen)


# ---- networks -------------------------------------------------------------------------------------------------


def test_the_generator_has_the_published_size() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in Generator(32, 4).parameters())
    assert count == 2_141_760
    assert round(4 * count / 2**20, 2) == 8.17  # what the authors give, in units of 2^20 bytes


def test_generators_keep_any_size_and_critics_quarter_it() -> None:
    images = torch.rand(2, 3, 24, 40) * 2 - 1
    drawn = Generator(4, 2)(images)
    assert drawn.shape == images.shape
    assert drawn.abs().max() <= 1
    assert Critic(4)(images).shape == (2, 1, 6, 10)


def test_spectral_norm_is_the_largest_singular_value_and_has_its_gradient() -> None:
    torch.manual_seed(0)
    conv = SpectralConv(8, 12, 3)
    largest = torch.linalg.svdvals(conv.weight.detach().flatten(1))[0]
    found = conv.norm()
    torch.testing.assert_close(found, largest, rtol=1e-3, atol=0)
    found.backward()
    given = conv.weight.grad
    assert given is not None
    conv.weight.grad = None
    torch.linalg.matrix_norm(conv.weight.flatten(1), 2).backward()
    torch.testing.assert_close(given, conv.weight.grad, rtol=0.05, atol=0.01)


def test_a_convolution_of_the_critic_never_stretches() -> None:
    """A 1 x 1 convolution is its matrix: no pixel leaves it longer than it came, and some leave it as long."""
    torch.manual_seed(1)
    conv = SpectralConv(6, 6, 1, bias=False)
    pixels = F.normalize(torch.randn(1, 6, 200, 200), dim=1)
    lengths = conv(pixels).norm(dim=1)
    assert lengths.max() <= 1.001
    assert lengths.max() > 0.9


# ---- formulas -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("color", "expected"),
    [
        ((1, 1, 1), (1.0, 0.0, 0.0)),
        ((-1, -1, -1), (0.0, 0.0, 0.0)),
        ((1, -1, -1), (0.299, -0.147, 0.615)),
        ((-1, 1, -1), (0.587, -0.289, -0.515)),
        ((-1, -1, 1), (0.114, 0.436, -0.100)),
    ],
)
def test_yuv_of_known_colors(color: tuple[int, ...], expected: tuple[float, ...]) -> None:
    image = torch.tensor(color, dtype=torch.float32).view(1, 3, 1, 1)
    assert yuv(image).flatten().tolist() == pytest.approx(expected, abs=6e-4)


def test_gray_keeps_brightness_and_loses_color() -> None:
    images = batch_of().images
    found = gray(images)
    torch.testing.assert_close(yuv(found)[:, 0], yuv(images)[:, 0])
    assert yuv(found)[:, 1:].abs().max() < 1e-5


def test_gram_is_a_sum_over_pixels() -> None:
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float32)
    found = gram(maps)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                slow = sum(float(maps[b, i, y, x] * maps[b, j, y, x]) for y in range(4) for x in range(5))
                assert float(found[b, i, j]) == pytest.approx(slow / (3 * 4 * 5), abs=1e-5)


def test_color_loss_by_hand() -> None:
    """White against black differs in Y alone, by 1; red against black also by 0.615 and 0.147, squared and halved."""
    white, black, red = (
        torch.tensor(c, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 2, 2)
        for c in ((1, 1, 1), (-1, -1, -1), (1, -1, -1))
    )
    assert color_loss(white, black).item() == pytest.approx(1, abs=1e-5)
    assert color_loss(red, black).item() == pytest.approx(0.299 + 0.615**2 / 2 + 0.147**2 / 2, abs=1e-3)


def test_total_variation_of_a_slope() -> None:
    slope = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 3, 4) * 0.5
    assert total_variation(slope).item() == pytest.approx(0.125)


def test_edges_are_blurred_and_nothing_else() -> None:
    image = torch.full((1, 3, 32, 32), -0.8)
    image[..., 16:] = 0.8
    image[..., :4, :4] += 0.01  # a step too small for an edge
    found = edge_smoothed(image, 0.4, 5)
    changed = (found - image).abs().amax((0, 1, 2))
    # the edge lies between columns 15 and 16; dilated by 2 it spans 13 to 18, and the Gaussian reaches 2 pixels
    assert (changed[:13] < 1e-6).all()
    assert (changed[19:] < 1e-6).all()
    assert (changed[14:18] > 0.01).all()
    row = found[0, 0, 20]
    assert (row.diff() >= -1e-6).all(), "still rising, only slower"
    assert row.diff().max() < 1.2
    bell = torch.exp(-(torch.arange(-2.0, 3) ** 2) / (2 * 1.1**2))
    assert row[15].item() == pytest.approx(float(-0.8 + 1.6 * bell[3:].sum() / bell.sum()), abs=1e-5)


# ---- losses ---------------------------------------------------------------------------------------------------


def test_losses_are_sums_of_their_weighted_terms() -> None:
    weights = {"content": 2.0, "style": 3.0, "color": 5.0, "smoothness": 7.0, "adversarial": 11.0}
    model = tiny(**weights, real=1.0, fake=0.5, gray=0.25, smooth=0.125).eval()
    batch = batch_of()
    assert batch.photos is not None
    with torch.no_grad():
        found = model.generator_loss(batch)
        critic = model.critic_loss(batch)
        fake = model.translate(batch.photos, Noise([0]), Edit(), AnimeGANSampling())
        errors = {
            "real": model.critic(batch.images) - 1,
            "fake": model.critic(fake),
            "gray": model.critic(gray(batch.images)),
            "smooth": model.critic(edge_smoothed(gray(batch.images), 0.4, 5)),
        }
        of_fake, of_photos = model.features(fake)[1], model.features(batch.photos)[1]
    terms = {name: found["colour" if name == "color" else name] for name in weights}  # logs keep the first spelling
    assert float(found["loss"]) == pytest.approx(sum(w * float(terms[name]) for name, w in weights.items()), rel=1e-5)
    assert float(found["adversarial"]) == pytest.approx(float((errors["fake"] - 1).square().mean()), rel=1e-4)
    assert float(found["content"]) == pytest.approx(float((of_fake - of_photos).abs().mean()), rel=1e-4)
    squares = {name: float(value.square().mean()) for name, value in errors.items()}
    assert {name: float(critic[name]) for name in squares} == pytest.approx(squares, rel=1e-4)
    total = squares["real"] + 0.5 * squares["fake"] + 0.25 * squares["gray"] + 0.125 * squares["smooth"]
    assert float(critic["loss"]) == pytest.approx(11 * total, rel=1e-4)


def test_style_looks_at_gray_anime() -> None:
    """Colored noise and its gray copy have the same style."""
    model, batch = tiny().eval(), batch_of()
    with torch.no_grad():
        colorful, pale = (model.generator_loss(b)["style"] for b in (batch, replace(batch, images=gray(batch.images))))
    torch.testing.assert_close(colorful, pale, rtol=1e-3, atol=1e-6)


def test_at_first_the_content_alone() -> None:
    model = tiny(init="2 epochs")
    assert model.init_images == 200
    early, late = batch_of(images_seen=199), batch_of(images_seen=200)
    losses = model.generator_loss(early)
    assert float(losses["loss"].detach()) == pytest.approx(1.5 * float(losses["content"]))
    assert "adversarial" not in losses
    model.critic_loss(early)["loss"].backward()
    assert all(p.grad is None for p in model.critic.parameters()), "an optimizer would move on zeros"
    assert {"adversarial", "style"} <= set(model.generator_loss(late))
    model.critic_loss(late)["loss"].backward()
    assert all(p.grad is not None for p in model.critic.parameters())


def test_the_rate_drops_with_the_initial_phase() -> None:
    settings = resolved("animegan", "hayao")
    spec = DataSpec(256, 500)
    rates = [
        learning_rate(settings.optim["G"], images, total=101 * 500, batch=12, count=spec.count)
        for images in (0, 4999, 5000, 50_000)
    ]
    assert rates == pytest.approx([2e-4, 2e-4, 2e-5, 2e-5])
    with torch.device("meta"):
        assert AnimeGAN(settings.model, spec).init_images == 5000


# ---- features -------------------------------------------------------------------------------------------------


def test_the_run_names_the_feature_network_and_does_not_store_it() -> None:
    model = tiny()
    assert model.notes == {"features": "faces-trunk", "features_sha256": trunk.SHA}
    model.phases()
    assert {name.split(".")[0] for name in model.state_dict()} == {"generator", "critic"}
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"generator", "critic"}


def test_a_wrong_features_file_is_found_before_training_and_not_missed_afterwards(tmp_path: Path) -> None:
    model = tiny(features=str(tmp_path / "vgg19.pth"))
    with pytest.raises(DataError, match="no file"):
        model.phases()
    with torch.no_grad():
        drawn = model.translate(batch_of().images, Noise([0]), Edit(), AnimeGANSampling())
    assert drawn.shape == (3, 3, 16, 16)


# ---- abilities ------------------------------------------------------------------------------------------------


def test_it_translates_row_by_row() -> None:
    model, images = tiny().eval(), batch_of(3, 24).images
    assert "samples" not in abilities_of(model)
    assert {"translates", "validates", "diagnoses"} <= set(abilities_of(model))
    with torch.no_grad():
        whole = model.translate(images, Noise([0, 1, 2]), Edit(), AnimeGANSampling())
        alone = model.translate(images[1:2], Noise([9]), Edit(), AnimeGANSampling())
    torch.testing.assert_close(whole[1:2], alone, rtol=0, atol=1e-4)


def test_validation_with_and_without_photographs() -> None:
    model, batch = tiny(content=2.0, color=3.0, style=5.0).eval(), batch_of()
    weights = {"content": 2.0, "colour": 3.0, "style": 5.0}
    with torch.no_grad():
        found, lone = model.validate(batch), model.validate(replace(batch, photos=None))
        training = model.generator_loss(batch)
    assert next(iter(found)) == "likeness"
    assert float(found["likeness"]) == pytest.approx(sum(w * float(found[n]) for n, w in weights.items()), rel=1e-5)
    assert {n: float(found[n]) for n in weights} == pytest.approx({n: float(training[n]) for n in weights}, rel=1e-5)
    assert float(lone["content"]) != float(found["content"])


def test_the_doctor_names_each_failure_and_its_flag() -> None:
    model = tiny()
    healthy = {"G/luma_correlation": 0.9, "D/accuracy": 0.8, "G/change": 0.2}
    assert_diagnoses(
        model,
        healthy,
        ("G/luma_correlation", -0.6, "color inversion", "model.color=30"),
        ("D/accuracy", 0.999, "critic wins", "optim.D.lr="),
        ("G/change", 0.004, "copies its input", "model.style=5"),
    )
    assert model.diagnose(healthy | {"G/change": 0.004, "G/init": 1.0}) == [], "copying is the task at first"


def test_a_few_steps_lower_the_content_error() -> None:
    model, batch = tiny(channels=8, init="1 epochs"), batch_of(4)
    optimizer = torch.optim.Adam(model.generator.parameters(), 2e-3)
    found: list[Tensor] = []
    for _ in range(25):
        losses = model.generator_loss(batch)
        found.append(losses["content"])
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert found[-1] < 0.9 * found[0]


# ---- bad input and presets ------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match="cannot halve 30 pixels") as odd:
        AnimeGAN(Model(**TINY), replace(SPEC, size=30))
    assert "animegen prepare --photos ./photos --anime ./anime --resolution 28" in str(odd.value.hint)
    with pytest.raises(ConfigError, match="edge_width") as even:
        tiny(edge_width=4)
    assert "odd" in str(even.value.hint)
    with pytest.raises(DataError, match="one domain"):
        tiny().generator_loss(replace(batch_of(), photos=None))
    with pytest.raises(ConfigError, match="counts steps"):
        resolved("animegan", "smoke", "model.init=500 steps")


@pytest.mark.parametrize("preset", ["hayao", "paprika", "shinkai"])
def test_styles_say_whose_pictures_they_take_and_warn_without_vgg19(preset: str) -> None:
    settings = resolved("animegan", preset)
    assert "the style is that of your own anime pictures" in settings.about
    (said,) = settings.model.cautions()
    assert "without VGG19 a game of weight 300" in said
    assert "--set model.features=vgg19.pth" in said
    assert resolved("animegan", preset, "model.features=vgg19.pth").model.cautions() == []
    assert resolved("animegan", "fast").model.cautions() == []


def test_a_training_says_so_before_it_begins(two_domains: Path) -> None:
    words = [*sets("size=16", "model.level=1", *CHAIN["animegan"]), "--dry-run", "--device", "cpu"]
    said = done("train", "animegan", "--preset", "hayao", "--data", two_domains, *words).err
    assert "animegan/hayao: " in said
    assert "your own anime pictures" in said
    assert "warning: without VGG19" in said


def test_runs_that_spell_colour_still_open() -> None:
    found = [resolved("animegan", "hayao", f"model.{word}=7").model for word in ("colour", "color")]
    assert found[0] == found[1]
    assert found[0].color == 7


@pytest.mark.parametrize(
    ("preset", "weights", "shares"),
    [
        ("hayao", (1.5, 2.5, 15, 1), (1.2, 1.2, 1.2, 0.8)),
        ("paprika", (2.0, 0.6, 50, 0.1), (1.0, 1.0, 1.0, 0.005)),
        ("shinkai", (1.2, 2.0, 10, 1), (1.7, 1.7, 1.7, 1.0)),
    ],
)
def test_presets_are_the_authors(preset: str, weights: tuple[float, ...], shares: tuple[float, ...]) -> None:
    settings = resolved("animegan", preset)
    model = settings.model
    assert (model.content, model.style, model.color, model.smoothness) == weights
    assert (model.real, model.fake, model.gray, model.smooth) == shares
    assert (model.adversarial, model.init, model.level, model.features) == (300, "10 epochs", 3, None)
    assert (settings.size, settings.train.batch, settings.train.duration) == (256, 12, "101 epochs")
    assert settings.optim["D"].lr == 4e-5
