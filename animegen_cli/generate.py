"""A run and seeds -> images. Needs no data set; image i depends on seed i alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from animegen_cli import checkpoint, methods, paths
from animegen_cli.config import Layer, RunConfig, resolve
from animegen_cli.errors import ConfigError, DataError, UsageError, did_you_mean
from animegen_cli.method import ABILITIES, DataSpec, Edit, Method, Samples
from animegen_cli.noise import Blend, Noise
from animegen_cli.paths import Run
from animegen_cli.samplers import Watch
from animegen_cli.train.choices import fast_layout, has_bf16, pick_device


class Trained(NamedTuple):
    """Networks ready to draw, and what their weights file says of them."""

    method: Method
    config: RunConfig
    data: DataSpec
    images: int
    """Images seen in training."""
    device: torch.device
    precision: str


def spec_to_dict(data: DataSpec) -> dict[str, Any]:
    """Plain values of a DataSpec for metadata."""
    return {**data._asdict(), "attributes": {name: list(values) for name, values in data.attributes.items()}}


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


def build(config: Mapping[str, Any], data: DataSpec) -> tuple[Method, RunConfig]:
    """A fresh method from a plain config such as the one in a weights file."""
    resolved = build_config(config)
    return methods.load(resolved.family)(resolved.model, data), resolved


def inference_state(method: Method) -> dict[str, Tensor]:
    """The tensors of the inference modules, as the weights file holds them."""
    return {name: t for name, t in method.state_dict().items() if name.split(".")[0] in method.inference}


def open_trained(run: Run, *, device: torch.device, precision: str = "auto") -> Trained:
    """Build the run's networks and load its averaged weights.

    Raises:
        DataError: no weights, or damaged ones.
    """
    tensors, about = checkpoint.load_weights(run.weights)
    data = spec_from_dict(about["data"])
    method, config = build(about["config"], data)
    _load(method, tensors, run)
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    ready = for_inference(method, device=device, precision=precision)
    return Trained(ready, config, data, about["images"], device, precision)


def _load(method: Method, tensors: Mapping[str, Tensor], run: Run) -> None:
    """Fill the inference modules; DataError unless exactly their tensors are there."""
    wanted = inference_state(method)
    if wanted.keys() != tensors.keys() or any(wanted[name].shape != tensors[name].shape for name in wanted):
        raise DataError(
            f"{run.weights} was written by another animegen: its tensors do not fit this version's networks",
            hint=f"go on with the version that `{run.path / 'run.json'}` names, or train again",
        )
    method.load_state_dict(tensors, strict=False)


def for_inference(method: Method, *, device: torch.device, precision: str) -> Method:
    """Frozen, on the device, in its fastest layout; with bf16 the networks compute in it and speak float32."""
    method = method.requires_grad_(False).eval().to(device)
    channels_last = fast_layout(method, device, precision)
    for name in method.inference:
        module = getattr(method, name)
        if precision == "bf16":
            _compute_in(module, torch.bfloat16)
        if channels_last:
            module.to(memory_format=torch.channels_last)
    return method


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


def sampling(trained: Trained, overrides: Mapping[str, Any]) -> Any:
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


def build_config(config: Mapping[str, Any]) -> RunConfig:
    """Validate a plain config."""
    kind = methods.load(config["family"])
    return resolve(
        [Layer(dict(config), {})],
        family=config["family"], model=kind.Config, sample=kind.Sampling, optimizers=kind.optimizers,
    )  # fmt: skip


def describe_sampling(how: Any) -> str:
    """One line such as "ddim, 50 steps, spacing trailing" for protocols and notes."""
    values = asdict(how)
    parts = [str(values.pop("sampler"))] if "sampler" in values else []
    parts += [f"{values.pop('steps')} steps"] if "steps" in values else []
    neutral = {"eta": 0.0, "churn": 0.0, "guidance": 1.0, "variance": "small"}
    parts += [f"{name} {value}" for name, value in values.items() if neutral.get(name) != value]
    return ", ".join(parts)


def label_row(trained: Trained, wanted: Mapping[str, str]) -> list[int]:
    """Indices of the named values, -1 for attributes not named; UsageError for names that do not exist."""
    attributes = trained.data.attributes
    used = getattr(trained.method, "conditions", ())
    for name, value in wanted.items():
        if name not in used:
            hint = did_you_mean(name, used) if used else "it was trained without labels: draw without `--labels`"
            raise UsageError(f"this run knows no label `{name}`", hint=hint)
        if value not in attributes[name]:
            raise UsageError(f"`{name}` has no value `{value}`", hint=did_you_mean(value, attributes[name]))
    return [attributes[name].index(wanted[name]) if name in wanted else -1 for name in attributes]


def micro_batch(device: torch.device, size: int) -> int:
    """Images per network call while drawing: a fixed rule of device and size, so that pixels never depend on `--n`."""
    budget = (256 if device.type == "cuda" else 16) * 64 * 64
    return max(min(budget // (size * size), 512), 1)


def draw(
    trained: Trained,
    seeds: Sequence[int],
    *,
    how: Any = None,
    labels: Sequence[int] | None = None,
    batch: int | None = None,
    done: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw one image per seed: uint8, (n, 3, H, W), on the CPU.

    Args:
        how: the family's sampling section; the run's own when None.
        labels: one index per attribute for all images (-1 unknown), or None.
        batch: images per network call; the last call is padded to it.
        done: told how many images each call finished.
    """
    batch = batch or micro_batch(trained.device, trained.data.size)
    pieces = []
    for start in range(0, len(seeds), batch):
        piece = list(seeds[start : start + batch])
        noise = Noise(piece + [piece[-1]] * (batch - len(piece)), trained.device)
        pieces.append(draw_noise(trained, noise, how=how, labels=labels)[: len(piece)])
        if done:
            done(len(piece))
    return torch.cat(pieces) if pieces else torch.empty(0, 3, trained.data.size, trained.data.size, dtype=torch.uint8)


@torch.inference_mode()
def draw_noise(
    trained: Trained, noise: Noise, *, how: Any = None, labels: Sequence[int] | None = None, watch: Watch | None = None
) -> Tensor:
    """Draw one image per row of `noise`: uint8, (n, 3, H, W), on the CPU."""
    method = trained.method
    assert isinstance(method, Samples), "callers open runs with `able_to='samples'`"
    rows = None if labels is None else torch.tensor([list(labels)] * len(noise), device=trained.device)
    images = method.sample(noise, rows, how if how is not None else trained.config.sample, watch)
    return to_uint8(images).cpu()


def interpolate(
    trained: Trained, start: int, end: int, frames: int, *, how: Any = None, labels: Sequence[int] | None = None
) -> Tensor:
    """A spherical walk from seed `start` to seed `end` in `frames` images, uint8 (frames, 3, H, W)."""
    batch = micro_batch(trained.device, trained.data.size)
    fractions = [frame / max(frames - 1, 1) for frame in range(frames)]
    pieces = []
    for first in range(0, frames, batch):
        piece = fractions[first : first + batch]
        noise = Blend(start, end, piece + [piece[-1]] * (batch - len(piece)), trained.device)
        pieces.append(draw_noise(trained, noise, how=how, labels=labels)[: len(piece)])
    return torch.cat(pieces)


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] to 0..255, rounded to nearest."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def images(
    run: Run,
    seeds: Sequence[int],
    *,
    labels: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
    done: Callable[[int], None] | None = None,
) -> Tensor:
    """Open a run and draw: uint8 (n, 3, H, W)."""
    trained = open_trained(run, device=device or pick_device(None))
    return draw(
        trained,
        seeds,
        how=sampling(trained, overrides or {}),
        labels=label_row(trained, labels) if labels else None,
        done=done,
    )


# ---- who can what ---------------------------------------------------------------------------------------------

VERBS = {
    "samples": "draw from noise",
    "corrupts": "turn a picture into noise step by step",
    "translates": "translate pictures",
    "mixes": "mix two seeds",
    "projects": "find the code of a picture",
    "inpaints": "redraw part of a picture",
}
"""Ability -> what a person asks for."""


def families_able(ability: str) -> list[str]:
    """The families that have an ability."""
    # Protocols with data members refuse `issubclass`; an object without content answers as a whole one would.
    return [name for name in paths.families() if isinstance(_empty(name), ABILITIES[ability])]


def families_editing(field: str) -> list[str]:
    """The families whose translation reads this field of `Edit`."""
    return [name for name in families_able("translates") if field in getattr(methods.load(name), "edits")]  # noqa: B009


def families_setting(key: str) -> list[str]:
    """The families whose way to draw has this setting."""
    return [name for name in paths.families() if key in {field.name for field in fields(methods.load(name).Sampling)}]


def _empty(family: str) -> object:
    return object.__new__(methods.load(family))


def only(families: Sequence[str]) -> str:
    """A hint that names the families that can do what was asked."""
    return f"families that can: {', '.join(families)}" if families else "no family can"


def open_run(spec: str | None, ability: str) -> Run:
    """The run that `spec` means, or the newest, with weights and this ability; errors name the families that have it.

    Raises:
        UsageError: a run of a family without the ability.
        DataError: no such run, or one without weights.
    """
    if spec is None and not any(run.able(ability) for run in paths.runs()):
        able = families_able(ability)
        example = f"; train one with `animegen train {able[0]} --preset smoke`, or name its folder" if able else ""
        raise DataError(f"no run under {paths.RUNS}/ can {VERBS[ability]}", hint=only(able) + example)
    if spec is None:
        return paths.open_run(None, able_to=ability)
    run = paths.open_run(spec)
    family, recorded = run.about.get("family"), run.about.get("abilities", ())
    if ability not in recorded and family not in families_able(ability):  # a family may have learned since the run
        here = [other.name for other in paths.runs() if other.able(ability)][:-4:-1]
        raise UsageError(
            f"{run.name} is a {family} run, which cannot {VERBS[ability]}",
            hint=only(families_able(ability)) + (f"; runs here: {', '.join(here)}" if here else ""),
        )
    return paths.open_run(spec, able_to=(ability, *recorded))


def require(trained: Trained, ability: str) -> Any:
    """The method, which has this ability; UsageError that names the families that have it."""
    if not isinstance(trained.method, ABILITIES[ability]):
        raise UsageError(f"a {trained.config.family} run cannot {VERBS[ability]}", hint=only(families_able(ability)))
    return trained.method


# ---- pictures in, pictures out --------------------------------------------------------------------------------


def from_uint8(pixels: Tensor, device: torch.device) -> Tensor:
    """0..255 to [-1, 1], on the device."""
    return pixels.to(device).float() / 127.5 - 1


def _batches(count: int, batch: int) -> Iterator[tuple[list[int], int]]:
    """Indices in pieces of one fixed length, the last one filled up with its last, and how many of each count."""
    for start in range(0, count, batch):
        piece = list(range(start, min(start + batch, count)))
        yield piece + [piece[-1]] * (batch - len(piece)), len(piece)


def _label_rows(trained: Trained, labels: Sequence[int] | None, count: int) -> Tensor | None:
    return None if labels is None else torch.tensor([list(labels)] * count, device=trained.device)


@torch.inference_mode()
def translate(
    trained: Trained, pixels: Tensor, edit: Edit, *, how: Any = None, seed: int = 0, batch: int | None = None
) -> Tensor:
    """Translate images: uint8 (n, 3, H, W) -> the same, on the CPU; each depends on itself and the seed alone.

    Args:
        pixels: of the run's size, or of any multiple of 8 where the family has `any_size`.
        seed: of every image's noise, so that equal images become equal images and a film does not flicker.
        batch: images per network call; the last call is padded to it.
    """
    method = require(trained, "translates")
    batch = batch or micro_batch(trained.device, math.isqrt(pixels.shape[2] * pixels.shape[3]))
    how, pieces = how if how is not None else trained.config.sample, []
    for rows, count in _batches(len(pixels), batch):
        images = from_uint8(pixels[rows], trained.device)
        pieces.append(
            to_uint8(method.translate(images, Noise([seed] * batch, trained.device), edit, how))[:count].cpu()
        )
    return torch.cat(pieces) if pieces else pixels


@torch.inference_mode()
def mix(
    trained: Trained,
    coarse: Sequence[int],
    fine: Sequence[int],
    *,
    how: Any = None,
    labels: Sequence[int] | None = None,
    cut: int | None = None,
    batch: int | None = None,
) -> Tensor:
    """Image i has what is coarse of seed coarse[i] and what is fine of seed fine[i]: uint8 (n, 3, H, W), on the CPU."""
    method, device = require(trained, "mixes"), trained.device
    batch = batch or micro_batch(device, trained.data.size)
    how, pieces = how if how is not None else trained.config.sample, []
    for rows, count in _batches(len(coarse), batch):
        above, below = (Noise([seeds[row] for row in rows], device) for seeds in (coarse, fine))
        images = method.mix(above, below, _label_rows(trained, labels, batch), how, cut)
        pieces.append(to_uint8(images)[:count].cpu())
    return torch.cat(pieces)


def project(
    trained: Trained,
    pixels: Tensor,
    *,
    steps: int,
    features: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> Tensor:
    """The nearest images that the run can draw: uint8 (n, 3, H, W) of its size -> the same, on the CPU.

    `watch` is told (step, images, target), in [-1, 1]. Differentiates, so the networks should be in fp32.
    """
    method = require(trained, "projects")
    with torch.enable_grad():
        target = from_uint8(pixels, trained.device)
        images = method.project(target, Noise([seed] * len(pixels), trained.device), steps, features, watch)
    return to_uint8(images.detach()).cpu()


@torch.inference_mode()
def inpaint(
    trained: Trained,
    pixels: Tensor,
    mask: Tensor,
    seeds: Sequence[int],
    *,
    how: Any = None,
    labels: Sequence[int] | None = None,
    batch: int | None = None,
    done: Callable[[int], None] | None = None,
) -> Tensor:
    """One variant per seed of an image, uint8 (3, H, W), redrawn where mask, bool (H, W), is true: uint8 (n, 3, H, W)."""
    method, device = require(trained, "inpaints"), trained.device
    batch = batch or micro_batch(device, trained.data.size)
    how, pieces = how if how is not None else trained.config.sample, []
    images = from_uint8(pixels, device).expand(batch, -1, -1, -1)
    where = mask.to(device).float().expand(batch, 1, -1, -1)
    for rows, count in _batches(len(seeds), batch):
        noise = Noise([seeds[row] for row in rows], device)
        drawn = method.inpaint(images, where, noise, _label_rows(trained, labels, batch), how)
        pieces.append(torch.where(mask, to_uint8(drawn)[:count].cpu(), pixels))  # bf16 leaves the rest untouched too
        if done:
            done(count)
    return torch.cat(pieces)


@torch.inference_mode()
def walk(
    trained: Trained, start: int, end: int, frames: int, *, how: Any = None, labels: Sequence[int] | None = None
) -> Tensor:
    """From seed to seed in the family's own space of codes where it knows one, else in noise: uint8 (frames, 3, H, W)."""
    own = getattr(trained.method, "interpolate", None)
    if own is None:
        return interpolate(trained, start, end, frames, how=how, labels=labels)
    batch, device = micro_batch(trained.device, trained.data.size), trained.device
    fractions = torch.linspace(0, 1, frames, device=device)
    how, pieces = how if how is not None else trained.config.sample, []
    for rows, count in _batches(frames, batch):
        ends = (Noise([seed] * batch, device) for seed in (start, end))
        images = own(*ends, fractions[rows], _label_rows(trained, labels, batch), how)
        pieces.append(to_uint8(images)[:count].cpu())
    return torch.cat(pieces)
