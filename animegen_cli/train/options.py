"""What a training starts with: its `auto` options resolved by fixed rules, never by timing, and all that it needs built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from animegen_cli.config import RunConfig
from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.loading import Loader
from animegen_cli.device import fast_layout, has_bf16, has_compiler
from animegen_cli.errors import ConfigError, UsageError
from animegen_cli.model.family import DataSpec, Family
from animegen_cli.ranks import ALONE, Ranks
from animegen_cli.train import estimate

if TYPE_CHECKING:
    from collections.abc import Mapping


class ResolvedOptions(NamedTuple):
    """What every `auto` of a config became; written to the run's folder and used again on resume."""

    precision: str
    """Arithmetic of the networks: `fp32`, or `bf16` under autocast."""
    parts: int
    """Pieces that a step's batch comes in, each one forward pass."""
    channels_last: bool
    """Whether images and weights lie in memory with their channels last."""
    compile: bool
    """Whether torch compiles the networks."""
    threads: int | None = None
    """Threads of each process on a CPU, which decide the order of some sums; as many as torch likes when None."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], batch: int) -> ResolvedOptions:
        """Return the options that a run of so many images per step was saved with; earlier versions held images per pass."""
        found = dict(values)
        if "batch_gpu" in found:
            found["parts"] = -(-batch // found.pop("batch_gpu"))
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain values for JSON."""
        return dict(self._asdict())


class Prepared(NamedTuple):
    """A request that was found to be possible, with all that it takes; nothing is trained yet."""

    config: RunConfig
    faces: FaceSet
    data: DataSpec
    loader: Loader
    model: Family
    options: ResolvedOptions
    device: torch.device
    ranks: Ranks = ALONE

    def autocast(self) -> torch.autocast:
        """Return the context in which networks draw and validate: bf16 where the run resolved to it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bf16")


USUAL_PARTS = 4
SMALLEST_PART = 8
PART_BYTES = 6 << 30


def resolve(config: RunConfig, model: Family, device: torch.device, *, cores: int | None = None) -> ResolvedOptions:
    """Turn every `auto` of the config into a value that the device and the size of the networks decide.

    Args:
        config: the whole config.
        model: the networks.
        device: where they compute.
        cores: those that the processes of a run share, if it may have several: each part then has as many of them, and a
            process has those of one part.

    Raises:
        ConfigError: the batch does not come in so many equal parts.
    """
    train = config.train
    precision = train.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    parts = resolve_parts(config, model)
    return ResolvedOptions(
        precision=precision,
        parts=parts,
        channels_last=fast_layout(model, device) if train.channels_last == "auto" else train.channels_last,
        compile=(device.type == "cuda" and has_compiler()) if train.compile == "auto" else train.compile,
        threads=max(1, cores // parts) if cores and device.type == "cpu" else None,
    )


def resolve_parts(config: RunConfig, model: Family) -> int:
    """Return the parts of a step, by a rule that knows batch and networks alone: the same command is the same run anywhere.

    `auto` is 4, so that up to four processes can share a step: 2 with BatchNorm, which wants many images at once; fewer where
    a part would have under 8 images; more where a part would not fit a GPU of 8 GB. `batch_gpu` bounds the images of a part.

    Raises:
        ConfigError: the batch does not come in so many equal parts, or they are larger than `batch_gpu`.
    """
    train = config.train
    batch, largest = train.batch, train.batch if train.batch_gpu == "auto" else train.batch_gpu
    equal = [parts for parts in range(1, batch + 1) if batch % parts == 0]
    if train.parts != "auto":
        if train.parts not in equal:
            near = min(equal, key=lambda parts: abs(parts - int(train.parts)))
            raise ConfigError(
                f"a batch of {batch} does not come in {train.parts} equal parts", hint=f"use `--parts {near}`"
            )
        if batch // train.parts > largest:
            raise ConfigError(
                f"{train.parts} parts of a batch of {batch} have more than {largest} images",
                hint=f"leave out `--batch-gpu`, or use `--parts {next(p for p in equal if batch // p <= largest)}`",
            )
        return train.parts
    cost = estimate.cost(model, precision="fp32")  # not the run's own, which depends on the machine
    normed = any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in model.modules())  # noqa: SLF001
    usual = 2 if normed else USUAL_PARTS
    wanted = max((p for p in equal if p <= usual and batch // p >= SMALLEST_PART), default=1)
    fitting = [p for p in equal if p >= wanted and p % wanted == 0 and batch // p <= largest]
    room = max(PART_BYTES - cost.fixed_bytes, PART_BYTES // 4)
    return next((p for p in fitting if cost.image_bytes * (batch // p) <= room), fitting[-1])


def check_shared(parts: int, batch: int, processes: int) -> None:
    """Raise UsageError where so many processes cannot share the parts of a step; the hint says which `--parts` can."""
    if parts % processes == 0:
        return
    several = [n for n in range(processes, batch + 1, processes) if batch % n == 0]
    raise UsageError(
        f"{processes} processes cannot share the {parts} parts of a step of {batch} images",
        hint=f"use `--parts {several[0]}` for a new run"
        if several
        else f"use a multiple of {processes} as `--batch`, and `--parts {processes}`",
    )
