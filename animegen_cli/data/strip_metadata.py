"""The same picture without what stands beside its pixels: texts, EXIF, profiles, chunks that nobody knows.

A decoder that stumbles over one of these need not lose the picture. Each function gives ever barer copies of a file, and leaves its
pixels as they are: a picture that is cut short stays so.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_JPEG_KEPT = (
    frozenset((0xE0, 0xE1, 0xE2, 0xEE)),  # JFIF, EXIF, ICC and Adobe, which says how colors are stored
    frozenset((0xE0, 0xE1, 0xEE)),
    frozenset((0xE0, 0xEE)),
)
_PNG_KEPT = (
    frozenset((b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"iCCP", b"eXIf")),
    frozenset((b"tRNS", b"eXIf")),
    frozenset((b"tRNS",)),
)
_TIFF_PIXELS = frozenset(
    (254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325)
) | {332, 338, 339, 347, 529, 530, 531, 532}
_TIFF_KEPT = (_TIFF_PIXELS | {274, 34675}, _TIFF_PIXELS | {274}, _TIFF_PIXELS)  # with orientation and ICC profile
_WEBP_KEPT = (frozenset((b"ICCP",)), frozenset[bytes]())
_WEBP_PIXELS = frozenset((b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"))


def barer(kind: str | None, data: bytes) -> Iterator[bytes]:
    """Copies of a picture's file with less and less beside the pixels; none where its format has nothing to take off.

    Args:
        kind: its format, as `pictures.kind_of` tells it.
        data: the file.
    """
    copies = _COPIES.get(kind or "")
    if copies is None:
        return
    last = data
    try:
        for bare in copies(data):
            if bare != last:
                yield bare
            last = bare
    except (struct.error, IndexError):  # not even its parts can be told from each other
        return


def _bare_pngs(data: bytes) -> Iterator[bytes]:
    for kept in _PNG_KEPT:
        parts, place = [data[:8]], 8
        while place + 12 <= len(data):
            length, name = struct.unpack_from(">I4s", data, place)
            end = place + 12 + length
            critical = not name[0] & 0x20
            if critical or (
                name in kept and zlib.crc32(data[place + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")
            ):
                parts.append(data[place:end])
            place = end
        yield b"".join(parts)


def _bare_jpegs(data: bytes) -> Iterator[bytes]:
    for kept in _JPEG_KEPT:
        parts, place = [data[:2]], 2
        while True:
            if data[place] != 0xFF:
                place = data.index(b"\xff", place) if b"\xff" in data[place:] else len(data)  # stray bytes
            marker = data[place + 1]
            if marker == 0xFF:
                place += 1
                continue
            if marker == 0xDA:  # the pixels
                yield b"".join([*parts, data[place:]])
                break
            end = place + 2 + struct.unpack_from(">H", data, place + 2)[0]
            if marker in kept or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
                parts.append(data[place:end])
            place = end


def _bare_tiffs(data: bytes) -> Iterator[bytes]:
    order = "<" if data[:2] == b"II" else ">"
    if struct.unpack_from(f"{order}H", data, 2)[0] != 42:
        return  # BigTIFF
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    count = struct.unpack_from(f"{order}H", data, start)[0]
    entries = [data[start + 2 + 12 * number : start + 14 + 12 * number] for number in range(count)]
    for kept in _TIFF_KEPT:
        left = [entry for entry in entries if len(entry) == 12 and struct.unpack(f"{order}H", entry[:2])[0] in kept]
        directory = struct.pack(f"{order}H", len(left)) + b"".join(left) + bytes(4)  # and no further page
        yield data[:start] + directory + data[start + len(directory) :]


def _bare_webps(data: bytes) -> Iterator[bytes]:
    for kept in _WEBP_KEPT:
        parts, place = [], 12
        while place + 8 <= len(data):
            name, length = struct.unpack_from("<4sI", data, place)
            chunk = data[place : place + 8 + length + length % 2]
            if name == b"VP8X":
                flags = chunk[8] & (0x32 if b"ICCP" in kept else 0x12)  # animation and alpha stay
                chunk = chunk[:8] + bytes([flags]) + chunk[9:]
            if name in _WEBP_PIXELS or name in kept:
                parts.append(chunk)
            place += len(chunk)
        body = b"".join(parts)
        yield b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


_COPIES: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "PNG": _bare_pngs,
    "JPEG": _bare_jpegs,
    "TIFF": _bare_tiffs,
    "WebP": _bare_webps,
}
