"""Class folders: each picture's class is the folder that it lies in."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from animegen_cli.data import part_names
from animegen_cli.data.labels.labels import Labels, in_order, most_values, too_many
from animegen_cli.data.labels.records import Unread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.data.sources import Source

_SMALLEST_SHELF = 50  # pictures, where only their equal count and their order speak for shelves
_SHELF_SIZES = (100, 1000, 10_000)


def class_folders(source: Source, *, asked: bool) -> Labels:
    """Give the class of each picture.

    Args:
        source: whose folders these are.
        asked: whether a person says that they are classes; else numbered folders that were merely filled one after the
            other, as in a large collection, are none.

    Raises:
        Unread: they are no classes; the text is the reason.
    """
    names = source.members.names
    parents = ["/".join(part for part in name.split("/")[:-1] if part_names.read(part) is None) for name in names]
    common = _common(parents)
    classes = [parent[len(common) :].strip("/") for parent in parents]
    found = set(classes)
    if len(found) < 2:
        raise Unread("all pictures lie in one folder")
    if "" in found:
        loose = classes.count("")
        raise Unread(f"{loose:,} of {len(classes):,} pictures lie in none of them")
    if len(found) > len(classes) / 2:
        raise Unread(f"{len(found):,} folders hold {len(classes):,} pictures, fewer than two each")
    if len(found) > most_values(len(classes)):
        raise Unread(f"they are {too_many(f'{len(found):,} classes', len(classes))}")
    if not asked and _are_shelves(classes, names):
        first = sorted(found)[:2]
        raise Unread(
            f"{', '.join(first)}, ... are numbered and look like shelves of a large collection: `--labels folders` takes "
            "them as classes"
        )
    values = in_order(found)
    places = {value: place for place, value in enumerate(values)}
    rows = np.array([[places[name]] for name in classes], np.int16)
    return Labels({"class": values}, rows, "class folders", len(classes))


def _common(parents: Sequence[str]) -> str:
    """The folders that all names begin with."""
    if not parents:
        return ""
    first, last = min(parents).split("/"), max(parents).split("/")
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    return "/".join(first[:shared])


def _are_shelves(classes: Sequence[str], names: Sequence[str]) -> bool:
    """Whether folders have padded numbers, and the numbers of the pictures say in which folder each lies.

    Danbooru's 0123 holds 1123.jpg, 2123.jpg, ...; FFHQ's 01000 and StyleGAN's 00001 hold the numbers 1000 to 1999. Elsewhere the
    numbers of the pictures rise through the folders, and all but the last hold the same count.
    """
    found = sorted(set(classes))
    if not all(name.isdecimal() for name in found) or not any(re.match(r"0\d\d|\d{5}", name) for name in found):
        return False
    numbers = [re.findall(r"\d+", name.rpartition("/")[2]) for name in names]
    if not all(numbers):
        return False
    pictures, folders = (
        np.array([int(some[-1]) for some in numbers], object),
        np.array([int(one) for one in classes], object),
    )
    for size in _SHELF_SIZES:
        for told in (pictures % size, pictures // size, pictures // size * size):
            if np.mean(told == folders) > 0.9:
                return True
    ordered = sorted(zip(folders, pictures, strict=True))
    rising = all(a[1] < b[1] for a, b in pairwise(ordered))
    counts = Counter(classes)
    sizes = {counts[name] for name in found[:-1]}
    return rising and len(sizes) == 1 and min(sizes) >= _SMALLEST_SHELF
