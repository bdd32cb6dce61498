"""What happens when the controls of the page are used: which action each event calls, and which controls it changes.

Events name the controls that they read and change: a handler is given a mapping from each control to its value, and
answers with a mapping from each control that changes to its new value. So a new control cannot shift the others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
import numpy as np
import torch
from gradio.blocks import Block
from gradio.components import Component

from animegen_cli.errors import AnimegenError
from animegen_cli.report import records
from animegen_cli.sample import recipe
from animegen_cli.seeds import spell_seeds
from animegen_cli.ui import actions, directions, guard, render, training_status
from animegen_cli.ui.actions import Capabilities, PictureRequest
from animegen_cli.ui.controls import TRAINING_TAB, Controls
from animegen_cli.ui.markup import Markup, el, join
from animegen_cli.ui.training_status import Fingerprint
from animegen_cli.ui.widgets import progress, with_errors_shown

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.paths import Run
    from animegen_cli.sample.generate import Generator
    from animegen_cli.sample.recipe import Recipe
    from animegen_cli.sample.trained import Trained
    from animegen_cli.ui.actions import Models

Values = Mapping[Component, Any]
"""What the controls that an event reads hold."""
Changes = dict[Block, object]
"""New values, or updates made by `gr.update`, of the controls that an event changes; the others stay as they are."""

_DRAWING: dict[str, Any] = {
    "concurrency_id": "drawing",
    "concurrency_limit": 1,
    "api_visibility": "private",
    "trigger_mode": "once",
}
"""Options of events that draw: one at a time."""
_DRAWING_LATEST = _DRAWING | {"trigger_mode": "always_last"}
"""As above, but what is asked for while one is at work is not lost: the last of it follows."""
_LIGHT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Options of events that take no time."""
_REST = 20
"""Times as long as a look at a training takes there is none after it: a twentieth of one core at most."""


class PickedRun(NamedTuple):
    """The run that was picked."""

    name: str | None
    at: float
    """When, in seconds of the monotonic clock."""
    recipe: str = ""
    """Of the picture that it was picked by, as JSON."""


class LastLook(NamedTuple):
    """What was last seen of a training."""

    fingerprint: Fingerprint
    rest_until: float
    """When to look again, in seconds of the monotonic clock."""


class Page:
    """The controls, and what happens when they are used."""

    def __init__(self, root: Path, models: Models, folder: Path) -> None:
        """Build the page of the runs under `root`; `folder` is where uploads go."""
        self.root = root
        self.models = models
        self.folder = folder
        self.controls = Controls()
        self.blocks = self.controls.blocks
        with self.blocks:
            self._wire_run()
            self._wire_drawing()
            self._wire_training()

    # ---- which event calls what -----------------------------------------------------------------------------------

    def _wire_run(self) -> None:
        controls = self.controls
        for event in (self.blocks.load, controls.refresh_button.click):
            event(
                self._list_runs,
                {controls.run, controls.other_run},
                [controls.run, controls.other_run, controls.facts, controls.picked],
                **_LIGHT,
            )
        controls.run.input(self._run_input, {controls.run, controls.picked}, controls.picked, **_LIGHT)
        controls.picked.change(
            with_errors_shown(self._pick_run),
            {controls.run, controls.other_run, controls.picked},
            [*controls.recipe_dependent, controls.tabs],
            **_DRAWING_LATEST,
            show_progress="hidden",
        )
        controls.dropped.upload(
            with_errors_shown(self._read_recipe), {controls.dropped}, [controls.run, controls.picked], **_LIGHT
        )

    def _wire_drawing(self) -> None:
        controls = self.controls
        options = {controls.run, *controls.draw_options}
        controls.count.input(self._count_input, {controls.seeds, controls.count}, controls.seeds, **_LIGHT)
        draw: dict[str, Any] = {
            "fn": with_errors_shown(self._draw),
            "inputs": {controls.seeds, *options},
            "outputs": controls.faces,
            **_DRAWING,
        }
        gr.on([controls.draw_button.click, controls.seeds.submit], **draw)
        controls.new_faces_button.click(
            with_errors_shown(self._new_seeds), {controls.seeds}, controls.seeds, **_LIGHT
        ).success(**draw)
        controls.walk_button.click(
            with_errors_shown(self._walk),
            {controls.start_seed, controls.end_seed, controls.frames, *options},
            controls.walk_frames,
            **_DRAWING,
        )
        controls.find_button.click(
            with_errors_shown(self._find_directions),
            {controls.steer_seed, *options},
            [controls.steered_face, controls.strips, *controls.amounts],
            **_DRAWING,
        )
        for amount in controls.amounts:
            amount.input(
                with_errors_shown(self._steer),
                {controls.steer_seed, *controls.amounts, *options},
                controls.steered_face,
                **_DRAWING_LATEST,
            )
        controls.edit_button.click(
            with_errors_shown(self._edit_picture),
            {
                controls.upload,
                *controls.edits.values(),
                controls.fit,
                controls.side,
                controls.edit_seed,
                *options,
            },
            controls.edited_pictures,
            **_DRAWING,
        )
        controls.compare_button.click(
            with_errors_shown(self._compare),
            {controls.other_run, controls.compare_seeds, *options},
            controls.compared_faces,
            **_DRAWING,
        )

    def _wire_training(self) -> None:
        controls = self.controls
        controls.tabs.select(_tab_selected, None, controls.timer, **_LIGHT)
        for event in (controls.training_tab.select, controls.timer.tick, controls.run.change):
            event(
                self._look_at_training,
                {controls.run, controls.last_look},
                [controls.training, controls.last_look],
                **_LIGHT,
            )

    # ---- the run --------------------------------------------------------------------------------------------------

    def _list_runs(self, values: Values) -> Changes:
        """Offer the runs there are now; the picked one stays picked."""
        controls = self.controls
        runs = actions.list_runs(self.root)
        names = [run.name for run in runs]
        ready = [run.name for run in runs if run.weights.is_file()]
        name = values[controls.run] if values[controls.run] in names else next(iter(ready or names), None)
        other_stays = values[controls.other_run] in ready
        changes: Changes = {
            controls.run: gr.update(choices=names, value=name),
            controls.other_run: gr.update(choices=ready) if other_stays else self._another_run(name),
            controls.picked: PickedRun(name, time.monotonic()),
        }
        if not names:
            command = el("code", "animegen train ddim --preset smoke")
            changes[controls.facts] = render.notice(
                join("No runs under ", el("code", self.root), ". Train one: ", command)
            )
        return changes

    def _another_run(self, name: str | None) -> dict[str, Any]:
        """Offer the runs with weights to compare with: the newest but the one called `name` is picked."""
        ready = [run.name for run in actions.list_runs(self.root) if run.weights.is_file()]
        return gr.update(choices=ready, value=next((other for other in ready if other != name), None))

    def _run_input(self, values: Values) -> Changes:
        """Note that a run was picked, but not again the same one: its box speaks up whenever it loses the focus.

        Picking the same run again would undo settings, wipe faces and hide the progress of a drawing.
        """
        name: str | None = values[self.controls.run]
        picked: PickedRun | None = values[self.controls.picked]
        if picked is None or picked.name != name:
            picked = PickedRun(name, time.monotonic())
        return {self.controls.picked: picked}

    def _pick_run(self, values: Values) -> Changes:
        """Set everything that depends on the run; it is not compared with itself unless somebody asks for that."""
        controls = self.controls
        name: str | None = values[controls.run]
        changes: Changes = {}
        for result in controls.results:
            changes[result] = ""
        if not name:
            return changes
        run = actions.find_run(self.root, name)
        changes[controls.facts] = ""
        if name == values[controls.other_run]:
            changes[controls.other_run] = self._another_run(name)
        for i, amount in enumerate(controls.amounts):
            changes[amount] = gr.update(value=0, label=f"Direction {i + 1}")
        try:
            changes[controls.facts] = render.facts(records.read(run))
            trained = self.models.open(run)
            capabilities = actions.capabilities(trained)
        except AnimegenError as error:
            changes[controls.settings_box] = gr.update(visible=False)
            notice = render.notice(render.problem(error))
            return changes | self._tab_bodies(samples=notice, translates=notice)
        family = str(run.about.get("family"))
        reads_pictures = capabilities.edits is not None
        changes |= self._tab_bodies(
            samples=render.notice("" if capabilities.draws else actions.unable(family, "samples")),
            translates=render.notice("" if reads_pictures else actions.unable(family, "translates")),
        )
        changes |= self._draw_controls(capabilities) | self._edit_controls(capabilities)
        picked: PickedRun | None = values[controls.picked]
        changes[controls.recipe_notice] = ""
        return self._follow(picked.recipe, trained, changes) if picked and picked.recipe else changes

    def _read_recipe(self, values: Values) -> Changes:
        """Pick the run that drew the dropped picture; what else its recipe says is set when the run's controls are."""
        controls = self.controls
        told = guard.read_recipe(values[controls.dropped], self.folder)
        run = actions.run_of(told, self.root)
        return {controls.run: run.name, controls.picked: PickedRun(run.name, time.monotonic(), told.to_json())}

    def _follow(self, text: str, trained: Trained, changes: Changes) -> Changes:
        """Set seeds, settings and labels as a recipe says, over the run's own in `changes`, and open its tab."""
        controls = self.controls
        told = recipe.parse({recipe.KEY: text}, "the picture")
        values: dict[Block, object] = {
            control: told.sampling[key]
            for key, control in controls.settings.items()
            if key in actions.capabilities(trained).settings and key in told.sampling
        }
        values[controls.labels] = [f"{name}={value}" for name, value in told.labels.items()]
        place = actions.place_of(told)
        values |= {getattr(controls, name): value for name, value in place.seeds.items()}
        followed: Changes = {}
        for control, value in values.items():
            own = changes.get(control)
            followed[control] = {**(own if isinstance(own, dict) else gr.update()), "value": value}
        followed[controls.tabs] = gr.update(selected=place.tab)
        followed[controls.recipe_notice] = render.notice(render.coded(actions.told_by(told, trained)))
        return changes | followed

    def _tab_bodies(self, *, samples: Markup, translates: Markup) -> Changes:
        """Show in each tab the notice for the ability that it needs, or, where that is empty, its controls."""
        notices = {"samples": samples, "translates": translates}
        changes: Changes = {}
        for body in self.controls.tab_bodies:
            notice = notices[body.ability]
            changes[body.notice] = gr.update(value=notice, visible=bool(notice))
            changes[body.column] = gr.update(visible=not notice)
        return changes

    def _draw_controls(self, capabilities: Capabilities) -> Changes:
        """Show the settings and labels that the run has, with its own values."""
        controls = self.controls
        settings = capabilities.settings
        changes: Changes = {controls.settings_box: gr.update(visible=bool(settings or capabilities.labels))}
        for key, control in controls.settings.items():
            limits: dict[str, Any] = {}
            if key == "sampler":
                limits["choices"] = list(capabilities.samplers)
            steps = settings.get("steps")
            if key == "steps" and isinstance(steps, int):
                limits["maximum"] = max(250, steps)
            changes[control] = gr.update(visible=key in settings, value=settings.get(key), **limits)
        labels = [(f"{name}: {value}", f"{name}={value}") for name, value in capabilities.labels]
        changes[controls.labels] = gr.update(choices=labels, value=[], visible=bool(labels))
        return changes

    def _edit_controls(self, capabilities: Capabilities) -> Changes:
        """Show the edits that the run reads."""
        controls = self.controls
        fields = capabilities.edits or frozenset()
        changes: Changes = {control: gr.update(visible=field in fields) for field, control in controls.edits.items()}
        changes[controls.fit] = gr.update(visible=not capabilities.any_size)
        changes[controls.side] = gr.update(visible=capabilities.any_size)
        changes[controls.edit_seed] = gr.update(visible=bool(fields & {"noise", "strength"}))
        changes[controls.edit_button] = gr.update(value="Translate" if capabilities.any_size else "Redraw")
        return changes

    def _open_run(self, values: Values) -> tuple[Run, Generator]:
        """The picked run, and its networks with the settings and labels of the page."""
        controls = self.controls
        run = actions.find_run(self.root, values[controls.run])
        trained = self.models.open(run)
        settings = {key: values[control] for key, control in controls.settings.items()}
        return run, actions.generator_of(trained, settings, values[controls.labels] or ())

    # ---- drawing --------------------------------------------------------------------------------------------------

    def _count_input(self, values: Values) -> Changes:
        """Write as many seeds as the slider says, from the first seed on."""
        controls = self.controls
        first = values[controls.seeds].replace("-", ",").split(",")[0].strip()
        start = int(first) if first.isdecimal() else 0
        return {controls.seeds: spell_seeds(range(start, start + int(values[controls.count])))}

    def _new_seeds(self, values: Values) -> Changes:
        """Write the seeds after the last one: new faces, which come again for whoever types those seeds."""
        seeds = actions.read_seeds(values[self.controls.seeds])
        start = max(seeds) + 1
        return {self.controls.seeds: spell_seeds(range(start, start + len(seeds)))}

    def _draw(self, values: Values) -> Changes:
        """Draw the seeds' faces."""
        run, generator = self._open_run(values)
        seeds = actions.read_seeds(values[self.controls.seeds])
        images = actions.draw(generator, seeds, progress(len(seeds)))
        file = f"{run.name}-{spell_seeds(seeds).replace(',', '_')[:60]}.png"
        batched = actions.batched(generator, len(seeds))
        zoom = render.sheet_zoom(images.shape[2])
        whole = recipe.of_seeds(batched, seeds, grid=True, captions=True, zoom=zoom)
        return {self.controls.faces: render.sheet(images, _captions(seeds), _recipes(batched, seeds), file, whole)}

    def _walk(self, values: Values) -> Changes:
        """Draw the way from one seed to another."""
        controls = self.controls
        run, generator = self._open_run(values)
        start = actions.read_seed(values[controls.start_seed])
        end = actions.read_seed(values[controls.end_seed])
        frames = int(values[controls.frames])
        progress(frames)
        images = actions.walk(generator, start, end, frames)
        batched, ends = actions.batched(generator, frames), (start, end)
        told = [recipe.of_walk(batched, ends, frames, frame=frame) for frame in range(frames)]
        whole = recipe.of_walk(batched, ends, frames, zoom=render.sheet_zoom(images.shape[2]))
        return {controls.walk_frames: render.walk(images, told, whole, f"{run.name}-{start}-{end}")}

    def _find_directions(self, values: Values) -> Changes:
        """Find the run's directions, and draw the seed's face along each of them."""
        controls = self.controls
        run, generator = self._open_run(values)
        seed = actions.read_seed(values[controls.steer_seed])
        rows = directions.amount_rows()
        on_progress = progress(directions.picture_count(generator.trained) + len(rows))
        found = self.models.directions(run, generator, on_progress)
        images = actions.steer(generator, seed, rows, found, on_progress)
        strips = np.split(images, len(found.shares))
        told = [_steered(generator, seed, amounts) for amounts in rows.tolist()]
        width = len(strips[0])
        steps = rows[:width, 0].tolist()
        titles = [f"{i + 1}: {share:.0%}" for i, share in enumerate(found.shares)]
        by_direction = [told[start : start + width] for start in range(0, len(told), width)]
        table = render.strips(
            list(zip(titles, strips, by_direction, strict=True)), [f"{step:+g}" if step else "0" for step in steps]
        )
        note = f"What each direction explains of the variance between {found.pictures // 2} other faces."
        middle = len(steps) // 2
        changes: Changes = {
            controls.steered_face: render.faces(
                strips[0][middle : middle + 1], _captions([seed]), told[middle : middle + 1], size=240
            ),
            controls.strips: join(table, render.notice(note)),
        }
        for amount, title in zip(controls.amounts, titles, strict=True):
            changes[amount] = gr.update(value=0, label=f"Direction {title}")
        return changes

    def _steer(self, values: Values) -> Changes:
        """Draw the seed's face moved along the directions as the sliders say."""
        controls = self.controls
        run, generator = self._open_run(values)
        seed = actions.read_seed(values[controls.steer_seed])
        found = self.models.directions(run, generator)
        amounts = [values[amount] for amount in controls.amounts]
        row = torch.tensor([amounts], dtype=torch.float32)[:, : len(found.shares)]
        images = actions.steer(generator, seed, row, found)
        told = [_steered(generator, seed, amounts)]
        return {controls.steered_face: render.faces(images, [f"seed {seed}, moved"], told, size=240)}

    def _edit_picture(self, values: Values) -> Changes:
        """Redraw or translate the uploaded picture."""
        controls = self.controls
        run, generator = self._open_run(values)
        image = guard.read_upload(values[controls.upload], self.folder)
        progress(1)
        request = PictureRequest(
            edits={field: values[control] for field, control in controls.edits.items()},
            fit=values[controls.fit],
            side=values[controls.side],
            seed=actions.read_seed(values[controls.edit_seed]),
        )
        pictures = actions.edit_picture(generator, image, request)
        told = actions.recipe_of_edit(generator, request)
        return {controls.edited_pictures: render.edited(pictures, f"{run.name}-picture", told)}

    def _compare(self, values: Values) -> Changes:
        """Draw the picked run as its settings say, and another run by its own, from the same seeds."""
        controls = self.controls
        seeds = actions.read_seeds(values[controls.compare_seeds])
        run, generator = self._open_run(values)
        on_progress = progress(2 * len(seeds))
        images = actions.draw(generator, seeds, on_progress)
        other = actions.find_run(self.root, values[controls.other_run])
        others = actions.generator_of(self.models.open(other), {})
        other_images = actions.draw(others, seeds, on_progress)
        told, others_told = (_recipes(actions.batched(one, len(seeds)), seeds) for one in (generator, others))
        pairs = [(run.name, images, told), (other.name, other_images, others_told)]
        return {controls.compared_faces: render.side_by_side(pairs, _captions(seeds))}

    # ---- the training ---------------------------------------------------------------------------------------------

    def _look_at_training(self, values: Values) -> Changes:
        """Show the training anew when it has written something; so seldom that reading takes little of the processor."""
        controls = self.controls
        name: str | None = values[controls.run]
        last: LastLook | None = values[controls.last_look]
        unchanged: Changes = {controls.training: gr.skip()}
        if not name or (last and last.fingerprint.run == name and time.monotonic() < last.rest_until):
            return unchanged
        begun = time.monotonic()
        try:
            run = actions.find_run(self.root, name)
            fingerprint = training_status.fingerprint(run)
            known = last is not None and last.fingerprint == fingerprint
            changes: Changes = unchanged if known else {controls.training: training_status.render(run)}
        except AnimegenError as error:
            return {controls.training: render.notice(render.problem(error)), controls.last_look: None}
        ended = time.monotonic()
        return changes | {controls.last_look: LastLook(fingerprint, ended + _REST * (ended - begun))}


def _captions(seeds: list[int]) -> list[str]:
    return [f"seed {seed}" for seed in seeds]


def _recipes(generator: Generator, seeds: list[int]) -> list[Recipe]:
    return [recipe.of_seeds(generator, [seed]) for seed in seeds]


def _steered(generator: Generator, seed: int, amounts: list[float]) -> Recipe:
    return recipe.of(generator, "steer", ["--seeds", seed], seeds=str(seed), amounts=[round(a, 3) for a in amounts])


def _tab_selected(tab: gr.SelectData) -> dict[str, Any]:
    """Look at the training while its tab is open."""
    return gr.update(active=tab.value == TRAINING_TAB)
