"""Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, eq. 6).

    FD = |mu_1 - mu_2|^2 + Tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))

On Inception's pool features this is the FID. Everything is float64. The square root of the product is never
formed: its trace is the sum of the square roots of the eigenvalues of the symmetric matrix R^T C_2 R, with
C_1 = R R^T, so the result is real whatever the rank of the covariances.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from animegen_cli import disk
from animegen_cli.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 512
"""Columns at once where half of a product is known without computing it."""


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and unbiased covariance (D, D) of `count` feature vectors, float64 on the CPU.

    `count` is None where a file does not say it; `protocol` is the id of the protocol they were made under.
    """

    mean: Tensor
    covariance: Tensor
    count: int | None = None
    protocol: str | None = None
    factor: Tensor | None = None
    """R (D, N) with R R^T = covariance, where the features themselves are one: no more images than features."""

    @functools.cached_property
    def root(self) -> Tensor:
        """R (D, rank) with R R^T = covariance."""
        return self.factor if self.factor is not None else _root(self.covariance)


class MomentSum:
    """Moments of a stream of feature batches, which are not held in memory (Chan et al. 1979, pairwise update)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    def add(self, features: Tensor) -> MomentSum:
        """Take in one batch (B, D) of any float type, on any device; returns itself."""
        if features.ndim != 2:
            raise ValueError(f"features must be (B, D), not {tuple(features.shape)}")
        if not len(features):
            return self
        batch = _double(features)
        mean = batch.mean(0)
        centered = batch - mean
        scatter = _symmetric(centered, centered).cpu()
        mean = mean.cpu()
        if self._mean is None or self._scatter is None:
            self.count, self._mean, self._scatter = len(batch), mean, scatter
            return self
        total = self.count + len(batch)
        shift = mean - self._mean
        self._scatter += scatter + torch.outer(shift, shift) * (self.count * len(batch) / total)
        self._mean += shift * (len(batch) / total)
        self.count = total
        return self

    def moments(self, protocol: str | None = None) -> Moments:
        """The moments of what was added so far; DataError below two vectors."""
        if self._mean is None or self._scatter is None or self.count < 2:
            raise DataError(
                f"a covariance needs at least two images, there are {self.count}",
                hint="score at least 2,048 images for a number worth comparing",
            )
        return Moments(self._mean.clone(), self._scatter / (self.count - 1), self.count, protocol)


def moments(features: Tensor, *, chunk: int = 8192) -> Moments:
    """Moments of features (N, D), a chunk of rows at a time; DataError below two rows."""
    total = MomentSum()
    for part in features.split(chunk):
        total.add(part)
    found = total.moments()
    if len(features) > features.shape[1]:
        return found
    centered = _double(features).cpu() - found.mean
    return replace(found, factor=centered.T / (len(features) - 1) ** 0.5)


def frechet_distance(one: Moments, other: Moments) -> float:
    """The squared 2-Wasserstein distance between the two Gaussians; at least 0, in squared feature units."""
    _same_width(one, other)
    if one.factor is None and other.factor is not None:
        one, other = other, one  # the side of lower rank has the smaller eigenproblem
    overlap = torch.linalg.eigvalsh(_product(one, other)).clamp(min=0).sqrt().sum()
    return _distance(one, other, overlap)


def frechet_influence(real: Moments, fake: Moments, features: Tensor) -> tuple[float, Tensor]:
    """The Fréchet distance, and what each of the fakes (N, D) adds to it, to first order: (N,) about 0.

    The distance changes by 2 (m_2 - m_1).x + x^T (I - T) x per added fake x (centered), where T is the
    optimal transport map from the fakes' Gaussian to the reals' (the gradient of the Bures metric; Bhatia,
    Jain & Lim 2019).
    """
    _same_width(real, fake)
    values, vectors = torch.linalg.eigh(_product(real, fake))
    positive = values > values.max() * 1e-10 if len(values) else values > 0
    half = real.root @ (vectors[:, positive] * values[positive].rsqrt().sqrt())  # T = half half^T
    shift = 2 * (fake.mean - real.mean)
    influence = []
    for part in features.split(8192):
        x = part.cpu().double() - fake.mean
        influence.append(x @ shift + x.square().sum(1) - (x @ half).square().sum(1))
    found = torch.cat(influence)
    return _distance(real, fake, values.clamp(min=0).sqrt().sum()), found - found.mean()


def frechet_infinity(real: Tensor | Moments, fake: Tensor, *, halvings: int = 3, seed: int = 0) -> tuple[float, float]:
    """The Fréchet distance of infinitely many images (Chong & Forsyth 2020), and the variance its random halves leave.

    The distance of few images is too large by about a / N. It is measured on all N and on N / 2 images of both sides
    (of the fakes alone where the reals are moments), and the line through both over 1 / N is followed to 0. Both
    halves of a set are used, and several ways to halve it, which scatters far less than a regression over subsets
    of many sizes. May come out slightly below 0.

    Args:
        real: features (N, D), or moments.
        fake: features (M, D).
        halvings: random ways to halve a set.
        seed: fixes them.

    Raises:
        DataError: fewer than four images on a side that is halved.
    """
    few = min(len(fake), len(real) if isinstance(real, Tensor) else len(fake))
    if few < 4:
        raise DataError(
            f"the distance of infinitely many images is found from halves of two and more, and there are {few} images",
            hint="score more images, or leave `fd-infinity` out",
        )
    whole = frechet_distance(moments(real) if isinstance(real, Tensor) else real, moments(fake))
    generator = torch.Generator().manual_seed(seed)

    def halves(features: Tensor) -> list[Moments]:
        order = torch.randperm(len(features), generator=generator).to(features.device)
        return [moments(features[order[part::2]]) for part in range(2)]

    found = []
    for _ in range(halvings):
        reals = halves(real) if isinstance(real, Tensor) else [real, real]
        pairs = zip(reals, halves(fake), strict=True)
        found.append(2 * whole - sum(frechet_distance(one, other) for one, other in pairs) / 2)
    every = torch.tensor(found, dtype=torch.float64)
    return every.mean().item(), every.var().item() / halvings


def _product(one: Moments, other: Moments) -> Tensor:
    """R^T C R, whose eigenvalues are those of the product of both covariances."""
    if other.factor is not None:
        overlap = other.factor.T @ one.root
        return _symmetric(overlap, overlap)
    root, full = one.root, other.covariance
    if root.shape[0] == root.shape[1] and torch.equal(root, root.tril()):  # Cholesky's: nothing above the diagonal
        parts = [full[:, at:] @ root[at:, at : at + BLOCK] for at in range(0, len(root), BLOCK)]
        return _symmetric(root, torch.cat(parts, 1))
    return _symmetric(root, full @ root)


def _symmetric(left: Tensor, right: Tensor) -> Tensor:
    """left^T right (D, D) where that is known to be symmetric: only the blocks below the diagonal are computed."""
    found = left.new_empty(left.shape[1], right.shape[1])
    for start in range(0, len(found), BLOCK):
        part = slice(start, start + BLOCK)
        below = left[:, start:].T @ right[:, part]
        found[start:, part] = below
        found[part, start:] = below.T
    return found


def _distance(one: Moments, other: Moments, overlap: Tensor) -> float:
    offset = (one.mean - other.mean).square().sum()
    return max((offset + one.covariance.trace() + other.covariance.trace() - 2 * overlap).item(), 0.0)


def save_moments(path: Path, stats: Moments) -> None:
    """Write .npz with `mu`, `sigma` (as every FID tool reads), `n` and `protocol`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk.replacing(path) as temporary, temporary.open("wb") as file:
        count, protocol = np.int64(-1 if stats.count is None else stats.count), np.str_(stats.protocol or "")
        mean, covariance = stats.mean.numpy(), stats.covariance.numpy()
        checksum = np.str_(_checksum(mean, covariance, count, protocol))
        np.savez(file, mu=mean, sigma=covariance, n=count, protocol=protocol, checksum=checksum)


def load_moments(path: Path) -> Moments:
    """Read an .npz of this tool, pytorch-fid or clean-fid; raises DataError when it is not one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, covariance = (np.asarray(file[key], dtype=np.float64) for key in ("mu", "sigma"))
            count = int(file["n"]) if "n" in file else -1
            protocol = str(file["protocol"]) if "protocol" in file else ""
            if "checksum" in file and str(file["checksum"]) != _checksum(mean, covariance, count, protocol):
                raise ValueError("it does not match its own checksum")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as problem:
        raise DataError(
            f"`{path}` is no file of feature statistics: {problem}",
            hint="give an .npz with `mu` and `sigma`, or a folder or data set to compute them from",
        ) from problem
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
        raise DataError(f"`{path}`: `mu` is {mean.shape} and `sigma` {covariance.shape}, not (D,) and (D, D)")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise DataError(f"`{path}` holds values that are not finite", hint="compute the statistics anew")
    return Moments(
        torch.from_numpy(mean), torch.from_numpy(covariance), count if count >= 0 else None, protocol or None
    )


def _checksum(mean: np.ndarray, covariance: np.ndarray, count: int, protocol: str) -> str:
    """Hash all that a file of moments holds: a zip has checksums of its members, but none of their names."""
    found = hashlib.sha256(json.dumps([int(count), str(protocol)]).encode())
    for values in (mean, covariance):
        found.update(np.ascontiguousarray(values, np.float64).data)
    return found.hexdigest()


def _root(covariance: Tensor) -> Tensor:
    """R (D, rank) with R R^T = covariance: Cholesky's factor, or scaled eigenvectors if the rank is short."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if not failed and factor.diagonal().min() > factor.diagonal().max() * 1e-7:
        return factor
    values, vectors = torch.linalg.eigh(covariance)
    positive = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, positive] * values[positive].sqrt()


def _double(features: Tensor) -> Tensor:
    """Features as float64, on their own device where it knows that type."""
    return features.detach().cpu().double() if features.device.type == "mps" else features.detach().double()


def _same_width(one: Moments, other: Moments) -> None:
    if one.mean.shape != other.mean.shape:
        raise DataError(
            f"the two sets have {len(one.mean)} and {len(other.mean)} features per image",
            hint="extract both with the same network",
        )
