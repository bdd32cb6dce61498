"""Lists of seeds as they are typed, and the same seeds from several runs: drawn once, kept in each run folder, read
back without the networks."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

import animegen_cli
from animegen_cli.errors import UsageError
from animegen_cli.paths import Run
from animegen_cli.report.records import Record

Draw = Callable[[Run, Sequence[int]], np.ndarray]
"""A run and seeds -> uint8 (n, H, W, 3), image i from seed i."""

MOST_SEEDS = 10_000_000
_KEY = "animegen:drawn"


def parse(text: str, example: str = "0-63,100") -> list[int]:
    """`0-63,100` -> [0, ..., 63, 100]; UsageError when it is no such list, with `example` as what to write."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise UsageError(f"`{text}` is no list of seeds", hint=f"write `{example}`")
        if int(last or first) - int(first) >= MOST_SEEDS:
            raise UsageError(
                f"`{part.strip()}` is more than {MOST_SEEDS:,} seeds", hint="draw them in several commands"
            )
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def spell(seeds: Sequence[int]) -> str:
    """Seeds as they are typed: [0, 1, 2, 9] -> `0-2,9`."""
    parts = []
    for _, group in itertools.groupby(enumerate(seeds), key=lambda pair: pair[1] - pair[0]):
        run = [seed for _, seed in group]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(parts)


def images(record: Record, seeds: Sequence[int], draw: Draw) -> np.ndarray:
    """What the run draws from the seeds, uint8 (n, H, W, 3), from `samples/seeds-0-9.png` if that still holds.

    The picture remembers what it was drawn from: the weights file's size and time, the sampling settings and the
    program's version. Where any of them differs, or the file is damaged, `draw` is called and the file replaced.
    """
    path, key = cached_at(record.run, seeds), _drawn_from(record, seeds)
    if (kept := _read(path, key, len(seeds))) is not None:
        return kept
    drawn = np.ascontiguousarray(draw(record.run, seeds))
    # A run on a read-only disk can be compared all the same; it is drawn again next time.
    with contextlib.suppress(OSError):
        _write(path, key, drawn)
    return drawn


def cached_at(run: Run, seeds: Sequence[int]) -> Path:
    """Where a run keeps its images of these seeds."""
    name = spell(seeds).replace(",", "_")
    if len(name) > 60:
        name = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return run.samples / f"seeds-{name}.png"


def _drawn_from(record: Record, seeds: Sequence[int]) -> str:
    weights = record.run.weights.stat()
    how = json.dumps(record.config.get("sample"), sort_keys=True, default=str)
    parts = [animegen_cli.__version__, weights.st_size, weights.st_mtime_ns, how, list(seeds)]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _read(path: Path, key: str, count: int) -> np.ndarray | None:
    try:
        with Image.open(path) as image:
            if image.info.get(_KEY) != key or image.width % count:
                return None
            side_by_side = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None
    return np.stack(np.split(side_by_side, count, axis=1))


def _write(path: Path, key: str, drawn: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    remembered = PngImagePlugin.PngInfo()
    remembered.add_text(_KEY, key)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        Image.fromarray(np.concatenate(list(drawn), axis=1)).save(temporary, "PNG", pnginfo=remembered)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
