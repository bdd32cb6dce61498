"""Runs side by side: their quality, scores of one protocol in a column of their own, and what they cost.

Two scores share a column only when everything about how they were measured agrees. How a run draws (its sampler,
steps and seeds) is what is measured, so a run scored in two ways has two rows. Published numbers stand in rows of their
own and are never ranked with measured ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from animegen_cli import console, disk
from animegen_cli.compare import cautions, papers
from animegen_cli.errors import AnimegenError, DataError, UsageError, did_you_mean
from animegen_cli.metrics import significance
from animegen_cli.metrics.protocol import AROUND_ZERO
from animegen_cli.paths import Run, make_folder
from animegen_cli.report import grids, means, plots, published, records, tables
from animegen_cli.report import same_seeds as seeds
from animegen_cli.report.columns import (
    Comparison,
    columns_of,
    entries_of,
    identity,
    protocol_notes,
    training_names,
    trainings_of,
)
from animegen_cli.report.page import comparison_page
from animegen_cli.report.pictures import Drawn
from animegen_cli.report.tables import DASH, Cell, Column, Table, measured
from animegen_cli.report.units import amount, duration, memory
from animegen_cli.seeds import spell_seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from animegen_cli.compare.papers import Paper
    from animegen_cli.report.columns import Entry, ScoreColumn
    from animegen_cli.report.numbering import Numbering
    from animegen_cli.report.page import StudyPlan
    from animegen_cli.report.preferences import Preference
    from animegen_cli.report.records import Record, Score

MOST_SEEDS = 64


def compare(
    runs: Sequence[Run] | Mapping[str, Sequence[Run]], *, sort: str | None = None, join: bool = True
) -> Comparison:
    """Read the runs and lay them side by side.

    Args:
        runs: the run folders; one that is named twice counts once. Under names: the trainings of each run, which differ by
            their seed alone.
        sort: key of the column to sort by, best first; by default the runs stay in the order given.
        join: make one run, with the means of the scores, of those that are equal but for their training seed. (What stands
            under one name always is one.)

    Raises:
        DataError: no runs, or one without a readable run.json.
        UsageError: no such column.
    """
    compared = _read(runs, join=join)
    score_columns = tuple(column for column in columns_of(compared) if not column.of_few_levels)
    if sort is not None:
        compared = _sorted(compared, score_columns, sort)
    names = _names(compared)
    entries = [entry for place, record in enumerate(compared) for entry in entries_of(place, record)]
    return Comparison(
        records=tuple(compared),
        names=names,
        score_columns=score_columns,
        entries=tuple(entries),
        quality=_quality(compared, names, score_columns, entries),
        cost=_cost(compared, names),
        todo={
            name: cautions.to_score(record)
            for name, record in zip(training_names(compared, names), trainings_of(compared), strict=True)
            if not record.scores and not record.classifies
        },
        warnings=tuple(cautions.warnings(compared, names)),
        seeds=means.table(compared, names, score_columns),
    )


def _read(runs: Sequence[Run] | Mapping[str, Sequence[Run]], *, join: bool) -> list[Record]:
    """The records of the runs, those that differ by their seed alone joined."""
    named = runs if isinstance(runs, Mapping) else {"": runs}
    found = {
        name: [records.read(run) for run in {run.path.resolve(): run for run in folders}.values()]
        for name, folders in named.items()
    }
    if not any(found.values()):
        raise DataError("there are no runs to compare", hint='train one with `animegen train --budget "30 min"`')
    if not isinstance(runs, Mapping):
        return means.by_seed(found[""]) if join else found[""]
    several = {name: trainings for name, trainings in found.items() if trainings}
    return [
        means.joined(name, trainings) if len(trainings) > 1 else replace(trainings[0], called=name)
        for name, trainings in several.items()
    ]


# ---- tables ---------------------------------------------------------------------------------------------------


def _quality(
    compared: Sequence[Record], names: Sequence[str], score_columns: Sequence[ScoreColumn], entries: Sequence[Entry]
) -> Table:
    columns = (
        Column("run", "run", right=False),
        Column("drawn", "drawn with", right=False),
        Column("images", "images seen"),
        *(Column(m.key, m.name, better=m.better, detail=m.detail) for m in score_columns),
    )
    if several := [record for record in compared if record.trainings]:
        columns = (*columns[:2], Column("seeds", "training seeds", right=False), *columns[2:])
    marked = [_marked([entry.scores.get(m.identity) for entry in entries], m) for m in score_columns]
    rows = [
        (
            Cell(names[entry.run], names[entry.run]),
            Cell(entry.drawn, entry.drawn) if entry.drawn else Cell(),
            *([_seeds_of(compared[entry.run])] if several else []),
            _images(compared[entry.run]),
            *(cells[i] for cells in marked),
        )
        for i, entry in enumerate(entries)
    ]
    notes = protocol_notes(score_columns)
    if several:
        notes.insert(0, means.NOTE)
    if any(cell.tied for cells in marked for cell in cells):
        notes.insert(0, f"{significance.NOTE}.")
    if kids := [m.label for m in score_columns if m.protocol.get("metric") in ("kid", "kid75")]:
        notes.append(f"{', '.join(kids)}: x1; papers often print the kernel distance x1000.")
    if unbiased := [m.label for m in score_columns if m.protocol.get("metric") in AROUND_ZERO]:
        notes.append(
            f"{', '.join(unbiased)}: without bias, so sets that are alike score around 0, on either side of it."
        )
    return Table("Quality", columns, tuple(rows), tuple(notes))


def _seeds_of(record: Record) -> Cell:
    seeds = [training.seed for training in record.trainings or (record,) if training.seed is not None]
    return Cell(spell_seeds(seeds), seeds) if seeds else Cell()


def _marked(scores: Sequence[Score | None], column: ScoreColumn) -> list[Cell]:
    """A column of cells: the best value is marked, and those that differ from it no more than by chance."""
    present = [score for score in scores if score is not None]
    best = None
    if column.better and len({score.value for score in present}) > 1:  # of equal values none is the best
        best = (min if column.better == "lower" else max)(score.value for score in present)
    tested = [significance.Measured(score.value, score.std, score.freedom) for score in present]
    place = next((i for i, one in enumerate(tested) if one.value == best), None)
    tied = iter([False] * len(tested) if place is None else significance.like_best(tested, place))

    def cell(score: Score) -> Cell:
        is_tied, is_best = next(tied), score.value == best
        is_tied = is_tied and not is_best
        return Cell(score.text, score.value, is_best, is_tied, std=score.std, interval=score.interval)

    return [Cell() if score is None else cell(score) for score in scores]


def _cost(compared: Sequence[Record], names: Sequence[str]) -> Table:
    columns = (
        Column("run", "run", right=False),
        Column("settings", "settings", right=False),
        Column("data", "data", right=False),
        Column("state", "state", right=False),
        Column("parameters", "parameters"),
        Column("images", "images seen"),
        Column("seconds", "training time"),
        Column("processor_seconds", "processor time"),
        Column("images_per_second", "images/s"),
        Column("peak_memory", "peak memory"),
        Column("seconds_per_100", "100 faces"),
        Column("drawing_memory", "memory to draw"),
        Column("device", "device", right=False),
    )
    rows = []
    for name, record in zip(names, compared, strict=True):
        get = record.about.get
        settings = "/".join(str(part) for part in (get("family"), get("preset")) if part)
        data = f"{record.data.get('name', '?')}, {record.data.get('size', '?')} px" if record.data else DASH
        rows.append(
            (
                Cell(name, name),
                Cell(settings or DASH, settings or None),
                Cell(data, None if data == DASH else data),
                Cell(record.state, record.state),
                measured(record.parameters, amount),
                _images(record),
                measured(get("seconds"), duration),
                measured(record.processor_seconds, duration),
                measured(get("images_per_second"), amount),
                measured(get("peak_memory"), memory),
                measured(record.drawing.get("seconds_per_100"), duration),
                measured(record.drawing.get("peak_memory"), memory),
                Cell(str(get("device") or DASH), get("device")),
            )
        )
    notes = [f"{name}: {key} {text}." for name, r in zip(names, compared, strict=True) for key, text in r.notes.items()]
    if any(record.trainings for record in compared):
        notes.insert(0, "Of several training seeds: time and speed of training are means.")
    return Table("Settings and cost", columns, tuple(rows), tuple(notes))


def _images(record: Record) -> Cell:
    return Cell(amount(record.images), record.images)


# ---- order, names, commands -----------------------------------------------------------------------------------


_SORTABLE: dict[str, Callable[[Record], Any]] = {
    "run": lambda r: r.name,
    "images": lambda r: r.images,
    "parameters": lambda r: r.parameters,
    "seconds": lambda r: r.about.get("seconds"),
    "processor_seconds": lambda r: r.processor_seconds,
    "images_per_second": lambda r: r.about.get("images_per_second"),
    "peak_memory": lambda r: r.about.get("peak_memory"),
    "seconds_per_100": lambda r: r.drawing.get("seconds_per_100"),
}
"""What runs can be sorted by besides their scores: the value of a run, None where it is not known."""


def _sorted(compared: list[Record], score_columns: Sequence[ScoreColumn], sort: str) -> list[Record]:
    """The runs by a column, best first; those without a value keep their order at the end."""
    column = next((c for c in score_columns if c.key == sort), None)
    if column is not None:
        largest_first = column.better == "higher"
        of_run = [[s.value for s in record.scores if identity(s) == column.identity] for record in compared]
        values = [(max if largest_first else min)(scores) if scores else None for scores in of_run]
    elif sort in _SORTABLE:
        largest_first = sort == "images_per_second"
        values = [_SORTABLE[sort](record) for record in compared]
    else:
        keys = [*_SORTABLE, *(c.key for c in score_columns)]
        raise UsageError(f"there is no column `{sort}` to sort by", hint=did_you_mean(sort, keys))
    known = [(value, place) for place, value in enumerate(values) if value is not None]
    known.sort(key=lambda pair: pair[0], reverse=largest_first)
    unknown = [record for record, value in zip(compared, values, strict=True) if value is None]
    return [*(compared[place] for _, place in known), *unknown]


def _names(compared: Sequence[Record]) -> tuple[str, ...]:
    """Folder names, with the path in front where two are equal."""
    names = [record.name for record in compared]
    return tuple(str(r.run.path) if names.count(r.name) > 1 else r.name for r in compared)


# ---- pictures and files ---------------------------------------------------------------------------------------


def drawing(device: str | None) -> seeds.Draw:
    """Give a function that draws from a run on this device. Networks (and torch) are loaded once it is called."""

    def draw(run: Run, numbers: Sequence[int]) -> np.ndarray:
        from animegen_cli.device import pick_device
        from animegen_cli.model.pixels import channels_last
        from animegen_cli.sample import generate

        console.note(f"drawing {len(numbers)} images from {run.name}")
        return channels_last(generate.images(run, numbers, device=pick_device(device)))

    return draw


def same_seeds(comparison: Comparison, numbers: Sequence[int], draw: seeds.Draw) -> Drawn:
    """Give what each training draws from the same seeds, or why it draws nothing; `draw` is asked only for what is not stored.

    Raises:
        UsageError: no seeds, one twice, or more than a picture can show.
    """
    if not 0 < len(numbers) == len(set(numbers)) <= MOST_SEEDS:
        raise UsageError(f"a picture shows 1 to {MOST_SEEDS} different seeds", hint="write them as `--seeds 0-9`")
    rows: list[np.ndarray | str] = []
    for record in comparison.trainings:
        if not record.run.weights.is_file():
            rows.append("it has no weights yet")
        elif "samples" not in (record.about.get("abilities") or ()):
            rows.append("its family draws nothing from a seed")
        else:
            try:
                rows.append(seeds.images(record, numbers, draw))
            except AnimegenError as error:
                rows.append(f"not drawn: {error.message}")
    return Drawn(tuple(numbers), tuple(rows))


def write(
    comparison: Comparison,
    out: Path,
    *,
    drawn: Drawn | None = None,
    study: StudyPlan | None = None,
    preferences: Sequence[Preference] = (),
    reals: bool = True,
    figures: bool = False,
    paper: Paper | None = None,
) -> dict[str, Path]:
    """Write the page, the tables and the picture into the folder `out`; name of each -> its path.

    `table.*` hold the measured and the published tables at once, `tables/` each table of the page by itself.

    Args:
        comparison: the runs and their scores.
        out: made where it is missing.
        drawn: the same-seeds picture, from `same_seeds`; None leaves it out.
        study: what the runs were made for.
        preferences: what the votes of a survey say, question by question.
        reals: also show the real images that the runs learned from.
        figures: also write each plot of the page as SVG, PNG and PDF and each picture as PNG into `figures/`.
        paper: which columns and published numbers `table.*` hold.

    Raises:
        DataError: `out` is a file.
        UsageError: `paper` names a column or a table that is not there.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, not a folder", hint="choose another with `--out`")
    if paper is not None:
        papers.tables_of(comparison, paper)  # complain before anything is written
    make_folder(out)
    page = comparison_page(comparison, drawn=drawn, study=study, preferences=preferences, reals=reals)
    texts = {
        "page": ("index.html", page.html),
        "markdown": ("table.md", papers.as_text(comparison, "markdown", paper)),
        "latex": ("table.tex", papers.as_text(comparison, "latex", paper)),
        "csv": ("table.csv", papers.as_text(comparison, "csv", paper)),
        "json": ("table.json", json.dumps(as_json(comparison), indent=1, default=str) + "\n"),
    }
    written = {}
    for name, (file, text) in texts.items():
        written[name] = out / file
        disk.write_text(written[name], text)
    written["tables"] = _write_tables(page.numbering, out / "tables")
    if drawn is not None and any(not isinstance(row, str) for row in drawn.rows):
        pictures = [None if isinstance(row, str) else row for row in drawn.rows]
        captions = [str(number) for number in drawn.seeds]
        image = grids.rows(list(zip(comparison.training_names, pictures, strict=True)), captions)
        written["picture"] = grids.save(image, out / "same-seeds.png")
    if figures:
        written["figures"] = _write_figures(page.numbering, out / "figures")
    return written


def _write_tables(numbering: Numbering, folder: Path) -> Path:
    """Each table of the page in every form, under its own name."""
    make_folder(folder)
    for name, table in numbering.tables.items():
        texts = {
            "md": tables.markdown(table), "tex": tables.latex(table), "csv": tables.as_csv(table),
            "json": json.dumps(tables.as_json(table), indent=1, default=str) + "\n",
        }  # fmt: skip
        for form, text in texts.items():
            disk.write_text(folder / f"{name}.{form}", text)
    return folder


def _write_figures(numbering: Numbering, folder: Path) -> Path:
    """Each plot of the page as SVG, PNG and PDF, each picture as PNG, under its own name."""
    make_folder(folder)
    for name, plot in numbering.plots.items():
        disk.write_text(folder / f"{name}.svg", plots.svg(plot))
        disk.write_bytes(folder / f"{name}.png", plots.png(plot))
        disk.write_bytes(folder / f"{name}.pdf", plots.pdf(plot))
    for name, path in numbering.pictures.items():
        with Image.open(path) as picture:
            grids.save(picture.convert("RGB"), folder / f"{name}.png")
    return folder


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Give the tables with plain values, the columns' protocols, the commands that are left to type, and the warnings."""
    return {
        "quality": tables.as_json(comparison.quality),
        "cost": tables.as_json(comparison.cost),
        **(
            {} if comparison.seeds is None else {"seeds": tables.as_json(comparison.seeds), "means": _means(comparison)}
        ),
        "published": tables.as_json(published.results()),
        "measures": {column.key: dict(column.protocol) for column in comparison.score_columns},
        "to_score": dict(comparison.todo),
        "warnings": list(comparison.warnings),
    }


def _means(comparison: Comparison) -> list[dict[str, Any]]:
    """Each mean over trainings, with its error, its interval and what it is the mean of."""
    keys = {column.identity: column.key for column in comparison.score_columns}
    return [
        {
            "run": comparison.names[entry.run], "drawn": entry.drawn, "score": keys[of], "mean": score.value, "std": score.std,
            "interval": score.interval, "freedom": score.freedom, "trainings": list(score.trainings),
        }
        for entry in comparison.entries
        for of, score in entry.scores.items()
        if score.trainings and of in keys
    ]  # fmt: skip
