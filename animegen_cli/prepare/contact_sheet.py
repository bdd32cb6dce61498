"""The contact sheet beside a data set file: it shows images of the set, near-duplicates and what was dropped."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from animegen_cli import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from animegen_cli.data.index import DatasetIndex

_CELL = 64  # pixels a side of an image
_COLUMNS = 12
_SHOWN = 72  # images of a domain
_PAIRS = 12  # near-duplicates that are shown
_GAP, _LINE = 4, 18  # pixels between images, and of a line of text


def path_of(out: Path) -> Path:
    """Name the contact sheet of a data set file: `faces.contact.png` beside `faces.zip`."""
    return out.with_name(f"{out.stem}.contact.png")


def draw(read: Callable[[int], bytes], indexes: Sequence[DatasetIndex]) -> Image.Image:
    """Draw the sheet, one domain below the other.

    Args:
        read: gives the PNG of an image of the set by its index over all domains.
        indexes: what is known of the images of each domain, after `close`.
    """
    rows = [row for dataset_index in indexes for row in _rows(read, dataset_index)]
    return lay_out(rows, columns=_COLUMNS, side=_CELL)


def lay_out(rows: Sequence[str | Sequence[Image.Image]], *, columns: int, side: int) -> Image.Image:
    """Draw rows one below the other: a line of text, or at most `columns` images, each amid a square of `side` pixels."""
    step = side + _GAP
    heights = [_LINE if isinstance(row, str) else step for row in rows]
    sheet = Image.new("RGB", (columns * step + _GAP, sum(heights) + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        if isinstance(row, str):
            pen.text((_GAP, top), row, fill="black", font=font)
        else:
            for column, image in enumerate(row):
                left = _GAP + column * step + (side - image.width) // 2
                sheet.paste(image, (left, top + (side - image.height) // 2))
        top += height
    return sheet


def save(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as the PNG file `path`, whole or not at all."""
    with disk.replacing(path) as temporary:
        sheet.save(temporary, "png")


def _rows(read: Callable[[int], bytes], dataset_index: DatasetIndex) -> list[str | list[Image.Image]]:
    def cells(indices: Iterable[int]) -> list[Image.Image]:
        return [_cell(read(dataset_index.start + index)) for index in indices]

    domain = f"{dataset_index.folder[:-1]}: " if dataset_index.folder else ""
    shown = sorted(range(len(dataset_index)), key=dataset_index.digest)[:_SHOWN]  # a fair choice that never changes
    rows: list[str | list[Image.Image]] = [f"{domain}{len(shown)} of {len(dataset_index)} images"]
    rows += _lines(cells(sorted(shown)))
    groups = dataset_index.near_duplicate_groups()
    if groups:
        some = groups[:: -(-len(groups) // _PAIRS)]
        together = ", never parted by the split" if dataset_index.given is None else ""
        rows.append(f"{domain}{len(groups)} clusters of near-duplicates{together}; two images of {len(some)} of them")
        rows += _lines(cells(index for group in some for index in group[:2]))
    for reason, count in dataset_index.reasons().items():
        rows.append(f"{domain}dropped: {count} {reason}")
        rows += _lines([_cell(png) for _, why, png in dataset_index.shown if why == reason])
    return rows


def _lines(images: list[Image.Image]) -> list[str | list[Image.Image]]:
    return [images[start : start + _COLUMNS] for start in range(0, len(images), _COLUMNS)]


def _cell(png: bytes) -> Image.Image:
    with Image.open(io.BytesIO(png)) as image:
        return image.convert("RGB").resize((_CELL, _CELL), Image.Resampling.LANCZOS)
