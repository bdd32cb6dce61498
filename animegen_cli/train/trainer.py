"""The one training loop. What alternates is data (`Family.phases`); what happens now and then is a hook.

Everything random in step n is a function of (seed, n), so a resumed run needs no generator state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from animegen_cli.config import Amount, RunConfig
from animegen_cli.errors import AnimegenError, DataError, DivergedError, StoppedError
from animegen_cli.model.checkpoint import Parts, optimizer_tensors, restore_optimizer
from animegen_cli.model.family import Batch, Family, Losses, Phase
from animegen_cli.ranks import ALONE, Ranks
from animegen_cli.seeds import seed_for
from animegen_cli.train import optim
from animegen_cli.train.ema import EMA, guide_of
from animegen_cli.train.parts import Buffers, TreeSum, rows, summed_over_ranks
from animegen_cli.train.signals import raising

if TYPE_CHECKING:
    from animegen_cli.data.loading import RawBatch
    from animegen_cli.train.options import ResolvedOptions


class Batches(Protocol):
    """Where batches come from: a pure function of the position in training."""

    def batch(self, images_seen: int, count: int | None = None) -> RawBatch:
        """uint8 images (B, 3, H, W), int64 labels (B, A) and, where asked for, photos, on the training device.

        Where several processes train, each gets the rows of its own parts.
        """
        ...


class Hook(NamedTuple):
    """Work to do after each so many images or seconds, and at the end."""

    every: Amount
    call: Callable[[Trainer], None]
    at_stop: bool = False
    """Also when training is asked to stop; what asks may kill soon, so only for what must not be lost."""


class _GivenUpError(Exception):
    """A stop was asked for within a part."""


def _never() -> bool:
    return False


class Trainer:
    """Trains the networks of a family. `images` and `step` are its only clocks."""

    def __init__(
        self,
        model: Family,
        batches: Batches,
        config: RunConfig,
        options: ResolvedOptions,
        *,
        device: torch.device,
        count: int,
        ranks: Ranks = ALONE,
    ) -> None:
        """Move the networks to the device and build their optimizers and averages.

        Args:
            model: the networks, which are trained in place.
            batches: where the images come from, on `device`.
            config: batch, duration, optimizers and average.
            options: parts, precision, memory format and compilation.
            device: where the networks compute.
            count: training images, the length of an epoch.
            ranks: the processes that share each step.
        """
        self.config = config
        self.options = options
        self.device = device
        self.ranks = ranks
        self.batches = batches
        self.count = count
        model = model.to(device)
        if options.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.model = model.train()
        self.total = Amount.parse(config.train.duration).images(batch=config.train.batch, count=count)
        self.phases = model.phases()
        self.trained = {p.name: [w for m in p.trains for w in m.parameters()] for p in self.phases}
        self.settings = {
            p.name: optim.lazy_share(
                config.optim[p.name], [lazy.every for lazy in self.phases if lazy.shares == p.name]
            )
            for p in self.phases
            if p.shares is None
        }
        modules = {p.name: p.trains for p in self.phases}
        self.optimizers = {
            name: optim.build(settings, self.trained[name], modules=modules[name])
            for name, settings in self.settings.items()
        }
        self.ema = EMA(model, config.train.ema, batch=config.train.batch, count=count)
        self.guide: dict[str, Tensor] | None = None
        share, batch = config.train.guide.at, config.train.batch
        self._guide_at = max(round(share * self.total / batch), 1) * batch if share else None
        if options.compile:
            for module in {id(m): m for p in self.phases for m in p.trains}.values():
                module.compile()
        self.buffers = Buffers(self.model)
        self._asked: Callable[[], bool] = _never
        self._asks_within = (
            device.type == "cpu" and not options.compile
        )  # elsewhere a part takes no time worth counting
        if self._asks_within:
            self._ask_within_parts()
        self.stopping = False  # whether a process was asked to stop when they last met
        self.images = 0
        self.step = 0
        self.seconds = 0.0
        self.processor_seconds: float | None = 0.0
        self.bad = torch.zeros((), device=device)
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, float] = {}

    # ---- one step -----------------------------------------------------------------------------------------

    def train_step(self, stop: Callable[[], bool] = _never) -> bool:
        """Update every phase that is due, then the average; returns whether the step was taken.

        Args:
            stop: asked before each part, and within on a CPU, while nothing of the step is decided yet: where it says so, here
                or in another process, the step is given up and everything is as it was before.

        Raises:
            torch.OutOfMemoryError: a part did not fit, here or in another process.
        """
        raw = self.batches.batch(self.images, self.config.train.batch)
        due = [phase for phase in self.phases if self.step % phase.every == 0]
        for phase in due:
            with _trains_only(phase, self.model, alone=len(self.phases) == 1), self._arithmetic(phase):
                if not self._backward(phase, raw, stop, undecided=phase is due[0]):
                    return False
            self._update(phase)
        self.step += 1
        self.images += self.config.train.batch
        if self.ranks.first:
            self.ema.update(self.step)
            if self.guide is None and self._guide_at is not None and self.images >= self._guide_at:
                self.guide = guide_of(self.ema.model)
        return True

    def _backward(self, phase: Phase, raw: RawBatch, stop: Callable[[], bool], *, undecided: bool) -> bool:
        """Gradients of the whole batch: the sum over its parts, wherever they are computed; False where the step is given up."""
        parts = self.options.parts
        trained = self.trained[phase.name]
        total = TreeSum()
        found: tuple[list[str], list[bool]] | None = None
        full = False
        keeps = parts > 1 or (undecided and self._asks_within)  # else nothing can come between
        if keeps:
            self.buffers.begin()
        try:
            self._asked = stop if undecided else _never
            found = self._add_parts(phase, raw, total)
        except torch.OutOfMemoryError:
            full = True
        finally:
            self._asked = _never
        given_up, full, self.stopping = self._meet(given_up=not full and found is None, full=full, stop=stop())
        if given_up or full or found is None:
            _forget_gradients(trained)
            if keeps:
                self.buffers.restore()
            if full:
                raise torch.OutOfMemoryError
            return False
        names, touched = found
        sums = summed_over_ranks(self.ranks, total.total())
        for weight, gradient, was_touched in zip(trained, sums, touched, strict=False):
            weight.grad = gradient if was_touched else None
        for name, value in zip(names, sums[len(trained)], strict=True):
            self._count(f"{phase.name}/{name}", value, 1.0)
        if parts > 1:
            self.buffers.finish(sums[len(trained) + 1 :], parts)
        return True

    def _add_parts(self, phase: Phase, raw: RawBatch, total: TreeSum) -> tuple[list[str], list[bool]] | None:
        """Add this process's parts to `total`: gradients, one row of losses, buffers; None where a stop comes first.

        Returns the names of the losses, and which of the phase's weights the loss reaches: the same in every part.
        """
        parts = self.options.parts
        trained = self.trained[phase.name]
        names: list[str] = []
        touched: list[bool] = []
        for part in self.ranks.share(parts):
            if self._asked():
                return None
            if names:
                self.buffers.restore()  # each part begins with what the step began with
            try:
                losses, share = self._backward_part(phase, raw, part)
            except _GivenUpError:
                return None
            names = list(losses)
            touched = [weight.grad is not None for weight in trained]
            gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in trained]
            row = torch.stack([value.detach().float() for value in losses.values()]) * share
            _forget_gradients(trained)
            total.add([*gradients, row, *(self.buffers.of_part(part, parts) if parts > 1 else ())])
        return names, touched

    def _ask_within_parts(self) -> None:
        """Look for a stop before every layer, forward and backward: a part of a large model takes a CPU minutes."""

        def ask(*_: object) -> None:
            if self._asked():
                raise _GivenUpError

        for module in self.model.modules():
            module.register_forward_pre_hook(ask)
        for weight in {id(w): w for weights in self.trained.values() for w in weights}.values():
            weight.register_post_accumulate_grad_hook(ask)

    def _backward_part(self, phase: Phase, raw: RawBatch, part: int) -> tuple[Losses, float]:
        """Add a part's gradients up where the weights hold theirs; returns its losses, and its share of the batch."""
        parts, batch = self.options.parts, self.config.train.batch
        images, labels, photos = raw
        own = rows(part, parts, batch)
        begin = rows(min(self.ranks.share(parts)), parts, batch).start
        here = slice(own.start - begin, own.stop - begin)  # `raw` holds the images of this process alone
        torch.manual_seed(seed_for(self.config.train.seed, self.step, phase.name, part))
        losses = phase.loss(
            Batch(
                self._pixels(images[here]),
                photos=None if photos is None else self._pixels(photos[here]),
                labels=labels[here] if labels.shape[1] else None,
                images_seen=self.images,
                part=part,
                parts=parts,
            )
        )
        share = (own.stop - own.start) / batch
        (next(iter(losses.values())) * share).backward()
        return losses, share

    def _pixels(self, images: Tensor) -> Tensor:
        """uint8 to [-1, 1]; the memory format is given before autocast, so that each convolution finds it."""
        pixels = images.float().div_(127.5).sub_(1)
        return pixels.contiguous(memory_format=torch.channels_last) if self.options.channels_last else pixels

    def _update(self, phase: Phase) -> None:
        name = phase.shares or phase.name
        settings, optimizer = self.settings[name], self.optimizers[name]
        rate = optim.learning_rate(
            settings, self.images, total=self.total, batch=self.config.train.batch, count=self.count
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        norm, bad = optim.guarded_step(optimizer, self.trained[phase.name], settings.clip, settings.skip)
        first = (self.bad == 0) & (bad > 0)
        self.first_bad = torch.where(first, torch.full_like(self.first_bad, self.step), self.first_bad)
        self.bad = self.bad + bad
        self._count(f"{phase.name}/grad_norm", norm.detach(), 1.0)

    @contextmanager
    def _arithmetic(self, phase: Phase) -> Iterator[None]:
        """bf16 autocast where resolved; `exact` phases run in fp32 and never compiled."""
        low = self.options.precision == "bf16" and not phase.exact
        stance: Literal["force_eager", "default"] = "force_eager" if phase.exact else "default"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low), torch.compiler.set_stance(stance):
            yield

    def _count(self, name: str, value: Tensor, weight: float) -> None:
        self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.counts[name] = self.counts.get(name, 0.0) + weight

    # ---- the loop -----------------------------------------------------------------------------------------

    def run(self, hooks: Sequence[Hook], *, stop: Callable[[], bool], on_step: Callable[[Trainer], None]) -> None:
        """Train to the end.

        Args:
            hooks: called when due, in order; at the end see `finish`.
            stop: asked before every part and after every step; True ends with StoppedError after the hooks that are called
                `at_stop`. Where it comes before a step's first update the step is given up.
            on_step: called after every step, for progress.

        Raises:
            DivergedError: a loss or gradient stopped being finite.
            StoppedError: `stop` said so, here or in another process.
            SystemExit: the first process has ended, with its exit code.
        """
        due = [self._next_due(hook.every) for hook in hooks]
        while self.images < self.total:
            began, worked = time.perf_counter(), time.process_time()
            taken = self.train_step(stop)
            self.seconds += time.perf_counter() - began
            if self.processor_seconds is not None:  # the others do as much in the same steps
                self.processor_seconds += (time.process_time() - worked) * self.ranks.count
            if taken:
                on_step(self)
            stopping = not taken or self.stopping or (self.ranks.count == 1 and stop())
            finished = self.images >= self.total
            with self._missed():
                if finished and hooks:  # the first process has them
                    self.finish(hooks)
                for index, hook in enumerate([] if finished else hooks):
                    clock = time.monotonic() if hook.every.seconds is not None else self.images
                    if clock >= due[index] or (stopping and hook.at_stop):
                        hook.call(self)
                        due[index] = self._next_due(hook.every)
            if finished or stopping:
                self._meet()  # the others wait until the first one has drawn and saved
            if stopping and not finished:
                raise StoppedError(
                    f"saved at {self.images:,} of {self.total:,} images",
                    hint="type the same command again to go on",
                )

    def finish(self, hooks: Sequence[Hook]) -> None:
        """Call every hook in order, the first and those that are called `at_stop` before the others: what is trained is safe
        before pictures and figures are made, which may take minutes.

        Raises:
            StoppedError: a stop was asked for after that, or before; it comes at once.
        """
        for hook in [*hooks[:1], *(hook for hook in hooks[1:] if hook.at_stop)]:
            hook.call(self)
        stopped = StoppedError(
            f"saved after the last of {self.total:,} images",
            hint="type the same command again for the pictures and figures that are left to make",
        )
        with raising(stopped):
            for hook in hooks[1:]:
                hook.call(self)

    def _meet(
        self, *, given_up: bool = False, full: bool = False, stop: bool = False, left: int = 0
    ) -> tuple[bool, bool, bool]:
        """Meet the other processes; returns whether one of them gives the step up, ran out of memory, was asked to stop.

        Raises:
            SystemExit: the first process ends with the code `left`.
        """
        *found, code = self.ranks.said(given_up, full, stop, left)
        if code and not left:
            raise SystemExit(int(code))
        return bool(found[0]), bool(found[1]), bool(found[2])

    @contextmanager
    def _missed(self) -> Iterator[None]:
        """Tell the others, where they next meet, that this process ends by an error."""
        try:
            yield
        except BaseException as error:
            self._meet(left=error.exit_code if isinstance(error, AnimegenError) else 1)
            raise

    def _next_due(self, every: Amount) -> float:
        if every.seconds is not None:
            return time.monotonic() + every.seconds
        interval = max(every.images(batch=self.config.train.batch, count=self.count), 1)
        return (self.images // interval + 1) * interval

    def check(self) -> None:
        """Wait for the device.

        Raises:
            DivergedError: a gradient was not finite in some step so far.
        """
        if self.bad.item() > 0:
            raise DivergedError(
                f"the loss or a gradient was not finite at step {int(self.first_bad.item()):,}",
                hint=f"the last good state is kept; try a lower rate, such as `{self.lower_lr_flag()}`",
            )

    def lower_lr_flag(self) -> str:
        """Return what to type for a quarter of the learning rate."""
        name, section = next(iter(self.config.optim.items()))
        return f"--set optim.{name}.lr={section.lr / 4:g}"

    def take_losses(self) -> dict[str, float]:
        """Return the mean of each loss since the last call, by `<phase>/<loss>`; waits for the device."""
        means = {name: float(value) / max(self.counts[name], 1e-9) for name, value in self.sums.items()}
        self.sums = {}
        self.counts = {}
        return means

    # ---- state --------------------------------------------------------------------------------------------

    def state_dict(self) -> Parts:
        """Return everything that outlives a step but the counters, as named groups of tensors.

        The names are those of a state's files: `method` (the networks), `ema` (their averages), `optim-<phase>`, `guide`
        once it is taken, and `sums` (losses since the last line of the log, their weights under the same names with a `#`).
        """
        return {
            "method": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            **{f"optim-{name}": optimizer_tensors(optimizer) for name, optimizer in self.optimizers.items()},
            **({} if self.guide is None else {"guide": self.guide}),
            "sums": self.sums | {f"{name}#": torch.tensor(n, dtype=torch.float64) for name, n in self.counts.items()},
        }

    def restore(self, state: Parts, about: Mapping[str, Any]) -> None:
        """Go on from a state; DataError when its networks have other shapes.

        Args:
            state: what `state_dict` returned.
            about: its counters `images`, `step` and `seconds`.
        """
        for name, module in (("method", self.model), ("ema", self.ema.model)):
            _fill(module, state[name])
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, state[f"optim-{name}"])
        self.guide = {name: t.to(self.device) for name, t in state["guide"].items()} if "guide" in state else None
        sums = state.get("sums", {})
        self.counts = {name[:-1]: float(value) for name, value in sums.items() if name.endswith("#")}
        self.sums = {name: sums[name].to(self.device) for name in self.counts}
        self.images = about["images"]
        self.step = about["step"]
        self.seconds = about["seconds"]
        self.processor_seconds = about.get("processor_seconds")  # older states do not know it


def _forget_gradients(weights: Sequence[nn.Parameter]) -> None:
    for weight in weights:
        weight.grad = None


def _fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy in place, so that memory formats and references stay."""
    own = module.state_dict()
    if own.keys() != tensors.keys() or any(own[name].shape != tensors[name].shape for name in own):
        raise DataError(
            "the state belongs to other networks", hint="use the config it was made with, or `--resume none`"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


@contextmanager
def _trains_only(phase: Phase, model: Family, *, alone: bool) -> Iterator[None]:
    """Only the phase's own modules need gradients; the others would pay for gradients that nobody reads."""
    if not alone:
        model.requires_grad_(False)
        for module in phase.trains:
            module.requires_grad_(True)
    yield
