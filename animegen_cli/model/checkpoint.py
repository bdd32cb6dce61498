"""Weights that describe themselves, and complete training states: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from animegen_cli import __version__, paths
from animegen_cli.errors import DataError, MachineError

if TYPE_CHECKING:
    from pathlib import Path

STATE_VERSION = 1
Parts = Mapping[str, Mapping[str, Tensor]]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    # safetensors refuses channels_last and shared storage, so everything is made plain first.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(plain, path, metadata)
    _sync(path)


def _whole(write: Callable[[], None], cleanup: Callable[[], None], what: str) -> None:
    """Run `write`; a full disk or a missing right becomes a MachineError, and nothing half-written stays."""
    try:
        write()
    except (OSError, SafetensorError) as error:
        cleanup()
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        reason = "the disk is full" if full else str(error)
        raise MachineError(
            f"cannot write {what}: {reason}", hint="free some space, then type the same command again"
        ) from error
    except BaseException:
        cleanup()
        raise


# ---- weights --------------------------------------------------------------------------------------------------


def save_weights(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write one safetensors file; each value of `about` lies as JSON in its metadata."""
    temporary = path.with_name(f".{path.name}.tmp")
    metadata = {"animegen": __version__, **{key: json.dumps(value) for key, value in about.items()}}

    def write() -> None:
        _write_tensors(temporary, tensors, metadata)
        os.replace(temporary, path)

    _whole(write, lambda: temporary.unlink(missing_ok=True), str(path))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and `about` of a weights file; DataError when it is missing, damaged or no file of ours."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
    except FileNotFoundError:
        raise DataError(f"no weights at {path}", hint="check the path, or train first") from None
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{path} is damaged: {error}", hint="delete it; training writes it again at its next save"
        ) from error
    if "animegen" not in metadata:
        raise DataError(f"{path} was not written by animegen", hint="name a run folder or its weights.safetensors")
    return tensors, {key: json.loads(value) for key, value in metadata.items() if key != "animegen"}


# ---- training states ------------------------------------------------------------------------------------------


def save_state(folder: Path, parts: Parts, about: Mapping[str, Any]) -> None:
    """Write a complete state as `folder`: one file per part, and state.json with `about`, each file's checksum and its own."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)

    def write() -> None:
        temporary.mkdir(parents=True)
        sums = {}
        for name, tensors in parts.items():
            file = temporary / f"{name}.safetensors"
            _write_tensors(file, tensors)
            sums[file.name] = paths.sha256(file)
        state = {"version": STATE_VERSION, "animegen": __version__, **about, "files": sums}
        text = json.dumps(state | {"checksum": _checksum(state)}, indent=1)
        (temporary / "state.json").write_text(text, encoding="utf-8")
        _sync(temporary / "state.json")
        _sync(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
        _sync(folder.parent)

    _whole(write, lambda: shutil.rmtree(temporary, ignore_errors=True), f"the state {folder}")


def load_state(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Parts and `about` of a state.

    Raises:
        DataError: another version, a missing file, a checksum that does not match.
    """
    other = f"delete {folder} to go on from the state before it"
    try:
        about = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        checksum = about.pop("checksum", None)
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"the state {folder} is damaged: {error}", hint=other) from error
    if checksum != _checksum(about):
        raise DataError(f"the state {folder} is damaged: state.json does not match its own checksum", hint=other)
    if about.get("version") != STATE_VERSION:
        raise DataError(
            f"the state {folder} has version {about.get('version')}, this animegen ({__version__}) reads version {STATE_VERSION}",
            hint=f"install animegen {about.get('animegen')} to go on, or start anew with `--resume none --init-from RUN`",
        )
    parts = {}
    for name, expected in about["files"].items():
        file = folder / name
        if not file.is_file() or paths.sha256(file) != expected:
            raise DataError(
                f"the state {folder} is damaged: {name} is missing or does not match its checksum", hint=other
            )
        parts[file.stem] = load_file(file)
    return parts, about


def _checksum(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


# ---- optimizers -----------------------------------------------------------------------------------------------


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as named tensors, `<parameter index>.<entry>`; its settings come from the config."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value) for index, entry in state.items() for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`; tensors take their parameter's device and memory format."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
