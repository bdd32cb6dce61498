"""The pictures of a page: strips of the same seeds, preview grids, the course of training, nearest neighbors."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image

from animegen_cli import disk
from animegen_cli.report.numbering import FigurePart, Numbering, Panel
from animegen_cli.report.units import amount
from animegen_cli.seeds import spell_seeds

if TYPE_CHECKING:
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
    """Pictures side by side under one caption, and the name of their files, or the names of each."""

    pictures: list[_Picture]
    caption: str
    name: str
    names: Sequence[str] = ()


# ---- embedding --------------------------------------------------------------------------------------------------


def embed(
    image: Image.Image, alt: str, budget: float, source: bytes | None = None, *, class_: str = "", widest: int = WIDEST
) -> Markup:
    """Write an `<img>` with its bytes inside: as they are (`source`, a PNG of the image) or as PNG where they fit the budget,
    else as JPEG of full color resolution, the coarser the smaller the budget. (WebP is smaller and six times slower.)
    """
    width, height = image.size
    if width > widest:
        image = image.resize((widest, max(round(height * widest / width), 1)), Image.Resampling.LANCZOS, reducing_gap=2)
        source = None
    kind, coded = "png", source or (_coded(image, "PNG", compress_level=6) if width * height < 2 * budget else b"")
    for quality in (90, 80, 65, 45):
        if 0 < len(coded) <= budget:
            break
        kind, coded = "jpeg", _coded(image, "JPEG", quality=quality, subsampling=0)
    address = f"data:image/{kind};base64,{base64.b64encode(coded).decode('ascii')}"
    tag = '<img src="{}" alt="{}" width="{}" height="{}" class="{}">'
    return Markup(tag).format(address, alt, image.width, image.height, class_)


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
            small = image.width < 400  # shown larger, with pixels that stay squares
            return embed(image.convert("RGB"), picture.alt, budget, as_it_is, class_="exact" if small else "")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


# ---- figures ----------------------------------------------------------------------------------------------------


def same_seeds(drawn: Drawn, names: Sequence[str], numbering: Numbering) -> FigurePart | None:
    """Show one strip of images per training, under each other."""
    budget = 0.15 * BUDGET / max(len(names), 1)
    strips = [
        Panel(
            embed(Image.fromarray(np.concatenate(list(row), axis=1)), f"{len(row)} images drawn by {name}", budget),
            name,
        )
        for name, row in zip(names, drawn.rows, strict=True)
        if not isinstance(row, str)
    ]
    return numbering.figure(
        strips, f"What each training draws from seeds {spell_seeds(drawn.seeds)}, from left to right.", wide=True
    )


def samples(records: Sequence[Record], names: Sequence[str], numbering: Numbering, *, reals: bool) -> list[FigurePart]:
    """Show the newest preview grid of each run, and each data set's real images where they may be shown.

    Translators' previews show their inputs, which are real.
    """
    newest = [
        (grid, name)
        for name, record in zip(names, records, strict=True)
        if reals or "samples" in (record.about.get("abilities") or ())
        for grid in _newest(record, name)[-1:]
    ]
    grids = [grid._replace(below=f"{name}: {grid.below}") for grid, name in newest]
    figures = [_Figure(grids, "What each run draws at the end.", "samples", [f"samples-{name}" for _, name in newest])]
    sets: dict[object, Record] = {}
    for record in records if reals else ():
        if (record.run.samples / "reals.png").is_file():
            sets.setdefault(record.data.get("identity") or record.run.path, record)
    for record in sets.values():
        name = str(record.data.get("name", "the data set"))
        figures.append(_Figure([_reals(record, name)], f"Real images of {name}.", f"reals-{name}"))
    return _figures(figures, numbering, 0.5 * BUDGET)


def newest(record: Record, numbering: Numbering) -> list[FigurePart]:
    """Show a run's newest preview grids, raw beside averaged weights, and the real images."""
    grids = _newest(record, record.name)
    if (record.run.samples / "reals.png").is_file():
        grids.append(_reals(record, "the data set")._replace(below="real images of the data set"))
    return _figures([_Figure(grids, f"What the run {_does(record)} at the end.", "samples")], numbering, 0.35 * BUDGET)


def course(record: Record, numbering: Numbering) -> list[FigurePart]:
    """Show the preview grids of a run's start and middle."""
    grids = record.grids("ema") or record.grids("raw")
    early = sorted({0, len(grids) // 2} - {len(grids) - 1}) if grids else []
    shown = [_grid(grids[i], record.name) for i in early]
    return _figures([_Figure(shown, f"What it {_does(record)} on the way.", "course")], numbering, 0.2 * BUDGET)


def sheets(records: Sequence[Record], names: Sequence[str], numbering: Numbering) -> list[FigurePart]:
    """Show the sheets that `eval` left: drawn images beside their nearest neighbors in the training set. They show real images."""
    said = {"neighbours": "drawn images and, beside each, the real images that it is most like"}
    figures = [
        _Figure(
            [_Picture(path, f"{kind} of {name}: {said.get(kind, kind)}", "")],
            f"{name}: {said.get(kind, kind)}.",
            f"{kind}-{name}",
        )
        for name, record in zip(names, records, strict=True)
        for kind, path in record.findings.sheets
    ]
    return _figures(figures, numbering, 0.2 * BUDGET)


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


def _figures(figures: Sequence[_Figure], numbering: Numbering, budget: float) -> list[FigurePart]:
    """Embed the pictures of all figures in `budget` bytes together; a line stands for those that are damaged."""
    share = budget / max(sum(len(figure.pictures) for figure in figures), 1)
    made = []
    for figure in figures:
        panels = []
        for place, picture in enumerate(figure.pictures):
            if not picture.path.is_file():
                continue
            image = _embedded(picture, share)
            if image is None:
                panels.append(Panel(Markup(""), f"{picture.path.name} is damaged and left out"))
                continue
            kind = picture.path.stem.partition("-")[0]
            several = f"{figure.name}-{kind}" if len(figure.pictures) > 1 else figure.name
            numbering.keep(figure.names[place] if figure.names else several, picture.path)
            panels.append(Panel(image, picture.below))
        if (part := numbering.figure(panels, figure.caption)) is not None:
            made.append(part)
    return made
