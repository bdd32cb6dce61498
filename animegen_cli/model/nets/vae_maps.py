"""Networks of a VAE whose code is a small image: residual blocks between pixels and a map of latents, no linear layer.

Legend: B batch, C channels of the code, H W pixels, h w places of the code, L = C h w latents in all. Pixels are folded 2x2
into channels first, so that no layer works at full size. GroupNorm and no batch statistics: an image's code is a function
of that image alone, also while training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from animegen_cli.model.nets.precision import at_least_float32
from animegen_cli.model.nets.scorenet import norm
from animegen_cli.model.nets.unet import conv, swish, zeroed

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Block(nn.Module):
    """norm, swish, conv, twice, + input; begins as the identity where the width stays."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(inputs), conv(inputs, outputs)
        self.norm2, self.conv2 = norm(outputs), zeroed(conv(outputs, outputs))
        self.skip = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(swish(self.norm1(x)))
        return self.skip(x) + self.conv2(swish(self.norm2(h)))


class MapEncoder(nn.Module):
    """A block per stage, average pooling in between, then a convolution to the code's moments."""

    def __init__(self, size: int, widths: Sequence[int], latent: int, limit: float = 4.0) -> None:
        super().__init__()
        self.limit = limit
        self.stem = conv(12, widths[0])
        self.blocks = nn.ModuleList(_Block(a, b) for a, b in zip((widths[0], *widths[:-1]), widths, strict=True))
        self.norm, self.close = norm(widths[-1]), conv(widths[-1], 2 * latent)
        self.shape = (latent, *[size >> len(widths)] * 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) -> mean and log-deviation (B, L) of q(z | x), float32."""
        x = self.stem(F.pixel_unshuffle(x, 2))
        for level, block in enumerate(self.blocks):
            x = block(F.avg_pool2d(x, 2) if level else x)
        mean, log_variance = at_least_float32(self.close(swish(self.norm(x)))).chunk(2, dim=1)
        return mean.flatten(1), (0.5 * log_variance).clamp(max=self.limit).flatten(1)


class MapDecoder(nn.Module):
    """The mirror: a convolution, a block per stage, nearest upsampling in between; channels unfold into pixels."""

    def __init__(self, size: int, widths: Sequence[int], latent: int) -> None:
        super().__init__()
        self.shape = (latent, *[size >> len(widths)] * 2)
        back = list(reversed(widths))
        self.open = conv(latent, back[0])
        self.blocks = nn.ModuleList(_Block(a, b) for a, b in zip((back[0], *back[:-1]), back, strict=True))
        self.norm, self.close = norm(widths[0]), conv(widths[0], 12)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (B, L) -> images (B, 3, H, W), unbounded."""
        x = self.open(z.view(-1, *self.shape))
        for level, block in enumerate(self.blocks):
            x = block(F.interpolate(x, scale_factor=2.0, mode="nearest") if level else x)
        return F.pixel_shuffle(self.close(swish(self.norm(x))), 2)
