"""Attributes as judges (document 002, section 3.2.4): a trained classifier looks at what a run draws.

For every run: how often each value occurs among its images and among real ones, and the Fréchet distance between the
classifier's features of both. For a run that takes labels: whether what was asked for is what is recognised.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from animegen_cli import console, paths
from animegen_cli.errors import DataError, UsageError
from animegen_cli.evaluate.images import CHUNK, EvaluatedRun
from animegen_cli.evaluate.judge import Verdict, entry
from animegen_cli.evaluate.reference import set_features
from animegen_cli.metrics import extractors
from animegen_cli.metrics.distributions import total_variation
from animegen_cli.metrics.scores import score_features
from animegen_cli.metrics.uncertainty import Estimate, combine
from animegen_cli.model import abilities
from animegen_cli.model.family import Embeds, Family, Samples
from animegen_cli.paths import Run
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.trained import label_row, open_trained, require, sampling_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from animegen_cli.metrics.extractors import Extractor, Precision
    from animegen_cli.metrics.protocol import Protocol
    from animegen_cli.sample.trained import Trained

METRICS = ("fd-attributes", "attribute", "requests")
"""Distance of the features, distance of each attribute's histograms, and share of requests that are recognised."""


class Recogniser:
    """A classifier run, ready to look at pictures.

    Attributes:
        name: the run's folder.
        learned_from: identity of its data set.
        attributes: what it recognises, and the values of each.
        extractor: its features, under their protocol.
    """

    def __init__(self, run: Run, *, device: torch.device, precision: Precision = "fp32") -> None:
        self.name = run.path.resolve().name
        self.learned_from = run.about.get("data", {}).get("identity")
        trained = open_trained(run, device=device, precision="fp32")
        self._method: Any = require(trained, "classifies")
        self.extractor = extractors.classifier_extractor(
            _Embedder(trained.model), paths.sha256(run.weights), trained.data.size, device=device, precision=precision
        )
        blank = torch.zeros(1, 3, trained.data.size, trained.data.size, dtype=torch.uint8)
        recognised = self._logits(self.extractor.features(blank))
        self.attributes = {name: trained.data.attributes[name] for name in recognised}

    @torch.inference_mode()
    def _logits(self, features: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self._method.classify(features.to(self.extractor.device))
        return found

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


def open_recogniser(spec: str, *, device: torch.device, precision: Precision = "fp32") -> Recogniser:
    """The classifier run that `spec` means; UsageError for a run that recognises nothing."""
    run = abilities.open_run(spec, "classifies")
    return _opened(str(run.path.resolve()), paths.sha256(run.weights), str(device), precision)


@functools.lru_cache(maxsize=2)
def _opened(path: str, sha: str, device: str, precision: Precision) -> Recogniser:
    return Recogniser(Run(Path(path)), device=torch.device(device), precision=precision)


def open_extractor(
    spec: str, *, device: str | torch.device = "cpu", precision: Precision = "fp32", weights: str | Path | None = None
) -> Extractor:
    """`metrics.extractors.open_extractor`, and `attributes:RUN`: what a classifier run sees."""
    kind, _, rest = spec.partition(":")
    if kind != extractors.CLASSIFIER:
        return extractors.open_extractor(spec, device=device, precision=precision, weights=weights)
    if not rest:
        raise UsageError(f"`{kind}` needs a classifier run", hint=f"type `{kind}:RUN`, with RUN its folder")
    return open_recogniser(rest, device=torch.device(device), precision=precision).extractor


# ---- what is asked of a run -------------------------------------------------------------------------------------


def asked(subject: EvaluatedRun, words: Sequence[str] | None) -> list[Protocol]:
    """How each score is measured; nothing without `--attributes`.

    UsageError where a score was named that the run, the reference or the command cannot give.
    """
    request = subject.request
    if request.attributes is None:
        if words:
            raise UsageError(f"`{words[0]}` needs a classifier", hint="name its run with `--attributes RUN`")
        return []
    judge = _recogniser(subject)
    chosen = METRICS if words is None else words
    wanted = [_protocol(subject, judge, "fd")] if "fd-attributes" in chosen else []
    if "attribute" in chosen:
        if subject.reference.faces is not None:
            wanted += [_protocol(subject, judge, f"attribute-{name}") for name in judge.attributes]
        elif words is not None:
            raise UsageError(
                "a file with mu and sigma shows no attributes", hint="score against images with `--against faces.zip`"
            )
    if "requests" in chosen:
        orders = _orders(subject.trained, judge)
        if not orders and words is not None:
            raise UsageError(_no_orders(subject.trained, judge), hint="leave `requests` out of `--metrics`")
        wanted += [_of_requests(subject, judge, order) for order in orders]
    return wanted


class LabelRequest(NamedTuple):
    """What a run is asked to draw: the values of an attribute that it and the classifier both know."""

    attribute: str
    values: tuple[str, ...]
    left_out: tuple[str, ...]
    """Values that only one of the two knows."""


def _orders(trained: Trained, judge: Recogniser) -> list[LabelRequest]:
    found = []
    for name in _conditions(trained):
        own, known = trained.data.attributes[name], judge.attributes.get(name, ())
        values = tuple(value for value in own if value in known)
        if values:
            found.append(LabelRequest(name, values, tuple(sorted(set(own) ^ set(known)))))
    return found


def _conditions(trained: Trained) -> tuple[str, ...]:
    """The attributes that a run can be asked for."""
    return getattr(trained.model, "conditions", ()) if isinstance(trained.model, Samples) else ()


def _no_orders(trained: Trained, judge: Recogniser) -> str:
    """Why nothing can be asked for."""
    own = _conditions(trained)
    if not own:
        return "the run takes no labels, so nothing can be requested of it"
    return f"the run is asked for {', '.join(own)}, and {judge.name} recognises {', '.join(judge.attributes)}"


def _recogniser(subject: EvaluatedRun) -> Recogniser:
    request = subject.request
    assert request.attributes is not None
    return open_recogniser(
        request.attributes,
        device=subject.extractor.device,
        precision=request.precision,  # type: ignore[arg-type]
    )


def _protocol(subject: EvaluatedRun, judge: Recogniser, metric: str, **changes: Any) -> Protocol:
    eye = judge.extractor
    return subject.protocol(
        metric, extractor=eye.name, extractor_sha=eye.sha, resize=eye.resize, seeds="; ".join(subject.source.ranges),
        **changes,
    )  # fmt: skip


def _of_requests(subject: EvaluatedRun, judge: Recogniser, order: LabelRequest) -> Protocol:
    """Who was asked for other values, or for another number of images, stands in another column."""
    return _protocol(
        subject, judge, f"requests-{order.attribute}", reference=",".join(order.values), reference_split="", n_real=0,
        n_fake=len(_seeds(subject)) * len(order.values),
    )  # fmt: skip


def _seeds(subject: EvaluatedRun) -> Sequence[int]:
    """Those of each request: the first of the seeds that the run is judged by, the same for every value."""
    ranges: list[Sequence[int]] = getattr(subject.source, "numbers", [()])
    return ranges[0][: subject.request.per_value]


# ---- what is found ----------------------------------------------------------------------------------------------


def judge(subject: EvaluatedRun, wanted: Sequence[Protocol]) -> Verdict:
    """The scores of `wanted`, with the histograms and requests that they sum up."""
    recogniser, verdict = _recogniser(subject), Verdict()
    by_metric = {measured.metric: measured for measured in wanted}
    if any(not metric.startswith("requests-") for metric in by_metric):
        _look(subject, recogniser, by_metric, verdict)
    possible = _orders(subject.trained, recogniser)
    orders = [order for order in possible if f"requests-{order.attribute}" in by_metric]
    if orders:
        _request(subject, recogniser, by_metric, orders, verdict)
    elif not possible and _conditions(subject.trained):
        verdict.notes.append(_no_orders(subject.trained, recogniser))
    return verdict


def _look(subject: EvaluatedRun, judge: Recogniser, by_metric: Mapping[str, Protocol], verdict: Verdict) -> None:
    """Features and histograms of drawn against real images."""
    began, reference, images = time.perf_counter(), subject.reference, subject.trained.images
    drawn, real = subject.features_of(judge.extractor), reference.features(judge.extractor)
    if "fd" in by_metric:
        (score,) = score_features(real, drawn, ["fd"])
        verdict.notes += score.notes
        verdict.scores.append(
            entry(
                by_metric["fd"], score.value, std=score.std, interval=score.interval, values=score.values, images=images,
                reference_name=reference.name, seconds=time.perf_counter() - began,
            )
        )  # fmt: skip
    if not isinstance(real, Tensor):
        return
    seen, shown = judge.values(real), [judge.values(features) for features in drawn]
    for name, values in judge.attributes.items():
        if f"attribute-{name}" not in by_metric:
            continue
        ranges = [distance(seen[name], found[name], len(values)) for found in shown]
        value, std, interval = combine(ranges, low=0.0, high=1.0)
        verdict.scores.append(
            entry(
                by_metric[f"attribute-{name}"], value, std=std, interval=interval, values=[one.value for one in ranges],
                images=images, reference_name=reference.name, seconds=time.perf_counter() - began,
            )
        )  # fmt: skip
        sides = seen[name], torch.cat([found[name] for found in shown])
        known, found = ((side.bincount(minlength=len(values)).double() / len(side)).tolist() for side in sides)
        verdict.histograms.append(
            {
                "name": name, "by": judge.name, "values": list(values), "real": known, "drawn": found, "images": images,
            }
        )  # fmt: skip


def _request(
    subject: EvaluatedRun,
    judge: Recogniser,
    by_metric: Mapping[str, Protocol],
    orders: Sequence[LabelRequest],
    verdict: Verdict,
) -> None:
    """Draw what is asked for, value by value, from the same seeds, and count what is recognised."""
    trained, seeds = subject.trained, _seeds(subject)
    sampling = sampling_of(trained, subject.request.overrides)
    bound = _on_real_images(subject, judge, orders, verdict)
    with console.progress("requests", len(seeds) * sum(len(order.values) for order in orders)) as bar:
        for order in orders:
            began, name, hits = time.perf_counter(), order.attribute, []
            for value in order.values:
                labels = label_row(trained, {name: value})
                drawn = Generator(trained, sampling, labels).draw(seeds, on_progress=bar.advance)
                found = judge.values(judge.features(drawn))[name]
                hits.append(found == judge.attributes[name].index(value))
                verdict.requests.append(
                    {
                        "attribute": name, "value": value, "asked": len(seeds), "recognised": int(hits[-1].sum()), "by": judge.name,
                        "images": trained.images, "real": bound.get((name, value)),
                    }
                )  # fmt: skip
            share, std, interval = combine([answered(torch.stack(hits))], low=0.0, high=1.0)
            verdict.scores.append(
                entry(
                    by_metric[f"requests-{name}"], share, std=std, interval=interval, images=trained.images,
                    reference_name=f"{len(order.values)} values of {name}", seconds=time.perf_counter() - began,
                )
            )  # fmt: skip
            if order.left_out:
                verdict.notes.append(
                    f"{name}: only the run or only {judge.name} knows {', '.join(order.left_out)}; not asked for"
                )


def _on_real_images(
    subject: EvaluatedRun, judge: Recogniser, orders: Sequence[LabelRequest], verdict: Verdict
) -> dict[tuple[str, str], float]:
    """(attribute, value) -> share of the run's real held-out faces of that value in which it is recognised.

    No model can be expected to do better than that. Empty where the set is gone.
    """
    try:
        faces = subject.faces
    except DataError as error:
        verdict.notes.append(f"how well {judge.name} recognises real faces is not known: {error.message}")
        return {}
    split, own_set = "test" if len(faces.indices("test")) else "train", judge.learned_from == faces.identity
    labels = torch.from_numpy(faces.labels(faces.indices(split)))
    found = judge.values(set_features(faces, split, subject.trained.data.size, judge.extractor))
    shares: dict[tuple[str, str], float] = {}
    for name, values, _ in orders:
        own, known = faces.attributes[name], judge.attributes[name]
        truth = labels[:, list(faces.attributes).index(name)]
        hits = {value: found[name][truth == own.index(value)] == known.index(value) for value in values}
        shares |= {(name, value): hit.double().mean().item() for value, hit in hits.items() if len(hit)}
        right = torch.cat([*hits.values()]).double()
        if len(right):
            console.note(
                f"{judge.name} recognises {name} in {right.mean():.1%} of {len(right):,} real {split} faces: no run can be "
                f"expected to do better{'' if own_set else ' (its set is another one, and may hold some of them)'}"
            )
    return shares


# ---- arithmetic -------------------------------------------------------------------------------------------------


def distance(real: Tensor, drawn: Tensor, count: int) -> Estimate:
    """Total variation of `count` values among real (n,) and drawn (m,) images, in [0, 1].

    An image of value v moves it by sign(drawn share - real share) / 2, to first order. The bias of few images, always
    upwards, is not in its error.
    """
    known, found = (side.bincount(minlength=count) for side in (real, drawn))
    pull = (found / len(drawn) - known / len(real)).sign() / 2
    return Estimate(total_variation(known.numpy(), found.numpy()), pull[drawn])


def answered(hits: Tensor) -> Estimate:
    """Mean over the values of the share of requests that are recognised; `hits` (values, requests of each) bool.

    How many are asked for each value is no chance, so only the spread within values counts.
    """
    right = hits.double()
    return Estimate(right.mean().item(), (right - right.mean(1, keepdim=True)).flatten())
