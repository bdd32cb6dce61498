"""Reads the members of a source: one by one by their place, or all of a compressed tar or a Parquet file in its own order."""

from __future__ import annotations

import lzma
import os
import tarfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

from animegen_cli.data import npz_file, parquet, zip_reader
from animegen_cli.data.sources import MAX_BYTES, Member, Source, Unusable
from animegen_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def stream(source: Source, wanted: Iterable[Member]) -> Iterator[tuple[Member, bytes]]:
    """Read the wanted members of a sequential source in its order, each with its bytes.

    Raises:
        DataError: the archive is damaged.
    """
    by_place = {member.start: member for member in wanted}  # two files may have one name
    if source.kind == "parquet":
        for row, data in parquet.pictures(source.path, by_place):
            yield by_place[row], data
        return
    if source.kind == "npz":
        image = npz_file.ArrayReader(source.path)
        for row in sorted(by_place):
            yield by_place[row], image(row)
        return
    try:
        with tarfile.open(source.path, "r|*") as archive:
            for info in archive:
                archive.members = []  # type: ignore[attr-defined]
                member = by_place.pop(info.offset_data, None)
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
            if kind != "tar":
                return _unzip(archive, member)
            archive.seek(member.start)
            return archive.read(member.size)
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

    def __del__(self) -> None:
        """Close the archive with the last user of the reader, whichever thread or set that is."""
        self.close()


def _unzip(file: IO[bytes], member: Member) -> bytes:
    data = zip_reader.read(file, member.start, member.packed, member.size, member.method)
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise zipfile.BadZipFile("wrong length or checksum")
    return data


def read_text(source: Source, member: Member, most: int | None = None) -> bytes:
    """Read a label file of the source.

    Raises:
        DataError: it is damaged, or larger than `most` bytes.
    """
    if most is not None and member.size > most:
        raise DataError(
            f"{member.name} in {source.name} is larger than {most >> 20} MB", hint="check who packed the archive"
        )
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


def read_texts(source: Source, wanted: Sequence[Member]) -> Iterator[tuple[Member, bytes | Unusable]]:
    """Read label files of the source, a compressed tar once for all of them: each with its bytes, or why it has none.

    Raises:
        DataError: the archive as a whole is damaged.
    """
    if source.kind == "stream" and wanted:
        yield from stream(source, wanted)
        return
    reader = Reader()
    try:
        for member in wanted:
            data: bytes | Unusable
            try:
                data = reader.read(source.kind, str(source.path), member)
            except Unusable as error:
                data = error
            yield member, data
    finally:
        reader.close()
