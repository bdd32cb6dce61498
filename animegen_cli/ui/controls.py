"""The controls of the page in their order. What happens when they are used is in `animegen_cli.ui.app`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import gradio as gr

from animegen_cli.data.cleaning import FITS
from animegen_cli.sample.request import AMOUNT
from animegen_cli.ui import actions, directions, render
from animegen_cli.ui.widgets import upload_box

if TYPE_CHECKING:
    from gradio.blocks import Block
    from gradio.components import Component

TRAINING_TAB = "training"
"""The id of the tab."""
FACES = 12
"""Faces that are drawn at first: whole rows of two, three, four or six."""


class ActiveTab(NamedTuple):
    """A tab that is there for runs that have an ability, and that draws by itself when it is opened."""

    ability: Literal["samples", "translates"]
    """What a run must be able to do for the tab to be there."""
    tab: gr.Tab
    wish: gr.State
    """When it was last asked to draw, in seconds of the monotonic clock: a change of it draws."""


@dataclass
class Session:
    """What the server knows of one open page, changed in place: handlers that are still at work see it."""

    run: str | None = None
    """The name of the picked run."""
    tab: str = "draw"
    """The id of the open tab."""
    begun: set[str] = field(default_factory=set)
    """The ids of the tabs that were asked to draw for this run."""
    seeds: str = f"0-{FACES - 1}"
    """What the box of seeds held before a face was varied."""


class Controls:
    """The page as the browser shows it. Each control is an attribute; those that many events read are grouped by field."""

    def __init__(self) -> None:
        """Lay out the page."""
        self.active: dict[str, ActiveTab] = {}
        """By id of the tab."""
        with gr.Blocks(title="animegen", analytics_enabled=False, fill_width=True) as self.blocks:
            self._lay_out_run()
            self._wishes = [gr.State(None) for _ in range(5)]  # Gradio takes all that is made among tabs for a tab
            with gr.Row(elem_classes="page"):
                with gr.Column(scale=1, min_width=250, elem_classes="aside"):
                    self._lay_out_settings()
                with gr.Column(scale=4, min_width=320):
                    with gr.Tabs() as self.tabs:
                        self._lay_out_draw()
                        self._lay_out_walk()
                        self._lay_out_steer()
                        self._lay_out_picture()
                        self._lay_out_compare()
                        self._lay_out_training()
                    gr.HTML(render.kept())

    @property
    def draw_options(self) -> set[Component]:
        """The controls that say how the picked run draws."""
        return {*self.settings.values(), self.labels}

    @property
    def results(self) -> list[gr.HTML]:
        """Where pictures of the picked run are shown."""
        return [self.faces, self.walk_frames, self.steered_face, self.strips, self.edited_pictures, self.compared_faces]

    @property
    def run_dependent(self) -> list[Block]:
        """Everything that changes when another run is picked."""
        active = [block for one in self.active.values() for block in (one.tab, one.wish)]
        edit_controls = [*self.edits.values(), self.fit, self.side, self.edit_seed, self.edit_button]
        return [
            self.facts,
            self.unable,
            self.settings_box,
            *self.draw_options,
            self.tabs,
            *active,
            *edit_controls,
            self.steering,
            self.other_run,
            *self.results,
        ]

    @property
    def recipe_dependent(self) -> list[Block]:
        """What a picture's recipe sets besides."""
        seeds = [
            self.seeds,
            self.vary_box,
            self.vary_seed,
            self.amount,
            self.start_seed,
            self.end_seed,
            self.frames,
            self.steer_seed,
            self.edit_seed,
        ]
        return [*self.run_dependent, self.recipe_notice, *(seed for seed in seeds if seed not in self.run_dependent)]

    def _lay_out_run(self) -> None:
        with gr.Row(elem_classes="top"):
            gr.HTML("<h1>animegen</h1>", elem_classes="title")
            self.run = gr.Dropdown(label="Run", choices=[], interactive=True, container=False, scale=1, min_width=120)
            self.refresh_button = gr.Button("↻", min_width=44, scale=0, elem_id="refresh")
        self.picked: gr.State = gr.State(None)
        """A `PickedRun` of `animegen_cli.ui.app`."""
        self.session: gr.State = gr.State(Session())
        self.facts = gr.HTML()

    def _lay_out_settings(self) -> None:
        with gr.Accordion("How it draws", open=True, visible=False) as self.settings_box:
            self.labels = gr.Dropdown(label="Labels", multiselect=True, choices=[], visible=False)
            self.settings: dict[str, Component] = {
                "guidance": gr.Slider(0, 10, 1, step=0.1, label="Guidance", info="weight of labels", visible=False),
                "autoguidance": gr.Slider(
                    0, 5, 1, step=0.05, label="Autoguidance", info="away from an early state", visible=False
                ),
                "sampler": gr.Dropdown(label="Sampler", choices=[], visible=False),
                "steps": gr.Slider(1, 250, 50, step=1, label="Steps", visible=False),
                "truncation": gr.Slider(0, 1.5, 1, step=0.05, label="Truncation", info="0: mean face", visible=False),
                "temperature": gr.Slider(
                    0.05, 1.5, 1, step=0.05, label="Temperature", info="below 1: safer", visible=False
                ),
                "levels": gr.Number(label="Top levels drawn", info="empty: all", precision=0, minimum=1, visible=False),
            }
            """By key of a run's `sample` section."""
        self.dropped = upload_box("Take run and seeds of a picture", "recipe", height=130)
        self.more_like = gr.Textbox(visible="hidden", elem_id="more-like", container=False)
        """Where page.js writes the recipe of the face that more are wanted like."""
        self.recipe_notice = gr.HTML()
        self.unable = gr.HTML()

    def _active(self, label: str, ability: Literal["samples", "translates"]) -> gr.Tab:
        """A tab that is hidden from runs without the ability."""
        tab = gr.Tab(label, id=label.lower(), visible=False)  # Gradio cannot hide later what it began by showing
        self.active[label.lower()] = ActiveTab(ability, tab, self._wishes.pop())
        return tab

    def _lay_out_draw(self) -> None:
        with self._active("Draw", "samples"):
            with gr.Row(elem_classes="line"):
                self.seeds = gr.Textbox(f"0-{FACES - 1}", label="Seeds, such as 0-15,100", scale=3, min_width=160)
                self.count = gr.Slider(1, actions.MAX_FACES, FACES, step=1, label="Faces", scale=3, min_width=160)
            with gr.Row(elem_classes="line", visible=False) as self.vary_box:
                self.vary_seed = gr.Number(
                    label="Variations of seed, towards the seeds above", precision=0, minimum=0, scale=3, min_width=160
                )
                self.amount = gr.Slider(0, 1, AMOUNT, step=0.01, label="How far", scale=3, min_width=160)
                self.back_button = gr.Button("All faces", scale=0, min_width=100)
            with gr.Row(elem_classes="buttons"):
                self.draw_button = gr.Button("Draw", variant="primary", scale=0, min_width=90)
                self.new_faces_button = gr.Button("New faces", scale=0, min_width=110, elem_id="new")
                self.previous_button = gr.Button("←", scale=0, min_width=44, elem_id="previous")
                self.next_button = gr.Button("→", scale=0, min_width=44, elem_id="next")
                gr.HTML(
                    "<p class='hint keys'><kbd>N</kbd> new <kbd>←</kbd> <kbd>→</kbd> other seeds <kbd>S</kbd> keep "
                    "<kbd>M</kbd> more like it <kbd>click</kbd> large</p>"
                )
            self.faces = gr.HTML(min_height=120)

    def _lay_out_walk(self) -> None:
        with self._active("Walk", "samples"):
            with gr.Row(elem_classes="line"):
                self.start_seed = gr.Number(3, label="From seed", precision=0, minimum=0, min_width=110)
                self.end_seed = gr.Number(14, label="To seed", precision=0, minimum=0, min_width=110)
                self.frames = gr.Slider(2, actions.MAX_FRAMES, 13, step=1, label="Pictures", min_width=160)
                self.walk_button = gr.Button("Walk", variant="primary", min_width=90)
            self.walk_frames = gr.HTML(min_height=120)

    def _lay_out_steer(self) -> None:
        with self._active("Steer", "samples"):
            with gr.Row(elem_classes="line"):
                self.steer_seed = gr.Number(3, label="Seed", precision=0, minimum=0, min_width=110, scale=1)
                self.steer_button = gr.Button("Steer", variant="primary", min_width=110, scale=1)
            with gr.Row():
                with gr.Column(scale=3, min_width=240):
                    self.steered_face = gr.HTML(min_height=120)
                with gr.Column(scale=2, min_width=240, visible=False) as self.steering:
                    self.amounts = [
                        gr.Slider(-3, 3, 0, step=0.1, label=f"Direction {i + 1}") for i in range(directions.COUNT)
                    ]
            self.strips = gr.HTML()

    def _lay_out_picture(self) -> None:
        with self._active("Picture", "translates"), gr.Row():
            with gr.Column(scale=2, min_width=240):
                self.upload = upload_box("A photo or a face: redrawn as soon as it is there", "upload", height=240)
                with gr.Column(visible=False) as self.edit_box:
                    self._lay_out_edits()
            with gr.Column(scale=3, min_width=240):
                self.edited_pictures = gr.HTML(min_height=120)

    def _lay_out_edits(self) -> None:
        self.edits: dict[str, Component] = {
            "reverse": gr.Radio(
                [("photo → anime", False), ("anime → photo", True)],
                value=False,
                label="Direction",
                visible=False,
            ),
            "noise": gr.Slider(
                0,
                1,
                0.2,
                step=0.05,
                label="Noise added first",
                info="to see how well it is taken out again",
                visible=False,
            ),
            "levels": gr.Number(
                label="Top levels kept",
                info="empty: all; the rest is drawn anew",
                precision=0,
                minimum=1,
                visible=False,
            ),
            "strength": gr.Slider(
                0.05,
                1,
                0.5,
                step=0.05,
                label="Strength",
                info="how much is drawn anew: 0.1 a little, 1 all",
                visible=False,
            ),
            "exact": gr.Checkbox(label="Exact: there and back without noise", visible=False),
        }
        """By field of `Edit`."""
        self.fit = gr.Radio(list(FITS), value="crop", label="How it becomes a square", visible=False)
        self.side = gr.Slider(64, actions.MAX_SIDE, 256, step=8, label="Shorter side", visible=False)
        self.edit_seed = gr.Number(0, label="Seed", precision=0, minimum=0, visible=False)
        self.edit_button = gr.Button("Redraw", variant="primary")

    def _lay_out_compare(self) -> None:
        with self._active("Compare", "samples"):
            with gr.Row(elem_classes="line"):
                self.other_run = gr.Dropdown(label="With", choices=[], scale=3, min_width=160)
                self.compare_seeds = gr.Textbox(f"0-{FACES - 1}", label="Seeds", scale=3, min_width=160)
                self.compare_button = gr.Button("Draw both", variant="primary", scale=1, min_width=110)
            self.compared_faces = gr.HTML(min_height=120)

    def _lay_out_training(self) -> None:
        with gr.Tab("Training", id=TRAINING_TAB) as self.training_tab:
            self.timer = gr.Timer(3, active=False)
            self.last_look: gr.State = gr.State(None)
            """A `LastLook` of `animegen_cli.ui.app`."""
            self.training = gr.HTML(min_height=120)
