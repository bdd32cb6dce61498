"""Labels from tables of every form, class folders and data set files; and the reasons where there are none."""

from __future__ import annotations

import io
import json
import tarfile
import time
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from labelled import HAIR, TWENTY, TWO, column, labels_of, rows
from pictures import command, encoded, folder_of, hint_of, made, picture, values
from scipy.io import savemat

from animegen_cli.data import mat_file, reading, sources
from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.labels.labels import Labels, merge
from animegen_cli.data.labels.search import find_labels
from animegen_cli.data.labels.set_file import unpack
from animegen_cli.errors import DataError
from animegen_cli.prepare.prepare import prepare
from animegen_cli.prepare.request import Options, Request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from animegen_cli.data.sources import Member, Source

pytestmark = pytest.mark.usefixtures("quiet")

COMMA = "filename,hair\n" + rows("{name},{hair}\n")


# ---- which file, and why not -----------------------------------------------------------------------------------


def reason(folder: Path, pictures: list[str], files: dict[str, str | bytes]) -> str:
    """The one warning that a source gets, whose one label file cannot be used."""
    labels = labels_of(folder, pictures, files)
    assert labels.attributes == {}
    (said,) = labels.warnings
    return said


def test_a_table_that_fits_no_picture_is_shown_beside_one(tmp_path: Path) -> None:
    said = reason(tmp_path, TWENTY, {"labels.csv": "file,hair\nface_7.jpg,pink\nface_8.jpg,blue\n"})
    assert said == (
        "labels.csv was found and not used: no row names a picture (a row: `face_7.jpg,pink`; a picture: `0.png`)"
    )


def test_a_table_without_an_attribute_says_why_and_that_it_fits(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(60)]
    words = [f"a face that is number {min(number, 57)}" for number in range(60)]
    table = "path,note,score\n" + "".join(
        f"{name},{word},0.{n}5\n" for n, (name, word) in enumerate(zip(names, words, strict=True))
    )
    said = reason(tmp_path, names, {"labels.csv": table})
    assert "60 of 60 pictures are named, but it has no attribute" in said
    assert "column `note` has 58 values in 60 rows: not an attribute" in said
    assert "column `score` holds measures such as 0.05" in said
    with pytest.raises(DataError, match="column `note` has 58 values in 60 rows"):
        labels_of(tmp_path, names, wanted="labels.csv")


def test_columns_that_are_no_attributes_are_noted(tmp_path: Path) -> None:
    table = "file,hair,score,part\n" + rows("{name},{hair},0.{n},train\n").replace("train", "test", 4)
    labels = labels_of(tmp_path, TWENTY, {"labels.csv": table})
    assert list(labels.attributes) == ["hair"]
    assert labels.notes == (
        "not used: column `score` holds measures such as 0.0, not an attribute; column `part` names the parts of the set",
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.csv", "", "it is empty"),
        ("labels.csv", "file,hair\n", "no row"),
        ("labels.csv", "0.png\n1.png\n2.png\n", "there are only file names"),
        ("labels.csv", b"f\0i\0l\0e\0", "NUL characters"),
        ("labels.jsonl", "{\n{\n", "none of its 2 lines is JSON"),
        ("metadata.json", "[1, 2, 3]", "its list holds no records"),
        ("imagelabels.mat", b"MATLAB 7.3", "not a MATLAB file of level 5"),
    ],
)
def test_a_label_file_that_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    found = reason(tmp_path, TWENTY, {name: content})
    assert found.startswith(f"{name} was found and not used: ")
    assert said in found
    with pytest.raises(DataError, match="cannot be used") as error:
        labels_of(tmp_path, TWENTY, wanted=name)
    assert said in error.value.message
    assert hint_of(error.value)


def test_files_of_a_format_that_is_not_read_take_one_line(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{number}.xml": "<annotation/>" for number in range(20)}
    assert (
        reason(tmp_path, TWENTY, files)
        == "20 .xml files were found and not used: .xml files are not read: save them as CSV"
    )
    assert reason(tmp_path / "sheet", TWENTY, {"labels.xlsx": b"PK"}).startswith(
        "a .xlsx file was found and not used: "
    )
    with pytest.raises(DataError, match=r"labels\.xlsx cannot be used: \.xlsx files are not read") as error:
        labels_of(tmp_path / "sheet", TWENTY, wanted="labels.xlsx")
    assert "CSV" in hint_of(error.value)


def test_many_label_files_take_few_lines(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"t{number:02d}.csv": "file,hair\nx.jpg,pink\n" for number in range(40)}
    labels = labels_of(tmp_path, TWENTY, files)
    assert len(labels.warnings) == 4
    assert labels.warnings[-1].startswith("37 more label files were found and not used: t03.csv, t04.csv, t05.csv, ...")


def test_a_readme_is_no_warning(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "README.txt": "These faces were drawn, by hand;\nall of them.\n",
        "labels.csv": COMMA,
    }
    labels = labels_of(tmp_path, TWENTY, files)
    assert column(labels, "hair") == HAIR
    assert labels.warnings == ()
    assert labels.notes == ("not read as labels: README.txt",)


def test_of_two_tables_that_fit_a_person_chooses(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a.csv": COMMA, "b.csv": "file,eyes\n" + rows("{name},{hair}\n")}
    labels = labels_of(tmp_path, TWENTY, files)
    assert labels.attributes == {}
    assert (
        "a.csv was found and not used: it fits, and so does b.csv: choose with `--labels a.csv`" in labels.warnings[0]
    )
    assert list(labels_of(tmp_path, TWENTY, wanted="b.csv").attributes) == ["eyes"]
    (tmp_path / "b.csv").rename(tmp_path / "tags_b.csv")
    labels = labels_of(tmp_path, TWENTY)  # the name decides, and the other is noted
    assert list(labels.attributes) == ["eyes"]
    assert labels.notes == ("tags_b.csv was taken, not a.csv (choose with `--labels`)",)


def test_a_table_of_few_pictures_is_named_and_taken_when_asked_for(tmp_path: Path) -> None:
    table: dict[str, str | bytes] = {"labels.csv": "file,hair\n" + rows("{name},{hair}\n", TWENTY[:4])}
    said = reason(tmp_path, TWENTY, table)
    assert "only 4 of 20 pictures are named; `--labels labels.csv` takes it" in said
    assert labels_of(tmp_path, TWENTY, wanted="labels.csv").fits == 4


def test_tables_of_the_same_columns_about_other_pictures_are_one(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "train.csv": "file,hair\n" + rows("{name},{hair}\n", TWENTY[:16]),
        "rest.csv": "file,hair\n" + rows("{name},gray\n", TWENTY[16:]),
    }
    labels = labels_of(tmp_path, TWENTY, files)
    assert labels.attributes == {"hair": ("blue", "gray", "pink")}
    assert (labels.fits, labels.warnings) == (20, ())


def test_a_format_that_is_not_read_is_not_called_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.yaml cannot be used"):
        labels_of(tmp_path, TWENTY, {"labels.yaml": "0.png: pink\n"}, wanted="labels.yaml")
    with pytest.raises(DataError, match=r"no labels at `nothing\.csv`: No such file") as error:
        labels_of(tmp_path, TWENTY, {"tags.csv": "x"}, wanted="nothing.csv")
    assert "tags.csv" in hint_of(error.value)


def test_a_million_columns_take_neither_time_nor_memory(tmp_path: Path) -> None:
    wide = 10**6
    table = "file," + ",".join(map(str, range(wide))) + "\n"
    table += "".join(f"{name}," + ",".join("10"[number % 2] * wide) + "\n" for number, name in enumerate(TWENTY[:3]))
    begun = time.process_time()
    said = reason(tmp_path, TWENTY, {"labels.csv": table})
    assert time.process_time() - begun < 5
    assert "it has 1,000,001 columns, and at most 512 are read" in said
    record = json.dumps({"file_name": "0.png", **{str(number): 1 for number in range(2000)}})
    assert "and at most 512 are read" in reason(tmp_path / "lines", TWENTY, {"metadata.jsonl": record})


# ---- from a source of any kind ---------------------------------------------------------------------------------


def test_csv_inside_an_archive_is_found_by_itself(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "tagged.zip", "w") as archive:
        for number in range(4):
            archive.writestr(f"faces/{number}.png", encoded(picture(number)))
        archive.writestr(
            "tags.csv", "file,hair,eyes\n0.png,pink,red\nfaces/1.png,aqua,\n2.png,pink,blue\n9.png,gray,blue\n"
        )
    found = values(made(tmp_path / "tagged.zip", tmp_path / "out.zip"))
    assert found["faces/0.png"] == {"hair": "pink", "eyes": "red"}
    assert found["faces/1.png"] == {"hair": "aqua", "eyes": None}
    assert found["faces/3.png"] == {"hair": None, "eyes": None}


def test_csv_given_by_path_and_none(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "faces", 3)
    (tmp_path / "mine.csv").write_text("000,dark\n001,light\n002,dark\n")
    found = values(made(source, tmp_path / "out.zip", labels=str(tmp_path / "mine.csv")))
    assert [found[f"00{n}.png"]["label"] for n in range(3)] == ["dark", "light", "dark"]
    (source / "tags.csv").write_text("file,hair\n000.png,red\n001.png,red\n")
    assert made(source, tmp_path / "none.zip", labels="none").attributes == {}


def test_base_names_must_be_unique(tmp_path: Path) -> None:
    folder_of(tmp_path / "faces" / "a", 2)
    folder_of(tmp_path / "faces" / "b", 3, first=1)
    (tmp_path / "faces" / "t.csv").write_text("file,hair\n000.png,red\n001.png,blue\na/001.png,green\n003.png,blue\n")
    found = values(made(tmp_path / "faces", tmp_path / "out.zip", labels="t.csv", dedupe="off"))
    hair = {name: row["hair"] for name, row in found.items()}
    assert hair == {"a/000.png": "red", "a/001.png": "green", "b/001.png": None, "b/002.png": None, "b/003.png": "blue"}


def test_celeba_as_downloaded(tmp_path: Path) -> None:
    folder_of(tmp_path / "celeba" / "img_align_celeba", 3, (178, 218))
    table = "3\nSmiling Eyeglasses\n000.png  1 -1\n001.png -1 -1\n002.png  1  1\n"
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text(table)
    (tmp_path / "celeba" / "list_bbox_celeba.txt").write_text("3\nx y\n000.png 1 2\n001.png 3 4\n002.png 5 6\n")
    faces = made(tmp_path / "celeba", tmp_path / "out.zip")
    assert faces.attributes == {"Smiling": ("no", "yes"), "Eyeglasses": ("no", "yes")}
    assert faces.labels(faces.indices()).tolist() == [[1, 0], [0, 0], [1, 1]]


def test_celeba_hq_masks_are_no_faces(tmp_path: Path) -> None:
    folder_of(tmp_path / "CelebAMask-HQ" / "CelebA-HQ-img", 3)
    folder_of(tmp_path / "CelebAMask-HQ" / "CelebAMask-HQ-mask-anno" / "0", 5, first=50)
    assert len(made(tmp_path / "CelebAMask-HQ", tmp_path / "out.zip")) == 3


def test_flowers_as_downloaded(tmp_path: Path) -> None:
    (tmp_path / "flowers" / "jpg").mkdir(parents=True)
    for number in range(1, 5):
        picture(number).save(tmp_path / "flowers" / "jpg" / f"image_{number:05d}.jpg")
    savemat(
        tmp_path / "flowers" / "imagelabels.mat", {"labels": np.array([[3, 1, 3, 2]], np.uint8)}, do_compression=True
    )
    faces = made(tmp_path / "flowers", tmp_path / "out.zip")
    assert faces.attributes == {"class": ("1", "2", "3")}
    assert faces.labels(faces.indices()).ravel().tolist() == [2, 0, 2, 1]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i2", "f8"])
@pytest.mark.parametrize("count", [1, 4, 8189])
def test_matlab_arrays_are_those_that_scipy_wrote(kind: str, count: int, packed: bool) -> None:
    numbers = (np.arange(count) % 102 + 1).astype(kind)
    file = io.BytesIO()
    savemat(file, {"setid": np.eye(3), "labels": numbers[None], "note": "text"}, do_compression=packed)
    assert np.array_equal(mat_file.read_array(file.getvalue(), "labels"), numbers)
    with pytest.raises(ValueError, match="no array `classes`"):
        mat_file.read_array(file.getvalue(), "classes")
    for length in range(0, len(file.getvalue()) - 1, 97):
        with pytest.raises(ValueError):
            mat_file.read_array(file.getvalue()[:length], "classes")


def test_sources_merge_with_one_vocabulary(tmp_path: Path) -> None:
    folder_of(tmp_path / "one" / "blue", 2)
    folder_of(tmp_path / "one" / "red", 2, first=2)
    folder_of(tmp_path / "two" / "green", 2, first=4)
    folder_of(tmp_path / "two" / "blue", 2, first=6)
    folder_of(tmp_path / "plain", 1, first=8)
    out = tmp_path / "out.zip"
    specs = [str(tmp_path / name) for name in ("one", "two", "plain")]
    faces = FaceSet.open(prepare(Request(specs, out, Options(size=32, workers=1))).path)
    assert faces.attributes == {"class": ("blue", "green", "red")}
    assert faces.labels(faces.indices()).ravel().tolist() == [0, 0, 2, 2, 0, 0, 1, 1, -1]
    assert faces.origin(0) == "one/blue/000.png"


def test_a_data_set_file_is_a_source_with_its_labels(tmp_path: Path) -> None:
    first = made("demo", tmp_path / "demo.zip", limit=12, size=64)
    again = made(tmp_path / "demo.zip", tmp_path / "again.zip", size=32)
    assert again.attributes == first.attributes
    assert again.labels(again.indices()).tolist() == first.labels(first.indices()).tolist()


def test_a_compressed_tar_is_read_once_for_all_its_label_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "pairs.tar.gz", "w:gz") as tar:
        for number in range(40):
            for name, data in (
                (f"{number}.png", b"\x89PNG"),
                (f"{number}.txt", f"solo, {TWO[number % 2]} hair".encode()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (source,) = sources.find([str(tmp_path / "pairs.tar.gz")], downloads=tmp_path)
    opened: list[str] = []
    stream = reading.stream

    def counted(source: Source, wanted: list[Member]) -> Iterator[tuple[Member, bytes]]:
        opened.append(source.name)
        return stream(source, wanted)

    monkeypatch.setattr(reading, "stream", counted)
    labels = find_labels(source, None)
    assert labels.attributes == {"hair_color": ("blue", "pink")}
    assert labels.fits == 40
    assert opened == ["pairs"]


# ---- class folders ---------------------------------------------------------------------------------------------


def test_three_hundred_folders_are_classes(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, [f"char_{number:04d}_a/{copy}.png" for number in range(300) for copy in range(2)])
    assert len(labels.attributes["class"]) == 300
    assert labels.rows[:, 0].tolist() == sorted(2 * list(range(300)))


def test_a_hundred_thousand_folders_are_refused_at_once_with_the_limit(tmp_path: Path) -> None:
    source = sources.Source("many", "folder", tmp_path)
    source.members = sources.Members(
        sources.Member(f"{number:06d}_a/{copy}.png") for number in range(100_000) for copy in range(2)
    )
    begun = time.process_time()
    with pytest.raises(
        DataError, match=r"100,000 classes, and at most 500 are possible: dataset\.json holds a number"
    ) as error:
        find_labels(source, "folders")
    assert "--labels none" in hint_of(error.value)
    source.members = sources.Members(sources.Member(f"{number:06d}_a/1.png") for number in range(100_000))
    with pytest.raises(DataError, match="100,000 folders hold 100,000 pictures, fewer than two each"):
        find_labels(source, "folders")
    labels = find_labels(source, None)
    assert labels.attributes == {}
    assert labels.notes[0].startswith("the 100,000 folders were not taken as classes: 100,000 folders hold")
    assert time.process_time() - begun < 10


SHELVES = {
    "Danbooru": [f"{number % 1000:04d}/{number}.jpg" for shelf in range(40) for number in range(shelf, 9_000, 1000)],
    "FFHQ": [f"{number // 1000 * 1000:05d}/{number:05d}.png" for number in range(0, 5_000, 100)],
    "StyleGAN": [f"{number // 1000:05d}/img{number:08d}.png" for number in range(0, 5_000, 100)],
    "filled in order": [f"{number // 50:04d}/{number:04d}.png" for number in range(200)],
}


@pytest.mark.parametrize("kind", SHELVES)
def test_shelves_are_no_classes_until_a_person_says_so(tmp_path: Path, kind: str) -> None:
    names = SHELVES[kind]
    labels = labels_of(tmp_path, names)
    assert labels.attributes == {}
    assert "--labels folders" in labels.notes[0]


def test_numbered_folders_are_classes_where_their_pictures_count_anew(tmp_path: Path) -> None:
    names = [f"{folder:05d}/{number}.png" for folder in range(1, 21) for number in range(3)]
    assert len(labels_of(tmp_path, names).attributes["class"]) == 20


def test_shelves_are_classes_when_asked_for(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, SHELVES["filled in order"], wanted="folders")
    assert labels.attributes == {"class": ("0000", "0001", "0002", "0003")}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["1.png", "2.png"], "all pictures lie in one folder"),
        (["a/1.png", "a/2.png", "b/3.png", "4.png"], "1 of 4 pictures lie in none of them"),
        (["a/1.png", "b/2.png", "c/3.png"], "3 folders hold 3 pictures, fewer than two each"),
    ],
)
def test_folders_that_are_no_classes_say_why(tmp_path: Path, names: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        labels_of(tmp_path, names, wanted="folders")


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("ame", "gura"), ("ame", "gura")),
        (("train/ame", "test/ame", "train/gura"), ("ame", "gura")),
        (("10", "9", "2"), ("2", "9", "10")),
        (("001", "002", "003"), ("001", "002", "003")),
        (("data",), None),
    ],
)
def test_class_folders(tmp_path: Path, folders: tuple[str, ...], expected: tuple[str, ...] | None) -> None:
    for number, folder in enumerate(folders):
        folder_of(tmp_path / "faces" / "archive" / folder, 2, first=2 * number)
    faces = made(tmp_path / "faces", tmp_path / "out.zip")
    assert faces.attributes == ({"class": expected} if expected else {})


# ---- data set files --------------------------------------------------------------------------------------------


def set_of(path: Path, labels: object, count: int = 4) -> Path:
    """A zip as StyleGAN2 reads it, with these labels."""
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            archive.writestr(f"00000/img{number:08d}.png", encoded(picture(number, (16, 16))))
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return path


@pytest.mark.parametrize("wrong", [2**40, 2**15, 2**70, -1])
def test_a_class_that_cannot_be_is_refused_at_once(tmp_path: Path, wrong: int) -> None:
    path = set_of(
        tmp_path / "set.zip", [[f"00000/img{number:08d}.png", [0, 1, 2, wrong][number]] for number in range(4)]
    )
    begun = time.process_time()
    with pytest.raises(DataError, match=r"the labels in dataset.json of set cannot be used: ") as error:
        made(path, tmp_path / "out.zip", size=16)
    assert "--labels none" in hint_of(error.value)
    with pytest.raises(DataError, match=r"dataset.json in .*set.zip does not fit its images: ") as error:
        FaceSet.open(path)
    assert "--labels none" in hint_of(error.value)
    assert time.process_time() - begun < 5
    assert made(path, tmp_path / "out.zip", size=16, labels="none").attributes == {}


def test_vectors_that_are_no_labels(tmp_path: Path) -> None:
    cameras = [[f"00000/img{number:08d}.png", [0.5, number, 1.0]] for number in range(4)]
    assert FaceSet.open(set_of(tmp_path / "cameras.zip", cameras)).attributes == {}
    attributes, rows = unpack([[1, 1, 0], [0, 1, 1], [0, 0, 0]], None)
    assert attributes == {f"label{number}": ("no", "yes") for number in range(3)}
    assert rows.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    with pytest.raises(ValueError, match="40,000 numbers"):
        unpack([[0] * 40_000], None)


def test_labels_that_dataset_json_cannot_hold_are_refused() -> None:
    values = tuple(map(str, range(2000)))
    tables = [Labels({"class": values}, np.zeros((60_000, 1), np.int16))]
    with pytest.raises(DataError, match="2,000 values, and at most 1,666 are possible") as error:
        merge(tables)
    assert "--labels none" in hint_of(error.value)


# ---- the command -----------------------------------------------------------------------------------------------


def test_command_names_what_it_uses_and_what_not(tmp_path: Path) -> None:
    folder_of(tmp_path / "faces", 6, (16, 16))
    (tmp_path / "faces" / "labels.csv").write_bytes("file,hair\n000.png,blå\n001.png,blé\n".encode("latin-1"))
    done = command("faces", "--resolution", 16, "--min-size", 8, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "labels.csv was found and not used: its text is not UTF-8 (byte 0xE5 in line 2)" in done.stderr
    (about,) = json.loads(done.stdout)["labels"]
    assert about["from"] is None
    assert "labels.csv" in about["not_used"][0]
    words = ("faces", "--resolution", 16, "--min-size", 8, "--labels", "labels.csv", "--encoding", "latin-1")
    done = command(*words, cwd=tmp_path)
    assert "label    hair: 2 values" in done.stdout
    assert "labelled 2 of 6 pictures of faces, from labels.csv" in done.stdout
