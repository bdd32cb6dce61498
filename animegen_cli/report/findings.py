"""What `eval` saw besides scores, as eval.json holds it: histograms, requests and their answers, sheets of pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True)
class Histogram:
    """Shares of the values of one attribute (such as hair colour) among real and among drawn images, in [0, 1].

    `by` names what looked: `pixels`, or an attribute network. `real` is empty where no real images were looked at.
    """

    name: str
    by: str
    values: tuple[str, ...]
    real: tuple[float, ...]
    drawn: tuple[float, ...]


@dataclass(frozen=True)
class Request:
    """How often a conditional model drew what it was asked for, as the network `by` sees it."""

    attribute: str
    value: str
    asked: int
    recognised: int
    by: str


@dataclass(frozen=True)
class Judged:
    """Everything of eval.json that is no score. `sheets` show real images: reports can leave them out."""

    histograms: tuple[Histogram, ...] = ()
    requests: tuple[Request, ...] = ()
    sheets: tuple[tuple[str, Path], ...] = ()

    @classmethod
    def read(cls, folder: Path, stored: Mapping[str, Any], complain: Callable[[str], None]) -> Judged:
        """From eval.json's content; entries that cannot be right are left out, and `complain` is told which.

        Args:
            folder: of the run; sheets outside it are not shown.
        """

        def sound(kind: str, made: Callable[[Any], Any]) -> Iterator[Any]:
            entries = stored.get(kind) or []
            for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
                try:
                    yield made(entry)
                except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                    complain(f"entry {number} of `{kind}` is left out: it is not as `animegen eval` writes it")

        sheets = stored.get("sheets") or {}
        pairs = list(sheets.items()) if isinstance(sheets, dict) else [("sheets", sheets)]
        shown = []
        for name, file in pairs:
            if isinstance(file, str) and (folder / file).resolve().is_relative_to(folder.resolve()):
                shown.append((str(name), folder / file))
            else:
                complain(f"sheet `{name}` is left out: it is no file inside the run")
        return cls(tuple(sound("histograms", _histogram)), tuple(sound("requests", _request)), tuple(shown))


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
    asked, recognised = int(entry["asked"]), int(entry["recognised"])
    if not 0 <= recognised <= asked or asked == 0:
        raise ValueError("no more can be recognised than were asked for")
    return Request(str(entry["attribute"]), str(entry["value"]), asked, recognised, str(entry["by"]))
