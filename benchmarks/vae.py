"""A VAE training step: ours against the same network in a plainly written step.

    python benchmarks/vae.py --size 64 --batch 64

The peer is what one writes by hand for document 003's VAE: eager, Adam, mean squared error + 0.00025 KL, the same
precision and no average; like ours it gets uint8 images and reads its loss now and then only. Target: 0.95x on a CPU,
3x on a GPU, where the plain step waits for its own kernel launches.
"""

from __future__ import annotations

from typing import Any

import torch
from _pairs import arguments, pairs, report
from torch import nn
from torch.nn import functional as F

from animegen_cli import generate
from animegen_cli.data.loading import Pieces
from animegen_cli.method import DataSpec
from animegen_cli.train import choices
from animegen_cli.train.trainer import Trainer

WIDTHS = (32, 64, 128, 256, 512)
LATENT, WEIGHT, LR = 128, 0.00025, 1e-3


class Resident:
    """uint8 images that already lie on the device."""

    def __init__(self, size: int, count: int, device: torch.device) -> None:
        self.images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, device=device)
        self.labels = torch.zeros(count, 0, dtype=torch.int64, device=device)

    def batch(self, images_seen: int, count: int | None = None) -> Pieces:
        return Pieces(self.images[:count], self.labels[:count], None)


class Plain(nn.Module):
    """Convolutional VAE: strided convolutions down, transposed ones up, BatchNorm and LeakyReLU in between."""

    def __init__(self, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        current = 3
        for width in WIDTHS:
            layers += [nn.Conv2d(current, width, 3, 2, 1), nn.BatchNorm2d(width), nn.LeakyReLU()]
            current = width
        self.side = size // 2 ** len(WIDTHS)
        self.encoder = nn.Sequential(*layers)
        self.mean = nn.Linear(current * self.side**2, LATENT)
        self.log_variance = nn.Linear(current * self.side**2, LATENT)
        self.open = nn.Linear(LATENT, current * self.side**2)
        layers = []
        for width in (*reversed(WIDTHS[:-1]), WIDTHS[0]):
            layers += [nn.ConvTranspose2d(current, width, 3, 2, 1, 1), nn.BatchNorm2d(width), nn.LeakyReLU()]
            current = width
        self.decoder = nn.Sequential(*layers, nn.Conv2d(current, 3, 3, padding=1), nn.Tanh())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        h = self.encoder(x).flatten(1)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decoder(self.open(z).view(-1, WIDTHS[-1], self.side, self.side)), mean, log_variance


def ours(size: int, batch: int) -> tuple[Any, Any]:
    """Our family with the same network and objective, and its config."""
    config = {
        "family": "vae",
        "model": {"widths": list(WIDTHS), "latent": LATENT, "likelihood": "scaled", "kl_weight": WEIGHT},
        "optim": {"model": {"name": "adam", "lr": LR}},
        "train": {"batch": batch, "batch_gpu": batch, "duration": "1M steps", "ema": {"decay": 0.0, "ramp": False}},
    }
    return generate.build(config, DataSpec(size, 4096))


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5, help="steps per measurement")
    args = parser.parse_args()
    if args.size % 2 ** len(WIDTHS):
        raise SystemExit(f"--size must be a multiple of {2 ** len(WIDTHS)}")
    device = choices.pick_device(args.device)
    data = Resident(args.size, args.batch, device)
    torch.manual_seed(0)
    method, config = ours(args.size, args.batch)
    trainer = Trainer(method, data, config, choices.resolve(config, method, device), device=device, count=4096)

    net = Plain(args.size).to(device)
    count = sum(p.numel() for p in net.parameters())
    if count != sum(p.numel() for p in trainer.method.parameters()):
        raise SystemExit("the two networks differ")
    optimizer = torch.optim.Adam(net.parameters(), lr=LR)
    low = trainer.choices.precision == "bf16"

    def sync() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def our_steps() -> None:
        for _ in range(args.steps):
            trainer.train_step()
        trainer.check()

    def their_steps() -> None:
        for _ in range(args.steps):
            x = data.images.float() / 127.5 - 1
            with torch.autocast(device.type, torch.bfloat16, enabled=low):
                picture, mean, log_variance = net(x)
            mean, log_variance = mean.float(), log_variance.float()
            kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()
            loss = F.mse_loss(picture.float(), x) + WEIGHT * kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()

    found = pairs(our_steps, their_steps, args.pairs, sync=sync)
    images = args.steps * args.batch
    report(
        "VAE training step", found, target=3.0 if device.type == "cuda" else 0.95, as_json=args.json,
        device=str(device), torch=torch.__version__, parameters=count, size=args.size, batch=args.batch,
        choices=trainer.choices.to_dict(), ours_images_per_second=round(images / found["ours"], 2),
        peer_images_per_second=round(images / found["peer"], 2),
    )  # fmt: skip


if __name__ == "__main__":
    main()
