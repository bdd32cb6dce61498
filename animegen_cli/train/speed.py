"""How fast a training goes, measured by training: what turns a budget of time into one of images."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from animegen_cli.device import synchronize
from animegen_cli.train.trainer import Trainer

if TYPE_CHECKING:
    from animegen_cli.train.options import Prepared


def images_per_second(prepared: Prepared, *, seconds: float = 15.0, cores: int | None = None) -> float:
    """Measure the images per second of whole steps: all that training does but previews, validation and saving.

    Counts whole cycles of lazy phases (StyleGAN2's R1 comes every 16 steps), after a cycle that may compile. The
    networks have learned afterwards: build them anew for the training itself.

    Args:
        prepared: what is trained.
        seconds: measure for at least so long.
        cores: count processor time, of so many cores at once: what other processes take from the machine costs nothing. By the
            clock when None.
    """
    trainer = Trainer(
        prepared.model, prepared.loader, prepared.config, prepared.options,
        device=prepared.device, count=prepared.data.count,
    )  # fmt: skip
    cycle = math.lcm(*(phase.every for phase in trainer.phases))
    trainer.train_step()
    while trainer.step % cycle:  # the first steps of a cycle meet every phase once
        trainer.train_step()
    synchronize(prepared.device)
    before = trainer.images
    clock = time.perf_counter if cores is None else lambda: time.process_time() / cores
    began = clock()
    while clock() - began < seconds:
        for _ in range(cycle):
            trainer.train_step()
        synchronize(prepared.device)
    return (trainer.images - before) / (clock() - began)
