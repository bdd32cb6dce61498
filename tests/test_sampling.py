"""What `animegen sample` promises: image i is a function of seed i, whatever else is drawn, and needs no data set."""

from __future__ import annotations

import itertools
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_runs
import torch
from chain import done, refused, sets, start, train_words
from PIL import Image, ImageSequence

from animegen_cli.model import checkpoint
from animegen_cli.paths import Run
from animegen_cli.sample import generate

FAMILIES = ("ddim", "ddpm")
SAMPLERS = ("ancestral", "ddim", "dpmpp", "heun", "euler")


@pytest.fixture(scope="module")
def runs(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Trained runs whose data set is gone."""
    folder = tmp_path_factory.mktemp("runs")
    data = Path(shutil.copy(faces, folder / "gone.zip"))
    labels = sets("model.labels=[hair,eyes]", "optim.model.lr=0.005")
    previews = sets("train.preview_every=64 images")
    done(*train_words("ddim", data, folder / "ddim", *previews, duration="256 images"))
    done(*train_words("ddpm", data, folder / "ddpm", *labels, *previews, duration="512 images"))
    data.unlink()
    return {family: folder / family for family in FAMILIES}


def draw(run: Path, out: Path, *words: object) -> dict[int, np.ndarray]:
    """Draw and read back: pixels by seed."""
    shutil.rmtree(out, ignore_errors=True)
    done("sample", run, "--out", out, "--device", "cpu", "--precision", "fp32", *words)
    return {int(path.stem): pixels(path) for path in out.rglob("[0-9]*.png")}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def assert_equal(some: dict[int, np.ndarray], others: dict[int, np.ndarray]) -> None:
    """Every image of `some` is, bit for bit, the one of its seed in `others`."""
    assert some
    for seed, image in some.items():
        np.testing.assert_array_equal(image, others[seed])


def test_a_run_that_was_stopped_after_a_few_images_says_so_and_what_to_type(tmp_path: Path) -> None:
    def said(name: str, **about: Any) -> str:
        run = tiny_runs.make("gan", tmp_path / name, **about)
        return done("sample", run.path, "--seeds", "0", "--device", "cpu").err

    stopped = said("stopped", state="stopped", target_images=500_000)
    assert "has seen only 640 of 500,000 images and hardly draws faces yet" in stopped
    assert f"`animegen train --resume {tmp_path / 'stopped'}`" in stopped
    assert "has seen only" not in said("finished", target_images=640)
    weights, about = checkpoint.load_weights(tmp_path / "stopped" / "weights.safetensors")
    checkpoint.save_weights(tmp_path / "stopped" / "weights.safetensors", weights, {**about, "images": 1000})
    assert "has seen only" not in done("sample", tmp_path / "stopped", "--seeds", "0", "--device", "cpu").err


# ---- noise and batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "sampling", [["--sampler", "ddim"], ["--sampler", "ancestral"], ["--sampler", "heun", "--set", "s_churn=2"]]
)
def test_an_image_depends_on_its_seed_alone(
    family: str, sampling: list[str], runs: dict[str, Path], tmp_path: Path
) -> None:
    def images(*words: object) -> dict[int, np.ndarray]:
        return draw(runs[family], tmp_path / "out", "--batch", "4", *sampling, *words)

    many = images("--n", "10")
    assert sorted(many) == list(range(10))
    assert len({image.tobytes() for image in many.values()}) == 10
    assert_equal(images("--n", "3"), many)
    assert_equal(images("--seeds", "9,2,5-7"), many)
    assert_equal(images("--seeds", "6-9") | images("--seeds", "0-5"), many)


def test_two_processes_draw_what_one_does(runs: dict[str, Path], tmp_path: Path) -> None:
    one = draw(runs["ddpm"], tmp_path / "one", "--n", "6")
    words = [
        "sample",
        runs["ddpm"],
        "--seeds",
        "3-5",
        "--out",
        tmp_path / "two",
        "--device",
        "cpu",
        "--precision",
        "fp32",
    ]
    process = start(*words)
    first = draw(runs["ddpm"], tmp_path / "first", "--seeds", "0-2")
    assert process.wait() == 0
    second = {int(path.stem): pixels(path) for path in (tmp_path / "two" / "seeds").glob("*.png")}
    assert sorted(first | second) == list(range(6))
    assert_equal(first | second, one)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_micro_batch_changes_next_to_nothing(family: str, runs: dict[str, Path], tmp_path: Path) -> None:
    drawn = [draw(runs[family], tmp_path / "out", "--n", "12", "--batch", size) for size in (1, 5, 12)]
    first = np.stack([drawn[0][seed] for seed in range(12)]).astype(int)
    for other in drawn[1:]:
        difference = np.abs(first - np.stack([other[seed] for seed in range(12)]))
        assert (difference == 0).mean() >= 0.99
        assert difference.max() <= 2


def test_bf16_draws_the_same_pictures_coarsely(runs: dict[str, Path], tmp_path: Path) -> None:
    exact = draw(runs["ddim"], tmp_path / "a", "--n", "4")
    done("sample", runs["ddim"], "--n", "4", "--out", tmp_path / "b", "--device", "cpu", "--precision", "bf16")
    for seed, image in exact.items():
        coarse = pixels(tmp_path / "b" / "seeds" / f"{seed:06d}.png")
        assert np.abs(coarse.astype(int) - image).mean() < 8


# ---- samplers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_sampler_draws_on_every_run(family: str, runs: dict[str, Path], tmp_path: Path) -> None:
    found = {}
    for sampler in SAMPLERS:
        drawn = draw(
            runs[family], tmp_path / "out", "--seeds", "1", "--sampler", sampler, "--steps", "6", "--batch", "1"
        )
        found[sampler] = drawn[1]
        assert drawn[1].std() > 2
    others = [found[sampler].tobytes() for sampler in ("ancestral", "ddim", "dpmpp", "heun")]
    assert len(set(others)) == 4


@pytest.mark.parametrize("family", FAMILIES)
def test_deterministic_samplers_meet_with_many_steps(family: str, runs: dict[str, Path], tmp_path: Path) -> None:
    words = ["--seeds", "2", "--set", "spacing=karras", "--steps", "60", "--batch", "1"]
    drawn = [
        draw(runs[family], tmp_path / "out", "--sampler", sampler, *words)[2].astype(int)
        for sampler in ("ddim", "dpmpp", "heun")
    ]
    for other in drawn[1:]:
        assert np.abs(drawn[0] - other).mean() < 12


def test_eta_adds_noise_of_the_seeds(runs: dict[str, Path], tmp_path: Path) -> None:
    plain = draw(runs["ddpm"], tmp_path / "out", "--n", "3")
    noisy = draw(runs["ddpm"], tmp_path / "out", "--n", "3", "--eta", "1")
    assert all((plain[seed] != noisy[seed]).any() for seed in range(3))
    assert_equal(draw(runs["ddpm"], tmp_path / "out", "--n", "3", "--eta", "1"), noisy)


# ---- files ----------------------------------------------------------------------------------------------------


def test_npz_holds_what_the_pngs_hold(runs: dict[str, Path], tmp_path: Path) -> None:
    images = draw(runs["ddim"], tmp_path / "png", "--seeds", "4,1")
    done(
        "sample",
        runs["ddim"],
        "--seeds",
        "4,1",
        "--out",
        tmp_path,
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--format",
        "npz",
    )
    with np.load(tmp_path / "samples.npz") as stored:
        assert stored["arr_0"].dtype == np.uint8
        assert stored["arr_0"].shape == (2, 16, 16, 3)
        np.testing.assert_array_equal(stored["arr_0"][0], images[4])
        np.testing.assert_array_equal(stored["arr_0"][1], images[1])


def test_a_hundred_make_ten_by_ten(runs: dict[str, Path], tmp_path: Path) -> None:
    images = draw(runs["ddim"], tmp_path / "out", "--n", "100", "--grid", "--steps", "1")
    assert len(images) == 100
    sheet = pixels(tmp_path / "out" / "grid.png")
    assert sheet.shape == (10 * 18 - 2, 10 * 18 - 2, 3)
    for seed in (0, 9, 10, 99):
        y, x = seed // 10 * 18, seed % 10 * 18
        np.testing.assert_array_equal(sheet[y : y + 16, x : x + 16], images[seed])


def test_many_seeds_are_kept_in_folders_of_a_thousand(runs: dict[str, Path], tmp_path: Path) -> None:
    assert sorted(draw(runs["ddim"], tmp_path / "out", "--seeds", "1,1999,2000", "--steps", "1")) == [1, 1999, 2000]
    places = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert places == ["seeds/000001.png", "seeds/001000/001999.png", "seeds/002000/002000.png"]


def test_without_words_the_newest_run_draws_into_its_folder(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["ddim"], tmp_path / "runs" / "00000-ddim-smoke-faces")
    answer = done("sample", "--device", "cpu", cwd=tmp_path)
    assert "run: runs/00000-ddim-smoke-faces" in answer.err
    assert len(list((tmp_path / "runs" / "00000-ddim-smoke-faces" / "drawn" / "seeds").glob("*.png"))) == 16
    assert "00000-ddim-smoke-faces" in done("sample", "0", "--n", "1", "--device", "cpu", cwd=tmp_path).err


def test_no_room_for_the_pictures(runs: dict[str, Path], tmp_path: Path) -> None:
    words = ["--n", "64", "--steps", "1", "--format", "npz", "--out", tmp_path, "--device", "cpu"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        said = refused(5, "sample", runs["ddim"], *words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "samples.npz" in said
    assert "--out" in said


# ---- strips ---------------------------------------------------------------------------------------------------


def test_a_walk_begins_and_ends_at_its_seeds(runs: dict[str, Path], tmp_path: Path) -> None:
    ends = draw(runs["ddpm"], tmp_path / "out", "--seeds", "3,14")
    draw(runs["ddpm"], tmp_path / "out", "--interpolate", "3", "14", "--frames", "7")
    walk = pixels(tmp_path / "out" / "interpolate-3-14.png")
    assert walk.shape == (16, 7 * 16, 3)
    np.testing.assert_array_equal(walk[:, :16], ends[3])
    np.testing.assert_array_equal(walk[:, -16:], ends[14])
    frames = [walk[:, i * 16 : i * 16 + 16].astype(int) for i in range(7)]
    steps = [np.abs(a - b).mean() for a, b in itertools.pairwise(frames)]
    assert max(steps) < np.abs(frames[0] - frames[-1]).mean(), "the walk jumps"
    assert min(steps) > 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["interpolate-3-14.png"]


def test_a_walk_is_an_animation_there_and_back(runs: dict[str, Path], tmp_path: Path) -> None:
    draw(runs["ddpm"], tmp_path / "out", "--interpolate", "3", "14", "--frames", "4", "--gif")
    strip = pixels(tmp_path / "out" / "interpolate-3-14.png").astype(int)
    with Image.open(tmp_path / "out" / "interpolate-3-14.gif") as film:
        frames = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(film)]
        assert film.info["loop"] == 0
    assert {frame.shape for frame in frames} == {(256, 256, 3)}
    shown = [
        min(range(4), key=lambda i: np.abs(strip[:, 16 * i : 16 * i + 16] - frame[::16, ::16]).sum())
        for frame in frames
    ]
    assert shown in ([0, 1, 2, 3, 3, 2, 1, 0], [0, 1, 2, 3, 2, 1, 0]), "equal frames may be one that stays longer"
    said = refused(2, "sample", str(runs["ddpm"]), "--gif")
    assert "`--gif` needs a walk to show" in said


def test_a_walk_from_a_seed_to_itself_stands_still(runs: dict[str, Path], tmp_path: Path) -> None:
    face = draw(runs["ddpm"], tmp_path / "out", "--seeds", "3")[3]
    draw(runs["ddpm"], tmp_path / "out", "--interpolate", "3", "3", "--frames", "3")
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "interpolate-3-3.png"), np.concatenate([face] * 3, axis=1))


def test_variations_lie_on_the_walks_to_the_seeds_after_the_face(runs: dict[str, Path], tmp_path: Path) -> None:
    faces = draw(runs["ddpm"], tmp_path / "out", "--seeds", "3-7")
    varied = draw(runs["ddpm"], tmp_path / "out", "--vary", "3", "--amount", "0.25", "--n", "4", "--grid")
    assert sorted(varied) == [3, 4, 5, 6, 7]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"variations-3", "variations-3.png"}
    np.testing.assert_array_equal(varied[3], faces[3])
    sheet = pixels(tmp_path / "out" / "variations-3.png")
    np.testing.assert_array_equal(sheet[:96:6, :96:6], faces[3])  # first, six times as large
    np.testing.assert_array_equal(sheet[:96:6, 98:194:6], varied[4])
    for other in range(4, 8):
        draw(runs["ddpm"], tmp_path / "walk", "--interpolate", "3", other, "--frames", "5")
        walk = pixels(tmp_path / "walk" / f"interpolate-3-{other}.png")
        np.testing.assert_array_equal(varied[other], walk[:, 16:32])
    assert_equal(draw(runs["ddpm"], tmp_path / "out", "--vary", "3", "--seeds", "6", "--amount", "0.25"), varied)
    by_default = draw(runs["ddpm"], tmp_path / "out", "--vary", "3")
    assert sorted(by_default) == list(range(3, 12))
    assert len({image.tobytes() for image in by_default.values()}) == 9


@pytest.mark.parametrize("family", FAMILIES)
def test_variations_are_nearer_to_the_face_than_other_faces_are(
    family: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    faces = draw(runs[family], tmp_path / "out", "--seeds", "3-11")
    varied = draw(runs[family], tmp_path / "out", "--vary", "3")
    far, near = (
        np.mean([np.abs(images[seed].astype(int) - faces[3]).mean() for seed in range(4, 12)])
        for images in (faces, varied)
    )
    assert 0 < near < 0.7 * far


def test_variations_hold_in_arrays_what_they_hold_in_files(runs: dict[str, Path], tmp_path: Path) -> None:
    varied = draw(runs["ddim"], tmp_path / "png", "--vary", "3", "--n", "2")
    draw(runs["ddim"], tmp_path / "npz", "--vary", "3", "--n", "2", "--format", "npz")
    with np.load(tmp_path / "npz" / "variations-3.npz") as stored:
        assert stored["seeds"].tolist() == [3, 4, 5]
        np.testing.assert_array_equal(stored["arr_0"], np.stack([varied[seed] for seed in (3, 4, 5)]))


@pytest.mark.parametrize("family", FAMILIES)
def test_strips(family: str, runs: dict[str, Path], tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 24, 3), (250, 10, 10), np.uint8)).save(tmp_path / "red.png")
    words = ["--progress-strip", "--denoise-strip", "--forward-strip", tmp_path / "red.png", "--frames", "4"]
    draw(runs[family], tmp_path / "out", *words)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"progress.png", "denoise.png", "forward.png"}
    forward = pixels(tmp_path / "out" / "forward.png")
    cell = (forward.shape[1] + 2) // 4
    first, last = forward[: cell - 2, : cell - 2], forward[: cell - 2, 3 * cell :]
    assert np.abs(first.astype(int) - (250, 10, 10)).max() <= 2
    assert last.std() > 40
    previews = sorted((runs[family] / "samples").glob("ema-*.png"))
    progress = pixels(tmp_path / "out" / "progress.png")
    newest = np.asarray(Image.open(previews[-1]))[:16, :16].repeat(6, 0).repeat(6, 1)
    np.testing.assert_array_equal(progress[:96, -96:], newest)
    assert (pixels(tmp_path / "out" / "denoise.png") != 255).mean() > 0.5


# ---- labels ---------------------------------------------------------------------------------------------------


def test_labels_and_guidance_change_the_picture(runs: dict[str, Path], tmp_path: Path) -> None:
    def images(*words: str) -> dict[int, np.ndarray]:
        return draw(runs["ddpm"], tmp_path / "out", "--n", "2", *words)

    plain, pink = images(), images("--labels", "hair=pink")
    both = images("--labels", "hair=pink", "--labels", "eyes=blue")
    assert_equal(images("--labels", "hair=pink,eyes=blue"), both)
    guided = images("--labels", "hair=pink", "--guidance", "6")
    unguided = images("--labels", "hair=pink", "--guidance", "0")
    for seed in range(2):
        assert len({group[seed].tobytes() for group in (plain, pink, both, guided)}) == 4
    assert_equal(unguided, plain)
    walk = draw(runs["ddpm"], tmp_path / "out", "--interpolate", "0", "1", "--labels", "hair=pink")
    assert walk == {}
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "interpolate-0-1.png")[:, :16], pink[0])
    varied = draw(runs["ddpm"], tmp_path / "out", "--vary", "0", "--n", "1", "--labels", "hair=pink")
    np.testing.assert_array_equal(varied[0], pink[0])
    assert (varied[1] != draw(runs["ddpm"], tmp_path / "out", "--vary", "0", "--n", "1")[1]).any()


# ---- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words", "message", "hint"),
    [
        (2, ["--n", "4", "--seeds", "0-3"], "exclude each other", "--seeds 0-63"),
        (2, ["--seeds", "3-1"], "no list of seeds", "--seeds 0-63,100"),
        (2, ["--seeds", "a"], "no list of seeds", "--seeds 0-63,100"),
        (2, ["--seeds", "0-99999999999"], "more than 10,000,000 seeds", "several commands"),
        (2, ["--seeds", ""], "no list of seeds", "--seeds 0-63,100"),
        (2, ["--set", "chrun=4"], "no sampling setting `chrun`", "churn"),
        (2, ["--set", "churn"], "has no `=`", "--set s_churn=40"),
        (2, ["--set", "churn=["], "not valid YAML", "quote"),
        (2, ["--set", "churn=much"], "churn", ""),
        (2, ["--sampler", "dimm"], "sampler", ""),
        (2, ["--labels", "hiar=pink"], "no label `hiar`", "did you mean `hair`?"),
        (2, ["--labels", "hair=pinkish"], "no value `pinkish`", "did you mean `pink`?"),
        (2, ["--labels", "skin=tan"], "no label `skin`", "`eyes`"),
        (2, ["--labels", "pink"], "has no `=`", "--labels hair=pink"),
        (2, ["--format", "jpg"], "no format `jpg`", "npz"),
        (2, ["--precision", "fp8"], "no precision `fp8`", "bf16"),
        (2, ["--progress-strip", "--seeds", "4"], "previews hold seeds 0 to 3", "--seeds"),
        (3, ["--forward-strip", "nothing.png"], "cannot read nothing.png", "picture"),
    ],
)  # fmt: skip
def test_refusals(code: int, words: list[str], message: str, hint: str, runs: dict[str, Path], tmp_path: Path) -> None:
    said = refused(code, "sample", runs["ddpm"], "--out", tmp_path / "out", "--device", "cpu", *words)
    assert message in said
    assert hint in said


def test_labels_are_refused_where_they_change_nothing(runs: dict[str, Path], tmp_path: Path) -> None:
    said = refused(2, "sample", runs["ddim"], "--labels", "hair=pink", "--out", tmp_path)
    assert "no label `hair`" in said
    assert "without labels" in said


def test_a_text_file_is_no_picture(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "face.png").write_text("not a picture")
    assert "face.png" in refused(3, "sample", runs["ddim"], "--forward-strip", tmp_path / "face.png", "--out", tmp_path)


def test_runs_that_cannot_draw_yet(runs: dict[str, Path], tmp_path: Path) -> None:
    assert "no run" in refused(3, "sample", cwd=tmp_path)
    young = Path(shutil.copytree(runs["ddim"], tmp_path / "runs" / "00003-young"))
    (young / "weights.safetensors").unlink()
    said = refused(3, "sample", "3", cwd=tmp_path)
    assert "no weights.safetensors yet" in said
    assert "animegen train --resume runs/00003-young" in said
    assert "did you mean `00003-young`" in refused(3, "sample", "00003-yuong", cwd=tmp_path)
    shutil.copy(runs["ddim"] / "weights.safetensors", young)
    shutil.rmtree(young / "samples")
    said = refused(3, "sample", "3", "--progress-strip", cwd=tmp_path)
    assert "no previews" in said
    assert "train.preview_every" in said


def test_damaged_and_foreign_weights(runs: dict[str, Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs["ddim"], tmp_path / "run"))
    content = (run / "weights.safetensors").read_bytes()
    (run / "weights.safetensors").write_bytes(content[:-500])
    assert "damaged" in refused(3, "sample", run)
    tensors, about = checkpoint.load_weights(runs["ddim"] / "weights.safetensors")
    tensors.pop(next(iter(tensors)))
    checkpoint.save_weights(run / "weights.safetensors", tensors, about)
    assert "another animegen" in refused(3, "sample", run)
    from safetensors.torch import save_file

    save_file(tensors, run / "weights.safetensors")
    assert "not written by animegen" in refused(3, "sample", run)


def test_nowhere_to_write(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "--out" in refused(5, "sample", runs["ddim"], "--out", tmp_path / "file" / "inside")


# ---- from Python ----------------------------------------------------------------------------------------------


def test_images_of_a_run(runs: dict[str, Path]) -> None:
    drawn = generate.images(Run(runs["ddpm"]), [5, 2], labels={"hair": "pink"}, overrides={"steps": 3})
    assert (drawn.dtype, tuple(drawn.shape)) == (torch.uint8, (2, 3, 16, 16))
    said: list[int] = []
    alone = generate.images(
        Run(runs["ddpm"]), [2], labels={"hair": "pink"}, overrides={"steps": 3}, on_progress=said.append
    )
    np.testing.assert_array_equal(alone[0].numpy(), drawn[1].numpy())
    assert said == [1]
