"""What pictures decode to: colors by their profiles, alpha, frames; and whole pictures whatever stands beside their pixels."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import types
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pictures import ROOT, encoded, made, picture
from PIL import Image, ImageCms, TiffImagePlugin, features

from animegen_cli.data import color_profiles, decoding
from animegen_cli.data.decoding import decode, decode_picture
from animegen_cli.data.sources import Unusable

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("quiet")


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data)).astype(int)


# ---- colors ---------------------------------------------------------------------------------------------------


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A version 2 display profile of these tags."""
    table, body, place = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), b"none", 0x02100000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(0.9642) + fixed(1) + fixed(0.8249)
    return head.ljust(128, b"\0") + table + body


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(fixed, values))


TEXTS = {
    b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"wide\0" + bytes(78),
    b"cprt": b"text" + bytes(4) + b"none\0",
}
WHITE = {b"wtpt": xyz(0.9642, 1, 0.8249)}


def rgb_profile(red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...], gamma: float) -> bytes:
    columns = {b"rXYZ": xyz(*red), b"gXYZ": xyz(*green), b"bXYZ": xyz(*blue)}
    return icc(b"RGB ", TEXTS | WHITE | columns | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma)))


ADOBE = rgb_profile((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457), 2.2)
P3 = rgb_profile((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407), 2.2)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def in_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """The same colors with the numbers of another profile."""
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, srgb, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    return Image.fromarray(np.asarray(converted))  # without the profile, which Pillow would save by itself


def patches(seed: int) -> Image.Image:
    numbers = np.random.default_rng(seed).integers(20, 220, (8, 8, 3), np.uint8)
    return Image.fromarray(numbers).resize((64, 64), Image.Resampling.NEAREST)


def test_wide_gamut_copies_of_a_picture_are_that_picture(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        image = patches(number)
        image.save(tmp_path / "in" / f"{number}-srgb.png")
        for name, profile in {"adobe": ADOBE, "p3": P3}.items():
            wide = in_profile(image, profile)
            wide.save(tmp_path / "in" / f"{number}-{name}.png", icc_profile=profile)
            assert abs(np.asarray(wide).astype(int) - np.asarray(image)).mean() > 5
            found = pixels((tmp_path / "in" / f"{number}-{name}.png").read_bytes())
            assert abs(found - np.asarray(image)).mean() < 1.5
    assert made(tmp_path / "in", tmp_path / "set.zip").manifest["near_twins"]["clusters"] == 4
    assert len(made(tmp_path / "in", tmp_path / "near.zip", dedupe="near")) == 4


@pytest.mark.parametrize("kind", ["jpeg", "webp", "tiff", "png"])
def test_each_format_carries_its_profile(kind: str) -> None:
    settings: dict[str, dict[str, Any]] = {"jpeg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
    data = encoded(in_profile(patches(1), ADOBE), kind, icc_profile=ADOBE, **settings.get(kind, {}))
    assert abs(pixels(data) - np.asarray(patches(1))).mean() < 2


def test_a_profile_of_srgb_changes_nothing() -> None:
    assert (pixels(encoded(patches(1), icc_profile=SRGB)) == np.asarray(patches(1))).all()


def test_gray_with_a_gamma_and_gray_with_a_profile_for_rgb() -> None:
    gray = Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(8, 0))
    linear = icc(b"GRAY", TEXTS | WHITE | {b"kTRC": curve(1.0)})
    found = pixels(encoded(gray, icc_profile=linear))
    assert (found[..., 0] == found[..., 1]).all()
    assert found[0, 55, 0] == pytest.approx(128, abs=3)  # 0.214 of the light, by IEC 61966-2-1
    assert pixels(encoded(gray, icc_profile=SRGB)).tolist() == np.asarray(gray.convert("RGB")).tolist()
    clear = gray.convert("LA")
    clear.putalpha(Image.new("L", gray.size, 254))
    assert decode_picture(encoded(clear, icc_profile=linear)).color.getpixel((55, 0)) == pytest.approx(
        (128,) * 3, abs=3
    )


@pytest.mark.parametrize(
    "profile", [b"junk", b"", SRGB[:200], ADOBE[:150], icc(b"GRAY", TEXTS | {b"kTRC": curve(1.0)})]
)
def test_profiles_that_are_broken_or_of_other_colors_are_passed_over(profile: bytes) -> None:
    for kind in ("png", "webp"):
        data = encoded(patches(2), kind, icc_profile=profile, **({"lossless": True} if kind == "webp" else {}))
        assert (pixels(data) == np.asarray(patches(2))).all()


def test_colors_under_alpha_keep_their_meaning() -> None:
    wide = in_profile(patches(3), P3).convert("RGBA")
    wide.putalpha(Image.new("L", wide.size, 200))
    found = decode_picture(encoded(wide, icc_profile=P3))
    assert abs(np.asarray(found.color).astype(int) - np.asarray(patches(3))).mean() < 1.5
    assert found.alpha is not None
    assert found.alpha.getextrema() == (200, 200)


def chunk(kind: bytes, data: bytes, *, broken: bool = False) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ broken)


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    """A PNG with chunks behind its header."""
    return data[:33] + b"".join(chunks) + data[33:]


def test_the_color_chunks_of_a_png() -> None:
    image = patches(4)
    same = np.asarray(image)
    gamma = {value: chunk(b"gAMA", struct.pack(">I", value)) for value in (45455, 100000, 0)}
    srgb = chunk(b"sRGB", b"\0")
    primaries = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
    for chunks in ([gamma[45455]], [gamma[45455], primaries], [srgb, gamma[100000]], [gamma[0]], [primaries]):
        assert (pixels(with_chunks(encoded(image), *chunks)) == same).all()
    linear = np.round(255 * (same / 255.0 / 12.92 * (same <= 10) + ((same / 255 + 0.055) / 1.055) ** 2.4 * (same > 10)))
    data = encoded(Image.fromarray(linear.astype(np.uint8)))
    for chunks in ([gamma[100000]], [gamma[100000], primaries]):
        assert abs(pixels(with_chunks(data, *chunks)) - same).mean() < 2
    p3 = encoded(in_profile(image, P3))
    display = chunk(b"cICP", bytes((12, 13, 0, 1)))
    assert abs(pixels(with_chunks(p3, display)) - same).mean() < 2.5
    assert abs(pixels(p3) - same).mean() > 4


def test_transforms_are_made_once_and_only_where_a_profile_asks() -> None:
    color_profiles._transform.cache_clear()
    for number in range(5):
        decode(encoded(patches(number), icc_profile=ADOBE))
    assert color_profiles._transform.cache_info().misses == 1
    code = (
        "import sys; from animegen_cli.data.decoding import decode\n"
        f"decode({encoded(picture(1))!r}); print('PIL.ImageCms' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_ink_becomes_light_by_its_profile() -> None:
    """A profile whose table sends every ink to one gray: what comes out can only come from it."""
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + b"".join(map(fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    ramp = bytes(range(256))
    lut += ramp * 4 + bytes((128, 128, 128)) * 16 + ramp * 3  # L* 50
    head = bytearray(icc(b"CMYK", TEXTS | WHITE | {b"A2B0": lut, b"A2B1": lut}))
    head[12:16], head[20:24] = b"prtr", b"Lab "
    ink = patches(5).convert("CMYK")
    plain, profiled = (pixels(encoded(ink, "tiff", **more)) for more in ({}, {"icc_profile": bytes(head)}))
    assert plain.std() > 30
    assert profiled.std() < 2
    assert profiled.mean() > 60


# ---- beside the pixels ----------------------------------------------------------------------------------------

LONG = b"x" * 1_200_000
BESIDE_PNG = {
    "a long text": chunk(b"tEXt", b"workflow\0" + LONG),
    "a long packed text": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LONG)),
    "a long international text": chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LONG)),
    "many texts": b"".join(chunk(b"zTXt", b"a\0\0" + zlib.compress(LONG[:900_000])) for _ in range(80)),
    "half a text": chunk(b"iTXt", b"a"),
    "a profile of noise": chunk(b"iCCP", b"x\0\0garbage"),
    "a profile packed unknown": chunk(b"iCCP", b"x\0\5garbage"),
    "an empty profile": chunk(b"iCCP", b""),
    "odd EXIF": chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
    "an unknown chunk": chunk(b"prVt", b"1234"),
    "a wrong checksum": chunk(b"tEXt", b"a\0b", broken=True),
    "half a gamma": chunk(b"gAMA", b"\1"),
    "half of its size": chunk(b"pHYs", b"\1"),
    "an animation of nothing": chunk(b"acTL", bytes(8)),
}


@pytest.mark.parametrize("what", BESIDE_PNG)
def test_a_png_is_whole_whatever_stands_beside_its_pixels(what: str) -> None:
    data = encoded(picture(1))
    expected = np.asarray(picture(1))
    assert (pixels(with_chunks(data, BESIDE_PNG[what])) == expected).all()
    assert (pixels(data[:-12] + BESIDE_PNG[what] + data[-12:]) == expected).all()
    with pytest.raises(Unusable, match="damaged or cut short"):
        decode(with_chunks(data, BESIDE_PNG[what])[:-900])


def segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


BESIDE_JPEG = {
    "a profile of noise": segment(0xE2, b"ICC_PROFILE\0\1\1" + b"junk" * 50),
    "a part of a profile": segment(0xE2, b"ICC_PROFILE\0\2\3junk"),
    "half a profile": segment(0xE2, b"ICC_PROFILE\0"),
    "EXIF of noise": segment(0xE1, b"Exif\0\0junkjunk"),
    "EXIF that ends": segment(0xE1, b"Exif\0\0"),
    "a wild MPF": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\3\0" + bytes(40)),
    "wild Photoshop tags": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\xff\xff\xff\xff"),
    "a comment": segment(0xFE, b"x" * 60_000),
    "fill bytes": b"\xff\xff",
}


@pytest.mark.parametrize("what", BESIDE_JPEG)
def test_a_jpeg_is_whole_whatever_stands_beside_its_pixels(what: str) -> None:
    data = encoded(picture(1), "jpeg", quality=95)
    odd = data[:2] + BESIDE_JPEG[what] + data[2:]
    assert (pixels(odd) == pixels(data)).all()
    with pytest.raises(Unusable, match="damaged or cut short"):
        decode(odd[: -len(data) // 2])


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_tiff_is_whole_whatever_tags_stand_beside_its_pixels(compression: str) -> None:
    data = encoded(picture(1), "tiff", compression=compression)
    start = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, start)[0]
    entries = [data[start + 2 + 12 * number : start + 14 + 12 * number] for number in range(count)]
    for tag, kind, length, value in (
        (34675, 7, 5000, 99_999_999), (34665, 4, 1, 99_999_999), (50_000, 99, 3, 3), (282, 5, 1, 99_999_999), (296, 3, 1, 77),
        (700, 1, 100, 99_999_999), (274, 3, 1, 99), (306, 2, 20, 1), (330, 4, 1, 99_999_999),
    ):  # fmt: skip
        kept = [entry for entry in entries if struct.unpack_from("<H", entry)[0] != tag]
        more = sorted(
            [*kept, struct.pack("<HHII", tag, kind, length, value)], key=lambda entry: struct.unpack("<H", entry[:2])
        )
        directory = struct.pack("<H", len(more)) + b"".join(more) + bytes(4)
        odd = data[:4] + struct.pack("<I", len(data)) + data[8:] + directory
        assert (pixels(odd) == np.asarray(picture(1))).all(), tag


def test_a_webp_with_odd_exif_and_profile_is_whole() -> None:
    data = encoded(picture(1), "webp", lossless=True, exif=b"Exif\0\0junkjunk", icc_profile=b"junk" * 30)
    assert (pixels(data) == np.asarray(picture(1))).all()


def test_orientation_outlives_a_text_that_is_too_long() -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    data = with_chunks(encoded(picture(1, (40, 20)), exif=tags), BESIDE_PNG["a long packed text"])
    assert decode(data).size == (20, 40)


# ---- frames ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff"])
def test_frames_are_counted(kind: str) -> None:
    frames = [picture(number) for number in range(4)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert decode_picture(data).frames == 4
    assert decode_picture(encoded(frames[0], kind)).frames == 1


def test_two_views_of_one_moment_are_no_animation() -> None:
    data = encoded(picture(0), "mpo", save_all=True, append_images=[picture(1)])
    assert decode_picture(data).frames == 1


def test_an_animation_cut_short_after_its_first_frame_still_gives_it() -> None:
    frames = [picture(number) for number in range(4)]
    data = encoded(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert decode_picture(data[:-200]).color.size == (64, 64)


# ---- formats of plug-ins --------------------------------------------------------------------------------------


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_avif_is_read() -> None:
    assert abs(pixels(encoded(picture(1), "avif", quality=95)) - np.asarray(picture(1))).mean() < 12


def test_jpeg_2000_is_read() -> None:
    assert (pixels(encoded(picture(1), "jpeg2000")) == np.asarray(picture(1))).all()


HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(100)


def test_a_format_without_its_plug_in_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    decoding._plugged_in.cache_clear()
    for module in ("pillow_heif", "pillow_jxl", "pillow_avif"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(features, "check", lambda feature: False)
    try:
        with pytest.raises(Unusable, match="HEIC needs `pip install pillow-heif`"):
            decode(HEIC)
        with pytest.raises(Unusable, match="JPEG XL needs `pip install pillow-jxl-plugin`"):
            decode(b"\xff\x0a" + bytes(100))
        with pytest.raises(Unusable, match="AVIF needs `pip install pillow-avif-plugin`"):
            decode(HEIC.replace(b"heic", b"avif"))
    finally:
        decoding._plugged_in.cache_clear()


def test_a_plug_in_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for pillow-heif: it registers itself with Pillow as that does, and reads a format of its own."""
    plugin = types.ModuleType("pillow_heif")

    class Opened(TiffImagePlugin.TiffImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self.fp = io.BytesIO(encoded(picture(7), "tiff"))
            super()._open()

    def register_heif_opener(*, thumbnails: bool) -> None:
        Image.register_open("HEIF", Opened, lambda head: head[4:8] == b"ftyp")

    plugin.register_heif_opener = register_heif_opener  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    decoding._plugged_in.cache_clear()
    try:
        assert (pixels(HEIC) == np.asarray(picture(7))).all()
    finally:
        decoding._plugged_in.cache_clear()
        Image.ID.remove("HEIF")
        del Image.OPEN["HEIF"]
