"""Directions in a run's noise along which its pictures change most; they are found after training, not trained.

They are the principal directions of J^T J, where J is the Jacobian of the picture by the noise: how its thumbnail changes
as each coordinate of the noise moves by one standard deviation, for a few seeds together (active subspaces: Constantine,
Dow, Wang 2014; for generators: Zhu et al. 2021, "Low-Rank Subspaces in GANs", at one code and by derivatives). Finite
differences ask nothing of a family but to draw. The noise is a run's first draw: the code z of one-pass families, the top
group of hierarchies, the starting noise of diffusion. Of noise shaped like an image the means of 4 x 4 blocks are
moved: its coarse content, and few enough coordinates.
"""

from __future__ import annotations

import math
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
"""About how many pictures are drawn where drawing is one pass, a quarter of it where it takes steps."""
BLOCKS = 4
"""Blocks along each side of noise that is shaped like an image."""
MOVES = 64
"""Moves of the noise that are in memory at once."""
_THUMBNAIL = 16
"""Height and width in pixels of the thumbnails that pictures are compared as."""


class Directions(NamedTuple):
    """What a run's noise does to its pictures, the strongest direction first."""

    vectors: Tensor
    """(COUNT, *shape of the noise), orthogonal, of length 1: one unit is a standard deviation of the noise along it."""
    shares: tuple[float, ...]
    """Share of each direction, in [0, 1], in the squared change of the thumbnails along all that were tried."""


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
    """Noise that remembers the shape of its first draw."""

    first: tuple[int, ...] | None = None

    def __call__(self, *shape: int) -> Tensor:
        self.first = self.first or shape
        return super().__call__(*shape)


def find(
    generator: Generator,
    *,
    pictures: int = PICTURES,
    on_progress: Callable[[int, int], None] | None = None,
) -> Directions:
    """Draw the faces of the seeds 0, 1, ... with every coordinate of their noise moved in turn, and find the directions
    that change them most.

    Args:
        generator: of a run that draws.
        pictures: about how many to draw; where the noise has more coordinates, as many random directions are tried.
        on_progress: called with how many pictures are drawn, and of how many.

    Raises:
        UsageError: the run does not draw, or its pictures do not depend on a first draw of noise.
    """
    noise = _RecordedNoise([0], generator.trained.device)
    generator.draw_noise(noise)
    if noise.first is None:
        raise UsageError("this run draws without noise", hint="there is nothing to steer; pick another run")
    shape = noise.first
    tried = _tried(_coordinates(shape), pictures)
    seeds = max(1, round(pictures / len(tried)))
    total = seeds * (len(tried) + 1)
    drawn = 0

    def advance(count: int) -> None:
        nonlocal drawn
        drawn += count
        if on_progress:
            on_progress(drawn, total)

    squares = torch.zeros(len(tried), len(tried), dtype=torch.float64)
    moves = torch.cat([torch.zeros_like(tried[:1]), tried])
    for seed in range(seeds):
        seen = torch.cat(
            [_thumbnails(_moved(generator, seed, _fine(some, shape), advance)) for some in moves.split(MOVES)]
        )
        changes = seen[1:] - seen[0]
        squares += changes @ changes.T
    values, vectors = torch.linalg.eigh(squares)
    strongest = vectors.flip(1)[:, :COUNT].T.float() @ tried
    shares = values.flip(0)[:COUNT] / values.sum().clamp(min=1e-12)
    return Directions(_fine(strongest, shape), tuple(shares.tolist()))


def _tried(coordinates: int, most: int) -> Tensor:
    """(k, coordinates) directions that are tried: each coordinate's own, or, where those are too many, random ones at right
    angles to each other."""
    if coordinates <= most:
        return torch.eye(coordinates)
    random = torch.randn(coordinates, most, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(random)[0].T


def _thumbnails(images: Tensor) -> Tensor:
    """Images (n, 3, H, W) -> (n, P), float64, on the CPU."""
    return F.interpolate(images.float(), (_THUMBNAIL, _THUMBNAIL), mode="area").flatten(1).cpu().double()


def _moved(generator: Generator, seed: int, shifts: Tensor, advance: Callable[[int], None] | None) -> Tensor:
    """The seed's image with its noise moved by each of the shifts (n, *shape): uint8 (n, 3, H, W)."""
    trained = generator.trained
    images = []
    for some in shifts.split(micro_batch(trained.device, trained.data.size)):
        images.append(generator.draw_noise(ShiftedNoise([seed] * len(some), some, trained.device)))
        if advance:
            advance(len(some))
    return torch.cat(images)


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
    return _moved(generator, seed, shifts, on_progress)


def _has_blocks(shape: Sequence[int]) -> bool:
    """Whether noise of this shape is a square image that can be divided into blocks of more than one pixel."""
    return len(shape) == 3 and shape[1] == shape[2] and shape[1] % BLOCKS == 0 and shape[1] > BLOCKS


def _coordinates(shape: Sequence[int]) -> int:
    """How many numbers of noise are moved: all, or the means of the blocks of noise shaped like an image."""
    return shape[0] * BLOCKS**2 if _has_blocks(shape) else math.prod(shape)


def _fine(vectors: Tensor, shape: Sequence[int]) -> Tensor:
    """Directions of the coordinates (k, D) -> of the noise (k, *shape), of the same length, even inside each block."""
    if not _has_blocks(shape):
        return vectors.reshape(len(vectors), *shape)
    side = shape[1] // BLOCKS
    planes = vectors.reshape(len(vectors), shape[0], BLOCKS, BLOCKS)
    return planes.repeat_interleave(side, 2).repeat_interleave(side, 3) / side


def amount_rows(steps: int = 7, reach: float = 3.0) -> Tensor:
    """For each direction a walk from -reach to +reach with the others at 0: (COUNT * steps, COUNT)."""
    walk = torch.linspace(-reach, reach, steps)
    rows = torch.zeros(COUNT, steps, COUNT)
    for i in range(COUNT):
        rows[i, :, i] = walk
    return rows.flatten(0, 1)


def is_quick(trained: Trained) -> bool:
    """Whether a picture takes one pass."""
    return getattr(trained.config.sample, "steps", 1) in (None, 1)
