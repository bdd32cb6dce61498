"""What TAB offers: the shells' scripts ask the program itself, which knows its families, presets and runs.

A script in `completions/` runs `_ANIMEGEN_COMPLETE=<shell> animegen WORD...` with the words after the command's
name up to the one under the cursor, as they are typed, and reads one candidate per line. No line means files.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

VARIABLE = "_ANIMEGEN_COMPLETE"

BASH = f"""\
# animegen's completion for bash: `source` this file, or copy it to ~/.local/share/bash-completion/completions/animegen
_animegen() {{
    local IFS=$'\\n'
    COMPREPLY=($({VARIABLE}=bash "${{1/#\\~/$HOME}}" "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null))
}}
complete -o bashdefault -o default -F _animegen animegen
"""

ZSH = f"""\
#compdef animegen
# animegen's completion for zsh: copy this file into a folder of $fpath, or `source` it after compinit
_animegen() {{
    local -a found
    found=("${{(@f)$({VARIABLE}=zsh ${{~words[1]}} "${{(@)words[2,CURRENT]}}" 2>/dev/null)}}")
    if [[ -n "$found" ]]; then
        _describe animegen found
    else
        [[ "$PREFIX" == -*=* ]] && compset -P '*='
        _files
    fi
}}
if [[ "$funcstack[1]" == _animegen ]]; then _animegen "$@"; else compdef _animegen animegen; fi
"""

FISH = f"""\
# animegen's completion for fish: copy this file to ~/.config/fish/completions/animegen.fish
function __animegen
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l found (env {VARIABLE}=fish $program $words "$current" 2>/dev/null)
    if set -q found[1]
        printf '%s\\n' $found
    else
        set -l option (string match -r -- '^-.*?=' "$current")
        printf "$option%s\\n" (__fish_complete_path (string replace -r -- '^-.*?=' '' "$current"))
    end
end
complete -c animegen -f -a '(__animegen)'
"""

SCRIPTS = {"animegen.bash": BASH, "_animegen": ZSH, "animegen.fish": FISH}
"""Files of `completions/` and what they hold."""


Shell = Literal["bash", "zsh", "fish"]


def print_script(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the shell script by which TAB completes animegen.

    Examples:

      animegen completion bash    append what it prints to ~/.bashrc

      animegen completion zsh     save it as ~/.zfunc/_animegen

      animegen completion fish    save it as ~/.config/fish/completions/animegen.fish
    """
    from animegen_cli import console

    script = {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell]
    console.result({"shell": shell, "script": script}, script)


def wanted() -> str | None:
    """The shell that asks for candidates instead of running a command, or None."""
    return os.environ.get(VARIABLE) or None


def answer(app: typer.Typer, shell: str, words: Sequence[str]) -> str:
    """The candidates for the last of `words`, one per line, with a short help where the shell shows it."""
    *before, current = [_unquoted(word) for word in words] or [""]
    prefix = ""
    if shell == "bash":  # it splits words at `=`
        current = "" if current == "=" else current
        before = [word for word in before if word != "="]
    elif current.startswith("--") and "=" in current:
        option, _, current = current.partition("=")
        before, prefix = [*before, option], f"{option}="
    return "\n".join(_line(shell, prefix + item.value, item.help) for item in _candidates(app, before, current))


def _candidates(app: typer.Typer, before: list[str], current: str) -> list[Any]:
    """Typer's completion items, found without its shell classes, which are slow: they import rich."""
    from typer._click.shell_completion import _resolve_context, _resolve_incomplete

    # An option that waits for its value would stop the parser before it reads the arguments (`train ddim --preset`).
    whole = before[:-1] if before and before[-1].startswith("-") else before
    context = _resolve_context(typer.main.get_command(app), {}, "animegen", whole)
    subject, current = _resolve_incomplete(context, before, current)
    return subject.shell_complete(context, current)


def _line(shell: str, value: str, text: str | None) -> str:
    if shell == "bash":
        return shlex.quote(value)
    text = " ".join((text or "").split())
    if shell == "zsh":
        value = value.replace(":", "\\:")
        return f"{value}:{text}" if text else value
    return f"{value}\t{text}" if text else value


def _unquoted(word: str) -> str:
    """The word as the program would get it; the quote of the last one may be open."""
    for end in ("", '"', "'"):
        try:
            return "".join(shlex.split(word + end))
        except ValueError:
            continue
    return word
