"""NCSN++ and DDPM++, the networks of Song et al. 2021b (score SDE, section 4 and appendix H), as options of one U-Net.

Legend: B batch, C channels, H W pixels, E width of the time embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from animegen_cli.errors import ConfigError
from animegen_cli.model.conditioning import LabelSection
from animegen_cli.model.nets.unet import (
    Attention,
    attending,
    conv,
    dense,
    falling_frequencies,
    label_tables,
    sinusoidal_of,
    swish,
    with_labels,
    zeroed,
)

if TYPE_CHECKING:
    from animegen_cli.model.family import DataSpec

TimeEmbedding = Literal["positional", "fourier"]
Way = Literal["up", "down", "same"]
"""Whether an image is doubled, halved or left alone."""


@dataclass(frozen=True)
class ScoreNetConfig:
    """What decides the tensors of a `ScoreNet` and what they compute."""

    size: int
    """Height and width of the images in pixels; attention is placed by resolution."""
    channels: Sequence[int]
    """Width of each level, finest first."""
    _: KW_ONLY
    maps: int = 3
    """Channels of what goes in and comes out: 3 for images."""
    blocks: int = 4
    """Residual blocks per level on the way down; one more on the way up."""
    attention: Sequence[int] = (16,)
    """Resolutions in pixels with attention: after each block on the way down, once on the way up."""
    dropout: float = 0.0
    """Share of features dropped in each residual block."""
    time_embedding: TimeEmbedding = "positional"
    """How the level is embedded: sinusoids of fixed (DDPM++) or of random frequencies (NCSN++)."""
    fourier_scale: float = 16.0
    """Standard deviation of the random frequencies."""
    fir: bool = False
    """Resample with the filter [1, 3, 3, 1] instead of means and copies."""
    pyramid: bool = False
    """Add the halved image to the features of each level (NCSN++, "progressive input, residual")."""
    rescale: bool = True
    """Multiply each residual sum by sqrt(1/2)."""
    classes: Sequence[int] = ()
    """Number of values of each label."""
    augment: int = 0
    """Length of the augmentation's description (Karras et al. 2022, appendix F.2), 0 for none."""
    patch: int = 1
    """The network works on squares of so many pixels; 1 is the papers'."""
    taper: bool = False
    """The block that doubles the resolution already has the width of the finer level, which saves most of its arithmetic;
    the papers' has that of the coarser."""

    @property
    def scale(self) -> float:
        """Factor of each residual sum."""
        return math.sqrt(0.5) if self.rescale else 1.0


@dataclass(frozen=True, kw_only=True)
class ScoreNetSection(LabelSection):
    """The network in a preset; the base of the section `model:` of the families that have it."""

    channels: Annotated[int, Field(ge=8)] = 128
    """Feature maps of the finest level."""
    multipliers: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 2, 2)
    """Width of each level in units of `channels`, finest first; each level but the last halves the image."""
    blocks: Annotated[int, Field(ge=1)] = 4
    """Residual blocks per level on the way down, one more on the way up."""
    attention: tuple[int, ...] = (16,)
    """Resolutions in pixels with self-attention; the middle always has it."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """In each residual block."""
    taper: bool = False
    """Blocks that double the resolution already have the width of the finer level; the papers' have the coarser's."""

    def network(self, data: DataSpec, conditions: Sequence[str]) -> ScoreNetConfig:
        """Return the network for images of `data.size` pixels and these labels."""
        return ScoreNetConfig(
            data.size,
            [self.channels * m for m in self.multipliers],
            blocks=self.blocks,
            attention=self.attention,
            dropout=self.dropout,
            classes=[len(data.attributes[name]) for name in conditions],
            taper=self.taper,
        )


class Resample(nn.Module):
    """Halves or doubles the image, by the filter [1, 3, 3, 1] (Zhang 2019; Karras et al. 2020) or by means and copies."""

    def __init__(self, *, fir: bool) -> None:
        super().__init__()
        self.fir = fir
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)
        self.kernel: Tensor

    def _per_channel(self, x: Tensor) -> Tensor:
        return self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)

    def up(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, 2H, 2W)."""
        if not self.fir:
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.conv_transpose2d(x, 4 * self._per_channel(x), stride=2, padding=1, groups=x.shape[1])

    def down(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H/2, W/2)."""
        if not self.fir:
            return F.avg_pool2d(x, 2)
        return F.conv2d(x, self._per_channel(x), stride=2, padding=1, groups=x.shape[1])

    def blur(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H + 1, W + 1), which is what a 3x3 convolution with stride 2 and no padding expects."""
        return F.conv2d(x, self._per_channel(x), padding=2, groups=x.shape[1])

    def forward(self, x: Tensor, way: Way) -> Tensor:
        """Resample x (B, C, H, W) one way, or not at all."""
        if way == "same":
            return x
        return self.up(x) if way == "up" else self.down(x)


def norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm of at most 32 groups of at least four channels each (Song et al. 2021b, authors' code)."""
    groups = min(32, max(channels // 4, 1))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=1e-6)


class BigGANBlock(nn.Module):
    """The residual block of BigGAN (Brock et al. 2019), which also resamples; both branches are summed and rescaled."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        config: ScoreNetConfig,
        way: Way = "same",
    ) -> None:
        super().__init__()
        self.way, self.scale = way, config.scale
        self.resample = Resample(fir=config.fir)
        self.norm1, self.conv1 = norm(inputs), conv(inputs, outputs)
        self.time = dense(4 * config.channels[0], outputs)
        self.norm2, self.dropout = norm(outputs), nn.Dropout(config.dropout)
        self.conv2 = zeroed(conv(outputs, outputs))
        self.skip = conv(inputs, outputs, 1) if inputs != outputs or way != "same" else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x (B, C, H, W) and the embedding (B, E), already through swish, to (B, C', H', W')."""
        h = self.conv1(self.resample(swish(self.norm1(x)), self.way))
        h = h + self.time(embedding)[:, :, None, None]
        h = self.conv2(self.dropout(swish(self.norm2(h))))
        return (self.skip(self.resample(x, self.way)) + h) * self.scale


class Embedding(nn.Module):
    """The noise level, the labels and the augmentation as one vector."""

    def __init__(self, config: ScoreNetConfig) -> None:
        super().__init__()
        width, outputs = config.channels[0], 4 * config.channels[0]
        if (
            config.time_embedding == "fourier"
        ):  # fixed random frequencies (Tancik et al. 2020), which must survive the run
            self.register_buffer("speeds", 2 * math.pi * config.fourier_scale * torch.randn(width))
        else:
            self.register_buffer("speeds", falling_frequencies(width, shift=1), persistent=False)
        self.speeds: Tensor  # the frequencies, by the name that weights files know them
        wide = 2 * len(self.speeds)
        self.augment = nn.Linear(config.augment, wide, bias=False) if config.augment else None
        if self.augment is not None:
            nn.init.xavier_uniform_(self.augment.weight)
        self.first, self.second = dense(wide, outputs), dense(outputs, outputs)
        self.labels = label_tables(config.classes, outputs)

    def forward(self, time: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        """Map (B,), (B, A) int64 and (B, K) to (B, E), through swish."""
        wide = sinusoidal_of(time, self.speeds).to(self.first.weight.dtype)
        if self.augment is not None and augment is not None:
            wide = wide + self.augment(augment)
        return F.silu(with_labels(self.second(F.silu(self.first(wide))), self.labels, labels))


class DownLevel(nn.Module):
    """The blocks of one resolution on the way down, each followed by attention where there is any."""

    def __init__(self, blocks: Sequence[nn.Module], attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks, self.attentions = nn.ModuleList(blocks), nn.ModuleList(attentions)

    def forward(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """Map x (B, C, H, W) to the features (B, C', H, W) after each block, all of which the way up meets again."""
        found = []
        for turn, block in enumerate(self.blocks):
            x = block(x, embedding)
            if len(self.attentions):
                x = self.attentions[turn](x)
            found.append(x)
        return found


class UpLevel(nn.Module):
    """The blocks of one resolution on the way up, and attention after the last where there is any."""

    def __init__(self, blocks: Sequence[nn.Module], attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks, self.attentions = nn.ModuleList(blocks), nn.ModuleList(attentions)

    def forward(self, x: Tensor, skips: Sequence[Tensor], embedding: Tensor) -> Tensor:
        """Map x (B, C, H, W) and one tensor (B, S, H, W) per block to (B, C', H, W)."""
        for block, skip in zip(self.blocks, skips, strict=True):
            x = block(torch.cat([x, skip], dim=1), embedding)
        for attention in self.attentions:
            x = attention(x)
        return x


class ScoreNet(nn.Module):
    """Predicts an image-shaped tensor from a noisy image and its noise level."""

    def __init__(self, config: ScoreNetConfig) -> None:
        super().__init__()
        self.patch, self.scale = config.patch, config.scale
        channels, blocks, pixels = config.channels, config.blocks, config.maps * config.patch**2
        attention = attending(config.size // config.patch, len(channels), config.attention)
        self.embedding = Embedding(config)

        def block(inputs: int, outputs: int, way: Way = "same") -> BigGANBlock:
            return BigGANBlock(inputs, outputs, config, way)

        def attends(width: int) -> Attention:
            return Attention(norm(width), scale=config.scale)

        self.stem = conv(pixels, channels[0])
        current, seen = channels[0], pixels
        skips = [current]
        self.down, self.halving, self.pyramid = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, outputs in enumerate(channels):
            row = []
            for _ in range(blocks):
                row.append(block(current, outputs))
                current = outputs
                skips.append(current)
            self.down.append(DownLevel(row, [attends(current) for _ in range(blocks)] if attention[level] else []))
            if level < len(channels) - 1:
                self.halving.append(block(current, current, "down"))
                skips.append(current)
                if config.pyramid:
                    self.pyramid.append(conv(seen, current, stride=2, padding=0))
                    seen = current
        self.filter = Resample(fir=True)
        self.middle = nn.ModuleList([block(current, current), block(current, current)])
        self.middle_attention = attends(current)
        self.up, self.doubling = nn.ModuleList(), nn.ModuleList()
        for level, outputs in reversed(list(enumerate(channels))):
            row = []
            for _ in range(blocks + 1):
                row.append(block(current + skips.pop(), outputs))
                current = outputs
            self.up.append(UpLevel(row, [attends(current)] if attention[level] else []))
            if level:
                finer = channels[level - 1] if config.taper else current
                self.doubling.append(block(current, finer, "up"))
                current = finer
        self.norm, self.head = norm(current), zeroed(conv(current, pixels))

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None, augment: Tensor | None = None) -> Tensor:
        """Map x (B, 3, H, W), time (B,), labels (B, A) int64, -1 for unknown, and augment (B, K) to (B, 3, H, W)."""
        embedding = self.embedding(time, labels, augment)
        if self.patch > 1:
            x = F.pixel_unshuffle(x, self.patch)
        pyramid, x = x, self.stem(x)
        skips = [x]
        for index, level in enumerate(self.down):
            skips += level(x, embedding)
            x = skips[-1]
            if index < len(self.halving):
                x = self.halving[index](x, embedding)
                if len(self.pyramid):
                    pyramid = self.pyramid[index](self.filter.blur(pyramid))
                    x = pyramid = (pyramid + x) * self.scale
                skips.append(x)
        x = self.middle[1](self.middle_attention(self.middle[0](x, embedding)), embedding)
        per_level = len(skips) // len(self.up)
        for index, level in enumerate(self.up):
            x = level(x, [skips.pop() for _ in range(per_level)], embedding)
            if index < len(self.doubling):
                x = self.doubling[index](x, embedding)
        x = self.head(swish(self.norm(x)))
        return F.pixel_shuffle(x, self.patch) if self.patch > 1 else x


def fits(size: int, levels: int, patch: int = 1) -> bool:
    """Return whether an image of `size` pixels can be cut into patches and halved between the levels."""
    return size % (patch * 2 ** (levels - 1)) == 0


def check_fits(size: int, multipliers: Sequence[int], patch: int) -> None:
    """Raise ConfigError, in terms of the section `model`, where an image cannot be cut and halved so."""
    if fits(size, len(multipliers), patch):
        return
    multiple = patch * 2 ** (len(multipliers) - 1)
    raise ConfigError(
        f"a size of {size} pixels cannot be cut and halved: it is no multiple of {multiple}",
        hint=f"prepare the set with a multiple of {multiple}, or remove entries of `model.multipliers`",
    )
