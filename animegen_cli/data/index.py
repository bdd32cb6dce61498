"""What `prepare` remembers of the images of one domain: about 100 bytes and the name of each, and why others were dropped."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from animegen_cli.data import near_duplicates, splits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animegen_cli.data.cleaning import Cleaned, Face

DROPPED_SHOWN = 8
"""How many dropped pictures for each reason the contact sheet shows."""
Vocabulary: TypeAlias = dict[str, tuple[str, ...]]
"""The names of the attributes and of the values of each."""


def member_name(index: int, folder: str = "") -> str:
    """Name the file of image `index` as StyleGAN2/3 and EDM do; in a set of two domains it lies below `folder`."""
    return f"{folder}{index // 1000:05d}/img{index:08d}.png"


class DatasetIndex:
    """The images of one domain. Grows while pictures arrive; `close` decides clusters and split."""

    def __init__(self, vocabulary: Vocabulary, most: int, folder: str = "", start: int = 0) -> None:
        """Begin without images.

        Args:
            vocabulary: attributes and values that the label numbers stand for.
            most: how many images there can be at all.
            folder: where they lie in the file, such as `photos/`; empty in a set of one domain.
            start: how many images of other domains lie before them.
        """
        self.vocabulary = vocabulary
        self.folder = folder
        self.start = start
        self.names: list[str] = []
        self.dropped: list[tuple[str, str]] = []
        self.animations: list[tuple[str, int]] = []
        """(name, frames) of the pictures whose files hold several frames or pages; the first is in the set."""
        self.others = 0
        """How many files of the sources are neither pictures nor labels."""
        self.shown: list[tuple[str, str, bytes]] = []
        """(name, reason, PNG) of some dropped pictures."""
        self.noticed: dict[str, list[int]] = {}
        """The images that show what a person may not want, by its name in `prepare.faces.NOTICED`."""
        self.faces: list[Face | None] = []
        """Where each image was cut out of its picture; None for one that was not."""
        self._digests = bytearray()
        self._seen: dict[bytes, bool] = {}
        self._near_duplicates = near_duplicates.Finder(most)
        self._labels = array("h")
        self._stated = bytearray()
        self.leaks: list[tuple[int, int, bool]] = []
        """Images for testing, the near-duplicate of each that is for training, and whether that is its mirror image."""
        self.given: dict[str, int] | None = None
        """How many pictures each part of the sources has, where these decide; None where the share does."""

    def __len__(self) -> int:
        return len(self.names)

    def drop(self, name: str, reason: str, png: bytes | None = None) -> None:
        """Leave a picture out."""
        self.dropped.append((name, reason))
        if png is not None and sum(why == reason for _, why, _ in self.shown) < DROPPED_SHOWN:
            self.shown.append((name, reason, png))

    def duplicate(self, image: Cleaned, dedupe: str, *, test: bool = False) -> str | None:
        """Say why `image` repeats one of the set, or give None.

        Args:
            image: the image that may be added next.
            dedupe: what counts as a repetition: `exact`, `near` or `off`.
            test: whether the source states that it is for testing.
        """
        if dedupe != "off" and image.digest in self._seen:
            return "exact duplicate" if self._seen[image.digest] == test else "exact duplicate in the other part"
        if dedupe == "near" and (found := self._near_duplicates.near_duplicate(image.fingerprint)):
            return "near duplicate, mirrored" if found[1] else "near duplicate"
        return None

    def keep(self, name: str, image: Cleaned, row: np.ndarray, *, test: bool = False) -> None:
        """Remember an image of the set; `row` (A,) holds its label numbers, `test` is what the source states."""
        self.names.append(name)
        self._stated.append(test)
        self._seen[image.digest] = test
        self._digests += image.digest
        self._near_duplicates.add(image.fingerprint)
        self._labels.extend(row.tolist())
        for what in image.noticed:
            self.noticed.setdefault(what, []).append(len(self) - 1)
        self.faces.append(image.face)

    def shared(self, other: DatasetIndex) -> int:
        """Count the images that both hold; to be asked before `close`."""
        return len(self._seen.keys() & other._seen.keys())

    def digest(self, index: int) -> bytes:
        """Give the SHA-256 of the pixels of one image."""
        return bytes(self._digests[32 * index : 32 * index + 32])

    @property
    def labels(self) -> np.ndarray:
        """The label numbers of all images, int16 (n, A); -1 is unknown."""
        return np.asarray(self._labels, np.int16).reshape(len(self), len(self.vocabulary))

    @property
    def leaks_in_file(self) -> list[tuple[int, int, bool]]:
        """The same as `leaks`, with the indices that the images have in the file."""
        return [(self.start + test, self.start + train, mirrored) for test, train, mirrored in self.leaks]

    def reasons(self) -> dict[str, int]:
        """Count the dropped pictures by reason."""
        return dict(sorted(Counter(reason for _, reason in self.dropped).items()))

    def close(self, share: float, given: dict[str, int] | None = None) -> None:
        """Find the near-duplicates and split.

        Args:
            share: of the images for training, if the sources state no parts.
            given: how many pictures each part of the sources has, if these decide; where nothing is left of one side, the
                share does.
        """
        self.clusters = self._near_duplicates.clusters()
        self._seen.clear()  # the memory of both is needed for what follows
        stated = np.frombuffer(self._stated, np.uint8).astype(bool)
        self.given = given if 0 < stated.sum() < len(self) else None
        if self.given is None:
            hashes = np.frombuffer(self._digests, ">u8")[::4].astype(np.uint64)
            self.test = splits.by_share(hashes, self.clusters, share)
        else:
            self.test = stated
            self.leaks = self._near_duplicates.leaks(self.test)
        self._near_duplicates = near_duplicates.Finder(0)

    def near_duplicate_groups(self) -> list[list[int]]:
        """List the indices of each cluster of two and more images."""
        groups: dict[int, list[int]] = {}
        sizes = np.bincount(self.clusters, minlength=len(self))
        for index in np.flatnonzero(sizes[self.clusters] > 1).tolist():
            groups.setdefault(int(self.clusters[index]), []).append(index)
        return list(groups.values())

    def _about_given(self) -> dict[str, Any]:
        leaks = {"images": len(self.leaks), "mirrored": sum(mirrored for _, _, mirrored in self.leaks)}
        return {"given": self.given, "leaks": leaks}

    def digests(self) -> Iterator[bytes]:
        """Give the SHA-256 of the pixels of each image."""
        return (self.digest(index) for index in range(len(self)))

    def about(self, split: float) -> dict[str, Any]:
        """Count what is in the set, on each side of the split, clustered and dropped; the keys are the manifest's."""
        size = len(self)
        groups = self.near_duplicate_groups()
        return {
            "images": size,
            "split": {
                "share": split if self.given is None else None,
                "train": int(size - self.test.sum()),
                "test": int(self.test.sum()),
                **({} if self.given is None else self._about_given()),
            },
            "near_twins": {"clusters": len(groups), "images": sum(map(len, groups))},
            "noticed": {what: len(found) for what, found in sorted(self.noticed.items())},
            "dropped": self.reasons(),
        }
