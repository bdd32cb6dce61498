"""What `animegen eval` says before it draws: how long that takes, and how many images fewer would be ready soon."""

from __future__ import annotations

import json
import re
import shlex
import time
from typing import TYPE_CHECKING

import tiny_runs
from chain import done
from test_hints import parsed

from animegen_cli.evaluate import pace

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_short_drawing_is_not_spoken_of(capsys: pytest.CaptureFixture[str]) -> None:
    pace.Pace("runs/a", 1000, 0.01)
    assert capsys.readouterr().err == ""


def test_a_drawing_of_minutes_is_told_and_a_longer_one_with_fewer_images(capsys: pytest.CaptureFixture[str]) -> None:
    pace.Pace("runs/a", 6144, 0.05)
    assert capsys.readouterr().err == "drawing 6,144 images takes about 5.12 min\n"
    pace.Pace("runs/a", 6144, 0.5)
    said = capsys.readouterr().err
    assert "about 51.2 min" in said
    line = re.search(r"`animegen (eval [^`]*)`", said)
    assert line
    assert line[1] == "eval runs/a --n 1024 --repeats 1"
    parsed(shlex.split(line[1]))
    pace.Pace("runs/a", 6144, 100)
    assert "--n 128 --repeats 1" in capsys.readouterr().err


def test_the_second_network_call_tells_once_what_nobody_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    heard = pace.Pace("runs/a", 300)
    for seconds in (90.0, 50.0, 1.0):  # the first call prepares
        now[0] += seconds
        heard.drawn(50)
    assert capsys.readouterr().err == "drawing 200 images takes about 3.33 min\n"


def test_what_drawing_took_is_remembered_for_the_same_sampling_and_device(tmp_path: Path) -> None:
    run = tiny_runs.make("gan", tmp_path / "run")
    assert pace.measured(run, "truncation 1.0", "cpu") is None
    run.scores.write_text(
        json.dumps({"scores": [], "drawing": {"seconds_per_100": 50, "sampling": "s", "device": "cpu"}})
    )
    assert pace.measured(run, "s", "cpu") == 0.5
    assert pace.measured(run, "s", "NVIDIA H200") is None
    assert pace.measured(run, "t", "cpu") is None
    run.scores.write_text("{")
    assert pace.measured(run, "s", "cpu") is None


def test_eval_tells_it_before_it_draws(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_runs.make("gan", tmp_path / "run", "model.labels=[]")
    words = [
        "eval",
        run.path,
        "--against",
        faces,
        "--split",
        "all",
        "--extractor",
        "faces",
        "--metrics",
        "fd",
        "--device",
        "cpu",
    ]
    first = done(*words, "--n", "32", "--repeats", "2").err
    assert "takes about" not in first
    told = json.loads(run.scores.read_text(encoding="utf-8"))["drawing"]
    assert pace.measured(run, told["sampling"], "cpu") == told["seconds_per_100"] / 100
    monkeypatch.setattr("animegen_cli.evaluate.sources.measured", lambda *_: 10.0)
    second = done(*words, "--n", "40", "--repeats", "2").err
    assert second.count("drawing 80 images takes about 13.3 min") == 1
