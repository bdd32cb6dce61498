"""`animegen train --budget`: time turned into images once, and spent on the family that makes the best of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from chain import SHORT, TINY, done, refused, sets

from animegen_cli import paths
from animegen_cli.paths import Run
from animegen_cli.train import budget

if TYPE_CHECKING:
    from pathlib import Path


def words(faces: Path, out: Path, *more: str, family: str = "vae") -> list[str | Path]:
    return ["train", family, "--preset", "smoke", "--data", faces, "--out", out, "--device", "cpu",
            *sets(*TINY[family], *SHORT), *more]  # fmt: skip


@pytest.fixture
def rate(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The speed that is measured, in the place of fifteen seconds of training."""
    found = {"images_per_second": 20.0}
    monkeypatch.setattr(budget, "images_per_second", lambda _: found["images_per_second"])
    return found


def test_a_budget_becomes_whole_steps(rate: dict[str, float], faces: Path, tmp_path: Path) -> None:
    answer = done(*words(faces, tmp_path / "run", "--budget", "1 s"))
    assert "budget: 16 images" in answer.err
    assert Run(tmp_path / "run").about["images"] == 16


def test_a_budget_for_too_few_images_says_what_faces_take(rate: dict[str, float], faces: Path, tmp_path: Path) -> None:
    assert (
        '`--budget "17 min"`' in done(*words(faces, tmp_path / "run", "--budget", "1 s")).err
    )  # 20,000 at 20 a second
    rate["images_per_second"] = 1e6
    assert "expect noise" not in done(*words(faces, tmp_path / "long", "--budget", "1 s", "--dry-run")).err


def test_typed_again_it_keeps_what_was_measured_first(rate: dict[str, float], faces: Path, tmp_path: Path) -> None:
    typed = words(faces, tmp_path / "run", "--budget", "2 s", "--set", "optim.model.schedule=cosine")
    done(*typed)
    rate["images_per_second"] = 2.0
    assert "going on at 40 images" in done(*typed).err


def test_without_a_family_the_best_row_of_the_longest_budget_within_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"budget": "1 h", "family": "slow", "preset": "fast"},
        {"budget": "10 min", "family": "quick", "preset": "fast"},
    ]
    (tmp_path / "budgets.yaml").write_text(yaml.safe_dump({"best": rows}))
    monkeypatch.setattr(paths, "presets_folder", lambda: tmp_path)
    chosen = [budget.best(seconds).family for seconds in (60, 600, 3599, 3600, 100_000)]
    assert chosen == ["quick", "quick", "quick", "slow", "slow"]


def test_the_shipped_table_names_presets_that_exist(rate: dict[str, float], faces: Path, tmp_path: Path) -> None:
    for seconds in (1, 12 * 60, 10**6):
        choice = budget.best(seconds)
        assert choice.preset in paths.presets(choice.family)
    family = budget.best(1).family
    line = ["train", "--data", faces, "--out", tmp_path / "run", "--device", "cpu", "--budget", "1 s", "--batch", "8"]
    answer = done(*line, *sets(*TINY[family], *SHORT))
    assert f"family: {family}/" in answer.err
    assert Run(tmp_path / "run").about["family"] == family


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--budget", "soon"), "is not an amount"),
        (("--budget", "20 epochs"), "is no time"),
        (("--budget", "0 min"), "is no time"),
        (("--budget", "1 min", "--duration", "8 images"), "leave one of them out"),
        (("--budget", "1 min", "--nproc", "2"), "in one process"),
        (("--budget", "1 min", "--seeds", "0-1"), "are a study"),
        (("--budget", "1 min", "--set", "optim.model.lr=1e-3,1e-4"), "are a study"),
        (("--budget", "1 min", "--slurm", "time=10"), "is no budget"),
        (("--budget", "1 min", "--resume", "somewhere"), "has its duration already"),
    ],
)
def test_what_a_budget_cannot_be(more: tuple[str, ...], says: str, faces: Path, tmp_path: Path) -> None:
    assert says in refused(2, *words(faces, tmp_path / "run", *more))
    assert not (tmp_path / "run").exists()
