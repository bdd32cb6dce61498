"""Denoising diffusion probabilistic models: Ho, Jain & Abbeel 2020; improvements of Nichol & Dhariwal 2021."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from animegen_cli import conditions, diffusion
from animegen_cli.config import Section
from animegen_cli.errors import ConfigError
from animegen_cli.method import Batch, DataSpec, Edit, Losses, Method, Phase
from animegen_cli.nets.unet import UNet
from animegen_cli.noise import Noise
from animegen_cli.samplers import Plan, Watch
from animegen_cli.schedules import DiscreteSchedule, cosine_betas, linear_betas


@dataclass(frozen=True, kw_only=True)
class Model(Section):
    """The network, the noise schedule and the loss."""

    channels: Annotated[int, Field(ge=8)] = 128
    """Feature maps at full resolution."""
    multipliers: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 2, 2)
    """Width of each level in units of `channels`, finest first; each level but the last halves the image."""
    blocks: Annotated[int, Field(ge=1)] = 2
    """Residual blocks per level on the way down, one more on the way up."""
    attention: tuple[int, ...] = (16,)
    """Resolutions in pixels with self-attention after each block; the middle always has it."""
    head_width: Annotated[int, Field(ge=1)] | None = None
    """Channels per attention head; one head over all channels when absent."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """In each residual block."""
    groups: Annotated[int, Field(ge=1)] = 32
    """Of each GroupNorm."""
    layout: Literal["ho", "diffusers"] = "ho"
    """Time embedding, padding and norm constants of Ho's code or of diffusers' `UNet2DModel`."""
    timesteps: Annotated[int, Field(ge=2)] = 1000
    """T."""
    schedule: Literal["linear", "cosine"] = "linear"
    """Noise schedule: Ho et al. 2020, or Nichol & Dhariwal 2021."""
    predicts: diffusion.Predicts = "noise"
    """What the network outputs."""
    weighting: Literal["uniform", "min-snr"] = "uniform"
    """Loss weight over time: 1, or Hang et al. 2023."""
    snr_gamma: Annotated[float, Field(gt=0)] = 5.0
    """Cap of min-SNR weighting."""
    clip: bool = True
    """Clamp the predicted clean image to [-1, 1] while sampling."""
    labels: tuple[str, ...] | Literal["all"] = ()
    """Attributes of the data set to condition on."""
    label_drop: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of images trained without labels, for classifier-free guidance."""


@final
class DDPM(Method):
    """A U-Net that predicts the noise of one of T levels (Ho et al. 2020)."""

    Config = Model
    Sampling = Plan
    inference = ("unet",)
    edits = diffusion.EDITS

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        self.conditions = conditions.chosen_labels(config.labels, data)
        _check(config, data.size)
        self.unet = UNet(
            data.size,
            [config.channels * m for m in config.multipliers],
            blocks=config.blocks,
            attention=config.attention,
            head_width=config.head_width,
            dropout=config.dropout,
            groups=config.groups,
            classes=[len(data.attributes[name]) for name in self.conditions],
            diffusers=config.layout == "diffusers",
        )
        betas = linear_betas(config.timesteps) if config.schedule == "linear" else cosine_betas(config.timesteps)
        self.schedule = DiscreteSchedule(betas)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("model", (self.unet,), self.loss),)

    def loss(self, batch: Batch) -> Losses:
        """Ho et al. 2020, eq. 14, for a time drawn uniformly per image."""
        x_0, labels = batch.images, conditions.pick_labels(batch.labels, self.conditions, self.data)
        if labels is not None:
            labels = conditions.drop_labels(labels, self.config.label_drop)
        n = torch.randint(0, len(self.schedule), (len(x_0),), device=x_0.device)
        noise = torch.randn_like(x_0)
        a, s = self.schedule.rates(n)
        x_t = diffusion.mix(x_0, noise, a, s)
        wanted = diffusion.target(self.config.predicts, x_0, noise, a, s)
        error = (self.unet(x_t, n, labels).float() - wanted).square().mean((1, 2, 3))
        if self.config.weighting == "min-snr":
            error = error * diffusion.min_snr_weight(self.config.predicts, a, s, self.config.snr_gamma).flatten()
        return {"mse": error.mean()}

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """E[x_0 | x] for x = x_0 + sigma * noise, (B, 3, H, W); sigma (B,); labels (B, A) or None."""
        level = sigma.view(-1, 1, 1, 1)
        a = (1 + level.square()).rsqrt()
        picked = conditions.pick_labels(labels, self.conditions, self.data)
        output = self.unet(x * a, self.schedule.time_of(sigma), picked).float()
        clean = diffusion.clean_image(self.config.predicts, output, x * a, a, level * a)
        return clean.clamp(-1, 1) if self.config.clip else clean

    def sample(self, noise: Noise, labels: Tensor | None, how: Plan, watch: Watch | None = None) -> Tensor:
        """Ho et al. 2020, algorithm 2, or any other sampler of the plan."""
        return diffusion.draw(how, self.schedule, self.denoise, noise, self.data.size, labels, watch).clamp(-1, 1)

    def corrupt(self, images: Tensor, noise: Tensor, fraction: float) -> Tensor:
        """x_t at t = fraction * T (Ho et al. 2020, eq. 4); the image itself at 0."""
        if fraction <= 0:
            return images
        index = torch.full((len(images),), round(fraction * (len(self.schedule) - 1)), device=images.device)
        return diffusion.mix(images, noise, *self.schedule.rates(index))

    def validate(self, batch: Batch) -> Losses:
        """The training loss on held-out images."""
        return self.loss(batch)

    def translate(self, images: Tensor, noise: Noise, edit: Edit, how: Plan) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], noised to `edit.strength` or led there exactly, and denoised."""
        return diffusion.translate(diffusion.Process(self.schedule, self.denoise), images, noise, edit, how)

    def inpaint(self, images: Tensor, mask: Tensor, noise: Noise, labels: Tensor | None, how: Plan) -> Tensor:
        """New content where mask (B, 1, H, W) is 1."""
        return diffusion.inpaint(diffusion.Process(self.schedule, self.denoise), images, mask, noise, labels, how)


def _check(config: Model, size: int) -> None:
    halvings = len(config.multipliers) - 1
    if size % 2**halvings:
        raise ConfigError(
            f"a size of {size} pixels cannot be halved {halvings} times",
            hint=f"prepare the set with a multiple of {2**halvings}, or remove entries of `model.multipliers`",
        )
    for multiplier in config.multipliers:
        width = config.channels * multiplier
        if width % config.groups or (config.head_width and width % config.head_width):
            raise ConfigError(
                f"{width} channels do not split into {config.groups} groups or heads of {config.head_width} channels",
                hint="change `model.channels`, `model.groups` or `model.head_width`",
            )
