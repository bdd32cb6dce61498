"""Labels as conditions: which attributes a family conditions on, and how they are left out now and then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from animegen_cli.config import Section
from animegen_cli.errors import ConfigError, did_you_mean
from animegen_cli.model.family import DataSpec, Input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.model.noise import Noise

MOST_REQUESTS = 4096
"""Most rows of labels that a weights file remembers of its training set."""


@dataclass(frozen=True, kw_only=True)
class LabelSection(Section):
    """What a diffusion family knows of labels; the base of its section `model:`."""

    labels: tuple[str, ...] | Literal["all"] = ()
    """Attributes of the data set to condition on."""
    label_drop: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of images trained without labels, for classifier-free guidance."""


def drop_labels(labels: Tensor, probability: float) -> Tensor:
    """Replace labels by -1 ("unknown") in training, so that every subset of them can be asked for.

    Whole rows with this probability (Ho & Salimans 2022, algorithm 1). Of the other rows with several attributes, half
    keep each attribute with a probability that is drawn per row: then `hair=pink` alone is nothing new to the network.

    Args:
        labels: int64, shape (B, A).
        probability: share of rows that become unknown as a whole; 0 keeps every label.
    """
    if probability == 0:
        return labels
    chance = torch.rand(len(labels), 1, device=labels.device)
    unknown = (chance < probability).expand_as(labels)
    if labels.shape[1] > 1:
        kept = torch.rand(labels.shape, device=labels.device) < torch.rand(len(labels), 1, device=labels.device)
        unknown = unknown | ((chance > (1 + probability) / 2) & ~kept)
    return labels.masked_fill(unknown, -1)


def chosen_labels(wanted: tuple[str, ...] | Literal["all"], data: DataSpec) -> tuple[str, ...]:
    """The attributes to condition on, in the data set's order; ConfigError when the set lacks one."""
    if wanted == "all":
        return tuple(data.attributes)
    for name in wanted:
        if name not in data.attributes:
            raise ConfigError(
                f"the data set has no label `{name}`",
                hint=did_you_mean(name, data.attributes)
                if data.attributes
                else "it has no labels: remove `model.labels`",
            )
    return tuple(name for name in data.attributes if name in wanted)


def pick_labels(labels: Tensor | None, names: tuple[str, ...], data: DataSpec) -> Tensor | None:
    """The columns of `labels` (B, A) that belong to `names`; None when there are none."""
    if labels is None or not names:
        return None
    columns = list(data.attributes)
    return labels[:, [columns.index(name) for name in names]]


def spread_labels(labels: Tensor | None, names: tuple[str, ...], data: DataSpec) -> Tensor | None:
    """The inverse of `pick_labels`: (B, len(names)) -> (B, A), the other attributes unknown."""
    if labels is None:
        return None
    unknown = torch.full_like(labels[:, 0], -1)
    return torch.stack([labels[:, names.index(a)] if a in names else unknown for a in data.attributes], dim=1)


def requests_of(labels: Tensor) -> tuple[tuple[int, ...], ...]:
    """The rows of `labels` (n, A), sorted; of more than `MOST_REQUESTS` so many, evenly spaced: each row keeps its share.

    Spacing loses what fewer than one image in `MOST_REQUESTS` has, and no share is off by more than that.
    """
    if not labels.shape[1]:
        return ()
    rows = sorted(map(tuple, labels.tolist()))
    count = min(len(rows), MOST_REQUESTS)
    return tuple(rows[(2 * i + 1) * len(rows) // (2 * count)] for i in range(count))


def drawn_labels(labels: Tensor | None, names: tuple[str, ...], noise: Noise, data: DataSpec) -> Tensor | None:
    """The columns of what is asked for that belong to `names`, (B, len(names)); what is left open comes from the training set.

    A row draws what it leaves open together, from the training images that have what it does ask for, by its own
    seed alone. A request that no training image has stays as it is, and so does every one when the weights do not know
    their training set's labels. None without names, and where nothing is asked for and nothing known.

    Args:
        labels: (B, A) int64 with -1 for what is left open, or None for all of it.
        names: attributes that the family conditions on.
        noise: of the images, B rows; none of its draws is used up.
        data: holds the training set's labels.
    """
    if not names or not data.requests:
        return pick_labels(labels, names, data)
    if labels is None:
        labels = torch.full((len(noise), len(data.attributes)), -1, device=noise.device)
    known = torch.tensor(data.requests, device=labels.device)
    fits = ((known == labels[:, None]) | (labels[:, None] < 0)).all(2)
    count = fits.cumsum(1)
    share = noise.share()
    place = (share * count[:, -1].to(share.device)).floor().to(count)
    chosen = known[(count <= place[:, None]).sum(1).clamp(max=len(known) - 1)]
    return pick_labels(torch.where(count[:, -1:] > 0, chosen, labels), names, data)


def label_input(names: tuple[str, ...], data: DataSpec, *, drawn: bool = False) -> dict[str, Input]:
    """What an exported network takes besides its noise; nothing where there are no labels. `drawn` as by `drawn_labels`."""
    if not names:
        return {}
    about = f"indices of {', '.join(names)} in this order; -1 is unknown"
    columns = [list(data.attributes).index(name) for name in names]
    rows = tuple(tuple(row[column] for column in columns) for row in data.requests) if drawn else ()
    return {
        "labels": Input("labels", about, (len(names),), tuple(len(data.attributes[name]) for name in names), rows=rows)
    }


class Labels(nn.Module):
    """One learned vector per value of each attribute, summed over the attributes; an unknown value adds nothing."""

    def __init__(self, classes: Sequence[int], width: int) -> None:
        """`classes`: number of values of each attribute, at least one attribute."""
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, width) for count in classes)

    def forward(self, labels: Tensor) -> Tensor:
        """(B, A) int64, -1 unknown -> (B, width) float32."""
        columns = [
            table(column.clamp(min=0)).float() * (column >= 0)[:, None]
            for column, table in zip(labels.unbind(1), self.tables, strict=True)
        ]
        return torch.stack(columns).sum(0)
