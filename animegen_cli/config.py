"""Frozen, documented config sections; YAML layers that know their file and line; one validated result.

A layer is a mapping from a preset, a `--config` file or the command line. Later layers win, key by key. Every
complaint names the place that said it, and all complaints come at once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import yaml
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from animegen_cli import disk
from animegen_cli.errors import ConfigError, DataError, nearest
from animegen_cli.paths import preset_file, presets_folder, similar

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")


class Section:
    """Base of every config section: unknown keys are refused, `"2e-4"` (as YAML reads it) becomes a number."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    renamed: ClassVar[Mapping[str, str]] = {}
    """Earlier names of keys and what they are called now: runs and presets that hold the earlier ones still open."""

    def check_new(self) -> None:
        """Raise ConfigError for settings that no new training should begin with; runs that have them still open and go on."""

    def cautions(self) -> Sequence[str]:
        """Return what a person should hear before paying for these settings, a sentence each; nothing for most."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Sampling(Section):
    """Base of the sections that say how a family draws (`sample:`), and all of it for a family that draws nothing."""

    def preview(self) -> Sampling:
        """The cheaper way to draw that previews during training use; itself unless a section knows one."""
        return self


# ---- amounts: "200 epochs", "800k steps", "25M images", "10 min" ---------------------------------------------

_SCALES = {"": 1, "k": 1_000, "M": 1_000_000}
_UNITS = {
    "images": "images", "image": "images", "img": "images", "steps": "steps", "step": "steps", "epochs": "epochs",
    "epoch": "epochs", "min": "minutes", "minutes": "minutes", "minute": "minutes", "h": "hours", "hours": "hours",
    "hour": "hours", "s": "seconds", "seconds": "seconds", "second": "seconds",
}  # fmt: skip
_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600}


class Amount(NamedTuple):
    """A number of images, steps or epochs, or a time."""

    number: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Amount:
        """Read `25M images`, `800k steps`, `200 epochs` or `10 min`; ValueError says what is allowed."""
        match = re.fullmatch(r"\s*([0-9][0-9_]*\.?[0-9]*(?:e[0-9]+)?)\s*([kM]?)\s*([a-z]+)\s*", str(text))
        if not match or match[3] not in _UNITS:
            raise ValueError(f"`{text}` is not an amount such as `200 epochs`, `800k steps`, `25M images` or `10 min`")
        return cls(float(match[1].replace("_", "")) * _SCALES[match[2]], _UNITS[match[3]])

    def images(self, *, batch: int, count: int) -> int:
        """The amount in images seen, for a total batch and a data set of `count` images; ValueError for a time."""
        factor = {"images": 1, "steps": batch, "epochs": count}.get(self.unit)
        if factor is None:
            raise ValueError(f"a time of {self.number:g} {self.unit} has no fixed number of images")
        return round(self.number * factor)

    @property
    def seconds(self) -> float | None:
        """The amount in seconds, or None when it counts images."""
        scale = _SECONDS.get(self.unit)
        return None if scale is None else self.number * scale


def _check_progress(text: str) -> str:
    if Amount.parse(text).seconds is not None:
        raise ValueError(f"`{text}` is a time; say images, steps or epochs, so that the run reproduces")
    return text


def _check_any(text: str) -> str:
    Amount.parse(text)
    return text


def _check_span(text: str) -> str:
    if Amount.parse(_check_progress(text)).unit == "steps":
        raise ValueError(f"`{text}` counts steps; say images or epochs, which do not depend on the batch")
    return text


Progress = Annotated[str, AfterValidator(_check_progress)]
"""An amount in images, steps or epochs, kept as it was written."""
Span = Annotated[str, AfterValidator(_check_span)]
"""An amount in images or epochs: what a family, which does not know the batch, can count."""
Interval = Annotated[str, AfterValidator(_check_any)]
"""Like `Progress`, or a time."""


# ---- sections that every family shares -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Optim(Section):
    """One optimizer and its learning-rate schedule, a function of images seen."""

    name: Literal["adam", "adamw", "muon"] = "adam"
    """Update rule; `adamw` decouples the decay (Loshchilov & Hutter 2019), `muon` moves hidden weights by the orthogonal
    part of their momentum and the others by Adam (Jordan et al. 2024)."""
    lr: Annotated[float, Field(gt=0)] = 2e-4
    """Learning rate after warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the two moment averages."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Of `muon`, for hidden weights."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decay of the weights."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Largest global gradient norm; none when absent."""
    skip: Annotated[float, Field(gt=0)] | None = None
    """A step whose gradient norm is larger is left out (Child 2021); none is when absent."""
    warmup: Progress = "0 images"
    """Linear rise from zero."""
    schedule: Literal["constant", "cosine", "linear", "linear-epochs", "exponential", "step"] = "constant"
    """Shape after the warm-up. `cosine` and `linear` reach zero at the end of training; `linear-epochs` falls once per
    epoch and would be zero one epoch after the end (CycleGAN); `exponential` is multiplied by `decay` each epoch, `step`
    once, at `decay_from`."""
    decay_from: Progress = "0 images"
    """Where the fall begins."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Factor of `exponential` and `step`."""


@dataclass(frozen=True, kw_only=True)
class Ema(Section):
    """Exponential moving average of the inference networks."""

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """Per update; 0 keeps the raw weights."""
    ramp: bool = True
    """Early on min(decay, (1 + n) / (10 + n)) after n updates."""
    every: Annotated[int, Field(ge=1)] = 1
    """Optimizer steps per update."""
    half_life: Progress | None = None
    """Instead of `decay`: after so much training a weight counts half (Karras et al. 2018, appendix)."""
    half_life_share: Annotated[float, Field(gt=0)] | None = None
    """Largest half-life as a share of the images seen so far: early averages forget faster (Karras et al. 2020b)."""


@dataclass(frozen=True, kw_only=True)
class Validate(Section):
    """What is measured on the test split while training; the best state by the first figure is kept."""

    every: Progress = "1 epochs"
    """Interval."""
    images: Annotated[int, Field(ge=0)] = 1024
    """Held-out images whose losses are averaged; 0 turns validation off."""
    kid_images: Annotated[int, Field(ge=0)] = 0
    """Images drawn for the kernel distance; 0 leaves it out."""
    kid_steps: Annotated[int, Field(ge=1)] = 5
    """Sampling steps of those images."""
    kid75: bool = False
    """Also the kernel distance of document 001, and the best state by that, where Inception's weights are."""


@dataclass(frozen=True, kw_only=True)
class Guide(Section):
    """Autoguidance: the weaker model that a diffusion run leads away from as it draws (Karras et al. 2024)."""

    at: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training after which the averaged weights are kept as the guide; 0 keeps none."""
    weights: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """At the end of training these are tried in their order until one is worse than the one before; the one whose images are
    nearest to held-out ones (kernel distance) becomes `sample.autoguidance`. As the section `sample` says when empty."""
    images: Annotated[int, Field(ge=2)] = 128
    """Images drawn with each of them, of the same seeds."""


@dataclass(frozen=True, kw_only=True)
class Train(Section):
    """The loop: how much, how often, how exactly."""

    batch: Annotated[int, Field(ge=1)] = 64
    """Images per optimizer step, over all its parts and processes."""
    parts: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Equal pieces of each step's batch, one forward pass each, with randomness and batch statistics of its own; processes
    share a step by them. `auto` depends on batch and networks, never on the machine."""
    batch_gpu: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Most images of a part, for a device with little memory."""
    duration: Progress = "100 epochs"
    """When training ends."""
    ema: Ema = field(default_factory=Ema)
    """Weight averaging."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast of the forward pass; `auto` takes bf16 where the device has it in hardware."""
    compile: bool | Literal["auto"] = "auto"
    """`Module.compile`; `auto` compiles on CUDA where a compiler is found."""
    channels_last: bool | Literal["auto"] = "auto"
    """Memory format; `auto` follows the device."""
    deterministic: bool = False
    """Only deterministic CUDA kernels; the CPU always is."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Every random number of the run is a function of this."""
    save_every: Interval = "10 min"
    """Interval between complete states."""
    keep: Annotated[int, Field(ge=1)] = 2
    """States kept."""
    preview_every: Interval = "5 min"
    """Interval between sample grids."""
    preview: Annotated[int, Field(ge=1)] = 36
    """Images in a preview grid."""
    log_every: Interval = "50 steps"
    """Interval between lines of the log."""
    loggers: tuple[Literal["csv", "tensorboard", "wandb", "mlflow"], ...] = ()
    """Where curves and previews go besides the run's own log."""
    validate: Validate = field(default_factory=Validate)
    """Held-out losses and scores, where the family has them."""
    guide: Guide = field(default_factory=Guide)
    """An earlier state that drawing leads away from, where the family can."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Loader processes when the data does not fit in memory."""


@dataclass(frozen=True, kw_only=True)
class Augment(Section):
    """Training-time augmentation; nothing is copied on disk."""

    flip: bool = True
    """Mirror half of the images."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation in degrees."""
    crop: Annotated[int, Field(ge=0)] = 0
    """Random shift in pixels, edges reflected."""
    load: Annotated[int, Field(ge=0)] = 0
    """Scaled up to so many pixels a side, then cropped at random to the image size (286 for 256: CycleGAN); 0 is off."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run, validated."""

    family: str
    preset: str | None
    about: str
    warning: str | None
    size: int | None
    data: str | None
    model: Any
    sample: Any
    optim: dict[str, Optim]
    train: Train
    augment: Augment

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON; `resolve` of them gives an equal config."""
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


# ---- layers ---------------------------------------------------------------------------------------------------

Path_ = tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """One mapping and where each of its keys was said."""

    values: dict[str, Any]
    places: dict[Path_, str]
    edited: str | None = None
    """The file, where it holds other values than those that animegen wrote there and sealed."""

    @classmethod
    def from_yaml(cls, path: Path, *, shown: str | None = None) -> Layer:
        """Read a YAML file; DataError when it is missing, ConfigError with the line when it is not YAML."""
        shown = shown or str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise DataError(f"cannot read {shown}: {reason}", hint=similar(path) or "check the path") from error
        try:
            values, node = disk.parse_yaml(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{shown}:{mark.line + 1}" if mark else shown
            raise ConfigError(
                f"{where}: not valid YAML: {getattr(error, 'problem', error)}", hint="mend that line"
            ) from error
        if values is None:
            return cls({}, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{shown}: expected `key: value` lines", hint="see `animegen presets show ddpm/smoke`")
        places: dict[Path_, str] = {}
        _places(node, (), shown, places)
        return cls(values, places, None if disk.is_as_written(text, values) else shown)

    @classmethod
    def from_settings(cls, settings: Sequence[str]) -> Layer:
        """Read `--set a.b=value` words; values are YAML."""
        values: dict[str, Any] = {}
        places: dict[Path_, str] = {}
        for key, value in _assignments(settings, "train.batch=32"):
            path = tuple(key.split("."))
            _put(values, path, value)
            places[path] = f"--set {key}"
        return cls(values, places)

    @classmethod
    def from_flag(cls, flag: str, path: str, value: object) -> Layer:
        """Make a layer of one command-line flag that stands for the config key `path`."""
        values: dict[str, Any] = {}
        _put(values, tuple(path.split(".")), value)
        return cls(values, {tuple(path.split(".")): flag})


def _places(node: yaml.Node | None, path: Path_, shown: str, places: dict[Path_, str]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            places[inner] = f"{shown}:{key.start_mark.line + 1}"
            _places(value, inner, shown, places)


def _put(values: dict[str, Any], path: Path_, value: object) -> None:
    for key in path[:-1]:
        if not isinstance(values.get(key), dict):
            values[key] = {}
        values = values[key]
    values[path[-1]] = value


def preset_layer(family: str, preset: str) -> Layer:
    """Read the preset that `--preset` means: a name, or a file of one's own, which may say of which family it is.

    Raises:
        UsageError: no such family or preset.
        ConfigError: it is no YAML, or a preset of another family.
        DataError: no such file.
    """
    file = preset_file(family, preset)
    layer = Layer.from_yaml(file, shown=shown_preset(file))
    said = str(layer.values.get("family", family))
    if said != family:
        raise ConfigError(
            f"{file} is a preset of {said}, not of {family}", hint=f"type `animegen train {said} --preset {file}`"
        )
    return layer


def shown_preset(file: Path) -> str:
    """How messages name a preset's file: a shipped one as the repository does, `presets/ddpm/fast.yaml`."""
    folder = presets_folder()
    return str(Path("presets") / file.relative_to(folder)) if file.is_relative_to(folder) else str(file)


def merge(layers: Sequence[Layer]) -> Layer:
    """Lay later layers over earlier ones, mapping by mapping."""
    values: dict[str, Any] = {}
    places: dict[Path_, str] = {}
    for layer in layers:
        _merge_into(values, layer.values)
        places |= layer.places
    return Layer(values, places)


def _merge_into(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge_into(base[key], value)
        else:
            base[key] = _merge_copy(value)


def _merge_copy(value: object) -> object:
    return {key: _merge_copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value


# ---- validation -----------------------------------------------------------------------------------------------

_TOP: dict[str, Any] = {
    "family": str, "preset": str | None, "about": str, "warning": str | None, "size": Annotated[int, Field(ge=8)] | None,
    "data": str | None, "optim": dict[str, Optim], "train": Train, "augment": Augment,
}  # fmt: skip
_DEFAULTS: dict[str, Any] = {
    "preset": None, "about": "", "warning": None, "size": None, "data": None, "model": {}, "sample": {}, "optim": {},
    "train": {}, "augment": {},
}  # fmt: skip


def resolve(layers: Sequence[Layer], *, family: str, model: type, sample: type, optimizers: Sequence[str]) -> RunConfig:
    """Merge the layers of a config and validate the result.

    Args:
        layers: lowest first.
        family: the family's name.
        model: the section class of the family's networks.
        sample: the section class that says how the family draws.
        optimizers: names of the optimizers that the family's phases ask for; each gets a section.

    Raises:
        ConfigError: every wrong key and value, each with its file and line (or flag).
    """
    layers = [_with_current_names(layer, {"model": model, "sample": sample}) for layer in layers]
    merged = merge([Layer({**_DEFAULTS, "family": family}, {}), *layers])
    types = {**_TOP, "model": model, "sample": sample}
    parts, complaints = _validated(merged, types)
    for name in parts.get("optim", {}):
        if name not in optimizers:
            complaints.append(_unknown(merged, ("optim", name), list(optimizers)))
    _refuse(merged, complaints, f"see the keys with `animegen presets show {family}/fast`")
    parts["optim"] = {name: parts["optim"].get(name, Optim()) for name in optimizers}
    return RunConfig(**parts)


def current_names(values: Mapping[str, Any], sections: Mapping[str, type[Section]]) -> dict[str, Any]:
    """A plain config in which the keys of `sections` (name in the config -> class) bear the names they have now."""
    return dict(values) | {
        name: {section.renamed.get(key, key): value for key, value in values[name].items()}
        for name, section in sections.items()
        if isinstance(values.get(name), Mapping)
    }


def _with_current_names(layer: Layer, sections: Mapping[str, type[Section]]) -> Layer:
    places = {
        (path[0], sections[path[0]].renamed.get(path[1], path[1]), *path[2:])
        if len(path) > 1 and path[0] in sections
        else path: place
        for path, place in layer.places.items()
    }
    return Layer(current_names(layer.values, sections), places)


def build(layer: Layer, section: type[T], *, hint: str) -> T:
    """Build a section from a file of its own, such as a study; ConfigError like `resolve`, with `hint` where no key is near."""
    hints, keys = get_type_hints(section, include_extras=True), dataclasses.fields(section)  # type: ignore[arg-type]
    parts, complaints = _validated(layer, {key.name: hints[key.name] for key in keys})
    for key in keys:
        if key.default is key.default_factory is dataclasses.MISSING and key.name not in layer.values:
            complaints.append(Complaint(f"`{key.name}` is missing"))
    _refuse(layer, complaints, hint)
    return section(**parts)


class Complaint(NamedTuple):
    """What is wrong, perhaps what was meant, and of an unknown key its path."""

    text: str
    hint: str | None = None
    unknown: Path_ | None = None


Complaints = list[Complaint]


def _validated(layer: Layer, types: Mapping[str, Any]) -> tuple[dict[str, Any], Complaints]:
    """Each top-level key of the layer as its type, and what is wrong."""
    complaints: Complaints = [_unknown_top(layer, key, types) for key in layer.values if key not in types]
    parts = {}
    for key, kind in types.items():
        if key not in layer.values:
            continue
        try:
            parts[key] = TypeAdapter(kind).validate_python(layer.values[key])
        except ConfigError as error:
            complaints.append(Complaint(f"{_place(layer, (key,))}{error.message}", error.hint))
        except ValidationError as error:
            complaints += [_complaint(layer, key, kind, item) for item in error.errors()]
    return parts, complaints


def _refuse(layer: Layer, complaints: Complaints, hint: str) -> None:
    if not complaints:
        return
    near = next((one.hint for one in complaints if one.hint), hint)
    error = ConfigError("\n       ".join(one.text for one in complaints), hint=near)
    path = next((one.unknown for one in complaints if one.unknown), None)
    if path is not None:
        value: Any = layer.values
        for key in path:
            value = value[key] if isinstance(value, Mapping) else None
        error.unknown = (".".join(path), value)
    raise error


def _place(layer: Layer, path: Path_) -> str:
    """`file:line: ` of the longest known beginning of `path`, or nothing for built-in defaults."""
    for end in range(len(path), 0, -1):
        if path[:end] in layer.places:
            return f"{layer.places[path[:end]]}: "
    # a word below a plain value: only the longer path was said
    return next((f"{place}: " for known, place in layer.places.items() if known[: len(path)] == path), "")


def _unknown(layer: Layer, path: Path_, choices: Sequence[str]) -> Complaint:
    close = nearest(path[-1], choices)
    inside = f" in `{'.'.join(path[:-1])}`" if path[:-1] else ""
    hint = f"did you mean `{close}`?" if close else f"the keys here are {', '.join(f'`{c}`' for c in choices)}"
    return Complaint(f"{_place(layer, path)}unknown key `{path[-1]}`{inside}", hint, path)


def _unknown_top(layer: Layer, key: str, types: Mapping[str, Any]) -> Complaint:
    """Of a key without its section, such as `lr`, the hint is where it stands: `optim.model.lr`."""
    complaint = _unknown(layer, (key,), list(types))
    names = list(layer.values.get("optim") or ()) if isinstance(layer.values.get("optim"), Mapping) else []
    there = [".".join(path) for top, kind in types.items() for path in _ending(key, kind, (top,), names)]
    return complaint._replace(hint=f"write {' or '.join(f'`{path}`' for path in there[:4])}") if there else complaint


def _ending(key: str, kind: object, path: Path_, optimizers: Sequence[str]) -> Iterator[Path_]:
    """The paths below `path` that end in `key`; a section for each name has one path for each optimizer."""
    if get_origin(kind) is dict:
        for name in optimizers:
            yield from _ending(key, get_args(kind)[1], (*path, name), optimizers)
    if not dataclasses.is_dataclass(kind):
        return
    for name, inner in get_type_hints(kind).items():
        if name == key:
            yield (*path, name)
        yield from _ending(key, inner, (*path, name), optimizers)


def _complaint(layer: Layer, key: str, kind: object, item: ErrorDetails) -> Complaint:
    path = (key, *(str(part) for part in item["loc"]))
    if item["type"] == "unexpected_keyword_argument":
        return _unknown(layer, path, _keys_at(kind, item["loc"][:-1]))
    known = _known_path(layer, path)
    message = item["msg"].removeprefix("Value error, ")
    text = f"{_place(layer, path)}`{'.'.join(known)}`: {message[:1].lower()}{message[1:]} (got {item['input']!r})"
    return Complaint(text)


def _known_path(layer: Layer, path: Path_) -> Path_:
    """Without pydantic's own path parts (union members, list indices) that no file spells."""
    for end in range(len(path), 1, -1):
        if path[:end] in layer.places:
            return path[:end]
    return path


def _keys_at(kind: object, loc: Sequence[int | str]) -> list[str]:
    """The keys of the section that `loc` leads to from `kind`."""
    for part in loc:
        if dataclasses.is_dataclass(kind):
            kind = get_type_hints(kind).get(str(part))
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
    return [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


def to_yaml(values: Mapping[str, Any]) -> str:
    """Return a config as YAML in block style, its keys in their order, so that the file can be read and run again."""
    return yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)


def short_names(keys: Sequence[str]) -> list[str]:
    """Each key by its last word where that says which of them it is, else whole: `optim.G.lr`, `lr`."""
    ends = [key.rpartition(".")[2] for key in keys]
    return [end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)]


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """Read `--set key=value` words for one section, whose keys have no dots; ConfigError for one that is no assignment."""
    return dict(_assignments(words, "s_churn=40"))


def values_of(setting: str) -> Sequence[str]:
    """The values in a word of `--set`: `lr=1e-4,2e-4` has two; what stands in brackets or quotes is one.

    One value, the whole text, where there is no comma or what commas separate is no YAML.
    """
    text = setting.partition("=")[2]
    try:
        _, node = disk.parse_yaml(f"[{text}]")
    except yaml.YAMLError:
        return [text]
    parts = node.value if isinstance(node, yaml.SequenceNode) else []
    values = [text[part.start_mark.index - 1 : part.end_mark.index - 1].strip() for part in parts]
    return values if len(values) > 1 else [text]


def _assignments(words: Sequence[str], example: str) -> Iterator[tuple[str, Any]]:
    """Keys and values of `--set` words; a value is YAML."""
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"`--set {word}` has no `=`", hint=f"write `--set {example}`")
        try:
            yield key, disk.parse_yaml(text)[0]
        except yaml.YAMLError as error:
            raise ConfigError(f"`--set {word}`: the value is not valid YAML", hint="quote it for the shell") from error
