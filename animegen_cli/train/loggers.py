"""Where the curves and previews of a training go besides its own `log.jsonl`: a CSV file, TensorBoard, Weights & Biases, MLflow.

Only the first process of a training logs. A run that goes on keeps its place in each of them: CSV and TensorBoard are cut
back to the state it goes on from, the others, which only grow, are told nothing that they have heard.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import time
from functools import partial
from importlib import util
from typing import TYPE_CHECKING, Any, Protocol

from animegen_cli import console, disk
from animegen_cli.errors import MachineError, UsageError, did_you_mean
from animegen_cli.report import records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

LOGGERS = {"csv": None, "tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
"""Each logger and the package that it needs, which the extra of the same name brings."""
CSV = "log.csv"
STATE = "loggers.json"
"""What a run remembers of services elsewhere: its number there, and the last images that they heard of."""
PROJECT = "animegen"
_MOST_LETTERS = 500
"""Of a parameter of MLflow."""


def parse(words: Sequence[str]) -> list[str]:
    """The loggers that `--logger` names, with commas or repeated; `none` is none.

    Raises:
        UsageError: one that does not exist.
        MachineError: one whose package is not installed.
    """
    names = [name.strip().lower() for word in words for name in word.split(",")]
    if names == ["none"]:
        return []
    for name in names:
        if name not in LOGGERS:
            raise UsageError(f"no logger `{name}`", hint=did_you_mean(name, [*LOGGERS, "none"]))
    found = list(dict.fromkeys(names))
    check(found)
    return found


def check(names: Sequence[str]) -> None:
    """MachineError where the package of one of these loggers is not installed; loads none."""
    for name in names:
        package = LOGGERS[name]
        if package and util.find_spec(package) is None:
            raise MachineError(f"logging to {name} needs an extra", hint=f"type `pip install 'animegen[{name}]'`")


class Logger(Protocol):
    """A place for curves and pictures."""

    only_grows: bool
    """Whether nothing can be taken back there."""

    def scalars(self, values: Mapping[str, float], images: int) -> None:
        """Take numbers by name, after so many images seen."""

    def picture(self, name: str, file: Path, images: int) -> None:
        """Take a PNG file, after so many images seen."""

    def close(self, state: str) -> None:
        """Finish; `state` is that of the run."""


class Loggers:
    """The loggers of one run. One that fails is left out with a warning: no training ends for want of a logger."""

    def __init__(
        self, names: Sequence[str], folder: Path, *, images: int, heard: int, config: Mapping[str, Any]
    ) -> None:
        """Begin, or go on with what the run began there.

        Args:
            names: of `LOGGERS`.
            folder: the run's.
            images: seen by the state that training goes on from, 0 at the start.
            heard: images of the last line that was logged before that, by a process that was killed or stopped.
            config: the whole config, for those that show it.
        """
        check(names)
        self._folder = folder
        self._state: dict[str, Any] = _remembered(folder / STATE)
        self._heard = max(heard, int(self._state.get("images", 0)))
        makers: dict[str, Callable[[], Logger]] = {
            "csv": lambda: CsvFile(folder),
            "tensorboard": lambda: TensorBoard(folder, images),
            "wandb": lambda: Wandb(folder, self._known("wandb"), config),
            "mlflow": lambda: MLflow(folder, self._known("mlflow"), config),
        }
        self._open: dict[str, Logger] = {}
        for name in names:
            self._guarded(name, partial(self._begin, name, makers[name]))
        if any(logger.only_grows for logger in self._open.values()):
            disk.write_json(folder / STATE, self._state | {"images": self._heard})

    def scalars(self, values: Mapping[str, float], images: int) -> None:
        """Hand numbers to all that have not heard of them."""
        self._each(images, lambda logger: logger.scalars(values, images))

    def picture(self, name: str, file: Path, images: int) -> None:
        """Hand a PNG file to all that have not seen it."""
        self._each(images, lambda logger: logger.picture(name, file, images))

    def close(self, state: str) -> None:
        """Finish all; `state` is that of the run."""
        self._each(self._heard + 1, lambda logger: logger.close(state))
        self._open = {}

    def _each(self, images: int, tell: Callable[[Logger], None]) -> None:
        for name, logger in list(self._open.items()):
            if images > self._heard or not logger.only_grows:
                self._guarded(name, partial(tell, logger))

    def _begin(self, name: str, maker: Callable[[], Logger]) -> None:
        self._open[name] = maker()

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # whatever a service or its library raises
            self._open.pop(name, None)
            said = str(error).strip().splitlines()
            console.warn(f"{name} is left out from now on: {said[0] if said else type(error).__name__}")

    def _known(self, name: str) -> dict[str, str]:
        """What the run remembers of a service; the same mapping is filled by whoever begins there."""
        found: dict[str, str] = self._state.setdefault(name, {})
        return found


def _remembered(file: Path) -> dict[str, Any]:
    try:
        found = disk.parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class CsvFile:
    """`log.csv`: one row per line of the log, one column per number, empty where a line has none.

    It is made anew from log.jsonl when training goes on, so it holds all of the run and nothing twice.
    """

    only_grows = False

    def __init__(self, folder: Path) -> None:
        """Write what log.jsonl holds by now."""
        self._file = folder / CSV
        self._columns = ["images"]
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        entries = [disk.from_line(line) for line in lines]
        self._write([{"images": entry["images"], **found} for entry in entries if (found := numbers(entry))])

    def scalars(self, values: Mapping[str, float], images: int) -> None:
        """Append a row; a number that is new makes a column, and the file is written once more."""
        row = {"images": images, **values}
        if not row.keys() <= set(self._columns):
            with self._file.open(encoding="utf-8", newline="") as file:
                self._write([*csv.DictReader(file), row])
            return
        with self._file.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)

    def _write(self, rows: Sequence[Mapping[str, object]]) -> None:
        self._columns += dict.fromkeys(name for row in rows for name in row if name not in self._columns)
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        disk.write_text(self._file, text.getvalue())

    def picture(self, name: str, file: Path, images: int) -> None:
        """Take none: a CSV file holds numbers."""

    def close(self, state: str) -> None:
        """Nothing is left to do: every row is written."""


def numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of the log by their whole names, such as `lr/model`; none of a line that only names findings."""
    found = {name: value for name, value in records.numbers(entry) if name != "images"}
    return found if found.keys() - {"step"} else {}


class TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir runs` shows all runs."""

    only_grows = False

    def __init__(self, folder: Path, images: int) -> None:
        """Go on behind `images`; TensorBoard hides what earlier files say of later ones."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=images + 1)

    def scalars(self, values: Mapping[str, float], images: int) -> None:
        """Write each number but `step`: images seen are the clock."""
        for name, value in values.items():
            if name != "step":
                self._writer.add_scalar(name, value, images)

    def picture(self, name: str, file: Path, images: int) -> None:
        """Write the picture."""
        import numpy as np
        from PIL import Image

        with Image.open(file) as image:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), images, dataformats="HWC")

    def close(self, state: str) -> None:  # noqa: ARG002  # TensorBoard knows no states
        """Write what is left."""
        self._writer.close()


class Wandb:
    """A run in the project `animegen` of Weights & Biases; `WANDB_MODE=offline` keeps it in the run's folder `wandb/`."""

    only_grows = True

    def __init__(self, folder: Path, known: dict[str, str], config: Mapping[str, Any]) -> None:
        """Begin a run there, or go on with the one that is known."""
        import wandb

        known.setdefault("id", secrets.token_hex(4))
        quiet = wandb.Settings(console="off", silent=True, save_code=False, disable_git=True)
        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), id=known["id"], name=folder.name, resume="allow",
            dir=str(folder), config=dict(config), settings=quiet,
        )  # fmt: skip

    def scalars(self, values: Mapping[str, float], images: int) -> None:
        """Log the numbers; the step is the number of images seen."""
        self._run.log(dict(values), step=images)

    def picture(self, name: str, file: Path, images: int) -> None:
        """Log the picture."""
        self._run.log({name: self._wandb.Image(str(file))}, step=images)

    def close(self, state: str) -> None:
        """Finish: with a failure where training diverged."""
        self._run.finish(exit_code=1 if state == "diverged" else 0)


class MLflow:
    """A run in the experiment `animegen` of MLflow, at MLFLOW_TRACKING_URI or where MLflow itself keeps its runs."""

    only_grows = True

    def __init__(self, folder: Path, known: dict[str, str], config: Mapping[str, Any]) -> None:
        """Begin a run there, or go on with the one that is known."""
        from mlflow import MlflowClient

        self._client = MlflowClient()
        if "id" in known:
            self._client.update_run(known["id"], status="RUNNING")
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            experiment = self._client.get_experiment_by_name(name)
            number = experiment.experiment_id if experiment else self._client.create_experiment(name)
            known["id"] = self._client.create_run(number, run_name=folder.name).info.run_id
            for key, value in records.flattened(config):
                self._client.log_param(known["id"], key, value[:_MOST_LETTERS])
        self._id = known["id"]

    def scalars(self, values: Mapping[str, float], images: int) -> None:
        """Log the numbers; the step is the number of images seen."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [Metric(name, float(value), now, images) for name, value in values.items()])

    def picture(self, name: str, file: Path, images: int) -> None:
        """Log the picture."""
        from PIL import Image

        with Image.open(file) as image:
            self._client.log_image(self._id, image.convert("RGB"), key=name, step=images)

    def close(self, state: str) -> None:
        """Finish with the run's state."""
        states = {"finished": "FINISHED", "diverged": "FAILED"}
        self._client.set_terminated(self._id, states.get(state, "KILLED"))
