"""How long drawing for scores will take: said before it, and with fewer images where it is long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from animegen_cli import console, paths
from animegen_cli.errors import DataError
from animegen_cli.report.units import duration

if TYPE_CHECKING:
    from animegen_cli.paths import Run

LONG = 600.0
"""Seconds of drawing that fewer images are offered for."""
BRIEF = 20.0
"""Seconds that nobody needs to be told of."""
OFFERED = (8192, 4096, 2048, 1024, 512, 256, 128)
"""Numbers of images to offer, one range of them."""


class Pace:
    """Says once how long drawing will take: from what it took before, else from the second network call on."""

    def __init__(self, run: str, images: int, seconds_per_image: float | None = None) -> None:
        """Args:
        run: what to type for the run.
        images: that this process will draw in all.
        seconds_per_image: what drawing took before, so and here; None where nobody measured.
        """
        self._run = run
        self._left = images
        self._said = False
        self._last: float | None = None
        if seconds_per_image is not None:
            self._say(seconds_per_image)

    def drawn(self, count: int) -> None:
        """Hear that a network call has drawn so many more; the first one is not counted on, as it prepares things too."""
        now = time.perf_counter()
        self._left -= count
        if not self._said and self._last is not None:
            self._say((now - self._last) / count)
        self._last = now

    def _say(self, seconds_per_image: float) -> None:
        self._said = True
        whole = seconds_per_image * self._left
        if whole < BRIEF:
            return
        console.note(f"drawing {self._left:,} images takes about {duration(whole)}")
        if whole <= LONG:
            return
        fitting = [n for n in OFFERED if n * seconds_per_image <= LONG]
        fewer = fitting[0] if fitting else OFFERED[-1]
        line = f"animegen eval {self._run} --n {fewer} --repeats 1"
        console.note(
            f"fewer images, wider intervals: `{line}` takes about {duration(max(fewer * seconds_per_image, 1))}"
        )


def measured(run: Run, sampling: str, device: str) -> float | None:
    """Seconds per image that drawing took when the run was scored before, so and on this device; None where it was not."""
    if not run.scores.is_file():
        return None
    try:
        told: Any = paths.read_json(run.scores, what="list of scores").get("drawing")
    except DataError:  # whoever reads the scores says so
        return None
    same = isinstance(told, dict) and (told.get("sampling"), told.get("device")) == (sampling, device)
    found = told.get("seconds_per_100") if same else None
    return found / 100 if isinstance(found, int | float) and 0 < found < 1e9 else None
