"""`--nproc`, as commands say it: the same command in several processes on this machine, which find each other."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import typer

from animegen_cli import console, ranks
from animegen_cli.train import launch

if TYPE_CHECKING:
    from collections.abc import Callable

    from animegen_cli.ranks import Ranks

T = TypeVar("T")
RequestT = TypeVar("RequestT")

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


def shared(request: RequestT, lead: Callable[[RequestT, Ranks], T], follow: Callable[[RequestT, Ranks], None]) -> T:
    """Draw or score together with the other processes of this command; all but the first print only errors.

    Args:
        request: what was asked for, the same in each.
        lead: what the first process does; its answer is returned.
        follow: what each other does, which ends the command there.
    """
    place = ranks.place()
    if place.rank:
        console.mute(same_machine=False)  # each meets only what is wrong with its own images
    with ranks.together(place, patience=PATIENCE) as group:
        if group.first:
            return lead(request, group)
        follow(request, group)
    raise typer.Exit
