"""Samplers as plain functions of (denoise, x, sigmas): from noise to images along falling noise levels.

`denoise(x, sigma)` answers one question: what clean image do you see? It takes x = x_0 + sigma * noise, shape
(B, C, H, W), and one level per image, shape (B,), and returns E[x_0 | x]. `sigmas` falls to 0, shape (steps + 1,).
Stochastic samplers take their noise from `noise(C, H, W)`. `watch(step, x, clean)` sees every intermediate state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from animegen_cli.config import Drawing
from animegen_cli.schedules import Spacing

Denoiser = Callable[[Tensor, Tensor], Tensor]
Draw = Callable[..., Tensor]
Watch = Callable[[int, Tensor, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class Plan(Drawing):
    """How a diffusion run draws: the section `sample` of its config."""

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
    churn: Annotated[float, Field(ge=0)] = 0.0
    """S_churn of `heun` and `euler` (Karras et al. 2022, algorithm 2)."""
    s_min: Annotated[float, Field(ge=0)] = 0.0
    """Lowest level that is churned."""
    s_max: Annotated[float, Field(ge=0)] = math.inf
    """Highest level that is churned."""
    s_noise: Annotated[float, Field(gt=0)] = 1.0
    """Deviation of the noise that churning adds."""
    guidance: Annotated[float, Field(ge=0)] = 1.0
    """Classifier-free guidance weight; 1 is the plain conditional model (Ho & Salimans 2022)."""

    def preview(self) -> Plan:
        """At most 20 deterministic steps: the same seeds then show what training changed, not what chance did."""
        return replace(self, sampler="ddim", steps=min(self.steps, 20), spacing="trailing", eta=0.0, churn=0.0)


def _level(sigma: float, x: Tensor) -> Tensor:
    return x.new_full((len(x),), sigma)


def ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Draw,
    variance: str = "small",
    watch: Watch | None = None,
) -> Tensor:
    """Ho et al. 2020, algorithm 2, for any sub-sequence of levels: sample q(x_then | x_now, x_0) with x_0 predicted.

    In these coordinates the posterior variance is then^2 (now^2 - then^2) / now^2; beta becomes
    (now^2 - then^2) (1 + then^2) / (1 + now^2). No noise is added at the last step.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, _level(now, x))
        if watch:
            watch(step, x, clean)
        x = clean + (x - clean) * (then / now) ** 2
        if then > 0:
            spread = (now**2 - then**2) * (then**2 / now**2 if variance == "small" else (1 + then**2) / (1 + now**2))
            x = x + math.sqrt(spread) * noise(*x.shape[1:])
    return x


def ddim(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Draw | None = None,
    eta: float = 0.0,
    watch: Watch | None = None,
) -> Tensor:
    """Song et al. 2021, eq. 12 and 16; eta = 0 is deterministic."""
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, _level(now, x))
        if watch:
            watch(step, x, clean)
        added = eta * math.sqrt(then**2 * (now**2 - then**2)) / now
        x = clean + (x - clean) * (math.sqrt(then**2 - added**2) / now)
        if added > 0 and noise is not None:
            x = x + added * noise(*x.shape[1:])
    return x


def dpmpp(denoise: Denoiser, x: Tensor, sigmas: Sequence[float], *, watch: Watch | None = None) -> Tensor:
    """DPM-Solver++(2M), Lu et al. 2022, algorithm 2, in data prediction with lambda = -ln sigma.

    The first step is first order, and so is the last one of fewer than ten steps.
    """
    before, h_before = None, 0.0
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, _level(now, x))
        if watch:
            watch(step, x, clean)
        if then == 0:
            return clean
        h = math.log(now / then)
        short = len(sigmas) - 1 < 10 and step == len(sigmas) - 2
        if before is None or short:
            data = clean
        else:
            r = h_before / h
            data = (1 + 1 / (2 * r)) * clean - 1 / (2 * r) * before
        x = (then / now) * x - math.expm1(-h) * data
        before, h_before = clean, h
    return x


def heun(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Draw | None = None,
    churn: float = 0.0,
    s_min: float = 0.0,
    s_max: float = math.inf,
    s_noise: float = 1.0,
    second_order: bool = True,
    watch: Watch | None = None,
) -> Tensor:
    """Karras et al. 2022, algorithm 2: levels between `s_min` and `s_max` are churned; without it, algorithm 1."""
    gamma = min(churn / (len(sigmas) - 1), math.sqrt(2) - 1)
    for step, (now, then) in enumerate(pairwise(sigmas)):
        if gamma > 0 and noise is not None and s_min <= now <= s_max:
            raised = now * (1 + gamma)
            x = x + math.sqrt(raised**2 - now**2) * s_noise * noise(*x.shape[1:])
            now = raised
        clean = denoise(x, _level(now, x))
        if watch:
            watch(step, x, clean)
        slope = (x - clean) / now
        moved = x + (then - now) * slope
        if second_order and then > 0:
            slope = (slope + (moved - denoise(moved, _level(then, x))) / then) / 2
            moved = x + (then - now) * slope
        x = moved
    return x


def run(plan: Plan, denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Draw, watch: Watch | None = None) -> Tensor:
    """Walk `sigmas` from state x with the sampler that `plan` names."""
    levels = sigmas.tolist()
    if plan.sampler == "ancestral":
        return ancestral(denoise, x, levels, noise=noise, variance=plan.variance, watch=watch)
    if plan.sampler == "ddim":
        return ddim(denoise, x, levels, noise=noise, eta=plan.eta, watch=watch)
    if plan.sampler == "dpmpp":
        return dpmpp(denoise, x, levels, watch=watch)
    return heun(
        denoise, x, levels, noise=noise, churn=plan.churn, s_min=plan.s_min, s_max=plan.s_max, s_noise=plan.s_noise,
        second_order=plan.sampler == "heun", watch=watch,
    )  # fmt: skip


def guided(
    denoise: Callable[[Tensor, Tensor, Tensor | None], Tensor], labels: Tensor | None, weight: float
) -> Denoiser:
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6): unconditional + weight * (conditional - unconditional).

    Args:
        denoise: the conditional denoiser; labels of None or -1 mean "unknown".
        labels: int64, shape (B, A), or None.
        weight: 1 is the conditional model, 0 the unconditional one.
    """
    if labels is None or weight == 1:
        return lambda x, sigma: denoise(x, sigma, labels)

    def mixed(x: Tensor, sigma: Tensor) -> Tensor:
        unconditional = denoise(x, sigma, None)
        return unconditional + weight * (denoise(x, sigma, labels) - unconditional)

    return mixed
