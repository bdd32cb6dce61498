"""Reading data set files, foreign zips and plain folders."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pictures import ROOT, encoded, folder_of, hint_of, made, picture
from PIL import Image

from animegen_cli.data.dataset import FaceSet, open_images, require_size
from animegen_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 pictures in two classes, 32 px."""
    folder = tmp_path_factory.mktemp("set")
    folder_of(folder / "faces" / "dark", 50, (32, 32))
    folder_of(folder / "faces" / "light", 50, (32, 32), first=50)
    return made(folder / "faces", folder / "faces.zip").path


def test_a_prepared_set(prepared: Path) -> None:
    faces = FaceSet.open(prepared)
    assert (len(faces), faces.size, faces.name, faces.domains) == (100, 32, "faces", ("anime",))
    assert faces.attributes == {"class": ("dark", "light")}
    train, test = faces.indices("train"), faces.indices("test")
    assert sorted([*train, *test]) == list(range(100)) == faces.indices().tolist()
    assert faces.labels([0, 99]).tolist() == [[0], [1]]
    pixels = faces.pixels([3, 60])
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels[0], np.asarray(picture(3, (32, 32))))
    assert np.array_equal(pixels[1], np.asarray(picture(60, (32, 32))))


def test_unknown_split_and_domain(prepared: Path) -> None:
    faces = FaceSet.open(prepared)
    with pytest.raises(UsageError, match="no split `val`"):
        faces.indices("val")
    with pytest.raises(DataError, match="no domain `photos`"):
        faces.indices("all", "photos")
    assert len(faces.indices("all", "anime")) == 100


def test_scaled_down_once_with_an_antialiased_filter(prepared: Path) -> None:
    faces = FaceSet.open(prepared)
    small = faces.pixels(range(100), size=8)
    assert small.shape == (100, 8, 8, 3)
    blocks = faces.pixels(range(100)).reshape(100, 8, 4, 8, 4, 3).mean((2, 4))
    assert abs(small - blocks).mean() < 4  # close to the mean of each block: nothing is skipped
    expected = picture(5, (32, 32)).resize((8, 8), Image.Resampling.LANCZOS)
    assert np.array_equal(small[5], np.asarray(expected))


def test_too_small_or_not_square_names_the_command(prepared: Path, tmp_path: Path) -> None:
    faces = FaceSet.open(prepared)
    require_size(faces, 32)
    with pytest.raises(DataError, match="64 are needed") as error:
        faces.pixels([0], size=64)
    assert "animegen prepare" in hint_of(error.value)
    assert "--resolution 64" in hint_of(error.value)
    wide = FaceSet.open(folder_of(tmp_path / "wide", 2, (48, 32)))
    assert wide.pixels([0]).shape == (1, 32, 48, 3)
    with pytest.raises(DataError, match="48 x 32, not square") as error:
        require_size(wide, 16)
    assert f"animegen prepare {tmp_path / 'wide'}" in hint_of(error.value)


def test_identities_are_of_pixels_split_and_size(prepared: Path, tmp_path: Path) -> None:
    faces = FaceSet.open(prepared)
    with zipfile.ZipFile(tmp_path / "bare.zip", "w", zipfile.ZIP_DEFLATED) as bare:  # no manifest, other bytes
        for number in reversed(range(100)):
            bare.writestr(f"{number}.png", encoded(picture(number, (32, 32)), compress_level=9))
    assert FaceSet.open(tmp_path / "bare.zip").identity == faces.identity == faces.manifest["identity"]
    parts = [faces.split_identity("train"), faces.split_identity("test"), faces.split_identity("all", 16)]
    assert len({*parts, faces.identity}) == 4
    assert faces.split_identity("all", 32) == faces.split_identity("all") == faces.identity


def test_it_crosses_threads_and_processes(prepared: Path) -> None:
    faces = FaceSet.open(prepared)
    expected = faces.pixels(range(100))
    with ThreadPoolExecutor(8) as threads:
        for part in threads.map(lambda start: (start, faces.pixels(range(start, start + 10))), [0, 20, 40, 60, 80] * 4):
            assert np.array_equal(part[1], expected[part[0] : part[0] + 10])
    again = pickle.loads(pickle.dumps(faces))
    assert np.array_equal(again.pixels(range(100)), expected)


def test_reading_imports_no_torch(prepared: Path) -> None:
    code = (
        "import sys; from animegen_cli.data.dataset import FaceSet\n"
        f"faces = FaceSet.open({str(prepared)!r}); faces.pixels(faces.indices('test'))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---- files from elsewhere --------------------------------------------------------------------------------------


def foreign(path: Path, labels: object) -> FaceSet:
    """A zip as StyleGAN's own tool writes it."""
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(4):
            archive.writestr(f"00000/img{number:08d}.png", encoded(picture(number, (16, 16))))
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return FaceSet.open(path)


def test_stylegan_zips(tmp_path: Path) -> None:
    names = [f"00000/img{number:08d}.png" for number in range(4)]
    plain = foreign(tmp_path / "a.zip", None)
    assert plain.attributes == {}
    assert plain.labels([0, 1]).shape == (2, 0)
    numbers = foreign(tmp_path / "b.zip", [[name, 3 - place] for place, name in enumerate(names)][::-1])
    assert numbers.attributes == {"class": ("0", "1", "2", "3")}
    assert numbers.labels(range(4)).ravel().tolist() == [3, 2, 1, 0]
    vectors = foreign(
        tmp_path / "c.zip", [[names[0], [0, 1]], [names[1], [1, 0]], [names[2], [0, 0]], [names[3], [0, 1]]]
    )
    assert vectors.labels(range(4)).ravel().tolist() == [1, 0, -1, 1]
    assert len(plain.indices("train")) == 4
    assert len(plain.indices("test")) == 0


@pytest.mark.parametrize("labels", [[["00000/img00000000.png", 1]], [["x", "y"]] * 4, "pink"])
def test_labels_that_do_not_fit(tmp_path: Path, labels: object) -> None:
    with pytest.raises(DataError, match="does not fit its images") as error:
        foreign(tmp_path / "a.zip", labels)
    assert hint_of(error.value)


def test_a_plain_folder(tmp_path: Path) -> None:
    folder_of(tmp_path / "samples" / "deeper", 3, (16, 16))
    (tmp_path / "samples" / "notes.txt").write_text("seeds 0-2")
    faces = open_images(tmp_path / "samples")
    assert (len(faces), faces.size, faces.name) == (3, 16, "samples")
    assert faces.member(1) == "deeper/001.png"
    pixels = np.stack([np.asarray(picture(number, (16, 16))) for number in range(3)])
    assert np.array_equal(faces.pixels(range(3)), pixels)
    digests = sorted(hashlib.sha256(image.tobytes()).digest() for image in pixels)
    assert faces.identity == hashlib.sha256(b"[16]" + b"".join(digests)).hexdigest()


# ---- damage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.9999])
def test_a_set_cut_short(prepared: Path, tmp_path: Path, share: float) -> None:
    data = prepared.read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"cut\.zip is no whole data set file") as error:
        FaceSet.open(tmp_path / "cut.zip")
    assert "animegen prepare" in hint_of(error.value)


def test_no_set_at_all(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("not a zip at all")
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    for name in ("text.zip", "empty.zip", "folder", "missing.zip"):
        with pytest.raises(DataError) as error:
            FaceSet.open(tmp_path / name)
        assert name in error.value.message
        assert hint_of(error.value)


def test_one_damaged_image_is_named(prepared: Path, tmp_path: Path) -> None:
    data = bytearray(prepared.read_bytes())
    with zipfile.ZipFile(prepared) as archive:
        data[archive.getinfo("00000/img00000042.png").header_offset + 700] ^= 0xFF
    (tmp_path / "damaged.zip").write_bytes(data)
    faces = FaceSet.open(tmp_path / "damaged.zip")
    assert len(faces.pixels(range(42))) == 42
    with pytest.raises(DataError, match=r"img00000042\.png in .*damaged\.zip"):
        faces.pixels(range(100))


def test_images_of_two_sizes(tmp_path: Path) -> None:
    folder_of(tmp_path / "mixed", 2, (16, 16))
    folder_of(tmp_path / "mixed", 1, (24, 24), first=5)
    with pytest.raises(DataError, match=r"005\.png .* is 24 x 24, the first image 16 x 16") as error:
        open_images(tmp_path / "mixed").pixels(range(3))
    assert "animegen prepare" in hint_of(error.value)


def rewritten(prepared: Path, path: Path, **changes: object) -> Path:
    """The same set with another manifest."""
    with zipfile.ZipFile(prepared) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "manifest.json":
                data = json.dumps({**json.loads(data), **changes}).encode()
            new.writestr(name, data)
    return path


def test_a_manifest_that_does_not_fit(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="100 images, its manifest says 99"):
        FaceSet.open(rewritten(prepared, tmp_path / "a.zip", images=99))
    with pytest.raises(DataError, match="newer animegen") as error:
        FaceSet.open(rewritten(prepared, tmp_path / "b.zip", version=99))
    assert "pip install" in hint_of(error.value)
    with pytest.raises(DataError, match="does not fit"):
        FaceSet.open(rewritten(prepared, tmp_path / "c.zip", attributes={"hair": ["red"]}))
