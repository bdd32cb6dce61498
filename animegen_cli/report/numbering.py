"""Numbers for the tables and figures of a page, which also remember them for files of their own."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from animegen_cli.report import canvas, tables
from animegen_cli.report.markup import Markup, el, join

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from pathlib import Path

    from animegen_cli.report.canvas import Drawing
    from animegen_cli.report.tables import Table


class Numbering:
    """Numbers tables and figures in the order in which they appear, and remembers them by the names of their files."""

    def __init__(self) -> None:
        self.counts = {"Table": 0, "Figure": 0}
        self.tables: dict[str, Table] = {}
        self.plots: dict[str, Drawing] = {}
        self.pictures: dict[str, Path] = {}

    def number(self, kind: str, *text: object) -> Markup:
        """Write the next caption of its kind: `Table 3. text`, in bold as far as the point."""
        self.counts[kind] += 1
        return join(el("b", f"{kind} {self.counts[kind]}."), " ", *text)

    def table(self, name: str, table: Table, text: object, *, wrap: bool = False) -> Markup:
        """Add a table with its caption above and its notes below."""
        self.tables[_free(name, self.tables)] = table
        return table_html(table, self.number("Table", text), wrap=wrap)

    def plot(self, name: str, drawing: Drawing) -> Markup:
        """Remember a plot, and write it for a figure."""
        self.plots[_free(name, self.plots)] = drawing
        return canvas.svg(drawing, alone=False)

    def figure(self, shown: Sequence[Markup], *text: object, class_: str = "pair") -> Markup:
        """Add one or several pictures or plots under one caption; `class_` lays several side by side."""
        inside = el("div", *shown, class_=class_) if len(shown) > 1 else shown[0]
        return el("figure", inside, el("figcaption", self.number("Figure", *text)))

    def keep(self, name: str, picture: Path) -> None:
        """Remember a picture file under a name."""
        self.pictures[_free(name, self.pictures)] = picture


def table_html(table: Table, caption: object, *, wrap: bool = False) -> Markup:
    """Write a table that scrolls where it is too wide, with its caption above and its notes below."""
    drawn = tables.as_html(table, class_="wrap" if wrap else None)
    notes = el("ul", *(el("li", note) for note in table.notes), class_="notes") if table.notes else None
    region = el("div", drawn, class_="scroll", tabindex=0, role="region", aria_label=table.title)
    return join(el("p", caption, class_="caption"), region, notes)


def _free(name: str, taken: Container[str]) -> str:
    """A name for a file, in small letters and hyphens, that nothing else has."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80] or "unnamed"
    candidates = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate not in taken)
