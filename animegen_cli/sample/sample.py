"""What `animegen sample` writes: images, grids, strips, walks, and pictures edited by a trained run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from animegen_cli import console, paths
from animegen_cli.config import settings_of
from animegen_cli.data.cleaning import FITS, decode, fit_square
from animegen_cli.data.sources import Unusable
from animegen_cli.device import pick_device
from animegen_cli.errors import DataError, MachineError, UsageError
from animegen_cli.model import abilities
from animegen_cli.model.nets.perceptual import open_features
from animegen_cli.model.noise import Noise
from animegen_cli.model.pixels import channels_first, channels_last, from_uint8, to_uint8
from animegen_cli.report import grids
from animegen_cli.sample import edit, generate

if TYPE_CHECKING:
    from animegen_cli.paths import Run
    from animegen_cli.sample.generate import Trained

PER_FOLDER = 1000


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `animegen sample` was asked for."""

    run: str | None
    seeds: Sequence[int] | None
    grid: bool
    out: Path | None
    form: str
    labels: Sequence[str]
    batch: int | None
    precision: str
    device: str | None
    overrides: Mapping[str, Any]
    settings: Sequence[str]
    progress_strip: bool
    forward_strip: Path | None
    denoise_strip: bool
    interpolate: tuple[int, int] | None
    frames: int
    video: bool = False
    mix: tuple[Sequence[int], Sequence[int]] | None = None
    cut: int | None = None
    project: Path | None = None
    project_steps: int = 500
    project_loss: str = "perceptual"
    inpaint: Path | None = None
    """The mask; white is redrawn."""
    image: Path | None = None
    """What the mask lies over."""
    fit: str | None = None


def draw(request: Request) -> dict[str, Any]:
    """Draw and write; returns the files, facts for `--json`, and a text for people."""
    _check(request)
    run = abilities.open_run(request.run, "samples")
    console.note(f"run: {run.path}")
    out = request.out or run.path / "drawn"
    # Projection follows gradients, which half precision would round away.
    precision = "fp32" if request.project and request.precision == "auto" else request.precision
    trained = generate.open_trained(run, device=pick_device(request.device), precision=precision)
    sampling = generate.sampling_of(trained, {**settings_of(request.settings), **request.overrides})
    labels = generate.label_row(trained, _labels(request.labels)) if request.labels else None
    paths.make_folder(out)
    files: list[Path] = []
    first = request.seeds[0] if request.seeds else 0
    if request.progress_strip:
        files.append(save(_progress_strip(run, trained, request.frames, first), out / "progress.png"))
    if request.forward_strip:
        files.append(save(_forward_strip(trained, request.forward_strip, request.frames), out / "forward.png"))
    if request.denoise_strip:
        files.append(save(_denoise_strip(trained, sampling, labels, request.frames, first), out / "denoise.png"))
    if request.interpolate:
        start, end = request.interpolate
        walk = edit.interpolate(trained, start, end, request.frames, sampling=sampling, labels=labels)
        files.append(save(grids.strip(channels_last(walk), gap=0), out / f"interpolate-{start}-{end}.png"))
        if request.video:
            files.append(_video(channels_last(walk), out / f"interpolate-{start}-{end}.mp4"))
    if request.mix:
        files.append(save(_mix_table(request, trained, sampling, labels), out / "mix.png"))
    if request.project:
        files += _projected(request, trained, out)
    if request.inpaint:
        files += _inpainted(request, trained, sampling, labels, out)
    if not files or (request.seeds is not None and not request.inpaint):
        files += _images(request, trained, sampling, labels, out)
    about = {"run": str(run.path), "sampling": generate.describe_sampling(sampling), "images_seen": trained.images}
    text = "\n".join(str(file) for file in (files if len(files) <= 4 else [*files[-1:], out]))
    return {"files": files, "about": about, "text": text}


def _check(request: Request) -> None:
    """UsageError for words that do not fit together."""
    if request.form not in ("png", "npz"):
        raise UsageError(f"no format `{request.form}`", hint="use `--format png` or `--format npz`")
    check_precision(request.precision)
    if request.video and not request.interpolate:
        raise UsageError("`--video` needs a walk to show", hint="add `--interpolate 3 14 --frames 60`")
    if request.cut is not None and not request.mix:
        raise UsageError("`--cut` needs seeds to mix", hint="add `--mix 0-4 10-14`")
    if (request.inpaint is None) != (request.image is None):
        raise UsageError(
            "`--inpaint` and `--image` belong together", hint="write `--inpaint mask.png --image face.png`"
        )
    if request.fit is not None and request.fit not in FITS:
        raise UsageError(f"no fit `{request.fit}`", hint="use crop, pad or stretch")
    if request.project_loss not in ("perceptual", "pixels") and "." not in request.project_loss:
        raise UsageError(f"no distance `{request.project_loss}`", hint="use perceptual or pixels, or name a VGG19 file")


def check_precision(precision: str) -> None:
    """UsageError unless it is a precision to draw in."""
    if precision not in ("auto", "fp32", "bf16"):
        raise UsageError(f"no precision `{precision}`", hint="use auto, fp32 or bf16")


def _images(request: Request, trained: Trained, sampling: Any, labels: Sequence[int] | None, out: Path) -> list[Path]:
    seeds = list(request.seeds) if request.seeds is not None else list(range(16))
    batch = request.batch or generate.micro_batch(trained.device, trained.data.size)
    files, kept = [], []
    with console.progress("drawing", len(seeds)) as bar:
        for start in range(0, len(seeds), batch):
            piece = seeds[start : start + batch]
            pixels = channels_last(
                generate.draw(trained, piece, sampling=sampling, labels=labels, batch=batch, on_progress=bar.advance)
            )
            if request.form == "npz" or request.grid:
                kept.append(pixels)
            if request.form == "png":  # written as they come: a kill loses one batch, and memory stays small
                for seed, image in zip(piece, pixels, strict=True):
                    files.append(save(Image.fromarray(image), _place(out, seed)))
    if request.form == "npz":
        files.append(_save_array(np.concatenate(kept), seeds, out / "samples.npz"))
    if request.grid:
        files.append(save(grids.grid(np.concatenate(kept)), out / "grid.png"))
    return files


def _place(out: Path, seed: int, name: str = "seeds") -> Path:
    """The file of a seed's image: apart from sheets, so that the folder can be scored, and at most 1,000 together."""
    folder = out / name / (f"{seed // PER_FOLDER * PER_FOLDER:06d}" if seed >= PER_FOLDER else "")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{seed:06d}.png"


def _save_array(pixels: np.ndarray, seeds: Sequence[int], path: Path) -> Path:
    try:
        np.savez(path, arr_0=pixels, seeds=np.array(seeds))
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def _labels(words: Sequence[str]) -> dict[str, str]:
    found = {}
    for word in words:
        for piece in word.split(","):
            name, equals, value = piece.partition("=")
            if not equals:
                raise UsageError(f"`--labels {word}` has no `=`", hint="write `--labels hair=pink`")
            found[name.strip()] = value.strip()
    return found


def save(image: Image.Image, path: Path) -> Path:
    """Write a PNG; MachineError when there is no room or no permission."""
    try:
        image.save(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def _unwritable(path: Path, error: OSError) -> MachineError:
    return MachineError(f"cannot write {path}: {error}", hint="free some space, or name another folder with `--out`")


def _video(frames: np.ndarray, path: Path) -> Path:
    """A walk there and back as an mp4, at least 256 pixels wide."""
    try:
        import imageio.v3 as video
    except ImportError:
        raise MachineError("writing videos needs an extra", hint="type `pip install 'animegen[video]'`") from None
    zoom = max(1, -(-256 // frames.shape[1]))
    there = frames.repeat(zoom, axis=1).repeat(zoom, axis=2)
    video.imwrite(path, np.concatenate([there, there[::-1]]), fps=15, macro_block_size=1)
    return path


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices of `count`, evenly spread, first and last included."""
    if count <= wanted:
        return list(range(count))
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def _progress_strip(run: Run, trained: Trained, frames: int, seed: int) -> Image.Image:
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


def _forward_strip(trained: Trained, path: Path, frames: int) -> Image.Image:
    """An image on its way to noise (document 001, figure 1, left to right)."""
    model, size = edit.require(trained, "corrupts"), trained.data.size
    pixels = from_uint8(channels_first(np.array(fit_square(_opened(path), size, "crop")))[None], trained.device)
    noise = Noise([0], trained.device)(3, size, size)
    fractions = [i / (frames - 1) for i in range(frames)]
    states = torch.cat([to_uint8(model.corrupt(pixels, noise, fraction)).cpu() for fraction in fractions])
    return grids.strip(channels_last(states), [f"{fraction:.0%}" for fraction in fractions], zoom=max(1, 96 // size))


def _denoise_strip(
    trained: Trained, sampling: Any, labels: Sequence[int] | None, frames: int, seed: int
) -> Image.Image:
    """One seed from noise to image: the state above, the clean estimate below (document 001, figure 1, right to left)."""
    edit.require(trained, "corrupts")
    states: list[Tensor] = []
    denoised_images: list[Tensor] = []

    def callback(step: int, x: Tensor, denoised: Tensor) -> None:
        states.append(to_uint8(x).cpu())
        denoised_images.append(to_uint8(denoised).cpu())

    final = generate.draw_noise(
        trained, Noise([seed], trained.device), sampling=sampling, labels=labels, callback=callback
    )
    chosen = _spread(len(states), frames - 1)
    above = channels_last(torch.cat([states[i] for i in chosen] + [final]))
    below = channels_last(torch.cat([denoised_images[i] for i in chosen] + [final]))
    captions = [f"step {i}" for i in chosen] + ["image"]
    return grids.rows([("state", above), ("estimate", below)], captions, zoom=max(1, 96 // trained.data.size))


# ---- edited pictures ------------------------------------------------------------------------------------------


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


def _mix_table(request: Request, trained: Trained, sampling: Any, labels: Sequence[int] | None) -> Image.Image:
    """Coarse of each row's seed with fine of each column's; the sources stand in front and on top."""
    assert request.mix is not None
    down, across = request.mix
    edit.require(trained, "mixes")
    sources = channels_last(
        generate.draw(trained, [*down, *across], sampling=sampling, labels=labels, batch=request.batch)
    )
    pairs = [(row, column) for row in down for column in across]
    coarse, fine = zip(*pairs, strict=True)
    cells = edit.mix(trained, coarse, fine, sampling=sampling, labels=labels, cut=request.cut, batch=request.batch)
    table = channels_last(cells).reshape(len(down), len(across), *sources.shape[1:])
    corner = np.full_like(sources[:1], 255)
    lines = [("", np.concatenate([corner, sources[len(down) :]]))]
    lines += [(f"seed {seed}", np.concatenate([sources[i : i + 1], table[i]])) for i, seed in enumerate(down)]
    captions = ["", *(f"seed {seed}" for seed in across)]
    return grids.rows(lines, captions, zoom=max(1, 64 // trained.data.size))


def _features(trained: Trained, loss: str) -> Callable[[Tensor], Tensor] | None:
    """The map that `--project-loss` compares images by; None for their pixels."""
    if loss == "pixels":
        return None
    return open_features(None if loss == "perceptual" else Path(loss)).to(trained.device).embed


def _projected(request: Request, trained: Trained, out: Path) -> list[Path]:
    """The target, what the run can draw that is nearest to it, and the way there."""
    assert request.project is not None
    edit.require(trained, "projects")
    target = channels_first(np.array(_square(trained, request.project, request.fit)))
    features = _features(trained, request.project_loss)
    steps, seed = request.project_steps, request.seeds[0] if request.seeds else 0
    way: list[tuple[int, Tensor]] = []
    with console.progress("projecting", steps) as bar:

        def callback(step: int, images: Tensor, _: Tensor) -> None:
            bar.advance(step - (way[-1][0] if way else 0))
            way.append((step, to_uint8(images[:1].detach()).cpu()))

        found = edit.project(trained, target[None], steps=steps, features=features, seed=seed, callback=callback)
    chosen = [way[i] for i in _spread(len(way), max(request.frames - 2, 2))]
    pictures = torch.cat([target[None], *(image for _, image in chosen), found])
    captions = ["target", *(f"step {step}" for step, _ in chosen), "result"]
    strip = grids.strip(channels_last(pictures), captions, zoom=max(1, 96 // trained.data.size))
    return [
        save(Image.fromarray(channels_last(target[None])[0]), out / "project-target.png"),
        save(Image.fromarray(channels_last(found)[0]), out / "project-result.png"),
        save(strip, out / "project.png"),
    ]


def _inpainted(
    request: Request, trained: Trained, sampling: Any, labels: Sequence[int] | None, out: Path
) -> list[Path]:
    """A variant of the picture per seed, redrawn under the mask, and a sheet of all."""
    assert request.inpaint is not None
    assert request.image is not None
    edit.require(trained, "inpaints")
    picture = channels_first(np.array(_square(trained, request.image, request.fit)))
    # Turned round, because what `--fit pad` adds is white, and nobody wants margins redrawn.
    mask = (
        channels_first(np.array(_square(trained, request.inpaint, request.fit, negative=True))).float().mean(0) < 127.5
    )
    if not mask.any():
        raise UsageError(f"{request.inpaint} has no white: nothing would be redrawn", hint="paint it white there")
    seeds = list(request.seeds) if request.seeds is not None else list(range(6))
    with console.progress("drawing", len(seeds)) as bar:
        variants = channels_last(
            edit.inpaint(
                trained,
                picture,
                mask,
                seeds,
                sampling=sampling,
                labels=labels,
                batch=request.batch,
                on_progress=bar.advance,
            )
        )
    files = [
        save(Image.fromarray(image), _place(out, seed, "inpainted"))
        for seed, image in zip(seeds, variants, strict=True)
    ]
    masked = torch.where(mask, torch.full_like(picture, 128), picture)
    shown = np.concatenate([channels_last(torch.stack([picture, masked])), variants])
    captions = ["picture", "mask", *(f"seed {seed}" for seed in seeds)]
    return [*files, save(grids.grid(shown, labels=captions, zoom=max(1, 96 // trained.data.size)), out / "inpaint.png")]
