"""Scenes with known face boxes, for training the face detector of `prepare --faces`: figures pasted on grounds.

Beside the faces there are things that only look like faces, and everything goes through what pictures go through.
"""

from __future__ import annotations

import io
import itertools
import math
from typing import Literal, NamedTuple

import numpy as np
from _face_figures import Box, Figure
from _face_grounds import THINGS, lines, one_eye, random_color, random_ground, text
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

FRAMED = 0.45
"""The share of faces that are seen in a square picture of their own."""


class Banks(NamedTuple):
    """What scenes are put together from."""

    figures: list[list[Figure]]
    """Faces, one list for each kind of origin; each kind is chosen alike often."""
    grounds: list[Image.Image]
    photos: list[Image.Image]
    """Stand-in photographs of people, which are not anime faces."""


def compose(
    banks: Banks, rng: np.random.Generator, size: int, sides: tuple[float, float], faces: int
) -> tuple[Image.Image, list[Box]]:
    """A picture of `size` pixels a side with up to `faces` faces, and the boxes of all of them.

    The sides of the boxes are spread evenly in their logarithm over `sides`; a box may reach over the edge of the
    picture by two fifths.
    """
    image = _cut(banks.grounds[rng.integers(len(banks.grounds))], rng, size)
    if rng.random() < 0.35:
        THINGS[rng.integers(len(THINGS))](image, rng)
    boxes: list[Box] = []
    for _ in range(rng.integers(0, 4)):
        _decoy(image, banks, rng, sides)
    for _ in range(faces):
        side = math.exp(rng.uniform(math.log(sides[0]), math.log(sides[1])))
        x, y = rng.uniform(-0.1 * side, size + 0.1 * side, 2)
        if all(max(abs(x - a), abs(y - b)) > 0.85 * (side + other) for a, b, other in boxes):
            boxes.append((x, y, side))
    boxes.sort(key=lambda box: box[1])  # so that no body lies over a face
    for box in boxes:
        kind = banks.figures[rng.integers(len(banks.figures))]
        _paste(image, banks, kind[rng.integers(len(kind))], box, rng)
        if rng.random() < 0.15:
            _cover(image, box, rng)
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
        boxes = [(size - x, y, side) for x, y, side in boxes]
    return image, boxes


def _cut(ground: Image.Image, rng: np.random.Generator, size: int) -> Image.Image:
    side = rng.uniform(0.3, 1.0) * ground.width
    left, top = rng.uniform(0, ground.width - side, 2)
    return ground.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side), reducing_gap=2)


def _tinted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Another drawing style: colors, contrast, lines, flatness, blur."""
    rgb = image.convert("RGB")
    if rng.random() < 0.5:
        rgb = ImageEnhance.Color(rgb).enhance(rng.uniform(0.2, 1.6))
    if rng.random() < 0.5:
        rgb = ImageEnhance.Contrast(rgb).enhance(rng.uniform(0.6, 1.5))
    if rng.random() < 0.22:  # another hue for all: dark skin, colored light
        h, s, v = rgb.convert("HSV").split()
        turn = int(rng.integers(256)) if rng.random() < 0.5 else int(rng.integers(-16, 16)) % 256
        h = h.point([(value + turn) % 256 for value in range(256)])
        rgb = Image.merge("HSV", (h, s, v)).convert("RGB")
    if rng.random() < 0.35:  # brighter or darker in the middle tones: pale drawings, night
        gamma = float(np.exp(rng.uniform(-0.7, 0.6)))
        rgb = rgb.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)
    if rng.random() < 0.3:  # light of one color from one side
        light = Image.new("L", (2, 2))
        light.putdata(rng.integers(0, 160, 4).tolist())
        tone = Image.new("RGB", rgb.size, random_color(rng))
        rgb = Image.composite(tone, rgb, light.resize(rgb.size, Image.Resampling.BILINEAR))
    if rng.random() < 0.12:
        rgb = ImageOps.posterize(rgb, int(rng.integers(3, 5)))
    if rng.random() < 0.2:
        rgb = rgb.filter(ImageFilter.UnsharpMask(float(rng.uniform(0.6, 2)), int(rng.integers(60, 250)), 0))
    if rng.random() < 0.12:  # lines on paper: a sketch
        gray = rgb.convert("L")
        soft = gray.filter(ImageFilter.GaussianBlur(float(rng.uniform(1.5, 4))))
        ratio = np.asarray(gray, np.float32) / np.maximum(np.asarray(soft, np.float32), 1)
        line = Image.fromarray((255 * ratio.clip(0, 1) ** rng.uniform(1, 4)).astype(np.uint8)).convert("RGB")
        rgb = Image.blend(rgb, line, float(rng.uniform(0.5, 1.0)))
    if image.mode == "RGBA":
        rgb.putalpha(image.getchannel("A"))
    return rgb


def _warped(image: Image.Image, x: float, y: float, side: float, rng: np.random.Generator) -> Image.Image:
    """Another shape of the face inside the same box: larger or smaller eyes, a longer chin, a turned head.

    A grid of 3 x 3 points in the box is shaken, and the tiles between are stretched along.
    """
    width, height = image.size
    columns, rows = (sorted({0, *(round(min(max(middle + share * side, 1), room - 1)) for share in (-0.5, 0, 0.5)), room})
                     for middle, room in ((x, width), (y, height)))  # fmt: skip
    shaken = {
        (column, row): np.array((column, row)) + (rng.normal(0, 0.05 * side, 2) if inner else 0)
        for column in columns
        for row in rows
        for inner in [0 < column < width and 0 < row < height]
    }
    mesh = []
    for left, right in itertools.pairwise(columns):
        for top, bottom in itertools.pairwise(rows):
            corners = ((left, top), (left, bottom), (right, bottom), (right, top))
            mesh.append(((left, top, right, bottom), tuple(v for c in corners for v in shaken[c].tolist())))
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def _paste(image: Image.Image, banks: Banks, figure: Figure, box: Box, rng: np.random.Generator) -> None:
    """Put a figure so that its face fills `box`, turned a little, with a body below, or as a square crop of a picture."""
    x, y, side = box
    framed = rng.random() < FRAMED
    angle = float(rng.normal(0, 10)) if rng.random() < 0.6 else float(rng.uniform(-30, 30))
    if figure.loose and framed:
        angle *= 0.4  # what lies beyond the edges of a crop is not known
    fx, fy, fside = figure.box
    source = _tinted(_warped(figure.image, fx, fy, fside, rng) if rng.random() < 0.5 else figure.image, rng)
    if figure.loose and framed:
        source, fx, fy = _padded(source, fx, fy, "reflect", 0.2)
        source.putalpha(255)
    elif figure.loose:
        source, fx, fy = _outlined(source, fx, fy, rng)
    wide = float(rng.uniform(0.86, 1.16))  # of another shape
    scale = fside / side
    cos, sin = math.cos(math.radians(angle)) * scale, math.sin(math.radians(angle)) * scale
    reach = 1.6 * max(source.size) / scale
    left, top = math.floor(x - reach / 2), math.floor(y - reach / 2)
    width = math.ceil(reach) + 1
    # from pixels of the patch to pixels of the figure
    a, b, d, e = cos * wide, -sin, sin * wide, cos
    u, v = x - left, y - top
    matrix = (a, b, fx - a * u - b * v, d, e, fy - d * u - e * v)
    if scale > 1.5:  # a transform does not average
        factor = min(8, int(scale))
        source = source.reduce(factor)
        matrix = tuple(value / factor for value in matrix)
    patch = source.transform((width, width), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    if framed:
        _frame(image, banks, patch, (left, top), box, rng)
        return
    if rng.random() < 0.75:
        _body(image, box, rng)
    image.paste(patch, (left, top), patch.getchannel("A"))


def _frame(
    image: Image.Image, banks: Banks, patch: Image.Image, corner: tuple[int, int], box: Box, rng: np.random.Generator
) -> None:
    """Show a figure in a square of its own ground, as avatars, panels and collages do; the face fills half of it or all."""
    x, y, side = box
    frame = side / rng.uniform(0.56, 0.95)
    left = x - frame * (0.5 + rng.normal(0, 0.03))
    top = y - frame * rng.uniform(0.44, 0.57)
    room = (round(left), round(top), round(left + frame), round(top + frame))
    size = room[2] - room[0]
    if rng.random() < 0.5:
        ground = Image.new("RGB", (size, size), random_color(rng))
    else:
        ground = _cut(banks.grounds[rng.integers(len(banks.grounds))], rng, size)
    part = patch.crop(tuple(value - corner[index % 2] for index, value in enumerate(room)))
    ground.paste(part, (0, 0), part.getchannel("A"))
    image.paste(ground, room[:2])


def _padded(
    source: Image.Image, fx: float, fy: float, mode: Literal["edge", "reflect"], share: float
) -> tuple[Image.Image, float, float]:
    """Continue a picture beyond its edges by a share of its side; and the middle of its face there."""
    pad = int(source.width * share)
    pixels = np.pad(np.asarray(source), ((pad, pad), (pad, pad), (0, 0)), mode=mode)
    return Image.fromarray(pixels), fx + pad, fy + pad


def _outlined(source: Image.Image, fx: float, fy: float, rng: np.random.Generator) -> tuple[Image.Image, float, float]:
    """Give a square crop an outline: hair drawn out beyond its edge and cut off softly."""
    size = source.width
    mode: Literal["edge", "reflect"] = "edge" if rng.random() < 0.6 else "reflect"
    wide, cx, cy = _padded(source, fx, fy, mode, rng.uniform(0.05, 0.4))
    mask = Image.new("L", wide.size)
    pen = ImageDraw.Draw(mask)
    steps = 24
    turn = np.arange(steps) * 2 * math.pi / steps
    # a head of hair: wider than the face, any bumps, longer at the sides where hair hangs
    radius = size * rng.uniform(0.4, 0.75) * (1 + 0.12 * rng.normal(size=steps))
    radius = np.where(np.sin(turn) > 0.2, radius * rng.uniform(0.75, 1.3), radius)
    power = rng.uniform(0.6, 1.0)
    px = cx + radius * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power * rng.uniform(0.8, 1.1)
    py = cy - 0.05 * size + radius * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
    pen.polygon(np.stack([px, py], 1).ravel().tolist(), fill=255)
    if rng.random() < 0.7:
        mask = mask.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 3))))
    wide.putalpha(mask)
    return wide, cx, cy


def _body(image: Image.Image, box: Box, rng: np.random.Generator) -> None:
    """Neck, shoulders and what is below, or hair around the head."""
    x, y, side = box
    pen = ImageDraw.Draw(image)
    cloth, skin = random_color(rng), (255, int(rng.uniform(190, 235)), int(rng.uniform(160, 215)))
    line = (40, 30, 40) if rng.random() < 0.6 else None
    if rng.random() < 0.5:
        hair_color = random_color(rng)
        w, low = side * rng.uniform(0.7, 1.2), side * rng.uniform(0.3, 2.5)
        pen.ellipse((x - w, y - 1.1 * side, x + w, y + 0.7 * side), fill=hair_color, outline=line)
        pen.polygon(
            [(x - w, y - 0.2 * side), (x + w, y - 0.2 * side), (x + w * 0.9, y + low), (x - w * 0.9, y + low)],
            fill=hair_color,
        )
    wide = side * rng.uniform(0.7, 1.6)
    top = y + side * rng.uniform(0.5, 0.75)
    pen.polygon(
        [
            (x - side * 0.2, y),
            (x + side * 0.2, y),
            (x + side * 0.25, top + 0.3 * side),
            (x - side * 0.25, top + 0.3 * side),
        ],
        fill=skin,
    )
    pen.polygon(
        [
            (x - 0.3 * side, top),
            (x + 0.3 * side, top),
            (x + wide, top + 0.5 * side),
            (x + wide * rng.uniform(0.6, 1.1), top + 4 * side),
            (x - wide * rng.uniform(0.6, 1.1), top + 4 * side),
            (x - wide, top + 0.5 * side),
        ],
        fill=cloth,
        outline=line,
    )


def _cover(image: Image.Image, box: Box, rng: np.random.Generator) -> None:
    """Something in front of a corner of the face: a hand, a lock of hair, a speech bubble."""
    x, y, side = box
    pen = ImageDraw.Draw(image)
    a = rng.uniform(0, 2 * math.pi)
    cx, cy = x + 0.6 * side * math.cos(a), y + 0.6 * side * math.sin(a)
    w, h = side * rng.uniform(0.1, 0.32, 2)
    kind = rng.integers(3)
    if kind == 0:
        pen.ellipse((cx - w, cy - h, cx + w, cy + h), fill=random_color(rng), outline=(30, 20, 30))
    elif kind == 1:
        pen.rectangle((cx - w, cy - h, cx + w, cy + h), fill=random_color(rng))
    else:
        end = (x - (cx - x), y + 0.8 * side)
        pen.line((cx, cy, *end), fill=random_color(rng), width=max(1, int(side * 0.06)))


def _decoy(image: Image.Image, banks: Banks, rng: np.random.Generator, sides: tuple[float, float]) -> None:
    """A hard negative: the parts of a face in a wrong order, hair alone, one eye, a photograph, text in a square."""
    side = int(math.exp(rng.uniform(math.log(sides[0]), math.log(3 * sides[1]))))
    kind = rng.random()
    figures = banks.figures[rng.integers(len(banks.figures))]
    figure = figures[rng.integers(len(figures))]
    source = _tinted(figure.image, rng)
    fx, fy, fside = figure.box
    if kind < 0.12:  # one eye, with skin, brow and hair around it
        patch = one_eye(rng)
    elif kind < 0.25:
        patch = _shuffled(source, figure.box, rng)
    elif kind < 0.5:  # a corner of a figure: hair, clothes, an ear, one eye
        part = fside * rng.uniform(0.2, 0.45)
        a = rng.uniform(0, 2 * math.pi)
        reach = fside * rng.uniform(0.3, 0.7)
        cx, cy = fx + reach * math.cos(a), fy + reach * math.sin(a)
        patch = source.convert("RGB").crop(
            (int(cx - part / 2), int(cy - part / 2), int(cx + part / 2) + 2, int(cy + part / 2) + 2)
        )
    elif kind < 0.62 and banks.photos:
        patch = banks.photos[rng.integers(len(banks.photos))]
    elif kind < 0.8:
        patch = _cut(banks.grounds[rng.integers(len(banks.grounds))], rng, 48)
    elif kind < 0.9:
        patch = random_ground(rng, 48)
        text(patch, rng)
    else:  # a head without a face: from behind, or a ball
        patch = Image.new("RGB", (48, 48), random_color(rng))
        pen = ImageDraw.Draw(patch)
        pen.ellipse((6, 4, 42, 44), fill=random_color(rng), outline=(30, 20, 30))
        if rng.random() < 0.5:
            pen.ellipse((14, 14, 36, 42), fill=(255, 224, 200))
        lines(patch, rng)
    patch = patch.convert("RGB").resize(
        (side, max(2, int(side * rng.uniform(0.7, 1.4)))), Image.Resampling.BILINEAR, reducing_gap=2
    )
    x, y = rng.uniform(-side / 2, image.width - side / 2, 2)
    if rng.random() < 0.5:
        mask = Image.new("L", patch.size)
        ImageDraw.Draw(mask).ellipse((0, 0, patch.width, patch.height), fill=255)
        image.paste(patch, (int(x), int(y)), mask)
    else:
        image.paste(patch, (int(x), int(y)))


def _shuffled(source: Image.Image, box: Box, rng: np.random.Generator) -> Image.Image:
    """Tiles of a face in another order."""
    fx, fy, fside = box
    face = source.convert("RGB").crop(
        tuple(int(v) for v in (fx - fside / 2, fy - fside / 2, fx + fside / 2, fy + fside / 2))
    )
    face = face.resize((48, 48))
    cells = int(rng.choice([2, 3, 4]))
    step = 48 // cells
    order = rng.permutation(cells * cells)
    if cells == 2:
        order = np.array([3, 2, 1, 0]) if rng.random() < 0.5 else np.array([2, 3, 0, 1])
    patch = Image.new("RGB", (48, 48))
    for place, tile in enumerate(order):
        ty, tx = divmod(int(tile), cells)
        py, px = divmod(place, cells)
        patch.paste(face.crop((tx * step, ty * step, tx * step + step, ty * step + step)), (px * step, py * step))
    return patch


def degrade(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """What pictures go through: light and color, gray, blur, enlargement, noise, JPEG."""
    if rng.random() < 0.4:
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.55, 1.35))
    if rng.random() < 0.4:
        image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.55, 1.35))
    if rng.random() < 0.4:
        image = ImageEnhance.Color(image).enhance(rng.uniform(0.3, 1.6))
    if rng.random() < 0.12:
        image = ImageOps.grayscale(image).convert("RGB")
    if rng.random() < 0.15:  # colored light
        light = rng.uniform(0.55, 1.0, 3)
        image = image.point([int(value * channel) for channel in light for value in range(256)])
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.9))))
    if rng.random() < 0.15:
        small = int(image.width * rng.uniform(0.55, 0.95))
        image = image.resize((small, small), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BICUBIC)
    if rng.random() < 0.2:
        pixels = np.asarray(image, np.float32) + rng.normal(0, rng.uniform(2, 14), (*image.size[::-1], 3))
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.25:
        out = io.BytesIO()
        image.save(out, "jpeg", quality=int(rng.integers(25, 90)))
        image = Image.open(out).convert("RGB")
    return image
