"""`--nproc`, as commands say it: the same command in several processes on this machine, which find each other."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import typer

from animegen_cli import console, ranks
from animegen_cli.train import launch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animegen_cli.ranks import Ranks

PATIENCE = timedelta(days=7)
"""How long the others wait for the first process of an evaluation, which may compute likelihoods alone for a day."""
GRACE = 5.0
"""Seconds that processes which draw have to end after one has failed; none has anything to save."""


def start(nproc: int | None, *, grace: float = launch.GRACE) -> None:
    """Run the command that was typed in `nproc` processes and end with its exit code, unless this is one of them or alone.

    Args:
        nproc: how many; None is one.
        grace: seconds that the others have to end after one has failed.

    Raises:
        MachineError: one was killed.
    """
    if nproc is not None and nproc > 1 and not launch.is_launched():
        raise typer.Exit(launch.launch(sys.argv[1:], nproc, grace=grace))
    launch.end_with_parent()


@contextmanager
def connected() -> Iterator[Ranks]:
    """Connect the processes that draw or score together, as long as the block lasts; all but the first print only errors."""
    place = ranks.place()
    if place.rank:
        console.mute(same_machine=False)  # each meets only what is wrong with its own images
    with ranks.together(place, patience=PATIENCE) as group:
        yield group
