"""A training run from request to finished folder: config, data, run folder, resume, hooks."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from animegen_cli import __version__, checkpoint, config, console, generate, methods, paths
from animegen_cli.config import Amount, Layer, RunConfig
from animegen_cli.data.loading import Loader
from animegen_cli.data.reading import FaceSet, require_size
from animegen_cli.errors import DataError, DivergedError, StoppedError, UsageError
from animegen_cli.method import Batch, DataSpec, Method, Samples, Validates, abilities
from animegen_cli.noise import Noise, seed_for
from animegen_cli.paths import Run
from animegen_cli.report import grids
from animegen_cli.train import choices as choosing
from animegen_cli.train import estimate, optim
from animegen_cli.train.choices import Choices
from animegen_cli.train.log import Log
from animegen_cli.train.trainer import Hook, Trainer

Scorer = Callable[[np.ndarray, np.ndarray], dict[str, float]]
"""(real, fake) uint8 images (n, H, W, 3) -> named scores; passed in by the command, so that metrics never call up."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `animegen train` was asked for."""

    family: str | None = None
    preset: str | None = None
    data: Path | None = None
    out: Path | None = None
    device: str | None = None
    resume: str = "auto"
    init_from: str | None = None
    configs: Sequence[Path] = ()
    settings: Sequence[str] = ()
    flags: Sequence[Layer] = field(default=())
    """Layers of flags such as `--batch`, which win over everything else."""


class Prepared(NamedTuple):
    """A request that was found to be possible: nothing is trained yet."""

    config: RunConfig
    faces: FaceSet
    data: DataSpec
    loader: Loader
    method: Method
    choices: Choices
    device: torch.device


# ---- config and data ------------------------------------------------------------------------------------------


def read_config(request: Request) -> RunConfig:
    """Preset, config files, `--set` and flags, validated; ConfigError or UsageError with what to type next."""
    layers = [Layer.from_yaml(path) for path in request.configs]
    said = config.merge(layers).values
    family, preset = request.family or said.get("family"), request.preset or said.get("preset")
    if family is None:
        raise UsageError(
            "no family given", hint="type one of `animegen train " + "|".join(paths.families()) + " --preset fast`"
        )
    kind = methods.load(family)
    if preset is None:
        preset = "fast"
        console.note(f"preset: {preset} (say another with `--preset`; `animegen presets list {family}`)")
    file = paths.preset_file(family, preset)
    base = [] if "model" in said else [Layer.from_yaml(file, shown=f"presets/{family}/{file.name}")]
    names = Layer({"family": family, "preset": preset}, {})
    return config.resolve(
        [*base, *layers, Layer.from_settings(request.settings), *request.flags, names],
        family=family, model=kind.Config, sample=kind.Sampling, optimizers=kind.optimizers,
    )  # fmt: skip


def open_data(request: Request, run_config: RunConfig) -> FaceSet:
    """The data set of the flag, else of the config, else the newest."""
    path = request.data or (Path(run_config.data) if run_config.data else None)
    if path is None:
        path = paths.newest_dataset()
        console.note(f"data: {path} (the newest; say another with `--data`)")
    return FaceSet.open(path)


def prepare(
    request: Request, run_config: RunConfig, faces: FaceSet, *, resolved: Mapping[str, Any] | None = None
) -> Prepared:
    """Read the data, build the networks and resolve every `auto`, unless a resumed run already has."""
    size = run_config.size or faces.size
    require_size(faces, size)
    if size != faces.size:
        console.note(f"the set's {faces.size} pixels are scaled down to the preset's {size} while loading (antialiased)")
    device = choosing.pick_device(request.device)
    augment = run_config.augment
    loader = Loader(
        faces, split="train", size=size, batch=run_config.train.batch, seed=run_config.train.seed, device=device,
        flip=augment.flip, rotate=augment.rotate, crop=augment.crop, workers=run_config.train.workers,
    )  # fmt: skip
    data = DataSpec(
        size=size, count=len(faces.indices("train")), mean=tuple(loader.mean), std=tuple(loader.std),
        attributes=dict(faces.attributes), domains=tuple(faces.domains),
    )  # fmt: skip
    torch.manual_seed(seed_for(run_config.train.seed, "init"))
    method = methods.load(run_config.family)(run_config.model, data)
    chosen = Choices(**resolved) if resolved else choosing.resolve(run_config, method, device)
    if run_config.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return Prepared(run_config, faces, data, loader, method, chosen, device)


# ---- run folders ----------------------------------------------------------------------------------------------

# These may change when a run goes on; everything else decides its numbers.
_FREE = {
    "data", "about", "warning", "train.duration", "train.workers", "train.save_every", "train.keep", "train.preview_every",
    "train.preview", "train.log_every",
}  # fmt: skip


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix[:-1]: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.")
    return found


def differences(old: Mapping[str, Any], new: RunConfig) -> list[str]:
    """Settings that may not change on resume and do, one line each."""
    before, after = _flat(dict(old)), _flat(new.to_dict())
    free = set(_FREE)
    if any(optim.needs_end(section) for section in new.optim.values()):
        free.remove("train.duration")
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed if key not in free]


def choose_folder(request: Request, run_config: RunConfig, faces: FaceSet) -> tuple[Run, bool]:
    """The run folder, and whether it holds a run to go on with.

    Raises:
        UsageError: `--resume none` into a folder that is not empty, or a changed config.
    """
    if request.resume not in ("auto", "none"):
        return paths.open_run(request.resume), True
    if request.out is not None:
        occupied = request.out.is_dir() and any(request.out.iterdir())
        if occupied and (request.resume == "none" or not (request.out / "run.json").is_file()):
            raise UsageError(
                f"{request.out} is not empty", hint="name another folder, or leave `--resume` at `auto` to go on with its run"
            )
        return Run(request.out), occupied
    if request.resume == "auto":
        for run in reversed(paths.runs()):
            if _continues(run, run_config, faces):
                console.note(f"continuing {run.path} (start anew with `--resume none`)")
                return run, True
    name = "-".join([run_config.family, run_config.preset or "custom", faces.name])
    return Run(paths.numbered_run(paths.RUNS, name)), False


def _continues(run: Run, run_config: RunConfig, faces: FaceSet) -> bool:
    about = run.about
    if about.get("state") not in ("running", "stopped") or about.get("data", {}).get("identity") != faces.identity:
        return False
    if not run.config.is_file() or not run.states() or differences(Layer.from_yaml(run.config).values, run_config):
        return False
    with open(run.path / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


@contextmanager
def lock(run: Run) -> Iterator[None]:
    """Keep a second process out of the folder; DataError names the one that is there."""
    run.path.mkdir(parents=True, exist_ok=True)
    with open(run.path / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise DataError(
                f"{run.path} is being trained by process {file.read().strip() or 'unknown'}",
                hint="wait for it, or train into another folder with `--out`",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """SIGTERM, SIGUSR1 and Ctrl-C ask to stop after the step; a second Ctrl-C stops at once."""
    asked: list[int] = []

    def ask(number: int, _: Any) -> None:
        if number == signal.SIGINT and asked:
            raise KeyboardInterrupt
        asked.append(number)
        console.note("stopping after this step; the state will be saved")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- the run --------------------------------------------------------------------------------------------------


def train(request: Request, *, score: Scorer | None = None) -> Run:
    """Train, or go on training, until the config's duration.

    Args:
        score: compares held-out with drawn images when the config asks for `train.validate.kid_images`.

    Raises:
        AnimegenError: bad words, config, data or state; DivergedError and StoppedError from the loop.
    """
    if request.resume not in ("auto", "none") and not (request.family or request.configs):
        request = _from_run(request)
    run_config = read_config(request)
    if run_config.warning:
        console.warn(run_config.warning)
    faces = open_data(request, run_config)
    run, occupied = choose_folder(request, run_config, faces)
    with lock(run):
        parts, state = None, None
        if occupied:
            _check_same(run, run_config, faces)
            parts, state = _newest_state(run)
        prepared = prepare(request, run_config, faces, resolved=state["resolved"] if state else None)
        if request.init_from and state is None:
            _initialize(prepared.method, request.init_from)
        console.note(f"run: {run.path}")
        session = _Session(run, prepared, score)
        if state is not None and parts is not None:
            session.trainer.restore(parts, state)
            console.note(f"going on at {state['images']:,} images")
        session.train()
    return run


def _from_run(request: Request) -> Request:
    """`--resume RUN` alone goes on with the run's own config."""
    run = paths.open_run(request.resume)
    return Request(**{**request.__dict__, "configs": [run.config]})


def _check_same(run: Run, run_config: RunConfig, faces: FaceSet) -> None:
    if not run.config.is_file():
        return
    changed = differences(Layer.from_yaml(run.config).values, run_config)
    before = run.about.get("data", {}).get("identity")
    if before != faces.identity:
        changed.append(f"data: {str(before)[:12]} -> {faces.identity[:12]} (other pictures)")
    if changed:
        raise UsageError(
            f"{run.path} was started with other settings:\n       " + "\n       ".join(changed),
            hint="take the changes back to go on, or start anew with `--resume none` (and `--init-from` for its weights)",
        )


def _newest_state(run: Run) -> tuple[Any, Any]:
    states = run.states()
    return checkpoint.load_state(states[-1]) if states else (None, None)


def _initialize(method: Method, source: str) -> None:
    """Copy every tensor of another run's weights whose name and shape fit."""
    file = Path(source) if source.endswith(".safetensors") else paths.open_run(source).weights
    tensors, _ = checkpoint.load_weights(file)
    own = method.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        raise DataError(f"no tensor of {file} fits this network", hint="start from a run of the same family and widths")
    method.load_state_dict(fitting, strict=False)
    console.note(f"started from {len(fitting)} of {len(own)} tensors of {file}")


class _Session:
    """One process's work on a run: what is written when."""

    def __init__(self, run: Run, prepared: Prepared, score: Scorer | None) -> None:
        self.run, self.prepared, self.score = run, prepared, score
        self.config = prepared.config
        self.cost = estimate.cost(prepared.method, self.config, precision=prepared.choices.precision)
        self.trainer = Trainer(
            prepared.method, prepared.loader, self.config, prepared.choices, device=prepared.device, count=prepared.data.count
        )
        self.log: Log | None = None
        self.logged = (0.0, 0)  # (seconds, images) at the last line
        self.figures: dict[str, float] = {}  # of the latest validation

    # ---- files ---------------------------------------------------------------------------------------

    def write_about(self, state: str) -> None:
        trainer, prepared = self.trainer, self.prepared
        rate = trainer.images / trainer.seconds if trainer.seconds else 0.0
        paths.write_json(
            self.run.path / "run.json",
            {
                "animegen": __version__, "family": self.config.family, "preset": self.config.preset, "state": state,
                "abilities": list(abilities(prepared.method)), "images": trainer.images, "target_images": trainer.total,
                "steps": trainer.step, "seconds": round(trainer.seconds, 2), "images_per_second": round(rate, 2),
                "peak_memory": _peak_memory(prepared.device), "parameters": self.cost.parameters,
                "flops_per_image": self.cost.flops, "data": _data_about(prepared), "device": _device_name(prepared.device),
                "hardware": _hardware(), "versions": _versions(), "git": _git(), "resolved": prepared.choices.to_dict(),
            },
        )  # fmt: skip

    def write_config(self) -> None:
        values = self.config.to_dict() | {"data": str(self.prepared.faces.path)}
        self.run.config.write_text(config.to_yaml(values), encoding="utf-8")

    def save(self, trainer: Trainer) -> None:
        """A complete state and the weights; never a bad one."""
        trainer.check()
        about = {
            "images": trainer.images, "step": trainer.step, "seconds": trainer.seconds, "figures": self.figures,
            "resolved": self.prepared.choices.to_dict(), "config": self.config.to_dict(),
            "identity": self.prepared.faces.identity,
        }  # fmt: skip
        checkpoint.save_state(self.run.resume / f"{trainer.images:012d}", trainer.parts(), about)
        weights = {
            "family": self.config.family, "preset": self.config.preset, "images": trainer.images,
            "config": self.config.to_dict(), "data": generate.spec_to_dict(self.prepared.data),
            "abilities": list(abilities(self.prepared.method)),
        }  # fmt: skip
        checkpoint.save_weights(self.run.weights, generate.inference_state(trainer.average.twin), weights)
        self._prune()
        self.write_about("running")

    def _prune(self) -> None:
        """Keep the newest states and the one with the lowest validation figure."""
        states = self.run.states()
        kept = set(states[-self.config.train.keep :])
        scored = [(next(iter(figures.values())), folder) for folder in states if (figures := _figures(folder))]
        if scored:
            kept.add(min(scored)[1])
        for folder in states:
            if folder not in kept:
                shutil.rmtree(folder)

    # ---- hooks ---------------------------------------------------------------------------------------

    def write_log(self, trainer: Trainer) -> None:
        trainer.check()
        seconds, images = self.logged
        rate = (trainer.images - images) / max(trainer.seconds - seconds, 1e-9)
        self.logged = (trainer.seconds, trainer.images)
        rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in trainer.optimizers.items()}
        losses = {name: round(value, 6) for name, value in trainer.take_losses().items()}
        distance = float(trainer.average.distance())
        assert self.log is not None
        self.log.write(
            {
                "images": trainer.images, "step": trainer.step, "seconds": round(trainer.seconds, 3),
                "images_per_second": round(rate, 2), "lr": rates, **losses, "ema/distance": round(distance, 8),
                "loader/waited": round(self.prepared.loader.waited, 3),
            }
        )  # fmt: skip
        self.text = f"{rate:.0f} images/s  " + "  ".join(f"{name.split('/')[-1]} {v:.4f}" for name, v in losses.items())

    def preview(self, trainer: Trainer) -> None:
        """The same seeds from the raw and the averaged networks."""
        self.run.samples.mkdir(exist_ok=True)
        trainer.method.eval()
        for name, method in (("raw", trainer.method), ("ema", trainer.average.twin)):
            file = self.run.samples / f"{name}-{trainer.images:012d}.png"
            grids.grid(self.draw(method, range(self.config.train.preview))).save(file)
        trainer.method.train()

    def draw(self, method: Method, seeds: Sequence[int], steps: int | None = None) -> np.ndarray:
        """Images of the networks as they are in training, uint8 (n, H, W, 3)."""
        assert isinstance(method, Samples)
        how = self.config.sample.preview()
        if steps is not None and hasattr(how, "steps"):
            how = type(how)(**{**how.__dict__, "steps": steps})
        device, pieces, batch = self.prepared.device, [], generate.micro_batch(self.prepared.device, self.prepared.data.size)
        low = self.prepared.choices.precision == "bf16"
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=low):
            for start in range(0, len(seeds), batch):
                images = method.sample(Noise(list(seeds[start : start + batch]), device), None, how)
                pieces.append(generate.to_uint8(images).permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(pieces)

    def validate(self, trainer: Trainer) -> None:
        """Held-out losses of the averaged networks and, where asked for, scores of drawn images."""
        settings, twin = self.config.train.validate, trainer.average.twin
        held_out = self.prepared.faces.indices("test")[: settings.images]
        if not len(held_out):
            return
        real = self.prepared.faces.pixels(held_out, size=self.prepared.data.size)
        figures = _mean_losses(twin, real, self.prepared) if isinstance(twin, Validates) else {}
        if settings.kid_images and self.score is not None and isinstance(twin, Samples):
            fake = self.draw(twin, range(settings.kid_images), settings.kid_steps)
            figures = self.score(real, fake) | figures
        self.figures = {name: round(value, 6) for name, value in figures.items()}
        assert self.log is not None
        self.log.write({"images": trainer.images, "step": trainer.step, "validation": self.figures})

    # ---- all of it -----------------------------------------------------------------------------------

    def train(self) -> None:
        trainer, settings = self.trainer, self.config.train
        self.write_config()
        self.write_about("running")
        self.log, self.text = Log(self.run.log, images=trainer.images), ""
        self.logged = (trainer.seconds, trainer.images)
        self._write_reals()
        hooks = [Hook(Amount.parse(settings.log_every), self.write_log)]
        if isinstance(trainer.method, Samples):
            hooks.append(Hook(Amount.parse(settings.preview_every), self.preview))
        if settings.validate.images and len(self.prepared.faces.indices("test")):
            hooks.append(Hook(Amount.parse(settings.validate.every), self.validate))
        hooks.append(Hook(Amount.parse(settings.save_every), self.save))
        state = "diverged"
        try:
            with console.progress(self.run.name, trainer.total, done=trainer.images) as bar, _stop_signals() as stop:

                def tick(_: Trainer) -> None:
                    bar.describe(self.text)
                    bar.advance(settings.batch)

                trainer.run(hooks, stop=stop, tick=tick)
            state = "finished"
        except StoppedError:
            state = "stopped"
            raise
        except DivergedError:
            raise
        except BaseException:
            state = "stopped"
            raise
        finally:
            self.log.close()
            self.write_about(state)

    def _write_reals(self) -> None:
        self.run.samples.mkdir(exist_ok=True)
        reals = self.run.samples / "reals.png"
        if not reals.is_file():
            indices = self.prepared.faces.indices("train")[: self.config.train.preview]
            grids.grid(self.prepared.faces.pixels(indices, size=self.prepared.data.size)).save(reals)


def _figures(folder: Path) -> dict[str, float]:
    try:
        return json.loads((folder / "state.json").read_text())["figures"]
    except (OSError, ValueError, KeyError):
        return {}


@torch.no_grad()
def _mean_losses(twin: Method, real: np.ndarray, prepared: Prepared) -> dict[str, float]:
    """Means over held-out images; the noise is the same at every validation, so that curves compare."""
    assert isinstance(twin, Validates)
    sums: dict[str, float] = {}
    low = prepared.choices.precision == "bf16"
    for start in range(0, len(real), 64):
        pixels = torch.from_numpy(real[start : start + 64]).to(prepared.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        torch.manual_seed(seed_for("validation", start))
        with torch.autocast(prepared.device.type, torch.bfloat16, enabled=low):
            losses = twin.validate(Batch(pixels))
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(pixels)
    return {name: total / len(real) for name, total in sums.items()}


# ---- what the run says of itself --------------------------------------------------------------------------------


def _data_about(prepared: Prepared) -> dict[str, Any]:
    faces = prepared.faces
    return {
        "path": str(faces.path), "name": faces.name, "identity": faces.identity, "split": "train",
        "count": prepared.data.count, "size": prepared.data.size, "scaled_from": faces.size,
        "attributes": {name: list(values) for name, values in faces.attributes.items()},
    }  # fmt: skip


def _peak_memory(device: torch.device) -> int:
    """Bytes: the device's, or this process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _hardware() -> dict[str, Any]:
    return {"machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def _versions() -> dict[str, str]:
    return {"animegen": __version__, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def _git() -> str | None:
    """The commit of the folder the command runs in, where there is one."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
