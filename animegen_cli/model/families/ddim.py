"""Continuous-time implicit diffusion with an offset cosine schedule: document 001 and the code it cites.

Song, Meng & Ermon 2021 for the sampler; the network is a small residual U-Net with BatchNorm whose only notion of
time is the noise variance, embedded and laid beside the image. Images are normalized by the training set's mean
and deviation, not to [-1, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from animegen_cli.config import Section
from animegen_cli.model import diffusion
from animegen_cli.model.family import Batch, DataSpec, Losses, Phase
from animegen_cli.model.nets.unet import Attention, check_halvings, sinusoidal_of
from animegen_cli.model.samplers import SamplerConfig
from animegen_cli.model.schedules import OffsetCosine

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Model(Section):
    """The network, the noise schedule and the loss."""

    widths: Annotated[tuple[Annotated[int, Field(ge=8)], ...], Field(min_length=1)] = (32, 64, 96, 128)
    """Feature maps of each level, finest first; each level but the last halves the image."""
    depth: Annotated[int, Field(ge=1)] = 2
    """Residual blocks per level and direction, and in the middle."""
    attention: Annotated[int, Field(ge=0)] = 0
    """How many of the coarsest levels have self-attention after each block."""
    noise_dims: Annotated[int, Field(ge=2, multiple_of=2)] = 32
    """Width of the noise embedding."""
    max_frequency: Annotated[float, Field(gt=1)] = 1000.0
    """Highest frequency of the noise embedding; the lowest is 1."""
    max_signal: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Signal rate at time 0."""
    min_signal: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Signal rate at time 1."""
    predicts: diffusion.Predicts = "noise"
    """What the network outputs."""
    loss: Literal["mae", "mse"] = "mae"
    """Distance between output and target."""
    clip: bool = False
    """Clamp the predicted clean image to the range of pixels while sampling."""


class NormalizedBlock(nn.Module):
    """A residual block: parameter-free BatchNorm, conv + swish, conv, + input."""

    def __init__(self, inputs: int, outputs: int, *, attention: bool) -> None:
        super().__init__()
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.norm = nn.BatchNorm2d(inputs, eps=1e-3, momentum=0.01, affine=False)
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.attention = Attention(nn.GroupNorm(8, outputs, 1e-6)) if attention else None
        for layer in (self.skip, self.conv1, self.conv2):
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W)."""
        x = self.skip(x) + self.conv2(F.silu(self.conv1(self.norm(x))))
        return x if self.attention is None else self.attention(x)


class ResidualUNet(nn.Module):
    """A U-Net with average pooling down, bilinear up, and one skip connection into every block on the way up."""

    frequencies: Tensor

    def __init__(
        self, widths: Sequence[int], depth: int, *, noise_dims: int, max_frequency: float, attention: int
    ) -> None:
        super().__init__()
        frequencies = torch.exp(torch.linspace(0, math.log(max_frequency), noise_dims // 2))
        self.register_buffer("frequencies", 2 * math.pi * frequencies, persistent=False)
        self.stem = nn.Conv2d(3, widths[0], 1)
        current, skips = widths[0] + noise_dims, []
        attends = [level >= len(widths) - attention for level in range(len(widths))]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths[:-1]):
            blocks = nn.ModuleList()
            for _ in range(depth):
                blocks.append(NormalizedBlock(current, width, attention=attends[level]))
                current = width
                skips.append(current)
            self.down.append(blocks)
        self.middle = nn.ModuleList()
        for _ in range(depth):
            self.middle.append(NormalizedBlock(current, widths[-1], attention=attends[-1]))
            current = widths[-1]
        for level, width in reversed(list(enumerate(widths[:-1]))):
            blocks = nn.ModuleList()
            for _ in range(depth):
                blocks.append(NormalizedBlock(current + skips.pop(), width, attention=attends[level]))
                current = width
            self.up.append(blocks)
        self.head = nn.Conv2d(current, 3, 1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, variance: Tensor) -> Tensor:
        """Map x (B, 3, H, W) and the noise variance (B,) in [0, 1] to (B, 3, H, W)."""
        time_embedding = sinusoidal_of(variance, self.frequencies).to(self.stem.weight.dtype)
        stem = self.stem(x)
        x = torch.cat([stem, time_embedding[:, :, None, None].expand(-1, -1, *x.shape[2:]).to(stem.dtype)], dim=1)
        skips = []
        for blocks in self.down:
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x)
                skips.append(x)
            x = F.avg_pool2d(x, 2)
        for block in self.middle:
            x = block(x)
        for blocks in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
            for block in blocks:  # type: ignore[attr-defined]
                x = block(torch.cat([x, skips.pop()], dim=1))
        return self.head(x)


@final
class DDIM(diffusion.DiffusionFamily[SamplerConfig]):
    """Noise prediction at a continuous time (document 001, algorithm 1)."""

    Config = Model
    ema_buffers = "average"

    config: Model
    schedule: OffsetCosine
    mean: Tensor
    std: Tensor

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        check_halvings(data.size, len(config.widths), "model.widths")
        self.net = ResidualUNet(
            config.widths,
            config.depth,
            noise_dims=config.noise_dims,
            max_frequency=config.max_frequency,
            attention=config.attention,
        )
        self.schedule = OffsetCosine(config.max_signal, config.min_signal)
        self.register_buffer("mean", torch.tensor(data.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(data.std).view(1, 3, 1, 1), persistent=False)

    @property
    def quantities(self) -> dict[str, str]:
        """What the losses depend on: the distance, and the levels that are drawn evenly."""
        distance = "absolute" if self.config.loss == "mae" else "squared"
        levels = f"offset cosine from {self.config.max_signal:g} to {self.config.min_signal:g}"
        return {
            self.config.loss: f"{distance} error of the {self.config.predicts}, {levels}",
            "noise_loss": f"{distance} error of the noise, {levels}",
            "image_loss": f"{distance} error of the normalized image, {levels}",
        }

    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase that trains the network."""
        return (Phase("model", (self.net,), self.loss),)

    def normalize(self, images: Tensor) -> Tensor:
        """Map [-1, 1] to zero mean and unit variance over the training set."""
        return (images - self.mean) / self.std

    def pixels(self, x: Tensor) -> Tensor:
        """Return the inverse of `normalize`, unclipped."""
        return x * self.std + self.mean

    def loss(self, batch: Batch) -> Losses:
        """Return the losses of algorithm 1, training, at a time drawn uniformly per image.

        `noise_loss` and `image_loss` (document 001's figures) measure the implied noise and clean image whatever is
        predicted; only the first entry is differentiated, and equals `noise_loss` for a network that predicts noise.
        """
        x_0 = self.normalize(batch.images)
        t = torch.rand(len(x_0), 1, 1, 1, device=x_0.device)
        noise = torch.randn_like(x_0)
        a, s = self.schedule.rates(t)
        x_t = diffusion.mix(x_0, noise, a, s)
        output = self.net(x_t, s.flatten().square()).float()
        distance = F.l1_loss if self.config.loss == "mae" else F.mse_loss
        loss = distance(output, diffusion.target(self.config.predicts, x_0, noise, a, s))
        denoised = diffusion.clean_image(self.config.predicts, output.detach(), x_t, a, s)
        implied = diffusion.noise_of(denoised, x_t, a, s)
        return {self.config.loss: loss, "noise_loss": distance(implied, noise), "image_loss": distance(denoised, x_0)}

    def denoise(self, x: Tensor, sigma: Tensor, _: Tensor | None = None) -> Tensor:
        """Return E[x_0 | x] in normalized units for x = x_0 + sigma * noise, (B, 3, H, W); sigma (B,); labels are not read."""
        level = sigma.view(-1, 1, 1, 1)
        a = (1 + level.square()).rsqrt()
        s = level * a
        output = self.net(x * a, s.flatten().square()).float()
        denoised = diffusion.clean_image(self.config.predicts, output, x * a, a, s)
        if self.config.clip:
            denoised = torch.maximum(
                torch.minimum(denoised, self.normalize(torch.ones_like(denoised))),
                self.normalize(-torch.ones_like(denoised)),
            )
        return denoised

    def diffusion(self, _: SamplerConfig) -> diffusion.DiffusionModel:
        """Return what drawing and editing need of it, the same for every sampler."""
        return diffusion.DiffusionModel(self.schedule, self.denoise, into=self.normalize, out=self.pixels)

    def corrupt(self, images: Tensor, noise: Tensor, fraction: float) -> Tensor:
        """Return x_t at time `fraction`, in pixel units; the image itself at 0."""
        if fraction <= 0:
            return images
        a, s = self.schedule.rates(torch.full((len(images), 1, 1, 1), fraction, device=images.device))
        return diffusion.mix(self.normalize(images), noise, a, s) * self.std + self.mean

    def validate(self, batch: Batch) -> Losses:
        """Return the figures of document 001's table II: noise loss and image loss."""
        losses = self.loss(batch)
        return {name: losses[name] for name in ("noise_loss", "image_loss")}
