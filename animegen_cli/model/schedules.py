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

from animegen_cli.model.noise import finest_float

OwnSpacing = Literal["leading", "trailing", "quad"]
"""How levels are chosen in a process's own time."""
Spacing = Literal["leading", "trailing", "quad", "logsnr", "karras"]
"""How levels are chosen: in the process's own time, or by sigma."""


def linear_betas(steps: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """Return the `steps` betas of Ho et al. 2020 from `start` to `end`, float64; the ends scale with 1000 / steps."""
    scale = 1000 / steps
    return torch.linspace(start * scale, min(end * scale, 0.999), steps, dtype=torch.float64, device="cpu")


def cosine_betas(steps: int) -> Tensor:
    """Return the betas of Nichol & Dhariwal 2021, eq. 17, float64, at most 0.999.

    abar(u) is proportional to cos^2((u + 0.008) / 1.008 * pi / 2) for u = t / T.
    """
    u = torch.arange(steps + 1, dtype=torch.float64, device="cpu") / steps
    abar = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - abar[1:] / abar[:-1]).clamp(max=0.999)


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Return the `steps` levels of Karras et al. 2022, eq. 5, from sigma_max to sigma_min, then 0; float64, (steps + 1,)."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64, device="cpu")
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _then_zero((high + ramp * (low - high)) ** rho)


def log_snr_sigmas(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Return `steps` levels from sigma_max down to sigma_min, even in ln sigma = -log-SNR / 2, then 0; float64, (steps + 1,)."""
    ramp = torch.linspace(math.log(sigma_max), math.log(sigma_min), steps, dtype=torch.float64, device="cpu")
    return _then_zero(ramp.exp())


def _then_zero(levels: Tensor) -> Tensor:
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64, device="cpu")])


class Schedule(ABC):
    """What samplers and losses ask: the levels to visit, and the network's time for a level."""

    sigma_min: float
    """The lowest level above 0 that sampling visits."""
    sigma_max: float
    """The highest level, where sampling starts."""
    rho: float = 7.0
    """Exponent of the spacing `karras`."""

    def scale_at(self, sigma: float) -> float:
        """Return the deviation of x / a at level `sigma`, where sampling starts.

        It is sqrt(1 + sigma^2) for a variance-preserving process, whose x has unit variance.
        """
        return math.sqrt(1 + sigma**2)

    def sigmas(self, steps: int, spacing: Spacing = "trailing") -> Tensor:
        """Return the noise levels from the first to 0, float64, shape (steps + 1,), on the CPU.

        `karras` is eq. 5 of Karras et al. 2022, `logsnr` even in ln sigma; the others are those of `levels`.
        """
        if spacing == "karras":
            return karras_sigmas(steps, self.sigma_min, self.sigma_max, self.rho)
        if spacing == "logsnr":
            return log_snr_sigmas(steps, self.sigma_min, self.sigma_max)
        return _then_zero(self.levels(steps, spacing))

    @abstractmethod
    def levels(self, steps: int, spacing: OwnSpacing, /) -> Tensor:
        """Return the levels in the process's own time, falling, without the last 0: float64, shape (steps,)."""

    @abstractmethod
    def level_at(self, fraction: float) -> float:
        """Return sigma at `fraction` in [0, 1] of the forward process, even in the process's own time."""

    @abstractmethod
    def time_of(self, sigma: Tensor) -> Tensor:
        """Return the network's time input for noise level `sigma`, same shape."""


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
        """Return the signal and noise rates (a, s) of integer indices (B,), float32, each of shape (B, 1, 1, 1)."""
        signal, noise = self._on(index.device)
        return signal[index].view(-1, 1, 1, 1), noise[index].view(-1, 1, 1, 1)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the tables of a and s on a device, copied there once: a copy per step would wait for it."""
        if device not in self._tables:
            self._tables[device] = (self.abar.sqrt().float().to(device), (1 - self.abar).sqrt().float().to(device))
        return self._tables[device]

    def levels(self, steps: int, spacing: OwnSpacing, /) -> Tensor:
        """Return entries of the table, all of them when `steps` is T or more.

        `leading` takes range(0, T, T // steps) (Song et al. 2021), `trailing` starts at T - 1, `quad` takes squares up to
        0.8 T (Song et al. 2021, appendix D.2).
        """
        total = len(self)
        if steps >= total:
            return self.table.flip(0)
        index = torch.arange(steps, dtype=torch.float64, device="cpu")
        if spacing == "leading":
            index = index * (total // steps)
        elif spacing == "trailing":
            index = total - 1 - (index.flip(0) * total / steps).floor()
        else:
            squares = ((index * math.sqrt(0.8 * total) / max(steps - 1, 1)) ** 2 + 1e-9).floor()
            index = torch.maximum(squares, index)  # truncated as in Song's code, but no level is visited twice
        return self.table[index.long()].flip(0)

    def level_at(self, fraction: float) -> float:
        """Return sigma at `fraction` of the table, between two entries even in ln sigma."""
        place = min(max(fraction, 0.0), 1.0) * (len(self) - 1)
        below = min(int(place), len(self) - 2)
        return float(torch.lerp(self.log_table[below], self.log_table[below + 1], place - below).exp())

    def time_of(self, sigma: Tensor) -> Tensor:
        """Return the index of a level, fractional between two entries (linear in ln sigma)."""
        log = sigma.to(finest_float(sigma.device)).log()
        table = self.log_table.to(log)
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
        """Return the signal and noise rates of times in [0, 1], shaped like `time`."""
        angle = self.start + time * (self.end - self.start)
        return torch.cos(angle), torch.sin(angle)

    def levels(self, steps: int, _: OwnSpacing, /) -> Tensor:
        """Return the levels at even times k / steps for k = steps..1 (document 001, algorithm 1), whatever the spacing."""
        time = torch.arange(steps, 0, -1, dtype=torch.float64, device="cpu") / steps
        return torch.tan(self.start + time * (self.end - self.start))

    def level_at(self, fraction: float) -> float:
        """Return sigma at time `fraction`."""
        return math.tan(self.start + fraction * (self.end - self.start))

    def time_of(self, sigma: Tensor) -> Tensor:
        """Return the time in [0, 1] of a level."""
        return ((torch.atan(sigma) - self.start) / (self.end - self.start)).clamp(0, 1)


class KarrasSchedule(Schedule):
    """Noise alone, x = x_0 + sigma eps, in levels even in sigma^(1/rho) (Karras et al. 2022, section 3)."""

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> None:
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho

    def scale_at(self, sigma: float) -> float:
        """Return sigma itself: sampling starts at N(0, sigma^2), as in the paper."""
        return sigma

    def level_at(self, fraction: float) -> float:
        """Return sigma at `fraction` in [0, 1] of the way from the lowest level to the highest, even in sigma^(1/rho)."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return float((low + fraction * (high - low)) ** self.rho)

    def levels(self, steps: int, _: OwnSpacing, /) -> Tensor:
        """Return the levels of eq. 5, which are this process's own, whatever the spacing."""
        return karras_sigmas(steps, self.sigma_min, self.sigma_max, self.rho)[:-1]

    def time_of(self, sigma: Tensor) -> Tensor:
        """Return ln(sigma) / 4 (Karras et al. 2022, table 1, c_noise)."""
        return sigma.log() / 4


class RectifiedFlow(Schedule):
    """Straight lines x_t = (1 - t) x_0 + t eps for t in (0, 1) (Liu et al. 2023, section 2.1): sigma = t / (1 - t).

    Euler's method in t walks x_t' = (1 - t') D + t' eps with the noise eps that D implies, and so do Euler's method in sigma
    and DDIM, divided by 1 - t': in these coordinates the three are one.
    """

    def __init__(self, t_min: float = 0.002, t_max: float = 0.99, shift: float = 1.0) -> None:
        """`shift` multiplies the sigma of even times (Esser et al. 2024, eq. 23); the first level and the last stay."""
        self.shift = shift
        self.sigma_min, self.sigma_max = t_min / (1 - t_min), t_max / (1 - t_max)
        low, high = self.sigma_min / shift, self.sigma_max / shift
        self.start, self.end = low / (1 + low), high / (1 + high)

    def scale_at(self, sigma: float) -> float:
        """Return sigma itself: sampling starts from noise alone."""
        return sigma

    def levels(self, steps: int, _: OwnSpacing, /) -> Tensor:
        """Return the levels of times that are even between 0 and the last, and shifted, whatever the spacing."""
        time = self.end * torch.arange(steps, 0, -1, dtype=torch.float64, device="cpu") / steps
        return self.shift * time / (1 - time)

    def level_at(self, fraction: float) -> float:
        """Return sigma at `fraction` in [0, 1] of the way, even in time before it is shifted."""
        time = self.start + fraction * (self.end - self.start)
        return self.shift * time / (1 - time)

    def time_of(self, sigma: Tensor) -> Tensor:
        """Return t = sigma / (1 + sigma), in [0, 1)."""
        return sigma / (1 + sigma)


class SDE(Schedule):
    """dx = f(t) x dt + g(t) dw for t in (0, 1] (Song et al. 2021b, eq. 5); x_t = a(t) x_0 + s(t) eps.

    Times are numbers, float64 inside; `eps` is the least of them, where the score would grow without bound.
    """

    prior: float = 1.0
    """Standard deviation of the distribution at t = 1, where sampling starts."""

    def __init__(self, eps: float) -> None:
        self.eps = eps
        self.sigma_min, self.sigma_max = self.sigma_of(eps), self.sigma_of(1.0)

    @abstractmethod
    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return a(t) and s(t), shaped like `time`."""

    @abstractmethod
    def coefficients(self, time: float) -> tuple[float, float]:
        """Return f(t) and g(t)^2."""

    def discretized(self, time: float, dt: float) -> tuple[float, float]:
        """Return the drift factor F and the variance G^2 of one forward step, x + F x + G z.

        It is Euler-Maruyama's unless a process has its own (Song et al. 2021b, appendix E).
        """
        return self.euler_maruyama(time, dt)

    def euler_maruyama(self, time: float, dt: float) -> tuple[float, float]:
        """Return F = f dt and G^2 = g^2 dt."""
        f, g_squared = self.coefficients(time)
        return f * dt, g_squared * dt

    def corrector_scale(self, _time: float, _dt: float, /) -> float:
        """Return alpha of the Langevin step: 1 (Song et al. 2021b, algorithm 4), or what a process with a drift says."""
        return 1.0

    def sigma_of(self, time: float) -> float:
        """Return s / a at a time."""
        a, s = self.rates(torch.tensor(time, dtype=torch.float64, device="cpu"))
        return float(s / a)

    def scale_at(self, sigma: float) -> float:
        """Return the prior's deviation over the signal rate at level `sigma`, so that x_1 is a draw of the prior."""
        time = self.time_of(torch.tensor(sigma, dtype=torch.float64, device="cpu"))
        return self.prior / float(self.rates(time)[0])

    def level_at(self, fraction: float) -> float:
        """Return sigma at time eps + fraction * (1 - eps)."""
        return self.sigma_of(self.eps + fraction * (1 - self.eps))

    def levels(self, steps: int, _: OwnSpacing, /) -> Tensor:
        """Return the levels at even times from 1 down to `eps`, whatever the spacing."""
        a, s = self.rates(torch.linspace(1, self.eps, steps, dtype=torch.float64, device="cpu"))
        return s / a


class VE(SDE):
    """Variance exploding: s = sigma_min (sigma_max / sigma_min)^t (Song et al. 2021b, eq. 30 and appendix C)."""

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0, eps: float = 1e-5) -> None:
        self.low, self.high = sigma_min, sigma_max
        self.log_ratio, self.prior = math.log(sigma_max / sigma_min), sigma_max
        super().__init__(eps)

    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return a = 1 and s."""
        return torch.ones_like(time), self.low * torch.exp(time * self.log_ratio)

    def coefficients(self, time: float) -> tuple[float, float]:
        """Return f = 0 and g^2 = d s^2 / dt."""
        return 0.0, 2 * self.log_ratio * self.low**2 * math.exp(2 * time * self.log_ratio)

    def discretized(self, time: float, dt: float) -> tuple[float, float]:
        """Return the step of SMLD: F = 0 and G^2 = s(t)^2 - s(t - dt)^2, from 0 at the first level."""
        here = self.low**2 * math.exp(2 * time * self.log_ratio)
        return 0.0, here if time - dt <= 0 else here * -math.expm1(-2 * dt * self.log_ratio)

    def time_of(self, sigma: Tensor) -> Tensor:
        """Return the time t of a level."""
        return torch.log(sigma / self.low) / self.log_ratio


class VP(SDE):
    """Variance preserving, beta(t) from beta_min to beta_max: s^2 = 1 - a^2 (Song et al. 2021b, eq. 32 and 33)."""

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, eps: float = 1e-3) -> None:
        self.beta_min, self.rise = beta_min, beta_max - beta_min
        super().__init__(eps)

    def integral(self, time: Tensor) -> Tensor:
        """Return the integral of beta from 0 to t; a = exp(-integral / 2)."""
        return time**2 * (self.rise / 2) + time * self.beta_min

    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and s = sqrt(1 - a^2)."""
        integral = self.integral(time)
        return torch.exp(-integral / 2), torch.sqrt(-torch.expm1(-integral))

    def beta(self, time: float) -> float:
        """Return beta(t)."""
        return self.beta_min + time * self.rise

    def coefficients(self, time: float) -> tuple[float, float]:
        """Return f = -beta / 2 and g^2 = beta."""
        return -self.beta(time) / 2, self.beta(time)

    def discretized(self, time: float, dt: float) -> tuple[float, float]:
        """Return the step of DDPM: sqrt(1 - beta dt) x + sqrt(beta dt) z."""
        beta = min(self.beta(time) * dt, 0.999)
        return math.sqrt(1 - beta) - 1, beta

    def corrector_scale(self, time: float, dt: float, /) -> float:
        """Return 1 - beta dt (Song et al. 2021b, algorithm 5)."""
        return 1 - min(self.beta(time) * dt, 0.999)

    def time_of(self, sigma: Tensor) -> Tensor:
        """Return the time t of a level: the integral of beta is ln(1 + sigma^2)."""
        return self._time_of_integral(torch.log1p(sigma.square()))

    def _time_of_integral(self, integral: Tensor) -> Tensor:
        root = torch.sqrt(self.beta_min**2 + 2 * self.rise * integral)
        return 2 * integral / (self.beta_min + root)  # the quadratic formula without its cancellation


class SubVP(VP):
    """sub-VP: the drift of VP and less noise, s = 1 - a^2 (Song et al. 2021b, eq. 14 and 29)."""

    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and s = 1 - a^2."""
        integral = self.integral(time)
        return torch.exp(-integral / 2), -torch.expm1(-integral)

    def coefficients(self, time: float) -> tuple[float, float]:
        """Return f = -beta / 2 and g^2 = beta (1 - a^4)."""
        integral = time**2 * (self.rise / 2) + time * self.beta_min
        return -self.beta(time) / 2, self.beta(time) * -math.expm1(-2 * integral)

    def discretized(self, time: float, dt: float) -> tuple[float, float]:
        """Return Euler-Maruyama's step: the paper gives no chain for sub-VP."""
        return self.euler_maruyama(time, dt)

    def time_of(self, sigma: Tensor) -> Tensor:
        """Return the time t of a level: a solves a^2 + sigma a - 1 = 0, and sigma / 2 = sinh(-ln a)."""
        return self._time_of_integral(2 * torch.asinh(sigma / 2))
