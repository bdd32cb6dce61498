"""An evaluation as a process sees it that is not the first: it makes a block of what the first one asks for."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from animegen_cli.data.dataset import FaceSet
from animegen_cli.errors import MachineError
from animegen_cli.evaluate import sharing
from animegen_cli.evaluate.classifier import open_recognizer
from animegen_cli.evaluate.evaluate import network
from animegen_cli.evaluate.images import EvaluatedRun
from animegen_cli.evaluate.reference import features_of_block
from animegen_cli.metrics.extractors import for_kid75
from animegen_cli.paths import Run

if TYPE_CHECKING:
    from torch import Tensor

    from animegen_cli.evaluate.request import Request
    from animegen_cli.evaluate.sharing import Task
    from animegen_cli.metrics.extractors import Extractor
    from animegen_cli.ranks import Ranks


def follow(request: Request, group: Ranks) -> None:
    """Do what the first process asks for until it has no more; nothing is opened before, so that it alone says what is wrong."""
    follower = _Follower(request, group)
    while (task := sharing.next_task(group)).what != "end":
        group.gathered(follower.block(task))


class _Follower:
    """What this process has opened."""

    def __init__(self, request: Request, group: Ranks) -> None:
        self.request = request
        self.group = group

    def block(self, task: Task) -> Tensor:
        """This process's rows."""
        if task.what == "images":
            return self._run(task.path).block.images(task.number)
        extractor = self._extractor(task.extractor)
        if task.what == "features":
            return self._run(task.path).block.features(task.number, extractor)
        return features_of_block(FaceSet.open(task.path), task.split, task.size, extractor, self.group)

    @functools.cached_property
    def _network(self) -> Extractor:
        return network(self.request, self.group)

    def _extractor(self, name: str) -> Extractor:
        found = [self._network, for_kid75(self._network)]
        if self.request.attributes is not None:
            main = self._network
            of_attributes = open_recognizer(self.request.attributes, device=main.device, precision=main.precision)
            found.append(of_attributes.extractor)
        for extractor in found:
            if sharing.name_of(extractor) == name:
                return extractor
        raise MachineError(
            "the processes of this evaluation have different weights of the feature network",
            hint="name its file with `--weights`, the same for all",
        )

    @functools.lru_cache(maxsize=1)  # noqa: B019  # it lives as long as the process
    def _run(self, path: str) -> EvaluatedRun:
        return EvaluatedRun(Run(Path(path)), self.request, self._network, self.group)
