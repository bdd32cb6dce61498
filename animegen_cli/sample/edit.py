"""Pictures in, pictures out, and who can do it: translating, mixing, projecting, inpainting, walking between seeds.

Like drawing, each result depends on its picture and its seed alone: networks run on micro-batches of one fixed size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from animegen_cli import paths
from animegen_cli.errors import DataError, UsageError
from animegen_cli.model import families
from animegen_cli.model.family import ABILITIES, Edit, Interpolates
from animegen_cli.model.noise import Blend, Noise
from animegen_cli.model.samplers import Watch
from animegen_cli.paths import Run
from animegen_cli.sample.generate import Trained, draw_noise, micro_batch, to_uint8

# ---- who can what ---------------------------------------------------------------------------------------------

VERBS = {
    "samples": "draw from noise",
    "corrupts": "turn a picture into noise step by step",
    "translates": "translate pictures",
    "mixes": "mix two seeds",
    "projects": "find the code of a picture",
    "inpaints": "redraw part of a picture",
    "classifies": "recognise attributes",
    "exports": "be exported",
    "converts": "become a diffusers pipeline",
}
"""Ability -> what a person asks for."""


def families_able(ability: str) -> list[str]:
    """The families that have an ability."""
    # Protocols with data members refuse `issubclass`; an object without content answers as a whole one would.
    return [name for name in paths.families() if isinstance(_empty(name), ABILITIES[ability])]


def families_editing(field: str) -> list[str]:
    """The families whose translation reads this field of `Edit`."""
    return [name for name in families_able("translates") if field in getattr(families.load(name), "edits")]  # noqa: B009


def _empty(family: str) -> object:
    return object.__new__(families.load(family))


def only(families: Sequence[str]) -> str:
    """A hint that names the families that can do what was asked."""
    return f"families that can: {', '.join(families)}" if families else "no family can"


def open_run(spec: str | None, ability: str) -> Run:
    """The run that `spec` means, or the newest, with weights and this ability; errors name the families that have it.

    Raises:
        UsageError: a run of a family without the ability.
        DataError: no such run, or one without weights.
    """
    if spec is None and not any(run.able(ability) for run in paths.runs()):
        able = families_able(ability)
        example = f"; train one with `animegen train {able[0]} --preset smoke`, or name its folder" if able else ""
        raise DataError(f"no run under {paths.RUNS}/ can {VERBS[ability]}", hint=only(able) + example)
    if spec is None:
        return paths.open_run(None, able_to=ability)
    run = paths.open_run(spec)
    family, recorded = run.about.get("family"), run.about.get("abilities", ())
    if ability not in recorded and family not in families_able(ability):  # a family may have learned since the run
        here = [other.name for other in paths.runs() if other.able(ability)][:-4:-1]
        raise UsageError(
            f"{run.name} is a {family} run, which cannot {VERBS[ability]}",
            hint=only(families_able(ability)) + (f"; runs here: {', '.join(here)}" if here else ""),
        )
    return paths.open_run(spec, able_to=(ability, *recorded))


def require(trained: Trained, ability: str) -> Any:
    """The method, which has this ability; UsageError that names the families that have it."""
    if not isinstance(trained.method, ABILITIES[ability]):
        raise UsageError(f"a {trained.config.family} run cannot {VERBS[ability]}", hint=only(families_able(ability)))
    return trained.method


# ---- pictures in, pictures out --------------------------------------------------------------------------------


def from_uint8(pixels: Tensor, device: torch.device) -> Tensor:
    """0..255 to [-1, 1], on the device."""
    return pixels.to(device).float() / 127.5 - 1


def _batches(count: int, batch: int) -> Iterator[tuple[list[int], int]]:
    """Indices in pieces of one fixed length, the last one filled up with its last, and how many of each count."""
    for start in range(0, count, batch):
        piece = list(range(start, min(start + batch, count)))
        yield piece + [piece[-1]] * (batch - len(piece)), len(piece)


def _label_rows(trained: Trained, labels: Sequence[int] | None, count: int) -> Tensor | None:
    return None if labels is None else torch.tensor([list(labels)] * count, device=trained.device)


@torch.inference_mode()
def translate(
    trained: Trained, pixels: Tensor, edit: Edit, *, how: Any = None, seed: int = 0, batch: int | None = None
) -> Tensor:
    """Translate images: uint8 (n, 3, H, W) -> the same, on the CPU; each depends on itself and the seed alone.

    Args:
        pixels: of the run's size, or of any multiple of 8 where the family has `any_size`.
        seed: of every image's noise, so that equal images become equal images and a film does not flicker.
        batch: images per network call; the last call is padded to it.
    """
    method = require(trained, "translates")
    batch = batch or micro_batch(trained.device, math.isqrt(pixels.shape[2] * pixels.shape[3]))
    how, pieces = how if how is not None else trained.config.sample, []
    for rows, count in _batches(len(pixels), batch):
        images = from_uint8(pixels[rows], trained.device)
        pieces.append(
            to_uint8(method.translate(images, Noise([seed] * batch, trained.device), edit, how))[:count].cpu()
        )
    return torch.cat(pieces) if pieces else pixels


@torch.inference_mode()
def mix(
    trained: Trained,
    coarse: Sequence[int],
    fine: Sequence[int],
    *,
    how: Any = None,
    labels: Sequence[int] | None = None,
    cut: int | None = None,
    batch: int | None = None,
) -> Tensor:
    """Image i has what is coarse of seed coarse[i] and what is fine of seed fine[i]: uint8 (n, 3, H, W), on the CPU."""
    method, device = require(trained, "mixes"), trained.device
    batch = batch or micro_batch(device, trained.data.size)
    how, pieces = how if how is not None else trained.config.sample, []
    for rows, count in _batches(len(coarse), batch):
        above, below = (Noise([seeds[row] for row in rows], device) for seeds in (coarse, fine))
        images = method.mix(above, below, _label_rows(trained, labels, batch), how, cut)
        pieces.append(to_uint8(images)[:count].cpu())
    return torch.cat(pieces)


def project(
    trained: Trained,
    pixels: Tensor,
    *,
    steps: int,
    features: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> Tensor:
    """The nearest images that the run can draw: uint8 (n, 3, H, W) of its size -> the same, on the CPU.

    `watch` is told (step, images, target), in [-1, 1]. Differentiates, so the networks should be in fp32.
    """
    method = require(trained, "projects")
    with torch.enable_grad():
        target = from_uint8(pixels, trained.device)
        images = method.project(target, Noise([seed] * len(pixels), trained.device), steps, features, watch)
    return to_uint8(images.detach()).cpu()


@torch.inference_mode()
def inpaint(
    trained: Trained,
    pixels: Tensor,
    mask: Tensor,
    seeds: Sequence[int],
    *,
    how: Any = None,
    labels: Sequence[int] | None = None,
    batch: int | None = None,
    done: Callable[[int], None] | None = None,
) -> Tensor:
    """One variant per seed of an image, uint8 (3, H, W), redrawn where mask, bool (H, W), is true: uint8 (n, 3, H, W)."""
    method, device = require(trained, "inpaints"), trained.device
    batch = batch or micro_batch(device, trained.data.size)
    how, pieces = how if how is not None else trained.config.sample, []
    images = from_uint8(pixels, device).expand(batch, -1, -1, -1)
    where = mask.to(device).float().expand(batch, 1, -1, -1)
    for rows, count in _batches(len(seeds), batch):
        noise = Noise([seeds[row] for row in rows], device)
        drawn = method.inpaint(images, where, noise, _label_rows(trained, labels, batch), how)
        pieces.append(torch.where(mask, to_uint8(drawn)[:count].cpu(), pixels))  # bf16 leaves the rest untouched too
        if done:
            done(count)
    return torch.cat(pieces)


@torch.inference_mode()
def interpolate(
    trained: Trained,
    start: int,
    end: int,
    frames: int,
    *,
    how: Any = None,
    labels: Sequence[int] | None = None,
    batch: int | None = None,
) -> Tensor:
    """From seed to seed in `frames` images: in the family's own space of codes where it knows one, else a spherical walk
    in noise; uint8 (frames, 3, H, W), on the CPU."""
    batch, device = batch or micro_batch(trained.device, trained.data.size), trained.device
    fractions = torch.linspace(0, 1, frames, dtype=torch.float64)
    how, pieces = how if how is not None else trained.config.sample, []
    for rows, count in _batches(frames, batch):
        if isinstance(trained.method, Interpolates):
            first, last = Noise([start] * batch, device), Noise([end] * batch, device)
            rows_of_labels = _label_rows(trained, labels, batch)
            images = trained.method.interpolate(first, last, fractions[rows].to(device), rows_of_labels, how)
            pieces.append(to_uint8(images)[:count].cpu())
        else:
            noise = Blend(start, end, fractions[rows].tolist(), device)
            pieces.append(draw_noise(trained, noise, how=how, labels=labels)[:count])
    return torch.cat(pieces)
