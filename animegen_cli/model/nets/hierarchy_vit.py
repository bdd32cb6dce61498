"""Vision Transformers as encoder and hierarchy (Dosovitskiy et al. 2021): patches and latent tokens in one sequence.

Each group of latents owns a few tokens. In the encoder they are queries, like the class token of a classifier, and end
up as the group's feature; in the decoder they give the group's prior, take in its latent, and the patches attend to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animegen_cli.model.nets.hierarchy import Hierarchy, Posterior, shrink, zero

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The sizes that encoder and hierarchy share."""

    patch: int
    """Side of a patch in pixels."""
    width: int
    """Numbers of each token."""
    depth: int
    """Transformer blocks."""
    heads: int
    """Heads of each attention."""
    ratio: int
    """Hidden width of the MLPs in units of `width`."""
    tokens: int
    """Tokens over which each group's vector is spread."""

    def blocks(self) -> nn.ModuleList:
        """Build `depth` blocks."""
        return nn.ModuleList(
            TransformerBlock(self.width, self.heads, self.ratio, branches=2 * self.depth) for _ in range(self.depth)
        )


class TransformerBlock(nn.Module):
    """LayerNorm and attention, LayerNorm and MLP, both residual."""

    def __init__(self, width: int, heads: int, ratio: int, *, branches: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.widen = nn.Linear(width, ratio * width)
        self.narrow = nn.Linear(ratio * width, width)
        shrink(self.out, branches)
        shrink(self.narrow, branches)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> the same."""
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).flatten(2)
        x = x + self.out(seen)
        return x + self.narrow(F.gelu(self.widen(self.norm2(x))))


class HiddenLayer(nn.Linear):
    """Linear, GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return F.gelu(super().forward(x))


class ViTEncoder(nn.Module):
    """Patches and the latent tokens of all groups, through all blocks."""

    def __init__(self, size: int, layout: Layout, *, groups: int) -> None:
        super().__init__()
        count = (size // layout.patch) ** 2
        self.patches = nn.Conv2d(3, layout.width, layout.patch, stride=layout.patch)
        self.places = nn.Parameter(0.02 * torch.randn(count, layout.width))
        self.queries = nn.Parameter(0.02 * torch.randn(groups * layout.tokens, layout.width))
        self.blocks = layout.blocks()
        self.norm = nn.LayerNorm(layout.width)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one feature, the tokens of all groups (B, groups * tokens, width)."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        queries = self.queries.to(patches.dtype).expand(images.shape[0], -1, -1)
        x = torch.cat([patches + self.places.to(patches.dtype), queries], dim=1)
        for block in self.blocks:
            x = block(x)
        return [self.norm(x[:, -len(self.queries) :])]


class ViTHierarchy(Hierarchy):
    """The state is the whole sequence, patches first; group l of L enters before block floor(l * depth / L)."""

    def __init__(
        self, size: int, latents: Sequence[int], layout: Layout, *, channels: int, residual: bool, scaled: bool
    ) -> None:
        groups = len(latents)
        width = layout.width
        tokens = layout.tokens
        super().__init__(
            [(z,) for z in latents], scales=[0] * groups, sources=[0] * groups, residual=residual, scaled=scaled
        )
        self.side = size // layout.patch
        self.patch = layout.patch
        self.tokens = tokens
        self.start = nn.Parameter(0.02 * torch.randn(self.side**2 + groups * tokens, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in latents)
        priors = [nn.Linear(width, 2 * z // tokens) for z in latents]
        self.priors = nn.ModuleList(priors)
        self.posteriors = nn.ModuleList(
            Posterior(HiddenLayer(2 * width, width), nn.Linear(width, 2 * z // tokens)) for z in latents
        )
        self.entries = nn.ModuleList(nn.Linear(z // tokens, width) for z in latents)
        self.blocks = layout.blocks()
        self.ends = [(group + 1) * layout.depth // groups for group in range(groups)]
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, channels * layout.patch**2)
        for prior in priors:
            zero(prior)

    def _own(self, group: int) -> slice:
        begin = self.side**2 + group * self.tokens
        return slice(begin, begin + self.tokens)

    def begin(self, noise: Tensor) -> Tensor:
        """Begin with a learned sequence, (B, patches + groups * tokens, width)."""
        return self.start.expand(noise.shape[0], -1, -1)

    def prior(self, group: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read the prior off the group's tokens by a linear layer."""
        return state, _vector(self.priors[group](self.norms[group](state[:, self._own(group)])))

    def posterior(self, group: int, state: Tensor, feature: Tensor) -> Tensor:
        """Read the posterior off the group's tokens here and in the encoder by one hidden layer."""
        seen = feature[:, group * self.tokens : (group + 1) * self.tokens]
        own = self.norms[group](state[:, self._own(group)])
        return _vector(self.posteriors[group](torch.cat([own, seen], dim=2)))

    def absorb(self, group: int, state: Tensor, z: Tensor) -> Tensor:
        """Add the latent to the group's tokens, then apply the blocks up to the next group."""
        own = self._own(group)
        entered = state[:, own] + self.entries[group](z.unflatten(1, (self.tokens, -1)))
        state = torch.cat([state[:, : own.start], entered, state[:, own.stop :]], dim=1)
        for block in self.blocks[self.ends[group - 1] if group else 0 : self.ends[group]]:
            state = block(state)
        return state

    def end(self, state: Tensor) -> Tensor:
        """Turn each patch's token into its pixels."""
        pixels = self.head(self.norm(state[:, : self.side**2])).transpose(1, 2)
        return F.pixel_shuffle(pixels.unflatten(2, (self.side, self.side)), self.patch)


def _vector(raw: Tensor) -> Tensor:
    """Moments per token, (B, T, 2 z / T), as means and then log-deviations of all, (B, 2 z)."""
    return raw.unflatten(2, (2, -1)).transpose(1, 2).flatten(1)
