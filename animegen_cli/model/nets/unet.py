"""The U-Net of Ho et al. 2020, which is also the block layout of diffusers' `UNet2DModel`.

Legend: B batch, C channels, H W pixels, T tokens = H*W, E width of the time embedding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animegen_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


def sinusoidal_of(value: Tensor, frequencies: Tensor, *, cosine_first: bool = False) -> Tensor:
    """Return sines and cosines of value * frequency, (B,), (K,) -> (B, 2K) float32 (Vaswani et al. 2017, section 3.5)."""
    angle = value.float()[:, None] * frequencies.float()[None]
    return torch.cat((angle.cos(), angle.sin()) if cosine_first else (angle.sin(), angle.cos()), dim=1)


def falling_frequencies(width: int, *, shift: int, period: float = 10_000.0) -> Tensor:
    """Return width / 2 frequencies from 1 down to 1 / period; `shift` 1 includes the last (Ho et al. 2020), 0 leaves it out."""
    half = width // 2
    return torch.exp(-math.log(period) * torch.arange(half, dtype=torch.float32) / (half - shift))


def zeroed(layer: nn.Module) -> nn.Module:
    """Set a layer to zero and return it, so that a residual branch begins as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1, padding: int | None = None) -> nn.Conv2d:
    """Return a convolution with the variance-scaling initialization of Ho et al. 2020 (fan average, uniform) and zero bias."""
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2 if padding is None else padding)
    nn.init.xavier_uniform_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def dense(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer with the same initialization as `conv`."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def swish(x: Tensor) -> Tensor:
    """Return the SiLU of a tensor that nobody else holds: in place while drawing, where no backward pass asks for x."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class ResBlock(nn.Module):
    """The residual block of Ho et al. 2020: norm, swish, conv, + time, norm, swish, dropout, conv, + input."""

    def __init__(self, inputs: int, outputs: int, embedding: int, *, groups: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, inputs, eps), conv(inputs, outputs)
        self.time = dense(embedding, outputs)
        self.norm2, self.dropout = nn.GroupNorm(groups, outputs, eps), nn.Dropout(dropout)
        self.conv2 = zeroed(conv(outputs, outputs))
        self.skip = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x (B, C, H, W) and the embedding (B, E), already through swish, to (B, C', H, W)."""
        h = self.conv1(swish(self.norm1(x)))
        h = h + self.time(embedding)[:, :, None, None]
        return self.skip(x) + self.conv2(self.dropout(swish(self.norm2(h))))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax attention, (B, N, T, D) each -> same (Vaswani et al. 2017, eq. 1).

    PyTorch's fused kernel for CPUs is several times slower in bf16 than two matrix products while the T x T weights
    are small, most of all in its backward pass.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] <= 1024:
        weights = torch.softmax(q * q.shape[3] ** -0.5 @ k.transpose(2, 3), dim=3)
        return weights.to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Self-attention over pixels, the result scaled after the residual sum.

    Args:
        norm: applied before; its channels are those of the images.
        heads: the channels are split among so many.
        scale: factor of the sum; sqrt(1/2) keeps its variance (Song et al. 2021b).
    """

    def __init__(self, norm: nn.GroupNorm, *, heads: int = 1, scale: float = 1.0) -> None:
        super().__init__()
        channels = norm.num_channels
        self.heads, self.scale = heads, scale
        self.norm = norm
        self.qkv, self.out = dense(channels, 3 * channels), zeroed(dense(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        b, c, height, width = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, T, C)
        q, k, v = self.qkv(tokens).view(b, height * width, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v).transpose(1, 2).reshape(b, height * width, c)
        summed = x + self.out(mixed).transpose(1, 2).reshape(b, c, height, width)
        return summed if self.scale == 1 else summed * self.scale


class Downsample(nn.Module):
    """3x3 convolution with stride 2; `same` pads right and below only, as TensorFlow does."""

    def __init__(self, channels: int, *, same: bool) -> None:
        super().__init__()
        self.same = same
        self.conv = conv(channels, channels, stride=2, padding=0 if same else 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H/2, W/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.same else x)


class Upsample(nn.Module):
    """Nearest neighbor twice as large, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Block(nn.Module):
    """A residual block and, at some resolutions, attention after it."""

    def __init__(self, res: ResBlock, attention: Attention | None) -> None:
        super().__init__()
        self.res, self.attention = res, attention

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W)."""
        x = self.res(x, embedding)
        return x if self.attention is None else self.attention(x)


def label_tables(classes: Sequence[int], width: int) -> nn.ModuleList:
    """Return one table per label with a row of `width` for each of its values after row 0, which is "unknown"."""
    return nn.ModuleList(nn.Embedding(count + 1, width) for count in classes)


def with_labels(embedding: Tensor, tables: nn.ModuleList, labels: Tensor | None) -> Tensor:
    """Add the rows of labels (B, A) int64, -1 or None for unknown, from `label_tables` to an embedding (B, E)."""
    for column, table in enumerate(tables):
        unknown = torch.zeros_like(embedding[:, 0], dtype=torch.int64)  # of no fixed length where networks are exported
        embedding = embedding + table(unknown if labels is None else labels[:, column] + 1)
    return embedding


def attending(size: int, levels: int, resolutions: Sequence[int]) -> tuple[bool, ...]:
    """Return for each level, finest first, whether its height in pixels, `size` halved so often, is one of `resolutions`."""
    return tuple(size >> level in resolutions for level in range(levels))


def check_halvings(size: int, levels: int, setting: str) -> None:
    """Refuse images of `size` pixels that do not halve between `levels`; `setting` is the one to shorten.

    Raises:
        ConfigError: the size is no multiple of 2^(levels - 1).
    """
    multiple = 2 ** (levels - 1)
    if size % multiple:
        raise ConfigError(
            f"a size of {size} pixels cannot be halved {levels - 1} times",
            hint=f"prepare the set with a multiple of {multiple}, or remove entries of `{setting}`",
        )


class UNet(nn.Module):
    """Predicts an image-shaped tensor from a noisy image and its time.

    Args:
        channels: width of each level, finest first.
        attention: for each level, whether attention follows each of its blocks; the middle always has one.
        blocks: residual blocks per level on the way down; one more on the way up.
        head_width: channels per attention head, or None for a single head.
        dropout: share of features dropped in each residual block.
        groups: of each GroupNorm.
        classes: number of values of each label; labels are added to the time embedding.
        diffusers: the small conventions of `UNet2DModel` (cosine first, shift 0, symmetric padding, eps 1e-5) instead of Ho's.
    """

    def __init__(
        self,
        channels: Sequence[int],
        attention: Sequence[bool],
        *,
        blocks: int = 2,
        head_width: int | None = None,
        dropout: float = 0.0,
        groups: int = 32,
        classes: Sequence[int] = (),
        diffusers: bool = False,
    ) -> None:
        super().__init__()
        self.diffusers = diffusers
        embedding, eps = 4 * channels[0], 1e-5 if diffusers else 1e-6
        self.frequencies: Tensor
        self.register_buffer(
            "frequencies", falling_frequencies(channels[0], shift=0 if diffusers else 1), persistent=False
        )
        self.time = nn.Sequential(dense(channels[0], embedding), nn.SiLU(), dense(embedding, embedding))
        self.labels = label_tables(classes, embedding)

        def res(inputs: int, outputs: int) -> ResBlock:
            return ResBlock(inputs, outputs, embedding, groups=groups, eps=eps, dropout=dropout)

        def attend(width: int) -> Attention:
            return Attention(nn.GroupNorm(groups, width, eps), heads=width // head_width if head_width else 1)

        def block(inputs: int, outputs: int, level: int) -> Block:
            return Block(res(inputs, outputs), attend(outputs) if attention[level] else None)

        self.stem = conv(3, channels[0])
        widths, current = [channels[0]], channels[0]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(channels):
            for _ in range(blocks):
                self.down.append(block(current, width, level))
                current = width
                widths.append(current)
            if level < len(channels) - 1:
                self.down.append(Downsample(current, same=not diffusers))
                widths.append(current)
        self.middle = nn.ModuleList([Block(res(current, current), attend(current)), Block(res(current, current), None)])
        for level, width in reversed(list(enumerate(channels))):
            for _ in range(blocks + 1):
                self.up.append(block(current + widths.pop(), width, level))
                current = width
            if level:
                self.up.append(Upsample(current))
        self.norm, self.head = nn.GroupNorm(groups, current, eps), zeroed(conv(current, 3))

    def embed(self, time: Tensor, labels: Tensor | None) -> Tensor:
        """Map time (B,) and labels (B, A), or None for unknown, to (B, E), through swish."""
        time_embedding = sinusoidal_of(time, self.frequencies, cosine_first=self.diffusers)
        return F.silu(with_labels(self.time(time_embedding.to(self.stem.weight.dtype)), self.labels, labels))

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map x (B, 3, H, W), time (B,) and labels (B, A) int64, -1 for unknown, to (B, 3, H, W)."""
        embedding = self.embed(time, labels)
        x = self.stem(x)
        skips = [x]
        for layer in self.down:
            x = layer(x) if isinstance(layer, Downsample) else layer(x, embedding)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, embedding)
        for layer in self.up:
            x = layer(x) if isinstance(layer, Upsample) else layer(torch.cat([x, skips.pop()], dim=1), embedding)
        return self.head(swish(self.norm(x)))
