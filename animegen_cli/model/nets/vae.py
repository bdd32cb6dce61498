"""Networks of a VAE with one vector of latents: encoders, decoders, a flow as prior, and frequency bands.

Legend: B batch, C channels, H W pixels, L latents. Maps of odd size are halved upwards: 9 -> 5.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animegen_cli.model.nets.precision import at_least_float32

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from animegen_cli.model.latent_prior import DiffusionPrior

STEEP = 10.0
"""The learned log-deviations are stored divided by this, so that Adam moves them in hundreds of steps, not thousands."""
MAX_LOG_STD = 4.0
"""Bound on the log-deviation of q(z | x)."""
SLOPE = 0.01
"""Of every leaky ReLU for negative numbers."""


def halved(size: int, stages: int) -> list[int]:
    """Sizes of the maps from `size` down, one more per halving: 64, 2 -> [64, 32, 16]."""
    sizes = [size]
    for _ in range(stages):
        sizes.append(-(-sizes[-1] // 2))
    return sizes


# ---- plain --------------------------------------------------------------------------------------------------------


class _Normed(nn.Module):
    """A convolution, BatchNorm, LeakyReLU."""

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), SLOPE)


class PlainEncoder(nn.Module):
    """Strided 3x3 convolutions, then a linear layer each for mean and log-variance."""

    def __init__(self, size: int, widths: Sequence[int], latent: int) -> None:
        super().__init__()
        pairs = zip((3, *widths), widths, strict=False)
        self.stages = nn.ModuleList(_Normed(nn.Conv2d(a, b, 3, 2, 1), b) for a, b in pairs)
        features = widths[-1] * halved(size, len(widths))[-1] ** 2
        self.mean = nn.Linear(features, latent)
        self.log_variance = nn.Linear(features, latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) -> mean and log-deviation (B, L) of q(z | x), float32."""
        for stage in self.stages:
            x = stage(x)
        x = x.flatten(1)
        log_std = 0.5 * at_least_float32(self.log_variance(x))
        return at_least_float32(self.mean(x)), log_std.clamp(max=MAX_LOG_STD)


class PlainDecoder(nn.Module):
    """The mirror: a linear layer, transposed 3x3 convolutions, one convolution to pixels, tanh."""

    def __init__(self, size: int, widths: Sequence[int], latent: int) -> None:
        super().__init__()
        sizes = halved(size, len(widths))
        self.width = widths[-1]
        self.coarsest = sizes[-1]
        self.open = nn.Linear(latent, self.width * self.coarsest**2)
        narrower = [*reversed(widths[:-1]), widths[0]]
        goals = sizes[-2::-1]
        self.stages = nn.ModuleList(
            _Normed(nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1 - goal % 2), b)
            for a, b, goal in zip(reversed(widths), narrower, goals, strict=True)
        )
        self.close = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (B, L) -> images (B, 3, H, W) in (-1, 1)."""
        x = self.open(z).view(z.shape[0], self.width, self.coarsest, self.coarsest)
        for stage in self.stages:
            x = stage(x)
        return torch.tanh(self.close(x))


# ---- residual -----------------------------------------------------------------------------------------------------


class _Block(nn.Module):
    """norm, swish, conv, twice, + input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class ResidualEncoder(nn.Module):
    """Pixels folded 2x2 into channels, then residual blocks and average pooling."""

    def __init__(self, size: int, widths: Sequence[int], latent: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(12, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(_Block(a, b) for a, b in zip((widths[0], *widths[:-1]), widths, strict=True))
        self.norm = nn.BatchNorm2d(widths[-1])
        coarsest = halved(size // 2, len(widths) - 1)[-1]
        self.close = nn.Linear(widths[-1] * coarsest**2, 2 * latent)
        _keep_variance(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) -> mean and log-deviation (B, L) of q(z | x), float32."""
        x = self.stem(F.pixel_unshuffle(x, 2))
        for level, block in enumerate(self.blocks):
            x = block(F.avg_pool2d(x, 2, ceil_mode=True) if level else x)
        mean, log_variance = at_least_float32(self.close(F.silu(self.norm(x)).flatten(1))).chunk(2, dim=1)
        return mean, (0.5 * log_variance).clamp(max=MAX_LOG_STD)


class ResidualDecoder(nn.Module):
    """A linear layer, residual blocks and nearest upsampling; channels unfold into 2x2 pixels at the end."""

    def __init__(self, size: int, widths: Sequence[int], latent: int) -> None:
        super().__init__()
        self.sizes = halved(size // 2, len(widths) - 1)[::-1]
        self.width = widths[-1]
        self.open = nn.Linear(latent, self.width * self.sizes[0] ** 2)
        back = list(reversed(widths))
        self.blocks = nn.ModuleList(_Block(a, b) for a, b in zip((back[0], *back[:-1]), back, strict=True))
        self.norm = nn.BatchNorm2d(widths[0])
        self.close = nn.Conv2d(widths[0], 12, 3, padding=1)
        _keep_variance(self)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (B, L) -> images (B, 3, H, W), unbounded."""
        x = self.open(z).view(z.shape[0], self.width, self.sizes[0], self.sizes[0])
        for level, block in enumerate(self.blocks):
            x = block(F.interpolate(x, size=(self.sizes[level],) * 2, mode="nearest") if level else x)
        return F.pixel_shuffle(self.close(F.silu(self.norm(x))), 2)


NETWORKS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "plain": (PlainEncoder, PlainDecoder),
    "residual": (ResidualEncoder, ResidualDecoder),
}
"""Name -> encoder and decoder, built as `(size, widths, latent)`."""


def _keep_variance(net: nn.Module) -> None:
    """Start every layer with outputs as large as its inputs (Glorot & Bengio 2010) and no bias."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


# ---- prior --------------------------------------------------------------------------------------------------------


class _Coupling(nn.Module):
    """One half of the latents is scaled and shifted by functions of the other half (Dinh et al. 2017, eq. 4-5)."""

    def __init__(self, latent: int, width: int, *, swap: bool) -> None:
        super().__init__()
        self.swap = swap
        self.unmoved = latent - latent // 2 if swap else latent // 2
        self.first = nn.Linear(self.unmoved, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, 2 * (latent - self.unmoved))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def _split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The half that stays as it is, and the half that is moved."""
        at = z.shape[1] - self.unmoved
        return (z[:, at:], z[:, :at]) if self.swap else (z[:, : self.unmoved], z[:, self.unmoved :])

    def _join(self, unmoved: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([moved, unmoved] if self.swap else [unmoved, moved], dim=1)

    def _affine(self, unmoved: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale, in [-2, 2], and shift of the other half."""
        hidden = F.silu(self.second(F.silu(self.first(unmoved.to(self.first.weight.dtype)))))
        log_scale, shift = self.last(hidden).to(unmoved.dtype).chunk(2, dim=1)
        return 2 * torch.tanh(log_scale / 2), shift

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Towards N(0, I): (B, L) -> (B, L) and the log-determinant (B,)."""
        unmoved, moved = self._split(z)
        log_scale, shift = self._affine(unmoved)
        return self._join(unmoved, moved * log_scale.exp() + shift), log_scale.sum(1)

    def inverse(self, u: Tensor) -> Tensor:
        """Undo `forward`: (B, L) -> (B, L)."""
        unmoved, moved = self._split(u)
        log_scale, shift = self._affine(unmoved)
        return self._join(unmoved, (moved - shift) * torch.exp(-log_scale))


class Flow(nn.Module):
    """p(z) = N(f(z); 0, I) |det df/dz| with affine couplings and fixed random reorderings in between."""

    def __init__(self, latent: int, depth: int = 6, width: int = 256) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(_Coupling(latent, width, swap=bool(i % 2)) for i in range(depth))
        generator = torch.Generator().manual_seed(0)
        orders = [torch.randperm(latent, generator=generator) for _ in range(depth // 2)]
        self.register_buffer("orders", torch.stack(orders))
        self.register_buffer("returns", torch.stack([order.argsort() for order in orders]))
        self.orders: Tensor
        self.returns: Tensor

    def forward(self, z: Tensor) -> Tensor:
        """Latents z (B, L) -> ln p(z), (B,)."""
        total = torch.zeros(z.shape[0], device=z.device, dtype=z.dtype)
        for number, coupling in enumerate(self.couplings):
            z = z if number % 2 else z[:, self.orders[number // 2]]
            z, log_det = coupling(z)
            total = total + log_det
        return total - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)

    def inverse(self, u: Tensor) -> Tensor:
        """Standard normal (B, L) -> latents (B, L)."""
        for number, coupling in reversed(list(enumerate(self.couplings))):
            assert isinstance(coupling, _Coupling)
            u = coupling.inverse(u)
            u = u if number % 2 else u[:, self.returns[number // 2]]
        return u


class Generative(nn.Module):
    """p(z) and p(x | z): the decoder with its prior and its deviations."""

    def __init__(
        self, net: nn.Module, *, flow: Flow | None, bands: int | None, diffusion: DiffusionPrior | None = None
    ) -> None:
        super().__init__()
        self.net = net
        self.flow = flow
        self.diffusion = diffusion
        self.steepness = None
        if bands is not None:
            shape = (1 + 3 * bands, 3) if bands else (1, 1)
            self.steepness = nn.Parameter(torch.full(shape, -1.0 / STEEP))

    def forward(
        self, z: Tensor, *, from_noise: bool = False, steps: int | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Mean of p(x | z) (B, 3, H, W) float32; ln p(z) (B,) of a flow, else None; log-deviations (bands, 3 or 1) or None.

        Latents z (B, L); or, with `from_noise`, standard normal numbers that the prior turns into latents, a diffusion by
        `steps` calls of its network.
        """
        log_prior = None
        if self.diffusion is not None and from_noise:
            z = self.diffusion.draw(at_least_float32(z), steps).to(z.dtype)
        if self.flow is not None:
            if from_noise:
                z = self.flow.inverse(at_least_float32(z)).to(z.dtype)
            else:
                log_prior = self.flow(at_least_float32(z))
        log_std = None if self.steepness is None else self.steepness * STEEP
        return at_least_float32(self.net(z)), log_prior, log_std


# ---- frequency bands ----------------------------------------------------------------------------------------------

_AXES = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))
"""Lightness and two differences of color: an orthonormal basis of RGB."""


def haar_bands(x: Tensor, levels: int) -> list[Tensor]:
    """Split images (B, 3, H, W) by orthonormal color axes and Haar wavelets: what is left, then three bands per level, coarse
    to fine.

    The transform is a rotation: sums of squares stay, so that a Gaussian density in it needs no determinant.
    """
    axes = [reduce(torch.add, [w * x[:, c] for c, w in enumerate(axis) if w]) for axis in _AXES]
    x = torch.stack(axes, dim=1)
    bands: list[Tensor] = []
    for _ in range(levels):
        a = x[..., ::2, ::2]
        b = x[..., ::2, 1::2]
        c = x[..., 1::2, ::2]
        d = x[..., 1::2, 1::2]
        upper = a + b
        lower = c + d
        left = a - b
        right = c - d
        bands = [(upper - lower) / 2, (left + right) / 2, (left - right) / 2, *bands]
        x = (upper + lower) / 2
    return [x, *bands]
