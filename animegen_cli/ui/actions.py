"""What the page's controls do, as plain functions: a run and words in, pictures out. Nothing here knows of a browser."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from animegen_cli import paths
from animegen_cli.data.cleaning import FITS
from animegen_cli.device import pick_device
from animegen_cli.errors import DataError, UsageError, did_you_mean
from animegen_cli.model import abilities
from animegen_cli.model.family import ABILITIES, Edit
from animegen_cli.model.noise import Noise
from animegen_cli.model.pixels import channels_last, from_uint8, to_uint8
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.trained import Trained, label_row, open_trained, require, sampling_of
from animegen_cli.seeds import parse_seeds
from animegen_cli.translate import tiles, translate
from animegen_cli.ui import directions
from animegen_cli.ui.directions import Directions

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from PIL import Image

    from animegen_cli.paths import Run

MOST_FACES = 100
MOST_FRAMES = 60
TOGETHER = 16
"""Images per network call: few enough for a bar that moves, and no padding to a fixed number, which files get."""
MOST_PIXELS = 1024
"""Longest shorter side that a picture is scaled to."""
SETTINGS = ("sampler", "steps", "guidance", "truncation", "temperature", "levels")
"""Keys of a run's `sample` section that the page offers."""
Done = Callable[[int], None]


# ---- runs -----------------------------------------------------------------------------------------------------


def listed(root: Path) -> list[Run]:
    """The runs under `root`, newest first."""
    return paths.runs(root)[::-1]


def find(root: Path, name: str | None) -> Run:
    """The run of that name under `root`; DataError when there is none (any more)."""
    found = {run.name: run for run in paths.runs(root)}
    if not found:
        raise DataError(f"no run under {root}/", hint="train one: `animegen train ddim --preset smoke`")
    if name not in found:
        raise DataError(f"no run `{name or ''}` under {root}/", hint=did_you_mean(name or "", found))
    return found[name]


class Held(NamedTuple):
    """A run in memory."""

    written: tuple[int, int]
    """Time and size of its weights file when it was read."""
    trained: Trained
    directions: dict[str, Directions]
    """Those found so far, by sampling section and label row."""


class Models:
    """Trained runs in memory, those used last."""

    def __init__(self, device: str | None = None, most: int = 3) -> None:
        self.device, self.most = pick_device(device), most
        self._held: OrderedDict[Path, Held] = OrderedDict()

    def open(self, run: Run) -> Trained:
        """The run's networks; read again once training wrote new weights.

        Raises:
            DataError: no weights yet, or damaged ones.
        """
        return self._hold(run).trained

    def directions(self, run: Run, generator: Generator, on_progress: Done | None = None) -> Directions:
        """The run's directions, looked for once for each sampling section and label row."""
        held, key = self._hold(run), str((generator.sampling, generator.labels))
        if key not in held.directions:
            require(held.trained, "samples")
            count = directions.count_for(held.trained)
            held.directions[key] = directions.find(generator, pictures=count, on_progress=on_progress)
        return held.directions[key]

    def _hold(self, run: Run) -> Held:
        if not run.weights.is_file():
            raise DataError(f"{run.name} has no weights yet", hint="they come with its first save; refresh then")
        status, path = run.weights.stat(), run.path.resolve()
        written = (status.st_mtime_ns, status.st_size)
        held = self._held.pop(path, None)
        if held is None or held.written != written:
            held = Held(written, open_trained(run, device=self.device), {})
        self._held[path] = held
        while len(self._held) > self.most:
            self._held.popitem(last=False)
        return held


# ---- what a run offers ----------------------------------------------------------------------------------------


class Offer(NamedTuple):
    """Which controls make sense for a run."""

    draws: bool
    edits: frozenset[str] | None
    """Fields of `Edit` that it reads; None where it takes no pictures."""
    any_size: bool
    settings: Mapping[str, Any]
    """Those of `SETTINGS` that its way to draw has, with the run's own values."""
    samplers: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    """(attribute, value) that it can be asked for."""
    size: int


def offer(trained: Trained) -> Offer:
    """What a run can do, from its abilities and its sampling section."""
    section, model = asdict(trained.config.sample), trained.model
    edits: Any = getattr(model, "edits", None)
    asked = tuple(getattr(model, "conditions", ()))
    settings = {key: section[key] for key in SETTINGS if key in section and (key != "guidance" or asked)}
    return Offer(
        draws=isinstance(model, ABILITIES["samples"]),
        edits=edits if isinstance(model, ABILITIES["translates"]) else None,
        any_size=tiles.any_size(trained),
        settings=settings,
        samplers=_choices(type(trained.config.sample), "sampler") if "sampler" in section else (),
        labels=tuple((name, value) for name in asked for value in trained.data.attributes[name]),
        size=trained.data.size,
    )


def _choices(section: type, field: str) -> tuple[str, ...]:
    hint = get_type_hints(section)[field]
    return tuple(get_args(hint)) if get_origin(hint) is Literal else ()


def cannot(family: str, ability: str) -> str:
    """Why a control is not there: the ability that the family lacks, and the families that have it."""
    return f"A {family} run cannot {abilities.VERBS[ability]}; {abilities.only(abilities.families_able(ability))}."


def generator_of(trained: Trained, settings: Mapping[str, Any], labels: Sequence[str] = ()) -> Generator:
    """The run's own settings with those of the page that it has and that are filled in; labels as `hair=pink`.

    Raises:
        UsageError: a wrong value, a label that it does not know, or two values of one attribute.
    """
    offered = offer(trained).settings
    wanted = {key: value for key, value in settings.items() if key in offered and value is not None}
    sampling = sampling_of(trained, wanted)
    named: dict[str, str] = {}
    for name, _, value in (label.partition("=") for label in labels):
        if name in named:
            raise UsageError(f"`{name}` is asked to be {named[name]} and {value}", hint="choose one of them")
        named[name] = value
    return Generator(trained, sampling, label_row(trained, named) if named else None)


# ---- pictures -------------------------------------------------------------------------------------------------


def numbers(text: str | None) -> list[int]:
    """Seeds as on the command line, `0-15,100`; UsageError for none, or more than the page shows."""
    found = parse_seeds(text or "", "0-15,100")
    if len(found) > MOST_FACES:
        raise UsageError(
            f"{len(found):,} faces are more than this page shows",
            hint=f"{MOST_FACES} at most; `animegen sample` draws any",
        )
    return found


def seed_of(value: float | None) -> int:
    """One seed, a whole number of 0 or more; UsageError otherwise."""
    if value is None or not 0 <= value < 2**53 or value % 1:
        raise UsageError(f"`{'' if value is None else f'{value:g}'}` is no seed", hint="write a whole number such as 3")
    return int(value)


def draw(generator: Generator, wanted: Sequence[int], on_progress: Done | None = None) -> np.ndarray:
    """One face per seed, uint8 (n, H, W, 3)."""
    together = replace(generator, batch=min(len(wanted), TOGETHER))
    return channels_last(together.draw(wanted, on_progress=on_progress))


def walk(generator: Generator, start: int, end: int, frames: int) -> np.ndarray:
    """From seed to seed, uint8 (frames, H, W, 3)."""
    require(generator.trained, "samples")
    if not 2 <= frames <= MOST_FRAMES:
        raise UsageError(f"a walk of {frames} pictures", hint=f"choose 2 to {MOST_FRAMES}")
    return channels_last(replace(generator, batch=min(frames, TOGETHER)).interpolate(start, end, frames))


def steer(
    generator: Generator, seed: int, amounts: Tensor, found: Directions, on_progress: Done | None = None
) -> np.ndarray:
    """The seed's face moved along the directions by each row of `amounts` (n, k): uint8 (n, H, W, 3)."""
    require(generator.trained, "samples")
    return channels_last(directions.steered(generator, seed, amounts, found, on_progress=on_progress))


def change(
    generator: Generator, image: Image.Image, edits: Mapping[str, Any], *, fit: str, size: int | None, seed: int
) -> list[tuple[str, np.ndarray]]:
    """A picture before, with the noise that was added where there is any, and after: titles and uint8 (H, W, 3).

    Of `edits`, the fields that the family reads and that are filled in.
    """
    trained = generator.trained
    reads = require(trained, "translates").edits
    edit = translate.asked_edit(trained, {key: edits[key] for key in edits if key in reads and edits[key] is not None})
    if fit not in FITS:
        raise UsageError(f"no fit `{fit}`", hint="use crop, pad or stretch")
    free = tiles.any_size(trained)
    before = tiles.shaped(trained, image, fit=fit, size=_side(image, size) if free else None)
    whole = tiles.padded(before) if free else before
    after = tiles.changed(replace(generator, batch=1), whole[None], edit, seed=seed)[0]
    noisy = _noisy(trained, before, edit, seed)
    middle = [("with noise", noisy)] if noisy is not None else []
    return [("before", before), *middle, ("after", after[: before.shape[0], : before.shape[1]])]


@torch.inference_mode()
def _noisy(trained: Trained, before: np.ndarray, edit: Edit, seed: int) -> np.ndarray | None:
    """What the family adds before it cleans up: noise of a deviation, or a share of a forward process."""
    model: Any = trained.model
    images = from_uint8(torch.from_numpy(before).permute(2, 0, 1)[None], trained.device)
    noise = Noise([seed], trained.device)(*images.shape[1:])
    if "noise" in model.edits and edit.noise:
        images = images + edit.noise * noise
    elif "strength" in model.edits and not edit.exact and isinstance(model, ABILITIES["corrupts"]):
        images = model.corrupt(images, noise, edit.strength)  # type: ignore[attr-defined]
    else:
        return None
    return channels_last(to_uint8(images))[0]


def _side(image: Image.Image, size: int | None) -> int:
    """The shorter side: as asked, and never so large that the page would stand still."""
    return min(size or min(image.size), MOST_PIXELS)
