"""The whole chain on drawn faces, sized for a laptop: what `animegen demo` runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from animegen_cli import console, paths
from animegen_cli.compare import compare
from animegen_cli.config import Layer
from animegen_cli.device import pick_device
from animegen_cli.evaluate import evaluate
from animegen_cli.evaluate.request import Request as EvaluateRequest
from animegen_cli.model.pixels import channels_last
from animegen_cli.paths import Run
from animegen_cli.prepare import prepare
from animegen_cli.prepare.request import Options, Request
from animegen_cli.sample import generate, sample
from animegen_cli.sample.request import Request as SampleRequest
from animegen_cli.train import train
from animegen_cli.train.request import Request as TrainRequest

if TYPE_CHECKING:
    from pathlib import Path

PRESET = "demo"
FACES = 2000
SCORED = 256  # three runs are drawn so often: more would take longer than their training
SHOWN = range(10)


def families() -> list[str]:
    """Those with a preset for the demo."""
    return [name for name in paths.families() if PRESET in paths.presets(name)]


def run(out: Path, *, size: int = 32, device: str | None = None) -> dict[str, str]:
    """Draw, prepare, train, sample, score and compare under `out`; what is there already is kept or continued.

    Returns:
        The name of each thing made and its path.
    """
    paths.make_folder(out)
    data = out / f"faces-{size}.zip"
    if not data.is_file():
        console.note(f"drawing {FACES:,} faces")
        prepare.prepare(Request(["demo"], data, Options(size, limit=FACES)))
    names = families()
    runs = [_train(names[0], data, out / "runs" / "untrained", device, untrained=True)]
    runs += [_train(name, data, out / "runs" / name, device) for name in names]
    made = {"faces": str(data.with_suffix(".contact.png"))}
    for trained in runs:
        _sample(trained, device)
        made[trained.name] = str(trained.path / "drawn" / "grid.png")
        console.note(f"scoring {trained.name}")
        request = EvaluateRequest(
            subject=str(trained.path), data=data, extractor="faces", metrics=["fd", "kid"], n=SCORED, repeats=1,
            device=device,
        )  # fmt: skip
        evaluate.evaluate(request)
    compared = compare.compare(runs)
    drawn = compare.same_seeds(
        compared,
        SHOWN,
        lambda run, seeds: channels_last(generate.images(run, seeds, device=pick_device(device))),
    )
    written = compare.write(compared, out / "comparison", drawn=drawn)
    made |= {"picture": str(written["picture"]), "page": str(written["page"])}
    return made


def _train(family: str, data: Path, folder: Path, device: str | None, *, untrained: bool = False) -> Run:
    flags = [Layer.from_flag("--duration", "train.duration", "0 images")] if untrained else []
    request = TrainRequest(family=family, preset=PRESET, data=data, out=folder, device=device, flags=flags)
    if Run(folder).finished:
        return Run(folder)
    return train.train(request)


def _sample(trained: Run, device: str | None) -> None:
    progress = bool(list(trained.samples.glob("ema-*.png")))
    wanted = SampleRequest(run=str(trained.path), seeds=range(100), grid=True, device=device, progress_strip=progress)
    sample.sample(wanted)
