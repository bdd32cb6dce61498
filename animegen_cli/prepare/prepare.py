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
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from animegen_cli import console
from animegen_cli.data import cleaning, manifest, reading
from animegen_cli.data.index import DatasetIndex, member_name
from animegen_cli.errors import DataError, MachineError, UsageError
from animegen_cli.prepare import boxes_sheet, contact_sheet, face_detector, faces, leaks, yolo
from animegen_cli.prepare.domains import Domain, full_name, list_domains, nothing_usable, refuse_one_domain
from animegen_cli.prepare.workers import Chunk, run
from animegen_cli.prepare.zip_writer import StoredZip

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from animegen_cli.data.sources import Source
    from animegen_cli.prepare.faces import Seen
    from animegen_cli.prepare.request import Options, Request

_CHUNK = 16  # pictures that travel together
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
_MOST_WORKERS = 8  # decoding outruns one writer beyond this, and each worker takes 25 MB
_OBLONG = 1.2  # the longer side over the shorter from which on a picture is far from square
_WORTH_A_WORKER = 400  # pictures that pay for starting one more process


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
    domains = list_domains(request, out.parent / "downloads")
    indexes = [domain.dataset_index for domain in domains]
    with StoredZip(out) as archive:
        for number, domain in enumerate(domains):
            domain.dataset_index.start = sum(map(len, indexes[:number]))
            _clean_all(domain, options, archive)
            if not len(domain.dataset_index):
                raise nothing_usable(domain, options)
        refuse_one_domain(indexes)
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


def _offer_faces(domain: Domain, options: Options) -> None:
    """Name `--faces` where most pictures lost much of themselves."""
    if options.faces is None and options.fit == "crop" and 2 * domain.oblong > domain.decoded:
        console.note(
            f"{domain.oblong:,} of {domain.decoded:,} pictures are far from square and were centre-cropped; "
            "`--faces` cuts the faces out"
        )


def _clean_all(domain: Domain, options: Options, archive: StoredZip) -> None:
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
                        name = full_name(found, found[number], found[number].members[place].name)
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
    domain: Domain, taken: np.ndarray, options: Options
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


def _take(name: str, seen: Seen, stated: _Stated, options: Options, archive: StoredZip, domain: Domain) -> None:
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


def _about(domains: Sequence[Domain], options: Options) -> dict[str, Any]:
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


def _about_faces(domain: Domain) -> dict[str, Any]:
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
