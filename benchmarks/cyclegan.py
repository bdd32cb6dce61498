"""CycleGAN: our training step and our generator against the authors' networks and step, written plainly.

    python benchmarks/cyclegan.py --size 256 --blocks 9

The peer is what the public PyTorch implementation runs: ReflectionPad2d, Conv2d, InstanceNorm2d and ReLU in a row, a
pass per image and network, two Adam optimizers; no compilation, the same precision. Target: 0.95x on a CPU, 2x on a
GPU, for the step and for the generator alone.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from _pairs import arguments, pairs, report, waiting
from _plain import Resident
from _steps import train_steps
from torch import Tensor, nn
from torch.nn import functional as F

from animegen_cli.device import pick_device
from animegen_cli.model.family import DataSpec
from animegen_cli.sample.trained import build
from animegen_cli.train import options
from animegen_cli.train.trainer import Trainer

# ---- the peer -------------------------------------------------------------------------------------------------


class PlainBlock(nn.Module):
    """Two padded convolutions and the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        part = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)]
        again = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)]
        self.layers = nn.Sequential(*part, nn.ReLU(True), *again)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def plain_generator(blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, 64, 7), nn.InstanceNorm2d(64), nn.ReLU(True)]
    for width in (64, 128):
        layers += [nn.Conv2d(width, 2 * width, 3, 2, 1), nn.InstanceNorm2d(2 * width), nn.ReLU(True)]
    layers += [PlainBlock(256) for _ in range(blocks)]
    for width in (256, 128):
        layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1), nn.InstanceNorm2d(width // 2), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(64, 3, 7), nn.Tanh())


def plain_critic() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for inputs, outputs, stride in ((64, 128, 2), (128, 256, 2), (256, 512, 1)):
        layers += [nn.Conv2d(inputs, outputs, 4, stride, 1), nn.InstanceNorm2d(outputs), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(512, 1, 4, 1, 1))


class Plain:
    """Both pairs of networks and one update of each, as the paper's section 4 and appendix 7.1 say."""

    def __init__(self, data: Resident, blocks: int, device: torch.device, *, low: bool) -> None:
        self.data = data
        self.low = low
        self.device = device
        self.to_anime = plain_generator(blocks).to(device)
        self.to_photo = plain_generator(blocks).to(device)
        self.critics = [plain_critic().to(device), plain_critic().to(device)]
        generators = itertools.chain(self.to_anime.parameters(), self.to_photo.parameters())
        self.optimizer = torch.optim.Adam(generators, lr=2e-4, betas=(0.5, 0.999))
        critics = itertools.chain(*(critic.parameters() for critic in self.critics))
        self.critic_optimizer = torch.optim.Adam(critics, lr=2e-4, betas=(0.5, 0.999))
        self.pools: tuple[list[Tensor], list[Tensor]] = ([], [])

    def pooled(self, which: int, fake: Tensor) -> Tensor:
        pool = self.pools[which]
        if len(pool) < 50:
            pool.append(fake.clone())
            return fake
        if torch.rand(()).item() < 0.5:
            place = int(torch.randint(50, ()).item())
            old, pool[place] = pool[place], fake.clone()
            return old
        return fake

    def step(self) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            x, y = (pixels.float() / 127.5 - 1 for pixels in (self.data.photos, self.data.images))
            fake_y = self.to_anime(x)
            fake_x = self.to_photo(y)
            again_x = self.to_photo(fake_y)
            again_y = self.to_anime(fake_x)
            for critic in self.critics:
                critic.requires_grad_(False)
            loss = 5 * F.l1_loss(self.to_anime(y), y) + 5 * F.l1_loss(self.to_photo(x), x)
            for critic, fake in zip(self.critics, (fake_y, fake_x), strict=True):
                logits = critic(fake)
                loss = loss + F.mse_loss(logits.float(), torch.ones_like(logits, dtype=torch.float32))
            loss = loss + 10 * F.l1_loss(again_x, x) + 10 * F.l1_loss(again_y, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.critic_optimizer.zero_grad()
        for which, (critic, real, fake) in enumerate(zip(self.critics, (y, x), (fake_y, fake_x), strict=True)):
            critic.requires_grad_(True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
                of_real = critic(real).float()
                of_fake = critic(self.pooled(which, fake.detach())).float()
                loss = 0.5 * ((of_real - 1).square().mean() + of_fake.square().mean())
            loss.backward()
        self.critic_optimizer.step()


# ---- both -----------------------------------------------------------------------------------------------------


def ours(size: int, blocks: int, precision: str, data: Resident, device: torch.device) -> Trainer:
    optimizer = {"lr": 2e-4, "betas": [0.5, 0.999]}
    config: dict[str, Any] = {
        "family": "cyclegan",
        "model": {"blocks": blocks},
        "optim": {"G": optimizer, "D": optimizer},
        "train": {"batch": 1, "parts": 1, "duration": "1M steps", "precision": precision, "ema": {"decay": 0.0}},
    }
    model, resolved = build(config, DataSpec(size, 4096, domains=("anime", "photos")))
    return Trainer(model, data, resolved, options.resolve(resolved, model, device), device=device, count=4096)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--steps", type=int, default=1, help="steps per measurement")
    parser.add_argument("--images", type=int, default=1, help="images per generator pass")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    args = parser.parse_args()
    device = pick_device(args.device)
    data = Resident(args.size, 1, device, photos=True)
    trainer = ours(args.size, args.blocks, args.precision, data, device)
    low = trainer.options.precision == "bf16"
    peer = Plain(data, args.blocks, device, low=low)
    nets: tuple[Any, Any] = (trainer.model.to_anime, peer.to_anime)
    counts = [sum(p.numel() for p in net.parameters()) for net in nets]
    if counts[0] != counts[1]:
        raise SystemExit("the two networks differ")
    target = 2.0 if device.type == "cuda" else 0.95
    facts = {
        "device": str(device), "torch": torch.__version__, "size": args.size, "parameters": counts[0],
        "options": trainer.options.to_dict(),
    }  # fmt: skip

    def their_steps() -> None:
        for _ in range(args.steps):
            peer.step()

    found = pairs(
        train_steps(trainer, args.steps),
        their_steps,
        args.pairs,
        sync=waiting(device),
        warmup=3 if device.type == "cuda" else 1,
    )
    report("CycleGAN training step", found, target=target, as_json=args.json, **facts)

    images = torch.rand(args.images, 3, args.size, args.size, device=device) * 2 - 1
    if trainer.options.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)

    def draw(net: nn.Module) -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=low):
            for _ in range(args.steps):
                net(images)

    found = pairs(lambda: draw(nets[0]), lambda: draw(nets[1]), args.pairs, sync=waiting(device), warmup=2)
    report("CycleGAN generator", found, target=target, as_json=args.json, images=args.images, **facts)


if __name__ == "__main__":
    main()
