"""Muon: hidden weights move by the orthogonal part of their momentum, all others by Adam (Jordan et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from animegen_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from animegen_cli.config import Optim

NARROWEST = 8
"""Inputs and outputs that a weight must have to count as hidden: the layers at colors and single numbers have fewer."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, chosen by its authors for speed: singular values end between about 0.7 and 1.2."""


class Muon(torch.optim.Adam):
    """Adam, fused, for whatever is no hidden weight matrix; Muon for those.

    A convolution counts as the matrix (out, in k k). The update is scaled to the size that Adam's usually has, so that one
    rate serves both (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).
    """

    def __init__(self, settings: Optim, parameters: Sequence[nn.Parameter], *, tables: Collection[int] = ()) -> None:
        """Part the parameters.

        Args:
            settings: rate, decay and Adam's constants; `momentum` is Muon's own.
            parameters: those of a phase.
            tables: ids of parameters that look like matrices but are looked up by row: embeddings.

        Raises:
            ConfigError: no parameter is a hidden matrix.
        """
        hidden = [p for p in parameters if is_hidden(p) and id(p) not in tables]
        if not hidden:
            raise ConfigError(
                f"`optim`: muon moves hidden weight matrices of at least {NARROWEST} by {NARROWEST}, and this network has none",
                hint="write `name: adam`",
            )
        chosen = {id(p) for p in hidden}
        rest = [p for p in parameters if id(p) not in chosen]
        super().__init__(
            [{"params": hidden}, {"params": rest}],
            lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay, fused=True,
        )  # fmt: skip
        self.momentum = settings.momentum

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ANN401  # as torch declares it
        """Update every parameter that has a gradient, unless `found_inf` is set on the optimizer."""
        del closure
        hidden = [p for p in self.param_groups[0]["params"] if p.grad is not None]
        gradients = [p.grad for p in hidden]
        for weight in hidden:
            weight.grad = None
        super().step()
        left_out = getattr(self, "found_inf", None)
        for weight, gradient in zip(hidden, gradients, strict=True):
            weight.grad = gradient
            self._move(weight, gradient, left_out)

    def _move(self, weight: Tensor, gradient: Tensor, left_out: Tensor | None) -> None:
        group = self.param_groups[0]
        state = self.state[weight]
        if not state:
            # Adam reads `step` of every state that it loads.
            state.update(step=torch.zeros((), device=weight.device), momentum=torch.zeros_like(weight))
        before = state["momentum"]
        momentum = torch.lerp(before, gradient, 1 - self.momentum)
        direction = torch.lerp(gradient, momentum, self.momentum)  # Nesterov's
        matrix = orthogonalized(direction.flatten(1))
        update = matrix.view(weight.shape) * (0.2 * max(matrix.shape) ** 0.5) + group["weight_decay"] * weight
        if left_out is not None:
            update = torch.where(left_out > 0, 0.0, update)
            momentum = torch.where(left_out > 0, before, momentum)
        before.copy_(momentum)
        state["step"] += 1 if left_out is None else 1 - left_out
        weight.sub_(update, alpha=group["lr"])


def is_hidden(parameter: Tensor) -> bool:
    """Return whether a parameter is a matrix, or a convolution's kernel, with enough inputs and outputs."""
    return parameter.dim() in (2, 4) and min(parameter.shape[:2]) >= NARROWEST


def orthogonalized(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return about U V^T of the singular value decomposition U S V^T, by Newton-Schulz iterations.

    Args:
        matrix: (M, N), of any scale.
        steps: iterations; 5 bring the singular values to between about 0.7 and 1.2.
    """
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    if tall := matrix.shape[0] > matrix.shape[1]:
        x = x.T
    if x.device.type == "cuda":
        x = x.bfloat16()
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)
