"""Which family can do what, in the words of a person who asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from animegen_cli import paths
from animegen_cli.errors import DataError, UsageError
from animegen_cli.model import families
from animegen_cli.model.family import ABILITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animegen_cli.paths import Run

VERBS = {
    "samples": "draw from noise",
    "corrupts": "turn a picture into noise step by step",
    "translates": "translate pictures",
    "denoises": "find the image behind noise",
    "mixes": "mix two seeds",
    "projects": "find the code of a picture",
    "inpaints": "redraw part of a picture",
    "classifies": "recognize attributes",
    "exports": "be exported",
    "converts": "become a diffusers pipeline",
    "tunes": "tune a finished run",
}
"""Ability -> what a person asks for."""


def families_able(ability: str) -> list[str]:
    """The families that have an ability."""
    # Protocols with data members refuse `issubclass`; an object without content answers as a whole one would.
    return [name for name, kind in families.loadable().items() if isinstance(object.__new__(kind), ABILITIES[ability])]


def families_editing(field: str) -> list[str]:
    """The families whose translation reads this field of `Edit`."""
    return [name for name in families_able("translates") if field in getattr(families.load(name), "edits")]  # noqa: B009


def only(families: Sequence[str]) -> str:
    """A hint that names the families that can do what was asked."""
    return f"families that can: {', '.join(families)}" if families else "no family can"


def open_run(spec: str | None, ability: str) -> Run:
    """The run that `spec` means, or the newest, with weights and this ability; errors name the families that have it.

    Raises:
        UsageError: a run of a family without the ability.
        DataError: no such run, or one without weights.
    """
    if spec is None and not any(run.able(ability) for run in paths.runs()):
        hint = f"{only(families_able(ability))}; {paths.how_to_train(ability)}, or name its folder"
        raise DataError(f"no run under {paths.RUNS}/ can {VERBS[ability]}", hint=hint)
    if spec is None:
        return paths.open_run(None, able_to=ability)
    run = paths.open_run(spec)
    family, recorded = run.about.get("family"), run.about.get("abilities", ())
    if ability not in recorded and family not in families_able(ability):  # a family may have learned since the run
        here = [other.name for other in paths.runs() if other.able(ability)][:-4:-1]
        raise UsageError(
            f"{run.name} is a {family} run, which cannot {VERBS[ability]}",
            hint=only(families_able(ability)) + (f"; runs here: {', '.join(here)}" if here else ""),
        )
    return paths.open_run(spec, able_to=(ability, *recorded))
