"""What the page's controls do, as plain functions: a run and words in, pictures out. Nothing here knows of a browser."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
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
from animegen_cli.sample import edit as editing
from animegen_cli.sample import generate
from animegen_cli.sample.generate import Trained
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
    """Those found so far, by the way to draw."""


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

    def directions(self, run: Run, way: Way, on_progress: Done | None = None) -> Directions:
        """The run's directions, looked for once for each way to draw."""
        held = self._hold(run)
        if str(way) not in held.directions:
            editing.require(held.trained, "samples")
            count = directions.count_for(held.trained)
            found = directions.find(
                held.trained, sampling=way.sampling, labels=way.labels, pictures=count, on_progress=on_progress
            )
            held.directions[str(way)] = found
        return held.directions[str(way)]

    def _hold(self, run: Run) -> Held:
        if not run.weights.is_file():
            raise DataError(f"{run.name} has no weights yet", hint="they come with its first save; refresh then")
        status, path = run.weights.stat(), run.path.resolve()
        written = (status.st_mtime_ns, status.st_size)
        held = self._held.pop(path, None)
        if held is None or held.written != written:
            held = Held(written, generate.open_trained(run, device=self.device), {})
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


class Way(NamedTuple):
    """How a run is to draw: its sampling section and its label row."""

    sampling: Any
    labels: list[int] | None


def way(trained: Trained, settings: Mapping[str, Any], labels: Sequence[str] = ()) -> Way:
    """The run's own settings with those of the page that it has and that are filled in; labels as `hair=pink`.

    Raises:
        UsageError: a wrong value, a label that it does not know, or two values of one attribute.
    """
    offered = offer(trained).settings
    wanted = {key: value for key, value in settings.items() if key in offered and value is not None}
    sampling = generate.sampling_of(trained, wanted)
    named: dict[str, str] = {}
    for name, _, value in (label.partition("=") for label in labels):
        if name in named:
            raise UsageError(f"`{name}` is asked to be {named[name]} and {value}", hint="choose one of them")
        named[name] = value
    return Way(sampling, generate.label_row(trained, named) if named else None)


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


def draw(trained: Trained, wanted: Sequence[int], way: Way, on_progress: Done | None = None) -> np.ndarray:
    """One face per seed, uint8 (n, H, W, 3)."""
    editing.require(trained, "samples")
    batch = min(len(wanted), TOGETHER)
    return channels_last(
        generate.draw(trained, wanted, sampling=way.sampling, labels=way.labels, batch=batch, on_progress=on_progress)
    )


def walk(trained: Trained, start: int, end: int, frames: int, way: Way) -> np.ndarray:
    """From seed to seed, uint8 (frames, H, W, 3)."""
    editing.require(trained, "samples")
    if not 2 <= frames <= MOST_FRAMES:
        raise UsageError(f"a walk of {frames} pictures", hint=f"choose 2 to {MOST_FRAMES}")
    batch = min(frames, TOGETHER)
    return channels_last(
        editing.interpolate(trained, start, end, frames, sampling=way.sampling, labels=way.labels, batch=batch)
    )


def steer(
    trained: Trained, seed: int, amounts: Tensor, found: Directions, way: Way, on_progress: Done | None = None
) -> np.ndarray:
    """The seed's face moved along the directions by each row of `amounts` (n, k): uint8 (n, H, W, 3)."""
    editing.require(trained, "samples")
    return channels_last(
        directions.steered(
            trained, seed, amounts, found, sampling=way.sampling, labels=way.labels, on_progress=on_progress
        )
    )


def change(
    trained: Trained, image: Image.Image, edits: Mapping[str, Any], way: Way, *, fit: str, size: int | None, seed: int
) -> list[tuple[str, np.ndarray]]:
    """A picture before, with the noise that was added where there is any, and after: titles and uint8 (H, W, 3).

    Of `edits`, the fields that the family reads and that are filled in.
    """
    reads = editing.require(trained, "translates").edits
    edit = translate.asked_edit(trained, {key: edits[key] for key in edits if key in reads and edits[key] is not None})
    if fit not in FITS:
        raise UsageError(f"no fit `{fit}`", hint="use crop, pad or stretch")
    free = tiles.any_size(trained)
    before = tiles.shaped(trained, image, fit=fit, size=_side(image, size) if free else None)
    whole = tiles.padded(before) if free else before
    after = tiles.changed(trained, whole[None], edit, sampling=way.sampling, seed=seed, batch=1)[0]
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
