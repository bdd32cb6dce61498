"""Every family on a pretended GPU: a tensor that stays on the CPU is found on machines without one, and, on one
without float64, as Apple makes them, a tensor that needs it.

Fake tensors (`torch._subclasses.fake_tensor`) have a shape, a type and a device but no numbers, and complain as real ones
do when two devices meet. What depends on numbers cannot run on them; each such ability is named in `OUT_OF_REACH`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pytest
import torch
from tiny_runs import ATTRIBUTES, resolved
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from animegen_cli import paths
from animegen_cli.model import abilities, families, samplers, schedules
from animegen_cli.model import noise as noise_of_seeds
from animegen_cli.model.family import Batch, DataSpec, Edit
from animegen_cli.model.noise import Noise
from animegen_cli.model.schedules import SDE, DiscreteSchedule, KarrasSchedule, OffsetCosine, RectifiedFlow, Schedule
from animegen_cli.sample.trained import families_setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from animegen_cli.config import RunConfig, Sampling


P = ParamSpec("P")
T = TypeVar("T")

OUT_OF_REACH = {
    ("flow", "likelihood"): "the solver asks at each step whether an image is still under way",
    ("sde", "likelihood"): "the solver asks at each step whether an image is still under way",
    ("stylegan2", "projects"): "PyTorch computes gradients of CUDA tensors in a thread that opens the device",
}
"""(family, ability) -> why fake tensors cannot show it."""
SIZE = 16
FINEST = {"cpu": torch.float64, "cuda": torch.float32}


class NoDoubles(TorchDispatchMode):
    """Refuses 64-bit floats on a GPU, as Apple's do."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.device.type == "cuda" and tensor.dtype == torch.float64:
                raise TypeError("this GPU knows no float64")
        return made


@pytest.fixture(autouse=True, params=["any GPU", "a GPU without float64"])
def _fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fake tensors throughout, but for the noise levels, which samplers read as numbers.

    What stands for an Apple GPU is called CUDA too: without its libraries PyTorch makes no tensor of MPS.
    """
    for kind in (Schedule, DiscreteSchedule, OffsetCosine, KarrasSchedule, RectifiedFlow, SDE):
        for name in ("sigmas", "level_at", "scale_at"):
            if name in vars(kind):
                monkeypatch.setattr(kind, name, real(vars(kind)[name]))
    with ExitStack() as stack:
        if request.param == "a GPU without float64":
            for module in (noise_of_seeds, samplers, schedules):
                monkeypatch.setattr(module, "finest_float", lambda device: FINEST[device.type])
            stack.enter_context(NoDoubles())
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield


def real(function: Callable[P, T]) -> Callable[P, T]:
    """The function as it is without fake tensors."""

    def called(*args: P.args, **named: P.kwargs) -> T:
        with unset_fake_temporarily():
            return function(*args, **named)

    return called


def pretended(family: str, *settings: str) -> tuple[Any, RunConfig, Batch]:
    """A tiny network and a batch, as if they lay on a GPU."""
    config, kind = resolved(family, *settings), families.load(family)
    with unset_fake_temporarily():
        model = kind(config.model, DataSpec(SIZE, 64, attributes=ATTRIBUTES, domains=kind.domains))
        model.phases()  # some read the weights of a perceptual network now
    parts = list(model.modules())
    seen_by = getattr(model, "features", None)
    if isinstance(seen_by, torch.nn.Module):  # a network of losses, no part of the model, which follows its images
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


def assert_on_device(tensors: Iterable[Tensor]) -> None:
    found = list(tensors)
    assert found
    assert {tensor.device.type for tensor in found} == {"cuda"}


def noise(batch: Batch, first: int = 0) -> Noise:
    return Noise(range(first, first + 4), batch.images.device)


EDITS = {
    "reverse": Edit(reverse=True),
    "noise": Edit(noise=0.2),
    "levels": Edit(levels=1),
    "strength": Edit(strength=0.3),
    "exact": Edit(exact=True),
}


def drawn(model: Any, sampling: Sampling, batch: Batch) -> Iterator[Tensor]:
    for labels in (None, batch.labels):
        yield model.sample(noise(batch), labels, sampling)


def corrupted(model: Any, _: Sampling, batch: Batch) -> Iterator[Tensor]:
    for fraction in (0.0, 0.5, 1.0):
        yield model.corrupt(batch.images, noise(batch)(3, SIZE, SIZE), fraction)


def translated(model: Any, sampling: Sampling, batch: Batch) -> Iterator[Tensor]:
    for edit in (Edit(), *(edit for name, edit in EDITS.items() if name in model.edits)):
        yield model.translate(batch.images, noise(batch), edit, sampling)


def inpainted(model: Any, sampling: Sampling, batch: Batch) -> Iterator[Tensor]:
    mask = torch.ones(4, 1, SIZE, SIZE, device=batch.images.device)
    yield model.inpaint(batch.images, mask, noise(batch), batch.labels, sampling)


def between(model: Any, sampling: Sampling, batch: Batch) -> Iterator[Tensor]:
    yield model.interpolate(noise(batch), noise(batch, 9), torch.linspace(0, 1, 4), batch.labels, sampling)


def named(model: Any, _: Sampling, batch: Batch) -> Iterator[Tensor]:
    features = model.embed(batch.images)
    yield features
    yield from model.classify(features).values()


CALLS: dict[str, Callable[[Any, Sampling, Batch], Iterable[Tensor]]] = {
    "validates": lambda model, _, batch: model.validate(batch).values(),
    "samples": drawn,
    "corrupts": corrupted,
    "translates": translated,
    "inpaints": inpainted,
    "reconstructs": lambda model, _, batch: [model.reconstruct(batch.images)],
    "denoises": lambda model, sampling, batch: [model.denoised(batch.images, 0.2, sampling)],
    "mixes": lambda model, sampling, batch: [model.mix(noise(batch), noise(batch, 9), batch.labels, sampling)],
    "interpolates": between,
    "likelihood": lambda model, _, batch: [model.bits_per_dim(batch.images, noise(batch))],
    "classifies": named,
}
"""Ability -> tensors of everything that it makes."""
REACHED = [
    (family, ability)
    for ability in CALLS
    for family in abilities.families_able(ability)
    if (family, ability) not in OUT_OF_REACH
]


@pytest.mark.parametrize("family", paths.families())
def test_the_losses_of_every_phase_stay_on_the_device(family: str) -> None:
    model, _, batch = pretended(family)
    for phase in model.phases():
        if not phase.exact:  # gradients in the loss: see OUT_OF_REACH
            assert_on_device(phase.loss(batch).values())


@pytest.mark.parametrize(("family", "ability"), REACHED)
def test_what_a_family_makes_stays_on_the_device(family: str, ability: str) -> None:
    model, config, batch = pretended(family)
    model.eval()
    with torch.no_grad():
        assert_on_device(CALLS[ability](model, config.sample, batch))


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmpp", "heun", "euler"])
@pytest.mark.parametrize("family", families_setting("s_churn"))
def test_every_sampler_walks_on_the_device(family: str, sampler: str) -> None:
    model, config, batch = pretended(family, f"sample.sampler={sampler}", "sample.guidance=2", "sample.s_churn=1")
    model.eval()
    with torch.no_grad():
        assert_on_device(drawn(model, config.sample, batch))


@pytest.mark.parametrize("_fake", ["a GPU without float64"], indirect=True)
def test_a_tensor_of_doubles_is_found() -> None:
    with pytest.raises(TypeError, match=r"float64"):
        torch.zeros(2, device="cuda").double()


def test_a_tensor_that_stays_on_the_cpu_is_found() -> None:
    with pytest.raises(RuntimeError, match=r"device"):
        torch.zeros(2, device="cuda") + torch.zeros(2)
