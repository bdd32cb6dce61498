"""A trained run, opened: its networks on a device, and what its weights file says of them. Needs no data set."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from animegen_cli import paths
from animegen_cli.config import Layer, RunConfig, resolve
from animegen_cli.device import fast_layout, has_bf16
from animegen_cli.errors import ConfigError, DataError, UsageError, did_you_mean
from animegen_cli.model import checkpoint, families
from animegen_cli.model.abilities import VERBS, families_able, only
from animegen_cli.model.family import ABILITIES, DataSpec, Family

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animegen_cli.paths import Run


class Trained(NamedTuple):
    """Networks ready to draw, and what their weights file says of them."""

    model: Family
    config: RunConfig
    data: DataSpec
    images: int
    """Images seen in training."""
    device: torch.device
    precision: str


def spec_to_dict(data: DataSpec) -> dict[str, Any]:
    """Plain values of a DataSpec for metadata."""
    return {**asdict(data), "attributes": {name: list(values) for name, values in data.attributes.items()}}


def spec_from_dict(values: Mapping[str, Any]) -> DataSpec:
    """The inverse of `spec_to_dict`."""
    return DataSpec(
        size=values["size"],
        count=values["count"],
        mean=tuple(values["mean"]),
        std=tuple(values["std"]),
        attributes={name: tuple(choices) for name, choices in values["attributes"].items()},
        domains=tuple(values["domains"]),
    )


def build(config: Mapping[str, Any], data: DataSpec) -> tuple[Family, RunConfig]:
    """A fresh model from a plain config such as the one in a weights file."""
    resolved = build_config(config)
    return families.load(resolved.family)(resolved.model, data), resolved


def inference_state(model: Family) -> dict[str, Tensor]:
    """The tensors of the inference modules, as the weights file holds them."""
    return {name: t for name, t in model.state_dict().items() if name.split(".")[0] in model.inference}


def open_trained(run: Run, *, device: torch.device, precision: str = "auto") -> Trained:
    """Build the run's networks and load its averaged weights.

    Raises:
        DataError: no weights, or damaged ones.
    """
    tensors, about = checkpoint.load_weights(run.weights)
    data = spec_from_dict(about["data"])
    model, config = build(about["config"], data)
    _load(model, tensors, run)
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    ready = for_inference(model, device=device, precision=precision)
    return Trained(ready, config, data, about["images"], device, precision)


def _load(model: Family, tensors: Mapping[str, Tensor], run: Run) -> None:
    """Fill the inference modules; DataError unless exactly their tensors are there."""
    wanted = inference_state(model)
    if wanted.keys() != tensors.keys() or any(wanted[name].shape != tensors[name].shape for name in wanted):
        raise DataError(
            f"{run.weights} was written by another animegen: its tensors do not fit this version's networks",
            hint=f"go on with the version that `{run.path / 'run.json'}` names, or train again",
        )
    model.load_state_dict(tensors, strict=False)


def for_inference(model: Family, *, device: torch.device, precision: str) -> Family:
    """Frozen, on the device, in its fastest layout; with bf16 the networks compute in it and speak float32."""
    model = model.requires_grad_(False).eval().to(device)
    channels_last = fast_layout(model, device)
    for name in model.inference:
        module = getattr(model, name)
        if precision == "bf16":
            _compute_in(module, torch.bfloat16)
        if channels_last:
            module.to(memory_format=torch.channels_last)
    return model


def _compute_in(module: nn.Module, dtype: torch.dtype) -> None:
    for part in module.modules():
        # Statistics of BatchNorm and tables of frequencies keep their precision.
        if not isinstance(part, nn.modules.batchnorm._BatchNorm):
            for parameter in part.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)

    def lower(x: Any) -> Any:
        # Images and codes are converted; times (B,) stay exact, the networks convert their embeddings.
        if isinstance(x, list | tuple):
            return type(x)(lower(part) for part in x)
        return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 1 else x

    def raised(x: Any) -> Any:
        if isinstance(x, list | tuple):
            return type(x)(raised(part) for part in x)
        return x.float() if isinstance(x, Tensor) and x.is_floating_point() else x

    def enter(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return lower(inputs), {name: lower(x) for name, x in named.items()}

    module.register_forward_pre_hook(enter, with_kwargs=True)
    module.register_forward_hook(lambda _, __, output: raised(output))


def sampling_of(trained: Trained, overrides: Mapping[str, Any]) -> Any:
    """The run's `sample` section with command-line overrides.

    Raises:
        UsageError: a setting that this family's way to draw does not have, or a wrong value.
    """
    section = asdict(trained.config.sample)
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


def families_setting(key: str) -> list[str]:
    """The families whose way to draw has this setting."""
    return [name for name in paths.families() if key in {field.name for field in fields(families.load(name).Sampling)}]


def build_config(config: Mapping[str, Any]) -> RunConfig:
    """Validate a plain config."""
    kind = families.load(config["family"])
    return resolve(
        [Layer(dict(config), {})],
        family=config["family"], model=kind.Config, sample=kind.Sampling, optimizers=kind.optimizers,
    )  # fmt: skip


def describe_sampling(sampling: Any) -> str:
    """One line such as "ddim, 50 steps, spacing trailing" for protocols and notes."""
    values = asdict(sampling)
    parts = [str(values.pop("sampler"))] if "sampler" in values else []
    parts += [f"{values.pop('steps')} steps"] if "steps" in values else []
    neutral = {"eta": 0.0, "s_churn": 0.0, "guidance": 1.0, "variance": "small"}
    earlier = {"s_churn": "churn"}  # as stored protocols spell it, so that old and new scores compare
    parts += [f"{earlier.get(name, name)} {value}" for name, value in values.items() if neutral.get(name) != value]
    return ", ".join(parts)


def label_row(trained: Trained, wanted: Mapping[str, str]) -> tuple[int, ...]:
    """Indices of the named values, -1 for attributes not named; UsageError for names that do not exist."""
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
    """Images per network call while drawing: a fixed rule of device and size, so that pixels never depend on `--n`."""
    budget = (256 if device.type == "cuda" else 16) * 64 * 64
    return max(min(budget // (size * size), 512), 1)


def require(trained: Trained, ability: str) -> Any:
    """The model, which has this ability; UsageError that names the families that have it."""
    if not isinstance(trained.model, ABILITIES[ability]):
        raise UsageError(f"a {trained.config.family} run cannot {VERBS[ability]}", hint=only(families_able(ability)))
    return trained.model
