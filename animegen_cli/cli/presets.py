"""`animegen presets list|show|copy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from animegen_cli.cli.command import Command
from animegen_cli.cli.options import complete_family, complete_full_preset

presets = typer.Typer(
    name="presets",
    no_args_is_help=True,
    help="The presets, shipped and your own: list, show and copy.",
    rich_markup_mode=None,
)
Named = Annotated[str, typer.Argument(help="Such as ddpm/ho2020.", autocompletion=complete_full_preset)]


@presets.command("list", cls=Command)
def list_presets(
    family: Annotated[str | None, typer.Argument(help="Only this family.", autocompletion=complete_family)] = None,
) -> None:
    """All presets with a line on each: shipped, of installed packages and your own.

    Example:

      animegen presets list ddpm
    """
    from animegen_cli import console, paths

    if family is not None:
        paths.check_family(family)
    names = paths.families() if family is None else [family]
    rows = [_row(name, preset, file) for name in names for preset, file in paths.preset_files(name)]
    shown = [(r["preset"], r["size"] or "the set's", r["from"], r["about"]) for r in rows]
    console.table("", ["preset", "pixels", "from", "about"], shown)
    console.result(rows)
    for problem in [*paths.plugin_problems().values(), *_astray(paths.families()), *_twice(rows)]:
        console.warn(problem)


def _row(family: str, preset: str, file: Path) -> dict[str, Any]:
    """What the list says of a preset. One of a user's own that cannot be read is listed with the reason."""
    import yaml

    from animegen_cli import disk, paths

    own, plugins = paths.own_presets_folder(), paths.plugins()
    where = "animegen" if family not in plugins else paths.package_of(plugins[family])
    try:
        values = dict(disk.parse_yaml(file.read_text(encoding="utf-8"))[0])
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        values = {"about": f"cannot be read: {str(error).splitlines()[0]}"}
    return {
        "preset": f"{family}/{preset}",
        "about": values.get("about", ""),
        "size": values.get("size"),
        "warning": values.get("warning"),
        "from": "yours" if own is not None and file.is_relative_to(own) else where,
        "file": str(file),
    }


def _astray(families: list[str]) -> list[str]:
    """Folders of a user's own presets that belong to no family."""
    from animegen_cli import paths

    own = paths.own_presets_folder()
    folders = sorted(folder for folder in own.iterdir() if folder.is_dir()) if own and own.is_dir() else []
    return [f"{folder}: there is no family `{folder.name}`" for folder in folders if folder.name not in families]


def _twice(rows: list[dict[str, Any]]) -> list[str]:
    """Presets of a user's own that are called as another."""
    names = [row["preset"] for row in rows]
    return [
        f"{row['preset']} is there twice: rename {row['file']}"
        for place, row in enumerate(rows)
        if row["preset"] in names[:place]
    ]


@presets.command("show", cls=Command)
def show(name: Named) -> None:
    """A preset with the source of each value.

    Example:

      animegen presets show ddpm/ho2020
    """
    import yaml

    from animegen_cli import console

    text = _file(name).read_text(encoding="utf-8")
    console.result({"preset": name, "text": text, "values": yaml.safe_load(text)}, text)


@presets.command("copy", cls=Command)
def copy(
    name: Named,
    to: Annotated[str, typer.Argument(metavar="TO", help="A file (mine.yaml), or a name, to keep it among your own.")],
) -> None:
    """Copy a preset, to change it and train with it.

    A name instead of a file puts the copy below ~/.config/animegen/presets, where `--preset NAME` and TAB find it.

    Examples:

      animegen presets copy ddpm/fast mine.yaml    then: animegen train ddpm --preset mine.yaml

      animegen presets copy ddpm/fast mine         then: animegen train ddpm --preset mine
    """
    from animegen_cli import console, disk, paths
    from animegen_cli.errors import UsageError

    source = _file(name)
    family = name.partition("/")[0]
    target = Path(to).expanduser() if paths.is_preset_file(to) else _own(family, to)
    if target.exists():
        raise UsageError(f"{target} exists", hint="choose another name, or delete it first")
    text = source.read_text(encoding="utf-8")
    said = "" if text.startswith("family:") else f"family: {family}\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    disk.write_text(target, said + text)
    console.note(f"edit it, then type `animegen train {family} --preset {to}`")
    console.result({"preset": f"{family}/{paths.preset_name(to)}", "file": str(target)}, str(target))


def _own(family: str, name: str) -> Path:
    """The file of a user's own preset; UsageError for a name that is taken or can be none."""
    from animegen_cli import paths
    from animegen_cli.errors import UsageError

    own = paths.own_presets_folder()
    if own is None:
        raise UsageError("there is no home folder to keep presets in", hint=f"name a file, such as `{name}.yaml`")
    if Path(name).name != name or Path(name).suffix:
        raise UsageError(f"`{name}` is neither a name nor a YAML file", hint=f"write `{Path(name).stem}.yaml`")
    if name in paths.presets(family):
        raise UsageError(f"there is a preset {family}/{name}", hint=f"choose another name, such as `my-{name}`")
    return own / family / f"{name}.yaml"


def _file(name: str) -> Path:
    """The file of a preset that is named with its family."""
    from animegen_cli import paths
    from animegen_cli.errors import UsageError, did_you_mean

    family, slash, preset = name.partition("/")
    if not slash:
        raise UsageError(f"`{name}` is no preset", hint=did_you_mean(name, paths.presets()))
    return paths.preset_file(family, preset)
