"""The tables of a comparison as a paper or a spreadsheet wants them: chosen columns, chosen published rows, a label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from animegen_cli.errors import UsageError, did_you_mean
from animegen_cli.report import published, tables

if TYPE_CHECKING:
    from animegen_cli.report.columns import Comparison
    from animegen_cli.report.tables import Table

_ALWAYS = ("run", "seed")
"""Columns that stand in every table: they say what a row is about."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """What the tables that are printed and written as `table.*` hold."""

    columns: Sequence[str] = ()
    """Keys of columns, or first words of scores (`fid`, `kid`), in this order; quality and cost in full when empty."""
    published: str | None = None
    """Which published numbers stand beside them, by the name of a table, its document or its study; `none` for none.
    All when None, but none beside chosen columns."""
    label: str = ""
    r"""What LaTeX's `\ref` calls the first table; the others have a word more."""
    caption: str = ""
    """Plain text above the first LaTeX table, in place of its title."""
    intervals: bool = False
    """95 % intervals in place of standard errors; a spreadsheet has both anyway."""


def tables_of(compared: Comparison, paper: Paper, *, spreadsheet: bool = False) -> list[Table]:
    """Give the tables that a paper shows; for a spreadsheet quality and cost are joined, and each training has a row.

    Raises:
        UsageError: no such column, no such published table, or a label that LaTeX cannot read.
    """
    if unfit := re.search(r"[\\{}%#~^$&,\s]", paper.label):
        raise UsageError(f"a LaTeX label cannot hold `{unfit[0]}`", hint="name it like `--label tab:faces`")
    found = _tables_of(compared, paper, spreadsheet=spreadsheet)
    return [tables.with_intervals(table) for table in found] if paper.intervals and not spreadsheet else found


def _tables_of(compared: Comparison, paper: Paper, *, spreadsheet: bool) -> list[Table]:
    beside = _published(paper)
    several = [] if compared.seeds is None else [compared.seeds]
    joined = compared.joined
    if paper.columns:
        keys = _keys(compared, paper.columns)
        rows = [
            (replace(row[0], text=label), *row[1:]) for row, label in zip(joined.rows, compared.labels, strict=True)
        ]
        chosen = _narrow(replace(joined, title="Results", rows=tuple(rows), notes=compared.quality.notes), keys)
        seeds = [_narrow(table, keys) for table in several] if spreadsheet else []
        return [chosen, *seeds, *beside]
    return [*([joined] if spreadsheet else [compared.quality, compared.cost]), *several, *beside]


def as_text(compared: Comparison, form: Literal["markdown", "latex", "csv"], paper: Paper | None = None) -> str:
    """Write the tables as one text; CSV has them stacked."""
    paper = paper or Paper()
    found = tables_of(compared, paper, spreadsheet=form == "csv")
    if form == "csv":
        return tables.as_csv(*found)
    if form == "markdown":
        return "\n".join(map(tables.markdown, found))
    return _as_latex(found, paper)


def _as_latex(found: Sequence[Table], paper: Paper) -> str:
    """The tables one below the other. Published numbers stand at the foot of chosen columns where they are of the same scores,
    else in a table of their own."""
    foot = None
    if paper.columns and _published(paper):
        foot = published.below(found[0], paper.published)
        found = found[:1] if foot is not None else found
    words = [""] + [f"-{re.sub('[^a-z]+', '-', table.title.lower())[:24].strip('-')}" for table in found[1:]]
    labels = [paper.label and paper.label + word for word in words]
    first = tables.latex(found[0], label=labels[0], caption=paper.caption, below=foot)
    return "\n".join(
        [first, *(tables.latex(table, label=label) for table, label in zip(found[1:], labels[1:], strict=True))]
    )


def _keys(compared: Comparison, words: Sequence[str]) -> list[str]:
    """The keys of the columns that are meant, in the order of the words."""
    there = [column.key for column in compared.joined.columns if column.key not in _ALWAYS]
    found: list[str] = []
    for word in words:
        named = [column.key for column in compared.score_columns if f"{column.name}-".startswith(f"{word}-")]
        matching = [word] if word in there else named
        if not matching:
            raise UsageError(f"there is no column `{word}`", hint=did_you_mean(word, there))
        found += [key for key in matching if key not in found]
    return found


def _narrow(table: Table, keys: Sequence[str]) -> Table:
    """The table with these columns, and the notes that are about them or about all."""
    places = {column.key: place for place, column in enumerate(table.columns)}
    kept = [places[key] for key in (*_ALWAYS, *keys) if key in places]
    headings = {column.heading.removesuffix(column.arrow) for column in table.columns if column.key not in keys}
    others = [table.columns[place].heading.removesuffix(table.columns[place].arrow) for place in kept]
    notes = [_about(note, headings, others) for note in table.notes]
    return replace(
        table,
        columns=tuple(table.columns[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in table.rows),
        notes=tuple(note for note in notes if note),
    )


def _about(note: str, left_out: set[str], kept: Sequence[str]) -> str:
    """A note without the columns that are left out of its beginning (`fid, kid: ...`); empty where it is about no other."""
    names, colon, text = note.partition(": ")
    named = names.split(", ")
    if not colon or not set(named) & {*left_out, *kept}:
        return note
    still = [name for name in named if name in kept]
    return f"{', '.join(still)}: {text}" if still else ""


def _published(paper: Paper) -> list[Table]:
    if paper.published == "none" or (paper.published is None and paper.columns):
        return []
    return [published.results(paper.published)]
