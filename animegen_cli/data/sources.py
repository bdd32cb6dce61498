"""Where pictures come from: folders, zip and tar archives read in place, Kaggle downloads, the drawn faces.

Nothing is ever unpacked to disk, so a member's name can do no harm; names that would have been dangerous
(`../`, absolute) and links are left out all the same, and counted.
"""

from __future__ import annotations

import functools
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, overload

import numpy as np

from animegen_cli.data import archive_names, folder_walk, npz_file, parquet, part_names, pictures, zip_reader
from animegen_cli.data.pictures import ending
from animegen_cli.errors import DataError
from animegen_cli.paths import similar

_TABLES = ".csv .tsv .tab .txt .json .jsonl .ndjson .parquet .mat .caption .captions .tags .cls"
_TABLES_NOT_READ = ".xlsx .xls .ods .arrow .feather .xml"
TEXTS = frozenset([*_TABLES.split(), *_TABLES_NOT_READ.split()])
"""The endings of files that may hold labels; of those that are not read a person is told so."""
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""The endings of archives that are read."""
_CONTAINERS = (*ARCHIVES, ".parquet")
OTHER_ARCHIVES = (".rar", ".7z", ".cbr", ".cb7", ".tar.zst", ".tzst", ".lzh", ".001")
"""The endings of archives that are not."""
MAX_BYTES = 128 * 2**20
"""The largest picture or label file: beyond it lies a bomb, not a face."""
FORMAT = "animegen-faces"
"""What the manifest of a data set file calls itself."""
DOMAINS = ANIME, PHOTOS = "anime", "photos"
"""The two domains of a set for translators, as its folders are named."""
_OF_SETS = ("manifest.json", "dataset.json")  # with a line for each image; tables that are too large are named later
_OF_DOMAIN = re.compile(rf"({ANIME}|{PHOTOS})/\d{{5}}/img\d{{8}}\.png")
_HEAD_PACKED = 4096  # bytes of a member of a zip that surely unpack to its head


class Unusable(Exception):
    """One picture cannot be used; the text is the reason that the summary counts."""


class Member(NamedTuple):
    """One file of a source. Only `name` and `size` mean anything in a folder."""

    name: str
    """Relative to the source, with `/`."""
    start: int = 0
    """Zip: offset of the local header; tar: of the data."""
    packed: int = 0
    size: int = 0
    crc: int = 0
    method: int = 0
    """Zip compression method."""


class Members(Sequence[Member]):
    """A sequence of members that takes a fifth of the memory of a list."""

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self._names: list[str] = []
        self._numbers = array("q")
        for member in members:
            self.append(member)

    def append(self, member: Member) -> None:
        """Add a member at the end."""
        self._names.append(member.name)
        self._numbers.extend(member[1:])

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Member: ...

    @overload
    def __getitem__(self, index: slice) -> Members: ...

    def __getitem__(self, index: int | slice) -> Member | Members:
        if isinstance(index, slice):
            return Members(self[place] for place in range(len(self))[index])
        place = range(len(self))[index]
        return Member(self._names[place], *self._numbers[_NUMBERS * place : _NUMBERS * (place + 1)])

    @property
    def names(self) -> Sequence[str]:
        """The names of all members."""
        return self._names

    def rename(self, change: Callable[[str], str]) -> None:
        """Give every member the name that `change` makes of its own."""
        self._names = [change(name) for name in self._names]

    def sort(self) -> None:
        """Sort the members by name."""
        order = sorted(range(len(self)), key=self._names.__getitem__)
        numbers = np.frombuffer(self._numbers, np.int64).reshape(-1, _NUMBERS)[order]
        self._names = [self._names[index] for index in order]
        self._numbers = array("q", numbers.tobytes())


_NUMBERS = len(Member._fields) - 1


@dataclass
class Source:
    """A listed source: nothing is decoded yet."""

    name: str
    kind: str
    """folder, zip, tar, stream (a compressed tar), parquet, npz (these sequential only), drawn or drawn-photos."""
    path: Path
    members: Members = field(default_factory=Members)
    texts: list[Member] = field(default_factory=list)
    """Files that may hold labels."""
    archives: list[Path] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason) of the pictures that the listing already leaves out."""
    others: int = 0
    """How many files are neither pictures nor may hold labels."""
    encoding: str | None = None
    """Of an archive's names, where it had to be guessed; a key of `archive_names.SPOKEN`."""
    beside: Source | None = None
    """The folder that an archive was found in: it may hold the labels."""
    half: bool = False
    """Whether these are the members of one domain out of a set of two."""

    @property
    def drawn(self) -> bool:
        """Whether its pictures are made as they are needed."""
        return self.kind.startswith("drawn")

    @property
    def most_json(self) -> int:
        """Bytes of the largest manifest or list of labels that is believed: those of a set hold some 100 for each image."""
        return 2**25 + 2000 * len(self.members)

    @property
    def sequential(self) -> bool:
        """Whether its pictures can only be read in their order, by `reading.stream`."""
        return self.kind in ("stream", "parquet", "npz")

    def take(self, member: Member, head: Callable[[], bytes]) -> None:
        """Sort a regular file into pictures, label files, pictures that are left out, or others.

        Args:
            member: the file.
            head: reads its first bytes, which decide where the name does not.
        """
        name, suffix = member.name, ending(member.name)
        reason = pictures.left_out(name)
        if suffix in TEXTS and reason is None and not (name in _OF_SETS and member.size > 8 * MAX_BYTES):
            self.texts.append(member)
            return
        if not pictures.is_debris(name):
            if suffix in pictures.PICTURES:
                self._add(member, reason)
                return
            if pictures.named_as_picture(name):
                self._add(member, reason or pictures.not_read(name))
                return
            if reason is None and suffix not in TEXTS and (kind := pictures.kind_of(head())):
                self._add(member, pictures.unread(kind) if kind in pictures.NOT_READ else None)
                return
        self.others += 1

    def _add(self, member: Member, reason: str | None) -> None:
        """One more picture of the source; with a reason, one that is left out."""
        if reason is None and member.size > MAX_BYTES:
            reason = "file too large"
        if reason is None:
            self.members.append(member)
        else:
            self.dropped.append((member.name, reason))

    def refuse(self, name: str, reason: str) -> None:
        """Leave out a file for a reason; one that is no picture by its ending counts among the others."""
        if pictures.named_as_picture(name) and not pictures.is_debris(name):
            self.dropped.append((name, reason))
        else:
            self.others += 1

    def rename(self, change: Callable[[str], str]) -> None:
        """Give every file the name that `change` makes of its own."""
        self.members.rename(change)
        self.texts = [member._replace(name=change(member.name)) for member in self.texts]
        self.dropped = [(change(name), reason) for name, reason in self.dropped]

    def forget(self, *files: Path) -> None:
        """Say nothing of these files, which are not pictures that somebody left here, but results of ours."""
        own = {file.resolve() for file in files}
        names = {file.name for file in own}
        if self.kind == "folder":
            self.dropped = [
                (name, reason)
                for name, reason in self.dropped
                if not (name.rpartition("/")[2] in names and (self.path / name).resolve() in own)
            ]

    def sort(self) -> Source:
        """Put all lists in the order of their names, whatever the order of the file system; what is sequential keeps its own."""
        if not self.sequential:
            self.members.sort()
        self.texts.sort()
        self.dropped.sort()
        return self


def find(specs: Sequence[str], *, downloads: Path, domain: str | None = None) -> list[Source]:
    """List every source that the command line names, in its order.

    Args:
        specs: paths, `kaggle:OWNER/NAME` or `demo` (always the drawn faces; a folder of that name is `./demo`).
        downloads: folder that keeps Kaggle archives.
        domain: the half to take of a set of two domains; among photos, `demo` is drawn in their style.

    Raises:
        DataError: a path that is missing, unreadable or of an unknown kind; a set of two domains without `domain`.
    """
    sources: list[Source] = []
    for spec in specs:
        if spec == "demo":  # a folder of that name, such as `animegen demo` leaves, is `./demo`
            photos = domain == PHOTOS
            sources.append(Source("demo-photos" if photos else "demo", "drawn-photos" if photos else "drawn", Path()))
        elif spec.startswith("kaggle:"):
            from animegen_cli.data import kaggle

            sources.append(listed(kaggle.download(spec, downloads)))
        else:
            sources += _with_archives(listed(Path(spec)))
    names: dict[str, int] = {}
    for source in sources:
        _say_encoding(source)
        _take_half(source, domain)
        names[source.name] = names.get(source.name, 0) + 1
        if names[source.name] > 1:
            source.name += f"-{names[source.name]}"
    return sources


def _say_encoding(source: Source) -> None:
    if source.encoding is not None:
        from animegen_cli import console  # here, because the workers that clean pictures speak to nobody

        spoken = archive_names.SPOKEN[source.encoding]
        console.note(f"{source.path} does not say how its names are encoded: read as {spoken}")


def has_two_domains(source: Source) -> bool:
    """Whether it is a set of two domains: one that `prepare` wrote, or a folder in the form of CycleGAN's."""
    return bool(_halves(source))


def _halves(source: Source) -> dict[str, str]:
    """The domain of each half by its name, empty for a source of one domain; CycleGAN's A are photographs, as in selfie2anime."""
    if len(source.members) and all(_OF_DOMAIN.fullmatch(name) for name in source.members.names):
        return {name: name for name in DOMAINS}
    if {part_names.half_of(name) for name in source.members.names} - {""} == {"A", "B"}:
        return {"A": PHOTOS, "B": ANIME}
    return {}


def _take_half(source: Source, domain: str | None) -> None:
    """Of a set of two domains keep one."""
    halves = _halves(source)
    if not halves:
        return
    if domain is None:
        said = "; trainA/ and testA/ are taken for the photographs, trainB/ and testB/ for the anime faces"
        raise DataError(
            f"{source.path} holds two domains",
            hint=f"type `animegen prepare --photos {source.path} --anime {source.path}` to keep both"
            + (said if "A" in halves else ""),
        )
    source.half = True
    kept = next(name for name, of in halves.items() if of == domain)
    source.members = Members(
        member for member in source.members if kept in (part_names.half_of(member.name), member.name.partition("/")[0])
    )


def _with_archives(source: Source) -> list[Source]:
    """A folder without pictures but with archives or Parquet files (as they are downloaded) means those."""
    inside = source.archives or _parts(source)
    if source.members or source.kind != "folder" or not inside:
        for path in source.archives:
            name = folder_walk.slashes(os.path.relpath(path, source.path))
            source.dropped.append((name, "archive beside pictures, name it as a source"))
        return [source.sort()]
    inner = [listed(path) for path in sorted(inside)]
    for archive in inner:
        archive.beside = source
    return inner


def _parts(source: Source) -> list[Path]:
    """The Parquet files of a folder without pictures, if these hold some; they are no tables then."""
    if source.members or source.kind != "folder":
        return []
    found = [text for text in source.texts if ending(text.name) == ".parquet"]
    parts = [text for text in found if parquet.holds_pictures(source.path / text.name)] or found
    source.texts = [text for text in source.texts if text not in parts]
    return [source.path / text.name for text in parts]


def _lister(path: Path) -> Callable[[Path, str], Source] | None:
    """What lists a file of this kind; None where no function does."""
    if ending(path.name) == ".npz" or npz_file.names(path) is not None:
        return _list_npz
    if zipfile.is_zipfile(path):
        return _list_zip
    if ending(path.name) == ".parquet":
        return _list_parquet
    return _list_tar if tarfile.is_tarfile(path) else None


def listed(path: Path) -> Source:
    """List one folder or archive.

    Raises:
        DataError: it is missing, unreadable, damaged or of an unknown kind.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise DataError(
            f"there is no {path}", hint=similar(path) or "check the path; `animegen prepare demo` needs no pictures"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from None
    name = stem(path)
    try:
        if stat.S_ISDIR(mode):
            return _list_folder(path, name)
        if (lister := _lister(path)) is not None:
            return lister(path, name)
    except PermissionError:
        raise DataError(f"{path} cannot be read: no permission", hint=f"try `chmod -R u+rX {path}`") from None
    except (
        OSError,
        EOFError,
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        ValueError,
        struct.error,
    ) as error:
        raise DataError(f"{path} is damaged: {error}", hint="download or pack it again") from None
    if path.name.lower().endswith(ARCHIVES):
        raise DataError(f"{path} is damaged: not a whole archive", hint="download or pack it again")
    raise DataError(
        f"{path} is neither a folder nor a zip or tar archive",
        hint="name a folder of pictures, an archive, `kaggle:OWNER/NAME` or `demo`",
    )


def stem(path: Path) -> str:
    """Give the name of a source without its archive endings: `faces` of `x/faces.tar.gz`."""
    name = path.name if path.name not in ("", "..") else path.resolve().name
    for suffix in sorted(_CONTAINERS, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)] or "faces"
    return name or "faces"


# ---- folders ---------------------------------------------------------------------------------------------------


def _list_folder(root: Path, name: str) -> Source:
    source = Source(name, "folder", root)
    for found in folder_walk.walk(root):
        low = found.name.lower()
        if found.reason is not None:
            # A folder, or a link without an ending, may have led to many pictures.
            if found.name.endswith("/") or (found.reason == "broken link" and not ending(found.name)):
                source.dropped.append((found.name, found.reason))
            else:
                source.refuse(found.name, found.reason)
        elif low.endswith(ARCHIVES) and pictures.left_out(found.name) is None:
            source.archives.append(Path(found.path))
        elif low.endswith(OTHER_ARCHIVES):
            source.dropped.append((found.name, "archive of a kind that is not read, unpack it"))
        else:
            source.take(Member(found.name, size=found.size), functools.partial(_head_of, found.path))
    return source.sort()


def _head_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(pictures.HEAD)
    except OSError:
        return b""


# ---- archives --------------------------------------------------------------------------------------------------


def _unsafe(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/") or bool(re.match(r"[A-Za-z]:", name))


def _list_zip(path: Path, name: str) -> Source:
    source = Source(name, "zip", path)
    with path.open("rb") as file:
        source.encoding = zip_reader.encoding_of(file)
        for entry in zip_reader.entries(file, source.encoding):
            inner = entry.name.replace("\\", "/")
            if inner.endswith("/"):
                continue
            if _unsafe(inner):
                source.refuse(inner, "unsafe name in an archive")
            elif stat.S_ISLNK(entry.mode):
                source.refuse(inner, "link in an archive")
            elif entry.encrypted:
                source.refuse(inner, "encrypted")
            else:
                member = Member(inner, entry.start, entry.packed, entry.size, entry.crc, entry.method)
                _take_packed(source, member, functools.partial(_head_in_zip, file, member))
    return source.sort()


def _take_packed(source: Source, member: Member, head: Callable[[], bytes]) -> None:
    if member.name.lower().endswith((*ARCHIVES, *OTHER_ARCHIVES)) and not pictures.is_debris(member.name):
        source.dropped.append((member.name, "archive inside an archive, unpack it"))
    else:
        source.take(member, head)


def _head_in_zip(file: IO[bytes], member: Member) -> bytes:
    try:
        packed = min(member.packed, _HEAD_PACKED)
        return zip_reader.read(file, member.start, packed, min(member.size, pictures.HEAD), member.method)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        return b""


def _list_tar(path: Path, name: str) -> Source:
    with path.open("rb") as file:
        kind = "stream" if _compressed(file) else "tar"
    source = Source(name, kind, path)
    undecoded: list[bytes] = []
    for info, head in _tar_members(path):
        inner = info.name.removeprefix("./")
        if any("\udc80" <= letter <= "\udcff" for letter in inner):
            undecoded.append(_raw(inner))
        if _unsafe(inner):
            source.refuse(inner, "unsafe name in an archive")
        elif info.issym() or info.islnk():
            source.refuse(inner, "link in an archive")
        elif info.isfile() and info.sparse is not None:
            source.refuse(inner, "sparse file in an archive")
        elif info.isfile():
            _take_packed(source, Member(inner, info.offset_data, info.size, info.size), head)
        elif not info.isdir():
            source.refuse(inner, "not a regular file")
    if undecoded:
        encoding = source.encoding = archive_names.guess(undecoded)
        source.rename(lambda name: _raw(name).decode(encoding, "replace"))
    return source.sort()


def _list_parquet(path: Path, name: str) -> Source:
    source = Source(name, "parquet", path)
    part = re.fullmatch(r"(\w+)-\d+-of-\d+", name)  # `datasets` writes `test-00000-of-00001.parquet`
    folder = f"{part[1]}/" if part and part_names.read(part[1]) else ""
    for row, inner in enumerate(parquet.picture_names(path)):
        source.members.append(Member(folder + inner, row))
    return source


def _list_npz(path: Path, name: str) -> Source:
    reader = npz_file.ArrayReader(path)
    if reader.labels is not None:
        from animegen_cli import console

        console.warn(f"the classes of {path} stay behind; `animegen train --data {path}` reads them")
    return Source(name, "npz", path, Members(Member(f"{inner}.ppm", row) for row, inner in enumerate(reader.names)))


def _raw(name: str) -> bytes:
    """The bytes of a name as the tar holds them: what is no UTF-8 is in Python's surrogates."""
    return name.encode("utf-8", "surrogateescape")


def _compressed(file: IO[bytes]) -> bool:
    head = file.read(6)
    return head[:2] == b"\x1f\x8b" or head[:3] == b"BZh" or head == b"\xfd7zXZ\x00"


def _tar_members(path: Path) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """Headers in order, each with what reads the first bytes; forgets each one, so that a million members take no memory."""
    with tarfile.open(path, "r:*", encoding="utf-8", errors="surrogateescape") as archive:

        def head(info: tarfile.TarInfo) -> bytes:
            file = archive.extractfile(info)
            return file.read(pictures.HEAD) if file else b""

        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]
            yield info, functools.partial(head, info)
