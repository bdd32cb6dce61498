"""Pictures and archives that the tests of `prepare`, reading and loading are made of."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from PIL import Image

from animegen_cli.config import Augment
from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.loading import Loader, LoaderConfig
from animegen_cli.errors import ConfigError
from animegen_cli.prepare.prepare import prepare
from animegen_cli.prepare.request import Options, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from animegen_cli.errors import AnimegenError

ROOT = Path(__file__).resolve().parents[1]
AUGMENT = ("flip", "rotate", "crop", "load")


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A random RGB picture of large and small blots; two seeds never look alike."""
    numbers = np.random.default_rng(seed)
    large, small = (
        Image.fromarray(numbers.integers(0, 256, (side, side, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        for side in (5, 20)
    )
    return Image.blend(large, small, 0.3)


def encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    """The image as the bytes of a file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def folder_of(path: Path, count: int, size: tuple[int, int] = (64, 64), first: int = 0) -> Path:
    """A folder with `count` different PNG files, 000.png, 001.png, ..."""
    path.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        picture(number, size).save(path / f"{number:03d}.png")
    return path


def huge_png(width: int, height: int) -> bytes:
    """A small file whose header announces that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * 100), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def command(*words: object, cwd: Path, before: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `animegen prepare` in a process of its own, from this checkout; `before` runs in that process first."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "animegen_cli", "prepare", *map(str, words)]
    return subprocess.run(
        line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, preexec_fn=before
    )


def made(source: Path | str, out: Path, *, photos: Path | str | None = None, **options: Any) -> FaceSet:
    """Prepare one source for each domain in this process, at 32 pixels unless told otherwise, and open the result."""
    chosen = Options(**{"size": 32, "workers": 1, **options})
    others = [] if photos is None else [str(photos)]
    return FaceSet.open(prepare(Request([str(source)], out, chosen, others)).path)


def loader(
    faces: FaceSet,
    *,
    workers: int | Literal["auto"] = "auto",
    memory_limit: int | None = None,
    rank: int = 0,
    world: int = 1,
    **options: Any,
) -> Loader:
    """Batches for training; `options` are fields of `LoaderConfig` and `Augment`, which is off unless said otherwise."""
    augment = Augment(**{"flip": False} | {name: options.pop(name) for name in AUGMENT if name in options})
    chosen: dict[str, Any] = {"split": "train", "seed": 0, "augment": augment, **options}
    return Loader(faces, LoaderConfig(**chosen), workers=workers, memory_limit=memory_limit, rank=rank, world=world)


def rows(images: Tensor | None) -> list[bytes]:
    """Each image as bytes, to count and compare."""
    assert images is not None
    return [image.numpy().tobytes() for image in images]


@contextlib.contextmanager
def refusal(says: str | None = None, kind: type[AnimegenError] = ConfigError) -> Iterator[None]:
    """What is done inside must be refused in words that match, with a hint."""
    with pytest.raises(kind, match=says) as caught:
        yield
    assert caught.value.hint


def hint_of(error: AnimegenError) -> str:
    """The hint, which every error must have."""
    assert error.hint
    return error.hint


def values(faces: FaceSet) -> dict[str, dict[str, str | None]]:
    """Origin -> attribute -> value, None for unknown."""
    table = faces.labels(faces.indices())
    return {
        faces.origin(index): {
            name: names[row[column]] if row[column] >= 0 else None
            for column, (name, names) in enumerate(faces.attributes.items())
        }
        for index, row in enumerate(table)
    }
