"""One table, written as Markdown, CSV, LaTeX, JSON, HTML or for the terminal."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from animegen_cli import console
from animegen_cli.report.markup import Markup, el, escape

DASH = "–"


@dataclass(frozen=True)
class Column:
    """A heading; `better` says which end of a ranked column is the good one."""

    key: str
    title: str
    right: bool = True
    better: Literal["lower", "higher"] | None = None

    @property
    def heading(self) -> str:
        return self.title + {"lower": " ↓", "higher": " ↑", None: ""}[self.better]


@dataclass(frozen=True)
class Cell:
    """What a reader sees, and the value behind it for CSV and JSON (None: not known)."""

    text: str = DASH
    value: Any = None
    best: bool = False
    tied: bool = False

    @property
    def shown(self) -> str:
        return self.text + (" ≈" if self.tied else "")


@dataclass(frozen=True)
class Row:
    """One line; a `section` that differs from the row before starts a new block under that heading."""

    cells: tuple[Cell, ...]
    section: str = ""


@dataclass(frozen=True)
class Table:
    """A title, columns, rows in blocks, and notes that belong below."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"a row of {len(row.cells)} cells in a table of {len(self.columns)} columns")

    def blocks(self) -> Iterator[tuple[str, list[Row]]]:
        """Rows by section, in order."""
        for section, rows in itertools.groupby(self.rows, key=lambda row: row.section):
            yield section, list(rows)

    def without_empty(self, section: str) -> Table:
        """The rows of one section alone, without the columns in which none of them says anything."""
        rows = [row for row in self.rows if row.section == section]
        kept = [i for i in range(len(self.columns)) if any(row.cells[i].text != DASH for row in rows)]
        return Table(
            section,
            tuple(self.columns[i] for i in kept),
            tuple(Row(tuple(row.cells[i] for i in kept)) for row in rows),
        )


def markdown(table: Table) -> str:
    """GitHub's tables, one per section; best values are bold."""
    parts = [f"**{_markdown(table.title)}**"] if table.title else []
    for section, rows in table.blocks():
        block = table.without_empty(section) if section else Table("", table.columns, tuple(rows))
        if section:
            parts.append(f"**{_markdown(section)}**")
        heads = [_markdown(column.heading) for column in block.columns]
        lines = [heads, ["---:" if column.right else ":---" for column in block.columns]]
        lines += [[_marked(cell, _markdown, "**{}**") for cell in row.cells] for row in block.rows]
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    parts += ["\n".join(f"- {_markdown(note)}" for note in table.notes)] if table.notes else []
    return "\n\n".join(parts) + "\n"


def as_csv(table: Table) -> str:
    """Plain values under the columns' keys, with a first column that names the section."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["section", *(column.key for column in table.columns)])
    for row in table.rows:
        values = [_plain(cell.value if cell.value is not None else "") for cell in row.cells]
        writer.writerow([row.section, *values])
    return buffer.getvalue()


def as_json(table: Table) -> dict[str, Any]:
    """Columns, rows of values by column key, and notes."""
    return {
        "title": table.title,
        "columns": [{"key": c.key, "title": c.title, "better": c.better} for c in table.columns],
        "rows": [
            {
                "section": row.section,
                "values": {c.key: cell.value for c, cell in zip(table.columns, row.cells, strict=True)},
                "best": [c.key for c, cell in zip(table.columns, row.cells, strict=True) if cell.best],
            }
            for row in table.rows
        ],
        "notes": list(table.notes),
    }


def latex(table: Table) -> str:
    """A booktabs table; needs `\\usepackage{booktabs}` and nothing else."""
    spec = "".join("r" if column.right else "l" for column in table.columns)
    lines = ["% needs \\usepackage{booktabs}", "\\begin{table}", "\\centering"]
    lines += [f"\\caption{{{_latex(table.title)}}}", f"\\begin{{tabular}}{{{spec}}}", "\\toprule"]
    lines += [" & ".join(_latex(column.heading) for column in table.columns) + " \\\\"]
    for section, rows in table.blocks():
        lines.append("\\midrule")
        if section:
            lines.append(f"\\multicolumn{{{len(spec)}}}{{l}}{{\\emph{{{_latex(section)}}}}} \\\\")
        for row in rows:
            lines.append(" & ".join(_marked(cell, _latex, "\\textbf{{{}}}") for cell in row.cells) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines += [f"\\par\\smallskip{{\\footnotesize {_latex(note)}}}" for note in table.notes]
    return "\n".join([*lines, "\\end{table}"]) + "\n"


def as_html(table: Table, *, caption: object, class_: str | None = None) -> Markup:
    """A `<table>` with scopes for screen readers; the first cell of each row heads it."""
    heads = [el("th", c.heading, scope="col", class_="n" if c.right else None) for c in table.columns]
    bodies = []
    for section, rows in table.blocks():
        title = el("tr", el("th", section, colspan=len(table.columns), scope="rowgroup")) if section else None
        bodies.append(el("tbody", title, *(_html_row(table, row) for row in rows), class_="aside" if section else None))
    return el("table", el("caption", caption), el("thead", el("tr", *heads)), *bodies, class_=class_)


def show(table: Table) -> None:
    """Print on the terminal: one drawn table per section, then the notes."""
    for section, rows in table.blocks():
        block = table.without_empty(section) if section else Table("", table.columns, tuple(rows))
        right = [column.heading for column in block.columns if column.right]
        shown = [[cell.shown + (" *" if cell.best else "") for cell in row.cells] for row in block.rows]
        console.table(section or table.title, [c.heading for c in block.columns], shown, right=right)


def _html_row(table: Table, row: Row) -> Markup:
    cells = []
    for i, (column, cell) in enumerate(zip(table.columns, row.cells, strict=True)):
        inside = el("strong", cell.shown) if cell.best else escape(cell.shown)
        align = "n" if column.right else None
        cells.append(el("td" if i else "th", inside, scope=None if i else "row", class_=align))
    return el("tr", *cells)


def _marked(cell: Cell, escaped: Callable[[str], str], best: str) -> str:
    return best.format(escaped(cell.shown)) if cell.best else escaped(cell.shown)


def _plain(value: object) -> object:
    """A value for a spreadsheet: text that it would take for a formula is quoted."""
    if isinstance(value, (list, tuple, dict)):
        return str(value)
    return "'" + value if isinstance(value, str) and value[:1] in "=+-@\t\r" and value[:1] else value


def _markdown(text: str) -> str:
    text = re.sub(r"([\\`*_\[\]|])", r"\\\1", " ".join(text.split()))
    return text.replace("<", "&lt;").replace(">", "&gt;")


_LATEX = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "%": "\\%", "#": "\\#", "_": "\\_",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}",
    "↓": "$\\downarrow$", "↑": "$\\uparrow$", "±": "$\\pm$", "≈": "$\\approx$", "×": "$\\times$", "–": "--",
    "…": "\\dots{}", "\"": "''", "`": "\\textasciigrave{}", "|": "\\textbar{}",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


FORMATS: dict[str, Callable[[Table], str]] = {"markdown": markdown, "csv": as_csv, "latex": latex}
"""What `--format` may ask for besides the drawn table and JSON."""


def text_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of plain words, left-aligned."""
    columns = tuple(Column(head, head, right=False) for head in heads)
    cells = [tuple(Cell(str(value), value) for value in row) for row in rows]
    return Table(title, columns, tuple(Row(row) for row in cells))
