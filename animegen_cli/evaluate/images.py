"""What judges look at: a run with what it draws and what it learned from, or a folder of images."""

from __future__ import annotations

import functools
import shutil
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from animegen_cli import console, disk, paths
from animegen_cli.data import npz_file
from animegen_cli.data.dataset import FaceSet, open_images, require_size
from animegen_cli.device import machine_about, peak_memory
from animegen_cli.errors import DataError, UsageError
from animegen_cli.evaluate import feature_cache
from animegen_cli.evaluate.reference import Reference, read, set_features
from animegen_cli.metrics.protocol import Protocol
from animegen_cli.model.family import Edit, Samples
from animegen_cli.model.pixels import channels_first
from animegen_cli.sample.generate import Generator
from animegen_cli.sample.trained import describe_sampling, open_trained, sampling_of
from animegen_cli.seeds import spell_seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from animegen_cli.evaluate.request import Request
    from animegen_cli.metrics.extractors import Extractor
    from animegen_cli.paths import Run

CHUNK = 512
"""Images that are drawn, or go through a network, at once."""


class ImageSet(ABC):
    """Images under judgment, and what they are held against: a run's (`EvaluatedRun`), or those of a folder."""

    extractor: Extractor
    reference: Reference
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

    def __init__(self, path: Path, request: Request, extractor: Extractor) -> None:
        if request.against is None:
            raise UsageError(
                f"`{path}` is a folder of images: it needs a reference",
                hint=f"type `animegen eval {path} --against faces.zip`",
            )
        self.faces = open_images(path)
        self.extractor = extractor
        if not self.faces.square:
            require_size(self.faces, self.faces.size)
        self.size = self.faces.size
        self.count = len(self.faces.indices())
        source = open_reference(request.against)
        split = request.split if isinstance(source, FaceSet) and len(source.indices("test")) else "all"
        self.reference = Reference(source, split, self.size, name=Path(request.against).name)

    @functools.cached_property
    def images(self) -> Tensor:
        """The images: uint8 (n, 3, size, size), on the CPU."""
        return torch.cat(list(self.parts(0)))

    def parts(self, number: int) -> Iterator[Tensor]:  # noqa: ARG002  there is one range
        """All of them."""
        return read(self.faces, "all", self.size)

    def features_of(self, extractor: Extractor) -> list[Tensor]:
        """Their features (n, D), on the CPU; those of the cache where it has them."""
        return [set_features(self.faces, "all", self.size, extractor)]


class EvaluatedRun(ImageSet):
    """A run under judgment. What costs time (drawing, features) is made when a judge first asks for it."""

    def __init__(self, run: Run, request: Request, extractor: Extractor) -> None:
        self.run = run
        self.request = request
        self.extractor = extractor
        self.folder = run.path
        self._known: dict[str, Tensor] = {}
        reference = self.faces if request.against is None else open_reference(request.against)
        self.trained = open_trained(run, device=extractor.device)
        self.size = self.trained.data.size
        self.seen = self.trained.images
        if extractor.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(extractor.device)
        self.reference = Reference(reference, request.split, self.size)
        sampling = sampling_of(self.trained, request.overrides)
        for text in sampling.cautions():
            console.warn(text)
        generator = Generator(self.trained, sampling)
        self.source: _Source
        if isinstance(self.trained.model, Samples):
            self.source = _Drawn(generator, request)
        else:
            self.source = _Translated(generator, request, self.faces)
        self.ranges = self.source.ranges
        self.sampling_text = self.source.sampling_text
        self.count = len(self.source)

    def label(self, index: int) -> str:
        """Its seed, or the photo that it was translated from."""
        return self.source.label(index)

    @functools.cached_property
    def faces(self) -> FaceSet:
        """The data set that the run was trained on; DataError where it is gone or has changed."""
        return own_data(self.run, self.request.data)

    @functools.cached_property
    def images(self) -> Tensor:
        """What the run draws, of the first range of seeds: uint8 (n, 3, size, size), on the CPU."""
        return torch.cat(list(self.parts(0)))

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
            parts = self.parts(number) if number else self.images.split(CHUNK)
            found = torch.cat([extractor.features(part).cpu() for part in parts])
            feature_cache.save(self._folder, key, found)
        self._known[key] = found
        return found

    def parts(self, number: int) -> Iterator[Tensor]:
        """Draw the images of range `number`."""
        count = len(self.source.ranges)
        words = "drawing" if count == 1 else f"drawing {number + 1}/{count}"
        with console.progress(words, len(self.source)) as bar:
            yield from self.source.images(number, bar.advance)

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


class _Source(ABC):
    """Where a run's images come from, range by range, and what drawing them took."""

    ranges: Sequence[str]
    """The seeds of each range, spelled."""
    sampling_text: str
    """How images are drawn, in the words of a protocol."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.seconds = 0.0
        self.made = 0

    @abstractmethod
    def __len__(self) -> int:
        """Images of each range."""

    @property
    def seeds(self) -> Sequence[int]:
        """Those of the first range; none where images do not come from seeds."""
        return ()

    @abstractmethod
    def label(self, index: int) -> str:
        """What image `index` of the first range is called on a sheet."""

    @abstractmethod
    def key(self, number: int) -> tuple[str, ...]:
        """What the images of range `number` depend on, apart from weights, precision and device."""

    @abstractmethod
    def images(self, number: int, on_progress: Callable[[int], None]) -> Iterator[Tensor]:
        """Draw the images of range `number`, some at a time: uint8 (n, 3, size, size), on the CPU."""

    def _took(self, began: float, images: Tensor) -> Tensor:
        self.seconds += time.perf_counter() - began
        self.made += len(images)
        return images


class _Drawn(_Source):
    """What a run draws from seeds."""

    def __init__(self, generator: Generator, request: Request) -> None:
        super().__init__(generator)
        if request.seeds is not None:
            self.numbers: list[Sequence[int]] = [list(request.seeds)]
        else:
            self.numbers = [range(i * request.n, (i + 1) * request.n) for i in range(request.repeats)]
        self.ranges = [spell_seeds(numbers) for numbers in self.numbers]
        self.sampling_text = describe_sampling(generator.sampling)

    def __len__(self) -> int:
        return len(self.numbers[0])

    @property
    def seeds(self) -> Sequence[int]:
        return self.numbers[0]

    def label(self, index: int) -> str:
        return f"seed {self.numbers[0][index]}"

    def key(self, number: int) -> tuple[str, ...]:
        return self.sampling_text, self.ranges[number]

    def images(self, number: int, on_progress: Callable[[int], None]) -> Iterator[Tensor]:
        numbers = self.numbers[number]
        for start in range(0, len(numbers), CHUNK):
            began = time.perf_counter()
            yield self._took(began, self.generator.draw(numbers[start : start + CHUNK], on_progress=on_progress))


class _Translated(_Source):
    """What a translator makes of its data set's held-out photos: one range, without seeds."""

    def __init__(self, generator: Generator, request: Request, faces: FaceSet) -> None:
        super().__init__(generator)
        self.size = generator.trained.data.size
        self.faces = faces
        self.split = "test" if len(faces.indices("test", "photos")) else "train"
        self.indices = faces.indices(self.split, "photos")[: request.n]
        self.ranges = [""]
        self.sampling_text = f"{self.split} photos translated"

    def __len__(self) -> int:
        return len(self.indices)

    def label(self, index: int) -> str:
        return Path(self.faces.origin(self.indices[index])).name

    def key(self, number: int) -> tuple[str, ...]:
        photos = self.faces.split_identity(self.split, self.size, "photos")
        return self.sampling_text, photos, str(len(self)), str(number)

    def images(self, number: int, on_progress: Callable[[int], None]) -> Iterator[Tensor]:  # noqa: ARG002  there is one
        for start in range(0, len(self), CHUNK):
            pixels = self.faces.pixels(self.indices[start : start + CHUNK], size=self.size)
            began = time.perf_counter()
            yield self._took(began, self.generator.translate(channels_first(pixels), Edit()))
            on_progress(len(pixels))
