"""What diffusion families share: what the network predicts, how losses are weighted, how a plan becomes images.

Notation: x_t = a x_0 + s eps with a^2 + s^2 = 1; sigma = s / a; SNR = a^2 / s^2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from animegen_cli import samplers
from animegen_cli.errors import ConfigError, did_you_mean
from animegen_cli.method import DataSpec
from animegen_cli.noise import Noise
from animegen_cli.schedules import Schedule

Predicts = Literal["noise", "image", "velocity"]


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


def drop_labels(labels: Tensor, probability: float) -> Tensor:
    """Replace labels by -1 ("unknown") in training, so that every subset of them can be asked for.

    Whole rows with this probability (Ho & Salimans 2022, algorithm 1). Of the other rows with several attributes, half
    keep each attribute with a probability that is drawn per row: then `hair=pink` alone is nothing new to the network.

    Args:
        labels: int64, shape (B, A).
        probability: share of rows that become unknown as a whole; 0 keeps every label.
    """
    if probability == 0:
        return labels
    chance = torch.rand(len(labels), 1, device=labels.device)
    unknown = (chance < probability).expand_as(labels)
    if labels.shape[1] > 1:
        kept = torch.rand(labels.shape, device=labels.device) < torch.rand(len(labels), 1, device=labels.device)
        unknown = unknown | ((chance > (1 + probability) / 2) & ~kept)
    return labels.masked_fill(unknown, -1)


def chosen_labels(wanted: tuple[str, ...] | Literal["all"], data: DataSpec) -> tuple[str, ...]:
    """The attributes to condition on, in the data set's order; ConfigError when the set lacks one."""
    if wanted == "all":
        return tuple(data.attributes)
    for name in wanted:
        if name not in data.attributes:
            raise ConfigError(
                f"the data set has no label `{name}`",
                hint=did_you_mean(name, data.attributes)
                if data.attributes
                else "it has no labels: remove `model.labels`",
            )
    return tuple(name for name in data.attributes if name in wanted)


def pick_labels(labels: Tensor | None, names: tuple[str, ...], data: DataSpec) -> Tensor | None:
    """The columns of `labels` (B, A) that belong to `names`; None when there are none."""
    if labels is None or not names:
        return None
    columns = list(data.attributes)
    return labels[:, [columns.index(name) for name in names]]
