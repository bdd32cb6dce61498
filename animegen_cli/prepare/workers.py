"""Worker processes that clean pictures, light ones: they import numpy and Pillow, and nothing of the main program.

`multiprocessing` would run the main module again in every worker (a command line, or a script that imports
torch). Here each worker is a bare `python -c`, which reads pickled chunks of work from its standard input and
writes pickled results to its standard output.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from animegen_cli.data import cleaning
from animegen_cli.data.sources import Member, Reader, Unusable
from animegen_cli.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_AHEAD = 2  # chunks that a worker has in hand, so that it never waits for the next


class Chunk(NamedTuple):
    """Some pictures of one source."""

    kind: str
    path: str
    members: list[Member]
    recipe: cleaning.Recipe
    blobs: list[bytes] | None = None
    """Their bytes, where only the parent can read them."""
    seed: int = 0
    """Of drawn pictures."""


def work(chunk: Chunk, reader: Reader) -> list[Any]:
    """A `Cleaned` or `Rejected` for each member."""
    results: list[Any] = []
    for number, member in enumerate(chunk.members):
        try:
            if chunk.kind.startswith("drawn"):
                from animegen_cli import drawn

                size, seed = chunk.recipe.size, chunk.seed
                if chunk.kind == "drawn":
                    image = drawn.draw(member.start, size=size, seed=seed).image
                else:
                    image = drawn.photo(member.start, size=size, seed=seed)
                results.append(cleaning.finish(image, chunk.recipe))
                continue
            data = chunk.blobs[number] if chunk.blobs else reader.read(chunk.kind, chunk.path, member)
            results.append(cleaning.clean(data, chunk.recipe))
        except Unusable as error:
            results.append(cleaning.Rejected(str(error)))
    return results


def run(chunks: Iterator[Chunk], workers: int) -> Generator[list[Any], None, None]:
    """The results of all chunks in order, made by `workers` processes (1: by this one)."""
    if workers <= 1:
        reader = Reader()
        try:
            for chunk in chunks:
                yield work(chunk, reader)
        finally:
            reader.close()
        return
    pool = _Pool(chunks, workers)
    try:
        yield from pool.results()
    finally:
        pool.close()


class _Pool:
    def __init__(self, chunks: Iterator[Chunk], workers: int) -> None:
        self._chunks = enumerate(chunks)
        self._lock = threading.Condition()
        self._done: dict[int, Any] = {}
        self._given = self._taken = 0
        self._ended = self._stopped = False
        self._window = (_AHEAD + 2) * workers  # results that wait for an earlier one: bounds the memory
        path = [entry for entry in sys.path if entry] + [str(Path(__file__).resolve().parents[2])]
        start = f"import sys; sys.path[:] = {path!r}; from animegen_cli.prepare.workers import main; main()"
        command = [sys.executable, "-c", start]
        # Each worker has one core, and threads cost memory.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            for _ in range(workers)
        ]
        self._threads = [
            threading.Thread(target=self._serve, args=(process,), daemon=True) for process in self._processes
        ]
        for thread in self._threads:
            thread.start()

    def results(self) -> Iterator[list[Any]]:
        while True:
            with self._lock:
                while self._taken not in self._done and not (self._ended and self._taken >= self._given):
                    self._lock.wait()
                if self._taken not in self._done:
                    return
                result = self._done.pop(self._taken)
                self._taken += 1
                self._lock.notify_all()
            if isinstance(result, BaseException):
                raise result
            yield result

    def _next(self, wait: bool) -> tuple[int, Chunk] | None:
        """The next chunk, or None: no more, or (without `wait`) too many results wait for an earlier one."""
        with self._lock:
            while self._given - self._taken >= self._window and not self._stopped:
                if not wait:
                    return None
                self._lock.wait()
            if self._ended or self._stopped:
                return None
            try:
                job = next(self._chunks, None)
            except BaseException as error:
                job, self._done[self._given] = None, error
                self._given += 1
            if job is None:
                self._ended = True
                self._lock.notify_all()
                return None
            self._given += 1
            return job

    def _serve(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        waiting: deque[int] = deque()
        try:
            while True:
                while len(waiting) < _AHEAD and (job := self._next(wait=not waiting)) is not None:
                    waiting.append(job[0])
                    _send(process.stdin, job[1])
                if not waiting:
                    return
                self._finish(waiting[0], pickle.load(process.stdout))
                waiting.popleft()
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            lost = MachineError(
                "a worker process died; most often the machine ran out of memory",
                hint="try again with `--workers 1`",
            )
            for index in waiting:
                self._finish(index, lost)

    def _finish(self, index: int, result: Any) -> None:
        with self._lock:
            self._done[index] = result
            self._lock.notify_all()

    def close(self) -> None:
        with self._lock:
            self._stopped = True
            self._lock.notify_all()
        for process in self._processes:
            process.kill() if not self._ended else process.stdin.close()  # type: ignore[union-attr]
        for thread in self._threads:
            thread.join()
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
            process.wait()


def _send(pipe: IO[bytes], value: Any) -> None:
    pipe.write(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
    pipe.flush()


def main() -> None:
    """The life of a worker: until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints must not mix with results
    reader = Reader()
    while True:
        try:
            chunk = pickle.load(source)
        except EOFError:
            return
        _send(sink, work(chunk, reader))
