"""What people think of the runs, as the comparison page shows it: a table and a plot of intervals for each question."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from animegen_cli.metrics.bradley_terry import elo
from animegen_cli.report.canvas import Dot, Drawing, Rule, Shape, Text
from animegen_cli.report.plots import INKS, Axis
from animegen_cli.report.tables import Table

_WIDTH, _NAMES, _LINE = 480, 170, 26


class Standing(NamedTuple):
    """One contestant. Shares are of votes won, a tie being half of one; `tied`: not told apart from the best."""

    name: str
    theta: float
    low: float
    high: float
    preferred: float
    against_real: float | None
    answers: int
    best: bool
    tied: bool


class Opinion(NamedTuple):
    """The answer to one question, best contestant first."""

    question: str
    standings: tuple[Standing, ...]
    table: Table


def intervals(opinion: Opinion) -> Drawing:
    """Elo scores as dots with their intervals as bars, a line per contestant."""
    values: list[list[float]] = elo(np.array([(one.low, one.theta, one.high) for one in opinion.standings])).tolist()
    names = [one.name for one in opinion.standings]
    bottom = 32 + _LINE * len(values)
    x = Axis.over([value for row in values for value in row], _NAMES, _WIDTH - 16, log=False)
    title = f"Elo of {opinion.question}"
    drawn: list[Shape] = [Text(title, (12, 17), size=14, bold=True)]
    for value in x.ticks():
        drawn.append(Rule((x(value), 26), (x(value), bottom), 0.12))
        drawn.append(Text(f"{value:.0f}", (x(value), bottom + 16), "middle"))
    for line, (name, (low, middle, high)) in enumerate(zip(names, values, strict=True)):
        y, ink = 32 + _LINE * (line + 0.5), INKS[0]
        drawn.append(Text(_cut(name), (_NAMES - 10, y + 4), "end"))
        drawn.append(Rule((x(low), y), (x(high), y), width=2, ink=ink))
        drawn.append(Dot((x(middle), y), 4.5, ink, name))
    description = " ".join(
        f"{n}: {m:.0f}, from {low:.0f} to {high:.0f}." for n, (low, m, high) in zip(names, values, strict=True)
    )
    return Drawing(title, description, (_WIDTH, bottom + 24), tuple(drawn))


def _cut(name: str) -> str:
    return name if len(name) <= 25 else name[:24] + "…"
