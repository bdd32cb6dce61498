"""What a training command promises besides exact resume: folders, refusals, damage, divergence, full disks, files."""

from __future__ import annotations

import fcntl
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from chain import (
    ROOT,
    assert_same_tensors,
    done,
    here,
    inside,
    log_of,
    newest,
    on_terminal,
    refused,
    sets,
    start,
    train_words,
    wait_until,
)  # fmt: skip
from PIL import Image

from animegen_cli import disk
from animegen_cli.model import checkpoint
from animegen_cli.paths import Run
from animegen_cli.prepare import prepare
from animegen_cli.prepare.request import Options, Request
from animegen_cli.report import grids

ABILITIES = {"samples", "corrupts", "validates", "denoises", "translates", "inpaints", "exports"}
"""What the family `ddim` can do."""


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 128 images; tests copy it before they harm it."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    settings = sets("train.validate.images=12", "train.validate.every=64 images", "train.preview_every=64 images")
    done(*train_words("ddim", faces, run, *settings, duration="128 images"))
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def again(run: Path, *more: object) -> list[str]:
    """Go on with a run by its own config."""
    return ["train", "--resume", str(run), "--device", "cpu", *map(str, more)]


# ---- what it leaves -------------------------------------------------------------------------------------------


def test_the_folder_says_what_was_trained_on_what(trained: Path, faces: Path) -> None:
    about = Run(trained).about
    assert (about["family"], about["preset"], about["state"]) == ("ddim", "smoke", "finished")
    assert (about["images"], about["target_images"], about["steps"]) == (128, 128, 16)
    assert set(about["abilities"]) == ABILITIES
    assert 77 <= about["data"]["count"] < 96, "four fifths of the set, by the hash of each picture"
    assert (about["data"]["size"], about["data"]["scaled_from"]) == (16, 16)
    assert about["versions"]["torch"] == torch.__version__
    assert about["hardware"]["cores"] >= 1
    assert about["resolved"]["parts"] == 1
    assert about["parameters"] == {"net": sum(t.numel() for t in _parameters(trained).values())}
    assert about["seconds"] > 0
    assert 0 < about["processor_seconds"] < 1.5 * about["seconds"] * about["hardware"]["cores"] + 0.1
    assert about["flops_per_image"] > 3 * 2 * about["parameters"]["net"]
    assert about["peak_memory"] > 50e6


def _parameters(run: Path) -> dict[str, torch.Tensor]:
    tensors, _ = checkpoint.load_weights(Run(run).weights)
    return {name: tensor for name, tensor in tensors.items() if not re.search(r"running|num_batches", name)}


def test_the_log_has_losses_rates_and_held_out_figures(trained: Path) -> None:
    lines = log_of(trained)
    losses = [line for line in lines if "validation" not in line]
    assert [line["images"] for line in losses] == [24, 48, 72, 96, 120, 128]
    for line in losses:
        assert line["step"] * 8 == line["images"]
        assert line["lr"] == {"model": 2e-3}
        assert 0 < line["model/noise_loss"] < 2
        assert 0 < line["model/image_loss"] < 2
        assert line["model/grad_norm"] > 0
        assert line["images_per_second"] > 0
    held_out = [line for line in lines if "validation" in line]
    assert [line["images"] for line in held_out] == [64, 128]
    assert all(set(line["validation"]) == {"noise_loss", "image_loss"} for line in held_out)


def test_previews_show_the_same_seeds_raw_and_averaged(trained: Path, faces: Path) -> None:
    names = {path.name for path in (trained / "samples").iterdir()}
    steps = [f"{64:012d}", f"{128:012d}"]
    assert names == {"reals.png"} | {f"{kind}-{step}.png" for kind in ("raw", "ema") for step in steps}
    pictures = {name: np.asarray(Image.open(trained / "samples" / name)) for name in names}
    assert {picture.shape for picture in pictures.values()} == {(34, 34, 3)}
    raw, ema = pictures[f"raw-{steps[1]}.png"], pictures[f"ema-{steps[1]}.png"]
    assert (raw != ema).any()
    assert (pictures[f"ema-{steps[0]}.png"] != ema).any()


def test_weights_describe_themselves(trained: Path) -> None:
    tensors, about = checkpoint.load_weights(Run(trained).weights)
    assert (about["family"], about["preset"], about["images"]) == ("ddim", "smoke", 128)
    assert about["config"]["model"]["widths"] == [8, 16]
    assert about["data"]["size"] == 16
    assert len(about["data"]["attributes"]["hair"]) == 12
    assert set(about["abilities"]) == ABILITIES
    ema = checkpoint.load_state(Run(trained).states()[-1])[0]["ema"]
    assert_same_tensors(tensors, ema)
    raw = checkpoint.load_state(Run(trained).states()[-1])[0]["method"]
    assert any(not torch.equal(raw[name], ema[name]) for name in ema)


def test_its_config_runs_again_as_it_is(trained: Path, tmp_path: Path) -> None:
    done("train", "--config", trained / "config.yaml", "--out", tmp_path / "same", "--device", "cpu")
    ours, theirs = (checkpoint.load_state(Run(path).states()[-1])[0] for path in (trained, tmp_path / "same"))
    for part in ours:
        assert_same_tensors(ours[part], theirs[part])
    same = [yaml.safe_load((path / "config.yaml").read_text()) for path in (trained, tmp_path / "same")]
    assert same[0] == same[1]


def test_another_seed_is_another_run(trained: Path, tmp_path: Path) -> None:
    done("train", "--config", trained / "config.yaml", "--out", tmp_path / "other", "--seed", "1", "--device", "cpu")
    ours, theirs = (checkpoint.load_weights(Run(path).weights)[0] for path in (trained, tmp_path / "other"))
    assert all(not torch.equal(ours[name], theirs[name]) for name in ours if name.endswith("conv1.weight"))


def test_the_states_kept_are_the_newest_and_the_best(faces: Path, tmp_path: Path) -> None:
    settings = sets("train.validate.images=12", "train.validate.every=8 images", "optim.model.lr=0.05")
    settings += ["--save-every", "8 images", "--keep", "2"]
    done(*train_words("ddim", faces, tmp_path / "run", *settings, duration="160 images"))
    figures = {
        line["images"]: line["validation"]["noise_loss"] for line in log_of(tmp_path / "run") if "validation" in line
    }
    best = min(figures, key=lambda images: (figures[images], images))
    kept = [int(path.name) for path in Run(tmp_path / "run").states()]
    assert kept == sorted({best, 152, 160})


def test_nothing_to_train_is_an_untrained_baseline(faces: Path, tmp_path: Path) -> None:
    done(*train_words("ddim", faces, tmp_path / "run", duration="0 images"))
    _, about = checkpoint.load_weights(Run(tmp_path / "run").weights)
    assert about["images"] == 0
    assert (tmp_path / "run" / "samples" / f"ema-{0:012d}.png").is_file()


# ---- dry run --------------------------------------------------------------------------------------------------


def test_dry_run_prints_a_plan_and_trains_nothing(faces: Path, tmp_path: Path) -> None:
    words = train_words("ddim", faces, tmp_path / "run", "--dry-run", duration="2 epochs")
    text = done(*words, cwd=tmp_path).out
    for word in ("parameters", "net 10,011", "training", "images", "steps of 8", "memory", "GiB", "expected time"):
        assert word in text
    assert "measured over" in text
    plan = json.loads(done(*words, "--json", cwd=tmp_path).out)
    assert plan["images"] == 2 * plan["data"]["images"]
    assert plan["steps"] == -(-plan["images"] // 8)
    assert plan["config"]["model"]["widths"] == [8, 16]
    assert plan["memory_bytes"] > 16 * 10_011
    assert 0 < plan["expected_seconds"] < 120
    assert list(tmp_path.iterdir()) == []


def test_dry_run_does_not_measure_what_may_not_fit(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from animegen_cli.train import plan as planning

    monkeypatch.setattr(planning, "free_memory", lambda _: 2_000_000)
    words = train_words("ddim", faces, tmp_path / "run", "--dry-run", "--json", "--batch-gpu", "8")
    plan = json.loads(done(*words).out)
    assert plan["memory_bytes"] > 1_000_000
    assert "arithmetic" in plan["time_from"]


# ---- which folder ---------------------------------------------------------------------------------------------


def test_numbered_folders_and_going_on(faces: Path, tmp_path: Path) -> None:
    def words(*more: str) -> list[str]:
        given = train_words("ddim", faces, tmp_path / "unused", *more, duration="64 images")
        at = given.index("--out")
        return given[:at] + given[at + 2 :]

    def folders() -> list[str]:
        return sorted(path.name for path in (tmp_path / "runs").iterdir())

    done(*words(), cwd=tmp_path)
    assert folders() == ["00000-ddim-smoke-faces"]
    first = tmp_path / "runs" / folders()[0]
    done(*words(), cwd=tmp_path)  # the first is finished
    assert folders()[1:] == ["00001-ddim-smoke-faces"]
    about = disk.unsealed(json.loads((first / "run.json").read_text()))
    (first / "run.json").write_text(json.dumps(about | {"state": "running"}))  # as a kill leaves it
    said = done(*words(), cwd=tmp_path).err
    assert "continuing runs/00000-ddim-smoke-faces" in said
    assert len(folders()) == 2
    shutil.rmtree(first / "resume")  # killed before its first state, it begins anew in its folder
    (first / "run.json").write_text(json.dumps(about | {"state": "running"}))
    assert "continuing" in done(*words(), cwd=tmp_path).err
    assert len(folders()) == 2
    assert newest(first) == 64
    (first / "run.json").write_text(json.dumps(about | {"state": "running"}))
    assert "continuing" not in done(*words("--batch", "16"), cwd=tmp_path).err  # other settings
    assert len(folders()) == 3
    assert "continuing" not in done(*words("--resume", "none"), cwd=tmp_path).err
    assert len(folders()) == 4
    with (first / ".lock").open("a") as lock:  # someone else trains there
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "continuing" not in done(*words(), cwd=tmp_path).err
    assert len(folders()) == 5


def test_defaults_are_said(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    shutil.copy(faces, tmp_path / "datasets" / "some.zip")
    words = ["train", "ddim", "--dry-run", *sets("model.widths=[8,16]", "train.batch=4")]
    said = done(*words, cwd=tmp_path).err
    assert "preset: laptop" in said, "this runs on a CPU"
    assert "data: datasets/some.zip" in said
    others = ["train", "gan", "--dry-run", *sets("model.width=8", "model.critic_width=8")]
    assert "preset: fast" in done(*others, cwd=tmp_path).err, "it has no recipe for a laptop"


def test_a_training_says_first_how_long_it_takes(faces: Path, tmp_path: Path) -> None:
    said = done(*train_words("ddim", faces, tmp_path / "run", duration="16 images")).err
    assert re.search(r"training: 16 images, at least [\d.]+ s on this cpu", said)
    assert said.index("training: 16 images") < said.index("run: ")


def test_progress_shows_two_losses_with_the_names_of_their_phases(faces: Path, tmp_path: Path) -> None:
    log = sets("train.log_every=1 steps")
    said = done(*train_words("gan", faces, tmp_path / "gan", *log, duration="32 images")).err
    assert re.search(r"gan: \d+% \d+ images, [\d.e+]+/s  G loss [\d.]+  D loss [\d.]+$", said, re.MULTILINE)
    said = done(*train_words("ddim", faces, tmp_path / "ddim", *log, duration="32 images")).err
    assert re.search(r"ddim: \d+% \d+ images, [\d.e+]+/s  mae [\d.]+  noise_loss [\d.]+$", said, re.MULTILINE)


def test_days_of_training_are_announced_and_asked_for(faces: Path, tmp_path: Path) -> None:
    words = train_words("ddim", faces, tmp_path / "run", duration="900000M images")
    line = [sys.executable, "-m", "animegen_cli", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "dumb"}
    code, said = on_terminal(line, env=environment, typed="n\n", stdout=subprocess.DEVNULL)
    assert code == 2
    assert "900,000,000,000 images, at least" in said
    assert " days on this cpu" in said
    assert "nothing was begun" in said
    assert not (tmp_path / "run").exists()


def test_a_full_folder_is_never_trained_into(faces: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("...")
    assert "is not empty" in refused(2, *train_words("ddim", faces, tmp_path / "thesis"))
    assert "is not empty" in refused(2, *train_words("ddim", faces, trained, "--resume", "none"))
    assert sorted(path.name for path in (tmp_path / "thesis").iterdir()) == ["chapter1.tex"]


def test_a_file_is_no_folder(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "--out" in refused(5, *train_words("ddim", faces, tmp_path / "file"))


@pytest.mark.slow
def test_two_processes_on_one_folder(faces: Path, tmp_path: Path) -> None:
    words = train_words("ddim", faces, tmp_path / "run", duration="1M images")
    first = start(*words)
    try:
        wait_until(lambda: bool(log_of(tmp_path / "run")), of=first)
        second = start(*words)
        said = second.communicate(timeout=120)[1]
        assert second.returncode == 3
        assert f"process {first.pid}" in said
        assert "--out" in said
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()


# ---- what may change on resume --------------------------------------------------------------------------------


def test_changed_settings_are_listed_and_refused(run: Path) -> None:
    before = (run / "config.yaml").read_bytes()
    said = refused(2, *again(run, "--batch", "16", *sets("model.widths=[8,24]", "optim.model.lr=0.1")))
    assert "train.batch: 8 -> 16" in said
    assert "model.widths: [8, 16] -> [8, 24]" in said
    assert "optim.model.lr: 0.002 -> 0.1" in said
    assert "--resume none" in said
    assert (run / "config.yaml").read_bytes() == before


def test_time_and_intervals_may_change(run: Path) -> None:
    settings = sets("train.log_every=1 steps", "train.preview_every=16 images", "train.workers=1")
    said = done(*again(run, "--duration", "160 images", "--save-every", "16 images", "--keep", "1", *settings)).err
    assert "going on at 128 images" in said
    assert newest(run) == 160
    assert [line["step"] for line in log_of(run) if "validation" not in line][-4:] == [17, 18, 19, 20]


def test_going_on_by_name(run: Path, tmp_path: Path) -> None:
    said = refused(2, *again(run, "--out", tmp_path / "elsewhere"))
    assert "--init-from" in said
    assert "is a ddim run, not ddpm" in refused(2, "train", "ddpm", "--resume", run)
    done("train", "ddim", "--resume", run, "--out", run, "--duration", "136 images", "--device", "cpu")
    assert newest(run) == 136


def test_the_end_may_not_move_where_the_rate_falls_towards_it(faces: Path, tmp_path: Path) -> None:
    words = train_words("ddim", faces, tmp_path / "run", *sets("optim.model.schedule=cosine"), duration="64 images")
    done(*words)
    said = refused(2, *words, "--duration", "128 images")
    assert "train.duration: 64 images -> 128 images" in said


def test_other_pictures_are_refused(run: Path, tmp_path: Path) -> None:
    prepare.prepare(Request(["demo"], tmp_path / "others.zip", Options(size=16, limit=40, seed=5, workers=1)))
    said = refused(2, *again(run, "--data", tmp_path / "others.zip", "--duration", "160 images"))
    assert "other pictures" in said


def test_the_same_pictures_elsewhere_are_fine(run: Path, faces: Path, tmp_path: Path) -> None:
    shutil.copy(faces, tmp_path / "moved.zip")
    done(*again(run, "--data", tmp_path / "moved.zip", "--duration", "136 images"))
    assert newest(run) == 136


# ---- damage ---------------------------------------------------------------------------------------------------


def flip(file: Path, place: float) -> None:
    """Change one byte, `place` of the way through the file."""
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "place"),
    [("method.safetensors", 0.02), ("ema.safetensors", 0.5), ("optim-model.safetensors", 0.97), ("state.json", 0.5)],
)
def test_the_state_before_a_damaged_one_serves(run: Path, trained: Path, name: str, place: float) -> None:
    state = Run(run).states()[-1]
    flip(state / name, place)
    said = done(*again(run)).err
    assert f"the state {state} is damaged" in said
    assert "going on at 64 images" in said
    ours, theirs = (checkpoint.load_state(Run(path).states()[-1])[0] for path in (run, trained))
    for part in ours:
        assert_same_tensors(ours[part], theirs[part])


def test_without_a_whole_state_nothing_is_trained_over(run: Path) -> None:
    states = Run(run).states()
    for state in states:
        (state / "ema.safetensors").unlink()
    said = refused(3, *again(run, "--duration", "160 images"))
    assert f"delete {states[-1]}" in said
    assert Run(run).states() == states


def test_a_state_of_another_version(run: Path) -> None:
    state = Run(run).states()[-1]
    parts, about = checkpoint.load_state(state)
    for key in ("files", "version", "animegen"):
        about.pop(key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "STATE_VERSION", 99)
        patch.setattr(checkpoint, "__version__", "7.0")
        checkpoint.save_state(state, parts, about)
    said = refused(3, *again(run, "--duration", "160 images"))
    assert "version 99" in said
    assert "--init-from" in said


def test_another_runs_damage_stops_nobody(run: Path, faces: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    whole = Path(shutil.copytree(run, tmp_path / "runs" / "00000-whole"))
    broken = Path(shutil.copytree(run, tmp_path / "runs" / "00001-broken"))
    (broken / "run.json").write_text("")
    assert "00000-whole" in done("sample", "--n", "1", "--device", "cpu", cwd=tmp_path).err
    words = ["train", "--config", run / "config.yaml", "--duration", "8 images", "--device", "cpu"]
    done(*words, cwd=tmp_path)
    assert (tmp_path / "runs" / "00002-ddim-smoke-faces").is_dir()
    assert "run.json" in refused(3, "sample", "1", cwd=tmp_path)
    assert len(list(whole.glob("drawn/seeds/*.png"))) == 1


# ---- not finite -----------------------------------------------------------------------------------------------


def test_divergence_keeps_the_last_good_state(run: Path) -> None:
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("lr: 0.002", "lr: 1.0e+30"))
    parts, about = checkpoint.load_state(Run(run).states()[-1])  # else the edit is noticed
    about["config"]["optim"]["model"]["lr"] = 1e30
    checkpoint.save_state(
        Run(run).states()[-1], parts, {key: about[key] for key in about.keys() - {"files", "version", "animegen"}}
    )
    said = refused(4, *again(run, "--duration", "256 images"))
    assert "not finite" in said
    assert re.search(r"step 1[6-9]\b", said)  # the first update at this rate already breaks the next loss
    assert "optim.model.lr" in said
    assert newest(run) == 128
    parts, _ = checkpoint.load_state(Run(run).states()[-1])
    assert all(torch.isfinite(tensor).all() for part in parts.values() for tensor in part.values())
    weights, _ = checkpoint.load_weights(Run(run).weights)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert Run(run).about["state"] == "diverged"


# ---- full disks -----------------------------------------------------------------------------------------------


def limited(words: list[str], limit: int) -> tuple[int, str]:
    """Run where no file may grow beyond `limit` bytes; exit code and what was said."""
    process = start(*words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    said = process.communicate(timeout=120)[1]
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of file size work otherwise elsewhere")
def test_no_room_for_a_state(run: Path) -> None:
    before = {file: file.read_bytes() for file in (run / "resume").rglob("*") if file.is_file()}
    largest = max(len(content) for content in before.values())
    code, said = limited(again(run, "--duration", "256 images"), largest - 1000)
    assert code == 5, said
    assert "Traceback" not in said
    assert "free some space" in said
    assert {file: file.read_bytes() for file in (run / "resume").rglob("*") if file.is_file()} == before
    checkpoint.load_weights(Run(run).weights)
    done(*again(run, "--duration", "256 images"))
    assert newest(run) == 256


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of file size work otherwise elsewhere")
def test_no_room_for_the_log(run: Path) -> None:
    code, said = limited(again(run, "--duration", "100k images", *sets("train.log_every=1 steps")), 30_000)
    assert code == 5, said
    assert "Traceback" not in said
    assert newest(run) == 128


# ---- words that do not fit the data ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "key"), [("ddim", "model.widths=[8,8,8,8,8,8]"), ("ddpm", "model.multipliers=[1,1,1,1,1,1]")]
)
def test_a_size_that_cannot_be_halved(family: str, key: str, faces: Path, tmp_path: Path) -> None:
    said = refused(2, *train_words(family, faces, tmp_path / "run", *sets(key)))
    assert "16 pixels cannot be halved 5 times" in said
    assert "multiple of 32" in said
    assert not (tmp_path / "run").exists()


def test_a_label_that_does_not_exist(faces: Path, tmp_path: Path) -> None:
    said = refused(2, *train_words("ddpm", faces, tmp_path / "run", *sets("model.labels=[hiar]")))
    assert "`hiar`" in said
    assert "did you mean `hair`?" in said
    assert not (tmp_path / "run").exists()


def test_a_set_that_is_too_small(faces: Path, tmp_path: Path) -> None:
    said = refused(3, *train_words("ddim", faces, tmp_path / "run", *sets("size=32")))
    assert "animegen prepare" in said
    assert not (tmp_path / "run").exists()


def test_a_larger_set_is_scaled_down(faces: Path, tmp_path: Path) -> None:
    said = done(*train_words("ddim", faces, tmp_path / "run", *sets("size=8"), duration="8 images")).err
    assert "scaled down" in said
    about = Run(tmp_path / "run").about
    assert (about["data"]["size"], about["data"]["scaled_from"]) == (8, 16)
    sheet = Image.open(tmp_path / "run" / "samples" / f"ema-{8:012d}.png")
    assert grids.tile(sheet, 0, 8, count=4).shape == (8, 8, 3)


def test_mistyped_words(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert "did you mean `ddim`" in refused(2, *["train", "dimm", "--data", faces, "--out", out])
    assert "did you mean `smoke`" in refused(2, *["train", "ddim", "-p", "smok", "--data", faces, "--out", out])
    assert "no device `gpu`" in refused(2, *train_words("ddim", faces, out), "--device", "gpu")
    assert "cannot compute on `meta`" in refused(5, *train_words("ddim", faces, out), "--device", "meta")
    assert "model.widths" in refused(2, *train_words("ddim", faces, out, *sets("model.widths=[]")))
    assert "model.multipliers" in refused(2, *train_words("ddpm", faces, out, *sets("model.multipliers=[]")))
    assert "no run" in refused(3, "train", "--resume", tmp_path / "nothing")
    assert "no data set" in refused(3, *train_words("ddim", tmp_path / "nothing.zip", out))
    assert not out.exists()


def test_a_set_cut_short(faces: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.zip"
    half.write_bytes(faces.read_bytes()[: faces.stat().st_size // 2])
    assert "cut short" in refused(3, *train_words("ddim", half, tmp_path / "run"))


# ---- starting from other weights ------------------------------------------------------------------------------


def test_init_from_takes_what_fits(trained: Path, faces: Path, tmp_path: Path) -> None:
    words = train_words("ddim", faces, tmp_path / "run", "--init-from", trained, duration="0 images")
    assert "started from" in done(*words).err
    ours, theirs = (checkpoint.load_weights(Run(path).weights)[0] for path in (tmp_path / "run", trained))
    assert_same_tensors(ours, theirs)
    deeper = train_words("ddim", faces, tmp_path / "deep", "--init-from", trained / "weights.safetensors",
                         *sets("model.depth=2"), duration="0 images")  # fmt: skip
    assert re.search(r"started from \d+ of \d+ tensors", done(*deeper).err)
    wider = train_words("ddpm", faces, tmp_path / "ddpm", "--init-from", trained)
    assert "no tensor of" in refused(3, *wider)


def test_results_go_to_one_stream_and_words_to_the_other(faces: Path, tmp_path: Path) -> None:
    with inside(tmp_path):
        answer = here(*train_words("ddim", faces, Path("run"), "--json", duration="16 images"))
    assert json.loads(answer.out)["images"] == 16
    assert "finished" in answer.err
    quiet = here(*train_words("ddim", faces, tmp_path / "other", "--quiet", duration="16 images"))
    assert (quiet.out, quiet.err) == (f"{tmp_path / 'other'}\n", "")
