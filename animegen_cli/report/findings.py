"""What `animegen eval` finds besides scores, as eval.json holds it: histograms, requests met, sheets of pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


T = TypeVar("T")


@dataclass(frozen=True)
class Histogram:
    """Shares of the values of one attribute (such as hair color) among real and among drawn images, in [0, 1].

    `by` names what looked: `pixels`, or an attribute network. `real` is empty where no real images were looked at.
    """

    name: str
    by: str
    values: tuple[str, ...]
    real: tuple[float, ...]
    drawn: tuple[float, ...]


@dataclass(frozen=True)
class Request:
    """How often a conditional model drew what it was asked for: `recognized` of `asked` images, as the network `by` sees it."""

    attribute: str
    value: str
    asked: int
    recognized: int
    by: str


@dataclass(frozen=True)
class Findings:
    """Everything of eval.json that is no score.

    `sheets` are names and files of pictures that show real images: reports can leave them out.
    """

    histograms: tuple[Histogram, ...] = ()
    requests: tuple[Request, ...] = ()
    sheets: tuple[tuple[str, Path], ...] = ()

    @classmethod
    def read(cls, folder: Path, stored: Mapping[str, Any], complain: Callable[[str], None]) -> Findings:
        """Read the content of eval.json; entries that cannot be right are left out.

        Args:
            folder: of the run; sheets outside it are not shown.
            stored: what eval.json holds.
            complain: called with a sentence for each entry that is left out.
        """
        return cls(
            tuple(_sound_entries(stored, "histograms", _histogram, complain)),
            tuple(_sound_entries(stored, "requests", _request, complain)),
            tuple(_sheets(folder, stored.get("sheets") or {}, complain)),
        )


def _sound_entries(
    stored: Mapping[str, Any], kind: str, read: Callable[[Mapping[str, Any]], T], complain: Callable[[str], None]
) -> Iterator[T]:
    entries = stored.get(kind) or []
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        try:
            yield read(entry)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            complain(f"entry {number} of `{kind}` is left out: it is not as `animegen eval` writes it")


def _sheets(folder: Path, stored: object, complain: Callable[[str], None]) -> Iterator[tuple[str, Path]]:
    for name, file in stored.items() if isinstance(stored, dict) else [("sheets", stored)]:
        if isinstance(file, str) and (folder / file).resolve().is_relative_to(folder.resolve()):
            yield str(name), folder / file
        else:
            complain(f"sheet `{name}` is left out: it is no file inside the run")


def _histogram(entry: Mapping[str, Any]) -> Histogram:
    values, real, drawn = entry["values"], entry.get("real") or [], entry["drawn"]
    if not isinstance(values, list) or len(values) != len(drawn) or len(real) not in (0, len(values)):
        raise ValueError("a share per value is needed")
    return Histogram(str(entry["name"]), str(entry["by"]), tuple(map(str, values)), _shares(real), _shares(drawn))


def _shares(found: list[Any]) -> tuple[float, ...]:
    shares = tuple(float(share) for share in found)
    if not all(math.isfinite(share) and 0 <= share <= 1 for share in shares):
        raise ValueError("shares lie between 0 and 1")
    return shares


def _request(entry: Mapping[str, Any]) -> Request:
    asked = int(entry["asked"])
    recognized = int(entry["recognised"])
    if not 0 <= recognized <= asked or asked == 0:
        raise ValueError("no more can be recognized than were asked for")
    return Request(str(entry["attribute"]), str(entry["value"]), asked, recognized, str(entry["by"]))
