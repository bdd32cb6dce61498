"""Whether the disk has room for what a training will write, said before its first step."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

from animegen_cli import console
from animegen_cli.errors import MachineError
from animegen_cli.report.units import memory

if TYPE_CHECKING:
    from animegen_cli.model.family import Family
    from animegen_cli.paths import Run

_MOMENTS = 2
"""Numbers that Adam keeps of each trained number; Muon keeps one."""


class Needs(NamedTuple):
    """Bytes of one complete state and of the weights file."""

    state: int
    weights: int


def needs(model: Family) -> Needs:
    """Estimate the files of a training from its networks: they, their averages and the optimizers' moments."""
    averaged = sum(
        tensor.nbytes for name in model.inference for tensor in model.get_submodule(name).state_dict().values()
    )
    networks = sum(tensor.nbytes for tensor in model.state_dict().values())
    trained = sum(tensor.nbytes for tensor in model.parameters() if tensor.requires_grad)
    return Needs(networks + averaged + _MOMENTS * trained, averaged)


def check(run: Run, model: Family, keep: int) -> None:
    """Look whether the states and weights of a run fit on the disk of its folder, which exists.

    A new state is written before an old one goes, and new weights before the old ones do, so for a moment there is one more
    of each. Pictures and logs are small beside them.

    Raises:
        MachineError: not even the next state fits.
    """
    state, weights = needs(model)
    free = shutil.disk_usage(run.path).free
    missing = max(keep + 1 - len(run.states()), 1)
    files = 2 - run.weights.is_file()
    hint = "`animegen runs du` shows what takes space; `--out` on another disk, or `animegen runs rm RUN`, makes room"
    least, whole = state + weights, missing * state + files * weights
    if free < least:
        raise MachineError(
            f"{memory(free)} are free on the disk of {run.path}, and the first state to save needs about {memory(least)}",
            hint=hint,
        )
    if free < whole:
        fewer = "" if keep == 1 else "`--keep 1` keeps fewer states; "
        console.warn(
            f"{memory(free)} are free on the disk of {run.path}, and the run will need about {memory(whole)}: {fewer}{hint}"
        )
