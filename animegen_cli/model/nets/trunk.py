"""The package's own perceptual trunk: the features of `fd-faces` and the other scores of that name.

Nine 3x3 convolutions that learned to name the attributes of the drawn faces (hair, eyes, style, expression, ...)
and to say how blurred and how noisy a picture is, so that its features hold both what is drawn and how well. Its
weights were trained from scratch by `benchmarks/make_faces_trunk.py`; no picture but drawn ones was ever shown to it.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from animegen_cli.errors import DataError, MachineError

SIZE = 64
"""Height and width in pixels of the images that it sees."""
RESIZE = f"antialiased-{SIZE}"
SHA = "35803e919f3f72d0a18e553d6a101f1679b0184636e2fd48998d5338a53cb17e"
"""sha256 of the weights file: with `RESIZE`, the protocol of every score that stands on this trunk."""
WEIGHTS = Path(__file__).with_name("faces_trunk.safetensors")
"""The weights file, which lies beside this module."""
MIN_SIZE = 16
"""Least side in pixels of an image to score."""

WIDTHS = (16, 32, 32, 64, 64, 128, 128, 192, 192)
"""Channels after each convolution; those with an odd index halve the map."""
LEVELS = (0, 2, 4, 6, 8)
"""Convolutions whose maps become features: one per map size, 64 to 4 pixels wide."""
SPREAD = (0, 2)
"""Levels that give the standard deviation over the map too: fine texture shows in it."""
DIMS = sum(WIDTHS[level] for level in LEVELS) + sum(WIDTHS[level] for level in SPREAD)
"""Number of features."""


class Trunk(nn.Module):
    """The convolutions, and the scale of their features.

    Images of another size than 64 x 64 are resized by an antialiased bicubic filter first. A feature is the logarithm
    of the mean, or of the standard deviation, of one channel over its map, with mean 0 and variance 1 over the drawn
    faces.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, width, 3, stride=1 + index % 2, padding=1)
            for index, (inputs, width) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False))
        )
        self.register_buffer("mean", torch.zeros(DIMS))
        self.register_buffer("scale", torch.ones(DIMS))
        self.mean: Tensor
        self.scale: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (B, 3, H, W) -> float32 features (B, `DIMS`); DataError for images under 16 pixels a side."""
        # the logarithm holds back strong damage, which otherwise drowns every difference in what is drawn
        return ((self.pooled(_fit(images)) + 0.05).log() - self.mean) * self.scale

    def pooled(self, x: Tensor) -> Tensor:
        """Return means and standard deviations (B, `DIMS`) of the maps, 0 and up, of images (B, 3, 64, 64) in [-1, 1]."""
        means = []
        spreads = []
        for index, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            if index in LEVELS:
                means.append(x.float().mean((2, 3)))
            if index in SPREAD:
                squares = x.float().square().mean((2, 3))
                spreads.append((squares - means[-1].square()).clamp(min=1e-4).sqrt())
        return torch.cat(means + spreads, 1)


def load_trunk() -> Trunk:
    """Open the trained trunk, frozen, in float32; MachineError when its file is missing or broken."""
    trunk = Trunk()
    try:
        trunk.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()})
    except Exception as problem:
        raise MachineError(
            f"the trunk's weights `{WEIGHTS.name}` cannot be read: {problem}",
            hint="install the package again: `pip install --force-reinstall animegen`",
        ) from problem
    return trunk.eval().requires_grad_(False)


def _fit(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    if min(height, width) < MIN_SIZE:
        raise DataError(
            f"the network `faces` needs images of at least {MIN_SIZE} pixels a side, not {height} x {width}",
            hint="score larger images, or use another network, as `--extractor inception` does",
        )
    x = images.float()
    if (height, width) != (SIZE, SIZE):
        x = F.interpolate(x, (SIZE, SIZE), mode="bicubic", antialias=True, align_corners=False).clamp(0, 255)
    return x / 127.5 - 1
