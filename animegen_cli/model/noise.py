"""Counter-based noise: every number is a function of (seed, draw, element) alone, bit for bit, on every device.

Uniform bits come from Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"); they
become normal by Box-Muller. Library `log`, `cos` and `sin` differ in their last bits between devices, so they
are built here from additions, multiplications, divisions and square roots, which IEEE 754 rounds in one way.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_SHARE = _MASK
"""The draw that `Noise.share` takes, which no sampler reaches by counting."""


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Return four words of Philox4x32-10. All tensors are int64, hold 32-bit words and broadcast."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The 64-bit product wraps as two's complement, so shifting and masking still yield its high word.
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((second >> 32) & _MASK) ^ c1 ^ k0,
            second & _MASK,
            ((first >> 32) & _MASK) ^ c3 ^ k1,
            first & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _horner(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient  # two separately rounded operations: no fused multiply-add
    return total


_ATANH = tuple(1 / (2 * k + 1) for k in range(12))
_SIN = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(9))
_COS = tuple((-1) ** k / math.factorial(2 * k) for k in range(10))


def _log(x: Tensor) -> Tensor:
    """Return the natural logarithm of float64 x > 0, from ln m = 2 atanh((m - 1) / (m + 1)) with m in [sqrt(1/2), sqrt(2))."""
    mantissa, exponent = torch.frexp(x)
    low = mantissa < math.sqrt(0.5)
    mantissa = torch.where(low, mantissa * 2, mantissa)
    exponent = exponent.double() - low.double()
    s = (mantissa - 1) / (mantissa + 1)
    return exponent * math.log(2) + 2 * s * _horner(s * s, _ATANH)


def _sin_cos(turns: Tensor) -> tuple[Tensor, Tensor]:
    """Return sine and cosine of 2 pi `turns`, float64 in [0, 1), reduced to an eighth of a turn about the nearest quarter."""
    quarter = torch.floor(turns * 4 + 0.5)
    angle = (turns - quarter * 0.25) * (2 * math.pi)
    square = angle * angle
    sine, cosine = angle * _horner(square, _SIN), _horner(square, _COS)
    quarter = torch.remainder(quarter, 4)
    odd = (quarter == 1) | (quarter == 3)
    sine, cosine = torch.where(odd, cosine, sine), torch.where(odd, sine, cosine)
    return (
        torch.where((quarter == 2) | (quarter == 3), -sine, sine),
        torch.where((quarter == 1) | (quarter == 2), -cosine, cosine),
    )


def _words(seeds: Tensor, draw: int, blocks: Tensor) -> tuple[Tensor, ...]:
    """Four words for each of the seeds (B,) and blocks (N,), (B, N) each."""
    zero = (seeds * 0)[:, None]
    counter = (blocks[None], torch.full_like(blocks, draw & _MASK)[None], zero, zero)
    return philox(counter, ((seeds & _MASK)[:, None], ((seeds >> 32) & _MASK)[:, None]))


def normal(seeds: Tensor, draw: int, count: int) -> Tensor:
    """Return standard normal float32 numbers, shape (len(seeds), count).

    Args:
        seeds: int64, shape (B,), on the device where the numbers are made, which must know float64.
        draw: which call this is; different draws are independent.
        count: numbers per seed.
    """
    blocks = torch.arange(-(-count // 4), dtype=torch.int64, device=seeds.device)
    a, b, c, d = (word.double() for word in _words(seeds, draw, blocks))
    scale = 2.0**-32
    pairs = []
    for first, second in ((a, b), (c, d)):
        radius = torch.sqrt(-2 * _log((first + 1) * scale))  # (0, 1]: the logarithm is finite
        sine, cosine = _sin_cos(second * scale)
        pairs += [radius * cosine, radius * sine]
    return torch.stack(pairs, dim=-1).flatten(1)[:, :count].float()


def finest_float(device: torch.device) -> torch.dtype:
    """Return the most exact kind of number that it computes with: float64, on Apple's GPUs float32."""
    return torch.float32 if device.type == "mps" else torch.float64


class Noise:
    """Normal noise in which row i depends on seeds[i] and the number of the call: batches and devices change nothing.

    A device that knows no float64 gets the numbers that the CPU makes.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        """Where the noise is wanted."""
        maker = self.device if finest_float(self.device) == torch.float64 else torch.device("cpu")
        self.seeds = torch.tensor([seed & (2**63 - 1) for seed in seeds], dtype=torch.int64, device=maker)
        self.draws = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.seeds)

    def __call__(self, *shape: int) -> Tensor:
        """Return the next draw, float32, shape (len(self), *shape)."""
        self.draws += 1
        return normal(self.seeds, self.draws - 1, math.prod(shape)).view(len(self), *shape).to(self.device)

    def share(self) -> Tensor:
        """Return one number in [0, 1) per row, float64 (B,) where `seeds` are: of the seed alone, and no draw is used up."""
        first = torch.zeros(1, dtype=torch.int64, device=self.seeds.device)
        return _words(self.seeds, _SHARE, first)[0][:, 0].double() * 2.0**-32


class Blend(Noise):
    """Noise between two seeds per row: spherical interpolation keeps each row's distribution normal."""

    def __init__(
        self, starts: Sequence[int], ends: Sequence[int], fractions: Sequence[float], device: torch.device | str = "cpu"
    ) -> None:
        """Hold the seeds of both ends and how far each row is, from 0 to 1; equal seeds are one point at 0 alone."""
        super().__init__(starts, device)
        self.start, self.end = Noise(starts, device), Noise(ends, device)
        self.fractions = torch.tensor(fractions, dtype=torch.float64, device=self.seeds.device)

    def __call__(self, *shape: int) -> Tensor:
        """Return the next draw between the two seeds', float32, shape (len(self), *shape)."""
        angle = self.fractions.view(-1, *[1] * len(shape)) * (math.pi / 2)
        # In float64 the cosine of a right angle is small enough to vanish: both ends are the seeds' own noise.
        from_start, from_end = (part.float().to(self.device) for part in (torch.cos(angle), torch.sin(angle)))
        return from_start * self.start(*shape) + from_end * self.end(*shape)

    def share(self) -> Tensor:
        """Return the share of the nearer end's seed for each row: what is one thing or another turns half-way."""
        return torch.where(self.fractions < 0.5, self.start.share(), self.end.share())


@contextmanager
def random_numbers_given_back(device: torch.device) -> Iterator[None]:
    """Set torch's generators of the CPU and of the device back to where they stood, at the end of the block."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        state = torch.mps.get_rng_state() if device.type == "mps" else None  # which `fork_rng` cannot ask for
        yield
        if state is not None:
            torch.mps.set_rng_state(state)
