"""Inception features of images in memory: ours against clean-fid's own resizer, network and feature loop.

    python benchmarks/features.py --device cpu --pairs 5

Both sides start from the same uint8 array and run the same network in the same arithmetic; clean-fid's is the
TorchScript it loads, with its batch norms, ours the one converted from that very file. Without `--weights`
the network's weights are random, which costs the same time. Prints the two rates and how far the features
differ.
"""

from __future__ import annotations

import tempfile
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from _pairs import arguments, pairs, report
from cleanfid.fid import get_model_features
from cleanfid.inception_torchscript import InceptionV3W
from torch import Tensor, nn

from animegen_cli.metrics.extractors import inception_extractor
from animegen_cli.metrics.protocol import PRECISIONS
from animegen_cli.model.nets.inception import EPSILON, Conv, Inception, from_torchscript

TARGETS = {"cpu": 1.3, "cuda": 10.0}


class Layer(nn.Module):
    """One layer as the original file has it: convolution, batch norm, ReLU."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.stride = conv.stride
        self.padding = conv.padding
        assert conv.bias is not None
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.beta = nn.Parameter(conv.bias.detach().clone())
        self.mean = nn.Parameter(torch.zeros(conv.out_channels))
        self.var = nn.Parameter(torch.full((conv.out_channels,), 1 - EPSILON))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, stride=self.stride, padding=self.padding)
        return F.relu(F.batch_norm(x, self.mean, self.var, bias=self.beta, eps=1e-3))


class Network(nn.Module):
    """The part of the original file that clean-fid calls."""

    def __init__(self, layers: nn.Module, output: nn.Linear) -> None:
        super().__init__()
        self.layers = layers
        self.output = output

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:  # noqa: FBT002  # called so by clean-fid
        features = self.layers((img - 128) / 128).reshape(-1, 2048)
        return features if return_features else F.softmax(self.output(features), dim=1)


def write_random_network(path: Path) -> None:
    """A TorchScript of the same layers, in clean-fid's manner, with seeded random weights."""
    torch.manual_seed(0)
    net = Inception()
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Conv):
                nn.init.kaiming_normal_(child.weight, nonlinearity="relu")
                setattr(module, name, Layer(child))
    layers = nn.Sequential(*net.layers, nn.AvgPool2d(8)).eval()
    with torch.no_grad():
        traced = torch.jit.trace(layers, torch.rand(1, 3, 299, 299), check_trace=False)
        torch.jit.script(Network(traced, net.output).eval()).save(str(path))


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=64, help="clean-fid's batch (its default is 128)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--weights", type=Path, help="inception-2015-12-05.pt; random weights without")
    args = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    device = torch.device(args.device)
    cuda = device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        path = args.weights or Path(folder) / "inception-2015-12-05.pt"
        if not args.weights:
            write_random_network(path)
        theirs = InceptionV3W(str(path.parent), download=False).to(device).eval()
        ours = inception_extractor(from_torchscript(path), "", device=device, precision=args.precision)
    shape = (args.images, 3, args.size, args.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.backends.cudnn.allow_tf32 = args.precision == "tf32"

    def clean_fid() -> Tensor:
        batches = iter(images.split(args.batch))
        half: AbstractContextManager[object] = nullcontext()
        if args.precision == "bf16":
            half = torch.autocast(device.type, torch.bfloat16)
        with half:
            found = get_model_features(
                lambda _: next(batches),
                lambda x: theirs(x).float(),
                num_gen=args.images,
                batch_size=args.batch,
                device=device,
                verbose=False,
            )
        return torch.from_numpy(found)

    def animegen() -> Tensor:
        return ours.features(images).cpu()

    peer = clean_fid()
    error = ((animegen() - peer).abs().max() / peer.abs().max()).item()
    sync = torch.cuda.synchronize if cuda else None
    timed = pairs(animegen, clean_fid, args.pairs, sync=sync)
    report(
        f"features of {args.images} images of {args.size} px, {args.precision}, {device}",
        timed,
        target=TARGETS["cuda" if cuda else "cpu"],
        as_json=args.json,
        images_per_second=f"ours {args.images / timed['ours']:.1f}, clean-fid {args.images / timed['peer']:.1f}",
        largest_difference=f"{error:.1e} of the largest feature",
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
