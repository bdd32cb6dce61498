"""Features of two sets -> scores, each with its uncertainty and what to know before quoting it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from animegen_cli.errors import UsageError, did_you_mean
from animegen_cli.metrics.frechet import Moments, frechet_infinity, frechet_influence, moments
from animegen_cli.metrics.inception_score import inception_score
from animegen_cli.metrics.kernel import KernelDistance, kernel_distance, kernel_distance_by_batches, real_part
from animegen_cli.metrics.manifold import Manifold, Neighbors, manifold_scores, neighbors
from animegen_cli.metrics.protocol import ENOUGH, limits
from animegen_cli.metrics.uncertainty import Estimate, combine, share_estimate, variance_of_share

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NEIGHBORS = 5


@dataclass(frozen=True)
class Score:
    """One number, the mean over ranges of seeds; `name` is the metric without network.

    `std` and `interval` are None where there are too few images to estimate them.
    """

    name: str
    value: float
    std: float | None = None
    """Its standard error, from the choice of the drawn images."""
    interval: tuple[float, float] | None = None
    """Its 95 % interval."""
    notes: tuple[str, ...] = ()
    """What to know before quoting it."""
    values: tuple[float, ...] = ()
    """The score of each range."""
    spread: float | None = None
    """Standard deviation over subsets or splits, which other tools report beside `kid` and `is`."""


def score_features(
    real: Tensor | Moments,
    fakes: Tensor | Sequence[Tensor],
    metrics: Sequence[str] = ("fd", "kid", "precision", "recall", "density", "coverage"),
    *,
    logits: Tensor | Sequence[Tensor] | None = None,
    seed: int = 0,
) -> list[Score]:
    """Scores of the fakes' features (M, D), one tensor per range of seeds, against the reals' (N, D), in the order of
    `metrics`.

    Args:
        real: features, or stored moments, which suffice for `fd` and `fd-infinity`.
        fakes: features of each range of seeds.
        metrics: names of METRICS.
        logits: class logits (M, classes) of each range, which `is` needs.
        seed: fixes subsets and splits.

    Raises:
        UsageError: a metric is unknown, or lacks what it needs.
        DataError: there are too few images.
    """
    check(metrics, of_moments=isinstance(real, Moments), logits=logits is not None)
    fakes = [fakes] if isinstance(fakes, Tensor) else list(fakes)
    fakes = [fake.cpu() if fake.device.type == "mps" else fake for fake in fakes]  # which knows no float64
    sides = _Sides(
        real.to(fakes[0].device) if isinstance(real, Tensor) else real, fakes,
        [logits] if isinstance(logits, Tensor) else list(logits or ()), seed,
    )  # fmt: skip
    return [_score(metric, sides) for metric in metrics]


def check(metrics: Sequence[str], *, of_moments: bool, logits: bool) -> None:
    """UsageError unless the metrics exist and can be measured: against moments alone, with or without class logits."""
    for metric in metrics:
        if metric not in METRICS:
            raise UsageError(f"no metric `{metric}`", hint=did_you_mean(metric, METRICS))
        if metric == "is" and not logits:
            raise UsageError(
                "the Inception score `is` needs class logits", hint="score with Inception, or leave `is` out"
            )
        if of_moments and metric not in OF_MOMENTS:
            raise UsageError(
                f"`{metric}` needs the reference images; a file with mu and sigma holds only what `fd` needs",
                hint="give the images with `--against`, or score `fd` alone",
            )


class _Sides:
    """Both sides of a comparison, and what several metrics need of them, computed once."""

    def __init__(self, real: Tensor | Moments, fakes: list[Tensor], logits: list[Tensor], seed: int) -> None:
        self.real = real
        self.fakes = fakes
        self.logits = logits
        self.seed = seed
        self.n_real = real.count if isinstance(real, Moments) else len(real)
        self.n_fake = min(map(len, fakes))

    @property
    def images(self) -> Tensor:
        """The reals' features."""
        assert isinstance(self.real, Tensor)
        return self.real

    @functools.cached_property
    def moments(self) -> Moments:
        return self.real if isinstance(self.real, Moments) else moments(self.real)

    @functools.cached_property
    def of_real(self) -> Neighbors:
        return neighbors(self.images, _NEIGHBORS)

    @functools.cached_property
    def of_fakes(self) -> list[Neighbors]:
        return [neighbors(fake, _NEIGHBORS) for fake in self.fakes]

    @functools.cached_property
    def manifolds(self) -> list[Manifold]:
        pairs = zip(self.fakes, self.of_fakes, strict=True)
        return [manifold_scores(self.images, fake, of_real=self.of_real, of_fake=own) for fake, own in pairs]


def _fd(sides: _Sides) -> list[Estimate]:
    return [Estimate(*frechet_influence(sides.moments, moments(fake), fake)) for fake in sides.fakes]


def _fd_infinity(sides: _Sides) -> list[Estimate]:
    """To first order an image moves the distance of infinitely many as it moves that of all."""
    found = []
    for number, (fake, of_all) in enumerate(zip(sides.fakes, _fd(sides), strict=True)):
        value, left = frechet_infinity(sides.real, fake, seed=sides.seed + number)
        found.append(Estimate(value, of_all.influence, left))
    return found


def _kid(sides: _Sides) -> list[Estimate]:
    within = real_part(sides.images, sides.n_fake, seed=sides.seed)
    return [_of_kernel(kernel_distance(sides.images, f, seed=sides.seed, within_real=within)) for f in sides.fakes]


def _kid75(sides: _Sides) -> list[Estimate]:
    return [_of_kernel(kernel_distance_by_batches(sides.images, fake)) for fake in sides.fakes]


def _of_kernel(found: KernelDistance) -> Estimate:
    return Estimate(found.value, found.influence, found.extra, found.spread)


def _is(sides: _Sides) -> list[Estimate]:
    found = [inception_score(logits, seed=sides.seed) for logits in sides.logits]
    return [Estimate(value, influence, spread=spread) for value, spread, influence in found]


def _diversity(sides: _Sides) -> list[Estimate]:
    """Mean distance of two drawn images by that of two real ones."""
    real = sides.of_real.distance.mean()
    means = [own.distance / real for own in sides.of_fakes]
    return [Estimate(each.mean().item(), 2 * each, 4 * _unseen(each)) for each in means]


def _manifold(metric: str, sides: _Sides) -> list[Estimate]:
    found = []
    for manifold, fake in zip(sides.manifolds, sides.fakes, strict=True):
        added = manifold.added[metric]
        value = added.mean().item()
        lost = manifold.lost.get(metric)
        if metric == "density":
            found.append(Estimate(value, added, _unseen(added)))
        elif lost is None:
            found.append(share_estimate(added))
        else:
            count = min(len(fake), len(added))
            influence = _of_lost(lost, value, count)
            least = variance_of_share(value, len(added) if influence.any() else count)
            seen = influence.var().item() / len(influence)
            found.append(Estimate(value, influence, max(least - seen, 0.0), share=value))
    return found


def _of_lost(lost: Tensor, share: float, count: int) -> Tensor:
    """What each fake adds to a share of the reals, from how far the share falls without it.

    That is a jackknife, which errs on the safe side (Efron & Stein 1981), and the more so the more fakes meet each real: were
    their numbers Poisson's with mean m, its variance would be too large by m / (1 - exp(-m)). Repeated draws
    (`benchmarks/intervals.py`) show about the root of that, as reals are neither all met by the same fakes nor each by its own;
    a little less is taken away.
    """
    met = (share * count + 2) / (count + 4)
    return lost * len(lost) * (met / -math.log1p(-met)) ** 0.2


def _unseen(added: Tensor) -> float:
    """Variance that a mean has where all images add the same: some that add one unit more might have been drawn."""
    return variance_of_share(0.0, len(added)) if added.min() == added.max() else 0.0


_ESTIMATES: dict[str, Callable[[_Sides], list[Estimate]]] = {
    "fd": _fd, "fd-infinity": _fd_infinity, "kid": _kid,
    **{metric: functools.partial(_manifold, metric) for metric in ("precision", "recall", "density", "coverage")},
    "diversity": _diversity, "is": _is, "kid75": _kid75,
}  # fmt: skip
METRICS = tuple(_ESTIMATES)
"""The names of all scores of features."""
OF_MOMENTS = ("fd", "fd-infinity", "is")
"""What needs no more of the reals than their moments."""
_NOTES = {
    "fd": "a Fréchet distance from few images is biased up: compare it only at equal counts",
    "is": "its classes are ImageNet's, which know no anime face: it says little about faces",
}


def _score(metric: str, sides: _Sides) -> Score:
    ranges = _ESTIMATES[metric](sides)
    low, high = limits(metric)
    found = combine(ranges, low=low, high=high)
    few = _few(None if metric == "is" else sides.n_real, sides.n_fake)
    caution = (_NOTES[metric],) if metric == "is" or (metric in _NOTES and few) else ()
    spreads = [one.spread for one in ranges if one.spread is not None]
    return Score(
        metric, found.value, found.std, found.interval, (*few, *caution),
        tuple(one.value for one in ranges), sum(spreads) / len(spreads) if spreads else None,
    )  # fmt: skip


def _few(n_real: int | None, n_fake: int) -> tuple[str, ...]:
    """A warning where either side is small."""
    n = n_fake if n_real is None else min(n_real, n_fake)
    return (f"only {n:,} images on one side, fewer than {ENOUGH:,}: a rough number",) if n < ENOUGH else ()
