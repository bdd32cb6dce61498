"""One process per run folder: by the kernel's locks, by a file where there are none, and after a kill."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from chain import ROOT
from filelock import SoftFileLock

from animegen_cli.errors import DataError, MachineError
from animegen_cli.paths import Run
from animegen_cli.train.lock import is_locked, lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A process that locks a folder, says so, and works until its input ends. Its second word makes `flock` fail.
HOLDER = """
import fcntl, os, sys
from pathlib import Path
if sys.argv[2] != "0":
    def without(*_):
        raise OSError(int(sys.argv[2]), os.strerror(int(sys.argv[2])))
    fcntl.flock = without
from animegen_cli.paths import Run
from animegen_cli.train.lock import lock
with lock(Run(Path(sys.argv[1]))):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder: Path, error: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Another process that trains in the folder, on a file system whose `flock` fails with `error`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(error)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


def without_flock(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """Fault injection: `flock` fails as on a file system that has none, since no such system is at hand."""

    def fail(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", fail)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


def test_a_second_process_is_refused_and_told_which_is_there(run: Run) -> None:
    with held(run.path) as process:
        assert is_locked(run)
        with pytest.raises(DataError, match=f"trained by process {process.pid}\n"), lock(run):
            pytest.fail("two processes in one folder")
        assert (run.path / ".lock").read_text() == str(process.pid), "being refused must not change what others read"
    assert not is_locked(run)


def test_a_lock_of_an_earlier_version_counts(run: Run) -> None:
    """They held the same file by `flock`, with nothing but their number in it."""
    run.path.mkdir()
    with (run.path / ".lock").open("w") as file:
        file.write("4711")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_locked(run)
        with pytest.raises(DataError, match="process 4711"), lock(run):
            pytest.fail("two processes in one folder")
    assert not is_locked(run)  # only its file is left
    with lock(run):
        assert (run.path / ".lock").read_text() == str(os.getpid())


def test_a_folder_that_came_to_nothing_is_removed_and_any_other_stays(run: Run) -> None:
    with lock(run):
        assert run.path.is_dir()
    assert not run.path.exists()
    with lock(run):
        run.log.write_text("")
    assert sorted(file.name for file in run.path.iterdir()) == [".lock", "log.jsonl"]


def test_looking_for_a_lock_makes_nothing(run: Run) -> None:
    assert not is_locked(run)
    assert not run.path.exists()
    run.path.mkdir()
    assert not is_locked(run)
    assert list(run.path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot write to"), lock(Run(tmp_path / "file" / "run")):
        pytest.fail("a folder in a file")
    without_flock(monkeypatch, errno.EIO)  # a lock that fails on a system that has locks
    with pytest.raises(MachineError, match=os.strerror(errno.EIO)), lock(Run(tmp_path / "run")):
        pytest.fail("locked by a broken disk")


# ---- file systems without flock -------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_without_flock_a_file_is_the_lock(
    error: int, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_flock(monkeypatch, error)
    for _ in range(2):
        with lock(run):
            assert (run.path / ".lock.soft").read_text().split()[0] == str(os.getpid())
            assert is_locked(run)
            with pytest.raises(DataError, match=f"trained by process {os.getpid()}\n"), lock(run):
                pytest.fail("two in one folder")
            run.log.write_text("")
        assert not (run.path / ".lock.soft").exists()
        assert not is_locked(run)
    assert capsys.readouterr().err.count("knows no locks") == 1


def test_without_flock_a_folder_that_came_to_nothing_is_removed_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    without_flock(monkeypatch, errno.ENOSYS)
    with lock(run):
        assert run.path.is_dir()
    assert not run.path.exists()


@pytest.mark.parametrize("exchange", [True, False], ids=["names-can-be-exchanged", "as-on-lustre"])
def test_what_a_killed_process_left_is_taken_over(run: Run, exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    without_flock(monkeypatch, errno.ENOSYS)
    if not exchange:  # filelock gives up where the file system cannot exchange two names
        monkeypatch.setattr(SoftFileLock, "_try_break_stale_lock", lambda _: None)
    with held(run.path, errno.ENOSYS) as process:
        with pytest.raises(DataError, match=f"process {process.pid}\n"), lock(run):
            pytest.fail("two processes in one folder")
        process.kill()
        assert process.wait(timeout=60) == -signal.SIGKILL
    assert (run.path / ".lock.soft").is_file()
    assert not is_locked(run)
    with lock(run):
        assert (run.path / ".lock.soft").read_text().split()[0] == str(os.getpid())
    assert not run.path.exists()


def test_another_hosts_lock_stays_and_says_how_to_end_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a process of another machine lives cannot be seen from here."""
    without_flock(monkeypatch, errno.ENOLCK)
    run.path.mkdir()
    marker = run.path / ".lock.soft"
    marker.write_text(f"{2**22 + 1}\nnot-{socket.gethostname()}\n")
    assert is_locked(run)
    with pytest.raises(DataError, match=f"process {2**22 + 1} on not-{socket.gethostname()}") as caught, lock(run):
        pytest.fail("took another host's lock")
    assert f"rm {marker}" in str(caught.value.hint)
    marker.unlink()
    with lock(run):
        assert marker.is_file()


def test_the_lock_of_another_hosts_job_goes_with_the_job(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A job that SLURM starts again, after a node failed, finds the lock that it had there."""
    without_flock(monkeypatch, errno.ENOSYS)
    for name, value in (("CLUSTER_NAME", "c"), ("JOB_ID", "7"), ("RESTART_COUNT", "1")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", str(tmp_path))  # SLURM cannot be asked
    run.path.mkdir()
    marker = run.path / ".lock.soft"
    marker.write_text(f"4711\nnot-{socket.gethostname()}\n")
    for other in ("", "12", "c/7/1", "c/8/0", "d/7/0"):
        (run.path / ".lock").write_text(f"4711\n{other}\n")
        assert is_locked(run), f"nobody knows that {other or 'a process without a job'} is over"
    (run.path / ".lock").write_text("4712\nc/7/0\n")
    assert is_locked(run), "that was another process"
    (run.path / ".lock").write_text("4711\nc/7/0\n")
    with lock(run):
        assert marker.read_text().split()[0] == str(os.getpid())
        assert (run.path / ".lock").read_text().split() == [str(os.getpid()), "c/7/1"]
