"""The interface between a family and the house: what a family is given, what it must answer, what it may be able to do.

Trainer, checkpoints, sampler, evaluation and reports ask for the abilities below and never name a family.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from animegen_cli.noise import Noise
from animegen_cli.samplers import Watch

Losses = dict[str, Tensor]


class DataSpec(NamedTuple):
    """What a family may know of its data; stored beside its weights."""

    size: int
    """Height and width in pixels."""
    count: int  # type: ignore[assignment]  # shadows tuple.count, which nobody asks a DataSpec for
    """Training images."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Per channel over the training split, in [-1, 1]."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Per channel over the training split, in units of [-1, 1]."""
    attributes: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - read only
    """Label names and their values, such as {"hair": ("aqua", ...)}."""
    domains: tuple[str, ...] = ("anime",)
    """One, or ("anime", "photos") for translators."""


class Batch(NamedTuple):
    """What a loss sees."""

    images: Tensor
    """(B, 3, H, W) float in [-1, 1]."""
    photos: Tensor | None = None
    """The other domain, for translators."""
    labels: Tensor | None = None
    """(B, A) int64, one column per attribute; -1 is unknown."""
    images_seen: int = 0
    """Warm-ups and ramps are functions of this."""


class Phase(NamedTuple):
    """One alternating update."""

    name: str
    """Prefixes its logs, and names its optimizer's config section unless `shares` does."""
    trains: tuple[nn.Module, ...]
    loss: Callable[[Batch], Losses]
    """The first entry is differentiated, all are logged. A mean over the batch, so that micro-batches average."""
    every: int = 1
    """Lazy regularisation: run each so many steps."""
    shares: str | None = None
    """Name of the phase whose optimizer this one uses."""
    exact: bool = False
    """Differentiates a gradient: fp32, never compiled."""


class Method(nn.Module, ABC):
    """A family: built as `Family(config.model, data)`. Families are final and inherit no behaviour."""

    Config: ClassVar[type]
    """Section class of `model:` in a preset."""
    Sampling: ClassVar[type]
    """Section class of `sample:` in a preset."""
    optimizers: ClassVar[tuple[str, ...]] = ("model",)
    """Names of the phases that own an optimizer."""
    inference: ClassVar[tuple[str, ...]]
    """Child modules that the EMA and the weights file hold."""
    ema_buffers: ClassVar[Literal["average", "copy"]] = "copy"
    """What the EMA does with buffers such as BatchNorm statistics."""

    def __init__(self, config: Any, data: DataSpec) -> None:
        super().__init__()
        self.config, self.data = config, data

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The updates of one training step, in order."""


# ---- abilities ------------------------------------------------------------------------------------------------


@runtime_checkable
class Samples(Protocol):
    """Draws images from noise."""

    def sample(self, noise: Noise, labels: Tensor | None, how: Any, watch: Watch | None = None) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1]; `how` is the family's `Sampling` section, labels (B, A) int64 or None.

        Families that draw step by step call `watch(step, state, clean)` with images in [-1, 1] (the state unclipped).
        """
        ...


@runtime_checkable
class Corrupts(Protocol):
    """Has a forward process that turns an image into noise."""

    def corrupt(self, images: Tensor, noise: Tensor, fraction: float) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] at `fraction` in [0, 1] of the forward process, in the same units, unclipped."""
        ...


@runtime_checkable
class Validates(Protocol):
    """Has losses worth measuring on held-out images, besides its training losses."""

    def validate(self, batch: Batch) -> Losses:
        """Named means over the batch."""
        ...


ABILITIES: dict[str, type] = {"samples": Samples, "corrupts": Corrupts, "validates": Validates}
"""Name in `run.json` -> protocol."""


def abilities(method: Method) -> tuple[str, ...]:
    """The names of what this family can do."""
    return tuple(name for name, protocol in ABILITIES.items() if isinstance(method, protocol))
