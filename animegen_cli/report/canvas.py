"""A plot as a list of shapes on a canvas, written as SVG or drawn as pixels from the same list.

Lengths and positions are in SVG's units, from the upper left corner, y downwards. Pixels come from Pillow and the font
inside it: no further library, and none of the machine's fonts, without which SVG converters write no text at all.
Letters that this font lacks (such as kana) become boxes; the SVG keeps them.
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
"""Pixels are drawn this many times finer than they are written, which smooths edges."""
_STYLE = Markup(
    "<style>svg:root{color:#26262a;background:#fff}"
    "@media(prefers-color-scheme:dark){svg:root{color:#e2e2e8;background:#17181c}}</style>"
)

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A straight line. Without a `color`, here and below, a shape takes the color of the text.

    `opacity` lies in [0, 1]; `dash` is SVG's `stroke-dasharray`, such as `7 3`, and None makes a solid line.
    """

    start: Point
    end: Point
    opacity: float = 1.0
    width: float = 1.0
    color: str | None = None
    dash: str | None = None


@dataclass(frozen=True)
class Polyline:
    """A line through points; the other fields are those of `Line`."""

    points: Sequence[Point]
    color: str | None = None
    width: float = 1.7
    opacity: float = 1.0
    dash: str | None = None


@dataclass(frozen=True)
class Circle:
    """A filled circle around `at`; `description` is what a reader sees who points at it."""

    at: Point
    radius: float
    color: str
    description: str = ""


@dataclass(frozen=True)
class Rectangle:
    """A filled rectangle, given by its upper left corner."""

    corner: Point
    width: float
    height: float
    color: str | None = None
    opacity: float = 1.0
    description: str = ""


@dataclass(frozen=True)
class Text:
    """A line of text whose baseline passes through `at`; a `turned` one reads upwards, around its middle."""

    text: str
    at: Point
    anchor: Literal["start", "middle", "end"] = "start"
    size: float = 12
    bold: bool = False
    turned: bool = False


Shape = Line | Polyline | Circle | Rectangle | Text


@dataclass(frozen=True)
class Drawing:
    """A finished plot: its title, what it shows in words, and its shapes on a canvas of `size` (width, height)."""

    title: str
    description: str
    size: tuple[int, int]
    shapes: tuple[Shape, ...]


def cut(text: str, letters: int) -> str:
    """Shorten text to at most so many letters, the last of which is then an ellipsis."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


# ---- SVG --------------------------------------------------------------------------------------------------------


def svg(drawing: Drawing, *, alone: bool = True) -> Markup:
    """Write the drawing as SVG. A file of its own follows the reader's color scheme; inside a page (`alone` False) the
    drawing takes the page's text color."""
    width, height = drawing.size
    return el(
        "svg",
        el("title", drawing.title),
        el("desc", drawing.description),
        _STYLE if alone else None,
        *map(_svg_shape, drawing.shapes),
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", width=width, height=height,
        class_="plot", role="img", font_family="system-ui, sans-serif", font_size=12,
    )  # fmt: skip


def _svg_shape(shape: Shape) -> Markup:
    if isinstance(shape, Line):
        (x1, y1), (x2, y2) = shape.start, shape.end
        return el("line", x1=x1, x2=x2, y1=y1, y2=y2, stroke=_svg_color(shape.color), **_stroke(shape))
    if isinstance(shape, Polyline):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        return el("polyline", points=points, fill="none", stroke=_svg_color(shape.color), **_stroke(shape))
    if isinstance(shape, Circle):
        return el("circle", _tooltip(shape), cx=shape.at[0], cy=shape.at[1], r=shape.radius, fill=shape.color)
    if isinstance(shape, Rectangle):
        x, y = shape.corner
        return el(
            "rect", _tooltip(shape), x=x, y=y, width=shape.width, height=shape.height, fill=_svg_color(shape.color),
            fill_opacity=None if shape.opacity == 1 else shape.opacity,
        )  # fmt: skip
    x, y = shape.at
    return el(
        "text", shape.text, x=x, y=y, fill="currentColor",
        text_anchor=None if shape.anchor == "start" else shape.anchor,
        font_size=None if shape.size == 12 else shape.size,
        font_weight=600 if shape.bold else None,
        transform=f"rotate(-90 {x:.1f} {y:.1f})" if shape.turned else None,
    )  # fmt: skip


def _tooltip(shape: Circle | Rectangle) -> Markup | None:
    return el("title", shape.description) if shape.description else None


def _stroke(shape: Line | Polyline) -> dict[str, object]:
    """The attributes of a line that differ from SVG's defaults."""
    return {
        "stroke_width": None if shape.width == 1 else shape.width, "stroke_dasharray": shape.dash,
        "stroke_opacity": None if shape.opacity == 1 else shape.opacity,
        "stroke_linejoin": "round" if isinstance(shape, Polyline) else None,
    }  # fmt: skip


def _svg_color(color: str | None) -> str:
    return color or "currentColor"


# ---- pixels -----------------------------------------------------------------------------------------------------


def pixels(drawing: Drawing, *, scale: int = 2) -> Image.Image:
    """Draw the drawing as RGB pixels on white, `scale` pixels per unit."""
    factor = scale * _FINE
    width, height = drawing.size
    sheet = Image.new("RGB", (width * factor, height * factor), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for shape in drawing.shapes:
        _paint(shape, sheet, pen, factor)
    return sheet.reduce(_FINE)


def _paint(shape: Shape, sheet: Image.Image, pen: ImageDraw.ImageDraw, factor: int) -> None:
    if isinstance(shape, Line | Polyline):
        ends = (shape.start, shape.end) if isinstance(shape, Line) else shape.points
        points = [(x * factor, y * factor) for x, y in ends]
        dashes = [float(length) * factor for length in (shape.dash or "").split()]
        color = _on_paper(shape.color, shape.opacity)
        width = max(round(shape.width * factor), 1)
        for dash in _dashed(points, dashes):
            pen.line(dash, fill=color, width=width, joint="curve")
    elif isinstance(shape, Circle):
        (x, y), radius = shape.at, shape.radius * factor
        box = (x * factor - radius, y * factor - radius, x * factor + radius, y * factor + radius)
        pen.ellipse(box, fill=_on_paper(shape.color, 1))
    elif isinstance(shape, Rectangle):
        x, y = (value * factor for value in shape.corner)
        box = (x, y, x + shape.width * factor, y + shape.height * factor)
        pen.rectangle(box, fill=_on_paper(shape.color, shape.opacity))
    else:
        _paint_text(shape, sheet, pen, factor)


def _paint_text(shape: Text, sheet: Image.Image, pen: ImageDraw.ImageDraw, factor: int) -> None:
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
    left = next(lengths)
    pen_down = True
    piece = [points[0]]
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        length = math.hypot(x2 - x1, y2 - y1)
        drawn = 0.0
        while length - drawn > left:
            drawn += left
            at = (x1 + (x2 - x1) * drawn / length, y1 + (y2 - y1) * drawn / length)
            if pen_down:
                yield [*piece, at]
            left = next(lengths)
            pen_down = not pen_down
            piece = [at]
        left -= length - drawn
        piece.append((x2, y2))
    if pen_down and len(piece) > 1:
        yield piece


def _on_paper(color: str | None, opacity: float) -> tuple[int, ...]:
    """A color of this opacity as it looks on white paper: red, green and blue in 0..255."""
    full = ImageColor.getrgb(color) if color else _TEXT
    return tuple(round(p + (c - p) * opacity) for c, p in zip(full, _PAPER, strict=False))


@functools.lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)
