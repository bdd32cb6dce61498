"""50 DDIM steps: ours against diffusers' `DDIMPipeline`, the same network, both in bf16.

The pipeline's last line cannot turn bf16 into a numpy array, so its loop is run here step by step, and ends in float32.

    python benchmarks/sampling.py --size 32 --channels 64,128,128 --batch 16

Target: 1.3x on a CPU, 2x on a GPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from _pairs import arguments, pairs, report
from networks import ours, theirs

from animegen_cli.device import pick_device
from animegen_cli.model.noise import Noise
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.trained import Trained, for_inference


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", default="64,128,128")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    args = parser.parse_args()
    device = pick_device(args.device)
    channels = [int(word) for word in args.channels.split(",")]

    from diffusers import DDIMPipeline, DDIMScheduler

    model, config = ours(args.size, channels, batch=args.batch)
    ready = for_inference(model, device=device, precision="bf16")
    trained = Trained(ready, config, model.data, 0, device, "bf16")
    generator = Generator(trained, replace(config.sample, steps=args.steps))

    pipeline: Any = DDIMPipeline(theirs(args.size, channels), DDIMScheduler(1000))
    pipeline.to(device, torch.bfloat16)
    unet, scheduler = pipeline.unet, pipeline.scheduler

    def our_images() -> None:
        generator.draw_noise(Noise(range(args.batch), device))

    @torch.no_grad()
    def their_images() -> None:
        image = torch.randn(args.batch, 3, args.size, args.size, device=device, dtype=unet.dtype)
        scheduler.set_timesteps(args.steps)
        for t in scheduler.timesteps:
            image = scheduler.step(unet(image, t).sample, t, image).prev_sample
        (image / 2 + 0.5).clamp(0, 1).float().cpu().permute(0, 2, 3, 1).numpy()

    found = pairs(our_images, their_images, args.pairs)
    report(
        f"{args.steps} DDIM steps", found, target=2.0 if device.type == "cuda" else 1.3, as_json=args.json,
        device=str(device), torch=torch.__version__, size=args.size, batch=args.batch,
        ours_images_per_second=round(args.batch / found["ours"], 3),
        peer_images_per_second=round(args.batch / found["peer"], 3),
    )  # fmt: skip


if __name__ == "__main__":
    main()
