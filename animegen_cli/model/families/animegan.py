"""AnimeGANv2: Chen, Liu & Chen 2019 ("AnimeGAN") with the second version's generator; document 002, section 2.3.

One way only, from photographs to anime: the content of the photograph by its features, the style of anime by a critic
and by Gram matrices of anime without its colors, the colors of the photograph by a loss of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from animegen_cli.config import Amount, Sampling, Section, Span
from animegen_cli.errors import ConfigError
from animegen_cli.model.adversarial import FakeBuffer, generator_loss
from animegen_cli.model.family import Batch, DataSpec, Edit, Exported, Family, Finding, Input, Losses, Network, Phase
from animegen_cli.model.nets import translators
from animegen_cli.model.nets.perceptual import Perceptual, open_features
from animegen_cli.model.nets.precision import full_precision

if TYPE_CHECKING:
    from animegen_cli.model.noise import Noise

Weight = Annotated[float, Field(ge=0)]


OF_VGG19 = 100.0
"""Weights of the game from here on suit features of VGG19 alone: the authors' is 300, that of the `fast` preset 5."""


@dataclass(frozen=True, kw_only=True)
class Model(Section):
    """The two networks, the feature network, and the weights of the losses."""

    renamed: ClassVar[Mapping[str, str]] = {"colour": "color"}

    channels: Annotated[int, Field(ge=4)] = 32
    """Feature maps of the generator's first convolution; eight times as many in its middle."""
    blocks: Annotated[int, Field(ge=1)] = 4
    """Inverted residual blocks."""
    critic_channels: Annotated[int, Field(ge=4)] = 32
    """Feature maps of the critic's first convolution; eight times as many at its end."""
    features: str | None = None
    """A VGG19 file (.pth or .safetensors) whose features are content and style; the package's own trunk when absent."""
    level: Annotated[int, Field(ge=0, le=3)] = 3
    """Which map of it: 0 has the size of the image, 3 an eighth (conv4_4 of VGG19)."""
    content: Weight = 1.5
    """Weight of the photograph's features."""
    style: Weight = 2.5
    """Weight of the Gram matrices of gray anime."""
    color: Weight = 15.0
    """Weight of the photograph's colors."""
    smoothness: Weight = 1.0
    """Weight of the total variation."""
    adversarial: Weight = 300.0
    """Weight of the game, for the generator and for the critic."""
    real: Weight = 1.2
    """Share of anime in the critic's loss."""
    fake: Weight = 1.2
    """Share of translated photographs."""
    gray: Weight = 1.2
    """Share of anime without colors, which the critic shall refuse: colors belong to the style."""
    smooth: Weight = 0.8
    """Share of gray anime with blurred edges, which the critic shall refuse: clear edges belong to the style."""
    edge: Annotated[float, Field(gt=0)] = 0.4
    """Sobel gradient of brightness in [0, 1] from which a pixel is an edge; 0.4 is 100 of 255 levels."""
    edge_width: Annotated[int, Field(ge=3)] = 5
    """Side in pixels, odd, of the neighborhood of an edge and of the Gaussian that blurs it."""
    init: Span = "10 epochs"
    """How long at first the generator learns to keep the content alone, without a critic; images or epochs."""

    def cautions(self) -> list[str]:
        """Warn of the authors' weights without the features that they were found with."""
        if self.features is not None or self.adversarial < OF_VGG19:
            return []
        return [
            f"without VGG19 a game of weight {self.adversarial:g} drowns content and style, which look through the package's own, "
            "smaller features here: name VGG19's file by `--set model.features=vgg19.pth`, or take `--preset fast`"
        ]


@dataclass(frozen=True, kw_only=True)
class AnimeGANSampling(Sampling):
    """A translation has no settings: one pass, no noise."""


# ---- networks -------------------------------------------------------------------------------------------------


class ConvNorm(nn.Module):
    """Convolution with reflected edges, LayerNorm over channels and pixels, LReLU of slope 0.2 unless `linear`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride=stride, padding=kernel // 2, padding_mode="reflect", groups=groups, bias=False
        )  # fmt: skip
        self.norm = nn.GroupNorm(1, outputs)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        x = self.norm(self.conv(x))
        return x if self.linear else F.leaky_relu_(x, 0.2)


class InvertedResidual(nn.Module):
    """Widen by two, convolve each channel by itself, narrow again (Sandler et al. 2018, section 3.4)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        wide = 2 * inputs
        self.expand = ConvNorm(inputs, wide, 1)
        self.depthwise = ConvNorm(wide, wide, groups=wide)
        self.project = ConvNorm(wide, outputs, 1, linear=True)
        self.skip = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        h = self.project(self.depthwise(self.expand(x)))
        return x + h if self.skip else h


class Generator(nn.Module):
    """AnimeGANv2's generator: two halvings, inverted residual blocks, two resized doublings; 8.17 MiB at 32 channels."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        c = channels
        self.down = nn.ModuleList(
            [
                ConvNorm(3, c, 7),
                ConvNorm(c, 2 * c, stride=2),
                ConvNorm(2 * c, 2 * c),
                ConvNorm(2 * c, 4 * c, stride=2),
                ConvNorm(4 * c, 4 * c),
                ConvNorm(4 * c, 4 * c),
            ]
        )
        widths = [4 * c] + [8 * c] * blocks
        self.blocks = nn.ModuleList(InvertedResidual(a, b) for a, b in pairwise(widths))
        self.middle = ConvNorm(8 * c, 4 * c)
        self.up1 = nn.ModuleList([ConvNorm(4 * c, 4 * c), ConvNorm(4 * c, 4 * c)])
        self.up2 = nn.ModuleList([ConvNorm(4 * c, 2 * c), ConvNorm(2 * c, 2 * c), ConvNorm(2 * c, c, 7)])
        self.head = nn.Conv2d(c, 3, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1], H and W multiples of 4 -> the same shape and range."""
        x = images
        for layer in (*self.down, *self.blocks, self.middle):
            x = layer(x)
        for stage in (self.up1, self.up2):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            for layer in stage:
                x = layer(x)
        return torch.tanh(self.head(x))


class SpectralConv(nn.Conv2d):
    """A convolution whose weights, as a matrix of outputs by everything else, have the norm 1 (Miyato et al. 2018, eq. 8).

    Their power iteration carries a vector from step to step. Squaring the Gram matrix takes 64 of its steps at once, from
    the start, so the norm is exact and there is no state.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        return F.conv2d(x, self.weight / self.norm(), self.bias, self.stride, self.padding)

    def norm(self) -> Tensor:
        """Return the largest singular value, a scalar whose gradient is that of u W v with u and v fixed."""
        with full_precision(self.weight):
            matrix = self.weight.flatten(1).float()
            with torch.no_grad():
                power = matrix @ matrix.T
                for _ in range(6):
                    power = power / power.norm()
                    power = power @ power
                u = F.normalize(power.sum(1), dim=0)
                v = F.normalize(matrix.T @ u, dim=0)
            return u @ (matrix @ v)


class Critic(nn.Module):
    """AnimeGANv2's critic: 32; 64 s2, 128; 128 s2, 256; 256; 1, spectral norm in each, LayerNorm where the size stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        shapes = [(3, c, 1), (c, 2 * c, 2), (2 * c, 4 * c, 1), (4 * c, 4 * c, 2), (4 * c, 8 * c, 1), (8 * c, 8 * c, 1)]
        self.convs = nn.ModuleList(
            SpectralConv(inputs, outputs, 3, stride=stride, padding=1) for inputs, outputs, stride in shapes
        )
        self.norms = nn.ModuleList(
            nn.GroupNorm(1, outputs) if stride == 1 and inputs > 3 else nn.Identity()
            for inputs, outputs, stride in shapes
        )
        self.head = SpectralConv(8 * c, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> logits (B, 1, H / 4, W / 4)."""
        x = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu_(norm(conv(x)), 0.2)
        return self.head(x)


# ---- terms of the losses --------------------------------------------------------------------------------------

BT601 = (translators.LUMA, (-0.14714119, -0.28886916, 0.43601035), (0.61497538, -0.51496512, -0.10001026))
"""RGB to Y, U and V (ITU-R BT.601)."""


def yuv(images: Tensor) -> Tensor:
    """Convert RGB (B, 3, H, W) in [-1, 1] to Y in [0, 1], U and V about 0, (B, 3, H, W)."""
    return torch.einsum("cd,bdhw->bchw", images.new_tensor(BT601, dtype=torch.float32), (images.float() + 1) / 2)


def gray(images: Tensor) -> Tensor:
    """Put the brightness of images (B, 3, H, W) in [-1, 1] into all three channels: the same shape and range."""
    weights = images.new_tensor(translators.LUMA).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True).expand_as(images)


def gram(maps: Tensor) -> Tensor:
    """Gram matrices of feature maps (Gatys et al. 2016, eq. 3), over C H W: (B, C, H, W) -> (B, C, C)."""
    flat = maps.float().flatten(2)
    return flat @ flat.transpose(1, 2) / (maps.shape[1] * flat.shape[2])


def color_loss(images: Tensor, photos: Tensor) -> Tensor:
    """L1 on Y and Huber on U and V (Chen et al. 2019, eq. 5) of two (B, 3, H, W) in [-1, 1], a scalar."""
    ours = yuv(images)
    theirs = yuv(photos)
    y = F.l1_loss(ours[:, 0], theirs[:, 0])
    return y + F.huber_loss(ours[:, 1], theirs[:, 1]) + F.huber_loss(ours[:, 2], theirs[:, 2])


def total_variation(images: Tensor) -> Tensor:
    """Mean square of the differences of neighbors, halved, along both axes: (B, C, H, W) -> a scalar."""
    x = images.float()
    return ((x[:, :, 1:] - x[:, :, :-1]).square().mean() + (x[..., 1:] - x[..., :-1]).square().mean()) / 2


def edge_smoothed(images: Tensor, threshold: float, width: int) -> Tensor:
    """Blur around the edges by a Gaussian, nothing elsewhere (Chen et al. 2018, "CartoonGAN", section 3.2.1).

    Args:
        images: (B, 3, H, W) in [-1, 1].
        threshold: of the Sobel gradient of brightness in [0, 1].
        width: side of the dilated edge and of the Gaussian, whose deviation is 0.3 ((width - 1) / 2 - 1) + 0.8.
    """
    channels = images.shape[1]
    half = width // 2
    light = (gray(images)[:, :1] + 1) / 2
    sobel = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    slopes = F.conv2d(F.pad(light, (1, 1, 1, 1), mode="replicate"), torch.stack([sobel, sobel.T]).unsqueeze(1))
    edges = (slopes.square().sum(1, keepdim=True).sqrt() > threshold).to(images.dtype)
    mask = F.max_pool2d(edges, width, stride=1, padding=half)
    steps = torch.arange(width, device=images.device, dtype=images.dtype) - half
    bell = torch.exp(-steps.square() / (2 * (0.3 * (half - 1) + 0.8) ** 2))
    bell = bell / bell.sum()
    padded = F.pad(images, (half, half, half, half), mode="reflect")
    blurred = F.conv2d(padded, bell.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    blurred = F.conv2d(blurred, bell.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return images + mask * (blurred - images)


# ---- the family -----------------------------------------------------------------------------------------------


@final
class AnimeGAN(Family):
    """A light generator, a critic with spectral norm, and losses on features for content and style (Chen et al. 2019)."""

    Config = Model
    Sampling = AnimeGANSampling
    optimizers = ("G", "D")
    inference = ("generator",)
    domains = ("anime", "photos")
    edits: ClassVar[frozenset[str]] = frozenset()
    any_size: ClassVar[bool] = True
    config: Model

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        _check(config, data.size)
        self.generator = Generator(config.channels, config.blocks)
        self.critic = Critic(config.critic_channels)
        self.init_images = Amount.parse(config.init).images(batch=1, count=data.count)
        self.fakes = FakeBuffer()
        self._features: list[Perceptual] = []  # in a list: no part of the states, and not needed to translate

    @property
    def features(self) -> Perceptual:
        """The network whose features are content and style, opened on first use; DataError for a file that is no VGG19."""
        if not self._features:
            path = self.config.features
            self._features.append(open_features(None if path is None else Path(path).expanduser()))
        return self._features[0]

    @property
    def notes(self) -> dict[str, str]:
        """Name and sha256 of the feature network."""
        return {"features": self.features.name, "features_sha256": self.features.sha}

    def phases(self) -> tuple[Phase, ...]:
        """Return the updates, the generator's first; DataError for a file of features that is no VGG19."""
        _ = self.features  # a wrong file is found before training begins
        return (
            Phase("G", (self.generator,), self.generator_loss),
            Phase("D", (self.critic,), self.critic_loss),
        )

    def starting(self, batch: Batch) -> bool:
        """Whether the initial phase, which trains the content alone, still lasts."""
        return batch.images_seen < self.init_images

    def _maps(self, images: Tensor) -> Tensor:
        return self.features.to(images.device)(images)[self.config.level].float()

    def generator_loss(self, batch: Batch) -> Losses:
        """Chen et al. 2019, eq. 6, with p photographs and a anime, each (B, 3, H, W); content alone at first.

        L(G) = w_adv (D(G(p)) - 1)^2 + w_con |f(p) - f(G(p))| + w_sty |Gram f(gray a) - Gram f(G(p))|
        + w_col L_color(G(p), p) + w_tv TV(G(p)) with means everywhere.
        """
        photos = translators.photos_of(batch)
        c = self.config
        fake = self.generator(photos)
        of_fake = self._maps(fake)
        with torch.no_grad():
            of_photos = self._maps(photos)
        content = F.l1_loss(of_fake, of_photos)
        change = F.l1_loss(fake.float(), photos).detach()
        figures = {"content": content, "change": change, "luma_correlation": translators.luma_correlation(photos, fake)}
        if self.starting(batch):
            figures["init"] = torch.ones_like(change)
            return {"loss": c.content * content, **{name: value.detach() for name, value in figures.items()}}
        self.fakes.put(batch.part, fake)
        with torch.no_grad():
            style_of_anime = gram(self._maps(gray(batch.images)))
        terms = {
            "adversarial": generator_loss("lsgan", self.critic(fake)),
            "style": F.l1_loss(gram(of_fake), style_of_anime),
            "colour": color_loss(fake, photos),  # the name that logs hold
            "smoothness": total_variation(fake),
        }
        loss = c.content * content + c.adversarial * terms["adversarial"] + c.style * terms["style"]
        loss = loss + c.color * terms["colour"] + c.smoothness * terms["smoothness"]
        return {"loss": loss, **{name: value.detach() for name, value in (figures | terms).items()}}

    def critic_loss(self, batch: Batch) -> Losses:
        """Chen et al. 2019, eq. 7: anime is 1; translated, gray and gray edge-smoothed anime are 0; squared distances.

        `accuracy` is the share of anime and translated patches classified correctly. In the initial phase nothing is trained.
        """
        anime = batch.images
        c = self.config
        if self.starting(batch):
            # a loss of no parameter: the optimizer sees no gradients and keeps its moments as they are
            return {"loss": torch.zeros((), device=anime.device, requires_grad=True)}
        without = gray(anime)
        smoothed = edge_smoothed(without, c.edge, c.edge_width)
        fake = self.fakes.get(batch.part).to(anime.dtype)
        # one pass: LayerNorm keeps images apart
        real, fake, without, smoothed = self.critic(torch.cat([anime, fake, without, smoothed])).float().chunk(4)
        terms = {
            "real": (real - 1).square().mean(),
            "fake": fake.square().mean(),
            "gray": without.square().mean(),
            "smooth": smoothed.square().mean(),
        }
        loss = c.real * terms["real"] + c.fake * terms["fake"] + c.gray * terms["gray"] + c.smooth * terms["smooth"]
        figures = {name: value.detach() for name, value in terms.items()}
        figures["accuracy"] = translators.patch_accuracy(real, fake, 0.5)
        return {"loss": c.adversarial * loss, **figures}

    def translate(
        self,
        images: Tensor,
        noise: Noise,  # noqa: ARG002  # the signature of Translates
        edit: Edit,  # noqa: ARG002  # the signature of Translates
        sampling: AnimeGANSampling,  # noqa: ARG002  # the signature of Translates
    ) -> Tensor:
        """Turn photographs (B, 3, H, W) in [-1, 1] into anime of the same shape; any multiple of 8 pixels."""
        return self.generator(images).float().clamp(-1, 1)

    def exported(self, sampling: AnimeGANSampling) -> Exported:  # noqa: ARG002  # the signature of Exports
        """Export the generator."""
        photo = Input("image", "a photograph", (3, "height", "width"))

        def translate(photo: Tensor) -> Tensor:
            return self.generator(photo).clamp(-1, 1)

        return Exported([Network("to_anime", translate, {"image": photo}, "the photograph as anime")], {})

    def validate(self, batch: Batch) -> Losses:
        """Measure the losses that need no critic, weighted, on held-out photographs; on anime where there are none."""
        source = batch.images if batch.photos is None else batch.photos
        c = self.config
        fake = self.generator(source)
        of_fake = self._maps(fake)
        content = F.l1_loss(of_fake, self._maps(source))
        color = color_loss(fake, source)
        style = F.l1_loss(gram(of_fake), gram(self._maps(gray(batch.images))))
        likeness = c.content * content + c.style * style + c.color * color
        return {"likeness": likeness, "content": content, "style": style, "colour": color}  # the names that logs hold

    def diagnose(self, figures: Mapping[str, float]) -> list[Finding]:
        """Find color inversion, a critic that wins, a generator that copies; nothing in the initial phase."""
        if figures.get("G/init", 0.0) > 0:
            return []
        color = max(2 * self.config.color, 5)
        style = max(2 * self.config.style, 1)
        return [
            *translators.color_inversion(
                figures, "G/luma_correlation", "photo to anime", f"--set model.color={color:g}"
            ),
            *translators.critic_wins(figures, "--set optim.D.lr=1e-5"),
            *translators.copies(figures, f"--set model.style={style:g}"),
        ]


def _check(config: Model, size: int) -> None:
    translators.check_quarters(size)
    if config.edge_width % 2 == 0 or config.edge_width // 2 >= size:
        raise ConfigError(
            f"`model.edge_width: {config.edge_width}` has no middle pixel or is wider than the image",
            hint="use an odd number such as 5",
        )
