"""Batches: the same from memory and streamed, on any number of ranks, wherever a run resumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pictures import folder_of, hint_of, loader, made, rows

from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.loading import Loader, rotate, shift
from animegen_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

Make = Callable[..., Loader]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    """70 images of 24 px in two classes, all for training."""
    folder = tmp_path_factory.mktemp("set")
    folder_of(folder / "faces" / "dark", 40, (24, 24))
    folder_of(folder / "faces" / "light", 30, (24, 24), first=40)
    return made(folder / "faces", folder / "set.zip", size=24, split=1.0)


@pytest.fixture
def make(faces: FaceSet) -> Iterator[Make]:
    """Builds loaders, and closes them."""
    loaders: list[Loader] = []

    def build(**options: Any) -> Loader:
        loaders.append(loader(faces, **{"size": 24, "batch": 16, "seed": 1, **options}))
        return loaders[-1]

    yield build
    for one in loaders:
        one.close()


def test_resident_and_streamed_are_equal_bit_for_bit(make: Make) -> None:
    options: dict[str, Any] = {"flip": True, "rotate": 15.0, "crop": 3, "size": 16}
    resident, streamed = make(**options), make(**options, memory_limit=0, workers=2)
    assert (resident.resident, streamed.resident) == (True, False)
    assert resident.mean == streamed.mean
    for seen in [*range(0, 160, 16), 16, 4000, 64]:  # in order, back, far ahead, back
        for mine, other in zip(resident.batch(seen)[:2], streamed.batch(seen)[:2], strict=True):
            assert torch.equal(mine, other)
    assert streamed.waited > 0
    assert resident.waited == 0


def test_an_epoch_is_each_image_once_and_the_next_is_another_order(make: Make, faces: FaceSet) -> None:
    batches = make(batch=10)
    epochs = [
        [row for seen in range(start, start + 70, 10) for row in rows(batches.batch(seen)[0])] for start in (0, 70)
    ]
    everything = sorted(rows(torch.from_numpy(faces.pixels(range(70))).permute(0, 3, 1, 2).contiguous()))
    assert sorted(epochs[0]) == sorted(epochs[1]) == everything
    assert epochs[0] != epochs[1]


def test_batches_cross_epochs_and_do_not_depend_on_the_past(make: Make) -> None:
    batches = make(batch=32, flip=True)
    whole = [row for seen in range(0, 224, 32) for row in rows(batches.batch(seen)[0])]
    fresh = make(batch=32, flip=True)
    assert rows(fresh.batch(64)[0]) == whole[64:96]  # holds the end of epoch 0 and the beginning of epoch 1
    odd = make(batch=7, flip=True)
    assert [row for seen in range(0, 224, 7) for row in rows(odd.batch(seen)[0])] == whole
    assert rows(fresh.batch(10, count=5)[0]) == whole[10:15]


def test_ranks_share_the_batch(make: Make) -> None:
    whole = make(batch=16, flip=True).batch(48)
    parts = [make(batch=16, flip=True, rank=rank, world=4).batch(48) for rank in range(4)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
    assert whole.photos is None
    with pytest.raises(UsageError, match="cannot be shared") as error:
        make(batch=16, world=3)
    assert hint_of(error.value)


def test_seeds_give_other_orders(make: Make) -> None:
    assert rows(make(seed=1).batch(0)[0]) == rows(make(seed=1).batch(0)[0])
    assert rows(make(seed=1).batch(0)[0]) != rows(make(seed=2).batch(0)[0])


def test_labels_go_with_their_images(make: Make, faces: FaceSet) -> None:
    images, labels, _ = make(batch=70).batch(0)
    assert images.dtype == torch.uint8
    assert images.shape == (70, 3, 24, 24)
    assert labels.dtype == torch.int64
    known = dict(
        zip(
            rows(torch.from_numpy(faces.pixels(range(70))).permute(0, 3, 1, 2).contiguous()),
            faces.labels(range(70)).tolist(),
            strict=True,
        )
    )
    assert [known[row] for row in rows(images)] == labels.tolist()


def test_half_of_the_images_are_mirrored(make: Make) -> None:
    plain, mirrored = make(batch=700), make(batch=700, flip=True)
    a, b = plain.batch(0)[0], mirrored.batch(0)[0]
    same = (a == b).flatten(1).all(1)
    assert torch.equal(b[~same], a[~same].flip(3))
    assert 0.42 < same.float().mean() < 0.58


def test_mean_and_std_are_exact(make: Make, faces: FaceSet) -> None:
    batches = make()
    values = faces.pixels(range(70)).astype(np.float64) / 127.5 - 1
    assert batches.mean == pytest.approx(values.mean((0, 1, 2)), abs=1e-12)
    assert batches.std == pytest.approx(values.std((0, 1, 2)), abs=1e-12)


def test_rotation_turns_about_the_middle_and_mirrors_the_border() -> None:
    image = torch.zeros(1, 3, 9, 9, dtype=torch.uint8)
    image[0, :, 4, 1] = 200  # left of the middle
    quarter = rotate(image, torch.tensor([90.0]))
    assert quarter[0, 0].argmax().item() in (1 * 9 + 4, 7 * 9 + 4)
    assert torch.equal(rotate(image, torch.tensor([0.0])), image)
    assert torch.equal(rotate(quarter, torch.tensor([-90.0])), image)
    gray = torch.full((1, 3, 16, 16), 90, dtype=torch.uint8)
    assert torch.equal(rotate(gray, torch.tensor([33.0])), gray)


def test_shift_moves_whole_pixels_and_mirrors_the_border() -> None:
    image = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(2, 3, 4, 4).contiguous()
    moved = shift(image, torch.tensor([1, 0]), torch.tensor([0, -2]))
    assert moved[0, 0, 0].tolist() == [1, 2, 3, 2]
    assert moved[1, 0, :, 0].tolist() == [8, 4, 0, 4]


def test_memory_limit_decides(make: Make) -> None:
    needed = 70 * 3 * 24 * 24
    assert make(memory_limit=needed).resident
    assert not make(memory_limit=needed - 1).resident


def test_what_cannot_be_loaded(faces: FaceSet, make: Make) -> None:
    with pytest.raises(DataError, match="no images for `test`") as error:
        make(split="test")
    assert "--split" in hint_of(error.value)
    with pytest.raises(DataError, match="64 are needed"):
        make(size=64)


def test_damage_met_while_streaming_is_reported(make: Make, faces: FaceSet, tmp_path: Path) -> None:
    copy = tmp_path / "set.zip"
    copy.write_bytes(faces.path.read_bytes())
    streamed = loader(FaceSet.open(copy), size=24, batch=70, memory_limit=0)
    with copy.open("r+b") as file:  # damaged after the first pass over it
        file.seek(20_000)
        file.write(bytes(3000))
    with pytest.raises(DataError, match="damaged"):
        streamed.batch(0)
    streamed.close()
