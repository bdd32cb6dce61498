"""How a training is asked to stop: by the operating system, a cluster's scheduler or Ctrl-C."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from animegen_cli import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""What a scheduler sends before it kills (SIGTERM, or SIGUSR1 where it was told to), and Ctrl-C."""


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first signal of `STOPPING` into a request to stop after the step; a second Ctrl-C stops at once.

    Yields a function that says whether a stop was asked for. The handlers that were there before come back at the end.
    Only a process's main thread may set handlers, so in another thread nothing is caught and the answer stays False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and asked:
            raise KeyboardInterrupt
        asked.append(number)
        console.note("stopping after this step; the state will be saved")

    before = {number: signal.signal(number, ask) for number in STOPPING}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
