"""Adversarial losses and penalties against numbers worked by hand, and the buffer between phases."""

from __future__ import annotations

import math

import pytest
import torch

from animegen_cli.model.adversarial import (
    FakeBuffer,
    Loss,
    critic_loss,
    differentiable,
    generator_loss,
    r1_weight,
    squared_gradient,
)

REAL, FAKE = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 0.5])


def soft(x: float) -> float:
    return math.log(1 + math.exp(x))


@pytest.mark.parametrize(
    ("kind", "critic", "generator"),
    [
        ("bce", (soft(-2) + soft(0)) / 2 + (soft(-1) + soft(0.5)) / 2, (soft(1) + soft(-0.5)) / 2),
        ("lsgan", (1 + 1) / 2 + (1 + 0.25) / 2, (4 + 0.25) / 2),
        ("hinge", (0 + 1) / 2 + (0 + 1.5) / 2, 0.25),
        ("wgan", -0.25 - 1.0, 0.25),
    ],
)
def test_losses_by_hand(kind: Loss, critic: float, generator: float) -> None:
    assert critic_loss(kind, REAL, FAKE).item() == pytest.approx(critic, rel=1e-5)
    assert generator_loss(kind, FAKE).item() == pytest.approx(generator, rel=1e-5)


def test_smoothing_moves_the_real_target_alone() -> None:
    # 0.9 of the cross-entropy with 1 and 0.1 of that with 0
    real = sum(0.9 * soft(-x) + 0.1 * soft(x) for x in (2.0, 0.0)) / 2
    assert critic_loss("bce", REAL, FAKE, smooth=0.9).item() == pytest.approx(real + (soft(-1) + soft(0.5)) / 2)
    assert critic_loss("lsgan", REAL, FAKE, smooth=0.9).item() == pytest.approx((1.21 + 0.81) / 2 + 1.25 / 2)


def test_the_squared_gradient_against_differences() -> None:
    torch.manual_seed(0)
    images = torch.randn(3, 2, 2, 2, dtype=torch.float64)
    weight = torch.randn(8, dtype=torch.float64, requires_grad=True)

    def critic(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x.flatten(1) @ weight)

    given = differentiable(images)
    found = squared_gradient(critic(given), given)
    step = 1e-6
    with torch.no_grad():
        for row in range(3):
            slopes = []
            for place in range(8):
                moved = images[row].flatten().clone()
                moved[place] += step
                slopes.append((critic(moved.view(1, 2, 2, 2)) - critic(images[row : row + 1])).item() / step)
            assert found[row].item() == pytest.approx(sum(slope**2 for slope in slopes), rel=1e-4)
    found.sum().backward()  # the penalty itself has a gradient
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0
    assert not images.requires_grad, "the batch's own images stay as they are"


def test_gamma_grows_with_the_number_of_pixels() -> None:
    assert [r1_weight(0.8, 64, size) for size in (32, 64, 128)] == pytest.approx([0.2, 0.8, 3.2])
    assert r1_weight(0.8, None, 128) == 0.8


def test_each_part_gets_its_own_fakes_of_this_step() -> None:
    whole, fakes = torch.arange(12.0, requires_grad=True).view(6, 2), FakeBuffer()
    for part in (1, 0):
        fakes.put(part, whole[3 * part : 3 * part + 3])
    assert torch.equal(fakes.get(0), whole[:3])
    assert torch.equal(fakes.get(1), whole[3:])
    assert not fakes.get(0).requires_grad
    fakes.put(0, whole[:1])  # a new step begins
    assert len(fakes.get(0)) == 1
