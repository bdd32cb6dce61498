"""The pictures and plots of a page, numbered and captioned."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

from animegen_cli.report import plots, seeds
from animegen_cli.report.markup import Markup, el, join
from animegen_cli.report.plots import Mark, Series
from animegen_cli.report.records import Record
from animegen_cli.report.units import amount

BUDGET = 3_900_000
"""Bytes that all pictures of a page may take before base64 makes them a third larger."""
WIDEST = 1056
_ASIDE = ("grad_norm", "ema/", "lr/", "loader/", "images_per_second")
_NO_CURVE = {"step", "seconds"}


class Drawn(NamedTuple):
    """The same-seeds picture: images uint8 (n, H, W, 3) of each run, or why there are none."""

    seeds: Sequence[int]
    rows: Sequence[np.ndarray | str]


class Count:
    """Numbers tables and figures in the order in which they appear."""

    def __init__(self) -> None:
        self.counts = {"Table": 0, "Figure": 0}

    def __call__(self, kind: str, *text: object) -> Markup:
        self.counts[kind] += 1
        return join(el("b", f"{kind} {self.counts[kind]}."), " ", *text)


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


def same_seeds(drawn: Drawn, names: Sequence[str], count: Count) -> Markup:
    """One strip of images per run under each other."""
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


def samples(found: Sequence[Record], names: Sequence[str], count: Count, reals: bool) -> Markup | None:
    """The newest preview grid of each run, and each data set's real images where they may be shown.

    Translators' previews show their inputs, which are real.
    """
    shown: list[tuple[Path, str, str]] = []
    for name, record in zip(names, found, strict=True):
        if not reals and "samples" not in (record.about.get("abilities") or ()):
            continue
        grids = record.grids("ema") or record.grids("raw")
        if grids:
            images, kind = _grid_name(grids[-1])
            text = f"{name}: {kind} weights, {_after(images)}."
            how = "recognised" if record.judges else "generated"
            shown.append((grids[-1], f"A grid of images {how} by {name}", text))
    sets: dict[object, Record] = {}
    for record in found:
        if reals and (record.run.samples / "reals.png").is_file():
            sets.setdefault(record.data.get("identity") or record.run.path, record)
    for record in sets.values():
        name = record.data.get("name", "the data set")
        shown.append((record.run.samples / "reals.png", f"A grid of real images of {name}", f"Real images of {name}."))
    return _figures(shown, count)


def progress(record: Record, count: Count) -> Markup | None:
    """A run's preview grids from the start, the middle and the end of its training."""
    grids = record.grids("ema") or record.grids("raw")
    picked = sorted({0, len(grids) // 2, len(grids) - 1}) if grids else []
    paths = [grids[i] for i in picked] + record.grids("raw")[-1:]
    shown = []
    for path in dict.fromkeys(paths):
        images, kind = _grid_name(path)
        text, what = f"{kind.capitalize()} weights, {_after(images)}.", "generated images"
        if record.judges:
            what = "held-out images with what is recognised in them"
            text = f"Held-out faces with what is recognised, “?” where the label says otherwise. {text}"
        shown.append((path, f"A grid of {what} after {images} images of training", text))
    if (record.run.samples / "reals.png").is_file():
        shown.append((record.run.samples / "reals.png", "A grid of real images", "Real images of the data set."))
    return _figures(shown, count)


def _figures(shown: Sequence[tuple[Path, str, str]], count: Count) -> Markup | None:
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


def trade_off(label: str, marks: Sequence[Mark], count: Count) -> Markup:
    """A score against training time, with logarithmic axes where the values are far apart."""
    wide_x, wide_y = _spread([mark.x for mark in marks]), _spread([mark.y for mark in marks])
    measure = label.partition(":")[0]
    drawn = plots.scatter(marks, title=label, x="training time (s)", y=measure, log_x=wide_x, log_y=wide_y)
    text = f"{measure} against training time; bars are the scores’ uncertainty."
    return el("figure", drawn, el("figcaption", count("Figure", text)))


def levels(record: Record, count: Count) -> Markup | None:
    """What each level of a hierarchy carries: the latest of values that are logged as `name_00`, `name_01`, ..."""
    shown = []
    for name, keys in _levels([*record.curves]).items():
        latest = [(str(int(key[-2:])), record.curves[key][-1][1]) for key in keys]
        what = name.split("/")[-1]
        shown.append(plots.bars(latest, title=f"{name} per level", x="level, coarsest first", y=f"{what} (nats)"))
    if not shown:
        return None
    text = "What each latent level carries at the end: levels near zero have collapsed."
    return el("figure", el("div", *shown, class_="pair"), el("figcaption", count("Figure", text)))


def _levels(keys: Sequence[str]) -> dict[str, list[str]]:
    """Logged values that belong to the levels of one thing, by its name; validation ones aside."""
    found: dict[str, list[str]] = {}
    for key in keys:
        if re.fullmatch(r".+_\d\d", key) and not key.startswith("validation/"):
            found.setdefault(key[:-3], []).append(key)
    return {name: sorted(of_levels) for name, of_levels in found.items()}


def curves(found: Sequence[Record], names: Sequence[str], count: Count) -> list[Markup]:
    """A plot per logged value, with a line per run: losses and validation first, the rest folded away."""
    keys = [key for key in dict.fromkeys(k for record in found for k in record.curves) if key not in _NO_CURVE]
    keys = [key for key in keys if not re.fullmatch(r".+_\d\d", key)]  # `levels` shows these
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
