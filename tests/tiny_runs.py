"""Tiny networks with shaken weights, and run folders of them without training: untrained ones answer zero and hide mistakes."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import yaml
from chain import TINY

from animegen_cli import config, paths
from animegen_cli.config import Layer, RunConfig
from animegen_cli.model import checkpoint, families
from animegen_cli.model.family import DataSpec, Family, abilities_of
from animegen_cli.model.noise import Noise
from animegen_cli.paths import Run
from animegen_cli.sample.trained import inference_state, spec_to_dict

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.config import Sampling
    from animegen_cli.model.family import Diagnoses, Samples

FamilyT = TypeVar("FamilyT", bound=Family)
ATTRIBUTES = {"hair": ("pink", "black"), "eyes": ("blue", "red", "green")}


def shake(model: Family, scale: float = 0.3) -> None:
    """Move every weight a little, and every statistic up, always in the same way."""
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.parameters():
            width = math.sqrt(max(tensor[0].numel() if tensor.dim() else 1, 4))
            tensor.add_(torch.randn(tensor.shape, generator=chance) * scale / width)
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.add_(torch.rand(buffer.shape, generator=chance) * scale)


def unet(
    kind: type[FamilyT], size: int, attributes: dict[str, tuple[str, ...]] | None = None, **changes: Any
) -> FamilyT:
    """A diffusion family of one small block at each of two resolutions, without attention."""
    torch.manual_seed(0)
    values: dict[str, Any] = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": ()}
    return kind(kind.Config(**values | changes), DataSpec(size, 10, attributes=attributes or {}))


def awake(model: FamilyT) -> FamilyT:
    """The last layers start at zero, which would hide everything before them."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def assert_draws_by_seed(model: Samples[Any], size: int, sampling: Sampling) -> None:
    """Images in [-1, 1], each as its seed gives it alone."""
    with torch.inference_mode():
        images = model.sample(Noise([5, 6]), None, sampling)
        alone = model.sample(Noise([6]), None, sampling)
    assert images.shape == (2, 3, size, size)
    assert float(images.abs().max()) <= 1
    # A CPU may sum a batch of two in another order than a batch of one, and the sampler enlarges that.
    assert float((images[1] - alone[0]).norm() / (images[1] - images[0]).norm()) < 1e-3


def resolved(family: str, *settings: str) -> RunConfig:
    """The smoke preset, made tiny."""
    kind = families.load(family)
    layers = [Layer.from_yaml(paths.preset_file(family, "smoke")), Layer.from_settings([*TINY[family], *settings])]
    return config.resolve(
        [*layers, Layer({"family": family, "preset": "smoke"}, {})],
        family=family, model=kind.Config, sample=kind.Sampling, optimizers=kind.optimizers,
    )  # fmt: skip


def make(family: str, folder: Path, *settings: str, size: int = 16, **about: Any) -> Run:
    """A finished run as training leaves it, as far as drawing and cards read it."""
    settled, kind = resolved(family, *settings), families.load(family)
    data = DataSpec(size, 78, mean=(0.1, 0.0, -0.2), std=(0.5, 0.6, 0.7), attributes=ATTRIBUTES, domains=kind.domains)
    torch.manual_seed(0)
    model = kind(settled.model, data)
    shake(model)
    folder.mkdir(parents=True)
    run = Run(folder)
    said = {"config": settled.to_dict(), "data": spec_to_dict(data), "images": 640}
    checkpoint.save_weights(run.weights, inference_state(model), said)
    run.config.write_text(yaml.safe_dump(settled.to_dict() | {"data": str(folder / "faces.zip")}))
    facts = {
        "family": family, "preset": "smoke", "abilities": abilities_of(model), "state": "finished", "images": 640,
        "parameters": {"all": 1000}, "device": "cpu", "seconds": 12.0,
        "data": {"path": str(folder / "faces.zip"), "name": "faces", "identity": "ab" * 32, "count": 78, "size": size,
                 "attributes": {name: list(values) for name, values in ATTRIBUTES.items()}},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts | about))
    return run


class Drawn(Noise):
    """Noise from torch's generator, in the order of its calls, as other libraries draw it."""

    def __init__(self, count: int, seed: int) -> None:
        super().__init__(range(count))
        self.chance = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> torch.Tensor:
        return torch.randn(len(self), *shape, generator=self.chance)


def python_of(text: str) -> str:
    """The Python blocks of a Markdown page."""
    return "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.S))


def assert_diagnoses(model: Diagnoses, healthy: dict[str, float], *failures: tuple[str, float, str, str]) -> None:
    """Healthy figures are no finding; each (figure, value, name, flag) is one, by that name and with that flag."""
    assert model.diagnose(healthy) == []
    for figure, value, name, flag in failures:
        (found,) = model.diagnose(healthy | {figure: value})
        assert found.name == name
        assert flag in found.flag
