"""The floors of the house: what may import what, read from the source with `ast`."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from animegen_cli import paths
from animegen_cli.model.family import DataSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "animegen_cli"
FLOORS = (
    ("", "disk", "errors"),
    ("console", "device", "paths", "ranks", "seeds"),
    ("config",),
    ("data", "model"),
    ("metrics", "prepare"),
    ("report",),
    ("sample",),
    ("evaluate", "export", "train", "translate"),
    ("compare", "ui"),
    ("api", "cli"),
    ("__main__",),
)
"""Places, which are folders or loose modules, from the ground up; a place imports from lower floors alone."""
VERBS = ("prepare", "train", "sample", "translate", "evaluate", "compare")
KNOWS = {
    "train": {"sample"},
    "translate": {"sample"},
    "evaluate": {"sample"},
    "export": {"prepare", "sample"},
    "compare": {"prepare", "train", "sample", "evaluate"},
    "ui": {"sample", "translate"},
    "api": {"prepare", "train", "sample", "evaluate", "compare"},
}
"""Which verbs a verb, or what is built on verbs, may know; the others know none."""
GROUND_OF_MODEL = {"", "errors", "disk", "paths", "config", "seeds", "device"}
HEAVY = {"torch", "torchvision", "cleanfid", "scipy"}


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below it; the package itself is the empty name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def place(name: str) -> str:
    """The folder or loose module at the top of the package that a module belongs to."""
    return name.split(".")[0]


def floor(name: str) -> int:
    """The floor of a module; a new top-level name needs its place in the table."""
    return next(level for level, names in enumerate(FLOORS) if place(name) in names)


def imports_between_places() -> set[tuple[str, str]]:
    """(place, place that it imports from), whatever the number of modules on either side."""
    return {(place(name), place(target)) for name in modules() for target in ours(name) if place(name) != place(target)}


def is_light(name: str) -> bool:
    """Whether a module must not load networks: the ground, the command line, the API and what they are asked for."""
    return place(name) in {"", "errors", "console", "paths", "seeds", "config", "cli", "api"} or name.endswith(
        ".request"
    )


def statements(node: ast.AST, *, inside: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements below `node`: with `inside` also those in functions and for type checking only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test) and not inside:
            yield from (found for part in child.orelse for found in statements(ast.Module([part], []), inside=inside))
        elif inside or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from statements(child, inside=inside)


def imported(name: str, *, inside: bool = True) -> set[str]:
    """Dotted names that a module imports: the full names of modules, or of things in them."""
    found = set()
    for statement in statements(tree(name), inside=inside):
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        else:
            assert statement.level == 0, f"{name}: relative import"
            found |= {f"{statement.module}.{alias.name}" for alias in statement.names}
    return found


def ours(name: str, *, inside: bool = True) -> set[str]:
    """Modules of the package that a module imports, itself left out.

    The package's own file names the functions of `api` for type checkers, and imports nothing.
    """
    found = set()
    for target in imported(name, inside=inside and bool(name)):
        head, _, rest = target.partition(".")
        if head == PACKAGE.name:
            found.add(rest if rest in modules() else rest.rpartition(".")[0])
    return found - {name}


def foreign(name: str, *, inside: bool = True) -> set[str]:
    """Top-level names of other packages that a module imports."""
    return {target.partition(".")[0] for target in imported(name, inside=inside)} - {PACKAGE.name}


def reached(starts: set[str], *, inside: bool) -> set[str]:
    """The modules that importing `starts` runs: with their packages, and all that those import."""
    done: set[str] = set()
    todo = set(starts)
    while todo:
        name = todo.pop()
        done.add(name)
        parents = {name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)}
        todo |= (ours(name, inside=inside) | parents) - done
    return done


def test_the_table_names_what_exists() -> None:
    known = [name for names in FLOORS for name in names]
    assert sorted(known) == sorted({place(name) for name in modules()})
    assert {"prepare.prepare", "cli.train", "model.nets.unet", "model.families.ddpm"} <= set(modules())


@pytest.mark.parametrize("name", list(modules()))
def test_imports_go_downward(name: str) -> None:
    upward = {target for target in ours(name) if place(target) != place(name) and floor(target) >= floor(name)}
    assert not upward, f"{name or 'animegen_cli'} (floor {floor(name)}) imports {upward}, which is not below it"


def test_the_house_stays_small() -> None:
    """A stranger can hold it in mind: few names at the top, few floors, few ways between places."""
    shown = [entry.name for entry in PACKAGE.iterdir() if not entry.name.startswith((".", "__pycache__"))]
    assert len([name for name in shown if name not in ("presets", "completions", "py.typed")]) <= 24
    assert len(FLOORS) <= 12
    assert len(imports_between_places()) <= 150


def test_data_and_model_do_not_know_each_other() -> None:
    between = imports_between_places()
    assert ("data", "model") not in between
    assert ("model", "data") not in between


def test_the_model_core_stands_on_the_ground() -> None:
    assert {target for name, target in imports_between_places() if name == "model"} <= GROUND_OF_MODEL


def test_metrics_know_near_duplicates_of_data_and_speak_only_of_weights() -> None:
    inner = [name for name in modules() if place(name) == "metrics"]
    assert {target for name in inner for target in ours(name) if place(target) == "data"} <= {"data.near_duplicates"}
    assert {name for name in inner if "console" in ours(name)} <= {"metrics.weights"}


@pytest.mark.parametrize("name", sorted({place(name) for name in modules()} - {"cli"}))
def test_verbs_know_only_the_verbs_below_them(name: str) -> None:
    known = {target for source, target in imports_between_places() if source == name and target in VERBS}
    assert known <= KNOWS.get(name, set())


def test_nobody_knows_the_command_line_the_api_or_the_page() -> None:
    between = imports_between_places()
    assert {source for source, target in between if target == "cli"} == {"__main__"}
    assert {source for source, target in between if target == "ui"} == {"cli"}
    assert not [source for source, target in between if target == "api"]


@pytest.mark.parametrize("verb", [*VERBS, "export", "ui"])
def test_the_door_of_a_folder_bears_its_name(verb: str) -> None:
    doors = [node.name for node in tree(f"{verb}.{verb}").body if isinstance(node, ast.FunctionDef)]
    assert verb in doors


def test_no_floor_has_a_cycle() -> None:
    graph = {name: {target for target in ours(name) if target} for name in modules() if name}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a cycle: {' -> '.join(error.args[1])}")
    assert set(order) == set(graph)


@pytest.mark.parametrize("name", [n for n in modules() if is_light(n)])
def test_light_floors_name_nothing_heavy_at_module_level(name: str) -> None:
    assert not foreign(name, inside=False) & HEAVY


def test_prepare_and_all_it_reaches_name_nothing_heavy_at_module_level() -> None:
    """Modules that its functions import on the way count too."""
    chain = reached({"prepare.prepare"}, inside=True)
    assert {name for name in chain if foreign(name, inside=False) & HEAVY} == set()
    assert len(chain) > 5


def test_the_light_modules_import_without_torch() -> None:
    light = [n for n in modules() if is_light(n)]
    names = [f"{PACKAGE.name}.{name}".rstrip(".") for name in [*light, "prepare.prepare"]]
    script = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", [n for n in modules() if not n.startswith("model.families")])
def test_no_family_is_named(name: str) -> None:
    """A string that names a function of its own module (the sampler `ddim`) names that, not a family.

    Nor does one that names what a data set says of itself (its `attributes`).
    """
    functions = {node.name for node in tree(name).body if isinstance(node, ast.FunctionDef)}
    own = functions | {field.name for field in dataclasses.fields(DataSpec)}
    families = set(paths.families())
    assert not ours(name) & {f"model.families.{family}" for family in families}
    spoken = [
        f"line {node.lineno}: {node.value!r}"
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in families - own
    ]
    assert not spoken, f"{name}: {spoken}"


def test_families_do_not_know_each_other() -> None:
    families = {f"model.families.{family}" for family in paths.families()}
    assert {name: ours(name) & families for name in families if ours(name) & families} == {}


def test_no_drawer_for_odds_and_ends() -> None:
    assert not [file for name in ("utils", "helpers", "misc", "common") for file in PACKAGE.rglob(f"{name}.py")]


@pytest.mark.parametrize("family", paths.families())
def test_every_family_has_the_two_presets_that_every_command_relies_on(family: str) -> None:
    assert {"fast", "smoke"} <= {file.stem for file in (ROOT / "presets" / family).glob("*.yaml")}
