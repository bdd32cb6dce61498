"""One HTML file that holds everything: tables, pictures, curves, settings, commands. No network, no scripts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import animegen_cli
from animegen_cli.paths import Run
from animegen_cli.report import figures, published, records, tables
from animegen_cli.report.markup import Markup, el, escape, join
from animegen_cli.report.measures import eval_options
from animegen_cli.report.people import Opinion, intervals
from animegen_cli.report.plots import Mark
from animegen_cli.report.records import Record
from animegen_cli.report.tables import Table
from animegen_cli.report.units import amount, duration, memory

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


# ---- the two pages ----------------------------------------------------------------------------------------------


def comparison_page(
    found: Sequence[Record],
    names: Sequence[str],
    quality: Table,
    cost: Table,
    *,
    drawn: figures.Drawn | None = None,
    marks: Mapping[str, Sequence[Mark]] | None = None,
    todo: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    reals: bool = True,
    people: Sequence[Opinion] = (),
) -> str:
    """The page of `animegen compare`.

    Args:
        found, names: the runs and what the page calls them, in the order of the tables.
        marks: points of one quality-against-training-time plot per measure (its label with direction -> points).
        todo: run -> command that would score it.
        reals: also show the real images that the runs learned from; leave them out of pages that are published.
        people: what the votes of a survey say, question by question.
    """
    count = figures.Count()
    title = f"Comparison of {len(found)} runs" if len(found) > 1 else f"One run: {names[0]}"
    parts = [_warnings(warnings)]
    parts.append(_section("Quality", _table(quality, count("Table", _QUALITY)), _todo(todo or {}), _published(count)))
    parts.append(_section("People as judges", *_people(people, count)))
    parts.append(_section("Cost", _table(cost, count("Table", "Settings and what each run cost to train."))))
    if drawn is not None:
        parts.append(_section("The same seeds", figures.same_seeds(drawn, names, count)))
    if marks:
        plotted = [figures.trade_off(label, points, count) for label, points in marks.items()]
        parts.append(_section("Quality and cost", el("div", *plotted, class_="pair")))
    parts.append(_section("Training", *figures.curves(found, names, count)))
    parts.append(_section("Samples", figures.samples(found, names, count, reals)))
    parts.append(_section("Settings", *_settings(found, names, count)))
    parts.append(_section("How to reproduce", *_commands(found, names)))
    return _document(title, _lead(found, quality), parts)


def run_page(run: Run) -> str:
    """The page of one run, `report.html`.

    Raises:
        DataError: the folder holds no readable run.json.
    """
    record = records.read(run)
    count = figures.Count()
    parts = [
        _warnings([*record.problems, *record.findings]),
        _section("Summary", _table(_facts(record), count("Table", "The run."))),
    ]
    if record.scores:
        parts.append(
            _section("Scores", _table(_score_table(record), count("Table", "Scores, each with its protocol.")))
        )
    elif not record.judges:
        parts.append(_section("Scores", _todo({record.name: f"animegen eval {run.path}"})))
    parts.append(_section("Training", *figures.curves([record], [record.name], count), figures.levels(record, count)))
    validation = _validation_table(record)
    if validation is not None:
        parts.append(_section("Validation", _table(validation, count("Table", "Held-out images as training went."))))
    parts.append(_section("Samples", figures.progress(record, count)))
    parts.append(_section("Settings", *_settings([record], [record.name], count)))
    parts.append(_section("How to reproduce", *_commands([record], [record.name])))
    lead = f"{record.about.get('family', 'A run')}, {record.state}, {amount(record.images)} images seen."
    return _document(record.name, lead, parts)


_QUALITY = (
    "Quality of the generated images. ↓ lower is better, ↑ higher is better; the best of each column is bold. A column "
    "holds one protocol."
)


def _document(title: str, lead: str, parts: Iterable[Markup | None]) -> str:
    sections = [part for part in parts if part]
    heads = [part.split("<h2>", 1)[1].split("</h2>", 1)[0] for part in sections if "<h2>" in part]
    links = [el("li", el("a", Markup(head), href="#" + _anchor(head))) for head in heads]
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="generator", content=f"animegen {animegen_cli.__version__}"),
        el("title", title),
        el("style", Markup(Path(__file__).with_name("page.css").read_text(encoding="utf-8"))),
    )
    body = el(
        "body",
        el("a", "Skip to the results", href="#results", class_="skip"),
        el("header", el("h1", title), el("p", lead, class_="lead"), el("nav", el("ul", *links), aria_label="Contents")),
        el("main", *sections, id="results"),
        el("footer", f"Made by animegen {animegen_cli.__version__}. This file needs nothing else to be read."),
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def _section(title: str, *parts: Markup | None) -> Markup | None:
    inside = [part for part in parts if part]
    return el("section", el("h2", title), *inside, id=_anchor(title)) if inside else None


def _anchor(title: str) -> str:
    return "-".join(title.lower().split())


# ---- text and tables --------------------------------------------------------------------------------------------


def _lead(found: Sequence[Record], quality: Table) -> str:
    data = sorted({f"{r.data.get('name')} at {r.data.get('size')} px" for r in found if r.data})
    said = [f"Trained on {'; '.join(data)}."] if data else []
    for i, column in enumerate(quality.columns):
        best = next((row for row in quality.rows if row[i].best), None)
        if best is not None and column.better is not None:
            said.append(f"Best {column.title}: {best[0].text} with {best[i].text}.")
            break
    return " ".join(said) or "Nothing has been measured yet."


def _warnings(found: Sequence[str]) -> Markup | None:
    if not found:
        return None
    return el("div", *(el("p", text) for text in found), class_="warning", role="note")


def _table(table: Table, caption: Markup, *, wrap: bool = False) -> Markup:
    drawn = tables.as_html(table, class_="wrap" if wrap else None)
    notes = el("ul", *(el("li", note) for note in table.notes), class_="notes") if table.notes else None
    region = el("div", drawn, class_="scroll", tabindex=0, role="region", aria_label=table.title)
    return join(el("p", caption, class_="caption"), region, notes)


def _people(opinions: Sequence[Opinion], count: figures.Count) -> list[Markup]:
    parts = [
        _table(one.table, count("Table", f"{one.table.title}, best first. ↑ higher is better.")) for one in opinions
    ]
    drawn = [
        el("figure", intervals(one), el("figcaption", count("Figure", f"{one.table.title}: Elo with 95 % intervals.")))
        for one in opinions
    ]
    return [*parts, el("div", *drawn, class_="pair")] if opinions else []


def _todo(todo: Mapping[str, str]) -> Markup | None:
    if not todo:
        return None
    return join(el("p", "Not scored yet. Type:"), el("pre", "\n".join(todo.values()), tabindex=0))


def _published(count: figures.Count) -> Markup:
    results, validation = published.results(), published.validation()
    text = f"{published.TITLE}. For orientation only: none of these numbers may be read against the table above."
    curve = el("details", el("summary", validation.title), _table(validation, Markup("Validation as training went.")))
    return el("div", _table(results, count("Table", text)), curve, class_="aside")


def _facts(record: Record) -> Table:
    about = record.about.get
    data = f"{record.data.get('name', '?')}: {record.data.get('count', '?')} images, {record.data.get('size', '?')} px"
    facts: dict[str, object] = {
        "family": about("family"),
        "preset": about("preset"),
        "about": record.config.get("about"),
        "warning": record.config.get("warning"),
        "data": data if record.data else None,
        "state": record.state,
        "images seen": amount(record.images),
        "parameters": amount(record.parameters) if record.parameters else None,
        "training time": _said(about("seconds"), duration),
        "images/s": _said(about("images_per_second"), amount),
        "peak memory": _said(about("peak_memory"), memory),
        "device": about("device"),
        **record.notes,
    }
    return tables.text_table("The run", ("fact", "value"), [(k, v) for k, v in facts.items() if v])


def _said(value: Any, written: Any) -> str | None:
    return written(value) if isinstance(value, (int, float)) and value > 0 else None


def _score_table(record: Record) -> Table:
    arrow = {"lower": " ↓", "higher": " ↑", None: ""}
    rows = [(score.name + arrow[score.better], score.text, amount(score.images)) for score in record.scores]
    told: dict[str, list[str]] = {}
    for score in record.scores:
        said = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in score.protocol.items() if v and k != "metric")
        told.setdefault(said, []).append(score.name)
    notes = tuple(f"{', '.join(names)}: {said}." for said, names in told.items())
    table = tables.text_table("Scores", ("score", "value", "images seen"), rows)
    return replace(table, notes=notes)


def _validation_table(record: Record) -> Table | None:
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
    return tables.text_table("Validation", ("epoch", "images seen", *curves), rows)


# ---- settings and commands --------------------------------------------------------------------------------------


def _settings(found: Sequence[Record], names: Sequence[str], count: figures.Count) -> list[Markup]:
    flat = [dict(_flat({**record.config, **_chosen(record)})) for record in found]
    keys = [key for key in dict.fromkeys(k for one in flat for k in one) if key not in {"about", "warning"}]
    if not keys:
        return []
    differ = [key for key in keys if len({one.get(key) for one in flat}) > 1]
    same = [key for key in keys if key not in differ]
    parts = []
    if differ:
        rows = [[key, *(one.get(key, tables.DASH) for one in flat)] for key in differ]
        text = count("Table", f"The {len(differ)} settings in which the runs differ.")
        table = tables.text_table("Settings that differ", ("setting", *names), rows)
        parts.append(el("div", _table(table, text, wrap=True), class_="differs"))
    if same:
        rows = [[key, flat[0][key]] for key in same]
        title = f"The {len(same)} settings that all runs share" if len(found) > 1 else f"All {len(same)} settings"
        table = tables.text_table(title, ("setting", "value"), rows)
        parts.append(el("details", el("summary", title), _table(table, escape(title + "."), wrap=True)))
    return parts


def _chosen(record: Record) -> dict[str, Any]:
    """What the run settled at its start, which belongs to its settings."""
    return {key: record.about[key] for key in ("resolved", "versions", "animegen") if record.about.get(key)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)


def _commands(found: Sequence[Record], names: Sequence[str]) -> list[Markup]:
    parts = []
    for name, record in zip(names, found, strict=True):
        data, where = record.data.get("path"), record.run.path
        train = ["animegen", "train", str(record.about.get("family", "FAMILY")), "--config", str(record.run.config)]
        train += [*(["--data", str(data)] if data else []), "--resume", "none"]
        ways = eval_options(record) or ([] if record.judges else [[]])
        scored = [["animegen", "eval", str(where), *options] for options in ways]
        lines = [shlex.join(words) for words in (train, *scored)]
        told = [
            f"data {record.data.get('name')}, identity {record.data.get('identity')}" if record.data else None,
            f"code {record.about['git']}" if record.about.get("git") else None,
            f"on {record.about['device']}" if record.about.get("device") else None,
        ]
        said = "; ".join(filter(None, told))
        parts.append(
            join(el("h3", name), el("pre", "\n".join(lines), tabindex=0), el("p", said, class_="by") if said else None)
        )
    if len(found) > 1:
        line = shlex.join(["animegen", "compare", *(str(record.run.path) for record in found)])
        parts.append(join(el("h3", "This page"), el("pre", line, tabindex=0)))
    return parts
