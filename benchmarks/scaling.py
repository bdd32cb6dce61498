"""How well a step would scale to many GPUs, on paper: its arithmetic and gradient bytes against published link speeds.

    python benchmarks/scaling.py                                  # the table of docs/scaling.md
    python benchmarks/scaling.py --utilization 0.4 --presets ddpm/ho2020:32

Arithmetic is counted by tracing one step (no GPU is touched), a GPU's speed is its data sheet's times an assumed utilization,
and one flat all-reduce follows each phase's backward pass, with nothing overlapped: what is printed is a lower bound of what
the links allow and an upper bound of nothing. A ring moves 2 (n - 1) / n of the bytes in 2 (n - 1) messages (Patarasuk & Yuan
2009), here first among the GPUs of a node, then among nodes.
"""

from __future__ import annotations

import argparse

from animegen_cli.model import families
from animegen_cli.model.family import DataSpec
from animegen_cli.train import estimate, train
from animegen_cli.train.request import Request

PEAK = 989e12
"""bf16 without sparsity of one H100 SXM, in operations per second (NVIDIA's data sheet)."""
NODE = 8
NVLINK, NVLINK_LATENCY = 450e9, 3e-6
"""Bytes per second and direction of a GPU's NVLink 4 (the data sheet's 900 GB/s count both), and seconds a message."""
LINKS = {"400 Gb/s InfiniBand": (50e9, 5e-6), "100 Gb/s Ethernet": (12.5e9, 20e-6)}
"""Bytes per second of each GPU's own link between nodes, and seconds a message."""
COUNTS = (8, 64, 256, 1024)


def all_reduce(size: float, count: int, link: tuple[float, float]) -> float:
    """Seconds to add `size` bytes up over `count` GPUs: a ring in each node, then a ring of nodes for each GPU's share."""
    inside = min(count, NODE)
    seconds = 2 * (inside - 1) / inside * size / NVLINK + 2 * (inside - 1) * NVLINK_LATENCY
    nodes = count // inside
    if nodes > 1:
        speed, latency = link
        seconds += 2 * (nodes - 1) / nodes * (size / inside) / speed + 2 * (nodes - 1) * latency
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--presets", nargs="*",
        default=["ddpm/ho2020:32", "edm/anime64:64", "ddpm/ho2020-lsun256:256", "stylegan2/paper256:256"],
        help="family/preset:size",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=int, default=16, help="images of a part: one GPU's share of a step (default: 16)"
    )
    parser.add_argument("--utilization", type=float, default=0.25, help="assumed share of the peak (default: 0.25)")
    args = parser.parse_args()
    print(
        f"| preset | parameters, gradient bytes | arithmetic of {args.images} images | link | "
        + " | ".join(map(str, COUNTS))
        + " |"
    )
    print("|---|---|---|---|" + "---|" * len(COUNTS))
    for word in args.presets:
        preset, _, size = word.partition(":")
        family, name = preset.split("/")
        chosen = train.read_config(Request(family=family, preset=name))
        model = families.load(family)(chosen.model, DataSpec(int(size), 70_000))
        cost = estimate.cost(model, precision="bf16")
        compute = cost.flops * args.images / (PEAK * args.utilization)
        trained = [
            sum(p.numel() for m in phase.trains for p in m.parameters()) / phase.every for phase in model.phases()
        ]
        size_sent = 4 * sum(trained)
        for link, speed in LINKS.items():
            shares = [compute / (compute + all_reduce(size_sent, count, speed)) for count in COUNTS]
            print(
                f"| `{preset}` | {sum(trained) / 1e6:.1f} M, {size_sent / 1e6:.0f} MB a step "
                f"| {cost.flops * args.images / 1e12:.2f} TFLOP, {1e3 * compute:.1f} ms | {link} "
                + "".join(f"| {share:.0%} " for share in shares)
                + "|"
            )


if __name__ == "__main__":
    main()
