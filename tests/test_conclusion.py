"""The conclusion on top of a comparison: who is best, who is not told apart, what it costs, what speaks against it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fake_runs
import numpy as np
import pytest
import yaml
from fake_runs import score

from animegen_cli.compare import compare
from animegen_cli.report import boards, conclusion
from animegen_cli.report.columns import Budget

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.paths import Run
    from animegen_cli.report.columns import Comparison

COUNTS = {"n_fake": 50_000, "n_real": 14_000}


def compared(root: Path, values: dict[str, list[dict[str, Any]] | None], **options: Any) -> Comparison:
    """Runs of one setting with these scores, compared."""
    return compare.compare([fake_runs.make(root, name, scores=scores, **options) for name, scores in values.items()])


def text(found: Comparison) -> str:
    said = " ".join([conclusion.sentence(found), *conclusion.details(found)])
    return said.replace("<b>", "").replace("</b>", "").replace("\N{NO-BREAK SPACE}", " ")


def fd(value: float, std: float | None = 0.5, **fields: Any) -> dict[str, Any]:
    return score("fd-faces", value, std=std, **COUNTS, **fields)


def test_the_best_its_rivals_and_the_rest_are_told_from_the_cells(tmp_path: Path) -> None:
    found = compared(tmp_path, {"a": [fd(12.6)], "b": [fd(12.0)], "c": [fd(30.0)]})
    said = text(found)
    assert "Choose b or a. fd-faces 12.00 ± 0.50 and 12.60 ± 0.50 are not significantly different; c is" in said
    assert "Decided by fd-faces, the first of the scores here (lower is better)." in said
    table = conclusion.table(found)
    assert table is not None
    (row,) = table.rows
    assert [cell.value for cell in row[:4]] == ["fd-faces", "b", 12.0, ["a"]]


def test_runs_without_the_score_are_not_called_worse(tmp_path: Path) -> None:
    found = compared(tmp_path, {"a": [fd(12.0)], "b": [fd(30.0)], "c": [fd(40.0)], "d": []})
    assert "every other that has this score is significantly worse." in text(found)


def test_two_ways_to_draw_of_one_run_are_no_verdict_on_the_others(tmp_path: Path) -> None:
    ways = [fd(12.0, sampling="ddim, 10 steps"), fd(30.0, sampling="ddim, 5 steps")]
    found = compared(tmp_path, {"a": ways, "b": []})
    assert text(found) == "No verdict yet: no two runs have a score of one protocol."
    assert text(compared(tmp_path / "alone", {"a": ways})).startswith("Choose a")


@pytest.mark.parametrize(
    ("worse", "said"),
    [
        ([30.0], "Choose a. fd-faces 12.00 ± 0.50; b is significantly worse."),
        ([30.0, 40.0], "Choose a. fd-faces 12.00 ± 0.50; every other is significantly worse."),
        ([12.1], "Choose a or b. fd-faces 12.00 ± 0.50 and 12.10 ± 0.50 are not significantly different."),
    ],
)
def test_one_sentence_says_which_to_choose(tmp_path: Path, worse: list[float], said: str) -> None:
    found = compared(tmp_path, dict(zip("abc", [[fd(12.0)], *([fd(value)] for value in worse)], strict=False)))
    assert text(found).startswith(said)


def test_a_best_run_whose_pictures_are_none_is_not_recommended(tmp_path: Path) -> None:
    found = compared(tmp_path, {"a": [fd(12.0)], "b": [fd(30.0)], "c": [fd(40.0)]})

    def draw(run: Run, seeds: Any) -> np.ndarray:
        if run.name == "a":
            return np.full((len(seeds), 64, 64, 3), 90, np.uint8)
        return fake_runs.draw(run, [0] * len(seeds) if run.name == "b" else seeds)

    flaws = boards.flaws_of(found, compare.same_seeds(found, range(4), draw))
    assert flaws == {0: ["blank images"], 1: ["mode collapse"]}
    assert conclusion.sentence(found, flaws).startswith("<b>a</b> scores best, ")
    assert "look before you choose it: blank images" in conclusion.sentence(found, flaws)
    assert "b: its faces above show mode collapse." in conclusion.doubts(found, flaws)


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
    assert "No verdict yet: no two runs have" in text(alone)
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
    assert "c is the" not in said


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


def test_costs_are_compared_in_processor_time_where_all_have_it(tmp_path: Path) -> None:
    def doubts_of(*processor: float | None, device: str = "cpu") -> str:
        root = tmp_path / "-".join(map(str, [*processor, device]))
        runs = [
            fake_runs.make(
                root,
                name,
                scores=[fd(12.0 + seconds)],
                seconds=seconds,
                about={"processor_seconds": worked, "device": device},
            )
            for name, seconds, worked in zip("ab", (600.0, 2400.0), processor, strict=True)
        ]
        return "\n".join(conclusion.doubts(compare.compare(runs)))

    assert "Not at equal cost" not in doubts_of(590.0, 610.0)  # the clock ran on while others worked
    assert "Not at equal cost: training took a processor time from 2 min (a) to 10 min (b)." in doubts_of(120.0, 600.0)
    for likes in (doubts_of(590.0, None), doubts_of(590.0, 610.0, device="NVIDIA H200")):
        assert "Not at equal cost: training took from 10 min (a) to 40 min (b)." in likes


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
    assert (
        page.index('class="verdict"') < page.index("What speaks against trusting this") < page.index("<h2>Scores</h2>")
    )
    assert page.count("<h2>") == page.count("<section")
    assert "its &lt;weights&gt; are as printed" in page
    value = json.loads((files["tables"] / "verdict.json").read_text())
    assert value["rows"][0]["values"]["best"] == "b"


def test_what_a_study_gave_each_run_stands_in_place_of_what_a_busy_clock_counted(tmp_path: Path) -> None:
    runs = [
        fake_runs.make(tmp_path, name, scores=[fd(value)], seconds=seconds)
        for name, value, seconds in (("a", 12.0, 1_140.0), ("b", 30.0, 6_660.0))
    ]
    alone = compare.compare(runs)
    assert "19 to 111 minutes each" in boards.facts(alone)
    assert "Not at equal cost: training took from 19 min (a) to 111 min (b)." in conclusion.doubts(alone)
    given = replace(alone, budget=Budget(720.0, cores=1))
    assert "12 core-minutes each" in boards.facts(given)
    assert not any("equal cost" in doubt for doubt in conclusion.doubts(given))
    costs = [row.cost for row in boards.board(given, None, {}).rows]
    assert all(costs)
    assert not any("min" in cost for row in costs for cost in row), "none of them counted the processor's time"
    assert "12 minutes each" in boards.facts(replace(alone, budget=Budget(720.0)))


def test_the_first_screen_says_what_its_intervals_are_of(tmp_path: Path) -> None:
    def said(found: Comparison) -> str:
        return boards.board(found, None, {}).errors

    assert said(compared(tmp_path / "a", {"a": [fd(12.0)]})) == "± and bar: standard error, over 50,000 drawn images"
    whole = {**fd(12.0), "interval": [11.0, 13.0], "values": [11.5, 12.5]}
    assert said(compared(tmp_path / "b", {"a": [whole]})) == (
        "±: standard error, bar: 95 % interval, over 2 × 50,000 drawn images"
    )
    mixed = said(compared(tmp_path / "c", {"a": [fd(12.0)], "b": [whole]}))
    assert "bar: 95 % interval, or ± where that is not known, over 50,000 drawn images" in mixed
    assert said(compared(tmp_path / "d", {"a": [fd(12.0, std=None)]})) == ""
    held_out = score("mse", 0.01, std=0.001, extractor="", seeds="", sampling="", n_real=500, n_fake=0)
    assert said(compared(tmp_path / "e", {"a": [held_out]})).endswith("over 500 held-out images")
