"""Samplers as plain functions of (denoise, x, sigmas): from noise to images along falling noise levels.

`denoise(x, sigma)` answers one question: what clean image is in this? It takes x = x_0 + sigma * noise, shape
(B, C, H, W), and one level per image, shape (B,), and returns E[x_0 | x]. `sigmas` falls to 0, shape (steps + 1,).
Stochastic samplers take their noise from `noise(C, H, W)`. `callback(step, x, denoised)` sees every intermediate state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from animegen_cli.config import Sampling
from animegen_cli.model.noise import finest_float
from animegen_cli.model.schedules import SDE, Spacing

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x, sigma) -> E[x_0 | x]."""
ConditionalDenoiser = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x, sigma, labels) -> E[x_0 | x, labels]; labels are int64 (B, A), -1 for unknown, or None."""
DrawNoise = Callable[..., Tensor]
"""(C, H, W) -> standard normal numbers (B, C, H, W), new ones at each call."""
Callback = Callable[[int, Tensor, Tensor], None]
"""Called with (step, state, denoised), both (B, C, H, W)."""


@dataclass(frozen=True, kw_only=True)
class SamplerConfig(Sampling):
    """How a diffusion run draws: the section `sample` of its config."""

    renamed: ClassVar[Mapping[str, str]] = {"churn": "s_churn"}

    sampler: Literal["ancestral", "ddim", "dpmpp", "heun", "euler"] = "ddim"
    """Update rule; any works on any diffusion run."""
    steps: Annotated[int, Field(ge=1)] = 50
    """Noise levels visited; `heun` calls the network twice at all but the last."""
    spacing: Spacing = "trailing"
    """How the levels are chosen."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """DDIM's stochasticity: 0 deterministic, 1 the ancestral sampler (Song et al. 2021, eq. 16)."""
    variance: Literal["small", "large"] = "small"
    """Ancestral variance: the posterior's (`small`) or beta_t (`large`); Ho et al. 2020, section 3.2."""
    s_churn: Annotated[float, Field(ge=0)] = 0.0
    """S_churn of `heun` and `euler` (Karras et al. 2022, algorithm 2)."""
    s_min: Annotated[float, Field(ge=0)] = 0.0
    """Lowest level that is churned."""
    s_max: Annotated[float, Field(ge=0)] | None = None
    """Highest level that is churned; all of them when absent."""
    s_noise: Annotated[float, Field(gt=0)] = 1.0
    """Deviation of the noise that churning adds."""
    guidance: Annotated[float, Field(ge=0)] = 1.0
    """Classifier-free guidance weight; 1 is the plain conditional model (Ho & Salimans 2022)."""
    autoguidance: Annotated[float, Field(ge=0)] = 1.0
    """Weight of autoguidance, away from the run's guide, an earlier state of its own (Karras et al. 2024, eq. 3); 1 is off.
    Training sets it where it chose one (`train.guide`)."""
    autoguidance_levels: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]] | None = None
    """Lowest and highest noise level at which the guide is asked, which saves its calls at others (Kynkäänniemi et al.
    2024); all when absent."""

    def preview(self) -> SamplerConfig:
        """Return at most 20 deterministic steps: the same seeds then show what training changed, not what chance did."""
        return replace(self, sampler="ddim", steps=min(self.steps, 20), spacing="trailing", eta=0.0, s_churn=0.0)

    def by_levels(self) -> SamplerConfig:
        """Return a sampler that walks given noise levels, as editing does: itself unless a section knows other kinds."""
        return self


class Guide(NamedTuple):
    """What autoguidance leads away from (Karras et al. 2024)."""

    denoise: ConditionalDenoiser
    """A weaker model of the same images: one that was trained for less time."""
    weight: float
    """1 is off."""
    levels: tuple[float, float] | None = None
    """Lowest and highest noise level at which it guides; all when None."""


@dataclass(frozen=True, kw_only=True)
class Churn:
    """How `heun` raises the levels that it visits by new noise (Karras et al. 2022, algorithm 2); not at all by default."""

    s_churn: float = 0.0
    """S_churn: over the whole walk, divided among the steps; each level rises by at most sqrt(2)."""
    s_min: float = 0.0
    """S_tmin, the lowest level that is raised."""
    s_max: float = math.inf
    """S_tmax, the highest level that is raised."""
    s_noise: float = 1.0
    """S_noise, the standard deviation of the noise that is added."""


@dataclass(frozen=True, kw_only=True)
class Corrector:
    """The Langevin steps of `predictor_corrector` (Song et al. 2021b, algorithms 4 and 5)."""

    steps: int = 0
    """Per level."""
    snr: float = 0.16
    """Their signal-to-noise ratio r."""


def _level(sigma: float, x: Tensor) -> Tensor:
    return x.new_full(x.shape[:1], sigma)  # `len(x)` would fix the batch of an exported network


def _looked(denoise: Denoiser, x: Tensor, sigma: float, step: int, callback: Callback | None) -> Tensor:
    """The clean image that is seen in x at a level; the callback is shown both."""
    denoised = denoise(x, _level(sigma, x))
    if callback:
        callback(step, x, denoised)
    return denoised


def ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: DrawNoise,
    variance: Literal["small", "large"] = "small",
    callback: Callback | None = None,
) -> Tensor:
    """Walk by Ho et al. 2020, algorithm 2, over any sub-sequence of levels: sample q(x_then | x_now, x_0) with x_0 predicted.

    In these coordinates the posterior variance is then^2 (now^2 - then^2) / now^2; beta becomes
    (now^2 - then^2) (1 + then^2) / (1 + now^2). No noise is added at the last step.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        denoised = _looked(denoise, x, now, step, callback)
        x = denoised + (x - denoised) * (then / now) ** 2
        if then > 0:
            spread = (now**2 - then**2) * (then**2 / now**2 if variance == "small" else (1 + then**2) / (1 + now**2))
            x = x + math.sqrt(spread) * noise(*x.shape[1:])
    return x


def ddim(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: DrawNoise | None = None,
    eta: float = 0.0,
    callback: Callback | None = None,
) -> Tensor:
    """Walk by Song et al. 2021, eq. 12 and 16; eta = 0 is deterministic."""
    for step, (now, then) in enumerate(pairwise(sigmas)):
        denoised = _looked(denoise, x, now, step, callback)
        added = eta * math.sqrt(then**2 * (now**2 - then**2)) / now
        x = denoised + (x - denoised) * (math.sqrt(then**2 - added**2) / now)
        if added > 0 and noise is not None:
            x = x + added * noise(*x.shape[1:])
    return x


def consistency(
    denoise: Denoiser, x: Tensor, sigmas: Sequence[float], *, noise: DrawNoise, callback: Callback | None = None
) -> Tensor:
    """Walk by Song et al. 2023, algorithm 1: to a clean image in one call, and up to the next, lower level with new noise."""
    for step, (now, then) in enumerate(pairwise(sigmas)):
        denoised = _looked(denoise, x, now, step, callback)
        x = denoised
        if then > 0:
            x = x + then * noise(*x.shape[1:])
    return x


def invert(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], *, corrections: int = 3) -> Tensor:
    """Walk the deterministic DDIM sampler backwards: from an image up the falling levels `sigmas` to the first of them.

    Each step up solves "DDIM's step down from here ends where I am" by `corrections` fixed-point iterations; the first
    of them alone is the inversion of Song et al. 2021, section 5.4.
    """
    for now, then in pairwise(reversed(sigmas)):
        raised = x
        for _ in range(corrections):
            raised = x + (then - now) * (raised - denoise(raised, _level(then, x))) / then
        x = raised
    return x


def dpmpp(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], *, callback: Callback | None = None) -> Tensor:
    """Walk by DPM-Solver++(2M), Lu et al. 2022, algorithm 2, in data prediction with lambda = -ln sigma.

    The first step is first order, and so is the last one of fewer than ten steps.
    """
    before: Tensor | None = None
    h_before = 0.0
    for step, (now, then) in enumerate(pairwise(sigmas)):
        denoised = _looked(denoise, x, now, step, callback)
        if then == 0:
            return denoised
        h = math.log(now / then)
        short = len(sigmas) - 1 < 10 and step == len(sigmas) - 2
        if before is None or short:
            data = denoised
        else:
            r = h_before / h
            data = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * before
        x = (then / now) * x - math.expm1(-h) * data
        before, h_before = denoised, h
    return x


def heun(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: DrawNoise | None = None,
    churn: Churn = Churn(),
    second_order: bool = True,
    callback: Callback | None = None,
) -> Tensor:
    """Walk by Karras et al. 2022, algorithm 2 (algorithm 1 without churn); by Euler's method without the second order."""
    gamma = min(churn.s_churn / (len(sigmas) - 1), math.sqrt(2) - 1)
    for step, (now, then) in enumerate(pairwise(sigmas)):
        if gamma > 0 and noise is not None and churn.s_min <= now <= churn.s_max:
            raised = now * (1 + gamma)
            x = x + math.sqrt(raised**2 - now**2) * churn.s_noise * noise(*x.shape[1:])
            now = raised
        denoised = _looked(denoise, x, now, step, callback)
        slope = (x - denoised) / now
        moved = x + (then - now) * slope
        if second_order and then > 0:
            slope = (slope + (moved - denoise(moved, _level(then, x))) / then) / 2
            moved = x + (then - now) * slope
        x = moved
    return x


def predictor_corrector(
    denoise: Denoiser,
    x: Tensor,
    process: SDE,
    steps: int,
    *,
    noise: DrawNoise,
    predictor: Literal["reverse-diffusion", "euler-maruyama"] = "reverse-diffusion",
    corrector: Corrector = Corrector(),
    callback: Callback | None = None,
) -> Tensor:
    """Walk by Song et al. 2021b, algorithms 2 to 5: a step of the reverse SDE, after Langevin steps at the same level.

    The signal-to-noise rule takes the norms of each image alone, so that an image does not depend on its batch. The
    last step adds no noise.

    Args:
        denoise: (x, sigma) -> E[x_0 | x] in variance-exploding coordinates, x_t / a.
        x: (B, C, H, W) from the prior, in the process's own coordinates x_t.
        process: the SDE, which is walked from t = 1 down to its `eps`.
        steps: levels, even in time.
        noise: standard normal numbers.
        predictor: how the reverse SDE is stepped: as the process's own chain does, or by Euler-Maruyama.
        corrector: the Langevin steps at each level.
        callback: sees x_t scaled to unit variance of its noise and signal.
    """
    dt = 1 / steps
    for step in range(steps):
        time = 1 - step / max(steps - 1, 1) * (1 - process.eps)
        a, s = (float(rate) for rate in process.rates(torch.tensor(time, dtype=torch.float64)))
        for _ in range(corrector.steps):
            score = (a * denoise(x / a, _level(s / a, x)) - x) / s**2
            z = noise(*x.shape[1:])
            length = z.flatten(1).norm(dim=1)
            # An exact score is about as long as z / s; ten times shorter counts as that, so that no step explodes.
            ratio = length / torch.maximum(score.flatten(1).norm(dim=1), length / (10 * s))
            size = 2 * process.corrector_scale(time, dt) * (corrector.snr * ratio.view(-1, 1, 1, 1)) ** 2
            x = x + size * score + torch.sqrt(2 * size) * z
        denoised = denoise(x / a, _level(s / a, x))
        if callback:
            callback(step, x / math.hypot(a, s), denoised)
        euler = predictor == "euler-maruyama"
        drift, variance = process.euler_maruyama(time, dt) if euler else process.discretized(time, dt)
        x = x - drift * x + variance * (a * denoised - x) / s**2
        if step < steps - 1:
            x = x + math.sqrt(variance) * noise(*x.shape[1:])
    return x


_NODES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
_SLOPES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def rk45(
    slope: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    start: float,
    end: float,
    *,
    tolerance: float = 1e-5,
    most: int = 1000,
) -> Tensor:
    """Solve dx/du = slope(u, x) from u = `start` to `end` (Dormand & Prince 1980).

    Each row chooses its own steps, so that a row does not depend on its batch; rows that have arrived wait.

    Args:
        slope: u (B,), x (B, K) -> dx/du (B, K), row i from row i alone.
        x: state at `start`, (B, K).
        start: where u begins.
        end: where u ends, above or below `start`.
        tolerance: of the error of a step, relative and absolute.
        most: steps tried at most; rows that are not there by then stay where they are.
    """
    way = end - start
    fine = finest_float(x.device)
    place, size = x.new_zeros(len(x), dtype=fine), x.new_full((len(x),), 0.01, dtype=fine)
    for _ in range(most):
        size = torch.minimum(size, 1 - place)
        if not bool((size > 0).any()):
            break
        step = (size * way).to(x.dtype)[:, None]
        slopes: list[Tensor] = []
        for node, weights in zip(_NODES, _SLOPES, strict=True):
            moved = x + step * sum((w * k for w, k in zip(weights, slopes, strict=True)), torch.zeros_like(x))
            slopes.append(slope((start + (place + node * size) * way).to(x.dtype), moved))
        error = step * sum((w * k for w, k in zip(_ERROR, slopes, strict=True)), torch.zeros_like(x))
        allowed = tolerance * (1 + torch.maximum(x.abs(), moved.abs()))
        ratio = (error / allowed).square().mean(1).sqrt().to(fine)
        good = ratio <= 1
        x = torch.where(good[:, None], moved, x)
        place = torch.where(good & (size >= 1 - place), torch.ones_like(place), place + good * size)
        size = size * (0.9 * ratio.clamp(min=1e-10) ** -0.2).clamp(0.2, 5)
    return x


def flow(denoise: Denoiser, x: Tensor, high: float, low: float, *, tolerance: float = 1e-5) -> Tensor:
    """Follow the probability flow dx / d ln sigma = x - D(x; sigma) from level `high` to `low` (or back up), adaptively.

    Song et al. 2021b, eq. 13, in variance-exploding coordinates (Karras et al. 2022, eq. 1).
    """
    shape = x.shape

    def slope(u: Tensor, flat: Tensor) -> Tensor:
        state = flat.view(shape)
        return (state - denoise(state, u.exp())).flatten(1)

    return rk45(slope, x.flatten(1), math.log(high), math.log(low), tolerance=tolerance).view(shape)


def run(
    sampling: SamplerConfig,
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: DrawNoise,
    callback: Callback | None = None,
) -> Tensor:
    """Walk `sigmas` from state x with the sampler that `sampling` names."""
    if sampling.sampler == "ancestral":
        return ancestral(denoise, x, sigmas, noise=noise, variance=sampling.variance, callback=callback)
    if sampling.sampler == "ddim":
        return ddim(denoise, x, sigmas, noise=noise, eta=sampling.eta, callback=callback)
    if sampling.sampler == "dpmpp":
        return dpmpp(denoise, x, sigmas, callback=callback)
    churn = Churn(
        s_churn=sampling.s_churn,
        s_min=sampling.s_min,
        s_max=math.inf if sampling.s_max is None else sampling.s_max,
        s_noise=sampling.s_noise,
    )
    second_order = sampling.sampler == "heun"
    return heun(denoise, x, sigmas, noise=noise, churn=churn, second_order=second_order, callback=callback)


def guided(denoise: ConditionalDenoiser, labels: Tensor | None, weight: float, guide: Guide | None = None) -> Denoiser:
    """Return the denoiser of classifier-free guidance (Ho & Salimans 2022, eq. 6), autoguidance (Karras et al. 2024, eq. 3), both.

    It is unconditional + weight * (conditional - unconditional) + (guide.weight - 1) * (conditional - guide): each network is
    called only where it counts, the conditional one once.

    Args:
        denoise: the conditional denoiser; labels of None or -1 mean "unknown".
        labels: int64, shape (B, A), or None.
        weight: 1 is the conditional model, 0 the unconditional one.
        guide: the weaker model, asked with the same labels; None for classifier-free guidance alone.
    """
    if labels is None:
        weight = 1.0  # there is nothing to be free of

    def mixed(x: Tensor, sigma: Tensor) -> Tensor:
        conditional = denoise(x, sigma, labels)
        mixture = conditional
        if weight != 1:
            unconditional = denoise(x, sigma, None)
            mixture = unconditional + weight * (conditional - unconditional)
        return mixture if guide is None else _led_away(guide, mixture, conditional, x, sigma, labels)

    return mixed


def _led_away(
    guide: Guide, mixture: Tensor, conditional: Tensor, x: Tensor, sigma: Tensor, labels: Tensor | None
) -> Tensor:
    """Add (weight - 1) * (conditional - guide) to the mixture, where the level is one at which the guide is asked."""
    if guide.weight == 1:
        return mixture
    more = sigma.new_full(sigma.shape, guide.weight - 1)
    if guide.levels is not None:
        low, high = guide.levels
        more = torch.where((sigma >= low) & (sigma <= high), more, 0.0)
        if not bool(more.any()):
            return mixture
    return mixture + more.view(-1, 1, 1, 1) * (conditional - guide.denoise(x, sigma, labels))
