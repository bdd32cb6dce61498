"""The sheet beside a data set file that shows pictures with the boxes of the faces that were found in them."""

from __future__ import annotations

import hashlib
import heapq
import io
from typing import TYPE_CHECKING

from PIL import Image

from animegen_cli.prepare import contact_sheet
from animegen_cli.prepare.faces import OVERVIEW

if TYPE_CHECKING:
    from pathlib import Path

_COLUMNS = 6
_WITH, _WITHOUT = 36, 12  # pictures that are shown


class BoxesSheet:
    """Collects small pictures, and draws those whose names hash lowest: a fair choice that the order does not change."""

    def __init__(self) -> None:
        self._chosen: dict[bool, list[tuple[int, str, bytes]]] = {True: [], False: []}
        self.pictures = 0
        """How many pictures were looked at."""
        self.empty: list[str] = []
        """The names of those in which no face was found."""

    def add(self, name: str, overview: bytes, *, found: bool) -> None:
        """Offer a picture, a small JPEG; `found` says whether a face was found in it."""
        self.pictures += 1
        if not found:
            self.empty.append(name)
        hashed = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        chosen = self._chosen[found]
        heapq.heappush(chosen, (-int.from_bytes(hashed, "little"), name, overview))
        if len(chosen) > (_WITH if found else _WITHOUT):
            heapq.heappop(chosen)

    def draw(self) -> Image.Image:
        """Draw the sheet: pictures with their boxes, then some without a face."""
        rows: list[str | list[Image.Image]] = []
        for found, said in ((True, "pictures with faces"), (False, "pictures without a face")):
            named = sorted(self._chosen[found], key=lambda one: one[1])
            chosen: list[Image.Image] = [Image.open(io.BytesIO(overview)) for _, _, overview in named]
            count = self.pictures - len(self.empty) if found else len(self.empty)
            if count:
                rows.append(f"{len(chosen)} of {count} {said}")
                rows += [chosen[start : start + _COLUMNS] for start in range(0, len(chosen), _COLUMNS)]
        return contact_sheet.lay_out(rows, columns=_COLUMNS, side=OVERVIEW)


def path_of(out: Path) -> Path:
    """Name the sheet of a data set file: `faces.boxes.png` beside `faces.zip`."""
    return out.with_name(f"{out.stem}.boxes.png")
