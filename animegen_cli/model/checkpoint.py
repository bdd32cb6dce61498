"""Weights that describe themselves, and complete training states: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from animegen_cli import __version__, disk
from animegen_cli.errors import DataError, MachineError

if TYPE_CHECKING:
    from pathlib import Path

STATE_VERSION = 1
Parts = Mapping[str, Mapping[str, Tensor]]


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU: safetensors refuses channels_last and shared storage."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def write_tensors(path: Path, plain: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the rights that the umask gives, and wait until it is on the disk.

    Args:
        path: a temporary name (`disk.replacing`).
        plain: contiguous tensors on the CPU that share no storage.
        metadata: what the file says of itself.
    """
    with path.open("wb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    save_file(plain, path, metadata)
    path.chmod(mode)  # safetensors' own are for their owner's eyes alone, whatever the umask says
    disk.sync(path)


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

_KEY = "animegen"
"""Where the metadata of a weights file holds all that we say of it: one key, as safetensors orders several at random."""


def save_weights(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write one safetensors file; its metadata holds `about` as JSON, with a checksum of both.

    Equal tensors and an equal `about` give equal bytes.
    """
    plain = _plain(tensors)
    head = {"version": __version__, "about": dict(about), "tensors": _digest(plain)}
    metadata = {_KEY: json.dumps(disk.sealed(head))}  # in its own order, which is that of label columns

    def write() -> None:
        with disk.replacing(path) as temporary:
            write_tensors(temporary, plain, metadata)

    _whole(write, lambda: None, str(path))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and `about` of a weights file.

    Raises:
        DataError: it is missing, damaged in any byte, or no file of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        if _KEY not in metadata:
            raise DataError(f"{path} was not written by animegen", hint="name a run folder or its weights.safetensors")
        return tensors, _about(metadata, tensors)
    except FileNotFoundError:
        raise DataError(f"no weights at {path}", hint="check the path, or train first") from None
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged: {error}", hint="delete it; training writes it again at its next save"
        ) from error


def identity(path: Path) -> str:
    """The first 16 hex digits of the hash of a weights file's tensors, by which a picture knows the run that drew it.

    Reads the head of the file alone, whose hash `load_weights` checks; a file of an earlier version is read whole.

    Raises:
        DataError: it is missing, damaged, or no file of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            head = (file.metadata() or {}).get(_KEY, "")
        found = disk.parse_json(head).get("tensors") if head.startswith("{") else None
    except (OSError, SafetensorError, ValueError, AttributeError):
        found = None
    return (found if isinstance(found, str) else _digest(load_weights(path)[0]))[:16]


def _about(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a weights file says of itself; ValueError where file and checksum differ."""
    if not metadata[_KEY].startswith("{"):  # an earlier version: a key for each value, and no checksum
        return {key: disk.parse_json(value) for key, value in metadata.items() if key != _KEY}
    head = disk.parse_json(metadata[_KEY])
    if "checksum" not in head or disk.unsealed(head)["tensors"] != _digest(tensors):
        raise ValueError("its tensors do not match their checksum")
    return dict(head["about"])


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, types, shapes and values of plain tensors on the CPU, whatever their order."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


# ---- training states ------------------------------------------------------------------------------------------


class DamagedState(DataError):
    """A training state that was changed or cut short after it was written: the one before it may be whole."""


def save_state(folder: Path, parts: Parts, about: Mapping[str, Any]) -> None:
    """Write a complete state as `folder`: one file per part, and state.json with `about`, each file's checksum and its own."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)

    def write() -> None:
        temporary.mkdir(parents=True)
        sums = {}
        for name, tensors in parts.items():
            file = temporary / f"{name}.safetensors"
            write_tensors(file, _plain(tensors))
            sums[file.name] = disk.sha256(file)
        state = {"version": STATE_VERSION, "animegen": __version__, **about, "files": sums}
        disk.write_json(temporary / "state.json", state, seal=True)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
        disk.sync(folder.parent)

    _whole(write, lambda: shutil.rmtree(temporary, ignore_errors=True), f"the state {folder}")


def update_state(folder: Path, about: Mapping[str, Any]) -> None:
    """Write `about` anew into a state whose tensors stay; whole or not at all. DamagedState where it cannot be read any more."""
    file = folder / "state.json"
    try:
        values = disk.unsealed(disk.parse_json(file.read_bytes())) | dict(about)
    except (OSError, ValueError, TypeError) as error:
        raise DamagedState(f"the state {folder} is damaged: {error}", hint=f"delete {folder}") from error
    _whole(lambda: disk.write_json(file, values, seal=True), lambda: None, f"the state {folder}")


def load_state(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Parts and `about` of a state.

    Raises:
        DamagedState: a file is missing, or does not match its checksum.
        DataError: it is of another version.
    """
    other = f"delete {folder} to go on from the state before it"
    try:
        text = (folder / "state.json").read_bytes()
        about = disk.parse_json(text)
        if "checksum" not in about:
            raise ValueError("state.json has no checksum")
        about = disk.unsealed(about)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DamagedState(f"the state {folder} is damaged: {error}", hint=other) from error
    if about.get("version") != STATE_VERSION:
        raise DataError(
            f"the state {folder} has version {about.get('version')}, this animegen ({__version__}) reads version {STATE_VERSION}",
            hint=f"install animegen {about.get('animegen')} to go on, or start anew with `--resume none --init-from RUN`",
        )
    parts, files = {}, about.get("files")
    if not isinstance(files, dict):
        raise DamagedState(f"the state {folder} is damaged: state.json names no files", hint=other)
    for name, expected in files.items():
        file = folder / name
        if file.name != name or not _is_whole(file, expected):
            raise DamagedState(
                f"the state {folder} is damaged: {name} is missing or does not match its checksum", hint=other
            )
        parts[file.stem] = load_file(file)
    return parts, about


def _is_whole(file: Path, checksum: object) -> bool:
    try:
        return file.suffix == ".safetensors" and file.is_file() and disk.sha256(file) == checksum
    except OSError:  # such as a name that is too long
        return False


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
