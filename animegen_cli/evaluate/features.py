"""Features of drawn images against those of real ones: Fréchet and kernel distances, precision, recall and the like."""

from __future__ import annotations

import functools
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from animegen_cli.device import pick_device
from animegen_cli.errors import MachineError
from animegen_cli.evaluate.judge import JudgeResult
from animegen_cli.metrics.extractors import Extractor, for_kid75, open_extractor
from animegen_cli.metrics.protocol import ENOUGH, Protocol
from animegen_cli.metrics.scores import METRICS, OF_MOMENTS, Score, check, score_features
from animegen_cli.model.pixels import channels_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from animegen_cli.evaluate.images import ImageSet
    from animegen_cli.evaluate.reference import Reference

DEFAULT_METRICS = ("fd", "kid", "precision", "recall", "density", "coverage", "diversity")
"""What is measured of any network when no metric is named."""


class FeatureJudge:
    """Compares the extractor's features of drawn images with those of real ones."""

    metrics = METRICS

    def protocols(self, subject: ImageSet, words: Sequence[str] | None) -> list[Protocol]:
        """How each score is measured; UsageError for what the network or the reference cannot give."""
        extractor, reference = subject.extractor, subject.reference
        if words is None:
            words = _unasked(extractor, reference, subject.count)
        check(words, of_moments=reference.moments is not None, logits=extractor.name == "inception")
        seeds = "; ".join(subject.ranges)
        return [
            replace(subject.protocol(word), resize=_extractor_for(word, extractor).resize, seeds=seeds)
            for word in words
        ]

    def judge(self, subject: ImageSet, protocols: Sequence[Protocol]) -> JudgeResult:
        """The scores of `protocols`, those seen through one resize together."""
        result = JudgeResult()
        found: dict[Protocol, tuple[Score, float]] = {}
        for resize in dict.fromkeys(protocol.resize for protocol in protocols):
            together = [protocol for protocol in protocols if protocol.resize == resize]
            metrics = [protocol.metric for protocol in together]
            began = time.perf_counter()
            extractor = _extractor_for(metrics[0], subject.extractor)
            real = subject.reference.features(extractor)
            fakes = subject.features_of(extractor)
            logits = [extractor.logits(fake).cpu() for fake in fakes] if "is" in metrics else None
            scores = score_features(real, fakes, metrics, logits=logits)
            seconds = time.perf_counter() - began
            found |= {protocol: (score, seconds) for protocol, score in zip(together, scores, strict=True)}
        for protocol in protocols:
            score, seconds = found[protocol]
            result.add(
                protocol, score, images=subject.seen, reference_name=subject.reference.name, seconds=seconds
            )  # fmt: skip
        return result


def _unasked(extractor: Extractor, reference: Reference, n_fake: int) -> list[str]:
    """What is measured when no metric is named."""
    found = [*DEFAULT_METRICS, *(["is"] if extractor.name == "inception" else [])]
    if min(reference.count, n_fake) < ENOUGH:
        found.insert(1, "fd-infinity")
    return found if reference.moments is None else [metric for metric in found if metric in OF_MOMENTS]


def _extractor_for(metric: str, extractor: Extractor) -> Extractor:
    """The network behind the resize that the metric takes."""
    return for_kid75(extractor) if metric == "kid75" else extractor


# ---- in training ----------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _faces_extractor() -> Extractor:
    return open_extractor("faces")


@functools.lru_cache(maxsize=1)
def _kid75_extractor() -> Extractor | None:
    """Inception at 75 pixels, None where its weights are not."""
    try:
        return for_kid75(open_extractor("inception", device=pick_device(None)))
    except MachineError:
        return None


def in_run_scores(real: np.ndarray, fake: np.ndarray, *, kid75: bool = False) -> dict[str, float]:
    """What training validates with: `kid-faces` of drawn against held-out images, uint8 (n, H, W, 3).

    With `kid75` that of document 001 comes first, where Inception's weights are: 75 pixels, batches of 64.
    """
    wanted = [("kid75", _kid75_extractor())] if kid75 else []
    found = {}
    for metric, extractor in (*wanted, ("kid", _faces_extractor())):
        if extractor is not None:
            sides = [extractor.features(channels_first(images)) for images in (real, fake)]
            (score,) = score_features(sides[0], sides[1], [metric])
            found[metric if metric == "kid75" else f"{metric}-{extractor.name}"] = score.value
    return found
