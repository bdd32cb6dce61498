"""Images in NumPy archives: what `sample --format npz` and guided-diffusion write is scored, trained on and held against."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chain import done, refused, train_words
from PIL import Image

from animegen_cli.data.dataset import FaceSet

if TYPE_CHECKING:
    from collections.abc import Callable

FACES = ["--extractor", "faces", "--device", "cpu"]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Thirty smooth pictures, uint8 (30, 16, 16, 3)."""
    small = np.random.default_rng(0).integers(0, 256, (30, 5, 5, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((16, 16), Image.Resampling.BICUBIC)) for one in small])


@pytest.fixture
def folder(pixels: np.ndarray, tmp_path: Path) -> Path:
    """The same as PNG files."""
    (tmp_path / "folder").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "folder" / f"{number:02d}.png")
    return tmp_path / "folder"


def scores(*words: object) -> dict[str, dict[str, Any]]:
    found = json.loads(done("eval", *words, *FACES, "--json").out)["scores"]
    return {score["name"]: score for score in found}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_scores_as_the_folder_of_its_pictures(
    save: Any, pixels: np.ndarray, folder: Path, tmp_path: Path
) -> None:
    save(tmp_path / "samples.npz", arr_0=pixels)
    for words in ([tmp_path / "samples.npz", "--against", folder], [folder, "--against", tmp_path / "samples.npz"]):
        found = scores(*words, "--metrics", "fd,copies-hash")
        assert found["fd-faces"]["value"] == pytest.approx(0, abs=1e-6)
        assert found["copies-hash"]["value"] == 1
        assert (found["fd-faces"]["protocol"]["n_real"], found["fd-faces"]["protocol"]["n_fake"]) == (30, 30)
    assert FaceSet.open(tmp_path / "samples.npz").identity == FaceSet.open(folder).identity


def test_what_sample_writes_is_scored_and_trained_on(trained: Any, faces: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained("ddim"), tmp_path / "trained")
    done("sample", run, "--seeds", "0-11", "--format", "npz", "--out", tmp_path, "--device", "cpu")
    found = scores(tmp_path / "samples.npz", "--against", faces, "--metrics", "fd")
    drawn = scores(run, "--against", faces, "--seeds", "0-11", "--metrics", "fd", "--split", "train")
    assert found["fd-faces"]["value"] == pytest.approx(drawn["fd-faces"]["value"], rel=1e-6)
    done(*train_words("ddim", tmp_path / "samples.npz", tmp_path / "run", duration="8 images"))


def test_a_set_is_made_of_an_archive(pixels: np.ndarray, folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", pixels, np.arange(30) % 3)
    words = ["--resolution", "16", "--min-size", "8", "--dedupe", "off"]
    answer = done("prepare", tmp_path / "samples.npz", *words, "--out", tmp_path / "set.zip")
    assert "the classes of" in answer.err
    done("prepare", folder, *words, "--out", tmp_path / "other.zip")
    assert FaceSet.open(tmp_path / "set.zip").identity == FaceSet.open(tmp_path / "other.zip").identity
    np.savez(tmp_path / "moments.npz", mu=np.zeros(4), sigma=np.eye(4))
    assert "holds no images" in refused(3, "prepare", tmp_path / "moments.npz")


def test_classes_beside_the_images_become_labels(pixels: np.ndarray, tmp_path: Path) -> None:
    numbers = np.arange(30) % 3
    np.savez(tmp_path / "numbers.npz", pixels, numbers)
    np.savez(tmp_path / "vectors.npz", pixels, np.eye(3, dtype=np.float32)[numbers])
    for name in ("numbers", "vectors"):
        faces = FaceSet.open(tmp_path / f"{name}.npz")
        assert faces.attributes == {"class": ("0", "1", "2")}
        assert faces.labels(range(30))[:, 0].tolist() == numbers.tolist()


def test_images_are_read_in_place_gray_or_in_color_and_in_other_processes(pixels: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "color.npz", images=pixels, seeds=np.arange(30))  # another name, the only array of images
    faces = pickle.loads(pickle.dumps(FaceSet.open(tmp_path / "color.npz")))
    assert (faces.pixels([29, 3, 10]) == pixels[[29, 3, 10]]).all()
    np.savez(tmp_path / "gray.npz", pixels[..., 0])
    gray = FaceSet.open(tmp_path / "gray.npz").pixels([7])
    assert (gray[0] == pixels[7, :, :, :1]).all()


def test_a_file_with_moments_stays_a_reference_of_moments(pixels: np.ndarray, folder: Path, tmp_path: Path) -> None:
    """Guided-diffusion's reference batches hold both."""
    np.savez(tmp_path / "both.npz", arr_0=pixels, mu=np.zeros(480), sigma=np.eye(480))
    found = scores(folder, "--against", tmp_path / "both.npz", "--metrics", "fd")["fd-faces"]
    assert (found["protocol"]["n_real"], found["value"] > 1) == (0, True)
    assert scores(tmp_path / "both.npz", "--against", folder, "--metrics", "fd")["fd-faces"]["value"] < 1e-6


def assert_refused(path: Path, folder: Path, said: str, hint: str, *, also_second: bool = True) -> None:
    """`eval` takes a file neither for images nor, where it might, for what images are held against."""
    for words in ([path, "--against", folder], [folder, "--against", path])[: 1 + also_second]:
        answer = refused(3, "eval", *words, *FACES, "--metrics", "fd")
        assert said in answer
        assert hint in answer


@pytest.mark.parametrize(
    ("arrays", "said", "hint"),
    [
        (lambda pixels: {"arr_0": pixels.astype(np.float32)}, "float32 numbers, not pixels of 8 bits", "0..255"),
        (lambda _: {"arr_0": np.array([Path()], object)}, "Python objects, which are never read", "0..255"),
        (
            lambda pixels: {"arr_0": pixels.transpose(0, 3, 1, 2).copy()},
            "(30, 3, 16, 16), not images (n, height, width, 3)",
            "transpose(0, 2, 3, 1)",
        ),
        (lambda pixels: {"arr_0": np.asfortranarray(pixels)}, "lies column by column", "ascontiguousarray"),
        (lambda pixels: {"arr_0": pixels[:0]}, "holds no image", "--format npz"),
        (lambda _: {"mu": np.zeros(4), "sigma": np.eye(4)}, "only `mu` (4,), `sigma` (4, 4)", "--against"),
        (
            lambda pixels: {"arr_0": pixels, "arr_1": np.arange(29)},
            "not the classes of 30 images",
            "`arr_0` alone",
        ),
        (lambda pixels: {"arr_0": pixels, "arr_1": np.full(30, 2**40)}, "holds class 1099511627776", "32,768"),
    ],
    ids=["float", "objects", "channels", "columns", "empty", "moments", "classes", "far"],
)
def test_archives_that_hold_no_images(
    arrays: Callable[[np.ndarray], dict[str, Any]],
    said: str,
    hint: str,
    pixels: np.ndarray,
    folder: Path,
    tmp_path: Path,
) -> None:
    path, held = tmp_path / "bad.npz", arrays(pixels)
    np.savez(path, **held)
    assert_refused(path, folder, said, hint, also_second="mu" not in held)


def shorter(whole: bytes) -> bytes:
    """A whole archive whose array ends before the pixels that it says it has."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive, zipfile.ZipFile(out, "w") as other:
        other.writestr("arr_0.npy", archive.read("arr_0.npy")[: 128 + 19 * 16 * 16 * 3])
    return out.getvalue()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: whole[:5000], "no whole .npz file"),
        (lambda whole: whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], "Bad CRC-32"),
        (shorter, "says 23,040 bytes of pixels and has 14,592"),
        (lambda _: b"not an archive", "no whole .npz file"),
    ],
    ids=["cut", "flipped", "short", "text"],
)
def test_damaged_archives(
    damage: Callable[[bytes], bytes], said: str, pixels: np.ndarray, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, arr_0=pixels)
    path.write_bytes(damage(path.read_bytes()))
    assert_refused(path, folder, said, "cut short")
