"""The short form of `python tests/faults --full`: a few changed bytes, kills and full disks, every time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "faults"))

import disks
import flips
import kills


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set, and a run with scores and features."""
    folder = tmp_path_factory.mktemp("base")
    flips.make(folder, study=False)
    return folder


def test_no_changed_byte_of_any_file_changes_a_result_in_silence(base: Path, tmp_path: Path) -> None:
    tallies = flips.change(base, tmp_path, 9, seed=1)
    assert tallies.keys() == flips.DOORS.keys() - {"study.yaml"}  # which takes long; `test_races.py` has a small one
    for kind, tally in tallies.items():
        assert not tally.silent, kind
        assert not tally.crashed, kind
    assert sum(tally.refused + tally.said for tally in tallies.values()) > 2


def test_killed_trainings_end_with_the_bits_of_an_undisturbed_one(base: Path, tmp_path: Path) -> None:
    tally = kills.kill(base / "faces.zip", tmp_path, "gan", 2, seed=3)
    assert tally.wrong == []
    assert tally.killed == 2
    assert tally.runs >= 1


def test_a_disk_that_is_full_at_some_write_costs_nothing_that_was_saved(base: Path, tmp_path: Path) -> None:
    writes = disks.writes_of(base / "faces.zip", tmp_path)
    assert writes > 20
    assert disks.fill(base / "faces.zip", tmp_path, writes // 2) == []


@pytest.mark.parametrize("fault", [disks.replace_set, disks.diverge], ids=lambda fault: fault.__name__)
def test_a_run_stands_what_happens_around_it(fault: object, base: Path, tmp_path: Path) -> None:
    assert callable(fault)
    assert fault(base / "faces.zip", tmp_path) == []
