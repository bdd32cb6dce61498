"""Directions in a run's noise along which its pictures change most; they are found after training, not trained.

They are the principal components of pictures that the run draws, led back by linear regression to the noise that the
pictures came from (Härkönen et al. 2020, section 2.2, where the components are those of features and the noise is
BigGAN's). This asks nothing of a family but to draw. The noise is a run's first draw: the code z of one-pass families, the
top group of hierarchies, the starting noise of diffusion. Of noise shaped like an image the means of 4 x 4 blocks are
used: its coarse content, and few enough numbers for a regression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from animegen_cli.errors import UsageError
from animegen_cli.model.noise import Noise
from animegen_cli.sample.trained import micro_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from animegen_cli.sample.generate import Generator
    from animegen_cli.sample.trained import Trained

COUNT = 5
"""How many directions are found."""
PICTURES = 512
"""Pictures drawn where drawing is one pass, a quarter of it where it takes steps: half of them to find directions, the
other half to measure them."""
BLOCKS = 4
"""Blocks along each side of noise that is shaped like an image."""
_THUMBNAIL = 16
"""Height and width in pixels of the thumbnails that pictures are compared as."""


class Directions(NamedTuple):
    """What a run's noise does to its pictures, the strongest direction first."""

    vectors: Tensor
    """(COUNT, *shape of the noise), orthogonal, of length 1: one unit is a standard deviation of the noise along it."""
    shares: tuple[float, ...]
    """Share of the variance of the pictures' thumbnails that each direction explains, in [0, 1]; measured on pictures that
    had no part in finding it."""
    pictures: int
    """How many pictures were drawn."""


class ShiftedNoise(Noise):
    """The seeds' own noise, of which the first draw is moved."""

    def __init__(self, seeds: Sequence[int], shift: Tensor, device: torch.device | str = "cpu") -> None:
        """Add `shift` (n, *shape) to the first draw of the n seeds, which must have that shape."""
        super().__init__(seeds, device)
        self.shift = shift.to(device)

    def __call__(self, *shape: int) -> Tensor:
        """The next draw (n, *shape)."""
        noise = super().__call__(*shape)
        return noise + self.shift if self.draws == 1 else noise


class _RecordedNoise(Noise):
    """Noise that remembers its first draw."""

    first: Tensor | None = None

    def __call__(self, *shape: int) -> Tensor:
        noise = super().__call__(*shape)
        if self.first is None:
            self.first = noise
        return noise


def find(
    generator: Generator,
    *,
    pictures: int = PICTURES,
    on_progress: Callable[[int], None] | None = None,
) -> Directions:
    """Draw the faces of the seeds 0, 1, 2, ... and find the directions of their noise that change them most.

    Args:
        generator: of a run that draws.
        pictures: how many to draw.
        on_progress: called with the number of pictures that each network call drew.

    Raises:
        UsageError: the run does not draw, or its pictures do not depend on a first draw of noise.
    """
    trained = generator.trained
    batch = min(micro_batch(trained.device, trained.data.size), pictures)
    codes = []
    thumbnails = []
    for start in range(0, pictures, batch):
        noise = _RecordedNoise(range(start, start + batch), trained.device)
        images = generator.draw_noise(noise)
        if noise.first is None:
            raise UsageError("this run draws without noise", hint="there is nothing to steer; pick another run")
        codes.append(noise.first.cpu())
        thumbnails.append(F.interpolate(images.float(), (_THUMBNAIL, _THUMBNAIL), mode="area").flatten(1))
        if on_progress:
            on_progress(batch)
    code = torch.cat(codes)
    coarse = _coarse(code).double()
    seen = torch.cat(thumbnails).double()
    half = len(seen) // 2
    vectors = _regressed(coarse[:half], seen[:half])
    shares = _explained(coarse[half:] @ vectors, seen[half:])
    order = sorted(range(len(shares)), key=lambda i: -shares[i])
    return Directions(
        _fine(vectors.T[order], code.shape[1:]).float(), tuple(shares[i] for i in order), pictures=len(seen)
    )


def _regressed(noise: Tensor, thumbnails: Tensor) -> Tensor:
    """Noise (n, D) and thumbnails (n, P) -> (D, COUNT): where in noise the principal components of the thumbnails come from."""
    thumbnails = thumbnails - thumbnails.mean(0)
    _, _, components = torch.linalg.svd(thumbnails, full_matrices=False)
    # The noise is white: regression is a correlation. Orthogonal, so that each slider leaves the others alone.
    slopes = (noise - noise.mean(0)).T @ (thumbnails @ components[:COUNT].T)
    vectors, _ = torch.linalg.qr(slopes)
    return vectors * torch.where((vectors * slopes).sum(0) < 0, -1.0, 1.0)


def steer(
    generator: Generator,
    seed: int,
    amounts: Tensor,
    directions: Directions,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw a seed's image moved along directions: uint8 (n, 3, H, W), on the CPU.

    Args:
        generator: of the run that the directions are of, and as they were found with.
        seed: of the image that is moved.
        amounts: (n, k), how far along each of the first k directions, in standard deviations of the noise.
        directions: what `find` found.
        on_progress: called with the number of images that each network call drew.
    """
    shifts = torch.tensordot(amounts.float(), directions.vectors[: amounts.shape[1]], dims=1)
    trained = generator.trained
    images = []
    for shift in shifts.split(micro_batch(trained.device, trained.data.size)):
        noise = ShiftedNoise([seed] * len(shift), shift, trained.device)
        images.append(generator.draw_noise(noise))
        if on_progress:
            on_progress(len(shift))
    return torch.cat(images)


def _has_blocks(shape: Sequence[int]) -> bool:
    """Whether noise of this shape is a square image that can be divided into blocks of more than one pixel."""
    return len(shape) == 3 and shape[1] == shape[2] and shape[1] % BLOCKS == 0 and shape[1] > BLOCKS


def _coarse(code: Tensor) -> Tensor:
    """(n, *shape) -> (n, D) of deviation 1: the code, or the means of the blocks of noise shaped like an image."""
    if not _has_blocks(code.shape[1:]):
        return code.flatten(1)
    side = code.shape[2] // BLOCKS
    return F.avg_pool2d(code, side).flatten(1) * side


def _fine(vectors: Tensor, shape: Sequence[int]) -> Tensor:
    """(k, D) -> (k, *shape), of the same length: the inverse of `_coarse` for vectors that are even inside each block."""
    if not _has_blocks(shape):
        return vectors.reshape(len(vectors), *shape)
    side = shape[1] // BLOCKS
    planes = vectors.reshape(len(vectors), shape[0], BLOCKS, BLOCKS)
    return planes.repeat_interleave(side, 2).repeat_interleave(side, 3) / side


def _explained(projected: Tensor, thumbnails: Tensor) -> list[float]:
    """Share of the variance of thumbnails (n, P) that a straight line in each column of `projected` (n, k) explains."""
    projected = projected - projected.mean(0)
    thumbnails = thumbnails - thumbnails.mean(0)
    squares = projected.square().sum(0).clamp(min=1e-12)
    slopes = projected.T @ thumbnails / squares[:, None]
    explained = slopes.square().sum(1) * squares
    return [float(share) for share in explained / thumbnails.square().sum().clamp(min=1e-12)]


def amount_rows(steps: int = 7, reach: float = 3.0) -> Tensor:
    """For each direction a walk from -reach to +reach with the others at 0: (COUNT * steps, COUNT)."""
    walk = torch.linspace(-reach, reach, steps)
    rows = torch.zeros(COUNT, steps, COUNT)
    for i in range(COUNT):
        rows[i, :, i] = walk
    return rows.flatten(0, 1)


def picture_count(trained: Trained) -> int:
    """How many pictures to draw for a run: fewer where each takes many passes."""
    return PICTURES if getattr(trained.config.sample, "steps", 1) in (None, 1) else PICTURES // 4
