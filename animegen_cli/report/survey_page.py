"""The page that asks people: one HTML file with its images, style and script inside, which sends nothing anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import animegen_cli
from animegen_cli.report.markup import Markup, el

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WORDS = {
    "realism": {
        "ask": "Which one looks more like a real anime face?",
        "hint": "Look at eyes, mouth, hair and outline: which could an artist have drawn?",
    },
    "diversity": {
        "ask": "Which set shows more different faces?",
        "hint": "Compare hair, eyes, pose and colors, not how well the faces are drawn.",
    },
}
_SECONDS_PER_PAIR = 5


def page(survey: str, blocks: Sequence[Mapping[str, Any]], images: Sequence[bytes]) -> str:
    """Write the page.

    Args:
        survey: the id that votes carry.
        blocks: of each question: `question`, `count` of comparisons per rater, `groups` of comparisons `[id, a, b]` with
            a and b lists of image numbers, and `more`, all of which are asked as well.
        images: PNG or WebP files.
    """
    style, script = (
        Path(__file__).with_name(f"survey.{kind}").read_text(encoding="utf-8").strip() for kind in ("css", "js")
    )
    asked = [dict(block) | _WORDS[block["question"]] for block in blocks]
    data = {"survey": survey, "blocks": asked, "images": [_address(image) for image in images]}
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="referrer", content="no-referrer"),
        el("meta", name="generator", content=f"animegen {animegen_cli.__version__}"),
        el("title", "Which picture is better?"),
        el("style", Markup(style)),
    )
    total = sum(block["count"] + len(block["more"]) for block in blocks)
    body = el(
        "body",
        el("main", _start(total), _pause(), _trial(), _end(), el("p", id="said", class_="unseen", role="status")),
        el("noscript", el("p", "This page needs JavaScript.")),
        el("script", _inside_script(data), type="application/json", id="data"),
        el("script", Markup(script)),
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def _start(total: int) -> Markup:
    minutes = max(round(total * _SECONDS_PER_PAIR / 60), 1)
    return el(
        "section",
        el("h1", "Which picture is better?", tabindex=-1),
        el("p", f"You will see {total} pairs of pictures, one after the other, and say which of the two is better. ",
           f"It takes about {minutes} minute{'s' * (minutes > 1)}. There are no right answers: your first impression counts."),
        el("ul",
           el("li", "Click or tap the better picture, or press ", el("kbd", "←"), " or ", el("kbd", "→"),
              " (also ", el("kbd", "1"), " and ", el("kbd", "2"), ")."),
           el("li", "No difference: the button below the pictures, or ", el("kbd", "0"), "."),
           el("li", "Changed your mind: “Back”, or ", el("kbd", "Backspace"), ".")),
        el("p", "Taking part is voluntary, and you may stop at any time. The page sends nothing. Your answers stay in this "
           "browser under a random number until you save them as a file at the end and hand it over; your name, address "
           "or anything else about you is not in it.", class_="soft"),
        el("p", el("button", "Start", id="begin", type="button", class_="main")),
        id="start",
    )  # fmt: skip


def _pause() -> Markup:
    return el(
        "section",
        el("h2", "Now another question", tabindex=-1),
        el("p", id="next-ask", class_="ask"),
        el("p", id="next-hint", class_="soft"),
        el("p", el("button", "Go on", id="go-on", type="button", class_="main")),
        id="pause", hidden=True,
    )  # fmt: skip


def _trial() -> Markup:
    sides = [
        el("button", el("span", class_="picture"), el("kbd", key, aria_hidden="true"), id=side, type="button",
           class_="side", aria_label=f"The {name} one")
        for side, key, name in (("left", "1", "first"), ("right", "2", "second"))
    ]  # fmt: skip
    return el(
        "section",
        el("h2", id="ask", tabindex=-1, class_="ask"),
        el("p", id="hint", class_="soft"),
        el("div", *sides, class_="sides", role="group", aria_labelledby="ask"),
        el("div",
           el("button", "Back", id="undo", type="button"),
           el("button", "No difference ", el("kbd", "0", aria_hidden="true"), id="tie", type="button"),
           el("button", "Stop here", id="stop", type="button"), class_="row"),
        el("div", el("progress", id="progress", value=0, max=1, aria_label="Progress"), el("span", id="count"),
           class_="row soft"),
        el("p", "This browser does not let the page remember your answers: do not reload it before you have saved them.",
           id="forgetful", class_="soft", hidden=True),
        id="trial", hidden=True,
    )  # fmt: skip


def _end() -> Markup:
    return el(
        "section",
        el("h2", "Thank you!", tabindex=-1),
        el("p", id="summary"),
        el("p", el("button", "Save the answers", id="save", type="button", class_="main")),
        el("p", "Please hand the saved file to whoever asked you. Where saving does not work, copy this text:", class_="soft"),
        el("textarea", id="csv", readonly=True, rows=6, spellcheck="false", aria_label="The answers as text"),
        el("div", el("button", "Back to the pairs", id="back", type="button"),
           el("button", "Another person", id="again", type="button"), class_="row"),
        el("p", "Another person: forgets these answers and starts anew. ", el("strong", "Save them first."), class_="soft"),
        id="end", hidden=True,
    )  # fmt: skip


def _address(image: bytes) -> str:
    kind = "webp" if image[8:12] == b"WEBP" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _hash(text: str) -> str:
    """What a Content-Security-Policy calls an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _inside_script(data: Mapping[str, object]) -> Markup:
    """JSON that no text inside can leave: `<` starts neither an end tag nor a comment."""
    return Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))
