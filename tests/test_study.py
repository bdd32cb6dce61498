"""Studies: what is trained, resumed and skipped, budgets, refusals, files; on networks of some thousand parameters."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import squeezenet_weights
import torch
import yaml
from chain import ROOT, SHORT, TINY, assert_same_run, done, here, refused

from animegen_cli import disk, paths
from animegen_cli.compare import study_file, study_plan, study_processes
from animegen_cli.config import Amount
from animegen_cli.errors import ConfigError, UsageError
from animegen_cli.paths import Run
from animegen_cli.sample.generate import Generator
from animegen_cli.train import speed, train
from animegen_cli.train.lock import lock
from animegen_cli.train.request import Request as TrainRequest
from animegen_cli.train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator

FAMILIES = {"vae": "vae", "ddim": "ddim"}


def study_run(family: str, duration: str | None = "64 images", more: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a study's file says of a tiny run; `more` goes over its settings."""
    settings = dict(word.split("=", 1) for word in [*TINY[family], *SHORT])
    values = {key: yaml.safe_load(value) for key, value in settings.items()}
    run = {"family": family, "preset": "smoke", "settings": {**values, "train.loggers": [], **(more or {})}}
    return run | ({"duration": duration} if duration else {})


def written(folder: Path, **changes: Any) -> Path:
    """The YAML file of a study of two tiny runs."""
    values = {
        "title": "Two <b>tiny</b> runs",
        "about": "They show that a study does what it says.",
        "runs": {name: study_run(family) for name, family in FAMILIES.items()},
        "scores": {"n": 8, "repeats": 2, "split": "test", "metrics": ["fd", "kid", "mse"]},
        "plots": [{"x": "kid", "y": "fd"}],
        **changes,
    }
    values = {key: value for key, value in values.items() if value is not None}
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file


def words(file: Path, faces: Path, out: Path, *more: object) -> list[str]:
    options = {"--study": file, "--data": faces, "--out": out, "--device": "cpu"}
    return ["compare", *(str(word) for option in options.items() for word in option), *map(str, more)]


# ---- the shipped ones -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", paths.studies())
def test_every_shipped_study_names_runs_that_exist(name: str) -> None:
    planned, _, commands = study_plan.plan_of(study_plan.Request(study=name))
    assert len(commands) == len(planned.runs) >= 2
    for run, command in zip(planned.runs, commands, strict=True):
        assert command.startswith("animegen train ")
        assert command.endswith(f"studies/{name}/runs/{run}")


def test_a_study_that_an_earlier_version_wrote_still_opens() -> None:
    """The published one, which holds everything that a study writes down: budget, measured rates, device, data."""
    old = study_file.load(ROOT / "tests/data/old-study.yaml")
    assert list(old.runs) == ["vae", "gan", "stylegan2", "ddpm"]
    assert old.budget is not None
    assert old.data is not None
    assert old.device == "cpu"
    assert all(str(run.duration).endswith(" images") and run.images_per_second for run in old.runs.values())


def test_a_study_for_gpus_names_its_sibling_for_a_cpu() -> None:
    assert "`--study xmu2023-laptop`" in done("compare", "--study", "003", "--device", "cpu", "--dry-run").err
    assert "GPU" not in done("compare", "--study", "xmu2023-laptop", "--device", "cpu", "--dry-run").err


def test_fewer_faces_may_be_scored() -> None:
    planned, _, _ = study_plan.plan_of(study_plan.Request(study="smoke", n=8))
    assert (planned.scores.n, planned.scores.repeats) == (8, 1)
    assert "`--n` belongs to a study" in refused(2, "compare", "--n", "8")


def test_who_waits_for_a_plan_that_fails_makes_it_itself(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder goes with the process that could not plan; a process that waits finds it gone."""
    only_one, calls = disk.only_one, []

    @contextlib.contextmanager
    def gone_at_first(path: Path, **named: Any) -> Iterator[None]:
        calls.append(path)
        if len(calls) == 1:
            shutil.rmtree(path.parent)
            raise FileNotFoundError(path)
        with only_one(path, **named):
            yield

    monkeypatch.setattr(disk, "only_one", gone_at_first)
    request = study_plan.Request(study=str(written(tmp_path)), data=faces, out=tmp_path / "out", device="cpu")
    study_plan.made(request)
    assert len(calls) == 2
    assert (tmp_path / "out" / study_plan.FILE).is_file()


# ---- a study in work ------------------------------------------------------------------------------------------


class Finished(NamedTuple):
    """A study that has run to its end: its file, its folder, and what the command said as JSON."""

    file: Path
    out: Path
    said: dict[str, Any]


@pytest.fixture(scope="module")
def shared(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("study")
    file = written(folder)
    answer = done(*words(file, faces, folder / "out", "--json", "--picture-seeds", "0-2"))
    return Finished(file, folder / "out", json.loads(answer.out))


@pytest.fixture
def finished(shared: Finished, tmp_path: Path) -> Finished:
    """A finished study of the test's own, to go on with and to edit."""
    return shared._replace(out=Path(shutil.copytree(shared.out, tmp_path / "finished")))


def test_it_ends_in_scores_and_a_page(shared: Finished) -> None:
    _, out, said = shared
    page = (out / "comparison" / "index.html").read_text()
    assert said["files"]["page"] == str(out / "comparison" / "index.html")
    assert "Two &lt;b&gt;tiny&lt;/b&gt; runs" in page
    assert "They show that a study does what it says." in page
    rows = {row["values"]["run"]: row["values"] for row in said["quality"]["rows"]}
    assert rows.keys() == FAMILIES.keys()
    assert all(row["fd-faces"] > 0 for row in rows.values())
    assert rows["vae"]["mse"] > 0
    assert rows["ddim"]["mse"] is None
    resolved = study_file.load(out / "study.yaml")
    assert resolved.data == Run(out / "runs" / "vae").about["data"]["identity"]


def test_what_is_done_is_not_done_again(finished: Finished, faces: Path) -> None:
    file, out, said = finished
    files = [out / "runs" / name / file for name in FAMILIES for file in ("weights.safetensors", "eval.json")]
    before = {path: path.stat().st_mtime_ns for path in files}
    again = json.loads(done(*words(file, faces, out, "--json", "--picture-seeds", "0-2")).out)
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert again["quality"] == said["quality"]


def test_its_own_file_runs_the_same_again(finished: Finished, faces: Path, tmp_path: Path) -> None:
    _, out, _ = finished
    done(*words(out / "study.yaml", faces, tmp_path / "again"))
    for name in FAMILIES:
        assert_same_run(out / "runs" / name, tmp_path / "again" / "runs" / name)


def test_a_finished_run_needs_no_preset(finished: Finished, faces: Path) -> None:
    file = finished.out / "study.yaml"
    edited = yaml.safe_load(file.read_text())
    edited["runs"]["vae"]["preset"] = "gone"
    file.write_text(yaml.safe_dump(edited, sort_keys=False))
    done(*words(file, faces, finished.out))


SIGNALLED = """
import os, signal, sys
from animegen_cli.cli import main
from animegen_cli.train.trainer import Trainer

number, training, *sys.argv[1:] = sys.argv[1:]
trainers, step = [], Trainer.train_step

def counted(trainer, stop):
    taken = step(trainer, stop)
    if trainer not in trainers:
        trainers.append(trainer)
    if len(trainers) == int(training) and trainer.step == 4:
        os.kill(os.getpid(), int(number))
    return taken

Trainer.train_step = counted
main()
"""
"""`animegen` that gets a signal after the fourth step, of eight, of the n-th training: it cannot be quicker than that."""


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_in_the_same_runs(shared: Finished, faces: Path, tmp_path: Path) -> None:
    """Real processes: SIGKILL in the first training; then, with that one repeated, SIGTERM in the second."""
    out = tmp_path / "out"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for training, (name, number, code) in enumerate(
        [("vae", signal.SIGKILL, -signal.SIGKILL), ("ddim", signal.SIGTERM, 85)], 1
    ):
        line = [sys.executable, "-c", SIGNALLED, str(int(number)), str(training), *words(shared.file, faces, out)]
        process = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert process.returncode == code, process.stderr
        assert Run(out / "runs" / name).exists
        assert not Run(out / "runs" / name).finished
    done(*words(shared.file, faces, out))
    for name in FAMILIES:
        assert_same_run(shared.out / "runs" / name, out / "runs" / name)
    assert (out / "comparison" / "index.html").is_file()


def test_a_budget_is_measured_once_and_written_down(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def rate(prepared: Any, *, cores: int | None) -> float:
        assert cores is None
        asked.append(prepared.config.family)
        return 20.0

    monkeypatch.setattr(study_plan, "images_per_second", rate)
    file = written(tmp_path, scores={"n": 8, "repeats": 1, "metrics": ["kid"]})
    out = tmp_path / "out"
    for _ in range(2):
        done(*words(file, faces, out, "--budget", "5 s"))
    assert sorted(asked) == sorted(FAMILIES.values()), "measured at the first call alone"
    for name, found in study_file.load(out / "study.yaml").runs.items():
        assert found.duration == "96 images"  # 100 images in whole batches of 8
        assert found.images_per_second == 20.0
        assert Run(out / "runs" / name).about["images"] == 96
    page = (out / "comparison" / "index.html").read_text()
    assert f"animegen compare --study {out}/study.yaml --data {faces}" in page, "what makes all of it again"
    assert "0.083 minutes each" in page, "what each run was given, not what the clock counted"
    again = study_plan.Request(study=str(out / "study.yaml"), data=faces, out=tmp_path / "again", device="cpu")
    planned, _ = study_plan.made(again)
    assert [found.duration for found in planned.runs.values()] == ["96 images"] * 2
    assert sorted(asked) == sorted(FAMILIES.values()), "nor for the same study in another folder"


def test_a_measured_rate_counts_whole_cycles_of_lazy_phases(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that each step of StyleGAN2 moves on: by 1 s, by 9 s where a lazy phase is due (each second step here)."""
    now = 0.0
    step = Trainer.train_step

    def ticking(trainer: Trainer) -> None:
        nonlocal now
        now += 1.0 if trainer.step % 2 else 9.0
        step(trainer)

    monkeypatch.setattr(Trainer, "train_step", ticking)
    monkeypatch.setattr("animegen_cli.train.speed.time.perf_counter", lambda: now)
    request = TrainRequest(
        family="stylegan2", preset="smoke", data=faces, device="cpu", settings=[*TINY["stylegan2"], *SHORT]
    )
    run_config = train.read_config(request)
    prepared = train.prepare(request, run_config, train.open_data(request, run_config))
    assert speed.images_per_second(prepared, seconds=25.0) == pytest.approx(8 / 5)  # 8 images, 5 s on average


def test_processor_time_of_so_many_cores_is_counted_where_the_study_says_so(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 2 cores a second is 2 s of processor time, however long the clock says that it took."""
    asked: list[tuple[int, int]] = []

    def rate(prepared: Any, *, cores: int) -> float:
        assert prepared.device.type == "cpu"
        asked.append((cores, torch.get_num_threads()))
        return 20.0

    monkeypatch.setattr(study_plan, "images_per_second", rate)
    runs = {name: study_run(family, None) for name, family in FAMILIES.items()}
    scores = {"n": 8, "repeats": 1, "metrics": ["kid"]}
    file = written(tmp_path, runs=runs, cores=2, budget="4 s", seeds=[3, 5], scores=scores)
    out = tmp_path / "out"
    answer = done("compare", "--study", file, "--data", faces, "--out", out, "--only", "vae", "--json")
    assert asked == [(2, 2)], "one measurement for both seeds, and none of what is not asked for"
    assert torch.get_num_threads() == 1, "as before"
    for name, seed in (("vae", 3), ("vae-seed5", 5)):
        about = Run(out / "runs" / name).about
        assert (about["images"], about["hardware"]["threads"]) == (80, 2)
        assert yaml.safe_load(Run(out / "runs" / name).config.read_text())["train"]["seed"] == seed
    assert [run["run"] for run in json.loads(answer.out)["means"]] == ["vae"]
    page = (out / "comparison" / "index.html").read_text()
    assert "Each training had 4 s of processor time on 2 cores of the CPU" in page
    assert "Each run is trained with the seeds 3,5" in page
    plan = study_file.load(out / "study.yaml")
    assert (plan.runs["vae"].duration, plan.runs["ddim"].duration) == ("80 images", None)
    refused(2, *words(file, faces, out, "--device", "cuda"))


def test_processor_time_is_what_a_rate_is_of(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step takes 3 s of processor time, and a day by the clock."""
    step, now = Trainer.train_step, 0.0

    def ticking(trainer: Trainer) -> None:
        nonlocal now
        now += 3.0
        step(trainer)

    monkeypatch.setattr(Trainer, "train_step", ticking)
    monkeypatch.setattr("animegen_cli.train.speed.time.process_time", lambda: now)
    monkeypatch.setattr("animegen_cli.train.speed.time.perf_counter", lambda: 28_800 * now)
    request = TrainRequest(family="vae", preset="smoke", data=faces, device="cpu", settings=[*TINY["vae"], *SHORT])
    run_config = train.read_config(request)
    prepared = train.prepare(request, run_config, train.open_data(request, run_config))
    assert speed.images_per_second(prepared, seconds=4.0, cores=2) == pytest.approx(8 / 1.5)


# ---- several training seeds -----------------------------------------------------------------------------------


def test_a_study_is_given_more_seeds_and_keeps_what_it_has_trained(finished: Finished, faces: Path) -> None:
    file, out, _ = finished
    before = {name: (out / "runs" / name / "weights.safetensors").read_bytes() for name in FAMILIES}
    said = json.loads(done(*words(file, faces, out, "--json", "--seeds", "0-1")).out)
    assert sorted(folder.name for folder in (out / "runs").iterdir()) == ["ddim", "ddim-seed1", "vae", "vae-seed1"]
    for name in FAMILIES:
        assert (out / "runs" / name / "weights.safetensors").read_bytes() == before[name]
        assert Run(out / "runs" / f"{name}-seed1").finished
        assert yaml.safe_load(Run(out / "runs" / f"{name}-seed1").config.read_text())["train"]["seed"] == 1
    assert [row["values"]["seeds"] for row in said["quality"]["rows"]] == [[0, 1], [0, 1]]
    singles = [row["values"] for row in said["seeds"]["rows"] if row["values"]["run"] == "vae"]
    assert [row["seed"] for row in singles] == ["mean", 0, 1]
    assert singles[0]["fd-faces"] == pytest.approx((singles[1]["fd-faces"] + singles[2]["fd-faces"]) / 2)
    assert study_file.load(out / "study.yaml").seeds == [0, 1]
    again = json.loads(done(*words(file, faces, out, "--json")).out)  # without the option: the seeds that it has
    assert again["seeds"] == said["seeds"]


def test_seeds_that_do_not_fit_are_refused(finished: Finished, faces: Path, tmp_path: Path) -> None:
    file, out, _ = finished
    assert "with the presets' own seed, 0" in refused(2, *words(file, faces, out, "--seeds", "1-2"))
    assert "no list of seeds" in refused(2, *words(file, faces, out, "--seeds", "two"))
    assert "write `--picture-seeds" in refused(2, *words(file, faces, out, "--picture-seeds", "9-"))
    assert "a seed of its own" in refused(
        2,
        *words(
            written(tmp_path, runs={"a": study_run("vae", more={"train.seed": 7})}, plots=None),
            faces,
            out,
            "--seeds",
            "1",
        ),
    )
    both = {"a": study_run("vae", more={"train.seed": 7})}
    with pytest.raises(UsageError, match=r"`a` has a `train\.seed` of its own"):
        study_file.load(written(tmp_path, runs=both, plots=None, seeds=[1, 2]))
    with pytest.raises(UsageError, match="a seed stands twice"):
        study_file.load(written(tmp_path, seeds=[1, 1]))
    clash = {"vae": study_run("vae"), "vae-seed1": study_run("vae")}
    with pytest.raises(UsageError, match="would be called vae-seed1"):
        study_file.load(written(tmp_path, runs=clash, plots=None, seeds=[0, 1]))
    assert "`--picture-seeds` mean the same" in refused(2, "compare", "--seeds", "0-3", "--picture-seeds", "0-3")


def test_some_of_the_runs_can_be_asked_for(faces: Path, tmp_path: Path) -> None:
    file = written(tmp_path, scores={"n": 8, "repeats": 1, "metrics": ["kid"]}, plots=None)
    out = tmp_path / "out"
    said = json.loads(done(*words(file, faces, out, "--json", "--only", "ddim")).out)
    assert [row["values"]["run"] for row in said["quality"]["rows"]] == ["ddim"]
    assert not (out / "runs" / "vae").exists()
    assert "no run `dim`" in refused(2, *words(file, faces, out, "--only", "dim"))
    assert "belongs to a study" in refused(2, "compare", "--only", "ddim")


# ---- several networks -----------------------------------------------------------------------------------------


def test_further_networks_look_at_the_same_images(
    finished: Finished, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out, _ = finished
    for run in FAMILIES:  # as if nothing were scored yet
        (out / "runs" / run / "eval.json").unlink()
        shutil.rmtree(out / "runs" / run / "features")
    drawn: list[int] = []
    draw = Generator.draw

    def counted(generator: Generator, seeds: Any, **options: Any) -> Any:
        drawn.append(len(seeds))
        return draw(generator, seeds, **options)

    monkeypatch.setattr(Generator, "draw", counted)
    network = squeezenet_weights.write(out.parent / "trunk.npz")
    said = json.loads(
        done(*words(file, faces, out, "--json", "--picture-seeds", "0-2", "--extractor", f"squeezenet:{network}")).out
    )
    for row in said["quality"]["rows"]:
        assert row["values"]["fd-squeezenet"] > 0
        assert row["values"]["fd-faces"] > 0
    measured = {(name.partition("-")[0]) for name in said["measures"]}
    assert measured == {"fd", "kid", "mse"}
    assert "mse-squeezenet" not in said["measures"]
    assert drawn == [8, 8, 8] * 2, "two ranges for the first network, and for the second the second range again"
    assert "no SqueezeNet weights" in refused(2, *words(file, faces, out, "--extractor", "squeezenet:gone.npz"))


def test_drawn_faces_are_made_where_no_data_is_given(tmp_path: Path) -> None:
    file = written(tmp_path, demo=40, size=16, scores={"n": 4, "repeats": 1, "metrics": ["kid"]})
    done("compare", "--study", file, "--out", tmp_path / "out", "--device", "cpu", "--quiet")
    assert Run(tmp_path / "out" / "runs" / "vae").about["data"]["size"] == 16


def test_two_runs_train_at_once_in_two_processes(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def kept(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(process := subprocess.Popen(*words, **options))
        return process

    monkeypatch.setattr(study_processes, "subprocess", SimpleNamespace(Popen=kept, DEVNULL=subprocess.DEVNULL))
    file = written(tmp_path, plots=None, scores={"n": 8, "repeats": 1, "metrics": ["kid"]})
    answer = done(*words(file, faces, tmp_path / "out", "--at-once", "2"))
    assert [process.returncode for process in started] == [0]
    assert "not finished" not in answer.err
    for name in FAMILIES:
        run = Run(tmp_path / "out" / "runs" / name)
        assert run.finished
        assert run.scores.is_file()
    assert (tmp_path / "out" / "comparison" / "index.html").is_file()


def test_what_a_process_beside_leaves_undone_is_done(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    file = written(tmp_path, plots=None, scores={"n": 8, "repeats": 1, "metrics": ["kid"]})
    answer = done(*words(file, faces, tmp_path / "out", "--at-once", "2"))
    assert "ended with exit code 1; going on without it" in answer.err
    assert all(Run(tmp_path / "out" / "runs" / name).finished for name in FAMILIES)
    assert "belongs to a study" in refused(2, "compare", "--at-once", "2")


def test_a_dry_run_names_the_commands(tmp_path: Path) -> None:
    answer = done("compare", "--study", "smoke", "--dry-run", "--out", tmp_path / "out")
    assert answer.out.count("animegen train ") == 2
    assert "40k images" in answer.out
    assert not (tmp_path / "out").exists()


def test_settings_that_end_alike_are_told_apart(tmp_path: Path) -> None:
    table = done("compare", "--study", "begum2025", "--dry-run", "--out", str(tmp_path / "s")).out
    assert "optim.G.schedule constant, optim.D.schedule constant" in " ".join(table.split())
    assert "gan/begum2025, feature_matching 0.0" in table


def test_a_divergence_leaves_the_others_alone(faces: Path, tmp_path: Path) -> None:
    runs = {"bad": study_run("ddim", more={"optim.model.lr": 1e30}), "good": study_run("vae")}
    file = written(tmp_path, runs=runs, plots=None, scores={"n": 8, "repeats": 1, "metrics": ["kid"]})
    answer = done(*words(file, faces, tmp_path / "out"))
    assert "bad is not finished: it diverged" in answer.err
    page = (tmp_path / "out" / "comparison" / "index.html").read_text()
    assert "diverged" in page
    again = done(*words(file, faces, tmp_path / "out"))
    assert "bad is not finished: it diverged" in again.err


def test_a_run_that_another_process_trains_is_left_to_it(finished: Finished, faces: Path) -> None:
    run = Run(finished.out / "runs" / "vae")
    run.facts.write_text(json.dumps(run.about | {"state": "running"}))
    with lock(run):
        answer = done(*words(finished.out / "study.yaml", faces, finished.out))
    assert "vae is not finished: another process trains it" in answer.err


def test_a_run_that_another_process_scores_is_left_to_it(finished: Finished, faces: Path) -> None:
    run = Run(finished.out / "runs" / "vae")
    run.scores.unlink()
    with lock(run):
        answer = done(*words(finished.file, faces, finished.out))
    assert "vae is not finished: another process scores it" in answer.err
    assert not run.scores.exists()
    done(*words(finished.file, faces, finished.out))
    assert run.scores.is_file()


# ---- bad input ------------------------------------------------------------------------------------------------


def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path: Path) -> None:
    file = written(tmp_path, scores={"repeat": 3})
    with pytest.raises(ConfigError, match=r"tiny\.yaml:\d+: unknown key `repeat` in `scores`") as caught:
        study_file.load(file)
    assert "repeats" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="`title` is missing"):
        study_file.load(written(tmp_path, title=None))
    with pytest.raises(ConfigError, match="is a time"):
        study_file.load(written(tmp_path, runs={"a": study_run("vae", "10 min")}))
    with pytest.raises(ConfigError, match="is no time"):
        study_file.load(written(tmp_path, budget="10k images"))
    with pytest.raises(UsageError, match="plots name runs that it does not have: nobody"):
        study_file.load(written(tmp_path, plots=[{"x": "fd", "y": "kid", "runs": ["nobody"]}]))
    with pytest.raises(UsageError, match="cannot name a run"):
        study_file.load(written(tmp_path, runs={"../vae": study_run("vae")}, plots=None))


def test_refusals(faces: Path, tmp_path: Path, finished: Finished) -> None:
    file, out, _ = finished
    assert "did you mean `smoke`" in refused(2, "compare", "--study", "smok")
    runs = {"a": {"family": "vae", "preset": "gone"}}
    gone = written(tmp_path, runs=runs, plots=None)
    assert "has no preset `gone`" in refused(2, *words(gone, faces, tmp_path / "gone"))
    assert not (tmp_path / "gone" / "runs").exists(), "complained before the first hour"
    assert "belongs to a study" in refused(2, "compare", "--budget", "10 min")
    assert "names its own runs" in refused(2, "compare", "a", "--study", "smoke")
    assert "other budget" in refused(2, *words(file, faces, out, "--budget", "1 min"))
    assert "write `--budget" in refused(2, *words(file, faces, tmp_path / "x", "--budget", "soon"))
    other = written(tmp_path, runs={"vae": study_run("vae", "128 images"), "ddim": study_run("ddim")})
    assert "other runs" in refused(2, *words(other, faces, out))


def test_another_data_set_is_refused(finished: Finished, two_domains: Path, tmp_path: Path) -> None:
    _, out, _ = finished
    assert "other data" in refused(2, *words(out / "study.yaml", two_domains, out))
    assert "other pictures" in refused(3, *words(out / "study.yaml", two_domains, tmp_path / "new"))


def test_amounts_of_a_resolved_study_are_images(shared: Finished) -> None:
    _, out, _ = shared
    assert {Amount.parse(str(m.duration)).unit for m in study_file.load(out / "study.yaml").runs.values()} == {"images"}


def test_json_is_all_that_goes_to_standard_output(finished: Finished, faces: Path) -> None:
    answer = here(*words(finished.file, faces, finished.out, "--json", "--quiet"))
    assert answer.code == 0
    assert json.loads(answer.out).keys() >= {"quality", "cost", "published", "warnings", "files"}
    assert all(line.startswith("warning: ") for line in answer.err.splitlines())
