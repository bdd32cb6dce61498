"""What the functions of animegen in Python return: objects that a program uses and a notebook shows."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from animegen_cli import console, paths
from animegen_cli.errors import UsageError, did_you_mean
from animegen_cli.report import records, units
from animegen_cli.report.rows import Rows, shown
from animegen_cli.sample.request import AMOUNT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from PIL import Image

    from animegen_cli.report import columns
    from animegen_cli.report.pictures import Drawn
    from animegen_cli.report.tables import Cell, Table
    from animegen_cli.sample.images import Images

PathLike = str | os.PathLike[str]


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
        return Scores(self.path, (score_row(score) for score in records.scores_of(self._run)))

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
        how = {"batch": batch, "precision": precision, "device": device, "overrides": settings}
        return self._drawn(labels, seeds=_seeds(seeds), **how)

    def vary(
        self,
        seed: int,
        amount: float = AMOUNT,
        *,
        seeds: Iterable[int] | None = None,
        labels: Mapping[str, str] | None = None,
        batch: int | None = None,
        precision: str = "auto",
        device: str | None = None,
        **settings: object,
    ) -> Images:
        """Draw a seed's face and behind it variations of it, as `animegen sample --vary` does.

        Args:
            seed: of the face.
            amount: how far each variation goes towards the face of another seed, from 0, the face itself, to 1, the other.
            seeds: the other seeds, one per variation; the eight after `seed` when None.
            labels: attribute -> value, such as {"hair": "pink"}, for runs with labels.
            batch: images per network call; a fixed rule of device and size when None.
            precision: `auto`, `fp32` or `bf16`.
            device: `cpu`, `cuda`, ...; a GPU where there is one when None.
            settings: keys of the run's section `sample`, such as `sampler="ddim", steps=20`.

        Returns:
            1 + n images; their seeds are `seed` and those that the variations go towards.

        Raises:
            UsageError: an amount outside [0, 1], the seed itself among the others, or as `sample` says.
            DataError: the run has no weights yet, or damaged ones.
            MachineError: no such device, or no room.
        """
        (face,) = _seeds([seed])
        others = None if seeds is None else _seeds(seeds)
        how = {"batch": batch, "precision": precision, "device": device, "overrides": settings}
        return self._drawn(labels, vary=face, amount=amount, seeds=others, **how)

    def __repr__(self) -> str:
        """Say where it lies, what it is and how far it has come."""
        facts = self._facts()
        return f"{self.path}: {facts['family']}, {facts['state']}, {facts['images seen']} images seen"

    def _repr_html_(self) -> str:
        scores = self.scores
        return shown(facts=self._facts(), tables=[scores.table()] if scores else [])

    def _drawn(self, labels: Mapping[str, str] | None, **asked: Any) -> Images:  # noqa: ANN401  # the fields of `Request`
        """The images of the seeds that a request asks for."""
        from animegen_cli.sample import sample as verb
        from animegen_cli.sample.images import Images
        from animegen_cli.sample.request import Request

        if isinstance(labels, str):
            raise UsageError(f"`labels={labels!r}` is no dict", hint='write `labels={"hair": "pink"}`')
        words = [f"{name}={value}" for name, value in (labels or {}).items()]
        with tempfile.TemporaryDirectory() as folder:
            request = Request(run=str(self.path), out=Path(folder), labels=words, **asked)
            drawn = verb.sample(request)
            assert isinstance(drawn, verb.Drawn)  # without `like`
            files = [file.read_bytes() for file in drawn.files]
        return Images(files, request.drawn_seeds, drawn.sampling)

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
        """A row for each run and way to draw, a column for each score under one protocol; None where it was not measured.

        Behind each score stand its standard error (`_std`), its 95 % interval (`_low`, `_high`) and whether it is not told apart
        from the best one (`_like_best`, the best included); `seeds` are those of the trainings that a row is the mean of.
        """
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
        """Return the table of scores as text, with standard errors; ≈ marks what is not told apart from the best."""
        table = self._found.quality
        texts = [[cell.shown for cell in row] for row in table.rows]
        titles = [column.title for column in table.columns]
        right = [column.title for column in table.columns if column.right]
        return console.plain_table("", titles, texts, right).rstrip("\n")

    def _repr_html_(self) -> str:
        found = [self._found.quality, self._found.cost]
        return shown(tables=found, notes=[*self.warnings, *(note for table in found for note in table.notes)])

    def _drawn(self, seeds: Sequence[int], device: str | None) -> Drawn:
        from animegen_cli.compare import compare as verb

        return verb.same_seeds(self._found, seeds, verb.drawing(device))


def _seeds(seeds: Iterable[int]) -> list[int]:
    """The seeds as whole numbers; UsageError for what is none."""
    if isinstance(seeds, int | str):
        raise UsageError(f"`seeds={seeds!r}` is no list of seeds", hint="write `seeds=[3]` or `seeds=range(16)`")
    numbers = [int(seed) for seed in seeds]
    if any(seed < 0 for seed in numbers):
        raise UsageError(f"{min(numbers)} is no seed", hint="seeds are whole numbers from 0 on: `seeds=range(16)`")
    return numbers


def score_row(score: records.Score) -> dict[str, Any]:
    """A score as a row of `Scores`."""
    low, high = score.interval or (None, None)
    return {
        "name": score.name, "value": score.value, "std": score.std, "low": low, "high": high, "better": score.better,
        "images": score.images or None, "drawn": score.protocol.get("sampling"), "seeds": score.protocol.get("seeds"),
        "protocol": score.protocol_id,
    }  # fmt: skip


def _rows(table: Table) -> Rows:
    names = [column.key for column in table.columns]
    rows = [dict(pair for named in zip(names, row, strict=True) for pair in _values(*named)) for row in table.rows]
    full = max(rows, key=len, default={})  # with the uncertainty beside the score that it belongs to
    return Rows(rows, list(full) or names)


def _values(name: str, cell: Cell) -> Iterator[tuple[str, Any]]:
    """The value of a cell, and what is known of its uncertainty."""
    yield name, cell.value
    if cell.std is not None:
        low, high = cell.interval or (None, None)
        yield from ((f"{name}_std", cell.std), (f"{name}_low", low), (f"{name}_high", high))
        yield f"{name}_like_best", cell.best or cell.tied
