"""Tables for papers and spreadsheets: chosen columns, published numbers, labels, a row per training seed."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import fake_runs
import pytest
import yaml
from fake_runs import score

from animegen_cli.compare import compare
from animegen_cli.compare.papers import Paper, as_text, tables_of
from animegen_cli.errors import UsageError
from animegen_cli.report import tables
from animegen_cli.report.tables import Cell, Column, Table

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


def check_latex(text: str) -> None:
    """What LaTeX refuses: braces and environments that do not close, rows of another length, letters it reads as commands."""
    for table in text.split("% needs \\usepackage{booktabs}\n")[1:]:
        depth = 0
        for mark in re.findall(r"\\[{}]|[{}]", table):
            depth += {"{": 1, "}": -1}.get(mark, 0)
            assert depth >= 0
        assert depth == 0
        for name in ("table", "tabular"):
            assert table.count(f"\\begin{{{name}}}") == table.count(f"\\end{{{name}}}") == 1
        columns = re.search(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}", table)
        assert columns
        body = table[columns.end() : table.index("\\end{tabular}")].strip().splitlines()
        for row in (line for line in body if not line.endswith("rule")):
            assert row.endswith(" \\\\")
            assert row[0] not in "[*"
            several = re.match(r"\\multicolumn\{(\d+)\}", row)
            cells = int(several[1]) if several else len(re.findall(r"(?<!\\)&", row)) + 1
            assert cells == len(columns[1]), row
        outside = re.sub(r"(?<!\\)\$[^$]*\$", "", table[: columns.start()] + "\n".join(body).replace(" & ", " "))
        assert not re.search(r"(?<!\\)[%#_&^~$]", re.sub(r"\\label\{.*?\}", "", outside))


@pytest.mark.parametrize("intervals", [False, True])
@pytest.mark.parametrize("columns", [[], ["fid", "kid", "recall", "seconds", "data"]])
@pytest.mark.parametrize("named", [None, "xmu2023", "kumari2024"])
def test_latex_is_whole_whatever_is_asked_for(
    columns: list[str], named: str | None, intervals: bool, found: Comparison
) -> None:
    odd = replace(found, names=("[100 %]_gan & #1", "*vae {x} ~^$"))
    first = [(replace(row[0], text=name), *row[1:]) for row, name in zip(found.quality.rows, odd.names, strict=True)]
    odd = replace(odd, quality=replace(found.quality, rows=tuple(first)))
    paper = Paper(
        columns=columns, published=named, label="tab:a_b", caption="100 % of _faces_ & {more}", intervals=intervals
    )
    text = as_text(odd, "latex", paper)
    check_latex(text)
    assert text.count("\\caption{100 \\% of \\_faces\\_ \\& \\{more\\}}") == 1
    assert "{[}100 \\%]\\_gan \\& \\#1 & " in text


def test_published_numbers_of_a_chosen_score_are_at_the_foot_of_its_latex_table_and_never_bold(
    found: Comparison,
) -> None:
    text = as_text(found, "latex", Paper(columns=["seconds", "fid"], published="xmu2023"))
    assert text.count("\\begin{table}") == 1
    foot = text[text.index("\\emph{As published, protocol unknown: not ranked}") :]
    assert "StyleGAN2 [1] & 12 h & $4.17$ \\\\" in foot
    assert "mathbf" not in foot
    assert "Song" in foot
    # a kernel distance of images at 75 pixels is no `kid`: it stands by itself
    assert as_text(found, "latex", Paper(columns=["kid"], published="kumari2024")).count("\\begin{table}") == 2
    assert "4.17" not in as_text(found, "latex", Paper(columns=["fid"], published="none"))
    assert "4.17" in as_text(found, "latex")
    assert "4.17" not in as_text(found, "latex", Paper(published="none"))


def test_intervals_stand_in_the_place_of_errors_where_they_are_known(found: Comparison) -> None:
    paper = Paper(columns=["fid"], intervals=True)
    latex, markdown = as_text(found, "latex", paper), as_text(found, "markdown", paper)
    assert "gan & $\\mathbf{21.0\\;[8.3, 33.7]}$" in latex
    assert "vae & $60.00 \\pm 0.50$" in latex, "nothing but its error is known of this one"
    assert "**21.0 \\[8.3, 33.7\\]**" in markdown
    assert "95 % intervals" in markdown
    assert as_text(found, "csv", paper) == as_text(found, "csv", Paper(columns=["fid"]))


def test_a_number_without_an_error_is_a_formula_with_its_minus_and_its_power() -> None:
    table = Table("x", (Column("a", "a"),), ((Cell("-2e-05 [-3e-05, 0.1]"),), (Cell("-0.5"),), (Cell("0-9"),)))
    text = tables.latex(table)
    assert "$-2 \\cdot 10^{-5}\\;[-3 \\cdot 10^{-5}, 0.1]$" in text
    assert "$-0.5$" in text
    assert "\n0-9 " in text


def test_a_label_that_latex_cannot_read_is_refused(found: Comparison) -> None:
    with pytest.raises(UsageError, match="cannot hold `%`"):
        tables_of(found, Paper(label="tab:100%"))


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
