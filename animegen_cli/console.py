"""Everything that animegen prints goes through this module.

Results go to standard output, what a person reads meanwhile (notes, progress, errors) to standard error, so that pipes
stay clean. `--json` turns the result into one JSON document, `--quiet` silences notes and progress.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from animegen_cli.errors import AnimegenError

_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor, colors, title or direction of text; a line's end and a tab may pass."""
_settings = {"quiet": False, "json": False, "mute": False, "twin": False}
_OWN = 5
"""Exit code of what is wrong with a process's own machine."""
_bar_consoles: list[Console] = []
"""The console of a moving bar, while there is one: notes must go above it, not into it."""


def configure(*, quiet: bool = False, as_json: bool = False) -> None:
    """Set what the running command prints; called once by each command."""
    _settings.update(quiet=quiet, json=as_json)


def mute(*, same_machine: bool) -> None:
    """Print nothing but errors from now on: one of several processes speaks for all.

    On the same machine it also meets the same wrong words and data, so that only errors of the machine are said twice.
    """
    _settings.update(mute=True, twin=same_machine)


def is_json() -> bool:
    """Whether the command was asked for machine-readable results."""
    return _settings["json"]


def is_quiet() -> bool:
    """Whether notes and progress are silenced."""
    return _settings["quiet"] or _settings["mute"]


def printable(text: str) -> str:
    """The text with each control character spelled out, such as `\\x1b`: names may hold any, and none may rule the terminal."""
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def note(text: str) -> None:
    """Print one line for the person at the terminal (standard error), plain in a pipe."""
    if not is_quiet():
        _rich(stderr=True).print(printable(text), markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print one line like `note`, marked as a warning and shown even with `--quiet`."""
    if _settings["mute"]:
        return
    _rich(stderr=True).print(
        f"warning: {printable(text)}", style="yellow", markup=False, highlight=False, soft_wrap=True
    )


def fail(error: AnimegenError) -> None:
    """Print the error's message and its hint, what to type next, to standard error; a stop that was asked for is no error, and
    has one line."""
    if _settings["twin"] and error.exit_code != _OWN:
        return
    out = _rich(stderr=True)
    planned = error.label == "stopped"
    text = f"{error.label}: {printable(error.message)}"
    if planned and error.hint:
        text += f"; {printable(error.hint)}"
    out.print(text, style="bold" if planned else "bold red", markup=False, highlight=False, soft_wrap=True)
    if error.hint and not planned:
        out.print(f"  {printable(error.hint)}", markup=False, highlight=False, soft_wrap=True)


def result(value: object, text: str | None = None) -> None:
    """Print the command's result: `value` as JSON with `--json`, else `text` (nothing when None)."""
    if _settings["mute"]:
        return
    if _settings["json"]:
        sys.stdout.write(json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")
    elif text is not None:
        sys.stdout.write(printable(text.rstrip("\n")) + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print a table on standard output; `right` names the columns to align right. Nothing is printed with `--json`."""
    if _settings["json"]:
        return
    title = printable(title)
    texts = [["–" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    out = _rich(stderr=False)
    if not out.is_terminal:
        sys.stdout.write(plain_table(title, columns, texts, right))
        return
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in texts:
        drawn.add_row(*map(escape, row))
    out.print(drawn)


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> str:
    """Columns two spaces apart, nothing folded: what `grep`, `cut` and a log file can use."""
    lines = [list(columns), *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    text = [title] if title else []
    for line in lines:
        cells = zip(line, widths, columns, strict=True)
        text.append("  ".join(cell.rjust(w) if name in right else cell.ljust(w) for cell, w, name in cells).rstrip())
    return "\n".join(text) + "\n"


class Progress(Protocol):
    """A progress bar as a long task uses it."""

    def advance(self, steps: float = 1, /) -> None:
        """Count `steps` more steps as done, in the unit of the bar's total."""

    def describe(self, text: str, /) -> None:
        """Show `text` beside the bar, such as the current loss."""


class _Silent:
    """A bar that shows nothing, for `--quiet`."""

    def advance(self, _steps: float = 1, /) -> None:
        return None

    def describe(self, _text: str, /) -> None:
        return None


LONGEST_SILENCE = 600.0
"""Seconds after which a log file gets another line, however slow the work is."""


class _Plain:
    """A bar for pipes and log files: one line at each tenth of the way, and at least every ten minutes, each with its local
    date and minute."""

    def __init__(self, title: str, total: float, done: float) -> None:
        self.title = title
        self.total = max(total, 1)
        self.begun_with = self.done = done
        self.text = ""
        self.tenths_shown = int(10 * done / self.total)
        self.began = self.shown = time.monotonic()

    def advance(self, steps: float = 1, /) -> None:
        self.done += steps
        tenths, now = int(10 * self.done / self.total), time.monotonic()
        if tenths > self.tenths_shown or now - self.shown >= LONGEST_SILENCE:
            self.tenths_shown, self.shown = tenths, now
            percent = f"{min(self.done / self.total, 1):.0%}"
            moment = datetime.datetime.now().astimezone()
            note(f"{moment:%Y-%m-%dT%H:%M} {self.title}: {percent} {self._end(now, moment)}{self.text}".rstrip())

    def _end(self, now: float, today: datetime.datetime) -> str:
        """When the work will be done, as a moment: whoever reads a log file does so later; nothing for short work."""
        taken, gone = now - self.began, self.done - self.begun_with
        left = taken * (self.total - self.done) / gone if gone else 0.0
        if left < 60:
            return ""
        moment = today + datetime.timedelta(seconds=left)
        return f"ends about {moment:{'%H:%M' if left < 12 * 3600 else '%a %d %b %H:%M'}}  "

    def describe(self, text: str, /) -> None:
        self.text = text


@contextmanager
def progress(title: str, total: float, *, done: float = 0) -> Iterator[Progress]:
    """Show a progress bar with time left on a terminal and in a notebook, a line per tenth in a pipe, nothing with `--quiet`.

    Args:
        title: what is being done, such as "drawing".
        total: steps until it is done.
        done: steps that an earlier process did.
    """
    title = printable(title)
    if is_quiet():
        yield _Silent()
        return
    terminal = _rich(stderr=True)
    if not (terminal.is_terminal or _moves_in_notebook(terminal)):
        yield _Plain(title, total, done)
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column

    def cut(words: str, **column: Any) -> TextColumn:  # noqa: ANN401  # what rich's Column takes
        return TextColumn(words, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", **column))

    width = terminal.width
    bar = RichProgress(
        cut("{task.description}", max_width=max(width // 4, 12)),
        BarColumn(bar_width=min(24, max(width // 6, 8))),
        cut("{task.percentage:>3.0f}%", min_width=4),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True, min_width=5)),
        cut("{task.fields[text]}", ratio=1),  # what is left of the line
        console=terminal,
        expand=True,
    )
    with bar, _notes_above(terminal):
        task = bar.add_task(title, total=total, completed=int(done), text="")

        class _Bar:
            def advance(self, steps: float = 1, /) -> None:
                bar.advance(task, steps)

            def describe(self, text: str, /) -> None:
                bar.update(task, text=printable(text))

        yield _Bar()


def _moves_in_notebook(shown: Console) -> bool:
    """Whether this is a notebook in which rich can draw a bar that moves: it does so with ipywidgets, and warns without."""
    if not shown.is_jupyter:
        return False
    from importlib.util import find_spec

    return find_spec("ipywidgets") is not None


@contextmanager
def _notes_above(terminal: Console) -> Iterator[None]:
    """Print notes above the bar that moves on this console."""
    _bar_consoles.append(terminal)
    try:
        yield
    finally:
        _bar_consoles.pop()


def _rich(*, stderr: bool) -> Console:
    """A rich console for one stream, made anew so that redirected streams are honored.

    `NO_COLOR` makes a terminal as plain as a pipe: no color, no bold, no moving bar.
    """
    from rich.console import Console as RichConsole

    if stderr and _bar_consoles:
        return _bar_consoles[-1]
    return RichConsole(stderr=stderr, force_terminal=False if os.environ.get("NO_COLOR") else None)
