"""The parts of a page as plain values: `templates/parts.html` writes each kind. Tables and figures get their numbers here,
and are remembered for files of their own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from animegen_cli.report import plots, tables
from animegen_cli.report.tables import Table

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.report.plots import Plot


class TablePart(NamedTuple):
    """A table with its caption above and its notes folded below; without a `number` it is not counted."""

    number: int
    table: Table
    caption: str
    wrap: bool = False
    kind: str = "table"


class Panel(NamedTuple):
    """A picture or plot, and a line below it."""

    html: Markup
    below: str = ""


class FigurePart(NamedTuple):
    """Pictures or plots under one caption: side by side, or (`wide`) each as wide as the page."""

    number: int
    panels: Sequence[Panel]
    caption: str
    wide: bool = False
    kind: str = "figure"


class Words(NamedTuple):
    """A paragraph; what is escaped already is `Markup`."""

    text: str
    kind: str = "words"


class Commands(NamedTuple):
    """What to type, and what is known about it."""

    title: str
    lines: Sequence[str]
    about: str = ""
    kind: str = "commands"


class Doubts(NamedTuple):
    """Sentences that a reader should know before believing a page; what stands between backticks is code."""

    title: str
    sentences: Sequence[str]
    kind: str = "doubts"


class Folded(NamedTuple):
    """Parts behind a line that opens them."""

    title: str
    parts: Sequence[Part]
    kind: str = "folded"


Part = TablePart | FigurePart | Words | Commands | Doubts | Folded


class Section(NamedTuple):
    """Parts under a heading."""

    title: str
    parts: Sequence[Part]

    @property
    def anchor(self) -> str:
        """The id that links lead to."""
        return "-".join(self.title.lower().split())


def section(title: str, *parts: Part | None) -> Section | None:
    """Put parts under a heading; None where there are none."""
    there = [part for part in parts if part is not None]
    return Section(title, there) if there else None


def folded(title: str, *parts: Part | None) -> Folded | None:
    """Fold parts away; None where there are none."""
    there = [part for part in parts if part is not None]
    return Folded(title, there) if there else None


def doubts(title: str, sentences: Iterable[str]) -> Doubts | None:
    """List doubts; None where there are none."""
    listed = list(sentences)
    return Doubts(title, listed) if listed else None


class Numbering:
    """Numbers tables and figures in the order in which they are made, and remembers them by the names of their files."""

    def __init__(self) -> None:
        self.counts = {"Table": 0, "Figure": 0}
        self.tables: dict[str, Table] = {}
        self.plots: dict[str, Plot] = {}
        self.pictures: dict[str, Path] = {}

    def table(self, name: str, table: Table, caption: str, *, wrap: bool = False, slim: bool = False) -> TablePart:
        """Remember a table; in a `slim` one, columns that say the same in all rows are said once, above it."""
        self.tables[_free(name, self.tables)] = table
        self.counts["Table"] += 1
        return TablePart(self.counts["Table"], tables.slim(table) if slim else table, caption, wrap)

    def plot(self, name: str, plot: Plot) -> Panel:
        """Remember a plot, and write it for a figure."""
        self.plots[_free(name, self.plots)] = plot
        return Panel(plots.inline(plot))

    def figure(self, panels: Iterable[Panel], caption: str, *, wide: bool = False) -> FigurePart | None:
        """Set pictures or plots under one caption; None where there are none."""
        there = list(panels)
        if not there:
            return None
        self.counts["Figure"] += 1
        return FigurePart(self.counts["Figure"], there, caption, wide)

    def keep(self, name: str, picture: Path) -> None:
        """Remember a picture file under a name."""
        self.pictures[_free(name, self.pictures)] = picture


def _free(name: str, taken: Container[str]) -> str:
    """A name for a file, in small letters and hyphens, that nothing else has."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80] or "unnamed"
    candidates = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate not in taken)
