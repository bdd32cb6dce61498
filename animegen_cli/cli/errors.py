"""How the command behaves at a terminal: whatever goes wrong becomes a sentence, what to type next, and an exit code.

Only a bug of ours shows a traceback (exit code 1).
"""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from animegen_cli.cli import completion
from animegen_cli.errors import (
    AnimegenError,
    ConfigError,
    DataError,
    MachineError,
    StoppedError,
    UsageError,
    did_you_mean,
    installable,
    lacks_memory,
    nearest,
)

_LACKS = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EROFS, errno.EFBIG}


def run(app: typer.Typer) -> None:
    """Answer TAB, or run the command of `sys.argv`; SystemExit with the exit code."""
    shell = completion.wanted()
    if shell:
        found = completion.answer(app, shell, sys.argv[1:])
        sys.stdout.write(found + "\n" if found else "")
        return
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode gets `?`, not a traceback
    interrupted = _noting_ctrl_c()
    try:
        code = app(prog_name="animegen", standalone_mode=False)
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # `animegen ... | head`: nobody reads on
        code = 0
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        expected = explained(error)
        if interrupted:
            code = 130
        elif expected is None:
            raise
        else:
            code = _fail(expected)
    _leave(code if isinstance(code, int) else 0)


def _leave(code: int) -> None:
    """Exit; a SLURM job that was stopped asks to be started again, whether this process trained or those that it started."""
    if code == StoppedError.exit_code:
        from animegen_cli.cli import slurm

        slurm.ask_for_requeue()
    sys.exit(code)


def _noting_ctrl_c() -> list[int]:
    """A list that Ctrl-C fills: libraries that are interrupted while they are imported turn it into other errors."""
    seen: list[int] = []

    def noting(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the shell has it ignored
        signal.signal(signal.SIGINT, noting)
    return seen


def explained(error: Exception) -> AnimegenError | None:
    """`error` as one of ours, or None when it is a bug."""
    if isinstance(error, AnimegenError):
        return error
    if isinstance(error, typer.TyperException):
        return _usage(error)
    if lacks_memory(error):
        return MachineError("there is not enough memory", hint="use a smaller batch, size or number of images")
    if isinstance(error, OSError):
        return _of_the_system(error)
    return None


def examples(text: str | None) -> list[tuple[str, str]]:
    """The examples in a command's help: each command line and the remark behind it."""
    found = re.findall(r"^ *(animegen\b.*?)(?: {2,}(.*))?$", (text or "").partition("Example")[2], re.MULTILINE)
    return [(command.strip(), remark.strip()) for command, remark in found]


def _fail(error: AnimegenError) -> int:
    from animegen_cli import console

    if isinstance(error, ConfigError) and error.unknown is not None and sys.argv[1:2] == ["train"]:
        error.hint = _for_key(*error.unknown, error.hint)
    if error.message:
        # here and not in the error itself: hints also go into manifests, which travel, and this names a folder of the machine
        error.hint = installable(error.hint) if error.hint else None
        console.fail(error)
    return error.exit_code


def _usage(error: Any) -> UsageError:  # noqa: ANN401  # what Typer raises has no public class
    """Typer's complaint about the command line in our words, with what was probably meant."""
    context, kind = getattr(error, "ctx", None), type(error).__name__
    command = context.command if context else None
    if kind == "NoArgsIsHelpError":
        sys.stderr.write(error.format_message() + "\n")
        return UsageError("")
    path = context.command_path if context else " ".join(["animegen", *takewhile(str.isalpha, sys.argv[1:])])
    hint = f"see `{path} --help`"
    message = error.format_message().rstrip(".")
    if kind == "NoSuchOption" and context and command:
        message = f"`{path}` has no option `{error.option_name}`"
        known = [name for item in command.get_params(context) for name in item.opts if name.startswith("--")]
        hint = _for_option(error.option_name, context.info_name, known) or hint
    elif typo := re.match(r"No such command '(.*?)'", message):
        message = f"`{path}` has no command `{typo[1]}`"
        from animegen_cli.cli import guesses

        line = guesses.command(sys.argv[1:])
        hint = f"type `{line}`" if line else did_you_mean(typo[1], getattr(command, "commands", {}))
    elif extra := re.match(r"Got unexpected extra argument\S* \((.*)\)", message):
        message = f"`{path}` does not know what to do with `{extra[1]}`"
        settings = all("=" in word for word in extra[1].split())
        hint = f"write {' '.join(f'`--set {word}`' for word in extra[1].split())}" if settings else hint
    elif kind == "BadParameter" and error.param is not None:
        message = f"{error.param.opts[0]}: {error.message}".rstrip(".")
        message = re.sub(r"valid (int|float).*", "number", message)
        wrong = re.match(r"'(.*)' is not one of", error.message)
        hint = did_you_mean(wrong[1], [str(c) for c in error.param.type.choices]) if wrong else hint
    elif kind == "MissingParameter" and error.param is not None:
        shown = examples(command.help if command else None)
        message = f"`{path}` needs {error.param.make_metavar(context).strip('{}')}"
        hint = f"for example `{shown[0][0]}`" if shown else hint
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _for_option(name: str, command: str, known: list[str]) -> str | None:
    """What to type instead of an option that the command does not have; None where nothing is near."""
    from animegen_cli.cli import guesses

    line = guesses.corrected(command, sys.argv[1:], known)
    if line is not None:
        return f"type `{line}`"
    close = nearest(name, known) if name.startswith("--") else None
    return f"did you mean `{close}`?" if close else None


def _for_key(path: str, value: object, hint: str | None) -> str | None:
    """What to write for a key of other programs in a config, before what is near it here."""
    from animegen_cli.cli import guesses

    meant = guesses.setting(path, value, sys.argv[1:])
    if meant is None or hint is None or not hint.startswith("write"):
        return meant or hint
    names = re.findall(r"(\w+)[:=] ?[^{ ]", meant)
    return hint if all(f"{name}`" in hint for name in names) and names else f"{meant}; or {hint}"


def _of_the_system(error: OSError) -> AnimegenError | None:
    """A file or disk that does not do its part; None when it is one of our own files or no file at all."""
    from animegen_cli import paths

    why = (error.strerror or str(error)).lower()
    if error.errno in _LACKS:
        where = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.EROFS:
            return MachineError(f"{where}{why}", hint="give the command in a folder of yours, or name one with `--out`")
        return MachineError(f"{where}{why}", hint="make room (or choose another place), then give the same command")
    if "temporary directory" in why:
        return MachineError("there is no temporary folder that can be written", hint="set TMPDIR to a folder of yours")
    if not isinstance(error.filename, str | Path) or paths.PACKAGE in Path(error.filename).parents:
        return None
    return DataError(f"{error.filename}: {why}", hint="check the path and who may read and write it")
