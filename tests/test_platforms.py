"""macOS and Windows, as far as they can be checked without them: the package works where what only POSIX has is hidden."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import TYPE_CHECKING

import pytest
import torch
from chain import ROOT

from animegen_cli import device

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = r"""
import importlib, os, pkgutil, signal, sys, warnings
from pathlib import Path

warnings.simplefilter("ignore")
import animegen_cli
names = [m.name for m in pkgutil.walk_packages(animegen_cli.__path__, "animegen_cli.") if not m.name.endswith("__main__")]
for name in names:  # with all that they need from elsewhere, which knows its own platforms
    importlib.import_module(name)
for name in [name for name in sys.modules if name.partition(".")[0] == "animegen_cli"]:
    del sys.modules[name]
for name in ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for place, names_there in (
    (os, "sched_getaffinity sched_setaffinity getuid geteuid getgid killpg getpgid setsid fork statvfs sysconf uname mkfifo chown"),
    (signal, "SIGUSR1 SIGUSR2 SIGKILL SIGHUP SIGQUIT SIGCONT SIGCHLD SIGALRM SIGPIPE pthread_sigmask setitimer alarm sigwait"),
):
    for name in names_there.split():
        if hasattr(place, name):
            delattr(place, name)
for name in names:
    importlib.import_module(name)

import torch
from animegen_cli import device, disk, paths, ranks
from animegen_cli.paths import Run
from animegen_cli.train import lock, signals

assert ranks.cores() >= 1
assert device.peak_memory(torch.device("cpu")) is None
assert device.machine_about(torch.device("cpu"))["device"] == "cpu"
assert device.free_memory(torch.device("cpu")) > 0
assert disk.is_alive(os.getpid())
with signals.stop_signals() as stop:
    assert not stop()
run = Run(Path("run"))
with lock.lock(run):
    (run.path / "run.json").write_text("{}")
assert not lock.is_locked(run)
with disk.only_one(Path("file")):
    disk.write_text(Path("file"), "whole")
assert paths.cache()
print(len(names))
"""
"""The program: what it cannot do without, it would lack on Windows."""


def test_every_module_is_imported_and_files_are_locked_without_what_only_posix_has(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HIDDEN], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert int(ended.stdout) > 200


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes_on_either_system(system: str, unit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: types.SimpleNamespace(ru_maxrss=3_000_000))
    monkeypatch.setitem(sys.modules, "resource", fake)
    monkeypatch.setattr(device, "sys", types.SimpleNamespace(platform=system))
    assert device.peak_memory(torch.device("cpu")) == 3_000_000 * unit


def test_the_table_of_platforms_says_what_was_run() -> None:
    page = (ROOT / "docs" / "platforms.md").read_text(encoding="utf-8")
    for system in ("Linux", "macOS", "Windows"):
        assert f"| {system}" in page
