"""What every family owes the house, over all families found: a new file in model/families/ is tested from its first day."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
import torch
from chain import assert_same_tensors, done, log_of, refused, sets, timeless
from PIL import Image
from tiny_runs import shake
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from animegen_cli import config, paths
from animegen_cli.config import Layer, RunConfig
from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.loading import Loader, LoaderConfig
from animegen_cli.model import abilities, checkpoint, families
from animegen_cli.model.diffusion import DiffusionFamily
from animegen_cli.model.family import (
    ABILITIES,
    Batch,
    Classifies,
    Converts,
    Corrupts,
    DataSpec,
    Denoises,
    Diagnoses,
    Edit,
    Embeds,
    Exports,
    Family,
    Inpaints,
    Input,
    Interpolates,
    Likelihood,
    Mixes,
    Projects,
    Reconstructs,
    Samples,
    Translates,
    Validates,
    abilities_of,
)
from animegen_cli.model.noise import Noise
from animegen_cli.model.pixels import from_uint8
from animegen_cli.paths import Run
from animegen_cli.ranks import Ranks
from animegen_cli.sample.trained import build_config, inference_state, open_trained
from animegen_cli.train import estimate
from animegen_cli.train.options import ResolvedOptions
from animegen_cli.train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

every_family = pytest.mark.parametrize("family", paths.families())
TESTED: set[str] = set()
"""Abilities that a test of this module is about."""


def with_ability(name: str) -> pytest.MarkDecorator:
    """Run a test for the families that have this ability; it does not exist for the others."""
    TESTED.add(name)
    return pytest.mark.parametrize("family", abilities.families_able(name))


Ready: TypeAlias = tuple[Family, RunConfig, Batch]
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
    """A smoke-sized model and one batch of drawn faces with their labels."""
    both = "photos" in families.load(family).domains
    settings, (spec, loader) = resolved(family), spec_of(faces, photos=both)
    torch.manual_seed(0)
    images, labels, photos = loader.batch(0)
    batch = Batch(from_uint8(images), photos=None if photos is None else from_uint8(photos), labels=labels)
    return families.load(family)(settings.model, spec), settings, batch


class Backwards(Ranks):
    """A process that computes its parts the other way round."""

    def share(self, parts: int) -> range:
        return super().share(parts)[::-1]


@every_family
def test_parts_of_a_step_do_not_depend_on_each_other(family: str, faces: Path) -> None:
    """What processes share must not care which part was computed before: a + b has the bits of b + a."""
    found = []
    for ranks in (Ranks(), Backwards()):
        model, settings, _ = built(family, faces)
        _, loader = spec_of(faces, photos="photos" in families.load(family).domains)
        settings = replace(settings, train=replace(settings.train, batch=4))
        options = ResolvedOptions(precision="fp32", parts=2, channels_last=False, compile=False)
        loop = Trainer(model, loader, settings, options, device=torch.device("cpu"), count=len(loader), ranks=ranks)
        for _ in range(2):
            assert loop.train_step()
        found.append({f"{part}/{name}": t for part, some in loop.state_dict().items() for name, t in some.items()})
    assert_same_tensors(*found)


@pytest.fixture
def ready(family: str, faces: Path) -> Iterator[Ready]:
    """The same, ready to draw, every weight moved a little: layers that start at zero would hide what goes in. No gradients."""
    model, settings, batch = built(family, faces)
    shake(model, 0.1)
    with torch.no_grad():
        yield model.eval(), settings, batch


def labels_of(batch: Batch) -> Tensor:
    assert batch.labels is not None
    return batch.labels


def assert_near(found: Tensor, wanted: Tensor) -> None:
    """Equal but for the order in which a CPU sums, which may differ between batches, enlarged by walks of many steps."""
    assert found.shape == wanted.shape
    assert float((found - wanted).norm()) <= 1e-3 * float(wanted.norm())


def assert_pictures_of_their_own(out: Tensor, alone: Tensor, batch: Batch) -> None:
    """Pictures in [-1, 1] of the batch's shape, the second of which is the one that is made `alone`."""
    assert out.shape == batch.images.shape
    assert float(out.abs().max()) <= 1
    assert_near(alone, out[1:2])


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


@every_family
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
    assert type(model).__mro__[1] in (Family, DiffusionFamily), "a family inherits from one of these alone"


@every_family
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


@every_family
def test_its_losses_are_functions_of_the_seed(family: str, faces: Path) -> None:
    model, _, batch = built(family, faces)
    for phase in model.phases():
        found = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            found.append(next(iter(phase.loss(batch).values())).item())
        assert found[0] == found[1]
        assert np.isfinite(found[2])


@every_family
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


# ---- one test per ability, for the families that have it ---------------------------------------------------------


def test_every_ability_is_tested_here() -> None:
    assert set(ABILITIES) == TESTED


@with_ability("samples")
def test_an_image_depends_on_its_own_seed_alone(ready: Ready) -> None:
    model, settings, batch = ready
    assert isinstance(model, Samples)
    sampling = settings.sample.preview()
    first, again = (model.sample(Noise([3, 4]), None, sampling) for _ in range(2))
    alone = model.sample(Noise([4]), None, sampling)
    unknown = model.sample(Noise([3, 4]), torch.full_like(labels_of(batch)[:2], -1), sampling)
    assert first.shape == (2, 3, 16, 16)
    assert float(first.abs().max()) <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert_near(alone, first[1:])
    assert_near(unknown, first)


@with_ability("corrupts")
def test_corrupting_goes_from_the_image_to_the_noise(ready: Ready) -> None:
    model, _, batch = ready
    assert isinstance(model, Corrupts)
    noise = Noise(range(len(batch.images)))(3, 16, 16)
    assert_near(model.corrupt(batch.images, noise, 0.0), batch.images)
    ruined = model.corrupt(batch.images, noise, 1.0)
    assert ruined.shape == batch.images.shape
    assert float(torch.corrcoef(torch.stack([ruined.flatten(), noise.flatten()]))[0, 1]) > 0.95


@with_ability("validates")
def test_held_out_figures_are_means_or_values_per_image(ready: Ready) -> None:
    model, _, batch = ready
    assert isinstance(model, Validates)
    figures = model.validate(batch)
    assert figures
    for value in figures.values():
        assert value.shape in ((), (len(batch.images),))
        assert torch.isfinite(value).all()


@with_ability("translates")
def test_a_translation_depends_on_its_own_image_and_seed(ready: Ready) -> None:
    model, settings, batch = ready
    assert isinstance(model, Translates)
    assert model.edits <= {field.name for field in fields(Edit)}
    sampling = settings.sample.preview()
    out = model.translate(batch.images, Noise(range(len(batch.images))), Edit(), sampling)
    alone = model.translate(batch.images[1:2], Noise([1]), Edit(), sampling)
    assert_pictures_of_their_own(out, alone, batch)


@with_ability("reconstructs")
def test_a_reconstruction_depends_on_its_own_image(ready: Ready) -> None:
    model, _, batch = ready
    assert isinstance(model, Reconstructs)
    out, alone = model.reconstruct(batch.images), model.reconstruct(batch.images[1:2])
    assert_pictures_of_their_own(out, alone, batch)


@with_ability("denoises")
def test_what_is_found_behind_noise_depends_on_its_own_image(ready: Ready) -> None:
    model, settings, batch = ready
    assert isinstance(model, Denoises)
    noisy = batch.images + 0.2 * Noise(range(len(batch.images)))(*batch.images.shape[1:])
    out = model.denoised(noisy, 0.2, settings.sample)
    alone = model.denoised(noisy[1:2], 0.2, settings.sample)
    top = model.denoised(noisy, 0.2, settings.sample, 1)
    assert_pictures_of_their_own(out, alone, batch)
    assert model.levels() >= 1
    assert torch.equal(out, top) == (model.levels() == 1)


@with_ability("likelihood")
def test_bits_per_dim_are_numbers_of_each_image(ready: Ready) -> None:
    model, _, batch = ready
    assert isinstance(model, Likelihood)
    assert model.bound in ("elbo", "ode")
    bits, again = (model.bits_per_dim(batch.images[:2], Noise([0, 1])) for _ in range(2))
    assert bits.shape == (2,)
    assert bits.dtype == torch.float32
    assert torch.isfinite(bits).all()
    assert torch.equal(bits, again)


@with_ability("mixes")
def test_a_mix_is_of_both_seeds(ready: Ready) -> None:
    model, settings, _ = ready
    assert isinstance(model, Mixes)
    sampling = settings.sample.preview()
    mixed, other, same = (model.mix(Noise([3]), Noise([fine]), None, sampling) for fine in (4, 5, 3))
    assert isinstance(model, Samples)
    own = model.sample(Noise([3]), None, sampling)
    assert mixed.shape == (1, 3, 16, 16)
    assert float(mixed.abs().max()) <= 1
    assert_near(same, own)
    assert not torch.equal(mixed, own)
    assert not torch.equal(mixed, other)


@with_ability("interpolates")
def test_an_interpolation_begins_and_ends_at_its_seeds(ready: Ready) -> None:
    model, settings, _ = ready
    assert isinstance(model, Interpolates)
    sampling = settings.sample.preview()
    between = model.interpolate(Noise([3] * 3), Noise([4] * 3), torch.tensor([0.0, 0.5, 1.0]), None, sampling)
    assert isinstance(model, Samples)
    ends = model.sample(Noise([3, 4]), None, sampling)
    assert between.shape == (3, 3, 16, 16)
    assert float(between.abs().max()) <= 1
    assert_near(between[[0, 2]], ends)
    assert not torch.equal(between[1], between[0])
    assert not torch.equal(between[1], between[2])


@with_ability("projects")
def test_a_projection_is_an_image_that_is_shown_on_the_way(ready: Ready) -> None:
    model, _, batch = ready
    assert isinstance(model, Projects)
    steps: list[int] = []

    def note(step: int, current: Tensor, target: Tensor) -> None:
        assert current.shape == target.shape == (2, 3, 16, 16)
        steps.append(step)

    with torch.enable_grad():
        first, again = (model.project(batch.images[:2], Noise([0, 1]), 3, None, note) for _ in range(2))
    assert first.shape == (2, 3, 16, 16)
    assert float(first.abs().max()) <= 1
    assert torch.equal(first, again)
    assert steps
    assert steps[-1] == 2


@with_ability("inpaints")
def test_inpainting_leaves_every_bit_outside_the_mask(ready: Ready) -> None:
    model, settings, batch = ready
    assert isinstance(model, Inpaints)
    mask = torch.zeros(len(batch.images), 1, 16, 16)
    mask[..., :8] = 1
    filled = model.inpaint(batch.images, mask, Noise(range(len(mask))), None, settings.sample.preview())
    assert torch.equal(filled[..., 8:], batch.images[..., 8:])
    assert not torch.equal(filled[..., :8], batch.images[..., :8])
    assert float(filled.abs().max()) <= 1


@with_ability("embeds")
def test_features_depend_on_their_own_image(ready: Ready) -> None:
    model, _, batch = ready
    assert isinstance(model, Embeds)
    features, alone = model.embed(batch.images), model.embed(batch.images[1:2])
    assert features.dtype == torch.float32
    assert features.dim() == 2
    assert len(features) == len(batch.images)
    assert_near(alone, features[1:2])


@with_ability("classifies")
def test_logits_have_one_column_per_value(ready: Ready) -> None:
    model, _, batch = ready
    assert isinstance(model, Classifies)
    assert isinstance(model, Embeds)
    logits = model.classify(model.embed(batch.images))
    wanted = {name: (len(batch.images), len(values)) for name, values in model.data.attributes.items()}
    assert {name: tuple(value.shape) for name, value in logits.items()} == wanted


@with_ability("diagnoses")
def test_findings_say_what_to_type(family: str, faces: Path) -> None:
    model, _, batch = built(family, faces)
    assert isinstance(model, Diagnoses)
    figures = {
        f"{phase.name}/{name}": float(value.detach())
        for phase in model.phases()
        for name, value in phase.loss(batch).items()
    }
    for finding in [*model.diagnose(figures), *model.diagnose(dict.fromkeys(figures, 0.0))]:
        assert finding.name
        assert finding.says
        assert finding.flag.startswith("--")


@with_ability("exports")
def test_exported_networks_are_functions_of_their_inputs(ready: Ready) -> None:
    model, settings, _ = ready
    assert isinstance(model, Exports)
    found = model.exported(settings.sample)
    assert json.loads(json.dumps(found.recipe)) == found.recipe
    assert len({network.name for network in found.networks}) == len(found.networks) > 0
    for network in found.networks:
        inputs = [example(given) for given in network.inputs.values()]
        out, again = network.call(*inputs), network.call(*inputs)
        alone = network.call(*(tensor[1:] for tensor in inputs))
        assert out.shape == (2, 3, 16, 16), network.name
        assert torch.equal(out, again)
        assert_near(alone, out[1:])


def example(given: Input) -> Tensor:
    """Two rows of an exported network's input."""
    shape = (2, *(16 if isinstance(side, str) else side for side in given.shape))
    if given.kind == "labels":
        return torch.tensor([-1, 0]).view(2, *[1] * len(given.shape)).expand(shape).contiguous()
    if given.kind == "level":
        return torch.tensor(given.values).clamp(0.1, 1.0)
    numbers = Noise([3, 4])(*shape[1:])
    return torch.full(shape, given.scale) if given.kind == "share" else numbers.clamp(-1, 1)


@with_ability("converts")
def test_its_network_goes_to_diffusers_and_back(family: str, faces: Path) -> None:
    labeled, settings, _ = built(family, faces)
    model = type(labeled)(settings.model, replace(labeled.data, attributes={}))  # diffusers knows one label at most
    shake(model)
    assert isinstance(model, Converts)
    found = model.to_diffusers(settings.sample)
    assert found.network["_class_name"]
    assert found.scheduler["_class_name"]
    assert found.pipeline
    tensors, warnings = model.from_diffusers(found)
    assert not warnings
    assert_same_tensors(tensors, inference_state(model))


# ---- its cost and its presets ------------------------------------------------------------------------------------


@every_family
def test_its_cost_is_estimated_without_paying_it(family: str, faces: Path) -> None:
    model, _, batch = built(family, faces)
    batch = replace(batch, images_seen=estimate.SETTLED)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = estimate.cost(model, precision="fp32")
    assert_same_tensors(before, model.state_dict())
    count = sum(parameter.numel() for parameter in model.parameters())
    assert sum(found.parameters.values()) == count
    assert found.fixed_bytes >= 4 * 4 * count
    flops = 0.0
    for phase in model.phases():
        with FlopCounterMode(display=False) as counter:
            next(iter(phase.loss(batch).values())).backward()
        flops += counter.get_total_flops() / phase.every / len(batch.images)
    assert found.flops == pytest.approx(flops, rel=0.02)
    assert found.image_bytes > 3 * 16 * 16 * 4


@every_family
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


@every_family
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


@every_family
def test_it_goes_on_exactly(family: str, trained: Path, faces: Path, tmp_path: Path) -> None:
    done(*words(family, faces, tmp_path / "run", images=16))
    done(*words(family, faces, tmp_path / "run", images=24))
    pair = [Run(path).states()[-1] for path in (trained, tmp_path / "run")]
    (whole, _), (broken, _) = (checkpoint.load_state(state) for state in pair)
    assert whole.keys() == broken.keys()
    for part in whole:
        assert_same_tensors(whole[part], broken[part])
    assert timeless(trained) == timeless(tmp_path / "run")


@every_family
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


@with_ability("tunes")
def test_a_run_that_is_tuned_comes_along_whole(family: str, faces: Path, tmp_path: Path) -> None:
    """The run's own network is built, whatever the preset says, and filled with all that the new one has."""
    kind: Any = families.load(family)
    for source in kind.tunes:
        done(*words(source, faces, tmp_path / source), "--set", "model.channels=24")
        done(*words(family, faces, tmp_path / f"tuned-{source}", images=0), "--init-from", tmp_path / source)
        theirs, _ = checkpoint.load_weights(Run(tmp_path / source).weights)
        ours, _ = checkpoint.load_weights(Run(tmp_path / f"tuned-{source}").weights)
        assert ours
        assert_same_tensors(ours, {name: theirs[name] for name in ours})


@with_ability("samples")
def test_it_samples_from_the_command_line(family: str, trained: Path, tmp_path: Path) -> None:
    done("sample", trained, "--seeds", "0,7", "--out", tmp_path, "--device", "cpu")
    drawn = sorted((tmp_path / "seeds").iterdir())
    assert [path.name for path in drawn] == ["000000.png", "000007.png"]
    pictures = [np.asarray(Image.open(path)) for path in drawn]
    assert all(picture.shape == (16, 16, 3) and picture.std() > 1 for picture in pictures)


@pytest.mark.parametrize("family", sorted(set(paths.families()) - set(abilities.families_able("samples"))))
def test_a_run_that_cannot_draw_names_families_that_can(family: str, trained: Path) -> None:
    assert "ddpm" in refused(2, "sample", trained)


@every_family
def test_a_dry_run_prints_what_would_be_done(family: str, faces: Path, tmp_path: Path) -> None:
    plan = json.loads(done(*words(family, faces, tmp_path / "run"), "--dry-run", "--json").out)
    assert plan["images"] == 24
    assert plan["steps"] == 6
    assert not (tmp_path / "run").exists()
