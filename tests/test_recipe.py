"""The recipe in a picture: what it tells, that it draws the picture again, and what it never tells."""

from __future__ import annotations

import getpass
import json
import re
import shlex
import shutil
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_runs
from chain import done, here, refused
from PIL import Image
from test_hints import parsed

from animegen_cli import __version__, disk
from animegen_cli.model import checkpoint
from animegen_cli.report import grids
from animegen_cli.sample import recipe

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "seeds/000003.png": ["--seeds", "3"],
    "grid.png": ["--seeds", "3,7-9", "--grid"],
    "interpolate-3-14.png": ["--interpolate", "3", "14", "--frames", "4"],
    "variations-3/000007.png": ["--vary", "3", "--seeds", "7", "--amount", "0.4"],
    "variations-3.png": ["--vary", "3", "--n", "3", "--grid"],
    "denoise.png": ["--denoise-strip", "--frames", "3", "--seeds", "5"],
}
HOW = [
    "--sampler",
    "ddim",
    "--steps",
    "3",
    "--eta",
    "0.5",
    "--labels",
    "hair=pink",
    "--guidance",
    "2",
    "--set",
    "spacing=leading",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of two families in `runs/`."""
    place = tmp_path_factory.mktemp("recipes")
    tiny_runs.make("ddpm", place / "runs" / "first", "model.labels=[hair,eyes]")
    tiny_runs.make("gan", place / "runs" / "second", "model.labels=[]")
    tiny_runs.make("stylegan2", place / "runs" / "third", "model.labels=[]")
    return place


def draw(folder: Path, name: str, *words: object, run: str = "runs/first") -> Path:
    """Draw into a folder of its own and return the picture called `name`."""
    out = folder / "out" / re.sub(r"\W+", "-", " ".join(map(str, [run, *words])))
    done("sample", run, *words, "--out", out, cwd=folder)
    return out / name


def like(folder: Path, picture: Path, *words: object) -> dict[str, Any]:
    answer = done("sample", *words, "--like", picture, "--json", cwd=folder)
    found: dict[str, Any] = json.loads(answer.out)
    return found


def changed(picture: Path, to: Path, **fields: object) -> Path:
    """The picture with another recipe, sealed as animegen seals it."""
    text = recipe.texts(picture)
    told = disk.sealed(disk.unsealed(json.loads(text[recipe.KEY])) | fields)
    image = recipe.opened(picture)
    to.write_bytes(grids.png(image, text | {recipe.KEY: json.dumps(told)}))
    return to


@pytest.mark.parametrize(("name", "words"), KINDS.items())
def test_a_picture_is_drawn_again_bit_for_bit(name: str, words: list[str], folder: Path) -> None:
    picture = draw(folder, name, *words, *HOW)
    again = like(folder, picture)
    assert again["equal"]
    assert again["differs"] == []
    assert again["run"] == "runs/first"
    first, second = (np.asarray(Image.open(file)) for file in (picture, folder / again["files"][0]))
    np.testing.assert_array_equal(first, second)
    assert like(folder, folder / again["files"][0], "--out", folder / "thrice")["equal"], (
        "what was drawn again has it too"
    )


def test_a_table_of_mixed_seeds_is_drawn_again(folder: Path) -> None:
    picture = draw(folder, "mix.png", "--mix", "0-1", "5", "--cut", "2", "--truncation", "0.7", run="runs/third")
    assert like(folder, picture)["equal"]


@pytest.mark.parametrize("run", ["runs/second", "runs/third"])
def test_variations_through_noise_and_codes_are_drawn_again(run: str, folder: Path) -> None:
    sheet = draw(folder, "variations-5.png", "--vary", "5", "--grid", run=run)
    varied = sheet.parent / "variations-5" / "000008.png"
    assert recipe.texts(varied)["Comment"].startswith("animegen sample RUN --vary 5 --amount 0.3 --seeds 8 ")
    for picture in (sheet, varied, varied.with_name("000005.png")):
        assert like(folder, picture)["equal"]


@pytest.mark.parametrize(("name", "words"), KINDS.items())
def test_the_command_in_a_picture_draws_it(name: str, words: list[str], folder: Path) -> None:
    picture = draw(folder, name, *words, *HOW)
    command = shlex.split(recipe.texts(picture)["Comment"])
    parsed(command[1:])
    command[command.index("RUN")] = "runs/first"
    done(*command[1:], "--out", folder / "typed", cwd=folder)
    np.testing.assert_array_equal(np.asarray(Image.open(picture)), np.asarray(Image.open(folder / "typed" / name)))


def test_a_recipe_tells_run_seed_sampling_and_version_to_any_program(folder: Path) -> None:
    with Image.open(draw(folder, "seeds/000003.png", "--seeds", "3", *HOW)) as image:
        text: dict[str, str] = image.text  # type: ignore[attr-defined]
    assert text["Software"] == f"animegen {__version__}"
    assert text["Comment"].startswith("animegen sample RUN --seeds 3 ")
    told = json.loads(text["animegen"])
    assert told["identity"] == checkpoint.identity(folder / "runs" / "first" / "weights.safetensors")
    assert (told["family"], told["images"], told["how"]) == ("ddpm", 640, {"seeds": "3"})
    assert told["sampling"]["steps"] == 3
    assert told["labels"] == {"hair": "pink"}
    assert (told["device"], told["precision"]) == ("cpu", told["precision"])


def test_a_recipe_tells_nothing_of_the_person_or_the_machine(folder: Path) -> None:
    picture = draw(folder, "seeds/000003.png", "--seeds", "3")
    said = " ".join(recipe.texts(picture).values())
    assert "/" not in said
    for word in (getpass.getuser(), socket.gethostname(), "first", folder.name):
        assert not re.search(rf"\b{re.escape(word)}\b", said), word


def test_what_differs_is_said(folder: Path, tmp_path: Path) -> None:
    picture = draw(folder, "seeds/000003.png", "--seeds", "3", "--precision", "fp32")
    other = changed(picture, tmp_path / "other.png", version="0.0.1", torch="1.0", identity="0" * 16)
    found = like(folder, other, "runs/first", "--batch", "3")
    assert [line.partition(":")[0] for line in found["differs"]] == ["another run", "animegen", "PyTorch", "batch"]
    assert "animegen: 0.0.1 then" in found["differs"][1]
    picture = draw(folder, "seeds/000003.png", "--seeds", "3", "--precision", "fp32", run="runs/second")
    said = done("sample", "--like", picture, "--precision", "bf16", cwd=folder).out
    assert re.search(r"of the pixels differ, by \d+ of 255 at most\n  precision: fp32 then, bf16 now\n$", said)


def test_pixels_that_were_changed_later_are_noticed(folder: Path, tmp_path: Path) -> None:
    picture = draw(folder, "seeds/000003.png", "--seeds", "3")
    pixels = np.asarray(Image.open(picture)).copy()
    pixels[0, 0] ^= 255
    edited = tmp_path / "edited.png"
    edited.write_bytes(grids.png(Image.fromarray(pixels), recipe.texts(picture)))
    found = like(folder, edited)
    assert found["differs"] == ["the file: its pixels were changed after it was drawn"]
    assert found["pixels_equal"] == 1 - 1 / 256
    small = tmp_path / "small.png"
    small.write_bytes(grids.png(Image.fromarray(pixels[:8]), recipe.texts(picture)))
    assert "the sizes differ" in done("sample", "--like", small, cwd=folder).out


def test_a_picture_without_a_recipe_meets_what_to_type(folder: Path, tmp_path: Path) -> None:
    picture = draw(folder, "seeds/000003.png", "--seeds", "3")
    with Image.open(picture) as image:
        image.save(tmp_path / "again.png")
        image.save(tmp_path / "again.jpg")
    assert "screenshots drop it" in refused(3, "sample", "--like", tmp_path / "again.png", cwd=folder)
    assert "only the PNG itself carries it" in refused(3, "sample", "--like", tmp_path / "again.jpg", cwd=folder)
    (tmp_path / "text.png").write_text("no picture")
    assert "cannot read" in refused(3, "sample", "--like", tmp_path / "text.png", cwd=folder)
    assert "cannot read" in refused(3, "sample", "--like", tmp_path / "gone.png", cwd=folder)


def test_a_run_that_is_gone_is_named_with_the_one_that_may_have_trained_on(folder: Path, tmp_path: Path) -> None:
    picture = draw(folder, "seeds/000003.png", "--seeds", "3", run="runs/second")
    lost = changed(picture, tmp_path / "lost.png", identity="0123456789abcdef")
    said = refused(3, "sample", "--like", lost, cwd=folder)
    assert "weights 0123456789abcdef" in said
    assert "runs/second is of that kind and has other weights" in said
    assert f"animegen sample RUN --like {lost}" in said
    other = tmp_path / "elsewhere"
    shutil.copytree(folder / "runs" / "second", other / "moved")
    assert "not under runs" in refused(3, "sample", "--like", picture, cwd=other)
    assert like(other, picture, "moved")["equal"]


def test_a_recipe_is_followed_as_it_is(folder: Path) -> None:
    picture = draw(folder, "seeds/000003.png", "--seeds", "3")
    for words in (["--n", "3"], ["--grid"], ["--steps", "3"], ["--labels", "hair=pink"], ["--format", "npz"]):
        assert "nothing else can be chosen" in refused(2, "sample", "--like", picture, *words, cwd=folder)


def test_pictures_made_of_pictures_name_the_command_that_makes_them(folder: Path, tmp_path: Path) -> None:
    face = draw(folder, "seeds/000003.png", "--seeds", "3")
    strip = draw(folder, "forward.png", "--forward-strip", face, "--frames", "3")
    assert "`animegen sample RUN --forward-strip PICTURE --frames 3" in refused(
        2, "sample", "--like", strip, cwd=folder
    )
    done(
        "translate",
        "runs/first",
        face,
        "--strength",
        "0.4",
        "--seed",
        "2",
        "--out",
        tmp_path / "t",
        "--grid",
        cwd=folder,
    )
    for made in (tmp_path / "t" / "000003.png", tmp_path / "t.contact.png"):
        said = refused(2, "sample", "--like", made, cwd=folder)
        line = re.search(r"`animegen (translate RUN PICTURE [^`]*)`", said)
        assert line
        assert "--strength 0.4 --seed 2" in line[1]
        parsed(shlex.split(line[1]))


DAMAGE: list[dict[str, Any]] = [
    {"family": "ddpm\x1b[31m"}, {"identity": "../../etc"}, {"how": []}, {"how": {"seeds": "3; rm"}}, {"batch": 0},
    {"batch": True}, {"images": "many"}, {"command": "a\nb"}, {"kind": None}, {"how": {}}, {"kind": "walk", "how": {"ends": [1]}},
    {"kind": "variation", "how": {"vary": -1, "amount": 0.3, "seeds": "4"}}, {"kind": "variations", "how": {"seeds": "4"}},
    {"kind": "variation", "how": {"vary": 3, "amount": 7, "seeds": "4"}}, {"kind": "variation", "how": {"vary": 3, "amount": 0.5}},
    {"kind": "walk", "how": {"ends": [1, 2], "frames": 10**9}}, {"kind": "grid", "how": {"seeds": "1-2", "zoom": 1.5}},
]  # fmt: skip


@pytest.mark.parametrize("fields", DAMAGE, ids=str)
def test_a_recipe_that_no_animegen_wrote_is_refused(fields: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    picture = draw(folder, "seeds/000003.png", "--seeds", "3")
    bad = changed(picture, tmp_path / "bad.png", **fields)
    answer = here("sample", "--like", bad, cwd=folder)
    assert answer.code == 3
    assert "recipe" in answer.err
    assert "\x1b" not in answer.err


def test_a_changed_letter_of_a_recipe_is_noticed(folder: Path, tmp_path: Path) -> None:
    picture = draw(folder, "seeds/000003.png", "--seeds", "3")
    text = recipe.texts(picture)
    told = text[recipe.KEY].replace('"seeds": "3"', '"seeds": "4"')
    (tmp_path / "x.png").write_bytes(grids.png(recipe.opened(picture), text | {recipe.KEY: told}))
    assert "does not match its own checksum" in refused(3, "sample", "--like", tmp_path / "x.png", cwd=folder)


def test_the_identity_is_that_of_the_weights_alone(folder: Path, tmp_path: Path) -> None:
    file = folder / "runs" / "second" / "weights.safetensors"
    tensors, about = checkpoint.load_weights(file)
    checkpoint.save_weights(tmp_path / "same", tensors, about | {"images": 1})
    assert checkpoint.identity(tmp_path / "same") == checkpoint.identity(file)
    name = min(tensors)
    checkpoint.save_weights(tmp_path / "other", tensors | {name: tensors[name] + 1}, about)
    assert checkpoint.identity(tmp_path / "other") != checkpoint.identity(file)
