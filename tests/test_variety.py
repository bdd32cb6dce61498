"""Variety of drawn images: colors with known labels, distances worked by hand, repeats, copies, and real runs."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from chain import done, refused, sets, train_words
from pictures import encoded, folder_of, picture
from PIL import Image, ImageFilter
from scipy import stats
from torch import Tensor

from animegen_cli import disk
from animegen_cli.data.dataset import FaceSet
from animegen_cli.metrics import colors, copies, distributions
from animegen_cli.metrics.extractors import open_extractor
from animegen_cli.metrics.protocol import Protocol
from animegen_cli.paths import Run
from animegen_cli.prepare import drawn, prepare
from animegen_cli.prepare.request import Options, Request
from animegen_cli.report import records
from animegen_cli.sample.generate import Generator

if TYPE_CHECKING:
    from collections.abc import Callable

FACES = ["--extractor", "faces", "--device", "cpu"]
NAMES = {"hair": {"gray": "silver", "white": "silver"}, "eyes": {"gray": "black", "orange": "brown"}}


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    """300 drawn faces of 64 pixels with labels, about four fifths for training."""
    path = tmp_path_factory.mktemp("portraits") / "portraits.zip"
    prepare.prepare(Request(["demo"], path, Options(size=64, limit=300, seed=8, workers=1)))
    return FaceSet.open(path)


@pytest.fixture
def run(trained: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained("ddim"), tmp_path / "run"))


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)


def images_of(faces: FaceSet, split: str, *, size: int | None = None) -> Tensor:
    return tensor(faces.pixels(faces.indices(split), size=size))


def scores(*words: object) -> dict[str, dict[str, Any]]:
    return {score["name"]: score for score in json.loads(done("eval", *words, *FACES, "--json").out)["scores"]}


# ---- colors --------------------------------------------------------------------------------------------------


def test_oklab_of_the_primaries() -> None:
    """The values of Ottosson's own table and code."""
    primaries = torch.tensor([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]])
    known = [[1, 0, 0], [0.6280, 0.2249, 0.1258], [0.8664, -0.2339, 0.1795], [0.4520, -0.0325, -0.3115], [0, 0, 0]]
    torch.testing.assert_close(colors.oklab(primaries), torch.tensor(known), atol=2e-4, rtol=0)


@pytest.mark.parametrize(("size", "hair", "eyes"), [(64, 0.97, 0.8), (32, 0.97, 0.75), (16, 0.95, 0.6)])
def test_colors_agree_with_known_labels(size: int, hair: float, eyes: float, portraits: FaceSet) -> None:
    images, labels = images_of(portraits, "all", size=size), portraits.labels(portraits.indices())
    for attribute, name, palette, least in (
        ("hair", colors.hair, colors.HAIR, hair),
        ("eyes", colors.eyes, colors.EYES, eyes),
    ):
        values = portraits.attributes[attribute]
        column = labels[:, list(portraits.attributes).index(attribute)]
        expected = [NAMES[attribute].get(values[label], values[label]) for label in column]
        right = np.array([palette[place] for place in name(images)]) == expected
        assert right.mean() >= least, attribute
        assert (name(images.flip(3)) == name(images)).float().mean() >= 0.85  # mirrored faces
        assert (name(images.flip(1)) == name(images)).float().mean() <= 0.6  # red and blue exchanged


def test_colors_of_larger_faces_are_the_same(portraits: FaceSet) -> None:
    small = images_of(portraits, "test")
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(colors.hair(large), colors.hair(small))
    assert torch.equal(colors.eyes(large), colors.eyes(small))


def test_brightness_is_luma_in_gray_levels() -> None:
    images = torch.zeros(3, 3, 20, 20, dtype=torch.uint8)
    images[0] = 100
    images[1, 1] = 255
    images[2, :, :10] = 200
    assert colors.brightness(images).tolist() == pytest.approx([100, 0.587 * 255, 100])


# ---- distances ------------------------------------------------------------------------------------------------


def test_distances_by_hand() -> None:
    # shares 1/2 1/4 1/4 against 1/4 3/4 0
    assert distributions.between_names(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), 3).value == 0.5
    assert distributions.between_names(np.array([0, 1]), np.array([2, 2, 2]), 4).value == pytest.approx(1)
    assert distributions.between_names(np.array([1, 3]), np.array([3, 3, 1, 1]), 4).value == 0
    # half of the mass goes 10 levels; thirds go 0, 1 and 2 levels
    assert distributions.between_values(np.array([0.0, 10]), np.array([0.0, 20])).value == pytest.approx(5)
    assert distributions.between_values(np.array([1.0, 2, 3]), np.array([1.0])).value == pytest.approx(1)
    assert distributions.between_values(np.array([7.0, 7]), np.array([7.0])).value == 0


def test_wasserstein_distance_is_scipys() -> None:
    numbers = np.random.default_rng(0)
    real, drawn = numbers.normal(100, 20, 300), numbers.normal(120, 5, 130)
    found = distributions.between_values(real, drawn, resamples=200)
    assert found.value == pytest.approx(stats.wasserstein_distance(real, drawn))


def test_errors_and_floors_are_those_of_repeated_draws() -> None:
    """From a known distribution, drawn many times against the same reals: the deviation that one draw claims is the true one."""
    numbers, truth, other = np.random.default_rng(1), [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]
    real = numbers.choice(3, 400, p=truth)
    draws = [numbers.choice(3, 100, p=other) for _ in range(300)]
    values = [distributions.between_names(real, drawn, 3, resamples=1).value for drawn in draws]
    one = distributions.between_names(real, draws[0], 3)
    assert one.std == pytest.approx(np.std(values), rel=0.2)
    same = [(numbers.choice(3, 400, p=truth), numbers.choice(3, 100, p=truth)) for _ in range(300)]
    floor = np.mean([distributions.between_names(*draw, 3, resamples=1).value for draw in same])
    assert one.floor == pytest.approx(floor, rel=0.2)
    assert one.value > 4 * one.floor
    grays = [100 + 20 * drawn + numbers.normal(0, 5, 100) for drawn in draws]
    values = [distributions.between_values(100.0 + 20 * real, gray, resamples=1).value for gray in grays]
    assert distributions.between_values(100.0 + 20 * real, grays[0], resamples=1).std == pytest.approx(
        np.std(values), rel=0.2
    )


# ---- repeats and copies ---------------------------------------------------------------------------------------


def jpeg(pixels: np.ndarray, quality: int = 75) -> np.ndarray:
    with Image.open(io.BytesIO(encoded(Image.fromarray(pixels), "jpeg", quality=quality))) as image:
        return np.asarray(image.convert("RGB"))


def blurred(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(0.7)))


def test_repeats_among_images() -> None:
    pixels = [np.asarray(picture(seed)) for seed in range(12)]
    images = tensor(np.stack([*pixels, jpeg(pixels[3]), pixels[7], blurred(pixels[7])]))
    found = copies.repeated(copies.fingerprints(images))
    assert np.flatnonzero(found).tolist() == [3, 7, 12, 13, 14]
    assert not copies.repeated(copies.fingerprints(images[:1])).any()


def noisy(pixels: np.ndarray) -> np.ndarray:
    return (pixels + np.random.default_rng(0).normal(0, 10, pixels.shape)).clip(0, 255).astype(np.uint8)


def shifted(pixels: np.ndarray) -> np.ndarray:
    return np.pad(pixels, ((2, 0), (0, 2), (0, 0)), "edge")[:-2, 2:]


def halved(pixels: np.ndarray) -> np.ndarray:
    small = Image.fromarray(pixels).resize((32, 32), Image.Resampling.LANCZOS)
    return np.asarray(small.resize((64, 64), Image.Resampling.LANCZOS))


@pytest.mark.parametrize(
    ("damage", "by_hash", "by_features"),
    [
        (lambda pixels: pixels, True, True),
        (jpeg, True, True),
        (lambda pixels: jpeg(pixels, 30), True, True),
        (lambda pixels: pixels[:, ::-1], True, True),
        (lambda pixels: jpeg(pixels[:, ::-1]), True, True),
        (blurred, True, False),  # features feel blur and noise: the hash and pixels are there for it
        (noisy, True, False),
        (halved, True, False),
        (shifted, False, False),  # and pixels for what the hash does not know
        (lambda pixels: shifted(pixels[:, ::-1]), False, False),
    ],
)
def test_copies_of_training_images_are_found(
    damage: Callable[[np.ndarray], np.ndarray], by_hash: bool, by_features: bool, portraits: FaceSet
) -> None:
    training, held_out = images_of(portraits, "train"), images_of(portraits, "test")
    places = np.arange(0, len(training), 8)
    copied = portraits.pixels(portraits.indices("train")[places])
    harmed = tensor(np.stack([damage(pixels) for pixels in copied]))
    known, own = copies.small(training), copies.small(held_out)
    near = copies.nearest_pixels(copies.small(harmed), known)
    assert (near.ratio < copies.limit(copies.nearest_pixels(own, known).ratio)).float().mean() >= 0.95
    assert (near.place.numpy() == places).mean() >= 0.95
    if by_hash:
        hashed = copies.hashed_copies(*(copies.fingerprints(side) for side in (harmed, training)))
        assert (hashed == places).mean() >= 0.95
    if by_features:
        extractor = open_extractor("faces")
        features = extractor.features(training)
        of_held_out = copies.nearest(extractor.features(held_out), extractor.features(held_out.flip(3)), features)
        near = copies.nearest(extractor.features(harmed), extractor.features(harmed.flip(3)), features)
        assert (near.ratio < copies.limit(of_held_out.ratio)).float().mean() >= 0.9
        assert (near.place.numpy() == places).mean() >= 0.95


def test_pixels_are_compared_after_one_picture_was_moved_over_the_other() -> None:
    """The distance of noise to the same noise two pixels away, mirrored or not, is that of a copy; to other noise it is not."""
    noise = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (30, 3, 36, 36), np.uint8))
    training = copies.small(noise[:, :, 2:34, 2:34])
    for moved in (noise[:20, :, 0:32, 4:36], noise[:20, :, 3:35, 1:33].flip(3)):
        near = copies.nearest_pixels(copies.small(moved), training)
        assert near.place.tolist() == list(range(20))
        assert near.distance.max() < 0.01
        assert near.ratio.max() < 0.01
    assert near.mirrored.all()
    other = copies.nearest_pixels(copies.small(noise[20:, :, :32, :32]), training[:20])
    assert other.ratio.min() > 0.9
    assert other.distance.min() > 1.2  # sqrt(2) is that of unrelated pictures


def test_a_limit_is_a_quantile_a_bound_or_a_fixed_cautious_number() -> None:
    numbers = np.random.default_rng(2).normal(0.9, 0.05, 1000)
    ratios = torch.from_numpy(numbers)
    assert copies.limit(ratios) == pytest.approx(0.95 * np.sort(numbers)[2], abs=1e-6)
    few = copies.limit(ratios[:40])
    assert 0.6 < few < copies.limit(ratios) < 0.95 * numbers[:40].min()
    assert copies.limit(ratios[:19]) == copies.CAUTIOUS == copies.limit(ratios[:0])


@pytest.mark.parametrize("clean", [24, 0])
def test_held_out_images_with_a_twin_in_training_say_nothing_of_copies(clean: int, tmp_path: Path) -> None:
    """A set whose own parts leak: most test images mirror training images, and copies are found all the same."""
    for part in ("train", "test"):
        (tmp_path / "set" / part).mkdir(parents=True)
    (tmp_path / "copied").mkdir()
    faces = [np.asarray(drawn.draw(seed, size=64).image) for seed in range(60 + clean)]
    for seed, pixels in enumerate(faces):
        Image.fromarray(pixels).save(tmp_path / "set" / ("train" if seed < 60 else "test") / f"{seed}.png")
    for seed in range(30):
        Image.fromarray(faces[seed][:, ::-1]).save(tmp_path / "set" / "test" / f"{seed}.png")
        Image.fromarray(shifted(jpeg(faces[seed]))).save(tmp_path / "copied" / f"{seed}.png")
    path = tmp_path / "set.zip"
    prepare.prepare(Request([str(tmp_path / "set")], path, Options(size=64, workers=1)))
    words = ["eval", tmp_path / "copied", "--against", path, "--metrics", "copies", *FACES, "--json"]
    answer = done(*words)
    found = {score["name"]: score["value"] for score in json.loads(answer.out)["scores"]}
    assert found["copies-faces"] >= 0.95
    assert f"30 of {30 + clean} held-out images have a near-duplicate in training" in answer.err
    assert ("a cautious number" in answer.err) == (clean == 0)


def test_a_folder_of_copies_and_one_of_held_out_images(portraits: FaceSet, tmp_path: Path) -> None:
    for name, split in (("copied", "train"), ("held-out", "test")):
        (tmp_path / name).mkdir()
        for i, pixels in enumerate(portraits.pixels(portraits.indices(split)[:40])):
            Image.fromarray(jpeg(pixels[:, ::-1] if i % 2 else pixels)).save(tmp_path / name / f"{i:02d}.png")
    words = ["--against", portraits.path, "--metrics", "copies,duplicates"]
    copied, held_out = scores(tmp_path / "copied", *words), scores(tmp_path / "held-out", *words)
    assert set(copied) == {"copies-faces", "copies-hash", "duplicates"}
    for name in ("copies-faces", "copies-hash"):
        assert copied[name]["value"] >= 0.95
        assert held_out[name]["value"] <= 0.025
        assert copied[name]["interval"][0] > held_out[name]["interval"][1]
        assert copied[name]["protocol"]["reference"] == portraits.split_identity("train")
    assert held_out["copies-hash"]["value"] == copied["duplicates"]["value"] == 0


# ---- runs -----------------------------------------------------------------------------------------------------


def test_a_run_is_judged_unasked(run: Path, faces: Path) -> None:
    answer = done("eval", run, "--n", "24", *FACES, "--json")
    found = {score["name"]: score for score in json.loads(answer.out)["scores"]}
    ours = {"hair-color", "eyes-color", "brightness", "duplicates", "copies-faces", "copies-hash"}
    assert ours < set(found)
    assert "fd-faces" in found
    stored = disk.unsealed(json.loads((run / "eval.json").read_text()))
    assert [entry["name"] for entry in stored["histograms"]] == ["hair color", "eye color", "brightness"]
    for entry in stored["histograms"]:
        assert (entry["by"], entry["images"]) == ("pixels", 64)
        for side in ("real", "drawn"):
            assert len(entry[side]) == len(entry["values"])
            assert sum(entry[side]) == pytest.approx(1, abs=1e-4)
    hair = stored["histograms"][0]
    apart = np.abs(np.subtract(hair["real"], hair["drawn"])).sum() / 2
    assert found["hair-color"]["value"] == pytest.approx(apart, abs=1e-4)
    for name in ours - {"copies-faces"}:
        assert found[name]["protocol"]["extractor"] == "", name
        low, high = found[name]["interval"]
        assert low <= found[name]["value"] <= high
    assert found["copies-faces"]["protocol"]["extractor"] == "faces"
    assert found["duplicates"]["protocol"]["reference"] == ""
    assert found["hair-color"]["protocol"]["reference"] == FaceSet.open(faces).split_identity("train", 16)
    assert stored["sheets"] == {"neighbours": "judged/neighbours.png"}
    with Image.open(run / "judged" / "neighbours.png") as sheet:
        assert sheet.width > 1000  # 24 pairs of cells of 128 pixels
    again = done("eval", run, "--n", "24", "--metrics", "hair-color,copies", *FACES, "--json")
    assert "already scored" in again.err
    assert [score["name"] for score in json.loads(again.out)["scores"]] == [
        "hair-color", "copies-faces", "copies-hash",
    ]  # fmt: skip
    done("compare", run, "--out", run / "comparison")
    table = (run / "comparison" / "table.md").read_text()
    assert "- duplicates: 24 generated; size 16" in table
    assert "against 0" not in table


def test_scores_under_older_names_are_valid_and_not_measured_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--n", "8", "--repeats", "1", *FACES, "--json"]
    (first,) = json.loads(done("eval", run, "--metrics", "hair-color", *words).out)["scores"]
    stored = disk.unsealed(json.loads((run / "eval.json").read_text()))
    text = json.dumps(stored).replace("hair-color", "hair-colour").replace("hair color", "hair colour")
    measured = {key: value for key, value in first["protocol"].items() if key not in ("id", "reference_name")}
    old_id = Protocol.from_dict(measured | {"metric": "hair-colour"}).id
    (run / "eval.json").write_text(text.replace(first["protocol_id"], old_id))
    (record,) = records.read(Run(run)).scores
    assert (record.name, record.protocol_id) == ("hair-color", first["protocol_id"])
    with monkeypatch.context() as patch:
        patch.setattr(Generator, "draw", lambda *_, **__: pytest.fail("drawn again"))
        again = done("eval", run, "--metrics", "hair-colour", *words)
    assert "already scored" in again.err
    assert json.loads(again.out)["scores"] == [first]
    done("eval", run, "--metrics", "hair-colour,brightness", "--force", *words)
    stored = disk.unsealed(json.loads((run / "eval.json").read_text()))
    assert [score["name"] for score in stored["scores"]] == ["hair-color", "brightness"]
    assert [entry["name"] for entry in stored["histograms"]] == ["hair color", "brightness"]


def test_translations_are_judged_too(two_domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done(*train_words("cyclegan", two_domains, run, *sets("train.batch=1"), duration="4 images"))
    found = scores(run, "--n", "8", "--metrics", "hair-color,duplicates,copies")
    assert set(found) == {"hair-color", "duplicates", "copies-faces", "copies-hash"}
    anime = FaceSet.open(two_domains)
    assert found["copies-faces"]["protocol"]["n_real"] == len(anime.indices("train", "anime"))
    assert (run / "judged" / "neighbours.png").is_file()


def test_a_run_that_draws_its_training_images_is_caught(
    run: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = images_of(FaceSet.open(faces), "train").flip(3)

    def draw(self: Generator, seeds: list[int], **_: object) -> Tensor:
        return training[torch.tensor(list(seeds)) % 10]

    monkeypatch.setattr(Generator, "draw", draw)
    answer = done("eval", run, "--n", "30", "--metrics", "copies,duplicates", *FACES, "--json")
    found = {score["name"]: score["value"] for score in json.loads(answer.out)["scores"]}
    assert found == {"copies-faces": 1, "copies-hash": 1, "duplicates": 1}
    assert "30 images repeat training images" in answer.err
    assert "judged/neighbours.png" in answer.err
    assert Run(run).path.joinpath("judged", "neighbours.png").is_file()


# ---- what cannot be measured ----------------------------------------------------------------------------------


def test_one_image_repeats_nothing_but_has_a_color(run: Path) -> None:
    assert "score two or more" in refused(2, "eval", run, "--seeds", "5", "--metrics", "duplicates", *FACES)
    assert 0 < scores(run, "--seeds", "5", "--metrics", "hair-color")["hair-color"]["value"] < 1


def test_without_a_test_split_only_the_hash_finds_copies(tmp_path: Path) -> None:
    whole = folder_of(tmp_path / "whole", 24)
    some = folder_of(tmp_path / "some", 14, first=20)
    said = refused(2, "eval", some, "--against", whole, "--metrics", "copies", *FACES)
    assert "test split" in said
    assert "copies-hash" in said
    found = scores(some, "--against", whole)
    assert "copies-faces" not in found
    assert found["copies-hash"]["value"] == pytest.approx(4 / 14)


def test_tiny_images_and_moments(tmp_path: Path) -> None:
    tiny, more = folder_of(tmp_path / "tiny", 20, (8, 8)), folder_of(tmp_path / "more", 20, (8, 8), first=50)
    said = refused(2, "eval", tiny, "--against", more, "--metrics", "hair-color", *FACES)
    assert "16 pixels" in said
    assert set(scores(tiny, "--against", more, "--metrics", "brightness,duplicates")) == {"brightness", "duplicates"}
    np.savez(tmp_path / "stats.npz", mu=np.zeros(480), sigma=np.eye(480))
    said = refused(2, "eval", tiny, "--against", tmp_path / "stats.npz", "--metrics", "brightness", *FACES)
    assert "--against" in said
