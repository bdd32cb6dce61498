"""The backbones of a hierarchical VAE: the sections with their sizes, and how they are built for a size of image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from animegen_cli.config import Section
from animegen_cli.errors import ConfigError
from animegen_cli.model.nets.hierarchy import MLPEncoder, MLPHierarchy
from animegen_cli.model.nets.hierarchy_cnn import CNNEncoder, CNNHierarchy, Sizes, parse_layout
from animegen_cli.model.nets.hierarchy_vit import Layout, ViTEncoder, ViTHierarchy

Latents = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class CNN(Section):
    """Bottleneck blocks and maps of latents (Child 2021)."""

    width: Annotated[int, Field(ge=8)] = 192
    """Feature maps at every resolution."""
    bottleneck: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Width of the 3x3 convolutions in units of `width`."""
    fold: Annotated[int, Field(ge=1)] = 1
    """Squares of so many pixels are folded into channels, and both layouts end at that part of the image's size."""
    encoder: str = "/1x2,/1d,/2x2,/2d,/4x2,/4d,/8x2,/8d,1x1"
    """Blocks from the image on: `64x4` at 64 pixels, `64d2` then pooled by 2; `/4` is a quarter of the image."""
    decoder: str = "1x1,/8m1,/8x1,/4m/8,/4x1,/2m/4,/2x1,/1m/2"
    """Groups of latents from the top on: `4x2` two at 4 pixels, `8m4` one after upsampling; `64p2` blocks without latents."""
    channels: Annotated[int, Field(ge=1)] | Latents = 16
    """Channels of each group's map of latents; one number for all groups, or one per group, top first."""


@dataclass(frozen=True, kw_only=True)
class ViT(Section):
    """Transformers over patches and latent tokens (Dosovitskiy et al. 2021)."""

    patch: Annotated[int, Field(ge=1)] = 8
    """Side of a patch in pixels."""
    width: Annotated[int, Field(ge=8)] = 256
    """Numbers of each token."""
    depth: Annotated[int, Field(ge=1)] = 6
    """Blocks of the encoder, and of the decoder."""
    heads: Annotated[int, Field(ge=1)] = 8
    """Heads of each attention."""
    ratio: Annotated[int, Field(ge=1)] = 4
    """Hidden width of the MLPs in units of `width`."""
    latents: Latents = (256, 224, 192, 160)
    """Length of each group's vector, top first."""
    tokens: Annotated[int, Field(ge=1)] = 8
    """Tokens over which each group's vector is spread."""


@dataclass(frozen=True, kw_only=True)
class MLP(Section):
    """Fully connected layers with LayerNorm."""

    widths: Annotated[tuple[Annotated[int, Field(ge=8)], ...], Field(min_length=1)] = (2048, 1024, 512)
    """Hidden layers of the encoder; the decoder mirrors them."""
    latents: Latents = (128, 112, 96, 80)
    """Length of each group's vector, top first."""


def build_cnn(cnn: CNN, size: int, channels: int, *, residual: bool, scaled: bool) -> tuple[CNNEncoder, CNNHierarchy]:
    """Build encoder and hierarchy of convolutions; ConfigError where the layouts do not fit the size or each other."""
    sizes = Sizes(cnn.width, max(1, round(cnn.width * cnn.bottleneck)), cnn.fold)
    down = parse_layout(cnn.encoder, size, decoder=False)
    up = parse_layout(cnn.decoder, size, decoder=True)
    for name, at in (("encoder", down[0].resolution), ("decoder", up[-1].resolution)):
        if at * cnn.fold != size:
            raise ConfigError(
                f"`model.cnn.{name}` is laid out for {at * cnn.fold} pixels, the images have {size}",
                hint=f"prepare the set with `animegen prepare ./faces --resolution {at * cnn.fold}`, or write the layout with "
                f"`/{cnn.fold}` for {'the image itself' if cnn.fold == 1 else 'its folded size'}",
            )
    encoder = CNNEncoder(down, sizes)
    blind = {step.resolution for step in up if step.latent} - set(encoder.resolutions)
    if blind:
        raise ConfigError(
            f"the decoder has latents at {min(blind)} pixels, where `model.cnn.encoder` has no feature",
            hint=f"its features have {', '.join(map(str, encoder.resolutions))} pixels",
        )
    groups = sum(step.latent for step in up)
    channels_of = (cnn.channels,) * groups if isinstance(cnn.channels, int) else cnn.channels
    if len(channels_of) != groups:
        raise ConfigError(
            f"`model.cnn.channels` has {len(channels_of)} numbers, `model.cnn.decoder` {groups} groups of latents",
            hint="write one number per group, or `--set model.cnn.channels=16` for all",
        )
    decoder = CNNHierarchy(
        up,
        sizes,
        channels_of,
        resolutions=encoder.resolutions,
        channels=channels,
        residual=residual,
        scaled=scaled,
    )
    return encoder, decoder


def build_vit(vit: ViT, size: int, channels: int, *, residual: bool, scaled: bool) -> tuple[ViTEncoder, ViTHierarchy]:
    """Build encoder and hierarchy of transformers; ConfigError where patches, heads or tokens do not divide."""
    if size % vit.patch:
        raise ConfigError(f"{size} pixels are no multiple of patches of {vit.patch}", hint="change `model.vit.patch`")
    if vit.width % vit.heads:
        raise ConfigError(
            f"a width of {vit.width} does not split into {vit.heads} heads", hint="change `model.vit.heads`"
        )
    for z in vit.latents:
        if z % vit.tokens:
            raise ConfigError(
                f"a vector of {z} does not spread over {vit.tokens} tokens", hint="change `model.vit.tokens`"
            )
    layout = Layout(
        patch=vit.patch, width=vit.width, depth=vit.depth, heads=vit.heads, ratio=vit.ratio, tokens=vit.tokens
    )
    encoder = ViTEncoder(size, layout, groups=len(vit.latents))
    decoder = ViTHierarchy(size, vit.latents, layout, channels=channels, residual=residual, scaled=scaled)
    return encoder, decoder


def build_mlp(mlp: MLP, size: int, channels: int, *, residual: bool, scaled: bool) -> tuple[MLPEncoder, MLPHierarchy]:
    """Build encoder and hierarchy of fully connected layers; ConfigError where the last one would be too wide."""
    if not scaled:
        raise ConfigError(
            f"the MLP ends in one layer, which for `dmol` would be {channels * size**2:,} numbers wide",
            hint="use `--set model.likelihood=gaussian`",
        )
    decoder = MLPHierarchy(size, mlp.widths, mlp.latents, channels=channels, residual=residual, scaled=scaled)
    return MLPEncoder(size, mlp.widths), decoder
