"""What several processes do of one evaluation: each makes a block of the images or features that the first one asks for.

The first process alone decides, scores and writes. So all may do so much only as a `Task` says, and a process that the
first one does not ask does nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from animegen_cli.metrics.extractors import Extractor
    from animegen_cli.ranks import Ranks


class Task(NamedTuple):
    """What each process is to make a block of."""

    what: str
    """`images` or `features` of a run, `set` for features of a set's images, `end` when there is nothing more to do."""
    path: str = ""
    """The run or the set."""
    number: int = 0
    """The range of seeds."""
    split: str = ""
    """Of the set."""
    size: int = 0
    """Side in pixels at which the set's images are seen."""
    extractor: str = ""
    """Which one, as `name_of` says it."""


def name_of(extractor: Extractor) -> str:
    """What tells extractors of one evaluation apart."""
    return f"{extractor.name} {extractor.sha} {extractor.resize}"


def shared(group: Ranks, task: Task, own: Callable[[], Tensor]) -> Tensor:
    """Let all processes do a task; called by the first one.

    Args:
        group: the processes.
        task: what the others are told.
        own: makes this process's block of rows, on the CPU.

    Returns:
        The rows of all.
    """
    group.told(json.dumps(task))
    return group.gathered(own())


def next_task(group: Ranks) -> Task:
    """Wait for the next task of the first process."""
    return Task(*json.loads(group.told()))


def end(group: Ranks) -> None:
    """Tell the other processes that nothing more is to do."""
    group.told(json.dumps(Task("end")))
