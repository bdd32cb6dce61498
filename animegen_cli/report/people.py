"""What people think of the runs, as the comparison page shows it: a table and a plot of intervals for each question."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from animegen_cli.metrics.bradley_terry import elo
from animegen_cli.report.markup import Markup, el
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


def intervals(opinion: Opinion) -> Markup:
    """Elo scores as dots with their intervals as bars, a line per contestant (SVG, within a page)."""
    values: list[list[float]] = elo(np.array([(one.low, one.theta, one.high) for one in opinion.standings])).tolist()
    names = [one.name for one in opinion.standings]
    bottom = 12 + _LINE * len(values)
    x = Axis.over([value for row in values for value in row], _NAMES, _WIDTH - 16, log=False)
    parts = []
    for value in x.ticks():
        parts += [
            el("line", x1=x(value), x2=x(value), y1=6, y2=bottom, stroke="currentColor", stroke_opacity=0.12),
            el("text", f"{value:.0f}", x=x(value), y=bottom + 16, text_anchor="middle", fill="currentColor"),
        ]
    for line, (name, (low, middle, high)) in enumerate(zip(names, values, strict=True)):
        y, ink = 12 + _LINE * (line + 0.5), INKS[0]
        parts += [
            el("text", _cut(name), x=_NAMES - 10, y=y + 4, text_anchor="end", fill="currentColor"),
            el("line", x1=x(low), x2=x(high), y1=y, y2=y, stroke=ink, stroke_width=2),
            el("circle", el("title", name), cx=x(middle), cy=y, r=4.5, fill=ink),
        ]
    told = " ".join(
        f"{n}: {m:.0f}, from {low:.0f} to {high:.0f}." for n, (low, m, high) in zip(names, values, strict=True)
    )
    return el(
        "svg", el("title", f"Elo of {opinion.question}"), el("desc", told), *parts, xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {bottom + 24}", width=_WIDTH, height=bottom + 24, class_="plot", role="img",
        font_family="system-ui, sans-serif", font_size=12,
    )  # fmt: skip


def _cut(name: str) -> str:
    return name if len(name) <= 25 else name[:24] + "…"
