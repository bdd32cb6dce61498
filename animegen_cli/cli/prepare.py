"""`animegen prepare`: pictures -> one clean data set file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from animegen_cli.prepare.prepare import Prepared

_SPOKEN = ("resolution", "fit", "dedupe")  # defaults that decide what is in the file

EXAMPLES = """
Examples:

  animegen prepare ./kaggle                        a folder, as downloaded

  animegen prepare animefacedataset.zip --resolution 32

  animegen prepare faces.zip --labels tags.csv     a table inside the archive, or a path

  animegen prepare a.zip b/ --out both.zip         merged

  animegen prepare demo --limit 500                drawn faces, no download

  animegen prepare ./pictures --faces              faces cut out of illustrations

  animegen prepare --photos ./photos --anime faces.zip --out two.zip
"""


def prepare(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...", help="Folders, zip or tar archives, kaggle:OWNER/NAME, or demo.", show_default=False
        ),
    ] = None,
    photos: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="Photographs, for translators; with --anime, and both may be repeated.",
            show_default=False,
        ),
    ] = None,
    anime: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="The anime faces beside --photos; unpaired.", show_default=False),
    ] = None,
    resolution: Annotated[int, typer.Option(help="Height and width of every image in pixels.")] = 64,
    out: Annotated[
        Path | None, typer.Option(help="The file to write. [default: datasets/<source>-<size>.zip]", show_default=False)
    ] = None,
    fit: Annotated[str, typer.Option(help="How to make squares: crop, pad or stretch.")] = "crop",
    dedupe: Annotated[
        str,
        typer.Option(
            help="exact: drop exact duplicates, keep near-duplicates, mirrored too, on one side of the split; near: keep one "
            "of each; off: drop none."
        ),
    ] = "exact",
    split: Annotated[
        float | None,
        typer.Option(
            help="Share of the images for training; the rest is for testing. [default: the parts that the source states, "
            "such as train/ and test/, else 0.8]",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="A table (inside or a path), folders, captions or none. [default: found by itself]",
            show_default=False,
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="Encoding of tables and captions without a byte order mark: cp1252, gbk, cp932, ... [default: UTF-8]",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Keep at most so many images (of each domain), chosen by --seed.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which images --limit chooses, and which faces demo draws.")] = 0,
    min_size: Annotated[
        int | None,
        typer.Option(
            help="Drop pictures whose shorter side is less. [default: half the resolution]", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes. [default: the cores, at most 8]", show_default=False)
    ] = None,
    faces: Annotated[
        bool | None,
        typer.Option(
            "--faces/--no-faces",
            help="Find the anime faces in the pictures and cut them out. [default: no, and a note where it would help]",
            show_default=False,
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="With --faces: what to show around a face on each side, as a share of it. [default: 0.3]",
            show_default=False,
        ),
    ] = None,
    detector: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.onnx",
            help="Find the faces with a YOLO detector of your own. [default: the built-in one]",
            show_default=False,
        ),
    ] = None,
    drop: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Leave out what is otherwise only counted: bars (black ones), monochrome, several (faces in one image); "
            "commas between.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="SET",
            help="Make nothing: look for near-duplicates, mirrored too, between the training and testing parts of a set.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make one clean data set file from pictures."""
    import os

    # Read when numpy is first imported: its threads would take cores and memory from the workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from animegen_cli import console
    from animegen_cli.prepare import prepare as verb
    from animegen_cli.prepare.request import DRAWN, Options, Request

    if check is not None:
        _check(context, check)
        return
    specs, others = _asked(sources or [], photos or [], anime or [])
    options = Options(
        resolution, fit, dedupe, split, labels, encoding, limit, seed, min_size, workers, faces, margin,
        detector=None if detector is None else str(detector),
        drop=[name.strip() for name in drop.split(",")] if drop else [],
    )  # fmt: skip
    request = Request(specs, out, options, others)
    taken = [name for name in _SPOKEN if str(context.get_parameter_source(name)).endswith("DEFAULT")]
    if taken:
        console.note("by default: " + " ".join(f"--{name} {context.params[name]}" for name in taken))
    for what, of in (("faces", specs), ("photographs", others)):
        if limit is None and "demo" in of:
            console.note(f"drawing {DRAWN:,} {what} (choose with --limit)")
    if out is None:
        console.note(f"writing to {request.path} (choose with --out)")
    if request.path.is_file():
        console.note(f"replacing {request.path}")
    done = verb.prepare(request)
    console.result(
        {
            "path": str(done.path),
            "contact": done.contact and str(done.contact),
            **({"boxes": str(done.boxes)} if done.boxes else {}),
            **({"leaks": str(done.leaks)} if done.leaks else {}),
            **done.about,
        },
        _summary(done),
    )


def _check(context: typer.Context, path: Path) -> None:
    """Look for leaks instead of making a set; other options have nothing to do then."""
    from animegen_cli import console
    from animegen_cli.errors import UsageError
    from animegen_cli.prepare import leaks

    others = [name for name, value in context.params.items() if name != "check" and value not in (None, [], ())]
    given = [name for name in others if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if given:
        raise UsageError(
            f"`--check` makes nothing, so `--{given[0].replace('_', '-')}` has no effect",
            hint=f"type `animegen prepare --check {path}`",
        )
    done = leaks.check(path)
    found = done.about.get("by_domain", {"": done.about})
    lines = []
    for domain, about in found.items():
        of = f"{domain}: " if domain else ""
        parts = f"{about['train']:,} images for training, {about['test']:,} for testing"
        lines.append(f"checked  {of}{parts} ({_stated(about['parts'])})")
        lines.append(f"leaks    {of}{_leaks(about['leaks'], about['mirrored'], about['test'])}")
    if done.sheet:
        lines.append(f"look at  {done.sheet}")
    console.result({**done.about, "sheet": done.sheet and str(done.sheet)}, "\n".join(lines))


def _leaks(count: int, mirrored: int, test: int) -> str:
    if not count:
        return "no image for testing has a near-duplicate in training"
    return f"{count:,} of {test:,} images for testing have a near-duplicate in training, {mirrored:,} of them mirrored"


def _stated(parts: dict[str, int]) -> str:
    """`train/ 80, test/ 20`; pictures outside of all parts have an empty name."""
    return ", ".join(f"{name or 'outside of them'} {count:,}" for name, count in parts.items())


def _asked(sources: list[str], photos: list[str], anime: list[str]) -> tuple[list[str], list[str]]:
    """The sources of the (anime) faces and of the photographs."""
    from animegen_cli.errors import UsageError

    both = "type `animegen prepare --photos ./photos --anime ./faces`"
    if sources and (photos or anime):
        raise UsageError(f"`{sources[0]}` belongs to no domain beside `--photos` and `--anime`", hint=both)
    if bool(photos) != bool(anime):
        given, lacking = ("photos", "anime") if photos else ("anime", "photos")
        alone = "" if photos else "; for one domain leave `--anime` out: `animegen prepare ./faces`"
        raise UsageError(
            f"`--{given}` needs `--{lacking}` beside it: a set for translators has both", hint=both + alone
        )
    if not sources and not photos:
        raise UsageError("no source given", hint="name one, for example `animegen prepare ./kaggle`")
    return sources or anime, photos


def _summary(prepared: Prepared) -> str:
    from animegen_cli.prepare.faces import NOTICED

    about = prepared.about
    near, attributes = about["near_twins"], about["attributes"]  # as the manifest names them
    parts = about.get("by_domain", {"": about})
    kept = _each({name or "images": part["images"] for name, part in parts.items()})
    lines = [f"kept     {kept}, {about['size']} x {about['size']}"]
    for reason, count in about["dropped"].items():
        lines.append(f"dropped  {count:,} {reason}, such as {about['dropped_examples'][reason][0]}")
    if "animations" in about:
        moving = about["animations"]
        frames = " to ".join(f"{count:,}" for count in sorted(set(moving["frames"])))
        what = "1 animation" if moving["pictures"] == 1 else f"{moving['pictures']:,} animations"
        lines.append(f"frames   {what}: the first of {frames} frames used, such as {moving['such_as'][0]}")
    if "cut" in about:
        cut = about["cut"]
        some = f"; none in {cut['without_a_face']:,}, such as {cut['such_as'][0]}" if cut["without_a_face"] else ""
        lines.append(f"faces    in {cut['pictures'] - cut['without_a_face']:,} of {cut['pictures']:,} pictures{some}")
    for what, count in about["noticed"].items():
        lines.append(f"noticed  {count:,} with {NOTICED[what]}; `--drop {what}` leaves them out")
    lines += [f"label    {name}: {len(values)} values" for name, values in attributes.items()]
    for one in about["labels"]:
        if one["from"]:
            lines.append(
                f"labelled {one['named']:,} of {one['pictures']:,} pictures of {one['source']}, from {one['from']}"
            )
        lines += [f"tags     {note.removeprefix('tags: ')}" for note in one["notes"] if note.startswith("tags: ")]
    given = about["split"].get("given")
    if near["images"]:
        together = "" if given else ", kept together"
        lines.append(
            f"near     {near['images']:,} images in {near['clusters']:,} clusters of near-duplicates{together}"
        )
    train, test = (_each({name: part["split"][side] for name, part in parts.items()}) for side in ("train", "test"))
    lines.append(f"split    {train} for training, {test} for testing" + (f" ({_stated(given)})" if given else ""))
    if given and about["split"]["leaks"]["images"]:
        leaks = about["split"]["leaks"]
        said = _leaks(leaks["images"], leaks["mirrored"], about["split"]["test"])
        lines.append(f"leaks    {said}; `--split 0.8` makes parts without")
    lines.append(f"written  {prepared.path}")
    sheets = [str(sheet) for sheet in (prepared.contact, prepared.boxes, prepared.leaks) if sheet]
    if sheets:
        lines.append(f"look at  {' and '.join(sheets)}")
    return "\n".join(lines)


def _each(counts: dict[str, int]) -> str:
    """1,000 anime and 1,600 photos"""
    return " and ".join(f"{count:,} {name}".rstrip() for name, count in counts.items())


prepare.__doc__ = (prepare.__doc__ or "") + "\n" + EXAMPLES
