"""Tables for papers and spreadsheets: chosen columns, published numbers, labels, a row per training seed."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

import fake_runs
import pytest
import yaml
from fake_runs import score

from animegen_cli.compare import compare
from animegen_cli.compare.papers import Paper, as_text, tables_of
from animegen_cli.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.report.columns import Comparison


@pytest.fixture
def found(tmp_path: Path) -> Comparison:
    """A run of two training seeds and one of a single seed, with three scores each."""
    runs = []
    for name, seed, value, lr in (("gan-seed0", 0, 20.0, 1e-4), ("gan-seed1", 1, 22.0, 1e-4), ("vae", 0, 60.0, 1e-3)):
        scores = [
            score("fid", value, std=0.5),
            score("kid", value / 1000, std=0.001),
            score("recall", 10 / value, std=0.01),
        ]
        run = fake_runs.make(tmp_path, name, scores=scores, lr=lr, about={"processor_seconds": 600.0})
        config = yaml.safe_load(run.config.read_text())
        config["train"]["seed"] = seed
        run.config.write_text(yaml.safe_dump(config))
        runs.append(run)
    return compare.compare(runs)


def test_a_paper_has_the_columns_that_were_named_in_their_order(found: Comparison) -> None:
    (table,) = tables_of(found, Paper(columns=["recall", "fid", "processor_seconds"]))
    assert [column.key for column in table.columns] == ["run", "recall-inception", "fid", "processor_seconds"]
    assert [row[0].text for row in table.rows] == ["gan", "vae"]
    assert table.rows[0][2].best
    assert not any("kid" in note for note in table.notes)
    assert any(note.startswith("fid, recall-inception: ") for note in table.notes), "the protocol of the others stays"


def test_latex_of_a_paper_is_one_labelled_table_with_formulas(found: Comparison) -> None:
    text = as_text(found, "latex", Paper(columns=["fid", "kid"], label="tab:faces"))
    assert text.count("\\begin{table}") == text.count("\\label{tab:faces}") == 1
    assert "\\begin{tabular}{@{}lrr@{}}" in text
    assert re.search(r"gan & \$\\mathbf\{21\.0 \\pm 1\.0\}\$ & ", text)
    whole = as_text(found, "latex", Paper(label="tab:faces"))
    labels = re.findall(r"\\label\{(.*?)\}", whole)
    assert len(labels) == len(set(labels)) == whole.count("\\begin{table}") == 4


def test_a_spreadsheet_has_a_row_per_training_and_numbers_alone(found: Comparison) -> None:
    lines = list(csv.DictReader(io.StringIO(as_text(found, "csv", Paper(columns=["fid", "seconds"])))))
    assert [(line["table"], line["run"], line["seed"], line["fid"]) for line in lines] == [
        ("Results", "gan", "", "21.0"), ("Results", "vae", "", "60.0"), ("Each training seed", "gan", "mean", "21.0"),
        ("Each training seed", "gan", "0", "20.0"), ("Each training seed", "gan", "1", "22.0"),
    ]  # fmt: skip
    assert float(lines[0]["fid_std"]) == pytest.approx(1.0)
    assert float(lines[0]["fid_low"]) < 20 < 22 < float(lines[0]["fid_high"])
    assert float(lines[1]["seconds"]) == 3400
    whole = list(csv.DictReader(io.StringIO(as_text(found, "csv"))))
    for key in ("seconds", "parameters", "images", "peak_memory", "fid"):
        assert all(re.fullmatch(r"[\d.]*", line[key]) for line in whole), key


def test_published_numbers_are_those_that_were_named(found: Comparison) -> None:
    def rows(paper: Paper) -> list[str]:
        return [row[0].text for table in tables_of(found, paper) if "published" in table.title for row in table.rows]

    assert rows(Paper(published="xmu2023")) == rows(Paper(published="song2023-table-1"))
    assert rows(Paper(published="xmu2023", columns=["fid"]))[2] == "StyleGAN2 [1]"
    assert rows(Paper(published="none")) == rows(Paper(columns=["fid"])) == []
    assert set(rows(Paper(published="kumari2024"))) < {re.sub(r"\[\d\]", "[1]", row) for row in rows(Paper())}


def test_unknown_columns_and_tables_are_answered_with_what_there_is(found: Comparison, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column `fidd`") as error:
        compare.write(found, tmp_path / "out", paper=Paper(columns=["fidd"]))
    assert error.value.hint == "did you mean `fid`?"
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="no published table `x`") as error:
        tables_of(found, Paper(published="x"))
    for name in ("none", "xmu2023", "kumari2024", "ho2020"):
        assert f"`{name}`" in str(error.value.hint)
