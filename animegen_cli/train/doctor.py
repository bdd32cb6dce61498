"""The doctor of a training run: names failures while there is still a healthy state to go back to.

What a family knows of its own failures it says itself (`Diagnoses`); what pictures show is seen here, for all.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from animegen_cli.model.family import Diagnoses, Family, Finding
from animegen_cli.report.looks import LEAST_CONTRAST, LEAST_DISTANCE, NOISE, contrast, roughness, thumbnail_distance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

SETTLED = 0.1
"""Pictures are judged after this share of the training: before it, every network draws one gray face."""
NOISE_AFTER = 20_000
"""Images seen before which a network that draws noise may simply be young."""


class Doctor:
    """Remembers what is wrong with a run, and since when."""

    def __init__(self, known: Sequence[Mapping[str, Any]] = ()) -> None:
        """Begin healthy, or with the findings that `to_list` stored in a state."""
        self.of_figures = tuple(_finding(entry) for entry in known if entry["by"] == "figures")
        self.of_pictures = tuple(_finding(entry) for entry in known if entry["by"] == "pictures")
        self.since: dict[str, int] = {str(entry["name"]): int(entry["since"]) for entry in known}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that is wrong now; nothing when the run is healthy."""
        return self.of_figures + self.of_pictures

    def read(self, model: Family, figures: Mapping[str, float], images: int) -> list[Finding]:
        """Look at the mean losses of the last log interval; returns what was not wrong before.

        Args:
            model: asked for its own failures where its family `Diagnoses`.
            figures: `<phase>/<loss>` -> mean.
            images: images seen by now.
        """
        if isinstance(model, Diagnoses):
            self.of_figures = tuple(model.diagnose(figures))
        return self._new(images)

    def look(self, drawn: np.ndarray, reals: np.ndarray, *, progress: float, images: int, flag: str) -> list[Finding]:
        """Look at drawn images beside real ones; returns what was not wrong before.

        Args:
            drawn: uint8 (n, H, W, 3).
            reals: uint8 (m, H, W, 3), training images.
            progress: share of the training that is done, in [0, 1].
            images: images seen by now.
            flag: what to type, since pictures do not show whose fault it is.
        """
        self.of_pictures = ()
        if progress >= SETTLED:
            self.of_pictures = tuple(_seen(drawn, reals, flag))
        if not self.of_pictures and progress >= 0.5 and images >= NOISE_AFTER:
            self.of_pictures = tuple(_noise(drawn, reals, flag))
        return self._new(images)

    def _new(self, images: int) -> list[Finding]:
        names = {finding.name for finding in self.findings}
        fresh = [finding for finding in self.findings if finding.name not in self.since]
        self.since = {name: since for name, since in self.since.items() if name in names}
        self.since |= {finding.name: images for finding in fresh}
        return fresh

    def to_list(self) -> list[dict[str, Any]]:
        """Return the findings as plain values for run.json and states, each with the images seen when it began."""
        found = [("figures", finding) for finding in self.of_figures]
        found += [("pictures", finding) for finding in self.of_pictures]
        return [{**asdict(finding), "by": by, "since": self.since[finding.name]} for by, finding in found]


def _finding(entry: Mapping[str, Any]) -> Finding:
    return Finding(str(entry["name"]), str(entry["says"]), str(entry["flag"]))


def _seen(drawn: np.ndarray, reals: np.ndarray, flag: str) -> list[Finding]:
    if (inside := contrast(drawn)) < LEAST_CONTRAST:
        return [Finding("blank images", f"the pictures vary by {inside:.1f} gray levels inside", flag)]
    if min(len(drawn), len(reals)) > 1:
        share = thumbnail_distance(drawn) / max(thumbnail_distance(reals), 1e-9)
        if share < LEAST_DISTANCE:
            return [Finding("mode collapse", f"drawn images differ by {share:.0%} of what real ones do", flag)]
    return []


def _noise(drawn: np.ndarray, reals: np.ndarray, flag: str) -> list[Finding]:
    ours, of_reals = roughness(drawn), roughness(reals)
    if ours < NOISE or ours < 2 * of_reals:
        return []
    says = f"neighboring pixels differ by {ours:.0%} of what they do in white noise, of real images by {of_reals:.0%}"
    return [Finding("noise instead of pictures", says, flag)]
