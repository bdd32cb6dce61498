"""What `animegen translate` does: pictures in, the same pictures changed out. One by one, whatever their number.

Families that take any size translate a picture as it is: reflected at its edges up to a multiple of 8 pixels and cut
back, and in overlapping tiles once a side is longer than a tile. Transparent parts stay transparent: the network sees colors that
run on into them. All others get a square of the run's size, with white where a picture is transparent.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from animegen_cli import console, paths
from animegen_cli.data import reading, sources
from animegen_cli.data.decoding import decode_picture
from animegen_cli.data.sources import ARCHIVES, Member, Source, Unusable
from animegen_cli.device import pick_device
from animegen_cli.errors import DataError, UsageError
from animegen_cli.model import abilities
from animegen_cli.model.family import Edit
from animegen_cli.report import grids
from animegen_cli.sample import recipe
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.output import save
from animegen_cli.sample.trained import micro_batch, open_trained, require, sampling_of
from animegen_cli.translate.tiles import MULTIPLE, TILE, any_size, bled, changed, padded, scaled, shaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from animegen_cli.sample.trained import Trained
    from animegen_cli.translate.request import Request

ON_SHEET = 24
"""Pairs that the sheet shows: the first ones."""
NAMED = 5
"""Pictures of one reason that a warning each is said of; those beyond are counted."""
WAITING = 2**25
"""Pixels that wait at most for others of their shape, so that a network call is full."""
_OPTIONS = {"levels": "--top-levels"}


def translate(request: Request) -> dict[str, Any]:
    """Translate and write; returns the files, what was skipped, facts for `--json`, and a text for people."""
    request.check()
    run = abilities.open_run(request.run, "translates")
    console.note(f"run: {run.path}")
    out = request.out or run.path / "translated"
    found = _find(request.path)
    names, results = _listed(found, out)
    targets = _targets(names, out)
    _protect(request.path, out, targets)
    trained = open_trained(run, device=pick_device(request.device), precision=request.precision)
    work = _Work(request, trained)
    for folder in {out, *(target.parent for target in targets.values())}:
        paths.make_folder(folder)
    with console.progress("translating", len(targets)) as bar:
        for name, data in _read(found, targets):
            work.take(name, data, targets[name])
            bar.advance()
        work.finish()
    left_out = [*_dropped(found), *((name, "lies in the folder of the results") for name in results), *work.skipped]
    skipped = [{"file": name, "reason": reason} for name, reason in left_out]
    _warn(left_out)
    if not work.written:
        reason = f"none of {len(skipped)} could be read" if skipped else "no pictures there"
        raise DataError(f"{request.path}: {reason}", hint="name a picture, or a folder or archive of PNG or JPEG files")
    if work.large:
        size = trained.data.size
        console.note(f"this run learned from {size} x {size} pixels; far larger pictures: {work.large:,}; try `--size`")
    files = [work.written[name] for name in targets if name in work.written]
    about = {
        "run": str(run.path),
        "images_seen": trained.images,
        "edit": asdict(work.edit),
        "seed": request.seed,
        "animations": [{"file": name, "frames": frames} for name, frames in work.animations.items()],
        "other_files": sum(source.others for source in found),
    }
    text = [str(files[0]) if len(files) == 1 else f"{out}: {len(files):,} pictures"]
    if request.grid:
        sheet = grids.pairs([work.shown[name] for name in targets if name in work.shown])
        files.append(save(sheet, _beside(out), work.recipe))
        text.append(str(files[-1]))
    if work.animations:
        text.append(_of_animations(work.animations))
    text += [f"{len(skipped):,} skipped"] if skipped else []
    return {"files": files, "skipped": skipped, "about": about, "text": "\n".join(text)}


def _warn(left_out: Sequence[tuple[str, str]]) -> None:
    """Name the first pictures of each reason that were skipped, and count the rest."""
    counts = Counter[str]()
    for name, reason in left_out:
        counts[reason] += 1
        if counts[reason] <= NAMED:
            console.warn(f"skipped {name}: {reason}")
    for reason, count in counts.items():
        if count > NAMED:
            console.warn(f"skipped {count - NAMED:,} more: {reason}")


def _of_animations(animations: Mapping[str, int]) -> str:
    frames = " to ".join(f"{count:,}" for count in sorted({min(animations.values()), max(animations.values())}))
    if len(animations) == 1:
        return f"{next(iter(animations))} is an animation: the first of {frames} frames was translated"
    return (
        f"{len(animations):,} animations, such as {next(iter(animations))}: the first of {frames} frames was translated"
    )


def asked_edit(trained: Trained, asked: Mapping[str, Any]) -> Edit:
    """The edit that was typed; UsageError for an option that this family does not read, naming those that do."""
    reads = require(trained, "translates").edits
    for field in asked:
        if field not in reads:
            option = _OPTIONS.get(field, f"--{field}")
            raise UsageError(
                f"a {trained.config.family} run reads no `{option}`",
                hint=abilities.only(abilities.families_editing(field)),
            )
    return Edit(**asked)


# ---- which pictures, and where they go ------------------------------------------------------------------------


def _find(path: Path) -> list[Source]:
    """A picture, a folder of them (with its subfolders), or archives."""
    if path.is_file() and not path.name.lower().endswith(ARCHIVES):
        source = Source("", "folder", path.parent)
        if path.stat().st_size > sources.MAX_BYTES:
            source.dropped.append((path.name, "file too large"))
        else:
            source.members.append(Member(path.name))
        return [source]
    # "./" because `demo` means the drawn faces to `find`, and a path to the person who typed it here.
    return sources.find([f"./{path}" if not path.is_absolute() else str(path)], downloads=paths.cache())


def _listed(found: Sequence[Source], out: Path) -> tuple[list[str], list[str]]:
    """Names of all pictures that go in, and of those below the folder of the results, which an earlier call left there."""
    inside = out.resolve()
    names: list[str] = []
    results: list[str] = []
    for source in found:
        root = source.path.resolve()
        holds = source.kind == "folder" and root in inside.parents
        for member in source.members:
            below = holds and inside in (root / member.name).parents
            (results if below else names).append(_full_name(source, member, found))
    return names, results


def _full_name(source: Source, member: Member, found: Sequence[Source]) -> str:
    return f"{source.name}/{member.name}" if len(found) > 1 else member.name


def _targets(names: Sequence[str], out: Path) -> dict[str, Path]:
    """The file of each picture: its folders and name, as PNG; `a.jpg` beside `a.png` keep their endings."""
    stems = Counter(str(PurePosixPath(name).with_suffix("")).casefold() for name in names)
    targets, taken = {}, set()
    for name in names:
        stem = str(PurePosixPath(name).with_suffix(""))
        base = unique = stem if stems[stem.casefold()] == 1 else name
        number = 2
        while unique.casefold() in taken:  # `a.jpg` for the third `a.jpg.png`; case as on the poorest file system
            unique, number = f"{base}-{number}", number + 1
        taken.add(unique.casefold())
        targets[name] = out / f"{unique}.png"
    return targets


def _protect(path: Path, out: Path, targets: Mapping[str, Path]) -> None:
    """UsageError when a result would replace a picture that goes in, or stand among them."""
    root = path if path.is_dir() else path.parent
    there = [file.stat() for name in targets if (file := root / name).exists()]
    inputs = {(status.st_dev, status.st_ino) for status in there}
    for target in targets.values():
        if target.exists() and (target.stat().st_dev, target.stat().st_ino) in inputs:
            raise UsageError(f"{target} would be overwritten by its own translation", hint="name another `--out`")
    if path.is_dir() and out.resolve() == path.resolve():
        raise UsageError(f"{out} holds the pictures themselves", hint="name another `--out`")


def _beside(out: Path) -> Path:
    """anime -> anime.contact.png: apart from the pictures, so that the folder can be scored."""
    return (
        out.resolve().with_name(f"{out.resolve().name}.contact.png")
        if out.name in ("", "..")
        else out.with_name(f"{out.name}.contact.png")
    )


def _read(found: Sequence[Source], targets: Mapping[str, Path]) -> Iterator[tuple[str, bytes | Unusable]]:
    reader = reading.Reader()
    for source in found:
        if source.kind == "stream":
            for member, content in reading.stream(source, source.members):
                yield _full_name(source, member, found), content
            continue
        for member in source.members:
            if (name := _full_name(source, member, found)) in targets:
                try:
                    data: bytes | Unusable = reader.read(source.kind, str(source.path), member)
                except Unusable as error:
                    data = error
                yield name, data
    reader.close()


def _dropped(found: Sequence[Source]) -> list[tuple[str, str]]:
    return [pair for source in found for pair in source.dropped]


# ---- one picture after the other ------------------------------------------------------------------------------


class _Work:
    """Pictures of one shape wait for each other until a network call is full; what is written does not depend on it."""

    def __init__(self, request: Request, trained: Trained) -> None:
        self.request, self.trained = request, trained
        self.any_size = any_size(trained)
        family = trained.config.family
        if self.any_size and request.fit:
            raise UsageError(
                f"a {family} run keeps a picture's own shape", hint="leave `--fit` out; `--size` scales it"
            )
        if not self.any_size and request.size:
            hint = f"leave `--size` out; `--fit` says how a picture becomes {trained.data.size} x {trained.data.size}"
            raise UsageError(f"a {family} run translates at its own size alone", hint=hint)
        self.edit = asked_edit(trained, request.edits)
        self.generator = Generator(trained, sampling_of(trained, request.overrides), batch=request.batch)
        chosen = {"--fit": request.fit, "--size": request.size, "--seed": request.seed or None}
        words = typed(request.edits, [word for option in chosen.items() if option[1] is not None for word in option])
        self.recipe = recipe.of(self.generator, "edit", words, seed=request.seed)
        self.waiting: dict[tuple[int, ...], list[_Waiting]] = {}
        self.written: dict[str, Path] = {}
        self.skipped: list[tuple[str, str]] = []
        self.animations: dict[str, int] = {}
        """The frames of those pictures that have several."""
        self.large = 0
        """Pictures in which a face is probably larger than any that the networks have seen."""
        self.shown: dict[str, tuple[np.ndarray, np.ndarray, str]] = {}

    def take(self, name: str, data: bytes | Unusable, target: Path) -> None:
        """One more picture; translates those of its shape once they fill a network call."""
        try:
            if isinstance(data, Unusable):
                raise data
            picture = decode_picture(data)
            alpha = picture.alpha if self.any_size else None
            image = picture.on_white if alpha is None else bled(picture.color, alpha)
            pixels = shaped(self.trained, image, fit=self.request.fit, size=self.request.size)
        except (Unusable, MemoryError) as error:
            self.skipped.append((name, str(error) or "too many pixels"))
            return
        if picture.frames > 1:
            self.animations[name] = picture.frames
        self.large += self.any_size and min(pixels.shape[:2]) > 2 * self.trained.data.size
        shape = tuple(-(-side // MULTIPLE) * MULTIPLE for side in pixels.shape[:2]) if self.any_size else pixels.shape
        group = self.waiting.setdefault(shape, [])
        group.append(_Waiting(name, pixels, alpha and scaled(alpha, self.request.size), target))
        if len(group) >= (1 if max(shape) > TILE else self._batch(shape)):
            self._translate(self.waiting.pop(shape))
        elif sum(len(rest) * math.prod(shape[:2]) for shape, rest in self.waiting.items()) > WAITING:
            self.finish()

    def finish(self) -> None:
        """Translate what still waits."""
        for shape in list(self.waiting):
            self._translate(self.waiting.pop(shape))

    def _batch(self, shape: Sequence[int]) -> int:
        return self.request.batch or micro_batch(self.trained.device, math.isqrt(shape[0] * shape[1]))

    def _translate(self, group: Sequence[_Waiting]) -> None:
        whole = np.stack([padded(one.pixels) if self.any_size else one.pixels for one in group])
        results = changed(self.generator, whole, self.edit, seed=self.request.seed)
        for one, padded_result in zip(group, results, strict=True):
            after = Image.fromarray(padded_result[: one.pixels.shape[0], : one.pixels.shape[1]])
            before = Image.fromarray(one.pixels)
            if one.alpha is not None:
                before, after = (_with_alpha(image, one.alpha) for image in (before, after))
            self.written[one.name] = save(after, one.target, self.recipe)
            if self.request.grid and len(self.shown) < ON_SHEET:
                left, right = (grids.thumbnail(np.asarray(_on_white(image))) for image in (before, after))
                self.shown[one.name] = (left, right, PurePosixPath(one.name).name)


def typed(edits: Mapping[str, object], more: Sequence[object]) -> list[object]:
    """The words of a command that edits a picture so, as a recipe tells them; `more` are other options with their values."""
    words: list[object] = ["translate", "PICTURE"]
    for field, value in edits.items():
        words += [_OPTIONS.get(field, f"--{field}"), *([] if value is True else [value])]
    return [*words, *more]


class _Waiting(NamedTuple):
    """A picture that waits for others of its shape."""

    name: str
    pixels: np.ndarray
    alpha: Image.Image | None
    """Of the same size; None for a picture that is opaque, or becomes so."""
    target: Path


def _with_alpha(image: Image.Image, alpha: Image.Image) -> Image.Image:
    clear = image.convert("RGBA")
    clear.putalpha(alpha)
    return clear


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


# ---- pixels to pixels -----------------------------------------------------------------------------------------
