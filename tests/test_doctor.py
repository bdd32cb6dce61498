"""The doctor: what it sees in pictures and figures, when it speaks, and which state it keeps."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from chain import done, train_words

from animegen_cli.config import Section
from animegen_cli.model import families
from animegen_cli.model.family import DataSpec, Family, Finding, Phase
from animegen_cli.paths import Run
from animegen_cli.report.looks import roughness, thumbnail_distance
from animegen_cli.train.doctor import Doctor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RANDOM = np.random.default_rng(0)
REALS = RANDOM.integers(0, 256, (12, 1, 1, 3), np.uint8).repeat(16, 1).repeat(16, 2)
REALS = (REALS // 2 + RANDOM.integers(0, 128, REALS.shape, np.uint8)).astype(np.uint8)


def test_the_distance_of_thumbnails_by_hand() -> None:
    black, white, gray = (np.full((1, 16, 16, 3), level, np.uint8) for level in (0, 200, 100))
    assert thumbnail_distance(np.concatenate([black, white])) == 200
    assert thumbnail_distance(np.concatenate([black, white, gray])) == pytest.approx((200 + 100 + 100) / 3)
    checks = np.indices((16, 16)).sum(0) % 2 * 255  # texture finer than the thumbnails is no difference
    first, second = (np.repeat(board[None, :, :, None], 3, 3).astype(np.uint8) for board in (checks, 255 - checks))
    assert thumbnail_distance(np.concatenate([first, second])) == 0


def test_one_face_for_all_seeds_is_mode_collapse() -> None:
    doctor = Doctor()
    collapsed = np.clip(REALS[:1].astype(int) + RANDOM.integers(-3, 4, REALS.shape), 0, 255).astype(np.uint8)
    assert not doctor.look(REALS[::-1], REALS, progress=0.5, images=100, flag="--set optim.model.lr=1e-4")
    assert not doctor.look(collapsed, REALS, progress=0.05, images=200, flag="--set optim.model.lr=1e-4"), (
        "too early to judge"
    )
    (found,) = doctor.look(collapsed, REALS, progress=0.5, images=300, flag="--set optim.model.lr=1e-4")
    assert found.name == "mode collapse"
    assert not doctor.look(collapsed, REALS, progress=0.6, images=400, flag="--set optim.model.lr=1e-4"), "said once"
    assert doctor.to_list() == [{**asdict(found), "by": "pictures", "since": 300}]
    again = Doctor(doctor.to_list())  # a resumed run looks at its figures first
    assert not again.read(Ailing(Section(), DataSpec(16, 10)), {"model/heat": 1.0}, 350)
    assert not again.look(collapsed, REALS, progress=0.6, images=400, flag="--set optim.model.lr=1e-4"), (
        "said before the resume"
    )
    doctor.look(REALS, REALS, progress=0.7, images=500, flag="--set optim.model.lr=1e-4")
    assert doctor.to_list() == []


def test_gray_pictures_are_blank() -> None:
    doctor = Doctor()
    (found,) = doctor.look(np.full_like(REALS, 127), REALS, progress=1.0, images=10, flag="--set optim.model.lr=1e-4")
    assert found.name == "blank images"


def test_noise_is_called_noise_where_faces_are_not_and_training_is_long() -> None:
    ramps = np.linspace(0, 255, 16, dtype=np.uint8)[None, :, None, None].repeat(12, 0).repeat(16, 2).repeat(3, 3)
    faces = (ramps // 2 + REALS[:, :1, :1] // 2).astype(np.uint8)
    noise = RANDOM.integers(0, 256, faces.shape, np.uint8)
    assert roughness(noise) == pytest.approx(1, abs=0.1)
    # A ramp of 16 levels d apart: differences d^2 along one axis of two, a variance of d^2 (16^2 - 1) / 12.
    assert roughness(ramps) == pytest.approx(3 / (16**2 - 1), rel=0.05)

    def found(drawn: np.ndarray, reals: np.ndarray, progress: float = 0.5, images: int = 20_000) -> list[str]:
        return [each.name for each in Doctor().look(drawn, reals, progress=progress, images=images, flag="--set a=1")]

    assert found(noise, faces) == ["noise instead of pictures"]
    assert found(noise, faces, progress=0.4) == found(noise, faces, images=19_999) == []
    assert found(noise, noise[::-1]) == found(faces, faces) == []


class Ailing(Family):
    """Falls ill when its figure is negative."""

    inference = ()

    def phases(self) -> tuple[Phase, ...]:
        return ()

    def diagnose(self, figures: Mapping[str, float]) -> list[Finding]:
        return [Finding("chill", "below zero", "--set model.heat=1")] if figures["model/heat"] < 0 else []


def test_a_family_speaks_for_itself_and_a_resumed_doctor_remembers() -> None:
    model, doctor = Ailing(Section(), DataSpec(16, 10)), Doctor()
    assert not doctor.read(model, {"model/heat": 1.0}, 10)
    (found,) = doctor.read(model, {"model/heat": -1.0}, 20)
    assert found.flag == "--set model.heat=1"
    again = Doctor(doctor.to_list())
    assert not again.read(model, {"model/heat": -1.0}, 30)
    assert again.to_list()[0]["since"] == 20


def test_the_last_healthy_state_outlives_the_sick_ones(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real run whose family reports a failure from the fourth save on: two newest states and the healthy one stay.

    The family diagnoses anyway: Python remembers that a class has a protocol's methods after they are taken away.
    """
    kind = families.load("vae")

    def diagnose(self: Family, figures: Mapping[str, float]) -> list[Finding]:
        return [Finding("chill", "below zero", "--set model.heat=1")] if seen["steps"] > 9 else []

    seen = {"steps": 0}
    phases = kind.phases

    def counting(self: Family) -> tuple[Phase, ...]:
        (phase,) = phases(self)

        def loss(batch: object) -> object:
            seen["steps"] += 1
            return phase.loss(batch)  # type: ignore[arg-type]

        return (replace(phase, loss=loss),)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "diagnose", diagnose)
    monkeypatch.setattr(kind, "phases", counting)
    answer = done(*train_words("vae", faces, tmp_path / "run", "--set", "train.save_every=24 images",
                               "--set", "train.log_every=1 steps", duration="192 images"))  # fmt: skip
    assert "chill at" in answer.err
    assert "--set model.heat=1" in answer.err
    assert answer.err.count("chill") == 1
    run = Run(tmp_path / "run")
    kept = {int(state.name): json.loads((state / "state.json").read_text())["findings"] for state in run.states()}
    healthy = [images for images, findings in kept.items() if not findings]
    sick = sorted(images for images, findings in kept.items() if findings)
    assert len(healthy) == 1
    assert sick == [168, 192]
    assert 0 < healthy[0] < 100
    assert [finding["name"] for finding in run.about["findings"]] == ["chill"]
    assert f"the last healthy state is {run.resume}" in answer.err
