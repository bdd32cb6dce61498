"""A plot as a list of shapes, written as SVG or drawn as pixels from the same list.

Pixels come from Pillow and the font inside it: no further library, and none of the machine's fonts, without which SVG
converters write no text at all. Letters that this font lacks (such as kana) become boxes; the SVG keeps them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageColor, ImageDraw, ImageFont

from animegen_cli.report.markup import Markup, el

_PAPER, _TEXT = (255, 255, 255), (38, 38, 42)
_FINE = 2
"""Pixels are drawn this much finer than they are kept, which smooths edges."""
_STYLE = Markup(
    "<style>svg:root{color:#26262a;background:#fff}"
    "@media(prefers-color-scheme:dark){svg:root{color:#e2e2e8;background:#17181c}}</style>"
)

Point = tuple[float, float]


@dataclass(frozen=True)
class Rule:
    """A straight line, solid. Without an `ink`, here and below, a shape takes the colour of the text."""

    start: Point
    end: Point
    opacity: float = 1.0
    width: float = 1.0
    ink: str | None = None
    dash: str | None = None


@dataclass(frozen=True)
class Path:
    """A line through points."""

    points: Sequence[Point]
    ink: str | None = None
    width: float = 1.7
    opacity: float = 1.0
    dash: str | None = None


@dataclass(frozen=True)
class Dot:
    """A filled circle; `description` is what a reader sees who points at it."""

    at: Point
    radius: float
    ink: str
    description: str = ""


@dataclass(frozen=True)
class Box:
    """A filled rectangle, given by its upper left corner."""

    corner: Point
    width: float
    height: float
    ink: str | None = None
    opacity: float = 1.0
    description: str = ""


@dataclass(frozen=True)
class Text:
    """A line of text on its baseline; `turned` reads upwards, around its middle."""

    text: str
    at: Point
    anchor: Literal["start", "middle", "end"] = "start"
    size: float = 12
    bold: bool = False
    turned: bool = False


Shape = Rule | Path | Dot | Box | Text


@dataclass(frozen=True)
class Drawing:
    """A finished plot: what it is called, what it shows in words, and its shapes on a sheet of `size`."""

    title: str
    description: str
    size: tuple[int, int]
    shapes: tuple[Shape, ...]


# ---- SVG --------------------------------------------------------------------------------------------------------


def svg(drawing: Drawing, *, alone: bool = True) -> Markup:
    """The drawing as SVG. As a file of its own it follows the reader's colour scheme; inside a page (`alone` False) it
    takes the page's text colour."""
    width, height = drawing.size
    return el(
        "svg",
        el("title", drawing.title),
        el("desc", drawing.description),
        _STYLE if alone else None,
        *map(_written, drawing.shapes),
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", width=width, height=height,
        class_="plot", role="img", font_family="system-ui, sans-serif", font_size=12,
    )  # fmt: skip


def _written(shape: Shape) -> Markup:
    if isinstance(shape, Rule):
        (x1, y1), (x2, y2) = shape.start, shape.end
        return el("line", x1=x1, x2=x2, y1=y1, y2=y2, stroke=_ink(shape.ink), **_line(shape))
    if isinstance(shape, Path):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        return el("polyline", points=points, fill="none", stroke=_ink(shape.ink), **_line(shape))
    if isinstance(shape, Dot):
        description = el("title", shape.description) if shape.description else None
        return el("circle", description, cx=shape.at[0], cy=shape.at[1], r=shape.radius, fill=shape.ink)
    if isinstance(shape, Box):
        description = el("title", shape.description) if shape.description else None
        (x, y), faint = shape.corner, None if shape.opacity == 1 else shape.opacity
        fill = _ink(shape.ink)
        return el("rect", description, x=x, y=y, width=shape.width, height=shape.height, fill=fill, fill_opacity=faint)
    x, y = shape.at
    return el(
        "text", shape.text, x=x, y=y, fill="currentColor",
        text_anchor=None if shape.anchor == "start" else shape.anchor,
        font_size=None if shape.size == 12 else shape.size,
        font_weight=600 if shape.bold else None,
        transform=f"rotate(-90 {x:.1f} {y:.1f})" if shape.turned else None,
    )  # fmt: skip


def _line(shape: Rule | Path) -> dict[str, object]:
    return {
        "stroke_width": None if shape.width == 1 else shape.width, "stroke_dasharray": shape.dash,
        "stroke_opacity": None if shape.opacity == 1 else shape.opacity,
        "stroke_linejoin": "round" if isinstance(shape, Path) else None,
    }  # fmt: skip


def _ink(ink: str | None) -> str:
    return ink or "currentColor"


# ---- pixels -----------------------------------------------------------------------------------------------------


def pixels(drawing: Drawing, *, scale: int = 2) -> Image.Image:
    """The drawing as RGB pixels on white, `scale` times as large as the SVG's units."""
    factor = scale * _FINE
    width, height = drawing.size
    sheet = Image.new("RGB", (width * factor, height * factor), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for shape in drawing.shapes:
        _paint(shape, sheet, pen, factor)
    return sheet.reduce(_FINE)


def _paint(shape: Shape, sheet: Image.Image, pen: ImageDraw.ImageDraw, factor: int) -> None:
    if isinstance(shape, Rule | Path):
        found = (shape.start, shape.end) if isinstance(shape, Rule) else shape.points
        points = [(x * factor, y * factor) for x, y in found]
        colour, width = _colour(shape.ink, shape.opacity), max(round(shape.width * factor), 1)
        for piece in _dashed(points, [float(part) * factor for part in (shape.dash or "").split()]):
            pen.line(piece, fill=colour, width=width, joint="curve")
    elif isinstance(shape, Dot):
        (x, y), radius = shape.at, shape.radius * factor
        box = (x * factor - radius, y * factor - radius, x * factor + radius, y * factor + radius)
        pen.ellipse(box, fill=_colour(shape.ink, 1))
    elif isinstance(shape, Box):
        x, y = (value * factor for value in shape.corner)
        box = (x, y, x + shape.width * factor, y + shape.height * factor)
        pen.rectangle(box, fill=_colour(shape.ink, shape.opacity))
    else:
        _letter(shape, sheet, pen, factor)


def _letter(shape: Text, sheet: Image.Image, pen: ImageDraw.ImageDraw, factor: int) -> None:
    font = _font(round(shape.size * factor))
    x, y = (value * factor for value in shape.at)
    bold = factor / 8 if shape.bold else 0  # Pillow's font has one weight
    if not shape.turned:
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
        pen.text((x, y), shape.text, fill=_TEXT, font=font, anchor=anchor, stroke_width=bold)
        return
    left, top, right, bottom = font.getbbox(shape.text, anchor="ms")
    mask = Image.new("L", (math.ceil(right - left), math.ceil(bottom - top)), 0)
    ImageDraw.Draw(mask).text((-left, -top), shape.text, fill=255, font=font, anchor="ms")
    turned = mask.rotate(90, expand=True)
    sheet.paste(_TEXT, (round(x + top), round(y - turned.height / 2)), turned)


def _dashed(points: Sequence[Point], dash: Sequence[float]) -> Iterator[list[Point]]:
    """The line in one piece, or cut into pieces as SVG's `stroke-dasharray` does."""
    if not dash:
        yield list(points)
        return
    lengths = itertools.cycle([*dash, *dash] if len(dash) % 2 else dash)
    left, inked, piece = next(lengths), True, [points[0]]
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        length, done = math.hypot(x2 - x1, y2 - y1), 0.0
        while length - done > left:
            done += left
            at = (x1 + (x2 - x1) * done / length, y1 + (y2 - y1) * done / length)
            if inked:
                yield [*piece, at]
            left, inked, piece = next(lengths), not inked, [at]
        left -= length - done
        piece.append((x2, y2))
    if inked and len(piece) > 1:
        yield piece


def _colour(ink: str | None, opacity: float) -> tuple[int, ...]:
    """An ink on white paper."""
    full = ImageColor.getrgb(ink) if ink else _TEXT
    return tuple(round(p + (c - p) * opacity) for c, p in zip(full, _PAPER, strict=False))


@functools.lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)
