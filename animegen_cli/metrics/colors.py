"""Hair color, eye color and brightness of aligned faces from pixels alone, and distances between their distributions.

No network and no label: where hair and eyes lie in a crop of a face is known well enough, what is there and is not
skin is hair or iris, and its color gets the name of the nearest entry of a palette, in OKLab (Ottosson 2020), where
equal steps look about equal. The palettes are medians of faces with known labels; `benchmarks/colors.py` finds and
checks them. How often the names agree with labels stands in docs/metrics.md.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 16
"""Side in pixels below which faces have no eyes to speak of."""
HAIR_PALETTE: dict[str, tuple[str, ...]] = {
    "black": ("#444048", "#403c4c"),
    "brown": ("#846054", "#7c5444"),
    "blonde": ("#d8b084", "#ccb46c"),
    "orange": ("#d08c6c", "#cc7c44"),
    "red": ("#a44c58", "#b04044"),
    "pink": ("#d48c98", "#d488a8"),
    "purple": ("#7c5c84", "#8460b0"),
    "blue": ("#5c608c", "#4c64b8"),
    "aqua": ("#788490", "#5cb4c0"),
    "green": ("#788474", "#5c9c64"),
    "silver": ("#a89ca8", "#c8aca0", "#848494", "#b0b0bc"),
}
"""What each name looks like where hair is found, in sRGB. Silver is what tags call gray or white."""
EYE_PALETTE: dict[str, tuple[str, ...]] = {
    "black": ("#545054", "#545058", "#686870"),
    "brown": ("#705448", "#845848", "#805c50", "#c4703c"),
    "yellow": ("#8c744c", "#c0a44c"),
    "red": ("#904048", "#b84448"),
    "pink": ("#784c5c", "#c05c88"),
    "purple": ("#68487c", "#8450b0"),
    "blue": ("#405484", "#446cb8"),
    "aqua": ("#486c74", "#489ca8"),
    "green": ("#486c54", "#4c9458"),
}
"""The same of irises. Black holds what tags call gray, brown what they call orange."""
HAIR = tuple(HAIR_PALETTE)
"""The names of hair colors."""
EYES = tuple(EYE_PALETTE)
"""The names of eye colors."""

_CHUNK = 256
_GRID = 64  # eyes are looked for on a grid of so many cells, hair on one of half as many
_HAIR_LIGHTNESS = 0.2  # what a step in lightness counts beside one in color: light falls on hair
_EYE_LIGHTNESS = 0.1
_NOT_SKIN = 0.12  # distance from skin, color counted twice
_LINEAR_TO_CONES = torch.tensor([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
_CONES_TO_OKLAB = torch.tensor([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip


def hair(images: Tensor) -> Tensor:
    """Name the hair color of aligned faces, uint8 (n, 3, H, W): places in `HAIR`, int64 (n,) on the CPU."""
    return torch.cat([_named(of_hair(part), HAIR_PALETTE, _HAIR_LIGHTNESS) for part in images.split(_CHUNK)])


def eyes(images: Tensor) -> Tensor:
    """Name the eye color of aligned faces, uint8 (n, 3, H, W): places in `EYES`, int64 (n,) on the CPU."""
    return torch.cat([_named(of_irises(part), EYE_PALETTE, _EYE_LIGHTNESS) for part in images.split(_CHUNK)])


def brightness(images: Tensor) -> Tensor:
    """Mean luma (ITU-R BT.601) of each image, uint8 (n, 3, H, W) -> float64 (n,) in gray levels, 0..255."""
    means = torch.cat([part.double().mean((2, 3)) for part in images.split(_CHUNK)])
    return means @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=images.device)


def oklab(images: Tensor) -> Tensor:
    """Convert sRGB (n, 3, ...) in 0..255 to OKLab (n, 3, ...), float32: lightness in 0..1, green to red, blue to yellow."""
    value = images.float() / 255
    linear = torch.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    cones = torch.einsum("ij,nj...->ni...", _LINEAR_TO_CONES.to(value.device), linear)
    return torch.einsum("ij,nj...->ni...", _CONES_TO_OKLAB.to(value.device), cones ** (1 / 3))


# ---- what lies where ------------------------------------------------------------------------------------------


def of_hair(images: Tensor) -> Tensor:
    """The color of the hair, OKLab (n, 3), of images uint8 (n, 3, H, W).

    The median, channel by channel, of what lies above and beside the face, skin left out.
    """
    colors = oklab(F.adaptive_avg_pool2d(images.float(), _GRID // 2))
    skin = colors[:, :, 14:23, 12:20].flatten(2).median(2).values
    place = torch.zeros(_GRID // 2, _GRID // 2, dtype=torch.bool, device=images.device)
    place[1:14, 4:28] = place[10:20, 2:7] = place[10:20, 25:30] = True
    found = colors[:, :, place]
    is_hair = _from_skin(found, skin) > _NOT_SKIN
    is_hair[is_hair.float().mean(1) < 0.25] = True  # hair of the color of skin
    return torch.where(is_hair[:, None], found, torch.nan).nanmedian(2).values


def of_irises(images: Tensor) -> Tensor:
    """The color of both irises, OKLab (n, 3), of images uint8 (n, 3, H, W).

    The mean around their lower halves, heavier where the color is far from skin.
    """
    colors = oklab(F.adaptive_avg_pool2d(images.float(), _GRID))
    skin = colors[:, :, 28:46, 24:40].flatten(2).median(2).values
    salience = _from_skin(colors.flatten(2), skin).unflatten(1, (_GRID, _GRID)).clamp(max=0.6)
    y, x = _between_eyes(salience)
    down = torch.arange(-2, 11, device=images.device)
    right = torch.arange(-6, 7, device=images.device)
    bell = torch.exp(-((down[:, None] - 4.0) ** 2 + right[None] ** 2) / (2 * 2.0**2))
    number = torch.arange(len(images), device=images.device)[:, None, None, None]
    rows = (y[:, None, None, None] + down[None, None, :, None]).clamp(0, _GRID - 1)
    sides = x[:, None] + torch.tensor([-12, 12], device=images.device)
    columns = (sides[:, :, None, None] + right[None, None, None]).clamp(0, _GRID - 1)
    found = colors.permute(0, 2, 3, 1)[number, rows, columns]  # (n, 2, 13, 13, 3)
    colorful = (found[..., 1:] - skin[:, None, None, None, 1:]).square().sum(-1)
    weight = bell * colorful * (salience[number, rows, columns] > 0.1) + 1e-9
    return (found * weight[..., None]).sum((1, 2, 3)) / weight.sum((1, 2, 3))[:, None]


def _between_eyes(salience: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column (n,) midway between the eyes of salience maps (n, 64, 64).

    Where two boxes at the eyes' distance hold most of what is unlike skin, beyond what cheeks and nose hold.
    """
    template = torch.zeros(31, 43, device=salience.device)
    for left in (5, 29):
        template[6:18, left : left + 9] = 1 / (2 * 12 * 9)
        template[21:29, left : left + 9] = -0.5 / (2 * 8 * 9)
    template[8:29, 17:26] = -0.5 / (21 * 9)
    likely = F.conv2d(salience[:, None], template[None, None])[:, 0, 8:29, 6:17]  # rows 20..40, columns 27..37
    best = likely.flatten(1).argmax(1)
    return best // likely.shape[2] + 20, best % likely.shape[2] + 27


def _from_skin(colors: Tensor, skin: Tensor) -> Tensor:
    """How far colors (n, 3, m) are from each face's skin (n, 3), color counted twice as much as lightness: (n, m)."""
    apart = colors - skin[:, :, None]
    return (apart[:, 0] ** 2 + 4 * apart[:, 1] ** 2 + 4 * apart[:, 2] ** 2).sqrt()


# ---- names ----------------------------------------------------------------------------------------------------


def _named(colors: Tensor, palette: dict[str, tuple[str, ...]], lightness: float) -> Tensor:
    """The place (n,) in the palette of the nearest color; steps in lightness count `lightness` times."""
    known, owner = _points(tuple(palette.values()))
    weight = torch.tensor([lightness, 1, 1])
    return owner[torch.cdist(colors.cpu() * weight, known * weight).argmin(1)]


@functools.cache
def _points(palette: tuple[tuple[str, ...], ...]) -> tuple[Tensor, Tensor]:
    """OKLab (p, 3) of a palette's colors, and which name (p,) each belongs to."""
    colors = [list(bytes.fromhex(one.removeprefix("#"))) for names in palette for one in names]
    return oklab(torch.tensor(colors)), torch.tensor([i for i, names in enumerate(palette) for _ in names])
