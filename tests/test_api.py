"""animegen in Python: every line of docs/api.md runs, and what it returns is what the commands find."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chain import here, inside
from PIL import Image

import animegen_cli as animegen
from animegen_cli import api
from animegen_cli.errors import ConfigError, DataError, MachineError, UsageError
from animegen_cli.report.rows import MOST_SHOWN, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "api.md").read_text(encoding="utf-8")


def blocks() -> list[str]:
    """The code of docs/api.md, in its order."""
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that docs/api.md leaves when all of it has run; besides, the `folder` where it ran and what it `printed`."""
    names: dict[str, Any] = {"folder": tmp_path_factory.mktemp("page")}
    printed = io.StringIO()
    with inside(names["folder"]), contextlib.redirect_stdout(printed):
        for code in blocks():
            exec(code, names)
    return names | {"printed": printed.getvalue()}


@pytest.fixture
def page(ran: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the page left, in the folder where it ran."""
    with inside(ran["folder"]):
        yield ran


def test_every_line_of_the_page_runs_and_says_what_it_says(page: dict[str, Any]) -> None:
    assert len(blocks()) >= 9
    for name in (
        "faces.zip",
        "runs/vae/run.json",
        "grid.png",
        "drawn/000003.png",
        "same-seeds.png",
        "comparison/index.html",
    ):
        assert Path(name).is_file(), name
    assert page["images"].numpy().shape == (4, 16, 16, 3)
    assert tuple(page["images"].tensor().shape) == (4, 3, 16, 16)
    assert page["run"].about["images"] == 64
    assert page["gan"].config["model"]["width"] == 8
    assert page["gan"].config["optim"]["G"]["lr"] == pytest.approx(1e-4)
    assert page["comparison"].quality["fd-faces"] == [page["scores"].value("fd-faces"), None]
    assert page["printed"] == "no family `vea` did you mean `vae`?\n"
    assert "# no family `vea`: did you mean `vae`?" in PAGE


def test_scores_are_those_of_the_command(page: dict[str, Any]) -> None:
    words = "eval runs/vae --extractor faces --metrics fd,kid --n 16 --repeats 1 --json"
    by_command = json.loads(here(*words.split()).out)["scores"]
    assert [score["value"] for score in by_command] == page["scores"]["value"]
    assert [score["protocol_id"] for score in by_command] == page["scores"]["protocol"]
    assert page["run"].scores == page["scores"]
    assert page["scores"][0]["better"] == "lower"


def test_images_are_those_of_the_command(page: dict[str, Any]) -> None:
    assert here("sample", "runs/vae", "--n", "4", "--out", "by-command").code == 0
    for seed in range(4):
        written, ours = (Path(name) for name in (f"by-command/seeds/{seed:06d}.png", f"drawn/{seed:06d}.png"))
        assert written.read_bytes() == ours.read_bytes()  # the recipe too


def test_variations_are_those_of_the_command_and_begin_with_the_face(page: dict[str, Any]) -> None:
    assert here("sample", "runs/vae", "--vary", "3", "--amount", "0.5", "--seeds", "7,40", "--out", "varied").code == 0
    for seed in (3, 7, 40):
        written, ours = (Path(name) / f"{seed:06d}.png" for name in ("varied/variations-3", "relatives"))
        assert written.read_bytes() == ours.read_bytes()
    assert page["relatives"].seeds == (3, *range(4, 12))
    assert np.array_equal(page["relatives"].numpy()[0], page["images"].numpy()[3])
    assert len({image.tobytes() for image in page["relatives"]}) == 9


def test_images_are_a_sequence_of_pictures_that_shows_as_a_grid(page: dict[str, Any]) -> None:
    images = page["images"]
    assert [picture.size for picture in images] == [(16, 16)] * 4
    assert images[1:3].seeds == (1, 2)
    assert np.array_equal(np.asarray(images[-1]), images.numpy()[3])
    assert images[2].info["Comment"].startswith("animegen sample RUN --seeds 2 ")
    assert images.tensor()[0, 0, 0, 0].item() == pytest.approx(images.numpy()[0, 0, 0, 0] / 127.5 - 1)
    shown = Image.open(io.BytesIO(images._repr_png_()))
    assert shown.width > 2 * 90  # small faces are enlarged
    assert images[:0]._repr_png_() is None
    assert "4 images" in repr(images)


def test_what_a_notebook_shows_names_what_there_is(page: dict[str, Any]) -> None:
    assert "60 of 16 pixels" in page["faces"]._repr_html_()
    assert "data:image/" in page["faces"]._repr_html_()
    assert "vae/smoke" in page["run"]._repr_html_()
    assert "fd-faces" in page["run"]._repr_html_()
    assert "fd-faces" in page["comparison"]._repr_html_()
    assert re.match(r"\S*vae: vae/smoke, finished, 64 images seen", repr(page["run"]))
    assert "fd-faces" in repr(page["comparison"])


def test_a_score_of_a_comparison_has_its_uncertainty_beside_it(page: dict[str, Any]) -> None:
    quality, score = page["comparison"].quality, page["scores"][0]
    assert score["name"] == "fd-faces"
    place = quality.columns.index("fd-faces")
    assert quality.columns[place : place + 5] == [
        "fd-faces", "fd-faces_std", "fd-faces_low", "fd-faces_high", "fd-faces_like_best",
    ]  # fmt: skip
    assert [quality[0][f"fd-faces_{end}"] for end in ("std", "low", "high")] == [
        score["std"], score["low"], score["high"],
    ]  # fmt: skip
    assert quality[1]["fd-faces_std"] is None  # it was not scored
    assert "±" in repr(page["comparison"])


def test_a_run_is_named_by_its_number_too(page: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(page["folder"] / "runs" / "vae", tmp_path / "runs" / "00002-vae")
    with inside(tmp_path):
        assert animegen.load(2).name == "00002-vae"
        assert animegen.compare([2]).quality["run"] == ["00002-vae"]


def test_a_log_has_a_row_for_each_moment(page: dict[str, Any]) -> None:
    log = page["run"].log
    assert log["images"] == sorted(set(log["images"]))
    assert log[-1]["images"] == 64
    assert isinstance(log[-1]["model/loss"], float)
    assert list(log.frame().columns) == log.columns
    assert log.frame()["model/loss"].iloc[-1] == log[-1]["model/loss"]


def test_a_set_of_two_domains_is_shown_too(tmp_path: Path) -> None:
    (tmp_path / "anime").mkdir()
    (tmp_path / "photos").mkdir()
    for number in range(12):
        for name, color in (("anime", (number * 20, 0, 90)), ("photos", (0, number * 20, 200))):
            noise = np.random.default_rng([number, len(name)]).integers(0, 40, (16, 16, 3))
            Image.fromarray((noise + color).clip(0, 255).astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    options: dict[str, Any] = {"workers": 1, "dedupe": "off"}
    made = animegen.prepare(
        tmp_path / "anime", photos=tmp_path / "photos", resolution=16, out=tmp_path / "two.zip", **options
    )
    assert made.images == 24
    assert "for training" in made._repr_html_()


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        (lambda run: animegen.train("vea"), UsageError, "did you mean `vae`?"),
        (lambda run: animegen.train("vae", preset="smoke", modle={}), ConfigError, "did you mean `model`?"),
        (lambda run: animegen.train("vae", preset="smok"), UsageError, "did you mean `smoke`?"),
        (lambda run: animegen.train("vae", seeds="0-1"), UsageError, "`seed` is one number"),
        (lambda run: animegen.train("vae", logger="csv"), UsageError, 'loggers=["csv"]'),
        (lambda run: animegen.train("vae", set="model.width=8"), UsageError, "as a dict"),
        (lambda run: run.sample(seeds=3), UsageError, "seeds=[3]"),
        (lambda run: run.sample(labels="hair=pink"), UsageError, '{"hair": "pink"}'),
        (lambda run: animegen.evaluate(run, seeds="0-63"), UsageError, "seeds=range(64)"),
        (lambda run: run.sample(stepps=3), UsageError, "it has `temperature`"),
        (lambda run: run.sample(seeds=[3, -1]), UsageError, "from 0 on"),
        (lambda run: run.vary(-3), UsageError, "from 0 on"),
        (lambda run: run.vary(3, 2), UsageError, "--amount 0.3"),
        (lambda run: run.vary(3, seeds=[3]), UsageError, "4-11"),
        (lambda run: run.sample(seeds=[]).grid(), UsageError, ""),
        (lambda run: run.sample(labels={"hare": "pink"}), UsageError, ""),
        (lambda run: animegen.evaluate(run, againts="x"), UsageError, "did you mean `against`?"),
        (lambda run: animegen.evaluate(run, metrics="fdd", extractor="faces"), UsageError, "did you mean `fd`?"),
        (lambda run: animegen.prepare("demo", resolutoin=16), UsageError, "did you mean `resolution`?"),
        (lambda run: animegen.prepare(), UsageError, "name a folder of pictures"),
        (lambda run: animegen.train("vae", preset="smoke", data=run), DataError, ""),
        (lambda run: animegen.load("nosuch"), DataError, ""),
        (lambda run: animegen.compare([]), DataError, "train one"),
        (lambda run: animegen.compare([run], sort="fd-face"), UsageError, "`fd-faces`"),
        (lambda run: animegen.study("03"), UsageError, "`003`"),
        (lambda run: run.log["model/los"], UsageError, "did you mean `model/loss`?"),
        (lambda run: run.scores.value("fd-face"), UsageError, "did you mean `fd-faces`?"),
    ],
)
def test_wrong_words_raise_an_error_with_a_hint(
    page: dict[str, Any],
    call: Callable[[api.Run], object],
    kind: type[UsageError],
    says: str,
) -> None:
    with pytest.raises(kind) as caught:
        call(page["run"])
    assert caught.value.hint
    assert says in caught.value.hint
    if sys.version_info >= (3, 11):  # notebooks show it below the message
        assert caught.value.__notes__ == [caught.value.hint]


def test_a_wrong_setting_is_named_as_the_argument_it_came_in(page: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="argument model: unknown key `widht` in `model`"):
        animegen.train("vae", preset="smoke", data=page["faces"], model={"widht": 8})


def test_a_training_goes_on_where_it_was_stopped(page: dict[str, Any], tmp_path: Path) -> None:
    copy = shutil.copytree(page["run"], tmp_path / "vae")
    longer = animegen.train(resume=copy, duration="96 images")
    assert (longer.path, longer.about["images"]) == (copy, 96)


# ---- rows -----------------------------------------------------------------------------------------------------


def test_rows_are_a_list_of_equal_dicts() -> None:
    rows = Rows([{"a": 1, "b": 0.123456}, {"a": 2, "c": "x"}])
    assert rows.columns == ["a", "b", "c"]
    assert list(rows) == [{"a": 1, "b": 0.123456, "c": None}, {"a": 2, "b": None, "c": "x"}]
    assert rows["c"] == [None, "x"]
    assert repr(rows).splitlines() == ["a        b  c", "1  0.12346  –", "2        –  x"]
    assert repr(Rows([])) == "no rows"
    assert "<td" in rows._repr_html_()
    assert rows[:1] == Rows([{"a": 1, "b": 0.123456, "c": None}])


def test_many_rows_are_shown_by_their_beginning_and_end() -> None:
    shown = repr(Rows({"n": number} for number in range(1000))).split()
    assert shown[:3] == ["n", "0", "1"]
    assert shown[-1] == "999"
    assert "…" in shown
    assert len(shown) == MOST_SHOWN + 2


def test_rows_without_pandas_are_rows_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = Rows([{"a": 1}])
    assert rows["a"] == [1]
    with pytest.raises(MachineError, match="data frames need pandas") as caught:
        rows.frame()
    assert caught.value.hint == "type `pip install pandas`"


# ---- the package ----------------------------------------------------------------------------------------------


def test_importing_loads_nothing_and_verbs_are_packages_that_can_be_called() -> None:
    script = """
import sys
import animegen_cli as animegen
assert not [name for name in sys.modules if name.startswith("animegen_cli.")], "loaded at once"
animegen.load, animegen.Run
assert "torch" not in sys.modules
import animegen_cli.train.request, inspect
assert animegen.train.request.Request and callable(animegen.train)
assert "preset" in inspect.signature(animegen.train).parameters
assert {"load", "train", "prepare", "evaluate", "compare", "study"} <= set(dir(animegen))
try:
    animegen.nosuch
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "has no attribute 'nosuch'" in done.stdout
