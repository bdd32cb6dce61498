"""What a report reads from a run folder. The reading is patient: a run may be unfinished, unscored or damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import yaml

from animegen_cli import disk, paths
from animegen_cli.errors import DataError
from animegen_cli.metrics.protocol import Protocol, better, with_current_names
from animegen_cli.paths import Run
from animegen_cli.report.findings import Findings

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Score:
    """One value of `eval.json`. Scores of one name and one `protocol_id` may be compared."""

    name: str
    value: float
    std: float | None
    interval: tuple[float, float] | None
    protocol: Mapping[str, Any]
    protocol_id: str
    images: int
    values: tuple[float, ...] = ()
    """The value of each range of seeds, where there are several."""
    trainings: tuple[float, ...] = ()
    """The value of each training, where this is their mean."""
    freedom: int | None = None
    """Degrees of freedom of `std`; None where it counts as known."""

    @property
    def better(self) -> Literal["lower", "higher"] | None:
        """Which direction is good; None for a metric that this module does not know, which is never ranked."""
        return better(self.name)

    @property
    def range(self) -> tuple[float, float] | None:
        """The interval, or the value with one standard deviation to each side."""
        if self.interval is not None:
            return self.interval
        return None if self.std is None else (self.value - self.std, self.value + self.std)

    @property
    def text(self) -> str:
        """The value with as many digits as its uncertainty allows."""
        if self.std:
            places = min(max(1 - math.floor(math.log10(self.std)), 0), 5)
            return f"{self.value:.{places}f} ± {self.std:.{places}f}"
        if self.interval is not None:
            return f"{self.value:.4g} [{self.interval[0]:.4g}, {self.interval[1]:.4g}]"
        return f"{self.value:.4g}"

    @property
    def interval_text(self) -> str:
        """The value with its 95 % interval, with as many digits as its uncertainty allows."""
        if self.interval is None:
            return self.text
        low, high = self.interval
        places = 4 if not self.std else min(max(1 - math.floor(math.log10(self.std)), 0), 5)
        return f"{self.value:.{places}f} [{low:.{places}f}, {high:.{places}f}]"


@dataclass(frozen=True)
class Record:
    """A run as a report sees it.

    `about` is the content of run.json, `config` that of config.yaml. `curves` maps a logged key to (images seen, value)
    in rising order. `problems` are sentences on files that could not be used as they are.
    """

    run: Run
    about: Mapping[str, Any]
    config: Mapping[str, Any]
    curves: Mapping[str, list[tuple[float, float]]]
    scores: tuple[Score, ...]
    problems: tuple[str, ...] = ()
    drawing: Mapping[str, Any] = field(default_factory=dict)
    """What drawing cost when the run was scored: `seconds_per_100`, `peak_memory`."""
    findings: Findings = field(default_factory=Findings)
    """What else `eval` found: histograms, requests, sheets of pictures."""
    called: str = ""
    """Another name than the folder's."""
    trainings: tuple[Record, ...] = ()
    """Those that differ by their training seed alone and that this stands for (`means.joined`); none where it is one run."""

    @property
    def name(self) -> str:
        """The name of the run's folder, or the one that was given to it."""
        return self.called or self.run.name

    @property
    def seed(self) -> int | None:
        """The seed of the training; None where config.yaml does not say."""
        train = self.config.get("train")
        seed = train.get("seed") if isinstance(train, Mapping) else None
        return seed if isinstance(seed, int) else None

    @property
    def images(self) -> int:
        """Images seen in training; 0 for an untrained baseline."""
        return _whole(self.about.get("images"))

    @property
    def parameters(self) -> int | None:
        """Parameters of all networks together; None where run.json does not say."""
        counts = self.about.get("parameters")
        return sum(map(_whole, counts.values())) if isinstance(counts, Mapping) and counts else None

    @property
    def processor_seconds(self) -> float | None:
        """Processor time of the training, all threads together; None where run.json does not say, or where an accelerator
        did the work, beside which it says nothing."""
        found = self.about.get("processor_seconds")
        return (
            float(found) if isinstance(found, int | float) and found > 0 and self.about.get("device") == "cpu" else None
        )

    @property
    def notes(self) -> dict[str, str]:
        """What the family says of the run, such as the network whose features its losses compare."""
        found = self.about.get("notes")
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}

    def quantity(self, key: str) -> str:
        """What a logged value measures: equal for two runs exactly where they may share the axes of a plot.

        What the family says of it; a score is the same for all (`kid-faces`); else a text of family and model section.
        """
        name, said = key.rpartition("/")[2], self.about.get("quantities")
        if "-" in name:
            return name
        if isinstance(said, Mapping) and name in said:
            return str(said[name])
        return json.dumps([self.about.get("family"), self.config.get("model")], sort_keys=True, default=str)

    @property
    def diagnoses(self) -> list[str]:
        """What the doctor found at the end of training, a sentence each."""
        return [
            f"{entry.get('name')} since {_whole(entry.get('since')):,} images: {entry.get('says')}. Change: {entry.get('flag')}"
            for entry in self._doctor
        ]

    @property
    def finding_names(self) -> list[str]:
        """What the doctor found at the end of training, in two words each, such as `mode collapse`."""
        return [str(entry.get("name")) for entry in self._doctor]

    @property
    def _doctor(self) -> list[Mapping[str, Any]]:
        found = self.about.get("findings")
        return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []

    @property
    def classifies(self) -> bool:
        """Whether the run recognizes attributes in what others draw, and draws nothing itself."""
        return "classifies" in (self.about.get("abilities") or ())

    @property
    def data(self) -> Mapping[str, Any]:
        """What run.json says of the data set: name, identity, path, size and so on; empty where it says nothing."""
        found = self.about.get("data")
        return found if isinstance(found, Mapping) else {}

    @property
    def state(self) -> str:
        """`finished`, `untrained`, or how the training ended and how far it came: `stopped at 24%`; of several trainings how
        many are finished."""
        if self.trainings:
            done = sum(one.state == "finished" for one in self.trainings)
            return "finished" if done == len(self.trainings) else f"{done} of {len(self.trainings)} finished"
        state, target = str(self.about.get("state", "unknown")), _whole(self.about.get("target_images"))
        if not self.images:
            return "untrained"
        share = f" at {self.images / target:.0%}" if target and state != "finished" else ""
        return state + share

    def grids(self, kind: str) -> list[Path]:
        """Preview grids `samples/<kind>-<images>.png`, oldest first."""
        return sorted(self.run.samples.glob(f"{kind}-[0-9]*.png"))


@dataclass
class _Problems:
    """Files that could not be used as they are, in words for the reader."""

    found: list[str] = field(default_factory=list)

    def add(self, path: Path, what: object) -> None:
        self.found.append(f"{path}: {what}")


def read(run: Run) -> Record:
    """Read a run folder. Everything but `run.json` may be missing or broken; `problems` then says so.

    Raises:
        DataError: the folder has no `run.json`, or a damaged one.
    """
    about, problems = run.about, _Problems()
    config, curves = _config(run, problems), _curves(run, problems)
    stored = _eval(run, problems)
    scores, drawing = _scores(run, stored, problems), stored.get("drawing")
    findings = Findings.read(run.path, stored, lambda what: problems.add(run.scores, what))
    drawing = drawing if isinstance(drawing, dict) else {}
    return Record(run, about, config, curves, scores, tuple(problems.found), drawing, findings)


class TrainingTime(NamedTuple):
    """What trainings took, in one measure for all: its name, and the seconds of each (None: not known)."""

    measure: Literal["processor time", "training time"]
    seconds: tuple[float | None, ...]


def training_time(records: Sequence[Record]) -> TrainingTime:
    """Processor time where all that trained have it, which other work on the machine does not lengthen; else the clock's."""
    trained = [record for record in records if record.images]
    if trained and all(record.processor_seconds for record in trained):
        return TrainingTime("processor time", tuple(record.processor_seconds for record in records))
    seconds = [record.about.get("seconds") for record in records]
    return TrainingTime(
        "training time", tuple(float(s) if isinstance(s, int | float) and s > 0 else None for s in seconds)
    )


def scores_of(run: Run) -> tuple[Score, ...]:
    """Read what judges found and nothing else of a run, which is quick; nothing where that is missing or broken."""
    problems = _Problems()
    return _scores(run, _eval(run, problems), problems)


def _config(run: Run, problems: _Problems) -> dict[str, Any]:
    try:
        text = run.config.read_text(encoding="utf-8")
        found, _ = disk.parse_yaml(text)
        if not isinstance(found, dict):
            raise ValueError("it holds no settings")
        if not disk.is_as_written(text, found):
            raise ValueError("its settings are not those that the training wrote")
        return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        problems.add(run.config, f"cannot be read ({_first_line(error)})")
        return {}


def _curves(run: Run, problems: _Problems) -> dict[str, list[tuple[float, float]]]:
    curves: dict[str, list[tuple[float, float]]] = {}
    try:
        text = run.log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return curves
    lines, bad = text.splitlines(), 0
    for number, line in enumerate(lines):
        try:
            entry = disk.from_line(line)
            images = float(entry.pop("images"))
        except (ValueError, TypeError, KeyError, AttributeError):
            # A run that is being written now, or was killed, may end in half a line.
            bad += number < len(lines) - 1 or text.endswith("\n")
            continue
        for key, value in numbers(entry):
            curves.setdefault(key, []).append((images, float(value)))
    if bad:
        problems.add(run.log, f"{bad} damaged line{'s' * (bad > 1)} left out")
    return {key: sorted(points, key=lambda point: point[0]) for key, points in curves.items()}


def numbers(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the finite numbers of a line of the log by their whole names, such as `lr/model`."""
    for key, value in entry.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            yield prefix + key, value


def _eval(run: Run, problems: _Problems) -> dict[str, Any]:
    """What eval.json holds; empty where there is none, or none that can be read."""
    try:
        stored = paths.read_json(run.scores, what="list of scores") if run.scores.is_file() else None
        if stored is None:
            return {}
        if not isinstance(stored["scores"], list):
            raise TypeError("`scores` is no list")
        return with_current_names(stored)
    except (DataError, KeyError, TypeError) as error:
        problems.add(
            run.scores, f"damaged and left out ({_first_line(error)}); score again with `animegen eval {run.path}`"
        )
        return {}


def _scores(run: Run, stored: Mapping[str, Any], problems: _Problems) -> tuple[Score, ...]:
    entries = stored.get("scores", [])
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(score(entry))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, DataError) as error:
            problems.add(run.scores, f"score {number} is left out ({_first_line(error)})")
    return tuple(found)


def score(entry: Mapping[str, Any]) -> Score:
    """Read one entry of eval.json; ValueError, TypeError, KeyError and others like them for one that fits no protocol."""
    value = entry["value"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"its value is {value!r}, not a number")
    std, interval, protocol = entry.get("std"), entry.get("interval"), dict(entry["protocol"])
    # The name of the reference is for people; the id is computed from all else, and no longer fits edited fields.
    named = {"reference_name": protocol.pop("reference_name", None)}
    checked = Protocol.from_dict(protocol)
    if entry["protocol_id"] != checked.id or entry["name"] != checked.name:
        raise ValueError("its name or id does not fit its protocol")
    low_high = None if interval is None else (float(interval[0]), float(interval[1]))
    return Score(
        name=str(entry["name"]), value=float(value), std=None if std is None else abs(float(std)),
        interval=low_high, protocol=asdict(checked) | named, protocol_id=checked.id,
        images=_whole(entry.get("images")), values=_values(entry.get("values")),
    )  # fmt: skip


def _values(found: object) -> tuple[float, ...]:
    numbers = found if isinstance(found, list) else []
    return tuple(float(value) for value in numbers if isinstance(value, (int, float)) and math.isfinite(value))


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as a dotted name (`train.batch`) and the value in words."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)


def _whole(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0


def _first_line(error: BaseException) -> str:
    text = f"no `{error.args[0]}`" if isinstance(error, KeyError) else str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
