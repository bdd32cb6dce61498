"""From votes to what people prefer: strengths with intervals, how far people agree, and whose votes do not count."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from animegen_cli import disk, paths
from animegen_cli.compare.survey.design import QUESTIONS
from animegen_cli.errors import DataError
from animegen_cli.metrics import agreement, bradley_terry
from animegen_cli.report import tables
from animegen_cli.report.preferences import Preference, Standing
from animegen_cli.report.tables import DASH, Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from animegen_cli.compare.survey.votes import Key, Vote

RESAMPLES = 1000
FAST_MS, FAST_SHARE = 500, 0.25
"""A rater is said to be implausibly fast with more than this share of answers in less than this time."""
SIDE_P = 0.001
"""A side is said to be preferred where a fair coin would be as lopsided less often than this."""
FEW_RATERS = 5
CHECKS_PER_MISTAKE = 8
"""One check may be missed for each so many. Of 8 checks, a coin gets 7 or more right in 3.5 % of cases."""


@dataclass(frozen=True)
class Rater:
    """One person's record. `counted`: whether the votes take part; `remarks` say what is odd."""

    name: str
    answers: int
    """Answers to pairs that are no checks."""
    checks: int
    mistakes: int
    """Checks that were missed."""
    seconds: float | None
    """Median time per answer."""
    left: float | None
    """Share of left among the answers that are no tie, checks aside."""
    counted: bool
    remarks: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether more checks were missed than may be."""
        return self.mistakes > self.checks // CHECKS_PER_MISTAKE


@dataclass(frozen=True)
class SurveyResult:
    """What the votes of a survey say, question by question; who gave them; and sentences on what is odd."""

    preferences: tuple[Preference, ...]
    raters: tuple[Rater, ...]
    warnings: tuple[str, ...]

    @property
    def tables(self) -> list[Table]:
        """A table per question, and that of the raters."""
        return [*(preference.table for preference in self.preferences), _rater_table(self.raters)]


def weigh(votes: Sequence[Vote], key: Key, *, keep_failed: bool = False, seed: int = 0) -> SurveyResult:
    """Turn the votes into strengths of the contestants.

    Args:
        votes: of all raters, checks included.
        key: what the ids in the votes stand for.
        keep_failed: also count raters who missed more checks than may be.
        seed: of the bootstrap.

    Raises:
        DataError: no votes are left, or they leave contestants that were never compared.
    """
    by_rater: dict[str, list[Vote]] = {}
    for vote in votes:
        by_rater.setdefault(vote.rater, []).append(vote)
    raters = tuple(_rater(name, given, keep_failed=keep_failed) for name, given in sorted(by_rater.items()))
    counted = {rater.name for rater in raters if rater.counted}
    real = [vote for vote in votes if vote.right is None and vote.rater in counted]
    if not real:
        raise DataError(
            "no votes are left to count: every rater missed too many checks or answered nothing but checks",
            hint="look at them all the same with `--keep-failed`",
        )
    preferences = tuple(
        _preference(question, given, key, seed)
        for question in QUESTIONS
        if (given := [vote for vote in real if vote.question == question])
    )
    return SurveyResult(preferences, raters, tuple(_warnings(raters, counted, real)))


def _rater(name: str, given: Sequence[Vote], *, keep_failed: bool) -> Rater:
    checks = [vote for vote in given if vote.right is not None]
    decided = [vote.answer for vote in given if vote.right is None and vote.answer != "tie"]
    times = [vote.ms for vote in given if vote.ms is not None]
    mistakes = sum(vote.score != vote.right for vote in checks)
    seconds = statistics.median(times) / 1000 if times else None
    left = decided.count("left") / len(decided) if decided else None
    rater = Rater(name, len(given) - len(checks), len(checks), mistakes, seconds, left, counted=True, remarks=())
    remarks = []
    if rater.failed:
        remarks.append(f"missed {mistakes} of {len(checks)} checks")
    if not checks:
        remarks.append("answered no check")
    fast = sum(ms < FAST_MS for ms in times)
    if times and fast > FAST_SHARE * len(times):
        remarks.append(f"{fast} of {len(times)} answers within {FAST_MS / 1000:g} s")
    if agreement.fair_coin(decided.count("left"), len(decided)) < SIDE_P:
        remarks.append(f"{left:.0%} left")
    counted = bool(rater.answers) and (keep_failed or not rater.failed)
    return replace(rater, counted=counted, remarks=tuple(remarks))


def _warnings(raters: Sequence[Rater], counted: set[str], real: Sequence[Vote]) -> Iterator[str]:
    for rater in raters:
        if rater.remarks:
            status = "counted" if rater.counted else "not counted"
            yield f"rater {rater.name} ({status}): {', '.join(rater.remarks)}"
    decided = [vote.answer for vote in real if vote.answer != "tie"]
    if agreement.fair_coin(decided.count("left"), len(decided)) < SIDE_P:
        yield f"all together preferred the left side in {decided.count('left') / len(decided):.0%} of the pairs"
    if 1 < len(counted) < FEW_RATERS:
        yield f"{len(counted)} raters are few: the intervals are a rough guide to what other people would say"


# ---- one question ------------------------------------------------------------------------------------------------


def _preference(question: str, votes: Sequence[Vote], key: Key, seed: int) -> Preference:
    units = _units(votes, key)
    present = [i for i in range(len(key.contestants)) if units[:, i].any() or units[:, :, i].any()]
    units = units[:, present][:, :, present]
    won = units.sum(0)
    names = [key.contestants[i] for i in present]
    islands = bradley_terry.groups(won)
    if len(islands) > 1:
        listed = " | ".join(", ".join(names[i] for i in island) for island in islands)
        raise DataError(
            f"the votes on {question} never compare these groups with each other: {listed}", hint="gather more votes"
        )
    theta = bradley_terry.log_strengths(won)
    samples = bradley_terry.resampled(units, resamples=RESAMPLES, seed=seed)
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    met = won + won.T
    real = next((n for n, i in enumerate(present) if key.runs[i] is None), None)
    order = np.argsort(-theta, kind="stable").tolist()
    best = next(i for i in order if i != real)  # real images are no rival
    behind = np.percentile(samples[:, [best]] - samples, 2.5, axis=0)  # how far each one is behind the best, at least

    def against_real(i: int) -> float | None:
        return None if real is None or not met[i, real] else float(won[i, real] / met[i, real])

    standings = tuple(
        Standing(
            name=names[i], theta=float(theta[i]), low=float(low[i]), high=float(high[i]),
            preferred=float(won[i].sum() / met[i].sum()), against_real=against_real(i), answers=int(met[i].sum()),
            best=i == best, tied=i not in (best, real) and bool(behind[i] <= 0),
        )
        for i in order
    )  # fmt: skip
    return Preference(question, standings, _table(question, standings, _notes(votes)))


def _units(votes: Sequence[Vote], key: Key) -> np.ndarray:
    """Wins (units, n, n) of what the bootstrap draws: of each rater, or of each answer where one rater is all there is."""
    raters = list(dict.fromkeys(vote.rater for vote in votes))
    found = np.zeros((len(raters) if len(raters) > 1 else len(votes), len(key.contestants), len(key.contestants)))
    for number, vote in enumerate(votes):
        _, a, b = key.pairs[vote.pair]
        unit = raters.index(vote.rater) if len(raters) > 1 else number
        found[unit, a, b] += vote.score
        found[unit, b, a] += 1 - vote.score
    return found


def _notes(votes: Sequence[Vote]) -> tuple[str, ...]:
    raters = {vote.rater for vote in votes}
    ties = sum(vote.answer == "tie" for vote in votes)
    what = "raters" if len(raters) > 1 else "answers, since there is one rater: they say nothing about other people"
    notes = [
        f"{len(votes)} answers of {len(raters)} rater{'s' * (len(raters) != 1)}, {ties} of them ties.",
        f"Bradley-Terry strengths on Elo's scale (400 points: odds of ten to one); 95 % intervals from {RESAMPLES} "
        f"bootstrap samples of the {what}. ≈: not told apart from the best.",
    ]
    answers = _answers(votes)
    alike, alpha = agreement.same_answers(answers), agreement.krippendorff(answers)
    if alike is None:
        notes.append("Agreement: unknown, since no two raters saw the same pair.")
    else:
        known = "undefined, since all answers are equal" if alpha is None else f"{alpha:.2f}"
        notes.append(
            f"Agreement: Krippendorff's alpha {known} (1: full, 0: chance); {alike[0]:.0%} of {alike[1]} pairs of answers to "
            "the same two pictures are equal."
        )
    return tuple(notes)


def _answers(votes: Sequence[Vote]) -> np.ndarray:
    """Answers (raters, pairs) as -1, 0, 1 for b, tie, a; nan where not asked."""
    raters = list(dict.fromkeys(vote.rater for vote in votes))
    pairs = list(dict.fromkeys(vote.pair for vote in votes))
    rows = {rater: row for row, rater in enumerate(raters)}
    columns = {pair: column for column, pair in enumerate(pairs)}
    answers = np.full((len(raters), len(pairs)), np.nan)
    for vote in votes:
        answers[rows[vote.rater], columns[vote.pair]] = 2 * vote.score - 1
    return answers


# ---- tables and files --------------------------------------------------------------------------------------------


def _table(question: str, standings: Sequence[Standing], notes: tuple[str, ...]) -> Table:
    versus = any(one.against_real is not None for one in standings)
    columns = (
        Column("run", "run", right=False),
        Column("elo", "Elo", better="higher"),
        Column("elo_low", "from"),
        Column("elo_high", "to"),
        Column("log_strength", "log-strength"),
        Column("preferred", "preferred"),
        *([Column("against_real", "against real")] if versus else []),
        Column("answers", "answers"),
    )
    rows = []
    for one in standings:
        share = Cell() if one.against_real is None else Cell(f"{one.against_real:.0%}", round(one.against_real, 4))
        elo, low, high = (round(float(bradley_terry.elo(np.array(v))), 1) for v in (one.theta, one.low, one.high))
        rows.append(
            (
                Cell(one.name, one.name),
                Cell(f"{elo:.0f}", elo, best=one.best, tied=one.tied),
                Cell(f"{low:.0f}", low),
                Cell(f"{high:.0f}", high),
                Cell(f"{one.theta:+.2f}".replace("-", "−"), round(one.theta, 4)),
                Cell(f"{one.preferred:.0%}", round(one.preferred, 4)),
                *([share] if versus else []),
                Cell(str(one.answers), one.answers),
            )
        )
    return Table(f"People on {question}", columns, tuple(rows), notes)


def _rater_table(raters: Sequence[Rater]) -> Table:
    columns = (
        Column("rater", "rater", right=False),
        Column("answers", "answers"),
        Column("checks", "checks passed"),
        Column("seconds", "s per answer"),
        Column("left", "left"),
        Column("counted", "counted", right=False),
        Column("remarks", "remarks", right=False),
    )
    rows = tuple(
        (
            Cell(rater.name, rater.name),
            Cell(str(rater.answers), rater.answers),
            Cell(f"{rater.checks - rater.mistakes} of {rater.checks}", rater.checks - rater.mistakes),
            Cell() if rater.seconds is None else Cell(f"{rater.seconds:.1f}", rater.seconds),
            Cell() if rater.left is None else Cell(f"{rater.left:.0%}", round(rater.left, 4)),
            Cell("yes" if rater.counted else "no", rater.counted),
            Cell("; ".join(rater.remarks) or DASH, "; ".join(rater.remarks) or None),
        )
        for rater in raters
    )
    note = (
        f"A rater who misses a check more than once in {CHECKS_PER_MISTAKE} is not counted. Said of, but counted: more than "
        f"{FAST_SHARE:.0%} of the answers within {FAST_MS / 1000:g} s, or one side preferred where a fair coin would be "
        f"as lopsided less than once in {1 / SIDE_P:.0f} times."
    )
    return Table("Raters", columns, rows, (note,))


def as_json(result: SurveyResult) -> dict[str, Any]:
    """Give the tables with plain values, by question, and the warnings."""
    return {
        "questions": {preference.question: tables.as_json(preference.table) for preference in result.preferences},
        "raters": tables.as_json(_rater_table(result.raters)),
        "warnings": list(result.warnings),
    }


def write(result: SurveyResult, out: Path) -> dict[str, Path]:
    """Write `votes.md`, `.tex`, `.csv` and `.json` into the folder `out`; name of each -> its path."""
    paths.make_folder(out)
    texts = {
        "votes_markdown": ("votes.md", "\n".join(map(tables.markdown, result.tables))),
        "votes_latex": ("votes.tex", "\n".join(map(tables.latex, result.tables))),
        "votes_csv": ("votes.csv", tables.as_csv(*result.tables)),
        "votes_json": ("votes.json", json.dumps(as_json(result), indent=1) + "\n"),
    }
    for file, text in texts.values():
        disk.write_text(out / file, text)
    return {name: out / file for name, (file, _) in texts.items()}
