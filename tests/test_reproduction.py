"""`animegen reproduce`: the same run again, what it says of it, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from chain import assert_same_tensors, done, refused, train_words

from animegen_cli import disk
from animegen_cli.compare import reproduce
from animegen_cli.compare.reproduce import Pair
from animegen_cli.model import checkpoint
from animegen_cli.paths import Run
from animegen_cli.report import records
from animegen_cli.report.records import Score


@pytest.fixture(scope="module")
def scored(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with scores of features, of pixels and of likelihood."""
    run = tmp_path_factory.mktemp("runs") / "first"
    done(*train_words("vae", faces, run, duration="128 images"))
    words = ["--metrics", "fd,kid,mse,bpd", "--split", "test", "--extractor", "faces", "--device", "cpu"]
    done("eval", run, "--n", "12", "--repeats", "2", *words)
    return run


@pytest.fixture
def first(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored, tmp_path / "first"))


def test_the_same_machine_gives_the_same_run(first: Path) -> None:
    found = json.loads(done("reproduce", first, "--device", "cpu", "--json").out)
    again = first.with_name("first-again")
    assert found["again"] == str(again)
    assert found["same_weights"]
    assert found["agrees"]
    assert {score["name"] for score in found["scores"]} == {"fd-faces", "kid-faces", "mse", "bpd-elbo"}
    assert all(score["first"] == score["again"] for score in found["scores"])
    assert_same_tensors(*(checkpoint.load_weights(Run(path).weights)[0] for path in (first, again)))
    said = done("reproduce", first, "--device", "cpu")
    assert "reproduced bit for bit" in said.out
    assert "going on" not in said.err, "what was trained is not trained again"


def test_scores_that_differ_by_more_than_chance_are_named(first: Path) -> None:
    said = disk.unsealed(json.loads((first / "eval.json").read_text()))
    for score in said["scores"]:
        if score["name"] == "mse":
            score["value"] += 20 * score["std"]
    (first / "eval.json").write_text(json.dumps(said))
    answer = done("reproduce", first, "--device", "cpu")
    assert "not reproduced: mse differ" in answer.out
    assert not json.loads(done("reproduce", first, "--device", "cpu", "--json").out)["agrees"]


def score(value: float, std: float | None, interval: tuple[float, float] | None = None) -> Score:
    return Score("fd-faces", value, std, interval, {}, "id", 0)


@pytest.mark.parametrize(
    ("one", "other", "agrees"),
    [
        (score(10.0, 0.3), score(10.9, 0.4), True),  # the errors make 0.5, 1.96 of them 0.98
        (score(10.0, 0.3), score(11.0, 0.4), False),
        (score(10.0, None, (9.02, 10.98)), score(10.9, None), True),  # an interval of 1.96 errors of 0.5
        (score(10.0, None), score(10.0, None), True),
        (score(10.0, None), score(10.1, None), False),
    ],
)
def test_what_agrees(one: Score, other: Score, agrees: bool) -> None:
    assert Pair("fd-faces", one, other).agrees is agrees


def test_a_stopped_repetition_goes_on(first: Path, faces: Path) -> None:
    again = first.with_name("elsewhere")
    shutil.copytree(first, again)
    (again / "eval.json").unlink()
    about = disk.unsealed(json.loads((again / "run.json").read_text()))
    (again / "run.json").write_text(json.dumps(about | {"state": "stopped"}))
    answer = done("reproduce", first, "--out", again, "--device", "cpu")
    assert "going on at 128 images" in answer.err
    assert "reproduced" in answer.out


def test_other_versions_are_said(first: Path) -> None:
    about = disk.unsealed(json.loads((first / "run.json").read_text()))
    about["versions"]["torch"] = "1.0"
    (first / "run.json").write_text(json.dumps(about))
    assert "not as it was: torch 1.0 -> " in done("reproduce", first, "--device", "cpu").err


def test_a_run_without_scores_is_compared_by_its_weights(first: Path) -> None:
    (first / "eval.json").unlink()
    assert "reproduced bit for bit" in done("reproduce", first, "--device", "cpu").out
    assert reproduce._requests(records.read(Run(first))) == []


def test_refusals(first: Path, two_domains: Path, tmp_path: Path) -> None:
    assert "does not hold the pictures" in refused(3, "reproduce", first, "--data", two_domains)
    assert "is gone" in refused(3, "reproduce", first, "--data", tmp_path / "gone.zip")
    assert "into itself" in refused(2, "reproduce", first, "--out", first)
    about = disk.unsealed(json.loads((first / "run.json").read_text()))
    (first / "run.json").write_text(json.dumps(about | {"state": "stopped"}))
    assert "only a finished run" in refused(3, "reproduce", first)
    (first / "run.json").write_text(json.dumps(about))
    (first / "config.yaml").unlink()
    assert "has no config.yaml" in refused(3, "reproduce", first)
