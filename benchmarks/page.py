"""What the page of a comparison costs to make and to read: six runs with pictures and logs as training leaves them.

    python benchmarks/page.py

`animegen compare` runs in a process of its own with all pictures of the same seeds stored, and must not import torch. The
page is then opened in a headless Chromium (the tests' own), from the file. What counts is the median.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fake_runs  # noqa: E402
from browsing import chromium, opened  # noqa: E402

from animegen_cli.compare import compare  # noqa: E402
from animegen_cli.prepare import drawn  # noqa: E402
from animegen_cli.report import grids  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.paths import Run

MEGABYTES, SECONDS, MAKING = 6.0, 1.0, 3.0
COMPARE = """
import sys
from animegen_cli.cli import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=6, help="runs compared (default: 6)")
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels (default: 64)")
    parser.add_argument("--repeats", type=int, default=7, help="processes and openings (default: 7)")
    parser.add_argument("--figures", action="store_true", help="also write every figure as SVG, PNG and PDF")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.runs, options.size)
        words = ["compare", "--quiet", *(["--figures"] if options.figures else [])]
        found = measure_compare(Path(folder), words, options.repeats)
        page = Path(folder, "comparison", "index.html")
        found |= {"megabytes": page.stat().st_size / 1e6, "opens": measure_opening(page, options.repeats)}
    if options.json:
        print(json.dumps({"what": "page", "runs": options.runs, "size": options.size, **found}, indent=2))
        return
    rows = [
        (
            "page of the comparison",
            f"{found['megabytes']:.2f} MB",
            f"{MEGABYTES:.0f} MB",
            found["megabytes"] < MEGABYTES,
        ),
        ("animegen " + " ".join(words), f"{found['compare']:.2f} s", f"{MAKING:.0f} s", found["compare"] < MAKING),
        ("  of it on the processor", f"{found['processor']:.2f} s", "", None),
        ("opened in Chromium", f"{found['opens']:.2f} s", f"{SECONDS:.0f} s", found["opens"] < SECONDS),
    ]
    for what, value, limit, reached in rows:
        outcome = "" if reached is None else f"under {limit}: {'reached' if reached else 'NOT reached'}"
        print(f"{what:<34} {value:>9}   {outcome}")


def make(folder: Path, runs: int, size: int) -> None:
    """Run folders with scores, curves, grids of noisy drawn faces, and the same seeds stored."""
    chance = np.random.default_rng(0)

    def faces(count: int, start: int) -> np.ndarray:
        """Drawn faces with as much noise as makes them compress like a network's."""
        clean = np.stack([np.asarray(drawn.draw(start + i, size=size).image) for i in range(count)])
        return np.clip(clean + chance.normal(0, 6, clean.shape), 0, 255).astype(np.uint8)

    made = []
    for i in range(runs):
        scores = [
            fake_runs.score(f"{name}-faces", 0.5 + 0.1 * i, std=0.02) for name in ("fd", "kid", "precision", "recall")
        ]
        name = f"{i:05d}-family{i}-fast-faces-{size}"
        run = fake_runs.make(folder / "runs", name, scores=scores, size=size, seen=fake_runs.everything_seen(i))
        for grid in run.samples.glob("*.png"):
            grid.unlink()
        for seen in (0, 100_000, 250_000, 500_000):
            for kind in ("raw", "ema"):
                grids.grid(faces(64, 1000 * i)).save(run.samples / f"{kind}-{seen:012d}.png")
        grids.grid(faces(64, 9000)).save(run.samples / "reals.png")
        (run.path / "judged").mkdir()
        grids.grid(faces(32, 500 * i), 8).save(run.path / "judged/neighbours.png")
        made.append(run)

    def draw(run: Run, seeds: Sequence[int]) -> np.ndarray:
        return faces(len(seeds), sum(run.name.encode()))

    compare.same_seeds(compare.compare(made), range(10), draw)


def measure_compare(folder: Path, words: list[str], repeats: int) -> dict[str, Any]:
    """Median wall seconds and processor seconds of whole processes; an error where torch was imported."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    seconds = []
    processor = []
    for turn in range(repeats + 1):
        start, before = time.perf_counter(), os.times()
        done = subprocess.run(
            [sys.executable, "-c", COMPARE, *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        after = os.times()
        if done.stderr.splitlines()[-1] != "False":
            raise SystemExit("`animegen compare` imported torch")
        if turn > 0:  # the first warms the disk cache and the bytecode
            seconds.append(time.perf_counter() - start)
            processor.append(after[2] + after[3] - before[2] - before[3])
    return {"compare": statistics.median(seconds), "processor": statistics.median(processor)}


def measure_opening(page: Path, repeats: int) -> float:
    """Median seconds from asking for the page to its load event, pictures included; console errors end it."""
    seconds = []
    with chromium() as browser:
        for _ in range(repeats):
            with opened(browser, page.as_uri(), viewport={"width": 1280, "height": 900}) as shown:
                shown.evaluate("Promise.all([...document.images].map(image => image.decode()))")
                seconds.append(shown.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
