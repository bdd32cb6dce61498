"""How many raters a survey needs: the width of intervals and the chance to tell two runs apart, by simulation.

    python benchmarks/survey.py

Simulated raters follow the Bradley-Terry model with a taste of their own: each one's log-strengths are the true ones plus
a normal deviation. Each answers as many pairs on realism as a survey of 60 pairs asks, 15 % of them undecided. The true
strengths are `--gap` Elo apart from run to run.
"""

from __future__ import annotations

import argparse
import math
from itertools import combinations

import numpy as np

from animegen_cli.compare.survey.design import evenly
from animegen_cli.metrics.bradley_terry import log_strengths, resampled, wins

TASTE, TIES = 0.3, 0.15
RUNS, RATERS = (2, 3, 5, 8), (5, 10, 20, 40)
ELO = 400 / math.log(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surveys", type=int, default=100, help="simulated surveys per cell (default: 100)")
    parser.add_argument("--pairs", type=int, default=40, help="pairs per rater and question (default: 40)")
    parser.add_argument("--gap", type=float, default=50, help="Elo from one run to the next (default: 50)")
    options = parser.parse_args()
    print(f"| runs | pairs per rater | {' | '.join(f'{n} raters' for n in RATERS)} |")
    print("|---:|---:|" + "---:|" * len(RATERS))
    for runs in RUNS:
        asked = evenly(options.pairs, math.comb(runs, 2))
        cells = [cell(runs, raters, asked, options) for raters in RATERS]
        print(f"| {runs} | {asked} | " + " | ".join(f"± {width:.0f}, {share:.0%}" for width, share in cells) + " |")


def cell(runs: int, raters: int, asked: int, options: argparse.Namespace) -> tuple[float, float]:
    """Mean half width of the 95 % intervals in Elo, and how often the better of the two best is told apart from the other."""
    theta = np.arange(runs)[::-1] * options.gap / ELO
    theta -= theta.mean()
    widths = []
    told_apart = 0
    for number in range(options.surveys):
        chance = np.random.default_rng([runs, raters, number])
        votes = np.stack([one_rater(theta + chance.normal(0, TASTE, runs), asked, chance) for _ in range(raters)])
        drawn = resampled(votes, resamples=300, seed=number)
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
        widths.append(float((high - low).mean() / 2))
        ahead = log_strengths(votes.sum(0))
        told_apart += bool(ahead[0] > ahead[1] and np.percentile(drawn[:, 0] - drawn[:, 1], 2.5) > 0)
    return ELO * float(np.mean(widths)), told_apart / options.surveys


def one_rater(theta: np.ndarray, asked: int, chance: np.random.Generator) -> np.ndarray:
    """Wins (n, n) of one rater who meets every pair of runs equally often."""
    meetings = np.array(list(combinations(range(len(theta)), 2)))
    rounds = [chance.permutation(meetings) for _ in range(math.ceil(asked / len(meetings)))]
    first, second = np.concatenate(rounds)[:asked].T
    score = (chance.random(asked) < 1 / (1 + np.exp(theta[second] - theta[first]))).astype(float)
    score[chance.random(asked) < TIES] = 0.5
    return wins(len(theta), first, second, score)


if __name__ == "__main__":
    main()
