"""A disk that is full at some write, a set that is replaced under a run, a clock that is set back, numbers that are none."""

from __future__ import annotations

import errno
import os
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest import mock

from chain import assert_same_state, assert_same_tensors, done, here, train_words

from animegen_cli import disk
from animegen_cli.model import checkpoint
from animegen_cli.paths import Run
from animegen_cli.train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGES = "48 images"


def _words(data: Path, out: Path, *more: object) -> list[str]:
    return train_words("ddpm", data, out, "--set", "train.save_every=16 images", *more, duration=IMAGES)


class _Full:
    """Stands before a function that waits for the disk; from the call with some number on the disk is full."""

    def __init__(self, first: int) -> None:
        self.calls = 0
        self.first = first

    def __call__(self, path: Path) -> None:
        self.calls += 1
        if self.calls >= self.first:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@contextmanager
def _full_from(call: int) -> Iterator[_Full]:
    full = _Full(call)
    with mock.patch.object(disk, "sync", full):
        yield full


def writes_of(data: Path, work: Path) -> int:
    """How often a training waits for the disk; makes the run `work`/whole that others are held against."""
    with _full_from(10**9) as counted:
        done(*_words(data, work / "whole"))
    return counted.calls


def fill(data: Path, work: Path, call: int) -> list[str]:
    """Train on a disk that is full from one write on, make room, and train on: what was wrong with that, in words."""
    run, wrong = work / "filled", []
    shutil.rmtree(run, ignore_errors=True)
    with _full_from(call):
        answer = here(*_words(data, run))
    if answer.code not in (0, 5) or "Traceback" in answer.err or (answer.code == 5 and "\n  " not in answer.err):
        wrong.append(f"full at write {call}: exit code {answer.code}: {answer.err[-300:]}")
    if run.exists() and (half := list(run.rglob(".*.tmp"))):
        wrong.append(f"full at write {call}: {half[0]} stays")
    answer = here(*_words(data, run))
    if answer.code:
        return [*wrong, f"after a disk full at write {call}: exit code {answer.code}: {answer.err[-300:]}"]
    try:
        assert_same_state(run, work / "whole")
    except AssertionError as error:
        wrong.append(f"after a disk full at write {call}: another run: {str(error)[:200]}")
    return wrong


def replace_set(data: Path, work: Path) -> list[str]:
    """Another set takes the place of a run's: the run does not go on with it, and goes on when it is back."""
    path, run = work / "own.zip", work / "replaced"
    shutil.copy(data, path)
    done(*_words(path, run))
    kept = path.read_bytes()
    done("prepare", "demo", "--resolution", 16, "--limit", 30, "--workers", 1, "--out", path)
    answer = here("train", "--resume", run, "--duration", "64 images", "--device", "cpu")
    wrong = (
        [] if answer.code == 2 and "other pictures" in answer.err else [f"another set is taken: {answer.err[-300:]}"]
    )
    path.write_bytes(kept)
    done("train", "--resume", run, "--duration", "64 images", "--device", "cpu")
    return wrong


def turn_back_the_clock(data: Path, work: Path) -> list[str]:
    """A day's clock that jumps back during a training changes nothing of it."""
    now, calls = time.time, iter(range(10**9))

    def jumping() -> float:
        return now() - 90_000 * (next(calls) % 3)

    with mock.patch.object(time, "time", jumping):
        done(*_words(data, work / "back"))
    try:
        assert_same_state(work / "back", work / "whole")
    except AssertionError as error:
        return [f"another run when the clock is set back: {str(error)[:200]}"]
    return []


def diverge(data: Path, work: Path) -> list[str]:
    """Losses that stop being finite end a training with code 4, and what was saved before stays as it was."""
    run, wrong = work / "diverged", []
    done(*_words(data, run))
    before, _ = checkpoint.load_weights(Run(run).weights)
    for value in (float("nan"), float("inf")):
        # The images as a loss sees them.
        with mock.patch.object(Trainer, "_pixels", lambda _, images, value=value: images.float() * value):
            answer = here("train", "--resume", run, "--duration", "96 images", "--device", "cpu")
        if answer.code != 4:
            wrong.append(f"a loss of {value} ends with exit code {answer.code}: {answer.err[-300:]}")
        assert_same_tensors(before, checkpoint.load_weights(Run(run).weights)[0])
    return wrong
