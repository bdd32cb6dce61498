"""One HTML file that holds everything: verdict, tables, pictures, curves, settings, commands. No network, no scripts."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from animegen_cli.report import conclusion, figures, pictures, published, records, tables
from animegen_cli.report.columns import Comparison, Measure, identity, measures_of, protocol_notes
from animegen_cli.report.document import document, section, todo, warnings
from animegen_cli.report.markup import Markup, el, join
from animegen_cli.report.numbering import Numbering, table_html
from animegen_cli.report.preferences import Opinion, intervals
from animegen_cli.report.settings import commands, settings
from animegen_cli.report.tables import Cell, Column, Table
from animegen_cli.report.units import amount, duration, memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from animegen_cli.paths import Run
    from animegen_cli.report.figures import Pair
    from animegen_cli.report.records import Record

_QUALITY = "↓ lower is better, ↑ higher is better; the best of each column is bold. A column holds one protocol."


class Made(NamedTuple):
    """A page, and the tables, plots and pictures on it."""

    html: str
    numbering: Numbering


# ---- several runs -----------------------------------------------------------------------------------------------


def comparison_page(
    compared: Comparison,
    *,
    drawn: pictures.Drawn | None = None,
    plots: Sequence[Pair] = (),
    study: Mapping[str, Any] | None = None,
    people: Sequence[Opinion] = (),
    reals: bool = True,
) -> Made:
    """The page of `animegen compare`.

    Args:
        plots: pairs of scores to plot against each other.
        study: what the runs were made for: `title`, `about` and the Table of the plan, `rows`.
        people: what the votes of a survey say, question by question.
        reals: also show the real images that the runs learned from; leave them out of pages that are published.
    """
    numbering, study = Numbering(), study or {}
    found, names = compared.records, compared.names
    title = f"Comparison of {len(found)} runs" if len(found) > 1 else f"One run: {names[0]}"
    parts = [
        section("Verdict", *_verdict(compared, numbering)),
        section("Plan", _plan(study, numbering)),
        section("Quality", *_quality(compared, numbering), todo(compared.todo.values()), _published(numbering)),
        section("People as judges", *(_opinion(opinion, numbering) for opinion in people)),
        section("The same seeds", pictures.same_seeds(drawn, names, numbering) if drawn is not None else None),
        section("Cost", numbering.table("cost", tables.slim(compared.cost), "Settings and what each run cost.")),
        section("Quality and cost", *figures.trade_offs(compared, numbering)),
        section("Scores against each other", *figures.pairs(compared, plots, numbering)),
        section("Attributes", figures.histograms(found, names, numbering), *_requests(found, names, numbering)),
        section("Training", *figures.curves(found, names, numbering)),
        section("Levels", figures.levels(found, names, numbering)),
        section("Samples", *pictures.samples(found, names, numbering, reals)),
        section("Nearest neighbours", *pictures.sheets(found, names, numbering)) if reals else None,
        section("Settings", *settings(found, names, numbering)),
        section("How to reproduce", *commands(found, names)),
    ]
    return Made(document(str(study.get("title") or title), _lead(found, study), parts), numbering)


def _lead(found: Sequence[Record], study: Mapping[str, Any]) -> str:
    data = sorted({f"{r.data.get('name')} at {r.data.get('size')} px" for r in found if r.data})
    said = [str(study["about"])] if study.get("about") else []
    said += [f"{len(found)} run{'s' * (len(found) > 1)}, trained on {'; '.join(data)}."] if data else []
    return " ".join(said) or f"{len(found)} runs."


def _verdict(compared: Comparison, numbering: Numbering) -> Iterator[Markup | None]:
    yield from conclusion.words(compared)
    best = conclusion.table(compared)
    if best is not None:
        yield numbering.table(
            "verdict", best, "The best run by each main score, its uncertainty, its rivals and its cost."
        )
    yield warnings(conclusion.doubts(compared), "What speaks against trusting this:")


def _plan(study: Mapping[str, Any], numbering: Numbering) -> Markup | None:
    plan = study.get("rows")
    return (
        numbering.table("plan", plan, "What the study set out to train.", wrap=True)
        if isinstance(plan, Table)
        else None
    )


def _quality(compared: Comparison, numbering: Numbering) -> Iterator[Markup]:
    """The scores in a table per subject, so that each fits a page; rows without any of its scores are in none but the
    first."""
    table = compared.quality
    subjects = list(dict.fromkeys(measure.group for measure in compared.measures)) or ["Quality"]
    for subject in subjects:
        measures = [measure for measure in compared.measures if measure.group == subject]
        keys, first = {measure.key for measure in measures}, subject == subjects[0]
        own = [i for i, column in enumerate(table.columns) if column.key in keys or (first and column.key == "drawn")]
        rows = [
            (replace(row[0], text=label), *(row[i] for i in own))
            for row, label in zip(table.rows, compared.labels, strict=True)
            if first or any(row[i].value is not None for i in own)
        ]
        notes = [*_own_notes(compared, measures, any(c.tied for row in rows for c in row)), *protocol_notes(measures)]
        part = Table(subject, tuple(table.columns[i] for i in (0, *own)), tuple(rows), tuple(notes))
        name, text = ("quality", "Quality") if len(subjects) == 1 else (f"quality-{subject}", subject)
        yield numbering.table(name, tables.slim(part), f"{text}. {_QUALITY}")


def _own_notes(compared: Comparison, measures: Sequence[Measure], tied: bool) -> Iterator[str]:
    """The notes of the quality table, beside those on protocols, that are about these columns."""
    of_protocols = protocol_notes(compared.measures)
    for note in compared.quality.notes:
        named = note.partition(": ")[0]
        about = tied if note.startswith("≈") else any(measure.label in named for measure in measures)
        if about and note not in of_protocols:
            yield note


def _opinion(opinion: Opinion, numbering: Numbering) -> Markup:
    title = opinion.table.title
    told = numbering.table(f"people-{opinion.question}", opinion.table, f"{title}, best first. ↑ higher is better.")
    plot = numbering.plot(f"people-{opinion.question}", intervals(opinion))
    return join(told, numbering.figure([plot], f"{title}: Elo with 95 % intervals."))


def _requests(found: Sequence[Record], names: Sequence[str], numbering: Numbering) -> Iterator[Markup]:
    """What conditional models were asked for against what a network recognised, a column per run."""
    answers: dict[str, dict[tuple[str, str], dict[int, Cell]]] = {}
    for place, record in enumerate(found):
        for r in record.judged.requests:
            cell = Cell(f"{r.recognised} of {r.asked} ({r.recognised / r.asked:.0%})", r.recognised / r.asked)
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
        table = Table(f"Requests recognised by {by}", columns, tuple(cells))
        yield numbering.table(f"requests-{by}", table, f"How often what was asked for is what {by} recognises.")


def _published(numbering: Numbering) -> Markup:
    results, validation = published.results(), published.validation()
    text = f"{published.TITLE}. For orientation only: none of these numbers may be read against the tables above."
    curve = table_html(validation, "Validation as training went.")
    folded = el("details", el("summary", validation.title), curve)
    return el("div", numbering.table("published", results, text), folded, class_="aside")


# ---- one run ----------------------------------------------------------------------------------------------------


def run_page(run: Run, *, reals: bool = True) -> str:
    """The page of one run, `report.html`.

    Raises:
        DataError: the folder holds no readable run.json.
    """
    record, numbering = records.read(run), Numbering()
    found, names = [record], [record.name]
    odd = [*record.problems, *record.findings, *filter(None, [record.config.get("warning")])]
    parts = [
        section(
            "Summary",
            numbering.table("run", _facts(record), "The run."),
            warnings(map(str, odd), "Before you trust it:"),
        ),
        section("Scores", _scores(record, numbering)),
        section("Training", *figures.curves(found, names, numbering), figures.levels(found, names, numbering)),
        section("Validation", _validation(record, numbering)),
        section("Samples", *pictures.progress(record, numbering)),
        section("Attributes", figures.histograms(found, names, numbering), *_requests(found, names, numbering)),
        section("Nearest neighbours", *pictures.sheets(found, names, numbering)) if reals else None,
        section("Settings", *settings(found, names, numbering)),
        section("How to reproduce", *commands(found, names)),
    ]
    lead = f"{record.about.get('family', 'A run')}, {record.state}, {amount(record.images)} images seen."
    return document(record.name, lead, parts)


def write(run: Run) -> Path:
    """Write the run's page into its folder: after training, and again after scoring."""
    path = run.path / "report.html"
    path.write_text(run_page(run), encoding="utf-8")
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
        "training time": _said(about("seconds"), duration),
        "images/s": _said(about("images_per_second"), amount),
        "peak memory": _said(about("peak_memory"), memory),
        "100 faces": _said(record.drawing.get("seconds_per_100"), duration),
        "device": about("device"),
        **record.notes,
    }
    return tables.text_table("The run", ("fact", "value"), [(k, v) for k, v in facts.items() if v])


def _said(value: Any, written: Any) -> str | None:
    return written(value) if isinstance(value, (int, float)) and value > 0 else None


def _scores(record: Record, numbering: Numbering) -> Markup | None:
    """Every score with its protocol, or the command that makes some."""
    if not record.scores:
        return None if record.judges else todo([shlex.join(["animegen", "eval", str(record.run.path)])])
    arrow = {"lower": " ↓", "higher": " ↑", None: ""}
    columns = [
        Column("score", "score", right=False), Column("value", "value"), Column("images", "images seen"),
        Column("values", "each range of seeds", right=False),
    ]  # fmt: skip
    rows = [
        (
            Cell(score.name + arrow[score.better], score.name),
            Cell(score.text, score.value),
            Cell(amount(score.images), score.images),
            Cell(", ".join(f"{value:.4g}" for value in score.values) or tables.DASH, list(score.values)),
        )
        for score in record.scores
    ]
    told = {measure.identity: measure.protocol_text for measure in measures_of([record])}
    notes: dict[str, list[str]] = {}
    for score in record.scores:
        drawn = [score.protocol.get("sampling"), score.protocol.get("seeds") and f"seeds {score.protocol['seeds']}"]
        said = "; ".join(
            [told[identity(score)], *([f"drawn with {', '.join(filter(None, drawn))}"] if any(drawn) else [])]
        )
        notes.setdefault(said, []).append(score.name)
    table = Table(
        "Scores", tuple(columns), tuple(rows), tuple(f"{', '.join(names)}: {said}." for said, names in notes.items())
    )
    return numbering.table("scores", tables.slim(table), "Scores, each with its protocol.")


def _validation(record: Record, numbering: Numbering) -> Markup | None:
    """Held-out figures as training went, a row per validation (document 001, table II); None without any."""
    curves = {
        key.removeprefix("validation/"): dict(p) for key, p in record.curves.items() if key.startswith("validation/")
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
