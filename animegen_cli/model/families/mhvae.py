"""Hierarchical variational autoencoders: document 004, after Child 2021 (VDVAE) and Vahdat & Kautz 2020 (NVAE).

-ELBO = -E ln p(x | z) + sum_l E KL(q(z_l | z_<l, x) || p(z_l | z_<l)), in nats per image. One loss and one top-down walk
(`nets/hierarchy.py`) serve three backbones, so that the document's comparison is three presets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, final

import torch
from pydantic import Field
from torch import Tensor

from animegen_cli.config import Amount, Sampling, Section, Span
from animegen_cli.errors import ConfigError, UsageError
from animegen_cli.model import latent_prior, likelihoods
from animegen_cli.model.family import Batch, DataSpec, Edit, Exported, Family, Finding, Input, Losses, Network, Phase
from animegen_cli.model.latent_prior import Diffusion, DiffusionPrior
from animegen_cli.model.nets.hierarchy_build import CNN, MLP, ViT, build_cnn, build_mlp, build_vit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from animegen_cli.model.nets.hierarchy import Hierarchy, MLPEncoder, Moments
    from animegen_cli.model.nets.hierarchy_cnn import CNNEncoder
    from animegen_cli.model.nets.hierarchy_vit import ViTEncoder
    from animegen_cli.model.noise import Noise
    from animegen_cli.model.samplers import Callback

ASLEEP = 0.01
"""Nats; a group whose mean KL is smaller carries nothing about the image: a seventieth of one bit."""


@dataclass(frozen=True, kw_only=True)
class Model(Section):
    """The backbone, the likelihood and how the divergences are weighed."""

    backbone: Literal["cnn", "vit", "mlp"] = "cnn"
    """Encoder and decoder: the section of this name counts, the others are idle."""
    cnn: CNN = field(default_factory=CNN)
    """Sizes of the convolutional backbone."""
    vit: ViT = field(default_factory=ViT)
    """Sizes of the transformer."""
    mlp: MLP = field(default_factory=MLP)
    """Sizes of the MLP."""
    likelihood: Literal["dmol", "gaussian"] = "dmol"
    """Distribution of the pixels: a discretized mixture of logistics (Salimans et al. 2017), or a Gaussian with one learned
    deviation."""
    mixtures: Annotated[int, Field(ge=1)] = 10
    """Components of `dmol`."""
    posterior: Literal["residual", "direct"] = "residual"
    """Relative to the prior (Vahdat & Kautz 2020, section 3.2), or on its own (Child 2021)."""
    beta: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the divergences; 1 is the ELBO (Higgins et al. 2017)."""
    warmup: Span = "0 images"
    """The divergences' weight rises linearly over so many images or epochs."""
    prior: Literal["normal", "diffusion"] = "normal"
    """Of the top groups that are maps of one size: each normal given those above it, or a diffusion model of all of them."""
    diffusion: Diffusion = field(default_factory=Diffusion)
    """The network of that prior."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of each batch from which the hierarchy learns; a diffusion prior learns from all of it."""
    balance: bool = True
    """During the warm-up groups with a small divergence pay less (Vahdat & Kautz 2020, authors' code)."""
    free_bits: Annotated[float, Field(ge=0)] = 0.0
    """Nats per channel of latents below which the divergence is no loss (Kingma et al. 2016, appendix C.8)."""


@dataclass(frozen=True, kw_only=True)
class MHVAESampling(Sampling):
    """How a hierarchy draws."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Factor on the priors' deviations; below 1 safer and less varied."""
    levels: Annotated[int, Field(ge=1)] | None = None
    """Only so many of the top groups are drawn, the others take their prior's mean; all when None."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Calls of a diffusion prior's network; 16 when None. A normal prior has none."""


class Bound(NamedTuple):
    """The terms of the bound, for one draw of the latents."""

    nats: Tensor
    """-ln p(x | z), (B,)."""
    divergences: list[Tensor]
    """Per group (B, C), nats, summed over positions."""
    means: Tensor
    """The likelihood's mean image, (B, 3, H, W)."""
    codes: Tensor
    """The top groups of one size as the noise that their priors draw them from, (B, ...)."""
    entropy: Tensor
    """Of the posterior of `codes`, (B,) nats."""


@final
class MHVAE(Family):
    """A hierarchical variational autoencoder (document 004, section III.B.2, option 1)."""

    Config = Model
    Sampling = MHVAESampling
    inference = ("encoder", "decoder")
    edits = frozenset({"noise", "levels"})
    bound = "elbo"
    config: Model

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        self.encoder, self.decoder = build(config, data.size)
        if config.prior == "diffusion":
            top = self.decoder.shapes[: self.decoder.alike]
            side = top[0][1]
            self.decoder.top = DiffusionPrior((sum(shape[0] for shape in top), side, side), config.diffusion)
        self.dims = 3 * data.size**2
        self.warmup = Amount.parse(config.warmup).images(batch=1, count=data.count)
        self.register_buffer("mean", torch.tensor(data.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(data.std).view(1, 3, 1, 1).clamp(min=1e-3), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    @property
    def quantities(self) -> dict[str, str]:
        """What a bound on 8-bit images under this likelihood is, whatever the model."""
        return {"bits_per_dim": f"{likelihoods.BOUND}, {self.config.likelihood}"}

    def phases(self) -> tuple[Phase, ...]:
        """Return the one update."""
        return (Phase("model", (self.encoder, self.decoder), self.loss),)

    # ---- training ---------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Losses:
        """Return -ELBO in nats per dimension, its divergences weighed by beta, warm-up, balance and free bits."""
        images = batch.images[: math.ceil(self.config.share * len(batch.images))]
        bound = self._bound(images, self._random(images))
        coefficient = min(1.0, max(1e-4, batch.images_seen / self.warmup)) if self.warmup else 1.0
        paid = torch.stack([free_bits(kl, self.config.free_bits) for kl in bound.divergences])
        if self.config.balance and coefficient < 1:
            sizes = torch.stack([kl.sum(1).mean() for kl in bound.divergences])
            paid = paid * balance(sizes, self.decoder.scales)
        loss = (bound.nats.mean() + self.config.beta * coefficient * paid.sum()) / self.dims
        figures = self._figures(bound, images)
        if self.decoder.top is not None:
            denoising = self.decoder.top.loss(self._codes(batch.images))
            loss = loss + denoising
            del figures["bits_per_dim"]  # costs calls of its own: see `validate`
            figures["denoising"] = denoising
        return {"loss": loss, **figures, "warmup": torch.full_like(loss, coefficient)}

    @torch.no_grad()
    def _codes(self, images: Tensor) -> Tensor:
        return self.decoder.codes(self._random(images), self.encoder(self._normalized(images)))

    def validate(self, batch: Batch) -> Losses:
        """Measure the bound on held-out images in bits per dimension, then its parts."""
        noises = self._random(batch.images)
        bound = self._bound(batch.images, noises)
        figures = self._figures(bound, batch.images)
        if self.decoder.top is not None:
            probe = torch.cat([torch.randn_like(noise) for noise in noises[: self.decoder.alike]], dim=1)
            rate = self._rate(bound, probe[:, None], latent_prior.spread(len(probe), like=probe)).mean()
            figures["kl"] = rate
            figures["bits_per_dim"] = likelihoods.bits_per_dim(bound.nats.mean() + rate, self.dims)
        return figures

    def _rate(self, bound: Bound, probes: Tensor, fractions: Tensor) -> Tensor:
        """KL of all groups, (B,) nats; of those with a diffusion prior a bound by its errors, see `DiffusionPrior.nats`."""
        kls = [kl.sum(1) for kl in bound.divergences]
        if self.decoder.top is None:
            return torch.stack(kls).sum(0)
        top = self.decoder.top.nats(bound.codes, probes, fractions) - bound.entropy
        return torch.stack([top, *kls[self.decoder.alike :]]).sum(0)

    def diagnose(self, figures: Mapping[str, float]) -> Sequence[Finding]:
        """Find posterior collapse: after the warm-up most groups carry nothing."""
        kls = [value for name, value in figures.items() if name.rpartition("/")[2].startswith("kl_")]
        asleep = sum(value < ASLEEP for value in kls)
        if figures.get("model/warmup", 1.0) < 1 or 2 * asleep <= len(kls):
            return ()
        free = self.config.free_bits > 0
        flag = f"--set model.beta={self.config.beta / 4:g}" if free else "--set model.free_bits=0.25"
        return (Finding("posterior collapse", f"{asleep} of {len(kls)} groups have a KL under {ASLEEP} nats", flag),)

    def _random(self, images: Tensor) -> list[Tensor]:
        return [torch.randn(len(images), *shape, device=images.device) for shape in self.decoder.shapes]

    def _bound(self, images: Tensor, noises: list[Tensor], dequantized: Tensor | None = None) -> Bound:
        """The ELBO's terms for one draw from the posterior; `dequantized` images are the target where a density needs them."""
        output, found = self.decoder(noises, self.encoder(self._normalized(images)))
        output = output.float()
        target = images if dequantized is None else dequantized
        if self.config.likelihood == "dmol":
            nats = likelihoods.discretized_logistic_mixture_nll(target, output, mixtures=self.config.mixtures)
        else:
            mean, log_std = output.chunk(2, dim=1)
            density = likelihoods.gaussian_nll(target, mean, log_std).sum((1, 2, 3))
            nats = likelihoods.eight_bit_nats(density, self.dims)
        divergences = [divergence(moments) for moments in found]
        return Bound(nats, divergences, self._means(output), *self.decoder.whitened(noises, found))

    def _figures(self, bound: Bound, images: Tensor) -> Losses:
        """Bits per dimension (the true bound), MSE in units of [-1, 1]^2, and nats: all, the image's, each group's, top first."""
        kls = [kl.sum(1).mean() for kl in bound.divergences]
        total = torch.stack(kls).sum()
        image = bound.nats.mean()
        return {
            "bits_per_dim": likelihoods.bits_per_dim(image + total, self.dims),
            "mse": (bound.means - images).square().mean(),
            "reconstruction": image,
            "kl": total,
            **{f"kl_{group:02d}": kl for group, kl in enumerate(kls)},
        }

    # ---- abilities --------------------------------------------------------------------------------------------

    def sample(
        self,
        noise: Noise,
        labels: Tensor | None,  # noqa: ARG002  # the signature of Samples
        sampling: MHVAESampling,
        callback: Callback | None = None,  # noqa: ARG002  # the signature of Samples
    ) -> Tensor:
        """Draw z_l from its prior, top down, and return the likelihood's mean images (B, 3, H, W) in [-1, 1]."""
        drawn = [sampling.temperature * noise(*shape) for shape in self.decoder.shapes]
        return self._decode(self._top(self.decoder.drawn(drawn, sampling.steps), sampling.levels))

    def mix(
        self,
        coarse: Noise,
        fine: Noise,
        labels: Tensor | None,  # noqa: ARG002  # the signature of Mixes
        sampling: MHVAESampling,
        cut: int | None = None,
    ) -> Tensor:
        """Draw the top `cut` groups from `coarse`, half of them when None, the rest from `fine`."""
        self._check_levels(cut, least=0)
        cut = len(self.decoder.shapes) // 2 if cut is None else cut
        both = [
            self.decoder.drawn([sampling.temperature * noise(*shape) for shape in self.decoder.shapes], sampling.steps)
            for noise in (coarse, fine)
        ]
        return self._decode(self._top(both[0][:cut] + both[1][cut:], sampling.levels))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Encode and decode by way of the posteriors' means: (B, 3, H, W) in [-1, 1] -> the same shape and range."""
        return self._through(images, None)

    def denoised(
        self,
        noisy: Tensor,
        deviation: float,  # noqa: ARG002  # the signature of Denoises
        sampling: MHVAESampling,  # noqa: ARG002
        levels: int | None = None,
    ) -> Tensor:
        """Encode and decode (document 004, section I): the posteriors' means on top, the priors' below, decoded."""
        return self._through(noisy, levels)

    def levels(self) -> int:
        """Return the number of groups of latents."""
        return len(self.decoder.shapes)

    def translate(
        self,
        images: Tensor,
        noise: Noise,
        edit: Edit,
        sampling: MHVAESampling,  # noqa: ARG002  # the signature of Translates
    ) -> Tensor:
        """Denoise by encode-decode (document 004, section I): posterior means on top, prior means below, decoded."""
        if edit.noise:
            images = images + edit.noise * noise(*images.shape[1:])
        return self._through(images, edit.levels)

    def bits_per_dim(self, images: Tensor, noise: Noise) -> Tensor:
        """Estimate the bound by one draw of the posterior; for the Gaussian the images are dequantized, as densities need."""
        noises = [noise(*shape) for shape in self.decoder.shapes]
        spread = torch.special.ndtr(noise(*images.shape[1:]))
        dequantized = None if self.config.likelihood == "dmol" else likelihoods.dequantized(images, spread)
        bound = self._bound(images, noises, dequantized)
        probes = noises[0][:, None]  # of no use to a normal prior
        if self.decoder.top is not None:
            probes = noise(latent_prior.PROBES, *self.decoder.top.shape)
        nats = bound.nats + self._rate(bound, probes, latent_prior.evenly(*probes.shape[:2], like=probes))
        return likelihoods.bits_per_dim(nats, self.dims).float()

    def exported(self, sampling: MHVAESampling) -> Exported:
        """Export the hierarchy with a noise tensor per group, top first, and encoder and hierarchy in a row."""
        asked = len(self.decoder.shapes) if sampling.levels is None else sampling.levels
        drawn = (
            asked if self.decoder.top is None else max(asked, self.decoder.alike)
        )  # a diffusion walks with all noise
        noises = {
            f"noise_{group:02d}": Input("noise", "normal", shape, scale=sampling.temperature if group < drawn else 0.0)
            for group, shape in enumerate(self.decoder.shapes)
        }
        image = Input("image", "what is encoded", (3, self.data.size, self.data.size))

        def decode(*noises: Tensor) -> Tensor:
            return self._decode(self._top(self.decoder.drawn(noises, sampling.steps), sampling.levels))

        networks = [
            Network("decoder", decode, noises, "the image"),
            Network("autoencoder", self.reconstruct, {"image": image}, "the image by way of its posteriors' means"),
        ]
        return Exported(networks, {})

    def _through(self, images: Tensor, levels: int | None) -> Tensor:
        self._check_levels(levels)
        zeros = [images.new_zeros(images.shape[0], *shape) for shape in self.decoder.shapes]
        return self._decode(zeros, self.encoder(self._normalized(images)), levels)

    def _decode(self, noises: list[Tensor], features: list[Tensor] | None = None, levels: int | None = None) -> Tensor:
        output, _ = self.decoder(noises, features, levels)
        return self._means(output.float()).clamp(-1, 1)

    def _means(self, output: Tensor) -> Tensor:
        if self.config.likelihood == "gaussian":
            return output.chunk(2, dim=1)[0]
        return likelihoods.discretized_logistic_mixture_mean(output, mixtures=self.config.mixtures)

    def _normalized(self, images: Tensor) -> Tensor:
        """Mean 0 and deviation 1 over the training set, per channel (Child 2021, authors' code)."""
        return (images - self.mean) / self.std

    def _top(self, noises: list[Tensor], levels: int | None) -> list[Tensor]:
        """The noises of the top `levels`, and zeros below: there the priors' means are taken."""
        self._check_levels(levels)
        return [x if levels is None or group < levels else torch.zeros_like(x) for group, x in enumerate(noises)]

    def _check_levels(self, levels: int | None, least: int = 1) -> None:
        count = len(self.decoder.shapes)
        if levels is not None and not least <= levels <= count:
            raise UsageError(
                f"this hierarchy has {count} groups of latents, not {levels}", hint=f"choose {least} to {count}"
            )


# ---- the divergences ------------------------------------------------------------------------------------------


def divergence(moments: Moments) -> Tensor:
    """KL(q || p) of one group in nats, summed over positions: (B, C, ...) moments -> (B, C)."""
    kl = likelihoods.gaussian_kl(*moments)
    return kl if kl.dim() == 2 else kl.flatten(2).sum(2)


def free_bits(kl: Tensor, least: float) -> Tensor:
    """Return sum_c max(least, mean over the batch of KL_c), a scalar, for KLs (B, C) (Kingma et al. 2016, appendix C.8)."""
    return kl.mean(0).clamp(min=least).sum() if least else kl.sum(1).mean()


def balance(kl: Tensor, scales: Sequence[int]) -> Tensor:
    """Return gamma_l = (k_l / alpha_l) / mean_j (k_j / alpha_j) with k_l = |KL_l| + 0.01, detached, (L,).

    alpha_l = 4^i / (groups at its scale i), i = 0 for the coarsest, divided by the smallest: finer groups have more numbers
    to spend (Vahdat & Kautz 2020, authors' code, rule `square`).
    """
    alphas = [4**scale / scales.count(scale) for scale in scales]
    least = min(alphas)
    weights = torch.stack([(k.abs() + 0.01) * (least / alpha) for k, alpha in zip(kl.detach(), alphas, strict=True)])
    return weights / weights.mean()


# ---- the networks ---------------------------------------------------------------------------------------------


def build(config: Model, size: int) -> tuple[CNNEncoder | ViTEncoder | MLPEncoder, Hierarchy]:
    """Build encoder and decoder of the chosen backbone; ConfigError when size and config do not fit."""
    if config.prior == "diffusion" and config.backbone != "cnn":
        raise ConfigError(
            f"a diffusion prior draws maps, the groups of `{config.backbone}` are vectors",
            hint="use `--set model.backbone=cnn` or `--set model.prior=normal`",
        )
    if config.share < 1 and config.prior != "diffusion":
        raise ConfigError("only a diffusion prior learns from what the share leaves", hint="use `--set model.share=1`")
    scaled = config.likelihood == "gaussian"
    channels = 3 if scaled else 10 * config.mixtures
    residual = config.posterior == "residual"
    if config.backbone == "cnn":
        return build_cnn(config.cnn, size, channels, residual=residual, scaled=scaled)
    if config.backbone == "vit":
        return build_vit(config.vit, size, channels, residual=residual, scaled=scaled)
    return build_mlp(config.mlp, size, channels, residual=residual, scaled=scaled)
