"""Pictures made of pictures: grids, strips with captions, and titled rows. Same images, same PNG bytes."""

from __future__ import annotations

import math
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from animegen_cli import disk
from animegen_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PAPER, INK, BLANK = (255, 255, 255), (38, 38, 42), (232, 232, 236)


def grid(
    images: np.ndarray,
    columns: int | None = None,
    *,
    gap: int = 2,
    labels: Sequence[str] | None = None,
    zoom: int = 1,
) -> Image.Image:
    """Lay images out row by row; 100 images make a 10 x 10 grid.

    Args:
        images: uint8, (n, H, W, 3).
        columns: images per row; by default the smallest near-square layout, wider than tall.
        gap: white pixels between neighbors (not zoomed).
        labels: one caption per image, written below it and cut to its width.
        zoom: enlarge by this whole factor, nearest neighbor, so that pixels stay exact.

    Raises:
        UsageError: no images, or less than one column.
        ValueError: images of another form, or labels that are not one per image.
    """
    cells = _cells(images, zoom)
    if labels is not None and len(labels) != len(cells):
        raise ValueError(f"{len(labels)} labels for {len(cells)} images")
    columns = min(columns or math.ceil(math.sqrt(len(cells))), len(cells))
    if columns < 1:
        raise UsageError("a grid needs at least one column", hint="leave the number of columns out for a square")
    height, width = cells.shape[1:3]
    font = _font(width)
    caption = _line_height(font) if labels is not None else 0
    lines = math.ceil(len(cells) / columns)
    drawn = _sheet(columns * (width + gap) - gap, lines * (height + caption + gap) - gap)
    pen = ImageDraw.Draw(drawn)
    for i, cell in enumerate(cells):
        x, y = i % columns * (width + gap), i // columns * (height + caption + gap)
        drawn.paste(Image.fromarray(cell), (x, y))
        if labels is not None:
            text = fit(labels[i], width, font)
            pen.text((x + width / 2, y + height + 1), text, fill=INK, font=font, anchor="ma")
    return drawn


def strip(images: np.ndarray, captions: Sequence[str] | None = None, *, gap: int = 2, zoom: int = 1) -> Image.Image:
    """Lay images, uint8 (n, H, W, 3), out in one row, each with its caption below: time steps, seeds, blends."""
    return grid(images, columns=len(images), gap=gap, labels=captions, zoom=zoom)


def rows(
    pictures: Sequence[tuple[str, np.ndarray | None]],
    captions: Sequence[str] | None = None,
    *,
    gap: int = 2,
    zoom: int = 1,
) -> Image.Image:
    """Lay out titled rows under common column captions: what several runs draw from the same seeds.

    Args:
        pictures: (title, images (n, H, W, 3) uint8) per row. Sizes may differ from row to row: all are
            enlarged by a whole factor towards the largest and centered. None leaves a row of blanks.
        captions: one per column, above the first row.
        gap: white pixels between neighbors (not zoomed).
        zoom: enlarge the largest images by this whole factor.
    """
    drawn_rows = [(title, None if images is None else _cells(images, 1)) for title, images in pictures]
    present = [cells for _, cells in drawn_rows if cells is not None]
    if not present:
        raise UsageError("no row has images to show", hint="train one of the runs until it has weights")
    side = max(max(cells.shape[1:3]) for cells in present) * zoom
    count = max(len(captions or ()), *(len(cells) for cells in present))
    font = _font(side)
    drawn_rows = [(fit(title, 5 * side + 160, font), cells) for title, cells in drawn_rows]
    title_width = math.ceil(max(font.getlength(title) for title, _ in drawn_rows)) + 14
    top = _line_height(font) if captions else 0
    drawn = _sheet(title_width + count * (side + gap) - gap, top + len(drawn_rows) * (side + gap) - gap)
    pen = ImageDraw.Draw(drawn)
    for column, caption in enumerate(captions or ()):
        x = title_width + column * (side + gap) + side / 2
        pen.text((x, 1), fit(caption, side, font), fill=INK, font=font, anchor="ma")
    for row, (title, cells) in enumerate(drawn_rows):
        y = top + row * (side + gap)
        pen.text((title_width - 8, y + side / 2), title, fill=INK, font=font, anchor="rm")
        for column in range(count):
            x = title_width + column * (side + gap)
            if cells is None or column >= len(cells):
                pen.rectangle((x, y, x + side - 1, y + side - 1), fill=BLANK)
            else:
                drawn.paste(*_centered(cells[column], side, x, y))
    return drawn


def thumbnail(image: np.ndarray, side: int = 256) -> np.ndarray:
    """Scale a picture, uint8 (H, W, 3), down to at most `side` pixels a side; a smaller one stays as it is."""
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def pairs(
    named: Sequence[tuple[np.ndarray, np.ndarray, str]],
    *,
    gap: int = 2,
    titles: tuple[str, str] = ("before", "after"),
) -> Image.Image:
    """Lay out pairs of pictures, uint8 (H, W, 3) of any sizes, side by side under their titles, with a name below.

    Small pictures are enlarged by a whole factor, so that all cells are about as large; the sheet is about as wide as tall.
    """
    if not named:
        raise UsageError("there are no pictures to lay out", hint="translate at least one")
    side = max(128, max(max(image.shape[:2]) for before, after, _ in named for image in (before, after)))
    font = _font(side)
    line, apart = _line_height(font), 10 * gap
    columns = min(max(round(math.sqrt(len(named) * 0.65)), 1), len(named))
    width, height = 2 * side + gap, side + line
    tall = line + math.ceil(len(named) / columns) * (height + gap) - gap
    drawn = _sheet(columns * (width + apart) - apart, tall)
    pen = ImageDraw.Draw(drawn)
    for i, (before, after, name) in enumerate(named):
        x, y = i % columns * (width + apart), line + i // columns * (height + gap)
        if i < columns:
            pen.text((x + side / 2, 1), titles[0], fill=INK, font=font, anchor="ma")
            pen.text((x + side * 1.5 + gap, 1), titles[1], fill=INK, font=font, anchor="ma")
        drawn.paste(*_centered(before, side, x, y))
        drawn.paste(*_centered(after, side, x + side + gap, y))
        pen.text((x + width / 2, y + side + 1), fit(name, width, font), fill=INK, font=font, anchor="ma")
    return drawn


def png(image: Image.Image, text: Mapping[str, str] | None = None) -> bytes:
    """Code the image as PNG, with text chunks by keyword; the same pixels and text give the same bytes with the same Pillow."""
    buffer = BytesIO()
    image.save(buffer, "PNG", pnginfo=png_text(text or {}))
    return buffer.getvalue()


def png_text(text: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    """Text chunks by keyword, as Pillow writes them."""
    chunks = PngImagePlugin.PngInfo()
    for keyword, words in text.items():
        chunks.add_text(keyword, words)
    return chunks


def save(image: Image.Image, path: Path) -> Path:
    """Write a PNG whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.write_bytes(path, png(image))
    return path


def fit(text: str, width: float, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """Cut `text` with an ellipsis so that it is at most `width` pixels wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…" if text else ""


def _cells(images: np.ndarray, zoom: int) -> np.ndarray:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"expected uint8 images (n, H, W, 3), got {images.dtype} {images.shape}")
    if not len(images):
        raise UsageError("there are no images to lay out", hint="ask for at least one, such as `--n 1`")
    return images.repeat(zoom, axis=1).repeat(zoom, axis=2) if zoom > 1 else images


def _centered(cell: np.ndarray, side: int, x: int, y: int) -> tuple[Image.Image, tuple[int, int]]:
    """A cell enlarged by the largest whole factor that fits a square of `side`, and where it goes."""
    factor = max(1, side // max(cell.shape[:2]))
    picture = Image.fromarray(cell.repeat(factor, axis=0).repeat(factor, axis=1))
    return picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2)


def _sheet(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (max(width, 1), max(height, 1)), PAPER)


def _font(width: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own font, sized for captions under cells of this width."""
    return ImageFont.load_default(size=min(max(width // 7, 9), 18))


def _line_height(font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> int:
    return math.ceil(getattr(font, "size", 10) * 1.35) + 2


def tile(sheet: Image.Image, index: int, size: int, *, count: int, gap: int = 2) -> np.ndarray:
    """Cut image `index` out of a `grid` of `count` images of `size` pixels: uint8 (size, size, 3)."""
    columns = min(math.ceil(math.sqrt(count)), count)
    x, y = index % columns * (size + gap), index // columns * (size + gap)
    return np.asarray(sheet.convert("RGB").crop((x, y, x + size, y + size)))
