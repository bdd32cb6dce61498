"""Precision, recall, density and coverage of large sets of features: ours against whole matrices of SciPy's distances.

    python benchmarks/prdc.py                     512 features
    python benchmarks/prdc.py --dims 2048

The reference is written from the papers' definitions with `scipy.spatial.distance.cdist` in float64, which holds
three matrices of images x images. Ours goes blockwise; its peak memory is measured in a process of its own.
Prints the ratio, the largest difference of the four scores, and the memory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _pairs import arguments, pairs, report
from torch import Tensor

from animegen_cli.metrics.manifold import manifold_scores

TARGET, MEMORY_TARGET = 5.0, 1000


def features(count: int, dims: int, seed: int, *, scale: float = 1.0) -> Tensor:
    """(count, dims) float32 whose variety lies in a few directions, as that of faces does."""
    mixing = torch.randn(24, dims, generator=torch.Generator().manual_seed(dims)) / 24**0.5
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(count, 24, generator=generator) * scale
    return (draws @ mixing + 0.1 * torch.randn(count, dims, generator=generator)).relu()


def reference(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """The four scores of float64 features (N, D) and (M, D)."""
    from scipy.spatial.distance import cdist

    def rims(points: np.ndarray, k: int) -> np.ndarray:
        return np.partition(cdist(points, points), k, axis=1)[:, k]  # place 0 is the point itself

    three, five, of_fake = rims(real, 3), rims(real, 5), rims(fake, 3)
    between = cdist(real, fake)
    inside = between < five[:, None]
    return {
        "precision": float((between <= three[:, None]).any(0).mean()),
        "recall": float((between <= of_fake[None, :]).any(1).mean()),
        "density": float(inside.sum() / (5 * len(fake))),
        "coverage": float(inside.any(1).mean()),
    }


def memory(real: Tensor, fake: Tensor) -> dict[str, int]:
    """Peak resident megabytes of a process that scores once, and of one that only reads the features."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, side in (("real", real), ("fake", fake)):
            np.save(Path(folder) / f"{name}.npy", side.numpy())
        for name in ("read", "scored"):
            words = [sys.executable, __file__, "--alone", name, "--features", folder]
            found[name] = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return found


def alone(what: str, folder: str) -> None:
    real, fake = (torch.from_numpy(np.load(Path(folder) / f"{name}.npy")) for name in ("real", "fake"))
    if what == "scored":
        manifold_scores(real, fake)
    # not getrusage, whose peak a process takes over from the one that started it
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(round(int(line.split()[1]) * 1024 / 1e6) for line in status if line.startswith("VmHWM:")))


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--images", type=int, default=10_000, help="of each side")
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--alone", choices=("read", "scored"), help=argparse.SUPPRESS)
    parser.add_argument("--features", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        alone(args.alone, args.features)
        return
    real, fake = features(args.images, args.dims, 1), features(args.images, args.dims, 2, scale=1.05)
    there = [side.to(args.device) for side in (real, fake)]
    x, y = real.double().numpy(), fake.double().numpy()
    found: dict[str, dict[str, float]] = {}

    def ours() -> None:
        added = manifold_scores(*there).added
        found["ours"] = {name: values.mean().item() for name, values in added.items()}

    def peer() -> None:
        found["peer"] = reference(x, y)

    timed = pairs(ours, peer, args.pairs, warmup=0)
    used = memory(real, fake)
    report(
        f"precision, recall, density, coverage, {args.images:,} x {args.images:,} images, {args.dims} features,"
        f" {args.device}", timed, target=TARGET, as_json=args.json, threads=torch.get_num_threads(),
        scores={name: round(value, 4) for name, value in found["ours"].items()},
        largest_difference=max(abs(found["ours"][name] - found["peer"][name]) for name in found["ours"]),
        peak_memory_MB=used["scored"], of_which_without_scoring_MB=used["read"], memory_target_MB=MEMORY_TARGET,
    )  # fmt: skip


if __name__ == "__main__":
    main()
