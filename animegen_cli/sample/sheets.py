"""Sheets that a run draws beside plain images: strips from noise to image, tables of mixed seeds, edited pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from animegen_cli import console
from animegen_cli.data.cleaning import fit_square
from animegen_cli.data.decoding import decode
from animegen_cli.data.sources import Unusable
from animegen_cli.errors import DataError, UsageError
from animegen_cli.model.nets.perceptual import open_features
from animegen_cli.model.noise import Noise
from animegen_cli.model.pixels import channels_first, channels_last, from_uint8, to_uint8
from animegen_cli.report import grids
from animegen_cli.sample import recipe
from animegen_cli.sample.output import file_of, save
from animegen_cli.sample.trained import require
from animegen_cli.seeds import spell_seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.model.family import Features
    from animegen_cli.paths import Run
    from animegen_cli.sample.generate import Generator
    from animegen_cli.sample.request import Request
    from animegen_cli.sample.trained import Trained


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices of `count`, evenly spread, first and last included."""
    if count <= wanted:
        return list(range(count))
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def progress_strip(run: Run, trained: Trained, frames: int, seed: int) -> Image.Image:
    """One seed in the previews that training left, oldest first (document 000, figure 2)."""
    previews = sorted(run.samples.glob("ema-*.png"))
    if not previews:
        raise DataError(f"{run.path} has no previews", hint="train with a shorter `--set train.preview_every=...`")
    count = trained.config.train.preview
    if seed >= count:
        raise UsageError(f"previews hold seeds 0 to {count - 1}, not {seed}", hint="choose one with `--seeds`")
    chosen = [previews[i] for i in _spread(len(previews), frames)]
    tiles = np.stack([grids.tile(Image.open(file), seed, trained.data.size, count=count) for file in chosen])
    return grids.strip(
        tiles, [f"{int(file.stem.split('-')[1]):,}" for file in chosen], zoom=max(1, 96 // trained.data.size)
    )


def forward_strip(trained: Trained, path: Path, frames: int) -> Image.Image:
    """An image on its way to noise (document 001, figure 1, left to right)."""
    model, size = require(trained, "corrupts"), trained.data.size
    pixels = from_uint8(channels_first(np.array(fit_square(_opened(path), size, "crop")))[None], trained.device)
    noise = Noise([0], trained.device)(3, size, size)
    fractions = [i / (frames - 1) for i in range(frames)]
    states = torch.cat([to_uint8(model.corrupt(pixels, noise, fraction)).cpu() for fraction in fractions])
    return grids.strip(channels_last(states), [f"{fraction:.0%}" for fraction in fractions], zoom=max(1, 96 // size))


def denoise_strip(generator: Generator, frames: int, seed: int) -> Image.Image:
    """One seed from noise to image: the noisy image above, the denoised one below (document 001, figure 1, right to left)."""
    trained = generator.trained
    require(trained, "corrupts")
    states: list[Tensor] = []
    denoised_images: list[Tensor] = []

    def callback(step: int, x: Tensor, denoised: Tensor) -> None:
        states.append(to_uint8(x).cpu())
        denoised_images.append(to_uint8(denoised).cpu())

    final = generator.draw_noise(Noise([seed], trained.device), callback=callback)
    chosen = _spread(len(states), frames - 1)
    above = channels_last(torch.cat([states[i] for i in chosen] + [final]))
    below = channels_last(torch.cat([denoised_images[i] for i in chosen] + [final]))
    captions = [f"step {i}" for i in chosen] + ["image"]
    return grids.rows([("state", above), ("estimate", below)], captions, zoom=max(1, 96 // trained.data.size))


def _opened(path: Path) -> Image.Image:
    try:
        return decode(path.read_bytes())
    except (OSError, Unusable) as error:
        raise DataError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}", hint="name a picture"
        ) from error


def _square(trained: Trained, path: Path, fit: str | None, *, negative: bool = False) -> Image.Image:
    """A picture of the run's size; one of another size only where `--fit` says how, else UsageError."""
    image, size = _opened(path), trained.data.size
    image = ImageOps.invert(image) if negative else image
    if fit is None and image.size != (size, size):
        raise UsageError(
            f"{path} is {image.width} x {image.height} pixels, and this run draws {size} x {size}",
            hint="add `--fit crop` to scale its middle, `--fit pad` or `--fit stretch`",
        )
    return fit_square(image, size, fit or "crop")


def mix_table(generator: Generator, down: Sequence[int], across: Sequence[int], cut: int | None) -> Image.Image:
    """Coarse of each row's seed with fine of each column's; the sources stand in front and on top."""
    require(generator.trained, "mixes")
    sources = channels_last(generator.draw([*down, *across]))
    pairs = [(row, column) for row in down for column in across]
    coarse, fine = zip(*pairs, strict=True)
    table = channels_last(generator.mix(coarse, fine, cut=cut)).reshape(len(down), len(across), *sources.shape[1:])
    corner = np.full_like(sources[:1], 255)
    lines = [("", np.concatenate([corner, sources[len(down) :]]))]
    lines += [(f"seed {seed}", np.concatenate([sources[i : i + 1], table[i]])) for i, seed in enumerate(down)]
    captions = ["", *(f"seed {seed}" for seed in across)]
    return grids.rows(lines, captions, zoom=max(1, 64 // generator.trained.data.size))


def variations(drawn: np.ndarray, seed: int, others: Sequence[int], zoom: int) -> Image.Image:
    """A seed's face and behind it its variations, uint8 (1 + n, H, W, 3), each with its seeds below."""
    return grids.grid(drawn, labels=recipe.variation_titles(seed, others), zoom=zoom)


def _features(trained: Trained, loss: str) -> Features | None:
    """The map that `--project-loss` compares images by; None for their pixels."""
    if loss == "pixels":
        return None
    return open_features(None if loss == "perceptual" else Path(loss)).to(trained.device).embed


def projected(generator: Generator, picture: Path, request: Request, out: Path) -> list[Path]:
    """The target, what the run can draw that is nearest to it, and the way there."""
    trained = generator.trained
    require(trained, "projects")
    target = channels_first(np.array(_square(trained, picture, request.fit)))
    features = _features(trained, request.project_loss)
    steps = request.project_steps
    seed = request.seeds[0] if request.seeds else 0
    way: list[tuple[int, Tensor]] = []
    with console.progress("projecting", steps) as bar:

        def callback(step: int, images: Tensor, _: Tensor) -> None:
            bar.advance(step - (way[-1][0] if way else 0))
            way.append((step, to_uint8(images[:1].detach()).cpu()))

        found = generator.project(target[None], steps=steps, features=features, seed=seed, callback=callback)
    chosen = [way[i] for i in _spread(len(way), max(request.frames - 2, 2))]
    pictures = torch.cat([target[None], *(image for _, image in chosen), found])
    captions = ["target", *(f"step {step}" for step, _ in chosen), "result"]
    strip = grids.strip(channels_last(pictures), captions, zoom=max(1, 96 // trained.data.size))
    loss = request.project_loss if request.project_loss in ("perceptual", "pixels") else "VGG19.pt"
    words = ["--project", "PICTURE", "--project-steps", steps, "--project-loss", loss]
    made = recipe.of(generator, "edit", [*words, *_fitted(request), "--seeds", seed], seed=seed)
    return [
        save(Image.fromarray(channels_last(target[None])[0]), out / "project-target.png", made),
        save(Image.fromarray(channels_last(found)[0]), out / "project-result.png", made),
        save(strip, out / "project.png", made),
    ]


def _fitted(request: Request) -> list[str]:
    return ["--fit", request.fit] if request.fit else []


def inpainted(generator: Generator, image: Path, over: Path, request: Request, out: Path) -> list[Path]:
    """A variant of the picture `image` per seed, redrawn under the mask `over`, and a sheet of all."""
    trained = generator.trained
    require(trained, "inpaints")
    picture = channels_first(np.array(_square(trained, image, request.fit)))
    # Turned round, because what `--fit pad` adds is white, and nobody wants margins redrawn.
    mask = channels_first(np.array(_square(trained, over, request.fit, negative=True))).float().mean(0) < 127.5
    if not mask.any():
        raise UsageError(f"{over} has no white: nothing would be redrawn", hint="paint it white there")
    seeds = list(request.seeds) if request.seeds is not None else list(range(6))
    with console.progress("drawing", len(seeds)) as bar:
        variants = channels_last(generator.inpaint(picture, mask, seeds, on_progress=bar.advance))
    words = ["--inpaint", "MASK", "--image", "PICTURE", *_fitted(request), "--seeds"]
    files = [
        save(
            Image.fromarray(image), file_of(out, seed, "inpainted"), recipe.of(generator, "edit", [*words, seed], seeds=str(seed))
        )
        for seed, image in zip(seeds, variants, strict=True)
    ]  # fmt: skip
    masked = torch.where(mask, torch.full_like(picture, 128), picture)
    shown = np.concatenate([channels_last(torch.stack([picture, masked])), variants])
    captions = ["picture", "mask", *(f"seed {seed}" for seed in seeds)]
    sheet = grids.grid(shown, labels=captions, zoom=max(1, 96 // trained.data.size))
    spelled = spell_seeds(seeds)
    return [*files, save(sheet, out / "inpaint.png", recipe.of(generator, "edit", [*words, spelled], seeds=spelled))]
