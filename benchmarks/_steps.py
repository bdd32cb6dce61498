"""Training steps of ours against a peer's, on the same images: timed in pairs and reported with what makes them repeatable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from _pairs import pairs, report, waiting

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from animegen_cli.train.trainer import Trainer


def train_steps(trainer: Trainer, count: int) -> Callable[[], None]:
    """Return a function that takes `count` steps and looks at once whether their numbers are finite."""

    def steps() -> None:
        for _ in range(count):
            trainer.train_step()
        trainer.check()

    return steps


def compare_steps(
    title: str, trainer: Trainer, peer: Callable[[], None], args: argparse.Namespace, *, target: float, **facts: Any
) -> None:
    """Time `args.steps` steps of ours and `peer`, which takes as many, and print the ratio.

    Args:
        title: what is compared.
        trainer: ours.
        peer: theirs, on batches of `args.batch` images of `args.size` pixels too.
        args: of the script: `steps`, `pairs`, `size`, `batch` and `json`.
        target: the ratio that is to be reached, times the peer's speed.
        facts: what else makes the number repeatable.
    """
    device = trainer.device
    found = pairs(train_steps(trainer, args.steps), peer, args.pairs, sync=waiting(device))
    images = args.steps * args.batch
    report(
        title, found, target=target, as_json=args.json, device=str(device), torch=torch.__version__, size=args.size,
        batch=args.batch, options=trainer.options.to_dict(), ours_images_per_second=round(images / found["ours"], 2),
        peer_images_per_second=round(images / found["peer"], 2), **facts,
    )  # fmt: skip
