"""Looks for the labels of a source, and says of each label file that it does not use why not."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from animegen_cli.data.labels import captions, tables
from animegen_cli.data.labels.columns import Reading
from animegen_cli.data.labels.folders import class_folders
from animegen_cli.data.labels.labels import Labels, merge, nothing
from animegen_cli.data.labels.matching import Names
from animegen_cli.data.labels.records import Unread
from animegen_cli.data.labels.set_file import set_file
from animegen_cli.data.mat_file import read_array
from animegen_cli.data.pictures import PICTURES, ending
from animegen_cli.data.reading import read_texts
from animegen_cli.data.sources import MAX_BYTES, Unusable
from animegen_cli.errors import DataError, MachineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from animegen_cli.data.sources import Member, Source

_NOT_LABELS = re.compile(r"bbox|landmark|partition|split|eval|identity", re.IGNORECASE)
_SPEAKS = re.compile(r"attr|tag|label|metadata", re.IGNORECASE)
_SHOWN = 3  # label files that are not used, each with its reason; the rest are counted
_LONGEST = 60  # characters of a row that is shown
_OF_PICTURES = re.compile("|".join(re.escape(one) for one in PICTURES).encode(), re.IGNORECASE)


@dataclass
class _Found:
    """What came of one label file, or of all captions."""

    name: str
    """As `--labels` takes it."""
    called: str
    """As messages call it."""
    labels: Labels | None = None
    reason: str = ""
    example: str = ""
    quiet: bool = False
    """Whether it looks like no label file at all, such as a README."""
    many: bool = False
    """Whether it stands for several files."""
    lacking: MachineError | None = None
    """What the machine lacks to read it."""


def find_labels(source: Source, wanted: str | None, encoding: str | None = None) -> Labels:
    """Find the labels of a source.

    Args:
        source: where to look, and whose members the labels are of.
        wanted: `none`, `folders`, `captions`, a table inside the source or a path; None looks for all of them.
        encoding: that of texts without a byte order mark; None is UTF-8.

    Raises:
        DataError: the table that was asked for is missing, cannot be read or fits no picture.
        UsageError: several files have the name that was asked for, or there is no such encoding.
        MachineError: a Parquet file was asked for, and pyarrow is not installed.
    """
    tables.check_encoding(encoding)
    if wanted == "none" or source.drawn:
        return nothing(source)
    if wanted == "folders":
        return _folders(source)
    found = set_file(source) if wanted is None else None
    if found is not None:
        return found
    if wanted is None and source.kind != "parquet" and not (source.texts or (source.beside and source.beside.texts)):
        return _folders_by_themselves(source)
    names = Names(source.members.names)
    if wanted == "captions":
        return _captions(source, names, encoding)
    if wanted is not None:
        return _table(source, wanted, names, encoding)
    return _by_itself(source, names, encoding)


# ---- what was asked for ----------------------------------------------------------------------------------------


def _folders(source: Source) -> Labels:
    try:
        return class_folders(source, asked=True)
    except Unread as error:
        raise DataError(
            f"the folders of {source.name} are no classes: {error}",
            hint="`--labels folders` needs every picture in a folder that is named after its class; or take `--labels none`",
        ) from None


def _captions(source: Source, names: Names, encoding: str | None) -> Labels:
    found = [one for one in _evaluated(source, names, encoding) if one.name == "captions"]
    best = max(
        (one for one in found if one.labels is not None),
        key=lambda one: one.labels.fits if one.labels else 0,
        default=None,
    )
    if best is not None and best.labels is not None:
        return best.labels
    why = "; ".join(f"{one.called}: {one.reason}" for one in found) or "no text has the name of a picture"
    raise DataError(
        f"no captions of {source.name} can be used: {why}",
        hint="`--labels captions` needs a file such as `1.txt` beside each picture `1.png`",
    )


def _table(source: Source, wanted: str, names: Names, encoding: str | None) -> Labels:
    """The table that was asked for: inside the source by path, then by unique base name, then as a path."""
    name, folder, data = _wanted_table(source, wanted)
    found = _read(name, folder, data, names, encoding)
    if found.lacking is not None:
        raise found.lacking
    if found.labels is None:
        _fail(source, found)
    return found.labels


def _fail(source: Source, found: _Found) -> NoReturn:
    if "UTF-8" in found.reason:
        hint = "for example `--encoding cp1252`, `gbk` or `cp932`"
    elif found.example:
        hint = "one column must name pictures as the source does, such as `faces/1.jpg` or `1`, and another hold few values or tags"
    else:
        hint = "save it as CSV or JSON lines: a column of file names, and one for each attribute"
    raise DataError(f"{found.called} cannot be used: {found.reason}{_side_by_side(found, source)}", hint=hint)


def _wanted_table(source: Source, wanted: str) -> tuple[str, str, bytes | Path]:
    """Name, folder within the source and content of the table that was asked for."""
    for place in (source, source.beside):
        if place is None:
            continue
        asked = wanted.replace("\\", "/").removeprefix("./")
        inside = [text for text in place.texts if text.name == asked]
        inside = inside or [text for text in place.texts if PurePosixPath(text.name).name == asked]
        if len(inside) > 1:
            listed = ", ".join(text.name for text in inside)
            raise UsageError(f"several files of {place.name} are named {wanted}", hint=f"choose one of {listed}")
        if inside:
            text, data = next(iter(_contents(place, inside)))
            if isinstance(data, Unusable):
                raise DataError(f"{text.name} in {place.name} cannot be read: {data}", hint="check the file")
            return text.name, _folder(text.name) if place is source else "", data
    path = Path(wanted)
    if not path.exists() and source.kind == "folder" and (source.path / wanted).is_file():
        path = source.path / wanted  # a file of another ending
    try:
        if path.stat().st_size > MAX_BYTES and ending(path.name) != ".parquet":
            raise DataError(f"{wanted} is too large for a table of labels", hint="keep only file names and labels")
        return path.name, "", path if ending(path.name) == ".parquet" else path.read_bytes()
    except OSError as error:
        listed = ", ".join(text.name for text in source.texts[:8]) or "none"
        raise DataError(
            f"no labels at `{wanted}`: {error.strerror}",
            hint=f"tables inside {source.name}: {listed}; or give a path, `folders`, `captions` or `none`",
        ) from None


# ---- looking by itself -----------------------------------------------------------------------------------------


def _by_itself(source: Source, names: Names, encoding: str | None) -> Labels:
    """The one table or the captions that fit at least half of the pictures, else class folders, else nothing."""
    found = _joined(list(_evaluated(source, names, encoding)))
    fitting: list[tuple[int, _Found]] = []
    for one in found:
        if one.labels is None:
            continue
        if one.labels.fits * 2 < len(names):
            one.reason = (
                f"only {one.labels.fits:,} of {len(names):,} pictures are named; `--labels {one.name}` takes it"
            )
        else:
            fitting.append((_rank(source, one), one))
    best = max((rank for rank, _ in fitting), default=0)
    first = [one for rank, one in fitting if rank == best]
    notes: list[str] = []
    if len(first) == 1 and first[0].labels is not None:
        chosen = first[0].labels
        others = [one.called for _, one in fitting if one is not first[0]]
        if others:
            notes.append(f"{first[0].called} was taken, not {', '.join(others[:_SHOWN])} (choose with `--labels`)")
    else:
        chosen = nothing(source)
        for one in first:
            others = [other.called for other in first if other is not one]
            one.reason = f"it fits, and so does {', '.join(others[:_SHOWN])}: choose with `--labels {one.name}`"
        if not first:
            chosen = _folders_by_themselves(source)
    unused = [one for one in found if one.reason]
    quiet = [one.called for one in unused if one.quiet]
    if quiet:
        more = f" and {len(quiet) - _SHOWN:,} more" if len(quiet) > _SHOWN else ""
        notes.append(f"not read as labels: {', '.join(quiet[:_SHOWN])}{more}")
    return replace(
        chosen,
        notes=(*chosen.notes, *notes),
        warnings=tuple(_warnings(source, [one for one in unused if not one.quiet])),
    )


def _rank(source: Source, found: _Found) -> int:
    """What goes before what: the columns beside pictures, tables that say so in their names, other tables, captions."""
    if source.kind == "parquet" and found.name == source.path.name:
        return 3
    return 0 if found.name == "captions" else 2 if _SPEAKS.search(found.name) else 1


def _folders_by_themselves(source: Source) -> Labels:
    try:
        return class_folders(source, asked=False)
    except Unread as error:
        folders = {name.rpartition("/")[0] for name in source.members.names}
        if len(folders) < 2:
            return nothing(source)
        return replace(nothing(source), notes=(f"the {len(folders):,} folders were not taken as classes: {error}",))


def _warnings(source: Source, unused: Sequence[_Found]) -> Iterator[str]:
    """One line for each of the first label files that are not used, one for all others."""
    for one in unused[:_SHOWN]:
        were = "were" if one.many else "was"
        yield f"{one.called} {were} found and not used: {one.reason}{_side_by_side(one, source)}"
    if len(unused) > _SHOWN:
        names = ", ".join(one.called for one in unused[_SHOWN : 2 * _SHOWN])
        more = ", ..." if len(unused) > 2 * _SHOWN else ""
        yield f"{len(unused) - _SHOWN:,} more label files were found and not used: {names}{more}"


def _side_by_side(found: _Found, source: Source) -> str:
    """One of the rows beside one of the pictures, so that a person sees how they differ."""
    if not found.example or not len(source.members):
        return ""
    row = " ".join(found.example.split())
    row = row if len(row) <= _LONGEST else row[: _LONGEST - 3] + "..."
    return f" (a row: `{row}`; a picture: `{source.members[0].name}`)"


class _Text(NamedTuple):
    """A label file while it is read."""

    name: str
    folder: str
    data: bytes | Path | Unusable


def _evaluated(source: Source, names: Names, encoding: str | None) -> Iterator[_Found]:
    """What comes of each label file of the source and beside it; a compressed tar is read once for all."""
    if source.kind == "parquet":
        yield _read(source.path.name, "", source.path, names, encoding)
    for place in (source, source.beside):
        if place is not None:
            yield from _by_their_names(place)
            yield from _by_their_content(place, names, encoding, inside=place is source)


def _by_their_names(place: Source) -> Iterator[_Found]:
    """The label files that are not opened."""
    for suffix, count in Counter(ending(text.name) for text in place.texts if _is_unread(text)).items():
        called = f"{count:,} {suffix} files" if count > 1 else f"a {suffix} file"
        yield _Found(f"*{suffix}", called, reason=f"{suffix} files are not read: save them as CSV", many=count > 1)
    for text in place.texts:
        if not _is_unread(text) and _NOT_LABELS.search(_base(text.name)):
            yield _Found(text.name, text.name, reason="by its name it holds no attributes", quiet=True)


def _is_unread(text: Member) -> bool:
    return ending(text.name) in tables.UNREAD


def _by_their_content(place: Source, names: Names, encoding: str | None, *, inside: bool) -> Iterator[_Found]:
    """Tables and captions of a place; `inside`: it is that of the pictures, not the folder around their archive."""
    opened = [text for text in place.texts if not _is_unread(text) and not _NOT_LABELS.search(_base(text.name))]
    paired = captions.beside(opened, names)
    files = {text.name: (suffix, at) for suffix, some in paired.items() for text, at in some}
    collected = {suffix: captions.Captions(suffix, len(names), encoding) for suffix in paired}
    for text, data in _contents(place, opened):
        if text.name in files:
            suffix, at = files[text.name]
            collected[suffix].add(text.name, at, data if isinstance(data, bytes | Unusable) else Unusable("not text"))
        else:
            yield _read(text.name, _folder(text.name) if inside else "", data, names, encoding)
    for caption in collected.values():
        one = _Found("captions", caption.name, example=caption.example, many=caption.count > 1)
        try:
            one.labels = caption.labels()
        except Unread as error:
            one.reason = str(error)
        yield one


def _contents(place: Source, texts: Sequence[Member]) -> Iterator[tuple[Member, bytes | Path | Unusable]]:
    """The content of label files; of Parquet files in a folder their path, since these may be large."""
    small = []
    for text in texts:
        if ending(text.name) in tables.UNREAD:
            yield text, b""
        elif place.kind == "folder" and ending(text.name) == ".parquet":
            yield text, place.path / text.name
        elif text.size > MAX_BYTES:
            yield text, Unusable(f"it is larger than {MAX_BYTES // 2**20} MiB")
        else:
            small.append(text)
    yield from read_texts(place, small)


def _read(name: str, folder: str, data: bytes | Path | Unusable, names: Names, encoding: str | None) -> _Found:
    """Parse one table and match its rows with the pictures."""
    found = _Found(name, name)
    reading: Reading | None = None
    try:
        if isinstance(data, Unusable):
            raise Unread(str(data))
        if ending(name) == ".mat":
            found.labels = _flowers(name, data, names)
        else:
            here = names.within(folder)
            reading = Reading(tables.read(name, data, here, encoding), here)
            found.labels = reading.labels(name)
    except MachineError as error:
        found.lacking = error
        found.reason = f"{error}: {error.hint}"
    except Unread as error:
        found.reason = str(error)
        spoken = isinstance(data, bytes) and _OF_PICTURES.search(data[: 2**16]) is not None
        found.quiet = ending(name) in (".txt", ".json") and not spoken and not (reading and reading.covered)
        if ending(name) == ".json" and _SPEAKS.search(name):
            found.quiet = False
    if reading is not None:
        found.example = reading.example
    return found


def _flowers(name: str, data: bytes | Path, names: Names) -> Labels:
    """Oxford Flowers 102: `imagelabels.mat` holds the class of image_00001.jpg, image_00002.jpg, ..."""
    try:
        classes = read_array(data if isinstance(data, bytes) else data.read_bytes(), "labels").astype(np.int64)
    except ValueError as error:
        raise Unread(str(error)) from None
    places = np.array([names.find(f"image_{number + 1:05d}.jpg").place for number in range(len(classes))], np.int64)
    if not (places >= 0).any():
        raise Unread("it has a class for image_00001.jpg, image_00002.jpg, ..., and there are none")
    if classes.min() < 1 or classes.max() > 10_000:
        raise Unread("its classes do not count from 1")
    rows = np.full((len(names), 1), -1, np.int16)
    rows[places[places >= 0], 0] = classes[places >= 0] - 1
    values = tuple(str(number) for number in range(1, int(classes.max()) + 1))
    return Labels({"class": values}, rows, name, int((places >= 0).sum()))


def _joined(found: list[_Found]) -> list[_Found]:
    """Tables with the same attributes that speak of other pictures each, such as one in each folder, are one table."""
    groups: dict[tuple[str, ...], list[_Found]] = {}
    for one in found:
        if one.labels is not None and one.name != "captions":
            groups.setdefault(tuple(sorted(one.labels.attributes)), []).append(one)
    for group in groups.values():
        tables_of = [one.labels for one in group if one.labels is not None]
        known = sum((labels.rows >= 0).any(axis=1).astype(np.int64) for labels in tables_of)
        if len(group) < 2 or np.max(known) > 1:
            continue
        vocabulary, rows = merge(tables_of)
        whole = rows[0]
        for more in rows[1:]:
            whole = np.where(whole < 0, more, whole)
        called = ", ".join(one.called for one in group[:_SHOWN]) + (
            f" and {len(group) - _SHOWN} more" if len(group) > _SHOWN else ""
        )
        notes = tuple(note for labels in tables_of for note in labels.notes)
        fits = sum(labels.fits for labels in tables_of)
        joined = _Found(group[0].name, called, Labels(vocabulary, whole, called, fits, notes), example=group[0].example)
        found = [joined if one is group[0] else one for one in found if one is group[0] or one not in group]
    return found


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _base(name: str) -> str:
    return name.rpartition("/")[2]
