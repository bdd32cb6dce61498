"""`animegen studies list`."""

from __future__ import annotations

from typing import Any

import typer

from animegen_cli.cli.command import Command

studies = typer.Typer(
    name="studies", no_args_is_help=True, help="The studies that are shipped: list.", rich_markup_mode=None
)


@studies.callback()
def _root() -> None:
    return None


@studies.command("list", cls=Command)
def list_studies() -> None:
    """All shipped studies: the document that each repeats, its runs and its budget.

    Example:

      animegen studies list
    """
    from animegen_cli import console, paths
    from animegen_cli.compare import study_file

    found = [_about(name, study_file.load(name)) for name in paths.studies()]
    columns = ["study", "document", "runs", "budget", "about"]
    rows = [[one["name"], one["document"], one["trainings"], one["budget"], one["title"]] for one in found]
    console.table("", columns, rows, right=["runs"])
    console.note("run one with `animegen compare --study NAME`; a document's number is a name too")
    console.result(found)


def _about(name: str, study: Any) -> dict[str, Any]:  # noqa: ANN401  # a StudyConfig, which loads pydantic
    """A line of the list as plain values; `trainings` counts a run once for each of its seeds."""
    durations = sorted({run.duration for run in study.runs.values() if run.duration})
    cores = f" on {study.cores} core{'s' * (study.cores > 1)}" if study.cores else ""
    budget = f"{study.budget}{cores} each" if study.budget else ", ".join(durations) or "as the presets say"
    return {
        "name": name, "title": study.title, "document": study.document, "runs": list(study.runs),
        "trainings": len(study.runs) * max(len(study.seeds), 1), "budget": budget, "size": study.size,
    }  # fmt: skip
