"""What `animegen eval` is asked, what it asks of its judges, and what they answer: scores and other findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from animegen_cli.metrics import protocol

if TYPE_CHECKING:
    from animegen_cli.metrics.scores import Score

P = TypeVar("P", contravariant=True)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `animegen eval` is asked for."""

    subject: str | None = None
    """A run, or a folder, zip or data set of images; by default the newest run."""
    against: str | None = None
    """The reference: a set, a folder, or an .npz of mu and sigma; by default the run's own data set."""
    data: Path | None = None
    """Where the run's own data set lies now; by default where it was in training."""
    split: str = "train"
    """Part of the reference: `train`, `test` or `all`."""
    metrics: Sequence[str] = ()
    """Metrics by name; all that the subject allows when there are none."""
    extractor: str | None = None
    """The feature network, see `classifier.open_extractor`; Inception where its weights are, else `faces`."""
    attributes: str | None = None
    """A classifier run, which names the attributes of drawn images."""
    per_value: int = 32
    """Images that a run with labels is asked for, per value of each attribute: the first of its seeds."""
    weights: Path | None = None
    """Inception's file, or the folder that holds it."""
    n: int = 2048
    """Images of each range of seeds."""
    repeats: int = 3
    """Ranges: seeds 0..n-1, n..2n-1, ..."""
    seeds: Sequence[int] | None = None
    """Exactly these, as the one range, instead."""
    precision: str = "fp32"
    """Arithmetic of the feature network: `fp32`, `tf32` or `bf16`."""
    device: str | None = None
    """`cpu`, `cuda`, ...; the fastest one by default."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the run's `sample` section that are drawn with instead of its own."""
    where_possible: bool = False
    """Leave out metrics that the run's family cannot have, instead of refusing them."""
    force: bool = False
    """Measure again what is already scored."""

    def check(self) -> None:
        """UsageError for a precision or a metric that does not exist; nothing is loaded for that."""
        protocol.parse_precision(self.precision)
        protocol.check_words(self.metrics)


@dataclass
class JudgeResult:
    """What one judge found, in the form of eval.json; `sheets` maps a name to a picture inside the run folder."""

    scores: list[dict[str, Any]] = field(default_factory=list)
    histograms: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    sheets: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Warnings for the person at the command line; not stored."""

    def add(
        self,
        measured: protocol.Protocol,
        score: Score,
        *,
        images: int | None,
        reference_name: str,
        seconds: float,
    ) -> None:
        """Record a score, and its notes once each; the arguments are those of `score_record`."""
        record = score_record(measured, score, images=images, reference_name=reference_name, seconds=seconds)
        self.scores.append(record)
        self.notes += [note for note in score.notes if note not in self.notes]


def score_record(
    measured: protocol.Protocol, score: Score, *, images: int | None, reference_name: str, seconds: float
) -> dict[str, Any]:
    """A score as eval.json holds it.

    Args:
        measured: how it was measured; it names the score.
        score: the value with its error and interval; `values` of one range of seeds are left out, as `value` says it.
        images: how many images the run had seen in training; None for a folder.
        reference_name: the reference in words, for people: it is no part of the protocol's id.
        seconds: what measuring took.
    """
    record = {
        "name": measured.name, "value": score.value, "std": score.std,
        "interval": list(score.interval) if score.interval else None,
        "protocol": measured.to_dict() | {"reference_name": reference_name}, "protocol_id": measured.id,
        "images": images, "seconds": round(seconds, 2),
    }  # fmt: skip
    if len(score.values) > 1:
        record["values"] = list(score.values)
    if score.spread is not None:
        record["spread"] = score.spread
    return record


class Judge(Protocol[P]):
    """Looks at a run in one way; one that looks at an `ImageSet` looks at folders too."""

    @property
    def metrics(self) -> Sequence[str]:
        """The words of `--metrics` that it understands."""
        ...

    def protocols(self, subject: P, words: Sequence[str] | None) -> list[protocol.Protocol]:
        """How each score would be measured, without measuring anything.

        Args:
            subject: the run or the images.
            words: some of `metrics`; None for all that is measured when no metric is named.

        Raises:
            UsageError: the subject lacks what a word takes.
        """
        ...

    def judge(self, subject: P, protocols: Sequence[protocol.Protocol]) -> JudgeResult:
        """The scores of `protocols` (never empty), in their order, and what else was found on the way."""
        ...
