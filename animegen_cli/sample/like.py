"""`animegen sample --like PICTURE`: draws a picture again by the recipe in its file, and says what differs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from animegen_cli import console, paths
from animegen_cli.device import pick_device
from animegen_cli.errors import DataError, UsageError
from animegen_cli.model import abilities, checkpoint
from animegen_cli.model.pixels import channels_last
from animegen_cli.paths import Run
from animegen_cli.report import grids
from animegen_cli.sample import recipe, sheets
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.output import save
from animegen_cli.sample.trained import label_row, open_trained, sampling_of
from animegen_cli.seeds import parse_seeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from animegen_cli.sample.recipe import Recipe
    from animegen_cli.sample.request import Request


@dataclass(frozen=True)
class Likeness:
    """A picture that was drawn again beside the one whose recipe it followed."""

    file: Path
    run: Run
    command: str
    """The line that the recipe tells."""
    pixels: float
    """Share of pixels that are equal, 0 where the sizes differ."""
    largest: int
    """The largest difference of a value, of 255."""
    differs: list[str]
    """What else is not as it was, in words."""

    @property
    def equal(self) -> bool:
        """Whether every pixel is."""
        return self.pixels == 1

    def to_dict(self) -> dict[str, object]:
        """Plain values for `--json`."""
        return {
            "files": [str(self.file)], "run": str(self.run.path), "command": self.command, "equal": self.equal,
            "pixels_equal": self.pixels, "largest_difference": self.largest, "differs": self.differs,
        }  # fmt: skip

    def __str__(self) -> str:
        """The file, and whether it is equal or what differs."""
        if self.equal:
            said = ["bit-equal"]
        elif not self.pixels and not self.largest:
            said = ["the sizes differ"]
        else:
            said = [f"{1 - self.pixels:.2%} of the pixels differ, by {self.largest} of 255 at most"]
        unknown = not self.equal and not self.differs
        why = self.differs or (["another processor or number of threads may round otherwise"] if unknown else [])
        return "\n".join([str(self.file), *said, *(f"  {line}" for line in why)])


def like(request: Request, picture: Path) -> Likeness:
    """Draw a picture again.

    Args:
        request: the run, if one was named, the folder, device, precision and batch.
        picture: a PNG file that animegen drew.

    Raises:
        DataError: no picture, no recipe in it, or no run with those weights under `runs/`.
        UsageError: it was made of another picture or on the page, so the recipe alone cannot make it again; or the run that
            was named cannot follow it.
    """
    told, shown = recipe.read(picture)
    if told.kind not in _KINDS:
        raise _needs_more(picture, told)
    run = abilities.open_run(request.run, "samples") if request.run is not None else find(told, str(picture))
    console.note(f"run: {run.path}")
    generator = _generator(request, run, told)
    try:
        drawn = _KINDS[told.kind](run, generator, told)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the recipe in {picture} is no recipe of a {told.kind}: {error}", hint="take the file as animegen wrote it"
        ) from error
    out = (request.out or run.path / "drawn") / "like"
    again = replace(told, **_now(generator))
    file = save(drawn, out / f"{picture.stem}.png", again)
    share, largest = _compared(shown, drawn)
    return Likeness(file, run, told.command, share, largest, _differences(told, again, shown))


def find(told: Recipe, name: str, root: Path = paths.RUNS) -> Run:
    """The run under `root` that has a recipe's weights; DataError where there is none any more, `name` says of which picture."""
    of_family = []
    for run in paths.runs(root, sweeps=True)[::-1]:
        try:
            if run.weights.is_file() and checkpoint.identity(run.weights) == told.identity:
                return run
            about = run.about
        except DataError:  # another run's damage
            continue
        if (about.get("family"), about.get("preset")) == (told.family, told.preset):
            of_family.append(run)
    others = f"; {of_family[0].path} is of that kind and has other weights, as after more training" if of_family else ""
    raise DataError(
        f"{name} is by {told.run}, which is not under {root}/{others}",
        hint=f"name the run's folder: `animegen sample RUN --like {name}`",
    )


def _needs_more(picture: Path, told: Recipe) -> UsageError:
    """Why a recipe of this kind is not enough."""
    if told.kind == "steer":
        where = f"open `animegen ui`, pick {told.run}, and set seed and sliders in its tab Steer"
        return UsageError(f"{picture} was drawn with the sliders of the page", hint=where)
    if told.kind == "film":
        return UsageError(f"{picture} is an animation", hint=f"draw its walk as a strip: `{told.command}`")
    return UsageError(
        f"{picture} was made of another picture, which no recipe holds",
        hint=f"give that again: `{told.command}`",
    )


def _generator(request: Request, run: Run, told: Recipe) -> Generator:
    """The run as the recipe says, on its kind of device where this machine has one."""
    name = request.device or ("cpu" if told.device == "cpu" else None)
    precision = told.precision if request.precision == "auto" else request.precision
    trained = open_trained(run, device=pick_device(name), precision=precision)
    sampling = sampling_of(
        trained, {key: value for key, value in told.sampling.items() if (key, value) != ("steps", None)}
    )
    labels = label_row(trained, told.labels) if told.labels else None
    return Generator(trained, sampling, labels, request.batch or told.batch)


def _now(generator: Generator) -> dict[str, Any]:
    """The fields of a recipe that say by what it is followed now."""
    now = recipe.of(generator, "image", [])
    names = ("identity", "family", "preset", "images", "batch", "device", "precision", "torch", "version")
    return {name: getattr(now, name) for name in names}


def _compared(before: Image.Image, after: Image.Image) -> tuple[float, int]:
    """Share of equal pixels, and the largest difference of a value."""
    if before.size != after.size:
        return 0.0, 0
    first, second = (np.asarray(image.convert("RGB"), dtype=np.int16) for image in (before, after))
    apart = np.abs(first - second).max(axis=2)
    return float((apart == 0).mean()), int(apart.max())


def _differences(told: Recipe, now: Recipe, shown: Image.Image) -> list[str]:
    """What is not as it was when the picture was drawn, a line each."""
    names = {"version": "animegen", "torch": "PyTorch", "device": "device", "precision": "precision", "batch": "batch"}
    found = []
    if told.identity != now.identity:
        found.append(f"another run: {told.run} then, {now.run} now")
    found += [
        f"{name}: {getattr(told, field)} then, {getattr(now, field)} now"
        for field, name in names.items()
        if getattr(told, field) != getattr(now, field)
    ]
    if recipe.digest(shown) != told.pixels:
        found.append("the file: its pixels were changed after it was drawn")
    return found


# ---- one kind of picture after the other ------------------------------------------------------------------------


def _image(run: Run, generator: Generator, told: Recipe) -> Image.Image:
    (seed,) = parse_seeds(told.how["seeds"])
    return Image.fromarray(channels_last(generator.draw([seed]))[0])


def _grid(run: Run, generator: Generator, told: Recipe) -> Image.Image:
    seeds = parse_seeds(told.how["seeds"])
    with console.progress("drawing", len(seeds)) as bar:
        drawn = channels_last(generator.draw(seeds, on_progress=bar.advance))
    labels = [f"seed {seed}" for seed in seeds] if told.how.get("captions") else None
    return grids.grid(drawn, labels=labels, zoom=_count(told, "zoom", 1))


def _variation(run: Run, generator: Generator, told: Recipe) -> Image.Image:
    (other,) = parse_seeds(told.how["seeds"])
    return Image.fromarray(channels_last(generator.vary(told.how["vary"], [other], told.how["amount"]))[0])


def _variations(run: Run, generator: Generator, told: Recipe) -> Image.Image:
    seed, others = told.how["vary"], parse_seeds(told.how["seeds"])
    with console.progress("drawing", len(others) + 1) as bar:
        drawn = generator.vary(seed, [seed, *others], told.how["amount"], on_progress=bar.advance)
    return sheets.variations(channels_last(drawn), seed, others, _count(told, "zoom", 1))


def _walk(run: Run, generator: Generator, told: Recipe) -> Image.Image:
    start, end = map(int, told.how["ends"])
    walk = channels_last(generator.interpolate(start, end, _count(told, "frames", 2)))
    if "frame" in told.how:
        return Image.fromarray(walk[_count(told, "frame", 0)])
    return grids.strip(walk, gap=0, zoom=_count(told, "zoom", 1))


def _denoise(run: Run, generator: Generator, told: Recipe) -> Image.Image:
    return sheets.denoise_strip(generator, _count(told, "frames", 2), int(told.how["seeds"]))


def _progress(run: Run, generator: Generator, told: Recipe) -> Image.Image:
    return sheets.progress_strip(run, generator.trained, _count(told, "frames", 2), int(told.how["seeds"]))


def _mix(run: Run, generator: Generator, told: Recipe) -> Image.Image:
    rows, columns = (parse_seeds(told.how[key]) for key in ("rows", "columns"))
    cut = told.how.get("cut")
    return sheets.mix_table(generator, rows, columns, None if cut is None else int(cut))


def _count(told: Recipe, key: str, least: int) -> int:
    """A number of a recipe, `least` where it names none; ValueError for one that no picture has."""
    found = told.how.get(key, least)
    if type(found) is not int or not least <= found <= _MOST_FRAMES:
        raise ValueError(f"{key} {found!r}")
    return found


_MOST_FRAMES = 10_000
_KINDS: dict[str, Callable[[Run, Generator, Recipe], Image.Image]] = {
    "image": _image, "grid": _grid, "variation": _variation, "variations": _variations, "walk": _walk, "denoise": _denoise,
    "progress": _progress, "mix": _mix,
}  # fmt: skip
