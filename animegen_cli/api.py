"""animegen in Python, for notebooks and scripts: `import animegen_cli as animegen`.

Each function asks a verb for what its command asks, with the names of the command's options, and returns an object that a
notebook shows. Networks are loaded when they are needed. Whatever goes wrong raises an `AnimegenError` (`animegen_cli.errors`)
with a hint that says what to change.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from animegen_cli import console, paths
from animegen_cli.errors import DataError, UsageError, did_you_mean
from animegen_cli.report import records, units
from animegen_cli.report.rows import Rows, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from PIL import Image

    from animegen_cli.report import columns
    from animegen_cli.report.tables import Table
    from animegen_cli.sample.images import Images

PathLike = str | os.PathLike[str]
R = TypeVar("R")

__all__ = ["Comparison", "DataSet", "Rows", "Run", "Scores", "compare", "evaluate", "load", "prepare", "study", "train"]

_FLAGS = ("seed", "batch", "parts", "batch_gpu", "duration", "save_every", "keep", "deterministic")
"""Options of `animegen train` that are keys of the section `train` of a config."""


# ---- what is returned -----------------------------------------------------------------------------------------


class DataSet:
    """A data set file. It is a path for `open`, `Path` and every function here; notebooks show what is in it."""

    def __init__(self, path: PathLike, about: Mapping[str, Any], sheet: Path | None = None) -> None:
        """Hold the path, its manifest without the lists of images, and the picture that shows some of them."""
        self.path = Path(path)
        self.about = dict(about)
        self._sheet = sheet

    def __fspath__(self) -> str:
        """Return the path."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return int(self.about["size"])

    @property
    def images(self) -> int:
        """How many images there are, for training and for testing together."""
        return int(self.about["images"])

    @property
    def sheet(self) -> Image.Image | None:
        """A picture of some of the images; None where it could not be written."""
        if self._sheet is None:
            return None
        from PIL import Image

        with Image.open(self._sheet) as picture:
            return picture.convert("RGB")

    def __repr__(self) -> str:
        """Say where it lies and what is in it."""
        return f"{self.path}: {self.images:,} images of {self.size} pixels"

    def _repr_html_(self) -> str:
        split = self.about["split"]
        facts = {
            "file": self.path,
            "images": f"{self.images:,} of {self.size} pixels",
            "parts": f"{split['train']:,} for training, {split['test']:,} for testing",
            "dropped": ", ".join(f"{count:,} {reason}" for reason, count in self.about["dropped"].items()),
            "labels": ", ".join(f"{name} ({len(values)})" for name, values in self.about["attributes"].items()),
        }
        sheet = self.sheet
        if sheet is None:
            return shown(facts=facts)
        from animegen_cli.report.pictures import embed

        return shown(facts=facts, picture=embed(sheet, "some of the images", 300_000))


class Run:
    """A training run. It is a path for `open`, `Path` and every function here; notebooks show what it is and its scores."""

    def __init__(self, path: PathLike) -> None:
        """Hold the folder of a run; nothing is read yet."""
        self.path = Path(path)

    def __fspath__(self) -> str:
        """Return the path of the folder."""
        return str(self.path)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def about(self) -> dict[str, Any]:
        """What run.json says: `family`, `preset`, `state`, `images` (seen in training), `seconds`, `parameters` and more.

        Raises:
            DataError: it is missing or damaged.
        """
        return self._run.about

    @property
    def config(self) -> dict[str, Any]:
        """Every setting of the run, as config.yaml holds them; DataError where run.json is missing or damaged."""
        return dict(records.read(self._run).config)

    @property
    def log(self) -> Rows:
        """The log of the training: a row for each number of images seen, with a column for each loss, rate and score.

        Columns of a phase begin with its name (`model/mse`); a score is measured less often than losses, and None elsewhere.
        """
        lines: dict[float, dict[str, Any]] = {}
        for name, points in records.read(self._run).curves.items():
            for images, value in points:
                lines.setdefault(images, {"images": int(images)})[name] = int(value) if name == "step" else value
        return Rows(lines[images] for images in sorted(lines))

    @property
    def scores(self) -> Scores:
        """The scores that `animegen.evaluate` or `animegen eval` stored in the run; none where it was not scored yet."""
        return Scores(self.path, (_score(score) for score in records.scores_of(self._run)))

    def sample(
        self,
        seeds: Iterable[int] = range(16),
        *,
        labels: Mapping[str, str] | None = None,
        batch: int | None = None,
        precision: str = "auto",
        device: str | None = None,
        **settings: object,
    ) -> Images:
        """Draw one image per seed, as `animegen sample` does; image i depends on seed i alone.

        Args:
            seeds: whole numbers from 0 on.
            labels: attribute -> value, such as {"hair": "pink"}, for runs with labels.
            batch: images per network call; a fixed rule of device and size when None.
            precision: `auto`, `fp32` or `bf16`.
            device: `cpu`, `cuda`, ...; a GPU where there is one when None.
            settings: keys of the run's section `sample`, such as `sampler="ddim", steps=20`.

        Raises:
            UsageError: a setting, label or precision that the run does not have, or a family that draws nothing from seeds.
            DataError: the run has no weights yet, or damaged ones.
            MachineError: no such device, or no room.
        """
        from animegen_cli.sample import sample as verb
        from animegen_cli.sample.images import Images
        from animegen_cli.sample.request import Request

        numbers = list(seeds)
        words = [f"{name}={value}" for name, value in (labels or {}).items()]
        with tempfile.TemporaryDirectory() as folder:
            request = Request(
                run=str(self.path), seeds=numbers, out=Path(folder), labels=words, batch=batch, precision=precision,
                device=device, overrides=settings,
            )  # fmt: skip
            drawn = verb.sample(request)
            files = [file.read_bytes() for file in drawn.files]
        return Images(files, numbers, drawn.sampling)

    def __repr__(self) -> str:
        """Say where it lies, what it is and how far it has come."""
        facts = self._facts()
        return f"{self.path}: {facts['family']}, {facts['state']}, {facts['images seen']} images seen"

    def _repr_html_(self) -> str:
        scores = self.scores
        return shown(facts=self._facts(), tables=[scores.table()] if scores else [])

    @property
    def _run(self) -> paths.Run:
        return paths.Run(self.path)

    def _facts(self) -> dict[str, object]:
        record = records.read(self._run)
        about, parameters = record.about, record.parameters
        return {
            "run": self.path,
            "family": "/".join(str(about[key]) for key in ("family", "preset") if about.get(key)),
            "state": record.state,
            "images seen": units.amount(record.images),
            "data": about.get("data", {}).get("name"),
            "parameters": None if parameters is None else units.amount(parameters),
            "trained for": units.duration(about["seconds"]) if about.get("seconds") else None,
            "doctor": "; ".join(record.diagnoses),
        }


class Scores(Rows):
    """The scores of a run or of images, one row each: `name`, `value`, standard error `std`, 95 % interval from `low` to `high`,
    which direction is `better`, `images` that the run had seen, what was `drawn` with which `seeds`, and the `protocol`.

    Scores of equal name and protocol may be compared.
    """

    def __init__(self, subject: Path, rows: Iterable[Mapping[str, Any]], notes: Sequence[str] = ()) -> None:
        """Hold the scores of `subject` and warnings about them."""
        names = ("name", "value", "std", "low", "high", "better", "images", "drawn", "seeds", "protocol")
        super().__init__(rows, names)
        self.subject = subject
        self.notes = tuple(notes)

    def value(self, name: str) -> float:
        """Return the value of a score by its name, such as `fd-faces`; of several of one name, drawn otherwise, the last.

        Raises:
            UsageError: there is no such score; the hint has the nearest name.
        """
        found = {row["name"]: row["value"] for row in self}
        if name not in found:
            raise UsageError(f"{self.subject} has no score `{name}`", hint=did_you_mean(name, found))
        return float(found[name])


class Comparison:
    """Runs side by side. Notebooks show the tables; `save` writes the page, the tables and the picture of the same seeds."""

    def __init__(
        self,
        found: columns.Comparison,
        *,
        files: Mapping[str, Path] | None = None,
        unfinished: Mapping[str, str] | None = None,
    ) -> None:
        """Hold what `compare` found, the files of a study's page, and the trainings of a study that are not finished."""
        self._found = found
        self.files = dict(files or {})
        self.unfinished = dict(unfinished or {})

    @property
    def quality(self) -> Rows:
        """A row for each run and way to draw, a column for each score under one protocol; None where it was not measured."""
        return _rows(self._found.quality)

    @property
    def cost(self) -> Rows:
        """A row for each run: settings, data, `parameters`, `images` seen, `seconds` of training, `peak_memory` in bytes, ..."""
        return _rows(self._found.cost)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the tables should know, a sentence each."""
        return tuple(self._found.warnings)

    @property
    def to_score(self) -> dict[str, str]:
        """Each run that has no scores yet, and the command that scores it."""
        return dict(self._found.todo)

    def picture(self, seeds: Iterable[int] = range(10), *, device: str | None = None) -> Image.Image:
        """Draw what each run makes of the same seeds, a row for each.

        Args:
            seeds: at most 64 different ones.
            device: `cpu`, `cuda`, ...; a GPU where there is one when None.

        Raises:
            UsageError: no seeds, too many, or no run that draws from seeds.
        """
        from animegen_cli.report import grids

        numbers = list(seeds)
        rows = [None if isinstance(row, str) else row for row in self._drawn(numbers, device).rows]
        titled = list(zip(self._found.training_names, rows, strict=True))
        return grids.rows(titled, [str(number) for number in numbers])

    def save(
        self,
        out: PathLike = "comparison",
        *,
        seeds: Iterable[int] = range(10),
        reals: bool = True,
        device: str | None = None,
    ) -> Path:
        """Write the page, the tables and the picture of the same seeds into a folder, as `animegen compare` does.

        Args:
            out: the folder.
            seeds: of the picture, at most 64 different ones.
            reals: also show the real images that the runs learned from.
            device: `cpu`, `cuda`, ...; a GPU where there is one when None.

        Returns:
            The page, `index.html`.

        Raises:
            DataError: `out` is a file.
            UsageError: no seeds, or too many.
        """
        from animegen_cli.compare import compare as verb

        self.files = dict(verb.write(self._found, Path(out), drawn=self._drawn(list(seeds), device), reals=reals))
        return self.files["page"]

    def __repr__(self) -> str:
        """Return the table of scores as text."""
        return repr(self.quality)

    def _repr_html_(self) -> str:
        found = [self._found.quality, self._found.cost]
        return shown(tables=found, notes=[*self.warnings, *(note for table in found for note in table.notes)])

    def _drawn(self, seeds: Sequence[int], device: str | None) -> Any:  # noqa: ANN401  # a class that only the page needs
        from animegen_cli.compare import compare as verb

        return verb.same_seeds(self._found, seeds, verb.drawing(device))


# ---- the verbs ------------------------------------------------------------------------------------------------


def load(run: PathLike | None = None) -> Run:
    """Open a run: a folder, or a name or number under `runs/`; the newest run there when None.

    Raises:
        DataError: there is no such run; the hint has the nearest name.
    """
    return Run(paths.open_run(None if run is None else os.fspath(run)).path)


def prepare(
    *sources: PathLike,
    resolution: int = 64,
    out: PathLike | None = None,
    photos: PathLike | Sequence[PathLike] = (),
    **options: object,
) -> DataSet:
    """Make one clean data set file from pictures, as `animegen prepare` does.

    Args:
        sources: folders, zip or tar archives, `kaggle:OWNER/NAME`, or `demo` for drawn faces that need no download.
        resolution: height and width of every image in pixels, 4 to 2048.
        out: the file to write; `datasets/<source>-<resolution>.zip` when None.
        photos: sources of the other domain, for translators.
        options: the command's other options: `limit=500`, `faces=True`, `labels="tags.csv"`, `fit`, `dedupe`, `split`,
            `encoding`, `seed`, `min_size`, `workers`, `margin`, `detector` and `drop`.

    Raises:
        UsageError: no source, an option that does not exist or has no such value.
        DataError: a source is missing or damaged, or holds nothing usable.
        MachineError: the disk is full.
    """
    from animegen_cli.prepare import prepare as verb
    from animegen_cli.prepare.request import Options, Request

    if not sources:
        raise UsageError("no source given", hint='name a folder of pictures, or "demo"')
    specs, others = ([os.fspath(one) for one in _several(some)] for some in (sources, photos))
    known = {field.name for field in dataclasses.fields(Options)} - {"size"}
    chosen = _built(Options, options, known | {"resolution", "out", "photos"}, size=resolution)
    done = verb.prepare(Request(specs, None if out is None else Path(out), chosen, others))
    return DataSet(done.path, done.about, done.contact)


def train(
    family: str | None = None,
    *,
    preset: PathLike | None = None,
    data: PathLike | None = None,
    out: PathLike | None = None,
    resume: PathLike = "auto",
    init_from: PathLike | None = None,
    device: str | None = None,
    **settings: object,
) -> Run:
    """Train a family, as `animegen train` does; the same call goes on after a stop.

    Interrupting the kernel (Ctrl-C) stops after the current step, with everything saved.

    Args:
        family: which kind of generator, such as `vae`; may be None where a preset file says it, or a run is gone on with.
        preset: a preset's name or YAML file; `laptop` on a CPU, where there is one, else `fast` when None.
        data: the data set; the newest under `datasets/` when None.
        out: the run folder; the next number under `runs/` when None.
        resume: `auto`, `none`, or a run to go on with.
        init_from: a run, or a diffusers folder, whose weights the training begins with.
        device: `cpu`, `cuda`, ...; a GPU where there is one when None.
        settings: what replaces the preset's settings. The command's options by their names (`duration="200 epochs"`, `batch` in
            images, `seed`, `save_every="10 min"`, `parts`, `batch_gpu`, `keep`, `deterministic`), and sections of the config as
            dicts: `model={"channels": 64}, optim={"model": {"lr": 1e-4}}, train={"ema": {"decay": 0.999}}`.

    Raises:
        UsageError: no such family or preset, or a folder that holds another run.
        ConfigError: a setting that does not exist or has no such value.
        DataError: no data set, or one that does not fit.
        DivergedError: a loss or gradient stopped being finite; the last good state is kept.
        StoppedError: stopped before the end; call again to go on.
        MachineError: no such device, or not enough memory or room.
    """
    from animegen_cli.train.request import Request, layers

    request = Request(
        family=family, preset=_spelled(preset), data=None if data is None else Path(data),
        out=None if out is None else Path(out), resume=os.fspath(resume), init_from=_spelled(init_from), device=device,
        flags=layers(
            (f"argument {name}", f"train.{name}" if name in _FLAGS else name, value) for name, value in settings.items()
        ),
    )  # fmt: skip
    request.check()  # before torch is imported
    from animegen_cli.evaluate.features import in_run_scores
    from animegen_cli.train import train as verb

    return Run(verb.train(request, score=in_run_scores).path)


def evaluate(subject: PathLike | None = None, *, metrics: str | Sequence[str] = (), **options: object) -> Scores:
    """Score a run or images against a reference, as `animegen eval` does; scores of a run are stored in it.

    Args:
        subject: a run, or a folder, zip, .npz or data set of images; the newest run when None.
        metrics: such as `["fd", "kid"]`; all that the subject allows when there are none.
        options: the command's other options: `against` (the reference; a run's own data set by default), `data`, `split`
            (`train`, `test` or `all`), `extractor` (`inception`, `faces`, ...), `n` (images of each range of seeds, 2048) and
            `repeats` (ranges, 3), or `seeds`, `precision`, `attributes`, `per_value`, `weights`, `backend`, `force`, `device`; and
            `overrides`, a dict of settings of the run's section `sample`.

    Raises:
        UsageError: an option or metric that does not exist, or that the subject cannot have.
        DataError: the subject, its data or the reference is missing, damaged or too small.
        MachineError: no such device, or a network's weights are not there.
    """
    from animegen_cli.evaluate.request import Request

    words = [metrics] if isinstance(metrics, str) else metrics
    split = [word.strip() for several in words for word in several.split(",")]
    known = {field.name for field in dataclasses.fields(Request)} - {"subject", "metrics"}
    spelled = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}
    as_paths = {name: Path(str(spelled[name])) for name in ("data", "weights") if spelled.get(name) is not None}
    request = _built(Request, spelled | as_paths, known, subject=_spelled(subject), metrics=split)
    request.check()  # before torch is imported
    from animegen_cli.evaluate import evaluate as verb

    found = verb.evaluate(request)
    for note in found["notes"]:
        console.warn(note)
    scores = (_score(records.score(entry)) for entry in found["scores"])
    return Scores(Path(found["subject"]), scores, found["notes"])


def compare(runs: Sequence[PathLike] | None = None, *, sort: str | None = None) -> Comparison:
    """Lay runs side by side, as `animegen compare` does; runs that differ by their training seed alone are joined.

    Args:
        runs: folders, names or numbers, or what `load` and `train` return; all under `runs/` when None.
        sort: a score or another column to sort by, best first; as given when None.

    Raises:
        DataError: there is no such run, or none at all.
        UsageError: there is no such column.
    """
    from animegen_cli.compare import compare as verb

    if runs is None:
        chosen = [run for run in paths.runs() if not run.able("classifies")]
    else:
        chosen = [paths.open_run(os.fspath(run)) for run in _several(runs)]
    found = verb.compare(chosen, sort=sort)
    for warning in found.warnings:
        console.warn(warning)
    return Comparison(found)


def study(
    name: PathLike,
    *,
    data: PathLike | None = None,
    out: PathLike | None = None,
    budget: str | None = None,
    only: str | Sequence[str] = (),
    seeds: Iterable[int] | None = None,
    device: str | None = None,
) -> Comparison:
    """Train what a study lists, score it and compare, as `animegen compare --study` does; the same call goes on after a stop.

    Args:
        name: a shipped study (`smoke`, `xmu2023-laptop`), a document's number (`"003"`), or a YAML file.
        data: the data set; the newest, or the study's own drawn faces when None.
        out: the study's folder; `studies/<name>` when None.
        budget: training time of each run, such as `"10 min"`; as the study says when None.
        only: train and score these of its runs alone.
        seeds: training seeds, one training of each run for each; as the study says when None.
        device: `cpu`, `cuda`, ...; a GPU where there is one when None.

    Raises:
        UsageError: no such study or run of it, or a folder that was begun with other runs, data or budget.
        DataError: no run of it could begin, or other processes train all of them now.
        StoppedError: stopped before the end; call again to go on.
    """
    from animegen_cli.compare import study as verb
    from animegen_cli.compare import study_plan

    request = study_plan.Request(
        study=os.fspath(name), data=None if data is None else Path(data), out=None if out is None else Path(out),
        budget=budget, only=[only] if isinstance(only, str) else only, seeds=None if seeds is None else list(seeds),
        device=device,
    )  # fmt: skip
    done = verb.run(request)
    if done.compared is None:
        raise DataError("other processes train every run of the study at this moment", hint="call it again later")
    return Comparison(done.compared, files=done.files, unfinished=done.unfinished)


# ---- words to requests, values to rows ------------------------------------------------------------------------


def _several(some: PathLike | Sequence[PathLike]) -> Sequence[PathLike]:
    return [some] if isinstance(some, str | os.PathLike) else some


def _spelled(path: PathLike | None) -> str | None:
    return None if path is None else os.fspath(path)


def _built(kind: type[R], options: Mapping[str, Any], known: Iterable[str], **made: object) -> R:
    """A request of options by their names; UsageError with the nearest name for one that does not exist."""
    for name in options:
        if name not in known:
            raise UsageError(f"there is no option `{name}`", hint=did_you_mean(name, known))
    return kind(**options, **made)


def _score(score: records.Score) -> dict[str, Any]:
    low, high = score.interval or (None, None)
    return {
        "name": score.name, "value": score.value, "std": score.std, "low": low, "high": high, "better": score.better,
        "images": score.images or None, "drawn": score.protocol.get("sampling"), "seeds": score.protocol.get("seeds"),
        "protocol": score.protocol_id,
    }  # fmt: skip


def _rows(table: Table) -> Rows:
    names = [column.key for column in table.columns]
    return Rows(({name: cell.value for name, cell in zip(names, row, strict=True)} for row in table.rows), names)
