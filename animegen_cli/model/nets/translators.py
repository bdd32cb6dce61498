"""What translators between two domains share: the batch's photographs, the figures that show a failure, and its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from animegen_cli.errors import ConfigError, DataError
from animegen_cli.model.family import Batch, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in brightness (ITU-R BT.601)."""
INVERTED = -0.2
"""Correlation of brightness below which colors are inverted: unrelated pictures lie near 0, faithful ones above 0.5."""
WON = 0.98
"""Share of patches that a critic classifies correctly above which its gradient gives no direction any more."""
COPIED = 0.02
"""Mean change below which a translation copies: under three gray levels of 255, in units of [-1, 1]."""


def photos_of(batch: Batch) -> Tensor:
    """Return the photographs (B, 3, H, W) in [-1, 1]; DataError where the data set has none."""
    if batch.photos is None:
        raise DataError(
            "the data set has one domain, and a translator needs two",
            hint="prepare one with `animegen prepare --photos PHOTOS --anime FACES`",
        )
    return batch.photos


def luma_correlation(images: Tensor, others: Tensor) -> Tensor:
    """Mean over the batch of the correlation, in [-1, 1], of the BT.601 brightness of (B, 3, H, W) and (B, 3, H, W)."""
    weights = images.new_tensor(LUMA).view(1, 3, 1, 1)
    a, b = ((pixels.detach().float() * weights).sum(1).flatten(1) for pixels in (images, others))
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)).mean()


def patch_accuracy(of_real: Tensor, of_fake: Tensor, border: float) -> Tensor:
    """Share of patches that a critic classifies correctly, a scalar: logits above `border` for real images, below for fake ones."""
    return ((of_real > border).float().mean() + (of_fake < border).float().mean()).detach() / 2


def check_quarters(size: int) -> None:
    """Refuse with a ConfigError a size in pixels that a generator with two halvings cannot give back."""
    if size % 4:
        raise ConfigError(
            f"the generator cannot halve {size} pixels twice",
            hint="prepare the set with a multiple of 4, as `animegen prepare --photos ./photos --anime ./anime "
            f"--resolution {max(size // 4, 2) * 4}` does",
        )


def color_inversion(figures: Mapping[str, float], name: str, way: str, flag: str) -> list[Finding]:
    """Find that bright became dark: `figures[name]` is the `luma_correlation` of the direction `way`."""
    correlation = figures.get(name, 0.0)
    if correlation >= INVERTED:
        return []
    says = f"the brightness of {way} has a correlation of {correlation:.2f} with its source"
    return [Finding("color inversion", says, flag)]


def critic_wins(figures: Mapping[str, float], flag: str) -> list[Finding]:
    """Find that a critic is always right, from which the generators learn nothing."""
    accuracy = figures.get("D/accuracy", 0.0)
    if accuracy <= WON:
        return []
    return [Finding("critic wins", f"{accuracy:.1%} of the patches are classified correctly", flag)]


def copies(figures: Mapping[str, float], flag: str) -> list[Finding]:
    """Find that nothing is changed, which is the cheapest way to preserve the content."""
    change = figures.get("G/change", 1.0)
    says = f"a translated photograph differs from its source by {change:.3f} of [-1, 1]"
    return [Finding("copies its input", says, flag)] if change < COPIED else []
