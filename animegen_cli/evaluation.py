"""Scores of runs and folders: one list of judges, what they are asked, and the file that keeps what they found."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from animegen_cli import console, heldout, paths
from animegen_cli.data.reading import FaceSet, open_images, require_size
from animegen_cli.errors import DataError, MachineError, UsageError, did_you_mean
from animegen_cli.judging import Judge, Request, Subject, Verdict, entry, open_reference
from animegen_cli.metrics.extractors import Extractor, for_kid75, open_extractor
from animegen_cli.metrics.protocol import ENOUGH, INCEPTION_NAMES, Protocol
from animegen_cli.metrics.reference import Reference, set_features
from animegen_cli.metrics.scores import METRICS, OF_MOMENTS, Score, check, score_features
from animegen_cli.metrics.weights import find_inception
from animegen_cli.paths import Run
from animegen_cli.report import page
from animegen_cli.train.choices import pick_device

DEFAULT_METRICS = ("fd", "kid", "precision", "recall", "density", "coverage", "diversity")


class _Likeness:
    """The judge who compares features of drawn images with those of real ones."""

    METRICS = METRICS

    def asked(self, subject: Subject, words: Sequence[str] | None) -> list[Protocol]:
        if words is None:
            words = _unasked(subject.extractor, subject.reference, len(subject.source))
        _check(words, subject.extractor, subject.reference)
        return [
            subject.protocol(
                word, resize=_looked(subject.extractor, word).resize, seeds="; ".join(subject.source.ranges)
            )
            for word in words
        ]

    def judge(self, subject: Subject, wanted: Sequence[Protocol]) -> Verdict:
        return _scores(subject.reference, subject.features_of, subject.extractor, wanted, subject.trained.images)


LIKENESS = _Likeness()
JUDGES: tuple[Judge, ...] = (LIKENESS, heldout)
"""Who looks at a run, in the order of their scores."""


def evaluate(request: Request) -> dict[str, Any]:
    """Score a run (stored in its eval.json) or a folder; returns {"subject", "scores", "notes"}."""
    device = pick_device(request.device)
    extractor = _extractor(request, device)
    words = _words(request, extractor)
    subject = Path(request.subject) if request.subject else None
    if subject is not None and subject.exists() and not (subject / "run.json").is_file():
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


# ---- a run ----------------------------------------------------------------------------------------------------


def _evaluate_run(request: Request, extractor: Extractor, words: list[str] | None) -> dict[str, Any]:
    run = paths.open_run(request.subject, able_to=("samples", "translates"))
    console.note(f"run: {run.path}")
    subject = Subject(run, request, extractor)
    images = subject.trained.images
    asked = [
        (judge, judge.asked(subject, chosen))
        for judge in JUDGES
        if (chosen := None if words is None else [word for word in words if word in judge.METRICS]) != []
    ]
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
    if run.about.get("state") != "finished":
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


def _evaluate_images(request: Request, folder: Path, extractor: Extractor, words: list[str] | None) -> dict[str, Any]:
    if request.against is None:
        raise UsageError(
            f"`{folder}` is a folder of images: it needs a reference",
            hint=f"type `animegen eval {folder} --against faces.zip`",
        )
    if words and (others := [word for word in words if word not in LIKENESS.METRICS]):
        raise UsageError(f"`{others[0]}` is measured of runs, not of folders", hint="leave it out of `--metrics`")
    images = open_images(folder)
    if not images.square:
        require_size(images, images.size)
    source = open_reference(request.against)
    split = request.split if isinstance(source, FaceSet) and len(source.indices("test")) else "all"
    reference = Reference(source, split, images.size, name=Path(request.against).name)
    base = Protocol(
        metric="", extractor=extractor.name, extractor_sha=extractor.sha, resize=extractor.resize,
        reference=reference.identity, reference_split=split, n_real=reference.count, n_fake=len(images.indices()),
        size=images.size, precision=extractor.precision,
    )  # fmt: skip
    words = words or _unasked(extractor, reference, len(images.indices()))
    _check(words, extractor, reference)
    wanted = [replace(base, metric=word, resize=_looked(extractor, word).resize) for word in words]

    def features_of(extractor: Extractor) -> list[Tensor]:
        return [set_features(images, "all", images.size, extractor)]

    found = _scores(reference, features_of, extractor, wanted, None)
    return {"subject": str(folder), "scores": found.scores, "notes": found.notes}


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
    real_features, fake_features = (
        extractor.features(torch.from_numpy(images).permute(0, 3, 1, 2)) for images in (real, fake)
    )
    (score,) = score_features(real_features, fake_features, ["kid"])
    return {"kid-faces": score.value}
