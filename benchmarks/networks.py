"""The same U-Net twice: ours, and diffusers' `UNet2DModel` of the same block layout."""

from __future__ import annotations

from typing import Any

from animegen_cli.model.family import DataSpec, Family
from animegen_cli.sample.trained import build


def ours(size: int, channels: list[int], *, batch: int, parts: int = 1) -> tuple[Family, Any]:
    """Our DDPM in the diffusers layout, attention on the coarsest level; and its config."""
    base = channels[0]
    config = {
        "family": "ddpm",
        "model": {
            "channels": base, "multipliers": [c // base for c in channels], "attention": [size >> (len(channels) - 1)],
            "layout": "diffusers", "head_width": 8,
        },
        "sample": {"sampler": "ddim", "steps": 50, "spacing": "leading"},
        "optim": {"model": {"name": "adamw", "lr": 1e-4, "betas": [0.95, 0.999], "weight_decay": 1e-6, "clip": 1.0}},
        "train": {"batch": batch, "parts": parts, "duration": "1M steps"},
    }  # fmt: skip
    return build(config, DataSpec(size, 4096))


def theirs(size: int, channels: list[int]) -> Any:
    """The same network by diffusers, with its default head width of 8 channels."""
    from diffusers import UNet2DModel

    levels = len(channels)
    return UNet2DModel(
        sample_size=size,
        block_out_channels=channels,
        layers_per_block=2,
        down_block_types=["DownBlock2D"] * (levels - 1) + ["AttnDownBlock2D"],
        up_block_types=["AttnUpBlock2D"] + ["UpBlock2D"] * (levels - 1),
    )
