"""Memory, open files and the cost of saves over a long training of a tiny network.

    python benchmarks/long_run.py faces.zip --steps 10000 --previews 100

Prints resident memory and open file handles after each tenth of the steps, and which share of the time saves would take
at the default interval of ten minutes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from animegen_cli import console
from animegen_cli.config import Layer
from animegen_cli.train import train
from animegen_cli.train.request import Request
from animegen_cli.train.session import Session
from animegen_cli.train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 600  # seconds between saves, unless a preset says otherwise
BATCH = 4
SETTINGS = [
    "model.channels=8", "model.groups=4", "model.attention=[8]", "sample.steps=2", f"train.batch={BATCH}",
    "train.preview=4", "train.validate.images=0", "train.log_every=10 steps",
]  # fmt: skip


def main() -> None:
    """Train, and look at the process while it does."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path, help="a set of faces of 16 pixels")
    words.add_argument("--steps", type=int, default=10_000)
    words.add_argument("--previews", type=int, default=100)
    asked = words.parse_args()
    steps, saves = asked.steps, list[float]()
    each = BATCH * max(steps // asked.previews, 1)
    step, save = Trainer.train_step, Session.save

    def watched(trainer: Trainer, stop: Callable[[], bool]) -> bool:
        taken = step(trainer, stop)
        if trainer.step % max(steps // 10, 1) == 0:
            print(f"| {trainer.step:,} | {_resident():.0f} | {len(os.listdir('/proc/self/fd'))} |", flush=True)
        return taken

    def timed(session: Session, trainer: Trainer) -> None:
        began = time.perf_counter()
        save(session, trainer)
        saves.append(time.perf_counter() - began)

    print("| step | memory, MB | open files |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        request = Request(
            family="ddpm", preset="smoke", data=asked.data, out=Path(folder) / "run", device="cpu",
            settings=[*SETTINGS, f"train.preview_every={each} images", f"train.save_every={each} images"],
            flags=[Layer.from_flag("--duration", "train.duration", f"{steps * BATCH} images")],
        )  # fmt: skip
        console.configure(quiet=True)
        _with(watched, timed, request)
        kept = len(list((Path(folder) / "run" / "resume").iterdir()))
        previews = len(list((Path(folder) / "run" / "samples").glob("ema-*.png")))
    middle = sorted(saves)[len(saves) // 2]
    print(f"{previews} previews, {len(saves)} saves, {kept} states kept (`--keep` 2)")
    print(f"a save takes {middle * 1e3:.0f} ms, {middle / INTERVAL:.4%} of {INTERVAL} s")


def _with(
    watched: Callable[[Trainer, Callable[[], bool]], bool], timed: Callable[[Session, Trainer], None], request: Request
) -> None:
    with mock.patch.object(Trainer, "train_step", watched), mock.patch.object(Session, "save", timed):
        train.train(request)


def _resident() -> float:
    """Megabytes that the process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
