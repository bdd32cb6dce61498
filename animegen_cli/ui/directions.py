"""Directions in a run's noise along which its pictures change most; they are found after training, not trained.

Principal components of pictures that the run draws, led back to the noise they came from by linear regression
(Härkönen et al. 2020, section 2.2, where the components are those of features and the noise is BigGAN's). This asks
nothing of a family but to draw. The noise is a run's first draw: the code z of one-pass families, the top group of
hierarchies, the starting noise of diffusion, of which the means of 4 x 4 blocks are looked at: its coarse content, and few
enough numbers for a regression.
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

FOUND = 5
PICTURES = 512
"""Drawn where drawing is one pass, a quarter of it where it takes steps: half to find directions, half to judge them."""
BLOCKS = 4
_SIDE = 16


class Directions(NamedTuple):
    """What a run's noise does, most first."""

    vectors: Tensor
    """(FOUND, *shape of the noise), orthogonal, of length 1: one unit is a standard deviation of the noise along it."""
    shares: tuple[float, ...]
    """Of the variance of other pictures (as 16 x 16 thumbnails), what each direction explains, in [0, 1]."""
    pictures: int
    """How many were drawn."""


class Steered(Noise):
    """Noise whose first draw, where it has the shape of `shift`, is moved by `shift` (n, *shape); the rest stays the seeds'."""

    def __init__(self, seeds: Sequence[int], shift: Tensor, device: torch.device | str = "cpu") -> None:
        super().__init__(seeds, device)
        self.shift = shift.to(device)

    def __call__(self, *shape: int) -> Tensor:
        drawn = super().__call__(*shape)
        return drawn + self.shift if self.draws == 1 else drawn


class _Heard(Noise):
    """Noise that remembers its first draw."""

    first: Tensor | None = None

    def __call__(self, *shape: int) -> Tensor:
        drawn = super().__call__(*shape)
        self.first = drawn if self.first is None else self.first
        return drawn


def find(
    generator: Generator,
    *,
    pictures: int = PICTURES,
    on_progress: Callable[[int], None] | None = None,
) -> Directions:
    """Draw the seeds 0, 1, 2, ... and look at what their noise did.

    Raises:
        UsageError: a run whose pictures do not depend on a first draw of noise.
    """
    trained = generator.trained
    batch, codes, seen = min(micro_batch(trained.device, trained.data.size), pictures), [], []
    for start in range(0, pictures, batch):
        noise = _Heard(range(start, start + batch), trained.device)
        drawn = generator.draw_noise(noise)
        if noise.first is None:
            raise UsageError("this run draws without noise", hint="there is nothing to steer; pick another run")
        codes.append(noise.first.cpu())
        seen.append(F.interpolate(drawn.float(), (_SIDE, _SIDE), mode="area").flatten(1))
        if on_progress:
            on_progress(batch)
    code, looks = torch.cat(codes), torch.cat(seen).double()
    half, coarse = len(looks) // 2, _coarse(code).double()
    found = _regressed(coarse[:half], looks[:half])
    explained = _explained(coarse[half:] @ found, looks[half:])
    order = sorted(range(found.shape[1]), key=lambda i: -explained[i])
    vectors = _fine(found.T[order], code.shape[1:]).float()
    return Directions(vectors, tuple(explained[i] for i in order), len(looks))


def _regressed(noise: Tensor, looks: Tensor) -> Tensor:
    """Noise (n, D) and pictures (n, P) -> (D, FOUND): where in noise the principal components of the pictures come from."""
    looks = looks - looks.mean(0)
    _, _, components = torch.linalg.svd(looks, full_matrices=False)
    # The noise is white: regression is a correlation. Orthogonal, so that each slider leaves the others alone.
    slopes = (noise - noise.mean(0)).T @ (looks @ components[:FOUND].T)
    found, _ = torch.linalg.qr(slopes)
    return found * torch.where((found * slopes).sum(0) < 0, -1.0, 1.0)


def steered(
    generator: Generator,
    seed: int,
    amounts: Tensor,
    directions: Directions,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Tensor:
    """The seed's image moved along the directions by `amounts` (n, FOUND), in standard deviations: uint8 (n, 3, H, W)."""
    shift = torch.tensordot(amounts.float(), directions.vectors[: amounts.shape[1]], dims=1)
    trained = generator.trained
    batch, pieces = micro_batch(trained.device, trained.data.size), []
    for piece in shift.split(batch):
        noise = Steered([seed] * len(piece), piece, trained.device)
        pieces.append(generator.draw_noise(noise))
        if on_progress:
            on_progress(len(piece))
    return torch.cat(pieces)


def _blocks(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[1] == shape[2] and shape[1] % BLOCKS == 0 and shape[1] > BLOCKS


def _coarse(code: Tensor) -> Tensor:
    """(n, *shape) -> (n, D) of deviation 1: the code, or the means of the blocks of noise shaped like an image."""
    if not _blocks(code.shape[1:]):
        return code.flatten(1)
    side = code.shape[2] // BLOCKS
    return F.avg_pool2d(code, side).flatten(1) * side


def _fine(vectors: Tensor, shape: Sequence[int]) -> Tensor:
    """(k, D) -> (k, *shape), of the same length: the inverse of `_coarse` for vectors that are even inside each block."""
    if not _blocks(shape):
        return vectors.reshape(len(vectors), *shape)
    side = shape[1] // BLOCKS
    planes = vectors.reshape(len(vectors), shape[0], BLOCKS, BLOCKS)
    return planes.repeat_interleave(side, 2).repeat_interleave(side, 3) / side


def _explained(along: Tensor, looks: Tensor) -> list[float]:
    """Share of the variance of `looks` (n, P) that a straight line in each column of `along` (n, k) explains."""
    along, looks = along - along.mean(0), looks - looks.mean(0)
    squares = along.square().sum(0).clamp(min=1e-12)
    slopes = along.T @ looks / squares[:, None]
    return [float(x) for x in slopes.square().sum(1) * squares / looks.square().sum().clamp(min=1e-12)]


def amount_rows(steps: int = 7, reach: float = 3.0) -> Tensor:
    """For each direction a walk from -reach to +reach with the others at 0: (FOUND * steps, FOUND)."""
    walk = torch.linspace(-reach, reach, steps)
    rows = torch.zeros(FOUND, steps, FOUND)
    for i in range(FOUND):
        rows[i, :, i] = walk
    return rows.flatten(0, 1)


def count_for(trained: Trained) -> int:
    """Pictures to look at: fewer where each takes many passes."""
    return PICTURES if getattr(trained.config.sample, "steps", 1) == 1 else PICTURES // 4
