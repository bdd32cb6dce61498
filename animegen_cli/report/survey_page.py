"""The page that asks people: one HTML file with its images, style and script inside, which sends nothing anywhere."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from animegen_cli.report import html

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
    asked = [dict(block) | _WORDS[block["question"]] for block in blocks]
    total = sum(block["count"] + len(block["more"]) for block in blocks)
    return html.render(
        "survey.html",
        style=html.file("survey.css"),
        script=html.file("survey.js"),
        total=total,
        minutes=max(round(total * _SECONDS_PER_PAIR / 60), 1),
        data={"survey": survey, "blocks": asked, "images": [_address(image) for image in images]},
    )


def _address(image: bytes) -> str:
    kind = "webp" if image[8:12] == b"WEBP" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
