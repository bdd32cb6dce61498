"""Numbers that others published (`references.yaml`), in a table of their own. They are shown, never ranked."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from animegen_cli.errors import UsageError, did_you_mean
from animegen_cli.report.tables import Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TITLE = "As published, protocol unknown: not ranked"
_COST = {"parameters": "parameters", "images": "images seen", "seconds": "training time", "device": "device"}
"""What sources report of the cost, as they write it: words in columns of their own, never beside measured numbers."""
_MEASURED_AS = {"fid": "FID", "kid75": "KID", "is": "IS"}
"""What a score of ours is called where it was published: the KID that is printed is of images at 75 pixels."""


@functools.cache
def _sources() -> tuple[Mapping[str, Any], ...]:
    text = Path(__file__).with_name("references.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load(text))


def names() -> list[str]:
    """Name every published table, such as `kumari2024-table-2`."""
    return [source["id"] for source in _sources()]


def find(name: str) -> Mapping[str, Any] | None:
    """Give a published table by its name: `source`, `short`, `protocol`, `rows`, perhaps `curve`; None when there is none."""
    return next((source for source in _sources() if source["id"] == name), None)


def results(word: str | None = None, *, metrics: Collection[str] | None = None) -> Table:
    """Give the published end results, a column per published metric; the notes name the sources.

    Args:
        word: the name of a table (`song2023-table-1`), of its document (`song2023`) or of the study that repeats it
            (`xmu2023`); all tables when None.
        metrics: leave out the rows that hold none of these.

    Raises:
        UsageError: there is no such table.
    """
    whole = [source for source in _sources() if not source.get("curve")]
    sources = [source for source in whole if word is None or word in _words(source)]
    if not sources:
        known = dict.fromkeys(name for source in whole for name in _words(source))
        raise UsageError(f"there is no published table `{word}`", hint=did_you_mean(str(word), ["none", *known]))
    kept = [
        [row for row in source["rows"] if metrics is None or not row["scores"].keys().isdisjoint(metrics)]
        for source in sources
    ]
    sources, kept = [s for s, rows in zip(sources, kept, strict=True) if rows], [rows for rows in kept if rows]
    numbered = [(i, source, row) for i, (source, rows) in enumerate(zip(sources, kept, strict=True), 1) for row in rows]
    there = sorted(
        dict.fromkeys(metric for _, _, row in numbered for metric in row["scores"]),
        key=lambda metric: not metric.isupper(),
    )
    columns = (
        Column("run", "published", right=False),
        Column("data", "data", right=False),
        *(Column(f"published {metric}", metric) for metric in there),
        *(Column(f"published {key}", title, right=False) for key, title in _COST.items()),
    )
    rows = [
        (
            Cell(f"{row['name']} [{i}]", f"{row['name']} ({source['short']})"),
            _cell(row.get("data")),
            *(_cell(row["scores"].get(metric)) for metric in there),
            *(_cell(row.get(key)) for key in _COST),
        )
        for i, source, row in numbered
    ]
    notes = (" ".join(f"[{i}] {source['source']}. {source['protocol']}".split()) for i, source in enumerate(sources, 1))
    return Table(TITLE, columns, tuple(rows), tuple(notes))


def below(table: Table, word: str | None = None) -> Table | None:
    """Give the published end results as rows of a measured table's columns, for its foot; None where no score of it was published.

    A column without a published counterpart stays empty. `word` and UsageError are as in `results`.
    """
    names = [column.key.partition("@")[0] for column in table.columns]
    found = results(word, metrics={_MEASURED_AS[name] for name in names if name in _MEASURED_AS})
    if not found.rows:
        return None
    place = {column.key: i for i, column in enumerate(found.columns)}
    places = [place.get(name, place.get(f"published {_MEASURED_AS.get(name, name)}")) for name in names]
    rows = tuple(tuple(Cell() if i is None else row[i] for i in places) for row in found.rows)
    return Table(TITLE, table.columns, rows, found.notes)


def _words(source: Mapping[str, Any]) -> list[str]:
    """What a published table may be called."""
    return [source["id"], source["id"].partition("-")[0], *([source["study"]] if "study" in source else [])]


def summary() -> Table:
    """Give the same results in two columns, for the terminal."""
    table = results()
    costs = {f"published {key}" for key in _COST}
    scores = [i for i, c in enumerate(table.columns) if c.key.startswith("published ") and c.key not in costs]
    rows = []
    for row in table.rows:
        text = ", ".join(f"{table.columns[i].title} {row[i].text}" for i in scores if row[i].value is not None)
        rows.append((row[0], Cell(text, text)))
    columns = (table.columns[0], Column("scores", "scores", right=False))
    return Table(TITLE, columns, tuple(rows), table.notes)


def validation() -> Table:
    """Give the values that were published over the course of a training."""
    source = next(source for source in _sources() if source.get("curve"))
    metrics = list(source["rows"][0]["scores"])
    columns = (Column("epoch", "epoch"), *(Column(metric, metric) for metric in metrics))
    rows = tuple((_cell(row["epoch"]), *(_cell(row["scores"][metric]) for metric in metrics)) for row in source["rows"])
    note = " ".join(f"{source['source']}. {source['protocol']}".split())
    return Table(f"{source['short']}: as published, protocol unknown", columns, rows, (note,))


def _cell(value: object) -> Cell:
    return Cell() if value is None else Cell(str(value), value)
