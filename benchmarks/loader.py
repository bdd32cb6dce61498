"""How long the training step waits for the loader: the share of a short training's time, resident and streamed.

    python benchmarks/loader.py faces.zip

Target: under 2 %.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from networks import ours

from animegen_cli.config import Augment
from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.loading import Loader, LoaderConfig, RawBatch
from animegen_cli.device import pick_device
from animegen_cli.train import options
from animegen_cli.train.trainer import Trainer


class Timed:
    """Batches of a loader, and the seconds that were spent waiting for them."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.seconds = 0.0

    def batch(self, images_seen: int, count: int | None = None) -> RawBatch:
        start = time.perf_counter()
        raw = self.loader.batch(images_seen, count)
        self.seconds += time.perf_counter() - start
        return raw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", default="32,64,64")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default=None)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    device = pick_device(args.device)
    faces = FaceSet.open(args.data)
    batches = LoaderConfig(split="train", size=args.size, batch=args.batch, seed=0, augment=Augment(flip=True))
    report: dict[str, object] = {
        "data": args.data.name,
        "device": str(device),
        "steps": args.steps,
        "batch": args.batch,
    }
    for name, limit in (("resident", None), ("streamed", 0)):
        loader = Loader(faces, batches, device=device, memory_limit=limit)
        model, config = ours(args.size, [int(word) for word in args.channels.split(",")], batch=args.batch)
        trainer = Trainer(
            model, loader, config, options.resolve(config, model, device), device=device, count=len(loader)
        )
        trainer.train_step()
        timed = Timed(loader)
        trainer.batches = timed
        began = time.perf_counter()
        for _ in range(args.steps):
            trainer.train_step()
        trainer.check()
        report[f"{name}_waits"] = f"{timed.seconds / (time.perf_counter() - began):.2%}"
    report["target"] = "under 2 %"
    print(
        json.dumps(report, indent=1) if args.json else "\n".join(f"{key:<20}{value}" for key, value in report.items())
    )


if __name__ == "__main__":
    main()
