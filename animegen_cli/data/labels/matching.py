"""Finds the pictures that a table means: names match where they differ in harmless ways and one picture fits best.

Harmless are Unicode's two ways to write an accent (NFC and NFD: a Mac writes the second), case, another ending or none,
leading zeros, `\\` for `/`, `./` and folders that one side lacks.
"""

from __future__ import annotations

import posixpath
import re
from copy import copy
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import normalize
from urllib.parse import unquote, urlsplit

from animegen_cli.data.pictures import PICTURES

if TYPE_CHECKING:
    from collections.abc import Iterable

NONE, AMBIGUOUS = -1, -2
"""Places of names that no picture, or several equally well, answer to."""
_LONGEST = 1000  # characters: no name is longer, and captions are cells too


class Match(NamedTuple):
    """The place of a picture among the members, or `NONE` or `AMBIGUOUS`; and how well its name fits."""

    place: int
    quality: int
    """4: the same path, 3: the same name, 2: another ending or none, 1: other leading zeros; 0: no picture."""


_NO_MATCH = Match(NONE, 0)


class Names:
    """The names of all pictures of a source, made once: a look-up takes the same time however many there are."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._paths = {name: place for place, name in enumerate(self._names)}
        self._stems: dict[str, list[int] | int] = {}
        for place, name in enumerate(self._names):
            _add(self._stems, split(folded(name.rpartition("/")[2]))[0], place)
        self._zeroless: dict[str, list[int] | int] = {}
        self.folder = ""
        """Where the table lies whose cells are looked up."""

    def within(self, folder: str) -> Names:
        """Give the same names as a table in `folder` of the source sees them: its paths may start there."""
        view = copy(self)
        view.folder = folder
        return view

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, place: int) -> str:
        return self._names[place]

    def find(self, cell: str) -> Match:
        """Give the picture that a cell names: by a path or a name, with or without its ending."""
        name = cell.strip().strip("\"'").replace("\\", "/")
        if not name or len(name) > _LONGEST:
            return _NO_MATCH
        folder = self.folder
        if folder and (place := self._paths.get(posixpath.normpath(f"{folder}/{name}"))) is not None:
            return Match(place, 4)
        if (place := self._paths.get(name.removeprefix("./"))) is not None:
            return Match(place, 4)
        if "://" in name:
            name = urlsplit(name).path
        found = self._loose(name)
        if found.place == NONE and "%" in name:
            found = self._loose(unquote(name))
        return found

    def _loose(self, said: str) -> Match:
        name = folded(said)
        base = name.rpartition("/")[2]
        stem = split(base)[0]
        if not stem:
            return _NO_MATCH
        quality = 3
        places = self._stems.get(stem)
        if places is None:
            if not self._zeroless:
                for known, at in self._stems.items():
                    for place in [at] if isinstance(at, int) else at:
                        _add(self._zeroless, _without_zeros(known), place)
            places = self._zeroless.get(_without_zeros(stem))
            quality = 1
        if places is None:
            return _NO_MATCH
        if not isinstance(places, int):
            ranked = sorted((_likeness(said, self._names[place], self.folder), place) for place in places)
            if ranked[-1][0] == ranked[-2][0]:
                return Match(AMBIGUOUS, 0)
            places = ranked[-1][1]
        if quality == 3 and folded(self._names[places].rpartition("/")[2]) != base:
            quality = 2
        return Match(places, quality)


def folded(name: str) -> str:
    """Give a name in one case and in Unicode's composed form (NFC)."""
    if name.isascii():
        return name.lower()
    return normalize("NFC", normalize("NFC", name).casefold())


def split(base: str) -> tuple[str, str]:
    """Split a name in lower case into its stem and the ending of a picture: `1.5` has none."""
    stem, dot, ending = base.rpartition(".")
    return (stem, dot + ending) if dot + ending in PICTURES and stem else (base, "")


def _add(table: dict[str, list[int] | int], key: str, place: int) -> None:
    """Most keys have one place, which needs no list."""
    known = table.setdefault(key, place)
    if known is place:
        return
    if isinstance(known, int):
        table[key] = [known, place]
    else:
        known.append(place)


def _without_zeros(stem: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", stem)


def _likeness(said: str, picture: str, folder: str) -> tuple[int, bool, int, bool]:
    """How many folders both end in, whether the endings agree, the folders again below the table's, and the case."""
    name, other = folded(said), folded(picture)
    return (
        _shared_folders(name, other),
        split(name)[1] == split(other)[1],
        _shared_folders(f"{folded(folder)}/{name}", other),
        said.rpartition("/")[2] == picture.rpartition("/")[2],
    )


def _shared_folders(one: str, other: str) -> int:
    count = 0
    for a, b in zip(one.split("/")[-2::-1], other.split("/")[-2::-1], strict=False):
        if a != b:
            break
        count += 1
    return count
