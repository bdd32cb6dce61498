"""Splits: parts that a source states, exact shares, clusters that stay whole, and what leaks between given parts."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from chain import done, refused
from pictures import encoded, folder_of, made, picture
from PIL import Image, ImageOps

from animegen_cli.data import near_duplicates, splits
from animegen_cli.data.dataset import FaceSet
from animegen_cli.prepare import drawn


def parts_of(path: Path, **counts: int) -> Path:
    """A folder with so many pictures in each subfolder, no two alike."""
    first = 0
    for part, count in counts.items():
        folder_of(path / part, count, (32, 32), first=first)
        first += count
    return path


def held_out(path: Path, domain: str | None = None) -> list[str]:
    """The pictures that the test images of a set were made from."""
    faces = FaceSet.open(path)
    return [faces.origin(index) for index in faces.indices("test", domain).tolist()]


def prepared(source: object, out: Path, *more: object) -> tuple[list[str], str]:
    """The test pictures of a set that the command makes, and what it says."""
    answer = done("prepare", source, "--resolution", "16", "--out", out, "--workers", "1", *more)
    return held_out(out), answer.err


# ---- an exact share ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "share", "test"), [(20, 0.8, 4), (20, 0.5, 10), (33, 0.7, 10), (5, 0.99, 1), (5, 0.01, 4)]
)
def test_the_share_is_met_exactly(count: int, share: float, test: int, tmp_path: Path) -> None:
    faces = made(folder_of(tmp_path / "faces", count, (32, 32)), tmp_path / "out.zip", size=16, split=share)
    assert len(faces.indices("test")) == test


def test_whole_clusters_meet_the_share_as_nearly_as_they_can() -> None:
    numbers = np.random.default_rng(0)
    clusters = np.repeat(np.arange(0, 300, 3), 3)
    hashes = numbers.integers(0, 2**63, 300, np.uint64)
    test = splits.by_share(hashes, clusters, 0.8)
    assert abs(test.sum() - 60) <= 1
    assert (test.reshape(-1, 3).all(1) | ~test.reshape(-1, 3).any(1)).all()
    clusters[::3] = np.arange(0, 300, 3)
    single = np.where(np.arange(300) < 150, clusters, np.arange(300))  # half in threes, half alone
    assert splits.by_share(hashes, single, 0.8).sum() == 60
    one = np.zeros(50, np.int64)  # a cluster of all cannot be parted
    assert not splits.by_share(hashes[:50], one, 0.8).any()
    two = np.repeat([0, 45], [45, 5])
    assert splits.by_share(hashes[:50], two, 0.8).sum() == 5


def test_the_split_is_of_contents_and_few_images_move_when_others_are_added(tmp_path: Path) -> None:
    def sides(faces: FaceSet) -> dict[str, bool]:
        test = set(faces.indices("test").tolist())
        return {faces.manifest["sha256"][index]: index in test for index in range(len(faces))}

    source = folder_of(tmp_path / "faces", 300, (32, 32))
    before = sides(made(source, tmp_path / "a.zip"))
    for file in list(source.iterdir()):
        file.rename(source / f"{999 - int(file.stem):03d}.png")
    assert sides(made(source, tmp_path / "renamed.zip")) == before
    after = sides(made(folder_of(source, 350, (32, 32), first=300), tmp_path / "b.zip"))
    assert sum(after[one] != side for one, side in before.items()) < 0.05 * 300


# ---- parts that a source states ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "test", "said"),
    [
        ({"train": 16, "test": 5}, "test/", "kept: train/ 16, test/ 5"),
        ({"Training": 16, "Testing": 5}, "Testing/", "kept: Training/ 16, Testing/ 5"),
        ({"train": 12, "val": 5}, "val/", "kept: train/ 12, val/ 5"),
        ({"train": 12, "validation": 5, "test": 4}, "test/", "validation/ 5, test/ 4, what is for validation trains"),
        ({"trainA": 12, "testA": 4}, "testA/", "kept: trainA/ 12, testA/ 4"),
        ({".": 8, "test": 3}, "test/", "kept: test/ 3, outside of them 8, for training"),
    ],
)
def test_folders_that_name_parts_decide(counts: dict[str, int], test: str, said: str, tmp_path: Path) -> None:
    names, err = prepared(parts_of(tmp_path / "set", **counts), tmp_path / "out.zip")
    assert len(names) == counts[test[:-1]]
    assert all(name.startswith(test) for name in names)
    assert said in err


def test_parts_lie_at_any_depth_and_below_them_classes(tmp_path: Path) -> None:
    source = parts_of(
        tmp_path / "set", **{"data/train/red": 6, "data/train/blue": 6, "data/test/red": 3, "data/test/blue": 3}
    )
    packed = Path(shutil.make_archive(str(tmp_path / "set"), "zip", source))
    names, _ = prepared(packed, tmp_path / "out.zip")
    assert len(names) == 6
    assert all("/test/" in name for name in names)
    assert FaceSet.open(tmp_path / "out.zip").attributes == {"class": ("blue", "red")}


def test_a_share_that_is_asked_for_mixes_the_parts_and_says_so(tmp_path: Path) -> None:
    names, err = prepared(parts_of(tmp_path / "set", train=16, test=4), tmp_path / "out.zip", "--split", "0.5")
    assert len(names) == 10
    assert "warning: `--split 0.5` mixes the parts of the source (train/ 16, test/ 4)" in err


def test_a_part_for_training_alone_is_split_by_share(tmp_path: Path) -> None:
    names, err = prepared(parts_of(tmp_path / "set", train=20), tmp_path / "out.zip")
    assert len(names) == 4
    assert "train/ has no test part beside it" in err


def test_sources_named_after_parts(tmp_path: Path) -> None:
    parts_of(tmp_path, train=12, test=5)
    names, err = prepared(tmp_path / "train", tmp_path / "out.zip", tmp_path / "test")
    assert len(names) == 5
    assert all(name.startswith("test/") for name in names)
    assert "kept: train 12, test 5" in err


def test_a_set_in_the_form_of_cyclegan_is_two_domains(tmp_path: Path) -> None:
    source = parts_of(tmp_path / "selfie2anime", trainA=8, trainB=9, testA=3, testB=4)
    said = refused(3, "prepare", source, "--out", tmp_path / "out.zip")
    words = shlex.split(said.split("`animegen ")[1].split("`")[0])
    done(*words, "--resolution", "16", "--out", tmp_path / "out.zip", "--workers", "1")
    for domain, test, size in (("photos", "photos/testA/", 3), ("anime", "anime/testB/", 4)):
        names = held_out(tmp_path / "out.zip", domain)
        assert len(names) == size
        assert all(name.startswith(test) for name in names)


def test_a_set_that_is_prepared_again_keeps_its_test_images(tmp_path: Path) -> None:
    source, photos = folder_of(tmp_path / "faces", 40), folder_of(tmp_path / "photos", 20, first=100)
    first = made(source, tmp_path / "one.zip", size=48)
    again, _ = prepared(tmp_path / "one.zip", tmp_path / "small.zip")
    assert again == [first.member(index) for index in first.indices("test").tolist()]
    both = made(source, tmp_path / "two.zip", photos=photos, size=48, split=0.7)
    done(
        "prepare",
        "--photos",
        both.path,
        "--anime",
        both.path,
        "--resolution",
        "16",
        "--out",
        tmp_path / "two-small.zip",
    )
    for domain in ("anime", "photos"):
        kept = [name.partition("/")[2] for name in held_out(tmp_path / "two-small.zip", domain)]
        assert kept == [both.member(index) for index in both.indices("test", domain).tolist()]


def test_celebas_list_and_a_column_of_a_table_state_parts(tmp_path: Path) -> None:
    celeba = folder_of(tmp_path / "celeba" / "img_align_celeba", 10)
    rows = [f"{n:03d}.png {0 if n < 6 else 1 if n < 8 else 2}" for n in range(10)]
    (tmp_path / "celeba" / "list_eval_partition.txt").write_text("\n".join(rows))
    names, err = prepared(celeba.parent, tmp_path / "a.zip")
    assert names == ["img_align_celeba/008.png", "img_align_celeba/009.png"]
    assert "train 6, val 2, test 2" in err
    table = folder_of(tmp_path / "table", 10)
    lines = [f"{n:03d}.png,{'red' if n % 2 else 'blue'},{'test' if n > 6 else 'train'}" for n in range(10)]
    (table / "labels.csv").write_text("\n".join(["file,hair,split", *lines]))
    names, _ = prepared(table, tmp_path / "b.zip")
    assert names == ["007.png", "008.png", "009.png"]
    assert FaceSet.open(tmp_path / "b.zip").attributes == {"hair": ("blue", "red")}


# ---- mirror twins --------------------------------------------------------------------------------------------------


def face(seed: int, *, mirrored: bool = False, quality: int | None = None) -> Image.Image:
    image = drawn.draw(seed, size=64).image
    image = ImageOps.mirror(image) if mirrored else image
    if quality is None:
        return image
    with Image.open(io.BytesIO(encoded(image, "jpeg", quality=quality))) as read:
        return read.convert("RGB")


def test_the_fingerprint_of_a_mirror_image_follows_from_the_images_own() -> None:
    images = [picture(seed) for seed in range(20)] + [face(seed) for seed in range(20)]
    own, of_mirrored = (
        np.stack([np.frombuffer(near_duplicates.fingerprint(image), np.uint8) for image in side])
        for side in (images, [ImageOps.mirror(image) for image in images])
    )
    assert (near_duplicates.mirrored(own) == of_mirrored).all()
    assert (own != of_mirrored).any(axis=1).all()


def test_mirrored_jpegs_join_the_cluster_of_their_original_unless_told_otherwise() -> None:
    for mirror, least, most in ((True, 0.98, 1), (False, 0, 0.05)):
        finder = near_duplicates.Finder(300, mirror=mirror)
        for seed in range(150):
            finder.add(near_duplicates.fingerprint(face(seed)))
        for seed in range(150):
            finder.add(near_duplicates.fingerprint(face(seed, mirrored=True, quality=80)))
        clusters = finder.clusters()
        assert least <= (clusters[:150] == clusters[150:]).mean() <= most
        found = finder.matches(np.frombuffer(near_duplicates.fingerprint(face(7, mirrored=True)), np.uint8)[None])
        assert (found.place[0], bool(found.mirrored[0])) == ((7, True) if mirror else (157, False))


def twins(path: Path) -> Path:
    """30 faces, of six of which there is a mirrored copy."""
    path.mkdir(parents=True)
    for seed in range(30):
        face(seed).save(path / f"{seed:02d}.png")
    for seed in range(6):
        face(seed, mirrored=True).save(path / f"{seed:02d}m.png")
    return path


def test_mirror_twins_stay_together_and_go_as_near_duplicates(tmp_path: Path) -> None:
    source = twins(tmp_path / "faces")
    faces = made(source, tmp_path / "a.zip", size=64, split=0.5)
    test = set(faces.indices("test").tolist())
    pairs = [[faces.origin(index)[:2] for index in group] for group in faces.manifest["twins"]]
    assert pairs == [[f"{seed:02d}"] * 2 for seed in range(6)]
    assert all(len(test.intersection(group)) in (0, 2) for group in faces.manifest["twins"])
    assert len(test) == 18
    near = made(source, tmp_path / "b.zip", size=64, dedupe="near")
    assert (len(near), near.manifest["dropped"]) == (30, {"near duplicate, mirrored": 6})


# ---- what leaks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """20 faces for training and 8 for testing: two of these mirror training faces, one is a JPEG of one, one a copy."""
    source = tmp_path / "leaking"
    (source / "train").mkdir(parents=True)
    (source / "test").mkdir()
    for seed in range(20):
        face(seed).save(source / "train" / f"{seed:02d}.png")
    for seed in range(20, 24):
        face(seed).save(source / "test" / f"{seed}.png")
    face(3, mirrored=True).save(source / "test" / "a.png")
    face(4, mirrored=True, quality=90).save(source / "test" / "b.png")
    face(5, quality=70).save(source / "test" / "c.png")
    face(6).save(source / "test" / "d.bmp")
    return source


def test_what_leaks_between_given_parts_is_said_and_not_moved(leaking: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.zip"
    answer = done("prepare", leaking, "--out", out, "--workers", "1", "--json")
    about = json.loads(answer.out)
    assert about["split"]["leaks"] == {"images": 3, "mirrored": 2}
    assert about["dropped"] == {"exact duplicate in the other part": 1}
    assert len(held_out(out)) == 8
    with Image.open(about["leaks"]) as sheet:
        assert sheet.width > 3 * 128
    text = done("prepare", leaking, "--out", out, "--workers", "1").out
    assert "leaks    3 of 8 images for testing have a near-duplicate in training, 2 of them mirrored" in text
    assert "kept together" not in text


@pytest.mark.parametrize("kind", ["set", "folder", "zip"])
def test_any_set_with_parts_can_be_checked(kind: str, leaking: Path, tmp_path: Path) -> None:
    path = leaking
    if kind == "set":
        path = made(leaking, tmp_path / "set.zip", size=64, dedupe="off").path
    elif kind == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "packed"), "gztar", leaking))
    about = json.loads(done("prepare", "--check", path, "--json").out)
    assert (about["train"], about["test"], about["leaks"], about["mirrored"]) == (20, 8, 4, 2)
    assert sum(pair["mirrored"] for pair in about["pairs"]) == 2
    assert Path(about["sheet"]).is_file()
    assert "4 of 8 images for testing" in done("prepare", "--check", path).out


def test_a_split_of_our_own_leaks_nothing(tmp_path: Path) -> None:
    made(twins(tmp_path / "faces"), tmp_path / "a.zip", size=64, split=0.5)
    about = json.loads(done("prepare", "--check", tmp_path / "a.zip", "--json").out)
    assert (about["train"], about["test"], about["leaks"], about["sheet"]) == (18, 18, 0, None)


def test_a_set_without_parts_cannot_leak_which_is_said(tmp_path: Path) -> None:
    path = tmp_path / "theirs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3):
            archive.writestr(f"00000/img{number:08d}.png", encoded(picture(number)))
        archive.writestr("dataset.json", '{"labels": null}')
    assert "states no parts" in refused(3, "prepare", "--check", path)
    assert "--split" in refused(2, "prepare", "--check", path, "--split", "0.5")
    assert "there is no" in refused(3, "prepare", "--check", tmp_path / "missing.zip")
