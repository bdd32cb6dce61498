"""Every family on a pretended CUDA device: a tensor that stays on the CPU is found on machines without a GPU.

Fake tensors (`torch._subclasses.fake_tensor`) have a shape, a type and a device but no numbers, and complain as real ones
do when two devices meet. What depends on numbers cannot run on them; each such ability is named in `OUT_OF_REACH`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest
import torch
from tiny_runs import ATTRIBUTES, resolved
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from animegen_cli import paths
from animegen_cli.model import abilities, families
from animegen_cli.model.family import (
    Batch,
    Classifies,
    Corrupts,
    DataSpec,
    Edit,
    Embeds,
    Family,
    Inpaints,
    Interpolates,
    Likelihood,
    Mixes,
    Projects,
    Reconstructs,
    Samples,
    Translates,
    Validates,
)
from animegen_cli.model.noise import Noise
from animegen_cli.model.schedules import SDE, DiscreteSchedule, KarrasSchedule, OffsetCosine, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from animegen_cli.config import RunConfig

P = ParamSpec("P")
T = TypeVar("T")

OUT_OF_REACH = {
    ("sde", "likelihood"): "the solver asks at each step whether an image is still under way",
    ("stylegan2", "projects"): "PyTorch computes gradients of CUDA tensors in a thread that opens the device",
}
"""(family, ability) -> why fake tensors cannot show it."""
SIZE = 16


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fake tensors throughout, but for the noise levels, which samplers read as numbers."""
    for kind in (Schedule, DiscreteSchedule, OffsetCosine, KarrasSchedule, SDE):
        for name in ("sigmas", "level_at", "scale_at"):
            if name in vars(kind):
                monkeypatch.setattr(kind, name, real(vars(kind)[name]))
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def real(function: Callable[P, T]) -> Callable[P, T]:
    """The function as it is without fake tensors."""

    def called(*args: P.args, **named: P.kwargs) -> T:
        with unset_fake_temporarily():
            return function(*args, **named)

    return called


def pretended(family: str, *settings: str) -> tuple[Family, RunConfig, Batch]:
    """A tiny network and a batch, as if they lay on a GPU."""
    config, kind = resolved(family, *settings), families.load(family)
    with unset_fake_temporarily():
        model = kind(config.model, DataSpec(SIZE, 64, attributes=ATTRIBUTES, domains=kind.domains))
        model.phases()  # some read the weights of a perceptual network now
    parts = list(model.modules())
    seen_by = getattr(model, "features", None)
    if isinstance(
        seen_by, torch.nn.Module
    ):  # a network of losses, which is no part of the model and follows its images
        parts += seen_by.modules()
        vars(seen_by)["to"] = lambda device: seen_by  # fake parameters cannot be moved
    for module in parts:
        for name, parameter in module.named_parameters(recurse=False):
            moved = torch.empty(parameter.shape, dtype=parameter.dtype, device="cuda")
            setattr(module, name, torch.nn.Parameter(moved, requires_grad=parameter.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda"))
    images, photos = (torch.rand(4, 3, SIZE, SIZE, device="cuda") * 2 - 1 for _ in range(2))
    labels = torch.zeros(4, len(ATTRIBUTES), dtype=torch.int64, device="cuda")
    return model, config, Batch(images, photos=photos if "photos" in kind.domains else None, labels=labels)


def able(*names: str) -> pytest.MarkDecorator:
    """Run a test for the families with one of these abilities, but for those that are out of reach."""
    found = sorted({family for name in names for family in abilities.families_able(name)})
    return pytest.mark.parametrize("family", [f for f in found if not any((f, name) in OUT_OF_REACH for name in names)])


def assert_on_device(*tensors: Tensor) -> None:
    assert tensors
    assert {tensor.device.type for tensor in tensors} == {"cuda"}


def noise(count: int = 2, first: int = 0) -> Noise:
    return Noise(range(first, first + count), "cuda")


@pytest.mark.parametrize("family", paths.families())
def test_the_losses_of_every_phase_stay_on_the_device(family: str) -> None:
    model, _, batch = pretended(family)
    for phase in model.phases():
        if not phase.exact:  # gradients in the loss: see OUT_OF_REACH
            assert_on_device(*phase.loss(batch).values())


@able("validates")
def test_held_out_figures_stay_on_the_device(family: str) -> None:
    model, _, batch = pretended(family)
    model.eval()
    assert isinstance(model, Validates)
    with torch.no_grad():
        assert_on_device(*model.validate(batch).values())


@able("samples")
def test_images_are_drawn_on_the_device(family: str) -> None:
    model, config, batch = pretended(family)
    model.eval()
    assert isinstance(model, Samples)
    with torch.no_grad():
        for labels in (None, batch.labels[:2] if batch.labels is not None else None):
            assert_on_device(model.sample(noise(), labels, config.sample))


SAMPLERS = ["ancestral", "ddim", "dpmpp", "heun", "euler"]


@pytest.mark.parametrize("sampler", SAMPLERS)
@able("corrupts")
def test_every_sampler_walks_on_the_device(family: str, sampler: str) -> None:
    model, config, batch = pretended(family, f"sample.sampler={sampler}", "sample.guidance=2", "sample.s_churn=1")
    model.eval()
    assert isinstance(model, Samples)
    with torch.no_grad():
        assert_on_device(model.sample(noise(4), batch.labels, config.sample))


@able("corrupts")
def test_corrupted_images_stay_on_the_device(family: str) -> None:
    model, _, batch = pretended(family)
    assert isinstance(model, Corrupts)
    assert_on_device(*(model.corrupt(batch.images, noise(4)(3, SIZE, SIZE), part) for part in (0.0, 0.5, 1.0)))


@able("translates")
def test_translations_stay_on_the_device(family: str) -> None:
    model, config, batch = pretended(family)
    model.eval()
    assert isinstance(model, Translates)
    edits = [Edit(), *(edit for name, edit in EDITS.items() if name in model.edits)]
    with torch.no_grad():
        for edit in edits:
            assert_on_device(model.translate(batch.images, noise(4), edit, config.sample))


EDITS = {
    "reverse": Edit(reverse=True),
    "noise": Edit(noise=0.2),
    "levels": Edit(levels=1),
    "strength": Edit(strength=0.3),
    "exact": Edit(exact=True),
}


@able("inpaints")
def test_inpainted_images_stay_on_the_device(family: str) -> None:
    model, config, batch = pretended(family)
    model.eval()
    assert isinstance(model, Inpaints)
    mask = torch.ones(4, 1, SIZE, SIZE, device="cuda")
    with torch.no_grad():
        assert_on_device(model.inpaint(batch.images, mask, noise(4), batch.labels, config.sample))


@able("reconstructs")
def test_reconstructions_stay_on_the_device(family: str) -> None:
    model, _, batch = pretended(family)
    model.eval()
    assert isinstance(model, Reconstructs)
    with torch.no_grad():
        assert_on_device(model.reconstruct(batch.images))


@able("mixes")
def test_mixes_stay_on_the_device(family: str) -> None:
    model, config, batch = pretended(family)
    model.eval()
    assert isinstance(model, Mixes)
    with torch.no_grad():
        assert_on_device(model.mix(noise(4), noise(4, 9), batch.labels, config.sample))


@able("interpolates")
def test_interpolations_stay_on_the_device(family: str) -> None:
    model, config, batch = pretended(family)
    model.eval()
    assert isinstance(model, Interpolates)
    with torch.no_grad():
        between = model.interpolate(noise(4), noise(4, 9), torch.linspace(0, 1, 4), batch.labels, config.sample)
    assert_on_device(between)


@able("projects")
def test_projections_stay_on_the_device(family: str) -> None:
    model, _, batch = pretended(family)
    model.eval()
    assert isinstance(model, Projects)
    assert_on_device(model.project(batch.images, noise(4), 2, None, None))


@able("likelihood")
def test_bits_per_dim_stay_on_the_device(family: str) -> None:
    model, _, batch = pretended(family)
    model.eval()
    assert isinstance(model, Likelihood)
    with torch.no_grad():
        assert_on_device(model.bits_per_dim(batch.images, noise(4)))


@able("embeds", "classifies")
def test_features_and_logits_stay_on_the_device(family: str) -> None:
    model, _, batch = pretended(family)
    model.eval()
    assert isinstance(model, Embeds)
    with torch.no_grad():
        features = model.embed(batch.images)
        assert_on_device(features)
        if isinstance(model, Classifies):
            assert_on_device(*model.classify(features).values())


def test_a_tensor_that_stays_on_the_cpu_is_found() -> None:
    with pytest.raises(RuntimeError, match=r"device"):
        torch.zeros(2, device="cuda") + torch.zeros(2)
