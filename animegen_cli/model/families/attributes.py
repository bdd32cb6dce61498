"""A classifier of a face's attributes: it draws nothing, and names what others have drawn.

Residual blocks (He et al. 2016) over all attributes at once, each with a linear head of its own. Color is the signal, so
no augmentation touches it. Legend: B batch, D features, V values of an attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from animegen_cli.config import Sampling, Section
from animegen_cli.errors import ConfigError, DataError
from animegen_cli.model.conditioning import chosen_labels, pick_labels
from animegen_cli.model.family import Batch, DataSpec, Family, Losses, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLD = 2
"""Pixels of a side that become channels before the first convolution: no layer works at full size."""


@dataclass(frozen=True, kw_only=True)
class Model(Section):
    """The network and its objective."""

    labels: tuple[str, ...] | Literal["all"] = "all"
    """Attributes to recognize."""
    widths: Annotated[tuple[Annotated[int, Field(ge=4)], ...], Field(min_length=1)] = (32, 64, 128)
    """Feature maps of each stage, finest first; the first works at half the image's size, each further one halves it."""
    blocks: Annotated[int, Field(ge=1)] = 1
    """Residual blocks per stage."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target that is spread over all values (Szegedy et al. 2016, section 7): some labels are wrong."""


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, fig. 2); it begins as the shortcut alone."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        norms = [nn.BatchNorm2d(outputs) for _ in range(2)]
        self.norms = nn.ModuleList(norms)
        self.around = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else None
        self.stride = stride
        nn.init.zeros_(norms[1].weight)  # Goyal et al. 2017, section 5.1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride), rounded up."""
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return F.relu((x if self.around is None else self.around(x)) + y)


class Trunk(nn.Module):
    """Folded pixels, a stem and stages of residual blocks, each further one at half the size."""

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3 * FOLD**2, widths[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        stages = []
        for stage, width in enumerate(widths):
            before = widths[max(stage - 1, 0)]
            stages += [Block(before, width, 2 if stage else 1), *(Block(width, width, 1) for _ in range(blocks - 1))]
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1], H and W even -> features (B, D), the means of the last maps, float32."""
        x = F.relu(self.norm(self.stem(F.pixel_unshuffle(images, FOLD))))
        for block in self.stages:
            x = block(x)
        return x.float().mean((2, 3))


class Heads(nn.Module):
    """One linear layer for each attribute."""

    def __init__(self, features: int, values: Sequence[int]) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(features, count) for count in values)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D) -> logits of all attributes side by side (B, sum of V)."""
        return torch.cat([linear(features) for linear in self.linears], 1)


@final
class Attributes(Family):
    """Trunk and heads, trained by cross-entropy."""

    Config = Model
    Sampling = Sampling
    inference = ("trunk", "heads")
    ema_buffers = "average"
    config: Model

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        if not data.attributes:
            raise DataError(
                "this data set has no labels to learn",
                hint="prepare it with some, such as `animegen prepare ./faces --labels tags.csv`",
            )
        if data.size % FOLD:
            raise ConfigError(
                f"an odd size of {data.size} pixels cannot be folded",
                hint=f"prepare an even one, as `animegen prepare ./faces --resolution {data.size - 1}` does",
            )
        self.recognizes = chosen_labels(config.labels, data)
        self.counts = [len(data.attributes[name]) for name in self.recognizes]
        self.trunk = Trunk(config.widths, config.blocks)
        self.heads = Heads(config.widths[-1], self.counts)

    @property
    def notes(self) -> dict[str, str]:
        """The attributes that it recognizes, with the number of their values; the key is the name that runs hold."""
        named = zip(self.recognizes, self.counts, strict=True)
        return {"recognises": ", ".join(f"{name} ({count} values)" for name, count in named)}

    def phases(self) -> tuple[Phase, ...]:
        """Return the one update."""
        return (Phase("model", (self.trunk, self.heads), self.loss),)

    def loss(self, batch: Batch) -> Losses:
        """Sum the cross-entropy over the attributes; an unknown label costs nothing.

        Each is divided by B, not by the number of known labels, so that micro-batches average to the whole.
        """
        logits = self.classify(self.embed(batch.images))
        labels = self._labels(batch)
        named = {}
        for column, (name, guess) in enumerate(logits.items()):
            costs = F.cross_entropy(
                guess, labels[:, column], ignore_index=-1, label_smoothing=self.config.smoothing, reduction="sum"
            )
            named[name] = costs / len(guess)
        loss = torch.stack([*named.values()]).sum()
        return {"loss": loss, **{name: value.detach() for name, value in named.items()}}

    def _labels(self, batch: Batch) -> Tensor:
        found = pick_labels(batch.labels, self.recognizes, self.data)
        assert found is not None, "a set with attributes gives labels"
        return found

    # ---- abilities ----------------------------------------------------------------------------------------------

    def embed(self, images: Tensor) -> Tensor:
        """Return the features (B, D) of images (B, 3, H, W) in [-1, 1] of its size."""
        return self.trunk(images)

    def classify(self, features: Tensor) -> dict[str, Tensor]:
        """Return each attribute's logits (B, V), from the features of `embed`."""
        parts = self.heads(features).float().split(self.counts, 1)
        return dict(zip(self.recognizes, parts, strict=True))

    def validate(self, batch: Batch) -> Losses:
        """Measure which labels it names right, per attribute (B,), NaN where a label is unknown; and the loss."""
        logits = self.classify(self.embed(batch.images))
        labels = self._labels(batch)
        figures = {}
        for column, (name, guess) in enumerate(logits.items()):
            right = (guess.argmax(1) == labels[:, column]).float()
            figures[f"accuracy-{name}"] = right.masked_fill(labels[:, column] < 0, torch.nan)
        return {**figures, "loss": self.loss(batch)["loss"]}
