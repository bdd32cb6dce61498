"""What a training starts with: its `auto` options resolved by fixed rules, never by timing, and all that it needs built."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from animegen_cli.config import RunConfig
from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.loading import Loader
from animegen_cli.device import fast_layout, free_memory, has_bf16, has_compiler
from animegen_cli.model.family import DataSpec, Family
from animegen_cli.train import estimate


class ResolvedOptions(NamedTuple):
    """What every `auto` of a config became; written to the run's folder and used again on resume."""

    precision: str
    """Arithmetic of the networks: `fp32`, or `bf16` under autocast."""
    batch_gpu: int
    """Images per forward pass: the size of a micro-batch."""
    channels_last: bool
    """Whether images and weights lie in memory with their channels last."""
    compile: bool
    """Whether torch compiles the networks."""

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain values for JSON."""
        return dict(self._asdict())


class Prepared(NamedTuple):
    """A request that was found to be possible, with all that it takes; nothing is trained yet."""

    config: RunConfig
    faces: FaceSet
    data: DataSpec
    loader: Loader
    model: Family
    options: ResolvedOptions
    device: torch.device

    def autocast(self) -> torch.autocast:
        """Return the context in which networks draw and validate: bf16 where the run resolved to it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bf16")


def resolve(config: RunConfig, model: Family, device: torch.device) -> ResolvedOptions:
    """Turn every `auto` of the config into a value that the device and the size of the networks decide."""
    train = config.train
    precision = train.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    batch_gpu = train.batch_gpu
    if batch_gpu == "auto":
        cost = estimate.cost(model, precision=precision)
        batch_gpu = estimate.micro_batch(cost, train.batch, free_memory(device))
    return ResolvedOptions(
        precision=precision,
        batch_gpu=min(batch_gpu, train.batch),
        channels_last=fast_layout(model, device) if train.channels_last == "auto" else train.channels_last,
        compile=(device.type == "cuda" and has_compiler()) if train.compile == "auto" else train.compile,
    )
