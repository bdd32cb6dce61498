"""Hierarchical VAEs: their divergences against hand-worked numbers, three backbones behind one interface, what levels mean."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from pictures import refusal
from preset_config import resolved
from torch import Tensor

from animegen_cli.errors import ConfigError, UsageError
from animegen_cli.model import likelihoods
from animegen_cli.model.families import mhvae
from animegen_cli.model.families.mhvae import MHVAE, MHVAESampling, Model
from animegen_cli.model.family import Batch, DataSpec, Edit
from animegen_cli.model.nets import hierarchy
from animegen_cli.model.nets.hierarchy_build import CNN, MLP, ViT
from animegen_cli.model.nets.hierarchy_cnn import parse_layout
from animegen_cli.model.noise import Noise

SIZE = 16
BACKBONES: dict[str, dict[str, Any]] = {
    "cnn": {
        "backbone": "cnn",
        "mixtures": 3,
        "cnn": CNN(
            width=16, bottleneck=0.5, channels=4, encoder="/1x1,/1d,/2x1,/2d,/4d4,1x1",
            decoder="1x1,4m1,4x1,/2m4,/1m/2,/1p1",
        ),
    },
    "vit": {
        "backbone": "vit", "likelihood": "gaussian",
        "vit": ViT(patch=4, width=32, depth=3, heads=4, latents=(24, 16, 8), tokens=4),
    },
    "mlp": {"backbone": "mlp", "likelihood": "gaussian", "mlp": MLP(widths=(64, 48, 32), latents=(12, 10, 8, 6))},
}  # fmt: skip


def pictures(count: int, seed: int = 0) -> Tensor:
    """Smooth 8-bit images in [-1, 1]: two colors and where they meet."""
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.rand(count, 3, 1, 1, generator=generator) for _ in range(2))
    edge = torch.rand(count, 1, 1, 1, generator=generator)
    left = torch.sigmoid(20 * (torch.linspace(0, 1, SIZE).view(1, 1, 1, -1) - edge)).expand(-1, -1, SIZE, -1)
    return ((first * left + second * (1 - left)) * 255).round() / 127.5 - 1


def shaken(model: MHVAE, scale: float = 0.3) -> MHVAE:
    """Every weight moved, so that no zero initialization hides an effect."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = scale / math.sqrt(max(parameter[0].numel(), 4) if parameter.dim() else 100)
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
    return model.eval()


def build(backbone: str, **more: Any) -> MHVAE:
    torch.manual_seed(0)
    return MHVAE(Model(**{**BACKBONES[backbone], **more}), DataSpec(SIZE, 100))


def noises(model: MHVAE, count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, *shape, generator=generator) for shape in model.decoder.shapes]


# ---- divergences ----------------------------------------------------------------------------------------------


def test_residual_posterior_has_the_divergence_of_nvae() -> None:
    """Vahdat & Kautz 2020, eq. 2: (dm^2 / s_p^2 + ds^2 - ln ds^2 - 1) / 2."""
    generator = torch.Generator().manual_seed(0)
    m, log_s, dm, log_ds = torch.randn(4, 5, 3, 2, 2, generator=generator, dtype=torch.float64).unbind(0)
    posterior = hierarchy.residual_posterior((m, log_s), (dm, log_ds))
    got = mhvae.divergence((*posterior, m, log_s))
    wanted = 0.5 * (dm**2 / (2 * log_s).exp() + (2 * log_ds).exp() - 2 * log_ds - 1)
    assert got.shape == (5, 3)
    torch.testing.assert_close(got, wanted.sum((2, 3)))


def test_free_bits_by_hand() -> None:
    """Channel means over the batch are 0.1, 1 and 0.25; the first is under 0.25, and pays as if it were not."""
    kl = torch.tensor([[0.2, 0.5, 0.0], [0.0, 1.5, 0.5]], requires_grad=True)
    assert mhvae.free_bits(kl, 0.0).item() == pytest.approx(1.35)
    paid = mhvae.free_bits(kl, 0.25)
    assert paid.item() == pytest.approx(1.5)
    assert mhvae.free_bits(kl, 2.0).item() == pytest.approx(6.0)
    paid.backward()
    assert kl.grad is not None
    assert kl.grad[:, 0].tolist() == [0, 0], "a channel under its free bits must not be pushed further down"
    assert kl.grad[:, 1].tolist() == [0.5, 0.5]


def test_balance_by_hand() -> None:
    """Two groups at the coarse scale and one above it: alpha = 1/2, 1/2 and 4, in units of the smallest 1, 1 and 8."""
    kl = torch.tensor([0.99, 2.99, 7.99], requires_grad=True)
    got = mhvae.balance(kl, (0, 0, 1))
    assert got.tolist() == pytest.approx([0.6, 1.8, 0.6])  # 1, 3 and 8/8 over their mean 5/3
    assert not got.requires_grad
    assert mhvae.balance(torch.tensor([1.0, 1.0]), (0, 0)).tolist() == [1, 1]


def test_warm_up_balance_and_beta_weigh_the_loss() -> None:
    model = shaken(build("mlp", warmup="1k images", beta=2.0, balance=True))
    x = pictures(4)

    def losses(seen: int) -> dict[str, float]:
        torch.manual_seed(3)
        return {name: value.item() for name, value in model.loss(Batch(x, images_seen=seen)).items()}

    early, middle, late = losses(0), losses(500), losses(1000)
    assert [part["warmup"] for part in (early, middle, late)] == pytest.approx([1e-4, 0.5, 1.0])
    assert early["kl"] == middle["kl"] == late["kl"], "the log must show the true divergence"
    dims = 3 * SIZE**2
    kls = torch.tensor([late[f"kl_{group:02d}"] for group in range(4)])
    assert late["kl"] == pytest.approx(kls.sum().item(), rel=1e-5)
    assert late["loss"] == pytest.approx((late["reconstruction"] + 2 * late["kl"]) / dims, rel=1e-5)
    small = kls + 0.01  # one scale: gamma_l is k_l over the mean of all k_l
    balanced = (kls * small / small.mean()).sum().item()
    assert middle["loss"] == pytest.approx((middle["reconstruction"] + 2 * 0.5 * balanced) / dims, rel=1e-5)
    assert late["bits_per_dim"] == pytest.approx((late["reconstruction"] + late["kl"]) / dims / math.log(2), rel=1e-5)


# ---- layouts --------------------------------------------------------------------------------------------------


@cache
def on_meta(name: str, size: int = 64) -> MHVAE:
    with torch.device("meta"):
        return MHVAE(resolved("mhvae", name).model, DataSpec(size, 1000))


def test_the_documents_layouts() -> None:
    decoder = on_meta("child2021").decoder
    sizes = [shape[-1] for shape in decoder.shapes]
    assert len(sizes) == 25
    assert {size: sizes.count(size) for size in sizes} == {1: 1, 4: 3, 8: 4, 16: 6, 32: 7, 64: 4}
    assert all(shape == (16, shape[1], shape[1]) for shape in decoder.shapes)
    assert decoder.scales == tuple({1: 0, 4: 1, 8: 2, 16: 3, 32: 4, 64: 5}[size] for size in sizes)
    assert len(parse_layout("1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21", 32, decoder=True)) == 43  # Child's CIFAR-10
    long = "1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x31,64m32,64x12"
    assert len(parse_layout(long, 64, decoder=True)) == 75  # Child's ImageNet at 64 pixels
    down = parse_layout("32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3", 32, decoder=False)
    assert len(down) == 11 + 1 + 6 + 1 + 6 + 1 + 3 + 1 + 3


def test_the_documents_latents_have_slightly_decreasing_sizes() -> None:
    """Document 004, section III.B.2: of every backbone, top first, each group a little smaller than the one above."""
    shapes = {name: on_meta(f"info8010-{name}").decoder.shapes for name in ("cnn", "vit", "mlp")}
    sizes = {name: [math.prod(shape) for shape in of_groups] for name, of_groups in shapes.items()}
    assert sizes == {"cnn": [256, 224, 192, 160], "vit": [256, 224, 192, 160], "mlp": [128, 112, 96, 80]}
    assert [len(shape) for shape in shapes["cnn"]] == [3] * 4, "maps"


def test_groups_may_have_channels_of_their_own() -> None:
    cnn = CNN(width=8, bottleneck=0.5, channels=(6, 2), encoder="8x1,8d,4x1,4d,1x1", decoder="1x1,4m1,8p1")
    model = MHVAE(Model(cnn=cnn, likelihood="gaussian"), DataSpec(8, 10)).eval()
    assert list(model.decoder.shapes) == [(6, 1, 1), (2, 4, 4)]
    drawn = model.sample(Noise([1, 2]), None, MHVAE.Sampling())
    assert drawn.shape == (2, 3, 8, 8)
    images = torch.zeros(2, 3, 8, 8)
    assert [kl.shape for kl in model._bound(images, model._random(images)).divergences] == [(2, 6), (2, 2)]
    with pytest.raises(ConfigError, match=r"has 3 numbers, `model\.cnn\.decoder` 2 groups"):
        MHVAE(Model(cnn=replace(cnn, channels=(6, 2, 1))), DataSpec(8, 10))


def test_one_block_of_the_cnn_by_hand() -> None:
    """Child 2021, authors' code: parameters of a top-down block with width w, bottleneck m and z channels at 8 pixels."""
    cnn = CNN(width=12, bottleneck=0.25, channels=5, encoder="8x1", decoder="8x1")
    model = MHVAE(Model(cnn=cnn, mixtures=2), DataSpec(8, 10))
    w, m, z = 12, 3, 5

    def branch(inputs: int, outputs: int) -> int:
        return inputs * m + m + 2 * (9 * m * m + m) + m * outputs + outputs

    block = branch(w, w + 2 * z) + branch(2 * w, 2 * z) + (z * w + w) + branch(w, w)
    assert sum(p.numel() for p in model.decoder.parameters()) == block + 8 * 8 * w + (w * 20 + 20)
    assert sum(p.numel() for p in model.encoder.parameters()) == (27 * w + w) + branch(w, w)


@pytest.mark.parametrize(
    ("text", "decoder", "says"),
    [
        ("1x1,4m2", True, "does not have"),
        ("1x1,4x2", True, "do not follow"),
        ("4p1,8m4", True, "begin with a group"),
        ("8x1,4m8", True, "do not follow"),
        ("64x4,64d2,16x1", False, "16 pixels do not follow from 64"),
        ("64x4,64d2", False, "ends in pooling"),
        ("64m32", False, "no part of an encoder"),
        ("1x1,1d1", True, "no part of a decoder"),
        ("0x1", True, "no part of a decoder"),
        ("1x0", True, "begin with a group"),
        ("", False, "no part of an encoder"),
    ],
)
def test_bad_layouts(text: str, decoder: bool, says: str) -> None:
    with refusal(says):
        parse_layout(text, 64, decoder=decoder)


# ---- three backbones, one interface ---------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("posterior", ["residual", "direct"])
def test_elbo_is_finite_and_reaches_every_parameter(backbone: str, posterior: str) -> None:
    model = shaken(build(backbone, posterior=posterior))
    losses = model.loss(Batch(pictures(4)))
    assert all(value.shape == () and torch.isfinite(value) for value in losses.values())
    losses["loss"].backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not silent


@pytest.mark.parametrize("backbone", BACKBONES)
def test_priors_begin_as_standard_normal(backbone: str) -> None:
    model = build(backbone)
    with torch.no_grad():
        _, found = model.decoder(noises(model, 2), model.encoder(pictures(2)))
    assert len(found) == len(model.decoder.shapes)
    for (mean_q, log_std_q, mean_p, log_std_p), shape in zip(found, model.decoder.shapes, strict=True):
        assert mean_q.shape == log_std_q.shape == (2, *shape)
        assert mean_p.abs().max() == log_std_p.abs().max() == 0


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_bound_is_the_sum_of_its_parts(backbone: str) -> None:
    """bits_per_dim against likelihood and divergences, computed here row by row from the networks' answers."""
    model, x = shaken(build(backbone)), pictures(3)
    got = model.bits_per_dim(x, Noise([5, 6, 7]))
    for row, seed in enumerate((5, 6, 7)):
        noise = Noise([seed])
        drawn = [noise(*shape) for shape in model.decoder.shapes]
        output, found = model.decoder(drawn, model.encoder(model._normalized(x[row : row + 1])))
        kl = sum(
            torch.distributions.kl_divergence(
                torch.distributions.Normal(a, b.exp()), torch.distributions.Normal(c, d.exp())
            ).sum()
            for a, b, c, d in found
        )
        if backbone == "cnn":
            nats = likelihoods.discretized_logistic_mixture_nll(x[row : row + 1], output, mixtures=3)[0]
        else:
            inside = x[row] + (2 * torch.special.ndtr(noise(3, SIZE, SIZE)[0]) - 1) / 255
            mean, log_std = output[0].chunk(2)
            assert log_std.unique().numel() == 1, "one deviation for all pixels"
            density = torch.distributions.Normal(mean, log_std.exp()).log_prob(inside).sum()
            nats = -density + 3 * SIZE**2 * math.log(127.5)
        assert got[row].item() == pytest.approx(((nats + kl) / (3 * SIZE**2 * math.log(2))).item(), rel=1e-4)


# ---- levels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
def test_lower_groups_count_only_where_asked_for(backbone: str) -> None:
    model = shaken(build(backbone))
    model.requires_grad_(False)
    first, second = Noise([1, 2]), Noise([3, 4])
    count = len(model.decoder.shapes)
    for cut in range(1, count):
        mixed = [
            model.mix(Noise([1, 2]), Noise(other), None, MHVAESampling(levels=cut), cut) for other in ([3, 4], [5, 6])
        ]
        assert torch.equal(*mixed), f"with {cut} levels only the top {cut} groups may count"
        free = [model.mix(Noise([1, 2]), Noise(other), None, MHVAESampling(), cut) for other in ([3, 4], [5, 6])]
        assert not torch.equal(*free)
        assert torch.equal(mixed[0], model.sample(Noise([1, 2]), None, MHVAESampling(levels=cut)))
    whole = model.sample(first, None, MHVAESampling())
    assert first.draws == count, "one call per group"
    assert torch.equal(whole, model.mix(Noise([1, 2]), second, None, MHVAESampling(), count))
    assert torch.equal(
        model.sample(Noise([3, 4]), None, MHVAESampling()),
        model.mix(Noise([1, 2]), Noise([3, 4]), None, MHVAESampling(), 0),
    )
    assert torch.equal(whole, model.sample(Noise([1, 2]), None, MHVAESampling(levels=count)))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_temperature_zero_is_one_image(backbone: str) -> None:
    model = shaken(build(backbone))
    cold = model.sample(Noise([1, 2, 3]), None, MHVAESampling(temperature=0.0))
    torch.testing.assert_close(cold[1:], cold[:1].expand(2, -1, -1, -1), rtol=0, atol=1e-4)
    assert not torch.allclose(*model.sample(Noise([1, 2]), None, MHVAESampling()))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_rows_are_functions_of_their_own_noise_and_image(backbone: str) -> None:
    model, x = shaken(build(backbone)), pictures(3)
    together = model.translate(x, Noise([1, 2, 3]), Edit(noise=0.2, levels=2), MHVAESampling())
    alone = model.translate(x[1:2], Noise([2]), Edit(noise=0.2, levels=2), MHVAESampling())
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.translate(x, Noise([1, 2, 3]), Edit(), MHVAESampling()), model.reconstruct(x))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_levels_of_an_encoded_image(backbone: str) -> None:
    """With the top k groups from the image, groups below take the prior's mean: fewer levels, another image."""
    model, x = shaken(build(backbone)), pictures(2)
    count = len(model.decoder.shapes)
    steps = [model.translate(x, Noise([0, 1]), Edit(levels=k), MHVAESampling()) for k in range(1, count + 1)]
    torch.testing.assert_close(steps[-1], model.reconstruct(x))
    assert all(not torch.allclose(a, b) for a, b in pairwise(steps))


def test_levels_that_do_not_exist() -> None:
    model = build("mlp")
    for call in (
        lambda: model.sample(Noise([0]), None, MHVAESampling(levels=5)),
        lambda: model.translate(pictures(1), Noise([0]), Edit(levels=5), MHVAESampling()),
        lambda: model.translate(pictures(1), Noise([0]), Edit(levels=0), MHVAESampling()),
        lambda: model.mix(Noise([0]), Noise([1]), None, MHVAESampling(), 5),
    ):
        with refusal("4 groups of latents", UsageError):
            call()


# ---- learning -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_short_fit_reconstructs_and_denoises(backbone: str) -> None:
    model, x = build(backbone), pictures(64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.9))
    torch.manual_seed(0)
    for step in range(100):
        losses = model.loss(Batch(x[(step % 2) * 32 :][:32], images_seen=step * 32))
        optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval().requires_grad_(False)
    plain = (x - x.mean(0)).square().mean()
    assert (model.reconstruct(x) - x).square().mean() < 0.5 * plain
    torch.manual_seed(0)
    figures = model.validate(Batch(x))
    assert next(iter(figures)) == "bits_per_dim"
    assert figures["bits_per_dim"] < 8, "no better than to say that all 256 values are equally likely"
    noisy = x + 0.5 * Noise(list(range(64)))(3, SIZE, SIZE)
    cleaned = model.translate(x, Noise(list(range(64))), Edit(noise=0.5), MHVAESampling())
    assert (cleaned - x).square().mean() < 0.7 * (noisy - x).square().mean()


def test_the_doctor_sees_a_collapse() -> None:
    healthy = {"model/warmup": 1.0, **{f"model/kl_{group:02d}": 3.0 for group in range(4)}}
    model = build("mlp")
    assert model.diagnose(healthy) == ()
    ill = healthy | {f"model/kl_{group:02d}": 0.002 for group in (1, 2, 3)}
    (finding,) = model.diagnose(ill)
    assert finding.name == "posterior collapse"
    assert "3 of 4" in finding.says
    assert model.diagnose(ill | {"model/warmup": 0.4}) == (), "the warm-up is not over"
    flag = finding.flag.removeprefix("--set ")
    assert resolved("mhvae", "smoke", flag).model.free_bits > 0
    (again,) = build("mlp", free_bits=0.25).diagnose(ill)
    assert resolved("mhvae", "smoke", again.flag.removeprefix("--set ")).model.beta < 1


# ---- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "size", "says"),
    [
        ({"cnn": CNN(encoder="64x1", decoder="64x1")}, 32, "laid out for 64 pixels, the images have 32"),
        ({"cnn": CNN(encoder="/1x1", decoder="1x1,/1m1")}, 32, "has no feature"),
        ({"backbone": "vit", "vit": ViT(patch=7)}, 32, "no multiple of patches"),
        ({"backbone": "vit", "vit": ViT(heads=7)}, 32, "does not split into 7 heads"),
        ({"backbone": "vit", "vit": ViT(latents=(20, 18), tokens=4)}, 32, "a vector of 18"),
        ({"backbone": "mlp"}, 32, "102,400 numbers wide"),
    ],
)
def test_what_does_not_fit_is_refused(model: dict[str, Any], size: int, says: str) -> None:
    with refusal(says):
        MHVAE(Model(**model), DataSpec(size, 10))


def test_a_warm_up_in_steps_is_refused() -> None:
    with pytest.raises(ConfigError, match="say images or epochs"):
        resolved("mhvae", "smoke", "model.warmup=100 steps")
    assert MHVAE(resolved("mhvae", "smoke", "model.warmup=3 epochs").model, DataSpec(16, 200)).warmup == 600
