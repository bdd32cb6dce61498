"""What `animegen translate` was asked for, and whether its words fit together. Light: nothing here loads networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from animegen_cli import paths
from animegen_cli.errors import DataError, UsageError
from animegen_cli.paths import Run
from animegen_cli.sample.request import check_fit, check_precision

_FILMS = frozenset((".mp4", ".m4v", ".mkv", ".webm", ".mov", ".avi"))


@dataclass(frozen=True, kw_only=True)
class Request:
    """A run, pictures, and what is to become of them; the names are those of the command's options."""

    path: Path
    """A picture, a folder of them, or an archive."""
    run: str | None = None
    """Folder, name or number; None is the newest run that translates."""
    out: Path | None = None
    """Folder; None is `<run>/translated`."""
    edits: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Edit` that were typed."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the run's section `sample:`, from options of their own and from `--set`."""
    fit: str | None = None
    size: int | None = None
    """Pixels of the shorter side, where any size will do."""
    seed: int = 0
    """Of every picture's noise."""
    grid: bool = False
    batch: int | None = None
    precision: str = "auto"
    device: str | None = None

    def check(self) -> None:
        """UsageError for words that do not exist or that no run can follow, DataError where there is no such path or run."""
        check_precision(self.precision)
        check_fit(self.fit)
        if not self.path.exists():
            raise DataError(f"there is no {self.path}", hint=paths.similar(self.path) or "check the path")
        if self.path.suffix.lower() in _FILMS:
            parts = f"ffmpeg -i {self.path} frames/%06d.png"
            raise UsageError(f"{self.path} is a film", hint=f"take it apart with `{parts}`, then translate `frames`")
        if Run(self.path).exists:
            raise UsageError(f"{self.path} is a run, not pictures", hint="name a picture or a folder after it")
        if self.run is not None:
            paths.open_run(self.run)
        else:
            paths.require_runs("translates")
