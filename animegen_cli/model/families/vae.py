"""Variational autoencoders with one vector of latents.

Kingma & Welling 2014 for the bound; Higgins et al. 2017 and Burgess et al. 2018 for the weights on its second term;
Rybkin et al. 2021 for the learned scale of the Gaussian. Legend: B batch, D = 3HW dimensions of an image, L latents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, final

import torch
from pydantic import Field
from torch import Tensor

from animegen_cli.config import Amount, Sampling, Section, Span
from animegen_cli.errors import ConfigError
from animegen_cli.model import latent_prior, likelihoods
from animegen_cli.model.family import Batch, DataSpec, Edit, Exported, Family, Finding, Input, Losses, Network, Phase
from animegen_cli.model.latent_prior import Diffusion, DiffusionPrior
from animegen_cli.model.nets import vae as nets
from animegen_cli.model.nets.vae_maps import MapDecoder, MapEncoder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from animegen_cli.model.noise import Noise
    from animegen_cli.model.samplers import Callback


@dataclass(frozen=True, kw_only=True)
class Model(Section):
    """The networks, the likelihood and the objective."""

    network: Literal["plain", "residual", "maps"] = "plain"
    """`plain`: a strided convolution, BatchNorm and LeakyReLU per stage; `residual`: residual blocks, and pixels are
    folded into channels first, so that no layer works at full size; `maps`: the same, and the code is a map."""
    widths: Annotated[tuple[Annotated[int, Field(ge=4)], ...], Field(min_length=1)] = (32, 64, 128, 256, 512)
    """Feature maps of each stage, finest first; each stage halves the image."""
    latent: Annotated[int, Field(ge=1)] = 128
    """Length L of the vector of latents; of `maps` the channels of the code, a map as large as the last stage's."""
    pixels: Literal["symmetric", "unit"] = "symmetric"
    """Range of the images that the networks see: [-1, 1], or [0, 1], of which a tanh can miss the ends."""
    likelihood: Literal["gaussian", "scaled"] = "gaussian"
    """`gaussian`: the bound itself, with a learned deviation; `scaled`: mean squared error + `kl_weight` * KL."""
    kl_weight: Annotated[float, Field(gt=0)] = 0.00025
    """For `scaled`; the same as the bound with the deviation sqrt(kl_weight * D / 2)."""
    bands: Annotated[int, Field(ge=0)] = 0
    """For `gaussian`: 0 has one deviation for all; n has one per frequency band of n Haar levels and color axis."""
    beta: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the KL (Higgins et al. 2017, eq. 4); 1 is the bound."""
    capacity: Annotated[float, Field(gt=0)] | None = None
    """Instead of `beta`: gamma * |KL - C|, C rising from 0 to so many nats (Burgess et al. 2018, eq. 8)."""
    capacity_weight: Annotated[float, Field(gt=0)] = 10.0
    """gamma of `capacity`."""
    capacity_over: Span = "1M images"
    """How long the C of `capacity` rises."""
    warmup: Span = "0 images"
    """The KL's factor rises linearly from 0 for so long (Sonderby et al. 2016, section 2.3)."""
    free_bits: Annotated[float, Field(ge=0)] = 0.0
    """Nats per latent that cost nothing (Kingma et al. 2016, eq. 15)."""
    prior: Literal["normal", "flow", "diffusion"] = "normal"
    """`normal`: N(0, I); `flow`: that, through learned affine couplings (Dinh et al. 2017; Chen et al. 2017); `diffusion`, for
    maps: a diffusion model of codes, learned beside the bound with N(0, I) (Vahdat et al. 2021)."""
    diffusion: Diffusion = field(default_factory=Diffusion)
    """The network of that prior."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of each batch from which encoder and decoder learn; a diffusion prior learns from all of it."""


@dataclass(frozen=True, kw_only=True)
class VAESampling(Sampling):
    """How images are drawn: by one pass of the decoder."""

    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the latents' noise; below 1 images are more alike and have fewer faults."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Calls of a diffusion prior's network; 16 when None. Other priors have none."""


class Bound(NamedTuple):
    """The two terms of the negative bound, in nats, for one draw of the latents."""

    distortion: Tensor
    """-ln p(x | z), (B,), of images in [-1, 1]."""
    rate: Tensor
    """KL(q(z | x) || p(z)) per latent, (B, L); with a learned prior one draw's estimate of their sum, (B, 1)."""
    mean: Tensor
    """E[x | z], (B, 3, H, W), in the networks' range."""
    code: Tensor
    """z, (B, L)."""
    entropy: Tensor
    """Of q(z | x), (B,), nats."""


@final
class VAE(Family):
    """An encoder q(z | x) and a decoder p(x | z) p(z), trained by the evidence lower bound."""

    Config = Model
    Sampling = VAESampling
    inference = ("encoder", "decoder")
    ema_buffers = "average"
    edits = frozenset({"noise"})
    bound = "elbo"
    config: Model

    def __init__(self, config: Model, data: DataSpec) -> None:
        super().__init__(config, data)
        _check(config, data.size)
        self.dims = 3 * data.size**2
        self.warmup, self.capacity_over = (
            Amount.parse(span).images(batch=1, count=data.count) for span in (config.warmup, config.capacity_over)
        )
        encoder, decoder = NETWORKS[config.network]
        self.encoder = encoder(data.size, config.widths, config.latent)
        side = data.size >> len(config.widths)
        code = (config.latent, side, side)
        self.latents = math.prod(code) if config.network == "maps" else config.latent
        self.decoder = nets.Generative(
            decoder(data.size, config.widths, config.latent),
            flow=nets.Flow(config.latent) if config.prior == "flow" else None,
            bands=config.bands if config.likelihood == "gaussian" else None,
            diffusion=DiffusionPrior(code, config.diffusion) if config.prior == "diffusion" else None,
        )

    @property
    def quantities(self) -> dict[str, str]:
        """What a bound on 8-bit images under this likelihood is, whatever the model."""
        return {"bits_per_dim": f"{likelihoods.BOUND}, {self.config.likelihood}"}

    def phases(self) -> tuple[Phase, ...]:
        """Return the one update."""
        return (Phase("model", (self.encoder, self.decoder), self.loss),)

    # ---- the bound ----------------------------------------------------------------------------------------------

    def measure(self, images: Tensor, eps: Tensor) -> Bound:
        """-ln p(x) <= E[distortion] + rate (Kingma & Welling 2014, eq. 3), z = mean + std * eps.

        With a diffusion prior the rate is that to N(0, I), which the autoencoder learns by; `_rate` has the prior's own.
        Images (B, 3, H, W) in [-1, 1]; eps (B, L) standard normal.
        """
        x = self._scaled(images)
        mean_q, log_std_q = self.encoder(x)
        z = mean_q + log_std_q.exp() * eps
        mean, log_prior, log_std = self.decoder(z)
        entropy = (log_std_q + 0.5 * math.log(2 * math.pi * math.e)).sum(1)
        if log_prior is None:
            rate = likelihoods.gaussian_kl(mean_q, log_std_q, 0.0, 0.0)
        else:
            rate = -(entropy + log_prior)[:, None]
        return Bound(self._distortion(x - mean, log_std), rate, mean, z, entropy)

    def _distortion(self, error: Tensor, log_std: Tensor | None) -> Tensor:
        """Errors (B, 3, H, W) in the networks' range -> (B,) nats of a density over [-1, 1]."""
        wider = self.dims * math.log(self._unit)
        if log_std is None:
            implied = 0.5 * math.log(self.config.kl_weight * self.dims / 2)
            return likelihoods.gaussian_nll(error, 0.0, implied).flatten(1).sum(1) + wider
        parts = nets.haar_bands(error, self.config.bands) if self.config.bands else [error]
        nats = [
            likelihoods.gaussian_nll(part, 0.0, scale.view(-1, 1, 1)).flatten(1).sum(1)
            for part, scale in zip(parts, log_std, strict=True)
        ]
        return torch.stack(nats).sum(0) + wider

    def loss(self, batch: Batch) -> Losses:
        """Return the objective per dimension, and in nats per image its parts."""
        images = batch.images[: math.ceil(self.config.share * len(batch.images))]
        found = self.measure(images, torch.randn(len(images), self.latents, device=images.device))
        squared = (self._scaled(images) - found.mean).square().mean()
        kl = found.rate.sum(1).mean()
        if self.config.likelihood == "scaled":
            loss = squared + self.config.kl_weight * self._penalty(found.rate, batch.images_seen)
        else:
            loss = (found.distortion.mean() + self._penalty(found.rate, batch.images_seen)) / self.dims
        bound = found.distortion.mean().detach() + kl.detach()
        figures = {"elbo": -bound, "bits_per_dim": self._bits(bound)}
        if self.decoder.diffusion is not None:
            denoising = self.decoder.diffusion.loss(self._codes(batch.images))
            loss = loss + denoising
            figures = {"denoising": denoising.detach()}  # the bound costs calls of its own: see `validate`
        return {
            "loss": loss,
            "mse": squared.detach() * self._unit**2,
            "kl": kl.detach(),
            **figures,
            "kl_factor": torch.full_like(kl, self._factor(batch.images_seen)).detach(),
        }

    @torch.no_grad()
    def _codes(self, images: Tensor) -> Tensor:
        """Draw z from q(z | x), (B, L), for the prior to learn from."""
        mean, log_std = self.encoder(self._scaled(images))
        return mean + log_std.exp() * torch.randn_like(mean)

    def _penalty(self, rate: Tensor, images_seen: int) -> Tensor:
        """What the objective adds to the distortion, in nats: beta * KL, or gamma * |KL - C|."""
        kl = rate.mean(0)
        if self.config.free_bits:
            kl = kl.clamp(min=self.config.free_bits)
        if self.config.capacity is None:
            return self._factor(images_seen) * self.config.beta * kl.sum()
        target = self.config.capacity * _risen(images_seen, self.capacity_over)
        return self._factor(images_seen) * self.config.capacity_weight * (kl.sum() - target).abs()

    def _factor(self, images_seen: int) -> float:
        return _risen(images_seen, self.warmup)

    def _bits(self, nats: Tensor) -> Tensor:
        return likelihoods.bits_per_dim(likelihoods.eight_bit_nats(nats, self.dims), self.dims)

    # ---- abilities ----------------------------------------------------------------------------------------------

    def sample(
        self,
        noise: Noise,
        labels: Tensor | None,  # noqa: ARG002  # the signature of Samples
        sampling: VAESampling,
        callback: Callback | None = None,  # noqa: ARG002  # the signature of Samples
    ) -> Tensor:
        """Draw the mean of p(x | z) for z from the prior: (B, 3, H, W) in [-1, 1]."""
        z = noise(self.latents) * sampling.temperature
        return self._picture(self.decoder(z, from_noise=True, steps=sampling.steps)[0])

    def validate(self, batch: Batch) -> Losses:
        """Measure the bound on held-out images in bits per dimension, their reconstruction error and the KL."""
        images = batch.images
        eps, probe = (torch.randn(len(images), self.latents, device=images.device) for _ in range(2))
        found = self.measure(images, eps)
        kl = self._rate(found, probe[:, None], latent_prior.spread(len(images), like=probe)).mean()
        error = (self.reconstruct(images) - images).square().mean()
        return {"bits_per_dim": self._bits(found.distortion.mean() + kl), "mse": error, "kl": kl}

    def _rate(self, found: Bound, probes: Tensor, fractions: Tensor) -> Tensor:
        """KL(q(z | x) || p(z)), (B,) nats; for a diffusion prior a bound by its network's errors, see `DiffusionPrior.nats`."""
        if self.decoder.diffusion is None:
            return found.rate.sum(1)
        return self.decoder.diffusion.nats(found.code, probes, fractions) - found.entropy

    def reconstruct(self, images: Tensor) -> Tensor:
        """Return the mean of p(x | z) at the mean of q(z | x): (B, 3, H, W) in [-1, 1] -> the same shape and range."""
        mean_q, _ = self.encoder(self._scaled(images))
        return self._picture(self.decoder(mean_q)[0])

    def denoised(
        self,
        noisy: Tensor,
        deviation: float,  # noqa: ARG002  # the signature of Denoises
        sampling: VAESampling,  # noqa: ARG002
        levels: int | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Encode and decode the noisy images: (B, 3, H, W) -> the same shape, in [-1, 1]."""
        return self.reconstruct(noisy)

    def levels(self) -> int:
        """Return 1: there is one code."""
        return 1

    def translate(
        self,
        images: Tensor,
        noise: Noise,
        edit: Edit,
        sampling: VAESampling,  # noqa: ARG002  # the signature of Translates
    ) -> Tensor:
        """Denoise: noise of deviation `edit.noise` is added, then the image is encoded and decoded."""
        if edit.noise:
            images = images + edit.noise * noise(*images.shape[1:])
        return self.reconstruct(images)

    def bits_per_dim(self, images: Tensor, noise: Noise) -> Tensor:
        """Estimate the bound by one draw of the latents and one of the dequantization: (B, 3, H, W) -> (B,)."""
        eps = noise(self.latents)
        spread = likelihoods.dequantized(images, torch.special.ndtr(noise(*images.shape[1:])))
        found = self.measure(spread, eps)
        probes = noise(latent_prior.PROBES, self.latents) if self.decoder.diffusion is not None else eps[:, None]
        rate = self._rate(found, probes, latent_prior.evenly(len(images), probes.shape[1], like=probes))
        return self._bits(found.distortion + rate).float()

    def exported(self, sampling: VAESampling) -> Exported:
        """Export the decoder with its prior, and encoder and decoder in a row."""
        z = Input("noise", "normal", (self.latents,), scale=sampling.temperature)
        image = Input("image", "what is encoded", (3, self.data.size, self.data.size))

        def decode(z: Tensor) -> Tensor:
            return self._picture(self.decoder(z, from_noise=True, steps=sampling.steps)[0])

        networks = [
            Network("decoder", decode, {"z": z}, "the image"),
            Network("autoencoder", self.reconstruct, {"image": image}, "the image by way of the mean of its code"),
        ]
        return Exported(networks, {})

    def diagnose(self, figures: Mapping[str, float]) -> Sequence[Finding]:
        """Find posterior collapse, and its opposite."""
        kl = figures.get("model/kl", math.nan)
        factor = figures.get("model/kl_factor", 0.0)
        # A code of one nat names about three faces; a rising capacity starts at none and may be low for long.
        if kl < 1 and factor >= 1 and self.config.capacity is None:
            normal = self.config.prior == "normal"
            flag = "--set model.free_bits=0.25" if normal else f"--set model.beta={self.config.beta / 4:g}"
            return [Finding("posterior collapse", f"the latents carry {kl:.2f} nats, so every image is the same", flag)]
        # Even one bit per dimension of the image is far more than an encoder into L numbers can mean.
        if kl > self.dims * math.log(2):
            return [
                Finding(
                    "exploding latents",
                    f"the latents carry {kl:.3g} nats, over one bit per dimension of the image",
                    "--set optim.model.lr=0.0002 --set optim.model.clip=1.0",
                )
            ]
        return []

    # ---- ranges ---------------------------------------------------------------------------------------------------

    @property
    def _unit(self) -> float:
        """The networks' unit in units of [-1, 1]."""
        return 1.0 if self.config.pixels == "symmetric" else 2.0

    def _scaled(self, images: Tensor) -> Tensor:
        return images if self.config.pixels == "symmetric" else (images + 1) / 2

    def _picture(self, mean: Tensor) -> Tensor:
        mean = mean.float()
        return (mean if self.config.pixels == "symmetric" else mean * 2 - 1).clamp(-1, 1)


NETWORKS = {**nets.NETWORKS, "maps": (MapEncoder, MapDecoder)}


def _risen(images_seen: int, length: int) -> float:
    """Share of a rise that lasts `length` images."""
    return min(images_seen / length, 1.0) if length else 1.0


def _check(config: Model, size: int) -> None:
    stages = len(config.widths)
    if size < 2**stages:
        raise ConfigError(
            f"{size} pixels cannot be halved {stages} times",
            hint=f"prepare the set with {2**stages} pixels or more, as `animegen prepare ./faces --resolution {2**stages}` does, "
            "or remove entries of `model.widths`",
        )
    if config.network == "residual" and size % 2:
        raise ConfigError(f"an odd size of {size} pixels cannot be folded", hint="use `--set model.network=plain`")
    if config.network == "maps" and size % 2**stages:
        raise ConfigError(
            f"{size} pixels cannot be halved evenly {stages} times, and a map of codes has whole places",
            hint=f"prepare the set with a multiple of {2**stages}, or use `--set model.network=residual`",
        )
    if config.prior == "diffusion" and config.network != "maps":
        raise ConfigError("a diffusion prior draws maps of codes", hint="use `--set model.network=maps`")
    if config.share < 1 and config.prior != "diffusion":
        raise ConfigError("only a diffusion prior learns from what the share leaves", hint="use `--set model.share=1`")
    if config.bands and size % 2**config.bands:
        raise ConfigError(
            f"a size of {size} pixels has no {config.bands} Haar levels", hint="make `model.bands` smaller, or 0"
        )
    if config.bands and config.likelihood == "scaled":
        raise ConfigError("`scaled` has one fixed deviation for all bands", hint="use `--set model.bands=0`")
    if config.free_bits and config.prior == "flow":
        raise ConfigError("a learned prior has no KL per latent to set free", hint="use `--set model.free_bits=0`")
