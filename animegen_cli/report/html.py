"""Pages from the templates beside this file: text is escaped unless it is markup, and what a template lacks is an error."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

import animegen_cli

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent


def render(template: str, **values: object) -> str:
    """Write a template of `templates/` with these values."""
    return _environment().get_template(template).render(version=animegen_cli.__version__, **values)


def file(name: str) -> Markup:
    """A style or script beside this file, to stand inside a page as it is."""
    return Markup((_HERE / name).read_text(encoding="utf-8").strip())


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_without_controls,
    )  # fmt: skip
    made.filters |= {"code": _with_code, "hash": _hash, "inside_script": _inside_script}
    return made


def _without_controls(value: object) -> object:
    """Text without the characters that a page may not hold, not even escaped."""
    return (
        re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", value)
        if type(value) is str
        else value
    )


def _with_code(text: str) -> Markup:
    """A sentence with what stands between backticks as code."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # one of them is part of a name
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def _hash(text: str) -> str:
    """What a Content-Security-Policy calls an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _inside_script(data: object) -> Markup:
    """JSON that no text inside can leave: `<` starts neither an end tag nor a comment."""
    return Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))
