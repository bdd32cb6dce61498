"""Likelihoods of images and the divergence of Gaussians, in nats; plain functions of tensors.

B is the batch, K the mixture components, D = 3HW the dimensions of an image. Images are in [-1, 1]; 8-bit ones lie on
the 256 values i / 127.5 - 1.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from animegen_cli.model.nets.precision import at_least_float32

HALF_BIN = 1 / 255
"""Half the distance of two neighboring 8-bit values in [-1, 1]."""
EDGE = 0.999
"""Beyond it an image's value is the first or the last of the 256."""
RARE = 1e-5
"""Below this probability the bin's difference of sigmoids is rounding error: density times width instead."""
MIN_LOG_SCALE = -7.0
"""Narrowest component: a sixth of a bin."""


BOUND = "bound on the bits per dimension of 8-bit images"
"""What autoencoders log as `bits_per_dim`, in the words of `Family.quantities`."""


def gaussian_kl(mean_q: Tensor, log_std_q: Tensor, mean_p: Tensor | float, log_std_p: Tensor | float) -> Tensor:
    """KL(q || p) of two normal distributions, elementwise, in nats; all arguments broadcast.

    ln(s_p / s_q) + (s_q^2 + (m_q - m_p)^2) / (2 s_p^2) - 1/2 (Kingma & Welling 2014, appendix B, for p = N(0, 1)).
    """
    gap = log_std_p - log_std_q
    return gap + 0.5 * (torch.exp(-2 * gap) + (mean_q - mean_p).square() * _exp(-2 * log_std_p)) - 0.5


def gaussian_nll(x: Tensor, mean: Tensor | float, log_std: Tensor | float) -> Tensor:
    """-ln N(x; mean, std^2), elementwise, in nats; all arguments broadcast."""
    return 0.5 * ((x - mean) * _exp(-log_std)).square() + log_std + 0.5 * math.log(2 * math.pi)


def _exp(x: Tensor | float) -> Tensor | float:
    return x.exp() if isinstance(x, Tensor) else math.exp(x)  # a number never travels to the device


# ---- bits per dimension -----------------------------------------------------------------------------------------


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """Turn nats per image (B,) into bits per dimension: nats / (D ln 2)."""
    return nats / (dims * math.log(2))


def dequantized(images: Tensor, uniform: Tensor) -> Tensor:
    """Spread 8-bit images in [-1, 1] over their bins by `uniform` in [0, 1) of the same shape.

    The density of the result, see `eight_bit_nats`, bounds the probability of the 8-bit image (Theis et al. 2016,
    section 3.1).
    """
    return images + (2 * uniform - 1) * HALF_BIN


def eight_bit_nats(nats: Tensor, dims: int) -> Tensor:
    """Turn the negative log-density of images in [-1, 1] into nats of their 8-bit values, of the same shape: D ln 127.5 more.

    A bin is 1 / 127.5 wide there: a density times that width is a probability. The mean over dequantized images is an
    upper bound on the discrete -ln P (Jensen); at the bins' middle, without dequantizing, it is the midpoint approximation
    of the bins' probabilities, good where the deviation is over a bin.
    """
    return nats + dims * math.log(127.5)


# ---- discretized mixture of logistics ---------------------------------------------------------------------------


def discretized_logistic_mixture_nll(x: Tensor, parameters: Tensor, *, mixtures: int = 10) -> Tensor:
    """-ln P of 8-bit images, summed over pixels and channels, in nats (Salimans et al. 2017, section 2).

    One component per pixel for its three channels; the means of G and B are shifted linearly by R, and by R and G.

    Args:
        x: (B, 3, H, W) on the 256 values of [-1, 1].
        parameters: (B, 10 K, H, W): K logits, then 3K means, 3K log-scales and 3K coefficients, see `_split`.
        mixtures: K.

    Returns:
        (B,) float32, or float64 for float64 parameters.

    Raises:
        ValueError: `parameters` have another number of channels.
    """
    logits, means, log_scales, coefficients = _split(parameters, mixtures)
    values = x.to(means.dtype)[:, :, None]  # (B, 3, 1, H, W)
    log_p = _log_bin(values, _shifted(means, coefficients, values), log_scales).sum(1)
    return -torch.logsumexp(F.log_softmax(logits, dim=1) + log_p, dim=1).sum((1, 2))


def discretized_logistic_mixture_mean(parameters: Tensor, *, mixtures: int = 10) -> Tensor:
    """Image without noise, (B, 3, H, W) in [-1, 1], of `parameters` as above: per pixel the mean over components, R before G
    before B."""
    logits, means, _, coefficients = _split(parameters, mixtures)
    weights = torch.softmax(logits, dim=1)[:, None]
    return _in_order((means * weights).sum(2), (coefficients * weights).sum(2))


def _split(parameters: Tensor, mixtures: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (B, K, H, W); means, log-scales and coefficients (B, 3, K, H, W) of R, G, B and (c0, c1, c2)."""
    if parameters.shape[1] != 10 * mixtures:
        raise ValueError(f"{mixtures} mixtures need {10 * mixtures} channels, not {parameters.shape[1]}")
    parameters = at_least_float32(parameters)
    batch, _, height, width = parameters.shape
    rest = parameters[:, mixtures:].reshape(batch, 3, 3, mixtures, height, width)
    means, log_scales, coefficients = rest.unbind(1)
    return parameters[:, :mixtures], means, log_scales.clamp(min=MIN_LOG_SCALE), torch.tanh(coefficients)


def _shifted(means: Tensor, coefficients: Tensor, values: Tensor) -> Tensor:
    """m_G + c0 R and m_B + c1 R + c2 G, where R and G are the image's own values (B, 3, 1, H, W)."""
    red, green, _ = values.unbind(1)
    c0, c1, c2 = coefficients.unbind(1)
    return torch.stack([means[:, 0], means[:, 1] + c0 * red, means[:, 2] + c1 * red + c2 * green], dim=1)


def _in_order(pixels: Tensor, coefficients: Tensor) -> Tensor:
    """The same shift while R, G and B, (B, 3, H, W) each, are drawn one after the other, clamped to [-1, 1]."""
    c0, c1, c2 = coefficients.unbind(1)
    red = pixels[:, 0].clamp(-1, 1)
    green = (pixels[:, 1] + c0 * red).clamp(-1, 1)
    return torch.stack([red, green, (pixels[:, 2] + c1 * red + c2 * green).clamp(-1, 1)], dim=1)


def _log_bin(x: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """ln of a logistic distribution's share of the bin around x; the outer bins reach to infinity."""
    inverse = torch.exp(-log_scales)
    upper, lower = (x - means + HALF_BIN) * inverse, (x - means - HALF_BIN) * inverse
    share = torch.sigmoid(upper) - torch.sigmoid(lower)
    middle = (x - means) * inverse
    density = middle - log_scales - 2 * F.softplus(middle) - math.log(127.5)
    inner = torch.where(share > RARE, share.clamp(min=RARE).log(), density)
    return torch.where(x < -EDGE, F.logsigmoid(upper), torch.where(x > EDGE, -F.softplus(lower), inner))
