"""Parquet files: pictures in a column, as Hugging Face's `datasets` writes them, and tables of labels."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from labelled import column, labels_of
from pictures import command, encoded, hint_of, made, picture

from animegen_cli.data.dataset import FaceSet
from animegen_cli.errors import DataError, MachineError
from animegen_cli.prepare.prepare import prepare
from animegen_cli.prepare.request import Options, Request

if TYPE_CHECKING:
    from pathlib import Path

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402  # what needs it comes after the question whether it is there

pytestmark = pytest.mark.usefixtures("quiet")

HAIR = ("pink", "blue", "red")


def written(path: Path, count: int = 12, first: int = 0, **columns: Any) -> Path:
    """A file as `datasets` writes it: a column of pictures, and a column of class numbers with their names beside the schema."""
    image = pyarrow.array(
        [{"bytes": encoded(picture(first + number)), "path": f"{first + number:04d}.png"} for number in range(count)],
        pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
    )
    label = pyarrow.array([number % 3 for number in range(count)], pyarrow.int64())
    features = {"image": {"_type": "Image"}, "label": {"names": list(HAIR), "_type": "ClassLabel"}}
    table = pyarrow.table({"image": image, "label": label, **columns})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=5)
    return path


def test_pictures_and_class_names_come_out_of_the_file(tmp_path: Path) -> None:
    faces = made(written(tmp_path / "faces.parquet"), tmp_path / "out.zip", size=64)
    assert faces.attributes == {"label": ("blue", "pink", "red")}
    assert [faces.origin(number) for number in range(12)] == [f"{number:04d}.png" for number in range(12)]
    assert [faces.attributes["label"][row] for row in faces.labels(range(12))[:, 0]] == [HAIR[n % 3] for n in range(12)]
    assert np.array_equal(faces.pixels([7])[0], np.asarray(picture(7)))
    again = made(tmp_path / "faces.parquet", tmp_path / "two.zip", size=64, workers=2)
    assert (again.identity, again.manifest) == (faces.identity, faces.manifest)


def test_a_folder_of_parts_means_all_of_them(tmp_path: Path) -> None:
    for part in range(2):
        written(tmp_path / f"set/data/train-0000{part}-of-00002.parquet", 6, 6 * part)
    written(tmp_path / "set/data/test-00000-of-00001.parquet", 3, 20)
    (tmp_path / "set" / "README.txt").write_text("Faces.")
    done = prepare(Request([str(tmp_path / "set")], tmp_path / "out.zip", Options(size=32, workers=1)))
    faces = FaceSet.open(done.path)
    assert len(faces) == 15
    assert [faces.origin(index) for index in faces.indices("test")] == [
        f"test-00000-of-00001/test/{n:04d}.png" for n in (20, 21, 22)
    ]
    assert faces.attributes == {"label": ("blue", "pink", "red")}
    assert faces.origin(14) == "train-00001-of-00002/train/0011.png"


def test_a_column_of_bytes_holds_pictures_too(tmp_path: Path) -> None:
    table = pyarrow.table(
        {"jpg": [encoded(picture(number), "jpeg") for number in range(4)], "text": ["pink hair", "blue hair"] * 2}
    )
    parquet.write_table(table, tmp_path / "faces.parquet")
    faces = made(tmp_path / "faces.parquet", tmp_path / "out.zip")
    assert [faces.origin(number) for number in range(4)] == [f"{number:08d}" for number in range(4)]
    assert faces.attributes == {"hair_color": ("blue", "pink")}


def test_rows_without_a_picture_are_counted(tmp_path: Path) -> None:
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    cells = [
        {"bytes": encoded(picture(1)), "path": None},
        None,
        {"bytes": None, "path": "far/away.png"},
        {"bytes": b"x"},
    ]
    parquet.write_table(pyarrow.table({"image": pyarrow.array(cells, kind)}), tmp_path / "faces.parquet")
    faces = made(tmp_path / "faces.parquet", tmp_path / "out.zip")
    assert len(faces) == 1
    assert sum(faces.manifest["dropped"].values()) == 3


@pytest.mark.parametrize("name", ["metadata.parquet", "deep/metadata.parquet"])
def test_metadata_beside_pictures_is_a_table(tmp_path: Path, name: str) -> None:
    folder = name.rpartition("/")[0]
    pictures = [f"{folder}/{number}.png".lstrip("/") for number in range(9)]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    records = pyarrow.table(
        {
            "file_name": [f"{number}.png" for number in range(9)],
            "hair": [HAIR[number % 3] for number in range(9)],
            "glasses": [number % 2 == 0 for number in range(9)],
            "tags": [["solo", "smile" if number % 2 else "hat"] for number in range(9)],
            "box": [{"x": 1} for _ in range(9)],
        }
    )
    parquet.write_table(records, path)
    labels = labels_of(tmp_path, pictures)
    assert labels.attributes == {
        "hair": ("blue", "pink", "red"), "glasses": ("no", "yes"), "hat": ("no", "yes"), "smile": ("no", "yes")
    }  # fmt: skip
    assert column(labels, "hair") == [HAIR[number % 3] for number in range(9)]
    assert labels_of(tmp_path, [], wanted="metadata.parquet").fits == 9


def test_a_file_that_is_cut_short_says_so(tmp_path: Path) -> None:
    data = written(tmp_path / "faces.parquet").read_bytes()
    for length in (0, 3, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "faces.parquet").write_bytes(data[:length])
        with pytest.raises(DataError, match=r"faces\.parquet is damaged: ") as error:
            made(tmp_path / "faces.parquet", tmp_path / "out.zip")
        assert "download" in hint_of(error.value)
    labels = labels_of(tmp_path / "beside", ["1.png"], {"metadata.parquet": data[:100]})
    assert labels.warnings[0].startswith("metadata.parquet was found and not used: metadata.parquet is damaged")


def test_damage_in_the_middle_is_an_error_too(tmp_path: Path) -> None:
    data = bytearray(written(tmp_path / "faces.parquet").read_bytes())
    data[200 : len(data) // 2] = bytes(len(data) // 2 - 200)
    (tmp_path / "faces.parquet").write_bytes(data)
    with pytest.raises(DataError):
        made(tmp_path / "faces.parquet", tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_a_table_is_no_source_of_pictures(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"file": ["1.png"], "hair": ["pink"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="has no column of pictures, only file, hair") as error:
        made(tmp_path / "t.parquet", tmp_path / "out.zip")
    assert "--labels" in hint_of(error.value)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "faces.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MachineError, match="needs an extra") as error:
        made(tmp_path / "faces.parquet", tmp_path / "out.zip")
    assert "animegen[hf]" in hint_of(error.value)
    labels = labels_of(tmp_path / "beside", ["1.png"], {"metadata.parquet": (tmp_path / "faces.parquet").read_bytes()})
    assert "pip install 'animegen[hf]'" in labels.warnings[0]


def test_command_reads_a_file_and_imports_no_torch(tmp_path: Path) -> None:
    written(tmp_path / "faces.parquet")
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = command("faces.parquet", "--resolution", 32, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"] == "datasets/faces-32.zip"
