"""Turns the bytes of any picture into upright sRGB pixels. All commands see a picture by this one decoder.

Runs in worker processes, so this module imports only numpy and Pillow; what few pictures need is imported with the first of them.
"""

from __future__ import annotations

import importlib
import io
import warnings
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import (
    BmpImagePlugin,  # noqa: F401 - Pillow knows a format once its plugin is imported
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from animegen_cli.data import color_profiles, pictures, strip_metadata
from animegen_cli.data.sources import Unusable

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM")
MAX_PIXELS = 2**26  # 8192 x 8192: two such images decode side by side in under 1 GB
_PLUGINS = {  # format: its name in Pillow, and the modules that know it
    "AVIF": ("AVIF", ("PIL.AvifImagePlugin", "pillow_avif")),
    "HEIC": ("HEIF", ("pillow_heif",)),
    "JPEG XL": ("JXL", ("pillow_jxl",)),
    "JPEG 2000": ("JPEG2000", ("PIL.Jpeg2KImagePlugin",)),
}
_CODECS = {"PIL.AvifImagePlugin": "avif", "PIL.Jpeg2KImagePlugin": "jpg_2000"}  # which Pillow may be built without
_MAY_MOVE = frozenset(("GIF", "PNG", "WEBP", "TIFF", "AVIF", "JXL"))  # MPO holds two views of one moment
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Picture(NamedTuple):
    """A decoded picture."""

    color: Image.Image
    """Upright RGB, in sRGB; what lies under transparent parts is as the file has it."""
    alpha: Image.Image | None
    """How opaque it is, L of the same size; None for a picture that is opaque throughout."""
    frames: int
    """How many the file has, of which this is the first: 1, but for animations and TIFF files of several pages."""

    @property
    def on_white(self) -> Image.Image:
        """The picture as RGB, with white where it is transparent."""
        if self.alpha is None:
            return self.color
        clear = self.color.convert("RGBA")
        clear.putalpha(self.alpha)
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")


def decode(data: bytes) -> Image.Image:
    """Decode a picture as upright RGB: its first frame in sRGB, alpha over white, 16 bits to 8.

    Raises:
        Unusable: it is no picture that can be used; the text says why.
    """
    return decode_picture(data).on_white


def decode_picture(data: bytes) -> Picture:
    """Decode a picture with its alpha, and count its frames.

    What stands beside the pixels (texts, EXIF, profiles, unknown chunks) never loses a picture: where a decoder fails on it, the
    picture is decoded without.

    Raises:
        Unusable: it is no picture that can be used; the text says why.
    """
    if not data:
        raise Unusable("empty file")
    head = data[: pictures.HEAD]
    kind = pictures.kind_of(head)
    if kind in pictures.NOT_READ:
        raise Unusable(pictures.unread(kind))
    formats: tuple[str, ...] = FORMATS
    if kind in _PLUGINS:
        if not _plugged_in(kind):
            raise Unusable(pictures.missing(kind))
        formats = (_PLUGINS[kind][0],)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd EXIF and palettes: what can be decoded is good enough
        try:
            return _decoded(data, formats)
        except (Unusable, MemoryError):
            raise
        except Image.DecompressionBombError:
            raise Unusable("too many pixels") from None
        except Exception as error:
            for bare in strip_metadata.barer(kind, data):
                try:
                    return _decoded(bare, formats)
                except Exception:  # the next copy has still less that could be wrong
                    continue
            unknown = kind is None and isinstance(error, UnidentifiedImageError)
            raise Unusable(pictures.what_instead(head) if unknown else "damaged or cut short") from error


@cache
def _plugged_in(kind: str) -> bool:
    """Whether Pillow reads a format, by itself or by a plug-in, which is imported."""
    for module in _PLUGINS[kind][1]:
        if module in _CODECS:
            from PIL import features

            if not features.check(_CODECS[module]):
                continue
        try:
            plugin = importlib.import_module(module)
        except ImportError:
            continue
        if module == "pillow_heif":
            plugin.register_heif_opener(thumbnails=False)
        return True
    return False


def _decoded(data: bytes, formats: tuple[str, ...]) -> Picture:
    image: Image.Image = Image.open(io.BytesIO(data), formats=formats)
    if image.width * image.height > MAX_PIXELS:
        raise Unusable("too many pixels")
    frames = _frames(image, data) if image.format in _MAY_MOVE else 1
    image.load()
    icc = image.info.get("icc_profile") or None
    profile = color_profiles.png_profile(data, icc) if image.format == "PNG" else icc
    color, alpha = _srgb(_upright(image), profile)
    return Picture(color, alpha, frames)


def _frames(image: Image.Image, data: bytes) -> int:
    """How many frames or pages a file has; 1 where that cannot be told."""
    try:
        if image.format in (
            "GIF",
            "TIFF",
        ):  # which walk through the file to count, so not in the picture that is loaded
            with Image.open(io.BytesIO(data), formats=(str(image.format),)) as another:
                return int(getattr(another, "n_frames", 1))
        return int(getattr(image, "n_frames", 1))
    except Exception:
        return 1


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # odd EXIF
        return image
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.info = image.info
    return turned


def _srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, Image.Image | None]:
    """RGB, and alpha where anything is not opaque."""
    if image.mode == "RGB" and profile is None and "transparency" not in image.info:
        return image, None
    if image.mode.startswith(("I", "F")):  # 16 and 32 bits, gray
        return color_profiles.to_srgb(_eight_bits(image), profile), None
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        alpha = clear.getchannel("A")
        opaque = alpha.getextrema() == (255, 255)
        color = image.convert("L") if image.mode in ("LA", "La") else clear.convert("RGB")
        return color_profiles.to_srgb(color, profile), None if opaque else alpha
    if image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return color_profiles.to_srgb(image, profile), None


def _eight_bits(image: Image.Image) -> Image.Image:
    """A gray picture of 16 or 32 bits as L."""
    values = np.asarray(image, np.float64)
    brightest = values.max(initial=0)
    top = 65535 if image.mode.startswith("I;16") or brightest > 255 else 255  # Pillow's "I" does not say which
    if image.mode == "F":
        top = 1 if brightest <= 1 else 255
    gray = np.nan_to_num(values * (255 / top)).clip(0, 255)
    return Image.fromarray((gray + 0.5).astype(np.uint8))
