"""What the controls that draw answer with: pictures as HTML.

A handler is given a mapping from each control that its event reads to its value, and answers with a mapping from each
control that changes to its new value.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
import torch
from gradio.blocks import Block
from gradio.components import Component

from animegen_cli import paths
from animegen_cli.sample import recipe
from animegen_cli.seeds import spell_seeds
from animegen_cli.ui import actions, directions, guard, render
from animegen_cli.ui.actions import PictureRequest
from animegen_cli.ui.markup import join
from animegen_cli.ui.widgets import progress

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.paths import Run
    from animegen_cli.sample.generate import Generator
    from animegen_cli.sample.recipe import Recipe
    from animegen_cli.ui.actions import Models
    from animegen_cli.ui.controls import Controls, Session
    from animegen_cli.ui.directions import Directions

Values = Mapping[Component, Any]
"""What the controls that an event reads hold."""
Changes = dict[Block, object]
"""New values, or updates made by `gr.update`, of the controls that an event changes; the others stay as they are."""

_DIRECTIONS = (
    "Directions in the noise along which this run’s pictures change most. They were found, not trained, so they have no "
    "names. One unit is one standard deviation of the noise; the percentage is a direction’s share in the change along all."
)


class _Superseded(Exception):
    """Another run was picked while this one's directions were looked for."""


class Drawing:
    """The handlers of the controls that draw."""

    def __init__(self, root: Path, models: Models, folder: Path, controls: Controls) -> None:
        """Draw with the runs under `root`, as the controls say; `folder` is where uploads go."""
        self.root = root
        self.models = models
        self.folder = folder
        self.controls = controls

    def _open_run(self, values: Values) -> tuple[Run, Generator]:
        """The picked run, and its networks with the settings and labels of the page."""
        controls = self.controls
        run = actions.find_run(self.root, values[controls.run])
        trained = self.models.open(run)
        settings = {key: values[control] for key, control in controls.settings.items()}
        return run, actions.generator_of(trained, settings, values[controls.labels] or ())

    def count_input(self, values: Values) -> Changes:
        """Write as many seeds as the slider says, from the first seed on."""
        controls = self.controls
        first = values[controls.seeds].replace("-", ",").split(",")[0].strip()
        start = int(first) if first.isdecimal() else 0
        return self._seeds_from(values, start, int(values[controls.count]))

    def new_seeds(self, values: Values) -> Changes:
        """Write as many seeds from a random one on: new faces, which come again for whoever types those seeds."""
        return self._seeds_from(values, secrets.randbelow(10**6), self._count(values))

    def previous_seeds(self, values: Values) -> Changes:
        """Write as many seeds before the first one."""
        seeds = actions.read_seeds(values[self.controls.seeds])
        return self._seeds_from(values, max(min(seeds) - len(seeds), 0), len(seeds))

    def next_seeds(self, values: Values) -> Changes:
        """Write as many seeds after the last one."""
        seeds = actions.read_seeds(values[self.controls.seeds])
        return self._seeds_from(values, max(seeds) + 1, len(seeds))

    def _count(self, values: Values) -> int:
        return len(actions.read_seeds(values[self.controls.seeds]))

    def _seeds_from(self, values: Values, start: int, count: int) -> Changes:
        """Write so many seeds from the first one on, but that of the face that is varied: it is no variation of itself."""
        others = [seed for seed in range(start, start + count + 1) if seed != values[self.controls.vary_seed]]
        return {self.controls.seeds: spell_seeds(others[:count])}

    def back_to_seeds(self, values: Values) -> Changes:
        """Show again the seeds that were there before a face was varied."""
        controls = self.controls
        session: Session = values[controls.session]
        return {
            controls.seeds: session.seeds,
            controls.vary_seed: None,
            controls.vary_box: gr.update(visible=False),
        }

    def draw(self, values: Values) -> Changes:
        """Draw the seeds' faces, or the face that is varied and its variations towards them."""
        run, generator = self._open_run(values)
        seeds = actions.read_seeds(values[self.controls.seeds])
        if values[self.controls.vary_seed] is not None:
            return self._variations(values, run, generator, seeds)
        images = actions.draw(generator, seeds, progress(len(seeds)))
        file = f"{run.name}-{spell_seeds(seeds).replace(',', '_')[:60]}.png"
        batched = actions.batched(generator, len(seeds))
        zoom = render.sheet_zoom(images.shape[2])
        whole = recipe.of_seeds(batched, seeds, grid=True, captions=True, zoom=zoom)
        return {
            self.controls.faces: render.of_run(
                run, render.sheet(images, _captions(seeds), _recipes(batched, seeds), file, whole)
            )
        }

    def _variations(self, values: Values, run: Run, generator: Generator, seeds: list[int]) -> Changes:
        seed, amount = actions.read_seed(values[self.controls.vary_seed]), values[self.controls.amount]
        images = actions.vary(generator, seed, seeds, amount, progress(len(seeds) + 1))
        batched = actions.batched(generator, len(images))
        each = [recipe.of_variations(batched, seed, [other], amount) for other in seeds]
        told = [recipe.of_seeds(batched, [seed]), *each]
        zoom = render.sheet_zoom(images.shape[2])
        whole = recipe.of_variations(batched, seed, seeds, amount, grid=True, zoom=zoom)
        titles, file = recipe.variation_titles(seed, seeds), f"{run.name}-variations-{seed}.png"
        return {self.controls.faces: render.of_run(run, render.sheet(images, titles, told, file, whole))}

    def walk(self, values: Values) -> Changes:
        """Draw the way from one seed to another."""
        controls = self.controls
        run, generator = self._open_run(values)
        start = actions.read_seed(values[controls.start_seed])
        end = actions.read_seed(values[controls.end_seed])
        frames = int(values[controls.frames])
        images = actions.walk(generator, start, end, frames, progress(frames))
        batched, ends = actions.batched(generator, frames), (start, end)
        told = [recipe.of_walk(batched, ends, frames, frame=frame) for frame in range(frames)]
        whole = recipe.of_walk(batched, ends, frames, zoom=render.sheet_zoom(images.shape[2]))
        return {controls.walk_frames: render.of_run(run, render.walk(images, told, whole, f"{run.name}-{start}-{end}"))}

    def steer_along_all(self, values: Values) -> Changes:
        """Find the run's directions, and draw the seed's face along each of them."""
        controls = self.controls
        run, generator, seed, found = self._steering(values)
        if found is None:
            return {controls.steered_face: gr.skip()}
        rows = directions.amount_rows()
        images = actions.steer(generator, seed, rows, found, progress(len(rows)))
        strips = np.split(images, len(found.shares))
        told = [_steered(generator, seed, amounts) for amounts in rows.tolist()]
        width = len(strips[0])
        steps = rows[:width, 0].tolist()
        titles = [f"{i + 1}: {share:.0%}" for i, share in enumerate(found.shares)]
        by_direction = [told[start : start + width] for start in range(0, len(told), width)]
        table = render.strips(
            list(zip(titles, strips, by_direction, strict=True)), [f"{step:+g}" if step else "0" for step in steps]
        )
        middle = len(steps) // 2
        face = render.faces(strips[0][middle : middle + 1], _captions([seed]), told[middle : middle + 1], size=240)
        changes: Changes = {
            controls.steered_face: render.of_run(run, face),
            controls.strips: join(render.of_run(run, table), render.notice(_DIRECTIONS)),
            controls.steering: gr.update(visible=True),
        }
        for amount, title in zip(controls.amounts, titles, strict=True):
            changes[amount] = gr.update(value=0, label=f"Direction {title}")
        return changes

    def _steering(self, values: Values) -> tuple[Run, Generator, int, Directions | None]:
        """The picked run, its networks, the seed to steer, and the directions."""
        run, generator = self._open_run(values)
        seed = actions.read_seed(values[self.controls.steer_seed])
        return run, generator, seed, self._directions(run, generator, values[self.controls.session])

    def _directions(self, run: Run, generator: Generator, session: Session) -> Directions | None:
        """The run's directions, with a bar while they are looked for; None when another run was picked meanwhile."""
        bar = gr.Progress()

        def on_progress(drawn: int, total: int) -> None:
            if session.run != paths.run_name(run, self.root):
                raise _Superseded
            bar((drawn, total), desc="looking for directions", unit="pictures")

        try:
            return self.models.directions(run, generator, on_progress)
        except _Superseded:
            return None

    def steer(self, values: Values) -> Changes:
        """Draw the seed's face moved along the directions as the sliders say."""
        controls = self.controls
        run, generator, seed, found = self._steering(values)
        if found is None:
            return {controls.steered_face: gr.skip()}
        amounts = [values[amount] for amount in controls.amounts]
        row = torch.tensor([amounts], dtype=torch.float32)[:, : len(found.shares)]
        images = actions.steer(generator, seed, row, found)
        told = [_steered(generator, seed, amounts)]
        face = render.faces(images, [f"seed {seed}, moved"], told, size=240)
        return {controls.steered_face: render.of_run(run, face)}

    def edit_picture(self, values: Values) -> Changes:
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
        return {controls.edited_pictures: render.of_run(run, render.edited(pictures, f"{run.name}-picture", told))}

    def upload_changed(self, values: Values) -> Changes:
        """Offer to redraw a picture, and how, while there is one."""
        return {self.controls.edit_box: gr.update(visible=bool(values[self.controls.upload]))}

    def compare(self, values: Values) -> Changes:
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
        pairs = [(run, images, told), (other, other_images, others_told)]
        return {controls.compared_faces: render.side_by_side(pairs, _captions(seeds))}


def _captions(seeds: list[int]) -> list[str]:
    return [f"seed {seed}" for seed in seeds]


def _recipes(generator: Generator, seeds: list[int]) -> list[Recipe]:
    return [recipe.of_seeds(generator, [seed]) for seed in seeds]


def _steered(generator: Generator, seed: int, amounts: list[float]) -> Recipe:
    return recipe.of(generator, "steer", ["--seeds", seed], seeds=str(seed), amounts=[round(a, 3) for a in amounts])
