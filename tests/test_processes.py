"""One run on any number of processes: the same bits on 1, 2 and 4, and by resume from any to any. Real processes, real gloo."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import chain
import pytest
import tiny_runs
import torch

from animegen_cli import ranks
from animegen_cli.errors import MachineError
from animegen_cli.evaluate import evaluate
from animegen_cli.paths import Run
from animegen_cli.train.lock import is_locked

if TYPE_CHECKING:
    from collections.abc import Sequence

MORE = {
    "ddpm": chain.sets("model.dropout=0.1", "model.labels=[hair]", "augment.crop=1", "optim.model.clip=1"),
    "gan": chain.sets("model.spectral_norm=true", "train.ema.every=2"),
    "stylegan2": chain.sets("model.ada_speed=2000", "model.path_length=2.0"),
    "vae": [],  # BatchNorm
}
"""What each must keep in step between processes, besides its weights."""


def words_of(family: str, faces: Path, out: Path, images: int) -> list[str]:
    return chain.train_words(
        family, faces, out, "--parts", "4", "--seed", "5", *MORE[family], duration=f"{images} images"
    )


def run_together(commands: Sequence[list[str]], count: int, folder: Path) -> None:
    """Run commands, one after the other, in `count` processes; all must succeed."""
    folder.mkdir()
    plan = [{"words": words, "meeting": str(folder / f"meeting{i}")} for i, words in enumerate(commands)]
    (folder / "plan.json").write_text(json.dumps(plan))
    environment = os.environ | {"PYTHONPATH": str(chain.ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(count)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(chain.ROOT / "tests" / "trained_together.py"), str(folder / "plan.json")],
            cwd=chain.ROOT, env=environment | {"RANK": str(rank)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    answers = [(process.communicate(timeout=300)[1], process.returncode) for process in processes]
    assert [code for _, code in answers] == [0] * count, "\n".join(said for said, _ in answers)


@pytest.fixture(scope="module")
def alone(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each family trained by this process alone."""
    folder = tmp_path_factory.mktemp("alone")
    before = torch.get_num_threads()
    for family in MORE:
        chain.done(*words_of(family, faces, folder / family, 48), "--nproc", "1")
    torch.set_num_threads(before)
    return folder


@pytest.mark.slow
def test_two_and_four_processes_and_resume_between_them_are_the_same_run(
    alone: Path, faces: Path, tmp_path: Path
) -> None:
    changing = tmp_path / "changing"
    run_together([words_of(family, faces, tmp_path / "two" / family, 48) for family in MORE]
                   + [words_of(family, faces, changing / family, 16) for family in MORE], 2, tmp_path / "2")  # fmt: skip
    for family in MORE:  # 2 -> 1 -> 4
        chain.done(*words_of(family, faces, changing / family, 32), "--nproc", "1")
    run_together([words_of(family, faces, changing / family, 48) for family in MORE], 4, tmp_path / "4")
    for family in MORE:
        chain.assert_same_run(alone / family, tmp_path / "two" / family)
        chain.assert_same_state(alone / family, changing / family)  # its log has a last line for each end


def pids_below(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a process has started, oldest first."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found]


def is_gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.slow
def test_nproc_stops_fails_and_dies_as_one_command_and_nothing_is_lost(faces: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*words_of("ddpm", faces, run, 100_000), "--nproc", "2", *chain.sets("train.save_every=8 images")]

    def training() -> subprocess.Popen[str]:
        seen = chain.newest(run)
        process = chain.start(*words)
        chain.wait_until(lambda: chain.newest(run) > seen, of=process)
        return process

    stopped = training()
    stopped.send_signal(signal.SIGUSR1)
    said = stopped.communicate(timeout=120)[1]
    assert stopped.returncode == 85, said
    assert said.count("stopping; the state will be saved") == 1, "one process speaks for all"
    assert Run(run).about["state"] == "stopped"

    halved = training()
    began = time.monotonic()
    os.kill(pids_below(halved)[1], signal.SIGKILL)
    said = halved.communicate(timeout=120)[1]
    assert halved.returncode == 5, said
    assert time.monotonic() - began < 60
    assert "ended by SIGKILL" in said
    assert "Traceback" not in said

    orphaned = training()
    workers = pids_below(orphaned)
    orphaned.kill()
    orphaned.wait()
    deadline = time.monotonic() + 20
    while is_locked(Run(run)) or not all(map(is_gone, workers)):
        assert time.monotonic() < deadline, "they train on without anybody who knows"
        time.sleep(0.05)
    orphaned.communicate()

    seen = chain.newest(run)
    assert all(line["images"] <= seen + 100 for line in chain.log_of(run))
    ended = [*words_of("ddpm", faces, run, seen + 16), *chain.sets("train.save_every=8 images")]
    chain.done(*ended, "--nproc", "1")
    unbroken = tmp_path / "unbroken"
    chain.done(*words_of("ddpm", faces, unbroken, seen + 16), *chain.sets("train.save_every=8 images"), "--nproc", "1")
    chain.assert_same_run(run, unbroken)


def test_a_step_is_shared_by_as_many_as_divide_its_parts(faces: Path, tmp_path: Path) -> None:
    words = chain.train_words("ddpm", faces, tmp_path / "run", "--dry-run", "--json")
    assert json.loads(chain.done(*words, "--parts", "2").out)["resolved"]["parts"] == 2
    assert json.loads(chain.done(*words, "--batch-gpu", "2").out)["resolved"]["parts"] == 4
    said = chain.refused(2, *words, "--parts", "3")
    assert "a batch of 8 does not come in 3 equal parts" in said
    assert "`--parts 2`" in said
    said = chain.refused(2, *words, "--parts", "2", "--batch-gpu", "2")
    assert "`--parts 4`" in said


def test_sample_and_eval_share_seeds_with_the_pictures_and_scores_of_one_process(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_runs.make("gan", tmp_path / "run").path
    found = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))  # features of the set are shared too
        copy = Path(shutil.copytree(run, folder / "run"))
        commands = [
            ["sample", str(copy), "--seeds", "0-20,1005", "--batch", "4", "--grid", "--device", "cpu"],  # 6 calls
            ["eval", str(copy), "--against", str(faces), "--n", "260", "--repeats", "2", "--extractor", "faces",
             "--metrics", "fd,kid,coverage,duplicates", "--device", "cpu"],
        ]  # fmt: skip
        if count == 1:
            for words in commands:
                chain.done(*words)
        else:
            run_together(commands, count, folder / "plan")
        pictures = {file.relative_to(copy): file.read_bytes() for file in (copy / "drawn").rglob("*.png")}
        scores = [score | {"seconds": 0} for score in evaluate.read_stored(Run(copy))["scores"]]
        found.append((pictures, scores))
    pictures, scores = found[0]
    assert len(pictures) == 22 + 1
    assert len(scores) == 4
    assert pictures == found[1][0]
    assert scores == found[1][1]


def test_what_is_no_image_of_a_seed_is_made_by_the_first_process_alone(tmp_path: Path) -> None:
    run = tiny_runs.make("ddpm", tmp_path / "run").path
    walk = chain.start(
        "sample", run, "--interpolate", "1", "2", "--out", tmp_path / "out", "--device", "cpu", "--nproc", "2"
    )
    assert (walk.communicate(timeout=120)[1].count("run: "), walk.returncode) == (1, 0)
    assert [file.name for file in (tmp_path / "out").rglob("*.png")] == ["interpolate-1-2.png"]


def test_two_processes_vary_a_face_as_one_does(tmp_path: Path) -> None:
    run = tiny_runs.make("ddpm", tmp_path / "run").path
    words = ["--vary", "2", "--n", "5", "--batch", "2", "--grid", "--device", "cpu"]
    chain.done("sample", run, *words, "--out", tmp_path / "one")
    shared = chain.start("sample", run, *words, "--out", tmp_path / "two", "--nproc", "2")
    assert shared.communicate(timeout=120)[1].count("run: ") == 1
    one, two = (
        {file.relative_to(out): file.read_bytes() for file in out.rglob("*.png")}
        for out in (tmp_path / "one", tmp_path / "two")
    )
    assert len(one) == 6 + 1
    assert one == two


@pytest.mark.parametrize(("count", "unit", "processes"), [(22, 4, 2), (16, 16, 2), (100, 7, 3), (1, 8, 4)])
def test_blocks_are_whole_calls_that_follow_each_other(count: int, unit: int, processes: int) -> None:
    blocks = [ranks.Ranks(rank, processes).block(count, unit) for rank in range(processes)]
    assert [row for block in blocks for row in block] == list(range(count))
    assert all(block.start % unit == 0 for block in blocks if block)
    calls = [-(-len(block) // unit) for block in blocks]
    assert max(calls) - min(calls) <= 1


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, (0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (3, 8, 1)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_ID": "0", "SLURM_LOCALID": "2"}, (2, 4, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}, (0, 1, 0)),  # a batch script, no step
    ],
)
def test_a_process_finds_its_place(
    variables: dict[str, str], wanted: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("SLURM_") or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ranks.place() == wanted


@pytest.mark.parametrize(("rank", "world"), [("4", "4"), ("-1", "2"), ("x", "2")])
def test_a_place_that_cannot_be_is_refused(rank: str, world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(MachineError) as caught:
        ranks.place()
    assert "unset RANK WORLD_SIZE" in str(caught.value.hint)
