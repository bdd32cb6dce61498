"""animegen in Python, for notebooks and scripts: `import animegen_cli as animegen`.

The functions do what the commands of their names do and return objects that a notebook shows. Networks are loaded when they are
needed. Whatever goes wrong raises an `AnimegenError` (`animegen_cli.errors`) with a hint that says what to change.
"""

from animegen_cli.api.results import Comparison, DataSet, Run, Scores
from animegen_cli.api.verbs import compare, evaluate, load, prepare, study, train

__all__ = ["Comparison", "DataSet", "Run", "Scores", "compare", "evaluate", "load", "prepare", "study", "train"]
