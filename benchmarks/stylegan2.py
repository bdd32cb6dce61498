"""StyleGAN2's four training phases: ours against plain grouped convolutions with unfused resampling.

    python benchmarks/stylegan2.py --size 64 --batch 4

The peer trains the same networks (same parameters, phases, regularization, augmentation, optimizer and precision) but
makes a weight per image, convolves in groups of one image each, doubles by zeros and a blur before it convolves at full
size, halves after a full-size convolution, and draws new images for the critic's phase. One measurement is 16 steps, in which
every phase runs as often as in training. Target: 1.2x on a CPU, 2x on a GPU.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from _pairs import arguments, pairs, report, waiting
from _plain import Resident
from _steps import train_steps
from torch import Tensor

from animegen_cli import config, paths
from animegen_cli.config import Layer, RunConfig
from animegen_cli.device import has_bf16, has_compiler, pick_device
from animegen_cli.model.families.stylegan2 import Model, StyleGAN2, StyleGAN2Sampling
from animegen_cli.model.family import Batch, DataSpec, Losses
from animegen_cli.model.nets import style
from animegen_cli.train import options
from animegen_cli.train.trainer import Trainer


def plain_blur(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """The 4x4 filter, one group per channel."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
    return F.conv2d(x, (torch.outer(taps, taps) * gain).expand(x.shape[1], 1, 4, 4), padding=padding, groups=x.shape[1])


def plain_up(x: Tensor, margin: int = 0) -> Tensor:
    """Zeros between the pixels, then the filter; `margin` more pixels on each side."""
    count, channels, height, width = x.shape
    x = F.pad(x.reshape(count, channels, height, 1, width, 1), [0, 1, 0, 0, 0, 1])
    return plain_blur(F.pad(x.reshape(count, channels, height * 2, width * 2), [2 + margin, 1 + margin] * 2), 0, gain=4)


def grouped(x: Tensor, weight: Tensor, s: Tensor, *, demodulate: bool, padding: int) -> Tensor:
    """weight (O, I, k, k) modulated per image by s (B, I), one group per image."""
    count, _, height, width = x.shape
    w = weight[None] * s[:, None, :, None, None]
    if demodulate:
        w = w * (w.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    w = w.flatten(0, 1)
    y = F.conv2d(x.reshape(1, -1, height, width), w, padding=padding, groups=count)
    return y.view(count, -1, *y.shape[2:])


class PlainStyledConv(style.StyledConv):
    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        # a transposed convolution is a convolution with the kernel turned by half
        weight = self.weight.flip(2, 3) if self.up else self.weight
        x = plain_up(x, 1) if self.up else x
        x = grouped(x, weight, self.style(w) * self.scale, demodulate=True, padding=0 if self.up else 1)
        if noise is not None and self.noise_strength is not None:
            x = x + noise * self.noise_strength
        return F.leaky_relu(x + self.bias[:, None, None], style.SLOPE) * style.GAIN


class PlainToRGB(style.ToRGB):
    def forward(self, x: Tensor, w: Tensor, below: Tensor | None = None) -> Tensor:
        rgb = grouped(x, self.weight, self.style(w) * self.scale, demodulate=False, padding=0)
        image = rgb.float() + self.bias[:, None, None]
        return image if below is None else plain_up(below) + image


class PlainConv(style.Conv):
    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias
        weight = self.weight * (self.scale / self.gain)
        if self.down:
            pad = 2 if self.kernel == 3 else 1
            x = F.conv2d(plain_blur(x, pad), weight, bias, stride=2)
        else:
            x = F.conv2d(x, weight, bias, padding=self.kernel // 2)
        return x * self.gain if bias is None else F.leaky_relu(x, style.SLOPE) * self.gain


PLAIN = {style.StyledConv: PlainStyledConv, style.ToRGB: PlainToRGB, style.Conv: PlainConv}


def plain(model: StyleGAN2) -> StyleGAN2:
    """A copy of the family with the same parameters and the plain forward passes."""
    peer = copy.deepcopy(model)
    for module in peer.modules():
        module.__class__ = PLAIN.get(type(module), type(module))
    ours = peer.critic_loss

    def critic_loss(batch: Batch) -> Losses:
        count = len(batch.images)
        device = batch.images.device
        with torch.no_grad():
            peer.drawn.put(batch.part, peer.synthesis(peer.codes(count, None, device), peer.noise_maps(count, device)))
        return ours(batch)

    peer.critic_loss = critic_loss  # type: ignore[method-assign]  # only here does the critic's phase draw anew
    return peer


def settings(preset: str, batch: int) -> RunConfig:
    layers = [
        Layer.from_yaml(paths.preset_file("stylegan2", preset)),
        Layer({"family": "stylegan2", "preset": preset, "size": None, "train": {"batch": batch, "parts": 1}}, {}),
    ]
    return config.resolve(
        layers, family="stylegan2", model=Model, sample=StyleGAN2Sampling, optimizers=StyleGAN2.optimizers
    )


@torch.no_grad()
def same(ours: StyleGAN2, peer: StyleGAN2) -> float:
    """Largest difference of the two networks' images and logits, in fp32; refuses to time two different networks."""
    torch.manual_seed(1)
    device = next(ours.parameters()).device
    ws = ours.codes(2, None, device)
    maps = ours.noise_maps(2, device)
    images = ours.synthesis(ws, maps)
    found = max(
        float((images - peer.synthesis(ws, maps)).abs().max()),
        float((ours.critic(images) - peer.critic(images)).abs().max()),
    )
    if not found < 0.01 or math.isnan(found):
        raise SystemExit(f"the two networks differ by {found}")
    return found


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=16, help="steps per measurement; every phase is due in 16")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    args = parser.parse_args()
    device = pick_device(args.device)
    chosen, data = settings(args.preset, args.batch), Resident(args.size, args.batch, device)
    precision = args.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    torch.manual_seed(0)
    model = StyleGAN2(chosen.model, DataSpec(args.size, 4096)).to(device)
    peer = plain(model)
    differ = same(model, peer)
    compiled = device.type == "cuda" and has_compiler()
    trainers = [
        Trainer(one, data, chosen, options.ResolvedOptions(precision, 1, layout, fused), device=device, count=4096)
        for one, layout, fused in ((model, True, compiled), (peer, False, False))
    ]

    ours, theirs = (train_steps(trainer, args.steps) for trainer in trainers)
    found = pairs(ours, theirs, args.pairs, sync=waiting(device))
    images = args.steps * args.batch
    report(
        "StyleGAN2 training, all phases", found, target=2.0 if device.type == "cuda" else 1.2, as_json=args.json,
        device=str(device), torch=torch.__version__, size=args.size, batch=args.batch, precision=precision,
        compiled=compiled, generators_differ_by=differ, ours_images_per_second=round(images / found["ours"], 2),
        peer_images_per_second=round(images / found["peer"], 2),
    )  # fmt: skip


if __name__ == "__main__":
    main()
