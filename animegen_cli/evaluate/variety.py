"""How various drawn images are: their colors beside the real ones', repeats among them, copies of training images."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from animegen_cli import paths
from animegen_cli.data import near_duplicates
from animegen_cli.errors import UsageError
from animegen_cli.evaluate import feature_cache
from animegen_cli.evaluate.judge import JudgeResult
from animegen_cli.evaluate.reference import read, set_features
from animegen_cli.evaluate.sources import CHUNK
from animegen_cli.metrics import colors, copies, distributions
from animegen_cli.metrics.scores import Score
from animegen_cli.metrics.uncertainty import of_share
from animegen_cli.model.pixels import channels_first
from animegen_cli.report import grids

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from PIL import Image

    from animegen_cli.data.dataset import FaceSet
    from animegen_cli.evaluate.images import ImageSet
    from animegen_cli.metrics.extractors import Extractor
    from animegen_cli.metrics.protocol import Protocol


@dataclass(frozen=True)
class _Fact:
    """What the pixels of an image tell, as one number or one of several names; a metric compares its distributions."""

    metric: str
    title: str
    """The histogram's name."""
    read: Callable[[Tensor], Tensor]
    """Images uint8 (n, 3, H, W) -> the fact (n,): a number, or a place in `names`."""
    names: tuple[str, ...] = ()
    resize: str = ""
    """How images reach the size at which it is read, in the words of a protocol."""


_FACTS = (
    _Fact("hair-color", "hair color", colors.hair, colors.HAIR, "area-32"),
    _Fact("eyes-color", "eye color", colors.eyes, colors.EYES, "area-64"),
    _Fact("brightness", "brightness", colors.brightness),
)
_BY_METRIC = {fact.metric: fact for fact in _FACTS}

METRICS = (*_BY_METRIC, "duplicates", "copies", "copies-hash")
"""Distances of what pixels tell, and shares of images that repeat others; `copies` asks for both criteria."""
HELD_OUT = 1000
"""At most so many held-out images say how near images are that are no copies."""
SHEET = Path("judged") / "neighbours.png"
"""The drawn images that are nearest to training images, beside those; in the run folder."""

_FORMAT = "1"  # of what the cache holds; another where the code behind it changes
_PIXELS = f"aligned-{copies.SIDE}"  # how images reach the comparison of pixels, in the words of a protocol
_SHOWN = 24
_BAR = 32  # gray levels in one bar of the histogram of brightness


class VarietyJudge:
    """Compares drawn images with the real ones by their pixels, with each other, and with training images."""

    metrics = METRICS

    def protocols(self, subject: ImageSet, words: Sequence[str] | None) -> list[Protocol]:
        """How each score is measured; unasked all that images, reference and its splits allow."""
        if words is None:
            words = [word for word in METRICS if _lacking(word, subject) is None]
        words = [one for word in words for one in (("copies", "copies-hash") if word == "copies" else (word,))]
        for word in words:
            if lacking := _lacking(word, subject):
                raise UsageError(lacking[0], hint=lacking[1])
        return [_protocol(word, subject) for word in dict.fromkeys(words)]

    def judge(self, subject: ImageSet, protocols: Sequence[Protocol]) -> JudgeResult:
        """The scores of `protocols`, the histograms behind the distances, and the sheet of nearest training images."""
        return _Variety(subject, protocols).result


def _lacking(word: str, subject: ImageSet) -> tuple[str, str] | None:
    """Why `word` cannot be measured and what to do about it, or None."""
    faces = subject.reference.faces
    if word == "duplicates":
        return ("one image repeats no other", "score two or more") if subject.count < 2 else None
    if faces is None:
        return f"`{word}` needs the reference images, not their moments", "give the images with `--against`"
    if word in _BY_METRIC and _BY_METRIC[word].names and subject.size < colors.SMALLEST:
        said = f"`{word}` needs faces of {colors.SMALLEST} pixels, these have {subject.size}"
        return said, f"leave `{word}` out of `--metrics`"
    if word == "copies" and not len(faces.indices("test")):
        said = f"`copies` learns from a test split how near images are that are no copies, and {faces.path} has none"
        return said, "make one with `animegen prepare --split 0.8`, or score `--metrics copies-hash`"
    if word == "copies" and len(faces.indices("train")) <= copies.NEIGHBORS:
        said = f"`copies` needs more than {copies.NEIGHBORS} training images, {faces.path} has fewer"
        return said, "score `--metrics copies-hash`"
    return None


def _protocol(word: str, subject: ImageSet) -> Protocol:
    measured = subject.protocol(word)
    if word == "duplicates":
        return replace(_of_pixels(measured), reference="", reference_split="", n_real=0)
    if word in _BY_METRIC:
        return _of_pixels(measured, _BY_METRIC[word].resize)
    faces = subject.reference.faces
    assert faces is not None  # `_lacking` saw to that
    against_training = replace(
        measured, reference=faces.split_identity("train", subject.size), reference_split="train",
        n_real=len(faces.indices("train")),
    )  # fmt: skip
    if word == "copies":
        return replace(against_training, resize=f"{against_training.resize}+{_PIXELS}")
    return _of_pixels(against_training)


def _of_pixels(protocol: Protocol, resize: str = "") -> Protocol:
    """The same without a network."""
    return replace(protocol, extractor="", extractor_sha="", resize=resize, precision="fp32")


# ---- one set of images ----------------------------------------------------------------------------------------


class _Variety:
    """What is found in one set of images; `result` holds it."""

    def __init__(self, subject: ImageSet, protocols: Sequence[Protocol]) -> None:
        self.subject = subject
        self.result = JudgeResult()
        self.near: _Near | None = None
        self.repeated = np.full(subject.count, -1)
        self.unseen: list[str] = []
        find = {"duplicates": self._duplicates, "copies": self._copies, "copies-hash": self._hashed}
        for measured in protocols:
            began = time.perf_counter()
            metric = measured.metric
            score = find[metric]() if metric in find else self._distance(_BY_METRIC[metric])
            self.result.add(
                measured, score, images=subject.seen, reference_name=measured.reference and subject.reference.name,
                seconds=time.perf_counter() - began,
            )  # fmt: skip
        if self.unseen:
            self.result.notes.append(f"{', '.join(self.unseen)}: {distributions.NO_DIFFERENCE}")
        if self.near is not None and subject.folder is not None:
            grids.save(self._sheet(self.near), subject.folder / SHEET)
            self.result.sheets["neighbours"] = SHEET.as_posix()

    def _distance(self, fact: _Fact) -> Score:
        """How far a fact's distribution over drawn images is from that over real ones."""
        column = _FACTS.index(fact)
        real, drawn = (side[:, column].numpy() for side in (self._real, self._drawn))
        if fact.names:
            bars = fact.names
            real_bars, drawn_bars = real.astype(np.int64), drawn.astype(np.int64)
            found = distributions.between_names(real_bars, drawn_bars, len(bars))
        else:
            bars = tuple(f"{start}–{start + _BAR - 1}" for start in range(0, 256, _BAR))
            real_bars, drawn_bars = (side.astype(np.int64) // _BAR for side in (real, drawn))
            found = distributions.between_values(real, drawn)
        self._histogram(fact.title, bars, real_bars, drawn_bars)
        if found.value <= found.floor:
            self.unseen.append(f"{fact.metric} (below {found.floor:.2g})")
        return Score(fact.metric, found.value, found.std, found.interval)

    def _histogram(self, name: str, bars: Sequence[str], real: np.ndarray, drawn: np.ndarray) -> None:
        shares = [np.bincount(places, minlength=len(bars)) / len(places) for places in (real, drawn)]
        real_shares, drawn_shares = (np.round(part, 6).tolist() for part in shares)
        self.result.histograms.append({
            "name": name, "by": "pixels", "values": list(bars), "real": real_shares, "drawn": drawn_shares,
            "images": self.subject.seen,
        })  # fmt: skip

    def _duplicates(self) -> Score:
        """The share of images that nearly equal another one."""
        return _share("duplicates", copies.repeated(self._fingerprints))

    def _copies(self) -> Score:
        """The share that is nearer to a training image, by features or by pixels, than held-out images are."""
        subject, faces = self.subject, self._faces
        features = set_features(faces, "train", subject.size, subject.extractor, subject.group)
        pixels = _small_of(faces, subject.size)
        mirrored = _features(subject.extractor, subject.images.flip(3))
        by_features = copies.nearest(subject.features, mirrored, features)
        by_pixels = copies.nearest_pixels(copies.small(subject.images), pixels)
        held_out = _HeldOut(faces, subject.size, subject.extractor)
        clean = held_out.ratios(features, pixels, self._known)
        limits = [copies.limit(column) for column in clean.T]
        self.near = _Near.of([by_features, by_pixels], limits)
        score = _share("copies", self.near.copied)
        if score.interval is not None and score.interval[0] > copies.NEAR:
            self._warn(
                f"{score.value:.1%} of the images are nearer to training images than 99.5 % of held-out ones are"
            )
        self._held_out_notes(len(held_out.indices), len(clean))
        return score

    def _held_out_notes(self, taken: int, clean: int) -> None:
        """Say how many held-out images the limits of `copies` stand on, where that is not as it should be."""
        if clean < taken:
            said = f"{taken - clean} of {taken} held-out images have a near-duplicate in training and say nothing of copies"
            self.result.notes.append(f"{said}: `animegen prepare --check {self._faces.path}` shows them")
        if clean < copies.FEWEST:
            said = (
                f"only {clean} held-out images could say what a copy is, so that it is a ratio below {copies.CAUTIOUS}"
            )
            self.result.notes.append(f"{said}: a cautious number")
        elif clean < 1 / copies.NEAR:
            self.result.notes.append(f"only {clean} held-out images say what a copy is: a rough number")

    def _hashed(self) -> Score:
        """The share that is the same picture as a training image, by the narrow limits of `near_duplicates`."""
        self.repeated = copies.hashed_copies(self._fingerprints, self._known)
        found = self.repeated >= 0
        if found.any():
            self._warn(f"{found.sum()} images repeat training images, by their hash")
        return _share("copies-hash", found)

    def _warn(self, said: str) -> None:
        self.result.notes.append(said + (f": look at {SHEET.as_posix()}" if self.subject.folder else ""))

    def _sheet(self, near: _Near) -> Image.Image:
        """Copies by their hash first, then the nearest; with the ratio of the distance to those of the next ones."""
        order = np.lexsort((near.closeness, self.repeated < 0))[:_SHOWN]
        places = np.where(self.repeated >= 0, self.repeated, near.place)[order]
        training = self._faces.pixels(self._faces.indices("train")[places], size=self.subject.size)
        found = []
        for i, image in zip(order.tolist(), training, strict=True):
            copy = self.repeated[i] >= 0 or near.copied[i]
            drawn = self.subject.images[i].permute(1, 2, 0).numpy()
            found.append((drawn, image, f"{self.subject.label(i)}: {near.ratio[i]:.2f}" + (" copy" if copy else "")))
        return grids.pairs(found, titles=("drawn", "nearest real"))

    @property
    def _faces(self) -> FaceSet:
        faces = self.subject.reference.faces
        assert faces is not None  # else these scores were not asked for
        return faces

    @functools.cached_property
    def _fingerprints(self) -> np.ndarray:
        return copies.fingerprints(self.subject.images)

    @functools.cached_property
    def _known(self) -> np.ndarray:
        """Fingerprints of the training images."""
        faces, size = self._faces, self.subject.size
        words = (faces.split_identity("train", size), repr(near_duplicates.METHOD))
        columns = near_duplicates.FINGERPRINT_BYTES
        return _cached(words, columns, lambda: _fingerprints_of(read(faces, "train", size))).numpy()

    @functools.cached_property
    def _drawn(self) -> Tensor:
        return _facts(self.subject.images.split(CHUNK))

    @functools.cached_property
    def _real(self) -> Tensor:
        split, size = self.subject.reference.split, self.subject.size
        palettes = repr((colors.HAIR_PALETTE, colors.EYE_PALETTE))
        words = (self._faces.split_identity(split, size), palettes)
        return _cached(words, len(_FACTS), lambda: _facts(read(self._faces, split, size)))


@dataclass(frozen=True)
class _Near:
    """The nearest training image of each image, by the criterion that sees it nearest."""

    place: np.ndarray
    """Its place among them, int64 (n,)."""
    ratio: np.ndarray
    """Its distance as a multiple of the mean distance to the next ones, (n,)."""
    closeness: np.ndarray
    """The same as a multiple of the criterion's limit, (n,)."""

    @classmethod
    def of(cls, found: Sequence[copies.Nearest], limits: Sequence[float]) -> _Near:
        """Join criteria, each with its limit."""
        ratios = np.stack([near.ratio.numpy() for near in found])
        closeness = ratios / np.maximum(np.array(limits, np.float32), 1e-12)[:, None]
        nearest = closeness.argmin(0)
        image = np.arange(len(nearest))
        places = np.stack([near.place.numpy() for near in found])
        return cls(places[nearest, image], ratios[nearest, image], closeness[nearest, image])

    @property
    def copied(self) -> np.ndarray:
        """Which images are copies, bool (n,)."""
        return self.closeness < 1


# ---- parts ----------------------------------------------------------------------------------------------------


def _facts(parts: Iterable[Tensor]) -> Tensor:
    """One column per entry of `_FACTS`, float64 (n, 3), of images uint8 (n, 3, size, size), some at a time."""
    return torch.cat([torch.stack([fact.read(part).double() for fact in _FACTS], 1) for part in parts])


def _fingerprints_of(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([torch.from_numpy(copies.fingerprints(part)) for part in parts])


def _cached(words: Sequence[str], columns: int, make: Callable[[], Tensor]) -> Tensor:
    """What `make` gives, (n, columns), from the cache where it is there under all that it depends on, and `_FORMAT`."""
    folder = paths.cache() / "variety"
    key = "\0".join((*words, _FORMAT))
    found = feature_cache.load(folder, key, columns)
    if found is None:
        found = make()
        feature_cache.save(folder, key, found)
    return found


def _features(extractor: Extractor, images: Tensor) -> Tensor:
    return torch.cat([extractor.features(part).cpu() for part in images.split(CHUNK)])


def _small_of(faces: FaceSet, size: int) -> Tensor:
    """The training images as `copies.nearest_pixels` compares them."""
    side = min(size, copies.SIDE)
    words = (faces.split_identity("train", size), _PIXELS)
    return _cached(
        words, 3 * side * side, lambda: torch.cat([copies.small(part) for part in read(faces, "train", size)])
    )


class _HeldOut:
    """At most `HELD_OUT` test images, measured as drawn ones are."""

    def __init__(self, faces: FaceSet, size: int, extractor: Extractor) -> None:
        self._faces, self._size, self._extractor = faces, size, extractor
        test = faces.indices("test")
        spread = np.linspace(0, len(test) - 1, min(HELD_OUT, len(test))).astype(np.int64)
        self.indices = test[spread]  # over the whole set, whose order may follow the year

    def ratios(self, features: Tensor, pixels: Tensor, known: np.ndarray) -> Tensor:
        """By features and by pixels, (n, 2), of those without a near-duplicate in training; from the cache where it is there.

        Args:
            features: of the training images.
            pixels: their small forms.
            known: their fingerprints.
        """

        def make() -> Tensor:
            images = channels_first(self._faces.pixels(self.indices, size=self._size))
            images = images[torch.from_numpy(copies.without_near_duplicate(copies.fingerprints(images), known))]
            if not len(images):
                return torch.empty(0, 2)
            plain, mirrored = (_features(self._extractor, side) for side in (images, images.flip(3)))
            by_features = copies.nearest(plain, mirrored, features).ratio
            return torch.stack([by_features, copies.nearest_pixels(copies.small(images), pixels).ratio], 1)

        splits = (self._faces.split_identity(split, self._size) for split in ("train", "test"))
        method = f"{len(self.indices)} {copies.NEIGHBORS} {_PIXELS} {near_duplicates.METHOD}"
        return _cached((feature_cache.key_of(self._extractor, *splits), method), 2, make)


def _share(metric: str, which: np.ndarray) -> Score:
    """The share of images for which it is true, with its error as if they were independent."""
    return Score(metric, *of_share(float(which.mean()), len(which)))
