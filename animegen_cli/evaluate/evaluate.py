"""Scores of runs and folders: one list of judges, what they are asked, and the file that keeps what they found."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from animegen_cli import console, paths
from animegen_cli.device import pick_device
from animegen_cli.errors import DataError, MachineError, UsageError, did_you_mean
from animegen_cli.evaluate import classifier, heldout, variety
from animegen_cli.evaluate.classifier import open_extractor
from animegen_cli.evaluate.images import EvaluatedRun, Folder, ImageSet
from animegen_cli.evaluate.judge import Judge, Request, Verdict, entry
from animegen_cli.metrics.extractors import Extractor, for_kid75
from animegen_cli.metrics.protocol import ENOUGH, INCEPTION_NAMES, Protocol
from animegen_cli.metrics.scores import METRICS, OF_MOMENTS, Score, check, score_features
from animegen_cli.metrics.weights import find_inception
from animegen_cli.model.pixels import channels_first
from animegen_cli.paths import Run
from animegen_cli.report import page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import torch
    from torch import Tensor

    from animegen_cli.evaluate.reference import Reference

P = TypeVar("P")
DEFAULT_METRICS = ("fd", "kid", "precision", "recall", "density", "coverage", "diversity")


class _Likeness:
    """The judge who compares features of drawn images with those of real ones."""

    METRICS = METRICS

    def asked(self, subject: ImageSet, words: Sequence[str] | None) -> list[Protocol]:
        if words is None:
            words = _unasked(subject.extractor, subject.reference, subject.count)
        _check(words, subject.extractor, subject.reference)
        seeds = "; ".join(subject.ranges)
        return [subject.protocol(word, resize=_looked(subject.extractor, word).resize, seeds=seeds) for word in words]

    def judge(self, subject: ImageSet, wanted: Sequence[Protocol]) -> Verdict:
        return _scores(subject.reference, subject.features_of, subject.extractor, wanted, subject.seen)


LIKENESS = _Likeness()
OF_PICTURES: tuple[Judge[ImageSet], ...] = (LIKENESS, variety)
"""Who looks at images wherever they come from, in the order of their scores."""
JUDGES: tuple[Judge[EvaluatedRun], ...] = (*OF_PICTURES, heldout, classifier)
"""Who looks at a run."""


def evaluate(request: Request) -> dict[str, Any]:
    """Score a run (stored in its eval.json) or a folder; returns {"subject", "scores", "notes"}."""
    device = pick_device(request.device)
    extractor = _extractor(request, device)
    words = _words(request, extractor)
    subject = Path(request.subject) if request.subject else None
    if subject is not None and subject.exists() and not Run(subject).exists:
        return _evaluate_images(request, subject, extractor, words)
    return _evaluate_run(request, extractor, words)


def _extractor(request: Request, device: torch.device) -> Extractor:
    spec = request.extractor
    if spec is None:
        try:
            find_inception(request.weights)
            spec = "inception"
        except MachineError:
            spec = "faces"
            console.note("network: faces (Inception's weights are not here; `animegen weights` fetches them)")
    if request.precision not in ("fp32", "tf32", "bf16"):
        raise UsageError(f"no precision `{request.precision}`", hint="use fp32, tf32 or bf16")
    return open_extractor(spec, device=device, precision=request.precision, weights=request.weights)  # type: ignore[arg-type]


def _unasked(extractor: Extractor, reference: Reference, n_fake: int) -> list[str]:
    """What is measured where no metric is named."""
    found = [*DEFAULT_METRICS, *(["is"] if extractor.name == "inception" else [])]
    if min(reference.count, n_fake) < ENOUGH:
        found.insert(1, "fd-infinity")
    return found if reference.moments is None else [metric for metric in found if metric in OF_MOMENTS]


def _check(words: Sequence[str], extractor: Extractor, reference: Reference) -> None:
    """UsageError for what cannot be measured, before anything is drawn."""
    check(words, of_moments=reference.moments is not None, logits=extractor.name == "inception")


def _looked(extractor: Extractor, metric: str) -> Extractor:
    """The network as the metric looks through it."""
    return for_kid75(extractor) if metric == "kid75" else extractor


def _words(request: Request, extractor: Extractor) -> list[str] | None:
    """Metrics without their network, None where none were named; `fid` and `fid-faces` are understood as `fd`."""
    bare = {public: metric for metric, public in INCEPTION_NAMES.items()}
    known = [word for judge in JUDGES for word in judge.METRICS]
    found = []
    for word in request.metrics:
        metric = word.removesuffix(f"-{extractor.name}")
        if metric.split("-")[0] == "fid" and extractor.name != "inception":
            ours = metric.replace("fid", "fd", 1)
            raise UsageError(
                f"`{metric}` exists only on Inception; here it is `{ours}-{extractor.name}`",
                hint=f"type `--metrics {ours}`",
            )
        metric = bare.get(metric, metric)
        if metric not in known:
            raise UsageError(f"no metric `{word}`", hint=did_you_mean(metric, known))
        found.append(metric)
    return found or None


def _shared(
    judges: Sequence[Judge[P]], words: list[str] | None, request: Request
) -> list[tuple[Judge[P], list[str] | None]]:
    """The judges who have something to do, each with its words; None asks for all that it measures unasked."""
    if words is None:
        return [(judge, None) for judge in judges]
    found = [(judge, [word for word in words if word in judge.METRICS]) for judge in judges]
    named = classifier if request.attributes else None  # whoever names a classifier wants to hear it
    return [(judge, chosen or None) for judge, chosen in found if chosen or judge is named]


def _asked(judge: Judge[P], subject: P, words: list[str] | None, request: Request) -> list[Protocol]:
    """What the judge will measure; with `where_possible` without what this family cannot have."""
    if words is None or not request.where_possible:
        return judge.asked(subject, words)
    found: list[Protocol] = []
    for word in words:
        try:
            found += judge.asked(subject, [word])
        except UsageError as error:
            console.note(f"{word} is left out: {error.message}")
    return found


# ---- a run ----------------------------------------------------------------------------------------------------


def _evaluate_run(request: Request, extractor: Extractor, words: list[str] | None) -> dict[str, Any]:
    run = paths.open_run(request.subject, able_to=("samples", "translates"))
    console.note(f"run: {run.path}")
    subject = EvaluatedRun(run, request, extractor)
    images = subject.trained.images
    asked = [(judge, _asked(judge, subject, chosen, request)) for judge, chosen in _shared(JUDGES, words, request)]
    stored = read_stored(run)
    known = {_key(score): score for score in stored["scores"]}
    keys = [(p.id, images, p.sampling, p.seeds) for _, wanted in asked for p in wanted]
    if not request.force and all(key in known for key in keys):
        console.note("already scored (`--force` measures again)")
        return {"subject": str(run.path), "scores": [known[key] for key in keys], "notes": []}
    notes: list[str] = []
    scores: list[dict[str, Any]] = []
    for judge, wanted in asked:
        if wanted:
            verdict = judge.judge(subject, wanted)
            store(run, images, verdict, drawing=subject.drawing())
            scores += verdict.scores
            notes += [note for note in verdict.notes if note not in notes]
    page.write(run)
    if not run.finished:
        notes.append(f"the run is {run.about.get('state')}: these are scores at {images:,} images")
    return {"subject": str(run.path), "scores": scores, "notes": notes}


# ---- eval.json ------------------------------------------------------------------------------------------------

_LISTS = {"histograms": ("name", "by"), "requests": ("attribute", "value", "by")}
"""The lists of eval.json beside the scores, and what tells one entry from another."""


def store(run: Run, images: int, verdict: Verdict, *, drawing: Mapping[str, Any] | None = None) -> None:
    """Put one judge's findings on weights of `images` seen into the run's eval.json.

    What was found before stays, unless it was found anew or on other weights. Raises DataError for a damaged file.
    """
    found = read_stored(run)
    new = {_key(score) for score in verdict.scores}
    merged: dict[str, Any] = {
        "scores": [s for s in found["scores"] if s["images"] == images and _key(s) not in new] + verdict.scores,
        "drawing": dict(drawing) if drawing else found["drawing"],
    }
    current = any(entry.get("images") == images for key in ("scores", *_LISTS) for entry in found[key])
    for key, fields in _LISTS.items():
        fresh = getattr(verdict, key)
        told = [tuple(entry.get(field) for field in fields) for entry in fresh]
        old = [e for e in found[key] if e.get("images") == images and tuple(e.get(f) for f in fields) not in told]
        merged[key] = old + fresh
    merged["sheets"] = (found["sheets"] if current else {}) | verdict.sheets
    paths.write_json(run.scores, merged)


def read_stored(run: Run) -> dict[str, Any]:
    """The run's eval.json with every key; scores whose protocol is not the one they were measured with are left out."""
    value = paths.read_json(run.scores, what="list of scores") if run.scores.is_file() else {"scores": []}
    scores = value.get("scores")
    keys = {"protocol_id", "images", "protocol", "name", "value"}
    if not isinstance(scores, list) or any(not isinstance(s, dict) or not keys <= s.keys() for s in scores):
        raise DataError(f"{run.scores} is damaged", hint=f"delete it and type `animegen eval {run.path}` again")
    sound = [score for score in scores if _is_sound(score)]
    if len(sound) < len(scores):
        console.warn(f"{len(scores) - len(sound)} scores in {run.scores} do not fit their protocols and are left out")
    found: dict[str, Any] = {"scores": sound}
    found["drawing"] = value.get("drawing") if isinstance(value.get("drawing"), dict) else None
    for key in _LISTS:
        entries = value.get(key)
        found[key] = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    found["sheets"] = value.get("sheets") if isinstance(value.get("sheets"), dict) else {}
    return found


def _key(score: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells one stored score from another."""
    measured = score["protocol"]
    return score["protocol_id"], score["images"], measured.get("sampling", ""), measured.get("seeds", "")


def _is_sound(score: Mapping[str, Any]) -> bool:
    try:
        protocol = Protocol.from_dict(
            {key: value for key, value in score["protocol"].items() if key != "reference_name"}
        )
    except (AttributeError, DataError):
        return False
    words = isinstance(protocol.sampling, str) and isinstance(protocol.seeds, str)
    return words and isinstance(score["images"], int) and protocol.id == score["protocol_id"]


# ---- a folder -------------------------------------------------------------------------------------------------


def _evaluate_images(request: Request, path: Path, extractor: Extractor, words: list[str] | None) -> dict[str, Any]:
    if request.attributes:
        raise UsageError(
            f"`--attributes` looks at what a run draws, and `{path}` is a folder of images",
            hint=f"for the distance of its features type `--extractor attributes:{request.attributes}`",
        )
    folder = Folder(path, request, extractor)
    known = [word for judge in OF_PICTURES for word in judge.METRICS]
    if words and (others := [word for word in words if word not in known]):
        raise UsageError(f"`{others[0]}` is measured of runs, not of folders", hint="leave it out of `--metrics`")
    asked = [(judge, judge.asked(folder, chosen)) for judge, chosen in _shared(OF_PICTURES, words, request)]
    verdicts = [judge.judge(folder, wanted) for judge, wanted in asked if wanted]
    notes = [note for verdict in verdicts for note in verdict.notes]
    scores = [score for verdict in verdicts for score in verdict.scores]
    return {"subject": str(path), "scores": scores, "notes": list(dict.fromkeys(notes))}


# ---- parts ----------------------------------------------------------------------------------------------------


def _scores(
    reference: Reference,
    features_of: Callable[[Extractor], Sequence[Tensor]],
    extractor: Extractor,
    wanted: Sequence[Protocol],
    images: int | None,
) -> Verdict:
    """Scores of features against the reference's, those seen through one resize together."""
    verdict = Verdict()
    found: dict[Protocol, tuple[Score, float]] = {}
    for resize in dict.fromkeys(protocol.resize for protocol in wanted):
        together = [protocol for protocol in wanted if protocol.resize == resize]
        metrics = [protocol.metric for protocol in together]
        began, looked = time.perf_counter(), _looked(extractor, metrics[0])
        real, fakes = reference.features(looked), features_of(looked)
        logits = [looked.logits(fake).cpu() for fake in fakes] if "is" in metrics else None
        scores = score_features(real, fakes, metrics, logits=logits)
        seconds = time.perf_counter() - began
        found |= {protocol: (score, seconds) for protocol, score in zip(together, scores, strict=True)}
    for protocol in wanted:
        score, seconds = found[protocol]
        verdict.scores.append(
            entry(
                protocol, score.value, images=images, reference_name=reference.name, seconds=seconds,
                std=score.std, interval=score.interval, values=score.values, spread=score.spread,
            )
        )  # fmt: skip
        verdict.notes += [note for note in score.notes if note not in verdict.notes]
    return verdict


# ---- in a run -------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _faces_extractor() -> Extractor:
    return open_extractor("faces")


def in_run_scores(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """`kid-faces` of drawn against held-out images, uint8 (n, H, W, 3): what training validates with."""
    extractor = _faces_extractor()
    real_features, fake_features = (extractor.features(channels_first(images)) for images in (real, fake))
    (score,) = score_features(real_features, fake_features, ["kid"])
    return {"kid-faces": score.value}
