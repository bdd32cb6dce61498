"""ECT: a diffusion run tuned to draw in one to four network calls (consistency tuning, Geng et al. 2024)."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from animegen_cli.config import Sampling
from animegen_cli.errors import ConfigError, UsageError
from animegen_cli.model import conditioning, diffusion, preconditioning, samplers
from animegen_cli.model.family import Batch, DataSpec, Edit, Exported, Family, Input, Losses, Network, Phase
from animegen_cli.model.nets.scorenet import ScoreNet, ScoreNetSection, check_fits
from animegen_cli.model.noise import random_numbers_given_back
from animegen_cli.model.schedules import KarrasSchedule

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from animegen_cli.model.noise import Noise
    from animegen_cli.model.samplers import Callback

INPAINTING = 18
"""Levels of inpainting, which one call cannot do: each lets the new content see more of the old (Song et al. 2023, algorithm 4)."""


@dataclass(frozen=True, kw_only=True)
class Model(ScoreNetSection):
    """The network and its preconditioning, which are those of the run that is tuned, and the tuning."""

    patch: Annotated[int, Field(ge=1)] = 1
    """The network works on squares of so many pixels."""
    preconditioning: Literal["karras", "straight"] = "karras"
    """How the network's output becomes a clean image: as in Karras et al. 2022, or along a rectified flow's line."""
    sigma_data: Annotated[float, Field(gt=0)] = 0.5
    """Deviation of the images in [-1, 1], for `karras`."""
    sigma_min: Annotated[float, Field(gt=0)] = 0.002
    """Lowest noise level of a strength in editing."""
    sigma_max: Annotated[float, Field(gt=0)] = 80.0
    """Noise level of the first call."""
    p_mean: float = -1.1
    """Mean of ln t in tuning, with t the higher noise level of a pair."""
    p_std: Annotated[float, Field(gt=0)] = 2.0
    """Deviation of ln t in tuning."""
    q: Annotated[float, Field(gt=1)] = 256.0
    """How near the lower level is: r = t (1 - n(t) / q), n(t) = 1 + 8 / (1 + e^t), and 0 where that is negative."""


@dataclass(frozen=True, kw_only=True)
class ECTSampling(Sampling):
    """How a run draws."""

    steps: Annotated[int, Field(ge=1)] = 2
    """Calls of the network."""
    renoise: tuple[Annotated[float, Field(gt=0)], ...] = (0.821, 0.4, 0.2)
    """Noise levels of the calls after the first, falling; `steps` - 1 of them are used."""
    guidance: Annotated[float, Field(ge=0)] = 1.0
    """Classifier-free guidance weight; 1 is the plain conditional model, others call the network twice as often."""

    def __post_init__(self) -> None:
        """Refuse more calls than there are levels."""
        if self.steps > len(self.renoise) + 1:
            raise ConfigError(
                f"{self.steps} calls need {self.steps - 1} falling levels in `sample.renoise`, which has {len(self.renoise)}",
                hint=f"write `--steps {len(self.renoise) + 1}`, or more levels: `--set sample.renoise=[0.821,0.4,0.2,0.1]`",
            )
        if any(high <= low for high, low in zip(self.renoise, self.renoise[1:], strict=False)):
            raise ConfigError(
                "the levels of `sample.renoise` do not fall", hint="write `--set sample.renoise=[0.821,0.4]`"
            )


@final
class ECT(Family):
    """A consistency model f(x; sigma): the clean image at the end of the path through x, in one call (Song et al. 2023)."""

    Config = Model
    Sampling = ECTSampling
    inference = ("net",)
    edits = frozenset({"strength"})
    tunes = ("edm", "flow")
    config: Model

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        check_fits(data.size, config.multipliers, config.patch)
        self.conditions = conditioning.chosen_labels(config.labels, data)
        self.net = ScoreNet(replace(config.network(data, self.conditions), patch=config.patch))
        self.schedule = KarrasSchedule(config.sigma_min, config.sigma_max)

    @classmethod
    def taken_over(cls, family: str, model: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that a run decides which is tuned: its network, its preconditioning, its levels and labels."""
        network = {key: model[key] for key in ("channels", "multipliers", "blocks", "attention", "taper", "labels")}
        if family == "flow":
            low, high = (model[key] / (1 - model[key]) for key in ("t_min", "t_max"))
            return network | {"patch": 1, "preconditioning": "straight", "sigma_min": low, "sigma_max": high}
        own = {"preconditioning": model.get("preconditioning", "karras")}
        return network | own | {key: model[key] for key in ("patch", "sigma_data", "sigma_min", "sigma_max")}

    # ---- tuning -----------------------------------------------------------------------------------------------

    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase that tunes the network."""
        return (Phase("model", (self.net,), self.loss),)

    def loss(self, batch: Batch) -> Losses:
        """Return |f(y + t n; t) - f(y + r n; r)| / (t - r), the second without a gradient, y itself where r = 0.

        Geng et al. 2024, section 3, with their weight and without the Huber constant: the length of the difference of two
        images, a mean over the images. Both calls see the same noise n and drop the same features.
        """
        y, labels = batch.images, conditioning.pick_labels(batch.labels, self.conditions, self.data)
        if labels is not None and self.training:
            labels = conditioning.drop_labels(labels, self.config.label_drop)
        t = (self.config.p_mean + self.config.p_std * torch.randn(len(y), device=y.device)).exp()
        r = self.lower_level(t)
        noise = torch.randn_like(y)
        with torch.no_grad(), self._same_dropout(y.device):
            near = self.clean(y + r.view(-1, 1, 1, 1) * noise, r.clamp(min=self.config.sigma_min), labels)
            near = torch.where(r.view(-1, 1, 1, 1) > 0, near, y)
        far = self.clean(y + t.view(-1, 1, 1, 1) * noise, t, labels)
        distance = (far - near).flatten(1).norm(dim=1)
        error = (far.detach() - y).square().mean()
        return {"consistency": (distance / (t - r)).mean(), "denoising": error}

    def lower_level(self, t: Tensor) -> Tensor:
        """Return r < t of each pair, (B,) -> (B,) (Geng et al. 2024, eq. 17)."""
        return t * (1 - (1 + 8 * torch.sigmoid(-t)) / self.config.q).clamp(min=0)

    def _same_dropout(self, device: torch.device) -> AbstractContextManager[None]:
        """Give torch's random numbers back at the end, so that the next call drops the same features."""
        if not (self.training and self.config.dropout):
            return nullcontext()
        return random_numbers_given_back(device)

    def clean(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return f(x; sigma) for x (B, 3, H, W), sigma (B,) above 0 and labels (B, len(conditions)) or None."""

        def network(scaled: Tensor, time: Tensor) -> Tensor:
            return self.net(scaled, time, labels)

        if self.config.preconditioning == "straight":
            return preconditioning.straight(network, x, sigma)
        return preconditioning.karras(network, x, sigma, self.config.sigma_data)

    def validate(self, batch: Batch) -> Losses:
        """Return the training loss on held-out images."""
        return self.loss(batch)

    # ---- drawing and editing ----------------------------------------------------------------------------------

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return f(x; sigma), (B, 3, H, W); sigma (B,); labels (B, A) or None."""
        return self.clean(x, sigma, conditioning.pick_labels(labels, self.conditions, self.data))

    def _path(self, start: float, sampling: ECTSampling) -> list[float]:
        """Return the levels of the calls from `start` on, and 0."""
        return [start, *[level for level in sampling.renoise if level < start][: sampling.steps - 1], 0.0]

    def sample(
        self, noise: Noise, labels: Tensor | None, sampling: ECTSampling, callback: Callback | None = None
    ) -> Tensor:
        """Draw images (B, 3, H, W) in [-1, 1] by multistep consistency sampling (Song et al. 2023, algorithm 1)."""
        size, levels = self.data.size, self._path(self.config.sigma_max, sampling)

        def see(step: int, x: Tensor, denoised: Tensor) -> None:
            if callback is not None:
                callback(step, x / (1 + levels[step] ** 2) ** 0.5, denoised)

        denoise = samplers.guided(self.denoise, labels, sampling.guidance)
        x = self.config.sigma_max * noise(3, size, size)
        return samplers.consistency(denoise, x, levels, noise=noise, callback=see).clamp(-1, 1)

    def corrupt(self, images: Tensor, noise: Tensor, fraction: float) -> Tensor:
        """Return x_0 + sigma eps at `fraction` of the way, scaled to unit variance; the image itself at 0."""
        return diffusion.noised(self.schedule, images, noise, fraction)

    def translate(self, images: Tensor, noise: Noise, edit: Edit, sampling: ECTSampling) -> Tensor:
        """Return images (B, 3, H, W) in [-1, 1], noised to `edit.strength` of the way and drawn anew from there.

        Raises:
            UsageError: a strength outside (0, 1].
        """
        if not 0 < edit.strength <= 1:
            raise UsageError(f"a strength of {edit.strength:g} is not in (0, 1]", hint="write `--strength 0.5`")
        levels = self._path(self.schedule.level_at(edit.strength), sampling)
        x = images + levels[0] * noise(*images.shape[1:])
        return samplers.consistency(samplers.guided(self.denoise, None, 1.0), x, levels, noise=noise).clamp(-1, 1)

    def inpaint(
        self, images: Tensor, mask: Tensor, noise: Noise, labels: Tensor | None, sampling: ECTSampling
    ) -> Tensor:
        """Draw new content where mask (B, 1, H, W) is 1 (Song et al. 2023, algorithm 4), with 18 calls whatever `steps` says."""
        fresh, shape = mask > 0.5, images.shape[1:]
        denoise = samplers.guided(self.denoise, labels, sampling.guidance)
        x = torch.where(fresh, torch.zeros_like(images), images)
        for level in self.schedule.sigmas(INPAINTING, "karras").tolist()[:-1]:
            noisy = x + level * noise(*shape)
            x = torch.where(fresh, denoise(noisy, x.new_full((len(x),), level)).clamp(-1, 1), images)
        return x

    def exported(self, sampling: ECTSampling) -> Exported:
        """Return all calls as one network from noise to the image."""
        size, names, levels = self.data.size, self.conditions, self._path(self.config.sigma_max, sampling)

        def draw(*given: Tensor) -> Tensor:
            labels = conditioning.spread_labels(given[sampling.steps], names, self.data) if names else None
            fresh = iter(given[1 : sampling.steps])
            denoise = samplers.guided(self.denoise, labels, sampling.guidance)
            x = self.config.sigma_max * given[0]
            return samplers.consistency(denoise, x, levels, noise=lambda *_: next(fresh)).clamp(-1, 1)

        noises = {
            f"noise{call}": Input("noise", f"what call {call} begins with, before it is scaled", (3, size, size))
            for call in range(1, sampling.steps + 1)
        }
        inputs = noises | conditioning.label_input(names, self.data)
        return Exported([Network("generator", draw, inputs, "the image")], {}, names)
