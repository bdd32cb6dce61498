"""Every error that animegen raises on purpose, with its exit code and a hint that says what to type next.

AnimegenError            1   never raised itself: anything that is not below is a bug of ours
├── UsageError           2   the words on the command line
│   └── ConfigError      2   a preset, config file or `--set` value
├── DataError            3   pictures, archives, data sets, runs and saved states
├── DivergedError        4   a loss or gradient stopped being finite
├── MachineError         5   disk, memory, missing weights or extras
└── StoppedError        85   asked to stop by a signal; the run can be resumed
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def installable(text: str) -> str:
    """Return advice such as `pip install 'animegen[ui]'` by the folder that this package was installed from, where it was."""
    if "animegen[" not in text:
        return text
    import json
    from importlib import metadata
    from urllib.parse import unquote, urlsplit

    try:
        url = str(json.loads(metadata.distribution("animegen").read_text("direct_url.json") or "{}").get("url", ""))
    except (metadata.PackageNotFoundError, ValueError, OSError):
        url = ""
    folder = Path(unquote(urlsplit(url).path))
    return text.replace("animegen[", f"{folder}[") if url.startswith("file:") and folder.is_dir() else text


class AnimegenError(Exception):
    """An expected failure: one sentence that says what is wrong, and one that says what to type next."""

    exit_code = 1
    label = "error"
    """What stands before the message at a terminal."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Say what is wrong in `message`, one sentence, and what to type next in `hint`."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint and hasattr(self, "add_note"):  # Python 3.11: tracebacks in notebooks and scripts show it too
            self.add_note(hint)


class UsageError(AnimegenError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class ConfigError(UsageError):
    """A preset, a config file or an override holds a wrong key or value."""

    unknown: tuple[str, object] | None = None
    """The first key that is not known, as `train.epochs`, and its value; the command line knows words of other programs."""


class DataError(AnimegenError):
    """Pictures, archives, data sets, runs or states that cannot be used as they are."""

    exit_code = 3


class DivergedError(AnimegenError):
    """Training produced a value that is not finite; the last good state stays on disk."""

    exit_code = 4


class MachineError(AnimegenError):
    """The machine lacks something: disk space, memory, a weights file, an optional package."""

    exit_code = 5


class StoppedError(AnimegenError):
    """A signal asked the command to stop; everything needed to go on is saved. The message says what is, and needs no `stopped`."""

    exit_code = 85
    label = "stopped"


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's own, or what torch, on any device, and libraries that are loaded
    make of it."""
    said = (
        "allocate memory",
        "not enough memory",
        "bad_alloc",
        "bad allocation",
        "out of memory",
        "failed to map segment",
    )
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError | OSError) and any(words in str(error).lower() for words in said)
    )


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` most probably means, or None when nothing is close."""
    found = difflib.get_close_matches(word.lower(), list(choices), n=1, cutoff=0.5)
    return found[0] if found else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint for a mistyped `word`: the nearest of `choices`, else the list of all."""
    choices = sorted(choices)
    close = nearest(word, choices)
    if close:
        return f"did you mean `{close}`?"
    return "choose one of " + ", ".join(f"`{choice}`" for choice in choices) if choices else "there are none yet"
