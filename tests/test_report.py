"""Grids, plots, tables and records: what they hold, read back with other tools than those that wrote it."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import fake_runs
import numpy as np
import pytest
from PIL import Image

from animegen_cli import console, disk
from animegen_cli.compare.compare import compare
from animegen_cli.errors import DataError, UsageError
from animegen_cli.paths import Run
from animegen_cli.report import figures, grids, page, pictures, plots, records, tables
from animegen_cli.report.numbering import FigurePart, Numbering
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


def drawn_lines(plot: plots.Plot) -> list[Any]:
    """The lines of a plot that have a name, as matplotlib holds them."""
    return [line for line in plot.figure.axes[0].lines if not str(line.get_label()).startswith("_")]


def in_pixels(plot: plots.Plot) -> np.ndarray:
    """Where the points of its first line stand, in points from the lower left corner."""
    axes = plot.figure.axes[0]
    return axes.transData.transform(drawn_lines(plot)[0].get_xydata())


def test_svg_is_well_formed_named_described_alone_on_a_page_and_the_same_each_time() -> None:
    def made() -> plots.Plot:
        series = [plots.Series(NASTY, [(0, 3.0), (10, 1.0)]), plots.Series("かな", [(0, 2.0), (10, 2.0)])]
        return plots.lines(series, title=NASTY, y="loss")

    for text in (plots.svg(made()), str(plots.inline(made()))):
        root = ElementTree.fromstring(text)
        assert root.findtext(f"{SVG}title") == NASTY
        assert "3 at 0, 1 at 10" in str(root.findtext(f"{SVG}desc"))
        assert root.get("role") == "img"
        written = {str(node.text) for node in root.iter(f"{SVG}text")}
        assert "かな" in written
        assert any(NASTY.startswith(one[:-1]) for one in written if one.endswith("…"))  # shortened, nothing left out
        assert not any(node.tag.endswith(("style", "metadata", "script")) for node in root.iter())
        used = set(re.findall(r'#([\w-]+)[")]', text))
        assert {node.get("id") for node in root.iter() if node.get("id")} <= used  # no name that others may have too
    assert plots.svg(made()) == plots.svg(made())
    assert plots.pdf(made()) == plots.pdf(made())
    assert "var(--c0, #2b7bba)" in plots.inline(made())
    assert "var(" not in plots.svg(made())  # readers of files know no variables


def test_a_users_own_settings_of_matplotlib_are_neither_used_nor_changed() -> None:
    import matplotlib

    def made() -> str:
        return plots.svg(plots.intervals([("a", 1.0, 2.0, 3.0)], title="t"))

    plain = made()
    with matplotlib.rc_context({"axes.facecolor": "#123456", "font.size": 30}):
        assert made() == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_a_line_falls_on_the_page_as_its_values_fall_and_many_decades_are_even() -> None:
    steep = in_pixels(plots.lines([plots.Series("a", [(float(i), 10.0**-i) for i in range(4)])], title="t"))
    steps = np.diff(steep[:, 1])
    assert (steps < 0).all()
    assert np.allclose(steps, steps[0])
    near = in_pixels(plots.lines([plots.Series("a", [(float(i), 2.0**-i) for i in range(4)])], title="t"))
    assert np.diff(near[:, 1])[0] == pytest.approx(2 * np.diff(near[:, 1])[1])


def test_a_constant_and_a_single_point_have_an_axis() -> None:
    for points in ([(5.0, 0.0)], [(float(i), 2e-4) for i in range(90)]):
        plot = plots.lines([plots.Series("a", points)], title="t", smooth=0.9 if len(points) > 1 else 0.0)
        (line,) = drawn_lines(plot)
        assert len(line.get_xydata()) == len(points)
        low, high = plot.figure.axes[0].get_ylim()
        assert low <= points[0][1] < high


def test_smoothing_keeps_a_constant_from_the_first_value_on_and_calms_noise() -> None:
    assert all(y == pytest.approx(7) for _, y in plots.smoothed([(i, 7.0) for i in range(50)], 0.9))
    noise = np.random.default_rng(0).normal(size=2000)
    calm = [y for _, y in plots.smoothed(list(enumerate(noise)), 0.95)]
    assert np.std(calm[200:]) < 0.25 * np.std(noise)


def test_long_curves_are_thinned_without_losing_their_ends() -> None:
    points = [(float(i), float(i * i)) for i in range(100_000)]
    thin = plots.thinned(points)
    assert len(thin) <= 240
    assert thin[0] == points[0]
    assert thin[-1] == points[-1]
    assert [x for x, _ in thin] == sorted(x for x, _ in thin)


@pytest.mark.parametrize("values", [(0, 1), (0.093, 0.0931), (1, 12345), (1, 1e6), (0.02, 0.09), (0.01, 0.4), (7, 7)])
def test_numbers_at_an_axis_are_few_and_differ(values: tuple[float, float]) -> None:
    plot = plots.lines([plots.Series("a", list(enumerate(values)))], title="t")
    axes = plot.figure.axes[0]
    low, high = axes.get_ylim()
    texts = [axes.yaxis.get_major_formatter()(tick) for tick in axes.get_yticks() if low <= tick <= high]
    assert 2 <= len(texts) <= 9
    assert len(set(texts)) == len(texts)


def test_scatter_draws_intervals_and_names_every_point() -> None:
    marks = [plots.Mark("<a>", 10, 5, y_interval=(4, 6)), plots.Mark("b", 1000, 3, x_interval=(900, 1200))]
    plot = plots.scatter(marks, title="t", x="time", y="fd")
    assert [line.get_label() for line in drawn_lines(plot)] == ["<a>", "b"]
    assert [text.get_text() for text in plot.figure.legends[0].get_texts()] == ["<a>", "b"]
    bars = [line.get_xydata().tolist() for line in plot.figure.axes[0].lines]
    assert [[10, 4], [10, 6]] in bars
    assert [[900, 3], [1200, 3]] in bars


# ---- tables -----------------------------------------------------------------------------------------------------


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


def test_csv_has_the_uncertainty_in_columns_of_its_own() -> None:
    columns = (Column("run", "run", right=False), Column("fid", "fid"), Column("seconds", "time"))
    one = (Cell("a", "a"), Cell("12.3 ± 0.4", 12.3, std=0.4, interval=(11.5, 13.1)), Cell("2 min", 120))
    first, second = csv.DictReader(
        io.StringIO(tables.as_csv(Table("t", columns, (one, (Cell("b", "b"), Cell(), Cell())))))
    )
    assert first == {
        "table": "t", "run": "a", "fid": "12.3", "fid_std": "0.4", "fid_low": "11.5", "fid_high": "13.1", "seconds": "120",
    }  # fmt: skip
    assert [second[key] for key in ("fid", "fid_std", "fid_low", "fid_high")] == [""] * 4


def test_latex_is_balanced_and_escapes_every_special_letter() -> None:
    text = tables.latex(TABLE)
    body = text.split("\\midrule\n")[1].split("\n\\bottomrule")[0]
    assert len(body.splitlines()) == 2
    bare = re.sub(r"\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}", "", body)
    assert not re.search(r"(?<!\\)[#%_~^]", bare)
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines()] == [2, 2]
    unescaped = re.sub(r"\\[{}]", "", text)
    assert unescaped.count("{") == unescaped.count("}")
    assert "$\\mathbf{12.3 \\pm 0.4}$" in body
    assert "$12.6 \\pm 0.4$ $\\approx$" in body
    assert "\\label" not in text
    assert tables.latex(TABLE, label="tab:x").index("\\caption{") < tables.latex(TABLE, label="tab:x").index(
        "\\label{tab:x}"
    )


def test_json_is_plain() -> None:
    value = json.loads(json.dumps(tables.as_json(TABLE)))
    assert value["rows"][0] == {"values": {"run": NASTY, "fd": 12.3, "m": None}, "best": ["fd"]}


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
    numbering = Numbering()
    (main,) = figures.curves(read, names, numbering)
    assert isinstance(main, FigurePart)
    assert "Losses that no other run shares are in each run’s own report.html" in main.caption
    assert set(numbering.plots) == {"curve-model-mse", "curve-validation-kid-faces"}
    (loss,) = [plot.description for name, plot in numbering.plots.items() if name == "curve-model-mse"]
    assert [name for name in names if f"{name}: " in loss] == ["first", "second"]
    score = numbering.plots["curve-validation-kid-faces"].description
    assert all(f"{name}: " in score for name in names)  # a score is the same for all
    alone = Numbering()
    figures.curves(read[:1], names[:1], alone)
    assert {"curve-model-mse", "curve-learning-rates", "curve-gradient-norms", "curve-images-s"} <= set(alone.plots)


def test_denoising_is_plotted_over_noise_and_levels(tmp_path: Path) -> None:
    scores = [
        fake_runs.score(f"denoise-{measure}-{deviation}{top}", value, metric=f"denoise-{measure}-{deviation}{top}", extractor="")
        for measure, value in (("psnr", 24.0), ("ssim", 0.8))
        for deviation in (0.1, 0.2, 0.4)
        for top in ("", "-top-1", "-top-2")
    ]  # fmt: skip
    read = [records.read(fake_runs.make(tmp_path, name, scores=scores)) for name in ("one", "two")]
    numbering = Numbering()
    figures.denoising(read, ["one", "two"], numbering)
    assert len(numbering.plots) == 4
    assert "the noisy images: " in numbering.plots["denoising-psnr"].description
    assert "noise of 0.2, one: " in numbering.plots["denoising-levels-psnr"].description
    compared = compare([record.run for record in read])
    assert {column.name for column in compared.score_columns} == {
        f"denoise-{measure}-{deviation}" for measure in ("psnr", "ssim") for deviation in (0.1, 0.2, 0.4)
    }  # fmt: skip
    assert {column.group for column in compared.score_columns} == {"Denoising"}
    assert figures.denoising([records.read(fake_runs.make(tmp_path, "bare"))], ["bare"], Numbering()) is None
