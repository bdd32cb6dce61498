"""`prepare`: make one clean data set file from any pictures.

Worker processes clean the pictures, and this one writes them as they arrive, in the order of their names; only a few
hundred bytes of each image stay in memory. Everything in the file is a function of the pictures and the options.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from animegen_cli import console
from animegen_cli.data import cleaning, manifest, reading, sources, splits
from animegen_cli.data.index import DatasetIndex, Vocabulary, member_name
from animegen_cli.data.labels import labels
from animegen_cli.data.labels.search import find_labels
from animegen_cli.data.labels.tables import check_encoding
from animegen_cli.data.sources import DOMAINS, PHOTOS, Source
from animegen_cli.errors import DataError, MachineError, UsageError
from animegen_cli.prepare import boxes_sheet, contact_sheet, face_detector, faces, leaks, yolo
from animegen_cli.prepare.boxes_sheet import BoxesSheet
from animegen_cli.prepare.faces import Finder, Seen
from animegen_cli.prepare.workers import Chunk, run
from animegen_cli.prepare.zip_writer import StoredZip

DEDUPE = ("exact", "near", "off")
"""What `--dedupe` may be."""
SHARE = 0.8
"""The share of the images that are for training, unless another is asked for."""
DRAWN = 2000
"""How many pictures the source `demo` has where there is no limit."""

_CHUNK = 16  # pictures that travel together
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
_MOST_WORKERS = 8  # decoding outruns one writer beyond this, and each worker takes 25 MB
_OBLONG = 1.2  # the longer side over the shorter from which on a picture is far from square
_WORTH_A_WORKER = 400  # pictures that pay for starting one more process


@dataclass(frozen=True)
class Options:
    """What decides the bytes of the file, besides the pictures; and the number of processes, which does not.

    Raises:
        UsageError: a value is out of its range; the hint names one that is not.
    """

    size: int = 64
    """Height and width of every image in pixels, 4 to 2048."""
    fit: str = "crop"
    """How a picture becomes a square; one of `cleaning.FITS`."""
    dedupe: str = "exact"
    """Which duplicates are dropped; one of `DEDUPE`."""
    split: float | None = None
    """The share of the images that are for training, in (0, 1]; None keeps the parts that a source states, else `SHARE`."""
    labels: str | None = None
    """A table inside the source or a path, `folders`, `captions` or `none`; without it labels are looked for."""
    encoding: str | None = None
    """The encoding of tables and captions that have no byte order mark, as Python names it; None is UTF-8."""
    limit: int | None = None
    """How many images of each domain there are at most."""
    seed: int = 0
    """Which images a limit chooses, and which faces are drawn."""
    min_size: int | None = None
    """The shorter side in pixels below which a picture is dropped; half of `size` by default."""
    workers: int | None = None
    """How many processes clean pictures; by default one for each core, at most 8."""
    faces: bool | None = None
    """Whether the faces are cut out of the pictures; None leaves them and says so where most are far from square."""
    margin: float | None = None
    """What is shown around a face on each side, as a share of it, 0 to 2; by default `faces.MARGIN`."""
    detector: str | None = None
    """An ONNX file of the YOLO form that finds the faces; by default the package's own detector."""
    drop: Sequence[str] = ()
    """Which of `faces.NOTICED` are left out."""

    def __post_init__(self) -> None:
        if not 4 <= self.size <= 2048:
            raise UsageError(f"`--resolution {self.size}` is not between 4 and 2048", hint="try `--resolution 64`")
        check_encoding(self.encoding)
        for flag, value, known in (("fit", self.fit, cleaning.FITS), ("dedupe", self.dedupe, DEDUPE)):
            if value not in known:
                raise UsageError(f"`--{flag} {value}` does not exist", hint=f"choose one of {', '.join(known)}")
        if not 0 < self.share <= 1:
            raise UsageError(
                f"`--split {self.split}` is not a share of the images", hint="0.8 keeps 80 % for training, 1 all"
            )
        for flag, number in (("limit", self.limit), ("min-size", self.min_size), ("workers", self.workers)):
            if number is not None and number < 1:
                raise UsageError(f"`--{flag} {number}` is not positive", hint=f"leave `--{flag}` out for the default")
        self._check_faces()

    def _check_faces(self) -> None:
        for name in self.drop:
            if name not in faces.NOTICED:
                raise UsageError(
                    f"`--drop {name}` does not exist", hint=f"choose some of `--drop {','.join(faces.NOTICED)}`"
                )
        if self.margin is not None and not 0 <= self.margin <= 2:
            raise UsageError(f"`--margin {self.margin}` is not between 0 and 2", hint="try `--margin 0.3`")
        if self.margin is not None and not self.faces:
            raise UsageError("`--margin` is about faces that are cut out", hint="add `--faces`")
        if self.detector is not None and self.finder is None:
            raise UsageError("`--detector` has nothing to find", hint="add `--faces`, or `--drop several`")
        if self.faces and self.fit != "crop":
            raise UsageError(
                f"faces are cut out as squares, so `--fit {self.fit}` does nothing",
                hint="leave `--fit` or `--faces` out",
            )

    @property
    def share(self) -> float:
        """The share for training where no source states parts, or these are to be mixed."""
        return SHARE if self.split is None else self.split

    @property
    def recipe(self) -> cleaning.Recipe:
        """What the workers need to know."""
        smallest = self.min_size if self.min_size is not None else max(1, self.size // 2)
        return cleaning.Recipe(self.size, self.fit, smallest)

    @property
    def finder(self) -> Finder | None:
        """How faces are looked for; None where they are not."""
        if self.faces:
            return Finder(True, faces.MARGIN if self.margin is None else self.margin, self.detector)
        return Finder(False, detector=self.detector) if "several" in self.drop else None


@dataclass(frozen=True)
class Request:
    """What `animegen prepare` was asked for."""

    sources: Sequence[str]
    """Folders, archives, `kaggle:OWNER/NAME` or `demo`; the anime faces where there are photographs too."""
    out: Path | None = None
    """The file to write; by default it is named after the sources."""
    options: Options = field(default_factory=Options)
    photos: Sequence[str] = ()
    """The sources of the other domain, for translators."""

    @property
    def path(self) -> Path:
        """The file to write: `out`, or `datasets/<source>-<size>.zip`."""
        if self.out is not None:
            return self.out
        names, others = (
            [spec.rpartition("/")[2] if spec.startswith("kaggle:") else sources.stem(Path(spec)) for spec in specs]
            for specs in (self.sources, self.photos)
        )
        names += [PHOTOS if name == "demo" else name for name in others if name == "demo" or name not in names]
        return Path("datasets") / f"{'+'.join(names)}-{self.options.size}.zip"


@dataclass(frozen=True)
class Prepared:
    """What was written, and what the summary says of it."""

    path: Path
    contact: Path | None
    """The contact sheet; None where it could not be written."""
    about: dict[str, Any]
    """The manifest without its per-image lists."""
    boxes: Path | None = None
    """The sheet of pictures with the boxes of their faces; None where no faces were cut out."""
    leaks: Path | None = None
    """The sheet of near-duplicates between parts that the sources state; None without any."""


@dataclass
class _Domain:
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


class _Stated(NamedTuple):
    """What the source says of a picture."""

    row: np.ndarray
    """Its label numbers, (A,)."""
    test: bool
    """Whether it is for testing."""


def prepare(request: Request) -> Prepared:
    """Write one data set file, and its contact sheet beside it.

    Raises:
        UsageError: the result would replace a source, or a source is given for both domains.
        DataError: a source is missing or damaged as a whole, or nothing usable is left of a domain.
        MachineError: the disk is full or a worker died; what was under the name of the result before stays whole.
    """
    out = request.path
    if any(Path(spec).resolve() == out.resolve() for spec in (*request.sources, *request.photos)):
        raise UsageError(f"{out} is both the source and the result", hint="name another file with `--out`")
    if out.is_dir():
        raise UsageError(f"{out} is a folder", hint=f"name a file, such as `--out {out / 'faces.zip'}`")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return _prepare(request, out)
    except MemoryError:
        raise MachineError(f"memory ran out: {out} was not written", hint="try `--workers 1`") from None
    except OSError as error:
        if error.errno in _FULL:
            raise MachineError(
                f"the disk is full: {out} was not written", hint="free some space, or name another disk with `--out`"
            ) from None
        if error.errno in _FORBIDDEN:
            raise DataError(
                f"{out} cannot be written: {error.strerror}", hint="name another file with `--out`"
            ) from None
        raise MachineError(f"{out} was not written: {error}", hint="check the disk, then try again") from error


def _prepare(request: Request, out: Path) -> Prepared:
    options = request.options
    if options.detector is not None:
        yolo.opened(options.detector)  # a file that is none is an error before any picture is read
    domains = _list_domains(request, out.parent / "downloads")
    indexes = [domain.dataset_index for domain in domains]
    with StoredZip(out) as archive:
        for number, domain in enumerate(domains):
            domain.dataset_index.start = sum(map(len, indexes[:number]))
            _clean_all(domain, options, archive)
            if not len(domain.dataset_index):
                raise _empty(domain, options)
        _refuse_one_domain(indexes)
        for domain in domains:
            domain.dataset_index.close(options.share, domain.given.counts if domain.given else None)
            if domain.given and domain.dataset_index.given is None:
                console.warn(f"nothing is left of one part of the source ({domain.given.said}): split by share")
        about = _about(domains, options)
        sheet = contact_sheet.draw(archive.read, indexes)
        leaking = leaks.pairs_of(archive.read, [leak for index in indexes for leak in index.leaks_in_file])
        archive.add("dataset.json", manifest.dataset_json(indexes))
        archive.add("manifest.json", manifest.manifest_json(indexes, about))
    leaks_path = leaks.save(leaking, about["split"]["leaks"]["images"], out) if leaking else None
    _offer_faces(domains[0], options)
    boxes = domains[0].sheet.draw() if options.faces else None
    contact_path, boxes_path = contact_sheet.path_of(out), boxes_sheet.path_of(out)
    try:
        contact_sheet.save(sheet, contact_path)
        if boxes is not None:
            contact_sheet.save(boxes, boxes_path)
    except OSError as error:  # the set itself is whole
        console.warn(f"the contact sheet was not written: {error.strerror}")
        return Prepared(out, None, about, leaks=leaks_path)
    return Prepared(out, contact_path, about, boxes_path if boxes is not None else None, leaks_path)


def _offer_faces(domain: _Domain, options: Options) -> None:
    """Name `--faces` where most pictures lost much of themselves."""
    if options.faces is None and options.fit == "crop" and 2 * domain.oblong > domain.decoded:
        console.note(
            f"{domain.oblong:,} of {domain.decoded:,} pictures are far from square and were centre-cropped; "
            "`--faces` cuts the faces out"
        )


def _list_domains(request: Request, downloads: Path) -> list[_Domain]:
    """Find the sources of each domain and their labels; an empty domain is an error before any picture is decoded."""
    options = request.options
    two = bool(request.photos)
    asked = (request.sources, request.photos) if two else (request.sources,)
    domains: list[_Domain] = []
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
        domain = _Domain(specs, found, rows, dataset_index, finder, given=given, labels=about_labels)
        for source in found:
            domain.dataset_index.others += source.others
            for member, reason in source.dropped:
                domain.dataset_index.drop(_full_name(found, source, member), reason)
        if not most:
            raise _empty(domain, options)
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


def _refuse_one_domain(indexes: Sequence[DatasetIndex]) -> None:
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
    from animegen_cli import drawn

    places = {name: {value: place for place, value in enumerate(v)} for name, v in drawn.ATTRIBUTES.items()}
    rows = np.empty((len(source.members), len(places)), np.int16)
    for index in range(len(rows)):
        chosen = drawn.attributes(index, seed=options.seed)
        rows[index] = [place[chosen[name]] for name, place in places.items()]
    return labels.Labels(dict(drawn.ATTRIBUTES), rows, "how they were drawn", len(rows))


def _require_drawable(size: int) -> None:
    from animegen_cli import drawn

    if not drawn.MIN_SIZE <= size <= drawn.MAX_SIZE:
        raise UsageError(
            f"faces are drawn at {drawn.MIN_SIZE} to {drawn.MAX_SIZE} pixels, not {size}",
            hint="try `animegen prepare demo --resolution 64`",
        )


def _full_name(found: Sequence[Source], source: Source, name: str) -> str:
    """With several sources, a picture's name begins with its source's."""
    return name if len(found) == 1 else f"{source.name}/{name}"


def _clean_all(domain: _Domain, options: Options, archive: StoredZip) -> None:
    """Clean, check and write pictures of one domain until all are read or the limit is reached."""
    found = domain.found
    rows = domain.rows
    dataset_index = domain.dataset_index
    order = _ranking(found, options)
    limit = len(order) if options.limit is None else min(options.limit, len(order))
    with console.progress(f"preparing {dataset_index.folder[:-1]}".strip(), limit) as bar:
        while len(order) and len(dataset_index) < limit:
            # With a limit, what was dropped is made up for from the rest of the random order.
            taken = np.sort(order[: limit - len(dataset_index)])
            order = order[limit - len(dataset_index) :]
            with closing(_results(domain, taken, options)) as cleaned:
                for number, places, results in cleaned:
                    before = len(dataset_index)
                    for place, seen in zip(places, results, strict=True):
                        name = _full_name(found, found[number], found[number].members[place].name)
                        test = domain.given is not None and bool(domain.given.test[number][place])
                        _take(name, seen, _Stated(rows[number][place], test), options, archive, domain)
                    bar.advance(len(places) if options.limit is None else len(dataset_index) - before)


def _ranking(found: Sequence[Source], options: Options) -> np.ndarray:
    """Numbers of all pictures over all sources; with a limit in a random order that the names and the seed decide."""
    count = sum(len(source.members) for source in found)
    if options.limit is None or options.limit >= count:
        return np.arange(count)
    keys = np.empty(count, np.uint64)
    seed = options.seed.to_bytes(8, "little", signed=True)
    names = (member.name for source in found for member in source.members)
    for number, name in enumerate(names):
        hashed = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, key=seed)
        keys[number] = int.from_bytes(hashed.digest(), "little")
    return np.argsort(keys, kind="stable")


def _results(
    domain: _Domain, taken: np.ndarray, options: Options
) -> Generator[tuple[int, list[int], list[Seen]], None, None]:
    """Clean the pictures `taken` (sorted numbers over all sources), chunk by chunk, in order.

    Yields:
        The number of the source, places among its members, and what became of these.
    """
    sent: deque[tuple[int, list[int]]] = deque()

    def chunks() -> Iterator[Chunk]:
        start = 0
        for number, source in enumerate(domain.found):
            places = taken[(taken >= start) & (taken < start + len(source.members))] - start
            start += len(source.members)
            for chunk, of in _chunks_of(source, places.tolist(), options):
                sent.append((number, of))
                yield chunk._replace(finder=domain.finder)

    workers = options.workers or min(os.cpu_count() or 1, _MOST_WORKERS, 1 + len(taken) // _WORTH_A_WORKER)
    with closing(run(chunks(), workers)) as done:
        for results in done:
            yield *sent.popleft(), results


def _chunks_of(source: Source, places: list[int], options: Options) -> Iterator[tuple[Chunk, list[int]]]:
    recipe = options.recipe
    path = str(source.path)
    if not source.sequential:
        for start in range(0, len(places), _CHUNK):
            of = places[start : start + _CHUNK]
            members = [source.members[place] for place in of]
            yield Chunk(source.kind, path, members, recipe, seed=options.seed), of
        return
    place_of = {source.members[place]: place for place in places}
    pending = reading.stream(source, place_of)
    while some := list(itertools.islice(pending, _CHUNK)):
        members = [member for member, _ in some]
        blobs = [data for _, data in some]
        yield Chunk(source.kind, path, members, recipe, blobs), [place_of[member] for member in members]


def _take(name: str, seen: Seen, stated: _Stated, options: Options, archive: StoredZip, domain: _Domain) -> None:
    """Write the images of one picture, and remember why others are left out."""
    if seen.size is not None:
        domain.decoded += 1
        domain.oblong += max(seen.size) > _OBLONG * min(seen.size)
    if seen.frames > 1 and not all(isinstance(result, cleaning.Rejected) for result in seen.results):
        domain.dataset_index.animations.append((name, seen.frames))
    if seen.overview is not None:
        domain.sheet.add(name, seen.overview, found=any(result.face for result in seen.results))
    for number, result in enumerate(seen.results, 1):
        if options.limit is not None and len(domain.dataset_index) == options.limit:
            return  # a picture has several faces
        _keep_or_drop(
            f"{name}#{number}" if result.face else name, result, stated, options, archive, domain.dataset_index
        )


def _keep_or_drop(
    name: str,
    result: cleaning.Cleaned | cleaning.Rejected,
    stated: _Stated,
    options: Options,
    archive: StoredZip,
    dataset_index: DatasetIndex,
) -> None:
    """Write the image, or remember why it is left out."""
    if isinstance(result, cleaning.Rejected):
        dataset_index.drop(name, result.reason, result.png)
        return
    unwanted = [faces.NOTICED[what] for what in result.noticed if what in options.drop]
    reason = unwanted[0] if unwanted else dataset_index.duplicate(result, options.dedupe, test=stated.test)
    if reason:
        dataset_index.drop(name, reason, result.png)
        return
    archive.add(member_name(len(dataset_index), dataset_index.folder), result.png, result.crc)
    dataset_index.keep(name, result, stated.row, test=stated.test)


def _about(domains: Sequence[_Domain], options: Options) -> dict[str, Any]:
    indexes = [domain.dataset_index for domain in domains]
    about = {
        "sources": [source.name for domain in domains for source in domain.found],
        "size": options.size,
        "fit": options.fit,
        "filter": cleaning.FILTER,
        "min_size": options.recipe.min_size,
        "dedupe": options.dedupe,
        "limit": options.limit,
        "seed": options.seed,
        "identity": manifest.identity(indexes, options.size),
        "labels": [one for domain in domains for one in domain.labels],
        **manifest.about(indexes, options.share),
        **_about_faces(domains[0]),
    }
    for part, domain in zip(about.get("by_domain", {}).values(), domains, strict=False):
        part["sources"] = [source.name for source in domain.found]
    return about


def _about_faces(domain: _Domain) -> dict[str, Any]:
    """What the manifest says of the faces that were cut out."""
    finder = domain.finder
    if finder is None or not finder.cut:
        return {}
    own = hashlib.sha256(Path(finder.detector or face_detector.WEIGHTS).read_bytes()).hexdigest()
    return {
        "cut": {
            "margin": finder.margin,
            "detector": Path(finder.detector).name if finder.detector else "animegen",
            "detector_sha256": own,
            "pictures": domain.sheet.pictures,
            "without_a_face": len(domain.sheet.empty),
            "such_as": domain.sheet.empty[:3],
        }
    }


def _led_to(domain: _Domain) -> Path:
    """Where the first broken link of a domain points to."""
    for source in domain.found:
        for name, reason in source.dropped:
            if reason == "broken link":
                return (source.path / name).readlink()
    return Path()


def _empty(domain: _Domain, options: Options) -> DataError:
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
