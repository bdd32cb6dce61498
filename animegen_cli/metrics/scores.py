"""Features of two sets -> scores, each with its uncertainty and what to know before quoting it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from animegen_cli.errors import UsageError, did_you_mean
from animegen_cli.metrics.frechet import Moments, frechet_distance, frechet_std, moments
from animegen_cli.metrics.inception_score import inception_score
from animegen_cli.metrics.kernel import kernel_distance, kernel_distance_by_batches
from animegen_cli.metrics.manifold import manifold_scores

METRICS = ("fd", "kid", "precision", "recall", "density", "coverage", "is", "kid75")
MANIFOLD = ("precision", "recall", "density", "coverage")
ENOUGH = 2048
"""Below this many images on either side, scores carry a warning."""


@dataclass(frozen=True)
class Score:
    """One number.

    `std` is the standard error that the finite number of images leaves (fd: of the fakes), except for `kid`
    and `is`, where it is the standard deviation over subsets and splits that other tools report.
    `interval` is the 95 % interval where `std` is a standard error. `name` is the metric without network.
    """

    name: str
    value: float
    std: float | None = None
    interval: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def score_features(
    real: Tensor | Moments,
    fake: Tensor,
    metrics: Sequence[str] = ("fd", "kid", "precision", "recall", "density", "coverage"),
    *,
    logits: Tensor | None = None,
    seed: int = 0,
) -> list[Score]:
    """Scores of the fakes' features (M, D) against the reals' (N, D), in the order of `metrics`.

    `real` may be stored moments, which suffice for `fd`; `is` needs the fakes' `logits` (M, classes). `seed`
    fixes subsets and splits. Raises UsageError for unknown metrics and missing inputs, DataError for too few
    images.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise UsageError(f"no metric `{metric}`", hint=did_you_mean(metric, METRICS))
    if fake.device.type == "mps":  # knows no float64
        fake = fake.cpu()
    if isinstance(real, Tensor):
        real = real.to(fake.device)
    shared: dict[str, Tensor] = {}
    return [_score(metric, real, fake, logits, seed, shared) for metric in metrics]


def _score(
    metric: str,
    real: Tensor | Moments,
    fake: Tensor,
    logits: Tensor | None,
    seed: int,
    shared: dict[str, Tensor],
) -> Score:
    if metric == "fd":
        return _frechet(real, fake)
    if metric == "is":
        if logits is None:
            raise UsageError("`is` needs class logits", hint="score with Inception, or leave `is` out")
        value, std = inception_score(logits, seed=seed)
        note = "its classes are ImageNet's, which know no anime face: it says little about faces"
        return Score(metric, value, std, notes=(note, *_few(None, len(logits))))
    if isinstance(real, Moments):
        raise UsageError(
            f"`{metric}` needs the reference images; a file with mu and sigma holds only what `fd` needs",
            hint="give the images with `--against`, or score `fd` alone",
        )
    notes = _few(len(real), len(fake))
    if metric in ("kid", "kid75"):
        by_batches = metric == "kid75"
        value, std = kernel_distance_by_batches(real, fake) if by_batches else kernel_distance(real, fake, seed=seed)
        return Score(metric, value, std, notes=notes)
    if not shared:
        shared.update(manifold_scores(real, fake))
    return _mean(metric, shared[metric], notes)


def _frechet(real: Tensor | Moments, fake: Tensor) -> Score:
    reference = moments(real) if isinstance(real, Tensor) else real
    fitted = moments(fake)
    value = frechet_distance(reference, fitted)
    std = frechet_std(reference, fitted, fake)
    notes = _few(reference.count, len(fake))
    if notes:
        notes += ("a Fréchet distance from few images is biased up: compare it only at equal counts",)
    return Score("fd", value, std, (max(value - 1.96 * std, 0.0), value + 1.96 * std), notes)


def _mean(metric: str, per_image: Tensor, notes: tuple[str, ...]) -> Score:
    """Mean and standard error of what each image adds; shares (all but density) stay within 0..1."""
    value = per_image.mean().item()
    std = (per_image.std() / len(per_image) ** 0.5).item()
    top = torch.inf if metric == "density" else 1.0
    return Score(metric, value, std, (max(value - 1.96 * std, 0.0), min(value + 1.96 * std, top)), notes)


def _few(n_real: int | None, n_fake: int) -> tuple[str, ...]:
    """A warning where either side is small."""
    n = n_fake if n_real is None else min(n_real, n_fake)
    return (f"only {n:,} images on one side, fewer than {ENOUGH:,}: a rough number",) if n < ENOUGH else ()
