"""What `animegen sample` writes: images, grids, strips and walks of a trained run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

from animegen_cli import console, generate, paths
from animegen_cli.data.cleaning import decode
from animegen_cli.data.sources import Unusable
from animegen_cli.errors import DataError, MachineError, UsageError
from animegen_cli.generate import Trained
from animegen_cli.method import Corrupts
from animegen_cli.noise import Noise
from animegen_cli.paths import Run
from animegen_cli.report import grids
from animegen_cli.train.choices import pick_device

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


def draw(request: Request) -> dict[str, Any]:
    """Draw and write; returns the files, facts for `--json`, and a text for people."""
    if request.form not in ("png", "npz"):
        raise UsageError(f"no format `{request.form}`", hint="use `--format png` or `--format npz`")
    if request.precision not in ("auto", "fp32", "bf16"):
        raise UsageError(f"no precision `{request.precision}`", hint="use auto, fp32 or bf16")
    run = paths.open_run(request.run, able_to="samples")
    console.note(f"run: {run.path}")
    out = request.out or run.path / "drawn"
    paths.make_folder(out)
    trained = generate.open_trained(run, device=pick_device(request.device), precision=request.precision)
    how = generate.sampling(trained, {**_settings(request.settings), **request.overrides})
    labels = generate.label_row(trained, _labels(request.labels)) if request.labels else None
    files: list[Path] = []
    first = request.seeds[0] if request.seeds else 0
    if request.progress_strip:
        files.append(_save(_progress_strip(run, trained, request.frames, first), out / "progress.png"))
    if request.forward_strip:
        files.append(_save(_forward_strip(trained, request.forward_strip, request.frames), out / "forward.png"))
    if request.denoise_strip:
        files.append(_save(_denoise_strip(trained, how, labels, request.frames, first), out / "denoise.png"))
    if request.interpolate:
        start, end = request.interpolate
        walk = generate.interpolate(trained, start, end, request.frames, how=how, labels=labels)
        files.append(_save(grids.strip(_hwc(walk), gap=0), out / f"interpolate-{start}-{end}.png"))
        if request.video:
            files.append(_video(_hwc(walk), out / f"interpolate-{start}-{end}.mp4"))
    elif request.video:
        raise UsageError("`--video` needs a walk to show", hint="add `--interpolate 3 14 --frames 60`")
    strips = bool(files)
    if request.seeds is not None or not strips:
        files += _images(request, trained, how, labels, out)
    about = {"run": str(run.path), "sampling": generate.describe_sampling(how), "images_seen": trained.images}
    text = "\n".join(str(file) for file in (files if len(files) <= 4 else [*files[-1:], out]))
    return {"files": files, "about": about, "text": text}


def _images(request: Request, trained: Trained, how: Any, labels: Sequence[int] | None, out: Path) -> list[Path]:
    seeds = list(request.seeds) if request.seeds is not None else list(range(16))
    batch = request.batch or generate.micro_batch(trained.device, trained.data.size)
    files, kept = [], []
    with console.progress("drawing", len(seeds)) as bar:
        for start in range(0, len(seeds), batch):
            piece = seeds[start : start + batch]
            pixels = _hwc(generate.draw(trained, piece, how=how, labels=labels, batch=batch, done=bar.advance))
            if request.form == "npz" or request.grid:
                kept.append(pixels)
            if request.form == "png":  # written as they come: a kill loses one batch, and memory stays small
                for seed, image in zip(piece, pixels, strict=True):
                    files.append(_save(Image.fromarray(image), _place(out, seed)))
    if request.form == "npz":
        files.append(_save_array(np.concatenate(kept), seeds, out / "samples.npz"))
    if request.grid:
        files.append(_save(grids.grid(np.concatenate(kept)), out / "grid.png"))
    return files


def _place(out: Path, seed: int) -> Path:
    """The file of a seed's image: apart from sheets, so that the folder can be scored, and at most 1,000 together."""
    folder = out / "seeds" / (f"{seed // PER_FOLDER * PER_FOLDER:06d}" if seed >= PER_FOLDER else "")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{seed:06d}.png"


def _save_array(pixels: np.ndarray, seeds: Sequence[int], path: Path) -> Path:
    try:
        np.savez(path, arr_0=pixels, seeds=np.array(seeds))
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def _settings(words: Sequence[str]) -> dict[str, Any]:
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"`--set {word}` has no `=`", hint="write `--set churn=40`")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"`--set {word}`: the value is not valid YAML", hint="quote it for the shell") from error
    return found


def _labels(words: Sequence[str]) -> dict[str, str]:
    found = {}
    for word in words:
        for piece in word.split(","):
            name, equals, value = piece.partition("=")
            if not equals:
                raise UsageError(f"`--labels {word}` has no `=`", hint="write `--labels hair=pink`")
            found[name.strip()] = value.strip()
    return found


def _hwc(images: Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


def _save(image: Image.Image, path: Path) -> Path:
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
    method, size = trained.method, trained.data.size
    if not isinstance(method, Corrupts):
        raise UsageError(f"a {trained.config.family} run has no forward process", hint="diffusion runs have one")
    try:
        image = decode(path.read_bytes())
    except (OSError, Unusable) as error:
        raise DataError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}", hint="name a picture"
        ) from error
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].to(trained.device).float() / 127.5 - 1
    noise = Noise([0], trained.device)(3, size, size)
    fractions = [i / (frames - 1) for i in range(frames)]
    states = torch.cat([generate.to_uint8(method.corrupt(pixels, noise, fraction)).cpu() for fraction in fractions])
    return grids.strip(_hwc(states), [f"{fraction:.0%}" for fraction in fractions], zoom=max(1, 96 // size))


def _denoise_strip(trained: Trained, how: Any, labels: Sequence[int] | None, frames: int, seed: int) -> Image.Image:
    """One seed from noise to image: the state above, the clean estimate below (document 001, figure 1, right to left)."""
    if not isinstance(trained.method, Corrupts):
        raise UsageError(f"a {trained.config.family} run does not draw step by step", hint="diffusion runs do")
    states: list[Tensor] = []
    cleans: list[Tensor] = []

    def watch(step: int, x: Tensor, clean: Tensor) -> None:
        states.append(generate.to_uint8(x).cpu())
        cleans.append(generate.to_uint8(clean).cpu())

    final = generate.draw_noise(trained, Noise([seed], trained.device), how=how, labels=labels, watch=watch)
    chosen = _spread(len(states), frames - 1)
    above = _hwc(torch.cat([states[i] for i in chosen] + [final]))
    below = _hwc(torch.cat([cleans[i] for i in chosen] + [final]))
    captions = [f"step {i}" for i in chosen] + ["image"]
    return grids.rows([("state", above), ("estimate", below)], captions, zoom=max(1, 96 // trained.data.size))
