"""What a run says of held-out images: how near its reconstructions come, and how probable it finds them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from animegen_cli import console
from animegen_cli.errors import UsageError
from animegen_cli.evaluate.judge import Verdict, entry
from animegen_cli.metrics import fidelity
from animegen_cli.model.family import Likelihood, Reconstructs
from animegen_cli.model.noise import Noise
from animegen_cli.model.pixels import channels_first, from_uint8, to_uint8
from animegen_cli.sample.trained import micro_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.evaluate.images import EvaluatedRun
    from animegen_cli.metrics.protocol import Protocol

METRICS = (*fidelity.FUNCTIONS, "bpd")
"""Errors of reconstructions, and bits per dimension."""


def asked(subject: EvaluatedRun, words: Sequence[str] | None) -> list[Protocol]:
    """How each score is measured; unasked all but the likelihood of a probability flow, which takes too long."""
    model = subject.trained.model
    if words is None:
        words = list(fidelity.FUNCTIONS) if isinstance(model, Reconstructs) else []
        if isinstance(model, Likelihood) and model.bound == "elbo":
            words = [*words, "bpd"]
    return [_protocol(word, subject) for word in words]


def _protocol(metric: str, subject: EvaluatedRun) -> Protocol:
    """How `metric` is measured on held-out images; UsageError for a family that lacks what it takes."""
    trained, faces = subject.trained, subject.faces
    model, split = trained.model, "test" if len(faces.indices("test")) else "train"
    able = isinstance(model, Likelihood) if metric == "bpd" else isinstance(model, Reconstructs)
    if not able:
        what = "likelihood" if metric == "bpd" else "way to reconstruct an image"
        raise UsageError(f"a {trained.config.family} run has no {what}", hint=f"leave `{metric}` out of `--metrics`")
    count = min(len(faces.indices(split)), subject.request.n)
    name = f"bpd-{model.bound}" if isinstance(model, Likelihood) and metric == "bpd" else metric
    return subject.protocol(
        name, extractor="", extractor_sha="", resize="", reference=faces.split_identity(split, trained.data.size),
        reference_split=split, n_real=count, n_fake=count, precision=trained.precision, seeds="", sampling="",
    )  # fmt: skip


def judge(subject: EvaluatedRun, wanted: Sequence[Protocol]) -> Verdict:
    """Means over held-out images with their standard errors."""
    trained, faces = subject.trained, subject.faces
    began, size = time.perf_counter(), trained.data.size
    indices = faces.indices(wanted[0].reference_split)
    indices = indices[:: max(len(indices) // wanted[0].n_real, 1)][: wanted[0].n_real]  # a set's order follows the year
    batch, values = micro_batch(trained.device, size), {measured.metric: [] for measured in wanted}  # type: ignore[var-annotated]
    with console.progress("held-out images", len(indices)) as bar, torch.no_grad():
        for start in range(0, len(indices), batch):
            pixels = channels_first(faces.pixels(indices[start : start + batch], size=size))
            images = from_uint8(pixels, trained.device)
            found = None
            for metric in values:
                if metric in fidelity.FUNCTIONS:
                    if found is None:
                        found = to_uint8(trained.model.reconstruct(images)).cpu()  # type: ignore[operator]
                    values[metric].append(fidelity.FUNCTIONS[metric](found, pixels))
                else:
                    noise = Noise(range(start, start + len(pixels)), trained.device)
                    values[metric].append(trained.model.bits_per_dim(images, noise).double().cpu())  # type: ignore[operator]
            bar.advance(len(pixels))
    verdict, seconds = Verdict(), time.perf_counter() - began
    for measured in wanted:
        per_image = torch.cat(values[measured.metric])
        mean, error = per_image.mean().item(), (per_image.std() / len(per_image) ** 0.5).item()
        verdict.scores.append(
            entry(
                measured, mean, images=trained.images, reference_name=faces.name, seconds=seconds,
                std=error, interval=(mean - 1.96 * error, mean + 1.96 * error),
            )
        )  # fmt: skip
    return verdict
