"""What `animegen eval` is asked for, and whether its words exist. Light: nothing here loads networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from animegen_cli import paths
from animegen_cli.errors import UsageError
from animegen_cli.metrics import protocol

BACKENDS = ("animegen", "clean-fid")
"""Whose code scores: ours alone, or clean-fid's beside it."""


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
    backend: str = "animegen"
    """`clean-fid` scores the same images with clean-fid's own code too, and both numbers are returned."""
    force: bool = False
    """Measure again what is already scored."""

    def check(self) -> None:
        """UsageError for a split, a precision or a metric that does not exist, DataError for a run that does not."""
        if self.split not in ("train", "test", "all"):
            raise UsageError(f"there is no split `{self.split}`", hint="choose train, test or all")
        if self.backend not in BACKENDS:
            raise UsageError(f"no backend `{self.backend}`", hint=f"choose {' or '.join(BACKENDS)}")
        protocol.parse_precision(self.precision)
        protocol.check_words(self.metrics)
        if self.subject is not None and not Path(self.subject).exists():
            paths.open_run(self.subject)
