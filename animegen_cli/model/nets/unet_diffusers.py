"""The U-Net of `unet.py` in the words of diffusers' `UNet2DModel`: its config.json and the names of its tensors."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from animegen_cli.errors import DataError
from animegen_cli.model.nets.unet import Block, Downsample, UNet, Upsample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LAYOUTS: dict[str, dict[str, Any]] = {
    "diffusers": {"flip_sin_to_cos": True, "freq_shift": 0, "norm_eps": 1e-5, "downsample_padding": 1},
    "ho": {"flip_sin_to_cos": False, "freq_shift": 1, "norm_eps": 1e-6, "downsample_padding": 0},
}
"""The small conventions: those of `UNet2DModel`'s defaults, and those of Ho et al. 2020, which it knows too."""
_FIXED: dict[str, Any] = {
    "in_channels": 3, "out_channels": 3, "center_input_sample": False, "time_embedding_type": "positional",
    "mid_block_scale_factor": 1, "downsample_type": "conv", "upsample_type": "conv", "act_fn": "silu",
    "attn_norm_num_groups": None, "resnet_time_scale_shift": "default", "class_embed_type": None, "add_attention": True,
}  # fmt: skip
"""What both U-Nets have in common; diffusers' defaults."""
_DOWN = {False: "DownBlock2D", True: "AttnDownBlock2D"}
_UP = {False: "UpBlock2D", True: "AttnUpBlock2D"}
_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of attention layers in files written before diffusers 0.13."""


@dataclass(frozen=True)
class Shape:
    """What decides the tensors of the network and what they compute."""

    widths: tuple[int, ...]
    """Channels of each level, finest first."""
    attends: tuple[bool, ...]
    """Whether each level has attention."""
    blocks: int
    head_width: int | None
    groups: int
    layout: str
    classes: int | None
    """Entries of the class table, the first of them "unknown"; None without one."""


def to_config(shape: Shape, *, size: int, dropout: float) -> dict[str, Any]:
    """unet/config.json."""
    return {
        "_class_name": "UNet2DModel",
        "_diffusers_version": "0.30.0",
        **_FIXED,
        **LAYOUTS[shape.layout],
        "sample_size": size,
        "block_out_channels": list(shape.widths),
        "down_block_types": [_DOWN[attends] for attends in shape.attends],
        "up_block_types": [_UP[attends] for attends in reversed(shape.attends)],
        "layers_per_block": shape.blocks,
        "attention_head_dim": shape.head_width,
        "norm_num_groups": shape.groups,
        "dropout": dropout,
        "num_class_embeds": shape.classes,
    }


def from_config(config: Mapping[str, Any]) -> Shape:
    """The inverse of `to_config`; missing keys have the defaults of `UNet2DModel`.

    Raises:
        DataError: another class, or an option that our U-Net does not have.
    """
    kind = config.get("_class_name")
    if kind != "UNet2DModel":
        raise DataError(
            f"its network is a {kind}", hint="a folder with a `UNet2DModel` can be read, such as an unconditional DDPM"
        )
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise DataError(f"its `{key}` is {config[key]!r}, and our U-Net has {value!r}", hint=_OTHER)
    conventions = {key: config.get(key, default) for key, default in LAYOUTS["diffusers"].items()}
    layout = next((name for name, known in LAYOUTS.items() if known == conventions), None)
    if layout is None:
        raise DataError(f"its conventions are neither diffusers' nor Ho's: {conventions}", hint=_OTHER)
    down = config.get("down_block_types", ["DownBlock2D"] + ["AttnDownBlock2D"] * 3)
    attends = [_known(name, _DOWN) for name in down]
    up = [_known(name, _UP) for name in config.get("up_block_types", ["AttnUpBlock2D"] * 3 + ["UpBlock2D"])]
    if up != attends[::-1]:
        raise DataError("its blocks on the way up do not mirror those on the way down", hint=_OTHER)
    return Shape(
        widths=tuple(config.get("block_out_channels", (224, 448, 672, 896))),
        attends=tuple(attends),
        blocks=config.get("layers_per_block", 2),
        head_width=config.get("attention_head_dim", 8),
        groups=config.get("norm_num_groups", 32),
        layout=layout,
        classes=config.get("num_class_embeds"),
    )


_OTHER = "this network has no counterpart here; train from the beginning instead"


def _known(name: str, kinds: Mapping[bool, str]) -> bool:
    for attends, kind in kinds.items():
        if name == kind:
            return attends
    raise DataError(f"it has blocks of type {name}", hint=f"our U-Net has {' and '.join(kinds.values())} alone")


def settings(shape: Shape, size: int) -> dict[str, Any]:
    """Our settings, as typed after `--set model.`, that build this shape at an image size in pixels."""
    base = shape.widths[0]
    if any(width % base for width in shape.widths):
        base = math.gcd(*shape.widths)
    return {
        "channels": base,
        "multipliers": [width // base for width in shape.widths],
        "blocks": shape.blocks,
        "attention": [size >> level for level, attends in enumerate(shape.attends) if attends],
        "head_width": shape.head_width,
        "groups": shape.groups,
        "layout": shape.layout,
    }


# ---- tensors ----------------------------------------------------------------------------------------------------


def to_tensors(net: UNet, *, classes: bool) -> dict[str, Tensor]:
    """The network's tensors under diffusers' names; with `classes` also the table of the first label."""
    state, found = net.state_dict(), dict[str, Tensor]()
    for ours, theirs in _names(net, classes):
        for name, part in zip(theirs, state[ours].chunk(len(theirs)), strict=True):
            found[name] = part.contiguous()
    return found


def from_tensors(net: UNet, tensors: Mapping[str, Tensor], *, classes: bool) -> dict[str, Tensor]:
    """The inverse of `to_tensors`, float32, for a network of this shape.

    Raises:
        DataError: a tensor that is missing, of another shape, or that has no place.
    """
    left = {_modern(name): tensor for name, tensor in tensors.items()}
    found, state = dict[str, Tensor](), net.state_dict()
    for ours, theirs in _names(net, classes):
        parts = []
        for name in theirs:
            if name not in left:
                raise DataError(f"its tensor `{name}` is missing", hint="save the network again with `save_pretrained`")
            parts.append(left.pop(name).float())
        whole = torch.cat([part.flatten(1) if part.dim() == 4 and state[ours].dim() == 2 else part for part in parts])
        if whole.shape != state[ours].shape:
            shapes = " and ".join(str(tuple(s.shape)) for s in parts)
            raise DataError(
                f"its tensor `{theirs[0]}` has the shape {shapes}, which is not that of `{ours}`, {tuple(state[ours].shape)}",
                hint="its config.json does not belong to its tensors; save both again with `save_pretrained`",
            )
        found[ours] = whole
    if left:
        raise DataError(f"its tensor `{min(left)}` has no place in our U-Net", hint=_OTHER)
    return found


def _modern(name: str) -> str:
    return re.sub(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.", lambda m: f"{m[1]}.{_OLD[m[2]]}.", name)


def _names(net: UNet, classes: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each tensor's name, and the names of the tensors that it is made of in diffusers."""
    for ours, theirs in _layers(net):
        for kind in ("weight", "bias"):
            yield f"{ours}.{kind}", tuple(f"{name}.{kind}" for name in theirs)
    if classes:
        yield "labels.0.weight", ("class_embedding.weight",)


def _layers(net: UNet) -> Iterator[tuple[str, Sequence[str]]]:
    ends = {"stem": "conv_in", "time.0": "time_embedding.linear_1", "time.2": "time_embedding.linear_2",
            "norm": "conv_norm_out", "head": "conv_out"}  # fmt: skip
    for ours, theirs in ends.items():
        yield ours, [theirs]
    sides = (("down", net.down, Downsample, "downsamplers"), ("up", net.up, Upsample, "upsamplers"))
    for side, layers, change, changers in sides:
        level = number = 0
        for index, layer in enumerate(layers):
            stem = f"{side}_blocks.{level}"
            if isinstance(layer, change):
                yield f"{side}.{index}.conv", [f"{stem}.{changers}.0.conv"]
                level, number = level + 1, 0
            elif isinstance(layer, Block):
                yield from _block(f"{side}.{index}", layer, f"{stem}.resnets.{number}", f"{stem}.attentions.{number}")
                number += 1
    for index, layer in enumerate(net.middle):
        assert isinstance(layer, Block)
        yield from _block(f"middle.{index}", layer, f"mid_block.resnets.{index}", f"mid_block.attentions.{index}")


def _block(name: str, layer: Block, resnet: str, attention: str) -> Iterator[tuple[str, Sequence[str]]]:
    for part in ("norm1", "conv1", "norm2", "conv2"):
        yield f"{name}.res.{part}", [f"{resnet}.{part}"]
    yield f"{name}.res.time", [f"{resnet}.time_emb_proj"]
    if not isinstance(layer.res.skip, nn.Identity):
        yield f"{name}.res.skip", [f"{resnet}.conv_shortcut"]
    if layer.attention is not None:
        yield f"{name}.attention.norm", [f"{attention}.group_norm"]
        yield f"{name}.attention.qkv", [f"{attention}.to_{part}" for part in "qkv"]
        yield f"{name}.attention.out", [f"{attention}.to_out.0"]
