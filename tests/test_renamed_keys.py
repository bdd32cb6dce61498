"""Runs whose configs hold the earlier names of settings still open, draw and go on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from chain import assert_same_run, done, newest, train_words

from animegen_cli.errors import ConfigError
from animegen_cli.model import checkpoint
from animegen_cli.paths import Run
from animegen_cli.sample.trained import build_config, open_trained

if TYPE_CHECKING:
    from pathlib import Path

EARLIER = {("sample", "s_churn"): "churn", ("model", "time_embedding"): "waves"}
SETTINGS = ["--set", "sample.s_churn=2.5", "--set", "model.time_embedding=fourier", "--set", "train.log_every=1 steps"]


def earlier(values: dict[str, Any]) -> dict[str, Any]:
    """A config as it was written before keys were renamed, and before some came."""
    old = json.loads(json.dumps(values))
    for (section, now), before in EARLIER.items():
        old[section] = {before if key == now else key: value for key, value in old[section].items()}
    del old["model"]["predicts"], old["train"]["validate"]["kid75"]  # came later
    return old


def age(run: Run) -> None:
    """Rewrite every file of a run that holds its config: keys under their earlier names, those that came later left out."""
    run.config.write_text(yaml.safe_dump(earlier(yaml.safe_load(run.config.read_text())), sort_keys=False))
    tensors, about = checkpoint.load_weights(run.weights)
    checkpoint.save_weights(run.weights, tensors, about | {"config": earlier(about["config"])})
    for folder in run.states():
        parts, about = checkpoint.load_state(folder)
        files = {key: value for key, value in about.items() if key not in ("version", "animegen", "files")}
        checkpoint.save_state(folder, parts, files | {"config": earlier(about["config"])})


@pytest.fixture(scope="module")
def whole(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 128 images."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done(*train_words("sde", faces, out, *SETTINGS, duration="128 images"))
    return out


@pytest.fixture
def old(faces: Path, tmp_path: Path) -> Run:
    """The first half of the same run, as an earlier version left it."""
    run = Run(tmp_path / "old")
    done(*train_words("sde", faces, run.path, *SETTINGS, duration="64 images"))
    age(run)
    text = run.config.read_text()
    assert "churn: 2.5" in text
    assert "s_churn" not in text
    assert "waves: fourier" in text
    return run


def test_an_old_run_opens_and_draws(old: Run, tmp_path: Path) -> None:
    trained = open_trained(old, device=torch.device("cpu"), precision="fp32")
    assert (trained.config.sample.s_churn, trained.config.model.time_embedding) == (2.5, "fourier")
    done("sample", old.path, "--seeds", "0", "--out", tmp_path / "drawn", "--device", "cpu")


def test_an_old_run_goes_on_exactly(old: Run, whole: Path, faces: Path) -> None:
    assert newest(old.path) == 64
    done(*train_words("sde", faces, old.path, *SETTINGS, duration="128 images"))
    assert newest(old.path) == 128
    assert_same_run(whole, old.path)


def test_a_key_that_never_was_is_still_refused() -> None:
    with pytest.raises(ConfigError, match="chrun"):
        build_config({"family": "sde", "model": {}, "sample": {"chrun": 1.0}})
