"""StyleGAN2's parts against slow, plain formulas in float64; its regularizers, its drawing and its presets."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from preset_config import resolved
from torch import Tensor

from animegen_cli.errors import ConfigError
from animegen_cli.model.adversarial import squared_gradient
from animegen_cli.model.families import stylegan2
from animegen_cli.model.families.stylegan2 import Model, StyleGAN2, StyleGAN2Sampling
from animegen_cli.model.family import Batch, DataSpec
from animegen_cli.model.nets import style
from animegen_cli.model.noise import Noise
from animegen_cli.sample.trained import for_inference, inference_state

TAPS = [1.0, 3.0, 3.0, 1.0]
SMALL: dict[str, Any] = {"width": 16, "channel_base": 128, "channel_max": 16}
HAIR: dict[str, tuple[str, ...]] = {"hair": ("pink", "blue", "aqua")}


def small(size: int = 16, attributes: dict[str, tuple[str, ...]] | None = None, **settings: Any) -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(Model(**SMALL | settings), DataSpec(size, 100, attributes=attributes or {}))


def alive(model: StyleGAN2) -> StyleGAN2:
    """Noise inputs start without effect; here they have one."""
    for name, parameter in model.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    return model


def in_range(model: StyleGAN2) -> StyleGAN2:
    """Colors that need no clamping, which no gradient passes."""
    for layer in model.synthesis.colours:
        assert isinstance(layer, style.ToRGB)
        layer.weight.data.mul_(0.2)
    return model


def batch_of(count: int = 4, size: int = 16, labels: Tensor | None = None, seen: int = 0) -> Batch:
    torch.manual_seed(9)
    return Batch(torch.rand(count, 3, size, size) * 2 - 1, labels=labels, images_seen=seen)


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# ---- filters and convolutions -----------------------------------------------------------------------------------


def plainly_upsampled(x: Tensor) -> Tensor:
    """Zeros between the pixels, then every tap by hand."""
    count, channels, height, width = x.shape
    out = torch.zeros(count, channels, 2 * height, 2 * width, dtype=x.dtype)
    for i in range(height):
        for j in range(width):
            for a, first in enumerate(TAPS):
                for b, second in enumerate(TAPS):
                    row, column = 2 * i + a - 1, 2 * j + b - 1
                    if 0 <= row < 2 * height and 0 <= column < 2 * width:
                        out[:, :, row, column] += x[:, :, i, j] * first * second / 16
    return out


def test_upsampling_is_the_plain_filter() -> None:
    torch.manual_seed(0)
    x = doubles(2, 3, 4, 5)
    torch.testing.assert_close(style.upsample(x), plainly_upsampled(x))


def test_downsampling_is_the_plain_filter() -> None:
    torch.manual_seed(0)
    x, layer = doubles(1, 2, 6, 6), style.Conv(2, 2, 1, down=True, active=False).double()
    layer.weight.data = torch.eye(2, dtype=torch.float64)[:, :, None, None] / layer.scale
    padded, wanted = F.pad(x, [1] * 4), torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            for a, first in enumerate(TAPS):
                for b, second in enumerate(TAPS):
                    wanted[:, :, i, j] += padded[:, :, 2 * i + a, 2 * j + b] * first * second / 64
    torch.testing.assert_close(layer(x), wanted)


@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolution_is_the_one_with_weights_per_image(up: bool) -> None:
    """Karras et al. 2020a, eq. 1 and 3, image by image."""
    torch.manual_seed(0)
    layer = style.StyledConv(5, 7, 6, up=up).double()
    layer.bias.data.normal_()
    assert layer.noise_strength is not None
    layer.noise_strength.data.fill_(0.4)
    x, w = doubles(3, 5, 4, 4), doubles(3, 6)
    noise = doubles(3, 1, 8, 8) if up else doubles(3, 1, 4, 4)
    found = layer(x, w, noise)
    for image in range(3):
        s = layer.style.weight @ w[image] / math.sqrt(6) + layer.style.bias
        weight = layer.weight / math.sqrt(45) * s[:, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:  # zeros between the pixels, the filter, the full-size convolution; borders wide enough for all
            spread = torch.zeros(1, 5, 14, 14, dtype=torch.float64)
            spread[:, :, 3:11:2, 3:11:2] = x[image]
            taps = torch.tensor(TAPS, dtype=torch.float64) / 4
            spread = F.conv2d(spread, torch.outer(taps, taps).expand(5, 1, 4, 4), groups=5)
            y = F.conv2d(spread, weight.flip(2, 3))[:, :, :8, :8]
        else:
            y = F.conv2d(x[image : image + 1], weight, padding=1)
        y = y + 0.4 * noise[image] + layer.bias[:, None, None]
        torch.testing.assert_close(found[image : image + 1], F.leaky_relu(y, 0.2) * math.sqrt(2))


def test_colors_are_modulated_without_demodulation() -> None:
    torch.manual_seed(0)
    layer = style.ToRGB(5, 6).double()
    x, w = doubles(2, 5, 4, 4), doubles(2, 6)
    for image in range(2):
        s = layer.style.weight @ w[image] / math.sqrt(6) + 1
        wanted = F.conv2d(x[image : image + 1], layer.weight / math.sqrt(5) * s[:, None, None])
        torch.testing.assert_close(layer(x, w)[image : image + 1], wanted)


@pytest.mark.parametrize(
    ("count", "group", "batches", "expected"), [(8, 4, 1, 4), (8, 4, 2, 4), (12, 4, 2, 3), (6, 32, 2, 3)]
)
def test_minibatch_deviation(count: int, group: int, batches: int, expected: int) -> None:
    torch.manual_seed(0)
    x = doubles(count, 3, 2, 2)
    found = style.minibatch_std(x, group, batches)
    assert torch.equal(found[:, :3], x)
    for start in range(0, count, expected):
        members = x[start : start + expected]
        total = 0.0
        for number in members.flatten(1).t():
            total += math.sqrt(float(((number - number.mean()) ** 2).mean()) + 1e-8)
        wanted = torch.full((expected, 1, 2, 2), total / 12, dtype=torch.float64)
        torch.testing.assert_close(found[start : start + expected, 3:], wanted)


def test_an_equalized_rate_moves_the_mapping_a_hundredth() -> None:
    torch.manual_seed(0)
    moved = []
    for rate in (1.0, 0.01):
        layer = style.Dense(64, 64, rate=rate)
        before = layer.weight.detach() * layer.scale
        assert float(before.std() * 8) == pytest.approx(1, rel=0.05)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.001)
        layer(torch.randn(8, 64)).square().sum().backward()
        optimizer.step()
        moved.append(float((layer.weight.detach() * layer.scale - before).abs().mean()))
    assert moved[1] == pytest.approx(moved[0] / 100, rel=0.01)


def test_the_critic_starts_at_unit_variance() -> None:
    torch.manual_seed(0)
    block = style.CriticBlock(64, 64, residual=True)
    assert float(block.conv1(torch.randn(4, 64, 16, 16)).detach().square().mean()) == pytest.approx(1, rel=0.15)


# ---- sizes ------------------------------------------------------------------------------------------------------


def test_parameter_counts_of_auto_at_64() -> None:
    with torch.device("meta"):
        model = StyleGAN2(resolved("stylegan2", "auto").model, DataSpec(64, 100))
    count = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    assert count["mapping"] + count["synthesis"] == 22_243_608
    assert count["critic"] == 23_407_361
    assert model.synthesis.codes == 10


@pytest.mark.parametrize("size", [16, 32, 48, 64, 256])
def test_sizes(size: int) -> None:
    with torch.device("meta"):
        model = StyleGAN2(Model(**SMALL), DataSpec(size, 100))
        ws = torch.zeros(2, model.synthesis.codes, 16)
        images = model.synthesis(ws, model.noise_maps(2, torch.device("meta")))
        assert images.shape == (2, 3, size, size)
        assert model.critic(images).shape == (2, 1)


@pytest.mark.parametrize("size", [14, 100, 8])
def test_sizes_that_do_not_double_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=f"{size} pixels") as error:
        small(size)
    assert "animegen prepare ./faces --resolution 64" in str(error.value.hint)


def test_gamma_grows_with_the_pixels() -> None:
    assert small(32, r1=0.02, r1_at=64).r1 == pytest.approx(0.005)
    assert small(32, r1=0.02).r1 == 0.02


# ---- regularization ---------------------------------------------------------------------------------------------


def test_path_lengths_of_a_linear_generator() -> None:
    """|J^T y| with the explicit Jacobian, for a map that differs between the codes."""
    torch.manual_seed(0)
    maps = doubles(3, 4, 3 * 2 * 2)  # codes, width, pixels
    ws = doubles(5, 3, 4).requires_grad_()
    images = torch.einsum("bcw,cwp->bp", ws, maps).view(5, 3, 2, 2)
    torch.manual_seed(1)
    found = stylegan2.path_lengths(images, ws)
    torch.manual_seed(1)
    y = torch.randn(5, 3, 2, 2, dtype=torch.float64).flatten(1) / 2  # sqrt(height * width)
    for image in range(5):
        per_code = [float((maps[code] @ y[image]).square().sum()) for code in range(3)]
        assert float(found[image]) == pytest.approx(math.sqrt(sum(per_code) / 3))


def test_the_mean_length_moves_once_per_step() -> None:
    mean = stylegan2.PathMean(0.1)
    assert float(mean.observe(torch.tensor([1.0, 3.0, 5.0, 7.0]), 0)) == 0
    mean.observe(torch.tensor([1.0, 3.0, 5.0, 7.0]), 0)  # the step is taken again
    assert float(mean.observe(torch.tensor([9.0]), 4)) == pytest.approx(0.4)
    assert float(mean.observe(torch.tensor([0.0]), 8)) == pytest.approx(0.4 + 0.1 * (9 - 0.4))


def test_the_gradient_penalty_is_that_of_a_known_critic() -> None:
    """D(x) = <a, x>^2 / 2 has |grad|^2 = <a, x>^2 |a|^2; the phase multiplies by gamma / 2 and its interval."""
    torch.manual_seed(0)
    a, x = doubles(3, 4, 4), doubles(5, 3, 4, 4).requires_grad_()
    inner = (a * x).sum((1, 2, 3))
    found = squared_gradient(inner.square() / 2, x)
    torch.testing.assert_close(found, inner.square() * a.square().sum())
    model = small(r1=0.8, r1_every=8)
    losses = model.gradient_penalty(batch_of())
    assert losses["loss"].item() == pytest.approx(losses["penalty"].item() * 0.4 * 8)


def test_the_penalty_is_taken_through_the_augmentation() -> None:
    """By finite differences of the augmented critic along its own gradient."""
    model = small(ada_start=1.0).double()
    assert model.ada is not None
    model.ada.taps = model.ada.taps.double()
    images = batch_of(2).images.double()

    def logit(x: Tensor) -> Tensor:
        torch.manual_seed(5)
        return model.critic(model._augmented(x)).sum()

    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(logit(x), x, create_graph=True)
    direction = gradient.detach() / gradient.detach().norm()
    slope = (logit(images + 1e-5 * direction) - logit(images - 1e-5 * direction)) / 2e-5
    assert float(slope.detach()) == pytest.approx(float(gradient.detach().norm()), rel=1e-4)
    gradient.square().sum().backward()
    assert all(p.grad is not None for p in model.critic.blocks.parameters() if p.dim() > 1)


def test_phases_follow_the_weights() -> None:
    assert [(p.name, p.every, p.shares, p.exact) for p in small().phases()] == [
        ("G", 1, None, False), ("G_reg", 4, "G", True), ("D", 1, None, False), ("D_reg", 16, "D", True),
    ]  # fmt: skip
    assert [p.name for p in small(path_length=0.0, r1=0.0).phases()] == ["G", "D"]


def test_the_critic_sees_the_generators_images_and_labels() -> None:
    model = small(attributes=HAIR, ada=False, label_drop=0.0)
    wished = torch.tensor([[0], [1], [2], [-1]])
    batch = batch_of(labels=wished)
    model.generator_loss(batch)
    losses = model.critic_loss(batch)
    images, labels = model.drawn.get(0), model.requested.get(0)
    assert torch.equal(labels, wished)
    wanted = [model.critic(x, labels).mean().item() for x in (batch.images, images)]
    assert [losses["real"].item(), losses["fake"].item()] == pytest.approx(wanted, rel=1e-3, abs=1e-4)


# ---- labels -----------------------------------------------------------------------------------------------------


def test_labels_matter_and_unknown_ones_are_the_zero_embedding() -> None:
    model = small(attributes=HAIR).eval()
    assert model.conditions == ("hair",)
    draw = [
        model.sample(Noise([1]), None if label is None else torch.tensor([[label]]), StyleGAN2Sampling())
        for label in (None, -1, 0, 1)
    ]
    assert torch.equal(draw[0], draw[1])
    assert not torch.allclose(draw[1], draw[2])
    assert not torch.allclose(draw[2], draw[3])
    images = batch_of(1).images
    logits = [model.critic(images, torch.tensor([[label]])).item() for label in (-1, 0)]
    assert logits[0] == pytest.approx(model.critic(images).item())
    assert logits[0] != pytest.approx(logits[1])


# ---- drawing ----------------------------------------------------------------------------------------------------


def test_rows_depend_on_their_seed_alone() -> None:
    model = alive(small()).eval()
    with torch.no_grad():
        together = model.sample(Noise([3, 4, 5]), None, StyleGAN2Sampling())
        alone = model.sample(Noise([4]), None, StyleGAN2Sampling())
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-4)


def test_truncation_draws_towards_the_mean() -> None:
    model = alive(small()).eval()
    model.mapping.w_avg.copy_(torch.randn(16))
    with torch.no_grad():
        w = model._code(Noise([1, 2]), None)
        half = model._truncated(w, StyleGAN2Sampling(truncation=0.5))
        torch.testing.assert_close(half[:, 0], (w + model.mapping.w_avg) / 2)
        cut = model._truncated(w, StyleGAN2Sampling(truncation=0.0, truncation_cutoff=2))
        torch.testing.assert_close(cut[:, :2], model.mapping.w_avg.expand(2, 2, 16))
        torch.testing.assert_close(cut[:, 2:], w[:, None].expand(2, 4, 16))
        mean = model.sample(Noise([1, 2]), None, StyleGAN2Sampling(truncation=0.0, noise="const"))
    torch.testing.assert_close(mean[0], mean[1])


def test_noise_inputs() -> None:
    model = alive(small()).eval()
    with torch.no_grad():
        random, const, none = (
            model.sample(Noise([1, 2]), None, sampling)
            for sampling in (
                StyleGAN2Sampling(noise="random"), StyleGAN2Sampling(noise="const"), StyleGAN2Sampling(noise="none"),
            )
        )  # fmt: skip
        muted = small().eval().sample(Noise([1, 2]), None, StyleGAN2Sampling())
    assert not torch.allclose(random, const)
    assert not torch.allclose(const, none)
    torch.testing.assert_close(muted, none)  # at strength 0 noise has no effect


def test_without_noise_inputs_w_alone_decides() -> None:
    model = small(noise=False)
    assert not [name for name, _ in model.named_parameters() if name.endswith("noise_strength")]
    drawn = [model.sample(Noise([3]), None, StyleGAN2Sampling(noise=kind)) for kind in ("random", "const", "none")]
    assert drawn[0].equal(drawn[1])
    assert drawn[0].equal(drawn[2])
    assert list(model.exported(StyleGAN2Sampling()).networks[0].inputs) == ["z", "truncation"]
    walk = model.interpolate(Noise([3]), Noise([4]), torch.tensor([0.0, 1.0]), None, StyleGAN2Sampling())
    torch.testing.assert_close(walk, model.sample(Noise([3, 4]), None, StyleGAN2Sampling()))
    found = model.project(drawn[0], Noise([0]), 3, None, None)
    assert found.shape == (1, 3, 16, 16)


def test_a_linear_start_lays_faces_out_by_w() -> None:
    """The first grid is one for all faces, or a linear map of each one's w."""
    torch.manual_seed(0)
    first, second = torch.randn(2, 3, 16)
    for start, same in (("constant", True), ("linear", False)):
        synthesis = small(start=start).synthesis
        grids = [synthesis.first_grid(w) for w in (first, second, first + second, torch.zeros(3, 16))]
        assert grids[0].shape == (3, 16, 4, 4)
        assert grids[0].equal(grids[1]) == same
        torch.testing.assert_close(grids[0] + grids[1], grids[2] + grids[3])


def test_a_mix_takes_both() -> None:
    model = alive(small()).eval()
    sampling = StyleGAN2Sampling()
    with torch.no_grad():
        own, other = (
            model.sample(Noise([1]), None, sampling),
            model.sample(Noise([2]), None, StyleGAN2Sampling(noise="none")),
        )
        assert torch.equal(model.mix(Noise([1]), Noise([2]), None, sampling, cut=model.synthesis.codes), own)
        mixed = model.mix(Noise([1]), Noise([2]), None, sampling)
        swapped = model.mix(Noise([1]), Noise([2]), None, StyleGAN2Sampling(noise="none"), cut=0)
    torch.testing.assert_close(swapped, other)
    assert not torch.allclose(mixed, own)


@pytest.mark.parametrize("noise", ["random", "const", "none"])
def test_a_walk_begins_and_ends_at_the_seeds(noise: Any) -> None:
    model, sampling = alive(small()).eval(), StyleGAN2Sampling(noise=noise)
    with torch.no_grad():
        walk = model.interpolate(Noise([1]), Noise([2]), torch.tensor([0.0, 0.5, 1.0]), None, sampling)
        ends = [model.sample(Noise([seed]), None, sampling)[0] for seed in (1, 2)]
        w = [model._code(Noise([seed]), None) for seed in (1, 2)]
        middle = model.synthesis(((w[0] + w[1]) / 2)[:, None].expand(-1, 6, -1), None).clamp(-1, 1)
    torch.testing.assert_close(walk[0], ends[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(walk[2], ends[1], rtol=0, atol=1e-4)
    if noise == "none":
        torch.testing.assert_close(walk[1:2], middle, rtol=0, atol=1e-4)


def test_projection_finds_an_image_that_it_drew() -> None:
    model = in_range(small()).eval().requires_grad_(False)
    target = model.sample(Noise([5, 6]), None, StyleGAN2Sampling(noise="none"))
    seen: list[int] = []
    found = model.project(target, Noise([1, 2]), 100, None, lambda step, now, goal: seen.append(step))
    middling = target.mean(0, keepdim=True)
    before, after = ((x - target).square().mean() for x in (middling, found))
    assert float(after) < 0.1 * float(before)
    assert seen[0] == 0
    assert seen[-1] == 99
    assert all(p.grad is None for p in model.parameters())


def test_projection_through_networks_in_bf16() -> None:
    target = in_range(small()).eval().sample(Noise([5]), None, StyleGAN2Sampling(noise="none")).detach()
    model = for_inference(in_range(small()), device=torch.device("cpu"), precision="bf16")
    assert isinstance(model, StyleGAN2)
    found = model.project(target, Noise([1]), 60, None, None)
    assert found.dtype == torch.float32
    before = model._image(model._spread(target.device)[0][None], [torch.zeros(1, 1, s, s) for s in (4, 8, 8, 16, 16)])
    assert float((found - target).square().mean()) < 0.5 * float((before - target).square().mean())


def test_what_outlives_a_step_is_state() -> None:
    model = small()
    assert "mapping.w_avg" in inference_state(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for seen in range(0, 24, 4):
        for phase in model.phases():
            phase.loss(batch_of(seen=seen))
    state = model.state_dict()
    changed = {name for name in state if not torch.equal(state[name], before[name])}
    assert changed >= {"mapping.w_avg", "lengths.mean", "ada.signs", "ada.images", "ada.step"}
    other = small()
    other.load_state_dict(state)
    torch.manual_seed(3)
    wanted = model.path_length(batch_of(seen=24))["loss"].detach()
    torch.manual_seed(3)
    torch.testing.assert_close(other.path_length(batch_of(seen=24))["loss"].detach(), wanted)


def test_projection_follows_given_features() -> None:
    model = in_range(small()).eval().requires_grad_(False)
    target = model.sample(Noise([5]), None, StyleGAN2Sampling(noise="none"))
    found = model.project(target, Noise([1]), 60, lambda x: x.mean((2, 3)), None)
    assert float((found.mean((2, 3)) - target.mean((2, 3))).abs().max()) < 0.05


def test_noise_correlation_is_small_for_white_noise_only() -> None:
    torch.manual_seed(0)
    white = torch.randn(2, 1, 64, 64)
    striped = torch.ones(2, 1, 64, 64)
    striped[:, :, ::2] = -1
    assert float(stylegan2.noise_correlation([white]).max()) < 0.1
    # by hand: at 64 px -1 along the columns' axis and 1 along the rows'; after a halving the stripes cancel
    assert float(stylegan2.noise_correlation([striped])[0]) == pytest.approx(2)


# ---- failure ----------------------------------------------------------------------------------------------------


def test_findings() -> None:
    model = small()
    healthy = {"D/loss": 0.9, "D/signs": 0.6, "D/thumbnail_std_ratio": 0.9, "D/ada_p": 0.3}
    assert model.diagnose(healthy) == []
    assert model.diagnose({}) == []
    for change, name in (
        ({"D/loss": 0.01}, "critic wins"),
        ({"D/thumbnail_std_ratio": 0.05}, "mode collapse"),
        ({"D/ada_p": 0.95, "D/signs": 0.8}, "augmentation at its limit"),
    ):
        (finding,) = model.diagnose(healthy | change)
        assert finding.name == name
        assert finding.flag.startswith("--set model.")
    bare = small(ada=False)
    assert bare.diagnose(healthy) == []
    (finding,) = bare.diagnose(healthy | {"D/signs": 0.95})
    assert (finding.name, finding.flag) == ("critic overfits", "--set model.ada=true")
    assert "98%" in finding.says


def test_thumbnails_vary_with_the_colors_and_not_with_what_is_finer() -> None:
    """Flat images of one gray level each: half the levels' spread is a ratio of 1/2, and stripes of a pixel change nothing."""
    levels = torch.tensor([-0.8, -0.2, 0.4, 0.6]).view(-1, 1, 1, 1)
    real = levels.expand(-1, 3, 16, 16)
    assert float(stylegan2.thumbnail_std_ratio(real / 2 + 0.1, real)) == pytest.approx(0.5)
    assert float(stylegan2.thumbnail_std_ratio(real[:1].expand(4, -1, -1, -1), real)) == pytest.approx(0, abs=1e-4)
    stripes = torch.ones(16)
    stripes[::2] = -1
    fine = torch.tensor([0.1, -0.1, 0.2, -0.3]).view(-1, 1, 1, 1) * stripes
    assert float(stylegan2.thumbnail_std_ratio(real + fine, real)) == pytest.approx(1)


# ---- presets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "size", "batch", "lr", "r1", "half_life", "share", "mapping", "std"),
    [
        ("auto", 64, 32, 0.0025, 0.0256, "10k images", 0.05, 2, 4),
        ("xmu2023", 64, 32, 0.005, 0.0256, "10k images", 0.05, 2, 4),
        ("xmu2023-sane", 64, 32, 0.0025, 0.0256, "10k images", 0.05, 2, 4),
        ("paper256", 256, 64, 0.0025, 1.0, "20k images", None, 8, 8),
        ("cifar", 32, 64, 0.0025, 0.01, "500k images", 0.05, 2, 32),
    ],
)
def test_presets_are_the_papers(
    preset: str,
    size: int,
    batch: int,
    lr: float,
    r1: float,
    half_life: str,
    share: float | None,
    mapping: int,
    std: int,
) -> None:
    found = resolved("stylegan2", preset)
    assert (found.size, found.train.batch, found.train.ema.half_life) == (size, batch, half_life)
    assert found.train.ema.half_life_share == share
    assert (found.model.r1, found.model.mapping, found.model.minibatch_std) == (r1, mapping, std)
    for section in found.optim.values():
        assert (section.lr, section.betas, section.eps) == (lr, (0.0, 0.99), 1e-8)
    assert found.model.channel_base == (32768 if preset == "cifar" else 16384)
    assert (found.model.ada_target, found.model.ada_speed, found.model.ada_every) == (0.6, 500_000, 4)
    assert (found.warning is not None) == (preset == "xmu2023")


def test_cifar_leaves_out_what_the_paper_does() -> None:
    model = resolved("stylegan2", "cifar").model
    assert (model.path_length, model.mixing, model.critic) == (0, 0, "plain")
    with torch.device("meta"):
        critic = StyleGAN2(model, DataSpec(32, 100)).critic
    assert all(block.skip is None for block in critic.blocks)
