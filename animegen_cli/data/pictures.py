"""What a picture is: by the name of a file, and by its first bytes where the name does not say it.

All that reads pictures (`prepare`, `eval`, `train`, `translate`, `compare`, the page) goes by this one rule, so that what one
of them takes no other leaves out. Light: no numpy, no Pillow.
"""

from __future__ import annotations

import os
import re

READ = {
    "JPEG": ".jpg .jpeg .jpe .jfif .mpo",
    "PNG": ".png .apng",
    "WebP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp .dib",
    "TIFF": ".tif .tiff",
    "PPM": ".ppm .pgm .pbm .pnm",
    "AVIF": ".avif .avifs",
    "HEIC": ".heic .heif .hif",
    "JPEG XL": ".jxl",
    "JPEG 2000": ".jp2 .j2k .j2c .jpf .jpx",
}
"""The formats that are read, where Pillow or a plug-in of it can, and their endings."""
NOT_READ = {
    "Photoshop": ".psd .psb",
    "SVG": ".svg .svgz",
    "icon": ".ico .cur .icns",
    "TGA": ".tga",
    "DDS": ".dds",
    "QOI": ".qoi",
    "PCX": ".pcx",
    "OpenEXR": ".exr",
    "Radiance": ".hdr",
    "GIMP": ".xcf",
    "Krita": ".kra",
    "Clip Studio": ".clip",
    "camera raw": ".dng .cr2 .cr3 .nef .arw .raf .orf .rw2 .pef .srw",
    "PostScript": ".eps .ai",
    "film": ".mp4 .m4v .mkv .webm .mov .avi",
}
"""Formats of pictures that are counted, but not read, and their endings."""
PICTURES = frozenset(" ".join(READ.values()).split())
"""The endings of pictures, in lower case."""
PLUGINS = {"AVIF": "pillow-avif-plugin", "HEIC": "pillow-heif", "JPEG XL": "pillow-jxl-plugin"}
"""The package that teaches Pillow a format that it cannot read by itself."""
HEAD = 40
"""Bytes from the beginning of a file that tell its format."""

_UNREADABLE = {suffix: kind for kind, suffixes in NOT_READ.items() for suffix in suffixes.split()}
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"gimp xcf", "GIMP"),
    (b"v/1\x01", "OpenEXR"),
    (b"\x1aE\xdf\xa3", "film"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"
)
_BITMAP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes
_NETPBM = re.compile(rb"P[1-6]\s+(#|\d)")
_FILMS = re.compile(rb"isom|iso\d|mp4\d|M4V |avc1|qt  |3gp.|dash|mmp4")
_WEB_PAGE = re.compile(rb"\s*<(!doctype html|html|head|\?xml)", re.IGNORECASE)
_APPLE_DOUBLE = re.compile(r"(^|/)(__MACOSX/|\.AppleDouble/|\._)")
_THUMBNAILS = re.compile(r"(^|/)(\.thumbnails|@eaDir)/")
_MASKS = re.compile(r"(^|/)(CelebAMask-HQ-mask-anno|segmim)/")
_SHEETS = (".contact.png", ".boxes.png", ".leaks.png")


def ending(name: str) -> str:
    """Give the ending of a name in lower case: `.jpg` of `x/1.JPG`."""
    return os.path.splitext(name)[1].lower()


def named_as_picture(name: str) -> bool:
    """Whether a file's ending is that of a picture, readable or not."""
    return ending(name) in PICTURES or ending(name) in _UNREADABLE


def left_out(name: str) -> str | None:
    """Say why a picture of this name, relative to its source, belongs to no set; None for one that does.

    The reasons are what an operating system or a program puts beside pictures: thumbnails, hidden files, the segmentation masks of
    CelebAMask-HQ, and the sheets that `prepare` and `translate` write beside their results.
    """
    if _THUMBNAILS.search(name):
        return "thumbnail"
    if name.startswith(".") or "/." in name:
        return "hidden file"
    if _MASKS.search(name):
        return "mask"
    return "contact sheet" if name.endswith(_SHEETS) else None


def is_debris(name: str) -> bool:
    """Whether a Mac left this file beside one of the same name: no picture whatever its ending, but its icon and tags."""
    return _APPLE_DOUBLE.search(name) is not None


def not_read(name: str) -> str | None:
    """The reason to leave out a picture whose ending says that it is of a format that is not read; None for all else."""
    kind = _UNREADABLE.get(ending(name))
    return kind and unread(kind)


def unread(kind: str) -> str:
    """The reason for which a picture of a format that is not read is left out."""
    return "film, take it apart with ffmpeg" if kind == "film" else f"{kind} is not read, convert to PNG"


def missing(kind: str) -> str:
    """The reason for which a picture is left out whose format only a plug-in could read, which is not installed."""
    package = PLUGINS.get(kind)
    return f"{kind} needs `pip install {package}`" if package else unread(kind)


def kind_of(head: bytes) -> str | None:
    """Tell the format of a picture, a key of `READ` or `NOT_READ`, by the first `HEAD` bytes of its file; None for all else.

    The signatures are those of the formats' own standards; DIB and TGA files have none.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "film"}.get(head[8:12])
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS:
        return "BMP"
    if _NETPBM.match(head):
        return "PPM"
    if head[4:8] == b"ftyp":
        return _of_brands(head[8:])
    return None


def _of_brands(brands: bytes) -> str | None:
    """The format of an ISO base media file (ISO/IEC 14496-12) by its brands: the major one, a version, and compatible ones."""
    named = [brands[:4], *(brands[place : place + 4] for place in range(8, len(brands) - 3, 4))]
    kinds = [_BRANDS[brand] for brand in named if brand in _BRANDS]
    if "AVIF" in kinds:  # `mif1` alone says only that there is a still picture inside
        return "AVIF"
    return kinds[0] if kinds else "film" if _FILMS.match(brands) else None


def what_instead(head: bytes) -> str:
    """Say what a file is that is named as a picture and is none, by its first bytes."""
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the picture: `git lfs pull`"
    if _WEB_PAGE.match(head):
        return "a web page, not a picture"
    return "not a picture"
