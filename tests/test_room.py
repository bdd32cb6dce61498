"""A disk that is too full is named before the first step: how much a run will write, and what is refused or warned of."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from chain import done, here, newest, train_words

from animegen_cli.model import checkpoint, families
from animegen_cli.paths import Run
from animegen_cli.sample.trained import build_config, spec_from_dict
from animegen_cli.train import room

if TYPE_CHECKING:
    from pathlib import Path


def needs_of(folder: Path) -> room.Needs:
    """The estimate from the networks as a training builds them."""
    _, about = checkpoint.load_weights(Run(folder).weights)
    config = build_config(about["config"])
    return room.needs(families.load(config.family)(config.model, spec_from_dict(about["data"])))


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """A disk with so many bytes free, where the training asks; the real one is not filled."""
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage._replace(free=free))  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def small(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained run of families with one phase, with two, and with a second optimizer beside Adam."""
    root = tmp_path_factory.mktemp("room")
    for family in ("ddim", "gan", "stylegan2"):
        done(*train_words(family, faces, root / family, duration="64 images"))
    return {family: root / family for family in ("ddim", "gan", "stylegan2")}


@pytest.mark.parametrize("family", ["ddim", "gan", "stylegan2"])
def test_the_estimate_is_what_the_files_hold(family: str, small: dict[str, Path]) -> None:
    folder = small[family]
    state, _ = checkpoint.load_state(Run(folder).states()[-1])
    written = sum(tensor.nbytes for part in state.values() for tensor in part.values())
    weights = sum(tensor.nbytes for tensor in checkpoint.load_weights(Run(folder).weights)[0].values())
    found = needs_of(folder)
    assert found.state == pytest.approx(written, rel=0.15)
    assert found.weights == pytest.approx(weights, rel=0.15)


def test_a_training_whose_first_state_does_not_fit_is_refused_before_its_first_step(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, 1000)
    answer = here(*train_words("ddim", faces, tmp_path / "run", duration="64 images"))
    assert answer.code == 5
    assert "the first state to save needs about" in answer.err
    assert "animegen runs du" in answer.err
    assert not (tmp_path / "run").exists(), "nothing was begun"


def test_one_that_keeps_more_states_than_fit_is_warned_and_trains(
    small: dict[str, Path], faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = needs_of(small["ddim"])
    words = train_words("ddim", faces, tmp_path / "run", duration="64 images")
    with_free(monkeypatch, 3 * needs.state + 2 * needs.weights)
    assert "are free on the disk" not in done(*words).err, "two states and the one that is being written"
    shutil.rmtree(tmp_path / "run")
    with_free(monkeypatch, 2 * needs.state + 2 * needs.weights)
    answer = done(*words)
    assert "`--keep 1` keeps fewer states" in answer.err
    assert newest(tmp_path / "run") == 64
    shutil.rmtree(tmp_path / "run")
    answer = done(*words, "--keep", "1")
    assert "are free on the disk" not in answer.err


def test_a_run_that_goes_on_needs_room_for_what_is_not_there_yet(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = train_words("ddim", faces, tmp_path / "run", duration="256 images")
    done(*words)
    needs = needs_of(tmp_path / "run")
    with_free(monkeypatch, needs.state + needs.weights)
    longer = train_words("ddim", faces, tmp_path / "run", duration="320 images")
    assert "are free on the disk" not in done(*longer, "--resume", tmp_path / "run").err
