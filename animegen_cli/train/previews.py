"""Previews: what the networks draw, translate or recognize while they train, as sheets in the run's `samples/`."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch

from animegen_cli.model.family import Classifies, Edit, Embeds, Samples, Translates
from animegen_cli.model.noise import Noise
from animegen_cli.model.pixels import channels_first, channels_last, from_uint8, to_uint8
from animegen_cli.report import grids
from animegen_cli.sample.trained import micro_batch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from animegen_cli.config import Sampling
    from animegen_cli.train.options import Prepared
    from animegen_cli.train.trainer import Trainer

MOST_PAIRS = 10
"""Columns of a sheet of translations."""
CAPTION_WIDTH = 128
"""Pixels to which small faces are enlarged, so that the captions below them can be read."""


@runtime_checkable
class Recognizes(Embeds, Classifies, Protocol):
    """Draws nothing, but names what a picture shows."""


class Previews:
    """Draws the sheets of one run into a folder: the same seeds, or the same held-out pictures, every time."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        """Remember where the sheets go; nothing is written yet.

        Args:
            folder: the run's `samples/`, made when the first sheet is written.
            prepared: the data, the device and the config, whose `train.preview` is the number of images.
        """
        self.folder = folder
        self.prepared = prepared
        self.count = prepared.config.train.preview

    def write_reals(self) -> None:
        """Write `reals.png`, the first training faces, unless it is there."""
        self.folder.mkdir(exist_ok=True)
        file = self.folder / "reals.png"
        if not file.is_file():
            faces = self.prepared.faces
            first = faces.indices("train")[: self.count]
            grids.save(grids.grid(faces.pixels(first, size=self.prepared.data.size)), file)

    def write(self, trainer: Trainer) -> np.ndarray | None:
        """Write a sheet of the raw and one of the averaged networks, named by the images seen.

        Returns:
            What the averaged networks drew, uint8 (n, H, W, 3); None for a family that draws nothing.
        """
        self.folder.mkdir(exist_ok=True)
        trainer.model.eval()
        drawn: np.ndarray | None = None
        for name, model in (("raw", trainer.model), ("ema", trainer.ema.model)):
            file = self.folder / f"{name}-{trainer.images:012d}.png"
            if isinstance(model, Samples):
                drawn = draw(self.prepared, model, range(self.count), preview_sampling(self.prepared))
                grids.save(grids.grid(drawn), file)
            elif isinstance(model, Translates):
                drawn = self._write_translations(model, file)
            elif isinstance(model, Recognizes):
                self._write_captions(model, file)
        trainer.model.train()
        return drawn

    @functools.cached_property
    def reals(self) -> np.ndarray:
        """As many training faces as a preview shows, evenly spread, uint8 (n, H, W, 3)."""
        faces = self.prepared.faces
        return faces.pixels(evenly_spread(faces.indices("train"), self.count), size=self.prepared.data.size)

    def _write_translations(self, model: Translates[Sampling], file: Path) -> np.ndarray:
        """Held-out photos above what becomes of them, and faces above their way back where there is one.

        Returns the translated photos.
        """
        faces = self.prepared.faces
        results: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        for domain, edit in (("photos", Edit()), ("anime", Edit(reverse=True))):
            if domain == "anime" and "reverse" not in model.edits:
                continue
            held_out = faces.indices("test", domain)
            chosen = (held_out if len(held_out) else faces.indices("train", domain))[: min(self.count, MOST_PAIRS)]
            before = faces.pixels(chosen, size=self.prepared.data.size)
            after = translate(self.prepared, model, before, edit)
            rows += [before, after]
            results.append(after)
        columns = min(len(pixels) for pixels in rows)
        grids.save(grids.grid(np.concatenate([pixels[:columns] for pixels in rows]), columns), file)
        return results[0]

    def _write_captions(self, model: Recognizes, file: Path) -> None:
        """Held-out faces with the values that are recognized; `?` marks those that the labels deny."""
        prepared = self.prepared
        faces, attributes = prepared.faces, prepared.data.attributes
        held_out = faces.indices("test")
        chosen = evenly_spread(held_out if len(held_out) else faces.indices("train"), self.count)
        pixels = faces.pixels(chosen, size=prepared.data.size)
        with torch.no_grad(), prepared.autocast():
            logits = model.classify(model.embed(to_float(pixels, prepared.device)))
        recognized = {name: guess.argmax(1).tolist() for name, guess in logits.items()}
        known = dict(zip(attributes, faces.labels(chosen).T.tolist(), strict=True))
        captions = [
            ", ".join(
                attributes[name][values[row]] + ("" if known[name][row] in (-1, values[row]) else "?")
                for name, values in recognized.items()
            )
            for row in range(len(chosen))
        ]
        grids.save(grids.grid(pixels, labels=captions, zoom=max(CAPTION_WIDTH // prepared.data.size, 1)), file)


def preview_sampling(prepared: Prepared, steps: int | None = None) -> Sampling:
    """Return the family's cheaper way to draw, for previews and validation.

    Args:
        prepared: the config's `sample:` section.
        steps: network calls per image where the family's sampler counts them; as the family says when None.
    """
    sampling: Sampling = prepared.config.sample.preview()
    if steps is not None and getattr(sampling, "steps", None) is not None:
        changed: dict[str, Any] = {"steps": steps}
        sampling = replace(sampling, **changed)
    return sampling


def draw(prepared: Prepared, model: Samples[Sampling], seeds: Sequence[int], sampling: Sampling) -> np.ndarray:
    """Draw images with the networks as they are in training.

    Args:
        prepared: the device and the precision.
        model: the raw or the averaged networks.
        seeds: image i is a function of seed i.
        sampling: how.

    Returns:
        uint8 (len(seeds), H, W, 3).
    """
    batch = micro_batch(prepared.device, prepared.data.size)
    drawn: list[np.ndarray] = []
    with torch.no_grad(), prepared.autocast():
        for start in range(0, len(seeds), batch):
            images = model.sample(Noise(list(seeds[start : start + batch]), prepared.device), None, sampling)
            drawn.append(channels_last(to_uint8(images)))
    return np.concatenate(drawn)


def translate(prepared: Prepared, model: Translates[Sampling], pixels: np.ndarray, edit: Edit) -> np.ndarray:
    """Translate images, uint8 (n, H, W, 3) to the same, one by one and each with the noise of seed 0."""
    sampling = prepared.config.sample.preview()
    translated: list[np.ndarray] = []
    with torch.no_grad(), prepared.autocast():
        for image in to_float(pixels, prepared.device).split(1):
            images = model.translate(image, Noise([0], prepared.device), edit, sampling)
            translated.append(channels_last(to_uint8(images)))
    return np.concatenate(translated)


def evenly_spread(indices: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the indices, evenly spread: a set's order often follows the year."""
    return indices[:: max(len(indices) // count, 1)][:count]


def to_float(pixels: np.ndarray, device: torch.device) -> torch.Tensor:
    """Turn uint8 (n, H, W, 3) into floats (n, 3, H, W) in [-1, 1] on the device."""
    return from_uint8(channels_first(pixels), device)
