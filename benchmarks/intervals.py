"""How often 95 % intervals hold the true value, score by score: `python benchmarks/intervals.py`.

Drawn images are drawn again and again from a known distribution, against the same reference; the true value is the mean
of the score over all repeats, at the same counts. A table of coverage, mean width and the share of intervals without
width.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from animegen_cli.evaluate import classifier, heldout
from animegen_cli.metrics import distributions
from animegen_cli.metrics.scores import METRICS, Score, score_features
from animegen_cli.metrics.uncertainty import combine

Scenario = Callable[[torch.Generator], list[Score]]
DIMS, REALS, DRAWN = 12, 400, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--metrics", nargs="+", default=METRICS, help="of features")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| images | score | truth | holds | width | no width |\n|---|---|---|---|---|---|")
    for name, scenario in scenarios(args.metrics):
        if args.only in name:
            for metric, truth, held, width, none in coverage(scenario, args.repeats):
                print(f"| {name} | {metric} | {truth:.4g} | {held:.1%} | {width:.3g} | {none:.1%} |", flush=True)


def coverage(scenario: Scenario, repeats: int) -> Iterator[tuple[str, float, float, float, float]]:
    """Per score: name, true value, share of intervals that hold it, mean width, share of intervals of no width."""
    found = [scenario(torch.Generator().manual_seed(seed)) for seed in range(repeats)]
    for scores in zip(*found, strict=True):
        truth = float(np.mean([score.value for score in scores]))
        ends = np.array([score.interval or (-np.inf, np.inf) for score in scores])
        held = (ends[:, 0] - 1e-12 <= truth) & (truth <= ends[:, 1] + 1e-12)
        widths = ends[:, 1] - ends[:, 0]
        yield scores[0].name, truth, float(held.mean()), float(widths.mean()), float((widths <= 0).mean())


def scenarios(metrics: Sequence[str] = METRICS) -> Iterator[tuple[str, Scenario]]:
    """What may be drawn, by name."""
    real = faces(REALS, torch.Generator().manual_seed(-1))
    weights = torch.randn(DIMS, 6, generator=torch.Generator().manual_seed(5))
    for name, draw in FEATURES.items():
        for ranges in (1, 3):

            def scored(chance: torch.Generator, draw: Draw = draw, ranges: int = ranges) -> list[Score]:
                fakes = [draw(DRAWN, chance) for _ in range(ranges)]
                return score_features(real, fakes, metrics, logits=[fake @ weights for fake in fakes])

            yield f"{name}, {ranges} range{'s' * (ranges > 1)}", scored
    for name, (p, q, n) in NAMES.items():
        yield f"names {name}", lambda chance, p=p, q=q, n=n: named(p, q, n, chance)
    for name, (shares, asked) in REQUESTS.items():
        yield f"requests {name}", lambda chance, s=shares, n=asked: requested(s, n, chance)
    for name, (law, n) in MEANS.items():
        yield f"mean {name}", lambda chance, law=law, n=n: [heldout.mean("mse", law(n, chance))]


# ---- features -------------------------------------------------------------------------------------------------

Draw = Callable[[int, torch.Generator], Tensor]


def faces(n: int, chance: torch.Generator, *, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    """Features (n, DIMS) of fading importance."""
    return torch.randn(n, DIMS, generator=chance) * torch.logspace(0, -1, DIMS) * scale + shift


def collapsed(n: int, chance: torch.Generator) -> Tensor:
    """Half of the images are nearly one, the others as real."""
    found = faces(n, chance)
    same = torch.rand(n, generator=chance) < 0.5
    found[same] = found[same] * 0.05 + 0.3
    return found


def heavy(n: int, chance: torch.Generator) -> Tensor:
    """One image in twenty lies far away."""
    found = faces(n, chance)
    return found * torch.where(torch.rand(n, 1, generator=chance) < 0.05, 4.0, 1.0)


FEATURES: dict[str, Draw] = {
    "as the reals": faces,
    "shifted": lambda n, chance: faces(n, chance, shift=0.3),
    "narrow": lambda n, chance: faces(n, chance, scale=0.5),
    "wide": lambda n, chance: faces(n, chance, scale=1.5),
    "far away": lambda n, chance: faces(n, chance, shift=1.2),
    "half collapsed": collapsed,
    "with outliers": heavy,
}


# ---- names, requests, means -----------------------------------------------------------------------------------

NAMES = {
    "alike": ((0.4, 0.3, 0.2, 0.1), (0.4, 0.3, 0.2, 0.1), 200),
    "near": ((0.4, 0.3, 0.2, 0.1), (0.35, 0.3, 0.2, 0.15), 200),
    "apart": ((0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4), 200),
    "apart, 40 images": ((0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4), 40),
    "nearly one": ((0.4, 0.3, 0.2, 0.1), (0.0, 0.0, 0.03, 0.97), 200),
    "nearly one, 40": ((0.4, 0.3, 0.2, 0.1), (0.0, 0.0, 0.05, 0.95), 40),
    "one": ((0.4, 0.3, 0.2, 0.1), (0.0, 0.0, 0.0, 1.0), 200),
    "of twelve": ((1 / 12,) * 12, (0.2, 0.15, 0.1, *(0.55 / 9,) * 9), 200),
}
"""Shares of the names among reals and drawn, and how many are drawn."""


def named(p: tuple[float, ...], q: tuple[float, ...], n: int, chance: torch.Generator) -> list[Score]:
    """The two distances of names: with a classifier's eyes, and with those of pixels."""
    real = torch.multinomial(torch.tensor(p), 1000, replacement=True, generator=torch.Generator().manual_seed(3))
    drawn = torch.multinomial(torch.tensor(q), n, replacement=True, generator=chance)
    value, std, interval = combine([distributions.names_estimate(real, drawn, len(p))], low=0.0, high=1.0)
    found = distributions.between_names(real.numpy(), drawn.numpy(), len(p), resamples=1)
    values = [20.0 * side.numpy() for side in (real, drawn)]
    gray = distributions.between_values(*values, resamples=1)
    return [
        Score("attribute", value, std, interval),
        Score("hair-color", found.value, found.std, found.interval),
        Score("brightness", gray.value, gray.std, gray.interval),
    ]


REQUESTS = {
    "6 of 32": ((0.95, 0.9, 0.85, 0.8, 0.7, 0.6), 32),
    "nearly all": ((0.995,) * 12, 32),
    "nearly all, few": ((0.97,) * 2, 16),
    "some never": ((0.99, 0.99, 0.99, 0.01), 32),
    "two of 8": ((0.5, 0.9), 8),
}
"""How often each value is recognized, and how often it is asked for."""


def requested(shares: tuple[float, ...], asked: int, chance: torch.Generator) -> list[Score]:
    hits = torch.rand(len(shares), asked, generator=chance) < torch.tensor(shares)[:, None]
    return [Score("requests", *combine([classifier.answered(hits)], low=0.0, high=1.0))]


MEANS: dict[str, tuple[Callable[[int, torch.Generator], Tensor], int]] = {
    "normal, 8 images": (lambda n, chance: torch.randn(n, generator=chance).double(), 8),
    "normal, 100 images": (lambda n, chance: torch.randn(n, generator=chance).double(), 100),
    "skewed, 24 images": (lambda n, chance: torch.randn(n, generator=chance).mul(0.7).exp().double(), 24),
    "skewed, 200 images": (lambda n, chance: torch.randn(n, generator=chance).mul(0.7).exp().double(), 200),
}
"""Scores of held-out images."""


if __name__ == "__main__":
    main()
