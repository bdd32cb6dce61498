"""What a number was measured with: two scores are comparable when their protocols' ids are equal."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, NamedTuple, get_args

from animegen_cli.errors import DataError, UsageError, did_you_mean

Precision = Literal["fp32", "tf32", "bf16"]
"""Arithmetic of a feature network."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ENOUGH = 2048
"""Below this many images on either side, scores carry a warning."""
INCEPTION_NAMES = {"fd": "fid", "fd-infinity": "fid-infinity", "kid": "kid", "is": "is"}
"""Bare names, which only Inception's features may bear."""
KID75_RESIZE = "bilinear-75"
"""How images reach Inception for the one `kid75` without a second name."""
LOWER = frozenset({
    "fd", "fid", "kid", "kid75", "mse", "bpd",
    "hair", "eyes", "brightness", "attribute",  # distances between two distributions of what is seen
    "duplicates", "copies",
})  # fmt: skip
"""Metrics, by the first word of a score's name, of which a lower value is better."""
HIGHER = frozenset({
    "is", "precision", "recall", "density", "coverage", "psnr", "ssim", "diversity", "requests", "accuracy", "denoise",
})  # fmt: skip
"""Metrics of which a higher value is better."""
_LIMITS = {
    **dict.fromkeys(("fd", "density", "diversity", "brightness", "mse", "psnr"), (0.0, math.inf)), "is": (1.0, math.inf),
    **dict.fromkeys(
        ("precision", "recall", "coverage", "hair-color", "eyes-color", "attribute", "requests", "duplicates", "copies",
         "copies-hash"),
        (0.0, 1.0),
    ),
}  # fmt: skip
AROUND_ZERO = frozenset({"kid", "kid75", "fd-infinity"})
"""Metrics without bias: sets that are alike score around 0, on either side of it."""
IF_ALIKE = "0 if alike"
"""What stands beside the interval of a score of these."""
RENAMED = {"hair-colour": "hair-color", "eyes-colour": "eyes-color"}
"""What metrics were once called, as command lines, studies and eval.json may still say -> what they are called now."""
_RENAMED_HISTOGRAMS = {"hair colour": "hair color", "eye colour": "eye color"}
NOT_COMPARED = ("seeds", "sampling")
"""What was measured rather than how: a table may put two samplers or two sets of seeds side by side."""
_MOST = 2**53  # images that are believed


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How one score was measured; stored with it."""

    metric: str
    """`fd`, `kid`, `precision`, ...: the function, without the network."""
    extractor: str
    """`inception`, `squeezenet`, `faces`, ...; empty for scores that compare pixels or are likelihoods."""
    extractor_sha: str
    """sha256 of the network's weights file."""
    resize: str
    """How images reach the network's size: `clean-299`."""
    reference: str
    """Identity of the reference set: the hash of its pixels or of its statistics file."""
    reference_split: str
    """`train`, `test` or `all`."""
    n_real: int
    """Number of real images; 0 where none take part."""
    n_fake: int
    """Number of drawn images."""
    size: int
    """Side of the square images before the resize, in pixels."""
    precision: str
    """Arithmetic of the network: `fp32`, `tf32` or `bf16`."""
    seeds: str = ""
    """Of the fakes: `0-49999`."""
    sampling: str = ""
    """How the fakes were drawn: `ddim, 50 steps, eta 0`."""

    @property
    def id(self) -> str:
        """Twelve hex digits, equal exactly where two scores may stand in one column."""
        shared = {key: value for key, value in asdict(self).items() if key not in NOT_COMPARED}
        text = json.dumps(shared, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """The score's name: `fid`, `kid-faces`, ..."""
        return metric_name(self.metric, self.extractor, self.resize)

    def differences(self, other: Protocol) -> dict[str, tuple[str | int, str | int]]:
        """Fields in which the two differ, with both values, so that they cannot stand in one column."""
        mine, theirs = asdict(self), asdict(other)
        return {key: (mine[key], theirs[key]) for key in mine if key not in NOT_COMPARED and mine[key] != theirs[key]}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the id."""
        return {**asdict(self), "id": self.id}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """The protocol that `to_dict` wrote.

        Raises:
            DataError: keys are missing or unknown, or values were changed since.
        """
        known = {field.name for field in fields(cls)}
        for field in fields(cls):
            value = values.get(field.name)
            wrong = type(value).__name__ != field.type or (isinstance(value, int) and abs(value) > _MOST)
            if field.name in values and wrong:
                raise DataError(
                    f"a score's protocol cannot be trusted: `{field.name}` is {str(value)[:40]!r}", hint="score again"
                )
        try:
            found = cls(**{key: value for key, value in values.items() if key in known})
        except TypeError as problem:
            raise DataError(f"a score's protocol is incomplete: {problem}", hint="score again") from problem
        unknown = set(values) - known - {"id"}
        if unknown or values.get("id", found.id) != found.id:
            which = f"unknown keys {sorted(unknown)}" if unknown else "its id does not fit its fields"
            raise DataError(f"a score's protocol cannot be trusted: {which}", hint="score again")
        return found


class Denoising(NamedTuple):
    """One score of noise taken away; its name holds all that sets it apart from the others."""

    measure: str
    """`psnr` or `ssim`."""
    deviation: float
    """Of the noise that was added, in units of [-1, 1]."""
    levels: int | None = None
    """How many of a hierarchy's top levels came from the noisy picture; all when None."""

    @property
    def metric(self) -> str:
        """The score's name: `denoise-psnr-0.2`, `denoise-psnr-0.2-top-4`."""
        return f"denoise-{self.measure}-{self.deviation:g}" + (f"-top-{self.levels}" if self.levels else "")

    @classmethod
    def parse(cls, metric: str) -> Denoising | None:
        """Read a name that `metric` gave; None for another score's."""
        word, *rest = metric.split("-")
        if word != "denoise" or len(rest) not in (2, 4):
            return None
        try:
            return cls(rest[0], float(rest[1]), int(rest[3]) if rest[2:] else None)
        except ValueError:
            return None


def with_current_names(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The content of an eval.json with metrics and histograms under today's names (see `RENAMED`).

    A score so renamed has today's id, so that it shares a column with new scores and need not be measured again.
    Scores that do not fit their protocols stay as they are.
    """
    found = dict(stored)
    if isinstance(scores := found.get("scores"), list):
        found["scores"] = [_renamed_score(score) for score in scores]
    if isinstance(histograms := found.get("histograms"), list):
        found["histograms"] = [_renamed_histogram(histogram) for histogram in histograms]
    return found


def _renamed_score(score: object) -> object:
    protocol = score.get("protocol") if isinstance(score, Mapping) else None
    if not isinstance(score, Mapping) or not isinstance(protocol, Mapping):
        return score
    metric = RENAMED.get(str(protocol.get("metric")))
    if metric is None:
        return score
    try:
        old = Protocol.from_dict({key: value for key, value in protocol.items() if key != "reference_name"})
    except DataError:
        return score
    if score.get("protocol_id") != old.id or score.get("name") != old.name:
        return score
    new = replace(old, metric=metric)
    return {**score, "name": new.name, "protocol": {**protocol, **new.to_dict()}, "protocol_id": new.id}


def _renamed_histogram(histogram: object) -> object:
    if not isinstance(histogram, Mapping) or histogram.get("by") != "pixels":
        return histogram
    name = histogram.get("name")
    return {**histogram, "name": _RENAMED_HISTOGRAMS.get(str(name), name)}


def parse_precision(word: str) -> Precision:
    """The arithmetic that a word names; UsageError where it names none."""
    for precision in PRECISIONS:
        if word == precision:
            return precision
    raise UsageError(f"no precision `{word}`", hint=f"use {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}")


def check_words(words: Sequence[str]) -> None:
    """UsageError, with a suggestion, for a name of a score that no metric could have."""
    known = sorted(LOWER | HIGHER)
    for word in words:
        if word.split("-")[0] not in known:
            raise UsageError(f"no metric `{word}`", hint=did_you_mean(word, known))


def better(name: str) -> Literal["lower", "higher"] | None:
    """Which direction is good for a score of this name; None for a metric that is not known, which is never ranked."""
    base = name.split("-")[0]
    return "lower" if base in LOWER else "higher" if base in HIGHER else None


def limits(metric: str) -> tuple[float, float]:
    """The smallest and the largest value that the metric can have; infinite where there is none or it is not known."""
    return _LIMITS.get(metric, (-math.inf, math.inf))


def metric_name(metric: str, extractor: str, resize: str = "clean") -> str:
    """The public name of a score.

    `fid`, `kid` and `is` exist only on Inception behind the clean resize; behind a legacy one they are
    `fid-legacy_pytorch`, ...; `kid75` only on Inception at 75 pixels; everything else names its network: `fd-faces`,
    `precision-inception`, ...; what stands on no network has no second name: `mse`, `bpd-elbo`.
    """
    mode = resize.split("-", 1)[0]
    if not extractor:
        return metric
    if metric == "kid75" and (extractor, resize) == ("inception", KID75_RESIZE):
        return metric
    if extractor == "inception":
        bare = INCEPTION_NAMES.get(metric)
        parts = [bare] if bare else [metric, extractor]
        return "-".join(parts if mode == "clean" else [*parts, mode])
    if metric == "is":
        raise UsageError(
            f"the Inception score needs Inception, not `{extractor}`",
            hint="leave `is` out, or type `animegen weights` and score with Inception",
        )
    return f"{metric}-{extractor}"
