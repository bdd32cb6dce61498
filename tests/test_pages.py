"""The pages in a real browser: silent, alone, readable in light and dark, on a phone and on paper; figures as files."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING, Any

import fake_runs
import numpy as np
import pytest
from browsing import opened
from fake_runs import score
from PIL import Image

from animegen_cli.compare import compare
from animegen_cli.paths import Run
from animegen_cli.report import page, tables
from animegen_cli.report.figures import ScorePair
from animegen_cli.report.page import StudyPlan
from animegen_cli.report.tables import Cell, Column, Table

if TYPE_CHECKING:
    from pathlib import Path

NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"'"
PAGES = ("comparison", "run")

# The least contrast of all text that can be seen, by WCAG 2: each text against the nearest background behind it.
CONTRAST = """() => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const color = numbers(getComputedStyle(at).backgroundColor);
      if (color.length == 3 || color[3] > 0.99) return color;
    }
    return [255, 255, 255];
  };
  let least = [99, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; text = walker.nextNode();) {
    const node = text.parentElement, style = getComputedStyle(node);
    if (!text.data.trim() || node.matches("title, desc, style") || !node.getClientRects().length) continue;
    const ink = numbers(node instanceof SVGElement ? style.fill : style.color);
    const [one, two] = [light(ink), light(behind(node))];
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < least[0]) least = [ratio, text.data.trim().slice(0, 40)];
  }
  return least;
}"""


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of six runs with everything on it (and nasty words everywhere) and the page of one."""
    root, runs = tmp_path_factory.mktemp("six"), []
    for i in range(6):
        scores = [
            score("fd-faces", 12.0 + i * i, std=0.8), score("kid-faces", 0.1 + 0.02 * i, std=0.01),
            score("precision-faces", 0.7 - 0.05 * i, std=0.01), score("diversity-faces", 0.4 + 0.02 * i, std=0.01),
            score("mse", 0.01 + 0.004 * i, std=0.001, extractor="", seeds="", sampling=""),
        ]  # fmt: skip
        seen = fake_runs.everything_seen(i)
        seen["histograms"][0] |= {"values": [NASTY, "blonde", "blue", "pink"]}
        seen["requests"].append(seen["requests"][0] | {"value": NASTY})
        about = {"notes": {NASTY: NASTY}, "findings": [{"name": NASTY, "since": 1, "says": NASTY, "flag": NASTY}]}
        run = fake_runs.make(
            root / "runs", f"0000{i}-{NASTY.replace('/', '')}" if i == 1 else f"0000{i}-ddpm-fast-faces-64",
            scores=None if i == 5 else scores, seconds=600.0 + 900 * i, state="stopped" if i == 4 else "finished",
            images=300_000 if i == 4 else 500_000, lr=1e-4 * (i + 1), seen=seen, about=about if i == 1 else None,
        )  # fmt: skip
        with run.log.open("a") as log:
            log.write(
                json.dumps({"images": 500_000, **{f"model/kl_{n:02d}": 3 / (n + i + 1) for n in range(6)}}) + "\n"
            )
        fake_runs.write_neighbours(run)
        runs.append(run)
    compared = compare.compare(runs)
    study = StudyPlan(
        f"A study {NASTY}",
        NASTY,
        tables.text_table("t", ("run", NASTY), [("a", NASTY)]),
        pairs=[ScorePair("mse", "diversity", compared.names[:4])],
    )
    compare.write(
        compared, root / "comparison", drawn=compare.same_seeds(compared, range(10), fake_runs.draw), study=study, figures=True,
    )  # fmt: skip
    (root / "comparison/comparison.html").symlink_to(root / "comparison/index.html")
    (root / "comparison/run.html").symlink_to(page.write(runs[1]))
    return root / "comparison"


# ---- in the browser ---------------------------------------------------------------------------------------------


def test_the_first_screen_says_which_to_choose_and_shows_faces_and_scores(six: Path, browser: Any) -> None:
    page_ = six / "index.html"
    assert page_.stat().st_size < 6_000_000
    with opened(browser, page_.as_uri(), viewport={"width": 1280, "height": 800}) as shown:
        took = shown.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        boxes = {
            what: shown.evaluate(
                f"[...document.querySelectorAll('{what}')].map(n => n.getBoundingClientRect().toJSON())"
            )
            for what in (".verdict", ".faces", ".dot", ".cost")
        }
        sentence = shown.locator(".verdict").inner_text()
        rows = shown.locator(".run .who b").all_inner_texts()
        wider = shown.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth).length"
        )
        assert shown.evaluate("document.documentElement.scrollWidth") == 1280
    assert took < 1000
    assert sentence.startswith("Choose 00000-ddpm-fast-faces-64 or 0000")
    assert [name[:5] for name in rows] == [f"0000{i}" for i in range(6)]  # best first, unscored last
    assert {what: len(found) for what, found in boxes.items()} == {".verdict": 1, ".faces": 6, ".dot": 5, ".cost": 6}
    assert all(box["bottom"] <= 800 for found in boxes.values() for box in found)
    assert all(96 <= box["height"] <= 128 for box in boxes[".faces"])
    assert wider == 0


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_first_screen_says_what_its_errors_and_bars_are_right_above_them(
    six: Path, width: int, height: int, browser: Any
) -> None:
    with opened(browser, (six / "index.html").as_uri(), viewport={"width": width, "height": height}) as shown:
        phrase = shown.locator(".errors")
        assert phrase.inner_text() == "± and bar: standard error, over 1,000 drawn images"
        said, scale = (
            shown.evaluate(f"document.querySelector('{what}').getBoundingClientRect().toJSON()")
            for what in (".errors", ".scale")
        )
    assert 0 <= said["left"] < said["right"] <= width
    assert 0 <= said["top"] < scale["bottom"] < height
    assert abs(said["bottom"] - scale["bottom"]) < 60, "beside the axis, or right above it on a phone"


def test_a_row_of_the_first_screen_lies_where_its_score_says(six: Path, browser: Any) -> None:
    with opened(browser, (six / "index.html").as_uri(), viewport={"width": 1280, "height": 800}) as shown:
        at = shown.evaluate("[...document.querySelectorAll('.dot')].map(n => n.getBoundingClientRect().left)")
    steps = np.diff(at)  # the scores are 12 + i * i
    assert np.allclose(steps / steps[0], [1, 3, 5, 7], atol=0.2)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_silent_asks_for_nothing_and_runs_nothing(six: Path, name: str, browser: Any) -> None:
    asked: list[str] = []
    with opened(browser, "about:blank") as shown:
        shown.on("request", lambda request: asked.append(request.url))
        shown.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        shown.goto((six / f"{name}.html").as_uri())
        assert shown.locator("script, iframe, link, object, [onerror], [onload]").count() == 0
        broken = shown.evaluate("[...document.images].filter(image => !image.naturalWidth).length")
        assert broken == 0
    others = [address for address in asked if not address.startswith(("data:", (six / f"{name}.html").as_uri()))]
    assert others == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(six: Path, name: str, scheme: Any, browser: Any) -> None:
    with opened(browser, (six / f"{name}.html").as_uri(), color_scheme=scheme) as shown:
        shown.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        ratio, text = shown.evaluate(CONTRAST)
    assert ratio >= 4.5, f"{text!r} has a contrast of {ratio:.2f}"


@pytest.mark.parametrize("name", PAGES)
def test_nothing_hangs_over_the_edge_of_a_phone_or_a_sheet_of_paper(six: Path, name: str, browser: Any) -> None:
    wider = "() => [...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().right - innerWidth)"
    with opened(browser, (six / f"{name}.html").as_uri(), viewport={"width": 390, "height": 844}) as shown:
        shown.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert shown.evaluate("document.documentElement.scrollWidth") == 390
        small = shown.evaluate("[...document.querySelectorAll('figure img')].filter(i => i.clientWidth < 150).length")
        assert small == 0
        letters = "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
        assert min(height for height in shown.evaluate(letters) if height) > 9
        shown.emulate_media(media="print")
        shown.set_viewport_size({"width": 673, "height": 1000})  # A4 less its margins
        assert shown.evaluate("document.documentElement.scrollWidth") == 673
        assert max(shown.evaluate(wider)) <= 0
        printed = shown.pdf(format="A4", prefer_css_page_size=True)
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", printed)) > 2


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_heard_and_walked_with_the_keyboard(six: Path, name: str, browser: Any) -> None:
    with opened(browser, (six / f"{name}.html").as_uri(), viewport={"width": 390, "height": 844}) as shown:
        levels = shown.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        assert shown.locator("img:not([alt]), img[alt='']").count() == 0
        assert shown.locator("svg:not([role=img])").count() == 0
        assert shown.evaluate("[...document.querySelectorAll('svg')].every(s => s.querySelector('title').textContent)")
        assert shown.locator("th:not([scope])").count() == 0
        hidden = (
            "[...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth && s.tabIndex < 0)"
        )
        assert shown.evaluate(hidden) == []
        assert shown.locator("html[lang=en]").count() == 1
        shown.keyboard.press("Tab")
        assert shown.evaluate("document.activeElement.textContent") == "Skip to the results"
        assert shown.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        targets = shown.evaluate("[...document.querySelectorAll('nav a')].map(a => !!document.querySelector(a.hash))")
        assert targets
        assert all(targets)


# ---- what is on them --------------------------------------------------------------------------------------------


def test_nasty_words_are_text_on_every_page(six: Path) -> None:
    for name in PAGES:
        text = (six / f"{name}.html").read_text(encoding="utf-8")
        assert "<script" not in text
        assert "<img src=x" not in text
        assert text.count("&lt;script&gt;alert(1)") > 5


def test_everything_that_eval_saw_is_on_both_pages_and_real_pictures_can_stay_out(six: Path) -> None:
    runs = [Run(path) for path in sorted((six.parent / "runs").iterdir())]
    files = compare.write(compare.compare(runs), six.parent / "shared", reals=False)
    shared, whole = files["page"].read_text(encoding="utf-8"), (six / "index.html").read_text(encoding="utf-8")
    one = (six / "run.html").read_text(encoding="utf-8")
    for text in (whole, one, shared):
        assert "hair color, seen by pixels" in text
        assert "of 32 (" in text
    for text in (whole, one):
        assert "neighbours of 00001" in text
    assert "neighbours of" not in shared
    assert "grid of real images" not in shared
    assert "24 s" in one


def test_raw_and_averaged_weights_stand_side_by_side(six: Path, browser: Any) -> None:
    with opened(browser, (six / "run.html").as_uri(), viewport={"width": 1280, "height": 900}) as shown:
        boxes = shown.evaluate(
            "[...document.querySelector('#samples figure').querySelectorAll('img')].map(i => i.getBoundingClientRect().toJSON())"
        )
        below = shown.locator("#samples figure").first.locator(".below").all_inner_texts()
    assert len({box["top"] for box in boxes}) == 1
    assert boxes[0]["right"] < boxes[1]["left"]
    assert below == [
        "raw weights after 500k images", "averaged weights after 500k images", "real images of the data set",
    ]  # fmt: skip


def test_hand_edited_findings_are_left_out_and_named(tmp_path: Path) -> None:
    seen = fake_runs.everything_seen()
    seen["histograms"] += [{"name": "x"}, seen["histograms"][0] | {"drawn": [2.0, 0, 0, 0]}, 7]
    seen["requests"] += [seen["requests"][0] | {"recognised": 99}, {"asked": "many"}]
    seen["sheets"] = {"neighbours": "../outside.png", "other": 3, "gone": "judged/gone.png"}
    run = fake_runs.make(tmp_path, "a", scores=[], seen=seen)
    fake_runs.write_grid(tmp_path / "outside.png", 1, 32)
    made = page.run_page(run)
    plain = made.replace("<code>", "`").replace("</code>", "`")
    for said in (
        "entry 2 of `histograms`", "entry 3 of `histograms`", "entry 4 of `histograms`", "entry 5 of `requests`",
        "entry 6 of `requests`", "sheet `neighbours` is left out", "sheet `other` is left out",
    ):  # fmt: skip
        assert said in plain
    assert made.count("<title>hair color, seen by pixels</title>") == 1
    assert "neighbours of" not in made


# ---- files beside the page --------------------------------------------------------------------------------------


def test_each_figure_is_there_as_svg_png_and_pdf_and_each_table_in_four_forms(six: Path) -> None:
    vectors, pictures = ({f.stem for f in (six / "figures").glob(f"*.{kind}")} for kind in ("svg", "png"))
    assert {"fd-faces-time", "fd-faces-sampling", "diversity-faces-against-mse"} <= vectors
    assert "fd-faces-parameters" not in vectors  # all have as many
    assert {"shares-hair-color", "levels-model-kl", "curve-model-mse"} <= vectors
    assert vectors < pictures
    assert vectors == {file.stem for file in (six / "figures").glob("*.pdf")}
    assert {"neighbours-00000-ddpm-fast-faces-64", "samples-00000-ddpm-fast-faces-64"} <= pictures - vectors
    for stem in vectors:
        root = ElementTree.parse(six / "figures" / f"{stem}.svg").getroot()
        with Image.open(six / "figures" / f"{stem}.png") as drawn:
            assert drawn.size == tuple(2 * round(float(str(root.get(side))[:-2])) for side in ("width", "height"))
            assert len(drawn.convert("RGB").getcolors(1 << 24) or ()) > 10
    names = {file.stem for file in (six / "tables").iterdir()}
    assert {"verdict", "plan", "quality-fidelity", "quality-variety", "cost", "settings", "requests-faces-net"} <= names
    for name in names:
        text = (six / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        bare = re.sub(r"\\[{}\\]", "", text)
        assert bare.count("{") == bare.count("}")
        assert text.count("\\begin{") == text.count("\\end{") == 2
        rows = json.loads((six / "tables" / f"{name}.json").read_text(encoding="utf-8"))["rows"]
        assert len(rows) == len(text.split("\\midrule\n")[1].split("\n\\bottomrule")[0].splitlines())
        assert (six / "tables" / f"{name}.md").is_file()
        assert (six / "tables" / f"{name}.csv").is_file()


def test_columns_that_say_the_same_in_all_rows_are_said_once() -> None:
    columns = (
        Column("run", "run", right=False),
        Column("data", "data", right=False),
        Column("n", "n"),
        Column("k", "k"),
    )
    same = Table("t", columns, tuple((Cell(name), Cell("faces"), Cell("3", 3), Cell(name)) for name in "ab"))
    slim = tables.slim(same)
    assert [column.key for column in slim.columns] == ["run", "k"]
    assert slim.common == "data faces, n 3"
    rows = ((Cell("a"), Cell("faces"), Cell("3", 3), Cell()), (Cell("b"), Cell("cats"), Cell(), Cell()))
    assert [column.key for column in tables.slim(Table("t", columns, rows)).columns] == ["run", "data", "n"]


def test_the_settings_that_differ_are_tinted_where_they_do(six: Path, browser: Any) -> None:
    with opened(browser, (six / "index.html").as_uri()) as shown:
        shown.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        row = shown.locator("#settings tr", has=shown.get_by_text("optim.model.lr", exact=True)).first
        tinted = row.locator("td").evaluate_all("cells => cells.map(c => c.className.includes('odd'))")
    assert tinted == [False, True, True, True, True, True]
