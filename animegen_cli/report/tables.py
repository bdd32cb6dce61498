"""One table, written as Markdown, CSV, LaTeX, JSON, HTML or for the terminal."""

from __future__ import annotations

import csv
import io
import re
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from animegen_cli import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

DASH = "–"
ARROWS: dict[Literal["lower", "higher"] | None, str] = {"lower": " ↓", "higher": " ↑", None: ""}
"""What stands behind a heading: which direction is better."""


@dataclass(frozen=True)
class Column:
    """A heading; `detail` tells namesakes apart, `better` says which end of a ranked column is the good one."""

    key: str
    title: str
    right: bool = True
    better: Literal["lower", "higher"] | None = None
    detail: str = ""

    @property
    def arrow(self) -> str:
        """The arrow behind the title of a ranked column, with a space before it."""
        return ARROWS[self.better]

    @property
    def heading(self) -> str:
        """The title with its detail and its arrow, in one line."""
        return self.title + (f" ({self.detail})" if self.detail else "") + self.arrow


@dataclass(frozen=True)
class Cell:
    """What a reader sees, and the value behind it for CSV and JSON (None: not known); `odd` cells are tinted on pages.

    `std` and `interval` are the uncertainty of the value, where it is known.
    """

    text: str = DASH
    value: Any = None
    best: bool = False
    tied: bool = False
    odd: bool = False
    std: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def shown(self) -> str:
        """The text, marked where it is not told apart from the best."""
        return self.text + (" ≈" if self.tied else "")


def with_intervals(table: Table) -> Table:
    """The table with 95 % intervals in the place of errors, in the cells that have both, and a note that says so."""
    rows = tuple(tuple(_with_interval(cell) for cell in row) for row in table.rows)
    return (
        table if rows == table.rows else replace(table, rows=rows, notes=("In brackets: 95 % intervals.", *table.notes))
    )


def _with_interval(cell: Cell) -> Cell:
    value, error, _ = cell.text.partition(" ± ")
    if not error or cell.interval is None:
        return cell
    places = len(value.partition(".")[2])
    low, high = cell.interval
    return replace(cell, text=f"{value} [{low:.{places}f}, {high:.{places}f}]")


def measured(value: object, written: Callable[[float], str]) -> Cell:
    """A cell of a positive number as `written` spells it; an empty one for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return Cell()
    return Cell(written(value), value)


@dataclass(frozen=True)
class Table:
    """A title, columns, rows of as many cells, and notes that belong below; ValueError for a row of another length.

    `common` says what is the same in all rows and stands in no column.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    common: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(self.columns)} columns")


def markdown(table: Table) -> str:
    """Write the table as GitHub's Markdown; best values are bold."""
    heads = [_markdown(column.heading) for column in table.columns]
    lines = [heads, ["---:" if column.right else ":---" for column in table.columns]]
    lines += [
        [f"**{_markdown(cell.shown)}**" if cell.best else _markdown(cell.shown) for cell in row] for row in table.rows
    ]
    parts = [f"**{_markdown(table.title)}**", "\n".join("| " + " | ".join(line) + " |" for line in lines)]
    parts += ["\n".join(f"- {_markdown(note)}" for note in table.notes)] if table.notes else []
    return "\n\n".join(parts) + "\n"


def as_csv(*many: Table) -> str:
    """Write plain values under the columns' keys; several tables are stacked, and a first column names each.

    Behind a value whose uncertainty some row knows stand its standard deviation and the ends of its interval: `fid`,
    `fid_std`, `fid_low`, `fid_high`.
    """
    lines = []
    keys = dict.fromkeys(column.key for table in many for column in table.columns)
    uncertain = {
        c.key for t in many for row in t.rows for c, v in zip(t.columns, row, strict=True) if v.std or v.interval
    }
    for table in many:
        for row in table.rows:
            line: dict[str, object] = {"table": table.title}
            for column, cell in zip(table.columns, row, strict=True):
                line[column.key] = _plain(cell.value)
                low, high = cell.interval or (None, None)
                line |= {f"{column.key}_std": cell.std, f"{column.key}_low": low, f"{column.key}_high": high}
            lines.append(line)
    ends = ("", "_std", "_low", "_high")
    heads = ["table", *(key + end for key in keys for end in (ends if key in uncertain else ends[:1]))]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, heads, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def as_json(table: Table) -> dict[str, Any]:
    """Give the title, the columns, the rows of values by column key, and the notes, as JSON holds them."""
    return {
        "title": table.title,
        "columns": [{"key": c.key, "title": c.title, "better": c.better} for c in table.columns],
        "rows": [
            {
                "values": {c.key: cell.value for c, cell in zip(table.columns, row, strict=True)},
                "best": [c.key for c, cell in zip(table.columns, row, strict=True) if cell.best],
            }
            for row in table.rows
        ],
        "notes": list(table.notes),
    }


def latex(table: Table, *, label: str = "", caption: str = "", below: Table | None = None) -> str:
    """Write the table with booktabs; it needs `\\usepackage{booktabs}` and nothing else.

    Args:
        table: what is written.
        label: what `\\ref` calls it.
        caption: plain text in place of the table's title; letters that LaTeX reads as commands are written so that it prints them.
        below: rows of the same columns for the foot of the table, under a rule and their own title.
    """
    spec = "".join("r" if column.right else "l" for column in table.columns)
    lines = ["% needs \\usepackage{booktabs}", "\\begin{table}", "\\centering\\small\\setlength{\\tabcolsep}{4pt}"]
    lines += [f"\\caption{{{_latex(caption or table.title)}}}", *([f"\\label{{{label}}}"] if label else [])]
    lines += [f"\\begin{{tabular}}{{@{{}}{spec}@{{}}}}", "\\toprule"]
    lines += [_latex_row(_latex(column.heading) for column in table.columns)]
    lines.append("\\midrule")
    lines += [_latex_row(map(_latex_cell, row)) for row in table.rows]
    if below is not None:
        lines += ["\\midrule", f"\\multicolumn{{{len(spec)}}}{{@{{}}l@{{}}}}{{\\emph{{{_latex(below.title)}}}}} \\\\"]
        lines += [_latex_row(map(_latex_cell, row)) for row in below.rows]
    lines += ["\\bottomrule", "\\end{tabular}"]
    notes = (*table.notes, *(below.notes if below is not None else ()))
    lines += [f"\\par\\smallskip{{\\footnotesize {_latex(note)}}}" for note in notes]
    return "\n".join([*lines, "\\end{table}"]) + "\n"


def _latex_row(cells: Iterable[str]) -> str:
    """A line of a tabular; a bracket or star at its start would be read as an option of the line before."""
    line = " & ".join(cells)
    return (f"{{{line[0]}}}{line[1:]}" if line[:1] in ("[", "*") else line) + " \\\\"


_NUMBER = r"-?\d[\d.]*(?:e[-+]?\d+)?"
_WITH_ERROR = re.compile(rf"({_NUMBER})(?: ± ({_NUMBER})| \[({_NUMBER}), ({_NUMBER})\])?")


def _latex_cell(cell: Cell) -> str:
    """A number with its error or its interval in one formula, bold where it is the best; other text as it is."""
    found = _WITH_ERROR.fullmatch(cell.text)
    if found is None:
        return f"\\textbf{{{_latex(cell.shown)}}}" if cell.best else _latex(cell.shown)
    value, error, low, high = (part and re.sub(r"e([-+]?\d+)", _power, part) for part in found.groups())
    formula = value + (f" \\pm {error}" if error else f"\\;[{low}, {high}]" if low else "")
    return f"$\\mathbf{{{formula}}}$" if cell.best else f"${formula}$" + (" $\\approx$" if cell.tied else "")


def _power(exponent: re.Match[str]) -> str:
    return f" \\cdot 10^{{{int(exponent[1])}}}"


def show(table: Table) -> None:
    """Print on the terminal; a star marks the best of a column. A table too wide for it comes in several bands."""
    heads = ["\n".join(filter(None, (c.title + c.arrow, c.detail and f"({c.detail})"))) for c in table.columns]
    shown = [[cell.shown + (" *" if cell.best else "") for cell in row] for row in table.rows]
    widths = [max(map(len, [*head.split("\n"), *(row[i] for row in shown)])) for i, head in enumerate(heads)]
    for number, band in enumerate(bands(widths, shutil.get_terminal_size().columns)):
        right = [heads[i] for i in band if table.columns[i].right]
        rows = [[row[i] for i in band] for row in shown]
        console.table(table.title if not number else "", [heads[i] for i in band], rows, right=right)


def bands(widths: Sequence[int], room: int) -> list[list[int]]:
    """Columns (by place) in groups that fit `room` letters with their borders, each group led by the first column."""
    groups: list[list[int]] = [[0]]
    used = widths[0] + 4
    for i, width in enumerate(widths[1:], 1):
        if len(groups[-1]) > 1 and used + width + 3 > room:
            groups.append([0])
            used = widths[0] + 4
        groups[-1].append(i)
        used += width + 3
    return groups


def _plain(value: object) -> object:
    """A value for a spreadsheet; text that it would take for a formula is quoted."""
    return "'" + value if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


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


def slim(table: Table) -> Table:
    """Leave out the columns that say the same in all rows, or nothing; `common` says it once instead."""
    if len(table.rows) < 2:
        return table
    texts = [{row[i].text for row in table.rows} for i in range(len(table.columns))]
    # A word that some rows lack goes without saying; a number that some lack does not.
    said = [of if column.right else of - {DASH} for column, of in zip(table.columns, texts, strict=True)]
    kept = [i for i, of in enumerate(said) if not i or len(of) > 1]
    common = [f"{table.columns[i].title} {text}" for i, of in enumerate(said) if i not in kept for text in of - {DASH}]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    return replace(table, columns=tuple(table.columns[i] for i in kept), rows=rows, common=", ".join(common))


def text_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Make a table of words, left-aligned."""
    columns = tuple(Column(head, head, right=False) for head in heads)
    cells = [tuple(Cell(str(value), value) for value in row) for row in rows]
    return Table(title, columns, tuple(cells))
