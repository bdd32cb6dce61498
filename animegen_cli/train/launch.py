"""`--nproc`: the same command in several processes on this machine. Light: nothing here loads networks."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from animegen_cli import console
from animegen_cli.errors import MachineError, StoppedError
from animegen_cli.ranks import MEETING, cores
from animegen_cli.train.signals import STOPPING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

GRACE = 60.0
"""Seconds that the others have to end after one has failed, before they are killed."""
PARENT = "ANIMEGEN_PARENT"
"""Where a process that works for the one that started it finds that one's number."""
_PR_SET_PDEATHSIG = 1


def is_launched() -> bool:
    """Whether `launch` has started this process, or another launcher that says its place as `torchrun` does."""
    return MEETING in os.environ or "RANK" in os.environ


def launch(words: Sequence[str], nproc: int, *, results: int | None = None, grace: float = GRACE) -> int:
    """Run `animegen WORDS` in `nproc` processes that work together, and wait for them; returns the exit code of the command.

    What asks to stop is passed on, so that they save and end with 85, and so does this one. Where one fails or is killed the
    others end too. Only the first one prints; the others say nothing but errors.

    Args:
        words: the command's, without its name.
        nproc: how many processes.
        results: number of the open file where the first one's result goes; to standard output when None.
        grace: seconds that the others have to end after one has failed.

    Raises:
        MachineError: one was killed.
    """
    with tempfile.TemporaryDirectory(prefix="animegen-") as folder:
        common = os.environ | {
            MEETING: str(Path(folder) / "meeting"),
            "WORLD_SIZE": str(nproc),
            PARENT: str(os.getpid()),
        }
        common.setdefault("OMP_NUM_THREADS", str(max(1, cores() // nproc)))
        common.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine; its own name need not lead anywhere
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "animegen_cli", *words],
                env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.DEVNULL,
                stdout=results if rank == 0 else subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches them through us alone, once
            )
            for rank in range(nproc)
        ]

        def pass_on(number: int, _: FrameType | None) -> None:
            for process in processes:
                if process.poll() is None:
                    process.send_signal(number if sys.platform != "win32" else signal.SIGTERM)  # the only one there

        before = {number: signal.signal(number, pass_on) for number in STOPPING}
        try:
            codes = _wait(processes, grace)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)
    for rank, code in enumerate(codes):
        if code < 0:
            raise MachineError(
                f"process {rank} of {nproc} was ended by {signal.Signals(-code).name}; what is saved is whole",
                hint="type the same command again to go on",
            )
    return next((code for code in codes if code not in (0, StoppedError.exit_code)), codes[0])


def _wait(processes: Sequence[subprocess.Popen[bytes]], grace: float) -> list[int]:
    """Wait for all; where one fails, the others notice and end, and those that do not are killed and count as 0."""
    codes: dict[int, int] = {}
    deadline = float("inf")
    while len(codes) < len(processes):
        for rank, process in enumerate(processes):
            if rank in codes or process.poll() is None:
                continue
            code = process.returncode
            codes[rank] = code
            if code not in (0, StoppedError.exit_code) and deadline == float("inf"):
                deadline = time.monotonic() + grace
        if time.monotonic() > deadline:
            for rank, process in enumerate(processes):
                if rank not in codes:
                    console.note(f"process {rank} did not end by itself and is killed")
                    process.kill()
                    process.wait()
                    codes[rank] = 0  # what failed before says why
        time.sleep(0.05)
    return [codes[rank] for rank in range(len(processes))]


def end_with_parent() -> None:
    """Let the system kill this process when the one that launched it dies, however it dies (Linux).

    Else it would work on unseen, and hold the run's folder against the next try.
    """
    parent = os.environ.get(PARENT)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if str(os.getppid()) != parent:  # it was gone before
        os.kill(os.getpid(), signal.SIGKILL)
