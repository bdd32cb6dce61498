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
    def level_at(self, fraction: float) -> float:
        """Sigma at `fraction` in [0, 1] of the forward process, even in the process's own time."""

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

    def level_at(self, fraction: float) -> float:
        """See `Schedule.level_at`; between two entries even in log sigma."""
        place = min(max(fraction, 0.0), 1.0) * (len(self) - 1)
        below = min(int(place), len(self) - 2)
        return float(torch.lerp(self.log_table[below], self.log_table[below + 1], place - below).exp())

    def time_of(self, sigma: Tensor) -> Tensor:
        """Index of a level, fractional between two entries (linear in log sigma)."""
        log = sigma.double().log()
        table = self.log_table.to(log.device)
        # Counting is searching a sorted table, in operations that other runtimes know too.
        above = (table < log[..., None]).sum(-1).clamp(1, len(table) - 1)
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

    def level_at(self, fraction: float) -> float:
        """See `Schedule.level_at`."""
        return math.tan(self.start + fraction * (self.end - self.start))

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


class SDE(Schedule):
    """dx = f(t) x dt + g(t) dw for t in (0, 1] (Song et al. 2021b, eq. 5); x_t = a(t) x_0 + s(t) eps.

    Times are numbers, float64 inside; `eps` is the least of them, where the score would grow without bound.
    """

    prior: float = 1.0
    """Deviation of the distribution at t = 1, where sampling starts."""

    def __init__(self, eps: float) -> None:
        self.eps = eps
        self.sigma_min, self.sigma_max = self.sigma_of(eps), self.sigma_of(1.0)

    @abstractmethod
    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """a(t) and s(t), shaped like `time`."""

    @abstractmethod
    def coefficients(self, time: float) -> tuple[float, float]:
        """f(t) and g(t)^2."""

    def discretized(self, time: float, dt: float) -> tuple[float, float]:
        """Drift factor F and variance G^2 of one forward step, x + F x + G z; Euler-Maruyama's unless a process has its
        own (Song et al. 2021b, appendix E)."""
        f, g_squared = self.coefficients(time)
        return f * dt, g_squared * dt

    def corrector_scale(self, time: float, dt: float) -> float:
        """alpha of the Langevin step (Song et al. 2021b, algorithms 4 and 5)."""
        return 1.0

    def sigma_of(self, time: float) -> float:
        """s / a at a time."""
        a, s = self.rates(torch.tensor(time, dtype=torch.float64, device="cpu"))
        return float(s / a)

    def scale_at(self, sigma: float) -> float:
        """The prior's deviation over the signal rate at the first level, so that x_1 is a draw of the prior."""
        time = self.time_of(torch.tensor(sigma, dtype=torch.float64, device="cpu"))
        return self.prior / float(self.rates(time)[0])

    def level_at(self, fraction: float) -> float:
        """See `Schedule.level_at`."""
        return self.sigma_of(self.eps + fraction * (1 - self.eps))

    def sigmas(self, steps: int, spacing: Spacing = "trailing") -> Tensor:
        """See `Schedule.sigmas`: even times from 1 down to `eps`, unless `karras` or `logsnr`."""
        if spacing == "karras":
            return karras_sigmas(steps, self.sigma_min, self.sigma_max)
        if spacing == "logsnr":
            ramp = torch.linspace(math.log(self.sigma_max), math.log(self.sigma_min), steps, dtype=torch.float64)
            levels = ramp.exp()
        else:
            a, s = self.rates(torch.linspace(1, self.eps, steps, dtype=torch.float64, device="cpu"))
            levels = s / a
        return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


class VE(SDE):
    """Variance exploding: s = sigma_min (sigma_max / sigma_min)^t (Song et al. 2021b, eq. 30 and appendix C)."""

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0, eps: float = 1e-5) -> None:
        self.low, self.high = sigma_min, sigma_max
        self.log_ratio, self.prior = math.log(sigma_max / sigma_min), sigma_max
        super().__init__(eps)

    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """a = 1 and s."""
        return torch.ones_like(time), self.low * torch.exp(time * self.log_ratio)

    def coefficients(self, time: float) -> tuple[float, float]:
        """f = 0, g^2 = d s^2 / dt."""
        return 0.0, 2 * self.log_ratio * self.low**2 * math.exp(2 * time * self.log_ratio)

    def discretized(self, time: float, dt: float) -> tuple[float, float]:
        """The step of SMLD: G^2 = s(t)^2 - s(t - dt)^2, from 0 at the first level."""
        here = self.low**2 * math.exp(2 * time * self.log_ratio)
        return 0.0, here if time - dt <= 0 else here * -math.expm1(-2 * dt * self.log_ratio)

    def time_of(self, sigma: Tensor) -> Tensor:
        """t of a level."""
        return torch.log(sigma / self.low) / self.log_ratio


class VP(SDE):
    """Variance preserving, beta(t) from beta_min to beta_max: s^2 = 1 - a^2 (Song et al. 2021b, eq. 32 and 33)."""

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, eps: float = 1e-3) -> None:
        self.beta_min, self.rise = beta_min, beta_max - beta_min
        super().__init__(eps)

    def integral(self, time: Tensor) -> Tensor:
        """Of beta from 0 to t; a = exp(-integral / 2)."""
        return time**2 * (self.rise / 2) + time * self.beta_min

    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """a and s."""
        integral = self.integral(time)
        return torch.exp(-integral / 2), torch.sqrt(-torch.expm1(-integral))

    def beta(self, time: float) -> float:
        """beta(t)."""
        return self.beta_min + time * self.rise

    def coefficients(self, time: float) -> tuple[float, float]:
        """f = -beta / 2, g^2 = beta."""
        return -self.beta(time) / 2, self.beta(time)

    def discretized(self, time: float, dt: float) -> tuple[float, float]:
        """The step of DDPM: sqrt(1 - beta dt) x + sqrt(beta dt) z."""
        beta = min(self.beta(time) * dt, 0.999)
        return math.sqrt(1 - beta) - 1, beta

    def corrector_scale(self, time: float, dt: float) -> float:
        """1 - beta dt (Song et al. 2021b, algorithm 5)."""
        return 1 - min(self.beta(time) * dt, 0.999)

    def time_of(self, sigma: Tensor) -> Tensor:
        """t of a level: the integral of beta is ln(1 + sigma^2)."""
        return self._time_of_integral(torch.log1p(sigma.square()))

    def _time_of_integral(self, integral: Tensor) -> Tensor:
        root = torch.sqrt(self.beta_min**2 + 2 * self.rise * integral)
        return 2 * integral / (self.beta_min + root)  # the quadratic formula without its cancellation


class SubVP(VP):
    """sub-VP: the drift of VP and less noise, s = 1 - a^2 (Song et al. 2021b, eq. 14 and 29)."""

    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """a and s."""
        integral = self.integral(time)
        return torch.exp(-integral / 2), -torch.expm1(-integral)

    def coefficients(self, time: float) -> tuple[float, float]:
        """f = -beta / 2, g^2 = beta (1 - a^4)."""
        integral = time**2 * (self.rise / 2) + time * self.beta_min
        return -self.beta(time) / 2, self.beta(time) * -math.expm1(-2 * integral)

    def discretized(self, time: float, dt: float) -> tuple[float, float]:
        """Euler-Maruyama's."""
        return SDE.discretized(self, time, dt)

    def time_of(self, sigma: Tensor) -> Tensor:
        """t of a level: a solves a^2 + sigma a - 1 = 0, and sigma / 2 = sinh(-ln a)."""
        return self._time_of_integral(2 * torch.asinh(sigma / 2))
