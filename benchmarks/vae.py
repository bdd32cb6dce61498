"""A VAE training step: ours against the same network in a plainly written step.

    python benchmarks/vae.py --size 64 --batch 64

The peer is what one writes by hand for document 003's VAE: eager, Adam, mean squared error + 0.00025 KL, the same
precision and no average; like ours it gets uint8 images and reads its loss now and then only. Target: 0.95x on a CPU,
3x on a GPU, where the plain step waits for its own kernel launches.
"""

from __future__ import annotations

from typing import Any

import torch
from _pairs import arguments
from _plain import VAE_LATENT, VAE_LR, VAE_WEIGHT, VAE_WIDTHS, PlainVAE, Resident
from _steps import compare_steps

from animegen_cli.device import pick_device
from animegen_cli.model.family import DataSpec
from animegen_cli.sample.trained import build
from animegen_cli.train import options
from animegen_cli.train.trainer import Trainer


def ours(size: int, batch: int) -> tuple[Any, Any]:
    """Our family with the same network and objective, and its config."""
    config = {
        "family": "vae",
        "model": {"widths": list(VAE_WIDTHS), "latent": VAE_LATENT, "likelihood": "scaled", "kl_weight": VAE_WEIGHT},
        "optim": {"model": {"name": "adam", "lr": VAE_LR}},
        "train": {"batch": batch, "parts": 1, "duration": "1M steps", "ema": {"decay": 0.0, "ramp": False}},
    }
    return build(config, DataSpec(size, 4096))


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5, help="steps per measurement")
    args = parser.parse_args()
    if args.size % 2 ** len(VAE_WIDTHS):
        raise SystemExit(f"--size must be a multiple of {2 ** len(VAE_WIDTHS)}")
    device = pick_device(args.device)
    data = Resident(args.size, args.batch, device)
    torch.manual_seed(0)
    model, config = ours(args.size, args.batch)
    trainer = Trainer(model, data, config, options.resolve(config, model, device), device=device, count=4096)

    net = PlainVAE(args.size).to(device)
    count = sum(p.numel() for p in net.parameters())
    if count != sum(p.numel() for p in trainer.model.parameters()):
        raise SystemExit("the two networks differ")
    optimizer = torch.optim.Adam(net.parameters(), lr=VAE_LR)
    low = trainer.options.precision == "bf16"

    def their_steps() -> None:
        for _ in range(args.steps):
            with torch.autocast(device.type, torch.bfloat16, enabled=low):
                loss = net.loss(data.images.float() / 127.5 - 1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()

    target = 3.0 if device.type == "cuda" else 0.95
    compare_steps("VAE training step", trainer, their_steps, args, target=target, parameters=count)


if __name__ == "__main__":
    main()
