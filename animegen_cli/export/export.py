"""`animegen export`: writes a trained run as a diffusers folder or as ONNX networks, with a model card."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import yaml

import animegen_cli
from animegen_cli import console, disk, paths
from animegen_cli.device import pick_device
from animegen_cli.errors import ConfigError, MachineError, UsageError
from animegen_cli.export import diffusers, onnx, usage
from animegen_cli.model.family import Converts, DiffusersModel, Edit, Samples
from animegen_cli.model.pixels import channels_first, channels_last
from animegen_cli.prepare import drawn
from animegen_cli.report import card, grids, records, same_seeds
from animegen_cli.report.card import Facts
from animegen_cli.sample import generate
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.trained import open_trained, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import Image

    from animegen_cli.paths import Run
    from animegen_cli.report.records import Record
    from animegen_cli.sample.trained import Trained

Format = Literal["diffusers", "onnx"]
INDEX = "pipeline.json"
"""The file that lists every file of an export: a folder with other files in it is not written over."""
MAX_TRANSLATIONS = 12
"""Most pairs of pictures on the card of a run that translates."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `animegen export` is asked to write."""

    run: str | None = None
    """A run's folder or name; the newest run that can be exported when None."""
    to: Format | None = None
    """The format; when None, diffusers where it has the run's network, else ONNX."""
    out: Path | None = None
    """The folder to write; `export/<format>` inside the run when None."""
    license: str = card.LICENSE
    """License of the weights, for the card."""
    count: int = 36
    """Images on the card's sheet; 0 for none."""
    device: str | None = None
    """Device that draws the sheet, such as "cuda:1"; a GPU where there is one when None."""


def export(request: Request) -> dict[str, Any]:
    """Write the folder of an export, whole or not at all.

    Returns:
        `out` (path of the folder), `to` (the format), `run` (path of the run), `files` (names relative to the folder) and
        `notes` (sentences on what the files do otherwise than the run).

    Raises:
        UsageError: the family lacks the ability, or the folder holds files that are of no export.
        DataError: there is no run, it has no weights, or onnxruntime computes something else than the run's network.
        MachineError: the folder cannot be written, or a package is missing.
    """
    run = _open_run(request.run)
    trained = open_trained(run, device=torch.device("cpu"), precision="fp32")
    kind, model = _choose_format(request, trained)
    out = request.out or run.path / "export" / kind
    _require_replaceable(out)
    record = records.read(run)
    with _written_whole(out) as folder:
        index, facts = _write_diffusers(trained, model, folder) if model else _write_onnx(trained, folder)
        picture, caption = _write_sheet(request, record, trained, folder)
        facts = facts._replace(
            license=request.license, draws=isinstance(trained.model, Samples), picture=picture, caption=caption
        )
        disk.write_text(folder / "README.md", card.card(record, facts))
        config = card.without_paths(trained.config.to_dict()) | {"data": None}
        disk.write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        written = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
        files = sorted([*written, INDEX])
        head = {
            "animegen": animegen_cli.__version__,
            "to": kind,
            "family": trained.config.family,
            "size": trained.data.size,
            "images_seen": trained.images,
        }
        disk.write_json(folder / INDEX, head | index | {"files": files})
    return {"out": str(out), "to": kind, "run": str(run.path), "files": files, "notes": list(facts.notes)}


def _open_run(spec: str | None) -> Run:
    """Open a run that draws or translates: the `run.json` of old runs does not say that they can be exported."""
    run = paths.open_run(spec, able_to=("samples", "translates"))
    if spec is None:
        console.note(f"run: {run.path}")
    return run


def _choose_format(request: Request, trained: Trained) -> tuple[Format, DiffusersModel | None]:
    """The format to write, and the contents of the folder where that is diffusers."""
    if request.to == "onnx":
        return "onnx", None
    if request.to == "diffusers":
        require(trained, "converts")
    if isinstance(trained.model, Converts):
        try:
            model = trained.model.to_diffusers(trained.config.sample)
        except ConfigError:
            if request.to:
                raise
        else:
            if request.to is None:
                console.note("format: diffusers (choose the other with `--to onnx`)")
            return "diffusers", model
    console.note("format: onnx, since diffusers has no such network")
    return "onnx", None


# ---- the two formats --------------------------------------------------------------------------------------------


def _write_diffusers(trained: Trained, model: DiffusersModel, folder: Path) -> tuple[dict[str, Any], Facts]:
    """Write the diffusers files; entries of `pipeline.json`, and what the card says of them."""
    diffusers.write(model, folder)
    labels = {name: list(trained.data.attributes[name]) for name in model.labels}
    values = next(iter(labels.values()), [])
    use = usage.diffusers(model, size=trained.data.size, values=values)
    facts = Facts("diffusers", use, card.LICENSE, model.pipeline, notes=model.notes)
    return {"pipeline": model.pipeline, "options": dict(model.options), "labels": labels}, facts


def _write_onnx(trained: Trained, folder: Path) -> tuple[dict[str, Any], Facts]:
    """Write the ONNX files; entries of `pipeline.json`, and what the card says of them."""
    exported = require(trained, "exports").exported(trained.config.sample)
    with console.progress("exporting", 1) as bar:
        networks = onnx.write(trained.model, exported.networks, folder)
        bar.advance()
    labels = {name: list(trained.data.attributes[name]) for name in exported.labels}
    sampling = trained.config.to_dict()["sample"]
    index = {"networks": networks, "recipe": dict(exported.recipe), "sampling": sampling, "labels": labels}
    return index, Facts("onnx", usage.onnx(exported, size=trained.data.size), card.LICENSE)


# ---- pictures of the card ---------------------------------------------------------------------------------------


def _write_sheet(request: Request, record: Record, trained: Trained, folder: Path) -> tuple[str | None, str]:
    """Write a sheet of results, on which there is no real picture; its file name and its caption, None and "" for none."""
    if not request.count:
        return None, ""
    if isinstance(trained.model, Samples):
        sheet, caption = _drawn_sheet(request, record)
    else:
        sheet, caption = _translated_sheet(trained, min(request.count, MAX_TRANSLATIONS))
    grids.save(sheet, folder / "samples.png")
    return "samples.png", caption


def _drawn_sheet(request: Request, record: Record) -> tuple[Image.Image, str]:
    """The faces of the first seeds, and the caption."""

    def draw(run: Run, seeds: Sequence[int]) -> np.ndarray:
        console.note(f"drawing {len(seeds)} faces for the card (`--n 0` for none)")
        return channels_last(generate.images(run, seeds, device=pick_device(request.device)))

    sheet = grids.grid(same_seeds.images(record, range(request.count), draw))
    return sheet, f"Faces of the seeds 0 to {request.count - 1}, as the run draws them, none left out"


def _translated_sheet(trained: Trained, count: int) -> tuple[Image.Image, str]:
    """Drawn stand-ins for photographs before and after translation, and the caption."""
    photos = np.stack([np.asarray(drawn.photo(number, size=trained.data.size)) for number in range(count)])
    translated = Generator(trained, trained.config.sample).translate(channels_first(photos), Edit())
    rows = enumerate(zip(photos, channels_last(translated), strict=True))
    sheet = grids.pairs([(before, after, f"{number}") for number, (before, after) in rows])
    return sheet, "Drawn stand-ins for photographs, before and after"


# ---- the folder -------------------------------------------------------------------------------------------------


def _require_replaceable(out: Path) -> None:
    """Raise UsageError unless the folder is absent, empty, or holds an export and nothing else."""
    if out.is_file():
        raise UsageError(f"{out} is a file", hint="name a folder with `--out`")
    there = {str(file.relative_to(out)) for file in out.rglob("*") if not file.is_dir()} if out.is_dir() else set()
    try:
        exported = set(disk.parse_json((out / INDEX).read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        exported = set()
    if there - exported:
        raise UsageError(
            f"{out} holds files that are of no export, such as {min(there - exported)}",
            hint="name another folder with `--out`, or empty this one",
        )


@contextlib.contextmanager
def _written_whole(out: Path) -> Iterator[Path]:
    """A folder that takes its name when all is written; nothing is left of one that is not."""
    temporary = disk.temporary_beside(out)
    before = disk.temporary_beside(out.with_name(f"{out.name}.before"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        disk.sweep(out.parent)
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            disk.sync(file)
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
