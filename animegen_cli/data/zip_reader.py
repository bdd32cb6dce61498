"""Reads the central directory of a zip entry by entry, in constant memory: Python's own reader keeps 600 bytes for each.

The format is that of PKWARE's APPNOTE.TXT, sections 4.3.12 to 4.3.16, and 4.6.9 for the Info-ZIP Unicode Path field.
"""

from __future__ import annotations

import bz2
import os
import struct
import zlib
from typing import IO, TYPE_CHECKING, NamedTuple
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_STORED, BadZipFile

from animegen_cli.data import archive_names

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


CHECKED = b"The CRC-32 of the directory is "
"""How the comment of a set of ours begins: a zip states a checksum for each member's bytes, but none for names and places."""


def encoding_of(file: IO[bytes]) -> str | None:
    """The encoding of those names that the zip does not state it for, by all of them together; None where all are ASCII or stated.

    Raises:
        BadZipFile: the directory is damaged.
    """
    start, length, _ = _find(file)
    raw = [name for fields, tail in _records(file, start, length) if (name := _unstated(fields, tail)) is not None]
    return archive_names.guess(raw) if raw else None


def entries(file: IO[bytes], encoding: str | None = None) -> Iterator[Entry]:
    """List all members in the order of the directory, folders too.

    Args:
        file: the zip.
        encoding: that of names which do not state it, see `encoding_of`.

    Raises:
        BadZipFile: the directory is damaged.
    """
    start, length, shift = _find(file)
    _check(file, start, length)
    for fields, tail in _records(file, start, length):
        yield _entry(fields, tail, shift, encoding or archive_names.DEFAULT)


def read(file: IO[bytes], start: int, packed: int, size: int, method: int) -> bytes:
    """Unpack the first `size` bytes of a member, and one more where it holds more than that.

    Args:
        file: the zip.
        start: offset of the member's local header.
        packed: how many bytes of the file to unpack.
        size: how many bytes are wanted.
        method: how it is compressed, as zip numbers the methods.

    Raises:
        BadZipFile: there is no member at this place.
        NotImplementedError: of the methods only stored, deflated and bzip2 are known.
        OSError: the bytes are damaged; or EOFError, or zlib.error.
    """
    file.seek(start)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise BadZipFile("no local header")
    file.seek(sum(struct.unpack("<2H", header[26:30])), os.SEEK_CUR)
    if method == ZIP_STORED:
        return file.read(size)
    if method == ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(packed), size + 1)
    if method == ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress(file.read(packed), size + 1)
    raise NotImplementedError(f"zip method {method}")


def _records(file: IO[bytes], start: int, length: int) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """The numbers of each entry, and what follows them: name, extra fields, comment."""
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
            yield fields, block[used + _ENTRY.size : end]
            used = end
        if not used:
            raise BadZipFile("the directory is cut short")
        position += used


def _unstated(fields: tuple[int, ...], tail: bytes) -> bytes | None:
    """The bytes of a name beyond ASCII of which neither a flag nor a Unicode Path field says how they are encoded."""
    name = tail[: fields[10]]
    if name.isascii() or _unicode_path(fields, tail) is not None:
        return None
    return name if not fields[3] & _UTF8 or not archive_names.decodes(name, "utf-8") else None


def _unicode_path(fields: tuple[int, ...], tail: bytes) -> str | None:
    """The name in UTF-8 that Info-ZIP and others put beside the one in the machine's own encoding."""
    raw, extra = tail[: fields[10]], tail[fields[10] : fields[10] + fields[11]]
    field = _extra_field(extra, 0x7075)
    if len(field) < 5 or field[0] != 1 or struct.unpack_from("<I", field, 1)[0] != zlib.crc32(raw):
        return None  # of a name that another program has changed since
    return field[5:].decode("utf-8") if archive_names.decodes(field[5:], "utf-8") else None


def _name(fields: tuple[int, ...], tail: bytes, encoding: str) -> str:
    raw = tail[: fields[10]]
    if raw.isascii():
        name = raw.decode("ascii")
    elif (stated := _unicode_path(fields, tail)) is not None:
        name = stated
    else:
        utf8 = fields[3] & _UTF8 and archive_names.decodes(raw, "utf-8")
        name = raw.decode("utf-8" if utf8 else encoding, "replace")
    return name.split("\0")[0]


def _entry(fields: tuple[int, ...], tail: bytes, shift: int, encoding: str) -> Entry:
    flags, method, crc, packed, size = fields[3], fields[4], *fields[7:10]
    name_length, extra_length = fields[10:12]
    start = fields[16]
    if _MAX32 in (packed, size, start):
        size, packed, start = _long(tail[name_length : name_length + extra_length], size, packed, start)
    name = _name(fields, tail, encoding)
    return Entry(name, start + shift, packed, size, crc, method, bool(flags & _ENCRYPTED), fields[15] >> 16)


def _long(extra: bytes, *values: int) -> list[int]:
    """The zip64 extra field holds, in this order, those numbers that do not fit 32 bits."""
    field = _extra_field(extra, 1)
    long = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
    return [next(long, value) if value == _MAX32 else value for value in values]


def _extra_field(extra: bytes, wanted: int) -> bytes:
    """The content of one extra field, empty where there is none."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == wanted:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


def _check(file: IO[bytes], start: int, length: int) -> None:
    """BadZipFile where the zip's comment states another checksum of the directory than it has."""
    file.seek(start)
    crc = 0
    while length > 0 and (block := file.read(min(length, 2**20))):
        crc, length = zlib.crc32(block, crc), length - len(block)
    place, _, stated = file.read().rpartition(CHECKED)
    if place and stated != b"%08x" % crc:
        raise BadZipFile("the directory does not match its own checksum")


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
    *_, count, length, stated, comment = _END.unpack_from(tail, found)
    if place + _END.size + comment > end:
        raise BadZipFile("its last bytes are missing")
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
