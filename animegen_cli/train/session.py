"""One process's work on a run: what is written, drawn and measured while the loop goes round."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from animegen_cli import __version__, config, console, disk, paths
from animegen_cli.config import Amount
from animegen_cli.device import machine_about
from animegen_cli.errors import DivergedError, MachineError
from animegen_cli.model import checkpoint
from animegen_cli.model.family import Classifies, Finding, Phase, Samples, Translates, abilities_of
from animegen_cli.report import page
from animegen_cli.sample.trained import GUIDE, inference_state, spec_to_dict
from animegen_cli.train import estimate, guide
from animegen_cli.train.doctor import Doctor
from animegen_cli.train.log import Log
from animegen_cli.train.previews import Previews
from animegen_cli.train.signals import stop_signals
from animegen_cli.train.trainer import Hook, Trainer
from animegen_cli.train.validation import Scorer, Validation, rank

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from animegen_cli.config import RunConfig
    from animegen_cli.data.dataset import FaceSet
    from animegen_cli.model.family import DataSpec
    from animegen_cli.paths import Run
    from animegen_cli.train.options import Prepared


class TooLargeError(MachineError):
    """A part of a step does not fit the device."""


class Session:
    """A run folder, a trainer, and the hooks that tie them together."""

    def __init__(
        self,
        run: Run,
        prepared: Prepared,
        cost: estimate.Cost,
        score: Scorer | None,
        state: tuple[checkpoint.Parts, Mapping[str, Any]] | None = None,
    ) -> None:
        """Build the trainer and write what a run has from its first moment: run.json, config.yaml and a log.

        Args:
            run: the folder, which this process holds (`lock.lock`).
            prepared: config, data, networks and options.
            cost: what a step takes.
            score: compares held-out with drawn images where the config asks for it.
            state: what `checkpoint.load_state` read, to go on from; its log is cut back to that moment.

        Raises:
            DataError: the state belongs to other networks.
            MachineError: the folder cannot be written.
        """
        self.run = run
        self.prepared = prepared
        self.config: RunConfig = prepared.config
        self.cost = cost
        self.trainer = Trainer(
            prepared.model,
            prepared.loader,
            self.config,
            prepared.options,
            device=prepared.device,
            count=prepared.data.count,
            ranks=prepared.ranks,
        )
        self.figures: dict[str, float] = {}  # of the latest validation
        self.guided: dict[str, float] = {}  # at the end: weight of autoguidance -> distance to held-out images
        self.doctor = Doctor()
        self.redo_from: int | None = (
            0  # bytes of the log, while the pictures and figures of the end are still to be made
        )
        if state is not None:
            tensors, about = state
            self.trainer.restore(tensors, about)
            self.figures = about["figures"]
            self.redo_from = about.get("redo_from")
            self.guided = dict(about.get("guided", {}))
            self.doctor = Doctor(about.get("findings", ()))
        self.previews = Previews(run.samples, prepared)
        self.validation = Validation(prepared, score)
        self.saved = self._counted()  # at the last state
        self.lost = False  # whether what came after it will never be saved
        self.status = ""  # for the line of progress: speed and losses at the last line of the log
        self.logged = (self.trainer.seconds, self.trainer.images)  # at the last line of the log
        with self._explained():
            self.write_about("running")
            self.write_config()
            self.log = Log(run.log, images=self.trainer.images, size=self.redo_from, config=self.config.to_dict())

    # ---- files ---------------------------------------------------------------------------------------

    def write_about(self, state: str) -> None:
        """Write run.json: what the run is, how far it has come, and its `state` (see `Run.state`)."""
        trainer, prepared = self.trainer, self.prepared
        images, step, seconds, processor_seconds = self.saved if self.lost else self._counted()
        rate = images / seconds if seconds else 0.0
        machine = machine_about(prepared.device)
        machine["versions"] |= paths.package_version(self.config.family)
        disk.write_json(
            self.run.facts,
            {
                "animegen": __version__, "family": self.config.family, "preset": self.config.preset, "state": state,
                "abilities": list(abilities_of(prepared.model)), "images": images, "target_images": trainer.total,
                "steps": step, "seconds": round(seconds, 2), "images_per_second": round(rate, 2),
                "processor_seconds": processor_seconds if processor_seconds is None else round(processor_seconds, 2),
                "parameters": self.cost.parameters, "flops_per_image": self.cost.flops,
                "data": _data_about(prepared.faces, prepared.data), **machine,
                "resolved": trainer.options.to_dict(), "notes": prepared.model.notes, "findings": self.doctor.to_list(),
                "quantities": dict(prepared.model.quantities), "validation": self.figures,
                **({"guided": self.guided} if self.guided else {}),
            },
            seal=True,
        )  # fmt: skip

    def _counted(self) -> tuple[int, int, float, float | None]:
        """Images seen, steps, seconds by the clock and of the processors, so far."""
        trainer = self.trainer
        return trainer.images, trainer.step, trainer.seconds, trainer.processor_seconds

    def write_config(self) -> None:
        """Write config.yaml, whole or not at all: every setting, and the data set; it runs again as it is."""
        values = self.config.to_dict() | {"data": str(self.prepared.faces.path)}
        disk.write_text(self.run.config, disk.seal_yaml(config.to_yaml(values)))

    def save(self, trainer: Trainer) -> None:
        """Write the weights and a complete state; never a bad one.

        In this order: whoever is killed between the two goes on from the state before, and writes both again.
        """
        trainer.check()
        if trainer.images < trainer.total:
            self.redo_from = None
        about = {
            "images": trainer.images, "step": trainer.step, "seconds": trainer.seconds,
            "processor_seconds": trainer.processor_seconds, "figures": self.figures,
            "findings": self.doctor.to_list(), "resolved": trainer.options.to_dict(), "guided": self.guided,
            "config": self.config.to_dict() | {"data": str(self.prepared.faces.path)},
            "identity": self.prepared.faces.identity, "redo_from": self.redo_from,
        }  # fmt: skip
        weights = {
            "family": self.config.family, "preset": self.config.preset, "images": trainer.images,
            "config": self._config_of_weights(), "data": spec_to_dict(self.prepared.data),
            "abilities": list(abilities_of(self.prepared.model)),
        }  # fmt: skip
        weaker = {GUIDE + name: tensor for name, tensor in (trainer.guide or {}).items()}
        checkpoint.save_weights(self.run.weights, inference_state(trainer.ema.model) | weaker, weights)
        state = self.run.resume / f"{trainer.images:012d}"
        if state.is_dir():  # what this process went on from, or saved before it drew and measured
            checkpoint.update_state(state, about)
        else:
            checkpoint.save_state(state, trainer.state_dict(), about)
        self.saved = self._counted()
        self._prune()
        self.write_about("running")

    def _config_of_weights(self) -> dict[str, Any]:
        """Return the config as the weights file holds it: its section `sample` says how strongly the guide in it guides."""
        config = self.config.to_dict()
        if "autoguidance" not in config["sample"]:
            return config
        weight = config["sample"]["autoguidance"]
        if self.trainer.guide is None:
            weight = 1.0  # there is nothing yet to lead away from
        elif self.guided:
            weight = float(min(self.guided, key=self.guided.__getitem__))
        return config | {"sample": config["sample"] | {"autoguidance": weight}}

    def _prune(self) -> None:
        """Keep the newest states, the newest healthy one and the one with the best first figure of its validation.

        What a kill left half-written goes.
        """
        for rest in self.run.resume.glob(".*.tmp"):
            shutil.rmtree(rest, ignore_errors=True)
        states = self.run.states()
        kept = set(states[-self.config.train.keep :])
        about = {state: _about(state) for state in states}
        scored = [(rank(figures), state) for state in states if (figures := about[state].get("figures"))]
        if scored:
            kept.add(min(scored)[1])
        kept |= set([state for state in states if _is_healthy(about[state])][-1:])
        for state in states:
            if state not in kept:
                shutil.rmtree(state.rename(state.with_name(f".{state.name}.tmp")))  # killed here, no half state is seen

    # ---- hooks ---------------------------------------------------------------------------------------

    def write_log(self, trainer: Trainer) -> None:
        """Log what happened since the last line: mean losses, rates and speed; the doctor reads them too.

        Raises:
            DivergedError: a gradient was not finite since the last check.
        """
        trainer.check()
        seconds, images = self.logged
        if trainer.images == images:
            return  # nothing happened since
        rate = (trainer.images - images) / max(trainer.seconds - seconds, 1e-9)
        self.logged = (trainer.seconds, trainer.images)
        rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in trainer.optimizers.items()}
        losses = {name: round(value, 6) for name, value in trainer.take_losses().items()}
        distance = float(trainer.ema.distance())
        self.report(self.doctor.read(trainer.model, losses, trainer.images), trainer)
        self.log.write(
            {
                "images": trainer.images, "step": trainer.step, "seconds": round(trainer.seconds, 3),
                "images_per_second": round(rate, 2), "lr": rates, **losses, "ema/distance": round(distance, 8),
                "loader/waited": round(self.prepared.loader.waited, 3),
            }
        )  # fmt: skip
        self.status = f", {rate:.3g}/s  " + "  ".join(_brief(losses, trainer.phases))
        if trainer.images >= trainer.total:
            self.redo_from = self.log.size()

    def report(self, fresh: Sequence[Finding], trainer: Trainer) -> None:
        """Say what the doctor has newly found, with the flag to change and the state to go back to."""
        if not fresh:
            return
        healthy = [state for state in self.run.states() if _is_healthy(_about(state))]
        back = f"; the last healthy state is {healthy[-1]}" if healthy else ""
        for finding in fresh:
            console.warn(f"{finding.name} at {trainer.images:,} images: {finding.says}. Change: {finding.flag}{back}")
        self.log.write(
            {"images": trainer.images, "step": trainer.step, "findings": [finding.name for finding in fresh]}
        )

    def preview(self, trainer: Trainer) -> None:
        """Draw the sheets, and let the doctor look at what the averaged networks drew."""
        drawn = self.previews.write(trainer)
        sheet = self.run.samples / f"ema-{trainer.images:012d}.png"
        if sheet.is_file():
            self.log.picture("previews", sheet, trainer.images)
        if len(sheets := list(self.run.samples.glob("ema-*.png"))) == 1:
            console.note(f"first picture: {sheets[0]}")
        if drawn is None:
            return
        fresh = self.doctor.look(
            drawn, self.previews.reals, progress=trainer.images / max(trainer.total, 1), images=trainer.images,
            flag=trainer.lower_lr_flag(),
        )  # fmt: skip
        self.report(fresh, trainer)

    def validate(self, trainer: Trainer) -> None:
        """Measure the averaged networks; their figures go to the log, to people, and with the next state."""
        self.figures = self.validation.measure(trainer.ema.model)
        if not self.figures:
            return
        self.log.write({"images": trainer.images, "step": trainer.step, "validation": self.figures})
        console.note(
            f"held out at {trainer.images:,} images: "
            + ", ".join(f"{name} {value:.4g}" for name, value in self.figures.items())
        )

    def choose_guidance(self, trainer: Trainer) -> None:
        """At the end of training find how strongly the guide should guide, by faces drawn with each weight in question."""
        score, settings = self.validation.score, self.config.train.guide
        if trainer.images < trainer.total or trainer.guide is None or score is None or not settings.weights:
            return
        found = guide.compare_weights(self.prepared, trainer.ema.model, trainer.guide, score)
        self.guided = {f"{weight:g}": distance for weight, distance in found.items()}
        if not found:
            return
        console.note(
            "autoguidance: " + ", ".join(f"weight {weight} scores {value:.4g}" for weight, value in self.guided.items())
            + f" on {settings.images} faces; drawing with {min(found, key=found.__getitem__):g}"
        )  # fmt: skip

    def note_end(self, trainer: Trainer) -> None:
        """At the end of training: with the next state nothing is left to do."""
        if trainer.images >= trainer.total:
            self.redo_from = None

    # ---- all of it -----------------------------------------------------------------------------------

    def train(self) -> None:
        """Go round the loop until the end.

        Raises:
            DivergedError, StoppedError: from the loop.
            MachineError: the disk or the device is full; the states before stay whole.
        """
        with self._explained():
            self._train()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the disk, the device or its kernels cannot do into a MachineError that says what to type."""
        try:
            yield
        except OSError as error:
            raise MachineError(
                f"cannot write to {self.run.path}: {error.strerror or error}",
                hint="free some space, then type the same command again",
            ) from error
        except torch.OutOfMemoryError as error:
            images = self.config.train.batch // self.prepared.options.parts
            raise TooLargeError(
                f"the device has too little memory for {images} images at once",
                hint=f"start anew with `--batch-gpu {max(images // 2, 1)}`: the batch in all stays the same",
            ) from error
        except RuntimeError as error:
            if not self.config.train.deterministic or "deterministic" not in str(error):
                raise
            raise MachineError(
                f"this device has no deterministic kernel for a part of this family: {str(error).splitlines()[0]}",
                hint="leave out `--deterministic`, or switch off what needs it, such as `--set model.ada=false`",
            ) from error

    def _hooks(self) -> list[Hook]:
        """The work to do now and then, in its order; the log comes first."""
        settings = self.config.train
        hooks = [Hook(Amount.parse(settings.log_every), self.write_log)]
        if isinstance(self.trainer.model, Samples | Translates | Classifies):
            hooks.append(Hook(Amount.parse(settings.preview_every), self.preview))
        if self.validation.wanted:
            hooks.append(Hook(Amount.parse(settings.validate.every), self.validate))
        hooks += [Hook(Amount.parse(settings.duration), end) for end in (self.choose_guidance, self.note_end)]
        hooks.append(Hook(Amount.parse(settings.save_every), self.save, at_stop=True))
        return hooks

    def _train(self) -> None:
        trainer, settings = self.trainer, self.config.train
        state = "stopped"
        try:
            self.previews.write_reals()
            hooks = self._hooks()
            with (
                console.progress(self.run.name, trainer.total, done=trainer.images) as bar,
                stop_signals() as stop,
            ):

                def on_step(trainer: Trainer) -> None:
                    bar.describe(f"{trainer.images:,} images{self.status}")
                    bar.advance(settings.batch)

                if trainer.images >= trainer.total and self.redo_from is not None:
                    trainer.finish(
                        hooks
                    )  # what a stop left of the end; an untrained baseline has pictures and figures too
                trainer.run(hooks, stop=stop, on_step=on_step)
            state = "finished"
        except DivergedError:
            state = "diverged"
            raise
        except KeyboardInterrupt:
            self.lost = True
            raise
        finally:
            self.log.close(state)
            self.write_about(state)
        page.write(self.run)


def _brief(losses: Mapping[str, float], phases: Sequence[Phase]) -> Iterator[str]:
    """At most two losses for a line of progress: the first of each of two phases, or the first two of the only one."""
    of_phases = {
        phase.name: [name for name in losses if name.startswith(f"{phase.name}/") and not name[-2:].isdigit()]
        for phase in phases
        if phase.every == 1  # a penalty now and then tells little
    }
    names = [found[0] for found in of_phases.values() if found]
    if len(names) == 1:
        names = next(iter(of_phases.values()))[:2]
    for name in names[:2]:
        phase, _, loss = name.partition("/")
        yield f"{loss if len(of_phases) == 1 else f'{phase} {loss}'} {losses[name]:.4g}"


def _about(state: Path) -> dict[str, Any]:
    """What a state was saved with, such as the figures of its validation; nothing where that cannot be read."""
    try:
        return dict(disk.parse_json((state / "state.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _is_healthy(about: Mapping[str, Any]) -> bool:
    """Whether a state can be read and was saved while the doctor had found nothing."""
    return bool(about) and not about.get("findings")


def _data_about(faces: FaceSet, data: DataSpec) -> dict[str, Any]:
    """Return what run.json says of the training set."""
    return {
        "path": str(faces.path), "name": faces.name, "identity": faces.identity, "split": "train", "count": data.count,
        "size": data.size, "scaled_from": faces.size,
        "attributes": {name: list(values) for name, values in faces.attributes.items()},
    }  # fmt: skip
