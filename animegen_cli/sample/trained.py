"""A trained run, opened: its networks on a device, and what its weights file says of them. Needs no data set."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from animegen_cli import paths
from animegen_cli.config import Layer, RunConfig, Sampling, resolve
from animegen_cli.device import fast_layout, has_bf16
from animegen_cli.errors import AnimegenError, ConfigError, DataError, UsageError, did_you_mean, lacks_memory
from animegen_cli.model import checkpoint, families
from animegen_cli.model.abilities import VERBS, families_able, only
from animegen_cli.model.conditioning import MOST_REQUESTS
from animegen_cli.model.family import ABILITIES, Corrupts, DataSpec, Family, Tunes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from animegen_cli.paths import Run


MOST_PIXELS = 2**14
"""The largest side of an image that a weights file may speak of."""


@dataclass(frozen=True)
class Trained:
    """Networks ready to draw, and what their weights file says of them."""

    model: Family
    config: RunConfig
    data: DataSpec
    images: int
    """Images seen in training."""
    device: torch.device
    precision: str
    """`fp32` or `bf16`: what the networks compute in."""
    identity: str = ""
    """Of its weights: see `checkpoint.identity`."""


FEW_IMAGES = 1000
"""Images seen below which a training has hardly begun: every family still draws noise or one blur."""


def spec_to_dict(data: DataSpec) -> dict[str, Any]:
    """Return a DataSpec as plain values, for metadata; equal rows of `requests` as one row and their number."""
    return {
        **asdict(data),
        "attributes": {name: list(values) for name, values in data.attributes.items()},
        "requests": [[list(row), len(list(equal))] for row, equal in groupby(data.requests)],
    }


def spec_from_dict(values: Mapping[str, Any]) -> DataSpec:
    """Read a DataSpec that `spec_to_dict` wrote; ValueError, TypeError, KeyError or AttributeError for what is none."""
    size, count, mean, std = values["size"], values["count"], tuple(values["mean"]), tuple(values["std"])
    if type(size) is not int or not 0 < size <= MOST_PIXELS or type(count) is not int or count < 0:
        raise ValueError(f"{count} images of {size} pixels")
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, (*mean, *std))):
        raise ValueError(f"images of mean {mean} and deviation {std}")
    attributes = {name: tuple(choices) for name, choices in values["attributes"].items()}
    return DataSpec(
        size=size,
        count=count,
        mean=mean,
        std=std,
        attributes=attributes,
        domains=tuple(values["domains"]),
        requests=_requests(values.get("requests", []), [len(choices) for choices in attributes.values()]),
    )


def _requests(found: list[tuple[list[int], int]], counts: list[int]) -> tuple[tuple[int, ...], ...]:
    """Read the field of a DataSpec; ValueError for rows that are none of attributes with so many values, and for too many."""
    if sum(count for _, count in found) > MOST_REQUESTS or any(count < 1 for _, count in found):
        raise ValueError("rows of labels that no training set has")
    for row, _ in found:
        if len(row) != len(counts) or not all(type(i) is int and -1 <= i < n for i, n in zip(row, counts, strict=True)):
            raise ValueError(f"the labels {row}")
    return tuple(tuple(row) for row, count in found for _ in range(count))


def build(config: Mapping[str, Any], data: DataSpec) -> tuple[Family, RunConfig]:
    """Build a fresh model from a plain config such as the one in a weights file; ConfigError for wrong keys or values."""
    resolved = build_config(config)
    return families.load(resolved.family)(resolved.model, data), resolved


def inference_state(model: Family) -> dict[str, Tensor]:
    """Return the tensors of the inference modules by name, as the weights file holds them."""
    return {name: t for name, t in model.state_dict().items() if name.split(".")[0] in model.inference}


def open_trained(run: Run, *, device: torch.device, precision: str = "auto") -> Trained:
    """Build the run's networks and load its averaged weights.

    Args:
        run: a folder with `weights.safetensors`; nothing else of it is read.
        device: where the networks go.
        precision: `fp32`, `bf16`, or `auto` for bf16 where the hardware has it.

    Raises:
        DataError: no weights, or damaged ones.
    """
    tensors, about = checkpoint.load_weights(run.weights)
    try:
        family = about["config"]["family"]
        if family not in paths.families():
            raise DataError(
                f"{run.weights} is of the family `{family}`, which is not here",
                hint=f"install the package that brings it; {run.facts} names it with its version",
            )
        data, images = spec_from_dict(about["data"]), int(about["images"])
        model, config = build(about["config"], data)
    except AnimegenError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RuntimeError) as error:
        if lacks_memory(error):
            raise
        raise DataError(
            f"{run.weights} says of itself what cannot be: {type(error).__name__}: {error}",
            hint="it is not as animegen wrote it; take it from where it came from once more",
        ) from error
    own, guide = apart(tensors)
    for found in filter(None, (own, guide)):
        _check_fits(model, found, run)
    model.load_state_dict(own, strict=False)
    if guide:
        guided_by(model, guide)
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    ready = for_inference(model, device=device, precision=precision)
    if ready.guide is not None:
        for_inference(ready.guide, device=device, precision=precision)
    return Trained(ready, config, data, images, device, precision, checkpoint.identity(run.weights))


GUIDE = "guide."
"""How the names of the guide's tensors begin in a weights file, beside those of the networks themselves."""


def apart(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Part the tensors of a weights file into those of the networks and those of their guide, under equal names."""
    guide = {name.removeprefix(GUIDE): tensor for name, tensor in tensors.items() if name.startswith(GUIDE)}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(GUIDE)}, guide


def guided_by(model: Family, guide: Mapping[str, Tensor]) -> Family:
    """Return the model with a copy of itself as its guide, whose tensors are those given, of any precision."""
    weaker = copy.deepcopy(model)
    weaker.load_state_dict(dict(guide), strict=False)
    model.guide = weaker
    return model


def _check_fits(model: Family, tensors: Mapping[str, Tensor], run: Run) -> None:
    """Raise DataError unless the tensors are those of the inference modules."""
    wanted = inference_state(model)
    if wanted.keys() != tensors.keys() or any(wanted[name].shape != tensors[name].shape for name in wanted):
        raise DataError(
            f"{run.weights} was written by another animegen: its tensors do not fit this version's networks",
            hint=f"go on with the version that `{run.path / 'run.json'}` names, or train again",
        )


def for_inference(model: Family, *, device: torch.device, precision: str) -> Family:
    """Return the model frozen, on the device, in its fastest memory format; with bf16 its networks compute in bf16 while
    their inputs and outputs stay float32."""
    model = model.requires_grad_(False).eval().to(device)
    channels_last = precision == "bf16" or fast_layout(model, device)
    for name in model.inference:
        module = getattr(model, name)
        if channels_last:
            module.to(memory_format=torch.channels_last)
        if precision == "bf16":
            _compute_in(module, torch.bfloat16)
            if device.type == "cpu":
                _normalize_plainly(module)
    return model


_SMALL_MAP = 512
"""Pixels of a map under which PyTorch's GroupNorm takes ten times as long in bf16 and channels_last on a CPU."""


def _normalize_plainly(module: nn.Module) -> None:
    """Lay small maps out plainly for GroupNorm, and in channels_last again for what comes after."""

    def enter(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].contiguous() if _is_small(inputs[0]) else inputs[0],)

    def leave(_: nn.Module, __: tuple[Tensor], output: Tensor) -> Tensor:
        return output.contiguous(memory_format=torch.channels_last) if _is_small(output) else output

    for part in module.modules():
        if isinstance(part, nn.GroupNorm):
            part.register_forward_pre_hook(enter)
            part.register_forward_hook(leave)


def _is_small(x: Tensor) -> bool:
    return x.dim() == 4 and x.shape[2] * x.shape[3] < _SMALL_MAP


def _compute_in(module: nn.Module, dtype: torch.dtype) -> None:
    for part in module.modules():
        # Statistics of BatchNorm and tables of frequencies keep their precision.
        if not isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm):
            for parameter in part.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)

    def enter(_: nn.Module, inputs: tuple[object, ...], named: dict[str, object]) -> tuple[object, dict[str, object]]:
        # Images and codes are converted; times (B,) stay exact, the networks convert their embeddings.
        return _mapped(inputs, lower), {name: _mapped(x, lower) for name, x in named.items()}

    def lower(x: Tensor) -> Tensor:
        return x.to(dtype) if x.is_floating_point() and x.dim() > 1 else x

    def leave(_: nn.Module, __: object, outputs: object) -> object:
        return _mapped(outputs, lambda x: x.float() if x.is_floating_point() else x)

    module.register_forward_pre_hook(enter, with_kwargs=True)
    module.register_forward_hook(leave)


def _mapped(value: object, change: Callable[[Tensor], Tensor]) -> object:
    """`value` with each tensor changed, in lists and tuples too."""
    if isinstance(value, list | tuple):
        return type(value)(_mapped(part, change) for part in value)
    return change(value) if isinstance(value, Tensor) else value


def sampling_of(trained: Trained, overrides: Mapping[str, object]) -> Sampling:
    """Return the run's section `sample:` with settings from the command line over it.

    Raises:
        UsageError: a setting that the family's section does not have, or a wrong value.
    """
    section = asdict(trained.config.sample)
    if overrides.get("autoguidance", 1) not in (None, 1) and "autoguidance" in section and trained.model.guide is None:
        raise UsageError(
            "this run has no guide that drawing could lead away from",
            hint="leave out `autoguidance`, or train with `--set train.guide.at=0.125`",
        )
    if section.get("steps", 0) is None:
        del section["steps"]  # what this run draws from has none
    for name in overrides:
        if name not in section:
            others, own = families_setting(name), ", ".join(f"`{key}`" for key in section)
            raise UsageError(
                f"a {trained.config.family} run has no sampling setting `{name}`",
                hint=f"families that have it: {', '.join(others)}" if others else f"it has {own or 'none'}",
            )
    config = trained.config.to_dict() | {"sample": {**section, **overrides}}
    try:
        return build_config(config).sample
    except ConfigError as error:
        raise UsageError(error.message, hint=error.hint) from error


def cautions(trained: Trained, sampling: Sampling, run: Run) -> list[str]:
    """Return what a person should hear before drawing so with this run, a sentence each."""
    found, family = list(sampling.cautions()), trained.config.family
    tuned = isinstance(trained.model, Tunes)
    if getattr(sampling, "steps", None) == 1 and isinstance(trained.model, Corrupts) and not tuned:
        kinds = [name for name in families_able("tunes") if family in getattr(families.load(name), "tunes")]  # noqa: B009
        said = f"tune it for that: `animegen train {kinds[0]} --preset fast --init-from {run.path}`" if kinds else ""
        found.append(f"one call of this {family} run draws the mean of all pictures; {said or 'write `--steps 20`'}")
    if trained.images < FEW_IMAGES and not tuned and (target := _unfinished(run)):
        found.append(
            f"{run.name} has seen only {trained.images:,} of {target:,} images and hardly draws faces yet; let it train on: "
            f"`animegen train --resume {run.path}`"
        )
    return found


def _unfinished(run: Run) -> int:
    """Images at which a run will be finished that is not yet; 0 for others, and where nothing is known."""
    try:
        about = run.about
    except DataError:  # its weights draw nevertheless
        return 0
    return int(about.get("target_images", 0)) if about.get("state") in ("running", "stopped") else 0


def families_setting(key: str) -> list[str]:
    """Name the families whose section `sample:` has this setting."""
    return [
        name for name, kind in families.loadable().items() if key in {field.name for field in fields(kind.Sampling)}
    ]


def build_config(config: Mapping[str, Any]) -> RunConfig:
    """Validate a plain config, which names its family; ConfigError for wrong keys or values."""
    kind = families.load(config["family"])
    return resolve(
        [Layer(dict(config), {})],
        family=config["family"], model=kind.Config, sample=kind.Sampling, optimizers=kind.optimizers,
    )  # fmt: skip


def describe_sampling(sampling: Sampling) -> str:
    """Describe a section in one line, such as "ddim, 50 steps, spacing trailing", for protocols and notes."""
    values = asdict(sampling)
    parts = [str(values.pop("sampler"))] if "sampler" in values else []
    steps = values.pop("steps", None)  # None: the family counts none here
    parts += [f"{steps} steps"] if steps is not None else []
    neutral = {"eta": 0.0, "s_churn": 0.0, "guidance": 1.0, "autoguidance": 1.0, "variance": "small"}
    earlier = {"s_churn": "churn"}  # as stored protocols spell it, so that old and new scores compare
    parts += [f"{earlier.get(name, name)} {value}" for name, value in values.items() if neutral.get(name) != value]
    return ", ".join(parts)


def label_row(trained: Trained, wanted: Mapping[str, str]) -> tuple[int, ...]:
    """Return one index per attribute of the data set: of the named value, -1 where none is named.

    Raises:
        UsageError: an attribute that the run was not trained with, or a value that does not exist.
    """
    attributes = trained.data.attributes
    used = getattr(trained.model, "conditions", ())
    for name, value in wanted.items():
        if name not in used:
            hint = did_you_mean(name, used) if used else "it was trained without labels: draw without `--labels`"
            raise UsageError(f"this run knows no label `{name}`", hint=hint)
        if value not in attributes[name]:
            raise UsageError(f"`{name}` has no value `{value}`", hint=did_you_mean(value, attributes[name]))
    return tuple(attributes[name].index(wanted[name]) if name in wanted else -1 for name in attributes)


def micro_batch(device: torch.device, size: int) -> int:
    """Return how many images of `size` pixels a side go through the networks together while drawing.

    A fixed rule of device and size, never of free memory or of how many are drawn, so that pixels depend on neither.
    """
    budget = (256 if device.type == "cuda" else 16) * 64 * 64
    return max(min(budget // (size * size), 512), 1)


def require(trained: Trained, ability: str) -> Any:  # noqa: ANN401  # the protocol of that name
    """Return the model, which has this ability (a name of `ABILITIES`); UsageError that names the families that have it."""
    if not isinstance(trained.model, ABILITIES[ability]):
        raise UsageError(f"a {trained.config.family} run cannot {VERBS[ability]}", hint=only(families_able(ability)))
    return trained.model
