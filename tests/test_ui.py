"""`animegen ui`: the actions as functions, the guard by plain requests, the page in a real browser with trained runs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import html
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import fake_runs
import numpy as np
import pytest
import tiny_runs
import torch
from browsing import opened
from chain import ROOT, done, here, refused
from pictures import encoded, huge_png, picture
from PIL import Image
from tiny_runs import resolved
from torch import Tensor

from animegen_cli import disk
from animegen_cli.config import Sampling
from animegen_cli.errors import AnimegenError, DataError, UsageError
from animegen_cli.model.family import DataSpec
from animegen_cli.model.noise import Noise
from animegen_cli.paths import Run
from animegen_cli.sample import recipe
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.trained import Trained, guided_by, open_trained
from animegen_cli.ui import actions, directions, render, training_status
from animegen_cli.ui.actions import Models

gradio = pytest.importorskip("gradio")
pytestmark = pytest.mark.xdist_group("ui")  # one server and one set of runs for all

from starlette.responses import PlainTextResponse  # noqa: E402  # comes with gradio

from animegen_cli.ui import app, guard  # noqa: E402  # need it too
from animegen_cli.ui.controls import Session  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradio.components import Component
    from playwright.sync_api import Browser, Page, Request
    from starlette.types import Message, Scope

    from animegen_cli.model.family import Family


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a translator, a conditional diffusion model and a VAE without hierarchy, oldest first; read alone."""
    root = tmp_path_factory.mktemp("ui") / "runs"
    for family, name in (("cyclegan", "translator"), ("ddpm", "diffusion"), ("vae", "vae")):
        tiny_runs.make(family, root / name)
    return root


@pytest.fixture
def models() -> Models:
    return Models("cpu")


def trained(models: Models, runs: Path, name: str) -> Trained:
    return models.open(actions.find_run(runs, name))


# ---- runs and what they offer ---------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_and_found_by_name_alone(runs: Path) -> None:
    assert list(actions.list_runs(runs)) == ["vae", "diffusion", "translator"]
    assert actions.find_run(runs, "vae").path == runs / "vae"
    for name in ("../runs/vae", str(runs / "vae"), "", None):
        with pytest.raises(DataError):
            actions.find_run(runs, name)


def test_runs_of_sweeps_are_called_by_their_folder_too(models: Models, runs: Path, tmp_path: Path) -> None:
    """Two sweeps may hold runs of one name; a picture's recipe leads to the one that drew it."""
    for family, sweep in (("vae", "first"), ("diffusion", "second")):
        shutil.copytree(runs / family, tmp_path / sweep / "lr=0.001")
    assert sorted(actions.list_runs(tmp_path)) == ["first/lr=0.001", "second/lr=0.001"]
    told = recipe.of_seeds(actions.generator_of(trained(models, tmp_path, "first/lr=0.001"), {}), [3])
    page = app.Page(tmp_path, models, tmp_path / "files")
    values: dict[Component, object] = {page.controls.more_like: told.to_json(), page.controls.vary_seed: 3}
    values |= {page.controls.run: "second/lr=0.001", page.controls.seeds: "3"}
    assert page._more_like(values)[page.controls.run] == "first/lr=0.001"


def test_the_controls_of_a_run_are_those_that_its_family_can_use(models: Models, runs: Path) -> None:
    vae, diffusion, translator = (
        actions.capabilities(trained(models, runs, name)) for name in ("vae", "diffusion", "translator")
    )
    assert (vae.draws, diffusion.draws, translator.draws) == (True, True, False)
    assert vae.settings == {"temperature": 1.0}
    assert diffusion.settings.keys() == {"sampler", "steps", "guidance"}
    plain = trained(models, runs, "diffusion")
    guided = replace(plain, model=guided_by(copy.deepcopy(plain.model), {}))
    assert actions.capabilities(guided).settings.keys() == {"sampler", "steps", "guidance", "autoguidance"}
    assert "dpmpp" in diffusion.samplers
    assert ("hair", "pink") in diffusion.labels
    assert vae.edits == frozenset({"noise"})
    assert translator.edits == frozenset({"reverse"})
    assert (vae.any_size, translator.any_size) == (False, True)
    assert "cyclegan" not in actions.unable("cyclegan", "samples").partition(";")[2]
    assert "vae" in actions.unable("cyclegan", "samples").partition(";")[2]


def test_models_stay_in_memory_until_their_weights_change_or_others_came(runs: Path, tmp_path: Path) -> None:
    for name in ("vae", "diffusion"):
        shutil.copytree(runs / name, tmp_path / name)
    models, run = Models("cpu", most=1), actions.find_run(tmp_path, "vae")
    first = models.open(run)
    assert models.open(run) is first
    os.utime(run.weights, ns=(1, 1))
    second = models.open(run)
    assert second is not first
    models.open(actions.find_run(tmp_path, "diffusion"))
    assert models.open(run) is not second
    run.weights.unlink()
    with pytest.raises(DataError, match="no weights yet"):
        models.open(run)


@pytest.mark.parametrize("text", ["", "x", "3-1", "-1", "0-100", "1e3", "0-99999999999"])
def test_the_page_refuses_seeds_that_it_cannot_read_or_show(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        actions.read_seeds(text)
    assert caught.value.hint
    assert actions.read_seeds("0-2, 7") == [0, 1, 2, 7]


@pytest.mark.parametrize("value", [None, -1, 1.5, 1e300, float("inf"), float("nan")])
def test_only_whole_numbers_from_zero_are_seeds(value: float | None) -> None:
    with pytest.raises(UsageError):
        actions.read_seed(value)


def test_settings_reach_the_networks(models: Models, runs: Path) -> None:
    diffusion = trained(models, runs, "diffusion")
    values = {"steps": 2, "sampler": "euler", "temperature": 0.5, "guidance": None}
    euler = actions.generator_of(diffusion, values)
    sampling: Any = euler.sampling
    assert (sampling.steps, sampling.sampler, euler.labels) == (2, "euler", None)
    plain = actions.draw(euler, [5])
    pink = actions.generator_of(diffusion, {"steps": 2, "sampler": "euler", "guidance": 4.0}, ["hair=pink"])
    assert not np.array_equal(plain, actions.draw(pink, [5]))
    with pytest.raises(UsageError, match="pink and black"):
        actions.generator_of(diffusion, {}, ["hair=pink", "hair=black"])
    with pytest.raises(UsageError):
        actions.generator_of(diffusion, {"sampler": "magic"})


def test_faces_are_those_of_the_command_line(models: Models, runs: Path, tmp_path: Path) -> None:
    """But for roundings: the page runs networks on as many images as there are, the command on a fixed number."""
    done("sample", runs / "vae", "--seeds", "4,9", "--out", tmp_path, "--device", "cpu", "--precision", "fp32")
    vae = open_trained(Run(runs / "vae"), device=torch.device("cpu"), precision="fp32")
    drawn = actions.draw(actions.generator_of(vae, {}), [4, 9])
    for seed, image in zip((4, 9), drawn, strict=True):
        with Image.open(tmp_path / "seeds" / f"{seed:06d}.png") as file:
            assert np.abs(np.asarray(file).astype(int) - image).max() <= 2


def test_a_walk_begins_and_ends_with_its_seeds(models: Models, runs: Path) -> None:
    vae = trained(models, runs, "vae")
    generator = actions.generator_of(vae, {})
    walk = actions.walk(generator, 3, 14, 5)
    ends = actions.draw(generator, [3, 14])
    assert walk.shape == (5, 16, 16, 3)
    assert np.abs(walk[[0, -1]].astype(int) - ends).max() <= 2
    with pytest.raises(UsageError, match="1 pictures"):
        actions.walk(generator, 3, 14, 1)


def test_variations_come_behind_their_face(models: Models, runs: Path) -> None:
    generator = actions.generator_of(trained(models, runs, "vae"), {})
    faces, varied = actions.draw(generator, [3, 4, 9]), actions.vary(generator, 3, [4, 9], 0.3)
    assert np.array_equal(varied[0], faces[0])
    assert not np.array_equal(varied[1], varied[2])
    assert np.array_equal(actions.vary(generator, 3, [4, 9], 1), faces)
    for others, amount in (([4], 1.01), ([4], -0.1), ([2, 3], 0.3)):
        with pytest.raises(UsageError) as caught:
            actions.vary(generator, 3, others, amount)
        assert caught.value.hint


def test_pictures_are_redrawn_and_translated_both_ways(models: Models, runs: Path) -> None:
    photo = picture(1, (40, 24))
    edits = {"reverse": False, "noise": 0.3, "levels": None, "strength": 0.5, "exact": False}

    def edited(name: str, **more: object) -> list[tuple[str, np.ndarray]]:
        run = trained(models, runs, name)
        request = actions.PictureRequest(edits=edits | more, seed=1)
        return actions.edit_picture(actions.generator_of(run, {}), photo, request)

    vae = edited("vae")
    diffusion = edited("diffusion")
    translated = edited("translator")
    assert [title for title, _ in vae] == [title for title, _ in diffusion] == ["before", "with noise", "after"]
    assert all(image.shape == (16, 16, 3) for _, image in vae + diffusion)
    noise = vae[1][1].astype(float) - vae[0][1]
    assert 20 < noise.std() < 45  # 0.3 of 127.5, less what was cut at black and white
    assert [title for title, _ in edited("vae", noise=0.0)] == ["before", "after"]
    assert [title for title, _ in edited("diffusion", exact=True)] == ["before", "after"]
    assert [image.shape for _, image in translated] == [(24, 40, 3)] * 2
    assert not np.array_equal(translated[-1][1], edited("translator", reverse=True)[-1][1])
    with pytest.raises(UsageError):
        edited("diffusion", strength=0.0)


def saved(html: str, folder: Path) -> list[Path]:
    """The pictures in a piece of the page, as a browser saves them."""
    files = []
    for number, coded in enumerate(re.findall(r"data:image/png;base64,([\w+/=]+)", html)):
        files.append(folder / f"{number}.png")
        files[-1].write_bytes(base64.b64decode(coded))
    return files


def test_what_the_page_draws_is_drawn_again_by_its_recipe(models: Models, runs: Path, tmp_path: Path) -> None:
    run = trained(models, runs, "diffusion")
    generator = actions.generator_of(run, {"steps": 2, "guidance": 3.0}, ["hair=pink"])
    seeds = [4, 9]
    told = [recipe.of_seeds(actions.batched(generator, 2), [seed]) for seed in seeds]
    whole = recipe.of_seeds(actions.batched(generator, 2), seeds, grid=True, captions=True, zoom=render.sheet_zoom(16))
    drawn = actions.draw(generator, seeds)
    faces = saved(render.sheet(drawn, ["seed 4", "seed 9"], told, "x.png", whole), tmp_path)
    each = [recipe.of_seeds(actions.batched(generator, 3), [4])]
    each += [recipe.of_variations(actions.batched(generator, 3), 4, [other], 0.2) for other in (1, 9)]
    zoom = render.sheet_zoom(16)
    both = recipe.of_variations(actions.batched(generator, 3), 4, [1, 9], 0.2, grid=True, zoom=zoom)
    (tmp_path / "varied").mkdir()
    titles = recipe.variation_titles(4, [1, 9])
    page = render.sheet(actions.vary(generator, 4, [1, 9], 0.2), titles, each, "x.png", both)
    faces += saved(page, tmp_path / "varied")
    steps = [recipe.of_walk(actions.batched(generator, 3), (1, 2), 3, frame=frame) for frame in range(3)]
    strip = recipe.of_walk(actions.batched(generator, 3), (1, 2), 3, zoom=render.sheet_zoom(16))
    (tmp_path / "walk").mkdir()
    walk = saved(render.walk(actions.walk(generator, 1, 2, 3), steps, strip, "x"), tmp_path / "walk")
    assert (len(faces), len(walk)) == (3 + 4, 9)  # the walk: each frame twice, both links, the film
    for file in [*faces, *walk[:3], walk[-1]]:
        again = json.loads(done("sample", "--like", file, "--json", cwd=runs.parent).out)
        assert (again["equal"], again["differs"]) == (True, [])
    assert "is an animation" in refused(2, "sample", "--like", walk[3], cwd=runs.parent)


def test_a_recipe_opens_the_tab_of_its_kind_with_its_seeds(models: Models, runs: Path, tmp_path: Path) -> None:
    vae, diffusion = (actions.generator_of(trained(models, runs, name), {}) for name in ("vae", "diffusion"))
    assert actions.run_of(recipe.of_seeds(vae, [3]), runs).name == "vae"
    assert actions.place_of(recipe.of_seeds(vae, [3, 5], grid=True)) == ("draw", {"seeds": "3,5", "vary_seed": None})
    varied = recipe.of_variations(vae, 3, [7], 0.4)
    assert actions.place_of(varied) == ("draw", {"seeds": "7", "vary_seed": 3, "amount": 0.4})
    assert actions.place_of_variations(recipe.of_seeds(vae, [3]), 2) == ("draw", {"seeds": "4-5", "vary_seed": 3})
    assert actions.place_of_variations(varied, 2) == (
        "draw",
        {"seeds": "8-9", "vary_seed": 3},
    )  # others of the same face
    assert actions.place_of_variations(recipe.of_variations(vae, 3, [2], 0.4), 2).seeds["seeds"] == "4-5"
    with pytest.raises(UsageError):
        actions.place_of_variations(recipe.of_walk(vae, (3, 14), 9), 2)
    walk = actions.place_of(recipe.of_walk(vae, (3, 14), 900))
    assert walk == ("walk", {"start_seed": 3, "end_seed": 14, "frames": actions.MAX_FRAMES})
    edit = actions.recipe_of_edit(diffusion, actions.PictureRequest({"strength": 0.4, "reverse": True}, seed=2))
    assert actions.place_of(edit) == ("picture", {"edit_seed": 2})
    assert "translate RUN PICTURE --strength 0.4 --fit crop --seed 2 " in edit.command
    eager = replace(diffusion, sampling=replace(diffusion.sampling, eta=0.5, steps=2))  # type: ignore[call-arg]
    assert "It also says eta 0.5, which" in actions.told_by(recipe.of_seeds(eager, [3]), diffusion.trained)
    assert "It also" not in actions.told_by(recipe.of_seeds(diffusion, [3]), diffusion.trained)
    with pytest.raises(DataError, match="is not under") as caught:
        actions.run_of(recipe.of_seeds(vae, [3]), tmp_path)
    assert "--runs" in str(caught.value.hint)


def test_a_translator_cannot_draw_and_says_who_can(models: Models, runs: Path) -> None:
    translator = trained(models, runs, "translator")
    with pytest.raises(UsageError) as caught:
        actions.draw(actions.generator_of(translator, {}), [1])
    assert "vae" in str(caught.value.hint)


# ---- directions -----------------------------------------------------------------------------------------------


class Painter(torch.nn.Module):
    """Draws gray pictures whose brightness follows one number of its noise, and whose slope follows another, less."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def sample(self, noise: Noise, labels: Tensor | None, sampling: object, callback: object = None) -> Tensor:
        code = noise(*self.shape)
        if len(self.shape) == 3:  # brightness of the upper and the lower half
            halves = [half.mean((1, 2, 3)) * half[0].numel() ** 0.5 for half in code.chunk(2, dim=2)]
            code = torch.stack([(halves[0] + halves[1]) / 2**0.5, (halves[0] - halves[1]) / 2**0.5], 1)
        slope = torch.linspace(-1, 1, 16)[:, None].expand(16, 16)
        return (0.2 * code[:, 0, None, None] + 0.1 * code[:, 1, None, None] * slope)[:, None].expand(-1, 3, -1, -1)


@pytest.mark.parametrize(
    ("shape", "found_part"),
    [
        ((24,), 1.0),
        ((3, 16, 16), 1.0),
        ((700,), (512 / 700) ** 0.5),
    ],  # of 700 coordinates 512 random mixtures are tried
)
def test_directions_are_those_that_the_pictures_follow(shape: tuple[int, ...], found_part: float) -> None:
    model = cast("Family", Painter(shape))  # all of a family that drawing asks for
    painter = Trained(model, resolved("vae"), DataSpec(16, 1), 0, torch.device("cpu"), "fp32")
    generator = Generator(painter, Sampling())
    found = directions.find(generator, pictures=512)
    assert found.vectors.shape == (directions.COUNT, *shape)
    assert torch.allclose(found.vectors.flatten(1) @ found.vectors.flatten(1).T, torch.eye(directions.COUNT), atol=1e-4)
    assert found.shares[0] > 0.7
    assert sum(found.shares) <= 1.01
    amounts = torch.zeros(3, directions.COUNT)
    amounts[:, 0] = torch.tensor([-2.0, 0.0, 2.0])
    drawn = directions.steer(generator, 3, amounts, found)
    means = drawn.float().mean((1, 2, 3))
    assert torch.equal(drawn[1], generator.draw_noise(Noise([3]))[0])
    assert abs(means[2] - means[0]) == pytest.approx(found_part * 4 * 0.2 * 127.5, rel=0.1)


def test_directions_of_a_run_are_searched_for_once(models: Models, runs: Path) -> None:
    run = actions.find_run(runs, "vae")
    vae = models.open(run)
    generator = actions.generator_of(vae, {})
    progress: list[tuple[int, int]] = []

    def on_progress(drawn: int, total: int) -> None:
        progress.append((drawn, total))

    found = models.directions(run, generator, on_progress)
    assert progress[-1] == (progress[-1][1],) * 2
    calls = len(progress)
    assert models.directions(run, generator, on_progress) is found
    assert len(progress) == calls
    assert models.directions(run, actions.generator_of(vae, {"temperature": 0.5})) is not found
    rows = actions.steer(generator, 3, directions.amount_rows(), found)
    assert len(rows) == 7 * directions.COUNT
    assert np.array_equal(rows[3], rows[10])  # the middle of each row is the seed itself
    with pytest.raises(UsageError):
        models.directions(actions.find_run(runs, "translator"), generator)


def test_directions_are_given_up_when_another_run_is_picked(models: Models, runs: Path, tmp_path: Path) -> None:
    page = app.Page(runs, models, tmp_path)
    controls = page.controls
    values: dict[Component, object] = dict.fromkeys(controls.settings.values())
    values |= {controls.run: "vae", controls.labels: [], controls.steer_seed: 3}
    values[controls.session] = Session(run="diffusion")
    assert list(page.drawing.steer_along_all(values)) == [controls.steered_face]
    values[controls.session] = Session(run="vae")
    assert controls.strips in page.drawing.steer_along_all(values)


# ---- what comes in --------------------------------------------------------------------------------------------


def test_uploads_are_decoded_whatever_they_call_themselves(tmp_path: Path) -> None:
    def put(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    turned = Image.Exif()
    turned[0x0112] = 6
    upright = guard.read_upload(put("turned.jpg", encoded(picture(1, (40, 24)), "jpeg", exif=turned)), tmp_path)
    assert upright.size == (24, 40)
    assert guard.read_upload(put("really-a-jpeg.png", encoded(picture(1), "jpeg")), tmp_path).mode == "RGB"
    bad = {
        "text.png": b"hello", "empty.png": b"", "bomb.png": huge_png(60_000, 60_000),
        "cut.png": encoded(picture(1))[:200], "page.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "large.png": b"\0" * (guard.MAX_BYTES + 1),
    }  # fmt: skip
    for name, data in bad.items():
        with pytest.raises(DataError) as caught:
            guard.read_upload(put(name, data), tmp_path)
        assert caught.value.hint, name
    (tmp_path / "inside").mkdir()
    outside = (str(tmp_path / "turned.jpg"), "/etc/passwd", str(tmp_path / "inside" / ".." / "turned.jpg"), None)
    for path in outside:
        with pytest.raises(DataError):
            guard.read_upload(path, tmp_path / "inside")


def asked(path: str = "/", method: str = "GET", **headers: str) -> Scope:
    """A request as the server hands it on."""
    names = {"host": "127.0.0.1:7860"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return {
        "type": "http",
        "path": path,
        "method": method,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in names.items()],
    }


def status_of(scope: Scope, *, port: int = 7860) -> int:
    """The status that the guarded page answers with: the page itself answers 200 to whatever reaches it."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    page = guard.guarded(PlainTextResponse("the page"), port=port, uploads=Path("/tmp/ours"))
    with ThreadPoolExecutor(1) as thread:  # of its own: the browser of other tests keeps a loop running in this one
        thread.submit(lambda: asyncio.run(page(scope, receive, send))).result()  # type: ignore[arg-type]  # any awaitable
    (status,) = statuses
    return status


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (asked(), 200),
        (asked(host="localhost:7860", origin="http://localhost:7860"), 200),
        (asked(sec_fetch_site="cross-site", sec_fetch_mode="navigate"), 200),  # a link on another page
        (asked("/gradio_api/queue/join", "POST", origin="http://127.0.0.1:7860", sec_fetch_site="same-origin"), 200),
        (asked(host="evil.example:7860"), 400),
        (asked(host="127.0.0.1"), 403),
        (asked(host="127.0.0.1:80"), 403),
        (asked(host=""), 400),
        (asked(host="127.0.0.1.evil.example:7860"), 400),
        (asked("/gradio_api/queue/join", "POST", origin="http://evil.example"), 403),
        (asked("/gradio_api/queue/join", "POST", origin="null"), 403),
        (asked("/gradio_api/queue/join", "POST", origin="http://127.0.0.1:8000"), 403),
        (asked("/gradio_api/queue/join", "POST", origin="https://127.0.0.1:7860"), 403),
        (asked("/config", sec_fetch_site="cross-site", sec_fetch_mode="navigate"), 403),
        (asked("/", sec_fetch_site="cross-site", sec_fetch_mode="no-cors"), 403),
        (asked("/gradio_api/queue/data", sec_fetch_site="same-site"), 403),
        (asked("/gradio_api/upload", "POST", content_length=str(guard.MAX_BYTES + 1)), 413),
        (asked("/gradio_api/info"), 403),
        (asked("/gradio_api/proxy=https://a.hf.space/"), 403),
        (asked("/gradio_api/vibe-edit", "POST"), 403),
        (asked("/gradio_api/run/predict", "POST"), 403),
        (asked("/docs"), 403),
        (asked("/monitoring"), 403),
        (asked("/gradio_api/file=/etc/passwd"), 403),
        (asked("/gradio_api/file=http://169.254.169.254/"), 403),
        (asked("/gradio_api/file=/tmp/ours/../secret"), 403),
        (asked("/gradio_api/file=/tmp/ours/picture.png"), 200),
        (asked("/gradio_api/file=/tmp/ours"), 403),
        (asked("/", "DELETE"), 403),
    ],
    ids=lambda value: value["method"] + value["path"] if isinstance(value, dict) else str(value),
)
def test_only_the_page_itself_may_ask_and_only_for_what_it_uses(scope: Scope, status: int) -> None:
    assert status_of(scope) == status


def test_only_one_host_is_named() -> None:
    """A second one could be read by a part of the page that trusts it."""
    scope = asked()
    scope["headers"].append((b"host", b"evil.example:7860"))
    assert status_of(scope) == 403
    assert status_of(asked(host="127.0.0.1:7860:7860")) in (400, 403)  # recent versions of Starlette say so first


def test_the_usual_port_need_not_be_named() -> None:
    assert status_of(asked(host="localhost"), port=80) == 200
    assert status_of(asked(host="localhost:80"), port=80) == 200
    assert status_of(asked(host="localhost:7860"), port=80) == 403


# ---- a training as it goes ------------------------------------------------------------------------------------


def test_a_training_shows_how_far_it_is(tmp_path: Path) -> None:
    run = fake_runs.make(tmp_path, "going", images=250_000, state="running")
    about = disk.unsealed(json.loads((run.path / "run.json").read_text()))
    finding = {"name": "mode collapse", "says": "drawn images differ <little>", "flag": "--set model.r1=10"}
    about["findings"] = [finding | {"by": "figures", "since": 120_000}]
    (run.path / "run.json").write_text(json.dumps(about))
    now = time.time()
    going = training_status.render(run, now=now)
    assert "training now: 249.6k of 500k images" in going or "training now: 250k of 500k images" in going
    assert "left" in going
    assert "mode collapse since 120,000 images: drawn images differ &lt;little&gt;" in going
    assert 'aria-valuenow="50"' in going
    assert going.count("<svg") >= 2
    assert len(re.findall("<img[^>]*data:image", going)) == 3  # the newest preview, raw and averaged, and the reals
    killed = training_status.render(run, now=now + 3600)
    assert "nothing heard for 60 min" in killed
    assert f"animegen train --resume {run.path}" in killed
    assert "--resume" not in training_status.render(fake_runs.make(tmp_path, "done"))


def test_the_fingerprint_of_a_training_changes_when_it_writes(tmp_path: Path) -> None:
    run = fake_runs.make(tmp_path, "going", images=64_000, state="running")
    before = training_status.fingerprint(run)
    assert training_status.fingerprint(run) == before
    with run.log.open("a") as file:
        file.write("{}\n")
    assert training_status.fingerprint(run) != before
    before = training_status.fingerprint(run)
    (run.samples / "ema-000099000.png").write_bytes(b"")
    assert training_status.fingerprint(run) != before
    assert {file.name for file in run.path.iterdir()} == {
        "run.json", "config.yaml", "weights.safetensors", "log.jsonl", "samples",
    }  # fmt: skip  # nothing was left there, no lock above all


# ---- the command ----------------------------------------------------------------------------------------------


def test_a_taken_port_is_an_error_that_names_the_option(runs: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert "--port" in refused(5, "ui", "--runs", runs, "--port", port, "--no-open")


def test_a_missing_extra_or_folder_says_what_to_type(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--runs" in refused(3, "ui", "--runs", tmp_path / "none", "--port", "0", "--no-open")
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "[ui]'" in refused(5, "ui", "--runs", runs, "--port", "0", "--no-open")


class Served(NamedTuple):
    """A running `animegen ui`."""

    address: str
    port: int
    folder: Path
    """Where temporary files go."""
    process: subprocess.Popen[str]


@contextlib.contextmanager
def serving(runs: Path, folder: Path) -> Iterator[Served]:
    """The command in a process of its own; the browser that it opens writes down the address."""
    folder.mkdir()
    opener = folder / "browser"
    opener.write_text(f'#!/bin/sh\necho "$1" > {folder}/opened\n')
    opener.chmod(0o755)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder), "BROWSER": f"{opener} %s",
    }  # fmt: skip
    line = [sys.executable, "-m", "animegen_cli", "ui", "--runs", str(runs), "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.communicate()[1]
        yield Served(address, int(address.rpartition(":")[2]), folder, process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def served(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page of all runs."""
    with serving(runs, tmp_path_factory.mktemp("served") / "tmp") as running:
        yield running


def answer(
    served: Served, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    """A plain request; `Host` is the page's own unless given."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    names = {"Host": f"127.0.0.1:{served.port}"} | {key.replace("_", "-"): value for key, value in headers.items()}
    for name, value in names.items():
        connection.putheader(name, value)
    if body is not None and "Content-Length" not in names:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    found = connection.getresponse()
    text = found.read()
    connection.close()
    return found.status, text


def test_attacks_by_plain_requests_are_refused(served: Served, runs: Path) -> None:
    assert answer(served, "/")[0] == 200
    assert answer(served, "/", Host=f"evil.example:{served.port}")[0] == 400
    assert answer(served, "/config", Host="evil.example")[0] == 400
    assert answer(served, "/", Host=f"127.0.0.1:{served.port + 1}")[0] == 403
    join = json.dumps({"fn_index": 0, "data": [None, None], "session_hash": "x"}).encode()
    headers = {"Origin": "http://evil.example", "Content_Type": "application/json"}
    assert answer(served, "/gradio_api/queue/join", "POST", join, **headers)[0] == 403
    weights = runs / "vae" / "weights.safetensors"
    for path in ("/etc/passwd", str(weights), str(runs / "vae" / "run.json"), str(served.folder)):
        for form in (f"file={path}", f"file=%2F{path[1:]}", f"file/{path}", f"file={served.folder}/x/..{path}"):
            status, body = answer(served, f"/gradio_api/{form}")
            assert status in (403, 404), form
            assert len(body) < 200
    for path in ("/gradio_api/info", "/docs", "/openapi.json", "/monitoring/summary", "/gradio_api/openapi.json"):
        assert answer(served, path)[0] == 403, path
    boundary = "----x"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'.encode()
    multipart = {"Content_Type": f"multipart/form-data; boundary={boundary}"}
    large = head + b"\0" * (guard.MAX_BYTES + 1)
    with contextlib.suppress(ConnectionError):  # the answer may come before everything was sent
        assert answer(served, "/gradio_api/upload", "POST", large, **multipart)[0] == 413
    small = head + b"hello\r\n--" + boundary.encode() + b"--\r\n"
    status, body = answer(served, "/gradio_api/upload", "POST", small, **multipart)
    assert status == 200
    (uploaded,) = json.loads(body)
    assert served.folder in Path(uploaded).parents
    assert answer(served, f"/gradio_api/file={uploaded}") == (200, b"hello")


def test_the_browser_is_opened_at_the_address(served: Served) -> None:
    for _ in range(100):
        if (served.folder / "opened").is_file() and (served.folder / "opened").read_text():
            break
        time.sleep(0.05)
    assert (served.folder / "opened").read_text().strip() == served.address


def test_only_this_machine_is_served(served: Served) -> None:
    """Every address of 127/8 is this machine; the page listens on one of them."""
    with socket.socket() as other:
        assert other.connect_ex(("127.0.0.2", served.port)) != 0


# ---- the page -------------------------------------------------------------------------------------------------


ANSWERS: weakref.WeakKeyDictionary[Page, set[Request]] = weakref.WeakKeyDictionary()
"""The answers that each page still listens to."""


@contextlib.contextmanager
def page_of(browser: Browser, served: Served, **options: Any) -> Iterator[Page]:
    """The page, ready, that fails on console errors and on any request that leaves it."""
    elsewhere: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    context.on("request", lambda request: elsewhere.append(request.url))
    with contextlib.closing(context), opened(context, served.address) as page:
        answers = ANSWERS[page] = set()
        page.on("request", lambda request: answers.add(request) if "/queue/data" in request.url else None)
        page.on("requestfinished", lambda request: answers.discard(request))  # no method of a builtin is taken
        page.on("requestfailed", lambda request: answers.discard(request))
        page.wait_for_selector(".faces img")  # they come by themselves
        yield page
        own = (served.address + "/", "data:", "blob:")
        assert len(elsewhere) > 10
        assert [url for url in elsewhere if not url.startswith(own)] == []


def pick(page: Page, name: str) -> None:
    settled(page)
    page.get_by_label("Run", exact=True).click()
    page.get_by_role("option", name=name, exact=True).click()
    family = {"vae": "vae", "diffusion": "ddpm", "translator": "cyclegan", "going": "ddpm"}[name]
    page.locator("dl.facts", has_text=f"{family} ·").wait_for()


def to(page: Page, tab: str) -> None:
    settled(page)
    page.get_by_role("tab", name=tab, exact=True).click()


def press(page: Page, name: str) -> None:
    settled(page)
    page.get_by_role("button", name=name, exact=True).click()


def message(page: Page) -> str:
    """The error that is shown, then closed."""
    toast = page.get_by_test_id("toast-body").first
    toast.wait_for()
    text = toast.inner_text()
    page.get_by_test_id("toast-close").first.click()
    toast.wait_for(state="detached")
    return str(text)


def slowly(page: Page) -> None:
    """As many steps as the page allows; the values of a newly picked run come in one by one, so until it stays."""
    steps = page.get_by_label(re.compile("number input for Steps"))
    for _ in range(50):
        steps.fill("250")
        page.wait_for_timeout(300)
        if steps.input_value() == "250":
            return
    raise AssertionError("the steps do not stay as they are set")


def settled(page: Page) -> None:
    """Until the page has heard all its answers: Gradio 6 loses what is asked in the milliseconds while it hangs up.

    A page that watches a training always listens to something; then it has ten seconds.
    """
    quiet = 0
    for _ in range(200):
        page.wait_for_timeout(50)
        quiet = 0 if ANSWERS.get(page) else quiet + 1
        if quiet == 6:
            return


def waiting(page: Page, total: int) -> None:
    """Until the page shows how many of `total` pictures are drawn, and not yet all."""
    count = page.get_by_text(re.compile(rf"\b[0-9]{{1,2}}/{total} pictures")).filter(visible=True)
    count.first.wait_for()
    assert page.locator(".progress-level-inner", has_text="drawing").filter(visible=True).count()


def pixels(page: Page, selector: str) -> list[np.ndarray]:
    """The images that the page shows there."""
    sources = page.eval_on_selector_all(selector, "all => all.map(one => one.src)")
    found = []
    for source in sources:
        data = page.evaluate("async s => [...new Uint8Array(await (await fetch(s)).arrayBuffer())]", source)
        found.append(np.asarray(Image.open(io.BytesIO(bytes(data))).convert("RGB")))
    return found


def test_drawing_walking_and_steering(
    browser: Browser, served: Served, models: Models, runs: Path, tmp_path: Path
) -> None:
    with page_of(browser, served) as page:
        vae = trained(models, runs, "vae")
        assert page.get_by_role("heading", name="animegen").is_visible()
        assert page.get_by_label("Run", exact=True).input_value() == "vae"  # the newest
        assert page.locator(".faces figcaption").all_inner_texts() == [f"seed {seed}" for seed in range(12)]
        page.get_by_label("Seeds, such as 0-15,100").fill("2,5-6")
        press(page, "Draw")
        page.wait_for_function("document.querySelectorAll('.faces img').length == 3")
        shown = pixels(page, ".faces img")
        assert page.locator(".faces figcaption").all_inner_texts() == ["seed 2", "seed 5", "seed 6"]
        expected = actions.draw(actions.generator_of(vae, {}), [2, 5, 6])
        assert np.abs(np.stack(shown).astype(int) - expected).max() <= 2
        with page.expect_download() as saved:
            page.get_by_role("link", name="Download PNG").click()
        assert saved.value.suggested_filename == "vae-2_5-6.png"
        saved.value.save_as(tmp_path / "sheet.png")
        assert Image.open(tmp_path / "sheet.png").width == 2 * 96 + 2
        press(page, "→")
        page.locator("figcaption", has_text="seed 9").wait_for()
        page.locator("h1").click()  # keys that are typed into a box are not for the page
        page.keyboard.press("ArrowLeft")
        page.locator("figcaption", has_text="seed 4").wait_for()
        page.keyboard.press("n")
        page.get_by_text("seed 4", exact=True).wait_for(state="detached")
        page.get_by_label("Seeds, such as 0-15,100").fill("9-x")
        press(page, "Draw")
        assert "no list of seeds" in message(page)

        to(page, "Walk")
        page.wait_for_selector(".walk")
        slider = page.get_by_label("position between seed 3 and seed 14")
        visible = ".stage img:not([hidden])"
        assert page.get_attribute(visible, "alt") == "6 of 12 steps from seed 3 to 14"
        slider.fill("12")
        assert page.get_attribute(visible, "alt") == "12 of 12 steps from seed 3 to 14"
        end = actions.draw(actions.generator_of(vae, {}), [14])
        assert np.abs(pixels(page, visible)[0].astype(int) - end[0]).max() <= 2
        assert page.locator(".strip img").count() == 13
        with page.expect_download() as saved:
            page.get_by_text("Download animation").click()
        saved.value.save_as(tmp_path / "film.png")
        assert getattr(Image.open(tmp_path / "film.png"), "n_frames", 1) == 24

        to(page, "Steer")
        page.wait_for_selector("table.strips")
        assert page.locator("table.strips img").count() == 35
        before = pixels(page, ".faces figure:only-child img")[0]
        page.get_by_label(re.compile("number input for Direction 1")).fill("3")
        page.get_by_text("seed 3, moved").wait_for()
        assert not np.array_equal(before, pixels(page, ".faces figure:only-child img")[0])
        page.locator(".faces figure:only-child img").click()
        assert page.locator("#large code").inner_text().endswith("directions 1 to 5 at 3, 0, 0, 0, 0")
        page.keyboard.press("Escape")

        pick(page, "diffusion")
        page.get_by_label("Sampler").wait_for()
        page.set_input_files("#recipe input[type=file]", tmp_path / "sheet.png")
        page.get_by_text("Drawn by a vae/smoke run after 640 images").wait_for()
        assert page.get_by_label("Run", exact=True).input_value() == "vae"
        assert page.get_by_label("Seeds, such as 0-15,100").filter(visible=True).input_value() == "2,5-6"


def test_a_face_is_shown_large_and_kept_with_the_command_that_draws_it_again(
    browser: Browser, served: Served, runs: Path
) -> None:
    with page_of(browser, served) as page:
        page.get_by_alt_text("face drawn from seed 3").click()
        large = page.get_by_role("dialog")
        assert large.locator("img").get_attribute("alt") == "vae · seed 3"
        page.keyboard.press("ArrowRight")
        command = large.locator("code").inner_text()
        assert command.startswith(f"animegen sample {runs / 'vae'} --seeds 4 ")
        page.keyboard.press("s")
        press(page, "Close")
        page.get_by_alt_text("face drawn from seed 7").hover()
        page.keyboard.press("s")
        page.reload()
        page.wait_for_selector("#kept img")
        assert page.locator("#kept figcaption").all_inner_texts() == ["vae · seed 7", "vae · seed 4"]
        page.locator("#kept img").last.click()
        assert large.locator("code").inner_text() == command
        press(page, "Remove from kept")
        assert page.locator("#kept figcaption").all_inner_texts() == ["vae · seed 7"]
        page.locator("#kept img").hover()
        page.keyboard.press("s")
        assert not page.locator("#kept").is_visible()


def captions(page: Page) -> list[str]:
    """What stands below the faces of the tab Draw."""
    texts = page.locator(".faces figcaption").filter(visible=True).all_inner_texts()
    return [text for text in texts if "·" not in text]  # those that are kept name their run


def varied(page: Page, seed: int, others: list[int]) -> None:
    """Until the page shows a face and its variations."""
    titles = recipe.variation_titles(seed, others)
    page.locator("figcaption", has_text=re.compile(f"^{titles[-1]}$")).wait_for()
    assert captions(page) == titles
    settled(page)


def test_more_like_a_face_fills_the_page_with_its_variations(
    browser: Browser, served: Served, models: Models, runs: Path, tmp_path: Path
) -> None:
    with page_of(browser, served) as page:
        settled(page)
        expected = actions.vary(actions.generator_of(trained(models, runs, "vae"), {}), 5, list(range(6, 17)), 0.3)
        page.get_by_alt_text("face drawn from seed 5").click()
        press(page, "More like this")
        varied(page, 5, list(range(6, 17)))
        assert not page.get_by_role("dialog").is_visible()
        assert np.abs(np.stack(pixels(page, ".faces img")).astype(int) - expected).max() <= 2
        page.get_by_alt_text("face drawn from 5 towards 8").click()
        large = page.get_by_role("dialog")
        command = large.locator("code").inner_text()
        assert command.startswith(f"animegen sample {runs / 'vae'} --vary 5 --amount 0.3 --seeds 8 ")
        page.keyboard.press("s")
        with page.expect_download() as saved:
            page.get_by_role("link", name="Save PNG").click()
        saved.value.save_as(tmp_path / "variation.png")
        assert json.loads(done("sample", "--like", tmp_path / "variation.png", "--json", cwd=runs.parent).out)["equal"]
        page.keyboard.press("m")  # of a variation: others of the same face
        varied(page, 5, list(range(9, 20)))
        press(page, "→")
        varied(page, 5, list(range(20, 31)))
        before = page.locator(".faces img").nth(1).get_attribute("src")
        page.get_by_label(re.compile("number input for How far")).fill("0.9")
        press(page, "Draw")
        page.wait_for_function("before => document.querySelectorAll('.faces img')[1].src !== before", arg=before)
        settled(page)
        page.wait_for_function(
            "new Set([...document.querySelectorAll('.faces:not(#kept *) img')].map(i => i.src)).size <= 12"
        )
        press(page, "All faces")
        page.locator("figcaption", has_text=re.compile("^seed 11$")).wait_for()
        assert captions(page) == [f"seed {seed}" for seed in range(12)]
        assert not page.get_by_role("button", name="All faces").is_visible()
        settled(page)

        pick(page, "diffusion")
        page.get_by_label("Sampler").wait_for()
        page.set_input_files("#recipe input[type=file]", tmp_path / "variation.png")
        varied(page, 5, [8])
        assert page.get_by_label("Run", exact=True).input_value() == "vae"
        assert page.get_by_label(re.compile("^Variations of seed")).input_value() == "5"


def test_keys_alone_find_more_like_a_kept_face(browser: Browser, served: Served) -> None:
    """Of another run than the one that is picked, with a bar while the variations are drawn."""
    with page_of(browser, served) as page:
        pick(page, "diffusion")
        page.get_by_label("Sampler").wait_for()
        slowly(page)
        page.get_by_label("Seeds, such as 0-15,100").fill("2")
        press(page, "Draw")
        page.locator("figcaption", has_text="seed 3").wait_for(state="detached")
        settled(page)
        page.get_by_alt_text("face drawn from seed 2").focus()
        page.keyboard.press("s")
        pick(page, "vae")
        settled(page)
        page.locator("#kept img").focus()
        page.keyboard.press("Enter")
        large = page.get_by_role("dialog")
        assert large.locator("img").get_attribute("alt") == "diffusion · seed 2"
        button = large.get_by_role("button", name="More like this")
        for _ in range(8):
            if button.evaluate("one => one === document.activeElement"):
                break
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        waiting(page, 12)
        varied(page, 2, list(range(3, 14)))
        assert page.get_by_label("Run", exact=True).input_value() == "diffusion"
        to(page, "Walk")
        page.wait_for_selector(".walk")
        page.locator(".strip img").nth(3).click()
        assert large.is_visible()
        assert not button.is_visible()  # no seed draws it


def test_pictures_are_uploaded_redrawn_and_translated(browser: Browser, served: Served, tmp_path: Path) -> None:
    picture(3, (48, 40)).save(tmp_path / "face.png")
    (tmp_path / "lie.png").write_bytes(b"<script>alert(1)</script>")
    with page_of(browser, served) as page:
        to(page, "Picture")
        assert not page.get_by_role("button", name="Redraw").is_visible()
        page.set_input_files("#upload input[type=file]", tmp_path / "lie.png")
        assert "cannot be used: not a picture" in message(page)
        page.get_by_label("Remove Image").click()
        page.set_input_files("#upload input[type=file]", tmp_path / "face.png")
        page.locator("figcaption", has_text="after").wait_for()
        assert page.locator(".pair-of figcaption").all_inner_texts() == ["before", "with noise", "after"]
        before, _, after = pixels(page, ".pair-of img")
        assert before.shape == after.shape == (16, 16, 3)

        pick(page, "translator")
        page.get_by_role("button", name="Translate").wait_for()
        page.wait_for_function("document.querySelectorAll('.pair-of img').length == 2")
        assert page.get_by_role("tab").all_inner_texts() == ["Picture", "Training"]
        there = pixels(page, ".pair-of img")
        assert there[0].shape == there[1].shape
        page.get_by_label("anime → photo").click()
        press(page, "Translate")
        for _ in range(100):
            page.wait_for_timeout(50)
            back = pixels(page, ".pair-of img")
            if len(back) == 2 and not np.array_equal(there[1], back[1]):
                break
        assert not np.array_equal(there[1], back[1])
        assert "families that can: " in page.get_by_text("cannot draw from noise").inner_text()
        pick(page, "vae")
        page.get_by_role("tab", name="Draw").wait_for()


def test_two_runs_are_compared_and_labels_asked_for(browser: Browser, served: Served) -> None:
    with page_of(browser, served) as page:
        pick(page, "diffusion")
        page.get_by_label("Sampler").wait_for()
        page.wait_for_selector(".faces img")
        page.get_by_label("Labels").click()
        page.get_by_role("option", name="hair: pink").click()
        page.get_by_role("option", name="hair: black").click()
        page.keyboard.press("Escape")
        press(page, "Draw")
        assert "asked to be" in message(page)
        page.get_by_label("Labels").click()
        page.get_by_role("option", name="hair: black").click()
        page.keyboard.press("Escape")
        slowly(page)
        to(page, "Compare")
        waiting(page, 24)
        assert not page.locator(".sides").count()
        page.get_by_label("Run", exact=True).focus()
        page.get_by_label("Run", exact=True).blur()  # is no choice: it hides no progress, wipes no faces
        page.wait_for_selector(".sides img")
        page.wait_for_timeout(500)  # for the wrong answer to a choice, which must not come
        assert page.locator(".sides h3").all_inner_texts() == ["diffusion", "vae"]
        assert page.locator(".sides figcaption").all_inner_texts() == [f"seed {i}" for i in range(12)] * 2
        page.get_by_label("With").click()
        offered = page.get_by_role("option").all_inner_texts()
        assert [name.strip("✓\n") for name in offered] == ["vae", "diffusion"]  # the translator draws nothing


def test_a_running_training_is_watched_and_unfinished_runs_say_so(
    browser: Browser, served: Served, runs: Path, tmp_path: Path
) -> None:
    going = fake_runs.make(tmp_path, "going", images=250_000, state="running")
    shutil.copy(runs / "vae" / "weights.safetensors", going.weights)
    added = [Path(shutil.move(tmp_path / "going", runs / "going"))]
    going = Run(added[0])
    try:
        with page_of(browser, served) as page:
            pick(page, "going")
            to(page, "Training")
            state = page.locator(".live .state", has_text="training now")
            state.wait_for()
            first = state.inner_text()
            page.wait_for_selector(".live svg")
            page.wait_for_selector(".live img")
            last = json.loads(going.log.read_text().splitlines()[-1])
            with going.log.open("a") as file:
                file.write(disk.to_line({**last, "images": 300_000}))
            page.wait_for_function("t => document.querySelector('.live .state').innerText != t", arg=first)
            for name, says in (("young", "has no weights yet"), ("broken", "is damaged")):
                added.append(Path(shutil.copytree(runs / "vae", runs / name)))
                (runs / "young" / "weights.safetensors").unlink(missing_ok=True)
                (runs / name / "run.json").write_text("{" if name == "broken" else json.dumps({"family": "vae"}))
                press(page, "↻")
                page.get_by_label("Run", exact=True).click()
                page.get_by_role("option", name=name, exact=True).click()
                page.locator(".notice:visible", has_text=says).first.wait_for()
                assert page.get_by_role("tab").all_inner_texts() == ["Training"]
    finally:
        for folder in added:
            shutil.rmtree(folder)


def test_the_page_suits_a_phone(browser: Browser, served: Served) -> None:
    with opened(browser, served.address, viewport={"width": 390, "height": 844}, color_scheme="dark") as page:
        for tab, content in (
            ("Draw", ".faces img"), ("Walk", ".walk"), ("Steer", ".strips"), ("Compare", ".sides"), ("Training", ".live"),
        ):  # fmt: skip
            to(page, tab)
            page.wait_for_selector(content)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
        light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
        assert max(light) < 60


def test_errors_are_text_not_markup() -> None:

    said = render.problem(AnimegenError("no `<img src=x>` & co", hint="write `a`"))
    assert "<img" not in said
    assert f"<code>{html.escape('<img src=x>')}</code>" in said
    assert here("ui", "--help").code == 0


def test_ctrl_c_ends_it_at_once_and_leaves_nothing(browser: Browser, runs: Path, tmp_path: Path) -> None:
    """While faces are being drawn: threads inside torch cannot be ended, and used to abort the process."""
    with serving(runs, tmp_path / "served") as served:
        page = browser.new_page()  # its connection breaks, which the console may say
        page.goto(served.address)
        page.wait_for_selector(".faces img")
        pick(page, "diffusion")
        slowly(page)
        page.get_by_label("Seeds, such as 0-15,100").fill("0-99")
        page.get_by_label("Seeds, such as 0-15,100").press("Enter")
        waiting(page, 100)
        assert page.locator(".faces img").count() < 100
        assert list(served.folder.glob("animegen-ui-*"))
        served.process.send_signal(signal.SIGINT)
        _, err = served.process.communicate(
            timeout=60
        )  # a second on an idle machine; one full of other work took over 20
        page.close()
        assert served.process.returncode == 130, err
        assert "Traceback" not in err
        assert not list(served.folder.glob("animegen-ui-*"))
