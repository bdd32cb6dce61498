"""What diffusion families share: what the network predicts, how losses are weighted, how a sampler becomes images.

The base of these families, at the end, turns what a family answers (`denoise` at the levels of its `schedule`) into what it can do.
Notation: x_t = a x_0 + s eps with a^2 + s^2 = 1; sigma = s / a; SNR = a^2 / s^2.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, cast

import torch
from torch import Tensor

from animegen_cli.errors import UsageError
from animegen_cli.model import conditioning, likelihoods, samplers
from animegen_cli.model.family import Edit, Exported, Family, Input, Network
from animegen_cli.model.schedules import Schedule

if TYPE_CHECKING:
    from animegen_cli.model.noise import Noise

SamplerConfigT = TypeVar("SamplerConfigT", bound=samplers.SamplerConfig)
Predicts = Literal["noise", "image", "velocity"]


def mix(x_0: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """Return x_t = a x_0 + s eps (Ho et al. 2020, eq. 4)."""
    return a * x_0 + s * noise


def target(predicts: Predicts, x_0: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """Return what the network should output; velocity is a eps - s x_0 (Salimans & Ho 2022, section 4)."""
    if predicts == "noise":
        return noise
    return x_0 if predicts == "image" else a * noise - s * x_0


def clean_image(predicts: Predicts, output: Tensor, x_t: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """Return x_0 from the network's output: (x_t - s eps) / a, x_0 itself, or a x_t - s v."""
    if predicts == "noise":
        return (x_t - s * output) / a
    return output if predicts == "image" else a * x_t - s * output


def noise_of(denoised: Tensor, x_t: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """Return the noise that an estimate of the clean image implies: (x_t - a x_0) / s."""
    return (x_t - a * denoised) / s


def min_snr_weight(predicts: Predicts, a: Tensor, s: Tensor, gamma: float) -> Tensor:
    """Return the weight of Hang et al. 2023: min(SNR, gamma) on the x_0 loss, rewritten for what is predicted; 1 where SNR = 0."""
    snr = (a / s).square()
    capped = snr.clamp(max=gamma)
    scale = {"noise": snr, "image": torch.ones_like(snr), "velocity": snr + 1}[predicts]
    return torch.where(snr == 0, torch.ones_like(snr), capped / scale)


# ---- drawing and editing ----------------------------------------------------------------------------------------


def _itself(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class DiffusionModel:
    """A trained diffusion model as drawing, editing and likelihoods see it."""

    schedule: Schedule
    denoise: samplers.ConditionalDenoiser
    """Clean image from (x, sigma, labels), in the family's own units and variance-exploding coordinates."""
    _: KW_ONLY
    into: Callable[[Tensor], Tensor] = _itself
    """[-1, 1] to the family's own units."""
    out: Callable[[Tensor], Tensor] = _itself
    """And back."""
    guide: samplers.Guide | None = None
    """The weaker model that drawing leads away from; None without autoguidance."""

    def guided(self, labels: Tensor | None, weight: float) -> samplers.Denoiser:
        """Return the denoiser that drawing walks with: guided by labels (B, A) with this weight, and by the guide."""
        return samplers.guided(self.denoise, labels, weight, self.guide)

    def draw(
        self,
        size: int,
        noise: Noise,
        labels: Tensor | None,
        sampling: samplers.SamplerConfig,
        callback: samplers.Callback | None = None,
    ) -> Tensor:
        """Return images (B, 3, size, size) in units of [-1, 1], unclipped: start from noise and walk the sampler's levels.

        `callback` sees x / sqrt(1 + sigma^2), the variance-preserving state that papers show, in the same units.
        """
        levels = self.schedule.sigmas(sampling.steps, sampling.spacing).tolist()

        def see(step: int, x: Tensor, denoised: Tensor) -> None:
            if callback is not None:
                callback(step, self.out(x / (1 + levels[step] ** 2) ** 0.5), self.out(denoised))

        x = noise(3, size, size) * self.schedule.scale_at(levels[0])
        denoise = self.guided(labels, sampling.guidance)
        return self.out(samplers.run(sampling, denoise, x, levels, noise, see if callback else None))

    def translate(self, images: Tensor, noise: Noise, edit: Edit, sampling: samplers.SamplerConfig) -> Tensor:
        """Take images (B, 3, H, W) in [-1, 1] up to a level and denoise them from there (Meng et al. 2022, SDEdit).

        `edit.strength` is the share of the forward process. With `edit.exact` no noise is added: the image follows the
        inverted DDIM sampler up and the plain one down, which leads back to it.

        Raises:
            UsageError: a strength outside (0, 1].
        """
        if not 0 < edit.strength <= 1:
            raise UsageError(f"a strength of {edit.strength:g} is not in (0, 1]", hint="write `--strength 0.5`")
        start = self.schedule.level_at(edit.strength)
        walked = self.schedule.sigmas(sampling.steps, sampling.spacing).tolist()
        levels = [start, *(level for level in walked if level < start * (1 - 1e-6))]
        x = self.into(images)
        if edit.exact:
            denoise = samplers.guided(self.denoise, None, 1.0)  # a guide would lead away from the picture that went in
            x = samplers.invert(denoise, x, levels)
            x = samplers.ddim(denoise, x, levels)
        else:
            x = samplers.run(sampling, self.guided(None, 1.0), x + start * noise(*x.shape[1:]), levels, noise)
        return self.out(x).clamp(-1, 1)

    def denoised(self, noisy: Tensor, deviation: float) -> Tensor:
        """Return E[x_0 | x] of x = x_0 + deviation * noise, both (B, 3, H, W) in units of [-1, 1], clipped: one evaluation.

        Where the family's own units stretch the channels unequally, the level is that of their root mean square.
        """
        one = noisy.new_ones(1, 3, 1, 1)
        stretch = (self.into(one) - self.into(0 * one)).square().mean().sqrt()
        sigma = (deviation * stretch).clamp(self.schedule.sigma_min, self.schedule.sigma_max).expand(len(noisy))
        return self.out(self.denoise(self.into(noisy), sigma, None)).clamp(-1, 1)

    def inpaint(
        self, images: Tensor, mask: Tensor, noise: Noise, labels: Tensor | None, sampling: samplers.SamplerConfig
    ) -> Tensor:
        """Draw new content where mask (B, 1, H, W) is 1 that suits what stays where it is 0 (Lugmayr et al. 2022, algorithm 1).

        After each step the known pixels are replaced by the image at that level. Tenths of the way are walked three
        times, with noise added in between, so that the new content can agree with the known: the ancestral sampler's
        steps, whatever `sampling` says, since any other would have to remember the steps before a jump.
        """
        x_0, fresh = self.into(images), mask > 0.5
        levels = self.schedule.sigmas(sampling.steps, sampling.spacing).tolist()
        denoise = self.guided(labels, sampling.guidance)
        x = noise(*images.shape[1:]) * self.schedule.scale_at(levels[0])
        for now, then in pairwise(resampling(sampling.steps, max(sampling.steps // 10, 1), 3)):
            high, low = levels[now], levels[then]
            if then < now:
                x = x + math.sqrt(low**2 - high**2) * noise(*x.shape[1:])
                continue
            x = samplers.ancestral(denoise, x, [high, low], noise=noise)
            known = x_0 + low * noise(*x.shape[1:]) if low > 0 else x_0
            x = torch.where(fresh, x, known)
        return torch.where(fresh, self.out(x).clamp(-1, 1), images)


def noised(schedule: Schedule, images: Tensor, noise: Tensor, fraction: float) -> Tensor:
    """Return x_0 + sigma eps at `fraction` of the way, scaled to unit variance as pictures show it; the image itself at 0."""
    if fraction <= 0:
        return images
    sigma = schedule.level_at(fraction)
    return (images + sigma * noise) / math.sqrt(1 + sigma**2)


def resampling(steps: int, length: int, times: int) -> list[int]:
    """Return indices of levels in the order of their visits: each stretch of `length` steps is walked `times` times.

    From 0, the noisiest, to `steps`, the clean image, which is reached only once.
    """
    path = [0]
    for first in range(0, steps, length):
        last = min(first + length, steps)
        for turn in range(times):
            if turn:
                path.append(first)
            path += range(first + 1, last if last == steps and turn < times - 1 else last + 1)
    return path


# ---- likelihood -------------------------------------------------------------------------------------------------


def flow_nats(model: DiffusionModel, x: Tensor, probe: Tensor, *, tolerance: float = 1e-4) -> Tensor:
    """Return -ln p of points (B, C, H, W) in the family's units by the probability flow (Song et al. 2021b, eq. 39), (B,) nats.

    In variance-exploding coordinates the flow is dx / d ln sigma = x - D(x; sigma), and the log-density along it falls
    by the integral of its divergence, estimated as probe . J probe (Hutchinson; Grathwohl et al. 2019) with one fixed
    probe (B, C, H, W) of independent entries of mean 0 and variance 1. The points count as the lowest level.
    """
    schedule, shape, count = model.schedule, x.shape, x[0].numel()
    low, high = schedule.sigma_min, schedule.sigma_max

    def slope(u: Tensor, flat: Tensor) -> Tensor:
        with torch.enable_grad():
            state = flat[:, :count].detach().view(shape).requires_grad_()
            velocity = state - model.denoise(state, u.exp(), None)
            (product,) = torch.autograd.grad(velocity, state, probe)
        return torch.cat([velocity.detach().flatten(1), (product * probe).flatten(1).sum(1, keepdim=True)], dim=1)

    state = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], dim=1)
    state = samplers.rk45(slope, state, math.log(low), math.log(high), tolerance=tolerance)
    end, gained, scale = state[:, :count], state[:, count], schedule.scale_at(high)
    prior = 0.5 * (end / scale).square().sum(1) + count * (math.log(scale) + 0.5 * math.log(2 * math.pi))
    return prior - gained


def bits_per_dim(model: DiffusionModel, images: Tensor, noise: Noise) -> Tensor:
    """Return the bits per dimension of 8-bit images (B, 3, H, W) in [-1, 1] by the flow, (B,) float32.

    Their values are spread evenly over their bins, with a random sign per pixel as probe, both from `noise`. For families whose own
    units are those of the images.
    """
    uniform = torch.special.ndtr(noise(*images.shape[1:])).clamp(max=1 - 1e-6)
    x = likelihoods.dequantized(images, uniform)
    probe = torch.where(noise(*images.shape[1:]) < 0, -1.0, 1.0)
    count = images[0].numel()
    nats = likelihoods.eight_bit_nats(flow_nats(model, x, probe), count)
    return likelihoods.bits_per_dim(nats, count).float()


# ---- the base of the families --------------------------------------------------------------------------------------


class DiffusionFamily(Family, Generic[SamplerConfigT]):
    """A family that answers which clean image it sees in a noisy one; drawing and editing follow from that.

    `__init__` of a family sets `schedule`, and `conditions` where it knows labels. With `SamplerConfigT` it says which section
    `sample:` it reads.
    """

    Sampling = samplers.SamplerConfig
    inference = ("net",)
    edits = frozenset({"strength", "exact"})
    conditions: tuple[str, ...] = ()
    """The attributes that it is conditioned on."""
    schedule: Schedule
    """Its noise levels."""

    @abstractmethod
    def diffusion(self, sampling: SamplerConfigT, /) -> DiffusionModel:
        """Return the model as it draws with this section."""

    def autoguided(self, sampling: SamplerConfigT) -> DiffusionModel:
        """Return `diffusion`, beside the run's guide where the section asks for one that is there."""
        model = self.diffusion(sampling)
        if self.guide is None or sampling.autoguidance == 1:
            return model
        weaker = cast("DiffusionFamily[SamplerConfigT]", self.guide).diffusion(sampling)
        return replace(model, guide=samplers.Guide(weaker.denoise, sampling.autoguidance, sampling.autoguidance_levels))

    def sample(
        self,
        noise: Noise,
        labels: Tensor | None,
        sampling: SamplerConfigT,
        callback: samplers.Callback | None = None,
    ) -> Tensor:
        """Draw images (B, 3, H, W) in [-1, 1] with the sampler that the section names."""
        return self.autoguided(sampling).draw(self.data.size, noise, labels, sampling, callback).clamp(-1, 1)

    def corrupt(self, images: Tensor, noise: Tensor, fraction: float) -> Tensor:
        """Return x_0 + sigma eps at `fraction` of the way, scaled to unit variance as pictures show it; the image itself at 0."""
        return noised(self.schedule, images, noise, fraction)

    def translate(self, images: Tensor, noise: Noise, edit: Edit, sampling: SamplerConfigT) -> Tensor:
        """Return images (B, 3, H, W) in [-1, 1], noised to `edit.strength` or led there exactly, and denoised."""
        return self.autoguided(sampling).translate(images, noise, edit, sampling.by_levels())

    def denoised(self, noisy: Tensor, deviation: float, sampling: SamplerConfigT, levels: int | None = None) -> Tensor:
        """Return E[x_0 | noisy], (B, 3, H, W) in [-1, 1], by one evaluation of the network; there are no `levels` to choose."""
        del levels
        return self.diffusion(sampling).denoised(noisy, deviation)

    def levels(self) -> int:
        """Return 1: an image passes through no hierarchy."""
        return 1

    def inpaint(
        self, images: Tensor, mask: Tensor, noise: Noise, labels: Tensor | None, sampling: SamplerConfigT
    ) -> Tensor:
        """Return images (B, 3, H, W) in [-1, 1] with new content where mask (B, 1, H, W) is 1."""
        return self.autoguided(sampling).inpaint(images, mask, noise, labels, sampling)

    def exported(self, sampling: SamplerConfigT) -> Exported:
        """Return the denoiser D(x; sigma) as one network, and the levels that the sampler walks with it."""
        model, walk, labels, size = self.autoguided(sampling), sampling.by_levels(), self.conditions, self.data.size
        schedule = model.schedule
        sigmas = schedule.sigmas(walk.steps, walk.spacing)

        def denoise(x: Tensor, sigma: Tensor, asked: Tensor | None = None) -> Tensor:
            return model.guided(conditioning.spread_labels(asked, labels, self.data), 1.0)(x, sigma)

        inputs = {
            "x": Input("noise", "x_0 + sigma * noise, x_0 in the network's units", (3, size, size)),
            "sigma": Input("level", "noise level of each image", (), (schedule.sigma_min, schedule.sigma_max)),
            **conditioning.label_input(labels, self.data),
        }
        zero, one = (model.out(torch.full((1, 3, 1, 1), value)).flatten().tolist() for value in (0.0, 1.0))
        recipe = {
            "start": schedule.scale_at(float(sigmas[0])),
            "sigmas": sigmas.tolist(),
            "mean": zero,
            "std": [high - low for low, high in zip(zero, one, strict=True)],
        }
        return Exported([Network("denoiser", denoise, inputs, "E[x_0 | x] in the network's units")], recipe, labels)
