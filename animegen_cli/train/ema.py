"""The exponential moving average of the inference networks."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from animegen_cli.config import Amount, Ema
from animegen_cli.sample.trained import inference_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animegen_cli.model.family import Family


def ema_copy(model: Family) -> Family:
    """Return a frozen copy of the networks in evaluation mode that holds the family's inference modules only."""
    ema_model = copy.deepcopy(model)
    for name, _ in list(ema_model.named_children()):
        if name not in model.inference:
            delattr(ema_model, name)
    return ema_model.requires_grad_(False).eval()


def _paired(ema_model: Family, model: Family) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """(average, current, is it a parameter) of every tensor of the inference modules."""
    for name in model.inference:
        ours = getattr(ema_model, name)
        theirs = getattr(model, name)
        for average, current in zip(ours.parameters(), theirs.parameters(), strict=True):
            yield average, current, True
        for average, current in zip(ours.buffers(), theirs.buffers(), strict=True):
            yield average, current, False


class EMA:
    """Keeps `self.model` the moving average of trained networks: average <- decay * average + (1 - decay) * current.

    Buffers that are not averaged (`Family.ema_buffers`) are copied.
    """

    def __init__(self, model: Family, settings: Ema, *, batch: int = 1, count: int = 1) -> None:
        """Begin with a copy of the networks as they are.

        Args:
            model: the networks that are trained.
            settings: decay or half-life, and how often.
            batch: images per step.
            count: training images, for a half-life in epochs.
        """
        self.model = ema_copy(model)
        self.settings = settings
        self.batch = batch
        self.half_life: int | None = None
        if settings.half_life is not None:
            self.half_life = Amount.parse(settings.half_life).images(batch=batch, count=count)
        self._averages: list[Tensor] = []
        self._currents: list[Tensor] = []
        self._copies: list[tuple[Tensor, Tensor]] = []
        for average, current, parameter in _paired(self.model, model):
            if average.is_floating_point() and (parameter or model.ema_buffers == "average"):
                self._averages.append(average)
                self._currents.append(current)
            else:
                self._copies.append((average, current))

    def decay(self, updates: int) -> float:
        """Return the decay of the update that comes after `updates` updates.

        Early on min(decay, (1 + n) / (10 + n)) when the preset asks for a ramp; 0.5^(images per update / half-life) when
        it gives a half-life (Karras et al. 2020, `ema_kimg` and `ema_rampup` of the StyleGAN2 code).
        """
        settings = self.settings
        decay = settings.decay
        if self.half_life is not None:
            images = self.batch * settings.every
            half_life = float(self.half_life)
            if settings.half_life_share is not None:
                half_life = min(half_life, settings.half_life_share * images * (updates + 1))
            return 0.5 ** (images / max(half_life, 1e-8))
        return min(decay, (1 + updates) / (10 + updates)) if settings.ramp else decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the networks after their optimizer step number `step` (from 1), where it is one of every `every`."""
        if step % self.settings.every:
            return
        weight = 1 - self.decay(step // self.settings.every - 1)
        torch._foreach_lerp_(self._averages, [current.detach() for current in self._currents], weight)
        for average, current in self._copies:
            average.copy_(current)

    @torch.no_grad()
    def distance(self) -> Tensor:
        """Return the root mean squared difference between average and current weights, a scalar on their device."""
        currents = [current.detach() for current in self._currents]
        differences = torch._foreach_sub(self._averages, currents)  # noqa: SLF001  # no public name; one kernel for all
        norms = torch.stack(torch._foreach_norm(differences))  # noqa: SLF001
        return norms.square().sum().div(sum(a.numel() for a in self._averages)).sqrt()


def guide_of(averaged: Family) -> dict[str, Tensor]:
    """Return a guide for later (Karras et al. 2024): copies of the averaged tensors by name, the weights in half precision."""
    weights = {name for name, _ in averaged.named_parameters()}
    return {
        name: tensor.detach().to(torch.float16 if name in weights else tensor.dtype, copy=True)
        for name, tensor in inference_state(averaged).items()
    }
