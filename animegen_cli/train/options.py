"""Device, precision, micro-batch, memory format and compilation: resolved once by fixed rules, never by timing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from animegen_cli.device import fast_layout, free_memory, has_bf16, has_compiler
from animegen_cli.train import estimate

if TYPE_CHECKING:
    import torch

    from animegen_cli.config import RunConfig
    from animegen_cli.model.family import Family


class ResolvedOptions(NamedTuple):
    """What a run was started with; written to its folder and used again on resume."""

    precision: str
    batch_gpu: int
    channels_last: bool
    compile: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dict(self._asdict())


def resolve(config: RunConfig, model: Family, device: torch.device) -> ResolvedOptions:
    """Turn every `auto` of the config into a value."""
    train = config.train
    precision = train.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    batch_gpu = train.batch_gpu
    if batch_gpu == "auto":
        cost = estimate.cost(model, config, precision=precision)
        batch_gpu = estimate.micro_batch(cost, train.batch, free_memory(device))
    return ResolvedOptions(
        precision=precision,
        batch_gpu=min(batch_gpu, train.batch),
        channels_last=fast_layout(model, device) if train.channels_last == "auto" else train.channels_last,
        compile=(device.type == "cuda" and has_compiler()) if train.compile == "auto" else train.compile,
    )
