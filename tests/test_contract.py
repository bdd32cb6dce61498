"""What every family owes the house, checked over all families found: a new file in methods/ is tested from its first day."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chain import assert_same_tensors, done, log_of, refused, sets, timeless
from PIL import Image
from torch import nn

from animegen_cli import config, paths
from animegen_cli.config import Layer, RunConfig
from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.loading import Loader
from animegen_cli.model import checkpoint, families
from animegen_cli.model.family import (  # fmt: skip
    ABILITIES,
    Batch,
    Classifies,
    DataSpec,
    Diagnoses,
    Edit,
    Embeds,
    Inpaints,
    Likelihood,
    Method,
    Mixes,
    Reconstructs,
    Samples,
    Translates,
    Validates,
    abilities_of,
)
from animegen_cli.model.noise import Noise
from animegen_cli.paths import Run
from animegen_cli.sample import generate
from animegen_cli.train import estimate

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
    loader = Loader(opened, split="train", size=opened.size, batch=4, seed=0, photos=photos)
    spec = DataSpec(opened.size, len(loader), loader.mean, loader.std, dict(opened.attributes), tuple(opened.domains))
    return spec, loader


def built(family: str, faces: Path) -> tuple[Method, RunConfig, Batch]:
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
    method, settings, _ = built(family, faces)
    children = dict(method.named_children())
    assert method.inference
    assert set(method.inference) <= set(children)
    assert any(parameter.requires_grad for name in method.inference for parameter in children[name].parameters())
    phases = method.phases()
    owners = [phase.name for phase in phases if phase.shares is None]
    assert sorted(owners) == sorted(method.optimizers) == sorted(settings.optim)
    assert all(phase.shares is None or phase.shares in owners for phase in phases)
    assert all(phase.every >= 1 for phase in phases)
    trained = {id(parameter) for phase in phases for module in phase.trains for parameter in module.parameters()}
    assert trained >= {id(parameter) for parameter in method.parameters() if parameter.requires_grad}, (
        "some parameters are never trained"
    )
    assert type(method).__mro__[1] is Method, "a family inherits from Method alone"


def test_its_losses_are_finite_and_reach_what_it_trains(family: str, faces: Path) -> None:
    method, _, batch = built(family, faces)
    for phase in method.phases():
        losses = phase.loss(batch)
        assert losses
        assert all(value.shape == () and torch.isfinite(value) for value in losses.values())
        method.zero_grad()
        next(iter(losses.values())).backward()
        gradients = [p.grad for module in phase.trains for p in module.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert any(gradient.abs().max() > 0 for gradient in gradients)


def test_its_losses_are_functions_of_the_seed(family: str, faces: Path) -> None:
    method, _, batch = built(family, faces)
    for phase in method.phases():
        found = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            found.append(next(iter(phase.loss(batch).values())).item())
        assert found[0] == found[1]
        assert np.isfinite(found[2])


def test_its_networks_compile_in_place(family: str, faces: Path) -> None:
    """Compiled modules keep their keys and their losses; an `nn.Sequential` compiles nothing in some PyTorch versions."""
    method, _, batch = built(family, faces)
    keys = list(method.state_dict())
    modules = {id(module): module for phase in method.phases() if not phase.exact for module in phase.trains}
    assert not any(type(module) is nn.Sequential for module in modules.values())
    torch.manual_seed(0)
    plain = [next(iter(phase.loss(batch).values())).item() for phase in method.phases()]
    graphs = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    for module in modules.values():
        module.compile(backend=backend)
    torch.manual_seed(0)
    compiled = [next(iter(phase.loss(batch).values())).item() for phase in method.phases()]
    torch._dynamo.reset()
    assert list(method.state_dict()) == keys
    assert len(graphs) >= len(modules)
    assert compiled == pytest.approx(plain, rel=1e-4)


def test_its_abilities_do_what_they_say(family: str, faces: Path) -> None:
    method, settings, batch = built(family, faces)
    method.eval()
    with torch.no_grad():
        if isinstance(method, Samples):
            how = settings.sample.preview()
            first, second = (method.sample(Noise([3, 4]), None, how) for _ in range(2))
            assert first.shape == (2, 3, 16, 16)
            assert float(first.abs().max()) <= 1
            assert torch.equal(first, second)
            assert not torch.equal(first[0], first[1])
        if isinstance(method, Translates):
            how, edit = settings.sample.preview(), Edit()
            out = method.translate(batch.images, Noise([0] * len(batch.images)), edit, how)
            assert out.shape == batch.images.shape
            assert float(out.abs().max()) <= 1
            alone = method.translate(batch.images[1:2], Noise([0]), edit, how)
            torch.testing.assert_close(alone[0], out[1], rtol=1e-3, atol=1e-3)
        if isinstance(method, Reconstructs):
            assert method.reconstruct(batch.images).shape == batch.images.shape
        if isinstance(method, Likelihood):
            bits = method.bits_per_dim(batch.images[:2], Noise([0, 1]))
            assert bits.shape == (2,)
            assert torch.isfinite(bits).all()
        if isinstance(method, Mixes):
            how = settings.sample.preview()
            mixed = method.mix(Noise([3]), Noise([4]), None, how)
            assert mixed.shape == (1, 3, 16, 16)
            assert not torch.equal(mixed, method.sample(Noise([3]), None, how))  # type: ignore[attr-defined]
        if isinstance(method, Inpaints):
            mask = torch.zeros(len(batch.images), 1, 16, 16)
            mask[..., :8] = 1
            filled = method.inpaint(batch.images, mask, Noise(range(len(mask))), None, settings.sample.preview())
            assert torch.equal(filled[..., 8:], batch.images[..., 8:])
            assert not torch.equal(filled[..., :8], batch.images[..., :8])
        if isinstance(method, Diagnoses):
            with torch.enable_grad():
                figures = {f"{phase.name}/{name}": float(value) for phase in method.phases() for name, value in
                           phase.loss(batch).items()}  # fmt: skip
            assert all(finding.name and finding.says and finding.flag for finding in method.diagnose(figures))
        if isinstance(method, Validates):
            for value in method.validate(batch).values():
                assert value.shape in ((), (len(batch.images),))
                assert torch.isfinite(value).all()
        if isinstance(method, Embeds):
            features = method.embed(batch.images)
            assert (features.dtype, len(features)) == (torch.float32, len(batch.images))
            torch.testing.assert_close(method.embed(batch.images[1:2])[0], features[1], rtol=1e-3, atol=1e-3)
        if isinstance(method, Classifies):
            assert isinstance(method, Embeds)
            logits = method.classify(method.embed(batch.images))
            wanted = {name: (len(batch.images), len(values)) for name, values in method.data.attributes.items()}
            assert {name: tuple(value.shape) for name, value in logits.items()} == wanted
        if isinstance(method, ABILITIES["corrupts"]):
            noise = torch.randn_like(batch.images)
            torch.testing.assert_close(method.corrupt(batch.images, noise, 0.0), batch.images)  # type: ignore[attr-defined]
            ruined = method.corrupt(batch.images, noise, 1.0)  # type: ignore[attr-defined]
            noise, ruined = (t.flatten() - t.mean() for t in (noise, ruined))
            assert float(ruined @ noise / ruined.norm() / noise.norm()) > 0.95


def test_its_cost_is_told_without_paying(family: str, faces: Path) -> None:
    method, settings, batch = built(family, faces)
    batch = batch._replace(images_seen=estimate.SETTLED)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    found = estimate.cost(method, settings, precision="fp32")
    assert_same_tensors(before, method.state_dict())
    count = sum(parameter.numel() for parameter in method.parameters())
    assert sum(found.parameters.values()) == count
    assert found.fixed_bytes >= 4 * 4 * count
    from torch.utils.flop_counter import FlopCounterMode

    flops = 0.0
    for phase in method.phases():
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
        again = generate.build_config(settings.to_dict())
        assert again == settings


# ---- the chain ------------------------------------------------------------------------------------------------


def test_it_trains_and_says_what_it_can(family: str, trained: Path, faces: Path) -> None:
    about = Run(trained).about
    method, _, _ = built(family, faces)
    assert tuple(about["abilities"]) == abilities_of(method)
    assert about["state"] == "finished"
    assert about["parameters"] == estimate.parameters(method)
    assert about["flops_per_image"] > 0
    losses = [line for line in log_of(trained) if not {"validation", "findings"} & line.keys()]
    assert [line["step"] for line in losses] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(value) for line in losses for value in line.values() if isinstance(value, float))
    assert all(any(f"{phase.name}/grad_norm" in line for line in losses) for phase in method.phases())


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
    opened = generate.open_trained(Run(lone), device=torch.device("cpu"), precision="fp32")
    assert_same_tensors(generate.inference_state(opened.method), tensors)
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
