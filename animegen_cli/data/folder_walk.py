"""All files below a folder, through links to other folders too, in an order that the file system does not decide."""

from __future__ import annotations

import os
import stat
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OFTEN = 16  # times that one folder may be reached: links between folders have exponentially many paths


class Found(NamedTuple):
    """A file below the folder, or why a file or folder cannot be read."""

    name: str
    """Relative to the folder, with `/`; that of a folder ends so."""
    path: str
    size: int = 0
    reason: str | None = None
    """Why it cannot be read; None for a regular file."""


def walk(root: Path) -> Iterator[Found]:
    """Find the files below a folder. A link to a folder that holds the link is a loop, and is not followed.

    Raises:
        PermissionError: the folder itself cannot be read; those further down are among what is found.
    """
    os.scandir(root).close()
    start = len(os.path.join(root, ""))
    inside = root.resolve()
    chain = frozenset(_identity(os.stat(folder)) for folder in (inside, *inside.parents))
    times = Counter[tuple[int, int]]()
    todo = [(str(root), chain)]
    while todo:
        folder, chain = todo.pop()
        below: list[tuple[str, frozenset[tuple[int, int]]]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = slashes(entry.path[start:])
                    if (key := _folder_identity(entry)) is None:
                        yield _file(entry, name)
                    elif key in chain:
                        yield Found(f"{name}/", entry.path, reason="link loop")
                    elif entry.is_symlink() and times[key] >= _OFTEN:
                        yield Found(f"{name}/", entry.path, reason="link to a folder that many lead to")
                    else:
                        times[key] += 1
                        below.append((entry.path, chain | {key}))
        except OSError:
            yield Found(slashes(folder[start:]) + "/", folder, reason="folder without permission")
        todo += sorted(below, reverse=True, key=lambda pair: pair[0])


def slashes(path: str) -> str:
    """Give a path with `/` between its parts, whatever the system writes."""
    return path.replace(os.sep, "/")


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _folder_identity(entry: os.DirEntry[str]) -> tuple[int, int] | None:
    """What tells a folder from all others, whatever link leads to it; None for what is no folder."""
    try:
        return _identity(os.stat(entry.path)) if entry.is_dir() else None
    except OSError:  # such as a link to itself
        return None


def _file(entry: os.DirEntry[str], name: str) -> Found:
    try:
        status = entry.stat()
    except OSError as error:
        reason = "broken link" if entry.is_symlink() else f"unreadable: {(error.strerror or 'an error').lower()}"
        return Found(name, entry.path, reason=reason)
    if not stat.S_ISREG(status.st_mode):
        return Found(name, entry.path, reason="not a regular file")
    return Found(name, entry.path, status.st_size)
