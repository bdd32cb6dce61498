"""Further processes of a study: each is the command that goes on with it, and trains what nobody trains."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from animegen_cli import console
from animegen_cli.compare import study_plan
from animegen_cli.errors import StoppedError
from animegen_cli.train.launch import PARENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from animegen_cli.compare.study_file import StudyConfig
    from animegen_cli.compare.study_plan import Request


@contextmanager
def others(
    request: Request, study: StudyConfig, data: Path, threads: int
) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
    """Start up to `request.at_once - 1` processes on the study's folder; they save and end with this block, die with this process.

    They say nothing: what a training found stands in its run, and what one fails at this process tries again.
    """
    folder = request.folder
    words = ["compare", "--study", str(folder / study_plan.FILE), "--out", str(folder), "--data", str(data)]
    words += ["--device", request.device] if request.device else []
    words += ["--only", ",".join(request.only)] if request.only else []
    words += [word for extractor in request.extractors for word in ("--extractor", extractor)]
    left = sum(not one.folder.finished for one in study_plan.trainings(study, folder, request.only))
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "animegen_cli", *words, "--quiet"],
            env=os.environ | {PARENT: str(os.getpid()), "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches them through this process alone, once
        )
        for _ in range(min(request.at_once, left) - 1)
    ]
    try:
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
        for process in started:
            process.wait()


def is_one() -> bool:
    """Whether this process is such a further one: it trains and scores, and who started it writes the page."""
    return PARENT in os.environ


def wait(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all have ended; one that failed is named, and what it left undone is for this process."""
    if any(process.poll() is None for process in started):
        console.note("waiting for the runs that train beside this process")
    for process in started:
        if process.wait() not in (0, StoppedError.exit_code):
            console.warn(f"a process of this study ended with exit code {process.returncode}; going on without it")
