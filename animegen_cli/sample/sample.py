"""The command `sample`: opens a run and writes images, grids, strips, walks, and pictures that the run edits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from animegen_cli import console, paths
from animegen_cli.config import settings_of
from animegen_cli.device import pick_device
from animegen_cli.errors import UsageError
from animegen_cli.model import abilities
from animegen_cli.model.pixels import channels_last
from animegen_cli.paths import Run
from animegen_cli.report import grids
from animegen_cli.sample import sheets
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.output import file_of, save, save_array, save_video
from animegen_cli.sample.trained import describe_sampling, label_row, micro_batch, open_trained, sampling_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.sample.request import Request


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


def sample(request: Request) -> Drawn:
    """Draw and write what was asked for.

    Raises:
        UsageError: words that do not fit together, or a run of a family that cannot do what is asked.
        DataError: no such run, one without weights, or a picture that cannot be read.
        MachineError: no such device, no room, or a missing extra.
    """
    request.check()
    run = abilities.open_run(request.run, "samples")
    console.note(f"run: {run.path}")
    out = request.out or run.path / "drawn"
    # Projection follows gradients, which half precision would round away.
    precision = "fp32" if request.project and request.precision == "auto" else request.precision
    trained = open_trained(run, device=pick_device(request.device), precision=precision)
    sampling = sampling_of(trained, {**settings_of(request.settings), **request.overrides})
    for text in sampling.cautions():
        console.warn(text)
    labels = label_row(trained, _labels(request.labels)) if request.labels else None
    generator = Generator(trained, sampling, labels, request.batch)
    paths.make_folder(out)
    files = [*_strips(request, run, generator, out), *_edits(request, generator, out)]
    if not files or (request.seeds is not None and not request.inpaint):
        files += _images(request, generator, out)
    return Drawn(run, out, files, describe_sampling(sampling), trained.images)


def _strips(request: Request, run: Run, generator: Generator, out: Path) -> list[Path]:
    trained, frames = generator.trained, request.frames
    first = request.seeds[0] if request.seeds else 0
    files = []
    if request.progress_strip:
        files.append(save(sheets.progress_strip(run, trained, frames, first), out / "progress.png"))
    if request.forward_strip:
        files.append(save(sheets.forward_strip(trained, request.forward_strip, frames), out / "forward.png"))
    if request.denoise_strip:
        files.append(save(sheets.denoise_strip(generator, frames, first), out / "denoise.png"))
    if request.interpolate:
        start, end = request.interpolate
        walk = channels_last(generator.interpolate(start, end, frames))
        files.append(save(grids.strip(walk, gap=0), out / f"interpolate-{start}-{end}.png"))
        if request.video:
            files.append(save_video(walk, out / f"interpolate-{start}-{end}.mp4"))
    return files


def _edits(request: Request, generator: Generator, out: Path) -> list[Path]:
    files = []
    if request.mix:
        files.append(save(sheets.mix_table(generator, *request.mix, request.cut), out / "mix.png"))
    if request.project:
        files += sheets.projected(generator, request.project, request, out)
    if request.inpaint and request.image:
        files += sheets.inpainted(generator, request.image, request.inpaint, request, out)
    return files


def _images(request: Request, generator: Generator, out: Path) -> list[Path]:
    trained = generator.trained
    seeds = list(request.seeds) if request.seeds is not None else list(range(16))
    batch = request.batch or micro_batch(trained.device, trained.data.size)
    files, shown = [], []
    for folder in {file_of(out, seed).parent for seed in seeds if request.form == "png"}:
        paths.make_folder(folder)
    with console.progress("drawing", len(seeds)) as bar:
        for start in range(0, len(seeds), batch):
            piece = seeds[start : start + batch]
            pixels = channels_last(generator.draw(piece, on_progress=bar.advance))
            if request.form == "npz" or request.grid:
                shown.append(pixels)
            if request.form == "png":  # written as they come: a kill loses one batch, and memory stays small
                for seed, image in zip(piece, pixels, strict=True):
                    files.append(save(Image.fromarray(image), file_of(out, seed)))
    if request.form == "npz":
        files.append(save_array(np.concatenate(shown), seeds, out / "samples.npz"))
    if request.grid:
        files.append(save(grids.grid(np.concatenate(shown)), out / "grid.png"))
    return files


def _labels(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        for piece in word.split(","):
            name, equals, value = piece.partition("=")
            if not equals:
                raise UsageError(f"`--labels {word}` has no `=`", hint="write `--labels hair=pink`")
            found[name.strip()] = value.strip()
    return found
