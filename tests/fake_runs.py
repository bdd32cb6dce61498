"""Run folders as training leaves them, made without training: the pictures are plain shapes drawn with Pillow.

Reports read files alone, so these folders are all they need; that trained runs have the same form is checked where
runs are trained.
"""

from __future__ import annotations

import functools
import json
import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from PIL import Image, ImageDraw

from animegen_cli.metrics.protocol import Protocol
from animegen_cli.paths import Run
from animegen_cli.report import grids

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

PROTOCOL: dict[str, Any] = {
    "extractor_sha": "ab" * 32, "resize": "clean-64", "reference": "cd" * 32, "reference_split": "train",
    "n_real": 13920, "n_fake": 1000, "seeds": "0-999", "precision": "fp32", "size": 64, "sampling": "ddim, 50 steps",
}  # fmt: skip


@functools.lru_cache(maxsize=4096)
def face(seed: int, size: int = 64) -> np.ndarray:
    """A round head with hair and two eyes: uint8 (size, size, 3)."""
    chance = random.Random(seed)
    colors = [tuple(chance.randrange(20, 250) for _ in range(3)) for _ in range(3)]
    image = Image.new("RGB", (size, size), colors[0])
    pen = ImageDraw.Draw(image)
    pen.ellipse((size * 0.1, size * 0.05, size * 0.9, size * 0.9), fill=colors[1])
    pen.ellipse((size * 0.22, size * 0.3, size * 0.78, size * 0.95), fill=(250, 222, 200))
    for x in (0.37, 0.63):
        pen.ellipse((size * (x - 0.07), size * 0.5, size * (x + 0.07), size * 0.68), fill=colors[2])
    return np.asarray(image)


def faces(seeds: Iterable[int], size: int = 64) -> np.ndarray:
    """Faces of the seeds: uint8 (n, size, size, 3)."""
    return np.stack([face(seed, size) for seed in seeds])


def draw(run: Run, seeds: Sequence[int]) -> np.ndarray:
    """What a run draws, as `compare.same_seeds` asks for it: faces that differ from run to run and from seed to seed."""
    return faces([seed + 1000 * sum(run.name.encode()) for seed in seeds], run.about["data"]["size"])


def score(name: str, value: float, *, images: int = 500_000, std: float | None = None, **fields: Any) -> dict[str, Any]:
    """An entry of eval.json for `fd-faces` and the like (`fid`, `kid`, `is`: Inception); `fields` of its protocol."""
    metric, _, extractor = name.partition("-")
    reference_name = fields.pop("reference_name", "faces")
    protocol = Protocol(
        **{"metric": {"fid": "fd"}.get(metric, metric), "extractor": extractor or "inception", **PROTOCOL, **fields}
    )
    return {
        "name": protocol.name, "value": value, "std": std, "interval": None, "images": images, "seconds": 12.0,
        "protocol": protocol.to_dict() | {"reference_name": reference_name}, "protocol_id": protocol.id,
    }  # fmt: skip


def make(
    root: Path,
    name: str,
    *,
    family: str = "ddpm",
    images: int = 500_000,
    seconds: float = 3400.0,
    state: str = "finished",
    scores: list[dict[str, Any]] | None = None,
    size: int = 64,
    dataset: str = "faces",
    weights: bool = True,
    log: bool = True,
    loss: str = "mse",
    lr: float = 2e-4,
    about: Mapping[str, Any] | None = None,
    seen: Mapping[str, Any] | None = None,
) -> Run:
    """A run folder; `scores` None leaves eval.json out. `about` goes over run.json, `seen` beside the scores."""
    run = Run(root / name)
    run.samples.mkdir(parents=True)
    known = {
        "animegen": "0.1.0", "family": family, "preset": "fast", "abilities": ["samples", "corrupts"], "state": state,
        "images": images, "target_images": 500_000, "steps": images // 64, "seconds": seconds,
        "images_per_second": 148.0, "peak_memory": 3_200_000_000, "parameters": {"unet": 35_746_307},
        "data": {"path": f"datasets/{dataset}.zip", "name": dataset, "identity": dataset * 8, "split": "train",
                 "count": 13920, "size": size, "attributes": {}, "scaled_from": size},
        "device": "cpu", "versions": {"torch": "2.11.0"},
        "git": None, "resolved": {"precision": "bf16", "parts": 4},
    }  # fmt: skip
    config = {
        "family": family, "preset": "fast", "about": "", "size": size, "data": None,
        "model": {"channels": 128, "multipliers": [1, 2, 2, 2]}, "sample": {"sampler": "ddim", "steps": 50},
        "optim": {"model": {"lr": lr, "betas": [0.9, 0.999]}}, "train": {"batch": 64, "duration": "500k images"},
        "augment": {"flip": True},
    }  # fmt: skip
    (run.path / "run.json").write_text(json.dumps(known | dict(about or {})))
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))
    if weights:
        run.weights.write_bytes(b"weights of " + name.encode())
    if log:
        _write_log(run, images, loss)
    if scores is not None:
        run.scores.write_text(json.dumps({"scores": scores, **(seen or {})}))
    start = sum(name.encode())
    for count in sorted({images // 20, images}):
        write_grid(run.samples / f"ema-{count:09d}.png", start, size)
        write_grid(run.samples / f"raw-{count:09d}.png", start + 50, size)
    write_grid(run.samples / "reals.png", 900, size)
    return run


HAIR = ("black", "blonde", "blue", "pink")


def everything_seen(run_number: int = 0) -> dict[str, Any]:
    """What `eval` leaves beside the scores: the cost of drawing, histograms, requests, a sheet of neighbors."""
    drawn = [0.4 - 0.05 * run_number, 0.3, 0.2, 0.1 + 0.05 * run_number]
    common = {"by": "pixels", "images": 500_000}
    asked = {"attribute": "hair", "asked": 32, "by": "faces-net", "images": 500_000}
    return {
        "drawing": {"seconds_per_100": 12.0 * (1 + run_number), "peak_memory": 900_000_000},
        "histograms": [{"name": "hair color", "values": HAIR, "real": [0.4, 0.3, 0.2, 0.1], "drawn": drawn, **common}],
        "requests": [{**asked, "value": value, "recognised": 30 - i - run_number} for i, value in enumerate(HAIR)],
        "sheets": {"neighbours": "judged/neighbours.png"},
    }


def write_neighbours(run: Run, size: int = 64) -> None:
    """The sheet that `everything_seen` names."""
    (run.path / "judged").mkdir()
    write_grid(run.path / "judged/neighbours.png", 300, size)


def write_grid(path: Path, start: int, size: int) -> None:
    """A grid of 16 faces as PNG."""
    grids.grid(faces(range(start, start + 16), size)).save(path, compress_level=1)


def _write_log(run: Run, images: int, loss: str) -> None:
    chance, lines = random.Random(run.name), []
    for seen in range(3200, images + 1, 3200):
        value = 0.9 * math.exp(-seen / 40_000) + 0.05 + chance.gauss(0, 0.01)
        entry = {"images": seen, "step": seen // 64, "seconds": seen / 148, "images_per_second": 148 + chance.random()}
        lines.append(entry | {"lr": {"model": 2e-4}, f"model/{loss}": value, "model/grad_norm": 1 / (1 + seen / 9e4)})
        if seen % 64_000 == 0:
            lines.append({"images": seen, "validation": {"kid-faces": 2000 / seen, "noise_loss": value}})
    run.log.write_text("".join(json.dumps(line) + "\n" for line in lines))
