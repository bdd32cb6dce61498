"""The leaderboard: its rows, the script that writes its tables from a finished study, and the page that they stand in."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fake_runs
import pytest
import yaml
from fake_runs import draw, score
from PIL import Image

from animegen_cli import disk, paths
from animegen_cli.compare import compare, study_file, study_plan

if TYPE_CHECKING:
    from animegen_cli.paths import Run

ROOT = Path(__file__).resolve().parent.parent
PLAN: dict[str, Any] = {
    "title": "Time to a face",
    "about": "Fakes.",
    "budget": "12 min",
    "cores": 1,
    "seeds": [0, 1, 2],
    "runs": {name: {"family": "gan", "preset": "fast", "duration": "500k images"} for name in ("gan", "vae", "late")},
    "scores": {"n": 1000, "repeats": 1},
}
PAGE = """# Board

Words.

<!-- table: 32 px, 12 min -->
Nothing yet.
<!-- end -->

<!-- table: 64 px, 45 min -->
<!-- end -->
"""


def add(study: Path, name: str, seed: int, distance: float, judges: tuple[str, ...] = ("faces", "squeezenet")) -> Run:
    """A finished training of the study; its recall falls as its distance grows."""
    scores = [score(f"fd-{judge}", distance * (1 + i), std=0.5, size=32) for i, judge in enumerate(judges)]
    scores.append(score("recall-faces", 10 / distance, std=0.01, size=32))
    folder = name if seed == 0 else f"{name}-seed{seed}"
    return fake_runs.make(study / "runs", folder, scores=scores, size=32, log=False, about={"preset": name})


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two runs of three seeds, one better by far, and one of a single seed; their faces were drawn for the study's page."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / study_plan.FILE).write_text(disk.seal_yaml(yaml.safe_dump(PLAN, sort_keys=False)))
    runs = [add(folder, "vae", seed, 80.0 + seed) for seed in range(3)]
    runs += [add(folder, "gan", seed, 20.0 + seed) for seed in range(3)]
    runs.append(add(folder, "late", 0, 5.0))
    compare.same_seeds(compare.compare(runs, join=False), range(10), draw)
    return folder


def write(study: Path, page: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What the page holds after the script wrote into it."""
    if not page.exists():
        page.write_text(PAGE)
    monkeypatch.setattr(sys, "argv", ["leaderboard.py", str(study), "--write", str(page), *words])
    runpy.run_path(str(ROOT / "benchmarks" / "leaderboard.py"), run_name="__main__")
    return page.read_text()


def test_a_finished_study_is_written_between_the_lines_of_the_page(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write(study, tmp_path / "docs.md", monkeypatch, "--machine", "a test")
    before, rest = text.split("<!-- table: 32 px, 12 min -->\n")
    inside, after = rest.split("<!-- end -->", 1)
    assert before.startswith("# Board\n\nWords.")
    assert after == PAGE.split("<!-- end -->", 1)[1]
    heads, _, first, second = [line.split(" | ") for line in inside.splitlines() if line.startswith("|")]
    assert heads[2:5] == ["fd-faces ↓", "fd-squeezenet ↓", "recall-faces ↑"]
    assert first[0] == "| **gan**<br>`ddpm/gan`"
    assert first[2] == "**21.00**<br>[18.52, 23.48]"  # a deviation of 1 over 3 trainings, 4.303 standard errors
    assert first[3].startswith("**42.0")
    assert second[2] == "81.00<br>[78.52, 83.48]"
    assert "seeds 0-2 with 95 % intervals" in inside
    assert "12 min of processor time on 1 core of a test" in inside
    assert "1000 generated against 13920 real images" in inside
    assert "Not in the table: `late` (1 of 3 seeds)." in inside
    for name in ("gan", "vae"):
        file = f"results/leaderboard/32-px-12-min/{name}.png"
        assert f"![{name}]({file})" in inside
        with Image.open(tmp_path / file) as picture:
            assert picture.size == (5 * 64 + 4 * 2, 2 * 64 + 2)
    assert write(study, tmp_path / "docs.md", monkeypatch, "--machine", "a test") == text, "the same again"


def test_a_short_table_and_a_strip_are_for_the_readme(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    text = write(study, tmp_path / "README.md", monkeypatch, "--short", "--strip", "vae,gan")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == "| run | faces of seeds 0-9 | fd-faces ↓ | 100 faces | images |"
    assert "![gan](docs/results/leaderboard/32-px-12-min/gan.png)" in lines[2]
    assert "late" not in text
    with Image.open(tmp_path / "docs" / "pictures" / "strip.png") as picture:
        assert picture.size == (10 * 128, 2 * 128)
    with pytest.raises(SystemExit, match="no faces of nobody"):
        write(study, tmp_path / "README.md", monkeypatch, "--strip", "gan,nobody")


def test_rows_that_break_the_rules_are_left_out_and_named(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        path = study / "runs" / ("vae" if not seed else f"vae-seed{seed}") / "eval.json"
        path.write_text(path.read_text().replace('"fd-squeezenet"', '"fd-nobody"'))
    text = write(study, tmp_path / "docs.md", monkeypatch)
    assert "Not in the table: `vae` (scored by 1 of 2 judges); `late` (1 of 3 seeds)." in text
    assert text.count("![") == 1
    text = write(study, tmp_path / "docs.md", monkeypatch, "--seeds", "1", "--judges", "1")
    assert "Not in the table" not in text
    assert [re.match(r"\| \*\*(\w+)", line) is not None for line in text.splitlines()].count(True) == 3
    assert "| **late**<br>`ddpm/late`<br>1 training |" in text
    assert "`ddpm/gan` |" in text, "as many as any"
    assert "does not hold what another seed would change" in text


def test_a_page_without_a_place_for_the_study_is_left_as_it_is(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "docs.md"
    page.write_text(PAGE.replace("12 min", "13 min"))
    with pytest.raises(SystemExit, match="no place for `32 px, 12 min`, only for: 32 px, 13 min; 64 px, 45 min"):
        write(study, page, monkeypatch)
    assert page.read_text() == PAGE.replace("12 min", "13 min")


# ---- its rows -------------------------------------------------------------------------------------------------


def test_every_preset_named_fast_or_laptop_is_a_row_or_says_why_not() -> None:
    board = study_file.load("leaderboard")
    rows = {f"{run.family}/{run.preset}" for run in board.runs.values()}
    named = {name for name in paths.presets() if name.partition("/")[2] in ("fast", "laptop")}
    assert named - rows - set(board.left_out) == set(), (
        "add it to `runs:` or `left_out:` of presets/studies/leaderboard.yaml"
    )
    assert rows & set(board.left_out) == set()
    assert set(board.left_out) <= named, "presets that do not exist"
    assert all(len(why) > 20 for why in board.left_out.values())


def test_the_page_has_a_place_for_each_of_its_tables() -> None:
    text = (ROOT / "docs" / "leaderboard.md").read_text()
    assert re.findall(r"<!-- table: (.*) -->", text) == ["32 px, 12 min", "32 px, 45 min", "64 px, 45 min"]
    assert text.count("<!-- end -->") == 3 + text.count("`<!-- end -->`")
    board = study_file.load("leaderboard")
    assert (board.budget, board.cores, board.size) == ("12 min", 1, None)


def test_the_newcomers_study_of_the_page_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "leaderboard.md").read_text()
    found = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert found is not None
    file = tmp_path / "newcomer.yaml"
    file.write_text(found[1])
    _, trainings, _ = study_plan.plan_of(study_plan.Request(study=str(file), seeds=range(3)))
    assert [one.name for one in trainings[:3]] == ["gan", "newcomer", "gan-seed1"]
