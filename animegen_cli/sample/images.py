"""Drawn images in memory, each as the PNG file that `sample` writes: to look at, to save, to compute with."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
from PIL import Image

from animegen_cli import disk, paths
from animegen_cli.errors import MachineError
from animegen_cli.report import grids

if TYPE_CHECKING:
    import os

    from torch import Tensor

MOST_SHOWN = 100
"""Images that a notebook shows of more."""
_SMALL = 96  # pixels below which a face is enlarged to be seen


class Images(Sequence[Image.Image]):
    """Drawn images, one per seed: a sequence of RGB pictures of Pillow's, which notebooks show as a grid."""

    def __init__(self, files: Sequence[bytes], seeds: Sequence[int], sampling: str = "") -> None:
        """Hold the PNG files of drawn images.

        Args:
            files: one per image.
            seeds: one per image.
            sampling: how they were drawn, such as "ddim, 50 steps, spacing trailing".
        """
        self.seeds = tuple(seeds)
        self.sampling = sampling
        self._files = tuple(files)

    @overload
    def __getitem__(self, place: int) -> Image.Image: ...
    @overload
    def __getitem__(self, place: slice) -> Images: ...
    def __getitem__(self, place: int | slice) -> Image.Image | Images:
        """Return one picture with the text that its file holds (`.info`), or some of the images."""
        if isinstance(place, slice):
            return Images(self._files[place], self.seeds[place], self.sampling)
        picture = Image.open(BytesIO(self._files[place]))
        picture.load()
        return picture

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._files)

    def numpy(self) -> np.ndarray:
        """Return the pixels: uint8 (n, H, W, 3), 0 to 255."""
        if not self._files:
            return np.empty((0, 0, 0, 3), np.uint8)
        return np.stack([np.asarray(picture.convert("RGB")) for picture in self])

    def tensor(self) -> Tensor:
        """Return what networks see: float32 (n, 3, H, W) in [-1, 1], on the CPU."""
        from animegen_cli.model.pixels import channels_first, from_uint8

        return from_uint8(channels_first(self.numpy())).contiguous()

    def grid(self, columns: int | None = None, *, zoom: int = 1) -> Image.Image:
        """Lay all images out on one picture.

        Args:
            columns: images per row; by default about as many as rows.
            zoom: a whole factor by which pixels are enlarged.
        """
        return grids.grid(self.numpy(), columns, zoom=zoom)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write each image as `<seed>.png` of six digits, byte by byte as `animegen sample` writes it; returns the files.

        Raises:
            MachineError: the folder cannot be written, or the disk is full.
        """
        place = paths.make_folder(Path(folder))
        files = [place / f"{seed:06d}.png" for seed in self.seeds]
        try:
            for file, data in zip(files, self._files, strict=True):
                disk.write_bytes(file, data)
        except OSError as error:
            raise MachineError(f"cannot write to {place}: {error.strerror}", hint="name another folder") from error
        return files

    def __repr__(self) -> str:
        """Say how many there are, and how they were drawn."""
        return f"{len(self)} images ({self.sampling})" if self.sampling else f"{len(self)} images"

    def _repr_png_(self) -> bytes | None:
        shown = self[:MOST_SHOWN]
        if not shown:
            return None
        return grids.png(shown.grid(zoom=max(1, _SMALL // shown[0].width)))
