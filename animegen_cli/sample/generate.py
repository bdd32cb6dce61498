"""Images from a trained run: drawn from seeds, or made of other images. Needs no data set.

Image i depends on seed i (and, where one goes in, on picture i) alone, never on what is drawn beside it: networks run on
micro-batches of one fixed size, of which the last is filled up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from animegen_cli.config import Sampling
from animegen_cli.device import pick_device
from animegen_cli.model.family import Edit, Interpolates
from animegen_cli.model.noise import Blend, Noise
from animegen_cli.model.pixels import from_uint8, to_uint8
from animegen_cli.sample.trained import Trained, label_row, micro_batch, open_trained, require, sampling_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from animegen_cli.model.family import Features
    from animegen_cli.model.samplers import Callback
    from animegen_cli.paths import Run

OnProgress = Callable[[int], None]
"""Told how many more images are finished."""


@dataclass(frozen=True)
class Generator:
    """A trained model with all that decides what it draws besides the seeds.

    Images go in and come out as uint8 tensors (n, 3, H, W) on the CPU. Each method raises UsageError, which names the
    families that can, where the run's family lacks the ability.

    """

    trained: Trained
    """The opened run."""
    sampling: Sampling
    """The family's section `sample:`; the run's own is `trained.config.sample`."""
    labels: tuple[int, ...] | None = None
    """One index per attribute of the data set, for all images (-1 is unknown); None draws without labels."""
    batch: int | None = None
    """Images per network call; None takes a fixed rule of device and size (`micro_batch`)."""

    @property
    def call_size(self) -> int:
        """Images of each network call."""
        return self.batch or micro_batch(self.trained.device, self.trained.data.size)

    def draw(self, seeds: Sequence[int], *, on_progress: OnProgress | None = None) -> Tensor:
        """Draw one image per seed: (n, 3, size, size)."""
        return self._collected(
            len(seeds), lambda rows: self._sampled(self._noise(seeds[row] for row in rows)), on_progress
        )

    @torch.inference_mode()
    def draw_noise(self, noise: Noise, *, callback: Callback | None = None) -> Tensor:
        """Draw one image per row of `noise` in one network call.

        Args:
            noise: its own device is the run's.
            callback: called with (step, noisy images, denoised images) by families that draw step by step.
        """
        return to_uint8(self._sampled(noise, callback)).cpu()

    def mix(self, coarse: Sequence[int], fine: Sequence[int], *, cut: int | None = None) -> Tensor:
        """Images with what is coarse of the seeds `coarse` and what is fine of the seeds `fine`, pair by pair.

        Args:
            coarse: n seeds.
            fine: n seeds.
            cut: levels of the code that come from `coarse`; the family's middle number when None.
        """
        model = require(self.trained, "mixes")

        def network(rows: Sequence[int]) -> Tensor:
            above, below = (self._noise(seeds[row] for row in rows) for seeds in (coarse, fine))
            return model.mix(above, below, self._label_rows(len(rows)), self.sampling, cut)

        return self._collected(len(coarse), network)

    def interpolate(self, start: int, end: int, frames: int, *, on_progress: OnProgress | None = None) -> Tensor:
        """Walk from seed `start` to seed `end` in `frames` images: in the family's own space of codes where it knows one,
        else spherically in the space of noise."""
        return self._between(start, [end] * frames, torch.linspace(0, 1, frames, dtype=torch.float64), on_progress)

    def vary(self, seed: int, others: Sequence[int], amount: float, *, on_progress: OnProgress | None = None) -> Tensor:
        """Draw variations of a seed's face, each from a point on the walk of `interpolate` to another seed.

        Args:
            seed: of the face.
            others: one per variation; where it is `seed` itself, the face itself is drawn.
            amount: which part of each walk is gone, from 0, the face itself, to 1, the other seed's.
            on_progress: told how many more images are finished.
        """
        if amount in (0, 1):  # the ends are drawn as such: walks through codes miss the last one by a rounding
            return self.draw([other if amount else seed for other in others], on_progress=on_progress)
        parts = torch.full((len(others),), amount, dtype=torch.float64)
        return self._between(seed, others, parts, on_progress)

    def inpaint(
        self, pixels: Tensor, mask: Tensor, seeds: Sequence[int], *, on_progress: OnProgress | None = None
    ) -> Tensor:
        """Draw one variant per seed of a picture, anew where the mask is true and untouched elsewhere.

        Args:
            pixels: uint8 (3, size, size).
            mask: bool (size, size).
            seeds: one per variant.
            on_progress: told how many more variants are finished.
        """
        model, device = require(self.trained, "inpaints"), self.trained.device
        image, where = from_uint8(pixels, device), mask.to(device).float()

        def network(rows: Sequence[int]) -> Tensor:
            images = image.expand(len(rows), -1, -1, -1)
            masks = where.expand(len(rows), 1, -1, -1)
            noise = self._noise(seeds[row] for row in rows)
            return model.inpaint(images, masks, noise, self._label_rows(len(rows)), self.sampling)

        drawn = self._collected(len(seeds), network, on_progress)
        return torch.where(mask, drawn, pixels)  # bf16 leaves the rest untouched too

    def translate(self, pixels: Tensor, edit: Edit, *, seed: int = 0) -> Tensor:
        """Turn pictures into pictures; each depends on itself and the seed alone.

        Args:
            pixels: uint8 (n, 3, H, W) of the run's size, or of any multiple of 8 where the family has `any_size`.
            edit: what is asked; the fields that the family does not read are ignored.
            seed: of every picture's noise, so that equal pictures become equal and a film does not flicker.
        """
        model = require(self.trained, "translates")
        batch = self.batch or micro_batch(self.trained.device, math.isqrt(pixels.shape[2] * pixels.shape[3]))

        def network(rows: Sequence[int]) -> Tensor:
            images = from_uint8(pixels[list(rows)], self.trained.device)
            return model.translate(images, self._noise([seed] * len(rows)), edit, self.sampling)

        return self._collected(len(pixels), network, batch=batch) if len(pixels) else pixels

    def project(
        self,
        pixels: Tensor,
        *,
        steps: int,
        features: Features | None = None,
        seed: int = 0,
        callback: Callback | None = None,
    ) -> Tensor:
        """Find the nearest images that the run can draw. Differentiates, so the networks should be in float32.

        Args:
            pixels: uint8 (n, 3, size, size).
            steps: of the descent.
            features: in which distances are measured; pixels when None.
            seed: of the codes that the descent begins with.
            callback: called with (step, images, target), in [-1, 1], now and then.
        """
        model = require(self.trained, "projects")
        with torch.enable_grad():
            target = from_uint8(pixels, self.trained.device)
            images = model.project(target, self._noise([seed] * len(pixels)), steps, features, callback)
        return to_uint8(images.detach()).cpu()

    # ---- one network call after the other ------------------------------------------------------------------------

    def _between(
        self, start: int, ends: Sequence[int], fractions: Tensor, on_progress: OnProgress | None = None
    ) -> Tensor:
        """One image per seed of `ends`, drawn from where its fraction, float64 on the CPU, of the walk from `start` is gone.

        The walk from a seed to itself stands still: spherical interpolation of equal noise is not normal any more.
        """
        model, device = self.trained.model, self.trained.device
        fractions = torch.where(torch.tensor([end == start for end in ends]), 0.0, fractions)

        def network(rows: Sequence[int]) -> Tensor:
            along, last = fractions[list(rows)], [ends[row] for row in rows]
            if not isinstance(model, Interpolates):
                return self._sampled(Blend([start] * len(rows), last, along.tolist(), device))
            noises = self._noise([start] * len(rows)), self._noise(last)
            return model.interpolate(*noises, along, self._label_rows(len(rows)), self.sampling)

        return self._collected(len(ends), network, on_progress)

    def _noise(self, seeds: Iterable[int]) -> Noise:
        return Noise(list(seeds), self.trained.device)

    def _label_rows(self, count: int) -> Tensor | None:
        return None if self.labels is None else torch.tensor([list(self.labels)] * count, device=self.trained.device)

    def _sampled(self, noise: Noise, callback: Callback | None = None) -> Tensor:
        model = require(self.trained, "samples")
        return model.sample(noise, self._label_rows(len(noise)), self.sampling, callback)

    @torch.inference_mode()
    def _collected(
        self,
        count: int,
        network: Callable[[Sequence[int]], Tensor],
        on_progress: OnProgress | None = None,
        *,
        batch: int | None = None,
    ) -> Tensor:
        """What `network` makes of the indices 0 to count - 1, in calls of one fixed length: uint8, on the CPU.

        The last call is filled up with its last index, so that an image does not depend on how many are drawn.
        """
        batch = batch or self.call_size
        size = self.trained.data.size
        pieces = [torch.empty(0, 3, size, size, dtype=torch.uint8)] if not count else []
        for start in range(0, count, batch):
            rows = list(range(start, min(start + batch, count)))
            images = network(rows + [rows[-1]] * (batch - len(rows)))
            pieces.append(to_uint8(images)[: len(rows)].cpu())
            if on_progress:
                on_progress(len(rows))
        return torch.cat(pieces)


def images(
    run: Run,
    seeds: Sequence[int],
    *,
    labels: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    device: torch.device | None = None,
    on_progress: OnProgress | None = None,
) -> Tensor:
    """Open a run and draw one image per seed: uint8 (n, 3, size, size), on the CPU.

    Args:
        run: needs its weights file only.
        seeds: one per image.
        labels: attribute -> value, for all images.
        overrides: settings of the section `sample:` that replace the run's own.
        device: by default a GPU where there is one.
        on_progress: told how many more images are finished.
    """
    trained = open_trained(run, device=device or pick_device(None))
    chosen = label_row(trained, labels) if labels else None
    return Generator(trained, sampling_of(trained, overrides or {}), chosen).draw(seeds, on_progress=on_progress)
