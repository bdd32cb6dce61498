"""One process at a time in a run folder, on file systems with locks and without."""

from __future__ import annotations

import errno
import functools
import os
import socket
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from animegen_cli import console, disk
from animegen_cli.errors import DataError, MachineError
from animegen_cli.train import job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animegen_cli.paths import Run

LOCK = ".lock"
"""Locked by `flock` and holding the process's number, as in every earlier version: old and new keep each other out.

Where there is no `flock` it only says more of who has the soft lock: the SLURM job, if any, on a second line."""
SOFT_LOCK = ".lock.soft"
"""Where the file system knows no `flock`: a file that is there while its process works, with the number and host in it."""
_NO_FLOCK = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}
"""What `flock` says there: Lustre mounted without `flock`, NFS without a lock daemon, some FUSE and overlay systems."""


@contextmanager
def lock(run: Run) -> Iterator[None]:
    """Keep a second process out of the folder, which is made, and removed again when nothing came of it.

    Raises:
        DataError: another process trains there; the message names it.
        MachineError: the folder cannot be written or locked.
    """
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        held = _acquire(run)
    except OSError as error:
        raise MachineError(
            f"cannot write to {run.path}: {error.strerror or error}", hint="name another folder with `--out`"
        ) from error
    try:
        about = str(os.getpid())
        if isinstance(held, SoftFileLock):
            _note_soft_lock(run.path)
            about += f"\n{job.here() or ''}\n"
        with suppress(OSError):  # a full disk, of which the first file of the run will say more
            (run.path / LOCK).write_text(about, encoding="utf-8")
        yield
    finally:
        nothing = run.path.is_dir() and {file.name for file in run.path.iterdir()} <= {LOCK, SOFT_LOCK}
        if nothing:
            with suppress(PermissionError):  # Windows deletes no open file
                (run.path / LOCK).unlink(missing_ok=True)  # while it is held: whoever waits for it looks for a new one
        held.release()
        if nothing:
            with suppress(OSError):  # another process came in
                run.path.rmdir()


def is_locked(run: Run) -> bool:
    """Whether a process trains in the folder now. Makes no folder; MachineError where it cannot be looked at."""
    if not any((run.path / name).is_file() for name in (LOCK, SOFT_LOCK)):
        return False
    try:
        _acquire(run).release()
    except DataError:
        return True
    except OSError as error:
        raise MachineError(
            f"cannot lock {run.path / LOCK}: {error.strerror or error}", hint="name another folder with `--out`"
        ) from error
    return False


def knows_locks(folder: Path) -> bool:
    """Whether the folder's file system has `flock`; it is tried on a file that goes again. OSError where none can be written."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".animegen-") as inside:
        try:
            FileLock(Path(inside) / LOCK, timeout=0, fallback_to_soft=False).acquire().lock.release()
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            return False
    return True


def _acquire(run: Run) -> BaseFileLock:
    """Lock at once, by `flock` or, where the file system has none, by a file; DataError where another process has it."""
    by_kernel = FileLock(run.path / LOCK, timeout=0, fallback_to_soft=False)
    try:
        by_kernel.acquire()
    except Timeout:
        raise _in_use(run, run.path / LOCK) from None
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
    else:
        return by_kernel
    marker = run.path / SOFT_LOCK
    by_file = SoftFileLock(marker, timeout=0)
    for attempt in range(2):
        try:
            by_file.acquire()
        except Timeout:
            if attempt or not _break_abandoned(marker):
                raise _in_use(run, marker) from None
        else:
            break
    return by_file


def _in_use(run: Run, file: Path) -> DataError:
    number, host = _holder(file)
    if host is None or _is_here(host):
        return DataError(
            f"{run.path} is being trained by process {number or 'unknown'}",
            hint="wait for it, or train into another folder with `--out`",
        )
    return DataError(
        f"{run.path} is being trained by process {number} on {host.split('?')[0]}",
        hint=f"wait for it, or train into another folder with `--out`; if it was killed there, type `rm {file}`",
    )


def _holder(file: Path) -> tuple[str | None, str | None]:
    """(process number, host) that a lock says of itself; only soft ones name the host."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        lines = []
    number, host, *_ = [*lines, None, None]
    return number, host


def _is_here(host: str) -> bool:
    """Whether a host, as filelock writes it, is this machine; containers also name their own space of process numbers."""
    name = socket.gethostname()
    try:
        space = f"{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:
        space = ""
    return host in (name, f"{name}?pidns-{space}")


def _break_abandoned(marker: Path) -> bool:
    """Remove the soft lock of a process that is dead; whether there is none now.

    filelock does so itself where two names can be exchanged in one step, which Lustre and NFS cannot. Another host's
    processes cannot be seen from here, but SLURM knows whether their job is over, as after a node that failed; without
    a job such a lock stays until somebody who knows removes it.
    """
    number, host = _holder(marker)
    if number is None or host is None or not number.isdigit():
        return not marker.exists()
    if disk.is_alive(int(number)) if _is_here(host) else not _is_of_a_job_that_is_over(marker, number):
        return not marker.exists()
    aside = marker.with_name(f"{SOFT_LOCK}.{os.getpid()}")
    with suppress(FileNotFoundError):  # another process was faster
        marker.rename(aside)
        if _holder(aside) != (number, host):  # it was, and has the lock: give it back
            with suppress(OSError):
                os.link(aside, marker)
        aside.unlink()
    return not marker.exists()


def _is_of_a_job_that_is_over(marker: Path, number: str) -> bool:
    """Whether the process that has the soft lock worked in a SLURM job none of whose processes is left."""
    process, said = _holder(marker.with_name(LOCK))
    started = job.Job.read(said or "")
    return process == number and started is not None and started.is_over


@functools.cache
def _note_soft_lock(path: Path) -> None:
    """Said once for a folder."""
    console.note(f"the file system of {path} knows no locks; the file {SOFT_LOCK} keeps other processes out instead")
