"""The interface between a family and the house: what a family is given, what it must answer, what it may be able to do.

Trainer, checkpoints, sampler, evaluation and reports ask for the abilities below and never name a family.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from animegen_cli import config as sections

if TYPE_CHECKING:
    from animegen_cli.model.noise import Noise
    from animegen_cli.model.samplers import Callback

Losses = dict[str, Tensor]
Features = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) in [-1, 1] -> (B, D), differentiable."""
SamplingT = TypeVar("SamplingT", bound=sections.Sampling, contravariant=True)
"""A family's own `Sampling` section. `isinstance` against an ability leaves it open: whoever holds a model of any family
hands it the section of the same run."""


@dataclass(frozen=True)
class DataSpec:
    """What a family may know of its data; stored beside its weights."""

    size: int
    """Height and width in pixels."""
    count: int
    """Training images."""
    _: KW_ONLY
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Per channel over the training split, in [-1, 1]."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Per channel over the training split, in units of [-1, 1]."""
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Label names and their values, such as {"hair": ("aqua", ...)}."""
    domains: tuple[str, ...] = ("anime",)
    """One, or ("anime", "photos") for translators."""
    requests: tuple[tuple[int, ...], ...] = ()
    """Rows of labels, one index per attribute and -1 for unknown, in the shares of the training split: what is drawn from
    where nothing is asked for. Empty where there are no labels, and in weights of versions that did not keep them."""


@dataclass(frozen=True)
class Batch:
    """What a loss sees."""

    images: Tensor
    """(B, 3, H, W) float in [-1, 1]."""
    _: KW_ONLY
    photos: Tensor | None = None
    """The other domain, for translators."""
    labels: Tensor | None = None
    """(B, A) int64, one column per attribute; -1 is unknown."""
    images_seen: int = 0
    """Warm-ups and ramps are functions of this."""
    part: int = 0
    """Which of the step's parts these images are: its batch comes in `parts` pieces of equal size, whose losses are averaged."""
    parts: int = 1
    """How many parts the step has; the same in every step of a run."""


@dataclass(frozen=True)
class Phase:
    """One alternating update."""

    name: str
    """Prefixes its logs, and names its optimizer's config section unless `shares` does."""
    trains: tuple[nn.Module, ...]
    loss: Callable[[Batch], Losses]
    """The first entry is differentiated, all are logged. A mean over the images, so that the means of parts average."""
    _: KW_ONLY
    every: int = 1
    """Lazy regularization: the phase runs every so many steps."""
    shares: str | None = None
    """Name of the phase whose optimizer this one uses; its own when None."""
    exact: bool = False
    """The loss differentiates a gradient: it runs in fp32 and is never compiled."""


Combine = Mapping[str, Literal["sum", "pieces"]]
"""How a module says, as its class attribute `combine`, what becomes of its buffers when the parts of a step are done. Each part
begins with what the step began with. `sum`: of totals that every part begins at zero. `pieces`: part p of P may change the p-th
of P pieces of the first axis alone. Without a word a buffer becomes the mean of what the parts made of it."""


def combined_buffers(model: nn.Module) -> dict[str, str]:
    """Return the full name of each buffer for which a module has said how its parts are combined, and how."""
    return {
        f"{path}.{name}" if path else name: how
        for path, module in model.named_modules()
        for name, how in getattr(module, "combine", {}).items()
    }


class Family(nn.Module, ABC):
    """A family of generators: built as `Family(config.model, data)`. Families are final, and
    inherit from it alone or from `diffusion.DiffusionFamily`."""

    Config: ClassVar[type[sections.Section]]
    """Section class of `model:` in a preset."""
    Sampling: ClassVar[type[sections.Sampling]]
    """Section class of `sample:` in a preset."""
    optimizers: ClassVar[tuple[str, ...]] = ("model",)
    """Names of the phases that own an optimizer."""
    inference: ClassVar[tuple[str, ...]]
    """Child modules that the EMA and the weights file hold."""
    ema_buffers: ClassVar[Literal["average", "copy"]] = "copy"
    """What the EMA does with buffers such as BatchNorm statistics."""
    domains: ClassVar[tuple[str, ...]] = ("anime",)
    """What it trains on; translators also need "photos"."""
    config: sections.Section
    """The section `model:` that it was built from; each family declares it again as its own `Config`."""
    data: DataSpec
    guide: Family | None
    """An earlier state of the same networks, which diffusion families can lead away from as they draw; None in training."""

    def __init__(self, config: sections.Section, data: DataSpec) -> None:
        super().__init__()
        self.config = config
        self.data = data
        self.guide = None

    @property
    def notes(self) -> dict[str, str]:
        """What a reader of the run must know besides its config, such as the network that a loss looked through."""
        return {}

    @property
    def quantities(self) -> Mapping[str, str]:
        """What losses measure, in words that hold every setting that matters: name (without its phase) -> quantity.

        Two runs share the axes of a plot where they say the same of a loss; of one that is not named here, only where
        family and model section are equal.
        """
        return {}

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The updates of one training step, in order."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What a person asks of an image that goes in and comes out changed; a family reads the fields it names in `edits`."""

    reverse: bool = False
    """Translators: from anime to photo."""
    noise: float = 0.0
    """Deviation, in units of [-1, 1], of the noise that is added to the image first: denoising by encode and decode."""
    levels: int | None = None
    """Hierarchies: how many of the top levels come from the image; all when None."""
    strength: float = 0.5
    """Diffusion: how far into the forward process the image is taken before it is denoised, in (0, 1]."""
    exact: bool = False
    """Diffusion: go there by the inverted deterministic sampler instead of by noise."""


@dataclass(frozen=True)
class Finding:
    """A failure that a family recognizes in its own figures."""

    name: str
    """The field's word for it, such as "posterior collapse"."""
    says: str
    """The figure that shows it."""
    flag: str
    """What to type to change it, such as `--set model.free_bits=0.25`."""


@dataclass(frozen=True)
class Input:
    """One tensor that an exported network takes; the batch axis comes first and is not in its shape."""

    kind: Literal["noise", "image", "level", "labels", "share"]
    """Normal numbers, pixels in [-1, 1], noise levels, int64 indices (-1 unknown), or numbers in [0, 1]."""
    about: str
    shape: tuple[int | str, ...] = ()
    """A word instead of a number is a size that may vary, in steps of 8."""
    values: tuple[float, ...] = ()
    """Lowest and highest level, or the number of values of each label."""
    scale: float = 1.0
    """What noise is multiplied by, or the share, to draw as the run does."""
    rows: tuple[tuple[int, ...], ...] = ()
    """Labels in the shares of the training set: what the run draws from where nothing is asked for; else it leaves them unknown."""


@dataclass(frozen=True)
class Network:
    """A function of tensors alone, as other programs run it: all that is random comes in from outside."""

    name: str
    call: Callable[..., Tensor]
    """Of tensors in the order of `inputs`, on a float32 network."""
    inputs: Mapping[str, Input]
    about: str
    """What comes out."""


@dataclass(frozen=True)
class Exported:
    """A family's networks for other programs, and what else drawing with them needs."""

    networks: Sequence[Network]
    recipe: Mapping[str, Any]
    """Plain values, for JSON."""
    labels: Sequence[str] = ()
    """The attributes that the columns of an input `labels` stand for, in their order."""


@dataclass(frozen=True, kw_only=True)
class DiffusersModel:
    """A U-Net and its sampler in another library's terms: the contents of a diffusers folder."""

    network: Mapping[str, Any]
    """unet/config.json."""
    tensors: Mapping[str, Tensor]
    """The weights of the network, by the names that diffusers gives them."""
    scheduler: Mapping[str, Any]
    """scheduler/scheduler_config.json."""
    pipeline: str
    """Name of the pipeline's class; empty for a network alone."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of a call of the pipeline that draws as the run does."""
    labels: Sequence[str] = ()
    """The attribute whose values are its classes 1, 2, ...; class 0 is "unknown"."""
    notes: Sequence[str] = ()
    """What the other library does in another way."""


# ---- abilities ------------------------------------------------------------------------------------------------


@runtime_checkable
class Samples(Protocol[SamplingT]):
    """Draws images from noise."""

    def sample(
        self, noise: Noise, labels: Tensor | None, sampling: SamplingT, callback: Callback | None = None
    ) -> Tensor:
        """Return images (B, 3, H, W) in [-1, 1], row i from row i of `noise` alone; labels are (B, A) int64 or None.

        Families that draw step by step call `callback(step, state, denoised)` with images in [-1, 1] (the state unclipped).
        """
        ...


@runtime_checkable
class Corrupts(Protocol):
    """Has a forward process that turns an image into noise."""

    def corrupt(self, images: Tensor, noise: Tensor, fraction: float) -> Tensor:
        """Return images (B, 3, H, W) in [-1, 1] taken to `fraction` in [0, 1] of the forward process, unclipped."""
        ...


@runtime_checkable
class Validates(Protocol):
    """Has losses worth measuring on held-out images, besides its training losses."""

    def validate(self, batch: Batch) -> Losses:
        """Return named means over the batch; or values per image (B,), NaN where an image has none, whose mean is taken later."""
        ...


@runtime_checkable
class Translates(Protocol[SamplingT]):
    """Turns images into images."""

    edits: ClassVar[frozenset[str]]
    """The fields of `Edit` that it reads."""

    def translate(self, images: Tensor, noise: Noise, edit: Edit, sampling: SamplingT) -> Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to the same shape and range; row i is a function of row i of images and noise.

        H and W are the run's size, or, where the family declares `any_size = True`, any multiple of 8 pixels.
        """
        ...


@runtime_checkable
class Reconstructs(Protocol):
    """Encodes an image and decodes it again."""

    def reconstruct(self, images: Tensor) -> Tensor:
        """Return images (B, 3, H, W) in [-1, 1], each by way of the mean of its code."""
        ...


@runtime_checkable
class Denoises(Protocol[SamplingT]):
    """Finds the image behind a noisy one (document 004: denoising by encoding and decoding)."""

    def denoised(self, noisy: Tensor, deviation: float, sampling: SamplingT, levels: int | None = None) -> Tensor:
        """Return the images behind noisy ones: (B, 3, H, W) in units of [-1, 1], unclipped -> the same shape, in [-1, 1].

        Args:
            noisy: images with independent normal noise on every number.
            deviation: that of the noise, in units of [-1, 1].
            sampling: how the run draws.
            levels: hierarchies: how many of the top levels come from the picture; all when None.
        """
        ...

    def levels(self) -> int:
        """Return how many levels a hierarchy has; 1 where there is none."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """Says how probable an image is."""

    bound: ClassVar[str]
    """What the number is: "elbo" (a bound) or "ode" (an estimate by the probability flow)."""

    def bits_per_dim(self, images: Tensor, noise: Noise) -> Tensor:
        """Return the negative log2-likelihood per dimension of 8-bit images, (B, 3, H, W) in [-1, 1] -> (B,) float32."""
        ...


@runtime_checkable
class Mixes(Protocol[SamplingT]):
    """Draws from two codes: what is coarse from one, what is fine from the other."""

    def mix(
        self, coarse: Noise, fine: Noise, labels: Tensor | None, sampling: SamplingT, cut: int | None = None
    ) -> Tensor:
        """Return images (B, 3, H, W) in [-1, 1]; the first `cut` levels (a middle number when None) come from `coarse`."""
        ...


@runtime_checkable
class Interpolates(Protocol[SamplingT]):
    """Knows a space in which the way between two images is better than in noise."""

    def interpolate(
        self, start: Noise, end: Noise, fractions: Tensor, labels: Tensor | None, sampling: SamplingT
    ) -> Tensor:
        """Return images (F, 3, H, W) in [-1, 1], one per fraction (F,), on the CPU, of the way from 0, the image of `start`, to 1.

        `start` and `end` have F rows.
        """
        ...


@runtime_checkable
class Projects(Protocol):
    """Finds the code of a given image."""

    def project(
        self, images: Tensor, noise: Noise, steps: int, features: Features | None, callback: Callback | None
    ) -> Tensor:
        """Return the nearest images (B, 3, H, W) in [-1, 1] that it can draw.

        Args:
            images: the targets, (B, 3, H, W) in [-1, 1].
            noise: one row per image.
            steps: optimizer steps.
            features: whose distance counts; that of pixels when None.
            callback: called with (step, current images, target) now and then.
        """
        ...


@runtime_checkable
class Inpaints(Protocol[SamplingT]):
    """Redraws part of an image."""

    def inpaint(self, images: Tensor, mask: Tensor, noise: Noise, labels: Tensor | None, sampling: SamplingT) -> Tensor:
        """Return images (B, 3, H, W) in [-1, 1] with new content where mask (B, 1, H, W) is 1 and the same pixels where it is 0."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """Turns a picture into features in which distances mean something."""

    def embed(self, images: Tensor) -> Tensor:
        """Return features (B, D), float32, of images (B, 3, H, W) in [-1, 1] of the run's size."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """Names what a picture shows, from the features of `embed`."""

    def classify(self, features: Tensor) -> dict[str, Tensor]:
        """Return attribute -> logits (B, V) of its values, from features (B, D)."""
        ...


@runtime_checkable
class Exports(Protocol[SamplingT]):
    """Draws or translates by networks that are functions of tensors alone."""

    def exported(self, sampling: SamplingT) -> Exported:
        """Return the networks, and the recipe to draw with them as the section `sampling` says."""
        ...


@runtime_checkable
class Converts(Protocol[SamplingT]):
    """Has a network that diffusers has too."""

    def to_diffusers(self, sampling: SamplingT) -> DiffusersModel:
        """Return the network and the sampler as diffusers knows them; ConfigError where it knows none such."""
        ...

    def from_diffusers(self, found: DiffusersModel) -> tuple[dict[str, Tensor], list[str]]:
        """Return tensors under this family's own names, and warnings; DataError says what does not fit."""
        ...


@runtime_checkable
class Diagnoses(Protocol):
    """Recognizes how its training fails."""

    def diagnose(self, figures: Mapping[str, float]) -> Sequence[Finding]:
        """Return what is wrong, from the means that the log shows (`phase/loss` -> value); nothing when it is healthy."""
        ...


@runtime_checkable
class Tunes(Protocol):
    """Goes on from a finished run of another family, whose networks have the same tensors by the same names."""

    tunes: ClassVar[tuple[str, ...]]
    """The families whose runs it starts from, besides its own."""

    @classmethod
    def taken_over(cls, family: str, model: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of its section `model:` that such a run decides.

        Args:
            family: the run's; one of `tunes` or its own.
            model: the run's section `model:` as plain values.
        """
        ...


ABILITIES: dict[str, type] = {
    "samples": Samples, "corrupts": Corrupts, "validates": Validates, "translates": Translates,
    "reconstructs": Reconstructs, "denoises": Denoises, "likelihood": Likelihood, "mixes": Mixes,
    "projects": Projects, "inpaints": Inpaints,
    "interpolates": Interpolates, "embeds": Embeds, "classifies": Classifies, "diagnoses": Diagnoses, "exports": Exports,
    "converts": Converts, "tunes": Tunes,
}  # fmt: skip
"""Name in `run.json` -> protocol."""


def abilities_of(model: Family) -> tuple[str, ...]:
    """The names of what this family can do."""
    return tuple(name for name, protocol in ABILITIES.items() if isinstance(model, protocol))
