"""Faces cut out of pictures: the package's own detector, crops, the manifest, and what is noticed about images."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pictures import command, encoded, hint_of, made, picture
from PIL import Image, ImageDraw

import animegen_cli
from animegen_cli.data import cleaning
from animegen_cli.data.dataset import FaceSet
from animegen_cli.errors import DataError, MachineError, UsageError
from animegen_cli.prepare import drawn, face_detector, faces
from animegen_cli.prepare.face_detector import Box, detect
from animegen_cli.prepare.request import Options

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("quiet")


def scene(size: tuple[int, int], *places: tuple[int, int, int], first: int = 0) -> Image.Image:
    """A meadow under a sky with drawn portraits on it; each place is left, top and side."""
    image = Image.new("RGB", size, (150, 190, 230))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, size[1] * 2 // 3, size[0], size[1]), fill=(110, 160, 90))
    for number, (left, top, side) in enumerate(places, first):
        image.paste(drawn.draw(number, size=side).image, (left, top))
    return image


def overlap(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(wide, 0) * max(high, 0)
    return shared / ((box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared)


def face_of(left: int, top: int, side: int) -> tuple[float, ...]:
    """About where the face of a drawn portrait is: brows to chin, between the cheeks."""
    return left + 0.22 * side, top + 0.35 * side, left + 0.78 * side, top + 0.91 * side


def manifest_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("manifest.json"))


# ---- the network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [(6, 4, (48, 64)), (3, 2, (16, 10)), (3, 1, (70, 65)), (1, 1, (5, 7))]
)
def test_a_convolution_is_that_of_torch(kernel: int, stride: int, size: tuple[int, int]) -> None:
    numbers = np.random.default_rng(kernel)
    x = numbers.normal(size=(*size, 5)).astype(np.float32)
    weight = numbers.normal(size=(7, 5, kernel, kernel)).astype(np.float32)
    bias = numbers.normal(size=7).astype(np.float32)
    before = {6: 1, 3: 1, 1: 0}[kernel]
    after = kernel - stride - before
    padded = F.pad(torch.from_numpy(x).permute(2, 0, 1)[None], (before, after, before, after))
    wanted = F.conv2d(padded, torch.from_numpy(weight), torch.from_numpy(bias), stride)[0].permute(1, 2, 0)
    got = face_detector.convolve(x, weight.transpose(2, 3, 1, 0).reshape(-1, 7), bias, kernel, stride)
    np.testing.assert_allclose(got, wanted.numpy(), atol=1e-4)


def test_a_convolution_takes_what_is_beyond_the_edges_and_cuts_off_below_zero() -> None:
    numbers = np.random.default_rng(3)
    x = numbers.integers(0, 256, (8, 12, 3)).astype(np.uint8)
    weight = numbers.normal(size=(5, 3, 3, 3)).astype(np.float32)
    padded = F.pad(torch.from_numpy(x).permute(2, 0, 1)[None].float(), (1, 1, 1, 1), value=128.0)
    wanted = F.relu(F.conv2d(padded, torch.from_numpy(weight)))[0].permute(1, 2, 0)
    matrix = weight.transpose(2, 3, 1, 0).reshape(-1, 5)
    got = face_detector.convolve(x, matrix, np.zeros(5, np.float32), 3, 1, edge=128, relu=True)
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-4, atol=1e-2)


def test_the_weights_are_in_the_package_and_small() -> None:
    assert face_detector.WEIGHTS.parent.parent.name == animegen_cli.__name__
    assert face_detector.WEIGHTS.stat().st_size < 2_000_000


def test_broken_weights_are_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(face_detector.WEIGHTS.read_bytes()[:5000])
    with pytest.raises(MachineError, match=r"cut\.npz") as caught:
        face_detector.load_weights(tmp_path / "cut.npz")
    assert "pip install" in hint_of(caught.value)


def test_drawn_faces_of_many_sizes_are_found_and_nothing_else() -> None:
    found = missed = others = 0
    for number in range(4):
        places = [(20, 40, 48), (120, 20, 96), (260, 30, 180), (450, 60, 330)]
        boxes = detect(scene((800, 480), *places, first=4 * number))
        truth = [face_of(*place) for place in places]
        hits = [max((overlap(face, box[:4]) for box in boxes), default=0) >= 0.5 for face in truth]
        found += sum(hits)
        missed += len(hits) - sum(hits)
        others += sum(all(overlap(face, box[:4]) < 0.2 for face in truth) for box in boxes)
    assert found >= 14
    assert others <= 1


def test_a_picture_without_faces_has_none() -> None:
    assert sum(len(detect(picture(seed, (500, 300)))) for seed in range(6)) <= 1
    assert detect(Image.new("RGB", (300, 40), "white")) == []
    assert detect(Image.new("RGB", (1, 1))) == []


# ---- boxes -----------------------------------------------------------------------------------------------------


def test_one_face_keeps_its_surest_box() -> None:
    rows = np.array([
        [0, 0, 10, 10, 0.6], [1, 1, 11, 11, 0.9], [40, 40, 50, 50, 0.7],
        [3, 3, 8, 8, 0.8],  # lies inside the surest
        [9, 9, 19, 19, 0.5],  # only touches it
    ])  # fmt: skip
    assert face_detector.suppressed(rows) == [1, 2, 4]


def test_a_small_box_beside_a_surer_face_is_its_earring() -> None:
    face, earring, eye = Box(100, 100, 200, 200, 0.9), Box(205, 160, 225, 180, 0.8), Box(120, 130, 145, 155, 0.7)
    other, surer = Box(300, 100, 320, 120, 0.6), Box(205, 160, 225, 180, 0.95)
    assert face_detector.without_parts([face, earring, eye, other]) == [face, other]
    assert face_detector.without_parts([surer, face]) == [surer, face]


def test_the_square_of_a_face_shows_more_above_than_below() -> None:
    left, top, right, bottom = faces.square(Box(100, 100, 200, 200, 1), 0.3, (1000, 1000))
    assert (right - left, bottom - top) == (160, 160)
    assert (100 - left, right - 200) == (30, 30)
    assert (100 - top, bottom - 200) == (40, 20)


def test_the_square_of_a_face_at_the_edge_moves_inside() -> None:
    assert faces.square(Box(0, 0, 100, 100, 1), 0.5, (400, 300)) == (0, 0, 200, 200)
    assert faces.square(Box(300, 200, 400, 300, 1), 0.5, (400, 300)) == (200, 100, 400, 300)
    assert faces.square(Box(20, 10, 110, 90, 1), 1, (130, 100)) == (15, 0, 115, 100)  # smaller where it does not fit


# ---- the set ---------------------------------------------------------------------------------------------------


@pytest.fixture
def illustrations(tmp_path: Path) -> Path:
    """Two pictures of two and one faces in folders that name a class, and two meadows."""
    folder = tmp_path / "pictures"
    for name, image in {
        "duo/two.png": scene((640, 360), (30, 60, 150), (350, 80, 240)),
        "duo/also.png": scene((500, 400), (100, 50, 200), (330, 200, 120), first=5),
        "solo/one.png": scene((300, 500), (60, 30, 180), first=10),
        "solo/meadow.png": scene((500, 300)),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    return folder


def test_every_face_becomes_an_image_with_its_box_and_the_labels_of_its_picture(
    illustrations: Path, tmp_path: Path
) -> None:
    kept = made(illustrations, tmp_path / "out.zip", faces=True, dedupe="off")
    about = manifest_of(kept.path)
    assert ["solo/meadow.png", "no face found"] in about["dropped_names"]
    assert {key: about["cut"][key] for key in ("pictures", "without_a_face", "such_as", "margin")} == {
        "pictures": 4, "without_a_face": 1, "such_as": ["solo/meadow.png"], "margin": 0.3,
    }  # fmt: skip
    truth = {
        "duo/two.png": [(30, 60, 150), (350, 80, 240)],
        "duo/also.png": [(100, 50, 200), (330, 200, 120)],
        "solo/one.png": [(60, 30, 180)],
    }
    assert {name.partition("#")[0] for name in about["names"]} == set(truth)
    assert {f"{name}#{number + 1}" for name, places in truth.items() for number in range(len(places))} <= set(
        about["names"]
    )
    assert all(0.6 <= face["score"] <= 1 for face in about["faces"])
    for source, places in truth.items():
        boxes = [
            face["box"]
            for name, face in zip(about["names"], about["faces"], strict=True)
            if name.partition("#")[0] == source
        ]
        assert all(max(overlap(box, face_of(*place)) for box in boxes) >= 0.4 for place in places)
    assert kept.size == 32
    classes = [[0 if name.startswith("duo") else 1] for name in about["names"]]
    assert kept.labels(range(len(kept))).tolist() == classes
    assert about["attributes"] == {"class": ["duo", "solo"]}
    with Image.open(tmp_path / "out.boxes.png") as sheet:
        assert sheet.width > 600


def test_faces_below_the_least_size_are_dropped_by_name(illustrations: Path, tmp_path: Path) -> None:
    kept = made(illustrations, tmp_path / "out.zip", faces=True, min_size=150, dedupe="off")
    about = manifest_of(kept.path)
    small = [name for name, why in about["dropped_names"] if why == "face too small"]
    assert small
    assert about["names"]
    assert all(1.6 * (face["box"][2] - face["box"][0]) > 148 for face in about["faces"])
    assert {name.rpartition("#")[0] for name in (*about["names"], *small)} == {
        "duo/two.png", "duo/also.png", "solo/one.png",
    }  # fmt: skip


def test_a_wider_margin_shows_more(illustrations: Path, tmp_path: Path) -> None:
    meadow = (110, 160, 90)
    counts = []
    for margin in (0.0, 1.0):
        kept = made(illustrations, tmp_path / f"{margin}.zip", faces=True, margin=margin, dedupe="off")
        pixels = kept.pixels(range(len(kept)))
        counts.append(int((pixels == meadow).all(3).sum()))
    assert counts[1] > counts[0]


def test_a_limit_holds_for_faces_too(illustrations: Path, tmp_path: Path) -> None:
    assert len(made(illustrations, tmp_path / "out.zip", faces=True, limit=3)) == 3


def test_processes_make_the_same_file(illustrations: Path, tmp_path: Path) -> None:
    one = made(illustrations, tmp_path / "one.zip", faces=True, workers=1).path.read_bytes()
    assert made(illustrations, tmp_path / "two.zip", faces=True, workers=2).path.read_bytes() == one


def test_faces_are_offered_where_most_pictures_are_far_from_square(illustrations: Path, tmp_path: Path) -> None:
    said = command(illustrations, "--out", tmp_path / "out.zip", cwd=tmp_path).stderr
    assert "4 of 4 pictures are far from square and were centre-cropped; `--faces` cuts the faces out" in said
    for words in (["--no-faces"], ["--fit", "pad"], ["--faces"]):
        assert (
            "far from square" not in command(illustrations, "--out", tmp_path / "out.zip", *words, cwd=tmp_path).stderr
        )


def test_the_summary_counts_pictures_with_faces(illustrations: Path, tmp_path: Path) -> None:
    done = command(illustrations, "--faces", "--out", tmp_path / "out.zip", cwd=tmp_path)
    assert "faces    in 3 of 4 pictures; none in 1, such as solo/meadow.png" in done.stdout
    assert "out.boxes.png" in done.stdout


def test_no_face_at_all_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene((500, 300)).save(tmp_path / "in" / "meadow.png")
    with pytest.raises(DataError, match="1 no face found") as caught:
        made(tmp_path / "in", tmp_path / "out.zip", faces=True)
    assert "--faces" in hint_of(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"margin": 0.2}, "--margin"), ({"margin": 3.0, "faces": True}, "--margin 3"), ({"drop": ["gray"]}, "--drop gray"),
        ({"detector": "x.onnx"}, "--detector"), ({"faces": True, "fit": "pad"}, "--fit pad"),
    ],
)  # fmt: skip
def test_words_that_do_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Options(**options)
    assert hint_of(caught.value)


# ---- what is noticed -------------------------------------------------------------------------------------------


def pixels_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((64, 64), Image.Resampling.LANCZOS))


def barred(image: Image.Image, share: float) -> Image.Image:
    """Black bars above and below a picture, each `share` of the height."""
    whole = Image.new("RGB", (image.width, round(image.height / (1 - 2 * share))))
    whole.paste(image, (0, (whole.height - image.height) // 2))
    return whole


def test_black_bars_are_told_from_dark_pictures() -> None:
    portrait = drawn.draw(3, size=128).image
    assert all(faces.has_bars(pixels_of(barred(portrait, share))) for share in (0.05, 0.12, 0.3))
    assert faces.has_bars(pixels_of(barred(portrait, 0.1).rotate(90, expand=True)))
    assert not faces.has_bars(pixels_of(portrait))
    assert not faces.has_bars(np.zeros((64, 64, 3), np.uint8))
    night = Image.new("RGB", (128, 128))
    ImageDraw.Draw(night).ellipse((30, 20, 98, 110), fill=(240, 210, 200))  # a face in the dark
    assert not faces.has_bars(pixels_of(night))


def test_one_color_is_told_from_many() -> None:
    portrait = drawn.draw(3, size=128).image
    gray = np.asarray(portrait.convert("L"), np.float32)[..., None] / 255
    assert faces.is_monochrome(pixels_of(portrait.convert("L").convert("RGB")))
    for paper, ink in (((250, 235, 205), (60, 30, 10)), ((255, 255, 255), (20, 30, 90))):
        tinted = (gray * np.array(paper) + (1 - gray) * np.array(ink)).astype(np.uint8)
        assert faces.is_monochrome(pixels_of(Image.fromarray(tinted)))
    assert not any(faces.is_monochrome(pixels_of(drawn.draw(number, size=128).image)) for number in range(30))


def test_what_is_noticed_is_counted_and_dropped_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        drawn.draw(number, size=128).image.save(folder / f"face{number}.png")
    barred(drawn.draw(3, size=128).image, 0.2).save(folder / "film.png")
    drawn.draw(4, size=128).image.convert("L").save(folder / "manga.png")
    scene((420, 420), (10, 40, 200), (210, 40, 200), first=5).save(folder / "pair.png")
    kept = made(folder, tmp_path / "all.zip", fit="stretch")
    about = manifest_of(kept.path)
    assert about["noticed"] == {"bars": 1, "monochrome": 1}
    assert {what: [about["names"][index] for index in found] for what, found in about["noticed_images"]} == {
        "bars": ["film.png"], "monochrome": ["manga.png"],
    }  # fmt: skip
    kept = made(folder, tmp_path / "few.zip", fit="stretch", drop=["bars", "monochrome", "several"])
    about = manifest_of(kept.path)
    assert about["dropped"] == {"black bars": 1, "gray or a single tint": 1, "several faces": 1}
    assert about["names"] == ["face0.png", "face1.png", "face2.png"]


def test_two_faces_in_one_crop_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scene((420, 420), (10, 40, 200), (210, 40, 200), first=5).save(tmp_path / "in" / "pair.png")
    kept = made(tmp_path / "in", tmp_path / "out.zip", faces=True, margin=1.2, dedupe="off")
    assert manifest_of(kept.path)["noticed"] == {"several": 2}
    assert FaceSet.open(kept.path).size == 32


def test_a_picture_that_is_cut_short_is_dropped_by_its_reason(illustrations: Path, tmp_path: Path) -> None:
    (illustrations / "solo" / "broken.png").write_bytes(encoded(picture(1))[:300])
    kept = made(illustrations, tmp_path / "out.zip", faces=True)
    assert ["solo/broken.png", "damaged or cut short"] in manifest_of(kept.path)["dropped_names"]


def test_a_picture_of_the_set_says_what_is_noticed() -> None:
    result = faces.whole(drawn.draw(0, size=64).image.convert("L").convert("RGB"), cleaning.Recipe(32))
    assert isinstance(result, cleaning.Cleaned)
    assert result.noticed == ("monochrome",)
