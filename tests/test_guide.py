"""Autoguidance: the guide that a run keeps of its own early state, and drawing that leads away from it."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from chain import assert_same_tensors, done, refused, sets, train_words
from PIL import Image
from tiny_runs import ATTRIBUTES, resolved, shake
from torch import Tensor

from animegen_cli.model import abilities, checkpoint, families, samplers
from animegen_cli.model.family import DataSpec, Exports, Family, Samples
from animegen_cli.model.noise import Noise
from animegen_cli.paths import Run
from animegen_cli.sample.trained import apart, describe_sampling, guided_by, inference_state, open_trained

if TYPE_CHECKING:
    from pathlib import Path

GUIDED = sets(
    "train.guide.at=0.25", "train.guide.weights=[1,3]", "train.guide.images=8", "train.save_every=32 images", "train.keep=9"
)  # fmt: skip


# ---- what is computed -----------------------------------------------------------------------------------------


def constant(value: float, asked: list[Tensor]) -> samplers.ConditionalDenoiser:
    """A denoiser that answers one number with labels, another without, and remembers the levels it was asked for."""

    def denoise(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        asked.append(sigma)
        return torch.full_like(x, value if labels is None else value + 10)

    return denoise


def test_it_leads_away_from_the_guide_and_composes_with_labels() -> None:
    x, sigma, labels = torch.zeros(2, 3, 4, 4), torch.ones(2), torch.tensor([[0], [1]])
    ours, theirs = list[Tensor](), list[Tensor]()
    model, weaker = constant(3.0, ours), constant(1.0, theirs)
    for asked, weight, guidance, expected in (
        (None, 1.0, 1.0, 3.0),  # off
        (None, 1.5, 1.0, 4.0),  # 3 + 0.5 * (3 - 1)
        (None, 1.5, 4.0, 4.0),  # nothing to be free of
        (labels, 2.0, 1.0, 15.0),  # 13 + 1 * (13 - 11)
        (labels, 2.0, 3.0, 35.0),  # 3 + 3 * (13 - 3), and 2 more
    ):
        denoised = samplers.guided(model, asked, guidance, samplers.Guide(weaker, weight))(x, sigma)
        torch.testing.assert_close(denoised, torch.full_like(x, expected))
    assert len(theirs) == 4, "a weight of 1 does not ask the guide"
    assert len(ours) == 6, "the model is asked once for each, and once more without labels"


def test_outside_its_levels_the_guide_is_not_asked() -> None:
    asked = list[Tensor]()
    guide = samplers.Guide(constant(1.0, asked), 2.0, (0.5, 2.0))
    denoise = samplers.guided(constant(3.0, []), None, 1.0, guide)
    x = torch.zeros(2, 3, 4, 4)
    for level, expected in ((0.1, 3.0), (0.5, 5.0), (2.0, 5.0), (2.1, 3.0)):
        torch.testing.assert_close(denoise(x, torch.full((2,), level)), torch.full_like(x, expected))
    assert len(asked) == 2
    mixed = denoise(x, torch.tensor([0.1, 1.0]))
    assert mixed[:, 0, 0, 0].tolist() == [3.0, 5.0], "each image by its own level"


@pytest.fixture
def model(family: str) -> tuple[Family, Any]:
    settings, kind = resolved(family), families.load(family)
    data = DataSpec(16, 78, mean=(0.1, 0.0, -0.2), std=(0.5, 0.6, 0.7), attributes=ATTRIBUTES)
    torch.manual_seed(0)
    built = kind(settings.model, data)
    shake(built)
    return built.eval(), settings.sample


def drawn(model: Family, sampling: Any) -> Tensor:
    assert isinstance(model, Samples)
    with torch.no_grad():
        return model.sample(Noise([0, 1]), None, sampling)


with_a_sampler = pytest.mark.parametrize(
    "family",
    [name for name in abilities.families_able("corrupts") if hasattr(families.load(name).Sampling, "autoguidance")],
)


@with_a_sampler
def test_a_guide_that_knows_as_much_changes_nothing_and_another_does(family: str, model: tuple[Family, Any]) -> None:
    built, sampling = model
    sampling = replace(sampling, steps=4)
    plain = drawn(built, sampling)
    guided_by(built, inference_state(built))
    torch.testing.assert_close(drawn(built, replace(sampling, autoguidance=2.0)), plain, rtol=1e-3, atol=1e-3)
    assert built.guide is not None
    shake(built.guide, 0.5)
    assert torch.equal(drawn(built, sampling), plain), f"{family}: a weight of 1 is off"
    assert (drawn(built, replace(sampling, autoguidance=2.0)) - plain).abs().max() > 0.01


@with_a_sampler
def test_an_exported_denoiser_is_guided_too(family: str, model: tuple[Family, Any]) -> None:
    del family
    built, sampling = model
    guided_by(built, inference_state(built))
    assert built.guide is not None
    shake(built.guide, 0.5)
    x, sigma = torch.randn(2, 3, 16, 16), torch.tensor([0.3, 3.0])

    def answered(one: Family, weight: float) -> Tensor:
        assert isinstance(one, Exports)
        with torch.no_grad():
            return one.exported(replace(sampling, autoguidance=weight)).networks[0].call(x, sigma)

    strong, weak, double = answered(built, 1.0), answered(built.guide, 1.0), answered(built, 2.0)
    torch.testing.assert_close(double - strong, strong - weak, rtol=1e-4, atol=1e-4)


# ---- what a run keeps -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 128 images that took its guide at 32."""
    run = tmp_path_factory.mktemp("guided") / "run"
    done(*train_words("ddim", faces, run, *GUIDED, duration="128 images"))
    return run


def test_the_guide_is_the_average_of_that_moment_in_half_precision(trained: Path) -> None:
    states = {int(state.name): checkpoint.load_state(state)[0] for state in Run(trained).states()}
    tensors, _ = checkpoint.load_weights(Run(trained).weights)
    own, guide = apart(tensors)
    assert own.keys() == guide.keys()
    assert_same_tensors(own, states[128]["ema"])
    weights = {name for name in guide if guide[name].dtype == torch.float16}
    assert any(name.endswith("weight") for name in weights)
    for name, tensor in guide.items():
        assert torch.equal(tensor, states[32]["ema"][name].to(tensor.dtype)), name
        assert states[32]["ema"][name].dtype == tensor.dtype or name in weights
    assert any(not torch.equal(own[name].half(), guide[name]) for name in weights)


def test_the_weight_is_the_one_whose_faces_are_nearest(trained: Path) -> None:
    found = Run(trained).about["guided"]
    assert found.keys() == {"1", "3"}
    assert found["1"] != found["3"]
    _, about = checkpoint.load_weights(Run(trained).weights)
    chosen = about["config"]["sample"]["autoguidance"]
    assert chosen == float(min(found, key=lambda weight: found[weight]))
    opened = open_trained(Run(trained), device=torch.device("cpu"))
    assert opened.model.guide is not None
    assert (f"autoguidance {chosen}" in describe_sampling(opened.config.sample)) == (chosen != 1)


def test_a_run_that_was_stopped_before_and_after_it_took_the_guide_ends_the_same(
    trained: Path, tmp_path: Path, faces: Path
) -> None:
    """What a state at 32 images holds, and one at 64, leads to the same weights file and the same choice."""
    whole = Run(trained).weights.read_bytes()
    for last in (32, 64):
        run = Run(shutil.copytree(trained, tmp_path / str(last)))
        for state in run.states():
            if int(state.name) > last:
                shutil.rmtree(state)
        run.weights.unlink()
        done(*train_words("ddim", faces, run.path, *GUIDED, duration="128 images"))
        assert run.weights.read_bytes() == whole, f"from {last} images"
        assert run.about["guided"] == Run(trained).about["guided"]


def test_weights_are_tried_until_one_is_worse_than_the_one_before(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The distances are made up: what real ones would be is chance with so small a network."""
    distances = iter([5.0, 3.0, 4.0, 1.0])
    monkeypatch.setattr("animegen_cli.evaluate.features.in_run_scores", lambda *_, **__: {"kid-faces": next(distances)})
    settings = sets("train.guide.at=0.5", "train.guide.weights=[1,2,3,4]", "train.guide.images=2")
    done(*train_words("ddim", faces, tmp_path / "run", *settings, duration="16 images"))
    assert Run(tmp_path / "run").about["guided"] == {"1": 5.0, "2": 3.0, "3": 4.0}
    _, about = checkpoint.load_weights(Run(tmp_path / "run").weights)
    assert about["config"]["sample"]["autoguidance"] == 2


def test_pictures_are_drawn_with_the_guide_or_without_it(trained: Path, tmp_path: Path) -> None:
    grids = []
    for weight in (1, 3):
        out = tmp_path / str(weight)
        done("sample", trained, "--n", 4, "--grid", "--set", f"autoguidance={weight}", "--out", out, "--device", "cpu")
        grids.append(np.asarray(Image.open(out / "grid.png")))
    assert (grids[0] != grids[1]).any()


def test_another_run_starts_from_the_weights_and_not_from_the_guide(trained: Path, faces: Path, tmp_path: Path) -> None:
    run = tmp_path / "second"
    done(*train_words("ddim", faces, run, "--init-from", trained, *sets("train.ema.decay=0"), duration="0 images"))
    ours, _ = checkpoint.load_weights(Run(run).weights)
    assert_same_tensors(ours, apart(checkpoint.load_weights(Run(trained).weights)[0])[0])


# ---- wrong words ----------------------------------------------------------------------------------------------


def test_a_run_without_a_guide_says_how_to_train_one(faces: Path, tmp_path: Path) -> None:
    run = tmp_path / "plain"
    done(*train_words("ddim", faces, run, duration="8 images"))
    said = refused(2, "sample", run, "--n", 1, "--set", "autoguidance=1.5", "--device", "cpu")
    assert "has no guide" in said
    assert "train.guide.at" in said
    assert "guided" not in json.loads(Run(run).facts.read_text())


def test_a_family_that_draws_in_one_step_cannot_be_guided(faces: Path, tmp_path: Path) -> None:
    said = refused(2, *train_words("gan", faces, tmp_path / "run", *sets("train.guide.at=0.1"), duration="8 images"))
    assert "train.guide.at" in said
    assert "edm" in said


def test_a_damaged_guide_is_refused(trained: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(trained, tmp_path / "run"))
    tensors, about = checkpoint.load_weights(run.weights)
    short = copy.copy(tensors)
    del short[next(name for name in short if name.startswith("guide."))]
    checkpoint.save_weights(run.weights, short, about)
    assert "do not fit" in refused(3, "sample", run.path, "--n", 1, "--device", "cpu")
