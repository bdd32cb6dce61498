"""The surveys of `animegen compare`: `--survey` writes the page that asks people, `--votes` weighs their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from animegen_cli.errors import UsageError

if TYPE_CHECKING:
    from animegen_cli.compare.survey.results import SurveyResult
    from animegen_cli.paths import Run
    from animegen_cli.report.columns import Comparison
    from animegen_cli.report.same_seeds import Draw

Ask = Literal["realism", "diversity", "both"]


@dataclass(frozen=True)
class WeighedVotes:
    """A survey's result, what of it goes into `--json`, the files that hold it, and the survey's runs that are here."""

    result: SurveyResult
    as_json: dict[str, Any]
    files: dict[str, str]
    runs: list[Run]


def refuse(survey: Path | None, votes: Sequence[Path] | None, *, asking: bool, keep_failed: bool) -> None:
    """Raise UsageError for options of surveys that would do nothing."""
    if asking and (survey is None or votes):
        raise UsageError(
            "`--pairs` and `--ask` belong to `--survey`, which writes the page",
            hint="add `--survey DIR`, without `--votes`",
        )
    if keep_failed and not votes:
        raise UsageError("`--keep-failed` belongs to `--votes`", hint="name the answers with `--votes FILE.csv`")


def separate(words: Sequence[str], votes: Sequence[Path]) -> tuple[list[str], list[Path]]:
    """Tell runs from files of votes: after `--votes votes/*.csv` the shell passes all files but the first as runs."""
    also = [word for word in words if votes and word.lower().endswith(".csv") and Path(word).is_file()]
    return [word for word in words if word not in also], [*votes, *map(Path, also)]


def ask(
    compared: Comparison, numbers: Sequence[int], draw: Draw, folder: Path, *, pairs: int, what: Ask, reals: bool
) -> None:
    """Write a survey into `folder` and print what is in it."""
    from animegen_cli import console
    from animegen_cli.compare.survey import design, making

    questions = design.QUESTIONS if what == "both" else (what,)
    made = making.make(compared, numbers, draw, folder, pairs=pairs, questions=questions, reals=reals)
    for note in made.notes:
        console.warn(note)
    shown = ", ".join(f"{count} on {question}" for question, count in made.shown.items())
    console.result(
        {
            "page": str(made.page), "key": str(made.key), "contestants": list(made.contestants), "shown": made.shown,
            "checks": made.checks, "seeds": made.seeds, "notes": list(made.notes),
        }
    )  # fmt: skip
    console.note(f"{', '.join(made.contestants)}: {made.seeds} seeds; each rater sees {shown} and {made.checks} checks")
    console.note(f"page     {made.page}: give this file to people")
    console.note(f"key      {made.key}: keep it, it says what was shown")
    console.note(f"then     animegen compare --survey {folder} --votes FILE.csv")


def weigh(votes: Sequence[Path], folder: Path | None, out: Path, *, keep_failed: bool) -> WeighedVotes:
    """Read the votes, write `votes.md` and the like into `out`, and print the tables."""
    from animegen_cli import console
    from animegen_cli.compare.survey import results
    from animegen_cli.compare.survey.votes import files_of, read_key, read_votes
    from animegen_cli.report import tables

    files = files_of(votes)
    key = read_key(folder or files[0].parent)
    read, problems = read_votes(files, key)
    result = results.weigh(read, key, keep_failed=keep_failed)
    for warning in (*problems, *result.warnings):
        console.warn(warning)
    written = {name: str(path) for name, path in results.write(result, out).items()}
    for preference in result.preferences:
        tables.show(preference.table)
        for note in preference.table.notes:
            console.note(f"  {note}")
    console.note(f"votes    {out}/votes.md, .csv, .tex, .json")
    return WeighedVotes(result, results.as_json(result) | {"left_out": problems}, written, key.found_runs())
