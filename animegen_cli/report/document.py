"""The HTML around the parts of a page: one file without scripts that asks the network for nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import animegen_cli
from animegen_cli.report.markup import Markup, el

if TYPE_CHECKING:
    from collections.abc import Iterable

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, lead: str, parts: Iterable[Markup | None]) -> str:
    """Write a page of sections (made by `section`), with links to them under its title and a lead sentence."""
    sections = [part for part in parts if part]
    heads = [found.groups() for part in sections if (found := re.match(r'<section id="([^"]+)"><h2>(.*?)</h2>', part))]
    links = [el("li", el("a", Markup(head), href=f"#{anchor}")) for anchor, head in heads]
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
        el(
            "header", el("h1", title), el("p", lead, class_="about"), el("nav", el("ul", *links), aria_label="Contents")
        ),
        el("main", *sections, id="results"),
        el("footer", f"Made by animegen {animegen_cli.__version__}. This file needs nothing else to be read."),
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def section(title: str, *parts: Markup | None) -> Markup | None:
    """Put parts under a heading; None where there are none."""
    inside = [part for part in parts if part]
    return el("section", el("h2", title), *inside, id="-".join(title.lower().split())) if inside else None


def warnings(sentences: Iterable[str], title: str) -> Markup | None:
    """List what a reader should know before believing a page; None where there is nothing."""
    items = [el("li", *_with_code(text)) for text in sentences]
    return el("div", el("p", title), el("ul", *items), class_="warning", role="note") if items else None


def _with_code(text: str) -> list[Markup | str]:
    """A sentence with what stands between backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one of them is part of a name
        return [text]
    return [el("code", part) if place % 2 else part for place, part in enumerate(parts)]


def todo(commands: Iterable[str]) -> Markup | None:
    """Show commands that are still to be typed; None where there are none."""
    lines = list(commands)
    return el("div", el("p", "Not scored yet. Type:"), el("pre", "\n".join(lines), tabindex=0)) if lines else None
