"""A preset as training resolves it, without a data set or a run."""

from __future__ import annotations

from animegen_cli import config, paths
from animegen_cli.config import Layer, RunConfig
from animegen_cli.model import families


def resolved(family: str, preset: str, *settings: str) -> RunConfig:
    """The preset with `--set` words such as `model.beta=2`; ConfigError for wrong ones."""
    kind = families.load(family)
    layers = [Layer.from_yaml(paths.preset_file(family, preset)), Layer.from_settings(settings)]
    return config.resolve(
        [*layers, Layer({"family": family, "preset": preset}, {})],
        family=family, model=kind.Config, sample=kind.Sampling, optimizers=kind.optimizers,
    )  # fmt: skip
