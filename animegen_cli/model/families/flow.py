"""Rectified flow: straight lines between images and noise (Lipman et al. 2023; Liu et al. 2023; Esser et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from animegen_cli.errors import ConfigError
from animegen_cli.model import conditioning, diffusion, preconditioning
from animegen_cli.model.family import Batch, DataSpec, Losses, Phase
from animegen_cli.model.nets.scorenet import ScoreNet, ScoreNetSection
from animegen_cli.model.nets.unet import check_halvings
from animegen_cli.model.samplers import SamplerConfig
from animegen_cli.model.schedules import RectifiedFlow

if TYPE_CHECKING:
    from animegen_cli.model.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Model(ScoreNetSection):
    """The network, and the times of training and of sampling."""

    logit_mean: float = 0.0
    """Mean of ln(t / (1 - t)) in training, with t = 0 the image and t = 1 the noise."""
    logit_std: Annotated[float, Field(gt=0)] = 1.0
    """Deviation of ln(t / (1 - t)) in training."""
    t_min: Annotated[float, Field(gt=0, lt=1)] = 0.002
    """The least time above 0 that sampling visits where levels are even in sigma, and that of likelihoods."""
    t_max: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """The time where sampling starts, from noise alone: training hardly sees a later one."""


@dataclass(frozen=True, kw_only=True)
class FlowSampling(SamplerConfig):
    """How a run draws: any sampler of the diffusion families; `euler` and `ddim` are Euler's method in t."""

    sampler: Literal["ancestral", "ddim", "dpmpp", "heun", "euler"] = "euler"
    """Update rule; any works on any diffusion run."""
    shift: Annotated[float, Field(gt=0)] = 1.0
    """Moves the times of sampling towards the noise: sigma = t / (1 - t) is multiplied by it (Esser et al. 2024, eq. 23);
    3 is theirs for large images. The spacings `karras` and `logsnr`, which are even in sigma, have no times to move."""

    def cautions(self) -> list[str]:
        """Warn of a shift that changes nothing."""
        if self.shift == 1 or self.spacing not in ("karras", "logsnr"):
            return []
        return [f"`sample.shift` moves no level of the spacing `{self.spacing}`; write `--set sample.spacing=trailing`"]


@final
class Flow(diffusion.DiffusionFamily[FlowSampling]):
    """A network that sees x_t = (1 - t) x_0 + t eps and predicts the velocity dx_t / dt = eps - x_0."""

    Config = Model
    Sampling = FlowSampling
    bound = "ode"
    config: Model

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        check_halvings(data.size, len(config.multipliers), "model.multipliers")
        if config.t_min >= config.t_max:
            raise ConfigError(
                f"`model.t_min` {config.t_min:g} is not below `model.t_max` {config.t_max:g}",
                hint="write `--set model.t_min=0.002`",
            )
        self.conditions = conditioning.chosen_labels(config.labels, data)
        self.net = ScoreNet(config.network(data, self.conditions))
        self.schedule = RectifiedFlow(config.t_min, config.t_max)

    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase that trains the network."""
        return (Phase("model", (self.net,), self.loss),)

    def loss(self, batch: Batch) -> Losses:
        """Return the flow-matching loss |v(x_t, t) - (eps - x_0)|^2 (Liu et al. 2023, eq. 1), a mean over pixels.

        The times are logit-normal, one per image (Esser et al. 2024, section 3.1). `denoising` is the square error of the clean
        image that the velocity implies, x_t - t v.
        """
        x_0, labels = batch.images, conditioning.pick_labels(batch.labels, self.conditions, self.data)
        if labels is not None and self.training:
            labels = conditioning.drop_labels(labels, self.config.label_drop)
        t = torch.sigmoid(self.config.logit_mean + self.config.logit_std * torch.randn(len(x_0), device=x_0.device))
        noise = torch.randn_like(x_0)
        way = t.view(-1, 1, 1, 1)
        x_t = diffusion.mix(x_0, noise, 1 - way, way)
        error = (self.velocity(x_t, t, labels) - (noise - x_0)).square().mean((1, 2, 3))
        return {"velocity": error.mean(), "denoising": (t.square() * error.detach()).mean()}

    def velocity(self, x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Return v(x_t, t) for x_t (B, 3, H, W) and t (B,) in (0, 1); labels (B, len(conditions)) or None."""
        return self.net(x_t, 1000 * t, labels).float()

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return E[x_0 | x] for x = x_0 + sigma * noise, (B, 3, H, W); sigma (B,); labels (B, A) or None."""
        picked = conditioning.pick_labels(labels, self.conditions, self.data)
        return preconditioning.straight(lambda x_t, time: self.net(x_t, time, picked), x, sigma)

    def diffusion(self, sampling: FlowSampling) -> diffusion.DiffusionModel:
        """Return what drawing and editing need of it."""
        return diffusion.DiffusionModel(
            RectifiedFlow(self.config.t_min, self.config.t_max, sampling.shift), self.denoise
        )

    def validate(self, batch: Batch) -> Losses:
        """Return the training loss on held-out images."""
        return self.loss(batch)

    def bits_per_dim(self, images: Tensor, noise: Noise) -> Tensor:
        """Return the likelihood by the flow (Song et al. 2021b, eq. 39), (B, 3, H, W) in [-1, 1] -> (B,)."""
        return diffusion.bits_per_dim(diffusion.DiffusionModel(self.schedule, self.denoise), images, noise)
