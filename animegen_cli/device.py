"""The machine: which device, what it can do, how much memory is free, and what it says of itself."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import torch
from torch import nn

from animegen_cli import __version__
from animegen_cli.errors import MachineError, UsageError


def pick_device(name: str | None) -> torch.device:
    """Return the device of that name; with None or `auto`, `cuda` where there is one, else Apple's `mps`, else `cpu`.

    Raises:
        UsageError: torch knows no such name.
        MachineError: the device is not there, or this PyTorch cannot compute on it.
    """
    if name in (None, "auto"):
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return torch.device(next((kind for kind, is_there in there.items() if is_there), "cpu"))
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


def device_name(device: torch.device) -> str:
    """Return what a person calls it: a GPU's own name, or `cpu`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU (mps)" if device.type == "mps" else device.type


def has_bf16(device: torch.device) -> bool:
    """Return whether bf16 arithmetic is in the hardware (Ampere and later; CPUs with AVX512-bf16 or AMX)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in known)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def has_compiler() -> bool:
    """Return whether the C compiler that Triton's launchers need is there."""
    return any(shutil.which(name) for name in ("cc", "gcc", "clang"))


def fast_layout(model: nn.Module, device: torch.device) -> bool:
    """Return whether channels_last is faster in training and in fp32: on CUDA, and on CPUs unless GroupNorm, whose backward
    pass is slow in it there, is the rule."""
    if device.type == "cuda":
        return True
    grouped = sum(isinstance(part, nn.GroupNorm) for part in model.modules())
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    batched = sum(isinstance(part, kinds) for part in model.modules())
    return grouped <= batched


def free_memory(device: torch.device) -> int:
    """Return the free bytes on the device, this process's share where several run on one machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = next(line for line in file if line.startswith("MemAvailable"))
        return int(found.split()[1]) * 1024 // sharing
    except (OSError, StopIteration):  # not Linux: half of all memory is a fair guess
        pages = "SC_PHYS_PAGES"
        size = "SC_PAGE_SIZE"
        known = hasattr(os, "sysconf") and pages in os.sysconf_names
        return (os.sysconf(pages) * os.sysconf(size) // 2 if known else 4 * 2**30) // sharing


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""


def keep_freed_memory() -> bool:
    """Let the C library keep what tensors on the CPU free, for the next step; returns whether it does (glibc alone).

    By itself it gives every large block back to the system, which hands it out again page by page, filled with zeros.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl, Windows
        return False
    kept = bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))
    # Older versions take no more than 32 MiB.
    return kept and bool(mallopt(_MMAP_THRESHOLD, 2**30) or mallopt(_MMAP_THRESHOLD, 2**25))


def machine_about(device: torch.device) -> dict[str, Any]:
    """Return device, memory, versions and commit as plain values, for run.json."""
    return {
        "device": device_name(device),
        "peak_memory": peak_memory(device),
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {
            "animegen": __version__, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
        },
        "git": _git(),
    }  # fmt: skip


def peak_memory(device: torch.device) -> int | None:
    """Return the most bytes that were in use so far: on a CUDA device, or by this process on a CPU; None on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@functools.lru_cache(maxsize=1)
def _git() -> str | None:
    """The commit of the folder the command runs in, where there is one."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
