"""Pixels as files hold them (uint8, channels last) and as networks see them (float in [-1, 1], channels first)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def from_uint8(pixels: Tensor, device: torch.device | str | None = None) -> Tensor:
    """uint8 of any shape -> float32 in [-1, 1], on `device` (where it is, when None)."""
    return pixels.to(device).float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [-1, 1] (clamped) of any shape -> uint8, rounded to nearest, on their device."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def channels_first(pixels: np.ndarray) -> Tensor:
    """An array (..., H, W, 3) -> a tensor (..., 3, H, W) that shares its memory."""
    return torch.from_numpy(pixels).movedim(-1, -3)


def channels_last(images: Tensor) -> np.ndarray:
    """A tensor (..., 3, H, W) on any device -> an array (..., H, W, 3)."""
    return np.ascontiguousarray(images.cpu().movedim(-3, -1).numpy())
