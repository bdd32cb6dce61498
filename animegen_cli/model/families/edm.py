"""EDM: preconditioned denoising at log-normal noise levels (Karras et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from animegen_cli.errors import ConfigError
from animegen_cli.model import conditioning, diffusion, preconditioning
from animegen_cli.model.family import Batch, DataSpec, Losses, Phase
from animegen_cli.model.nets.scorenet import ScoreNet, ScoreNetSection, check_fits
from animegen_cli.model.samplers import SamplerConfig
from animegen_cli.model.schedules import KarrasSchedule

AUGMENTATIONS = 9
"""Numbers that describe an augmentation (Karras et al. 2022, table 6)."""


@dataclass(frozen=True, kw_only=True)
class Model(ScoreNetSection):
    """The network, its preconditioning, the noise of training and of sampling."""

    patch: Annotated[int, Field(ge=1)] = 1
    """The network works on squares of so many pixels; 1 is the paper's."""
    p_mean: float = -1.2
    """Mean of ln sigma in training."""
    p_std: Annotated[float, Field(gt=0)] = 1.2
    """Deviation of ln sigma in training."""
    sigma_data: Annotated[float, Field(gt=0)] = 0.5
    """Deviation of the images in [-1, 1]."""
    sigma_min: Annotated[float, Field(gt=0)] = 0.002
    """Lowest noise level of sampling."""
    sigma_max: Annotated[float, Field(gt=0)] = 80.0
    """Highest noise level of sampling."""
    rho: Annotated[float, Field(gt=0)] = 7.0
    """Crowds the levels of sampling near the lowest (eq. 5)."""
    augment: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability of each augmentation; the network sees which, so that none leaks into the samples (appendix F.2)."""
    clip: bool = False
    """Clamp the predicted clean image to [-1, 1] while sampling."""


@final
class EDM(diffusion.DiffusionFamily[SamplerConfig]):
    """A denoiser D(x; sigma) whose network sees and predicts unit variance (Karras et al. 2022, section 5)."""

    Config = Model
    config: Model

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        check_fits(data.size, config.multipliers, config.patch)
        if config.sigma_min >= config.sigma_max:
            raise ConfigError(
                f"`model.sigma_min` {config.sigma_min:g} is not below `model.sigma_max` {config.sigma_max:g}",
                hint="the paper has 0.002 and 80",
            )
        self.conditions = conditioning.chosen_labels(config.labels, data)
        augment = AUGMENTATIONS if config.augment else 0
        self.net = ScoreNet(replace(config.network(data, self.conditions), augment=augment, patch=config.patch))
        self.schedule = KarrasSchedule(config.sigma_min, config.sigma_max, config.rho)

    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase that trains the network."""
        return (Phase("model", (self.net,), self.loss),)

    def loss(self, batch: Batch) -> Losses:
        """Return the loss of eq. 2 and 8 with the weight and the log-normal levels of table 1; a mean over pixels."""
        y, labels = batch.images, conditioning.pick_labels(batch.labels, self.conditions, self.data)
        augmentation = None
        if self.training:
            if labels is not None:
                labels = conditioning.drop_labels(labels, self.config.label_drop)
            if self.config.augment:
                y, augmentation = augment(y, self.config.augment)
        sigma = (self.config.p_mean + self.config.p_std * torch.randn(len(y), device=y.device)).exp()
        noisy = y + sigma.view(-1, 1, 1, 1) * torch.randn_like(y)
        error = (self.precondition(noisy, sigma, labels, augmentation) - y).square().mean((1, 2, 3))
        weight = (sigma**2 + self.config.sigma_data**2) / (sigma * self.config.sigma_data) ** 2
        return {"mse": (weight * error).mean(), "denoising": error.detach().mean()}

    def precondition(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None, augmentation: Tensor | None = None
    ) -> Tensor:
        """Return D(x; sigma) of table 1 for x (B, 3, H, W) and sigma (B,)."""

        def network(scaled: Tensor, time: Tensor) -> Tensor:
            return self.net(scaled, time, labels, augmentation)

        return preconditioning.karras(network, x, sigma, self.config.sigma_data)

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return E[x_0 | x] for x = x_0 + sigma * noise, (B, 3, H, W); sigma (B,); labels (B, A) or None."""
        picked = conditioning.pick_labels(labels, self.conditions, self.data)
        denoised = self.precondition(x, sigma, picked)
        return denoised.clamp(-1, 1) if self.config.clip else denoised

    def diffusion(self, _: SamplerConfig) -> diffusion.DiffusionModel:
        """Return what drawing and editing need of it, the same for every sampler."""
        return diffusion.DiffusionModel(self.schedule, self.denoise)

    def validate(self, batch: Batch) -> Losses:
        """Return the training loss on held-out images, without augmentation."""
        return self.loss(batch)


def augment(images: Tensor, probability: float) -> tuple[Tensor, Tensor]:
    """Flip, scale, turn, stretch and shift, each with this probability (Karras et al. 2022, table 6).

    Returns:
        Images like those given, (B, 3, H, W), edges reflected; and what was done to each, (B, 9), all zeros for nothing.
    """
    count, device = len(images), images.device

    def chance(values: Tensor) -> Tensor:
        return values * (torch.rand(count, device=device) < probability)

    mirrored, flipped = (chance(torch.randint(0, 2, (count,), device=device).float()) for _ in range(2))
    scale, stretch, right, down = (chance(torch.randn(count, device=device)) for _ in range(4))
    turn, direction = chance(_angle(count, device)), _angle(count, device)
    augmentation = torch.stack(
        [mirrored, flipped, scale, turn.cos() - 1, turn.sin(),
         stretch * (2 * direction).cos(), stretch * (2 * direction).sin(), right, down], dim=1,
    )  # fmt: skip  # twice the angle: to shrink along a direction is to stretch across it
    # From where in the picture a pixel comes: the inverse, last step first, in units of half the image.
    back = _turned(-turn) @ _turned(direction) @ _scaled(0.2 * stretch, -0.2 * stretch) @ _turned(-direction)
    back = back @ _scaled(0.2 * scale, 0.2 * scale)
    back = back * torch.stack([1 - 2 * mirrored, 1 - 2 * flipped], dim=1)[:, :, None]
    shift = torch.stack([right, down], dim=1)[:, :, None] / 4  # an eighth of the image, which is 2 wide
    grid = F.affine_grid(torch.cat([back, -back @ shift], dim=2), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(-1, 1)
    untouched = (augmentation == 0).all(1).view(-1, 1, 1, 1)
    return torch.where(untouched, images, moved), augmentation


def _angle(count: int, device: torch.device) -> Tensor:
    return (2 * torch.rand(count, device=device) - 1) * math.pi


def _turned(angle: Tensor) -> Tensor:
    rows = (torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1))
    return torch.stack(rows, 1)


def _scaled(across: Tensor, along: Tensor) -> Tensor:
    """Return the matrices that shrink coordinates, which enlarges the picture, by 2^across and 2^along."""
    return torch.diag_embed(torch.stack([torch.exp2(-across), torch.exp2(-along)], 1))
