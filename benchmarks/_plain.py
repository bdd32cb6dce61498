"""What the scripts here compare with, written plainly, and batches that cost nothing to make."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animegen_cli.data.loading import RawBatch

VAE_WIDTHS = (32, 64, 128, 256, 512)
VAE_LATENT, VAE_WEIGHT, VAE_LR = 128, 0.00025, 1e-3


class Resident:
    """Random uint8 images that already lie on the device."""

    def __init__(self, size: int, count: int, device: torch.device, *, photos: bool = False) -> None:
        shape = (2, count, 3, size, size)
        self.images, self.photos = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        self.labels = torch.zeros(count, 0, dtype=torch.int64, device=device)
        self.both = photos

    def batch(self, images_seen: int, count: int | None = None) -> RawBatch:  # noqa: ARG002  # always the same images
        return RawBatch(self.images[:count], self.labels[:count], self.photos[:count] if self.both else None)


class PlainVAE(nn.Module):
    """PyTorch-VAE's vanilla numbers: strided convolutions down, transposed ones up, BatchNorm and LeakyReLU in between."""

    def __init__(self, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        current = 3
        for width in VAE_WIDTHS:
            layers += [nn.Conv2d(current, width, 3, 2, 1), nn.BatchNorm2d(width), nn.LeakyReLU()]
            current = width
        self.side = size // 2 ** len(VAE_WIDTHS)
        self.encoder = nn.Sequential(*layers)
        self.mean = nn.Linear(current * self.side**2, VAE_LATENT)
        self.log_variance = nn.Linear(current * self.side**2, VAE_LATENT)
        self.open = nn.Linear(VAE_LATENT, current * self.side**2)
        layers = []
        for width in (*reversed(VAE_WIDTHS[:-1]), VAE_WIDTHS[0]):
            layers += [nn.ConvTranspose2d(current, width, 3, 2, 1, 1), nn.BatchNorm2d(width), nn.LeakyReLU()]
            current = width
        self.decoder = nn.Sequential(*layers, nn.Conv2d(current, 3, 3, padding=1), nn.Tanh())

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, 128) -> images (B, 3, size, size)."""
        return self.decoder(self.open(z).view(-1, VAE_WIDTHS[-1], self.side, self.side))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoder(x).flatten(1)
        mean, log_variance = self.mean(h), self.log_variance(h)
        return self.decode(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)), mean, log_variance

    def loss(self, images: Tensor) -> Tensor:
        """Mean squared error + 0.00025 KL, under whatever autocast there is."""
        picture, mean, log_variance = self(images)
        mean, log_variance = mean.float(), log_variance.float()
        kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()
        return F.mse_loss(picture.float(), images) + VAE_WEIGHT * kl
