"""Reads votes from files of answers and the key: who preferred which contestant. Every field is checked."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from animegen_cli import paths
from animegen_cli.compare.survey.making import FORMAT, KEY, VERSION
from animegen_cli.errors import DataError
from animegen_cli.paths import Run
from animegen_cli.report.units import cut

COLUMNS = ("survey", "rater", "pair", "left", "answer", "ms")
_MOST_NAMED = 5


class Vote(NamedTuple):
    """One answer. `score`: 1 where the contestant called a was preferred, 0.5 for a tie, 0 where b was."""

    rater: str
    pair: str
    question: str
    score: float
    answer: str
    """left, right or tie, as it was given."""
    ms: int | None
    right: float | None = None
    """Of a check: the score of the right answer."""


@dataclass(frozen=True)
class Key:
    """What `key.json` says: contestants' names, and what each id of the page stands for."""

    survey: str
    contestants: tuple[str, ...]
    runs: tuple[str | None, ...]
    pairs: Mapping[str, tuple[str, int, int]]
    """id -> question, contestants a and b"""
    checks: Mapping[str, tuple[str, str]]
    """id -> question, right answer (a or b)"""

    def found_runs(self) -> list[Run]:
        """The runs that still lie where the survey was made."""
        return [Run(Path(run)) for run in self.runs if run and Run(Path(run)).exists]


def read_key(folder: Path) -> Key:
    """Read the key of the survey in `folder`.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / KEY
    if not path.is_file():
        raise DataError(
            f"there is no {KEY} in {folder}, and without it nobody knows what the votes are for",
            hint="name the survey's folder with `--survey`",
        )
    value = paths.read_json(path, what="survey")
    try:
        return _key(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is no key of a survey: {type(error).__name__}: {error}", hint="it is needed as it was written"
        ) from None


def _key(value: Mapping[str, Any]) -> Key:
    if value["format"] != FORMAT or value["version"] > VERSION:
        raise ValueError(f"format {value['format']} {value['version']}, expected {FORMAT} {VERSION}")
    names = tuple(str(one["name"]) for one in value["contestants"])
    pairs = {str(i): (str(p["question"]), int(p["a"]), int(p["b"])) for i, p in value["pairs"].items()}
    checks = {str(i): (str(c["question"]), str(c["right"])) for i, c in value["checks"].items()}
    if any(not 0 <= n < len(names) for _, a, b in pairs.values() for n in (a, b)):
        raise ValueError("a pair names a contestant that it does not have")
    if any(right not in ("a", "b") for _, right in checks.values()):
        raise ValueError("a check without its answer")
    return Key(str(value["survey"]), names, tuple(one.get("run") for one in value["contestants"]), pairs, checks)


def files_of(given: Sequence[Path]) -> list[Path]:
    """List the files named, and those in the folders named; each once.

    Raises:
        DataError: a file that is not there, a folder without one.
    """
    found: list[Path] = []
    for path in given:
        if not path.exists():
            raise DataError(f"there is no file {path}", hint=paths.similar(path) or "check the path")
        inside = sorted(path.glob("*.csv")) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"there is no .csv file in {path}", hint="name the files that raters handed over")
        found += inside
    return list({path.resolve(): path for path in found}.values())


def read_votes(files: Sequence[Path], key: Key) -> tuple[list[Vote], list[str]]:
    """Read the votes of all files in the order given, and say what was left out.

    Where a rater answered a pair twice (a file handed over again after more answers), the last answer counts.

    Raises:
        DataError: a file that holds no votes, or those of another survey; or no usable vote in any.
    """
    votes: dict[tuple[str, str], Vote] = {}
    problems: list[str] = []
    for file in files:
        before = len(problems)
        bad = 0
        twice = 0
        for line, row in _rows(file):
            try:
                vote = _vote(row, key)
            except ValueError as error:
                bad += 1
                if bad <= _MOST_NAMED:
                    problems.append(f"{file}, line {line}: {error}; left out")
                continue
            twice += (vote.rater, vote.pair) in votes
            votes[vote.rater, vote.pair] = vote
        if bad > _MOST_NAMED:
            problems[before:] = [f"{file}: {bad} lines left out, such as {problems[before].partition(', ')[2]}"]
        if twice:
            problems.append(f"{file}: {twice} answers were given before by the same rater; the last one counts")
    if not votes:
        raise DataError(
            "there is no usable vote in these files", hint="are they of this survey, and was anything answered?"
        )
    return list(votes.values()), problems


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        head = text.partition("\n")[0]
        # Spreadsheets of some countries save with semicolons.
        reader = csv.DictReader(text.splitlines(), delimiter=";" if head.count(";") > head.count(",") else ",")
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                f"{file} holds no votes: it has no column {', '.join(f'`{name}`' for name in missing)}",
                hint="name the .csv files that the survey page saved",
            )
        rows = [(reader.line_num, {name: (row.get(name) or "").strip() for name in COLUMNS}) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{file} is no CSV file: {error}", hint="name the files that the survey page saved") from None
    yield from rows


def _vote(row: Mapping[str, str], key: Key) -> Vote:
    if row["survey"] != key.survey:
        raise DataError(
            f"the votes are of survey {_short(row['survey'])}, the key is of survey {key.survey}",
            hint="name the folder of their own survey with `--survey`",
        )
    rater, pair, left, answer = row["rater"], row["pair"], row["left"], row["answer"]
    if not re.fullmatch(r"[\w.-]{1,64}", rater):
        raise ValueError(f"{_short(rater)} is no rater's number")
    if pair not in key.pairs and pair not in key.checks:
        raise ValueError(f"the survey has no pair {_short(pair)}")
    if left not in ("a", "b") or answer not in ("left", "right", "tie"):
        raise ValueError(f"{_short(answer)} with {_short(left)} on the left is no answer")
    score = 0.5 if answer == "tie" else float((answer == "left") == (left == "a"))
    ms = int(row["ms"]) if row["ms"].isascii() and row["ms"].isdecimal() else None
    if pair in key.checks:
        question, right = key.checks[pair]
        return Vote(rater, pair, question, score, answer, ms, float(right == "a"))
    return Vote(rater, pair, key.pairs[pair][0], score, answer, ms)


def _short(text: str) -> str:
    """What stands in a field, for a message: one line, not longer than a name."""
    return repr(cut(text, 40))
