"""A run folder in use: who holds it, what may change when training goes on, what it says of itself."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from animegen_cli.errors import DataError, MachineError
from animegen_cli.train import optim

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from animegen_cli.config import RunConfig
    from animegen_cli.data.dataset import FaceSet
    from animegen_cli.model.family import DataSpec
    from animegen_cli.paths import Run

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
