"""`compare` on run folders made without training (fake_runs.py): columns, ranking, files, the page, bad input."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fake_runs
import numpy as np
import pytest
import typer
from fake_runs import draw, score
from PIL import Image
from test_report import Page
from typer.testing import CliRunner

from animegen_cli.cli.command import Command
from animegen_cli.cli.compare import compare
from animegen_cli.compare import compare as comparison
from animegen_cli.errors import AnimegenError, DataError, MachineError, UsageError
from animegen_cli.report.columns import eval_options
from animegen_cli.report.tables import DASH, Cell, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.paths import Run

ROOT = Path(__file__).resolve().parent.parent


def column(table: Table, key: str) -> list[Cell]:
    """The cells of a column by its key."""
    index = [c.key for c in table.columns].index(key)
    return [row[index] for row in table.rows]


@pytest.fixture
def two(tmp_path: Path) -> list[Run]:
    """A good run and a better one, scored alike; they draw with different samplers."""
    a = [score("fd-faces", 20.0, std=0.5), score("precision-faces", 0.5), score("novel-faces", 3.0)]
    b = [
        score("fd-faces", 12.0, std=0.5, sampling="ancestral, 1000 steps"),
        score("precision-faces", 0.7, sampling="ancestral, 1000 steps"),
        score("novel-faces", 2.0, sampling="ancestral, 1000 steps"),
    ]
    return [fake_runs.make(tmp_path, "a", scores=a), fake_runs.make(tmp_path, "b", family="ddim", lr=1e-3, scores=b)]


def test_of_equal_values_none_is_the_best(tmp_path: Path) -> None:
    runs = [
        fake_runs.make(tmp_path, name, lr=lr, scores=[score("fd-faces", fd), score("recall-faces", 0.0)])
        for name, lr, fd in (("a", 1e-3, 20.0), ("b", 2e-3, 12.0))
    ]
    quality = comparison.compare(runs).quality
    assert [cell.best for cell in column(quality, "fd-faces")] == [False, True]
    assert [cell.best for cell in column(quality, "recall-faces")] == [False, False]


# ---- columns and ranking ----------------------------------------------------------------------------------------


def test_one_protocol_is_one_column_whatever_the_sampler_and_best_follows_the_metric(two: list[Run]) -> None:
    found = comparison.compare(two)
    assert [m.key for m in found.score_columns] == ["fd-faces", "precision-faces", "novel-faces"]
    assert [cell.best for cell in column(found.quality, "fd-faces")] == [False, True]
    assert [cell.best for cell in column(found.quality, "precision-faces")] == [False, True]
    assert [cell.best for cell in column(found.quality, "novel-faces")] == [False, False]  # direction unknown
    assert [c.text for c in column(found.quality, "drawn")] == ["ddim, 50 steps", "ancestral, 1000 steps"]
    (rough,) = found.warnings
    assert "a, b: scored with as few as 1,000 images on one side, fewer than 2,048" in rough


def test_best_looks_the_other_way_when_values_do(tmp_path: Path) -> None:
    names = ["kid-faces", "fid", "is", "recall-faces", "coverage-faces", "density-faces"]
    low = fake_runs.make(tmp_path, "low", scores=[score(name, 0.1) for name in names])
    high = fake_runs.make(tmp_path, "high", scores=[score(name, 0.9) for name in names])
    quality = comparison.compare([low, high]).quality
    best = {name: [cell.best for cell in column(quality, name)].index(True) for name in names}
    assert best == {"kid-faces": 0, "fid": 0, "is": 1, "recall-faces": 1, "coverage-faces": 1, "density-faces": 1}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("n_fake", 5000, "n 5000"),
        ("resize", "clean-128", "resize clean-128"),
        ("size", 32, "size 32"),
        ("extractor_sha", "ef" * 32, "extractor sha efefefef"),
        ("precision", "bf16", "precision bf16"),
        ("reference_split", "test", "split test"),
    ],
)
def test_two_protocols_never_share_a_column(tmp_path: Path, field: str, value: Any, said: str) -> None:
    a = fake_runs.make(tmp_path, "a", scores=[score("fd-faces", 20.0)])
    b = fake_runs.make(tmp_path, "b", scores=[score("fd-faces", 12.0, **{field: value})])
    found = comparison.compare([a, b])
    assert len(found.score_columns) == 2
    assert len({m.key for m in found.score_columns}) == 2
    assert found.score_columns[1].detail == said
    for score_column, filled in zip(found.score_columns, ([True, False], [False, True]), strict=True):
        cells = column(found.quality, score_column.key)
        assert [cell.text != DASH for cell in cells] == filled
        assert not any(cell.best for cell in cells)


def test_a_set_under_another_name_is_the_same_set_and_another_set_is_named(tmp_path: Path) -> None:
    a = fake_runs.make(tmp_path, "a", scores=[score("fd-faces", 20.0)])
    b = fake_runs.make(tmp_path, "b", scores=[score("fd-faces", 12.0, reference_name="copy")])
    assert len(comparison.compare([a, b]).score_columns) == 1
    c = fake_runs.make(tmp_path, "c", scores=[score("fd-faces", 9.0, reference="99" * 32, reference_name="flowers")])
    assert [m.detail for m in comparison.compare([a, c]).score_columns] == [
        "reference name faces",
        "reference name flowers",
    ]
    d = fake_runs.make(tmp_path, "d", scores=[score("fd-faces", 9.0, reference="88" * 32)])
    labels = [m.label for m in comparison.compare([a, c, d]).score_columns]
    assert len(set(labels)) == 3  # two sets of one name are still told apart


def test_values_that_chance_explains_are_marked_and_no_others(tmp_path: Path) -> None:
    values = {"a": 12.0, "b": 12.6, "c": 20.0, "d": 13.8}  # d: its interval overlaps that of a, and yet it differs
    runs = [fake_runs.make(tmp_path, n, scores=[score("fd-faces", v, std=0.5)]) for n, v in values.items()]
    found = comparison.compare(runs)
    cells = column(found.quality, "fd-faces")
    assert [(cell.best, cell.tied) for cell in cells] == [(True, False), (False, True), (False, False), (False, False)]
    assert found.quality.notes[0] == "≈: not significantly different from the best (5 %, Holm)."
    without = [fake_runs.make(tmp_path, n, scores=[score("fd-faces", v)]) for n, v in {"e": 12.0, "f": 12.1}.items()]
    assert not any(cell.tied for cell in column(comparison.compare(without).quality, "fd-faces"))


def test_several_ranges_of_seeds_stand_in_one_row_with_scores_of_the_first(tmp_path: Path) -> None:
    several = "0-999; 1000-1999; 2000-2999"
    scores = [
        score("fd-faces", 20.0, seeds=several), score("fd-faces", 21.0), score("brightness-faces", 0.1),
        score("kid-faces", 0.01, seeds=several),
    ]  # fmt: skip
    found = comparison.compare([fake_runs.make(tmp_path, "a", scores=scores)])
    (row,) = found.quality.rows
    assert [cell.value for cell in row[3:]] == [20.0, 0.1, 0.01]  # three ranges tell more than one
    assert any("kid-faces: x1; papers often print" in note for note in found.quality.notes)
    options = eval_options(found.records[0])
    assert ["--n", "1000", "--repeats", "3", "--split", "train", "--extractor", "faces"] in options
    assert ["--seeds", "0-999", "--split", "train", "--extractor", "faces"] in options


def test_published_numbers_are_never_ranked_nor_in_a_measured_column(two: list[Run], tmp_path: Path) -> None:
    two[0].scores.write_text(json.dumps({"scores": [score("fid", 20.0)]}))
    two[1].scores.write_text(json.dumps({"scores": [score("fid", 12.0)]}))
    value = comparison.as_json(comparison.compare(two))
    assert {row["values"]["run"] for row in value["quality"]["rows"]} == {"a", "b"}
    published = {row["values"]["run"]: row["values"] for row in value["published"]["rows"]}
    assert published["StyleGAN2 (Song et al. 2023, Table 1)"]["published FID"] == 4.17
    assert published["DDIM, CelebA (Kumari & Bhadoria 2024, Table I)"]["published KID"] == 0.20
    assert published["DDPM, CIFAR-10 (Ho et al. 2020, Table 1)"]["published IS"] == 9.46
    assert "not ranked" in value["published"]["title"]
    assert all(row["best"] == [] for row in value["published"]["rows"])
    comparison.write(comparison.compare(two), tmp_path / "out")
    for row in csv.DictReader((tmp_path / "out/table.csv").open()):
        assert bool(row["fid"]) == (row["table"] == "Measured")


def test_sort_puts_the_best_first_and_the_unscored_last(two: list[Run], tmp_path: Path) -> None:
    unscored = fake_runs.make(tmp_path, "c", images=1000)
    runs = [unscored, *two]
    assert comparison.compare(runs).names == ("c", "a", "b")
    assert comparison.compare(runs, sort="fd-faces").names == ("b", "a", "c")
    assert comparison.compare(runs, sort="precision-faces").names == ("b", "a", "c")
    assert comparison.compare(runs, sort="images").names[0] == "c"
    with pytest.raises(UsageError, match="no column `fd-face`") as error:
        comparison.compare(runs, sort="fd-face")
    assert "fd-faces" in str(error.value.hint)


def test_runs_of_one_name_are_told_apart_and_one_run_twice_is_one(tmp_path: Path) -> None:
    a, b = (fake_runs.make(tmp_path / part, "same") for part in ("x", "y"))
    assert comparison.compare([a, b, a]).names == (str(a.path), str(b.path))


# ---- what is odd is said ----------------------------------------------------------------------------------------


def test_no_scores_give_dashes_and_the_command_that_makes_them(tmp_path: Path) -> None:
    scored = fake_runs.make(tmp_path, "a", scores=[score("fd-faces", 20.0)])
    bare = fake_runs.make(tmp_path, "b c")
    young = fake_runs.make(tmp_path, "d", weights=False, images=3200, state="running")
    found = comparison.compare([scored, bare, young])
    assert [cell.text for cell in column(found.quality, "fd-faces")][1:] == [DASH, DASH]
    assert found.todo == {
        "b c": f"animegen eval '{bare.path}'",
        "d": f"animegen train --resume {young.path}",
    }


def test_differences_between_runs_are_flagged(tmp_path: Path) -> None:
    a = fake_runs.make(tmp_path, "a", images=120_000, scores=[score("fd-faces", 20.0, images=60_000)])
    b = fake_runs.make(tmp_path, "b", dataset="flowers", size=32)
    said = "\n".join(comparison.compare([a, b]).warnings)
    assert "different data sets (faces, flowers)" in said
    assert "different sizes (32 px, 64 px)" in said
    assert f"a was scored at 60k images and has seen 120k by now: `animegen eval {a.path}`" in said


@pytest.mark.parametrize(
    ("entry", "protocol"),
    [
        ({}, {"n_fake": 50_000}),
        ({}, {"id": "0" * 12}),
        ({}, {"made_up": 1}),
        ({"protocol_id": "0" * 12}, {}),
        ({"name": "fid"}, {}),
    ],
)
def test_an_edited_score_is_noticed_and_left_out(
    entry: dict[str, Any], protocol: dict[str, Any], two: list[Run]
) -> None:
    content = json.loads(two[1].scores.read_text())
    content["scores"][0] |= entry
    content["scores"][0]["protocol"] |= protocol
    two[1].scores.write_text(json.dumps(content))
    found = comparison.compare(two)
    assert re.search(r"b.eval\.json: score 1 is left out", found.warnings[0])
    assert [cell.text for cell in column(found.quality, "fd-faces")][1] == DASH
    assert not any(cell.best for cell in column(found.quality, "fd-faces"))
    assert [m.name for m in found.score_columns] == ["fd-faces", "precision-faces", "novel-faces"]


def test_a_run_drawn_in_two_ways_has_two_rows_that_compete(tmp_path: Path) -> None:
    ways = [score("fd-faces", 20.0, sampling="ddim, 10 steps"), score("fd-faces", 11.0, sampling="ddim, 50 steps")]
    a = fake_runs.make(tmp_path, "a", scores=ways)
    seeds = [score("fd-faces", 15.0), score("fd-faces", 16.0, seeds="1000-1999")]
    b = fake_runs.make(tmp_path, "b", scores=seeds)
    found = comparison.compare([b, a], sort="fd-faces")
    assert [(c.text, d.text, s.value, s.best) for c, d, _, s in found.quality.rows] == [
        ("a", "ddim, 10 steps", 20.0, False),
        ("a", "ddim, 50 steps", 11.0, True),
        ("b", "ddim, 50 steps, seeds 0-999", 15.0, False),
        ("b", "ddim, 50 steps, seeds 1000-1999", 16.0, False),
    ]
    assert found.labels == ("a, 10 steps", "a, 50 steps", "b, seeds 0-999", "b, seeds 1000-1999")
    assert len(found.cost.rows) == 2
    assert [row[0].text for row in found.joined.rows] == ["a", "a", "b", "b"]


def test_a_damaged_eval_file_is_named_and_the_rest_is_compared(two: list[Run]) -> None:
    two[0].scores.write_text('{"scores": [')
    found = comparison.compare(two)
    assert str(two[0].scores) in found.warnings[0]
    assert [cell.text for cell in column(found.quality, "fd-faces")] == [DASH, "12.00 ± 0.50"]
    (two[0].path / "run.json").write_text("{}[]")
    with pytest.raises(DataError, match="is damaged"):
        comparison.compare(two)


# ---- the same seeds ---------------------------------------------------------------------------------------------


def test_seeds_are_drawn_once_and_again_when_weights_or_settings_change(two: list[Run]) -> None:
    asked: list[str] = []

    def counted(run: Run, seeds: Sequence[int]) -> np.ndarray:
        asked.append(run.name)
        return draw(run, seeds)

    def again(seeds: Sequence[int] = range(10)) -> list[str]:
        asked.clear()
        drawn = comparison.same_seeds(comparison.compare(two), seeds, counted)
        for run, row in zip(two, drawn.rows, strict=True):
            assert np.array_equal(row, draw(run, seeds))
        return list(asked)

    assert again() == ["a", "b"]
    assert (two[0].samples / "seeds-0-9.png").is_file()
    assert again() == []
    assert again([3, 1]) == ["a", "b"]
    assert again() == []
    two[0].weights.write_bytes(b"trained further")
    assert again() == ["a"]
    two[1].config.write_text(two[1].config.read_text().replace("steps: 50", "steps: 20"))
    assert again() == ["b"]
    stored = two[1].samples / "seeds-0-9.png"
    stored.write_bytes(stored.read_bytes()[:100])
    assert again() == ["b"]


def test_a_run_that_cannot_draw_leaves_a_blank_with_the_reason(two: list[Run], tmp_path: Path) -> None:
    young = fake_runs.make(tmp_path, "young", weights=False)

    def fails(run: Run, seeds: Sequence[int]) -> np.ndarray:
        if run.name == "a":
            raise MachineError("out of memory")
        return draw(run, seeds)

    found = comparison.compare([*two, young])
    drawn = comparison.same_seeds(found, range(3), fails)
    assert drawn.rows[0] == "not drawn: out of memory"
    assert drawn.rows[2] == "it has no weights yet"
    files = comparison.write(found, tmp_path / "out", drawn=drawn)
    with Image.open(files["picture"]) as picture:
        assert picture.height > 3 * 64
    with pytest.raises(UsageError, match="1 to 64"):
        comparison.same_seeds(found, range(65), draw)
    with pytest.raises(UsageError, match="1 to 64"):
        comparison.same_seeds(found, [1, 1], draw)


# ---- the page ---------------------------------------------------------------------------------------------------


def page_of(runs: list[Run], out: Path, **options: Any) -> tuple[Page, str]:
    found = comparison.compare(runs)
    files = comparison.write(found, out, drawn=comparison.same_seeds(found, range(10), draw), **options)
    text = files["page"].read_text(encoding="utf-8")
    return Page(text), text


def test_page_holds_everything_and_asks_the_network_for_nothing(two: list[Run], tmp_path: Path) -> None:
    made, text = page_of(two, tmp_path / "out")
    for title in ("Scores", "Cost", "Quality and cost", "Training", "Pictures", "Settings"):
        assert any(section.get("id") == "-".join(title.lower().split()) for section in made.all("section"))
    assert made.all("script") == made.all("link") == made.all("iframe") == []
    sources = [str(image["src"]) for image in made.all("img")]
    assert len(sources) == 2 + 2 + 1  # strips, grids of averaged weights, real images
    assert all(source.startswith("data:image/") for source in sources)
    assert all(image["alt"] for image in made.all("img"))
    assert all(str(link["href"]).startswith("#") for link in made.all("a"))
    ids = {attributes["id"] for _, attributes in made.elements if attributes.get("id")}
    assert {str(link["href"])[1:] for link in made.all("a")} <= ids  # every link leads somewhere
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    policy = next(meta["content"] for meta in made.all("meta") if meta.get("http-equiv"))
    assert str(policy).startswith("default-src 'none';")
    for svg in made.all("svg"):
        assert svg["role"] == "img"


def test_page_shows_scores_differences_and_commands(two: list[Run], tmp_path: Path) -> None:
    made, text = page_of(two, tmp_path / "out")
    assert "<strong>12.00 ± 0.50</strong>" in text
    assert "optim.model.lr" in made.text.split("settings in which the runs differ")[1].split("settings that all")[0]
    assert "augment.flip" in made.text.split("settings that all runs share")[-1]
    assert f"animegen train ddim --config {two[1].config} --data datasets/faces.zip" in made.text
    scored = f"animegen eval {two[1].path} --seeds 0-999 --split train --extractor faces\n"
    assert made.text.count(scored.strip()) == 1  # three scores, one command
    assert f"animegen compare {two[0].path} {two[1].path}" in made.text
    assert "protocol unknown" in made.text


def test_page_escapes_names_and_can_leave_real_images_out(tmp_path: Path) -> None:
    nasty = "<script>alert(1)<img src=x onerror=y> & \"'"
    runs = [fake_runs.make(tmp_path, nasty, scores=[score("fd-<i>", 3.0)]), fake_runs.make(tmp_path, "b")]
    made, _ = page_of(runs, tmp_path / "out", reals=False)
    assert nasty in made.text
    assert made.all("script") == made.all("i") == []
    assert all("onerror" not in attributes for _, attributes in made.elements)
    assert not any("real" in str(image["alt"]) for image in made.all("img"))


def test_page_of_six_large_noisy_runs_stays_under_six_megabytes(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    runs = []
    for i in range(6):
        run = fake_runs.make(tmp_path, f"run{i}", scores=[score("fd-faces", 10.0 + i)])
        noise = Image.fromarray(chance.integers(0, 256, (658, 658, 3), np.uint8))
        noise.save(run.samples / "ema-000500000.png")
        noise.save(run.samples / "reals.png")
        runs.append(run)
    found = comparison.compare(runs)
    strips = comparison.same_seeds(
        found, range(10), lambda run, seeds: chance.integers(0, 256, (10, 64, 64, 3), np.uint8)
    )
    files = comparison.write(found, tmp_path / "out", drawn=strips)
    assert files["page"].stat().st_size < 6_000_000


def test_the_same_runs_give_the_same_files(two: list[Run], tmp_path: Path) -> None:
    _, first = page_of(two, tmp_path / "one")
    _, second = page_of(two, tmp_path / "two")
    assert first == second
    for name in ("table.md", "table.csv", "table.tex", "table.json", "same-seeds.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


# ---- the command ------------------------------------------------------------------------------------------------


def command(*words: str) -> tuple[int, str, BaseException | None]:
    app = typer.Typer()
    app.command(cls=Command)(compare)
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.stdout, done.exception


def test_command_compares_all_runs_and_prints_plain_tables(
    two: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "work"
    (root / "runs").mkdir(parents=True)
    for run in two:
        run.path.rename(root / "runs" / run.name)
    monkeypatch.chdir(root)
    code, out, _ = command("--no-images")
    assert code == 0
    assert "fd-faces" in out
    assert re.search(r"StyleGAN2 \[1\]\s+FID 4.17", out)
    assert "\x1b[" not in out
    assert {f.name for f in Path("comparison").iterdir()} == {
        "index.html", "table.md", "table.csv", "table.tex", "table.json", "tables",
    }  # fmt: skip
    code, out, _ = command("b", "--json", "--no-images", "--out", "elsewhere")
    value = json.loads(out)
    assert [row["values"]["run"] for row in value["quality"]["rows"]] == ["b"]
    assert Path(value["files"]["page"]).is_file()
    code, out, _ = command("--no-images", "--format", "latex")
    assert out.startswith("% needs")


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ([], DataError, "no runs to compare"),
        (["missing"], DataError, "no run `missing`"),
        (["a", "--sort", "fdfaces"], UsageError, "no column"),
        (["a", "--seeds", "9-"], UsageError, "seeds"),
        (["a", "--out", "a/run.json", "--no-images"], DataError, "is a file"),
    ],
)
def test_bad_words_say_what_to_type(
    words: list[str],
    kind: type[AnimegenError],
    said: str,
    two: list[Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = command(*words)
    assert code == 1
    assert isinstance(error, kind)
    assert said in error.message
    assert error.hint


def test_stored_pictures_are_compared_without_loading_torch(two: list[Run], tmp_path: Path) -> None:
    comparison.same_seeds(comparison.compare(two), range(10), draw)
    program = (
        "import sys, typer; from animegen_cli.cli.command import Command; from animegen_cli.cli.compare import compare;"
        "app = typer.Typer(); app.command(cls=Command)(compare);"
        "app(sys.argv[1:], standalone_mode=False);"
        "print(sorted({'torch', 'matplotlib.pyplot'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "a", "b", "--out", "out"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "out/same-seeds.png").is_file()
    assert "missing" not in done.stderr
