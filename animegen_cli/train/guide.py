"""Autoguidance: the averaged weights at an early moment of a run, and how strongly drawing leads away from them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import torch

from animegen_cli.errors import ConfigError
from animegen_cli.model.family import Samples
from animegen_cli.sample.trained import guided_by
from animegen_cli.train.ema import ema_copy
from animegen_cli.train.previews import draw, evenly_spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from animegen_cli.config import RunConfig, Sampling
    from animegen_cli.model.family import Family
    from animegen_cli.train.options import Prepared
    from animegen_cli.train.validation import Scorer

MOST_HELD_OUT = 1024
"""Held-out images that the drawn ones are compared with: they cost next to nothing."""


def check(config: RunConfig) -> None:
    """Raise ConfigError where a guide is asked for and the family draws without one."""
    if config.train.guide.at and not _can_be_guided(config.sample):
        raise ConfigError(
            f"`train.guide.at`: {config.family} does not draw by removing noise step by step, so nothing can guide it",
            hint="leave it out, or train a diffusion family such as `edm`",
        )


def _can_be_guided(sampling: Sampling) -> bool:
    return any(field.name == "autoguidance" for field in fields(sampling))


@torch.no_grad()
def compare_weights(
    prepared: Prepared, averaged: Family, guide: Mapping[str, Tensor], score: Scorer
) -> dict[float, float]:
    """Draw with `train.guide.weights` and compare with held-out images: weight -> kernel distance, lower is better.

    In their order, until one is worse than the one before: too much guidance only gets worse. The images are those of the
    seeds 0, 1, ... whatever the weight, so that what differs is not chance.

    Args:
        prepared: the data, the device and the config.
        averaged: the averaged networks at the end of training.
        guide: what `ema.guide_of` returned.
        score: compares held-out with drawn images.
    """
    settings, faces = prepared.config.train.guide, prepared.faces
    held_out = evenly_spread(faces.indices("test"), max(settings.images, MOST_HELD_OUT))
    if len(held_out) < 2:
        return {}
    real = faces.pixels(held_out, size=prepared.data.size)
    model = guided_by(ema_copy(averaged), guide)
    assert isinstance(model, Samples), "`check` lets no other run keep a guide"
    found: dict[float, float] = {}
    for weight in settings.weights:
        sampling = replace(prepared.config.sample, autoguidance=weight)
        drawn = draw(prepared, model, range(settings.images), sampling)
        found[weight] = round(next(iter(score(real, drawn).values())), 6)
        if found[weight] > min(found.values()):
            break
    return found
