"""Make the package's own perceptual trunk: `python benchmarks/make_faces_trunk.py`.

Draws faces, trains the trunk on them (attributes by name; strength of blur and of noise), folds the batch
normalization into the convolutions, scales the features over the drawn faces and writes
`animegen_cli/model/nets/faces_trunk.safetensors`. Then prints the accuracy per attribute on faces it has not seen and the
Fréchet distances that damage costs. About 15 minutes on two busy CPU cores; no other data is used or needed.

`--order-only` skips the training. `--faces ZIP [--foreign ZIP] [--photos ZIP] [--squeezenet NPZ]` measures the order
on the user's own pictures too; they are never trained on.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from animegen_cli.metrics.extractors import open_extractor
from animegen_cli.metrics.frechet import frechet_distance, moments
from animegen_cli.model.nets import trunk as trunks
from animegen_cli.prepare.drawn import ATTRIBUTES, draw

DRAWN = 96
"""Side of the drawn faces in pixels: more than the network's 64, so that turning and cropping does not blur them."""
TRAIN_SEED = 71
TEST_SEED = 72


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=9000, help="drawn faces to train on (default: 9000)")
    parser.add_argument("--steps", type=int, default=1000, help="steps of 128 images (default: 1000)")
    parser.add_argument("--threads", type=int, default=1, help="of the network; other numbers round otherwise")
    parser.add_argument("--processes", type=int, default=2, help="that draw")
    parser.add_argument("--out", type=Path, default=trunks.WEIGHTS)
    parser.add_argument("--order-only", action="store_true", help="measure the trunk that is there")
    for name in ("faces", "foreign", "photos", "squeezenet"):
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not args.order_only:
        start = time.perf_counter()
        make(args.images, args.steps, args.processes, args.out)
        print(
            f'made in {time.perf_counter() - start:.0f} s; animegen_cli/model/nets/trunk.py needs SHA = "{sha(args.out)}"'
        )
    order(args)


def make(count: int, steps: int, processes: int, out: Path) -> None:
    """Draw, train, test and write the trunk to `out`."""
    images, labels = faces(count, TRAIN_SEED, processes)
    learner = train(images, labels, steps)
    images, labels = faces(1000, TEST_SEED, processes)
    accuracy(learner, images, labels)
    save_file(export(learner, reduce(images)), out)


def faces(count: int, seed: int, processes: int) -> tuple[Tensor, Tensor]:
    """Drawn faces: uint8 (count, 3, 96, 96), and for each attribute the number of its value (count, attributes)."""
    with ProcessPoolExecutor(processes) as pool:
        drawn = list(pool.map(_face, range(count), [seed] * count, chunksize=100))
    pixels = torch.from_numpy(np.stack([image for image, _ in drawn]))
    return pixels.permute(0, 3, 1, 2).contiguous(), torch.tensor([labels for _, labels in drawn])


def _face(index: int, seed: int) -> tuple[np.ndarray, list[int]]:
    face = draw(index, size=DRAWN, seed=seed)
    return np.asarray(face.image), [values.index(face.labels[name]) for name, values in ATTRIBUTES.items()]


class Learner(nn.Module):
    """A trunk with batch normalization after each convolution, and one linear head that reads its features."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunks.Trunk()
        self.trunk.convs = nn.ModuleList(
            nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels)) for conv in self.trunk.convs
        )
        self.norm = nn.BatchNorm1d(trunks.DIMS, affine=False)
        self.sizes = [len(values) for values in ATTRIBUTES.values()]
        self.head = nn.Linear(trunks.DIMS, sum(self.sizes) + 2)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Images (B, 3, 64, 64) in -1..1 -> logits per attribute, and blur and noise (B, 2)."""
        with torch.autocast("cpu", torch.bfloat16):
            features = self.trunk.pooled(x.contiguous(memory_format=torch.channels_last))
        *attributes, damage = self.head(self.norm(features)).split([*self.sizes, 2], 1)
        return attributes, damage


def train(images: Tensor, labels: Tensor, steps: int, batch: int = 128) -> Learner:
    """Attributes are learned on sound images, blur and noise on all: nothing teaches to look past damage."""
    torch.manual_seed(0)
    learner = Learner().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=3e-3, weight_decay=0.02, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.15)
    sound = batch * 3 // 4
    small = reduce(images)
    start = time.perf_counter()
    for step in range(steps):
        chosen = torch.randint(len(images), (batch,))
        x = augment(images[chosen], small[chosen])
        x[sound:], damage = spoil(x[sound:])
        attributes, guess = learner(x / 127.5 - 1)
        truth = labels[chosen[:sound]].T
        named = sum(
            F.cross_entropy(logits[:sound], value, label_smoothing=0.05)
            for logits, value in zip(attributes, truth, strict=True)
        )
        loss = named + 4 * F.smooth_l1_loss(guess, torch.cat([torch.zeros(sound, 2), damage]), beta=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            speed = (step + 1) * batch / (time.perf_counter() - start)
            print(f"step {step + 1} of {steps}: loss {loss.item():.3f}, {speed:.0f} images/s", flush=True)
    return learner.eval()


def reduce(images: Tensor) -> Tensor:
    """The faces at the network's size, as uint8."""
    parts = [
        F.interpolate(part.float(), (trunks.SIZE, trunks.SIZE), mode="bicubic", antialias=True)
        for part in images.split(500)
    ]
    return torch.cat([part.clamp(0, 255).round().byte() for part in parts])


def augment(large: Tensor, small: Tensor) -> Tensor:
    """What keeps the labels: mirrored, turned, cropped, a little more or less color, a foreign patch in front."""
    count = len(large)
    angle = torch.empty(count).uniform_(-0.25, 0.25)
    zoom = torch.empty(count).uniform_(0.6, 1.0)  # part of the picture that is seen
    shift = (torch.rand(2, count) * 2 - 1) * (1 - zoom) * 0.8
    cos = zoom * angle.cos()
    sin = zoom * angle.sin()
    turn = torch.stack([torch.stack([cos, -sin, shift[0]], 1), torch.stack([sin, cos, shift[1]], 1)], 1)
    grid = F.affine_grid(turn, [count, 3, trunks.SIZE, trunks.SIZE], align_corners=False)
    x = F.grid_sample(large.float(), grid, padding_mode="reflection", align_corners=False)
    x = torch.where((torch.rand(count) < 0.4).view(-1, 1, 1, 1), small.float(), x)
    x = torch.where((torch.rand(count) < 0.5).view(-1, 1, 1, 1), x.flip(3), x)
    gray = x.mean(1, keepdim=True)
    x = gray + (x - gray) * torch.empty(count, 1, 1, 1).uniform_(0.8, 1.15)
    x = 128 + (x - 128) * torch.empty(count, 1, 1, 1).uniform_(0.88, 1.08)
    x += torch.empty(count, 1, 1, 1).uniform_(-10, 10)
    return _cover(x).clamp_(0, 255)


def _cover(x: Tensor, share: float = 0.3) -> Tensor:
    """Put a rectangle of another face over some of the images."""
    low = torch.rand(2, len(x), 1) * (trunks.SIZE - 8)
    high = low + 6 + 14 * torch.rand(2, len(x), 1)
    place = torch.arange(trunks.SIZE)
    rows, columns = (place >= low) & (place < high)
    inside = rows[:, None, :, None] & columns[:, None, None, :] & (torch.rand(len(x), 1, 1, 1) < share)
    return torch.where(inside, x.roll(1, 0), x)


def spoil(x: Tensor) -> tuple[Tensor, Tensor]:
    """Blur most images by up to 2 pixels, put noise of up to 25 gray levels on most: both in 0..1 (B, 2)."""
    strength = torch.rand(len(x), 2) * (torch.rand(len(x), 2) < 0.6)
    x = blur(x, 2 * strength[:, 0])
    x = x + torch.randn_like(x) * 25 * strength[:, 1].view(-1, 1, 1, 1)
    return x.clamp(0, 255), strength


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of float images (B, 3, H, W), each by its own `sigma` in pixels, up to 2."""
    reach = 8
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma.clamp(min=0.05)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]
    flat = x.reshape(1, -1, *x.shape[2:])
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="reflect"), kernel[:, :, None, :], groups=flat.shape[1])
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="reflect"), kernel[:, :, :, None], groups=flat.shape[1])
    return flat.view_as(x)


@torch.inference_mode()
def accuracy(learner: Learner, images: Tensor, labels: Tensor) -> None:
    """Print the share of unseen faces whose attributes are named right, beside what the commonest value gets."""
    x = reduce(images).float() / 127.5 - 1
    logits = [torch.cat(parts) for parts in zip(*(learner(part)[0] for part in x.split(100)), strict=True)]
    for name, guess, truth in zip(ATTRIBUTES, logits, labels.T, strict=True):
        right = (guess.argmax(1) == truth).double().mean().item()
        print(f"{name:12}{right:7.1%}   (commonest value {truth.bincount().max().item() / len(truth):.1%})")


@torch.inference_mode()
def export(learner: Learner, images: Tensor) -> dict[str, Tensor]:
    """The trunk alone as float16: normalization folded into the convolutions, features scaled over `images`."""
    trunk = trunks.Trunk()
    for plain, block in zip(trunk.convs, learner.trunk.convs, strict=True):
        conv, norm = block
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        plain.weight.copy_(conv.weight * gain.view(-1, 1, 1, 1))
        plain.bias.copy_((conv.bias - norm.running_mean) * gain + norm.bias)
    trunk.half().float()  # what is measured next is what is stored
    features = torch.cat([trunk(part) for part in images.split(100)])  # mean 0 and scale 1 as yet
    trunk.mean.copy_(features.mean(0))
    trunk.scale.copy_(1 / features.std(0).clamp(min=0.02))
    return {name: tensor.half().contiguous() for name, tensor in trunk.state_dict().items()}


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def order(args: argparse.Namespace) -> None:
    """Print the Fréchet distance of every kind of damage, least first: drawn faces, then the user's own."""
    faces_64 = reduce(faces(4000, TEST_SEED, args.processes)[0])
    sets = {"drawn faces": (faces_64[:2000], damaged(faces_64[2000:]))}
    if args.faces:
        real = pictures(args.faces, 4000)
        half = len(real) // 2
        others = {path.stem: pictures(path, 2000) for path in (args.foreign, args.photos) if path}
        others["drawn faces"] = faces_64[:2000]
        sets[args.faces.stem] = (real[:half], damaged(real[half:]) | others)
    for spec in ["faces", *([f"squeezenet:{args.squeezenet}"] if args.squeezenet else [])]:
        extractor = open_extractor(spec)
        for name, (reference, others) in sets.items():
            known = moments(extractor.features(reference))
            distances = {
                what: frechet_distance(known, moments(extractor.features(images))) for what, images in others.items()
            }
            print(f"\n{extractor.name}, {extractor.dims} features: {len(reference)} of {name} against")
            for what, distance in sorted(distances.items(), key=lambda row: row[1]):
                print(f"{what:24}{distance:12.1f}{distance / distances['others of them']:10.1f} x")


def damaged(images: Tensor) -> dict[str, Tensor]:
    """Images (N, 3, H, W), and what a person would call worse."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(images.shape, generator=generator)
    rows = {"others of them": images}
    for sigma in (0.5, 1.0, 2.0):
        blurred = [blur(part.float(), torch.full((len(part),), sigma)) for part in images.split(500)]
        rows[f"blurred {sigma:g} px"] = torch.cat(blurred).round().byte()
    for level in (5, 20):
        rows[f"noise {level} levels"] = (images + level * noise).round().clamp(0, 255).byte()
    rows["20 of them, repeated"] = images[:20].repeat(len(images) // 20, 1, 1, 1)
    return rows


def pictures(path: Path, count: int) -> Tensor:
    """Up to `count` pictures of a zip, chosen by seed, uint8 (N, 3, 64, 64)."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".png")))
        chosen = np.random.default_rng(0).permutation(len(names))[:count]
        read = [Image.open(io.BytesIO(archive.read(names[index]))).convert("RGB") for index in chosen]
    size = (trunks.SIZE, trunks.SIZE)
    fitted = [image if image.size == size else image.resize(size, Image.Resampling.BICUBIC) for image in read]
    return torch.from_numpy(np.stack([np.asarray(image) for image in fitted])).permute(0, 3, 1, 2).contiguous()


if __name__ == "__main__":
    main()
