"""Machines that lack something: memory, room, a home, a name for the user. Exit code 5 and a hint, or no matter at all."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest
from chain import start, train_words

from animegen_cli import disk
from animegen_cli.cli import errors
from animegen_cli.errors import MachineError, lacks_memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def limited(kind: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (most, most))


@pytest.mark.parametrize(
    ("kind", "most", "said"),
    [(resource.RLIMIT_AS, 2**30, "not enough memory"), (resource.RLIMIT_FSIZE, 20 * 2**10, "File too large")],
    ids=["memory", "file size"],
)
def test_a_limit_of_the_machine_ends_a_training_with_code_5(
    kind: int, most: int, said: str, faces: Path, tmp_path: Path
) -> None:
    words = train_words("ddpm", faces, tmp_path / "run", duration="8 images")
    with start(*words, preexec_fn=limited(kind, most)) as process:
        error = process.communicate(timeout=200)[1]
    assert process.returncode == 5
    assert said in error
    assert "Traceback" not in error
    assert error.rstrip().splitlines()[-1].startswith("  ")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("std::bad_alloc"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
    ids=["python", "torch", "C++", "import"],
)
def test_memory_that_runs_out_is_known_by_all_its_names(error: Exception) -> None:
    assert lacks_memory(error)
    assert isinstance(errors.explained(error), MachineError)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert not lacks_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert errors.explained(RuntimeError("shape")) is None


def test_without_any_temporary_folder_the_variable_to_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(FileNotFoundError) as caught:
        tempfile.gettempdir()
    found = errors.explained(caught.value)
    assert isinstance(found, MachineError)
    assert "TMPDIR" in (found.hint or "")


def test_a_write_that_fails_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "sync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        disk.write_text(tmp_path / "table.md", "x")
    assert caught.value.filename == str(tmp_path / "table.md")
    assert not list(tmp_path.iterdir())
    found = errors.explained(caught.value)
    assert isinstance(found, MachineError)
    assert "table.md" in found.message


TAKES = """
import resource, sys, torch
from animegen_cli.device import keep_freed_memory
kept = sys.argv[1] == "keep" and keep_freed_memory()
def work():
    for _ in range(20):
        torch.empty(10_000_000).fill_(1)  # 40 MB, given back at once
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="glibc alone"
)
def test_freed_memory_is_not_taken_anew_page_by_page() -> None:
    def faults(word: str) -> tuple[str, int]:
        ended = subprocess.run(
            [sys.executable, "-c", TAKES, word], capture_output=True, text=True, check=True, env=os.environ
        )
        kept, count = ended.stdout.split()
        return kept, int(count)

    kept, few = faults("keep")
    _, many = faults("leave")
    assert kept == "True"
    assert many > 20 * few, (few, many)
