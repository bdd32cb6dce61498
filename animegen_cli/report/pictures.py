"""The pictures of a page: the same seeds, raw against averaged weights, the course of training, nearest neighbors."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from animegen_cli import disk
from animegen_cli.report.markup import Markup, el
from animegen_cli.report.units import amount
from animegen_cli.seeds import spell_seeds

if TYPE_CHECKING:
    from animegen_cli.report.numbering import Numbering
    from animegen_cli.report.records import Record

BUDGET = 3_900_000
"""Bytes that all pictures of a page may take before base64 makes them a third larger."""
WIDEST = 1056


class Drawn(NamedTuple):
    """The same-seeds picture: images uint8 (n, H, W, 3) of each run, or why there are none."""

    seeds: Sequence[int]
    rows: Sequence[np.ndarray | str]


class _Picture(NamedTuple):
    """A picture file, what it shows in words, and the line below it."""

    path: Path
    alt: str
    below: str


class _Figure(NamedTuple):
    """Pictures side by side under one caption, and the name of their files."""

    pictures: list[_Picture]
    caption: str
    name: str


# ---- embedding --------------------------------------------------------------------------------------------------


def embed(image: Image.Image, alt: str, budget: float, source: bytes | None = None) -> Markup:
    """Write an `<img>` with its bytes inside: as they are (`source`, a PNG of the image) or as PNG where they fit the budget,
    else as JPEG of full color resolution, the coarser the smaller the budget. (WebP is smaller and six times slower.)
    """
    width, height = image.size
    if width > WIDEST:
        image = image.resize((WIDEST, max(round(height * WIDEST / width), 1)), Image.Resampling.LANCZOS, reducing_gap=2)
        source = None
    kind, coded = "png", source or (_coded(image, "PNG", compress_level=6) if width * height < 2 * budget else b"")
    for quality in (90, 80, 65, 45):
        if 0 < len(coded) <= budget:
            break
        kind, coded = "jpeg", _coded(image, "JPEG", quality=quality, subsampling=0)
    data = base64.b64encode(coded).decode("ascii")
    return el("img", src=Markup(f"data:image/{kind};base64,{data}"), alt=alt, width=image.width, height=image.height)


def _coded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _embedded(picture: _Picture, budget: float) -> Markup | None:
    """The file as an `<img>`; None where it is no picture."""
    try:
        source = picture.path.read_bytes()
        with Image.open(BytesIO(source)) as image:
            as_it_is = source if image.format == "PNG" else None
            if as_it_is:
                disk.check_png(as_it_is)
            return embed(image.convert("RGB"), picture.alt, budget, as_it_is)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


# ---- figures ----------------------------------------------------------------------------------------------------


def same_seeds(drawn: Drawn, names: Sequence[str], numbering: Numbering, *, only: Sequence[int]) -> Markup:
    """Show one strip of images per run, under each other; of the runs at the places `only`."""
    numbers = spell_seeds(drawn.seeds)
    budget = 0.2 * BUDGET / max(len(names), 1)
    cells: list[Markup] = []
    for place in only:
        name, row = names[place], drawn.rows[place]
        if isinstance(row, str):
            shown = el("div", row, class_="none")
        else:
            strip = Image.fromarray(np.concatenate(list(row), axis=1))
            shown = embed(strip, f"{len(row)} images drawn by {name} from seeds {numbers}", budget)
        cells += [el("span", name), shown]
    text = f"What each run draws from the same starting noise: seeds {numbers}, from left to right."
    return numbering.figure(cells, text, class_="seeds")


def samples(records: Sequence[Record], names: Sequence[str], numbering: Numbering, *, reals: bool) -> list[Markup]:
    """Show the newest preview grids of each run, raw beside averaged weights, and each data set's real images where they
    may be shown. Translators' previews show their inputs, which are real."""
    figures: list[_Figure] = []
    for name, record in zip(names, records, strict=True):
        if reals or "samples" in (record.about.get("abilities") or ()):
            figures.append(
                _Figure(_newest(record, name), f"What {name} {_does(record)} at the end.", f"samples-{name}")
            )
    sets: dict[object, Record] = {}
    for record in records if reals else ():
        if (record.run.samples / "reals.png").is_file():
            sets.setdefault(record.data.get("identity") or record.run.path, record)
    for record in sets.values():
        name = str(record.data.get("name", "the data set"))
        figures.append(_Figure([_reals(record, name)], f"Real images of {name}.", f"reals-{name}"))
    return _figures(figures, numbering, 0.55 * BUDGET)


def progress(record: Record, numbering: Numbering) -> list[Markup]:
    """Show a run's preview grids: raw beside averaged weights at the end, its start and middle, and the real images."""
    grids = record.grids("ema") or record.grids("raw")
    early = sorted({0, len(grids) // 2} - {len(grids) - 1}) if grids else []
    course = [_grid(grids[i], record.name) for i in early]
    figures = [
        _Figure(_newest(record, record.name), f"What the run {_does(record)} at the end.", "samples"),
        _Figure(course, f"What it {_does(record)} on the way.", "course"),
    ]
    if (record.run.samples / "reals.png").is_file():
        figures.append(_Figure([_reals(record, "the data set")], "Real images of the data set.", "reals"))
    return _figures(figures, numbering, 0.55 * BUDGET)


def sheets(records: Sequence[Record], names: Sequence[str], numbering: Numbering) -> list[Markup]:
    """Show the sheets that `eval` left: drawn images beside their nearest neighbors in the training set. They show real images."""
    said = {"neighbours": "drawn images and, beside each, the real images that it is most like"}
    figures = []
    for name, record in zip(names, records, strict=True):
        for kind, path in record.findings.sheets:
            text = f"{name}: {said.get(kind, kind)}."
            picture = _Picture(path, f"{kind} of {name}: {said.get(kind, kind)}", "")
            figures.append(_Figure([picture], text, f"{kind}-{name}"))
    return _figures(figures, numbering, 0.25 * BUDGET)


def _does(record: Record) -> str:
    """What a run's grids show it doing."""
    return "recognizes in held-out faces (“?”: the label says otherwise)" if record.classifies else "draws"


def _newest(record: Record, name: str) -> list[_Picture]:
    """The last grid of raw and the last of averaged weights, as many as there are."""
    return [_grid(grids[-1], name) for grids in (record.grids("raw"), record.grids("ema")) if grids]


def _grid(path: Path, name: str) -> _Picture:
    kind, _, count = path.stem.partition("-")
    images = int(count) if count.isdigit() else 0
    said = {"ema": "averaged weights", "raw": "raw weights"}.get(kind, kind)
    after = f"after {amount(images)} images" if images else "before training"
    return _Picture(path, f"A grid of images generated by {name}, {said}, {after} of training", f"{said} {after}")


def _reals(record: Record, name: str) -> _Picture:
    return _Picture(record.run.samples / "reals.png", f"A grid of real images of {name}", "")


def _figures(figures: Sequence[_Figure], numbering: Numbering, budget: float) -> list[Markup]:
    """Embed the pictures of all figures in `budget` bytes together; a line stands for those that are damaged."""
    share = budget / max(sum(len(figure.pictures) for figure in figures), 1)
    made = []
    for figure in figures:
        panels = []
        for picture in figure.pictures:
            if not picture.path.is_file():
                continue
            image = _embedded(picture, share)
            if image is None:
                panels.append(el("div", f"{picture.path.name} is damaged and left out", class_="none"))
                continue
            kind = picture.path.stem.partition("-")[0]
            numbering.keep(f"{figure.name}-{kind}" if len(figure.pictures) > 1 else figure.name, picture.path)
            panels.append(el("div", image, el("p", picture.below, class_="below") if picture.below else None))
        if panels:
            made.append(numbering.figure(panels, figure.caption))
    return made
