"""Attributes as judges (document 002, section 3.2.4): a trained classifier names what a run draws.

For every run: how often each value occurs among its images and among real ones, and the Fréchet distance between the
classifier's features of both. For a run that takes labels: whether what was asked for is what is recognized.
"""

from __future__ import annotations

import functools
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from animegen_cli import console, disk
from animegen_cli.errors import DataError, UsageError
from animegen_cli.evaluate.judge import JudgeResult
from animegen_cli.evaluate.reference import set_features
from animegen_cli.evaluate.sources import CHUNK
from animegen_cli.metrics import distributions, extractors
from animegen_cli.metrics.scores import Score, score_features
from animegen_cli.metrics.uncertainty import Estimate, combine
from animegen_cli.model import abilities
from animegen_cli.model.family import Classifies, Embeds, Family, Samples
from animegen_cli.paths import Run
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.trained import label_row, open_trained, require, sampling_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from animegen_cli.evaluate.images import EvaluatedRun
    from animegen_cli.metrics.extractors import Extractor
    from animegen_cli.metrics.protocol import Precision, Protocol
    from animegen_cli.sample.trained import Trained

METRICS = ("fd-attributes", "attribute", "requests")
"""Distance of the features, distance of each attribute's histograms, and share of requests that are recognized."""


# ---- the classifier ---------------------------------------------------------------------------------------------


class Recognizer:
    """A classifier run, ready to name what pictures show.

    Attributes:
        name: the run's folder.
        learned_from: identity of its data set; None where the run does not say it.
        attributes: what it recognizes, and the values of each.
        extractor: its features, under their protocol.
    """

    def __init__(self, run: Run, *, device: torch.device, precision: Precision = "fp32") -> None:
        self.name = run.path.resolve().name
        self.learned_from: str | None = run.about.get("data", {}).get("identity")
        trained = open_trained(run, device=device, precision="fp32")
        self._model: Classifies = require(trained, "classifies")
        self.extractor = extractors.classifier_extractor(
            _Embedder(trained.model), disk.sha256(run.weights), trained.data.size, device=device, precision=precision
        )
        blank = torch.zeros(1, 3, trained.data.size, trained.data.size, dtype=torch.uint8)
        recognized = self._logits(self.extractor.features(blank))
        self.attributes = {name: trained.data.attributes[name] for name in recognized}

    @torch.inference_mode()
    def _logits(self, features: Tensor) -> dict[str, Tensor]:
        return self._model.classify(features.to(self.extractor.device))

    def values(self, features: Tensor) -> dict[str, Tensor]:
        """Attribute -> the most probable value of each image (n,), int64 on the CPU, from features (n, D)."""
        return {name: logits.argmax(1).cpu() for name, logits in self._logits(features).items()}

    def features(self, images: Tensor) -> Tensor:
        """Features (n, D) on the CPU of uint8 images (n, 3, H, W) of any size."""
        return torch.cat([self.extractor.features(part).cpu() for part in images.split(CHUNK)])


class _Embedder(nn.Module):
    """What an extractor wants of a network: images in, features out."""

    def __init__(self, model: Family) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        assert isinstance(self.model, Embeds)
        return self.model.embed(images)


def open_recognizer(spec: str, *, device: torch.device, precision: Precision = "fp32") -> Recognizer:
    """The classifier run that `spec` means; UsageError for a run that recognizes nothing."""
    run = abilities.open_run(spec, "classifies")
    return _opened(str(run.path.resolve()), disk.sha256(run.weights), str(device), precision)


@functools.lru_cache(maxsize=2)  # by the sha, so that a run trained on is opened again
def _opened(path: str, sha: str, device: str, precision: Precision) -> Recognizer:
    return Recognizer(Run(Path(path)), device=torch.device(device), precision=precision)


def open_extractor(
    spec: str, *, device: str | torch.device = "cpu", precision: Precision = "fp32", weights: str | Path | None = None
) -> Extractor:
    """Open a network of `metrics.extractors.open_extractor`, or `attributes:RUN`: what a classifier run sees."""
    kind, _, rest = spec.partition(":")
    if kind != extractors.CLASSIFIER:
        return extractors.open_extractor(spec, device=device, precision=precision, weights=weights)
    if not rest:
        raise UsageError(f"`{kind}` needs a classifier run", hint=f"type `{kind}:RUN`, with RUN its folder")
    return open_recognizer(rest, device=torch.device(device), precision=precision).extractor


# ---- the judge --------------------------------------------------------------------------------------------------


class AttributeJudge:
    """Compares the attributes that a classifier recognizes in drawn images with those of real ones and of requests."""

    metrics = METRICS

    def protocols(self, subject: EvaluatedRun, words: Sequence[str] | None) -> list[Protocol]:
        """How each score is measured; nothing without `--attributes`.

        Raises:
            UsageError: a score was named that the run, the reference or the command cannot give.
        """
        if subject.request.attributes is None:
            if words:
                raise UsageError(f"`{words[0]}` needs a classifier", hint="name its run with `--attributes RUN`")
            return []
        recognizer = _recognizer(subject)
        chosen = METRICS if words is None else words
        found = [_protocol(subject, recognizer, "fd")] if "fd-attributes" in chosen else []
        if "attribute" in chosen:
            if subject.reference.faces is not None:
                found += [_protocol(subject, recognizer, f"attribute-{name}") for name in recognizer.attributes]
            elif words is not None:
                raise UsageError(
                    "a file with mu and sigma shows no attributes",
                    hint="score against images with `--against faces.zip`",
                )
        if "requests" in chosen:
            requests = _label_requests(subject.trained, recognizer)
            if not requests and words is not None:
                raise UsageError(_no_requests(subject.trained, recognizer), hint="leave `requests` out of `--metrics`")
            found += [_request_protocol(subject, recognizer, request) for request in requests]
        return found

    def judge(self, subject: EvaluatedRun, protocols: Sequence[Protocol]) -> JudgeResult:
        """The scores of `protocols`, with the histograms and requests that they sum up."""
        recognizer = _recognizer(subject)
        result = JudgeResult()
        by_metric = {measured.metric: measured for measured in protocols}
        if any(not metric.startswith("requests-") for metric in by_metric):
            _compare_with_real(subject, recognizer, by_metric, result)
        possible = _label_requests(subject.trained, recognizer)
        requests = [request for request in possible if f"requests-{request.attribute}" in by_metric]
        if requests:
            _draw_requests(subject, recognizer, by_metric, requests, result)
        elif not possible and _conditions(subject.trained):
            result.notes.append(_no_requests(subject.trained, recognizer))
        return result


class LabelRequest(NamedTuple):
    """What a run is asked to draw: the values of an attribute that it and the classifier both know."""

    attribute: str
    values: tuple[str, ...]
    left_out: tuple[str, ...]
    """Values that only one of the two knows."""


def _label_requests(trained: Trained, recognizer: Recognizer) -> list[LabelRequest]:
    found = []
    for name in _conditions(trained):
        own, known = trained.data.attributes[name], recognizer.attributes.get(name, ())
        values = tuple(value for value in own if value in known)
        if values:
            found.append(LabelRequest(name, values, tuple(sorted(set(own) ^ set(known)))))
    return found


def _conditions(trained: Trained) -> tuple[str, ...]:
    """The attributes that a run can be asked for."""
    return getattr(trained.model, "conditions", ()) if isinstance(trained.model, Samples) else ()


def _no_requests(trained: Trained, recognizer: Recognizer) -> str:
    """Why nothing can be asked for."""
    own = _conditions(trained)
    if not own:
        return "the run takes no labels, so nothing can be requested of it"
    known = ", ".join(recognizer.attributes)
    return f"the run is asked for {', '.join(own)}, and {recognizer.name} recognizes {known}"


def _recognizer(subject: EvaluatedRun) -> Recognizer:
    assert subject.request.attributes is not None
    extractor = subject.extractor
    return open_recognizer(subject.request.attributes, device=extractor.device, precision=extractor.precision)


def _protocol(subject: EvaluatedRun, recognizer: Recognizer, metric: str) -> Protocol:
    extractor = recognizer.extractor
    return replace(
        subject.protocol(metric), extractor=extractor.name, extractor_sha=extractor.sha, resize=extractor.resize,
        seeds="; ".join(subject.ranges),
    )  # fmt: skip


def _request_protocol(subject: EvaluatedRun, recognizer: Recognizer, request: LabelRequest) -> Protocol:
    """How a request is scored: other values, or another number of images, stand in another column."""
    return replace(
        _protocol(subject, recognizer, f"requests-{request.attribute}"), reference=",".join(request.values),
        reference_split="", n_real=0, n_fake=len(_seeds(subject)) * len(request.values),
    )  # fmt: skip


def _seeds(subject: EvaluatedRun) -> Sequence[int]:
    """Those of each request: the first of the seeds that the run is judged by, the same for every value."""
    return subject.source.seeds[: subject.request.per_value]


# ---- drawn against real images ----------------------------------------------------------------------------------


def _compare_with_real(
    subject: EvaluatedRun, recognizer: Recognizer, by_metric: Mapping[str, Protocol], result: JudgeResult
) -> None:
    """Compare features and histograms of drawn images with those of real ones."""
    began = time.perf_counter()
    reference, images = subject.reference, subject.trained.images

    def add(measured: Protocol, score: Score) -> None:
        seconds = time.perf_counter() - began
        result.add(measured, score, images=images, reference_name=reference.name, seconds=seconds)

    drawn = subject.features_of(recognizer.extractor)
    real = reference.features(recognizer.extractor)
    if "fd" in by_metric:
        (score,) = score_features(real, drawn, ["fd"])
        add(by_metric["fd"], score)
    if not isinstance(real, Tensor):
        return
    of_real = recognizer.values(real)
    of_drawn = [recognizer.values(features) for features in drawn]
    for name, values in recognizer.attributes.items():
        metric = f"attribute-{name}"
        if metric not in by_metric:
            continue
        ranges = [distributions.names_estimate(of_real[name], found[name], len(values)) for found in of_drawn]
        value, std, interval = combine(ranges, low=0.0, high=1.0)
        floor = distributions.names_floor(of_real[name], len(of_drawn[0][name]), len(values))
        if value <= floor:
            result.notes.append(f"{metric} (below {floor:.2g}): {distributions.NO_DIFFERENCE}")
        add(by_metric[metric], Score(metric, value, std, interval, values=tuple(one.value for one in ranges)))
        sides = of_real[name], torch.cat([found[name] for found in of_drawn])
        real_shares, drawn_shares = ((side.bincount(minlength=len(values)).double() / len(side)).tolist()
                                     for side in sides)  # fmt: skip
        result.histograms.append({
            "name": name, "by": recognizer.name, "values": list(values), "real": real_shares, "drawn": drawn_shares,
            "images": images,
        })  # fmt: skip


# ---- requests ---------------------------------------------------------------------------------------------------


def _draw_requests(
    subject: EvaluatedRun,
    recognizer: Recognizer,
    by_metric: Mapping[str, Protocol],
    requests: Sequence[LabelRequest],
    result: JudgeResult,
) -> None:
    """Draw what is asked for, value by value, from the same seeds, and count what is recognized."""
    trained, seeds = subject.trained, _seeds(subject)
    bound = _recognized_in_real(subject, recognizer, requests, result)
    with console.progress("requests", len(seeds) * sum(len(request.values) for request in requests)) as bar:
        for request in requests:
            began = time.perf_counter()
            name = request.attribute
            hits = _hits(subject, recognizer, request, bar.advance)
            for value, hit in zip(request.values, hits, strict=True):
                result.requests.append({
                    "attribute": name, "value": value, "asked": len(seeds), "recognised": int(hit.sum()),
                    "by": recognizer.name, "images": trained.images, "real": bound.get((name, value)),
                })  # fmt: skip
            result.add(
                by_metric[f"requests-{name}"],
                Score(f"requests-{name}", *combine([answered(hits)], low=0.0, high=1.0)),
                images=trained.images,
                reference_name=f"{len(request.values)} values of {name}",
                seconds=time.perf_counter() - began,
            )
            if request.left_out:
                result.notes.append(
                    f"{name}: only the run or only {recognizer.name} knows {', '.join(request.left_out)}; not asked for"
                )


def _hits(
    subject: EvaluatedRun, recognizer: Recognizer, request: LabelRequest, on_progress: Callable[[int], None]
) -> Tensor:
    """Which of the images that are drawn for each value are recognized as that value: bool (values, seeds)."""
    trained, name = subject.trained, request.attribute
    sampling = sampling_of(trained, subject.request.overrides)
    hits = []
    for value in request.values:
        generator = Generator(trained, sampling, label_row(trained, {name: value}))
        drawn = generator.draw(_seeds(subject), on_progress=on_progress)
        found = recognizer.values(recognizer.features(drawn))[name]
        hits.append(found == recognizer.attributes[name].index(value))
    return torch.stack(hits)


def _recognized_in_real(
    subject: EvaluatedRun, recognizer: Recognizer, requests: Sequence[LabelRequest], result: JudgeResult
) -> dict[tuple[str, str], float]:
    """(attribute, value) -> share of the run's real held-out faces of that value in which it is recognized.

    No model can be expected to do better than that. Empty where the set is gone.
    """
    try:
        faces = subject.faces
    except DataError as error:
        result.notes.append(f"how well {recognizer.name} recognizes real faces is not known: {error.message}")
        return {}
    split = "test" if len(faces.indices("test")) else "train"
    own_set = recognizer.learned_from == faces.identity
    labels = torch.from_numpy(faces.labels(faces.indices(split)))
    found = recognizer.values(set_features(faces, split, subject.size, recognizer.extractor, subject.group))
    shares: dict[tuple[str, str], float] = {}
    for name, values, _ in requests:
        own, known = faces.attributes[name], recognizer.attributes[name]
        truth = labels[:, list(faces.attributes).index(name)]
        hits = {value: found[name][truth == own.index(value)] == known.index(value) for value in values}
        shares |= {(name, value): hit.double().mean().item() for value, hit in hits.items() if len(hit)}
        right = torch.cat([*hits.values()]).double()
        if len(right):
            console.note(
                f"{recognizer.name} recognizes {name} in {right.mean():.1%} of {len(right):,} real {split} faces: no run"
                f" can be expected to do better{'' if own_set else ' (its set is another one, and may hold some of them)'}"
            )
    return shares


# ---- arithmetic -------------------------------------------------------------------------------------------------


def answered(hits: Tensor) -> Estimate:
    """Mean over the values of the share of requests that are recognized; `hits` (values, requests of each) bool.

    How many are asked for each value is no chance, so only the spread within values counts; to the share of each value one
    imagined request is added that is recognized half, as not even one of all or none is certain (Jeffreys' prior).
    """
    right = hits.double()
    asked, shares = right.shape[1], right.mean(1, keepdim=True)
    known = (shares * asked + 0.5) / (asked + 1)
    influence = (right - shares).flatten()
    variance = (known * (1 - known)).mean().item() / right.numel()
    seen = influence.var().item() / right.numel() if right.numel() > 1 else 0.0
    return Estimate(right.mean().item(), influence, max(variance - seen, 0.0), share=right.mean().item())
