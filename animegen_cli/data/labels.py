"""Labels from class folders, CSV files, CelebA's text tables, Flowers' `imagelabels.mat` or another data set file."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from animegen_cli.data.mat_file import read_array
from animegen_cli.data.reading import read_text
from animegen_cli.data.sources import MAX_BYTES, Member, Source
from animegen_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNKNOWN = frozenset(("", "?", "nan", "none", "null", "unknown", "n/a"))
_FILE_COLUMNS = ("file", "filename", "file_name", "image", "image_id", "path", "name", "id", "img", "face")
_SPLITS = frozenset(("train", "training", "test", "testing", "val", "valid", "validation"))
_NOT_LABELS = re.compile(r"bbox|landmark|partition|split|eval|identity", re.IGNORECASE)
MAX_VALUES = 256
"""A column with more distinct values holds names or measurements, not an attribute."""


@dataclass
class Labels:
    """Attributes and, for each member of a source in its order, one column index per attribute (-1: unknown)."""

    attributes: dict[str, tuple[str, ...]]
    rows: np.ndarray
    """(members, attributes) int16."""
    origin: str = ""
    """For the summary: where they came from."""


def find(source: Source, wanted: str | None) -> Labels:
    """Find the labels of a source.

    Args:
        source: where to look, and whose members the labels are of.
        wanted: `none`, `folders`, a table inside the source or a path; None looks for all of them.

    Raises:
        DataError: the table that was asked for is missing or fits no picture.
        UsageError: several files have the name that was asked for.
    """
    if wanted == "none" or source.drawn:
        return nothing(source)
    if wanted == "folders":
        return _folders(source) or _fail_folders(source)
    if wanted is not None:
        name, text = _wanted_table(source, wanted)
        found = _table(source, name, text)
        if found is None:
            raise DataError(
                f"no row of {name} names a picture of {source.name}",
                hint="its first column must hold file names as in the source, such as `faces/1.jpg` or `1.jpg`",
            )
        return found
    return _set_file(source) or _own_table(source) or _folders(source) or nothing(source)


def merge(tables: Sequence[Labels]) -> tuple[dict[str, tuple[str, ...]], list[np.ndarray]]:
    """Join the labels of several sources.

    Returns:
        One vocabulary, attributes in order of appearance and values sorted; and for each source its label numbers
        int16 (members, attributes), -1 unknown.
    """
    vocabulary: dict[str, tuple[str, ...]] = {}
    for table in tables:
        for name, values in table.attributes.items():
            vocabulary[name] = _sorted({*vocabulary.get(name, ()), *values})
    rows = []
    for table in tables:
        merged = np.full((len(table.rows), len(vocabulary)), -1, np.int16)
        for column, (name, values) in enumerate(vocabulary.items()):
            if name in table.attributes:
                known = table.rows[:, list(table.attributes).index(name)]
                places = np.array([values.index(value) for value in table.attributes[name]] + [-1], np.int16)
                merged[:, column] = places[known]  # -1 picks the appended -1
        rows.append(merged)
    return vocabulary, rows


def nothing(source: Source) -> Labels:
    """Give no labels at all for each member."""
    return Labels({}, np.empty((len(source.members), 0), np.int16))


def _sorted(values: Iterable[str]) -> tuple[str, ...]:
    values = list(values)
    if all(re.fullmatch(r"-?\d{1,15}", value) for value in values):
        return tuple(sorted(values, key=int))
    return tuple(sorted(values))


# ---- class folders ---------------------------------------------------------------------------------------------


def _folders(source: Source) -> Labels | None:
    """The folder that each picture lies in, if these look like classes."""
    parents = [
        "/".join(part for part in member.name.split("/")[:-1] if part.lower() not in _SPLITS)
        for member in source.members
    ]
    common = _common(parents)
    classes = [parent[len(common) :].strip("/") for parent in parents]
    names = set(classes)
    if not 2 <= len(names) <= MAX_VALUES or "" in names or len(names) > len(classes) / 2:
        return None
    if all(re.fullmatch(r"0\d{2,}|\d{5,}", name) for name in names):
        return None  # 0000, 0001, ...: shelves of a large collection, not classes
    values = _sorted(names)
    places = {value: place for place, value in enumerate(values)}
    rows = np.array([[places[name]] for name in classes], np.int16)
    return Labels({"class": values}, rows, "class folders")


def _common(parents: Sequence[str]) -> str:
    """The folders that all names begin with."""
    if not parents:
        return ""
    first, last = min(parents).split("/"), max(parents).split("/")
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    return "/".join(first[:shared])


def _fail_folders(source: Source) -> Labels:
    raise DataError(
        f"the folders of {source.name} are no classes",
        hint="`--labels folders` needs at least two folders with pictures in each",
    )


# ---- tables ----------------------------------------------------------------------------------------------------


def _wanted_table(source: Source, wanted: str) -> tuple[str, bytes]:
    """The table that was asked for: inside the source by path, then by unique base name, then as a path."""
    for place in (source, source.beside):
        if place is None:
            continue
        inside = [text for text in place.texts if text.name == wanted]
        inside = inside or [text for text in place.texts if PurePosixPath(text.name).name == wanted]
        if len(inside) > 1:
            names = ", ".join(text.name for text in inside)
            raise UsageError(f"several files of {place.name} are named {wanted}", hint=f"choose one of {names}")
        if inside:
            return inside[0].name, read_text(place, inside[0])
    path = Path(wanted)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{wanted} is too large for a table of labels", hint="keep only file names and labels")
        return path.name, path.read_bytes()
    except OSError as error:
        names = ", ".join(text.name for text in source.texts[:8]) or "none"
        raise DataError(
            f"no labels at `{wanted}`: {error.strerror}",
            hint=f"tables inside {source.name}: {names}; or give a path, `folders` or `none`",
        ) from None


def _own_table(source: Source) -> Labels | None:
    """The one table among the source's own files that fits at least half of its pictures."""
    ranked: list[tuple[int, Labels]] = []
    places = [source] if source.beside is None else [source, source.beside]
    for place, text in [(one, text) for one in places for text in one.texts]:
        name = PurePosixPath(text.name)
        if name.suffix.lower() == ".json" or _NOT_LABELS.search(name.name):
            continue
        found = _table(source, text.name, read_text(place, text))
        if found is not None and (found.rows >= 0).any(axis=1).sum() * 2 >= len(source.members):
            speaks = re.search(r"attr|tag|label", text.name, re.IGNORECASE) is not None
            ranked.append((int(speaks), found))
    top = max((rank for rank, _ in ranked), default=0)
    first = [found for rank, found in ranked if rank == top]
    return first[0] if len(first) == 1 else None


def _table(source: Source, name: str, data: bytes) -> Labels | None:
    """Parse one table and match its rows with the pictures; None when it fits none of them."""
    if name.lower().endswith(".mat"):
        return _flowers(source, name, data)
    match = _Match(source)
    header, rows = _cells(data, match)
    if not rows:
        return None
    key = _file_column(header, rows, match)
    if key is None:
        return None
    if not header:
        width = max(map(len, rows))
        header = ["file", "label"] if width == 2 else [f"label{column}" for column in range(width)]
    places = np.array([match.place(row[key]) if len(row) > key else -1 for row in rows], np.int64)
    columns = [column for column in range(len(header)) if column != key]
    attributes: dict[str, tuple[str, ...]] = {}
    parts: list[np.ndarray] = []
    for column in columns:
        values = [row[column].strip() if len(row) > column else "" for row in rows]
        used = {value for value, place in zip(values, places, strict=True) if place >= 0} - _UNKNOWN
        used = {value for value in used if value.lower() not in _UNKNOWN}
        if not used or len(used) > MAX_VALUES or len(used) > max(20, len(rows) / 2) or _measures(used):
            continue
        names, numbers = _vocabulary(used)
        part = np.full(len(source.members), -1, np.int16)
        part[places[places >= 0]] = [numbers.get(v, -1) for v, p in zip(values, places, strict=True) if p >= 0]
        attributes[header[column].strip() or f"label{column}"] = names
        parts.append(part)
    return Labels(attributes, np.stack(parts, 1), name) if parts and (places >= 0).any() else None


def _vocabulary(used: set[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Value names and their numbers; CelebA's -1/1 and 0/1 become no/yes."""
    if used in ({"-1", "1"}, {"0", "1"}):
        return ("no", "yes"), {"-1": 0, "0": 0, "1": 1}
    names = _sorted(used)
    return names, {value: number for number, value in enumerate(names)}


def _measures(used: set[str]) -> bool:
    """Fractions are measurements, not classes."""
    return any(re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", value) for value in used)


def _cells(data: bytes, match: _Match) -> tuple[list[str], list[list[str]]]:
    """Header (empty when there is none) and rows of a CSV, TSV, or CelebA's blank-separated table."""
    text = data.decode("utf-8-sig", "replace")
    lines = text.splitlines()
    same: dict[str, str] = {}  # a million cells hold few different values: keep one of each

    def few(row: Iterable[str]) -> list[str]:
        return [same.setdefault(cell, cell) if len(cell) < 16 else cell for cell in row]

    if len(lines) > 2 and re.fullmatch(r"\s*\d+\s*", lines[0]):  # CelebA: count, names, rows
        return ["file", *lines[1].split()], [few(line.split()) for line in lines[2:] if line.strip()]
    head = "\n".join(lines[:20])
    delimiter = max(",\t;", key=head.count)
    if not head.count(delimiter):
        rows = [few(line.split()) for line in lines if line.strip()]
    else:
        try:
            rows = [few(row) for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
        except csv.Error:
            return [], []
    if not rows or any(_looks_like_file(cell) or match.place(cell) >= 0 for cell in rows[0]):
        return [], rows
    return rows[0], rows[1:]


def _looks_like_file(cell: str) -> bool:
    return re.search(r"\.(jpe?g|png|webp|gif|bmp|tiff?)$", cell.strip(), re.IGNORECASE) is not None


def _file_column(header: Sequence[str], rows: Sequence[Sequence[str]], match: _Match) -> int | None:
    """The column of file names: by its title, else the first one whose cells match pictures."""
    lower = [title.strip().lower() for title in header]
    named = [lower.index(title) for title in _FILE_COLUMNS if title in lower]
    sample = rows[:: max(1, len(rows) // 200)]
    for column in [*named, *range(max(map(len, sample)))]:
        if any(match.place(row[column]) >= 0 for row in sample if len(row) > column):
            return column
    return None


class _Match:
    """File names of a table -> members: by relative path, else by unique base name, with or without its ending."""

    def __init__(self, source: Source) -> None:
        self._path = {member.name: place for place, member in enumerate(source.members)}
        self._base: dict[str, int] = {}
        self._stem: dict[str, int] = {}
        for place, member in enumerate(source.members):
            base = member.name.rpartition("/")[2]
            for table, key in ((self._base, base), (self._stem, base.rpartition(".")[0])):
                table[key] = -1 if key in table else place

    def place(self, cell: str) -> int:
        """The member's place, -1 when none or several fit."""
        name = cell.strip().replace("\\", "/").removeprefix("./")
        if name in self._path:
            return self._path[name]
        base = name.rpartition("/")[2]
        return self._base.get(base, self._stem.get(base, -1) if base else -1)


def _flowers(source: Source, name: str, data: bytes) -> Labels | None:
    """Oxford Flowers 102: `imagelabels.mat` holds the class of image_00001.jpg, image_00002.jpg, ..."""
    try:
        classes = read_array(data, "labels").astype(np.int16)
    except ValueError:
        return None
    if not len(classes):
        return None
    match = _Match(source)
    places = np.array([match.place(f"image_{number + 1:05d}.jpg") for number in range(len(classes))])
    if not (places >= 0).any():
        return None
    rows = np.full((len(source.members), 1), -1, np.int16)
    rows[places[places >= 0], 0] = classes[places >= 0] - 1
    return Labels({"class": tuple(str(c) for c in range(1, int(classes.max()) + 1))}, rows, name)


# ---- another data set file ------------------------------------------------------------------------------------


def _set_file(source: Source) -> Labels | None:
    """`dataset.json` as StyleGAN2/3 and EDM write it, with the names of our manifest where there is one."""
    files = {text.name: text for text in source.texts if text.name in ("dataset.json", "manifest.json")}
    if "dataset.json" not in files:
        return None
    listed = _json(source, files["dataset.json"]).get("labels")
    manifest = _json(source, files["manifest.json"]) if "manifest.json" in files else {}
    if not isinstance(listed, list) or not listed:
        return None
    try:
        names = [str(name) for name, _ in listed]
        attributes, numbers = unpack([label for _, label in listed], manifest.get("attributes"))
    except (TypeError, ValueError):
        return None
    match = _Match(source)
    rows = np.full((len(source.members), len(attributes)), -1, np.int16)
    for name, row in zip(names, numbers, strict=True):
        place = match.place(name)
        if place >= 0 and (not source.half or source.members[place].name == name):  # the other half has the same bases
            rows[place] = row
    return Labels(attributes, rows, "dataset.json")


def _json(source: Source, text: Member) -> dict[str, object]:
    try:
        value = json.loads(read_text(source, text))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def unpack(listed: Sequence[object], attributes: object) -> tuple[dict[str, tuple[str, ...]], np.ndarray]:
    """Read the labels of `dataset.json`: integers, one-hot vectors, or several of these concatenated.

    Args:
        listed: the label of each image.
        attributes: the names of attributes and values as in our manifest; without it a vector is one attribute named `class`.

    Returns:
        The attributes, and the label numbers int64 (n, A), -1 unknown.

    Raises:
        ValueError: the labels are of another kind, or do not fit the attributes.
    """
    table = np.asarray(listed)
    if table.ndim == 1 and table.dtype.kind in "iu":
        return {"class": tuple(str(c) for c in range(int(table.max()) + 1))}, table[:, None].astype(np.int64)
    if table.ndim != 2 or table.dtype.kind not in "iuf":
        raise ValueError("labels are neither integers nor vectors")
    if isinstance(attributes, dict):
        named = {str(name): tuple(map(str, values)) for name, values in attributes.items()}
    else:
        named = {"class": tuple(map(str, range(table.shape[1])))}
    if sum(map(len, named.values())) != table.shape[1]:
        raise ValueError("labels do not fit the attributes")
    columns = []
    start = 0
    for values in named.values():
        part = table[:, start : start + len(values)]
        columns.append(np.where(part.any(axis=1), part.argmax(axis=1), -1))
        start += len(values)
    return named, np.stack(columns, 1).astype(np.int64)
