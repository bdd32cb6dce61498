"""Studies: what is trained, resumed and skipped, budgets, refusals, files; on networks of some thousand parameters."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from chain import SHORT, TINY, assert_same_run, done, here, refused, start

from animegen_cli import paths
from animegen_cli.compare import study
from animegen_cli.config import Amount
from animegen_cli.errors import ConfigError, UsageError
from animegen_cli.paths import Run

if TYPE_CHECKING:
    from pathlib import Path

FAMILIES = {"vae": "vae", "ddim": "ddim"}


def member(family: str, duration: str | None = "64 images", **more: Any) -> dict[str, Any]:
    settings = dict(word.split("=", 1) for word in [*TINY[family], *SHORT])
    values = {key: yaml.safe_load(value) for key, value in settings.items()}
    found = {"family": family, "preset": "smoke", "settings": {**values, **more}}
    return found | ({"duration": duration} if duration else {})


def written(folder: Path, **changes: Any) -> Path:
    """The YAML file of a study of two tiny runs."""
    values = {
        "title": "Two <b>tiny</b> runs",
        "about": "They show that a study does what it says.",
        "runs": {name: member(family) for name, family in FAMILIES.items()},
        "scores": {"n": 8, "repeats": 2, "split": "test", "metrics": ["fd", "kid", "mse"]},
        "plots": [{"x": "kid", "y": "fd"}],
        **changes,
    }
    values = {key: value for key, value in values.items() if value is not None}
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file


def words(file: Path, faces: Path, out: Path, *more: object) -> list[str]:
    return [
        "compare",
        "--study",
        str(file),
        "--data",
        str(faces),
        "--out",
        str(out),
        "--device",
        "cpu",
        *map(str, more),
    ]


# ---- the shipped ones -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", paths.studies())
def test_every_shipped_study_names_runs_that_exist(name: str) -> None:
    plan, commands = study.plan_of(study.Request(study=name))
    assert len(commands) == len(plan.runs) >= 4
    for run, command in zip(plan.runs, commands, strict=True):
        assert command.startswith("animegen train ")
        assert command.endswith(f"studies/{name}/runs/{run}")


def test_the_documents_have_their_studies() -> None:
    third, fourth = study.load("xmu2023"), study.load("info8010")
    assert [m.family for m in third.runs.values()] == ["vae", "gan", "stylegan2", "ddpm"]
    assert third.size == 64
    assert {m.preset for m in fourth.runs.values()} == {"info8010-cnn", "info8010-vit", "info8010-mlp", "info8010"}
    betas = [m.settings["model.beta"] for m in fourth.runs.values() if m.settings]
    assert betas == [0.5, 2.0, 4.0, 10.0]
    assert [(plot.x, plot.y) for plot in fourth.plots] == [("mse", "diversity")]


# ---- a study in work ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """The file of a study, its folder, and what the command said as JSON."""
    folder = tmp_path_factory.mktemp("study")
    file = written(folder)
    answer = done(*words(file, faces, folder / "out", "--json", "--seeds", "0-2"))
    return file, folder / "out", json.loads(answer.out)


def test_it_ends_in_scores_and_a_page(finished: tuple[Path, Path, dict[str, Any]], faces: Path) -> None:
    _, out, said = finished
    page = (out / "comparison" / "index.html").read_text()
    assert said["files"]["page"] == str(out / "comparison" / "index.html")
    assert "Two &lt;b&gt;tiny&lt;/b&gt; runs" in page
    assert "They show that a study does what it says." in page
    rows = {row["values"]["run"]: row["values"] for row in said["quality"]["rows"]}
    assert rows.keys() == FAMILIES.keys()
    assert all(row["fd-faces"] > 0 for row in rows.values())
    assert rows["vae"]["mse"] > 0
    assert rows["ddim"]["mse"] is None
    kept = study.load(out / "study.yaml")
    assert kept.data == Run(out / "runs" / "vae").about["data"]["identity"]


def test_what_is_done_is_not_done_again(finished: tuple[Path, Path, dict[str, Any]], faces: Path) -> None:
    file, out, said = finished
    watched = [
        p for name in FAMILIES for p in ((out / "runs" / name / f) for f in ("weights.safetensors", "eval.json"))
    ]
    before = {path: path.stat().st_mtime_ns for path in watched}
    again = json.loads(done(*words(file, faces, out, "--json", "--seeds", "0-2")).out)
    assert {path: path.stat().st_mtime_ns for path in watched} == before
    assert again["quality"] == said["quality"]


def test_its_own_file_runs_the_same_again(
    finished: tuple[Path, Path, dict[str, Any]], faces: Path, tmp_path: Path
) -> None:
    _, out, _ = finished
    done(*words(out / "study.yaml", faces, tmp_path / "again"))
    for name in FAMILIES:
        assert_same_run(out / "runs" / name, tmp_path / "again" / "runs" / name)


def test_a_finished_run_needs_no_preset(
    finished: tuple[Path, Path, dict[str, Any]], faces: Path, tmp_path: Path
) -> None:
    _, out, _ = finished
    kept = yaml.safe_load((out / "study.yaml").read_text())
    kept["runs"]["vae"]["preset"] = "gone"
    (out / "study.yaml").rename(tmp_path / "study.yaml")
    try:
        (out / "study.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))
        done(*words(out / "study.yaml", faces, out))
    finally:
        (tmp_path / "study.yaml").replace(out / "study.yaml")


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_in_the_same_runs(
    finished: tuple[Path, Path, dict[str, Any]], faces: Path, tmp_path: Path
) -> None:
    """Real processes: SIGKILL in the first training, SIGTERM in the second."""
    file, whole, _ = finished
    out = tmp_path / "out"
    for name, number, code in (("vae", signal.SIGKILL, -signal.SIGKILL), ("ddim", signal.SIGTERM, 85)):
        process = start(*words(file, faces, out))
        deadline = time.monotonic() + 90
        log = out / "runs" / name / "log.jsonl"
        while process.poll() is None and time.monotonic() < deadline and not (log.is_file() and log.read_text()):
            time.sleep(0.01)
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=60)
        assert process.returncode in (code, 0), said  # 0: it was quicker than the signal
    done(*words(file, faces, out))
    for name in FAMILIES:
        assert_same_run(whole / "runs" / name, out / "runs" / name)
    assert (out / "comparison" / "index.html").is_file()


def test_a_budget_is_measured_once_and_written_down(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def rate(prepared: Any) -> float:
        asked.append(prepared.config.family)
        return 20.0

    monkeypatch.setattr(study, "images_per_second", rate)
    file = written(tmp_path, scores={"n": 8, "repeats": 1, "metrics": ["kid"]})
    out = tmp_path / "out"
    for _ in range(2):
        done(*words(file, faces, out, "--budget", "5 s"))
    assert sorted(asked) == sorted(FAMILIES.values()), "measured at the first call alone"
    for name, found in study.load(out / "study.yaml").runs.items():
        assert found.duration == "96 images"  # 100 images in whole batches of 8
        assert found.images_per_second == 20.0
        assert Run(out / "runs" / name).about["images"] == 96


def test_a_measured_rate_counts_whole_cycles_of_lazy_phases(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that each step of StyleGAN2 moves on: by 1 s, by 9 s where a lazy phase is due (each second step here)."""
    from animegen_cli.train import speed, train
    from animegen_cli.train.trainer import Trainer

    now = 0.0
    step = Trainer.train_step

    def ticking(trainer: Trainer) -> None:
        nonlocal now
        now += 1.0 if trainer.step % 2 else 9.0
        step(trainer)

    monkeypatch.setattr(Trainer, "train_step", ticking)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now)
    request = train.Request(
        family="stylegan2", preset="smoke", data=faces, device="cpu", settings=[*TINY["stylegan2"], *SHORT]
    )
    run_config = train.read_config(request)
    prepared = train.prepare(request, run_config, train.open_data(request, run_config))
    assert speed.images_per_second(prepared, seconds=25.0) == pytest.approx(8 / 5)  # 8 images, 5 s on average


def test_drawn_faces_are_made_where_no_data_is_given(tmp_path: Path) -> None:
    file = written(tmp_path, demo=40, size=16, scores={"n": 4, "repeats": 1, "metrics": ["kid"]})
    done("compare", "--study", file, "--out", tmp_path / "out", "--device", "cpu", "--quiet")
    assert Run(tmp_path / "out" / "runs" / "vae").about["data"]["size"] == 16


def test_a_dry_run_names_the_commands(tmp_path: Path) -> None:
    answer = done("compare", "--study", "smoke", "--dry-run", "--out", tmp_path / "out")
    assert answer.out.count("animegen train ") == 4
    assert "12k images" in answer.out
    assert not (tmp_path / "out").exists()


def test_a_divergence_leaves_the_others_alone(faces: Path, tmp_path: Path) -> None:
    runs = {"bad": member("ddim", **{"optim.model.lr": 1e30}), "good": member("vae")}
    file = written(tmp_path, runs=runs, plots=None, scores={"n": 8, "repeats": 1, "metrics": ["kid"]})
    answer = done(*words(file, faces, tmp_path / "out"))
    assert "bad is not finished: it diverged" in answer.err
    page = (tmp_path / "out" / "comparison" / "index.html").read_text()
    assert "diverged" in page
    again = done(*words(file, faces, tmp_path / "out"))
    assert "bad is not finished: it diverged" in again.err


def test_a_run_that_another_process_trains_is_left_to_it(
    finished: tuple[Path, Path, dict[str, Any]], faces: Path
) -> None:
    from animegen_cli.train.folder import lock

    _, out, _ = finished
    about = out / "runs" / "vae" / "run.json"
    whole = about.read_text()
    about.write_text(json.dumps(json.loads(whole) | {"state": "running"}))
    try:
        with lock(Run(out / "runs" / "vae")):
            answer = done(*words(out / "study.yaml", faces, out))
    finally:
        about.write_text(whole)
    assert "vae is not finished: another process trains it" in answer.err


# ---- bad input ------------------------------------------------------------------------------------------------


def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path: Path) -> None:
    file = written(tmp_path, scores={"repeat": 3})
    with pytest.raises(ConfigError, match=r"tiny\.yaml:\d+: unknown key `repeat` in `scores`") as caught:
        study.load(file)
    assert "repeats" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="`title` is missing"):
        study.load(written(tmp_path, title=None))
    with pytest.raises(ConfigError, match="is a time"):
        study.load(written(tmp_path, runs={"a": member("vae", "10 min")}))
    with pytest.raises(ConfigError, match="is no time"):
        study.load(written(tmp_path, budget="10k images"))
    with pytest.raises(UsageError, match="plots name runs that it does not have: nobody"):
        study.load(written(tmp_path, plots=[{"x": "fd", "y": "kid", "runs": ["nobody"]}]))
    with pytest.raises(UsageError, match="cannot name a run"):
        study.load(written(tmp_path, runs={"../vae": member("vae")}, plots=None))


def test_refusals(faces: Path, tmp_path: Path, finished: tuple[Path, Path, dict[str, Any]]) -> None:
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
    other = written(tmp_path, runs={"vae": member("vae", "128 images"), "ddim": member("ddim")})
    assert "other runs" in refused(2, *words(other, faces, out))


def test_another_data_set_is_refused(
    finished: tuple[Path, Path, dict[str, Any]], two_domains: Path, tmp_path: Path
) -> None:
    _, out, _ = finished
    assert "other data" in refused(2, *words(out / "study.yaml", two_domains, out))
    assert "other pictures" in refused(3, *words(out / "study.yaml", two_domains, tmp_path / "new"))


def test_amounts_of_a_resolved_study_are_images(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, _ = finished
    assert {Amount.parse(str(m.duration)).unit for m in study.load(out / "study.yaml").runs.values()} == {"images"}


def test_here_is_quiet_with_json(finished: tuple[Path, Path, dict[str, Any]], faces: Path) -> None:
    file, out, _ = finished
    answer = here(*words(file, faces, out, "--json"))
    json.loads(answer.out)
