"""Optimizers from their config sections; the learning rate is a function of images seen."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from animegen_cli.config import Amount, Optim
from animegen_cli.train.muon import Muon

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def learning_rate(settings: Optim, images: int, *, total: int, batch: int, count: int) -> float:
    """Return the learning rate of a step: a linear rise, then constant or falling as `settings.schedule` says.

    Args:
        settings: the base rate, the warm-up and the schedule.
        images: images seen before the step.
        total: images at which training ends.
        batch: images per step.
        count: images per epoch.
    """
    warmup = Amount.parse(settings.warmup).images(batch=batch, count=count)
    start = max(warmup, Amount.parse(settings.decay_from).images(batch=batch, count=count))
    rate = settings.lr
    if warmup and images < warmup:
        return rate * (images + batch) / (warmup + batch)
    if settings.schedule == "step":
        return rate * settings.decay if images >= start else rate
    if settings.schedule == "exponential":
        return rate * settings.decay ** ((images - start) // count if images > start else 0)
    if settings.schedule == "linear-epochs":
        epochs = max((total - start) // count, 0)
        fallen = max((images - start) // count + 1, 0)
        return rate * max(1 - fallen / (epochs + 1), 0.0)
    progress = min(max((images - start) / max(total - start, 1), 0.0), 1.0)
    if settings.schedule == "cosine":
        return rate * (1 + math.cos(math.pi * progress)) / 2
    return rate * (1 - progress) if settings.schedule == "linear" else rate


def needs_end(settings: Optim) -> bool:
    """Return whether the rate depends on when training ends, so that the duration may not change on resume."""
    return settings.schedule not in ("constant", "exponential", "step")


def lazy_share(settings: Optim, every: Sequence[int]) -> Optim:
    """Return the settings of an optimizer that also takes the extra steps of lazy phases, one each `every` steps.

    With k steps between two of them, rate and betas become c lr and betas^c with c = k / (k + 1), so that a step that
    is taken more often moves no further (Karras et al. 2020, appendix B).
    """
    c = math.prod(k / (k + 1) for k in every if k > 1)
    return replace(settings, lr=settings.lr * c, betas=(settings.betas[0] ** c, settings.betas[1] ** c))


def build(
    settings: Optim, parameters: Sequence[nn.Parameter], *, modules: Iterable[nn.Module] = ()
) -> torch.optim.Optimizer:
    """Build the optimizer in its fused form, which skips its update where `found_inf` is set: no wait for the device.

    Args:
        settings: which one, and its constants.
        parameters: what it moves.
        modules: whose parameters these are, for `muon`, which leaves embeddings to Adam.

    Raises:
        ConfigError: `muon` for networks without a hidden weight matrix.
    """
    if settings.name == "muon":
        found = (inner for module in modules for inner in module.modules())
        return Muon(settings, parameters, tables={id(m.weight) for m in found if isinstance(m, nn.Embedding)})
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(
        parameters,
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def guarded_step(
    optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], clip: float | None, skip: float | None = None
) -> tuple[Tensor, Tensor]:
    """Clip, and update unless a gradient is not finite or the norm exceeds `skip`; the gradients are gone afterwards.

    Args:
        optimizer: a fused one, whose `parameters` have gradients.
        parameters: those of the phase.
        clip: largest norm of all gradients together; None for no limit.
        skip: norm above which the whole update is left out; None to never do so.

    Returns:
        Two scalars on the device: the norm before clipping, and 1.0 where it was not finite, else 0.0.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip is not None:
        torch.nn.utils.clip_grads_with_norm_([p for p in parameters if p.grad is not None], clip, norm)
    bad = (~torch.isfinite(norm)).float()
    left_out = bad if skip is None else torch.maximum(bad, (norm > skip).float())
    if norm.device.type == "cpu":
        if not left_out.item():
            optimizer.step()
    else:
        optimizer.found_inf = left_out  # type: ignore[attr-defined]
        optimizer.grad_scale = None  # type: ignore[attr-defined]
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm, bad
