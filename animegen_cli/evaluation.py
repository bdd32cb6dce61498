"""Scores of runs and folders: who draws, which reference, which network, under which protocol."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from animegen_cli import console, editing, generate, heldout, paths
from animegen_cli.data.reading import FaceSet, open_images, require_size
from animegen_cli.errors import DataError, MachineError, UsageError, did_you_mean
from animegen_cli.generate import Trained
from animegen_cli.method import Edit, Samples
from animegen_cli.metrics.extractors import Extractor, open_extractor
from animegen_cli.metrics.frechet import Moments, load_moments
from animegen_cli.metrics.protocol import INCEPTION_NAMES, Protocol
from animegen_cli.metrics.scores import METRICS, score_features
from animegen_cli.metrics.weights import find_inception
from animegen_cli.paths import Run
from animegen_cli.train.choices import pick_device
from animegen_cli.train.folder import machine_about, peak_memory

DEFAULT_METRICS = ("fd", "kid", "precision", "recall", "density", "coverage")
_CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `animegen eval` was asked for."""

    subject: str | None = None
    """A run, or a folder, zip or data set of images."""
    against: str | None = None
    """The reference: a set, a folder, or an .npz of mu and sigma; by default the run's own data set."""
    data: Path | None = None
    split: str = "train"
    metrics: Sequence[str] = ()
    extractor: str | None = None
    weights: Path | None = None
    n: int = 2048
    seeds: Sequence[int] | None = None
    precision: str = "fp32"
    device: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False


def evaluate(request: Request) -> dict[str, Any]:
    """Score a run (stored in its eval.json) or a folder; returns {"subject", "scores", "notes"}."""
    device = pick_device(request.device)
    extractor = _extractor(request, device)
    metrics = _metrics(request, extractor)
    subject = Path(request.subject) if request.subject else None
    if subject is not None and subject.exists() and not (subject / "run.json").is_file():
        return _evaluate_images(request, subject, extractor, metrics)
    return _evaluate_run(request, extractor, metrics, device)


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


def _metrics(request: Request, extractor: Extractor) -> list[str]:
    """Function names without network; `fid` and `fid-faces` are understood as `fd`."""
    if not request.metrics:
        return [*DEFAULT_METRICS, *(["is"] if extractor.name == "inception" else [])]
    bare = {public: metric for metric, public in INCEPTION_NAMES.items()}
    found = []
    for word in request.metrics:
        metric = word.removesuffix(f"-{extractor.name}")
        if metric == "fid" and extractor.name != "inception":
            raise UsageError(
                f"`fid` exists only on Inception; here it is `fd-{extractor.name}`", hint="type `--metrics fd`"
            )
        metric = bare.get(metric, metric)
        if metric not in (*METRICS, *heldout.METRICS):
            raise UsageError(f"no metric `{word}`", hint=did_you_mean(metric, (*METRICS, *heldout.METRICS)))
        found.append(metric)
    return found


# ---- a run ----------------------------------------------------------------------------------------------------


def _evaluate_run(request: Request, extractor: Extractor, metrics: list[str], device: torch.device) -> dict[str, Any]:
    run = paths.open_run(request.subject, able_to=("samples", "translates"))
    console.note(f"run: {run.path}")
    about = run.about
    reference = _reference(request, run)
    trained = generate.open_trained(run, device=device)
    how = generate.sampling(trained, request.overrides)
    source = (
        _Drawn(trained, how, request) if isinstance(trained.method, Samples) else _Translated(trained, request, run)
    )
    if not request.metrics:
        metrics = metrics + heldout.metrics_of(trained)
    size = trained.data.size
    of_features = [metric for metric in metrics if metric not in heldout.METRICS]
    real, identity, n_real = _real_features(reference, request.split, size, extractor) if of_features else (None, "", 0)
    said = {
        "reference_name": "" if reference is None else getattr(reference, "name", str(request.against)),
        "images": trained.images,
    }
    base = Protocol(
        metric="", extractor=extractor.name, extractor_sha=extractor.sha, resize=extractor.resize, reference=identity,
        reference_split=request.split, n_real=n_real, n_fake=len(source), size=size, precision=extractor.precision,
        seeds=source.seeds, sampling=source.sampling,
    )  # fmt: skip
    wanted = [_with(base, metric) for metric in of_features]
    own = [metric for metric in metrics if metric in heldout.METRICS]
    faces = _own_data(request, run) if own else None
    of_run = [heldout.protocol(metric, trained, faces, request.n) for metric in own] if faces else []
    stored = _read_scores(run)
    asked = [(p.id, trained.images, p.sampling, p.seeds) for p in (*wanted, *of_run)]
    known = {_key(score): score for score in stored}
    if not request.force and all(key in known for key in asked):
        console.note("already scored (`--force` measures again)")
        return {"subject": str(run.path), "scores": [known[key] for key in asked], "notes": []}
    entries: list[dict[str, Any]] = []
    notes: list[str] = []
    drawing = _read_drawing(run)
    if wanted:
        assert real is not None
        began = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with console.progress("drawing", len(source)) as bar:
            fake = torch.cat([extractor.features(drawn).cpu() for drawn in source.images(bar.advance)])
        drawing = {
            "seconds_per_100": round(100 * source.seconds / len(source), 4), "peak_memory": peak_memory(device),
            "images": trained.images, "sampling": source.sampling, "device": str(machine_about(device)["device"]),
        }  # fmt: skip
        entries, notes = _scores(real, fake, extractor, wanted, said, began)
    if faces is not None:
        entries += heldout.scores(trained, faces, of_run, said)
    kept = [score for score in stored if score["images"] == trained.images and _key(score) not in asked]
    paths.write_json(run.scores, {"scores": kept + entries, "drawing": drawing})
    if about.get("state") != "finished":
        notes.append(f"the run is {about.get('state')}: these are scores at {trained.images:,} images")
    return {"subject": str(run.path), "scores": entries, "notes": notes}


class _Drawn:
    """What a run draws from seeds."""

    def __init__(self, trained: Trained, how: Any, request: Request) -> None:
        self.trained, self.how, self.seconds = trained, how, 0.0
        self.numbers = list(request.seeds) if request.seeds is not None else list(range(request.n))
        self.seeds, self.sampling = _spell(self.numbers), generate.describe_sampling(how)

    def __len__(self) -> int:
        return len(self.numbers)

    def images(self, done: Callable[[int], None]) -> Iterator[Tensor]:
        for start in range(0, len(self.numbers), _CHUNK):
            began = time.perf_counter()
            drawn = generate.draw(self.trained, self.numbers[start : start + _CHUNK], how=self.how, done=done)
            self.seconds += time.perf_counter() - began
            yield drawn


class _Translated:
    """What a translator makes of its data set's held-out photos."""

    def __init__(self, trained: Trained, request: Request, run: Run) -> None:
        self.trained, self.faces, self.seconds = trained, _own_data(request, run), 0.0
        held_out = self.faces.indices("test", "photos")
        self.indices = (held_out if len(held_out) else self.faces.indices("train", "photos"))[: request.n]
        self.seeds, self.sampling = "", f"{'test' if len(held_out) else 'train'} photos translated"

    def __len__(self) -> int:
        return len(self.indices)

    def images(self, done: Callable[[int], None]) -> Iterator[Tensor]:
        for start in range(0, len(self), _CHUNK):
            pixels = self.faces.pixels(self.indices[start : start + _CHUNK], size=self.trained.data.size)
            began = time.perf_counter()
            translated = editing.translate(self.trained, torch.from_numpy(pixels).permute(0, 3, 1, 2), Edit())
            self.seconds += time.perf_counter() - began
            yield translated
            done(len(pixels))


def _key(score: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells one stored score from another."""
    return score["protocol_id"], score["images"], score["protocol"]["sampling"], score["protocol"]["seeds"]


def _read_scores(run: Run) -> list[dict[str, Any]]:
    """The stored scores, without those whose protocol is not the one they were measured with."""
    if not run.scores.is_file():
        return []
    scores = paths.read_json(run.scores, what="list of scores").get("scores")
    keys = {"protocol_id", "images", "protocol", "name", "value"}
    if not isinstance(scores, list) or any(not isinstance(s, dict) or not keys <= s.keys() for s in scores):
        raise DataError(f"{run.scores} is damaged", hint=f"delete it and type `animegen eval {run.path}` again")
    sound = [score for score in scores if _is_sound(score)]
    if len(sound) < len(scores):
        console.warn(f"{len(scores) - len(sound)} scores in {run.scores} do not fit their protocols and are left out")
    return sound


def _read_drawing(run: Run) -> dict[str, Any] | None:
    """What drawing cost when the run was last scored."""
    found = paths.read_json(run.scores, what="list of scores").get("drawing") if run.scores.is_file() else None
    return found if isinstance(found, dict) else None


def _is_sound(score: Mapping[str, Any]) -> bool:
    try:
        protocol = Protocol.from_dict(
            {key: value for key, value in score["protocol"].items() if key != "reference_name"}
        )
    except (AttributeError, DataError):
        return False
    return protocol.id == score["protocol_id"]


def _reference(request: Request, run: Run) -> FaceSet | Path:
    """What the run is scored against: `--against`, else its own data set."""
    return _own_data(request, run) if request.against is None else _open_reference(request.against)


def _own_data(request: Request, run: Run) -> FaceSet:
    """The data set that the run was trained on."""
    about = run.about["data"]
    path = request.data or Path(about["path"])
    if not path.exists():
        raise DataError(
            f"the run's data set {path} is gone", hint="say where it is with `--data`, or score `--against` another"
        )
    faces = FaceSet.open(path)
    if faces.identity != about["identity"]:
        raise DataError(
            f"{path} does not hold the pictures that the run was trained on",
            hint="name the right file with `--data`, or score `--against` this one",
        )
    return faces


def _open_reference(spec: str) -> FaceSet | Path:
    path = Path(spec)
    if not path.exists():
        raise DataError(
            f"no reference `{spec}`",
            hint=paths.similar(path) or "name a data set, a folder of images, or an .npz of mu and sigma",
        )
    return path if path.suffix == ".npz" else FaceSet.open(path)


# ---- a folder -------------------------------------------------------------------------------------------------


def _evaluate_images(request: Request, subject: Path, extractor: Extractor, metrics: list[str]) -> dict[str, Any]:
    if request.against is None:
        raise UsageError(
            f"`{subject}` is a folder of images: it needs a reference",
            hint=f"type `animegen eval {subject} --against faces.zip`",
        )
    images = open_images(subject)
    if not images.square:
        require_size(images, images.size)
    reference = _open_reference(request.against)
    began = time.perf_counter()
    split = request.split if isinstance(reference, FaceSet) and len(reference.indices("test")) else "all"
    real, identity, n_real = _real_features(reference, split, images.size, extractor)
    fake, _ = set_features(images, "all", images.size, extractor)
    base = Protocol(
        metric="", extractor=extractor.name, extractor_sha=extractor.sha, resize=extractor.resize, reference=identity,
        reference_split=split, n_real=n_real, n_fake=len(fake), size=images.size, precision=extractor.precision,
    )  # fmt: skip
    wanted = [_with(base, metric) for metric in metrics]
    entries, notes = _scores(
        real, fake, extractor, wanted, {"reference_name": Path(request.against).name, "images": None}, began
    )
    return {"subject": str(subject), "scores": entries, "notes": notes}


# ---- parts ----------------------------------------------------------------------------------------------------


def _with(base: Protocol, metric: str) -> Protocol:
    return Protocol(**{**base.__dict__, "metric": metric})


def _scores(
    real: Tensor | Moments,
    fake: Tensor,
    extractor: Extractor,
    wanted: Sequence[Protocol],
    said: Mapping[str, Any],
    began: float,
) -> tuple[list[dict[str, Any]], list[str]]:
    metrics = [protocol.metric for protocol in wanted]
    logits = extractor.logits(fake).cpu() if "is" in metrics else None
    found = score_features(real, fake, metrics, logits=logits)
    seconds = round(time.perf_counter() - began, 2)
    entries, notes = [], []
    for protocol, score in zip(wanted, found, strict=True):
        entries.append(
            {
                "name": protocol.name, "value": score.value, "std": score.std,
                "interval": list(score.interval) if score.interval else None,
                "protocol": protocol.to_dict() | {"reference_name": said["reference_name"]}, "protocol_id": protocol.id,
                "images": said["images"], "seconds": seconds,
            }
        )  # fmt: skip
        notes += [note for note in score.notes if note not in notes]
    return entries, notes


def _real_features(
    reference: FaceSet | Path, split: str, size: int, extractor: Extractor
) -> tuple[Tensor | Moments, str, int]:
    """Features (or moments), identity and count of the reference."""
    if isinstance(reference, Path):
        found = load_moments(reference)
        return found, hashlib.sha256(reference.read_bytes()).hexdigest(), found.count or 0
    if reference.size > size or reference.size == size:
        features, identity = set_features(reference, split, size, extractor)
        return features, identity, len(features)
    raise DataError(
        f"the reference has {reference.size}-pixel images, the others {size}",
        hint="score against a set of at least that size",
    )


def set_features(faces: FaceSet, split: str, size: int, extractor: Extractor) -> tuple[Tensor, str]:
    """Features (n, D) of one split, cached by content (pixels, network, resize, precision); and its identity."""
    identity = faces.split_identity(split, size)
    key = "\0".join((identity, extractor.sha, extractor.resize, extractor.precision, extractor.device.type))
    file = paths.cache() / "features" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"
    try:
        return load_file(file)["features"], identity
    except (OSError, SafetensorError, KeyError):
        pass  # not there, or not whole: make it again
    indices = faces.indices(split)
    if not len(indices):
        raise DataError(
            f"{faces.path} has no images in its {split} split", hint="choose another with `--split train|test|all`"
        )
    pieces = []
    with console.progress("reference", len(indices)) as bar:
        for start in range(0, len(indices), _CHUNK):
            pixels = torch.from_numpy(faces.pixels(indices[start : start + _CHUNK], size=size)).permute(0, 3, 1, 2)
            pieces.append(extractor.features(pixels).cpu())
            bar.advance(len(pixels))
    features = torch.cat(pieces)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        save_file({"features": features}, temporary)
        temporary.replace(file)
    except (OSError, SafetensorError) as error:
        console.warn(f"the features of the reference could not be cached: {error}")
    return features, identity


def _spell(seeds: Sequence[int]) -> str:
    """0, 1, 2, 5 -> "0-2,5"."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][1] + 1:
            parts[-1][1] = seed
        else:
            parts.append([seed, seed])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


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
