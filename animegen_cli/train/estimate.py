"""What a training step costs, before paying: parameters, arithmetic and memory of one part of its batch, without running it."""

from __future__ import annotations

import copy
import logging
import time
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from animegen_cli.device import synchronize
from animegen_cli.model.family import Batch, Family

SETTLED = 1 << 40
"""Images after which no warm-up or initial phase lasts: what comes after it costs most."""


class Cost(NamedTuple):
    """What one training step takes."""

    parameters: dict[str, int]
    """Trainable numbers per child module."""
    flops: float
    """Arithmetic of the forward and backward passes, per image (2 per multiply-add)."""
    fixed_bytes: int
    """Bytes of weights, gradients, optimizer moments and EMA."""
    image_bytes: int
    """Bytes saved for the backward pass, per image of a part."""


_OVERHEAD = 1.4
"""Time of a step in units of that of its convolutions: norms, activations and the optimizer."""


def seconds(cost: Cost, images: int, device: torch.device, *, precision: str) -> float:
    """Return how long training on so many images takes at least: their arithmetic at the rate that this machine convolves with.

    Measures for a fraction of a second. Networks too small to keep a GPU busy, or a CPU, take two to five times as long.
    """
    count = 256 if device.type == "cuda" else 8
    layer = torch.nn.Conv2d(64, 64, 3, padding=1).to(device)
    x = torch.zeros(count, 64, 32, 32, device=device, requires_grad=True)
    took = []
    for _ in range(3):
        synchronize(device)
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            out = layer(x).float().sum()
        out.backward()
        synchronize(device)
        took.append(time.perf_counter() - began)
    rate = 3 * 2 * count * 32 * 32 * 64 * 64 * 9 / min(took)
    return _OVERHEAD * cost.flops * images / rate


def parameters(model: Family) -> dict[str, int]:
    """Count the trainable numbers of each child module."""
    return {name: sum(p.numel() for p in module.parameters()) for name, module in model.named_children()}


def cost(model: Family, *, precision: str) -> Cost:
    """Trace one step of a copy of the networks on the meta device, which computes shapes and no numbers."""
    counts = parameters(model)
    traced = copy.deepcopy(model).to("meta")
    images = 2  # some layers (BatchNorm on 1x1 maps) need more than one
    size = model.data.size
    attributes = len(model.data.attributes)
    both = "photos" in model.domains
    batch = Batch(
        torch.zeros(images, 3, size, size, device="meta"),
        photos=torch.zeros(images, 3, size, size, device="meta") if both else None,
        labels=torch.zeros(images, attributes, dtype=torch.int64, device="meta") if attributes else None,
        images_seen=SETTLED,
    )
    saved: dict[int, int] = {}
    keep: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            keep.append(tensor)  # a freed tensor's id would be given to another one
            saved[id(tensor.untyped_storage())] = tensor.numel() * tensor.element_size()
        return tensor

    flops = 0.0
    largest = 0
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)
    for phase in traced.phases():
        saved.clear()
        with (
            FlopCounterMode(display=False) as counter,
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            loss = next(iter(phase.loss(batch).values()))
            loss.backward()
        flops += counter.get_total_flops() / phase.every
        largest = max(largest, sum(saved.values()))
        keep.clear()
    halved = 0.6 if precision == "bf16" else 1.0  # autocast keeps norms and sums in fp32
    total = sum(counts.values())
    averaged = sum(counts[name] for name in model.inference)
    return Cost(counts, flops / images, 4 * (4 * total + averaged), round(1.3 * halved * largest / images))
