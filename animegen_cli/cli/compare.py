"""`animegen compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from animegen_cli.cli.options import Device, Slurm, SlurmDryRun, complete_run, complete_study
from animegen_cli.cli.survey import Ask
from animegen_cli.seeds import parse_seeds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from animegen_cli.cli.survey import WeighedVotes
    from animegen_cli.compare.papers import Paper
    from animegen_cli.paths import Run
    from animegen_cli.report.columns import Comparison
    from animegen_cli.report.pictures import Drawn
    from animegen_cli.report.same_seeds import Draw

Form = Literal["markdown", "csv", "latex"]

EXAMPLES = """
Examples:

  animegen compare                                 all runs under runs/

  animegen compare 3 5 --sort fd-faces             two runs by their numbers

  animegen compare runs/00003-* --seeds 0-7,100    the same seeds from each

  animegen compare --no-images --format latex --columns fd,recall,seconds --label tab:faces    a table for a paper

  animegen compare --figures                       every figure as SVG, PNG and PDF too

  animegen compare 3 5 --survey survey             a page that asks people which run is better

  animegen compare --survey survey --votes a.csv --votes b.csv    what they answered

  animegen compare --study smoke                   trains what is missing, scores it, compares

  animegen compare --study xmu2023 --data faces.zip --budget "10 min"

  animegen compare --study 001 --data faces.zip    the study of document 001

  animegen compare --study 001 --data faces.zip --slurm "partition=gpu,gpus=1,time=04:00:00"
"""


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Run folders, names or numbers. [default: all under runs/]",
            autocompletion=complete_run,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of page, tables and picture. [default: comparison, or studies/STUDY]", show_default=False
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="With --study: training seeds, such as 0-2, one training of each run for each. Else as --picture-seeds.",
            show_default=False,
        ),
    ] = None,
    picture_seeds: Annotated[
        str | None,
        typer.Option(
            "--picture-seeds",
            help="Seeds of the same-seeds picture, such as 0-7,100, or of the survey. [default: 0-9, survey 0-47]",
            show_default=False,
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="A score, images, seconds, ... [default: as given]", show_default=False),
    ] = None,
    no_images: Annotated[bool, typer.Option("--no-images", help="Draw nothing from the runs.")] = False,
    no_reals: Annotated[
        bool, typer.Option("--no-reals", help="Leave the real images out of the page, so that it can be published.")
    ] = False,
    figures: Annotated[
        bool, typer.Option("--figures", help="Write each figure of the page as SVG, PNG and PDF too.")
    ] = False,
    survey: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write a page that asks people into DIR; with --votes: where that survey's key.json is.",
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(min=1, help="Pairs that each rater sees, checks not counted. [default: 60]", show_default=False),
    ] = None,
    ask: Annotated[Ask | None, typer.Option(help="What the survey asks. [default: both]", show_default=False)] = None,
    votes: Annotated[
        list[Path] | None,
        typer.Option(metavar="CSV", help="A rater's answers, or a folder of them; may be given several times."),
    ] = None,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Also count the votes of raters who missed the checks.")
    ] = False,
    form: Annotated[
        Form | None,
        typer.Option("--format", help="Print markdown, csv or latex instead of the drawn table.", show_default=False),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Columns of the printed tables and of table.*, such as fid,kid,recall,seconds. [default: all]",
            show_default=False,
        ),
    ] = None,
    published: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Published numbers beside them: xmu2023, kumari2024, ho2020 or none. [default: all; none with --columns]",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        str, typer.Option(metavar="NAME", help="Label of the LaTeX table, such as tab:results.", show_default=False)
    ] = "",
    caption: Annotated[
        str, typer.Option(metavar="TEXT", help="Caption of the LaTeX table. [default: its title]", show_default=False)
    ] = "",
    intervals: Annotated[
        bool,
        typer.Option("--intervals", help="95 % intervals instead of ± in the printed tables and in table.md and .tex."),
    ] = False,
    study: Annotated[
        str | None,
        typer.Option(
            "--study",
            help="Train, score and compare what a study lists: its name, a document's number (000 to 004) or a YAML file. "
            "Goes on after a stop.",
            autocompletion=complete_study,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Data set of --study; by default the newest, or its own drawn faces.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", help='Training time of each run of --study, such as "10 min"; measured once as images.'
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Train and score these runs of --study alone, such as gan,vae.")
    ] = None,
    extractor: Annotated[
        list[str] | None,
        typer.Option(
            "--extractor",
            help="A further feature network for the scores of --study, as of `animegen eval`: squeezenet:PATH.",
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "--n", min=1, help="Images that --study draws of each run, once, for its scores; by default what it says."
        ),
    ] = None,
    at_once: Annotated[
        int,
        typer.Option(
            "--at-once", min=1, help="Runs of --study that train at the same time, each with its share of the cores."
        ),
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs of --study and the command of each; train nothing.")
    ] = False,
    slurm: Slurm = None,
    slurm_dry_run: SlurmDryRun = False,
    device: Device = None,
) -> None:
    """Lay runs side by side: one table, one picture, one page.

    With --study, train them first.
    """
    from animegen_cli import console, paths
    from animegen_cli.cli import survey as surveying

    surveying.refuse(survey, votes, asking=pairs is not None or ask is not None, keep_failed=keep_failed)
    numbers, training_seeds = _seeds(
        seeds, picture_seeds, study=study, default="0-47" if survey and not votes else "0-9"
    )
    runs, votes = surveying.separate(runs or [], votes or [])
    paper_words = columns or published or label or caption or intervals
    unfit = bool(runs or sort or no_images or survey or votes or paper_words)
    _check_words(
        unfit=unfit, study=study, data=data, budget=budget, only=only, extractor=extractor, dry_run=dry_run, slurm=slurm,
        slurm_dry_run=slurm_dry_run, at_once=at_once > 1, n=n,
    )  # fmt: skip
    if study is not None:
        paths.study_file(study)  # before torch is imported
        words = {
            "study": study, "data": data, "out": out, "budget": budget, "device": device, "seeds": training_seeds,
            "only": [word.strip() for word in only.split(",")] if only else (), "extractors": extractor or (),
            "at_once": at_once, "n": n,
        }  # fmt: skip
        if slurm is not None or slurm_dry_run:
            _submit(words, slurm, dry_run=dry_run, slurm_dry_run=slurm_dry_run)
            return
        _study(words, numbers, form, reals=not no_reals, figures=figures, dry_run=dry_run)
        return
    from animegen_cli.compare import compare as comparison
    from animegen_cli.compare.papers import Paper

    named = [word.strip() for word in columns.split(",") if word.strip()] if columns else []
    paper = Paper(columns=named, published=published, label=label, caption=caption, intervals=intervals)
    out = out or Path("comparison")
    weighed = surveying.weigh(votes, survey, out, keep_failed=keep_failed) if votes else None
    chosen = _chosen(runs, weighed)
    if weighed and not chosen:  # the runs are gone, the votes still speak
        console.result({"people": weighed.as_json, "files": weighed.files})
        return
    compared = comparison.compare(chosen, sort=sort, join=not (survey or weighed))  # people judge trainings one by one
    for warning in compared.warnings:
        console.warn(warning)
    if survey and not weighed:
        surveying.ask(
            compared,
            numbers,
            comparison.drawing(device),
            survey,
            pairs=pairs or 60,
            what=ask or "both",
            reals=not no_reals,
        )
        return
    drawn = None if no_images else _drawn(compared, numbers, comparison.drawing(device))
    preferences = weighed.result.preferences if weighed else ()
    written = comparison.write(
        compared, out, drawn=drawn, reals=not no_reals, preferences=preferences, figures=figures, paper=paper
    )
    _print_result(compared, written, form, out, weighed=weighed, paper=paper)


def _seeds(
    seeds: str | None, picture_seeds: str | None, *, study: str | None, default: str
) -> tuple[list[int], list[int] | None]:
    """Seeds of pictures, and of the trainings of a study (None: its own).

    `--seeds` counts what a command makes: trainings with `--study`, else pictures.
    """
    from animegen_cli.errors import UsageError

    if study is None and seeds is not None and picture_seeds is not None:
        raise UsageError("`--seeds` and `--picture-seeds` mean the same without a study", hint="leave `--seeds` out")
    pictures = picture_seeds if study is not None else picture_seeds or seeds
    numbers = parse_seeds(pictures or default, "--picture-seeds 0-7,100" if picture_seeds else "--seeds 0-7,100")
    return numbers, parse_seeds(seeds, "--seeds 0-2") if study is not None and seeds is not None else None


def _chosen(specs: Sequence[str], weighed: WeighedVotes | None) -> list[Run]:
    """The runs that were named, else those of the survey, else all; a classifier has a row only when it is named."""
    from animegen_cli import console, paths

    if specs:
        return [paths.open_run(spec) for spec in specs]
    runs = weighed.runs if weighed else [run for run in paths.runs(sweeps=True) if not run.able("classifies")]
    if runs:
        number = "the only run" if len(runs) == 1 else f"all {len(runs)} runs"
        console.note(f"comparing {number} {'of the survey' if weighed else f'under {paths.RUNS}/'}")
    return runs


def _check_words(*, unfit: bool, study: str | None, **of_study: object) -> None:
    """Raise UsageError for options that do not go together; `unfit`: there are some that a study has no use for."""
    from animegen_cli.errors import UsageError

    typed = [f"--{name.replace('_', '-')}" for name, value in of_study.items() if value]
    if study is None and typed:
        raise UsageError(f"`{typed[0]}` belongs to a study", hint="name one with `--study`, such as `--study smoke`")
    if study is not None and unfit:
        raise UsageError(
            "a study names its own runs and pictures",
            hint="leave out the runs, `--sort`, `--no-images`, `--columns` and surveys; compare them afterwards without `--study`",
        )


def _study(
    words: Mapping[str, Any], numbers: Sequence[int], form: Form | None, *, reals: bool, figures: bool, dry_run: bool
) -> None:
    from animegen_cli import console
    from animegen_cli.report import tables
    from animegen_cli.train import launch
    from animegen_cli.train.signals import check_stop, stop_signals

    launch.end_with_parent()
    with stop_signals() as stop:  # loading torch takes seconds; then the study has its own way
        from animegen_cli.compare import study, study_plan

        check_stop(stop)
    request = study_plan.Request(**words, pictures=numbers, reals=reals, figures=figures)
    _warn_of_gpu(request.study, request.device)
    if dry_run:
        planned, _, commands = study_plan.plan_of(request)
        if not console.is_json():
            planned_runs = tables.slim(study_plan.table(planned))
            tables.show(planned_runs)
            if planned_runs.common:
                console.note(f"all runs: {planned_runs.common}")
        console.result({"runs": list(planned.runs), "commands": commands}, "\n".join(commands))
        return
    done = study.run(request)
    if done.compared is None:
        console.result({"unfinished": dict(done.unfinished)}, "other processes train every run of the study")
        return
    for warning in done.compared.warnings:
        console.warn(warning)
    _print_result(done.compared, done.files, form, done.folder / "comparison")
    for name, why in done.unfinished.items():
        console.warn(f"{name} is not finished: {why}")


def _warn_of_gpu(spec: str, device: str | None) -> None:
    """Say so where a study whose networks are for a GPU has a sibling for a CPU, and there is no GPU."""
    from animegen_cli import console, paths
    from animegen_cli.device import pick_device

    sibling = f"{paths.study_file(spec).stem}-laptop"
    if sibling in paths.studies() and pick_device(device).type == "cpu":
        console.warn(
            f"the networks of this study are for a GPU; `--study {sibling}` asks the same of networks for a CPU"
        )


def _submit(words: Mapping[str, Any], wish: str | None, *, dry_run: bool, slurm_dry_run: bool) -> None:
    """Submit the workers of a study, after all that can be wrong with it was looked at."""
    from animegen_cli import paths
    from animegen_cli.cli import slurm

    wish = slurm.checked(wish, dry_run=dry_run)
    from animegen_cli.compare import study_plan

    request = study_plan.Request(**words)
    planned, trainings, _ = study_plan.plan_of(request)
    study_plan.check_data(request)
    pinned = () if words["data"] or planned.demo else ("--data", str(paths.newest_dataset()))
    name = slurm.job_name("study", paths.study_file(words["study"]).stem)
    slurm.submit(wish, slurm.Work(name=name, pinned=pinned, runs=len(trainings), shares=True), dry_run=slurm_dry_run)


def _print_result(
    compared: Comparison,
    written: Mapping[str, Path],
    form: Form | None,
    out: Path,
    *,
    weighed: WeighedVotes | None = None,
    paper: Paper | None = None,
) -> None:
    """Print the tables, what is left to score, and where everything lies."""
    from animegen_cli import console
    from animegen_cli.compare import compare as comparison

    _print_tables(compared, form, paper)
    for command in compared.todo.values():
        console.note(f"not scored yet: {command}")
    files = {name: str(path) for name, path in written.items()} | (weighed.files if weighed else {})
    people = {"people": weighed.as_json} if weighed else {}
    console.result({**comparison.as_json(compared), **people, "files": files})
    if compared.seeds is not None:
        console.note(f"seeds    {files['tables']}/seeds.md: each training below the mean of its run")
    console.note(f"page     {files['page']}")
    console.note(f"tables   {out}/table.md, .csv, .tex, .json; each by itself in {files['tables']}/")
    if "picture" in files:
        console.note(f"picture  {files['picture']}")
    if "figures" in files:
        console.note(f"figures  {files['figures']}/")


def _print_tables(compared: Comparison, form: Form | None, paper: Paper | None) -> None:
    from animegen_cli import console
    from animegen_cli.compare import papers
    from animegen_cli.metrics import significance
    from animegen_cli.report import published, tables

    if console.is_json():
        return
    if form is None:
        paper = paper or papers.Paper()
        if paper.columns or paper.published:
            shown = papers.tables_of(compared, paper)
        else:
            shown = [compared.quality, compared.cost, published.summary()]
            shown = [tables.with_intervals(table) for table in shown] if paper.intervals else shown
        for table in shown:
            tables.show(table)
        console.note(f"* the best of its column, {significance.NOTE}; protocols are on the page")
    else:
        console.result(None, papers.as_text(compared, form, paper))


def _drawn(compared: Comparison, numbers: Sequence[int], draw: Draw) -> Drawn:
    """Draw the same-seeds picture, and warn of the runs that are missing in it."""
    from animegen_cli import console
    from animegen_cli.compare import compare as comparison

    drawn = comparison.same_seeds(compared, numbers, draw)
    for name, row in zip(compared.training_names, drawn.rows, strict=True):
        if isinstance(row, str):
            console.warn(f"{name} is missing in the picture: {row}")
    return drawn


compare.__doc__ = (compare.__doc__ or "") + "\n" + EXAMPLES
