"""Images in NumPy archives: what `sample --format npz` and guided-diffusion write is scored, trained on and held against."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import done, refused, train_words
from PIL import Image

from animegen_cli.data.dataset import FaceSet

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


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("cut", "no whole .npz file", "cut short"),
        ("flipped", "Bad CRC-32", "cut short"),
        ("short", "says 23,040 bytes of pixels and has 14,592", "cut short"),
        ("float", "float32 numbers, not pixels of 8 bits", "0..255"),
        ("objects", "Python objects, which are never read", "0..255"),
        ("channels", "(30, 3, 16, 16), not images (n, height, width, 3)", "transpose(0, 2, 3, 1)"),
        ("columns", "lies column by column", "ascontiguousarray"),
        ("empty", "holds no image", "--format npz"),
        ("moments", "only `mu` (4,), `sigma` (4, 4)", "--against"),
        ("classes", "not the classes of 30 images", "`arr_0` alone"),
        ("far", "holds class 1099511627776", "32,768"),
        ("text", "no whole .npz file", "cut short"),
    ],
)
def test_archives_that_hold_no_images(
    name: str, said: str, hint: str, pixels: np.ndarray, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bad.npz"
    arrays: dict[str, dict[str, Any]] = {
        "float": {"arr_0": pixels.astype(np.float32)}, "objects": {"arr_0": np.array([Path()], object)},
        "channels": {"arr_0": pixels.transpose(0, 3, 1, 2).copy()}, "columns": {"arr_0": np.asfortranarray(pixels)},
        "empty": {"arr_0": pixels[:0]}, "moments": {"mu": np.zeros(4), "sigma": np.eye(4)},
        "classes": {"arr_0": pixels, "arr_1": np.arange(29)}, "far": {"arr_0": pixels, "arr_1": np.full(30, 2**40)},
    }  # fmt: skip
    np.savez(path, **arrays.get(name, {"arr_0": pixels}))
    whole = path.read_bytes()
    if name == "cut":
        path.write_bytes(whole[:5000])
    elif name == "flipped":
        path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    elif name == "text":
        path.write_text("not an archive")
    elif name == "short":
        with zipfile.ZipFile(path) as archive:
            data = archive.read("arr_0.npy")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("arr_0.npy", data[: 128 + 19 * 16 * 16 * 3])
    for words in ([path, "--against", folder], [folder, "--against", path])[: 1 if name == "moments" else 2]:
        answer = refused(3, "eval", *words, *FACES, "--metrics", "fd")
        assert said in answer
        assert hint in answer
