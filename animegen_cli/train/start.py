"""What a training starts from: another run's weights, and for a family that tunes runs the settings that they decide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from animegen_cli import console, paths
from animegen_cli.config import Layer
from animegen_cli.errors import ConfigError, DataError
from animegen_cli.model import abilities, checkpoint, diffusers, families
from animegen_cli.model.family import Family, Tunes
from animegen_cli.sample.trained import apart, build_config, spec_from_dict, spec_to_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animegen_cli.config import RunConfig
    from animegen_cli.train.request import Request


def weights_of(source: str) -> Path:
    """The weights file that `--init-from` means: a run's, or a file itself."""
    return Path(source) if source.endswith(".safetensors") else paths.open_run(source).weights


def settings(request: Request, family: str) -> Layer:
    """The settings of `model:` that the run to be tuned decides; none for a family that starts from nothing, or a run that goes on.

    Raises:
        ConfigError: the run is of a family that this one cannot tune.
        DataError: no weights, or damaged ones.
    """
    if not request.init_from or request.resumes_a_run or family not in abilities.families_able("tunes"):
        return Layer({}, {})
    kind: Any = families.load(family)
    _, about = checkpoint.load_weights(weights_of(request.init_from))
    theirs = about["config"]["family"]
    if theirs not in (family, *kind.tunes):
        raise ConfigError(
            f"{family} tunes runs of {' and '.join(kind.tunes)}; {request.init_from} is a {theirs} run",
            hint=f"train one first: `animegen train {kind.tunes[0]} --preset fast`",
        )
    model = build_config(about["config"]).to_dict()["model"]
    return Layer({"model": kind.taken_over(theirs, model)}, {("model",): f"--init-from {request.init_from}"})


def warn_of_nothing(request: Request, family: str) -> None:
    """Warn where a family that tunes runs was given none."""
    if not request.init_from and not request.resumes_a_run and family in abilities.families_able("tunes"):
        console.warn(
            f"{family} starts with an untrained network, which takes far longer than tuning a run: `--init-from RUN`"
        )


def check(run_config: RunConfig, decided: Layer) -> None:
    """ConfigError where the config says something else than the run that is tuned."""
    now = run_config.to_dict()["model"]
    for key, value in decided.values.get("model", {}).items():
        if now[key] != value:
            raise ConfigError(
                f"`model.{key}` is {now[key]}, and that of the run to be tuned {value}",
                hint=f"leave `model.{key}` out: it comes with {decided.places['model',]}",
            )


def initialize(model: Family, source: str) -> None:
    """Copy every tensor of another run's weights whose name and shape fit, or the network of a diffusers folder.

    Raises:
        DataError: nothing fits; or not everything, the size or the pictures, where a run is tuned.
    """
    if diffusers.is_folder(Path(source)):
        adopted, warnings = diffusers.adopt(model, Path(source))
        model.load_state_dict(adopted, strict=False)
        for warning in warnings:
            console.warn(warning)
        console.note(f"started from the diffusers network in {source}")
        return
    file = weights_of(source)
    found, about = checkpoint.load_weights(file)
    tensors, _ = apart(found)
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        raise DataError(f"no tensor of {file} fits this network", hint="start from a run of the same family and widths")
    if isinstance(model, Tunes):
        _check_same_data(model, about, source)
    model.load_state_dict(fitting, strict=False)
    console.note(f"started from {len(fitting)} of {len(own)} tensors of {file}")


def _check_same_data(model: Family, about: Mapping[str, Any], source: str) -> None:
    """DataError unless the run to be tuned saw the same pictures: in others its network is not where tuning begins."""
    before, now = spec_to_dict(spec_from_dict(about["data"])), spec_to_dict(model.data)
    changed = next((key for key in ("size", "attributes", "count", "mean", "std") if before[key] != now[key]), None)
    if changed is not None:
        said = {"size": "{} pixels", "count": "{:,} images for training"}.get(changed, f"another {changed}")
        raise DataError(
            f"{source} was trained on other pictures: {said.format(before[changed])}, here {said.format(now[changed])}",
            hint="leave `size` out, or name its own data set after `--data`"
            if changed == "size"
            else "name its own data set after `--data`",
        )
