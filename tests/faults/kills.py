"""Trainings that are killed at random moments, many of them inside a save, end with every bit of one that nobody disturbed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chain import assert_same_run, assert_same_tensors, here, newest, train_words

from animegen_cli.model import checkpoint
from animegen_cli.paths import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FAMILIES = ("ddpm", "stylegan2", "gan", "vae")
IMAGES = 240
"""Of a training: thirty steps, each with a save."""


@dataclass
class Kills:
    """What came of the killed trainings of one family."""

    killed: int = 0
    inside: int = 0
    """How many kills left a save half done."""
    runs: int = 0
    """Trainings that came to their end after all; each is held against the undisturbed one."""
    wrong: list[str] = field(default_factory=list)


def _words(family: str, data: Path, out: Path, processes: int, parts: int) -> list[str]:
    more: Sequence[object] = ("--nproc", processes) if processes > 1 else ()
    more = (*more, "--parts", parts) if parts > 1 else more
    saves = ("--set", "train.save_every=1 step", "--set", "train.preview_every=80 images")
    return train_words(family, data, out, *saves, *more, duration=f"{IMAGES} images")


def _started(words: Sequence[str], said: Path) -> int:
    """The number of a process of its own group that runs a command; forked, since importing torch takes seconds."""
    number = os.fork()
    if number:
        return number
    try:
        os.setsid()
        answer = here(*words)
        said.write_text(answer.err, encoding="utf-8")
        os._exit(answer.code)
    finally:
        os._exit(99)


def _ended(number: int) -> int | None:
    """The exit code of a child that has ended, else None."""
    found, status = os.waitpid(number, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _is_half_saved(run: Path) -> bool:
    """Whether a kill fell between the first byte of a save and its last name."""
    resume = run / "resume"
    half = [*run.glob(".*.tmp"), *resume.glob(".*.tmp")]
    if half:
        return True
    states = Run(run).states()
    weights = Run(run).weights
    return bool(states) and weights.is_file() and weights.stat().st_mtime_ns > states[-1].stat().st_mtime_ns


def _kill_once(words: Sequence[str], run: Path, said: Path, draw: random.Random, tally: Kills) -> bool:
    """Start the command and kill it after a random while; False where it ended before."""
    before, number = newest(run), _started(words, said)
    early = draw.random() < 0.2  # before there is anything new, too
    deadline = time.monotonic() + 120
    while not early and newest(run) == before and _alive(number) and time.monotonic() < deadline:
        time.sleep(0.001)
    pause = draw.uniform(0, 1.0 if early else 0.15)
    end = time.monotonic() + pause
    while time.monotonic() < end and _alive(number):
        time.sleep(0.0005)
    code = _ended(number)
    if code is None:
        with suppress(ProcessLookupError):
            os.killpg(number, signal.SIGKILL)
        os.waitpid(number, 0)
        tally.killed += 1
        tally.inside += _is_half_saved(run)
        return True
    if code:
        tally.wrong.append(f"exit code {code}: {said.read_text(encoding='utf-8')[-500:]}")
    return False


def _assert_same(run: Path, whole: Path, processes: int) -> None:
    """Every bit of the newest states and weights; with one process also log, pictures and counters."""
    if processes == 1:
        assert_same_run(run, whole)
        return
    states = [checkpoint.load_state(Run(path).states()[-1])[0] for path in (run, whole)]
    assert states[0].keys() == states[1].keys()
    for part, tensors in states[0].items():
        assert_same_tensors(tensors, states[1][part])
    assert_same_tensors(*(checkpoint.load_weights(Run(path).weights)[0] for path in (run, whole)))


def _alive(number: int) -> bool:
    """Whether a child still runs; it is not waited for."""
    found = os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found is None


def kill(data: Path, work: Path, family: str, kills: int, *, seed: int, processes: int = 1) -> Kills:
    """Kill trainings of a family so many times, and let each come to its end.

    Args:
        data: the set.
        work: a folder for the runs.
        family: what is trained.
        kills: how many times.
        seed: when.
        processes: how many processes train.
    """
    draw, tally = random.Random(seed), Kills()
    whole, said = work / f"{family}-whole", work / "said.txt"
    number = _started(_words(family, data, whole, 1, processes), said)
    if os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]):
        tally.wrong.append(said.read_text(encoding="utf-8")[-500:])
        return tally
    while tally.killed < kills and not tally.wrong:
        run = work / f"{family}-killed"
        shutil.rmtree(run, ignore_errors=True)
        words = _words(family, data, run, processes, processes)
        while tally.killed < kills and _kill_once(words, run, said, draw, tally):
            pass
        if tally.wrong:
            break
        code = os.waitstatus_to_exitcode(os.waitpid(_started(words, said), 0)[1])  # the rest of the way in peace
        if code:
            tally.wrong.append(f"exit code {code}: {said.read_text(encoding='utf-8')[-500:]}")
            break
        tally.runs += 1
        try:
            _assert_same(run, whole, processes)
        except AssertionError as error:
            tally.wrong.append(f"another run after kill {tally.killed}: {str(error)[:300]}")
    return tally
