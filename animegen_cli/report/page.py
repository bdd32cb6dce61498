"""One HTML file that holds everything: the choice, faces, tables, plots, settings, commands. No network, no scripts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from animegen_cli import disk
from animegen_cli.report import boards, conclusion, figures, html, means, pictures, published, records, tables
from animegen_cli.report.columns import Comparison, ScoreColumn, columns_of, identity, protocol_notes
from animegen_cli.report.figures import ScorePair
from animegen_cli.report.numbering import (
    Commands,
    Folded,
    Numbering,
    Part,
    Section,
    TablePart,
    Words,
    doubts,
    folded,
    section,
)
from animegen_cli.report.preferences import Preference, intervals
from animegen_cli.report.settings import commands, settings
from animegen_cli.report.tables import Cell, Column, Table
from animegen_cli.report.units import amount, duration, memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from animegen_cli.paths import Run
    from animegen_cli.report.records import Record

_QUALITY = "↓ lower is better, ↑ higher is better; the best of each column is bold. A column holds one protocol."


_MOST_COLUMNS = 7
"""Scores of a table that fit the page beside names and samplers."""


class Made(NamedTuple):
    """A page, and the tables, plots and pictures on it."""

    html: str
    numbering: Numbering


class StudyPlan(NamedTuple):
    """What the runs of a page were made for: the title and lead of the page, the table of what was to be trained, what
    a document prints beside what was measured, the scores to plot against each other, and what to type to run it again."""

    title: str
    about: str
    table: Table
    printed: Sequence[Table] = ()
    pairs: Sequence[ScorePair] = ()
    command: str | None = None


# ---- several runs -----------------------------------------------------------------------------------------------


def comparison_page(
    compared: Comparison,
    *,
    drawn: pictures.Drawn | None = None,
    study: StudyPlan | None = None,
    preferences: Sequence[Preference] = (),
    reals: bool = True,
) -> Made:
    """Write the page of `animegen compare`.

    Args:
        compared: the runs and their scores.
        drawn: the same-seeds picture; None leaves the faces out of the first screen.
        study: what the runs were made for.
        preferences: what the votes of a survey say, question by question.
        reals: also show the real images that the runs learned from; leave them out of pages that are published.
    """
    numbering = Numbering()
    runs, names, trainings = compared.records, compared.names, compared.trainings
    flaws = boards.flaws_of(compared, drawn)
    printed = study.printed if study else ()
    parts = [
        section(
            "Before you trust it", doubts("What speaks against trusting this:", conclusion.doubts(compared, flaws))
        ),
        section("Quality and cost", figures.trade_offs(compared, numbering), *map(Words, conclusion.details(compared))),
        section("People as judges", *(p for preference in preferences for p in _preference(preference, numbering))),
        section("Attributes", figures.histograms(runs, names, numbering), *_requests(runs, names, numbering)),
        section("Scores against each other", *figures.pairs(compared, study.pairs if study else (), numbering)),
        section("Denoising", figures.denoising(runs, names, numbering)),
        section("Training", *figures.curves(runs, names, numbering)),
        section("Levels", figures.levels(runs, names, numbering)),
        section("Scores", *_scores_of_all(compared, numbering)),
        section("Cost", numbering.table("cost", compared.cost, "Settings and what each run cost.", slim=True)),
        section("Beside the document", *_printed(printed, numbering)),
        section("Plan", _plan(study, numbering)),
        section("Pictures", *_pictures(compared, drawn, numbering, reals=reals)),
        section("Settings", *settings(runs, names, numbering)),
        section("How to reproduce", *commands(trainings, compared.training_names, study.command if study else None)),
    ]
    title = f"Comparison of {len(runs)} runs" if len(runs) > 1 else f"One run: {names[0]}"
    return _made(
        numbering, parts, title=(study.title if study else "") or title, verdict=conclusion.sentence(compared, flaws),
        about=study.about if study else "", facts=boards.facts(compared), board=boards.board(compared, drawn, flaws),
    )  # fmt: skip


def _plan(study: StudyPlan | None, numbering: Numbering) -> Part | None:
    if study is None:
        return None
    text = "What the study set out to train"
    return Folded(text, [numbering.table("plan", study.table, f"{text}.", wrap=True)])


def _made(numbering: Numbering, parts: Sequence[Section | None], **head: object) -> Made:
    sections = [part for part in parts if part is not None]
    return Made(html.render("page.html", sections=sections, style=html.file("page.css"), **head), numbering)


def _printed(printed: Sequence[Table], numbering: Numbering) -> Iterator[Part]:
    for number, table in enumerate(printed, 1):
        yield numbering.table(f"printed-{number}", table, f"{table.title}: as printed, and what was measured here.")


def _scores_of_all(compared: Comparison, numbering: Numbering) -> Iterator[Part | None]:
    best = conclusion.table(compared)
    if best is not None:
        text = "The best run by each main score, its uncertainty, its rivals and its cost."
        yield numbering.table("verdict", best, text, slim=True)
    yield from _quality(compared, numbering)
    yield _seeds(compared, numbering)
    if compared.todo:
        yield Commands("Not scored yet", list(compared.todo.values()))
    results, validation = published.results(), published.validation()
    text = f"{published.TITLE}. For orientation only: none of these numbers may be read against the tables above."
    curve = TablePart(0, validation, "Validation as training went.")
    yield Folded("Published numbers, not ranked", [numbering.table("published", results, text), curve])


def _quality(compared: Comparison, numbering: Numbering) -> Iterator[Part]:
    """The scores in a table per subject, so that each fits a page; rows without any of its scores are in none but the
    first."""
    subjects = list(dict.fromkeys(column.group for column in compared.score_columns)) or ["Quality"]
    for subject in subjects:
        score_columns = [column for column in compared.score_columns if column.group == subject]
        name, text = ("quality", "Quality") if len(subjects) == 1 else (f"quality-{subject}", subject)
        for start in range(0, max(len(score_columns), 1), _MOST_COLUMNS):
            first = subject == subjects[0] and not start
            table = _quality_table(compared, text, score_columns[start : start + _MOST_COLUMNS], whole=first)
            more = " Further columns." if start else ""
            part = numbering.table(name, table, f"{text}.{more} {_QUALITY}", slim=True)
            yield Folded(f"{text}: further columns", [part]) if start else part


def _quality_table(compared: Comparison, title: str, score_columns: Sequence[ScoreColumn], *, whole: bool) -> Table:
    """Some of the scores; where it is not `whole`, without the rows that have none of them and what they were drawn with."""
    table, keys = compared.quality, {column.key for column in score_columns}
    own = [i for i, column in enumerate(table.columns) if column.key in keys]
    own += [i for i, column in enumerate(table.columns) if whole and column.key == "drawn"]
    rows = [
        (replace(row[0], text=label), *(row[i] for i in own))
        for row, label in zip(table.rows, compared.labels, strict=True)
        if whole or any(row[i].value is not None for i in own)
    ]
    tied = any(cell.tied for row in rows for cell in row)
    notes = [*_own_notes(compared, score_columns, tied=tied), *protocol_notes(score_columns)]
    return Table(title, tuple(table.columns[i] for i in (0, *own)), tuple(rows), tuple(notes))


def _seeds(compared: Comparison, numbering: Numbering) -> Part | None:
    """The trainings of runs that have several, one by one, with the main scores; folded."""
    table = compared.seeds
    if table is None:
        return None
    keys = {column.key for column in compared.main()} or {column.key for column in compared.score_columns}
    kept = [i for i, column in enumerate(table.columns) if i < 4 or column.key in keys]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    narrow = Table(table.title, tuple(table.columns[i] for i in kept), rows, table.notes)
    text = "The trainings of each run, one by one, below their mean with its 95 % interval."
    return folded(table.title, numbering.table("seeds", narrow, text, slim=True))


def _pictures(
    compared: Comparison, drawn: pictures.Drawn | None, numbering: Numbering, *, reals: bool
) -> Iterator[Part | None]:
    """Strips of all trainings where there are more than the first screen shows, grids, neighbors; all folded."""
    several = len(compared.trainings) > len(compared.records)
    if drawn is not None and (several or len(drawn.seeds) > boards.MOST_FACES):
        yield folded(
            "The same seeds from every training", pictures.same_seeds(drawn, compared.training_names, numbering)
        )
    grids = pictures.samples(compared.records, compared.names, numbering, reals=reals)
    yield folded("Grids of samples", *grids)
    if reals:
        sheets = pictures.sheets(compared.records, compared.names, numbering)
        yield folded("Nearest neighbors in the training set", *sheets)


def _own_notes(compared: Comparison, score_columns: Sequence[ScoreColumn], *, tied: bool) -> Iterator[str]:
    """The notes of the quality table, beside those on protocols, that are about these columns."""
    of_protocols = protocol_notes(compared.score_columns)
    for note in compared.quality.notes:
        named = note.partition(": ")[0]
        about = (
            tied
            if note.startswith("≈")
            else note == means.NOTE or any(column.label in named for column in score_columns)
        )
        if about and note not in of_protocols:
            yield note


def _preference(preference: Preference, numbering: Numbering) -> Iterator[Part | None]:
    name, title = f"people-{preference.question}", preference.table.title
    yield numbering.figure([numbering.plot(name, intervals(preference))], f"{title}: Elo with 95 % intervals.")
    yield numbering.table(name, preference.table, f"{title}, best first. ↑ higher is better.")


def _requests(runs: Sequence[Record], names: Sequence[str], numbering: Numbering) -> Iterator[Part]:
    """Tables of what conditional models were asked for against what a network recognized, a column per run."""
    answers: dict[str, dict[tuple[str, str], dict[int, Cell]]] = {}
    for place, record in enumerate(runs):
        for r in record.findings.requests:
            cell = Cell(f"{r.recognized} of {r.asked} ({r.recognized / r.asked:.0%})", r.recognized / r.asked)
            answers.setdefault(r.by, {}).setdefault((r.attribute, r.value), {})[place] = cell
    for by, rows in answers.items():
        places = sorted({place for cells in rows.values() for place in cells})
        columns = (
            Column("attribute", "attribute", right=False),
            Column("value", "asked for", right=False),
            *(Column(names[place], names[place]) for place in places),
        )
        cells = [
            (Cell(attribute, attribute), Cell(value, value), *(of_runs.get(place, Cell()) for place in places))
            for (attribute, value), of_runs in rows.items()
        ]
        table = Table(f"Requests recognized by {by}", columns, tuple(cells))
        yield numbering.table(f"requests-{by}", table, f"How often what was asked for is what {by} recognizes.")


# ---- one run ----------------------------------------------------------------------------------------------------


def run_page(run: Run, *, reals: bool = True) -> str:
    """Write the page of one run, `report.html`.

    Raises:
        DataError: the folder holds no readable run.json.
    """
    record, numbering = records.read(run), Numbering()
    runs, names = [record], [record.name]
    known = [*record.problems, *record.diagnoses, *filter(None, [record.config.get("warning")])]
    parts = [
        section("Before you trust it", doubts("What speaks against trusting this run:", map(str, known))),
        section("Samples", *pictures.newest(record, numbering)),
        section("Scores", _scores(record, numbering)),
        section("Training", *figures.curves(runs, names, numbering), figures.levels(runs, names, numbering)),
        section("Validation", folded("Held-out figures as training went", _validation(record, numbering))),
        section("Attributes", figures.histograms(runs, names, numbering), *_requests(runs, names, numbering)),
        section("Denoising", figures.denoising(runs, names, numbering)),
        section(
            "More pictures",
            *pictures.course(record, numbering),
            *(pictures.sheets(runs, names, numbering) if reals else ()),
        ),
        section("Facts", numbering.table("run", _facts(record), "The run.", wrap=True)),
        section("Settings", *settings(runs, names, numbering)),
        section("How to reproduce", *commands(runs, names)),
    ]
    main = next((score for score in record.scores if score.better), None)
    about = record.about.get
    facts = [
        f"{record.data.get('name', '?')}, {record.data.get('size', '?')} px",
        _measured(about("seconds"), lambda seconds: f"{duration(seconds)} of training"),
        _measured(record.parameters, lambda count: f"{amount(count)} parameters"),
    ]
    ways = f"{about('family', 'A run')}, {record.state}"
    wrong = f" The doctor found {', '.join(record.finding_names)}." if record.finding_names else ""
    verdict = (
        f"{ways}: {f'{main.name} {main.text}' if main else 'not scored'} after {amount(record.images)} images.{wrong}"
    )
    head = {"title": record.name, "verdict": verdict, "board": None, "about": record.config.get("about") or ""}
    return _made(numbering, parts, facts=[fact for fact in facts if fact], **head).html


def write(run: Run) -> Path:
    """Write the run's page into its folder: after training, and again after scoring."""
    path = run.path / "report.html"
    disk.write_text(path, run_page(run))
    return path


def _facts(record: Record) -> Table:
    about = record.about.get
    data = f"{record.data.get('name', '?')}: {record.data.get('count', '?')} images, {record.data.get('size', '?')} px"
    facts: dict[str, object] = {
        "family": about("family"),
        "preset": about("preset"),
        "about": record.config.get("about"),
        "data": data if record.data else None,
        "state": record.state,
        "images seen": amount(record.images),
        "parameters": amount(record.parameters) if record.parameters else None,
        "training time": _measured(about("seconds"), duration),
        "processor time": _measured(record.processor_seconds, duration),
        "images/s": _measured(about("images_per_second"), amount),
        "peak memory": _measured(about("peak_memory"), memory),
        "100 faces": _measured(record.drawing.get("seconds_per_100"), duration),
        "device": about("device"),
        **record.notes,
    }
    return tables.text_table("The run", ("fact", "value"), [(k, v) for k, v in facts.items() if v])


def _measured(value: object, written: Callable[[float], str]) -> str | None:
    cell = tables.measured(value, written)
    return None if cell.value is None else cell.text


def _scores(record: Record, numbering: Numbering) -> Part | None:
    """Every score with its protocol, or the command that makes some."""
    if not record.scores:
        command = shlex.join(["animegen", "eval", str(record.run.path)])
        return None if record.classifies else Commands("Not scored yet", [command])
    columns = [
        Column("score", "score", right=False), Column("value", "value"), Column("images", "images seen"),
        Column("values", "each range of seeds", right=False),
    ]  # fmt: skip
    rows = [
        (
            Cell(score.name + tables.ARROWS[score.better], score.name),
            Cell(score.text, score.value),
            Cell(amount(score.images), score.images),
            Cell(", ".join(f"{value:.4g}" for value in score.values) or tables.DASH, list(score.values)),
        )
        for score in record.scores
    ]
    protocol_texts = {column.identity: column.protocol_text for column in columns_of([record])}
    measured_as: dict[str, list[str]] = {}
    for score in record.scores:
        sampling, seeds = score.protocol.get("sampling"), score.protocol.get("seeds")
        drawn_with = ", ".join(filter(None, [sampling, f"seeds {seeds}" if seeds else None]))
        text = protocol_texts[identity(score)] + (f"; drawn with {drawn_with}" if drawn_with else "")
        measured_as.setdefault(text, []).append(score.name)
    notes = (f"{', '.join(names)}: {text}." for text, names in measured_as.items())
    table = Table("Scores", tuple(columns), tuple(rows), tuple(notes))
    return numbering.table("scores", table, "Scores, each with its protocol.", slim=True)


def _validation(record: Record, numbering: Numbering) -> Part | None:
    """Held-out figures as training went, a row per validation (document 001, table II); None without any."""
    curves = {
        key.removeprefix("validation/"): dict(points)
        for key, points in record.curves.items()
        if key.startswith("validation/")
    }
    if not curves:
        return None
    epoch = record.data.get("count") or 0
    rows = [
        (
            f"{images / epoch:.2f}" if epoch else tables.DASH,
            amount(images),
            *(f"{points[images]:.4g}" if images in points else tables.DASH for points in curves.values()),
        )
        for images in sorted({images for points in curves.values() for images in points})
    ]
    table = tables.text_table("Validation", ("epoch", "images seen", *curves), rows)
    return numbering.table("validation", table, "Held-out images as training went.")
