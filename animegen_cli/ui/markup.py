"""HTML and SVG written as nested calls; text is escaped unless it is markup already."""

from __future__ import annotations

import html
import re

_VOID = {"br", "col", "hr", "img", "input", "link", "meta"}
_LEAVES = {"circle", "line", "path", "polyline", "rect"}
# XML knows no way to write these characters, not even escaped.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is HTML or SVG already and is not escaped again."""

    __slots__ = ()


def escape(text: object) -> Markup:
    """Write `text` so that it may stand between tags and inside quoted attributes."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", str(text))))


def el(tag: str, *children: object, **attributes: object) -> Markup:
    """Write one element. `class_` and `stroke_width` become `class` and `stroke-width`; None children and attributes
    are left out, True is a bare attribute, numbers are written with at most two decimals."""
    written = "".join(
        f" {_name(key)}" if value is True else f' {_name(key)}="{escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    inside = "".join(escape(child) for child in children if child is not None)
    if tag in _LEAVES and not inside:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{inside}</{tag}>")


def join(*parts: object) -> Markup:
    """Set parts one after another; None is left out."""
    return Markup("".join(escape(part) for part in parts if part is not None))


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _number(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
