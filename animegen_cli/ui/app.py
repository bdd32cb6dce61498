"""What happens when the controls of the page are used: which action each event calls, and which controls it changes.

Events name the controls that they read and change: a handler is given a mapping from each control to its value, and
answers with a mapping from each control that changes to its new value. So a new control cannot shift the others.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from animegen_cli import paths
from animegen_cli.errors import AnimegenError
from animegen_cli.report import records
from animegen_cli.sample import recipe
from animegen_cli.ui import actions, directions, guard, render, training_status
from animegen_cli.ui.controls import FACES, TRAINING_TAB, Controls
from animegen_cli.ui.drawing import Changes, Drawing, Values
from animegen_cli.ui.markup import el, join
from animegen_cli.ui.training_status import Fingerprint
from animegen_cli.ui.widgets import with_errors_shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from animegen_cli.paths import Run
    from animegen_cli.sample.trained import Trained
    from animegen_cli.ui.actions import Capabilities, Models
    from animegen_cli.ui.controls import Session

_DRAWING: dict[str, Any] = {
    "concurrency_id": "drawing",
    "concurrency_limit": 1,
    "api_visibility": "private",
    "trigger_mode": "always_last",
}
"""Options of events that draw: one at a time. What is asked for while one is at work is not lost: the last of it follows."""
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
    variations: int = 0
    """How many variations of that picture are wanted instead of itself."""


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
        self.drawing = Drawing(root, models, folder, self.controls)
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
            {controls.run, controls.other_run, controls.picked, controls.session, controls.upload},
            [*controls.recipe_dependent, controls.timer],
            **_DRAWING,
            show_progress="minimal",
            show_progress_on=controls.facts,
        )
        controls.dropped.upload(
            with_errors_shown(self._read_recipe), {controls.dropped}, [controls.run, controls.picked], **_LIGHT
        )
        controls.more_like.change(  # `input` follows keys alone, not scripts
            with_errors_shown(self._more_like),
            {controls.more_like, controls.run, controls.seeds, controls.vary_seed, controls.session},
            [controls.more_like, controls.run, controls.picked],
            **_LIGHT,
        )
        controls.tabs.select(
            self._tab_selected,
            {controls.session, controls.upload},
            [controls.timer, *(active.wish for active in controls.active.values())],
            **_LIGHT,
        )

    def _wire_drawing(self) -> None:
        controls, drawing = self.controls, self.drawing
        wishes = {name: active.wish.change for name, active in controls.active.items()}
        options = {controls.run, *controls.draw_options}
        controls.count.input(
            drawing.count_input, {controls.seeds, controls.count, controls.vary_seed}, controls.seeds, **_LIGHT
        )
        faces = {controls.seeds, controls.vary_seed, controls.amount, *options}
        drawn = gr.on(
            [
                wishes["draw"],
                controls.draw_button.click,
                controls.seeds.submit,
                controls.vary_seed.submit,
                controls.amount.release,
            ],
            with_errors_shown(drawing.draw),
            faces,
            controls.faces,
            **_DRAWING,
        )
        drawn.success(self._steer_ahead, {controls.run, controls.session}, controls.active["steer"].wish, **_LIGHT)
        for button, seeds in (
            (controls.new_faces_button, drawing.new_seeds),
            (controls.previous_button, drawing.previous_seeds),
            (controls.next_button, drawing.next_seeds),
        ):
            button.click(
                with_errors_shown(seeds), {controls.seeds, controls.vary_seed}, controls.seeds, **_LIGHT
            ).success(with_errors_shown(drawing.draw), faces, controls.faces, **_DRAWING)
        controls.back_button.click(
            drawing.back_to_seeds,
            {controls.session},
            [controls.seeds, controls.vary_seed, controls.vary_box],
            **_LIGHT,
        ).success(with_errors_shown(drawing.draw), faces, controls.faces, **_DRAWING)
        gr.on(
            [wishes["walk"], controls.walk_button.click],
            with_errors_shown(drawing.walk),
            {controls.start_seed, controls.end_seed, controls.frames, *options},
            controls.walk_frames,
            **_DRAWING,
        )
        gr.on(
            [wishes["steer"], controls.steer_button.click, controls.steer_seed.submit],
            with_errors_shown(drawing.steer_along_all),
            {controls.steer_seed, controls.session, *options},
            [controls.steered_face, controls.strips, controls.steering, *controls.amounts],
            **_DRAWING | {"concurrency_id": "directions"},
        )
        for amount in controls.amounts:
            amount.input(
                with_errors_shown(drawing.steer),
                {controls.steer_seed, controls.session, *controls.amounts, *options},
                controls.steered_face,
                **_DRAWING,
                show_progress="minimal",
            )
        gr.on(
            [wishes["picture"], controls.edit_button.click, controls.upload.upload],
            with_errors_shown(drawing.edit_picture),
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
        controls.upload.change(drawing.upload_changed, {controls.upload}, controls.edit_box, **_LIGHT)
        gr.on(
            [wishes["compare"], controls.compare_button.click, controls.other_run.input],
            with_errors_shown(drawing.compare),
            {controls.other_run, controls.compare_seeds, *options},
            controls.compared_faces,
            **_DRAWING,
        )

    def _wire_training(self) -> None:
        controls = self.controls
        for event in (controls.training_tab.select, controls.timer.tick, controls.run.change):
            event(
                self._look_at_training,
                {controls.run, controls.last_look},
                [controls.training, controls.last_look],
                **_LIGHT,
            )

    def warm_up(self) -> None:
        """Load the networks of the run that the page opens with: the first faces then come as soon as a browser asks."""
        runs = actions.list_runs(self.root)
        first = self._first(runs)
        if first is not None:
            with suppress(AnimegenError):
                actions.draw(actions.generator_of(self.models.open(runs[first]), {}), [0])

    # ---- the run --------------------------------------------------------------------------------------------------

    def _list_runs(self, values: Values) -> Changes:
        """Offer the runs there are now; the picked one stays picked."""
        controls = self.controls
        runs = actions.list_runs(self.root)
        name: str | None = values[controls.run]
        if name not in runs:
            name = self._first(runs)
        ready = self._drawing(runs)
        other_stays = values[controls.other_run] in ready and values[controls.other_run] != name
        changes: Changes = {
            controls.run: gr.update(choices=list(runs), value=name),
            controls.other_run: gr.update(choices=ready) if other_stays else self._another_run(name),
            controls.picked: PickedRun(name, time.monotonic()),
        }
        if not runs:
            command = el("code", 'animegen train --budget "30 min"')
            changes[controls.facts] = render.notice(
                join("No runs under ", el("code", self.root), ". Train one: ", command)
            )
        return changes

    def _first(self, runs: Mapping[str, Run]) -> str | None:
        """The run that the page opens with: the newest that draws, or that has weights, or of all."""
        ready = [name for name, run in runs.items() if run.weights.is_file()]
        return next(iter(self._drawing(runs) or ready or runs), None)

    def _drawing(self, runs: Mapping[str, Run]) -> list[str]:
        """Those that draw from noise."""
        return [name for name, run in runs.items() if actions.draws(run)]

    def _another_run(self, name: str | None) -> dict[str, Any]:
        """Offer the runs that draw to compare with: the newest but the one called `name` is picked."""
        ready = self._drawing(actions.list_runs(self.root))
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
        """Set everything that depends on the run, and draw; it is not compared with itself unless somebody asks for that."""
        controls = self.controls
        name: str | None = values[controls.run]
        session: Session = values[controls.session]
        session.run = name
        session.begun.clear()
        changes: Changes = dict.fromkeys([*controls.results, controls.recipe_notice, controls.unable], "")
        if not name:
            return changes | self._tabs_for(session, frozenset(), None)
        run = actions.find_run(self.root, name)
        changes[controls.facts] = ""
        changes[controls.steering] = gr.update(visible=False)
        if name == values[controls.other_run]:
            changes[controls.other_run] = self._another_run(name)
        try:
            changes[controls.facts] = render.facts(records.read(run))
            trained = self.models.open(run)
            capabilities = actions.capabilities(trained)
        except AnimegenError as error:
            changes[controls.settings_box] = gr.update(visible=False)
            changes[controls.facts] = join(changes[controls.facts], render.notice(render.problem(error)))
            return changes | self._tabs_for(session, frozenset(), name)
        able = {"samples": capabilities.draws, "translates": capabilities.edits is not None}
        family = str(run.about.get("family"))
        changes[controls.unable] = join(
            *(render.notice(actions.unable(family, ability)) for ability, has in able.items() if not has)
        )
        changes |= self._draw_controls(capabilities) | self._edit_controls(capabilities)
        picked: PickedRun | None = values[controls.picked]
        if picked and picked.recipe:
            changes = self._follow(picked, trained, session, changes)
        changes |= self._tabs_for(session, frozenset(ability for ability, has in able.items() if has), name)
        return changes | self._wish(session, has_picture=bool(values[controls.upload]))

    def _tabs_for(self, session: Session, able: frozenset[str], name: str | None) -> Changes:
        """Show the tabs that a run with these abilities can use; the open one stays open where it is one of them."""
        controls = self.controls
        shown = [tab for tab, active in controls.active.items() if active.ability in able]
        if "compare" in shown and not set(self._drawing(actions.list_runs(self.root))) - {name}:
            shown.remove("compare")
        if session.tab not in (*shown, TRAINING_TAB):
            session.tab = next(iter(shown), TRAINING_TAB)
        changes: Changes = {active.tab: gr.update(visible=tab in shown) for tab, active in controls.active.items()}
        changes[controls.tabs] = gr.update(selected=session.tab)
        changes[controls.timer] = gr.update(active=session.tab == TRAINING_TAB)
        return changes

    def _wish(self, session: Session, *, has_picture: bool) -> Changes:
        """Ask the open tab to draw, once for each run; that for pictures only where one is there."""
        active = self.controls.active.get(session.tab)
        if not session.run or active is None or session.tab in session.begun:
            return {}
        if active.ability == "translates" and not has_picture:
            return {}
        session.begun.add(session.tab)
        return {active.wish: time.monotonic()}

    def _tab_selected(self, values: Values, tab: gr.SelectData) -> Changes:
        """Draw in a tab when it is opened first, and look at the training while its tab is open."""
        controls = self.controls
        session: Session = values[controls.session]
        session.tab = str(tab.value).lower()
        timer: Changes = {controls.timer: gr.update(active=session.tab == TRAINING_TAB)}
        return timer | self._wish(session, has_picture=bool(values[controls.upload]))

    def _steer_ahead(self, values: Values) -> Changes:
        """Look for the run's directions while its faces are looked at, where that takes seconds."""
        controls = self.controls
        session: Session = values[controls.session]
        wish = controls.active["steer"].wish
        run = actions.find_run(self.root, values[controls.run])
        if "steer" in session.begun or not directions.is_quick(self.models.open(run)):
            return {wish: gr.skip()}
        session.begun.add("steer")
        return {wish: time.monotonic()}

    def _read_recipe(self, values: Values) -> Changes:
        """Pick the run that drew the dropped picture; what else its recipe says is set when the run's controls are."""
        controls = self.controls
        told = guard.read_recipe(values[controls.dropped], self.folder)
        name = paths.run_name(actions.run_of(told, self.root), self.root)
        return {controls.run: name, controls.picked: PickedRun(name, time.monotonic(), told.to_json())}

    def _more_like(self, values: Values) -> Changes:
        """Ask for as many variations of a face as there are faces, a page full at least; what was there can come back."""
        controls = self.controls
        text: str = values[controls.more_like]
        if not text:  # what this answers with, so that the same face can be asked for again
            return {controls.more_like: gr.skip()}
        told = recipe.parse({recipe.KEY: text}, "the picture")
        name = paths.run_name(actions.run_of(told, self.root, values[controls.run]), self.root)
        count = FACES
        with suppress(AnimegenError):
            count = max(len(actions.read_seeds(values[controls.seeds])), FACES)
        if values[controls.vary_seed] is None:
            values[controls.session].seeds = values[controls.seeds]
        picked = PickedRun(name, time.monotonic(), told.to_json(), variations=count - 1)
        return {controls.run: name, controls.picked: picked, controls.more_like: ""}

    def _follow(self, picked: PickedRun, trained: Trained, session: Session, changes: Changes) -> Changes:
        """Set seeds, settings and labels as a recipe says, over the run's own in `changes`, and open its tab."""
        controls = self.controls
        told = recipe.parse({recipe.KEY: picked.recipe}, "the picture")
        values: Changes = {
            control: told.sampling[key]
            for key, control in controls.settings.items()
            if key in actions.capabilities(trained).settings and key in told.sampling
        }
        values[controls.labels] = [f"{name}={value}" for name, value in told.labels.items()]
        if picked.variations:
            place, notice = actions.place_of_variations(told, picked.variations), None
        else:
            place, notice = actions.place_of(told), render.coded(actions.told_by(told, trained))
        session.tab = place.tab
        values |= {getattr(controls, name): value for name, value in place.seeds.items()}
        followed: Changes = {}
        for control, value in values.items():
            own = changes.get(control)
            followed[control] = {**(own if isinstance(own, dict) else gr.update()), "value": value}
        followed[controls.recipe_notice] = render.notice(notice)
        if "vary_seed" in place.seeds:
            followed[controls.vary_box] = gr.update(visible=place.seeds["vary_seed"] is not None)
        return changes | followed

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
