"""Loggers: curves and previews in CSV files, TensorBoard, Weights & Biases and MLflow, without a network and without repeats."""

from __future__ import annotations

import csv
import json
import struct
from importlib import util
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chain import done, here, refused, sets, train_words
from PIL import Image

from animegen_cli import disk
from animegen_cli.train import loggers
from animegen_cli.train.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = {"train": {"loggers": []}, "family": "vae"}


def needs(name: str) -> None:
    """Skip where the extra is not installed."""
    if util.find_spec(name) is None:
        pytest.skip(f"the extra `{name}` is not installed: pip install 'animegen[{name}]'")


def config(*names: str) -> dict[str, Any]:
    return {**CONFIG, "train": {"loggers": list(names), "batch": 8}}


def logged(folder: Path, *names: str, last: int = 40, images: int = 0, state: str = "stopped") -> None:
    """What a process does that goes on at `images` and ends at `last`: a line per 8 images, previews and validation at 32."""
    folder.mkdir(exist_ok=True)
    log = Log(folder / "log.jsonl", images=images, config=config(*names))
    for seen in range(images + 8, last + 1, 8):
        log.write({"images": seen, "step": seen // 8, "lr": {"model": 1e-3}, "model/mse": 1 / seen})
        if seen == 32:
            log.write({"images": seen, "step": 4, "validation": {"mse": 0.25}})
            file = folder / f"ema-{seen}.png"
            Image.fromarray(np.full((6, 8, 3), seen, np.uint8)).save(file)
            log.picture("previews", file, seen)
    log.write({"images": last, "step": last // 8, "findings": ["blank"]})
    log.close(state)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---- which ----------------------------------------------------------------------------------------------------


def test_unknown_loggers_and_missing_extras_are_answered_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "did you mean `wandb`?" in refused(2, "train", "vae", "--logger", "csv,wandbb")
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    assert "[mlflow]'" in refused(5, "train", "vae", "--logger", "csv,mlflow")
    assert loggers.parse(["csv", "CSV"]) == ["csv"]
    assert loggers.parse(["none"]) == []


def test_a_training_goes_on_in_its_loggers_until_it_is_told_others(faces: Path, tmp_path: Path) -> None:
    words = train_words(
        "gan", faces, tmp_path / "run", "--logger", "csv", *sets("train.log_every=1 steps"), duration="32 images"
    )
    done(*words)
    assert [row["images"] for row in rows(tmp_path / "run")] == ["8", "16", "24", "32"]
    done("train", "--resume", tmp_path / "run", "--duration", "64 images")
    found = rows(tmp_path / "run")
    assert [row["images"] for row in found] == [str(8 * i) for i in range(1, 9)]
    assert all(float(row["lr/G"]) > 0 for row in found)
    done("train", "--resume", tmp_path / "run", "--duration", "72 images", "--logger", "none")
    assert len(rows(tmp_path / "run")) == 8
    assert not (tmp_path / "run" / loggers.STATE).exists()
    assert here("train", "--resume", tmp_path / "run", "--duration", "72 images", "--logger", "svc").code == 2


# ---- CSV ------------------------------------------------------------------------------------------------------


def test_a_csv_file_is_flat_and_holds_every_number_once(tmp_path: Path) -> None:
    logged(tmp_path, "csv", last=40)
    found = rows(tmp_path)
    assert list(found[0]) == ["images", "step", "lr/model", "model/mse", "validation/mse"]
    assert [row["images"] for row in found] == ["8", "16", "24", "32", "32", "40"]
    assert [row["validation/mse"] for row in found] == ["", "", "", "", "0.25", ""]
    logged(tmp_path, "csv", images=16, last=48)
    again = rows(tmp_path)
    assert [row["images"] for row in again] == ["8", "16", "24", "32", "32", "40", "48"]
    assert float(again[0]["model/mse"]) == 1 / 8


def test_pandas_reads_the_csv_file(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    logged(tmp_path, "csv")
    frame = pandas.read_csv(tmp_path / "log.csv")
    assert frame.dtypes.map(lambda kind: kind.kind in "if").all()
    assert frame["model/mse"].notna().sum() == 5


def test_a_csv_file_that_begins_later_holds_what_was_before(tmp_path: Path) -> None:
    logged(tmp_path, last=40)
    logged(tmp_path, "csv", images=40, last=48)
    assert rows(tmp_path)[0]["images"] == "8"


# ---- a logger that fails --------------------------------------------------------------------------------------


def test_a_logger_that_fails_is_left_out_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: object, values: object, images: int) -> None:
        raise ConnectionError("the service is away")

    monkeypatch.setattr(loggers.CsvFile, "scalars", broken)
    logged(tmp_path, "csv")
    assert capsys.readouterr().err.count("csv is left out from now on: the service is away") == 1
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [disk.from_line(line)["images"] for line in lines][-1] == 40


class Growing:
    """A service that only grows, as far as loggers know it."""

    only_grows = True
    heard: list[tuple[str, int]]

    def __init__(self, folder: Path, known: dict[str, str], settings: object) -> None:
        known.setdefault("id", "a1")

    def scalars(self, values: dict[str, float], images: int) -> None:
        Growing.heard.append((",".join(values), images))

    def picture(self, name: str, file: Path, images: int) -> None:
        Growing.heard.append((name, images))

    def close(self, state: str) -> None:
        Growing.heard.append((state, 0))


def test_what_only_grows_is_told_nothing_twice_whatever_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "Wandb", Growing)
    monkeypatch.setattr(loggers, "check", lambda names: None)
    Growing.heard = []
    logged(tmp_path, "wandb", last=40)
    logged(tmp_path, "wandb", images=8, last=24)  # killed again, before it came to where it had been
    assert [images for name, images in Growing.heard if "lr" in name] == [8, 16, 24, 32, 40]
    logged(tmp_path, "wandb", images=8, last=56, state="finished")
    assert [images for name, images in Growing.heard if "lr" in name] == [8, 16, 24, 32, 40, 48, 56]
    assert [images for name, images in Growing.heard if name == "previews"] == [32]
    assert [name for name, images in Growing.heard if images == 0] == ["stopped", "stopped", "finished"]
    remembered = json.loads((tmp_path / loggers.STATE).read_text(encoding="utf-8"))
    assert remembered == {"wandb": {"id": "a1"}, "images": 40}


# ---- the real ones --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # its own use of its libraries
def test_tensorboard_shows_curves_and_previews_of_both_parts_once(tmp_path: Path) -> None:
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged(tmp_path, "tensorboard", last=40)
    logged(tmp_path, "tensorboard", images=16, last=48)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["lr/model", "model/mse", "validation/mse"]
    assert [event.step for event in events.Scalars("model/mse")] == [8, 16, 24, 32, 40, 48]
    (preview,) = events.Images("previews")
    assert (preview.step, preview.width, preview.height) == (32, 8, 6)


def records(data: bytes) -> Iterator[bytes]:
    """The records of a file of wandb's: LevelDB's log format behind a head of seven bytes."""
    place, block, record = 7, 32768, b""
    while place + 7 <= len(data):
        left = block - place % block
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            yield record
            record = b""


@pytest.mark.filterwarnings("ignore")  # its own use of its libraries
def test_wandb_goes_on_in_the_same_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    logged(tmp_path, "wandb", last=40)
    logged(tmp_path, "wandb", images=16, last=48)
    number = json.loads((tmp_path / loggers.STATE).read_text(encoding="utf-8"))["wandb"]["id"]
    files = sorted(tmp_path.glob(f"wandb/offline-run-*-{number}/run-{number}.wandb"))
    assert len(files) == 2
    losses, pictures = [], []
    for file in files:
        for data in records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            told = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            losses += [record.history.step.num] if "model/mse" in told else []
            pictures += [record.history.step.num] if "previews/path" in told else []
    assert losses == [8, 16, 24, 32, 40, 48]
    assert pictures == [32]


@pytest.mark.filterwarnings("ignore")  # its own use of its libraries
def test_mlflow_goes_on_in_the_same_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("mlflow")
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    logged(tmp_path / "run", "mlflow", last=40)
    logged(tmp_path / "run", "mlflow", images=16, last=48, state="finished")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("animegen")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "run"
    assert run.info.status == "FINISHED"
    assert run.data.params["train.batch"] == "8"
    history = client.get_metric_history(run.info.run_id, "model/mse")
    assert [(metric.step, metric.value) for metric in history] == [(seen, 1 / seen) for seen in range(8, 49, 8)]
    files = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    assert any("previews" in file and "32" in file for file in files), files
