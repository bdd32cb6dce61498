"""What `prepare` writes, read as the data set format of StyleGAN2-ADA, StyleGAN3 and EDM is described.

A ZIP of PNG files, anywhere in it, in the order of their sorted names; all square, of one size, RGB. `dataset.json` at its
root holds under `labels` null or pairs of a file's name and its label, in any order: a class number or a vector.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pictures import folder_of, made
from PIL import Image

from animegen_cli.data.dataset import FaceSet
from animegen_cli.prepare.drawn import ATTRIBUTES


def read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Images uint8 (n, 3, S, S) and labels, int64 (n,) or float32 (n, k), or None."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if Path(name).suffix.lower() == ".png")
        images = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names])
        pairs = json.loads(archive.read("dataset.json"))["labels"]
    assert images.ndim == 4, "gray or of several sizes"
    assert images.shape[1:] == (images.shape[1], images.shape[1], 3)
    if pairs is None:
        return images.transpose(0, 3, 1, 2), None
    by_name = dict(pairs)
    labels = np.array([by_name[name] for name in names])
    return images.transpose(0, 3, 1, 2), labels.astype({1: np.int64, 2: np.float32}[labels.ndim])


def test_with_labels(tmp_path: Path) -> None:
    path = made("demo", tmp_path / "faces.zip", limit=12).path
    images, labels = read(path)
    ours = FaceSet.open(path)
    assert images.shape == (12, 3, 32, 32)
    assert np.array_equal(images.transpose(0, 2, 3, 1), ours.pixels(np.arange(12), size=32))
    widths = [len(values) for values in ATTRIBUTES.values()]
    assert labels is not None
    assert labels.shape == (12, sum(widths))
    wanted = ours.labels(np.arange(12))
    for column, part in enumerate(np.split(labels, np.cumsum(widths)[:-1], axis=1)):
        assert (part.sum(1) == 1).all()
        assert np.array_equal(part.argmax(1), wanted[:, column])
    assert len(np.unique(labels, axis=0)) > 6, "the faces differ in their labels"


@pytest.mark.parametrize("limit", [3, 11])
def test_without_labels(limit: int, tmp_path: Path) -> None:
    folder_of(tmp_path / "faces", limit, size=(70, 50))
    path = made(tmp_path / "faces", tmp_path / "faces.zip").path
    images, labels = read(path)
    assert labels is None
    assert images.shape == (limit, 3, 32, 32)
    assert np.array_equal(images.transpose(0, 2, 3, 1), FaceSet.open(path).pixels(np.arange(limit), size=32))
