"""The doctor of a training run: names failures while there is still a healthy state to go back to.

What a family knows of its own failures it says itself (`Diagnoses`); what pictures show is seen here, for all.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from animegen_cli.model.family import Diagnoses, Family, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SETTLED = 0.1
"""Pictures are judged after this share of the training: before it, every network draws one gray face."""
LEAST_DISTANCE = 0.2
"""Drawn images whose `thumbnail_distance` is under this share of the real ones' are one image with variations. A blurred
but healthy VAE has 0.4 to 0.7."""
LEAST_CONTRAST = 6.0
"""Standard deviation inside an image, in gray levels, under which it shows nothing."""
NOISE = 0.8
"""`roughness` from which pictures are noise, when it is twice that of real ones too; of faces at 32 pixels it is about 0.2."""
NOISE_AFTER = 20_000
"""Images seen before which a network that draws noise may simply be young."""
THUMBNAIL = 8
"""Height and width of the thumbnails that are compared."""


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
    contrast = float(np.median(drawn.reshape(len(drawn), -1).std(1)))
    if contrast < LEAST_CONTRAST:
        return [Finding("blank images", f"the pictures vary by {contrast:.1f} gray levels inside", flag)]
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


def roughness(images: np.ndarray) -> float:
    """Return the median of how much neighboring pixels differ, in units of white noise of the same contrast: 1 for noise.

    Args:
        images: uint8 (n, H, W, 3); H and W at least 2.
    """
    pixels = images.astype(np.float64)
    steps = [np.square(np.diff(pixels, axis=axis)).mean((1, 2, 3)) for axis in (1, 2)]
    spread = pixels.var((1, 2)).mean(1)
    return float(np.median((steps[0] + steps[1]) / np.maximum(4 * spread, 1e-9)))


def thumbnail_distance(images: np.ndarray) -> float:
    """Return the mean distance between two of the images as 8 x 8 thumbnails: root mean square in gray levels.

    Args:
        images: uint8 (n, H, W, 3), at least two; H and W at least 8.
    """
    n, height, width, _ = images.shape
    rows = height // THUMBNAIL * THUMBNAIL
    columns = width // THUMBNAIL * THUMBNAIL
    blocks = images[:, :rows, :columns].reshape(n, THUMBNAIL, rows // THUMBNAIL, THUMBNAIL, columns // THUMBNAIL, 3)
    small = blocks.mean((2, 4)).reshape(n, -1)
    squares = ((small[:, None] - small[None]) ** 2).mean(2)
    return float(np.sqrt(squares)[np.triu_indices(n, 1)].mean())
