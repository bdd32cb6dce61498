"""Where things lie: families, presets, data sets and runs on disk. Reads file names and small JSON files only."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path
from typing import TYPE_CHECKING, Any

from animegen_cli import disk
from animegen_cli.errors import DataError, MachineError, UsageError, did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.metadata import EntryPoint

PACKAGE = Path(__file__).resolve().parent
RUNS = Path("runs")
DATASETS = Path("datasets")
STUDIES = Path("studies")


# ---- families and presets -------------------------------------------------------------------------------------

PLUGINS = "animegen.families"
"""The entry point group of families that other packages bring: a name and, as its value, a `Family` or a module with one."""


def families() -> list[str]:
    """Names of the families: the built-in ones, and those of installed packages."""
    return sorted([*built_in_families(), *plugins()])


def built_in_families() -> list[str]:
    """Names of the families in `model/families/`."""
    return sorted(f.stem for f in (PACKAGE / "model" / "families").glob("*.py") if not f.stem.startswith("_"))


def plugins() -> dict[str, EntryPoint]:
    """Families of installed packages by name, none of them imported; those of `plugin_problems` are left out."""
    problems = plugin_problems()
    return {entry.name: entry for entry in _offered(tuple(sys.path)) if entry.name not in problems}


def plugin_problems() -> dict[str, str]:
    """What is wrong with the name of a family that an installed package brings, by that name."""
    found: dict[str, str] = {}
    packages: dict[str, str] = {}
    for entry in _offered(tuple(sys.path)):
        package = package_of(entry)
        if entry.name in built_in_families():
            found[entry.name] = f"{package} calls a family `{entry.name}`, which is built in: the built-in one is used"
        elif not re.fullmatch(r"[a-z][a-z0-9_]*", entry.name) or entry.name == "studies":
            found[entry.name] = f"{package} calls a family `{entry.name}`, and names are small letters, digits and _"
        elif entry.name in packages:
            found[entry.name] = f"{packages[entry.name]} and {package} both call a family `{entry.name}`"
        packages[entry.name] = package
    return found


def package_of(entry: EntryPoint) -> str:
    """The name of the package that brings an entry point, as pip knows it."""
    return entry.dist.name if entry.dist else entry.module


def package_version(family: str) -> dict[str, str]:
    """The package that brings a family, and its version; nothing for a built-in one."""
    entry = plugins().get(family)
    return {entry.dist.name: entry.dist.version} if entry and entry.dist else {}


@remembered
def _offered(_search: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of families in the packages that lie on Python's search path."""
    from importlib.metadata import entry_points  # which most commands do not need

    return tuple(entry_points(group=PLUGINS))


def check_family(family: str) -> None:
    """UsageError with the nearest name when there is no such family."""
    if family in built_in_families() or family in plugins():
        return
    if problem := plugin_problems().get(family):
        raise UsageError(problem, hint="uninstall one of them, or ask its authors for another name")
    if Path(family).exists():
        raise UsageError(
            f"{family} is no family but {'a folder' if Path(family).is_dir() else 'a file'}",
            hint=f'type `animegen prepare {family}` first, then `animegen train --budget "30 min"`; `--data` names a data set',
        )
    raise UsageError(f"no family `{family}`", hint=did_you_mean(family, families()))


def presets_folder() -> Path:
    """The folder of the shipped presets, one folder per family: inside the wheel, beside the package in a checkout."""
    inside = PACKAGE / "presets"
    return inside if inside.is_dir() else PACKAGE.parent / "presets"


def own_presets_folder() -> Path | None:
    """The folder of a user's own presets, one folder per family: below XDG_CONFIG_HOME, else `~/.config`; None without a home."""
    chosen = os.environ.get("XDG_CONFIG_HOME")
    above = Path(chosen) if chosen else (place := home()) and place / ".config"
    return above / "animegen" / "presets" if above else None


def preset_files(family: str) -> list[tuple[str, Path]]:
    """Name and file of each preset of a family: those that come with it, then the user's own."""
    folders = [_presets_with(family), own_presets_folder()]
    found = [sorted((folder / family).glob("*.yaml"), key=lambda f: f.stem) for folder in folders if folder]
    return [(file.stem, file) for files in found for file in files]


def _presets_with(family: str) -> Path | None:
    """Where the presets that come with a family lie, each family's in a folder of its own; nothing is imported."""
    entry = plugins().get(family)
    if entry is None:
        return presets_folder()
    from importlib.util import find_spec

    try:
        found = find_spec(entry.module.partition(".")[0])
    except (ImportError, ValueError):
        return None
    inside = found.submodule_search_locations if found else None
    return Path(next(iter(inside))) / "presets" if inside else None


def presets(family: str | None = None) -> list[str]:
    """Names of the presets of one family (`ho2020`), or of all (`ddpm/ho2020`): those that come with it and the user's own."""
    if family is None:
        return [f"{name}/{preset}" for name in families() for preset in presets(name)]
    return sorted({name for name, _ in preset_files(family)})


def is_preset_file(preset: str) -> bool:
    """Whether a word of `--preset` means a file instead of a name."""
    return Path(preset).suffix in (".yaml", ".yml")


def preset_name(preset: str) -> str:
    """What folders are named after that belong to a preset: its name, of a file its name without the ending."""
    return Path(preset).stem if is_preset_file(preset) else preset


def preset_file(family: str, preset: str) -> Path:
    """The YAML file that `--preset` means: one of the family's presets by its name, or a file by its path.

    Raises:
        UsageError: no such preset, with the nearest name; or a preset of the user's own that is called as another.
        DataError: no such file.
    """
    check_family(family)
    if is_preset_file(preset):
        file = Path(preset).expanduser()
        if not file.is_file():
            hint = similar(file) or f"make it: `animegen presets copy {family}/fast {preset}`"
            raise DataError(f"no preset file {preset}", hint=hint)
        return file
    found = [file for name, file in preset_files(family) if name == preset]
    if not found:
        raise UsageError(f"`{family}` has no preset `{preset}`", hint=did_you_mean(preset, presets(family)))
    if len(found) > 1:
        raise UsageError(
            f"there are two presets {family}/{preset}: {found[0]} and your own {found[1]}",
            hint=f"rename yours, or name its file: `--preset {found[1]}`",
        )
    return found[0]


# ---- studies, downloads, data sets ------------------------------------------------------------------------------


def studies() -> list[str]:
    """Names of the shipped studies."""
    return sorted(f.stem for f in (presets_folder() / "studies").glob("*.yaml"))


def documents() -> dict[str, str]:
    """Number of a document -> name of the shipped study that repeats it: the line `document: "003"` of its file."""
    found = {}
    for name in studies():
        text = (presets_folder() / "studies" / f"{name}.yaml").read_text(encoding="utf-8")
        if number := re.search(r'^document: "(\d{3})"', text, re.MULTILINE):
            found[number[1]] = name
    return dict(sorted(found.items()))


def study_file(spec: str) -> Path:
    """The YAML file of a shipped study, by its name or its document's number, or the one that `spec` names; UsageError with
    the nearest name."""
    by_number = documents()
    name = by_number.get(spec, spec)
    if name in studies():
        return presets_folder() / "studies" / f"{name}.yaml"
    if Path(spec).is_file():
        return Path(spec)
    hint = did_you_mean(spec, [*studies(), *by_number])
    raise UsageError(f"no study `{spec}`", hint=f"{hint} (or name a YAML file)")


def home() -> Path | None:
    """The user's home folder; None for one without, such as a user id that has no name in a container or batch job."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def cache() -> Path:
    """The user's cache folder for downloaded weights and reference statistics.

    It is below XDG_CACHE_HOME, else `~/.cache`. Where there is no home, or none that can be written, it is a folder of
    the user's own among the temporary ones.

    Raises:
        MachineError: the temporary folder's place is taken by another user.
    """
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "animegen"
    place = home()
    usual = place / ".cache" / "animegen" if place is not None else None
    if usual is not None and (usual.is_dir() or _can_be_made(usual)):
        return usual
    import tempfile  # which takes longer to import than all the rest here

    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(f"animegen-{user}")
    try:
        folder = tempfile.gettempdir() / folder
        folder.mkdir(mode=0o700, exist_ok=True)
        ours = not hasattr(os, "getuid") or (folder.lstat().st_uid == user and not folder.is_symlink())
    except OSError:
        ours = False
    if not ours:
        raise MachineError(
            f"there is no folder to keep downloads in: no home that can be written, and {folder} is not yours",
            hint="set XDG_CACHE_HOME to a folder of yours",
        )
    return folder


def _can_be_made(folder: Path) -> bool:
    """Whether the nearest folder above that exists can be written."""
    above = next((parent for parent in folder.parents if parent.exists()), None)
    return above is not None and above.is_dir() and os.access(above, os.W_OK | os.X_OK)


def make_folder(path: Path) -> Path:
    """Make a folder for output, or clear one of what killed commands left half-written.

    Raises:
        MachineError: it cannot be written; the hint names the flag to change.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        disk.sweep(path)
    except OSError as error:
        raise MachineError(
            f"cannot write to {path}: {error.strerror}", hint="name another folder with `--out`"
        ) from error
    return path


def newest_dataset() -> Path:
    """The data set file written last under `datasets/`; DataError when there is none."""
    found = [f for f in DATASETS.glob("*.zip") if not f.name.startswith(".")]
    if not found:
        raise DataError(
            f"no data set in {DATASETS}/",
            hint="make one with `animegen prepare ./faces`, or name it with `--data faces.zip`",
        )
    return max(found, key=lambda f: f.stat().st_mtime_ns)


def similar(path: Path) -> str | None:
    """A hint for a mistyped path: the nearest name in its folder, or None."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.name != path.name]
    except OSError:
        return None
    close = nearest(path.name, names)
    return f"did you mean `{path.parent / close}`?" if close else None


# ---- runs -----------------------------------------------------------------------------------------------------


class _Inside:
    """A file or folder of a run, by the name that it has inside."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: Run, kind: type[Run]) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class Run:
    """A run folder: where its files lie, and what they say of it."""

    path: Path

    facts = _Inside("run.json")
    """What the run is and how far it has come."""
    config = _Inside("config.yaml")
    """The resolved config, which runs again as it is."""
    log = _Inside("log.jsonl")
    """Losses and rates over training, a JSON object per line."""
    samples = _Inside("samples")
    """The folder of previews."""
    resume = _Inside("resume")
    """The folder of complete training states."""
    weights = _Inside("weights.safetensors")
    """The averaged networks, with config and DataSpec inside."""
    scores = _Inside("eval.json")
    """What judges found."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def about(self) -> dict[str, Any]:
        """What `run.json` says; DataError when it is missing, broken, or says what cannot be."""
        about = read_json(self.facts, what="run")
        for told, known in ((about, _FACTS), (about.get("data", {}), _FACTS_OF_DATA)):
            wrong = _wrong_fact(told, known)
            if wrong is None:
                continue
            raise DataError(
                f"{self.facts} is damaged: `{wrong}` cannot be {str(told[wrong])[:40]!r}",
                hint=f"let training write it again: `animegen train --resume {self.path}`",
            )
        return about

    @property
    def exists(self) -> bool:
        """Whether a training has begun in this folder."""
        return self.facts.is_file()

    @property
    def state(self) -> str | None:
        """`running`, `stopped`, `diverged` or `finished`; None where nothing has begun. DataError for a broken run.json."""
        return self.about.get("state") if self.exists else None

    @property
    def finished(self) -> bool:
        """Whether the training reached its duration."""
        return self.state == "finished"

    def states(self) -> list[Path]:
        """Complete training states, oldest first."""
        found = [f for f in self.resume.glob("*") if f.is_dir() and f.name.isdigit()]
        return sorted(found, key=lambda f: int(f.name))

    def able(self, ability: str) -> bool:
        """Whether the run has weights whose family has this ability; a damaged run has none."""
        try:
            return self.weights.is_file() and ability in self.about.get("abilities", ())
        except DataError:
            return False


_MOST = 2**53
"""The largest count: JSON readers of other languages have no larger whole number."""


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST


def _is_amount(value: object) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= float(_MOST) ** 2)  # type: ignore[operator]


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


def _is_mapping_of(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


_FACTS: dict[str, Callable[[object], bool]] = {
    "animegen": _is_text, "family": _is_text, "preset": _is_text, "state": _is_text, "abilities": _is_list_of_text,
    "images": _is_count, "target_images": _is_count, "steps": _is_count, "seconds": _is_amount,
    "images_per_second": _is_amount, "parameters": _is_mapping_of(_is_count), "flops_per_image": _is_amount,
    "data": _is_mapping, "device": _is_text, "peak_memory": _is_amount, "hardware": _is_mapping, "versions": _is_mapping,
    "git": _is_text, "resolved": _is_mapping, "notes": _is_mapping, "findings": _is_list, "quantities": _is_mapping,
    "validation": _is_mapping,
}  # fmt: skip
"""What run.json may say."""
_FACTS_OF_DATA: dict[str, Callable[[object], bool]] = {
    "path": _is_text, "name": _is_text, "identity": _is_text, "split": _is_text, "count": _is_count, "size": _is_count,
    "scaled_from": _is_count, "attributes": _is_mapping_of(_is_list_of_text),
}  # fmt: skip


def _wrong_fact(about: Mapping[str, object], known: Mapping[str, Callable[[object], bool]]) -> str | None:
    """The first key whose value is not what it may be."""
    return next((key for key, fits in known.items() if key in about and not fits(about[key])), None)


def read_json(path: Path, *, what: str) -> dict[str, Any]:
    """Read a JSON object, and hold it against its checksum where it has one.

    Args:
        path: the file.
        what: what it belongs to, for messages: `run`.

    Raises:
        DataError: it is missing, damaged, too large or no object; the message names the file.
    """
    try:
        if path.stat().st_size > disk.MOST_JSON:
            raise ValueError(f"it is larger than {disk.MOST_JSON // 2**20} MB")
        value = disk.parse_json(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("it holds no JSON object")
        return disk.unsealed(value)
    except FileNotFoundError:
        raise DataError(f"{path.parent} is no {what}: it has no {path.name}", hint="check the path") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}", hint=f"delete it if the {what} can be made again") from error


def runs(root: Path = RUNS, *, sweeps: bool = False) -> list[Run]:
    """All run folders under `root`, oldest first; with `sweeps` also those one folder deeper, as sweeps with `--out` lie."""
    found = [Run(folder) for folder in _folders(root)]
    if sweeps:
        found += [Run(folder) for group in found if not group.exists for folder in _folders(group.path)]
    return sorted((run for run in found if run.exists), key=lambda run: (run.facts.stat().st_mtime_ns, run.name))


def _folders(root: Path) -> list[Path]:
    return [folder for folder in root.glob("*") if folder.is_dir()]


def run_name(run: Run, root: Path = RUNS) -> str:
    """What a run under `root` is called where several are told apart: `00003-ddim-faces`, `sweep/lr=1e-4`."""
    return run.path.relative_to(root).as_posix()


def numbered_run(root: Path, description: str) -> Path:
    """Make the next numbered folder, such as runs/00012-ddpm-ho2020-animeface-64; safe against a second process."""
    root.mkdir(parents=True, exist_ok=True)
    while True:
        used = [int(m[1]) for f in root.iterdir() if (m := re.match(r"(\d{5})-", f.name))]
        path = root / f"{max(used, default=-1) + 1:05d}-{description}"
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue


def require_runs(ability: str, root: Path = RUNS) -> None:
    """DataError where no run lies under `root`: what a command asks before it loads networks."""
    if not runs(root, sweeps=True):
        raise DataError(f"no run under {root}/", hint=f"{how_to_train(ability)}, or name its folder")


def how_to_train(*wanted: str) -> str:
    """What to type for a run that has one of these abilities."""
    if wanted == ("translates",):
        both = "`animegen prepare --photos PHOTOS --anime FACES`"
        return f"prepare photographs and faces with {both}, then `animegen train animegan`"
    if wanted == ("classifies",):
        return "train one with `animegen train attributes`"
    return 'train one with `animegen train --budget "30 min"`'


def open_run(spec: str | Path | None, *, able_to: str | tuple[str, ...] | None = None, root: Path = RUNS) -> Run:
    """The run that `spec` means: a path, a name or number under `root`, or (None) the newest that has the ability.

    Of several abilities in `able_to` one is enough.

    Raises:
        DataError: no such run, or one without weights.
        UsageError: the run's family lacks the ability; the hint names runs that have it.
    """
    wanted = (able_to,) if isinstance(able_to, str) else able_to or ()
    if spec is None:
        everything = runs(root, sweeps=True)
        found = [run for run in everything if not wanted or any(run.able(ability) for ability in wanted)]
        if not found:
            verb = f" that {' or '.join(wanted)}" if wanted else ""
            raise DataError(f"no run{verb} under {root}/", hint=f"{how_to_train(*wanted)}, or name its folder")
        return found[-1]
    run = find_run(str(spec), root)
    about = run.about
    if wanted and not set(wanted) & set(about.get("abilities", ())):
        able = [other for other in runs(root, sweeps=True) if any(other.able(ability) for ability in wanted)]
        others = [run_name(other, root) for other in able]
        hint = f"these can: {', '.join(others)}" if others else "no run here can; see `animegen presets list`"
        raise UsageError(
            f"{run.name} is a {about.get('family')} run, whose family has no `{'` and no `'.join(wanted)}`", hint=hint
        )
    if wanted and not run.weights.is_file():
        raise DataError(
            f"{run.name} has no weights.safetensors yet", hint=f"let it train on: `animegen train --resume {run.path}`"
        )
    return run


def find_run(spec: str, root: Path = RUNS) -> Run:
    """The run that a path, or a name or number under `root`, means, whether its files can be read or not; DataError for none."""
    if Run(Path(spec)).exists:
        return Run(Path(spec))
    found = {run_name(run, root): run for run in runs(root, sweeps=True)}
    number = f"{int(spec):05d}-" if spec.isdigit() else None
    matches = [name for name in found if name == spec or (number and name.startswith(number))]
    matches = matches or [name for name, run in found.items() if run.name == spec]
    if len(matches) > 1 and number is None:
        raise DataError(
            f"several runs are called `{spec}`", hint=f"name one: {', '.join(f'`{m}`' for m in sorted(matches))}"
        )
    if matches:
        return found[matches[0]]
    names = list(found)
    if members := [name for name in names if name.startswith(f"{spec.rstrip('/')}/")]:
        raise DataError(f"`{spec}` is a sweep of {len(members)} runs", hint=f"name one of them, such as `{members[0]}`")
    if Path(spec).is_dir():
        raise DataError(f"{spec} is no run: it has no run.json", hint="name a folder that `animegen train` made")
    close = nearest(spec, [*names, *(str(root / name) for name in names)])
    raise DataError(
        f"no run `{spec}`", hint=f"did you mean `{close}`?" if close else "list them with `animegen runs list`"
    )
