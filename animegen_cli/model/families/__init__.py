"""One file per family. A new family is one file here, with one `Family` class, and presets beside it."""

from __future__ import annotations

import importlib
from typing import get_origin

from animegen_cli import paths
from animegen_cli.model.family import Family


def load(family: str) -> type[Family]:
    """The family's class. UsageError with the nearest name when there is no such family."""
    paths.check_family(family)
    module = importlib.import_module(f"animegen_cli.model.families.{family}")
    named = [
        v for v in vars(module).values() if isinstance(v, type) and get_origin(v) is None
    ]  # 3.10 calls dict[str, int] a type
    found = [kind for kind in named if issubclass(kind, Family) and kind.__module__ == module.__name__]
    if len(found) != 1:
        raise TypeError(f"model/families/{family}.py must define exactly one Family, it defines {len(found)}")
    return found[0]
