"""Palettes of hair and eye colors, and how often they agree with labels: `python benchmarks/colors.py faces.zip`.

Each data set must have the labels hair and eyes (`animegen prepare demo` makes one; any tagged set of aligned faces
is another). Prints the median color of each label over the training split, which is what `metrics/colors.py` holds,
and over the test split how often pixels and labels agree, label by label and name by name.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from animegen_cli.data.dataset import FaceSet
from animegen_cli.metrics import colors

MERGED = {"hair": {"gray": "silver", "white": "silver"}, "eyes": {"orange": "brown", "gray": "black"}}
"""Labels that pixels do not tell apart, under the names that palettes give to both."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--size", type=int, help="scale the images to this side first")
    args = parser.parse_args()
    for path in args.sets:
        faces = FaceSet.open(path)
        for attribute, place, name in (
            ("hair", colors.of_hair, colors.hair),
            ("eyes", colors.of_irises, colors.eyes),
        ):
            train, labels = part(faces, "train", attribute, args.size)
            medians(f"{faces.name}: {attribute}", torch.cat([place(some) for some in train.split(256)]), labels)
            test, labels = part(faces, "test", attribute, args.size)
            began = time.perf_counter()
            found = name(test)
            seconds = time.perf_counter() - began
            values = colors.HAIR if attribute == "hair" else colors.EYES
            agreement(np.array(values)[found.numpy()], labels, MERGED[attribute], values)
            print(f"{len(test)} images of {test.shape[2]} pixels in {seconds:.1f} s\n")


def part(faces: FaceSet, split: str, attribute: str, size: int | None) -> tuple[Tensor, np.ndarray]:
    """The labeled images uint8 (n, 3, H, W) of a split, and their labels (n,)."""
    indices = faces.indices(split)
    column = faces.labels(indices)[:, list(faces.attributes).index(attribute)]
    indices, column = indices[column >= 0], column[column >= 0]
    pixels = torch.from_numpy(faces.pixels(indices, size=size)).permute(0, 3, 1, 2)
    return pixels, np.array(faces.attributes[attribute])[column]


def medians(title: str, found: Tensor, labels: np.ndarray) -> None:
    """Print the median of OKLab colors (n, 3) per label as sRGB."""
    print(title)
    every = torch.cartesian_prod(*[torch.arange(0, 256, 4)] * 3)
    known = colors.oklab(every)
    for label in sorted(set(labels)):
        median = found[torch.from_numpy(labels == label)].median(0).values
        nearest = every[(known - median).square().sum(1).argmin()]
        print(f"  {label:8s} #{bytes(nearest.tolist()).hex()}")


def agreement(found: np.ndarray, labels: np.ndarray, merged: dict[str, str], names: tuple[str, ...]) -> None:
    """Print the table of labels (rows) against names (columns), and the share that agrees."""
    expected = np.array([merged.get(label, label) for label in labels])
    print(" " * 10 + "".join(f"{name:>8s}" for name in names) + "   agree")
    for label in sorted(set(labels)):
        row = [int(((labels == label) & (found == name)).sum()) for name in names]
        print(
            f"  {label:8s}"
            + "".join(f"{count:8d}" for count in row)
            + f"{(found == expected)[labels == label].mean():8.2f}"
        )
    print(f"  agreement {(found == expected).mean():.3f}")


if __name__ == "__main__":
    main()
