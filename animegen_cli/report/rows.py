"""Rows of values by the names of their columns, as programs and notebooks use them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from animegen_cli import console
from animegen_cli.errors import MachineError, UsageError, did_you_mean
from animegen_cli.report import html
from animegen_cli.report.tables import DASH, Cell, Column, Table

if TYPE_CHECKING:
    import pandas

MOST_SHOWN = 30
"""Rows that are shown of longer lists, half of them from the end."""


def shown(
    *,
    facts: Mapping[str, object] | None = None,
    tables: Sequence[Table] = (),
    picture: str = "",
    notes: Sequence[str] = (),
) -> str:
    """Write what a notebook shows of an object: facts that are known, tables, a picture (an `<img>`) and notes."""
    return html.render("notebook.html", facts=facts or {}, tables=tables, picture=picture, notes=notes)


class Rows(Sequence[dict[str, Any]]):
    """Rows of one table: a sequence of dicts with equal keys, None where a row has no value. Notebooks show it as a table.

    `rows[0]` is a row, `rows["images"]` a column as a list, `rows[:10]` fewer rows, `rows.frame()` a pandas data frame.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
        """Take rows of any keys; the columns are those named, then all others in the order in which they occur."""
        given = list(rows)
        self.columns = list(dict.fromkeys([*columns, *(key for row in given for key in row)]))
        self._rows = [{name: row.get(name) for name in self.columns} for row in given]

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> Rows: ...
    @overload
    def __getitem__(self, place: str) -> list[Any]: ...
    def __getitem__(self, place: int | slice | str) -> dict[str, Any] | Rows | list[Any]:
        """Return a row, some rows or a column; UsageError with the nearest name for a column that does not exist."""
        if isinstance(place, slice):
            return Rows(self._rows[place], self.columns)
        if isinstance(place, int):
            return self._rows[place]
        if place not in self.columns:
            raise UsageError(f"there is no column `{place}`", hint=did_you_mean(place, self.columns))
        return [row[place] for row in self._rows]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def __eq__(self, other: object) -> bool:
        """Whether two lists have equal rows."""
        return isinstance(other, Rows) and self._rows == other._rows

    __hash__ = None  # type: ignore[assignment]  # lists have none either

    def frame(self) -> pandas.DataFrame:
        """Return the rows as a pandas data frame, one column per name; MachineError where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise MachineError(
                "data frames need pandas, which is not installed", hint="type `pip install pandas`"
            ) from None
        return pandas.DataFrame(self._rows, columns=self.columns)

    def table(self) -> Table:
        """Return the rows as a table of texts; of a long list its beginning and its end."""
        right = {name for name in self.columns if any(isinstance(row[name], int | float) for row in self._rows)}
        columns = tuple(Column(name, name, right=name in right) for name in self.columns)
        rows = [tuple(Cell(_text(row[name]), row[name]) for name in self.columns) for row in self._rows]
        if len(rows) > MOST_SHOWN:
            half = MOST_SHOWN // 2
            rows = [*rows[:half], tuple(Cell("…") for _ in self.columns), *rows[-half:]]
        return Table("", columns, tuple(rows))

    def __repr__(self) -> str:
        """Return the rows as text in columns."""
        found = self.table()
        texts = [[cell.shown for cell in row] for row in found.rows]
        right = [column.title for column in found.columns if column.right]
        return console.plain_table("", self.columns, texts, right).rstrip("\n") if self.columns else "no rows"

    def _repr_html_(self) -> str:
        return shown(tables=[self.table()])


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return DASH
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.5g}"
    return str(value)
