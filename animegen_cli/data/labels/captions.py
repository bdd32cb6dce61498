"""Captions and records beside the pictures, one file for each: `0001.txt` with the tags of `0001.png`, also `.json`."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from animegen_cli import disk
from animegen_cli.data.labels.columns import Attributes, Column, is_tags
from animegen_cli.data.labels.records import MAX_COLUMNS, Unread, cell
from animegen_cli.data.labels.set_file import NAMES
from animegen_cli.data.labels.tables import decoded, looks_like_file
from animegen_cli.data.labels.tags import Tags
from animegen_cli.data.pictures import ending
from animegen_cli.data.sources import Unusable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.data.labels.labels import Labels
    from animegen_cli.data.labels.matching import Names
    from animegen_cli.data.sources import Member

_TEXTS = (".txt", ".caption", ".captions", ".tags", ".cls")  # `.cls`: the class number of WebDataset
_TABLES = (".csv", ".tsv", ".json")
_FEW = 2  # files of the kind of a table that are one: many are records beside their pictures
_FIRST = ("tags", "tag_string", "tag_string_general", "tags_general")  # of several fields with tags


def beside(texts: Sequence[Member], names: Names) -> dict[str, list[tuple[Member, int]]]:
    """Find the files that are named after a picture each.

    Returns:
        By their ending: the files, each with the place of its picture.
    """
    found: dict[str, list[tuple[Member, int]]] = {}
    for text in texts:
        suffix = ending(text.name)
        if suffix not in _TEXTS + _TABLES or text.name in NAMES:
            continue
        place = names.find(text.name[: -len(suffix)]).place
        if place >= 0:
            found.setdefault(suffix, []).append((text, place))
    return {suffix: files for suffix, files in found.items() if suffix in _TEXTS or len(files) > _FEW}


def counted(count: int, suffix: str) -> str:
    """Call files of one ending by their number."""
    return f"{count:,} {suffix} files beside the pictures" if count > 1 else f"a {suffix} file beside its picture"


class Captions:
    """What all files of one ending say, collected one after the other."""

    def __init__(self, suffix: str, pictures: int, encoding: str | None) -> None:
        self.suffix, self._pictures, self._encoding = suffix, pictures, encoding
        self._tags = Tags()
        self._columns: dict[str, Column] = {}
        self._words = 0
        self._wrong: dict[str, list[str]] = {}
        self.count = 0
        self.example = ""
        """The beginning of the first one."""

    @property
    def name(self) -> str:
        """What they are called in messages."""
        return counted(self.count, self.suffix)

    def add(self, name: str, place: int, data: bytes | Unusable) -> None:
        """Take the file of one picture."""
        self.count += 1
        try:
            if isinstance(data, Unusable):
                raise Unread(str(data))
            text = decoded(data, self._encoding)
            if not self.example:
                self.example = text.strip()
            if self.suffix == ".json":
                self._record(place, disk.parse_json(text))
            elif self.suffix in (".csv", ".tsv"):
                self._rows(place, text)
            else:
                if text.strip():
                    self._words += len(text.split())
                    self._column("label").take(place, text.strip())
                    self._tags.add(place, text)
        except (Unread, ValueError) as error:
            reason = str(error) if isinstance(error, Unread) else "it is damaged"
            if "--encoding" in reason:
                reason = "its text is not UTF-8, name the encoding with `--encoding`"
            self._wrong.setdefault(reason.partition(":")[0], []).append(name)

    def _column(self, title: str) -> Column:
        if title not in self._columns:
            self._columns[title] = Column(title, self._pictures)
        return self._columns[title]

    def _record(self, place: int, record: object) -> None:
        if not isinstance(record, dict):
            raise Unread("it is no record")
        spoken = [title for title, value in record.items() if value and (isinstance(value, list) or is_tags(title))]
        if spoken:
            first = min(spoken, key=lambda title: (*_FIRST, title).index(title))
            self._tags.add(place, cell(record[first]))
        for title, value in record.items():
            plain = title not in spoken and not isinstance(value, dict | list)
            if plain and (len(self._columns) < MAX_COLUMNS or title in self._columns):
                self._column(title).take(place, cell(value).strip())

    def _rows(self, place: int, text: str) -> None:
        """A header and one row; or lines of a tag and its probability, which are taken as tags."""
        lines = text.strip().split("\n")
        delimiter = max("\t;,", key=lines[0].count)
        rows = list(csv.reader(lines, delimiter=delimiter))
        if len(rows) == 2 and len(rows[0]) == len(rows[1]) > 1:
            self._record(place, dict(zip(rows[0], rows[1], strict=True)))
        elif len(rows) == 1 and len(rows[0]) > 1 and looks_like_file(rows[0][0]):
            self._record(place, {f"label{at}" if at > 1 else "label": value for at, value in enumerate(rows[0]) if at})
        else:
            self._tags.add(place, ", ".join(row[0] for row in rows if row))

    def labels(self) -> Labels:
        """Make attributes of all that was said.

        Raises:
            Unread: there is none; the text is the reason.
        """
        usable = self.count - sum(map(len, self._wrong.values()))
        words = self.suffix in _TEXTS and self._words > usable  # more than a word in each
        if not (self._words or self._columns or self._tags.count or self._wrong):
            raise Unread("they are empty")
        found = Attributes()
        for title, column in () if words else self._columns.items():
            result = column.attribute(self._pictures, usable)
            if isinstance(result, str):
                found.reasons.append(result)
            else:
                found.add(title, *result)
        if self._tags.count and not (found.parts and self.suffix in _TEXTS):
            try:
                found.add_all(self._tags.labels(self._pictures))
            except Unread as error:
                found.reasons.insert(0, str(error))
        for why, files in self._wrong.items():
            said = f"{len(files):,} {self.suffix} files left out, such as {files[0]}: {why}"
            (found.notes if found.parts else found.reasons).append(said)
        return found.labels(self.name, usable, otherwise="they have no attribute")
