"""The columns of a table become attributes, or there is a reason why not."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from animegen_cli.data import part_names
from animegen_cli.data.labels.labels import Labels, in_order, most_values, too_many
from animegen_cli.data.labels.matching import AMBIGUOUS
from animegen_cli.data.labels.records import Unread
from animegen_cli.data.labels.tags import Tags, are_known

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from animegen_cli.data.labels.matching import Names
    from animegen_cli.data.labels.tables import Table

_UNKNOWN = frozenset(("", "?", "-", "nan", "null", "unknown", "n/a", "<na>", "#n/a"))
_UNKNOWN_AS_WRITTEN = frozenset(("NA", "None", "NONE"))  # R and Python; `none` is a value: no hat, no glasses
_TAGS = re.compile(r"(^|_)(tags?|captions?|prompts?|text|tag_string(_general)?|description)$", re.IGNORECASE)
_UNKNOWN_NUMBER, _DISAGREE = -1, -2
_FEW = 20  # values that are an attribute in the smallest table
_SHOWN = 3  # reasons


class Column:
    """One column while its cells arrive: for each picture the number of its value."""

    def __init__(self, title: str, pictures: int) -> None:
        self.title = title
        self._numbers = array("h", [_UNKNOWN_NUMBER]) * pictures
        self._values: dict[str, int] = {}
        self._most = max(2000, most_values(pictures))
        self.more = False
        """Whether it has more values than are counted."""

    def take(self, place: int, cell: str, *, again: bool = False) -> None:
        """Take the cell of a picture; `again`: another row spoke of it equally well, and both must agree."""
        if self.more:
            return
        if cell.lower() in _UNKNOWN or cell in _UNKNOWN_AS_WRITTEN:
            if not again:
                self._numbers[place] = _UNKNOWN_NUMBER
            return
        number = self._values.setdefault(cell, len(self._values))
        if number >= self._most or number > 32_000:
            self.more = True
            return
        if again and self._numbers[place] not in (_UNKNOWN_NUMBER, number):
            number = _DISAGREE
        self._numbers[place] = number

    @property
    def disagree(self) -> int:
        """How many pictures several rows give different values."""
        return int((np.asarray(self._numbers, np.int16) == _DISAGREE).sum())

    def attribute(self, pictures: int, rows: int) -> tuple[tuple[str, ...], np.ndarray] | str:
        """Give the values in order and the number of each picture's, int16; or say why it is no attribute."""
        about = f"column `{self.title}`" if self.title else "its first column"
        if self.more:
            return f"{about} has more than {len(self._values) - 1:,} values: names or measures, not an attribute"
        numbers = np.asarray(self._numbers, np.int16)
        names = list(self._values)
        used = [int(number) for number in np.unique(numbers) if number >= 0]
        values = {names[number] for number in used}
        if not values:
            return f"{about} is empty"
        if values <= part_names.KINDS.keys() and len(values) > 1 and self.title.lower() not in part_names.COLUMNS:
            return f"{about} names the parts of the set"
        whole = {value: re.sub(r"\.0+$", "", value) for value in values}  # pandas writes 1.0 where a cell is missing
        if all(re.fullmatch(r"-?\d+\.0+", value) for value in values):
            values = set(whole.values())
        else:
            whole = {value: value for value in values}
        measure = next((value for value in sorted(values) if re.fullmatch(r"-?\d*\.\d+(e[-+]?\d+)?", value)), None)
        if measure is not None:
            return f"{about} holds measures such as {measure}, not an attribute"
        if len(values) > max(_FEW, rows / 2):
            return f"{about} has {len(values):,} values in {rows:,} rows: not an attribute"
        if len(values) > most_values(pictures):
            return f"{about} has {too_many(f'{len(values):,} values', pictures)}"
        if self._counts(values, numbers):
            return f"{about} numbers the rows"
        ordered, number_of = _vocabulary(values)
        lookup = np.full(len(names) + 2, -1, np.int16)
        for number in used:
            lookup[number] = number_of[whole[names[number]]]
        return ordered, lookup[numbers]  # -1 and -2 pick the two that were appended

    def _counts(self, values: set[str], numbers: np.ndarray) -> bool:
        """Whether it counts the rows, as the columns do that R and pandas write in front: each value once, none left out."""
        untitled = not self.title or re.fullmatch(r"unnamed: \d+|index|x|label0", self.title.lower()) is not None
        if len(values) != int((numbers >= 0).sum()) or len(values) < (2 if untitled else 5):
            return False
        if not all(re.fullmatch(r"\d{1,9}", value) for value in values):
            return False
        counted = sorted(map(int, values))
        return untitled or counted[-1] - counted[0] == len(counted) - 1

    def sample(self) -> list[str]:
        """Give some of its values."""
        return list(self._values)[:500]


def _vocabulary(values: set[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Value names and their numbers; CelebA's -1/1, 0/1 and the truth values of Python, R and Excel become no/yes."""
    if {value.lower() for value in values} == {"false", "true"}:
        return ("no", "yes"), {value: int(value.lower() == "true") for value in values}
    if values in ({"-1", "1"}, {"0", "1"}):
        return ("no", "yes"), {"-1": 0, "0": 0, "1": 1}
    ordered = in_order(values)
    return ordered, {value: number for number, value in enumerate(ordered)}


@dataclass
class Attributes:
    """Attributes while they are found, and why other columns are none."""

    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    parts: list[np.ndarray] = field(default_factory=list)
    """For each attribute the value numbers of all pictures, int16."""
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, values: tuple[str, ...], part: np.ndarray) -> None:
        """Add one attribute, under another name where that is taken."""
        self.values[_new_name(name, self.values)] = values
        self.parts.append(part)

    def add_all(self, labels: Labels) -> None:
        """Add those attributes whose names are new."""
        for at, (name, values) in enumerate(labels.attributes.items()):
            if name not in self.values:
                self.add(name, values, labels.rows[:, at])
        self.notes += labels.notes

    def labels(self, origin: str, fits: int, *, otherwise: str) -> Labels:
        """Give the labels.

        Raises:
            Unread: there is no attribute; `otherwise` and the reasons are the text.
        """
        shown = "; ".join(self.reasons[:_SHOWN])
        if len(self.reasons) > _SHOWN:
            shown += f"; and {len(self.reasons) - _SHOWN:,} more"
        if not self.parts:
            raise Unread(f"{otherwise}: {shown or 'there are only file names'}")
        if shown:
            self.notes.append(f"not used: {shown}")
        return Labels(self.values, np.stack(self.parts, 1), origin, fits, tuple(self.notes))


def _new_name(title: str, taken: Collection[str]) -> str:
    """The title, with a number where another column has it."""
    return next(name for number in count(1) if (name := f"{title}_{number}" if number > 1 else title) not in taken)


def is_tags(title: str) -> bool:
    """Whether a title says that cells hold tags or a caption."""
    return _TAGS.search(title) is not None


class Reading:
    """What the rows of one table say of the pictures."""

    def __init__(self, table: Table, names: Names) -> None:
        self.table, self.names = table, names
        self.rows = self.unknown = self.ambiguous = self.covered = 0
        self.example = ""
        """A row: the first that names no picture, else the first."""
        self.puzzle = ""
        """The first cell that several pictures answer to."""

    def labels(self, origin: str) -> Labels:
        """Match the rows with the pictures and make attributes of the columns.

        Raises:
            Unread: no row names a picture, or no column is an attribute; the text is the reason.
        """
        columns = {
            at: Column(title.strip() or f"label{at}" * (at > 0), len(self.names))
            for at, title in enumerate(self.table.header)
            if at != self.table.key or self.table.by_row
        }
        for place, again, row in self._matched():
            for at, column in columns.items():
                column.take(place, row[at].strip(), again=again)
        if not self.covered:
            raise Unread(self._why_none())
        found = Attributes(notes=list(self.table.notes))
        for at, column in columns.items():
            self._take(at, column, found)
        if self.ambiguous:
            found.notes.append(f"{self.ambiguous:,} rows fit several pictures, such as `{self.puzzle}`: left out")
        named = f"{self.covered:,} of {len(self.names):,} pictures are named, but it has no attribute"
        return found.labels(origin, self.covered, otherwise=named)

    def _take(self, at: int, column: Column, found: Attributes) -> None:
        """Make attributes of a column: of its tags, where it holds some, else of its values."""
        result = column.attribute(len(self.names), self.covered)
        listed = at in self.table.listed or column.disagree * 2 > self.covered  # or a row for each tag
        spoken = listed or is_tags(column.title) or are_known(column.sample())
        tags = self._tags(at, column, least=1 if spoken else 2) if spoken or isinstance(result, str) else None
        if tags is not None:
            try:
                found.add_all(tags.labels(len(self.names)))
                return
            except Unread as error:
                if isinstance(result, str):
                    result = f"column `{column.title}`: {error}"
        if isinstance(result, str):
            found.reasons.append(result)
            return
        if column.disagree:
            found.notes.append(f"rows disagree about `{column.title}` of {column.disagree:,} pictures: left unknown")
        found.add(column.title or "label", *result)

    def _matched(self) -> Iterable[tuple[int, bool, list[str]]]:
        """The rows that name a picture, with its place; of several rows only those whose names fit best."""
        best = bytearray(len(self.names))
        self.rows = self.unknown = self.ambiguous = self.covered = 0
        find = self.names.find
        for number, row in enumerate(self.table.rows()):
            self.rows += 1
            if self.table.by_row:
                place, quality = number, 4
            elif self.table.key < 0:
                place, quality = -1, 0
            else:
                place, quality = find(row[self.table.key])
            if place < 0:
                self.unknown += 1
                if self.unknown == 1:
                    self.example = ",".join(row)
                if place == AMBIGUOUS:
                    self.ambiguous += 1
                    self.puzzle = self.puzzle or row[self.table.key].strip()
                continue
            if not self.example:
                self.example = ",".join(row)
            if quality < best[place]:
                continue
            again = quality == best[place]
            self.covered += not best[place]
            best[place] = quality
            yield place, again, row

    def _tags(self, at: int, column: Column, *, least: int) -> Tags | None:
        """The tags of a column, read in a second pass; None where its cells are something else."""
        tags = Tags()
        if not tags.are_in(column.sample(), least):
            return None
        for place, _, row in self._matched():
            tags.add(place, row[at])
        return tags

    def _why_none(self) -> str:
        if not self.rows:
            return "it has no rows"
        if self.ambiguous:
            return f"its names are ambiguous: several pictures answer to `{self.puzzle}`"
        return "no row names a picture"
