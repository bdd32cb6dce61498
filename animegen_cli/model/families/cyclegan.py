"""CycleGAN: Zhu, Park, Isola & Efros 2017; document 002, section 2.5.

Two domains without pairs: photographs X and anime faces Y. `to_anime` is the paper's G: X -> Y, `to_photo` its
F: Y -> X, and each has a critic that judges patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from animegen_cli.config import Sampling, Section
from animegen_cli.errors import ConfigError
from animegen_cli.model.adversarial import FakeBuffer, critic_loss, generator_loss
from animegen_cli.model.family import (
    Batch,
    Combine,
    DataSpec,
    Edit,
    Exported,
    Family,
    Finding,
    Input,
    Losses,
    Network,
    Phase,
)
from animegen_cli.model.nets import translators

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animegen_cli.model.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Model(Section):
    """The two pairs of networks and the weights of the losses."""

    channels: Annotated[int, Field(ge=4)] = 64
    """Feature maps of a generator at full resolution; twice and four times as many after its two halvings."""
    blocks: Annotated[int, Field(ge=1)] = 9
    """Residual blocks of a generator: 9 for 256 pixels, 6 for 128."""
    upsample: Literal["transposed", "resize"] = "transposed"
    """Fractionally strided convolution, or bilinear resizing and a convolution, which leaves no checkerboard."""
    critic_channels: Annotated[int, Field(ge=4)] = 64
    """Feature maps after a critic's first convolution."""
    critic_layers: Annotated[int, Field(ge=1, le=5)] = 3
    """Halvings of a critic: patches of 16, 34, 70, 142 or 286 pixels."""
    loss: Literal["lsgan", "bce"] = "lsgan"
    """Least squares, or the log loss of document 002's equations 1 and 2."""
    cycle_photos: Annotated[float, Field(ge=0)] = 10.0
    """Weight of |F(G(x)) - x|."""
    cycle_anime: Annotated[float, Field(ge=0)] = 10.0
    """Weight of |G(F(y)) - y|."""
    identity: Annotated[float, Field(ge=0)] = 0.5
    """Weight of |G(y) - y| and |F(x) - x|, in units of the cycle weights; 0 saves their cost."""
    pool: Annotated[int, Field(ge=0)] = 50
    """Translated images that the critics remember; 0 shows them the newest alone."""


@dataclass(frozen=True, kw_only=True)
class CycleGANSampling(Sampling):
    """A translation has no settings: one pass, no noise."""


# ---- networks -------------------------------------------------------------------------------------------------


def instance_norm(channels: int) -> nn.GroupNorm:
    """Ulyanov et al. 2016, without affine weights: one group per channel, whose kernel is the faster one on a CPU."""
    return nn.GroupNorm(channels, channels, affine=False)


class Residual(nn.Module):
    """R256 of the paper's appendix: (B, C, H, W) plus two 3x3 convolutions of itself, edges reflected."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3)
        self.norm1 = instance_norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3)
        self.norm2 = instance_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        h = F.relu_(self.norm1(self.conv1(F.pad(x, (1, 1, 1, 1), mode="reflect"))))
        return x + self.norm2(self.conv2(F.pad(h, (1, 1, 1, 1), mode="reflect")))


class Up(nn.Module):
    """u128 and u64 of the paper's appendix: twice the size, half the channels."""

    def __init__(self, inputs: int, *, resize: bool) -> None:
        super().__init__()
        self.resize = resize
        self.conv: nn.Module = (
            nn.Conv2d(inputs, inputs // 2, 3, padding=1)
            if resize
            else nn.ConvTranspose2d(inputs, inputs // 2, 3, stride=2, padding=1, output_padding=1)
        )
        self.norm = instance_norm(inputs // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C / 2, 2 H, 2 W)."""
        if self.resize:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return F.relu_(self.norm(self.conv(x)))


class Generator(nn.Module):
    """c7s1-64, d128, d256, R256 x blocks, u128, u64, c7s1-3 (Zhu et al. 2017, appendix 7.2; Johnson et al. 2016)."""

    def __init__(self, channels: int, blocks: int, *, resize: bool) -> None:
        super().__init__()
        widths = (channels, 2 * channels, 4 * channels)
        self.stem = nn.Conv2d(3, channels, 7)
        self.stem_norm = instance_norm(channels)
        self.down = nn.ModuleList(nn.Conv2d(w, 2 * w, 3, stride=2, padding=1) for w in widths[:2])
        self.down_norms = nn.ModuleList(instance_norm(2 * w) for w in widths[:2])
        self.blocks = nn.ModuleList(Residual(widths[2]) for _ in range(blocks))
        self.up = nn.ModuleList(Up(w, resize=resize) for w in widths[:0:-1])
        self.head = nn.Conv2d(channels, 3, 7)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1], H and W multiples of 4 -> the same shape and range."""
        x = F.relu_(self.stem_norm(self.stem(F.pad(images, (3, 3, 3, 3), mode="reflect"))))
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            x = F.relu_(norm(conv(x)))
        for block in (*self.blocks, *self.up):
            x = block(x)
        return torch.tanh(self.head(F.pad(x, (3, 3, 3, 3), mode="reflect")))


class PatchCritic(nn.Module):
    """C64-C128-C256-C512 and a map of logits (Zhu et al. 2017, appendix 7.2; Isola et al. 2017, section 2.2.2).

    The last two convolutions keep the size: with three halvings each logit sees 70 x 70 pixels, and 256 pixels make
    30 x 30 logits, which is what document 002 states although it gives every layer a stride of 2.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        widths = [channels * min(2**level, 8) for level in range(layers + 1)]
        self.stem = nn.Conv2d(3, channels, 4, stride=2, padding=1)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 4, stride=2 if level < layers else 1, padding=1)
            for level, (inputs, outputs) in enumerate(pairwise(widths), start=1)
        )
        self.norms = nn.ModuleList(instance_norm(width) for width in widths[1:])
        self.head = nn.Conv2d(widths[-1], 1, 4, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> logits (B, 1, H / 2^layers - 2, W / 2^layers - 2)."""
        x = F.leaky_relu_(self.stem(images), 0.2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu_(norm(conv(x)), 0.2)
        return self.head(x)


class ImagePool(nn.Module):
    """The last translated images, so that critics do not forget (Shrivastava et al. 2017, section 2.3).

    Buffers, so that they survive a kill; in 8 bits, as the real images are. Each part of a step has a piece of the pool to
    itself; `filled` says how many images there are in each piece.
    """

    combine: ClassVar[Combine] = {"images": "pieces"}

    def __init__(self, capacity: int, size: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.register_buffer("images", torch.zeros(capacity, 3, size, size, dtype=torch.uint8))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.images: Tensor
        self.filled: Tensor

    def forward(self, fakes: Tensor, part: int = 0, parts: int = 1) -> Tensor:
        """New images (B, 3, S, S) in [-1, 1] -> what the critic is shown, the same shape; `part` and `parts` as in `Batch`.

        Until the piece is full each new image is stored and shown. Then, for each, one time in two, a stored image is
        shown and the new one takes its place. No wait for the device: all choices are tensors.
        """
        room = self.capacity // parts
        if room == 0:
            return fakes
        begin = (
            part * self.capacity // parts
        )  # pieces may differ by one image; the last one of a longer one stays empty
        piece = self.images[begin : begin + room]
        return torch.cat([self._exchange(some, piece) for some in fakes.split(room)])

    def _exchange(self, fakes: Tensor, piece: Tensor) -> Tensor:
        fakes = fakes.float()
        device = fakes.device
        count, room = len(fakes), len(piece)
        full = self.filled >= room
        order = self.filled + torch.arange(count, device=device)
        # distinct places, or two new images would fight for one
        place = torch.where(full, torch.rand(room, device=device).argsort()[:count], order % room)
        swap = full & (torch.rand(count, device=device) < 0.5)
        enters = (swap | (order < room)).view(-1, 1, 1, 1)
        stored = piece[place]
        new = (fakes * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        piece[place] = torch.where(enters, new, stored)
        self.filled.copy_((self.filled + count).clamp(max=room))
        return torch.where(swap.view(-1, 1, 1, 1), stored.float() / 127.5 - 1, fakes)


# ---- the family -----------------------------------------------------------------------------------------------


@final
class CycleGAN(Family):
    """Two generators that undo each other, two critics of patches (Zhu et al. 2017)."""

    Config = Model
    Sampling = CycleGANSampling
    optimizers = ("G", "D")
    inference = ("to_anime", "to_photo")
    domains = ("anime", "photos")
    edits: ClassVar[frozenset[str]] = frozenset({"reverse"})
    any_size: ClassVar[bool] = True
    config: Model

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        _check(config, data.size)

        def generator() -> Generator:
            return Generator(config.channels, config.blocks, resize=config.upsample == "resize")

        self.to_anime = generator()
        self.to_photo = generator()
        self.anime_critic = PatchCritic(config.critic_channels, config.critic_layers)
        self.photo_critic = PatchCritic(config.critic_channels, config.critic_layers)
        self.anime_pool = ImagePool(config.pool, data.size)
        self.photo_pool = ImagePool(config.pool, data.size)
        self.fake_anime = FakeBuffer()
        self.fake_photos = FakeBuffer()
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)  # the paper's appendix 7.1
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def phases(self) -> tuple[Phase, ...]:
        """Return the updates: both generators, then both critics on the images that those left."""
        return (
            Phase("G", (self.to_anime, self.to_photo), self.generators_loss),
            Phase("D", (self.anime_critic, self.photo_critic), self.critics_loss),
        )

    def generators_loss(self, batch: Batch) -> Losses:
        """Equation 3 and the identity loss of section 5.2, with x photographs and y anime, each (B, 3, H, W).

        L(G) = L_GAN(G, D_Y) + L_GAN(F, D_X) + a |F(G(x)) - x| + b |G(F(y)) - y| + i (b |G(y) - y| + a |F(x) - x|)
        with mean absolute errors. `luma_correlation` is that of the brightness of x and G(x), -1 for a negative.
        """
        x = translators.photos_of(batch)
        y = batch.images
        c = self.config
        fake_y, same_y = self._with_identity(self.to_anime, x, y)
        fake_x, same_x = self._with_identity(self.to_photo, y, x)
        self.fake_anime.put(batch.part, fake_y)
        self.fake_photos.put(batch.part, fake_x)
        adversarial = generator_loss(c.loss, self.anime_critic(fake_y)) + generator_loss(
            c.loss, self.photo_critic(fake_x)
        )
        cycle_x = _distance(self.to_photo(fake_y), x)
        cycle_y = _distance(self.to_anime(fake_x), y)
        loss = adversarial + c.cycle_photos * cycle_x + c.cycle_anime * cycle_y
        figures = {"adversarial": adversarial, "cycle_photos": cycle_x, "cycle_anime": cycle_y}
        if same_x is not None and same_y is not None:
            identity = c.cycle_anime * _distance(same_y, y) + c.cycle_photos * _distance(same_x, x)
            loss = loss + c.identity * identity
            figures["identity"] = identity
        figures["change"] = _distance(fake_y, x)
        figures["luma_correlation"] = translators.luma_correlation(x, fake_y)
        figures["luma_correlation_reverse"] = translators.luma_correlation(y, fake_x)
        return {"loss": loss, **{name: value.detach() for name, value in figures.items()}}

    def _with_identity(self, net: nn.Module, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """The translation of `source`, and what becomes of `target`, in one pass: InstanceNorm keeps images apart."""
        if self.config.identity == 0:
            return net(source), None
        both = net(torch.cat([source, target]))
        return both[: len(source)], both[len(source) :]

    def critics_loss(self, batch: Batch) -> Losses:
        """Equation 1 of both critics on real and pooled images, halved (the paper's appendix 7.1).

        `accuracy` is the share of patches that they classify correctly, about 0.5 to 0.9 in a healthy game.
        """
        fake_anime = self.anime_pool(self.fake_anime.get(batch.part), batch.part, batch.parts)
        anime, anime_accuracy = self._one_critic(self.anime_critic, batch.images, fake_anime)
        fake_photos = self.photo_pool(self.fake_photos.get(batch.part), batch.part, batch.parts)
        photos, photos_accuracy = self._one_critic(self.photo_critic, translators.photos_of(batch), fake_photos)
        return {
            "loss": anime + photos,
            "anime": anime.detach(),
            "photos": photos.detach(),
            "accuracy": (anime_accuracy + photos_accuracy) / 2,
        }

    def _one_critic(self, critic: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Half of one critic's loss, and the share of patches that it classifies correctly."""
        of_real, of_fake = critic(torch.cat([real, fake])).float().chunk(2)
        accuracy = translators.patch_accuracy(of_real, of_fake, 0.5 if self.config.loss == "lsgan" else 0.0)
        return critic_loss(self.config.loss, of_real, of_fake) / 2, accuracy

    def translate(
        self,
        images: Tensor,
        noise: Noise,  # noqa: ARG002  # the signature of Translates
        edit: Edit,
        sampling: CycleGANSampling,  # noqa: ARG002  # the signature of Translates
    ) -> Tensor:
        """Turn photographs (B, 3, H, W) in [-1, 1] into anime, or back with `edit.reverse`; any multiple of 8 pixels."""
        net = self.to_photo if edit.reverse else self.to_anime
        return net(images).float().clamp(-1, 1)

    def exported(self, sampling: CycleGANSampling) -> Exported:  # noqa: ARG002  # the signature of Exports
        """Export both generators."""
        photo, anime = (Input("image", what, (3, "height", "width")) for what in ("a photograph", "an anime face"))
        networks = [
            Network("to_anime", lambda x: self.to_anime(x).clamp(-1, 1), {"image": photo}, "the photograph as anime"),
            Network("to_photo", lambda y: self.to_photo(y).clamp(-1, 1), {"image": anime}, "the face as a photograph"),
        ]
        return Exported(networks, {})

    def validate(self, batch: Batch) -> Losses:
        """Measure the cycle errors on held-out images; without photographs that of anime alone."""
        y = batch.images
        cycle_y = _distance(self.to_anime(self.to_photo(y)), y)
        if batch.photos is None:
            return {"cycle": cycle_y, "cycle_anime": cycle_y}
        cycle_x = _distance(self.to_photo(self.to_anime(batch.photos)), batch.photos)
        return {"cycle": (cycle_x + cycle_y) / 2, "cycle_photos": cycle_x, "cycle_anime": cycle_y}

    def diagnose(self, figures: Mapping[str, float]) -> list[Finding]:
        """Find color inversion, a critic that wins, generators that copy."""
        more = f"--set model.identity={max(2 * self.config.identity, 0.5):g}"
        less = f"--set model.identity={self.config.identity / 5:g}"
        return [
            *translators.color_inversion(figures, "G/luma_correlation", "photo to anime", more),
            *translators.color_inversion(figures, "G/luma_correlation_reverse", "anime to photo", more),
            *translators.critic_wins(figures, "--set optim.D.lr=5e-5"),
            *translators.copies(figures, less),
        ]


def _check(config: Model, size: int) -> None:
    translators.check_quarters(size)
    if size // 2**config.critic_layers < 3:
        layers = next((n for n in range(config.critic_layers, 0, -1) if size // 2**n >= 3), 1)
        raise ConfigError(
            f"{config.critic_layers} halvings leave nothing of {size} pixels to judge",
            hint=f"use `--set model.critic_layers={layers}`",
        )


def _distance(image: Tensor, target: Tensor) -> Tensor:
    return F.l1_loss(image.float(), target.float())
