"""What `prepare` reads for each domain: its sources, their labels and the parts that they state."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from animegen_cli import console
from animegen_cli.data import sources, splits
from animegen_cli.data.index import DatasetIndex, Vocabulary
from animegen_cli.data.labels import labels
from animegen_cli.data.labels.search import find_labels
from animegen_cli.data.sources import DOMAINS, PHOTOS, Source
from animegen_cli.errors import DataError, UsageError
from animegen_cli.prepare import boxes_sheet, contact_sheet, faces, leaks
from animegen_cli.prepare.boxes_sheet import BoxesSheet
from animegen_cli.prepare.faces import Finder
from animegen_cli.prepare.request import DRAWN, Options, Request


@dataclass
class Domain:
    """What is read for one domain, and what came of it."""

    specs: Sequence[str]
    found: list[Source]
    rows: list[np.ndarray]
    """For each source the label numbers of its members."""
    dataset_index: DatasetIndex
    finder: Finder | None = None
    """How faces are looked for; None where they are not."""
    sheet: BoxesSheet = field(default_factory=BoxesSheet)
    """The pictures that faces were looked for in."""
    given: splits.Given | None = None
    """The parts of the sources, where they decide the split."""
    decoded: int = 0
    oblong: int = 0
    """How many pictures were decoded, and how many of them are far from square."""
    labels: list[dict[str, Any]] = field(default_factory=list)
    """Where the labels of each source came from, and which label files were not used."""


def list_domains(request: Request, downloads: Path) -> list[Domain]:
    """Find the sources of each domain and their labels; an empty domain is an error before any picture is decoded."""
    options = request.options
    two = bool(request.photos)
    asked = (request.sources, request.photos) if two else (request.sources,)
    domains: list[Domain] = []
    for name, specs in zip(DOMAINS, asked, strict=False):
        found = sources.find(specs, downloads=downloads, domain=name if two else None)
        for source in found:
            source.forget(
                request.path,
                contact_sheet.path_of(request.path),
                boxes_sheet.path_of(request.path),
                leaks.path_of(request.path),
            )
            if source.drawn:
                _require_drawable(options.size)
                count = options.limit or DRAWN
                source.members = sources.Members(sources.Member(f"{index:06d}", index) for index in range(count))
        about_labels: list[dict[str, Any]] = []
        if name == PHOTOS:  # labels are those of the anime faces
            columns: list[splits.Parts | None] = []
            vocabulary = domains[0].dataset_index.vocabulary
            rows = [np.full((len(source.members), len(vocabulary)), -1, np.int16) for source in found]
        else:
            vocabulary, rows, columns, about_labels = _labels(found, options)
        most = sum(len(source.members) for source in found)
        finder = options.finder if name != PHOTOS else None
        room = most * faces.MOST if finder and finder.cut else most
        dataset_index = DatasetIndex(vocabulary, room, f"{name}/" if two else "")
        given = _given(found, columns, options, name if two else "")
        domain = Domain(specs, found, rows, dataset_index, finder, given=given, labels=about_labels)
        for source in found:
            domain.dataset_index.others += source.others
            for member, reason in source.dropped:
                domain.dataset_index.drop(full_name(found, source, member), reason)
        if not most:
            raise nothing_usable(domain, options)
        if finder and finder.cut and all(source.drawn for source in found):
            console.note("drawn faces are squares already: `--faces` leaves them as they are")
        domains.append(domain)
    if two:
        _refuse_same(*(domain.found for domain in domains))
    return domains


def _refuse_same(anime: Sequence[Source], photos: Sequence[Source]) -> None:
    """UsageError when a source of one domain is, or lies in, a source of the other."""
    for one, other in itertools.product(anime, photos):
        if one.half or other.half or one.drawn or other.drawn:
            continue
        a, b = one.path.resolve(), other.path.resolve()
        if a == b or a in b.parents or b in a.parents:
            what = f"{one.path} is" if a == b else f"{one.path} and {other.path} overlap: one is"
            raise UsageError(
                f"{what} given for both domains",
                hint="name the photographs with `--photos`, the drawn faces with `--anime`",
            )


def refuse_one_domain(indexes: Sequence[DatasetIndex]) -> None:
    """DataError when two domains hold the same pictures."""
    if len(indexes) < 2 or not (shared := indexes[0].shared(indexes[1])):
        return
    if shared == min(map(len, indexes)):
        raise DataError(
            "the pictures of one domain are all in the other",
            hint="name the photographs with `--photos`, the drawn faces with `--anime`",
        )
    console.warn(f"{shared:,} pictures are in both domains")


def _given(
    found: Sequence[Source], columns: Sequence[splits.Parts | None], options: Options, name: str
) -> splits.Given | None:
    """The split that the sources of a domain state, if it is to be kept; says what becomes of it."""
    given, lonely = splits.given(found, columns)
    of = f"{name}: " if name else ""
    if given is None:
        if lonely:
            console.note(f"{of}{lonely} has no test part beside it, so the pictures are split by share")
        return None
    if options.split is not None:
        console.warn(
            f"{of}`--split {options.split:g}` mixes the parts of the source ({given.said}); without it they are kept"
        )
        return None
    console.note(f"{of}the parts of the source are kept: {given.said}")
    return given


def _labels(
    found: Sequence[Source], options: Options
) -> tuple[Vocabulary, list[np.ndarray], list[splits.Parts | None], list[dict[str, Any]]]:
    """One vocabulary; for each source the label numbers of its members and the parts that a column of its labels names.

    Last comes what the manifest says of the origin of labels.
    """
    columns, tables = zip(*map(splits.of_column, _tables(found, options)), strict=True)
    about: list[dict[str, Any]] = []
    for source, table in zip(found, tables, strict=True):
        if table.origin:
            console.note(f"labels of {source.name}: {', '.join(table.attributes)} (from {table.origin})")
        for text in table.notes:
            console.note(f"labels of {source.name}: {text}")
        for text in table.warnings:
            console.warn(f"labels of {source.name}: {text}")
        if table.origin or table.notes or table.warnings:
            counts = {"named": table.fits, "pictures": len(source.members)}
            said = {"notes": list(table.notes), "not_used": list(table.warnings)}
            about.append({"source": source.name, "from": table.origin or None, **counts, **said})
    return *labels.merge(tables), list(columns), about


def _tables(found: Sequence[Source], options: Options) -> list[labels.Labels]:
    """The labels of each source; a table that was asked for must fit at least one of them."""
    tables: list[labels.Labels] = []
    failures: list[DataError] = []
    for source in found:
        try:
            drawn = source.drawn and options.labels != "none"
            tables.append(
                _drawn_labels(source, options) if drawn else find_labels(source, options.labels, options.encoding)
            )
        except DataError as error:
            failures.append(error)
            tables.append(labels.nothing(source))
    if failures and len(failures) == len(found):
        raise failures[0]
    return tables


def _drawn_labels(source: Source, options: Options) -> labels.Labels:
    from animegen_cli.prepare import drawn

    places = {name: {value: place for place, value in enumerate(v)} for name, v in drawn.ATTRIBUTES.items()}
    rows = np.empty((len(source.members), len(places)), np.int16)
    for index in range(len(rows)):
        chosen = drawn.attributes(index, seed=options.seed)
        rows[index] = [place[chosen[name]] for name, place in places.items()]
    return labels.Labels(dict(drawn.ATTRIBUTES), rows, "how they were drawn", len(rows))


def _require_drawable(size: int) -> None:
    from animegen_cli.prepare import drawn

    if not drawn.MIN_SIZE <= size <= drawn.MAX_SIZE:
        raise UsageError(
            f"faces are drawn at {drawn.MIN_SIZE} to {drawn.MAX_SIZE} pixels, not {size}",
            hint="try `animegen prepare demo --resolution 64`",
        )


def full_name(found: Sequence[Source], source: Source, name: str) -> str:
    """With several sources, a picture's name begins with its source's."""
    return name if len(found) == 1 else f"{source.name}/{name}"


def _led_to(domain: Domain) -> Path:
    """Where the first broken link of a domain points to."""
    for source in domain.found:
        for name, reason in source.dropped:
            if reason == "broken link":
                return (source.path / name).readlink()
    return Path()


def nothing_usable(domain: Domain, options: Options) -> DataError:
    what = " and ".join(domain.specs)
    reasons = domain.dataset_index.reasons()
    if domain.dataset_index.folder:
        what = f"{what} (--{domain.dataset_index.folder[:-1]})"
    if not reasons:
        return DataError(
            f"there is no picture in {what}", hint="name a folder or an archive with PNG, JPEG or WebP files"
        )
    said = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    hint = next((reason for reason in reasons if "`" in reason), None)  # such as the plug-in to install
    hint = hint or "try `animegen prepare demo`, which needs no pictures"
    if "broken link" in reasons:
        hint = f"name the folder that the links led to, for one `{_led_to(domain)}`"
    if "no face found" in reasons:
        hint = "take the pictures as they are: leave `--faces` out"
    if "too small" in reasons or "face too small" in reasons:
        hint = f"allow smaller pictures with `--min-size`, or a lower `--resolution` than {options.size}"
    return DataError(f"no usable picture in {what}: {said}", hint=hint)
