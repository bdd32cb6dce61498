"""The conclusion on top of a comparison: who is best, who is not told apart, what it costs, what speaks against it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import fake_runs
import pytest
import yaml
from fake_runs import score

from animegen_cli.compare import compare
from animegen_cli.report import conclusion

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.paths import Run
    from animegen_cli.report.columns import Comparison

COUNTS = {"n_fake": 50_000, "n_real": 14_000}


def compared(root: Path, values: dict[str, list[dict[str, Any]] | None], **options: Any) -> Comparison:
    """Runs of one setting with these scores, compared."""
    return compare.compare([fake_runs.make(root, name, scores=scores, **options) for name, scores in values.items()])


def text(found: Comparison) -> str:
    return " ".join(conclusion.words(found)).replace("<b>", "").replace("</b>", "").replace("\N{NO-BREAK SPACE}", " ")


def fd(value: float, std: float | None = 0.5, **fields: Any) -> dict[str, Any]:
    return score("fd-faces", value, std=std, **COUNTS, **fields)


def test_the_best_its_rivals_and_the_rest_are_told_from_the_cells(tmp_path: Path) -> None:
    found = compared(tmp_path, {"a": [fd(12.6)], "b": [fd(12.0)], "c": [fd(30.0)]})
    said = text(found)
    assert "By fd-faces, the first of the scores here (lower is better), b is best with 12.00 ± 0.50." in said
    assert "Not significantly different: a. All others are significantly worse." in said
    table = conclusion.table(found)
    assert table is not None
    (row,) = table.rows
    assert [cell.value for cell in row[:4]] == ["fd-faces", "b", 12.0, ["a"]]


def test_without_uncertainty_nothing_is_called_significant(tmp_path: Path) -> None:
    found = compared(tmp_path, {"a": [fd(12.0, std=None)], "b": [fd(30.0, std=None)]})
    assert "not known" in text(found)
    assert "significantly worse" not in text(found)
    table = conclusion.table(found)
    assert table is not None
    assert table.rows[0][3].text == "not known"
    assert any("No uncertainty is known of fd-faces" in doubt for doubt in conclusion.doubts(found))


def test_runs_are_counted_over_the_main_scores_and_only_ranked_ones_are_main(tmp_path: Path) -> None:
    def scores(distance: float, recall: float) -> list[dict[str, Any]]:
        return [
            score("novel-faces", 1.0, **COUNTS),
            score("recall-faces", recall, std=0.01, **COUNTS),
            score("kid-faces", distance / 100, std=0.001, **COUNTS),
            fd(distance),
            score("brightness", distance / 10, std=0.01, extractor="", **COUNTS),
        ]

    found = compared(tmp_path, {"a": scores(12.0, 0.3), "b": scores(20.0, 0.5), "c": scores(25.0, 0.1)})
    assert [m.name for m in found.main()] == ["fd-faces", "kid-faces", "recall-faces"]
    assert "Of the 3 main scores, a is best, or not significantly worse than the best, by 2, b by 1, c by none." in (
        text(found)
    )


def test_a_score_that_one_run_alone_has_decides_nothing(tmp_path: Path) -> None:
    found = compared(tmp_path, {"a": [fd(12.0), score("mse", 0.1, extractor="")], "b": [fd(20.0)]})
    assert [m.name for m in found.main()] == ["fd-faces"]
    alone = compared(tmp_path / "alone", {"a": [fd(12.0)], "b": None})
    assert "no verdict yet" in text(alone)
    assert conclusion.table(alone) is None
    assert "no run has scores" in text(compared(tmp_path / "bare", {"a": None}))


def test_the_cheaper_of_equals_is_named(tmp_path: Path) -> None:
    a = fake_runs.make(tmp_path, "a", scores=[fd(12.0)], seconds=7200, seen={"drawing": {"seconds_per_100": 30.0}})
    b = fake_runs.make(tmp_path, "b", scores=[fd(12.1)], seconds=600, seen={"drawing": {"seconds_per_100": 2.0}})
    c = fake_runs.make(tmp_path, "c", scores=[fd(90.0)], seconds=60, seen={"drawing": {"seconds_per_100": 0.1}})
    said = text(compare.compare([a, b, c]))
    assert "a took 2 h to train, needs 30 s for 100 faces and has 35.75M parameters." in said
    assert "b is the quickest to train (10 min)" in said
    assert "b is the quickest to draw (2 s)" in said
    assert "c is" not in said


@pytest.fixture
def doubtful(tmp_path: Path) -> list[Run]:
    """Two runs about which everything is doubtful."""
    finding = {"name": "mode collapse", "since": 1000, "says": "all alike", "flag": "--set optim.D.lr=1e-4"}
    a = fake_runs.make(
        tmp_path, "a", scores=[score("fd-faces", 20.0, std=1.0), score("fd-faces", 9.0, size=32)], seconds=60,
        state="stopped", images=120_000, about={"findings": [finding]},
    )  # fmt: skip
    b = fake_runs.make(tmp_path, "b", scores=[score("fd-faces", 12.0, std=1.0)], dataset="flowers", size=32)
    config = yaml.safe_load(b.config.read_text())
    b.config.write_text(yaml.safe_dump(config | {"warning": "its <weights> are as printed"}))
    return [a, b, fake_runs.make(tmp_path, "c", weights=False, images=3200, state="running")]


def test_what_speaks_against_it_is_said(doubtful: list[Run]) -> None:
    said = "\n".join(conclusion.doubts(compare.compare(doubtful)))
    for doubt in (
        "a: mode collapse since 1,000 images: all alike. Change: --set optim.D.lr=1e-4",
        "The runs learned from different data sets",
        "The runs draw at different sizes",
        "a was scored at 500k images and has seen 120k by now",
        "b: its <weights> are as printed",
        "Not trained to the end: a (stopped at 24%), c (running at 1%).",
        "Not scored: c.",
        "a, b: scored with as few as 1,000 images on one side",
        "Not to be set beside published FIDs, which look through Inception: fd-faces",
        "compared only within a column: fd-faces",
        "One range of seeds: every score from a single draw",
        "One training seed: every setting was trained once",
        "Not at equal cost: training took from 60 s (a) to 56.7 min (b)",
    ):
        assert doubt in said


def test_sound_runs_raise_no_doubts(tmp_path: Path) -> None:
    def scored(value: float) -> list[dict[str, Any]]:
        entry = score("fid", value, std=0.1, **COUNTS)
        return [entry | {"values": [value - 0.1, value, value + 0.1]}]

    runs = []
    for seed, value in enumerate((12.0, 12.1)):
        run = fake_runs.make(tmp_path, f"run{seed}", scores=scored(value))
        config = yaml.safe_load(run.config.read_text())
        config["train"]["seed"] = seed
        run.config.write_text(yaml.safe_dump(config))
        runs.append(run)
    assert conclusion.doubts(compare.compare(runs)) == []


def test_the_page_opens_with_the_conclusion_and_its_files_hold_it(doubtful: list[Run], tmp_path: Path) -> None:
    files = compare.write(compare.compare(doubtful), tmp_path / "out")
    page = files["page"].read_text(encoding="utf-8")
    assert page.index("<h2>Verdict</h2>") < page.index("<h2>Quality</h2>")
    assert page.count("<h2>") == page.count("<section")
    assert "its &lt;weights&gt; are as printed" in page
    value = json.loads((files["tables"] / "verdict.json").read_text())
    assert value["rows"][0]["values"]["best"] == "b"
