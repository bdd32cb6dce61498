"""Networks as ONNX files, each of which is run in onnxruntime and compared with the run's own network when it is written."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from animegen_cli.errors import DataError, MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import ModuleType

    from torch.onnx import ONNXProgram

    from animegen_cli.model.family import Family, Input, Network

TOLERANCE = 1e-4
"""Largest difference from the run's own output that counts as equal, in units of [-1, 1]. Above a noise level of 1 it is
multiplied by the level, because a network that predicts noise multiplies its own rounding by it."""
OUTPUT = "output"
"""Name of every network's output."""
_LARGE = 1_900_000_000
"""Bytes of weights above which they are written to a file of their own: a protobuf ends at 2 GiB."""


def write(model: Family, networks: Sequence[Network], folder: Path) -> list[dict[str, Any]]:
    """Write `<name>.onnx` for each network and compare it with the network itself.

    Args:
        model: the family that owns the weights, on the CPU, in float32, frozen.
        networks: what `model` exports.
        folder: where the files go.

    Returns:
        For each network what a program must know of it: `file`, `inputs`, `output`, `largest_difference`, `tolerance`.

    Raises:
        MachineError: onnx, onnxscript or onnxruntime is missing.
        DataError: onnxruntime computes something else than the network.
    """
    runtime = _import_runtime()
    return [_write_network(model, network, folder / f"{network.name}.onnx", runtime) for network in networks]


def _import_runtime() -> ModuleType:
    """Import onnxruntime, and make sure that what torch needs to write ONNX is there too."""
    try:
        import onnx  # noqa: F401  # torch.onnx imports it late, inside the export
        import onnxruntime
        import onnxscript  # noqa: F401  # as above
    except ImportError as error:
        raise MachineError("writing ONNX needs an extra", hint="type `pip install 'animegen[onnx]'`") from error
    return onnxruntime


def _write_network(model: Family, network: Network, path: Path, runtime: ModuleType) -> dict[str, Any]:
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    program = _traced(model, network)
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with the paths of this machine
    program.save(path, external_data=weights > _LARGE)
    inputs = [
        {
            "name": name,
            "kind": tensor.kind,
            "type": "int64" if tensor.kind == "labels" else "float32",
            "shape": ["batch", *tensor.shape],
            "scale": tensor.scale,
            "about": tensor.about,
            **({"rows": [list(row) for row in tensor.rows]} if tensor.rows else {}),
        }
        for name, tensor in network.inputs.items()
    ]
    return {
        "file": path.name,
        "inputs": inputs,
        "output": {"name": OUTPUT, "about": network.about},
        "largest_difference": _largest_difference(network, path, runtime),
        "tolerance": TOLERANCE,
    }


class _Function(nn.Module):
    """A network's call as the exporter wants it: a module that owns the weights."""

    def __init__(self, model: Family, network: Network) -> None:
        super().__init__()
        self.model = model
        self.call = network.call

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.call(*tensors)


def _traced(model: Family, network: Network) -> ONNXProgram:
    """The network as torch's exporter writes it down, which prints nothing meanwhile."""
    # One object per name, so that equal names are equal sizes.
    axes = {name: torch.export.Dim(name) for name in ("batch", "height", "width")}
    shapes = tuple(
        {i: axes[size] for i, size in enumerate(("batch", *tensor.shape)) if isinstance(size, str)}
        for tensor in network.inputs.values()
    )
    example = tuple(_random_input(tensor, 2, {"height": 32, "width": 40}, seed=0) for tensor in network.inputs.values())
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            _Function(model, network),
            example,
            dynamo=True,
            optimize=False,  # its optimizer takes an epsilon of 1e-8 for zero; runtimes optimize graphs themselves
            verbose=False,
            dynamic_shapes=(shapes,),
            input_names=list(network.inputs),
            output_names=[OUTPUT],
        )
    assert program is not None, "torch answers None only when it writes the file itself"
    return program


def _random_input(tensor: Input, batch: int, sizes: Mapping[str, int], *, seed: int) -> Tensor:
    """A random tensor (batch, *shape) of this kind; among labels there are unknown ones."""
    generator = torch.Generator().manual_seed(seed)
    shape = [batch, *(sizes[size] if isinstance(size, str) else size for size in tensor.shape)]
    if tensor.kind == "labels":
        columns = [torch.randint(-1, int(count), (batch,), generator=generator) for count in tensor.values]
        return torch.stack([*columns], dim=1).index_fill(0, torch.tensor([batch - 1]), -1)
    if tensor.kind == "noise":
        return torch.randn(shape, generator=generator)
    share = torch.rand(shape, generator=generator)
    if tensor.kind == "level":
        low, high = tensor.values
        return low * (high / low) ** share
    return share if tensor.kind == "share" else 2 * share - 1


def _largest_difference(network: Network, path: Path, runtime: ModuleType) -> float:
    """The largest difference at batches and sizes other than those that the file was made with, in units of [-1, 1].

    At noise levels above 1 it is divided by the level, as `TOLERANCE` says.

    Raises:
        DataError: it is above `TOLERANCE`, or not finite.
    """
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch, sizes in ((3, {"height": 24, "width": 64}), (1, {"height": 48, "width": 16})):
        tensors = {name: _random_input(tensor, batch, sizes, seed=batch) for name, tensor in network.inputs.items()}
        with torch.no_grad():
            expected = network.call(*tensors.values()).numpy()
        (actual,) = session.run([OUTPUT], {name: tensor.numpy() for name, tensor in tensors.items()})
        unit = np.ones(batch)
        for name, tensor in network.inputs.items():
            if tensor.kind == "level":
                unit = np.maximum(tensors[name].numpy(), 1)
        differences = np.abs(expected - actual).reshape(batch, -1).max(1) / unit
        largest = max(largest, float(np.where(np.isfinite(differences), differences, np.inf).max()))
    if largest > TOLERANCE:
        raise DataError(
            f"onnxruntime's {path.name} differs from the run's own network by {largest:.2g}, more than {TOLERANCE:g}",
            hint="report it to the authors of animegen with the run's config.yaml and the versions of torch and onnxruntime",
        )
    return largest
