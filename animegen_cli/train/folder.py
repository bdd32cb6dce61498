"""A run folder in use: who holds it, what may change when training goes on, what it says of itself."""

from __future__ import annotations

import fcntl
import functools
import os
import platform
import resource
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from animegen_cli import __version__
from animegen_cli.config import RunConfig
from animegen_cli.data.dataset import FaceSet
from animegen_cli.errors import DataError, MachineError
from animegen_cli.model.family import DataSpec
from animegen_cli.paths import Run
from animegen_cli.train import optim

# These may change when a run goes on; everything else decides its numbers.
_FREE = {
    "data", "about", "warning", "train.duration", "train.workers", "train.save_every", "train.keep", "train.preview_every",
    "train.preview", "train.log_every",
}  # fmt: skip


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix[:-1]: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.")
    return found


def differences(old: Mapping[str, Any], new: RunConfig) -> list[str]:
    """Settings that may not change on resume and do, one line each."""
    before, after = _flat(dict(old)), _flat(new.to_dict())
    free = set(_FREE)
    if any(optim.needs_end(section) for section in new.optim.values()):
        free.remove("train.duration")
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed if key not in free]


@contextmanager
def lock(run: Run) -> Iterator[None]:
    """Keep a second process out of the folder; DataError names the one that is there."""
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        held = open(run.path / ".lock", "a+")  # noqa: SIM115 - closed below
    except OSError as error:
        raise MachineError(
            f"cannot write to {run.path}: {error.strerror}", hint="name another folder with `--out`"
        ) from error
    with held as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise DataError(
                f"{run.path} is being trained by process {file.read().strip() or 'unknown'}",
                hint="wait for it, or train into another folder with `--out`",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            if [f.name for f in run.path.iterdir()] == [".lock"]:  # nothing came of it
                (run.path / ".lock").unlink()
                run.path.rmdir()


def is_locked(run: Run) -> bool:
    """Whether a process trains there now."""
    try:
        with lock(run):
            return False
    except DataError:
        return True


# ---- what the run says of itself --------------------------------------------------------------------------------


def data_about(faces: FaceSet, data: DataSpec) -> dict[str, Any]:
    """The training set, for run.json."""
    return {
        "path": str(faces.path), "name": faces.name, "identity": faces.identity, "split": "train", "count": data.count,
        "size": data.size, "scaled_from": faces.size,
        "attributes": {name: list(values) for name, values in faces.attributes.items()},
    }  # fmt: skip


def machine_about(device: torch.device) -> dict[str, Any]:
    """Device, memory, versions and commit, for run.json."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "peak_memory": peak_memory(device),
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {
            "animegen": __version__, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
        },
        "git": _git(),
    }  # fmt: skip


def peak_memory(device: torch.device) -> int:
    """Bytes: the device's, or this process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@functools.lru_cache(maxsize=1)
def _git() -> str | None:
    """The commit of the folder the command runs in, where there is one."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
