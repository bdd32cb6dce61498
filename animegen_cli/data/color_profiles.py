"""What the numbers of a picture mean: its ICC profile, or the color chunks of a PNG, by which its pixels become sRGB.

Light where no picture has a profile: Pillow's ImageCms (Little CMS) is imported with the first one. A transform is made once
for each profile, and profiles that mean sRGB cost nothing more than to be recognized.
"""

from __future__ import annotations

import io
import struct
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.ImageCms import ImageCmsTransform

SAME = 3
"""Levels of 255 by which a profile's colors may differ from sRGB at most to count as sRGB."""
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SRGB_POINTS = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_CODE_POINTS = {  # of cICP: ITU-T H.273, table 2
    1: _SRGB_POINTS,
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_SRGB_CURVE = 0.0  # in place of an exponent
_CODE_CURVES = {
    1: _SRGB_CURVE,
    4: 2.2,
    5: 2.8,
    6: _SRGB_CURVE,
    8: 1.0,
    13: _SRGB_CURVE,
    14: _SRGB_CURVE,
    15: _SRGB_CURVE,
}


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Bring a picture to sRGB, relative colorimetric with black point compensation.

    Args:
        image: RGB, L, CMYK or LAB.
        profile: the ICC profile that says what its numbers mean. None, one that is broken and one of another color model than the
            picture's are passed over, as browsers do; a gray picture may have a profile for RGB.
    """
    if profile is None and image.mode != "LAB":
        return image.convert("RGB")
    if image.mode == "LAB":
        profile = b""
    transform = _transform(profile or b"", image.mode)
    if transform is None and image.mode == "L":
        image = image.convert("RGB")
        transform = _transform(profile or b"", image.mode)
    return image.convert("RGB") if transform is None else transform.apply(image)


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """What brings pixels of this mode to sRGB; None where nothing has to be done, or can be."""
    from PIL import ImageCms

    try:
        if mode == "LAB":
            opened = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space != _SPACES.get(mode):
            return None
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        assert isinstance(transform, ImageCms.ImageCmsTransform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return None
    return None if _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCmsTransform, mode: str) -> bool:
    """Whether a transform leaves colors that span the whole cube, or all grays, as they are."""
    if mode not in ("RGB", "L"):
        return False
    levels = np.arange(256, dtype=np.uint8) if mode == "L" else np.linspace(0, 255, 9).astype(np.uint8)
    colors = levels if mode == "L" else np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
    before = Image.fromarray(colors[None])
    after = transform.apply(before)
    assert after is not None
    return bool(np.abs(np.asarray(before.convert("RGB"), int) - np.asarray(after, int)).max() <= SAME)


# ---- PNG ------------------------------------------------------------------------------------------------------


def png_profile(data: bytes, icc: bytes | None) -> bytes | None:
    """Give the ICC profile that a PNG's chunks amount to; None means sRGB.

    Their order is that of the PNG specification (third edition, section 4.3): cICP, iCCP, sRGB, then gAMA with cHRM.

    Args:
        data: the file.
        icc: the profile in its iCCP chunk, where it has one.
    """
    chunks = dict(_color_chunks(data))
    code = chunks.get(b"cICP", b"")
    if len(code) == 4 and code[0] in _CODE_POINTS and code[1] in _CODE_CURVES:
        return _made(_CODE_POINTS[code[0]], _CODE_CURVES[code[1]])
    if icc is not None or b"sRGB" in chunks:
        return icc
    gamma, points = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    if len(gamma) != 4 or not 0.1 <= (exponent := struct.unpack(">I", gamma)[0] / 1e5) <= 2:
        return None  # cHRM alone is of no use
    curve = _SRGB_CURVE if 0.42 <= exponent <= 0.48 else 1 / exponent  # 0.45455 is how programs write sRGB's
    read = tuple(value / 1e5 for value in struct.unpack(">8I", points)) if len(points) == 32 else _SRGB_POINTS
    return _made(read if all(read[1::2]) else _SRGB_POINTS, curve)


def _color_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks before the pixels that say what colors mean."""
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IDAT":
            return
        if kind in (b"cICP", b"sRGB", b"gAMA", b"cHRM"):
            yield kind, data[place + 8 : place + 8 + length]
        place += 12 + length


@lru_cache(maxsize=64)
def _made(points: tuple[float, ...], curve: float) -> bytes | None:
    """Write an ICC profile (version 4.2) of three primaries and one curve; None for those of sRGB.

    Args:
        points: x and y of white, red, green and blue in the CIE 1931 diagram.
        curve: the exponent from a stored value to light, or `_SRGB_CURVE`.
    """
    if np.allclose(points, _SRGB_POINTS, atol=2e-3) and curve == _SRGB_CURVE:
        return None
    white, *primaries = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in zip(points[::2], points[1::2], strict=True))
    columns = np.stack(primaries, 1)
    try:
        columns = columns * np.linalg.solve(columns, white)  # so that all three together give white
        scale = (_BRADFORD @ _D50) / (_BRADFORD @ white)
        adapted = np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD @ columns
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(adapted).all() or np.abs(adapted).max() > 4:
        return None
    if curve == _SRGB_CURVE:
        numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        shape = b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(_fixed, numbers))
    else:
        shape = b"para\0\0\0\0" + struct.pack(">HH", 0, 0) + _fixed(curve)
    text = b"mluc\0\0\0\0" + struct.pack(">IIHHII", 1, 12, 0x656E, 0x5553, 6, 28) + "png".encode("utf-16-be")
    tags = [(b"desc", text), (b"cprt", text), (b"wtpt", _xyz(_D50))]
    tags += [(b"rXYZ", _xyz(adapted[:, 0])), (b"gXYZ", _xyz(adapted[:, 1])), (b"bXYZ", _xyz(adapted[:, 2]))]
    tags += [(name, shape) for name in (b"rTRC", b"gTRC", b"bTRC")]
    table, body, place = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags:
        content += b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), b"\0" * 4, 0x04200000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + b"".join(map(_fixed, _D50.tolist()))
    return head.ljust(128, b"\0") + table + body


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(color: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, color.tolist()))
