"""Validation: losses on held-out images and scores of drawn ones, the same images and noise every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from animegen_cli.metrics.protocol import better
from animegen_cli.model.family import Batch, Family, Samples, Validates
from animegen_cli.seeds import seed_for
from animegen_cli.train.previews import draw, evenly_spread, preview_sampling, to_float

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animegen_cli.train.options import Prepared


class Scorer(Protocol):
    """Compares images; passed in by the command, so that metrics never call up."""

    def __call__(self, real: np.ndarray, fake: np.ndarray, *, kid75: bool = False) -> dict[str, float]:
        """Return named scores of uint8 images (n, H, W, 3), drawn against real; `kid75` asks for document 001's too."""
        ...


BATCH = 64
"""Held-out images per network call."""


class Validation:
    """Measures the averaged networks of one run."""

    def __init__(self, prepared: Prepared, score: Scorer | None) -> None:
        """Remember what is measured.

        Args:
            prepared: the data, the device and the config's `train.validate` section.
            score: compares held-out with drawn images when the config asks for `kid_images`; None to never do so.
        """
        self.prepared = prepared
        self.score = score

    @property
    def wanted(self) -> bool:
        """Whether the config asks for held-out images and the data set has some."""
        return bool(self.prepared.config.train.validate.images and len(self.prepared.faces.indices("test")))

    def measure(self, model: Family) -> dict[str, float]:
        """Return the figures of the networks by name, scores before losses; nothing where there is nothing to measure."""
        prepared, settings = self.prepared, self.prepared.config.train.validate
        held_out = prepared.faces.indices("test")
        if not len(held_out):
            return {}
        held_out = evenly_spread(held_out, settings.images)
        real = prepared.faces.pixels(held_out, size=prepared.data.size)
        figures: dict[str, float] = {}
        if isinstance(model, Validates):
            photos = self._photos(len(real)) if "photos" in model.domains else None
            figures = mean_losses(prepared, model, real, held_out, photos)
        if settings.kid_images and self.score is not None and isinstance(model, Samples):
            fake = draw(prepared, model, range(settings.kid_images), preview_sampling(prepared, settings.kid_steps))
            figures = self.score(real, fake, kid75=settings.kid75) | figures
        return {name: round(value, 6) for name, value in figures.items()}

    def _photos(self, count: int) -> np.ndarray:
        """As many held-out photos, repeated where there are fewer."""
        faces = self.prepared.faces
        held_out = faces.indices("test", "photos")
        chosen = held_out if len(held_out) else faces.indices("train", "photos")
        return faces.pixels(np.resize(chosen, count), size=self.prepared.data.size)


@torch.no_grad()
def mean_losses(
    prepared: Prepared, model: Validates, real: np.ndarray, indices: np.ndarray, photos: np.ndarray | None
) -> dict[str, float]:
    """Return the means of a family's held-out losses; the noise is the same at every validation, so that curves compare.

    Args:
        prepared: the data set, the device and the precision.
        model: the networks.
        real: held-out faces, uint8 (n, H, W, 3).
        indices: (n,) int64, where they lie in the data set, for their labels.
        photos: as many held-out photos, uint8 (n, H, W, 3); None for families that train on faces alone.
    """
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    labels = torch.from_numpy(prepared.faces.labels(indices)).to(prepared.device)
    for start in range(0, len(real), BATCH):
        part = slice(start, start + BATCH)
        pixels = to_float(real[part], prepared.device)
        batch = Batch(
            pixels,
            photos=None if photos is None else to_float(photos[part], prepared.device),
            labels=labels[part] if labels.shape[1] else None,
        )
        torch.manual_seed(seed_for("validation", start))
        with prepared.autocast():
            losses = model.validate(batch)
        for name, value in losses.items():
            each = value[~value.isnan()] if value.ndim else value.expand(len(pixels))
            sums[name] = sums.get(name, 0.0) + float(each.double().sum())
            counts[name] = counts.get(name, 0) + len(each)
    return {name: total / counts[name] for name, total in sums.items() if counts[name]}


def rank(figures: Mapping[str, float]) -> float:
    """Return the first figure of a validation, turned so that lower is better; a loss, where its name says nothing, is."""
    name, value = next(iter(figures.items()))
    return -value if better(name) == "higher" else value
