"""Sets of two domains: preparing, reading and loading anime faces and photographs side by side."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pictures import command, encoded, folder_of, hint_of, loader, made, picture, rows
from PIL import Image

from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.loading import Loader, cut_out
from animegen_cli.errors import ConfigError, DataError, UsageError
from animegen_cli.model import families
from animegen_cli.prepare import drawn
from animegen_cli.prepare.request import Options, Request
from animegen_cli.train import train as training
from animegen_cli.train.request import Request as TrainRequest

if TYPE_CHECKING:
    from animegen_cli.config import RunConfig

Make = Callable[..., Loader]


pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """30 "anime" pictures in two classes and 20 others; 000.png is in both, with other pixels."""
    folder = tmp_path_factory.mktemp("folders")
    folder_of(folder / "anime" / "dark", 15, (32, 32))
    folder_of(folder / "anime" / "light", 15, (32, 32), first=15)
    folder_of(folder / "photos", 20, (32, 32), first=100)
    (folder / "photos" / "100.png").rename(folder / "photos" / "000.png")
    return folder / "anime", folder / "photos"


def both(folders: tuple[Path, Path], out: Path, **options: Any) -> FaceSet:
    """Prepare two domains in this process and open the result."""
    return made(folders[0], out, photos=folders[1], **options)


# ---- the file --------------------------------------------------------------------------------------------------


def test_one_zip_with_a_folder_for_each_domain(folders: tuple[Path, Path], tmp_path: Path) -> None:
    both(folders, tmp_path / "two.zip")
    with zipfile.ZipFile(tmp_path / "two.zip") as archive:
        assert archive.testzip() is None
        names = [name for name in archive.namelist() if name.endswith(".png")]
        listed = dict(json.loads(archive.read("dataset.json"))["labels"])
        with Image.open(io.BytesIO(archive.read("photos/00000/img00000003.png"))) as image:
            assert np.array_equal(np.asarray(image), np.asarray(picture(103, (32, 32))))
    assert names == [f"anime/00000/img{n:08d}.png" for n in range(30)] + [
        f"photos/00000/img{n:08d}.png" for n in range(20)
    ]
    assert listed["anime/00000/img00000000.png"] == [1, 0]
    assert {tuple(listed[name]) for name in names[30:]} == {(0, 0)}  # photographs have no labels


def test_manifest_counts_each_domain(folders: tuple[Path, Path], tmp_path: Path) -> None:
    faces = both(folders, tmp_path / "two.zip")
    about = faces.manifest
    assert about["domains"] == ["anime", "photos"]
    assert [about["by_domain"][domain]["images"] for domain in faces.domains] == [30, 20]
    for side in ("train", "test"):
        parts = [about["by_domain"][domain]["split"][side] for domain in faces.domains]
        assert parts == [len(faces.indices(side, domain)) for domain in faces.domains]
        assert about["split"][side] == sum(parts)
    assert about["names"][0] == "anime/dark/000.png"
    assert about["names"][30] == faces.origin(30) == "photos/000.png"
    pixels = faces.pixels(range(50))
    assert about["sha256"] == [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]


def test_each_half_is_the_set_that_it_would_be_alone(folders: tuple[Path, Path], tmp_path: Path) -> None:
    faces = both(folders, tmp_path / "two.zip")
    for source, domain in zip(folders, faces.domains, strict=True):
        alone = made(source, tmp_path / "one.zip")
        for split in ("train", "test", "all"):
            assert faces.split_identity(split, domain=domain) == alone.split_identity(split)
            mine, own = faces.indices(split, domain), alone.indices(split)
            assert np.array_equal(faces.pixels(mine), alone.pixels(own))
        assert faces.split_identity("all", 16, domain) == alone.split_identity("all", 16)
    assert faces.attributes == {"class": ("dark", "light")}
    assert faces.labels(faces.indices()).ravel().tolist() == [0] * 15 + [1] * 15
    assert faces.labels(faces.indices("all", "photos")).ravel().tolist() == [-1] * 20


def test_identity_knows_which_domain_an_image_is_in(folders: tuple[Path, Path], tmp_path: Path) -> None:
    faces = both(folders, tmp_path / "a.zip")
    turned = both(folders[::-1], tmp_path / "b.zip")
    assert faces.identity == faces.manifest["identity"] == both(folders, tmp_path / "c.zip", split=0.5).identity
    merged = made(folders[0].parent, tmp_path / "d.zip")
    assert len({faces.identity, turned.identity, merged.identity}) == 3


def test_same_bytes_for_any_workers_and_kind_of_source(folders: tuple[Path, Path], tmp_path: Path) -> None:
    anime, photos = folders
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as tar:
        tar.add(photos, ".")
    with zipfile.ZipFile(tmp_path / "anime.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(anime.rglob("*.png"), reverse=True):
            archive.write(file, file.relative_to(anime))
    found = set()
    for pair, workers in ((folders, 1), (folders, 2), ((tmp_path / "anime.zip", photos), 1)):
        both(pair, tmp_path / "out.zip", workers=workers)
        found.add((tmp_path / "out.zip").read_bytes())
    assert len(found) == 1
    packed = both((anime, tmp_path / "photos.tar.gz"), tmp_path / "out.zip")
    assert packed.identity == both(folders, tmp_path / "out.zip").identity


def test_duplicates_are_sought_within_a_domain(folders: tuple[Path, Path], tmp_path: Path) -> None:
    anime, photos = (tmp_path / name for name in ("anime", "photos"))
    for place, first in ((anime, 0), (photos, 50)):
        folder_of(place, 6, (32, 32), first=first)
        picture(first, (32, 32)).save(place / "again.png")
        (place / "near.jpg").write_bytes(encoded(picture(first + 1, (32, 32)), "jpeg", quality=40))
    picture(50, (32, 32)).save(anime / "shared.png")
    faces = both((anime, photos), tmp_path / "two.zip", split=0.5)
    assert [len(faces.indices("all", domain)) for domain in faces.domains] == [8, 7]  # "shared" stays in both
    assert faces.manifest["dropped"] == {"exact duplicate": 2}
    assert ["photos/again.png", "exact duplicate"] in faces.manifest["dropped_names"]
    groups = faces.manifest["twins"]
    assert sorted(sorted(faces.origin(index) for index in group) for group in groups) == [
        ["anime/001.png", "anime/near.jpg"],
        ["photos/051.png", "photos/near.jpg"],
    ]
    test = {*faces.indices("test"), *faces.indices("test", "photos")}
    assert all(len(test & set(group)) in (0, len(group)) for group in groups)


def test_limit_is_of_each_domain(folders: tuple[Path, Path], tmp_path: Path) -> None:
    faces = both(folders, tmp_path / "two.zip", limit=18, dedupe="off")
    assert [len(faces.indices("all", domain)) for domain in faces.domains] == [18, 18]


def test_the_contact_sheet_shows_both(folders: tuple[Path, Path], tmp_path: Path) -> None:
    both(folders, tmp_path / "two.zip")
    made(folders[0], tmp_path / "one.zip")
    with Image.open(tmp_path / "two.contact.png") as two, Image.open(tmp_path / "one.contact.png") as one:
        below = np.asarray(two)[one.height + 18 :, :68]  # the first column, below the other domain and a line of text
        photo = np.asarray(picture(100, (32, 32)).resize((64, 64), Image.Resampling.LANCZOS), int)
        assert min(np.abs(below[top : top + 64, 4:68] - photo).mean() for top in range(8)) < 1


def test_a_set_of_two_domains_is_a_source_of_either(
    two_domains: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    source = FaceSet.open(two_domains)
    again = both((two_domains, two_domains), tmp_path / "again.zip", size=16)
    assert again.identity == source.identity
    assert again.attributes == source.attributes
    assert np.array_equal(again.labels(again.indices()), source.labels(source.indices()))
    mixed = both((folders[0], two_domains), tmp_path / "mixed.zip", size=16)
    assert mixed.split_identity("all", domain="photos") == source.split_identity("all", domain="photos")
    with pytest.raises(DataError, match="holds two domains") as error:
        made(two_domains, tmp_path / "one.zip", size=16)
    assert "--photos" in hint_of(error.value)


# ---- drawn photographs -----------------------------------------------------------------------------------------


def test_drawn_photographs_are_the_same_everywhere_and_unlike_the_faces(tmp_path: Path) -> None:
    faces = both((Path("demo"), Path("demo")), tmp_path / "a.zip", limit=24, seed=5)
    both((Path("demo"), Path("demo")), tmp_path / "b.zip", limit=24, seed=5, workers=2)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    anime, photos = (faces.pixels(faces.indices("all", domain)).astype(float) for domain in faces.domains)
    assert np.array_equal(photos[7], np.asarray(drawn.photo(7, size=32, seed=5), float))
    assert not np.array_equal(photos[7], np.asarray(drawn.photo(7, size=32, seed=6), float))
    strong, muted = (((pixels.max(3) - pixels.min(3)) / 255).mean() for pixels in (anime, photos))
    assert photos.mean() < 0.75 * anime.mean()
    assert muted < 0.85 * strong
    distances = np.abs(photos[:, None] - photos[None]).mean((2, 3, 4))
    assert distances[~np.eye(24, dtype=bool)].min() > 5  # of 255 levels


def test_drawn_photographs_need_a_size_that_can_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="16 to 1024"):
        drawn.photo(0, size=8)
    with pytest.raises(UsageError, match="16 to 1024 pixels, not 8") as error:
        both((folder_of(tmp_path / "faces", 2), Path("demo")), tmp_path / "a.zip", size=8)
    assert hint_of(error.value)


# ---- bad input -------------------------------------------------------------------------------------------------


def test_an_empty_or_missing_domain(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for pair, match in (
        ((folders[0], tmp_path / "empty"), r"no picture in .*empty \(--photos\)"),
        ((tmp_path / "empty", folders[1]), r"no picture in .*empty \(--anime\)"),
        ((folders[0], tmp_path / "nosuch"), "there is no .*nosuch"),
    ):
        with pytest.raises(DataError, match=match) as error:
            both(pair, tmp_path / "two.zip")
        assert hint_of(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_domain_of_pictures_that_are_too_small(folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder_of(tmp_path / "tiny", 3, (20, 20))
    with pytest.raises(DataError, match=r"tiny \(--photos\): 3 too small") as error:
        both((folders[0], tmp_path / "tiny"), tmp_path / "two.zip", size=64)
    assert "--resolution" in hint_of(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    mixed = both((folders[0], tmp_path / "tiny"), tmp_path / "two.zip")  # of another size, and large enough for 32
    assert mixed.pixels(mixed.indices("all", "photos")).shape == (3, 32, 32, 3)


def test_one_source_is_not_both_domains(folders: tuple[Path, Path], tmp_path: Path) -> None:
    anime, photos = folders
    for pair in ((anime, anime), (anime.parent, photos), (anime, anime / "dark")):
        with pytest.raises(UsageError, match="given for both domains") as error:
            both(pair, tmp_path / "two.zip")
        assert "--photos" in hint_of(error.value)
    folder_of(tmp_path / "copy", 15, (32, 32))
    with pytest.raises(DataError, match="are all in the other") as copied:
        both((anime, tmp_path / "copy"), tmp_path / "two.zip")
    assert hint_of(copied.value)
    assert not (tmp_path / "two.zip").exists()


def test_the_command(folders: tuple[Path, Path], tmp_path: Path) -> None:
    anime, photos = folders
    done = command("--photos", photos, "--anime", anime / "dark", "--anime", anime / "light", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "kept     30 anime and 20 photos, 64 x 64" in done.stdout
    assert (tmp_path / "datasets" / "dark+light+photos-64.contact.png").is_file()
    for words, hint in (
        (("--photos", photos), "--photos ./photos --anime ./faces"),
        (("--anime", anime), "--photos ./photos --anime ./faces"),
        (("faces", "--photos", photos, "--anime", anime), "--photos ./photos --anime ./faces"),
        ((), "animegen prepare ./kaggle"),
    ):
        done = command(*words, cwd=tmp_path)
        assert done.returncode == 2, words
        assert "error: " in done.stderr
        assert hint in done.stderr.splitlines()[-1]


def test_default_names_say_both() -> None:
    assert Request(["x/faces.zip"], photos=["y/celeba"]).path == Path("datasets/faces+celeba-64.zip")
    assert Request(["demo"], photos=["demo"]).path == Path("datasets/demo+photos-64.zip")
    small = Options(size=32)
    assert Request(["two.zip"], options=small, photos=["two.zip"]).path == Path("datasets/two-32.zip")


# ---- reading ---------------------------------------------------------------------------------------------------


def test_no_domain_means_the_anime_faces(two_domains: Path) -> None:
    faces = FaceSet.open(two_domains)
    assert (len(faces), faces.domains) == (160, ("anime", "photos"))
    assert faces.indices().tolist() == faces.indices("all", "anime").tolist() == list(range(96))
    assert faces.indices("all", "photos").tolist() == list(range(96, 160))
    for domain in faces.domains:
        train, test = faces.indices("train", domain), faces.indices("test", domain)
        assert sorted([*train, *test]) == faces.indices("all", domain).tolist()
        assert 0.05 < len(test) / (len(train) + len(test)) < 0.4
    with pytest.raises(DataError, match="no domain `manga`") as error:
        faces.indices("all", "manga")
    assert "anime, photos" in hint_of(error.value)


def test_a_plain_folder_of_two_domains(folders: tuple[Path, Path], tmp_path: Path) -> None:
    faces = FaceSet.open(folders[0].parent)
    assert faces.domains == ("anime", "photos")
    assert [len(faces.indices("train", domain)) for domain in faces.domains] == [30, 20]
    assert FaceSet.open(folders[0]).domains == ("anime",)
    folder_of(tmp_path / "photos", 2)
    assert FaceSet.open(tmp_path).domains == ("anime",)  # one domain, whatever its folder is called


def test_domains_of_two_sizes_and_too_small_ones(two_domains: Path, tmp_path: Path) -> None:
    folder_of(tmp_path / "anime", 2, (24, 24))
    folder_of(tmp_path / "photos", 2, (16, 16), first=5)
    faces = FaceSet.open(tmp_path)
    with pytest.raises(DataError, match=r"photos/005\.png .* is 16 x 16, the first image 24 x 24") as error:
        faces.pixels(faces.indices("all", "photos"))
    assert f"animegen prepare --photos {tmp_path / 'photos'} --anime {tmp_path / 'anime'}" in hint_of(error.value)
    with pytest.raises(DataError, match="64 are needed") as error:
        FaceSet.open(two_domains).pixels([100], size=64)
    assert "animegen prepare --photos ./photos --anime ./anime --resolution 64" in hint_of(error.value)


# ---- loading ---------------------------------------------------------------------------------------------------


@pytest.fixture
def make(two_domains: Path) -> Iterator[Make]:
    """Builds loaders with photographs, and closes them."""
    loaders: list[Loader] = []

    def build(**options: Any) -> Loader:
        chosen = {"size": 16, "batch": 16, "seed": 1, "photos": True, **options}
        loaders.append(loader(FaceSet.open(two_domains), **chosen))
        return loaders[-1]

    yield build
    for one in loaders:
        one.close()


def test_each_domain_has_its_own_epochs(make: Make) -> None:
    faces = make(batch=1).faces
    everything = {domain: faces.pixels(faces.indices("train", domain)) for domain in faces.domains}
    assert len(everything["anime"]) != len(everything["photos"])
    for domain, pixels in everything.items():
        count = len(pixels)
        whole = make(batch=2 * count).batch(0)
        drawn_ = rows(whole.photos if domain == "photos" else whole.images)
        expected = sorted(rows(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()))
        assert sorted(drawn_[:count]) == sorted(drawn_[count:]) == expected
        assert drawn_[:count] != drawn_[count:]


def test_photos_are_a_function_of_the_position(make: Make) -> None:
    options: dict[str, Any] = {"flip": True, "rotate": 10.0, "crop": 2, "load": 18}
    whole = make(batch=8, **options)
    photos = [row for seen in range(0, 160, 8) for row in rows(whole.batch(seen).photos)]
    assert rows(make(batch=8, **options).batch(88).photos) == photos[88:96]  # as after a kill
    assert [row for seen in range(0, 160, 5) for row in rows(make(batch=5, **options).batch(seen).photos)] == photos
    parts = [make(batch=16, rank=rank, world=4, **options).batch(48) for rank in range(4)]
    assert [row for part in parts for row in rows(part.photos)] == photos[48:64]
    assert rows(make(batch=8, **options, seed=2).batch(88).photos) != photos[88:96]


def test_resident_and_streamed_are_equal_bit_for_bit(make: Make) -> None:
    options: dict[str, Any] = {"flip": True, "crop": 1, "load": 20}
    resident, streamed = make(**options), make(**options, memory_limit=0, workers=2)
    assert (resident.resident, streamed.resident) == (True, False)
    for seen in [*range(0, 160, 16), 16, 4000]:
        for mine, other in zip(resident.batch(seen), streamed.batch(seen), strict=True):
            assert mine is not None
            assert other is not None
            assert torch.equal(mine, other)
    assert streamed.waited > 0
    needed = 3 * 16 * 16 * (len(resident) + len(resident.faces.indices("train", "photos")))
    assert make(memory_limit=needed).resident
    assert not make(memory_limit=needed - 1).resident


def test_photos_do_not_change_the_faces(make: Make) -> None:
    options: dict[str, Any] = {"flip": True, "load": 18}
    with_photos, without = make(**options).batch(32), make(**options, photos=False).batch(32)
    assert torch.equal(with_photos.images, without.images)
    assert torch.equal(with_photos.labels, without.labels)
    assert without.photos is None
    both_domains = make()
    anime = both_domains.faces.pixels(both_domains.faces.indices("train")) / 127.5 - 1
    assert both_domains.mean == pytest.approx(anime.mean((0, 1, 2)), abs=1e-12)


def test_domains_are_mirrored_independently(make: Make) -> None:
    plain, mirrored = make(batch=800).batch(0), make(batch=800, flip=True).batch(0)
    faces, photos = (
        (getattr(plain, name) == getattr(mirrored, name)).flatten(1).all(1) for name in ("images", "photos")
    )
    for same in (faces, photos):
        assert 0.42 < same.float().mean() < 0.58
    assert 0.42 < (faces == photos).float().mean() < 0.58


def test_no_photos_to_load(faces: Path, two_domains: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no domain `photos`"):
        loader(FaceSet.open(faces), size=16, batch=4, photos=True)
    only = made("demo", tmp_path / "a.zip", photos="demo", size=16, limit=3, split=1.0)
    with pytest.raises(DataError, match="no images for `test`"):
        loader(only, split="test", size=16, batch=4, photos=True)


# ---- scaled up and cut out -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "load", "size"), [(16, 18, 16), (20, 36, 24), (18, 18, 16)])
def test_cut_out_is_bilinear_scaling_and_a_crop(source: int, load: int, size: int) -> None:
    images = torch.stack([torch.from_numpy(np.array(picture(n, (source, source)))).permute(2, 0, 1) for n in range(9)])
    room = load - size
    left, top = torch.tensor([0, room, 1, 0, 1, room, 2, 0, 2]), torch.tensor([0, 0, 0, room, 1, room, 0, 2, 1])
    found = cut_out(images, load, size, left, top)
    scaled = F.interpolate(images.double(), (load, load), mode="bilinear", align_corners=False)
    for number, (x, y) in enumerate(zip(left.tolist(), top.tolist(), strict=True)):
        expected = scaled[number, :, y : y + size, x : x + size]
        assert (found[number].double() - expected).abs().max() < 0.51  # rounded once
    if source == load:
        assert torch.equal(found[4], images[4, :, 1 : 1 + size, 1 : 1 + size])


def test_every_crop_is_about_as_frequent(two_domains: Path) -> None:
    """At 18 -> 16 there are nine crops; each image has its own, and both domains and all edges are reached."""
    cropped = loader(FaceSet.open(two_domains), size=16, batch=900, seed=3, load=18, photos=True)
    plain = loader(FaceSet.open(two_domains), size=16, batch=900, seed=3, photos=True)
    chosen = {}
    for name in ("images", "photos"):
        moved, still = getattr(cropped.batch(0), name), getattr(plain.batch(0), name)
        crops = torch.stack([
            cut_out(still, 18, 16, torch.full((900,), x), torch.full((900,), y)) for y in range(3) for x in range(3)
        ])  # fmt: skip
        hits = (crops == moved).flatten(2).all(2)
        assert hits.any(0).all()
        chosen[name] = hits.int().argmax(0)
        counts = torch.bincount(chosen[name], minlength=9)
        assert counts.min() > 65  # of 100 expected; the deviation is 9.4
        assert counts.max() < 140
    assert (chosen["images"] == chosen["photos"]).float().mean() < 0.2  # a ninth by chance


def test_a_larger_set_is_read_at_what_is_cut_from(two_domains: Path) -> None:
    faces = FaceSet.open(two_domains)
    cut = loader(faces, size=12, batch=60, load=14).batch(0).images
    whole = loader(faces, size=14, batch=60).batch(0).images
    assert cut.shape == (60, 3, 12, 12)
    windows = whole.unfold(2, 12, 1).unfold(3, 12, 1)  # (60, 3, 3, 3, 12, 12): every window, no scaling
    assert (windows == cut[:, :, None, None]).flatten(4).all(4).all(1).flatten(1).any(1).all()


def test_load_smaller_than_size_is_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match="16 pixels cannot be cut out of images of 15") as error:
        make(load=15)
    assert "--set augment.load=18" in hint_of(error.value)
    assert torch.equal(make(load=16).batch(0).images, make().batch(0).images)


# ---- training --------------------------------------------------------------------------------------------------


def asked(data: Path) -> tuple[TrainRequest, RunConfig]:
    request = TrainRequest(family="ddpm", preset="smoke", data=data, device="cpu")
    return request, training.read_config(request)


def test_a_family_of_one_domain_trains_on_the_anime_half(two_domains: Path) -> None:
    request, run_config = asked(two_domains)
    faces = FaceSet.open(two_domains)
    prepared = training.prepare(request, run_config, faces)
    assert prepared.data.count == len(prepared.loader) == len(faces.indices("train", "anime"))
    assert prepared.data.domains == ("anime",)
    assert prepared.loader.batch(0).photos is None


def test_a_translator_gets_photos_and_needs_them(
    two_domains: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families.load("ddpm"), "domains", ("anime", "photos"))
    request, run_config = asked(two_domains)
    prepared = training.prepare(request, run_config, FaceSet.open(two_domains))
    assert prepared.data.domains == ("anime", "photos")
    photos = prepared.loader.batch(0).photos
    assert photos is not None
    assert photos.shape == prepared.loader.batch(0).images.shape
    with pytest.raises(DataError, match=r"ddpm translates .* and faces\.zip has only anime faces") as error:
        training.prepare(request, run_config, FaceSet.open(faces))
    assert "animegen prepare --photos ./photos --anime ./faces --out two.zip" in hint_of(error.value)
