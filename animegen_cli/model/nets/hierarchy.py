"""Hierarchies of Gaussian latents, z_1 (top) to z_L, drawn top-down: q(z | x) = prod q(z_l | z_<l, x), p(z) = prod p(z_l | z_<l).

A `Hierarchy` walks the groups; a backbone (convolutions, a Vision Transformer, an MLP) defines five things about its
state: how it begins, its prior for a group, its posterior given a feature of the image, how it takes in a latent, and how
it ends. Bottom-up encoders give it a list of features. B is the batch, everything is channel-first.

Stability (Child 2021 and Vahdat & Kautz 2020, authors' code of both): the last layer of each residual branch
is scaled by 1 / sqrt(blocks), the last layer of each prior begins at zero, so that p(z_l) begins as N(0, 1), and all
means and log-deviations pass through 5 tanh(x / 5).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.model.latent_prior import DiffusionPrior

Moments = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of one group: mean and log-deviation of its posterior, then of its prior; float32, each (B, *shape)."""

SCALE_RATE = 10.0
"""The likelihood's log-deviation is so many times its parameter: one number has to keep pace with a network."""


def soft_clamp(x: Tensor, limit: float = 5.0) -> Tensor:
    """Bound `x` smoothly to [-limit, limit]: nearly the identity around 0."""
    return limit * torch.tanh(x / limit)


def moments(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Split a head's output (B, 2 C, ...) into clamped mean and log-deviation, float32, (B, C, ...) each."""
    mean, log_std = raw.float().chunk(2, dim=1)
    return soft_clamp(mean), soft_clamp(log_std)


def residual_posterior(prior: tuple[Tensor, Tensor], offset: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """m_q = m_p + dm and s_q = s_p ds, the latter as logarithms (Vahdat & Kautz 2020, section 3.2)."""
    return prior[0] + offset[0], prior[1] + offset[1]


class Hierarchy(nn.Module, ABC):
    """The top-down half: latents in, parameters of the image's likelihood out.

    Args:
        shapes: of one image's latent, per group, top first: (C, ...).
        scales: per group, 0 for the coarsest scale; groups that share a scale share a number.
        sources: per group, the index of the feature that its posterior reads.
        residual: posteriors relative to their priors, else direct.
        scaled: the likelihood has one learned log-deviation, appended to the output.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        *,
        scales: Sequence[int],
        sources: Sequence[int],
        residual: bool,
        scaled: bool,
    ) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        self.scales = tuple(scales)
        self.sources = tuple(sources)
        self.residual = residual
        self.log_std = nn.Parameter(torch.tensor(-1.0 / SCALE_RATE)) if scaled else None
        self.top: DiffusionPrior | None = (
            None  # of the noises that the top groups are drawn from; standard normal if None
        )

    @property
    def alike(self) -> int:
        """How many groups from the top on are maps of one size."""
        return sum(shape[1:] == self.shapes[0][1:] for shape in self.shapes)

    def codes(self, noises: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """Return the posterior's draw of the top groups in the prior's terms, see `whitened`: what a diffusion prior learns."""
        _, found = self._walk(noises[: self.alike], features, self.alike)
        return self.whitened(noises, found)[0]

    def whitened(self, noises: Sequence[Tensor], found: Sequence[Moments]) -> tuple[Tensor, Tensor]:
        """Turn z_l of the top groups of one size into u_l = (z_l - m_p) / s_p, the noise that their priors draw them from.

        Returns:
            u, (B, C, R, R) with the groups' channels in a row, and the entropy of its posterior, (B,) nats.
        """
        us, entropies = [], []
        for (mean, log_std, mean_p, log_std_p), noise in zip(found[: self.alike], noises, strict=False):
            us.append((mean - mean_p + log_std.exp() * noise) * (-log_std_p).exp())
            entropies.append((log_std - log_std_p + 0.5 * math.log(2 * math.pi * math.e)).flatten(1).sum(1))
        return torch.cat(us, dim=1), torch.stack(entropies).sum(0)

    def drawn(self, noises: Sequence[Tensor], steps: int | None = None) -> list[Tensor]:
        """Turn standard normal noises into those that a diffusion prior gives the top groups, by `steps` calls of its network."""
        if self.top is None:
            return list(noises)
        us = self.top.draw(torch.cat(list(noises[: self.alike]), dim=1), steps)
        return [*us.split([shape[0] for shape in self.shapes[: self.alike]], dim=1), *noises[self.alike :]]

    def forward(
        self, noises: Sequence[Tensor], features: Sequence[Tensor] | None = None, levels: int | None = None
    ) -> tuple[Tensor, list[Moments]]:
        """Decode z_l = mean + deviation * noise_l, from posteriors where there are features, else from priors.

        Args:
            noises: per group (B, *shape): standard normal; zeros take the means; scaled ones are a temperature.
            features: of the encoder; None draws from the priors alone.
            levels: only so many of the top groups see the features; all when None.

        Returns:
            The likelihood's parameters, (B, P, H, W), and the moments of each group that saw features.
        """
        informed = 0 if features is None else len(noises) if levels is None else levels
        state, found = self._walk(noises, features, informed)
        output = self.end(state)
        if self.log_std is not None:
            output = torch.cat([output, (SCALE_RATE * self.log_std).to(output.dtype).expand_as(output)], dim=1)
        return output, found

    def _walk(
        self, noises: Sequence[Tensor], features: Sequence[Tensor] | None, informed: int
    ) -> tuple[Tensor, list[Moments]]:
        """The state after as many groups as there are noises, and the moments of the `informed` ones."""
        state = self.begin(noises[0])
        if not torch.is_grad_enabled():
            state = state.detach()  # a view of a parameter says that it wants a gradient, and hooks believe it
        found = []
        for group, noise in enumerate(noises):
            state, raw = self.prior(group, state)
            prior = mean, log_std = moments(raw)
            if features is not None and group < informed:
                seen = moments(self.posterior(group, state, features[self.sources[group]]))
                mean, log_std = residual_posterior(prior, seen) if self.residual else seen
                found.append((mean, log_std, *prior))
            state = self.absorb(group, state, (mean + log_std.exp() * noise).to(state.dtype))
        return state, found

    @abstractmethod
    def begin(self, noise: Tensor) -> Tensor:
        """Return the state before the first group, for as many rows as `noise` has."""

    @abstractmethod
    def prior(self, group: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state in front of the group, and (B, 2 C, ...) for p(z_l | z_<l)."""

    @abstractmethod
    def posterior(self, group: int, state: Tensor, feature: Tensor) -> Tensor:
        """Return (B, 2 C, ...) for q(z_l | z_<l, x)."""

    @abstractmethod
    def absorb(self, group: int, state: Tensor, z: Tensor) -> Tensor:
        """Return the state that knows z_l, (B, *shape)."""

    @abstractmethod
    def end(self, state: Tensor) -> Tensor:
        """Return the likelihood's parameters, (B, P, H, W)."""


class Posterior(nn.ModuleList):
    """One hidden layer and a linear head, for groups whose latent is a vector."""

    def __init__(self, hidden: nn.Module, head: nn.Linear) -> None:
        super().__init__([hidden, head])

    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., inputs) -> (B, ..., outputs)."""
        hidden, head = self
        raw: Tensor = head(hidden(x))
        return raw


def zero(layer: nn.Linear | nn.Conv2d) -> None:
    """Make the layer's output zero at first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


@torch.no_grad()
def shrink(layer: nn.Linear | nn.Conv2d, blocks: int) -> None:
    """Scale the weights by 1 / sqrt(blocks), so that as many residual branches add up to one (Child 2021)."""
    layer.weight.mul_(1 / math.sqrt(blocks))


# ---- MLP --------------------------------------------------------------------------------------------------------


class DenseLayer(nn.Module):
    """Linear, LayerNorm, GELU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        return F.gelu(self.norm(self.linear(x)))


def taps(groups: int, layers: int) -> list[int]:
    """Indices of the encoder's hidden layers that the groups read: the top one the last, the bottom one the first."""
    return [round((layers - 1) * (1 - group / max(groups - 1, 1))) for group in range(groups)]


class MLPEncoder(nn.Module):
    """All pixels in one vector, through hidden layers that become narrower."""

    def __init__(self, size: int, widths: Sequence[int]) -> None:
        super().__init__()
        inputs = (3 * size**2, *widths)
        self.layers = nn.ModuleList(DenseLayer(inputs[i], width) for i, width in enumerate(widths))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> each hidden layer (B, width)."""
        x = images.flatten(1)
        features = []
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features


class MLPHierarchy(Hierarchy):
    """The encoder mirrored: each group sits where the layers are as wide as the one that it reads."""

    def __init__(
        self, size: int, widths: Sequence[int], latents: Sequence[int], *, channels: int, residual: bool, scaled: bool
    ) -> None:
        read = taps(len(latents), len(widths))
        super().__init__(
            [(z,) for z in latents], scales=[0] * len(latents), sources=read, residual=residual, scaled=scaled
        )
        at = [widths[tap] for tap in read]
        self.size = size
        self.start = nn.Parameter(0.02 * torch.randn(at[0]))
        priors = [nn.Linear(width, 2 * z) for width, z in zip(at, latents, strict=True)]
        self.priors = nn.ModuleList(priors)
        self.posteriors = nn.ModuleList(
            Posterior(DenseLayer(2 * width, width), nn.Linear(width, 2 * z))
            for width, z in zip(at, latents, strict=True)
        )
        self.entries = nn.ModuleList(nn.Linear(z, width) for width, z in zip(at, latents, strict=True))
        self.layers = nn.ModuleList(DenseLayer(width, then) for width, then in zip(at, [*at[1:], at[-1]], strict=True))
        self.head = nn.Linear(at[-1], channels * size**2)
        for prior in priors:
            zero(prior)

    def begin(self, noise: Tensor) -> Tensor:
        """Begin with a learned vector, (B, width)."""
        return self.start.expand(noise.shape[0], -1)

    def prior(self, group: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read the prior off the state by a linear layer."""
        return state, self.priors[group](state)

    def posterior(self, group: int, state: Tensor, feature: Tensor) -> Tensor:
        """Read the posterior off state and feature by one hidden layer."""
        raw: Tensor = self.posteriors[group](torch.cat([state, feature], dim=1))
        return raw

    def absorb(self, group: int, state: Tensor, z: Tensor) -> Tensor:
        """Add the latent, then apply a layer; where the width stays, that layer is a residual branch."""
        state = state + self.entries[group](z)
        out = self.layers[group](state)
        return state + out if out.shape == state.shape else out

    def end(self, state: Tensor) -> Tensor:
        """Turn the state into all pixels at once."""
        return self.head(state).view(state.shape[0], -1, self.size, self.size)
