"""What adversarial families share: the losses, the gradient penalties, and images handed from one phase to the next.

Critics answer with logits: any shape, larger where an image looks real.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Literal["bce", "lsgan", "hinge", "wgan"]


def critic_loss(kind: Loss, real: Tensor, fake: Tensor, *, smooth: float = 1.0) -> Tensor:
    """What the critic minimises, a scalar: the sum of its losses on real and on generated images.

    Args:
        kind: `bce` Goodfellow et al. 2014, eq. 1; `lsgan` Mao et al. 2017, eq. 9, without its factors 1/2;
            `hinge` Miyato et al. 2018, eq. 16; `wgan` Arjovsky et al. 2017, eq. 2.
        real, fake: logits.
        smooth: target of real images for `bce` and `lsgan`; 0.9 is one-sided smoothing (Salimans et al. 2016, section 3.4).
    """
    real, fake = real.float(), fake.float()
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(real, torch.full_like(real, smooth)) + F.softplus(fake).mean()
    if kind == "lsgan":
        return (real - smooth).square().mean() + fake.square().mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(kind: Loss, fake: Tensor) -> Tensor:
    """What the generator minimises, a scalar; `bce` is the non-saturating form (Goodfellow et al. 2014, section 3)."""
    fake = fake.float()
    if kind == "bce":
        return F.softplus(-fake).mean()
    return (fake - 1).square().mean() if kind == "lsgan" else -fake.mean()


def squared_gradient(logits: Tensor, images: Tensor) -> Tensor:
    """R1's |grad_x D(x)|^2 per image (Mescheder et al. 2018, eq. 9): (B, ...) logits of images (B, C, H, W) -> (B,).

    `images` must be no leaf (`images.view_as(images)` of one that requires gradients): counting arithmetic needs that.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3))


class FakeBuffer:
    """Generated images that one phase makes and the next one uses, over micro-batches that may be cut differently.

    They live for one step, so they are no state.
    """

    def __init__(self) -> None:
        self._pieces: list[Tensor] = []

    def put(self, start: int, images: Tensor) -> None:
        """Keep `images`, which begin at `start` in the whole batch; detached."""
        if start == 0:
            self._pieces.clear()
        self._pieces.append(images.detach())

    def get(self, start: int, count: int) -> Tensor:
        """The images `start` to `start + count` of the whole batch."""
        if len(self._pieces) > 1:
            self._pieces[:] = [torch.cat(self._pieces)]
        return self._pieces[0][start : start + count]
