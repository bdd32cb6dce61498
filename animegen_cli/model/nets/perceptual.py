"""Feature maps to compare images by: torchvision's VGG19 with weights that the user has, or the package's own trunk.

Both are frozen and differentiable towards the images. A run records which one it used: `name` and `sha`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from animegen_cli.disk import sha256
from animegen_cli.errors import DataError
from animegen_cli.model.nets import trunk
from animegen_cli.paths import similar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

VGG_LEVELS = (2, 7, 16, 25)
"""Indices in torchvision's `features` of conv1_2, conv2_2, conv3_4 and conv4_4: one map per size."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1]: what torchvision's networks expect their images scaled by."""


class Perceptual(nn.Module):
    """A frozen network with a map of features per size.

    Attributes:
        name: "vgg19" or "faces-trunk".
        sha: sha256 of the weights file.
        view: pixels a side above which `embed` scales images down.
    """

    name: str
    sha: str
    view: int

    def __init__(self, sha: str) -> None:
        super().__init__()
        self.sha = sha

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, D), differentiable: images look alike where the Euclidean distance is small.

        Each pixel of each map becomes a unit vector over its channels, and each map counts alike, so the squared distance
        is a mean over maps and pixels (Zhang et al. 2018, eq. 1, with equal weights).
        """
        if max(images.shape[-2:]) > self.view:
            images = F.interpolate(images, (self.view, self.view), mode="bicubic", antialias=True, align_corners=False)
        maps = [F.normalize(F.relu(level.float()), dim=1, eps=1e-6) for level in self(images)]
        flat = [level.flatten(1) / (len(maps) * level.shape[2] * level.shape[3]) ** 0.5 for level in maps]
        return torch.cat(flat, 1)


class VGG19(Perceptual):
    """The first twelve convolutions of torchvision's VGG19, before their activation (Simonyan & Zisserman 2015)."""

    name, view = "vgg19", 256

    def __init__(self, features: nn.Sequential, sha: str) -> None:
        """Wrap the layers of `vgg_layers`, whose weights have the sha256 `sha`."""
        super().__init__(sha)
        self.features = features
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> maps of 1/1, 1/2, 1/4 and 1/8 of the size, with 64, 128, 256 and 512 channels."""
        x = ((images + 1) / 2 - self.mean) / self.std
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in VGG_LEVELS:
                maps.append(x)
        return maps


def vgg_layers() -> nn.Sequential:
    """torchvision's VGG19 up to conv4_4, on the meta device: all shapes and no weights."""
    from torchvision.models import vgg19  # here, because its import would slow commands that need none of it

    with torch.device("meta"):
        layers: nn.Sequential = vgg19(weights=None, init_weights=False).features[: VGG_LEVELS[-1] + 1]
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # in place it would change the map that was just handed out
    return layers


class FacesTrunk(Perceptual):
    """The first seven convolutions of the package's own trunk, before their activation."""

    name, view = "faces-trunk", trunk.SIZE
    levels = trunk.LEVELS[:4]
    """Indices of the convolutions whose maps it gives."""

    def __init__(self) -> None:
        super().__init__(trunk.SHA)
        self.convs = nn.ModuleList(list(trunk.load_trunk().convs)[: self.levels[-1] + 1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> maps of 1/1, 1/2, 1/4 and 1/8 of the size, with 16, 32, 64 and 128 channels."""
        x = images
        maps = []
        for index, conv in enumerate(self.convs):
            x = conv(x)
            if index in self.levels:
                maps.append(x)
            x = F.relu(x)
        return maps


def open_features(path: Path | None) -> Perceptual:
    """Open a VGG19's state dict in torchvision's layout (.pth or .safetensors), or without a path the package's own trunk.

    Raises:
        DataError: no such file, or it holds something else.
    """
    return (FacesTrunk() if path is None else _open_vgg(path)).eval().requires_grad_(False)


def _open_vgg(path: Path) -> VGG19:
    tensors = _read(path)
    layers = vgg_layers()
    state = {}
    for name, parameter in layers.state_dict().items():
        source = f"features.{name}"
        found = tensors.get(source)
        if found is None or found.shape != parameter.shape:
            has = "lacks it" if found is None else f"has it as {_spelled(found.shape)}"
            raise DataError(
                f"{path} is no VGG19: `{source}` should be {_spelled(parameter.shape)}, and the file {has}",
                hint="give the state dict of torchvision's `vgg19` (not vgg16, not vgg19_bn), "
                "or leave `model.features` out to use the package's own trunk",
            )
        state[name] = found.float()
    layers.load_state_dict(state, assign=True)
    return VGG19(layers, sha256(path))


def _spelled(shape: torch.Size) -> str:
    return "x".join(map(str, shape))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise DataError(f"there is no file {path}", hint=similar(path) or "check the path in `model.features`")
    try:
        tensors = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as problem:
        reason = (str(problem).splitlines() or ["unknown"])[0][:120]
        raise DataError(
            f"{path} cannot be read as weights: {reason}",
            hint="give a .pth or .safetensors file with the state dict of torchvision's `vgg19`",
        ) from problem
    return _tensors(tensors)


def _tensors(found: object) -> dict[str, Tensor]:
    """The named tensors of a state dict; none when it is something else."""
    items: Sequence[tuple[object, object]] = list(found.items()) if isinstance(found, dict) else []
    return {str(name): tensor for name, tensor in items if isinstance(tensor, Tensor)}
