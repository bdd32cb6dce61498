"""Precision, recall, density and coverage: do the fakes lie among the reals, and the reals among the fakes?

A set's manifold is the union of balls around its members, each as wide as the distance to its k-th nearest
neighbour in the same set (itself excluded).

* precision, recall: Kynkäänniemi et al. 2019, k = 3, a point on the rim is inside (`<=`)
* density, coverage: Naeem et al. 2020, k = 5, a point on the rim is outside (`<`)

Distances are computed blockwise in float64, so memory does not grow with the square of the counts.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from animegen_cli.errors import DataError

ROWS, COLUMNS = 1024, 4096
RIM = 1e-11
"""Squared distances that differ by less than this share of the squared norms are ties: far above float64's
rounding, far below any difference between two pictures."""


def manifold_scores(real: Tensor, fake: Tensor, *, k_precision: int = 3, k_density: int = 5) -> dict[str, Tensor]:
    """What each image adds to each score, in one pass over the distances of real (N, D) and fake (M, D).

    The mean of each entry is the score:
    `precision` (M,): 1 where the fake lies within the reals' manifold
    `recall` (N,): 1 where the real lies within the fakes' manifold
    `density` (M,): 1 / k for every real whose ball holds the fake (the mean can exceed 1)
    `coverage` (N,): 1 where the real's ball holds a fake
    """
    of_real = neighbours2(real, max(k_precision, k_density))
    rim_real, ball_real = of_real[:, k_precision - 1], of_real[:, k_density - 1]
    rim_fake = neighbours2(fake, k_precision)[:, -1]
    found = {
        name: torch.zeros(len(fake if name in ("precision", "density") else real), device=real.device).double()
        for name in ("precision", "recall", "density", "coverage")
    }
    for i, j, distance2, rim in _blocks(fake, real):
        _any(found["precision"], i, (distance2 <= rim_real[j] + rim).any(1))
        _any(found["recall"], j, (distance2 <= rim_fake[i, None] + rim).any(0))
        within = distance2 < ball_real[j] - rim
        found["density"][i] += within.sum(1).double() / k_density
        _any(found["coverage"], j, within.any(0))
    return found


def neighbours2(points: Tensor, k: int) -> Tensor:
    """Squared distances (N, k) from each point (N, D) to its k nearest others, ascending; float64."""
    if len(points) <= k:
        raise DataError(
            f"the {k} nearest neighbours need more than {k} images, there are {len(points)}",
            hint="score more images",
        )
    nearest = torch.full((len(points), k), torch.inf, dtype=torch.float64, device=points.device)
    number = torch.arange(len(points), device=points.device)
    for i, j, distance2, _ in _blocks(points, points):
        distance2.masked_fill_(number[i, None] == number[None, j], torch.inf)
        nearest[i] = torch.cat([nearest[i], distance2], 1).topk(k, dim=1, largest=False, sorted=True).values
    return nearest


def _any(found: Tensor, part: slice, inside: Tensor) -> None:
    found[part] = torch.maximum(found[part], inside.double())


def _blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Rows of x, rows of y, their squared distances, and the margin below which two of those are equal."""
    if x.shape[1] != y.shape[1]:
        raise DataError(
            f"the two sets have {x.shape[1]} and {y.shape[1]} features per image",
            hint="extract both with the same network",
        )
    for first in range(0, len(x), ROWS):
        rows = x[first : first + ROWS].double()
        for second in range(0, len(y), COLUMNS):
            columns = y[second : second + COLUMNS].double()
            norms = rows.square().sum(1)[:, None] + columns.square().sum(1)[None, :]
            distance2 = torch.addmm(norms, rows, columns.T, alpha=-2).clamp_(min=0)
            yield slice(first, first + ROWS), slice(second, second + COLUMNS), distance2, norms.mul_(RIM)
