"""animegen: train, sample, translate, evaluate and compare generators of anime faces.

For notebooks: `import animegen_cli as animegen`, then `animegen.load`, `.prepare`, `.train`, `.evaluate`, `.compare` and `.study`
(`animegen_cli/api/`). Importing this loads nothing; what is used is loaded then.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from animegen_cli.api import Comparison as Comparison
    from animegen_cli.api import DataSet as DataSet
    from animegen_cli.api import Run as Run
    from animegen_cli.api import Scores as Scores
    from animegen_cli.api import compare as compare
    from animegen_cli.api import evaluate as evaluate
    from animegen_cli.api import load as load
    from animegen_cli.api import prepare as prepare
    from animegen_cli.api import study as study
    from animegen_cli.api import train as train

__version__ = "0.1.0"
_VERBS = ("compare", "evaluate", "prepare", "train")
_OTHERS = ("Comparison", "DataSet", "Run", "Scores", "load", "study")


class Verb(ModuleType):
    """The package of a verb, which can be called as its function in `api` is: `animegen.train("vae")`."""

    def __call__(self, *words: object, **named: object) -> object:
        """Do what the verb's function in `api` does."""
        return self._function(*words, **named)

    @property
    def _function(self) -> Callable[..., object]:  # type checkers see the functions themselves, above
        return getattr(import_module(f"{__name__}.api"), self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> object:
        """What the function takes, for `help` and notebooks."""
        from inspect import signature

        return signature(self._function)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        """Python sets a subpackage here once it has loaded it; that of a verb can be called from then on."""
        if name in _VERBS and isinstance(value, ModuleType):
            value.__class__ = Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
if sys.platform == "darwin":
    os.environ.setdefault(
        "PYTORCH_ENABLE_MPS_FALLBACK", "1"
    )  # what Apple's GPUs lack the CPU does; read as torch is loaded

if not TYPE_CHECKING:  # a type checker would take every name for one that exists

    def __getattr__(name: str) -> object:
        """What this package offers, loaded when it is first used."""
        if name in _VERBS:
            return import_module(f"{__name__}.{name}")
        if name in _OTHERS:
            return getattr(import_module(f"{__name__}.api"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_VERBS, *_OTHERS})
