"""Names in tables find the pictures that they mean, where they differ in harmless ways and one picture fits best."""

from __future__ import annotations

import time
import unicodedata
from typing import TYPE_CHECKING

import pytest
from labelled import column, labels_of

from animegen_cli.data.labels.matching import AMBIGUOUS, NONE, Names

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("picture", "cell", "quality"),
    [
        ("faces/1.png", "faces/1.png", 4),
        ("faces/1.png", "./faces/1.png", 4),
        ("faces/1.png", "faces\\1.png", 4),
        ("faces/1.png", " 'faces/1.png' ", 4),
        ("faces/1.png", "1.png", 3),
        ("faces/1.png", "/home/me/data/faces/1.png", 3),
        ("faces/1.png", "C:\\data\\faces\\1.PNG", 3),
        ("faces/1.JPG", "1.jpg", 3),
        ("Face.png", "face.PNG", 3),
        ("0001.png", "0001.jpg", 2),
        ("face0001.JPG", "face0001.jpeg", 2),
        ("0001.png", "0001", 2),
        ("a.b.png", "a.b", 2),
        ("1.5.png", "1.5", 2),
        ("noending", "noending.png", 2),
        ("0001.png", "1.png", 1),
        ("1.png", "0001", 1),
        ("face_007_02.png", "face_7_2.png", 1),
        ("my face.png", "my%20face.png", 3),
        (unicodedata.normalize("NFD", "ガール1.png"), unicodedata.normalize("NFC", "ガール1.png"), 3),
        (unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "É"), 2),
        ("STRASSE.png", "straße.png", 3),
    ],
)
def test_harmless_differences(picture: str, cell: str, quality: int) -> None:
    names = Names([picture, "other/99.webp"])
    assert names.find(cell) == (0, quality)


@pytest.mark.parametrize("cell", ["", ".png", "2.png", "10.png", "1/", "1.tar", "x" * 5000, "faces"])
def test_other_names_are_no_picture(cell: str) -> None:
    assert Names(["faces/1.png"]).find(cell).place == NONE


@pytest.mark.parametrize(
    ("pictures", "cell", "place"),
    [
        (["a/1.png", "b/1.png"], "1.png", AMBIGUOUS),
        (["a/1.png", "b/1.png"], "b/1.png", 1),
        (["x/a/1.png", "x/b/1.png"], "b/1.jpg", 1),
        (["x/a/1.png", "y/a/1.png"], "a/1.png", AMBIGUOUS),
        (["1.png", "1.jpg"], "1.jpg", 1),
        (["1.png", "1.jpg"], "1.JPG", 1),
        (["1.png", "1.jpg"], "1", AMBIGUOUS),
        (["1.png", "1.jpg"], "1.webp", AMBIGUOUS),
        (["A.png", "a.png"], "a.png", 1),
        (["A.png", "a.png"], "old/a.png", 1),
        (["A.png", "a.png"], "a.jpg", AMBIGUOUS),
        (["01.png", "001.png"], "001.png", 1),
        (["01.png", "001.png"], "1.png", AMBIGUOUS),
        (["01.png", "1.png"], "1.png", 1),
    ],
)
def test_one_picture_must_fit_best(pictures: list[str], cell: str, place: int) -> None:
    assert Names(pictures).find(cell).place == place


def test_paths_may_start_at_the_folder_of_the_table() -> None:
    names = Names(["train/1.png", "test/1.png", "test/deep/2.png"])
    assert names.within("test").find("1.png").place == 1
    assert names.within("test").find("../train/1.png").place == 0
    assert names.within("test").find("deep/2.png").place == 2
    assert names.within("test").find("1.jpg").place == 1
    assert names.find("1.png").place == AMBIGUOUS


def test_a_row_that_names_a_picture_better_wins(tmp_path: Path) -> None:
    table = "file,hair\n001.png,blue\n1.png,pink\n01.jpg,green\n"
    labels = labels_of(tmp_path, ["1.png"], {"labels.csv": table})
    assert column(labels, "hair") == ["pink"]


def test_ambiguous_names_are_said_to_be(tmp_path: Path) -> None:
    table = "file,hair\n1.png,blue\n2.png,pink\n"
    labels = labels_of(tmp_path, ["a/1.png", "b/1.png", "a/2.png", "b/2.png"], {"labels.csv": table})
    assert "its names are ambiguous: several pictures answer to `1.png`" in labels.warnings[0]
    labels = labels_of(tmp_path / "more", ["a/1.png", "b/1.png", "a/2.png"], {"labels.csv": table}, wanted="labels.csv")
    assert column(labels, "hair") == [None, "pink", None]
    assert "1 rows fit several pictures, such as `1.png`: left out" in labels.notes


@pytest.mark.parametrize(
    "form", ["{:04d}.jpg", "{}.png", "{:04d}", ".\\{:04d}.PNG", "images/{:04d}.png", "{:06d}.jpeg"]
)
def test_a_table_of_such_names_fits_all(tmp_path: Path, form: str) -> None:
    table = "filename,hair\n" + "".join(f"{form.format(n)},{('pink', 'blue')[n % 2]}\n" for n in range(20))
    labels = labels_of(tmp_path, [f"{n:04d}.png" for n in range(20)], {"labels.csv": table})
    assert (labels.fits, labels.warnings) == (20, ())
    assert column(labels, "hair") == ["pink", "blue"] * 10


def test_a_column_of_few_small_numbers_is_not_taken_for_names(tmp_path: Path) -> None:
    """Pictures are named 0.png, 1.png, ..., and so may classes be."""
    table = "class,file\n" + "".join(f"{n % 2},face_{n}.png\n" for n in range(20))
    labels = labels_of(
        tmp_path, [f"{n}.png" for n in range(5)] + [f"face_{n}.png" for n in range(20)], {"t.csv": table}
    )
    assert labels.fits == 20


def test_classes_are_no_names_where_the_names_are_of_other_pictures(tmp_path: Path) -> None:
    pictures = [f"{folder}/{n}.png" for folder in "ab" for n in range(4)]
    table = "file,class\n" + "".join(f"q{n}.png,{n % 2}\n" for n in range(20))
    labels = labels_of(tmp_path, pictures, {"t.csv": table})
    assert "no row names a picture (a row: `q0.png,0`; a picture: `a/0.png`)" in labels.warnings[0]
    labels = labels_of(tmp_path / "one", [f"{n}.png" for n in range(4)], {"t.csv": table})
    assert "no row names a picture" in labels.warnings[0]


def test_looking_up_takes_the_same_time_however_many_pictures_there_are() -> None:
    def seconds(count: int) -> float:
        names = Names(f"a/{number:06d}.png" for number in range(count))
        cells = [f"{number}.jpg" for number in range(2000)]
        names.find(cells[0])  # what is made once
        begun = time.process_time()
        for cell in cells:
            names.find(cell)
        return time.process_time() - begun

    assert seconds(64_000) < 8 * seconds(2_000)
