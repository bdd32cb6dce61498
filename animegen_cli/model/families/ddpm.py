"""Denoising diffusion probabilistic models: Ho, Jain & Abbeel 2020; improvements of Nichol & Dhariwal 2021."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from animegen_cli.errors import ConfigError, DataError
from animegen_cli.model import conditioning, diffusion
from animegen_cli.model.family import Batch, DataSpec, DiffusersModel, Losses, Phase
from animegen_cli.model.nets import unet_diffusers
from animegen_cli.model.nets.unet import UNet, attending, check_halvings
from animegen_cli.model.samplers import SamplerConfig
from animegen_cli.model.schedules import DiscreteSchedule, cosine_betas, linear_betas

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Model(conditioning.LabelSection):
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


@final
class DDPM(diffusion.DiffusionFamily[SamplerConfig]):
    """A U-Net that predicts the noise of one of T levels (Ho et al. 2020)."""

    Config = Model
    inference = ("unet",)
    config: Model
    schedule: DiscreteSchedule

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        self.conditions = conditioning.chosen_labels(config.labels, data)
        _check(config, data.size)
        self.unet = UNet(
            [config.channels * m for m in config.multipliers],
            attending(data.size, len(config.multipliers), config.attention),
            blocks=config.blocks,
            head_width=config.head_width,
            dropout=config.dropout,
            groups=config.groups,
            classes=[len(data.attributes[name]) for name in self.conditions],
            diffusers=config.layout == "diffusers",
        )
        betas = linear_betas(config.timesteps) if config.schedule == "linear" else cosine_betas(config.timesteps)
        self.schedule = DiscreteSchedule(betas)

    @property
    def quantities(self) -> dict[str, str]:
        """What `mse` depends on: what is predicted, the levels, and their weights."""
        c = self.config
        weights = f", weighed by {c.weighting} with gamma {c.snr_gamma:g}" if c.weighting == "min-snr" else ""
        return {"mse": f"squared error of the {c.predicts} over {c.timesteps} levels, {c.schedule}{weights}"}

    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase that trains the network."""
        return (Phase("model", (self.unet,), self.loss),)

    def loss(self, batch: Batch) -> Losses:
        """Return the loss of Ho et al. 2020, eq. 14, for a time drawn uniformly per image."""
        x_0, labels = batch.images, conditioning.pick_labels(batch.labels, self.conditions, self.data)
        if labels is not None:
            labels = conditioning.drop_labels(labels, self.config.label_drop)
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
        """Return E[x_0 | x] for x = x_0 + sigma * noise, (B, 3, H, W); sigma (B,); labels (B, A) or None."""
        level = sigma.view(-1, 1, 1, 1)
        a = (1 + level.square()).rsqrt()
        picked = conditioning.pick_labels(labels, self.conditions, self.data)
        output = self.unet(x * a, self.schedule.time_of(sigma), picked).float()
        denoised = diffusion.clean_image(self.config.predicts, output, x * a, a, level * a)
        return denoised.clamp(-1, 1) if self.config.clip else denoised

    def diffusion(self, _: SamplerConfig) -> diffusion.DiffusionModel:
        """Return what drawing and editing need of it, the same for every sampler."""
        return diffusion.DiffusionModel(self.schedule, self.denoise)

    def corrupt(self, images: Tensor, noise: Tensor, fraction: float) -> Tensor:
        """Return x_t at t = fraction * T (Ho et al. 2020, eq. 4); the image itself at 0."""
        if fraction <= 0:
            return images
        index = torch.full((len(images),), round(fraction * (len(self.schedule) - 1)), device=images.device)
        return diffusion.mix(images, noise, *self.schedule.rates(index))

    def validate(self, batch: Batch) -> Losses:
        """Return the training loss on held-out images."""
        return self.loss(batch)

    # ---- diffusers ------------------------------------------------------------------------------------------

    def to_diffusers(self, sampling: SamplerConfig) -> DiffusersModel:
        """Return the U-Net, and the scheduler whose steps are those of `sampling` wherever diffusers has them."""
        if len(self.conditions) > 1:
            raise ConfigError(
                f"this network is conditioned on {len(self.conditions)} attributes, and diffusers' knows one class",
                hint="use `--to onnx`, or train with one label such as `--set model.labels=[hair]`",
            )
        scheduler, options, notes = _scheduler(self.config, sampling)
        if self.guide is not None and sampling.autoguidance != 1:
            notes.append("The run draws with autoguidance, which diffusers does not know; `--to onnx` keeps it.")
        if self.conditions:
            notes.append(
                "The pipeline's own call passes no classes: use network and scheduler as shown. It knows no guidance."
            )
        return DiffusersModel(
            network=unet_diffusers.to_config(self._shape(), size=self.data.size, dropout=self.config.dropout),
            tensors=unet_diffusers.to_tensors(self.unet, classes=bool(self.conditions)),
            scheduler=scheduler,
            pipeline=scheduler["_class_name"].replace("Scheduler", "Pipeline"),
            options=options,
            labels=self.conditions,
            notes=notes,
        )

    def from_diffusers(self, found: DiffusersModel) -> tuple[dict[str, Tensor], list[str]]:
        """Return a network of the same shape; one without classes leaves the labels without effect, as they begin."""
        theirs, ours = unet_diffusers.from_config(found.network), self._shape()
        if theirs.classes is None:
            ours = replace(ours, classes=None)
        if theirs != ours or (theirs.classes and len(self.conditions) > 1):
            raise _another(theirs, ours, self.data.size)
        state = unet_diffusers.from_tensors(self.unet, found.tensors, classes=theirs.classes is not None)
        for name, tensor in self.unet.labels.state_dict().items():
            state.setdefault(f"labels.{name}", torch.zeros_like(tensor))
        return {f"unet.{name}": tensor for name, tensor in state.items()}, _differences(self.config, found.scheduler)

    def _shape(self) -> unet_diffusers.Shape:
        config, classes = self.config, [len(self.data.attributes[name]) + 1 for name in self.conditions]
        return unet_diffusers.Shape(
            widths=tuple(config.channels * m for m in config.multipliers),
            attends=attending(self.data.size, len(config.multipliers), config.attention),
            blocks=config.blocks,
            head_width=config.head_width,
            groups=config.groups,
            layout=config.layout,
            classes=classes[0] if classes else None,
        )


_PREDICTS = {"noise": "epsilon", "image": "sample", "velocity": "v_prediction"}
_BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def _process(config: Model) -> dict[str, Any]:
    """The forward process and what is predicted, in diffusers' words."""
    betas = linear_betas(config.timesteps)
    return {
        "num_train_timesteps": config.timesteps, "beta_schedule": _BETAS[config.schedule],
        "beta_start": float(betas[0]), "beta_end": float(betas[-1]), "prediction_type": _PREDICTS[config.predicts],
    }  # fmt: skip


def _scheduler(config: Model, sampling: SamplerConfig) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """diffusers' scheduler_config.json, the arguments of a call that draws like `sampling`, and in what it differs."""
    ancestral, notes = sampling.sampler == "ancestral", []
    if sampling.sampler not in ("ancestral", "ddim"):
        notes.append(f"The run draws by `{sampling.sampler}`; the pipeline by DDIM, whose scheduler can be exchanged.")
    if sampling.spacing not in ("leading", "trailing"):
        notes.append(f"The run's levels are spaced by `{sampling.spacing}`, the pipeline's evenly (`trailing`).")
    steps = min(sampling.steps, config.timesteps)
    if config.timesteps % steps:
        notes.append(f"{config.timesteps} levels do not divide into {steps} steps, which diffusers rounds otherwise.")
    spacing = sampling.spacing if sampling.spacing in ("leading", "trailing") else "trailing"
    if ancestral and sampling.variance == "large" and spacing == "trailing" and steps < config.timesteps:
        notes.append("The pipeline adds noise after its last step, which the run does not (`variance: large`).")
    scheduler = {
        "_class_name": "DDPMScheduler" if ancestral else "DDIMScheduler",
        "_diffusers_version": "0.30.0",
        **_process(config),
        "clip_sample": config.clip,
        "clip_sample_range": 1.0,
        "timestep_spacing": spacing,
        "steps_offset": 0,
        **({"variance_type": f"fixed_{sampling.variance}"} if ancestral else {"set_alpha_to_one": True}),
    }
    # Our DDIM takes the direction from the clipped image; diffusers' does only when it is asked to.
    own = {} if ancestral else {"eta": sampling.eta, "use_clipped_model_output": True}
    return scheduler, {"num_inference_steps": steps, **own}, notes


def _another(theirs: unet_diffusers.Shape, ours: unet_diffusers.Shape, size: int) -> DataError:
    """What does not fit, and the settings that would."""
    if theirs.classes and replace(theirs, classes=ours.classes) == ours:
        return DataError(
            f"its network has {theirs.classes} classes, and this config's needs {ours.classes or 'none'}",
            hint="choose one label with `--set model.labels=[hair]`: with as many values as it has classes but the first",
        )
    wanted, have = unet_diffusers.settings(theirs, size), unet_diffusers.settings(ours, size)
    words = [
        f"--set model.{key}={str(value).replace(' ', '').replace('None', 'null')}"
        for key, value in wanted.items()
        if value != have[key]
    ]
    return DataError("its network has another shape than this config's", hint=f"add {' '.join(words)}")


def _differences(config: Model, scheduler: Mapping[str, Any]) -> list[str]:
    """In what the network's training differed from what this config is about to do."""
    ours = _process(config)
    if ours["beta_schedule"] != "linear":
        ours = {key: value for key, value in ours.items() if key not in ("beta_start", "beta_end")}
    return [
        f"its network was trained with {key} {scheduler[key]}, and this config has {value}"
        for key, value in ours.items()
        if key in scheduler and scheduler[key] != value
    ]


def _check(config: Model, size: int) -> None:
    check_halvings(size, len(config.multipliers), "model.multipliers")
    for multiplier in config.multipliers:
        width = config.channels * multiplier
        if width % config.groups or (config.head_width and width % config.head_width):
            raise ConfigError(
                f"{width} channels do not split into {config.groups} groups or heads of {config.head_width} channels",
                hint="change `model.channels`, `model.groups` or `model.head_width`",
            )
