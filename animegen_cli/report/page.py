"""One HTML file that holds everything: tables, pictures, curves, settings, commands. No network, no scripts."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

import animegen_cli
from animegen_cli.paths import Run
from animegen_cli.report import plots, published, records, seeds, tables
from animegen_cli.report.markup import Markup, el, escape, join
from animegen_cli.report.plots import Mark, Series
from animegen_cli.report.records import Record
from animegen_cli.report.tables import Table
from animegen_cli.report.units import amount, duration, memory

BUDGET = 3_900_000
"""Bytes that all pictures of a page may take before base64 makes them a third larger."""
WIDEST = 1056
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_ASIDE = ("grad_norm", "ema/", "lr/", "images_per_second")
_NO_CURVE = {"step", "seconds"}


class Drawn(NamedTuple):
    """The same-seeds picture: images uint8 (n, H, W, 3) of each run, or why there are none."""

    seeds: Sequence[int]
    rows: Sequence[np.ndarray | str]


class _Count:
    """Numbers tables and figures in the order in which they appear."""

    def __init__(self) -> None:
        self.counts = {"Table": 0, "Figure": 0}

    def __call__(self, kind: str, *text: object) -> Markup:
        self.counts[kind] += 1
        return join(el("b", f"{kind} {self.counts[kind]}."), " ", *text)


# ---- the two pages ----------------------------------------------------------------------------------------------


def comparison_page(
    found: Sequence[Record],
    names: Sequence[str],
    quality: Table,
    cost: Table,
    *,
    drawn: Drawn | None = None,
    marks: Mapping[str, Sequence[Mark]] | None = None,
    todo: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    reals: bool = True,
) -> str:
    """The page of `animegen compare`.

    Args:
        found, names: the runs and what the page calls them, in the order of the tables.
        marks: points of one quality-against-training-time plot per measure (its label with direction -> points).
        todo: run -> command that would score it.
        reals: also show the real images that the runs learned from; leave them out of pages that are published.
    """
    count = _Count()
    title = f"Comparison of {len(found)} runs" if len(found) > 1 else f"One run: {names[0]}"
    parts = [_warnings(warnings)]
    parts.append(_section("Quality", _table(quality, count("Table", _QUALITY)), _todo(todo or {}), _published(count)))
    parts.append(_section("Cost", _table(cost, count("Table", "Settings and what each run cost to train."))))
    if drawn is not None:
        parts.append(_section("The same seeds", _same_seeds(drawn, names, count)))
    if marks:
        plotted = [_plot(_trade_off(label, points), count("Figure", _TRADE)) for label, points in marks.items()]
        parts.append(_section("Quality and cost", el("div", *plotted, class_="pair")))
    parts.append(_section("Training", *_curves(found, names, count)))
    parts.append(_section("Samples", _samples(found, names, count, reals)))
    parts.append(_section("Settings", *_settings(found, names, count)))
    parts.append(_section("How to reproduce", *_commands(found, names)))
    return _document(title, _lead(found, quality), parts)


def run_page(run: Run) -> str:
    """The page of one run, `report.html`.

    Raises:
        DataError: the folder holds no readable run.json.
    """
    record = records.read(run)
    count = _Count()
    parts = [_warnings(record.problems), _section("Summary", _table(_facts(record), count("Table", "The run.")))]
    scores = _section("Scores", _table(_score_table(record), count("Table", "Scores, each with its protocol.")))
    parts.append(scores if record.scores else _section("Scores", _todo({record.name: f"animegen eval {run.path}"})))
    parts.append(_section("Training", *_curves([record], [record.name], count)))
    parts.append(_section("Samples", _progress(record, count)))
    parts.append(_section("Settings", *_settings([record], [record.name], count)))
    parts.append(_section("How to reproduce", *_commands([record], [record.name])))
    lead = f"{record.about.get('family', 'A run')}, {record.state}, {amount(record.images)} images seen."
    return _document(record.name, lead, parts)


_QUALITY = (
    "Quality of the generated images. ↓ lower is better, ↑ higher is better; the best of each column is bold. A column "
    "holds one protocol."
)
_TRADE = "Quality against training time; bars are the scores’ uncertainty."


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


def _todo(todo: Mapping[str, str]) -> Markup | None:
    if not todo:
        return None
    return join(el("p", "Not scored yet. Type:"), el("pre", "\n".join(todo.values()), tabindex=0))


def _published(count: _Count) -> Markup:
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


# ---- pictures ---------------------------------------------------------------------------------------------------


def embed(image: Image.Image, alt: str, budget: float) -> Markup:
    """An `<img>` with its bytes inside: lossless WebP (PNG without WebP), lossy where it would pass the budget."""
    width, height = image.size
    if width > WIDEST:
        image = image.resize((WIDEST, max(round(height * WIDEST / width), 1)), Image.Resampling.LANCZOS)
    kind, coded = "png", b""
    ways: list[dict[str, Any]] = [{"lossless": True, "quality": 90, "method": 4}]
    ways += [{"quality": quality, "method": 4} for quality in (92, 80, 60)]
    for way in ways if features.check("webp") else []:
        buffer = BytesIO()
        image.save(buffer, "WEBP", **way)
        kind, coded = "webp", buffer.getvalue()
        if len(coded) <= budget:
            break
    if not coded:
        buffer = BytesIO()
        image.save(buffer, "PNG", optimize=True)
        coded = buffer.getvalue()
    data = base64.b64encode(coded).decode("ascii")
    source = Markup(f"data:image/{kind};base64,{data}")
    return el("img", src=source, alt=alt, width=image.width, height=image.height)


def _opened(path: Path) -> Image.Image | None:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _same_seeds(drawn: Drawn, names: Sequence[str], count: _Count) -> Markup:
    numbers = seeds.spell(drawn.seeds)
    budget = 0.3 * BUDGET / max(len(names), 1)
    cells: list[Markup] = []
    for name, row in zip(names, drawn.rows, strict=True):
        if isinstance(row, str):
            shown = el("div", row, class_="none")
        else:
            strip = Image.fromarray(np.concatenate(list(row), axis=1))
            shown = embed(strip, f"{len(row)} images drawn by {name} from seeds {numbers}", budget)
        cells += [el("span", name), shown]
    text = f"What each run draws from the same starting noise: seeds {numbers}, from left to right."
    return el("figure", el("div", *cells, class_="seeds"), el("figcaption", count("Figure", text)))


def _samples(found: Sequence[Record], names: Sequence[str], count: _Count, reals: bool) -> Markup | None:
    shown: list[tuple[Path, str, str]] = []
    for name, record in zip(names, found, strict=True):
        grids = record.grids("ema") or record.grids("raw")
        if grids:
            images, kind = _grid_name(grids[-1])
            text = f"{name}: {kind} weights, {_after(images)}."
            shown.append((grids[-1], f"A grid of images generated by {name}", text))
    sets: dict[object, Record] = {}
    for record in found:
        if reals and (record.run.samples / "reals.png").is_file():
            sets.setdefault(record.data.get("identity") or record.run.path, record)
    for record in sets.values():
        name = record.data.get("name", "the data set")
        shown.append((record.run.samples / "reals.png", f"A grid of real images of {name}", f"Real images of {name}."))
    return _figures(shown, count)


def _progress(record: Record, count: _Count) -> Markup | None:
    grids = record.grids("ema") or record.grids("raw")
    picked = sorted({0, len(grids) // 2, len(grids) - 1}) if grids else []
    paths = [grids[i] for i in picked] + record.grids("raw")[-1:]
    shown = []
    for path in dict.fromkeys(paths):
        images, kind = _grid_name(path)
        text = f"{kind.capitalize()} weights, {_after(images)}."
        shown.append((path, f"A grid of generated images after {images} images of training", text))
    if (record.run.samples / "reals.png").is_file():
        shown.append((record.run.samples / "reals.png", "A grid of real images", "Real images of the data set."))
    return _figures(shown, count)


def _figures(shown: Sequence[tuple[Path, str, str]], count: _Count) -> Markup | None:
    figures = []
    for path, alt, text in shown:
        image = _opened(path)
        if image is not None:
            picture = embed(image, alt, 0.7 * BUDGET / len(shown))
            figures.append(el("figure", picture, el("figcaption", count("Figure", text))))
    return el("div", *figures, class_="pair") if figures else None


def _after(images: int) -> str:
    return f"after {amount(images)} images" if images else "before training"


def _grid_name(path: Path) -> tuple[int, str]:
    kind, _, images = path.stem.partition("-")
    return int(images) if images.isdigit() else 0, {"ema": "averaged", "raw": "raw"}.get(kind, kind)


# ---- plots ------------------------------------------------------------------------------------------------------


def _plot(drawn: Markup, caption: Markup) -> Markup:
    return el("figure", drawn, el("figcaption", caption))


def _trade_off(label: str, marks: Sequence[Mark]) -> Markup:
    times = [mark.x for mark in marks if mark.x > 0]
    wide = bool(times) and max(times) > 20 * min(times)
    return plots.scatter(
        marks,
        title=label,
        x="training time (s)",
        y=label.partition(":")[0],
        log_x=wide,
        log_y=_spread([m.y for m in marks]),
    )


def _curves(found: Sequence[Record], names: Sequence[str], count: _Count) -> list[Markup]:
    keys = [key for key in dict.fromkeys(k for record in found for k in record.curves) if key not in _NO_CURVE]
    aside = [key for key in keys if any(part in key for part in _ASIDE) or "/" not in key]
    main = sorted((key for key in keys if key not in aside), key=lambda key: key.startswith("validation/"))
    parts = []
    if main:
        text = "Losses and validation scores over images seen; faint lines are single values, strong ones their mean."
        drawn = el("div", *(_curve(key, found, names) for key in main), class_="pair")
        parts.append(el("figure", drawn, el("figcaption", count("Figure", text))))
    if aside:
        drawn = el("div", *(_curve(key, found, names) for key in aside), class_="pair")
        parts.append(el("details", el("summary", "Speed, learning rates and gradients"), drawn))
    return parts


def _curve(key: str, found: Sequence[Record], names: Sequence[str]) -> Markup:
    series = [
        Series(name, record.curves[key], ink=i)
        for i, (name, record) in enumerate(zip(names, found, strict=True))
        if key in record.curves
    ]
    log = _spread([value for line in series for _, value in line.points])
    longest = max(len(line.points) for line in series)
    smooth = 0.0 if longest < 60 else min(0.98, 1 - 40 / longest)
    return plots.lines(series, title=key, y=key.split("/", 1)[-1], log=log, smooth=smooth)


def _spread(values: Sequence[float]) -> bool:
    """Whether values need a logarithmic axis to be told apart."""
    return min(values) > 0 and max(values) > 20 * min(values)


# ---- settings and commands --------------------------------------------------------------------------------------


def _settings(found: Sequence[Record], names: Sequence[str], count: _Count) -> list[Markup]:
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
        train += ["--data", str(data)] if data else []
        lines = [shlex.join(train), shlex.join(["animegen", "eval", str(where)])]
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
