"""Kernel distance: unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3.

On Inception's pool features this is the KID (Bińkowski et al. 2018, eq. 4). Everything is float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from animegen_cli.errors import DataError

LANDMARKS = 2048
"""Images of either side that an image's influence is measured against."""


class KernelDistance(NamedTuple):
    """An estimate of the squared maximum mean discrepancy."""

    value: float
    """The estimate; slightly negative for sets that are alike."""
    spread: float
    """Standard deviation between subsets or batches, as other tools report it; no error of `value`."""
    influence: Tensor
    """(M,) what each fake adds, to first order; of batches: (batches,) what each batch adds."""
    extra: float = 0.0
    """Variance of `value` that the random subsets leave."""


def kernel_distance(
    real: Tensor,
    fake: Tensor,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
    within_real: Tensor | None = None,
) -> KernelDistance:
    """Mean of the unbiased MMD^2 over random subsets of real (N, D) and fake (M, D).

    Each subset takes min(subset_size, N, M) rows of either set without replacement; `seed` fixes them on
    every device. The value is x1 (papers often print it x1000) and may be slightly negative. `within_real` is
    the reals' part, see `real_part`, where it is known already.
    """
    size = min(subset_size, len(real), len(fake))
    _check(real, fake, size)
    of_real = _members(len(real), size, subsets, seed, real.device)
    of_fake = _members(len(fake), size, subsets, seed + 1, real.device)
    within = _within(real, of_real) if within_real is None else within_real
    values = within + _within(fake, of_fake) - 2 * _between(real, fake, of_real, of_fake)
    spread = values.std(correction=0).item()
    return KernelDistance(values.mean().item(), spread, _influence(real, fake), spread**2 / subsets)


def real_part(real: Tensor, count: int, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> Tensor:
    """What the reals alone add to each subset's MMD^2 (subsets,): the same for every set of `count` fakes."""
    size = min(subset_size, len(real), count)
    _check(real, real, size)
    return _within(real, _members(len(real), size, subsets, seed, real.device))


def kernel_distance_by_batches(real: Tensor, fake: Tensor, *, batch: int = 64) -> KernelDistance:
    """Mean of the unbiased MMD^2 over consecutive batches of real (N, D) and fake (M, D).

    A last partial batch is dropped; sets smaller than a batch make one. This is the estimator of Kumari (2024) and of
    the Keras example it follows, where it runs on 75-pixel images.
    """
    count = min(len(real), len(fake))
    batch = min(batch, count)
    _check(real, fake, batch)
    starts = range(0, count - batch + 1, batch)
    values = torch.stack([mmd2(real[at : at + batch], fake[at : at + batch]) for at in starts])
    return KernelDistance(values.mean().item(), values.std(correction=0).item(), values)


def mmd2(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased MMD^2 between x (N, D) and y (M, D), N and M at least 2; a float64 scalar.

    sum_{i != j} k(x_i, x_j) / (N (N-1)) + the same of y - 2 mean_{ij} k(x_i, y_j)
    """
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    own_x = _kernel(x, x)
    own_y = _kernel(y, y)
    within_x = (own_x.sum() - own_x.trace()) / (n * (n - 1))
    within_y = (own_y.sum() - own_y.trace()) / (m * (m - 1))
    return within_x + within_y - 2 * _kernel(x, y).mean()


def _within(points: Tensor, members: Tensor) -> Tensor:
    """Mean kernel value of two different members of each subset (S,)."""
    size = members.shape[1]
    inside = _indicator(members, len(points))
    norms = torch.cat([part.double().square().sum(1) for part in points.split(8192)])
    diagonal = inside @ (norms / points.shape[1] + 1) ** 3
    if _is_small(points, points, members):
        total = _totals(points, points, inside, inside)
    else:
        total = torch.stack([_kernel(x, x).sum() for x in (points[rows].double() for rows in members)])
    return (total - diagonal) / (size * (size - 1))


def _between(real: Tensor, fake: Tensor, of_real: Tensor, of_fake: Tensor) -> Tensor:
    """Mean kernel value of a member of each subset of the reals and one of the fakes' (S,)."""
    if _is_small(real, fake, of_real):
        total = _totals(real, fake, _indicator(of_real, len(real)), _indicator(of_fake, len(fake)))
    else:
        pairs = zip(of_real, of_fake, strict=True)
        total = torch.stack([_kernel(real[i].double(), fake[j].double()).sum() for i, j in pairs])
    return total / of_real.shape[1] ** 2


def _is_small(x: Tensor, y: Tensor, members: Tensor) -> bool:
    """Whether one kernel matrix of all rows is cheaper than one for each subset."""
    return len(x) * len(y) <= members.shape[0] * members.shape[1] ** 2


def _totals(x: Tensor, y: Tensor, in_x: Tensor, in_y: Tensor, block: int = 2048) -> Tensor:
    """Sums of the kernel over all subsets (S,) from one pass over its matrix.

    With s the 0/1 vector of a subset's members, the sum of a kernel matrix K over the subset is s^T K s.
    """
    sums = torch.zeros(len(in_x), dtype=torch.float64, device=x.device)
    for i in range(0, len(x), block):
        rows = x[i : i + block].double()
        for j in range(0, len(y), block):
            kernel = _kernel(rows, y[j : j + block].double())
            sums += ((in_x[:, i : i + block] @ kernel) * in_y[:, j : j + block]).sum(1)
    return sums


def _influence(real: Tensor, fake: Tensor) -> Tensor:
    """(M,) twice what each fake's mean kernel value with the other fakes is above that with the reals.

    The projection of a U-statistic on its members (Hoeffding 1948). Where a side has more than LANDMARKS images,
    against that many of them.
    """
    real = real[:: -(-len(real) // LANDMARKS)].double()
    stride = -(-len(fake) // LANDMARKS)
    others = fake[::stride].double()
    own = []
    for start in range(0, len(fake), 2048):
        rows = fake[start : start + 2048].double()
        itself = (torch.arange(start, start + len(rows), device=fake.device) % stride == 0).double()
        among = _kernel(rows, others).sum(1) - itself * (rows.square().sum(1) / fake.shape[1] + 1) ** 3
        own.append(2 * (among / (len(others) - itself) - _kernel(rows, real).mean(1)))
    return torch.cat(own)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _members(count: int, size: int, subsets: int, seed: int, device: torch.device) -> Tensor:
    """(subsets, size) row numbers without replacement; drawn on the CPU, so equal everywhere."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(count, generator=generator)[:size] for _ in range(subsets)]
    return torch.stack(rows).to(device)


def _indicator(members: Tensor, count: int) -> Tensor:
    inside = torch.zeros(len(members), count, dtype=torch.float64, device=members.device)
    return inside.scatter_(1, members, 1.0)


def _check(real: Tensor, fake: Tensor, size: int) -> None:
    if real.shape[1] != fake.shape[1]:
        raise DataError(
            f"the two sets have {real.shape[1]} and {fake.shape[1]} features per image",
            hint="extract both with the same network",
        )
    if size < 2:
        raise DataError(
            f"KID needs at least two images on either side, there are {len(real)} and {len(fake)}",
            hint="score at least 1,000 images for a number worth comparing",
        )
