"""Pictures and facts as HTML: all bytes are inside it, so nothing that the page draws ever becomes a file."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from animegen_cli.report import grids
from animegen_cli.report.markup import Markup, el, escape, join
from animegen_cli.report.units import amount, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from animegen_cli.errors import AnimegenError
    from animegen_cli.report.records import Record

_ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}
_SHOW = "const all=this.closest('.walk').querySelectorAll('.stage img');all.forEach((one,i)=>one.hidden=i!=this.value)"


def picture(image: np.ndarray, alt: str) -> Markup:
    """An `<img>` of uint8 (H, W, 3), as it is."""
    height, width = image.shape[:2]
    return el("img", src=_data(_png(Image.fromarray(image))), alt=alt, width=width, height=height)


def faces(images: np.ndarray, captions: Sequence[str], *, size: int = 104) -> Markup:
    """Images (n, H, W, 3), each with its caption, at least `size` pixels wide on the page."""
    cells = [
        el("figure", picture(image, f"face drawn from {caption}"), el("figcaption", caption))
        for image, caption in zip(images, captions, strict=True)
    ]
    return el("div", *cells, class_="faces", style=f"--face:{size}px")


def download(image: Image.Image, name: str, text: str = "Download PNG") -> Markup:
    """A link that saves a picture."""
    return el("a", text, href=_data(_png(image)), download=name, class_="save")


def sheet(images: np.ndarray, captions: Sequence[str], name: str) -> Markup:
    """The faces, and a link that saves them as one picture with their captions."""
    whole = grids.grid(images, labels=captions, zoom=max(1, 96 // images.shape[2]))
    return join(faces(images, captions), el("p", download(whole, name), class_="links"))


def walk(images: np.ndarray, ends: tuple[int, int], name: str) -> Markup:
    """A slider over images (n, H, W, 3), the same as an animation there and back, and as a strip."""
    zoom, last = max(1, -(-256 // images.shape[2])), len(images) - 1
    frames = [
        el("img", src=_data(_png(Image.fromarray(image))), alt=f"{i} of {last} steps from seed {ends[0]} to {ends[1]}",
           hidden=i != last // 2)
        for i, image in enumerate(images)
    ]  # fmt: skip
    film, strip = _film(images, zoom), grids.strip(images, gap=0, zoom=max(1, 96 // images.shape[2]))
    slider = el(
        "input", type="range", min="0", max=str(last), value=str(last // 2), oninput=_SHOW,
        aria_label=f"position between seed {ends[0]} and seed {ends[1]}",
    )  # fmt: skip
    moving = el("img", src=_data(film), alt=f"animation from seed {ends[0]} to seed {ends[1]} and back")
    ruler = el("div", el("span", f"seed {ends[0]}"), slider, el("span", f"seed {ends[1]}"), class_="ruler")
    links = el(
        "p",
        el("a", "Download animation (APNG)", href=_data(film), download=f"{name}-animation.png", class_="save"),
        download(strip, f"{name}-strip.png", "Download strip (PNG)"),
        class_="links",
    )
    return el(
        "div",
        el("div", el("div", el("div", *frames, class_="stage"), ruler), el("div", moving, class_="film"), class_="two"),
        el("div", *(picture(image, f"step {i}") for i, image in enumerate(images)), class_="strip"),
        links,
        class_="walk",
    )


def changed(pictures: Sequence[tuple[str, np.ndarray]], name: str) -> Markup:
    """A titled picture beside the next, from what went in to what came out; the last one can be saved."""
    cells = [el("figure", picture(image, title), el("figcaption", title)) for title, image in pictures]
    after = Image.fromarray(pictures[-1][1])
    zoom = max(1, 256 // max(after.size))
    links = [download(after, f"{name}.png")]
    if zoom > 1:
        large = after.resize((after.width * zoom, after.height * zoom), Image.Resampling.BICUBIC)
        links.append(download(large, f"{name}-x{zoom}.png", f"Download {zoom} times as large"))
    return join(el("div", *cells, class_="pair-of"), el("p", *links, class_="links"))


def side_by_side(parts: Sequence[tuple[str, np.ndarray | str]], captions: Sequence[str]) -> Markup:
    """What several runs draw from the same seeds: a titled block each; a text says why there is nothing."""
    blocks = [
        el(
            "section",
            el("h3", title),
            notice(shown) if isinstance(shown, str) else faces(shown, captions, size=72),
        )
        for title, shown in parts
    ]
    return el("div", *blocks, class_="sides")


def strips(rows: Sequence[tuple[str, np.ndarray]], captions: Sequence[str]) -> Markup:
    """Titled rows of images under common captions."""
    head = el("tr", el("td", ""), *(el("th", caption, scope="col") for caption in captions))
    body = [
        el("tr", el("th", title, scope="row"), *(el("td", picture(image, f"{title}, {caption}"))
                                                for image, caption in zip(images, captions, strict=True)))
        for title, images in rows
    ]  # fmt: skip
    return el("div", el("table", head, *body, class_="strips"), class_="wide")


def notice(text: object) -> Markup:
    """Why something is not there."""
    return el("p", text, class_="notice") if text else Markup("")


def problem(error: AnimegenError) -> Markup:
    """An error as the page says it: the sentence, then what to do."""
    return join(el("span", _code(error.message)), el("br") if error.hint else None, _code(error.hint or ""))


def _code(text: str) -> Markup:
    """Text in which `this` is code."""
    pieces = text.split("`")
    whole = [el("code", piece) if i % 2 and i < len(pieces) - 1 else escape(piece) for i, piece in enumerate(pieces)]
    return join(*whole)


def facts(record: Record) -> Markup:
    """What a run is, in a few lines, with its scores."""
    about, data = record.about, record.data
    rows = [
        ("family", f"{about.get('family', '?')} · {about.get('preset') or 'no preset'}"),
        ("trained", f"{amount(record.images)} images in {duration(float(about.get('seconds') or 0))}"),
        ("pictures", f"{data['size']} × {data['size']}, {data.get('name', '')}" if "size" in data else "–"),
        ("state", record.state),
        *((score.name + _ARROWS[score.better], score.text) for score in record.scores),
    ]
    if not record.scores:
        rows.append(("scores", "none yet"))
    cells = [join(el("dt", key), el("dd", value)) for key, value in rows]
    return el("dl", *cells, class_="facts")


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _film(images: np.ndarray, zoom: int) -> bytes:
    """There and back, as an animated PNG: every browser plays it, and no colour is lost."""
    size = (images.shape[2] * zoom, images.shape[1] * zoom)
    there = [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC) for image in images]
    buffer = BytesIO()
    there[0].save(buffer, "PNG", save_all=True, append_images=[*there[1:], *there[-2:0:-1]], duration=90, loop=0)
    return buffer.getvalue()


def _data(png: bytes) -> Markup:
    return Markup("data:image/png;base64," + base64.b64encode(png).decode("ascii"))
