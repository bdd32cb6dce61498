"""Train a run again from its own manifest, score it as it was scored, and say whether the two agree."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from animegen_cli import console, paths
from animegen_cli.config import Layer
from animegen_cli.data.dataset import FaceSet
from animegen_cli.device import machine_about, pick_device
from animegen_cli.errors import DataError, UsageError
from animegen_cli.evaluate import evaluate
from animegen_cli.evaluate.features import in_run_scores
from animegen_cli.evaluate.request import Request
from animegen_cli.metrics.significance import Z_95
from animegen_cli.model import checkpoint
from animegen_cli.paths import Run
from animegen_cli.report import records
from animegen_cli.report.records import Record, Score
from animegen_cli.seeds import parse_seeds
from animegen_cli.train import train
from animegen_cli.train.request import Request as TrainRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

KNOWN = ("inception", "faces")
"""Networks that need no file of the user's."""


class Pair(NamedTuple):
    """One score of the first run and of its repetition."""

    name: str
    first: Score
    again: Score

    @property
    def allowed(self) -> float | None:
        """The largest difference that the two uncertainties explain; None where neither has one."""
        errors = [_error(self.first), _error(self.again)]
        known = [error for error in errors if error is not None]
        return Z_95 * math.hypot(*known) if known else None

    @property
    def agrees(self) -> bool:
        """Whether the difference is within what chance explains; equal where no uncertainty is known."""
        return abs(self.again.value - self.first.value) <= (self.allowed or 0.0)


@dataclass(frozen=True)
class Reproduction:
    """A run and its repetition, and how they compare.

    `same` is whether the weights are equal bit for bit; `changed` says what is different about the machine and the
    libraries.
    """

    first: Run
    again: Run
    pairs: tuple[Pair, ...]
    same: bool
    changed: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether every score agrees; without scores, whether the weights are equal."""
        return all(pair.agrees for pair in self.pairs) if self.pairs else self.same


def reproduce(
    spec: str | None, *, data: Path | None = None, out: Path | None = None, device: str | None = None
) -> Reproduction:
    """Train a run again, score it alike and compare the two; the same call goes on after a stop.

    Args:
        spec: path, name or number of a finished run; None for the newest.
        data: where the run's data set lies now; by default where it lay.
        out: folder of the repetition; by default `<run>-again`.
        device: `cpu`, `cuda` and so on; by default the best one here.

    Raises:
        DataError: the run has no config or was never finished, or its data set is gone or holds other pictures.
        UsageError: `out` is the run itself.
    """
    first = paths.open_run(spec, able_to=("samples", "translates"))
    console.note(f"reproducing {first.path}")
    about = first.about
    _check(first)
    faces = _data(first, about, data)
    again = Run(out or first.path.with_name(f"{first.name}-again"))
    if again.path.resolve() == first.path.resolve():
        raise UsageError(f"{first.path} cannot be reproduced into itself", hint="name another folder with `--out`")
    changed = tuple(_changed(about, device))
    for line in changed:
        console.note(f"not as it was: {line}")
    if not again.finished:
        # To the images that the run has seen, which its config's duration may not say (it may have been extended).
        flags = [Layer.from_flag("--duration", "train.duration", f"{about['images']} images")]
        request = TrainRequest(data=faces.path, device=device, configs=[first.config], flags=flags, out=again.path)
        if again.exists:
            request = replace(request, configs=[again.config], flags=(), out=None, resume=str(again.path))
        train.train(request, score=in_run_scores)
    record = records.read(first)
    for scoring in _requests(record):
        evaluate.evaluate(replace(scoring, subject=str(again.path), data=faces.path, device=device))
    scored = {_key(score): score for score in records.read(again).scores}
    pairs = [Pair(score.name, score, scored[_key(score)]) for score in record.scores if _key(score) in scored]
    left = len(record.scores) - len(pairs)
    if left:
        console.note(
            f"{left} scores were measured in a way that is not repeated here (other samplers, networks from files)"
        )
    return Reproduction(first, again, tuple(pairs), _same_weights(first, again), changed)


def _key(score: Score) -> tuple[Any, ...]:
    """Equal for a score and its repetition: protocol, what drew the images, from which seeds."""
    return score.name, score.protocol_id, score.images, score.protocol.get("sampling"), score.protocol.get("seeds")


def _requests(record: Record) -> list[Request]:
    """What `animegen eval` was asked for when the run was scored: a request per reference split, network and seeds."""
    found: dict[tuple[Any, ...], list[str]] = {}
    for score in record.scores:
        p = score.protocol
        if p["extractor"] in KNOWN and score.images == record.images:
            resize = str(p["resize"]).split("-", 1)[0]
            network = str(p["extractor"]) + (f":{resize}" if resize.startswith("legacy") else "")
            way = (network, p["reference_split"], p["seeds"], p["n_fake"], p["precision"])
            found.setdefault(way, []).append(str(p["metric"]))
    requests = []
    for (network, split, spelled, n, precision), metrics in found.items():
        ranges = spelled.split("; ")
        exact = parse_seeds(spelled) if len(ranges) == 1 and spelled else None
        requests.append(
            Request(
                extractor=network,
                split=split,
                n=n,
                repeats=len(ranges),
                seeds=exact,
                precision=precision,
                metrics=metrics,
            )
        )
    own = [str(score.protocol["metric"]) for score in record.scores if not score.protocol["extractor"]]
    words = list(dict.fromkeys("bpd" if word.startswith("bpd-") else word for word in own))
    if requests:
        requests[0] = replace(requests[0], metrics=[*requests[0].metrics, *words])
    return requests


def _error(score: Score) -> float | None:
    """Standard error of a score; for a bare interval, a quarter of its width."""
    if score.std is not None:
        return score.std
    return None if score.interval is None else (score.interval[1] - score.interval[0]) / (2 * Z_95)


def _check(run: Run) -> None:
    if not run.finished:
        raise DataError(
            f"{run.name} is {run.state}: only a finished run can be reproduced",
            hint=f"let it end with `animegen train --resume {run.path}`",
        )
    if not run.config.is_file():
        raise DataError(f"{run.path} has no config.yaml, so nobody knows how it was trained", hint="restore that file")
    if Layer.from_yaml(run.config).edited:
        raise DataError(
            f"{run.config} was edited since {run.name} was trained, so nobody knows how",
            hint="take the changes back; the newest folder in `resume/` has the settings in its state.json",
        )


def _data(run: Run, about: Mapping[str, Any], data: Path | None) -> FaceSet:
    recorded = about["data"]
    path = data or Path(recorded["path"])
    if not path.exists():
        raise DataError(f"the data set {path} of {run.name} is gone", hint="say where it is with `--data`")
    faces = FaceSet.open(path)
    if faces.identity != recorded["identity"]:
        raise DataError(
            f"{path} does not hold the pictures that {run.name} was trained on "
            f"(identity {faces.identity[:12]}, not {str(recorded['identity'])[:12]})",
            hint="prepare the set again from the same pictures, or name the right file with `--data`",
        )
    return faces


def _changed(about: Mapping[str, Any], device: str | None) -> list[str]:
    """What is different about the machine and the libraries, one line each."""
    now = machine_about(pick_device(device))
    then = {**(about.get("versions") or {}), "device": about.get("device"), **(about.get("hardware") or {})}
    here = {
        **now["versions"],
        **paths.package_version(str(about.get("family"))),
        "device": now["device"],
        **now["hardware"],
    }
    return [f"{key} {then[key]} -> {here.get(key)}" for key in then if then[key] != here.get(key)]


def _same_weights(first: Run, again: Run) -> bool:
    tensors, others = (checkpoint.load_weights(run.weights)[0] for run in (first, again))
    return tensors.keys() == others.keys() and all(bool((tensors[name] == others[name]).all()) for name in tensors)


def as_json(reproduction: Reproduction) -> dict[str, Any]:
    """Give the run, its repetition and the scores of both as plain values."""
    return {
        "run": str(reproduction.first.path),
        "again": str(reproduction.again.path),
        "agrees": reproduction.agrees,
        "same_weights": reproduction.same,
        "changed": list(reproduction.changed),
        "scores": [
            {
                "name": pair.name,
                "first": pair.first.value,
                "again": pair.again.value,
                "allowed": pair.allowed,
                "agrees": pair.agrees,
                "protocol_id": pair.first.protocol_id,
            }
            for pair in reproduction.pairs
        ],
    }
