"""Worker processes that clean pictures, light ones: they import numpy and Pillow, and nothing of the main program.

Each worker is a bare `python -c`, which reads pickled chunks of work from its standard input and writes pickled results
to its standard output. One thread of `concurrent.futures` for each worker waits for its results.

Why not `concurrent.futures.ProcessPoolExecutor`: all its workers write to one pipe, so a worker that is killed in the
middle of a result (by the system, when memory runs out) leaves the parent waiting for the rest for ever. Measured with
Python 3.11 on two cores: `prepare` of 17,400 JPEG files of 64 pixels with two workers, one of which got SIGKILL at a random
moment within half a second of the first megabyte written; of 37 runs on the executor (context `spawn`, the main module kept
out of the workers) 8 hung, until a limit of 12 (25 runs) or 90 seconds ended them; of 20 runs on this module none did.
Otherwise it costs little: 1.11 times the CPU time (two alternating pairs of whole runs) and 1.10 times the memory (the
peak of the resident sizes summed over all processes, 154 against 140 MB).
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from animegen_cli.data import cleaning
from animegen_cli.data.reading import Reader
from animegen_cli.data.sources import Member, Unusable
from animegen_cli.errors import MachineError
from animegen_cli.prepare import faces
from animegen_cli.prepare.faces import Finder, Seen

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from concurrent.futures import Future

_PER_WORKER = 4  # chunks under way for each worker: it never waits for the next, and memory is bounded


class Chunk(NamedTuple):
    """Some pictures of one source: the work that a worker is given at a time."""

    kind: str
    """The kind of the source, as in `Source.kind`."""
    path: str
    """The folder or archive that holds them."""
    members: list[Member]
    recipe: cleaning.Recipe
    blobs: list[bytes] | None = None
    """Their bytes, where only the parent can read them."""
    seed: int = 0
    """The seed of drawn pictures."""
    finder: Finder | None = None
    """How faces are looked for, where they are."""


def work(chunk: Chunk, reader: Reader) -> list[Seen]:
    """Clean the pictures of a chunk: what came of each member, in the order of the members."""
    return [_clean(chunk, number, reader) for number in range(len(chunk.members))]


def _clean(chunk: Chunk, number: int, reader: Reader) -> Seen:
    member = chunk.members[number]
    recipe = chunk.recipe
    try:
        if chunk.kind.startswith("drawn"):
            from animegen_cli.prepare import drawn

            if chunk.kind == "drawn":
                image = drawn.draw(member.start, size=recipe.size, seed=chunk.seed).image
            else:
                image = drawn.photo(member.start, size=recipe.size, seed=chunk.seed)
            return Seen([faces.whole(image, recipe)])
        data = chunk.blobs[number] if chunk.blobs else reader.read(chunk.kind, chunk.path, member)
        return faces.see(data, recipe, chunk.finder)
    except Unusable as error:
        return Seen([cleaning.Rejected(str(error))])


def run(chunks: Iterator[Chunk], workers: int) -> Generator[list[Seen], None, None]:
    """Clean all chunks in `workers` processes, or in this one if `workers` is 1.

    Yields:
        The results of each chunk, in the order of the chunks. At most four chunks for each worker are under way.

    Raises:
        MachineError: a worker died.
    """
    if workers <= 1:
        reader = Reader()
        try:
            for chunk in chunks:
                yield work(chunk, reader)
        finally:
            reader.close()
        return
    with ExitStack() as stack:
        pool = [stack.enter_context(_Worker()) for _ in range(workers)]
        pending: deque[Future[list[Seen]]] = deque()
        for chunk in chunks:
            pending.append(min(pool, key=_Worker.load).submit(chunk))
            if len(pending) >= _PER_WORKER * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


class _Worker:
    """One process, and the thread that waits for its results. Leaving the context ends both at once."""

    def __init__(self) -> None:
        path = [entry for entry in sys.path if entry] + [str(Path(__file__).resolve().parents[2])]
        start = f"import sys; sys.path[:] = {path!r}; from animegen_cli.prepare.workers import main; main()"
        # Each worker has one core, and threads cost memory.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with _without_ctrl_c():
            self._process = subprocess.Popen(
                [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
        self._thread = ThreadPoolExecutor(1)
        self._pending: deque[Future[list[Seen]]] = deque()

    def load(self) -> int:
        """How many chunks are under way."""
        while self._pending and self._pending[0].done():
            self._pending.popleft()
        return len(self._pending)

    def submit(self, chunk: Chunk) -> Future[list[Seen]]:
        """Send the process a chunk. The results are those of the future; MachineError when the process has died."""
        assert self._process.stdin is not None
        try:
            _send(self._process.stdin, chunk)  # its thread reads what it writes, so it comes to read this
        except OSError:
            raise _died() from None
        self._pending.append(self._thread.submit(self._receive))
        return self._pending[-1]

    def _receive(self) -> list[Seen]:
        assert self._process.stdout is not None
        try:
            return pickle.load(self._process.stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            raise _died() from None

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()  # it holds nothing that could be left half done
        self._thread.shutdown(cancel_futures=True)
        with suppress(OSError), self._process:  # closes the pipes, where an unsent rest may be left, and waits
            pass


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Start a process that Ctrl-C does not reach, from its first moment: it reaches the whole group, and the parent decides."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a new process inherits it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _died() -> MachineError:
    return MachineError(
        "a worker process died; most often the machine ran out of memory", hint="try again with `--workers 1`"
    )


def _send(pipe: IO[bytes], value: Chunk | list[Seen]) -> None:
    pipe.write(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
    pipe.flush()


def main() -> None:
    """The life of a worker: until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be kept away
    source = sys.stdin.buffer
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints must not mix with results
    reader = Reader()
    while True:
        try:
            chunk = pickle.load(source)
        except EOFError:
            return
        _send(sink, work(chunk, reader))
