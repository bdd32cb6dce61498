"""The file of a study: which runs it trains, how they are scored, and which numbers of a document stand beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from animegen_cli import config, paths
from animegen_cli.config import Amount, Layer, Progress, Section
from animegen_cli.errors import UsageError, did_you_mean
from animegen_cli.report import published

SEED = "train.seed"
"""The setting that a study's seeds set."""


def check_time(text: str) -> str:
    if Amount.parse(text).seconds is None:
        raise ValueError(f"`{text}` is no time; write `10 min`, or give the runs a `duration` in images or epochs")
    return text


Time = Annotated[str, AfterValidator(check_time)]


@dataclass(frozen=True, kw_only=True)
class StudyRun(Section):
    """One run of a study."""

    family: str
    preset: str
    settings: dict[str, Any] = field(default_factory=dict)
    """What `--set` would change: `model.beta: 4`."""
    duration: Progress | None = None
    """How long it trains; as its preset says when absent."""
    images_per_second: float | None = None
    """What a budget of time was turned into images with; written by the study."""


@dataclass(frozen=True, kw_only=True)
class Scoring(Section):
    """How every run is scored: options of `animegen eval`."""

    n: Annotated[int, Field(ge=2)] = 2048
    repeats: Annotated[int, Field(ge=1)] = 3
    split: Literal["train", "test", "all"] = "test"
    metrics: list[str] = field(default_factory=list)
    """All that `animegen eval` measures when empty."""
    extractors: list[str] = field(default_factory=list)
    """Feature networks, as `--extractor` names them: the first looks at all `metrics`, further ones at those of features. When
    empty the one that `animegen eval` takes by itself."""


@dataclass(frozen=True, kw_only=True)
class Plot(Section):
    """One score against another, a point per run."""

    x: str
    y: str
    runs: list[str] = field(default_factory=list)
    """Runs joined by a line, in this order; all without a line when empty."""


@dataclass(frozen=True, kw_only=True)
class Printed(Section):
    """A table of a document, and what here stands beside its numbers."""

    table: str
    """Its name in `report/references.yaml`, such as `kumari2024-table-2`."""
    figures: dict[str, list[str]]
    """Printed figure -> scores or validated losses of ours, or their first words, of which the first that a run has stands
    beside it: `FID: [fid, fd]`."""
    rows: dict[str, list[str]] = field(default_factory=dict)
    """Printed row -> runs that stand beside it; every row beside `runs` when empty."""
    runs: list[str] = field(default_factory=list)
    """Runs beside a table over the course of training, or beside every row."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig(Section):
    """A study as its file says it."""

    title: str
    about: str
    document: Annotated[str, Field(pattern=r"^\d{3}$")] | None = None
    """Number of the document that it repeats, which is another name of a shipped study: `"003"`."""
    runs: dict[str, StudyRun]
    size: Annotated[int, Field(ge=8)] | None = None
    """Pixels; of the set or of the presets when absent."""
    demo: Annotated[int, Field(ge=16)] | None = None
    """Without `--data`: so many drawn faces of `size` pixels."""
    budget: Time | None = None
    """Training time of each run without a `duration`; turned into images once, by measuring."""
    cores: Annotated[int, Field(ge=1)] | None = None
    """Cores of the CPU that each run trains on. The budget is then processor time of each, so that other work on the machine
    costs a run nothing: 12 min on 1 core are 12 core-minutes. When absent: all cores or the GPU, and time by the clock."""
    seeds: list[Annotated[int, Field(ge=0)]] = field(default_factory=list)
    """Training seeds: one training of each run for each; the presets' own seed when empty."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Presets that a reader may look for here, `FAMILY/NAME`, and why each is none of the runs."""
    scores: Scoring = field(default_factory=Scoring)
    plots: list[Plot] = field(default_factory=list)
    printed: list[Printed] = field(default_factory=list)
    """What a document prints, set beside what is measured here."""
    data: str | None = None
    """Identity of the data set; written by the study."""
    device: str | None = None
    """Where a budget was measured; written by the study."""


def load(spec: str | Path) -> StudyConfig:
    """Read a shipped study, by its name, or a YAML file.

    Raises:
        ConfigError: something in the file is wrong; the message names the line.
        UsageError: no such study, or one whose runs or plots do not fit together.
    """
    file = paths.study_file(str(spec))
    shipped = file.parent == paths.presets_folder() / "studies"
    layer = Layer.from_yaml(file, shown=f"presets/studies/{file.name}" if shipped else None)
    study = config.build(layer, StudyConfig, hint="see presets/studies/smoke.yaml for a whole one")
    _check(study, file)
    return study


def _check(study: StudyConfig, file: Path) -> None:
    named = {
        "plots": {name for plot in study.plots for name in plot.runs},
        "printed": {name for one in study.printed for names in (one.runs, *one.rows.values()) for name in names},
    }
    for key, names in named.items():
        if unknown := names - set(study.runs):
            raise UsageError(
                f"the study {file} cannot be run: its {key} name runs that it does not have: {', '.join(sorted(unknown))}",
                hint=f"mend its `runs:` or `{key}:`",
            )
    if not study.runs:
        raise UsageError(f"the study {file} cannot be run: it has no runs", hint="add some under `runs:`")
    for name in study.runs:
        if Path(name).name != name or name.startswith("."):
            raise UsageError(f"`{name}` cannot name a run: it becomes a folder", hint="use letters, digits and dashes")
    _check_seeds(study, file)
    for one in study.printed:
        _check_printed(one)


def _check_seeds(study: StudyConfig, file: Path) -> None:
    if len(set(study.seeds)) < len(study.seeds):
        raise UsageError(f"the study {file} cannot be run: a seed stands twice in its `seeds:`", hint="name each once")
    if study.seeds and (own := next((name for name, run in study.runs.items() if SEED in run.settings), None)):
        raise UsageError(
            f"the study {file} cannot be run: `{own}` has a `{SEED}` of its own beside the study's seeds",
            hint="leave either out",
        )
    folders = [folder_name(study, name, seed) for seed in study.seeds for name in study.runs]
    if twice := next((name for name in folders if folders.count(name) > 1), None):
        raise UsageError(f"two trainings of the study {file} would be called {twice}", hint="rename one of its runs")


def folder_name(study: StudyConfig, name: str, seed: int | None) -> str:
    """The folder of a run's training under `runs/`: its name, and behind the first of the seeds the seed, so that a study of one
    seed can be given more."""
    return name if seed is None or seed == study.seeds[0] else f"{name}-seed{seed}"


def _check_printed(one: Printed) -> None:
    source = published.find(one.table)
    if source is None:
        raise UsageError(f"no printed table `{one.table}`", hint=did_you_mean(one.table, published.names()))
    rows = source["rows"]
    for kind, words, known in (
        ("figure", one.figures, list(rows[0]["scores"])),
        ("row", one.rows, [str(row["name"]) for row in rows if "name" in row]),
    ):
        for word in words:
            if word not in known:
                raise UsageError(f"`{one.table}` prints no {kind} `{word}`", hint=did_you_mean(word, known))
