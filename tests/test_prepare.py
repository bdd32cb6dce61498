"""`prepare` on good input: the file it writes, its sources, labels, split and near-duplicates."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pictures import command, encoded, folder_of, hint_of, made, picture, values
from PIL import Image

from animegen_cli.data import cleaning, kaggle, near_duplicates
from animegen_cli.errors import MachineError, UsageError
from animegen_cli.prepare import drawn
from animegen_cli.prepare.request import Options, Request
from animegen_cli.prepare.zip_writer import StoredZip

pytestmark = pytest.mark.usefixtures("quiet")


# ---- the file --------------------------------------------------------------------------------------------------


def test_file_is_a_stylegan_data_set(tmp_path: Path) -> None:
    for kind, first in (("blue", 0), ("red", 3)):
        folder_of(tmp_path / "faces" / kind, 3, first=first)
    made(tmp_path / "faces", tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        images = [name for name in archive.namelist() if name.endswith(".png")]
        assert images == [f"00000/img{number:08d}.png" for number in range(6)]
        listed = json.loads(archive.read("dataset.json"))["labels"]
        for name in images:
            with Image.open(io.BytesIO(archive.read(name))) as image:
                assert (image.format, image.size, image.mode) == ("PNG", (32, 32), "RGB")
    assert listed == [[name, [1, 0] if number < 3 else [0, 1]] for number, name in enumerate(images)]


def test_images_without_labels_have_null(tmp_path: Path) -> None:
    made(folder_of(tmp_path / "faces", 3), tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert json.loads(archive.read("dataset.json")) == {"labels": None}


def test_uncompressed_png_is_what_pillow_reads() -> None:
    for size in (1, 31, 200):  # 200 needs more than one deflate block
        pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
        data = cleaning.encode_png(pixels)
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image), pixels)
        assert len(data) > pixels.size


def test_manifest_holds_hashes_of_the_pixels_and_nothing_of_the_machine(tmp_path: Path) -> None:
    faces = made(folder_of(tmp_path / "faces", 5), tmp_path / "out.zip", min_size=8)
    manifest = faces.manifest
    pixels = faces.pixels(faces.indices())
    assert manifest["sha256"] == [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
    assert manifest["names"] == [f"{number:03d}.png" for number in range(5)]
    assert (manifest["size"], manifest["fit"], manifest["filter"]) == (32, "crop", "lanczos")
    assert str(tmp_path) not in json.dumps(manifest)
    assert manifest["split"]["train"] + manifest["split"]["test"] == 5


def test_same_bytes_for_any_workers_order_of_files_and_kind_of_source(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(90)]
    pictures = {name: encoded(picture(number)) for number, name in enumerate(names)}
    for order, place in ((0, "a"), (1, "b")):
        folder = tmp_path / place / "faces"
        folder.mkdir(parents=True)
        for name in random.Random(order).sample(names, len(names)):
            (folder / name).write_bytes(pictures[name])
    with zipfile.ZipFile(tmp_path / "faces.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in reversed(names):
            archive.writestr(name, pictures[name])
    with tarfile.open(tmp_path / "faces.tar", "w") as tar:
        tar.add(tmp_path / "a" / "faces", ".")
    sources = (tmp_path / "a/faces", tmp_path / "b/faces", tmp_path / "faces.zip", tmp_path / "faces.tar")
    found = set()
    for number, source in enumerate(sources):
        for workers in (1, 3):
            made(source, tmp_path / "out.zip", workers=workers)
            found.add((tmp_path / "out.zip").read_bytes())
        assert len(found) == 1, (number, source)


def test_identity_follows_the_pixels_and_not_the_file(tmp_path: Path) -> None:
    first = made(folder_of(tmp_path / "one", 6), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for number in range(6):
            archive.writestr(f"{9 - number}.bmp", encoded(picture(number), "bmp"))
    second = made(tmp_path / "two.zip", tmp_path / "b.zip", split=0.5)
    third = made(folder_of(tmp_path / "three", 7), tmp_path / "c.zip")
    assert first.identity == second.identity != third.identity
    assert first.identity != made(tmp_path / "one", tmp_path / "d.zip", size=16).identity


def test_many_members_and_far_offsets_make_a_zip64(tmp_path: Path) -> None:
    count = 66_000  # more than the 65,535 of a plain zip
    with StoredZip(tmp_path / "many.zip") as archive:
        for number in range(count):
            archive.add(f"{number}.txt", str(number).encode())
        assert archive.read(65_999) == b"65999"
    with zipfile.ZipFile(tmp_path / "many.zip") as archive:
        assert len(archive.namelist()) == count
        assert archive.read("65999.txt") == b"65999"


def test_offsets_beyond_four_gigabytes(tmp_path: Path) -> None:
    with StoredZip(tmp_path / "far.zip") as archive:
        archive.add("near.txt", b"near")
        archive._file.seek(2**32 + 100)  # a hole: takes no disk
        archive.add("far.txt", b"far away")
    with zipfile.ZipFile(tmp_path / "far.zip") as archive:
        assert [archive.read(name) for name in archive.namelist()] == [b"near", b"far away"]


# ---- pixels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", cleaning.FITS)
def test_fits(tmp_path: Path, fit: str) -> None:
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, :32], wide[:, 96:] = (255, 0, 0), (0, 0, 255)  # red, black middle, blue
    (tmp_path / "faces").mkdir()
    Image.fromarray(wide).save(tmp_path / "faces" / "wide.png")
    image = made(tmp_path / "faces", tmp_path / "out.zip", fit=fit).pixels([0])[0].astype(int)
    if fit == "crop":
        assert image.max() == 0
    elif fit == "pad":
        assert (image[:6].min(), image[-6:].min()) == (255, 255)
        assert image[16, 2].tolist() == [255, 0, 0]
    else:
        assert image[2, 2].tolist() == [255, 0, 0]
        assert image[-3, -3].tolist() == [0, 0, 255]


def test_scaling_down_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    (tmp_path / "faces").mkdir()
    Image.fromarray(stripes).save(tmp_path / "faces" / "stripes.png")
    image = made(tmp_path / "faces", tmp_path / "out.zip").pixels([0]).astype(int)
    assert abs(image - 127).max() <= 8


# ---- duplicates and split ----------------------------------------------------------------------------------------


def folder_with_duplicates(path: Path) -> Path:
    """20 pictures; 5 of them also as brighter JPEGs, 3 as exact copies in another format."""
    folder_of(path, 20)
    for number in range(5):
        brighter = Image.eval(picture(number), lambda value: min(255, value + 6))
        brighter.save(path / f"near{number}.jpg", quality=90)
    for number in range(10, 13):
        picture(number).save(path / f"copy{number}.bmp")
    return path


def test_dedupe_modes(tmp_path: Path) -> None:
    source = folder_with_duplicates(tmp_path / "faces")
    counts = {}
    for mode in ("exact", "near", "off"):
        faces = made(source, tmp_path / f"{mode}.zip", dedupe=mode)
        counts[mode] = len(faces), faces.manifest["dropped"], faces.manifest["near_twins"]["clusters"]
    assert counts["exact"] == (25, {"exact duplicate": 3}, 5)
    assert counts["near"] == (20, {"exact duplicate": 3, "near duplicate": 5}, 0)
    assert counts["off"] == (28, {}, 8)


def test_near_duplicates_never_part(tmp_path: Path) -> None:
    faces = made(folder_with_duplicates(tmp_path / "faces"), tmp_path / "out.zip", dedupe="off", split=0.5)
    test = set(faces.indices("test").tolist())
    groups = faces.manifest["twins"]
    assert len(groups) == 8
    assert all(len(test.intersection(group)) in (0, len(group)) for group in groups)
    assert {len(faces.indices(split)) > 0 for split in ("train", "test")} == {True}


@pytest.mark.parametrize(("share", "both"), [(1.0, False), (0.99, True), (0.01, True)])
def test_only_a_share_of_one_leaves_no_test_images(tmp_path: Path, share: float, both: bool) -> None:
    faces = made(folder_of(tmp_path / "faces", 4), tmp_path / "out.zip", split=share)
    assert (len(faces.indices("test")) > 0) == both
    assert len(faces.indices("train")) > 0


def test_drawn_faces_are_no_near_duplicates_but_their_jpegs_are() -> None:
    finder = near_duplicates.Finder(300)
    for index in range(100):
        finder.add(near_duplicates.fingerprint(drawn.draw(index, size=64).image))
    assert len(np.unique(finder.clusters())) >= 98
    for index in range(100):
        with Image.open(io.BytesIO(encoded(drawn.draw(index, size=64).image, "jpeg", quality=85))) as image:
            finder.add(near_duplicates.fingerprint(image.resize((48, 48)).resize((64, 64))))
    clusters = finder.clusters()
    assert (clusters[:100] == clusters[100:]).mean() >= 0.98


# ---- sources ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_tars_are_read_in_place(tmp_path: Path, mode: Literal["w:gz", "w:bz2", "w:xz"]) -> None:
    kind = mode[2:]
    source = folder_of(tmp_path / "kaggle" / "images", 40)
    (source / "tags.csv").write_text(
        "file,hair\n" + "".join(f"{n:03d}.png,{'red' if n % 2 else 'blue'}\n" for n in range(40))
    )
    with tarfile.open(tmp_path / f"faces.tar.{kind}", mode) as tar:
        tar.add(source, "images")
    before = set(tmp_path.rglob("*"))
    packed = made(tmp_path / f"faces.tar.{kind}", tmp_path / "a.zip", workers=2)
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "a.zip", tmp_path / "a.contact.png"}
    plain = made(tmp_path / "kaggle", tmp_path / "b.zip")
    assert packed.identity == plain.identity
    assert sorted(values(packed).items()) == sorted(values(plain).items())


def test_a_folder_with_only_archives_means_them(tmp_path: Path) -> None:
    (tmp_path / "kaggle").mkdir()
    with zipfile.ZipFile(tmp_path / "kaggle" / "archive.zip", "w", zipfile.ZIP_BZIP2) as archive:
        for number in range(3):
            archive.writestr(f"data/data/{number}.png", encoded(picture(number)))
    (tmp_path / "kaggle" / "list_attr.csv").write_text("image_id,Smiling\n0.png,1\n1.png,-1\n2.png,1\n")
    faces = made(tmp_path / "kaggle", tmp_path / "out.zip")
    assert [row["Smiling"] for row in values(faces).values()] == ["yes", "no", "yes"]


def test_limit_keeps_that_many_chosen_by_seed(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "faces", 30)
    for number in range(15):
        (source / f"broken{number}.png").write_bytes(b"no picture")
    chosen = {seed: set(values(made(source, tmp_path / "o.zip", limit=12, seed=seed))) for seed in (0, 0, 1)}
    assert [len(names) for names in chosen.values()] == [12, 12]
    assert chosen[0] != chosen[1]
    assert len(made(source, tmp_path / "o.zip", limit=1000)) == 30


def test_demo_has_its_labels_and_the_same_bytes(tmp_path: Path) -> None:
    faces = made("demo", tmp_path / "a.zip", limit=40, seed=5)
    made("demo", tmp_path / "b.zip", limit=40, seed=5, workers=2)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    face = drawn.draw(7, size=32, seed=5)
    place = next(index for index in range(len(faces)) if faces.origin(index) == "000007")
    assert np.array_equal(faces.pixels([place])[0], np.asarray(face.image))
    assert values(faces)["000007"] == face.labels
    assert made("demo", tmp_path / "c.zip", limit=40, seed=6).identity != faces.identity


def test_contact_sheets_are_no_source(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "faces", 4)
    made(source, source / "set.zip")
    with Image.open(source / "set.contact.png") as sheet:
        assert sheet.width > 500
        assert sheet.height > 60
    first = (source / "set.zip").read_bytes()
    made(source, source / "set.zip")
    assert (source / "set.zip").read_bytes() == first


def test_kaggle_without_extra_or_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MachineError) as error:
        kaggle.download("kaggle:splcher/animefacedataset", tmp_path)
    assert "animegen[kaggle]" in hint_of(error.value)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(MachineError, match="credentials") as error:
        kaggle.download("kaggle:splcher/animefacedataset", tmp_path)
    assert "kaggle.json" in hint_of(error.value)
    with pytest.raises(UsageError, match="no Kaggle data set"):
        kaggle.download("kaggle:splcher", tmp_path)


def test_kaggle_download_is_used_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "served.zip", "w") as archive:
        archive.writestr("images/1_2000.png", encoded(picture(1)))
    package = tmp_path / "site" / "kaggle" / "api"  # a client that serves a local file
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "kaggle_api_extended.py").write_text(
        "import shutil\nclass KaggleApi:\n    def authenticate(self): pass\n"
        "    def dataset_download_files(self, name, path, unzip, quiet):\n"
        f"        shutil.copy({str(tmp_path / 'served.zip')!r}, path + '/' + name.split('/')[1] + '.zip')\n"
    )
    for name in [name for name in sys.modules if name.split(".")[0] == "kaggle"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "0123")
    assert len(made("kaggle:splcher/animefacedataset", tmp_path / "sets" / "a.zip")) == 1
    (tmp_path / "served.zip").unlink()
    assert len(made("kaggle:splcher/animefacedataset", tmp_path / "sets" / "b.zip")) == 1
    with pytest.raises(MachineError, match="did not send"):
        made("kaggle:splcher/other", tmp_path / "sets" / "c.zip")


# ---- the command -----------------------------------------------------------------------------------------------


def test_command_writes_the_default_file_and_says_so(tmp_path: Path) -> None:
    folder_of(tmp_path / "faces", 6)
    done = command("faces", "--resolution", 32, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "datasets" / "faces-32.zip").is_file()
    assert (tmp_path / "datasets" / "faces-32.contact.png").is_file()
    assert "datasets/faces-32.zip" in done.stdout
    assert "--fit crop" in done.stderr
    assert "--resolution" not in done.stderr.split("by default:")[1].splitlines()[0]


def test_command_as_json_imports_no_torch(tmp_path: Path) -> None:
    folder_of(tmp_path / "faces", 6)
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")  # found first, in the current folder
    done = command("faces", "--json", "--quiet", "--split", 0.5, "--workers", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert (found["images"], found["path"]) == (6, "datasets/faces-64.zip")
    assert found["split"]["train"] + found["split"]["test"] == 6


def test_default_names() -> None:
    assert Request(["x/y/faces.tar.gz"]).path == Path("datasets/faces-64.zip")
    assert Request(["kaggle:a/b", "demo"], options=Options(size=32)).path == Path("datasets/b+demo-32.zip")
    assert Request(["faces"], Path("mine.zip")).path == Path("mine.zip")


@pytest.mark.parametrize(
    "options",
    [{"size": 2}, {"fit": "squeeze"}, {"dedupe": "all"}, {"split": 0.0}, {"split": 80}, {"limit": 0}, {"workers": 0}],
)
def test_impossible_options_name_what_to_type(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        Options(**options)
    assert hint_of(error.value)


def test_result_over_the_source_is_refused(tmp_path: Path) -> None:
    made(folder_of(tmp_path / "faces", 2), tmp_path / "a.zip")
    before = (tmp_path / "a.zip").read_bytes()
    with pytest.raises(UsageError, match="both the source and the result"):
        made(tmp_path / "a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == before


def test_a_folder_is_no_result(tmp_path: Path) -> None:
    folder_of(tmp_path / "faces", 2)
    (tmp_path / "sets").mkdir()
    with pytest.raises(UsageError, match="is a folder") as error:
        made(tmp_path / "faces", tmp_path / "sets")
    assert "sets/faces.zip" in hint_of(error.value)


@pytest.mark.skipif("ANIMEGEN_REAL_FACES" not in os.environ, reason="ANIMEGEN_REAL_FACES names no zip of faces")
def test_real_faces(tmp_path: Path) -> None:
    faces = made(os.environ["ANIMEGEN_REAL_FACES"], tmp_path / "a.zip", size=64, limit=600, workers=2)
    assert len(faces) == 600
    assert faces.pixels(faces.indices("test")).std() > 30
    assert 0.1 < len(faces.indices("test")) / 600 < 0.3
