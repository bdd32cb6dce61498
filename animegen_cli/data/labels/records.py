"""JSON as a table: lists of records, JSON lines, an object with one entry for each picture; one record at a time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from animegen_cli import disk

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_COLUMNS = 512
"""How many columns a table of labels has at most; CelebA's has 40."""
_BLANK = re.compile(r"[\s,]*")
_INSIDE = 2**24  # characters: an object around a list is read as a whole


class Unread(Exception):
    """A label file cannot be read or used; the text is the reason."""


def walk(text: str, *, lines: bool, broken: list[int]) -> Iterator[dict[str, object]]:
    """Give the records of a JSON text.

    Args:
        text: a list of objects, one object per line, or an object with a record, a value or a list for each picture.
        lines: whether the name of the file says that each line is an object.
        broken: gets the numbers of lines that are no objects.

    Raises:
        Unread: it is damaged, or something else.
    """
    start = _past_blanks(text, 0)
    if text[start : start + 1] == "[":
        yield from _list(text, start + 1)
    elif lines or _is_lines(text, start):
        yield from _lines(text, broken)
    elif text[start : start + 1] == "{":
        yield from _object(text, start)
    else:
        raise Unread("it is no JSON")


def _past_blanks(text: str, place: int) -> int:
    """Where the next thing begins that is neither white space nor a comma."""
    match = _BLANK.match(text, place)
    return match.end() if match else place


def _is_lines(text: str, start: int) -> bool:
    """Whether the first line is an object, and something follows it."""
    end = text.find("\n", start)
    if end < 0 or not text[end:].strip():
        return False
    try:
        return isinstance(disk.parse_json(text[start:end]), dict)
    except ValueError:
        return False


def _lines(text: str, broken: list[int]) -> Iterator[dict[str, object]]:
    start = number = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        line = text[start:end]
        start = end
        number += 1
        if not line.strip():
            continue
        try:
            record = disk.parse_json(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            yield record
        else:
            broken.append(number)


def _decode(text: str, place: int) -> tuple[object, int]:
    try:
        return json.JSONDecoder().raw_decode(text, place)
    except (ValueError, RecursionError) as error:
        line = text.count("\n", 0, place) + 1
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise Unread(f"its JSON is damaged near line {line:,}: {what}") from None


def _list(text: str, place: int) -> Iterator[dict[str, object]]:
    while True:
        place = _past_blanks(text, place)
        if text[place : place + 1] == "]":
            return
        record, place = _decode(text, place)
        if isinstance(record, dict):
            yield record
        elif isinstance(record, list) and len(record) == 2 and isinstance(record[0], str):  # pairs, as in dataset.json
            yield {"file": record[0], "label": record[1]}
        else:
            raise Unread("its list holds no records")


def _object(text: str, place: int) -> Iterator[dict[str, object]]:
    """An object: of records by the name of their picture, or with a list of records somewhere inside."""
    if len(text) <= _INSIDE:
        whole, _ = _decode(text, place)
        inside = whole.values() if isinstance(whole, dict) else ()
        lists = [value for value in inside if isinstance(value, list) and value and isinstance(value[0], dict | list)]
        if lists:
            yield from _list(json.dumps(lists[0]), 1)
            return
    place += 1
    while True:
        place = _past_blanks(text, place)
        if text[place : place + 1] == "}":
            return
        name, place = _decode(text, place)
        colon = text.find(":", place)
        if not isinstance(name, str) or colon < 0 or text[place:colon].strip():
            raise Unread("its JSON is damaged")
        start = re.compile(r"\s*").match(text, colon + 1)
        value, place = _decode(text, start.end() if start else colon + 1)
        if isinstance(value, dict):
            yield {"file": name, **value}
        else:
            yield {"file": name, "tags" if isinstance(value, list) else "label": value}


def cell(value: object) -> str:
    """Give the text of a value: empty for null and for what is nested, 0 or 1 for truth values, lists with commas."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict):
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, list | tuple):
        words = [one.get("name") if isinstance(one, dict) else one for one in value]
        return ", ".join(cell(word).replace(",", " ") for word in words if isinstance(word, str | int))
    return str(value)
