"""The convolutions of SqueezeNet 1.1 (Iandola et al. 2016), as an open perceptual network for scores.

The weights are the user's: a .npz with `conv1.weight`, `fire2.squeeze1x1.weight`, ... in PyTorch's order
(out, in, height, width), trained on BGR images in 0..255 minus ImageNet's means.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animegen_cli.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

FEATURES, SIZE = 512, 224
MEANS_BGR = (103.939, 116.779, 123.68)
WIDTHS = {
    2: (16, 64),
    3: (16, 64),
    4: (32, 128),
    5: (32, 128),
    6: (48, 192),
    7: (48, 192),
    8: (64, 256),
    9: (64, 256),
}
"""Channels of each fire module: squeezed, and of either half of the expanded."""
POOL_AFTER = (3, 5)


class Fire(nn.Module):
    """1x1 squeeze, then 1x1 and 3x3 side by side, ReLU after each."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.squeeze1x1(x))
        return F.relu_(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


class SqueezeNet(nn.Module):
    """RGB images (B, 3, 224, 224) in 0..255 -> features (B, 512), the mean over the last map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        channels = 64
        for number, (squeezed, expanded) in WIDTHS.items():
            self.add_module(f"fire{number}", Fire(channels, squeezed, expanded))
            channels = 2 * expanded
        self.register_buffer("means", torch.tensor(MEANS_BGR).view(1, 3, 1, 1), persistent=False)
        self.means: Tensor

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu_(self.conv1(x.flip(1) - self.means)), 3, 2)
        for number in WIDTHS:
            x = self.get_submodule(f"fire{number}")(x)
            if number in POOL_AFTER:
                x = F.max_pool2d(x, 3, 2)
        return x.float().mean((2, 3))


def load_squeezenet(path: Path) -> SqueezeNet:
    """The network with the weights of the .npz `path`; raises DataError when they do not fit."""
    try:
        with np.load(path, allow_pickle=False) as file:
            tensors = {name: torch.from_numpy(np.ascontiguousarray(file[name])) for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as problem:
        raise DataError(f"`{path}` cannot be read as .npz: {problem}", hint=_HINT) from problem
    net = SqueezeNet()
    try:
        net.load_state_dict(tensors)
    except RuntimeError as problem:
        raise DataError(f"`{path}` does not hold SqueezeNet 1.1: {str(problem)[:300]}", hint=_HINT) from problem
    return net.eval().requires_grad_(False)


_HINT = "give a .npz with the keys conv1.weight, conv1.bias, fire2.squeeze1x1.weight, ... fire9.expand3x3.bias"
