"""Score matching through stochastic differential equations (Song et al. 2021b): VE, VP and sub-VP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from animegen_cli.errors import ConfigError
from animegen_cli.model import conditioning, diffusion, samplers
from animegen_cli.model.family import Batch, DataSpec, Losses, Phase
from animegen_cli.model.nets.scorenet import ScoreNet, ScoreNetSection, TimeEmbedding
from animegen_cli.model.nets.unet import check_halvings
from animegen_cli.model.samplers import Callback, SamplerConfig
from animegen_cli.model.schedules import SDE, VE, VP, SubVP

if TYPE_CHECKING:
    from animegen_cli.model.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Model(ScoreNetSection):
    """The process, the network and the loss."""

    renamed: ClassVar[Mapping[str, str]] = {"waves": "time_embedding"}

    process: Literal["ve", "vp", "subvp"] = "vp"
    """Variance exploding, variance preserving, or with less variance than that."""
    sigma_min: Annotated[float, Field(gt=0)] = 0.01
    """Least noise of `ve`, for images in [0, 1]."""
    sigma_max: Annotated[float, Field(gt=0)] = 50.0
    """Most noise of `ve`, for images in [0, 1]."""
    beta_min: Annotated[float, Field(ge=0)] = 0.1
    """Noise rate of `vp` and `subvp` at t = 0."""
    beta_max: Annotated[float, Field(gt=0)] = 20.0
    """Noise rate of `vp` and `subvp` at t = 1."""
    train_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """Least time in training and for likelihoods."""
    sample_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    """Least time of sampling."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    time_embedding: TimeEmbedding = "positional"
    """How the noise level is embedded: sinusoids of 999 t, or of ln sigma with random frequencies."""
    fourier_scale: Annotated[float, Field(gt=0)] = 16.0
    """Deviation of the random frequencies."""
    fir: bool = False
    """Resample with the filter [1, 3, 3, 1]."""
    pyramid: bool = False
    """Add the halved noisy image to the features of each level ("progressive input, residual")."""
    rescale: bool = True
    """Multiply residual sums by sqrt(1/2)."""
    reduce: Literal["sum", "mean"] = "mean"
    """Over the dimensions of an image: half the sum, or the mean."""
    predicts: Literal["noise", "velocity"] = "noise"
    """What the network outputs: eps as in the paper, or a eps - s x_0 (Salimans & Ho 2022), `vp` only. An error in eps is
    150 times as large in the clean image at t = 1, an error in the velocity is not enlarged."""


FEWEST = 50
"""Steps of `pc` under which its pictures are speckled: its error falls with the step size alone."""


@dataclass(frozen=True, kw_only=True)
class SDESampling(SamplerConfig):
    """How a run draws: any sampler of the other diffusion families, or the paper's own two."""

    # Wider than the field it replaces, and never seen where the narrow one is expected.
    sampler: Literal["pc", "ode", "ancestral", "ddim", "dpmpp", "heun", "euler"] = "pc"  # type: ignore[assignment]
    """`pc` is predictor-corrector; `ode` follows the probability flow with steps of its own choice."""
    predictor: Literal["reverse-diffusion", "euler-maruyama"] = "euler-maruyama"
    """Step of the reverse process in `pc`."""
    corrections: Annotated[int, Field(ge=0)] = 0
    """Langevin steps per level in `pc`."""
    snr: Annotated[float, Field(gt=0)] = 0.16
    """Signal-to-noise ratio of the Langevin steps."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-5
    """Error of a step of `ode`, absolute and relative."""
    clip: bool = False
    """Clamp the predicted clean image to [-1, 1], as Ho et al. 2020 do: a network that has seen little errs most where
    the noise is strongest, and that error would grow with every step."""

    def cautions(self) -> list[str]:
        """Warn of the predictor-corrector in few steps."""
        if self.sampler != "pc" or self.steps >= FEWEST:
            return []
        return [
            f"{self.steps} steps of the predictor-corrector leave noise in the pictures, which needs {FEWEST} at least and "
            f"1,000 in the paper; write `--steps {FEWEST}`, or `--sampler dpmpp`, which draws in 25"
        ]

    def by_levels(self) -> SamplerConfig:
        """Return a sampler that walks given noise levels, as editing does: the nearest relative of `pc` and of `ode`."""
        if self.sampler == "pc":
            return replace(self, sampler="ancestral")
        return replace(self, sampler="heun") if self.sampler == "ode" else self


@final
class ScoreSDE(diffusion.DiffusionFamily[SDESampling]):
    """A network that sees the noise in x_t = a(t) x_0 + s(t) eps; the score is -eps / s (Song et al. 2021b)."""

    Config = Model
    Sampling = SDESampling
    bound = "ode"
    config: Model
    schedule: SDE

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        _check(config, data.size)
        self.conditions = conditioning.chosen_labels(config.labels, data)
        network = replace(
            config.network(data, self.conditions),
            time_embedding=config.time_embedding,
            fourier_scale=config.fourier_scale,
            fir=config.fir,
            pyramid=config.pyramid,
            rescale=config.rescale,
        )
        self.net = ScoreNet(network)
        self.schedule = process(config, config.sample_eps)

    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase that trains the network."""
        return (Phase("model", (self.net,), self.loss),)

    def loss(self, batch: Batch) -> Losses:
        """Return the squared error of what the network predicts, for a time drawn uniformly per image.

        For noise that is eq. 7 with weight s(t)^2. `mse` is the error of the noise whatever is predicted, since an error in
        the velocity is 1 / a(t) times that in the noise.
        """
        x_0, labels = batch.images, conditioning.pick_labels(batch.labels, self.conditions, self.data)
        if labels is not None and self.training:
            labels = conditioning.drop_labels(labels, self.config.label_drop)
        t = self.config.train_eps + (1 - self.config.train_eps) * torch.rand(len(x_0), 1, 1, 1, device=x_0.device)
        noise = torch.randn_like(x_0)
        a, s = self.schedule.rates(t)
        x_t = diffusion.mix(x_0, noise, a, s)
        wanted = diffusion.target(self.config.predicts, x_0, noise, a, s)
        error = (self.predict(x_t, t.flatten(), s.flatten(), labels) - wanted).square()
        if self.config.predicts == "velocity":
            loss = error.mean() if self.config.reduce == "mean" else error.sum((1, 2, 3)).mean() / 2
            return {"velocity": loss, "mse": (a.square() * error.detach()).mean()}
        mse = error.mean((1, 2, 3)).mean()
        if self.config.reduce == "mean":
            return {"mse": mse}
        return {"score": error.sum((1, 2, 3)).mean() / 2, "mse": mse.detach()}

    def predict(self, x_t: Tensor, time: Tensor, s: Tensor, labels: Tensor | None) -> Tensor:
        """Return the noise, or the velocity, in x_t (B, 3, H, W) at times (B,) with deviations s (B,)."""
        # Half of s: the paper's images are in [0, 1].
        level = (s / 2).log() if self.config.time_embedding == "fourier" else 999 * time
        return self.net(x_t, level, labels).float()

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return E[x_0 | x] for x = x_0 + sigma * noise, (B, 3, H, W); sigma (B,); labels (B, A) or None."""
        time = self.schedule.time_of(sigma)
        a, s = self.schedule.rates(time)
        picked = conditioning.pick_labels(labels, self.conditions, self.data)
        a, s = a.view(-1, 1, 1, 1), s.view(-1, 1, 1, 1)
        output = self.predict(x * a, time, s.flatten(), picked)
        if self.config.predicts == "velocity":
            return diffusion.clean_image("velocity", output, x * a, a, s)
        return x - sigma.view(-1, 1, 1, 1) * output

    def denoiser(self, sampling: SDESampling) -> samplers.ConditionalDenoiser:
        """Return `denoise`, clamped where `sampling` says so."""

        def clamped(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
            return self.denoise(x, sigma, labels).clamp(-1, 1)

        return clamped if sampling.clip else self.denoise

    def diffusion(self, sampling: SDESampling) -> diffusion.DiffusionModel:
        """Return what drawing and editing need of it."""
        return diffusion.DiffusionModel(self.schedule, self.denoiser(sampling))

    def sample(
        self, noise: Noise, labels: Tensor | None, sampling: SDESampling, callback: Callback | None = None
    ) -> Tensor:
        """Draw images (B, 3, H, W) in [-1, 1] by algorithms 2 to 5 (`pc`), eq. 13 (`ode`), or any other sampler."""
        if sampling.sampler not in ("pc", "ode"):
            return super().sample(noise, labels, sampling, callback)
        size, schedule = self.data.size, self.schedule
        denoise = self.autoguided(sampling).guided(labels, sampling.guidance)
        x = noise(3, size, size) * schedule.prior
        if sampling.sampler == "pc":
            corrector = samplers.Corrector(steps=sampling.corrections, snr=sampling.snr)
            return samplers.predictor_corrector(
                denoise,
                x,
                schedule,
                sampling.steps,
                noise=noise,
                predictor=sampling.predictor,
                corrector=corrector,
                callback=callback,
            ).clamp(-1, 1)
        x = x * schedule.scale_at(schedule.sigma_max) / schedule.prior
        x = samplers.flow(denoise, x, schedule.sigma_max, schedule.sigma_min, tolerance=sampling.tolerance)
        return denoise(x, x.new_full((len(x),), schedule.sigma_min)).clamp(-1, 1)

    def validate(self, batch: Batch) -> Losses:
        """Return the training loss on held-out images."""
        return self.loss(batch)

    def bits_per_dim(self, images: Tensor, noise: Noise) -> Tensor:
        """Return the likelihood of eq. 39 by the probability flow, (B, 3, H, W) in [-1, 1] -> (B,)."""
        flow = diffusion.DiffusionModel(process(self.config, self.config.train_eps), self.denoise)
        return diffusion.bits_per_dim(flow, images, noise)


def process(config: Model, eps: float) -> SDE:
    """Return the stochastic process of a config for images in [-1, 1], where the noise of `ve` is twice that of [0, 1]."""
    if config.process == "ve":
        return VE(2 * config.sigma_min, 2 * config.sigma_max, eps)
    return (VP if config.process == "vp" else SubVP)(config.beta_min, config.beta_max, eps)


def _check(config: Model, size: int) -> None:
    check_halvings(size, len(config.multipliers), "model.multipliers")
    if config.predicts == "velocity" and config.process != "vp":
        raise ConfigError(
            f"a velocity is defined where a^2 + s^2 = 1, which `process: {config.process}` does not keep",
            hint="add `--set model.process=vp` or `--set model.predicts=noise`",
        )
    if config.sigma_min >= config.sigma_max:
        raise ConfigError("`model.sigma_min` is not below `model.sigma_max`", hint="the paper has 0.01 and 50")
    if config.beta_min >= config.beta_max:
        raise ConfigError("`model.beta_min` is not below `model.beta_max`", hint="the paper has 0.1 and 20")
