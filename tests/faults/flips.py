"""One changed byte in any file of a run, a set or a study: refused, said, or without effect on any result."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from chain import Answer, done, here, sets, train_words
from PIL import Image

from animegen_cli.data.dataset import FaceSet
from animegen_cli.errors import AnimegenError
from animegen_cli.model import checkpoint
from animegen_cli.paths import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    Door = Callable[[Path], tuple[object, str]]

SCORING = ("--n", 8, "--repeats", 2, "--extractor", "faces", "--metrics", "fd,kid", "--device", "cpu", "--json")


@dataclass
class Tally:
    """What came of the changed bytes of one kind of file."""

    changed: int = 0
    same: int = 0
    """The result was that of the whole file."""
    refused: int = 0
    """A message named the file, or the folder of the state that it belongs to."""
    said: int = 0
    """There was a result without what the file holds, and a message that named it."""
    silent: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)


def make(folder: Path, *, study: bool = True) -> None:
    """Make what is changed: a set, a run of two states with scores, features and pictures, and a study where it is wanted."""
    done("prepare", "demo", "--resolution", 16, "--limit", 40, "--workers", 1, "--out", folder / "faces.zip")
    run = folder / "run"
    more = ("--keep", 3, *sets("train.save_every=32 images", "train.preview_every=32 images", "train.preview=4"))
    done(*train_words("ddpm", folder / "faces.zip", run, *more, duration="64 images"))
    done("eval", run, *SCORING)
    _compare(run)
    if not study:
        return
    (folder / "study.yaml").write_text(_STUDY, encoding="utf-8")
    words = ("--study", folder / "study.yaml", "--data", folder / "faces.zip", "--device", "cpu", "--no-reals")
    done("compare", *words, "--out", folder / "study")


_STUDY = """\
title: One network
about: Nothing is compared.
runs:
  small: {family: ddpm, preset: smoke, settings: {model.channels: 8, model.groups: 4, model.attention: [8], sample.steps: 4,
    train.batch: 8, train.validate.images: 0}, duration: 8 images}
scores: {n: 8, repeats: 2, metrics: [fd]}
"""


# ---- what reads them ------------------------------------------------------------------------------------------


class Refused(Exception):
    """The command ended with a message; `str` gives it."""


def _must(answer: Answer) -> Answer:
    if answer.code:
        raise Refused(answer.err)
    return answer


def _compare(run: Path) -> tuple[object, str]:
    """The tables and the page of a run."""
    out = run.parent / "comparison"
    answer = _must(here("compare", run, "--out", out, "--json", "--device", "cpu"))
    page = (out / "index.html").read_text(encoding="utf-8")
    tables = json.loads((out / "table.json").read_text(encoding="utf-8"))
    return (tables, page), answer.err + page


def _sample(run: Path) -> tuple[object, str]:
    out = run.parent / "drawn"
    shutil.rmtree(out, ignore_errors=True)
    answer = _must(here("sample", run, "--n", 2, "--out", out, "--device", "cpu"))
    return [np.asarray(Image.open(file)).tobytes() for file in sorted(out.rglob("0*.png"))], answer.err


def _eval(run: Path) -> tuple[object, str]:
    """The scores from the features that are stored."""
    Run(run).scores.unlink(missing_ok=True)
    answer = _must(here("eval", run, *SCORING))
    return _timeless(answer), answer.err


def _stored(run: Path) -> tuple[object, str]:
    """The scores that are stored."""
    answer = _must(here("eval", run, *SCORING))
    return _timeless(answer), answer.err


def _timeless(answer: Answer) -> list[dict[str, object]]:
    scores = json.loads(answer.out)["scores"]
    return [{key: value for key, value in score.items() if key != "seconds"} for score in scores]


def _resume(run: Path) -> tuple[object, str]:
    answer = _must(here("train", "--resume", run, "--duration", "80 images", "--device", "cpu"))
    tensors, about = checkpoint.load_weights(Run(run).weights)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()} | {"about": str(about)}, answer.err


def _set(path: Path) -> tuple[object, str]:
    """All that a training takes from a set."""
    try:
        faces = FaceSet.open(path)
        everything = range(len(faces))
        found = [
            faces.identity, faces.attributes, faces.labels(everything).tolist(), faces.indices("test").tolist(),
            faces.domains, [faces.origin(index) for index in everything],
            hashlib.sha256(faces.pixels(everything).tobytes()).hexdigest(),
        ]  # fmt: skip
    except AnimegenError as error:
        raise Refused(error.message) from None
    return found, ""


def _prepare(path: Path) -> tuple[object, str]:
    out = path.parent / "again.zip"
    answer = _must(here("prepare", path, "--resolution", 16, "--workers", 1, "--out", out))
    said = answer.out.replace("damaged in its archive", f"damaged in {path.name}")
    return _set(out)[0], said


def _study(file: Path) -> tuple[object, str]:
    folder = file.parent
    words = ("--study", folder.parent / "study.yaml", "--data", folder.parent / "faces.zip", "--device", "cpu")
    answer = _must(here("compare", *words, "--out", folder, "--no-reals", "--json"))
    return json.loads((folder / "comparison" / "table.json").read_text(encoding="utf-8")), answer.err


DOORS: dict[str, tuple[Door, ...]] = {
    "weights.safetensors": (_sample, _compare),
    "run.json": (_compare, _sample, _resume),
    "config.yaml": (_compare, _resume),
    "log.jsonl": (_compare, _resume),
    "eval.json": (_compare, _stored),
    "samples": (_compare,),
    "features": (_eval,),
    "resume": (_resume, _compare),
    "faces.zip": (_set, _prepare),
    "study.yaml": (_study,),
}
"""Kind of file -> the commands that read it."""


def kind_of(file: Path) -> str | None:
    """The kind in `DOORS`; None for what no command reads, such as a page or a lock."""
    return next((part for part in (*reversed(file.parts[:-1]), file.name) if part in DOORS), None)


# ---- the changes ----------------------------------------------------------------------------------------------


def change(folder: Path, work: Path, count: int, *, seed: int, kinds: Collection[str] = ()) -> dict[str, Tally]:
    """Change one byte `count` times, each time in one file of a copy, and see what the commands that read it make of it.

    Args:
        folder: what `make` made.
        work: a folder for copies.
        count: how many bytes are changed, in all kinds of files in turn.
        seed: which bytes.
        kinds: of `DOORS`; all when empty.
    """
    draw = random.Random(seed)
    copy = work / "copy"
    _copied(folder, copy)
    files: dict[str, list[Path]] = {}
    for file in sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()):
        in_study = file.parts[0] == "study"
        kind = kind_of(file)
        if kind and (not kinds or kind in kinds) and in_study == (kind == "study.yaml" and len(file.parts) == 2):
            files.setdefault(kind, []).append(file)
    whole: dict[tuple[str, Door], object] = {}
    tallies = {kind: Tally() for kind in files}
    for number in range(count):
        kind = list(files)[number % len(files)]
        file = draw.choice(files[kind])
        door = DOORS[kind][number // len(files) % len(DOORS[kind])]
        subject = _subject(copy, file)
        if (kind, door) not in whole:
            whole[kind, door] = door(subject)[0]
            _copied(folder, copy)
        before, stat = (copy / file).read_bytes(), (copy / file).stat()
        place, bits = draw.randrange(len(before)), draw.randrange(1, 256)
        after = bytearray(before)
        after[place] ^= bits
        (copy / file).write_bytes(after)
        os.utime(copy / file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a disk's own mistakes leave it
        what = f"{file} byte {place}: {before[place]:#04x} -> {after[place]:#04x}, {door.__name__[1:]}"
        _look(tallies[kind], door, subject, file, whole[kind, door], what)
        _copied(folder, copy)
    return tallies


def _copied(folder: Path, copy: Path) -> None:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)


def _subject(copy: Path, file: Path) -> Path:
    return copy / "run" if file.parts[0] == "run" else copy / file


def _look(tally: Tally, door: Door, subject: Path, file: Path, whole: object, what: str) -> None:
    """Take one command's answer into the tally."""
    tally.changed += 1
    named = file.parts[2] if "resume" in file.parts[:-1] else file.name
    try:
        found, said = door(subject)
    except Refused as refusal:
        if "Traceback" in str(refusal) or named.removesuffix(".zip") not in str(refusal):
            tally.crashed.append(f"{what}: {refusal}")
        else:
            tally.refused += 1
    except Exception as error:  # whatever it is, it is what is looked for
        tally.crashed.append(f"{what}: {type(error).__name__}: {error}")
    else:
        if found == whole:
            tally.same += 1
        elif named in said:
            tally.said += 1
        else:
            tally.silent.append(what)
