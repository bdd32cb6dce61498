"""What diffusion families share: what the network predicts, how losses are weighted, how a plan becomes images.

Notation: x_t = a x_0 + s eps with a^2 + s^2 = 1; sigma = s / a; SNR = a^2 / s^2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from animegen_cli import samplers
from animegen_cli.noise import Noise
from animegen_cli.schedules import Schedule

Predicts = Literal["noise", "image", "velocity"]
EDITS = frozenset({"strength", "exact"})
"""What every diffusion family reads of an `Edit`."""


def mix(x_0: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """x_t = a x_0 + s eps (Ho et al. 2020, eq. 4)."""
    return a * x_0 + s * noise


def target(predicts: Predicts, x_0: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """What the network should output; velocity is a eps - s x_0 (Salimans & Ho 2022, section 4)."""
    if predicts == "noise":
        return noise
    return x_0 if predicts == "image" else a * noise - s * x_0


def clean_image(predicts: Predicts, output: Tensor, x_t: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """x_0 from the network's output: (x_t - s eps) / a, x_0 itself, or a x_t - s v."""
    if predicts == "noise":
        return (x_t - s * output) / a
    return output if predicts == "image" else a * x_t - s * output


def noise_of(clean: Tensor, x_t: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """The noise that an estimate of the clean image implies: (x_t - a x_0) / s."""
    return (x_t - a * clean) / s


def min_snr_weight(predicts: Predicts, a: Tensor, s: Tensor, gamma: float) -> Tensor:
    """Hang et al. 2023: min(SNR, gamma) on the x_0 loss, rewritten for what is predicted; 1 where SNR = 0."""
    snr = (a / s).square()
    capped = snr.clamp(max=gamma)
    scale = {"noise": snr, "image": torch.ones_like(snr), "velocity": snr + 1}[predicts]
    return torch.where(snr == 0, torch.ones_like(snr), capped / scale)


def draw(
    plan: samplers.Plan,
    schedule: Schedule,
    denoise: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    noise: Noise,
    size: int,
    labels: Tensor | None,
    watch: samplers.Watch | None = None,
) -> Tensor:
    """Images in the family's own units, (B, 3, size, size): start from noise and walk the plan's levels.

    `denoise(x, sigma, labels)` works in variance-exploding coordinates; `watch` sees x / sqrt(1 + sigma^2), the
    variance-preserving state that papers show.
    """
    sigmas = schedule.sigmas(plan.steps, plan.spacing)
    levels = sigmas.tolist()
    scaled = None
    if watch is not None:
        see = watch

        def scaled(step: int, x: Tensor, clean: Tensor) -> None:
            see(step, x / (1 + levels[step] ** 2) ** 0.5, clean)

    x = noise(3, size, size) * schedule.scale_at(levels[0])
    return samplers.run(plan, samplers.guided(denoise, labels, plan.guidance), x, sigmas, noise, scaled)
