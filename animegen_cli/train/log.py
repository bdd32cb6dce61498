"""log.jsonl: one JSON object per line with a checksum, cut back on resume so that no line is ahead of the state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from animegen_cli import console, disk

if TYPE_CHECKING:
    from pathlib import Path

    from torch.utils.tensorboard import SummaryWriter


class Log:
    """Appends to log.jsonl and, where TensorBoard is installed, to its event files."""

    def __init__(self, path: Path, *, images: int) -> None:
        """Open the log at `path` and drop its lines after `images` images seen."""
        self.path = path
        _cut(path, images)
        self._file = path.open("a", encoding="utf-8")
        self._events = _event_writer(path.parent, images)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one line; numbers also become TensorBoard scalars over `entry["images"]`, the images seen."""
        self._file.write(disk.to_line(entry))
        self._file.flush()
        if self._events is not None:
            for name, value in _scalars(entry):
                self._events.add_scalar(name, value, entry["images"])

    def close(self) -> None:
        """Flush to the disk and close."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._events is not None:
            self._events.close()


def _cut(path: Path, images: int) -> None:
    """Drop what was logged after the state that training goes on from, and lines that are damaged; the others stay as they are."""
    if not path.is_file():
        return
    kept, damaged = [], 0
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    for number, line in enumerate(lines):
        try:
            if float(disk.from_line(line.rstrip("\n"))["images"]) <= images:
                kept.append(line if line.endswith("\n") else line + "\n")
        except (ValueError, TypeError, KeyError):
            damaged += number < len(lines) - 1 or line.endswith(
                "\n"
            )  # a kill cuts the last one short, which is no news
    if damaged:
        console.warn(f"{damaged} damaged line{'s' * (damaged > 1)} of {path} left out")
    disk.write_text(path, "".join(kept))


def _event_writer(folder: Path, images: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=images + 1)


def _scalars(entry: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in entry.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name not in ("images", "step"):
            found.append((prefix + name, float(value)))
    return found
