"""What judges of images are asked, and what they answer: scores and other findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.metrics import protocol
    from animegen_cli.metrics.scores import Score

P = TypeVar("P", contravariant=True)


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
