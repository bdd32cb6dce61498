"""Turns the bytes of any picture into one clean square: decoded, resized, hashed, packed as PNG.

Runs in worker processes, so this module imports only numpy and Pillow.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from animegen_cli.data import near_duplicates
from animegen_cli.data.decoding import Picture, decode_picture
from animegen_cli.data.sources import Unusable

FILTER = "lanczos"
FITS = ("crop", "pad", "stretch")


class Recipe(NamedTuple):
    """How a picture becomes an image of the set."""

    size: int = 64
    fit: str = "crop"
    min_size: int = 32
    """Shortest side in pixels below which a picture is dropped."""


class Face(NamedTuple):
    """Where an image of the set was cut out of its picture."""

    box: tuple[int, int, int, int]
    """Left, top, right and bottom of the face itself in pixels of the upright picture; the image shows more."""
    score: float
    """How sure the detector is, in 0..1."""


class Cleaned(NamedTuple):
    """One image of the set."""

    png: bytes
    crc: int
    """CRC-32 of `png`."""
    digest: bytes
    """SHA-256 of the final RGB pixels."""
    fingerprint: bytes
    """What `near_duplicates` compares."""
    noticed: tuple[str, ...] = ()
    """What a person may not want in the set; names of `prepare.faces.NOTICED`."""
    face: Face | None = None
    """The face that it shows, where faces were cut out."""


class Rejected(NamedTuple):
    """A picture that is left out."""

    reason: str
    png: bytes | None = None
    """The picture, where there is one to show on the contact sheet."""
    face: Face | None = None
    """The face that was found, where faces were cut out."""


def opened(data: bytes) -> Picture | Rejected:
    """Decode the bytes of a picture, or say why not."""
    try:
        return decode_picture(data)
    except Unusable as error:
        return Rejected(str(error))
    except MemoryError:
        return Rejected("too many pixels")


def rejected(reason: str, image: Image.Image, recipe: Recipe) -> Rejected:
    """Leave out a picture that can be shown on the contact sheet."""
    return Rejected(reason, encode_png(np.asarray(fit_square(image, recipe.size, "pad"))))


def packed(square: Image.Image, pixels: np.ndarray) -> Cleaned:
    """Make an image of the set from an RGB square of its size and its pixels, uint8 (H, W, 3)."""
    png = encode_png(pixels)
    return Cleaned(png, zlib.crc32(png), digest(pixels), near_duplicates.fingerprint(square))


def digest(pixels: np.ndarray) -> bytes:
    """Hash RGB pixels, uint8 (H, W, 3), with SHA-256: the identity of an image, whatever file holds it."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).digest()


def fit_square(image: Image.Image, size: int, fit: str) -> Image.Image:
    """Make a square of `size` pixels: of the middle (crop), the whole on white (pad) or the whole squeezed (stretch)."""
    lanczos = Image.Resampling.LANCZOS
    width, height = image.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        if width != height:  # `resize(box=)` would let what lies outside shine in
            image = image.crop((left, top, left + side, top + side))
    if fit == "pad" and width != height:
        scale = size / max(width, height)
        inner = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), lanczos)
        square = Image.new("RGB", (size, size), "white")
        square.paste(inner, ((size - inner.width) // 2, (size - inner.height) // 2))
        return square
    return image.resize((size, size), lanczos)


def encode_png(pixels: np.ndarray) -> bytes:
    """Write RGB pixels, uint8 (H, W, 3), as an uncompressed PNG: the same bytes with every version of every library."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with filter type 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    blocks = [b"\x78\x01"]  # zlib header, then deflate blocks of type 0, stored (RFC 1950, RFC 1951)
    for start in range(0, len(raw), 65535):
        block = raw[start : start + 65535]
        blocks += [struct.pack("<BHH", start + 65535 >= len(raw), len(block), len(block) ^ 0xFFFF), block]
    blocks.append(struct.pack(">I", zlib.adler32(raw)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    chunks = _chunk(b"IHDR", header), _chunk(b"IDAT", b"".join(blocks)), _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
