"""Convolutional hierarchy: bottleneck blocks and many groups of latents per resolution (Child 2021, section 3)."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animegen_cli.errors import ConfigError
from animegen_cli.model.nets.hierarchy import Hierarchy, shrink, zero

if TYPE_CHECKING:
    from collections.abc import Sequence


class Step(NamedTuple):
    """One block of a layout."""

    resolution: int
    """Height and width in pixels."""
    moves: bool = False
    """Decoder: upsampled from the step before. Encoder: pooled to the step after."""
    latent: bool = True
    """Decoder: draws a group of latents."""
    pooled: int | None = None
    """Encoder: the resolution that the layout claims to pool to."""


class Sizes(NamedTuple):
    """What encoder and decoder have in common."""

    width: int
    """Feature maps at every resolution."""
    middle: int
    """Of them in the 3x3 convolutions."""
    fold: int = 1
    """Squares of so many pixels are channels: the finest resolution is that part of the image's."""


_SIZE = r"(/?[1-9]\d*)"
_ENCODER = re.compile(rf"{_SIZE}(?:x(?P<count>\d+)|d(?P<factor>\d*))")
_DECODER = re.compile(rf"{_SIZE}(?:x(?P<count>\d+)|p(?P<plain>\d+)|m(?P<source>/?[1-9]\d*))")


def parse_layout(text: str, size: int, *, decoder: bool) -> list[Step]:
    """Read `1x1,4m1,4x2` or `64x4,64d2`, the notation of Child's code.

    `RxN` is N blocks at R pixels, in decoders with a group of latents each; `RmS` a block with a group at R after
    upsampling from S; `RpN` N blocks without latents, after upsampling where R is larger; `RdF` a block at R, pooled
    by F afterwards. `/8` stands for an eighth of the image, and `/8d` pools to whatever follows.

    Raises:
        ConfigError: not in this notation, or resolutions that do not follow from each other.
    """
    steps: list[Step] = []
    for word in text.replace(" ", "").split(","):
        match = (_DECODER if decoder else _ENCODER).fullmatch(word)
        if not match:
            raise _wrong(text, f"`{word}` is no part of {'a decoder' if decoder else 'an encoder'}")
        here = _pixels(match[1], size)
        said = match.groupdict()
        if said.get("source"):
            if not steps or steps[-1].resolution != _pixels(said["source"], size):
                raise _wrong(text, f"`{word}` upsamples from a resolution that the block before does not have")
            steps.append(Step(here, moves=True))
        elif said.get("plain"):
            rises = bool(steps) and here > steps[-1].resolution
            steps += [Step(here, moves=rises and index == 0, latent=False) for index in range(int(said["plain"]))]
        elif said["count"]:
            steps += [Step(here)] * int(said["count"])
        else:
            steps.append(Step(here, moves=True, pooled=here // int(said["factor"]) if said["factor"] else None))
    _check_order(text, steps, decoder=decoder)
    return steps


def _pixels(word: str, size: int) -> int:
    return max(1, size // int(word[1:])) if word.startswith("/") else int(word)


def _check_order(text: str, steps: list[Step], *, decoder: bool) -> None:
    for before, after in pairwise(steps):
        a = before.resolution
        b = after.resolution
        moved, falls = (after.moves, b < a) if decoder else (before.moves, b > a)
        if moved != (a != b) or falls or before.pooled not in (None, b):
            raise _wrong(text, f"{b} pixels do not follow from {a}")
    if not decoder and steps[-1:] and steps[-1].moves:
        raise _wrong(text, "it ends in pooling, after which no block reads")
    if not steps or (decoder and not steps[0].latent):
        raise _wrong(text, "it must begin with a group of latents, such as `1x1`")


def _wrong(text: str, why: str) -> ConfigError:
    return ConfigError(f"layout `{text}`: {why}", hint="write it like `64x4,64d2,32x2` and `1x1,32m1,32x2,64m32`")


class Bottleneck(nn.Module):
    """GELU and convolution four times: 1x1 in, two 3x3 (1x1 up to 2 pixels), 1x1 out."""

    def __init__(self, inputs: int, middle: int, outputs: int, *, resolution: int, residual: bool = False) -> None:
        super().__init__()
        kernel = 3 if resolution > 2 else 1
        self.residual = residual
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(inputs, middle, 1),
                nn.Conv2d(middle, middle, kernel, padding=kernel // 2),
                nn.Conv2d(middle, middle, kernel, padding=kernel // 2),
                nn.Conv2d(middle, outputs, 1),
            ]
        )

    @property
    def last(self) -> nn.Conv2d:
        """The convolution that ends the branch."""
        conv = self.convs[-1]
        assert isinstance(conv, nn.Conv2d)
        return conv

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        h = x
        for conv in self.convs:
            h = conv(F.gelu(h))
        return x + h if self.residual else h


def _resized(x: Tensor, resolution: int) -> Tensor:
    """Average-pooled down, or nearest-neighbor up."""
    if x.shape[-1] == resolution:
        return x
    if x.shape[-1] > resolution:
        factor = x.shape[-1] // resolution
        even = factor * resolution == x.shape[-1]
        return F.avg_pool2d(x, factor) if even else F.adaptive_avg_pool2d(x, resolution)
    return F.interpolate(x, size=(resolution, resolution), mode="nearest")


class CNNEncoder(nn.Module):
    """Residual blocks and average pooling; the last map of each resolution is a feature."""

    def __init__(self, steps: Sequence[Step], sizes: Sizes) -> None:
        super().__init__()
        width, middle, fold = sizes
        self.fold = fold
        self.stem = nn.Conv2d(3 * fold**2, width, 3, padding=1)
        blocks = [Bottleneck(width, middle, width, resolution=step.resolution, residual=True) for step in steps]
        for block in blocks:
            shrink(block.last, len(steps))
        self.blocks = nn.ModuleList(blocks)
        after = [step.resolution for step in steps[1:]] + [steps[-1].resolution]
        self.pooled = [then if step.moves else step.resolution for step, then in zip(steps, after, strict=True)]

    @property
    def resolutions(self) -> list[int]:
        """Sides in pixels of the features, coarsest first."""
        return sorted(set(self.pooled))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> per resolution (B, width, R, R), coarsest first."""
        x: Tensor = self.stem(F.pixel_unshuffle(images, self.fold) if self.fold > 1 else images)
        found = {}
        for block, resolution in zip(self.blocks, self.pooled, strict=True):
            x = _resized(block(x), resolution)
            found[resolution] = x
        return [found[resolution] for resolution in self.resolutions]


class PlainBlock(nn.Module):
    """One step on the way down that draws no latents."""

    def __init__(self, width: int, middle: int, *, resolution: int, blocks: int) -> None:
        super().__init__()
        self.rest = Bottleneck(width, middle, width, resolution=resolution, residual=True)
        shrink(self.rest.last, blocks)


class LatentBlock(nn.Module):
    """One step on the way down with a group of latents: its prior, its posterior, the way in, and what follows."""

    def __init__(self, width: int, middle: int, z: int, *, resolution: int, blocks: int) -> None:
        super().__init__()
        self.prior = Bottleneck(width, middle, width + 2 * z, resolution=resolution)
        self.posterior = Bottleneck(2 * width, middle, 2 * z, resolution=resolution)
        self.entry = nn.Conv2d(z, width, 1)
        zero(self.prior.last)
        shrink(self.entry, blocks)
        self.rest = Bottleneck(width, middle, width, resolution=resolution, residual=True)
        shrink(self.rest.last, blocks)


class CNNHierarchy(Hierarchy):
    """The state is a map that grows; each resolution adds a learned map of its own, up to 64 pixels."""

    def __init__(
        self,
        steps: Sequence[Step],
        within: Sizes,
        z: Sequence[int],
        *,
        resolutions: Sequence[int],
        channels: int,
        residual: bool,
        scaled: bool,
    ) -> None:
        width, middle, fold = within
        latent = [step for step in steps if step.latent]
        sizes = sorted({step.resolution for step in latent})
        super().__init__(
            [(channels, step.resolution, step.resolution) for channels, step in zip(z, latent, strict=True)],
            scales=[sizes.index(step.resolution) for step in latent],
            sources=[resolutions.index(step.resolution) for step in latent],
            residual=residual,
            scaled=scaled,
        )
        self.steps = tuple(steps)
        self.z = tuple(z)
        self.places = [index for index, step in enumerate(steps) if step.latent]
        of_groups = iter(z)
        self.blocks = nn.ModuleList(
            LatentBlock(width, middle, next(of_groups), resolution=step.resolution, blocks=len(steps))
            if step.latent
            else PlainBlock(width, middle, resolution=step.resolution, blocks=len(steps))
            for step in steps
        )
        own = [r for r in sorted({step.resolution for step in steps}) if r <= 64 or r == steps[0].resolution]
        self.biases = nn.ParameterDict({str(r): torch.zeros(width, r, r) for r in own})
        self.fold = fold
        self.head = nn.Conv2d(width, channels * fold**2, 3 if fold > 1 else 1, padding=int(fold > 1))

    def begin(self, noise: Tensor) -> Tensor:
        """Begin with the learned map of the coarsest resolution, (B, width, R, R)."""
        return self.biases[str(self.steps[0].resolution)].expand(noise.shape[0], -1, -1, -1)

    def prior(self, group: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """Apply a block without skip; what it gives besides the moments is added to the state."""
        state = self._moved(self.places[group], state)
        raw = self._latent_block(group).prior(state)
        moments = 2 * self.z[group]
        return state + raw[:, moments:], raw[:, :moments]

    def posterior(self, group: int, state: Tensor, feature: Tensor) -> Tensor:
        """Apply a block to state and feature."""
        raw: Tensor = self._latent_block(group).posterior(torch.cat([state, feature], dim=1))
        return raw

    def absorb(self, group: int, state: Tensor, z: Tensor) -> Tensor:
        """Add the latent by a 1x1 convolution; then apply this block and those without latents that follow it."""
        block = self._latent_block(group)
        state = block.rest(state + block.entry(z))
        for index in range(self.places[group] + 1, len(self.steps)):
            plain = self.blocks[index]
            if not isinstance(plain, PlainBlock):
                break
            state = plain.rest(self._moved(index, state))
        return state

    def end(self, state: Tensor) -> Tensor:
        """Apply a 1x1 convolution; where pixels are folded a 3x3 one, which sees over the squares' edges, then unfold."""
        output: Tensor = self.head(state)
        return F.pixel_shuffle(output, self.fold) if self.fold > 1 else output

    def _latent_block(self, group: int) -> LatentBlock:
        block = self.blocks[self.places[group]]
        assert isinstance(block, LatentBlock)
        return block

    def _moved(self, place: int, state: Tensor) -> Tensor:
        """The state at the resolution of this step, with that resolution's learned map."""
        step = self.steps[place]
        if not step.moves:
            return state
        state = _resized(state, step.resolution)
        return state + self.biases[str(step.resolution)] if str(step.resolution) in self.biases else state
