"""The command line: one small file per command; nothing heavy is imported before a command runs."""

from __future__ import annotations

import typer

from animegen_cli.cli import errors
from animegen_cli.cli.command import Command
from animegen_cli.cli.compare import compare
from animegen_cli.cli.completion import print_script
from animegen_cli.cli.demo import demo
from animegen_cli.cli.doctor import doctor
from animegen_cli.cli.evaluate import evaluate
from animegen_cli.cli.export import export
from animegen_cli.cli.prepare import prepare
from animegen_cli.cli.presets import presets
from animegen_cli.cli.reproduce import reproduce
from animegen_cli.cli.runs import runs
from animegen_cli.cli.sample import sample
from animegen_cli.cli.studies import studies
from animegen_cli.cli.train import train
from animegen_cli.cli.translate import translate
from animegen_cli.cli.ui import ui
from animegen_cli.cli.weights import weights

app = typer.Typer(
    name="animegen",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train, sample, evaluate and fairly compare generators of anime faces.\n\n"
    "Start with `animegen demo`, or with `animegen prepare ./faces` and `animegen train ddim`.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from animegen_cli import __version__

        typer.echo(f"animegen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_version, is_eager=True),
) -> None:
    return None


app.command(cls=Command)(demo)
app.command(cls=Command)(prepare)
app.command(cls=Command)(train)
app.command(cls=Command)(sample)
app.command(cls=Command)(translate)
app.command("eval", cls=Command)(evaluate)
app.command(cls=Command)(compare)
app.command(cls=Command)(export)
app.command(cls=Command)(reproduce)
app.command(cls=Command)(ui)
app.add_typer(presets)
app.add_typer(runs)
app.add_typer(studies)
app.command(cls=Command)(doctor)
app.command("completion", cls=Command)(print_script)
app.command(cls=Command)(weights)


def main() -> None:
    """Run a command; expected errors become one sentence, a hint and an exit code."""
    errors.run(app)
