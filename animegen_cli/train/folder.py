"""A run folder: what may change when training goes on, and what it says of its data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from animegen_cli.train import optim

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animegen_cli.config import RunConfig
    from animegen_cli.data.dataset import FaceSet
    from animegen_cli.model.family import DataSpec

# These may change when a run goes on; everything else decides its numbers.
_FREE = {
    "data", "about", "warning", "train.duration", "train.workers", "train.save_every", "train.keep", "train.preview_every",
    "train.preview", "train.log_every", "train.loggers",
}  # fmt: skip


def _flat(values: object, prefix: str = "") -> dict[str, object]:
    """A nested config as one level: `{"train.batch": 8}`."""
    if not isinstance(values, dict):
        return {prefix[:-1]: values}
    found: dict[str, object] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.")
    return found


def differences(old: Mapping[str, Any], new: RunConfig) -> list[str]:
    """List the settings that may not change on resume and do, one line each (`train.batch: 8 -> 16`).

    Args:
        old: the config of the run, keys by their present names.
        new: the config that was asked for.
    """
    before = _flat(dict(old))
    after = _flat(new.to_dict())
    free = set(_FREE)
    if any(optim.needs_end(section) for section in new.optim.values()):
        free.remove("train.duration")
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed if key not in free]


# ---- what the run says of itself --------------------------------------------------------------------------------


def data_about(faces: FaceSet, data: DataSpec) -> dict[str, Any]:
    """Return what run.json says of the training set."""
    return {
        "path": str(faces.path), "name": faces.name, "identity": faces.identity, "split": "train", "count": data.count,
        "size": data.size, "scaled_from": faces.size,
        "attributes": {name: list(values) for name, values in faces.attributes.items()},
    }  # fmt: skip
