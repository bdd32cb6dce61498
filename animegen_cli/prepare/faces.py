"""Cuts the faces out of a picture, and notices what a person would not want in a set of faces: `prepare --faces`, `--drop`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from animegen_cli.data import cleaning
from animegen_cli.data.cleaning import Cleaned, Face, Rejected
from animegen_cli.prepare import face_detector, yolo

if TYPE_CHECKING:
    from animegen_cli.data.cleaning import Recipe
    from animegen_cli.prepare.face_detector import Box

MARGIN = 0.3
"""What is added to a face on each side, as a share of the face: hair and chin are seen as in Kaggle's crops."""
MOST = 32
"""Faces that are cut out of one picture, the surest first."""
NOTICED = {"bars": "black bars", "monochrome": "gray or a single tint", "several": "several faces"}
"""What `--drop` may name, and what it means."""
OVERVIEW = 192
"""The longer side in pixels of the small pictures on the sheet of boxes."""

_BLACK = 24  # the brightest level of a bar; JPEG leaves some noise in it
_BRIGHT = 48
_BAR = 0.03  # the least share of the side that is a bar
_EDGE = 0.6  # the share of the row beside a bar that is not black: a bar ends in a straight line, a shadow does not
_GRAY = 3.0  # standard deviation, in levels, of the colors from one line through color space


class Finder(NamedTuple):
    """How faces are looked for."""

    cut: bool
    """Cut them out; else only tell when a picture has several."""
    margin: float = MARGIN
    detector: str | None = None
    """An ONNX file of the YOLO form; by default the package's own detector."""

    def detect(self, image: Image.Image) -> list[Box]:
        """Find the faces of an RGB picture, the surest first; the errors are those of the detectors."""
        if self.detector is None:
            return face_detector.detect(image)
        return yolo.opened(self.detector).detect(image)


class Seen(NamedTuple):
    """What came of one picture."""

    results: list[Cleaned | Rejected]
    """Its images; one for each face where faces are cut out, else one. Reasons stand for those that are left out."""
    size: tuple[int, int] | None = None
    """Its width and height in pixels; None where it could not be decoded."""
    overview: bytes | None = None
    """A small JPEG of it with the boxes of its faces, where faces are cut out."""
    frames: int = 1
    """How many frames or pages its file has; what came of it is of the first."""


def see(data: bytes, recipe: Recipe, finder: Finder | None) -> Seen:
    """Make the images of the set from the bytes of a picture; MachineError when the detector's weights are broken."""
    picture = cleaning.opened(data)
    if isinstance(picture, Rejected):
        return Seen([picture])
    try:
        image = picture.on_white
        if finder is None or not finder.cut:
            return Seen([whole(image, recipe, finder)], image.size, frames=picture.frames)
        results = cut(image, recipe, finder)
        return Seen(results, image.size, _overview(image, results), picture.frames)
    except MemoryError:
        return Seen([Rejected("too many pixels")])


def whole(image: Image.Image, recipe: Recipe, finder: Finder | None = None) -> Cleaned | Rejected:
    """Make the one image of an RGB picture that is not cut; with a `finder` its faces are counted."""
    if min(image.size) < recipe.min_size:
        return cleaning.rejected("too small", image, recipe)
    several = False
    if finder is not None:
        several = len(finder.detect(cleaning.fit_square(image, min(image.size), recipe.fit))) > 1
    return _cleaned(image, recipe, several=several)


def cut(image: Image.Image, recipe: Recipe, finder: Finder) -> list[Cleaned | Rejected]:
    """Make an image for each face of an RGB picture, the surest first; one reason where there is no face."""
    boxes = finder.detect(image)
    if not boxes:
        return [cleaning.rejected("no face found", image, recipe)]
    results: list[Cleaned | Rejected] = []
    for number, box in enumerate(boxes):
        left, top, right, bottom = (round(value) for value in box[:4])
        face = Face((left, top, right, bottom), round(box.score, 3))
        crop = square(box, finder.margin, image.size)
        part = image.crop(crop)
        if number >= MOST:
            results.append(Rejected(f"beyond the {MOST} surest faces of a picture", face=face))
        elif part.width < recipe.min_size:
            results.append(cleaning.rejected("face too small", part, recipe)._replace(face=face))
        else:
            several = sum(_inside(other, crop) for other in boxes) > 1
            results.append(_cleaned(part, recipe, several=several)._replace(face=face))
    return results


def _cleaned(image: Image.Image, recipe: Recipe, *, several: bool) -> Cleaned:
    final = cleaning.fit_square(image, recipe.size, recipe.fit)
    pixels = np.asarray(final)
    found = {"bars": has_bars(pixels), "monochrome": is_monochrome(pixels), "several": several}
    return cleaning.packed(final, pixels)._replace(noticed=tuple(name for name in NOTICED if found[name]))


def square(box: Box, margin: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Choose the square to cut out for a face: left, top, right and bottom in whole pixels, inside the picture.

    Args:
        box: the face.
        margin: what is added on each side, as a share of the face. The square moves up by a third of that, for hair.
        size: width and height of the picture. A square that reaches over its edge is moved inside, or made smaller
            where it does not fit.
    """
    face = max(box.right - box.left, box.bottom - box.top)
    side = min(max(1, round(face * (1 + 2 * margin))), *size)
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2 - face * margin / 3
    left, top = (min(max(0, round(middle - side / 2)), room - side) for middle, room in zip((x, y), size, strict=True))
    return left, top, left + side, top + side


def _inside(box: Box, crop: tuple[int, int, int, int]) -> bool:
    """Whether the middle of a face lies in a crop."""
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    return crop[0] <= x < crop[2] and crop[1] <= y < crop[3]


def has_bars(pixels: np.ndarray) -> bool:
    """Whether RGB pixels, uint8 (H, W, 3), have a black bar along an edge: black rows that end in a straight line."""
    corners = pixels[(0, 0, -1, -1), (0, -1, 0, -1)].max(1)
    if np.count_nonzero(corners <= _BLACK) < 2:  # a black edge ends in two of them
        return False
    bright = pixels.max(2)
    for side in (bright, bright[::-1], bright.T, bright.T[::-1]):
        if side[0].max() > _BLACK:
            continue
        black = side.max(1) <= _BLACK
        if black.all():
            return False  # a black picture
        depth = int(np.argmin(black))
        beyond = side[depth : depth + 2].max(0)  # the first row may be half bar
        if depth >= max(1, _BAR * len(side)) and (beyond > _BRIGHT).mean() >= _EDGE:
            return True
    return False


def is_monochrome(pixels: np.ndarray) -> bool:
    """Whether RGB pixels, uint8 (H, W, 3), hold one ink on one paper: gray, sepia or blue, light and dark."""
    flat = pixels.reshape(-1, 3)
    return all(_off_one_line(flat[:: max(1, len(flat) // most)]) < _GRAY for most in (256, 4096))


def _off_one_line(colors: np.ndarray) -> float:
    """The standard deviation of colors, (n, 3), from the line through color space that is nearest to them.

    Where it is more than `_GRAY`, a lower bound of it that is so too.
    """
    values = colors.astype(np.float64)
    mean = values.sum(0) / len(values)
    covariance = values.T @ values / len(values) - mean[:, None] * mean
    # The variance along the line is at most the Frobenius norm, which is quicker than eigenvalues: most pictures have colors.
    least = covariance.trace() - np.sqrt((covariance * covariance).sum())
    if least <= _GRAY**2:
        least = covariance.trace() - np.linalg.eigvalsh(covariance)[-1]
    return float(np.sqrt(max(least, 0)))


def _overview(image: Image.Image, results: list[Cleaned | Rejected]) -> bytes:
    """Draw a small picture with the boxes of its faces, those that were rejected in gray: a JPEG."""
    scale = min(1.0, OVERVIEW / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.BOX, reducing_gap=2)
    pen = ImageDraw.Draw(small)
    for result in results:
        if result.face is not None:
            color = (230, 30, 30) if isinstance(result, Cleaned) else (150, 150, 150)
            pen.rectangle([round(value * scale) for value in result.face.box], outline=color, width=2)
    out = io.BytesIO()
    small.save(out, "jpeg", quality=85)
    return out.getvalue()
