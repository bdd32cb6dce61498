"""What adversarial families share: the losses, the gradient penalties, and images that one phase leaves for the next.

Critics answer with logits of any shape, larger where an image looks real.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Literal["bce", "lsgan", "hinge", "wgan"]
"""Names of the games that `critic_loss` and `generator_loss` know."""


def critic_loss(kind: Loss, real: Tensor, fake: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Return what the critic minimizes, a scalar: the sum of its losses on real and on generated images.

    Args:
        kind: `bce` Goodfellow et al. 2014, eq. 1; `lsgan` Mao et al. 2017, eq. 9, without its factors 1/2;
            `hinge` Miyato et al. 2018, eq. 16; `wgan` Arjovsky et al. 2017, eq. 2.
        real: logits of real images, of any shape.
        fake: logits of generated images, of any shape.
        smooth: target of real images for `bce` and `lsgan`; 0.9 is one-sided smoothing (Salimans et al. 2016, section 3.4).
    """
    real = real.float()
    fake = fake.float()
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(real, torch.full_like(real, smooth)) + F.softplus(fake).mean()
    if kind == "lsgan":
        return (real - smooth).square().mean() + fake.square().mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(kind: Loss, fake: Tensor) -> Tensor:
    """Return what the generator minimizes, a scalar, from the logits of its images.

    `bce` is the non-saturating form (Goodfellow et al. 2014, section 3), the others are the counterparts of `critic_loss`.
    """
    fake = fake.float()
    if kind == "bce":
        return F.softplus(-fake).mean()
    return (fake - 1).square().mean() if kind == "lsgan" else -fake.mean()


def squared_gradient(logits: Tensor, images: Tensor) -> Tensor:
    """R1's |grad_x D(x)|^2 per image (Mescheder et al. 2018, eq. 9): (B, ...) logits of images (B, C, H, W) -> (B,).

    The logits come from `images` as `differentiable` gives them. The result can be differentiated again.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3))


def differentiable(images: Tensor) -> Tensor:
    """The same images (B, C, H, W) as an input by which a critic's logits can be differentiated.

    It is a view and no leaf: what counts arithmetic hooks onto a network's inputs, and a leaf cannot be one of them.
    """
    return images.detach().requires_grad_().view_as(images)


def r1_weight(gamma: float, at: int | None, size: int) -> float:
    """R1's gamma for images of `size` pixels: it holds at `at` pixels and grows with their number; fixed when `at` is None."""
    return gamma if at is None else gamma * (size / at) ** 2


class FakeBuffer:
    """Tensors of one step that one phase makes and the next one uses, part by part.

    They live for one step, so they are no state.
    """

    def __init__(self) -> None:
        self._parts: dict[int, Tensor] = {}

    def put(self, part: int, images: Tensor) -> None:
        """Store what a part of the step made, (b, ...), detached."""
        self._parts[part] = images.detach()

    def get(self, part: int) -> Tensor:
        """Return what the same part of this step stored; `put` came before."""
        return self._parts[part]
