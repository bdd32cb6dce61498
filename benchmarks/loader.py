"""How long the training step waits for the loader: the share of a short training's time, resident and streamed.

    python benchmarks/loader.py faces.zip

Target: under 2 %.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from networks import ours

from animegen_cli.config import Augment
from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.loading import Loader, LoaderConfig
from animegen_cli.device import pick_device
from animegen_cli.train import options
from animegen_cli.train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable


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
        spent, batch = [0.0], loader.batch

        def timed(*words: int, spent: list[float] = spent, batch: Callable[..., Any] = batch) -> Any:
            start = time.perf_counter()
            found = batch(*words)
            spent[0] += time.perf_counter() - start
            return found

        loader.batch = timed  # type: ignore[method-assign]
        began = time.perf_counter()
        for _ in range(args.steps):
            trainer.train_step()
        trainer.check()
        report[f"{name}_waits"] = f"{spent[0] / (time.perf_counter() - began):.2%}"
    report["target"] = "under 2 %"
    print(
        json.dumps(report, indent=1) if args.json else "\n".join(f"{key:<20}{value}" for key, value in report.items())
    )


if __name__ == "__main__":
    main()
