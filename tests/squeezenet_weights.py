"""A file of SqueezeNet's weights, random ones: what `squeezenet:PATH` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

FIRES = {2: (64, 16, 64), 3: (128, 16, 64), 4: (128, 32, 128), 5: (256, 32, 128), 6: (256, 48, 192), 7: (384, 48, 192),
         8: (384, 64, 256), 9: (512, 64, 256)}  # fmt: skip
"""Number of a fire module -> channels that enter, squeezed ones, and those of either half of the expanded."""


def write(path: Path) -> Path:
    """Random weights under the names and with the shapes of Iandola et al. 2016, version 1.1; the path again."""
    shapes = {"conv1": (64, 3, 3, 3)}
    for number, (inputs, squeezed, expanded) in FIRES.items():
        shapes[f"fire{number}.squeeze1x1"] = (squeezed, inputs, 1, 1)
        shapes[f"fire{number}.expand1x1"] = (expanded, squeezed, 1, 1)
        shapes[f"fire{number}.expand3x3"] = (expanded, squeezed, 3, 3)
    random = np.random.default_rng(0)
    tensors = {}
    for name, shape in shapes.items():
        tensors[f"{name}.weight"] = (random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
        tensors[f"{name}.bias"] = random.normal(scale=0.1, size=shape[0]).astype(np.float32)
    np.savez(path, **tensors)
    return path
