"""A finished study as a table of docs/leaderboard.md: a row per run, with the mean of its trainings, their interval and faces.

    animegen compare --study leaderboard --data faces-32.zip --seeds 0-2 --extractor squeezenet:trunk.npz
    python benchmarks/leaderboard.py studies/leaderboard --write docs/leaderboard.md --machine "AMD EPYC 7B13"
    python benchmarks/leaderboard.py studies/leaderboard --write README.md --short --strip gan,stylegan2,ddpm,vae

The page has a place for each table, between two lines that this script looks for: `<!-- table: 32 px, 12 min -->` and
`<!-- end -->`. Rows that break the rules of the page (three training seeds, two judges) are left out and named below the table.
Nothing is trained or scored here; faces that the study's page shows are not drawn again.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from animegen_cli.compare import compare, study_plan
from animegen_cli.report import grids
from animegen_cli.report.units import amount, duration
from animegen_cli.seeds import spell_seeds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from animegen_cli.compare.study_file import StudyConfig
    from animegen_cli.paths import Run
    from animegen_cli.report.columns import Comparison, ScoreColumn
    from animegen_cli.report.records import Record

PICTURES = range(10)
"""Seeds of the faces beside the numbers: those of the study's own page, so that nothing is picked."""
JUDGES = ("fd", "fid")
VARIETY = ("recall", "coverage", "diversity")
END = "<!-- end -->"


class Rules(NamedTuple):
    """What a row must have."""

    seeds: int
    judges: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="the study's folder")
    parser.add_argument(
        "--write", type=Path, required=True, metavar="PAGE", help="the page that has a place for the table"
    )
    parser.add_argument("--machine", help="what the study ran on, in words")
    parser.add_argument("--seeds", type=int, default=3, help="fewest training seeds of a row (default: 3)")
    parser.add_argument("--judges", type=int, default=2, help="fewest networks that scored a row (default: 2)")
    parser.add_argument(
        "--short", action="store_true", help="faces, the first judge's distance and the drawing time alone"
    )
    parser.add_argument(
        "--strip", metavar="RUNS", help="also write docs/pictures/strip.png: the same seeds of these runs"
    )
    args = parser.parse_args()
    plan = study_plan.begun(args.study / study_plan.FILE)
    started = study_plan.started(plan, args.study)
    everything = compare.compare(started)
    title = title_of(plan, everything)
    page = args.write.read_text(encoding="utf-8")
    place = re.compile(f"(<!-- table: {re.escape(title)} -->\n).*?({END})", re.DOTALL)
    if not place.search(page):
        known = re.findall(r"<!-- table: (.*?) -->", page)
        sys.exit(f"{args.write} has no place for `{title}`, only for: {'; '.join(known) or 'nothing'}")
    left_out = _left_out(plan, everything, Rules(args.seeds, args.judges))
    rows = {name: runs for name, runs in started.items() if name not in left_out}
    lines = []
    if rows:
        docs = args.write.parent / "docs" if (args.write.parent / "docs").is_dir() else args.write.parent
        pictures = docs / "results" / "leaderboard" / re.sub(r"[^a-z0-9]+", "-", title)
        compared = compare.compare(rows)  # anew: marks are about the rows of the table alone
        lines += [*table(compared, pictures, args.write.parent, short=args.short)]
        lines += [] if args.short else ["", how(plan, compared, args.machine)]
        print(f"faces: {pictures}/")
        if args.strip:
            print(f"strip: {_strip(compared, args.strip.split(','), docs / 'pictures' / 'strip.png')}")
    if left_out and not args.short:
        lines += ["", f"Not in the table: {'; '.join(f'`{name}` ({why})' for name, why in left_out.items())}."]
    text = "\n".join(lines).strip()
    args.write.write_text(place.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page), encoding="utf-8")
    print(f"wrote `{title}` into {args.write}: {len(rows)} rows, {len(left_out)} left out")


def title_of(plan: StudyConfig, compared: Comparison) -> str:
    """What tells the table from the others: `32 px, 12 min`."""
    sizes = {record.data.get("size") for record in compared.records}
    if len(sizes) > 1 or not plan.budget or not plan.cores:
        sys.exit("a table of the page is of one size and one budget on so many cores; this study is not")
    return f"{sizes.pop()} px, {plan.budget}"


def table(compared: Comparison, pictures: Path, root: Path, *, short: bool = False) -> Iterator[str]:
    """The lines of the table, best first by the first judge; its faces are written into `pictures`, which lies under `root`.

    A short one has the first judge's distance alone.
    """
    score_columns = _columns(compared)[: 1 if short else None]
    first = score_columns[0]
    arrows = {"lower": " ↓", "higher": " ↑", None: ""}
    scores = [column.name + arrows[column.better] for column in score_columns]
    heads = ["run", f"faces of seeds {spell_seeds(PICTURES)}", *scores, "100 faces", "images"]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    strips = _faces(compared)
    entries = {
        entry.run: i for i, entry in reversed(list(enumerate(compared.entries)))
    }  # the first way of drawing of each run
    for i in sorted(entries.values(), key=lambda i: compared.entries[i].scores[first.identity].value):
        name = compared.names[compared.entries[i].run]
        picture = _picture(strips[name], pictures / f"{name}.png")
        yield _row(compared, i, score_columns, f"![{name}]({picture.relative_to(root).as_posix()})")


def _faces(compared: Comparison) -> dict[str, np.ndarray | str]:
    """What the first training of each run draws from the same seeds, or why it draws nothing."""
    shown = compare.same_seeds(compared, PICTURES, _draw).rows
    return {name: shown[place] for place, name in _first_trainings(compared)}


def _strip(compared: Comparison, names: Sequence[str], path: Path) -> Path:
    """Some runs one below the other, a column per seed, each face 128 pixels wide."""
    strips = _faces(compared)
    rows = [strips[name] for name in names if not isinstance(strips.get(name, ""), str)]
    if len(rows) < len(names):
        sys.exit(f"--strip: no faces of {', '.join(name for name in names if isinstance(strips.get(name, ''), str))}")
    faces = np.concatenate(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = grids.grid(faces, len(PICTURES), gap=0)
    size = faces.shape[1]
    sheet.resize((sheet.width * 128 // size, sheet.height * 128 // size), Image.Resampling.BICUBIC).save(
        path, optimize=True
    )
    return path


def _first_trainings(compared: Comparison) -> Iterator[tuple[int, str]]:
    """The place of each run's first training among all trainings, and the run's name."""
    place = 0
    for name, record in zip(compared.names, compared.records, strict=True):
        yield place, name
        place += _trainings(record)


def _left_out(plan: StudyConfig, compared: Comparison, rules: Rules) -> dict[str, str]:
    """The runs of the study that are no rows, and why."""
    judges = [column for column in _columns(compared) if column.metric in JUDGES]
    found = dict.fromkeys(plan.runs, "not measured")
    for name, record in zip(compared.names, compared.records, strict=True):
        problem = _problem(record, judges, rules)
        if problem is None:
            del found[name]
        else:
            found[name] = problem
    return found


def _columns(compared: Comparison) -> list[ScoreColumn]:
    """The judges' distances, then variety as the first of them sees it."""
    ranked = [column for column in compared.score_columns if column.better]
    judges = [column for column in ranked if column.metric in JUDGES and "infinity" not in column.name]
    if not judges:
        sys.exit("the study has no `fd`, by which rows are ordered")
    first = judges[0].protocol.get("extractor")
    return [
        *judges,
        *(c for metric in VARIETY for c in ranked if c.metric == metric and c.protocol.get("extractor") == first),
    ]


def _problem(record: Record, judges: Sequence[ScoreColumn], rules: Rules) -> str | None:
    """Why a run is no row; None where it is one."""
    if record.state != "finished":
        return record.state
    if (count := _trainings(record)) < rules.seeds:
        return f"{count} of {rules.seeds} seeds"
    scores = {f"{score.name}@{score.protocol_id}": len(score.trainings) or 1 for score in record.scores}
    by = sum(scores.get(column.identity, 0) == count for column in judges)
    return None if by >= rules.judges else f"scored by {by} of {rules.judges} judges"


def _trainings(record: Record) -> int:
    return len(record.trainings) or 1


def _row(compared: Comparison, row: int, score_columns: Sequence[ScoreColumn], picture: str) -> str:
    entry = compared.entries[row]
    record = compared.records[entry.run]
    name = f"**{compared.names[entry.run]}**<br>`{record.about.get('family')}/{record.about.get('preset')}`"
    trained, most = _trainings(record), max(map(_trainings, compared.records))
    fewer = f"<br>{trained} training{'s' * (trained > 1)}" if trained < most else ""
    cells = [name + fewer, picture]
    for column in score_columns:
        score, mark = entry.scores.get(column.identity), compared.cells(column)[row]
        text = "–" if score is None else score.interval_text.replace(" [", "<br>[")
        value, _, interval = text.partition("<br>")
        value = f"**{value}**" if mark.best else f"{value} ≈" if mark.tied else value
        cells.append(f"{value}<br>{interval}" if interval else value)
    seconds = record.drawing.get("seconds_per_100")
    cells += [duration(seconds) if isinstance(seconds, int | float) else "–", amount(record.images)]
    return "| " + " | ".join(cells) + " |"


def how(plan: StudyConfig, compared: Comparison, machine: str | None) -> str:
    """What was counted, on what, with what, and how each column was measured."""
    records = compared.records
    data = {f"`{r.data.get('name')}` (identity {str(r.data.get('identity'))[:12]})" for r in records if r.data}
    versions = {str((r.about.get("versions") or {}).get("torch")) for r in records}
    cores = f"{plan.cores} core{'s' * ((plan.cores or 1) > 1)}"
    on = f" of {machine}" if machine else ""
    texts: dict[str, list[str]] = {}
    for column in _columns(compared):
        texts.setdefault(column.protocol_text, []).append(column.name)
    protocols = [f"{', '.join(names)}: {text}." for text, names in texts.items()]
    who, test = f"Means of the training seeds {spell_seeds(plan.seeds)} with 95 % intervals", "Welch's t"
    if any(_trainings(record) < len(plan.seeds) for record in records):
        who += "; a row that names fewer has those of seeds "
        who += f"{plan.seeds[0]} and up, and the interval of a single training does not hold what another seed would change"
    if len(plan.seeds) == 1:
        who = f"One training each so far, seed {plan.seeds[0]}; its 95 % intervals do not hold what another seed would change"
        test = "two-sided test of their standard errors"
    said = (
        f"{who}; bold: the best, ≈: not significantly different from it ({test}, 5 %, Holm). {plan.budget} of processor "
        f"time on {cores}{on}, turned into images by measuring once; torch {', '.join(sorted(versions))}; "
        f"data {', '.join(sorted(data))}."
    )
    return " ".join([said, *protocols])


def _picture(faces: np.ndarray | str, path: Path) -> Path:
    """Two rows of faces as large as 64 pixels each."""
    if isinstance(faces, str):
        sys.exit(f"no faces for {path.stem}: {faces}")
    path.parent.mkdir(parents=True, exist_ok=True)
    grids.save(grids.grid(faces, 5, zoom=max(1, 64 // faces.shape[1])), path)
    return path


def _draw(run: Run, seeds: Sequence[int]) -> np.ndarray:
    from animegen_cli.device import pick_device
    from animegen_cli.model.pixels import channels_last
    from animegen_cli.sample import generate

    return channels_last(generate.images(run, seeds, device=pick_device("cpu")))


if __name__ == "__main__":
    main()
