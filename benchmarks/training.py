"""A DDPM training step: ours against diffusers' `UNet2DModel` with its EMA, on the same network and batch.

    python benchmarks/training.py --size 32 --channels 64,128,128 --batch 32

The peer follows diffusers' own unconditional example (AdamW, clipping, EMAModel, `loss.item()` each step) in its
best simple setting: bf16 autocast where the hardware has it, `torch.compile` on CUDA. Target: 0.95x on a CPU,
1.5x on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from _pairs import arguments
from _plain import Resident
from _steps import compare_steps
from networks import ours, theirs
from torch.nn import functional as F

from animegen_cli.device import has_bf16, has_compiler, pick_device
from animegen_cli.train import options
from animegen_cli.train.trainer import Trainer


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", default="64,128,128")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3, help="steps per measurement")
    args = parser.parse_args()
    device = pick_device(args.device)
    channels = [int(word) for word in args.channels.split(",")]
    data = Resident(args.size, args.batch, device)

    model, config = ours(args.size, channels, batch=args.batch)
    trainer = Trainer(model, data, config, options.resolve(config, model, device), device=device, count=4096)

    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    net = theirs(args.size, channels).to(device)
    count = sum(p.numel() for p in net.parameters())
    if count != sum(p.numel() for p in trainer.model.parameters()):
        raise SystemExit("the two networks differ")
    ema = EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True, power=0.75)
    ema.to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    schedule: Any = DDPMScheduler(1000)
    low = has_bf16(device)
    step_net = torch.compile(net) if device.type == "cuda" and has_compiler() else net

    def their_steps() -> None:
        for _ in range(args.steps):
            clean = data.images.float() / 127.5 - 1
            noise = torch.randn_like(clean)
            times = torch.randint(0, 1000, (len(clean),), device=device)
            with torch.autocast(device.type, torch.bfloat16, enabled=low):
                predicted = step_net(schedule.add_noise(clean, noise, times), times).sample
                loss = F.mse_loss(predicted.float(), noise)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.step(net.parameters())
            loss.item()

    target = 1.5 if device.type == "cuda" else 0.95
    compare_steps("DDPM training step", trainer, their_steps, args, target=target, parameters=count)


if __name__ == "__main__":
    main()
