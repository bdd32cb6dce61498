"""Pictures and facts as HTML.

All bytes are inside it as data addresses, so that nothing that the page draws ever becomes a file.
"""

from __future__ import annotations

import base64
import shlex
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from animegen_cli.report import grids
from animegen_cli.report.units import amount, duration
from animegen_cli.ui.markup import Markup, el, escape, join

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from animegen_cli.errors import AnimegenError
    from animegen_cli.paths import Run
    from animegen_cli.report.records import Record
    from animegen_cli.sample.recipe import Recipe

_ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}
_SHOW_FRAME = (
    "const frames=this.closest('.walk').querySelectorAll('.stage img');"
    "frames.forEach((frame,i)=>frame.hidden=i!=this.value)"
)
"""JavaScript of the slider of a walk: shows the frame that it points at, and hides the others."""
_FRAME_MS = 90


def picture(image: np.ndarray, alt: str, recipe: Recipe | None, *, pressed: bool = False) -> Markup:
    """An `<img>` of uint8 (H, W, 3), at its own size; `recipe` tells in it how it was drawn, None for one that was not.

    Args:
        image: the pixels.
        alt: what it is, in words.
        recipe: how it was drawn.
        pressed: whether keys reach it and press it like a button.
    """
    height, width = image.shape[:2]
    keys = {"tabindex": "0", "role": "button"} if pressed else {}
    return el("img", src=_png_address(Image.fromarray(image), recipe), alt=alt, width=width, height=height, **keys)


def faces(images: np.ndarray, captions: Sequence[str], recipes: Sequence[Recipe], *, size: int = 190) -> Markup:
    """Drawn faces, uint8 (n, H, W, 3), each with its recipe inside and its caption below, at least `size` pixels wide on the
    page."""
    cells = [
        el("figure", picture(image, f"face drawn from {caption}", recipe, pressed=True), el("figcaption", caption))
        for image, caption, recipe in zip(images, captions, recipes, strict=True)
    ]
    return el("div", *cells, class_="faces", style=f"--face:{size}px")


def download(image: Image.Image, name: str, recipe: Recipe, text: str = "Download PNG") -> Markup:
    """A link that saves a picture as the file `name`."""
    return el("a", text, href=_png_address(image, recipe), download=name, class_="save")


def sheet_zoom(size: int) -> int:
    """How much faces of `size` pixels are enlarged on a saved sheet, so that their captions can be read."""
    return max(1, 96 // size)


def sheet(images: np.ndarray, captions: Sequence[str], recipes: Sequence[Recipe], name: str, whole: Recipe) -> Markup:
    """The faces, uint8 (n, H, W, 3), and a link that saves them as one picture with their captions.

    Args:
        images: the faces.
        captions: one per face.
        recipes: one per face.
        name: of the saved file.
        whole: the recipe of the one picture.
    """
    picture_of_all = grids.grid(images, labels=captions, zoom=sheet_zoom(images.shape[2]))
    return join(faces(images, captions, recipes), el("p", download(picture_of_all, name, whole), class_="links"))


def walk(images: np.ndarray, recipes: Sequence[Recipe], whole: Recipe, name: str) -> Markup:
    """A slider over the images of a walk, uint8 (n, H, W, 3), and the same as an animation there and back and as a strip.

    Args:
        images: from the first seed to the last.
        recipes: one per image.
        whole: the recipe of the strip, which names both seeds.
        name: how the names of the saved files begin.
    """
    start, end = whole.how["ends"]
    zoom = max(1, -(-256 // images.shape[2]))
    last = len(images) - 1
    frames = [
        el(
            "img",
            src=_png_address(Image.fromarray(image), recipes[i]),
            alt=f"{i} of {last} steps from seed {start} to {end}",
            hidden=i != last // 2,
        )
        for i, image in enumerate(images)
    ]
    slider = el(
        "input",
        type="range",
        min="0",
        max=str(last),
        value=str(last // 2),
        oninput=_SHOW_FRAME,
        aria_label=f"position between seed {start} and seed {end}",
    )
    ruler = el("div", el("span", f"seed {start}"), slider, el("span", f"seed {end}"), class_="ruler")
    animation = _address(_animation(images, zoom, replace(whole, kind="film")))
    moving = el("img", src=animation, alt=f"animation from seed {start} to seed {end} and back")
    strip = grids.strip(images, gap=0, zoom=sheet_zoom(images.shape[2]))
    links = el(
        "p",
        el("a", "Download animation (APNG)", href=animation, download=f"{name}-animation.png", class_="save"),
        download(strip, f"{name}-strip.png", whole, "Download strip (PNG)"),
        class_="links",
    )
    return el(
        "div",
        el("div", el("div", el("div", *frames, class_="stage"), ruler), el("div", moving, class_="film"), class_="two"),
        el("div", *(picture(image, f"step {i}", recipes[i]) for i, image in enumerate(images)), class_="strip"),
        links,
        class_="walk",
    )


def edited(pictures: Sequence[tuple[str, np.ndarray]], name: str, recipe: Recipe) -> Markup:
    """Titled pictures, uint8 (H, W, 3), from what went in to what came out; the last one, which the recipe is of, can be
    saved as `name`.png."""
    last = len(pictures) - 1
    cells = [
        el("figure", picture(image, title, recipe if i == last else None), el("figcaption", title))
        for i, (title, image) in enumerate(pictures)
    ]
    after = Image.fromarray(pictures[-1][1])
    zoom = max(1, 256 // max(after.size))
    links = [download(after, f"{name}.png", recipe)]
    if zoom > 1:
        large = after.resize((after.width * zoom, after.height * zoom), Image.Resampling.BICUBIC)
        links.append(download(large, f"{name}-x{zoom}.png", recipe, f"Download {zoom} times as large"))
    return join(el("div", *cells, class_="pair-of"), el("p", *links, class_="links"))


def side_by_side(runs: Sequence[tuple[Run, np.ndarray, Sequence[Recipe]]], captions: Sequence[str]) -> Markup:
    """What several runs draw from the same seeds: for each its name above its faces, uint8 (n, H, W, 3), and their recipes."""
    blocks = [
        el("section", el("h3", run.name), of_run(run, faces(images, captions, told, size=96)))
        for run, images, told in runs
    ]
    return el("div", *blocks, class_="sides")


def of_run(run: Run, pictures: Markup) -> Markup:
    """Pictures with what their recipes leave open, which run drew them, for the commands that the page shows."""
    return el("div", pictures, data_run=shlex.quote(str(run.path)), data_name=run.name)


def kept() -> Markup:
    """Where page.js shows the faces that were kept."""
    title = el("h2", "Kept ", el("small", "in this browser"))
    return el("section", title, el("div", class_="faces", style="--face:110px"), id="kept", hidden=True)


def strips(rows: Sequence[tuple[str, np.ndarray, Sequence[Recipe]]], captions: Sequence[str]) -> Markup:
    """Titled rows of images, uint8 (n, H, W, 3), with their recipes, under n common captions."""
    head = el("tr", el("td", ""), *(el("th", caption, scope="col") for caption in captions))
    body = []
    for title, images, recipes in rows:
        cells = zip(images, captions, recipes, strict=True)
        pictures = [el("td", picture(image, f"{title}, {caption}", recipe)) for image, caption, recipe in cells]
        body.append(el("tr", el("th", title, scope="row"), *pictures))
    return el("div", el("table", head, *body, class_="strips"), class_="wide")


def notice(text: object) -> Markup:
    """A line that says why something is not there; nothing when `text` is empty."""
    return el("p", text, class_="notice") if text else Markup("")


def problem(error: AnimegenError) -> Markup:
    """An error as the page says it: the message, and below it the hint."""
    return join(el("span", coded(error.message)), el("br") if error.hint else None, coded(error.hint or ""))


def coded(text: str) -> Markup:
    """Text in which what stands between backticks is code."""
    parts = text.split("`")
    return join(*(el("code", part) if i % 2 and i < len(parts) - 1 else escape(part) for i, part in enumerate(parts)))


def facts(record: Record) -> Markup:
    """A line of what a run is: its family, training, pictures, state and scores."""
    about, data = record.about, record.data
    rows = [
        ("family", f"{about.get('family', '?')} · {about.get('preset') or 'no preset'}"),
        ("pictures", f"{data['size']} × {data['size']}, {data.get('name', '')}" if "size" in data else "–"),
        ("trained", f"{amount(record.images)} images in {duration(float(about.get('seconds') or 0))}"),
        ("state", record.state),
        *((score.name + _ARROWS[score.better], score.text) for score in record.scores),
    ]
    return el("dl", *(el("div", el("dt", key), el("dd", value)) for key, value in rows), class_="facts")


def _animation(images: np.ndarray, zoom: int, recipe: Recipe) -> bytes:
    """Images (n, H, W, 3) there and back as an animated PNG: every browser plays it, and no color is lost."""
    size = (images.shape[2] * zoom, images.shape[1] * zoom)
    forth = [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC) for image in images]
    back = forth[-2:0:-1]
    buffer = BytesIO()
    text = grids.png_text(recipe.chunks(forth[0]))
    rest = [*forth[1:], *back]
    forth[0].save(buffer, "PNG", save_all=True, append_images=rest, duration=_FRAME_MS, loop=0, pnginfo=text)
    return buffer.getvalue()


def _png_address(image: Image.Image, recipe: Recipe | None) -> Markup:
    return _address(grids.png(image, recipe.chunks(image) if recipe else None))


def _address(png: bytes) -> Markup:
    """A data address that holds the picture itself."""
    return Markup("data:image/png;base64," + base64.b64encode(png).decode("ascii"))
