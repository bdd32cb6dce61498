"""Files of a run that were changed, cut short or broken: refused with the file named, or harmless; the run goes on."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest
import torch
import yaml
from chain import TINY, assert_same_tensors, done, refused, sets, train_words
from pictures import hint_of
from PIL import Image

from animegen_cli import disk, paths
from animegen_cli.data.dataset import FaceSet
from animegen_cli.errors import DataError
from animegen_cli.metrics.frechet import Moments, load_moments, save_moments
from animegen_cli.model import checkpoint
from animegen_cli.paths import Run
from animegen_cli.report import grids
from animegen_cli.train import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLIPS = 60
T = TypeVar("T")


def changed(data: bytes, *, seed: int) -> Iterator[tuple[int, bytes]]:
    """`FLIPS` copies of some bytes with another value at one random place, and the places."""
    draw = random.Random(seed)
    for _ in range(FLIPS):
        place = draw.randrange(len(data))
        other = bytearray(data)
        other[place] ^= draw.randrange(1, 256)
        yield place, bytes(other)


def complaints(file: Path, read: Callable[[], T], check: Callable[[T], bool], *, seed: int) -> list[str]:
    """What is said of copies of a file with one other byte; of a copy that is taken without a word, `check` must hold."""
    whole = file.read_bytes()
    messages: list[str] = []
    for place, other in changed(whole, seed=seed):
        file.write_bytes(other)
        try:
            found = read()
        except DataError as error:
            messages.append(error.message)
        else:
            assert check(found), place
    file.write_bytes(whole)
    return messages


# ---- single bytes ---------------------------------------------------------------------------------------------


def test_no_changed_byte_of_weights_is_taken_for_weights(tmp_path: Path) -> None:
    tensors = {
        "a.weight": torch.arange(20.0).reshape(4, 5),
        "a.half": torch.ones(3, dtype=torch.bfloat16),
        "n": torch.tensor(7),
    }
    about = {"family": "x", "images": 64, "config": {"lr": 1e-3}}
    file = tmp_path / "weights.safetensors"
    checkpoint.save_weights(file, tensors, about)

    def is_as_saved(read: tuple[dict[str, torch.Tensor], dict[str, Any]]) -> bool:
        assert_same_tensors(read[0], tensors)
        return read[1] == about

    messages = complaints(file, lambda: checkpoint.load_weights(file), is_as_saved, seed=1)
    assert len(messages) > FLIPS * 0.8
    assert all(str(file) in message for message in messages)


def test_no_changed_byte_of_a_state_is_gone_on_from(tmp_path: Path) -> None:
    state = tmp_path / "000000000008"
    checkpoint.save_state(state, {"model": {"w": torch.arange(6.0)}}, {"images": 8, "figures": {"mse": 0.5}})
    parts, about = checkpoint.load_state(state)

    def is_as_saved(read: tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]) -> bool:
        assert_same_tensors(read[0]["model"], parts["model"])
        return read[1] == about

    messages: list[str] = []
    for file in sorted(state.iterdir()):
        messages += complaints(file, lambda: checkpoint.load_state(state), is_as_saved, seed=2)
    assert len(messages) > FLIPS
    assert all(str(state) in message for message in messages)


@pytest.mark.parametrize(
    "files",
    [None, [], {"../model.safetensors": "0"}, {"x" * 300 + ".safetensors": "0"}, {"model.safetensors": 5}],
    ids=["none", "a list", "elsewhere", "a long name", "no checksum"],
)
def test_a_state_whose_sealed_list_of_files_is_none_is_damaged(tmp_path: Path, files: object) -> None:
    state = tmp_path / "state"
    checkpoint.save_state(state, {"model": {"w": torch.arange(6.0)}}, {"images": 8})
    shutil.copy(state / "model.safetensors", tmp_path)
    about = disk.unsealed(json.loads((state / "state.json").read_text()))
    about.pop("files")
    disk.write_json(state / "state.json", about | ({} if files is None else {"files": files}), seal=True)
    with pytest.raises(checkpoint.DamagedState, match=r"the state .* is damaged") as error:
        checkpoint.load_state(state)
    assert str(state) in hint_of(error.value)


def test_no_changed_byte_of_sealed_json_is_believed(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    value = {"state": "finished", "images": 1234, "notes": ["a"], "rate": 0.25}
    disk.write_json(file, value, seal=True)

    def is_as_written(read: dict[str, Any]) -> bool:  # blanks, or the name of the checksum itself
        return {key: read.get(key) for key in value} == value

    messages = complaints(file, lambda: paths.read_json(file, what="run"), is_as_written, seed=3)
    assert len(messages) > FLIPS / 2
    assert all(str(file) in message for message in messages)


def test_a_changed_byte_of_a_log_costs_one_line_at_most() -> None:
    entries = [{"images": 8 * n, "model/mse": n / 7} for n in range(1, 20)]
    text = "".join(map(disk.to_line, entries)).encode()
    lost = 0
    for place, other in changed(text, seed=4):
        found = []
        for line in other.decode(errors="replace").splitlines():
            try:
                entry = disk.from_line(line)
            except ValueError:
                continue
            found.append({key: entry[key] for key in ("images", "model/mse") if key in entry})
        assert all(entry in entries for entry in found), place
        assert len(found) >= len(entries) - 2  # a line end that is gone joins two
        lost += len(found) < len(entries)
    assert lost > FLIPS / 2


# ---- the run goes on ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_to_128(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("half") / "run"
    done(*train_words("ddpm", faces, run, "--keep", 5, duration="128 images"))
    return run


@pytest.fixture
def half(trained_to_128: Path, tmp_path: Path) -> Path:
    """A run of 128 images with states at 64 and 128."""
    return Path(shutil.copytree(trained_to_128, tmp_path / "run"))


@pytest.fixture(scope="module")
def unbroken(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same run, straight to 192 images."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    done(*train_words("ddpm", faces, run, "--keep", 5, duration="192 images"))
    return Run(run)


def break_run_json(run: Run) -> str:
    run.facts.write_text("{", encoding="utf-8")
    return ""


def lose_run_json(run: Run) -> str:
    run.facts.unlink()
    return ""


def break_config(run: Run) -> str:
    run.config.write_text("model: [", encoding="utf-8")
    return "going on with the settings of the state at 128 images"


def break_newest_state(run: Run) -> str:
    file = run.states()[-1] / "ema.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    return "going on from the one before it"


def break_log(run: Run) -> str:
    first, second, *rest = run.log.read_bytes().splitlines(keepends=True)
    run.log.write_bytes(first + second.replace(b"{", b"\xff", 1) + b"".join(rest))
    return f"1 damaged line of {run.log} left out"


@pytest.mark.parametrize("damage", [break_run_json, lose_run_json, break_config, break_newest_state, break_log])
def test_a_broken_file_never_bricks_a_run_whose_states_are_whole(
    half: Path, unbroken: Run, damage: Callable[[Run], str]
) -> None:
    run = Run(half)
    lines = len(run.log.read_text(encoding="utf-8").splitlines())
    warned = damage(run)
    answer = done("train", "--resume", str(half), "--duration", "192 images", "--device", "cpu")
    assert warned in " ".join(answer.err.split())
    assert run.about["images"] == 192
    assert run.state == "finished"
    assert_same_tensors(*(checkpoint.load_weights(one.weights)[0] for one in (run, unbroken)))
    assert len(run.log.read_text(encoding="utf-8").splitlines()) >= lines


def test_settings_that_were_edited_are_held_against_the_state(half: Path) -> None:
    config = half / "config.yaml"
    text = config.read_text(encoding="utf-8")
    rate = next(line for line in text.splitlines() if "lr:" in line)
    config.write_text(text.replace(rate, rate.replace("lr: 0.001", "lr: 0.009")), encoding="utf-8")
    assert "optim.model.lr: 0.001 -> 0.009" in refused(2, "train", "--resume", half, "--duration", "192 images")


# ---- writing --------------------------------------------------------------------------------------------------


def test_files_of_a_run_follow_the_umask(faces: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        done(*train_words("ddpm", faces, tmp_path / "run", duration="8 images"))
    finally:
        os.umask(before)
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file() and file.name != ".lock"]
    assert len(files) > 8
    assert {oct(stat.S_IMODE(file.stat().st_mode)) for file in files} == {oct(0o640)}


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    about = {name: name for name in "hgfedcba"}
    tensors = {name: torch.ones(2) for name in "cab"}
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    checkpoint.save_weights(first, tensors, about)
    checkpoint.save_weights(second, dict(reversed(tensors.items())), about)
    assert first.read_bytes() == second.read_bytes()


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    with disk.replacing(tmp_path / "living") as living:
        living.write_text("half", encoding="utf-8")
        dead = tmp_path / living.name.replace(f"-{os.getpid()}.", f"-{gone.pid}.")
        shutil.copy(living, dead)
        elsewhere = tmp_path / ".run.json.anothernode-7.tmp"
        shutil.copy(living, elsewhere)
        disk.sweep(tmp_path)
        assert sorted(file.name for file in tmp_path.iterdir()) == sorted([living.name, elsewhere.name])
        os.utime(elsewhere, (time.time() - 90_000,) * 2)
        disk.sweep(tmp_path)
        assert not elsewhere.exists()
    assert (tmp_path / "living").read_text(encoding="utf-8") == "half"


# ---- signals before the first step ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_before_the_first_step_ends_with_85(faces: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = ["train", "ddpm", "--preset", "smoke", "--data", str(faces), "--out", "run", *sets(*TINY["ddpm"])]
    with subprocess.Popen(
        [sys.executable, "-m", "animegen_cli", *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "ddpm/smoke" in process.stderr.readline()  # torch is loaded, the data is not
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(60) == 85, said
    assert "type the same command again" in said


# ---- hostile values -------------------------------------------------------------------------------------------

BOMB = "a: &a {x: 1}\n" + "\n".join(
    f"{name}: &{name} {{{', '.join(f'{key}: *{before}' for key in 'qrstuvwx')}}}"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &a [*a]",
        "[" * 50_000,
        "- " * 50_000 + "x",
        "when: 2001-99-99",
        "n: " + "9" * 5000,
        "x" * (disk.MOST_YAML + 1),
    ],
    ids=["aliases", "itself", "flow", "blocks", "month", "digits", "size"],
)
def test_hostile_yaml_is_an_error_at_once(text: str, faces: Path, tmp_path: Path) -> None:
    began = time.process_time()
    with pytest.raises(yaml.YAMLError):
        disk.parse_yaml(text)
    assert time.process_time() - began < 2
    file = tmp_path / "hostile.yaml"
    file.write_text(text, encoding="utf-8")
    assert "hostile.yaml" in refused(2, "train", "ddpm", "--config", file, "--data", faces, "--dry-run")


@pytest.mark.parametrize("name", ["run.json", "eval.json"])
def test_json_nested_without_end_is_named(name: str, trained: Callable[[str], Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("ddpm"), run)
    (run / name).write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(DataError, match="nested too deeply") as caught:
        paths.read_json(run / name, what="run")
    assert name in caught.value.message
    words = ("--n", 8, "--repeats", 1, "--extractor", "faces", "--metrics", "fd")
    assert name in refused(3, "eval", run, *words)


def test_sealed_values_come_back_as_they_were(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, True], "b": {"c": "é"}}
    disk.write_json(tmp_path / "x.json", value, seal=True)
    assert "checksum" in json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert paths.read_json(tmp_path / "x.json", what="x") == value


@pytest.mark.parametrize("name", ["manifest.json", "dataset.json"])
def test_json_nested_without_end_in_a_set_is_named(name: str, faces: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile.zip"
    with zipfile.ZipFile(faces) as whole, zipfile.ZipFile(hostile, "w") as archive:
        for member in whole.namelist():
            archive.writestr(member, "[" * 100_000 if member == name else whole.read(member))
    with pytest.raises(DataError, match="nested too deeply") as caught:
        FaceSet.open(hostile)
    assert name in caught.value.message
    assert "16 x 16" in done("prepare", hostile, "--resolution", 16, "--out", tmp_path / "again.zip").out


def test_a_manifest_that_counts_a_trillion_images_states_no_parts(faces: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile.zip"
    with zipfile.ZipFile(faces) as whole, zipfile.ZipFile(hostile, "w") as archive:
        for member in whole.namelist():
            data = whole.read(member)
            if member == "manifest.json":
                data = json.dumps(json.loads(data) | {"images": 2**40}).encode()
            archive.writestr(member, data)
    began = time.process_time()
    said = done("prepare", hostile, "--resolution", 16, "--workers", 1, "--out", tmp_path / "again.zip").err
    assert "parts of the source" not in said
    assert time.process_time() - began < 5


# ---- sets ---------------------------------------------------------------------------------------------------------


def changed_set(faces: Path, out: Path, change: Callable[[str, bytes], Iterator[tuple[str, bytes]]]) -> Path:
    """The set as another program packs it, with other members."""
    with zipfile.ZipFile(faces) as whole, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in whole.namelist():
            for name, data in change(member, whole.read(member)):
                archive.writestr(name, data)
    return out


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("twice", ["00000/img00000003.png", "dataset.json"])
def test_a_set_with_one_name_twice_is_refused(twice: str, faces: Path, tmp_path: Path) -> None:
    def change(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
        yield from [(name, data)] * (1 + (name == twice))

    hostile = changed_set(faces, tmp_path / "hostile.zip", change)
    with pytest.raises(DataError, match=f"two files named {twice}"):
        FaceSet.open(hostile)


@pytest.mark.parametrize("name", ["manifest.json", "dataset.json"])
def test_a_manifest_of_blanks_or_of_millions_of_values_is_refused(name: str, faces: Path, tmp_path: Path) -> None:
    for number, text in enumerate((b" " * (2**25 + 2**20), b"[" + b"[]," * 2**22 + b"0]")):

        def change(member: str, data: bytes, text: bytes = text) -> Iterator[tuple[str, bytes]]:
            yield member, text if member == name else data

        hostile = changed_set(faces, tmp_path / f"{number}.zip", change)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(DataError, match=r"larger than|more than") as caught:
            FaceSet.open(hostile)
        assert name in caught.value.message
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 2**17  # 128 MB


@pytest.mark.parametrize(
    "wrong",
    [
        {"sha256": 5}, {"attributes": 5}, {"attributes": {"a": 5}}, {"test": {}}, {"test": [10**30]}, {"test": [-1]},
        {"test": [True]}, {"domains": ["anime", "anime"]}, {"names": "x"}, {"version": 10**400}, {"version": "2"},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_a_manifest_of_wrong_values_is_refused(wrong: dict[str, object], faces: Path, tmp_path: Path) -> None:
    def change(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
        yield name, json.dumps(json.loads(data) | wrong).encode() if name == "manifest.json" else data

    hostile = changed_set(faces, tmp_path / "hostile.zip", change)
    assert "hostile.zip" in refused(3, *train_words("ddpm", hostile, tmp_path / "run", "--dry-run"))


@pytest.mark.parametrize("label", [2**40, 10**30, -1, 1.5, "x", [[1]], None, {}])
def test_labels_that_are_none_are_refused(label: object, faces: Path, tmp_path: Path) -> None:
    def change(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
        if name == "dataset.json":
            data = json.dumps({"labels": [[name, label] for name, _ in json.loads(data)["labels"]]}).encode()
        if name != "manifest.json":
            yield name, data

    hostile = changed_set(faces, tmp_path / "hostile.zip", change)
    assert "dataset.json" in refused(3, *train_words("ddpm", hostile, tmp_path / "run", "--dry-run"))
    assert "dataset.json" in refused(3, "prepare", hostile, "--workers", 1, "--out", tmp_path / "again.zip")


# ---- pictures, moments and settings ---------------------------------------------------------------------------------


def test_a_changed_byte_of_a_png_is_noticed(tmp_path: Path) -> None:
    file = grids.save(Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)), tmp_path / "x.png")
    whole = file.read_bytes()
    disk.check_png(whole)
    for place, other in changed(whole[8:], seed=5):
        with pytest.raises(ValueError, match="checksum"):
            disk.check_png(whole[:8] + other)
        assert place >= 0


def test_no_changed_byte_of_moments_is_believed(tmp_path: Path) -> None:
    file = tmp_path / "moments.npz"
    stats = Moments(torch.arange(3.0).double(), torch.eye(3).double(), 96, "{}")
    save_moments(file, stats)
    whole, noticed = file.read_bytes(), 0
    for place, other in changed(whole, seed=6):
        file.write_bytes(other)
        try:
            found = load_moments(file)
        except DataError as error:
            noticed += str(file) in error.message
        else:  # a date, or another field that says nothing
            assert torch.equal(found.mean, stats.mean), place
            assert torch.equal(found.covariance, stats.covariance), place
            assert (found.count, found.protocol) == (96, "{}"), place
    assert noticed > FLIPS / 2


def test_a_config_that_was_edited_is_said_by_whoever_reads_it(
    faces: Path, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("ddpm"), run)
    config = run / "config.yaml"
    config.write_text("# a remark\n" + config.read_text(encoding="utf-8"), encoding="utf-8")
    assert "config.yaml" not in done("compare", run, "--no-images", "--out", tmp_path / "whole").err
    config.write_text(config.read_text(encoding="utf-8").replace("lr: 0.001", "lr: 0.009"), encoding="utf-8")
    said = done("compare", run, "--no-images", "--out", tmp_path / "edited")
    assert "its settings are not those that the training wrote" in " ".join((said.out + said.err).split())
    said = done("train", "--config", config, "--data", faces, "--dry-run")
    assert "config.yaml was edited" in " ".join(said.err.split())


def test_a_log_that_grows_too_large_goes_on_with_half_of_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MOST_BYTES", 4000)
    file = tmp_path / "log.jsonl"
    curve = log.Log(file, images=0)
    for number in range(1, 401):
        curve.write({"images": 8 * number, "step": number, "lr": {"model": 1e-3}, "model/mse": 1 / number})
        assert file.stat().st_size <= 4000
    curve.write({"images": 3200, "step": 400, "findings": ["blank"]})
    curve.close("finished")
    entries = [disk.from_line(line) for line in file.read_text(encoding="utf-8").splitlines()]
    images = [entry["images"] for entry in entries]
    assert images == sorted(images)
    assert images[0] < 800  # the whole training is still there
    assert images[-1] == 3200
    assert len(entries) > 15
    assert entries[-1]["findings"] == ["blank"]
    assert all(entry["model/mse"] == 1 / entry["step"] for entry in entries[:-1])
