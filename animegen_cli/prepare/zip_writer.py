"""Writes a zip of stored members once from front to back: whole under its name, or not at all.

Python's own writer keeps about 600 bytes of each member until it closes; this one keeps 40. The format is that of PKWARE's
APPNOTE.TXT, section 4.3.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from array import array
from typing import TYPE_CHECKING

from animegen_cli import disk
from animegen_cli.data.zip_reader import CHECKED

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_DATE = 1 << 5 | 1  # the first day that zip knows: the same input gives the same bytes
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF


class StoredZip:
    """A zip under construction. Leaving its context makes the file appear under `path`; an exception leaves nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = disk.temporary_beside(path)
        self._names = bytearray()
        self._offsets = array("Q")
        self._crcs = array("L")
        self._sizes = array("Q")

    def __enter__(self) -> StoredZip:
        disk.sweep(self.path.parent)
        self._file = self._temporary.open("w+b", buffering=2**20)
        return self

    def add(self, name: str, data: bytes | memoryview, crc: int | None = None) -> None:
        """Append a member.

        Args:
            name: its name in the zip, ASCII.
            data: its bytes.
            crc: the CRC-32 of `data`, which saves a pass over it where it is known.
        """
        crc = zlib.crc32(data) if crc is None else crc
        self._offsets.append(self._file.tell())
        self._crcs.append(crc)
        self._sizes.append(len(data))
        encoded = name.encode("ascii")
        self._names += encoded + b"\n"
        fields = (0x04034B50, 20, 0, 0, 0, _DATE, crc, len(data), len(data), len(encoded), 0)
        self._file.write(struct.pack("<I5H3I2H", *fields) + encoded)
        self._file.write(data)

    def read(self, index: int) -> bytes:
        """Read the data of a member that was added before; `index` counts members from 0."""
        self._file.flush()
        self._file.seek(self._offsets[index])
        try:
            name = struct.unpack_from("<H", self._file.read(30), 26)[0]
            return self._file.read(name + self._sizes[index])[name:]
        finally:
            self._file.seek(0, os.SEEK_END)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write_directory()
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                os.replace(self._temporary, self.path)
                disk.sync(self.path.parent)
        finally:
            with contextlib.suppress(OSError):
                self._file.close()  # on a full disk this fails once more, and closes
            self._temporary.unlink(missing_ok=True)

    def _write_directory(self) -> None:
        start = self._file.tell()
        names = bytes(self._names).splitlines()
        directory = 0
        for name, offset, crc, size in zip(names, self._offsets, self._crcs, self._sizes, strict=True):
            far = struct.pack("<2HQ", 1, 8, offset) if offset >= _MAX32 else b""  # zip64 extra field
            version = 45 if far else 20
            fields = (0x02014B50, 0x300 | version, version, 0, 0, 0, _DATE, crc, size, size, len(name), len(far))
            tail = struct.pack("<3H2I", 0, 0, 0, 0o644 << 16, min(offset, _MAX32))
            entry = struct.pack("<I6H3I2H", *fields) + tail + name + far
            directory = zlib.crc32(entry, directory)
            self._file.write(entry)
        end = self._file.tell()
        count = len(names)
        if count >= _MAX16 or end >= _MAX32:
            record = (0x06064B50, 44, 0x32D, 45, 0, 0, count, count, end - start, start)
            self._file.write(struct.pack("<IQ2H2I4Q", *record) + struct.pack("<2IQI", 0x07064B50, 0, end, 1))
        few = min(count, _MAX16)
        comment = CHECKED + b"%08x" % directory
        last = (0x06054B50, 0, 0, few, few, min(end - start, _MAX32), min(start, _MAX32), len(comment))
        self._file.write(struct.pack("<I4H2IH", *last) + comment)
