"""Several processes at one run or study: no score is lost, and all train by one plan."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from chain import TINY, done, here

from animegen_cli import disk
from animegen_cli.compare import study, study_plan
from animegen_cli.compare.study_file import load
from animegen_cli.errors import DataError
from animegen_cli.evaluate.evaluate import read_stored, store
from animegen_cli.evaluate.judge import JudgeResult
from animegen_cli.paths import Run

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES, EACH = 4, 12


def _ask(run: Path, name: str) -> None:
    for number in range(EACH):
        entry = {"images": 64, "attribute": name, "value": str(number), "by": "somebody", "asked": 2, "recognised": 1}
        store(Run(run), 64, JudgeResult(requests=[entry]))


def test_what_several_judges_find_at_once_is_all_kept(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    judges = [context.Process(target=_ask, args=(tmp_path, f"judge {number}")) for number in range(PROCESSES)]
    for judge in judges:
        judge.start()
    for judge in judges:
        judge.join(60)
        assert judge.exitcode == 0
    found = {(entry["attribute"], entry["value"]) for entry in read_stored(Run(tmp_path))["requests"]}
    assert len(found) == PROCESSES * EACH


PLAN = f"""\
title: Plans
about: Two networks of equal time.
budget: 1 min
runs:
  one: &run {{family: ddpm, preset: smoke, settings: {{{", ".join(word.replace("=", ": ") for word in TINY["ddpm"])}}}}}
  two: *run
"""


def _plan(file: Path, faces: Path, rates: list[float], answers: multiprocessing.SimpleQueue[list[str | None]]) -> None:
    """Plan as `compare --study` does, with a machine whose speed differs each time that it is measured."""
    with (
        mock.patch.object(study_plan, "images_per_second", side_effect=rates),
        mock.patch.object(study, "_train", return_value="not in this test"),
        pytest.raises(DataError, match="no run of the study has begun"),
    ):
        study.run(study_plan.Request(study=str(file), data=faces, out=file.parent / "study", device="cpu"))
    answers.put([run.duration for run in load(file.parent / "study" / study_plan.FILE).runs.values()])


def test_several_processes_that_begin_a_study_agree_on_one_plan(faces: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN, encoding="utf-8")
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    planners = [
        context.Process(target=_plan, args=(file, faces, [10.0 * number, 20.0 * number], answers))
        for number in (1, 2, 3)
    ]
    for planner in planners:
        planner.start()
    plans = [answers.get() for _ in planners]
    for planner in planners:
        planner.join(60)
        assert planner.exitcode == 0
    assert plans[0] == plans[1] == plans[2]


def test_a_study_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN, encoding="utf-8")
    assert here("compare", "--study", file, "--data", tmp_path / "none.zip", "--out", tmp_path / "study").code == 3
    assert not (tmp_path / "study").exists()


def test_a_plan_that_was_changed_is_refused(faces: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    plan = folder / study_plan.FILE
    plan.write_text(disk.seal_yaml(PLAN), encoding="utf-8")
    plan.write_text(plan.read_text(encoding="utf-8").replace("1 min", "9 min"), encoding="utf-8")
    answer = here("compare", "--study", plan, "--data", faces, "--out", folder, "--dry-run")
    assert answer.code == 3
    assert str(plan) in answer.err
    plan.write_text("\n".join(plan.read_text(encoding="utf-8").splitlines()[:-1]), encoding="utf-8")
    done("compare", "--study", plan, "--data", faces, "--out", folder, "--dry-run")
