"""The names of folders that state what pictures are for: `train/`, `test/`, `val/`, and CycleGAN's `trainA/`, `testB/`."""

from __future__ import annotations

import re
from typing import NamedTuple

NONE, TRAIN, VAL, TEST = -1, 0, 1, 2
"""What a picture is stated to be for; CelebA's numbers."""
KINDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation"), VAL),
    **dict.fromkeys(("test", "testing", "eval"), TEST),
}
"""The words that name parts, in lower case."""
COLUMNS = frozenset(("split", "partition", "subset"))
"""Columns of tables, in lower case, that are no labels where all their values name parts."""
_PART = re.compile(rf"({'|'.join(sorted(KINDS, key=len, reverse=True))})(?:[_-]?([ab]))?", re.IGNORECASE)


class PartName(NamedTuple):
    """What the name of a folder states."""

    kind: int
    """`TRAIN`, `VAL` or `TEST`."""
    half: str
    """`A` or `B`, the half of a set in CycleGAN's form; empty for others."""


def read(name: str) -> PartName | None:
    """What a folder of this name states; None for one that states nothing."""
    found = _PART.fullmatch(name)
    return PartName(KINDS[found[1].lower()], (found[2] or "").upper()) if found else None


def part_of(folder: str) -> tuple[str, PartName] | None:
    """The innermost folder on a way, with `/`, that states a part, and what it states."""
    return next(((name, found) for name in reversed(folder.split("/")) if (found := read(name))), None)


def half_of(name: str) -> str:
    """`A` or `B` for a file below CycleGAN's `trainA/`, `testB/` and so on; empty for others."""
    found = part_of(name.rpartition("/")[0])
    return found[1].half if found else ""
