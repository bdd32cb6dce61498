"""How various drawn images are: their colours beside the real ones', repeats among them, copies of training images."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from animegen_cli import paths
from animegen_cli.data import near_duplicates
from animegen_cli.errors import UsageError
from animegen_cli.evaluate import cache
from animegen_cli.evaluate.images import CHUNK, ImageSet
from animegen_cli.evaluate.judge import Verdict, entry
from animegen_cli.evaluate.reference import read, set_features
from animegen_cli.metrics import colours, copies, distributions
from animegen_cli.model.pixels import channels_first
from animegen_cli.report import grids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from animegen_cli.data.dataset import FaceSet
    from animegen_cli.metrics.extractors import Extractor
    from animegen_cli.metrics.protocol import Protocol

METRICS = ("hair-colour", "eyes-colour", "brightness", "duplicates", "copies", "copies-hash")
"""Distances of what pixels tell, and shares of images that repeat others; `copies` asks for both criteria."""
HELD_OUT = 1000
"""At most so many held-out images say how near images are that are no copies."""
SHEET = Path("judged") / "neighbours.png"
"""The drawn images that are nearest to training images, beside those; in the run folder."""

_FACTS = METRICS[:3]
_FORMAT = "1"  # of what is kept; another where the code behind it changes
_SHOWN = 24
_BAR = 32  # grey levels in one bar of the histogram of brightness
_PIXELS = {"extractor": "", "extractor_sha": "", "resize": "", "precision": "fp32"}  # no network looked
_COLOURS = {
    "hair-colour": ("hair colour", colours.HAIR, "area-32"),
    "eyes-colour": ("eye colour", colours.EYES, "area-64"),
}
_Value = tuple[float, float, tuple[float, float]]  # with its standard error and 95 % interval


def asked(subject: ImageSet, words: Sequence[str] | None) -> list[Protocol]:
    """How each score is measured; unasked all that images, reference and its splits allow."""
    if words is None:
        words = [word for word in METRICS if _lacking(word, subject) is None]
    words = [one for word in words for one in (("copies", "copies-hash") if word == "copies" else (word,))]
    for word in words:
        if lacking := _lacking(word, subject):
            raise UsageError(lacking[0], hint=lacking[1])
    return [_protocol(word, subject) for word in dict.fromkeys(words)]


def _lacking(word: str, subject: ImageSet) -> tuple[str, str] | None:
    """Why `word` cannot be measured and what to do about it, or None."""
    faces = subject.reference.faces
    if word == "duplicates":
        return ("one image repeats no other", "score two or more") if subject.count < 2 else None
    if faces is None:
        return f"`{word}` needs the reference images, not their moments", "give the images with `--against`"
    if word in _COLOURS and subject.size < colours.SMALLEST:
        said = f"`{word}` needs faces of {colours.SMALLEST} pixels, these have {subject.size}"
        return said, f"leave `{word}` out of `--metrics`"
    if word == "copies" and not len(faces.indices("test")):
        said = f"`copies` learns from a test split how near images are that are no copies, and {faces.path} has none"
        return said, "make one with `animegen prepare --split 0.8`, or score `--metrics copies-hash`"
    if word == "copies" and len(faces.indices("train")) <= copies.NEIGHBOURS:
        said = f"`copies` needs more than {copies.NEIGHBOURS} training images, {faces.path} has fewer"
        return said, "score `--metrics copies-hash`"
    return None


def _protocol(word: str, subject: ImageSet) -> Protocol:
    if word == "duplicates":
        return subject.protocol(word, **_PIXELS, reference="", reference_split="", n_real=0)
    if word in ("copies", "copies-hash"):
        faces = subject.reference.faces
        assert faces is not None
        training = {
            "reference": faces.split_identity("train", subject.size), "reference_split": "train",
            "n_real": len(faces.indices("train")),
        }  # fmt: skip
        return subject.protocol(word, **training, **({} if word == "copies" else _PIXELS))
    resize = _COLOURS[word][-1] if word in _COLOURS else ""
    return subject.protocol(word, **_PIXELS | {"resize": resize})


def judge(subject: ImageSet, wanted: Sequence[Protocol]) -> Verdict:
    """The scores of `wanted`, the histograms behind the distances, and the sheet of nearest training images."""
    return _Look(subject, wanted).verdict


# ---- one look at the images -----------------------------------------------------------------------------------


class _Look:
    """What is found in one set of images; `verdict` holds it."""

    def __init__(self, subject: ImageSet, wanted: Sequence[Protocol]) -> None:
        self.subject, self.verdict = subject, Verdict()
        self.near: copies.Nearest | None = None
        self.repeated = np.full(subject.count, -1)
        self.limit = 0.0
        self.unseen: list[str] = []
        find = {
            "brightness": self._brightness, "duplicates": self._duplicates, "copies": self._copies,
            "copies-hash": self._hashed,
        }  # fmt: skip
        for measured in wanted:
            began, metric = time.perf_counter(), measured.metric
            value, std, interval = self._named(metric) if metric in _COLOURS else find[metric]()
            self.verdict.scores.append(
                entry(
                    measured, value, images=subject.seen, reference_name=measured.reference and subject.reference.name,
                    seconds=time.perf_counter() - began, std=std, interval=interval,
                )
            )  # fmt: skip
        if self.unseen:
            said = "no more than so many images of the reference's own would score, so no difference is seen"
            self.verdict.notes.append(f"{', '.join(self.unseen)}: {said}")
        if self.near is not None and subject.folder is not None:
            grids.save(self._sheet(self.near), subject.folder / SHEET)
            self.verdict.sheets["neighbours"] = SHEET.as_posix()

    def _named(self, metric: str) -> _Value:
        title, names, _ = _COLOURS[metric]
        real, drawn = (side.long().numpy() for side in self._both(metric))
        self._histogram(title, names, real, drawn)
        return self._distance(metric, distributions.between_names(real, drawn, len(names)), 1.0)

    def _brightness(self) -> _Value:
        real, drawn = (side.numpy() for side in self._both("brightness"))
        bars = [f"{start}–{start + _BAR - 1}" for start in range(0, 256, _BAR)]
        self._histogram("brightness", bars, *(values.astype(np.int64) // _BAR for values in (real, drawn)))
        return self._distance("brightness", distributions.between_values(real, drawn), 255.0)

    def _distance(self, metric: str, found: distributions.Distance, most: float) -> _Value:
        if found.value <= found.floor:
            self.unseen.append(f"{metric} (below {found.floor:.2g})")
        reach = 1.96 * found.std
        return found.value, found.std, (max(found.value - reach, 0.0), min(found.value + reach, most))

    def _histogram(self, name: str, values: Sequence[str], real: np.ndarray, drawn: np.ndarray) -> None:
        shares = [np.bincount(places, minlength=len(values)) / len(places) for places in (real, drawn)]
        real_shares, drawn_shares = (np.round(part, 6).tolist() for part in shares)
        self.verdict.histograms.append(
            {
                "name": name, "by": "pixels", "values": list(values), "real": real_shares, "drawn": drawn_shares,
                "images": self.subject.seen,
            }
        )  # fmt: skip

    def _both(self, metric: str) -> tuple[Tensor, Tensor]:
        """The fact behind a distance, of real and of drawn images: float64 (n,) and (m,)."""
        column = _FACTS.index(metric)
        return self._real[:, column], self._drawn[:, column]

    def _duplicates(self) -> _Value:
        return _share(copies.repeated(self._drawn_fingerprints))

    def _copies(self) -> _Value:
        """Nearer to a training image than all but `NEAR` of the held-out images are."""
        subject, faces = self.subject, self._faces
        training = set_features(faces, "train", subject.size, subject.extractor)
        mirrored = _features(subject.extractor, subject.images.flip(3))
        self.near = copies.nearest(subject.features, mirrored, training)
        held_out = _held_out_ratios(faces, subject.size, subject.extractor, training)
        self.limit = copies.limit(held_out)
        value = _share((self.near.ratio < self.limit).numpy())
        if value[2][0] > copies.NEAR:
            self._warn(f"{value[0]:.1%} of the images are nearer to training images than 99 % of held-out ones are")
        if len(held_out) < 1 / copies.NEAR:
            self.verdict.notes.append(f"only {len(held_out)} held-out images say what a copy is: a rough number")
        return value

    def _hashed(self) -> _Value:
        """The same picture as a training image, by the narrow limits of perceptual hash and thumbnail."""
        faces, size = self._faces, self.subject.size
        words = (faces.split_identity("train", size), repr(near_duplicates.METHOD))
        training = _kept(words, near_duplicates.FINGERPRINT_BYTES, lambda: _looks(read(faces, "train", size)))
        mirrored = copies.fingerprints(self.subject.images.flip(3))
        self.repeated = copies.hashed_copies(self._drawn_fingerprints, mirrored, training.numpy())
        value = _share(self.repeated >= 0)
        if value[0]:
            self._warn(f"{(self.repeated >= 0).sum()} images repeat training images, by their hash")
        return value

    def _warn(self, said: str) -> None:
        self.verdict.notes.append(said + (f": look at {SHEET.as_posix()}" if self.subject.folder else ""))

    def _sheet(self, near: copies.Nearest) -> grids.Image.Image:
        """Copies by their hash first, then the nearest; with the distance, and its ratio to those of the next ones."""
        order = np.lexsort((near.ratio.numpy(), self.repeated < 0))[:_SHOWN]
        places = np.where(self.repeated >= 0, self.repeated, near.place.numpy())[order]
        training = self._faces.pixels(self._faces.indices("train")[places], size=self.subject.size)
        found = []
        for i, image in zip(order.tolist(), training, strict=True):
            said = f"{self.subject.label(i)}: {near.distance[i]:.2f} ({near.ratio[i]:.2f})"
            copy = self.repeated[i] >= 0 or near.ratio[i] < self.limit
            drawn = self.subject.images[i].permute(1, 2, 0).numpy()
            found.append((drawn, image, said + (" copy" if copy else "")))
        return grids.pairs(found, titles=("drawn", "nearest real"))

    @property
    def _faces(self) -> FaceSet:
        faces = self.subject.reference.faces
        assert faces is not None  # else these scores were not asked for
        return faces

    @functools.cached_property
    def _drawn_fingerprints(self) -> np.ndarray:
        return copies.fingerprints(self.subject.images)

    @functools.cached_property
    def _drawn(self) -> Tensor:
        return _facts(self.subject.images.split(CHUNK))

    @functools.cached_property
    def _real(self) -> Tensor:
        split, size = self.subject.reference.split, self.subject.size
        sampling = repr((colours.HAIR_PALETTE, colours.EYE_PALETTE))
        words = (self._faces.split_identity(split, size), sampling)
        return _kept(words, len(_FACTS), lambda: _facts(read(self._faces, split, size)))


# ---- parts ----------------------------------------------------------------------------------------------------


def _facts(parts: Iterable[Tensor]) -> Tensor:
    """float64 (n, 3), one column per name in `_FACTS`, of images uint8 (n, 3, size, size) in pieces."""
    columns = [(colours.hair(part), colours.eyes(part), colours.brightness(part)) for part in parts]
    return torch.cat([torch.stack([column.double() for column in of_part], 1) for of_part in columns])


def _looks(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([torch.from_numpy(copies.fingerprints(part)) for part in parts])


def _kept(words: Sequence[str], columns: int, make: Callable[[], Tensor]) -> Tensor:
    """What `make` gives, (n, columns), kept in the cache under all that it depends on; `_FORMAT` is part of that."""
    folder, key = paths.cache() / "variety", "\0".join((*words, _FORMAT))
    found = cache.load(folder, key, columns)
    if found is None:
        cache.save(folder, key, found := make())
    return found


def _features(extractor: Extractor, images: Tensor) -> Tensor:
    return torch.cat([extractor.features(part).cpu() for part in images.split(CHUNK)])


def _held_out_ratios(faces: FaceSet, size: int, extractor: Extractor, training: Tensor) -> Tensor:
    """Of at most `HELD_OUT` test images (n,), as drawn images are measured; kept in the cache."""
    indices = faces.indices("test")
    indices = indices[:: -(-len(indices) // HELD_OUT)]  # a set's order follows the year

    def make() -> Tensor:
        images = channels_first(faces.pixels(indices, size=size))
        plain, mirrored = (_features(extractor, side) for side in (images, images.flip(3)))
        return copies.nearest(plain, mirrored, training).ratio[:, None]

    splits = (faces.split_identity(split, size) for split in ("train", "test"))
    words = (cache.key(extractor, *splits), f"{len(indices)} {copies.NEIGHBOURS}")
    return _kept(words, 1, make)[:, 0]


def _share(which: np.ndarray) -> _Value:
    """The share that is true, as if images were independent."""
    value = float(which.mean())
    return value, (value * (1 - value) / len(which)) ** 0.5, copies.share_interval(value, len(which))
