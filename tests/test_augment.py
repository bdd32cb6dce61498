"""Differentiable augmentation against what a person would do pixel by pixel, and its gradients against differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from animegen_cli.model.augment import Kind, augment, color, cutout, translation

ALL: tuple[Kind, ...] = ("color", "translation", "cutout")


def pictures(count: int = 8, size: int = 16) -> Tensor:
    torch.manual_seed(3)
    return torch.rand(count, 3, size, size) * 1.6 - 0.8


def test_translation_shifts_by_whole_pixels() -> None:
    images = pictures(32)
    torch.manual_seed(0)
    moved = translation(images)
    shifts = []
    for before, after in zip(images, moved, strict=True):
        fits = []
        for down in range(-2, 3):
            for right in range(-2, 3):
                expected = torch.zeros_like(before)
                for y in range(16):
                    for x in range(16):
                        if 0 <= y + down < 16 and 0 <= x + right < 16:
                            expected[:, y, x] = before[:, y + down, x + right]
                if torch.equal(expected, after):
                    fits.append((down, right))
        assert len(fits) == 1, "no shift of up to an eighth of a side gives this image"
        shifts += fits
    assert {down for down, _ in shifts} == {right for _, right in shifts} == {-2, -1, 0, 1, 2}


def test_cutout_grays_one_rectangle() -> None:
    images = pictures(64)
    torch.manual_seed(0)
    cut = cutout(images)
    heights = set()
    for before, after in zip(images, cut, strict=True):
        gone = (after == 0).all(0)
        rows, columns = gone.any(1), gone.any(0)
        assert torch.equal(gone, rows[:, None] & columns[None, :]), "not a rectangle"
        assert torch.equal(torch.where(gone, before, after), before), "pixels outside changed"
        for side in (rows, columns):
            assert 4 <= int(side.sum()) <= 8, "the center lies inside, so at least half of half a side does"
            assert int((side[1:] != side[:-1]).sum()) <= 2, "in one piece"
        heights.add(int(rows.sum()))
    assert 8 in heights
    assert min(heights) < 8


def test_color_is_brightness_saturation_and_contrast() -> None:
    images = pictures(256)
    torch.manual_seed(0)
    changed = color(images)
    brightness = (changed - images).mean((1, 2, 3))
    assert -0.5 <= float(brightness.min()) < -0.4
    assert 0.4 < float(brightness.max()) <= 0.5
    gray = images.mean(1)
    gray_after = changed.mean(1)
    contrast = gray_after.flatten(1).std(1) / gray.flatten(1).std(1)
    assert 0.5 <= float(contrast.min()) < 0.55
    assert 1.45 < float(contrast.max()) <= 1.5
    hue = images - gray[:, None]
    hue_after = changed - gray_after[:, None]
    saturation = (hue * hue_after).sum((1, 2, 3)) / hue.square().sum((1, 2, 3))
    torch.testing.assert_close(hue_after, hue * saturation.view(-1, 1, 1, 1), atol=1e-5, rtol=1e-4)
    assert 0 <= float((saturation / contrast).min()) < 0.1
    assert 1.9 < float((saturation / contrast).max()) <= 2.0001


@pytest.mark.parametrize("kinds", [("color",), ("translation",), ("cutout",), ALL])
def test_gradients_flow(kinds: tuple[Kind, ...]) -> None:
    images = pictures(2, 8).double().requires_grad_()

    def seen(x: Tensor) -> Tensor:
        torch.manual_seed(5)
        return augment(x, kinds)

    assert torch.autograd.gradcheck(seen, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: seen(x).pow(3), images, fast_mode=True)


def test_random_numbers_come_from_the_global_generator() -> None:
    images = pictures(4)[:1].expand(4, -1, -1, -1)
    torch.manual_seed(1)
    first = augment(images, ALL)
    torch.manual_seed(1)
    assert torch.equal(augment(images, ALL), first)
    assert not torch.equal(augment(images, ALL), first)
    assert not torch.equal(first[0], first[1]), "each image has its own"


def test_nothing_chosen_changes_nothing() -> None:
    images = pictures()
    assert augment(images, ()) is images


def test_types_and_layouts_stay() -> None:
    images = pictures().to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    changed = augment(images, ALL)
    assert changed.dtype is torch.bfloat16
    assert changed.shape == images.shape
    assert changed.is_contiguous(memory_format=torch.channels_last)
