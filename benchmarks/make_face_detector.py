"""Make the face detector of `prepare --faces`. This command made the weights of the package:

python benchmarks/make_face_detector.py --photos photos/

It draws figures (`_face_figures.py`, and of many styles `_face_sketches.py`) and backgrounds, takes the faces that
animegen's own models drew in November 2026 (`faces/`), puts all of them together to scenes whose boxes are known
(`_face_scenes.py`), trains the network on them, folds the batch normalization into the convolutions, and writes
`animegen_cli/prepare/face_detector.npz` every `--save-every` steps, so that it can be measured by `benchmarks/detector.py`
meanwhile. No real face is shown to it. Everything follows from `SEED` but for the order in which several processes
deliver scenes and the rounding of the machine.

`photos/` holds the pictures without faces that come with scikit-image 0.26 (`skimage/data`), scikit-learn
(`datasets/images`) and gradio (its cheetah and its tower), 23 in all, without the second of two alike. Every third of them
is cut up for backgrounds (brick, chelsea, clock_motion, color, gravel, ihc, motorcycle_left, rocket), and `detector.py`
measures on others.

Other models' faces may be added: `--runs runs/005=0.5,0.48,0.73` takes those that a run draws, with the place of the face
in its pictures.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _face_figures import KAGGLE, crop_figures, drawn_figures, run_faces, sheet_faces
from _face_grounds import backgrounds, parted
from _face_scenes import Banks, compose, degrade
from _face_sketches import sketched_figures
from PIL import Image
from torch import Tensor, nn

from animegen_cli.prepare import drawn, face_detector

SIZE = 192
"""Side in pixels of a training scene."""
SIDES = (8.5, 25.0)
"""Sides of the faces that a level of the pyramid answers for."""
LEFT_OUT = (5.5, 34.0)
"""Faces between these and `SIDES` are neither right nor wrong."""
FACES = Path(__file__).resolve().parent / "faces"
SHEETS = (("ddim", "ddpm"), ("edm", "gan", "sde"), ("mhvae", "vae"), ("ddim", "ddpm", "edm"))
"""Sheets of faces that animegen's models drew; each group is chosen alike often, so the best stand twice."""
REUSED = 6
"""Steps for each new batch of scenes: composing costs more than learning."""
SEED = 11


class Network(nn.Module):
    """The network of `face_detector.forward`, with batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        for name, (inputs, outputs, kernel, stride) in face_detector.LAYERS.items():
            plain = name == "head"
            self.convs[name] = nn.Conv2d(inputs, outputs, kernel, stride, bias=plain)
            self.norms[name] = nn.Identity() if plain else nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.convs["head"].bias)
        nn.init.constant_(self.convs["head"].bias[:1], -4.0)

    def layer(self, x: Tensor, name: str) -> Tensor:
        _, _, kernel, stride = face_detector.LAYERS[name]
        before = (kernel - stride + 1) // 2 if stride > 1 else kernel // 2
        after = kernel - stride - before
        return self.norms[name](self.convs[name](F.pad(x, (before, after, before, after))))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in -1..1 -> (B, 4, H / 8, W / 8)."""
        x = F.relu(self.layer(F.relu(self.layer(x, "stem")), "down1"))
        x = x + F.relu(self.layer(x, "near1"))
        far = F.relu(self.layer(x, "down2"))
        far = far + F.relu(self.layer(far, "far1"))
        far = far + F.relu(self.layer(far, "far2"))
        far = far + F.relu(self.layer(far, "far3"))
        x = F.relu(x + F.interpolate(self.layer(far, "lift"), scale_factor=2.0))
        x = x + F.relu(self.layer(x, "near2"))
        return self.layer(x, "head")

    @torch.no_grad()
    def arrays(self) -> dict[str, np.ndarray]:
        """The weights as `face_detector` reads them, float16."""
        found = {}
        for name, conv in self.convs.items():
            weight, bias = conv.weight, conv.bias
            norm = self.norms[name]
            if isinstance(norm, nn.BatchNorm2d):
                gain = norm.weight / (norm.running_var + norm.eps).sqrt()
                weight, bias = weight * gain.view(-1, 1, 1, 1), norm.bias - norm.running_mean * gain
            matrix = weight.permute(2, 3, 1, 0).reshape(-1, len(weight))
            found[f"{name}.matrix"] = matrix.half().numpy()
            found[f"{name}.bias"] = bias.half().numpy()
        return found


def targets(boxes: list[tuple[float, float, float]]) -> np.ndarray:
    """What the network is to say of a scene: float32 (7, 24, 24).

    The heat of the middles, the three numbers of the box, how much these count, and how much the heat counts where it
    should be zero and where one.
    """
    cells = SIZE // face_detector.STRIDE
    out = np.zeros((7, cells, cells), np.float32)
    out[5:] = 1
    down, across = np.mgrid[:cells, :cells] + 0.5
    for x, y, side in boxes:
        cx, cy, reach = x / face_detector.STRIDE, y / face_detector.STRIDE, side / face_detector.STRIDE
        if not SIDES[0] <= side <= SIDES[1]:
            if LEFT_OUT[0] < side < LEFT_OUT[1]:
                out[5][(abs(across - cx) < 0.5 * reach + 0.5) & (abs(down - cy) < 0.5 * reach + 0.5)] = 0
            continue
        spread = 0.2 + 0.13 * reach
        heat = np.exp(-((across - cx) ** 2 + (down - cy) ** 2) / (2 * spread**2))
        column, row = min(max(int(cx), 0), cells - 1), min(max(int(cy), 0), cells - 1)
        heat[row, column] = 1.0
        own = heat > out[0]
        out[0] = np.maximum(out[0], heat)
        near = own & (heat > 0.25)
        out[1][near] = (cx - across)[near]
        out[2][near] = (cy - down)[near]
        out[3][near] = np.log(side / face_detector.UNIT)
        out[4][near] = heat[near]
    return out


def loss_of(answer: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The focal loss of the heat (arXiv:1904.07850, equation 1) and the loss of the boxes, for each face."""
    heat, box, weight, counts = wanted[:, 0], wanted[:, 1:4], wanted[:, 4], wanted[:, 5]
    logit = answer[:, 0]
    chance = torch.sigmoid(logit)
    middle = heat == 1
    sure = F.logsigmoid(logit) * (1 - chance) ** 2
    other = F.logsigmoid(-logit) * chance**2 * (1 - heat) ** 4 * counts
    faces = middle.sum().clamp(min=1)
    found = -(torch.where(middle, sure, other)).sum() / faces
    off = F.smooth_l1_loss(answer[:, 1:], box, reduction="none", beta=0.1).sum(1)
    return found, (off * weight).sum() / weight.sum().clamp(min=1)


# ------------------------------------------------------------------------------------------------- scenes


def produce(banks: Banks, seed: int, queue: multiprocessing.Queue) -> None:
    """Compose scenes for ever."""
    rng = np.random.default_rng([SEED, seed])
    while True:
        scenes, wanted = [], []
        for _ in range(32):
            image, boxes = scene(banks, rng)
            scenes.append(np.asarray(image))
            wanted.append(targets(boxes))
        queue.put((np.stack(scenes), np.stack(wanted)))


def scene(banks: Banks, rng: np.random.Generator) -> tuple[object, list[tuple[float, float, float]]]:
    """One scene: most have a few faces of the sizes that are asked for, some large ones and some none."""
    kind = rng.random()
    if kind < 0.14:
        image, boxes = compose(banks, rng, SIZE, SIDES, 0)
    elif kind < 0.34:  # faces too large for this level: what is seen of them, an eye or an earring, is no face
        image, boxes = compose(banks, rng, SIZE, (32, 170), 3)
    else:
        image, boxes = compose(banks, rng, SIZE, (7, 32), int(rng.integers(2, 9)))
    return degrade(image, rng), boxes


def make_banks(args: argparse.Namespace) -> Banks:
    """Figures, grounds and photographs; stored beside the state, for they take minutes to draw."""
    if args.banks.exists():
        with args.banks.open("rb") as file:
            return pickle.load(file)
    sketches = sketched_figures(args.sketches, SEED, args.processes)
    kinds = [drawn_figures(args.figures, SEED, args.processes), sketches, sketches]
    kinds += [crop_figures(np.concatenate([sheet_faces(FACES / f"{name}.png") for name in kind])) for kind in SHEETS]
    for number, said in enumerate(args.runs):
        path, _, part = said.partition("=")
        box = tuple(map(float, part.split(","))) if part else KAGGLE
        faces = run_faces(Path(path), args.faces, SEED * 1_000_000 * (number + 1))
        kinds += [crop_figures(faces, box)] * 2
        print(f"{path}: {len(faces)} faces of {faces.shape[1]} pixels", flush=True)
    photos = [drawn.photo(index, size=64, seed=SEED) for index in range(300)]
    grounds = backgrounds(args.grounds, SEED * 1000, args.processes)
    if args.photos:
        grounds += photographs(args.photos, args.grounds // 3)
    banks = Banks(kinds, grounds, photos)
    with args.banks.open("wb") as file:
        pickle.dump(banks, file)
    return banks


def photographs(folder: Path, count: int) -> list[Image.Image]:
    """Parts of every third picture of a folder; `detector.py` measures on another third and chooses on the last."""
    rng = np.random.default_rng(SEED)
    files = parted(folder)[0]
    found = []
    for index in range(count):
        image = Image.open(files[index % len(files)]).convert("RGB")
        side = min(image.size) * rng.uniform(0.4, 1.0)
        left, top = rng.uniform(0, 1, 2) * (np.array(image.size) - side)
        found.append(image.resize((384, 384), Image.Resampling.BICUBIC, (left, top, left + side, top + side)))
    return found


# ----------------------------------------------------------------------------------------------- training


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--runs",
        nargs="*",
        default=[],
        metavar="RUN[=X,Y,SIDE]",
        help="run folders whose models draw faces, and where the face is in a crop (default: as in Kaggle's set)",
    )
    parser.add_argument("--faces", type=int, default=4000, help="faces that each run draws (default: 4000)")
    parser.add_argument("--figures", type=int, default=400, help="drawn figures (default: 400)")
    parser.add_argument("--sketches", type=int, default=3000, help="figures of many styles (default: 3000)")
    parser.add_argument(
        "--photos", type=Path, help="a folder of pictures without faces; every third by name is a ground"
    )
    parser.add_argument("--grounds", type=int, default=400, help="backgrounds (default: 400)")
    parser.add_argument("--steps", type=int, default=3000, help="steps of 32 scenes (default: 3000)")
    parser.add_argument("--rate", type=float, default=3e-3, help="largest learning rate (default: 0.003)")
    parser.add_argument("--processes", type=int, default=1, help="that draw and compose")
    parser.add_argument("--threads", type=int, default=1, help="that learn, each from its part of a batch")
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--resume", action="store_true", help="begin with the weights of the state beside `--out`")
    parser.add_argument("--scenes", type=int, default=0, help="seed of the scenes: another one after `--resume`")
    parser.add_argument("--out", type=Path, default=face_detector.WEIGHTS)
    parser.add_argument("--banks", type=Path, default=Path("face_detector.banks.pickle"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    banks = make_banks(args)
    print(f"banks after {time.perf_counter() - start:.0f} s", flush=True)
    train(args, banks)


def train(args: argparse.Namespace, banks: Banks) -> None:
    """Every scene is shown about three times, mirrored and in other light."""
    torch.manual_seed(SEED)
    network = Network().to(memory_format=torch.channels_last)
    state = args.out.with_suffix(".state.pt")
    if args.resume:
        network.load_state_dict(torch.load(state, weights_only=True))
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99), use_buffers=True
    )
    replicas = [network, *(copy.deepcopy(network) for _ in range(args.threads - 1))]
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.rate, total_steps=args.steps, pct_start=0.08)
    fork = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue = fork.Queue(4)
    workers = [
        fork.Process(target=produce, args=(banks, 1000 * args.scenes + number, queue), daemon=True)
        for number in range(args.processes)
    ]
    for worker in workers:
        worker.start()
    scenes: list[tuple[np.ndarray, np.ndarray]] = []
    fresh = 0
    rng = np.random.default_rng(SEED)
    start, seen = time.perf_counter(), np.zeros(2)
    with ThreadPoolExecutor(args.threads) as pool:
        for step in range(args.steps):
            while len(scenes) < 6 or fresh <= step // REUSED:
                scenes.append(queue.get())
                fresh += 1
                if len(scenes) > 100:
                    scenes.pop(0)
            x, wanted = _batch(scenes, rng)
            parts = zip(x.chunk(args.threads), wanted.chunk(args.threads), strict=True)
            losses = list(pool.map(lambda replica, part: _learn(replica, *part), replicas, parts))
            _share_gradients(replicas)
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            for replica in replicas[1:]:
                replica.load_state_dict(network.state_dict())
            averaged.update_parameters(network)
            seen += np.mean(losses, 0)
            if step % 100 == 99:
                speed = (step + 1) / (time.perf_counter() - start)
                said = f"faces {seen[0] / 100:.3f}, boxes {seen[1] / 100:.3f}; {speed:.2f} steps/s, {fresh} new batches"
                print(f"step {step + 1}: {said}", flush=True)
                seen[:] = 0
            if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
                kept = _settled(averaged.module, scenes)
                torch.save(kept.state_dict(), state)
                np.savez_compressed(args.out, **kept.arrays())
    for worker in workers:
        worker.terminate()


@torch.no_grad()
def _settled(averaged: Network, scenes: list[tuple[np.ndarray, np.ndarray]]) -> Network:
    """A copy whose batch normalization holds the means and variances that the averaged weights give."""
    network = copy.deepcopy(averaged)
    for norm in network.norms.values():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean of what follows
    network.train()
    rng = np.random.default_rng(SEED)
    for _ in range(16):
        network(_batch(scenes, rng)[0])
    return network


def _learn(network: Network, x: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Put the gradients of a part of a batch into `network`."""
    network.zero_grad()
    found, off = loss_of(network(x), wanted)
    (found + 2 * off).backward()
    return found.item(), off.item()


def _share_gradients(replicas: list[Network]) -> None:
    """Give the first replica the mean of all gradients."""
    for one in zip(*(replica.parameters() for replica in replicas), strict=True):
        one[0].grad = torch.stack([parameter.grad for parameter in one]).mean(0)


def _batch(scenes: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """32 scenes of what is there, mirrored and in other light."""
    parts = [scenes[int(index)] for index in rng.integers(len(scenes), size=4)]
    rows = [rng.permutation(32)[:8] for _ in parts]
    x = torch.from_numpy(np.concatenate([images[row] for (images, _), row in zip(parts, rows, strict=True)]))
    wanted = torch.from_numpy(np.concatenate([targets[row] for (_, targets), row in zip(parts, rows, strict=True)]))
    x = x.permute(0, 3, 1, 2).float() / 127.5 - 1
    if rng.random() < 0.5:
        x, wanted = x.flip(3), wanted.flip(3)
        wanted[:, 1] *= -1
    gain = torch.from_numpy(rng.uniform(0.75, 1.2, (32, 3, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.2, 0.2, (32, 1, 1, 1)).astype(np.float32))
    return (x * gain + shift).clamp(-1, 1).contiguous(memory_format=torch.channels_last), wanted


if __name__ == "__main__":
    main()
