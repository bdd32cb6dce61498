"""What a judge of a run is asked and answers: a request, metrics by name, and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from animegen_cli.metrics import protocol

P = TypeVar("P", contravariant=True)


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
    attributes: str | None = None
    """A classifier run, whose eye is lent to the judges of attributes."""
    per_value: int = 32
    """Images that a run with labels is asked for, per value of each attribute: the first of its seeds."""
    weights: Path | None = None
    n: int = 2048
    """Images of each range of seeds."""
    repeats: int = 3
    """Ranges: seeds 0..n-1, n..2n-1, ..."""
    seeds: Sequence[int] | None = None
    """Exactly these, as the one range, instead."""
    precision: str = "fp32"
    device: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    where_possible: bool = False
    """Leave out metrics that the run's family cannot have, instead of refusing them."""
    force: bool = False


@dataclass
class Verdict:
    """What one judge found, in the form of eval.json; `sheets` maps a name to a picture inside the run folder."""

    scores: list[dict[str, Any]] = field(default_factory=list)
    histograms: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    sheets: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Warnings for the one who asked; not stored."""


class Judge(Protocol[P]):
    """A module (or object) that looks at a run in one way; one that looks at `ImageSet` looks at folders too."""

    @property
    def METRICS(self) -> Sequence[str]:
        """The words of `--metrics` that it understands."""

    def asked(self, subject: P, words: Sequence[str] | None) -> list[protocol.Protocol]:
        """How each score would be measured, without measuring: those that `words` (out of METRICS) ask for, or, for
        None, what is measured unasked. UsageError where the run lacks what a word takes."""
        ...

    def judge(self, subject: P, wanted: Sequence[protocol.Protocol]) -> Verdict:
        """The scores of `wanted` (never empty), and what else was seen on the way."""
        ...


def entry(
    measured: protocol.Protocol,
    value: float,
    *,
    images: int | None,
    reference_name: str,
    seconds: float,
    std: float | None = None,
    interval: tuple[float, float] | None = None,
    values: Sequence[float] = (),
    spread: float | None = None,
) -> dict[str, Any]:
    """One score as eval.json holds it; `images` is what the run had seen in training, `values` those of the ranges of
    seeds, `spread` the deviation between subsets where the metric has some."""
    found = {
        "name": measured.name, "value": value, "std": std, "interval": list(interval) if interval else None,
        "protocol": measured.to_dict() | {"reference_name": reference_name}, "protocol_id": measured.id,
        "images": images, "seconds": round(seconds, 2),
    }  # fmt: skip
    if len(values) > 1:
        found["values"] = list(values)
    return found if spread is None else found | {"spread": spread}
