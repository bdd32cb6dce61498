"""Differentiable augmentation for adversarial training: Zhao et al. 2020, "DiffAugment", section 3 and appendix.

Critic and generator both see augmented images, real and generated alike, and gradients flow through each step; so the
generator learns the plain distribution while the critic never sees an image twice. Images are (B, C, H, W), floats in
[-1, 1]; every image of a batch gets its own random numbers, from torch's global generator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["color", "translation", "cutout"]
"""Names of the augmentations."""


def augment(images: Tensor, kinds: Sequence[Kind]) -> Tensor:
    """Apply the chosen augmentations in the paper's order: color, translation, cutout; (B, C, H, W) -> the same shape."""
    for kind, function in (("color", color), ("translation", translation), ("cutout", cutout)):
        if kind in kinds:
            images = function(images)
    return images


def color(images: Tensor) -> Tensor:
    """Change brightness by up to +-0.5, saturation by 0 to 2, contrast by 0.5 to 1.5, each uniform per image."""
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1, device=images.device).to(images.dtype)
    images = images + (brightness - 0.5)
    gray = images.mean(1, keepdim=True)
    images = (images - gray) * (2 * saturation) + gray
    level = images.mean((1, 2, 3), keepdim=True)
    return (images - level) * (contrast + 0.5) + level


def translation(images: Tensor, share: float = 0.125) -> Tensor:
    """Shift by whole pixels, up to `share` of each side; what comes in from outside is zero (gray)."""
    rows, row_inside = _shifted(len(images), images.shape[2], share, images.device)
    columns, column_inside = _shifted(len(images), images.shape[3], share, images.device)
    which = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    # Channels last, so that each pixel is fetched as a whole.
    moved = images.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return moved * (row_inside[:, :, None] & column_inside[:, None, :]).unsqueeze(1).to(images.dtype)


def _shifted(count: int, length: int, share: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Per image: where each of its `length` rows comes from, (count, length), and whether that lies inside."""
    reach = int(length * share + 0.5)
    shift = torch.randint(-reach, reach + 1, (count, 1), device=device)
    source = torch.arange(length, device=device) + shift
    return source.clamp(0, length - 1), (source >= 0) & (source < length)


def cutout(images: Tensor, share: float = 0.5) -> Tensor:
    """Gray out a rectangle of `share` of each side, whose center is uniform over the image."""
    inside = []
    for length in images.shape[2:]:
        side = int(length * share + 0.5)
        first = torch.randint(-(side // 2), length + 1 - side // 2, (len(images), 1), device=images.device)
        place = torch.arange(length, device=images.device)
        inside.append((place >= first) & (place < first + side))
    return images * (~(inside[0][:, :, None] & inside[1][:, None, :])).unsqueeze(1).to(images.dtype)
