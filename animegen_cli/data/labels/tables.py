"""Reads tables of any form into a header and rows: CSV and its relatives, JSON, JSON lines, Parquet.

How a text table is separated is found by trying: each candidate parses the beginning, and the one wins whose rows name
pictures and have one width. A character that is merely frequent (the commas of captions) does not.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from animegen_cli.data import parquet
from animegen_cli.data.labels import records
from animegen_cli.data.labels.matching import AMBIGUOUS
from animegen_cli.data.labels.records import MAX_COLUMNS, Unread
from animegen_cli.data.pictures import PICTURES, ending
from animegen_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from animegen_cli.data.labels.matching import Names

UNREAD = frozenset((".xlsx", ".xls", ".ods", ".arrow", ".feather", ".xml"))
"""Endings of forms that are not read."""
FILE_TITLES = (
    "file", "filename", "file_name", "filepath", "file_path", "image", "image_id", "imageid", "image_name", "imagename",
    "image_path", "image_file_name", "img", "img_name", "img_path", "path", "name", "id", "picture", "photo", "face", "fname",
)  # fmt: skip
"""Titles of columns of file names, in lower case."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEAD = 2**16  # characters that decide how a table is separated
_HEAD_ROWS = 200
_SAMPLE = 300  # rows that decide which column holds the file names


@dataclass
class Table:
    """A table that was read: every row has as many cells as the header."""

    header: list[str]
    """Titles; empty where the table has none."""
    rows: Callable[[], Iterator[list[str]]]
    """Gives the rows from the start, each time that it is called."""
    key: int
    """The column of file names; -1: none names a picture; with `by_row` it does not matter."""
    by_row: bool = False
    """Whether row i belongs to picture i."""
    listed: frozenset[int] = frozenset()
    """Columns whose cells are lists."""
    notes: list[str] = field(default_factory=list)
    """What was left out of it."""


def read(name: str, data: bytes | Path, names: Names, encoding: str | None) -> Table:
    """Read a table.

    Args:
        name: its name, whose ending says the form; a form inside (JSON lines in `.json`) goes before it.
        data: its bytes; of a Parquet file also the path.
        names: the pictures that it may name.
        encoding: that of text without a byte order mark; None is UTF-8.

    Raises:
        Unread: it cannot be read; the text says why.
        UsageError: there is no such encoding.
        MachineError: it is a Parquet file, and pyarrow is not installed.
    """
    suffix = ending(name)
    if suffix in UNREAD:
        raise Unread(f"{suffix} files are not read: save it as CSV")
    if suffix == ".parquet":
        return _of_parquet(name, data, names)
    assert isinstance(data, bytes)
    text = decoded(data, encoding)
    if suffix in (".json", ".jsonl", ".ndjson") or text.lstrip()[:1] in ("{", "["):
        return _of_records(text, names, lines=suffix in (".jsonl", ".ndjson"))
    return _of_text(text, names)


def decoded(data: bytes, encoding: str | None) -> str:
    """Decode a text by its byte order mark, else by `encoding`, else as UTF-8; line ends become `\\n`.

    Raises:
        Unread: it has another encoding.
        UsageError: there is no such encoding.
    """
    marked = next((name for mark, name in _BOMS if data.startswith(mark)), None)
    try:
        text = data.decode(marked or encoding or "utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        if marked or encoding:
            raise Unread(
                f"line {line} is not {(marked or encoding or '').removesuffix('-sig')}: {error.reason}"
            ) from None
        raise Unread(
            f"its text is not UTF-8 (byte 0x{data[error.start]:02X} in line {line}): name its encoding, "
            "`--encoding cp1252` (Western Europe), `gbk`, `cp932` (Japan), `utf-16-le`, ..."
        ) from None
    except LookupError:
        raise unknown_encoding(encoding or "") from None
    if "\0" in text[:_HEAD]:
        raise Unread("it holds NUL characters: UTF-16 without a byte order mark? try `--encoding utf-16-le`")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def check_encoding(encoding: str | None) -> None:
    """UsageError when there is no such encoding of text."""
    try:
        "".encode(encoding or "utf-8")
    except LookupError:
        raise unknown_encoding(encoding or "") from None


def unknown_encoding(encoding: str) -> UsageError:
    """The error for an encoding that does not exist."""
    return UsageError(
        f"there is no encoding `{encoding}`", hint="try `--encoding cp1252`, `gbk`, `cp932` or `utf-16-le`"
    )


def looks_like_file(cell: str) -> bool:
    """Whether a cell ends as the names of pictures do."""
    return ending(cell.strip().strip("\"'")) in PICTURES


# ---- records ---------------------------------------------------------------------------------------------------


def _of_parquet(name: str, data: bytes | Path, names: Names) -> Table:
    try:
        columns = parquet.Columns(data, name)
    except DataError as error:
        raise Unread(error.message) from None
    return _of_named_cells(
        columns.header, columns.records, names, by_row=columns.pictures and columns.rows == len(names)
    )


def _of_records(text: str, names: Names, *, lines: bool) -> Table:
    broken: list[int] = []
    header: dict[str, None] = {}
    count = 0
    for record in records.walk(text, lines=lines, broken=broken):
        count += 1
        if len(header) <= MAX_COLUMNS:
            header.update(dict.fromkeys(record))
    if not count:
        raise Unread(f"none of its {len(broken):,} lines is JSON" if broken else "it holds no records")
    table = _of_named_cells(list(header), lambda: records.walk(text, lines=lines, broken=[]), names)
    if broken:
        shown = ", ".join(f"{number:,}" for number in broken[:5]) + (", ..." if len(broken) > 5 else "")
        word = "lines" if len(broken) > 1 else "line"
        table.notes.append(
            f"{word} {shown} left out: no JSON" + (f" ({len(broken):,} in all)" if len(broken) > 1 else "")
        )
    return table


def _of_named_cells(
    header: list[str], walk: Callable[[], Iterator[dict[str, object]]], names: Names, *, by_row: bool = False
) -> Table:
    if len(header) > MAX_COLUMNS:
        raise _too_wide(len(header))

    def rows() -> Iterator[list[str]]:
        for record in walk():
            yield [records.cell(record.get(title)) for title in header]

    listed = set[int]()
    for _, record in zip(range(_SAMPLE), walk(), strict=False):
        listed |= {column for column, title in enumerate(header) if isinstance(record.get(title), list)}
    key = 0 if by_row else _file_column([title.strip().lower() for title in header], rows, names)
    return Table(header, rows, key, by_row, frozenset(listed))


def _too_wide(columns: int) -> Unread:
    return Unread(f"it has {columns:,} columns, and at most {MAX_COLUMNS:,} are read")


# ---- text ------------------------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """How the cells of a text table are told apart."""

    delimiter: str
    """One character; a blank stands for any number of blanks and tabs."""
    quote: str
    """What holds cells together, empty where nothing does."""


def _of_text(text: str, names: Names) -> Table:
    start, forms = _beginning(text)
    _refuse_wide(text, start, forms)
    fitness = {form: _fitness(text, start, form, names) for form in forms}
    form = max(forms, key=fitness.__getitem__)  # the first of equals
    if fitness[form][1] == 0:  # no separator: one column
        form = _Form("\t", "")
    head = _head(text, start, form)
    if not head:
        raise Unread("it is empty")

    def all_rows() -> Iterator[list[str]]:
        return _parsed(text, start, form)

    widths = Counter(map(len, head[1:] or head))
    width, often = widths.most_common(1)[0]
    ragged = often < 0.8 * sum(widths.values())  # cells that hold separators themselves, such as tags
    if ragged and len(head[0]) > 1:
        width = len(head[0])
    key = _file_column([cell.strip().lower() for cell in head[0]], all_rows, names)
    header = _header(head, width, key, names)
    has_header = header is not None
    if header is None:
        titles = ["label" if width == 2 else f"label{at}" for at in range(width)]
        header = ["file", "tags"] if ragged else [*titles[: max(key, 0)], "file", *titles[max(key, 0) + 1 :]]
    elif len(header) == width - 1 and not (key == 0 and header[0].lower() in FILE_TITLES):
        header = ["", *header]  # R, and CelebA: the first column has no title
        key = _file_column([cell.lower() for cell in header], all_rows, names)
    if len(header) > MAX_COLUMNS:
        raise _too_wide(len(header))
    return Table(
        header, lambda: _filled(all_rows(), len(header), form, has_header=has_header), key if key < len(header) else -1
    )


def _beginning(text: str) -> tuple[int, list[_Form]]:
    """Where the table begins, behind comments, Excel's `sep=;` and CelebA's number of rows; and how it may be separated."""
    start = 0
    while comment := re.compile(r"\s*#[^\n\t;|,]*\n").match(text, start):
        start = comment.end()
    quote = "'" if text[start : start + 1] == "'" else '"'
    if text.count(quote) % 2:  # a quote alone would hold all the rest of the table together
        quote = ""
    forms = [_Form(delimiter, quote) for delimiter in "\t;|, "]
    said = re.compile(r'\s*"?sep=(.)"?[^\n]*\n').match(text, start)
    if said:
        start = said.end()
        forms = [_Form(said[1], quote)]
    counted = re.compile(r"\s*\d+[ \t]*\n(?=[^\n]*\D[^\n]*\n)").match(text, start)
    return counted.end() if counted else start, forms


def _refuse_wide(text: str, start: int, forms: Sequence[_Form]) -> None:
    """Unread when every row has too many cells, before any is made: a million columns are a gigabyte of cells."""
    ends = text.find("\n", start)
    second = text.find("\n", ends + 1)
    if ends < 0:
        return
    for form in forms:
        counts = [
            text.count(form.delimiter, start, ends),
            text.count(form.delimiter, ends, second if second > 0 else len(text)),
        ]
        if min(counts) >= MAX_COLUMNS and (form.delimiter != " " or len(forms) == 1 or counts[0] == counts[1]):
            raise _too_wide(counts[0] + 1)


def _parsed(text: str, start: int, form: _Form) -> Iterator[list[str]]:
    """The rows of a text, empty ones left out. Cells of quoted text may hold line ends."""
    same: dict[str, str] = {}  # a million cells hold few different values
    reader = csv.reader(
        _lines(text, start, form),
        delimiter=form.delimiter,
        quoting=csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE,
        quotechar=form.quote or None,
        skipinitialspace=True,
    )
    try:
        for row in reader:
            if row and any(row):
                yield [same.setdefault(cell, cell) if len(cell) < 16 and len(same) < 10_000 else cell for cell in row]
    except csv.Error as error:
        raise Unread(f"line {reader.line_num:,} cannot be read: {error}") from None


def _lines(text: str, start: int, form: _Form) -> Iterator[str]:
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        line = text[start:end]
        start = end
        if form.delimiter == " ":
            line = line.replace("\t", " ").strip() + "\n"
        yield line


def _head(text: str, start: int, form: _Form) -> list[list[str]]:
    """The first rows."""
    end = len(text) if len(text) - start <= _HEAD else text.rfind("\n", start, start + _HEAD) + 1 or len(text)
    return [row for _, row in zip(range(_HEAD_ROWS), _parsed(text[:end], start, form), strict=False)]


def _fitness(text: str, start: int, form: _Form, names: Names) -> tuple[float, float]:
    """The share of the first rows that hold the name of a picture, and the share that are as wide as most (0: one cell)."""
    try:
        rows = _head(text, start, form)
    except Unread:
        return -1, 0
    if not rows:
        return 0, 0
    filed = sum(any(looks_like_file(cell) or names.find(cell).place >= 0 for cell in row[:64]) for row in rows)
    width, often = Counter(map(len, rows)).most_common(1)[0]
    if width == 1 and max(map(len, rows)) == 1:
        often = 0
    return round(filed / len(rows), 2), round(often / len(rows), 2)


def _header(head: Sequence[Sequence[str]], width: int, key: int, names: Names) -> list[str] | None:
    """The titles, None where the first row is one of values."""
    first = [cell.strip().strip('"') for cell in head[0]]
    if len(first) == width - 1:
        return first
    if any(title.lower() in FILE_TITLES for title in first):
        return first
    if any(looks_like_file(cell) for cell in first) or (0 <= key < len(first) and names.find(first[key]).place >= 0):
        return None
    return first


def _filled(rows: Iterator[list[str]], width: int, form: _Form, *, has_header: bool) -> Iterator[list[str]]:
    """Rows of one width: what is missing is empty, and a surplus belongs to the last cell, which holds separators."""
    if has_header:
        next(rows, None)
    glue = form.delimiter if form.delimiter in " \t" else f"{form.delimiter} "
    for row in rows:
        while len(row) > width and not row[-1].strip():
            row.pop()
        if len(row) == width:
            yield row
        elif len(row) < width:
            yield row + [""] * (width - len(row))
        else:
            yield [*row[: width - 1], glue.join(cell.strip() for cell in row[width - 1 :])]


# ---- the column of file names ----------------------------------------------------------------------------------


def _file_column(titles: Sequence[str], rows: Callable[[], Iterable[list[str]]], names: Names) -> int:
    """The column whose cells name most pictures, best; a title that says so decides between equals; -1: none."""
    sample: list[list[str]] = []
    for number, row in enumerate(rows()):  # the first rows, and ever fewer of the rest
        if number < _SAMPLE // 2 or number % (1 + number // _SAMPLE) == 0:
            sample.append(row)
    places, ambiguous = _matches(sample, names)

    def rank(column: int) -> tuple[float, bool, int]:
        found = places[column]
        return len(found) + sum(found.values()) / 4, column < len(titles) and titles[column] in FILE_TITLES, -column

    likely = _likely(titles, sample)
    for column, found in list(places.items()):  # classes 0 and 1 beside names of other pictures are no 0.png and 1.png
        if likely and column not in likely and max(found.values()) < 3 and len(found) * 2 < len(sample):
            del places[column]
    if places:
        return max(places, key=rank)
    several = [column for column in ambiguous if ambiguous[column] and (not likely or column in likely)]
    if several:
        return max(several, key=lambda column: (ambiguous[column], -column))
    return _first_that_fits(likely, rows, names)


def _matches(sample: Sequence[Sequence[str]], names: Names) -> tuple[dict[int, dict[int, int]], Counter[int]]:
    """For each column the pictures that its cells name and how well, and how many cells fit several pictures."""
    places: dict[int, dict[int, int]] = {}
    ambiguous = Counter[int]()
    for row in sample:
        for column, cell in enumerate(row[:MAX_COLUMNS]):
            match = names.find(cell)
            ambiguous[column] += match.place == AMBIGUOUS
            if match.place >= 0:
                found = places.setdefault(column, {})
                found[match.place] = max(found.get(match.place, 0), match.quality)
    return places, ambiguous


def _likely(titles: Sequence[str], sample: Sequence[Sequence[str]]) -> list[int]:
    """Columns that hold names of files by their titles or their cells."""
    by_title = [column for column, title in enumerate(titles) if title in FILE_TITLES]
    narrowest = min(map(len, sample), default=0)
    by_cell = [column for column in range(narrowest) if any(looks_like_file(row[column]) for row in sample)]
    return [*by_title, *by_cell]


def _first_that_fits(columns: Sequence[int], rows: Callable[[], Iterable[list[str]]], names: Names) -> int:
    """The first of the columns that names a picture in any row: few rows of a large table may be about this source."""
    for row in rows() if columns else ():
        for column in columns:
            if column < len(row) and names.find(row[column]).place >= 0:
                return column
    return -1
