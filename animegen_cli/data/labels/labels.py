"""The labels of one source, and how those of several become one vocabulary."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from animegen_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from animegen_cli.data.sources import Source

MAX_VALUES = 2**15 - 1
"""How many values an attribute has at most: label numbers are int16."""
MAX_NUMBERS = 10**8
"""How many numbers `dataset.json` may hold: one for each value beside each picture, 200 MB of text."""


@dataclass
class Labels:
    """Attributes and, for each member of a source in its order, one column index per attribute (-1: unknown)."""

    attributes: dict[str, tuple[str, ...]]
    rows: np.ndarray
    """(members, attributes) int16."""
    origin: str = ""
    """For the summary: where they came from."""
    fits: int = 0
    """How many members the origin speaks of."""
    notes: tuple[str, ...] = ()
    """What a person may want to know of them: columns that are no attributes, limits."""
    warnings: tuple[str, ...] = ()
    """Label files that were found and not used, each with the reason."""


def nothing(source: Source) -> Labels:
    """Give no labels at all for each member."""
    return Labels({}, np.empty((len(source.members), 0), np.int16))


def most_values(pictures: int) -> int:
    """Give how many values an attribute of so many pictures can have; `too_many` says why."""
    return min(MAX_VALUES, MAX_NUMBERS // max(1, pictures))


def too_many(values: str, pictures: int) -> str:
    """Say that `values` ("5,000 values") are more than a set of so many pictures can hold, and why."""
    most = most_values(pictures)
    why = (
        "label numbers are 16-bit integers"
        if most == MAX_VALUES
        else f"dataset.json holds a number for each value beside each of {pictures:,} pictures"
    )
    return f"{values}, and at most {most:,} are possible: {why}"


def merge(tables: Sequence[Labels]) -> tuple[dict[str, tuple[str, ...]], list[np.ndarray]]:
    """Join the labels of several sources.

    Returns:
        One vocabulary, attributes in order of appearance and values sorted; and for each source its label numbers
        int16 (members, attributes), -1 unknown.

    Raises:
        DataError: all values together are more than a data set file can hold.
    """
    vocabulary: dict[str, tuple[str, ...]] = {}
    for table in tables:
        for name, values in table.attributes.items():
            known = vocabulary.get(name)
            vocabulary[name] = values if known in (None, values) else in_order({*known, *values})
    count, pictures = sum(map(len, vocabulary.values())), sum(len(table.rows) for table in tables)
    if count > most_values(pictures) and len(vocabulary):
        raise DataError(
            f"the labels have {too_many(f'{count:,} values', pictures)}",
            hint="leave them out with `--labels none`, or keep fewer attributes in the table",
        )
    rows = []
    for table in tables:
        merged = np.full((len(table.rows), len(vocabulary)), -1, np.int16)
        for column, (name, values) in enumerate(vocabulary.items()):
            if name in table.attributes:
                known_rows = table.rows[:, list(table.attributes).index(name)]
                number = {value: place for place, value in enumerate(values)}
                places = np.array([number[value] for value in table.attributes[name]] + [-1], np.int16)
                merged[:, column] = places[known_rows]  # -1 picks the appended -1
        rows.append(merged)
    return vocabulary, rows


def in_order(values: Iterable[str]) -> tuple[str, ...]:
    """Sort values by name, or by number where all are whole numbers."""
    values = list(values)
    if all(re.fullmatch(r"-?\d{1,15}", value) for value in values):
        return tuple(sorted(values, key=int))
    return tuple(sorted(values))
