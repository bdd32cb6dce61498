"""What every family owes the house, checked over all families found: a new file in methods/ is tested from its first day."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from chain import assert_same_tensors, done, log_of, refused, sets, timeless
from PIL import Image
from torch import nn

from animegen_cli import config, paths
from animegen_cli.config import Layer, RunConfig
from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.loading import Loader, LoaderConfig
from animegen_cli.model import checkpoint, families
from animegen_cli.model.family import (  # fmt: skip
    ABILITIES,
    Batch,
    Classifies,
    DataSpec,
    Diagnoses,
    Edit,
    Embeds,
    Family,
    Inpaints,
    Likelihood,
    Mixes,
    Reconstructs,
    Samples,
    Translates,
    Validates,
    abilities_of,
)
from animegen_cli.model.noise import Noise
from animegen_cli.paths import Run
from animegen_cli.sample.trained import build_config, inference_state, open_trained
from animegen_cli.train import estimate

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize("family", paths.families())

FEW = ["train.batch=4", "train.preview=4", "train.validate.images=8", "train.validate.every=8 images"]
FEW += ["train.preview_every=8 images", "train.log_every=1 steps", "train.save_every=8 images"]


def resolved(family: str, preset: str = "smoke") -> RunConfig:
    kind = families.load(family)
    return config.resolve(
        [Layer.from_yaml(paths.preset_file(family, preset)), Layer({"family": family, "preset": preset}, {})],
        family=family, model=kind.Config, sample=kind.Sampling, optimizers=kind.optimizers,
    )  # fmt: skip


@pytest.fixture
def faces(family: str, faces: Path, request: pytest.FixtureRequest) -> Path:
    """A data set with all the domains that the family asks for."""
    return request.getfixturevalue("two_domains") if "photos" in families.load(family).domains else faces


def spec_of(faces: Path, *, photos: bool) -> tuple[DataSpec, Loader]:
    opened = FaceSet.open(faces)
    loader = Loader(opened, LoaderConfig(split="train", size=opened.size, batch=4, seed=0, photos=photos))
    spec = DataSpec(
        opened.size,
        len(loader),
        mean=loader.mean,
        std=loader.std,
        attributes=dict(opened.attributes),
        domains=tuple(opened.domains),
    )
    return spec, loader


def built(family: str, faces: Path) -> tuple[Family, RunConfig, Batch]:
    """A smoke-sized method and one batch of real drawn faces with their labels."""
    both = "photos" in families.load(family).domains
    settings, (spec, loader) = resolved(family), spec_of(faces, photos=both)
    torch.manual_seed(0)
    images, labels, photos = loader.batch(0)
    batch = Batch(
        images.float() / 127.5 - 1, photos=None if photos is None else photos.float() / 127.5 - 1, labels=labels
    )
    return families.load(family)(settings.model, spec), settings, batch


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def trained(family: str, faces: Path, made: Path) -> Path:
    """The family's run of six steps, made on first use."""
    if not (made / family).exists():
        done(*words(family, faces, made / family))
    return made / family


def words(family: str, faces: Path, out: Path, images: int = 24) -> list[str]:
    return ["train", family, "--preset", "smoke", "--data", str(faces), "--out", str(out), "--device", "cpu",
            "--duration", f"{images} images", *sets(*FEW)]  # fmt: skip


# ---- the class ------------------------------------------------------------------------------------------------


def test_it_names_what_it_has(family: str, faces: Path) -> None:
    model, settings, _ = built(family, faces)
    children = dict(model.named_children())
    assert model.inference
    assert set(model.inference) <= set(children)
    assert any(parameter.requires_grad for name in model.inference for parameter in children[name].parameters())
    phases = model.phases()
    owners = [phase.name for phase in phases if phase.shares is None]
    assert sorted(owners) == sorted(model.optimizers) == sorted(settings.optim)
    assert all(phase.shares is None or phase.shares in owners for phase in phases)
    assert all(phase.every >= 1 for phase in phases)
    trained = {id(parameter) for phase in phases for module in phase.trains for parameter in module.parameters()}
    assert trained >= {id(parameter) for parameter in model.parameters() if parameter.requires_grad}, (
        "some parameters are never trained"
    )
    assert type(model).__mro__[1] is Family, "a family inherits from Method alone"


def test_its_losses_are_finite_and_reach_what_it_trains(family: str, faces: Path) -> None:
    model, _, batch = built(family, faces)
    for phase in model.phases():
        losses = phase.loss(batch)
        assert losses
        assert all(value.shape == () and torch.isfinite(value) for value in losses.values())
        model.zero_grad()
        next(iter(losses.values())).backward()
        gradients = [p.grad for module in phase.trains for p in module.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert any(gradient.abs().max() > 0 for gradient in gradients)


def test_its_losses_are_functions_of_the_seed(family: str, faces: Path) -> None:
    model, _, batch = built(family, faces)
    for phase in model.phases():
        found = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            found.append(next(iter(phase.loss(batch).values())).item())
        assert found[0] == found[1]
        assert np.isfinite(found[2])


def test_its_networks_compile_in_place(family: str, faces: Path) -> None:
    """Compiled modules keep their keys and their losses; an `nn.Sequential` compiles nothing in some PyTorch versions."""
    model, _, batch = built(family, faces)
    keys = list(model.state_dict())
    modules = {id(module): module for phase in model.phases() if not phase.exact for module in phase.trains}
    assert not any(type(module) is nn.Sequential for module in modules.values())
    torch.manual_seed(0)
    plain = [next(iter(phase.loss(batch).values())).item() for phase in model.phases()]
    graphs = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    for module in modules.values():
        module.compile(backend=backend)
    torch.manual_seed(0)
    compiled = [next(iter(phase.loss(batch).values())).item() for phase in model.phases()]
    torch._dynamo.reset()
    assert list(model.state_dict()) == keys
    assert len(graphs) >= len(modules)
    assert compiled == pytest.approx(plain, rel=1e-4)


def test_its_abilities_do_what_they_say(family: str, faces: Path) -> None:
    model, settings, batch = built(family, faces)
    model.eval()
    with torch.no_grad():
        if isinstance(model, Samples):
            sampling = settings.sample.preview()
            first, second = (model.sample(Noise([3, 4]), None, sampling) for _ in range(2))
            assert first.shape == (2, 3, 16, 16)
            assert float(first.abs().max()) <= 1
            assert torch.equal(first, second)
            assert not torch.equal(first[0], first[1])
        if isinstance(model, Translates):
            sampling, edit = settings.sample.preview(), Edit()
            out = model.translate(batch.images, Noise([0] * len(batch.images)), edit, sampling)
            assert out.shape == batch.images.shape
            assert float(out.abs().max()) <= 1
            alone = model.translate(batch.images[1:2], Noise([0]), edit, sampling)
            torch.testing.assert_close(alone[0], out[1], rtol=1e-3, atol=1e-3)
        if isinstance(model, Reconstructs):
            assert model.reconstruct(batch.images).shape == batch.images.shape
        if isinstance(model, Likelihood):
            bits = model.bits_per_dim(batch.images[:2], Noise([0, 1]))
            assert bits.shape == (2,)
            assert torch.isfinite(bits).all()
        if isinstance(model, Mixes):
            sampling = settings.sample.preview()
            mixed = model.mix(Noise([3]), Noise([4]), None, sampling)
            assert mixed.shape == (1, 3, 16, 16)
            assert not torch.equal(mixed, model.sample(Noise([3]), None, sampling))  # type: ignore[attr-defined]
        if isinstance(model, Inpaints):
            mask = torch.zeros(len(batch.images), 1, 16, 16)
            mask[..., :8] = 1
            filled = model.inpaint(batch.images, mask, Noise(range(len(mask))), None, settings.sample.preview())
            assert torch.equal(filled[..., 8:], batch.images[..., 8:])
            assert not torch.equal(filled[..., :8], batch.images[..., :8])
        if isinstance(model, Diagnoses):
            with torch.enable_grad():
                figures = {f"{phase.name}/{name}": float(value) for phase in model.phases() for name, value in
                           phase.loss(batch).items()}  # fmt: skip
            assert all(finding.name and finding.says and finding.flag for finding in model.diagnose(figures))
        if isinstance(model, Validates):
            for value in model.validate(batch).values():
                assert value.shape in ((), (len(batch.images),))
                assert torch.isfinite(value).all()
        if isinstance(model, Embeds):
            features = model.embed(batch.images)
            assert (features.dtype, len(features)) == (torch.float32, len(batch.images))
            torch.testing.assert_close(model.embed(batch.images[1:2])[0], features[1], rtol=1e-3, atol=1e-3)
        if isinstance(model, Classifies):
            assert isinstance(model, Embeds)
            logits = model.classify(model.embed(batch.images))
            wanted = {name: (len(batch.images), len(values)) for name, values in model.data.attributes.items()}
            assert {name: tuple(value.shape) for name, value in logits.items()} == wanted
        if isinstance(model, ABILITIES["corrupts"]):
            noise = torch.randn_like(batch.images)
            torch.testing.assert_close(model.corrupt(batch.images, noise, 0.0), batch.images)  # type: ignore[attr-defined]
            ruined = model.corrupt(batch.images, noise, 1.0)  # type: ignore[attr-defined]
            noise, ruined = (t.flatten() - t.mean() for t in (noise, ruined))
            assert float(ruined @ noise / ruined.norm() / noise.norm()) > 0.95


def test_its_cost_is_told_without_paying(family: str, faces: Path) -> None:
    model, settings, batch = built(family, faces)
    batch = replace(batch, images_seen=estimate.SETTLED)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = estimate.cost(model, precision="fp32")
    assert_same_tensors(before, model.state_dict())
    count = sum(parameter.numel() for parameter in model.parameters())
    assert sum(found.parameters.values()) == count
    assert found.fixed_bytes >= 4 * 4 * count
    from torch.utils.flop_counter import FlopCounterMode

    flops = 0.0
    for phase in model.phases():
        with FlopCounterMode(display=False) as counter:
            next(iter(phase.loss(batch).values())).backward()
        flops += counter.get_total_flops() / phase.every / len(batch.images)
    assert found.flops == pytest.approx(flops, rel=0.02)
    assert found.image_bytes > 3 * 16 * 16 * 4


def test_every_preset_is_one_this_family_can_build(family: str) -> None:
    names = paths.presets(family)
    assert {"smoke", "fast"} <= set(names)
    for preset in names:
        settings = resolved(family, preset)
        assert settings.about
        assert settings.train.batch >= 1
        again = build_config(settings.to_dict())
        assert again == settings


# ---- the chain ------------------------------------------------------------------------------------------------


def test_it_trains_and_says_what_it_can(family: str, trained: Path, faces: Path) -> None:
    about = Run(trained).about
    model, _, _ = built(family, faces)
    assert tuple(about["abilities"]) == abilities_of(model)
    assert about["state"] == "finished"
    assert about["parameters"] == estimate.parameters(model)
    assert about["flops_per_image"] > 0
    losses = [line for line in log_of(trained) if not {"validation", "findings"} & line.keys()]
    assert [line["step"] for line in losses] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(value) for line in losses for value in line.values() if isinstance(value, float))
    assert all(any(f"{phase.name}/grad_norm" in line for line in losses) for phase in model.phases())


def test_it_goes_on_exactly(family: str, trained: Path, faces: Path, tmp_path: Path) -> None:
    done(*words(family, faces, tmp_path / "run", images=16))
    done(*words(family, faces, tmp_path / "run", images=24))
    pair = [Run(path).states()[-1] for path in (trained, tmp_path / "run")]
    (whole, _), (broken, _) = (checkpoint.load_state(state) for state in pair)
    assert whole.keys() == broken.keys()
    for part in whole:
        assert_same_tensors(whole[part], broken[part])
    assert timeless(trained) == timeless(tmp_path / "run")


def test_its_weights_hold_the_average_and_open_without_data(family: str, trained: Path, tmp_path: Path) -> None:
    run = Run(trained)
    tensors, about = checkpoint.load_weights(run.weights)
    parts, _ = checkpoint.load_state(run.states()[-1])
    assert_same_tensors(tensors, parts["ema"])
    assert {name.split(".")[0] for name in tensors} == set(families.load(family).inference)
    lone = tmp_path / "lone"
    lone.mkdir()
    shutil.copy(run.path / "run.json", lone)
    shutil.copy(run.weights, lone)
    opened = open_trained(Run(lone), device=torch.device("cpu"), precision="fp32")
    assert_same_tensors(inference_state(opened.model), tensors)
    assert opened.images == 24
    assert about["config"]["family"] == family


def test_it_samples_from_the_command_line(family: str, trained: Path, tmp_path: Path) -> None:
    if "samples" not in Run(trained).about["abilities"]:
        said = refused(2, "sample", trained)
        assert "ddpm" in said  # a family that can
        return
    done("sample", trained, "--seeds", "0,7", "--out", tmp_path, "--device", "cpu")
    drawn = sorted((tmp_path / "seeds").iterdir())
    assert [path.name for path in drawn] == ["000000.png", "000007.png"]
    pictures = [np.asarray(Image.open(path)) for path in drawn]
    assert all(picture.shape == (16, 16, 3) and picture.std() > 1 for picture in pictures)


def test_its_plan_is_printed(family: str, faces: Path, tmp_path: Path) -> None:
    plan = json.loads(done(*words(family, faces, tmp_path / "run"), "--dry-run", "--json").out)
    assert plan["images"] == 24
    assert plan["steps"] == 6
    assert not (tmp_path / "run").exists()
