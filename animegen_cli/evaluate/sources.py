"""Where a run's images come from: seeds, or photos that it translates; and the block of them that a process draws."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from animegen_cli import console
from animegen_cli.device import machine_about
from animegen_cli.evaluate.pace import Pace, measured
from animegen_cli.model.family import Edit, Samples
from animegen_cli.model.pixels import channels_first
from animegen_cli.sample.trained import describe_sampling
from animegen_cli.seeds import spell_seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from animegen_cli.data.dataset import FaceSet
    from animegen_cli.evaluate.request import Request
    from animegen_cli.metrics.extractors import Extractor
    from animegen_cli.paths import Run
    from animegen_cli.ranks import Ranks
    from animegen_cli.sample.generate import Generator

CHUNK = 512
"""Images that are drawn, or go through a network, at once."""


class Source(ABC):
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
    def images(self, number: int, rows: range, on_progress: Callable[[int], None]) -> Iterator[Tensor]:
        """Draw a block of range `number`, some images at a time: uint8 (n, 3, size, size), on the CPU."""

    def _took(self, began: float, images: Tensor) -> Tensor:
        self.seconds += time.perf_counter() - began
        self.made += len(images)
        return images


def source_of(generator: Generator, request: Request, faces: Callable[[], FaceSet]) -> Source:
    """What a run's images come from.

    Args:
        generator: what draws them.
        request: which seeds, or how many photos.
        faces: opens the run's own data set, whose photos a translator takes.
    """
    if isinstance(generator.trained.model, Samples):
        return _Drawn(generator, request)
    return _Translated(generator, request, faces())


class _Drawn(Source):
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

    def images(self, number: int, rows: range, on_progress: Callable[[int], None]) -> Iterator[Tensor]:
        numbers = self.numbers[number][rows.start : rows.stop]
        for start in range(0, len(numbers), CHUNK):
            began = time.perf_counter()
            yield self._took(began, self.generator.draw(numbers[start : start + CHUNK], on_progress=on_progress))


class _Translated(Source):
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

    def images(self, number: int, rows: range, on_progress: Callable[[int], None]) -> Iterator[Tensor]:  # noqa: ARG002
        indices = self.indices[rows.start : rows.stop]
        for start in range(0, len(indices), CHUNK):
            pixels = self.faces.pixels(indices[start : start + CHUNK], size=self.size)
            began = time.perf_counter()
            yield self._took(began, self.generator.translate(channels_first(pixels), Edit()))
            on_progress(len(pixels))


class Block:
    """What one of several processes draws of each range, and sees in it: a block of whole network calls.

    Alone a process draws all.
    """

    def __init__(self, source: Source, group: Ranks, extractor: Extractor, run: Run) -> None:
        """Args:
        source: all images.
        group: the processes that share them.
        extractor: one of those that will look at them; all take as many images in a call.
        run: whose images they are.
        """
        call = source.generator.call_size
        self.source = source
        self.rows = group.block(len(source), call * -(-extractor.micro_batch // call))
        self._first: Tensor | None = None
        self._run = run
        self._pace: Pace | None = None

    def images(self, number: int) -> Tensor:
        """The block of range `number`: uint8 (n, 3, size, size), on the CPU. That of the first range is drawn once."""
        if number == 0 and self._first is not None:
            return self._first
        size = self.source.generator.trained.data.size
        drawn = torch.cat([torch.empty(0, 3, size, size, dtype=torch.uint8), *self._parts(number)])
        if number == 0:
            self._first = drawn
        return drawn

    def features(self, number: int, extractor: Extractor) -> Tensor:
        """Features (n, D) of the block of range `number`, on the CPU."""
        parts = self._parts(number) if number else self.images(0).split(CHUNK)
        found = [extractor.features(part).cpu() for part in parts]
        return torch.cat([torch.empty(0, extractor.dims), *found])

    def _parts(self, number: int) -> Iterator[Tensor]:
        count = len(self.source.ranges)
        words = "drawing" if count == 1 else f"drawing {number + 1}/{count}"
        if self._pace is None:  # ranges whose features are known are not drawn
            device = str(machine_about(self.source.generator.trained.device)["device"])
            known = measured(self._run, self.source.sampling_text, device)
            self._pace = Pace(str(self._run.path), len(self.rows) * (count - number), known)
        pace = self._pace
        with console.progress(words, len(self.rows)) as bar:

            def advance(drawn: int) -> None:
                pace.drawn(drawn)
                bar.advance(drawn)

            yield from self.source.images(number, self.rows, advance)
