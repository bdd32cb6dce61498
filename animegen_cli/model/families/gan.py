"""Generative adversarial networks: DCGAN (Radford et al. 2016) and what was learned since; documents 002 and 003.

The generator draws an image from z ~ N(0, I), the critic answers with a logit, larger where an image looks real. Layouts:

- `dcgan`: the authors' networks, transposed convolutions and BatchNorm, any size of 4 * 2^k pixels.
- `skip`: a generator that adds up images of every resolution and a residual critic without norms that sees the
  deviation over the batch (Karras et al. 2018, section 3; 2020, section 4.1), any size of b * 2^k pixels, 4 <= b < 16.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, final

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from animegen_cli.config import Sampling, Section
from animegen_cli.errors import ConfigError
from animegen_cli.model import adversarial, conditioning
from animegen_cli.model.augment import Kind
from animegen_cli.model.augment import augment as augmented
from animegen_cli.model.family import Batch, DataSpec, Exported, Family, Finding, Input, Losses, Network, Phase
from animegen_cli.model.nets.style import levels_of, minibatch_std

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from animegen_cli.model.noise import Noise
    from animegen_cli.model.samplers import Callback

Weight = Annotated[float, Field(ge=0)]
Augmentation = Annotated[Kind, BeforeValidator(lambda word: "color" if word == "colour" else word)]
"""An augmentation's name; runs of before spell the first one `colour`."""


@dataclass(frozen=True, kw_only=True)
class Model(Section):
    """The two networks and what they minimize."""

    layout: Literal["dcgan", "skip"] = "dcgan"
    """Networks of Radford et al. 2016, or the skip generator and residual critic."""
    latent: Annotated[int, Field(ge=1)] = 100
    """Numbers in z."""
    width: Annotated[int, Field(ge=4)] = 64
    """The generator's feature maps at its finest stage, twice as many at each coarser one."""
    critic_width: Annotated[int, Field(ge=4)] = 64
    """The critic's feature maps at its finest stage."""
    max_width: Annotated[int, Field(ge=4)] = 512
    """Most feature maps of any stage."""
    loss: adversarial.Loss = "bce"
    """`bce` (non-saturating), `lsgan`, `hinge` or `wgan`."""
    smooth: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The critic's target for real images; 0.9 is one-sided label smoothing."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """The critic's normalization, `dcgan` only; `layer` is over all of one image (Gulrajani et al. 2017, section 4)."""
    spectral_norm: bool = False
    """Each of the critic's layers with largest singular value 1 (Miyato et al. 2018)."""
    r1: Weight = 0.0
    """gamma of R1 (Mescheder et al. 2018, eq. 9); 0 is off."""
    r1_at: Annotated[int, Field(ge=4)] | None = None
    """The size at which `r1` holds; it grows with the number of pixels. The weight is fixed when absent."""
    gradient_penalty: Weight = 0.0
    """lambda of WGAN-GP (Gulrajani et al. 2017, eq. 3); 0 is off."""
    penalty_every: Annotated[int, Field(ge=1)] = 16
    """Steps between two penalties, each so many times as heavy (Karras et al. 2020, appendix B); at 1 they are part of
    the critic's own update."""
    critic_steps: Annotated[int, Field(ge=1)] = 1
    """Updates of the critic for one of the generator."""
    feature_matching: Weight = 0.0
    """Weight of Salimans et al. 2016, section 3.1, in the generator's loss."""
    pixel_weight: Weight = 0.0
    """Weight of a pixel distance to real images; needs pairs, which noise has not, so anything but 0 is refused."""
    augment: tuple[Augmentation, ...] = ()
    """What the critic's images go through: `color`, `translation`, `cutout` (Zhao et al. 2020)."""
    labels: tuple[str, ...] | Literal["all"] = ()
    """Attributes of the data set to condition on."""
    label_drop: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of images trained without labels, so that the run also draws without."""

    def __post_init__(self) -> None:
        if self.pixel_weight:
            raise ConfigError(
                "`pixel_weight` needs pairs: an image drawn from noise has no real image to be compared with",
                hint="leave it at 0, or use a family whose images have a counterpart: vae, mhvae, cyclegan, animegan",
            )
        if self.loss == "wgan" and not (self.gradient_penalty or self.r1):
            raise ConfigError(
                "the critic of `loss: wgan` needs a bounded slope", hint="add `--set model.gradient_penalty=10`"
            )
        if self.smooth < 1 and self.loss in ("hinge", "wgan"):
            raise ConfigError(f"`loss: {self.loss}` has no targets to smooth", hint="add `--set model.smooth=1`")

    @property
    def ties_images(self) -> bool:
        """Whether the critic's answer to an image depends on the others of its batch by BatchNorm."""
        return self.layout == "dcgan" and self.norm == "batch"

    def check_new(self) -> None:
        """Refuse every gradient penalty, R1 included, on a critic with BatchNorm (Gulrajani et al. 2017, section 4)."""
        if self.ties_images and (self.gradient_penalty or self.r1):
            name = "model.gradient_penalty" if self.gradient_penalty else "model.r1"
            raise ConfigError(
                f"`{name}` is a penalty per image, and BatchNorm ties the images of a batch together",
                hint=f"add `--set model.norm=layer`, or leave the penalty out with `--set {name}=0`",
            )


@dataclass(frozen=True, kw_only=True)
class GANSampling(Sampling):
    """How it draws."""

    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Deviation of z: below 1 more typical and less varied faces."""


# ---- networks -------------------------------------------------------------------------------------------------


class Generator(nn.Module, ABC):
    """Turns z and labels into images; the layouts differ in `draw`."""

    def __init__(self, config: Model, classes: Sequence[int]) -> None:
        super().__init__()
        self.labels = conditioning.Labels(classes, config.latent) if classes else None
        self.inputs = config.latent * (2 if classes else 1)

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """(B, latent), (B, A) or None -> (B, 3, H, W), about [-1, 1]."""
        if self.labels is not None:
            z = torch.cat([z, torch.zeros_like(z) if labels is None else self.labels(labels).to(z.dtype)], dim=1)
        return self.draw(z).float()

    @abstractmethod
    def draw(self, z: Tensor) -> Tensor:
        """Draw the images (B, 3, H, W) of z and the labels' vector, (B, inputs)."""


class DCGenerator(Generator):
    """Radford et al. 2016, figure 1: transposed convolutions from 1x1, BatchNorm and ReLU, tanh."""

    def __init__(self, config: Model, size: int, classes: Sequence[int]) -> None:
        super().__init__(config, classes)
        widths = _widths(config.width, config.max_width, levels_of(size)[1])
        layers: list[nn.Module] = []
        before = self.inputs
        for stage, width in enumerate(reversed(widths)):
            stride, padding = (2, 1) if stage else (1, 0)
            layers.append(nn.ConvTranspose2d(before, width, 4, stride, padding, bias=False))
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            before = width
        layers.append(nn.ConvTranspose2d(before, 3, 4, stride=2, padding=1, bias=False))
        self.layers = nn.Sequential(*layers)
        self.layers.apply(_dcgan_init)

    def draw(self, z: Tensor) -> Tensor:
        """(B, inputs) -> (B, 3, H, W) in (-1, 1)."""
        return torch.tanh(self.layers(z[:, :, None, None]))


class SkipGenerator(Generator):
    """Every resolution adds its part to the enlarged image of the one before (Karras et al. 2020, figure 7b)."""

    def __init__(self, config: Model, size: int, classes: Sequence[int]) -> None:
        super().__init__(config, classes)
        self.base, stages = levels_of(size)
        self.widths = _widths(config.width, config.max_width, stages + 1)[::-1]
        self.start = nn.Linear(self.inputs, self.widths[0] * self.base**2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in self.widths)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, width, 3, padding=1, bias=False) for before, width in pairwise(self.widths)
        )
        self.to_rgb = nn.ModuleList(nn.Conv2d(width, 3, 3, padding=1) for width in self.widths)
        for layer in (*self.convs, *self.to_rgb):
            nn.init.normal_(layer.weight, std=0.02)

    def draw(self, z: Tensor) -> Tensor:
        """(B, inputs) -> (B, 3, H, W), unbounded."""
        x = F.leaky_relu(self.norms[0](self.start(z).unflatten(1, (self.widths[0], self.base, self.base))), 0.2)
        image = self.to_rgb[0](x)
        for conv, norm, to_rgb in zip(self.convs, list(self.norms)[1:], list(self.to_rgb)[1:], strict=True):
            x = F.leaky_relu(norm(conv(F.interpolate(x, scale_factor=2.0))), 0.2)
            image = F.interpolate(image, scale_factor=2.0, mode="bilinear") + to_rgb(x)
        return image


class Critic(nn.Module, ABC):
    """Turns images and labels into logits by way of features; the layouts differ in `extract` and `score`."""

    def __init__(self, width: int, classes: Sequence[int]) -> None:
        super().__init__()
        self.labels = conditioning.Labels(classes, width) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W), (B, A) or None -> logits (B,), features (B, C, b, b).

        Labels add the product of their vector and the mean features: the projection of Miyato & Koyama 2018, eq. 3.
        """
        features = self.extract(images)
        logits = self.score(features).float()
        if self.labels is not None and labels is not None:
            logits = logits + (self.labels(labels) * features.float().mean((2, 3))).sum(1)
        return logits, features

    @abstractmethod
    def extract(self, images: Tensor) -> Tensor:
        """Return the features (B, C, b, b) of images (B, 3, H, W)."""

    @abstractmethod
    def score(self, features: Tensor) -> Tensor:
        """Return the logits (B,) of features (B, C, b, b), labels aside."""


class DCCritic(Critic):
    """Radford et al. 2016: strided convolutions, LeakyReLU, a norm in all but the first and the last layer."""

    def __init__(self, config: Model, size: int, classes: Sequence[int]) -> None:
        widths = _widths(config.critic_width, config.max_width, levels_of(size)[1])
        super().__init__(widths[-1], classes)
        norms: dict[str, Callable[[int], nn.Module]] = {
            "batch": nn.BatchNorm2d,
            "layer": lambda width: nn.GroupNorm(1, width),
            "none": lambda _: nn.Identity(),
        }
        layers: list[nn.Module] = []
        before = 3
        for stage, width in enumerate(widths):
            layers.append(nn.Conv2d(before, width, 4, stride=2, padding=1, bias=False))
            if stage:
                layers.append(norms[config.norm](width))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            before = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(before, 1, 4, bias=False)
        self.apply(_dcgan_init)

    def extract(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, 4, 4)."""
        return self.layers(images)

    def score(self, features: Tensor) -> Tensor:
        """(B, C, 4, 4) -> (B,)."""
        return self.head(features).flatten()


class ResidualCritic(Critic):
    """No norm; each halving adds a strided convolution to the averaged pixels; the last layers see the batch's deviation."""

    def __init__(self, config: Model, size: int, classes: Sequence[int]) -> None:
        base, stages = levels_of(size)
        widths = _widths(config.critic_width, config.max_width, stages + 1)
        super().__init__(widths[-1], classes)
        pairs = list(pairwise(widths))
        self.from_rgb = nn.Conv2d(3, widths[0], 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairs)
        self.skips = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in pairs)
        self.mix = nn.Conv2d(widths[-1] + 1, widths[-1], 3, padding=1)
        self.head = nn.Linear(widths[-1] * base * base, 1)
        for layer in (self.from_rgb, *self.convs, self.mix):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
            nn.init.zeros_(layer.bias)

    def extract(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, b, b)."""
        x = F.leaky_relu(self.from_rgb(images), 0.2)
        for conv, skip in zip(self.convs, self.skips, strict=True):
            x = (F.leaky_relu(conv(x), 0.2) + skip(F.avg_pool2d(x, 2))) * math.sqrt(0.5)
        return F.leaky_relu(self.mix(minibatch_std(x, 4)), 0.2)

    def score(self, features: Tensor) -> Tensor:
        """(B, C, b, b) -> (B,)."""
        return self.head(features.flatten(1)).flatten()


def _widths(width: int, cap: int, count: int) -> list[int]:
    """Feature maps of each stage, finest first: twice as many each time, at most `cap`."""
    return [min(width << stage, cap) for stage in range(count)]


def _dcgan_init(layer: nn.Module) -> None:
    """Start as Radford et al. 2016, section 4, and BatchNorm's scale as the PyTorch example does."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)


# ---- the family -----------------------------------------------------------------------------------------------


@final
class GAN(Family):
    """A generator and a critic in turn (Goodfellow et al. 2014)."""

    Config = Model
    Sampling = GANSampling
    optimizers = ("G", "D")
    inference = ("generator",)
    ema_buffers = "average"  # averaged weights need statistics of about their own time
    config: Model

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        self.conditions = conditioning.chosen_labels(config.labels, data)
        classes = [len(data.attributes[name]) for name in self.conditions]
        _check_size(config, data.size)
        dcgan = config.layout == "dcgan"
        self.generator = (DCGenerator if dcgan else SkipGenerator)(config, data.size, classes)
        self.critic = (DCCritic if dcgan else ResidualCritic)(config, data.size, classes)
        if config.spectral_norm:
            for layer in list(self.critic.modules()):
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    spectral_norm(layer)
        self.drawn = adversarial.FakeBuffer()
        self.requested = adversarial.FakeBuffer()
        self.r1 = adversarial.r1_weight(config.r1, config.r1_at, data.size)
        self.penalized = config.r1 > 0 or config.gradient_penalty > 0
        self.lazy = self.penalized and config.penalty_every > 1

    def phases(self) -> tuple[Phase, ...]:
        """Return the updates, the generator's first: the critic then sees the images that it just drew."""
        config = self.config
        found = [
            Phase("G", (self.generator,), self.generator_loss, every=config.critic_steps),
            Phase("D", (self.critic,), self.critic_loss, exact=self.penalized and not self.lazy),
        ]
        if self.lazy:
            lazy = Phase("D_reg", (self.critic,), self.penalty, every=config.penalty_every, shares="D", exact=True)
            found.append(lazy)
        return tuple(found)

    # ---- losses -------------------------------------------------------------------------------------------

    def generator_loss(self, batch: Batch) -> Losses:
        """The generator's side of `model.loss`, and Salimans et al. 2016, eq. in section 3.1, per feature.

        `pixel_variance_ratio` is the variance of drawn images in units of that of real ones.
        """
        fakes, labels = self._generate(batch)
        self.drawn.put(batch.part, fakes)
        if labels is not None:
            self.requested.put(batch.part, labels)
        logits, features = self.critic(self._augmented(fakes), labels)
        loss = adversarial.generator_loss(self.config.loss, logits)
        losses = {"adversarial": loss.detach()}
        if self.config.feature_matching:
            with torch.no_grad():
                _, wanted = self.critic(self._augmented(batch.images), labels)
            distance = (wanted.float().mean(0) - features.float().mean(0)).square().mean()
            losses["feature_matching"] = distance.detach()
            loss = loss + self.config.feature_matching * distance
        return {"loss": loss, **losses, "pixel_variance_ratio": pixel_variance_ratio(fakes.detach(), batch.images)}

    def critic_loss(self, batch: Batch) -> Losses:
        """The critic's side; `real` and `fake` are its mean logits, `certain` the share of real images that it takes for real.

        Real and generated images pass one after the other, so that neither's BatchNorm statistics give them away.
        """
        fakes, labels = self._fakes(batch)
        real, _ = self.critic(self._augmented(batch.images), labels)
        fake, _ = self.critic(self._augmented(fakes), labels)
        loss = adversarial.critic_loss(self.config.loss, real, fake, smooth=self.config.smooth)
        border = 0.5 if self.config.loss == "lsgan" else 0.0
        logs = {"adversarial": loss.detach(), "real": real.detach().mean(), "fake": fake.detach().mean()}
        logs["certain"] = (real.detach() > border).float().mean()
        if self.penalized and not self.lazy:
            penalty = self.penalty(batch)
            logs |= {name: value.detach() for name, value in penalty.items()}
            loss = loss + next(iter(penalty.values()))
        return {"loss": loss, **logs}

    def penalty(self, batch: Batch) -> Losses:
        """R1 on augmented real images, and WGAN-GP between real and generated ones; heavier when lazy."""
        config = self.config
        fakes, labels = self._fakes(batch)
        real = self._augmented(batch.images).detach()
        losses: Losses = {}
        if self.r1:
            losses["r1"] = self.r1 / 2 * self._squared_gradient(real, labels).mean()
        if config.gradient_penalty:
            share = torch.rand(len(real), 1, 1, 1, device=real.device).to(real.dtype)
            between = torch.lerp(self._augmented(fakes).detach(), real, share)
            norm = (self._squared_gradient(between, labels) + 1e-12).sqrt()
            losses["gradient_penalty"] = config.gradient_penalty * (norm - 1).square().mean()
        logs = {name: value.detach() for name, value in losses.items()}
        return {
            "penalty": torch.stack(list(losses.values())).sum() * (config.penalty_every if self.lazy else 1),
            **logs,
        }

    def _augmented(self, images: Tensor) -> Tensor:
        return augmented(images, self.config.augment)

    def _squared_gradient(self, images: Tensor, labels: Tensor | None) -> Tensor:
        images = adversarial.differentiable(images)
        return adversarial.squared_gradient(self.critic(images, labels)[0], images)

    def _generate(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Images for this batch's labels, some left out, and those labels."""
        labels = conditioning.pick_labels(batch.labels, self.conditions, self.data)
        if labels is not None:
            labels = conditioning.drop_labels(labels, self.config.label_drop)
        z = torch.randn(len(batch.images), self.config.latent, device=batch.images.device)
        return self.generator(z, labels), labels

    def _fakes(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The images that the generator just drew, detached, and their labels; new ones where it does not draw at each step."""
        if self.config.critic_steps == 1:
            labeled = self.conditions and batch.labels is not None
            labels = self.requested.get(batch.part) if labeled else None
            return self.drawn.get(batch.part), labels
        with torch.no_grad():
            return self._generate(batch)

    # ---- abilities ----------------------------------------------------------------------------------------

    def sample(
        self,
        noise: Noise,
        labels: Tensor | None,
        sampling: GANSampling,
        callback: Callback | None = None,  # noqa: ARG002  # the signature of Samples
    ) -> Tensor:
        """Draw by one pass of the generator: labels (B, A) or None -> (B, 3, H, W) in [-1, 1]."""
        z = noise(self.config.latent) * sampling.temperature
        return self.generator(z, conditioning.drawn_labels(labels, self.conditions, noise, self.data)).clamp(-1, 1)

    def exported(self, sampling: GANSampling) -> Exported:
        """Export the generator."""
        z = Input("noise", "normal", (self.config.latent,), scale=sampling.temperature)
        inputs = {"z": z, **conditioning.label_input(self.conditions, self.data, drawn=True)}

        def generate(z: Tensor, labels: Tensor | None = None) -> Tensor:
            return self.generator(z, labels).clamp(-1, 1)

        network = Network("generator", generate, inputs, "the image")
        return Exported([network], {}, self.conditions)

    def diagnose(self, figures: Mapping[str, float]) -> Sequence[Finding]:
        """Find mode collapse and a critic that has won."""
        found = []
        ratio = figures.get("G/pixel_variance_ratio")
        loss = figures.get("D/adversarial")
        if ratio is not None and ratio < COLLAPSED:
            says = f"drawn images vary {ratio:.2f} times as much as real ones"
            found.append(Finding("mode collapse", says, self._stronger()))
        limit = WON.get(self.config.loss)
        if loss is not None and limit is not None and loss < limit:
            gap = figures.get("D/real", 0.0) - figures.get("D/fake", 0.0)
            says = f"the critic's loss is {loss:.3f}, its logits for real and drawn images lie {gap:.1f} apart"
            found.append(Finding("critic wins", says, self._stronger()))
        return found

    def _stronger(self) -> str:
        """The next thing that holds a critic back."""
        allowing = " --set model.norm=layer" if self.config.ties_images else ""
        if not self.config.r1 and not self.config.gradient_penalty and not self.config.spectral_norm:
            return f"--set model.r1=10{allowing}"
        if not self.config.augment:
            return "--set model.augment=[color,translation]"
        return f"--set model.r1={max(self.config.r1 * 4, 1):g}{allowing}"


COLLAPSED = 0.15
"""Of `pixel_variance_ratio`: training on faces gives 0.5 to 1 after some tens of steps, a few repeated images less than this."""
WON = {"bce": 0.1, "lsgan": 0.05, "hinge": 0.1}
"""The critic's loss where both sides are right to 95 %; chance is 1.39, 0.5 and 2. WGAN's has no scale."""


def pixel_variance_ratio(fakes: Tensor, reals: Tensor) -> Tensor:
    """Variance over the batch, averaged over pixels, of the first images in units of the second's: a scalar; 1 for one image.

    Both are (B, 3, H, W). It is as well the mean squared distance of two images, in the same units.
    """
    if len(fakes) == 1:
        return torch.ones((), device=fakes.device)
    spread = [images.float().var(0, correction=0).mean() for images in (fakes, reals)]
    return spread[0] / spread[1].clamp_min(1e-6)


def _check_size(config: Model, size: int) -> None:
    base, halvings = levels_of(size)
    if config.layout == "dcgan" and (base != 4 or not halvings):
        raise ConfigError(
            f"a DCGAN draws 4 * 2^k pixels, not {size}",
            hint="prepare the set with `animegen prepare ./faces --resolution 64` (or 32, 128, 256), "
            "or add `--set model.layout=skip`",
        )
    if base >= 16 or not halvings:
        raise ConfigError(
            f"{size} pixels cannot be halved down to fewer than 16",
            hint="prepare the set with a multiple of 8 pixels up to 120, of 16 above, "
            "as `animegen prepare ./faces --resolution 64` does",
        )
