"""Share of planted copies that `animegen eval --metrics copies` finds, and of honest images that it takes for copies.

python benchmarks/copies.py faces-64.zip          # a data set file with a test part, as `animegen prepare` writes it

Training images are copied, harmed in one way each, and sought in the set. Three kinds of honest images: test images
that no hash matches in training and that said nothing of the limits, the same blurred, and what 50 principal
components leave of them (as a weak model would draw).
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from animegen_cli.data.dataset import FaceSet
from animegen_cli.evaluate.reference import set_features
from animegen_cli.metrics import copies
from animegen_cli.metrics.extractors import open_extractor
from animegen_cli.model.pixels import channels_first, channels_last
from animegen_cli.ranks import ALONE

SHIFTS = [(x, y) for x in (-2, 0, 2) for y in (-2, 0, 2) if (x, y) != (0, 0)]
Harm = Callable[[np.ndarray, int], np.ndarray]
"""An image uint8 (H, W, 3) and its number -> the image, harmed."""


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "jpeg", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image)


def noise(pixels: np.ndarray, deviation: float, number: int) -> np.ndarray:
    added = np.random.default_rng(number).normal(0, deviation, pixels.shape)
    return (pixels + added).round().clip(0, 255).astype(np.uint8)


def shifted(pixels: np.ndarray, x: int, y: int) -> np.ndarray:
    """Moved, the border repeated."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), "edge")
    return padded[2 - y : 2 - y + height, 2 - x : 2 - x + width]


def resized(pixels: np.ndarray, scale: float) -> np.ndarray:
    """To another size and back."""
    size = pixels.shape[1::-1]
    other = Image.fromarray(pixels).resize([round(side * scale) for side in size], Image.Resampling.LANCZOS)
    return np.asarray(other.resize(size, Image.Resampling.LANCZOS))


def cropped(pixels: np.ndarray) -> np.ndarray:
    size = pixels.shape[1::-1]
    inner = Image.fromarray(pixels).crop((2, 2, size[0] - 2, size[1] - 2))
    return np.asarray(inner.resize(size, Image.Resampling.BICUBIC))


def blurred(pixels: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


HARMS: dict[str, Harm] = {
    "none": lambda x, _: x,
    "JPEG 75": lambda x, _: jpeg(x, 75),
    "JPEG 30": lambda x, _: jpeg(x, 30),
    "noise of 5": lambda x, i: noise(x, 5, i),
    "noise of 10": lambda x, i: noise(x, 10, i),
    "mirrored": lambda x, _: x[:, ::-1],
    "mirrored, JPEG 75": lambda x, _: jpeg(x[:, ::-1], 75),
    "shifted by 2 px": lambda x, i: shifted(x, *SHIFTS[i % 8]),
    "resized to 3/4 and back": lambda x, _: resized(x, 0.75),
    "resized to 1/2 and back": lambda x, _: resized(x, 0.5),
    "resized to 2 and back": lambda x, _: resized(x, 2),
    "cropped by 2 px, enlarged": lambda x, _: cropped(x),
    "blurred by 0.5 px": lambda x, _: blurred(x, 0.5),
    "blurred by 1 px": lambda x, _: blurred(x, 1),
}


class Detector:
    """What `animegen eval` does, with its parts apart."""

    def __init__(self, faces: FaceSet, network: str, held_out: np.ndarray) -> None:
        self.extractor = open_extractor(network)
        self.features = set_features(faces, "train", faces.size, self.extractor, ALONE)
        known = faces.indices("train")
        parts = [channels_first(faces.pixels(known[start : start + 512])) for start in range(0, len(known), 512)]
        self.small = torch.cat([copies.small(part) for part in parts])
        self.known = np.concatenate([copies.fingerprints(part) for part in parts])
        images = channels_first(faces.pixels(held_out))
        self.clean = copies.without_near_duplicate(copies.fingerprints(images), self.known)
        self.limits = [copies.limit(ratio) for ratio in self.ratios(images[torch.from_numpy(self.clean)])]

    def ratios(self, images: Tensor) -> list[Tensor]:
        """By features and by pixels."""
        plain, mirrored = (
            torch.cat([self.extractor.features(part) for part in side.split(256)]) for side in (images, images.flip(3))
        )
        near = copies.nearest(plain, mirrored, self.features), copies.nearest_pixels(copies.small(images), self.small)
        return [one.ratio for one in near]

    def found(self, images: Tensor) -> dict[str, float]:
        """The share of images that each criterion takes for copies."""
        features, pixels = (ratio < limit for ratio, limit in zip(self.ratios(images), self.limits, strict=True))
        hashed = copies.hashed_copies(copies.fingerprints(images), self.known) >= 0
        shares = {"copies": features | pixels, "by features": features, "by pixels": pixels}
        return {name: float(which.float().mean()) for name, which in shares.items()} | {"copies-hash": hashed.mean()}


def weak(images: np.ndarray, training: np.ndarray, components: int = 50) -> np.ndarray:
    """What some principal components of training images leave of images uint8 (n, H, W, 3)."""
    flat = torch.from_numpy(training.reshape(len(training), -1)).float()
    basis = torch.pca_lowrank(flat, q=components)[2]
    middle = flat.mean(0)
    left = (torch.from_numpy(images.reshape(len(images), -1)).float() - middle) @ basis @ basis.T + middle
    return left.round().clamp(0, 255).to(torch.uint8).numpy().reshape(images.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("set", type=Path)
    parser.add_argument("--count", type=int, default=300, help="how many training images are copied")
    parser.add_argument("--network", default="faces")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    faces = FaceSet.open(args.set)
    train, test = faces.indices("train"), faces.indices("test")
    detector = Detector(faces, args.network, test[::2])
    chosen = np.sort(np.random.default_rng(0).permutation(len(train))[: args.count])
    copied, other = faces.pixels(train[chosen]), test[1::2]
    honest = channels_first(faces.pixels(other))
    honest = honest[torch.from_numpy(copies.without_near_duplicate(copies.fingerprints(honest), detector.known))]
    rows = {}
    for name, harm in HARMS.items():
        harmed = np.stack([harm(image, i) for i, image in enumerate(copied)])
        rows[name] = detector.found(channels_first(harmed))
    plain = channels_last(honest)
    rows["honest: held out"] = detector.found(honest)
    rows["honest: blurred by 1 px"] = detector.found(channels_first(np.stack([blurred(one, 1) for one in plain])))
    rows["honest: 50 components"] = detector.found(channels_first(weak(plain, faces.pixels(train[::3]))))
    facts = {
        "training": len(train), "held out": len(test[::2]), "without twin": int(detector.clean.sum()),
        "honest": len(honest), "limit by features": detector.limits[0], "limit by pixels": detector.limits[1],
    }  # fmt: skip
    if args.json:
        print(json.dumps({"facts": facts, "rows": rows}))
        return
    print(", ".join(f"{name} {value:.4g}" for name, value in facts.items()))
    for name, shares in rows.items():
        print(f"{name:28}" + "".join(f"{what} {share:.3f}   " for what, share in shares.items()))


if __name__ == "__main__":
    main()
