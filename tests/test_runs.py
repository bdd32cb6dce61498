"""`animegen runs`, `doctor` and `completion`: what a person has, without loading a network."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING

import pytest
import tiny_runs
from chain import ROOT, done, here, refused

from animegen_cli import __version__, disk, paths
from animegen_cli.cli.completion import BASH, FISH, ZSH
from animegen_cli.paths import Run
from animegen_cli.train.lock import lock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a finished run, a killed one and a damaged one under runs/."""
    tiny_runs.make("vae", tmp_path / "runs" / "00000-vae", target_images=640)
    killed = tiny_runs.make("gan", tmp_path / "runs" / "00001-gan", state="running", target_images=1000)
    (killed.resume / "000000000640").mkdir(parents=True)
    (killed.resume / "000000000640" / "method.safetensors").write_bytes(b"x" * 3_000_000)
    damaged = tmp_path / "runs" / "00002-broken"
    damaged.mkdir()
    (damaged / "run.json").write_text('{"images": -3}')
    for age, name in enumerate(("00002-broken", "00001-gan", "00000-vae")):
        file = tmp_path / "runs" / name / "run.json"
        moment = file.stat().st_mtime - 3600 * age
        os.utime(file, (moment, moment))
    return tmp_path


def test_runs_are_listed_with_state_progress_and_size(place: Path) -> None:
    vae, gan, broken = json.loads(done("runs", "list", "--json", cwd=place).out)
    assert (vae["name"], vae["state"], vae["progress"]) == ("00000-vae", "finished", "640")
    assert (gan["state"], gan["progress"]) == ("killed", "640 of 1k"), (
        "it says that it is running, and no process is there"
    )
    assert gan["bytes"] > 3_000_000 > vae["bytes"]
    assert broken["state"] == "damaged"
    assert (broken["age"][-1], gan["age"][:3], vae["age"]) == ("s", "60 ", "2 h")
    lines = done("runs", "list", cwd=place).out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["00000-vae", "00001-gan", "00002-broken"]


def test_a_run_that_is_being_trained_is_running_and_not_removed(place: Path) -> None:
    with lock(Run(place / "runs" / "00001-gan")):
        _, gan, _ = json.loads(done("runs", "list", "--json", cwd=place).out)
        assert gan["state"] == "running"
        assert "is being trained" in refused(2, "runs", "rm", "1", "--yes", cwd=place)
    assert (place / "runs" / "00001-gan" / "run.json").is_file()


def test_one_run_is_shown_with_what_to_type_next(place: Path) -> None:
    shown = here("runs", "show", "1", cwd=place)
    assert "gan/smoke" in shown.out
    assert "animegen train --resume" in shown.err
    assert "animegen sample" in here("runs", "show", "0", cwd=place).err


def test_space_is_counted_by_kind_largest_first(place: Path) -> None:
    found = json.loads(done("runs", "du", "--json", cwd=place).out)
    assert [one["name"] for one in found] == ["00001-gan", "00000-vae", "00002-broken", "all"]
    assert found[0]["states"] == 3_000_000
    assert found[1]["weights"] == (place / "runs" / "00000-vae" / "weights.safetensors").stat().st_size
    assert found[-1]["all"] == sum(one["all"] for one in found[:-1])


@pytest.fixture
def swept(place: Path) -> Path:
    """The same, with a sweep that was trained with `--out runs/sweep` and another run of one of its names."""
    for name in ("sweep/lr=1e-4", "sweep/lr=2e-4", "other/lr=1e-4"):
        tiny_runs.make("vae", place / "runs" / name, target_images=640)
    return place


def test_the_runs_of_a_sweep_are_listed_counted_and_shown_by_its_folder(swept: Path) -> None:
    names = {one["name"] for one in json.loads(done("runs", "list", "--json", cwd=swept).out)}
    assert names == {"00000-vae", "00001-gan", "00002-broken", "sweep/lr=1e-4", "sweep/lr=2e-4", "other/lr=1e-4"}
    assert "sweep/lr=2e-4" in done("runs", "list", cwd=swept).out
    assert "sweep/lr=2e-4" in {one["name"] for one in json.loads(done("runs", "du", "--json", cwd=swept).out)}
    for name in ("sweep/lr=2e-4", "lr=2e-4", "runs/sweep/lr=2e-4"):
        assert "runs/sweep/lr=2e-4" in done("runs", "show", name, cwd=swept).out
    assert "`other/lr=1e-4`, `sweep/lr=1e-4`" in refused(3, "runs", "show", "lr=1e-4", cwd=swept)
    assert "a sweep of 2 runs" in refused(3, "runs", "show", "sweep", cwd=swept)


@pytest.mark.parametrize("name", ["sweep", "runs/sweep"])
def test_a_sweep_is_removed_by_its_folder(name: str, swept: Path) -> None:
    assert "--yes" in refused(2, "runs", "rm", name, cwd=swept)
    done("runs", "rm", name, "--yes", cwd=swept)
    assert not (swept / "runs" / "sweep").exists()
    assert (swept / "runs" / "other" / "lr=1e-4" / "run.json").is_file()
    assert (swept / "runs" / "00000-vae").is_dir()
    refused(3, "runs", "rm", "runs", "--yes", cwd=swept)
    assert (swept / "runs" / "00000-vae").is_dir(), "the folder of all runs is no sweep"


def test_removing_a_run_elsewhere_leaves_its_folder(swept: Path) -> None:
    tiny_runs.make("vae", swept / "elsewhere" / "a" / "run", target_images=640)
    done("runs", "rm", "elsewhere/a/run", "--yes", cwd=swept)
    assert (swept / "elsewhere" / "a").is_dir()


def test_removing_asks_and_yes_answers(place: Path) -> None:
    assert "--yes" in refused(2, "runs", "rm", "0", cwd=place)
    assert (place / "runs" / "00000-vae").is_dir()
    done("runs", "rm", "0", "2", "--yes", cwd=place)
    assert [path.name for path in (place / "runs").iterdir()] == ["00001-gan"]
    assert "no run `7`" in refused(3, "runs", "rm", "7", "--yes", cwd=place)


def test_states_go_alone_and_only_from_what_is_finished(place: Path) -> None:
    run = place / "runs" / "00000-vae"
    (run / "resume" / "000000000640").mkdir(parents=True)
    (run / "resume" / "000000000640" / "state.json").write_text("{}")
    about = disk.unsealed(json.loads((run / "run.json").read_text()))
    (run / "run.json").write_text(json.dumps(about | {"state": "stopped"}))
    assert "animegen train --resume" in refused(2, "runs", "rm", "0", "--states", "--yes", cwd=place)
    (run / "run.json").write_text(json.dumps(about | {"state": "finished"}))
    done("runs", "rm", "0", "--states", "--yes", cwd=place)
    assert not (run / "resume").exists()
    assert (run / "weights.safetensors").is_file()
    done("runs", "rm", "0", "--states", "--yes", cwd=place)


@pytest.mark.parametrize(("typed", "is_kept"), [("n\n", True), ("y\n", False)])
def test_on_a_terminal_the_answer_decides(place: Path, typed: str, *, is_kept: bool) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode())
    line = [sys.executable, "-m", "animegen_cli", "runs", "rm", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(line, cwd=place, env=environment, stdin=theirs, capture_output=True, text=True, check=False)
    os.close(ours)
    os.close(theirs)
    assert "Delete it for good?" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (place / "runs" / "00000-vae").is_dir() == is_kept


def test_where_there_are_none_it_says_how_to_get_one(tmp_path: Path) -> None:
    for command in ("list", "du"):
        assert "animegen train" in refused(3, "runs", command, cwd=tmp_path)


def test_the_doctor_names_what_is_there_and_what_to_type(place: Path) -> None:
    found = json.loads(done("doctor", "--json", cwd=place).out)
    assert {"animegen", "device", "bf16", "c_compiler", "memory", "disk", "locks", "inception", "onnx"} <= found.keys()
    assert found["runs"] == {"count": 3, "folder": "runs", "to_type": []}
    assert found["data_sets"] == {"count": 0, "folder": "datasets", "to_type": ["animegen prepare demo"]}
    missing = [one for one in found.values() if one.get("version", "") is None]
    assert all(re.fullmatch(r"pip install '.*\[.*\]'", line) for one in missing for line in one["to_type"])
    shown = done("doctor", cwd=place).out
    assert "C compiler" in shown
    assert "3 in runs/" in shown


def test_the_doctor_gives_programs_numbers_versions_and_answers_instead_of_sentences(place: Path) -> None:
    found = json.loads(done("doctor", "--json", cwd=place).out)
    assert found["animegen"]["version"] == __version__
    assert found["animegen"]["executable"] == sys.executable
    assert found["libraries"]["torch"] == metadata.version("torch")
    for what in ("memory", "disk"):
        assert isinstance(found[what]["free_bytes"], int)
        assert found[what]["free_bytes"] > 0
    assert found["cores"]["count"] >= 1
    assert isinstance(found["bf16"]["in_hardware"], bool)
    assert isinstance(found["c_compiler"]["found"], bool)
    assert found["device"]["kind"] in ("cpu", "cuda", "mps")
    assert found["disk"]["folder"] == str(place.resolve())


def test_the_doctor_looks_at_the_folder_it_stands_in(place: Path) -> None:
    before = sorted(place.iterdir())
    found = json.loads(done("doctor", "--json", cwd=place).out)
    assert found["locks"] == {"writable": True, "locks": True, "to_type": []}
    assert sorted(place.iterdir()) == before, "nothing stays"


@pytest.mark.parametrize(("shell", "script"), [("bash", BASH), ("zsh", ZSH), ("fish", FISH)])
def test_completion_prints_the_script_of_the_shell(shell: str, script: str) -> None:
    assert done("completion", shell).out == script
    assert "bash" in refused(2, "completion", "tcsh")


def test_studies_are_listed_with_document_runs_and_budget() -> None:
    found = {one["name"]: one for one in json.loads(done("studies", "list", "--json").out)}
    assert sorted(found) == paths.studies()
    assert {one["document"]: name for name, one in found.items() if one["document"]} == paths.documents()
    assert found["xmu2023"]["trainings"] == 8
    assert found["leaderboard"]["budget"].endswith("on 1 core each")
    assert "12 min on 1 core each" in done("studies", "list").out
