"""One process's work on a run: what is written, drawn and measured while the loop goes round."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from animegen_cli import __version__, config, console, paths
from animegen_cli.config import Amount, RunConfig
from animegen_cli.data.dataset import FaceSet
from animegen_cli.data.loading import Loader
from animegen_cli.device import machine_about
from animegen_cli.errors import DivergedError, MachineError
from animegen_cli.metrics.protocol import better
from animegen_cli.model import checkpoint
from animegen_cli.model.family import (
    Batch,
    Classifies,
    DataSpec,
    Edit,
    Embeds,
    Family,
    Finding,
    Samples,
    Translates,
    Validates,
    abilities_of,
)
from animegen_cli.model.noise import Noise
from animegen_cli.model.pixels import channels_first, channels_last, from_uint8, to_uint8
from animegen_cli.report import grids, page
from animegen_cli.sample.trained import inference_state, micro_batch, spec_to_dict
from animegen_cli.seeds import seed_for
from animegen_cli.train import estimate, folder
from animegen_cli.train.doctor import Doctor
from animegen_cli.train.log import Log
from animegen_cli.train.options import ResolvedOptions
from animegen_cli.train.trainer import Hook, Trainer

if TYPE_CHECKING:
    from pathlib import Path

    from animegen_cli.paths import Run

Scorer = Callable[[np.ndarray, np.ndarray], dict[str, float]]
"""(real, fake) uint8 images (n, H, W, 3) -> named scores; passed in by the command, so that metrics never call up."""


class Prepared(NamedTuple):
    """A request that was found to be possible: nothing is trained yet."""

    config: RunConfig
    faces: FaceSet
    data: DataSpec
    loader: Loader
    model: Family
    options: ResolvedOptions
    device: torch.device


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
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


class Session:
    """A run folder, a trainer, and the hooks that tie them together."""

    def __init__(self, run: Run, prepared: Prepared, score: Scorer | None) -> None:
        self.run, self.prepared, self.score = run, prepared, score
        self.config = prepared.config
        self.cost = estimate.cost(prepared.model, self.config, precision=prepared.options.precision)
        self.trainer = Trainer(
            prepared.model,
            prepared.loader,
            self.config,
            prepared.options,
            device=prepared.device,
            count=prepared.data.count,
        )
        self.log: Log | None = None
        self.logged = (0.0, 0)  # (seconds, images) at the last line
        self.figures: dict[str, float] = {}  # of the latest validation
        self.doctor = Doctor()

    # ---- files ---------------------------------------------------------------------------------------

    def write_about(self, state: str) -> None:
        trainer, prepared = self.trainer, self.prepared
        rate = trainer.images / trainer.seconds if trainer.seconds else 0.0
        paths.write_json(
            self.run.facts,
            {
                "animegen": __version__, "family": self.config.family, "preset": self.config.preset, "state": state,
                "abilities": list(abilities_of(prepared.model)), "images": trainer.images, "target_images": trainer.total,
                "steps": trainer.step, "seconds": round(trainer.seconds, 2), "images_per_second": round(rate, 2),
                "parameters": self.cost.parameters, "flops_per_image": self.cost.flops,
                "data": folder.data_about(prepared.faces, prepared.data), **machine_about(prepared.device),
                "resolved": trainer.options.to_dict(), "notes": prepared.model.notes, "findings": self.doctor.to_list(),
                "validation": self.figures,
            },
        )  # fmt: skip

    def write_config(self) -> None:
        values = self.config.to_dict() | {"data": str(self.prepared.faces.path)}
        temporary = self.run.config.with_name(".config.yaml.tmp")
        temporary.write_text(config.to_yaml(values), encoding="utf-8")
        os.replace(temporary, self.run.config)

    def restore(self, parts: checkpoint.Parts, state: Mapping[str, Any]) -> None:
        """Go on from a state that `save` wrote."""
        self.trainer.restore(parts, state)
        self.figures = state["figures"]
        self.doctor = Doctor(state.get("findings", ()))

    def save(self, trainer: Trainer) -> None:
        """The weights and a complete state; never a bad one.

        In this order: whoever is killed between the two goes on from the state before, and writes both again.
        """
        trainer.check()
        about = {
            "images": trainer.images, "step": trainer.step, "seconds": trainer.seconds, "figures": self.figures,
            "findings": self.doctor.to_list(), "resolved": trainer.options.to_dict(), "config": self.config.to_dict(),
            "identity": self.prepared.faces.identity,
        }  # fmt: skip
        weights = {
            "family": self.config.family, "preset": self.config.preset, "images": trainer.images,
            "config": self.config.to_dict(), "data": spec_to_dict(self.prepared.data),
            "abilities": list(abilities_of(self.prepared.model)),
        }  # fmt: skip
        checkpoint.save_weights(self.run.weights, inference_state(trainer.ema.model), weights)
        checkpoint.save_state(self.run.resume / f"{trainer.images:012d}", trainer.parts(), about)
        self._prune()
        self.write_about("running")

    def _prune(self) -> None:
        """Keep the newest states, the newest healthy one and the one with the best first figure of its validation.

        What a kill left half-written goes.
        """
        for rest in self.run.resume.glob(".*.tmp"):
            shutil.rmtree(rest, ignore_errors=True)
        states = self.run.states()
        kept = set(states[-self.config.train.keep :])
        said = {state: _said(state) for state in states}
        scored = [(_rank(figures), state) for state in states if (figures := said[state].get("figures"))]
        if scored:
            kept.add(min(scored)[1])
        kept |= set([state for state in states if said[state] and not said[state].get("findings")][-1:])
        for state in states:
            if state not in kept:
                shutil.rmtree(state.rename(state.with_name(f".{state.name}.tmp")))  # killed here, no half state is seen

    # ---- hooks ---------------------------------------------------------------------------------------

    def write_log(self, trainer: Trainer) -> None:
        trainer.check()
        seconds, images = self.logged
        rate = (trainer.images - images) / max(trainer.seconds - seconds, 1e-9)
        self.logged = (trainer.seconds, trainer.images)
        rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in trainer.optimizers.items()}
        losses = {name: round(value, 6) for name, value in trainer.take_losses().items()}
        distance = float(trainer.ema.distance())
        self.report(self.doctor.read(trainer.model, losses, trainer.images), trainer)
        assert self.log is not None
        self.log.write(
            {
                "images": trainer.images, "step": trainer.step, "seconds": round(trainer.seconds, 3),
                "images_per_second": round(rate, 2), "lr": rates, **losses, "ema/distance": round(distance, 8),
                "loader/waited": round(self.prepared.loader.waited, 3),
            }
        )  # fmt: skip
        self.text = f"{rate:.0f} images/s  " + "  ".join(_brief(losses))

    def report(self, fresh: Sequence[Finding], trainer: Trainer) -> None:
        """Say what the doctor has found, with the flag to change and the state to go back to."""
        if not fresh:
            return
        healthy = [state for state in self.run.states() if (said := _said(state)) and not said.get("findings")]
        back = f"; the last healthy state is {healthy[-1]}" if healthy else ""
        for finding in fresh:
            console.warn(f"{finding.name} at {trainer.images:,} images: {finding.says}. Change: {finding.flag}{back}")
        assert self.log is not None
        self.log.write(
            {"images": trainer.images, "step": trainer.step, "findings": [finding.name for finding in fresh]}
        )

    @property
    def low(self) -> bool:
        """Whether networks compute in bf16."""
        return self.prepared.options.precision == "bf16"

    def preview(self, trainer: Trainer) -> None:
        """The same seeds, or the same held-out pictures, from the raw and the averaged networks."""
        self.run.samples.mkdir(exist_ok=True)
        trainer.model.eval()
        count = self.config.train.preview
        for name, model in (("raw", trainer.model), ("ema", trainer.ema.model)):
            file = self.run.samples / f"{name}-{trainer.images:012d}.png"
            if isinstance(model, Samples):
                drawn = self.draw(model, range(count))
                grids.grid(drawn).save(file)
            elif isinstance(model, Translates):
                drawn = self.translate_held_out(model, count, file)
            else:
                self.recognise_held_out(model, count, file)
        trainer.model.train()
        if not isinstance(trainer.model, Samples | Translates):
            return  # the doctor looks at what is drawn
        fresh = self.doctor.look(
            drawn, self.reals, progress=trainer.images / max(trainer.total, 1), images=trainer.images,
            flag=trainer.lower_lr_flag(),
        )  # fmt: skip
        self.report(fresh, trainer)

    @functools.cached_property
    def reals(self) -> np.ndarray:
        """As many training faces as a preview shows."""
        faces, data, count = self.prepared.faces, self.prepared.data, self.config.train.preview
        return faces.pixels(_spread(faces.indices("train"), count), size=data.size)

    def translate_held_out(self, model: Family, count: int, file: Path) -> np.ndarray:
        """A sheet of held-out photos above what becomes of them, and of faces above their way back where there is one."""
        assert isinstance(model, Translates)
        faces, results, pairs = self.prepared.faces, [], []
        for domain, edit in (("photos", Edit()), ("anime", Edit(reverse=True))):
            if domain == "anime" and "reverse" not in model.edits:
                continue
            held_out = faces.indices("test", domain)
            chosen = (held_out if len(held_out) else faces.indices("train", domain))[: min(count, 10)]
            before = faces.pixels(chosen, size=self.prepared.data.size)
            after = self._translate(model, before, edit)
            pairs += [before, after]
            results.append(after)
        columns = min(len(pixels) for pixels in pairs)
        grids.grid(np.concatenate([pixels[:columns] for pixels in pairs]), columns).save(file)
        return results[0]

    def recognise_held_out(self, model: Family, count: int, file: Path) -> None:
        """A sheet of held-out faces with the values that are recognised; `?` marks those that the labels deny."""
        assert isinstance(model, Embeds)
        assert isinstance(model, Classifies)
        faces, device, attributes = self.prepared.faces, self.prepared.device, self.prepared.data.attributes
        held_out = faces.indices("test")
        chosen = _spread(held_out if len(held_out) else faces.indices("train"), count)
        pixels, labels = faces.pixels(chosen, size=self.prepared.data.size), faces.labels(chosen)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self.low):
            logits = model.classify(model.embed(_float(pixels, device)))
        said = {name: guess.argmax(1).tolist() for name, guess in logits.items()}
        known = dict(zip(attributes, labels.T.tolist(), strict=True))
        captions = [
            ", ".join(
                attributes[name][values[row]] + ("" if known[name][row] in (-1, values[row]) else "?")
                for name, values in said.items()
            )
            for row in range(len(chosen))
        ]
        grids.grid(pixels, labels=captions, zoom=max(128 // self.prepared.data.size, 1)).save(file)

    def _translate(self, model: Family, pixels: np.ndarray, edit: Edit) -> np.ndarray:
        assert isinstance(model, Translates)
        device, pieces = self.prepared.device, []
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self.low):
            for image in _float(pixels, device).split(1):
                images = model.translate(image, Noise([0], device), edit, self.config.sample.preview())
                pieces.append(channels_last(to_uint8(images)))
        return np.concatenate(pieces)

    def draw(self, model: Family, seeds: Sequence[int], steps: int | None = None) -> np.ndarray:
        """Images of the networks as they are in training, uint8 (n, H, W, 3)."""
        assert isinstance(model, Samples)
        sampling = self.config.sample.preview()
        if steps is not None and hasattr(sampling, "steps"):
            sampling = type(sampling)(**{**sampling.__dict__, "steps": steps})
        device, pieces, batch = (
            self.prepared.device,
            [],
            micro_batch(self.prepared.device, self.prepared.data.size),
        )
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self.low):
            for start in range(0, len(seeds), batch):
                images = model.sample(Noise(list(seeds[start : start + batch]), device), None, sampling)
                pieces.append(channels_last(to_uint8(images)))
        return np.concatenate(pieces)

    def validate(self, trainer: Trainer) -> None:
        """Held-out losses of the averaged networks and, where asked for, scores of drawn images."""
        settings, ema_model = self.config.train.validate, trainer.ema.model
        held_out = self.prepared.faces.indices("test")
        if not len(held_out):
            return
        held_out = _spread(held_out, settings.images)
        real = self.prepared.faces.pixels(held_out, size=self.prepared.data.size)
        figures = _mean_losses(ema_model, real, held_out, self.prepared) if isinstance(ema_model, Validates) else {}
        if settings.kid_images and self.score is not None and isinstance(ema_model, Samples):
            fake = self.draw(ema_model, range(settings.kid_images), settings.kid_steps)
            figures = self.score(real, fake) | figures
        self.figures = {name: round(value, 6) for name, value in figures.items()}
        if not self.figures:
            return
        assert self.log is not None
        self.log.write({"images": trainer.images, "step": trainer.step, "validation": self.figures})
        console.note(
            f"held out at {trainer.images:,} images: "
            + ", ".join(f"{name} {value:.4g}" for name, value in self.figures.items())
        )

    # ---- all of it -----------------------------------------------------------------------------------

    def train(self) -> None:
        """Go round the loop until the end.

        Raises:
            DivergedError, StoppedError: from the loop.
            MachineError: the disk or the device is full; the states before stay whole.
        """
        try:
            self._train()
        except OSError as error:
            raise MachineError(
                f"cannot write to {self.run.path}: {error.strerror or error}",
                hint="free some space, then type the same command again",
            ) from error
        except torch.OutOfMemoryError as error:
            raise MachineError(
                "the device has too little memory for this micro-batch",
                hint=f"type `--batch-gpu {max(self.prepared.options.batch_gpu // 2, 1)}`: the batch in all stays the same",
            ) from error
        except RuntimeError as error:
            if not self.config.train.deterministic or "deterministic" not in str(error):
                raise
            raise MachineError(
                f"this device has no deterministic kernel for a part of this family: {str(error).splitlines()[0]}",
                hint="leave out `--deterministic`, or switch off what needs it, such as `--set model.ada=false`",
            ) from error

    def _train(self) -> None:
        trainer, settings = self.trainer, self.config.train
        self.write_about("running")
        self.write_config()
        self.log, self.text = Log(self.run.log, images=trainer.images), ""
        self.logged = (trainer.seconds, trainer.images)
        self._write_reals()
        hooks = [Hook(Amount.parse(settings.log_every), self.write_log)]
        if isinstance(trainer.model, Samples | Translates | Classifies):
            hooks.append(Hook(Amount.parse(settings.preview_every), self.preview))
        if settings.validate.images and len(self.prepared.faces.indices("test")):
            hooks.append(Hook(Amount.parse(settings.validate.every), self.validate))
        hooks.append(Hook(Amount.parse(settings.save_every), self.save, at_stop=True))
        state = "stopped"
        try:
            with (
                console.progress(self.run.name, trainer.total, done=trainer.images) as bar,
                stop_signals() as stop,
            ):

                def on_step(_: Trainer) -> None:
                    bar.describe(self.text)
                    bar.advance(settings.batch)

                if trainer.images >= trainer.total and not self.run.weights.is_file():
                    for hook in hooks[1:]:  # nothing to train: an untrained baseline still draws and has weights
                        hook.call(trainer)
                trainer.run(hooks, stop=stop, on_step=on_step)
            state = "finished"
        except DivergedError:
            state = "diverged"
            raise
        finally:
            self.log.close()
            self.write_about(state)
        page.write(self.run)

    def _write_reals(self) -> None:
        self.run.samples.mkdir(exist_ok=True)
        reals = self.run.samples / "reals.png"
        if not reals.is_file():
            indices = self.prepared.faces.indices("train")[: self.config.train.preview]
            grids.grid(self.prepared.faces.pixels(indices, size=self.prepared.data.size)).save(reals)


def _brief(losses: Mapping[str, float]) -> Iterator[str]:
    """The losses for a line of progress; those of single levels (`kl_07`) are for the log."""
    for name, value in losses.items():
        if not name[-2:].isdigit():
            yield f"{name.split('/')[-1]} {value:.4g}"


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of them, evenly spread: a set's order often follows the year."""
    return indices[:: max(len(indices) // count, 1)][:count]


def _rank(figures: Mapping[str, float]) -> float:
    """The first figure of a validation, turned so that lower is better; a loss, where its name says nothing, is."""
    name, value = next(iter(figures.items()))
    return -value if better(name) == "higher" else value


def _said(state: Path) -> dict[str, Any]:
    """What a state was saved with: the figures of its validation and what the doctor found."""
    try:
        return json.loads((state / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


@torch.no_grad()
def _mean_losses(ema_model: Family, real: np.ndarray, indices: np.ndarray, prepared: Prepared) -> dict[str, float]:
    """Means over held-out images; the noise is the same at every validation, so that curves compare."""
    assert isinstance(ema_model, Validates)
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    low = prepared.options.precision == "bf16"
    labels = torch.from_numpy(prepared.faces.labels(indices)).to(prepared.device)
    photos = _photos(ema_model, prepared, len(real))
    for start in range(0, len(real), 64):
        part = slice(start, start + 64)
        pixels = _float(real[part], prepared.device)
        batch = Batch(
            pixels,
            photos=None if photos is None else _float(photos[part], prepared.device),
            labels=labels[part] if labels.shape[1] else None,
        )
        torch.manual_seed(seed_for("validation", start))
        with torch.autocast(prepared.device.type, torch.bfloat16, enabled=low):
            losses = ema_model.validate(batch)
        for name, value in losses.items():
            each = value[~value.isnan()] if value.ndim else value.expand(len(pixels))
            sums[name] = sums.get(name, 0.0) + float(each.double().sum())
            counts[name] = counts.get(name, 0) + len(each)
    return {name: total / counts[name] for name, total in sums.items() if counts[name]}


def _photos(model: Family, prepared: Prepared, count: int) -> np.ndarray | None:
    """As many held-out photos, repeated where there are fewer; None for families that train on faces alone."""
    if "photos" not in model.domains:
        return None
    held_out = prepared.faces.indices("test", "photos")
    chosen = held_out if len(held_out) else prepared.faces.indices("train", "photos")
    return prepared.faces.pixels(np.resize(chosen, count), size=prepared.data.size)


def _float(pixels: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 (n, H, W, 3) to (n, 3, H, W) in [-1, 1] on the device."""
    return from_uint8(channels_first(pixels), device)
