"""Interleaved pair timing: the only way numbers in this folder are made.

A machine's speed drifts (other processes, turbo, heat), so ours and the other are timed in turn, within the
same process, and each pair gives one ratio. What is reported is the median over the pairs.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


def pairs(
    ours: Callable[[], object],
    peer: Callable[[], object],
    n: int = 5,
    *,
    warmup: int = 1,
    sync: Callable[[], object] | None = None,
) -> dict[str, Any]:
    """Time `ours` and `peer` in `n` interleaved pairs, the order alternating from pair to pair.

    `sync` (for example `torch.cuda.synchronize`) runs before each reading of the clock. Returns seconds:
    `ours` and `peer` (medians), `ours_all` and `peer_all`; `ratio` is the median over pairs of peer / ours,
    so above 1 means that ours is faster, and `ratio_min`/`ratio_max` are its extremes.
    """
    if n < 1:
        raise ValueError("at least one pair is needed")
    for _ in range(warmup):
        ours()
        peer()
    ours_all: list[float] = []
    peer_all: list[float] = []
    for turn in range(n):
        for which in ("ours", "peer") if turn % 2 == 0 else ("peer", "ours"):
            (ours_all if which == "ours" else peer_all).append(seconds(ours if which == "ours" else peer, sync))
    ratios = [theirs / mine for mine, theirs in zip(ours_all, peer_all, strict=True)]
    return {
        "pairs": n,
        "ours": statistics.median(ours_all),
        "peer": statistics.median(peer_all),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "ours_all": ours_all,
        "peer_all": peer_all,
    }


def waiting(device: torch.device) -> Callable[[], None]:
    """Return a function that waits for a CUDA device; there is nothing to wait for elsewhere."""
    import torch

    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def seconds(work: Callable[[], object], sync: Callable[[], object] | None = None) -> float:
    """Return the wall seconds of one call."""
    if sync is not None:
        sync()
    start = time.perf_counter()
    work()
    if sync is not None:
        sync()
    return time.perf_counter() - start


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every script here has: --device, --pairs, --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a sentence")
    return parser


def report(title: str, timed: dict[str, Any], *, target: float, as_json: bool, **facts: Any) -> None:
    """Print one measurement: medians, ratio, its range, the target, and the facts that make it repeatable."""
    if as_json:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        print(json.dumps({"what": title, "target": target, **facts, **timed, **machine}, indent=2, default=str))
        return
    print(f"{title}: ours {timed['ours']:.4g} s, peer {timed['peer']:.4g} s (medians of {timed['pairs']} pairs)")
    extremes = f"from {timed['ratio_min']:.2f} to {timed['ratio_max']:.2f}"
    print(f"  ratio {timed['ratio']:.2f}x ({extremes}), target {target}x")
    for name, value in facts.items():
        print(f"  {name}: {value}")
