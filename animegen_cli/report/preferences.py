"""What people prefer, as the comparison page shows it: a table and a plot of intervals for each question of a survey."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from animegen_cli.metrics.bradley_terry import elo
from animegen_cli.report.canvas import Circle, Drawing, Line, Shape, Text, cut
from animegen_cli.report.plots import COLORS, Axis
from animegen_cli.report.tables import Table

_WIDTH, _NAMES, _LINE = 480, 170, 26


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


def intervals(preference: Preference) -> Drawing:
    """Plot Elo scores as dots with their intervals as bars, a line per contestant."""
    values: list[list[float]] = elo(np.array([(one.low, one.theta, one.high) for one in preference.standings])).tolist()
    names = [one.name for one in preference.standings]
    bottom = 32 + _LINE * len(values)
    x = Axis.over([value for row in values for value in row], _NAMES, _WIDTH - 16, log=False)
    title = f"Elo of {preference.question}"
    drawn: list[Shape] = [Text(title, (12, 17), size=14, bold=True)]
    for value in x.ticks():
        drawn.append(Line((x(value), 26), (x(value), bottom), 0.12))
        drawn.append(Text(f"{value:.0f}", (x(value), bottom + 16), "middle"))
    for line, (name, (low, middle, high)) in enumerate(zip(names, values, strict=True)):
        y = 32 + _LINE * (line + 0.5)
        drawn.append(Text(cut(name, 25), (_NAMES - 10, y + 4), "end"))
        drawn.append(Line((x(low), y), (x(high), y), width=2, color=COLORS[0]))
        drawn.append(Circle((x(middle), y), 4.5, COLORS[0], name))
    description = " ".join(
        f"{n}: {m:.0f}, from {low:.0f} to {high:.0f}." for n, (low, m, high) in zip(names, values, strict=True)
    )
    return Drawing(title, description, (_WIDTH, bottom + 24), tuple(drawn))
