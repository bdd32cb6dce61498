"""Near-duplicates between the training and the testing part of a set: counted, and shown on a sheet beside it.

What leaks so is scored as if it had been held out, and makes memorizing look like learning.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from animegen_cli import console
from animegen_cli.data import cleaning, near_duplicates, reading, sources, splits
from animegen_cli.data.reading import Reader
from animegen_cli.data.sources import DOMAINS, Unusable
from animegen_cli.errors import DataError
from animegen_cli.prepare import contact_sheet, faces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from animegen_cli.data.cleaning import Cleaned, Rejected
    from animegen_cli.data.sources import Source

SHOWN = 60
"""At most so many pairs are on the sheet."""
_COLUMNS, _CELL, _GAP, _LINE = 6, 64, 4, 18  # pairs of a row; pixels a side, between them, and of a line of text
_RECIPE = cleaning.Recipe(size=_CELL, min_size=1)


@dataclass(frozen=True)
class Checked:
    """What leaks between the parts of a set."""

    about: dict[str, Any]
    """Counts, for each domain: `images`, `train`, `test`, `leaks`, `mirrored`, and `pairs` of names."""
    sheet: Path | None
    """The sheet of the pairs; None without any, and where it could not be written."""


def path_of(path: Path) -> Path:
    """Name the sheet of a set: `faces.leaks.png` beside `faces.zip` or `faces/`."""
    path = path.resolve() if path.name in ("", "..") else path
    return path.with_name(f"{sources.stem(path)}.leaks.png")


def check(path: Path) -> Checked:
    """Look for near-duplicates, mirrored too, between the parts that a set states: a data set file, an archive or a folder.

    Raises:
        DataError: there is no such set, it states no parts for training and testing, or no picture of it can be read.
    """
    found: dict[str, dict[str, Any]] = {}
    shown: list[tuple[bytes, bytes, bool]] = []
    for domain in _domains(path):
        whole = sources.find([str(path)], downloads=path.parent, domain=domain or None)
        given, _ = splits.given(whole)
        if given is None:
            continue
        about, pairs = _check(whole, np.concatenate(given.test))
        found[domain] = {"parts": given.counts, **about}
        shown += pairs[: SHOWN - len(shown)]
    if not found:
        raise DataError(
            f"{path} states no parts for training and testing, so nothing can leak between them",
            hint=f"make a set with both: `animegen prepare {path}`",
        )
    total = sum(about["leaks"] for about in found.values())
    about = {"path": str(path), **(found[""] if list(found) == [""] else {"leaks": total, "by_domain": found})}
    return Checked(about, save(shown, total, path) if shown else None)


def pairs_of(read: Callable[[int], bytes], leaks: Sequence[tuple[int, int, bool]]) -> list[tuple[bytes, bytes, bool]]:
    """The pictures of some leaks, for the sheet: for testing, for training, and whether only mirror images are near."""
    return [(read(test), read(train), mirrored) for test, train, mirrored in leaks[:SHOWN]]


def save(pairs: Sequence[tuple[bytes, bytes, bool]], total: int, path: Path) -> Path | None:
    """Draw the sheet of the pairs, of `total` ones, beside a set; a warning where it cannot be written."""
    out = path_of(path)
    try:
        contact_sheet.save(_draw(pairs, total), out)
    except OSError as error:
        console.warn(f"the sheet of what leaks was not written: {error.strerror}")
        return None
    return out


def _draw(pairs: Sequence[tuple[bytes, bytes, bool]], total: int) -> Image.Image:
    width, height = 2 * _CELL + 3 * _GAP, _CELL + _LINE
    rows = -(-len(pairs) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * width + _GAP, _LINE + rows * height + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    said = f"{len(pairs)} of {total} images for testing, each beside a near-duplicate that is for training"
    pen.text((_GAP, _GAP // 2), said, fill="black", font=font)
    for number, (test, train, mirrored) in enumerate(pairs):
        left, top = _GAP + number % _COLUMNS * width, _LINE + number // _COLUMNS * height
        for place, data in enumerate((test, train)):
            with Image.open(io.BytesIO(data)) as image:
                cell = image.convert("RGB").resize((_CELL, _CELL), Image.Resampling.LANCZOS)
            sheet.paste(cell, (left + place * (_CELL + 1), top))
        if mirrored:
            pen.text((left, top + _CELL), "mirrored", fill="black", font=font)
    return sheet


def _domains(path: Path) -> Sequence[str]:
    """The domains of a set, or an empty name for a set of one."""
    return DOMAINS if sources.has_two_domains(sources.listed(path)) else ("",)


def _check(found: Sequence[Source], test: np.ndarray) -> tuple[dict[str, Any], list[tuple[bytes, bytes, bool]]]:
    """Count what leaks between the members of sources, `test` (n,) bool; and the first pairs, as pictures."""
    finder = near_duplicates.Finder(len(test))
    read: list[int] = []
    with console.progress("checking", len(test)) as bar:
        for number, image in _pictures(found, range(len(test))):
            bar.advance(1)
            if isinstance(image, cleaning.Cleaned):
                finder.add(image.fingerprint)
                read.append(number)
    is_test = test[read]
    leaks = [(read[a], read[b], mirrored) for a, b, mirrored in finder.leaks(is_test)]
    names = [name for source in found for name in source.members.names]
    about = {
        "images": len(read),
        "train": int((~is_test).sum()),
        "test": int(is_test.sum()),
        "leaks": len(leaks),
        "mirrored": sum(mirrored for _, _, mirrored in leaks),
        "pairs": [{"test": names[a], "train": names[b], "mirrored": mirrored} for a, b, mirrored in leaks],
    }
    wanted = sorted({number for leak in leaks[:SHOWN] for number in leak[:2]})
    pngs = {number: image.png for number, image in _pictures(found, wanted) if image.png is not None}
    return about, pairs_of(pngs.__getitem__, leaks)


def _pictures(found: Sequence[Source], wanted: Sequence[int]) -> Iterator[tuple[int, Cleaned | Rejected]]:
    """Read the members of sources with these ascending numbers, which count over all: squares of 64 pixels."""
    reader = Reader()
    chosen = np.asarray(wanted, np.int64)
    first = 0
    for source in found:
        numbers = chosen[(chosen >= first) & (chosen < first + len(source.members))].tolist()
        if source.kind == "stream":
            number_of = {source.members[number - first]: number for number in numbers}
            for member, data in reading.stream(source, number_of):
                yield number_of[member], faces.see(data, _RECIPE, None).results[0]
        else:
            for number in numbers:
                try:
                    data = reader.read(source.kind, str(source.path), source.members[number - first])
                    yield number, faces.see(data, _RECIPE, None).results[0]
                except Unusable as error:
                    yield number, cleaning.Rejected(str(error))
        first += len(source.members)
