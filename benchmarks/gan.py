"""A DCGAN training step: ours against the step of PyTorch's own DCGAN example, on the same networks and batch.

    python benchmarks/gan.py --size 64 --batch 64

The peer is written plainly from the example's published settings: eager, Adam 2e-4 with betas (0.5, 0.999), BCE with
targets 1 and 0, critic first, losses read each step, in fp32 as the example is or, with `--precision same`, in ours.
Target: 0.95x on a CPU, 3x on a GPU.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from _pairs import arguments
from _plain import Resident
from _steps import compare_steps
from torch import Tensor, nn

from animegen_cli.device import pick_device
from animegen_cli.model.family import DataSpec
from animegen_cli.sample.trained import build
from animegen_cli.train import options
from animegen_cli.train.trainer import Trainer

ADAM: dict[str, Any] = {"name": "adam", "lr": 2e-4, "betas": [0.5, 0.999]}


def ours(size: int, batch: int, data: Resident, device: torch.device) -> Trainer:
    """The family with the example's settings; without an average, which the example has not."""
    config = {
        "family": "gan", "model": {"layout": "dcgan"}, "optim": {"G": ADAM, "D": ADAM},
        "train": {"batch": batch, "parts": 1, "duration": "1M steps", "ema": {"decay": 0.0, "every": 1_000_000}},
    }  # fmt: skip
    model, resolved = build(config, DataSpec(size, 4096))
    return Trainer(model, data, resolved, options.resolve(resolved, model, device), device=device, count=4096)


class Example:
    """The step of the example on copies of the same networks."""

    def __init__(self, generator: nn.Module, critic: nn.Module, device: torch.device, *, low: bool) -> None:
        self.generator = generator
        self.critic = critic
        self.device = device
        self.low = low
        nets = (generator, critic)
        self.optimizers = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in nets]
        self.bce = nn.BCEWithLogitsLoss()

    def loss(self, images: Tensor, target: float) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            logits = self.critic(images, None)[0]
        return self.bce(logits.float(), torch.full_like(logits, target, dtype=torch.float32))

    def step(self, images: Tensor) -> None:
        adam_g, adam_d = self.optimizers
        real = images.float() / 127.5 - 1
        self.critic.zero_grad()
        loss_real = self.loss(real, 1.0)
        loss_real.backward()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            fake = self.generator(torch.randn(len(real), 100, device=self.device), None)
        loss_fake = self.loss(fake.detach(), 0.0)
        loss_fake.backward()
        adam_d.step()
        self.generator.zero_grad()
        loss = self.loss(fake, 1.0)
        loss.backward()
        adam_g.step()
        _ = (loss_real.item(), loss_fake.item(), loss.item())


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3, help="steps per measurement")
    parser.add_argument("--precision", choices=["fp32", "same"], default="fp32", help="of the example's step")
    args = parser.parse_args()
    device = pick_device(args.device)
    data = Resident(args.size, args.batch, device)
    trainer = ours(args.size, args.batch, data, device)
    low = args.precision == "same" and trainer.options.precision == "bf16"
    plain, _ = build({"family": "gan", "model": {"layout": "dcgan"}}, DataSpec(args.size, 4096))
    generator, critic = (copy.deepcopy(net).to(device) for net in (plain.generator, plain.critic))
    example = Example(generator, critic, device, low=low)

    def their_steps() -> None:
        for _ in range(args.steps):
            example.step(data.images)

    target = 3.0 if device.type == "cuda" else 0.95
    compare_steps(
        "DCGAN training step",
        trainer,
        their_steps,
        args,
        target=target,
        parameters=sum(p.numel() for net in (generator, critic) for p in net.parameters()),
        peer_precision="bf16" if low else "fp32",
    )


if __name__ == "__main__":
    main()
