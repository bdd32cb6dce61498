"""Runs side by side: their quality, each measure in a column of its own, and what they cost.

Two scores share a column only when everything about how they were measured agrees. How a run draws (its sampler,
steps and seeds) is what is measured, so a run scored in two ways has two rows. Published numbers stand in rows of their
own and are never ranked with measured ones.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from animegen_cli.errors import AnimegenError, DataError, UsageError, did_you_mean
from animegen_cli.metrics import significance
from animegen_cli.metrics.protocol import ENOUGH
from animegen_cli.paths import Run, make_folder
from animegen_cli.report import canvas, grids, published, records, tables
from animegen_cli.report import same_seeds as seeds
from animegen_cli.report.columns import Comparison, Entry, Measure, entries_of, identity, measures_of, protocol_notes
from animegen_cli.report.page import comparison_page
from animegen_cli.report.pictures import Drawn
from animegen_cli.report.tables import DASH, Cell, Column, Table
from animegen_cli.report.units import amount, duration, memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from animegen_cli.report.figures import Pair
    from animegen_cli.report.numbering import Numbering
    from animegen_cli.report.preferences import Opinion
    from animegen_cli.report.records import Record, Score

MOST_SEEDS = 64


def compare(runs: Sequence[Run], *, sort: str | None = None) -> Comparison:
    """Read the runs and lay them side by side, in the order given or, with `sort`, by a column, best first.

    Raises:
        DataError: no runs, or one without a readable run.json.
        UsageError: no such column.
    """
    if not runs:
        raise DataError("there are no runs to compare", hint="train one with `animegen train ddim --preset smoke`")
    found = [records.read(run) for run in {run.path.resolve(): run for run in runs}.values()]
    measures = measures_of(found)
    if sort is not None:
        found = _sorted(found, measures, sort)
    names = _names(found)
    entries = [entry for i, record in enumerate(found) for entry in entries_of(i, record)]
    return Comparison(
        records=tuple(found),
        names=names,
        measures=measures,
        entries=tuple(entries),
        quality=_quality(found, names, measures, entries),
        cost=_cost(found, names),
        todo={
            name: _to_score(record)
            for name, record in zip(names, found, strict=True)
            if not record.scores and not record.judges
        },
        warnings=tuple(_warnings(found, names)),
    )


# ---- tables ---------------------------------------------------------------------------------------------------


def _quality(
    found: Sequence[Record], names: Sequence[str], measures: Sequence[Measure], entries: Sequence[Entry]
) -> Table:
    columns = (
        Column("run", "run", right=False),
        Column("drawn", "drawn with", right=False),
        Column("images", "images seen"),
        *(Column(m.key, m.name, better=m.better, detail=m.detail) for m in measures),
    )
    marked = [_marked([entry.scores.get(m.identity) for entry in entries], m) for m in measures]
    rows = [
        (
            Cell(names[entry.run], names[entry.run]),
            Cell(entry.drawn, entry.drawn) if entry.drawn else Cell(),
            _images(found[entry.run]),
            *(cells[i] for cells in marked),
        )
        for i, entry in enumerate(entries)
    ]
    notes = protocol_notes(measures)
    if any(cell.tied for cells in marked for cell in cells):
        notes.insert(0, f"{significance.NOTE}.")
    if kids := [m.label for m in measures if m.protocol.get("metric") in ("kid", "kid75")]:
        notes.append(f"{', '.join(kids)}: x1; papers often print the kernel distance x1000.")
    return Table("Quality", columns, tuple(rows), tuple(notes))


def _marked(scores: Sequence[Score | None], measure: Measure) -> list[Cell]:
    """A column of cells: the best value is marked, and those that differ from it no more than by chance."""
    present = [score for score in scores if score is not None]
    best = None
    if measure.better and len(present) > 1:
        best = (min if measure.better == "lower" else max)(score.value for score in present)
    tested = [(score.value, score.std) for score in present]
    place = next((i for i, (value, _) in enumerate(tested) if value == best), None)
    alike = iter([False] * len(tested) if place is None else significance.like_best(tested, place))
    cells = []
    for score in scores:
        if score is None:
            cells.append(Cell())
            continue
        top, tied = score.value == best, next(alike)
        cells.append(Cell(score.text, score.value, best=top, tied=tied and not top))
    return cells


def _cost(found: Sequence[Record], names: Sequence[str]) -> Table:
    columns = (
        Column("run", "run", right=False),
        Column("settings", "settings", right=False),
        Column("data", "data", right=False),
        Column("state", "state", right=False),
        Column("parameters", "parameters"),
        Column("images", "images seen"),
        Column("seconds", "training time"),
        Column("images_per_second", "images/s"),
        Column("peak_memory", "peak memory"),
        Column("seconds_per_100", "100 faces"),
        Column("drawing_memory", "memory to draw"),
        Column("device", "device", right=False),
    )
    rows = []
    for name, record in zip(names, found, strict=True):
        get = record.about.get
        settings = "/".join(str(part) for part in (get("family"), get("preset")) if part)
        data = f"{record.data.get('name', '?')}, {record.data.get('size', '?')} px" if record.data else DASH
        rows.append(
            (
                Cell(name, name),
                Cell(settings or DASH, settings or None),
                Cell(data, None if data == DASH else data),
                Cell(record.state, record.state),
                _number(record.parameters, amount),
                _images(record),
                _number(get("seconds"), duration),
                _number(get("images_per_second"), amount),
                _number(get("peak_memory"), memory),
                _number(record.drawing.get("seconds_per_100"), duration),
                _number(record.drawing.get("peak_memory"), memory),
                Cell(str(get("device") or DASH), get("device")),
            )
        )
    notes = [f"{name}: {key} {said}." for name, r in zip(names, found, strict=True) for key, said in r.notes.items()]
    return Table("Settings and cost", columns, tuple(rows), tuple(notes))


def _number(value: Any, written: Any) -> Cell:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    return Cell(written(value), value) if known else Cell()


def _images(record: Record) -> Cell:
    return Cell(amount(record.images), record.images)


# ---- order, names, advice -------------------------------------------------------------------------------------


def _sorted(found: list[Record], measures: Sequence[Measure], sort: str) -> list[Record]:
    plain: dict[str, Any] = {
        "run": lambda r: r.name,
        "images": lambda r: r.images,
        "parameters": lambda r: r.parameters,
        "seconds": lambda r: r.about.get("seconds"),
        "images_per_second": lambda r: r.about.get("images_per_second"),
        "peak_memory": lambda r: r.about.get("peak_memory"),
        "seconds_per_100": lambda r: r.drawing.get("seconds_per_100"),
    }
    measure = next((m for m in measures if m.key == sort), None)
    if measure is None and sort not in plain:
        raise UsageError(
            f"there is no column `{sort}` to sort by", hint=did_you_mean(sort, [*plain, *(m.key for m in measures)])
        )
    if measure is None:
        values, down = [plain[sort](record) for record in found], sort == "images_per_second"
    else:
        down = measure.better == "higher"
        of_run = [[s.value for s in record.scores if identity(s) == measure.identity] for record in found]
        values = [(max if down else min)(scores) if scores else None for scores in of_run]
    known = sorted((i for i, v in enumerate(values) if v is not None), key=lambda i: values[i], reverse=down)
    return [found[i] for i in known] + [found[i] for i, v in enumerate(values) if v is None]


def _names(found: Sequence[Record]) -> tuple[str, ...]:
    """Folder names, with the path in front where two are equal."""
    names = [record.name for record in found]
    return tuple(str(r.run.path) if names.count(r.name) > 1 else r.name for r in found)


def _to_score(record: Record) -> str:
    if not record.run.weights.is_file():
        return shlex.join(["animegen", "train", "--resume", str(record.run.path)])
    return shlex.join(["animegen", "eval", str(record.run.path)])


def _warnings(found: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    for name, record in zip(names, found, strict=True):
        yield from record.problems
        yield from (f"{name}: {finding}" for finding in record.findings)
    sets = {(r.data.get("identity"), r.data.get("name")): r.data.get("name") for r in found if r.data}
    if len({identity for identity, _ in sets}) > 1:
        yield f"the runs learned from different data sets ({', '.join(sorted(map(str, sets.values())))})"
    sizes = sorted({size for r in found if isinstance(size := r.data.get("size"), int)})
    if len(sizes) > 1:
        yield f"the runs draw at different sizes ({', '.join(f'{size} px' for size in sizes)})"
    devices = sorted({str(r.about["device"]) for r in found if r.about.get("device")})
    if len(devices) > 1:
        yield f"times and speeds are from different devices ({', '.join(devices)})"
    few = {
        name: count
        for name, record in zip(names, found, strict=True)
        if (count := min((_fewest(s.protocol) for s in record.scores), default=ENOUGH)) < ENOUGH
    }
    if few:
        told = f"{', '.join(few)}: scored with as few as {min(few.values()):,} images on one side"
        yield f"{told}, fewer than {ENOUGH:,}: rough numbers"
    for name, record in zip(names, found, strict=True):
        stale = sorted({score.images for score in record.scores if score.images != record.images})
        if stale:
            seen = ", ".join(amount(images) for images in stale)
            now = amount(record.images)
            yield f"{name} was scored at {seen} images and has seen {now} by now: `{_to_score(record)}`"


def _fewest(protocol: Mapping[str, Any]) -> int:
    """Images on the smaller side of a comparison of features; enough for all other scores."""
    counts = [protocol.get("n_fake"), protocol.get("n_real")]
    known = [count for count in counts if isinstance(count, int) and count]
    return min(known, default=ENOUGH) if protocol.get("extractor") else ENOUGH


# ---- pictures and files ---------------------------------------------------------------------------------------


def same_seeds(comparison: Comparison, numbers: Sequence[int], draw: seeds.Draw) -> Drawn:
    """What each run draws from the same seeds, or why it draws nothing; asks `draw` only for what no run has kept.

    Raises:
        UsageError: no seeds, one twice, or more than a picture can show.
    """
    if not 0 < len(numbers) == len(set(numbers)) <= MOST_SEEDS:
        raise UsageError(f"a picture shows 1 to {MOST_SEEDS} different seeds", hint="write them as `--seeds 0-9`")
    rows: list[np.ndarray | str] = []
    for record in comparison.records:
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
    plots: Sequence[Pair] = (),
    study: Mapping[str, Any] | None = None,
    people: Sequence[Opinion] = (),
    reals: bool = True,
    figures: bool = False,
) -> dict[str, Path]:
    """Write the page, the tables and the picture into the folder `out`; name of each -> its path.

    `table.*` hold the measured and the published tables at once, `tables/` each table of the page by itself.

    Args:
        plots, study, people, reals: see `comparison_page`.
        figures: also write each plot of the page as SVG and PNG and each picture as PNG into `figures/`.

    Raises:
        DataError: `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, not a folder", hint="choose another with `--out`")
    make_folder(out)
    made = comparison_page(comparison, drawn=drawn, plots=plots, study=study, people=people, reals=reals)
    texts = {
        "page": ("index.html", made.html),
        "markdown": ("table.md", as_text(comparison, "markdown")),
        "latex": ("table.tex", as_text(comparison, "latex")),
        "csv": ("table.csv", as_text(comparison, "csv")),
        "json": ("table.json", json.dumps(as_json(comparison), indent=1, default=str) + "\n"),
    }
    written = {}
    for name, (file, text) in texts.items():
        written[name] = out / file
        written[name].write_text(text, encoding="utf-8")
    written["tables"] = _write_tables(made.numbering, out / "tables")
    if drawn is not None and any(not isinstance(row, str) for row in drawn.rows):
        pictures = [None if isinstance(row, str) else row for row in drawn.rows]
        captions = [str(number) for number in drawn.seeds]
        image = grids.rows(list(zip(comparison.names, pictures, strict=True)), captions)
        written["picture"] = grids.save(image, out / "same-seeds.png")
    if figures:
        written["figures"] = _write_figures(made.numbering, out / "figures")
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
            (folder / f"{name}.{form}").write_text(text, encoding="utf-8")
    return folder


def _write_figures(numbering: Numbering, folder: Path) -> Path:
    """Each plot of the page as SVG and PNG, each picture as PNG, under its own name."""
    make_folder(folder)
    for name, plot in numbering.plots.items():
        (folder / f"{name}.svg").write_text(canvas.svg(plot) + "\n", encoding="utf-8")
        grids.save(canvas.pixels(plot), folder / f"{name}.png")
    for name, path in numbering.pictures.items():
        with Image.open(path) as picture:
            grids.save(picture.convert("RGB"), folder / f"{name}.png")
    return folder


def as_text(comparison: Comparison, form: Literal["markdown", "latex", "csv"]) -> str:
    """The measured and the published tables as one text; CSV has them stacked, with the measured ones joined."""
    if form == "csv":
        return tables.as_csv(comparison.joined, published.results())
    write_one = {"markdown": tables.markdown, "latex": tables.latex}[form]
    return "\n".join(write_one(table) for table in (comparison.quality, comparison.cost, published.results()))


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The tables with plain values, the measures' protocols, what is left to score and what was odd."""
    return {
        "quality": tables.as_json(comparison.quality),
        "cost": tables.as_json(comparison.cost),
        "published": tables.as_json(published.results()),
        "measures": {measure.key: dict(measure.protocol) for measure in comparison.measures},
        "to_score": dict(comparison.todo),
        "warnings": list(comparison.warnings),
    }
