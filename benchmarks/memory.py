"""Training steps on a CPU with freed memory kept by the C library, and given back to the system as it does by itself.

    python benchmarks/memory.py --preset gan/fast

What the C library was told cannot be taken back, so each measurement is a process of its own, in turn; counted is their
processor time, in which page faults show.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys

SIZE = 32


def steps(preset: str, batch: int, count: int, *, keep: bool) -> float:
    """Images per processor second of so many steps."""
    import torch
    from _plain import Resident

    from animegen_cli.device import keep_freed_memory
    from animegen_cli.model.family import DataSpec
    from animegen_cli.sample.trained import build
    from animegen_cli.train import options, train
    from animegen_cli.train.request import Request
    from animegen_cli.train.trainer import Trainer

    torch.set_num_threads(1)
    if keep and not keep_freed_memory():
        raise SystemExit("this C library cannot be told")
    family, _, name = preset.partition("/")
    config = train.read_config(Request(family=family, preset=name)).to_dict()
    config["train"] |= {"batch": batch, "parts": 1, "duration": "1M steps"}
    model, resolved = build(config, DataSpec(SIZE, 4096))
    device = torch.device("cpu")
    data = Resident(SIZE, 4096, device)
    trainer = Trainer(model, data, resolved, options.resolve(resolved, model, device), device=device, count=4096)
    for _ in range(2):
        trainer.train_step()
    before = _used()
    for _ in range(count):
        trainer.train_step()
    return batch * count / (_used() - before)


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _elsewhere(asked: argparse.Namespace, *, keep: bool) -> float:
    line = [
        sys.executable,
        __file__,
        "--preset",
        asked.preset,
        "--batch",
        str(asked.batch),
        "--steps",
        str(asked.steps),
    ]
    line += ["--alone", "keep" if keep else "leave"]
    return float(subprocess.run(line, check=True, capture_output=True, text=True, env=os.environ).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="gan/fast", help="FAMILY/PRESET, at 32 px")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=48, help="per measurement")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--alone", choices=["keep", "leave"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        sys.stdout.write(f"{steps(asked.preset, asked.batch, asked.steps, keep=asked.alone == 'keep')}\n")
        return
    ratios = []
    for turn in range(asked.pairs):
        rates = {keep: _elsewhere(asked, keep=keep) for keep in ((True, False) if turn % 2 else (False, True))}
        ratios.append(rates[True] / rates[False])
    found = {
        "preset": asked.preset, "pairs": asked.pairs, "images_per_second": rates[True], "ratio": statistics.median(ratios),
        "ratio_min": min(ratios), "ratio_max": max(ratios),
    }  # fmt: skip
    if asked.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    sys.stdout.write(
        f"{asked.preset}: {found['ratio']:.2f}x ({found['ratio_min']:.2f} to {found['ratio_max']:.2f}) of {asked.pairs} pairs, "
        f"{found['images_per_second']:.1f} images per processor second\n"
    )


if __name__ == "__main__":
    main()
