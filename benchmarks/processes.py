"""Training in two processes of one thread each, against one process with two threads: what `--nproc 2` brings on two cores.

    python benchmarks/processes.py                                       # gan/fast, vae/fast and ddpm/laptop
    python benchmarks/processes.py --presets ddpm/laptop --count 4       # four processes against four threads

Both sides take the same steps of the same parts, on random images that lie in memory, and start anew in each pair. Only steps are
timed, from the third on. Target: 1.4x with two.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from _pairs import arguments, report

from animegen_cli import ranks
from animegen_cli.data.loading import RawBatch
from animegen_cli.model import families
from animegen_cli.model.family import DataSpec
from animegen_cli.train import options, train
from animegen_cli.train.request import Request
from animegen_cli.train.trainer import Trainer

WARM = 2


class Shares:
    """The rows of this process of random images."""

    def __init__(self, batch: int, size: int, group: ranks.Ranks) -> None:
        images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
        share = batch // group.count
        self.raw = RawBatch(images[group.rank * share :][:share], torch.zeros(share, 0, dtype=torch.int64))

    def batch(self, images_seen: int, count: int | None = None) -> RawBatch:
        """The same images at every step."""
        del images_seen, count
        return self.raw


def measured(preset: str, size: int, steps: int, threads: int, parts: int) -> float:
    """Seconds of a step, in so many parts, of this process and those that were started with it."""
    torch.set_num_threads(threads)
    family, name = preset.split("/")
    chosen = train.read_config(Request(family=family, preset=name, settings=(f"train.parts={parts}",)))
    torch.manual_seed(0)
    model = families.load(family)(chosen.model, DataSpec(size, 4096))
    cpu = torch.device("cpu")
    with ranks.together(ranks.place()) as group:
        data = Shares(chosen.train.batch, size, group)
        found = options.resolve(chosen, model, cpu)
        trainer = Trainer(model, data, chosen, found, device=cpu, count=4096, ranks=group)
        for step in range(WARM + steps):
            if step == WARM:
                group.said(0.0)
                began = time.perf_counter()
            trainer.train_step()
        group.said(0.0)
        return (time.perf_counter() - began) / steps


def seconds(preset: str, size: int, steps: int, processes: int, threads: int) -> float:
    """Seconds of a step, in a part per core, in so many processes of so many threads."""
    parts = processes * threads
    words = [sys.executable, __file__, "--child", preset, str(size), str(steps), str(threads), str(parts)]
    with tempfile.TemporaryDirectory() as folder:
        common = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "WORLD_SIZE": str(processes),
            "GLOO_SOCKET_IFNAME": "lo",
        }
        common[ranks.MEETING] = str(Path(folder) / "meeting")
        started = [
            subprocess.Popen(words, env=common | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
            for rank in range(processes)
        ]
        said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"a process of {preset} failed")
    return float(json.loads(said[0]))


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument(
        "--presets", nargs="*", default=["gan/fast:64", "vae/fast:64", "ddpm/laptop:32"], help="family/preset[:size]"
    )
    parser.add_argument("--steps", type=int, default=6, help="steps per measurement")
    parser.add_argument("--count", type=int, default=2, help="processes, and threads of the one process")
    args = parser.parse_args()
    for word in args.presets:
        preset, _, size = word.partition(":")
        one: list[float] = []
        several: list[float] = []
        for turn in range(args.pairs):
            for processes in (1, args.count) if turn % 2 else (args.count, 1):
                found = seconds(preset, int(size or 64), args.steps, processes, args.count // processes)
                (one if processes == 1 else several).append(found)
        ratios = [theirs / ours for ours, theirs in zip(several, one, strict=True)]
        report(
            f"{preset}: {args.count} processes of one thread against one process of {args.count}",
            {
                "pairs": args.pairs, "ours": statistics.median(several), "peer": statistics.median(one),
                "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios),
                "ours_all": several, "peer_all": one,
            },
            target=1.4, as_json=args.json, device="cpu", torch=torch.__version__, size=int(size or 64),
        )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        name, *numbers = sys.argv[2:]
        side, steps, threads, parts = map(int, numbers)
        print(json.dumps(measured(name, side, steps, threads, parts)))
    else:
        main()
