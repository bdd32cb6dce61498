"""Kernel distance: unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3.

On Inception's pool features this is the KID (Bińkowski et al. 2018, eq. 4). Everything is float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from animegen_cli.errors import DataError

Estimate = tuple[float, float]  # mean and standard deviation


def kernel_distance(
    real: Tensor, fake: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> Estimate:
    """Mean and standard deviation of the unbiased MMD^2 over random subsets of real (N, D) and fake (M, D).

    Each subset takes min(subset_size, N, M) rows of either set without replacement; `seed` fixes them on
    every device. The value is x1 (papers often print it x1000) and may be slightly negative. The standard
    deviation is that between subsets, as other tools report it.
    """
    size = min(subset_size, len(real), len(fake))
    _check(real, fake, size)
    of_real = _members(len(real), size, subsets, seed, real.device)
    of_fake = _members(len(fake), size, subsets, seed + 1, real.device)
    if max(len(real), len(fake)) ** 2 <= subsets * size**2:
        values = _by_quadratic_forms(real, fake, of_real, of_fake)
    else:
        pairs = zip(of_real, of_fake, strict=True)
        values = torch.stack([mmd2(real[rows], fake[others]) for rows, others in pairs])
    return values.mean().item(), values.std(correction=0).item()


def kernel_distance_by_batches(real: Tensor, fake: Tensor, *, batch: int = 64) -> Estimate:
    """Mean and standard deviation of the unbiased MMD^2 over consecutive batches.

    A last partial batch is dropped. The estimator of Kumari (2024) and of the Keras example it follows,
    where it runs on 75-pixel images.
    """
    count = min(len(real), len(fake))
    batch = min(batch, count)
    _check(real, fake, batch)
    starts = range(0, count - batch + 1, batch)
    values = torch.stack([mmd2(real[at : at + batch], fake[at : at + batch]) for at in starts])
    return values.mean().item(), values.std(correction=0).item()


def mmd2(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased MMD^2 between x (N, D) and y (M, D), N and M at least 2; a float64 scalar.

    sum_{i != j} k(x_i, x_j) / (N (N-1)) + the same of y - 2 mean_{ij} k(x_i, y_j)
    """
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    own_x, own_y = _kernel(x, x), _kernel(y, y)
    within_x = (own_x.sum() - own_x.trace()) / (n * (n - 1))
    within_y = (own_y.sum() - own_y.trace()) / (m * (m - 1))
    return within_x + within_y - 2 * _kernel(x, y).mean()


def _by_quadratic_forms(real: Tensor, fake: Tensor, of_real: Tensor, of_fake: Tensor) -> Tensor:
    """MMD^2 of all subsets (S,) from one pass over the kernel matrices.

    With s the 0/1 vector of a subset's members, the sum of a kernel matrix K over the subset is s^T K s:
    cheaper than 100 kernel matrices of 1,000 x 1,000 as long as the sets have no more than 10,000 rows.
    """
    size = of_real.shape[1]
    in_real = _indicator(of_real, len(real))
    in_fake = _indicator(of_fake, len(fake))

    def total(x: Tensor, y: Tensor, in_x: Tensor, in_y: Tensor, block: int = 2048) -> Tensor:
        sums = torch.zeros(len(in_x), dtype=torch.float64, device=x.device)
        for i in range(0, len(x), block):
            rows = x[i : i + block].double()
            for j in range(0, len(y), block):
                kernel = _kernel(rows, y[j : j + block].double())
                sums += ((in_x[:, i : i + block] @ kernel) * in_y[:, j : j + block]).sum(1)
        return sums

    def diagonal(x: Tensor, in_x: Tensor) -> Tensor:
        norms = torch.cat([part.double().square().sum(1) for part in x.split(8192)])
        return in_x @ (norms / x.shape[1] + 1) ** 3

    within = total(real, real, in_real, in_real) - diagonal(real, in_real)
    within = within + total(fake, fake, in_fake, in_fake) - diagonal(fake, in_fake)
    return within / (size * (size - 1)) - 2 * total(real, fake, in_real, in_fake) / size**2


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
