"""Where pictures come from: folders, zip and tar archives read in place, Kaggle downloads, the drawn faces.

Nothing is ever unpacked to disk, so a member's name can do no harm; names that would have been dangerous
(`../`, absolute) and links are left out all the same, and counted.
"""

from __future__ import annotations

import bz2
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, overload

import numpy as np

from animegen_cli.data import zip_reader
from animegen_cli.errors import DataError
from animegen_cli.paths import similar

_SUFFIXES = ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .mpo"
PICTURES = frozenset(_SUFFIXES.split())
"""The endings of pictures, in lower case."""
TEXTS = frozenset((".csv", ".tsv", ".txt", ".json", ".mat"))
"""The endings of files that may hold labels."""
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_BYTES = 128 * 2**20
"""The largest picture or label file: beyond it lies a bomb, not a face."""
DOMAINS = ANIME, PHOTOS = "anime", "photos"
"""The two domains of a set for translators, as its folders are named."""
_OF_DOMAIN = re.compile(rf"({ANIME}|{PHOTOS})/\d{{5}}/img\d{{8}}\.png")
_MASKS = re.compile(r"(^|/)(CelebAMask-HQ-mask-anno|segmim|__MACOSX)/|(^|/)\.|\.contact\.png$")


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
    """folder, zip, tar, stream (a compressed tar: sequential only), drawn or drawn-photos."""
    path: Path
    members: Members = field(default_factory=Members)
    texts: list[Member] = field(default_factory=list)
    """Files that may hold labels."""
    archives: list[Path] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason) of what the listing already leaves out."""
    beside: Source | None = None
    """The folder that an archive was found in: it may hold the labels."""
    half: bool = False
    """Whether these are the members of one domain out of a set of two."""

    @property
    def drawn(self) -> bool:
        """Whether its pictures are made as they are needed."""
        return self.kind.startswith("drawn")

    def take(self, member: Member) -> None:
        """Sort a regular file into pictures, label files or neither."""
        suffix = ending(member.name)
        if _MASKS.search(member.name):
            return
        if suffix in PICTURES:
            if member.size > MAX_BYTES:
                self.dropped.append((member.name, "file too large"))
            else:
                self.members.append(member)
        elif suffix in TEXTS and member.size <= MAX_BYTES:
            self.texts.append(member)

    def refuse(self, name: str, reason: str) -> None:
        """Leave out a picture (other kinds of files are left out without a word)."""
        if ending(name) in PICTURES:
            self.dropped.append((name, reason))

    def sort(self) -> Source:
        """Put all lists in the order of their names, whatever the order of the file system; a stream keeps its own."""
        if self.kind != "stream":
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

            sources.append(_list(kaggle.download(spec, downloads)))
        else:
            sources += _with_archives(_list(Path(spec)))
    names: dict[str, int] = {}
    for source in sources:
        _take_half(source, domain)
        names[source.name] = names.get(source.name, 0) + 1
        if names[source.name] > 1:
            source.name += f"-{names[source.name]}"
    return sources


def _take_half(source: Source, domain: str | None) -> None:
    """Of a set of two domains that `prepare` wrote, keep one."""
    if not len(source.members) or not all(_OF_DOMAIN.fullmatch(member.name) for member in source.members):
        return
    if domain is None:
        raise DataError(
            f"{source.path} holds two domains",
            hint=f"type `animegen prepare --photos {source.path} --anime {source.path}` to keep both",
        )
    source.half = True
    source.members = Members(member for member in source.members if member.name.startswith(f"{domain}/"))


def _with_archives(source: Source) -> list[Source]:
    """A folder without pictures but with archives (as they are downloaded) means those archives."""
    if source.members or not source.archives:
        return [source]
    inner = [_list(path) for path in sorted(source.archives)]
    for archive in inner:
        archive.beside = source
    return inner


def _list(path: Path) -> Source:
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
        if zipfile.is_zipfile(path):
            return _list_zip(path, name)
        if tarfile.is_tarfile(path):
            return _list_tar(path, name)
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


def ending(name: str) -> str:
    """Give the ending of a name in lower case: `.jpg` of `x/1.JPG`."""
    return os.path.splitext(name)[1].lower()


def stem(path: Path) -> str:
    """Give the name of a source without its archive endings: `faces` of `x/faces.tar.gz`."""
    name = path.name if path.name not in ("", "..") else path.resolve().name
    for ending in sorted(ARCHIVES, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)] or "faces"
    return name or "faces"


# ---- folders ---------------------------------------------------------------------------------------------------


def _list_folder(root: Path, name: str) -> Source:
    source = Source(name, "folder", root)
    os.scandir(root).close()  # a root without permission is an error, a folder further down is counted
    start = len(os.path.join(root, ""))

    def unreadable(error: OSError) -> None:
        source.dropped.append((_slashes(str(error.filename)[start:]) + "/", "folder without permission"))

    for folder, subfolders, files in os.walk(root, onerror=unreadable):
        for sub in subfolders:
            if os.path.islink(os.path.join(folder, sub)):
                source.dropped.append((_slashes(os.path.join(folder, sub)[start:]) + "/", "link to a folder"))
        for file in files:
            path = os.path.join(folder, file)
            relative = _slashes(path[start:])
            try:
                status = os.stat(path)
            except OSError:
                source.refuse(relative, "broken link")
                continue
            if not stat.S_ISREG(status.st_mode):
                source.refuse(relative, "not a regular file")
            elif file.lower().endswith(ARCHIVES):
                source.archives.append(Path(path))
            else:
                source.take(Member(relative, size=status.st_size))
    return source.sort()


def _slashes(path: str) -> str:
    return path.replace(os.sep, "/")


# ---- archives --------------------------------------------------------------------------------------------------


def _unsafe(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/") or bool(re.match(r"[A-Za-z]:", name))


def _list_zip(path: Path, name: str) -> Source:
    source = Source(name, "zip", path)
    with path.open("rb") as file:
        for entry in zip_reader.entries(file):
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
                source.take(Member(inner, entry.start, entry.packed, entry.size, entry.crc, entry.method))
    return source.sort()


def _list_tar(path: Path, name: str) -> Source:
    with path.open("rb") as file:
        kind = "stream" if _compressed(file) else "tar"
    source = Source(name, kind, path)
    for info in _tar_members(path):
        inner = info.name.removeprefix("./")
        if _unsafe(inner):
            source.refuse(inner, "unsafe name in an archive")
        elif info.issym() or info.islnk():
            source.refuse(inner, "link in an archive")
        elif info.isfile() and info.sparse is not None:
            source.refuse(inner, "sparse file in an archive")
        elif info.isfile():
            source.take(Member(inner, info.offset_data, info.size, info.size))
        elif not info.isdir():
            source.refuse(inner, "not a regular file")
    return source.sort()


def _compressed(file: IO[bytes]) -> bool:
    head = file.read(6)
    return head[:2] == b"\x1f\x8b" or head[:3] == b"BZh" or head == b"\xfd7zXZ\x00"


def _tar_members(path: Path) -> Iterator[tarfile.TarInfo]:
    """Headers in order; forgets each one, so that a million members take no memory."""
    with tarfile.open(path, "r:*") as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]
            yield info


def stream(source: Source, wanted: Iterable[Member]) -> Iterator[tuple[Member, bytes]]:
    """Read the wanted members of a compressed tar in the order of the archive, each with its bytes.

    Raises:
        DataError: the archive is damaged.
    """
    by_name = {member.name: member for member in wanted}
    try:
        with tarfile.open(source.path, "r|*") as archive:
            for info in archive:
                archive.members = []  # type: ignore[attr-defined]
                member = by_name.pop(info.name.removeprefix("./"), None)
                if member is not None and info.isfile():
                    file = archive.extractfile(info)
                    yield member, file.read() if file else b""
    except (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{source.path} is damaged: {error}", hint="download or pack it again") from None


class Reader:
    """Reads members by their place, without the archive's directory. Keeps the last archive open."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._file: IO[bytes] | None = None

    def read(self, kind: str, path: str, member: Member) -> bytes:
        """Read one member.

        Args:
            kind: the kind of the source: folder, zip or tar.
            path: the folder or archive.
            member: what to read, as the source lists it.

        Raises:
            Unusable: the member cannot be read.
        """
        try:
            if kind == "folder":
                with open(os.path.join(path, member.name), "rb") as file:
                    return file.read(MAX_BYTES + 1)
            archive = self._open(path)
            archive.seek(member.start)
            return archive.read(member.size) if kind == "tar" else _unzip(archive, member)
        except PermissionError:
            raise Unusable("file without permission") from None
        except MemoryError:
            raise Unusable("file too large") from None
        except NotImplementedError:
            raise Unusable("unknown compression in an archive") from None
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise Unusable("damaged in its archive" if kind != "folder" else "unreadable") from error

    def _open(self, path: str) -> IO[bytes]:
        if path != self._path or self._file is None:
            self.close()
            self._file = open(path, "rb")  # noqa: SIM115 - kept for the next member
            self._path = path
        return self._file

    def close(self) -> None:
        """Close the archive."""
        if self._file is not None:
            self._file.close()
        self._file = self._path = None


def _unzip(file: IO[bytes], member: Member) -> bytes:
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("no local header")
    file.seek(sum(struct.unpack("<2H", header[26:30])), os.SEEK_CUR)
    if member.method == zipfile.ZIP_STORED:
        data = file.read(member.size)
    elif member.method == zipfile.ZIP_DEFLATED:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(member.packed), member.size + 1)
    elif member.method == zipfile.ZIP_BZIP2:
        data = bz2.BZ2Decompressor().decompress(file.read(member.packed), member.size + 1)
    else:
        raise NotImplementedError(f"zip method {member.method}")
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise zipfile.BadZipFile("wrong length or checksum")
    return data


def read_text(source: Source, member: Member) -> bytes:
    """Read a label file of the source.

    Raises:
        DataError: it is damaged.
    """
    try:
        if source.kind == "stream":
            return next((data for _, data in stream(source, [member])), b"")
        reader = Reader()
        try:
            return reader.read(source.kind, str(source.path), member)
        finally:
            reader.close()
    except Unusable as error:
        raise DataError(f"{member.name} in {source.name} cannot be read: {error}", hint="check the archive") from None
