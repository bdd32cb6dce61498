"""What `prepare` remembers of each image, compactly, and the two JSON members it makes of it."""

from __future__ import annotations

import hashlib
import io
import json
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import PIL

from animegen_cli import __version__
from animegen_cli.data import twins
from animegen_cli.data.cleaning import Cleaned

FORMAT = "animegen-faces"
VERSION = 1
DROPPED_SHOWN = 8  # pictures per reason on the contact sheet
Buffer = bytes | memoryview
Vocabulary = dict[str, tuple[str, ...]]


def member_name(index: int) -> str:
    """Where image `index` lies in the file, as StyleGAN2/3 and EDM name it."""
    return f"{index // 1000:05d}/img{index:08d}.png"


def identity_of(digests: Iterable[bytes], *parts: object) -> str:
    """Identity of a set of images: a hash over their sorted pixel hashes, and over `parts` such as their size."""
    hashed = hashlib.sha256(json.dumps(parts).encode())
    for one in sorted(digests):
        hashed.update(one)
    return hashed.hexdigest()


class Ledger:
    """Grows while pictures arrive; `close` decides clusters and split; then it writes itself down."""

    def __init__(self, vocabulary: Vocabulary, most: int) -> None:
        """`most`: images there can be at all."""
        self.vocabulary = vocabulary
        self.names: list[str] = []
        self.dropped: list[tuple[str, str]] = []
        self.shown: list[tuple[str, str, bytes]] = []
        """(name, reason, PNG) of some dropped pictures."""
        self._digests, self._seen = bytearray(), set[bytes]()
        self._twins = twins.Finder(most)
        self._labels = array("h")

    def __len__(self) -> int:
        return len(self.names)

    def drop(self, name: str, reason: str, png: bytes | None = None) -> None:
        """Leave a picture out."""
        self.dropped.append((name, reason))
        if png is not None and sum(why == reason for _, why, _ in self.shown) < DROPPED_SHOWN:
            self.shown.append((name, reason, png))

    def duplicate(self, image: Cleaned, dedupe: str) -> str | None:
        """Why `image` repeats one that is kept, or None."""
        if dedupe != "off" and image.digest in self._seen:
            return "exact duplicate"
        if dedupe == "near" and self._twins.has_twin(image.look):
            return "near duplicate"
        return None

    def keep(self, name: str, image: Cleaned, row: np.ndarray) -> None:
        """Remember an image of the set; `row` holds its label numbers."""
        self.names.append(name)
        self._seen.add(image.digest)
        self._digests += image.digest
        self._twins.add(image.look)
        self._labels.extend(row.tolist())

    def digest(self, index: int) -> bytes:
        """sha256 of the pixels of one image."""
        return bytes(self._digests[32 * index : 32 * index + 32])

    @property
    def labels(self) -> np.ndarray:
        """(n, A) int16, -1 unknown."""
        return np.asarray(self._labels, np.int16).reshape(len(self), len(self.vocabulary))

    def reasons(self) -> dict[str, int]:
        """How many pictures were dropped for each reason."""
        return dict(sorted(Counter(reason for _, reason in self.dropped).items()))

    def close(self, split: float) -> None:
        """Find the near-twins and split by content."""
        self.clusters = self._twins.clusters()
        self._seen, self._twins = set(), twins.Finder(0)  # their memory is needed for what follows
        self.test = self._split(split)

    def _split(self, share: float) -> np.ndarray:
        """Which images are for testing, (n,) bool. Each cluster goes whole to where its smallest hash falls.

        A cluster's side depends on its own pixels alone, so pictures added later move no other from side to side.
        """
        hashes = np.frombuffer(self._digests, ">u8")[::4].astype(np.uint64)
        lead = np.full(len(self), 2**64 - 1, np.uint64)
        np.minimum.at(lead, self.clusters, hashes)
        lead = lead[self.clusters]
        bound = np.uint64(min(share, 1 - 2**-53) * 2**64)
        if share < 1 and lead.min() < lead.max():  # in a tiny set neither side may be empty
            bound = bound.clip(lead.min() + np.uint64(1), lead.max())
        return (lead >= bound) & (share < 1)

    def twin_groups(self) -> list[list[int]]:
        """Clusters of two and more images."""
        groups: dict[int, list[int]] = {}
        sizes = np.bincount(self.clusters, minlength=len(self))
        for index in np.flatnonzero(sizes[self.clusters] > 1).tolist():
            groups.setdefault(int(self.clusters[index]), []).append(index)
        return list(groups.values())

    def about(self, split: float) -> dict[str, Any]:
        """The part of the manifest that the images decide."""
        size = len(self)
        groups = self.twin_groups()
        return {
            "images": size,
            "split": {"share": split, "train": int(size - self.test.sum()), "test": int(self.test.sum())},
            "near_twins": {"clusters": len(groups), "images": sum(map(len, groups)), "method": twins.METHOD},
            "attributes": {name: list(values) for name, values in self.vocabulary.items()},
            "domains": ["anime"],
            "dropped": self.reasons(),
        }

    def identity(self, size: int) -> str:
        """Identity of the whole set."""
        return identity_of((self.digest(index) for index in range(len(self))), size)

    def dataset_json(self) -> Buffer:
        """`dataset.json` of StyleGAN2/3 and EDM: all attributes as one concatenated one-hot vector per image."""
        if not self.vocabulary:
            return b'{"labels": null}\n'
        widths = [len(values) for values in self.vocabulary.values()]
        starts = np.cumsum([0, *widths[:-1]])
        out = io.BytesIO()
        for index, row in enumerate(self.labels):
            vector = bytearray(b"0" * sum(widths))
            for start, value in zip(starts, row, strict=True):
                if value >= 0:
                    vector[start + value] = ord("1")
            out.write(b",\n" if index else b'{"labels": [\n')
            out.write(f'["{member_name(index)}", [{",".join(vector.decode())}]]'.encode())
        out.write(b"\n]}\n")
        return out.getbuffer()

    def manifest_json(self, about: dict[str, Any]) -> Buffer:
        """`manifest.json`: `about`, then per image its hash, name and cluster, then what was dropped."""
        made = {"format": FORMAT, "version": VERSION, "made_with": {"animegen": __version__, "pillow": PIL.__version__}}
        out = io.BytesIO()
        out.write(json.dumps({**made, **about}, indent=1)[:-2].encode())
        out.write(b',\n "test": ' + json.dumps(np.flatnonzero(self.test).tolist(), separators=(",", ":")).encode())
        out.write(b',\n "twins": ' + json.dumps(self.twin_groups(), separators=(",", ":")).encode())
        _write_list(out, "sha256", (self.digest(index).hex() for index in range(len(self))))
        _write_list(out, "names", self.names)
        _write_list(out, "dropped_names", sorted(self.dropped))
        out.write(b"\n}\n")
        return out.getbuffer()


def _write_list(out: io.BytesIO, key: str, values: Iterable[object]) -> None:
    out.write(f',\n "{key}": ['.encode())
    for number, value in enumerate(values):
        out.write((",\n" if number else "\n").encode() + json.dumps(value).encode())
    out.write(b"]")
