"""Files of an earlier version still open: a data set, a study and its one run, made before the modules moved.

`data/old-run` holds what commit 0d11e7e made: a data set of 40 drawn faces (`faces.zip`), a study with one tiny diffusion
model of 64 images (`study/`), which uses keys that have other names by now, and under `expected/` what that version drew
from it and trained it on to (128 images). Other processors and versions of torch round otherwise, so pictures and weights
are compared by tolerances that another noise, order of the images or schedule would exceed by far.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from chain import done, log_of, newest
from PIL import Image

from animegen_cli import disk
from animegen_cli.data.dataset import FaceSet
from animegen_cli.model import checkpoint
from animegen_cli.paths import Run

if TYPE_CHECKING:
    import torch

STORED = Path(__file__).parent / "data" / "old-run"
EXPECTED = STORED / "expected"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the folder; its run is `study/runs/old`."""
    return Path(shutil.copytree(STORED, tmp_path / "old"))


@pytest.fixture
def run(old: Path) -> Path:
    return old / "study" / "runs" / "old"


def test_its_data_set_opens_with_the_same_identity_and_labels() -> None:
    faces = FaceSet.open(STORED / "faces.zip")
    about = disk.unsealed(json.loads((STORED / "study" / "runs" / "old" / "run.json").read_text()))["data"]
    assert faces.identity == about["identity"]
    assert {name: list(values) for name, values in faces.attributes.items()} == about["attributes"]
    assert (len(faces.indices("train")), faces.size) == (about["count"], about["size"])


def test_it_goes_on_training_as_its_own_version_did(old: Path, run: Path) -> None:
    before, _ = checkpoint.load_weights(Run(run).weights)
    done("train", "--resume", run, "--duration", "128 images", "--device", "cpu", cwd=old)
    assert newest(run) == 128
    assert Run(run).finished
    ours, about = checkpoint.load_weights(Run(run).weights)
    theirs, _ = checkpoint.load_weights(EXPECTED / "weights.safetensors")
    assert about["images"] == 128
    assert ours.keys() == theirs.keys()
    assert distance(ours, theirs) < 0.01 * distance(ours, before)
    lines = log_of(run)
    expected = log_of(EXPECTED)
    assert [line.keys() for line in lines] == [line.keys() for line in expected]
    assert [line["images"] for line in lines] == [line["images"] for line in expected]
    assert [line["model/mse"] for line in lines] == pytest.approx([line["model/mse"] for line in expected], rel=1e-3)


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Root of the summed squares of all differences."""
    return sum(float((tensor - second[name]).double().square().sum()) for name, tensor in first.items()) ** 0.5


def test_it_draws_what_its_own_version_drew(old: Path, run: Path) -> None:
    done("sample", run, "--seeds", "0-3", "--device", "cpu", "--precision", "fp32", "--out", old / "drawn")
    for seed in range(4):
        ours, theirs = (
            np.asarray(Image.open(folder / "seeds" / f"{seed:06d}.png"), dtype=float)
            for folder in (old / "drawn", EXPECTED)
        )
        assert np.abs(ours - theirs).max() <= 2, "gray levels"
        assert theirs.std() > 20


def test_its_study_opens_and_trains_nothing_again(old: Path, run: Path) -> None:
    weights = (run / "weights.safetensors").read_bytes()
    words = ["compare", "--study", "study/study.yaml", "--data", "faces.zip", "--out", "study", "--device", "cpu"]
    assert "heun" in done(*words, "--dry-run", cwd=old).out
    done(*words, cwd=old)
    assert (run / "weights.safetensors").read_bytes() == weights
    assert "One old run" in (old / "study" / "comparison" / "index.html").read_text()


def test_its_scores_are_those_that_a_new_measurement_finds(old: Path, run: Path) -> None:
    (before,) = disk.unsealed(json.loads((run / "eval.json").read_text()))["scores"]
    words = ["--n", "8", "--repeats", "1", "--against", "faces.zip", "--split", "test", "--device", "cpu"]
    done("eval", run, *words, "--metrics", "kid,fd", cwd=old)
    after = {score["name"]: score for score in disk.unsealed(json.loads((run / "eval.json").read_text()))["scores"]}
    assert after.keys() == {"kid-faces", "fd-faces"}
    assert after["kid-faces"]["protocol"] == before["protocol"]
    assert after["kid-faces"]["value"] == pytest.approx(before["value"], rel=0.05)
    done("compare", run, "--out", "comparison", "--device", "cpu", cwd=old)
    table = json.loads((old / "comparison" / "table.json").read_text())
    assert "old" in json.dumps(table)
