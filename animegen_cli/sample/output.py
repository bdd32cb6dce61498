"""Where drawn images go: files by seed, arrays, animations and videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from animegen_cli import disk
from animegen_cli.errors import MachineError
from animegen_cli.report import grids

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from animegen_cli.sample.recipe import Recipe

PER_FOLDER = 1000
"""Images of one folder at most."""
FRAMES_PER_SECOND = 15


def save(image: Image.Image, path: Path, recipe: Recipe) -> Path:
    """Write a PNG with its recipe and, where it is missing, its folder; MachineError when there is no room or no permission."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with disk.replacing(path, durable=False) as temporary:
            temporary.write_bytes(grids.png(image, recipe.chunks(image)))
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def save_array(pixels: np.ndarray, seeds: Sequence[int], path: Path) -> Path:
    """Write uint8 (n, H, W, 3) as `arr_0`, as ADM's evaluation reads it, with the seeds; MachineError when it cannot."""
    try:
        with disk.replacing(path) as temporary, temporary.open("wb") as file:  # savez adds `.npz` to other names
            np.savez(file, arr_0=pixels, seeds=np.array(seeds))
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def file_of(out: Path, seed: int, name: str = "seeds") -> Path:
    """The file of a seed's image: apart from sheets, so that the folder can be scored, and at most 1,000 together."""
    return out / name / (f"{seed // PER_FOLDER * PER_FOLDER:06d}" if seed >= PER_FOLDER else "") / f"{seed:06d}.png"


def save_video(frames: np.ndarray, path: Path) -> Path:
    """Write a walk (n, H, W, 3) there and back as an mp4 of at least 256 pixels; MachineError without the extra `video`."""
    try:
        import imageio.v3 as video
    except ImportError:
        hint = "type `pip install 'animegen[video]'`, or take `--gif`"
        raise MachineError("writing videos needs an extra", hint=hint) from None
    with disk.replacing(path) as temporary:
        video.imwrite(temporary, _there_and_back(frames), extension=".mp4", fps=FRAMES_PER_SECOND, macro_block_size=1)
    return path


def save_gif(frames: np.ndarray, path: Path) -> Path:
    """Write a walk (n, H, W, 3) there and back, for ever, as an animated GIF of at least 256 pixels, with 256 colors a frame."""
    first, *rest = map(Image.fromarray, _there_and_back(frames))
    with disk.replacing(path) as temporary:
        first.save(temporary, "GIF", save_all=True, append_images=rest, duration=1000 // FRAMES_PER_SECOND, loop=0)
    return path


def _there_and_back(frames: np.ndarray) -> np.ndarray:
    zoom = max(1, -(-256 // frames.shape[1]))
    there = frames.repeat(zoom, axis=1).repeat(zoom, axis=2)
    return np.concatenate([there, there[::-1]])


def _unwritable(path: Path, error: OSError) -> MachineError:
    return MachineError(f"cannot write {path}: {error}", hint="free some space, or name another folder with `--out`")
