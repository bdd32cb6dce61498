"""Pictures without a face, for the scenes of the face detector: grounds, patterns, text, and things drawn on them."""

from __future__ import annotations

import colorsys
import math
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from animegen_cli.prepare import drawn

if TYPE_CHECKING:
    from pathlib import Path

_GROUND = 384  # side in pixels of the backgrounds


def parted(folder: Path) -> list[list[Path]]:
    """The pictures of a folder in three parts, by the order of their names: to train on, to choose the threshold, to measure."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".jpg", ".png"))
    return [files[part::3] for part in range(3)]


def background(seed: int) -> Image.Image:
    """A picture without a face."""
    rng = np.random.default_rng([7, seed])
    image = random_ground(rng, _GROUND)
    for _ in range(rng.integers(0, 4)):
        THINGS[rng.integers(len(THINGS))](image, rng)
    return image


def backgrounds(count: int, seed: int, processes: int) -> list[Image.Image]:
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(background, range(seed, seed + count), chunksize=25))


def random_color(rng: np.random.Generator) -> tuple[int, int, int]:
    kind = rng.random()
    if kind < 0.15:  # skin
        light = rng.uniform(0.5, 1.0)
        return int(255 * light), int(rng.uniform(185, 235) * light), int(rng.uniform(150, 215) * light)
    if kind < 0.35:
        gray = int(rng.integers(0, 256))
        return gray, gray, gray
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.random() ** 0.7, rng.uniform(0.1, 1) ** 0.6)
    return int(rgb[0] * 255), int(rgb[1] * 255), int(rgb[2] * 255)


def random_ground(rng: np.random.Generator, size: int) -> Image.Image:
    kind = rng.integers(10)
    if kind == 0:
        return Image.new("RGB", (size, size), random_color(rng) if rng.random() < 0.5 else (255, 255, 255))
    if kind == 1:  # a gradient in any direction
        corners = np.array([[random_color(rng), random_color(rng)], [random_color(rng), random_color(rng)]], np.uint8)
        return Image.fromarray(corners).resize((size, size), Image.Resampling.BILINEAR)
    if kind == 2:  # clouds: noise of many scales between two or three colors
        noise = _clouds(rng, size)
        stops = np.array([random_color(rng) for _ in range(rng.integers(2, 5))], np.float32)
        places = np.linspace(0, 1, len(stops))
        pixels = np.stack([np.interp(noise, places, stops[:, channel]) for channel in range(3)], 2)
        return Image.fromarray(pixels.astype(np.uint8))
    if kind == 3:  # blocks of color
        cells = int(rng.integers(3, 40))
        pixels = rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
        how = Image.Resampling.NEAREST if rng.random() < 0.5 else Image.Resampling.BICUBIC
        return Image.fromarray(pixels).resize((size, size), how)
    if kind == 4:  # stripes, checks and dots
        return _pattern(rng, size)
    if kind == 5:  # what a photograph has: soft light and grain
        noise = _clouds(rng, size)[..., None] * 0.6 + 0.4
        pixels = noise * np.array(random_color(rng), np.float32) + rng.normal(0, rng.uniform(0, 12), (size, size, 3))
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if kind in _TEXTURES:
        return _TEXTURES[kind](rng, size)
    # a part of a stand-in photograph of a person, without the face or so large that it is none
    photo = drawn.photo(int(rng.integers(1 << 30)), size=256)
    left, top = rng.uniform(0, 150), 150 + rng.uniform(0, 60)
    side = rng.uniform(30, min(256 - top, 256 - left))
    return photo.crop((int(left), int(top), int(left + side), int(top + side))).resize(
        (size, size), Image.Resampling.BICUBIC
    )


def _stars(rng: np.random.Generator, size: int) -> Image.Image:
    """Bright spots on a dark ground: stars, lamps, bokeh, drops."""
    image = Image.new("RGB", (size, size), tuple(rng.integers(0, 60, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(20, 400)):
        x, y = rng.uniform(0, size, 2)
        r = rng.exponential(2.5) + 0.5
        pen.ellipse((x - r, y - r * rng.uniform(0.5, 1), x + r, y + r), fill=random_color(rng))
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 2))))


def _gravel(rng: np.random.Generator, size: int) -> Image.Image:
    """Cells with dark borders: gravel, bricks, scales, tissue."""
    side = size // 2
    points = rng.uniform(0, side, (rng.integers(15, 250), 2)).astype(np.float32)
    points[:, 0] *= rng.uniform(1, 2)
    down, across = np.mgrid[:side, :side].astype(np.float32)
    distance = (down[..., None] - points[:, 0]) ** 2 + (across[..., None] - points[:, 1]) ** 2
    nearest = distance.argmin(2)
    two = np.sqrt(np.partition(distance, 1, axis=2)[..., :2])
    border = ((two[..., 1] - two[..., 0]) / rng.uniform(1, 8)).clip(0, 1)[..., None]
    middle, spread = np.array(random_color(rng)), rng.uniform(5, 70)
    stones = (middle + rng.normal(0, spread, (len(points), 1)) + rng.normal(0, 8, (len(points), 3))).clip(0, 255)
    pixels = stones[nearest] * (0.2 + 0.8 * border) + rng.normal(0, rng.uniform(0, 15), (side, side, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)


def _fur(rng: np.random.Generator, size: int) -> Image.Image:
    """Short strokes that lie about one way: fur, grass, leaves, waves."""
    base = np.array(random_color(rng))
    image = Image.new("RGB", (size, size), tuple((base * 0.5).astype(int).tolist()))
    pen = ImageDraw.Draw(image)
    way, spread, length = rng.uniform(0, math.pi), rng.uniform(0.1, 1.5), rng.uniform(5, 50)
    for _ in range(rng.integers(300, 1500)):
        x, y = rng.uniform(0, size, 2)
        a = way + rng.normal(0, spread)
        shade = tuple((base * rng.uniform(0.4, 1.4) + rng.normal(0, 12, 3)).clip(0, 255).astype(int).tolist())
        pen.line((x, y, x + length * math.cos(a), y + length * math.sin(a)), fill=shade, width=int(rng.integers(1, 5)))
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.5))))


_TEXTURES = {7: _stars, 8: _gravel, 9: _fur}


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    total = np.zeros((size, size), np.float32)
    cells, strength, fade = int(rng.integers(2, 6)), 1.0, rng.uniform(0.35, 0.85)
    while cells < size:
        stretch = max(1, int(cells * rng.uniform(0.4, 1.0)))
        small = Image.fromarray(rng.random((cells, stretch)).astype(np.float32))
        total += strength * np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))
        strength *= fade
        cells *= 2
    total -= total.min()
    return total / total.max()


def _pattern(rng: np.random.Generator, size: int) -> Image.Image:
    image = Image.new("RGB", (size, size), random_color(rng))
    pen = ImageDraw.Draw(image)
    step = int(rng.integers(5, 60))
    kind, colors = rng.integers(3), [random_color(rng) for _ in range(2)]
    for row, y in enumerate(range(0, size, step)):
        if kind == 0:
            pen.rectangle((0, y, size, y + step // 2), fill=colors[row % 2])
            continue
        for column, x in enumerate(range(0, size, step)):
            place = (x, y, x + step // (1 + kind % 2), y + step // (1 + kind % 2))
            if kind == 1 and (row + column) % 2:
                pen.rectangle(place, fill=colors[0])
            elif kind == 2:
                pen.ellipse(place, fill=colors[(row + column) % 2])
    return image.rotate(int(rng.choice([0, 0, 45, 90])), Image.Resampling.BILINEAR)


_GLYPHS = "".join(map(chr, [*range(33, 127), *range(0xC0, 0x180)]))


def text(image: Image.Image, rng: np.random.Generator) -> None:
    """Some lines of text, large or small."""
    pen = ImageDraw.Draw(image)
    size = float(rng.uniform(6, image.width / 4))
    font = ImageFont.load_default(size)
    color = random_color(rng) if rng.random() < 0.4 else (0, 0, 0) if rng.random() < 0.6 else (255, 255, 255)
    x, y = rng.uniform(-0.1, 0.6, 2) * image.width
    for line in range(rng.integers(1, 7)):
        words = "".join(rng.choice(list(_GLYPHS)) if rng.random() < 0.85 else " " for _ in range(rng.integers(2, 24)))
        pen.text((x, y + line * size * 1.15), words, fill=color, font=font, stroke_width=int(rng.random() < 0.2))


def shapes(image: Image.Image, rng: np.random.Generator) -> None:
    """Ovals, boxes, polygons: furniture, houses, fruit, limbs."""
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 25)):
        x, y = rng.uniform(0, image.width, 2)
        w, h = image.width * rng.uniform(0.02, 0.35, 2)
        line = None if rng.random() < 0.5 else (0, 0, 0)
        kind = rng.integers(3)
        if kind == 0:
            pen.ellipse((x - w, y - h, x + w, y + h), fill=random_color(rng), outline=line)
        elif kind == 1:
            pen.rectangle((x - w, y - h, x + w, y + h), fill=random_color(rng), outline=line)
        else:
            corners = [(x + rng.uniform(-w, w), y + rng.uniform(-h, h)) for _ in range(rng.integers(3, 8))]
            pen.polygon(corners, fill=random_color(rng), outline=line)


def lines(image: Image.Image, rng: np.random.Generator) -> None:
    """Curves such as strands of hair, grass, folds and hatching."""
    pen = ImageDraw.Draw(image)
    color = random_color(rng) if rng.random() < 0.5 else (20, 16, 24)
    start = rng.uniform(0, image.width, 2)
    for _ in range(rng.integers(4, 60)):
        bend, end = start + rng.normal(0, image.width / 5, 2), start + rng.normal(0, image.width / 3, 2)
        t = np.linspace(0, 1, 12)[:, None]
        line = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        pen.line(line.ravel().tolist(), fill=color, width=int(rng.integers(1, 5)))
        if rng.random() < 0.5:
            start = start + rng.normal(0, 6, 2)


def _windows(image: Image.Image, rng: np.random.Generator) -> None:
    """A grid of windows, keys or tiles: pairs of dark spots on a light ground and the other way round."""
    pen = ImageDraw.Draw(image)
    left, top = rng.uniform(0, image.width * 0.6, 2)
    step, share = rng.uniform(8, 70), rng.uniform(0.3, 0.8)
    wall, glass = random_color(rng), random_color(rng)
    columns, rows = rng.integers(2, 8, 2)
    pen.rectangle((left - step / 2, top - step / 2, left + columns * step, top + rows * step), fill=wall)
    for row in range(rows):
        for column in range(columns):
            x, y = left + column * step, top + row * step
            shape = pen.ellipse if step > 40 else pen.rectangle
            shape((x, y, x + step * share, y + step * share), fill=glass)


def _eyes(image: Image.Image, rng: np.random.Generator) -> None:
    """Two equal discs side by side without a face: buttons, wheels, lamps."""
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, 6)):
        x, y = rng.uniform(0, image.width, 2)
        r, gap = rng.uniform(3, 30), rng.uniform(2.2, 5)
        colors = [random_color(rng) for _ in range(3)]
        if rng.random() < 0.5:
            pen.ellipse((x - gap * r, y - gap * r, x + gap * 2 * r, y + gap * r), fill=random_color(rng))
        for side in (0, 1):
            for share, color in zip((1, 0.6, 0.25), colors, strict=True):
                cx = x + side * gap * r
                pen.ellipse((cx - r * share, y - r * share, cx + r * share, y + r * share), fill=color)


def _flower(image: Image.Image, rng: np.random.Generator) -> None:
    """Petals around a middle, leaves, stars."""
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, 10)):
        x, y = rng.uniform(0, image.width, 2)
        r, petals = rng.uniform(5, 50), rng.integers(4, 9)
        petal = random_color(rng)
        for index in range(petals):
            a = 2 * math.pi * index / petals
            cx, cy = x + r * math.cos(a), y + r * math.sin(a)
            pen.ellipse((cx - r * 0.6, cy - r * 0.6, cx + r * 0.6, cy + r * 0.6), fill=petal, outline=(60, 40, 60))
        pen.ellipse((x - r * 0.6, y - r * 0.6, x + r * 0.6, y + r * 0.6), fill=random_color(rng))


def one_eye(rng: np.random.Generator) -> Image.Image:
    """An eye of a face that is too large to be seen whole: iris, lid and brow on skin, 48 pixels a side."""
    size = 48
    skin = random_color(rng) if rng.random() < 0.3 else (255, int(rng.uniform(190, 240)), int(rng.uniform(160, 225)))
    image = Image.new("RGB", (size, size), skin)
    pen = ImageDraw.Draw(image)
    x, y = rng.uniform(18, 30, 2)
    w, h = rng.uniform(8, 22), rng.uniform(5, 20)
    ink, iris = (30, 20, 30), random_color(rng)
    pen.ellipse((x - w, y - h, x + w, y + h), fill=(255, 255, 255))
    r = min(w, h) * rng.uniform(0.7, 1.0)
    for share, color in ((1, iris), (0.5, ink)):
        pen.ellipse((x - r * share, y - h * share, x + r * share, y + h * share), fill=color)
    pen.ellipse((x - r * 0.6, y - h * 0.6, x - r * 0.1, y - h * 0.1), fill=(255, 255, 255))
    pen.arc((x - 1.1 * w, y - 1.1 * h, x + 1.1 * w, y + 1.3 * h), 190, 350, fill=ink, width=int(rng.integers(1, 6)))
    if rng.random() < 0.6:
        pen.line((x - w, y - 1.6 * h, x + w, y - 1.7 * h), fill=ink, width=int(rng.integers(1, 5)))
    if rng.random() < 0.6:  # hair over it
        color = random_color(rng)
        pen.polygon((0, 0, size, 0, size, rng.uniform(0, 20), x, rng.uniform(5, 30), 0, rng.uniform(0, 20)), fill=color)
        if rng.random() < 0.5:
            pen.polygon((0, 0, 12, 0, rng.uniform(4, 16), size, 0, size), fill=color)
    return image.rotate(float(rng.normal(0, 15)), Image.Resampling.BILINEAR, fillcolor=skin)


def _ornaments(image: Image.Image, rng: np.random.Generator) -> None:
    """Small things that are worn: buttons, rings, gems, crosses, stars, bows, on a dark or a light ground."""
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 12)):
        x, y = rng.uniform(0, image.width, 2)
        r = float(np.exp(rng.uniform(np.log(3), np.log(40))))
        color, other = random_color(rng), random_color(rng)
        line = (25, 20, 30) if rng.random() < 0.6 else None
        kind = rng.integers(5)
        if kind == 0:  # a button
            pen.ellipse((x - r, y - r, x + r, y + r), fill=color, outline=line)
            for dx in (-0.3, 0.3):
                pen.ellipse((x + (dx - 0.12) * r, y - 0.12 * r, x + (dx + 0.12) * r, y + 0.12 * r), fill=other)
        elif kind == 1:  # a ring with a drop below
            pen.ellipse((x - r, y - r, x + r, y + r), outline=color, width=max(1, int(r / 4)))
            pen.ellipse((x - 0.5 * r, y + r, x + 0.5 * r, y + 2.2 * r), fill=other, outline=line)
        elif kind == 2:  # a gem
            pen.polygon((x - r, y, x, y - r, x + r, y, x, y + r), fill=color, outline=line)
            pen.polygon((x - 0.4 * r, y, x, y - 0.5 * r, x + 0.2 * r, y, x, y + 0.3 * r), fill=(255, 255, 255))
        elif kind == 3:  # a star or a cross
            points, inner = int(rng.integers(4, 7)), rng.uniform(0.25, 0.6)
            turn = rng.uniform(0, 6)
            corners = []
            for step in range(2 * points):
                reach, a = r * (1 if step % 2 else inner), turn + math.pi * step / points
                corners += [x + reach * math.cos(a), y + reach * math.sin(a)]
            pen.polygon(corners, fill=color, outline=line)
        else:  # a bow
            pen.polygon((x - r, y - 0.6 * r, x, y, x - r, y + 0.6 * r), fill=color, outline=line)
            pen.polygon((x + r, y - 0.6 * r, x, y, x + r, y + 0.6 * r), fill=color, outline=line)
            pen.ellipse((x - 0.3 * r, y - 0.3 * r, x + 0.3 * r, y + 0.3 * r), fill=other, outline=line)


THINGS = (text, shapes, lines, _windows, _eyes, _flower, _ornaments, shapes, lines)
"""What may be drawn on a ground, `(image, rng)`; some stand twice."""
