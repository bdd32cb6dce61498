"""Images of the same seeds from several runs: drawn once, stored in each run folder, read back without the networks."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, PngImagePlugin

import animegen_cli
from animegen_cli import disk
from animegen_cli.paths import Run
from animegen_cli.seeds import spell_seeds

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.report.records import Record

Draw = Callable[[Run, Sequence[int]], np.ndarray]
"""Maps a run and seeds to images, uint8 (n, H, W, 3), image i from seed i."""

_KEY = "animegen:drawn"


def images(record: Record, seeds: Sequence[int], draw: Draw) -> np.ndarray:
    """Give what the run draws from the seeds, uint8 (n, H, W, 3): read from `samples/seeds-0-9.png` if that still holds.

    The picture remembers what it was drawn from: the weights file's size and time, the sampling settings and the
    program's version. Where any of them differs, or the file is damaged, `draw` is called and the file replaced.
    """
    path, key = cached_at(record.run, seeds), _drawn_from(record, seeds)
    if (stored := _read(path, key, len(seeds))) is not None:
        return stored
    drawn = np.ascontiguousarray(draw(record.run, seeds))
    # A run on a read-only disk can be compared all the same; it is drawn again next time.
    with contextlib.suppress(OSError):
        _write(path, key, drawn)
    return drawn


def cached_at(run: Run, seeds: Sequence[int]) -> Path:
    """The file in which a run stores its images of these seeds."""
    name = spell_seeds(seeds).replace(",", "_")
    if len(name) > 60:
        name = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return run.samples / f"seeds-{name}.png"


def _drawn_from(record: Record, seeds: Sequence[int]) -> str:
    weights = record.run.weights.stat()
    sampling = json.dumps(record.config.get("sample"), sort_keys=True, default=str)
    parts = [animegen_cli.__version__, weights.st_size, weights.st_mtime_ns, sampling, list(seeds)]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _read(path: Path, key: str, count: int) -> np.ndarray | None:
    try:
        data = path.read_bytes()
        disk.check_png(data)
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            if image.info.get(_KEY) != key or image.width % count:
                return None
            side_by_side = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None
    return np.stack(np.split(side_by_side, count, axis=1))


def _write(path: Path, key: str, drawn: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    info = PngImagePlugin.PngInfo()
    info.add_text(_KEY, key)
    with disk.replacing(path) as temporary:
        Image.fromarray(np.concatenate(list(drawn), axis=1)).save(temporary, "PNG", pnginfo=info)
