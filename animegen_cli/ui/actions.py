"""What the page's controls do, as plain functions: a run and settings in, pictures out. Nothing here knows of a browser."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch

from animegen_cli import paths
from animegen_cli.device import pick_device
from animegen_cli.errors import DataError, UsageError, did_you_mean
from animegen_cli.model import abilities, checkpoint
from animegen_cli.model.family import Corrupts, Samples, Translates
from animegen_cli.model.noise import Noise
from animegen_cli.model.pixels import channels_last, from_uint8, to_uint8
from animegen_cli.sample import like, recipe
from animegen_cli.sample.generate import Generator, OnProgress
from animegen_cli.sample.request import check_fit, check_variation
from animegen_cli.sample.trained import Trained, label_row, open_trained, require, sampling_of
from animegen_cli.seeds import parse_seeds, spell_seeds
from animegen_cli.translate import tiles, translate
from animegen_cli.ui import directions
from animegen_cli.ui.directions import Directions

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from PIL import Image
    from torch import Tensor

    from animegen_cli.model.family import Edit
    from animegen_cli.paths import Run
    from animegen_cli.sample.recipe import Recipe

MAX_FACES = 100
MAX_FRAMES = 60
MAX_BATCH = 16
"""Images per network call: few enough for a bar that moves, and no padding to a fixed number, which files get."""
MAX_SIDE = 1024
"""Longest shorter side in pixels that a picture is scaled to."""
SETTINGS = ("sampler", "steps", "guidance", "autoguidance", "truncation", "temperature", "levels")
"""Keys of a run's `sample` section that the page offers."""


# ---- runs -----------------------------------------------------------------------------------------------------


def list_runs(root: Path) -> dict[str, Run]:
    """The runs under `root` by what they are called there, those of sweeps too, newest first."""
    return {paths.run_name(run, root): run for run in paths.runs(root, sweeps=True)[::-1]}


def find_run(root: Path, name: str | None) -> Run:
    """The run called `name` under `root`.

    Raises:
        DataError: there is none, or none any more.
    """
    runs = list_runs(root)
    if not runs:
        raise DataError(f"no run under {root}/", hint='train one: `animegen train --budget "30 min"`')
    if name not in runs:
        raise DataError(f"no run `{name or ''}` under {root}/", hint=did_you_mean(name or "", runs))
    return runs[name]


def draws(run: Run) -> bool:
    """Whether a run has weights and draws from noise."""
    return run.weights.is_file() and run.able("samples")


class _LoadedRun(NamedTuple):
    """A run in memory."""

    version: tuple[int, int]
    """Time of the last change in ns and size in bytes of its weights file when it was read."""
    trained: Trained
    directions: dict[str, Directions]
    """The directions found so far, by sampling section and label row."""


class Models:
    """The trained runs that are held in memory: those used last."""

    def __init__(self, device: str | None = None, most: int = 3) -> None:
        """Hold at most `most` runs on `device`, a GPU where there is one when None."""
        self.device = pick_device(device)
        self.most = most
        self._loaded: OrderedDict[Path, _LoadedRun] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, run: Run) -> Trained:
        """The run's networks, which are read again when training has written new weights.

        Raises:
            DataError: there are no weights yet, or damaged ones.
        """
        return self._load(run).trained

    def directions(
        self, run: Run, generator: Generator, on_progress: Callable[[int, int], None] | None = None
    ) -> Directions:
        """The run's directions, which are searched for once for each sampling section and label row.

        Args:
            run: one that draws.
            generator: of that run.
            on_progress: called with how many pictures are drawn, and of how many.

        Raises:
            UsageError: the run does not draw from noise.
            DataError: there are no weights yet, or damaged ones.
        """
        loaded = self._load(run)
        key = str((generator.sampling, generator.labels))
        if key not in loaded.directions:
            require(loaded.trained, "samples")
            pictures = directions.PICTURES if directions.is_quick(loaded.trained) else directions.PICTURES // 4
            loaded.directions[key] = directions.find(generator, pictures=pictures, on_progress=on_progress)
        return loaded.directions[key]

    def _load(self, run: Run) -> _LoadedRun:
        if not run.weights.is_file():
            raise DataError(f"{run.name} has no weights yet", hint="they come with its first save; refresh then")
        status = run.weights.stat()
        version = (status.st_mtime_ns, status.st_size)
        path = run.path.resolve()
        with self._lock:  # the page draws and looks for directions at the same time
            loaded = self._loaded.pop(path, None)
            if loaded is None or loaded.version != version:
                loaded = _LoadedRun(version, open_trained(run, device=self.device), {})
            self._loaded[path] = loaded
            while len(self._loaded) > self.most:
                self._loaded.popitem(last=False)
        return loaded


# ---- what a run can do ----------------------------------------------------------------------------------------


class Capabilities(NamedTuple):
    """What a run can do, and so which controls the page shows for it."""

    draws: bool
    """Whether it draws from noise."""
    edits: frozenset[str] | None
    """The fields of `Edit` that it reads; None where it takes no pictures."""
    any_size: bool
    """Whether it takes pictures of any size; all others get a square of the run's size."""
    settings: Mapping[str, object]
    """Those of `SETTINGS` that its sampling section has, with the run's own values."""
    samplers: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    """(attribute, value) that it can be asked for."""


def capabilities(trained: Trained) -> Capabilities:
    """What a run can do, from its abilities and its sampling section."""
    model = trained.model
    section = asdict(trained.config.sample)
    if section.get("steps", 1) is None:
        del section["steps"]  # what this run draws from has none
    conditions = tuple(getattr(model, "conditions", ()))
    without = {"guidance": not conditions, "autoguidance": model.guide is None}
    return Capabilities(
        draws=isinstance(model, Samples),
        edits=model.edits if isinstance(model, Translates) else None,
        any_size=tiles.any_size(trained),
        settings={key: section[key] for key in SETTINGS if key in section and not without.get(key)},
        samplers=_literals(type(trained.config.sample), "sampler") if "sampler" in section else (),
        labels=tuple((name, value) for name in conditions for value in trained.data.attributes[name]),
    )


def _literals(section: type, field: str) -> tuple[str, ...]:
    """The values that a field of a config section may have, where its type is a Literal."""
    hint = get_type_hints(section)[field]
    return tuple(get_args(hint)) if get_origin(hint) is Literal else ()


def unable(family: str, ability: str) -> str:
    """A sentence that says why a control is not there: the ability that the family lacks, and the families that have it."""
    return f"A {family} run cannot {abilities.VERBS[ability]}; {abilities.only(abilities.families_able(ability))}."


def generator_of(trained: Trained, settings: Mapping[str, object], labels: Sequence[str] = ()) -> Generator:
    """The run with the page's settings in its own sampling section, and with the labels that were asked for.

    Args:
        trained: a run.
        settings: values by key of the section; those that it does not have, or that are None, are left out.
        labels: values of attributes, such as `hair=pink`.

    Raises:
        UsageError: a wrong value, a label that the run does not know, or two values of one attribute.
    """
    known = capabilities(trained).settings
    overrides = {key: value for key, value in settings.items() if key in known and value is not None}
    sampling = sampling_of(trained, overrides)
    values: dict[str, str] = {}
    for name, _, value in (label.partition("=") for label in labels):
        if name in values:
            raise UsageError(f"`{name}` is asked to be {values[name]} and {value}", hint="choose one of them")
        values[name] = value
    return Generator(trained, sampling, label_row(trained, values) if values else None)


# ---- recipes --------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where on the page a picture is drawn again."""

    tab: str
    seeds: Mapping[str, object]
    """Values by control of `Controls`."""


def run_of(told: Recipe, root: Path, picked: str | None = None) -> Run:
    """The run under `root` that drew a picture, the one called `picked` before others of equal weights; DataError where its
    weights are not there any more."""
    with suppress(DataError):
        run = find_run(root, picked)
        if run.weights.is_file() and checkpoint.identity(run.weights) == told.identity:
            return run
    try:
        return like.find(told, "the picture", root)
    except DataError as error:
        raise DataError(error.message, hint="show the folder it is in: `animegen ui --runs FOLDER`") from error


def place_of(told: Recipe) -> Place:
    """The tab for a picture of this kind, and the seeds that belong there."""
    how = told.how
    if told.kind in ("walk", "film"):
        (start, end), frames = how["ends"], how["frames"]
        return Place("walk", {"start_seed": start, "end_seed": end, "frames": min(frames, MAX_FRAMES)})
    if told.kind in ("variation", "variations"):
        return Place("draw", {"seeds": how["seeds"], "vary_seed": how["vary"], "amount": how["amount"]})
    if told.kind == "steer":
        return Place("steer", {"steer_seed": int(how["seeds"])})
    if told.kind == "edit":
        return Place("picture", {"edit_seed": how["seed"]} if "seed" in how else {})
    return Place("draw", {"vary_seed": None} | ({"seeds": how["seeds"]} if "seeds" in how else {}))


def place_of_variations(told: Recipe, count: int) -> Place:
    """The tab and seeds for `count` variations of the face on a picture, or for others of the face that it varies.

    Raises:
        UsageError: it is not the picture of one seed's face.
    """
    if told.kind not in ("image", "variation"):
        raise UsageError("this picture is no face of one seed", hint="choose a face that a seed draws")
    (towards,) = parse_seeds(told.how["seeds"])
    seed = told.how.get("vary", towards)
    others = [other for other in range(towards + 1, towards + count + 2) if other != seed][:count]
    return Place("draw", {"seeds": spell_seeds(others), "vary_seed": seed})


def told_by(told: Recipe, trained: Trained) -> str:
    """What a recipe says in a sentence or two, with what is not as the run has it and the page does not offer."""
    own, offered = asdict(trained.config.sample), capabilities(trained).settings
    kept = {key: value for key, value in own.items() if key not in offered}
    hidden = [f"{key} {told.sampling[key]}" for key, value in kept.items() if told.sampling.get(key, value) != value]
    rest = f" It also says {', '.join(hidden)}, which stays as the run has it here." if hidden else ""
    more = " The picture that it was made of is needed again." if told.kind == "edit" else ""
    return f"Drawn by {told.run}, animegen {told.version}.{more}{rest} Bit by bit: `animegen sample --like PICTURE`."


def recipe_of_edit(generator: Generator, request: PictureRequest) -> Recipe:
    """The recipe of a picture that was redrawn or translated."""
    fields = require(generator.trained, "translates").edits
    edits = {key: value for key, value in request.edits.items() if key in fields and value not in (None, False)}
    sized = ["--size", request.side] if tiles.any_size(generator.trained) and request.side else []
    fitted = [] if tiles.any_size(generator.trained) else ["--fit", request.fit]
    words = translate.typed(edits, [*fitted, *sized, "--seed", request.seed])
    return recipe.of(replace(generator, batch=1), "edit", words, seed=request.seed)


# ---- pictures -------------------------------------------------------------------------------------------------


def read_seeds(text: str | None) -> list[int]:
    """Seeds as on the command line, `0-15,100`.

    Raises:
        UsageError: no seeds, or more than the page shows.
    """
    seeds = parse_seeds(text or "", "0-15,100")
    if len(seeds) > MAX_FACES:
        raise UsageError(
            f"{len(seeds):,} faces are more than this page shows",
            hint=f"{MAX_FACES} at most; `animegen sample` draws any",
        )
    return seeds


def read_seed(value: float | None) -> int:
    """One seed from a box of the page.

    Raises:
        UsageError: the box is empty, or holds no whole number of 0 or more.
    """
    if value is None or not 0 <= value < 2**53 or value % 1:
        raise UsageError(f"`{'' if value is None else f'{value:g}'}` is no seed", hint="write a whole number such as 3")
    return int(value)


def batched(generator: Generator, count: int) -> Generator:
    """The generator as the page draws `count` pictures with it: where a processor takes many steps for each, a few at once,
    so that the bar moves."""
    slow = generator.trained.device.type == "cpu" and not directions.is_quick(generator.trained)
    return replace(generator, batch=min(count, MAX_BATCH // 4 if slow else MAX_BATCH))


def draw(generator: Generator, seeds: Sequence[int], on_progress: OnProgress | None = None) -> np.ndarray:
    """Draw one face per seed: uint8 (n, H, W, 3).

    Raises:
        UsageError: the run does not draw from noise.
    """
    return channels_last(batched(generator, len(seeds)).draw(seeds, on_progress=on_progress))


def vary(
    generator: Generator, seed: int, others: Sequence[int], amount: float, on_progress: OnProgress | None = None
) -> np.ndarray:
    """Draw a seed's face and behind it its variations towards other seeds: uint8 (1 + n, H, W, 3).

    Raises:
        UsageError: the run does not draw from noise, `amount` is not in [0, 1], or the seed is among the others.
    """
    check_variation(seed, others, amount)
    drawn = batched(generator, len(others) + 1).vary(seed, [seed, *others], amount, on_progress=on_progress)
    return channels_last(drawn)


def walk(generator: Generator, start: int, end: int, frames: int, on_progress: OnProgress | None = None) -> np.ndarray:
    """Draw the way from one seed to another: uint8 (frames, H, W, 3).

    Raises:
        UsageError: the run does not draw from noise, or `frames` is not in [2, MAX_FRAMES].
    """
    require(generator.trained, "samples")
    if not 2 <= frames <= MAX_FRAMES:
        raise UsageError(f"a walk of {frames} pictures", hint=f"choose 2 to {MAX_FRAMES}")
    return channels_last(batched(generator, frames).interpolate(start, end, frames, on_progress=on_progress))


def steer(
    generator: Generator, seed: int, amounts: Tensor, found: Directions, on_progress: OnProgress | None = None
) -> np.ndarray:
    """Draw a seed's face moved along directions by each row of `amounts` (n, k): uint8 (n, H, W, 3).

    Raises:
        UsageError: the run does not draw from noise.
    """
    return channels_last(directions.steer(generator, seed, amounts, found, on_progress=on_progress))


class PictureRequest(NamedTuple):
    """What the page asks of an uploaded picture."""

    edits: Mapping[str, object]
    """Values by field of `Edit`; those that the family does not read, or that are None, are left out."""
    fit: str = "crop"
    """How it becomes a square of the run's size, one of `FITS`."""
    side: int | None = None
    """Shorter side in pixels, for families that take any size; the picture's own when None, `MAX_SIDE` at most."""
    seed: int = 0
    """Of the noise that is added or drawn anew."""


def edit_picture(generator: Generator, image: Image.Image, request: PictureRequest) -> list[tuple[str, np.ndarray]]:
    """Redraw or translate a picture.

    Returns:
        Titles and pictures, uint8 (H, W, 3): before, with the noise that was added where there is any, and after.

    Raises:
        UsageError: the run takes no pictures, or a value is wrong.
    """
    trained = generator.trained
    fields = require(trained, "translates").edits
    asked = {key: value for key, value in request.edits.items() if key in fields and value is not None}
    edit = translate.asked_edit(trained, asked)
    check_fit(request.fit)
    any_size = tiles.any_size(trained)
    side = min(request.side or min(image.size), MAX_SIDE) if any_size else None
    before = tiles.shaped(trained, image, fit=request.fit, size=side)
    whole = tiles.padded(before) if any_size else before
    after = tiles.changed(replace(generator, batch=1), whole[None], edit, seed=request.seed)[0]
    noisy = _noisy(trained, before, edit, request.seed)
    middle = [("with noise", noisy)] if noisy is not None else []
    return [("before", before), *middle, ("after", after[: before.shape[0], : before.shape[1]])]


@torch.inference_mode()
def _noisy(trained: Trained, before: np.ndarray, edit: Edit, seed: int) -> np.ndarray | None:
    """The picture with what the family adds before it cleans up: plain noise, or a share of its forward process."""
    model = trained.model
    assert isinstance(model, Translates), "`edit_picture` requires it"
    images = from_uint8(torch.from_numpy(before).permute(2, 0, 1)[None], trained.device)
    noise = Noise([seed], trained.device)(*images.shape[1:])
    if "noise" in model.edits and edit.noise:
        images = images + edit.noise * noise
    elif "strength" in model.edits and not edit.exact and isinstance(model, Corrupts):
        images = model.corrupt(images, noise, edit.strength)
    else:
        return None
    return channels_last(to_uint8(images))[0]
