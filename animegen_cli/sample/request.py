"""What `animegen sample` was asked for, and whether its words fit together. Light: nothing here loads networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from animegen_cli import paths
from animegen_cli.errors import UsageError

PRECISIONS = ("auto", "fp32", "bf16")
SEEDS, VARIATIONS = 16, 8
"""Images that are drawn where nobody says how many: of seeds, and variations of one."""
AMOUNT = 0.3
"""How far variations go where nobody says it: near enough to be relatives, far enough to be others."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A run, seeds, and what is to be drawn or made of pictures; the names are those of the command's options."""

    run: str | None = None
    """Folder, name or number; None is the newest run that draws."""
    like: Path | None = None
    """A picture whose recipe is followed; only the run, the folder, device, precision and batch are chosen beside it."""
    seeds: Sequence[int] | None = None
    """None draws the seeds 0 to 15, unless something else is asked for; with `vary` the seeds that variations go towards, the
    eight after it when None."""
    grid: bool = False
    out: Path | None = None
    """Folder; None is `<run>/drawn`."""
    form: str = "png"
    labels: Sequence[str] = ()
    """Words such as `hair=pink`."""
    batch: int | None = None
    precision: str = "auto"
    device: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the run's section `sample:`, from options of their own and from `--set`."""
    progress_strip: bool = False
    forward_strip: Path | None = None
    """A picture that turns into noise."""
    denoise_strip: bool = False
    interpolate: tuple[int, int] | None = None
    """Two seeds."""
    vary: int | None = None
    """The seed whose face is varied."""
    amount: float | None = None
    """Which part of the walk to another seed a variation goes, 0 to 1; None is `AMOUNT`."""
    gif: bool = False
    video: bool = False
    frames: int = 10
    """Images in a strip or walk."""
    mix: tuple[Sequence[int], Sequence[int]] | None = None
    """Seeds of the rows and of the columns."""
    cut: int | None = None
    """Levels of `mix` that come from the row."""
    project: Path | None = None
    """A picture whose code is sought."""
    project_steps: int = 500
    project_loss: str = "perceptual"
    inpaint: Path | None = None
    """The mask; white is redrawn."""
    image: Path | None = None
    """What the mask lies over."""
    fit: str | None = None

    @property
    def drawn_seeds(self) -> list[int]:
        """The seeds that images are drawn of; with `vary` first that of the face, then those that variations go towards."""
        if self.vary is None:
            return list(range(SEEDS) if self.seeds is None else self.seeds)
        others = range(self.vary + 1, self.vary + 1 + VARIATIONS) if self.seeds is None else self.seeds
        return [self.vary, *others]

    def check(self) -> None:
        """UsageError for words that do not exist or do not fit together, DataError where there is no such run."""
        if self.like is not None:
            self._check_like(self.like)
        if self.form not in ("png", "npz"):
            raise UsageError(f"no format `{self.form}`", hint="use `--format png` or `--format npz`")
        check_precision(self.precision)
        check_fit(self.fit)
        if (self.gif or self.video) and not self.interpolate:
            option = "--gif" if self.gif else "--video"
            raise UsageError(f"`{option}` needs a walk to show", hint="add `--interpolate 3 14 --frames 60`")
        if self.cut is not None and not self.mix:
            raise UsageError("`--cut` needs seeds to mix", hint="add `--mix 0-4 10-14`")
        if (self.inpaint is None) != (self.image is None):
            raise UsageError(
                "`--inpaint` and `--image` belong together", hint="write `--inpaint mask.png --image face.png`"
            )
        self._check_vary()
        if self.project_loss not in ("perceptual", "pixels") and "." not in self.project_loss:
            raise UsageError(
                f"no distance `{self.project_loss}`", hint="use perceptual or pixels, or name a VGG19 file"
            )
        if self.run is not None:
            paths.open_run(self.run)
        elif self.like is None:
            paths.require_runs("samples")

    def _check_vary(self) -> None:
        """UsageError for variations that cannot be, or of nothing, or beside something else that is drawn."""
        if self.vary is None:
            if self.amount is not None:
                raise UsageError(
                    "`--amount` needs a face to vary", hint=f"add `--vary 3`: `--vary 3 --amount {AMOUNT}`"
                )
            return
        check_variation(self.vary, self.seeds or (), AMOUNT if self.amount is None else self.amount)
        beside = {
            "--mix": self.mix, "--interpolate": self.interpolate, "--inpaint": self.inpaint, "--project": self.project,
            "--progress-strip": self.progress_strip, "--forward-strip": self.forward_strip,
            "--denoise-strip": self.denoise_strip,
        }  # fmt: skip
        for option, value in beside.items():
            if value:
                raise UsageError(
                    f"`--vary` and `{option}` exclude each other",
                    hint=f"write two commands: `animegen sample --vary {self.vary}`, then the one with `{option}`",
                )

    def _check_like(self, picture: Path) -> None:
        """UsageError for anything beside `--like` that the recipe says itself, DataError for a picture without a recipe."""
        from animegen_cli.sample import recipe  # with Pillow, which most commands do not need

        free = ("run", "like", "out", "device", "precision", "batch")
        own = [
            field for field in fields(self) if field.name not in free and getattr(self, field.name) != _default(field)
        ]
        if own:
            raise UsageError(
                "`--like` draws what the picture's recipe says, and nothing else can be chosen beside it but the run, `--out`, "
                "`--device`, `--precision` and `--batch`",
                hint=f"write `animegen sample --like {picture}` alone",
            )
        recipe.read(picture)


def _default(field: Field[Any]) -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def check_variation(seed: int, others: Sequence[int], amount: float) -> None:
    """UsageError unless the face of `seed` can be varied so far towards each of these seeds."""
    if not 0 <= amount <= 1:
        raise UsageError(
            f"an amount of {amount:g} is no part of the way to another face",
            hint=f"write 0 (the face itself) to 1 (the other face), such as `--amount {AMOUNT}`",
        )
    if seed in others:
        after = f"{seed + 1}-{seed + VARIATIONS}"
        raise UsageError(f"seed {seed} is the face itself, no variation of it", hint=f"write others: `--seeds {after}`")


def check_precision(precision: str) -> None:
    """UsageError unless it is a precision to draw in."""
    if precision not in PRECISIONS:
        raise UsageError(f"no precision `{precision}`", hint="use auto, fp32 or bf16")


def check_fit(fit: str | None) -> None:
    """UsageError unless it is a way to make a picture square, or None."""
    if fit is None:
        return
    from animegen_cli.data.cleaning import FITS  # with Pillow, which most commands do not need

    if fit not in FITS:
        raise UsageError(f"no fit `{fit}`", hint="use crop, pad or stretch")
