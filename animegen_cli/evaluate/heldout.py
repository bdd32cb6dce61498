"""What a run says of held-out images: how near its reconstructions come, and how probable it finds them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from animegen_cli import console
from animegen_cli.errors import UsageError
from animegen_cli.evaluate.judge import JudgeResult
from animegen_cli.metrics import fidelity
from animegen_cli.metrics.scores import Score
from animegen_cli.metrics.uncertainty import mean_of
from animegen_cli.model.family import Likelihood, Reconstructs
from animegen_cli.model.noise import Noise
from animegen_cli.model.pixels import channels_first, from_uint8, to_uint8
from animegen_cli.sample.trained import micro_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from torch import Tensor

    from animegen_cli.evaluate.images import EvaluatedRun
    from animegen_cli.metrics.protocol import Protocol

METRICS = (*fidelity.FUNCTIONS, "bpd")
"""Errors of reconstructions, and bits per dimension."""


class HeldOutJudge:
    """Scores reconstructions and likelihoods of the run's held-out images, as means with their standard errors."""

    metrics = METRICS

    def protocols(self, subject: EvaluatedRun, words: Sequence[str] | None) -> list[Protocol]:
        """How each score is measured; unasked all but the likelihood of a probability flow, which takes too long."""
        model = subject.trained.model
        if words is None:
            words = list(fidelity.FUNCTIONS) if isinstance(model, Reconstructs) else []
            if isinstance(model, Likelihood) and model.bound == "elbo":
                words = [*words, "bpd"]
        return [_protocol(word, subject) for word in words]

    def judge(self, subject: EvaluatedRun, protocols: Sequence[Protocol]) -> JudgeResult:
        """Measure every metric on the same held-out images, in one pass over them."""
        return judged(subject, protocols, _measure)


def judged(
    subject: EvaluatedRun,
    protocols: Sequence[Protocol],
    measure: Callable[[EvaluatedRun, Sequence[Protocol]], Mapping[str, Tensor]],
) -> JudgeResult:
    """The means of what `measure` finds of each held-out image, (n,) for each metric, with the time that it took."""
    began = time.perf_counter()
    result = JudgeResult()
    per_image = measure(subject, protocols)
    seconds = time.perf_counter() - began
    for measured in protocols:
        score = mean(measured.metric, per_image[measured.metric])
        result.add(measured, score, images=subject.trained.images, reference_name=subject.faces.name, seconds=seconds)
    return result


def _protocol(metric: str, subject: EvaluatedRun) -> Protocol:
    """How `metric` is measured on held-out images; UsageError for a family that lacks what it takes."""
    model = subject.trained.model
    able = isinstance(model, Likelihood) if metric == "bpd" else isinstance(model, Reconstructs)
    if not able:
        what = "likelihood" if metric == "bpd" else "way to reconstruct an image"
        family = subject.trained.config.family
        raise UsageError(f"a {family} run has no {what}", hint=f"leave `{metric}` out of `--metrics`")
    return protocol(subject, f"bpd-{model.bound}" if isinstance(model, Likelihood) and metric == "bpd" else metric)


def protocol(subject: EvaluatedRun, metric: str) -> Protocol:
    """How a score is measured that looks at no features: on the test images of the run's own set, at most `--n` of them."""
    trained, faces = subject.trained, subject.faces
    split = "test" if len(faces.indices("test")) else "train"
    count = min(len(faces.indices(split)), subject.request.n)
    return replace(
        subject.protocol(metric), extractor="", extractor_sha="", resize="",
        reference=faces.split_identity(split, trained.data.size), reference_split=split, n_real=count, n_fake=count,
        precision=trained.precision, seeds="", sampling="",
    )  # fmt: skip


def chosen(subject: EvaluatedRun, measured: Protocol) -> np.ndarray:
    """The indices of a protocol's held-out images, int64 (n_real,), spread over the whole split: its order follows the year."""
    indices = subject.faces.indices(measured.reference_split)
    return indices[:: max(len(indices) // measured.n_real, 1)][: measured.n_real]


def _measure(subject: EvaluatedRun, protocols: Sequence[Protocol]) -> dict[str, Tensor]:
    """Each protocol's metric -> its value of every held-out image: float64 (n,), on the CPU."""
    trained, faces = subject.trained, subject.faces
    size, indices = trained.data.size, chosen(subject, protocols[0])
    batch = micro_batch(trained.device, size)
    parts: dict[str, list[Tensor]] = {measured.metric: [] for measured in protocols}
    errors = [metric for metric in parts if metric in fidelity.FUNCTIONS]
    likelihoods = [metric for metric in parts if metric not in fidelity.FUNCTIONS]
    with console.progress("held-out images", len(indices)) as bar, torch.no_grad():
        for start in range(0, len(indices), batch):
            pixels = channels_first(faces.pixels(indices[start : start + batch], size=size))
            images = from_uint8(pixels, trained.device)
            if errors:
                assert isinstance(trained.model, Reconstructs)  # else `_protocol` had refused them
                reconstructed = to_uint8(trained.model.reconstruct(images)).cpu()
                for metric in errors:
                    parts[metric].append(fidelity.FUNCTIONS[metric](reconstructed, pixels))
            for metric in likelihoods:
                assert isinstance(trained.model, Likelihood)
                noise = Noise(range(start, start + len(pixels)), trained.device)
                parts[metric].append(trained.model.bits_per_dim(images, noise).cpu().double())
            bar.advance(len(pixels))
    return {metric: torch.cat(of_metric) for metric, of_metric in parts.items()}


def mean(metric: str, per_image: Tensor) -> Score:
    """The mean over images (n,), with its standard error and Student's interval."""
    return Score(metric, *mean_of(per_image))
