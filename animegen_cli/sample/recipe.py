"""The recipe inside a picture: which run drew it, from which seeds and how, as text chunks of its PNG file.

It names the run by its weights and nothing of the person or the machine: no paths, no names of folders, users or hosts.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from animegen_cli import disk
from animegen_cli.errors import DataError
from animegen_cli.seeds import spell_seeds

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from animegen_cli.sample.generate import Generator

KEY = "animegen"
"""The keyword of the chunk that holds the recipe as JSON; `Comment` holds the command, `Software` the program, as PNG's
specification (section 11.3.4.2) names them."""
_MOST = 2**20
"""Bytes of a recipe at most."""
_NAME = re.compile(r"[\w.+ ()@-]{0,100}", re.ASCII)
"""What a name may look like: it is shown in terminals."""
_SEEDS = re.compile(r"[0-9,-]+", re.ASCII)


@dataclass(frozen=True)
class Recipe:
    """Who drew a picture, and how."""

    kind: str
    """What is on it: `image`, `grid`, `variation`, `variations`, `walk`, `denoise`, `progress` or `mix`, which can be drawn
    again; `edit`, made of another picture; `steer` and `film`, sliders and animations of the page."""
    how: Mapping[str, Any]
    """What a picture of this kind depends on: `seeds`, spelled; which seed's face they `vary`, by which `amount`;
    `ends` and `frames` of a walk, and which `frame` it is; ..."""
    command: str
    """The line to type, with RUN for the run."""
    identity: str
    """The first 16 hex digits of the hash of the run's weights."""
    family: str
    preset: str | None
    images: int
    """Images seen in training."""
    sampling: Mapping[str, Any]
    """The whole section `sample:` that was drawn with."""
    labels: Mapping[str, str]
    batch: int
    """Images of each network call."""
    device: str
    """`cpu`, or the name of the GPU."""
    precision: str
    torch: str
    """The version of PyTorch."""
    version: str
    """The version of animegen."""
    pixels: str = ""
    """Of the picture: the first 16 hex digits of the hash of its size and pixels."""

    @property
    def run(self) -> str:
        """The run in words."""
        family = f"{self.family}/{self.preset}" if self.preset else self.family
        return f"a {family} run after {self.images:,} images (weights {self.identity})"

    def chunks(self, image: Image.Image) -> dict[str, str]:
        """The text chunks of a PNG file of `image`, by keyword."""
        told = replace(self, pixels=digest(image))
        return {"Software": f"animegen {self.version}", "Comment": self.command, KEY: told.to_json()}

    def to_json(self) -> str:
        """The recipe with a checksum, as `parse` reads it."""
        return json.dumps(disk.sealed(asdict(self)))


def of(generator: Generator, kind: str, words: Sequence[object], **how: object) -> Recipe:
    """The recipe of a picture that a generator draws.

    Args:
        generator: the run and how it draws.
        kind: see `Recipe`.
        words: of the command, after RUN, such as `--seeds 3`; a leading `translate` makes it that command.
        how: see `Recipe`.
    """
    from animegen_cli.device import machine_about

    trained = generator.trained
    machine = machine_about(trained.device)
    config = trained.config
    sampling = asdict(generator.sampling)
    own = asdict(config.sample)
    chosen = [f"{key}={json.dumps(value)}" for key, value in sampling.items() if value != own.get(key)]
    indices = dict(zip(trained.data.attributes, generator.labels or (), strict=False))
    labels = {name: trained.data.attributes[name][index] for name, index in indices.items() if index >= 0}
    typed = list(map(str, words))
    verb, typed = ("translate", typed[1:]) if typed[:1] == ["translate"] else ("sample", typed)
    for name, listed in (("--set", chosen), ("--labels", [f"{key}={value}" for key, value in labels.items()])):
        typed += [word for one in listed for word in (name, one)]
    if generator.batch is not None:
        typed += ["--batch", str(generator.batch)]
    return Recipe(
        kind, how,
        command=shlex.join(["animegen", verb, "RUN", *typed, "--precision", trained.precision]),
        identity=trained.identity, family=config.family, preset=config.preset, images=trained.images,
        sampling=sampling, labels=labels, batch=generator.call_size,
        device=machine["device"], precision=trained.precision, torch=machine["versions"]["torch"].partition("+")[0],
        version=machine["versions"]["animegen"],
    )  # fmt: skip


def of_seeds(generator: Generator, seeds: Sequence[int], *, grid: bool = False, **how: object) -> Recipe:
    """The recipe of one seed's image, or of a grid of several; `how` says what a grid has besides: captions, a zoom."""
    spelled = spell_seeds(seeds)
    words = ["--seeds", spelled, *(["--grid"] if grid else [])]
    return of(generator, "grid" if grid else "image", words, seeds=spelled, **how)


def of_variations(
    generator: Generator, seed: int, others: Sequence[int], amount: float, *, grid: bool = False, **how: object
) -> Recipe:
    """The recipe of a seed's face varied towards another, or of a grid of the face and its variations; `how` as of a grid."""
    spelled = spell_seeds(others)
    words = ["--vary", seed, "--amount", amount, "--seeds", spelled, *(["--grid"] if grid else [])]
    kind = "variations" if grid else "variation"
    return of(generator, kind, words, vary=seed, amount=amount, seeds=spelled, **how)


def variation_titles(seed: int, others: Sequence[int]) -> list[str]:
    """What stands below a face and below its variations."""
    return [f"seed {seed}", *(f"{seed} towards {other}" for other in others)]


def of_walk(generator: Generator, ends: tuple[int, int], frames: int, **how: object) -> Recipe:
    """The recipe of a walk between two seeds as a strip, or of its picture number `frame`."""
    return of(generator, "walk", ["--interpolate", *ends, "--frames", frames], ends=list(ends), frames=frames, **how)


def digest(image: Image.Image) -> str:
    """The first 16 hex digits of the hash of an image's mode, size and pixels."""
    return hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()[:16]


def read(path: Path) -> tuple[Recipe, Image.Image]:
    """The recipe in a picture's file, and the picture.

    Raises:
        DataError: no such file, no picture, one without a recipe, or a damaged recipe.
    """
    from animegen_cli.data.decoding import decode
    from animegen_cli.data.sources import Unusable

    try:
        decode(path.read_bytes())  # within the limits for pictures of strangers
        return parse(texts(path), path.name), opened(path)
    except (OSError, Unusable, MemoryError) as error:
        why = getattr(error, "strerror", None) or str(error) or "too many pixels"
        raise DataError(f"cannot read {path}: {why}", hint="name a PNG file that animegen drew") from error


def texts(path: Path) -> dict[str, str]:
    """The text chunks of a PNG file by keyword; none of a file of another kind."""
    from PIL import Image

    with Image.open(path) as image:
        return dict(getattr(image, "text", {})) if image.format == "PNG" else {}


def opened(path: Path) -> Image.Image:
    """The first frame of a picture, its pixels as they are in the file."""
    from PIL import Image

    with Image.open(path) as image:
        image.load()
        return image.copy()


def parse(found: Mapping[str, str], name: str) -> Recipe:
    """The recipe among the text chunks of the picture called `name`; DataError where there is none, or a damaged one."""
    if KEY not in found:
        png = name.lower().endswith(".png")
        lost = "programs that save it again, chats and screenshots drop it" if png else "only the PNG itself carries it"
        raise DataError(
            f"{name} holds no recipe: {lost}",
            hint="take the file as animegen wrote it, or draw by hand: `animegen sample RUN --seeds 3`",
        )
    try:
        if len(found[KEY]) > _MOST:
            raise ValueError("it is too long")
        told = disk.parse_json(found[KEY])
        if not isinstance(told, dict) or "checksum" not in told:
            raise ValueError("it has no checksum")
        known = {field.name for field in fields(Recipe)}
        recipe = Recipe(**{key: value for key, value in disk.unsealed(told).items() if key in known})
        _check(recipe)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"the recipe in {name} is damaged: {error}", hint="take the file as animegen wrote it"
        ) from error
    return recipe


def _check(recipe: Recipe) -> None:
    """ValueError for values that no animegen writes: the file may come from anybody."""
    names = (recipe.kind, recipe.family, recipe.preset or "", recipe.device, recipe.precision, recipe.torch)
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in (*names, recipe.version)):
        raise ValueError("a name that is none")
    if not re.fullmatch(r"[0-9a-f]{16}", recipe.identity):
        raise ValueError("weights without a hash")
    if not all(isinstance(value, dict) for value in (recipe.how, recipe.sampling, recipe.labels)):
        raise ValueError("a list where settings belong")
    if not all(type(value) is int and 0 < value < 2**53 for value in (recipe.batch, recipe.images + 1)):
        raise ValueError("a count that is none")
    for key in ("seeds", "rows", "columns"):
        if key in recipe.how and not _SEEDS.fullmatch(str(recipe.how[key])):
            raise ValueError("seeds that are none")
    if recipe.kind in ("variation", "variations"):
        _check_variation(recipe.how)
    if not isinstance(recipe.command, str) or not recipe.command.isprintable():
        raise ValueError("a command that cannot be shown")


def _check_variation(how: Mapping[str, Any]) -> None:
    """ValueError unless it says which face was varied, and how far."""
    seed, amount = how.get("vary"), how.get("amount")
    if type(seed) is not int or seed < 0:
        raise ValueError("a variation of no seed")
    if not isinstance(amount, int | float) or not 0 <= amount <= 1:
        raise ValueError("a variation that is no part of a way")
