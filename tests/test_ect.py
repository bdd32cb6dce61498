"""Consistency tuning against the paper's formulas, its few calls against the levels they ask for, and what it refuses to tune."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from chain import TINY, done, here, refused, sets, train_words
from pictures import refusal
from tiny_runs import awake, make, unet
from torch import Tensor

from animegen_cli.model import checkpoint, families
from animegen_cli.model.families import ect
from animegen_cli.model.family import Batch, Edit
from animegen_cli.model.noise import Noise
from animegen_cli.paths import Run
from animegen_cli.sample.trained import open_trained

if TYPE_CHECKING:
    from pathlib import Path

Form = Literal["karras", "straight"]


def tiny(attributes: dict[str, tuple[str, ...]] | None = None, **changes: Any) -> ect.ECT:
    return unet(ect.ECT, 8, attributes, **changes).eval()


class Asked:
    """A stand-in for the network call: remembers what it was asked, and answers gray."""

    def __init__(self, model: ect.ECT, monkeypatch: pytest.MonkeyPatch) -> None:
        self.levels: list[Tensor] = []
        self.seen: list[Tensor] = []
        monkeypatch.setattr(model, "clean", self)

    def __call__(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        self.levels.append(sigma)
        self.seen.append(x)
        return torch.zeros_like(x)


# ---- tuning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["karras", "straight"])
def test_without_noise_an_image_is_its_own_answer(form: Form) -> None:
    model, x = awake(tiny(preconditioning=form)), torch.rand(2, 3, 8, 8) - 0.5
    with torch.no_grad():
        far, near = (model.denoise(x, torch.full((2,), level)) - x for level in (0.5, 1e-6))
    assert float(far.abs().max()) > 0.05
    assert float(near.abs().max()) < 1e-4


def test_pairs_of_levels() -> None:
    """q = 256: at t = 0 by 5/256 lower, far up by 1/256; q = 4 reaches 0 where 1 + 8 / (1 + e^t) is 4 or more."""
    t = torch.tensor([1e-4, 0.0, 50.0])
    wanted = [1e-4 * 251 / 256, 0.0, 50 * 255 / 256]
    assert tiny(q=256.0).lower_level(t).tolist() == pytest.approx(wanted, rel=1e-4)
    edge = math.log(5 / 3)
    low, high = tiny(q=4.0).lower_level(torch.tensor([edge - 0.01, edge + 0.01])).tolist()
    assert low == 0
    assert high > 0


def test_the_loss_is_a_distance_over_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of t in each number: the two differ by t - r everywhere, sqrt(192) (t - r) in length, whatever t is."""
    model = tiny(q=64.0, sigma_min=1e-9)
    monkeypatch.setattr(model, "clean", lambda x, sigma, labels: sigma.view(-1, 1, 1, 1).expand_as(x))
    images = torch.zeros(512, 3, 8, 8)
    assert float(model.loss(Batch(images))["consistency"]) == pytest.approx(math.sqrt(192), rel=1e-3)


def test_where_the_lower_level_is_none_the_target_is_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """q just above 1: r = 0 for every t, t - r is t, and the gray answer is as far away as the image is from gray."""
    model = tiny(q=1.0001, p_mean=0.0, p_std=1e-4)
    Asked(model, monkeypatch)
    assert float(model.loss(Batch(torch.full((8, 3, 8, 8), 0.5)))["consistency"]) == pytest.approx(
        0.5 * math.sqrt(192), rel=1e-3
    )


def test_both_calls_see_the_same_noise_at_two_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = tiny(q=16.0), torch.rand(64, 3, 8, 8) - 0.5
    asked = Asked(model, monkeypatch)
    model.loss(Batch(images))
    (near, far), (r, t) = asked.seen, (level.view(-1, 1, 1, 1) for level in asked.levels)
    both = (r > model.config.sigma_min).flatten()  # else the lower call is not looked at
    assert int(both.sum()) > 20
    torch.testing.assert_close(((near - images) / r)[both], ((far - images) / t)[both], atol=1e-2, rtol=1e-2)
    assert float(t.log().mean()) == pytest.approx(-1.1, abs=0.8)


def test_both_calls_drop_the_same_features() -> None:
    """Levels a millionth apart: what the calls differ by is the dropout, if anything."""
    found = {}
    for dropout in (0.0, 0.5):
        model = awake(tiny(dropout=dropout, q=1e5, p_mean=0.0, p_std=0.1)).train()
        torch.manual_seed(1)
        outputs: list[Tensor] = []
        model.net.register_forward_hook(lambda module, inputs, output, found=outputs: found.append(output.detach()))
        model.loss(Batch(torch.rand(4, 3, 8, 8) - 0.5))
        near, far = outputs
        found[dropout] = float((near - far).abs().max())
        assert float(far.std()) > 0.01
    assert found[0.5] < 100 * max(found[0.0], 1e-5)


def test_the_lower_call_is_the_target_and_learns_nothing() -> None:
    model = awake(tiny()).train()
    calls: list[bool] = []
    model.net.register_forward_hook(lambda module, inputs, output: calls.append(output.requires_grad))
    model.loss(Batch(torch.rand(4, 3, 8, 8) - 0.5))["consistency"].backward()
    assert calls == [False, True]
    assert all(parameter.grad is not None for parameter in model.net.parameters())


# ---- drawing and editing ------------------------------------------------------------------------------------------


def test_calls_are_at_the_highest_level_and_then_at_those_of_renoise(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    for steps, wanted in ((1, [80]), (2, [80, 0.821]), (4, [80, 0.821, 0.4, 0.2])):
        asked = Asked(model, monkeypatch)
        model.sample(Noise([0]), None, ect.ECTSampling(steps=steps))
        assert [float(level) for level in asked.levels] == pytest.approx(wanted)
        assert [float(x.std()) for x in asked.seen] == pytest.approx(wanted, rel=0.2)  # gray, and noise of that level


def test_translation_starts_at_its_strength_and_goes_down(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    asked = Asked(model, monkeypatch)
    start = model.schedule.level_at(0.2)
    assert start < 0.4
    model.translate(torch.zeros(1, 3, 8, 8), Noise([0]), Edit(strength=0.2), ect.ECTSampling(steps=4))
    assert [float(level) for level in asked.levels] == pytest.approx([start, 0.2] if start > 0.2 else [start])


def test_inpainting_shows_the_network_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its last, lowest level the kept half is the image, and the new half what the call before made."""
    model, images = tiny(), torch.full((1, 3, 8, 8), 0.5)
    asked = Asked(model, monkeypatch)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    filled = model.inpaint(images, mask, Noise([0]), None, ect.ECTSampling())
    assert [float(level) for level in asked.levels] == sorted((float(level) for level in asked.levels), reverse=True)
    assert float((asked.seen[-1][..., 4:] - 0.5).abs().max()) < 0.02
    assert float(asked.seen[-1][..., :4].abs().max()) < 0.02
    assert torch.equal(filled[..., 4:], images[..., 4:])


def test_guidance_leads_away_from_the_unlabeled_image() -> None:
    model, labels = awake(tiny({"hair": ("pink", "blue")}, labels="all")), torch.zeros(1, 1, dtype=torch.int64)

    def drawn(weight: float) -> Tensor:
        return model.sample(Noise([1]), labels, ect.ECTSampling(guidance=weight))

    with torch.inference_mode():
        unknown = model.sample(Noise([1]), None, ect.ECTSampling())
        torch.testing.assert_close(drawn(0.0), unknown)
        assert not torch.equal(drawn(1.0), unknown)
        assert not torch.equal(drawn(1.0), drawn(3.0))


def test_more_calls_than_levels_are_refused() -> None:
    for changes in ({"steps": 5}, {"renoise": (0.4, 0.8)}):
        with refusal():
            ect.ECTSampling(**changes)


# ---- runs that it tunes -------------------------------------------------------------------------------------------


def test_the_tuned_network_begins_as_the_denoiser_of_its_run(tmp_path: Path) -> None:
    """Same answers at every level, for each family that it tunes, with labels, and without the input of augmentations."""
    for family, settings in (("edm", ["model.augment=0.2", "model.sigma_data=0.4"]), ("flow", ["model.t_max=0.98"])):
        run = make(family, tmp_path / family, *settings)
        trained = open_trained(run, device=torch.device("cpu"), precision="fp32")
        model: Any = trained.model
        taken = ect.ECT.taken_over(family, trained.config.to_dict()["model"])
        tuned = ect.ECT(ect.Model(**taken), trained.data).eval()
        tuned.load_state_dict({name: t for name, t in trained.model.state_dict().items() if name in tuned.state_dict()})
        x, labels = torch.randn(3, 3, 16, 16), torch.tensor([[0, 1], [1, -1], [-1, -1]])
        sigma = torch.tensor([0.1, 1.0, 40.0])
        with torch.no_grad():
            torch.testing.assert_close(tuned.denoise(x, sigma, labels), model.denoise(x, sigma, labels))
        assert tuned.schedule.sigma_max == pytest.approx(model.schedule.sigma_max)


def trained_words(family: str, faces: Path, out: Path, *more: object) -> list[str]:
    return train_words(family, faces, out, *more, duration="16 images")


def test_what_cannot_be_tuned_is_named(faces: Path, tmp_path: Path) -> None:
    start = tmp_path / "edm"
    done(*trained_words("edm", faces, start))
    said = refused(2, *trained_words("ect", faces, tmp_path / "a", "--init-from", start, "--set", "model.channels=16"))
    assert "`model.channels`" in said
    said = refused(2, *trained_words("ect", faces, tmp_path / "b", "--init-from", make("gan", tmp_path / "gan").path))
    assert "gan run" in said
    assert "animegen train edm" in said
    here("prepare", faces, "--resolution", "8", "--out", tmp_path / "other.zip")
    said = refused(3, *trained_words("ect", tmp_path / "other.zip", tmp_path / "c", "--init-from", start))
    assert "other pictures" in said


def test_a_run_is_tuned_and_tuned_again(faces: Path, tmp_path: Path) -> None:
    """The guide that a diffusion run keeps beside its networks stays behind."""
    done(*trained_words("edm", faces, tmp_path / "edm", *sets("train.guide.at=0.5", "train.guide.images=4")))
    kept, _ = checkpoint.load_weights(Run(tmp_path / "edm").weights)
    assert any(name.startswith("guide.") for name in kept)
    first = done(*trained_words("ect", faces, tmp_path / "ect", "--init-from", tmp_path / "edm"))
    assert "started from" in first.err
    assert "untrained" not in first.err
    done(*trained_words("ect", faces, tmp_path / "again", "--init-from", tmp_path / "ect"))
    config = open_trained(Run(tmp_path / "again"), device=torch.device("cpu")).config
    assert config.family == "ect"
    assert config.model.channels == 8


def test_tuning_nothing_is_warned_of(faces: Path, tmp_path: Path) -> None:
    said = done(*trained_words("ect", faces, tmp_path / "ect")).err
    assert "untrained" in said
    assert "--init-from RUN" in said


def test_one_call_of_a_run_that_was_not_tuned_is_warned_of(tmp_path: Path) -> None:
    for family, wanted in (
        ("edm", "animegen train ect --preset fast --init-from"),
        ("ddpm", "--steps 20"),
        ("ect", ""),
    ):
        run = make(family, tmp_path / family)
        said = done("sample", run.path, "--n", "1", "--steps", "1", "--device", "cpu", "--out", tmp_path / "out").err
        assert wanted in said, family
        assert ("one call of" in said) == bool(wanted), family
        many = done("sample", run.path, "--n", "1", "--steps", "2", "--device", "cpu", "--out", tmp_path / "out").err
        assert "one call of" not in many, family


def test_its_tensors_are_those_of_the_smallest_run_it_tunes() -> None:
    """`TINY` has one network for the three, or the tests above would compare nothing."""
    for family in families.load("ect").tunes:  # type: ignore[attr-defined]
        assert set(sets(*TINY["ect"])) <= set(sets(*TINY[family]))
