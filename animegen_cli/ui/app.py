"""The page itself: which controls there are, and which action each of them calls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
import torch

from animegen_cli.data.cleaning import FITS
from animegen_cli.errors import AnimegenError
from animegen_cli.report import records
from animegen_cli.report.markup import Markup, el, join
from animegen_cli.seeds import spell_seeds
from animegen_cli.ui import actions, directions, guard, render, training_status
from animegen_cli.ui.widgets import progress, told, upload_box

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from animegen_cli.paths import Run
    from animegen_cli.sample.generate import Generator
    from animegen_cli.ui.actions import Models

_ONE_AT_A_TIME: dict[str, Any] = {
    "concurrency_id": "drawing",
    "concurrency_limit": 1,
    "api_visibility": "private",
    "trigger_mode": "once",
}
_LAST = _ONE_AT_A_TIME | {"trigger_mode": "always_last"}
"""What is asked for while one is at work is not lost: the last of it follows."""
_LIGHT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class Page:
    """Controls in the order of the page, and what happens when they are used."""

    def __init__(self, root: Path, models: Models, folder: Path) -> None:
        """Runs under `root`; uploads lie in `folder`."""
        self.root, self.models, self.folder = root, models, folder
        self.notices: dict[str, gr.HTML] = {}
        self.groups: dict[str, gr.Column] = {}
        with gr.Blocks(title="animegen", analytics_enabled=False, fill_width=True) as self.blocks:
            gr.HTML("<header><h1>animegen</h1><p>Play with the faces that your runs draw.</p></header>")
            with gr.Row(elem_classes="page"):
                with gr.Column(scale=1, min_width=280, elem_classes="aside"):
                    self._choosing()
                with gr.Column(scale=4, min_width=320), gr.Tabs() as self.tabs:
                    self._drawing()
                    self._between()
                    self._steering()
                    self._changing()
                    self._comparing()
                    self._training()
            self._wire()

    # ---- controls -------------------------------------------------------------------------------------------------

    def _choosing(self) -> None:
        with gr.Row(elem_classes="line"):
            self.run = gr.Dropdown(label="Run", choices=[], interactive=True, scale=5, min_width=160)
            self.refresh = gr.Button("↻", min_width=44, scale=0, elem_id="refresh")
        self.picked: gr.State = gr.State(None)
        self.facts = gr.HTML()
        with gr.Accordion("How it draws", open=True, visible=False) as self.settings_box:
            self.labels = gr.Dropdown(label="Labels", multiselect=True, choices=[], visible=False)
            self.settings = {
                "guidance": gr.Slider(0, 10, 1, step=0.1, label="Guidance", info="weight of labels", visible=False),
                "sampler": gr.Dropdown(label="Sampler", choices=[], visible=False),
                "steps": gr.Slider(1, 250, 50, step=1, label="Steps", visible=False),
                "truncation": gr.Slider(
                    0, 1.5, 1, step=0.05, label="Truncation", info="0: mean face", visible=False
                ),
                "temperature": gr.Slider(
                    0.05, 1.5, 1, step=0.05, label="Temperature", info="below 1: safer", visible=False
                ),
                "levels": gr.Number(
                    label="Top levels drawn", info="empty: all", precision=0, minimum=1, visible=False
                ),
            }  # fmt: skip

    def _part(self, key: str) -> gr.Column:
        """A tab's notice, and the column of its controls, which is hidden where the notice says why."""
        self.notices[key] = gr.HTML(visible=False)
        self.groups[key] = gr.Column(visible=False)
        return self.groups[key]

    def _drawing(self) -> None:
        with gr.Tab("Draw", id="draw"), self._part("draw"):
            with gr.Row(elem_classes="line"):
                self.seeds = gr.Textbox("0-15", label="Seeds, such as 0-15,100", scale=3, min_width=160)
                self.count = gr.Slider(1, actions.MOST_FACES, 16, step=1, label="Faces", scale=3, min_width=160)
                self.draw = gr.Button("Draw", variant="primary", scale=1, min_width=90)
                self.fresh = gr.Button("New faces", scale=1, min_width=110)
            self.drawn = gr.HTML(min_height=120)

    def _between(self) -> None:
        with gr.Tab("Walk", id="between"), self._part("between"):
            with gr.Row(elem_classes="line"):
                self.start = gr.Number(3, label="From seed", precision=0, minimum=0, min_width=110)
                self.end = gr.Number(14, label="To seed", precision=0, minimum=0, min_width=110)
                self.frames = gr.Slider(2, actions.MOST_FRAMES, 13, step=1, label="Pictures", min_width=160)
                self.walk = gr.Button("Walk", variant="primary", min_width=90)
            self.walked = gr.HTML(min_height=120)

    def _steering(self) -> None:
        with gr.Tab("Steer", id="steer"), self._part("steer"):
            gr.HTML(
                "<p class='hint'>Directions in the noise along which this run’s pictures change most: principal components "
                "of pictures that it draws, led back to their noise by regression. Found, not trained, so they have no "
                "names. One unit is one standard deviation.</p>"
            )
            with gr.Row(elem_classes="line"):
                self.base = gr.Number(3, label="Seed", precision=0, minimum=0, min_width=110, scale=1)
                self.find = gr.Button("Find directions", variant="primary", min_width=140, scale=1)
            with gr.Row():
                with gr.Column(scale=2, min_width=240):
                    self.amounts = [
                        gr.Slider(-3, 3, 0, step=0.1, label=f"Direction {i + 1}") for i in range(directions.FOUND)
                    ]
                with gr.Column(scale=3, min_width=240):
                    self.face = gr.HTML(min_height=120)
            self.strips = gr.HTML()

    def _changing(self) -> None:
        with gr.Tab("Picture", id="change"), self._part("change"), gr.Row():
            with gr.Column(scale=2, min_width=240):
                self.upload = upload_box()
                self.way = gr.Radio(
                    [("photo → anime", False), ("anime → photo", True)],
                    value=False,
                    label="Direction",
                    visible=False,
                )
                self.noise = gr.Slider(0, 1, 0.2, step=0.05, label="Noise added first", visible=False,
                                       info="to see how well it is taken out again")  # fmt: skip
                self.kept = gr.Number(label="Top levels kept", info="empty: all; the rest is drawn anew", precision=0,
                                      minimum=1, visible=False)  # fmt: skip
                self.strength = gr.Slider(0.05, 1, 0.5, step=0.05, label="Strength", visible=False,
                                          info="how much is drawn anew: 0.1 a little, 1 all")  # fmt: skip
                self.exact = gr.Checkbox(label="Exact: there and back without noise", visible=False)
                self.fit = gr.Radio(list(FITS), value="crop", label="How it becomes a square", visible=False)
                self.side = gr.Slider(64, actions.MOST_PIXELS, 256, step=8, label="Shorter side", visible=False)
                self.chance = gr.Number(0, label="Seed", precision=0, minimum=0, visible=False)
                self.change = gr.Button("Redraw", variant="primary")
            with gr.Column(scale=3, min_width=240):
                self.changed = gr.HTML(min_height=120)

    def _comparing(self) -> None:
        with gr.Tab("Compare", id="compare"), self._part("compare"):
            with gr.Row(elem_classes="line"):
                self.other = gr.Dropdown(label="With", choices=[], scale=3, min_width=160)
                self.same = gr.Textbox("0-15", label="Seeds", scale=3, min_width=160)
                self.compare = gr.Button("Draw both", variant="primary", scale=1, min_width=110)
            self.compared = gr.HTML(min_height=120)

    def _training(self) -> None:
        with gr.Tab("Training", id="live") as self.live_tab:
            self.timer = gr.Timer(3, active=False)
            self.seen: gr.State = gr.State(None)
            self.live = gr.HTML(min_height=120)

    # ---- what they do ---------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        settings = [*self.settings.values(), self.labels]
        offered = [
            self.facts, self.other, self.settings_box, *settings, *self.notices.values(), *self.groups.values(),
            self.way, self.noise, self.kept, self.strength, self.exact, self.fit, self.side, self.chance, self.change,
            self.drawn, self.walked, self.face, self.strips, self.changed, self.compared, *self.amounts,
        ]  # fmt: skip
        for event in (self.blocks.load, self.refresh.click):
            event(self._list, [self.run, self.other], [self.run, self.other, self.facts, self.picked], **_LIGHT)
        self.run.input(_newly, [self.run, self.picked], self.picked, **_LIGHT)
        self.picked.change(told(self._pick), [self.run, self.other], offered, **_LAST, show_progress="hidden")
        self.count.input(_many, [self.seeds, self.count], self.seeds, **_LIGHT)
        draw = {
            "fn": told(self._draw),
            "inputs": [self.run, self.seeds, *settings],
            "outputs": self.drawn,
            **_ONE_AT_A_TIME,
        }
        gr.on([self.draw.click, self.seeds.submit], **draw)
        self.fresh.click(told(_others), [self.seeds], self.seeds, **_LIGHT).success(**draw)
        self.walk.click(
            told(self._walk), [self.run, self.start, self.end, self.frames, *settings], self.walked, **_ONE_AT_A_TIME
        )
        steer = [self.run, self.base, *self.amounts, *settings]
        self.find.click(
            told(self._find),
            [self.run, self.base, *settings],
            [self.face, self.strips, *self.amounts],
            **_ONE_AT_A_TIME,
        )
        for slider in self.amounts:
            slider.input(told(self._steer), steer, self.face, **_LAST)
        edits = [self.way, self.noise, self.kept, self.strength, self.exact, self.fit, self.side, self.chance]
        self.change.click(
            told(self._change), [self.run, self.upload, *edits, *settings], self.changed, **_ONE_AT_A_TIME
        )
        self.compare.click(
            told(self._compare), [self.run, self.other, self.same, *settings], self.compared, **_ONE_AT_A_TIME
        )
        self.tabs.select(_turned, None, self.timer, **_LIGHT)
        for moment in (self.live_tab.select, self.timer.tick, self.run.change):
            moment(self._watch, [self.run, self.seen], [self.live, self.seen], **_LIGHT)

    def _list(self, name: str | None, other: str | None) -> tuple[Any, Any, Any, Any]:
        """The runs there are now; the picked one stays picked."""
        found = actions.listed(self.root)
        names = [run.name for run in found]
        ready = [run.name for run in found if run.weights.is_file()]
        name = name if name in names else next(iter(ready or names), None)
        against = gr.Dropdown(choices=ready) if other in ready else self._another(name)
        train = el("code", "animegen train ddim --preset smoke")
        none = render.notice(join("No runs under ", el("code", self.root), ". Train one: ", train))
        return gr.Dropdown(choices=names, value=name), against, gr.skip() if names else none, _newly(name, None)

    def _another(self, name: str | None) -> gr.Dropdown:
        """The newest run with weights but this one, to compare it with."""
        ready = [run.name for run in actions.listed(self.root) if run.weights.is_file()]
        return gr.Dropdown(choices=ready, value=next((one for one in ready if one != name), None))

    def _pick(self, name: str | None, other: str | None) -> dict[Any, Any]:
        """Everything that depends on the run; it is not compared with itself unless somebody asks."""
        blank: dict[Any, Any] = dict.fromkeys(
            (self.drawn, self.walked, self.face, self.strips, self.changed, self.compared), ""
        )
        if not name:
            return blank
        run = actions.find(self.root, name)
        changes = blank | {self.facts: ""}
        if name == other:
            changes[self.other] = self._another(name)
        changes |= {slider: gr.Slider(value=0, label=f"Direction {i + 1}") for i, slider in enumerate(self.amounts)}
        try:
            changes[self.facts] = render.facts(records.read(run))
            offer = actions.offer(self.models.open(run))
        except AnimegenError as error:
            said = render.notice(render.problem(error))
            changes |= {notice: gr.HTML(said, visible=True) for notice in self.notices.values()}
            return changes | {group: gr.Column(visible=False) for group in [*self.groups.values(), self.settings_box]}
        family = str(run.about.get("family"))
        draws: str = "" if offer.draws else actions.cannot(family, "samples")
        edits = "" if offer.edits is not None else actions.cannot(family, "translates")
        for key, why in {"draw": draws, "between": draws, "steer": draws, "compare": draws, "change": edits}.items():
            changes[self.notices[key]] = gr.HTML(render.notice(why), visible=bool(why))
            changes[self.groups[key]] = gr.Column(visible=not why)
        return changes | self._offered(offer)

    def _offered(self, offer: actions.Offer) -> dict[Any, Any]:
        """Settings and edits: those that the run has, with its own values."""
        changes: dict[Any, Any] = {self.settings_box: gr.Accordion(visible=bool(offer.settings or offer.labels))}
        for key, control in self.settings.items():
            kind: Any = type(control)
            there = key in offer.settings
            more: dict[str, Any] = {"choices": list(offer.samplers)} if key == "sampler" else {}
            if key == "steps" and there:
                more = {"maximum": max(250, offer.settings[key])}
            changes[control] = kind(visible=there, value=offer.settings.get(key), **more)
        words = [(f"{name}: {value}", f"{name}={value}") for name, value in offer.labels]
        changes[self.labels] = gr.Dropdown(choices=words, value=[], visible=bool(words))
        reads = offer.edits or frozenset()
        fields = {
            "reverse": self.way,
            "noise": self.noise,
            "levels": self.kept,
            "strength": self.strength,
            "exact": self.exact,
        }
        for field, edit in fields.items():
            changes[edit] = type(edit)(visible=field in reads)
        changes[self.fit] = gr.Radio(visible=not offer.any_size)
        changes[self.side] = gr.Slider(visible=offer.any_size)
        changes[self.chance] = gr.Number(visible=bool(reads & {"noise", "strength"}))
        changes[self.change] = gr.Button("Translate" if offer.any_size else "Redraw")
        return changes

    def _open(self, name: str | None, settings: Sequence[Any]) -> tuple[Run, Generator]:
        """The picked run and how it is to draw."""
        run = actions.find(self.root, name)
        trained = self.models.open(run)
        *values, labels = settings
        return run, actions.generator_of(trained, dict(zip(self.settings, values, strict=True)), labels or ())

    def _draw(self, name: str, seeds: str, *settings: Any) -> Markup:
        run, generator = self._open(name, settings)
        numbers = actions.numbers(seeds)
        images = actions.draw(generator, numbers, progress(len(numbers)))
        file = f"{run.name}-{spell_seeds(numbers).replace(',', '_')[:60]}.png"
        return render.sheet(images, [f"seed {seed}" for seed in numbers], file)

    def _walk(self, name: str, start: float, end: float, frames: float, *settings: Any) -> Markup:
        run, generator = self._open(name, settings)
        ends = actions.seed_of(start), actions.seed_of(end)
        progress(int(frames))
        return render.walk(actions.walk(trained, *ends, int(frames), way), ends, f"{run.name}-{ends[0]}-{ends[1]}")

    def _find(self, name: str, base: float, *settings: Any) -> list[Any]:
        run, generator = self._open(name, settings)
        seed = actions.seed_of(base)
        rows = directions.amount_rows()
        done = progress(directions.count_for(generator.trained) + len(rows))
        found = self.models.directions(run, generator, done)
        images = actions.steer(generator, seed, rows, found, done)
        parts = np.split(images, len(found.shares))
        steps = [f"{value:+g}" if value else "0" for value in rows[: len(parts[0]), 0].tolist()]
        titles = [f"{i + 1}: {share:.0%}" for i, share in enumerate(found.shares)]
        text = f"What each direction explains of the variance between {found.pictures // 2} other faces."
        strips = join(render.strips(list(zip(titles, parts, strict=True)), steps), render.notice(text))
        sliders = [gr.Slider(value=0, label=f"Direction {title}") for title in titles]
        middle = parts[0][len(parts[0]) // 2 : len(parts[0]) // 2 + 1]
        return [render.faces(middle, [f"seed {seed}"], size=240), strips, *sliders]

    def _steer(self, name: str, base: float, *rest: Any) -> Markup:
        amounts, settings = rest[: directions.FOUND], rest[directions.FOUND :]
        run, generator = self._open(name, settings)
        seed, found = actions.seed_of(base), self.models.directions(run, generator)
        row = torch.tensor([amounts], dtype=torch.float32)[:, : len(found.shares)]
        return render.faces(actions.steer(trained, seed, row, found, way), [f"seed {seed}, moved"], size=240)

    def _change(self, name: str, upload: str | None, *rest: Any) -> Markup:
        (reverse, noise, levels, strength, exact, fit, side, seed), settings = rest[:8], rest[8:]
        run, generator = self._open(name, settings)
        edits = {"reverse": reverse, "noise": noise, "levels": levels, "strength": strength, "exact": exact}
        image = guard.uploaded(upload, self.folder)
        progress(1)
        found = actions.change(trained, image, edits, way, fit=fit, size=side, seed=actions.seed_of(seed))
        return render.changed(found, f"{run.name}-picture")

    def _compare(self, name: str, other: str | None, seeds: str, *settings: Any) -> Markup:
        """The picked run as its settings say, the other one by its own."""
        numbers, parts = actions.numbers(seeds), []
        run, generator = self._open(name, settings)
        done = progress(2 * len(numbers))
        parts.append((run.name, actions.draw(generator, numbers, done)))
        against = actions.find(self.root, other)
        opened = self.models.open(against)
        parts.append((against.name, actions.draw(opened, numbers, actions.way(opened, {}), done)))
        return render.side_by_side(parts, [f"seed {seed}" for seed in numbers])

    def _watch(self, name: str | None, seen: Any) -> Any:
        """The training anew, if it wrote something, and so seldom that reading takes a twentieth of one core at most."""
        mark, rest = seen or (None, 0.0)
        if not name or (mark and mark[0] == name and time.monotonic() < rest):
            return gr.skip(), gr.skip()
        begun = time.monotonic()
        try:
            run = actions.find(self.root, name)
            new = training_status.mark(run)
            shows = training_status.shown(run) if new != mark else gr.skip()
        except AnimegenError as error:
            return render.notice(render.problem(error)), None
        done = time.monotonic()
        return shows, (new, done + 20 * (done - begun))


def _newly(name: str | None, picked: tuple[str | None, float] | None) -> tuple[str | None, float]:
    """What was picked and when; as it was for the same run, since its box speaks up whenever it loses the focus.

    Picking that run again would undo settings, wipe faces and hide how far a drawing is.
    """
    return picked if picked and picked[0] == name else (name, time.monotonic())


def _turned(to: gr.SelectData) -> gr.Timer:
    """Look at the training while its tab is open."""
    return gr.Timer(active=to.value == "Training")


def _many(seeds: str, count: float) -> str:
    """As many seeds as the slider says, from the first on."""
    first = seeds.replace("-", ",").split(",")[0].strip()
    start = int(first) if first.isdecimal() else 0
    return spell_seeds(range(start, start + int(count)))


def _others(seeds: str) -> str:
    """The seeds after the last one: new faces, and again those for who types them."""
    numbers = actions.numbers(seeds)
    return spell_seeds(range(max(numbers) + 1, max(numbers) + 1 + len(numbers)))
