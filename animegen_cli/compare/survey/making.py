"""Writes a survey from runs and seeds: `survey.html`, which asks, and `key.json`, which says what was shown."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, features

import animegen_cli
from animegen_cli import disk, paths
from animegen_cli.compare.compare import same_seeds
from animegen_cli.compare.survey.design import QUESTIONS, SHEET, Contestant, Design, Question, design
from animegen_cli.data.dataset import FaceSet
from animegen_cli.errors import DataError, UsageError
from animegen_cli.prepare import drawn as drawn_faces
from animegen_cli.report import survey_page
from animegen_cli.seeds import spell_seeds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from animegen_cli.compare.survey.design import Shown
    from animegen_cli.report.columns import Comparison
    from animegen_cli.report.same_seeds import Draw

FORMAT, VERSION = "animegen-survey", 1
PAGE, KEY = "survey.html", "key.json"
REALS = "real images"
"""What the key and the results call the real images, which take part like a run."""
BUDGET = 3_900_000
"""Bytes that the images may take before base64 makes them a third larger."""
FEWEST_SEEDS = 12
_CHECK_IMAGES = 12


class Made(NamedTuple):
    """What was written, and what the person who asked should know."""

    page: Path
    key: Path
    contestants: tuple[str, ...]
    shown: dict[str, int]
    """Comparisons per rater by question, checks not counted."""
    checks: int
    seeds: int
    notes: tuple[str, ...]


def make(
    comparison: Comparison,
    numbers: Sequence[int],
    draw: Draw,
    out: Path,
    *,
    pairs: int = 60,
    questions: Sequence[Question] = QUESTIONS,
    reals: bool = True,
    chance: random.Random | None = None,
) -> Made:
    """Write a survey of the runs into the folder `out`.

    Args:
        comparison: the runs that take part.
        numbers: seeds; each run draws an image from each, and a pair shows the same seed of both.
        draw: asked for images that a run has not stored, see `report.same_seeds`.
        out: the folder, made where it is missing; it must hold no survey.
        pairs: comparisons per rater, checks not counted.
        questions: what is asked, in this order.
        reals: let held-out real images take part, and check attention with them; else with faces that the program draws
            itself, so that the page may be published.
        chance: what ids, orders and sides are drawn from; by default the system's, so that they can't be guessed.

    Raises:
        UsageError: nothing to compare, or too few seeds.
        DataError: a run that cannot draw; or `out` holds a survey already.
    """
    chance = chance or random.SystemRandom()
    notes = []
    _refuse(out, comparison, numbers, pairs, questions, reals=reals)
    contestants = _runs(comparison, numbers, draw)
    size = max(one.images.shape[1] for one in contestants)
    held_out, note = _real_images(comparison, size, len(numbers) + _CHECK_IMAGES) if reals else (None, "")
    if held_out is not None:
        contestants.append(Contestant(REALS, None, held_out[: len(numbers)]))
        intact = held_out[len(numbers) :]
    else:
        drawn_size = max(size, drawn_faces.MIN_SIZE)
        intact = np.stack([np.asarray(drawn_faces.draw(i, size=drawn_size).image) for i in range(_CHECK_IMAGES)])
    notes += [note] if note else []
    if len(contestants) < 2:
        raise UsageError("one run alone is nothing to compare", hint="name two runs or more")
    coded, quality, note = _fitting(contestants)
    notes += [note] if note else []
    contestants = [Contestant(one.name, one.run, one.images[: len(coded[0])]) for one in contestants]
    made, extra = design(contestants, intact, pairs=pairs, questions=questions, chance=chance)
    coded.append([encoded(image, quality) for image in extra])
    shown_seeds = list(numbers)[: len(contestants[0].images)]
    paths.make_folder(out)
    page = out / PAGE
    disk.write_text(page, _page(made, coded, chance))
    about = {"format": FORMAT, "version": VERSION, "made_with": animegen_cli.__version__, "survey": made.id}
    disk.write_json(out / KEY, about | {"seeds": spell_seeds(shown_seeds)} | made.key)
    names = tuple(one.name for one in contestants)
    checks = len(made.key["checks"])
    return Made(page, out / KEY, names, made.key["shown"], checks, len(shown_seeds), tuple(notes))


def _refuse(
    out: Path, comparison: Comparison, numbers: Sequence[int], pairs: int, questions: Sequence[Question], *, reals: bool
) -> None:
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, not a folder", hint="choose another with `--survey`")
    if (out / KEY).exists():
        raise DataError(
            f"{out} holds a survey already, and its votes can't be read without its {KEY}",
            hint="choose another folder with `--survey`, or name the votes with `--votes`",
        )
    if pairs < 1:
        raise UsageError("a survey needs at least one pair", hint="write `--pairs 60`")
    if "diversity" in questions and len(numbers) < SHEET:
        raise UsageError(
            f"diversity is judged on {SHEET} images at a time, {len(numbers)} seeds are too few",
            hint="name more with `--seeds`, or ask for `--ask realism` alone",
        )
    if len(comparison.records) < 2 and not reals:
        raise UsageError("one run alone is nothing to compare", hint="name two runs or more")


def _runs(comparison: Comparison, numbers: Sequence[int], draw: Draw) -> list[Contestant]:
    drawn = same_seeds(comparison, numbers, draw)
    contestants = []
    for name, record, row in zip(comparison.names, comparison.records, drawn.rows, strict=True):
        if isinstance(row, str):
            raise DataError(f"{name} can't take part: {row}", hint="leave it out of the command")
        contestants.append(Contestant(name, str(record.run.path), row))
    return contestants


def _real_images(comparison: Comparison, size: int, count: int) -> tuple[np.ndarray | None, str]:
    """At most `count` held-out images of the runs' data set (n, size, size, 3), evenly over it; or None and why not."""
    sets = {str(record.data.get("identity")): record.data.get("path") for record in comparison.records}
    without = "the survey has no real images, and checks attention with drawn faces"
    if len(sets) != 1:
        return None, f"the runs learned from different data sets: {without}"
    ((identity, path),) = sets.items()
    try:
        faces = FaceSet.open(path or "")
        if faces.identity != identity:
            return None, f"{path} is no longer the set that the runs learned from: {without}"
        split = "test" if len(faces.indices("test")) else "train"
        chosen = faces.indices(split)
        if len(chosen) < count:
            return None, f"{path} has {len(chosen)} images in its {split} split, {count} are needed: {without}"
        picked = chosen[np.linspace(0, len(chosen) - 1, count).round().astype(int)]
        real = faces.pixels(np.random.default_rng(0).permutation(picked), size=min(size, faces.size))
    except (DataError, UsageError) as error:
        return None, f"{error.message}: {without}"
    return real, "" if split == "test" else f"{path} has no test split: its real images were trained on"


# ---- the images in the page --------------------------------------------------------------------------------------


def _fitting(contestants: Sequence[Contestant]) -> tuple[list[list[bytes]], int | None, str]:
    """Compress each contestant's images, for as many seeds as the page's budget holds, all contestants alike.

    Also give the quality, None where the compression is lossless, and what had to be given up, in words.
    """
    count = len(contestants[0].images)
    for quality in (None, 90):
        coded = [[encoded(image, quality) for image in one.images] for one in contestants]
        fit = int((np.cumsum([sum(map(len, row)) for row in zip(*coded, strict=True)]) <= BUDGET).sum())
        if fit >= min(count, FEWEST_SEEDS):
            break
    shown = min(count, max(fit, FEWEST_SEEDS))
    given_up = [f"only the first {shown} of {count} seeds fit the page"] if shown < count else []
    given_up += ["the images are compressed with losses to fit the page"] if quality is not None else []
    return [row[:shown] for row in coded], quality, "; ".join(given_up)


def encoded(image: np.ndarray, quality: int | None = None) -> bytes:
    """Code one image, uint8 (H, W, 3), as WebP, lossless without a quality; as PNG where Pillow has no WebP."""
    buffer = io.BytesIO()
    if not features.check("webp"):
        Image.fromarray(image).save(buffer, "PNG", optimize=True)
    elif quality is None:
        Image.fromarray(image).save(buffer, "WEBP", lossless=True, model=4)
    else:
        Image.fromarray(image).save(buffer, "WEBP", quality=quality, model=4)
    return buffer.getvalue()


def _page(made: Design, coded: Sequence[Sequence[bytes]], chance: random.Random) -> str:
    """The page with the images that are shown, in an order that says nothing."""
    everything = [shown for block in made.blocks for group in (*block.groups, block.checks) for shown in group]
    used = sorted({image for shown in everything for image in (*shown.a, *shown.b)})
    chance.shuffle(used)
    place = {image: number for number, image in enumerate(used)}

    def plain(group: Iterable[Shown]) -> list[list[object]]:
        return [[s.id, [place[i] for i in s.a], [place[i] for i in s.b]] for s in group]

    blocks = [
        {
            "question": block.question, "count": block.asked,
            "groups": [plain(group) for group in block.groups], "more": plain(block.checks),
        }
        for block in made.blocks
    ]  # fmt: skip
    return survey_page.page(made.id, blocks, [coded[contestant][number] for contestant, number in used])
