"""Reads the central directory of a zip entry by entry, in constant memory: Python's own reader keeps 600 bytes for each.

The format is that of PKWARE's APPNOTE.TXT, sections 4.3.12 to 4.3.16.
"""

from __future__ import annotations

import struct
from typing import IO, TYPE_CHECKING, NamedTuple
from zipfile import BadZipFile

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENTRY, _END = struct.Struct("<I6H3I5H2I"), struct.Struct("<I4H2IH")
_ZIP64_PLACE, _ZIP64_END = struct.Struct("<2IQI"), struct.Struct("<IQ2H2I4Q")
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_UTF8, _ENCRYPTED = 0x800, 0x1


class Entry(NamedTuple):
    """One member of a zip, as the directory describes it."""

    name: str
    start: int
    """Offset of its local header."""
    packed: int
    """Bytes in the file."""
    size: int
    """Bytes when unpacked."""
    crc: int
    """CRC-32 of the unpacked bytes."""
    method: int
    """How it is compressed, as zip numbers the methods."""
    encrypted: bool
    mode: int
    """Unix file mode, 0 where the zip does not say."""


def entries(file: IO[bytes]) -> Iterator[Entry]:
    """List all members in the order of the directory, folders too.

    Raises:
        BadZipFile: the directory is damaged.
    """
    start, length, shift = _find(file)
    position = start
    while position < start + length:
        file.seek(position)
        block = file.read(2**18)  # many entries at a time
        used = 0
        while used + _ENTRY.size <= len(block) and position + used < start + length:
            fields = _ENTRY.unpack_from(block, used)
            if fields[0] != 0x02014B50:
                raise BadZipFile("bad entry in the directory")
            end = used + _ENTRY.size + sum(fields[10:13])  # name, extra, comment
            if end > len(block):
                break
            yield _entry(fields, block[used + _ENTRY.size : end], shift)
            used = end
        if not used:
            raise BadZipFile("the directory is cut short")
        position += used


def _entry(fields: tuple[int, ...], tail: bytes, shift: int) -> Entry:
    flags, method, crc, packed, size = fields[3], fields[4], *fields[7:10]
    name_length, extra_length = fields[10:12]
    name = tail[:name_length].decode("utf-8" if flags & _UTF8 else "cp437", "replace").split("\0")[0]
    start = fields[16]
    if _MAX32 in (packed, size, start):
        size, packed, start = _long(tail[name_length : name_length + extra_length], size, packed, start)
    return Entry(name, start + shift, packed, size, crc, method, bool(flags & _ENCRYPTED), fields[15] >> 16)


def _long(extra: bytes, *values: int) -> list[int]:
    """The zip64 extra field holds, in this order, those numbers that do not fit 32 bits."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            long = iter(struct.unpack(f"<{length // 8}Q", extra[4 : 4 + length // 8 * 8]))
            return [next(long, value) if value == _MAX32 else value for value in values]
        extra = extra[4 + length :]
    return list(values)


def _find(file: IO[bytes]) -> tuple[int, int, int]:
    """Start and length of the directory, and how far everything is shifted by data before the zip."""
    end = file.seek(0, 2)
    tail_start = max(0, end - _END.size - _MAX16)
    file.seek(tail_start)
    tail = file.read()
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + _END.size > len(tail):
        raise BadZipFile("no end of the directory")
    place = tail_start + found
    *_, count, length, stated, _ = _END.unpack_from(tail, found)
    if count == _MAX16 or _MAX32 in (length, stated):
        record = place - _ZIP64_PLACE.size - _ZIP64_END.size
        file.seek(max(0, record))
        data = file.read(_ZIP64_END.size)
        if record >= 0 and data[:4] == b"PK\x06\x06":
            *_, length, stated = _ZIP64_END.unpack(data)
            place = record
    start = place - length
    if start < 0 or stated > start:
        raise BadZipFile("the directory does not fit the file")
    return start, length, start - stated
