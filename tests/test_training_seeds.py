"""Runs that differ by their training seed alone, side by side with others: means, errors, marks, sentences, files."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import fake_runs
import pytest
import yaml
from fake_runs import draw, score

from animegen_cli.compare import compare as comparison
from animegen_cli.report import conclusion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from animegen_cli.paths import Run
    from animegen_cli.report.columns import Comparison

COUNTS = {"n_fake": 50_000, "n_real": 14_000}


def seeded(root: Path, name: str, seed: int, value: float, *, std: float | None = 0.5, **options: Any) -> Run:
    """A finished run of this seed whose distance is `value`; `lr` sets it apart from the runs of another setting."""
    run = fake_runs.make(root, name, scores=[score("fd-faces", value, std=std, **COUNTS)], **options)
    config = yaml.safe_load(run.config.read_text())
    config["train"]["seed"] = seed
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Two settings with three seeds each, and one of a single seed."""
    values = {"a": (20.0, 22.0, 24.0), "b": (40.0, 41.0, 42.0)}
    made = [
        seeded(tmp_path, f"{name}-seed{seed}", seed, value, lr=1e-4 if name == "a" else 1e-3, seconds=600.0 + 60 * seed)
        for name, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    ]
    return [*made, seeded(tmp_path, "c", 0, 21.0, lr=1e-2)]


def rows(found: Comparison) -> list[dict[str, Any]]:
    return [row["values"] for row in comparison.as_json(found)["quality"]["rows"]]


def text(found: Comparison) -> str:
    said = " ".join([conclusion.sentence(found), *conclusion.details(found)]).replace("<b>", "").replace("</b>", "")
    return said.replace("\N{NO-BREAK SPACE}", " ")


def test_runs_that_differ_by_their_seed_are_one_row_and_stand_one_by_one_below(runs: list[Run]) -> None:
    found = comparison.compare(runs)
    assert [(row["run"], row["seeds"], row["fd-faces"]) for row in rows(found)] == [
        ("a", [0, 1, 2], 22.0),
        ("b", [0, 1, 2], 41.0),
        ("c", [0], 21.0),
    ]
    assert found.training_names == ("a, seed 0", "a, seed 1", "a, seed 2", "b, seed 0", "b, seed 1", "b, seed 2", "c")
    assert found.seeds is not None
    of_a = [(row[0].value, row[1].value, row[4].text) for row in found.seeds.rows[:4]]
    assert of_a == [
        ("a", "mean", "22.0 [17.0, 27.0]"),  # 2 / sqrt(3) is the error of the mean, 4.303 times that the interval
        ("a", 0, "20.00 ± 0.50"),
        ("a", 1, "22.00 ± 0.50"),
        ("a", 2, "24.00 ± 0.50"),
    ]
    times = {row[0].value: row[6].value for row in found.cost.rows}
    assert times == {"a": 660.0, "b": 660.0, "c": 3400.0}
    assert len(comparison.compare(runs, join=False).records) == 7


def test_the_order_of_the_runs_stays_and_a_row_stands_where_its_first_training_does(runs: list[Run]) -> None:
    assert comparison.compare([runs[6], runs[4], runs[0], runs[3], runs[1]]).names == ("c", "b", "a")
    assert comparison.compare(runs, sort="fd-faces").names == ("c", "a", "b")


@pytest.mark.parametrize("change", [{"images": 300_000}, {"dataset": "flowers"}, {"family": "ddim"}])
def test_what_differs_by_more_than_its_seed_is_not_joined(change: dict[str, Any], tmp_path: Path) -> None:
    first, other = seeded(tmp_path, "a", 0, 20.0), seeded(tmp_path, "b", 1, 22.0, **change)
    if "images" in change:
        config = yaml.safe_load(other.config.read_text())
        config["train"]["duration"] = "300k images"
        other.config.write_text(yaml.safe_dump(config))
    assert comparison.compare([first, other]).names == ("a", "b")


def test_the_same_seed_twice_is_no_second_seed(tmp_path: Path) -> None:
    again = [seeded(tmp_path, name, seed, 20.0) for name, seed in (("a", 0), ("a-again", 0), ("b", 1))]
    assert comparison.compare(again).names == ("a", "a-again", "b")


def test_a_training_that_is_not_at_its_end_is_in_no_mean_and_is_named(tmp_path: Path) -> None:
    whole = [seeded(tmp_path, f"a,seed={seed}", seed, value) for seed, value in enumerate((20.0, 24.0))]
    half = seeded(tmp_path, "a,seed=2", 2, 99.0, images=120_000, state="stopped")
    found = comparison.compare([*whole, half])
    assert [(row["run"], row["fd-faces"]) for row in rows(found)] == [("a", 22.0)]
    doubts = "\n".join(conclusion.doubts(found))
    assert "Not trained to the end: a (2 of 3 finished)." in doubts
    assert "a, seed 2 was scored at 500k images and has seen 120k" in doubts


def test_sentences_compare_means_with_the_error_over_trainings(tmp_path: Path) -> None:
    def two(values: Sequence[tuple[float, float, float]], root: Path) -> Comparison:
        made = [
            seeded(root, f"{name}-seed{seed}", seed, value, std=0.1, lr=lr)
            for (name, lr), of_seeds in zip((("a", 1e-4), ("b", 1e-3)), values, strict=True)
            for seed, value in enumerate(of_seeds)
        ]
        return comparison.compare(made)

    apart = two([(20.0, 21.0, 22.0), (30.0, 31.0, 32.0)], tmp_path / "apart")
    assert "Choose a. fd-faces 21.00 ± 0.58; b is significantly worse." in text(apart)
    assert "means of up to 3 training seeds" in text(apart)
    near = two([(20.0, 21.0, 22.0), (20.0, 24.0, 28.0)], tmp_path / "near")
    assert "Choose a or b." in text(near), "each training alone is known to 0.1, the means to 0.6 and 2.3"
    doubts = "\n".join(conclusion.doubts(near))
    assert "One training seed" not in doubts
    assert "One range of seeds" not in doubts, "each training was drawn from once, and they are several"


def test_tables_and_page_have_the_means_and_each_training(runs: list[Run], tmp_path: Path) -> None:
    found = comparison.compare(runs)
    drawn = comparison.same_seeds(found, range(4), draw)
    assert len(drawn.rows) == 7
    files = comparison.write(found, tmp_path / "out", drawn=drawn)
    with files["csv"].open() as file:
        lines = [line for line in csv.DictReader(file) if line["table"] in ("Measured", "Each training seed")]
    assert [(line["run"], line["seed"], line["fd-faces"]) for line in lines] == [
        ("a", "", "22.0"), ("b", "", "41.0"), ("c", "", "21.0"),
        ("a", "mean", "22.0"), ("a", "0", "20.0"), ("a", "1", "22.0"), ("a", "2", "24.0"),
        ("b", "mean", "41.0"), ("b", "0", "40.0"), ("b", "1", "41.0"), ("b", "2", "42.0"),
    ]  # fmt: skip
    of_a, of_b = json.loads(files["json"].read_text())["means"]
    assert (of_a["run"], of_a["mean"], of_a["trainings"], of_a["freedom"]) == ("a", 22.0, [20.0, 22.0, 24.0], 2)
    assert of_a["std"] == pytest.approx(2 / 3**0.5)
    assert of_a["interval"] == pytest.approx([22 - 4.3027 * 2 / 3**0.5, 22 + 4.3027 * 2 / 3**0.5], rel=1e-4)
    assert of_b["run"] == "b"
    page = files["page"].read_text()
    assert "7 trainings with different seeds" in page
    assert (
        "bar: 95 % interval, or ± where that is not known, over 3 trainings each (of one training: over 50,000 drawn images)"
        in page
    )
    for summary in ("Each training seed", "The same seeds from every training"):
        assert f"<details><summary>{summary}</summary>" in page
    assert (
        page.index("3 training seeds") < page.index("The same seeds from every training") < page.index(">a, seed 1</p>")
    )
    assert "a-seed2" in page.split("How to reproduce")[-1]
    assert "Each training seed" in files["markdown"].read_text()


def test_a_comparison_without_several_seeds_says_nothing_of_them(tmp_path: Path) -> None:
    found = comparison.compare([seeded(tmp_path, "a", 0, 20.0), seeded(tmp_path, "b", 0, 22.0, lr=1e-3)])
    assert found.seeds is None
    assert "seeds" not in rows(found)[0]
    assert "means" not in comparison.as_json(found)
