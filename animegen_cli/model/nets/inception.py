"""Inception v3 as the FID knows it: TensorFlow's network of 2015-12-05 (Szegedy et al. 2016).

It differs from torchvision's in three ways: average pools do not count the padding, the last block pools by
maximum, and there are 1,008 classes. Every batch norm is folded into its convolution: same function, fewer
passes over memory.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animegen_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

FEATURES = 2048
CLASSES = 1008
EPSILON = 1e-3
"""Added to the variance by every batch norm of the network."""
TOLERANCE = 1e-3
"""Largest difference between the converted network and its source, relative to the largest feature."""

Size = int | tuple[int, int]


class Conv(nn.Conv2d):
    """Convolution with bias, then ReLU; 'same' padding, or none without `pad`."""

    def __init__(self, inputs: int, outputs: int, kernel: Size, stride: int = 1, *, pad: bool = True) -> None:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if pad and stride == 1 else (0, 0)
        super().__init__(inputs, outputs, (height, width), stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return F.relu_(super().forward(x))


class Branches(nn.ModuleList):
    """Runs every branch on the same input and stacks their channels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, sum of C', H', W')."""
        return torch.cat([branch(x) for branch in self], 1)


def average_pool() -> nn.Module:
    """Build the 3x3 mean at stride 1 of the pixels inside the map."""
    return nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)


def block_35(inputs: int, pooled: int) -> Branches:
    """Build a mixed block on 35x35 maps: 224 + `pooled` channels out."""
    return Branches(
        [
            Conv(inputs, 64, 1),
            nn.Sequential(Conv(inputs, 48, 1), Conv(48, 64, 5)),
            nn.Sequential(Conv(inputs, 64, 1), Conv(64, 96, 3), Conv(96, 96, 3)),
            nn.Sequential(average_pool(), Conv(inputs, pooled, 1)),
        ]
    )


def block_17(inner: int, inputs: int = 768) -> Branches:
    """Build a mixed block on 17x17 maps with 7x7 convolutions split in two: 768 channels out."""
    wide, tall = (1, 7), (7, 1)
    return Branches(
        [
            Conv(inputs, 192, 1),
            nn.Sequential(Conv(inputs, inner, 1), Conv(inner, inner, wide), Conv(inner, 192, tall)),
            nn.Sequential(
                Conv(inputs, inner, 1),
                Conv(inner, inner, tall),
                Conv(inner, inner, wide),
                Conv(inner, inner, tall),
                Conv(inner, 192, wide),
            ),
            nn.Sequential(average_pool(), Conv(inputs, 192, 1)),
        ]
    )


def block_8(inputs: int, pool: nn.Module) -> Branches:
    """Build a mixed block on 8x8 maps whose towers end in a fork of 1x3 and 3x1: 2,048 channels out."""

    def fork() -> Branches:
        return Branches([Conv(384, 384, (1, 3)), Conv(384, 384, (3, 1))])

    return Branches(
        [
            Conv(inputs, 320, 1),
            nn.Sequential(Conv(inputs, 384, 1), fork()),
            nn.Sequential(Conv(inputs, 448, 1), Conv(448, 384, 3), fork()),
            nn.Sequential(pool, Conv(inputs, 192, 1)),
        ]
    )


class Inception(nn.Module):
    """The layers up to the mean over the last map; `output` turns such features into 1,008 logits."""

    def __init__(self) -> None:
        super().__init__()
        to_17 = [
            Conv(288, 384, 3, 2),
            nn.Sequential(Conv(288, 64, 1), Conv(64, 96, 3), Conv(96, 96, 3, 2)),
            nn.MaxPool2d(3, 2),
        ]
        to_8 = [
            nn.Sequential(Conv(768, 192, 1), Conv(192, 320, 3, 2)),
            nn.Sequential(Conv(768, 192, 1), Conv(192, 192, (1, 7)), Conv(192, 192, (7, 1)), Conv(192, 192, 3, 2)),
            nn.MaxPool2d(3, 2),
        ]
        self.layers = nn.Sequential(
            Conv(3, 32, 3, 2),
            Conv(32, 32, 3, pad=False),
            Conv(32, 64, 3),
            nn.MaxPool2d(3, 2),
            Conv(64, 80, 1),
            Conv(80, 192, 3, pad=False),
            nn.MaxPool2d(3, 2),
            block_35(192, 32),
            block_35(256, 64),
            block_35(288, 64),
            Branches(to_17),
            *(block_17(inner) for inner in (128, 160, 160, 192)),
            Branches(to_8),
            block_8(1280, average_pool()),
            block_8(2048, nn.MaxPool2d(3, 1, padding=1)),
        )
        self.output = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, 299, 299) in [-1, 1) -> float32 features (B, 2048)."""
        return self.layers(x).float().mean((2, 3))


def from_torchscript(path: Path) -> Inception:
    """Open NVIDIA's and clean-fid's `inception-2015-12-05.pt`, and check the features against the file's own.

    Its layers are matched by their order and shape.

    Raises:
        DataError: the file is no such network, or the two disagree on test images by more than `TOLERANCE`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated since torch 2.9, and read only once here
        try:
            script = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError, OSError) as problem:
            reason = str(problem).splitlines()[0]
            raise DataError(f"`{path}` is no TorchScript file: {reason}", hint=_HINT) from problem
        net = from_tensors(script.state_dict(), path)
        images = torch.rand(2, 3, 299, 299, generator=torch.Generator().manual_seed(0)) * 255
        with torch.inference_mode():
            try:
                expected = script(images, return_features=True).reshape(len(images), -1)
            except RuntimeError as problem:
                raise DataError(f"`{path}` does not give features for images", hint=_HINT) from problem
            found = net((images - 128) / 128)
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    if not error <= TOLERANCE:
        raise DataError(f"`{path}` is another network: features differ by {error:.1%}", hint=_HINT)
    return net


def from_tensors(tensors: Mapping[str, Tensor], source: Path) -> Inception:
    """Build the network from named tensors in any spelling: NVIDIA's, pytorch-fid's, torchvision's or none at all.

    A four-dimensional tensor opens a convolution; the vectors that follow are its batch norm's. Each of our
    convolutions takes the first unused one of its shape, so blocks may come in another order.

    Raises:
        DataError: a layer is missing, or there are others.
    """
    with torch.device("meta"):  # every tensor comes from the file
        net = Inception().eval()
    convs, matrix, bias = _folded(tensors.items(), source)
    for conv in (module for module in net.modules() if isinstance(module, Conv)):
        match = next((at for at, (weight, _) in enumerate(convs) if weight.shape == conv.weight.shape), None)
        if match is None:
            shape = tuple(conv.weight.shape)
            raise DataError(f"`{source}` lacks a convolution of shape {shape}", hint=_HINT)
        weight, offset = convs.pop(match)
        conv.weight = nn.Parameter(weight.float())
        conv.bias = nn.Parameter(offset.float())
    if convs or matrix is None or matrix.shape != net.output.weight.shape:
        raise DataError(f"`{source}` has other layers than the network of 2015-12-05", hint=_HINT)
    net.output.weight = nn.Parameter(matrix.detach().float())
    net.output.bias = nn.Parameter(torch.zeros(CLASSES) if bias is None else bias.detach().float())
    return net.requires_grad_(False)


_HINT = "give clean-fid's `inception-2015-12-05.pt` or pytorch-fid's `pt_inception-2015-12-05-6726825d.pth`"
_ROLES = {
    **dict.fromkeys(("beta", "bias"), "beta"),
    **dict.fromkeys(("mean", "running_mean", "moving_mean"), "mean"),
    **dict.fromkeys(("var", "running_var", "moving_variance"), "var"),
    **dict.fromkeys(("gamma", "weight"), "gamma"),
}


def _folded(
    named: Iterable[tuple[str, Tensor]], source: Path
) -> tuple[list[tuple[Tensor, Tensor]], Tensor | None, Tensor | None]:
    """Convolutions as (weight, bias) with batch norms folded in; the output layer's matrix and bias."""
    groups: list[tuple[Tensor, dict[str, Tensor]]] = []
    matrix = None
    bias = None
    for name, tensor in named:
        if tensor.ndim == 4:
            groups.append((tensor.detach().double(), {}))
        elif tensor.ndim == 2:
            matrix = tensor
        elif tensor.ndim == 1 and matrix is not None and len(tensor) == len(matrix):
            bias = tensor
        elif tensor.ndim == 1 and groups:
            norm = groups[-1][1]
            by_position = ("beta", "mean", "var", "gamma")[min(len(norm), 3)]
            norm[_ROLES.get(name.rsplit(".", 1)[-1], by_position)] = tensor.detach().double()
    convs = []
    for weight, norm in groups:
        if not {"beta", "mean", "var"} <= norm.keys():
            raise DataError(f"`{source}` has a convolution without its batch norm", hint=_HINT)
        scale = norm.get("gamma", torch.ones(len(weight))) * (norm["var"] + EPSILON).rsqrt()
        convs.append((weight * scale[:, None, None, None], norm["beta"] - norm["mean"] * scale))
    return convs, matrix, bias
