"""Who is shown against whom: pairs of contestants under ids that say nothing, and the key that says what they were.

The page holds images, ids and a number of comparisons; it draws each rater's own order. What an id stands for lies in
`key.json`, which stays with whoever asks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

Question = Literal["realism", "diversity"]
QUESTIONS: tuple[Question, ...] = ("realism", "diversity")
SHEET = 9
"""Images on one side of a comparison of diversity."""
_OVERLAP = 3
"""A pair of contestants is prepared in this many times the versions that one rater sees: few enough that people meet
the same pictures, so that their agreement can be measured."""
_PAIRS_PER_CHECK, _FEWEST_CHECKS = 8, 4


@dataclass(frozen=True)
class Contestant:
    """A run, or the real images (`run` None). `images`: uint8 (n, H, W, 3), one per seed."""

    name: str
    run: str | None
    images: np.ndarray


class Shown(NamedTuple):
    """One comparison: a random id and what either side shows, as (contestant, image) numbers."""

    id: str
    a: tuple[tuple[int, int], ...]
    b: tuple[tuple[int, int], ...]


class Block(NamedTuple):
    """All comparisons of one question: each rater answers `asked` from the groups (one per pair of contestants, as
    evenly as can be) and every check."""

    question: Question
    asked: int
    groups: tuple[tuple[Shown, ...], ...]
    checks: tuple[Shown, ...]


@dataclass(frozen=True)
class Design:
    """A whole survey: its id, its comparisons, and the key that says what each of them shows."""

    id: str
    blocks: tuple[Block, ...]
    key: dict[str, Any]


def design(
    contestants: Sequence[Contestant],
    intact: np.ndarray,
    *,
    pairs: int,
    questions: Sequence[Question] = QUESTIONS,
    chance: random.Random,
) -> tuple[Design, np.ndarray]:
    """Lay out a survey; also give the images of its checks, uint8 (n, H, W, 3).

    In `Shown`, those images are the ones of the contestant whose number is the number of contestants.

    Args:
        contestants: at least two, with as many images each; image i of all runs comes from one seed.
        intact: whole faces for the checks, uint8 (n, H, W, 3), at least `SHEET`.
        pairs: comparisons per rater, checks not counted. Of two questions, diversity gets a third.
        questions: what is asked, in this order.
        chance: what ids, orders and sides are drawn from.
    """
    shares = {"realism": pairs - pairs // 3, "diversity": pairs // 3} if len(questions) > 1 else {questions[0]: pairs}
    meetings = list(combinations(range(len(contestants)), 2))
    wanted = max(round(pairs / _PAIRS_PER_CHECK), _FEWEST_CHECKS)
    checks = _Checks(intact, len(contestants), chance)
    key_pairs: dict[str, Any] = {}
    key_checks: dict[str, Any] = {}
    blocks = []
    for question in questions:
        count = evenly(max(shares[question], 1), len(meetings))
        groups, count = _groups(question, meetings, count, len(contestants[0].images), chance)
        for group in groups:
            for shown in group:
                (a, _), (b, _) = shown.a[0], shown.b[0]
                key_pairs[shown.id] = {"question": question, "a": a, "b": b, "images": [image for _, image in shown.a]}
        number = max(round(wanted * shares[question] / pairs), 2)
        own = [checks.realism() if question == "realism" else checks.diversity() for _ in range(number)]
        key_checks |= {shown.id: {"question": question, "right": right} for shown, right in own}
        blocks.append(Block(question, count, groups, tuple(shown for shown, _ in own)))
    key = {
        "contestants": [{"name": one.name, "run": one.run} for one in contestants],
        "shown": {block.question: block.asked for block in blocks},
        "pairs": key_pairs,
        "checks": key_checks,
    }
    return Design(_id(chance, 8), tuple(blocks), key), np.stack(checks.images)


def evenly(count: int, meetings: int) -> int:
    """Round the number of comparisons so that every pair of contestants is shown equally often.

    Where there are more pairs of contestants (`meetings`) than comparisons, each rater sees `count` of them.
    """
    return meetings * max(math.floor(count / meetings + 0.5), 1) if meetings <= count else count


def _groups(
    question: Question, meetings: Sequence[tuple[int, int]], count: int, images: int, chance: random.Random
) -> tuple[tuple[tuple[Shown, ...], ...], int]:
    """The prepared versions of every pair of contestants, and how many comparisons a rater can be asked without one
    twice. Which of the two is called a is drawn, so that a and b are equally good by design."""
    versions = math.ceil(_OVERLAP * count / len(meetings))
    if question == "realism":
        versions = min(versions, images)
    groups = []
    for one, other in meetings:
        seeds = chance.sample(range(images), images)
        group = []
        for version in range(versions):
            picked = [seeds[version]] if question == "realism" else chance.sample(range(images), SHEET)
            a, b = (one, other) if chance.random() < 0.5 else (other, one)
            group.append(Shown(_id(chance), tuple((a, i) for i in picked), tuple((b, i) for i in picked)))
        groups.append(tuple(group))
    chance.shuffle(groups)
    return tuple(groups), min(count, versions * len(meetings))


class _Checks:
    """Comparisons with an answer that nobody who looks can miss: a face against itself in shuffled pieces, nine faces
    against nine times one.

    A real face against a generated one would be no check: of a good generator people may rightly prefer the latter.
    """

    def __init__(self, intact: np.ndarray, number: int, chance: random.Random) -> None:
        self.intact, self.number, self.chance = intact, number, chance
        self.images: list[np.ndarray] = list(intact)
        self.order = chance.sample(range(len(intact)), len(intact))

    def realism(self) -> tuple[Shown, str]:
        whole = self.order[0]
        self.order = self.order[1:] + self.order[:1]
        self.images.append(shuffled(self.intact[whole], self.chance))
        return self._shown([whole], [len(self.images) - 1])

    def diversity(self) -> tuple[Shown, str]:
        different = self.chance.sample(range(len(self.intact)), SHEET)
        return self._shown(different, different[:1] * SHEET)

    def _shown(self, good: Sequence[int], bad: Sequence[int]) -> tuple[Shown, str]:
        right = self.chance.choice("ab")
        sides = [tuple((self.number, image) for image in side) for side in (good, bad)]
        a, b = sides if right == "a" else sides[::-1]
        return Shown(_id(self.chance), a, b), right


def shuffled(image: np.ndarray, chance: random.Random) -> np.ndarray:
    """Cut an image (H, W, 3) into 4 x 4 tiles and shuffle them; none stays where it was."""
    height, width = (side // 4 for side in image.shape[:2])
    places = [(row * height, column * width) for row in range(4) for column in range(4)]
    chance.shuffle(places)
    out = image.copy()
    for (y, x), (from_y, from_x) in zip(places, places[1:] + places[:1], strict=True):
        out[y : y + height, x : x + width] = image[from_y : from_y + height, from_x : from_x + width]
    return out


def _id(chance: random.Random, digits: int = 10) -> str:
    return f"{chance.getrandbits(4 * digits):0{digits}x}"
