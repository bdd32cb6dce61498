"""Errors between images against numbers worked by hand and a slow, plain formula."""

from __future__ import annotations

import math

import pytest
import torch

from animegen_cli.metrics.fidelity import mse, psnr, ssim


def test_errors_by_hand() -> None:
    black = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    other = black.clone()
    other[0, :, :, :8] = 51  # a fifth of the range on half of the pixels
    assert mse(black, other).tolist() == pytest.approx([0.02, 0.0])
    assert psnr(black, other).tolist() == pytest.approx([-10 * math.log10(0.02), 99.0])
    assert ssim(black, other)[1].item() == 1


@pytest.mark.parametrize("size", [9, 16])
def test_ssim_against_a_plain_formula(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, generator=generator)
    y = (x.float() * 0.7 + torch.randn(x.shape, generator=generator) * 20).clamp(0, 255).to(torch.uint8)
    window = 11 if size >= 11 else 9
    weights = [[math.exp(-((i - window // 2) ** 2 + (j - window // 2) ** 2) / 4.5) for j in range(window)]
               for i in range(window)]  # fmt: skip
    total = sum(map(sum, weights))
    found = []
    for c in range(3):
        for top in range(size - window + 1):
            for left in range(size - window + 1):
                pairs = [(weights[i][j] / total, x[0, c, top + i, left + j].item(), y[0, c, top + i, left + j].item())
                         for i in range(window) for j in range(window)]  # fmt: skip
                mx, my = (sum(w * pair[k] for w, *pair in pairs) for k in (0, 1))
                vx, vy = (sum(w * (pair[k] - m) ** 2 for w, *pair in pairs) for k, m in ((0, mx), (1, my)))
                both = sum(w * (a - mx) * (b - my) for w, a, b in pairs)
                c1, c2 = 6.5025, 58.5225
                found.append((2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    assert ssim(x, y).item() == pytest.approx(sum(found) / len(found), rel=1e-9)
