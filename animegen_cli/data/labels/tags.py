"""Tags as Danbooru writes them become attributes: `blue_hair` a value of `hair_color`, a frequent `smile` yes or no.

`tags.csv` beside this file says which tags are values of which attribute. Tags come separated by commas, blanks or line
ends, with blanks or underscores, and as people train adapters with them: `(blue hair:1.2)`, `saber \\(fate\\)`.
"""

from __future__ import annotations

import csv
import re
from array import array
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from animegen_cli.data.labels.labels import Labels, in_order
from animegen_cli.data.labels.records import Unread

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_SHARE, MOST_SHARE = 0.05, 0.95
"""A tag is a yes/no attribute where it is on this share of the tagged pictures: else nearly all have the same value."""
_SHARES = f"{100 * LEAST_SHARE:.0f} to {100 * MOST_SHARE:.0f} %"
MOST = 32
"""How many yes/no attributes there are at most, the most frequent tags."""
_DECIDE = 500  # captions that decide how tags are separated
_VOCABULARY = 200_000  # tags; what is new after so many is not frequent
_WORDS = frozenset(("a", "an", "the", "with", "is", "are", "and", "of", "in", "her", "his"))
"""Words of sentences, which no tag consists of."""
_IN_PHRASES = frozenset(("a", "an", "is", "are", "her", "his", "she"))
"""Words that stand in phrases, and in no tag."""


@cache
def table() -> dict[str, tuple[str, str, int]]:
    """Give attribute, value and rank of each tag in `tags.csv`; of two values in one picture the higher rank counts."""
    with (Path(__file__).parent / "tags.csv").open(encoding="utf-8", newline="") as file:
        return {row["tag"]: (row["attribute"], row["value"], int(row["rank"])) for row in csv.DictReader(file)}


def pieces(caption: str, separator: str) -> list[str]:
    """Split a caption at a separator and at line ends, or (a blank) at any white space."""
    caption = re.sub(r"<[^<>]*>", " ", caption) if "<" in caption else caption  # <lora:name:1>
    if separator == " ":
        return caption.split()
    return [piece for piece in re.split(f"[{separator}\n]", caption) if piece.strip()]


def plain(piece: str) -> str:
    """Give a tag in its plain form: lower case, underscores, without weights and what marks them.

    `(Blue Hair:1.2)` is `blue_hair`, `saber \\(fate\\)` is `saber_(fate)`; a weight may reach over several pieces.
    """
    tag = piece.strip().replace("\\(", "\1").replace("\\)", "\2")
    if not any(character.isalnum() for character in tag):
        return ""
    for opening, closing in ("()", "[]", "{}"):
        while tag.startswith(opening) and (tag.endswith(closing) or tag.count(opening) > tag.count(closing)):
            tag = tag[1:-1] if tag.endswith(closing) else tag[1:]
        while tag.endswith(closing) and tag.count(closing) > tag.count(opening):
            tag = tag[:-1]
    tag = re.sub(r"(?<=\w|[\2)]):[+-]?\d*\.?\d+$", "", tag.strip())
    tag = tag.strip("\"'").replace("\1", "(").replace("\2", ")")
    return re.sub(r"[\s_]+", "_", tag.strip()).strip("_").lower()


class Tags:
    """The tags of pictures, collected one caption after the other; 4 bytes for each tag of a picture."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, str]] = []
        self._separator: str | None = None
        self._numbers: dict[str, int] = {}
        self._of_piece: dict[str, int] = {}
        self._flat, self._pictures = array("i"), array("i")
        self._why_not = ""
        self.count = 0
        """Pictures that have tags."""

    def add(self, place: int, caption: str) -> None:
        """Take the caption of a picture."""
        if not caption.strip():
            return
        self.count += 1
        if self._separator is not None:
            if not self._why_not:
                self._take(place, caption)
            return
        self._waiting.append((place, caption))
        if len(self._waiting) >= _DECIDE:
            self._decide()

    def _decide(self) -> None:
        captions = [caption for _, caption in self._waiting]
        self._separator = separator(captions)
        self._why_not = _why_not(captions, self._separator)
        if not self._why_not:
            for place, caption in self._waiting:
                self._take(place, caption)
        self._waiting.clear()

    def _take(self, place: int, caption: str) -> None:
        numbers = set()
        for piece in pieces(caption, self._separator or ","):
            number = self._of_piece.get(piece)
            if number is None:
                tag = plain(piece)
                number = self._numbers.setdefault(tag, len(self._numbers)) if tag else -1
                if len(self._of_piece) < _VOCABULARY:
                    self._of_piece[piece] = number
                elif number == len(self._numbers) - 1:
                    self._numbers.pop(tag, None)
                    number = -1
            if number >= 0:
                numbers.add(number)
        self._flat.extend(sorted(numbers))
        self._pictures.extend([place] * len(numbers))

    @staticmethod
    def are_in(captions: Sequence[str], least: float = 2) -> bool:
        """Whether cells hold tags: at least so many in each on average, and no sentences or numbers."""
        filled = [caption for caption in captions if caption.strip()]
        if not filled:
            return False
        by = separator(filled)
        if sum(len(pieces(caption, by)) for caption in filled) < least * len(filled):
            return False
        return not _why_not(filled, by)

    def labels(self, members: int) -> Labels:
        """Make attributes of the tags.

        Args:
            members: how many pictures there are at all.

        Raises:
            Unread: the captions hold no tags, or none that tells pictures apart.
        """
        if self._separator is None:
            self._decide()
        if self._why_not:
            raise Unread(self._why_not)
        flat, pictures = np.asarray(self._flat, np.int32), np.asarray(self._pictures, np.int32)
        pairs = np.unique(flat.astype(np.int64) * members + pictures)  # several rows may give a picture one tag
        starts = np.searchsorted(pairs, np.arange(len(self._numbers) + 1) * members)
        of_tags = pairs % members
        having = {tag: of_tags[starts[number] : starts[number + 1]] for tag, number in self._numbers.items()}
        tagged = np.unique(pictures)
        attributes, parts, used = _by_table(having, members)
        frequent = Counter(
            {
                tag: len(where)
                for tag, where in having.items()
                if tag not in used and "=" not in tag and not _IN_PHRASES.intersection(tag.split("_"))
                and max(2, LEAST_SHARE * len(tagged)) <= len(where) <= min(len(tagged) - 2, MOST_SHARE * len(tagged))
            }
        )  # fmt: skip
        chosen = sorted(frequent, key=lambda tag: (-frequent[tag], tag))[:MOST]
        for tag in chosen:
            column = np.full(members, -1, np.int16)
            column[tagged] = 0
            column[having[tag]] = 1
            attributes[tag] = ("no", "yes")
            parts.append(column)
        if not parts:
            some = any(_IN_PHRASES.intersection(tag.split("_")) for tag in having)
            left = ", phrases left out," if some else ""
            raise Unread(
                f"no tag tells pictures apart: of {len(having):,} tags{left} none "
                f"is on {_SHARES} of {len(tagged):,} tagged pictures"
            )
        note = (
            f"tags: {len(attributes) - len(chosen)} attributes by tags.csv; yes/no for {len(chosen)} of {len(having):,} tags, "
            f"those on {_SHARES} of {len(tagged):,} tagged pictures"
            + (f", the {MOST} most frequent of {len(frequent):,}" if len(frequent) > MOST else "")
        )
        return Labels(attributes, np.stack(parts, 1), fits=len(tagged), notes=(note,))


def are_known(cells: Sequence[str]) -> bool:
    """Whether most cells hold several tags, and one of them is in `tags.csv`."""
    by = separator(cells)
    known = 0
    for cell in cells:
        parts = pieces(cell, by)
        known += len(parts) > 1 and any(plain(piece) in table() for piece in parts)
    return known * 2 > len(cells)


def separator(captions: Sequence[str]) -> str:
    """Say what separates the tags of most captions: a comma, a semicolon, a bar, a line end or a blank."""
    for by in (",", ";", "|", "\n"):
        if sum(by in caption.strip() for caption in captions) * 2 >= len(captions):
            return by
    whole = sum(plain(caption) in table() for caption in captions)  # `blue hair` alone is one tag
    return "," if whole * 2 >= len(captions) else " "


def _why_not(captions: Sequence[str], by: str) -> str:
    """Why captions hold no tags; empty where they do."""
    words = [caption.split() for caption in captions]
    numbers = sum(re.fullmatch(r"[-+\d.,e]+", word) is not None for some in words for word in some)
    if numbers * 2 > sum(map(len, words)):
        return "numbers, not tags"
    if by == " ":
        sentences = sum(len(_WORDS.intersection(word.lower() for word in some)) > 0 for some in words)
        if sentences * 4 > len(words):
            return "sentences, not tags"
        return ""
    parts = [piece for caption in captions for piece in pieces(caption, by)]
    if sum(len(piece.split()) for piece in parts) > 4 * len(parts):
        return "sentences, not tags"
    return ""


def _by_table(
    having: dict[str, np.ndarray], members: int
) -> tuple[dict[str, tuple[str, ...]], list[np.ndarray], set[str]]:
    """The attributes of `tags.csv` of which two values occur, their columns, and the tags that these take."""
    found: dict[str, dict[str, list[tuple[int, str]]]] = {}
    for tag, (attribute, value, rank) in table().items():
        if tag in having and len(having[tag]):
            found.setdefault(attribute, {}).setdefault(value, []).append((rank, tag))
    attributes: dict[str, tuple[str, ...]] = {}
    parts: list[np.ndarray] = []
    used: set[str] = set()
    for attribute, by_value in found.items():
        values = in_order(by_value)
        column = np.full(members, -1, np.int16)
        ranked = sorted((rank, tag, values.index(value)) for value, tags in by_value.items() for rank, tag in tags)
        for rank in sorted({rank for rank, _, _ in ranked}):
            level = np.full(members, -1, np.int16)
            for _, tag, number in (one for one in ranked if one[0] == rank):
                where = having[tag]
                level[where] = np.where((level[where] == -1) | (level[where] == number), number, -2)
            column = np.where(level == -1, column, level)
        column[column < 0] = -1  # two colors: which one is not said
        occurring = [number for number in range(len(values)) if (column == number).any()]
        if len(occurring) < 2:
            continue
        lookup = np.full(len(values) + 1, -1, np.int16)
        lookup[occurring] = np.arange(len(occurring))
        attributes[attribute] = tuple(values[number] for number in occurring)
        parts.append(lookup[column])
        used.update(tag for tags in by_value.values() for _, tag in tags)
    return attributes, parts, used
