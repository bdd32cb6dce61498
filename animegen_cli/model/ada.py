"""Adaptive discriminator augmentation: Karras et al. 2020, "Training generative adversarial networks with limited data".

The `bgc` pipeline: pixel blitting, general geometric and color transformations, each drawn per image with probability p,
and the rule that moves p until the critic overfits as much as it is meant to. Everything is linear in the pixels and stays
on the device.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animegen_cli.model.nets.precision import full_precision

if TYPE_CHECKING:
    from animegen_cli.model.family import Combine

SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
"""Low-pass filter of the least asymmetric Daubechies wavelet with six vanishing moments (Daubechies 1992, table 6.3)."""

_MARGIN = 8


class Adaptive(nn.Module):
    """Augments with probability p, and moves p by the signs of the critic's logits of real images.

    All state is in buffers. What a step observes is counted when the next one begins, so that all of its parts see the same p.
    """

    combine: ClassVar[Combine] = {"new_signs": "sum", "new_images": "sum"}

    def __init__(self, *, target: float, speed: int, every: int = 4, start: float = 0.0) -> None:
        """Start with p = `start`.

        Args:
            target: wanted E[sign D(real)], in [-1, 1].
            speed: images in which p can go from 0 to 1.
            every: steps between two moves of p.
            start: first p.
        """
        super().__init__()
        self.target = target
        self.speed = speed
        self.every = every
        self.register_buffer("p", torch.tensor(float(start)))
        self.register_buffer("step", torch.tensor(-1))  # images seen when the step that is being counted began
        self.register_buffer("taps", torch.tensor(SYM6), persistent=False)
        for name in ("signs", "images", "steps", "new_signs", "new_images"):
            self.register_buffer(name, torch.zeros(()))
        self.p: Tensor
        self.taps: Tensor
        self.step: Tensor
        self.signs: Tensor
        self.images: Tensor
        self.steps: Tensor
        self.new_signs: Tensor
        self.new_images: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> the same shape, not clamped; differentiable twice."""
        with full_precision(images):
            images = blit(images, *random_blits(len(images), images.shape[2], self.p))
            images = warp(images, random_geometry(len(images), images.shape[2], self.p), self.taps)
            return recolor(images, random_colors(len(images), self.p))

    @torch.no_grad()
    def observe(self, logits: Tensor, images_seen: int) -> None:
        """Count the critic's logits (B, 1) of augmented real images, once for each part of a step; `images_seen` as in `Batch`."""
        self._close(images_seen)
        self.new_signs += logits.float().sign().sum()
        self.new_images += logits.numel()

    def _close(self, images_seen: int) -> None:
        """Count the last step when a new one begins, and move p when it was one of the steps that move it (section 3)."""
        counts = (self.step != images_seen).float()
        self.signs += counts * self.new_signs
        self.images += counts * self.new_images
        self.steps += counts * (self.new_images > 0)
        due = (self.steps >= self.every).float()
        move = (self.signs / self.images.clamp(min=1) - self.target).sign() * self.images / self.speed
        self.p.copy_((self.p + due * move).clamp(0, 1))
        for total in (self.signs, self.images, self.steps):
            total *= 1 - due
        self.new_signs.zero_()
        self.new_images.zero_()
        self.step.fill_(images_seen)


# ---- what is drawn (appendix B, figure "augmentation pipeline") ----------------------------------------------------


def _maybe(chance: Tensor, value: Tensor, neutral: float) -> Tensor:
    """`value` (B,) with this chance per image, else `neutral`."""
    return torch.where(torch.rand_like(value) < chance, value, torch.full_like(value, neutral))


def random_blits(count: int, size: int, p: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mirrored (0 or 1), quarter turns (0 to 3), and shifts right and down in pixels up to an eighth: float (B,) each."""
    draw = torch.rand(4, count, device=p.device)
    mirrored = _maybe(p, (draw[0] * 2).floor(), 0)
    turns = _maybe(p, (draw[1] * 4).floor(), 0)
    shifts = ((draw[2:] * 2 - 1) * 0.125 * size).round()
    on = (torch.rand(count, device=p.device) < p).float()
    return mirrored, turns, shifts[0] * on, shifts[1] * on


def random_geometry(count: int, size: int, p: Tensor) -> Tensor:
    """(B, 2, 3): where each output pixel comes from, in pixels from the image's center (x right, y down).

    Isotropic scaling, rotation, anisotropic scaling, rotation, fractional translation; the two rotations come with a
    probability that makes either of them happen with p.
    """
    normal = torch.randn(4, count, device=p.device)
    angles = (torch.rand(2, count, device=p.device) * 2 - 1) * math.pi
    turned = 1 - (1 - p).sqrt()
    log_scale, log_stretch = (_maybe(p, value * (0.2 * math.log(2)), 0) for value in normal[:2])
    before, after = (_maybe(turned, angle, 0) for angle in angles)
    on = (torch.rand(count, device=p.device) < p).float()
    shift = normal[2:] * on * (0.125 * size)
    stretch = torch.stack([log_stretch.neg().exp(), log_stretch.exp()], 1)[:, :, None]
    # output = T R_after S_aniso R_before S_iso input, so that the source is the inverses from left to right
    linear = rotation(-before) @ (stretch * rotation(-after)) * (-log_scale).exp()[:, None, None]
    return torch.cat([linear, -(linear @ shift.t()[:, :, None])], 2)


def random_colors(count: int, p: Tensor) -> Tensor:
    """(B, 3, 4): an affine map of colors; brightness, contrast, luma flip, hue and saturation in this order."""
    normal = torch.randn(3, count, device=p.device)
    uniform = torch.rand(2, count, device=p.device)
    brightness = _maybe(p, normal[0] * 0.2, 0)
    contrast = _maybe(p, (normal[1] * (0.5 * math.log(2))).exp(), 1)
    flipped = _maybe(p, (uniform[0] * 2).floor(), 0)
    hue = _maybe(p, (uniform[1] * 2 - 1) * math.pi, 0)
    saturation = _maybe(p, (normal[2] * math.log(2)).exp(), 1)
    return color_map(brightness, contrast, flipped, hue, saturation)


def rotation(angle: Tensor) -> Tensor:
    """Rotation matrices (B, 2, 2) of angles (B,) in radians."""
    c = angle.cos()
    s = angle.sin()
    return torch.stack([torch.stack([c, -s], 1), torch.stack([s, c], 1)], 1)


def color_map(brightness: Tensor, contrast: Tensor, flipped: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """(B, 3, 4) of (B,) each: x -> M x + t, where gray is the axis of the luma flip, the hue turn and the saturation."""
    eye = torch.eye(3, dtype=hue.dtype, device=hue.device)
    gray = torch.full_like(eye, 1 / 3)
    cross = (torch.roll(eye, 1, 0) - torch.roll(eye, -1, 0)) / math.sqrt(3)
    flip, c, s, much = (v[:, None, None] for v in (flipped, hue.cos(), hue.sin(), saturation))
    turned = c * eye + s * cross + (1 - c) * gray  # Rodrigues' formula
    linear = (gray + much * (eye - gray)) @ turned @ (eye - 2 * flip * gray) * contrast[:, None, None]
    return torch.cat([linear, linear.sum(2, keepdim=True) * brightness[:, None, None]], 2)


# ---- what is done -------------------------------------------------------------------------------------------------


def blit(images: Tensor, mirrored: Tensor, turns: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Mirror, turn by quarters (counter-clockwise), then shift; pixels are moved and never mixed, borders are reflected.

    Args:
        images: (B, C, S, S).
        mirrored: (B,), 1 where an image is mirrored left to right, else 0.
        turns: (B,) quarter turns, 0 to 3.
        right: (B,) whole pixels.
        down: (B,) whole pixels.
    """
    size = images.shape[2]
    last = size - 1
    line = torch.arange(size, device=images.device)
    mirrored, turns, right, down = (v.long()[:, None, None] for v in (mirrored, turns, right, down))

    def folded(position: Tensor) -> Tensor:
        position = position.remainder(2 * last)
        return torch.where(position > last, 2 * last - position, position)

    row, column = torch.broadcast_tensors(folded(line[:, None] - down), folded(line[None, :] - right))
    # undo the turn: one quarter takes (row, column) from (column, last - row)
    odd = turns % 2 == 1
    row, column = torch.where(odd, column, row), torch.where(odd, last - row, column)
    half = turns >= 2
    row = torch.where(half, last - row, row)
    column = torch.where(half, last - column, column)
    column = torch.where(mirrored == 1, last - column, column)
    index = (row * size + column).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).view_as(images)


def warp(images: Tensor, source: Tensor, taps: Tensor) -> Tensor:
    """Resample without aliasing: doubled by a wavelet's filter, looked up bilinearly, halved by the transposed filter.

    An orthogonal filter followed by its transpose is the identity, so an image that is not moved stays as it is.

    Args:
        images: (B, C, S, S), S > 8.
        source: (B, 2, 3) as `random_geometry` gives it.
        taps: an orthogonal low-pass filter such as SYM6.
    """
    size = images.shape[2]
    source = source.to(images.dtype)
    # Along an axis the filter is a matrix: far faster than convolutions of single channels.
    inner, outer = (_doubling(taps.to(images.dtype), side) for side in (size, size + 2 * _MARGIN))
    middle = sum(k * h for k, h in enumerate(SYM6)) / sum(SYM6)  # where an input pixel lies among its taps
    x = outer.t() @ F.pad(images, [_MARGIN] * 4, mode="reflect") @ outer
    doubled = x.shape[2]
    line = (torch.arange(2 * size + len(SYM6) - 2, dtype=images.dtype, device=images.device) - middle) / 2
    line = line - (size - 1) / 2
    at = torch.stack([line[None, :].expand(len(line), -1), line[:, None].expand(-1, len(line))], 2)
    at = at @ source[:, None, :, :2].transpose(2, 3) + source[:, None, None, :, 2]
    at = 2 * (at + (size - 1) / 2 + _MARGIN) + middle
    x = _Lookup.apply(x, (2 * at + 1) / doubled - 1)
    return inner @ x @ inner.t() / 4


def _doubling(taps: Tensor, side: int) -> Tensor:
    """(side, 2 side + 10): row i holds the taps from column 2 i on, scaled so that constants stay constant."""
    eye = torch.eye(side, dtype=taps.dtype, device=taps.device)
    return F.conv_transpose1d(eye[:, None], taps[None, None] * math.sqrt(2), stride=2)[:, 0]


def recolor(images: Tensor, maps: Tensor) -> Tensor:
    """Apply M x + t of `maps` (B, 3, 4) to each pixel of `images` (B, 3, H, W)."""
    maps = maps.to(images.dtype)
    return torch.baddbmm(maps[:, :, 3:], maps[:, :, :3], images.flatten(2)).view_as(images)


_BILINEAR = 0
_REFLECT = 1
"""Numbers by which `torch.grid_sampler_2d` names its two modes."""


class _Context(Protocol):
    """What torch hands to both directions of an autograd function."""

    sides: torch.Size
    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _Lookup(torch.autograd.Function):
    """Bilinear lookup as a linear map of the image: unlike torch's own it can be differentiated as often as needed."""

    @staticmethod
    def forward(ctx: _Context, images: Tensor, at: Tensor) -> Tensor:
        ctx.save_for_backward(at)
        ctx.sides = images.shape[2:]
        return torch.grid_sampler_2d(images, at, _BILINEAR, _REFLECT, False)

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None]:
        (at,) = ctx.saved_tensors
        return _Spread.apply(gradient, at, *ctx.sides), None


class _Spread(torch.autograd.Function):
    """The transpose of `_Lookup`."""

    @staticmethod
    def forward(ctx: _Context, values: Tensor, at: Tensor, height: int, width: int) -> Tensor:
        ctx.save_for_backward(at)
        images = values.new_empty(*values.shape[:2], height, width)  # only its shape is asked for
        spread = torch.ops.aten.grid_sampler_2d_backward
        return spread(values.contiguous(), images, at, _BILINEAR, _REFLECT, False, [True, False])[0]

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (at,) = ctx.saved_tensors
        return _Lookup.apply(gradient, at), None, None, None
