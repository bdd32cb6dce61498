"""How much noise at which time: tables and continuous schedules, and the noise levels that samplers walk.

Notation of Ho et al. 2020: x_t = a_t x_0 + s_t eps, a_t = sqrt(abar_t), s_t = sqrt(1 - abar_t). Samplers work in
variance-exploding coordinates x / a, where the noise level is sigma = s / a (Karras et al. 2022, section 2).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

Spacing = Literal["leading", "trailing", "quad", "logsnr", "karras"]


def linear_betas(steps: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """Ho et al. 2020: `steps` betas from `start` to `end`, float64; the ends are for 1000 steps and scale with 1000 / steps."""
    scale = 1000 / steps
    return torch.linspace(start * scale, min(end * scale, 0.999), steps, dtype=torch.float64, device="cpu")


def cosine_betas(steps: int) -> Tensor:
    """Nichol & Dhariwal 2021, eq. 17: abar(u) proportional to cos^2((u + 0.008) / 1.008 * pi / 2); betas capped at 0.999."""
    u = torch.arange(steps + 1, dtype=torch.float64, device="cpu") / steps
    abar = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - abar[1:] / abar[:-1]).clamp(max=0.999)


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Karras et al. 2022, eq. 5: `steps` levels from sigma_max down to sigma_min, then 0; float64, shape (steps + 1,)."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)])


class Schedule(ABC):
    """What samplers and losses ask: the levels to visit, and the network's time for a level."""

    sigma_min: float
    sigma_max: float

    def scale_at(self, sigma: float) -> float:
        """Deviation of x / a at level `sigma`, where sampling starts: sqrt(1 + sigma^2) for a variance-preserving
        process, whose x has unit variance."""
        return math.sqrt(1 + sigma**2)

    @abstractmethod
    def sigmas(self, steps: int, spacing: Spacing) -> Tensor:
        """Noise levels from the first to 0, float64, shape (steps + 1,)."""

    @abstractmethod
    def time_of(self, sigma: Tensor) -> Tensor:
        """The network's time input for noise level `sigma`, same shape."""


class DiscreteSchedule(Schedule):
    """T betas; time is an index n in 0..T-1 (paper index t = n + 1)."""

    def __init__(self, betas: Tensor) -> None:
        self.betas = betas.double()
        self.abar = torch.cumprod(1 - self.betas, 0)
        self.table = torch.sqrt((1 - self.abar) / self.abar)  # sigma of each index, increasing
        self.log_table = self.table.log()
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self.sigma_min, self.sigma_max = float(self.table[0]), float(self.table[-1])

    def __len__(self) -> int:
        return len(self.betas)

    def rates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise rates (a, s) of integer indices, float32, each of shape (B, 1, 1, 1)."""
        signal, noise = self._on(index.device)
        return signal[index].view(-1, 1, 1, 1), noise[index].view(-1, 1, 1, 1)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The tables of a and s on a device, copied there once: a copy per step would wait for it."""
        if device not in self._tables:
            self._tables[device] = (self.abar.sqrt().float().to(device), (1 - self.abar).sqrt().float().to(device))
        return self._tables[device]

    def sigmas(self, steps: int, spacing: Spacing = "leading") -> Tensor:
        """See `Schedule.sigmas`. `leading`: Song et al. 2021, range(0, T, T // steps); `trailing` starts at T - 1;
        `quad`: squares up to 0.8 T; `logsnr`: even in log sigma; `karras`: eq. 5 of Karras et al. 2022."""
        total = len(self)
        if spacing == "karras":
            return karras_sigmas(steps, self.sigma_min, self.sigma_max)
        if spacing == "logsnr":
            ramp = torch.linspace(math.log(self.sigma_max), math.log(self.sigma_min), steps, dtype=torch.float64)
            levels = ramp.exp()
        elif steps >= total:
            levels = self.table.flip(0)
        else:
            index = torch.arange(steps, dtype=torch.float64, device="cpu")
            if spacing == "leading":
                index = index * (total // steps)
            elif spacing == "trailing":
                index = total - 1 - (index.flip(0) * total / steps).floor()
            else:
                squares = ((index * math.sqrt(0.8 * total) / max(steps - 1, 1)) ** 2 + 1e-9).floor()
                index = torch.maximum(squares, index)  # truncated as in Song's code, but no level is visited twice
            levels = self.table[index.long()].flip(0)
        return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])

    def time_of(self, sigma: Tensor) -> Tensor:
        """Index of a level, fractional between two entries (linear in log sigma)."""
        log = sigma.double().log()
        table = self.log_table.to(log.device)
        above = torch.searchsorted(table, log.contiguous()).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        return (above - 1 + ((log - low) / (high - low)).clamp(0, 1)).to(sigma.dtype)


class OffsetCosine(Schedule):
    """Continuous time t in [0, 1] as an angle: a = cos, s = sin, from acos(max_signal) to acos(min_signal) (document 001)."""

    def __init__(self, max_signal: float = 0.95, min_signal: float = 0.02) -> None:
        self.start, self.end = math.acos(max_signal), math.acos(min_signal)
        self.sigma_min, self.sigma_max = math.tan(self.start), math.tan(self.end)

    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise rates of times in [0, 1], shaped like `time`."""
        angle = self.start + time * (self.end - self.start)
        return torch.cos(angle), torch.sin(angle)

    def sigmas(self, steps: int, spacing: Spacing = "trailing") -> Tensor:
        """See `Schedule.sigmas`: even times k / steps for k = steps..1 (document 001, algorithm 1), unless `karras` or `logsnr`."""
        if spacing == "karras":
            return karras_sigmas(steps, self.sigma_min, self.sigma_max)
        if spacing == "logsnr":
            ramp = torch.linspace(math.log(self.sigma_max), math.log(self.sigma_min), steps, dtype=torch.float64)
            return torch.cat([ramp.exp(), torch.zeros(1, dtype=torch.float64)])
        time = torch.arange(steps, 0, -1, dtype=torch.float64) / steps
        levels = torch.tan(self.start + time * (self.end - self.start))
        return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])

    def time_of(self, sigma: Tensor) -> Tensor:
        """Time in [0, 1] of a level."""
        return ((torch.atan(sigma) - self.start) / (self.end - self.start)).clamp(0, 1)


class KarrasSchedule(Schedule):
    """Noise alone, x = x_0 + sigma eps, in levels even in sigma^(1/rho) (Karras et al. 2022, section 3)."""

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> None:
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho

    def scale_at(self, sigma: float) -> float:
        """Sampling starts at N(0, sigma^2), as in the paper."""
        return sigma

    def level_at(self, fraction: float) -> float:
        """Sigma at `fraction` in [0, 1] of the way from the lowest level to the highest."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return float((low + fraction * (high - low)) ** self.rho)

    def sigmas(self, steps: int, spacing: Spacing = "karras") -> Tensor:
        """See `Schedule.sigmas`: even in log sigma for `logsnr`; every other spacing is eq. 5, this process's own."""
        if spacing == "logsnr":
            ramp = torch.linspace(math.log(self.sigma_max), math.log(self.sigma_min), steps, dtype=torch.float64)
            return torch.cat([ramp.exp(), torch.zeros(1, dtype=torch.float64)])
        return karras_sigmas(steps, self.sigma_min, self.sigma_max, self.rho)

    def time_of(self, sigma: Tensor) -> Tensor:
        """ln(sigma) / 4 (Karras et al. 2022, table 1, c_noise)."""
        return sigma.log() / 4
