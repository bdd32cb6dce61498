"""The resize before a perceptual network, as matrix products on the device, whole batches at once.

Resizing is linear and separable: an image (H, W) becomes A_y image A_x^T, with one row of weights per output
pixel. Three kinds of rows, each a convention that published numbers depend on (Parmar et al. 2022):

* `clean`: Pillow's bicubic on float32 (a = -0.5, widened when shrinking), clipped to 0..255, not rounded
* `legacy_pytorch`: bilinear between pixel centers, no antialiasing
* `legacy_tensorflow`: bilinear between top left corners, no antialiasing (TensorFlow 1)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

Mode = Literal["clean", "legacy_pytorch", "legacy_tensorflow"]
MODES: tuple[str, ...] = get_args(Mode)


def resize(images: Tensor, size: int, mode: Mode = "clean") -> Tensor:
    """Resize images (B, C, H, W), uint8 or float in 0..255, to float32 (B, C, size, size) in 0..255."""
    height, width = images.shape[-2:]
    columns = _weights(width, size, mode, images.device)
    rows = _weights(height, size, mode, images.device)
    return (rows @ (images.float() @ columns.T)).clamp_(0, 255)


def resize_weights(size_in: int, size_out: int, mode: Mode) -> Tensor:
    """The matrix (size_out, size_in), float64: row o holds what each input pixel gives to output pixel o."""
    scale = size_in / size_out
    if mode == "clean":
        out = torch.arange(size_out, dtype=torch.float64)
        return _bicubic(size_in, (out + 0.5) * scale, max(scale, 1.0))
    out = torch.arange(size_out, dtype=torch.float32)  # the precision in which both originals find positions
    step = torch.tensor(scale, dtype=torch.float32)
    if mode == "legacy_pytorch":
        return _bilinear(size_in, ((out + 0.5) * step - 0.5).clamp(min=0).double())
    return _bilinear(size_in, (out * step).double())


def _bicubic(size_in: int, centers: Tensor, width: float, a: float = -0.5) -> Tensor:
    """Keys' cubic kernel around each center, stretched by `width`, cut off at the border and renormalized."""
    reach = 2.0 * width
    first = (centers - reach + 0.5).floor().clamp(min=0)
    last = (centers + reach + 0.5).floor().clamp(max=size_in)
    pixel = torch.arange(size_in, dtype=torch.float64)
    x = ((pixel + 0.5 - centers[:, None]) / width).abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    weights[(pixel < first[:, None]) | (pixel >= last[:, None])] = 0
    return weights / weights.sum(1, keepdim=True)


def _bilinear(size_in: int, positions: Tensor) -> Tensor:
    """Weights of the two pixels around each position (in pixels from the first one's center)."""
    lower = positions.floor()
    fraction = positions - lower
    weights = torch.zeros(len(positions), size_in, dtype=torch.float64)
    rows = torch.arange(len(positions))
    for index, weight in ((lower, 1 - fraction), (lower + 1, fraction)):
        weights.index_put_((rows, index.long().clamp(max=size_in - 1)), weight, accumulate=True)
    return weights


@lru_cache(maxsize=32)
def _weights(size_in: int, size_out: int, mode: Mode, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # the cache outlives the caller's mode
        return resize_weights(size_in, size_out, mode).float().to(device)
