"""Plan before paying: what a training would be and cost, without training."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from animegen_cli import config
from animegen_cli.config import Amount
from animegen_cli.device import free_memory, synchronize
from animegen_cli.model import families
from animegen_cli.model.family import DataSpec
from animegen_cli.sample.trained import build_config
from animegen_cli.train import estimate, options, train
from animegen_cli.train.trainer import Trainer

if TYPE_CHECKING:
    from animegen_cli.config import RunConfig
    from animegen_cli.data.dataset import FaceSet
    from animegen_cli.train.options import Prepared
    from animegen_cli.train.request import Request

_MEASURE_SECONDS = 10.0


def plan(request: Request) -> dict[str, Any]:
    """Return the resolved config, parameters, images, steps, memory and expected time of a request as plain values.

    Raises:
        AnimegenError: whatever would stop the training before its first step.
    """
    run_config = train.read_config(request)
    train.warn_of(run_config)
    prepared = train.prepare(request, run_config, train.open_data(request, run_config))
    cost = estimate.cost(prepared.model, precision=prepared.options.precision)
    count = prepared.data.count
    batch = run_config.train.batch
    images = Amount.parse(run_config.train.duration).images(batch=batch, count=count)
    parts = prepared.options.parts
    waiting = (
        4 * sum(cost.parameters.values()) * (parts - 1).bit_length()
    )  # gradients that the tree of parts holds meanwhile
    memory = cost.fixed_bytes + waiting + cost.image_bytes * (batch // parts)
    seconds, source = _expected_seconds(prepared, cost, memory, images)
    return {
        "config": run_config.to_dict(),
        "data": {"path": str(prepared.faces.path), "images": count, "size": prepared.data.size},
        "resolved": prepared.options.to_dict(),
        "parameters": cost.parameters,
        "images": images,
        "steps": -(-images // batch),
        "gflop_per_image": round(cost.flops / 1e9, 3),
        "memory_bytes": memory,
        "expected_seconds": round(seconds, 1),
        "time_from": source,
        "device": str(prepared.device),
    }


def check_processes(run_config: RunConfig, faces: FaceSet, processes: int) -> None:
    """Raise UsageError where so many processes cannot share the steps of a new run; the hint says which `--parts` can."""
    kind = families.load(run_config.family)
    data = DataSpec(
        size=run_config.size or faces.size, count=len(faces.indices("train")), attributes=dict(faces.attributes),
        domains=kind.domains,
    )  # fmt: skip
    parts = options.resolve_parts(run_config, kind(run_config.model, data))
    options.check_shared(parts, run_config.train.batch, processes)


def _expected_seconds(prepared: Prepared, cost: estimate.Cost, memory: int, images: int) -> tuple[float, str]:
    """Measure parts of steps that take under half of the free memory and a few seconds, else divide by a cautious rate."""
    micro = prepared.config.train.batch // prepared.options.parts
    precision = prepared.options.precision
    whole = estimate.seconds(cost, images, prepared.device, precision=precision)
    if memory > 0.5 * free_memory(prepared.device) or whole * micro / images > _MEASURE_SECONDS / 2:
        return whole, "estimated from its arithmetic and the speed of a convolution on this machine"
    slim = prepared.config.to_dict()
    slim["train"] |= {"batch": micro}
    trainer = Trainer(
        prepared.model, prepared.loader, build_config(slim), prepared.options._replace(compile=False, parts=1),
        device=prepared.device, count=prepared.data.count,
    )  # fmt: skip
    took: list[float] = []
    began = time.perf_counter()
    while len(took) < 2 or (time.perf_counter() - began < _MEASURE_SECONDS / 2 and len(took) < 20):
        start = time.perf_counter()
        trainer.train_step()
        synchronize(prepared.device)
        took.append(time.perf_counter() - start)
    best = min(took[1:])
    return images * best / micro, f"measured over {len(took)} parts of {micro} images, uncompiled"


def describe(found: dict[str, Any]) -> str:
    """Lay out for people what `plan` found."""
    hours = found["expected_seconds"] / 3600
    lines = [
        config.to_yaml(found["config"]).rstrip(),
        "",
        f"data          {found['data']['path']}: {found['data']['images']:,} training images of {found['data']['size']} pixels",
        f"parameters    {', '.join(f'{name} {count:,}' for name, count in found['parameters'].items())}",
        f"training      {found['images']:,} images, {found['steps']:,} steps of {found['config']['train']['batch']}",
        f"arithmetic    {found['gflop_per_image']:,.2f} GFLOP per image",
        f"device        {found['device']}, " + ", ".join(f"{key} {value}" for key, value in found["resolved"].items()),
        f"memory        {found['memory_bytes'] / 2**30:.2f} GiB (estimated)",
        f"expected time {hours:.1f} hours" if hours >= 1 else f"expected time {found['expected_seconds']:.0f} s",
        f"              {found['time_from']}",
    ]
    return "\n".join(lines)
