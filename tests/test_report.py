"""Grids, plots, tables and records: what they hold, read back with other tools than those that wrote it."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import fake_runs
import numpy as np
import pytest
from PIL import Image

from animegen_cli import console, disk
from animegen_cli.compare.compare import compare
from animegen_cli.errors import DataError, UsageError
from animegen_cli.paths import Run
from animegen_cli.report import canvas, figures, grids, page, pictures, plots, records, tables, units
from animegen_cli.report.markup import el, escape
from animegen_cli.report.numbering import Numbering
from animegen_cli.report.tables import Cell, Column, Table

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"
NASTY = """<script>alert("x")</script> & 'co' _a_ | 50% \\ $1 {b} #c ~^"""


class Page(HTMLParser):
    """The elements of a page, its text, and a check that every tag is closed in order."""

    VOID = frozenset({"meta", "img", "br", "hr", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


# ---- grids ------------------------------------------------------------------------------------------------------


def test_bars_by_hand() -> None:
    drawing = plots.bars(
        [(NASTY, 3.0), ("1", 0.0), ("2", 1.5), ("bad", float("nan"))], title=NASTY, x="level", y="nats"
    )
    root = ElementTree.fromstring(canvas.svg(drawing))
    drawn = [node for node in root.iter() if node.tag.endswith("rect")]
    heights = [float(node.attrib["height"]) for node in drawn]
    assert heights[0] == pytest.approx(2 * heights[2], rel=1e-3)
    assert heights[1] == 0.5  # still to be seen
    assert len(heights) == 3
    first, last = (float(node.attrib["y"]) + float(node.attrib["height"]) for node in drawn[::2])
    assert first == pytest.approx(last, abs=0.2)
    assert "no values yet" in canvas.svg(plots.bars([], title="t", x="x", y="y"))


def test_grid_of_100_is_ten_by_ten_and_keeps_every_pixel() -> None:
    images = fake_runs.faces(range(100), 16)
    sheet = np.asarray(grids.grid(images, gap=2))
    assert sheet.shape == (10 * 16 + 9 * 2, 10 * 16 + 9 * 2, 3)
    for i in (0, 9, 10, 57, 99):
        y, x = i // 10 * 18, i % 10 * 18
        assert np.array_equal(sheet[y : y + 16, x : x + 16], images[i])
    assert (sheet[16:18] == 255).all()


@pytest.mark.parametrize(("count", "columns", "lines"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (12, 4, 3)])
def test_grid_is_near_square(count: int, columns: int, lines: int) -> None:
    drawn = grids.grid(fake_runs.faces(range(count), 10), gap=0)
    assert drawn.size == (columns * 10, lines * 10)


def test_zoom_repeats_whole_pixels() -> None:
    images = fake_runs.faces([3], 16)
    drawn = np.asarray(grids.grid(images, zoom=3))
    assert drawn.shape == (48, 48, 3)
    assert np.array_equal(drawn[1::3, 1::3], images[0])


def test_captions_are_written_below_the_images_and_long_ones_are_cut() -> None:
    images = np.full((2, 40, 40, 3), 200, np.uint8)
    plain, captioned = np.asarray(grids.strip(images)), np.asarray(grids.strip(images, ["0", "a" * 300]))
    assert np.array_equal(captioned[:40], plain)
    below = captioned[40:]
    assert (below[:, :40] < 128).any()  # ink under the first
    assert (below[:, 40:42] == 255).all()  # none in the gap between them: the long one stays under its image


def test_same_images_give_the_same_bytes_and_a_readable_file(tmp_path: Path) -> None:
    images = fake_runs.faces(range(6))
    first = grids.save(grids.rows([("one", images[:3]), ("two", images[3:])], ["0", "1", "2"]), tmp_path / "a/b.png")
    second = grids.save(grids.rows([("one", images[:3]), ("two", images[3:])], ["0", "1", "2"]), tmp_path / "c.png")
    assert first.read_bytes() == second.read_bytes()
    assert [f.name for f in first.parent.iterdir()] == ["b.png"]


def test_rows_enlarge_small_images_and_blank_what_is_missing() -> None:
    large, small = fake_runs.faces(range(2), 64), fake_runs.faces(range(2), 32)
    sheet = np.asarray(grids.rows([("a", large), ("b", small), ("c", None)], gap=2))
    assert sheet.shape[0] == 3 * 64 + 2 * 2
    assert np.array_equal(sheet[66:130:2, -64::2], small[1])
    assert len(np.unique(sheet[132:, -64:].reshape(-1, 3), axis=0)) == 1


def test_grids_refuse_what_is_no_picture() -> None:
    with pytest.raises(UsageError, match="no images"):
        grids.grid(np.zeros((0, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        grids.grid(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(ValueError, match="1 labels for 2 images"):
        grids.grid(np.zeros((2, 8, 8, 3), np.uint8), labels=["x"])


# ---- plots ------------------------------------------------------------------------------------------------------


def polylines(drawing: canvas.Drawing) -> list[list[tuple[float, float]]]:
    def point(pair: str) -> tuple[float, float]:
        x, y = pair.split(",")
        return float(x), float(y)

    found = ElementTree.fromstring(canvas.svg(drawing)).iter(f"{SVG}polyline")
    return [[point(pair) for pair in line.get("points", "").split()] for line in found]


def test_lines_are_well_formed_named_and_described() -> None:
    drawing = plots.lines([plots.Series(NASTY, [(0, 3.0), (10, 1.0)])], title=NASTY, y="loss")
    root = ElementTree.fromstring(canvas.svg(drawing))
    assert root.findtext(f"{SVG}title") == NASTY
    assert "3 at 0, 1 at 10" in str(root.findtext(f"{SVG}desc"))
    assert root.get("role") == "img"


def test_a_line_falls_on_the_page_as_its_values_fall_and_log_makes_powers_even() -> None:
    points = [(float(i), 10.0**-i) for i in range(4)]
    (line,) = polylines(plots.lines([plots.Series("a", points)], title="t", log=True))
    steps = np.diff([y for _, y in line])
    assert (steps > 0).all()  # pixels grow downwards
    assert np.allclose(steps, steps[0], atol=0.11)
    (linear,) = polylines(plots.lines([plots.Series("a", points)], title="t"))
    assert np.diff([y for _, y in linear])[0] > 5 * np.diff([y for _, y in linear])[1]


def test_values_that_cannot_be_drawn_are_left_out_and_nothing_is_said_plainly() -> None:
    bad = [(0.0, float("nan")), (1.0, float("inf")), (2.0, -1.0), (3.0, 2.0), (4.0, 1.0)]
    (line,) = polylines(plots.lines([plots.Series("a", bad)], title="t", log=True))
    assert len(line) == 2
    assert "no values yet" in canvas.svg(plots.lines([plots.Series("a", bad[:2])], title="t"))
    assert "no values yet" in canvas.svg(plots.scatter([], title="t", x="x", y="y"))
    constant = plots.lines([plots.Series("a", [(5.0, 0.0)])], title="t")
    assert len(polylines(constant)[0]) == 1


def test_a_constant_stays_flat_when_it_is_smoothed() -> None:
    (_, line) = polylines(plots.lines([plots.Series("a", [(i, 2e-4) for i in range(500)])], title="t", smooth=0.9))
    assert len({y for _, y in line}) == 1


def test_smoothing_keeps_a_constant_from_the_first_value_on_and_calms_noise() -> None:
    assert all(y == pytest.approx(7) for _, y in plots.smoothed([(i, 7.0) for i in range(50)], 0.9))
    noise = np.random.default_rng(0).normal(size=2000)
    calm = [y for _, y in plots.smoothed(list(enumerate(noise)), 0.95)]
    assert np.std(calm[200:]) < 0.25 * np.std(noise)


def test_long_curves_are_thinned_without_losing_their_ends() -> None:
    points = [(float(i), float(i * i)) for i in range(100_000)]
    thin = plots.thinned(points)
    assert len(thin) <= 360
    assert thin[0] == points[0]
    assert thin[-1] == points[-1]
    assert [x for x, _ in thin] == sorted(x for x, _ in thin)


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(0, 1, False), (0.093, 0.0931, False), (-5, 12345, False), (1, 1e6, True), (0.02, 0.09, True)],
)
def test_ticks_are_few_round_and_on_the_axis(low: float, high: float, log: bool) -> None:
    axis = plots.Axis.over([low, high], 0, 100, log=log)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(-0.01 <= axis(tick) <= 100.01 for tick in ticks)
    assert len({units.amount(tick) for tick in ticks}) >= 2


def test_scatter_draws_intervals_and_names_every_point() -> None:
    marks = [plots.Mark("<a>", 10, 5, y_interval=(4, 6)), plots.Mark("b", 1000, 3)]
    drawing = plots.scatter(marks, title="t", x="time", y="fd", log_x=True)
    root = ElementTree.fromstring(canvas.svg(drawing))
    named = [title.text for circle in root.iter(f"{SVG}circle") for title in circle.iter(f"{SVG}title")]
    assert named == ["<a>", "b"]
    (bar,) = polylines(drawing)
    assert bar[0][0] == bar[1][0]
    assert bar[0][1] > bar[1][1]


# ---- markup and tables ------------------------------------------------------------------------------------------


def test_markup_escapes_text_and_attributes_but_not_markup() -> None:
    made = el("p", el("b", NASTY), "<i>", title=NASTY)
    page_ = Page(made)
    assert page_.elements == [("p", {"title": NASTY}), ("b", {})]
    assert page_.text == NASTY + "<i>"
    assert "\x00" not in escape("a\x00b")


TABLE = Table(
    "Runs & more",
    (Column("run", "run", right=False), Column("fd", "fd-faces", better="lower", detail="n 1000"), Column("m", "m")),
    (
        (Cell(NASTY, NASTY), Cell("12.3 ± 0.4", 12.3, best=True), Cell()),
        (Cell("=1+1", "=1+1"), Cell("12.6 ± 0.4", 12.6, tied=True), Cell("1k", 1000)),
    ),
    (NASTY,),
)


def test_markdown_has_one_cell_per_column_and_marks_the_best() -> None:
    lines = [line for line in tables.markdown(TABLE).splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [4, 4, 4, 4]
    assert "**12.3 ± 0.4**" in lines[2]
    assert "fd-faces (n 1000) ↓" in lines[0]
    assert "<script>" not in tables.markdown(TABLE)


def test_csv_holds_plain_values_and_no_formulas() -> None:
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(TABLE, TABLE))))
    assert len(rows) == 4
    assert rows[0]["run"] == NASTY
    assert float(rows[1]["fd"]) == 12.6
    assert rows[0]["m"] == ""
    assert rows[1]["run"] == "'=1+1"


def test_latex_is_balanced_and_escapes_every_special_letter() -> None:
    text = tables.latex(TABLE)
    body = text.split("\\midrule\n")[1].split("\n\\bottomrule")[0]
    assert len(body.splitlines()) == 2
    bare = re.sub(r"\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}", "", body)
    assert not re.search(r"(?<!\\)[#%_~^]", bare.replace("$\\pm$", "").replace("$\\approx$", ""))
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines()] == [2, 2]
    unescaped = re.sub(r"\\[{}]", "", text)
    assert unescaped.count("{") == unescaped.count("}")
    assert "\\textbf{12.3 $\\pm$ 0.4}" in body


def test_json_is_plain_and_html_has_scopes() -> None:
    value = json.loads(json.dumps(tables.as_json(TABLE)))
    assert value["rows"][0] == {"values": {"run": NASTY, "fd": 12.3, "m": None}, "best": ["fd"]}
    made = Page(tables.as_html(TABLE))
    assert [head.get("scope") for head in made.all("th")] == ["col", "col", "col", "row", "row"]
    assert made.all("script") == []


def test_a_wide_table_comes_in_bands_that_fit_and_repeat_the_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    console.configure()  # a command before this test may have asked for JSON
    columns = (Column("run", "run", right=False), *(Column(f"c{i}", f"column-{i}", better="lower") for i in range(9)))
    tables.show(Table("Wide", columns, ((Cell("the-run"), *(Cell(f"{i}.25 ± 0.05", i) for i in range(9))),)))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert sum("the-run" in line for line in lines) == 3
    for i in range(9):
        assert sum(f"column-{i} ↓" in line for line in lines) == 1
        assert sum(f"{i}.25 ± 0.05" in line for line in lines) == 1


def test_a_table_refuses_rows_of_another_length() -> None:
    with pytest.raises(ValueError, match="1 cells in a table of 3"):
        Table("t", TABLE.columns, ((Cell("x"),),))


# ---- records and the page of one run ----------------------------------------------------------------------------


def test_record_reads_nested_curves_in_order_and_survives_half_a_line(tmp_path: Path) -> None:
    run = fake_runs.make(tmp_path, "run", log=False)
    lines = [{"images": 20, "validation": {"kid-faces": 0.5}}, {"images": 10, "model/mse": 1, "lr": {"model": 2e-4}}]
    run.log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"images": 30, "model/m')
    record = records.read(run)
    assert record.curves == {"validation/kid-faces": [(20, 0.5)], "model/mse": [(10, 1)], "lr/model": [(10, 2e-4)]}
    assert record.problems == ()
    run.log.write_text("not json\n" + json.dumps(lines[0]) + "\n")
    assert "1 damaged line left out" in records.read(run).problems[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "damaged and left out"),
        ('{"scores": 3}', "no list"),
        ('{"scores": [{"name": "fd-faces", "value": "12"}]}', "score 1 is left out.*'12', not a number"),
        ('{"scores": [{"name": "fd-faces", "value": NaN}]}', "not a number"),
        (
            '{"scores": [{"name": "fd-faces", "value": 1, "protocol": {}, "protocol_id": "a"}]}',
            "protocol is incomplete",
        ),
    ],
)
def test_damaged_scores_are_named_and_left_out(tmp_path: Path, text: str, said: str) -> None:
    run = fake_runs.make(tmp_path, "run")
    run.scores.write_text(text)
    record = records.read(run)
    assert record.scores == ()
    assert re.search(said, record.problems[0])
    assert str(run.scores) in record.problems[0]


def test_states_say_how_far_a_run_came(tmp_path: Path) -> None:
    stopped = fake_runs.make(tmp_path, "a", images=120_000, state="stopped")
    untrained = fake_runs.make(tmp_path, "b", images=0)
    assert records.read(stopped).state == "stopped at 24%"
    assert records.read(untrained).state == "untrained"
    with pytest.raises(DataError, match="no run"):
        records.read(Run(tmp_path / "nothing"))


def test_run_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    run = fake_runs.make(tmp_path, "00001-a<b>&", scores=[fake_runs.score("fd-faces", 12.3, std=0.4)])
    made = Page(page.run_page(run))
    assert made.all("h1") == [{}]
    assert "00001-a<b>&" in made.text
    assert "12.30 ± 0.40" in made.text
    images = made.all("img")
    assert len(images) == 4  # first and last averaged, last raw, real
    assert all(image["alt"] and str(image["src"]).startswith("data:image/") for image in images)
    assert len(made.all("svg")) >= 3


def test_pictures_are_embedded_losslessly_while_they_fit_the_budget() -> None:
    picture = grids.grid(fake_runs.faces(range(9)))

    def decoded(budget: float) -> tuple[int, np.ndarray]:
        source = Page(pictures.embed(picture, "alt", budget)).all("img")[0]["src"]
        data = base64.b64decode(str(source).partition(",")[2])
        return len(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    whole, pixels = decoded(1e6)
    assert np.array_equal(pixels, np.asarray(picture))
    noisy = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    picture = Image.fromarray(noisy)
    small, pixels = decoded(300_000)
    assert small < 300_000 < noisy.size
    assert pixels.shape == noisy.shape
    assert whole < 50_000


def test_run_page_tells_each_validation(tmp_path: Path) -> None:
    run = fake_runs.make(tmp_path, "00001-a")
    made = page.run_page(run)
    table = made[made.index("<h2>Validation</h2>") :]
    table = table[: table.index("</table>")]
    logged = [disk.from_line(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    validations = [line for line in logged if "validation" in line]
    assert table.count("<tr>") == len(validations) + 1
    for line in validations:
        assert f"{line['validation']['noise_loss']:.4g}" in table


# ---- which runs share a plot ------------------------------------------------------------------------------------


def test_losses_share_axes_only_where_families_say_that_they_are_one_quantity(tmp_path: Path) -> None:
    said = {"quantities": {"mse": "squared error of the noise"}}
    runs = [
        fake_runs.make(tmp_path, "first", family="ddpm", about=said),
        fake_runs.make(tmp_path, "second", family="other", about=said),
        fake_runs.make(tmp_path, "third", family="edm", about={"quantities": {"mse": "another"}}),
        fake_runs.make(tmp_path, "fourth", family="silent"),
    ]
    read = [records.read(run) for run in runs]
    names = [record.name for record in read]
    main, alone, *_ = figures.curves(read, names, Numbering())
    assert "first: " in main
    assert "second: " in main
    for name in ("third", "fourth"):
        assert f"{name}: " in alone
    (loss,) = [part for part in str(main).split("<svg") if ">model/mse<" in part]
    assert "third" not in loss
    (score,) = [part for part in str(main).split("<svg") if ">validation/kid-faces<" in part]
    assert all(name in score for name in names)  # a score is the same for all


def test_denoising_is_plotted_over_noise_and_levels(tmp_path: Path) -> None:
    scores = [
        fake_runs.score(f"denoise-{measure}-{deviation}{top}", value, metric=f"denoise-{measure}-{deviation}{top}", extractor="")
        for measure, value in (("psnr", 24.0), ("ssim", 0.8))
        for deviation in (0.1, 0.2, 0.4)
        for top in ("", "-top-1", "-top-2")
    ]  # fmt: skip
    read = [records.read(fake_runs.make(tmp_path, name, scores=scores)) for name in ("one", "two")]
    numbering = Numbering()
    plotted = str(figures.denoising(read, ["one", "two"], numbering))
    assert plotted.count("<svg") == 4
    assert "the noisy images" in plotted
    assert "noise of 0.2, one" in plotted
    compared = compare([record.run for record in read])
    assert {column.name for column in compared.score_columns} == {
        f"denoise-{measure}-{deviation}" for measure in ("psnr", "ssim") for deviation in (0.1, 0.2, 0.4)
    }  # fmt: skip
    assert {column.group for column in compared.score_columns} == {"Denoising"}
    assert figures.denoising([records.read(fake_runs.make(tmp_path, "bare"))], ["bare"], Numbering()) is None
