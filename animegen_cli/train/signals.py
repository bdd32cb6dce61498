"""How a training is asked to stop: by the operating system, a cluster's scheduler or Ctrl-C."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from animegen_cli import console
from animegen_cli.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGINT") if hasattr(signal, name))
"""What a scheduler sends before it kills (SIGTERM, or SIGUSR1 where it was told to), what submitit and Hydra send, and Ctrl-C;
Windows has only the first and the last."""

_asked: list[int] | None = None
"""The signals that came while they were caught; None while they are not."""
_at_once: list[StoppedError] = []
"""What a signal raises at once, instead of waiting to be asked for; empty for most of a training."""


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first signal of `STOPPING` into a request to stop; a second Ctrl-C stops at once, further ones do nothing.

    Yields a function that says whether a stop was asked for. Within another `stop_signals` it yields the same function, so that
    a stop is known wherever it came. The handlers that were there before come back at the end. Only a process's main thread may
    set handlers, so in another thread nothing is caught and the answer stays False.
    """
    global _asked
    if _asked is not None:
        yield _was_asked
        return
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = _asked = []

    def ask(number: int, _: FrameType | None) -> None:
        asked.append(number)
        if number == signal.SIGINT and asked[1:].count(signal.SIGINT) == 1:
            raise KeyboardInterrupt
        if _at_once:
            raise _at_once[-1]
        if len(asked) == 1:
            console.note("stopping; the state will be saved")

    before = {number: signal.signal(number, ask) for number in STOPPING}
    try:
        yield _was_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked = None


@contextmanager
def raising(error: StoppedError) -> Iterator[None]:
    """Let a stop end the block at once with `error`, also one that was asked for before: for long work that may be lost."""
    if _was_asked():
        raise error
    _at_once.append(error)
    try:
        yield
    finally:
        _at_once.pop()


def _was_asked() -> bool:
    return bool(_asked)


def check_stop(stop: Callable[[], bool]) -> None:
    """StoppedError where a stop was asked for before the training began; nothing is lost yet."""
    if stop():
        raise StoppedError("before the first step, so nothing was lost", hint="type the same command again to go on")
