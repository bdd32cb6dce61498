"""Networks as ONNX files, each run in onnxruntime and compared with ours before it counts as written."""

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

    from animegen_cli.model.family import Family, Input, Network

TOLERANCE = 1e-4
"""Largest difference from our output that counts as equal, in units of [-1, 1]; at noise levels above 1 so many times
as much, because a network that predicts noise multiplies its own rounding by the level."""
OUTPUT = "output"
_LARGE = 1_900_000_000
"""Bytes of weights above which they lie in a file of their own: a protobuf ends at 2 GiB."""


def write(model: Family, networks: Sequence[Network], folder: Path) -> list[dict[str, Any]]:
    """Write `<name>.onnx` for each network, checked; what a program must know of each.

    Args:
        method: on the CPU, in float32, frozen.

    Raises:
        MachineError: onnx, onnxscript or onnxruntime is missing.
        DataError: onnxruntime computes something else than we do.
    """
    runtime = _runtime()
    return [_write(model, network, folder / f"{network.name}.onnx", runtime) for network in networks]


def _runtime() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MachineError("writing ONNX needs an extra", hint="type `pip install 'animegen[onnx]'`") from error
    return onnxruntime


def _write(model: Family, network: Network, path: Path, runtime: Any) -> dict[str, Any]:
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    program = _program(model, network)
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with the paths of this machine
    program.save(path, external_data=weights > _LARGE)
    entries = [
        {
            "name": name, "kind": given.kind, "type": "int64" if given.kind == "labels" else "float32",
            "shape": ["batch", *given.shape], "scale": given.scale, "about": given.about,
        }
        for name, given in network.inputs.items()
    ]  # fmt: skip
    return {
        "file": path.name, "inputs": entries, "output": {"name": OUTPUT, "about": network.about},
        "largest_difference": _compared(network, path, runtime), "tolerance": TOLERANCE,
    }  # fmt: skip


class _Function(nn.Module):
    """A network's call as the exporter wants it: a module that owns the weights."""

    def __init__(self, model: Family, network: Network) -> None:
        super().__init__()
        self.model, self.call = model, network.call

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.call(*tensors)


def _program(model: Family, network: Network) -> Any:
    # One object per name, so that equal names are equal sizes.
    axes = {name: torch.export.Dim(name) for name in ("batch", "height", "width")}
    shapes = tuple(
        {i: axes[size] for i, size in enumerate(("batch", *given.shape)) if isinstance(size, str)}
        for given in network.inputs.values()
    )
    example = tuple(_example(given, 2, {"height": 32, "width": 40}, seed=0) for given in network.inputs.values())
    noise = [
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ]
    with contextlib.ExitStack() as quiet, torch.no_grad():
        for talk in noise:
            quiet.enter_context(talk)  # type: ignore[arg-type]
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        # Its optimizer takes an epsilon of 1e-8 for zero; runtimes optimize graphs themselves.
        return torch.onnx.export(
            _Function(model, network), example, dynamo=True, optimize=False, verbose=False,
            dynamic_shapes=(shapes,), input_names=list(network.inputs), output_names=[OUTPUT],
        )  # fmt: skip


def _example(given: Input, batch: int, sizes: Mapping[str, int], *, seed: int) -> Tensor:
    """A random tensor of this kind; among labels there are unknown ones."""
    chance = torch.Generator().manual_seed(seed)
    shape = [batch, *(sizes[size] if isinstance(size, str) else size for size in given.shape)]
    if given.kind == "labels":
        columns = [torch.randint(-1, int(count), (batch,), generator=chance) for count in given.values]
        return torch.stack([*columns], dim=1).index_fill(0, torch.tensor([batch - 1]), -1)
    if given.kind == "noise":
        return torch.randn(shape, generator=chance)
    share = torch.rand(shape, generator=chance)
    if given.kind == "level":
        low, high = given.values
        return low * (high / low) ** share
    return share if given.kind == "share" else 2 * share - 1


def _compared(network: Network, path: Path, runtime: Any) -> float:
    """The largest difference over batches and sizes other than those that the file was made with, in units of `TOLERANCE`."""
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch, sizes in ((3, {"height": 24, "width": 64}), (1, {"height": 48, "width": 16})):
        given = {name: _example(kind, batch, sizes, seed=batch) for name, kind in network.inputs.items()}
        with torch.no_grad():
            ours = network.call(*given.values()).numpy()
        (theirs,) = session.run([OUTPUT], {name: tensor.numpy() for name, tensor in given.items()})
        allowed = np.ones(batch)
        for name, kind in network.inputs.items():
            if kind.kind == "level":
                allowed = np.maximum(given[name].numpy(), 1)
        off = np.abs(ours - theirs).reshape(batch, -1).max(1) / allowed
        largest = max(largest, float(np.where(np.isfinite(off), off, np.inf).max()))
    if largest > TOLERANCE:
        raise DataError(
            f"onnxruntime's {path.name} differs from the run's own network by {largest:.2g}, more than {TOLERANCE:g}",
            hint="tell the authors of animegen the run's config.yaml and the versions of torch and onnxruntime",
        )
    return largest
