"""StyleGAN2 with adaptive discriminator augmentation: Karras et al. 2020a ("Analyzing and improving the image quality
of StyleGAN") and 2020b ("Training generative adversarial networks with limited data")."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from animegen_cli.config import Sampling, Section
from animegen_cli.errors import ConfigError
from animegen_cli.model import adversarial, conditioning
from animegen_cli.model.ada import Adaptive
from animegen_cli.model.family import Batch, Combine, DataSpec, Exported, Family, Finding, Input, Losses, Network, Phase
from animegen_cli.model.nets import style
from animegen_cli.model.noise import Noise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from animegen_cli.model.family import Features
    from animegen_cli.model.samplers import Callback


@dataclass(frozen=True, kw_only=True)
class Model(Section):
    """The three networks, the regularizers and the augmentation."""

    width: Annotated[int, Field(ge=4)] = 512
    """Length of z and w."""
    mapping: Annotated[int, Field(ge=1)] = 2
    """Layers of the mapping network."""
    mapping_rate: Annotated[float, Field(gt=0)] = 0.01
    """Learning rate of the mapping network in units of the generator's."""
    channel_base: Annotated[int, Field(ge=32)] = 16384
    """Feature maps times resolution, of both generator and critic."""
    channel_max: Annotated[int, Field(ge=4)] = 512
    """Most feature maps."""
    start: Literal["constant", "linear"] = "constant"
    """What synthesis begins with: one learned grid, or a linear map of w, by which faces soon differ in pose."""
    noise: bool = True
    """Noise inputs, one per layer; without them all that an image is comes from w."""
    critic: Literal["residual", "plain"] = "residual"
    """Critic with skip connections, or without."""
    minibatch_std: Annotated[int, Field(ge=1)] = 4
    """Images per group of the minibatch deviation."""
    mixing: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of generated images with two styles."""
    path_length: Annotated[float, Field(ge=0)] = 2.0
    """Weight of path-length regularization; 0 is off."""
    path_every: Annotated[int, Field(ge=1)] = 4
    """Steps between two regularizations of the generator."""
    path_decay: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Step of the running mean of path lengths."""
    path_shrink: Annotated[int, Field(ge=1)] = 2
    """The regularizer sees one in so many images."""
    r1: Annotated[float, Field(ge=0)] = 0.0256
    """Weight gamma of the gradient penalty; 0 is off."""
    r1_at: Annotated[int, Field(ge=16)] | None = None
    """The size at which `r1` holds; it grows with the number of pixels. The weight is fixed when absent."""
    r1_every: Annotated[int, Field(ge=1)] = 16
    """Steps between two penalties of the critic."""
    ada: bool = True
    """Augment the critic's images, so much that it does not overfit."""
    ada_target: Annotated[float, Field(ge=-1, le=1)] = 0.6
    """Wanted mean sign of the critic's logits of real images."""
    ada_speed: Annotated[int, Field(ge=1)] = 500_000
    """Images in which the probability can go from 0 to 1."""
    ada_every: Annotated[int, Field(ge=1)] = 4
    """Steps between two moves of the probability."""
    ada_start: Annotated[float, Field(ge=0, le=1)] = 0.0
    """First probability."""
    w_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Per step, of the running mean of w."""
    labels: tuple[str, ...] | Literal["all"] = "all"
    """Attributes of the data set to condition on."""
    label_drop: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of images trained without labels, so that they need not be given."""


@dataclass(frozen=True, kw_only=True)
class StyleGAN2Sampling(Sampling):
    """How images are drawn."""

    truncation: Annotated[float, Field(ge=0, le=2)] = 1.0
    """psi: 1 draws as trained, 0.7 trades variety for quality, 0 is the mean face (Karras et al. 2019, appendix B)."""
    truncation_cutoff: Annotated[int, Field(ge=0)] | None = None
    """Only so many of the first levels of w are truncated; all when absent."""
    noise: Literal["random", "const", "none"] = "random"
    """Noise inputs: the image's own, the same for all images, or none."""


class PathMean(nn.Module):
    """The running mean of path lengths. What a step observes is counted when the next one begins: its parts see the same mean."""

    combine: ClassVar[Combine] = {"total": "sum", "count": "sum"}

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("step", torch.tensor(-1))
        for name in ("mean", "total", "count"):
            self.register_buffer(name, torch.zeros(()))
        self.step: Tensor
        self.mean: Tensor
        self.total: Tensor
        self.count: Tensor

    @torch.no_grad()
    def observe(self, lengths: Tensor, images_seen: int) -> Tensor:
        """Count lengths (B,) of a part of the step that began at `images_seen`; return the mean before it."""
        ended = (self.step != images_seen) & (self.count > 0)
        moved = torch.lerp(self.mean, self.total / self.count.clamp(min=1), self.decay)
        self.mean.copy_(torch.where(ended, moved, self.mean))
        self.step.fill_(images_seen)
        self.total.zero_()
        self.count.zero_()
        self.total += lengths.sum()
        self.count += len(lengths)
        return self.mean


@final
class StyleGAN2(Family):
    """Mapping and synthesis against a critic that sees augmented images."""

    Config = Model
    Sampling = StyleGAN2Sampling
    optimizers = ("G", "D")
    inference = ("mapping", "synthesis")
    config: Model

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        start, doublings = style.levels_of(data.size)
        if start > 15 or doublings < 2:
            raise ConfigError(
                f"a size of {data.size} pixels does not come from doubling a small grid",
                hint="prepare the set with `animegen prepare ./faces --resolution 64`, or another power of two from 16",
            )
        self.conditions = conditioning.chosen_labels(config.labels, data)
        classes = [len(data.attributes[name]) for name in self.conditions]
        widths = style.widths_of(doublings, config.channel_base, config.channel_max)
        self.mapping = style.Mapping(config.width, config.mapping, rate=config.mapping_rate, classes=classes)
        self.synthesis = style.Synthesis(
            data.size, widths, config.width, noisy=config.noise, constant=config.start == "constant"
        )
        self.critic = style.Critic(
            data.size, widths, residual=config.critic == "residual", group=config.minibatch_std, classes=classes
        )
        self.lengths = PathMean(config.path_decay)
        self.ada = None
        if config.ada:
            self.ada = Adaptive(
                target=config.ada_target, speed=config.ada_speed, every=config.ada_every, start=config.ada_start
            )
        self.r1 = adversarial.r1_weight(config.r1, config.r1_at, data.size)
        self.drawn = adversarial.FakeBuffer()
        self.requested = adversarial.FakeBuffer()

    def phases(self) -> tuple[Phase, ...]:
        """Return the updates: generator, its path lengths, critic, its gradient penalty."""
        config = self.config
        generator = (self.mapping, self.synthesis)
        phases = [Phase("G", generator, self.generator_loss)]
        if config.path_length:
            phases.append(Phase("G_reg", generator, self.path_length, every=config.path_every, shares="G", exact=True))
        phases.append(Phase("D", (self.critic,), self.critic_loss))
        if config.r1:
            phases.append(
                Phase("D_reg", (self.critic,), self.gradient_penalty, every=config.r1_every, shares="D", exact=True)
            )
        return tuple(phases)

    # ---- training -------------------------------------------------------------------------------------------------

    def generator_loss(self, batch: Batch) -> Losses:
        """Non-saturating logistic loss (Goodfellow et al. 2014, section 3); leaves its images for the critic's phase."""
        count = len(batch.images)
        labels = self._dropped(batch)
        ws = self.codes(count, labels, batch.images.device)
        with torch.no_grad():
            self.mapping.w_avg.lerp_(ws[:, 0].detach().mean(0), 1 - self.config.w_decay)
        images = self.synthesis(ws, self.noise_maps(count, ws.device))
        self.drawn.put(batch.part, images)
        if labels is not None:
            self.requested.put(batch.part, labels)
        logits = self.critic(self._augmented(images), labels)
        return {"loss": adversarial.generator_loss("bce", logits)}

    def path_length(self, batch: Batch) -> Losses:
        """(|J_w^T y| - a)^2 with y of normal noise and a its running mean (Karras et al. 2020a, section 3.2)."""
        count = max(len(batch.images) // self.config.path_shrink, 1)
        labels = self._dropped(batch)
        ws = self.codes(count, None if labels is None else labels[:count], batch.images.device)
        images = self.synthesis(ws, self.noise_maps(count, ws.device))
        lengths = path_lengths(images, ws)
        mean = self.lengths.observe(lengths.detach(), batch.images_seen)
        penalty = (lengths - mean).square().mean()
        weight = self.config.path_length * self.config.path_every
        return {"loss": penalty * weight, "penalty": penalty, "length": lengths.mean()}

    def critic_loss(self, batch: Batch) -> Losses:
        """Logistic loss on real images and on those that the generator's phase left, both augmented."""
        real = batch.images
        fake = self.drawn.get(batch.part)
        labeled = self.conditions and batch.labels is not None
        labels = self.requested.get(batch.part).repeat(2, 1) if labeled else None
        logits = self.critic(self._augmented(torch.cat([real, fake.to(real.dtype)])), labels, batches=2)
        on_real, on_fake = logits.chunk(2)
        figures = {
            "loss": adversarial.critic_loss("bce", on_real, on_fake),
            "real": on_real.mean(),
            "fake": on_fake.mean(),
            "signs": on_real.sign().mean(),
            "thumbnail_std_ratio": thumbnail_std_ratio(fake, real),
        }
        if self.ada is not None:
            figures["ada_p"] = self.ada.p.clone()
            self.ada.observe(on_real.detach(), batch.images_seen)
        return figures

    def gradient_penalty(self, batch: Batch) -> Losses:
        """R1: gamma / 2 E|grad_x D(x)|^2 on real images (Mescheder et al. 2018, eq. 9)."""
        images = adversarial.differentiable(batch.images)
        logits = self.critic(self._augmented(images), self._dropped(batch))
        penalty = adversarial.squared_gradient(logits, images).mean()
        return {"loss": penalty * (self.r1 / 2 * self.config.r1_every), "penalty": penalty}

    def _dropped(self, batch: Batch) -> Tensor | None:
        """The batch's labels of this run's conditions, (B, A), some left out; None without conditions."""
        labels = conditioning.pick_labels(batch.labels, self.conditions, self.data)
        return None if labels is None else conditioning.drop_labels(labels, self.config.label_drop)

    def _augmented(self, images: Tensor) -> Tensor:
        return images if self.ada is None else self.ada(images)

    def codes(self, count: int, labels: Tensor | None, device: torch.device) -> Tensor:
        """Draw ws (count, codes, width) from random z; some with a second style from a random level on (mixing)."""
        codes = self.synthesis.codes
        if not self.config.mixing:
            return self.mapping(torch.randn(count, self.config.width, device=device), labels)[:, None].expand(
                -1, codes, -1
            )
        z = torch.randn(2 * count, self.config.width, device=device)
        first, second = self.mapping(z, None if labels is None else labels.repeat(2, 1))[:, None].chunk(2)
        cut = torch.randint(1, codes, (count, 1, 1), device=device)
        cut = torch.where(torch.rand(count, 1, 1, device=device) < self.config.mixing, cut, codes)
        return torch.where(torch.arange(codes, device=device)[:, None] < cut, first, second)

    def noise_maps(self, count: int, device: torch.device) -> tuple[Tensor, ...]:
        """Draw the noise inputs, one (count, 1, side, side) for each of `synthesis.sides`."""
        return tuple(torch.randn(count, 1, side, side, device=device) for side in self.synthesis.sides)

    # ---- drawing --------------------------------------------------------------------------------------------------

    def _code(self, noise: Noise, labels: Tensor | None) -> Tensor:
        """w (B, width) of the noise's first numbers."""
        requested = conditioning.drawn_labels(labels, self.conditions, noise, self.data)
        return self.mapping(noise(self.config.width), requested)

    def _maps(self, noise: Noise, sampling: StyleGAN2Sampling) -> tuple[Tensor, ...] | None:
        """The noise inputs as `sampling.noise` wants them."""
        if sampling.noise == "none":
            return None
        source = Noise([0] * len(noise), noise.device) if sampling.noise == "const" else noise
        return tuple(source(1, side, side) for side in self.synthesis.sides)

    def _truncated(self, w: Tensor, sampling: StyleGAN2Sampling, psi: Tensor | None = None) -> Tensor:
        """w (B, width) -> ws (B, codes, width), drawn towards the mean of w by psi, that of `sampling` or (B, 1, 1)."""
        ws = w[:, None].expand(-1, self.synthesis.codes, -1)
        mean = self.mapping.w_avg.to(w.dtype)
        levels = torch.arange(self.synthesis.codes, device=w.device)[:, None]
        near = self.synthesis.codes if sampling.truncation_cutoff is None else sampling.truncation_cutoff
        if psi is None and sampling.truncation == 1:
            return ws
        return torch.where(levels < near, torch.lerp(mean, ws, sampling.truncation if psi is None else psi), ws)

    def exported(self, sampling: StyleGAN2Sampling) -> Exported:
        """Export mapping, truncation and synthesis in one; the noise maps come in too."""
        psi = Input("share", "truncation psi: 1 draws as trained, 0 is the mean face", scale=sampling.truncation)
        strength = 0.0 if sampling.noise == "none" else 1.0
        maps = {
            f"noise_{i:02d}": Input("noise", "noise input; zeros for none", (1, side, side), scale=strength)
            for i, side in enumerate(self.synthesis.sides)
        }
        z = Input("noise", "normal", (self.config.width,))
        requested = conditioning.label_input(self.conditions, self.data, drawn=True)

        def generate(z: Tensor, psi: Tensor, *rest: Tensor) -> Tensor:
            labels, maps = (rest[0], rest[1:]) if requested else (None, rest)
            ws = self._truncated(self.mapping(z, labels), sampling, psi.view(-1, 1, 1))
            return self.synthesis(ws, maps).clamp(-1, 1)

        network = Network("generator", generate, {"z": z, "truncation": psi, **requested, **maps}, "the image")
        return Exported([network], {}, self.conditions)

    def sample(
        self,
        noise: Noise,
        labels: Tensor | None,
        sampling: StyleGAN2Sampling,
        callback: Callback | None = None,  # noqa: ARG002  # the signature of Samples
    ) -> Tensor:
        """Draw in one pass, z -> w, truncated -> image: labels (B, A) or None -> (B, 3, H, W) in [-1, 1]."""
        ws = self._truncated(self._code(noise, labels), sampling)
        return self.synthesis(ws, self._maps(noise, sampling)).clamp(-1, 1)

    def mix(
        self, coarse: Noise, fine: Noise, labels: Tensor | None, sampling: StyleGAN2Sampling, cut: int | None = None
    ) -> Tensor:
        """Mix styles (Karras et al. 2019, section 3.1): w of `coarse` in the first `cut` layers; the noise inputs are its own."""
        first, second = (self._truncated(self._code(noise, labels), sampling) for noise in (coarse, fine))
        levels = torch.arange(self.synthesis.codes, device=first.device)[:, None]
        ws = torch.where(levels < (self.synthesis.codes // 2 if cut is None else cut), first, second)
        return self.synthesis(ws, self._maps(coarse, sampling)).clamp(-1, 1)

    def interpolate(
        self, start: Noise, end: Noise, fractions: Tensor, labels: Tensor | None, sampling: StyleGAN2Sampling
    ) -> Tensor:
        """Go linearly in w (Karras et al. 2019, section 4.1), spherically in the noise inputs; the ends are the seeds' images.

        Args:
            start: noise of one row, or of one per fraction.
            end: noise of as many rows.
            fractions: (F,) in [0, 1].
            labels: (F, A) of both ends, or None.
            sampling: truncation and noise inputs.

        Returns:
            Images (F, 3, H, W) in [-1, 1].
        """
        part, device = fractions.double(), start.device  # fractions are on the CPU: not every device knows float64
        rows = [None if labels is None else labels[: len(noise)] for noise in (start, end)]
        first, second = (self._code(noise, row) for noise, row in zip((start, end), rows, strict=True))
        w = first + part.to(device, first.dtype)[:, None] * (second - first)
        maps = self._maps(start, sampling)
        others = self._maps(end, sampling)
        if maps is not None and others is not None:
            angle = part[:, None, None, None] * (math.pi / 2)
            from_start = angle.cos().float().to(device)
            from_end = angle.sin().float().to(device)
            if sampling.noise == "const":
                from_start = torch.ones_like(from_start)
                from_end = torch.zeros_like(from_end)
            maps = tuple(a * from_start + b * from_end for a, b in zip(maps, others, strict=True))
        return self.synthesis(self._truncated(w, sampling), maps).clamp(-1, 1)

    @torch.enable_grad()
    def project(
        self, images: Tensor, noise: Noise, steps: int, features: Features | None, callback: Callback | None
    ) -> Tensor:
        """Descend by gradients in w and in the noise inputs (Karras et al. 2020a, section 5 and appendix D).

        Adam at a rate of 0.1 that rises over the first 5 % and falls over the last 25 % of the steps; w gets noise that
        ends after 75 % of them. The distance is relative to the size of the target's features.
        """
        center, spread = self._spread(images.device)
        w = center.repeat(len(images), 1).requires_grad_()
        maps = [noise(1, side, side).requires_grad_() for side in self.synthesis.sides]
        describe = features if features is not None else _pixels
        target = describe(images).detach()
        size = target.square().mean(1).clamp(min=1e-8)
        optimizer = torch.optim.Adam([w, *maps], lr=0.1)
        for step in range(steps):
            share = step / steps
            falling = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - share) / 0.25))
            optimizer.param_groups[0]["lr"] = 0.1 * falling * min(1.0, (share + 1 / steps) / 0.05)
            jitter = 0.05 * spread * max(0.0, 1 - share / 0.75) ** 2
            current = self._image(w + jitter * noise(self.config.width), maps)
            distance = (describe(current) - target).square().mean(1) / size
            loss = (distance + (1e5 * noise_correlation(maps) if maps else 0)).sum()
            for leaf, gradient in zip([w, *maps], torch.autograd.grad(loss, [w, *maps]), strict=True):
                leaf.grad = gradient
            optimizer.step()
            with torch.no_grad():
                for plane in maps:
                    plane.sub_(plane.mean((1, 2, 3), keepdim=True))
                    plane.mul_(plane.square().mean((1, 2, 3), keepdim=True).rsqrt())
            if callback is not None and (step % max(steps // 10, 1) == 0 or step == steps - 1):
                callback(step, current.detach().clamp(-1, 1), images)
        with torch.no_grad():
            return self._image(w, maps).clamp(-1, 1)

    def _image(self, w: Tensor, maps: Sequence[Tensor]) -> Tensor:
        return self.synthesis(w[:, None].expand(-1, self.synthesis.codes, -1), tuple(maps))

    @torch.no_grad()
    def _spread(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean (width,) of w over 10,000 codes, and the root of their mean squared distance from it."""
        z = torch.randn(10_000, self.config.width, generator=torch.Generator().manual_seed(0)).to(device)
        w = self.mapping(z)
        center = w.mean(0)
        return center, (w - center).square().sum(1).mean().sqrt()

    # ---- failure --------------------------------------------------------------------------------------------------

    def diagnose(self, figures: Mapping[str, float]) -> Sequence[Finding]:
        """Find a critic that wins or overfits, generated images that are all alike, augmentation at its limit."""
        found = []
        loss, signs, ratio = (figures.get(f"D/{name}") for name in ("loss", "signs", "thumbnail_std_ratio"))
        # Two coins give 2 log 2 = 1.39, healthy runs stay above 0.6; at 0.1 the generator's gradients are noise.
        if loss is not None and loss < 0.1:
            says = f"the critic's loss is {loss:.3g}, where a critic that cannot tell has 1.39"
            found.append(Finding("critic wins", says, f"--set model.r1={self.config.r1 * 4:g}"))
        # Colors of real and generated batches vary alike (0.7 to 1.3) once the first steps are over; a collapsed
        # generator paints one face in its noise inputs' variety, below a fifth.
        if ratio is not None and ratio < 0.2:
            says = f"generated images vary {ratio:.2g} times as much as real ones"
            found.append(Finding("mode collapse", says, f"--set model.minibatch_std={self.config.minibatch_std * 2}"))
        # 0.8 in the first thousands of images, then 0.4 to 0.6; ADA would hold it at 0.6 (Karras et al. 2020b, section 3.1).
        if self.ada is None and signs is not None and signs > 0.9:
            says = f"the critic takes {(1 + signs) / 2:.0%} of real images for real and learns them by heart"
            found.append(Finding("critic overfits", says, "--set model.ada=true"))
        # Above about 0.85 augmentations leak into the generated images (Karras et al. 2020b, section 2.2).
        p = figures.get("D/ada_p")
        if p is not None and p > 0.85 and signs is not None and signs > self.config.ada_target:
            says = (
                f"augmentation with probability {p:.2f} no longer keeps the critic from overfitting (sign {signs:.2f})"
            )
            found.append(Finding("augmentation at its limit", says, f"--set model.r1={self.config.r1 * 2:g}"))
        return found


def path_lengths(images: Tensor, ws: Tensor) -> Tensor:
    """|J^T y| per image for normal y, with the root mean square over the codes of ws.

    Args:
        images: (B, 3, H, W), a differentiable function of ws.
        ws: (B, codes, width).
    """
    y = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


@torch.no_grad()
def thumbnail_std_ratio(fake: Tensor, real: Tensor) -> Tensor:
    """Mean deviation over the batch of thumbnails of 4 x 4 pixels, generated ones' in units of real ones': a scalar.

    Both are (B, 3, H, W). So coarse, it does not see what the noise inputs vary.
    """
    spread = [F.adaptive_avg_pool2d(images.float(), 4).std(0, correction=0).mean() for images in (fake, real)]
    return spread[0] / spread[1].clamp(min=1e-3)


def noise_correlation(maps: Sequence[Tensor]) -> Tensor:
    """Sum over noise inputs and their halvings down to 8 pixels of the squared correlation with both neighbors.

    Karras et al. 2020a, appendix D, eq. 6: otherwise the image is written into the noise. Maps (B, 1, S, S) -> (B,).
    """
    total = torch.zeros(len(maps[0]), device=maps[0].device)
    for plane in maps:
        while True:
            for axis in (2, 3):
                total = total + (plane * plane.roll(1, axis)).mean((1, 2, 3)).square()
            if plane.shape[2] <= 8 or plane.shape[2] % 2:
                break
            plane = F.avg_pool2d(plane, 2) * 2  # keeps the variance of white noise
    return total


def _pixels(images: Tensor) -> Tensor:
    """The images (B, 3, H, W) at no more than 64 pixels a side, flattened to (B, D)."""
    return F.adaptive_avg_pool2d(images, min(images.shape[2], 64)).flatten(1)
