"""Tags of Danbooru's kind become attributes, from a column of a table or from a caption beside each picture."""

from __future__ import annotations

import json
import time
import zipfile
from typing import TYPE_CHECKING

import pytest
from labelled import column, labels_of
from pictures import hint_of

from animegen_cli.data import sources
from animegen_cli.data.labels import tags
from animegen_cli.data.labels.search import find_labels
from animegen_cli.data.labels.tags import MOST, Tags, pieces, plain, separator
from animegen_cli.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [f"{number:02d}.png" for number in range(60)]
HAIR, EYES, EXTRA = ("pink", "blue", "red"), ("green", "red"), ("smile", "hat", "open mouth")
CAPTIONS = [
    f"1girl, solo, {HAIR[number % 3]} hair, {EYES[number % 2]} eyes, {EXTRA[number // 2 % 3]}, tag {number}"
    for number in range(60)
]
"""Tags of sixty pictures: an attribute by the table, another, three frequent tags, two that all have, rare ones."""
WANTED = {
    "hair_color": ("blue", "pink", "red"),
    "eye_color": ("green", "red"),
    "hat": ("no", "yes"),
    "open_mouth": ("no", "yes"),
    "smile": ("no", "yes"),
}


def blanks(caption: str) -> str:
    """The same tags as Danbooru's `tag_string` has them."""
    return " ".join(tag.strip().replace(" ", "_") for tag in caption.split(","))


COLUMNS: dict[str, str] = {
    "blanks": "path,tags\n" + "".join(f"{n},{blanks(c)}\n" for n, c in zip(NAMES, CAPTIONS, strict=True)),
    "commas, quoted": "path,tags\n" + "".join(f'{n},"{c}"\n' for n, c in zip(NAMES, CAPTIONS, strict=True)),
    "commas, not quoted": "path,tags\n" + "".join(f"{n},{c}\n" for n, c in zip(NAMES, CAPTIONS, strict=True)),
    "commas behind a tab": "file\ttags\n" + "".join(f"{n}\t{c}\n" for n, c in zip(NAMES, CAPTIONS, strict=True)),
    "another title": "file;what is seen\n" + "".join(f"{n};{c}\n" for n, c in zip(NAMES, CAPTIONS, strict=True)),
    "semicolons": "path,tags\n" + "".join(f"{n},{c.replace(',', ';')}\n" for n, c in zip(NAMES, CAPTIONS, strict=True)),
    "bars": "path,tags\n" + "".join(f"{n},{c.replace(', ', '|')}\n" for n, c in zip(NAMES, CAPTIONS, strict=True)),
    "blanks, no title": "".join(
        f"{n} {blanks(c)}{' x' * (i % 3)}\n" for i, (n, c) in enumerate(zip(NAMES, CAPTIONS, strict=True))
    ),
}


@pytest.mark.parametrize("form", COLUMNS)
def test_a_column_of_tags_becomes_attributes(tmp_path: Path, form: str) -> None:
    labels = labels_of(tmp_path, NAMES, {"labels.csv": COLUMNS[form]})
    found = {name: values for name, values in labels.attributes.items() if name != "x"}
    assert found == WANTED
    assert column(labels, "hair_color") == [HAIR[number % 3] for number in range(60)]
    assert column(labels, "smile") == ["yes" if number // 2 % 3 == 0 else "no" for number in range(60)]
    (note,) = [note for note in labels.notes if note.startswith("tags: ")]
    assert "5 to 95 % of 60 tagged pictures" in note


def test_a_row_for_each_tag_and_tags_under_another_title_are_found(tmp_path: Path) -> None:
    rows = "".join(f"{n},{tag}\n" for n, c in zip(NAMES, CAPTIONS, strict=True) for tag in c.split(", "))
    assert labels_of(tmp_path, NAMES, {"labels.csv": "file,seen\n" + rows}).attributes == WANTED
    table = "file,general,rating\n" + "".join(f'{n},"1girl, {HAIR[int(n[:2]) % 3]}_hair",safe\n' for n in NAMES)
    labels = labels_of(tmp_path / "two", NAMES, {"labels.csv": table})
    assert labels.attributes == {"hair_color": ("blue", "pink", "red"), "rating": ("safe",)}


def test_lists_in_records_are_tags(tmp_path: Path) -> None:
    lines = [json.dumps({"file_name": n, "tags": c.split(", ")}) for n, c in zip(NAMES, CAPTIONS, strict=True)]
    assert labels_of(tmp_path, NAMES, {"metadata.jsonl": "\n".join(lines)}).attributes == WANTED
    dump = [
        json.dumps({"id": n[:-4], "tags": [{"id": "1", "name": blanks(tag)} for tag in c.split(", ")], "score": 5})
        for n, c in zip(NAMES, CAPTIONS, strict=True)
    ]
    labels = labels_of(tmp_path / "dump", NAMES, {"posts.json": "\n".join(dump)})
    assert {name: labels.attributes[name] for name in WANTED} == WANTED


SIDECARS = {
    ".txt": CAPTIONS,
    ".caption": [blanks(caption) for caption in CAPTIONS],
    ".tags": [caption.replace(", ", "\n") for caption in CAPTIONS],
    ".png.txt": CAPTIONS,
    ".json": [json.dumps({"tag_string": blanks(caption), "id": number}) for number, caption in enumerate(CAPTIONS)],
    ".png.json": [
        json.dumps({"tags": caption.split(", "), "md5": f"{number:x}"}) for number, caption in enumerate(CAPTIONS)
    ],
    ".csv": ["".join(f"{tag},0.9\n" for tag in caption.split(", ")) for caption in CAPTIONS],
}


@pytest.mark.parametrize("suffix", SIDECARS)
def test_a_caption_beside_each_picture_becomes_attributes(tmp_path: Path, suffix: str) -> None:
    files: dict[str, str | bytes] = {
        name.removesuffix(".png") + suffix: caption for name, caption in zip(NAMES, SIDECARS[suffix], strict=True)
    }
    labels = labels_of(tmp_path, NAMES, files)
    assert labels.attributes == WANTED
    assert labels.warnings == ()
    assert labels.origin == f"60 {'.' + suffix.rpartition('.')[2]} files beside the pictures"
    assert column(labels, "eye_color") == [EYES[number % 2] for number in range(60)]
    assert labels_of(tmp_path, NAMES, wanted="captions").attributes == WANTED


def test_captions_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    pictures = [f"images/{name}" for name in NAMES]
    files: dict[str, str | bytes] = {
        f"captions/{name[:-4]}.txt": caption for name, caption in zip(NAMES, CAPTIONS, strict=True)
    }
    assert labels_of(tmp_path, pictures, files).attributes == WANTED


def test_records_beside_pictures_are_columns(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"{name[:-4]}.json": json.dumps({"character": HAIR[number % 3], "score": number / 7, "box": {"x": 1}})
        for number, name in enumerate(NAMES)
    }
    labels = labels_of(tmp_path, NAMES, files)
    assert labels.attributes == {"character": ("blue", "pink", "red")}
    assert any("column `score` holds measures" in note for note in labels.notes)
    numbers: dict[str, str | bytes] = {f"{name[:-4]}.cls": str(number % 4) for number, name in enumerate(NAMES)}
    labels = labels_of(tmp_path / "classes", NAMES, numbers)  # as WebDataset has them
    assert labels.attributes == {"label": ("0", "1", "2", "3")}


def test_a_table_goes_before_captions_and_a_person_before_both(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{name[:-4]}.txt": caption for name, caption in zip(NAMES, CAPTIONS, strict=True)}
    files["labels.csv"] = "file,kind\n" + "".join(f"{name},{number % 2}\n" for number, name in enumerate(NAMES))
    labels = labels_of(tmp_path, NAMES, files)
    assert list(labels.attributes) == ["kind"]
    assert "labels.csv was taken, not 60 .txt files beside the pictures (choose with `--labels`)" in labels.notes
    assert labels_of(tmp_path, NAMES, wanted="captions").attributes == WANTED


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("1girl, solo, smile", "no tag tells pictures apart: of 3 tags none is on 5 to 95 % of 60 tagged pictures"),
        ("0 0.5 0.5 0.25 0.25", "they have no attribute: numbers, not tags"),
        ("a girl with {n} eyes is standing in the rain", "they have no attribute: sentences, not tags"),
        (
            "She stands in front of number {n}, which is by far the largest of all of them",
            "they have no attribute: sentences, not tags",
        ),
    ],
)
def test_captions_that_are_no_tags_take_one_line(tmp_path: Path, caption: str, said: str) -> None:
    files: dict[str, str | bytes] = {f"{name[:-4]}.txt": caption.replace("{n}", name) for name in NAMES}
    labels = labels_of(tmp_path, NAMES, files)
    assert labels.attributes == {}
    (warning,) = labels.warnings
    assert warning.startswith("60 .txt files beside the pictures were found and not used: ")
    assert said in warning
    with pytest.raises(DataError, match=r"no captions of .* can be used: ") as error:
        labels_of(tmp_path, NAMES, wanted="captions")
    assert said in error.value.message
    assert hint_of(error.value)


def test_captions_in_another_encoding_are_counted_and_named(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{n[:-4]}.txt": c for n, c in zip(NAMES, CAPTIONS, strict=True)}
    for number in range(5):
        files[f"{number:02d}.txt"] = f"{CAPTIONS[number]}, 女の子".encode("cp932")
    labels = labels_of(tmp_path, NAMES, files)
    assert labels.attributes == WANTED
    assert labels.fits == 55
    assert "5 .txt files left out, such as 00.txt: its text is not UTF-8" in labels.notes[-1]
    assert labels_of(tmp_path, NAMES, encoding="cp932").fits == 60


@pytest.mark.parametrize(
    ("piece", "tag"),
    [
        ("Blue Hair", "blue_hair"),
        ("blue_hair", "blue_hair"),
        ("(blue hair:1.2)", "blue_hair"),
        ("((blue hair))", "blue_hair"),
        ("[blue hair]", "blue_hair"),
        ("{{blue hair}}", "blue_hair"),
        ("(blue hair", "blue_hair"),  # a weight over several tags
        ("blue hair:1.3)", "blue_hair"),
        ("blue hair:.8", "blue_hair"),
        (r"saber \(fate\)", "saber_(fate)"),
        (r"(saber \(fate\):1.1)", "saber_(fate)"),
        ("saber_(fate)", "saber_(fate)"),
        ("rating:safe", "rating:safe"),
        (":d", ":d"),
        ("^_^", ""),
        ("  ", ""),
        ("  long   hair ", "long_hair"),
    ],
)
def test_plain_tags(piece: str, tag: str) -> None:
    assert plain(piece) == tag


def test_pieces_of_a_caption() -> None:
    assert pieces("a b, c,, d\ne <lora:style:0.8>", ",") == ["a b", " c", " d", "e  "]
    assert pieces("a_b  c\td", " ") == ["a_b", "c", "d"]
    assert separator(["a b, c", "d, e", "f"]) == ","
    assert separator(["a b\nc d"]) == "\n"
    assert separator(["a_b c", "d"]) == " "


def test_of_two_tags_for_one_attribute_the_more_exact_counts_and_a_contradiction_is_unknown() -> None:
    some = Tags()
    for place, caption in enumerate(
        (
            "long hair, very long hair",
            "long hair, red hair, blue hair",
            "short hair, red hair",
            "simple background, white background, blue hair",
        )
    ):
        some.add(place, caption)
    labels = some.labels(5)
    assert column(labels, "hair_length") == ["very_long", "long", "short", None, None]
    assert column(labels, "hair_color") == [None, None, "red", "blue", None]


def test_only_the_most_frequent_tags_become_attributes() -> None:
    some = Tags()
    for place in range(1000):
        some.add(place, ", ".join(f"t{tag}" for tag in range(100) if (place + tag) % (tag % 12 + 2) == 0) or "none")
    labels = some.labels(1000)
    assert len(labels.attributes) == MOST
    shares = (labels.rows == 1).mean(axis=0)
    assert sorted(shares, reverse=True) == pytest.approx(shares.tolist())
    assert f"the {MOST} most frequent of" in labels.notes[0]


def test_every_line_of_the_table_is_a_plain_tag_and_its_values_are_exclusive() -> None:
    known = tags.table()
    assert len(known) > 100
    for tag, (attribute, value, rank) in known.items():
        assert plain(tag) == tag
        assert attribute
        assert value
        assert rank in (0, 1)
    assert known["grey_hair"] == ("hair_color", "gray", 0)
    assert known["1girl"] == ("girls", "1", 0)


def test_the_work_for_captions_grows_with_their_number(tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        path = tmp_path / f"{count}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(count):
                archive.writestr(f"{number:05d}.png", b"")
                archive.writestr(f"{number:05d}.txt", CAPTIONS[number % 60])
        (source,) = sources.find([str(path)], downloads=tmp_path)
        begun = time.process_time()
        assert find_labels(source, None).fits == count
        return time.process_time() - begun

    assert seconds(3200) < 16 * seconds(400)  # 8 where it is linear, 64 where it is quadratic
