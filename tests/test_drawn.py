"""The drawn faces: the same everywhere, all different, and what their labels say."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from animegen_cli.errors import UsageError
from animegen_cli.prepare.drawn import ATTRIBUTES, _portrait, attributes, draw
from animegen_cli.prepare.drawn.appearance import appearance


def pixels(index: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return np.asarray(draw(index, size=size, seed=seed).image, dtype=float)


def digest(index: int, size: int = 32, seed: int = 0) -> str:
    return hashlib.sha256(draw(index, size=size, seed=seed).image.tobytes()).hexdigest()


def with_label(index: int, name: str, value: str, size: int = 32) -> np.ndarray:
    """Face `index` with one label changed and every other decision kept."""
    labels = attributes(index) | {name: value}
    return np.asarray(_portrait(appearance(labels, random.Random(index)), size), dtype=float)


def test_another_process_in_another_order_draws_the_same_bytes() -> None:
    code = """
import hashlib, json, sys
from animegen_cli.prepare.drawn import draw
faces = {i: draw(i, size=32, seed=3) for i in (11, 2, 7)}
sums = {i: hashlib.sha256(face.image.tobytes()).hexdigest() for i, face in faces.items()}
print(json.dumps([sums, {i: face.labels for i, face in faces.items()}, sorted(sys.modules)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    sums, labels, loaded = json.loads(done.stdout)
    for index in (2, 7, 11):
        assert sums[str(index)] == digest(index, seed=3)
        assert labels[str(index)] == attributes(index, seed=3)
    assert not {"torch", "scipy", "pydantic"} & set(loaded)
    ours = {name for name in loaded if name.startswith("animegen_cli") and "drawn" not in name}
    assert ours == {"animegen_cli", "animegen_cli.errors", "animegen_cli.prepare"}


def test_a_seed_is_another_set_of_faces() -> None:
    assert len({digest(0, seed=seed) for seed in range(20)}) == 20
    assert len({json.dumps(attributes(0, seed=seed)) for seed in range(20)}) == 20


def test_no_two_faces_are_alike() -> None:
    faces = np.stack([pixels(index).ravel() for index in range(150)])
    distance = np.abs(faces[:, None, ::5] - faces[None, :, ::5]).mean(axis=2)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 8  # of 255 levels


@pytest.mark.parametrize("size", [16, 33, 64, 100, 191, 192, 256, 257, 1024])
def test_any_size(size: int) -> None:
    image = draw(4, size=size).image
    assert (image.size, image.mode) == ((size, size), "RGB")
    # Every size shows the same face.
    small, reference = (
        np.asarray(x.resize((16, 16), Image.Resampling.BILINEAR), float) for x in (image, draw(4, size=64).image)
    )
    assert np.abs(small - reference).mean() < 6


@pytest.mark.parametrize("size", [-64, 0, 15, 1025])
def test_a_size_that_cannot_be_drawn(size: int) -> None:
    with pytest.raises(UsageError, match=f"not {size}") as error:
        draw(0, size=size)
    assert "--resolution" in (error.value.hint or "")


def test_a_negative_index() -> None:
    with pytest.raises(UsageError, match="-1"):
        attributes(-1)


def test_labels_are_those_of_the_picture_and_all_occur() -> None:
    assert {"gender", "hair", "style", "eyes", "expression", "skin", "accessory", "background"} <= set(ATTRIBUTES)
    assert draw(5, size=16, seed=9).labels == attributes(5, seed=9)
    labels = [attributes(index) for index in range(3000)]
    for name, values in ATTRIBUTES.items():
        counts = Counter(label[name] for label in labels)
        assert set(counts) == set(values), name
        assert min(counts.values()) >= 60, (name, counts)  # no class is too rare to learn at 2 %
    assert all(list(label) == list(ATTRIBUTES) for label in labels)


@pytest.mark.parametrize("name", list(ATTRIBUTES))
def test_every_value_of_an_attribute_is_visible(name: str) -> None:
    for index in (3, 8):
        shown = [with_label(index, name, value) for value in ATTRIBUTES[name]]
        for i, first in enumerate(shown):
            for second in shown[:i]:
                assert (np.abs(first - second).max(axis=2) > 20).sum() >= 6, (index, name)  # of 1024 pixels


def test_hair_color_can_be_read_from_the_hair() -> None:
    rows: dict[str, list[np.ndarray]] = {color: [] for color in ATTRIBUTES["hair"]}
    index = 0
    while min(len(found) for found in rows.values()) < 6:
        labels = attributes(index)
        if labels["accessory"] == "none" and len(rows[labels["hair"]]) < 6:
            # Below the shine and above the eyes: the bangs and the locks beside them.
            image = pixels(index)
            rows[labels["hair"]].append(np.median(image[5:12, 9:23].reshape(-1, 3), axis=0))
        index += 1
    known = {color: np.mean(found[:3], axis=0) for color, found in rows.items()}
    right = [
        min(known, key=lambda other: float(np.linalg.norm(known[other] - seen))) == color
        for color, found in rows.items()
        for seen in found[3:]
    ]
    assert np.mean(right) > 0.85


def test_eye_color_changes_the_eyes_and_nothing_else() -> None:
    for index in (1, 5, 9):
        red, blue = (with_label(index, "eyes", color, size=64) for color in ("red", "blue"))
        rows, columns = np.nonzero(np.abs(red - blue).max(axis=2) > 30)
        assert 40 <= len(rows) <= 700
        assert rows.max() - rows.min() < 32
        assert (rows > 16).all()
        assert (rows < 56).all()
        assert (red - blue)[rows, columns, 0].mean() > 40  # more red in the one,
        assert (red - blue)[rows, columns, 2].mean() < -40  # more blue in the other
