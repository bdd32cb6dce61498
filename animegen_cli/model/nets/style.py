"""StyleGAN2's networks: mapping, synthesis with skip connections, residual critic (Karras et al. 2019, 2020).

A modulated convolution is written as: scale the input channels, convolve with the one shared weight, scale the output
channels (Karras et al. 2020, section 2.2 and eq. 1 to 3, where weights are scaled instead; the product is the same). So
no image needs weights of its own and no convolution needs groups.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animegen_cli.model import conditioning
from animegen_cli.model.nets.precision import at_least_float32, full_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOPE = 0.2
"""Of every leaky ReLU for negative numbers."""
GAIN = math.sqrt(2)
"""Keeps the variance through a leaky ReLU (He et al. 2015)."""


def levels_of(size: int) -> tuple[int, int]:
    """Side of the coarsest grid, and number of doublings, for an image size: 4 and 4 for 64, 6 and 4 for 96."""
    doublings = 0
    while size % 2 == 0 and size >= 8:
        size //= 2
        doublings += 1
    return size, doublings


def widths_of(doublings: int, base: int, most: int) -> list[int]:
    """Feature maps per level, coarsest first: base / resolution, at most `most` (Karras et al. 2019, appendix)."""
    return [max(min(base // (4 << level), most), 1) for level in range(doublings + 1)]


def blur(x: Tensor, padding: int) -> Tensor:
    """Filter by [1, 3, 3, 1] / 8 along both axes, zeros outside; (B, C, H, W) -> (B, C, H + 2 padding - 3, ...)."""
    taps = torch.full((4,), 3 / 8, dtype=x.dtype, device=x.device)  # made on the device: a copy would wait for it
    taps[::3] = 1 / 8
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, padding=padding, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    """Double the size of (B, C, H, W) by the filter [1, 3, 3, 1] / 4: bilinear interpolation with zeros outside."""
    x = F.interpolate(F.pad(x, [1] * 4), scale_factor=2.0, mode="bilinear", align_corners=False)
    return x[:, :, 2:-2, 2:-2]


def minibatch_std(x: Tensor, group: int, batches: int = 1) -> Tensor:
    """Append one map: how much the images of a group differ (Karras et al. 2018, section 3); -> (B, C + 1, H, W).

    The map holds the deviation of each number over the images of a group, averaged to one figure per group.

    Args:
        x: (B, C, H, W).
        group: images per group; the largest divisor of a batch up to this.
        batches: how many batches of equal size `x` holds one after the other; no group mixes real and generated images.
    """
    count, channels, height, width = x.shape
    each = count // batches
    group = next(g for g in range(min(group, each), 0, -1) if each % g == 0)
    grouped = at_least_float32(x).view(count // group, group, channels, height, width)
    apart = grouped - grouped.mean(1, keepdim=True)  # torch's own variance is several times as slow in channels_last
    std = (apart.square().mean(1) + 1e-8).sqrt().mean((1, 2, 3))
    column = std.repeat_interleave(group, output_size=count).to(x.dtype)
    return torch.cat([x, column.view(-1, 1, 1, 1).expand(-1, 1, height, width)], 1)


class Dense(nn.Module):
    """Linear layer at an equalized learning rate: weights are N(0, 1) and scaled when used (Karras et al. 2018, 4.1)."""

    def __init__(self, inputs: int, outputs: int, *, rate: float = 1.0, bias: float = 0.0) -> None:
        """Multiply the learning rate by `rate`, and begin with the bias `bias`."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale = rate / math.sqrt(inputs)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs), in float32 at least."""
        return torch.addmm(
            at_least_float32(self.bias) * self.rate, at_least_float32(x), at_least_float32(self.weight).t() * self.scale
        )


class Conv(nn.Module):
    """Convolution at an equalized learning rate, optionally blurred and halved first, and a scaled leaky ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, down: bool = False, active: bool = True, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if active else None
        self.gain = gain * (GAIN if active else 1.0)
        self.scale = self.gain / math.sqrt(inputs * kernel**2)
        self.kernel = kernel
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W), half of both with `down`."""
        padding = self.kernel // 2
        stride = 1
        if self.down and self.kernel == 1:
            x = blur(x, 1)[:, :, ::2, ::2]  # a depthwise convolution of stride 2 has a backward pass ten times as slow
        elif self.down:
            x = blur(x, 2)
            padding = 0
            stride = 2
        bias = None if self.bias is None else self.bias * self.gain
        x = F.conv2d(x, self.weight * self.scale, bias, stride, padding)
        return x if bias is None else F.leaky_relu_(x, SLOPE)


class Mapping(nn.Module):
    """f: Z -> W (Karras et al. 2019, section 2), and the running mean of w for truncation."""

    def __init__(self, width: int, layers: int, *, rate: float, classes: Sequence[int] = ()) -> None:
        super().__init__()
        self.labels = conditioning.Labels(classes, width) if classes else None
        inputs = [width * 2 if classes else width] + [width] * (layers - 1)
        self.layers = nn.ModuleList(Dense(count, width, rate=rate) for count in inputs)
        self.register_buffer("w_avg", torch.zeros(width))
        self.w_avg: Tensor

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """z (B, width), labels (B, A) or None for unknown ones -> w (B, width) float32."""
        with full_precision(z):
            x = self._normal(z)
            if self.labels is not None:
                known = torch.zeros_like(x) if labels is None else self.labels(labels)
                x = torch.cat([x, self._normal(known)], 1)
            for layer in self.layers:
                x = F.leaky_relu(layer(x), SLOPE) * GAIN
            return x

    @staticmethod
    def _normal(x: Tensor) -> Tensor:
        x = at_least_float32(x)
        return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class StyledConv(nn.Module):
    """Modulated 3x3 convolution with demodulation, noise, bias and leaky ReLU (Karras et al. 2020, figure 2d)."""

    def __init__(self, inputs: int, outputs: int, width: int, *, up: bool = False, noisy: bool = True) -> None:
        super().__init__()
        self.style = Dense(width, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(())) if noisy else None
        self.scale = 1 / math.sqrt(inputs * 9)
        self.up = up

    def scales(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """w (B, width) -> what input channels (B, inputs) and output channels (B, outputs) are multiplied by.

        The second is 1 / sqrt(sum over i, k of (s_i w_ijk)^2 + eps), eq. 3.
        """
        with full_precision(w):
            s = self.style(w) * self.scale
            energy = s.square() @ at_least_float32(self.weight).square().sum((2, 3)).t()
            return s, (energy + 1e-8).rsqrt()

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """x (B, inputs, H, W), w (B, width), noise (B, 1, H', W') or None -> (B, outputs, H', W'); H' = 2 H with `up`."""
        s, d = self.scales(w)
        x = x * s[:, :, None, None].to(x.dtype)
        if self.up:  # as if zeros lay between the pixels, without multiplying them; the gain is 4
            x = blur(F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2), 1)
            d = d * 4
        else:
            x = F.conv2d(x, self.weight, padding=1)
        bias = (self.bias * GAIN)[:, None, None].to(x.dtype)
        x = torch.addcmul(bias, x, (d * GAIN)[:, :, None, None].to(x.dtype))
        if noise is not None and self.noise_strength is not None:
            x = x.add_((noise * (self.noise_strength * GAIN)).to(x.dtype))
        return F.leaky_relu_(x, SLOPE)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation: so few outputs that weights per image cost nothing."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.style = Dense(width, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor, below: Tensor | None = None) -> Tensor:
        """x (B, inputs, H, W), w (B, width) -> (B, 3, H, W) in float32 at least, added to the image `below` at half the size."""
        doubled = None if below is None else upsample(below)
        with full_precision(w):
            weights = at_least_float32(self.weight).flatten(1) * (self.style(w) * self.scale)[:, None]
        colors = torch.bmm(weights.to(x.dtype), x.flatten(2)).unflatten(2, x.shape[2:])
        image = at_least_float32(colors) + self.bias[:, None, None]
        return image if doubled is None else doubled + image


class Synthesis(nn.Module):
    """g: W -> images, the sum of what each level adds (skip generator, Karras et al. 2020, figure 7b)."""

    def __init__(
        self, size: int, widths: Sequence[int], width: int, *, noisy: bool = True, constant: bool = True
    ) -> None:
        """Without noise inputs unless `noisy`; it begins with a learned grid, or with a linear map of w unless `constant`."""
        super().__init__()
        self.start, _ = levels_of(size)
        self.constant = nn.Parameter(torch.randn(widths[0], self.start, self.start)) if constant else None
        self.grid = None if constant else Dense(width, widths[0] * self.start**2)
        pairs = list(pairwise([widths[0], *widths]))
        self.first = nn.ModuleList(StyledConv(*pair, width, up=True, noisy=noisy) for pair in pairs[1:])
        self.second = nn.ModuleList(StyledConv(outputs, outputs, width, noisy=noisy) for _, outputs in pairs)
        self.colours = nn.ModuleList(ToRGB(outputs, width) for _, outputs in pairs)  # the name that weights files hold
        sides = [self.start] + [self.start << level for level in range(1, len(widths)) for _ in "ab"]
        self.sides = sides if noisy else []
        """Side of each noise input."""
        self.codes = len(sides) + 1
        """Layers that w may differ between."""

    def forward(self, ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """ws (B, codes, width), noise maps (B, 1, side, side) of `sides` or None -> (B, 3, size, size), unclamped."""
        maps: Sequence[Tensor | None] = noise or [None] * (self.codes - 1)
        w = ws.unbind(1)
        x = self.first_grid(w[0])
        x = self.second[0](x, w[0], maps[0])
        image = self.colours[0](x, w[1])
        for level in range(1, len(self.second)):
            x = self.first[level - 1](x, w[2 * level - 1], maps[2 * level - 1])
            x = self.second[level](x, w[2 * level], maps[2 * level])
            image = self.colours[level](x, w[2 * level + 1], image)
        return image

    def first_grid(self, w: Tensor) -> Tensor:
        """What synthesis begins with: (B, width) -> (B, C, start, start)."""
        if self.constant is not None:
            return self.constant.expand(w.shape[0], -1, -1, -1)  # `len` would be a number to whoever exports it
        assert self.grid is not None
        with full_precision(w):
            grid = self.grid(w).unflatten(1, (-1, self.start, self.start))
        return grid.to(self.grid.weight.dtype)


class CriticBlock(nn.Module):
    """Two convolutions and a halving, with a skip connection when residual (Karras et al. 2020, figure 7c)."""

    def __init__(self, inputs: int, outputs: int, *, residual: bool) -> None:
        super().__init__()
        gain = math.sqrt(0.5) if residual else 1.0
        self.conv1 = Conv(inputs, inputs, 3)
        self.conv2 = Conv(inputs, outputs, 3, down=True, gain=gain)
        self.skip = Conv(inputs, outputs, 1, down=True, active=False, gain=gain) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / 2, W / 2)."""
        y = self.conv2(self.conv1(x))
        return y if self.skip is None else y + self.skip(x)


class Critic(nn.Module):
    """Image -> logit; by projection when there are labels (Miyato & Koyama 2018)."""

    def __init__(
        self, size: int, widths: Sequence[int], *, residual: bool, group: int, classes: Sequence[int] = ()
    ) -> None:
        super().__init__()
        side, _ = levels_of(size)
        down = list(reversed(widths))
        self.group = group
        self.entry = Conv(3, down[0], 1)
        self.blocks = nn.ModuleList(
            CriticBlock(inputs, outputs, residual=residual) for inputs, outputs in pairwise(down)
        )
        self.last = Conv(down[-1] + 1, down[-1], 3)
        self.hidden = Dense(down[-1] * side**2, down[-1])
        self.output = Dense(down[-1], 1)
        self.labels = conditioning.Labels(classes, down[-1]) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None, batches: int = 1) -> Tensor:
        """(B, 3, size, size), labels (B, A) or None -> logits (B, 1) float32; `batches` as in `minibatch_std`."""
        x = self.entry(images)
        for block in self.blocks:
            x = block(x)
        x = self.last(minibatch_std(x, self.group, batches))
        with full_precision(x):
            x = F.leaky_relu(self.hidden(x.flatten(1)), SLOPE) * GAIN
            logits = self.output(x)
            if self.labels is not None and labels is not None:
                logits = logits + (x * self.labels(labels)).mean(1, keepdim=True) * math.sqrt(x.shape[1])
            return logits
