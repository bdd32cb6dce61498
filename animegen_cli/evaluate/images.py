"""What judges look at: a run with what it draws and what it learned from, or a folder of images."""

from __future__ import annotations

import copy
import functools
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from animegen_cli import console, disk, paths, ranks
from animegen_cli.data import npz_file
from animegen_cli.data.dataset import FaceSet, open_images, require_size
from animegen_cli.device import machine_about, peak_memory
from animegen_cli.errors import DataError, UsageError
from animegen_cli.evaluate import feature_cache, sharing
from animegen_cli.evaluate.reference import Reference, read, set_features
from animegen_cli.evaluate.sources import CHUNK, Block, source_of
from animegen_cli.metrics.protocol import Protocol
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.trained import cautions, open_trained, sampling_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from animegen_cli.evaluate.request import Request
    from animegen_cli.metrics.extractors import Extractor
    from animegen_cli.paths import Run
    from animegen_cli.ranks import Ranks


class ImageSet(ABC):
    """Images under judgment, and what they are held against: a run's (`EvaluatedRun`), or those of a folder."""

    extractor: Extractor
    group: Ranks
    """The processes that share drawing and features; each has an image set, and the first one's is judged."""
    size: int
    """Side in pixels."""
    count: int
    """How many `images` are."""
    ranges: Sequence[str] = ("",)
    """Seeds, range by range; `images` are those of the first."""
    sampling_text: str = ""
    """How the images were drawn, in the words of a protocol."""
    seen: int | None = None
    """Images that the run had seen in training."""
    folder: Path | None = None
    """Where sheets go; None where there is no run to hold them."""

    @property
    @abstractmethod
    def reference(self) -> Reference:
        """What the images are held against; DataError where it is missing, damaged or too small."""

    @property
    @abstractmethod
    def images(self) -> Tensor:
        """The images, of the first range of seeds: uint8 (n, 3, size, size), on the CPU."""

    @abstractmethod
    def features_of(self, extractor: Extractor) -> list[Tensor]:
        """Features (n, D) of each range of seeds, on the CPU."""

    @abstractmethod
    def parts(self, number: int) -> Iterator[Tensor]:
        """The images of range `number`, some at a time: uint8 (n, 3, size, size), on the CPU."""

    @property
    def features(self) -> Tensor:
        """The extractor's features (n, D) of `images`, on the CPU."""
        return self.features_of(self.extractor)[0]

    def label(self, index: int) -> str:
        """What image `index` is called on a sheet."""
        return f"image {index}"

    def protocol(self, metric: str) -> Protocol:
        """How `metric` is measured on the extractor's features of `images`, from one range of seeds."""
        extractor, reference = self.extractor, self.reference
        return Protocol(
            metric=metric, extractor=extractor.name, extractor_sha=extractor.sha, resize=extractor.resize,
            reference=reference.identity, reference_split=reference.split, n_real=reference.count, n_fake=self.count,
            size=self.size, precision=extractor.precision, seeds=self.ranges[0], sampling=self.sampling_text,
        )  # fmt: skip


class Folder(ImageSet):
    """A folder (or zip, or data set) of images under judgment."""

    def __init__(self, path: Path, request: Request, extractor: Extractor, group: Ranks = ranks.ALONE) -> None:
        if request.attributes:
            raise UsageError(
                f"`--attributes` looks at what a run draws, and `{path}` is a folder of images",
                hint=f"for the distance of its features type `--extractor attributes:{request.attributes}`",
            )
        if request.against is None:
            raise UsageError(
                f"`{path}` is a folder of images: it needs a reference",
                hint=f"type `animegen eval {path} --against faces.zip`",
            )
        self.path = path
        self.request = request
        self.faces = open_images(path)
        self.extractor = extractor
        self.group = group
        if not self.faces.square:
            require_size(self.faces, self.faces.size)
        self.size = self.faces.size
        self.count = len(self.faces.indices())

    @functools.cached_property
    def reference(self) -> Reference:
        """What `--against` names; DataError where it is missing, damaged or too small."""
        against = str(self.request.against)
        source = open_reference(against)
        split = self.request.split if isinstance(source, FaceSet) and len(source.indices("test")) else "all"
        return Reference(source, split, self.size, name=Path(against).name, group=self.group)

    @functools.cached_property
    def images(self) -> Tensor:
        """The images: uint8 (n, 3, size, size), on the CPU."""
        return torch.cat(list(self.parts(0)))

    def parts(self, number: int) -> Iterator[Tensor]:  # noqa: ARG002  there is one range
        """All of them."""
        return read(self.faces, "all", self.size)

    def features_of(self, extractor: Extractor) -> list[Tensor]:
        """Their features (n, D), on the CPU; those of the cache where it has them."""
        return [set_features(self.faces, "all", self.size, extractor, self.group)]


class EvaluatedRun(ImageSet):
    """A run under judgment. What costs time (drawing, features) is made when a judge first asks for it."""

    def __init__(self, run: Run, request: Request, extractor: Extractor, group: Ranks = ranks.ALONE) -> None:
        self.run = run
        self.request = request
        self.extractor = extractor
        self.group = group
        self.folder = run.path
        self._known: dict[str, Tensor] = {}
        self.trained = open_trained(run, device=extractor.device)
        self.size = self.trained.data.size
        self.seen = self.trained.images
        if extractor.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(extractor.device)
        sampling = sampling_of(self.trained, request.overrides)
        for text in cautions(self.trained, sampling, run):
            console.warn(text)
        generator = Generator(self.trained, sampling)
        self.source = source_of(generator, request, lambda: self.faces)
        self.block = Block(self.source, group, extractor, run)
        self.ranges = self.source.ranges
        self.sampling_text = self.source.sampling_text
        self.count = len(self.source)

    def through(self, extractor: Extractor) -> EvaluatedRun:
        """The same run and images before another feature network; what was drawn is not drawn again."""
        other = copy.copy(self)
        other.extractor = extractor
        return other

    def label(self, index: int) -> str:
        """Its seed, or the photo that it was translated from."""
        return self.source.label(index)

    @functools.cached_property
    def reference(self) -> Reference:
        """What `--against` names, else the run's own data set; DataError where it is gone."""
        source = self.faces if self.request.against is None else open_reference(self.request.against)
        return Reference(source, self.request.split, self.size, group=self.group)

    @functools.cached_property
    def faces(self) -> FaceSet:
        """The data set that the run was trained on; DataError where it is gone or has changed."""
        return own_data(self.run, self.request.data)

    @functools.cached_property
    def images(self) -> Tensor:
        """What the run draws, of the first range of seeds: uint8 (n, 3, size, size), on the CPU."""
        return self._drawn(0)

    def features_of(self, extractor: Extractor) -> list[Tensor]:
        """Features (n, D) of each range of seeds, on the CPU; stored in the run folder, so that a further score draws
        nothing."""
        return [self._features(number, extractor) for number in range(len(self.source.ranges))]

    def _features(self, number: int, extractor: Extractor) -> Tensor:
        key = feature_cache.key_of(
            extractor, self.trained.precision, self.trained.device.type, *self.source.key(number)
        )
        if key in self._known:
            return self._known[key]
        found = None if self.request.force else feature_cache.load(self._folder, key, extractor.dims)
        if found is None:
            task = sharing.Task("features", str(self.run.path.resolve()), number, extractor=sharing.name_of(extractor))
            found = sharing.shared(self.group, task, lambda: self.block.features(number, extractor))
            feature_cache.save(self._folder, key, found)
        self._known[key] = found
        return found

    def parts(self, number: int) -> Iterator[Tensor]:
        """Draw the images of range `number`."""
        yield from (self._drawn(number) if number else self.images).split(CHUNK)

    def _drawn(self, number: int) -> Tensor:
        task = sharing.Task("images", str(self.run.path.resolve()), number)
        return sharing.shared(self.group, task, lambda: self.block.images(number))

    @functools.cached_property
    def _folder(self) -> Path:
        """Where features of these weights are stored; those of others are deleted."""
        found = self.run.path / "features" / disk.sha256(self.run.weights)[:16]
        for other in found.parent.glob("*"):
            if other != found:
                shutil.rmtree(other, ignore_errors=True)
        return found

    def drawing(self) -> dict[str, Any] | None:
        """What drawing cost, as eval.json holds it; None while nothing was drawn."""
        source = self.source
        if not source.seconds:
            return None
        return {
            "seconds_per_100": round(100 * source.seconds / source.made, 4),
            "peak_memory": peak_memory(self.trained.device), "images": self.trained.images,
            "sampling": source.sampling_text, "device": str(machine_about(self.trained.device)["device"]),
        }  # fmt: skip


def open_reference(spec: str) -> FaceSet | Path:
    """The reference that `--against` names: a set, folder or .npz of images, or the path of an .npz of moments.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = Path(spec)
    if not path.exists():
        raise DataError(
            f"no reference `{spec}`",
            hint=paths.similar(path) or "name a data set, a folder or .npz of images, or an .npz of mu and sigma",
        )
    held = npz_file.names(path) if path.is_file() else None
    return path if held is not None and held >= npz_file.MOMENTS else FaceSet.open(path)


def own_data(run: Run, path: Path | None = None) -> FaceSet:
    """The data set that the run was trained on, at `path` or where it was; DataError where it is gone or another."""
    about = run.about["data"]
    path = path or Path(about["path"])
    if not path.exists():
        raise DataError(
            f"the run's data set {path} is gone", hint="say where it is with `--data`, or score `--against` another"
        )
    faces = FaceSet.open(path)
    if faces.identity != about["identity"]:
        raise DataError(
            f"{path} does not hold the pictures that the run was trained on",
            hint="name the right file with `--data`, or score `--against` this one",
        )
    return faces
