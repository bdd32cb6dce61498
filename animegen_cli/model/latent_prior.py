"""A diffusion model as the prior of an autoencoder's code (Vahdat et al. 2021, LSGM; Rombach et al. 2022), in the form of EDM.

Legend: B batch, C channels and h w places of a code, L = C h w; s a noise level, n standard normal noise.

A code z is drawn from q(z | x); from z_s = z + s n the network sees the clean code, D(z_s; s) (Karras et al. 2022). Since the
autoencoder's own loss keeps its codes near N(0, I), their deviation is about 1, which is the sigma_data of the preconditioning.
A network that says 0 is then the best denoiser of N(0, I), and as that the prior begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from animegen_cli.config import Section
from animegen_cli.errors import ConfigError
from animegen_cli.model import samplers
from animegen_cli.model.nets.scorenet import ScoreNet, ScoreNetConfig, fits
from animegen_cli.model.schedules import karras_sigmas

if TYPE_CHECKING:
    from animegen_cli.model.samplers import Callback

LOWEST, HIGHEST = 0.02, 40.0
"""Noise levels of drawing and of the bound, in units of the codes' deviation."""
STEPS = 16
"""Calls of the network per drawn code where nothing else is asked for."""
PROBES = 16
"""Noise levels at which the network is asked about one code, for its bits."""


@dataclass(frozen=True, kw_only=True)
class Diffusion(Section):
    """The network of a diffusion prior and the noise that it learns to take away."""

    channels: Annotated[tuple[Annotated[int, Field(ge=8)], ...], Field(min_length=1)] = (64, 128)
    """Width of each level, finest first; each level but the last halves the map of codes."""
    blocks: Annotated[int, Field(ge=1)] = 1
    """Residual blocks per level on the way down, one more on the way up."""
    p_mean: float = -0.4
    """Mean of ln s in training."""
    p_std: Annotated[float, Field(gt=0)] = 1.2
    """Deviation of ln s in training."""


class DiffusionPrior(nn.Module):
    """p(z) of codes (B, C, h, w), which come and go in this shape or as vectors (B, L)."""

    def __init__(self, shape: tuple[int, int, int], config: Diffusion) -> None:
        super().__init__()
        if not fits(shape[1], len(config.channels)):
            raise ConfigError(
                f"a code of {shape[1]} x {shape[1]} places cannot be halved {len(config.channels) - 1} times",
                hint="remove entries of `model.diffusion.channels`",
            )
        self.shape = shape
        self.p_mean, self.p_std = config.p_mean, config.p_std
        self.net = ScoreNet(
            ScoreNetConfig(shape[1], config.channels, maps=shape[0], blocks=config.blocks, attention=(), taper=True)
        )

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return D(x; s) = c_skip x + c_out F(c_in x; ln(s) / 4), (B, C, h, w) for s (B,) (Karras et al. 2022, table 1)."""
        level = sigma.view(-1, 1, 1, 1)
        total = level.square() + 1
        scaled = (x * total.rsqrt()).to(self.net.stem.weight.dtype)  # half precision where a run draws in it
        return x / total + level * total.rsqrt() * self.net(scaled, sigma.log() / 4).float()

    def loss(self, z: Tensor) -> Tensor:
        """Return the mean over latents of (s^2 + 1) / s^2 (D(z + s n; s) - z)^2, s log-normal, a scalar (eq. 2 and 8).

        A gradient for the codes would make them easy to tell from noise, not faithful: they are taken as data.
        """
        z = z.detach().view(-1, *self.shape)
        sigma = (self.p_mean + self.p_std * torch.randn(len(z), device=z.device)).exp()
        level = sigma.view(-1, 1, 1, 1)
        error = self.denoise(z + level * torch.randn_like(z), sigma) - z
        return ((level.square() + 1) / level.square() * error.square()).mean()

    def nats(self, z: Tensor, noise: Tensor, fractions: Tensor) -> Tensor:
        """Bound -ln p(z) of each code (B,) from above (Kingma et al. 2021, eq. 11 to 15, of noise alone):

        E ln N(z; z_low, low^2) turned around, + |z|^2 / (2 high^2), + the integral over ln s of E |z - D(z + s n; s)|^2 / s^2.

        Args:
            z: codes.
            noise: standard normal, (B, K, L): the integral's integrand is taken at K levels per code.
            fractions: (B, K) in (0, 1): where between the lowest ln s and the highest.
        """
        flat = z.flatten(1)
        span = math.log(HIGHEST / LOWEST)
        integral = torch.zeros_like(flat[:, 0])
        for number in range(noise.shape[1]):
            sigma = LOWEST * torch.exp(span * fractions[:, number])
            noisy = flat + sigma[:, None] * noise[:, number].flatten(1)
            error = self.denoise(noisy.view(-1, *self.shape), sigma).flatten(1) - flat
            integral = integral + span / noise.shape[1] * error.square().sum(1) / sigma.square()
        first = flat.shape[1] * (0.5 * math.log(2 * math.pi * math.e) + math.log(LOWEST))
        return first + flat.square().sum(1) / (2 * HIGHEST**2) + integral

    def draw(self, noise: Tensor, steps: int | None = None, callback: Callback | None = None) -> Tensor:
        """Turn standard normal numbers into codes of the same shape, by `steps` calls of the network (DPM-Solver++)."""
        sigmas = karras_sigmas(STEPS if steps is None else steps, LOWEST, HIGHEST).tolist()
        x = noise.view(-1, *self.shape) * sigmas[0]
        return samplers.dpmpp(self.denoise, x, sigmas, callback=callback).view(noise.shape)


def evenly(count: int, probes: int, *, like: Tensor) -> Tensor:
    """Return fractions (count, probes) for `DiffusionPrior.nats`: middles of equal shares, the same for every code."""
    return ((torch.arange(probes, device=like.device, dtype=like.dtype) + 0.5) / probes).expand(count, -1)


def spread(count: int, *, like: Tensor) -> Tensor:
    """Return fractions (count, 1): one level per code, and the batch covers all levels; right in the mean over the batch."""
    return ((torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) / count)[:, None]
