"""The parts of a step: a fixed number of equal pieces of its batch, each with randomness and batch statistics of its own.

Since parts are fixed and processes take parts, the numbers of a run do not depend on how many processes train it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from animegen_cli.model.family import combined_buffers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.ranks import Ranks


def rows(part: int, parts: int, batch: int) -> slice:
    """The images of a part in the whole batch."""
    return slice(part * batch // parts, (part + 1) * batch // parts)


class TreeSum:
    """Adds rows of tensors up as a balanced tree: ((a + b) + (c + d)) + ...

    Floating-point sums depend on their order; this one does not change when neighbors were added up elsewhere before.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[int, list[Tensor]]] = []

    def add(self, leaf: list[Tensor]) -> None:
        """Add the next row; its tensors may be overwritten."""
        height = 0
        while self._waiting and self._waiting[-1][0] == height:
            leaf = _added(self._waiting.pop()[1], leaf)
            height += 1
        self._waiting.append((height, leaf))

    def total(self) -> list[Tensor]:
        """Return the sum; at least one row was added."""
        _, found = self._waiting.pop()
        while self._waiting:
            found = _added(self._waiting.pop()[1], found)
        return found


def _added(left: list[Tensor], right: list[Tensor]) -> list[Tensor]:
    if left:
        torch._foreach_add_(left, right)  # no public name; one kernel for all
    return left


class Buffers:
    """The buffers of a model that outlive a step, such as BatchNorm's: they move once a step, whatever its parts.

    Each part begins with what the step began with. Afterwards each buffer is the mean of what the parts made of it, or what
    its module says in `combined` (`model.family.Combine`). Those that are no floating-point numbers count; parts count alike.
    """

    def __init__(self, model: nn.Module) -> None:
        saved = model.state_dict().keys()
        how = combined_buffers(model)
        named = [(name, buffer) for name, buffer in model.named_buffers() if name in saved]
        self._all = [buffer for _, buffer in named]
        self._means = [b for name, b in named if b.is_floating_point() and name not in how]
        self._sums = [b for name, b in named if how.get(name) == "sum"]
        self._pieces = [b for name, b in named if how.get(name) == "pieces"]
        self._before: list[Tensor] = []

    def begin(self) -> None:
        """Remember what a step begins with."""
        self._before = [buffer.clone() for buffer in self._all]

    @torch.no_grad()
    def restore(self) -> None:
        """Put back what the step began with."""
        for buffer, before in zip(self._all, self._before, strict=True):
            buffer.copy_(before)

    @torch.no_grad()
    def of_part(self, part: int, parts: int) -> list[Tensor]:
        """What a part leaves, to be added up over the parts."""
        pieces = []
        for buffer in self._pieces:
            own = torch.zeros_like(buffer, dtype=torch.float32)
            piece = rows(part, parts, len(buffer))
            own[piece] = buffer[piece].float()
            pieces.append(own)
        return [
            b.detach().float() if b.dtype != torch.float32 else b.clone() for b in (*self._means, *self._sums)
        ] + pieces

    @torch.no_grad()
    def finish(self, totals: Sequence[Tensor], parts: int) -> None:
        """Take the sums over all parts."""
        means, rest = totals[: len(self._means)], totals[len(self._means) :]
        for buffer, total in zip(self._means, means, strict=True):
            buffer.copy_(total / parts)
        for buffer, total in zip((*self._sums, *self._pieces), rest, strict=True):
            buffer.copy_(total)


def summed_over_ranks(ranks: Ranks, tensors: list[Tensor]) -> list[Tensor]:
    """Add tensors up over all processes, in one message; float32, of the same shapes everywhere."""
    if ranks.count == 1:
        return tensors
    flat = ranks.summed(torch.cat([tensor.reshape(-1) for tensor in tensors]))
    for tensor, numbers in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(numbers.view(tensor.shape))
    return tensors
