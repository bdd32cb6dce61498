"""Images in a NumPy archive, as `animegen sample --format npz` and guided-diffusion write them: `arr_0`, uint8 (n, H, W, 3).

Class numbers may lie beside them in `arr_1`, (n,) or one-hot (n, V). Nothing is ever unpickled: the form of an array is
read from its header, and its bytes are taken as they are. What NumPy packed without compression (`np.savez`) is read in
place, so that a file larger than the memory can be scored.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from animegen_cli.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

IMAGES, LABELS = "arr_0", "arr_1"
"""Where guided-diffusion keeps images and their classes."""
MOMENTS = frozenset(("mu", "sigma"))
"""The arrays of a file of feature statistics, which is no file of images whatever else it holds."""
MOST_PACKED = 2**33
"""Bytes that a compressed array may unpack to, as it is held in memory as a whole."""
MOST_CLASSES = 2**15
"""A class beyond is a mistake, and its name would stand in the set with all below it."""

_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, NotImplementedError, RuntimeError, struct.error)
_MAKE = "`animegen sample --format npz` writes such a file"


class Array(NamedTuple):
    """One array of an archive, as its header describes it."""

    member: str
    """Its name in the archive: `arr_0.npy`."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    """Whether it lies column by column."""
    start: int
    """Where its first byte lies in the unpacked member."""


def names(path: Path) -> frozenset[str] | None:
    """The names of a NumPy archive's arrays; None for a file that is something else, whatever its ending."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except _ZIP:
        return None
    if not members or not all(member.endswith(".npy") for member in members):
        return None
    return frozenset(member.removesuffix(".npy") for member in members)


class ArrayReader:
    """Reads image after image as PPM or PGM bytes; reopened in each process that it is sent to.

    Attributes:
        names: a name for each image, in order.
        shape: (n, H, W, channels), channels 1 or 3.
        labels: class numbers (n,) or one-hot vectors (n, V); None where the file has none.

    Raises:
        DataError: the file is damaged, or holds no images in the form above.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._array = _images(path, archive)
                self.labels = _labels(path, archive, self._array.shape[0])
                _require_whole(archive, self._array)
        except _ZIP as error:
            raise DataError(
                f"{path} is no whole .npz file: {str(error) or type(error).__name__}",
                hint=f"it was cut short or is something else; {_MAKE}",
            ) from None
        count, *size = self._array.shape
        self.shape = (count, size[0], size[1], size[2] if len(size) > 2 else 1)
        width = len(str(count - 1))
        self.names = tuple(f"{number:0{width}d}" for number in range(count))
        self._process = -1
        self._pixels: np.ndarray | None = None

    def __call__(self, index: int) -> bytes:
        """Give one image as PPM or PGM."""
        if self._pixels is None or self._process != os.getpid():
            self._pixels = self._open()
            self._process = os.getpid()
        _, height, width, channels = self.shape
        kind = b"P6" if channels == 3 else b"P5"
        return b"%s %d %d 255\n" % (kind, width, height) + self._pixels[index].tobytes()

    def _open(self) -> np.ndarray:
        """All images: a mapping of the file, or an array in memory where they are compressed."""
        array = self._array
        with zipfile.ZipFile(self._path) as archive:
            info = archive.getinfo(array.member)
            if info.compress_type != zipfile.ZIP_STORED:
                with archive.open(info) as file:
                    file.read(array.start)
                    return np.frombuffer(file.read(), np.uint8).reshape(array.shape)
        with self._path.open("rb") as file:
            start = _start_of(file, info.header_offset)
        return np.memmap(self._path, np.uint8, "r", start + array.start, array.shape)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pixels": None, "_process": -1}


def _images(path: Path, archive: zipfile.ZipFile) -> Array:
    """The array that holds the images: `arr_0`, or the only one with four axes."""
    arrays = [_header(path, archive, member) for member in archive.namelist() if member.endswith(".npy")]
    named = [array for array in arrays if array.member == f"{IMAGES}.npy"]
    found = named or [array for array in arrays if len(array.shape) == 4]
    if len(found) != 1:
        held = ", ".join(f"`{array.member.removesuffix('.npy')}` {array.shape}" for array in arrays) or "no array"
        moments = {array.member.removesuffix(".npy") for array in arrays} >= MOMENTS
        raise DataError(
            f"{path} holds no images: there is no `{IMAGES}`, only {held}",
            hint="statistics are a reference: name them with `--against`" if moments else _MAKE,
        )
    array = found[0]
    name = array.member.removesuffix(".npy")
    if array.dtype != np.uint8:
        objects = "Python objects, which are never read" if array.dtype.hasobject else f"{array.dtype} numbers"
        raise DataError(
            f"`{name}` of {path} holds {objects}, not pixels of 8 bits",
            hint="bring images to 0..255 and save them with `numpy.savez(path, images.round().astype('uint8'))`",
        )
    shape = array.shape
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        channels_first = len(shape) == 4 and shape[1] in (1, 3)
        raise DataError(
            f"`{name}` of {path} is {shape}, not images (n, height, width, 3)",
            hint="put the channels last: `images.transpose(0, 2, 3, 1)`" if channels_first else _MAKE,
        )
    if 0 in shape:
        raise DataError(f"`{name}` of {path} is {shape}: it holds no image", hint=_MAKE)
    if array.fortran:
        raise DataError(
            f"`{name}` of {path} lies column by column", hint="save `numpy.ascontiguousarray(images)` instead"
        )
    return array


def _labels(path: Path, archive: zipfile.ZipFile, count: int) -> np.ndarray | None:
    """The classes of the images, where the file has as many."""
    member = f"{LABELS}.npy"
    if member not in archive.namelist():
        return None
    array = _header(path, archive, member)
    if array.dtype.kind not in "iuf" or array.fortran or array.shape[:1] != (count,) or len(array.shape) > 2:
        raise DataError(
            f"`{LABELS}` of {path} is {array.dtype} {array.shape}, not the classes of {count} images",
            hint=f"save class numbers (n,), or `{IMAGES}` alone",
        )
    with archive.open(member) as file:
        file.read(array.start)
        labels = np.frombuffer(file.read(), array.dtype).reshape(array.shape)
    if labels.ndim == 1 and labels.max() >= MOST_CLASSES:
        raise DataError(
            f"`{LABELS}` of {path} holds class {labels.max()}", hint=f"classes are numbers below {MOST_CLASSES:,}"
        )
    return labels


def _header(path: Path, archive: zipfile.ZipFile, member: str) -> Array:
    with archive.open(member) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
        except ValueError as error:
            raise DataError(f"{member} in {path} is damaged: {error}", hint=_MAKE) from None
        return Array(member, tuple(shape), dtype, fortran and len(shape) > 1, file.tell())


def _require_whole(archive: zipfile.ZipFile, array: Array) -> None:
    """Check length and checksum of the images; BadZipFile where they do not fit."""
    info = archive.getinfo(array.member)
    bytes_of_all = int(np.prod(array.shape, dtype=object))
    if info.file_size != array.start + bytes_of_all:
        raise zipfile.BadZipFile(
            f"{array.member} says {bytes_of_all:,} bytes of pixels and has {info.file_size - array.start:,}"
        )
    if info.compress_type != zipfile.ZIP_STORED and bytes_of_all > MOST_PACKED:
        raise zipfile.BadZipFile(f"{array.member} unpacks to {bytes_of_all:,} bytes; save it with `numpy.savez`")
    with archive.open(info) as file:
        while file.read(1 << 24):
            pass  # the reader compares the checksum at the end


def _start_of(file: IO[bytes], header: int) -> int:
    """Where the bytes of a member begin that has its local header there."""
    file.seek(header)
    lengths: tuple[int, int] = struct.unpack("<26x2H", file.read(30))
    return header + 30 + sum(lengths)
