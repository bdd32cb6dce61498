"""A trained run as files for other programs: a diffusers folder or ONNX networks, with a model card."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import yaml

import animegen_cli
from animegen_cli import console, drawn, paths
from animegen_cli.device import pick_device
from animegen_cli.errors import ConfigError, MachineError, UsageError
from animegen_cli.export import diffusers, onnx, usage
from animegen_cli.model.family import Converts, DiffusersModel, Edit, Samples
from animegen_cli.model.pixels import channels_first, channels_last
from animegen_cli.report import card, grids, records, same_seeds
from animegen_cli.report.card import Facts
from animegen_cli.sample import generate
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.trained import open_trained, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from animegen_cli.paths import Run
    from animegen_cli.sample.trained import Trained

INDEX = "pipeline.json"
"""Names every file of an export: a folder with other files in it is not written over."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `animegen export` was asked for."""

    run: str | None = None
    to: Literal["diffusers", "onnx"] | None = None
    out: Path | None = None
    license: str = card.LICENSE
    count: int = 36
    """Images on the card's sheet; 0 for none."""
    device: str | None = None


def export(request: Request) -> dict[str, Any]:
    """Write the folder; returns its path, its files, what kind it is and what differs from the run.

    Raises:
        UsageError: a family without the ability, or a folder with files that are not of an export.
        DataError: no run, no weights, or ONNX that computes something else.
        MachineError: the folder cannot be written, or a package is missing.
    """
    run = _opened(request.run)
    trained = open_trained(run, device=torch.device("cpu"), precision="fp32")
    kind, found = _kind(request, trained)
    out = request.out or run.path / "export" / kind
    _check(out)
    record = records.read(run)
    with _whole(out) as folder:
        index, facts = _diffusers(trained, found, folder) if found else _onnx(trained, folder)
        picture, caption = _sheet(request, record, trained, folder)
        facts = facts._replace(
            license=request.license, draws=isinstance(trained.model, Samples), picture=picture, caption=caption
        )
        (folder / "README.md").write_text(card.card(record, facts), encoding="utf-8")
        config = card.without_paths(trained.config.to_dict()) | {"data": None}
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        said = {
            "animegen": animegen_cli.__version__,
            "to": kind,
            "family": trained.config.family,
            "size": trained.data.size,
        }
        paths.write_json(
            folder / INDEX, {**said, "images_seen": trained.images, **index, "files": sorted([*files, INDEX])}
        )
    return {
        "out": str(out),
        "to": kind,
        "run": str(run.path),
        "files": sorted([*files, INDEX]),
        "notes": list(facts.notes),
    }


def _opened(spec: str | None) -> Run:
    """A run that draws or translates: runs from before this command do not say that they can be exported."""
    run = paths.open_run(spec, able_to=("samples", "translates"))
    if spec is None:
        console.note(f"run: {run.path}")
    return run


def _kind(request: Request, trained: Trained) -> tuple[str, DiffusersModel | None]:
    """What is written, and its contents where that is a diffusers folder."""
    if request.to == "onnx":
        return "onnx", None
    if request.to == "diffusers":
        require(trained, "converts")
    if isinstance(trained.model, Converts):
        try:
            found = trained.model.to_diffusers(trained.config.sample)
        except ConfigError:
            if request.to:
                raise
        else:
            if request.to is None:
                console.note("format: diffusers (say another with `--to onnx`)")
            return "diffusers", found
    console.note("format: onnx, since diffusers has no such network")
    return "onnx", None


# ---- the two formats --------------------------------------------------------------------------------------------


def _diffusers(trained: Trained, found: DiffusersModel, folder: Path) -> tuple[dict[str, Any], Facts]:
    diffusers.write(found, folder)
    labels = {name: list(trained.data.attributes[name]) for name in found.labels}
    values = next(iter(labels.values()), [])
    use = usage.diffusers(found, size=trained.data.size, values=values)
    facts = Facts("diffusers", use, card.LICENSE, found.pipeline, notes=found.notes)
    return {"pipeline": found.pipeline, "options": dict(found.options), "labels": labels}, facts


def _onnx(trained: Trained, folder: Path) -> tuple[dict[str, Any], Facts]:
    exported = require(trained, "exports").exported(trained.config.sample)
    with console.progress("exporting", 1) as bar:
        networks = onnx.write(trained.model, exported.networks, folder)
        bar.advance()
    labels = {name: list(trained.data.attributes[name]) for name in exported.labels}
    sampling = trained.config.to_dict()["sample"]
    index = {"networks": networks, "recipe": dict(exported.recipe), "sampling": sampling, "labels": labels}
    return index, Facts("onnx", usage.onnx(exported, size=trained.data.size), card.LICENSE)


# ---- pictures of the card ---------------------------------------------------------------------------------------


def _sheet(request: Request, record: records.Record, trained: Trained, folder: Path) -> tuple[str | None, str]:
    """A sheet of results and what it shows; no real picture is on it."""
    count = request.count
    if not count:
        return None, ""
    if isinstance(trained.model, Samples):

        def draw(run: Run, numbers: Sequence[int]) -> np.ndarray:
            console.note(f"drawing {len(numbers)} faces for the card (`--n 0` for none)")
            return channels_last(generate.images(run, numbers, device=pick_device(request.device)))

        picture = grids.grid(same_seeds.images(record, range(count), draw))
        caption = f"Faces of the seeds 0 to {count - 1}, as the run draws them, none left out"
    else:
        count = min(count, 12)
        photos = np.stack([np.asarray(drawn.photo(number, size=trained.data.size)) for number in range(count)])
        after = channels_last(Generator(trained, trained.config.sample).translate(channels_first(photos), Edit()))
        picture = grids.pairs([(b, a, f"{i}") for i, (b, a) in enumerate(zip(photos, after, strict=True))])
        caption = "Drawn stand-ins for photographs, before and after"
    grids.save(picture, folder / "samples.png")
    return "samples.png", caption


# ---- the folder -------------------------------------------------------------------------------------------------


def _check(out: Path) -> None:
    """UsageError unless the folder is absent, empty, or holds an export and nothing else."""
    if out.is_file():
        raise UsageError(f"{out} is a file", hint="name a folder with `--out`")
    there = {str(file.relative_to(out)) for file in out.rglob("*") if not file.is_dir()} if out.is_dir() else set()
    try:
        ours = set(json.loads((out / INDEX).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    if there - ours:
        raise UsageError(
            f"{out} holds files that are of no export, such as {min(there - ours)}",
            hint="name another folder with `--out`, or empty this one",
        )


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder that takes its name when all is written; nothing is left of one that is not."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    before = out.with_name(f".{out.name}.{os.getpid()}.old")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():
            out.rename(before)
        try:
            temporary.rename(out)
        except OSError:
            if before.exists():
                before.rename(out)
            raise
    except OSError as error:
        raise MachineError(
            f"cannot write {out}: {error.strerror or error}", hint="name another folder with `--out`, or make room"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)
