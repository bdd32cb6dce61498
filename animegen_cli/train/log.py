"""log.jsonl: one JSON object per line with a checksum, cut back on resume so that no line is ahead of the state."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from animegen_cli import console, disk
from animegen_cli.train.loggers import Loggers, numbers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MOST_BYTES = 32 * 2**20
"""Of a log. One that grows beyond goes on with half of its lines: a month of training has curves of 45,000 points at least,
in one file that reports read in seconds."""


class Log:
    """Appends to log.jsonl, and hands numbers and pictures on to the run's loggers."""

    def __init__(
        self, path: Path, *, images: int, size: int | None = None, config: Mapping[str, Any] | None = None
    ) -> None:
        """Open the log at `path` and drop its lines after `images` images seen.

        Args:
            path: in the run's folder.
            images: seen by the state that training goes on from.
            size: bytes that the log had then, where lines of as many images follow that are to be made again.
            config: the run's, whose `train.loggers` names the loggers; none without it.
        """
        self.path = path
        if size is not None and path.is_file() and path.stat().st_size > size:
            os.truncate(path, size)
        heard = _cut(path, images)
        self._file = path.open("a", encoding="utf-8")
        names = config["train"]["loggers"] if config else ()
        self._loggers = Loggers(names, path.parent, images=images, heard=heard, config=config or {})

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one line; the loggers get its numbers over `entry["images"]`, the images seen."""
        self._file.write(disk.to_line(entry))
        self._file.flush()
        if self._file.tell() > MOST_BYTES:
            self._thin()
        found = numbers(entry)
        if found:
            self._loggers.scalars(found, entry["images"])

    def size(self) -> int:
        """Bytes so far."""
        return self._file.tell()

    def picture(self, name: str, file: Path, images: int) -> None:
        """Hand a PNG file on to the loggers."""
        self._loggers.picture(name, file, images)

    def _thin(self) -> None:
        """Leave out half of the lines of losses, so that the others are evenly spread; what was found and validated stays."""
        self._file.close()
        lines = _entries(self.path)
        losses = [entry["images"] for _, entry in lines if entry and "lr" in entry]
        share = 2 * max(losses[-1], 1) / len(losses)  # images of one line that stays
        kept, taken = [], -1
        for line, entry in lines:
            if entry and "lr" in entry:
                if entry["images"] // share == taken:
                    continue
                taken = entry["images"] // share
            kept.append(line)
        disk.write_text(self.path, "".join(kept))
        self._file = self.path.open("a", encoding="utf-8")

    def close(self, state: str) -> None:
        """Flush to the disk and close; the loggers are told the run's state."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._loggers.close(state)


def _cut(path: Path, images: int) -> int:
    """Drop what was logged after the state that training goes on from, and lines that are damaged; the others stay as they are.

    Returns:
        Images of the last line that was there.
    """
    if not path.is_file():
        return 0
    lines = _entries(path)
    kept = [line for line, entry in lines if entry is not None and entry["images"] <= images]
    # A kill cuts the last line short, which is no news.
    damaged = sum(entry is None for _, entry in lines[:-1]) + sum(
        entry is None and line.endswith("\n") for line, entry in lines[-1:]
    )
    if damaged:
        console.warn(f"{damaged} damaged line{'s' * (damaged > 1)} of {path} left out")
    disk.write_text(path, "".join(kept))
    return int(max((entry["images"] for _, entry in lines if entry), default=0))


def _entries(path: Path) -> list[tuple[str, dict[str, Any] | None]]:
    """Each line of a log with its end, and what it holds; None for a damaged one."""
    found: list[tuple[str, dict[str, Any] | None]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        entry: dict[str, Any] | None
        try:
            entry = disk.from_line(line.rstrip("\n"))
            entry["images"] = float(entry["images"])
        except (ValueError, TypeError, KeyError, OverflowError):
            entry = None
        found.append((line if line.endswith("\n") or entry is None else line + "\n", entry))
    return found
