"""Pictures in, pictures out, and who can do it: translating, mixing, projecting, inpainting, walking between seeds.

Like drawing, each result depends on its picture and its seed alone: networks run on micro-batches of one fixed size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from animegen_cli.errors import UsageError
from animegen_cli.model.abilities import VERBS, families_able, only
from animegen_cli.model.family import ABILITIES, Edit, Interpolates
from animegen_cli.model.noise import Blend, Noise
from animegen_cli.model.pixels import from_uint8, to_uint8
from animegen_cli.sample.generate import Trained, draw_noise, micro_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from animegen_cli.model.samplers import Callback

# ---- who can what ---------------------------------------------------------------------------------------------


def require(trained: Trained, ability: str) -> Any:
    """The method, which has this ability; UsageError that names the families that have it."""
    if not isinstance(trained.model, ABILITIES[ability]):
        raise UsageError(f"a {trained.config.family} run cannot {VERBS[ability]}", hint=only(families_able(ability)))
    return trained.model


# ---- pictures in, pictures out --------------------------------------------------------------------------------


def _batches(count: int, batch: int) -> Iterator[tuple[list[int], int]]:
    """Indices in pieces of one fixed length, the last one filled up with its last, and how many of each count."""
    for start in range(0, count, batch):
        piece = list(range(start, min(start + batch, count)))
        yield piece + [piece[-1]] * (batch - len(piece)), len(piece)


def _label_rows(trained: Trained, labels: Sequence[int] | None, count: int) -> Tensor | None:
    return None if labels is None else torch.tensor([list(labels)] * count, device=trained.device)


@torch.inference_mode()
def translate(
    trained: Trained, pixels: Tensor, edit: Edit, *, sampling: Any = None, seed: int = 0, batch: int | None = None
) -> Tensor:
    """Translate images: uint8 (n, 3, H, W) -> the same, on the CPU; each depends on itself and the seed alone.

    Args:
        pixels: of the run's size, or of any multiple of 8 where the family has `any_size`.
        seed: of every image's noise, so that equal images become equal images and a film does not flicker.
        batch: images per network call; the last call is padded to it.
    """
    model = require(trained, "translates")
    batch = batch or micro_batch(trained.device, math.isqrt(pixels.shape[2] * pixels.shape[3]))
    sampling, pieces = sampling if sampling is not None else trained.config.sample, []
    for rows, count in _batches(len(pixels), batch):
        images = from_uint8(pixels[rows], trained.device)
        pieces.append(
            to_uint8(model.translate(images, Noise([seed] * batch, trained.device), edit, sampling))[:count].cpu()
        )
    return torch.cat(pieces) if pieces else pixels


@torch.inference_mode()
def mix(
    trained: Trained,
    coarse: Sequence[int],
    fine: Sequence[int],
    *,
    sampling: Any = None,
    labels: Sequence[int] | None = None,
    cut: int | None = None,
    batch: int | None = None,
) -> Tensor:
    """Image i has what is coarse of seed coarse[i] and what is fine of seed fine[i]: uint8 (n, 3, H, W), on the CPU."""
    model, device = require(trained, "mixes"), trained.device
    batch = batch or micro_batch(device, trained.data.size)
    sampling, pieces = sampling if sampling is not None else trained.config.sample, []
    for rows, count in _batches(len(coarse), batch):
        above, below = (Noise([seeds[row] for row in rows], device) for seeds in (coarse, fine))
        images = model.mix(above, below, _label_rows(trained, labels, batch), sampling, cut)
        pieces.append(to_uint8(images)[:count].cpu())
    return torch.cat(pieces)


def project(
    trained: Trained,
    pixels: Tensor,
    *,
    steps: int,
    features: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """The nearest images that the run can draw: uint8 (n, 3, H, W) of its size -> the same, on the CPU.

    `callback` is told (step, images, target), in [-1, 1]. Differentiates, so the networks should be in fp32.
    """
    model = require(trained, "projects")
    with torch.enable_grad():
        target = from_uint8(pixels, trained.device)
        images = model.project(target, Noise([seed] * len(pixels), trained.device), steps, features, callback)
    return to_uint8(images.detach()).cpu()


@torch.inference_mode()
def inpaint(
    trained: Trained,
    pixels: Tensor,
    mask: Tensor,
    seeds: Sequence[int],
    *,
    sampling: Any = None,
    labels: Sequence[int] | None = None,
    batch: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Tensor:
    """One variant per seed of an image, uint8 (3, H, W), redrawn where mask, bool (H, W), is true: uint8 (n, 3, H, W)."""
    model, device = require(trained, "inpaints"), trained.device
    batch = batch or micro_batch(device, trained.data.size)
    sampling, pieces = sampling if sampling is not None else trained.config.sample, []
    images = from_uint8(pixels, device).expand(batch, -1, -1, -1)
    where = mask.to(device).float().expand(batch, 1, -1, -1)
    for rows, count in _batches(len(seeds), batch):
        noise = Noise([seeds[row] for row in rows], device)
        drawn = model.inpaint(images, where, noise, _label_rows(trained, labels, batch), sampling)
        pieces.append(torch.where(mask, to_uint8(drawn)[:count].cpu(), pixels))  # bf16 leaves the rest untouched too
        if on_progress:
            on_progress(count)
    return torch.cat(pieces)


@torch.inference_mode()
def interpolate(
    trained: Trained,
    start: int,
    end: int,
    frames: int,
    *,
    sampling: Any = None,
    labels: Sequence[int] | None = None,
    batch: int | None = None,
) -> Tensor:
    """From seed to seed in `frames` images: in the family's own space of codes where it knows one, else a spherical walk
    in noise; uint8 (frames, 3, H, W), on the CPU."""
    batch, device = batch or micro_batch(trained.device, trained.data.size), trained.device
    fractions = torch.linspace(0, 1, frames, dtype=torch.float64)
    sampling, pieces = sampling if sampling is not None else trained.config.sample, []
    for rows, count in _batches(frames, batch):
        if isinstance(trained.model, Interpolates):
            first, last = Noise([start] * batch, device), Noise([end] * batch, device)
            rows_of_labels = _label_rows(trained, labels, batch)
            images = trained.model.interpolate(first, last, fractions[rows].to(device), rows_of_labels, sampling)
            pieces.append(to_uint8(images)[:count].cpu())
        else:
            noise = Blend(start, end, fractions[rows].tolist(), device)
            pieces.append(draw_noise(trained, noise, sampling=sampling, labels=labels)[:count])
    return torch.cat(pieces)
