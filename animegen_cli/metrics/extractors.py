"""Images in, features out: one interface over the perceptual networks that scores stand on."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animegen_cli import disk
from animegen_cli.errors import UsageError, did_you_mean
from animegen_cli.metrics import resize as resizing
from animegen_cli.metrics.protocol import KID75_RESIZE, Precision, parse_precision
from animegen_cli.metrics.weights import open_inception
from animegen_cli.model.nets import inception, squeezenet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMES = ("faces", "inception", "squeezenet", "attributes:RUN")
"""What a user may type for a network."""
CLASSIFIER = "attributes"
"""The network that a user trained on labels of a set; `evaluate.classifier` opens it, as it can read runs."""


class Extractor:
    """A frozen network with its resize: uint8 images (B, 3, H, W) -> float32 features (B, `dims`).

    Images run in micro-batches of one fixed shape, the last one padded, so the features of an image do not
    depend on what else is extracted with it.

    Attributes:
        name: the network's name in protocols.
        sha: sha256 of its weights file.
        resize: how images reach it, in the words of a protocol.
        precision: arithmetic of the network.
        device: where it runs.
        micro_batch: images per call of the network.
        dims: D, the number of features.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        sha: str,
        resize: str,
        prepare: Callable[[Tensor], Tensor] | None = None,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        micro_batch: int | None = None,
    ) -> None:
        self.name = name
        self.sha = sha
        self.resize = resize
        self.precision = parse_precision(precision)
        self.device = torch.device(device)
        self.micro_batch = micro_batch or (16 if self.device.type == "cpu" else 128)
        self._prepare = prepare or (lambda images: images)
        # twice the speed of the default layout on CPUs, and what tensor cores want
        self._net = net.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.inference_mode():
            black = torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=self.device)
            self.dims: int = self._net(self._prepare(black)).shape[1]

    def behind(self, resize: str, prepare: Callable[[Tensor], Tensor]) -> Extractor:
        """The same network behind another resize, which `prepare` carries out: uint8 images in, its inputs out."""
        return Extractor(
            self._net, name=self.name, sha=self.sha, resize=resize, prepare=prepare, device=self.device,
            precision=self.precision, micro_batch=self.micro_batch,
        )  # fmt: skip

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Features (B, `dims`), float32 on the extractor's device, of uint8 images (B, 3, H, W) on any."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be uint8 (B, 3, H, W), not {images.dtype} {tuple(images.shape)}")
        parts = []
        with _arithmetic(self.device, self.precision):
            for part in images.split(self.micro_batch):
                part = part.to(self.device, non_blocking=True)
                short = self.micro_batch - len(part)
                padded = F.pad(part, (0, 0, 0, 0, 0, 0, 0, short)) if short else part
                parts.append(self._net(self._prepare(padded))[: len(part)].float())
        return torch.cat(parts) if parts else torch.empty(0, self.dims, device=self.device)

    @torch.inference_mode()
    def logits(self, features: Tensor) -> Tensor:
        """Class logits (B, 1008) without the output bias, as the Inception score takes them."""
        if not isinstance(self._net, inception.Inception):
            raise UsageError(
                f"the Inception score needs Inception, not `{self.name}`",
                hint="leave `is` out, or type `animegen weights` and score with Inception",
            )
        with _arithmetic(self.device, "fp32"):
            return F.linear(features.to(self.device), self._net.output.weight)


def open_extractor(
    spec: str,
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    weights: str | Path | None = None,
) -> Extractor:
    """Open a feature network.

    Args:
        spec: `faces`, the package's own trunk; `inception`, `inception:legacy_pytorch` or
            `inception:legacy_tensorflow`; `squeezenet:PATH`, or a path that ends in .npz, for SqueezeNet 1.1.
        device: where it runs.
        precision: arithmetic of the network.
        weights: Inception's file or its folder, see `metrics.weights.find_inception`.

    Raises:
        UsageError: no such network, or no file of its weights at PATH.
        DataError: the weights are damaged, or another network's.
        MachineError: Inception's weights are not here.
    """
    name, _, rest = spec.partition(":")
    if name == "inception":
        return inception_extractor(*open_inception(weights), mode=rest or "clean", device=device, precision=precision)
    if name == "squeezenet" or spec.endswith(".npz"):
        path = rest if name == "squeezenet" else spec
        if not path or not Path(path).is_file():
            raise UsageError(
                f"no SqueezeNet weights at `{path}`" if path else "`squeezenet` needs the path of its weights",
                hint="type `squeezenet:PATH`, with PATH a .npz of SqueezeNet 1.1's convolutions",
            )
        return _squeezenet_extractor(Path(path), device=device, precision=precision)
    if name == "faces":
        from animegen_cli.model.nets import trunk

        return Extractor(
            trunk.load_trunk(), name="faces", sha=trunk.SHA, resize=trunk.RESIZE, device=device, precision=precision
        )
    raise UsageError(f"no feature network `{spec}`", hint=did_you_mean(name, NAMES))


def inception_extractor(
    net: inception.Inception,
    sha: str,
    *,
    mode: str = "clean",
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    micro_batch: int | None = None,
) -> Extractor:
    """Inception behind the resize and the input range of one of clean-fid's three modes; UsageError for another mode."""
    if mode not in resizing.MODES:
        raise UsageError(f"no resize `{mode}`", hint=did_you_mean(mode, resizing.MODES))
    # pytorch-fid maps 0..255 onto [-1, 1]; the original graph, and clean-fid after it, takes (x - 128) / 128
    center, scale = (127.5, 127.5) if mode == "legacy_pytorch" else (128.0, 128.0)

    def prepare(images: Tensor) -> Tensor:
        return resizing.resize(images, 299, cast("resizing.Mode", mode)).sub_(center).div_(scale)

    return Extractor(
        net,
        name="inception",
        sha=sha,
        resize=f"{mode}-299",
        prepare=prepare,
        device=device,
        precision=precision,
        micro_batch=micro_batch,
    )


def classifier_extractor(
    net: nn.Module, sha: str, size: int, *, device: str | torch.device = "cpu", precision: Precision = "fp32"
) -> Extractor:
    """A classifier's last features.

    Args:
        net: takes images (B, 3, size, size) in [-1, 1], returns features (B, D).
        sha: sha256 of its weights file.
        size: side of its images in pixels.
        device: where it runs.
        precision: arithmetic of the network.
    """
    return Extractor(
        net,
        name=CLASSIFIER,
        sha=sha,
        resize=f"clean-{size}",
        prepare=lambda images: resizing.resize(images, size).div_(127.5).sub_(1),
        device=device,
        precision=precision,
    )


def for_kid75(extractor: Extractor) -> Extractor:
    """Inception as the Keras DDIM example feeds it: images bilinear to 75 pixels, not antialiased, in [-1, 1].

    Other networks keep their own resize, and are returned as they are.
    """
    if extractor.name != "inception":
        return extractor
    size = int(KID75_RESIZE.split("-")[1])
    return extractor.behind(
        KID75_RESIZE, lambda images: resizing.resize(images, size, "legacy_pytorch").div_(127.5).sub_(1)
    )


def _squeezenet_extractor(path: Path, *, device: str | torch.device, precision: Precision) -> Extractor:
    return Extractor(
        squeezenet.load_squeezenet(path),
        name="squeezenet",
        sha=disk.sha256(path),
        resize=f"clean-{squeezenet.SIZE}",
        prepare=lambda images: resizing.resize(images, squeezenet.SIZE),
        device=device,
        precision=precision,
    )


@contextmanager
def _arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Number formats of the matrix products, whatever the process set: training may have allowed less."""
    before = torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn
    convolutions = (
        cudnn.flags(
            enabled=cudnn.enabled,
            benchmark=False,
            deterministic=cudnn.deterministic,
            allow_tf32=precision == "tf32",
        )
        if device.type == "cuda"
        else nullcontext()
    )
    torch.set_float32_matmul_precision("highest")
    try:
        with convolutions, torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
