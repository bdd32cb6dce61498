"""What the messages tell people to type can be typed: commands, options and config keys that stand in backticks."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest
import typer

from animegen_cli import config, paths
from animegen_cli.cli import app
from animegen_cli.cli.reference import commands
from animegen_cli.model import families

PACKAGE = paths.PACKAGE
QUOTED = re.compile(r"`([^`]+)`")
OF_EVERY_PROGRAM = {"--help"}


class Said(NamedTuple):
    """Something in backticks, and the place that says it."""

    where: str
    words: str


def rendered(node: ast.expr) -> str:
    """The text of a string; each value that it is filled with reads `1`, which is a number, a name and a path."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(rendered(part) for part in node.values)
    return "1" if isinstance(node, ast.FormattedValue) else ""


def docstrings(tree: ast.Module) -> set[ast.expr]:
    """The expressions that are docstrings: they speak to those who read the code."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


@cache
def everything_said() -> tuple[Said, ...]:
    """All that stands in backticks in the package's messages."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        silent = docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.Constant) and node not in silent and id(node) not in inside:
                where = f"{file.relative_to(PACKAGE)}:{node.lineno}"
                found += [Said(where, words) for words in QUOTED.findall(rendered(node))]
    return tuple(found)


def commands_said() -> list[Said]:
    """Whole commands; those that go on in another string, or stand for several, are left out."""
    said = [each for each in everything_said() if re.match(r"animegen [a-z]", each.words)]
    return [each for each in said if not each.words.endswith((" ", "|"))]


def parsed(words: list[str]) -> None:
    """Let the command line's own parser read the words; it raises what a person would see, and runs nothing."""
    command: Any = typer.main.get_command(app)
    context: Any = None
    while hasattr(command, "commands"):
        context = command.make_context(command.name, list(words), parent=context)
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
    command.make_context(command.name, list(words), parent=context)


@pytest.mark.parametrize("said", commands_said(), ids=lambda said: said.where)
def test_every_command_that_is_named_can_be_typed(said: Said) -> None:
    words = shlex.split(said.words.replace("...", "1"))[1:]
    parsed(words)


def test_commands_are_found_and_a_wrong_one_is_refused() -> None:
    assert len(commands_said()) > 30
    for wrong in ("prepare faces.zip --size 64", "trane ddpm"):
        with pytest.raises(typer.TyperException):
            parsed(wrong.split())


def test_every_option_that_is_named_belongs_to_a_command() -> None:
    known = {
        name for context in commands() for item in context.command.params for name in (*item.opts, *item.secondary_opts)
    }
    named = {
        (option, said.where)
        for said in everything_said()
        if not said.words.startswith(("pip ", "ffmpeg ", "python ", "scontrol ", "ssh "))
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", said.words)
    }
    assert len(named) > 50
    assert {(option, where) for option, where in named if option not in known | OF_EVERY_PROGRAM} == set()


def keys(kind: Any, prefix: str = "") -> set[str]:
    """The dotted keys of a config section, inner ones included."""
    found = set()
    for name, inner in get_type_hints(kind).items():
        if name.startswith("_") or name == "renamed":
            continue
        found.add(f"{prefix}{name}")
        if dataclasses.is_dataclass(inner):
            found |= keys(inner, f"{prefix}{name}.")
    return found


@cache
def known_keys() -> frozenset[str]:
    """The keys of every family's config, those of its section `sample:` with and without its name."""
    found = keys(config.Train, "train.") | keys(config.Augment, "augment.") | {"size", "data"}
    for family in paths.families():
        kind = families.load(family)
        found |= keys(kind.Config, "model.") | keys(kind.Sampling, "sample.") | keys(kind.Sampling)
        found |= {key for name in kind.optimizers for key in keys(config.Optim, f"optim.{name}.")}
    return frozenset(found)


def test_every_setting_that_is_named_exists() -> None:
    named = {(key, said.where) for said in everything_said() for key in re.findall(r"--set ([a-z_0-9.]+)=", said.words)}
    assert len(named) > 10
    assert {(key, where) for key, where in named if key not in known_keys() and "1" not in key} == set()


def test_every_extra_that_is_named_can_be_installed() -> None:
    extras = {
        extra
        for said in everything_said()
        for listed in re.findall(r"animegen\[([a-z,]+)\]", said.words)
        for extra in listed.split(",")
    }
    known = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert extras
    assert {extra for extra in extras if f"\n{extra} = [" not in known} == set()
