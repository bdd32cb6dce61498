"""`animegen translate` and what `sample` edits: real families with fresh networks, real files, whole commands."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from chain import TINY, done, here, refused
from pictures import encoded, picture
from PIL import Image

from animegen_cli import config, disk, paths
from animegen_cli.config import Layer
from animegen_cli.model import abilities, checkpoint, families
from animegen_cli.model.family import DataSpec, Edit, abilities_of
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.trained import inference_state, open_trained, spec_to_dict
from animegen_cli.translate import tiles, translate

SIZE = 16
ROTATED = 6  # EXIF: the file's pixels are to be turned by 90 degrees clockwise


def fresh(family: str, folder: Path, *settings: str) -> Path:
    """A run of networks that nobody trained, small and quick to make."""
    kind = families.load(family)
    layers = [
        Layer.from_yaml(paths.preset_file(family, "smoke")),
        Layer({"family": family, "preset": "smoke"}, {}),
        Layer.from_settings([*TINY.get(family, []), *settings]),
    ]
    resolved = config.resolve(
        layers, family=family, model=kind.Config, sample=kind.Sampling, optimizers=kind.optimizers
    )
    spec = DataSpec(
        SIZE,
        96,
        mean=(0.1, 0.0, -0.1),
        std=(0.5, 0.5, 0.6),
        attributes={"hair": ("pink", "aqua")},
        domains=kind.domains,
    )
    torch.manual_seed(0)
    model = kind(resolved.model, spec)
    for parameter in model.parameters():  # layers that start at zero would hide what goes in
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    folder.mkdir(parents=True)
    about = {"family": family, "state": "finished", "abilities": list(abilities_of(model))}
    disk.write_json(folder / "run.json", about)
    weights = {"config": resolved.to_dict(), "data": spec_to_dict(spec), "images": 0}
    checkpoint.save_weights(folder / "weights.safetensors", inference_state(model), weights)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A fresh run per family, made on first use."""
    folder = tmp_path_factory.mktemp("fresh")

    class Made(dict[str, Path]):
        def __missing__(self, family: str) -> Path:
            self[family] = fresh(family, folder / family)
            return self[family]

    return Made()


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.mode in ("RGB", "RGBA")
        return np.asarray(image)


def translated(run: Path, path: Path, out: Path, *words: object) -> dict[str, np.ndarray]:
    """Translate and read back: pixels by name."""
    shutil.rmtree(out, ignore_errors=True)
    done("translate", run, path, "--out", out, "--device", "cpu", "--precision", "fp32", "--batch", "2", *words)
    return {file.relative_to(out).as_posix(): pixels(file) for file in sorted(out.rglob("*.png"))}


# ---- what goes in ---------------------------------------------------------------------------------------------


def test_a_turned_photo_comes_out_upright_and_without_its_metadata(runs: dict[str, Path], tmp_path: Path) -> None:
    photo = picture(1, (40, 24))
    photo.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = ROTATED, "a private camera"
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright = translated(runs["cyclegan"], tmp_path / "upright.png", tmp_path / "a")["upright.png"]
    turned = translated(runs["cyclegan"], tmp_path / "turned.png", tmp_path / "b")["turned.png"]
    assert upright.shape == (24, 40, 3)
    np.testing.assert_array_equal(turned, upright)
    with Image.open(tmp_path / "b" / "turned.png") as image:
        assert not image.getexif()
        assert image.info.keys() == {"Software", "Comment", "animegen"}, "the recipe alone"
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert translated(runs["cyclegan"], tmp_path / "turned.jpg", tmp_path / "c")["turned.png"].shape == (24, 40, 3)


def test_every_kind_of_picture(runs: dict[str, Path], tmp_path: Path) -> None:
    """Half transparent, gray, 16 bits, CMYK, a palette, one pixel: each comes out in its own size."""
    folder, face = tmp_path / "in", picture(2, (24, 24))
    folder.mkdir()
    clear = face.convert("RGBA")
    clear.putalpha(0)
    clear.save(folder / "clear.png")
    Image.new("RGB", (24, 24), "white").save(folder / "white.png")
    face.convert("L").save(folder / "gray.png")
    face.convert("L").convert("RGB").save(folder / "rgb.png")
    face.convert("CMYK").save(folder / "print.tif")
    face.quantize(16).save(folder / "palette.gif")
    Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    found = translated(runs["cyclegan"], folder, tmp_path / "out")
    assert set(found) == {path.with_suffix(".png").name for path in folder.iterdir()}
    assert (found["clear.png"][..., 3] == 0).all()
    np.testing.assert_array_equal(found["clear.png"][..., :3], found["white.png"])
    np.testing.assert_array_equal(found["gray.png"], found["rgb.png"])
    np.testing.assert_array_equal(found["deep.png"], found["rgb.png"])
    assert found["dot.png"].shape == (1, 1, 3)
    assert found["print.png"].shape == (24, 24, 3)


def test_what_is_no_picture_is_skipped_and_counted(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "notes.txt").write_text("no picture by its name")
    (folder / "text.png").write_text("no picture at all")
    (folder / "cut.jpg").write_bytes(encoded(picture(3), "jpeg")[:300])
    picture(4).save(folder / "good.png")
    words = ["translate", runs["vae"], folder, "--out", tmp_path / "out", "--device", "cpu"]
    answer = done(*words, "--json")
    said = json.loads(answer.out)
    assert said["files"] == [str(tmp_path / "out" / "good.png")]
    reasons = {"text.png": "not a picture", "cut.jpg": "damaged or cut short"}
    assert {item["file"]: item["reason"] for item in said["skipped"]} == reasons
    assert said["edit"]["noise"] == 0
    assert "warning: skipped cut.jpg: damaged or cut short" in answer.err
    assert "2 skipped" in done(*words).out
    (folder / "good.png").unlink()
    assert "none of 2 could be read" in refused(3, *words)
    assert "not a picture" in here(*words[:2], folder / "text.png", *words[3:]).err


def sprite(size: tuple[int, int] = (32, 24)) -> Image.Image:
    """A face in the middle of nothing, which is black beneath, with a soft edge."""
    image = picture(2, size).convert("RGBA")
    alpha = np.zeros(size[::-1], np.uint8)
    alpha[7:17, 7:25], alpha[8:16, 8:24] = 128, 255
    image.putalpha(Image.fromarray(alpha))
    pixels = np.array(image)
    pixels[alpha == 0] = 0
    return Image.fromarray(pixels)


def test_transparent_parts_stay_so_where_any_size_will_do(runs: dict[str, Path], tmp_path: Path) -> None:
    sprite().save(tmp_path / "sprite.png")
    found = translated(runs["cyclegan"], tmp_path / "sprite.png", tmp_path / "out")["sprite.png"]
    np.testing.assert_array_equal(found[..., 3], np.asarray(sprite())[..., 3])
    rubbish = np.array(sprite())
    rubbish[rubbish[..., 3] == 0] = (0, 255, 0, 0)
    Image.fromarray(rubbish).save(tmp_path / "rubbish.png")
    other = translated(runs["cyclegan"], tmp_path / "rubbish.png", tmp_path / "out")["rubbish.png"]
    np.testing.assert_array_equal(found, other)  # what lies under transparent parts is not seen
    large = translated(runs["cyclegan"], tmp_path / "sprite.png", tmp_path / "out", "--size", "48", "--grid")[
        "sprite.png"
    ]
    assert large.shape == (48, 64, 4)
    assert large[..., 3].max() == 255
    assert (large[:8, :, 3] == 0).all()
    square = translated(runs["vae"], tmp_path / "sprite.png", tmp_path / "out")["sprite.png"]
    assert square.shape == (SIZE, SIZE, 3)
    opaque = picture(3, (16, 16)).convert("RGBA")
    opaque.save(tmp_path / "opaque.png")
    assert translated(runs["cyclegan"], tmp_path / "opaque.png", tmp_path / "out")["opaque.png"].shape == (16, 16, 3)


def test_colors_run_on_into_transparent_parts() -> None:
    color, alpha = sprite().convert("RGB"), sprite().getchannel("A")
    filled, solid = np.asarray(tiles.bled(color, alpha)).astype(int), np.asarray(alpha) > 0
    np.testing.assert_array_equal(filled[solid], np.asarray(color)[solid])
    inside = np.asarray(color)[solid]
    assert filled[~solid].min() >= inside.min()
    assert filled[~solid].max() <= inside.max()
    assert abs(filled[6, 8:24] - filled[8, 8:24]).mean() < abs(filled[8, 8:24]).mean() / 2  # near the edge as the edge
    one = Image.new("RGB", (5, 3), "red")
    assert np.asarray(tiles.bled(one, Image.new("L", (5, 3), 0))).min() == 255
    np.testing.assert_array_equal(np.asarray(tiles.bled(one, Image.new("L", (5, 3), 9))), np.asarray(one))


def test_every_picture_of_a_folder_is_translated_or_skipped(runs: dict[str, Path], tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "in" / "done"
    folder.mkdir()
    out.mkdir()
    picture(0).save(folder / "plain.png")
    picture(1).save(folder / "move.gif", save_all=True, append_images=[picture(number) for number in range(2, 7)])
    picture(2).save(folder / "noending", "JPEG")
    (folder / "layers.psd").write_bytes(b"8BPS")
    (folder / "new.jxl").write_bytes(b"no such picture")
    (folder / ".hidden.png").write_bytes(encoded(picture(3)))
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    picture(4).save(out / "earlier.png")
    for number in range(7):
        (folder / f"text{number}.png").write_text("no picture")
    (folder / "notes.md").write_text("# notes")
    answer = done("translate", runs["vae"], folder, "--out", out, "--device", "cpu", "--json")
    said = json.loads(answer.out)
    assert {Path(file).name for file in said["files"]} == {"plain.png", "move.png", "noending.png"}
    skipped = {item["file"]: item["reason"] for item in said["skipped"]}
    assert skipped == {
        "layers.psd": "Photoshop is not read, convert to PNG",
        "new.jxl": "not a picture",
        ".hidden.png": "hidden file",
        "gone.png": "broken link",
        "done/earlier.png": "lies in the folder of the results",
        **{f"text{number}.png": "not a picture" for number in range(7)},
    }
    assert said["animations"] == [{"file": "move.gif", "frames": 6}]
    assert said["other_files"] == 1
    assert "skipped 3 more: not a picture" in answer.err
    spoken = done("translate", runs["vae"], folder / "move.gif", "--out", out, "--device", "cpu").out
    assert "move.gif is an animation: the first of 6 frames was translated" in spoken


def test_folders_and_names_are_kept(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number, name in enumerate(["a/face.png", "b/face.png", "b/c/face.png", "face.jpg", "face.png", "frame_10.png"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / name)
    found = translated(runs["vae"], folder, tmp_path / "out")
    assert list(found) == ["a/face.png", "b/c/face.png", "b/face.png", "face.jpg.png", "face.png.png", "frame_10.png"]
    for name in ("a/face", "b/c/face"):
        alone = translated(runs["vae"], folder / f"{name}.png", tmp_path / "one")["face.png"]
        np.testing.assert_array_equal(found[f"{name}.png"], alone)
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", folder)
    zipped = translated(runs["vae"], Path(archive), tmp_path / "out")
    assert {name: image.tobytes() for name, image in zipped.items()} == {n: i.tobytes() for n, i in found.items()}


def test_three_names_that_want_the_same_file() -> None:
    names = ["a.jpg", "a.jpg.gif", "a.png", "A.webp", "b.png"]
    targets = translate._targets(names, Path("out"))
    assert len({str(target).casefold() for target in targets.values()}) == len(names)
    assert targets["b.png"] == Path("out/b.png")
    assert list(targets) == names


def test_inputs_are_never_overwritten(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture(1).save(folder / "a.png")
    before = (folder / "a.png").read_bytes()
    for path, out in ((folder, folder), (folder / "a.png", folder), (folder, tmp_path / "in" / ".." / "in")):
        assert "name another `--out`" in refused(2, "translate", runs["vae"], path, "--out", out, "--device", "cpu")
    inside = folder / "done"
    for _ in range(2):  # the second call takes no results of the first for pictures
        found = translated_again(runs["vae"], folder, inside)
        assert found == ["a.png"]
    assert (folder / "a.png").read_bytes() == before


def translated_again(run: Path, folder: Path, out: Path) -> list[str]:
    done("translate", run, folder, "--out", out, "--device", "cpu")
    return sorted(file.relative_to(out).as_posix() for file in out.rglob("*.png"))


# ---- shapes ---------------------------------------------------------------------------------------------------


def test_any_size_keeps_the_size_and_others_give_their_own(runs: dict[str, Path], tmp_path: Path) -> None:
    for number, size in enumerate([(33, 17), (7, 50), (64, 64)]):
        name = f"{size[0]}x{size[1]}.png"
        picture(number, size).save(tmp_path / name)
        out = translated(runs["cyclegan"], tmp_path / name, tmp_path / "out")[name]
        assert out.shape[:2] == size[::-1]
        assert translated(runs["vae"], tmp_path / name, tmp_path / "out")[name].shape == (SIZE, SIZE, 3)
        scaled = translated(runs["cyclegan"], tmp_path / name, tmp_path / "out", "--size", "32")[name]
        assert min(scaled.shape[:2]) == 32
    words = ["translate", runs["cyclegan"], tmp_path / "64x64.png", "--out", tmp_path / "out", "--device", "cpu"]
    assert "far larger pictures: 1; try `--size`" in done(*words).err
    assert "far larger" not in done(*words, "--size", "24").err
    wide = Image.new("RGB", (48, 16), "blue")
    wide.paste(picture(9, (16, 16)), (16, 0))
    wide.save(tmp_path / "wide.png")
    picture(9, (16, 16)).save(tmp_path / "middle.png")
    middle = translated(runs["vae"], tmp_path / "middle.png", tmp_path / "out")["middle.png"]
    by_fit = {
        fit: translated(runs["vae"], tmp_path / "wide.png", tmp_path / "out", "--fit", fit)["wide.png"]
        for fit in ("crop", "pad", "stretch")
    }
    np.testing.assert_array_equal(by_fit["crop"], middle)
    assert len({image.tobytes() for image in by_fit.values()}) == 3


def test_a_picture_that_fits_is_not_padded(runs: dict[str, Path]) -> None:
    """Reflection changes nothing inside: away from the edge a padded picture equals one whose content goes on so."""
    small = np.asarray(picture(5, (21, 13)))
    whole = tiles.padded(small)
    assert whole.shape == (16, 24, 3)
    np.testing.assert_array_equal(whole[:13, :21], small)
    np.testing.assert_array_equal(whole[13, :21], small[11])
    np.testing.assert_array_equal(whole[:13, 22], small[:, 18])
    assert tiles.padded(whole) is whole
    assert (tiles.padded(np.full((1, 1, 3), 9, np.uint8)) == 9).all()


@pytest.mark.parametrize("side", [(64, 64), (65, 64), (100, 64), (200, 120), (64, 300)])
def test_tiles_of_a_pointwise_translator_are_the_whole(side: tuple[int, int]) -> None:
    large = np.asarray(picture(6, side))
    seen = []

    def negative(images: np.ndarray) -> np.ndarray:
        seen.append(images.shape)
        return 255 - images

    np.testing.assert_array_equal(tiles.tiled(large, negative, tile=64, overlap=16), 255 - large)
    assert {shape[1:3] for shape in seen} == {tuple(min(length, 64) for length in large.shape[:2])}


def test_tiles_fade_linearly() -> None:
    """Two tiles that disagree: a straight line from one to the other over their overlap, and no step."""
    answers = iter([np.zeros((1, 8, 64, 3), np.uint8), np.full((1, 8, 64, 3), 240, np.uint8)])
    row = tiles.tiled(np.zeros((8, 112, 3), np.uint8), lambda _: next(answers), tile=64, overlap=16)[4, :, 0]
    assert set(row[:48]) == {0}
    assert set(row[64:]) == {240}
    steps = np.diff(row[47:65].astype(int))
    assert steps.min() >= 13
    assert steps.max() <= 15


def test_a_large_picture_in_tiles_by_a_real_network(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(7, (150, 70)).save(tmp_path / "large.png")
    whole = translated(runs["cyclegan"], tmp_path / "large.png", tmp_path / "out")["large.png"]
    monkeypatch.setattr(tiles, "TILE", 96)
    tiled = translated(runs["cyclegan"], tmp_path / "large.png", tmp_path / "out")["large.png"]
    assert tiled.shape == whole.shape == (70, 150, 3)
    assert tiled.std() > 1


# ---- the network ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", abilities.families_able("translates"))
def test_a_result_depends_on_its_picture_alone(family: str, runs: dict[str, Path], tmp_path: Path) -> None:
    """Not on how many others there are; and equal pictures become equal pictures, as a film needs."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(19):
        picture(number % 17, (SIZE, SIZE)).save(folder / f"{number:02d}.png")
    many = translated(runs[family], folder, tmp_path / "out", "--batch", "4")
    assert len({image.tobytes() for image in many.values()}) == 17
    np.testing.assert_array_equal(many["00.png"], many["17.png"])
    alone = translated(runs[family], folder / "05.png", tmp_path / "out", "--batch", "4")["05.png"]
    np.testing.assert_array_equal(alone, many["05.png"])


def edited(run: Path, out: Path, *words: object) -> np.ndarray:
    face = out.parent / "face.png"
    picture(8, (SIZE, SIZE)).save(face)
    return translated(run, face, out, *words)["face.png"]


def test_each_option_changes_the_picture(runs: dict[str, Path], tmp_path: Path) -> None:
    asked: dict[str, list[list[str]]] = {
        "cyclegan": [["--reverse"]],
        "vae": [["--noise", "0.5"], ["--noise", "0.5", "--seed", "1"]],
        "mhvae": [["--noise", "0.5"], ["--top-levels", "1"]],
        "ddpm": [["--strength", "0.9"], ["--strength", "0.9", "--seed", "1"], ["--exact"], ["--steps", "2"]],
        "edm": [["--strength", "0.9"], ["--exact"], ["--steps", "7"]],
    }  # fmt: skip
    for family, options in asked.items():
        drawn = [edited(runs[family], tmp_path / "out", *words) for words in ([], *options)]
        assert len({image.tobytes() for image in drawn}) == len(drawn), family


def test_little_strength_changes_little(runs: dict[str, Path], tmp_path: Path) -> None:
    face = np.asarray(picture(8, (SIZE, SIZE))).astype(int)
    far = [np.abs(edited(runs["ddpm"], tmp_path / "out", "--strength", s) - face).mean() for s in (0.02, 0.9)]
    assert far[0] < far[1]


def test_translate_from_python(runs: dict[str, Path]) -> None:
    trained = open_trained(paths.Run(runs["cyclegan"]), device=torch.device("cpu"), precision="fp32")
    images = torch.from_numpy(np.stack([np.asarray(picture(i, (24, 16))) for i in range(5)])).permute(0, 3, 1, 2)
    generator = Generator(trained, trained.config.sample, batch=2)
    out = generator.translate(images, Edit())
    assert (out.dtype, out.shape) == (torch.uint8, images.shape)
    assert torch.equal(generator.translate(images[3:4], Edit())[0], out[3])
    assert not torch.equal(generator.translate(images, Edit(reverse=True)), out)
    assert generator.translate(images[:0], Edit()).shape == (0, 3, 16, 24)


# ---- the sheet ------------------------------------------------------------------------------------------------


def test_before_and_after_stand_side_by_side_beside_the_folder(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, side in enumerate([128, 64, 40]):
        picture(number, (side, side)).save(folder / f"{number}.png")
    found = translated(runs["cyclegan"], folder, tmp_path / "out", "--grid")
    assert sorted(found) == ["0.png", "1.png", "2.png"], "the sheet is none of the results"
    sheet = pixels(tmp_path / "out.contact.png")

    def places(image: np.ndarray, zoom: int) -> list[tuple[int, int]]:
        large = image.repeat(zoom, 0).repeat(zoom, 1)
        height, width = large.shape[:2]
        windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], (height, 1))[..., 0]
        starts = np.argwhere((windows == large[:, 0, 0]).all(-1))
        return [(y, x) for y, x in starts.tolist() if np.array_equal(sheet[y : y + height, x : x + width], large)]

    for number, zoom in enumerate([1, 2, 3]):
        (before,) = places(np.asarray(picture(number, (int(128 / (1, 2, 3.2)[number]),) * 2)), zoom)
        (after,) = places(found[f"{number}.png"], zoom)
        assert after == (before[0], before[1] + 130)


# ---- what sample edits ----------------------------------------------------------------------------------------


def sampled(run: Path, out: Path, *words: object) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    done("sample", run, "--out", out, "--device", "cpu", "--precision", "fp32", "--batch", "2", *words)
    return out


def cells(sheet: Path, rows: int, columns: int, zoom: int = 4) -> np.ndarray:
    """The images of a table at its lower right: (rows, columns, SIZE, SIZE, 3)."""
    image, side = pixels(sheet), SIZE * zoom
    height, width = (count * (side + 2) - 2 for count in (rows, columns))
    table = np.pad(image[-height:, -width:], ((0, 2), (0, 2), (0, 0)))
    found = table.reshape(rows, side + 2, columns, side + 2, 3).swapaxes(1, 2)
    return found[:, :, :side:zoom, :side:zoom]


@pytest.mark.parametrize("family", ["stylegan2", "mhvae"])
def test_a_table_of_mixed_seeds(family: str, runs: dict[str, Path], tmp_path: Path) -> None:
    """Sources stand on top and in front, equal seeds mix to themselves, and a cut at nothing leaves the column's."""
    run, out = runs[family], tmp_path / "out"
    seeds = {int(file.stem): pixels(file) for file in (sampled(run, out, "--seeds", "1-5") / "seeds").glob("*.png")}
    sampled(run, out, "--mix", "1-2", "2,4,5")
    assert [file.name for file in out.iterdir()] == ["mix.png"]
    table = cells(out / "mix.png", 3, 4)
    assert (table[0, 0] == 255).all()
    for column, seed in enumerate((2, 4, 5), 1):
        np.testing.assert_array_equal(table[0, column], seeds[seed])
    for row, seed in enumerate((1, 2), 1):
        np.testing.assert_array_equal(table[row, 0], seeds[seed])
    np.testing.assert_array_equal(table[2, 1], seeds[2])
    mixed = table[1:, 1:].reshape(6, -1)
    assert len({cell.tobytes() for cell in mixed}) == 6
    assert not any((table[1, 2] == seeds[seed]).all() for seed in (1, 4))
    early = cells(sampled(run, out, "--mix", "1", "4", "--cut", "1") / "mix.png", 2, 2)
    assert (early[1, 1] != table[1, 2]).any()


def test_settings_with_options_of_their_own(runs: dict[str, Path], tmp_path: Path) -> None:
    def first(family: str, *words: object) -> bytes:
        return pixels(sampled(runs[family], tmp_path / "out", "--n", "1", *words) / "seeds" / "000000.png").tobytes()

    for family, option, value, key in (
        ("stylegan2", "--truncation", "0.3", "truncation"),
        ("vae", "--temperature", "0.2", "temperature"),
        ("mhvae", "--top-levels", "1", "levels"),
    ):
        assert first(family, option, value) == first(family, "--set", f"{key}={value}") != first(family), option


def test_a_walk_through_codes_begins_and_ends_at_its_seeds(runs: dict[str, Path], tmp_path: Path) -> None:
    drawn = sampled(runs["stylegan2"], tmp_path / "out", "--seeds", "3,9") / "seeds"
    ends = {seed: pixels(drawn / f"{seed:06d}.png").astype(int) for seed in (3, 9)}
    walk = sampled(runs["stylegan2"], tmp_path / "out", "--interpolate", "3", "9", "--frames", "20")
    row = pixels(walk / "interpolate-3-9.png").astype(int)
    frames = [row[:, i * SIZE : (i + 1) * SIZE] for i in range(20)]
    assert np.abs(frames[0] - ends[3]).max() <= 1
    assert np.abs(frames[-1] - ends[9]).max() <= 1
    steps = [np.abs(after - before).mean() for before, after in itertools.pairwise(frames)]
    assert 0 < max(steps) < np.abs(ends[3] - ends[9]).mean()


@pytest.mark.parametrize("family", abilities.families_able("samples"))
def test_variations_by_nothing_are_the_face_and_by_all_the_other(
    family: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    drawn = sampled(runs[family], tmp_path / "out", "--seeds", "3-4") / "seeds"
    first, second = (pixels(drawn / f"{seed:06d}.png") for seed in (3, 4))
    for amount, expected in (("0", first), ("1", second)):
        varied = sampled(runs[family], tmp_path / amount, "--vary", "3", "--n", "1", "--amount", amount)
        np.testing.assert_array_equal(pixels(varied / "variations-3" / "000003.png"), first)
        np.testing.assert_array_equal(pixels(varied / "variations-3" / "000004.png"), expected)
    between = sampled(runs[family], tmp_path / "between", "--vary", "3", "--n", "1") / "variations-3" / "000004.png"
    assert not np.array_equal(pixels(between), first)
    assert not np.array_equal(pixels(between), second)


def test_a_projection_comes_near_its_target(runs: dict[str, Path], tmp_path: Path) -> None:
    """The target is a face that the run drew from a seed, so its code exists."""
    face = tmp_path / "face.png"
    drawn = sampled(runs["stylegan2"], tmp_path / "drawn", "--seeds", "7") / "seeds" / "000007.png"
    shutil.copy(drawn, face)
    found = {}
    for steps in (1, 60):
        words = ["--project", face, "--project-steps", str(steps), "--project-loss", "pixels", "--frames", "5"]
        out = sampled(runs["stylegan2"], tmp_path / "out", *words)
        assert {file.name for file in out.iterdir()} == {"project.png", "project-target.png", "project-result.png"}
        np.testing.assert_array_equal(pixels(out / "project-target.png"), pixels(face))
        found[steps] = np.abs(pixels(out / "project-result.png").astype(int) - pixels(face)).mean()
    assert found[60] < 0.7 * found[1]
    picture(1, (40, 30)).save(face)
    said = refused(2, "sample", runs["stylegan2"], "--project", face, "--out", tmp_path / "no", "--device", "cpu")
    assert "40 x 30 pixels, and this run draws 16 x 16" in said
    assert "--fit crop" in said
    words = ["--project", face, "--project-steps", "3", "--fit", "crop"]
    assert (sampled(runs["stylegan2"], tmp_path / "out", *words) / "project-result.png").is_file()


def half_mask(path: Path, side: int = SIZE) -> Path:
    """White on the right half."""
    mask = Image.new("L", (side, side))
    mask.paste(255, (side // 2, 0, side, side))
    mask.save(path)
    return path


@pytest.mark.parametrize("family", ["ddpm", "edm"])
def test_inpainting_redraws_what_is_white_and_nothing_else(family: str, runs: dict[str, Path], tmp_path: Path) -> None:
    face, mask = tmp_path / "face.png", half_mask(tmp_path / "mask.png")
    picture(5, (SIZE, SIZE)).save(face)
    words = ["--inpaint", mask, "--image", face, "--steps", "3"]
    out = sampled(runs[family], tmp_path / "out", *words, "--seeds", "4,9,11", "--batch", "2")
    assert {file.name for file in out.iterdir()} == {"inpaint.png", "inpainted"}
    variants = {int(file.stem): pixels(file) for file in (out / "inpainted").iterdir()}
    assert sorted(variants) == [4, 9, 11]
    for image in variants.values():
        np.testing.assert_array_equal(image[:, : SIZE // 2], pixels(face)[:, : SIZE // 2])
        assert (image[:, SIZE // 2 :] != pixels(face)[:, SIZE // 2 :]).any()
    assert len({image.tobytes() for image in variants.values()}) == 3
    again = sampled(runs[family], tmp_path / "out", *words, "--seeds", "9", "--batch", "2")
    np.testing.assert_array_equal(pixels(again / "inpainted" / "000009.png"), variants[9])


def test_pictures_and_masks_of_other_sizes(runs: dict[str, Path], tmp_path: Path) -> None:
    face, mask = tmp_path / "face.png", tmp_path / "mask.png"
    picture(5, (40, 40)).save(face)
    words = ["sample", runs["ddpm"], "--inpaint", mask, "--image", face, "--steps", "2", "--device", "cpu"]
    half_mask(mask)
    assert f"{face} is 40 x 40 pixels" in refused(2, *words, "--out", tmp_path / "out")
    picture(5, (SIZE, SIZE)).save(face)
    half_mask(mask, 20)
    assert f"{mask} is 20 x 20 pixels, and this run draws 16 x 16" in refused(2, *words, "--out", tmp_path / "out")
    Image.new("L", (SIZE, SIZE)).save(mask)
    assert "nothing would be redrawn" in refused(2, *words, "--out", tmp_path / "out")
    picture(5, (40, 20)).save(face)
    Image.new("L", (40, 20), 255).save(mask)
    done(*words, "--out", tmp_path / "out", "--fit", "pad", "--n", "1")
    drawn, kept = pixels(tmp_path / "out" / "inpainted" / "000000.png"), slice(0, 4)
    assert (drawn[kept] == 255).all(), "margins are kept"
    assert (drawn[4:12] != 255).any()
    said = refused(2, "sample", runs["vae"], *words[2:6], "--out", tmp_path / "out", "--fit", "crop")
    assert "a vae run cannot redraw part of a picture" in said
    assert "ddpm" in said


@pytest.mark.parametrize(
    "family", sorted({*abilities.families_able("samples"), *abilities.families_able("translates")})
)
def test_half_precision_says_nearly_the_same(family: str, runs: dict[str, Path], tmp_path: Path) -> None:
    verb = "translate" if "translates" in paths.Run(runs[family]).about["abilities"] else "sample"
    picture(8, (SIZE, SIZE)).save(tmp_path / "face.png")
    found = []
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        words = [tmp_path / "face.png"] if verb == "translate" else ["--n", "1"]
        done(verb, runs[family], *words, "--out", out, "--device", "cpu", "--precision", precision, "--batch", "1")
        found += [pixels(next(out.rglob("0*.png" if verb == "sample" else "*.png"))).astype(int)]
    assert np.abs(found[0] - found[1]).mean() < 8


@pytest.mark.parametrize(
    ("family", "words", "message", "hint"),
    [
        ("cyclegan", ["--vary", "3"], "cyclegan run, which cannot draw from noise", "vae"),
        ("vae", ["--mix", "0-1", "2"], "a vae run cannot mix two seeds", "stylegan2"),
        ("vae", ["--truncation", "0.5"], "a vae run has no sampling setting `truncation`", "stylegan2"),
        ("stylegan2", ["--temperature", "0.5"], "no sampling setting `temperature`", "vae"),
        ("stylegan2", ["--top-levels", "2"], "no sampling setting `levels`", "mhvae"),
        ("stylegan2", ["--steps", "2"], "no sampling setting `steps`", "ddpm"),
        ("stylegan2", ["--denoise-strip"], "cannot turn a picture into noise", "ddpm"),
    ],
)
def test_what_a_family_cannot_names_those_that_can(
    family: str, words: list[str], message: str, hint: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    said = refused(2, "sample", runs[family], "--out", tmp_path / "out", "--device", "cpu", *words)
    assert message in said
    assert hint in said.splitlines()[-1]


# ---- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "words", "message", "hint"),
    [
        ("vae", ["--reverse"], "a vae run reads no `--reverse`", "families that can: cyclegan"),
        ("cyclegan", ["--noise", "0.1"], "a cyclegan run reads no `--noise`", "vae"),
        ("cyclegan", ["--strength", "0.1"], "a cyclegan run reads no `--strength`", "ddpm"),
        ("vae", ["--top-levels", "2"], "a vae run reads no `--top-levels`", "mhvae"),
        ("vae", ["--exact"], "a vae run reads no `--exact`", "ddpm"),
        ("cyclegan", ["--steps", "4"], "no sampling setting `steps`", "ddpm"),
        ("cyclegan", ["--fit", "crop"], "keeps a picture's own shape", "--size"),
        ("vae", ["--size", "32"], "at its own size alone", "--fit"),
        ("vae", ["--precision", "fp8"], "no precision `fp8`", "bf16"),
        ("stylegan2", [], "a stylegan2 run, which cannot translate pictures", "cyclegan"),
    ],
)
def test_refused_words(
    family: str, words: list[str], message: str, hint: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    picture(1).save(tmp_path / "face.png")
    said = refused(2, "translate", runs[family], tmp_path / "face.png", "--out", tmp_path / "out", *words)
    assert message in said
    assert hint in said.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_runs_and_paths_that_do_not_fit(runs: dict[str, Path], tmp_path: Path) -> None:
    face = tmp_path / "face.png"
    picture(1).save(face)
    said = refused(3, "translate", face, cwd=tmp_path)
    assert "no run under runs/" in said
    assert "animegen prepare --photos" in said
    assert "animegen train" in said
    said = refused(3, "translate", runs["vae"], tmp_path / "faec.png")
    assert "did you mean" in said
    (tmp_path / "film.mp4").write_bytes(b"film")
    assert "ffmpeg -i" in refused(2, "translate", runs["vae"], tmp_path / "film.mp4")
    assert "is a run, not pictures" in refused(2, "translate", runs["vae"])
    said = refused(2, "sample", runs["cyclegan"], "--out", tmp_path / "out")
    assert "is a cyclegan run, which cannot draw from noise" in said
    assert "ddpm" in said
    young = shutil.copytree(runs["vae"], tmp_path / "runs" / "00000-young")
    (young / "weights.safetensors").unlink()
    assert "no weights.safetensors yet" in refused(3, "translate", "0", face, cwd=tmp_path)
    shutil.copytree(runs["vae"], tmp_path / "runs" / "00001-vae")
    shutil.copytree(runs["stylegan2"], tmp_path / "runs" / "00002-newest")
    assert "run: runs/00001-vae" in done("translate", face, "--device", "cpu", cwd=tmp_path).err
    assert (tmp_path / "runs" / "00001-vae" / "translated" / "face.png").is_file()
    assert "runs here: 00001-vae" in refused(2, "translate", "2", face, cwd=tmp_path)
