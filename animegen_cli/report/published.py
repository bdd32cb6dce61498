"""Numbers that others published (`references.yaml`), in rows of their own. They are shown, never ranked."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from animegen_cli.report.tables import Cell, Column, Row, Table

SECTION = "As published, protocol unknown: not ranked"


class Reference(NamedTuple):
    """One published row and the number of its source in the notes."""

    number: int
    source: Mapping[str, Any]
    row: Mapping[str, Any]

    @property
    def name(self) -> Cell:
        return Cell(f"{self.row['name']} [{self.number}]", f"{self.row['name']} ({self.source['short']})")

    @property
    def scores(self) -> Cell:
        said = ", ".join(f"{metric} {value:g}" for metric, value in self.row["scores"].items())
        return Cell(said, said)

    def cell(self, key: str) -> Cell:
        """What the source reports under `key`, or a dash."""
        return Cell(str(self.row[key]), self.row[key]) if key in self.row else Cell()


@functools.cache
def _sources() -> tuple[Mapping[str, Any], ...]:
    text = Path(__file__).with_name("references.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load(text))


def references() -> Iterator[Reference]:
    """Every published end result."""
    for number, source in enumerate((s for s in _sources() if not s.get("curve")), 1):
        for row in source["rows"]:
            yield Reference(number, source, row)


def notes() -> list[str]:
    """One note per source: where it is from and what is known of its protocol."""
    found = {reference.number: reference.source for reference in references()}
    return [" ".join(f"[{number}] {s['source']}. {s['protocol']}".split()) for number, s in found.items()]


def validation() -> Table:
    """Published values over the course of a training."""
    source = next(source for source in _sources() if source.get("curve"))
    metrics = list(source["rows"][0]["scores"])
    columns = (Column("epoch", "epoch"), *(Column(metric, metric, better="lower") for metric in metrics))
    rows = tuple(
        Row(
            (Cell(str(row["epoch"]), row["epoch"]), *(Cell(f"{row['scores'][m]:g}", row["scores"][m]) for m in metrics))
        )
        for row in source["rows"]
    )
    note = " ".join(f"{source['source']}. {source['protocol']}".split())
    return Table(f"{source['short']}. {SECTION}.", columns, rows, (note,))
