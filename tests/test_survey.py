"""People as judges: the survey's design, the page in a real browser, and what becomes of its answers, good and bad."""

from __future__ import annotations

import csv
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fake_runs
import numpy as np
import pytest
import typer
from browsing import opened
from fake_runs import draw
from test_report import Page
from typer.testing import CliRunner

from animegen_cli import disk
from animegen_cli.cli.command import Command
from animegen_cli.cli.compare import compare
from animegen_cli.compare import compare as comparison
from animegen_cli.compare.survey import design, making, results, votes
from animegen_cli.compare.survey.design import SHEET, Contestant
from animegen_cli.data.dataset import FaceSet
from animegen_cli.errors import AnimegenError, DataError, UsageError
from animegen_cli.prepare import prepare
from animegen_cli.prepare.request import Options, Request
from animegen_cli.report import survey_page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from animegen_cli.paths import Run

NASTY = "<img src=x onerror=alert(1)>"
NAMES = ["00001-good", f"00002-{NASTY}", "00003-bad"]


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    return [fake_runs.make(tmp_path / "runs", name, size=16, log=False) for name in NAMES]


@pytest.fixture(scope="module")
def real_faces(tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    """64 drawn faces of 16 pixels, half of them held out."""
    path = tmp_path_factory.mktemp("set") / "faces.zip"
    prepare.prepare(Request(["demo"], path, Options(size=16, limit=64, split=0.5, workers=1)))
    return FaceSet.open(path)


def learned_from(faces: FaceSet, *runs: Run) -> None:
    for run in runs:
        about = disk.unsealed(json.loads((run.path / "run.json").read_text()))
        about["data"] |= {"path": str(faces.path), "identity": faces.identity}
        (run.path / "run.json").write_text(json.dumps(about))


def made(runs: Sequence[Run], folder: Path, seeds: int = 12, **options: Any) -> making.Made:
    return making.make(comparison.compare(runs), range(seeds), draw, folder, **{"pairs": 12, "reals": False, **options})


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


# ---- the design -------------------------------------------------------------------------------------------------


def laid_out(contestants: int, pairs: int, images: int = 12, **options: Any) -> design.Design:
    faces = [Contestant(f"run {i}", f"runs/{i}", fake_runs.faces(range(images), 16)) for i in range(contestants)]
    intact = fake_runs.faces(range(100, 112), 16)
    return design.design(faces, intact, pairs=pairs, chance=random.Random(1), **options)[0]


def test_every_pair_of_runs_comes_equally_often_with_one_seed_on_both_sides() -> None:
    found = laid_out(4, 60)
    assert {block.question: block.asked for block in found.blocks} == {
        "realism": 42,
        "diversity": 18,
    }  # 6 pairs of runs
    for block in found.blocks:
        assert len(block.groups) == 6
        assert len({len(group) for group in block.groups}) == 1
        pairs = [frozenset({group[0].a[0][0], group[0].b[0][0]}) for group in block.groups]
        assert len(set(pairs)) == 6
        for group in block.groups:
            for shown in group:
                assert [image for _, image in shown.a] == [image for _, image in shown.b]
                assert len(shown.a) == {"realism": 1, "diversity": SHEET}[block.question]
                assert len({image for _, image in shown.a}) == len(shown.a)
    ids = [s.id for block in found.blocks for group in (*block.groups, block.checks) for s in group]
    assert len(set(ids)) == len(ids) == len(found.key["pairs"]) + len(found.key["checks"])
    first = Counter(pair["a"] < pair["b"] for pair in found.key["pairs"].values())
    assert 0.35 < first[True] / first.total() < 0.65  # which of two is called a is drawn


@pytest.mark.parametrize(
    ("count", "meetings", "asked"), [(40, 6, 42), (20, 6, 18), (40, 40, 40), (20, 66, 20), (1, 3, 1)]
)
def test_comparisons_are_a_multiple_of_the_pairs_where_there_is_room(count: int, meetings: int, asked: int) -> None:
    assert design.evenly(count, meetings) == asked


def test_nobody_is_asked_the_same_pair_twice() -> None:
    (block,) = laid_out(2, 60, images=12, questions=("realism",)).blocks
    assert block.asked == len(block.groups[0]) == 12


def test_checks_have_an_answer_that_nobody_can_miss() -> None:
    found = laid_out(3, 60)
    assert [len(block.checks) for block in found.blocks] == [5, 3]
    realism, diversity = found.blocks
    right = {identity: check["right"] for identity, check in found.key["checks"].items()}
    for shown in realism.checks:
        good, bad = (shown.a, shown.b) if right[shown.id] == "a" else (shown.b, shown.a)
        assert good[0][1] < 12 <= bad[0][1]  # an intact image, and one of those that were made of them
    for shown in diversity.checks:
        good, bad = (shown.a, shown.b) if right[shown.id] == "a" else (shown.b, shown.a)
        assert len(set(good)) == SHEET
        assert len(set(bad)) == 1
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    mixed = design.shuffled(image, random.Random(0))
    assert sorted(map(tuple, mixed.reshape(-1, 3))) == sorted(map(tuple, image.reshape(-1, 3)))
    for y in range(0, 16, 4):
        for x in range(0, 16, 4):
            assert not np.array_equal(mixed[y : y + 4, x : x + 4], image[y : y + 4, x : x + 4])


# ---- what is written --------------------------------------------------------------------------------------------


def test_page_tells_neither_runs_nor_seeds_and_lets_nothing_in_or_out(runs: list[Run], tmp_path: Path) -> None:
    page = made(runs, tmp_path / "s").page.read_text(encoding="utf-8")
    parsed = Page(page)
    policy = str(next(meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv")))
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert len(re.findall(r"'sha256-[A-Za-z0-9+/]{43}='", policy)) == 2
    assert not re.search(r"https?://|url\(|@import|00001|good|onerror|ddpm", page)
    data = data_of(page)
    assert set(data) == {"survey", "blocks", "images"}
    assert all(image.startswith("data:image/") for image in data["images"])
    drawn_by = {survey_page._address(making.encoded(image)): run.name for run in runs for image in draw(run, range(12))}
    order = [drawn_by.get(image, "") for image in data["images"]]
    assert set(NAMES) < set(order)
    assert order != sorted(order)  # neither the runs' order nor that of the seeds can be read from the page
    seeds = [image for image in data["images"] if drawn_by.get(image) == NAMES[0]]
    assert seeds != [image for image in drawn_by if image in seeds]


def test_real_images_are_held_out_ones_and_take_part(runs: list[Run], real_faces: FaceSet, tmp_path: Path) -> None:
    learned_from(real_faces, *runs)
    found = made(runs[:1], tmp_path / "s", reals=True)
    assert found.contestants == (NAMES[0], making.REALS)
    assert found.notes == ()
    key = votes.read_key(tmp_path / "s")
    assert key.runs == (str(runs[0].path), None)
    held_out, said = making._real_images(comparison.compare(runs), 16, 24)
    assert held_out is not None, said
    known = {image.tobytes() for image in real_faces.pixels(real_faces.indices("test"))}
    assert {image.tobytes() for image in held_out} <= known
    assert len({image.tobytes() for image in held_out}) == 24


def test_without_the_data_set_attention_is_checked_with_drawn_faces(runs: list[Run], tmp_path: Path) -> None:
    found = made(runs, tmp_path / "s", reals=True)
    assert found.contestants == tuple(NAMES)
    assert "there is no data set datasets/faces.zip" in found.notes[0]
    assert "no real images" in found.notes[0]
    with pytest.raises(UsageError, match="one run alone"):
        made(runs[:1], tmp_path / "t", reals=True)


def test_runs_of_different_sizes_share_a_page(runs: list[Run], tmp_path: Path) -> None:
    larger = fake_runs.make(tmp_path / "runs", "00004-large", size=32, log=False)
    found = made([runs[0], larger], tmp_path / "s")
    assert found.contestants == (NAMES[0], "00004-large")


def test_a_page_of_large_noisy_images_keeps_to_its_budget_and_says_so(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (24, 160, 160, 3), np.uint8)  # 76,800 bytes each, without losses

    def fitted(seeds: int, contestants: int) -> tuple[list[list[bytes]], int | None, str]:
        return making._fitting([Contestant(str(i), "", noisy[:seeds]) for i in range(contestants)])

    coded, quality, note = fitted(4, contestants=3)
    assert (quality, note, [len(row) for row in coded]) == (None, "", [4, 4, 4])
    coded, quality, note = fitted(24, contestants=3)  # 12 seeds fit without losses, which are enough
    assert sum(len(image) for row in coded for image in row) <= making.BUDGET
    assert quality is None
    assert making.FEWEST_SEEDS <= len(coded[0]) < 24
    assert note == f"only the first {len(coded[0])} of 24 seeds fit the page"
    coded, quality, note = fitted(24, contestants=6)  # 12 seeds fit with losses alone
    assert sum(len(image) for row in coded for image in row) <= making.BUDGET
    assert quality is not None
    assert "the images are compressed with losses to fit the page" in note


def test_a_survey_is_never_written_over(runs: list[Run], tmp_path: Path) -> None:
    made(runs, tmp_path / "s")
    before = (tmp_path / "s/key.json").read_bytes()
    with pytest.raises(DataError, match="holds a survey already"):
        made(runs, tmp_path / "s")
    assert (tmp_path / "s/key.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"runs": 1}, UsageError, "one run alone"),
        ({"seeds": 5}, UsageError, "5 seeds are too few"),
        ({"weights": False}, DataError, "can't take part: it has no weights"),
        ({"file": True}, DataError, "is a file"),
    ],
)
def test_what_cannot_become_a_survey(
    change: dict[str, Any], kind: type[AnimegenError], said: str, runs: list[Run], tmp_path: Path
) -> None:
    if change.get("weights") is False:
        runs[1].weights.unlink()
    if change.get("file"):
        (tmp_path / "s").touch()
    with pytest.raises(kind, match=said) as error:
        made(runs[: change.get("runs", 3)], tmp_path / "s", seeds=change.get("seeds", 12))
    assert error.value.hint
    assert not (tmp_path / "s").is_dir()


# ---- the browser ------------------------------------------------------------------------------------------------


class Viewer:
    """A simulated rater, who sees what is on the screen and reads from the key which run drew it."""

    def __init__(self, page: Any, folder: Path, *, touch: bool = False) -> None:
        self.page, self.touch = page, touch
        data = data_of((folder / "survey.html").read_text(encoding="utf-8"))
        self.key = json.loads((folder / "key.json").read_text())
        self.shown = {
            tuple(sorted((json.dumps(a), json.dumps(b)))): (identity, a, b)
            for block in data["blocks"]
            for group in (*block["groups"], block["more"])
            for identity, a, b in group
        }
        self.numbers = {source: number for number, source in enumerate(data["images"])}

    def sides(self) -> tuple[list[int], list[int]]:
        read = "side => [...document.querySelectorAll(`#${side} img`)].map(image => image.src)"
        left, right = (
            [self.numbers[source] for source in self.page.evaluate(read, side)] for side in ("left", "right")
        )
        return left, right

    def trial(self) -> tuple[str, str]:
        """The id on the screen, and which of its two (a or b) is on the left."""
        left, right = self.sides()
        identity, a, _ = self.shown[tuple(sorted((json.dumps(left), json.dumps(right))))]
        return identity, "a" if left == a else "b"

    def wanted(self) -> str:
        """left or right: the run that comes first among the contestants, and the right answer to a check."""
        identity, left = self.trial()
        if identity in self.key["checks"]:
            good = self.key["checks"][identity]["right"]
        else:
            pair = self.key["pairs"][identity]
            good = "a" if pair["a"] < pair["b"] else "b"
        return "left" if left == good else "right"

    def answer(self, choose: Callable[[str], str] | None = None) -> None:
        side, before = (choose or str)(self.wanted()), self.page.text_content("#count")
        self.page.wait_for_timeout(160)  # the page takes no answer within 150 ms of the last one
        if side in ("1", "2", "0", "ArrowLeft", "ArrowRight"):
            self.page.keyboard.press(side)
        elif self.touch:
            self.page.tap(f"#{side}")
        else:
            self.page.click(f"#{side}")
        self.page.wait_for_function(
            "before => document.getElementById('trial').hidden || document.getElementById('count').textContent !== before",
            arg=before,
        )
        if self.page.is_visible("#go-on"):
            self.page.click("#go-on")

    def count(self) -> str:
        self.page.wait_for_function("() => document.getElementById('count').textContent")  # a page that loads anew
        return str(self.page.text_content("#count"))

    def saved(self, folder: Path) -> Path:
        with self.page.expect_download() as waiting:
            self.page.click("#save")
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path


def command(*words: str) -> tuple[str, BaseException | None]:
    app = typer.Typer()
    app.command(cls=Command)(compare)
    done = CliRunner().invoke(app, list(words))
    return done.stdout, done.exception


def test_people_answer_in_a_browser_and_their_ranking_comes_out(
    runs: list[Run], tmp_path: Path, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "survey"
    found = made(runs, folder)
    total = sum(found.shown.values()) + found.checks
    address = (folder / "survey.html").as_uri()
    as_keys = {"left": "1", "right": "2"}
    as_arrows = {"left": "ArrowLeft", "right": "ArrowRight"}
    with opened(browser, address) as page:
        rater = Viewer(page, folder)
        assert page.is_visible("#start")
        page.click("#begin")
        assert rater.count() == f"1 of {total}"
        assert page.is_disabled("#undo")
        rater.answer(as_keys.__getitem__)
        rater.answer(as_arrows.__getitem__)
        rater.answer()
        seen = rater.trial()
        page.reload()  # goes on where it was, with the same pair on the same sides
        assert rater.count() == f"4 of {total}"
        assert rater.trial() == seen
        rater.answer(lambda side: {"left": "2", "right": "1"}[side])  # a slip of the hand ...
        page.keyboard.press("Backspace")  # ... taken back
        assert rater.count() == f"4 of {total}"
        assert rater.trial() == seen
        while page.is_visible("#trial"):
            rater.answer(as_keys.__getitem__)
        assert f"all {total} pairs" in str(page.text_content("#summary"))
        careful = rater.saved(tmp_path)
        assert page.input_value("#csv") == careful.read_text()
    rows = list(csv.DictReader(careful.open()))
    assert [row["number"] for row in rows] == [str(n + 1) for n in range(total)]
    assert len({row["pair"] for row in rows}) == total
    assert all(150 <= int(row["ms"]) < 60_000 for row in rows)

    phone = browser.new_context(has_touch=True, viewport={"width": 390, "height": 844}, is_mobile=True)
    with opened(phone, address) as page:
        careless = Viewer(page, folder, touch=True)
        page.tap("#begin")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        while page.is_visible("#trial"):
            careless.answer(lambda side: {"left": "right", "right": "left"}[side])
        wrong = careless.saved(tmp_path)
    phone.close()

    out, error = command(
        "--survey", str(folder), "--votes", str(careful), "--votes", str(wrong), "--json", "--no-images"
    )
    assert error is None
    said = json.loads(out)["people"]
    for question in ("realism", "diversity"):
        standings = said["questions"][question]["rows"]
        assert [row["values"]["run"] for row in standings] == NAMES
        assert standings[0]["best"] == ["elo"]
        assert standings[0]["values"]["elo"] > 1500 > standings[2]["values"]["elo"]
    raters = {row["values"]["rater"]: row["values"] for row in said["raters"]["rows"]}
    assert raters[rows[0]["rater"]]["counted"] is True
    flagged = next(row for rater, row in raters.items() if rater != rows[0]["rater"])
    assert flagged["counted"] is False
    assert f"missed {found.checks} of {found.checks} checks" in flagged["remarks"]
    out, error = command("--survey", str(folder), "--votes", str(tmp_path), "--keep-failed", "--json", "--no-images")
    assert error is None
    rows_of_both = json.loads(out)["people"]["questions"]["realism"]["rows"]
    assert all(row["values"]["elo"] == pytest.approx(1500, abs=1) for row in rows_of_both)  # the two cancel out


def test_page_works_without_memory_is_readable_and_stops_early(runs: list[Run], tmp_path: Path, browser: Any) -> None:
    folder = tmp_path / "survey"
    made(runs, folder, questions=("realism",))
    page_file = folder / "survey.html"
    context = browser.new_context(reduced_motion="reduce", color_scheme="dark")
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"
    )
    with opened(context, page_file.as_uri()) as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the first thing that takes focus starts it
        assert page.evaluate("document.activeElement.id") == "ask"
        assert page.is_visible("#forgetful")
        for name in ("The first one", "The second one", "Back"):
            assert page.get_by_role("button", name=name, exact=True).is_visible()
        assert page.get_by_role("progressbar", name="Progress").is_visible()
        assert page.evaluate("getComputedStyle(document.querySelector('.picture')).animationName") == "none"
        assert page.evaluate("getComputedStyle(document.querySelector('#left img')).imageRendering") == "pixelated"
        # Whole multiples of the image's 16 pixels.
        assert page.evaluate("document.querySelector('#left img').getBoundingClientRect().width") % 16 == 0
        Viewer(page, folder).answer(lambda side: "0")
        count = page.text_content("#count")
        assert count
        assert page.text_content("#said") == count.replace("2 of", "Pair 2 of")
        page.click("#stop")
        assert "1 of" in str(page.text_content("#summary"))
        row = next(csv.DictReader(page.input_value("#csv").splitlines()))
        assert row["answer"] == "tie"
        page.click("#back")
        assert page.is_visible("#trial")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for selector in ("body", ".soft", "button#tie", "kbd"):
                assert contrast(page, selector) >= 4.5, (scheme, selector)
    context.close()


def contrast(page: Any, selector: str) -> float:
    """WCAG's contrast of text and the nearest opaque background."""
    colors = page.evaluate(
        """selector => {
            let node = document.querySelector(selector);
            const ink = getComputedStyle(node).color;
            while (getComputedStyle(node).backgroundColor === "rgba(0, 0, 0, 0)") node = node.parentElement;
            return [ink, getComputedStyle(node).backgroundColor];
        }""",
        selector,
    )
    light = []
    for color in colors:
        parts = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


# ---- an earlier version's survey --------------------------------------------------------------------------------

OLD_KEY = {
    "format": "animegen-survey", "version": 1, "made_with": "0.1.0", "survey": "1f2e3d4c", "seeds": "0-11",
    "contestants": [{"name": "a", "run": "runs/a"}, {"name": "b", "run": "runs/b"}, {"name": "real images", "run": None}],
    "shown": {"realism": 3},
    "pairs": {
        "00000000aa": {"question": "realism", "a": 0, "b": 1, "images": [3]},
        "00000000bb": {"question": "realism", "a": 2, "b": 0, "images": [5]},
        "00000000cc": {"question": "realism", "a": 1, "b": 2, "images": [7]},
    },
    "checks": {"00000000dd": {"question": "realism", "right": "b"}},
}  # fmt: skip
OLD_VOTES = """survey,rater,number,pair,left,answer,ms
1f2e3d4c,0123456789abcdef,1,00000000aa,a,left,1800
1f2e3d4c,0123456789abcdef,2,00000000dd,b,left,900
1f2e3d4c,0123456789abcdef,3,00000000bb,a,tie,2500
1f2e3d4c,0123456789abcdef,4,00000000cc,b,left,1200
"""


def test_a_survey_and_votes_of_an_earlier_version_still_open(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(json.dumps(OLD_KEY))
    (tmp_path / "votes.csv").write_text(OLD_VOTES)
    key = votes.read_key(tmp_path)
    found, problems = votes.read_votes([tmp_path / "votes.csv"], key)
    assert problems == []
    assert [(vote.pair[-2:], vote.score, vote.right) for vote in found] == [
        ("aa", 1.0, None), ("dd", 0.0, 0.0), ("bb", 0.5, None), ("cc", 0.0, None),
    ]  # fmt: skip
    (preference,) = results.weigh(found, key).preferences
    assert {one.name: one.preferred for one in preference.standings} == {"a": 0.75, "b": 0.0, "real images": 0.75}


# ---- votes that can't be trusted ----------------------------------------------------------------------------------


def answers(key: dict[str, Any], rater: str, *, checks: bool = True, side: str | None = None, ms: int = 2000) -> str:
    """A file of a rater who prefers the contestants in their order (or always the picture of one side, whose checks
    all have the right picture on the other: by chance a rater of one side passes them)."""
    chance = random.Random(rater)
    lines = ["survey,rater,number,pair,left,answer,ms"]
    entries = {**key["pairs"], **(key["checks"] if checks else {})}
    for number, (identity, entry) in enumerate(entries.items(), 1):
        left = chance.choice("ab")
        good = entry.get("right") or ("a" if entry["a"] < entry["b"] else "b")
        if side and "right" in entry:
            left = good if side == "right" else {"a": "b", "b": "a"}[good]
        given = side or ("left" if left == good else "right")
        lines.append(f"{key['survey']},{rater},{number},{identity},{left},{given},{ms}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def asked(runs: list[Run], tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    made(runs, tmp_path / "s")
    return tmp_path / "s", json.loads((tmp_path / "s/key.json").read_text())


def test_votes_come_with_tables_files_and_a_section_of_the_page(
    asked: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, key = asked
    for rater in ("r1", "r2", "r3"):
        (folder / f"{rater}.csv").write_text(answers(key, rater))
    out, error = command(
        "--votes", *(str(folder / f"r{i}.csv") for i in (1, 2, 3)), "--no-images"
    )  # as `--votes s/*.csv`
    assert error is None, error
    assert re.search(r"People on realism\nrun +Elo ↑ +from +to", out)
    folder_out = Path("comparison")
    assert {"votes.md", "votes.csv", "votes.tex", "votes.json", "index.html"} <= {f.name for f in folder_out.iterdir()}
    rows = list(csv.DictReader((folder_out / "votes.csv").open()))
    assert [row["run"] for row in rows if row["table"] == "People on diversity"] == NAMES
    assert {row["rater"] for row in rows if row["table"] == "Raters"} == {"r1", "r2", "r3"}
    page = Page((folder_out / "index.html").read_text(encoding="utf-8"))
    assert any(section.get("id") == "people-as-judges" for section in page.all("section"))
    assert "alpha 1.00 (1: full, 0: chance); 100% of" in page.text
    assert not any("onerror" in attributes for _, attributes in page.elements)
    text = (folder_out / "votes.md").read_text(encoding="utf-8")
    assert NASTY not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_votes_speak_when_the_runs_are_gone(
    asked: tuple[Path, dict[str, Any]], runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, key = asked
    (folder / "a.csv").write_text(answers(key, "r1"))
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    out, error = command("--votes", str(folder / "a.csv"), "--json")
    assert error is None, error
    assert [row["values"]["run"] for row in json.loads(out)["people"]["questions"]["realism"]["rows"]] == NAMES
    assert not Path("comparison/index.html").exists()
    notes = json.loads(out)["people"]["questions"]["realism"]["notes"]
    assert any("of the answers, since there is one rater" in note for note in notes)


def test_bad_lines_are_left_out_and_named(asked: tuple[Path, dict[str, Any]]) -> None:
    folder, key = asked
    good = answers(key, "r1").splitlines()
    survey, identity = key["survey"], next(iter(key["pairs"]))
    bad = [
        f"{survey},r1,1,ffffffffff,a,left,900",
        f"{survey},r1,1,{identity},c,left,900",
        f"{survey},r1,1,{identity},a,both,900",
        f"{survey},=HYPERLINK(1),1,{identity},a,left,900",
        f"{survey}",
    ]
    (folder / "a.csv").write_text("\n".join([*good, *bad]) + "\n")
    found, problems = votes.read_votes([folder / "a.csv"], votes.read_key(folder))
    assert len(found) == len(key["pairs"]) + len(key["checks"])
    assert len(problems) == 5
    for problem, said in zip(
        problems, ["no pair 'ffff", "'c' on the left", "'both' with", "'=HYPER", "'' is no"], strict=True
    ):
        assert said in problem
        assert f"line {problems.index(problem) + len(good) + 1}" in problem
    many = [f"{survey},r1,1,{n},a,left,900" for n in range(50)]
    (folder / "a.csv").write_text("\n".join([*good, *many]) + "\n")
    _, problems = votes.read_votes([folder / "a.csv"], votes.read_key(folder))
    assert len(problems) == 1
    assert "50 lines left out" in problems[0]


def test_of_two_answers_to_one_pair_the_last_counts(asked: tuple[Path, dict[str, Any]]) -> None:
    folder, key = asked
    (folder / "a.csv").write_text(answers(key, "r1", side="left"))
    (folder / "b.csv").write_text(answers(key, "r1"))
    found, problems = votes.read_votes([folder / "a.csv", folder / "b.csv"], votes.read_key(folder))
    assert len(found) == len(key["pairs"]) + len(key["checks"])
    assert all(vote.score == vote.right for vote in found if vote.right is not None)
    assert problems == [
        f"{folder / 'b.csv'}: {len(found)} answers were given before by the same rater; the last one counts"
    ]


def test_a_spreadsheet_may_have_saved_it_with_semicolons_and_a_mark(asked: tuple[Path, dict[str, Any]]) -> None:
    folder, key = asked
    (folder / "a.csv").write_text("\ufeff" + answers(key, "r1").replace(",", ";"), encoding="utf-8")
    found, problems = votes.read_votes([folder / "a.csv"], votes.read_key(folder))
    assert len(found) == len(key["pairs"]) + len(key["checks"])
    assert problems == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no votes: it has no column `survey`"),
        (b"survey,rater,number,pair,left,answer,ms\n", "no usable vote"),
        (b"name,score\nx,1\n", "no column `survey`, `rater`"),
        (b"\xff\xfe\x00PNG", "is no CSV file"),
        (b"survey,rater,number,pair,left,answer,ms\n0000,r1,1,abc,a,left,900\n", "votes are of survey '0000', the key"),
    ],
)
def test_files_that_hold_no_votes(asked: tuple[Path, dict[str, Any]], content: bytes, said: str) -> None:
    folder, _ = asked
    (folder / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        votes.read_votes([folder / "a.csv"], votes.read_key(folder))
    assert error.value.hint


def test_keys_that_are_none(asked: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, key = asked
    with pytest.raises(DataError, match=r"no key\.json in"):
        votes.read_key(tmp_path)
    for broken in (
        "{",
        "[]",
        json.dumps(key | {"format": "other"}),
        json.dumps(key | {"version": 99}),
        json.dumps({k: v for k, v in key.items() if k != "pairs"}),
        json.dumps(key | {"pairs": {"x": {"question": "realism", "a": 0, "b": 7}}}),
    ):
        (folder / "key.json").write_text(broken)
        with pytest.raises(DataError, match=r"key\.json"):
            votes.read_key(folder)
    with pytest.raises(DataError, match=r"no \.csv file in"):
        votes.files_of([folder])
    with pytest.raises(DataError, match="there is no file") as error:
        votes.files_of([folder / "kee.json"])
    assert "key.json" in str(error.value.hint)


def test_odd_raters_are_named_and_only_failed_checks_exclude(asked: tuple[Path, dict[str, Any]]) -> None:
    folder, key = asked
    (folder / "good.csv").write_text(answers(key, "good"))
    (folder / "lefty.csv").write_text(answers(key, "lefty", side="left"))
    (folder / "quick.csv").write_text(answers(key, "quick", ms=200))
    (folder / "unchecked.csv").write_text(answers(key, "unchecked", checks=False))
    found, _ = votes.read_votes(votes.files_of([folder]), votes.read_key(folder))
    weighed = results.weigh(found, votes.read_key(folder))
    raters = {rater.name: rater for rater in weighed.raters}
    assert {name: rater.counted for name, rater in raters.items()} == {
        "good": True, "lefty": False, "quick": True, "unchecked": True,
    }  # fmt: skip
    assert raters["good"].remarks == ()
    assert "100% left" in raters["lefty"].remarks
    assert "missed" in raters["lefty"].remarks[0]
    assert "within 0.5 s" in raters["quick"].remarks[0]
    assert raters["unchecked"].remarks == ("answered no check",)
    assert any("rater lefty (not counted)" in warning for warning in weighed.warnings)
    alone = [vote for vote in found if vote.rater == "lefty"]
    with pytest.raises(DataError, match="no votes are left"):
        results.weigh(alone, votes.read_key(folder))
    assert results.weigh(alone, votes.read_key(folder), keep_failed=True).preferences


def test_one_missed_check_in_eight_is_forgiven() -> None:
    def rater(checks: int, mistakes: int) -> results.Rater:
        return results.Rater("r", 10, checks, mistakes, 2.0, 0.5, True, ())

    assert [rater(8, n).failed for n in range(4)] == [False, False, True, True]
    assert [rater(7, n).failed for n in range(3)] == [False, True, True]
    assert not rater(0, 0).failed


def test_votes_that_never_connect_all_runs_say_which(asked: tuple[Path, dict[str, Any]]) -> None:
    folder, key = asked
    fourth = key | {
        "contestants": [*key["contestants"], {"name": "lonely", "run": None}, {"name": "solo", "run": None}]
    }
    fourth["pairs"] = {**key["pairs"], "lost": {"question": "realism", "a": 3, "b": 4, "images": [0]}}
    (folder / "key.json").write_text(json.dumps(fourth))
    (folder / "a.csv").write_text(answers(fourth, "r1"))
    read = votes.read_key(folder)
    with pytest.raises(DataError, match="never compare these groups") as error:
        results.weigh(votes.read_votes([folder / "a.csv"], read)[0], read)
    assert "lonely, solo" in error.value.message


def test_formulas_in_names_are_defused(asked: tuple[Path, dict[str, Any]]) -> None:
    folder, key = asked
    key["contestants"][0]["name"] = "=1+1"
    (folder / "key.json").write_text(json.dumps(key))
    (folder / "a.csv").write_text(answers(key, "-2"))
    read = votes.read_key(folder)
    weighed = results.weigh(votes.read_votes([folder / "a.csv"], read)[0], read)
    written = results.write(weighed, folder / "out")
    rows = list(csv.DictReader(written["votes_csv"].open()))
    assert rows[0]["run"] == "'=1+1"
    assert rows[-1]["rater"] == "'-2"


# ---- the command ------------------------------------------------------------------------------------------------


def test_command_writes_a_survey_from_stored_images(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    comparison.same_seeds(comparison.compare(runs[::2]), range(12), draw)
    out, error = command("1", "3", "--survey", "s", "--seeds", "0-11", "--pairs", "9", "--ask", "realism", "--json")
    assert error is None, error
    said = json.loads(out)
    assert said["contestants"] == [NAMES[0], NAMES[2]]
    assert said["shown"] == {"realism": 9}
    assert {Path(said["page"]), Path(said["key"])} == set(Path("s").iterdir())
    assert not Path("comparison").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pairs", "9"], "belong to `--survey`"),
        (["--ask", "realism", "--survey", "s", "--votes", "a.csv"], "belong to `--survey`"),
        (["--keep-failed"], "belongs to `--votes`"),
    ],
)
def test_options_without_their_survey_or_votes_are_refused(
    words: list[str], said: str, runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, error = command(*words)
    assert isinstance(error, UsageError)
    assert said in error.message
    assert error.hint
