"""What a document prints beside what a study measures. Protocols differ or are unknown, so nothing of it is ranked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from animegen_cli.report import published
from animegen_cli.report.tables import Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from animegen_cli.compare.study_file import Printed, StudyConfig
    from animegen_cli.report.columns import Comparison
    from animegen_cli.report.records import Record

VALIDATION = "validation/"
"""Before the names of what is measured on held-out images as training goes."""


class Ours(NamedTuple):
    """The figure of a run that stands beside a printed one: its name, value and text."""

    name: str
    value: float
    text: str


def tables(study: StudyConfig, compared: Comparison) -> list[Table]:
    """Give a table per printed table that the study names: its numbers, those of the runs, and where it is from."""
    found = []
    for wanted in study.printed:
        source = published.find(wanted.table)
        if source is not None:
            found.append(
                _curve(wanted, source, compared) if source.get("curve") else _results(wanted, source, compared)
            )
    return found


def _notes(source: Mapping[str, Any], columns: Sequence[Column]) -> tuple[str, ...]:
    text = " ".join(f"{source['source']}. {source['protocol']}".split())
    notes = [f"As printed: {text}", "The protocols are not one, so nothing here is ranked."]
    if any(column.title.startswith(("kid-faces", "kid75-faces", "fd-faces")) for column in columns):
        notes.append(
            "Scores named after faces look through the package's own network and have another scale than the printed ones: compare "
            "their course and order. The command animegen weights fetches the network of the printed scores."
        )
    return tuple(notes)


# ---- end results --------------------------------------------------------------------------------------------------


def _results(wanted: Printed, source: Mapping[str, Any], compared: Comparison) -> Table:
    """A row per run beside a printed row: what is printed, then what is measured."""
    places = {name: place for place, name in enumerate(compared.names)}
    lines = []
    for row in source["rows"]:
        if wanted.rows and row["name"] not in wanted.rows:
            continue
        for run in wanted.rows.get(row["name"], wanted.runs):
            figures = [
                None if run not in places else _final(compared, places[run], names) for names in wanted.figures.values()
            ]
            lines.append((row, run, figures))
    ours = [_heading([figures[i] for _, _, figures in lines], names) for i, names in enumerate(wanted.figures.values())]
    columns = (
        Column("printed", "printed", right=False),
        *(Column(f"printed {figure}", f"{figure}, printed") for figure in wanted.figures),
        Column("run", "run", right=False),
        *(Column(f"here {figure}", f"{name}, here") for figure, name in zip(wanted.figures, ours, strict=True)),
    )
    rows = [
        (
            Cell(str(row["name"]), row["name"]),
            *(_cell(row["scores"].get(figure)) for figure in wanted.figures),
            Cell(run, run),
            *(Cell() if one is None else Cell(one.text, one.value) for one in figures),
        )
        for row, run, figures in lines
    ]
    return Table(f"Beside {source['short']}", columns, tuple(rows), _notes(source, columns))


def _final(compared: Comparison, place: int, names: Sequence[str]) -> Ours | None:
    """The first of `names` that the run has: a score, or the last held-out figure of its training."""
    record = compared.records[place]
    for name in names:
        for score in record.scores:
            if f"{score.name}-".startswith(f"{name}-") and score.images == record.images:
                return Ours(score.name, score.value, score.text)
        for key, points in _validated(record, name):
            return Ours(key, points[-1][1], f"{points[-1][1]:.4g}")
    return None


def _validated(record: Record, name: str) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """The held-out curves of a training whose name begins with the words of `name`."""
    for key, points in record.curves.items():
        bare = key.removeprefix(VALIDATION)
        if bare != key and f"{bare}-".startswith(f"{name}-") and points:
            yield bare, points


def _heading(found: Sequence[Ours | None], names: Sequence[str]) -> str:
    """What our column is called: all that stands in it, or what it is about to hold."""
    return " or ".join(dict.fromkeys(one.name for one in found if one is not None)) or names[0]


# ---- over the course of training ----------------------------------------------------------------------------------


def _curve(wanted: Printed, source: Mapping[str, Any], compared: Comparison) -> Table:
    """A row per printed epoch; behind each printed figure that of each run at the validation nearest to that epoch."""
    chosen = [name for name in wanted.runs or compared.names if name in compared.names]
    columns = [Column("epoch", "epoch")]
    cells: list[list[Cell]] = [[_cell(row["epoch"])] for row in source["rows"]]
    for figure, names in wanted.figures.items():
        columns.append(Column(f"printed {figure}", f"{figure}, printed"))
        for line, row in zip(cells, source["rows"], strict=True):
            line.append(_cell(row["scores"].get(figure)))
        for run in chosen:
            record = compared.records[compared.names.index(run)]
            found = next((curve for name in names for curve in _validated(record, name)), None)
            named, points = found or (names[0], [])
            columns.append(Column(f"{run} {figure}", f"{named} of {run}"))
            for line, row in zip(cells, source["rows"], strict=True):
                value = _at(points, row["epoch"], record.data.get("count"))
                line.append(Cell() if value is None else Cell(f"{value:.3g}", value))
    return Table(f"Beside {source['short']}", tuple(columns), tuple(map(tuple, cells)), _notes(source, columns))


def _at(points: Sequence[tuple[float, float]], epoch: float, count: object) -> float | None:
    """The value nearest to an epoch of `count` images; None where none is within half an epoch of it."""
    if not isinstance(count, int) or not count:
        return None
    near = [(abs(images / count - epoch), value) for images, value in points]
    distance, value = min(near, default=(1.0, 0.0))
    return value if distance <= 0.5 else None


def _cell(value: object) -> Cell:
    return Cell() if value is None else Cell(str(value), value)
