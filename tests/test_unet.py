"""Networks: equal to diffusers' with the same weights, and to the documents' own description."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animegen_cli.errors import ConfigError
from animegen_cli.model.families.ddim import DDIM, NormalizedBlock, ResidualUNet
from animegen_cli.model.families.ddpm import DDPM
from animegen_cli.model.family import DataSpec
from animegen_cli.model.nets import unet_diffusers
from animegen_cli.model.nets.unet import Block, UNet, attending
from animegen_cli.sample.trained import for_inference

if TYPE_CHECKING:
    from collections.abc import Callable

Net = TypeVar("Net", bound=nn.Module)


def shaken(net: Net, scale: float = 0.2) -> Net:
    """Every weight moved, so that no zero initialization hides a difference; in float64, where no CPU sums otherwise."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=generator) * scale / math.sqrt(max(parameter[0].numel(), 4))
            )
    return net.double().eval()


def images(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed)).double()


# ---- the same weights in diffusers ----------------------------------------------------------------------------


def same_in_diffusers(channels: tuple[int, ...], size: int, attention: tuple[int, ...], **options: Any) -> nn.Module:
    from diffusers import UNet2DModel

    attends = [size // 2**level in attention for level in range(len(channels))]
    net: Any = UNet2DModel(
        sample_size=size, block_out_channels=channels,
        down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
        **options,
    )  # fmt: skip
    assert isinstance(net, nn.Module)
    return net


HO_IN_DIFFUSERS: dict[str, Any] = {
    "flip_sin_to_cos": False, "freq_shift": 1, "norm_eps": 1e-6, "downsample_padding": 0, "attention_head_dim": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("channels", "size", "attention", "blocks", "head_width", "layout"),
    [
        ((32, 64), 16, (8,), 1, 8, "diffusers"),
        ((32, 64, 96), 32, (16, 8), 2, 8, "diffusers"),
        ((32, 32, 64), 24, (), 2, 16, "diffusers"),
        ((32, 64, 64), 32, (16,), 2, None, "ho"),
        ((32, 64), 18, (18,), 1, None, "ho"),
    ],
)
def test_equals_diffusers(
    channels: tuple[int, ...], size: int, attention: tuple[int, ...], blocks: int, head_width: int | None, layout: str
) -> None:
    options: dict[str, Any] = {"attention_head_dim": head_width} if layout == "diffusers" else HO_IN_DIFFUSERS
    theirs = shaken(same_in_diffusers(channels, size, attention, layers_per_block=blocks, norm_num_groups=8, **options))
    ours = UNet(
        channels,
        attending(size, len(channels), attention),
        blocks=blocks,
        head_width=head_width,
        groups=8,
        diffusers=layout == "diffusers",
    )
    ours.double().eval()
    ours.load_state_dict(unet_diffusers.from_tensors(ours, theirs.state_dict(), classes=False))
    x = images(3, size)
    time = torch.tensor([0, 17, 999])
    with torch.no_grad():
        expected = theirs(x, time).sample
        got = ours(x, time)
    assert expected.std() > 0.05
    # Both embed the time in float32, where an angle of 999 is known to 6e-5.
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "size", "attention", "layout", "count"),
    [
        ((128, 256, 256, 256), 32, (16,), "ho", 35_746_307),
        ((128, 128, 256, 256, 512, 512), 256, (16,), "ho", 113_673_219),
        ((128, 256, 512, 512), 128, (32, 16), "diffusers", 106_380_035),
        ((128, 256, 512, 512), 128, (16,), "diffusers", 101_121_795),
    ],
)
def test_full_sizes_have_as_many_parameters_as_diffusers(
    channels: tuple[int, ...], size: int, attention: tuple[int, ...], layout: str, count: int
) -> None:
    options: dict[str, Any] = HO_IN_DIFFUSERS if layout == "ho" else {}
    with torch.device("meta"):
        theirs = same_in_diffusers(channels, size, attention, **options)
        ours = UNet(channels, attending(size, len(channels), attention), diffusers=layout == "diffusers")
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) == count


# ---- the U-Net itself -----------------------------------------------------------------------------------------


def small(**options: Any) -> UNet:
    return UNet((16, 32), (False, True), blocks=1, groups=8, **options)


def blocks_of(net: UNet) -> list[Block]:
    return [layer for layer in [*net.down, *net.middle, *net.up] if isinstance(layer, Block)]


@pytest.mark.parametrize("layout", [False, True])
def test_starts_at_zero_with_quiet_branches(layout: bool) -> None:
    """Ho et al. 2020: the last convolution and the end of every residual branch begin at zero."""
    net = small(diffusers=layout)
    assert (net(images(2, 16).float(), torch.tensor([3, 900])) == 0).all()
    last = [layer.res.conv2 for layer in blocks_of(net)]
    last += [layer.attention.out for layer in blocks_of(net) if layer.attention is not None]
    assert len(last) == 8 + 4
    assert all((parameter == 0).all() for layer in last for parameter in layer.parameters())


def test_initial_weights_have_the_variance_of_ho() -> None:
    """Fan-average uniform: variance 2 / (fan in + fan out)."""
    torch.manual_seed(0)
    block = UNet((64, 128), (False, False), groups=8).down[3]
    assert isinstance(block, Block)
    (weight, _) = block.res.conv1.parameters()
    assert weight.shape == (128, 64, 3, 3)
    bound = math.sqrt(6 / (9 * 64 + 9 * 128))
    assert float(weight.detach().var()) == pytest.approx(bound**2 / 3, rel=0.02)
    assert float(weight.detach().abs().max()) == pytest.approx(bound, rel=0.01)


def test_fractional_times_lie_between() -> None:
    net = shaken(small())
    x = images(1, 16)
    with torch.no_grad():
        low, middle, high = (net(x, torch.tensor([time])) for time in (40.0, 40.5, 41.0))
    assert (low - high).abs().max() > 1e-4
    assert (middle - low).norm() < (high - low).norm()
    assert (middle - high).norm() < (high - low).norm()


def test_images_of_a_batch_do_not_mix() -> None:
    net = shaken(small(dropout=0.5))
    x, time = images(4, 16), torch.tensor([5, 100, 700, 999])
    with torch.no_grad():
        together = net(x, time)
        alone = torch.cat([net(x[i : i + 1], time[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_dropout_acts_in_training_only() -> None:
    net = shaken(small(dropout=0.5))
    x, time = images(2, 16), torch.tensor([5, 100])
    assert torch.equal(net(x, time), net(x, time))
    net.train()
    assert not torch.equal(net(x, time), net(x, time))


def test_drawing_in_bf16_lays_maps_out_for_what_reads_them() -> None:
    """Convolutions are fastest in channels_last, GroupNorm of small maps is slow there."""
    model = DDPM(DDPM.Config(channels=16, multipliers=(1, 2), groups=4, attention=(16,)), DataSpec(32, 4))
    shaken(model.unet).float()
    x, time = images(2, 32).float(), torch.tensor([5, 100])
    with torch.no_grad():
        exact = model.unet(x, time)
        net: Any = for_inference(model, device=torch.device("cpu"), precision="bf16").unet
        seen: dict[tuple[type, int], set[bool]] = {}

        def note(part: nn.Module, inputs: tuple[Tensor]) -> None:
            plain = inputs[0].is_contiguous()
            seen.setdefault((type(part), inputs[0].shape[-1]), set()).add(plain)

        for part in net.modules():
            if isinstance(part, nn.GroupNorm | nn.Conv2d):
                part.register_forward_pre_hook(note)
        rough = net(x, time)
    assert seen[nn.GroupNorm, 16] == {True}
    assert seen[nn.GroupNorm, 32] == {False}
    assert seen[nn.Conv2d, 16] == {False}
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.03 < exact.std()


def test_labels() -> None:
    net = shaken(small(classes=(3, 2)), 1.0)
    x, time = images(1, 16), torch.tensor([500])
    with torch.no_grad():
        answers = {
            (one, two): net(x, time, torch.tensor([[one, two]])) for one in (-1, 0, 1, 2) for two in (-1, 0, 1)
        }  # fmt: skip
        unknown = net(x, time)
    assert torch.equal(unknown, answers[-1, -1])
    found = list(answers.values())
    for index, answer in enumerate(found):
        assert all((answer - other).abs().max() > 1e-3 for other in found[:index])


def test_middle_attends_even_without_attention_elsewhere() -> None:
    net = UNet((16, 16), (False, False), blocks=1, groups=8)
    assert [layer.attention is not None for layer in net.middle if isinstance(layer, Block)] == [True, False]
    assert sum(layer.attention is not None for layer in blocks_of(net)) == 1


# ---- document 001's network -----------------------------------------------------------------------------------


def residual(attention: int = 0) -> ResidualUNet:
    return ResidualUNet((16, 32, 48), 2, noise_dims=8, max_frequency=1000.0, attention=attention)


@pytest.mark.parametrize("attention", [0, 2])
def test_residual_unet_starts_at_zero_and_keeps_the_shape(attention: int) -> None:
    net = residual(attention)
    for size in (16, 20):
        got = net(images(2, size).float(), torch.tensor([0.1, 0.9]))
        assert got.shape == (2, 3, size, size)
        assert (got == 0).all()


def test_batch_norm_is_that_of_keras_and_has_no_weights() -> None:
    norms = [module for module in DDIM(DDIM.Config(), DataSpec(64, 10)).modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 14
    assert {(norm.eps, norm.momentum, norm.affine, norm.track_running_stats) for norm in norms} == {
        (1e-3, 0.01, False, True)
    }
    assert sum(buffer.numel() for norm in norms for buffer in norm.buffers() if buffer.dim()) == 2880


def test_running_statistics_follow_the_input() -> None:
    block = NormalizedBlock(16, 16, attention=False).double()
    x = torch.randn(8, 16, 4, 4, generator=torch.Generator().manual_seed(1)).double() * 3 + 2
    block.train()(x)
    assert block.norm.running_mean is not None
    assert block.norm.running_var is not None
    torch.testing.assert_close(block.norm.running_mean, 0.01 * x.mean((0, 2, 3)))
    torch.testing.assert_close(block.norm.running_var, 0.99 + 0.01 * x.transpose(0, 1).flatten(1).var(1))
    before = block.norm.running_mean.clone()
    block.eval()(x)
    assert torch.equal(block.norm.running_mean, before)


def test_residual_unet_by_hand() -> None:
    """The Keras DDIM example's network of one level and one block, written out."""
    net = shaken(ResidualUNet((16, 24), 1, noise_dims=8, max_frequency=8.0, attention=0), 1.0)
    x, variance = images(2, 8), torch.tensor([0.3, 0.8])
    frequencies = torch.tensor([1.0, 2.0, 4.0, 8.0])
    angles = 2 * math.pi * frequencies * variance[:, None]
    time_embedding = torch.cat([angles.sin(), angles.cos()], 1)[:, :, None, None].expand(2, 8, 8, 8)

    def block(name: str, h: Tensor) -> Tensor:
        layer = net.get_submodule(name)
        assert isinstance(layer, NormalizedBlock)
        residue = layer.skip(h)
        return residue + layer.conv2(
            F.silu(layer.conv1(h / math.sqrt(1 + 1e-3)))
        )  # fresh statistics: mean 0, variance 1

    with torch.no_grad():
        skip = block("down.0.0", torch.cat([net.stem(x), time_embedding], 1))
        h = block("middle.0", F.avg_pool2d(skip, 2))
        h = F.interpolate(h, size=(8, 8), mode="bilinear", align_corners=False)
        h = block("up.0.0", torch.cat([h, skip], 1))
        torch.testing.assert_close(net(x, variance), net.head(h), rtol=1e-4, atol=1e-4)


def test_residual_unet_sees_the_noise_level() -> None:
    net = shaken(residual(), 1.0)
    x = images(1, 16)
    with torch.no_grad():
        assert (net(x, torch.tensor([0.2])) - net(x, torch.tensor([0.7]))).abs().max() > 1e-3


# ---- what cannot be built -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message", "hint"),
    [
        (lambda: DDPM(DDPM.Config(), DataSpec(60, 10)), "60 pixels cannot be halved 3 times", "a multiple of 8"),
        (lambda: DDIM(DDIM.Config(), DataSpec(36, 10)), "36 pixels cannot be halved 3 times", "a multiple of 8"),
        (lambda: DDPM(DDPM.Config(channels=40), DataSpec(64, 10)), "40 channels do not split into 32 groups", "model.groups"),
        (lambda: DDPM(DDPM.Config(head_width=48), DataSpec(64, 10)), "heads of 48", "model.head_width"),
        (
            lambda: DDPM(DDPM.Config(labels=("hiar",)), DataSpec(64, 10, attributes={"hair": ("pink",), "eyes": ("red",)})),
            "no label `hiar`", "did you mean `hair`?",
        ),
        (lambda: DDPM(DDPM.Config(labels=("hair",)), DataSpec(64, 10)), "no label `hair`", "it has no labels"),
    ],
)  # fmt: skip
def test_refusals_say_what_to_change(build: Callable[[], object], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
