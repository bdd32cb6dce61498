"""Fréchet distance of two sets of features, moments included: ours against clean-fid's.

    python benchmarks/frechet.py

Both sides start from the same float32 features in memory. clean-fid's moments are numpy's mean and covariance,
as its own `fid_from_feats` takes them, its square root is SciPy's; ours are in `animegen_cli/metrics/frechet.py`.
Prints the ratio and how far the two distances differ.
"""

from __future__ import annotations

import warnings

import torch
from _pairs import arguments, pairs, report
from cleanfid.fid import fid_from_feats
from torch import Tensor

from animegen_cli.metrics.frechet import frechet_distance, moments

TARGET = 5.0


def features(count: int, dims: int, seed: int, *, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    """(count, dims) float32: correlated, non-negative and of fading importance, as a network's pooled features are."""
    mixing = torch.randn(dims, dims, generator=torch.Generator().manual_seed(dims)) / dims**0.5
    draws = torch.randn(count, dims, generator=torch.Generator().manual_seed(seed)) * scale
    return (draws @ (mixing * torch.logspace(0, -2, dims)) + shift).relu()


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--images", type=int, default=4096, help="of each side")
    parser.add_argument("--dims", type=int, default=2048)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="The `disp` argument")
    real, fake = features(args.images, args.dims, 1), features(args.images, args.dims, 2, shift=0.02, scale=1.1)
    there = [side.to(args.device) for side in (real, fake)]
    arrays = [side.numpy() for side in (real, fake)]
    found = {}

    def ours() -> None:
        found["ours"] = frechet_distance(*(moments(side) for side in there))

    def peer() -> None:
        found["peer"] = float(fid_from_feats(*arrays))

    timed = pairs(ours, peer, args.pairs, warmup=0)
    difference = abs(found["ours"] / found["peer"] - 1)
    report(
        f"Fréchet distance, {args.images:,} x {args.images:,} images, {args.dims} features, {args.device}", timed,
        target=TARGET, as_json=args.json, threads=torch.get_num_threads(), distance=found["ours"],
        relative_difference=difference, equal_to_1e_6=difference < 1e-6,
    )  # fmt: skip


if __name__ == "__main__":
    main()
