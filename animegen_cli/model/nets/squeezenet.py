"""SqueezeNet 1.1 without its classifier (Iandola et al. 2016), as an open perceptual network for scores.

The layers are torchvision's. The weights are the user's: a .npz with `conv1.weight`, `fire2.squeeze1x1.weight`, ... in
PyTorch's order (out, in, height, width), trained on BGR images in 0..255 minus ImageNet's means.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from animegen_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SIZE = 224
"""Height and width in pixels of the images that it sees."""
MEANS_BGR = (103.939, 116.779, 123.68)
"""ImageNet's mean blue, green and red, in 0..255."""
PLACES = {"conv1": 0, "fire2": 3, "fire3": 4, "fire4": 6, "fire5": 7, "fire6": 9, "fire7": 10, "fire8": 11, "fire9": 12}
"""A layer's name in the file -> its index in torchvision's `features`; ReLU and pooling lie between them."""


class SqueezeNet(nn.Module):
    """The frozen convolutions behind a change of the images' units; their last map is averaged."""

    def __init__(self, features: nn.Module) -> None:
        """Wrap torchvision's `squeezenet1_1().features`, or layers of the same input and output."""
        super().__init__()
        self.features = features
        self.register_buffer("means", torch.tensor(MEANS_BGR).view(1, 3, 1, 1), persistent=False)
        self.means: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """RGB images (B, 3, 224, 224) in 0..255 -> float32 features (B, 512), the mean over the last map."""
        maps: Tensor = self.features(images.flip(1) - self.means)
        return maps.float().mean((2, 3))


def load_squeezenet(path: Path) -> SqueezeNet:
    """Open the network with the weights of the .npz `path`.

    Raises:
        DataError: the file cannot be read, or its tensors are not those of SqueezeNet 1.1.
    """
    from torchvision.models import squeezenet1_1  # here, because its import would slow commands that need none of it

    with torch.device("meta"):  # every tensor comes from the file
        features: nn.Module = squeezenet1_1(weights=None).features
    state = _renamed(_read(path), features, path)
    features.load_state_dict(state, assign=True)
    return SqueezeNet(features).eval().requires_grad_(False)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(np.ascontiguousarray(file[name])) for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as problem:
        raise DataError(f"`{path}` cannot be read as .npz: {problem}", hint=_HINT) from problem


def _renamed(tensors: Mapping[str, Tensor], features: nn.Module, path: Path) -> dict[str, Tensor]:
    """The file's tensors as float32 under torchvision's names; DataError where one is missing, unknown or misshapen."""
    names = {str(place): layer for layer, place in PLACES.items()}
    wanted = {}
    for name, tensor in features.state_dict().items():
        place, _, part = name.partition(".")
        wanted[f"{names[place]}.{part.replace('squeeze.', 'squeeze1x1.')}"] = (name, tensor.shape)
    wrong = [f"lacks `{name}`" for name in wanted if name not in tensors]
    wrong += [f"has an unknown `{name}`" for name in tensors if name not in wanted]
    wrong += [
        f"has `{name}` as {_spelled(tensors[name].shape)}, not {_spelled(shape)}"
        for name, (_, shape) in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if wrong:
        raise DataError(f"`{path}` does not hold SqueezeNet 1.1: it {', '.join(wrong)[:300]}", hint=_HINT)
    return {name: tensors[known].float() for known, (name, _) in wanted.items()}


def _spelled(shape: torch.Size) -> str:
    return "x".join(map(str, shape))


_HINT = "give a .npz with the keys conv1.weight, conv1.bias, fire2.squeeze1x1.weight, ... fire9.expand3x3.bias"
