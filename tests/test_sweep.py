"""Several values of a key, or several seeds: one training for each, shared by all processes that are started on them."""

from __future__ import annotations

import json
import os
import shlex
import signal
from typing import TYPE_CHECKING

import pytest
from chain import (
    TINY,
    assert_same_run,
    assert_same_tensors,
    done,
    here,
    log_of,
    refused,
    sets,
    start,
    train_words,
    wait_until,
)

from animegen_cli import config
from animegen_cli.model.checkpoint import load_weights
from animegen_cli.paths import Run
from animegen_cli.train.lock import is_locked, lock

if TYPE_CHECKING:
    from pathlib import Path


def gan(faces: Path, out: Path, *more: object, duration: str = "32 images") -> list[str]:
    return train_words("gan", faces, out, *more, duration=duration)


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("lr=1e-4,2e-4", ["1e-4", "2e-4"]),
        ("lr=1e-4", ["1e-4"]),
        ("widths=[8,16]", ["[8,16]"]),
        ("widths=[8,16],[16, 32]", ["[8,16]", "[16, 32]"]),
        ("duration=10 epochs, 20 epochs", ["10 epochs", "20 epochs"]),
        ("about='a, b'", ["'a, b'"]),
        ("a={b: 1, c: 2}", ["{b: 1, c: 2}"]),
        ("a={b: 1},{b: 2}", ["{b: 1}", "{b: 2}"]),
        ("a=null,true", ["null", "true"]),
        ("a=", [""]),
        ("a=1,", ["1,"]),
        ("a=don't, you", ["don't", "you"]),
        ("a=[1,2", ["[1,2"]),
    ],
)
def test_commas_outside_of_brackets_and_quotes_separate_values(word: str, values: list[str]) -> None:
    assert config.values_of(word) == values


def test_a_sweep_is_every_combination_and_its_commands_train_the_same(tmp_path: Path, faces: Path) -> None:
    words = gan(faces, tmp_path / "sweep", "--seeds", "0-1", *sets("optim.G.lr=1e-4,2e-4"))
    printed = done(*words, "--dry-run").out.splitlines()
    names = [f"lr={lr},seed={seed}" for lr in ("1e-4", "2e-4") for seed in (0, 1)]
    assert [Run(tmp_path / "sweep" / name).path.name for name in names] == [
        line.rpartition("/")[2].strip("'") for line in printed
    ]
    assert not (tmp_path / "sweep").exists()
    answer = done(*words, "--json")
    assert json.loads(answer.out)["unfinished"] == {}
    assert [Run(tmp_path / "sweep" / name).finished for name in names] == [True] * 4
    alone = shlex.split(printed[2])
    done(*alone[1:-1], tmp_path / "alone")
    assert_same_run(tmp_path / "alone", tmp_path / "sweep" / names[2])
    before = {name: (tmp_path / "sweep" / name / "weights.safetensors").stat().st_mtime_ns for name in names}
    done(*words)
    assert before == {name: (tmp_path / "sweep" / name / "weights.safetensors").stat().st_mtime_ns for name in names}


def test_without_out_the_runs_lie_with_the_others(tmp_path: Path, faces: Path) -> None:
    words = gan(faces, tmp_path / "x")
    del words[words.index("--out") : words.index("--out") + 2]
    listed = done(*words, "--seeds", "3,5", cwd=tmp_path).out.split()
    assert listed == ["runs/gan-smoke-faces,seed=3", "runs/gan-smoke-faces,seed=5"]
    said = json.loads(done("compare", "--no-images", "--json", cwd=tmp_path).out)
    assert [(row["values"]["run"], row["values"]["seeds"]) for row in said["quality"]["rows"]] == [
        ("gan-smoke-faces", [3, 5])
    ]


def test_a_text_that_its_key_takes_is_one_value(tmp_path: Path, faces: Path) -> None:
    words = train_words("mhvae", faces, tmp_path / "run", *sets("about=one, two"))
    assert "one, two" in done(*words, "--dry-run", "--json").out
    printed = done(*words, "--dry-run", "--set", "train.batch=4,8").out.splitlines()
    assert len(printed) == 2
    assert all("'about=one, two'" in line for line in printed)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--set", "optim.G.lr=1,1"], "two runs of the sweep"),
        (["--set", "optim.G.lr=1e-4,much"], "`optim.G.lr`"),
        (["--set", "optim.G.rate=1e-4,2e-4"], "unknown key `rate`"),
        (["--set", "train.seed=1,2", "--seeds", "1-2"], "`train.seed` is swept twice"),
        (["--seed", "1", "--seeds", "1-2"], "`--seed` and the values of `train.seed`"),
        (["--seeds", "1-2", "--resume", "none"], "a sweep goes on with its own runs"),
        (["--seeds", "0-1000"], "1,001 runs are more than 1,000"),
        (["--seeds", "a"], "no list of seeds"),
    ],
)
def test_words_that_make_no_sweep_are_refused_before_anything_is_trained(
    more: list[str], said: str, tmp_path: Path, faces: Path
) -> None:
    assert said in refused(2, *gan(faces, tmp_path / "sweep"), *more)
    assert not (tmp_path / "sweep").exists()


def test_a_run_that_another_process_trains_is_left_to_it_and_the_rest_is_trained(tmp_path: Path, faces: Path) -> None:
    words = gan(faces, tmp_path / "sweep", "--seeds", "0-1")
    with lock(Run(tmp_path / "sweep" / "seed=0")):
        answer = done(*words)
        assert "seed=0: another process trains it at this moment" in answer.err
    assert not Run(tmp_path / "sweep" / "seed=0").exists
    assert Run(tmp_path / "sweep" / "seed=1").finished


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_where_it_was(tmp_path: Path, faces: Path) -> None:
    words = gan(faces, tmp_path / "sweep", "--seeds", "0-1", duration="160 images")
    first, second = (tmp_path / "sweep" / f"seed={seed}" for seed in (0, 1))
    process = start(*words)
    wait_until(lambda: bool(log_of(second)), of=process)
    process.send_signal(signal.SIGUSR1)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 85, error
    assert (Run(first).state, Run(second).state) == ("finished", "stopped")
    assert not is_locked(Run(second))
    answer = done(*words)
    assert answer.err.count("going on at") == 1
    assert Run(second).finished
    done(*gan(faces, tmp_path / "alone", "--seed", "1", duration="160 images"))
    assert_same_run(second, tmp_path / "alone")


def test_a_run_that_fails_is_named_and_the_others_are_trained(tmp_path: Path, faces: Path) -> None:
    (tmp_path / "sweep" / "seed=0").mkdir(parents=True)
    (tmp_path / "sweep" / "seed=0" / "mine.txt").write_text("")
    words = gan(faces, tmp_path / "sweep", "--seeds", "0-1")
    answer = here(*words)
    assert answer.code == 2
    assert "seed=0 is not empty" in answer.err
    os.remove(tmp_path / "sweep" / "seed=0" / "mine.txt")
    (tmp_path / "sweep" / "seed=0").rmdir()
    (tmp_path / "sweep" / "seed=0").write_text("a file where a folder should be")
    answer = here(*words)
    assert answer.code == 5
    assert "1 of 2 runs failed; seed=0: cannot write to" in answer.err
    assert Run(tmp_path / "sweep" / "seed=1").finished
    os.remove(tmp_path / "sweep" / "seed=0")
    done(*words)
    assert Run(tmp_path / "sweep" / "seed=0").finished


def test_a_run_that_diverges_ends_no_sweep(tmp_path: Path, faces: Path) -> None:
    assert TINY["vae"]
    words = train_words("vae", faces, tmp_path / "sweep", *sets("optim.model.lr=1e30,1e-4"), duration="64 images")
    answer = done(*words)
    assert "lr=1e30: it diverged" in answer.err
    assert Run(tmp_path / "sweep" / "lr=1e-4").finished
    assert "its last healthy state is kept" in done(*words).err


@pytest.mark.slow
def test_the_runs_of_a_sweep_may_have_several_processes_and_are_no_ranks_themselves(
    tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = gan(faces, tmp_path / "sweep", "--seeds", "4", "--parts", "2", "--nproc", "2")
    answer = done(*words, "--json")
    assert json.loads(answer.out) == {"runs": [str(tmp_path / "sweep" / "seed=4")], "unfinished": {}}
    done(*gan(faces, tmp_path / "alone", "--seed", "4", "--parts", "2"))
    assert_same_tensors(*(load_weights(Run(tmp_path / name).weights)[0] for name in ("sweep/seed=4", "alone")))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for several in (words, ["compare", "--study", "smoke"]):
        assert "the 2 processes of one launch" in refused(2, *several)
