"""What people prefer, as the comparison page shows it: a table and a plot of intervals for each question of a survey."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from animegen_cli.metrics.bradley_terry import elo
from animegen_cli.report import plots
from animegen_cli.report.tables import Table

if TYPE_CHECKING:
    from animegen_cli.report.plots import Plot


class Standing(NamedTuple):
    """How one contestant fared: its log-strength `theta` with a 95 % interval `low`..`high`, and shares in [0, 1].

    `preferred` and `against_real` are shares of the votes won, a tie counting half; the second is None where the
    contestant never met the real images. `tied`: not told apart from the best.
    """

    name: str
    theta: float
    low: float
    high: float
    preferred: float
    against_real: float | None
    answers: int
    best: bool
    tied: bool


class Preference(NamedTuple):
    """What people answered to one question, best contestant first."""

    question: str
    standings: tuple[Standing, ...]
    table: Table


def intervals(preference: Preference) -> Plot:
    """Plot Elo scores with their intervals, best contestant first."""
    scores = elo(np.array([(one.low, one.theta, one.high) for one in preference.standings])).tolist()
    rows = [(one.name, *row) for one, row in zip(preference.standings, scores, strict=True)]
    return plots.intervals(rows, title=f"Elo of {preference.question}")
