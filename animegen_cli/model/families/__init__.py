"""One file per family. A new family is one file here, with one `Family` class, and presets beside it; or a package of its own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, get_origin

from animegen_cli import paths
from animegen_cli.errors import MachineError
from animegen_cli.model.family import Family

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from types import ModuleType

_DECLARED = ("Config", "Sampling", "inference")
"""What every family says as its class attributes."""


def load(family: str) -> type[Family]:
    """Return the family's class, built in or of an installed package.

    Raises:
        UsageError: no such family; the hint has the nearest name.
        MachineError: the package that brings it cannot be loaded, or brings no family; the message names the package.
    """
    paths.check_family(family)
    entry = paths.plugins().get(family)
    if entry is None:
        return _only_family(importlib.import_module(f"animegen_cli.model.families.{family}"))
    try:
        found = entry.load()
        return _whole(found if isinstance(found, type) else _only_family(found))
    except Exception as error:  # whatever the code of others raises
        raise MachineError(
            f"the family `{family}` of the package {_named(entry)} cannot be used: {type(error).__name__}: {error}",
            hint=f"type `pip install --upgrade {paths.package_of(entry)}`, or tell its authors",
        ) from error


def loadable() -> dict[str, type[Family]]:
    """Return every family by its name; those whose package is broken are left out."""
    found = {}
    for name in paths.families():
        try:
            found[name] = load(name)
        except MachineError:
            continue
    return found


def _named(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module


def _only_family(module: ModuleType) -> type[Family]:
    named = [
        v for v in vars(module).values() if isinstance(v, type) and get_origin(v) is None
    ]  # 3.10 calls dict[str, int] a type
    found = [kind for kind in named if issubclass(kind, Family) and kind.__module__ == module.__name__]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must define exactly one Family, it defines {len(found)}")
    return found[0]


def _whole(kind: type) -> type[Family]:
    if not issubclass(kind, Family):
        raise TypeError(f"{kind.__name__} is no Family")
    missing = [name for name in _DECLARED if not hasattr(kind, name)] + sorted(kind.__abstractmethods__)
    if missing:
        raise TypeError(f"{kind.__name__} lacks {', '.join(f'`{name}`' for name in missing)}")
    return kind
