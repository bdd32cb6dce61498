"""Adaptive augmentation against plain formulas, its gradients, and the rule that moves its probability."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from animegen_cli.model import ada
from animegen_cli.train.parts import Buffers, TreeSum

TAPS = torch.tensor(ada.SYM6, dtype=torch.float64)


def pictures(count: int = 2, size: int = 16) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(count, 3, size, size, dtype=torch.float64) * 2 - 1


def smooth(size: int = 32) -> Tensor:
    """One image of a few slow waves, which every good resampling leaves as they are."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size, dtype=torch.float64)] * 2, indexing="ij")
    return torch.stack([torch.sin(2 * x + y), torch.cos(2 * y - x), x * y])[None]


def still(count: int) -> Tensor:
    return torch.eye(3, dtype=torch.float64)[:2].expand(count, 2, 3).clone()


def whole(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_the_filter_is_an_orthogonal_wavelet_with_six_vanishing_moments() -> None:
    assert float(TAPS.sum()) == pytest.approx(math.sqrt(2), abs=1e-12)
    for shift in range(6):
        product = float((TAPS[2 * shift :] * TAPS[: len(TAPS) - 2 * shift]).sum())
        assert product == pytest.approx(float(shift == 0), abs=1e-10)
    signs = torch.tensor([(-1.0) ** k for k in range(12)], dtype=torch.float64)
    k = torch.arange(12, dtype=torch.float64)
    for moment in range(6):
        assert float((signs * TAPS * (k - 5.5) ** moment).sum()) == pytest.approx(0, abs=1e-6)


def test_nothing_happens_at_probability_zero() -> None:
    images = pictures(4).float()
    torch.testing.assert_close(ada.Adaptive(target=0.6, speed=1000)(images), images, rtol=0, atol=1e-4)


def test_a_still_warp_is_the_identity() -> None:
    images = pictures()
    torch.testing.assert_close(ada.warp(images, still(2), TAPS), images, rtol=0, atol=1e-9)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [0, 1])
def test_blits_are_exact(mirrored: int, turns: int) -> None:
    images = pictures(1)
    found = ada.blit(images, whole(mirrored), whole(turns), whole(2), whole(-3))
    wanted = torch.rot90(images.flip(3) if mirrored else images, turns, (2, 3))
    size = images.shape[2]
    assert torch.equal(found[:, :, : size - 3, 2:], wanted[:, :, 3:, : size - 2])
    # what comes in from outside is the reflection
    assert torch.equal(found[0, :, 0, 1], wanted[0, :, 3, 1])
    assert torch.equal(found[0, :, 0, 0], wanted[0, :, 3, 2])


def test_each_image_is_moved_by_its_own_numbers() -> None:
    images = pictures(3)
    together = ada.blit(images, whole(0, 1, 1), whole(3, 0, 2), whole(1, 0, -2), whole(0, 2, 1))
    alone = [
        ada.blit(images[i : i + 1], whole(m), whole(t), whole(r), whole(d))
        for i, (m, t, r, d) in enumerate([(0, 3, 1, 0), (1, 0, 0, 2), (1, 2, -2, 1)])
    ]
    assert torch.equal(together, torch.cat(alone))


def test_a_warp_by_whole_pixels_is_a_shift() -> None:
    images = pictures(1, 24)
    source = still(1)
    source[:, :, 2] = torch.tensor([2.0, -1.0])  # the output's pixel comes from 2 to the right and 1 above
    found = ada.warp(images, source, TAPS)
    torch.testing.assert_close(found[:, :, 6:-6, 6:-6], images[:, :, 5:-7, 8:-4], rtol=0, atol=1e-9)


def test_a_warp_turns_and_scales_about_the_center() -> None:
    image = smooth()
    turned = ada.warp(
        image, torch.cat([ada.rotation(torch.tensor([math.pi / 2])).double(), still(1)[:, :, 2:]], 2), TAPS
    )
    # source = R out: the pixel to the right of the center comes from below it, a turn counter-clockwise
    wanted = torch.rot90(image, 1, (2, 3))
    torch.testing.assert_close(turned[..., 4:-4, 4:-4], wanted[..., 4:-4, 4:-4], rtol=0, atol=0.01)
    halved = ada.warp(image, still(1) * 0.5, TAPS)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 32, dtype=torch.float64) / 2] * 2, indexing="ij")
    enlarged = torch.stack([torch.sin(2 * x + y), torch.cos(2 * y - x), x * y])[None]
    torch.testing.assert_close(halved, enlarged, rtol=0, atol=0.01)


def test_halving_does_not_alias() -> None:
    """Stripes of one pixel, seen from twice as far, are gray."""
    stripes = torch.ones(1, 1, 32, 32, dtype=torch.float64)
    stripes[..., ::2] = -1
    found = ada.warp(stripes, still(1) * torch.tensor([[[1.5], [1.5]]]), TAPS)
    assert float(found[..., 8:-8, 8:-8].abs().max()) < 0.35


def test_a_lookup_can_be_differentiated_twice() -> None:
    torch.manual_seed(1)
    images = torch.randn(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    at = torch.rand(1, 4, 4, 2, dtype=torch.float64) * 2.4 - 1.2
    assert torch.autograd.gradcheck(lambda x: ada._Lookup.apply(x, at), images)
    assert torch.autograd.gradgradcheck(lambda x: ada._Lookup.apply(x, at).pow(3), images)


def test_colors_are_the_plain_matrices() -> None:
    """Each of the five steps by hand on homogeneous colors."""
    angle, images = 0.7, pictures(1)
    brightness, contrast, saturation = 0.3, 1.4, 0.6
    maps = ada.color_map(
        *(torch.tensor([v], dtype=torch.float64) for v in (brightness, contrast, 1, angle, saturation))
    )
    v = torch.ones(3, dtype=torch.float64) / math.sqrt(3)
    cross = torch.tensor([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]], dtype=torch.float64)
    turn = torch.linalg.matrix_exp(angle * cross)
    flip = torch.eye(3, dtype=torch.float64) - 2 * torch.outer(v, v)
    saturate = torch.outer(v, v) + (torch.eye(3, dtype=torch.float64) - torch.outer(v, v)) * saturation
    pixels = images[0].flatten(1)
    wanted = saturate @ turn @ flip @ (contrast * (pixels + brightness))
    torch.testing.assert_close(ada.recolor(images, maps)[0].flatten(1), wanted, rtol=0, atol=1e-12)


def test_at_probability_one_most_of_everything_happens() -> None:
    torch.manual_seed(0)
    p = torch.tensor(1.0)
    mirrored, turns, right, down = ada.random_blits(400, 64, p)
    assert float(mirrored.mean()) == pytest.approx(0.5, abs=0.08)
    assert sorted(turns.unique().tolist()) == [0, 1, 2, 3]
    assert float(right.abs().max()) == float(down.abs().max()) == 8
    source = ada.random_geometry(4000, 64, p)
    # two stretches of deviation 0.2 ln 2, of which one keeps the area
    log_area = torch.linalg.det(source[:, :, :2]).log() / 2
    assert float(log_area.std()) == pytest.approx(0.2 * math.log(2), rel=0.06)
    shift = -torch.linalg.solve(source[:, :, :2], source[:, :, 2:])
    assert float(shift.std()) == pytest.approx(8, rel=0.06)
    gray = ada.random_colors(4000, p).sum(1).mean(1)  # brightness of a color is only flipped, scaled and moved
    assert float((gray < 0).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_probability_is_the_share_of_changed_images() -> None:
    torch.manual_seed(0)
    source = ada.random_geometry(4000, 64, torch.tensor(0.3))
    shifted = (source[:, :, 2].abs() > 0).any(1).float().mean()
    assert float(shifted) == pytest.approx(0.3, abs=0.03)
    maps = ada.random_colors(4000, torch.tensor(0.3))
    assert float((maps[:, :, 3].abs() > 0).any(1).float().mean()) == pytest.approx(0.3, abs=0.03)


def test_gradients_reach_the_images_through_all_of_it() -> None:
    torch.manual_seed(3)
    images = pictures(4).float().requires_grad_()
    ada.Adaptive(target=0.6, speed=1000, start=1.0)(images).square().sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert (images.grad.abs().amax((1, 2, 3)) > 0).all()


# ---- the rule ---------------------------------------------------------------------------------------------------


def told(control: ada.Adaptive, signs: list[float], steps: int, batch: int = 8, first: int = 0) -> list[float]:
    """p after each step in which the critic answers with logits of these signs."""
    found = []
    logits = torch.tensor([signs[i % len(signs)] * 3 for i in range(batch)])[:, None]
    for step in range(steps):
        control.observe(logits, first + step * batch)
        found.append(float(control.p))
    return found


def test_p_rises_with_overfitting_by_the_images_seen() -> None:
    control = ada.Adaptive(target=0.6, speed=320, every=4)
    p = told(control, [1.0], 10)
    # a step counts when the next begins: moves of 4 * 8 / 320 at the fifth and the ninth
    assert p == pytest.approx([0, 0, 0, 0, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2])


def test_p_falls_below_the_target_and_stays_in_its_range() -> None:
    control = ada.Adaptive(target=0.6, speed=320, every=4, start=0.15)
    assert told(control, [1.0, 1.0, 1.0, -1.0], 9)[-1] == 0  # mean sign 0.5: twice down by 0.1
    control = ada.Adaptive(target=0.6, speed=32, every=4, start=0.5)
    assert told(control, [1.0], 9)[-1] == 1


def test_parts_of_a_step_count_as_the_whole() -> None:
    """The trainer's own bookkeeping of buffers, which every part begins afresh with."""
    whole_, pieces = (ada.Adaptive(target=0.6, speed=320) for _ in "ab")
    kept = Buffers(pieces)
    torch.manual_seed(0)
    for step in range(30):
        logits = torch.randn(8, 1) + 1.5
        whole_.observe(logits, step * 8)
        kept.begin()
        total = TreeSum()
        for part in range(4):
            pieces.observe(logits[2 * part : 2 * part + 2], step * 8)
            total.add(kept.of_part(part, 4))
            if part == 0 and step == 3:  # a step that is given up and taken again
                kept.restore()
                pieces.observe(logits[:2], step * 8)
            if part < 3:
                kept.restore()
        kept.finish(total.total(), 4)
    assert float(whole_.p) > 0
    for name, value in whole_.state_dict().items():
        assert torch.equal(value, pieces.state_dict()[name]), name


def test_the_rule_goes_on_after_a_kill() -> None:
    unbroken, first, second = (ada.Adaptive(target=0.6, speed=320) for _ in "abc")
    told(unbroken, [1.0], 11)
    told(first, [1.0], 6)
    second.load_state_dict(first.state_dict())
    told(second, [1.0], 5, first=48)
    assert float(unbroken.p) == float(second.p) == pytest.approx(0.2)
