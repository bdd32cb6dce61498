"""Device, precision, micro-batch, memory format and compilation: resolved once by fixed rules, never by timing."""

from __future__ import annotations

import shutil
from typing import Any, NamedTuple

import torch
from torch import nn

from animegen_cli.config import RunConfig
from animegen_cli.errors import MachineError, UsageError
from animegen_cli.model.family import Method
from animegen_cli.train import estimate


class Choices(NamedTuple):
    """What a run was started with; written to its folder and used again on resume."""

    precision: str
    batch_gpu: int
    channels_last: bool
    compile: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dict(self._asdict())


def pick_device(name: str | None) -> torch.device:
    """`cuda` where there is one, else `cpu`; UsageError for a name torch does not know, MachineError when it is not there."""
    if name in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(str(name))
    except RuntimeError:
        raise UsageError(f"no device `{name}`", hint="use `cpu`, `cuda` or `cuda:1`") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise MachineError(f"this machine has no device `{name}`", hint="leave out `--device`, or use `--device cpu`")
    try:
        torch.zeros((), device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError):  # mps, xpu, meta, ... as this PyTorch was built
        raise MachineError(
            f"this PyTorch cannot compute on `{name}`", hint="leave out `--device`, or use `--device cpu`"
        ) from None
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is in the hardware (Ampere and later; CPUs with AVX512-bf16 or AMX)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in known)


def has_compiler() -> bool:
    """Whether the C compiler that Triton's launchers need is there."""
    return any(shutil.which(name) for name in ("cc", "gcc", "clang"))


def fast_layout(method: Method, device: torch.device) -> bool:
    """Whether channels_last is faster: on CUDA, and on CPUs unless GroupNorm, slow in it there, is the rule."""
    if device.type == "cuda":
        return True
    grouped = sum(isinstance(part, nn.GroupNorm) for part in method.modules())
    batched = sum(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in method.modules())
    return grouped <= batched


def resolve(config: RunConfig, method: Method, device: torch.device) -> Choices:
    """Turn every `auto` of the config into a value."""
    train = config.train
    precision = train.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    batch_gpu = train.batch_gpu
    if batch_gpu == "auto":
        cost = estimate.cost(method, config, precision=precision)
        batch_gpu = estimate.micro_batch(cost, train.batch, estimate.free_memory(device))
    return Choices(
        precision=precision,
        batch_gpu=min(batch_gpu, train.batch),
        channels_last=fast_layout(method, device) if train.channels_last == "auto" else train.channels_last,
        compile=(device.type == "cuda" and has_compiler()) if train.compile == "auto" else train.compile,
    )
