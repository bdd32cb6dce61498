"""From what a network outputs to the clean image that it means, in variance-exploding coordinates x = x_0 + sigma eps.

Both forms return x itself at sigma = 0, which consistency models ask for (Song et al. 2023, eq. 5).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Network = Callable[[Tensor, Tensor], Tensor]
"""(input (B, 3, H, W), time (B,)) -> output (B, 3, H, W)."""


def karras(network: Network, x: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """Return D(x; sigma) = c_skip x + c_out F(c_in x, c_noise) of Karras et al. 2022, table 1.

    Args:
        network: F, whose input and target have unit variance; its time is c_noise = ln(sigma) / 4.
        x: (B, 3, H, W).
        sigma: (B,), above 0.
        sigma_data: deviation of the images.
    """
    level = sigma.view(-1, 1, 1, 1)
    total = level.square() + sigma_data**2
    output = network(x * total.rsqrt(), sigma.log() / 4).float()
    return sigma_data**2 / total * x + level * sigma_data * total.rsqrt() * output


def straight(network: Network, x: Tensor, sigma: Tensor) -> Tensor:
    """Return x_t - t v(x_t, t) with t = sigma / (1 + sigma) and x_t = (1 - t) x: the clean image of a rectified flow.

    Args:
        network: v, the velocity eps - x_0 (Liu et al. 2023); its time is 1000 t.
        x: (B, 3, H, W).
        sigma: (B,), at least 0.
    """
    t = sigma / (1 + sigma)
    way = t.view(-1, 1, 1, 1)
    x_t = (1 - way) * x
    return x_t - way * network(x_t, 1000 * t).float()
