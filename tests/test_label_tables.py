"""Tables of every form that people have, and what becomes of their columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from labelled import HAIR, TWENTY, TWO, column, labels_of, rows
from pictures import hint_of

from animegen_cli.errors import DataError, UsageError
from animegen_cli.prepare.request import Options

if TYPE_CHECKING:
    from pathlib import Path


COMMA = "filename,hair\n" + rows("{name},{hair}\n")
FORMS: dict[str, str | bytes] = {
    "comma": COMMA,
    "semicolon": COMMA.replace(",", ";"),
    "semicolons, commas inside": "filename;hair;size\n" + rows("{name};{hair};1,5\n"),
    "tab": COMMA.replace(",", "\t"),
    "pipe": COMMA.replace(",", "|"),
    "blanks": "filename hair\n" + rows("{name}   {hair}\n"),
    "carriage returns": COMMA.replace("\n", "\r"),
    "Windows": COMMA.replace("\n", "\r\n"),
    "Excel's first line": "sep=;\r\n" + COMMA.replace(",", ";").replace("\n", "\r\n"),
    "Excel's first line, quoted": '"sep=|"\n' + COMMA.replace(",", "|"),
    "quoted": '"filename","hair"\n' + rows('"{name}","{hair}"\n'),
    "a single quote": "filename,hair,note\n" + rows("{name},{hair},\n").replace(",\n", ',"tall\n', 1),
    "R, write.csv": '"","filename","hair"\n' + rows('"{n}","{name}","{hair}"\n'),
    "R, write.table": '"filename" "hair"\n' + rows('"{n}" "{name}" "{hair}"\n'),
    "R, names of rows": '"hair" "eyes"\n' + rows('"{name}" "{hair}" "red"\n'),
    "pandas": ",filename,hair\n" + rows("{n},{name},{hair}\n"),
    "CelebA": "20\nhair\n" + rows("{name}  {hair}\n"),
    "names last": "hair,n,filename\n" + rows("{hair},{n},{name}\n"),
    "a line end in a cell": "filename,hair,note\n" + rows('{name},{hair},"one\nother"\n'),
    "UTF-8 with a mark": b"\xef\xbb\xbf" + COMMA.encode(),
    "UTF-16": COMMA.encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + COMMA.replace(",", "\t").encode("utf-16-be"),
    "blank lines": "\n\n" + COMMA.replace("\n", "\n\n"),
    "single quotes": "'filename','hair'\n" + rows("'{name}','{hair}'\n"),
    "cells too many": "filename,hair\n" + rows("{name},{hair},,\n"),
    "a comment": "# made by hand\n" + COMMA,
    "addresses": "filename,hair\n" + rows("https://faces.example/a/{name}?size=1,{hair}\n"),
    "a trailing separator": COMMA.replace("\n", ",\n"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_read_in_every_form(tmp_path: Path, form: str) -> None:
    labels = labels_of(tmp_path, TWENTY, {"labels.csv": FORMS[form]})
    assert labels.warnings == ()
    assert column(labels, "hair") == HAIR
    assert set(labels.attributes) - {"eyes", "size", "note"} == {"hair"}
    assert (labels.fits, labels.origin) == (20, "labels.csv")


RECORDS = [{"file_name": name, "hair": TWO[number % 2]} for number, name in enumerate(TWENTY)]
JSON_FORMS = {
    "metadata.jsonl": "\n".join(map(json.dumps, RECORDS)),
    "metadata.ndjson": "\r\n".join(map(json.dumps, RECORDS)) + "\r\n",
    "metadata.csv": "file_name,hair\n" + rows("{name},{hair}\n"),
    "list.json": json.dumps(RECORDS, indent=1),
    "lines.json": "\n".join(map(json.dumps, RECORDS)),
    "by_name.json": json.dumps({one["file_name"]: {"hair": one["hair"]} for one in RECORDS}),
    "inside.json": json.dumps({"info": {"year": 2020}, "images": RECORDS}),
    "values.json": json.dumps({one["file_name"]: one["hair"] for one in RECORDS}),
    "pairs.json": json.dumps([[one["file_name"], one["hair"]] for one in RECORDS]),
    "listed.jsonl": json.dumps(RECORDS),
}


@pytest.mark.parametrize("name", JSON_FORMS)
def test_records_are_read_in_every_form(tmp_path: Path, name: str) -> None:
    labels = labels_of(tmp_path, TWENTY, {name: JSON_FORMS[name]})
    assert labels.warnings == ()
    (attribute,) = labels.attributes
    assert attribute == ("label" if name in ("values.json", "pairs.json") else "hair")
    assert column(labels, attribute) == HAIR


def test_metadata_in_every_folder_names_what_lies_beside_it(tmp_path: Path) -> None:
    """As an imagefolder of Hugging Face has it: each split its own table, with the same file names in each."""
    pictures = [f"{part}/{number}.png" for part in ("test", "train") for number in range(4)]
    lines = {
        "test": [{"file_name": f"{number}.png", "hair": "pink"} for number in range(4)],
        "train": [{"file_name": f"{number}.png", "hair": TWO[number % 2]} for number in range(4)],
    }
    files = {f"{part}/metadata.jsonl": "\n".join(map(json.dumps, some)) for part, some in lines.items()}
    labels = labels_of(tmp_path, pictures, files)
    assert column(labels, "hair") == ["pink"] * 4 + list(TWO) * 2
    assert (labels.fits, labels.warnings) == (8, ())


def test_lines_that_are_no_json_are_numbered_and_the_others_used(tmp_path: Path) -> None:
    lines = [*map(json.dumps, RECORDS)]
    lines[6] = lines[6][:20]
    labels = labels_of(tmp_path, TWENTY, {"metadata.jsonl": "\n".join(lines)})
    assert column(labels, "hair")[sorted(TWENTY).index("6.png")] is None
    assert labels.fits == 19
    assert "line 7 left out: no JSON" in labels.notes


def test_json_that_is_cut_short_says_where(tmp_path: Path) -> None:
    text = json.dumps(RECORDS, indent=0)
    labels = labels_of(tmp_path, TWENTY, {"labels.json": text[: len(text) // 2]})
    assert labels.attributes == {}
    assert "its JSON is damaged near line" in labels.warnings[0]
    with pytest.raises(DataError, match="damaged near line"):
        labels_of(tmp_path, TWENTY, wanted="labels.json")


@pytest.mark.parametrize(
    ("encoding", "values"),
    [
        ("latin-1", ("blå", "blé", "blö")),
        ("cp932", ("青", "赤", "緑")),
        ("gbk", ("蓝", "红", "绿")),
        ("utf-16-le", TWO),
    ],
)
def test_other_encodings_are_refused_until_they_are_named(
    tmp_path: Path, encoding: str, values: tuple[str, ...]
) -> None:
    table = "filename,hair\n" + "".join(f"{number}.png,{values[number % len(values)]}\n" for number in range(20))
    labels = labels_of(tmp_path, TWENTY, {"labels.csv": table.encode(encoding)})
    assert labels.attributes == {}
    assert "--encoding" in labels.warnings[0]
    with pytest.raises(DataError, match=r"labels\.csv cannot be used") as error:
        labels_of(tmp_path, TWENTY, wanted="labels.csv")
    assert "--encoding" in f"{error.value.message} {error.value.hint}"
    named = labels_of(tmp_path, TWENTY, encoding=encoding)
    assert named.attributes == {"hair": tuple(sorted(values))}
    assert named.warnings == ()


def test_a_wrong_encoding_is_no_guess(tmp_path: Path) -> None:
    table = "filename,hair\n" + rows("{name},blå\n")
    with pytest.raises(DataError, match="is not ascii"):
        labels_of(tmp_path, TWENTY, {"labels.csv": table}, wanted="labels.csv", encoding="ascii")
    with pytest.raises(UsageError, match="no encoding `klingon`") as error:
        Options(encoding="klingon")
    assert "cp932" in hint_of(error.value)
    with pytest.raises(UsageError, match="no encoding `hex`"):  # one of bytes, not of text
        Options(encoding="hex")


def test_what_is_unknown_and_what_is_a_value(tmp_path: Path) -> None:
    cells = ["none", "hat", "NA", "", "?", "None", "unknown", "n/a", "NaN", "glasses"]
    names = [f"{number}.png" for number in range(10)]
    table = "file,accessory\n" + "".join(f"{name},{cell}\n" for name, cell in zip(names, cells, strict=True))
    labels = labels_of(tmp_path, names, {"labels.csv": table})
    assert column(labels, "accessory") == ["none", "hat", *[None] * 7, "glasses"]


def test_whole_numbers_that_pandas_wrote_as_fractions_are_values(tmp_path: Path) -> None:
    table = "file,glasses,kind\n" + rows("{name},1.0,3.0\n").replace("1.0", "0.0", 7).replace("3.0", "12.0", 2)
    labels = labels_of(tmp_path, TWENTY, {"labels.csv": table})
    assert labels.attributes == {"glasses": ("no", "yes"), "kind": ("3", "12")}


@pytest.mark.parametrize("words", [("False", "True"), ("FALSE", "TRUE"), ("0", "1"), ("-1", "1"), ("no", "yes")])
def test_truth_values_are_no_and_yes(tmp_path: Path, words: tuple[str, str]) -> None:
    table = "file,glasses\n" + "".join(f"{number}.png,{words[number % 2]}\n" for number in range(20))
    labels = labels_of(tmp_path, TWENTY, {"labels.csv": table})
    assert labels.attributes == {"glasses": ("no", "yes")}
    assert labels.rows[:3, 0].tolist() == [0, 1, 0]  # 0.png, 1.png, 10.png


def test_several_rows_for_a_picture_must_agree(tmp_path: Path) -> None:
    table = "file,hair,eyes\n1.png,pink,red\n1.png,blue,red\n2.png,pink,red\n3.png,blue,green\n"
    labels = labels_of(tmp_path, ["1.png", "2.png", "3.png"], {"labels.csv": table})
    assert column(labels, "hair") == [None, "pink", "blue"]
    assert column(labels, "eyes") == ["red", "red", "green"]
    assert "rows disagree about `hair` of 1 pictures: left unknown" in labels.notes


def test_columns_of_one_title_are_two_attributes(tmp_path: Path) -> None:
    table = "file,color,color\n" + rows("{name},{hair},red\n").replace("red", "green", 3)
    labels = labels_of(tmp_path, TWENTY, {"labels.csv": table})
    assert labels.attributes == {"color": ("blue", "pink"), "color_2": ("green", "red")}


def test_few_rows_of_a_large_table_are_about_these_pictures(tmp_path: Path) -> None:
    table = "id,hair\n" + "".join(f"{number},{TWO[number % 2]}\n" for number in range(50_000))
    labels = labels_of(tmp_path, ["31234.png", "41235.png"], {"all.csv": table})
    assert column(labels, "hair") == list(TWO)
