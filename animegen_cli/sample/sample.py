"""The command `sample`: opens a run and writes images, grids, strips, walks, and pictures that the run edits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from animegen_cli import console, paths, ranks
from animegen_cli.device import pick_device
from animegen_cli.errors import UsageError
from animegen_cli.model import abilities
from animegen_cli.model.pixels import channels_last
from animegen_cli.paths import Run
from animegen_cli.report import grids
from animegen_cli.sample import like as likeness
from animegen_cli.sample import recipe, sheets
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.output import file_of, save, save_array, save_gif, save_video
from animegen_cli.sample.request import AMOUNT, Request
from animegen_cli.sample.trained import cautions, describe_sampling, label_row, open_trained, sampling_of
from animegen_cli.seeds import spell_seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from animegen_cli.ranks import Ranks
    from animegen_cli.sample.generate import OnProgress
    from animegen_cli.sample.like import Likeness
    from animegen_cli.sample.recipe import Recipe


@dataclass(frozen=True)
class Drawn:
    """What the command wrote."""

    run: Run
    out: Path
    """The folder."""
    files: list[Path]
    sampling: str
    """Such as "ddim, 50 steps, spacing trailing"."""
    images_seen: int
    """By the run, in training."""

    def to_dict(self) -> dict[str, object]:
        """Plain values for `--json`."""
        files = [str(file) for file in self.files]
        return {"files": files, "run": str(self.run.path), "sampling": self.sampling, "images_seen": self.images_seen}

    def __str__(self) -> str:
        """The files, or the last of them and the folder where they are many."""
        return "\n".join(str(file) for file in (self.files if len(self.files) <= 4 else [*self.files[-1:], self.out]))


def sample(request: Request, group: Ranks = ranks.ALONE) -> Drawn | Likeness:
    """Draw and write what was asked for, or a picture again by its recipe.

    Args:
        request: what was asked for.
        group: the processes that share the images of the seeds; the others `follow`. All else the first makes alone.

    Raises:
        UsageError: words that do not fit together, or a run of a family that cannot do what is asked.
        DataError: no such run, one without weights, or a picture that cannot be read.
        MachineError: no such device, no room, or a missing extra.
    """
    request.check()
    if request.like is not None:
        group.told(json.dumps({}))
        return likeness.like(request, request.like)
    run = abilities.open_run(request.run, "samples")
    console.note(f"run: {run.path}")
    out = request.out or run.path / "drawn"
    generator = _generator(request, run, group)
    for text in cautions(generator.trained, generator.sampling, run):
        console.warn(text)
    paths.make_folder(out)
    files = [*_strips(request, run, generator, out), *_edits(request, generator, out)]
    draws = not files or (request.seeds is not None and not request.inpaint)
    group.told(json.dumps({"run": str(run.path.resolve()), "out": str(out.resolve())} if draws else {}))
    if draws:
        files += _images(request, generator, out, group)
    return Drawn(run, out, files, describe_sampling(generator.sampling), generator.trained.images)


def follow(request: Request, group: Ranks) -> None:
    """Draw and write this process's share of the images, of the run and into the folder that the first process says."""
    told = json.loads(group.told())
    if told:
        _images(request, _generator(request, Run(Path(told["run"])), group), Path(told["out"]), group)


def _generator(request: Request, run: Run, group: Ranks) -> Generator:
    # Projection follows gradients, which half precision would round away.
    precision = "fp32" if request.project and request.precision == "auto" else request.precision
    trained = open_trained(run, device=ranks.gpu_of(pick_device(request.device), group), precision=precision)
    sampling = sampling_of(trained, request.overrides)
    labels = label_row(trained, _labels(request.labels)) if request.labels else None
    return Generator(trained, sampling, labels, request.batch)


def _strips(request: Request, run: Run, generator: Generator, out: Path) -> list[Path]:
    trained, frames = generator.trained, request.frames
    first = request.seeds[0] if request.seeds else 0
    files = []
    count = ["--frames", frames]
    if request.progress_strip:
        made = recipe.of(
            generator, "progress", ["--progress-strip", *count, "--seeds", first], seeds=str(first), frames=frames
        )
        files.append(save(sheets.progress_strip(run, trained, frames, first), out / "progress.png", made))
    if request.forward_strip:
        made = recipe.of(generator, "edit", ["--forward-strip", "PICTURE", *count], frames=frames)
        files.append(save(sheets.forward_strip(trained, request.forward_strip, frames), out / "forward.png", made))
    if request.denoise_strip:
        made = recipe.of(
            generator, "denoise", ["--denoise-strip", *count, "--seeds", first], seeds=str(first), frames=frames
        )
        files.append(save(sheets.denoise_strip(generator, frames, first), out / "denoise.png", made))
    if request.interpolate:
        start, end = request.interpolate
        made = recipe.of_walk(generator, (start, end), frames)
        walk = channels_last(generator.interpolate(start, end, frames))
        files.append(save(grids.strip(walk, gap=0), out / f"interpolate-{start}-{end}.png", made))
        if request.gif:
            files.append(save_gif(walk, out / f"interpolate-{start}-{end}.gif"))
        if request.video:
            files.append(save_video(walk, out / f"interpolate-{start}-{end}.mp4"))
    return files


def _edits(request: Request, generator: Generator, out: Path) -> list[Path]:
    files = []
    if request.mix:
        rows, columns = map(spell_seeds, request.mix)
        cut = ["--cut", request.cut] if request.cut is not None else []
        made = recipe.of(generator, "mix", ["--mix", rows, columns, *cut], rows=rows, columns=columns, cut=request.cut)
        files.append(save(sheets.mix_table(generator, *request.mix, request.cut), out / "mix.png", made))
    if request.project:
        files += sheets.projected(generator, request.project, request, out)
    if request.inpaint and request.image:
        files += sheets.inpainted(generator, request.image, request.inpaint, request, out)
    return files


def _images(request: Request, generator: Generator, out: Path, group: Ranks) -> list[Path]:
    """Draw each process's block of the seeds; all write their images, the first one arrays and grids. Returns the files of all."""
    seeds, faces = request.drawn_seeds, _Faces(request, generator)
    batch, size = generator.call_size, generator.trained.data.size
    block = group.block(len(seeds), batch)
    own = seeds[block.start : block.stop]
    whole = request.form == "npz" or request.grid
    shown = [np.empty((0, size, size, 3), np.uint8)]
    for folder in {faces.file(out, seed).parent for seed in own if request.form == "png"}:
        paths.make_folder(folder)
    with console.progress("drawing", len(own)) as bar:
        for start in range(0, len(own), batch):
            piece = own[start : start + batch]
            pixels = channels_last(faces.draw(piece, bar.advance))
            if whole:
                shown.append(pixels)
            if request.form == "png":  # written as they come: a kill loses one batch, and memory stays small
                for seed, image in zip(piece, pixels, strict=True):
                    save(Image.fromarray(image), faces.file(out, seed), faces.recipe(seed))
    group.said(len(own))  # all are written
    files = [faces.file(out, seed) for seed in seeds] if request.form == "png" else []
    pixels = group.gathered(torch.from_numpy(np.concatenate(shown))).numpy() if whole else shown[0]
    if request.form == "npz" and group.first:
        files.append(save_array(pixels, seeds, faces.array(out)))
    if request.grid and group.first:
        files.append(faces.save_sheet(pixels, seeds, out))
    return files


@dataclass(frozen=True)
class _Faces:
    """What is drawn of a list of seeds: their faces, or the first one's with variations of it towards the others."""

    request: Request
    generator: Generator

    @property
    def _amount(self) -> float:
        return AMOUNT if self.request.amount is None else self.request.amount

    def draw(self, seeds: Sequence[int], on_progress: OnProgress) -> Tensor:
        if self.request.vary is None:
            return self.generator.draw(seeds, on_progress=on_progress)
        return self.generator.vary(self.request.vary, seeds, self._amount, on_progress=on_progress)

    def file(self, out: Path, seed: int) -> Path:
        return file_of(out, seed, "seeds" if self.request.vary is None else f"variations-{self.request.vary}")

    def array(self, out: Path) -> Path:
        return out / ("samples.npz" if self.request.vary is None else f"variations-{self.request.vary}.npz")

    def recipe(self, seed: int) -> Recipe:
        if self.request.vary in (None, seed):
            return recipe.of_seeds(self.generator, [seed])
        return recipe.of_variations(self.generator, self.request.vary, [seed], self._amount)

    def save_sheet(self, pixels: np.ndarray, seeds: Sequence[int], out: Path) -> Path:
        if self.request.vary is None:
            return save(grids.grid(pixels), out / "grid.png", recipe.of_seeds(self.generator, seeds, grid=True))
        seed, others, zoom = self.request.vary, seeds[1:], max(1, 96 // pixels.shape[2])
        made = recipe.of_variations(self.generator, seed, others, self._amount, grid=True, zoom=zoom)
        return save(sheets.variations(pixels, seed, others, zoom), out / f"variations-{seed}.png", made)


def _labels(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        for piece in word.split(","):
            name, equals, value = piece.partition("=")
            if not equals:
                raise UsageError(f"`--labels {word}` has no `=`", hint="write `--labels hair=pink`")
            found[name.strip()] = value.strip()
    return found
