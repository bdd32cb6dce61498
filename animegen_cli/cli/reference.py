"""The generated words: docs/cli.md and the completions, written from the commands themselves.

python -m animegen_cli.cli.reference            exit code 1 when one of the files is stale
python -m animegen_cli.cli.reference --write    write them
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from animegen_cli import errors, paths
from animegen_cli.cli import app
from animegen_cli.cli.completion import SCRIPTS
from animegen_cli.cli.errors import examples

ROOT = paths.PACKAGE.parent

HEAD = """\
# The command line

Written by `python -m animegen_cli.cli.reference --write` from the commands' own help; change it there.

Every command takes `--help`. Results go to standard output, notes, progress and errors to standard error.
`--json` makes the result one JSON document, `--quiet` silences notes and progress. With `NO_COLOR` set, in a pipe
and in a file, everything is plain text.
"""

COMPLETION = """\
## Completion with TAB

| shell | what to do with the file in `completions/` |
|---|---|
| bash | `source completions/animegen.bash` in `~/.bashrc`, or copy it to `~/.local/share/bash-completion/completions/animegen` |
| zsh | copy `completions/_animegen` into a folder of `$fpath` |
| fish | copy `completions/animegen.fish` to `~/.config/fish/completions/` |

Families, presets and runs are completed too, as they are on the disk at that moment.
"""


def files() -> dict[str, str]:
    """Every generated file, by its path in the checkout."""
    return {"docs/cli.md": manual(), **{f"completions/{name}": text for name, text in SCRIPTS.items()}}


def stale(root: Path) -> list[str]:
    """The generated files under `root` that are missing or say something else than the commands do."""
    return [
        name
        for name, text in files().items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != text
    ]


def manual() -> str:
    """The reference of all commands as Markdown."""
    pages = [_page(context) for context in commands()]
    return "\n".join([HEAD, *pages, _exit_codes(), COMPLETION])


def commands() -> Iterator[Any]:
    """A Typer context for each command that does something, in the order of `animegen --help`."""

    def walk(command: Any, name: str, parent: typer.Context | None) -> Iterator[Any]:  # noqa: ANN401  # not public
        context = command.context_class(command, info_name=name, parent=parent)
        inner = getattr(command, "commands", None)
        if inner is None:
            yield context
        for key, value in (inner or {}).items():
            yield from walk(value, key, context)

    yield from walk(typer.main.get_command(app), "animegen", None)


def _page(context: typer.Context) -> str:
    text = (context.command.help or "").partition("Example")[0]
    about = " ".join(text.split())
    usage = " ".join(context.get_usage().removeprefix("Usage: ").split())
    lines = [f"## {context.command_path}", "", about, "", "```", usage, "```", ""]
    shown = [f"{line:<60} # {remark}" if remark else line for line, remark in examples(context.command.help)]
    if shown:
        lines += ["Examples:", "", "```bash", *shown, "```", ""]
    rows = [_row(record) for item in context.command.get_params(context) if (record := item.get_help_record(context))]
    rows = [row for row in rows if "--help" not in row]
    return "\n".join([*lines, "| | | default |", "|---|---|---|", *rows, ""])


def _row(record: tuple[str, str]) -> str:
    """`--size INTEGER` and its help, with what Typer appends in brackets in a column of its own."""
    name, text = record
    extra = re.search(r"\s*\[([^\[\]]*)\]$", text)
    notes = extra[1].split("; ") if extra else []
    default = next((note.removeprefix("default: ") for note in notes if note.startswith("default: ")), "")
    limits = [note for note in notes if not note.startswith("default: ")]
    text = text[: extra.start()] if extra else text
    if limits:
        text += f" ({', '.join(limits)})"
    shown = f"`{default}`" if default and " " not in default else default
    cells = (f"`{name.replace(' range>', '>')}`", text.strip().replace("<", "\\<"), shown)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _exit_codes() -> str:
    def below(kind: type[errors.AnimegenError]) -> Iterator[type[errors.AnimegenError]]:
        for inner in kind.__subclasses__():
            yield inner
            yield from below(inner)

    meaning = {0: "Done; skipped images are no error.", 1: "A bug of animegen.", 130: "Ctrl-C, where nothing is saved."}
    for kind in below(errors.AnimegenError):
        meaning.setdefault(kind.exit_code, " ".join((kind.__doc__ or "").split()))
    rows = [f"| {code} | {text} |" for code, text in sorted(meaning.items())]
    return "\n".join(["## Exit codes", "", "| code | meaning |", "|---|---|", *rows, ""])


def main(words: list[str] | None = None) -> int:
    """Write the files, or check them; the exit code."""
    parser = argparse.ArgumentParser(description="docs/cli.md and completions/, from the commands themselves")
    parser.add_argument("--write", action="store_true", help="write them (default: exit code 1 when one is stale)")
    write = parser.parse_args(words).write
    if not (ROOT / "pyproject.toml").is_file():
        parser.error("these files lie in a checkout; run this at its root")
    old = stale(ROOT)
    for name in old:
        if write:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(files()[name], encoding="utf-8")
        sys.stderr.write(f"{'wrote' if write else 'stale:'} {name}\n")
    if old and not write:
        sys.stderr.write("run `python -m animegen_cli.cli.reference --write`\n")
    return 1 if old and not write else 0


if __name__ == "__main__":
    sys.exit(main())
