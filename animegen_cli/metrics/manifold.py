"""Precision, recall, density and coverage: do the fakes lie among the reals, and the reals among the fakes?

A set's manifold is the union of balls around its members, each as wide as the distance to its k-th nearest
neighbor in the same set (itself excluded).

* precision, recall: Kynkäänniemi et al. 2019, k = 3, a point on the rim is inside (`<=`)
* density, coverage: Naeem et al. 2020, k = 5, a point on the rim is outside (`<`)

Distances are computed blockwise in float64, so memory does not grow with the square of the counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from animegen_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 1024
"""Rows of a block of distances."""
COLUMNS = 2048
"""Its columns."""
RIM = 1e-11
"""Squared distances that differ by less than this share of the squared norms are ties: far above float64's
rounding, far below any difference between two pictures."""


class Neighbors(NamedTuple):
    """What a set's own distances say of each of its N members."""

    nearest2: Tensor
    """(N, k) squared distances to the k nearest others, ascending; float64."""
    distance: Tensor
    """(N,) mean distance to all others; float64."""


class Manifold(NamedTuple):
    """Four scores, image by image."""

    added: dict[str, Tensor]
    """What each image adds; the mean of each entry is the score:
    `precision` (M,): 1 where the fake lies within the reals' manifold
    `recall` (N,): 1 where the real lies within the fakes' manifold
    `density` (M,): 1 / k for every real whose ball holds the fake (the mean can exceed 1)
    `coverage` (N,): 1 where the real's ball holds a fake
    """
    lost: dict[str, Tensor]
    """`recall`, `coverage` (M,): by how much the score falls without this fake, other balls unchanged."""


def manifold_scores(
    real: Tensor,
    fake: Tensor,
    *,
    k_precision: int = 3,
    k_density: int = 5,
    of_real: Neighbors | None = None,
    of_fake: Neighbors | None = None,
) -> Manifold:
    """Precision, recall, density and coverage in one pass over the distances of real (N, D) and fake (M, D).

    Args:
        real: features of the real images.
        fake: features of the drawn images.
        k_precision: neighbors that make the radii of precision and recall.
        k_density: neighbors that make the radii of density and coverage.
        of_real: the reals' own `neighbors`, where they are known already.
        of_fake: the same of the fakes.

    Raises:
        DataError: a set has too few images for its radii, or the two have features of different width.
    """
    nearest2 = (of_real or neighbors(real, max(k_precision, k_density))).nearest2
    rim_real = nearest2[:, k_precision - 1]
    ball_real = nearest2[:, k_density - 1]
    rim_fake = (of_fake or neighbors(fake, k_precision)).nearest2[:, k_precision - 1]
    precise = _Pairs(len(fake), len(real), real.device)
    reached, covered = (_Pairs(len(fake), len(real), real.device) for _ in range(2))
    for i, j, distance2, rim in _blocks(fake, real):
        precise.add(i, j, distance2 <= rim_real[j] + rim)
        reached.add(i, j, distance2 <= rim_fake[i, None] + rim)
        covered.add(i, j, distance2 < ball_real[j] - rim)
    added = {
        "precision": (precise.of_fake > 0).double(),
        "recall": (reached.of_real > 0).double(),
        "density": covered.of_fake.double() / k_density,
        "coverage": (covered.of_real > 0).double(),
    }
    return Manifold(added, {"recall": reached.lost(), "coverage": covered.lost()})


class _Pairs:
    """Counts pairs of a fake and a real of which one lies in the other's ball."""

    def __init__(self, fakes: int, reals: int, device: torch.device) -> None:
        self.of_fake, self.of_real, self._places = (
            torch.zeros(count, dtype=torch.int64, device=device) for count in (fakes, reals, reals)
        )

    def add(self, rows: slice, columns: slice, inside: Tensor) -> None:
        fakes, reals = inside.nonzero(as_tuple=True)  # few: a ball holds a handful
        self.of_fake[rows] += fakes.bincount(minlength=inside.shape[0])
        self.of_real[columns] += reals.bincount(minlength=inside.shape[1])
        self._places[columns] = self._places[columns].index_add_(0, reals, fakes + rows.start)

    def lost(self) -> Tensor:
        """(fakes,) share of the reals that only this fake meets: where there is one, the sum of places is its own."""
        only = self._places[self.of_real == 1]
        return only.bincount(minlength=len(self.of_fake)).double() / len(self.of_real)


def neighbors(points: Tensor, k: int) -> Neighbors:
    """Nearest and mean distances within points (N, D); each pair of blocks is computed once; DataError for N <= k."""
    if len(points) <= k:
        raise DataError(
            f"the {k} nearest neighbors need more than {k} images, there are {len(points)}",
            hint="score more images",
        )
    nearest = torch.full((len(points), k), torch.inf, dtype=torch.float64, device=points.device)
    total = torch.zeros(len(points), dtype=torch.float64, device=points.device)

    def take(part: slice, distance2: Tensor) -> None:
        found = distance2.topk(min(k, distance2.shape[1]), dim=1, largest=False).values
        nearest[part] = torch.cat([nearest[part], found], 1).topk(k, dim=1, largest=False, sorted=True).values

    for i, j, distance2, _ in _blocks(points, points, ROWS, upper=True):
        if i == j:
            distance2.fill_diagonal_(0)
        apart = distance2.sqrt()
        total[i] += apart.sum(1)
        if i == j:
            distance2.fill_diagonal_(torch.inf)
        else:
            total[j] += apart.sum(0)
            take(j, distance2.T.contiguous())
        take(i, distance2)
    return Neighbors(nearest, total / (len(points) - 1))


def _blocks(
    x: Tensor, y: Tensor, columns: int | None = None, *, upper: bool = False
) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Rows of x, rows of y, their squared distances, and the margin below which two of those are equal.

    With `upper` only blocks on and above the diagonal.
    """
    if x.shape[1] != y.shape[1]:
        raise DataError(
            f"the two sets have {x.shape[1]} and {y.shape[1]} features per image",
            hint="extract both with the same network",
        )
    columns = columns or COLUMNS
    for first in range(0, len(x), ROWS):
        rows = x[first : first + ROWS].double()
        for second in range(first if upper else 0, len(y), columns):
            others = y[second : second + columns].double()
            norms = rows.square().sum(1)[:, None] + others.square().sum(1)[None, :]
            distance2 = torch.addmm(norms, rows, others.T, alpha=-2).clamp_(min=0)
            yield slice(first, first + ROWS), slice(second, second + columns), distance2, norms.mul_(RIM)
