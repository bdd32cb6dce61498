"""What `animegen train` was asked for, and whether its words exist. Light: nothing here loads networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from animegen_cli import paths
from animegen_cli.errors import UsageError

if TYPE_CHECKING:  # at runtime where it is needed: pydantic takes longer to load than most answers
    from animegen_cli.config import Layer  # noqa: TC004  # nobody evaluates this dataclass's annotations

FLAGS = ("seed", "batch", "parts", "batch_gpu", "duration", "save_every", "keep", "deterministic", "loggers")
"""Options of `animegen train` that are keys of the section `train` of a config."""


def layers(flags: Iterable[tuple[str, str, object]]) -> list[Layer]:
    """Make layers of the config, which is loaded only then, of what was typed: (how messages call it, key, value)."""
    typed = list(flags)
    if not typed:
        return []
    from animegen_cli import config

    return [config.Layer.from_flag(*flag) for flag in typed]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A family, a preset and data; the names are those of the command's options."""

    family: str | None = None
    preset: str | None = None
    data: Path | None = None
    out: Path | None = None
    device: str | None = None
    nproc: int | None = None
    """Processes that were asked for; None leaves it to whoever started this one."""
    resume: str = "auto"
    """`auto`, `none`, or a run to go on with."""
    init_from: str | None = None
    budget: str | None = None
    """Training time such as `30 min`, in place of a duration."""
    configs: Sequence[Path] = ()
    own: Layer | None = None
    """The settings of the run that is gone on with, as the run holds them."""
    settings: Sequence[str] = ()
    """Words of `--set`."""
    flags: Sequence[Layer] = ()
    """Layers of flags such as `--batch`, which win over everything else."""

    @property
    def resumes_a_run(self) -> bool:
        """Whether a run was named to go on with."""
        return self.resume not in ("auto", "none")

    @property
    def runs_config(self) -> bool:
        """Whether the run that is gone on with says itself what it is."""
        return self.resumes_a_run and not (self.preset or self.configs)

    def named(self) -> tuple[str, str | None]:
        """The family and the preset, from the options or the config files; UsageError without a family."""
        family, preset = self.family, self.preset
        for layer in reversed(self.config_layers()):
            family = family or layer.values.get("family")
            preset = preset or layer.values.get("preset")
        if family is None and preset is not None and paths.is_preset_file(preset):
            family = self._family_of(preset)
        if family is None:
            file = "write `family: gan` into the file, or " if self.configs else ""
            raise UsageError(
                "no family given",
                hint=f'{file}type `animegen train --budget "30 min"`, which picks one for that time, or name one, such as '
                f"`animegen train gan`: {', '.join(paths.families())}",
            )
        return family, preset

    @staticmethod
    def _family_of(preset: str) -> str | None:
        """What a preset file says of its family."""
        from animegen_cli import config

        said = config.Layer.from_yaml(Path(preset).expanduser()).values.get("family")
        return None if said is None else str(said)

    def config_layers(self) -> list[Layer]:
        """The files of `--config`, lowest first, or a run's own settings; DataError or ConfigError for a broken file."""
        if self.own is not None:
            return [self.own]
        if not self.configs:
            return []
        from animegen_cli import config

        return [config.Layer.from_yaml(path) for path in self.configs]

    def check(self) -> None:
        """UsageError for a family, preset or setting that does not exist, ConfigError or DataError for a config file."""
        self._check_budget()
        if self.runs_config:
            return
        if not self.chooses_family:
            self._check_names()
        if self.settings:
            from animegen_cli import config

            for word in self.settings:  # several values are those of several trainings: `train/sweep.py`
                key, equals, _ = word.partition("=")
                config.Layer.from_settings([key + equals + value for value in config.values_of(word)])

    @property
    def chooses_family(self) -> bool:
        """Whether the budget is to be spent on the family that makes the best of it."""
        return self.budget is not None and self.family is None and self.preset is None and not self.configs

    def _check_names(self) -> None:
        family, preset = self.named()
        if preset is None or any("model" in layer.values for layer in self.config_layers()):
            paths.check_family(family)
        elif paths.is_preset_file(preset):
            from animegen_cli import config

            config.preset_layer(family, preset)
        else:
            paths.preset_file(family, preset)

    def _check_budget(self) -> None:
        """UsageError where the budget is no time, or where something else says how long to train."""
        if self.budget is None:
            return
        from animegen_cli.config import Amount

        example = 'write `--budget "30 min"`'
        try:
            seconds = Amount.parse(self.budget).seconds
        except ValueError as error:
            raise UsageError(f"--budget: {error}", hint=example) from error
        if not seconds:
            raise UsageError(
                f"`--budget {self.budget}` is no time", hint=f"{example}, or `--duration` for images and epochs"
            )
        if any("duration" in layer.values.get("train", {}) for layer in self.flags):
            raise UsageError("`--budget` and `--duration` both say how long to train", hint="leave one of them out")
        if self.resumes_a_run:
            raise UsageError("a run that is gone on with has its duration already", hint="`--duration` makes it longer")
        if (self.nproc or 1) > 1:
            raise UsageError("a budget is measured in one process", hint="leave `--nproc` out, or say `--duration`")
