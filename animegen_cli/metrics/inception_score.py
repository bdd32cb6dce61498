"""Inception score: exp(E_x KL(p(y|x) || p(y))) (Salimans et al. 2016).

Its classes are ImageNet's, which know no anime face: it is reported because a document asks for it, and says
nothing about the quality of faces (Barratt & Sharma 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor

from animegen_cli.errors import DataError


def inception_score(logits: Tensor, *, splits: int = 10, seed: int = 0) -> tuple[float, float, Tensor]:
    """The Inception score, between 1 and the number of classes; higher is better.

    Args:
        logits: class logits (N, classes) without the output bias.
        splits: parts of the shuffled images, each with a score of its own.
        seed: fixes the shuffling.

    Returns:
        Mean and standard deviation of the score over the parts; and what each image adds to the score of all, to first
        order: (N,), float64.

    Raises:
        DataError: fewer than two images.
    """
    if len(logits) < 2:
        raise DataError(f"the Inception score needs at least two images, there are {len(logits)}")
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed)).to(logits.device)
    parts = [order[part::splits] for part in range(min(splits, len(logits) // 2))]
    scores = torch.stack([_divergence(logits[rows]).mean().exp() for rows in parts])
    whole = _divergence(logits)
    return scores.mean().item(), scores.std(correction=0).item(), whole.mean().exp() * (whole - whole.mean())


def _divergence(logits: Tensor) -> Tensor:
    """(N,) divergence of each row's distribution from their average."""
    log_p = logits.double().log_softmax(1)
    log_marginal = log_p.logsumexp(0) - torch.log(torch.tensor(float(len(log_p)), dtype=torch.float64))
    return (log_p.exp() * (log_p - log_marginal)).sum(1)
