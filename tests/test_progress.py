"""Progress as people see it: a real terminal of several widths, and a log file that does not fall silent."""

from __future__ import annotations

import datetime
import os
import re
import sys

import pytest
from chain import ROOT, on_terminal

from animegen_cli import console

WORK = """
import time
from animegen_cli import console
with console.progress("00012-stylegan2-fast-animefacedataset-64", 1000) as bar:
    bar.describe("512,000 images, 53.2/s  G loss 1.534  D loss 0.8312")
    for _ in range(10):
        bar.advance(50)
        time.sleep(0.05)
"""


MINUTE = r"\d{4}-\d\d-\d\dT\d\d:\d\d"


def frames(width: int) -> list[str]:
    """What a terminal of so many columns was told to show, one line each, without colors and movements."""
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    code, shown = on_terminal([sys.executable, "-c", WORK], env=environment, columns=width)
    assert code == 0, shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    return [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_line_has_name_bar_percent_time_left_and_speed(width: int) -> None:
    lines = frames(width)
    assert all(len(line) <= width for line in lines)
    last = lines[-1]
    assert last.startswith("00012-styleg")
    assert last.count("━") >= 8
    assert " 50%" in last
    assert re.search(r"\d+:\d\d", last), "the time left"
    assert "512,000 images" in last
    if width >= 80:
        assert "53.2/s" in last
    if width >= 120:
        assert "G loss 1.534" in last


def lines_of(capsys: pytest.CaptureFixture[str], times: list[float], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The log of a work of 1,000 steps, one after each of the times, in seconds; the clock is set, since nobody waits so long."""
    clock = iter([0.0, *times])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))  # type: ignore[attr-defined]
    with console.progress("slow", 1000) as bar:
        bar.describe("53.2/s  mse 0.5")
        for _ in times:
            bar.advance()
    return capsys.readouterr().err.splitlines()


def test_a_log_file_gets_a_line_every_ten_minutes_with_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = lines_of(capsys, [200, 400, 600, 800, 1000, 1250], monkeypatch)
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(rf"{MINUTE} slow: \d% ends about \w\w\w \d\d \w\w\w \d\d:\d\d  53\.2/s  mse 0\.5", line), (
            "days ahead, with the day"
        )


def test_short_work_has_a_line_at_each_tenth_and_no_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = lines_of(capsys, [0.001 * step for step in range(1000)], monkeypatch)
    assert [line.partition(" 53")[0][17:] for line in lines] == [f"slow: {tenth}0%" for tenth in range(1, 11)]


def test_a_line_of_a_log_file_says_the_minute_in_which_it_was_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = datetime.datetime.now().astimezone().replace(second=0, microsecond=0, tzinfo=None)
    lines = lines_of(capsys, [0.001 * step for step in range(1000)], monkeypatch)
    after = datetime.datetime.now().astimezone().replace(tzinfo=None)
    for line in lines:
        assert re.match(rf"{MINUTE} slow: ", line)
        assert before <= datetime.datetime.fromisoformat(line[:16]) <= after


def test_a_terminal_and_a_note_have_no_minute(capsys: pytest.CaptureFixture[str]) -> None:
    assert not any(re.search(MINUTE, line) for line in frames(120))
    console.note("a note")
    assert capsys.readouterr().err == "a note\n"
