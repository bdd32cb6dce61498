"""The processes that work on one command together: which one this is, and how they put together what each of them found.

A process learns its place from `torchrun`'s variables, which `--nproc` sets too, or from those of SLURM's
`srun`. Everything that goes between processes is a tensor of numbers or a line of text.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from animegen_cli.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch import Tensor

PATIENCE = timedelta(hours=2)
"""How long the others wait for one that is alive, such as the first while it scores; a dead one is noticed at once."""


class Place(NamedTuple):
    """Where a process stands among those that were started together."""

    rank: int
    """Its number, from 0."""
    world: int
    """How many there are."""
    local: int
    """Its number among those of its machine, which is also that of its GPU."""


def place() -> Place:
    """The place of this process: (0, 1, 0) where it was started alone.

    Raises:
        MachineError: the variables contradict each other.
    """
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        words = env["RANK"], env["WORLD_SIZE"], env.get("LOCAL_RANK", "0")
    elif "SLURM_PROCID" in env and "SLURM_STEP_NUM_TASKS" in env and "SLURM_STEP_ID" in env:  # no batch script
        words = env["SLURM_PROCID"], env["SLURM_STEP_NUM_TASKS"], env.get("SLURM_LOCALID", "0")
    else:
        return Place(0, 1, 0)
    try:
        found = Place(*map(int, words))
    except ValueError:
        found = Place(-1, 0, 0)
    if not 0 <= found.rank < found.world:
        raise MachineError(
            f"this is said to be process {words[0]} of {words[1]}, which cannot be",
            hint="type `unset RANK WORLD_SIZE` where no launcher set them",
        )
    return found


def cores() -> int:
    """The CPU cores that this process may use, and shares with those that were started beside it."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Ranks:
    """The processes of one command, seen from one of them. Alone, everything is as if there were no others."""

    def __init__(self, rank: int = 0, count: int = 1, local: int = 0) -> None:
        """See `Place`; `together` connects them."""
        self.rank = rank
        self.count = count
        self.local = local

    @property
    def first(self) -> bool:
        """Whether this one locks, logs, draws and saves."""
        return self.rank == 0

    def share(self, parts: int) -> range:
        """The parts of a step that are this process's: as many for each, one after the other; `count` divides `parts`."""
        each = parts // self.count
        return range(self.rank * each, (self.rank + 1) * each)

    def block(self, count: int, unit: int) -> range:
        """This process's share of the rows 0 to count - 1: one after the other, in whole units of `unit` rows but for the last.

        The first processes have one unit more than the others where they do not come out even.
        """
        units = -(-count // unit)
        each, more = divmod(units, self.count)
        begin = self.rank * each + min(self.rank, more)
        end = begin + each + (self.rank < more)
        return range(min(begin * unit, count), min(end * unit, count))

    def told(self, text: str = "") -> str:
        """Return the text that the first process gives; the others wait for it."""
        if self.count == 1:
            return text
        import torch
        from torch import distributed

        letters = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) if text else torch.empty(0).byte()
        length = torch.tensor([len(letters)])
        self._reached(lambda: distributed.broadcast(length, 0))
        line = letters if self.first else torch.empty(int(length.item()), dtype=torch.uint8)
        self._reached(lambda: distributed.broadcast(line, 0))
        return bytes(line.tolist()).decode()

    def said(self, *figures: float) -> list[float]:
        """Return the sum over all processes of each figure. All wait here for each other; no device does."""
        if self.count == 1:
            return list(figures)
        import torch
        from torch import distributed

        sums = torch.tensor(figures, dtype=torch.float64)
        self._reached(lambda: distributed.all_reduce(sums))
        return list(map(float, sums.tolist()))

    def summed(self, numbers: Tensor) -> Tensor:
        """Return the sum over all processes of a row of numbers, which may be overwritten.

        On the CPU and for 2, 4, 8, ... processes it is added up as a balanced tree whose leaves are the ranks, with the same
        bits in all: whoever adds up parts in such a tree too has those bits for any of these numbers of processes.
        """
        if self.count == 1:
            return numbers
        import torch
        from torch import distributed

        if numbers.is_cuda or self.count & (self.count - 1):
            self._reached(lambda: distributed.all_reduce(numbers))
            return numbers
        distance = 1
        while distance < self.count:
            theirs = torch.empty_like(numbers)
            self._reached(lambda: _exchange(numbers, theirs, self.rank ^ distance))  # noqa: B023  # called at once
            numbers = theirs.add_(numbers)
            distance *= 2
        return numbers

    def gathered(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes, one block after the other in the order of ranks, to the first; to others their own.

        Args:
            rows: (n, ...) on the CPU; n may differ between processes, the rest and the type may not.
        """
        if self.count == 1:
            return rows
        import torch
        from torch import distributed

        length = torch.tensor([len(rows)])
        if not self.first:
            self._reached(lambda: distributed.send(length, 0))
            if len(rows):
                self._reached(lambda: distributed.send(rows.contiguous(), 0))
            return rows
        blocks = [rows]
        for rank in range(1, self.count):
            self._reached(lambda: distributed.recv(length, rank))  # noqa: B023  # called at once
            theirs = rows.new_empty(int(length.item()), *rows.shape[1:])
            if len(theirs):
                self._reached(lambda: distributed.recv(theirs, rank))  # noqa: B023
            blocks.append(theirs)
        return torch.cat(blocks)

    def _reached(self, call: Callable[[], object]) -> None:
        try:
            call()
        except RuntimeError as error:
            if not self.first:  # the first one says it
                raise SystemExit(MachineError.exit_code) from error
            raise MachineError(
                "another process of this command has ended",
                hint="its own message says why, else it was killed; type the same command again to go on",
            ) from error


ALONE = Ranks()


def _exchange(ours: Tensor, theirs: Tensor, peer: int) -> None:
    """Send a tensor to a process and receive its own."""
    from torch import distributed

    sent = distributed.isend(ours, peer)
    received = distributed.irecv(theirs, peer)
    for work in (sent, received):
        if work is not None:
            work.wait()


@contextmanager
def together(found: Place, *, patience: timedelta = PATIENCE) -> Iterator[Ranks]:
    """Connect the processes that were started together, as long as the block lasts; nothing to do where there is one.

    Args:
        found: this one's place.
        patience: how long they wait for one that is alive.

    Raises:
        MachineError: they did not find each other.
    """
    if found.world == 1:
        yield ALONE
        return
    import torch
    from torch import distributed

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        distributed.init_process_group(
            backend, init_method=_meeting(), rank=found.rank, world_size=found.world, timeout=patience
        )
    except (RuntimeError, ValueError) as error:
        raise MachineError(
            f"process {found.rank} of {found.world} did not find the others: {str(error).splitlines()[0]}",
            hint="start all of them at once, on machines that reach each other",
        ) from error
    try:
        yield Ranks(*found)
    finally:
        distributed.destroy_process_group()


MEETING = "ANIMEGEN_MEETING"
"""Variable with the file where the processes that `--nproc` starts on one machine meet; others meet by address and port."""


def _meeting() -> str:
    """Where the processes find each other, as `init_process_group` takes it."""
    env = os.environ
    if MEETING in env:
        return f"file://{env[MEETING]}"
    if "MASTER_ADDR" in env:
        return "env://"
    nodes = re.match(r"([^\[,]+)(?:\[(\d+))?", env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", ""))
    if nodes is None:
        raise MachineError(
            "nothing says where the processes of this command meet",
            hint="start them with `torchrun`, `srun` or `--nproc`",
        )
    port = 20_000 + (int(env.get("SLURM_JOB_ID", "0")) * 7 + int(env.get("SLURM_STEP_ID", "0"))) % 20_000
    return f"tcp://{nodes[1]}{nodes[2] or ''}:{port}"


def gpu_of(device: torch.device, ranks: Ranks) -> torch.device:
    """Return the GPU of this process, where several share a machine's; MachineError where there are too few."""
    import torch

    if ranks.count == 1 or device.type != "cuda" or device.index is not None:
        return device
    if ranks.local >= torch.cuda.device_count():
        raise MachineError(
            f"process {ranks.local} of this machine has no GPU: there are {torch.cuda.device_count()}",
            hint=f"start {torch.cuda.device_count()} here, or use `--device cpu`",
        )
    torch.cuda.set_device(ranks.local)
    return torch.device("cuda", ranks.local)
