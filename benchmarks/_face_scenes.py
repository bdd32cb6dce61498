"""Scenes with known face boxes, for training and measuring the face detector of `prepare --faces`.

Backgrounds, text, bodies and things that only look like faces are drawn here with Pillow; faces come from
`animegen_cli.drawn` and from trained runs. A box is (x, y, side) in pixels: the centre and the side of the square that
`animegen_cli.prepare.face_detector` calls a face, from above the brows to the chin.
"""

from __future__ import annotations

import io
import math
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from animegen_cli import drawn
from animegen_cli.drawn import hair, head, scene
from animegen_cli.drawn.appearance import appearance
from animegen_cli.drawn.paint import Canvas

if TYPE_CHECKING:
    from pathlib import Path

Box = tuple[float, float, float]

KAGGLE = (0.5, 0.56, 0.64)
"""The face in a crop of Kaggle's animefacedataset, as shares of the crop: read off the mean of 800 crops."""
DRAWN = (0.0, 0.273, 0.99)
"""The face in the units of `animegen_cli.drawn`, before the pose."""
_FIGURE = 112  # side in pixels of the drawn figures
_GROUND = 384  # side in pixels of the backgrounds


class Figure(NamedTuple):
    """A face that can be pasted: RGBA, and its box in pixels of the image."""

    image: Image.Image
    box: Box
    loose: bool
    """True where the image is a square crop whose edge cuts through hair, False where it has an outline of its own."""


# ------------------------------------------------------------------------------------------------- faces


def drawn_figure(index: int, seed: int) -> Figure:
    """A drawn face with hair, neck and shoulders, and nothing behind them."""
    labels = drawn.attributes(index, seed=seed)
    layers = [_painted(index, seed, labels, ground) for ground in ((255, 255, 255), (0, 0, 0))]
    alpha = ImageOps.invert(ImageChops.difference(*layers).convert("L"))
    image = layers[1].copy()
    image.putalpha(alpha)
    pixels = np.asarray(image, np.float32)
    share = np.maximum(pixels[..., 3:] / 255, 1 / 255)  # what was painted over black is darker by its share
    pixels = np.concatenate([(pixels[..., :3] / share).clip(0, 255), pixels[..., 3:]], 2)
    pose = appearance(labels, _look(index, seed)).pose
    x, y, side = DRAWN
    cos, sin = math.cos(pose.roll) * pose.scale, math.sin(pose.roll) * pose.scale
    half = _FIGURE / 2
    center = (half * (1 + pose.shift[0] + x * cos - y * sin), half * (1 + pose.shift[1] + x * sin + y * cos))
    return Figure(Image.fromarray(pixels.astype(np.uint8)), (*center, side * pose.scale * half), False)


def _look(index: int, seed: int) -> object:
    import random

    return random.Random(f"animegen look {seed} {index}")  # as `drawn.draw` does


def _painted(index: int, seed: int, labels: dict[str, str], ground: tuple[int, int, int]) -> Image.Image:
    chosen = appearance(labels, _look(index, seed))
    finer = 2
    canvas = Canvas(_FIGURE * finer, chosen.pose)
    canvas.ground([ground, ground])
    cap = hair.Front(chosen)
    hair.back(canvas, chosen)
    scene.accessory_behind(canvas, chosen)
    head.neck(canvas, chosen)
    scene.clothes(canvas, chosen)
    head.face(canvas, chosen)
    hair.shadow(canvas, chosen, cap, head.outline(chosen))
    head.features(canvas, chosen)
    hair.front(canvas, chosen, cap)
    head.brows(canvas, chosen)
    scene.accessory(canvas, chosen)
    return canvas.image.reduce(finer)


def drawn_figures(count: int, seed: int, processes: int) -> list[Figure]:
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(drawn_figure, range(count), [seed] * count, chunksize=50))


def crop_figures(images: np.ndarray, box: Box = KAGGLE) -> list[Figure]:
    """Square crops, uint8 (N, H, H, 3), as figures; `box` in shares of the crop."""
    side = images.shape[1]
    return [Figure(Image.fromarray(one), (box[0] * side, box[1] * side, box[2] * side), True) for one in images]


def sheet_faces(path: Path) -> np.ndarray:
    """The faces of a sheet that `animegen sample` wrote: cells of 32 pixels, 2 pixels apart; uint8 (N, 32, 32, 3)."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    rows, columns = ((side + 2) // 34 for side in pixels.shape[:2])
    return np.stack(
        [
            pixels[34 * row : 34 * row + 32, 34 * column : 34 * column + 32]
            for row in range(rows)
            for column in range(columns)
        ]
    )


def run_faces(path: Path, count: int, seed: int) -> np.ndarray:
    """Faces that the run at `path` draws: uint8 (count, H, H, 3)."""
    import torch

    from animegen_cli.paths import Run
    from animegen_cli.sample.generate import Generator
    from animegen_cli.sample.trained import micro_batch, open_trained, sampling_of

    device = torch.device("cpu")
    trained = open_trained(Run(path), device=device, precision="fp32")
    generator = Generator(trained, sampling_of(trained, {}), micro_batch=micro_batch(device, trained.data.size))
    parts = [generator.draw(range(seed + start, seed + min(start + 256, count))) for start in range(0, count, 256)]
    return torch.cat(parts).permute(0, 2, 3, 1).contiguous().numpy()


# ------------------------------------------------------------------------------------------- backgrounds


def background(seed: int) -> Image.Image:
    """A picture without a face."""
    rng = np.random.default_rng([7, seed])
    image = _ground(rng, _GROUND)
    for _ in range(rng.integers(0, 4)):
        _THINGS[rng.integers(len(_THINGS))](image, rng)
    return image


def backgrounds(count: int, seed: int, processes: int) -> list[Image.Image]:
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(background, range(seed, seed + count), chunksize=25))


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    kind = rng.random()
    if kind < 0.15:  # skin
        light = rng.uniform(0.5, 1.0)
        return int(255 * light), int(rng.uniform(185, 235) * light), int(rng.uniform(150, 215) * light)
    if kind < 0.35:
        gray = int(rng.integers(0, 256))
        return gray, gray, gray
    import colorsys

    rgb = colorsys.hsv_to_rgb(rng.random(), rng.random() ** 0.7, rng.uniform(0.1, 1) ** 0.6)
    return int(rgb[0] * 255), int(rgb[1] * 255), int(rgb[2] * 255)


def _ground(rng: np.random.Generator, size: int) -> Image.Image:
    kind = rng.integers(7)
    if kind == 0:
        return Image.new("RGB", (size, size), _color(rng) if rng.random() < 0.5 else (255, 255, 255))
    if kind == 1:  # a gradient in any direction
        corners = np.array([[_color(rng), _color(rng)], [_color(rng), _color(rng)]], np.uint8)
        return Image.fromarray(corners).resize((size, size), Image.Resampling.BILINEAR)
    if kind == 2:  # clouds: noise of many scales between two or three colors
        noise = _clouds(rng, size)
        stops = np.array([_color(rng) for _ in range(rng.integers(2, 5))], np.float32)
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
        pixels = noise * np.array(_color(rng), np.float32) + rng.normal(0, rng.uniform(0, 12), (size, size, 3))
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    # a part of a stand-in photograph of a person, without the face or so large that it is none
    photo = drawn.photo(int(rng.integers(1 << 30)), size=256)
    left, top = rng.uniform(0, 150), 150 + rng.uniform(0, 60)
    side = rng.uniform(30, min(256 - top, 256 - left))
    return photo.crop((int(left), int(top), int(left + side), int(top + side))).resize(
        (size, size), Image.Resampling.BICUBIC
    )


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
    image = Image.new("RGB", (size, size), _color(rng))
    pen = ImageDraw.Draw(image)
    step = int(rng.integers(5, 60))
    kind, colors = rng.integers(3), [_color(rng) for _ in range(2)]
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
    color = _color(rng) if rng.random() < 0.4 else (0, 0, 0) if rng.random() < 0.6 else (255, 255, 255)
    x, y = rng.uniform(-0.1, 0.6, 2) * image.width
    for line in range(rng.integers(1, 7)):
        words = "".join(rng.choice(list(_GLYPHS)) if rng.random() < 0.85 else " " for _ in range(rng.integers(2, 24)))
        pen.text((x, y + line * size * 1.15), words, fill=color, font=font, stroke_width=int(rng.random() < 0.2))


def _shapes(image: Image.Image, rng: np.random.Generator) -> None:
    """Ovals, boxes, polygons: furniture, houses, fruit, limbs."""
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 25)):
        x, y = rng.uniform(0, image.width, 2)
        w, h = image.width * rng.uniform(0.02, 0.35, 2)
        line = None if rng.random() < 0.5 else (0, 0, 0)
        kind = rng.integers(3)
        if kind == 0:
            pen.ellipse((x - w, y - h, x + w, y + h), fill=_color(rng), outline=line)
        elif kind == 1:
            pen.rectangle((x - w, y - h, x + w, y + h), fill=_color(rng), outline=line)
        else:
            corners = [(x + rng.uniform(-w, w), y + rng.uniform(-h, h)) for _ in range(rng.integers(3, 8))]
            pen.polygon(corners, fill=_color(rng), outline=line)


def _lines(image: Image.Image, rng: np.random.Generator) -> None:
    """Curves such as strands of hair, grass, folds and hatching."""
    pen = ImageDraw.Draw(image)
    color = _color(rng) if rng.random() < 0.5 else (20, 16, 24)
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
    wall, glass = _color(rng), _color(rng)
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
        colors = [_color(rng) for _ in range(3)]
        if rng.random() < 0.5:
            pen.ellipse((x - gap * r, y - gap * r, x + gap * 2 * r, y + gap * r), fill=_color(rng))
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
        petal = _color(rng)
        for index in range(petals):
            a = 2 * math.pi * index / petals
            cx, cy = x + r * math.cos(a), y + r * math.sin(a)
            pen.ellipse((cx - r * 0.6, cy - r * 0.6, cx + r * 0.6, cy + r * 0.6), fill=petal, outline=(60, 40, 60))
        pen.ellipse((x - r * 0.6, y - r * 0.6, x + r * 0.6, y + r * 0.6), fill=_color(rng))


_THINGS = (text, _shapes, _lines, _windows, _eyes, _flower, _shapes, _lines)


# ------------------------------------------------------------------------------------------------ scenes


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
        _THINGS[rng.integers(len(_THINGS))](image, rng)
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
        _paste(image, kind[rng.integers(len(kind))], box, rng)
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
    if rng.random() < 0.15:  # another hue for all: dark skin, colored light
        h, s, v = rgb.convert("HSV").split()
        turn = int(rng.integers(256)) if rng.random() < 0.5 else int(rng.integers(-16, 16)) % 256
        h = h.point([(value + turn) % 256 for value in range(256)])
        rgb = Image.merge("HSV", (h, s, v)).convert("RGB")
    if rng.random() < 0.12:
        rgb = ImageOps.posterize(rgb, int(rng.integers(2, 5)))
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


def _paste(image: Image.Image, figure: Figure, box: Box, rng: np.random.Generator) -> None:
    """Put a figure so that its face fills `box`, turned a little, with a body below."""
    x, y, side = box
    angle = float(rng.normal(0, 10)) if rng.random() < 0.7 else float(rng.uniform(-28, 28))
    source = _tinted(figure.image, rng)
    fx, fy, fside = figure.box
    if figure.loose:
        source, fx, fy = _outlined(source, fx, fy, rng)
    wide = float(rng.uniform(0.92, 1.08))  # of another shape
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
    if rng.random() < 0.75:
        _body(image, box, rng)
    image.paste(patch, (left, top), patch.getchannel("A"))


def _outlined(source: Image.Image, fx: float, fy: float, rng: np.random.Generator) -> tuple[Image.Image, float, float]:
    """Give a square crop an outline: as it is, or hair drawn out beyond its edge and cut off softly."""
    size = source.width
    kind = rng.random()
    if kind < 0.3:
        source.putalpha(255)
        return source, fx, fy
    pad = int(size * rng.uniform(0.05, 0.4))
    mode = "edge" if rng.random() < 0.6 else "reflect"
    pixels = np.pad(np.asarray(source), ((pad, pad), (pad, pad), (0, 0)), mode=mode)
    wide = Image.fromarray(pixels)
    mask = Image.new("L", wide.size)
    pen = ImageDraw.Draw(mask)
    cx, cy = fx + pad, fy + pad
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
    cloth, skin = _color(rng), (255, int(rng.uniform(190, 235)), int(rng.uniform(160, 215)))
    line = (40, 30, 40) if rng.random() < 0.6 else None
    if rng.random() < 0.5:
        hair_color = _color(rng)
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
        pen.ellipse((cx - w, cy - h, cx + w, cy + h), fill=_color(rng), outline=(30, 20, 30))
    elif kind == 1:
        pen.rectangle((cx - w, cy - h, cx + w, cy + h), fill=_color(rng))
    else:
        end = (x - (cx - x), y + 0.8 * side)
        pen.line((cx, cy, *end), fill=_color(rng), width=max(1, int(side * 0.06)))


def _decoy(image: Image.Image, banks: Banks, rng: np.random.Generator, sides: tuple[float, float]) -> None:
    """A hard negative: the parts of a face in a wrong order, hair alone, one eye, a photograph, text in a square."""
    side = int(math.exp(rng.uniform(math.log(sides[0]), math.log(3 * sides[1]))))
    kind = rng.random()
    figures = banks.figures[rng.integers(len(banks.figures))]
    figure = figures[rng.integers(len(figures))]
    source = _tinted(figure.image, rng)
    fx, fy, fside = figure.box
    if kind < 0.25:  # tiles of a face in another order
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
        patch = _ground(rng, 48)
        text(patch, rng)
    else:  # a head without a face: from behind, or a ball
        patch = Image.new("RGB", (48, 48), _color(rng))
        pen = ImageDraw.Draw(patch)
        pen.ellipse((6, 4, 42, 44), fill=_color(rng), outline=(30, 20, 30))
        if rng.random() < 0.5:
            pen.ellipse((14, 14, 36, 42), fill=(255, 224, 200))
        _lines(patch, rng)
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
