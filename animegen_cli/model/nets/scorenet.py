"""NCSN++ and DDPM++, the networks of Song et al. 2021 (score SDE, section 4 and appendix H), as options of one U-Net.

Legend: B batch, C channels, H W pixels, E width of the time embedding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animegen_cli.model.nets.unet import _quiet, attend, conv, dense, falling_frequencies, sinusoidal_of, swish

if TYPE_CHECKING:
    from collections.abc import Sequence

TimeEmbedding = Literal["positional", "fourier"]


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
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        if not self.fir:
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.conv_transpose2d(x, 4 * self._per_channel(x), stride=2, padding=1, groups=x.shape[1])

    def down(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2)."""
        if not self.fir:
            return F.avg_pool2d(x, 2)
        return F.conv2d(x, self._per_channel(x), stride=2, padding=1, groups=x.shape[1])

    def blur(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H + 1, W + 1): what a 3x3 convolution with stride 2 and no padding expects."""
        return F.conv2d(x, self._per_channel(x), padding=2, groups=x.shape[1])

    def forward(self, x: Tensor, way: Literal["up", "down", "same"]) -> Tensor:
        """Resample one way, or not at all."""
        if way == "same":
            return x
        return self.up(x) if way == "up" else self.down(x)


def norm(channels: int) -> nn.GroupNorm:
    """At most 32 groups of at least four channels each (Song et al. 2021, authors' code)."""
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
        embedding: int,
        *,
        way: Literal["up", "down", "same"],
        fir: bool,
        dropout: float,
        rescale: bool,
    ) -> None:
        super().__init__()
        self.way, self.scale = way, math.sqrt(0.5) if rescale else 1.0
        self.resample = Resample(fir=fir)
        self.norm1, self.conv1 = norm(inputs), conv(inputs, outputs)
        self.time = dense(embedding, outputs)
        self.norm2, self.dropout = norm(outputs), nn.Dropout(dropout)
        self.conv2 = _quiet(conv(outputs, outputs))
        self.skip = conv(inputs, outputs, 1) if inputs != outputs or way != "same" else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (B, C, H, W), embedding (B, E) already through swish -> (B, C', H', W')."""
        h = self.conv1(self.resample(swish(self.norm1(x)), self.way))
        h = h + self.time(embedding)[:, :, None, None]
        h = self.conv2(self.dropout(swish(self.norm2(h))))
        return (self.skip(self.resample(x, self.way)) + h) * self.scale


class Attention(nn.Module):
    """Self-attention over pixels, one head, rescaled like the blocks."""

    def __init__(self, channels: int, *, rescale: bool) -> None:
        super().__init__()
        self.scale = math.sqrt(0.5) if rescale else 1.0
        self.norm = norm(channels)
        self.qkv, self.out = dense(channels, 3 * channels), _quiet(dense(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        b, c, height, width = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).view(b, height * width, 3, 1, c).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v).transpose(1, 2).reshape(b, height * width, c)
        return (x + self.out(mixed).transpose(1, 2).reshape(b, c, height, width)) * self.scale


class Embedding(nn.Module):
    """Noise level, labels and augmentation to one vector."""

    def __init__(
        self, width: int, *, time_embedding: TimeEmbedding, classes: Sequence[int], augment: int, fourier_scale: float
    ) -> None:
        super().__init__()
        self.time_embedding, outputs = time_embedding, 4 * width
        if time_embedding == "fourier":  # fixed random frequencies (Tancik et al. 2020), which must survive the run
            self.register_buffer("speeds", 2 * math.pi * fourier_scale * torch.randn(width))
        else:
            self.register_buffer("speeds", falling_frequencies(width, shift=1), persistent=False)
        self.speeds: Tensor  # the frequencies, by the name that weights files know them
        wide = 2 * len(self.speeds)
        self.augment = nn.Linear(augment, wide, bias=False) if augment else None
        if self.augment is not None:
            nn.init.xavier_uniform_(self.augment.weight)
        self.first, self.second = dense(wide, outputs), dense(outputs, outputs)
        self.labels = nn.ModuleList(nn.Embedding(count + 1, outputs) for count in classes)  # 0 is "unknown"

    def forward(self, time: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        """(B,), (B, A) int64, (B, K) -> (B, E), already through swish."""
        wide = sinusoidal_of(time, self.speeds).to(self.first.weight.dtype)
        if self.augment is not None and augment is not None:
            wide = wide + self.augment(augment)
        embedding = self.second(F.silu(self.first(wide)))
        for column, table in enumerate(self.labels):
            index = torch.zeros_like(time, dtype=torch.int64) if labels is None else labels[:, column] + 1
            embedding = embedding + table(index)
        return F.silu(embedding)


class Level(nn.Module):
    """The blocks of one resolution, by turns with attention where it is wanted."""

    def __init__(self, blocks: Sequence[nn.Module], attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks, self.attentions = nn.ModuleList(blocks), nn.ModuleList(attentions)


class ScoreNet(nn.Module):
    """Predicts an image-shaped tensor from a noisy image and its noise level.

    Args:
        size: pixels; attention is placed by resolution.
        channels: width of each level, finest first.
        blocks: residual blocks per level on the way down; one more on the way up.
        attention: resolutions in pixels with attention: after each block on the way down, once on the way up.
        time_embedding: how the level is embedded: sinusoids of fixed (DDPM++) or of random frequencies (NCSN++).
        fir: resample with the filter [1, 3, 3, 1] instead of means and copies.
        pyramid: add the halved image to the features of each level (NCSN++, "progressive input, residual").
        rescale: multiply each residual sum by sqrt(1/2).
        classes: number of values of each label.
        augment: length of the augmentation's description (Karras et al. 2022, appendix F.2), 0 for none.
        patch: work on squares of so many pixels; 1 is the papers' network.
        taper: the block that doubles the resolution already has the width of the finer level, which saves most of its
            arithmetic; the papers' has that of the coarser.
    """

    def __init__(
        self,
        size: int,
        channels: Sequence[int],
        *,
        blocks: int = 4,
        attention: Sequence[int] = (16,),
        dropout: float = 0.0,
        time_embedding: TimeEmbedding = "positional",
        fourier_scale: float = 16.0,
        fir: bool = False,
        pyramid: bool = False,
        rescale: bool = True,
        classes: Sequence[int] = (),
        augment: int = 0,
        patch: int = 1,
        taper: bool = False,
    ) -> None:
        super().__init__()
        self.patch, self.scale, width = patch, math.sqrt(0.5) if rescale else 1.0, channels[0]
        self.embedding = Embedding(
            width, time_embedding=time_embedding, classes=classes, augment=augment, fourier_scale=fourier_scale
        )

        def block(inputs: int, outputs: int, way: Literal["up", "down", "same"] = "same") -> BigGANBlock:
            return BigGANBlock(inputs, outputs, 4 * width, way=way, fir=fir, dropout=dropout, rescale=rescale)

        def attends(outputs: int, resolution: int, times: int) -> list[nn.Module]:
            return [Attention(outputs, rescale=rescale) for _ in range(times)] if resolution in attention else []

        self.stem = conv(3 * patch**2, width)
        current, resolution, seen = width, size // patch, 3 * patch**2
        skips = [current]
        self.down, self.halving, self.pyramid = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, outputs in enumerate(channels):
            row = []
            for _ in range(blocks):
                row.append(block(current, outputs))
                current = outputs
                skips.append(current)
            self.down.append(Level(row, attends(current, resolution, blocks)))
            if level < len(channels) - 1:
                self.halving.append(block(current, current, "down"))
                skips.append(current)
                resolution //= 2
                if pyramid:
                    self.pyramid.append(conv(seen, current, stride=2, padding=0))
                    seen = current
        self.filter = Resample(fir=True)
        self.middle = nn.ModuleList([block(current, current), block(current, current)])
        self.middle_attention = Attention(current, rescale=rescale)
        self.up, self.doubling = nn.ModuleList(), nn.ModuleList()
        for level, outputs in reversed(list(enumerate(channels))):
            row = []
            for _ in range(blocks + 1):
                row.append(block(current + skips.pop(), outputs))
                current = outputs
            self.up.append(Level(row, attends(current, resolution, 1)))
            if level:
                finer = channels[level - 1] if taper else current
                self.doubling.append(block(current, finer, "up"))
                current, resolution = finer, resolution * 2
        self.norm, self.head = norm(current), _quiet(conv(current, 3 * patch**2))

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None, augment: Tensor | None = None) -> Tensor:
        """x (B, 3, H, W), time (B,), labels (B, A) int64 with -1 for unknown, augment (B, K) -> (B, 3, H, W)."""
        embedding = self.embedding(time, labels, augment)
        if self.patch > 1:
            x = F.pixel_unshuffle(x, self.patch)
        pyramid, x = x, self.stem(x)
        skips = [x]
        for index, level in enumerate(self.down):
            for turn, block in enumerate(level.blocks):  # type: ignore[arg-type]
                x = block(x, embedding)
                if len(level.attentions):  # type: ignore[arg-type]
                    x = level.attentions[turn](x)  # type: ignore[index, operator]
                skips.append(x)
            if index < len(self.halving):
                x = self.halving[index](x, embedding)
                if len(self.pyramid):
                    pyramid = self.pyramid[index](self.filter.blur(pyramid))
                    x = pyramid = (pyramid + x) * self.scale
                skips.append(x)
        x = self.middle[1](self.middle_attention(self.middle[0](x, embedding)), embedding)
        for index, level in enumerate(self.up):
            for block in level.blocks:  # type: ignore[union-attr]
                x = block(torch.cat([x, skips.pop()], dim=1), embedding)
            for attention in level.attentions:  # type: ignore[union-attr]
                x = attention(x)
            if index < len(self.doubling):
                x = self.doubling[index](x, embedding)
        x = self.head(swish(self.norm(x)))
        return F.pixel_shuffle(x, self.patch) if self.patch > 1 else x


def fits(size: int, levels: int, patch: int = 1) -> bool:
    """Whether an image of `size` pixels can be cut into patches and halved between the levels."""
    return size % (patch * 2 ** (levels - 1)) == 0
