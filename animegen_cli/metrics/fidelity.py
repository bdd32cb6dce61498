"""How near an image comes back: errors between two images of the same thing, without any network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mse(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared error of each image's pixels in [0, 1]: two uint8 (B, 3, H, W) -> float64 (B,)."""
    return (first.double() - second.double()).div_(255).square_().mean((1, 2, 3))


def psnr(first: Tensor, second: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, at most 99: two uint8 (B, 3, H, W) -> float64 (B,)."""
    return (-10 * mse(first, second).clamp(min=1e-12).log10()).clamp(max=99)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of each image (Wang et al. 2004, eq. 13): two uint8 (B, 3, H, W) -> float64 (B,), at most 1.

    A Gaussian window of 11 pixels and deviation 1.5 (smaller images: the largest odd window that fits), channel by
    channel, only where the whole window lies inside.
    """
    size = min(11, first.shape[2] - (first.shape[2] + 1) % 2)
    places = torch.arange(size, dtype=torch.float64, device=first.device) - size // 2
    line = torch.exp(-places.square() / (2 * 1.5**2))
    window = torch.outer(line, line).div_(line.sum() ** 2).expand(3, 1, size, size)

    def local(values: Tensor) -> Tensor:
        return F.conv2d(values, window, groups=3)

    x, y = first.double(), second.double()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = local(x), local(y)
    var_x, var_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    similar = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (similar / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean((1, 2, 3))


FUNCTIONS = {"mse": mse, "psnr": psnr, "ssim": ssim}
"""Name of a score -> its function."""
