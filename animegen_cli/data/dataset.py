"""Reading images back: a data set file of `prepare`, any StyleGAN2/3 or EDM zip, a NumPy archive, or a plain folder or archive."""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from animegen_cli import console, disk
from animegen_cli.data import npz_file
from animegen_cli.data.cleaning import FILTER, digest
from animegen_cli.data.decoding import decode
from animegen_cli.data.labels import set_file
from animegen_cli.data.manifest import VERSION, identity_of, identity_of_domains, manifest_problem
from animegen_cli.data.reading import Reader, read_text
from animegen_cli.data.sources import ANIME, DOMAINS, FORMAT, PHOTOS, Source, Unusable, listed
from animegen_cli.errors import DataError, UsageError
from animegen_cli.paths import similar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_THREADS = min(8, os.cpu_count() or 1)
_NO_IMAGE = "name a folder of PNG or JPEG files, or a data set file"
_MAKE = "make one with `animegen prepare ./faces`"


class FaceSet:
    """Square RGB images of one size with labels, split and identity. Open it with `FaceSet.open`.

    Indices count the images of all domains; those of the first come first, and whoever names no domain means it.
    Safe to use from several threads, and to send to another process.
    """

    def __init__(self, path: Path, names: Sequence[str], read: Callable[[int], bytes], about: dict[str, Any]) -> None:
        """Hold images that `read` gives the bytes of by their number; `names` are those of their files, in this order."""
        self.path = path
        self.name = path.stem if path.is_file() else path.resolve().name
        self._names = names
        self._read = read
        self._about = about
        self.attributes: dict[str, tuple[str, ...]] = about.get("attributes", {})
        self.domains: tuple[str, ...] = tuple(about.get("domains", ("anime",)))
        self._labels: np.ndarray | None = about.get("labels")
        with _picture(self._bytes(0), self.member(0), path) as first:
            self.width, self.height = first.size

    @classmethod
    def open(cls, path: Path | str) -> FaceSet:
        """Open a data set file, a folder of images or a NumPy archive of them.

        Raises:
            DataError: it is missing, cut short, empty, or no data set at all.
        """
        path = Path(path)
        if not path.exists():
            raise DataError(f"there is no data set {path}", hint=similar(path) or _MAKE)
        if path.suffix.lower() == ".npz" or npz_file.names(path) is not None:
            return _open_npz(path)
        try:
            source = listed(path)
        except DataError as error:
            if path.is_dir() or "no permission" in error.message:
                raise
            raise DataError(
                f"{path} is no whole data set file: {error.message.removeprefix(f'{path} is ')}",
                hint=f"it was cut short or is something else; {_MAKE}",
            ) from None
        if source.kind == "stream":
            hint = f"prepare it first: `animegen prepare {path}`"
            raise DataError(f"{path} is a compressed tar, whose pictures cannot be read in any order", hint=hint)
        if not source.members:
            raise DataError(
                f"there is no image in {path}{_reasons(source)}", hint=_NO_IMAGE if path.is_dir() else _MAKE
            )
        if source.kind != "folder" and (name := _twice(source)):
            raise DataError(f"{path} holds two files named {name}", hint="pack the set again, or prepare it")
        if source.dropped:
            console.note(f"{path}: {len(source.members):,} images{_reasons(source)}")
        return cls(path, source.members.names, _MemberReader(source), _about(path, source))

    def __len__(self) -> int:
        return len(self._names)

    @property
    def size(self) -> int:
        """Height and width in pixels; the shorter of both where images are not square."""
        return min(self.width, self.height)

    @property
    def square(self) -> bool:
        """Whether the images are square."""
        return self.width == self.height

    @property
    def manifest(self) -> dict[str, Any]:
        """What `prepare` wrote about the set, empty for files from elsewhere."""
        return self._about.get("manifest", {})

    def member(self, index: int) -> str:
        """Give the name of the file that holds an image."""
        return self._names[index]

    def origin(self, index: int) -> str:
        """Give the name of the picture that an image was made from."""
        names = self.manifest.get("names")
        return str(names[index]) if names else self.member(index)

    def indices(self, split: str = "all", domain: str | None = None) -> np.ndarray:
        """Give the indices of the images of a split, ascending int64.

        Args:
            split: "train", "test" or "all"; in a set that was never split all images are for training.
            domain: the domain whose images are meant; None is the first, the anime faces.

        Raises:
            UsageError: there is no such split.
            DataError: the set has no such domain.
        """
        test = np.zeros(len(self), bool)
        test[np.asarray(self._about.get("test", []), np.int64)] = True
        try:
            chosen = {"all": np.ones_like(test), "train": ~test, "test": test}[split]
        except KeyError:
            raise UsageError(f"there is no split `{split}`", hint="choose train, test or all") from None
        return np.flatnonzero(chosen & self._within(domain or self.domains[0]))

    def _within(self, domain: str) -> np.ndarray:
        """Which images are of a domain, (n,) bool."""
        if domain not in self.domains:
            raise DataError(f"{self.path} has no domain `{domain}`", hint=f"it has {', '.join(self.domains)}")
        if len(self.domains) == 1:
            return np.ones(len(self), bool)
        return np.array([name.startswith(f"{domain}/") for name in self._names])

    def labels(self, indices: np.ndarray | Sequence[int]) -> np.ndarray:
        """Give the label numbers of some images, int64 (n, A): one column for each attribute, -1 where unknown."""
        if self._labels is None:
            return np.full((len(indices), len(self.attributes)), -1, np.int64)
        return np.asarray(self._labels[np.asarray(indices, np.int64)], np.int64)

    def pixels(self, indices: np.ndarray | Sequence[int], *, size: int | None = None) -> np.ndarray:
        """Read images as uint8 (n, H, W, 3); with `size` smaller than the set's, scaled down with an antialiased filter.

        Raises:
            DataError: an image is damaged (the message names it), of another size than the first, or too small.
        """
        chosen = np.asarray(indices, np.int64).tolist()
        if size is not None and size != self.size:
            require_size(self, size)
        shape = (self.height, self.width) if size in (None, self.size) else (size, size)
        out = np.empty((len(chosen), *shape, 3), np.uint8)

        def fill(start: int) -> None:
            for row in range(start, min(start + 64, len(chosen))):
                out[row] = self._image(chosen[row], shape)

        starts = range(0, len(chosen), 64)
        if len(starts) <= 1 or _THREADS == 1:
            for start in starts:
                fill(start)
        else:
            with ThreadPoolExecutor(_THREADS) as threads:
                list(threads.map(fill, starts))
        return out

    def _image(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        with _picture(self._bytes(index), self.member(index), self.path) as image:
            if image.size != (self.width, self.height):
                raise DataError(
                    f"{self.member(index)} in {self.path} is {image.width} x {image.height}, "
                    f"the first image {self.width} x {self.height}",
                    hint=f"make a set of one size with `{_prepare(self)}`",
                )
            if (image.height, image.width) != shape:
                image = image.resize((shape[1], shape[0]), Image.Resampling.LANCZOS)
            return np.asarray(image)

    def _bytes(self, index: int) -> bytes:
        try:
            return self._read(index)
        except Unusable as error:
            raise DataError(
                f"{self.member(index)} in {self.path} is damaged: {error}", hint="prepare the set again"
            ) from None

    @cached_property
    def _digests(self) -> list[bytes]:
        """sha256 of each image's pixels: from the manifest, else computed."""
        known = self.manifest.get("sha256")
        if known:
            return [bytes.fromhex(one) for one in known]
        found: list[bytes] = []
        for start in range(0, len(self), 1024):
            pixels = self.pixels(range(start, min(start + 1024, len(self))))
            found += [digest(image) for image in pixels]
        return found

    @cached_property
    def identity(self) -> str:
        """Hash over the sorted pixel hashes of all images and their size: the same images, the same identity."""
        return identity_of_domains({domain: self._digests_of("all", domain) for domain in self.domains}, self.size)

    def split_identity(self, split: str, size: int | None = None, domain: str | None = None) -> str:
        """Give the identity of one split's images of one domain as a network sees them, scaled to `size` pixels."""
        chosen = self._digests_of(split, domain)
        if size in (None, self.size):
            return identity_of(chosen, self.size)
        return identity_of(chosen, self.size, size, FILTER)

    def _digests_of(self, split: str, domain: str | None) -> list[bytes]:
        return [self._digests[index] for index in self.indices(split, domain)]


def require_size(faces: FaceSet, size: int) -> None:
    """Check that the images are square and at least `size` pixels wide.

    Raises:
        DataError: they are not; the hint is the `prepare` command to type.
    """
    command = f"make another with `{_prepare(faces)} --resolution {size}`"
    if not faces.square:
        raise DataError(f"the images of {faces.path} are {faces.width} x {faces.height}, not square", hint=command)
    if faces.size < size:
        raise DataError(f"{faces.path} holds {faces.size}-pixel images, {size} are needed", hint=command)


def _prepare(faces: FaceSet) -> str:
    """What to type to make a set of these pictures, or of those that they came from."""
    folder = faces.path if faces.path.is_dir() else None
    if len(faces.domains) > 1:
        photos, anime = (folder / name if folder else f"./{name}" for name in (PHOTOS, ANIME))
        return f"animegen prepare --photos {photos} --anime {anime}"
    return f"animegen prepare {folder or './faces'}"


def open_images(path: Path | str) -> FaceSet:
    """Open a plain folder, zip or .npz of images, such as `sample` writes, as a set without labels."""
    return FaceSet.open(path)


# ---- opening ---------------------------------------------------------------------------------------------------


class _MemberReader:
    """Reads members of one source from several threads, and in each process that it is sent to."""

    def __init__(self, source: Source) -> None:
        self._kind, self._path, self._members = source.kind, str(source.path), source.members
        self._own = threading.local()

    def __call__(self, index: int) -> bytes:
        if getattr(self._own, "process", None) != os.getpid():  # a place in an open file is shared with the parent
            self._own.reader, self._own.process = Reader(), os.getpid()
        reader: Reader = self._own.reader
        return reader.read(self._kind, self._path, self._members[index])

    def __getstate__(self) -> dict[str, Any]:
        return {"_kind": self._kind, "_path": self._path, "_members": self._members}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._own = threading.local()


def _twice(source: Source) -> str | None:
    """A name that two files of an archive have, of which nobody can say which one is meant."""
    names = Counter([*source.members.names, *(text.name for text in source.texts)])
    return next((name for name, count in names.items() if count > 1), None)


def _reasons(source: Source) -> str:
    """What the listing left out, for a message: `; left out: 3 hidden file, 1 mask`."""
    counts = Counter(reason for _, reason in source.dropped)
    return (
        f"; left out: {', '.join(f'{count:,} {reason}' for reason, count in sorted(counts.items()))}" if counts else ""
    )


def _domains(names: Sequence[str]) -> tuple[str, ...]:
    """Two where all images lie in folders that are named after the domains, else one."""
    found = {name.partition("/")[0] for name in names}
    return DOMAINS if found == set(DOMAINS) else DOMAINS[:1]


def _about(path: Path, source: Source) -> dict[str, Any]:
    """What a set says of itself: domains, and in an archive what stands in `manifest.json` and `dataset.json`."""
    about: dict[str, Any] = {"domains": _domains(source.members.names)}
    if source.kind != "folder":
        about.update(_manifest(path, source))
        about.update(_labels(path, source, about.get("attributes")))
    return about


def _open_npz(path: Path) -> FaceSet:
    reader = npz_file.ArrayReader(path)
    about: dict[str, Any] = {}
    if reader.labels is not None:
        try:
            about["attributes"], table = set_file.unpack(reader.labels.tolist(), None)
        except ValueError as error:
            raise DataError(f"the classes in {path} cannot be read: {error}", hint="save the images alone") from None
        about["labels"] = table.astype(np.int16)
    return FaceSet(path, reader.names, reader, about)


def _json(path: Path, source: Source, name: str) -> dict[str, Any]:
    """The content of a file of the archive; empty where there is none."""
    member = next((member for member in source.texts if member.name == name), None)
    if member is None:
        return {}
    try:
        value = disk.parse_json(read_text(source, member, source.most_json), most=source.most_json // 16)
    except (ValueError, DataError) as error:
        raise DataError(f"{name} in {path} is damaged: {error}", hint="prepare the set again") from None
    return value if isinstance(value, dict) else {}


def _manifest(path: Path, source: Source) -> dict[str, Any]:
    manifest = _json(path, source, "manifest.json")
    if manifest.get("format") != FORMAT:
        return {}
    count = len(source.members)
    version = manifest.get("version", 0)
    if isinstance(version, int) and version > VERSION:
        raise DataError(f"{path} was written by a newer animegen", hint="update with `pip install -U animegen`")
    if problem := manifest_problem(manifest, count):
        raise DataError(f"{path}: {problem}", hint=_MAKE)
    return {
        "manifest": manifest,
        "attributes": {name: tuple(values) for name, values in manifest.get("attributes", {}).items()},
        "domains": manifest.get("domains", ["anime"]),
        "test": manifest.get("test", []),
    }


def _labels(path: Path, source: Source, attributes: dict[str, tuple[str, ...]] | None) -> dict[str, Any]:
    listed_labels = _json(path, source, "dataset.json").get("labels")
    if not listed_labels:
        return {}
    try:
        by_name = {str(name): label for name, label in listed_labels}
        named, table = set_file.unpack([by_name[name] for name in source.members.names], attributes)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"dataset.json in {path} does not fit its images: {error}",
            hint=f"prepare the set again, without labels: `animegen prepare {path} --labels none`",
        ) from None
    return {"attributes": named, "labels": table.astype(np.int16)}


def _picture(data: bytes, name: str, path: Path) -> Image.Image:
    try:
        return decode(data)
    except Unusable as error:
        raise DataError(f"{name} in {path} is damaged: {error}", hint="prepare the set again") from None
