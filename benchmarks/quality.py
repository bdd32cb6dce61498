"""Ours against a plain model of the same kind: equal minutes, same machine, same time, same pictures, same score.

    python benchmarks/quality.py vae --data faces-64.zip --minutes 8 --extractor squeezenet:trunk.npz
    python benchmarks/quality.py gan --data faces-64.zip --minutes 15
    python benchmarks/quality.py edm --data faces-32.zip --minutes 15

Both train in processes of their own at the same time, each on one thread (a GPU is shared). Ours is the preset `fast`,
shortened to what it can do in the minutes given; the peer goes on until ours has ended, so it never has less time. Both
then draw 1,000 images, which `animegen eval` scores against the held-out split. Peers: the VAE of PyTorch-VAE's vanilla numbers and
the DCGAN of PyTorch's example are written out here; the diffusion model is denoising-diffusion-pytorch from PyPI.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from _plain import VAE_LATENT, VAE_LR, PlainVAE
from PIL import Image
from torch import Tensor, nn

from animegen_cli.config import Augment
from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.loading import Loader, LoaderConfig
from animegen_cli.device import has_bf16

if TYPE_CHECKING:
    from collections.abc import Iterator


def _dcgan(size: int) -> tuple[nn.Module, nn.Module]:
    """Generator and critic of PyTorch's DCGAN example for 64 pixels (one stage fewer for 32)."""
    widths = [512, 256, 128, 64][-(size.bit_length() - 3) :]
    g: list[nn.Module] = [nn.ConvTranspose2d(100, widths[0], 4, 1, 0, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    d: list[nn.Module] = [nn.Conv2d(3, widths[-1], 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for wide, narrow in itertools.pairwise(widths):
        g += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()]
    for narrow, wide in itertools.pairwise(widths[::-1]):
        d += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.LeakyReLU(0.2)]
    g += [nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1, bias=False), nn.Tanh()]
    d += [nn.Conv2d(widths[0], 1, 4, 1, 0, bias=False)]
    generator, critic = nn.Sequential(*g), nn.Sequential(*d)
    for module in [*generator.modules(), *critic.modules()]:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    return generator, critic


# ---- the plain trainings --------------------------------------------------------------------------------------


class _Clock:
    """Batches in [-1, 1] until `--until` is there."""

    def __init__(self, args: argparse.Namespace, batch: int) -> None:
        faces = FaceSet.open(args.data)
        self.device = torch.device(args.device)
        batches = LoaderConfig(split="train", size=faces.size, batch=batch, seed=0, augment=Augment(flip=True))
        self.loader = Loader(faces, batches, device=self.device)
        self.batch = batch
        self.until = args.until
        self.size = faces.size
        self.seen = 0
        self.seconds = 0.0
        self.low = has_bf16(self.device)

    def __iter__(self) -> Iterator[Tensor]:
        began = time.perf_counter()
        while not self.until.exists():
            yield self.loader.batch(self.seen).images.float() / 127.5 - 1
            self.seen += self.batch
        self.seconds = time.perf_counter() - began

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.low)


def _plain_vae(args: argparse.Namespace) -> tuple[Tensor, _Clock]:
    clock = _Clock(args, 64)
    model = PlainVAE(clock.size).to(clock.device)
    adam = torch.optim.Adam(model.parameters(), VAE_LR)
    for images in clock:
        with clock.autocast():
            loss = model.loss(images)
        adam.zero_grad()
        loss.backward()
        adam.step()
    model.eval()
    with torch.no_grad():
        return torch.cat([model.decode(torch.randn(100, VAE_LATENT, device=clock.device)) for _ in range(10)]), clock


def _plain_gan(args: argparse.Namespace) -> tuple[Tensor, _Clock]:
    clock = _Clock(args, 64)
    generator, critic = (net.to(clock.device) for net in _dcgan(clock.size))
    adams = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (generator, critic)]
    entropy = F.binary_cross_entropy_with_logits
    for images in clock:
        with clock.autocast():
            fake = generator(torch.randn(len(images), 100, 1, 1, device=clock.device))
            real_logits, fake_logits = critic(images).float(), critic(fake.detach()).float()
            loss = entropy(real_logits, torch.ones_like(real_logits)) + entropy(
                fake_logits, torch.zeros_like(fake_logits)
            )
        adams[1].zero_grad()
        loss.backward()
        adams[1].step()
        with clock.autocast():
            logits = critic(fake).float()
            loss = entropy(logits, torch.ones_like(logits))
        adams[0].zero_grad()
        loss.backward()
        adams[0].step()
    with torch.no_grad():
        codes = [torch.randn(100, 100, 1, 1, device=clock.device) for _ in range(10)]
        return torch.cat([generator(code) for code in codes]), clock


def _plain_diffusion(args: argparse.Namespace) -> tuple[Tensor, _Clock]:
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    clock = _Clock(args, 32)
    net = Unet(dim=32, dim_mults=(1, 2, 4), flash_attn=False)
    model = GaussianDiffusion(net, image_size=clock.size, timesteps=1000, sampling_timesteps=50).to(clock.device)
    ema = EMA(model, beta=0.995, update_every=10)
    adam = torch.optim.Adam(model.parameters(), 4e-4, (0.9, 0.99))
    for images in clock:
        with clock.autocast():
            loss = model((images + 1) / 2)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        ema.update()
    with torch.no_grad(), clock.autocast():
        drawn = [ema.ema_model.sample(batch_size=100) for _ in range(10)]
    return torch.cat(drawn).float() * 2 - 1, clock


PLAIN = {"vae": _plain_vae, "gan": _plain_gan, "edm": _plain_diffusion}


def _train_plain(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    images, clock = PLAIN[args.family](args)
    folder = args.out / "plain"
    folder.mkdir(parents=True, exist_ok=True)
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:04d}.png")
    columns = np.concatenate(
        [np.concatenate(list(row), axis=1) for row in pixels[:100].reshape(10, 10, *pixels.shape[1:])]
    )
    Image.fromarray(columns).save(args.out / "plain.png")
    (args.out / "plain.json").write_text(json.dumps({"images": clock.seen, "seconds": round(clock.seconds, 1)}))


# ---- ours, and both -------------------------------------------------------------------------------------------


def _animegen(*words: object) -> Any:
    line = [sys.executable, "-m", "animegen_cli", *map(str, words), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def _compare(args: argparse.Namespace) -> dict[str, Any]:
    os.environ["OMP_NUM_THREADS"] = "1"
    args.out.mkdir(parents=True, exist_ok=True)
    run = args.out / "ours"
    words = ["train", args.family, "--preset", "fast", "--data", args.data, "--device", args.device]
    done = args.out / "ours-has-ended"
    done.unlink(missing_ok=True)
    myself = [sys.executable, __file__, args.family, "--data", args.data, "--device", args.device, "--out", args.out,
              "--until", done]  # fmt: skip
    peer = subprocess.Popen([str(word) for word in myself])
    with contextlib.ExitStack() as stack:
        stack.callback(peer.terminate)
        plan = _animegen(*words, "--out", args.out / "plan", "--dry-run")
        rate = plan["images"] / plan["expected_seconds"]
        batch = plan["config"]["train"]["batch"]
        images = int(args.slack * rate * 60 * args.minutes) // batch * batch
        _animegen(*words, "--out", run, "--duration", f"{images} images", "--resume", "none")
        done.touch()
        peer.wait()
    about = json.loads((run / "run.json").read_text())
    score = ["--extractor", args.extractor, "--metrics", "fd,kid,precision,recall,coverage", "--split", "test"]
    mine = _animegen("eval", run, "--n", 1000, *score)
    _animegen("sample", run, "--n", 100, "--grid", "--out", args.out / "drawn")
    theirs = _animegen("eval", args.out / "plain", "--against", args.data, *score)
    return {
        "family": args.family, "minutes": args.minutes, "data": str(args.data), "device": args.device,
        "ours_trained": {"images": about["images"], "seconds": about["seconds"]},
        "plain_trained": json.loads((args.out / "plain.json").read_text()),
        "ours": {s["name"]: round(s["value"], 4) for s in mine["scores"]},
        "plain": {s["name"]: round(s["value"], 4) for s in theirs["scores"]},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=PLAIN)
    parser.add_argument("--data", type=Path, required=True, help="a data set file of 64 (edm: 32) pixels")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--slack", type=float, default=0.95, help="ours trains for this share of what the plan expects")
    parser.add_argument("--extractor", default="faces")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("quality"))
    parser.add_argument("--until", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.until:
        _train_plain(args)
        return
    print(json.dumps(_compare(args), indent=2))


if __name__ == "__main__":
    main()
